CREATE FUNCTION dashie.stripe_guard() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_guard';
COMMENT ON FUNCTION dashie.stripe_guard() IS
'Trigger of stripe_webhook_events: the law asks for 7 years of payment records.
Deletes and truncates of younger rows fail with 42501 for every role but a superuser, and so do changes of stripe_event_id, event_type, event_data and created_at, and of a user_id that is set to anything but NULL.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_guard() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_guard() TO @extowner@;
