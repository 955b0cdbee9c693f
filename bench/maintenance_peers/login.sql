\set n random(1, 1000000000)
INSERT INTO auth.users (id) VALUES (md5('new' || :n)::uuid) ON CONFLICT DO NOTHING;
