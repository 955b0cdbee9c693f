-- How many profiles are not what the events of events.sql come to, by the
-- rules and not by anybody's way.  users: how many they were about.
SELECT count(*) FROM generate_series(1, :users) AS u LEFT JOIN public.user_profiles AS p ON p.auth_user_id = md5('user' || u)::uuid
WHERE ROW(p.stripe_customer_id, p.stripe_subscription_id, p.tier, p.tier_started_at, p.tier_expires_at, p.subscription_status,
		p.max_dashboards, p.max_calendars)
	IS DISTINCT FROM ROW('cus_' || md5('c' || u), 'sub_' || md5('s' || u), 'pro', to_timestamp(1700000000 + 8 * 86400 + u % 86400),
		NULL::timestamptz, CASE u % 4 WHEN 0 THEN 'canceled' WHEN 1 THEN 'past_due' ELSE 'active' END, 3, 9);
