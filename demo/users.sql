-- One user a host.  Runs as the owner of auth.users, as Supabase Auth would.
--
-- A log has no sign-ups.  They come from a hash of the host's name: one host in
-- four signs up with its first request, the others up to five weeks before.

CREATE FUNCTION pg_temp.number_of(host text) RETURNS integer
LANGUAGE sql IMMUTABLE
AS $$SELECT ('x' || substr(md5(host), 1, 7))::bit(28)::integer$$;

INSERT INTO auth.users (id, email, created_at)
SELECT md5(host)::uuid, 'user@' || host,
	min(at) - CASE WHEN pg_temp.number_of(host) % 4 = 0 THEN interval '0'
		ELSE (1 + pg_temp.number_of(host) / 4 % 35) * interval '1 day' END
FROM demo.request
GROUP BY host;
