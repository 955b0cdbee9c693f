SET work_mem = '256MB';
CREATE TEMP TABLE filled AS SELECT b.* FROM bench.parameter, best.daily(first, last) AS b;
