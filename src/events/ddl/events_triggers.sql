-- The triggers on widget_analytics that say which time a transaction changed.
-- Partitions get the first one with the parent's other row triggers. ALWAYS: a
-- change counts also in a session that plays a replica.
CREATE TRIGGER dashie_changed AFTER INSERT OR UPDATE OR DELETE ON @table@
	FOR EACH ROW EXECUTE FUNCTION dashie.events_changed();
CREATE TRIGGER dashie_truncated AFTER TRUNCATE ON @table@
	FOR EACH STATEMENT EXECUTE FUNCTION dashie.events_changed();
ALTER TABLE @table@ ENABLE ALWAYS TRIGGER dashie_changed;
ALTER TABLE @table@ ENABLE ALWAYS TRIGGER dashie_truncated;
