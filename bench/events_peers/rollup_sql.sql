-- What there is to be counted, and nothing stored: a row for each day, widget and user
SELECT count(*), sum(events) FROM (
	SELECT at::date, widget_type, user_id, count(*) AS events, sum(duration_seconds), count(*) FILTER (WHERE event_type = 'view'),
		count(*) FILTER (WHERE event_type = 'click'), count(*) FILTER (WHERE event_type = 'focus'),
		count(*) FILTER (WHERE event_type = 'active'), count(*) FILTER (WHERE event_type = 'configure')
	FROM peer.asked GROUP BY 1, 2, 3) AS r;
