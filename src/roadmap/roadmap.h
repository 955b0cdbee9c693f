/*
 * roadmap.h
 *		The ten tables of the roadmap: what is known of them at compile time,
 *		and where each is enabled.
 */
#ifndef DASHIE_ROADMAP_H
#define DASHIE_ROADMAP_H

#include "postgres.h"

/* What the roadmap says about one of its tables. */
typedef struct RoadmapTable
{
	const char *name;
	int			phase;
	const char *phase_name;
	const char *priority;
	const char *trigger_text;
	const char *requires;		/* table enabled first, or NULL */
	bool		uses_metrics;	/* needs the metrics' own tables */
	const char *keep;			/* default retention as interval text, or NULL: for ever */
	const char *strategy;
	const char *time_column;	/* expression that retention ages rows by, or NULL: not removable */
} RoadmapTable;

#define ROADMAP_TABLES 10
extern const RoadmapTable dashie_roadmap_tables[ROADMAP_TABLES];

/* The entry of that name, or NULL. */
extern const RoadmapTable *dashie_roadmap_find(const char *name);
/* The same, but an unknown name or NULL is 22023. */
extern const RoadmapTable *dashie_roadmap_get(const char *name);

/* OID of an enabled table that still exists, else InvalidOid. */
extern Oid	dashie_enabled_oid(const char *table_name);
/* The same, else 55000 with the hint to enable it. */
extern Oid	dashie_enabled_oid_required(const char *table_name);
/* Schema where it is registered, NULL if it is not enabled. */
extern char *dashie_enabled_schema(const char *table_name);

#endif							/* DASHIE_ROADMAP_H */
