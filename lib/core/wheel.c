/*
 * A hierarchical timer wheel with a tick of one nanosecond.
 *
 * Read a deadline as 11 digits of 6 bits. An alarm sits at the level of the highest digit in which
 * its deadline differs from wheel->now, in the slot that this digit names. So all alarms of a level
 * come before all alarms of the level above, and within a level in order of slots: the first alarm
 * is in the first occupied slot of the lowest occupied level, found by two count-trailing-zeros.
 *
 *     add        one xor and one clz to find the slot, one list append
 *     remove     one list unlink; whoever is the last of a list has the head on both sides, and
 *                the head's address says which slot it is
 *     pop        take the first slot that has begun. If it is over too, and few alarms are in it,
 *                they are all due: sort them, and wheel->now is the slot's end. Else wheel->now is
 *                its beginning, and its alarms are spread over the levels below. (Each alarm moves
 *                at most 10 times in its life, usually 2 or 3. Each move waits for its memory, so
 *                sorting a few at once, levels above the bottom, is what makes an expiry cheap.)
 *
 * Equal deadlines keep their order: they always share a slot (the slot is a function of the
 * deadline and wheel->now), are appended in start order, and slots are spread and sorted from the
 * front, a later one behind its equals.
 *
 * An alarm added at or before wheel->now goes to the due list, sorted in behind its equals; the
 * list is short: what is due is popped in the same turn.
 *
 * gyre__wheel_next() reads the exact first deadline from the first slot's list when the list is
 * short. In a crowd (more than SCAN_MAX) it returns the moment the slot begins: a wake-up too early
 * by some, at which the slot is spread. So the cost of next is bounded, and an idle loop still
 * sleeps exactly.
 */
#include "core/wheel.h"

#include "base/assert.h"
#include "base/list.h"

enum {
    SCAN_MAX = 16, /* alarms looked at to find an exact minimum: a few cache lines */
    SORT_MAX = 16, /* alarms sorted by insertion: at most 120 comparisons */
};

static struct gyre_alarm *alarm_of(struct gyre_link *link)
{
    return gyre_container_of(link, struct gyre_alarm, link);
}

void gyre__wheel_init(struct gyre__wheel *wheel, uint64_t now)
{
    wheel->now = now;
    wheel->nearest = UINT64_MAX;
    wheel->nearest_known = 1;
    gyre__list_init(&wheel->due);
    for (int level = 0; level < GYRE__WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (int slot = 0; slot < GYRE__WHEEL_SLOTS; slot++) {
            gyre__list_init(&wheel->slots[level][slot]);
        }
    }
}

static int level_of(const struct gyre__wheel *wheel, uint64_t deadline)
{
    gyre_assert(deadline > wheel->now);
    return (63 - __builtin_clzll(deadline ^ wheel->now)) / GYRE__WHEEL_BITS;
}

static int slot_of(uint64_t deadline, int level)
{
    return (int)(deadline >> (level * GYRE__WHEEL_BITS)) & (GYRE__WHEEL_SLOTS - 1);
}

/* The due list is sorted; new alarms mostly belong at its end, so search from there. */
static void insert_due(struct gyre__wheel *wheel, struct gyre_alarm *alarm)
{
    struct gyre_link *before = wheel->due.prev;

    __builtin_prefetch(alarm + 1); /* its owner's fields, which the callback wants soon */
    while (before != &wheel->due && alarm_of(before)->deadline_ns > alarm->deadline_ns) {
        before = before->prev;
    }
    gyre__list_append(before->next, &alarm->link);
}

static void place(struct gyre__wheel *wheel, struct gyre_alarm *alarm)
{
    int level;
    int slot;

    if (alarm->deadline_ns <= wheel->now) {
        insert_due(wheel, alarm);
        return;
    }
    level = level_of(wheel, alarm->deadline_ns);
    slot = slot_of(alarm->deadline_ns, level);
    gyre__list_append(&wheel->slots[level][slot], &alarm->link);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

void gyre__wheel_add(struct gyre__wheel *wheel, struct gyre_alarm *alarm, uint64_t deadline)
{
    gyre_assert(!gyre__alarm_active(alarm));
    alarm->deadline_ns = deadline;
    place(wheel, alarm);
    if (deadline < wheel->nearest) {
        wheel->nearest = deadline;
    }
}

/* A list has become empty: if it is a slot, and not one of due alarms, it is not occupied. */
static void vacate(struct gyre__wheel *wheel, const struct gyre_link *head)
{
    const size_t place = (size_t)((uintptr_t)head - (uintptr_t)wheel->slots) / sizeof(*head);

    if (place < GYRE__WHEEL_LEVELS * GYRE__WHEEL_SLOTS) {
        wheel->occupied[place / GYRE__WHEEL_SLOTS] &= ~(UINT64_C(1) << place % GYRE__WHEEL_SLOTS);
    }
}

void gyre__wheel_remove(struct gyre__wheel *wheel, struct gyre_alarm *alarm)
{
    const struct gyre_link *next = alarm->link.next;

    gyre_assert(gyre__alarm_active(alarm));
    if (next == alarm->link.prev) { /* the last of its list: both are the head */
        vacate(wheel, next);
    }
    gyre__list_remove(&alarm->link);
    if (alarm->deadline_ns <= wheel->nearest) {
        wheel->nearest_known = 0;
    }
}

static int lowest_level(const struct gyre__wheel *wheel)
{
    int level = 0;

    while (level < GYRE__WHEEL_LEVELS && wheel->occupied[level] == 0) {
        level++;
    }
    return level;
}

/* The moment at which a slot begins: the digits of now above it, its own digit, zeroes below. */
static uint64_t slot_start(const struct gyre__wheel *wheel, int level, int slot)
{
    const int shift = level * GYRE__WHEEL_BITS;
    const uint64_t above = shift + GYRE__WHEEL_BITS >= 64
                               ? 0
                               : wheel->now >> (shift + GYRE__WHEEL_BITS)
                                                   << (shift + GYRE__WHEEL_BITS);

    return above | (uint64_t)slot << shift;
}

static int is_longer(const struct gyre_link *list, int max)
{
    const struct gyre_link *link = list->next;

    for (int i = 0; i < max && link != list; i++) {
        link = link->next;
    }
    return link != list;
}

/* Go to the first occupied slot if it has begun by @now. Returns 0 when nothing has. */
static int advance(struct gyre__wheel *wheel, uint64_t now)
{
    const int level = lowest_level(wheel);
    struct gyre_link moving;
    uint64_t start;
    uint64_t last; /* moment of the slot */
    int slot;

    if (level == GYRE__WHEEL_LEVELS) {
        return 0;
    }
    slot = __builtin_ctzll(wheel->occupied[level]);
    start = slot_start(wheel, level, slot);
    last = start | ((UINT64_C(1) << (level * GYRE__WHEEL_BITS)) - 1);
    gyre_assert(start > wheel->now);
    if (start > now) {
        return 0;
    }
    wheel->nearest_known = 0;
    wheel->occupied[level] &= ~(UINT64_C(1) << slot);
    gyre__list_take(&moving, &wheel->slots[level][slot]);
    wheel->now = last <= now && !is_longer(&moving, SORT_MAX) ? last : start;
    while (!gyre__list_empty(&moving)) {
        struct gyre_alarm *alarm = alarm_of(moving.next);

        gyre__list_remove(&alarm->link);
        place(wheel, alarm);
    }
    return 1;
}

struct gyre_alarm *gyre__wheel_pop(struct gyre__wheel *wheel, uint64_t now)
{
    struct gyre_alarm *alarm;

    if (wheel->nearest <= now) {
        wheel->nearest_known = 0; /* it was a bound, or is about to be taken out */
    }
    if (now > UINT64_MAX - 1) {
        now = UINT64_MAX - 1; /* UINT64_MAX never comes */
    }
    while (gyre__list_empty(&wheel->due)) {
        if (!advance(wheel, now)) {
            return NULL;
        }
    }
    alarm = alarm_of(wheel->due.next);
    if (alarm->deadline_ns > now) {
        return NULL;
    }
    gyre__list_remove(&alarm->link);
    wheel->nearest_known = 0;
    return alarm;
}

/* The least deadline in a list, or @crowd if the list is too long to look through. */
static uint64_t least_in(const struct gyre_link *list, uint64_t crowd)
{
    uint64_t least = UINT64_MAX;
    int seen = 0;

    for (struct gyre_link *link = list->next; link != list; link = link->next) {
        const uint64_t deadline = alarm_of(link)->deadline_ns;

        if (++seen > SCAN_MAX) {
            return crowd;
        }
        least = deadline < least ? deadline : least;
    }
    return least;
}

static uint64_t find_next(const struct gyre__wheel *wheel)
{
    int level;
    int slot;

    if (!gyre__list_empty(&wheel->due)) {
        return alarm_of(wheel->due.next)->deadline_ns;
    }
    level = lowest_level(wheel);
    if (level == GYRE__WHEEL_LEVELS) {
        return UINT64_MAX;
    }
    slot = __builtin_ctzll(wheel->occupied[level]);
    return least_in(&wheel->slots[level][slot], slot_start(wheel, level, slot));
}

uint64_t gyre__wheel_next(struct gyre__wheel *wheel)
{
    if (!wheel->nearest_known) {
        wheel->nearest = find_next(wheel);
        wheel->nearest_known = 1;
    }
    return wheel->nearest;
}
