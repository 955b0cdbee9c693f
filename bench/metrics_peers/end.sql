-- Of the sessions that have not ended, twenty a day of the last ten days do.
UPDATE public.user_sessions AS s
SET ended_at = bench.today() - interval '1 minute', duration_minutes = floor(extract(epoch FROM bench.today() - interval '1 minute' - started_at) / 60)
FROM (SELECT id, row_number() OVER (PARTITION BY started_at::date ORDER BY id) AS place FROM public.user_sessions
	WHERE ended_at IS NULL AND started_at >= bench.today() - 10 AND started_at < bench.today()) AS open
WHERE open.id = s.id AND place <= 20 AND coalesce(s.last_activity_at, s.started_at) < bench.today() - interval '1 minute';
