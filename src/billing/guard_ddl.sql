CREATE FUNCTION dashie.stripe_guard_ddl() RETURNS event_trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY INVOKER AS 'MODULE_PATHNAME', 'dashie_stripe_guard_ddl';
COMMENT ON FUNCTION dashie.stripe_guard_ddl() IS
'Event trigger that keeps the guards of payment records on their tables. DDL of a role that is no superuser fails with 42501 if it would drop, rename, move, rewrite or give away a guarded table, or drop, rename or retype what is guarded, or disable or replace a guard, or add a rule, a parent, a partition or a child. Other DDL passes.
Source: dashie semantics, "stripe_webhook_events (phase 5)".';
REVOKE ALL ON FUNCTION dashie.stripe_guard_ddl() FROM PUBLIC;

CREATE EVENT TRIGGER dashie_guard_start ON ddl_command_start EXECUTE FUNCTION dashie.stripe_guard_ddl();
CREATE EVENT TRIGGER dashie_guard_drop ON sql_drop EXECUTE FUNCTION dashie.stripe_guard_ddl();
CREATE EVENT TRIGGER dashie_guard_rewrite ON table_rewrite EXECUTE FUNCTION dashie.stripe_guard_ddl();
CREATE EVENT TRIGGER dashie_guard_end ON ddl_command_end EXECUTE FUNCTION dashie.stripe_guard_ddl();
ALTER EVENT TRIGGER dashie_guard_start ENABLE ALWAYS;
ALTER EVENT TRIGGER dashie_guard_drop ENABLE ALWAYS;
ALTER EVENT TRIGGER dashie_guard_rewrite ENABLE ALWAYS;
ALTER EVENT TRIGGER dashie_guard_end ENABLE ALWAYS;
