-- dashie.verify_events(): pages of events that are right, that changed, that were
-- damaged, and whose rows are gone.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
CREATE FUNCTION pg_temp.le(n int) RETURNS bytea LANGUAGE sql AS
$$ SELECT decode(string_agg(lpad(to_hex(n >> s & 255), 2, '0'), '' ORDER BY s), 'hex') FROM unnest('{0,8,16,24}'::int[]) s $$;
INSERT INTO auth.users (id, created_at, is_anonymous) SELECT pg_temp.u(n), '2026-01-01', n = 7 FROM generate_series(1, 9) n;

-- never enabled
SELECT * FROM dashie.verify_events('2026-03-15', '2026-03-19');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) > 1 FROM dashie.enable('widget_analytics');
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp")
SELECT pg_temp.u(1 + n % 9), (ARRAY['clock', 'photos', 'Straße', 'weather'])[1 + n * n % 4],
	(ARRAY['view', 'click', 'configure', 'focus', 'active'])[1 + n % 5], nullif(n % 90, 0), timestamptz '2026-03-15' + n * interval '37 minutes'
FROM generate_series(0, 194) n;
CREATE VIEW pg_temp.proof AS SELECT * FROM dashie.verify_events('2026-03-14', '2026-03-20');
TABLE pg_temp.proof;
CALL dashie.run_job('rollup_events');
TABLE pg_temp.proof;
-- also of today, when it was counted; and of types that the roadmap does not know
BEGIN;
ALTER TABLE public.widget_analytics DROP CONSTRAINT widget_analytics_event_type_check;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp") VALUES (pg_temp.u(1), '', 'hover', 5, '2026-03-19 10:00+00');
SELECT dashie.refresh_event_rollups('2026-03-14', '2026-03-20');
TABLE pg_temp.proof;
ROLLBACK;

--
-- What changed since is neither proven nor wrong
--
INSERT INTO public.widget_analytics (id, user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(100), pg_temp.u(3), 'voice', 'view', '2026-03-16 10:00+00');
SELECT day, ok, reason FROM pg_temp.proof WHERE day = '2026-03-16';
CALL dashie.run_job('rollup_events');
SELECT day, ok, reason FROM pg_temp.proof WHERE day = '2026-03-16';
UPDATE auth.users SET is_anonymous = false WHERE id = pg_temp.u(7);
SELECT count(*) FROM pg_temp.proof WHERE ok AND method = 'rows';
-- users who leave
UPDATE auth.users SET deleted_at = '2026-03-20' WHERE id = pg_temp.u(8);
SELECT count(*) FROM pg_temp.proof WHERE ok AND method = 'rows';
CALL dashie.run_job('rollup_events');
DELETE FROM auth.users WHERE id = pg_temp.u(9);
SELECT day, ok, reason FROM pg_temp.proof;
CALL dashie.run_job('rollup_events');
SELECT day, ok, reason FROM pg_temp.proof;

--
-- Damage
--
CREATE FUNCTION public.rows_of(OUT day date, OUT ok boolean, OUT differences text, OUT reason text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT day, ok, regexp_replace(differences::text, '"[0-9a-f]{64}"', '"..."', 'g'), reason FROM dashie.verify_events('2026-03-15', '2026-03-19') WHERE ok IS NOT TRUE $$;
-- as whoever has a digest of their own would do it
CREATE FUNCTION pg_temp.digest(day date, totals bytea, widgets bytea, entries bytea) RETURNS bytea LANGUAGE sql AS $$
	SELECT sha256(convert_to(day::text, 'UTF8') || pg_temp.le(length(totals)) || totals || pg_temp.le(length(widgets)) || widgets || pg_temp.le(length(entries)) || entries) $$;
CREATE FUNCTION pg_temp.seal() RETURNS void LANGUAGE sql AS $$ UPDATE dashie.event_page SET digest = pg_temp.digest(day, totals, widgets, entries) $$;
SELECT pg_temp.seal();
SELECT * FROM public.rows_of();
\x on
BEGIN; UPDATE dashie.event_page SET entries = set_byte(entries, 5, get_byte(entries, 5) # 1) WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = NULL WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page SET digest = NULL WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = NULL, widgets = NULL, entries = NULL, digest = NULL WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
-- the page of another day
BEGIN; UPDATE dashie.event_page p SET totals = o.totals, widgets = o.widgets, entries = o.entries FROM dashie.event_page o WHERE p.day = '2026-03-16' AND o.day = '2026-03-17';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
-- its totals, its widgets, its entries alone
BEGIN; UPDATE dashie.event_page p SET totals = o.totals FROM dashie.event_page o WHERE p.day = '2026-03-16' AND o.day = '2026-03-17';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page p SET widgets = o.widgets FROM dashie.event_page o WHERE p.day = '2026-03-18' AND o.day = '2026-03-17';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page p SET entries = o.entries FROM dashie.event_page o WHERE p.day = '2026-03-18' AND o.day = '2026-03-17';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
-- bytes that no page can hold
BEGIN; UPDATE dashie.event_page SET entries = '\x01' WHERE day = '2026-03-16'; SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page SET widgets = '\x0101016100123b30000001ff7fffff01000000ffff' WHERE day = '2026-03-16'; SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page SET totals = '\x01' WHERE day = '2026-03-16'; SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
-- a page of nothing, and rows that nobody counted
BEGIN; UPDATE dashie.event_page SET widgets = '\x0100', entries = '\x01', totals = o.totals
	FROM (SELECT totals FROM dashie.event_page WHERE day = '2026-03-15') o WHERE day = '2026-03-16';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; ALTER TABLE public.widget_analytics DISABLE TRIGGER dashie_changed;
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, duration_seconds, "timestamp") VALUES (pg_temp.u(1), 'unseen', 'view', 7, '2026-03-17 10:00+00');
DELETE FROM public.widget_analytics WHERE user_id = pg_temp.u(2) AND widget_type = 'photos';
UPDATE public.widget_analytics SET event_type = 'view' WHERE user_id = pg_temp.u(3) AND widget_type = 'clock' AND "timestamp" < '2026-03-17';
SELECT * FROM public.rows_of(); ROLLBACK;
\x off
-- columns of other types
BEGIN; ALTER TABLE dashie.event_page ALTER totals TYPE bigint USING 5; SELECT * FROM public.rows_of(); ROLLBACK;
SELECT * FROM public.rows_of();

--
-- The night verifies what it wrote, where that is wanted
--
SELECT dashie.configure('verify_nightly', 'on');
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(1), 'clock', 'view', '2026-03-17 10:00+00'), (pg_temp.u(1), 'clock', 'view', '2026-03-19 10:00+00');
CALL dashie.run_job('rollup_events');
SELECT status, steps, rows, error_message FROM dashie.job_run ORDER BY id DESC LIMIT 1;
CREATE FUNCTION public.meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.entries := new.entries || '\x00'; RETURN new; END $$;
CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON dashie.event_page FOR EACH ROW WHEN (NEW.day = '2026-03-17' AND NOT NEW.dirty) EXECUTE FUNCTION public.meddle();
INSERT INTO public.widget_analytics (user_id, widget_type, event_type, "timestamp") VALUES (pg_temp.u(1), 'clock', 'view', '2026-03-17 10:00+00'), (pg_temp.u(1), 'clock', 'view', '2026-03-19 10:00+00');
\set VERBOSITY sqlstate
CALL dashie.run_job('rollup_events');
\set VERBOSITY default
SELECT status, steps, sqlstate, regexp_replace(error_message, '[0-9a-f]{64}', '...', 'g') FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT day, ok, reason FROM pg_temp.proof WHERE day >= '2026-03-17';
DROP TRIGGER meddle ON dashie.event_page;
UPDATE dashie.event_page SET entries = substr(entries, 1, length(entries) - 1) WHERE day = '2026-03-17';
CALL dashie.run_job('rollup_events');
SELECT status, steps FROM dashie.job_run ORDER BY id DESC LIMIT 1;
SELECT dashie.configure('verify_nightly', NULL);
SELECT * FROM public.rows_of();

--
-- Rows go: the digest stays
--
SELECT dashie.set_retention('widget_analytics', '2 days');
CALL dashie.run_job('maintain_partitions');
SELECT min(lower_bound) FROM dashie.partitions;
SELECT day, ok, method, reason FROM pg_temp.proof;
BEGIN; UPDATE dashie.event_page SET widgets = widgets || '\x00' WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; UPDATE dashie.event_page p SET totals = o.totals FROM dashie.event_page o WHERE p.day = '2026-03-16' AND o.day = '2026-03-17';
SELECT pg_temp.seal(); SELECT * FROM public.rows_of(); ROLLBACK;
BEGIN; DELETE FROM dashie.event_page WHERE day = '2026-03-16'; SELECT * FROM public.rows_of(); ROLLBACK;
-- a partition that was taken away by hand; one that came in its place
BEGIN;
ALTER TABLE public.widget_analytics DETACH PARTITION public.widget_analytics_20260319;
SELECT day, ok, method, reason FROM pg_temp.proof WHERE day = '2026-03-19';
CREATE TABLE public.empty PARTITION OF public.widget_analytics FOR VALUES FROM ('2026-03-19') TO ('2026-03-20');
SELECT day, ok, differences, reason FROM pg_temp.proof WHERE day = '2026-03-19';
ROLLBACK;

-- Bad arguments
SELECT dashie.verify_events(NULL, '2026-03-10');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.verify_events('2026-03-11', NULL);
SELECT dashie.verify_events('2026-03-11', '2026-03-10');
SELECT dashie.verify_events('2026-03-11', '2026-03-21');
SELECT dashie.verify_events('-infinity', '2026-03-10');
SELECT dashie.verify_events('1998-10-30', '2026-03-14');

-- also without the table
SELECT dashie.disable('widget_analytics');
SELECT dashie.disable('user_sessions');
SELECT day, ok, method, reason FROM pg_temp.proof;
DROP VIEW pg_temp.proof;
DROP FUNCTION public.rows_of(), public.meddle();
DROP TABLE public.widget_analytics, public.user_sessions;
DROP TABLE dashie.event_page, dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.retention_floor;
SELECT dashie.set_retention('widget_analytics', NULL);
DELETE FROM dashie.job_run;
UPDATE dashie.job_state SET last_started = NULL, last_finished = NULL, last_status = NULL, failures = 0, retry_at = NULL, more = false;
DELETE FROM auth.users;
