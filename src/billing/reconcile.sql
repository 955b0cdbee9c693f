CREATE FUNCTION dashie.stripe_reconcile(
	subscriptions jsonb, repair boolean DEFAULT false, as_of timestamptz DEFAULT NULL,
	OUT user_id uuid, OUT customer text, OUT subscription text, OUT problem text,
	OUT differences jsonb, OUT repaired boolean, OUT message text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 10 AS 'MODULE_PATHNAME', 'dashie_stripe_reconcile';
COMMENT ON FUNCTION dashie.stripe_reconcile(jsonb, boolean, timestamptz) IS
'Compares profiles with what Stripe says of subscriptions, a row for each customer whose profile differs, and repairs them if asked.
subscriptions: a list as Stripe''s API returns it, or the array in its "data"; best all of them (status=all, all pages). repair: take the state in as an event (evt_reconcile_...), which is applied and kept like Stripe''s own. as_of: when Stripe said so, NULL: now; what is known from later than that stays.
problem: differs; unknown user; user deleted (nobody uses it, and somebody pays); failed (message says why); not listed (a paid profile whose subscription is not in a list that is complete: has_more is not true). differences: for each column of the profile what it is and what it should be.
Errors: 22023 for what is no list of subscriptions, or as_of in the future; 55000 when stripe_webhook_events is not enabled.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_reconcile(jsonb, boolean, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.stripe_reconcile(jsonb, boolean, timestamptz) TO @extowner@;
