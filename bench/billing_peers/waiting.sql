-- Events as an application stores them that has nobody to apply them, in the
-- order in which they came.  users: how many they are about.
COPY (
	SELECT id, type, convert_from(payload, 'UTF8') FROM event WHERE u <= :users AND k < 10 ORDER BY k, u
) TO STDOUT;
