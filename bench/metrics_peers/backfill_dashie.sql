-- Rolled back, so that each run starts from nothing
BEGIN;
SELECT dashie.refresh_daily_metrics(first, last) FROM bench.parameter;
ROLLBACK;
