/*
 * catalog.c
 *		The roadmap: what is known of its ten tables at compile time.
 *
 * Pure data.  The order is the roadmap's by phase, and one in which a table
 * stands after those that it needs.
 */
#include "postgres.h"

#include "roadmap/roadmap.h"

const RoadmapTable dashie_roadmap_tables[ROADMAP_TABLES] = {
	{
		.name = "stripe_webhook_events",
		.phase = 5,
		.phase_name = "Stripe",
		.priority = "high",
		.trigger_text = "Before disabling beta mode",
		.trigger = TRIGGER_BETA_OFF,
		.keep = "7 years",
		.strategy = "Legal requirement: guarded, then deleted in batches",
		.time_column = "created_at",
	},
	{
		.name = "system_events",
		.phase = 7,
		.phase_name = "Analytics",
		.priority = "medium",
		.trigger_text = "After 50+ users",
		.trigger = TRIGGER_USERS,
		.trigger_users = 50,
		.keep = "90 days",
		.strategy = "Old events are deleted in batches",
		.time_column = "created_at",
	},
	{
		.name = "user_sessions",
		.phase = 7,
		.phase_name = "Analytics",
		.priority = "medium",
		.trigger_text = "After 100+ users",
		.trigger = TRIGGER_USERS,
		.trigger_users = 100,
		.uses_metrics = true,
		.keep = "90 days",
		.strategy = "Old sessions are deleted in batches, once their days are in the metrics",
		.time_column = "coalesce(ended_at, last_activity_at, started_at)",
	},
	{
		.name = "daily_metrics",
		.phase = 7,
		.phase_name = "Analytics",
		.priority = "medium",
		.trigger_text = "After 100+ users",
		.trigger = TRIGGER_USERS,
		.trigger_users = 100,
		.uses_metrics = true,
		.strategy = "Small, aggregated",
	},
	{
		.name = "dashboards",
		.phase = 8,
		.phase_name = "Multi-Device",
		.priority = "medium",
		.trigger_text = "When users request it",
		.strategy = "One row a device",
		.time_column = "coalesce(last_heartbeat_at, created_at)",
	},
	{
		.name = "widget_analytics",
		.phase = 9,
		.phase_name = "Advanced Analytics",
		.priority = "low",
		.trigger_text = "Only if needed for decisions",
		.requires = "user_sessions",
		.keep = "30 days",
		.strategy = "Daily partitions, dropped whole",
		.time_column = "\"timestamp\"",
	},
	{
		.name = "geographic_stats",
		.phase = 9,
		.phase_name = "Advanced Analytics",
		.priority = "low",
		.trigger_text = "If targeting regions",
		.uses_metrics = true,
		.strategy = "One row a country, refreshed in place",
	},
	{
		.name = "account_clusters",
		.phase = 10,
		.phase_name = "Fraud Prevention",
		.priority = "low",
		.trigger_text = "If abuse detected",
		.strategy = "Kept until changed with dashie.set_retention()",
		.time_column = "first_detected_at",
	},
	{
		.name = "abuse_patterns",
		.phase = 10,
		.phase_name = "Fraud Prevention",
		.priority = "low",
		.trigger_text = "If abuse detected",
		.strategy = "Kept until changed with dashie.set_retention()",
		.time_column = "detected_at",
	},
	{
		.name = "feature_usage",
		.phase = 11,
		.phase_name = "Usage-Based Billing",
		.priority = "low",
		.trigger_text = "If usage-based pricing",
		.strategy = "Kept until changed with dashie.set_retention()",
		.time_column = "reset_date",
	},
};

const RoadmapTable *
dashie_roadmap_find(const char *name)
{
	for (int i = 0; i < ROADMAP_TABLES; i++)
		if (strcmp(dashie_roadmap_tables[i].name, name) == 0)
			return &dashie_roadmap_tables[i];
	return NULL;
}

const RoadmapTable *
dashie_roadmap_get(const char *name)
{
	const RoadmapTable *table;

	if (name == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("argument \"table_name\" must not be NULL")));
	table = dashie_roadmap_find(name);
	if (table == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("\"%s\" is not a table of the roadmap", name),
						errhint("SELECT table_name FROM dashie.roadmap lists them.")));
	return table;
}
