/*
 * Slots name what the kernel is told about. A name is (slot, generation) in 64 bits; looking it up
 * gives the object, or NULL when that activation has ended: each release makes a new generation, so
 * a late completion, cancel or event cannot reach whoever has the slot next.
 */
#ifndef GYRE_CORE_SLOTS_H
#define GYRE_CORE_SLOTS_H

#include "base/assert.h"

#include <stddef.h>
#include <stdint.h>

/* Names that no object has: the completion is not waited for. */
#define GYRE__NAME_NONE UINT64_C(0)

struct gyre__slot {
    void *object;
    uint32_t generation;
    uint32_t next_free;
};

struct gyre__slots {
    struct gyre__slot *table; /* table[0] is of nobody, so that slot 0 means none */
    uint32_t capacity;
    uint32_t used;
    uint32_t fresh; /* from here on none was ever taken; they are not even written */
    uint32_t first_free;
};

static inline uint64_t gyre__name(uint32_t slot, uint32_t generation)
{
    return (uint64_t)generation << 32 | slot;
}

int gyre__slots_init(struct gyre__slots *slots);
void gyre__slots_fini(struct gyre__slots *slots);

/* Make room for @total objects. Returns 1 or -ENOMEM. */
int gyre__slots_grow(struct gyre__slots *slots, size_t total);

/* Have room for @total objects at a time. Returns 1 if it had to allocate, 0 if not, -ENOMEM. */
static inline int gyre__slots_reserve(struct gyre__slots *slots, size_t total)
{
    return total < slots->capacity ? 0 : gyre__slots_grow(slots, total);
}

/* Room must have been reserved. */
static inline uint32_t gyre__slots_take(struct gyre__slots *slots, void *object,
                                        uint32_t *out_generation)
{
    uint32_t slot = slots->first_free;
    struct gyre__slot *entry = &slots->table[slot];

    if (slot == 0) {
        slot = slots->fresh++;
        entry = &slots->table[slot];
        gyre_assert(slot < slots->capacity);
        *entry = (struct gyre__slot){.generation = 1};
    }
    gyre_assert(object != NULL);
    slots->first_free = entry->next_free;
    slots->used++;
    entry->object = object;
    *out_generation = entry->generation;
    return slot;
}

static inline void gyre__slots_release(struct gyre__slots *slots, uint32_t slot)
{
    struct gyre__slot *entry = &slots->table[slot];

    gyre_assert(slot != 0 && slot < slots->fresh && entry->object != NULL);
    entry->object = NULL;
    entry->generation++;
    entry->next_free = slots->first_free;
    slots->first_free = slot;
    slots->used--;
}

static inline void *gyre__slots_find(const struct gyre__slots *slots, uint64_t name)
{
    const uint32_t slot = (uint32_t)name;

    if (slot >= slots->fresh || slots->table[slot].generation != name >> 32) {
        return NULL;
    }
    return slots->table[slot].object;
}

/*
 * The objects that events or completions of one batch name are each somewhere else. With many of
 * them none is in the cache when its turn comes, so the next is fetched while the one before is
 * served, and before that, where it is. No address harms a prefetch: not NULL, nor that of another
 * who has the slot now.
 */
static inline void gyre__slots_prefetch(const struct gyre__slots *slots, uint64_t name)
{
    if ((uint32_t)name < slots->fresh) {
        __builtin_prefetch(&slots->table[(uint32_t)name]);
    }
}

/* Four lines of what the object is part of, which begins @offset bytes from it. */
static inline void gyre__slots_prefetch_object(const struct gyre__slots *slots, uint64_t name,
                                               int offset)
{
    enum { LINES = 4, LINE = 64 };

    if ((uint32_t)name < slots->fresh) {
        const uintptr_t object = (uintptr_t)slots->table[(uint32_t)name].object;
        const uintptr_t first = object + (uintptr_t)offset;

        for (uintptr_t i = 0; i < LINES; i++) {
            __builtin_prefetch((const void *)(first + i * LINE), 1);
        }
    }
}

#endif
