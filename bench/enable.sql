-- dashie over the rows of load.sql, installed by the application's owner, who is
-- not a superuser; and Stripe's events, of which one user in twenty has the one
-- that went from a trial to a paid tier.

\set ON_ERROR_STOP on
SET client_min_messages = warning;
SET timezone = 'UTC';

CREATE EXTENSION dashie;
\timing on
SELECT table_name, action FROM dashie.enable('user_sessions');
\timing off
SELECT table_name, action FROM dashie.enable('stripe_webhook_events');
SELECT table_name, action FROM dashie.enable('daily_metrics');
SELECT table_name, action FROM dashie.enable('geographic_stats');

INSERT INTO public.stripe_webhook_events
	(stripe_event_id, event_type, user_id, old_tier, new_tier, processed_at, event_data, processing_status, created_at)
SELECT 'evt_' || number, 'customer.subscription.updated', user_id, 'trial', CASE WHEN number % 3 = 0 THEN 'pro' ELSE 'basic' END, at,
	jsonb_build_object('id', 'evt_' || number, 'object', 'event', 'type', 'customer.subscription.updated',
		'created', extract(epoch FROM at)::bigint, 'livemode', true),
	'processed', at
FROM (SELECT *, greatest(signed_up_at, first) + bench.share(number, 15) * days * interval '1 day' AS at
	FROM bench.person, bench.parameter
	WHERE bench.share(number, 14) < 0.05 AND NOT anonymous) AS paying;
ANALYZE public.stripe_webhook_events;
