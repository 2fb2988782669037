/* The one way to memory: the allocator of gyre/alloc.h, counted. */
#ifndef GYRE_BASE_ALLOC_H
#define GYRE_BASE_ALLOC_H

#include <gyre/alloc.h>

void *gyre__alloc(size_t len);
void *gyre__zalloc(size_t len);
void *gyre__resize(void *memory, size_t len);
void gyre__free(void *memory);

#endif
