-- feature_usage (phase 11): what each user has used of each feature in a period
-- [period_start, reset_date). The roadmap's feature names are examples: features
-- are named by dashie.set_feature_limit().
CREATE TABLE @schema@.feature_usage (
	user_id uuid NOT NULL CONSTRAINT feature_usage_user_id_fkey
		REFERENCES auth.users (id) ON DELETE CASCADE,
	feature_name text NOT NULL,
	usage_count integer DEFAULT 0
		CONSTRAINT feature_usage_usage_count_check CHECK (usage_count >= 0),
	period_start date NOT NULL,
	reset_date date NOT NULL,
	CONSTRAINT feature_usage_reset_date_check CHECK (reset_date > period_start),
	CONSTRAINT feature_usage_pkey PRIMARY KEY (user_id, feature_name, period_start)
);

CREATE INDEX idx_feature_usage_reset ON @schema@.feature_usage (reset_date);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.feature_usage ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.feature_usage FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.feature_usage TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.feature_usage TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.feature_usage
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.feature_usage
	TO service_role USING (true) WITH CHECK (true);
