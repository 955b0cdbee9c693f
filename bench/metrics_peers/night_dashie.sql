-- Fills geographic_stats as well, which leaves the job of that name nothing to do.
CALL dashie.run_job('refresh_daily_metrics');
