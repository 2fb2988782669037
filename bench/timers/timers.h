/*
 * Timers of several libraries behind one table, so that the same driver (main.c) measures them all.
 */
#ifndef BENCH_TIMERS_H
#define BENCH_TIMERS_H

#include <stdint.h>

/*
 * A library's timers, numbered from 0. Every function ends the program when the library fails. All
 * timeouts are whole milliseconds: that is the resolution of libuv.
 */
struct timers {
    const char *name;
    const char *version;

    /* open() - a loop and @count timers that are not running. */
    void (*open)(uint32_t count, const char *backend);

    /* refresh() - bring the loop's idea of now up to date, where it keeps one. */
    void (*refresh)(void);

    /* start() - a timer that is not running. restart() - one that is. stop() - one that is. */
    void (*start)(uint32_t index, uint32_t timeout_ms);
    void (*restart)(uint32_t index, uint32_t timeout_ms);
    void (*stop)(uint32_t index);

    /* run() - run the loop until no timer is running. */
    void (*run)(void);

    void (*close)(void);
};

/* The one that this program was linked with. */
extern const struct timers timers;

/* timers_fired() - what the library's callback calls. */
void timers_fired(uint32_t index);

#endif
