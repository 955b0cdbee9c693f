-- How far the approximate peer is from dashie's exact numbers
SELECT format('approximate: returning_users off by %s %% (worst %s), active_users_30d of a country by %s %% (worst %s)',
	round(daily.middle::numeric, 1), round(daily.worst::numeric, 1), round(country.middle::numeric, 1), round(country.worst::numeric, 1))
FROM (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY off) AS middle, max(off) AS worst
	FROM (SELECT abs(a.returning_users - e.returning_users) * 100.0 / nullif(e.returning_users, 0) AS off
		FROM hll.daily_metrics AS a JOIN public.daily_metrics AS e USING (date) WHERE date < bench.today()) AS d) AS daily,
	(SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY off) AS middle, max(off) AS worst
	FROM (SELECT abs(a.active_users_30d - e.active_users_30d) * 100.0 / nullif(e.active_users_30d, 0) AS off
		FROM hll.geographic_stats AS a JOIN public.geographic_stats AS e USING (country_code) WHERE country_code <> 'ZZ') AS c) AS country;
