/*
 * setting.h
 *		Settings of the product's owner: dashie.configure(), dashie.settings.
 *
 * They are rows of dashie.setting, only where they differ from the default
 * compiled in here.  Each call reads the table with a fresh catalog-style
 * scan: no cache, no user code.
 */
#ifndef DASHIE_SETTING_H
#define DASHIE_SETTING_H

#include "postgres.h"

extern char *dashie_setting_text(const char *name);
extern int64 dashie_setting_int(const char *name); /* 0 for hours that are the retention */
extern bool dashie_setting_bool(const char *name);

#endif /* DASHIE_SETTING_H */
