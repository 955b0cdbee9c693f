SELECT count(*), sum(events) FROM (
	SELECT widget_type, user_id, count(*) AS events, sum(duration_seconds), count(*) FILTER (WHERE event_type = 'view'),
		count(*) FILTER (WHERE event_type = 'click'), count(*) FILTER (WHERE event_type = 'focus'),
		count(*) FILTER (WHERE event_type = 'active'), count(*) FILTER (WHERE event_type = 'configure')
	FROM public.widget_analytics
	WHERE "timestamp" >= date_trunc('day', now()) - interval '1 day' AND "timestamp" < date_trunc('day', now())
	GROUP BY 1, 2) AS r;
