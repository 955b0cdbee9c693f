-- The best PL/pgSQL that we could write for what dashie.stripe_ingest() does
-- with an event in its order: the same rows in the same tables, exactly once,
-- a failure recorded in a subtransaction.  As few statements as will do: what
-- is known of profile, subscription and price in one, each row written once.
--
-- It does less than dashie: no event out of its order but to be skipped, one
-- subscription a user, no price by lookup key, no settings, no check of rights
-- or columns, no look at events that waited for the customer.
--
-- With verify it looks at the signature, with pgcrypto's hmac().
-- secret: that signs.

CREATE EXTENSION pgcrypto;
CREATE TABLE peer.secret (secret bytea NOT NULL);
INSERT INTO peer.secret VALUES (convert_to(:'secret', 'UTF8'));

CREATE FUNCTION peer.ingest(payload bytea, header text, verify boolean, OUT id uuid, OUT status text, OUT duplicate boolean)
LANGUAGE plpgsql SECURITY DEFINER AS $$
<<ingest>>
DECLARE
	signed_at text;
	e jsonb;
	event_id text;
	event_type text;
	o jsonb;
	customer text;
	subscription text;
	payment text;
	sub_status text;
	price text;
	r record;
	grants boolean;
	at timestamptz;
	rank smallint;
	new_tier text;
	old_tier text;
	message text;
	user_id uuid;
BEGIN
	IF verify THEN
		signed_at := substring(header FROM '^t=([0-9]{1,12}),v1=[0-9a-f]{64}$');
		IF signed_at IS NULL OR abs(extract(epoch FROM now()) - signed_at::bigint) > 300
			OR (SELECT encode(public.hmac(convert_to(signed_at || '.', 'UTF8') || payload, s.secret, 'sha256'), 'hex') FROM peer.secret AS s)
				<> right(header, 64) THEN
			RAISE EXCEPTION 'the signature does not match' USING ERRCODE = '22023';
		END IF;
	END IF;
	e := convert_from(payload, 'UTF8');
	event_id := e ->> 'id';
	event_type := e ->> 'type';
	o := e #> '{data,object}';
	customer := o ->> 'customer';
	IF event_id IS NULL OR event_type IS NULL OR e ->> 'object' <> 'event' THEN
		RAISE EXCEPTION 'not an event' USING ERRCODE = '22023';
	END IF;
	at := to_timestamp((e ->> 'created')::bigint);
	status := 'processed';
	duplicate := false;
	BEGIN
		IF event_type LIKE 'customer.subscription.%' THEN
			subscription := o ->> 'id';
			sub_status := CASE event_type WHEN 'customer.subscription.deleted' THEN 'canceled' ELSE o ->> 'status' END;
			price := o #>> '{items,data,0,price,id}';
			rank := CASE event_type WHEN 'customer.subscription.created' THEN 0 WHEN 'customer.subscription.deleted' THEN 3 ELSE 2 END;
			grants := sub_status IN ('active', 'trialing');
			SELECT p.auth_user_id, p.tier, t.tier AS granted, t.max_dashboards, t.max_calendars,
				coalesce((s.watermark, s.watermark_rank) >= (at, rank) OR s.status IN ('canceled', 'incomplete_expired'), false) AS late
				INTO r
				FROM public.user_profiles AS p
				LEFT JOIN dashie.stripe_subscription AS s ON s.subscription_id = ingest.subscription
				LEFT JOIN dashie.stripe_price_tier AS t ON t.price = ingest.price
				WHERE p.stripe_customer_id = ingest.customer FOR NO KEY UPDATE OF p;
			user_id := r.auth_user_id;
			IF user_id IS NULL THEN
				status := 'pending';
				message := format('no user is known for customer "%s"', customer);
			ELSIF r.late THEN
				status := 'skipped';
				message := 'stale: a later event of the subscription was applied before';
			ELSE
				IF grants AND r.granted IS NULL THEN
					RAISE EXCEPTION 'unknown price of subscription "%": "%"', subscription, price;
				END IF;
				old_tier := r.tier;
				new_tier := CASE WHEN grants THEN r.granted ELSE r.tier END;
				INSERT INTO dashie.stripe_subscription AS s (subscription_id, customer_id, user_id, status, tier, price,
					max_dashboards, max_calendars, subscription_created, first_event, current_period_end, trial_end,
					cancel_at_period_end, watermark, watermark_rank, watermark_event, updated_at)
				VALUES (ingest.subscription, ingest.customer, ingest.user_id, sub_status, CASE WHEN grants THEN r.granted END,
					CASE WHEN grants THEN ingest.price END, CASE WHEN grants THEN r.max_dashboards END, CASE WHEN grants THEN r.max_calendars END,
					to_timestamp((o ->> 'created')::bigint), at,
					to_timestamp(coalesce((o ->> 'current_period_end')::bigint, (o #>> '{items,data,0,current_period_end}')::bigint)),
					to_timestamp((o ->> 'trial_end')::bigint), coalesce((o ->> 'cancel_at_period_end')::boolean, false), at, rank, event_id, now())
				ON CONFLICT (subscription_id) DO UPDATE SET customer_id = excluded.customer_id, status = excluded.status,
					tier = coalesce(excluded.tier, s.tier), price = coalesce(excluded.price, s.price),
					max_dashboards = coalesce(excluded.max_dashboards, s.max_dashboards),
					max_calendars = coalesce(excluded.max_calendars, s.max_calendars),
					subscription_created = coalesce(excluded.subscription_created, s.subscription_created),
					first_event = least(excluded.first_event, s.first_event),
					current_period_end = coalesce(excluded.current_period_end, s.current_period_end),
					trial_end = coalesce(excluded.trial_end, s.trial_end), cancel_at_period_end = excluded.cancel_at_period_end,
					watermark = excluded.watermark, watermark_rank = excluded.watermark_rank,
					watermark_event = excluded.watermark_event, updated_at = excluded.updated_at;
				UPDATE public.user_profiles AS p SET stripe_subscription_id = ingest.subscription, subscription_status = sub_status,
					tier_started_at = CASE WHEN ingest.new_tier <> p.tier THEN at ELSE p.tier_started_at END,
					tier_expires_at = CASE WHEN grants THEN NULL ELSE p.tier_expires_at END, tier = ingest.new_tier,
					max_dashboards = CASE WHEN grants THEN coalesce(r.max_dashboards, p.max_dashboards) ELSE p.max_dashboards END,
					max_calendars = CASE WHEN grants THEN coalesce(r.max_calendars, p.max_calendars) ELSE p.max_calendars END,
					updated_at = now()
					WHERE p.auth_user_id = ingest.user_id;
			END IF;
		ELSIF event_type = 'checkout.session.completed' THEN
			subscription := o ->> 'subscription';
			SELECT p.auth_user_id, p.tier INTO r FROM public.user_profiles AS p
				WHERE p.auth_user_id = (o ->> 'client_reference_id')::uuid FOR NO KEY UPDATE;
			user_id := r.auth_user_id;
			IF user_id IS NULL THEN
				status := 'pending';
			ELSE
				old_tier := r.tier;
				new_tier := r.tier;
				INSERT INTO dashie.stripe_subscription AS s (subscription_id, customer_id, user_id, updated_at)
					VALUES (ingest.subscription, ingest.customer, ingest.user_id, now()) ON CONFLICT (subscription_id) DO NOTHING;
				UPDATE public.user_profiles AS p SET stripe_customer_id = ingest.customer, stripe_subscription_id = ingest.subscription,
					updated_at = now() WHERE p.auth_user_id = ingest.user_id;
			END IF;
		ELSE
			IF event_type LIKE 'invoice.%' THEN
				subscription := coalesce(o ->> 'subscription', o #>> '{parent,subscription_details,subscription}');
				payment := coalesce(o ->> 'charge', o ->> 'payment_intent');
			ELSE
				status := 'skipped';
				IF event_type LIKE 'payment_intent.%' THEN
					payment := coalesce(o ->> 'latest_charge', o ->> 'id');
				END IF;
			END IF;
			SELECT p.auth_user_id INTO user_id FROM public.user_profiles AS p WHERE p.stripe_customer_id = ingest.customer;
		END IF;
		INSERT INTO public.stripe_webhook_events AS w (stripe_event_id, event_type, event_data, livemode, customer_id,
			subscription_id, payment_id, user_id, old_tier, new_tier, processing_status, error_message, processed_at, created_at, next_attempt_at)
		VALUES (event_id, ingest.event_type, e, (e ->> 'livemode')::boolean, ingest.customer, ingest.subscription, payment, ingest.user_id,
			ingest.old_tier, ingest.new_tier, ingest.status, message, CASE WHEN ingest.status <> 'pending' THEN now() END, now(),
			CASE WHEN ingest.status = 'pending' THEN now() + interval '1 minute' END)
		ON CONFLICT (stripe_event_id) DO NOTHING RETURNING w.id INTO ingest.id;
		IF id IS NULL THEN
			RAISE EXCEPTION 'stored already' USING ERRCODE = 'unique_violation';
		END IF;
	EXCEPTION
		WHEN unique_violation THEN
			SELECT w.id, w.processing_status, true INTO ingest.id, ingest.status, ingest.duplicate FROM public.stripe_webhook_events AS w
				WHERE w.stripe_event_id = event_id;
			IF id IS NULL THEN
				RAISE;
			END IF;
		WHEN query_canceled OR serialization_failure THEN
			RAISE;
		WHEN OTHERS THEN
			status := 'failed';
			INSERT INTO public.stripe_webhook_events AS w (stripe_event_id, event_type, event_data, livemode, customer_id, processing_status,
				error_message, retry_count, next_attempt_at)
			VALUES (event_id, ingest.event_type, e, (e ->> 'livemode')::boolean, ingest.customer, 'failed', sqlerrm, 1, now() + interval '1 minute')
			ON CONFLICT (stripe_event_id) DO NOTHING RETURNING w.id INTO ingest.id;
	END;
END $$;
