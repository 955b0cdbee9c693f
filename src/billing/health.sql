CREATE FUNCTION dashie.billing_health_row(
	OUT queue_depth bigint, OUT queue_lag interval, OUT failed bigint, OUT dead_letters bigint,
	OUT failures jsonb, OUT unknown_prices text[], OUT paid_without_subscription bigint,
	OUT subscriptions_without_profile bigint, OUT last_event_at timestamptz,
	OUT days_since_last_event double precision)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 1 AS 'MODULE_PATHNAME', 'dashie_billing_health';
COMMENT ON FUNCTION dashie.billing_health_row() IS
'The row of view dashie.billing_health.';
REVOKE ALL ON FUNCTION dashie.billing_health_row() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.billing_health_row() TO @extowner@;

CREATE VIEW dashie.billing_health AS
SELECT h.queue_depth, h.queue_lag, h.failed, h.dead_letters, h.failures, h.unknown_prices,
	h.paid_without_subscription, h.subscriptions_without_profile, h.last_event_at, h.days_since_last_event
FROM dashie.billing_health_row() AS h;
COMMENT ON VIEW dashie.billing_health IS
'How payments are doing, in one row. Errors: 55000 when stripe_webhook_events is not enabled. A column whose table is missing is NULL.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
COMMENT ON COLUMN dashie.billing_health.queue_depth IS 'events that wait: pending, failed and to be tried again, or being processed';
COMMENT ON COLUMN dashie.billing_health.queue_lag IS 'age of the oldest of them; NULL: none waits';
COMMENT ON COLUMN dashie.billing_health.failed IS 'of them, those that failed at least once';
COMMENT ON COLUMN dashie.billing_health.dead_letters IS 'events that failed too often and are not tried again: dashie.stripe_dead_letters';
COMMENT ON COLUMN dashie.billing_health.failures IS 'failed events and dead letters by reason; names in quotation marks are left out';
COMMENT ON COLUMN dashie.billing_health.unknown_prices IS 'prices that events failed for: give them a tier with dashie.map_stripe_price()';
COMMENT ON COLUMN dashie.billing_health.paid_without_subscription IS 'profiles of tier basic or pro that have no subscription';
COMMENT ON COLUMN dashie.billing_health.subscriptions_without_profile IS 'subscriptions that have not ended and whose user is not known, or has no profile';
COMMENT ON COLUMN dashie.billing_health.last_event_at IS 'when the last event came; NULL: none ever did';
COMMENT ON COLUMN dashie.billing_health.days_since_last_event IS 'days since then';
REVOKE ALL ON TABLE dashie.billing_health FROM PUBLIC;
GRANT SELECT ON TABLE dashie.billing_health TO @extowner@;

CREATE FUNCTION dashie.trial_expirations(
	within interval, OUT user_id uuid, OUT expires_at timestamptz, OUT remaining interval)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER ROWS 100 AS 'MODULE_PATHNAME', 'dashie_trial_expirations';
COMMENT ON FUNCTION dashie.trial_expirations(interval) IS
'The users of tier trial whose trial ends within this time from now, the next first; trials that have ended are not among them.
within: 0 or more. A trial ends at tier_expires_at, else at tier_started_at and the trial''s length (trial_duration_days of access_control_config, else the setting trial_days). Without user_profiles: NOTICE, and no rows.
Errors: 22023 for NULL or a negative interval.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.trial_expirations(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.trial_expirations(interval) TO @extowner@;
