/*
 * Memory for objects of one size: taken from the allocator in pages of many, reused last in, first
 * out, so that what is taken next is what is in the cache. A burst's memory is kept for the next.
 */
#ifndef GYRE_NET_SLAB_H
#define GYRE_NET_SLAB_H

#include "base/assert.h"
#include "base/rare.h"

#include <stddef.h>

struct gyre__slab {
    size_t size; /* of an object */
    size_t per_page;
    void (*construct)(void *object);
    struct gyre__slab_page *pages;
    void *free; /* the first free object; each holds the next */
    size_t used;
};

/* @construct, unless NULL, prepares new memory once; of what it wrote, all but the first eight bytes
 * is still there whenever the object is taken. */
void gyre__slab_init(struct gyre__slab *slab, size_t size, size_t per_page,
                     void (*construct)(void *object));

/* Nothing may be in use. */
void gyre__slab_fini(struct gyre__slab *slab);

/* Get memory for one more page. Returns 0 or -ENOMEM. */
GYRE__RARE int gyre__slab_grow(struct gyre__slab *slab);

/* Not zeroed; NULL when there is no memory. */
static inline void *gyre__slab_take(struct gyre__slab *slab)
{
    void *object;

    if (slab->free == NULL && gyre__slab_grow(slab) < 0) {
        return NULL;
    }
    object = slab->free;
    slab->free = *(void **)object;
    slab->used++;
    return object;
}

static inline void gyre__slab_give(struct gyre__slab *slab, void *object)
{
    gyre_assert(slab->used > 0);
    slab->used--;
    *(void **)object = slab->free;
    slab->free = object;
}

#endif
