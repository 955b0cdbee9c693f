-- geographic_stats (phase 9): one row a country, filled by
-- dashie.refresh_geographic_stats(). 'ZZ' is the country of users who have none.
CREATE TABLE @schema@.geographic_stats (
	country_code text CONSTRAINT geographic_stats_pkey PRIMARY KEY
		CONSTRAINT geographic_stats_country_code_check
		CHECK (country_code COLLATE "C" ~ '^[A-Z]{2}$'),
	total_users integer DEFAULT 0,
	active_users_30d integer DEFAULT 0,
	trial_users integer DEFAULT 0,
	paid_users integer DEFAULT 0,
	avg_session_duration_minutes numeric,
	last_updated timestamptz DEFAULT now()
);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.geographic_stats ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.geographic_stats FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.geographic_stats TO service_role;
CREATE POLICY dashie_service_role ON @schema@.geographic_stats
	TO service_role USING (true) WITH CHECK (true);
