-- What a run ended in, as one value: the same for every way.
SELECT md5(concat_ws(E'\n',
	(SELECT string_agg(ROW(auth_user_id, stripe_customer_id, stripe_subscription_id, tier, tier_started_at, tier_expires_at,
			subscription_status, max_dashboards, max_calendars)::text, E'\n' ORDER BY auth_user_id) FROM public.user_profiles),
	(SELECT string_agg(ROW(stripe_event_id, event_type, user_id, old_tier, new_tier, event_data, processing_status, error_message,
			retry_count, livemode, customer_id, subscription_id, payment_id, processed_at IS NULL)::text, E'\n' ORDER BY stripe_event_id)
		FROM public.stripe_webhook_events),
	(SELECT string_agg(ROW(subscription_id, customer_id, user_id, status, tier, price, max_dashboards, max_calendars,
			subscription_created, first_event, current_period_end, trial_end, cancel_at_period_end, watermark, watermark_rank, watermark_event)::text,
			E'\n' ORDER BY subscription_id) FROM dashie.stripe_subscription)));
