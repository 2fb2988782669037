/*
 * Timers: one callback at or after a moment of CLOCK_MONOTONIC. A timer lives in the caller's
 * struct; start, restart and stop are O(1) and allocate nothing. All timers of a loop share one
 * wait deadline: there is no kernel timer per timer. On a loop that sleeps they are late by up to the
 * thread's timer slack, 50 us by default (prctl(2), PR_SET_TIMERSLACK; see docs/timers.md).
 */
#ifndef GYRE_TIMER_H
#define GYRE_TIMER_H

#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

struct gyre_loop;
struct gyre_timer;

/**
 * gyre_timer_fn - a timer expired.
 * @timer: the timer, already stopped: it may be started again, or freed, in here.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch().
 * Source: docs/timers.md.
 */
typedef void (*gyre_timer_fn)(struct gyre_timer *timer);

/* A moment in the loop's timer wheel. Never touched by the caller. */
struct gyre_alarm {
    struct gyre_link link;
    uint64_t deadline_ns;
    void (*fire)(struct gyre_alarm *alarm);
};

/**
 * struct gyre_timer - a timer in the caller's storage; all fields are private.
 * Ownership: the caller's; must not move or be freed while active.   Thread: the loop's.
 * Returns: (a type).   Source: docs/timers.md.
 */
struct gyre_timer {
    struct gyre_alarm alarm;
    struct gyre_loop *loop;
    gyre_timer_fn fn;
    uint8_t background;
};

/**
 * gyre_timer_init() - make a timer ready for use.
 * @timer: storage, not an active timer.  @loop: where it will run.  @fn: called on expiry.
 * Returns: 0, -EINVAL when an argument is NULL.   Thread: loop thread only.
 * Source: docs/timers.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_timer_init(struct gyre_timer *timer, struct gyre_loop *loop,
                                             gyre_timer_fn fn);

/**
 * gyre_timer_start() - start, or restart, a timer.
 * @timer: initialised; when active it is moved, and still fires once.
 * @timeout_ns: nanoseconds from now on; added to a fresh reading of the clock, so time that
 *              callbacks took does not make it early. 0 fires in the next turn, not in this one.
 *              A sum beyond UINT64_MAX never fires.
 * Returns: 0, -EINVAL (not initialised), GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.   Limits: none; timers at equal moments fire in start order.
 * Source: clock_gettime(2) CLOCK_MONOTONIC.
 */
GYRE_API GYRE_MUST_CHECK int gyre_timer_start(struct gyre_timer *timer, uint64_t timeout_ns);

/**
 * gyre_timer_start_at() - start, or restart, a timer for a moment.
 * @timer: initialised.  @deadline_ns: a moment of CLOCK_MONOTONIC, see gyre_loop_now(); one that
 *         has passed fires in the next turn; UINT64_MAX never fires.
 * Returns: 0, -EINVAL (not initialised), GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.
 * Source: clock_gettime(2) CLOCK_MONOTONIC.
 */
GYRE_API GYRE_MUST_CHECK int gyre_timer_start_at(struct gyre_timer *timer, uint64_t deadline_ns);

/**
 * gyre_timer_stop() - stop a timer; its callback does not run any more, not even when the timer
 *                     was due in this very turn.
 * @timer: initialised; stopping one that is not active does nothing.
 * Returns: nothing.   Thread: loop thread only (asserted).
 * Source: docs/timers.md.
 */
GYRE_API void gyre_timer_stop(struct gyre_timer *timer);

/**
 * gyre_timer_active() - whether the timer is going to fire.
 * @timer: initialised.
 * Returns: 1 or 0.   Thread: loop thread only.
 * Source: docs/timers.md.
 */
GYRE_API int gyre_timer_active(const struct gyre_timer *timer);

/**
 * gyre_timer_background() - choose whether the timer keeps gyre_loop_run() from returning.
 * @timer: initialised, not active.  @background: 1: does not keep the loop alive; 0 (default):
 *         does.
 * Returns: 0, -EINVAL (not initialised), -EBUSY (active).   Thread: loop thread only.
 * Source: docs/timers.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_timer_background(struct gyre_timer *timer, int background);

GYRE_END

#endif
