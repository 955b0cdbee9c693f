-- Stale sessions: dashie.close_stale_sessions().
SET dashie.now = '2026-03-10 12:00+00';
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

-- not enabled
SELECT dashie.close_stale_sessions();

INSERT INTO auth.users (id, email) VALUES
	('00000000-0000-0000-0000-0000000000a1', 'stale@example.org');
SELECT count(*) FROM dashie.enable('user_sessions');

INSERT INTO public.user_sessions (user_id, started_at, last_activity_at, ended_at, client_key) VALUES
	('00000000-0000-0000-0000-0000000000a1', '2026-03-10 10:00+00', '2026-03-10 10:59:59.9+00', NULL, 'silent for an hour'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-10 09:00+00', NULL, NULL, 'never touched'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-10 09:00+00', '2026-03-10 11:30+00', NULL, 'silent for exactly 30 minutes'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-10 09:00+00', '2026-03-10 11:29:59.999999+00', NULL, 'silent for a microsecond more'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-07 09:00+00', '2026-03-10 11:59+00', NULL, 'a TV that runs'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-07 09:00+00', '2026-03-09 08:00+00', NULL, 'a TV that ran'),
	('00000000-0000-0000-0000-0000000000a1', '2026-03-01 09:00+00', '2026-03-01 09:10+00', '2026-03-01 09:20+00', 'ended long ago');

-- the end is the last activity, not now; whole minutes, rounded down
SELECT dashie.close_stale_sessions();
SELECT client_key, ended_at, duration_minutes FROM public.user_sessions ORDER BY client_key;
-- again: nothing to do
SELECT dashie.close_stale_sessions();

-- another idle time, in batches of one
SELECT dashie.configure('batch_rows', '1');
UPDATE public.user_sessions SET ended_at = NULL, duration_minutes = NULL
WHERE client_key LIKE 'silent%';
SELECT dashie.close_stale_sessions(idle => '30 minutes 1 microsecond');
SELECT dashie.close_stale_sessions(idle => '29 minutes');
SELECT dashie.configure('batch_rows', NULL);

-- bad arguments
SELECT dashie.close_stale_sessions(NULL);
SELECT dashie.close_stale_sessions('0');
SELECT dashie.close_stale_sessions('-5 minutes');
SELECT dashie.close_stale_sessions('1 day -5 minutes');
SELECT dashie.close_stale_sessions('999999 years');

-- a role without rights
CREATE ROLE regress_dashie_nobody;
SET ROLE regress_dashie_nobody;
SELECT dashie.close_stale_sessions();
RESET ROLE;
DROP ROLE regress_dashie_nobody;

SELECT dashie.disable('user_sessions');
DROP TABLE public.user_sessions;
DELETE FROM auth.users WHERE id = '00000000-0000-0000-0000-0000000000a1';
