/* The timer wheel: alarms in order of their deadlines. See wheel.c. */
#ifndef GYRE_CORE_WHEEL_H
#define GYRE_CORE_WHEEL_H

#include "base/list.h"

#include <gyre/timer.h>

#define GYRE__WHEEL_BITS   6
#define GYRE__WHEEL_SLOTS  (1 << GYRE__WHEEL_BITS)
/* 11 levels of 6 bits cover the 64 bits of a deadline: no alarm is ever out of range. */
#define GYRE__WHEEL_LEVELS 11

struct gyre__wheel {
    uint64_t now; /* every alarm before this is in the due list */
    uint64_t occupied[GYRE__WHEEL_LEVELS];
    uint64_t nearest; /* cached result of gyre__wheel_next(); valid if nearest_known */
    int nearest_known;
    struct gyre_link due;
    struct gyre_link slots[GYRE__WHEEL_LEVELS][GYRE__WHEEL_SLOTS];
};

void gyre__wheel_init(struct gyre__wheel *wheel, uint64_t now);

/* An alarm that is in no wheel; needed before the first add. */
static inline void gyre__alarm_init(struct gyre_alarm *alarm)
{
    gyre__list_init(&alarm->link);
}

static inline int gyre__alarm_active(const struct gyre_alarm *alarm)
{
    return !gyre__list_empty(&alarm->link);
}

/* @deadline UINT64_MAX is allowed and never comes. The alarm must not be active. */
void gyre__wheel_add(struct gyre__wheel *wheel, struct gyre_alarm *alarm, uint64_t deadline);
void gyre__wheel_remove(struct gyre__wheel *wheel, struct gyre_alarm *alarm);

/* Take out the first alarm whose deadline is at or before @now, or return NULL. */
struct gyre_alarm *gyre__wheel_pop(struct gyre__wheel *wheel, uint64_t now);

/* When to look again: the first deadline, or, in a crowd, a moment before it. UINT64_MAX: never. */
uint64_t gyre__wheel_next(struct gyre__wheel *wheel);

#endif
