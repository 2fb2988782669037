/*
 * The bytes that are sent, and what comes back must be equal to.
 *
 * Every connection carries one endless periodic stream of pseudo-random bytes. The period is a
 * prime, and each connection starts at its own offset, so that the byte at a given position of a
 * given connection is found only there: a byte that is changed, lost, doubled or delivered to the
 * wrong connection shifts the comparison and is seen with the next bytes. Not seen, by
 * construction: the loss of an exact multiple of the period from one stream. (A closed loop notices
 * that too: it waits for the missing bytes.)
 *
 * The table repeats its beginning after the period, so that any stretch of up to PATTERN_SPAN bytes
 * is contiguous in memory, ready for one send and one memcmp. Nothing is ever computed or copied
 * per message.
 */
#ifndef LOAD_PATTERN_H
#define LOAD_PATTERN_H

#include <stdint.h>

/*
 * The largest prime below 2^16: as many offsets as connections, and a table that stays in the L2
 * cache.
 */
#define PATTERN_PERIOD 65521u

/* The longest stretch sent or compared at once. */
#define PATTERN_SPAN (256u * 1024u)

/**
 * pattern_create() - build the table. Returns: it, to be released with free(3); NULL with errno
 * set.
 */
uint8_t *pattern_create(void);

/** pattern_offset() - where connection @index begins. */
static inline uint32_t pattern_offset(uint32_t index)
{
    return (uint32_t)((uint64_t)index * 7919u % PATTERN_PERIOD);
}

/** pattern_advance() - the place @len bytes after @at. */
static inline uint32_t pattern_advance(uint32_t at, uint32_t len)
{
    return (at + len) % PATTERN_PERIOD;
}

#endif
