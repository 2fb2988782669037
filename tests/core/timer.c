/* Timers: order, never early, restart, stop, life. Catalogue T01..T14. */
#include "core/traffic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* A timer that writes down when it fired. */
struct noted {
    struct gyre_timer timer;
    uint64_t deadline_ns; /* as the test asked for */
    uint64_t fired_ns;
    int number; /* in the order in which the test started them */
    int fired;
    int early;
    int *order; /* numbers in the order of firing, or NULL */
    int *count; /* how many fired */
};

static void on_noted(struct gyre_timer *timer)
{
    struct noted *noted = gyre_container_of(timer, struct noted, timer);

    assert_false(gyre_timer_active(timer));
    noted->fired_ns = test_now();
    noted->early = noted->fired_ns < noted->deadline_ns;
    noted->fired++;
    if (noted->order != NULL) {
        noted->order[*noted->count] = noted->number;
    }
    if (noted->count != NULL) {
        (*noted->count)++;
    }
}

static void noted_init(struct noted *noted, struct gyre_loop *loop)
{
    *noted = (struct noted){0};
    assert_int_equal(gyre_timer_init(&noted->timer, loop, on_noted), 0);
    assert_false(gyre_timer_active(&noted->timer));
}

/* Starts the timer and remembers a moment before which it must not fire. */
static void noted_start(struct noted *noted, uint64_t timeout_ns)
{
    noted->deadline_ns = test_now() + timeout_ns;
    assert_int_equal(gyre_timer_start(&noted->timer, timeout_ns), 0);
    assert_true(gyre_timer_active(&noted->timer));
}

static void busy_for(uint64_t duration_ns)
{
    uint64_t end = test_now() + duration_ns;

    while (test_now() < end) {
    }
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

static const struct noted *sorted_timers; /* for by_deadline(), qsort has no argument */

static int by_deadline(const void *left, const void *right)
{
    const struct noted *a = &sorted_timers[*(const int *)left];
    const struct noted *b = &sorted_timers[*(const int *)right];

    if (a->deadline_ns != b->deadline_ns) {
        return a->deadline_ns < b->deadline_ns ? -1 : 1;
    }
    return a->number < b->number ? -1 : 1;
}

/* ---- order ---- */

/* T01: many share a moment; those fire in the order of their starts. */
static void timers_random_deadlines_fire_in_order(void)
{
    enum { COUNT = 2000 };
    struct gyre_loop *loop = test_loop();
    struct noted *timers = calloc(COUNT, sizeof(*timers));
    int *expected = calloc(COUNT, sizeof(*expected));
    int *order = calloc(COUNT, sizeof(*order));
    uint64_t base = test_now() + 2 * GYRE_MSEC;
    uint64_t seed = 1;
    int count = 0;
    int i;

    assert_true(timers != NULL && expected != NULL && order != NULL);
    for (i = 0; i < COUNT; i++) {
        noted_init(&timers[i], loop);
        timers[i].number = i;
        timers[i].order = order;
        timers[i].count = &count;
        timers[i].deadline_ns = base + next_random(&seed) % 500 * 20 * GYRE_USEC;
        expected[i] = i;
        assert_int_equal(gyre_timer_start_at(&timers[i].timer, timers[i].deadline_ns), 0);
    }
    sorted_timers = timers;
    qsort(expected, COUNT, sizeof(*expected), by_deadline);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, COUNT);
    assert_memory_equal(order, expected, COUNT * sizeof(*order));
    for (i = 0; i < COUNT; i++) {
        assert_int_equal(timers[i].early, 0);
        assert_int_equal(timers[i].fired, 1);
    }
    test_loop_end(loop);
    free(timers);
    free(expected);
    free(order);
}

/* T01: a restart puts a timer behind its equals. */
static void timers_equal_deadlines_fire_in_start_order(void)
{
    enum { COUNT = 20 };
    struct gyre_loop *loop = test_loop();
    struct noted timers[COUNT];
    int order[COUNT] = {0};
    uint64_t moment = test_now() + GYRE_MSEC;
    int count = 0;
    int i;

    for (i = 0; i < COUNT; i++) {
        noted_init(&timers[i], loop);
        timers[i].number = i;
        timers[i].order = order;
        timers[i].count = &count;
        assert_int_equal(gyre_timer_start_at(&timers[i].timer, moment), 0);
    }
    assert_int_equal(gyre_timer_start_at(&timers[0].timer, moment), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, COUNT);
    for (i = 0; i < COUNT; i++) {
        assert_int_equal(order[i], (i + 1) % COUNT);
    }
    test_loop_end(loop);
}

/* ---- never early ---- */

/* T02 */
static void timer_is_never_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer;
    uint64_t seed = 2;
    int i;

    noted_init(&timer, loop);
    for (i = 0; i < 300; i++) {
        noted_start(&timer, next_random(&seed) % (300 * GYRE_USEC));
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(timer.early, 0);
    }
    assert_int_equal(timer.fired, 300);
    test_loop_end(loop);
}

struct delayed {
    struct gyre_timer timer;
    struct noted *next;
};

static void on_delayed(struct gyre_timer *timer)
{
    struct delayed *delayed = gyre_container_of(timer, struct delayed, timer);

    busy_for(3 * GYRE_MSEC);
    noted_start(delayed->next, GYRE_MSEC);
}

/* T02: the loop's cached time is old by then; the timer must not count from it. */
static void timer_started_in_slow_callback_is_not_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct delayed delayed;
    struct noted next;
    int i;

    noted_init(&next, loop);
    delayed.next = &next;
    assert_int_equal(gyre_timer_init(&delayed.timer, loop, on_delayed), 0);
    for (i = 0; i < 10; i++) {
        assert_int_equal(gyre_timer_start(&delayed.timer, 0), 0);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(next.fired, i + 1);
        assert_int_equal(next.early, 0);
    }
    test_loop_end(loop);
}

/* T02: nor from a time before the loop was run. */
static void timer_started_long_after_last_turn_is_not_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer;

    noted_init(&timer, loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    busy_for(5 * GYRE_MSEC);
    noted_start(&timer, 2 * GYRE_MSEC);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timer.early, 0);
    test_loop_end(loop);
}

/* ---- zero, past and never ---- */

static void on_again(struct gyre_timer *timer)
{
    struct noted *noted = gyre_container_of(timer, struct noted, timer);

    noted->fired++;
    assert_int_equal(gyre_timer_start(timer, 0), 0);
}

/* T03: once per turn, and no turn is waited in. */
static void timer_zero_fires_in_the_next_turn(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer = {0};
    int i;

    assert_int_equal(gyre_timer_init(&timer.timer, loop, on_again), 0);
    assert_int_equal(gyre_timer_start(&timer.timer, 0), 0);
    assert_int_equal(timer.fired, 0);
    for (i = 1; i <= 100; i++) {
        assert_int_equal(gyre_loop_run(loop, i % 2 ? GYRE_RUN_ONCE : GYRE_RUN_NOWAIT), 1);
        assert_int_equal(timer.fired, i);
    }
    gyre_timer_stop(&timer.timer);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timer.fired, 100);
    test_loop_end(loop);
}

static void on_again_past(struct gyre_timer *timer)
{
    struct noted *noted = gyre_container_of(timer, struct noted, timer);

    if (++noted->fired < 50) {
        assert_int_equal(gyre_timer_start_at(timer, noted->fired % 2 ? 0 : test_now() - 1), 0);
    }
}

/* T03 */
static void timer_past_moment_fires_in_the_next_turn(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer = {0};
    int i;

    assert_int_equal(gyre_timer_init(&timer.timer, loop, on_again_past), 0);
    assert_int_equal(gyre_timer_start_at(&timer.timer, 1), 0);
    for (i = 1; i <= 50; i++) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), i < 50);
        assert_int_equal(timer.fired, i);
    }
    test_loop_end(loop);
}

/* T04 */
static void timer_huge_timeout_never_fires(void)
{
    static const uint64_t huge[] = {UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2, INT64_MAX,
                                    UINT64_C(1) << 62};
    struct gyre_loop *loop = test_loop();
    struct noted never[2 * TEST_COUNT(huge)];
    struct noted soon;
    size_t i;

    noted_init(&soon, loop);
    for (i = 0; i < TEST_COUNT(huge); i++) {
        noted_init(&never[2 * i], loop);
        noted_init(&never[2 * i + 1], loop);
        assert_int_equal(gyre_timer_start(&never[2 * i].timer, huge[i]), 0);
        assert_int_equal(gyre_timer_start_at(&never[2 * i + 1].timer, huge[i]), 0);
    }
    noted_start(&soon, GYRE_MSEC);
    assert_int_equal(gyre_loop_alive(loop), 2 * TEST_COUNT(huge) + 1);
    test_turns_until(loop, &soon.fired);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    for (i = 0; i < 2 * TEST_COUNT(huge); i++) {
        assert_true(gyre_timer_active(&never[i].timer));
        assert_int_equal(never[i].fired, 0);
        gyre_timer_stop(&never[i].timer);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* T04: a wait for a moment that never comes still ends with other work. */
static void timer_never_does_not_end_the_wait_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted never;
    struct gyre_loop_stats stats;
    uint64_t turns;

    noted_init(&never, loop);
    assert_int_equal(gyre_timer_start(&never.timer, UINT64_MAX), 0);
    traffic_check(loop, 20);
    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    turns = stats.turns;
    assert_true(turns < 200); /* 20 bytes: 80 results; a spinning loop needs thousands */
    assert_int_equal(never.fired, 0);
    gyre_timer_stop(&never.timer);
    test_loop_end(loop);
}

/* ---- restart ---- */

/* T05, T07 */
static void timer_restarted_fires_once_at_the_last_moment(void)
{
    static const uint64_t timeouts[][2] = {{60 * GYRE_SEC, GYRE_MSEC},
                                           {GYRE_MSEC, 4 * GYRE_MSEC},
                                           {GYRE_MSEC, GYRE_MSEC},
                                           {0, GYRE_MSEC},
                                           {60 * GYRE_SEC, 0}};
    struct gyre_loop *loop = test_loop();
    struct noted timer;
    size_t i;

    noted_init(&timer, loop);
    for (i = 0; i < TEST_COUNT(timeouts); i++) {
        noted_start(&timer, timeouts[i][0]);
        noted_start(&timer, timeouts[i][1]);
        assert_int_equal(gyre_loop_alive(loop), 1);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(timer.fired, (int)i + 1);
        assert_int_equal(timer.early, 0);
    }
    test_loop_end(loop);
}

/* T05: after it came due, before the loop got to it. */
static void timer_overdue_restarted_does_not_fire_for_the_old_moment(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer;

    noted_init(&timer, loop);
    noted_start(&timer, GYRE_USEC);
    busy_for(GYRE_MSEC);
    noted_start(&timer, 5 * GYRE_MSEC);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timer.fired, 1);
    assert_int_equal(timer.early, 0);
    test_loop_end(loop);
}

static void on_every_ms(struct gyre_timer *timer)
{
    struct noted *noted = gyre_container_of(timer, struct noted, timer);

    assert_true(test_now() >= noted->deadline_ns);
    if (++noted->fired < 5) {
        noted_start(noted, GYRE_MSEC);
    }
    if (noted->fired == 2) {
        busy_for(10 * GYRE_MSEC);
    }
}

/* T08: what was missed while the thread was busy is not made up for in a burst. */
static void timer_repeating_after_block_does_not_burst(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer = {0};

    assert_int_equal(gyre_timer_init(&timer.timer, loop, on_every_ms), 0);
    noted_start(&timer, GYRE_MSEC);
    while (timer.fired < 5) {
        int fired = timer.fired;

        assert_true(gyre_loop_run(loop, GYRE_RUN_ONCE) >= 0);
        assert_in_range(timer.fired - fired, 0, 1);
    }
    test_loop_end(loop);
}

/* ---- slack ---- */

static void fire_apart(struct gyre_loop *loop, struct noted timers[2], uint64_t apart_ns)
{
    const uint64_t first = test_now() + 2 * GYRE_MSEC;
    int i;

    for (i = 0; i < 2; i++) {
        noted_init(&timers[i], loop);
        timers[i].deadline_ns = first + (uint64_t)i * apart_ns;
        assert_int_equal(gyre_timer_start_at(&timers[i].timer, timers[i].deadline_ns), 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    for (i = 0; i < 2; i++) {
        assert_int_equal(timers[i].fired, 1);
        assert_int_equal(timers[i].early, 0);
    }
}

/* On epoll the kernel adds the slack, and need not use it. */
static void timers_within_the_slack_of_the_thread_share_a_wake(void)
{
    struct gyre_loop_stats before;
    struct gyre_loop_stats after;
    struct noted timers[2];
    struct gyre_loop *loop;

    assert_int_equal(prctl(PR_SET_TIMERSLACK, 200 * GYRE_MSEC), 0);
    loop = test_loop();
    assert_int_equal(gyre_loop_stats(loop, &before), 0);
    fire_apart(loop, timers, 100 * GYRE_MSEC);
    assert_int_equal(gyre_loop_stats(loop, &after), 0);
    if (test_variant_uring()) {
        assert_int_equal(after.waits - before.waits, 1);
    }
    test_loop_end(loop);
}

/* The machine may be busy and wake the thread late, but hardly each time. */
static void timers_beyond_the_slack_of_the_thread_do_not(void)
{
    struct noted timers[2];
    struct gyre_loop *loop;
    int apart = 0;
    int i;

    assert_int_equal(prctl(PR_SET_TIMERSLACK, 1ul), 0); /* the least: 0 is the default */
    loop = test_loop();
    for (i = 0; i < 20 && !apart; i++) {
        fire_apart(loop, timers, 100 * GYRE_MSEC);
        apart = timers[0].fired_ns < timers[1].deadline_ns;
    }
    assert_true(apart);
    test_loop_end(loop);
}

/* A moment that has come is not waited for, whatever the slack. */
static void timer_due_is_not_delayed_by_slack(void)
{
    struct gyre_loop *loop;
    struct noted timer;

    assert_int_equal(prctl(PR_SET_TIMERSLACK, 1000 * GYRE_MSEC), 0);
    loop = test_loop();
    noted_init(&timer, loop);
    noted_start(&timer, GYRE_USEC);
    busy_for(10 * GYRE_USEC);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timer.fired, 1);
    assert_true(test_now() < timer.deadline_ns + 500 * GYRE_MSEC);
    test_loop_end(loop);
}

/* ---- stop ---- */

struct stopping {
    struct gyre_timer timer;
    struct gyre_timer *victim;
    int fired;
};

static void on_stopping(struct gyre_timer *timer)
{
    struct stopping *stopping = gyre_container_of(timer, struct stopping, timer);

    stopping->fired++;
    gyre_timer_stop(timer);
    gyre_timer_stop(stopping->victim);
    gyre_timer_stop(stopping->victim);
    assert_false(gyre_timer_active(stopping->victim));
}

/* T06: both are due in the same turn; whichever comes first stops the other. */
static void timer_stopped_in_callback_of_the_same_turn_never_fires(void)
{
    struct gyre_loop *loop = test_loop();
    struct stopping one = {0};
    struct stopping two = {.victim = &one.timer};
    uint64_t moment = test_now() + GYRE_USEC;
    int i;

    one.victim = &two.timer;
    assert_int_equal(gyre_timer_init(&one.timer, loop, on_stopping), 0);
    assert_int_equal(gyre_timer_init(&two.timer, loop, on_stopping), 0);
    for (i = 1; i <= 20; i++) {
        assert_int_equal(gyre_timer_start_at(&one.timer, moment), 0);
        assert_int_equal(gyre_timer_start_at(&two.timer, i % 2 ? moment : moment + 1), 0);
        busy_for(10 * GYRE_USEC);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(one.fired, i);
        assert_int_equal(two.fired, 0);
    }
    test_loop_end(loop);
}

struct postponing {
    struct gyre_timer timer;
    struct noted *victim;
};

static void on_postponing(struct gyre_timer *timer)
{
    noted_start(gyre_container_of(timer, struct postponing, timer)->victim, 2 * GYRE_MSEC);
}

/* T06: restarted by a callback of the turn in which it was due: fires once, later. */
static void timer_restarted_in_callback_of_the_same_turn_fires_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct postponing postponing;
    struct noted victim;
    uint64_t moment = test_now() + GYRE_USEC;

    noted_init(&victim, loop);
    postponing.victim = &victim;
    assert_int_equal(gyre_timer_init(&postponing.timer, loop, on_postponing), 0);
    assert_int_equal(gyre_timer_start_at(&postponing.timer, moment), 0);
    assert_int_equal(gyre_timer_start_at(&victim.timer, moment), 0);
    busy_for(10 * GYRE_USEC);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    assert_int_equal(victim.fired, 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(victim.fired, 1);
    assert_int_equal(victim.early, 0);
    test_loop_end(loop);
}

struct op_stopping {
    struct gyre_op op;
    struct gyre_timer *victim;
};

static void on_op_stopping(struct gyre_op *op, const struct gyre_result *result)
{
    (void)result;
    gyre_timer_stop(gyre_container_of(op, struct op_stopping, op)->victim);
}

/* T06: operations come before timers in a turn. */
static void timer_stopped_by_operation_of_the_same_turn_never_fires(void)
{
    struct gyre_loop *loop = test_loop();
    struct op_stopping stopping;
    struct noted victim;

    noted_init(&victim, loop);
    stopping.victim = &victim.timer;
    gyre_op_init(&stopping.op, on_op_stopping);
    assert_int_equal(gyre_timer_start(&victim.timer, 0), 0);
    assert_int_equal(gyre_op_nop(&stopping.op, loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(victim.fired, 0);
    test_loop_end(loop);
}

static void timer_stopped_twice_or_idle_does_nothing(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted timer;

    noted_init(&timer, loop);
    gyre_timer_stop(&timer.timer);
    noted_start(&timer, 0);
    gyre_timer_stop(&timer.timer);
    gyre_timer_stop(&timer.timer);
    assert_false(gyre_timer_active(&timer.timer));
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timer.fired, 0);
    test_loop_end(loop);
}

/* T12: a timer either fired, and then it was not active when the other side came to stop it, or it
 * was stopped and never fires. */
static void timer_stop_against_expiry_is_one_or_the_other(void)
{
    enum { RACES = 10000, BATCH = 50 };
    struct gyre_loop *loop = test_loop();
    struct noted timers[BATCH];
    uint64_t seed = 3;
    int stopped = 0;
    int fired = 0;
    int races;
    int i;

    for (i = 0; i < BATCH; i++) {
        noted_init(&timers[i], loop);
    }
    for (races = 0; races < RACES; races += BATCH) {
        for (i = 0; i < BATCH; i++) {
            timers[i].fired = 0;
            noted_start(&timers[i], next_random(&seed) % (100 * GYRE_USEC));
        }
        busy_for(50 * GYRE_USEC);
        assert_true(gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0);
        for (i = 0; i < BATCH; i++) {
            int active = gyre_timer_active(&timers[i].timer);

            gyre_timer_stop(&timers[i].timer);
            stopped += active;
            fired += timers[i].fired;
            assert_int_equal(active + timers[i].fired, 1);
        }
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    }
    assert_int_equal(stopped + fired, RACES);
    assert_true(stopped > 0 && fired > 0);
    test_loop_end(loop);
}

/* ---- life ---- */

static void on_free(struct gyre_timer *timer)
{
    free(gyre_container_of(timer, struct noted, timer));
}

static void timer_freed_in_its_callback_is_not_touched(void)
{
    struct gyre_loop *loop = test_loop();
    int i;

    for (i = 0; i < 100; i++) {
        struct noted *timer = calloc(1, sizeof(*timer));

        assert_non_null(timer);
        assert_int_equal(gyre_timer_init(&timer->timer, loop, on_free), 0);
        assert_int_equal(gyre_timer_start(&timer->timer, (uint64_t)(i % 3) * GYRE_USEC), 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* T10: nothing is allocated, whatever the number. */
static void timer_million_of_them_are_inserted_stopped_and_fired(void)
{
    const int count = 1000000;
    struct gyre_loop *loop = test_loop();
    struct noted *timers = calloc((size_t)count, sizeof(*timers));
    struct gyre_loop_stats before;
    struct gyre_loop_stats after;
    uint64_t seed = 4;
    uint64_t base = test_now();
    int fired = 0;
    int i;

    assert_non_null(timers);
    assert_int_equal(gyre_loop_stats(loop, &before), 0);
    for (i = 0; i < count; i++) {
        noted_init(&timers[i], loop);
        timers[i].count = &fired;
        timers[i].deadline_ns = base + next_random(&seed) % (200 * GYRE_MSEC);
        assert_int_equal(gyre_timer_start_at(&timers[i].timer, timers[i].deadline_ns), 0);
    }
    for (i = 0; i < count; i += 2) {
        gyre_timer_stop(&timers[i].timer);
    }
    assert_int_equal(gyre_loop_alive(loop), count / 2);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(fired, count / 2);
    for (i = 0; i < count; i++) {
        assert_int_equal(timers[i].fired, i % 2);
        assert_int_equal(timers[i].early, 0);
    }
    assert_int_equal(gyre_loop_stats(loop, &after), 0);
    assert_int_equal(after.allocations, before.allocations);
    assert_int_equal(after.timers - before.timers, count / 2);
    test_loop_end(loop);
    free(timers);
}

/* T13 */
static void timer_in_background_does_not_keep_the_loop_running(void)
{
    struct gyre_loop *loop = test_loop();
    struct noted background;
    struct noted foreground;

    noted_init(&background, loop);
    noted_init(&foreground, loop);
    assert_int_equal(gyre_timer_background(&background.timer, 1), 0);
    noted_start(&background, 3600 * GYRE_SEC);
    assert_int_equal(gyre_timer_background(&background.timer, 0), -EBUSY);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_true(gyre_timer_active(&background.timer));
    noted_start(&background, GYRE_MSEC);
    noted_start(&foreground, 3 * GYRE_MSEC);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(background.fired, 1);
    assert_int_equal(foreground.fired, 1);
    assert_int_equal(gyre_timer_background(&background.timer, 0), 0);
    noted_start(&background, GYRE_MSEC);
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(background.fired, 2);
    test_loop_end(loop);
}

/* T14 */
static void timer_without_callback_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_timer timer;

    memset(&timer, 0, sizeof(timer));
    assert_int_equal(gyre_timer_init(&timer, loop, NULL), -EINVAL);
    assert_int_equal(gyre_timer_init(&timer, NULL, on_free), -EINVAL);
    assert_int_equal(gyre_timer_init(NULL, loop, on_free), -EINVAL);
    assert_int_equal(gyre_timer_start(&timer, 0), -EINVAL);
    assert_int_equal(gyre_timer_start_at(&timer, 0), -EINVAL);
    assert_int_equal(gyre_timer_background(&timer, 1), -EINVAL);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* ---- the timeout operation ---- */

struct timeout {
    struct gyre_op op;
    uint64_t deadline_ns;
    int results;
    int last;
    int early;
};

static void on_timeout(struct gyre_op *op, const struct gyre_result *result)
{
    struct timeout *timeout = gyre_container_of(op, struct timeout, op);

    timeout->results++;
    timeout->last = result->res;
    timeout->early = test_now() < timeout->deadline_ns;
}

static void timeout_operation_completes_never_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct timeout timeout = {0};
    int i;

    gyre_op_init(&timeout.op, on_timeout);
    for (i = 0; i < 50; i++) {
        timeout.deadline_ns = test_now() + (uint64_t)i * 50 * GYRE_USEC;
        assert_int_equal(gyre_op_timeout(&timeout.op, loop, timeout.deadline_ns), 0);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
        assert_int_equal(timeout.results, i + 1);
        assert_int_equal(timeout.last, 0);
        assert_int_equal(timeout.early, 0);
    }
    test_loop_end(loop);
}

static void timeout_operation_cancelled_or_bounded_says_so(void)
{
    struct gyre_loop *loop = test_loop();
    struct timeout timeout = {0};

    gyre_op_init(&timeout.op, on_timeout);
    assert_int_equal(gyre_op_timeout(&timeout.op, loop, UINT64_MAX), 0);
    assert_int_equal(gyre_op_cancel(&timeout.op), 0);
    assert_int_equal(gyre_op_cancel(&timeout.op), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timeout.results, 1);
    assert_int_equal(timeout.last, -ECANCELED);
    assert_int_equal(gyre_op_timeout(&timeout.op, loop, test_now() + 3600 * GYRE_SEC), 0);
    assert_int_equal(gyre_op_set_deadline(&timeout.op, test_now() + GYRE_MSEC), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(timeout.results, 2);
    assert_int_equal(timeout.last, -ETIMEDOUT);
    test_loop_end(loop);
}

static const struct test_case cases[] = {
    {"timers_random_deadlines_fire_in_order", timers_random_deadlines_fire_in_order, 0},
    {"timers_equal_deadlines_fire_in_start_order", timers_equal_deadlines_fire_in_start_order, 0},
    {"timer_is_never_early", timer_is_never_early, 0},
    {"timer_started_in_slow_callback_is_not_early", timer_started_in_slow_callback_is_not_early, 0},
    {"timer_started_long_after_last_turn_is_not_early",
     timer_started_long_after_last_turn_is_not_early, 0},
    {"timer_zero_fires_in_the_next_turn", timer_zero_fires_in_the_next_turn, 0},
    {"timer_past_moment_fires_in_the_next_turn", timer_past_moment_fires_in_the_next_turn, 0},
    {"timer_huge_timeout_never_fires", timer_huge_timeout_never_fires, 0},
    {"timer_never_does_not_end_the_wait_early", timer_never_does_not_end_the_wait_early, 0},
    {"timer_restarted_fires_once_at_the_last_moment", timer_restarted_fires_once_at_the_last_moment,
     0},
    {"timer_overdue_restarted_does_not_fire_for_the_old_moment",
     timer_overdue_restarted_does_not_fire_for_the_old_moment, 0},
    {"timer_repeating_after_block_does_not_burst", timer_repeating_after_block_does_not_burst, 0},
    {"timers_within_the_slack_of_the_thread_share_a_wake",
     timers_within_the_slack_of_the_thread_share_a_wake, 0},
    {"timers_beyond_the_slack_of_the_thread_do_not", timers_beyond_the_slack_of_the_thread_do_not,
     0},
    {"timer_due_is_not_delayed_by_slack", timer_due_is_not_delayed_by_slack, 0},
    {"timer_stopped_in_callback_of_the_same_turn_never_fires",
     timer_stopped_in_callback_of_the_same_turn_never_fires, 0},
    {"timer_restarted_in_callback_of_the_same_turn_fires_once",
     timer_restarted_in_callback_of_the_same_turn_fires_once, 0},
    {"timer_stopped_by_operation_of_the_same_turn_never_fires",
     timer_stopped_by_operation_of_the_same_turn_never_fires, 0},
    {"timer_stopped_twice_or_idle_does_nothing", timer_stopped_twice_or_idle_does_nothing, 0},
    {"timer_stop_against_expiry_is_one_or_the_other", timer_stop_against_expiry_is_one_or_the_other,
     30},
    {"timer_freed_in_its_callback_is_not_touched", timer_freed_in_its_callback_is_not_touched, 0},
    {"timer_million_of_them_are_inserted_stopped_and_fired",
     timer_million_of_them_are_inserted_stopped_and_fired, 60},
    {"timer_in_background_does_not_keep_the_loop_running",
     timer_in_background_does_not_keep_the_loop_running, 0},
    {"timer_without_callback_is_refused", timer_without_callback_is_refused, 0},
    {"timeout_operation_completes_never_early", timeout_operation_completes_never_early, 0},
    {"timeout_operation_cancelled_or_bounded_says_so",
     timeout_operation_cancelled_or_bounded_says_so, 0},
};

int main(void)
{
    return test_main("timer", cases, TEST_COUNT(cases));
}
