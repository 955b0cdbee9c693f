-- Seals are written once (src/billing/seal_guard.c), whatever replication role a session takes.
CREATE TRIGGER dashie_guard_delete BEFORE DELETE ON dashie.audit_seal
	FOR EACH ROW EXECUTE FUNCTION dashie.seal_guard();
CREATE TRIGGER dashie_guard_update AFTER UPDATE ON dashie.audit_seal
	FOR EACH ROW EXECUTE FUNCTION dashie.seal_guard();
CREATE TRIGGER dashie_guard_truncate BEFORE TRUNCATE ON dashie.audit_seal
	FOR EACH STATEMENT EXECUTE FUNCTION dashie.seal_guard();
ALTER TABLE dashie.audit_seal ENABLE ALWAYS TRIGGER dashie_guard_delete;
ALTER TABLE dashie.audit_seal ENABLE ALWAYS TRIGGER dashie_guard_update;
ALTER TABLE dashie.audit_seal ENABLE ALWAYS TRIGGER dashie_guard_truncate;
