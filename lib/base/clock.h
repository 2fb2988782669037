/* The one clock: CLOCK_MONOTONIC in nanoseconds. */
#ifndef GYRE_BASE_CLOCK_H
#define GYRE_BASE_CLOCK_H

#include <stdint.h>

uint64_t gyre__clock_now(void);

/* A sum of times that stays at "never" instead of wrapping. */
static inline uint64_t gyre__time_add(uint64_t moment_ns, uint64_t duration_ns)
{
    uint64_t sum;

    return __builtin_add_overflow(moment_ns, duration_ns, &sum) ? UINT64_MAX : sum;
}

#endif
