-- Settings: checked when they are set, and again by the table they are kept in.
SELECT name, value, "default", unit, min_value, max_value FROM dashie.settings ORDER BY name COLLATE "C";

SELECT dashie.configure('batch_rows', '500');
SELECT value, "default" FROM dashie.settings WHERE name = 'batch_rows';
SELECT dashie.configure('batch_rows', NULL);
SELECT value FROM dashie.settings WHERE name = 'batch_rows';
TABLE dashie.setting;
SELECT dashie.configure('duplicate_window_hours', '48');
SELECT value, "default" FROM dashie.settings WHERE name = 'duplicate_window_hours';
SELECT dashie.configure('duplicate_window_hours', 'retention');
TABLE dashie.setting;

-- what is refused
SELECT dashie.configure(NULL, '1');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.configure('no_such_setting', '1');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.configure('batch_rows', '0');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.configure('batch_rows', '1000001');
SELECT dashie.configure('batch_rows', '10x');
SELECT dashie.configure('batch_rows', '');
SELECT dashie.configure('batch_rows', '99999999999999999999');
SELECT dashie.configure('duplicate_window_hours', '47');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.configure('duplicate_window_hours', '876001');
SELECT dashie.configure('duplicate_window_hours', '48 hours');
SELECT dashie.configure('duplicate_window_hours', 'Retention');
SELECT dashie.configure('duplicate_window_hours', '');
SELECT dashie.configure('timezone', 'Mars/Olympus');
\echo :LAST_ERROR_SQLSTATE
SELECT dashie.configure('timezone', '');
SELECT dashie.configure('timezone', 'FOO-3:07');

-- a row that configure() would not have written is refused by the table
INSERT INTO dashie.setting VALUES ('batch_rows', 'many');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO dashie.setting VALUES ('duplicate_window_hours', '0');
INSERT INTO dashie.setting VALUES ('no_such_setting', '1');
INSERT INTO dashie.setting VALUES (NULL, '1');

-- a change is undone with its transaction, and the default leaves no row
BEGIN;
SELECT dashie.configure('timezone', 'Asia/Kathmandu');
SELECT value FROM dashie.settings WHERE name = 'timezone';
ROLLBACK;
SELECT value FROM dashie.settings WHERE name = 'timezone';
SELECT dashie.configure('timezone', 'Asia/Kathmandu');
SELECT dashie.configure('timezone', 'UTC');
TABLE dashie.setting;

-- the clock of the tests is a superuser's
CREATE ROLE settings_nobody;
SET ROLE settings_nobody;
SET dashie.now = '2030-01-01';
\echo :LAST_ERROR_SQLSTATE
RESET ROLE;
DROP ROLE settings_nobody;
