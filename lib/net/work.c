/*
 * A bounded pool of threads for what blocks. One mutex guards all of a pool: its queue, its counts
 * and the states of its works.
 *
 *     IDLE --start()--> QUEUED --work_serve()--> RUNNING --fn returned--> RETURNED --+
 *                          '-----gyre_work_cancel()-----> CANCELLED -----------------+
 *     IDLE, done callback <--work_arrive()-- the loop <--gyre__loop_return()---------'
 *
 *  - QUEUED: on the pool's list.
 *  - RUNNING: the thread's. Not on any list.
 *  - RETURNED, CANCELLED: on the loop's way back, which takes everything and needs no memory, so no
 *    completion is lost and no thread waits for a slow loop.
 *
 * The way back is entered with the mutex held, and work_arrive() takes the mutex before it goes on.
 * So when a done callback runs, no thread of the pool is still waking the loop, and the program may
 * destroy the loop, or the pool, as soon as nothing is out.
 *
 * `work->loop` is the loop's thread's alone and says whether the work is active; `work->state` is
 * the mutex's.
 */
#include "base/alloc.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/sys.h"
#include "core/loop.h"

#include <errno.h>
#include <gyre/work.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

enum {
    WORK_THREADS = 4, /* what blocks on disks or names needs few; it is not for computing */
    WORK_THREADS_MAX = 1024,
    WORK_QUEUE = 1024, /* at 1 ms each, 4 threads need a quarter of a second for so many */
    WORK_QUEUE_MAX = 1u << 20,
};

enum work_state { WORK_IDLE = 0, WORK_QUEUED, WORK_RUNNING, WORK_RETURNED, WORK_CANCELLED };

/* In memory that is zero in a forked child, which has neither the threads nor a mutex that anybody
 * would unlock: it looks at `ours` before anything else. */
struct gyre_work_pool {
    uint8_t ours;
    uint8_t stopping;
    uint32_t threads_max;
    uint32_t queue_max;
    pthread_mutex_t mutex;
    pthread_cond_t more;    /* a work was queued, or the pool is stopping */
    struct gyre_link queue; /* oldest first */
    uint32_t queued;
    uint32_t running;
    uint32_t idle;    /* threads that wait for `more` */
    uint32_t threads; /* started */
    size_t out;       /* works whose done callback has not begun */
    uint64_t refused;
    uint64_t thread_failures;
    pthread_t thread[]; /* [threads_max] */
};

static void work_lock(struct gyre_work_pool *pool)
{
    const int error = gyre__sys_pthread_mutex_lock(&pool->mutex);

    gyre_assert(error == 0);
}

static void work_unlock(struct gyre_work_pool *pool)
{
    const int error = gyre__sys_pthread_mutex_unlock(&pool->mutex);

    gyre_assert(error == 0);
}

/* ---- the threads; each function with the mutex held ---- */

static void work_return(struct gyre_work *work, enum work_state state)
{
    work->state = (uint8_t)state;
    gyre__loop_return(work->loop, &work->back); /* from here on the work is the loop's thread's */
}

static struct gyre_work *work_take(struct gyre_work_pool *pool, struct gyre_link *link)
{
    struct gyre_work *work = gyre_container_of(link, struct gyre_work, link);

    gyre_assert(work->state == WORK_QUEUED && work->pool == pool && pool->queued > 0);
    gyre__list_remove(link);
    pool->queued--;
    return work;
}

static void work_serve(struct gyre_work_pool *pool)
{
    struct gyre_work *work = work_take(pool, pool->queue.next);

    work->state = WORK_RUNNING;
    pool->running++;
    work_unlock(pool);
    work->fn(work);
    work_lock(pool);
    pool->running--;
    work_return(work, WORK_RETURNED);
}

static void *work_thread(void *data)
{
    struct gyre_work_pool *pool = data;

    gyre__sys_pthread_setname_np(pthread_self(), "gyre-work");
    work_lock(pool);
    while (!pool->stopping) {
        if (!gyre__list_empty(&pool->queue)) {
            work_serve(pool);
            continue;
        }
        pool->idle++;
        gyre__sys_pthread_cond_wait(&pool->more, &pool->mutex);
        pool->idle--;
    }
    work_unlock(pool);
    return NULL;
}

/* Signals are for the program's own threads: a handler that ran here would surprise it, and a
 * watcher (gyre/signal.h) needs them blocked in all threads. */
static int work_create_thread(struct gyre_work_pool *pool)
{
    pthread_attr_t attributes;
    sigset_t all;
    int error = pthread_attr_init(&attributes);

    if (error != 0) {
        return error;
    }
    sigfillset(&all);
    error = pthread_attr_setsigmask_np(&attributes, &all);
    if (error == 0) {
        error =
            gyre__sys_pthread_create(&pool->thread[pool->threads], &attributes, work_thread, pool);
    }
    pthread_attr_destroy(&attributes);
    return error;
}

/* There is one work more in the queue. Returns 0, or -EAGAIN when there is nobody to do it. */
static int work_call_thread(struct gyre_work_pool *pool)
{
    int error;

    if (pool->queued <= pool->idle) {
        gyre__sys_pthread_cond_signal(&pool->more);
        return 0;
    }
    if (pool->threads == pool->threads_max) {
        return 0;
    }
    error = work_create_thread(pool);
    if (error == 0) {
        pool->threads++;
        return 0;
    }
    pool->thread_failures++;
    return pool->threads > 0 ? 0 : -EAGAIN;
}

/* ---- the pool ---- */

static struct gyre_work_pool *work_pool_map(uint32_t threads)
{
    struct gyre_work_pool *pool =
        gyre__map_wiped(sizeof(*pool) + threads * sizeof(pool->thread[0]));

    if (pool != NULL) {
        pool->threads_max = threads;
    }
    return pool;
}

static void work_pool_unmap(struct gyre_work_pool *pool)
{
    gyre__sys_munmap(pool, sizeof(*pool) + pool->threads_max * sizeof(pool->thread[0]));
}

int gyre_work_pool_create(struct gyre_work_pool **out_pool,
                          const struct gyre_work_pool_options *options)
{
    static const struct gyre_work_pool_options defaults;
    struct gyre_work_pool *pool;

    options = options != NULL ? options : &defaults;
    if (out_pool == NULL || options->threads > WORK_THREADS_MAX ||
        options->queue > WORK_QUEUE_MAX) {
        return -EINVAL;
    }
    pool = work_pool_map(options->threads != 0 ? options->threads : WORK_THREADS);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->queue_max = options->queue != 0 ? options->queue : WORK_QUEUE;
    pool->ours = 1;
    pthread_mutex_init(&pool->mutex, NULL); /* these two cannot fail on Linux */
    pthread_cond_init(&pool->more, NULL);
    gyre__list_init(&pool->queue);
    *out_pool = pool;
    return 0;
}

static int work_pool_check(const struct gyre_work_pool *pool)
{
    return pool == NULL ? -EINVAL : pool->ours ? 0 : GYRE_EFORK;
}

int gyre_work_pool_destroy(struct gyre_work_pool *pool)
{
    const int rc = pool == NULL ? 0 : work_pool_check(pool);

    if (pool == NULL || rc < 0) {
        return rc;
    }
    work_lock(pool);
    if (pool->out > 0) {
        work_unlock(pool);
        return -EBUSY;
    }
    gyre_assert(pool->queued == 0 && pool->running == 0);
    pool->stopping = 1;
    gyre__sys_pthread_cond_broadcast(&pool->more);
    work_unlock(pool);
    for (uint32_t i = 0; i < pool->threads; i++) {
        gyre__sys_pthread_join(pool->thread[i], NULL);
    }
    pthread_cond_destroy(&pool->more);
    pthread_mutex_destroy(&pool->mutex);
    work_pool_unmap(pool);
    return 0;
}

int gyre_work_pool_stats(struct gyre_work_pool *pool, struct gyre_work_pool_stats *out_stats)
{
    const int rc = out_stats == NULL ? -EINVAL : work_pool_check(pool);

    if (rc < 0) {
        return rc;
    }
    work_lock(pool);
    *out_stats = (struct gyre_work_pool_stats){
        .threads = pool->threads,
        .queued = pool->queued,
        .running = pool->running,
        .refused = pool->refused,
        .thread_failures = pool->thread_failures,
    };
    work_unlock(pool);
    return 0;
}

/* ---- work, on the loop's thread ---- */

static void work_arrive(struct gyre_return *back)
{
    struct gyre_work *work = gyre_container_of(back, struct gyre_work, back);
    int result;

    work_lock(work->pool); /* the thread that returned it has left the loop alone since */
    gyre_assert(work->state == WORK_RETURNED || work->state == WORK_CANCELLED);
    gyre_assert(work->pool->out > 0);
    result = work->state == WORK_CANCELLED ? -ECANCELED : 0;
    work->state = WORK_IDLE;
    work->pool->out--;
    work_unlock(work->pool);
    work->loop = NULL;
    work->done(work, result);
}

void gyre_work_init(struct gyre_work *work, gyre_work_fn fn, gyre_work_done_fn done)
{
    gyre_assert(work != NULL && fn != NULL && done != NULL);
    memset(work, 0, sizeof(*work));
    gyre__list_init(&work->link);
    work->back.arrive = work_arrive;
    work->fn = fn;
    work->done = done;
}

int gyre_work_active(const struct gyre_work *work)
{
    return work != NULL && work->loop != NULL;
}

/* The mutex is held. Queues the work, or returns an error and did nothing. */
static int work_enqueue(struct gyre_work_pool *pool, struct gyre_work *work)
{
    int rc;

    /* What a thread is about to take counts like what it runs, so that the limit does not depend on
     * how fast threads wake. */
    if (pool->queued + pool->running >= pool->threads_max + pool->queue_max) {
        return -ENOBUFS;
    }
    work->state = WORK_QUEUED;
    gyre__list_append(&pool->queue, &work->link);
    pool->queued++;
    pool->out++;
    rc = work_call_thread(pool);
    if (rc < 0) {
        work_take(pool, &work->link)->state = WORK_IDLE;
        pool->out--;
    }
    return rc;
}

int gyre_work_start(struct gyre_work *work, struct gyre_work_pool *pool, struct gyre_loop *loop)
{
    int rc = work == NULL || work->fn == NULL || loop == NULL ? -EINVAL : gyre__loop_check(loop);

    rc = rc < 0 ? rc : work_pool_check(pool);
    if (rc < 0) {
        return rc;
    }
    if (work->loop != NULL) {
        return -EBUSY;
    }
    work_lock(pool);
    work->loop = loop;
    work->pool = pool;
    rc = work_enqueue(pool, work);
    pool->refused += rc < 0;
    work_unlock(pool);
    if (rc < 0) {
        work->loop = NULL;
        return rc;
    }
    gyre__loop_give(loop);
    return 0;
}

int gyre_work_cancel(struct gyre_work *work)
{
    int rc = work == NULL || work->loop == NULL ? -EINVAL : gyre__loop_check(work->loop);

    if (rc < 0) {
        return rc;
    }
    work_lock(work->pool);
    if (work->state == WORK_QUEUED) {
        work_return(work_take(work->pool, &work->link), WORK_CANCELLED);
    }
    rc = work->state == WORK_CANCELLED ? 0 : -EBUSY;
    work_unlock(work->pool);
    return rc;
}
