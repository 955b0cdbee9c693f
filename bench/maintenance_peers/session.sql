\set n random(0, :users)
UPDATE public.user_sessions SET last_activity_at = now() WHERE id = md5('session' || :n)::uuid;
