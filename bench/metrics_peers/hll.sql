-- Approximate peer: a HyperLogLog (postgresql-hll) of users a day and country of
-- the session. A user counts in each country that they had a session in: of a
-- sketch nobody can be moved to another country.
\set ON_ERROR_STOP on
SET timezone = 'UTC';

CREATE TABLE hll.day (
	day date,
	country text,
	users hll.hll NOT NULL,
	returned hll.hll NOT NULL,
	dashboards hll.hll NOT NULL,
	PRIMARY KEY (day, country)
);
CREATE TABLE hll.daily_metrics (date date PRIMARY KEY, returning_users integer, active_dashboards integer);
CREATE TABLE hll.geographic_stats (country_code text PRIMARY KEY, active_users_30d integer);

CREATE FUNCTION hll.sets("from" date, "to" date) RETURNS SETOF hll.day
LANGUAGE sql STABLE
SET search_path = pg_catalog, hll
AS $$
SELECT d.day, coalesce(o.country_code, 'ZZ'),
	coalesce(hll_add_agg(hll_hash_bytea(uuid_send(o.user_id))) FILTER (WHERE counts), hll_empty()),
	coalesce(hll_add_agg(hll_hash_bytea(uuid_send(o.user_id))) FILTER (WHERE counts AND u.created_at < d.day), hll_empty()),
	coalesce(hll_add_agg(hll_hash_bytea(uuid_send(o.dashboard_id))), hll_empty())
FROM (SELECT day::date FROM generate_series("from", "to", interval '1 day') AS day) AS d
CROSS JOIN LATERAL best.overlapping(d.day, d.day) AS o
JOIN (SELECT *, is_anonymous IS NOT TRUE AND deleted_at IS NULL AS counts FROM auth.users) AS u ON u.id = o.user_id
GROUP BY 1, 2
$$;
INSERT INTO hll.day SELECT s.* FROM bench.parameter, hll.sets(first, last) AS s;
