CALL dashie.run_job('refresh_daily_metrics');
CALL dashie.run_job('refresh_geographic_stats');
