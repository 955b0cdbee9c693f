-- The days that late rows can reach, and all countries anew
BEGIN;
DELETE FROM naive.daily_metrics WHERE date >= bench.today() - :late;
INSERT INTO naive.daily_metrics SELECT * FROM naive.daily(bench.today() - :late, bench.today() - 1);
DELETE FROM naive.geographic_stats;
INSERT INTO naive.geographic_stats SELECT * FROM naive.geographic();
COMMIT;
