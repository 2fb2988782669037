/*
 * The table of the pattern; its idea is in pattern.h.
 */
#include "pattern.h"

#include <stdlib.h>

#define TABLE_SIZE (PATTERN_PERIOD + PATTERN_SPAN)

/* splitmix64: every state gives another value, and neighbouring states have nothing in common. */
static uint64_t mix(uint64_t state)
{
    state += UINT64_C(0x9e3779b97f4a7c15);
    state = (state ^ (state >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    state = (state ^ (state >> 27)) * UINT64_C(0x94d049bb133111eb);
    return state ^ (state >> 31);
}

uint8_t *pattern_create(void)
{
    uint8_t *table = malloc(TABLE_SIZE);

    if (table == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        table[i] = (uint8_t)mix(i % PATTERN_PERIOD);
    }
    return table;
}
