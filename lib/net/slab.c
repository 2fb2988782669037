#include "net/slab.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdint.h>

struct gyre__slab_page {
    struct gyre__slab_page *next;
    max_align_t objects[];
};

void gyre__slab_init(struct gyre__slab *slab, size_t size, size_t per_page,
                     void (*construct)(void *object))
{
    const size_t align = _Alignof(max_align_t);

    *slab = (struct gyre__slab){
        .size = (size + align - 1) / align * align, .per_page = per_page, .construct = construct};
    gyre_assert(size >= sizeof(void *) && per_page > 0);
}

void gyre__slab_fini(struct gyre__slab *slab)
{
    gyre_assert(slab->used == 0);
    while (slab->pages != NULL) {
        struct gyre__slab_page *page = slab->pages;

        slab->pages = page->next;
        gyre__free(page);
    }
    slab->free = NULL;
}

int gyre__slab_grow(struct gyre__slab *slab)
{
    struct gyre__slab_page *page = gyre__alloc(sizeof(*page) + slab->per_page * slab->size);

    if (page == NULL) {
        return -ENOMEM;
    }
    page->next = slab->pages;
    slab->pages = page;
    for (size_t i = slab->per_page; i-- > 0;) {
        void *object = (uint8_t *)page->objects + i * slab->size;

        if (slab->construct != NULL) {
            slab->construct(object);
        }
        *(void **)object = slab->free;
        slab->free = object;
    }
    return 0;
}
