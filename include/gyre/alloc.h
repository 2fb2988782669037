/*
 * Memory. The library allocates when a loop is created, when its tables grow, and when a small
 * lease is copied out of a pool under pressure: never per message. All of it goes through one
 * replaceable allocator, except the loop itself, the receive pool and the io_uring queues, which
 * are mapped.
 */
#ifndef GYRE_ALLOC_H
#define GYRE_ALLOC_H

#include <gyre/base.h>

GYRE_BEGIN

/**
 * struct gyre_allocator - replaces malloc, calloc, realloc and free for the whole library.
 * @alloc:   as malloc(3).  @zalloc: as calloc(3) with a count of 1.
 * @resize:  as realloc(3). @release: as free(3), NULL included.
 * Returns: alloc, zalloc and resize return memory or NULL.   Thread: called from every thread that
 * creates, runs or destroys a loop.
 * Source: malloc(3).
 */
struct gyre_allocator {
    void *(*alloc)(size_t len);
    void *(*zalloc)(size_t len);
    void *(*resize)(void *memory, size_t len);
    void (*release)(void *memory);
};

/**
 * gyre_allocator_set() - use another allocator from now on.
 * @allocator: copied; all four functions set. NULL: back to the C library's.
 * Returns: 0, -EINVAL when a function is missing, -EBUSY while anything allocated is alive.
 * Thread: any, but before the first loop of the process.
 * Source: docs/contract.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_allocator_set(const struct gyre_allocator *allocator);

/**
 * gyre_allocator_live() - allocations of the library that have not been released.
 * Returns: their number, over all loops of the process.   Thread: any.
 * Source: counted in lib/base/alloc.c.
 */
GYRE_API size_t gyre_allocator_live(void);

GYRE_END

#endif
