\set n random(0, 999)
INSERT INTO public.widget_analytics (user_id, session_id, widget_type, event_type, duration_seconds) VALUES (md5('user' || :n)::uuid, md5('session' || :n)::uuid, 'clock', 'view', 60);
