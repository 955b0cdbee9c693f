-- The rows of the table: medians over the runs; ratios are those within a run.
CREATE TEMPORARY TABLE time (section text, way text, run int, events int, seconds float8, server_ms float8);
COPY time FROM :'times'
SELECT format('| %s | %s | %s | %s to %s | %s | %s | %s |', section, way, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY events / seconds)),
	round(min(events / seconds)), round(max(events / seconds)),
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / base_seconds)::numeric, 2),
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY server_ms * 1000 / events)),
	round(percentile_cont(0.5) WITHIN GROUP (ORDER BY server_ms / nullif(base_ms, 0))::numeric, 2))
FROM (SELECT *, first_value(seconds) OVER w AS base_seconds, first_value(server_ms) OVER w AS base_ms, min(ctid) OVER (PARTITION BY section) AS place
	FROM time WINDOW w AS (PARTITION BY section, run ORDER BY way LIKE 'dashie%' DESC, way)) AS t
GROUP BY section, way, place ORDER BY place, way LIKE 'dashie%' DESC, way;
