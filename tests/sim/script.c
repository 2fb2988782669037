/* What a script does to the network and to programs, and what these see of it. */
#include "rig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

/* ---- links ---- */

static void call_over(const struct gyre_sim_link *link, struct caller *caller)
{
    struct echo echo = {0};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_link(rig.server, rig.client, link), 0);
    rig_call(&rig, &echo, caller);
    assert_int_equal(caller->error, 0);
    assert_int_equal(caller->received, caller->len);
    rig_end(&rig);
}

static void link_takes_its_latency_each_way(void)
{
    static const uint64_t latencies[] = {1, GYRE_MSEC, 40 * GYRE_MSEC};

    for (size_t i = 0; i < TEST_COUNT(latencies); i++) {
        const struct gyre_sim_link link = {.latency_ns = latencies[i]};
        struct caller caller = {.len = 1};

        call_over(&link, &caller);
        assert_true(caller.opened_ns - caller.began_ns >= 2 * latencies[i]);
        assert_true(caller.opened_ns - caller.began_ns <= 2 * latencies[i] + GYRE_MSEC);
        assert_true(caller.first_ns - caller.opened_ns >= 2 * latencies[i]);
        assert_true(caller.first_ns - caller.opened_ns <= 2 * latencies[i] + GYRE_MSEC);
    }
}

static void link_without_a_latency_has_that_of_a_local_network(void)
{
    struct caller caller = {.len = 1};

    call_over(&(struct gyre_sim_link){0}, &caller);
    assert_true(caller.opened_ns - caller.began_ns >= 200 * GYRE_USEC);
    assert_true(caller.opened_ns - caller.began_ns <= 400 * GYRE_USEC);
}

static void call_within_a_host_is_quick(void)
{
    struct caller caller = {.len = 1, .to = "127.0.0.1:7000", .delay_ns = GYRE_MSEC};
    struct echo echo = {.connections = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    caller.rig = &rig;
    rig_spawn(rig.server, echo_main, &echo, 0);
    rig_spawn(rig.server, caller_main, &caller, 0);
    rig_run(&rig);
    assert_int_equal(caller.received, 1);
    assert_true(caller.opened_ns - caller.began_ns < 100 * GYRE_USEC);
    rig_end(&rig);
}

static void jitter_adds_up_to_what_it_may(void)
{
    const struct gyre_sim_link link = {.latency_ns = GYRE_MSEC, .jitter_ns = 20 * GYRE_MSEC};
    uint64_t least = UINT64_MAX;
    uint64_t most = 0;

    for (uint64_t seed = 0; seed < 40; seed++) {
        struct caller caller = {.len = 1};
        struct echo echo = {0};
        uint64_t span;
        struct rig rig;

        rig_begin(&rig, &(struct gyre_sim_options){.seed = seed, .faults_off = 1});
        assert_int_equal(gyre_sim_link(rig.server, rig.client, &link), 0);
        rig_call(&rig, &echo, &caller);
        span = caller.opened_ns - caller.began_ns;
        least = span < least ? span : least;
        most = span > most ? span : most;
        rig_end(&rig);
    }
    assert_true(least >= 2 * GYRE_MSEC && most <= 43 * GYRE_MSEC);
    assert_true(least < 15 * GYRE_MSEC && most > 25 * GYRE_MSEC);
}

static void rate_of_a_link_is_kept(void)
{
    const struct gyre_sim_link link = {.latency_ns = GYRE_MSEC, .bytes_per_second = 1000000};
    struct caller caller = {.len = 2000000};

    call_over(&link, &caller);
    assert_true(caller.last_ns - caller.opened_ns >= 2 * GYRE_SEC);
    assert_true(caller.last_ns - caller.opened_ns <= 3 * GYRE_SEC);
}

static void peer_that_does_not_read_closes_the_window(void)
{
    struct caller caller = {.len = 4 << 20};
    struct echo echo = {.reads_late = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    rig_call(&rig, &echo, &caller);
    assert_int_equal(caller.received, 4 << 20);
    assert_true(caller.first_ns >= GYRE_SEC);
    assert_true(gyre_sim_seen(rig.sim, GYRE_SIM_PATH_WINDOW_CLOSED) > 0);
    rig_end(&rig);
}

/* ---- partitions and resets ---- */

static void part(void *context)
{
    const struct rig *rig = context;

    gyre_sim_partition(rig->server, rig->client, 1);
}

static void join(void *context)
{
    const struct rig *rig = context;

    gyre_sim_partition(rig->server, rig->client, 0);
}

static void partition_that_heals_only_takes_time(void)
{
    struct caller caller = {.len = 100000, .quiet_ns = 200 * GYRE_MSEC};
    struct echo echo = {0};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_at(rig.sim, 100 * GYRE_MSEC, part, &rig), 0);
    assert_int_equal(gyre_sim_at(rig.sim, 4 * GYRE_SEC, join, &rig), 0);
    rig_call(&rig, &echo, &caller);
    assert_int_equal(caller.error, 0);
    assert_int_equal(caller.received, 100000);
    assert_true(caller.opened_ns < 100 * GYRE_MSEC && caller.first_ns >= 4 * GYRE_SEC);
    rig_end(&rig);
}

static void partition_that_stays_times_the_sender_out(void)
{
    struct caller caller = {.len = 1000, .quiet_ns = 200 * GYRE_MSEC};
    struct echo echo = {.connections = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    caller.rig = &rig;
    caller.delay_ns = 10 * GYRE_MSEC;
    assert_int_equal(gyre_sim_at(rig.sim, 100 * GYRE_MSEC, part, &rig), 0);
    assert_int_equal(gyre_sim_at(rig.sim, 40 * GYRE_SEC, join, &rig), 0);
    rig_spawn(rig.client, caller_main, &caller, 0);
    /* It has nothing to send, so it would never know. */
    (void)rig_spawn(rig.server, echo_main, &echo, GYRE_SIM_DAEMON);
    rig_run(&rig);
    assert_int_equal(caller.error, -ETIMEDOUT);
    assert_int_equal(caller.received, 0);
    assert_true(caller.closed_ns >= 5 * GYRE_SEC && caller.closed_ns <= 40 * GYRE_SEC);
    rig_end(&rig);
}

static int time_out(void *argument)
{
    (void)argument;
    partition_that_stays_times_the_sender_out();
    return 0;
}

/* In a child: the server is left where it stands. */
static void partition_for_good_times_the_sender_out(void)
{
    test_child_passes(time_out, NULL);
}

static void connecting_across_a_partition_times_out(void)
{
    struct caller caller = {.len = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    caller.rig = &rig;
    part(&rig);
    rig_spawn(rig.client, caller_main, &caller, 0);
    rig_run(&rig);
    assert_int_equal(caller.error, -ETIMEDOUT);
    assert_int_equal(caller.opened_ns, 0);
    rig_end(&rig);
}

static void connecting_where_nobody_listens_is_refused(void)
{
    struct caller caller = {.len = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    caller.rig = &rig;
    rig_spawn(rig.client, caller_main, &caller, 0);
    rig_run(&rig);
    assert_int_equal(caller.error, -ECONNREFUSED);
    rig_end(&rig);
}

struct breaker {
    struct rig *rig;
    unsigned port;
    int count;
};

static void break_connections(void *context)
{
    struct breaker *breaker = context;

    breaker->count = gyre_sim_reset(breaker->rig->server, breaker->port);
}

static void reset_is_seen_by_both_ends(void)
{
    struct caller caller = {.len = 1, .quiet_ns = GYRE_SEC};
    struct breaker other = {.port = 7001};
    struct breaker breaker = {.port = RIG_PORT};
    struct breaker again = {.port = 0};
    struct echo echo = {0};
    struct rig rig;

    rig_begin(&rig, NULL);
    other.rig = breaker.rig = again.rig = &rig;
    assert_int_equal(gyre_sim_at(rig.sim, 100 * GYRE_MSEC, break_connections, &other), 0);
    assert_int_equal(gyre_sim_at(rig.sim, 200 * GYRE_MSEC, break_connections, &breaker), 0);
    assert_int_equal(gyre_sim_at(rig.sim, 201 * GYRE_MSEC, break_connections, &again), 0);
    rig_call(&rig, &echo, &caller);
    assert_int_equal(other.count, 0);
    assert_int_equal(breaker.count, 1);
    assert_int_equal(caller.error, -ECONNRESET);
    assert_int_equal(echo.error, -ECONNRESET);
    assert_true(caller.closed_ns >= 200 * GYRE_MSEC && caller.closed_ns < 210 * GYRE_MSEC);
    rig_end(&rig);
}

/* ---- faults by script ---- */

static void third_connect_alone_fails(void)
{
    struct caller caller[4];
    struct echo echo = {.connections = 3};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_fail_nth(rig.sim, GYRE_SIM_FAULT_CONNECT_TIMEOUT, 3, 1), 0);
    rig_spawn(rig.server, echo_main, &echo, 0);
    for (uint64_t i = 0; i < TEST_COUNT(caller); i++) {
        caller[i] = (struct caller){.rig = &rig, .len = 1, .delay_ns = (i + 1) * 100 * GYRE_MSEC};
        rig_spawn(rig.client, caller_main, &caller[i], 0);
    }
    rig_run(&rig);
    for (int i = 0; i < 4; i++) {
        const int error = caller[i].start_error < 0 ? caller[i].start_error : caller[i].error;

        assert_int_equal(error, i == 2 ? -ETIMEDOUT : 0);
    }
    assert_int_equal(gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_CONNECT_TIMEOUT), 1);
    rig_end(&rig);
}

static void fault_can_strike_several_times_in_a_row(void)
{
    struct caller caller[4];
    struct echo echo = {.connections = 1};
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_fail_nth(rig.sim, GYRE_SIM_FAULT_CONNECT_REFUSED, 1, 3), 0);
    rig_spawn(rig.server, echo_main, &echo, 0);
    for (uint64_t i = 0; i < TEST_COUNT(caller); i++) {
        caller[i] = (struct caller){.rig = &rig, .len = 1, .delay_ns = (i + 1) * 100 * GYRE_MSEC};
        rig_spawn(rig.client, caller_main, &caller[i], 0);
    }
    rig_run(&rig);
    for (int i = 0; i < 4; i++) {
        const int error = caller[i].start_error < 0 ? caller[i].start_error : caller[i].error;

        assert_int_equal(error, i < 3 ? -ECONNREFUSED : 0);
    }
    assert_int_equal(gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_CONNECT_REFUSED), 3);
    rig_end(&rig);
}

static void rate_of_all_strikes_each_time_and_of_none_never(void)
{
    struct caller caller = {.len = 50000};
    struct echo echo = {0};
    uint64_t count;
    struct rig rig;

    rig_begin(&rig, NULL);
    assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_SEND_SHORT, 1000000), 0);
    rig_call(&rig, &echo, &caller);
    assert_int_equal(caller.received, 50000);
    assert_int_equal(caller.error, 0);
    count = gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_SEND_SHORT);
    assert_true(count >= 10);
    assert_int_equal(gyre_sim_rate(rig.sim, GYRE_SIM_FAULT_SEND_SHORT, 0), 0);
    caller = (struct caller){.len = 50000};
    echo = (struct echo){0};
    rig_call(&rig, &echo, &caller);
    assert_int_equal(caller.received, 50000);
    assert_int_equal(gyre_sim_struck(rig.sim, GYRE_SIM_FAULT_SEND_SHORT), count);
    rig_end(&rig);
}

/* ---- programs ---- */

struct opener {
    unsigned count;
    int error;
};

/* Opens streams until one is refused. */
static int opener_main(void *context)
{
    static const struct gyre_stream_handler handler = {0};
    static struct gyre_stream stream[64];
    struct opener *opener = context;
    struct gyre_loop *loop;
    struct gyre_addr to;
    int rc = 0;

    if (gyre_loop_create(&loop, NULL) < 0 || gyre_addr_parse("10.0.0.1:1", &to) < 0) {
        return 1;
    }
    while (rc == 0 && opener->count < 64) {
        rc = gyre_stream_connect(&stream[opener->count], loop, &to, &handler);
        opener->count += rc == 0;
    }
    opener->error = rc;
    return gyre_loop_run(loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(loop) < 0;
}

static void descriptors_run_out_at_the_limit(void)
{
    struct opener opener = {0};
    struct gyre_sim_process *process;
    struct rig rig;

    rig_begin(&rig, NULL);
    process = rig_spawn(rig.client, opener_main, &opener, 0);
    assert_int_equal(gyre_sim_limit_fds(process, 20), 0);
    rig_run(&rig);
    assert_int_equal(opener.error, -EMFILE);
    assert_true(opener.count >= 10 && opener.count < 17);
    assert_true(gyre_sim_seen(rig.sim, GYRE_SIM_PATH_FDS_EXHAUSTED) > 0);
    rig_end(&rig);
}

struct watch {
    struct gyre_signal watcher;
    int number;
};

static void on_signal(struct gyre_signal *watcher, const struct signalfd_siginfo *info)
{
    struct watch *watch = gyre_container_of(watcher, struct watch, watcher);

    watch->number = (int)info->ssi_signo;
    gyre_signal_close(watcher, NULL);
}

static int watch_main(void *context)
{
    struct watch *watch = context;
    struct gyre_loop *loop;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    return gyre_loop_create(&loop, NULL) < 0 || gyre_signal_block(&set) < 0 ||
           gyre_signal_start(&watch->watcher, loop, &set, on_signal) < 0 ||
           gyre_loop_run(loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(loop) < 0;
}

static int nap_main(void *context)
{
    (void)context;
    gyre_sim_sleep(10 * GYRE_SEC);
    return 0;
}

struct sender {
    struct gyre_sim_process *to;
    int number;
    int rc;
};

static void send_signal(void *context)
{
    struct sender *sender = context;

    sender->rc = gyre_sim_signal(sender->to, sender->number);
}

static void signal_that_is_watched_is_told_and_one_that_is_not_ends_the_program(void)
{
    struct watch watch = {.number = 0};
    struct sender sender[2] = {{.number = SIGTERM}, {.number = SIGTERM}};
    int status = 0;
    struct rig rig;

    rig_begin(&rig, NULL);
    sender[0].to = rig_spawn(rig.server, watch_main, &watch, 0);
    sender[1].to = rig_spawn(rig.client, nap_main, NULL, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(gyre_sim_at(rig.sim, GYRE_SEC, send_signal, &sender[i]), 0);
    }
    rig_run(&rig); /* a script that ends a program is no failure */
    assert_int_equal(sender[0].rc, 0);
    assert_int_equal(sender[1].rc, 0);
    assert_int_equal(watch.number, SIGTERM);
    assert_int_equal(gyre_sim_ended(sender[0].to, &status), 1);
    assert_int_equal(status, 0);
    assert_int_equal(gyre_sim_ended(sender[1].to, &status), 1);
    assert_int_equal(status, 128 + SIGTERM);
    assert_true(gyre_sim_now(rig.sim) < 2 * GYRE_SEC);
    rig_end(&rig);
}

struct killer {
    struct gyre_sim_process *process;
    int rc;
};

static void kill_it(void *context)
{
    struct killer *killer = context;

    killer->rc = gyre_sim_kill(killer->process);
}

static int kill_a_server(void *argument)
{
    struct caller caller = {.len = 1, .quiet_ns = GYRE_SEC, .delay_ns = 10 * GYRE_MSEC};
    struct killer killer = {0};
    struct echo echo = {.connections = 1};
    int status = 0;
    struct rig rig;

    (void)argument;
    rig_begin(&rig, NULL);
    caller.rig = &rig;
    killer.process = rig_spawn(rig.server, echo_main, &echo, 0);
    rig_spawn(rig.client, caller_main, &caller, 0);
    assert_int_equal(gyre_sim_at(rig.sim, 100 * GYRE_MSEC, kill_it, &killer), 0);
    rig_run(&rig);
    assert_int_equal(killer.rc, 0);
    assert_int_equal(gyre_sim_ended(killer.process, &status), 1);
    assert_int_equal(status, 128 + SIGKILL);
    assert_int_equal(echo.closed, 0); /* it had no time for anything */
    assert_int_equal(caller.error, 0);
    assert_int_equal(caller.received, 0); /* the peer has only seen the end */
    assert_true(caller.closed_ns >= 100 * GYRE_MSEC && caller.closed_ns < 200 * GYRE_MSEC);
    rig_end(&rig);
    return 0;
}

/* In a child: its memory is lost. */
static void killed_program_closes_nothing_but_its_kernel_does(void)
{
    test_child_passes(kill_a_server, NULL);
}

static const struct test_case cases[] = {
    TEST_CASE(link_takes_its_latency_each_way),
    TEST_CASE(link_without_a_latency_has_that_of_a_local_network),
    TEST_CASE(call_within_a_host_is_quick),
    TEST_CASE(jitter_adds_up_to_what_it_may),
    TEST_CASE(rate_of_a_link_is_kept),
    TEST_CASE(peer_that_does_not_read_closes_the_window),
    TEST_CASE(partition_that_heals_only_takes_time),
    TEST_CASE(partition_for_good_times_the_sender_out),
    TEST_CASE(connecting_across_a_partition_times_out),
    TEST_CASE(connecting_where_nobody_listens_is_refused),
    TEST_CASE(reset_is_seen_by_both_ends),
    TEST_CASE(third_connect_alone_fails),
    TEST_CASE(fault_can_strike_several_times_in_a_row),
    TEST_CASE(rate_of_all_strikes_each_time_and_of_none_never),
    TEST_CASE(descriptors_run_out_at_the_limit),
    TEST_CASE(signal_that_is_watched_is_told_and_one_that_is_not_ends_the_program),
    TEST_CASE(killed_program_closes_nothing_but_its_kernel_does),
};

int main(void)
{
    return test_main("sim-script", cases, TEST_COUNT(cases));
}
