#include "core/slots.h"

#include "base/alloc.h"

#include <errno.h>

enum {
    FIRST_CAPACITY = 64,     /* 1 KiB */
    CAPACITY_MAX = 1u << 27, /* 2 GiB of table: more operations than descriptors can exist */
};

static int grow(struct gyre__slots *slots, uint32_t capacity)
{
    struct gyre__slot *table = gyre__resize(slots->table, capacity * sizeof(*table));

    if (table == NULL) {
        return -ENOMEM;
    }
    slots->table = table;
    slots->capacity = capacity;
    return 1;
}

int gyre__slots_init(struct gyre__slots *slots)
{
    *slots = (struct gyre__slots){.fresh = 1};
    if (grow(slots, FIRST_CAPACITY) < 0) {
        return -ENOMEM;
    }
    slots->table[0] = (struct gyre__slot){0};
    return 0;
}

void gyre__slots_fini(struct gyre__slots *slots)
{
    gyre__free(slots->table);
    *slots = (struct gyre__slots){0};
}

int gyre__slots_grow(struct gyre__slots *slots, size_t total)
{
    uint32_t capacity = slots->capacity;

    if (total >= CAPACITY_MAX) {
        return -ENOMEM;
    }
    while (capacity <= total) {
        capacity *= 2;
    }
    return grow(slots, capacity);
}
