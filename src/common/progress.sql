-- Not dumped: what ran on one server says nothing about another.
CREATE TABLE dashie.progress_entry (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	what text NOT NULL,
	detail text,
	state text NOT NULL,
	unit text,
	done bigint,
	total bigint,
	advanced bigint NOT NULL DEFAULT 0,
	worked_microseconds bigint NOT NULL DEFAULT 0,
	started_at timestamptz NOT NULL,
	updated_at timestamptz NOT NULL,
	finished_at timestamptz,
	message text,
	pid integer NOT NULL,
	process_start timestamptz NOT NULL,
	server_start timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE dashie.progress_entry IS
'What the view dashie.progress shows; kept as long as the history of jobs is. advanced units were done in worked_microseconds.';
REVOKE ALL ON TABLE dashie.progress_entry FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.progress_entry TO @extowner@;

-- A process is the one that wrote the row if it has the same pid under the
-- same server and started when that one did; who may not see when, sees the pid.
CREATE VIEW dashie.progress AS
SELECT p.id, p.what, p.detail, s.state, p.done, p.total, p.unit,
	pg_catalog.round(100.0 * p.done / nullif(p.total, 0), 1) AS percent,
	pg_catalog.round(p.advanced * 1000000.0 / nullif(p.worked_microseconds, 0), 2) AS rate,
	CASE WHEN s.state IN ('running', 'partial', 'blocked') AND p.advanced > 0 THEN
		pg_catalog.date_trunc('second', pg_catalog.make_interval(
			secs => (p.total - p.done) * p.worked_microseconds / 1000000.0 / p.advanced))
	END AS time_left,
	p.started_at, p.updated_at, p.finished_at, p.message, p.pid
FROM dashie.progress_entry AS p
CROSS JOIN LATERAL (SELECT CASE
	WHEN p.state <> 'running' OR pg_catalog.pg_is_in_recovery() THEN p.state
	WHEN p.server_start = pg_catalog.pg_postmaster_start_time() AND EXISTS (
		SELECT FROM pg_catalog.pg_stat_get_activity(p.pid) AS a
		WHERE coalesce(a.backend_start = p.process_start, true)) THEN 'running'
	ELSE 'died' END) AS s (state);
COMMENT ON VIEW dashie.progress IS
'Long work, running and past: backfill_metrics, and jobs that have more to catch up on than one step takes. A row shows what is committed; inside a transaction block of the caller that is nothing before its end.';
COMMENT ON COLUMN dashie.progress.state IS
'running, succeeded, partial (the time budget of the job was used up; its next run goes on), blocked (a lock was not to be had; the next run goes on), failed, cancelled, died (its process is gone). What was done before stays done.';
COMMENT ON COLUMN dashie.progress.done IS 'how many of total are done, by whomever';
COMMENT ON COLUMN dashie.progress.rate IS 'units a second, while it worked';
COMMENT ON COLUMN dashie.progress.time_left IS 'at this rate, of work; a job also waits for its next run';
REVOKE ALL ON TABLE dashie.progress FROM PUBLIC;
GRANT SELECT ON TABLE dashie.progress TO @extowner@;
