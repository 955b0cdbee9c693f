/*
 * dashie.h
 *		Server settings of the process: what src/dashie.c defines.
 */
#ifndef DASHIE_H
#define DASHIE_H

#include "postgres.h"

extern bool dashie_launcher_enabled;
extern int dashie_naptime;
extern int dashie_max_workers;
extern char *dashie_now_override; /* timestamptz text; empty: the real clock */

#endif /* DASHIE_H */
