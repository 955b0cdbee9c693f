-- The events that bench/billing delivers, made of Stripe's own examples
-- (t/data/README.md): ten a user, from the checkout to the end of the second
-- period, and now and then one twice. In a database of its own.
--
-- fixtures: path of the examples.  users: how many.

CREATE EXTENSION pgcrypto;
CREATE TABLE resource AS
	SELECT name, object FROM jsonb_each(pg_read_file(:'fixtures')::jsonb -> 'resources') AS r (name, object)
	WHERE name IN ('subscription', 'invoice', 'checkout.session', 'payment_intent');

-- k: its number in the user's life
CREATE TABLE step (k int, type text, kind text, rank smallint, resource text, status text, price text, previous jsonb);
INSERT INTO step VALUES
	(0, 'checkout.session.completed', 'link', 2, 'checkout.session', NULL, NULL, NULL),
	(1, 'customer.subscription.created', 'subscription', 0, 'subscription', 'trialing', 'price_basic', NULL),
	(2, 'invoice.created', 'audit', 2, 'invoice', NULL, NULL, NULL),
	(3, 'customer.subscription.updated', 'subscription', 2, 'subscription', 'active', 'price_basic', '{"status": "trialing"}'),
	(4, 'invoice.finalized', 'audit', 2, 'invoice', NULL, NULL, NULL),
	(5, 'payment_intent.succeeded', 'skip', 2, 'payment_intent', NULL, NULL, NULL),
	(6, 'invoice.paid', 'audit', 2, 'invoice', NULL, NULL, NULL),
	(7, 'invoice.payment_succeeded', 'audit', 2, 'invoice', NULL, NULL, NULL),
	(8, 'customer.subscription.updated', 'subscription', 2, 'subscription', 'active', 'price_pro', '{"items": {"data": [{"price": {"id": "price_basic"}}]}}');

CREATE TABLE event AS
WITH life AS (
	SELECT u, s.* FROM generate_series(1, :users) AS u, step AS s
	UNION ALL
	SELECT u, 9, CASE u % 4 WHEN 0 THEN 'customer.subscription.deleted' ELSE 'customer.subscription.updated' END, 'subscription',
		CASE u % 4 WHEN 0 THEN 3 ELSE 2 END, 'subscription',
		CASE u % 4 WHEN 0 THEN 'canceled' WHEN 1 THEN 'past_due' ELSE 'active' END, 'price_pro', NULL
	FROM generate_series(1, :users) AS u
), named AS (
	SELECT l.*, format('evt_%s_%s', u, k) AS id, md5('user' || u)::uuid AS "user", 'cus_' || md5('c' || u) AS customer,
		'sub_' || md5('s' || u) AS subscription, 1700000000 + k * 86400 + u % 86400 AS created, 1700000000 + k * 86400 + 30 * 86400 AS period_end
	FROM life AS l
), filled AS (
	SELECT n.*, CASE kind
		WHEN 'subscription' THEN jsonb_set(jsonb_set(r.object || jsonb_build_object('id', subscription, 'customer', customer, 'status', status,
				'created', 1700000000 + u % 86400, 'trial_end', 1700000000, 'cancel_at_period_end', k = 8 AND u % 4 = 0),
			'{items,data,0,price,id}', to_jsonb(price)), '{items,data,0,current_period_end}', to_jsonb(period_end))
		WHEN 'link' THEN r.object || jsonb_build_object('id', 'cs_' || md5(id), 'mode', 'subscription', 'customer', customer,
			'subscription', subscription, 'client_reference_id', "user", 'payment_intent', NULL)
		WHEN 'audit' THEN jsonb_set(r.object || jsonb_build_object('id', 'in_' || md5('i' || u), 'customer', customer),
			'{parent}', jsonb_build_object('type', 'subscription_details', 'quote_details', NULL,
				'subscription_details', jsonb_build_object('metadata', '{}'::jsonb, 'subscription', subscription)))
		ELSE r.object || jsonb_build_object('id', 'pi_' || md5('p' || u), 'customer', customer, 'latest_charge', 'ch_' || md5('h' || u)) END AS object
	FROM named AS n JOIN resource AS r ON r.name = n.resource
)
SELECT u, k, id, type, kind, rank, "user", customer, subscription, status, price, created, period_end, object ->> 'cancel_at_period_end' = 'true' AS cancel,
	convert_to(jsonb_build_object('id', id, 'object', 'event', 'type', type, 'created', created, 'livemode', true,
		'api_version', '2026-10-28.endive', 'pending_webhooks', 1, 'request', jsonb_build_object('id', NULL, 'idempotency_key', NULL),
		'data', jsonb_build_object('object', object) || CASE WHEN previous IS NULL THEN '{}' ELSE jsonb_build_object('previous_attributes', previous) END)::text,
		'UTF8') AS payload
FROM filled;
-- what comes twice
INSERT INTO event SELECT u, 10, id, type, kind, rank, "user", customer, subscription, status, price, created, period_end, cancel, payload
	FROM event WHERE k = 3 AND u % 20 = 0;
VACUUM ANALYZE event;
