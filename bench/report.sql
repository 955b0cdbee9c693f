-- The rows of the table, in the order in which things were measured. Variables:
-- the files of times and notes. A ratio is the middle one of the ratios within
-- each run: what disturbed a run disturbed both.
-- Where no way is called "dashie", the one that begins so is 1.
CREATE TEMP TABLE taken (number serial, section text, peer text, run integer, ms double precision, cpu double precision);
CREATE TEMP TABLE noted (number serial, section text, peer text, note text);
\set copy '\\copy taken (section, peer, run, ms, cpu) FROM ' :'times'
:copy
\set copy '\\copy noted (section, peer, note) FROM ' :'notes'
:copy

CREATE TEMP TABLE base AS
SELECT DISTINCT ON (section, run) section, run, peer, ms, cpu FROM taken
WHERE peer = 'dashie' OR peer LIKE 'dashie.%'
ORDER BY section, run, peer;

CREATE TEMP TABLE line AS
SELECT t.section, t.peer, min(t.number) AS number, percentile_cont(0.5) WITHIN GROUP (ORDER BY t.ms) AS middle,
	min(t.ms) AS least, max(t.ms) AS most,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY t.ms / b.ms) AS ratio,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY t.cpu) AS cpu,
	percentile_cont(0.5) WITHIN GROUP (ORDER BY t.cpu / nullif(b.cpu, 0)) AS cpu_ratio,
	bool_or(t.peer = b.peer) AS is_base,
	(SELECT n.note FROM noted AS n WHERE n.section = t.section AND n.peer = t.peer ORDER BY n.number DESC LIMIT 1) AS note
FROM taken AS t
LEFT JOIN base AS b ON b.section = t.section AND b.run = t.run
GROUP BY t.section, t.peer;

-- The nights of dashie over histories of different lengths, each beside that of the shortest in its run
UPDATE line SET note = format('%s times that %s', round(beside.ratio::numeric, 2), beside.least)
FROM (SELECT t.section, l.section AS least, percentile_cont(0.5) WITHIN GROUP (ORDER BY t.ms / l.ms) AS ratio
	FROM taken AS t JOIN taken AS l USING (run, peer)
	WHERE peer = 'dashie' AND t.section LIKE 'a night after %, in turn' AND t.section <> l.section
		AND l.section = (SELECT section FROM line WHERE section LIKE 'a night after %, in turn'
			ORDER BY regexp_replace(section, '\D', '', 'g')::bigint LIMIT 1)
	GROUP BY t.section, l.section) AS beside
WHERE line.peer = 'dashie' AND line.section = beside.section;

SELECT format('| %s | %s | %s | %s to %s | %s | %s | %s | %s |',
	CASE WHEN row_number() OVER w = 1 THEN section ELSE '' END, peer,
	round(middle::numeric, digits), round(least::numeric, digits), round(most::numeric, digits),
	CASE WHEN is_base THEN '1' ELSE round(ratio::numeric, CASE WHEN ratio < 10 THEN 2 ELSE 0 END)::text END,
	round(cpu::numeric),
	CASE WHEN is_base AND cpu IS NOT NULL THEN '1'
		ELSE round(cpu_ratio::numeric, CASE WHEN cpu_ratio < 10 THEN 2 ELSE 0 END)::text END, note)
FROM (SELECT *, min(number) OVER (PARTITION BY section) AS place FROM line) AS named,
	LATERAL (SELECT CASE WHEN middle < 20 THEN 2 ELSE 0 END AS digits) AS d
WINDOW w AS (PARTITION BY place ORDER BY NOT is_base, middle DESC)
ORDER BY place, row_number() OVER w;
