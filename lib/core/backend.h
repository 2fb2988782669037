/*
 * What a driver does for the core. A driver is told of operations that may start (arm) and of those
 * that should end (cancel); in wait() it learns what happened, and in dispatch() it hands results
 * to the core: gyre__op_finish() for the last one, gyre__op_emit() for one of many. Callbacks run
 * inside these two, so a driver calls them from dispatch() and resume() only.
 */
#ifndef GYRE_CORE_BACKEND_H
#define GYRE_CORE_BACKEND_H

#include <gyre/loop.h>

/*
 * Bytes that leave with the call in which the loop goes to sleep, without an operation: what became of
 * them is told by the next turn that has something to do. So nobody may wait for it, and if somebody
 * begins to, the loop does not sleep. Bytes, address and descriptor stay until it is told.
 */
struct gyre__silent {
    const void *data;
    uint32_t len;
    socklen_t to_len; /* 0: the socket is connected */
    const void *to;

    /* From dispatch(): all of @len has left, a part of it, or nothing: -EAGAIN for want of room. */
    void (*sent)(struct gyre_fd *fd, int32_t res);

    /* Before the loop sleeps: somebody waits for that. */
    int (*is_awaited)(const struct gyre_fd *fd);
};

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

    /* If the loop is `alone`: send so. Returns 0 if it cannot be. NULL: it never can. */
    int (*send_silently)(struct gyre_fd *fd, const struct gyre__silent *silent);

    /* The loop does not sleep but is left: what is sent so leaves. NULL: there is none. */
    void (*submit_silent)(struct gyre_loop *loop);

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
