/*
 * The loop: waits for the kernel and runs callbacks. One loop, one thread: the one that created it.
 * Only gyre_loop_post() and gyre_loop_wake() may be called from elsewhere.
 *
 * A turn: submit what was started and wait, in one system call; take the completions out; run their
 * callbacks; then those of timers that are due; then what other threads posted. Work per turn is
 * bounded, so nobody starves.
 */
#ifndef GYRE_LOOP_H
#define GYRE_LOOP_H

#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/op.h>

GYRE_BEGIN

struct gyre_loop;

/** enum gyre_backend - which driver talks to the kernel. */
enum gyre_backend {
    GYRE_BACKEND_AUTO,  /* GYRE_BACKEND of the environment, else io_uring, else epoll */
    GYRE_BACKEND_URING, /* io_uring or GYRE_ENOURING */
    GYRE_BACKEND_EPOLL, /* epoll; not one io_uring system call is made */
};

/* Features of the io_uring driver; bits of gyre_loop_info.features and .features_off. */
#define GYRE_FEATURE_MAP(X)                                                  \
    X(REGISTERED_RING, 0, "the ring is entered by index, not by descriptor") \
    X(NO_IOWAIT, 1, "an idle loop is not counted as waiting for disks")      \
    X(MULTISHOT, 2, "one submission serves many accepts and receives")       \
    X(BUFFER_RING, 3, "the kernel picks receive buffers from a shared ring") \
    X(INCREMENTAL, 4, "the kernel fills one large receive buffer bit by bit")

/** enum gyre_feature - one bit for each entry of GYRE_FEATURE_MAP. */
enum gyre_feature {
#define X(name, bit, text) GYRE_FEATURE_##name = 1u << (bit),
    GYRE_FEATURE_MAP(X)
#undef X
};
#define GYRE_FEATURE_COUNT 5

/** enum gyre_run_mode - how long gyre_loop_run() goes on. */
enum gyre_run_mode {
    GYRE_RUN_DEFAULT, /* until nothing is active or gyre_loop_stop() */
    GYRE_RUN_ONCE,    /* one turn, waiting if nothing has completed */
    GYRE_RUN_NOWAIT,  /* one turn, never waiting */
};

/**
 * struct gyre_loop_options - how to create a loop. Zero means the default, for every field.
 * @backend: the driver.
 * @features_off: GYRE_FEATURE_* bits not to use although the kernel has them: for tests, and to
 *     work around a kernel.
 * @sq_entries: submission queue slots, 8..32768, rounded up to a power of two; default 256.
 * @cq_entries: completion queue slots, >= 2 * sq_entries, ..65536; default 4096, or
 *     2 * sq_entries if that is more.
 * @post_capacity: posts that can wait, ..1,048,576, rounded up to a power of two; default 4096.
 * @busy_poll_ns: how long to spin before sleeping; default 0. Costs a core, saves a wake-up.
 * @pool_min, @pool_max: bytes of the receive pool at rest and at most; defaults 1 MiB and 16 MiB.
 * @pool_block: bytes in a block, a power of two, 4 KiB..1 MiB; default 256 KiB. @pool_min is at
 *     least two blocks, @pool_max at most 1,024.
 * @pool_quota: bytes a connection may retain before reading from it waits; default 256 KiB. What
 *     has been received by then still comes.
 * Returns: (a type).   Thread: any.   Source: docs/loop.md; docs/pool.md.
 */
struct gyre_loop_options {
    enum gyre_backend backend;
    uint32_t features_off;
    uint32_t sq_entries;
    uint32_t cq_entries;
    uint32_t post_capacity;
    uint64_t busy_poll_ns;
    size_t pool_min;
    size_t pool_max;
    size_t pool_block;
    size_t pool_quota;
};

/**
 * gyre_loop_create() - make a loop that belongs to the calling thread.
 * @out_loop: set to the loop.  @options: NULL for the defaults.
 * Returns: 0; -EINVAL (an option out of range); GYRE_EBACKEND (GYRE_BACKEND of the environment is
 *          nonsense); GYRE_ENOURING (io_uring was demanded, by option or environment, and refused:
 *          gyre_loop_refusal() says why); -ENOMEM, -EMFILE, -ENFILE; -ENOSPC (epoll: the user has as
 *          many registrations as are allowed).
 * Ownership: the caller's, until gyre_loop_destroy().   Thread: the loop's from now on.
 * Source: docs/loop.md; io_uring_setup(2); epoll_create1(2); epoll(7) max_user_watches.
 */
GYRE_API GYRE_MUST_CHECK int gyre_loop_create(struct gyre_loop **out_loop,
                                              const struct gyre_loop_options *options);

/**
 * gyre_loop_refusal() - why io_uring could not be used by this thread's last gyre_loop_create()
 *                       that got as far as choosing a driver.
 * Returns: a sentence, valid until the thread's next gyre_loop_create(); "" when it was not
 *          refused.
 * Thread: any.
 * Source: docs/loop.md.
 */
GYRE_API const char *gyre_loop_refusal(void);

/**
 * gyre_loop_destroy() - free a loop on which nothing is active any more.
 * @loop: NULL is fine.
 * Returns: 0; -EBUSY while operations, timers, posts, work (gyre/work.h), retained leases or
 *          attached descriptors are left, or from a callback (nothing is freed; end them and try
 *          again); GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only.
 * Source: docs/loop.md.
 */
GYRE_API int gyre_loop_destroy(struct gyre_loop *loop);

/**
 * gyre_loop_run() - run callbacks.
 * @loop: the loop.  @mode: how long.
 * Returns: 1 if something is still active, 0 if nothing is; -EINVAL; GYRE_ENESTED (called from a
 *          callback); GYRE_ELOST (the kernel dropped completions for want of memory: the loop
 *          cannot know what is active any more; end the process); GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only.   Limits: GYRE_RUN_DEFAULT keeps on while a stop is not requested and
 *          operations, timers (not background ones), posts, work or gyre_loop_ref() keep the loop
 *          alive.
 * Source: docs/loop.md.
 */
GYRE_API int gyre_loop_run(struct gyre_loop *loop, enum gyre_run_mode mode);

/**
 * gyre_loop_stop() - make gyre_loop_run() return after the turn it is in; when it is not running,
 *                    the next call returns at once (in the modes of one turn: after a turn that
 *                    does not wait).
 * @loop: the loop.
 * Returns: nothing. What is active stays so; the next run resumes it.
 * Thread: loop thread only (asserted); from elsewhere, post a function that calls it.
 * Source: docs/loop.md.
 */
GYRE_API void gyre_loop_stop(struct gyre_loop *loop);

/**
 * gyre_loop_ref() - keep gyre_loop_run() from returning although nothing is active, for example
 *                   while only posts are expected. gyre_loop_unref() takes it back.
 * @loop: the loop.
 * Returns: nothing.   Thread: loop thread only (asserted).
 * Source: docs/loop.md.
 */
GYRE_API void gyre_loop_ref(struct gyre_loop *loop);

/**
 * gyre_loop_unref() - take one gyre_loop_ref() back.
 * @loop: the loop.
 * Returns: nothing. Without a ref to take back it asserts.   Thread: loop thread only (asserted).
 * Source: docs/loop.md.
 */
GYRE_API void gyre_loop_unref(struct gyre_loop *loop);

/**
 * gyre_loop_alive() - how many operations, timers, posts, works and refs keep the loop running.
 * @loop: the loop.
 * Returns: their number.   Thread: loop thread only.
 * Source: docs/loop.md.
 */
GYRE_API size_t gyre_loop_alive(const struct gyre_loop *loop);

/**
 * gyre_loop_now() - the time of this turn.
 * @loop: the loop.
 * Returns: nanoseconds of CLOCK_MONOTONIC, read once per turn after waiting; never goes back.
 * Thread: loop thread only.
 * Source: clock_gettime(2).
 */
GYRE_API uint64_t gyre_loop_now(const struct gyre_loop *loop);

/**
 * gyre_loop_update_now() - read the clock now, after a callback that took long.
 * @loop: the loop.
 * Returns: the new gyre_loop_now().   Thread: loop thread only.
 * Source: clock_gettime(2).
 */
GYRE_API uint64_t gyre_loop_update_now(struct gyre_loop *loop);

/**
 * gyre_post_fn - runs on the loop's thread because another thread asked for it.
 * @loop: the loop.  @data: as given to gyre_loop_post().
 * Returns: nothing.   Thread: the loop's.
 * Source: docs/loop.md.
 */
typedef void (*gyre_post_fn)(struct gyre_loop *loop, void *data);

/**
 * gyre_loop_post() - run a function on the loop's thread.
 * @loop: the loop, which must outlive the call.  @fn: what.  @data: handed to @fn as it is.
 * Returns: 0: @fn will run once, in the order of this thread's posts; -ENOBUFS: the queue is full,
 *          nothing happened; -ESHUTDOWN: posts were closed, nothing happened; -EINVAL; GYRE_EFORK.
 * Thread: any; not from a signal handler (use gyre_loop_wake()).
 * Limits: gyre_loop_options.post_capacity. No system call while the loop is awake.
 * Source: docs/loop.md; eventfd(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_loop_post(struct gyre_loop *loop, gyre_post_fn fn, void *data);

/**
 * gyre_loop_close_posts() - refuse posts from now on; those accepted still run.
 * @loop: the loop. Call it before gyre_loop_destroy() while other threads may still post.
 * Returns: nothing.   Thread: any.
 * Source: docs/loop.md.
 */
GYRE_API void gyre_loop_close_posts(struct gyre_loop *loop);

/**
 * gyre_loop_wake() - make a sleeping loop take a turn.
 * @loop: the loop, which must outlive the call.
 * Returns: nothing.   Thread: any; async-signal-safe.   Limits: several wakes may be one turn.
 * Source: signal-safety(7), write(2).
 */
GYRE_API void gyre_loop_wake(struct gyre_loop *loop);

/**
 * gyre_loop_fd() - a descriptor that polls readable when gyre_loop_dispatch() has work, to embed
 *                  the loop in another event loop.
 * @loop: the loop.
 * Returns: the descriptor (the loop's, close-on-exec, the same each time), or -EINVAL (NULL),
 *          -EMFILE, -ENFILE, -ENOMEM, GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.   Limits: call gyre_loop_dispatch() once after this, and after starting
 *          operations or timers outside the loop's own callbacks: it is what submits them.
 * Source: docs/loop.md; epoll(7).
 */
GYRE_API GYRE_MUST_CHECK int gyre_loop_fd(struct gyre_loop *loop);

/**
 * gyre_loop_dispatch() - turns without waiting while there is work, at most 8, for an embedded
 *                        loop: submits, runs callbacks,
 *                        arms the descriptor of gyre_loop_fd() for the next deadline.
 * @loop: the loop.
 * Returns: as gyre_loop_run(loop, GYRE_RUN_NOWAIT).   Thread: loop thread only.
 * Source: docs/loop.md.
 */
GYRE_API int gyre_loop_dispatch(struct gyre_loop *loop);

/**
 * struct gyre_loop_info - which driver runs, and why.
 * @backend: GYRE_BACKEND_URING or GYRE_BACKEND_EPOLL.  @backend_name: "uring" or "epoll".
 * @backend_why: a sentence: why this driver.  @features: GYRE_FEATURE_* bits in use.
 * @feature_names, @feature_why: for bit i its name, and in words "on" or why it is off.
 * @pool_block, @sq_entries, @cq_entries: the sizes in force (queues: 0 on epoll).
 * Returns: (a type). The strings live as long as the loop.   Thread: the loop's.
 * Source: docs/loop.md.
 */
struct gyre_loop_info {
    enum gyre_backend backend;
    const char *backend_name;
    const char *backend_why;
    uint32_t features;
    const char *feature_names[GYRE_FEATURE_COUNT];
    const char *feature_why[GYRE_FEATURE_COUNT];
    size_t pool_block;
    uint32_t sq_entries;
    uint32_t cq_entries;
};

/**
 * gyre_loop_info() - say which driver runs, which features are on, and why others are off.
 * @loop: the loop.  @out_info: filled in.
 * Returns: 0, -EINVAL, GYRE_ETHREAD, GYRE_EFORK.   Thread: loop thread only.
 * Source: docs/loop.md.
 */
GYRE_API int gyre_loop_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info);

/**
 * struct gyre_loop_stats - counters since the loop was created.
 * @turns: turns of the loop.  @waits: of these, turns that were ready to sleep.
 * @enters: io_uring_enter or epoll_wait calls.  @syscalls: all system calls made by the loop and by
 * operations, clock readings aside.  @sqes, @cqes: submission and completion entries.
 * @started, @finished: operations by kind; they differ by those active.
 * @eagains: tries that found nothing to do.  @retries: transfers continued after a short one.
 * @rearms: multishot operations that the kernel had ended and the loop started again.
 * @starved: times a receive had to wait for the pool or its quota.  @overflows: turns in which the
 * completion queue had overflowed.  @sheds: connections closed for want of descriptors.
 * @stale: completions of operations that had ended.  @posts, @wakes: posts run, wake-ups received.
 * @timers: timers fired.  @allocations: calls of the allocator that took memory.
 * Returns: (a type).   Thread: the loop's.   Source: docs/loop.md.
 */
struct gyre_loop_stats {
    uint64_t turns;
    uint64_t waits;
    uint64_t enters;
    uint64_t syscalls;
    uint64_t sqes;
    uint64_t cqes;
    uint64_t started[GYRE_OP_KIND_COUNT];
    uint64_t finished[GYRE_OP_KIND_COUNT];
    uint64_t eagains;
    uint64_t retries;
    uint64_t rearms;
    uint64_t starved;
    uint64_t overflows;
    uint64_t sheds;
    uint64_t stale;
    uint64_t posts;
    uint64_t wakes;
    uint64_t timers;
    uint64_t allocations;
};

/**
 * gyre_loop_stats() - read the counters.
 * @loop: the loop.  @out_stats: filled in.
 * Returns: 0, -EINVAL, GYRE_ETHREAD, GYRE_EFORK.   Thread: loop thread only.
 * Source: docs/loop.md.
 */
GYRE_API int gyre_loop_stats(const struct gyre_loop *loop, struct gyre_loop_stats *out_stats);

/**
 * gyre_op_kind_name() - the name of a kind of operation, such as "recv".
 * @kind: of enum gyre_op_kind.
 * Returns: a string with process lifetime; "unknown" when out of range.   Thread: any.
 * Source: docs/ops.md.
 */
GYRE_API const char *gyre_op_kind_name(enum gyre_op_kind kind);

GYRE_END

#endif
