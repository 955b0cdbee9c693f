-- Rolled back, so that each run starts from nothing
BEGIN;
CALL dashie.run_job('rollup_events');
SELECT count(*) AS days FROM dashie.event_page WHERE NOT dirty;
ROLLBACK;
