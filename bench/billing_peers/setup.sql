-- bench/billing: what every run begins with, as the application's owner: users
-- with profiles, dashie with its prices and secret, and a table of events that
-- is not empty, so that plans are those of an application in use.
--
-- secret: that signs the deliveries.

\set QUIET on
SET client_min_messages = warning;
CREATE EXTENSION dashie;
CREATE SCHEMA peer;
INSERT INTO public.user_profiles (auth_user_id, tier_expires_at)
	SELECT id, '2099-01-01' FROM auth.users;
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
SELECT dashie.set_stripe_secrets(ARRAY[:'secret']);
SELECT dashie.map_stripe_price('price_basic', 'basic', 1, 4), dashie.map_stripe_price('price_pro', 'pro', 3, 9);
