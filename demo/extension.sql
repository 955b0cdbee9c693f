-- The whole of an installation, by a role that is not a superuser.

CREATE EXTENSION dashie;
SELECT dashie.configure('timezone', 'America/New_York');
SELECT * FROM dashie.enable();
