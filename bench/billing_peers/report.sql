-- The rows of the table: medians over the runs; ratios are those within a run.
CREATE TEMPORARY TABLE time (section text, way text, run int, events int, seconds float8, server_ms float8);
COPY time FROM :'times';
SELECT format('| %s | %s | %s | %s to %s | %s | %s | %s |', section, way, median, least, most, takes, us, cpu)
FROM (
	SELECT section, way, place, round(percentile_cont(0.5) WITHIN GROUP (ORDER BY events / seconds)) AS median,
		round(min(events / seconds)) AS least, round(max(events / seconds)) AS most,
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds / first_seconds))::numeric, 2) AS takes,
		round(percentile_cont(0.5) WITHIN GROUP (ORDER BY server_ms * 1000 / events)) AS us,
		round((percentile_cont(0.5) WITHIN GROUP (ORDER BY server_ms / nullif(first_ms, 0)))::numeric, 2) AS cpu
	FROM (
		SELECT *, first_value(seconds) OVER w AS first_seconds, first_value(server_ms) OVER w AS first_ms,
			min(ctid) OVER (PARTITION BY section) AS place
		FROM time WINDOW w AS (PARTITION BY section, run ORDER BY way LIKE 'dashie%' DESC, way)
	) AS t
	GROUP BY section, way, place
) AS t
ORDER BY place, way LIKE 'dashie%' DESC, way;
