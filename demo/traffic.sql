-- The log as it is, in demo.request.  Everything else is computed from it: by
-- users.sql and load.sql, and once more, in another way, by compare.sql.

CREATE TEMP TABLE line (
	number integer GENERATED ALWAYS AS IDENTITY,
	host text, logname text, "time" bigint, method text, url text,
	response integer, bytes bigint, referer text, useragent text
);
-- csv with a quote character that does not occur: what is in a URL stays as it is
\copy line (host, logname, "time", method, url, response, bytes, referer, useragent) FROM PROGRAM 'gzip -dc demo/nasa_19950801.tsv.gz' (FORMAT csv, HEADER, DELIMITER E'\t', QUOTE E'\x01')

CREATE TABLE demo.request (
	number integer PRIMARY KEY,
	host text NOT NULL,
	at timestamptz NOT NULL,
	method text NOT NULL,
	path text NOT NULL,
	response integer NOT NULL,
	bytes bigint
);
-- The log's clock stood at UTC-6 (in POSIX's sign: GMT+6); the server stood in New York's zone.
INSERT INTO demo.request
SELECT number, host,
	to_timestamp("time") AT TIME ZONE 'Etc/GMT+6' AT TIME ZONE 'America/New_York',
	method, url, response, bytes
FROM line;
CREATE INDEX ON demo.request (host, at);
GRANT SELECT ON demo.request TO supabase_auth_admin;

-- What show.sql prints, number by number, for compare.sql
CREATE TABLE demo.shown (
	number integer GENERATED ALWAYS AS IDENTITY,
	clock timestamptz NOT NULL,
	source text NOT NULL,		-- a table or function of dashie
	key text NOT NULL,			-- the day, the country, the arguments
	metric text NOT NULL,
	value numeric
);
