-- What a transaction leaves in dashie.changed_range: few ranges, exactly with
-- its rows, and only while somebody reads them.
SET client_min_messages = warning;
SET dashie.now = '2026-03-20 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE FUNCTION pg_temp.u(n int) RETURNS uuid LANGUAGE sql AS
$$ SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid $$;
INSERT INTO auth.users (id, created_at) SELECT pg_temp.u(n), '2026-01-01' FROM generate_series(1, 3) n;

-- without metrics nothing is written
SELECT count(*) FROM dashie.enable('user_sessions');
INSERT INTO public.user_sessions (id, user_id, started_at) VALUES (pg_temp.u(10), pg_temp.u(1), '2026-03-01 10:00+00');
SELECT to_regclass('dashie.changed_range');
-- with them the first mark says that everything may have changed
SELECT count(*) FROM dashie.enable('daily_metrics');
TABLE dashie.changed_range;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
TABLE dashie.changed_range;

-- one statement, one range; two far apart, two; an update of what no metric reads, none
INSERT INTO public.user_sessions (id, user_id, started_at, ended_at) VALUES
	(pg_temp.u(11), pg_temp.u(1), '2026-03-10 10:00+00', '2026-03-10 11:00+00'),
	(pg_temp.u(12), pg_temp.u(1), '2026-03-11 08:59+00', '2026-03-11 12:00+00'),
	(pg_temp.u(13), pg_temp.u(2), '2026-03-14 10:00+00', '2026-03-14 11:00+00');
UPDATE public.user_sessions SET error_count = error_count + 1, user_agent = 'TV';
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;

-- a heartbeat of a long session marks what it adds; its end, the start too
INSERT INTO public.user_sessions (id, user_id, started_at, last_activity_at) VALUES (pg_temp.u(14), pg_temp.u(3), '2026-03-02 10:00+00', '2026-03-12 10:00+00');
DELETE FROM dashie.changed_range;
UPDATE public.user_sessions SET last_activity_at = '2026-03-12 10:01+00' WHERE id = pg_temp.u(14);
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;
UPDATE public.user_sessions SET ended_at = '2026-03-12 10:01+00' WHERE id = pg_temp.u(14);
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;
-- another user, another country: all of it
UPDATE public.user_sessions SET country_code = 'DE' WHERE id = pg_temp.u(14);
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;

-- a session that plays a replica, as some restores do, is no exception
SET session_replication_role = replica;
DELETE FROM public.user_sessions WHERE id = pg_temp.u(10);
RESET session_replication_role;
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;

-- a day that is marked is not marked again, until somebody has taken the mark
DO $$ BEGIN
	FOR n IN 1..500 LOOP
		INSERT INTO public.user_sessions (user_id, started_at, ended_at)
			VALUES (pg_temp.u(1), timestamptz '2026-03-17 00:00+00' + n * interval '1 minute', timestamptz '2026-03-17 23:00+00');
		COMMIT;
	END LOOP;
END $$;
SELECT * FROM dashie.changed_range;
-- over midnight: one day is marked, the other not
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(1), '2026-03-17 23:50+00', '2026-03-18 00:10+00');
-- two marks together cover this one
INSERT INTO public.user_sessions (user_id, started_at, ended_at) VALUES (pg_temp.u(1), '2026-03-17 22:50+00', '2026-03-18 00:20+00');
SELECT * FROM dashie.changed_range ORDER BY 1, 2;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
TABLE dashie.changed_range;
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 22:00+00';
SELECT * FROM dashie.changed_range ORDER BY 1, 2;
-- not while it is locked away by a deletion that may yet happen, nor by one that did
BEGIN;
DELETE FROM dashie.changed_range;
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 08:00+00';
COMMIT;
SELECT * FROM dashie.changed_range ORDER BY 1, 2;
BEGIN;
DELETE FROM dashie.changed_range;
ROLLBACK;
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 07:00+00';
SELECT count(*) FROM dashie.changed_range;
-- a new table, and one that was written anew
VACUUM FULL dashie.changed_range;
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 06:00+00';
SELECT count(*) FROM dashie.changed_range;
TRUNCATE dashie.changed_range;
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 05:00+00';
SELECT count(*) FROM dashie.changed_range;
-- a mark without bounds, or with none that can be read, is none to rely on
DELETE FROM dashie.changed_range;
INSERT INTO dashie.changed_range VALUES ('-infinity', 'infinity'), ('2026-03-17 12:00+00', 'infinity');
DELETE FROM public.user_sessions WHERE started_at >= '2026-03-17 00:00+00';
SELECT * FROM dashie.changed_range ORDER BY 1, 2;
-- days of years one by one: each is marked once, however many are
DELETE FROM dashie.changed_range;
DO $$ BEGIN
	FOR n IN 0..1999 LOOP
		INSERT INTO public.user_sessions (user_id, started_at) VALUES (pg_temp.u(1), timestamptz '2024-01-01 12:00+00' + n * 7 % 400 * interval '2 days');
		COMMIT;
	END LOOP;
END $$;
SELECT count(*), count(DISTINCT "from") FROM dashie.changed_range;
DELETE FROM public.user_sessions WHERE started_at BETWEEN '2024-01-01' AND '2026-03-12' AND id NOT IN (pg_temp.u(10), pg_temp.u(11), pg_temp.u(12), pg_temp.u(13), pg_temp.u(14));
DELETE FROM dashie.changed_range;

-- a transaction that is rolled back leaves nothing; a savepoint may leave more, never less
BEGIN;
DELETE FROM public.user_sessions WHERE id = pg_temp.u(13);
ROLLBACK;
TABLE dashie.changed_range;
BEGIN;
DELETE FROM public.user_sessions WHERE id = pg_temp.u(11);
SAVEPOINT s;
DELETE FROM public.user_sessions WHERE id = pg_temp.u(13);
ROLLBACK TO s;
COMMIT;
SELECT * FROM dashie.changed_range ORDER BY "from";

-- a refresh inside the transaction counts its rows, and the next one again if
-- the savepoint around it is rolled back
DELETE FROM dashie.changed_range;
BEGIN;
INSERT INTO public.user_sessions (id, user_id, started_at) VALUES (pg_temp.u(15), pg_temp.u(2), '2026-03-16 10:00+00');
SAVEPOINT s;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-16';
ROLLBACK TO s;
SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-16';
COMMIT;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
SELECT total_sessions FROM public.daily_metrics WHERE date = '2026-03-16';

-- the user goes, and TRUNCATE
DELETE FROM auth.users WHERE id = pg_temp.u(2);
SELECT * FROM dashie.changed_range ORDER BY "from";
DELETE FROM dashie.changed_range;
TRUNCATE public.user_sessions CASCADE;
TABLE dashie.changed_range;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
SELECT sum(total_sessions) AS of_the_user_who_is_gone FROM public.daily_metrics;

-- what retention removes in one batch does not keep it from the next, of the same day
SELECT dashie.configure('batch_rows', '1');
INSERT INTO public.user_sessions (user_id, started_at) SELECT pg_temp.u(1), timestamptz '2025-12-20 09:00+00' + n * interval '1 minute' FROM generate_series(1, 3) n;
SET dashie.now = '2026-03-21 12:00+00';
SELECT dashie.refresh_daily_metrics('2025-12-01', '2026-03-20') > 0 AS refreshed;
SELECT rows FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT rows FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT * FROM dashie.changed_range;
-- a late row of a day that is still open does
INSERT INTO public.user_sessions (user_id, started_at) VALUES (pg_temp.u(1), '2025-12-21 09:00+00');
SET dashie.now = '2026-03-22 12:00+00';
SELECT action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SELECT dashie.refresh_daily_metrics('2025-12-21', '2026-03-21') > 0 AS refreshed;
SELECT action, rows, reason FROM dashie.apply_retention() WHERE table_name = 'user_sessions';
SET dashie.now = '2026-03-20 12:00+00';
SELECT dashie.configure('batch_rows', NULL);

-- a table of marks that somebody changed is named, before anything is lost
CREATE INDEX ON dashie.changed_range ("from");
INSERT INTO public.user_sessions (user_id, started_at) VALUES (pg_temp.u(1), '2026-03-16 10:00+00');
\echo :LAST_ERROR_SQLSTATE
DROP INDEX dashie.changed_range_from_idx;

-- the trigger is no function to call
SELECT dashie.sessions_changed();
CREATE TRIGGER wrong BEFORE INSERT ON public.user_sessions FOR EACH ROW EXECUTE FUNCTION dashie.sessions_changed();
INSERT INTO public.user_sessions (user_id, started_at) VALUES (pg_temp.u(1), '2026-03-16 10:00+00');
DROP TRIGGER wrong ON public.user_sessions;

-- no reader, no marks; enabled again, everything may have changed
SELECT dashie.disable('daily_metrics');
SELECT to_regclass('dashie.changed_range');
INSERT INTO public.user_sessions (user_id, started_at) VALUES (pg_temp.u(1), '2026-03-17 10:00+00');
SELECT count(*) FROM dashie.enable('daily_metrics');
TABLE dashie.changed_range;
SELECT dashie.refresh_daily_metrics('2026-03-01', '2026-03-19');
SELECT date, total_sessions FROM public.daily_metrics WHERE date = '2026-03-17';
-- the same where the triggers were gone for a while
SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('user_sessions');
SELECT tgname FROM pg_trigger WHERE tgrelid = 'public.user_sessions'::regclass AND tgname LIKE 'dashie%';
SELECT count(*) FROM dashie.enable('daily_metrics');
DELETE FROM dashie.changed_range;
SELECT count(*) FROM dashie.enable('user_sessions');
TABLE dashie.changed_range;
SELECT count(*) FROM dashie.enable('user_sessions');
TABLE dashie.changed_range;

SELECT dashie.disable('daily_metrics');
SELECT dashie.disable('user_sessions');
DROP TABLE public.daily_metrics, public.user_sessions CASCADE;
DROP TABLE dashie.metrics_state, dashie.user_number, dashie.user_country, dashie.dashboard_number, dashie.day_page, dashie.heartbeat_seen, dashie.retention_floor;
DELETE FROM auth.users;
