-- abuse_patterns (phase 10): behaviour that a person should look at.
CREATE TABLE @schema@.abuse_patterns (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT abuse_patterns_pkey PRIMARY KEY,
	pattern_type text NOT NULL CONSTRAINT abuse_patterns_pattern_type_check
		CHECK (pattern_type IN ('trial_abuse', 'payment_fraud', 'api_abuse')),
	user_id uuid NOT NULL CONSTRAINT abuse_patterns_user_id_fkey
		REFERENCES auth.users (id) ON DELETE CASCADE,
	detected_at timestamptz DEFAULT now(),
	confidence_score numeric NOT NULL CONSTRAINT abuse_patterns_confidence_score_check
		CHECK (confidence_score BETWEEN 0 AND 1),
	auto_flagged boolean DEFAULT true,
	human_reviewed boolean DEFAULT false,
	action_taken text CONSTRAINT abuse_patterns_action_taken_check
		CHECK (action_taken IN ('warned', 'suspended', 'banned', 'false_positive'))
);

CREATE INDEX idx_abuse_type ON @schema@.abuse_patterns (pattern_type);
CREATE INDEX idx_abuse_confidence ON @schema@.abuse_patterns (confidence_score);
CREATE INDEX idx_abuse_detected ON @schema@.abuse_patterns (detected_at);
-- Not in the roadmap: without it, deleting a user scans the table.
CREATE INDEX idx_abuse_user ON @schema@.abuse_patterns (user_id);

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.abuse_patterns ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.abuse_patterns FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.abuse_patterns TO service_role;
CREATE POLICY dashie_service_role ON @schema@.abuse_patterns
	TO service_role USING (true) WITH CHECK (true);
