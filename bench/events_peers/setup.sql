-- Events of the days before today: users alike, whose events self-joins can still pair; ten widgets, some more used than others.
CREATE EXTENSION dashie;
SET client_min_messages = warning;
SET timezone = 'UTC';
SELECT dashie.create_auth_stub();
SELECT * FROM dashie.enable('widget_analytics');
CREATE SCHEMA peer;
INSERT INTO auth.users (id, created_at)
SELECT md5('user' || n)::uuid, now() - interval '60 days' FROM generate_series(0, :users - 1) AS n;
INSERT INTO public.user_sessions (id, user_id, started_at)
SELECT md5('session' || n)::uuid, md5('user' || n)::uuid, now() - interval '1 hour' FROM generate_series(0, :users - 1) AS n;

-- The same numbers in each run: shares from 0 to 1 by what is asked and a number.
CREATE FUNCTION peer.share(what text, n bigint) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT (('x' || substr(md5(what || n), 1, 8))::bit(32)::bigint & 2147483647) / 2147483648.0 $$;

INSERT INTO public.widget_analytics (user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp")
SELECT md5('user' || e.person)::uuid, md5('session' || e.person)::uuid,
	(ARRAY['header', 'clock', 'main', 'agenda', 'photos', 'voice', 'weather', 'map', 'camera', 'notes'])[1 + floor(10 * e.widget * e.widget)::int],
	(ARRAY['view', 'view', 'view', 'click', 'focus', 'active', 'configure'])[1 + floor(7 * e.kind)::int],
	CASE WHEN e.n % 3 = 0 THEN jsonb_build_object('source', 'touch', 'x', e.n % 1920, 'y', e.n % 1080) END, e.n % 600,
	date_trunc('day', now()) - :days * interval '1 day' + (e.n / :events::double precision) * :days * interval '1 day'
FROM (SELECT n, floor(:users * peer.share('person', n))::int AS person, peer.share('widget', n) AS widget, peer.share('kind', n) AS kind
	FROM generate_series(0, :events - 1) AS n) AS e;

-- What the peers need not look for themselves: the range
CREATE VIEW peer.asked AS
SELECT *, "timestamp" AT TIME ZONE 'UTC' AS at FROM public.widget_analytics
WHERE "timestamp" >= date_trunc('day', now()) - :days * interval '1 day' AND "timestamp" < date_trunc('day', now());
