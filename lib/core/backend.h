/*
 * What a driver does for the core. A driver is told of operations that may start (arm) and of those
 * that should end (cancel); in wait() it learns what happened, and in dispatch() it hands results
 * to the core: gyre__op_finish() for the last one, gyre__op_emit() for one of many. Callbacks run
 * inside these two, so a driver calls them from dispatch() and resume() only.
 */
#ifndef GYRE_CORE_BACKEND_H
#define GYRE_CORE_BACKEND_H

#include <gyre/loop.h>

struct gyre__backend {
    enum gyre_backend id;
    const char *name;

    /* 1: what is started is tried at once, so collecting it until the end of the turn saves
     * nothing. */
    int tries_at_once;

    /* Set loop->driver, the driver's own, and the pool. Returns 0, or an error with nothing
     * left. */
    int (*init)(struct gyre_loop *loop, const struct gyre_loop_options *options);
    void (*fini)(struct gyre_loop *loop);

    /* Begin, or go on with, an operation that has its turn on its descriptor. Must not run
     * callbacks: what completes at once goes through gyre__op_ready(). */
    void (*arm)(struct gyre_op *op);

    /* An operation in state TRY has its turn in dispatch. */
    void (*resume)(struct gyre_op *op);

    /* End an ARMED operation soon. Must not run callbacks. */
    void (*cancel)(struct gyre_op *op);

    /* Submit; wait until something happens or until @deadline_ns (0: do not wait); take in what
     * happened. At once when something taken in before was not dispatched yet. Returns 0 or an
     * error that ends the loop. */
    int (*wait)(struct gyre_loop *loop, uint64_t deadline_ns);

    /* Hand out the results that wait() took in. */
    void (*dispatch)(struct gyre_loop *loop);

    /* 1 if wait() would submit or find something. */
    int (*peek)(struct gyre_loop *loop);

    /* A descriptor leaves the loop but stays open: forget it. */
    void (*forget)(struct gyre_fd *fd);

    /* What polls readable when wait() would find something, or an error. */
    int (*pollable)(struct gyre_loop *loop);

    void (*info)(const struct gyre_loop *loop, struct gyre_loop_info *out_info);
};

#endif
