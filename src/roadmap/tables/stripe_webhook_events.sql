-- stripe_webhook_events (phase 5): audit trail of Stripe's events.
CREATE TABLE @schema@.stripe_webhook_events (
	id uuid DEFAULT gen_random_uuid() CONSTRAINT stripe_webhook_events_pkey PRIMARY KEY,
	stripe_event_id text NOT NULL CONSTRAINT stripe_webhook_events_stripe_event_id_key UNIQUE,
	event_type text NOT NULL,
	user_id uuid CONSTRAINT stripe_webhook_events_user_id_fkey
		REFERENCES auth.users (id) ON DELETE SET NULL,
	old_tier text,
	new_tier text,
	processed_at timestamptz,
	event_data jsonb NOT NULL,
	processing_status text DEFAULT 'pending'
		CONSTRAINT stripe_webhook_events_processing_status_check
		CHECK (processing_status IN
			('pending', 'processing', 'processed', 'skipped', 'failed', 'dead')),
	error_message text,
	retry_count integer DEFAULT 0
		CONSTRAINT stripe_webhook_events_retry_count_check CHECK (retry_count >= 0),
	created_at timestamptz DEFAULT now()
);

-- Ours. When a pending or failed event is tried again; NULL: at once.
ALTER TABLE @schema@.stripe_webhook_events ADD COLUMN IF NOT EXISTS next_attempt_at timestamptz;
-- What the event names, so that it is found without reading event_data.
ALTER TABLE @schema@.stripe_webhook_events ADD COLUMN IF NOT EXISTS livemode boolean;
ALTER TABLE @schema@.stripe_webhook_events ADD COLUMN IF NOT EXISTS customer_id text;
ALTER TABLE @schema@.stripe_webhook_events ADD COLUMN IF NOT EXISTS subscription_id text;
-- Of charges, payment intents and invoices: the charge, else the payment intent.
ALTER TABLE @schema@.stripe_webhook_events ADD COLUMN IF NOT EXISTS payment_id text;
-- Deliveries of the same event with another body, which was not kept.
ALTER TABLE @schema@.stripe_webhook_events
	ADD COLUMN IF NOT EXISTS conflicting_deliveries integer DEFAULT 0;
ALTER TABLE @schema@.stripe_webhook_events
	ADD CONSTRAINT stripe_webhook_events_conflicting_deliveries_check
	CHECK (conflicting_deliveries >= 0);

CREATE INDEX idx_stripe_webhooks_event_type ON @schema@.stripe_webhook_events (event_type);
CREATE INDEX idx_stripe_webhooks_user ON @schema@.stripe_webhook_events (user_id);
CREATE INDEX idx_stripe_webhooks_status ON @schema@.stripe_webhook_events (processing_status);
-- Added: retention goes by age; every night asks for all conversions, and for nothing else.
CREATE INDEX idx_stripe_webhooks_created ON @schema@.stripe_webhook_events (created_at);
CREATE INDEX idx_stripe_webhooks_conversion ON @schema@.stripe_webhook_events (user_id)
	WHERE old_tier = 'trial' AND new_tier IN ('basic', 'pro');
-- Added: the queue (billing/queue.c); the history of a customer; the payment that a dispute is about.
CREATE INDEX idx_stripe_webhooks_due ON @schema@.stripe_webhook_events
	((coalesce(next_attempt_at, '-infinity'))) WHERE processing_status IN ('pending', 'failed');
CREATE INDEX idx_stripe_webhooks_customer ON @schema@.stripe_webhook_events (customer_id)
	WHERE customer_id IS NOT NULL;
CREATE INDEX idx_stripe_webhooks_payment ON @schema@.stripe_webhook_events (payment_id)
	WHERE payment_id IS NOT NULL;

-- Payment records stay 7 years (billing/guard.c), whatever replication role a session takes.
-- AFTER UPDATE, because a trigger that comes later in the alphabet may change the row BEFORE.
CREATE TRIGGER dashie_guard_delete BEFORE DELETE ON @schema@.stripe_webhook_events
	FOR EACH ROW EXECUTE FUNCTION dashie.stripe_guard();
CREATE TRIGGER dashie_guard_update AFTER UPDATE ON @schema@.stripe_webhook_events
	FOR EACH ROW EXECUTE FUNCTION dashie.stripe_guard();
CREATE TRIGGER dashie_guard_truncate BEFORE TRUNCATE ON @schema@.stripe_webhook_events
	FOR EACH STATEMENT EXECUTE FUNCTION dashie.stripe_guard();
ALTER TABLE @schema@.stripe_webhook_events ENABLE ALWAYS TRIGGER dashie_guard_delete;
ALTER TABLE @schema@.stripe_webhook_events ENABLE ALWAYS TRIGGER dashie_guard_update;
ALTER TABLE @schema@.stripe_webhook_events ENABLE ALWAYS TRIGGER dashie_guard_truncate;

-- Access. What a default privilege of the schema gave away is taken back first.
ALTER TABLE @schema@.stripe_webhook_events ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON @schema@.stripe_webhook_events FROM PUBLIC, anon, authenticated, service_role CASCADE;
GRANT SELECT ON @schema@.stripe_webhook_events TO authenticated;
GRANT SELECT, INSERT, UPDATE, DELETE ON @schema@.stripe_webhook_events TO service_role;
CREATE POLICY dashie_own_rows ON @schema@.stripe_webhook_events
	FOR SELECT TO authenticated USING (user_id = (SELECT auth.uid()));
CREATE POLICY dashie_service_role ON @schema@.stripe_webhook_events
	TO service_role USING (true) WITH CHECK (true);
