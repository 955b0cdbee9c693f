/*
 * presize.c
 *		Grows arrays that are indexed by numbers.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "common/huge_pages.h"
#include "common/presize.h"

#define MIN_SIZE 1024

void *
dashie_presize(MemoryContext context, void *array, int32 *size, int32 highest, Size element)
{
	Size old_size = *size;
	Size new_size = Max((Size) highest + 1, Max(old_size + old_size / 2, MIN_SIZE));

	if (highest < *size)
		return array;
	new_size = Min(new_size, PG_INT32_MAX);
	array = array == NULL ? MemoryContextAllocHuge(context, new_size * element)
						  : repalloc_huge(array, new_size * element);
	dashie_huge_pages((char *) array + old_size * element, (new_size - old_size) * element);
	memset((char *) array + old_size * element, 0, (new_size - old_size) * element);
	*size = (int32) new_size;
	return array;
}
