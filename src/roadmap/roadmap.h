/*
 * roadmap.h
 *		The ten tables of the roadmap: what is known of them at compile time,
 *		and where each is enabled.
 */
#ifndef DASHIE_ROADMAP_H
#define DASHIE_ROADMAP_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "utils/rel.h"

#include "common/owner.h"

/* What the roadmap waits for before a table is added. */
typedef enum RoadmapTrigger
{
	TRIGGER_DECISION = 0, /* a person decides */
	TRIGGER_USERS,		  /* enough users */
	TRIGGER_BETA_OFF	  /* access_control_config: beta_mode_enabled */
} RoadmapTrigger;

/* What the roadmap says about one of its tables. */
typedef struct RoadmapTable
{
	const char *name;
	int phase;
	const char *phase_name;
	const char *priority;
	const char *trigger_text;
	RoadmapTrigger trigger;
	int trigger_users;	  /* for TRIGGER_USERS */
	const char *requires; /* table enabled first, or NULL */
	bool uses_metrics;	  /* needs the metrics' own tables */
	const char *keep;	  /* default retention as interval text, or NULL: for ever */
	const char *strategy;
	const char *time_column; /* expression that retention ages rows by, or NULL: not removable */
} RoadmapTable;

#define ROADMAP_TABLES 10
extern const RoadmapTable dashie_roadmap_tables[ROADMAP_TABLES];

/* The entry of that name, or NULL. */
extern const RoadmapTable *dashie_roadmap_find(const char *name);
/* The same, but an unknown name or NULL is 22023. */
extern const RoadmapTable *dashie_roadmap_get(const char *name);

/* OID of an enabled table that still exists, else InvalidOid. */
extern Oid dashie_enabled_oid(const char *table_name);
/* The same, else 55000 with the hint to enable it. */
extern Oid dashie_enabled_oid_required(const char *table_name);
/* Schema where it is registered, NULL if it is not enabled. */
extern char *dashie_enabled_schema(const char *table_name);

/* DROP EXTENSION is to drop the triggers of a table that call functions of ours. */
extern void dashie_enable_tie_triggers(Oid relid);

/* ddl.c: for a capability's tables in schema dashie, inside enable() */
extern void dashie_ddl_own(const char *name);
extern void dashie_ddl_share(Oid relid, const char *rights, const char *tables);

/*
 * Inside the slice: one table on its way to being enabled.
 */

/* What was left out because Supabase's roles or auth.uid() are not there. */
typedef struct EnableSkipped
{
	List *missing; /* of char *, each once: 'role "anon"', 'function auth.uid()' */
} EnableSkipped;

typedef struct Enabling
{
	const DashieGuard *guard;
	const RoadmapTable *table;
	const char *schema;
	EnableSkipped *skipped;
	const char *sql; /* the DDL being run, for error messages */

	Oid relid;		   /* once it exists */
	bool existed;	   /* before this call: compare, and add what is missing */
	bool registered;   /* was enabled before this call: its rights are the owner's matter */
	int changes;	   /* statements run */
	List *differences; /* of char *: why the table cannot be adopted */
} Enabling;

/* registry.c */
extern Relation dashie_registry_lock(void);
extern void dashie_registry_check(const RangeVar *name, Oid relid, Oid old_relid, void *arg);

/* ddl.c */
extern List *dashie_ddl_parse(const char *sql);
extern char *dashie_ddl_fill(const char *ddl, const char *schema, const char *user_sessions);
extern void dashie_ddl_execute(const char *sql, Node *statement);
extern void dashie_ddl_run(Enabling *enabling, Node *statement);
extern void
dashie_ddl_differ(Enabling *enabling, const char *format, ...) pg_attribute_printf(2, 3);

/* adopt.c */
extern void dashie_adopt_columns(Enabling *enabling, CreateStmt *statement);
extern void dashie_adopt_constraints(Enabling *enabling, CreateStmt *statement);
extern void dashie_adopt_column(Enabling *enabling, AlterTableCmd *command);
extern void dashie_adopt_constraint(Enabling *enabling, Constraint *constraint);
extern void dashie_adopt_index(Enabling *enabling, IndexStmt *statement);

/* access.c */
extern void dashie_access_policy(Enabling *enabling, CreatePolicyStmt *statement);
extern void dashie_access_grant(Enabling *enabling, GrantStmt *statement);
extern void dashie_access_adopt(Enabling *enabling);
extern void dashie_access_private(void);
extern void dashie_access_report(const EnableSkipped *skipped);

/* users.c */
extern void dashie_users_require(void);
extern bool dashie_users_count(int64 *count, const char **problem);

#endif /* DASHIE_ROADMAP_H */
