-- One statement an event, a transaction a batch.
SELECT E'BEGIN;\n' || string_agg(format('INSERT INTO public.widget_analytics (id, user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp")'
	' VALUES (%L, %L, %L, %L, %L, %L, %L, %L) ON CONFLICT DO NOTHING;', id, user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp"), E'\n')
	|| E'\nCOMMIT;'
FROM peer.event GROUP BY batch ORDER BY batch;
