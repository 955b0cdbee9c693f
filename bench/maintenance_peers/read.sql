\set n random(0, 999)
SELECT count(*) FROM public.widget_analytics WHERE user_id = md5('user' || :n)::uuid AND "timestamp" > now() - interval '5 minutes';
