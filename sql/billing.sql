-- Payment records stay 7 years: the guard of stripe_webhook_events.
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

INSERT INTO auth.users (id, email) VALUES
	('00000000-0000-0000-0000-0000000000b1', 'payer@example.org'),
	('00000000-0000-0000-0000-0000000000b2', 'other@example.org');
SELECT count(*) FROM dashie.enable('stripe_webhook_events');

-- the owner, who is no superuser
CREATE ROLE regress_dashie_billing;
GRANT USAGE, CREATE ON SCHEMA public TO regress_dashie_billing;
GRANT USAGE ON SCHEMA auth TO regress_dashie_billing;
GRANT SELECT, REFERENCES ON auth.users TO regress_dashie_billing;
ALTER TABLE public.stripe_webhook_events OWNER TO regress_dashie_billing;
CREATE ROLE regress_auth_admin BYPASSRLS;
GRANT USAGE ON SCHEMA auth TO regress_auth_admin;
GRANT SELECT, DELETE ON auth.users TO regress_auth_admin;

INSERT INTO public.stripe_webhook_events (id, stripe_event_id, event_type, user_id, event_data, created_at) VALUES
	('00000000-0000-0000-0000-000000000001', 'evt_1', 'invoice.paid', '00000000-0000-0000-0000-0000000000b1', '{"n": 1}', '2026-03-01 00:00+00'),
	('00000000-0000-0000-0000-000000000002', 'evt_2', 'invoice.paid', '00000000-0000-0000-0000-0000000000b1', '{"n": 2}', '2019-03-10 12:00+00'),
	('00000000-0000-0000-0000-000000000003', 'evt_3', 'invoice.paid', NULL, '{"n": 3}', '2019-03-10 11:59:59.999999+00'),
	('00000000-0000-0000-0000-000000000004', 'evt_4', 'invoice.paid', NULL, '{"n": 4}', NULL),
	('00000000-0000-0000-0000-000000000005', 'evt_5', 'invoice.paid', NULL, '{"n": 5}', '2020-02-29 00:00+00'),
	('00000000-0000-0000-0000-000000000006', 'evt_6', 'invoice.paid', NULL, '{"n": 6}', '2010-01-01 00:00+00');

SELECT tgname, tgenabled FROM pg_trigger
WHERE tgrelid = 'public.stripe_webhook_events'::regclass AND NOT tgisinternal ORDER BY tgname;

SET ROLE regress_dashie_billing;
\set VERBOSITY default
-- too young to go
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_1';
\echo :LAST_ERROR_SQLSTATE
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_2';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_4';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_5';
DELETE FROM public.stripe_webhook_events;
TRUNCATE public.stripe_webhook_events;
\echo :LAST_ERROR_SQLSTATE
-- whatever the session takes for its time zone
SET timezone = 'Pacific/Kiritimati';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_2';
RESET timezone;
SET timezone = 'UTC';
-- old enough
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_3';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_6';

-- what came from Stripe stays as it came
UPDATE public.stripe_webhook_events SET event_data = '{"n": 0}' WHERE stripe_event_id = 'evt_1';
\echo :LAST_ERROR_SQLSTATE
UPDATE public.stripe_webhook_events SET created_at = '2001-01-01' WHERE stripe_event_id = 'evt_1';
UPDATE public.stripe_webhook_events SET created_at = '2001-01-01' WHERE stripe_event_id = 'evt_4';
UPDATE public.stripe_webhook_events SET stripe_event_id = 'evt_9' WHERE stripe_event_id = 'evt_1';
UPDATE public.stripe_webhook_events SET event_type = 'invoice.void' WHERE stripe_event_id = 'evt_1';
UPDATE public.stripe_webhook_events SET user_id = '00000000-0000-0000-0000-0000000000b2' WHERE stripe_event_id = 'evt_1';
INSERT INTO public.stripe_webhook_events (stripe_event_id, event_type, event_data)
VALUES ('evt_1', 'invoice.paid', '{}')
ON CONFLICT (stripe_event_id) DO UPDATE SET event_data = excluded.event_data;
-- a trigger that comes later in the alphabet cannot slip a change in
CREATE FUNCTION public.regress_forge() RETURNS trigger LANGUAGE plpgsql AS
	$$BEGIN NEW.event_data := '{"forged": true}'; RETURN NEW; END$$;
CREATE TRIGGER zz_forge BEFORE UPDATE ON public.stripe_webhook_events
	FOR EACH ROW EXECUTE FUNCTION public.regress_forge();
UPDATE public.stripe_webhook_events SET retry_count = 1 WHERE stripe_event_id = 'evt_1';
DROP TRIGGER zz_forge ON public.stripe_webhook_events;
DROP FUNCTION public.regress_forge();
-- everything else may change; the same value is no change
UPDATE public.stripe_webhook_events SET processing_status = 'processed', retry_count = 1, new_tier = 'pro',
	event_data = '{"n":1}', user_id = user_id WHERE stripe_event_id = 'evt_1';
UPDATE public.stripe_webhook_events SET user_id = '00000000-0000-0000-0000-0000000000b2' WHERE stripe_event_id = 'evt_4';
RESET ROLE;

-- Auth deletes a user, as its own role and with its own search_path
SET ROLE regress_auth_admin;
SET search_path = auth;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000b1';
RESET search_path;
RESET ROLE;
SELECT stripe_event_id, user_id, processing_status, event_data, created_at
FROM public.stripe_webhook_events ORDER BY stripe_event_id;

-- retention runs as the owner, after the same 7 years
SET dashie.now = '2027-02-28 00:00:01+00';
SELECT table_name, action, upto, rows FROM dashie.apply_retention();
SELECT stripe_event_id FROM public.stripe_webhook_events ORDER BY stripe_event_id;
SET dashie.now = '2027-03-01 00:00:01+00';
SELECT table_name, action, upto, rows FROM dashie.apply_retention();
SELECT stripe_event_id FROM public.stripe_webhook_events ORDER BY stripe_event_id;

-- the function is a trigger and nothing else
SELECT dashie.stripe_guard();

-- a superuser may do all
TRUNCATE public.stripe_webhook_events;
SELECT dashie.disable('stripe_webhook_events');
DROP TABLE public.stripe_webhook_events;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000b2';
DROP OWNED BY regress_dashie_billing, regress_auth_admin;
DROP ROLE regress_dashie_billing, regress_auth_admin;
