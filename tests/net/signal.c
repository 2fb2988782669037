/*
 * Signals as callbacks. Catalogue S01..S06, S08. Each case blocks what it watches; it is a process
 * of its own, so that no other case is concerned.
 */
#include "../core/traffic.h"
#include "trial.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ORDERED = 100 }; /* real-time signals in a row: several turns' worth */

struct watch {
    struct gyre_signal signal;
    struct gyre_loop *loop;
    pthread_t thread;
    int hits;
    int number; /* of the last one */
    int value;  /* sent with the last one */
    int disorder;
    int pid;      /* its sender */
    int close_at; /* hits after which the callback closes; 0: never */
    int closed;
    int elsewhere; /* callbacks on another thread than the case's */
};

static void on_closed(struct gyre_signal *signal)
{
    struct watch *watch = gyre_container_of(signal, struct watch, signal);

    watch->elsewhere += !pthread_equal(pthread_self(), watch->thread);
    watch->closed++;
}

static void on_signal(struct gyre_signal *signal, const struct signalfd_siginfo *info)
{
    struct watch *watch = gyre_container_of(signal, struct watch, signal);

    watch->elsewhere += !pthread_equal(pthread_self(), watch->thread);
    watch->disorder += watch->closed != 0 || info->ssi_int < watch->value;
    watch->hits++;
    watch->number = (int)info->ssi_signo;
    watch->value = info->ssi_int;
    watch->pid = (int)info->ssi_pid;
    if (watch->hits == watch->close_at) {
        assert_int_equal(gyre_signal_close(signal, on_closed), 0);
        assert_int_equal(watch->closed, 0);
    }
}

static sigset_t set_of(int number)
{
    sigset_t set;

    sigemptyset(&set);
    if (number != 0) {
        sigaddset(&set, number);
    }
    return set;
}

static void watch_open(struct watch *watch, struct gyre_loop *loop, int number)
{
    const sigset_t set = set_of(number);

    *watch = (struct watch){.loop = loop, .thread = pthread_self()};
    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(gyre_signal_start(&watch->signal, loop, &set, on_signal), 0);
}

/* Also for a watcher that its callback has closed. */
static void watch_close(struct watch *watch)
{
    if (watch->close_at == 0 || watch->hits < watch->close_at) {
        assert_int_equal(gyre_signal_close(&watch->signal, on_closed), 0);
    }
    test_turns_until(watch->loop, &watch->closed);
    assert_int_equal(watch->closed, 1);
    assert_int_equal(watch->disorder, 0);
    assert_int_equal(watch->elsewhere, 0);
}

static void send_ordered(int count)
{
    int i;

    for (i = 1; i <= count; i++) {
        assert_int_equal(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}), 0);
    }
}

static int is_pending(int number)
{
    sigset_t pending;

    assert_int_equal(sigpending(&pending), 0);
    return sigismember(&pending, number);
}

/* ---- arriving ---- */

/* S01, S08: while the loop sleeps, by another process. */
static void signal_to_the_process_arrives_on_the_loops_thread(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;
    pid_t pid;

    watch_open(&watch, loop, SIGUSR1);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(kill(getppid(), SIGUSR1) != 0);
    }
    test_turns_until(loop, &watch.hits);
    assert_int_equal(watch.number, SIGUSR1);
    assert_int_equal(watch.pid, pid);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until_count(loop, &watch.hits, 2);
    watch_close(&watch);
    test_loop_end(loop);
}

/* Only a read by the thread itself finds it. */
static void signal_to_the_loops_thread_arrives(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    trial_turns(loop, 2);
    assert_int_equal(pthread_kill(pthread_self(), SIGUSR1), 0);
    test_turns_until(loop, &watch.hits);
    trial_turns(loop, 3);
    assert_int_equal(watch.hits, 1);
    watch_close(&watch);
    test_loop_end(loop);
}

static void signal_pending_at_start_arrives(void)
{
    const sigset_t set = set_of(SIGTERM);
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    watch_open(&watch, loop, SIGTERM);
    assert_int_equal(watch.hits, 0);
    test_turns_until(loop, &watch.hits);
    assert_int_equal(watch.number, SIGTERM);
    watch_close(&watch);
    test_loop_end(loop);
}

static void standard_signals_sent_many_times_arrive_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;
    int i;

    watch_open(&watch, loop, SIGUSR1);
    for (i = 0; i < 100; i++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
    }
    trial_turns(loop, 4);
    assert_int_equal(watch.hits, 1);
    watch_close(&watch);
    test_loop_end(loop);
}

static void real_time_signals_arrive_each_and_in_order_some_a_turn(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;
    int before = 0;

    watch_open(&watch, loop, SIGRTMIN);
    send_ordered(ORDERED);
    while (watch.hits < ORDERED) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        assert_true(watch.hits - before <= 16);
        before = watch.hits;
    }
    assert_int_equal(watch.value, ORDERED);
    trial_turns(loop, 3);
    assert_int_equal(watch.hits, ORDERED);
    watch_close(&watch);
    test_loop_end(loop);
}

static void on_storm_over(struct gyre_loop *loop, void *data)
{
    int *over = data;

    (void)loop;
    *over = 1;
}

struct storm {
    struct gyre_loop *loop;
    int over;
    int failed;
};

static void *blow(void *data)
{
    struct storm *storm = data;
    int i;

    for (i = 0; i < 100000; i++) {
        storm->failed += kill(getpid(), SIGUSR1) != 0;
    }
    storm->failed += gyre_loop_post(storm->loop, on_storm_over, &storm->over) != 0;
    return NULL;
}

/* S02 */
static void storm_of_signals_does_not_stall_the_loop(void)
{
    struct storm storm = {.loop = test_loop()};
    struct traffic traffic;
    struct watch watch;
    pthread_t thread;
    int before;

    watch_open(&watch, storm.loop, SIGUSR1);
    traffic_start(&traffic, storm.loop, 500);
    assert_int_equal(pthread_create(&thread, NULL, blow, &storm), 0);
    test_turns_until(storm.loop, &storm.over);
    test_turns_until(storm.loop, &traffic.done);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(storm.failed, 0);
    assert_true(watch.hits >= 1 && watch.hits <= 100000);
    trial_turns(storm.loop, 3);
    before = watch.hits;
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    test_turns_until_count(storm.loop, &watch.hits, before + 1);
    traffic_close(&traffic);
    watch_close(&watch);
    test_loop_end(storm.loop);
}

static void waiting_for_signals_does_not_spin(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until(loop, &watch.hits);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    watch_close(&watch);
    test_loop_end(loop);
}

/* As when it has no memory for it: the watcher asks again after a while. */
static void watcher_whose_poll_was_ended_goes_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    trial_turns(loop, 1);
    assert_int_equal(gyre_op_cancel(&watch.signal.poll), 0);
    while (gyre_op_active(&watch.signal.poll)) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until(loop, &watch.hits);
    assert_true(gyre_op_active(&watch.signal.poll));
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until_count(loop, &watch.hits, 2);
    watch_close(&watch);
    test_loop_end(loop);
}

/* ---- several watchers ---- */

/* S01: signalfd(2) gives a signal to one reader. */
static void signal_watched_by_two_loops_reaches_one_of_them(void)
{
    struct gyre_loop *loops[2] = {test_loop(), test_loop()};
    struct watch watches[2];
    int round;
    int i;

    for (i = 0; i < 2; i++) {
        watch_open(&watches[i], loops[i], SIGUSR1);
        trial_turns(loops[i], 2);
    }
    for (round = 1; round <= 20; round++) {
        assert_int_equal(kill(getpid(), SIGUSR1), 0);
        for (i = 0; i < 2; i++) {
            trial_turns(loops[(i + round) % 2], 3);
        }
        assert_int_equal(watches[0].hits + watches[1].hits, round);
    }
    assert_true(watches[0].hits > 0 && watches[1].hits > 0);
    for (i = 0; i < 2; i++) {
        watch_close(&watches[i]);
        test_loop_end(loops[i]);
    }
}

static void watchers_of_different_signals_get_their_own(void)
{
    struct gyre_loop *loops[2] = {test_loop(), test_loop()};
    const int numbers[3] = {SIGUSR1, SIGUSR2, SIGHUP};
    struct watch watches[3];
    int i;

    for (i = 0; i < 3; i++) {
        watch_open(&watches[i], loops[i / 2], numbers[i]);
    }
    for (i = 0; i < 3; i++) {
        assert_int_equal(kill(getpid(), numbers[i]), 0);
    }
    for (i = 0; i < 3; i++) {
        test_turns_until(loops[i / 2], &watches[i].hits);
        assert_int_equal(watches[i].number, numbers[i]);
    }
    for (i = 0; i < 3; i++) {
        assert_int_equal(watches[i].hits, 1);
        watch_close(&watches[i]);
    }
    test_loop_end(loops[0]);
    test_loop_end(loops[1]);
}

/* Asserts nothing: it is not the case's own thread. */
static void *serve_signal(void *data)
{
    const struct gyre_loop_options options = test_options();
    const sigset_t set = set_of(SIGUSR2);
    struct watch watch = {.thread = pthread_self(), .close_at = 1};
    struct gyre_loop *loop = NULL;
    intptr_t failed = 0;

    failed += gyre_loop_create(&loop, &options) != 0;
    failed += gyre_signal_start(&watch.signal, loop, &set, on_signal) != 0;
    pthread_barrier_wait(data);
    failed += gyre_loop_run(loop, GYRE_RUN_DEFAULT) != 0;
    failed += watch.hits != 1 || watch.closed != 1 || watch.elsewhere != 0;
    failed += gyre_loop_destroy(loop) != 0;
    return (void *)failed;
}

static void signal_to_the_process_reaches_the_loop_of_another_thread(void)
{
    const sigset_t set = set_of(SIGUSR2);
    pthread_barrier_t ready;
    pthread_t thread;
    void *failed = NULL;

    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(pthread_barrier_init(&ready, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve_signal, &ready), 0);
    pthread_barrier_wait(&ready);
    assert_int_equal(kill(getpid(), SIGUSR2), 0);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    pthread_barrier_destroy(&ready);
}

/* ---- closing ---- */

/* S03 */
static void close_with_a_signal_pending_leaves_it_to_the_next_watcher(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch first;
    struct watch second;

    watch_open(&first, loop, SIGUSR1);
    trial_turns(loop, 2);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    watch_close(&first);
    assert_int_equal(first.hits, 0);
    assert_true(is_pending(SIGUSR1));
    watch_open(&second, loop, SIGUSR1);
    test_turns_until(loop, &second.hits);
    assert_false(is_pending(SIGUSR1));
    watch_close(&second);
    test_loop_end(loop);
}

/* Whether the callback closes before or at the end of a turn's share. */
static void close_in_the_callback_loses_no_signal(void)
{
    static const int when[] = {1, 7, 16, 17};
    struct gyre_loop *loop = test_loop();
    size_t i;

    for (i = 0; i < TEST_COUNT(when); i++) {
        struct watch first;
        struct watch second;

        watch_open(&first, loop, SIGRTMIN);
        first.close_at = when[i];
        send_ordered(ORDERED);
        test_turns_until(loop, &first.hits);
        test_turns_until(loop, &first.closed);
        watch_close(&first);
        assert_int_equal(first.hits, when[i]);
        watch_open(&second, loop, SIGRTMIN);
        test_turns_until_count(loop, &second.hits, ORDERED - when[i]);
        assert_int_equal(second.value, ORDERED);
        watch_close(&second);
    }
    test_loop_end(loop);
}

/* In the middle of a row: the next turn's share is not handed over. */
static void close_between_turns_loses_no_signal(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch first;
    struct watch second;
    int seen;

    watch_open(&first, loop, SIGRTMIN);
    send_ordered(ORDERED);
    test_turns_until(loop, &first.hits);
    seen = first.hits;
    assert_true(seen < ORDERED);
    watch_close(&first);
    trial_turns(loop, 2);
    assert_int_equal(first.hits, seen);
    watch_open(&second, loop, SIGRTMIN);
    test_turns_until_count(loop, &second.hits, ORDERED - seen);
    watch_close(&second);
    test_loop_end(loop);
}

static int freed;

static void on_closed_free(struct gyre_signal *signal)
{
    free(gyre_container_of(signal, struct watch, signal));
    freed++;
}

static void on_signal_close(struct gyre_signal *signal, const struct signalfd_siginfo *info)
{
    (void)info;
    assert_int_equal(gyre_signal_close(signal, on_closed_free), 0);
}

/* S06 */
static void watcher_may_be_freed_in_its_close_callback(void)
{
    const sigset_t set = set_of(SIGUSR1);
    struct gyre_loop *loop = test_loop();
    struct watch *watch = malloc(sizeof(*watch));

    assert_non_null(watch);
    freed = 0;
    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(gyre_signal_start(&watch->signal, loop, &set, on_signal_close), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(freed, 1);
    test_loop_end(loop);
}

static void on_closed_reopen(struct gyre_signal *signal)
{
    const sigset_t set = set_of(SIGUSR1);
    struct watch *watch = gyre_container_of(signal, struct watch, signal);

    assert_int_equal(gyre_signal_close(signal, NULL), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch->loop, &set, on_signal), 0);
    watch->closed++;
}

static void watcher_may_be_started_again_in_its_close_callback(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    assert_int_equal(gyre_signal_close(&watch.signal, on_closed_reopen), 0);
    test_turns_until(loop, &watch.closed);
    watch.closed = 0;
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until(loop, &watch.hits);
    watch_close(&watch);
    test_loop_end(loop);
}

static void close_without_callback_and_close_twice(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    assert_int_equal(gyre_signal_close(&watch.signal, NULL), 0);
    assert_int_equal(gyre_signal_close(&watch.signal, on_closed), GYRE_ECLOSING);
    assert_int_equal(gyre_signal_background(&watch.signal, 1), GYRE_ECLOSING);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(gyre_signal_close(&watch.signal, on_closed), -EINVAL);
    assert_int_equal(gyre_signal_background(&watch.signal, 1), -EINVAL);
    assert_int_equal(watch.closed, 0);
    test_loop_end(loop);
}

/* ---- the loop's life ---- */

static void watcher_keeps_the_loop_alive_unless_in_the_background(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(gyre_signal_background(&watch.signal, 1), 0);
    assert_int_equal(gyre_signal_background(&watch.signal, 2), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    traffic_check(loop, 5);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(gyre_signal_background(&watch.signal, 0), 0);
    assert_int_equal(gyre_loop_alive(loop), 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    assert_int_equal(gyre_signal_background(&watch.signal, 1), 0);
    watch_close(&watch);
    assert_int_equal(gyre_loop_alive(loop), 0);
    test_loop_end(loop);
}

static void background_watcher_gets_signals_while_the_loop_runs(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGRTMIN);
    assert_int_equal(gyre_signal_background(&watch.signal, 1), 0);
    send_ordered(ORDERED);
    gyre_loop_ref(loop);
    test_turns_until(loop, &watch.hits);
    assert_true(watch.hits < ORDERED);
    assert_int_equal(gyre_loop_alive(loop), 1); /* nor does what is left for the next turn */
    test_turns_until_count(loop, &watch.hits, ORDERED);
    gyre_loop_unref(loop);
    assert_int_equal(gyre_loop_alive(loop), 0);
    watch_close(&watch);
    test_loop_end(loop);
}

/* ---- refusals ---- */

static void *start_elsewhere(void *data)
{
    struct watch *watch = data;
    const sigset_t set = set_of(SIGUSR1);

    return (void *)(intptr_t)gyre_signal_start(&watch->signal, watch->loop, &set, on_signal);
}

static void start_with_bad_arguments_is_refused(void)
{
    struct watch watch = {.loop = test_loop()};
    const sigset_t empty = set_of(0);
    const sigset_t kill_set = set_of(SIGKILL);
    const sigset_t stop_set = set_of(SIGSTOP);
    const sigset_t set = set_of(SIGUSR1);
    struct gyre_signal *signal = &watch.signal;
    pthread_t thread;
    void *rc = NULL;

    assert_int_equal(gyre_signal_block(NULL), -EINVAL);
    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(gyre_signal_start(NULL, watch.loop, &set, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, NULL, &set, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch.loop, NULL, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch.loop, &set, NULL), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch.loop, &empty, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch.loop, &kill_set, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_start(signal, watch.loop, &stop_set, on_signal), -EINVAL);
    assert_int_equal(gyre_signal_background(NULL, 1), -EINVAL);
    assert_int_equal(gyre_signal_background(signal, 1), -EINVAL);
    assert_int_equal(gyre_signal_close(NULL, NULL), -EINVAL);
    assert_int_equal(gyre_signal_close(signal, NULL), -EINVAL);
    if (!test_is_simulated()) { /* where all threads are one to the library */
        assert_int_equal(pthread_create(&thread, NULL, start_elsewhere, &watch), 0);
        assert_int_equal(pthread_join(thread, &rc), 0);
        assert_int_equal((intptr_t)rc, GYRE_ETHREAD);
    }
    assert_int_equal(gyre_loop_alive(watch.loop), 0);
    test_loop_end(watch.loop);
}

static void start_with_a_signal_that_is_not_blocked_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_signal signal;
    sigset_t set = set_of(SIGUSR2);

    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    assert_int_equal(gyre_signal_start(&signal, loop, &set, on_signal), GYRE_EUNBLOCKED);
    set = set_of(SIGUSR1);
    assert_int_equal(gyre_signal_block(&set), 0);
    sigaddset(&set, SIGUSR2);
    assert_int_equal(gyre_signal_start(&signal, loop, &set, on_signal), GYRE_EUNBLOCKED);
    assert_int_equal(gyre_loop_alive(loop), 0);
    test_loop_end(loop);
}

static void start_without_descriptors_fails_and_leaves_nothing(void)
{
    const sigset_t set = set_of(SIGUSR1);
    struct gyre_loop *loop = test_loop();
    struct rlimit before;
    struct rlimit none;
    struct gyre_signal signal;

    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_int_equal(gyre_signal_start(&signal, loop, &set, on_signal), -EMFILE);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(gyre_loop_alive(loop), 0);
    test_loop_end(loop);
}

/* ---- what is not touched ---- */

/* S04 */
static void handlers_and_mask_are_left_alone(void)
{
    const sigset_t set = set_of(SIGUSR1);
    struct gyre_loop *loop = test_loop();
    struct watch watch;
    struct sigaction actions[2][65] = {0};
    sigset_t masks[2];
    int number;
    int i;

    assert_int_equal(gyre_signal_block(&set), 0);
    for (i = 0; i < 2; i++) {
        assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &masks[i]), 0);
        for (number = 1; number <= 64; number++) {
            sigaction(number, NULL, &actions[i][number]);
        }
        if (i == 0) {
            watch_open(&watch, loop, SIGUSR1);
            assert_int_equal(raise(SIGUSR1), 0);
            test_turns_until(loop, &watch.hits);
            watch_close(&watch);
        }
    }
    for (number = 1; number <= 64; number++) {
        assert_int_equal(sigismember(&masks[0], number), sigismember(&masks[1], number));
        assert_ptr_equal(actions[0][number].sa_handler, actions[1][number].sa_handler);
        assert_int_equal(actions[0][number].sa_flags, actions[1][number].sa_flags);
    }
    test_loop_end(loop);
}

/* S05 */
static void children_are_not_reaped(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;
    int status = 0;
    pid_t pid;

    watch_open(&watch, loop, SIGCHLD);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        _exit(7);
    }
    test_turns_until(loop, &watch.hits);
    assert_int_equal(watch.pid, pid);
    trial_turns(loop, 2);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    watch_close(&watch);
    test_loop_end(loop);
}

static int touch_in_child(void *data)
{
    const sigset_t set = set_of(SIGUSR1);
    struct watch *watch = data;
    struct gyre_signal other;
    int bad = 0;

    bad += gyre_signal_start(&other, watch->loop, &set, on_signal) != GYRE_EFORK;
    bad += gyre_signal_background(&watch->signal, 1) != GYRE_EFORK;
    bad += gyre_signal_close(&watch->signal, on_closed) != GYRE_EFORK;
    return bad;
}

static void forked_child_that_touches_a_watcher_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct watch watch;

    watch_open(&watch, loop, SIGUSR1);
    trial_turns(loop, 1);
    test_child_passes(touch_in_child, &watch);
    assert_int_equal(raise(SIGUSR1), 0);
    test_turns_until(loop, &watch.hits);
    watch_close(&watch);
    test_loop_end(loop);
}

static const struct test_case cases[] = {
    TEST_CASE(signal_to_the_process_arrives_on_the_loops_thread),
    TEST_CASE(signal_to_the_loops_thread_arrives),
    TEST_CASE(signal_pending_at_start_arrives),
    TEST_CASE(standard_signals_sent_many_times_arrive_once),
    TEST_CASE(real_time_signals_arrive_each_and_in_order_some_a_turn),
    TEST_CASE(storm_of_signals_does_not_stall_the_loop),
    TEST_CASE(waiting_for_signals_does_not_spin),
    TEST_CASE(watcher_whose_poll_was_ended_goes_on),
    TEST_CASE(signal_watched_by_two_loops_reaches_one_of_them),
    TEST_CASE(watchers_of_different_signals_get_their_own),
    TEST_CASE(signal_to_the_process_reaches_the_loop_of_another_thread),
    TEST_CASE(close_with_a_signal_pending_leaves_it_to_the_next_watcher),
    TEST_CASE(close_in_the_callback_loses_no_signal),
    TEST_CASE(close_between_turns_loses_no_signal),
    TEST_CASE(watcher_may_be_freed_in_its_close_callback),
    TEST_CASE(watcher_may_be_started_again_in_its_close_callback),
    TEST_CASE(close_without_callback_and_close_twice),
    TEST_CASE(watcher_keeps_the_loop_alive_unless_in_the_background),
    TEST_CASE(background_watcher_gets_signals_while_the_loop_runs),
    TEST_CASE(start_with_bad_arguments_is_refused),
    TEST_CASE(start_with_a_signal_that_is_not_blocked_is_refused),
    TEST_CASE(start_without_descriptors_fails_and_leaves_nothing),
    TEST_CASE(handlers_and_mask_are_left_alone),
    TEST_CASE(children_are_not_reaped),
    TEST_CASE(forked_child_that_touches_a_watcher_is_refused),
};

int main(void)
{
    return test_main("signal", cases, TEST_COUNT(cases));
}
