/*
 * The loop. A turn:
 *
 *     receives that starved      before others take what has come back meanwhile; results that they
 *                                bring at once
 *     wait: submit and wait      one system call; nothing runs in it
 *     take out due timers        so that one started by a callback waits for the next turn
 *     driver's dispatch          callbacks of what completed, results that they bring at once
 *     ready operations           what completed without the kernel, and tries that are due
 *     timers                     those taken out
 *     posts, returns             what other threads asked for, and gave back
 *     ready operations           what these and timers started
 *
 * Each part has a budget. What is left over makes the next turn not wait, so that nothing starves:
 * neither a timer behind a flood of completions nor the kernel behind callbacks that start
 * operations that complete at once.
 */
#include "core/loop.h"

#include "base/alloc.h"
#include "base/bits.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/sys.h"
#include "core/op.h"
#include "core/task.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum {
    READY_BUDGET = 1024,  /* callbacks of ready operations per turn */
    TIMER_BUDGET = 1024,  /* timers per turn */
    POST_BUDGET = 1024,   /* posts per turn, and returns */
    BATCH_NS = 500,       /* batches of posts that are closer keep a distance */
    BATCH_PAUSE = 128,    /* how long the processor decides; 2.5 us on Zen 5 */
    DOZE_NS = 100000,     /* see post.c */
    DISPATCH_TURNS = 8,   /* turns of one gyre_loop_dispatch(): mostly one, two to submit */
    DEFAULT_POSTS = 4096, /* 64 KiB */
    POSTS_MAX = 1u << 20,
    SQ_LEAST = 8,
    SQ_MOST = 32768, /* the kernel's own */
    CQ_MOST = 65536,
};

/* How soon to try again when the kernel had no memory to wait for wake-ups. */
#define WAKE_RETRY_NS (10 * GYRE_MSEC)

/* ---- threads ---- */

_Thread_local char gyre__thread_mark;

int gyre__loop_refused(const struct gyre_loop *loop)
{
    return loop->owner != NULL ? GYRE_ETHREAD : GYRE_EFORK;
}

/* ---- create and destroy ---- */

/* The loop's own operation does not count. */
static int wait_for_wakes(struct gyre_loop *loop)
{
    const size_t active = loop->active_ops;
    const int rc = gyre_op_poll(&loop->wake_op, &loop->wake_fd, EPOLLIN, GYRE_MULTISHOT);

    loop->active_ops = active;
    return rc;
}

static void wait_for_wakes_later(struct gyre_loop *loop);

static void wait_for_wakes_again(struct gyre_alarm *alarm)
{
    struct gyre_loop *loop = gyre_container_of(alarm, struct gyre_loop, wake_again);

    if (wait_for_wakes(loop) < 0) {
        wait_for_wakes_later(loop);
    }
}

static void wait_for_wakes_later(struct gyre_loop *loop)
{
    loop->wake_again.fire = wait_for_wakes_again;
    gyre__wheel_add(&loop->wheel, &loop->wake_again,
                    gyre__time_add(gyre__clock_now(), WAKE_RETRY_NS));
}

static void on_wake(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_loop *loop = gyre_container_of(op, struct gyre_loop, wake_op);

    /* The eventfd is never read: each write is one event, and its counter outlasts the machine. */
    loop->stats.wakes += result->res > 0;
    if (!(result->flags & GYRE_MORE)) { /* the kernel had no memory to wait */
        loop->active_ops++;
        loop->stats.finished[GYRE_OP_POLL]--;
        wait_for_wakes_later(loop);
    }
}

static int start_wake(struct gyre_loop *loop)
{
    int rc = gyre_fd_init(&loop->wake_fd, loop, loop->wake_number);

    if (rc < 0) {
        return rc;
    }
    gyre_op_init(&loop->wake_op, on_wake);
    loop->wake_op.flags = GYRE__OP_BACKGROUND;
    rc = wait_for_wakes(loop);
    loop->fds = 0; /* its own does not count either */
    if (rc == 0 && loop->wake_op.state == GYRE__OP_READY) {
        return loop->wake_op.result; /* it has failed already: nothing could wake such a loop */
    }
    return rc;
}

/* The same on each driver, also what only one of them heeds. The pool checks its own. */
static int check_options(const struct gyre_loop_options *options)
{
    const uint32_t sq = options->sq_entries;
    const uint32_t cq = options->cq_entries;
    const int bad_sq = sq != 0 && (sq < SQ_LEAST || sq > SQ_MOST);
    const int bad_cq = cq != 0 && (cq > CQ_MOST || cq < 2 * (sq != 0 ? (uint64_t)sq : SQ_LEAST));

    return bad_sq || bad_cq || options->post_capacity > POSTS_MAX ||
                   options->features_off >> GYRE_FEATURE_COUNT != 0
               ? -EINVAL
               : 0;
}

static int start_parts(struct gyre_loop *loop, const struct gyre_loop_options *options)
{
    const uint32_t posts = options->post_capacity != 0 ? options->post_capacity : DEFAULT_POSTS;
    int rc = check_options(options);

    rc = rc < 0 ? rc : gyre__slots_init(&loop->slots);
    rc = rc < 0 ? rc : gyre__posts_init(&loop->posts, gyre__power_of_two(posts));
    if (rc < 0) {
        return rc;
    }
    loop->wake_number = gyre__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->wake_number < 0) {
        return -errno;
    }
    rc = gyre__backend_select(loop, options);
    return rc < 0 ? rc : start_wake(loop);
}

static void close_number(int number)
{
    if (number >= 0) {
        gyre__sys_close(number);
    }
}

/* Also takes apart what start_parts() left half done. */
static void free_loop(struct gyre_loop *loop)
{
    if (loop->net != NULL) {
        loop->net_fini(loop);
    }
    if (loop->driver != NULL) {
        loop->backend->fini(loop);
    }
    close_number(loop->outer_fd);
    close_number(loop->timer_fd);
    close_number(loop->reserve_number);
    close_number(loop->wake_number);
    gyre__posts_fini(&loop->posts);
    gyre__slots_fini(&loop->slots);
    gyre__sys_munmap(loop, sizeof(*loop));
}

int gyre_loop_create(struct gyre_loop **out_loop, const struct gyre_loop_options *options)
{
    static const struct gyre_loop_options defaults;
    struct gyre_loop *loop;
    int rc;

    if (out_loop == NULL) {
        return -EINVAL;
    }
    options = options != NULL ? options : &defaults;
    loop = gyre__map_wiped(sizeof(*loop));
    if (loop == NULL) {
        return -ENOMEM;
    }
    loop->owner = &gyre__thread_mark;
    loop->wake_number = -1;
    loop->reserve_number = -1;
    loop->timer_fd = -1;
    loop->outer_fd = -1;
    loop->busy_poll_ns = options->busy_poll_ns;
    loop->now_ns = gyre__clock_now();
    gyre__list_init(&loop->results);
    gyre__list_init(&loop->tries);
    gyre__list_init(&loop->later);
    gyre__list_init(&loop->tasks);
    gyre__list_init(&loop->paused);
    gyre__alarm_init(&loop->pause_end);
    gyre__alarm_init(&loop->wake_again);
    gyre__wheel_init(&loop->wheel, loop->now_ns);
    rc = start_parts(loop, options);
    if (rc < 0) {
        free_loop(loop);
        return rc;
    }
    *out_loop = loop;
    return 0;
}

static int is_busy(const struct gyre_loop *loop)
{
    return loop->running || loop->active_ops > 0 || loop->timers > 0 || loop->fds > 0 ||
           loop->away > 0 || loop->pool.leases > 0 || gyre__posts_count(&loop->posts) > 0;
}

int gyre_loop_destroy(struct gyre_loop *loop)
{
    int rc;

    if (loop == NULL) {
        return 0;
    }
    rc = gyre__loop_check(loop);
    if (rc < 0) {
        return rc;
    }
    if (is_busy(loop)) {
        return -EBUSY;
    }
    free_loop(loop);
    return 0;
}

/* ---- a turn ---- */

static int has_work(const struct gyre_loop *loop)
{
    return !gyre__list_empty(&loop->results) || !gyre__list_empty(&loop->tries) ||
           !gyre__list_empty(&loop->later) || !gyre__list_empty(&loop->tasks) ||
           gyre__posts_pending(&loop->posts) ||
           (loop->pool.starved_count > 0 && gyre__pool_room(&loop->pool) > 0);
}

/* Until when to wait: 0 for not at all, UINT64_MAX for as long as it takes. */
static uint64_t wait_until(struct gyre_loop *loop)
{
    uint64_t next;

    if (loop->stopping || has_work(loop)) {
        return 0;
    }
    next = gyre__wheel_next(&loop->wheel);
    return next <= loop->now_ns ? 0 : next;
}

/* Look for work without sleeping, for a while. Returns 1 if there is some. */
static int busy_poll(struct gyre_loop *loop, uint64_t deadline_ns)
{
    const uint64_t now = gyre__clock_now();
    const uint64_t spin_end = gyre__time_add(now, loop->busy_poll_ns);
    const uint64_t end = spin_end < deadline_ns ? spin_end : deadline_ns;

    do {
        for (int i = 0; i < 16; i++) { /* the clock is dearer than a look */
            if (loop->backend->peek(loop) || gyre__posts_pending(&loop->posts)) {
                return 1;
            }
            gyre__sys_relax();
        }
    } while (gyre__clock_now() < end);
    return 0;
}

/* For a moment, threads that post have the queue's cache lines for themselves. Falling asleep and being
 * woken takes longer. */
static void leave_alone(void)
{
    for (int i = 0; i < BATCH_PAUSE; i++) {
        gyre__sys_relax();
    }
}

/* From here on posts wake the loop. Until when it may sleep, @deadline_ns at the latest. */
static uint64_t fall_asleep(struct gyre_loop *loop, uint64_t deadline_ns)
{
    const enum gyre__posts_sleep how =
        deadline_ns != 0 ? gyre__posts_sleep(&loop->posts) : GYRE__POSTS_THERE;
    uint64_t doze_end;

    switch (how) {
    case GYRE__POSTS_ASLEEP:
        return deadline_ns;
    case GYRE__POSTS_DOZE:
        doze_end = gyre__clock_now() + DOZE_NS;
        return doze_end < deadline_ns ? doze_end : deadline_ns;
    default:
        return 0;
    }
}

static int sleep_or_poll(struct gyre_loop *loop, uint64_t deadline_ns)
{
    int rc;

    if (deadline_ns != 0 && loop->busy_poll_ns != 0) {
        rc = loop->backend->wait(loop, 0); /* submit first: spinning alone starts nothing */
        if (rc < 0) {
            return rc;
        }
        deadline_ns = busy_poll(loop, deadline_ns) ? 0 : deadline_ns;
    }
    if (deadline_ns != 0 && loop->posts_row > 1 && !loop->backend->peek(loop)) {
        leave_alone(); /* a stream of posts goes on */
        deadline_ns = gyre__posts_pending(&loop->posts) ? 0 : deadline_ns;
    }
    deadline_ns = fall_asleep(loop, deadline_ns);
    if (deadline_ns != 0) {
        loop->stats.waits++;
        loop->posts_row = 0;
    }
    rc = loop->backend->wait(loop, deadline_ns);
    gyre__posts_awake(&loop->posts);
    return rc;
}

/* What is due comes out before any callback runs, so that a timer which one of them starts, however
 * short, waits for the next turn. */
static void take_due(struct gyre_loop *loop, struct gyre_link *out_due)
{
    gyre__list_init(out_due);
    if (gyre__wheel_next(&loop->wheel) > loop->now_ns) {
        return;
    }
    for (int i = 0; i < TIMER_BUDGET; i++) {
        struct gyre_alarm *alarm = gyre__wheel_pop(&loop->wheel, loop->now_ns);

        if (alarm == NULL) {
            break;
        }
        gyre__list_append(out_due, &alarm->link);
    }
}

static void fire(struct gyre_link *due)
{
    while (!gyre__list_empty(due)) {
        struct gyre_alarm *alarm = gyre_container_of(due->next, struct gyre_alarm, link);

        gyre__list_remove(&alarm->link);
        alarm->fire(alarm);
    }
}

/* Posts are taken in batches that keep a small distance. A loop that takes each one of a stream as it
 * comes has both threads wait for the same cache lines, and each post costs several times as much. A
 * turn that makes system calls keeps it anyhow. */
static void run_posts(struct gyre_loop *loop)
{
    size_t count = gyre__posts_count(&loop->posts);
    gyre_post_fn fn;
    void *data;

    if (count == 0) {
        loop->posts_row = 0;
        return;
    }
    if (loop->now_ns - loop->posts_ns < BATCH_NS) {
        leave_alone();
        count = gyre__posts_count(&loop->posts);
    }
    count = count < POST_BUDGET ? count : POST_BUDGET;
    for (; count > 0 && gyre__posts_pop(&loop->posts, &fn, &data); count--) {
        loop->stats.posts++;
        fn(loop, data);
    }
    loop->posts_row++;
    loop->posts_ns = gyre__clock_now();
}

/* A task that asks for itself again waits for the next turn. */
static int run_tasks(struct gyre_loop *loop)
{
    struct gyre_link now;

    if (gyre__list_empty(&loop->tasks)) {
        return 0;
    }
    gyre__list_take(&now, &loop->tasks);
    loop->alone = loop->calm && now.next == now.prev; /* the only one */
    while (!gyre__list_empty(&now)) {
        struct gyre_task *task = gyre_container_of(now.next, struct gyre_task, link);

        gyre__list_remove(&task->link);
        task->run(task);
    }
    loop->alone = 0;
    return 1;
}

static void run_returns(struct gyre_loop *loop)
{
    for (int i = 0; i < POST_BUDGET; i++) {
        struct gyre_return *back = gyre__posts_arrival(&loop->posts);

        if (back == NULL) {
            return;
        }
        gyre_assert(loop->away > 0);
        loop->away--;
        back->arrive(back);
    }
}

/* What they ask the kernel for leaves with the next call into it, and is looked at first there. Returns
 * 1 if there is room for some: then callbacks may have run, and timers were taken out before, so that
 * what these start waits for the next turn. */
static GYRE__APART int serve_starved(struct gyre_loop *loop, struct gyre_link *out_due)
{
    const uint32_t before = loop->pool.starved_count;
    struct gyre_link others;
    int served;

    gyre__list_take(&others, &loop->tries);
    gyre__op_feed_starved(loop);
    served = loop->pool.starved_count != before;
    if (served) {
        gyre_loop_update_now(loop);
        take_due(loop, out_due);
        gyre__op_dispatch(loop, READY_BUDGET);
    }
    gyre__list_move(&loop->tries, &others);
    return served;
}

static int turn(struct gyre_loop *loop, int may_wait)
{
    struct gyre_link due;
    int served;
    int rc;

    loop->stats.turns++;
    loop->received = 0;
    gyre__list_move(&loop->tries, &loop->later);
    run_tasks(loop); /* of what happened between two turns */
    served = loop->pool.starved_count > 0 && serve_starved(loop, &due);
    rc = sleep_or_poll(loop, may_wait && !served ? wait_until(loop) : 0);
    if (rc < 0) {
        if (served) {
            fire(&due);
        }
        return rc;
    }
    gyre_loop_update_now(loop);
    if (!served) {
        take_due(loop, &due);
    }
    loop->backend->dispatch(loop);
    gyre__op_dispatch(loop, READY_BUDGET);
    fire(&due);
    run_posts(loop);
    run_returns(loop);
    gyre__op_dispatch(loop, READY_BUDGET);
    if (run_tasks(loop)) {
        gyre__op_dispatch(loop, READY_BUDGET); /* of what has left already */
    }
    gyre__pool_rest(&loop->pool);
    return 0;
}

/* ---- running ---- */

size_t gyre_loop_alive(const struct gyre_loop *loop)
{
    return (loop->active_ops - loop->background_ops) + (loop->timers - loop->background_timers) +
           loop->refs + loop->away + gyre__posts_count(&loop->posts);
}

/* Asks the queue of posts last: other threads write there. */
static int is_alive(const struct gyre_loop *loop)
{
    return loop->refs > 0 || loop->active_ops > loop->background_ops || gyre_loop_alive(loop) > 0;
}

/* There may be no other run, or not soon: what waits for the loop to sleep leaves now, if it can. */
static void leave(struct gyre_loop *loop)
{
    if (loop->backend->submit_silent != NULL) {
        loop->backend->submit_silent(loop);
    }
}

static int run(struct gyre_loop *loop, enum gyre_run_mode mode)
{
    int rc = 0;

    do {
        const int alive = is_alive(loop);

        if (mode == GYRE_RUN_DEFAULT && (loop->stopping || !alive)) {
            break;
        }
        rc = turn(loop, alive && mode != GYRE_RUN_NOWAIT);
    } while (rc == 0 && mode == GYRE_RUN_DEFAULT);
    leave(loop);
    loop->stopping = 0;
    return rc < 0 ? rc : gyre_loop_alive(loop) > 0;
}

/* Inside another event loop: between two runs the loop is asleep: posts must write, deadlines must make timer_fd
 * readable. */
static void settle(struct gyre_loop *loop)
{
    const int idle = !has_work(loop) && !loop->backend->peek(loop);
    const uint64_t first = fall_asleep(loop, idle ? gyre__wheel_next(&loop->wheel) : 0);
    const uint64_t next = first == 0 ? 1 : first; /* 0 would disarm */
    const struct itimerspec when = {
        .it_value.tv_sec = next == UINT64_MAX ? 0 : (time_t)(next / GYRE_SEC),
        .it_value.tv_nsec = next == UINT64_MAX ? 0 : (long)(next % GYRE_SEC),
    };

    gyre__sys_timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    loop->stats.syscalls++;
}

static int check_run(const struct gyre_loop *loop)
{
    const int rc = loop == NULL ? -EINVAL : gyre__loop_check(loop);

    if (rc < 0) {
        return rc;
    }
    return loop->running ? GYRE_ENESTED : 0;
}

int gyre_loop_run(struct gyre_loop *loop, enum gyre_run_mode mode)
{
    int rc = check_run(loop);

    if (rc < 0) {
        return rc;
    }
    if (mode != GYRE_RUN_DEFAULT && mode != GYRE_RUN_ONCE && mode != GYRE_RUN_NOWAIT) {
        return -EINVAL;
    }
    loop->running = 1;
    rc = run(loop, mode);
    if (loop->outer_fd >= 0) {
        settle(loop);
    }
    loop->running = 0;
    return rc;
}

void gyre_loop_stop(struct gyre_loop *loop)
{
    gyre__loop_assert_thread(loop);
    loop->stopping = 1;
}

void gyre_loop_ref(struct gyre_loop *loop)
{
    gyre__loop_assert_thread(loop);
    loop->refs++;
}

void gyre_loop_unref(struct gyre_loop *loop)
{
    gyre__loop_assert_thread(loop);
    gyre_assert(loop->refs > 0);
    loop->refs--;
}

uint64_t gyre_loop_now(const struct gyre_loop *loop)
{
    return loop->now_ns;
}

uint64_t gyre_loop_update_now(struct gyre_loop *loop)
{
    const uint64_t now = gyre__clock_now();

    gyre_assert(now >= loop->now_ns);
    loop->now_ns = now;
    return now;
}

/* ---- other threads ---- */

int gyre_loop_post(struct gyre_loop *loop, gyre_post_fn fn, void *data)
{
    int rc;

    if (loop == NULL || fn == NULL) {
        return -EINVAL;
    }
    if (loop->owner == NULL) {
        return GYRE_EFORK;
    }
    rc = gyre__posts_push(&loop->posts, fn, data);
    if (rc <= 0) {
        return rc;
    }
    gyre_loop_wake(loop);
    return 0;
}

void gyre__loop_return(struct gyre_loop *loop, struct gyre_return *back)
{
    if (gyre__posts_return(&loop->posts, back)) {
        gyre_loop_wake(loop);
    }
}

void gyre_loop_close_posts(struct gyre_loop *loop)
{
    gyre__posts_close(&loop->posts);
}

void gyre_loop_wake(struct gyre_loop *loop)
{
    const int error = errno;
    const uint64_t one = 1;

    if (loop->owner == NULL) {
        return; /* a forked child: the parent's loop is not its to wake */
    }
    /* Fails only when the counter is full, and then the loop has been woken. */
    if (gyre__sys_write(loop->wake_number, &one, sizeof(one)) < 0) {
        errno = error;
    }
}

/* ---- inside another event loop ---- */

static int add_to_outer(struct gyre_loop *loop, int number)
{
    struct epoll_event event = {.events = EPOLLIN};

    if (number < 0) {
        return number;
    }
    return gyre__sys_epoll_ctl(loop->outer_fd, EPOLL_CTL_ADD, number, &event) < 0 ? -errno : 0;
}

static int make_outer(struct gyre_loop *loop)
{
    int rc;

    loop->timer_fd = gyre__sys_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    loop->outer_fd = gyre__sys_epoll_create1(EPOLL_CLOEXEC);
    rc = loop->timer_fd < 0 || loop->outer_fd < 0 ? -errno : 0;
    rc = rc < 0 ? rc : add_to_outer(loop, loop->timer_fd);
    rc = rc < 0 ? rc : add_to_outer(loop, loop->backend->pollable(loop));
    /* By itself too: a write to one eventfd may not reach another through the ring (Linux 6.18
     * passes on only the first that it has to defer). */
    rc = rc < 0 ? rc : add_to_outer(loop, loop->wake_number);
    if (rc < 0) {
        close_number(loop->timer_fd);
        close_number(loop->outer_fd);
        loop->timer_fd = -1;
        loop->outer_fd = -1;
    }
    return rc;
}

int gyre_loop_fd(struct gyre_loop *loop)
{
    int rc = loop == NULL ? -EINVAL : gyre__loop_check(loop);

    if (rc == 0 && loop->outer_fd < 0) {
        rc = make_outer(loop);
    }
    return rc < 0 ? rc : loop->outer_fd;
}

/* Wakes from here on are for posts that the coming turn may not see. */
static void clear_wake(struct gyre_loop *loop)
{
    uint64_t count;

    loop->stats.syscalls++;
    if (gyre__sys_read(loop->wake_number, &count, sizeof(count)) < 0) {
        return; /* there was none */
    }
}

int gyre_loop_dispatch(struct gyre_loop *loop)
{
    int rc = check_run(loop);
    int turns = 0;

    if (rc < 0) {
        return rc;
    }
    loop->running = 1;
    if (loop->outer_fd >= 0) {
        clear_wake(loop);
    }
    do {
        rc = turn(loop, 0);
    } while (rc == 0 && ++turns < DISPATCH_TURNS && !loop->stopping &&
             (has_work(loop) || loop->backend->peek(loop)));
    leave(loop);
    loop->stopping = 0;
    if (loop->outer_fd >= 0) {
        settle(loop);
    }
    loop->running = 0;
    return rc < 0 ? rc : gyre_loop_alive(loop) > 0;
}

/* ---- what it says of itself ---- */

int gyre_loop_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info)
{
    static const char *const names[GYRE_FEATURE_COUNT] = {
#define X(name, bit, text) [bit] = #name,
        GYRE_FEATURE_MAP(X)
#undef X
    };

    if (loop == NULL || out_info == NULL) {
        return -EINVAL;
    }
    if (gyre__loop_check(loop) < 0) {
        return gyre__loop_check(loop);
    }
    *out_info = (struct gyre_loop_info){
        .backend = loop->backend->id,
        .backend_name = loop->backend->name,
        .backend_why = loop->why,
        .pool_block = loop->pool.block_len,
    };
    memcpy(out_info->feature_names, names, sizeof(names));
    loop->backend->info(loop, out_info);
    return 0;
}

int gyre_loop_stats(const struct gyre_loop *loop, struct gyre_loop_stats *out_stats)
{
    if (loop == NULL || out_stats == NULL) {
        return -EINVAL;
    }
    if (gyre__loop_check(loop) < 0) {
        return gyre__loop_check(loop);
    }
    *out_stats = loop->stats;
    return 0;
}
