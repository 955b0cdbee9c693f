-- Seals of payment records, dashie.verify_audit(), and legal holds.
SET timezone = 'America/New_York'; -- days of the audit are those of UTC all the same
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;
SET dashie.now = '2026-03-05 00:59+00';

CREATE ROLE regress_dashie_audit;
GRANT USAGE, CREATE ON SCHEMA public TO regress_dashie_audit;
GRANT USAGE ON SCHEMA auth TO regress_dashie_audit;
GRANT SELECT, REFERENCES ON auth.users TO regress_dashie_audit;

-- before anything is enabled
SELECT * FROM dashie.verify_audit();
SELECT dashie.legal_hold('x', "from" => '2020-01-01');
CALL dashie.run_job('seal_audit');
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
SELECT * FROM dashie.verify_audit();
CALL dashie.run_job('seal_audit');
SELECT count(*) FROM dashie.audit_seal;

CREATE FUNCTION public.put(n integer, at timestamptz) RETURNS void LANGUAGE sql AS $$
	INSERT INTO public.stripe_webhook_events (id, stripe_event_id, event_type, event_data, created_at)
	VALUES (('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'evt_' || n, 'invoice.paid',
		jsonb_build_object('amount', n, 'note', 'Zürich'), at) $$;
CREATE VIEW public.findings AS SELECT day, status, row_count, changed, removed, added, late, expired,
	(SELECT array_agg(right(t::text, 2) ORDER BY t) FROM unnest(touched) AS t) AS touched FROM dashie.verify_audit();
SELECT public.put(1, '2026-03-01 00:00+00'), public.put(2, '2026-03-01 23:59:59.999999+00'), public.put(3, '2026-03-02 00:00+00'),
	public.put(4, '2026-03-04 12:00+00'), public.put(5, '2026-03-05 00:30+00');

-- a day is sealed an hour after its end, each finished day, also an empty one
CALL dashie.run_job('seal_audit');
SELECT number, day, late, row_count, octet_length(entries) FROM dashie.audit_seal ORDER BY number;
SELECT day, status, row_count, digest IS NOT NULL AS digest FROM dashie.verify_audit();
SET dashie.now = '2026-03-05 01:00+00';
CALL dashie.run_job('seal_audit');
CALL dashie.run_job('seal_audit');
SELECT number, day, late, row_count, octet_length(entries) FROM dashie.audit_seal ORDER BY number;
SELECT * FROM public.findings;

-- the digest is what it says it is: the chain in plain SQL
WITH seal AS (
	SELECT *, lag(digest) OVER (ORDER BY number) AS previous FROM dashie.audit_seal)
SELECT number, sha256(entries) = content AS content, digest = sha256(
	coalesce(previous, decode(repeat('00', 32), 'hex')) || int8send(number) || int8send(day - date '2000-01-01') || int8send(late::int)
	|| int8send((extract(epoch FROM sealed_at - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint) || int8send(row_count) || content) AS digest
FROM seal ORDER BY number;
-- and so is a row's
SELECT substr(entries, 1, 56) = uuid_send(e.id) || int8send((extract(epoch FROM e.created_at - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint)
	|| sha256(uuid_send(e.id) || int8send((extract(epoch FROM e.created_at - timestamptz '2000-01-01 00:00+00') * 1000000)::bigint)
		|| int8send(5) || 'evt_1'::bytea || int8send(12) || 'invoice.paid'::bytea
		|| int8send(octet_length(e.event_data::text)) || convert_to(e.event_data::text, 'UTF8'))
FROM dashie.audit_seal, public.stripe_webhook_events AS e WHERE number = 1 AND stripe_event_id = 'evt_1';

-- what may change is no evidence
UPDATE public.stripe_webhook_events SET processing_status = 'processed', retry_count = 3, new_tier = 'pro';
SELECT status, count(*) FROM dashie.verify_audit() GROUP BY status;

-- a superuser changes, removes and adds
BEGIN;
UPDATE public.stripe_webhook_events SET event_data = jsonb_set(event_data, '{amount}', '100') WHERE stripe_event_id = 'evt_2';
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
UPDATE public.stripe_webhook_events SET event_type = 'invoice.void' WHERE stripe_event_id = 'evt_3';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id IN ('evt_1', 'evt_4');
SELECT public.put(6, '2026-03-03 10:00+00'), public.put(7, '2026-02-01 10:00+00');
SELECT * FROM public.findings WHERE status <> 'intact';
SELECT day, status FROM dashie.verify_audit('2026-03-02', '2026-03-03');
SELECT day, status FROM dashie.verify_audit("to" => '2026-03-01');
SELECT day, status FROM dashie.verify_audit('2026-03-04');
ROLLBACK;
-- moves a row to another day
BEGIN;
UPDATE public.stripe_webhook_events SET created_at = '2026-03-03 01:00+00' WHERE stripe_event_id = 'evt_1';
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
-- gives one row's content to another
BEGIN;
UPDATE public.stripe_webhook_events SET stripe_event_id = 'x' || stripe_event_id WHERE stripe_event_id = 'evt_1';
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
-- hides it in the seals
BEGIN;
UPDATE dashie.audit_seal SET entries = substr(entries, 1, 56), row_count = 1 WHERE number = 1;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
UPDATE public.stripe_webhook_events SET event_type = 'invoice.void' WHERE stripe_event_id = 'evt_3';
UPDATE dashie.audit_seal SET entries = '', content = sha256(''), row_count = 0 WHERE number = 2;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
UPDATE dashie.audit_seal SET digest = sha256('x') WHERE number = 2;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
DELETE FROM dashie.audit_seal WHERE number = 2;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
UPDATE dashie.audit_seal SET entries = NULL WHERE number = 1;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
UPDATE dashie.audit_seal SET entries = entries || '\x00' WHERE number = 1;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
BEGIN;
ALTER TABLE dashie.audit_seal DROP CONSTRAINT audit_seal_digest_check;
UPDATE dashie.audit_seal SET digest = '\x00' WHERE number = 1;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;
-- the last seals gone: their days are not sealed
BEGIN;
DELETE FROM dashie.audit_seal WHERE number >= 3;
SELECT * FROM public.findings WHERE status <> 'intact';
ROLLBACK;

-- the owner cannot change seals
ALTER TABLE public.stripe_webhook_events OWNER TO regress_dashie_audit;
ALTER TABLE dashie.audit_seal OWNER TO regress_dashie_audit;
GRANT USAGE ON SCHEMA dashie TO regress_dashie_audit;
SET ROLE regress_dashie_audit;
UPDATE dashie.audit_seal SET late = true WHERE number = 1;
UPDATE dashie.audit_seal SET entries = NULL WHERE number = 1;
DELETE FROM dashie.audit_seal;
TRUNCATE dashie.audit_seal;
ALTER TABLE dashie.audit_seal DISABLE TRIGGER dashie_guard_update;
ALTER TABLE dashie.audit_seal DROP COLUMN content;
DROP TABLE dashie.audit_seal;
RESET ROLE;
SELECT dashie.seal_guard();
-- seals and rows may belong to others than the extension; enable() shares what retention reads
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
SELECT has_table_privilege('regress_dashie_audit', 'dashie.legal_hold', 'SELECT') AS may_read_holds,
	has_table_privilege('regress_dashie_audit', 'dashie.legal_hold', 'INSERT') AS may_write;

-- rows that come after their day was sealed: in no seal, then in a late one
SELECT public.put(8, '2026-03-04 13:00+00'), public.put(9, '2026-03-02 13:00+00');
SELECT * FROM public.findings WHERE status <> 'intact';
CALL dashie.run_job('seal_audit');
SELECT * FROM public.findings WHERE status <> 'intact';
SELECT number, day, late, row_count FROM dashie.audit_seal WHERE number > 4 ORDER BY number;
CALL dashie.run_job('seal_audit');
SELECT count(*) FROM dashie.audit_seal;
-- and are as evident as the others
BEGIN;
UPDATE public.stripe_webhook_events SET event_type = 'x' WHERE stripe_event_id = 'evt_9';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_3';
SELECT * FROM public.findings WHERE day = '2026-03-02';
ROLLBACK;
-- more than a week late stays in no seal
SET dashie.now = '2026-03-20 02:00+00';
CALL dashie.run_job('seal_audit');
SELECT max(day), count(*) FROM dashie.audit_seal;
SELECT public.put(10, '2026-03-04 14:00+00');
CALL dashie.run_job('seal_audit');
SELECT * FROM public.findings WHERE status <> 'intact';

-- bad arguments
SELECT dashie.verify_audit('2026-03-02', '2026-03-01');
SELECT dashie.verify_audit('infinity');
SELECT dashie.verify_audit("to" => '0044-03-15 BC');
\set VERBOSITY terse
SELECT dashie.legal_hold(NULL);
SELECT dashie.legal_hold('');
SELECT dashie.legal_hold('because');
SELECT dashie.legal_hold('because', '00000000-0000-0000-0000-0000000000ff');
SELECT dashie.legal_hold('because', "from" => '2026-03-02', "to" => '2026-03-01');
SELECT dashie.legal_hold('because', "from" => '-infinity');
SELECT dashie.release_legal_hold(NULL);
SELECT dashie.release_legal_hold(42);
\set VERBOSITY default

-- holds: a user, also when the user is gone; a period; both
INSERT INTO auth.users (id, email) VALUES
	('00000000-0000-0000-0000-0000000000c1', 'held@example.org'), ('00000000-0000-0000-0000-0000000000c2', 'other@example.org');
UPDATE public.stripe_webhook_events SET user_id = '00000000-0000-0000-0000-0000000000c1', customer_id = 'cus_1' WHERE stripe_event_id IN ('evt_1', 'evt_4');
UPDATE public.stripe_webhook_events SET customer_id = 'cus_1' WHERE stripe_event_id = 'evt_8';
UPDATE public.stripe_webhook_events SET user_id = '00000000-0000-0000-0000-0000000000c2', customer_id = 'cus_2' WHERE stripe_event_id = 'evt_2';
SELECT dashie.legal_hold('Miller v. us', user_id => '00000000-0000-0000-0000-0000000000c1');
SELECT dashie.legal_hold('tax audit', "from" => '2026-03-02', "to" => '2026-03-02');
SELECT dashie.legal_hold('nobody', user_id => '00000000-0000-0000-0000-0000000000c2', "from" => '2026-03-02');
SELECT number, reason, user_id, customer_ids, "from", "to", placed_at AT TIME ZONE 'UTC' AS placed_at, released_at FROM dashie.legal_hold ORDER BY number;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000c1';
SELECT stripe_event_id, user_id, customer_id FROM public.stripe_webhook_events WHERE customer_id = 'cus_1' ORDER BY 1;

-- after 7 years
SET dashie.now = '2033-03-10 00:00+00';
SELECT table_name, action, rows, reason FROM dashie.apply_retention(dry_run => true) WHERE table_name = 'stripe_webhook_events';
SELECT table_name, action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'stripe_webhook_events';
SELECT table_name, action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'stripe_webhook_events';
SELECT stripe_event_id FROM public.stripe_webhook_events ORDER BY created_at;
SET ROLE regress_dashie_audit;
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_1';
DELETE FROM public.stripe_webhook_events WHERE stripe_event_id = 'evt_3';
RESET ROLE;
-- rows that retention removed are expired, those that others removed from days that are not are missing
SELECT day, status, row_count, removed, added, late, expired FROM dashie.verify_audit("to" => '2026-03-06');
CALL dashie.run_job('seal_audit');
SELECT number, day, row_count, entries IS NULL AS forgotten FROM dashie.audit_seal WHERE day <= '2026-03-10' ORDER BY number;
SELECT status, count(*), min(day), max(day) FROM dashie.verify_audit() GROUP BY status ORDER BY status;

-- released
SELECT dashie.release_legal_hold(1);
SELECT dashie.release_legal_hold(1);
SELECT table_name, action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'stripe_webhook_events';
SELECT dashie.release_legal_hold(2), dashie.release_legal_hold(3);
SELECT table_name, action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'stripe_webhook_events';
SELECT count(*) FROM public.stripe_webhook_events;
CALL dashie.run_job('seal_audit');
SELECT count(*) FILTER (WHERE entries IS NULL) AS forgotten, count(*) FROM dashie.audit_seal WHERE day < '2026-03-10';
SELECT status, count(*) FROM dashie.verify_audit() GROUP BY status ORDER BY status;
-- somebody puts a row into a day that has expired
SELECT public.put(11, '2026-03-01 10:00+00');
SELECT * FROM public.findings WHERE day = '2026-03-01';

-- without its table
DROP TABLE dashie.audit_seal, dashie.legal_hold;
SELECT * FROM dashie.verify_audit();
CALL dashie.run_job('seal_audit');
SELECT dashie.release_legal_hold(1);
SELECT count(*) FROM dashie.apply_retention();
SELECT count(*) FROM dashie.enable('stripe_webhook_events');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'dashie.audit_seal'::regclass AND NOT tgisinternal ORDER BY tgname;

DROP VIEW public.findings;
DROP FUNCTION public.put;
SELECT dashie.disable('stripe_webhook_events');
DROP TABLE public.stripe_webhook_events;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000c2';
DROP OWNED BY regress_dashie_audit;
DROP ROLE regress_dashie_audit;
