/*
 * Posting from another thread, behind one table, so that the same driver (main.c) measures all.
 *
 * libuv and a plain eventfd only wake a loop; what was posted travels in the queue of queue.c, under
 * a mutex, as a program on them has to do it.
 */
#ifndef BENCH_POST_H
#define BENCH_POST_H

#include <stdint.h>

/* Posts that may be under way; the driver posts no more. */
#define POST_IN_FLIGHT_MAX 4096u

struct poster {
    const char *name;

    /* open() - a loop, in the thread that will run it. Ends the program when it fails. */
    void (*open)(const char *backend);

    /* post() - from the other thread: have post_arrived(number) called in the loop's. */
    void (*post)(uint64_t number);

    /* run() - run the loop until post_arrived() says that it is over. */
    void (*run)(void);

    void (*close)(void);
};

/* The one that this program was linked with. */
extern const struct poster poster;

/* post_arrived() - called in the loop's thread for each post. Returns: 1 when that was the last. */
int post_arrived(uint64_t number);

/* queue_push() - from the other thread. queue_take_all() - post_arrived() for everything in it.
 * Returns: 1 when the last has come. */
void queue_push(uint64_t number);
int queue_take_all(void);

#endif
