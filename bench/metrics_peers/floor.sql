-- What it costs to look at each row once, with as many workers as there are
SET max_parallel_workers_per_gather = 2;
SET min_parallel_table_scan_size = 0;
SET parallel_setup_cost = 0;
SELECT count(*), sum(ended_at - started_at) FROM public.user_sessions;
