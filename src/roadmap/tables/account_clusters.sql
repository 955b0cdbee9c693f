-- account_clusters (phase 10): accounts that belong together.
CREATE TABLE @schema@.account_clusters (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT account_clusters_pkey PRIMARY KEY,
	cluster_type text NOT NULL CONSTRAINT account_clusters_cluster_type_check
		CHECK (cluster_type IN ('ip_hash', 'device_fingerprint', 'payment_method')),
	identifier_hash text NOT NULL,
	user_ids uuid[] NOT NULL,
	first_detected_at timestamptz DEFAULT now(),
	is_reviewed boolean DEFAULT false,
	admin_notes text,
	risk_level text CONSTRAINT account_clusters_risk_level_check
		CHECK (risk_level IN ('low', 'medium', 'high'))
);

CREATE INDEX idx_clusters_type ON @schema@.account_clusters (cluster_type);
CREATE INDEX idx_clusters_identifier ON @schema@.account_clusters (identifier_hash);
CREATE INDEX idx_clusters_reviewed ON @schema@.account_clusters (is_reviewed);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.account_clusters ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.account_clusters FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.account_clusters TO service_role;
CREATE POLICY dashie_service_role ON @schema@.account_clusters
	TO service_role USING (true) WITH CHECK (true);
