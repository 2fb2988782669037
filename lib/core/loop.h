/* The loop's insides, for core and the drivers. */
#ifndef GYRE_CORE_LOOP_H
#define GYRE_CORE_LOOP_H

#include "base/assert.h"
#include "core/backend.h"
#include "core/pool.h"
#include "core/post.h"
#include "core/slots.h"
#include "core/wheel.h"

#include <gyre/loop.h>

/* Descriptors that came with the bytes that are being handed out; what the callback leaves is closed. */
struct gyre__passed_in {
    uint32_t count;
    uint32_t first; /* not yet taken */
    uint8_t came;   /* some did, though none may have arrived */
    int numbers[253];
};

/*
 * A loop lives in a mapping of its own that the kernel empties in a forked child: there it has no
 * owner, so that a child that touches it is refused, whatever the parent does with it.
 * What every message touches comes first.
 */
struct gyre_loop {
    const char *owner; /* of the thread that created it; NULL in a forked child */
    const struct gyre__backend *backend;
    void *driver;
    struct gyre__net *net;    /* what the net layer keeps for this loop; made when first needed */
    struct gyre_link results; /* ops in state READY, in order */
    struct gyre_link tries;   /* ops in state TRY, in order */
    struct gyre_link later;   /* ops in state TRY that have had their share of this turn */
    struct gyre_link tasks;   /* struct gyre_task, for the end of the turn */
    size_t received;          /* bytes received by system calls in this turn */
    size_t active_ops;
    size_t fds;
    uint8_t calm;  /* this turn brought one completion at most, behind a moment with none */
    uint8_t alone; /* a send that begins now has no other to share a system call with */
    struct gyre__slots slots;
    struct gyre__pool pool;
    struct gyre_loop_stats stats;

    uint64_t now_ns;
    uint64_t busy_poll_ns;
    size_t timers; /* active */
    size_t background_timers;
    size_t background_ops; /* of the active ones: do not keep the loop alive */
    size_t away;           /* with other threads; they come back as returns */
    size_t refs;
    uint8_t running;
    uint8_t stopping;
    int timer_fd; /* embedded: readable at the next deadline */
    int outer_fd; /* embedded: what the other event loop polls */
    int wake_number;
    int reserve_number;          /* given up for a moment to shed connections */
    struct gyre_link paused;     /* accepts that ran out of descriptors */
    struct gyre_alarm pause_end; /* when they go on */
    uint64_t pause_ns;
    char why[160]; /* why this driver */
    struct gyre_fd wake_fd;
    struct gyre_op wake_op;
    struct gyre_alarm wake_again; /* when it is started again, if it failed */
    struct gyre__posts posts;
    uint64_t posts_ns;  /* when the last batch of them had been run */
    uint32_t posts_row; /* turns in a row that found some, without sleep */
    struct gyre__wheel wheel;
    struct gyre__passed_in passed;
    void (*net_fini)(struct gyre_loop *loop);
};

/*
 * Its address names the thread: no two live threads have the same, and taking it is one
 * instruction, where pthread_self(3) is a call. Initial-exec takes one byte of the space that the C
 * library keeps for libraries loaded later.
 */
extern _Thread_local char gyre__thread_mark
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Loop thread: give something to another thread. Until it is back, the loop is alive and cannot be
 * destroyed. */
static inline void gyre__loop_give(struct gyre_loop *loop)
{
    loop->away++;
}

/* Any thread: back to the loop, which calls back->arrive() on its own thread. Never fails. The loop
 * must outlive the call, and the call may still use it when arrive() runs: the giver's arrive() has
 * to wait for that before it lets the loop be destroyed. */
void gyre__loop_return(struct gyre_loop *loop, struct gyre_return *back);

int gyre__loop_refused(const struct gyre_loop *loop);

/* Have names for so many more operations and descriptors: one each, one for each descriptor's
 * close, and a few for the loop's own. Returns 1 if it had to allocate, 0, or -ENOMEM. */
static inline int gyre__loop_reserve(struct gyre_loop *loop, size_t ops, size_t fds)
{
    return gyre__slots_reserve(&loop->slots, loop->active_ops + ops + 2 * (loop->fds + fds) + 4);
}

/* 0 on the loop's thread, else GYRE_ETHREAD or GYRE_EFORK. */
static inline int gyre__loop_check(const struct gyre_loop *loop)
{
    if (__builtin_expect(loop->owner == &gyre__thread_mark, 1)) {
        return 0;
    }
    return gyre__loop_refused(loop);
}

static inline void gyre__loop_assert_thread(const struct gyre_loop *loop)
{
    gyre_assert(gyre__loop_check(loop) == 0);
}

static inline struct gyre_op *gyre__op_of_link(struct gyre_link *link)
{
    return gyre_container_of(link, struct gyre_op, link);
}

/* The operation at a place of a descriptor's list. One that was overwritten while active is found
 * out here, before its link is followed. */
static inline struct gyre_op *gyre__op_on(const struct gyre_fd *fd, const struct gyre_link *link)
{
    struct gyre_op *op =
        gyre_container_of((struct gyre_link *)(uintptr_t)link, struct gyre_op, fd_link);

    gyre_assert(op->fd == fd);
    return op;
}

/* backend/select.c: choose and start a driver. */
int gyre__backend_select(struct gyre_loop *loop, const struct gyre_loop_options *options);

#if defined(GYRE_SIM)
/* Ask the kernel anew what it can: it will be another one. */
void gyre__backend_forget(void);
#endif

#endif
