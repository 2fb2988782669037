/*
 * Signals as callbacks on the loop's thread, by signalfd(2). The library installs no handlers and
 * changes no signal mask: the program blocks what it wants to watch, with gyre_signal_block() or by
 * itself, before it starts threads, and then watches it.
 *
 *     (any) --gyre_signal_start()--> OPEN --gyre_signal_close()--> CLOSING --last callback--> (any)
 *
 * A signal is taken from the kernel one at a time and only to be handed to the callback: what was
 * not handed over when a watcher is closed is still pending, for the next watcher.
 */
#ifndef GYRE_SIGNAL_H
#define GYRE_SIGNAL_H

#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/op.h>
#include <gyre/timer.h>
#include <signal.h>
#include <sys/signalfd.h>

GYRE_BEGIN

struct gyre_loop;
struct gyre_signal;

/**
 * gyre_signal_fn - a signal has arrived.
 * @signal: the watcher; it may be closed here.  @info: ssi_signo is its number, ssi_pid and ssi_uid
 *          say who sent it; valid during the call.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch().
 * Limits: a standard signal that was sent several times before it was taken arrives once; real-time
 *         signals are queued by the kernel and arrive each.
 * Source: signalfd(2); signal(7) "Queueing and delivery semantics for standard signals".
 */
typedef void (*gyre_signal_fn)(struct gyre_signal *signal, const struct signalfd_siginfo *info);

/**
 * gyre_signal_close_fn - a watcher is closed; no callback of it comes after this one.
 * @signal: the caller's again: it may be started anew or freed here.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch().
 * Source: docs/signals.md.
 */
typedef void (*gyre_signal_close_fn)(struct gyre_signal *signal);

/**
 * struct gyre_signal - a watcher of signals in the caller's storage; all fields are private.
 * Ownership: the caller's; must not move or be freed between gyre_signal_start() and the callback
 * of gyre_signal_close().   Thread: the loop's.   Returns: (a type).
 * Source: docs/signals.md.
 */
struct gyre_signal {
    struct gyre_fd fd;
    struct gyre_op poll;
    struct gyre_op close;
    struct gyre_timer again;
    gyre_signal_fn fn;
    gyre_signal_close_fn on_close;
    uint8_t background;
};

/**
 * gyre_signal_block() - block signals in the calling thread, and in the threads and programs that
 *                       it starts from now on.
 * @set: the signals; those blocked already stay so.
 * Returns: 0, -EINVAL (NULL).
 * Thread: any; call it in main() before the first thread is started. A thread that was started
 *         before does not block them, and the kernel delivers through it: in the ordinary way,
 *         which for most signals ends the process.
 * Limits: a program that is started by execve(2) inherits the mask; unblock in the child before
 *         (posix_spawnattr_setsigmask(3)).
 * Source: pthread_sigmask(3); signal(7) "Signal mask and pending signals".
 */
GYRE_API GYRE_MUST_CHECK int gyre_signal_block(const sigset_t *set);

/**
 * gyre_signal_start() - watch signals. Those that are pending already arrive too.
 * @signal: storage, not an open watcher.  @loop: where.  @set: signals that the calling thread
 *          blocks; copied.  @fn: called with each.
 * Returns: 0; -EINVAL (an argument is NULL; the set is empty or has SIGKILL or SIGSTOP in it);
 *          GYRE_EUNBLOCKED (this thread does not block all of them); -EMFILE, -ENFILE, -ENOMEM;
 *          GYRE_ETHREAD, GYRE_EFORK. On failure the storage stays the caller's.
 * Thread: loop thread only.   Limits: 16 signals a turn for each watcher; a signal reaches one of
 *         the watchers that wait for it, of whatever loop, not all. It keeps the loop alive unless
 *         gyre_signal_background() says otherwise.
 * Source: signalfd(2); docs/signals.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_signal_start(struct gyre_signal *signal, struct gyre_loop *loop,
                                               const sigset_t *set, gyre_signal_fn fn);

/**
 * gyre_signal_background() - choose whether the watcher keeps gyre_loop_run() from returning.
 * @signal: open.  @background: 1: does not keep the loop alive; 0 (default): does.
 * Returns: 0, -EINVAL (NULL or closed), GYRE_ECLOSING, GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.
 * Source: docs/signals.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_signal_background(struct gyre_signal *signal, int background);

/**
 * gyre_signal_close() - stop watching.
 * @signal: open.  @fn: called when the watcher is the caller's again, last; NULL: nobody needs to
 *          know.
 * Returns: 0: no more signals are handed over, and @fn runs once; -EINVAL (NULL or closed),
 *          GYRE_ECLOSING (it is being closed already), GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.   Limits: the signals stay blocked; those not handed over stay pending.
 * Source: docs/contract.md, line 5.
 */
GYRE_API int gyre_signal_close(struct gyre_signal *signal, gyre_signal_close_fn fn);

GYRE_END

#endif
