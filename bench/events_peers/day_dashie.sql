-- A late event came in: its day is counted again
CALL dashie.run_job('rollup_events');
