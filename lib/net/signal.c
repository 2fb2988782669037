/*
 * Signals by signalfd(2). The loop waits with a multishot poll; the signals are read here, by the
 * loop's thread itself, because the descriptor yields what is pending for whoever reads it: a read
 * by a worker of io_uring would miss what was sent to this thread.
 *
 *     poll says readable --+--> read one, hand it over; again, up to the budget
 *     timer, next turn ----+        |-- empty: the poll tells of the next one
 *                                   |-- budget used up: the timer goes on in the next turn
 *                                   `-- the read fails: the timer tries again a little later
 *
 * One at a time, so that nothing has been taken from the kernel that a close would lose. Neither
 * the poll nor the timer counts as alive: an open watcher holds one gyre_loop_ref(), or none in the
 * background.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/sys.h"
#include "core/loop.h"
#include "core/op.h"

#include <errno.h>
#include <gyre/signal.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { SIGNAL_BUDGET = 16 }; /* a turn; more wait in the kernel, where all but a few coalesce */

/* How soon to try again when the kernel had no memory to wait for signals, or to read one. */
#define SIGNAL_RETRY_NS (100 * GYRE_MSEC)

static int signal_is_open(const struct gyre_signal *signal)
{
    return signal->fd.state == GYRE__FD_OPEN;
}

static void signal_go_on(struct gyre_signal *signal, uint64_t moment_ns)
{
    const int rc = gyre_timer_start_at(&signal->again, moment_ns);

    gyre_assert(rc == 0); /* this is the loop's thread */
}

static void signal_take(struct gyre_signal *signal)
{
    struct signalfd_siginfo info;

    for (int i = 0; i < SIGNAL_BUDGET; i++) {
        const ssize_t got = gyre__sys_read(signal->fd.number, &info, sizeof(info));

        signal->fd.loop->stats.syscalls++;
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EAGAIN) {
            return; /* that was all, or another watcher was faster */
        }
        if (got != (ssize_t)sizeof(info)) { /* the poll would not tell of it again */
            signal_go_on(signal, gyre__time_add(signal->fd.loop->now_ns, SIGNAL_RETRY_NS));
            return;
        }
        signal->fn(signal, &info);
        if (!signal_is_open(signal)) {
            return;
        }
    }
    signal_go_on(signal, 0);
}

static void signal_on_poll(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_signal *signal = gyre_container_of(op, struct gyre_signal, poll);
    const int ended = !(result->flags & GYRE_MORE);
    const uint64_t pause_ns = result->res < 0 ? SIGNAL_RETRY_NS : 0;

    signal->fd.loop->background_ops -= (size_t)ended;
    if (!signal_is_open(signal)) {
        return;
    }
    if (ended) {
        signal_go_on(signal, gyre__time_add(signal->fd.loop->now_ns, pause_ns));
    }
    signal_take(signal);
}

static int signal_wait(struct gyre_signal *signal)
{
    const int rc = gyre_op_poll(&signal->poll, &signal->fd, POLLIN, GYRE_MULTISHOT);

    signal->fd.loop->background_ops += rc == 0;
    return rc;
}

static void signal_on_again(struct gyre_timer *timer)
{
    struct gyre_signal *signal = gyre_container_of(timer, struct gyre_signal, again);

    if (!gyre_op_active(&signal->poll) && signal_wait(signal) < 0) {
        signal_go_on(signal, gyre__time_add(signal->fd.loop->now_ns, SIGNAL_RETRY_NS));
    }
    signal_take(signal);
}

static void signal_on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_signal *signal = gyre_container_of(op, struct gyre_signal, close);

    (void)result; /* close(2) of a signalfd has nothing to report */
    if (signal->on_close != NULL) {
        signal->on_close(signal);
    }
}

int gyre_signal_block(const sigset_t *set)
{
    return set == NULL ? -EINVAL : -gyre__sys_pthread_sigmask(SIG_BLOCK, set, NULL);
}

static int signal_check_set(const sigset_t *set)
{
    sigset_t blocked;
    int unblocked = 0;
    int count = 0;

    if (sigismember(set, SIGKILL) == 1 || sigismember(set, SIGSTOP) == 1) {
        return -EINVAL; /* signalfd(2) would ignore them without a word */
    }
    if (gyre__sys_pthread_sigmask(SIG_BLOCK, NULL, &blocked) != 0) {
        return -EINVAL;
    }
    for (int number = 1; number <= SIGRTMAX; number++) {
        const int wanted = sigismember(set, number) == 1;

        count += wanted;
        unblocked += wanted && sigismember(&blocked, number) != 1;
    }
    if (count == 0) {
        return -EINVAL;
    }
    return unblocked > 0 ? GYRE_EUNBLOCKED : 0;
}

/* Returns 0, or an error and the descriptor is still the caller's. */
static int signal_attach(struct gyre_signal *signal, struct gyre_loop *loop, int number)
{
    int rc = gyre_fd_init(&signal->fd, loop, number);

    if (rc < 0) {
        return rc;
    }
    gyre_op_init(&signal->poll, signal_on_poll);
    gyre_op_init(&signal->close, signal_on_closed);
    rc = gyre_timer_init(&signal->again, loop, signal_on_again);
    rc = rc < 0 ? rc : gyre_timer_background(&signal->again, 1);
    gyre_assert(rc == 0);
    rc = signal_wait(signal);
    if (rc < 0) {
        const int detached = gyre_fd_detach(&signal->fd, &number);

        gyre_assert(detached == 0);
    }
    return rc;
}

int gyre_signal_start(struct gyre_signal *signal, struct gyre_loop *loop, const sigset_t *set,
                      gyre_signal_fn fn)
{
    int number;
    int rc;

    if (signal == NULL || loop == NULL || set == NULL || fn == NULL) {
        return -EINVAL;
    }
    rc = gyre__loop_check(loop);
    rc = rc < 0 ? rc : signal_check_set(set);
    if (rc < 0) {
        return rc;
    }
    number = gyre__sys_signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (number < 0) {
        return -errno;
    }
    rc = signal_attach(signal, loop, number);
    if (rc < 0) {
        gyre__sys_close(number);
        return rc;
    }
    signal->fn = fn;
    signal->on_close = NULL;
    signal->background = 0;
    gyre_loop_ref(loop);
    return 0;
}

static int signal_check_open(const struct gyre_signal *signal)
{
    int rc;

    if (signal == NULL || (!signal_is_open(signal) && signal->fd.state != GYRE__FD_CLOSING)) {
        return -EINVAL;
    }
    rc = gyre__loop_check(signal->fd.loop);
    return rc < 0 ? rc : signal_is_open(signal) ? 0 : GYRE_ECLOSING;
}

static void signal_set_background(struct gyre_signal *signal, int background)
{
    if (signal->background == background) {
        return;
    }
    signal->background = (uint8_t)background;
    if (background) {
        gyre_loop_unref(signal->fd.loop);
    } else {
        gyre_loop_ref(signal->fd.loop);
    }
}

int gyre_signal_background(struct gyre_signal *signal, int background)
{
    const int rc = signal_check_open(signal);

    if (rc == 0) {
        signal_set_background(signal, background != 0);
    }
    return rc;
}

int gyre_signal_close(struct gyre_signal *signal, gyre_signal_close_fn fn)
{
    int rc = signal_check_open(signal);

    if (rc < 0) {
        return rc;
    }
    signal->on_close = fn;
    gyre_timer_stop(&signal->again);
    signal_set_background(signal, 1); /* from here on the close keeps the loop alive */
    rc = gyre_op_close(&signal->close, &signal->fd, 0);
    gyre_assert(rc == 0);
    return 0;
}
