/*
 * owner.h
 *		With whose rights code of dashie runs.
 *
 * Every entry point that touches a relation, ours or the application's, runs
 * between dashie_enter() and dashie_leave().  See owner.c for the rules.
 */
#ifndef DASHIE_OWNER_H
#define DASHIE_OWNER_H

#include "postgres.h"

typedef struct DashieGuard
{
	Oid caller;			/* who called; may be a superuser */
	int caller_context; /* security context of the call */
	Oid owner;			/* owner of the extension */
	int guc_nest;
} DashieGuard;

extern void dashie_enter(DashieGuard *guard);
extern void dashie_become(const DashieGuard *guard, Oid role);
extern Oid dashie_owner_of(Oid relid);
extern void dashie_become_owner_of(const DashieGuard *guard, Oid relid);
extern void dashie_restrict(void);
extern void dashie_leave(DashieGuard *guard);

extern Oid dashie_extension_oid(void);
extern void dashie_require_owner(Oid relid);

#endif /* DASHIE_OWNER_H */
