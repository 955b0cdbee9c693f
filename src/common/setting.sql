CREATE FUNCTION dashie.setting_valid(name text, value text) RETURNS boolean
LANGUAGE c IMMUTABLE PARALLEL SAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_setting_valid';
COMMENT ON FUNCTION dashie.setting_valid(text, text) IS
'Whether dashie.configure() could have stored this value: the check of table dashie.setting.';
REVOKE ALL ON FUNCTION dashie.setting_valid(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.setting_valid(text, text) TO @extowner@;

CREATE TABLE dashie.setting (
	name text PRIMARY KEY,
	value text NOT NULL,
	CONSTRAINT setting_valid CHECK (dashie.setting_valid(name, value))
);
COMMENT ON TABLE dashie.setting IS
'Settings that differ from their default. Written by dashie.configure(), shown by dashie.settings.';
REVOKE ALL ON TABLE dashie.setting FROM PUBLIC;
GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE dashie.setting TO @extowner@;
SELECT pg_catalog.pg_extension_config_dump('dashie.setting', '');

CREATE FUNCTION dashie.configure(name text, value text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_configure';
COMMENT ON FUNCTION dashie.configure(text, text) IS
'Sets one of dashie.settings for the whole database.
name: the setting; value: its new value, NULL for the default. Units and ranges: dashie.settings.
Errors: 22023 for an unknown name or a value out of range; 55000 for a time zone that finished days can no longer follow.
Source: dashie semantics, "Rules for all".';
REVOKE ALL ON FUNCTION dashie.configure(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.configure(text, text) TO @extowner@;

CREATE FUNCTION dashie.settings_list(
	OUT name text, OUT value text, OUT default_value text, OUT unit text,
	OUT min_value integer, OUT max_value integer, OUT meaning text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE SECURITY INVOKER ROWS 20 AS 'MODULE_PATHNAME', 'dashie_settings_list';
COMMENT ON FUNCTION dashie.settings_list() IS
'The rows of view dashie.settings.';
REVOKE ALL ON FUNCTION dashie.settings_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION dashie.settings_list() TO @extowner@;

CREATE VIEW dashie.settings AS
SELECT s.name, s.value, s.default_value AS "default", s.unit, s.min_value, s.max_value, s.meaning
FROM dashie.settings_list() AS s;
COMMENT ON VIEW dashie.settings IS
'What the product''s owner decides: each setting with its value, default, unit, range and meaning. Change one with dashie.configure(name, value).';
REVOKE ALL ON TABLE dashie.settings FROM PUBLIC;
GRANT SELECT ON TABLE dashie.settings TO @extowner@;
