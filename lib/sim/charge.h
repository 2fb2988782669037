/* What Linux charges a socket for a message that waits: more than its bytes. */
#ifndef GYRE_SIM_CHARGE_H
#define GYRE_SIM_CHARGE_H

#include <stddef.h>
#include <stdint.h>

enum {
    SIM_CHARGE_HEAD = 256,  /* struct sk_buff */
    SIM_CHARGE_TAIL = 320,  /* struct skb_shared_info, behind the first bytes */
    SIM_CHARGE_LEAST = 512, /* what the allocator hands out for those of a small message */
    SIM_CHARGE_PAGE = 4096,
    SIM_CHARGE_LINEAR = SIM_CHARGE_PAGE - SIM_CHARGE_TAIL,
    SIM_CHARGE_LINEAR_LARGE = 4 * SIM_CHARGE_PAGE - SIM_CHARGE_TAIL,
};

/* The first bytes lie in one allocation, whose size is a power of two; the others in pages. */
static inline uint32_t gyre__sim_charge_parts(size_t linear, size_t paged)
{
    const size_t pages = (paged + SIM_CHARGE_PAGE - 1) / SIM_CHARGE_PAGE;
    size_t first = SIM_CHARGE_LEAST;

    while (first < linear + SIM_CHARGE_TAIL) {
        first *= 2;
    }
    return (uint32_t)(SIM_CHARGE_HEAD + first + pages * SIM_CHARGE_PAGE);
}

static inline uint32_t gyre__sim_charge(size_t len)
{
    const size_t linear = len < SIM_CHARGE_LINEAR ? len : SIM_CHARGE_LINEAR;

    return gyre__sim_charge_parts(linear, len - linear);
}

/* Of a Unix socket: what is more than @linear goes to whole pages, and these are filled first. */
static inline uint32_t gyre__sim_charge_unix(size_t len, int is_stream)
{
    const size_t linear = is_stream ? SIM_CHARGE_LINEAR : SIM_CHARGE_LINEAR_LARGE;
    const size_t more = len > linear ? len - linear : 0;
    const size_t pages = (more + SIM_CHARGE_PAGE - 1) / SIM_CHARGE_PAGE * SIM_CHARGE_PAGE;
    const size_t paged = pages < len ? pages : len;

    return gyre__sim_charge_parts(len - paged, paged);
}

#endif
