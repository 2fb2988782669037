/* Small integer helpers. */
#ifndef GYRE_BASE_BITS_H
#define GYRE_BASE_BITS_H

#include <stdint.h>

/* The least power of two that is not less than @least, which is at most 2^31. */
static inline uint32_t gyre__power_of_two(uint32_t least)
{
    uint32_t power = 1;

    while (power < least) {
        power *= 2;
    }
    return power;
}

#endif
