#include "core/slots.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

enum {
    FIRST_CAPACITY = 64,     /* 1 KiB */
    CAPACITY_MAX = 1u << 27, /* 2 GiB of table: more operations than descriptors can exist */
};

/* Slots are handed out lowest first, as file descriptors are: the table stays dense and warm. */
static void add_free(struct gyre__slots *slots, uint32_t from, uint32_t to)
{
    for (uint32_t slot = to; slot-- > from;) {
        slots->table[slot] = (struct gyre__slot){.generation = 1, .next_free = slots->first_free};
        slots->first_free = slot;
    }
}

static int grow(struct gyre__slots *slots, uint32_t capacity)
{
    struct gyre__slot *table = gyre__resize(slots->table, capacity * sizeof(*table));
    const uint32_t from = slots->capacity == 0 ? 1 : slots->capacity;

    if (table == NULL) {
        return -ENOMEM;
    }
    slots->table = table;
    add_free(slots, from, capacity);
    slots->table[0] = (struct gyre__slot){0};
    slots->capacity = capacity;
    return 1;
}

int gyre__slots_init(struct gyre__slots *slots)
{
    *slots = (struct gyre__slots){0};
    return grow(slots, FIRST_CAPACITY) < 0 ? -ENOMEM : 0;
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
