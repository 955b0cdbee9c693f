-- The deliveries, signed now (a signature is good for five minutes): in the
-- order in which the application's users would cause them, as client.c reads
-- them.
--
-- secret: that signs.  from, upto: about which users.
COPY (
	SELECT u::int, payload, 't=' || at || ',v1=' || encode(hmac(convert_to(at || '.', 'UTF8') || payload, convert_to(:'secret', 'UTF8'), 'sha256'), 'hex'),
		id, type, kind, true, to_timestamp(created), rank::smallint, CASE WHEN kind = 'link' THEN "user" END, customer,
		CASE WHEN kind <> 'skip' THEN subscription END, CASE WHEN kind = 'skip' THEN 'ch_' || md5('h' || u) END, status, price,
		CASE WHEN kind = 'subscription' THEN to_timestamp(1700000000 + u % 86400) END, CASE WHEN kind = 'subscription' THEN to_timestamp(period_end) END,
		CASE WHEN kind = 'subscription' THEN to_timestamp(1700000000) END, cancel
	FROM event, (SELECT extract(epoch FROM now())::bigint + 120 AS at) AS t
	WHERE u BETWEEN :from AND :upto ORDER BY k, u
) TO STDOUT WITH (FORMAT binary);
