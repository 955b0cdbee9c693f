\set n random(0, :users)
UPDATE auth.users SET created_at = now() WHERE id = md5('user' || :n)::uuid;
