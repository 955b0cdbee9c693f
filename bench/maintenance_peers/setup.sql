-- One database a way: the same users, sessions and table of events, partitioned
-- by dashie, by pg_partman, or not at all.  Runs as a superuser, who is the
-- application's owner for all but pg_partman.
\set ON_ERROR_STOP on
SET ROLE app_owner;
SET client_min_messages = warning;
SELECT :'way' = 'dashie' AS dashie, :'way' = 'partman' AS partman \gset

CREATE EXTENSION dashie;
SELECT dashie.create_auth_stub();
SELECT count(*) FROM dashie.enable('user_sessions');
INSERT INTO auth.users (id) SELECT md5('user' || n)::uuid FROM generate_series(0, :users) AS n;
INSERT INTO public.user_sessions (id, user_id, started_at)
SELECT md5('session' || n)::uuid, md5('user' || n)::uuid, now() - interval '1 hour' FROM generate_series(0, :users) AS n;

\if :dashie
SELECT count(*) FROM dashie.enable('widget_analytics');
\else
CREATE TABLE public.widget_analytics (
	id uuid NOT NULL DEFAULT gen_random_uuid(),
	user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE,
	dashboard_id uuid,
	session_id uuid REFERENCES public.user_sessions (id) ON DELETE CASCADE,
	widget_type text NOT NULL,
	event_type text NOT NULL CHECK (event_type IN ('view', 'click', 'configure', 'focus', 'active')),
	event_data jsonb,
	duration_seconds integer CHECK (duration_seconds >= 0),
	"timestamp" timestamptz NOT NULL DEFAULT now() CHECK (isfinite("timestamp")),
	PRIMARY KEY (id, "timestamp")
) :partitioned;
CREATE INDEX ON public.widget_analytics (widget_type);
CREATE INDEX ON public.widget_analytics ("timestamp");
CREATE INDEX ON public.widget_analytics (user_id);
CREATE INDEX ON public.widget_analytics (session_id);
\endif

\if :partman
RESET ROLE;
CREATE SCHEMA partman;
CREATE EXTENSION pg_partman SCHEMA partman;
SELECT extversion < '5' AS four FROM pg_extension WHERE extname = 'pg_partman' \gset
\if :four
SELECT partman.create_parent('public.widget_analytics', 'timestamp', 'native', 'daily', p_premake := 7,
	p_start_partition := (now() - interval '30 days')::text);
\else
SELECT partman.create_parent('public.widget_analytics', 'timestamp', '1 day', 'range', p_premake := 7,
	p_start_partition := (now() - interval '30 days')::text);
\endif
UPDATE partman.part_config SET retention = '30 days', retention_keep_table = false, infinite_time_partitions = true;
\endif

SET ROLE app_owner;

CREATE FUNCTION public.add_events(day timestamptz, events integer) RETURNS void
LANGUAGE sql
AS $$
INSERT INTO public.widget_analytics (user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp")
SELECT md5('user' || n % 1000)::uuid, md5('session' || n % 1000)::uuid,
	(ARRAY['header', 'clock', 'main', 'agenda', 'photos', 'voice', 'weather', 'map', 'camera'])[1 + n % 9],
	(ARRAY['view', 'view', 'view', 'click', 'focus', 'active', 'configure'])[1 + n % 7],
	CASE WHEN n % 3 = 0 THEN jsonb_build_object('source', 'touch', 'x', n % 1920, 'y', n % 1080) END,
	n % 600, day + n * interval '1 day' / events
FROM generate_series(0, events - 1) AS n
$$;
SELECT public.add_events(date_trunc('day', now()), :events);
ANALYZE public.widget_analytics, public.user_sessions, auth.users;
