CREATE FUNCTION dashie.stripe_guard() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_guard';
COMMENT ON FUNCTION dashie.stripe_guard() IS
'Trigger of stripe_webhook_events: the law asks for 7 years of payment records.
Deletes and truncates of younger rows fail with 42501 for every role but a superuser, and so do changes of stripe_event_id, event_type, event_data and created_at, and of a user_id that is set to anything but NULL.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_guard() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_guard() TO @extowner@;

CREATE TABLE dashie.stripe_price_tier (
	price text PRIMARY KEY
		CONSTRAINT stripe_price_tier_price_check CHECK (price <> '' AND pg_catalog.octet_length(price) <= 255),
	tier text NOT NULL
		CONSTRAINT stripe_price_tier_tier_check CHECK (tier IN ('beta', 'trial', 'basic', 'pro')),
	max_dashboards integer
		CONSTRAINT stripe_price_tier_max_dashboards_check CHECK (max_dashboards >= 0),
	max_calendars integer
		CONSTRAINT stripe_price_tier_max_calendars_check CHECK (max_calendars >= 0)
);
COMMENT ON TABLE dashie.stripe_price_tier IS
'Which tier a price of Stripe buys. Written by dashie.map_stripe_price().';
COMMENT ON COLUMN dashie.stripe_price_tier.price IS 'id of the price, or its lookup_key';
COMMENT ON COLUMN dashie.stripe_price_tier.max_dashboards IS 'what user_profiles.max_dashboards becomes; NULL: the tier''s own (trial and basic 1, pro 3)';
COMMENT ON COLUMN dashie.stripe_price_tier.max_calendars IS 'what user_profiles.max_calendars becomes; NULL: stays as it is';
REVOKE ALL ON TABLE dashie.stripe_price_tier FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.stripe_price_tier TO @extowner@;
SELECT pg_catalog.pg_extension_config_dump('dashie.stripe_price_tier', '');

-- Belongs to the bootstrap superuser, is granted to nobody, and is not dumped.
-- Row level security without a policy also keeps pg_read_all_data out.
CREATE TABLE dashie.stripe_secret (
	secret text NOT NULL
);
ALTER TABLE dashie.stripe_secret ENABLE ROW LEVEL SECURITY;
REVOKE ALL ON TABLE dashie.stripe_secret FROM PUBLIC;
COMMENT ON TABLE dashie.stripe_secret IS
'Signing secrets of the webhook endpoint, where there is no Supabase Vault. Written by dashie.set_stripe_secrets(); no function returns them.';
