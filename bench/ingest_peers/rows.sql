SELECT format('INSERT INTO public.widget_analytics (id, user_id, session_id, widget_type, event_type, event_data, duration_seconds, "timestamp")'
	' SELECT id, %L, %L, widget_type, event_type, event_data, duration_seconds, "timestamp" FROM jsonb_to_recordset(%L)'
	' AS e (id uuid, widget_type text, event_type text, event_data jsonb, duration_seconds integer, "timestamp" timestamptz)'
	' ON CONFLICT DO NOTHING;', user_id, session_id, events) FROM peer.batch ORDER BY batch;
