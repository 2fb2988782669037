/* How streams end: by close, reset, the peer, failure; from within each callback. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void close_it(struct talk *talk)
{
    talk_close(talk);
    assert_int_equal(gyre_stream_close(talk->stream), 0); /* twice is once */
    assert_int_equal(gyre_stream_write(talk->stream, "x", 1), -ENOTCONN);
}

static void reset_it(struct talk *talk)
{
    talk_reset(talk);
    assert_int_equal(gyre_stream_reset(talk->stream), 0);
    assert_int_equal(gyre_stream_close(talk->stream), 0);
}

static void close_and_reset_it(struct talk *talk)
{
    close_it(talk);
    reset_it(talk);
}

static void write_and_close_it(struct talk *talk)
{
    assert_true(gyre_stream_write(talk->stream, "last", 4) > 0 || talk->ending == 0);
    close_it(talk);
}

static const talk_fn enders[] = {close_it, reset_it, close_and_reset_it, write_and_close_it};

/* Of a victim that is another stream on the same loop. */
static void end_other(struct talk *talk)
{
    struct talk *other = talk->context;

    if (other->stream != NULL && !other->ending) {
        talk_reset(other);
    }
}

static void close_other(struct talk *talk)
{
    struct talk *other = talk->context;

    if (other->stream != NULL && !other->ending) {
        talk_close(other);
    }
}

/* Makes everything happen once: data both ways, a full queue that drains, a time that runs out, the
 * peer's end. */
static void live(struct call *call)
{
    struct talk *talk = &call->talk;

    wire_send_stream(call->peer, 1000, 0);
    for (int i = 0; i < 1000 && talk->count[TALK_CLOSE] == 0; i++) {
        if (talk->count[TALK_DATA] == 1 && talk->written == 0 && !talk->ending) {
            (void)talk_write_ref(talk, 300000);
        }
        wire_drain(call->peer);
        assert_true(gyre_loop_run(call->loop, GYRE_RUN_NOWAIT) >= 0);
        if (i == 50) {
            assert_true(talk->ending || talk->count[TALK_DRAIN] > 0);
            assert_int_equal(shutdown(call->peer, SHUT_WR), 0);
        }
        if (i == 100 && !talk->ending && talk->stream != NULL) {
            assert_int_equal(gyre_stream_set_deadline(talk->stream, gyre_loop_now(call->loop)), 0);
        }
    }
    while (talk->count[TALK_CLOSE] == 0) {
        wire_drain(call->peer);
        assert_true(gyre_loop_run(call->loop, GYRE_RUN_ONCE) >= 0);
    }
}

static void close_in(enum talk_event event, talk_fn ender, void (*pair_of)(int pair[2]))
{
    struct call call;
    int number;

    call_prepare(&call, pair_of, &number);
    call.talk.handler.write_high = 1000;
    call.talk.handler.write_low = 10;
    call.talk.then[event] = ender;
    talk_adopt(&call.talk, call.loop, number);
    live(&call);
    assert_int_equal(call.talk.count[event], 1);
    assert_int_equal(call.talk.error, 0);
    call_end(&call);
}

/* X08, X14 */
static void close_in_every_callback_ends_once_without_error(void)
{
    for (enum talk_event event = 0; event < TALK_EVENTS; event++) {
        for (size_t i = 0; i < TEST_COUNT(enders) && event != TALK_CLOSE; i++) {
            close_in(event, enders[i], test_tcp_pair);
            close_in(event, enders[i], test_unix_pair);
        }
    }
}

static void end_other_in(enum talk_event event, talk_fn ender)
{
    struct call call;
    struct talk other;
    int number;
    int pair[2];

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.write_high = 1000;
    call.talk.then[event] = ender;
    call.talk.then[TALK_TIMEOUT] = event == TALK_TIMEOUT ? ender : NULL;
    call.talk.context = &other;
    test_tcp_pair(pair);
    talk_init(&other);
    talk_adopt(&other, call.loop, pair[0]);
    wire_send_stream(pair[1], 500, 0);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    talk_adopt(&call.talk, call.loop, number);
    live(&call);
    assert_int_equal(talk_end(call.loop, &other), 0);
    assert_int_equal(other.count[TALK_CLOSE], 1);
    close(pair[1]);
    call_end(&call);
}

/* X08: of another stream, which has callbacks of its own in the same turn. */
static void close_of_another_stream_in_every_callback_ends_it_once(void)
{
    for (enum talk_event event = 0; event < TALK_EVENTS; event++) {
        end_other_in(event, end_other);
        end_other_in(event, close_other);
    }
}

static void free_it(struct talk *talk)
{
    int *freed = talk->context;

    memset(talk, 0xdd, sizeof *talk);
    free(talk);
    (*freed)++;
}

/* X09: nothing touches a stream's memory behind its on_close(). */
static void free_in_on_close_is_allowed_in_every_ending(void)
{
    struct gyre_loop *loop = test_loop();

    for (int how = 0; how < 5; how++) {
        struct talk *talk = malloc(sizeof *talk);
        int freed = 0;
        int pair[2];

        assert_non_null(talk);
        test_tcp_pair(pair);
        talk_init(talk);
        talk->then[TALK_CLOSE] = free_it;
        talk->context = &freed;
        talk_adopt(talk, loop, pair[0]);
        if (how > 0) {
            while (!freed && talk->count[TALK_OPEN] == 0) {
                assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
            }
            assert_int_equal(freed, 0); /* or it is not there to be written to */
            assert_int_equal(talk_write(talk, 100000), 100000);
        }
        if (how == 2) {
            assert_int_equal(gyre_stream_reset(talk->stream), 0);
        } else if (how == 3) {
            wire_reset(pair[1]);
        } else {
            assert_int_equal(gyre_stream_close(talk->stream), 0);
        }
        if (how == 4) {
            wire_reset(pair[1]);
        }
        while (!freed) {
            if (how < 3) {
                wire_drain(pair[1]);
                shutdown(pair[1], SHUT_WR);
            }
            assert_true(gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0);
        }
        if (how < 3) {
            close(pair[1]);
        }
        assert_int_equal(freed, 1);
    }
    test_loop_end(loop);
}

static void reopen(struct talk *talk)
{
    struct call *call = talk->context;
    int pair[2];

    test_tcp_pair(pair);
    close(call->peer);
    call->peer = pair[1];
    talk_init(talk);
    talk_adopt(talk, call->loop, pair[0]);
}

static void storage_is_used_again_in_on_close(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_CLOSE] = reopen;
    call.talk.context = &call;
    talk_reset(&call.talk);
    talk_until(call.loop, &call.talk, TALK_OPEN, 0);
    while (call.talk.count[TALK_OPEN] == 0 || call.talk.ending) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_ONCE), 1);
    }
    wire_send_stream(call.peer, 100, 0);
    talk_until_received(call.loop, &call.talk, 100);
    call_end(&call);
}

/* X05: what is queued leaves, then the end, then the peer's end is waited for. */
static void close_with_a_full_queue_delivers_all_of_it(void)
{
    struct call call;
    const size_t len = 3 << 20;

    call_open(&call, test_tcp_pair);
    assert_int_equal(talk_write(&call.talk, len), (int)len);
    talk_close(&call.talk);
    talk_until_sent(call.loop, call.peer, len, 0);
    while (wire_take(call.peer, &(char){0}, 1) != 0) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
    }
    trial_turns(call.loop, 5);
    assert_int_equal(call.talk.count[TALK_CLOSE], 0); /* the peer's end has not come */
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

/* X07: the peer still sends; it must not lose what it has not read. */
static void close_with_unread_data_does_not_reset_the_peer(void)
{
    struct call call;
    const size_t len = 200000;

    call_open(&call, test_tcp_pair);
    wire_send_stream(call.peer, 1000, 0);
    assert_int_equal(talk_write(&call.talk, len), (int)len);
    talk_close(&call.talk);
    for (size_t got = 0; got < len;) {
        const char more[100] = {0};

        wire_send(call.peer, more, sizeof more);
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
        got += wire_take_stream(call.peer, len - got, got);
    }
    assert_int_equal(wire_expect_end(call.peer), 0);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(call.talk.count[TALK_DATA], 0);
    call_end(&call);
}

/* A peer that never closes: the time for closing ends it. What was written has left, so that is no
 * error. */
static void close_with_a_silent_peer_ends_at_its_deadline(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.close_timeout_ns = 50 * GYRE_MSEC;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    const uint64_t from = test_now();
    talk_close(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_true(test_now() - from >= 50 * GYRE_MSEC);
    call_end(&call);
}

static void close_with_a_peer_that_takes_nothing_resets_it_at_the_deadline(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.close_timeout_ns = 50 * GYRE_MSEC;
    call.talk.handler.write_cap = 64 << 20;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    assert_true(talk_write_ref(&call.talk, 32 << 20) > 0);
    const uint64_t from = test_now();
    talk_close(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), -ETIMEDOUT);
    assert_true(test_now() - from >= 50 * GYRE_MSEC);
    assert_int_equal(call.talk.count[TALK_RELEASE], 1);
    while (wire_take(call.peer, &(char[4096]){0}, 4096) > 0) {
    }
    assert_int_equal(send(call.peer, "x", 1, MSG_NOSIGNAL), -1);
    call_end(&call);
}

/* X04: the peer sees the end at once, although it has not sent its own. */
static void close_of_an_idle_stream_sends_the_end(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    talk_close(&call.talk);
    trial_turns(call.loop, 3);
    assert_int_equal(wire_expect_end(call.peer), 0);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

/* Behind what had left before. */
static void expect_reset(int peer)
{
    char data[4096];
    ssize_t got = 1;

    while (got > 0) {
        got = read(peer, data, sizeof data);
    }
    assert_int_equal(got, -1);
    assert_int_equal(errno, ECONNRESET);
}

/* X06 */
static void reset_is_seen_by_the_peer_as_econnreset(void)
{
    for (int busy = 0; busy < 3; busy++) {
        struct call call;

        call_open(&call, test_tcp_pair);
        if (busy == 1) {
            assert_true(talk_write_ref(&call.talk, 1 << 20) > 0);
        }
        if (busy == 2) {
            wire_send_stream(call.peer, 1000, 0);
        }
        talk_reset(&call.talk);
        assert_int_equal(talk_end(call.loop, &call.talk), 0);
        assert_int_equal(call.talk.count[TALK_RELEASE], busy == 1);
        expect_reset(call.peer);
        call_end(&call);
    }
}

static void reset_while_lingering_ends_soon(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    talk_close(&call.talk);
    trial_turns(call.loop, 3);
    talk_reset(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

/* R05 */
static void reset_by_the_peer_ends_with_econnreset_once(void)
{
    for (int busy = 0; busy < 2; busy++) {
        struct call call;

        call_open(&call, test_tcp_pair);
        if (busy) {
            assert_true(talk_write_ref(&call.talk, 1 << 20) > 0);
            trial_turns(call.loop, 3);
        }
        wire_reset(call.peer);
        call.peer = -1;
        assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
        assert_int_equal(call.talk.count[TALK_EOF], 0);
        assert_int_equal(call.talk.count[TALK_RELEASE], busy);
        call_end(&call);
    }
}

static uint64_t calls_beside_waits(const struct call *call)
{
    const struct gyre_loop_stats stats = trial_stats(call->loop);

    return stats.syscalls - stats.enters;
}

/* Nothing is left that could be reset: the receive that tells, and close(2). */
static void reset_by_the_peer_is_not_answered_by_one(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    trial_turns(call.loop, 3);
    const uint64_t before = calls_beside_waits(&call);
    wire_reset(call.peer);
    call.peer = -1;
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    assert_true(calls_beside_waits(&call) - before <= 2);
    call_end(&call);
}

/* R04 */
static void data_then_end_arrive_in_this_order(void)
{
    for (int i = 0; i < 200; i++) {
        struct call call;
        int number;

        call_prepare(&call, i & 1 ? test_tcp_pair : test_unix_pair, &number);
        wire_send_stream(call.peer, 1000, 0);
        assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
        talk_adopt(&call.talk, call.loop, number);
        talk_until(call.loop, &call.talk, TALK_EOF, 1);
        assert_int_equal(call.talk.received, 1000);
        call_end(&call);
    }
}

/* X01 */
static void half_close_by_the_peer_still_gets_everything(void)
{
    struct call call;
    const size_t len = 1 << 20;

    call_open(&call, test_tcp_pair);
    assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
    talk_until(call.loop, &call.talk, TALK_EOF, 1);
    trial_turns(call.loop, 3);
    assert_int_equal(call.talk.count[TALK_CLOSE], 0);
    assert_int_equal(talk_write(&call.talk, len), (int)len);
    talk_until_sent(call.loop, call.peer, len, 0);
    talk_close(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(wire_expect_end(call.peer), 0);
    call_end(&call);
}

/* Without on_eof: closed, after what is queued has left. */
static void end_of_the_peer_without_on_eof_closes_after_the_queue(void)
{
    struct call call;
    const size_t len = 1 << 20;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.on_eof = NULL;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    assert_int_equal(talk_write(&call.talk, len), (int)len);
    assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
    talk_until_sent(call.loop, call.peer, len, 0);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(wire_expect_end(call.peer), 0);
    call_end(&call);
}

/* X02, X03, W07 */
static void shutdown_lets_the_queue_leave_and_reading_goes_on(void)
{
    struct call call;
    const size_t len = 1 << 20;

    call_open(&call, test_tcp_pair);
    assert_int_equal(talk_write(&call.talk, len), (int)len);
    assert_int_equal(gyre_stream_shutdown(call.talk.stream), 0);
    assert_int_equal(gyre_stream_shutdown(call.talk.stream), 0);
    assert_int_equal(gyre_stream_write(call.talk.stream, "x", 1), -EPIPE);
    assert_int_equal(gyre_stream_writable(call.talk.stream), 0);
    talk_until_sent(call.loop, call.peer, len, 0);
    while (wire_take(call.peer, &(char){0}, 1) != 0) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
    }
    wire_send_stream(call.peer, 5000, 0);
    talk_until_received(call.loop, &call.talk, 5000);
    assert_int_equal(gyre_stream_shutdown(call.talk.stream), 0);
    call_close_peer(&call);
    talk_until(call.loop, &call.talk, TALK_EOF, 1);
    talk_close(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

/* W06: what the peer had sent still comes; the process lives. */
static void peer_gone_while_writing_ends_with_an_error_and_no_signal(void)
{
    struct call call;

    call_open(&call, test_unix_pair);
    wire_send_stream(call.peer, 500, 0);
    call_close_peer(&call);
    assert_true(talk_write_ref(&call.talk, 1000) > 0);
    assert_int_equal(talk_end(call.loop, &call.talk), -EPIPE);
    assert_int_equal(call.talk.received, 500);
    assert_int_equal(call.talk.count[TALK_RELEASE], 1);
    call_end(&call);
}

/* A Unix peer that stays, but reads no more: nothing else would tell. */
static void peer_that_reads_no_more_ends_the_stream(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.close_timeout_ns = 50 * GYRE_MSEC;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    assert_int_equal(shutdown(call.peer, SHUT_RD), 0);
    assert_true(talk_write_ref(&call.talk, 1000) > 0);
    assert_int_equal(talk_end(call.loop, &call.talk), -EPIPE);
    call_end(&call);
}

static void end_in_on_drain(struct talk *talk)
{
    talk_reset(talk);
}

/* The queue is empty and shut when its draining is told. */
static void reset_in_on_drain_behind_a_shutdown_ends_once(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.write_high = 100;
    call.talk.then[TALK_DRAIN] = end_in_on_drain;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    assert_int_equal(talk_write(&call.talk, 1000), 1000);
    assert_int_equal(gyre_stream_shutdown(call.talk.stream), 0);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    expect_reset(call.peer);
    call_end(&call);
}

/* @error of on_close(): "0 when it was closed as asked". */
/* An adopted stream is connected: what was written leaves. */
static void close_of_an_adopted_stream_before_on_open_loses_nothing(void)
{
    for (int reset = 0; reset < 2; reset++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        talk_adopt(&call.talk, call.loop, number);
        assert_int_equal(talk_write_ref(&call.talk, 100), 100);
        if (reset) {
            talk_reset(&call.talk);
        } else {
            talk_close(&call.talk);
            talk_until_sent(call.loop, call.peer, 100, 0);
            call_close_peer(&call);
        }
        assert_int_equal(talk_end(call.loop, &call.talk), 0);
        assert_int_equal(call.talk.count[TALK_OPEN], 0);
        assert_int_equal(call.talk.count[TALK_RELEASE], 1);
        call_end(&call);
    }
}

static void functions_after_the_end_are_refused(void)
{
    struct call call;
    struct gyre_stream *stream = &call.talk.own;

    call_open(&call, test_tcp_pair);
    talk_reset(&call.talk);
    for (int ended = 0; ended < 2; ended++) {
        assert_int_equal(gyre_stream_write(stream, "x", 1), -ENOTCONN);
        assert_int_equal(gyre_stream_write_ref(stream, "x", 1, NULL, NULL), -ENOTCONN);
        assert_int_equal(gyre_stream_shutdown(stream), -ENOTCONN);
        assert_int_equal(gyre_stream_pause(stream), -ENOTCONN);
        assert_int_equal(gyre_stream_resume(stream), -ENOTCONN);
        assert_int_equal(gyre_stream_couple(stream, stream), -ENOTCONN);
        assert_int_equal(gyre_stream_set_deadline(stream, 1), -ENOTCONN);
        assert_int_equal(gyre_stream_set_handler(stream, &call.talk.handler), -ENOTCONN);
        assert_int_equal(gyre_stream_writable(stream), 0);
        assert_int_equal(gyre_stream_queued(stream), 0);
        talk_end(call.loop, &call.talk);
    }
    assert_int_equal(gyre_stream_close(stream), -EINVAL);
    assert_int_equal(gyre_stream_reset(stream), -EINVAL);
    assert_int_equal(gyre_stream_number(stream), -EBADF);
    call_end(&call);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(close_in_every_callback_ends_once_without_error),
        TEST_CASE(close_of_another_stream_in_every_callback_ends_it_once),
        TEST_CASE(free_in_on_close_is_allowed_in_every_ending),
        TEST_CASE(storage_is_used_again_in_on_close),
        TEST_CASE(close_with_a_full_queue_delivers_all_of_it),
        TEST_CASE(close_with_unread_data_does_not_reset_the_peer),
        TEST_CASE(close_with_a_silent_peer_ends_at_its_deadline),
        TEST_CASE(close_with_a_peer_that_takes_nothing_resets_it_at_the_deadline),
        TEST_CASE(close_of_an_idle_stream_sends_the_end),
        TEST_CASE(reset_is_seen_by_the_peer_as_econnreset),
        TEST_CASE(reset_while_lingering_ends_soon),
        TEST_CASE(reset_by_the_peer_ends_with_econnreset_once),
        TEST_CASE(reset_by_the_peer_is_not_answered_by_one),
        TEST_CASE(data_then_end_arrive_in_this_order),
        TEST_CASE(half_close_by_the_peer_still_gets_everything),
        TEST_CASE(end_of_the_peer_without_on_eof_closes_after_the_queue),
        TEST_CASE(shutdown_lets_the_queue_leave_and_reading_goes_on),
        TEST_CASE(peer_gone_while_writing_ends_with_an_error_and_no_signal),
        TEST_CASE(peer_that_reads_no_more_ends_the_stream),
        TEST_CASE(reset_in_on_drain_behind_a_shutdown_ends_once),
        TEST_CASE(close_of_an_adopted_stream_before_on_open_loses_nothing),
        TEST_CASE(functions_after_the_end_are_refused),
    };

    return test_main("net-close", cases, TEST_COUNT(cases));
}
