/* Times that run out: never early, extended by what extends them and by nothing else. How late they
 * are is never judged, with one exception that is said there. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SPAN (50 * GYRE_MSEC)

/* A thing that is done again and again meanwhile. */
struct ticker {
    struct gyre_timer timer;
    void (*fn)(struct ticker *ticker);
    struct call *call;
    uint64_t every_ns;
    int peer;
    int left; /* times */
    size_t bytes;
    size_t step;
    uint64_t last; /* when it last happened */
    uint64_t gap;  /* the longest time between two */
};

static void tick(struct gyre_timer *timer)
{
    struct ticker *ticker = gyre_container_of(timer, struct ticker, timer);
    const uint64_t now = test_now();

    ticker->gap = now - ticker->last > ticker->gap ? now - ticker->last : ticker->gap;
    ticker->fn(ticker);
    ticker->last = test_now();
    if (--ticker->left > 0) {
        assert_int_equal(gyre_timer_start(timer, ticker->every_ns), 0);
    }
}

static void ticker_start(struct ticker *ticker, struct call *call,
                         void (*fn)(struct ticker *ticker), uint64_t every_ns, int times)
{
    *ticker = (struct ticker){.fn = fn, .call = call, .every_ns = every_ns, .left = times};
    ticker->last = test_now();
    assert_int_equal(gyre_timer_init(&ticker->timer, call->loop, tick), 0);
    assert_int_equal(gyre_timer_start(&ticker->timer, every_ns), 0);
}

static void ticker_wait(struct ticker *ticker)
{
    while (ticker->left > 0) {
        assert_int_equal(gyre_loop_run(ticker->call->loop, GYRE_RUN_ONCE) < 0, 0);
    }
}

static void begin(struct call *call, int number)
{
    talk_adopt(&call->talk, call->loop, number);
    talk_until(call->loop, &call->talk, TALK_OPEN, 1);
}

static void expect_timeout(struct call *call, enum gyre_stream_timeout which, uint64_t from,
                           uint64_t span)
{
    assert_int_equal(talk_end(call->loop, &call->talk), -ETIMEDOUT);
    assert_int_equal(call->talk.count[TALK_TIMEOUT], 1);
    assert_int_equal(call->talk.which, which);
    assert_true(call->talk.at[TALK_TIMEOUT] - from >= span);
}

static void connect_unanswered_times_out_without_on_timeout(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct talk talk;
    int client;
    const int listener = wire_blackhole(&to.in, &client);

    talk_init(&talk);
    talk.handler.connect_timeout_ns = SPAN;
    const uint64_t from = test_now();
    talk_connect(&talk, loop, &to);
    assert_true(talk_write_ref(&talk, 100) > 0);
    assert_int_equal(talk_end(loop, &talk), -ETIMEDOUT);
    assert_true(talk.at[TALK_CLOSE] - from >= SPAN);
    assert_int_equal(talk.count[TALK_OPEN], 0);
    assert_int_equal(talk.count[TALK_TIMEOUT], 0);
    assert_int_equal(talk.count[TALK_RELEASE], 1);
    close(client);
    close(listener);
    test_loop_end(loop);
}

static void deadline_ends_a_connect_too(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct talk talk;
    int client;
    const int listener = wire_blackhole(&to.in, &client);

    talk_init(&talk);
    const uint64_t from = test_now();
    talk_connect(&talk, loop, &to);
    assert_int_equal(gyre_stream_set_deadline(&talk.own, from + SPAN), 0);
    assert_int_equal(talk_end(loop, &talk), -ETIMEDOUT);
    assert_true(talk.at[TALK_CLOSE] - from >= SPAN);
    close(client);
    close(listener);
    test_loop_end(loop);
}

static void first_timeout_ends_a_silent_peer(void)
{
    struct call call;
    uint64_t from;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.first_timeout_ns = SPAN;
    from = test_now();
    begin(&call, number);
    assert_true(talk_write(&call.talk, 100) > 0); /* it is the peer's byte that counts */
    expect_timeout(&call, GYRE_TIMEOUT_FIRST, from, SPAN);
    call_end(&call);
}

static void first_timeout_is_over_with_the_first_byte(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.first_timeout_ns = SPAN;
    wire_send_stream(call.peer, 1, 0);
    begin(&call, number);
    talk_until(call.loop, &call.talk, TALK_DATA, 1);
    trial_idle_turns(call.loop, 3 * SPAN);
    assert_int_equal(call.talk.count[TALK_TIMEOUT], 0);
    call_end(&call);
}

static void idle_timeout_ends_an_idle_stream(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.idle_timeout_ns = SPAN;
    begin(&call, number);
    trial_idle_turns(call.loop, SPAN / 2);
    const uint64_t from = test_now();
    wire_send_stream(call.peer, 1, 0);
    expect_timeout(&call, GYRE_TIMEOUT_IDLE, from, SPAN);
    assert_true(wire_expect_end(call.peer) == -ECONNRESET);
    call_end(&call);
}

static void send_a_byte(struct ticker *ticker)
{
    wire_send_stream(ticker->call->peer, 1, ticker->bytes++);
}

static void write_a_byte(struct ticker *ticker)
{
    if (ticker->call->talk.stream != NULL) {
        assert_true(talk_write(&ticker->call->talk, 1) >= 0);
    }
}

static void take_some(struct ticker *ticker)
{
    ticker->bytes += wire_take_stream(ticker->call->peer, ticker->step, ticker->bytes);
}

/* What moves either way extends it. A case that this machine was too slow for says nothing. */
static void idle_timeout_is_extended_by_bytes_either_way(void)
{
    for (int way = 0; way < 2; way++) {
        struct call call;
        struct ticker ticker;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        call.talk.handler.idle_timeout_ns = 2 * SPAN;
        begin(&call, number);
        ticker_start(&ticker, &call, way ? write_a_byte : send_a_byte, SPAN / 5, 30);
        ticker_wait(&ticker);
        assert_true(call.talk.count[TALK_TIMEOUT] == 0 || ticker.gap > SPAN);
        call_end(&call);
    }
}

/* A queue that leaves bit by bit: one operation for the library, but bytes move. */
static void trickle(uint64_t idle_ns, uint64_t write_ns, void (*pair_of)(int pair[2]))
{
    struct call call;
    struct ticker ticker;
    int number;

    call_prepare(&call, pair_of, &number);
    call.talk.handler.idle_timeout_ns = idle_ns;
    call.talk.handler.write_timeout_ns = write_ns;
    begin(&call, number);
    wire_send_buffer(number, 4096);
    assert_true(talk_write_ref(&call.talk, 3 << 20) > 0);
    ticker_start(&ticker, &call, take_some, 10 * GYRE_MSEC, 80);
    ticker.step = 16 << 10;
    ticker_wait(&ticker);
    assert_true(gyre_stream_queued(&call.talk.own) > 0 || call.talk.count[TALK_CLOSE]);
    if (call.talk.count[TALK_TIMEOUT] > 0 && ticker.gap <= 50 * GYRE_MSEC) {
        fail_msg("%d ran out although bytes moved at least each %llu us", (int)call.talk.which,
                 (unsigned long long)(ticker.gap / 1000));
    }
    call_end(&call);
}

static void idle_timeout_is_extended_by_a_slow_reader(void)
{
    trickle(200 * GYRE_MSEC, 0, test_tcp_pair);
}

static void idle_timeout_is_extended_by_a_slow_unix_reader(void)
{
    trickle(200 * GYRE_MSEC, 0, test_unix_pair);
}

static void write_timeout_spares_a_slow_reader(void)
{
    trickle(0, 200 * GYRE_MSEC, test_tcp_pair);
}

static void write_timeout_spares_a_slow_unix_reader(void)
{
    trickle(0, 200 * GYRE_MSEC, test_unix_pair);
}

static void write_timeout_ends_a_stalled_peer(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct call call;
        int number;

        call_prepare(&call, kind ? test_tcp_pair : test_unix_pair, &number);
        call.talk.handler.write_timeout_ns = SPAN;
        call.talk.handler.write_cap = 64 << 20;
        begin(&call, number);
        trial_idle_turns(call.loop, SPAN * 3 / 2);
        const uint64_t from = test_now();
        assert_true(talk_write_ref(&call.talk, 32 << 20) > 0);
        expect_timeout(&call, GYRE_TIMEOUT_WRITE, from, SPAN);
        assert_int_equal(call.talk.count[TALK_RELEASE], 1);
        call_end(&call);
    }
}

/* What the peer sends does not help it. */
static void write_timeout_is_not_extended_by_received_bytes(void)
{
    struct call call;
    struct ticker ticker;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.write_timeout_ns = SPAN;
    begin(&call, number);
    wire_send_buffer(number, 4096);
    assert_true(talk_write_ref(&call.talk, 1 << 20) > 0);
    ticker_start(&ticker, &call, send_a_byte, SPAN / 10, 1000);
    while (call.talk.count[TALK_TIMEOUT] == 0) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_ONCE), 1);
        assert_true(ticker.left > 0);
    }
    gyre_timer_stop(&ticker.timer);
    assert_int_equal(call.talk.which, GYRE_TIMEOUT_WRITE);
    call_end(&call);
}

/* "Late by a quarter" at most while bytes are queued: a machine that is slow once is not slow five
 * times in a row, a stream that always waits for two periods is. */
static void write_timeout_is_not_late_by_a_period(void)
{
    const uint64_t span = 200 * GYRE_MSEC;
    int in_time = 0;

    for (int i = 0; i < 5 && !in_time; i++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        call.talk.handler.write_timeout_ns = span;
        call.talk.handler.write_cap = 64 << 20;
        begin(&call, number);
        assert_true(talk_write_ref(&call.talk, 32 << 20) > 0);
        trial_turns(call.loop, 20); /* what the kernel takes */
        const uint64_t from = test_now();
        expect_timeout(&call, GYRE_TIMEOUT_WRITE, from - span, span);
        in_time = call.talk.at[TALK_TIMEOUT] - from < span * 8 / 5;
        call_end(&call);
    }
    assert_true(in_time);
}

/* K09 */
static void total_timeout_is_not_extended_by_traffic(void)
{
    struct call call;
    struct ticker ticker;
    uint64_t from;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.total_timeout_ns = 2 * SPAN;
    from = test_now();
    begin(&call, number);
    ticker_start(&ticker, &call, send_a_byte, SPAN / 10, 1000);
    while (call.talk.count[TALK_TIMEOUT] == 0) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_ONCE), 1);
        assert_true(ticker.left > 0);
    }
    gyre_timer_stop(&ticker.timer);
    expect_timeout(&call, GYRE_TIMEOUT_TOTAL, from, 2 * SPAN);
    call_end(&call);
}

static void deadline_replaces_the_total(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.total_timeout_ns = SPAN;
    begin(&call, number);
    assert_int_equal(gyre_stream_set_deadline(&call.talk.own, GYRE_NEVER), 0);
    trial_idle_turns(call.loop, 2 * SPAN);
    assert_int_equal(call.talk.count[TALK_TIMEOUT], 0);
    const uint64_t from = test_now();
    assert_int_equal(gyre_stream_set_deadline(&call.talk.own, from + 10 * SPAN), 0);
    assert_int_equal(gyre_stream_set_deadline(&call.talk.own, from + SPAN), 0); /* sooner */
    expect_timeout(&call, GYRE_TIMEOUT_TOTAL, from, SPAN);
    call_end(&call);
}

static void deadline_of_never_set_while_connecting_replaces_the_total(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.total_timeout_ns = SPAN;
    talk_adopt(&call.talk, call.loop, number);
    assert_int_equal(gyre_stream_set_deadline(&call.talk.own, GYRE_NEVER), 0);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    trial_idle_turns(call.loop, 2 * SPAN);
    assert_int_equal(call.talk.count[TALK_TIMEOUT], 0);
    call_end(&call);
}

static void last_word(struct talk *talk)
{
    assert_true(talk_write(talk, 200000) > 0);
    talk_close(talk);
}

/* "It may send a last word and close instead." */
static void last_word_in(enum gyre_stream_timeout which)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.first_timeout_ns = which == GYRE_TIMEOUT_FIRST ? SPAN : 0;
    call.talk.handler.idle_timeout_ns = which == GYRE_TIMEOUT_IDLE ? SPAN : 0;
    call.talk.handler.total_timeout_ns = which == GYRE_TIMEOUT_TOTAL ? SPAN : 0;
    call.talk.then[TALK_TIMEOUT] = last_word;
    begin(&call, number);
    talk_until(call.loop, &call.talk, TALK_TIMEOUT, 1);
    trial_idle_turns(call.loop, 2 * SPAN);
    talk_until_sent(call.loop, call.peer, 200000, 0);
    trial_turns(call.loop, 3);
    assert_int_equal(wire_expect_end(call.peer), 0);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(call.talk.count[TALK_TIMEOUT], 1);
    call_end(&call);
}

static void on_timeout_allows_a_last_word(void)
{
    last_word_in(GYRE_TIMEOUT_FIRST);
    last_word_in(GYRE_TIMEOUT_IDLE);
}

static void total_timeout_allows_a_last_word(void)
{
    last_word_in(GYRE_TIMEOUT_TOTAL);
}

static void timeout_without_on_timeout_resets(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.idle_timeout_ns = SPAN;
    call.talk.handler.on_timeout = NULL;
    begin(&call, number);
    assert_int_equal(talk_end(call.loop, &call.talk), -ETIMEDOUT);
    assert_int_equal(wire_expect_end(call.peer), -ECONNRESET);
    call_end(&call);
}

static void paused_stream_still_times_out(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.idle_timeout_ns = SPAN;
    begin(&call, number);
    gyre_loop_ref(call.loop);
    wire_send_stream(call.peer, 100, 0);
    talk_pause(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), -ETIMEDOUT);
    gyre_loop_unref(call.loop);
    call_end(&call);
}

/* The time of a turn is not the time of a callback that took long. */
static void times_begun_in_a_long_callback_are_not_early(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct talk talk;
    int client;
    const int listener = wire_blackhole(&to.in, &client);

    gyre_loop_update_now(loop);
    talk_spin(2 * SPAN);
    talk_init(&talk);
    talk.handler.connect_timeout_ns = SPAN;
    const uint64_t from = test_now();
    talk_connect(&talk, loop, &to);
    assert_int_equal(talk_end(loop, &talk), -ETIMEDOUT);
    assert_true(talk.at[TALK_CLOSE] - from >= SPAN);
    close(client);
    close(listener);
    test_loop_end(loop);
}

static void spin_before_open(struct talk *talk)
{
    talk_spin(2 * SPAN);
    talk->at[TALK_OPEN] = test_now();
}

/* Two streams open in one turn, the first takes long over it. */
static void first_timeout_behind_a_long_callback_is_not_early(void)
{
    struct call call;
    struct talk other;
    int number;
    int pair[2];

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.then[TALK_OPEN] = spin_before_open;
    talk_adopt(&call.talk, call.loop, number);
    test_tcp_pair(pair);
    talk_init(&other);
    other.handler.first_timeout_ns = SPAN;
    talk_adopt(&other, call.loop, pair[0]);
    assert_int_equal(talk_end(call.loop, &other), -ETIMEDOUT);
    assert_true(other.at[TALK_TIMEOUT] - other.at[TALK_OPEN] >= SPAN);
    close(pair[1]);
    call_end(&call);
}

static void write_timeout_behind_a_long_callback_is_not_early(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.write_timeout_ns = SPAN;
    begin(&call, number);
    wire_send_buffer(number, 4096);
    gyre_loop_update_now(call.loop);
    talk_spin(2 * SPAN);
    const uint64_t from = test_now();
    assert_true(talk_write_ref(&call.talk, 1 << 20) > 0);
    expect_timeout(&call, GYRE_TIMEOUT_WRITE, from, SPAN);
    call_end(&call);
}

/* "Its times count from now." */
static void handler_switch_restarts_the_times(void)
{
    static const enum gyre_stream_timeout kinds[] = {GYRE_TIMEOUT_FIRST, GYRE_TIMEOUT_IDLE,
                                                     GYRE_TIMEOUT_WRITE, GYRE_TIMEOUT_TOTAL};

    for (size_t i = 0; i < TEST_COUNT(kinds); i++) {
        struct call call;
        struct gyre_stream_handler other;
        int number;

        call_prepare(&call, test_unix_pair, &number);
        begin(&call, number);
        wire_send_buffer(number, 4096);
        assert_true(talk_write_ref(&call.talk, 1 << 20) > 0);
        trial_idle_turns(call.loop, 2 * SPAN);
        other = call.talk.handler;
        other.first_timeout_ns = kinds[i] == GYRE_TIMEOUT_FIRST ? SPAN : 0;
        other.idle_timeout_ns = kinds[i] == GYRE_TIMEOUT_IDLE ? SPAN : 0;
        other.write_timeout_ns = kinds[i] == GYRE_TIMEOUT_WRITE ? SPAN : 0;
        other.total_timeout_ns = kinds[i] == GYRE_TIMEOUT_TOTAL ? SPAN : 0;
        const uint64_t from = test_now();
        assert_int_equal(gyre_stream_set_handler(&call.talk.own, &other), 0);
        expect_timeout(&call, kinds[i], from, SPAN);
        call_end(&call);
    }
}

static void times_end_with_their_stream(void)
{
    for (int reset = 0; reset < 2; reset++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        call.talk.handler.idle_timeout_ns = SPAN;
        call.talk.handler.close_timeout_ns = SPAN;
        begin(&call, number);
        if (reset) {
            talk_reset(&call.talk);
        } else {
            talk_close(&call.talk);
            call_close_peer(&call);
        }
        assert_int_equal(talk_end(call.loop, &call.talk), 0);
        memset(&call.talk.own, 0, sizeof call.talk.own); /* its memory is the caller's again */
        trial_idle_turns(call.loop, 2 * SPAN);
        assert_int_equal(call.talk.count[TALK_TIMEOUT], 0);
        assert_int_equal(call.talk.count[TALK_CLOSE], 1);
        call_end(&call);
    }
}

/* A time of none, and one that is longer than the clock's reach, are none. */
static void endless_timeouts_do_not_fire(void)
{
    static const uint64_t endless[] = {GYRE_NEVER, GYRE_NEVER - 1, GYRE_SEC * 86400 * 30};

    for (size_t i = 0; i < TEST_COUNT(endless); i++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        call.talk.handler.first_timeout_ns = endless[i];
        call.talk.handler.idle_timeout_ns = endless[i];
        call.talk.handler.write_timeout_ns = endless[i];
        call.talk.handler.total_timeout_ns = endless[i];
        call.talk.handler.close_timeout_ns = endless[i];
        begin(&call, number);
        trial_idle_turns(call.loop, 20 * GYRE_MSEC);
        assert_int_equal(call.talk.count[TALK_TIMEOUT], 0);
        talk_close(&call.talk);
        trial_idle_turns(call.loop, 20 * GYRE_MSEC);
        assert_int_equal(call.talk.count[TALK_CLOSE], 0);
        call_close_peer(&call);
        assert_int_equal(talk_end(call.loop, &call.talk), 0);
        call_end(&call);
    }
}

/* Many streams with times cost an idle loop nothing. */
static void times_do_not_wake_an_idle_loop(void)
{
    struct host host;
    int clients[200];

    wire_raise_descriptors(500);
    host_prepare(&host, 200);
    host.handler.idle_timeout_ns = 60 * GYRE_SEC;
    host.handler.first_timeout_ns = 30 * GYRE_SEC;
    host.handler.write_timeout_ns = 30 * GYRE_SEC;
    host_listen(&host, NULL);
    for (int i = 0; i < 200; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, 200);
    assert_true(trial_idle_turns(host.loop, 100 * GYRE_MSEC) < 20);
    for (int i = 0; i < 200; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(connect_unanswered_times_out_without_on_timeout),
        TEST_CASE(deadline_ends_a_connect_too),
        TEST_CASE(first_timeout_ends_a_silent_peer),
        TEST_CASE(first_timeout_is_over_with_the_first_byte),
        TEST_CASE(idle_timeout_ends_an_idle_stream),
        TEST_CASE(idle_timeout_is_extended_by_bytes_either_way),
        TEST_CASE(idle_timeout_is_extended_by_a_slow_reader),
        TEST_CASE(idle_timeout_is_extended_by_a_slow_unix_reader),
        TEST_CASE(write_timeout_spares_a_slow_reader),
        TEST_CASE(write_timeout_spares_a_slow_unix_reader),
        TEST_CASE(write_timeout_ends_a_stalled_peer),
        TEST_CASE(write_timeout_is_not_extended_by_received_bytes),
        TEST_CASE(write_timeout_is_not_late_by_a_period),
        TEST_CASE(total_timeout_is_not_extended_by_traffic),
        TEST_CASE(deadline_replaces_the_total),
        TEST_CASE(deadline_of_never_set_while_connecting_replaces_the_total),
        TEST_CASE(on_timeout_allows_a_last_word),
        TEST_CASE(total_timeout_allows_a_last_word),
        TEST_CASE(timeout_without_on_timeout_resets),
        TEST_CASE(paused_stream_still_times_out),
        TEST_CASE(times_begun_in_a_long_callback_are_not_early),
        TEST_CASE(first_timeout_behind_a_long_callback_is_not_early),
        TEST_CASE(write_timeout_behind_a_long_callback_is_not_early),
        TEST_CASE(handler_switch_restarts_the_times),
        TEST_CASE(times_end_with_their_stream),
        TEST_CASE(endless_timeouts_do_not_fire),
        TEST_CASE(times_do_not_wake_an_idle_loop),
    };

    return test_main("net-timeout", cases, TEST_COUNT(cases));
}
