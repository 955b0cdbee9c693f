/*
 * huge_pages.h
 *		Large arrays in large pages.
 */
#ifndef DASHIE_HUGE_PAGES_H
#define DASHIE_HUGE_PAGES_H

#include "postgres.h"

/*
 * Asks for huge pages for memory that is about to be filled; changes nothing in what
 * it holds.  Only whole huge pages within it can be had.
 */
extern void dashie_huge_pages(void *memory, Size size);

/*
 * The same for memory that is allocated for it, not zeroed, and that begins with a
 * huge page if it has the size of one.  *chunk is what is to be pfree'd.
 */
extern void *dashie_huge_alloc(MemoryContext context, Size size, void **chunk);

#endif /* DASHIE_HUGE_PAGES_H */
