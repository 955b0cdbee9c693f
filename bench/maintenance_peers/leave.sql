\set n random(1000, :users)
DELETE FROM auth.users WHERE id = md5('user' || :n)::uuid;
