-- One row of the table: medians over the runs, each run's time beside that of
-- the same run's base.  Processor time is counted in steps of 10 ms.
SELECT format('| %s | %s | %s | %s | %s | %s | %s |', :'way',
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.ms) * 1000 / :n)::numeric, 2),
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.ms / b.ms))::numeric, 2),
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.cpu) * 1000 / :n)::numeric, 2),
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.cpu / nullif(b.cpu, 0)))::numeric, 2),
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.bytes) / :n)::numeric),
	round((percentile_cont(0.5) WITHIN GROUP (ORDER BY t.wal) / :n)::numeric))
FROM peer.time AS t JOIN peer.time AS b ON b.way = :'base' AND b.run = t.run WHERE t.way = :'way';
