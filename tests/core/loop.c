/* The loop: life, runs, stops, embedding, clock, counters. Catalogue L01..L22, Q01, Q02. */
#include "core/traffic.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/time.h>
#include <unistd.h>

/* An operation that counts its results. */
struct counted {
    struct gyre_op op;
    int results;
    int last;
};

static void on_counted(struct gyre_op *op, const struct gyre_result *result)
{
    struct counted *counted = gyre_container_of(op, struct counted, op);

    counted->results++;
    counted->last = result->res;
}

static void counted_init(struct counted *counted)
{
    *counted = (struct counted){.last = 1};
    gyre_op_init(&counted->op, on_counted);
}

/* A timer that counts how often it fired. */
struct ticker {
    struct gyre_timer timer;
    int ticks;
    uint64_t again_ns; /* restart with this; 0: no */
};

static void on_tick(struct gyre_timer *timer)
{
    struct ticker *ticker = gyre_container_of(timer, struct ticker, timer);

    ticker->ticks++;
    if (ticker->again_ns != 0) {
        assert_int_equal(gyre_timer_start(timer, ticker->again_ns), 0);
    }
}

static void ticker_init(struct ticker *ticker, struct gyre_loop *loop)
{
    *ticker = (struct ticker){0};
    assert_int_equal(gyre_timer_init(&ticker->timer, loop, on_tick), 0);
}

static void on_count_post(struct gyre_loop *loop, void *data)
{
    int *count = data;

    (void)loop;
    (*count)++;
}

/* Closes @fd and takes turns until that is done. */
static void close_fd(struct gyre_loop *loop, struct gyre_fd *fd)
{
    struct counted closing;

    counted_init(&closing);
    assert_int_equal(gyre_op_close(&closing.op, fd, 0), 0);
    test_turns_until(loop, &closing.results);
    assert_int_equal(closing.last, 0);
}

static uint64_t turns_of(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats.turns;
}

static uint64_t waits_of(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats.waits;
}

/* ---- run ---- */

/* L01 */
static void run_empty_returns_at_once(void)
{
    struct gyre_loop *loop = test_loop();

    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    assert_int_equal(gyre_loop_dispatch(loop), 0);
    assert_int_equal(waits_of(loop), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    test_loop_end(loop);
}

/* L02 */
static void run_nowait_never_ready_returns_and_keeps_it(void)
{
    struct gyre_loop *loop = test_loop();
    struct counted receive;
    struct gyre_fd fd;
    char byte;
    int pair[2];
    int i;

    test_tcp_pair(pair);
    counted_init(&receive);
    assert_int_equal(gyre_fd_init(&fd, loop, pair[0]), 0);
    assert_int_equal(gyre_op_recv(&receive.op, &fd, &byte, 1, 0), 0);
    for (i = 0; i < 10; i++) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    }
    assert_int_equal(waits_of(loop), 0);
    assert_int_equal(receive.results, 0);
    assert_true(gyre_op_active(&receive.op));
    assert_int_equal(gyre_op_cancel(&receive.op), 0);
    test_turns_until(loop, &receive.results);
    assert_int_equal(receive.last, -ECANCELED);
    close_fd(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

static void run_bad_mode_is_refused(void)
{
    struct gyre_loop *loop = test_loop();

    assert_int_equal(gyre_loop_run(loop, (enum gyre_run_mode)77), -EINVAL);
    assert_int_equal(gyre_loop_run(loop, (enum gyre_run_mode) - 1), -EINVAL);
    test_loop_end(loop);
}

static void run_default_goes_on_until_nothing_is_active(void)
{
    struct gyre_loop *loop = test_loop();
    struct ticker ticker;
    struct counted nop;
    struct counted timeout;

    ticker_init(&ticker, loop);
    counted_init(&nop);
    counted_init(&timeout);
    assert_int_equal(gyre_timer_start(&ticker.timer, 2 * GYRE_MSEC), 0);
    assert_int_equal(gyre_op_nop(&nop.op, loop), 0);
    assert_int_equal(gyre_op_timeout(&timeout.op, loop, gyre_loop_update_now(loop) + GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(ticker.ticks, 1);
    assert_int_equal(nop.results, 1);
    assert_int_equal(nop.last, 0);
    assert_int_equal(timeout.results, 1);
    assert_int_equal(timeout.last, 0);
    test_loop_end(loop);
}

/* ---- stop ---- */

/* L03 */
static void stop_before_run_returns_at_once_and_resumes(void)
{
    struct gyre_loop *loop = test_loop();
    struct ticker ticker;

    ticker_init(&ticker, loop);
    assert_int_equal(gyre_timer_start(&ticker.timer, 5 * GYRE_MSEC), 0);
    gyre_loop_stop(loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 1);
    assert_int_equal(ticker.ticks, 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(ticker.ticks, 1);
    test_loop_end(loop);
}

struct stopper {
    struct gyre_timer timer;
    struct gyre_loop *loop;
};

static void on_tick_stop(struct gyre_timer *timer)
{
    gyre_loop_stop(gyre_container_of(timer, struct stopper, timer)->loop);
}

/* L03 */
static void stop_in_callback_ends_run_with_work_intact(void)
{
    struct gyre_loop *loop = test_loop();
    struct stopper stopper = {.loop = loop};
    struct ticker later;

    ticker_init(&later, loop);
    assert_int_equal(gyre_timer_init(&stopper.timer, loop, on_tick_stop), 0);
    assert_int_equal(gyre_timer_start(&stopper.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_timer_start(&later.timer, 60 * GYRE_SEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 1);
    assert_int_equal(later.ticks, 0);
    assert_true(gyre_timer_active(&later.timer));
    assert_int_equal(gyre_timer_start(&later.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(later.ticks, 1);
    test_loop_end(loop);
}

static void on_post_stop(struct gyre_loop *loop, void *unused)
{
    (void)unused;
    gyre_loop_stop(loop);
}

static void *post_stop(void *loop)
{
    return (void *)(intptr_t)gyre_loop_post(loop, on_post_stop, NULL);
}

/* L03 */
static void stop_posted_from_thread_ends_run(void)
{
    struct gyre_loop *loop = test_loop();
    pthread_t thread;
    void *rc = NULL;

    gyre_loop_ref(loop);
    assert_int_equal(pthread_create(&thread, NULL, post_stop, loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 1);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_null(rc);
    gyre_loop_unref(loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* ---- nesting ---- */

struct nested {
    struct gyre_op op;
    struct gyre_timer timer;
    struct gyre_loop *loop;
    int calls;
};

static void try_nested(struct nested *nested)
{
    nested->calls++;
    assert_int_equal(gyre_loop_run(nested->loop, GYRE_RUN_NOWAIT), GYRE_ENESTED);
    assert_int_equal(gyre_loop_run(nested->loop, GYRE_RUN_ONCE), GYRE_ENESTED);
    assert_int_equal(gyre_loop_run(nested->loop, GYRE_RUN_DEFAULT), GYRE_ENESTED);
    assert_int_equal(gyre_loop_dispatch(nested->loop), GYRE_ENESTED);
    assert_int_equal(gyre_loop_destroy(nested->loop), -EBUSY);
}

static void on_nop_nested(struct gyre_op *op, const struct gyre_result *result)
{
    (void)result;
    try_nested(gyre_container_of(op, struct nested, op));
}

static void on_tick_nested(struct gyre_timer *timer)
{
    try_nested(gyre_container_of(timer, struct nested, timer));
}

static void on_post_nested(struct gyre_loop *loop, void *nested)
{
    (void)loop;
    try_nested(nested);
}

/* L04 */
static void run_in_callback_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct nested nested = {.loop = loop};

    gyre_op_init(&nested.op, on_nop_nested);
    assert_int_equal(gyre_timer_init(&nested.timer, loop, on_tick_nested), 0);
    assert_int_equal(gyre_timer_start(&nested.timer, 0), 0);
    assert_int_equal(gyre_op_nop(&nested.op, loop), 0);
    assert_int_equal(gyre_loop_post(loop, on_post_nested, &nested), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(nested.calls, 3);
    test_loop_end(loop);
}

/* ---- destroy ---- */

/* L05, L19 */
static void destroy_with_active_operation_is_busy(void)
{
    struct gyre_loop *loop = test_loop();
    struct counted nop;

    counted_init(&nop);
    assert_int_equal(gyre_op_nop(&nop.op, loop), 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(nop.results, 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(nop.results, 1);
    test_loop_end(loop);
}

/* L05 */
static void destroy_with_active_timer_is_busy(void)
{
    struct gyre_loop *loop = test_loop();
    struct ticker ticker;

    ticker_init(&ticker, loop);
    assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    gyre_timer_stop(&ticker.timer);
    assert_int_equal(gyre_timer_background(&ticker.timer, 1), 0);
    assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    gyre_timer_stop(&ticker.timer);
    test_loop_end(loop);
    assert_int_equal(ticker.ticks, 0);
}

/* L05 */
static void destroy_with_waiting_post_is_busy(void)
{
    struct gyre_loop *loop = test_loop();
    int count = 0;

    assert_int_equal(gyre_loop_post(loop, on_count_post, &count), 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, 1);
    test_loop_end(loop);
}

/* L05 */
static void destroy_with_attached_descriptor_is_busy(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    int number = -1;
    int pair[2];

    test_unix_pair(pair);
    assert_int_equal(gyre_fd_init(&fd, loop, pair[0]), 0);
    assert_int_equal(gyre_fd_number(&fd), pair[0]);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(gyre_fd_detach(&fd, &number), 0);
    assert_int_equal(number, pair[0]);
    test_loop_end(loop);
    close(pair[0]);
    close(pair[1]);
}

struct keeper {
    struct gyre_op op;
    struct gyre_lease lease;
    int results;
};

static void on_lease_keep(struct gyre_op *op, const struct gyre_result *result)
{
    struct keeper *keeper = gyre_container_of(op, struct keeper, op);

    assert_int_equal(result->res, 1);
    assert_int_equal(gyre_lease_retain(result->lease, &keeper->lease), 0);
    keeper->results++;
}

/* L05 */
static void destroy_with_retained_lease_is_busy(void)
{
    struct gyre_loop *loop = test_loop();
    struct keeper keeper = {0};
    struct gyre_fd fd;
    int pair[2];

    test_unix_pair(pair);
    assert_int_equal(gyre_fd_init(&fd, loop, pair[0]), 0);
    gyre_op_init(&keeper.op, on_lease_keep);
    assert_int_equal(gyre_op_recv_lease(&keeper.op, &fd, 0), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    test_turns_until(loop, &keeper.results);
    close_fd(loop, &fd);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(keeper.lease.len, 1);
    assert_int_equal(keeper.lease.data[0], 'x');
    gyre_lease_release(&keeper.lease);
    close(pair[1]);
    test_loop_end(loop);
}

static void destroy_null_is_fine(void)
{
    assert_int_equal(gyre_loop_destroy(NULL), 0);
}

/* L06 */
static void create_destroy_many_times_stays_flat(void)
{
    const int rounds = 10000;
    const int warm_up = 500;
    size_t resident = 0;
    size_t fds = test_open_fds();
    int i;

    for (i = 0; i < rounds; i++) {
        struct gyre_loop *loop = test_loop();

        assert_int_equal(gyre_loop_destroy(loop), 0);
        if (i == warm_up) {
            resident = test_resident();
        }
    }
    assert_int_equal(test_open_fds(), fds);
    assert_int_equal(gyre_allocator_live(), 0);
    assert_true(test_resident() <= resident + (8u << 20));
}

/* L06: as above, with work in each. */
static void create_use_destroy_many_times_stays_flat(void)
{
    const int rounds = 500;
    size_t resident = 0;
    int i;

    for (i = 0; i < rounds; i++) {
        struct gyre_loop *loop = test_loop();

        traffic_check(loop, 3);
        assert_true(gyre_loop_fd(loop) >= 0);
        test_loop_end(loop);
        if (i == rounds / 10) {
            resident = test_resident();
        }
    }
    assert_true(test_resident() <= resident + (8u << 20));
}

/* ---- memory runs out ---- */

static long allocations_left; /* until one fails; LONG_MAX: none does */

static int allocation_fails(void)
{
    if (allocations_left == LONG_MAX) {
        return 0;
    }
    return allocations_left-- <= 0;
}

static void *scarce_alloc(size_t len)
{
    return allocation_fails() ? NULL : malloc(len);
}

static void *scarce_zalloc(size_t len)
{
    return allocation_fails() ? NULL : calloc(1, len);
}

static void *scarce_resize(void *memory, size_t len)
{
    return allocation_fails() ? NULL : realloc(memory, len);
}

static const struct gyre_allocator scarce = {
    .alloc = scarce_alloc,
    .zalloc = scarce_zalloc,
    .resize = scarce_resize,
    .release = free,
};

/* L07 */
static void create_without_memory_fails_cleanly(void)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *untouched = (struct gyre_loop *)&allocations_left;
    struct gyre_loop *loop = untouched;
    size_t fds = test_open_fds();
    int rc = -ENOMEM;
    long k;

    assert_int_equal(gyre_allocator_set(&scarce), 0);
    for (k = 0; rc != 0; k++) {
        allocations_left = k;
        rc = gyre_loop_create(&loop, &options);
        if (rc != 0) {
            assert_int_equal(rc, -ENOMEM);
            assert_ptr_equal(loop, untouched);
            assert_int_equal(gyre_allocator_live(), 0);
            assert_int_equal(test_open_fds(), fds);
        }
        assert_true(k < 10000);
    }
    assert_true(k > 1);
    allocations_left = LONG_MAX;
    traffic_check(loop, 10);
    test_loop_end(loop);
    assert_int_equal(gyre_allocator_set(NULL), 0);
}

enum { TORTURE_OPS = 3000 };

/* Starts many operations while the allocator may fail: each start works or does nothing. */
static int torture(struct gyre_loop *loop, struct counted *nops)
{
    int refused = 0;
    int started = 0;
    int i;

    for (i = 0; i < TORTURE_OPS; i++) {
        int rc;

        counted_init(&nops[i]);
        rc = gyre_op_nop(&nops[i].op, loop);
        if (rc == 0) {
            started++;
        } else {
            assert_int_equal(rc, -ENOMEM);
            assert_false(gyre_op_active(&nops[i].op));
            refused++;
        }
    }
    assert_int_equal(gyre_loop_alive(loop), started);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    for (i = 0; i < TORTURE_OPS; i++) {
        started -= nops[i].results;
        assert_in_range(nops[i].results, 0, 1);
    }
    assert_int_equal(started, 0);
    return refused;
}

/* L07, F04: the table of operations grows as more are active; it must be able not to. */
static void start_without_memory_fails_cleanly(void)
{
    struct counted *nops = calloc(TORTURE_OPS, sizeof(*nops));
    int refused = 1;
    int rounds = 0;
    long k;

    assert_non_null(nops);
    assert_int_equal(gyre_allocator_set(&scarce), 0);
    for (k = 0; refused != 0; k++) {
        struct gyre_loop *loop;

        allocations_left = LONG_MAX;
        loop = test_loop();
        allocations_left = k;
        refused = torture(loop, nops);
        rounds++;
        allocations_left = LONG_MAX;
        assert_int_equal(torture(loop, nops), 0);
        test_loop_end(loop);
        assert_true(k < 10000);
    }
    assert_true(rounds > 0);
    assert_int_equal(gyre_allocator_set(NULL), 0);
    free(nops);
}

static void allocator_incomplete_or_too_late_is_refused(void)
{
    struct gyre_allocator incomplete = scarce;
    struct gyre_loop *loop;

    incomplete.resize = NULL;
    assert_int_equal(gyre_allocator_set(&incomplete), -EINVAL);
    loop = test_loop();
    assert_int_equal(gyre_allocator_set(&scarce), -EBUSY);
    assert_int_equal(gyre_allocator_set(NULL), -EBUSY);
    test_loop_end(loop);
}

/* ---- callbacks ---- */

/* Everything that could be tempted to run a callback from inside a call. */
struct depth {
    struct gyre_loop *loop;
    struct gyre_fd fds[2];
    struct gyre_op nops[2];
    struct gyre_op timeout;
    struct gyre_op recv;
    struct gyre_op send;
    struct gyre_op poll;
    struct gyre_op closes[2];
    struct gyre_timer timer;
    char in;
    int inside; /* a call into the library is going on: no callback may run */
    int depth;  /* callbacks on the stack */
    int callbacks;
    int rounds;
};

static struct depth deep;

#define QUIETLY(call)             \
    do {                          \
        deep.inside++;            \
        assert_true((call) >= 0); \
        deep.inside--;            \
    } while (0)

static void start_everything(void)
{
    QUIETLY(gyre_op_nop(&deep.nops[0], deep.loop));
    QUIETLY(gyre_op_nop(&deep.nops[1], deep.loop));
    QUIETLY(gyre_op_timeout(&deep.timeout, deep.loop, gyre_loop_now(deep.loop)));
    QUIETLY(gyre_op_send(&deep.send, &deep.fds[0], "x", 1));
    QUIETLY(gyre_op_recv(&deep.recv, &deep.fds[1], &deep.in, 1, 0));
    QUIETLY(gyre_op_poll(&deep.poll, &deep.fds[0], POLLOUT, 0));
    QUIETLY(gyre_op_set_deadline(&deep.recv, gyre_loop_now(deep.loop) - 1));
    QUIETLY(gyre_op_cancel(&deep.nops[1]));
    QUIETLY(gyre_op_cancel(&deep.nops[1]));
    QUIETLY(gyre_op_cancel(&deep.poll));
    QUIETLY(gyre_fd_cancel(&deep.fds[1]));
    QUIETLY(gyre_timer_start(&deep.timer, 0));
}

static void enter_callback(void)
{
    assert_int_equal(deep.inside, 0);
    assert_int_equal(deep.depth, 0);
    deep.depth++;
    deep.callbacks++;
}

static void leave_callback(void)
{
    deep.depth--;
}

static void on_deep_post(struct gyre_loop *loop, void *unused)
{
    (void)loop;
    (void)unused;
    enter_callback();
    leave_callback();
}

static void on_deep(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    assert_int_equal(result->flags, 0);
    enter_callback();
    QUIETLY(gyre_loop_post(deep.loop, on_deep_post, NULL));
    leave_callback();
}

static void on_deep_tick(struct gyre_timer *timer)
{
    (void)timer;
    enter_callback();
    leave_callback();
}

/* The last of a round closes, or starts the next round, from inside a callback. */
static void on_deep_round(struct gyre_loop *loop, void *unused)
{
    (void)loop;
    (void)unused;
    enter_callback();
    if (deep.rounds++ < 50) {
        start_everything();
        leave_callback();
        return;
    }
    QUIETLY(gyre_op_recv(&deep.recv, &deep.fds[1], &deep.in, 1, 0));
    QUIETLY(gyre_op_close(&deep.closes[0], &deep.fds[0], 0));
    QUIETLY(gyre_op_close(&deep.closes[1], &deep.fds[1], GYRE_CLOSE_SHUTDOWN));
    leave_callback();
}

static void deep_init(void)
{
    int pair[2];
    int i;

    deep.loop = test_loop();
    test_unix_pair(pair);
    for (i = 0; i < 2; i++) {
        assert_int_equal(gyre_fd_init(&deep.fds[i], deep.loop, pair[i]), 0);
        gyre_op_init(&deep.nops[i], on_deep);
        gyre_op_init(&deep.closes[i], on_deep);
    }
    gyre_op_init(&deep.timeout, on_deep);
    gyre_op_init(&deep.recv, on_deep);
    gyre_op_init(&deep.send, on_deep);
    gyre_op_init(&deep.poll, on_deep);
    assert_int_equal(gyre_timer_init(&deep.timer, deep.loop, on_deep_tick), 0);
}

/* L08 */
static void callback_never_runs_inside_a_call(void)
{
    int i;

    deep_init();
    start_everything();
    assert_int_equal(gyre_loop_run(deep.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(deep.callbacks, 6 + 1 + 6);
    for (i = 0; i < 52; i++) {
        assert_int_equal(gyre_loop_post(deep.loop, on_deep_round, NULL), 0);
        assert_int_equal(gyre_loop_run(deep.loop, GYRE_RUN_DEFAULT), 0);
        if (deep.rounds > 50) {
            break;
        }
    }
    assert_int_equal(deep.depth, 0);
    test_loop_end(deep.loop);
}

/* ---- fairness within a turn ---- */

struct chain {
    struct gyre_op op;
    struct gyre_timer timer;
    struct gyre_loop *loop;
    int links;
    int stop;
};

static void on_chain_nop(struct gyre_op *op, const struct gyre_result *result)
{
    struct chain *chain = gyre_container_of(op, struct chain, op);

    assert_int_equal(result->res, 0);
    chain->links++;
    if (!chain->stop) {
        assert_int_equal(gyre_op_nop(op, chain->loop), 0);
    }
}

static void on_chain_tick(struct gyre_timer *timer)
{
    struct chain *chain = gyre_container_of(timer, struct chain, timer);

    chain->links++;
    if (!chain->stop) {
        assert_int_equal(gyre_timer_start(timer, 0), 0);
    }
}

static void on_chain_post(struct gyre_loop *loop, void *data)
{
    struct chain *chain = data;

    chain->links++;
    if (!chain->stop) {
        assert_int_equal(gyre_loop_post(loop, on_chain_post, chain), 0);
    }
}

static void chain_runs_beside_others(struct chain *chain)
{
    struct traffic traffic;
    struct ticker ticker;

    ticker_init(&ticker, chain->loop);
    ticker.again_ns =
        50 * GYRE_USEC; /* of simulated time a turn without system calls takes little */
    assert_int_equal(gyre_timer_start(&ticker.timer, ticker.again_ns), 0);
    traffic_start(&traffic, chain->loop, 20);
    test_turns_until(chain->loop, &traffic.done);
    test_turns_until_count(chain->loop, &ticker.ticks, 3);
    assert_true(chain->links > 20);
    chain->stop = 1;
    gyre_timer_stop(&ticker.timer);
    traffic_close(&traffic);
    assert_int_equal(gyre_loop_run(chain->loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(chain->loop);
}

/* L10 */
static void nop_chain_starves_nobody(void)
{
    struct chain chain = {.loop = test_loop()};

    gyre_op_init(&chain.op, on_chain_nop);
    assert_int_equal(gyre_op_nop(&chain.op, chain.loop), 0);
    chain_runs_beside_others(&chain);
}

/* L10 */
static void zero_timer_chain_starves_nobody(void)
{
    struct chain chain = {.loop = test_loop()};

    assert_int_equal(gyre_timer_init(&chain.timer, chain.loop, on_chain_tick), 0);
    assert_int_equal(gyre_timer_start(&chain.timer, 0), 0);
    chain_runs_beside_others(&chain);
}

/* L10 */
static void post_chain_starves_nobody(void)
{
    struct chain chain = {.loop = test_loop()};

    assert_int_equal(gyre_loop_post(chain.loop, on_chain_post, &chain), 0);
    chain_runs_beside_others(&chain);
}

/* ---- embedding ---- */

struct embedding {
    struct gyre_loop *loop;
    int epoll;
    int fd;
    int wakeups;
    int alive;
};

static void embed(struct embedding *embedding, struct gyre_loop *loop)
{
    struct epoll_event event = {.events = EPOLLIN};

    *embedding = (struct embedding){.loop = loop};
    embedding->fd = gyre_loop_fd(loop);
    assert_true(embedding->fd >= 0);
    assert_int_equal(gyre_loop_fd(loop), embedding->fd);
    embedding->epoll = epoll_create1(EPOLL_CLOEXEC);
    assert_true(embedding->epoll >= 0);
    assert_int_equal(epoll_ctl(embedding->epoll, EPOLL_CTL_ADD, embedding->fd, &event), 0);
    embedding->alive = gyre_loop_dispatch(loop);
    assert_true(embedding->alive >= 0);
}

/* One turn of the foreign loop. */
static void embed_turn(struct embedding *embedding)
{
    struct epoll_event event;
    int count;

    do {
        count = epoll_wait(embedding->epoll, &event, 1, -1);
    } while (count < 0 && errno == EINTR);
    assert_int_equal(count, 1);
    embedding->wakeups++;
    embedding->alive = gyre_loop_dispatch(embedding->loop);
    assert_true(embedding->alive >= 0);
}

static int readable_within(int fd, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};

    return poll(&poller, 1, timeout_ms);
}

/* L13 */
static void embedded_loop_drives_timers_and_operations(void)
{
    struct gyre_loop *loop = test_loop();
    struct embedding embedding;
    struct traffic traffic;
    struct ticker tickers[5];
    int fired = 0;
    int i;

    embed(&embedding, loop);
    for (i = 0; i < 5; i++) {
        ticker_init(&tickers[i], loop);
        assert_int_equal(gyre_timer_start(&tickers[i].timer, (uint64_t)i * 3 * GYRE_MSEC), 0);
    }
    traffic_start(&traffic, loop, 50);
    assert_true(gyre_loop_dispatch(loop) > 0);
    while (!traffic.done || fired < 5) {
        embed_turn(&embedding);
        for (fired = 0, i = 0; i < 5; i++) {
            fired += tickers[i].ticks;
        }
    }
    /* 50 bytes there and back are 200 results; wake-ups beyond a few each mean a self-trigger. */
    assert_in_range(embedding.wakeups, 1, 1000);
    traffic_close(&traffic);
    close(embedding.epoll);
    test_loop_end(loop);
}

static void *post_slowly(void *data)
{
    struct embedding *embedding = data;
    static int count;
    int i;

    for (i = 0; i < 20; i++) {
        while (gyre_loop_post(embedding->loop, on_count_post, &count) != 0) {
        }
        poll(NULL, 0, 1);
    }
    return &count;
}

/* L13 */
static void embedded_loop_runs_posts_of_threads(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_loop_stats stats;
    struct embedding embedding;
    pthread_t thread;
    uint64_t posts = 0;

    embed(&embedding, loop);
    gyre_loop_ref(loop);
    assert_int_equal(pthread_create(&thread, NULL, post_slowly, &embedding), 0);
    while (posts < 20) {
        embed_turn(&embedding);
        assert_int_equal(gyre_loop_stats(loop, &stats), 0);
        posts = stats.posts;
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_in_range(embedding.wakeups, 1, 100);
    gyre_loop_unref(loop);
    close(embedding.epoll);
    test_loop_end(loop);
}

/* L13: with nothing to do the descriptor is quiet; it must not wake its own loop. */
static void embedded_idle_loop_is_quiet(void)
{
    struct gyre_loop *loop = test_loop();
    struct embedding embedding;
    struct counted receive;
    struct ticker far;
    struct gyre_fd fd;
    char byte = 0;
    int pair[2];
    int i;

    test_tcp_pair(pair);
    counted_init(&receive);
    ticker_init(&far, loop);
    embed(&embedding, loop);
    assert_int_equal(gyre_fd_init(&fd, loop, pair[0]), 0);
    assert_int_equal(gyre_op_recv(&receive.op, &fd, &byte, 1, 0), 0);
    assert_int_equal(gyre_timer_start(&far.timer, 3600 * GYRE_SEC), 0);
    assert_int_equal(gyre_loop_dispatch(loop), 1);
    for (i = 0; i < 8 && readable_within(embedding.fd, 0); i++) {
        assert_int_equal(gyre_loop_dispatch(loop), 1);
    }
    assert_int_equal(readable_within(embedding.fd, 50), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    while (receive.results == 0) {
        embed_turn(&embedding);
    }
    assert_in_range(embedding.wakeups, 1, 8);
    assert_int_equal(byte, 'x');
    gyre_timer_stop(&far.timer);
    close_fd(loop, &fd);
    close(pair[1]);
    close(embedding.epoll);
    test_loop_end(loop);
}

/* L13: a deadline that gets nearer must wake the foreign loop sooner, one that is gone not at all. */
static void note_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    *(int *)data = 1;
}

/* Between dispatches somebody runs it: afterwards posts and deadlines wake the outer loop as before. */
static void embedded_loop_that_was_run_is_woken_by_posts(void)
{
    struct gyre_loop *loop = test_loop();
    struct embedding embedding;
    struct ticker ticker;
    int ran = 0;

    embed(&embedding, loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    assert_int_equal(gyre_loop_post(loop, note_post, &ran), 0);
    assert_int_equal(readable_within(embedding.fd, 5000), 1);
    embed_turn(&embedding);
    assert_int_equal(ran, 1);
    ticker_init(&ticker, loop);
    assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    assert_int_equal(readable_within(embedding.fd, 5000), 1);
    while (ticker.ticks == 0) {
        embed_turn(&embedding);
    }
    close(embedding.epoll);
    test_loop_end(loop);
}

static void embedded_loop_follows_the_nearest_deadline(void)
{
    struct gyre_loop *loop = test_loop();
    struct embedding embedding;
    struct ticker far;
    struct ticker near;

    ticker_init(&far, loop);
    ticker_init(&near, loop);
    embed(&embedding, loop);
    assert_int_equal(gyre_timer_start(&far.timer, 3600 * GYRE_SEC), 0);
    assert_int_equal(gyre_loop_dispatch(loop), 1);
    assert_int_equal(gyre_timer_start(&near.timer, 3 * GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_dispatch(loop), 1);
    while (near.ticks == 0) {
        embed_turn(&embedding);
    }
    assert_in_range(embedding.wakeups, 1, 4);
    gyre_timer_stop(&far.timer);
    assert_int_equal(gyre_loop_dispatch(loop), 0);
    assert_int_equal(readable_within(embedding.fd, 20), 0);
    close(embedding.epoll);
    test_loop_end(loop);
}

/* ---- signals ---- */

static volatile sig_atomic_t alarms;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
}

static void alarm_storm(int on)
{
    const struct timeval period = {.tv_usec = on ? 1000 : 0};
    const struct itimerval timer = {.it_interval = period, .it_value = period};
    const struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

/* L14: nothing lost or twice (traffic.c counts), no -EINTR as a result (it asserts each). */
static void signal_storm_is_not_noticed(void)
{
    struct gyre_loop *loop = test_loop();
    struct traffic traffic;
    struct ticker ticker;

    ticker_init(&ticker, loop);
    alarm_storm(1);
    while (alarms < 30) {
        traffic_check(loop, 100);
        assert_int_equal(gyre_timer_start(&ticker.timer, 4 * GYRE_MSEC), 0);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    }
    traffic_start(&traffic, loop, 100);
    test_turns_until(loop, &traffic.done);
    traffic_close(&traffic);
    alarm_storm(0);
    assert_true(ticker.ticks >= 1);
    test_loop_end(loop);
}

/* ---- clock ---- */

struct clock_check {
    struct gyre_op op;
    struct gyre_loop *loop;
    uint64_t last;
    int turns;
};

static void on_clock_check(struct gyre_op *op, const struct gyre_result *result)
{
    struct clock_check *check = gyre_container_of(op, struct clock_check, op);
    uint64_t now = gyre_loop_now(check->loop);
    uint64_t busy = test_now() + 100 * GYRE_USEC;
    uint64_t updated;

    (void)result;
    assert_true(now >= check->last);
    while (test_now() < busy) {
    }
    assert_int_equal(gyre_loop_now(check->loop), now);
    if (check->turns % 2 == 0) {
        updated = gyre_loop_update_now(check->loop);
        assert_true(updated >= busy);
        assert_true(updated <= test_now());
        assert_int_equal(gyre_loop_now(check->loop), updated);
        now = updated;
    }
    check->last = now;
    if (++check->turns < 20) {
        assert_int_equal(gyre_op_nop(op, check->loop), 0);
    }
}

/* L15 */
static void now_is_read_once_per_turn(void)
{
    struct gyre_loop *loop = test_loop();
    struct clock_check check = {.loop = loop, .last = test_now()};

    check.last = gyre_loop_update_now(loop);
    gyre_op_init(&check.op, on_clock_check);
    assert_int_equal(gyre_op_nop(&check.op, loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(check.turns, 20);
    test_loop_end(loop);
}

/* ---- small queues ---- */

enum { SMALL_SQ = 8, SENDS = 4 * SMALL_SQ * 4 };

struct burst {
    struct gyre_op starter;
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct counted sends[SENDS];
    struct counted nops[SENDS];
    uint8_t bytes[SENDS];
};

static void on_burst(struct gyre_op *op, const struct gyre_result *result)
{
    struct burst *burst = gyre_container_of(op, struct burst, starter);
    int i;

    (void)result;
    for (i = 0; i < SENDS; i++) {
        counted_init(&burst->sends[i]);
        counted_init(&burst->nops[i]);
        burst->bytes[i] = (uint8_t)i;
        assert_int_equal(gyre_op_send(&burst->sends[i].op, &burst->fd, &burst->bytes[i], 1), 0);
        assert_int_equal(gyre_op_nop(&burst->nops[i].op, burst->loop), 0);
    }
}

/* L16 */
static void burst_beyond_submission_queue_is_accepted_in_order(void)
{
    struct gyre_loop_options options = test_options();
    static struct burst burst;
    uint8_t received[SENDS];
    int pair[2];
    int i;

    options.sq_entries = SMALL_SQ;
    options.cq_entries = 2 * SMALL_SQ;
    burst.loop = test_loop_with(&options);
    test_tcp_pair(pair);
    assert_int_equal(gyre_fd_init(&burst.fd, burst.loop, pair[0]), 0);
    gyre_op_init(&burst.starter, on_burst);
    assert_int_equal(gyre_op_nop(&burst.starter, burst.loop), 0);
    assert_int_equal(gyre_loop_run(burst.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(recv(pair[1], received, sizeof(received), MSG_WAITALL), sizeof(received));
    assert_memory_equal(received, burst.bytes, sizeof(received));
    for (i = 0; i < SENDS; i++) {
        assert_int_equal(burst.sends[i].results, 1);
        assert_int_equal(burst.sends[i].last, 1);
        assert_int_equal(burst.nops[i].results, 1);
    }
    close_fd(burst.loop, &burst.fd);
    close(pair[1]);
    test_loop_end(burst.loop);
}

struct crowd_member {
    struct gyre_fd fd;
    struct counted receive;
    struct counted close;
    int peer;
    char byte;
};

static void crowd_join(struct crowd_member *member, struct gyre_loop *loop)
{
    int pair[2];

    test_unix_pair(pair);
    member->peer = pair[1];
    counted_init(&member->receive);
    counted_init(&member->close);
    assert_int_equal(gyre_fd_init(&member->fd, loop, pair[0]), 0);
    assert_int_equal(gyre_op_recv(&member->receive.op, &member->fd, &member->byte, 1, 0), 0);
}

static void crowd_leave(struct crowd_member *crowd, int count, struct gyre_loop *loop)
{
    int i;

    for (i = 0; i < count; i++) {
        assert_int_equal(gyre_op_close(&crowd[i].close.op, &crowd[i].fd, 0), 0);
        close(crowd[i].peer);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    for (i = 0; i < count; i++) {
        assert_int_equal(crowd[i].close.results, 1);
        assert_int_equal(crowd[i].receive.results, 1);
    }
}

/* Q01, Q02: far more completions at once than the completion queue can hold. */
static void burst_beyond_completion_queue_loses_nothing(void)
{
    enum { MEMBERS = 400 };
    struct gyre_loop_options options = test_options();
    struct crowd_member *crowd = calloc(MEMBERS, sizeof(*crowd));
    struct gyre_loop *loop;
    int i;

    assert_non_null(crowd);
    options.sq_entries = SMALL_SQ;
    options.cq_entries = 2 * SMALL_SQ;
    loop = test_loop_with(&options);
    for (i = 0; i < MEMBERS; i++) {
        crowd_join(&crowd[i], loop);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    for (i = 0; i < MEMBERS; i++) {
        assert_int_equal(write(crowd[i].peer, "x", 1), 1);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    for (i = 0; i < MEMBERS; i++) {
        assert_int_equal(crowd[i].receive.results, 1);
        assert_int_equal(crowd[i].receive.last, 1);
        assert_int_equal(crowd[i].byte, 'x');
    }
    crowd_leave(crowd, MEMBERS, loop);
    test_loop_end(loop);
    free(crowd);
}

/* L18 */
static void idle_connections_cause_no_turns(void)
{
    enum { MEMBERS = 1000 };
    struct crowd_member *crowd = calloc(MEMBERS, sizeof(*crowd));
    struct gyre_loop *loop = test_loop();
    struct ticker ticker;
    uint64_t turns;
    int i;

    assert_non_null(crowd);
    for (i = 0; i < MEMBERS; i++) {
        crowd_join(&crowd[i], loop);
    }
    for (i = 0; i < 10; i++) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    }
    ticker_init(&ticker, loop);
    assert_int_equal(gyre_timer_start(&ticker.timer, 300 * GYRE_MSEC), 0);
    turns = turns_of(loop);
    test_turns_until(loop, &ticker.ticks);
    assert_in_range(turns_of(loop) - turns, 1, 8);
    crowd_leave(crowd, MEMBERS, loop);
    test_loop_end(loop);
    free(crowd);
}

static int exit_with_pending(void *unused)
{
    enum { MEMBERS = 1000 };
    struct crowd_member *crowd = calloc(MEMBERS, sizeof(*crowd));
    struct gyre_loop *loop = test_loop();
    int i;

    (void)unused;
    assert_non_null(crowd);
    for (i = 0; i < MEMBERS; i++) {
        crowd_join(&crowd[i], loop);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    _exit(0);
}

/* L20: the process is gone, and nothing hangs in the kernel, or the time limit of the case says so. */
static void exit_without_cleanup_does_not_hang(void)
{
    test_child_passes(exit_with_pending, NULL);
}

/* ---- what keeps a loop alive ---- */

/* L21 */
static void alive_counts_what_keeps_the_loop_running(void)
{
    struct gyre_loop *loop = test_loop();
    struct ticker ticker;
    struct counted nop;
    struct gyre_fd fd;
    int posted = 0;
    int number;
    int pair[2];

    test_unix_pair(pair);
    ticker_init(&ticker, loop);
    counted_init(&nop);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_fd_init(&fd, loop, pair[0]), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_op_nop(&nop.op, loop), 0);
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_alive(loop), 2);
    assert_int_equal(gyre_loop_post(loop, on_count_post, &posted), 0);
    assert_int_equal(gyre_loop_alive(loop), 3);
    gyre_loop_ref(loop);
    gyre_loop_ref(loop);
    assert_int_equal(gyre_loop_alive(loop), 5);
    gyre_loop_unref(loop);
    gyre_loop_unref(loop);
    gyre_timer_stop(&ticker.timer);
    assert_int_equal(gyre_loop_alive(loop), 2);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(posted, 1);
    assert_int_equal(gyre_fd_detach(&fd, &number), 0);
    close(pair[0]);
    close(pair[1]);
    test_loop_end(loop);
}

static void on_post_unref(struct gyre_loop *loop, void *unused)
{
    (void)unused;
    gyre_loop_unref(loop);
}

static void *post_unref(void *loop)
{
    return (void *)(intptr_t)gyre_loop_post(loop, on_post_unref, NULL);
}

/* L21 */
static void ref_keeps_run_waiting_for_posts(void)
{
    struct gyre_loop *loop = test_loop();
    pthread_t thread;
    void *rc = NULL;

    gyre_loop_ref(loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    assert_int_equal(pthread_create(&thread, NULL, post_unref, loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_null(rc);
    test_loop_end(loop);
}

/* ---- counters and texts ---- */

/* L22 */
static void stats_add_up(void)
{
    enum { NOPS = 100, TIMERS = 50, POSTS = 20 };
    struct gyre_loop *loop = test_loop();
    struct gyre_loop_stats stats;
    struct counted nops[NOPS];
    struct ticker tickers[TIMERS];
    int posted = 0;
    int i;

    for (i = 0; i < NOPS; i++) {
        counted_init(&nops[i]);
        assert_int_equal(gyre_op_nop(&nops[i].op, loop), 0);
    }
    for (i = 0; i < TIMERS; i++) {
        ticker_init(&tickers[i], loop);
        assert_int_equal(gyre_timer_start(&tickers[i].timer, (uint64_t)i * GYRE_USEC), 0);
    }
    for (i = 0; i < POSTS; i++) {
        assert_int_equal(gyre_loop_post(loop, on_count_post, &posted), 0);
    }
    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    assert_int_equal(stats.started[GYRE_OP_NOP], NOPS);
    assert_int_equal(stats.finished[GYRE_OP_NOP], 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    traffic_check(loop, 10);
    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    assert_int_equal(stats.finished[GYRE_OP_NOP], NOPS);
    assert_int_equal(stats.timers, TIMERS);
    assert_int_equal(stats.posts, POSTS);
    assert_int_equal(posted, POSTS);
    assert_int_equal(stats.started[GYRE_OP_SEND], 20);
    assert_int_equal(stats.finished[GYRE_OP_SEND], 20);
    assert_int_equal(stats.finished[GYRE_OP_RECV], 20);
    assert_int_equal(stats.finished[GYRE_OP_CLOSE], 2);
    assert_int_equal(stats.overflows + stats.sheds + stats.starved, 0);
    assert_true(stats.turns >= 1 && stats.waits <= stats.turns && stats.enters <= stats.syscalls);
    assert_true(test_variant_uring() ? stats.sqes >= 22 && stats.cqes >= 22
                                     : stats.sqes == 0 && stats.cqes == 0);
    test_loop_end(loop);
}

/* L22, and done-when 3 of the foundation: nothing is allocated per message. */
static void traffic_allocates_nothing(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_loop_stats before;
    struct gyre_loop_stats after;

    traffic_check(loop, 10);
    assert_int_equal(gyre_loop_stats(loop, &before), 0);
    traffic_check(loop, 1000);
    assert_int_equal(gyre_loop_stats(loop, &after), 0);
    assert_int_equal(after.allocations, before.allocations);
    test_loop_end(loop);
}

static void busy_poll_loop_works(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;
    struct ticker ticker;

    options.busy_poll_ns = 200 * GYRE_USEC;
    loop = test_loop_with(&options);
    traffic_check(loop, 200);
    ticker_init(&ticker, loop);
    assert_int_equal(gyre_timer_start(&ticker.timer, 2 * GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(ticker.ticks, 1);
    test_loop_end(loop);
}

static void two_loops_in_one_thread_do_not_mix(void)
{
    struct gyre_loop *one = test_loop();
    struct gyre_loop *two = test_loop();
    struct traffic traffic;

    traffic_start(&traffic, one, 10);
    traffic_check(two, 10);
    assert_int_equal(traffic.rounds, 0);
    test_turns_until(one, &traffic.done);
    traffic_close(&traffic);
    test_loop_end(two);
    test_loop_end(one);
}

static const struct test_case cases[] = {
    {"run_empty_returns_at_once", run_empty_returns_at_once, 0},
    {"run_nowait_never_ready_returns_and_keeps_it", run_nowait_never_ready_returns_and_keeps_it, 0},
    {"run_bad_mode_is_refused", run_bad_mode_is_refused, 0},
    {"run_default_goes_on_until_nothing_is_active", run_default_goes_on_until_nothing_is_active, 0},
    {"stop_before_run_returns_at_once_and_resumes", stop_before_run_returns_at_once_and_resumes, 0},
    {"stop_in_callback_ends_run_with_work_intact", stop_in_callback_ends_run_with_work_intact, 0},
    {"stop_posted_from_thread_ends_run", stop_posted_from_thread_ends_run, 0},
    {"run_in_callback_is_refused", run_in_callback_is_refused, 0},
    {"destroy_with_active_operation_is_busy", destroy_with_active_operation_is_busy, 0},
    {"destroy_with_active_timer_is_busy", destroy_with_active_timer_is_busy, 0},
    {"destroy_with_waiting_post_is_busy", destroy_with_waiting_post_is_busy, 0},
    {"destroy_with_attached_descriptor_is_busy", destroy_with_attached_descriptor_is_busy, 0},
    {"destroy_with_retained_lease_is_busy", destroy_with_retained_lease_is_busy, 0},
    {"destroy_null_is_fine", destroy_null_is_fine, 0},
    {"create_destroy_many_times_stays_flat", create_destroy_many_times_stays_flat, 60},
    {"create_use_destroy_many_times_stays_flat", create_use_destroy_many_times_stays_flat, 60},
    {"create_without_memory_fails_cleanly", create_without_memory_fails_cleanly, 0},
    {"start_without_memory_fails_cleanly", start_without_memory_fails_cleanly, 30},
    {"allocator_incomplete_or_too_late_is_refused", allocator_incomplete_or_too_late_is_refused, 0},
    {"callback_never_runs_inside_a_call", callback_never_runs_inside_a_call, 0},
    {"nop_chain_starves_nobody", nop_chain_starves_nobody, 0},
    {"zero_timer_chain_starves_nobody", zero_timer_chain_starves_nobody, 0},
    {"post_chain_starves_nobody", post_chain_starves_nobody, 0},
    {"embedded_loop_drives_timers_and_operations", embedded_loop_drives_timers_and_operations, 0},
    {"embedded_loop_runs_posts_of_threads", embedded_loop_runs_posts_of_threads, 0},
    {"embedded_idle_loop_is_quiet", embedded_idle_loop_is_quiet, 0},
    {"embedded_loop_that_was_run_is_woken_by_posts", embedded_loop_that_was_run_is_woken_by_posts,
     0},
    {"embedded_loop_follows_the_nearest_deadline", embedded_loop_follows_the_nearest_deadline, 0},
    {"signal_storm_is_not_noticed", signal_storm_is_not_noticed, 0},
    {"now_is_read_once_per_turn", now_is_read_once_per_turn, 0},
    {"burst_beyond_submission_queue_is_accepted_in_order",
     burst_beyond_submission_queue_is_accepted_in_order, 0},
    {"burst_beyond_completion_queue_loses_nothing", burst_beyond_completion_queue_loses_nothing, 0},
    {"idle_connections_cause_no_turns", idle_connections_cause_no_turns, 0},
    {"exit_without_cleanup_does_not_hang", exit_without_cleanup_does_not_hang, 0},
    {"alive_counts_what_keeps_the_loop_running", alive_counts_what_keeps_the_loop_running, 0},
    {"ref_keeps_run_waiting_for_posts", ref_keeps_run_waiting_for_posts, 0},
    {"stats_add_up", stats_add_up, 0},
    {"traffic_allocates_nothing", traffic_allocates_nothing, 0},
    {"busy_poll_loop_works", busy_poll_loop_works, 0},
    {"two_loops_in_one_thread_do_not_mix", two_loops_in_one_thread_do_not_mix, 0},
};

int main(void)
{
    return test_main("loop", cases, TEST_COUNT(cases));
}
