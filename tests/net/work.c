/*
 * Blocking work on a pool of threads. Catalogue O01..O07, S07. Also run under ThreadSanitizer. A
 * thread that is not the case's own asserts nothing; it counts, and the case asserts.
 */
#include "../core/traffic.h"
#include "trial.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct job {
    struct gyre_work work;
    struct gyre_loop *loop;
    struct gyre_work_pool *pool;
    sem_t *began; /* NULL, or posted when the function begins */
    sem_t *gate;  /* NULL, or waited for before it ends */
    pthread_t ran_on;
    pthread_t done_on;
    int runs;
    int *order; /* NULL, or a count of the runs so far, of a pool with one thread */
    int rank;
    int dones;
    int result;
    int again; /* starts to come in done callbacks */
    int *left; /* NULL, or how many are not done */
};

static void on_run(struct gyre_work *work)
{
    struct job *job = gyre_container_of(work, struct job, work);

    if (job->began != NULL) {
        sem_post(job->began);
    }
    while (job->gate != NULL && sem_wait(job->gate) != 0) {
    }
    job->ran_on = pthread_self();
    job->rank = job->order != NULL ? (*job->order)++ : 0;
    job->runs++;
}

static void on_done(struct gyre_work *work, int result)
{
    struct job *job = gyre_container_of(work, struct job, work);

    job->done_on = pthread_self();
    job->dones++;
    job->result = result;
    if (job->again > 0) {
        job->again--;
        job->result = gyre_work_start(work, job->pool, job->loop);
        return;
    }
    if (job->left != NULL) {
        (*job->left)--;
    }
}

static void job_init(struct job *job, struct gyre_loop *loop, struct gyre_work_pool *pool)
{
    *job = (struct job){.loop = loop, .pool = pool, .result = 1};
    gyre_work_init(&job->work, on_run, on_done);
}

static int job_start(struct job *job)
{
    return gyre_work_start(&job->work, job->pool, job->loop);
}

static struct gyre_work_pool *pool_of(uint32_t threads, uint32_t queue)
{
    const struct gyre_work_pool_options options = {.threads = threads, .queue = queue};
    struct gyre_work_pool *pool = NULL;

    assert_int_equal(gyre_work_pool_create(&pool, &options), 0);
    return pool;
}

static struct gyre_work_pool_stats pool_stats(struct gyre_work_pool *pool)
{
    struct gyre_work_pool_stats stats;

    assert_int_equal(gyre_work_pool_stats(pool, &stats), 0);
    return stats;
}

/* Until the threads have nothing left to do; the loop has not been told yet. */
static void await_threads(struct gyre_work_pool *pool)
{
    while (pool_stats(pool).queued + pool_stats(pool).running > 0) {
        sched_yield();
    }
}

static void await(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0) {
        assert_int_equal(errno, EINTR);
    }
}

/* A pool with one thread, and a job that keeps it busy until the gate is opened. */
struct busy {
    struct gyre_loop *loop;
    struct gyre_work_pool *pool;
    struct job job;
    sem_t began;
    sem_t gate;
};

static void busy_start(struct busy *busy, uint32_t queue)
{
    busy->loop = test_loop();
    busy->pool = pool_of(1, queue);
    assert_int_equal(sem_init(&busy->began, 0, 0), 0);
    assert_int_equal(sem_init(&busy->gate, 0, 0), 0);
    job_init(&busy->job, busy->loop, busy->pool);
    busy->job.began = &busy->began;
    busy->job.gate = &busy->gate;
    assert_int_equal(job_start(&busy->job), 0);
    await(&busy->began);
}

/* With the gate open. */
static void busy_end(struct busy *busy)
{
    test_turns_until(busy->loop, &busy->job.dones);
    assert_int_equal(busy->job.runs, 1);
    assert_int_equal(busy->job.result, 0);
    assert_int_equal(gyre_work_pool_destroy(busy->pool), 0);
    test_loop_end(busy->loop);
    sem_destroy(&busy->began);
    sem_destroy(&busy->gate);
}

/* ---- doing ---- */

/* O01 */
static void work_runs_elsewhere_and_is_done_on_the_loops_thread(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = NULL;
    struct job job;

    assert_int_equal(gyre_work_pool_create(&pool, NULL), 0);
    job_init(&job, loop, pool);
    assert_int_equal(gyre_work_active(&job.work), 0);
    assert_int_equal(job_start(&job), 0);
    assert_int_equal(gyre_work_active(&job.work), 1);
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(job.dones, 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(job.runs, 1);
    assert_int_equal(job.dones, 1);
    assert_int_equal(job.result, 0);
    assert_false(pthread_equal(job.ran_on, pthread_self()));
    assert_true(pthread_equal(job.done_on, pthread_self()));
    assert_int_equal(gyre_work_active(&job.work), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

static void works_of_one_thread_run_in_the_order_of_their_starts(void)
{
    enum { JOBS = 500 };
    static struct job jobs[JOBS];
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(1, JOBS);
    int order = 0;
    int left = JOBS;
    int i;

    for (i = 0; i < JOBS; i++) {
        job_init(&jobs[i], loop, pool);
        jobs[i].order = &order;
        jobs[i].left = &left;
        assert_int_equal(job_start(&jobs[i]), 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    for (i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].rank, i);
        assert_int_equal(jobs[i].dones, 1);
    }
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

static void on_done_free(struct gyre_work *work, int result)
{
    struct job *job = gyre_container_of(work, struct job, work);

    assert_int_equal(result, 0);
    (*job->left)--;
    free(job);
}

static void work_may_be_freed_in_its_done_callback(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(2, 0);
    int left = 100;
    int i;

    for (i = 0; i < 100; i++) {
        struct job *job = malloc(sizeof(*job));

        assert_non_null(job);
        job_init(job, loop, pool);
        gyre_work_init(&job->work, on_run, on_done_free);
        job->left = &left;
        assert_int_equal(job_start(job), 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

/* Each done as the loop falls asleep: it must not sleep past it. */
static void work_started_again_in_its_done_callback_goes_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(1, 0);
    struct job job;

    job_init(&job, loop, pool);
    job.again = 5000;
    assert_int_equal(job_start(&job), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(job.runs, 5001);
    assert_int_equal(job.dones, 5001);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

/* The post queue is full, and as long as the loop does not run, stays so. */
static void on_post(struct gyre_loop *loop, void *data)
{
    int *posts = data;

    (void)loop;
    (*posts)++;
}

static void work_is_done_although_the_post_queue_is_full(void)
{
    enum { JOBS = 3000 };
    static struct job jobs[JOBS];
    struct gyre_loop_options options = test_options();
    struct gyre_work_pool *pool = pool_of(2, JOBS);
    struct gyre_loop *loop;
    int made = 0;
    int posts = 0;
    int left = JOBS;
    int i;

    options.post_capacity = 2;
    loop = test_loop_with(&options);
    while (gyre_loop_post(loop, on_post, &posts) == 0) {
        made++;
    }
    for (i = 0; i < JOBS; i++) {
        job_init(&jobs[i], loop, pool);
        jobs[i].left = &left;
        assert_int_equal(job_start(&jobs[i]), 0);
    }
    await_threads(pool);
    assert_int_equal(left, JOBS);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    assert_int_equal(left, JOBS - 1024); /* a turn's share */
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    assert_int_equal(posts, made);
    for (i = 0; i < JOBS; i++) {
        assert_int_equal(jobs[i].dones, 1);
    }
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

static void work_makes_an_embedded_loops_descriptor_readable(void)
{
    struct busy busy;
    struct pollfd outer = {.events = POLLIN};

    busy_start(&busy, 0);
    outer.fd = gyre_loop_fd(busy.loop);
    assert_true(outer.fd >= 0);
    assert_int_equal(gyre_loop_dispatch(busy.loop), 1);
    assert_int_equal(busy.job.dones, 0);
    sem_post(&busy.gate);
    while (busy.job.dones == 0) {
        assert_int_equal(poll(&outer, 1, -1), 1);
        assert_true(gyre_loop_dispatch(busy.loop) >= 0);
    }
    busy_end(&busy);
}

/* ---- a full pool ---- */

/* O02 */
static void saturated_pool_leaves_the_network_alone(void)
{
    enum { THREADS = 3, QUEUE = 5 };
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(THREADS, QUEUE);
    struct job jobs[THREADS + QUEUE + 1];
    sem_t began;
    sem_t gate;
    int left = THREADS + QUEUE;
    int i;

    assert_int_equal(sem_init(&began, 0, 0), 0);
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    for (i = 0; i < THREADS + QUEUE + 1; i++) {
        job_init(&jobs[i], loop, pool);
        jobs[i].began = &began;
        jobs[i].gate = &gate;
        jobs[i].left = &left;
        assert_int_equal(job_start(&jobs[i]), i < THREADS + QUEUE ? 0 : -ENOBUFS);
    }
    for (i = 0; i < THREADS; i++) {
        await(&began);
    }
    assert_int_equal(job_start(&jobs[THREADS + QUEUE]), -ENOBUFS);
    assert_int_equal(gyre_work_active(&jobs[THREADS + QUEUE].work), 0);
    assert_int_equal(pool_stats(pool).refused, 2);
    assert_int_equal(pool_stats(pool).threads, THREADS);
    traffic_check(loop, 200);
    assert_int_equal(left, THREADS + QUEUE);
    for (i = 0; i < THREADS + QUEUE; i++) {
        sem_post(&gate);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    assert_int_equal(jobs[THREADS + QUEUE].dones, 0);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
    sem_destroy(&began);
    sem_destroy(&gate);
}

static void threads_are_started_when_needed_and_no_more_than_allowed(void)
{
    enum { JOBS = 6, THREADS = 4 };
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(THREADS, 0);
    const size_t before = test_threads();
    struct job jobs[JOBS];
    sem_t gate;
    int left = JOBS;
    int i;

    assert_int_equal(sem_init(&gate, 0, 0), 0);
    for (i = 0; i < JOBS; i++) {
        job_init(&jobs[i], loop, pool);
        jobs[i].gate = &gate;
        jobs[i].left = &left;
        assert_int_equal(job_start(&jobs[i]), 0);
        assert_int_equal(test_threads() - before, i < THREADS ? i + 1 : THREADS);
    }
    for (i = 0; i < JOBS; i++) {
        sem_post(&gate);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
    sem_destroy(&gate);
}

static void idle_thread_is_used_before_another_is_started(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(4, 0);
    struct job job;
    int i;

    job_init(&job, loop, pool);
    for (i = 1; i <= 50; i++) {
        assert_int_equal(job_start(&job), 0);
        test_turns_until_count(loop, &job.dones, i);
        assert_int_equal(pool_stats(pool).threads, 1);
    }
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

struct masked {
    struct gyre_work work;
    sigset_t mask;
    char name[16];
};

static void on_run_look(struct gyre_work *work)
{
    struct masked *masked = gyre_container_of(work, struct masked, work);

    pthread_sigmask(SIG_BLOCK, NULL, &masked->mask);
    pthread_getname_np(pthread_self(), masked->name, sizeof(masked->name));
}

static void on_done_nothing(struct gyre_work *work, int result)
{
    (void)work;
    (void)result;
}

/* S07 */
static void threads_block_all_signals_and_have_a_name(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(1, 0);
    struct masked masked;
    sigset_t before;
    sigset_t after;
    sigset_t all;
    int number;

    test_skip_simulated("the simulation has no names and masks of threads");
    sigfillset(&all);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &before), 0);
    gyre_work_init(&masked.work, on_run_look, on_done_nothing);
    assert_int_equal(gyre_work_start(&masked.work, pool, loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &after), 0);
    for (number = 1; number <= SIGRTMAX; number++) {
        if (number != SIGKILL && number != SIGSTOP && sigismember(&all, number) == 1) {
            assert_int_equal(sigismember(&masked.mask, number), 1);
        }
        assert_int_equal(sigismember(&before, number), sigismember(&after, number));
    }
    assert_string_equal(masked.name, "gyre-work");
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

/* ---- cancel ---- */

/* O03 */
static void cancel_of_queued_work_gives_it_up(void)
{
    struct busy busy;
    struct job first;
    struct job second;

    busy_start(&busy, 0);
    job_init(&first, busy.loop, busy.pool);
    job_init(&second, busy.loop, busy.pool);
    assert_int_equal(job_start(&first), 0);
    assert_int_equal(job_start(&second), 0);
    assert_int_equal(gyre_work_cancel(&first.work), 0);
    assert_int_equal(gyre_work_cancel(&first.work), 0);
    assert_int_equal(first.dones, 0);
    assert_int_equal(job_start(&first), -EBUSY);
    test_turns_until(busy.loop, &first.dones);
    assert_int_equal(first.result, -ECANCELED);
    assert_int_equal(gyre_work_cancel(&first.work), -EINVAL);
    sem_post(&busy.gate);
    test_turns_until(busy.loop, &second.dones);
    assert_int_equal(second.result, 0);
    assert_int_equal(first.runs, 0);
    assert_int_equal(first.dones, 1);
    busy_end(&busy);
}

/* O03 */
static void cancel_of_running_work_is_too_late(void)
{
    struct busy busy;

    busy_start(&busy, 0);
    assert_int_equal(gyre_work_cancel(&busy.job.work), -EBUSY);
    sem_post(&busy.gate);
    await_threads(busy.pool);
    assert_int_equal(busy.job.dones, 0);
    assert_int_equal(gyre_work_cancel(&busy.job.work), -EBUSY);
    busy_end(&busy);
}

static void cancel_against_the_threads_has_one_result(void)
{
    enum { ROUNDS = 5000 };
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(2, 0);
    int round;

    for (round = 1; round <= ROUNDS; round++) {
        struct job job;
        int rc;

        job_init(&job, loop, pool);
        assert_int_equal(job_start(&job), 0);
        while (round % 3 == 0 && pool_stats(pool).queued > 0) {
            sched_yield();
        }
        rc = gyre_work_cancel(&job.work);
        test_turns_until(loop, &job.dones);
        assert_int_equal(job.result, rc == 0 ? -ECANCELED : 0);
        assert_int_equal(job.runs, rc == 0 ? 0 : 1);
        assert_int_equal(job.dones, 1);
    }
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
}

/* ---- the ends of loops and pools ---- */

/* O04 */
static void loop_and_pool_with_work_out_cannot_be_destroyed(void)
{
    struct busy busy;

    busy_start(&busy, 0);
    assert_int_equal(gyre_loop_destroy(busy.loop), -EBUSY);
    assert_int_equal(gyre_work_pool_destroy(busy.pool), -EBUSY);
    assert_int_equal(gyre_loop_alive(busy.loop), 1);
    sem_post(&busy.gate);
    await_threads(busy.pool);
    assert_int_equal(gyre_loop_destroy(busy.loop), -EBUSY);
    assert_int_equal(gyre_work_pool_destroy(busy.pool), -EBUSY);
    assert_int_equal(gyre_loop_alive(busy.loop), 1);
    busy_end(&busy);
}

static void on_done_destroy(struct gyre_work *work, int result)
{
    struct job *job = gyre_container_of(work, struct job, work);

    assert_int_equal(result, 0);
    job->dones++;
    assert_int_equal(gyre_work_pool_destroy(job->pool), 0);
}

/* O04: the thread that was the last to wake the loop has left it alone by then. */
static void loop_and_pool_may_be_destroyed_as_soon_as_work_is_done(void)
{
    int round;

    for (round = 0; round < 100; round++) {
        struct gyre_loop *loop = test_loop();
        struct gyre_work_pool *pool = pool_of(2, 0);
        struct job job;

        job_init(&job, loop, pool);
        gyre_work_init(&job.work, on_run, on_done_destroy);
        assert_int_equal(job_start(&job), 0);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(job.dones, 1);
        assert_int_equal(gyre_loop_destroy(loop), 0);
    }
}

static void pool_without_work_is_destroyed(void)
{
    assert_int_equal(gyre_work_pool_destroy(NULL), 0);
    assert_int_equal(gyre_work_pool_destroy(pool_of(0, 0)), 0);
    assert_int_equal(gyre_work_pool_destroy(pool_of(1024, 1u << 20)), 0);
}

/* ---- many loops ---- */

struct sharer {
    struct gyre_work_pool *pool;
    pthread_t thread;
    int failed;
};

/* Not the case's own thread. Each job runs many times; the loop of each thread gets its own. */
static void *share(void *data)
{
    enum { JOBS = 8, TIMES = 500 };
    const struct gyre_loop_options options = test_options();
    struct sharer *sharer = data;
    struct gyre_loop *loop = NULL;
    struct job jobs[JOBS];
    int i;

    sharer->failed += gyre_loop_create(&loop, &options) != 0;
    for (i = 0; i < JOBS; i++) {
        job_init(&jobs[i], loop, sharer->pool);
        jobs[i].again = TIMES - 1;
        sharer->failed += job_start(&jobs[i]) != 0;
    }
    sharer->failed += gyre_loop_run(loop, GYRE_RUN_DEFAULT) != 0;
    for (i = 0; i < JOBS; i++) {
        sharer->failed += jobs[i].runs != TIMES || jobs[i].dones != TIMES;
        sharer->failed += !pthread_equal(jobs[i].done_on, pthread_self());
        sharer->failed += pthread_equal(jobs[i].ran_on, pthread_self());
    }
    sharer->failed += gyre_loop_destroy(loop) != 0;
    return NULL;
}

/* O05 */
static void loops_of_many_threads_share_a_pool(void)
{
    struct gyre_work_pool *pool = pool_of(3, 0);
    struct sharer sharers[4] = {{0}};
    size_t i;

    for (i = 0; i < TEST_COUNT(sharers); i++) {
        sharers[i].pool = pool;
        assert_int_equal(pthread_create(&sharers[i].thread, NULL, share, &sharers[i]), 0);
    }
    for (i = 0; i < TEST_COUNT(sharers); i++) {
        assert_int_equal(pthread_join(sharers[i].thread, NULL), 0);
        assert_int_equal(sharers[i].failed, 0);
    }
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
}

/* ---- refusals ---- */

static void *start_elsewhere(void *data)
{
    return (void *)(intptr_t)job_start(data);
}

static void *cancel_elsewhere(void *data)
{
    struct job *job = data;

    return (void *)(intptr_t)gyre_work_cancel(&job->work);
}

static int elsewhere(void *(*body)(void *), void *data)
{
    pthread_t thread;
    void *rc = NULL;

    assert_int_equal(pthread_create(&thread, NULL, body, data), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    return (int)(intptr_t)rc;
}

static void bad_arguments_are_refused(void)
{
    const struct gyre_work_pool_options many = {.threads = 1025};
    const struct gyre_work_pool_options deep = {.queue = (1u << 20) + 1};
    struct gyre_work_pool *pool = NULL;
    struct gyre_work_pool_stats stats;
    struct gyre_work none = {0};
    struct busy busy;
    struct job job;

    assert_int_equal(gyre_work_pool_create(NULL, NULL), -EINVAL);
    assert_int_equal(gyre_work_pool_create(&pool, &many), -EINVAL);
    assert_int_equal(gyre_work_pool_create(&pool, &deep), -EINVAL);
    assert_null(pool);
    busy_start(&busy, 0);
    job_init(&job, busy.loop, busy.pool);
    assert_int_equal(gyre_work_pool_stats(NULL, &stats), -EINVAL);
    assert_int_equal(gyre_work_pool_stats(busy.pool, NULL), -EINVAL);
    assert_int_equal(gyre_work_start(NULL, busy.pool, busy.loop), -EINVAL);
    assert_int_equal(gyre_work_start(&none, busy.pool, busy.loop), -EINVAL);
    assert_int_equal(gyre_work_start(&job.work, NULL, busy.loop), -EINVAL);
    assert_int_equal(gyre_work_start(&job.work, busy.pool, NULL), -EINVAL);
    assert_int_equal(gyre_work_cancel(NULL), -EINVAL);
    assert_int_equal(gyre_work_cancel(&none), -EINVAL);
    assert_int_equal(gyre_work_cancel(&job.work), -EINVAL);
    assert_int_equal(gyre_work_active(NULL), 0);
    if (!test_is_simulated()) { /* where all threads are one to the library */
        assert_int_equal(elsewhere(start_elsewhere, &job), GYRE_ETHREAD);
        assert_int_equal(elsewhere(cancel_elsewhere, &busy.job), GYRE_ETHREAD);
    }
    assert_int_equal(gyre_loop_alive(busy.loop), 1);
    sem_post(&busy.gate);
    busy_end(&busy);
}

/* Without privileges the limit holds; the children of this process are its own. */
static void refuse_threads(void)
{
    struct rlimit limit;

    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) {
        _exit(99);
    }
    assert_int_equal(getrlimit(RLIMIT_NPROC, &limit), 0);
    limit.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NPROC, &limit), 0);
}

/* In a child that ends by _exit(): what it leaves is of no concern. */
static int start_without_threads(void *unused)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(2, 0);
    struct job job;

    (void)unused;
    refuse_threads();
    job_init(&job, loop, pool);
    assert_int_equal(job_start(&job), -EAGAIN);
    assert_int_equal(job_start(&job), -EAGAIN);
    assert_int_equal(gyre_work_active(&job.work), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(pool_stats(pool).queued, 0);
    assert_int_equal(pool_stats(pool).refused, 2);
    assert_int_equal(pool_stats(pool).thread_failures, 2);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    assert_int_equal(gyre_loop_destroy(loop), 0);
    return 0;
}

static int start_with_one_thread(void *unused)
{
    enum { JOBS = 10 };
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(4, 0);
    struct job jobs[JOBS];
    sem_t gate;
    int left = JOBS;
    int i;

    (void)unused;
    job_init(&jobs[0], loop, pool);
    assert_int_equal(job_start(&jobs[0]), 0);
    test_turns_until(loop, &jobs[0].dones);
    refuse_threads();
    assert_int_equal(sem_init(&gate, 0, 0), 0);
    for (i = 0; i < JOBS; i++) {
        job_init(&jobs[i], loop, pool);
        jobs[i].gate = &gate;
        jobs[i].left = &left;
        assert_int_equal(job_start(&jobs[i]), 0);
    }
    for (i = 0; i < JOBS; i++) {
        sem_post(&gate);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(left, 0);
    assert_int_equal(pool_stats(pool).threads, 1);
    assert_true(pool_stats(pool).thread_failures > 0);
    assert_int_equal(pool_stats(pool).refused, 0);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    assert_int_equal(gyre_loop_destroy(loop), 0);
    return 0;
}

static void check_without_threads(int (*body)(void *))
{
    const int status = test_child_status(body, NULL);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 99) {
        test_skip("cannot drop the privileges of root");
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* O06 */
static void start_is_refused_when_the_pool_can_have_no_thread(void)
{
    check_without_threads(start_without_threads);
}

/* O06 */
static void pool_that_cannot_have_all_threads_goes_on_with_one(void)
{
    check_without_threads(start_with_one_thread);
}

/* ---- fork ---- */

static int touch_in_child(void *data)
{
    struct busy *busy = data;
    struct gyre_loop *loop = test_loop();
    struct gyre_work_pool *pool = pool_of(2, 0);
    struct gyre_work_pool_stats stats;
    struct job job;

    job_init(&job, loop, busy->pool);
    assert_int_equal(job_start(&job), GYRE_EFORK);
    assert_int_equal(gyre_work_pool_stats(busy->pool, &stats), GYRE_EFORK);
    assert_int_equal(gyre_work_pool_destroy(busy->pool), GYRE_EFORK);
    assert_int_equal(gyre_work_cancel(&busy->job.work), GYRE_EFORK);
    assert_int_equal(gyre_work_start(&job.work, pool, busy->loop), GYRE_EFORK);
    job_init(&job, loop, pool);
    assert_int_equal(job_start(&job), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(job.dones, 1);
    assert_int_equal(gyre_work_pool_destroy(pool), 0);
    test_loop_end(loop);
    return 0;
}

/* O07 */
static void forked_child_is_refused_the_pool_and_has_its_own(void)
{
    struct busy busy;

#if defined(__SANITIZE_THREAD__)
    test_skip("ThreadSanitizer allows no threads in the child of a process with threads");
#endif
    busy_start(&busy, 0);
    test_child_passes(touch_in_child, &busy);
    sem_post(&busy.gate);
    busy_end(&busy);
}

static const struct test_case cases[] = {
    TEST_CASE(work_runs_elsewhere_and_is_done_on_the_loops_thread),
    TEST_CASE(works_of_one_thread_run_in_the_order_of_their_starts),
    TEST_CASE(work_may_be_freed_in_its_done_callback),
    TEST_CASE(work_started_again_in_its_done_callback_goes_on),
    TEST_CASE(work_is_done_although_the_post_queue_is_full),
    TEST_CASE(work_makes_an_embedded_loops_descriptor_readable),
    TEST_CASE(saturated_pool_leaves_the_network_alone),
    TEST_CASE(threads_are_started_when_needed_and_no_more_than_allowed),
    TEST_CASE(idle_thread_is_used_before_another_is_started),
    TEST_CASE(threads_block_all_signals_and_have_a_name),
    TEST_CASE(cancel_of_queued_work_gives_it_up),
    TEST_CASE(cancel_of_running_work_is_too_late),
    TEST_CASE(cancel_against_the_threads_has_one_result),
    TEST_CASE(loop_and_pool_with_work_out_cannot_be_destroyed),
    TEST_CASE(loop_and_pool_may_be_destroyed_as_soon_as_work_is_done),
    TEST_CASE(pool_without_work_is_destroyed),
    {"loops_of_many_threads_share_a_pool", loops_of_many_threads_share_a_pool, 30},
    TEST_CASE(bad_arguments_are_refused),
    TEST_CASE(start_is_refused_when_the_pool_can_have_no_thread),
    TEST_CASE(pool_that_cannot_have_all_threads_goes_on_with_one),
    TEST_CASE(forked_child_is_refused_the_pool_and_has_its_own),
};

int main(void)
{
    return test_main("work", cases, TEST_COUNT(cases));
}
