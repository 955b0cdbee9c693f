SELECT partman.run_maintenance('public.widget_analytics', p_analyze := false);
