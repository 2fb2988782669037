/*
 * Work: functions that block (files, names, passwords, compression), run by the threads of a pool;
 * the loop is told when they are done. Nothing is allocated for a piece of work: it lives in the
 * caller's struct.
 *
 *     IDLE --start()--> QUEUED --a thread takes it--> RUNNING --fn returned--> on its way to the loop
 *      ^                   '-----gyre_work_cancel()---------------------------> on its way to the loop
 *      '------------------------------ done callback, from the loop only, exactly once --------'
 *
 * A pool is made explicitly and serves any number of loops; its threads are started when they are
 * first needed.
 */
#ifndef GYRE_WORK_H
#define GYRE_WORK_H

#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

struct gyre_loop;
struct gyre_work;
struct gyre_work_pool;

/**
 * struct gyre_work_pool_options - how to make a pool. Zero means the default, for every field.
 * @threads: how many at most, ..1,024; default 4.
 * @queue: how many works may wait beyond those that so many threads run, ..1,048,576; default
 *         1,024. They wait in the caller's memory; the limit is for whoever waits for them.
 * Returns: (a type).   Thread: any.   Source: docs/work.md.
 */
struct gyre_work_pool_options {
    uint32_t threads;
    uint32_t queue;
};

/**
 * gyre_work_pool_create() - make a pool; it has no thread yet.
 * @out_pool: set to the pool.  @options: NULL for the defaults.
 * Returns: 0, -EINVAL (NULL, or an option out of range), -ENOMEM.
 * Ownership: the caller's, until gyre_work_pool_destroy().   Thread: any.
 * Source: docs/work.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_work_pool_create(struct gyre_work_pool **out_pool,
                                                   const struct gyre_work_pool_options *options);

/**
 * gyre_work_pool_destroy() - end the threads of a pool that has nothing left to do, and free it.
 * @pool: NULL is fine.
 * Returns: 0; -EBUSY while there is work whose done callback has not begun (nothing is freed);
 *          GYRE_EFORK.
 * Thread: any, while no other thread uses the pool.   Limits: waits for the threads to end, which
 *         are idle then.
 * Source: docs/work.md; pthread_join(3).
 */
GYRE_API int gyre_work_pool_destroy(struct gyre_work_pool *pool);

/**
 * struct gyre_work_pool_stats - a pool at this moment, and what has happened to it.
 * @threads: that were started.  @queued: works that wait for a thread.  @running: works that
 * threads are at.  @refused: starts refused with -ENOBUFS or -EAGAIN.  @thread_failures: threads
 * that the system refused.
 * Returns: (a type).   Thread: any.   Source: docs/work.md.
 */
struct gyre_work_pool_stats {
    uint32_t threads;
    uint32_t queued;
    uint32_t running;
    uint64_t refused;
    uint64_t thread_failures;
};

/**
 * gyre_work_pool_stats() - look at a pool.
 * @pool: the pool.  @out_stats: filled in.
 * Returns: 0, -EINVAL (NULL), GYRE_EFORK.   Thread: any.
 * Source: docs/work.md.
 */
GYRE_API int gyre_work_pool_stats(struct gyre_work_pool *pool,
                                  struct gyre_work_pool_stats *out_stats);

/**
 * gyre_work_fn - what is to be done; may block as long as it likes.
 * @work: the work; gyre_container_of() finds the rest, which is this function's alone until it
 *        returns.
 * Returns: nothing; leave results in the struct around @work.
 * Thread: one of the pool's, with all signals blocked. Of the loop only gyre_loop_post() and
 *         gyre_loop_wake() may be called.   Limits: it has to return: a pthread_exit(3) in it breaks
 *         the pool.
 * Source: docs/work.md.
 */
typedef void (*gyre_work_fn)(struct gyre_work *work);

/**
 * gyre_work_done_fn - the work is over, and idle: it may be started again or freed here.
 * @work: the work.  @result: 0: its function has run; -ECANCELED: it never will.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch() only.
 * Source: docs/contract.md, lines 1, 2 and 4.
 */
typedef void (*gyre_work_done_fn)(struct gyre_work *work, int result);

/**
 * struct gyre_work - a piece of work in the caller's storage; all fields are private.
 * Ownership: the caller's; must not move or be freed between gyre_work_start() and its done
 * callback.   Thread: the loop's.   Returns: (a type).   Source: docs/work.md.
 */
struct gyre_work {
    struct gyre_link link;
    struct gyre_return back;
    struct gyre_loop *loop;
    struct gyre_work_pool *pool;
    gyre_work_fn fn;
    gyre_work_done_fn done;
    uint8_t state;
};

/**
 * gyre_work_init() - make storage an idle work.
 * @work: storage, not an active work.  @fn: run by a thread of the pool.  @done: called when that
 *        is over.
 * Returns: nothing; NULL asserts.   Thread: any, before the work is started.
 * Source: docs/work.md.
 */
GYRE_API void gyre_work_init(struct gyre_work *work, gyre_work_fn fn, gyre_work_done_fn done);

/**
 * gyre_work_start() - have the work done; works begin in the order of their starts.
 * @work: initialised, idle.  @pool: by whose threads.  @loop: which is told.
 * Returns: 0: the done callback will run, once; -EINVAL (NULL, not initialised); -EBUSY (active);
 *          -ENOBUFS (as many works wait as may); -EAGAIN (the pool has no thread and the system
 *          refuses one); GYRE_ETHREAD; GYRE_EFORK. On failure nothing happened.
 * Thread: @loop's thread only.   Limits: gyre_work_pool_options. A pool that cannot have all its
 *         threads goes on with those it has.
 * Source: docs/work.md; pthread_create(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_work_start(struct gyre_work *work, struct gyre_work_pool *pool,
                                             struct gyre_loop *loop);

/**
 * gyre_work_cancel() - give up a work that no thread has begun.
 * @work: initialised.
 * Returns: 0: its done callback will get -ECANCELED; -EBUSY: too late, its function runs or has
 *          run, and the done callback will get 0; -EINVAL (not active); GYRE_ETHREAD; GYRE_EFORK.
 * Thread: the loop's thread only.
 * Source: docs/work.md.
 */
GYRE_API int gyre_work_cancel(struct gyre_work *work);

/**
 * gyre_work_active() - whether the done callback is still to come.
 * @work: initialised.
 * Returns: 1 or 0.   Thread: the loop's thread only.
 * Source: docs/work.md.
 */
GYRE_API int gyre_work_active(const struct gyre_work *work);

GYRE_END

#endif
