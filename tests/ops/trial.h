/*
 * A trial: one operation in a test, and all that became of it. Its callback counts the results,
 * asserts on each that none comes after the final one, and then hands it to the test, if it asked.
 */
#ifndef GYRE_TESTS_OPS_TRIAL_H
#define GYRE_TESTS_OPS_TRIAL_H

#include "harness.h"

struct trial;

/* Told of each result after it was counted; may start the operation again, or free the trial. */
typedef void (*trial_fn)(struct trial *trial, const struct gyre_result *result);

struct trial {
    union {
        struct gyre_op op; /* the first member of the other two */
        struct gyre_connect_op connect;
        struct gyre_msg_op msg;
    };
    int results;    /* callbacks */
    int finals;     /* of them without GYRE_MORE: 0 or 1 */
    int hits;       /* of them with a result >= 0 */
    int32_t res;    /* of the last one */
    uint64_t bytes; /* sum of the results > 0 */
    uint64_t rank;  /* the place of the last one among all results of the process, from 1 */
    trial_fn then;
    void *context; /* the test's own */
};

/* Makes storage an idle trial; @then may be NULL. */
void trial_init(struct trial *trial, trial_fn then, void *context);

/* Turns until the final result; returns it. */
int32_t trial_end(struct gyre_loop *loop, struct trial *trial);

/* Turns that never wait: @count of them. */
void trial_turns(struct gyre_loop *loop, int count);

/* Attaches a descriptor; asserts that it worked. */
void trial_attach(struct gyre_loop *loop, struct gyre_fd *fd, int number);

/* Closes a descriptor, turns until that is done, asserts that it worked. */
void trial_close(struct gyre_loop *loop, struct gyre_fd *fd);

/* The counters, now. */
struct gyre_loop_stats trial_stats(struct gyre_loop *loop);

/* The state of the receive pool, now; asserts that its books balance. */
struct gyre_pool_stats trial_pool(struct gyre_loop *loop);

/* Runs the loop for @span_ns although nothing may happen; returns the turns it took: many when the
 * loop spins. */
uint64_t trial_idle_turns(struct gyre_loop *loop, uint64_t span_ns);

/* A line: one end attached to a loop of its own, the other the test's. */
struct line {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    int peer; /* -1: the test has closed it */
    struct trial closing;
};

/* @pair_of: test_unix_pair or test_tcp_pair. */
void line_open(struct line *line, void (*pair_of)(int pair[2]));

/* Starts to close the attached end; line->closing tells how that went. */
void line_start_close(struct line *line, uint32_t flags);

/* Closes what is still open, and the loop. */
void line_close(struct line *line);

/* A trial_fn that closes the descriptor that an accept delivered. */
void trial_drop_descriptor(struct trial *trial, const struct gyre_result *result);

#endif
