SELECT 'INSERT INTO public.widget_analytics (id, user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp") VALUES '
	|| string_agg(format('(%L, %L, %L, %L, %L, %L::jsonb, %L, %L)', id, user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp"), ', ')
	|| ' ON CONFLICT DO NOTHING;'
FROM peer.event GROUP BY batch ORDER BY batch;
