/*
 * marks.h
 *		What a refresh needs of the changed-day marks.
 */
#ifndef DASHIE_MARKS_H
#define DASHIE_MARKS_H

#include "postgres.h"

/*
 * Writes the marks that the current transaction has collected so far, so that
 * a refresh inside it sees them together with the rows.
 */
extern void dashie_marks_flush(void);

#endif /* DASHIE_MARKS_H */
