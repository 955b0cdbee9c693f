/*
 * huge_pages.c
 *		Large arrays in large pages.
 *
 * An array of megabytes that is visited anywhere costs, beside the wait for its
 * memory, a look for the place of each small page; and each page an interrupt
 * when it is first touched.  The kernel may have transparent huge pages for those
 * who ask (madvise in /sys/kernel/mm/transparent_hugepage/enabled).
 */
#include "postgres.h"

#include <sys/mman.h>

#include "utils/memutils.h"

#include "common/huge_pages.h"

#define HUGE_PAGE ((Size) 2 * 1024 * 1024)

void
dashie_huge_pages(void *memory, Size size)
{
#ifdef MADV_HUGEPAGE
	uintptr_t from = TYPEALIGN(HUGE_PAGE, memory);
	uintptr_t upto = TYPEALIGN_DOWN(HUGE_PAGE, (uintptr_t) memory + size);

	/* a kernel without them says no, which is as good */
	if (from < upto)
		(void) madvise((void *) from, upto - from, MADV_HUGEPAGE);
#endif
}

void *
dashie_huge_alloc(MemoryContext context, Size size, void **chunk)
{
	Size slack = size < HUGE_PAGE ? 0 : HUGE_PAGE;
	void *memory;

	*chunk = memory = MemoryContextAllocHuge(context, size + slack);
	if (slack > 0)
	{
		memory = (void *) TYPEALIGN(HUGE_PAGE, memory);
		dashie_huge_pages(memory, size);
	}
	return memory;
}
