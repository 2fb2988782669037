/*
 * Posts and wake-ups from other threads. Catalogue P01..P07, L11. Also run under ThreadSanitizer: the
 * threads of this file share nothing with the loop's thread but what the library hands over, and
 * atomics. A thread that is not the case's own asserts nothing; it counts, and the case asserts.
 */
#include "core/traffic.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { PRODUCERS = 8 };

static int run_until_closed(struct gyre_loop *loop)
{
    int rc;

    do {
        rc = gyre_loop_run(loop, GYRE_RUN_DEFAULT);
    } while (rc > 0);
    return rc;
}

static void on_count(struct gyre_loop *loop, void *data)
{
    int *count = data;

    (void)loop;
    (*count)++;
}

/* ---- P01: many producers ---- */

struct producer {
    struct gyre_loop *loop;
    pthread_t thread;
    int posts;    /* to make */
    int made;     /* the producer's own */
    int refused;  /* not accepted for another reason than a full queue */
    int next;     /* the loop's: the number expected */
    int disorder; /* the loop's */
    struct message {
        struct producer *producer;
        int number;
        int runs;
    } * messages;
};

static void on_message(struct gyre_loop *loop, void *data)
{
    struct message *message = data;
    struct producer *producer = message->producer;

    (void)loop;
    producer->disorder += message->number != producer->next;
    producer->next = message->number + 1;
    message->runs++;
}

static void *produce(void *data)
{
    struct producer *producer = data;

    while (producer->made < producer->posts) {
        int rc = gyre_loop_post(producer->loop, on_message, &producer->messages[producer->made]);

        if (rc == 0) {
            producer->made++;
        } else if (rc == -ENOBUFS) {
            sched_yield();
        } else {
            producer->refused++;
            break;
        }
    }
    return NULL;
}

static void producer_start(struct producer *producer, struct gyre_loop *loop, int posts)
{
    int i;

    *producer = (struct producer){.loop = loop, .posts = posts};
    producer->messages = calloc((size_t)posts, sizeof(*producer->messages));
    assert_non_null(producer->messages);
    for (i = 0; i < posts; i++) {
        producer->messages[i].producer = producer;
        producer->messages[i].number = i;
    }
    assert_int_equal(pthread_create(&producer->thread, NULL, produce, producer), 0);
}

static void producer_check(struct producer *producer)
{
    int i;

    assert_int_equal(producer->refused, 0);
    assert_int_equal(producer->disorder, 0);
    assert_int_equal(producer->next, producer->posts);
    for (i = 0; i < producer->posts; i++) {
        assert_int_equal(producer->messages[i].runs, 1);
    }
    free(producer->messages);
}

static uint64_t posts_of(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats.posts;
}

static void posts_arrive_from(int producers, int posts, uint32_t capacity)
{
    struct gyre_loop_options options = test_options();
    struct producer all[PRODUCERS];
    struct gyre_loop *loop;
    int i;

    options.post_capacity = capacity;
    loop = test_loop_with(&options);
    gyre_loop_ref(loop);
    for (i = 0; i < producers; i++) {
        producer_start(&all[i], loop, posts);
    }
    while (posts_of(loop) < (uint64_t)producers * (uint64_t)posts) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    for (i = 0; i < producers; i++) {
        assert_int_equal(pthread_join(all[i].thread, NULL), 0);
        producer_check(&all[i]);
    }
    gyre_loop_unref(loop);
    test_loop_end(loop);
}

/* P01 */
static void posts_of_many_threads_arrive_once_and_in_order(void)
{
    posts_arrive_from(PRODUCERS, 20000, 0);
}

/* P01, P07: with a queue that is full most of the time. */
static void posts_through_small_queue_arrive_once_and_in_order(void)
{
    posts_arrive_from(4, 5000, 8);
}

/* ---- P02: post as the loop goes to sleep ---- */

struct race {
    struct gyre_loop *loop;
    sem_t ran;
    int rounds;
    int failed;
};

static void on_race(struct gyre_loop *loop, void *data)
{
    struct race *race = data;

    (void)loop;
    sem_post(&race->ran);
}

static void on_race_end(struct gyre_loop *loop, void *data)
{
    (void)data;
    gyre_loop_unref(loop);
}

/* Spins first: a thread that has to be woken comes when the loop sleeps already. */
static void wait_until_ran(struct race *race)
{
    for (int i = 0; i < 1000; i++) {
        if (sem_trywait(&race->ran) == 0) {
            return;
        }
    }
    while (sem_wait(&race->ran) != 0) {
    }
}

/* Each post is made just after the one before has run: when the loop is about to sleep. */
static void *race_posts(void *data)
{
    struct race *race = data;
    int i;

    for (i = 0; i < race->rounds; i++) {
        race->failed += gyre_loop_post(race->loop, on_race, race) != 0;
        wait_until_ran(race);
        for (volatile int spin = i % 64; spin > 0; spin--) {
        }
    }
    race->failed += gyre_loop_post(race->loop, on_race_end, race) != 0;
    return NULL;
}

static void race_against_sleep(uint64_t busy_poll_ns)
{
    struct gyre_loop_options options = test_options();
    struct race race = {.rounds = 20000};
    pthread_t thread;

    options.busy_poll_ns = busy_poll_ns;
    race.loop = test_loop_with(&options);
    assert_int_equal(sem_init(&race.ran, 0, 0), 0);
    gyre_loop_ref(race.loop);
    assert_int_equal(pthread_create(&thread, NULL, race_posts, &race), 0);
    assert_int_equal(gyre_loop_run(race.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(race.failed, 0);
    sem_destroy(&race.ran);
    test_loop_end(race.loop);
}

/* P02: one slept past is a hang, and the time limit finds it. */
static void post_as_loop_falls_asleep_is_not_slept_past(void)
{
    race_against_sleep(0);
}

/* P02 */
static void post_while_loop_busy_polls_is_not_slept_past(void)
{
    race_against_sleep(5 * GYRE_USEC);
}

static void *race_wakes(void *data)
{
    struct race *race = data;
    int i;

    for (i = 0; i < race->rounds; i++) {
        gyre_loop_wake(race->loop);
        while (sem_wait(&race->ran) != 0) {
        }
    }
    return NULL;
}

/* P02, P05: each wake is one turn at least. */
static void wake_as_loop_falls_asleep_is_not_slept_past(void)
{
    struct race race = {.loop = test_loop(), .rounds = 5000};
    pthread_t thread;
    int i;

    assert_int_equal(sem_init(&race.ran, 0, 0), 0);
    gyre_loop_ref(race.loop);
    assert_int_equal(pthread_create(&thread, NULL, race_wakes, &race), 0);
    for (i = 0; i < race.rounds; i++) {
        assert_int_equal(gyre_loop_run(race.loop, GYRE_RUN_ONCE), 1);
        sem_post(&race.ran);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    gyre_loop_unref(race.loop);
    sem_destroy(&race.ran);
    test_loop_end(race.loop);
}

/* ---- P03: post against close ---- */

struct closer {
    struct gyre_loop *loop;
    pthread_t thread;
    int accepted;
    int refused; /* for another reason than a full queue or the close */
    atomic_int *ran;
};

static void on_ran(struct gyre_loop *loop, void *data)
{
    (void)loop;
    atomic_fetch_add((atomic_int *)data, 1);
}

static void *post_until_closed(void *data)
{
    struct closer *closer = data;
    int rc;

    do {
        rc = gyre_loop_post(closer->loop, on_ran, closer->ran);
        closer->accepted += rc == 0;
        closer->refused += rc != 0 && rc != -ENOBUFS && rc != -ESHUTDOWN;
    } while (rc != -ESHUTDOWN && closer->refused == 0);
    return NULL;
}

/* P03: what was accepted runs, what was refused does not. */
static void post_against_close_runs_or_is_refused(void)
{
    int round;

    test_skip_simulated("in the simulation a thread runs until it waits");
    for (round = 0; round < 20; round++) {
        struct gyre_loop *loop = test_loop();
        struct closer closers[4];
        atomic_int ran = 0;
        int accepted = 0;
        int i;

        for (i = 0; i < 4; i++) {
            closers[i] = (struct closer){.loop = loop, .ran = &ran};
            assert_int_equal(
                pthread_create(&closers[i].thread, NULL, post_until_closed, &closers[i]), 0);
        }
        gyre_loop_ref(loop);
        while (atomic_load(&ran) < 100 * (round + 1)) {
            assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        }
        gyre_loop_close_posts(loop);
        gyre_loop_close_posts(loop);
        for (i = 0; i < 4; i++) {
            assert_int_equal(pthread_join(closers[i].thread, NULL), 0);
            assert_int_equal(closers[i].refused, 0);
            accepted += closers[i].accepted;
        }
        gyre_loop_unref(loop);
        assert_int_equal(run_until_closed(loop), 0);
        assert_int_equal(atomic_load(&ran), accepted);
        test_loop_end(loop);
    }
}

/* P03 */
static void post_after_close_is_refused_and_earlier_ones_run(void)
{
    struct gyre_loop *loop = test_loop();
    int count = 0;

    assert_int_equal(gyre_loop_post(loop, on_count, &count), 0);
    gyre_loop_close_posts(loop);
    assert_int_equal(gyre_loop_post(loop, on_count, &count), -ESHUTDOWN);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, 1);
    traffic_check(loop, 5);
    test_loop_end(loop);
}

/* ---- P04, P05 ---- */

struct burst {
    int count;
    int posted;
};

static void on_burst(struct gyre_loop *loop, void *data)
{
    struct burst *burst = data;

    while (burst->posted < 1000) {
        assert_int_equal(gyre_loop_post(loop, on_count, &burst->count), 0);
        burst->posted++;
    }
}

/* P04: a loop that is awake is not woken, however many come. */
static void posts_while_awake_cost_no_wakeups(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_loop_stats before;
    struct gyre_loop_stats after;
    struct burst burst = {0};

    assert_int_equal(gyre_loop_stats(loop, &before), 0);
    assert_int_equal(gyre_loop_post(loop, on_burst, &burst), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(gyre_loop_stats(loop, &after), 0);
    assert_int_equal(burst.count, 1000);
    assert_int_equal(after.posts - before.posts, 1001);
    assert_in_range(after.wakes - before.wakes, 0, 1);
    assert_true(after.syscalls - before.syscalls < 100);
    test_loop_end(loop);
}

/* P05 */
static void post_before_run_is_not_lost(void)
{
    struct gyre_loop *loop = test_loop();
    int count = 0;

    assert_int_equal(gyre_loop_post(loop, on_count, &count), 0);
    assert_int_equal(count, 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 0);
    assert_int_equal(count, 1);
    assert_int_equal(gyre_loop_post(loop, on_count, &count), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    assert_int_equal(count, 2);
    assert_int_equal(gyre_loop_post(loop, on_count, &count), 0);
    assert_int_equal(gyre_loop_dispatch(loop), 0);
    assert_int_equal(count, 3);
    test_loop_end(loop);
}

/* P05 */
static void wake_before_run_is_not_lost(void)
{
    struct gyre_loop *loop = test_loop();

    gyre_loop_ref(loop);
    gyre_loop_wake(loop);
    gyre_loop_wake(loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    gyre_loop_unref(loop);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* ---- P06: from a signal handler ---- */

static struct gyre_loop *signalled;
static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    int saved = errno;

    (void)number;
    signals++;
    gyre_loop_wake(signalled);
    errno = saved;
}

static uint64_t wakes_of(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats.wakes;
}

/* P06 */
static void wake_from_signal_handler_ends_sleep(void)
{
    const struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval timer = {.it_value = {.tv_usec = 2000}};
    struct sigaction before;
    int i;

    signalled = test_loop();
    gyre_loop_ref(signalled);
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    for (i = 1; i <= 10; i++) {
        assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
        while (wakes_of(signalled) < (uint64_t)i) {
            assert_int_equal(gyre_loop_run(signalled, GYRE_RUN_ONCE), 1);
        }
        assert_int_equal(signals, i);
    }
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
    gyre_loop_unref(signalled);
    test_loop_end(signalled);
}

/* ---- P07: a full queue ---- */

/* P07 */
static void post_to_full_queue_is_refused_and_nothing_lost(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;
    int accepted = 0;
    int count = 0;
    int rc = 0;

    options.post_capacity = 16;
    loop = test_loop_with(&options);
    while (rc == 0) {
        rc = gyre_loop_post(loop, on_count, &count);
        accepted += rc == 0;
        assert_true(accepted <= 16);
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_int_equal(accepted, 16);
    assert_int_equal(gyre_loop_alive(loop), 16);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, 16);
    assert_int_equal(gyre_loop_post(loop, on_count, &count), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(count, 17);
    test_loop_end(loop);
}

/* ---- L11: two loops, two threads ---- */

struct partner {
    struct gyre_loop *loop;
    pthread_t thread;
    pthread_barrier_t *together;
    int balls; /* that came in */
    int ended; /* of the two balls */
    int failed;
};

struct ball {
    struct partner *partners;
    int side; /* the partner it is posted to */
    int hops; /* left */
};

static void on_ball_end(struct gyre_loop *loop, void *data)
{
    struct partner *partner = data;

    partner->failed += loop != partner->loop;
    if (++partner->ended == 2) {
        gyre_loop_unref(loop);
    }
}

static void on_ball(struct gyre_loop *loop, void *data)
{
    struct ball *ball = data;
    struct partner *partners = ball->partners;
    struct partner *here = &partners[ball->side];

    here->failed += loop != here->loop;
    here->balls++;
    if (--ball->hops > 0) {
        ball->side = 1 - ball->side;
        here->failed += gyre_loop_post(partners[ball->side].loop, on_ball, ball) != 0;
        return;
    }
    here->failed += gyre_loop_post(partners[0].loop, on_ball_end, &partners[0]) != 0;
    here->failed += gyre_loop_post(partners[1].loop, on_ball_end, &partners[1]) != 0;
}

/* A thread with a loop of its own. The second barrier keeps each loop until the other's posts to it
 * have returned. */
static void *run_partner(void *data)
{
    const struct gyre_loop_options options = test_options();
    struct partner *partner = data;

    partner->failed += gyre_loop_create(&partner->loop, &options) != 0;
    pthread_barrier_wait(partner->together);
    if (partner->loop != NULL) {
        gyre_loop_ref(partner->loop);
        pthread_barrier_wait(partner->together);
        partner->failed += gyre_loop_run(partner->loop, GYRE_RUN_DEFAULT) != 0;
    }
    pthread_barrier_wait(partner->together);
    partner->failed += gyre_loop_destroy(partner->loop) != 0;
    return NULL;
}

/* L11: two balls between the loops of two threads; a third thread throws them in. */
static void two_loops_post_to_each_other(void)
{
    enum { HOPS = 10000 };
    struct partner partners[2] = {{0}, {0}};
    struct ball balls[2] = {{partners, 0, HOPS}, {partners, 1, HOPS}};
    pthread_barrier_t together;
    int i;

    assert_int_equal(pthread_barrier_init(&together, NULL, 3), 0);
    for (i = 0; i < 2; i++) {
        partners[i].together = &together;
        assert_int_equal(pthread_create(&partners[i].thread, NULL, run_partner, &partners[i]), 0);
    }
    pthread_barrier_wait(&together);
    assert_true(partners[0].loop != NULL && partners[1].loop != NULL);
    for (i = 0; i < 2; i++) {
        assert_int_equal(gyre_loop_post(partners[i].loop, on_ball, &balls[i]), 0);
    }
    pthread_barrier_wait(&together);
    pthread_barrier_wait(&together);
    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(partners[i].thread, NULL), 0);
        assert_int_equal(partners[i].failed, 0);
        assert_int_equal(partners[i].balls, HOPS);
    }
    pthread_barrier_destroy(&together);
}

static const struct test_case cases[] = {
    {"posts_of_many_threads_arrive_once_and_in_order",
     posts_of_many_threads_arrive_once_and_in_order, 30},
    {"posts_through_small_queue_arrive_once_and_in_order",
     posts_through_small_queue_arrive_once_and_in_order, 0},
    {"post_as_loop_falls_asleep_is_not_slept_past", post_as_loop_falls_asleep_is_not_slept_past,
     30},
    {"post_while_loop_busy_polls_is_not_slept_past", post_while_loop_busy_polls_is_not_slept_past,
     30},
    {"wake_as_loop_falls_asleep_is_not_slept_past", wake_as_loop_falls_asleep_is_not_slept_past,
     30},
    {"post_against_close_runs_or_is_refused", post_against_close_runs_or_is_refused, 30},
    {"post_after_close_is_refused_and_earlier_ones_run",
     post_after_close_is_refused_and_earlier_ones_run, 0},
    {"posts_while_awake_cost_no_wakeups", posts_while_awake_cost_no_wakeups, 0},
    {"post_before_run_is_not_lost", post_before_run_is_not_lost, 0},
    {"wake_before_run_is_not_lost", wake_before_run_is_not_lost, 0},
    {"wake_from_signal_handler_ends_sleep", wake_from_signal_handler_ends_sleep, 0},
    {"post_to_full_queue_is_refused_and_nothing_lost",
     post_to_full_queue_is_refused_and_nothing_lost, 0},
    {"two_loops_post_to_each_other", two_loops_post_to_each_other, 30},
};

int main(void)
{
    return test_main("post", cases, TEST_COUNT(cases));
}
