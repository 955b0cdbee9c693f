-- What the payments' state machine knows. Made by dashie.enable() of
-- stripe_webhook_events, owned by the caller, plain core types: it is dumped as
-- data and outlives DROP EXTENSION.

-- One row a subscription: the state after its latest event that was applied.
CREATE TABLE IF NOT EXISTS dashie.stripe_subscription (
	subscription_id text PRIMARY KEY,
	customer_id text,
	user_id uuid REFERENCES auth.users (id) ON DELETE SET NULL, -- NULL: the user is gone
	status text,                     -- Stripe's; NULL: only a checkout named it
	tier text,                       -- granted last; NULL: never granted one
	price text,                      -- that granted it
	max_dashboards integer,          -- that came with it; NULL: nothing to set
	max_calendars integer,
	subscription_created timestamptz,
	first_event timestamptz,         -- Stripe's "created" of its earliest event
	current_period_end timestamptz,
	trial_end timestamptz,
	cancel_at_period_end boolean,
	watermark timestamptz,           -- Stripe's "created" of the latest applied event; NULL: no event
	watermark_rank smallint,         -- its place among events of the same second
	watermark_event text,            -- its stripe_event_id
	tier_since timestamptz,          -- start of the user's present tier, if this subscription gave it
	tier_before text,                -- the user's tier before the first event of all
	updated_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS stripe_subscription_user ON dashie.stripe_subscription (user_id);
CREATE INDEX IF NOT EXISTS stripe_subscription_customer ON dashie.stripe_subscription (customer_id);
REVOKE ALL ON TABLE dashie.stripe_subscription FROM PUBLIC;
