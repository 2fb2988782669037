/* The one way to memory: the allocator of gyre/alloc.h, counted. */
#ifndef GYRE_BASE_ALLOC_H
#define GYRE_BASE_ALLOC_H

#include <gyre/alloc.h>

void *gyre__alloc(size_t len);
void *gyre__zalloc(size_t len);
void *gyre__resize(void *memory, size_t len);
void gyre__free(void *memory);

/* Zeroed memory of its own pages, not counted; munmap(2) frees it. In a forked child it is all
 * zero again, so that what must not be used there can be told by a field that never is. */
void *gyre__map_wiped(size_t len);

#endif
