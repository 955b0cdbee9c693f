-- Events of Stripe: stored once, applied to profiles, failures, other API versions, bad input.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET dashie.now = '2023-11-14 22:13:20+00';
\set VERBOSITY default

-- not enabled yet
SELECT * FROM dashie.stripe_ingest('{"id": "evt_0", "type": "x", "created": 1}'::jsonb);
SELECT dashie.stripe_process_pending();
SELECT count(*) FROM dashie.stripe_dead_letters;

INSERT INTO auth.users (id) SELECT ('00000000-0000-0000-0000-0000000000c' || i)::uuid FROM generate_series(1, 6) AS i;
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
CREATE TABLE public.user_profiles (auth_user_id uuid NOT NULL UNIQUE REFERENCES auth.users ON DELETE CASCADE,
	stripe_customer_id text, stripe_subscription_id text UNIQUE, tier text NOT NULL DEFAULT 'trial', tier_started_at timestamptz,
	tier_expires_at timestamptz DEFAULT '2023-12-01', subscription_status text, max_dashboards int DEFAULT 1, max_calendars int DEFAULT 2);
INSERT INTO public.user_profiles (auth_user_id, stripe_customer_id)
	SELECT id, 'cus_' || right(id::text, 1) FROM auth.users WHERE id::text LIKE '%c_' AND id::text NOT LIKE '%c6';
CREATE VIEW event AS SELECT stripe_event_id AS event, processing_status AS status, right(user_id::text, 2) AS "user", old_tier, new_tier,
	retry_count AS retries, next_attempt_at AS next, error_message AS message FROM public.stripe_webhook_events ORDER BY stripe_event_id COLLATE "C";
CREATE VIEW profile AS SELECT right(auth_user_id::text, 2) AS "user", stripe_customer_id AS customer, stripe_subscription_id AS subscription,
	tier, tier_started_at AS since, tier_expires_at AS expires, subscription_status AS status, max_dashboards AS dashboards, max_calendars AS calendars
	FROM public.user_profiles ORDER BY 1;
CREATE FUNCTION ingest(id text, type text, created bigint, object jsonb, more jsonb DEFAULT '{}') RETURNS text LANGUAGE sql AS $$
	SELECT status || CASE WHEN duplicate THEN ' duplicate' ELSE '' END FROM dashie.stripe_ingest(event => jsonb_build_object('id', id,
		'object', 'event', 'type', type, 'created', created, 'data', jsonb_build_object('object', object)) || more) $$;
CREATE FUNCTION subscription(id text, customer text, status text, price text) RETURNS jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('id', id, 'object', 'subscription', 'customer', customer, 'status', status,
		'items', jsonb_build_object('data', jsonb_build_array(jsonb_build_object('price', jsonb_build_object('id', price))))) $$;

SELECT dashie.map_stripe_price('price_basic', 'basic'), dashie.map_stripe_price('pro_monthly', 'pro', 5, 9);
TABLE dashie.stripe_price_tier;
SELECT dashie.map_stripe_price(NULL, 'pro');
SELECT dashie.map_stripe_price('', 'pro');
SELECT dashie.map_stripe_price('price_x', 'gold');
SELECT dashie.map_stripe_price('price_x', 'pro', -1);

-- Secrets. No message shows one.
SELECT * FROM dashie.stripe_ingest('{}'::bytea, 't=1,v1=');
SELECT dashie.set_stripe_secrets(NULL);
SELECT dashie.set_stripe_secrets('{}');
SELECT dashie.set_stripe_secrets('{whsec_secret,NULL}');
SELECT dashie.set_stripe_secrets(ARRAY['whsec secret']);
SELECT dashie.set_stripe_secrets(ARRAY[repeat('s', 256)]);
SELECT dashie.set_stripe_secrets(array_fill('s'::text, ARRAY[17]));
SELECT dashie.set_stripe_secrets('{whsec_old}');
SELECT dashie.set_stripe_secrets('{whsec_dashie,whsec_new}');
SELECT count(*) AS secrets FROM dashie.stripe_secret;
CREATE ROLE regress_reader;
GRANT pg_read_all_data TO regress_reader;
SET ROLE regress_reader;
SELECT count(*) AS readable FROM dashie.stripe_secret;
RESET ROLE;
DROP ROLE regress_reader;

-- A signed payload (see stripe_verify.sql for how).
\set payload '''{"id": "evt_signed", "object": "event", "type": "ping.pong", "created": 1700000000, "livemode": true, "data": {"object": {}}}'''
\set signature '''t=1700000000,v1=3d8704f2609e4763bf7a3d19c5b55a2b2dc9c724b7208260fcb7683ee6552d84'''
SELECT status, duplicate FROM dashie.stripe_ingest(convert_to(:payload, 'UTF8'), :signature);
SELECT status, duplicate FROM dashie.stripe_ingest(payload => convert_to(:payload, 'UTF8'), signature_header => :signature);
SELECT status, duplicate FROM dashie.stripe_ingest(convert_to(:payload || ' ', 'UTF8'), :signature);
SET dashie.now = '2023-11-14 22:18:21+00';
SELECT status, duplicate FROM dashie.stripe_ingest(convert_to(:payload, 'UTF8'), :signature);
SET dashie.now = '2023-11-14 22:13:20+00';
SELECT dashie.stripe_ingest('{"id": ', 't=1700000000,v1=ed42ed51e70e2477e42d258cbd93f6724db4c594edec14ad08e8fc85595d5637');
SELECT dashie.stripe_ingest('\x7b226964223a2022ff227d', 't=1700000000,v1=bd5bdf081576bd6c9510d927483a655bcf5f831e7fcf02345b57579d0186fad9');
SELECT dashie.stripe_ingest('\x7b226964223a20226100227d', 't=1700000000,v1=2202550fb5beb9861a60d0014007c7c11f22abfb877babf5f90c96d5d6accc93');
SELECT dashie.stripe_ingest(NULL, 't=1');
SELECT dashie.stripe_ingest('', NULL);
SELECT dashie.stripe_ingest(repeat('x', 10 * 1024 * 1024)::bytea, 't=1');

-- What is no event.
SELECT dashie.stripe_ingest(NULL::jsonb);
SELECT dashie.stripe_ingest('[]'::jsonb);
SELECT dashie.stripe_ingest('"evt"'::jsonb);
SELECT dashie.stripe_ingest('{"type": "x", "created": 1}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "", "type": "x", "created": 1}'::jsonb);
SELECT dashie.stripe_ingest('{"id": 7, "type": "x", "created": 1}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "created": 1}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x"}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": "1"}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": 1.5}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": -1}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": 1e300}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": 253402300799}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "type": "x", "created": 253402300799, "livemode": false}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered", "created": "2024-01-01T00:00:00Z"}'::jsonb);
SELECT dashie.stripe_ingest('{"id": "evt", "object": "charge", "type": "x", "created": 1}'::jsonb);
SELECT dashie.stripe_ingest(jsonb_build_object('id', repeat('e', 256), 'type', 'x', 'created', 1));
SELECT dashie.stripe_ingest(jsonb_build_object('id', 'evt', 'type', 'x', 'created', 1, 'data', repeat('x', 9000000)));
SELECT count(*) FROM public.stripe_webhook_events;

-- A subscription may come before its checkout; a checkout only links.
SELECT ingest('evt_a1', 'customer.subscription.created', 1700000000, subscription('sub_a', 'cus_new', 'active', 'price_basic'));
SELECT ingest('evt_a0', 'invoice.paid', 1700000000, '{"id": "in_1", "object": "invoice", "customer": "cus_new"}');
SELECT ingest('evt_a2', 'checkout.session.completed', 1700000001, '{"mode": "payment", "customer": "cus_new", "client_reference_id": "00000000-0000-0000-0000-0000000000c6"}');
-- the profile comes later than the user
SELECT ingest('evt_a3', 'checkout.session.completed', 1700000001, '{"mode": "subscription", "customer": "cus_new", "subscription": "sub_a", "client_reference_id": "00000000-0000-0000-0000-0000000000c6"}');
SELECT * FROM event WHERE event LIKE 'evt_a%';
INSERT INTO public.user_profiles (auth_user_id) VALUES ('00000000-0000-0000-0000-0000000000c6');
SELECT dashie.stripe_process_pending();
SET dashie.now = '2023-11-14 22:14:20+00';
SELECT dashie.stripe_process_pending(1);
SELECT dashie.stripe_process_pending();
SELECT * FROM event WHERE event LIKE 'evt_a%';
SELECT * FROM profile WHERE "user" = 'c6';

-- Every status.
SELECT s AS status, ingest('evt_b_' || s, 'customer.subscription.updated', 1700000000 + n, subscription('sub_1', 'cus_1', s, 'price_basic')) AS ingested,
	p.tier, p.tier_expires_at, p.subscription_status
FROM unnest(ARRAY['incomplete', 'trialing', 'active', 'past_due', 'unpaid', 'paused', 'active', 'canceled']) WITH ORDINALITY AS x(s, n)
LEFT JOIN public.user_profiles p ON false WHERE n < 7 ORDER BY n;
SELECT * FROM profile WHERE "user" = 'c1';
SELECT ingest('evt_b_end', 'customer.subscription.deleted', 1700000010, subscription('sub_1', 'cus_1', 'canceled', 'price_basic'));
SELECT ingest('evt_b_after', 'customer.subscription.updated', 1700000011, subscription('sub_1', 'cus_1', 'active', 'price_basic'));
SELECT ingest('evt_b_stale', 'customer.subscription.updated', 1700000004, subscription('sub_1', 'cus_1', 'active', 'price_basic'));
SELECT ingest('evt_b_odd', 'customer.subscription.updated', 1700000012, subscription('sub_1', 'cus_1', 'frozen', 'price_basic'));
SELECT * FROM event WHERE event LIKE 'evt_b%';
SELECT * FROM profile WHERE "user" = 'c1';

-- A subscription that is not the current one never cancels the profile.
SELECT ingest('evt_c1', 'customer.subscription.created', 1700000000, subscription('sub_2', 'cus_2', 'active', 'price_basic'));
SELECT ingest('evt_c2', 'customer.subscription.created', 1700000005, subscription('sub_2b', 'cus_2', 'active', 'price_p')
	|| '{"items": {"data": [{"price": {"id": "price_p", "lookup_key": "pro_monthly"}}]}}');
SELECT ingest('evt_c3', 'customer.subscription.deleted', 1700000006, subscription('sub_2', 'cus_2', 'canceled', 'price_basic'));
SELECT * FROM profile WHERE "user" = 'c2';
SELECT ingest('evt_c4', 'customer.deleted', 1700000007, '{"id": "cus_2", "object": "customer"}');
SELECT * FROM profile WHERE "user" = 'c2';
-- also one that only the profile knows
UPDATE public.user_profiles SET tier = 'pro', subscription_status = 'active', stripe_subscription_id = 'sub_old' WHERE stripe_customer_id = 'cus_3';
SELECT ingest('evt_c5', 'customer.subscription.deleted', 1700000000, subscription('sub_else', 'cus_3', 'canceled', 'price_basic'));
SELECT * FROM profile WHERE "user" = 'c3';
SELECT ingest('evt_c6', 'customer.deleted', 1700000007, '{"id": "cus_3", "object": "customer"}');
SELECT * FROM profile WHERE "user" = 'c3';

-- Payloads of other API versions: "plan" before "price", the customer expanded, the period on the subscription or its items.
SELECT ingest('evt_d1', 'customer.subscription.created', 1700000000, '{"id": "sub_4", "customer": {"id": "cus_4", "object": "customer"}, "status": "active",
	"current_period_end": 1702592000, "plan": {"id": "price_basic"}, "items": {"data": [{"plan": {"id": "price_basic"}}]}}');
SELECT subscription_id, customer_id, tier, price, current_period_end FROM dashie.stripe_subscription WHERE subscription_id = 'sub_4';
SELECT ingest('evt_d2', 'customer.subscription.updated', 1700000001, '{"id": "sub_4", "customer": "cus_4", "status": "active", "items": {"data": [
	{"current_period_end": 1705270400, "price": {"id": "addition"}}, {"current_period_end": 1702592000, "price": {"id": "p", "metadata": {"tier": "pro"}}}]}}');
SELECT subscription_id, customer_id, tier, price, current_period_end FROM dashie.stripe_subscription WHERE subscription_id = 'sub_4';
SELECT ingest('evt_d3', 'customer.subscription.updated', 1700000002, '{"id": "sub_4", "customer": "cus_4", "status": "active", "plan": {"id": "price_basic"}}');
SELECT ingest('evt_d4', 'invoice.paid', 1700000003, '{"id": "in_2", "object": "invoice", "customer": "cus_4", "subscription": "sub_4", "charge": "ch_4"}');
SELECT ingest('evt_d5', 'invoice.paid', 1700000003, '{"id": "in_3", "object": "invoice", "parent": {"subscription_details": {"subscription": "sub_4"}}}');
SELECT ingest('evt_d6', 'invoice.paid', 1700000003, '{"id": "in_4", "object": "invoice", "subscription": {"id": "sub_4", "object": "subscription"}}');
SELECT ingest('evt_d7', 'some.new.type', 1700000003, '{"id": "x", "object": "thing", "customer": "cus_4"}');
SELECT ingest('evt_d8', 'customer.subscription.updated', 1700000004, '{}');
SELECT ingest('evt_d9', 'customer.subscription.updated', 1700000004, '[]');
SELECT * FROM event WHERE event LIKE 'evt_d%';
SELECT * FROM profile WHERE "user" = 'c4';

-- Who is meant: a customer of two profiles, a name that is none, a stranger's.
UPDATE public.user_profiles SET stripe_customer_id = 'cus_twice' WHERE stripe_customer_id IN ('cus_3', 'cus_5');
SELECT ingest('evt_e1', 'customer.subscription.created', 1700000000, subscription('sub_e', 'cus_twice', 'active', 'price_basic'));
UPDATE public.user_profiles SET stripe_customer_id = 'cus_5' WHERE auth_user_id::text LIKE '%c5';
SELECT ingest('evt_e2', 'customer.subscription.created', 1700000000, subscription('sub_e', 'cus_5', 'active', 'price_basic') || '{"metadata": {"user_id": "42"}}');
SELECT ingest('evt_e3', 'customer.subscription.updated', 1700000001, subscription('sub_e', 'cus_5', 'active', 'price_basic') || '{"metadata": {"user_id": "00000000-0000-0000-0000-0000000000c1"}}');
SELECT ingest('evt_e4', 'customer.subscription.updated', 1700000001, subscription('sub_e', 'cus_5', 'active', 'price_basic') || '{"metadata": {"user_id": "99999999-0000-0000-0000-000000000000"}}');
SELECT ingest('evt_e5', 'customer.subscription.created', 1700000001, subscription('sub_e', 'cus_none', 'active', 'price_basic') || '{"metadata": {"user_id": "00000000-0000-0000-0000-0000000000c1"}}');
SELECT * FROM event WHERE event LIKE 'evt_e%';
SELECT * FROM profile WHERE "user" IN ('c1', 'c5');

-- An unknown price: nothing is granted; tried again ever more rarely, then dead, until somebody looks at it.
SELECT ingest('evt_f', 'customer.subscription.updated', 1700000005, subscription('sub_e', 'cus_5', 'active', 'price_new'));
SELECT * FROM event WHERE event = 'evt_f';
CREATE FUNCTION wait() RETURNS text LANGUAGE sql AS $$
	SELECT set_config('dashie.now', next_attempt_at::text, false) FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_f' $$;
SELECT dashie.stripe_process_pending();
\pset tuples_only on
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status FROM event WHERE event = 'evt_f';
SELECT wait(), dashie.stripe_process_pending() > 0; SELECT retries, status, next FROM event WHERE event = 'evt_f';
\pset tuples_only off
SELECT stripe_event_id, event_type, customer_id, error_message, retry_count FROM dashie.stripe_dead_letters ORDER BY 1;
SELECT dashie.map_stripe_price('price_new', 'pro');
SELECT dashie.stripe_replay(id) FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_f';
SELECT dashie.stripe_replay(id) FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_f';
SELECT * FROM event WHERE event = 'evt_f';
SELECT * FROM profile WHERE "user" = 'c5';
SELECT dashie.stripe_replay('99999999-0000-0000-0000-000000000000');
SELECT dashie.stripe_replay(NULL);
SELECT dashie.stripe_process_pending(0);
SELECT dashie.stripe_process_pending(NULL);
-- a duplicate of what failed tries it again; a mapping makes what failed due
SELECT ingest('evt_g', 'customer.subscription.updated', 1700000006, subscription('sub_e', 'cus_5', 'active', 'price_g'));
SELECT ingest('evt_g', 'customer.subscription.updated', 1700000006, subscription('sub_e', 'cus_5', 'active', 'price_g'));
SELECT dashie.map_stripe_price('price_g', 'basic');
SELECT dashie.stripe_process_pending() > 0;
SELECT * FROM event WHERE event = 'evt_g';

-- The same event with another body: the first is kept, and it is said.
SET client_min_messages = notice;
SELECT ingest('evt_g', 'customer.subscription.updated', 1700000006, subscription('sub_e', 'cus_5', 'active', 'price_h'));
SELECT ingest('evt_h', 'x', 1, '{}', '{"pending_webhooks": 2}');
SELECT ingest('evt_h', 'x', 1, '{}', '{"pending_webhooks": 1}');
SET client_min_messages = warning;
SELECT stripe_event_id, conflicting_deliveries, event_data->'data'->'object'->'items'->'data'->0->'price'->>'id' AS price
FROM public.stripe_webhook_events WHERE conflicting_deliveries > 0 OR stripe_event_id = 'evt_h' ORDER BY 1;

-- Live and test.
SELECT dashie.configure('stripe_livemode', 'maybe');
SELECT dashie.configure('stripe_livemode', 'live');
SELECT ingest('evt_i1', 'customer.subscription.updated', 1700000007, subscription('sub_e', 'cus_5', 'past_due', 'price_g'), '{"livemode": false}');
SELECT ingest('evt_i2', 'customer.subscription.updated', 1700000007, subscription('sub_e', 'cus_5', 'past_due', 'price_g'), '{"livemode": true}');
SELECT dashie.configure('stripe_livemode', NULL);
SELECT * FROM event WHERE event LIKE 'evt_i%';

-- Evidence of fraud, where abuse_patterns is enabled: the payment tells whose it is.
SELECT ingest('evt_j0', 'charge.dispute.created', 1700000008, '{"id": "dp_0", "object": "dispute", "charge": {"id": "ch_0", "customer": "cus_4"}, "reason": "fraudulent"}');
SELECT count(*) FROM dashie.enable('abuse_patterns');
SELECT ingest('evt_j1', 'charge.succeeded', 1700000008, '{"id": "ch_1", "object": "charge", "customer": "cus_4", "payment_intent": "pi_1", "payment_method_details": {"card": {"fingerprint": "Xt5EWLLDS7FJjR1c"}}}');
SELECT ingest('evt_j2', 'charge.dispute.created', 1700000009, '{"id": "dp_1", "object": "dispute", "charge": "ch_1", "payment_intent": "pi_1", "reason": "fraudulent"}');
SELECT pattern_type, right(user_id::text, 2) AS "user", confidence_score, human_reviewed FROM public.abuse_patterns;
SELECT ingest('evt_j3', 'radar.early_fraud_warning.created', 1700000010, '{"id": "issfr_1", "object": "radar.early_fraud_warning", "charge": "ch_1", "payment_intent": "pi_1", "fraud_type": "card_never_received"}');
SELECT ingest('evt_j3', 'radar.early_fraud_warning.created', 1700000010, '{"id": "issfr_1", "object": "radar.early_fraud_warning", "charge": "ch_1", "payment_intent": "pi_1", "fraud_type": "card_never_received"}');
SELECT pattern_type, right(user_id::text, 2) AS "user", confidence_score, human_reviewed FROM public.abuse_patterns;
UPDATE public.abuse_patterns SET human_reviewed = true, action_taken = 'false_positive';
SELECT ingest('evt_j4', 'charge.dispute.created', 1700000011, '{"id": "dp_2", "object": "dispute", "charge": "ch_1", "reason": "duplicate"}');
SELECT ingest('evt_j5', 'charge.dispute.created', 1700000011, '{"id": "dp_3", "object": "dispute", "charge": "ch_4", "reason": "fraudulent"}');
SELECT count(*), max(confidence_score) FROM public.abuse_patterns;
SELECT * FROM event WHERE event LIKE 'evt_j%';
SELECT event_data->'data'->'object'->'payment_method_details'->'card'->>'fingerprint' AS card, right(user_id::text, 2) AS "user"
FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_j1';

-- A user who is gone: what comes of their subscription is stored, and waits for nobody.
SELECT dashie.disable('abuse_patterns');
DROP TABLE public.abuse_patterns;
DELETE FROM auth.users WHERE id::text LIKE '%c5';
SELECT ingest('evt_k', 'customer.subscription.deleted', 1700000020, subscription('sub_e', 'cus_5', 'canceled', 'price_g'));
SELECT * FROM event WHERE event IN ('evt_f', 'evt_k');

-- Columns that a profile lacks are skipped, and a session is told once.
SELECT ingest('evt_l1', 'customer.subscription.updated', 1700000030, subscription('sub_4', 'cus_4', 'active', 'price_basic'));
DROP VIEW profile;
ALTER TABLE public.user_profiles DROP COLUMN max_calendars, DROP COLUMN tier_expires_at;
SELECT ingest('evt_l2', 'customer.subscription.updated', 1700000031, subscription('sub_4', 'cus_4', 'past_due', 'price_basic'));
SELECT ingest('evt_l3', 'customer.subscription.updated', 1700000032, subscription('sub_4', 'cus_4', 'unpaid', 'price_basic'));
SELECT tier, subscription_status FROM public.user_profiles WHERE stripe_customer_id = 'cus_4';
-- without profiles events are stored, and subscriptions known
DROP TABLE public.user_profiles;
SELECT ingest('evt_m1', 'customer.subscription.created', 1700000040, subscription('sub_m', 'cus_m', 'active', 'price_basic') || '{"metadata": {"user_id": "00000000-0000-0000-0000-0000000000c1"}}');
SELECT ingest('evt_m2', 'customer.subscription.updated', 1700000041, subscription('sub_m', 'cus_m', 'past_due', 'price_basic'));
SELECT * FROM event WHERE event LIKE 'evt_m%';
SELECT subscription_id, right(user_id::text, 2) AS "user", status, tier FROM dashie.stripe_subscription WHERE subscription_id = 'sub_m';

-- A trigger that keeps the row out: an error, so that Stripe sends it again.
CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER keep_out BEFORE INSERT ON public.stripe_webhook_events FOR EACH ROW EXECUTE FUNCTION keep_out();
SELECT ingest('evt_n', 'invoice.paid', 1700000050, '{}');
DROP TRIGGER keep_out ON public.stripe_webhook_events;
DROP FUNCTION keep_out;

-- What is stored is compressed with lz4, where the server has that.
SELECT ingest('evt_o', 'ping', 1700000050, jsonb_build_object('text', repeat('Stripe ', 1000)));
SELECT pg_column_compression(event_data) IS NOT DISTINCT FROM
	CASE WHEN (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN 'lz4' ELSE 'pglz' END AS compressed
FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_o';
SHOW default_toast_compression;

DROP VIEW event;
DROP FUNCTION ingest, subscription, wait;
TRUNCATE public.stripe_webhook_events;
SELECT dashie.disable('stripe_webhook_events');
DROP TABLE public.stripe_webhook_events, dashie.stripe_subscription;
DELETE FROM auth.users WHERE id::text LIKE '00000000-0000-0000-0000-0000000000c_';
SELECT dashie.map_stripe_price(price, NULL) FROM dashie.stripe_price_tier;
