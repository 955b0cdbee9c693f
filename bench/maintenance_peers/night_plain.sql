DELETE FROM public.widget_analytics WHERE "timestamp" < date_trunc('day', now()) - interval '30 days';
VACUUM public.widget_analytics;
