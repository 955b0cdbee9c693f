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

CREATE FUNCTION dashie.stripe_verify(
	payload bytea, signature_header text, secrets text[],
	tolerance interval DEFAULT '5 minutes', "at" timestamptz DEFAULT pg_catalog.now())
RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_verify';
COMMENT ON FUNCTION dashie.stripe_verify(bytea, text, text[], interval, timestamptz) IS
'Whether a header Stripe-Signature signs a body. Without side effects, and the same for every caller.
payload: the body as it came, byte for byte; signature_header: t=SECONDS,v1=HEX[,v1=HEX]..., other schemes are ignored; secrets: any of them may have signed, so that they can be rotated; tolerance: how far the signature''s time may be from "at", in either direction, itself included.
A malformed header is false, never an error.
Errors: 22023 for NULL, no secret, an empty secret, a tolerance of zero or less, an infinite "at".
Source: dashie semantics, "stripe_webhook_events (phase 5)".';

CREATE FUNCTION dashie.stripe_ingest(
	payload bytea, signature_header text,
	OUT id uuid, OUT status text, OUT duplicate boolean)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER AS 'MODULE_PATHNAME', 'dashie_stripe_ingest_signed';
ALTER FUNCTION dashie.stripe_ingest(bytea, text) OWNER TO @extowner@;
COMMENT ON FUNCTION dashie.stripe_ingest(bytea, text) IS
'Takes an event of Stripe: verifies it with the secrets of dashie.set_stripe_secrets(), stores it once, applies it to the user''s profile, all in the caller''s transaction. Runs with the rights of the extension''s owner: grant EXECUTE, and USAGE on schema dashie, to the role of the endpoint.
payload: the body as it came, byte for byte, at most 8 MB; signature_header: the header Stripe-Signature.
Returns the row''s id; its processing_status: processed, skipped (nothing to apply), pending (no user is known yet), failed (tried again by the job stripe_process_pending), dead; and whether it was stored before.
Errors: 22023 for NULL, a signature that does not match, what is not text in UTF-8 or not an event; 22P02 for what is not JSON, 22P05 where it holds \u0000, which jsonb cannot; 55000 without secrets or when the table is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_ingest(bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_ingest(bytea, text) TO @extowner@;

CREATE FUNCTION dashie.stripe_ingest(
	event jsonb,
	OUT id uuid, OUT status text, OUT duplicate boolean)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER AS 'MODULE_PATHNAME', 'dashie_stripe_ingest';
ALTER FUNCTION dashie.stripe_ingest(jsonb) OWNER TO @extowner@;
COMMENT ON FUNCTION dashie.stripe_ingest(jsonb) IS
'dashie.stripe_ingest(payload, signature_header) for a caller that verified the signature already: whoever may execute this can give away tiers.
event: the body.
Errors: 22023 for NULL and for what is not an event: no object, without id, type or created, from the future, or thin; 55000 when the table is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_ingest(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_ingest(jsonb) TO @extowner@;

CREATE FUNCTION dashie.stripe_process_pending(batch integer DEFAULT 100) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_process_pending';
COMMENT ON FUNCTION dashie.stripe_process_pending(integer) IS
'Deals with events that are pending or failed and due, in the caller''s transaction; the job of that name goes on until nothing is left. Several callers share the queue.
batch: how many events at most, from 1 to 10000.
Returns the number of events that were dealt with, whatever came of them.
Errors: 22023 for a batch out of range; 55000 when the table is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_process_pending(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_process_pending(integer) TO @extowner@;

CREATE FUNCTION dashie.stripe_replay(id uuid) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_replay';
COMMENT ON FUNCTION dashie.stripe_replay(uuid) IS
'Applies a stored event again, now, whether it is due, dead or skipped; one that is processed stays as it is. It has all its attempts again.
id: of stripe_webhook_events.
Returns its processing_status afterwards.
Errors: 22023 for an id that no event has; 55000 when the table is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_replay(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_replay(uuid) TO @extowner@;

CREATE FUNCTION dashie.set_stripe_secrets(secrets text[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_set_stripe_secrets';
COMMENT ON FUNCTION dashie.set_stripe_secrets(text[]) IS
'Sets the signing secrets of the webhook endpoint, in place of those before: in Supabase Vault where it is installed, else in a table that nobody is granted. They are not dumped with the latter.
secrets: 1 to 16, whsec_...; while one is rotated, the new and the old.
Errors: 22023 for NULL, none, too many, an empty secret, or one with white space; no message holds a secret.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.set_stripe_secrets(text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.set_stripe_secrets(text[]) TO @extowner@;

CREATE FUNCTION dashie.map_stripe_price(
	price text, tier text, max_dashboards integer DEFAULT NULL, max_calendars integer DEFAULT NULL)
RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_map_stripe_price';
COMMENT ON FUNCTION dashie.map_stripe_price(text, text, integer, integer) IS
'Says which tier a price of Stripe buys. Events that failed because it was unknown are tried again at once.
price: id of the price, or its lookup_key; tier: basic, pro, beta or trial, NULL removes the price; max_dashboards: NULL for the tier''s own (trial and basic 1, pro 3); max_calendars: NULL leaves the profile''s.
Errors: 22023 for an empty price, an unknown tier, or a negative limit.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.map_stripe_price(text, text, integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.map_stripe_price(text, text, integer, integer) TO @extowner@;

CREATE FUNCTION dashie.stripe_dead_letters_list(
	OUT id uuid, OUT stripe_event_id text, OUT event_type text, OUT user_id uuid,
	OUT customer_id text, OUT error_message text, OUT retry_count integer, OUT created_at timestamptz)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_stripe_dead_letters_list';
COMMENT ON FUNCTION dashie.stripe_dead_letters_list() IS
'The rows of view dashie.stripe_dead_letters.';
REVOKE ALL ON FUNCTION dashie.stripe_dead_letters_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_dead_letters_list() TO @extowner@;

CREATE VIEW dashie.stripe_dead_letters AS
SELECT d.id, d.stripe_event_id, d.event_type, d.user_id, d.customer_id, d.error_message,
	d.retry_count, d.created_at
FROM dashie.stripe_dead_letters_list() AS d;
COMMENT ON VIEW dashie.stripe_dead_letters IS
'Events of Stripe that failed as often as the setting stripe_max_attempts allows, with the last error. dashie.stripe_replay(id) tries one again.';
REVOKE ALL ON TABLE dashie.stripe_dead_letters FROM PUBLIC;
GRANT SELECT ON TABLE dashie.stripe_dead_letters TO @extowner@;
