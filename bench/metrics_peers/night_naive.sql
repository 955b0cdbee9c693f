-- The last three days, which is how late rows arrive, and all countries anew
BEGIN;
DELETE FROM naive.daily_metrics WHERE date >= bench.today() - 3;
INSERT INTO naive.daily_metrics SELECT * FROM naive.daily(bench.today() - 3, bench.today() - 1);
DELETE FROM naive.geographic_stats;
INSERT INTO naive.geographic_stats SELECT * FROM naive.geographic();
COMMIT;
