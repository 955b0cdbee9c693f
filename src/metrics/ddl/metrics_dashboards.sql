-- The trigger on dashboards that keeps the first heartbeat of each day.
CREATE TRIGGER dashie_heartbeat AFTER INSERT OR UPDATE OF last_heartbeat_at ON @table@
	FOR EACH ROW EXECUTE FUNCTION dashie.heartbeat_changed();
