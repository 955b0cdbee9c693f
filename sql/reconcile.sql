-- dashie.stripe_reconcile(): profiles against what Stripe says.
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET client_min_messages = warning;

CREATE TABLE public.user_profiles (
	auth_user_id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, stripe_customer_id text UNIQUE, stripe_subscription_id text UNIQUE,
	tier text NOT NULL DEFAULT 'trial', tier_started_at timestamptz, tier_expires_at timestamptz, subscription_status text,
	max_dashboards integer DEFAULT 1, max_calendars integer DEFAULT 2, updated_at timestamptz);
CREATE FUNCTION public.u(n integer) RETURNS uuid LANGUAGE sql IMMUTABLE AS
	$$ SELECT ('00000000-0000-0000-0000-00000000f0' || lpad(n::text, 2, '0'))::uuid $$;
INSERT INTO auth.users (id, email) SELECT public.u(n), 'f' || n || '@example.org' FROM generate_series(1, 7) n;
INSERT INTO public.user_profiles (auth_user_id, stripe_customer_id, tier, tier_started_at)
	SELECT public.u(n), 'cus_' || n, 'trial', '2026-03-01' FROM generate_series(1, 6) n;

-- a subscription as the API has it
CREATE FUNCTION public.sub(n integer, status text, price text, name text DEFAULT NULL, created timestamptz DEFAULT '2026-03-02') RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', coalesce(name, 'sub_' || n), 'object', 'subscription', 'customer', 'cus_' || n, 'status', status, 'livemode', true,
		'created', extract(epoch FROM created)::bigint, 'cancel_at_period_end', false, 'trial_end', NULL, 'metadata', jsonb_build_object(),
		'items', jsonb_build_object('object', 'list', 'data', jsonb_build_array(jsonb_build_object('id', 'si_' || n, 'object', 'subscription_item',
			'current_period_end', 1775001600, 'price', jsonb_build_object('id', price, 'object', 'price', 'lookup_key', NULL, 'metadata', jsonb_build_object()))))) $$;
CREATE FUNCTION public.list(VARIADIC subs jsonb[]) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('object', 'list', 'url', '/v1/subscriptions', 'has_more', false, 'data', to_jsonb(subs)) $$;
CREATE FUNCTION public.event(id text, at timestamptz, sub jsonb) RETURNS jsonb LANGUAGE sql AS
	$$ SELECT jsonb_build_object('id', id, 'object', 'event', 'type', 'customer.subscription.updated', 'created', extract(epoch FROM at)::bigint,
		'livemode', true, 'data', jsonb_build_object('object', sub)) $$;
CREATE VIEW public.shown AS SELECT auth_user_id, stripe_subscription_id AS subscription, tier, subscription_status AS status, max_dashboards, tier_expires_at
	FROM public.user_profiles;

SELECT * FROM dashie.stripe_reconcile('[]');
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
SELECT dashie.map_stripe_price('price_basic', 'basic'), dashie.map_stripe_price('price_pro', 'pro');

-- what is no list
SELECT * FROM dashie.stripe_reconcile(NULL);
SELECT * FROM dashie.stripe_reconcile('1');
SELECT * FROM dashie.stripe_reconcile('{"object": "list"}');
SELECT * FROM dashie.stripe_reconcile('[1]');
SELECT * FROM dashie.stripe_reconcile(public.list(public.sub(1, 'active', 'price_pro'), '{"object": "customer", "id": "cus_1"}'));
SELECT * FROM dashie.stripe_reconcile('[{"object": "subscription"}]');
SELECT * FROM dashie.stripe_reconcile('[]', as_of => '2026-03-10 12:00:01+00');
SELECT * FROM dashie.stripe_reconcile('[]', as_of => '-infinity');
SELECT * FROM dashie.stripe_reconcile('[]', NULL);
-- nothing to compare
SELECT * FROM dashie.stripe_reconcile('[]');
SELECT * FROM dashie.stripe_reconcile('{"data": [], "has_more": false}');

-- as events left it: no difference
SELECT status FROM dashie.stripe_ingest(public.event('evt_1', '2026-03-05', public.sub(1, 'active', 'price_basic')));
SELECT status FROM dashie.stripe_ingest(public.event('evt_2', '2026-03-05', public.sub(2, 'active', 'price_pro')));
SELECT * FROM dashie.stripe_reconcile(public.list(public.sub(1, 'active', 'price_basic'), public.sub(2, 'active', 'price_pro')));

-- events were lost: an upgrade, an end, a first subscription, two of one customer, a price nobody mapped, a stranger
CREATE TABLE public.said AS SELECT public.list(
	public.sub(1, 'active', 'price_pro'), public.sub(2, 'canceled', 'price_pro'), public.sub(3, 'past_due', 'price_basic'),
	public.sub(4, 'canceled', 'price_basic', 'sub_4a', '2026-03-01'), public.sub(4, 'trialing', 'price_pro', 'sub_4b', '2026-03-04'),
	public.sub(5, 'active', 'price_new'), public.sub(99, 'active', 'price_pro')) AS list;
SELECT r.* FROM public.said, LATERAL dashie.stripe_reconcile(list) AS r \g (format=unaligned tuples_only=on)
SELECT * FROM public.shown ORDER BY 1;
SELECT count(*) FROM public.stripe_webhook_events;
-- repaired
SELECT r.* FROM public.said, LATERAL dashie.stripe_reconcile(list, repair => true) AS r \g (format=unaligned tuples_only=on)
SELECT * FROM public.shown ORDER BY 1;
SELECT stripe_event_id, event_type, user_id, old_tier, new_tier, processing_status, event_data ->> 'source' AS source
FROM public.stripe_webhook_events WHERE stripe_event_id LIKE 'evt_reconcile%' ORDER BY stripe_event_id;
-- once more: only what cannot be repaired
SELECT r.problem, r.customer, r.repaired FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r;
SELECT dashie.map_stripe_price('price_new', 'basic');
SELECT r.user_id, r.problem, r.customer, r.repaired FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r;
-- an event that comes now, but tells of earlier, does not undo it
SELECT status FROM dashie.stripe_ingest(public.event('evt_late', '2026-03-06', public.sub(1, 'active', 'price_basic')));
SELECT tier FROM public.shown WHERE auth_user_id = public.u(1);
-- a list that is older than what is known changes nothing that came after it; what it adds to the past counts
SELECT r.problem, r.customer FROM dashie.stripe_reconcile(public.list(public.sub(1, 'active', 'price_basic'), public.sub(3, 'active', 'price_basic'),
	public.sub(4, 'trialing', 'price_pro', 'sub_4b'), public.sub(5, 'active', 'price_new')), true, as_of => '2026-03-07') AS r;

-- profiles whose subscription Stripe does not list
UPDATE public.user_profiles SET tier = 'pro', stripe_subscription_id = 'sub_invented', subscription_status = 'active' WHERE auth_user_id = public.u(6);
SELECT r.user_id, r.customer, r.subscription, r.problem, r.repaired FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r;
SELECT r.subscription, r.problem FROM public.said, LATERAL dashie.stripe_reconcile(jsonb_set(list, '{has_more}', 'true')) AS r;

-- a user who is gone, and still pays
DELETE FROM auth.users WHERE id = public.u(1);
SELECT r.user_id, r.customer, r.subscription, r.problem FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r;
SELECT count(*) FROM public.stripe_webhook_events WHERE stripe_event_id LIKE 'evt_reconcile_sub_1%';

-- somebody changed a profile by hand; profiles without limits
SET dashie.now = '2026-03-10 13:00+00';
ALTER TABLE public.user_profiles DROP COLUMN max_dashboards CASCADE, DROP COLUMN max_calendars;
UPDATE public.user_profiles SET tier = 'trial', tier_expires_at = '2026-04-01' WHERE auth_user_id = public.u(4);
SELECT r.problem, r.subscription, r.differences, r.repaired FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r WHERE r.user_id = public.u(4);
SELECT tier, tier_expires_at FROM public.user_profiles WHERE auth_user_id = public.u(4);
-- without profiles
DROP TABLE public.user_profiles;
SELECT r.problem, r.customer FROM public.said, LATERAL dashie.stripe_reconcile(list, true) AS r;

DROP TABLE public.said;
DROP FUNCTION public.u, public.sub, public.list, public.event;
SELECT dashie.map_stripe_price('price_basic', NULL), dashie.map_stripe_price('price_pro', NULL), dashie.map_stripe_price('price_new', NULL);
DELETE FROM dashie.stripe_subscription;
SELECT dashie.disable('stripe_webhook_events');
DROP TABLE public.stripe_webhook_events;
DELETE FROM auth.users WHERE id::text LIKE '%00f0__';
