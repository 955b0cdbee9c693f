-- dashie.billing_health and dashie.trial_expirations().
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = notice;

-- nothing is there
TABLE dashie.billing_health;
SELECT * FROM dashie.trial_expirations('1 day');
SET client_min_messages = warning;
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
\x
TABLE dashie.billing_health;

INSERT INTO auth.users (id, email) VALUES
	('00000000-0000-0000-0000-0000000000d1', 'd1@example.org'), ('00000000-0000-0000-0000-0000000000d2', 'd2@example.org'),
	('00000000-0000-0000-0000-0000000000d3', 'd3@example.org');
INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data, created_at, processing_status, error_message, user_id, subscription_id) VALUES
	('evt_1', 'invoice.paid', '{}', '2026-03-01 00:00+00', 'processed', NULL, '00000000-0000-0000-0000-0000000000d1', NULL),
	('evt_2', 'customer.subscription.created', '{}', '2026-03-10 06:00+00', 'pending', NULL, NULL, 'sub_nobody'),
	('evt_3', 'customer.subscription.updated', '{}', '2026-03-10 09:00+00', 'pending', NULL, NULL, 'sub_nobody'),
	('evt_4', 'customer.subscription.updated', '{}', '2026-03-10 08:00+00', 'failed', 'unknown price of subscription "sub_4": "price_b"', NULL, 'sub_4'),
	('evt_5', 'customer.subscription.updated', '{}', '2026-03-09 12:00+00', 'failed', 'unknown price of subscription "sub_5": "price_a", "price_b"', NULL, 'sub_5'),
	('evt_6', 'customer.subscription.updated', '{}', '2026-03-02 00:00+00', 'dead', 'unknown price of subscription "sub_6": "price_c"', NULL, 'sub_6'),
	('evt_7', 'customer.subscription.updated', '{}', '2026-03-02 00:00+00', 'dead', NULL, NULL, 'sub_7'),
	('evt_8', 'plan.created', '{}', '2026-03-02 00:00+00', 'skipped', NULL, NULL, NULL);
-- without user_profiles
TABLE dashie.billing_health;

INSERT INTO dashie.stripe_subscription (subscription_id, user_id, status, updated_at) VALUES
	('sub_1', '00000000-0000-0000-0000-0000000000d1', 'active', now()),     -- has a profile
	('sub_2', '00000000-0000-0000-0000-0000000000d2', 'canceled', now()),   -- has ended
	('sub_3', '00000000-0000-0000-0000-0000000000d3', 'past_due', now()),   -- has none
	('sub_nobody', NULL, 'trialing', now());
CREATE TABLE public.user_profiles (
	auth_user_id uuid, tier text, tier_started_at timestamptz, tier_expires_at timestamptz, stripe_subscription_id text, subscription_status text);
INSERT INTO public.user_profiles VALUES
	('00000000-0000-0000-0000-0000000000d1', 'basic', '2026-03-01', NULL, 'sub_1', 'active'),
	('00000000-0000-0000-0000-0000000000d2', 'pro', '2026-03-01', NULL, NULL, NULL);
TABLE dashie.billing_health;
\x

-- trials, by their own end or by their length
INSERT INTO public.user_profiles VALUES
	('00000000-0000-0000-0000-0000000000e1', 'trial', '2026-02-24 12:00+00', NULL, NULL, NULL),                        -- ends now: 14 days
	('00000000-0000-0000-0000-0000000000e2', 'trial', '2026-02-24 12:00:01+00', NULL, NULL, NULL),                     -- in a second
	('00000000-0000-0000-0000-0000000000e3', 'trial', '2026-02-25 12:00+00', NULL, NULL, NULL),                        -- in a day
	('00000000-0000-0000-0000-0000000000e4', 'trial', '2026-02-27 12:00+00', '2026-03-12 00:00+00', NULL, NULL),       -- its own end
	('00000000-0000-0000-0000-0000000000e5', 'trial', '2026-02-27 12:00+00', 'infinity', NULL, NULL),
	('00000000-0000-0000-0000-0000000000e6', 'trial', NULL, NULL, NULL, NULL),
	('00000000-0000-0000-0000-0000000000e7', 'basic', '2026-02-27 12:00+00', '2026-03-11 00:00+00', NULL, NULL);
SELECT * FROM dashie.trial_expirations('1 day');
SELECT * FROM dashie.trial_expirations(within => '1 week');
SELECT * FROM dashie.trial_expirations('0');
-- over a change of the clock a day is one of the configured zone's
SELECT dashie.configure('timezone', 'America/New_York');
SELECT user_id, expires_at FROM dashie.trial_expirations('1 day');
SELECT dashie.configure('timezone', NULL);
SELECT dashie.configure('trial_days', '15');
SELECT * FROM dashie.trial_expirations('1 day');
CREATE TABLE public.access_control_config (key text PRIMARY KEY, value text NOT NULL);
INSERT INTO public.access_control_config VALUES ('trial_duration_days', '13');
SELECT * FROM dashie.trial_expirations('1 week');
SELECT dashie.configure('trial_days', NULL);
SELECT dashie.trial_expirations(NULL);
SELECT dashie.trial_expirations('-1 day');
SELECT dashie.trial_expirations('1 month -1 day');

-- profiles of another shape: what would come from them is not known
ALTER TABLE public.user_profiles DROP COLUMN stripe_subscription_id, DROP COLUMN tier_started_at;
SELECT paid_without_subscription, subscriptions_without_profile, queue_depth FROM dashie.billing_health;
SELECT * FROM dashie.trial_expirations('1 day');

DROP TABLE public.user_profiles, public.access_control_config;
DELETE FROM dashie.stripe_subscription;
SELECT dashie.disable('stripe_webhook_events');
DROP TABLE public.stripe_webhook_events;
DELETE FROM auth.users WHERE id::text LIKE '%0000d_';
