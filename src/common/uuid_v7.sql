-- Not revoked from PUBLIC: a column's default runs as whoever inserts.
CREATE FUNCTION dashie.uuid_v7() RETURNS uuid
LANGUAGE c VOLATILE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_uuid_v7';
COMMENT ON FUNCTION dashie.uuid_v7() IS
'A time-ordered UUID (RFC 9562, version 7): milliseconds since 1970, 12 bits of a fraction of the millisecond, 62 random bits. Each is larger than all that the same process made before, inside a millisecond and across statements.
Source: dashie semantics, "Rules for all".';

CREATE FUNCTION dashie.uuid_v7_time(id uuid) RETURNS timestamptz
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_uuid_v7_time';
COMMENT ON FUNCTION dashie.uuid_v7_time(uuid) IS
'When a UUID of version 7 was made, to the millisecond; NULL for one of another version.
Source: RFC 9562, section 5.7.';
