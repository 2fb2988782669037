/* Reading that stops and goes on: by gyre_stream_pause(), and by streams that are coupled. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Sends what fits, never blocking; carries on at *sent. */
static void offer(int peer, uint64_t *sent, size_t most)
{
    uint8_t data[8192];

    while (most > 0) {
        const size_t part = most < sizeof data ? most : sizeof data;
        ssize_t got;

        wire_fill(data, part, *sent);
        got = send(peer, data, part, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (got <= 0) {
            return;
        }
        *sent += (uint64_t)got;
        most -= (size_t)got;
    }
}

static void pause_it(struct talk *talk)
{
    talk_pause(talk);
    talk_pause(talk);
}

/* R02: talk.c asserts that nothing comes while it is paused, and that no byte is lost. */
static void pause_in_on_data_loses_nothing(void)
{
    for (int kind = 0; kind < 2; kind++) {
        struct call call;
        uint64_t sent = 0;
        uint32_t seed = 5;

        call_open(&call, kind ? test_tcp_pair : test_unix_pair);
        call.talk.then[TALK_DATA] = pause_it;
        for (int i = 0; i < 300; i++) {
            offer(call.peer, &sent, 1 + wire_random(&seed, 50000));
            trial_turns(call.loop, (int)wire_random(&seed, 4));
            talk_resume(&call.talk);
        }
        while (call.talk.received < sent) {
            talk_resume(&call.talk);
            trial_turns(call.loop, 1);
        }
        assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
        talk_resume(&call.talk);
        talk_until(call.loop, &call.talk, TALK_EOF, 1);
        call_end(&call);
    }
}

/* The flooding peer is stopped by the kernel, and memory by the pool's quota. */
static void pause_stops_a_flooding_peer(void)
{
    struct call call;
    uint64_t sent = 0;

    call_open(&call, test_tcp_pair);
    talk_pause(&call.talk);
    for (int i = 0; i < 200; i++) {
        offer(call.peer, &sent, 1 << 20);
        trial_turns(call.loop, 1);
    }
    assert_true(sent > 0);
    const uint64_t stopped_at = sent;
    offer(call.peer, &sent, 1 << 20);
    assert_int_equal(sent, stopped_at);
    assert_true(trial_idle_turns(call.loop, 50 * GYRE_MSEC) < 50);
    talk_resume(&call.talk);
    talk_until_received(call.loop, &call.talk, sent);
    call_end(&call);
}

/* Bytes that the stream has taken from its socket: all but those that either kernel queue holds. */
static int64_t taken_from(int number, int peer, uint64_t sent)
{
    int waiting = 0;

    assert_int_equal(ioctl(peer, SIOCOUTQ, &waiting), 0);
    return (int64_t)sent - waiting - (int64_t)wire_readable(number);
}

static void pause_holds_no_more_than_was_under_way(void)
{
    struct call call;
    uint64_t sent = 0;

    call_open(&call, test_tcp_pair);
    talk_pause(&call.talk);
    for (int i = 0; i < 20; i++) {
        offer(call.peer, &sent, 1 << 20);
        trial_turns(call.loop, 5);
    }
    assert_true(taken_from(gyre_stream_number(call.talk.stream), call.peer, sent) <=
                1 << 20); /* pool_min */
    call_end(&call);
}

/* @turns between data and the end: without any, one turn of the loop meets both. */
static void end_while_paused(int reset, void (*pair_of)(int pair[2]), int turns)
{
    struct call call;

    call_open(&call, pair_of);
    talk_pause(&call.talk);
    wire_send_stream(call.peer, 1000, 0);
    trial_turns(call.loop, turns);
    wire_send_stream(call.peer, 1000, 1000);
    if (reset) {
        wire_reset(call.peer);
        call.peer = -1;
    } else {
        call_close_peer(&call);
    }
    trial_turns(call.loop, 10);
    assert_int_equal(call.talk.count[TALK_DATA], 0);
    assert_int_equal(call.talk.count[TALK_EOF], 0);
    if (!reset) {
        assert_int_equal(call.talk.count[TALK_CLOSE], 0);
        talk_resume(&call.talk);
        talk_until(call.loop, &call.talk, TALK_EOF, 1);
        assert_int_equal(call.talk.received, 2000);
    } else if (call.talk.count[TALK_CLOSE] == 0) {
        talk_resume(&call.talk);
        assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    }
    call_end(&call);
}

static void end_of_the_peer_while_paused_is_told_behind_the_data(void)
{
    end_while_paused(0, test_tcp_pair, 5);
    end_while_paused(0, test_unix_pair, 5);
    end_while_paused(0, test_tcp_pair, 0);
    end_while_paused(0, test_unix_pair, 0);
}

static void reset_by_the_peer_while_paused_is_told_afterwards(void)
{
    end_while_paused(1, test_tcp_pair, 5);
    end_while_paused(1, test_tcp_pair, 0);
}

static void pause_and_resume(struct talk *talk)
{
    talk_pause(talk);
    talk_resume(talk);
}

static void pause_and_resume_in_every_callback_changes_nothing(void)
{
    for (enum talk_event event = TALK_OPEN; event <= TALK_EOF; event++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        call.talk.then[event] = pause_and_resume;
        talk_adopt(&call.talk, call.loop, number);
        wire_send_stream(call.peer, 1000, 0);
        talk_until_received(call.loop, &call.talk, 1000);
        wire_send_stream(call.peer, 1000, 1000);
        assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
        talk_until(call.loop, &call.talk, TALK_EOF, 1);
        assert_int_equal(call.talk.received, 2000);
        trial_turns(call.loop, 3);
        assert_int_equal(call.talk.count[TALK_EOF], 1);
        assert_int_equal(call.talk.count[TALK_CLOSE], 0);
        call_end(&call);
    }
}

static void resume_it(struct talk *talk)
{
    talk_resume(talk);
}

static void pause_before_on_open_and_resume_in_it_reads(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    wire_send_stream(call.peer, 1000, 0);
    call.talk.then[TALK_OPEN] = resume_it;
    talk_adopt(&call.talk, call.loop, number);
    talk_pause(&call.talk);
    talk_until_received(call.loop, &call.talk, 1000);
    call_end(&call);
}

static void pause_before_on_open_keeps_everything(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    wire_send_stream(call.peer, 1000, 0);
    talk_adopt(&call.talk, call.loop, number);
    talk_pause(&call.talk);
    trial_turns(call.loop, 10);
    assert_int_equal(call.talk.count[TALK_OPEN], 1);
    assert_int_equal(trial_pool(call.loop).leases, 0);
    talk_resume(&call.talk);
    assert_int_equal(call.talk.received, 0); /* not from within */
    talk_until_received(call.loop, &call.talk, 1000);
    call_end(&call);
}

/* Small deliveries, one of which pauses: what was kept comes in order, a piece at a time. */
static void stash_is_handed_out_piece_by_piece(void)
{
    struct gyre_loop_options options = test_options();
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    test_loop_end(call.loop);
    options.pool_quota = 64 << 10;
    call.loop = test_loop_with(&options);
    call.talk.then[TALK_DATA] = pause_it;
    talk_adopt(&call.talk, call.loop, number);
    uint64_t sent = 0;
    for (int i = 0; i < 100; i++) {
        offer(call.peer, &sent, 1000);
        trial_turns(call.loop, 1);
    }
    while (call.talk.received < sent) {
        talk_resume(&call.talk);
        const int before = call.talk.count[TALK_DATA];
        trial_turns(call.loop, 2);
        assert_true(call.talk.count[TALK_DATA] - before <= 1);
    }
    call_end(&call);
}

/* What was kept is dropped, and the quota is free again: closing does not wait for its deadline. */
static void close_while_paused_with_a_full_stash_ends_with_the_peer(void)
{
    struct gyre_loop_options options = test_options();
    struct call call;
    int number;
    uint64_t sent = 0;

    call_prepare(&call, test_tcp_pair, &number);
    test_loop_end(call.loop);
    options.pool_quota = 4096;
    call.loop = test_loop_with(&options);
    call.talk.handler.close_timeout_ns = GYRE_NEVER;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    talk_pause(&call.talk);
    offer(call.peer, &sent, 1 << 20);
    trial_turns(call.loop, 5);
    talk_close(&call.talk);
    trial_turns(call.loop, 5);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

static void reset_while_paused_returns_what_was_kept(void)
{
    struct call call;
    uint64_t sent = 0;

    call_open(&call, test_tcp_pair);
    talk_pause(&call.talk);
    offer(call.peer, &sent, 100000);
    trial_turns(call.loop, 5);
    talk_reset(&call.talk);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    call_end(&call);
}

static void close_in_stash_hands_out_no_more(struct talk *talk)
{
    if (talk->count[TALK_DATA] == 2) {
        talk_close(talk);
    } else {
        talk_pause(talk);
    }
}

static void close_while_the_stash_is_handed_out(void)
{
    struct call call;
    uint64_t sent = 0;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_DATA] = close_in_stash_hands_out_no_more;
    for (int i = 0; i < 20; i++) {
        offer(call.peer, &sent, 1000);
        trial_turns(call.loop, 1);
    }
    talk_resume(&call.talk);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(call.talk.count[TALK_DATA], 2);
    call_end(&call);
}

/* Two calls of one loop, each forwarding to the other: a proxy. */
struct proxy {
    struct call left;
    struct call right;
};

static void pass_on(struct talk *talk)
{
    struct talk *other = talk->context;

    if (other->stream != NULL && !other->ending) {
        const int rc = gyre_stream_forward(other->stream, talk->data);

        assert_true(rc > 0 || rc == -ENOTCONN || rc == -EPIPE); /* its peer may be gone */
    }
}

static void proxy_open(struct proxy *proxy)
{
    int numbers[2];

    call_prepare(&proxy->left, test_tcp_pair, &numbers[0]);
    call_prepare(&proxy->right, test_tcp_pair, &numbers[1]);
    test_loop_end(proxy->right.loop);
    proxy->right.loop = proxy->left.loop;
    struct talk *talks[2] = {&proxy->left.talk, &proxy->right.talk};
    for (int i = 0; i < 2; i++) {
        talks[i]->handler.write_high = 64 << 10;
        talks[i]->then[TALK_DATA] = pass_on;
        talks[i]->context = talks[1 - i];
        talk_adopt(talks[i], proxy->left.loop, numbers[i]);
    }
    assert_int_equal(gyre_stream_couple(talks[0]->stream, talks[1]->stream), 0);
    assert_int_equal(gyre_stream_couple(talks[0]->stream, talks[0]->stream), -EBUSY);
    assert_int_equal(gyre_stream_couple(talks[1]->stream, talks[0]->stream), -EBUSY);
}

static void proxy_end(struct proxy *proxy)
{
    if (proxy->right.talk.count[TALK_CLOSE] == 0) {
        talk_reset(&proxy->right.talk);
        talk_end(proxy->left.loop, &proxy->right.talk);
    }
    if (proxy->right.peer >= 0) {
        call_close_peer(&proxy->right);
    }
    call_end(&proxy->left);
}

/* B03, B04 */
static void coupled_streams_bound_both_queues_and_lose_nothing(void)
{
    struct proxy proxy;
    uint64_t sent[2] = {0};
    uint64_t taken[2] = {0};
    uint32_t seed = 3;
    /* Above the mark by what one delivery, or what was under way already, brings. */
    const size_t most = (64 << 10) + (2 << 20);

    proxy_open(&proxy);
    for (int i = 0; i < 400; i++) {
        offer(proxy.left.peer, &sent[0], 256 << 10);
        offer(proxy.right.peer, &sent[1], 256 << 10);
        trial_turns(proxy.left.loop, 1);
        assert_in_range(gyre_stream_queued(proxy.left.talk.stream), 0, most);
        assert_in_range(gyre_stream_queued(proxy.right.talk.stream), 0, most);
        if (i > 100) {
            taken[0] += wire_take_stream(proxy.right.peer, wire_random(&seed, 300000), taken[0]);
        }
        if (i > 200) {
            taken[1] += wire_take_stream(proxy.left.peer, wire_random(&seed, 300000), taken[1]);
        }
    }
    while (taken[0] < sent[0] || taken[1] < sent[1]) {
        trial_turns(proxy.left.loop, 1);
        taken[0] += wire_take_stream(proxy.right.peer, sent[0] - taken[0], taken[0]);
        taken[1] += wire_take_stream(proxy.left.peer, sent[1] - taken[1], taken[1]);
    }
    assert_true(sent[0] > (1 << 20));
    proxy_end(&proxy);
}

/* "It ends with the first of the two: then the other reads on." */
static void coupling_ends_with_the_first_stream_and_the_other_reads_on(void)
{
    for (int how = 0; how < 3; how++) {
        struct proxy proxy;
        uint64_t sent = 0;

        proxy_open(&proxy);
        for (int i = 0; i < 100; i++) {
            offer(proxy.left.peer, &sent, 256 << 10);
            trial_turns(proxy.left.loop, 1);
        }
        assert_true(proxy.left.talk.received < sent);
        if (how == 0) {
            talk_reset(&proxy.right.talk);
        } else if (how == 1) {
            talk_close(&proxy.right.talk);
        } else {
            wire_reset(proxy.right.peer);
            proxy.right.peer = -1;
        }
        talk_until_received(proxy.left.loop, &proxy.left.talk, sent);
        if (how != 1) {
            talk_end(proxy.left.loop, &proxy.right.talk);
        }
        assert_int_equal(gyre_stream_couple(proxy.left.talk.stream, proxy.left.talk.stream), 0);
        proxy_end(&proxy);
    }
}

static void echo(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) > 0);
}

static void stream_coupled_with_itself_is_a_bounded_echo(void)
{
    struct call call;
    int number;
    uint64_t sent = 0;
    uint64_t taken = 0;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.write_high = 64 << 10;
    call.talk.then[TALK_DATA] = echo;
    talk_adopt(&call.talk, call.loop, number);
    assert_int_equal(gyre_stream_couple(call.talk.stream, call.talk.stream), 0);
    for (int i = 0; i < 200; i++) {
        offer(call.peer, &sent, 256 << 10);
        trial_turns(call.loop, 1);
        assert_in_range(gyre_stream_queued(call.talk.stream), 0, 2 << 20);
    }
    const uint64_t stopped_at = sent;
    offer(call.peer, &sent, 1 << 20);
    assert_int_equal(sent, stopped_at);
    while (taken < sent) {
        trial_turns(call.loop, 1);
        taken += wire_take_stream(call.peer, sent - taken, taken);
    }
    call_end(&call);
}

/* "Independent of gyre_stream_pause(): reading goes on when neither holds it up." */
static void pause_and_coupling_are_independent(void)
{
    struct proxy proxy;
    uint64_t sent = 0;
    uint64_t taken = 0;

    proxy_open(&proxy);
    for (int i = 0; i < 100; i++) {
        offer(proxy.left.peer, &sent, 256 << 10);
        trial_turns(proxy.left.loop, 1);
    }
    const uint64_t received = proxy.left.talk.received;
    assert_true(received < sent);
    talk_pause(&proxy.left.talk);
    proxy.left.talk.quiet = 0;
    assert_int_equal(gyre_stream_resume(proxy.left.talk.stream), 0); /* still held */
    trial_turns(proxy.left.loop, 10);
    assert_int_equal(proxy.left.talk.received, received);
    talk_pause(&proxy.left.talk); /* paused, and no longer held */
    while (taken < received) {
        trial_turns(proxy.left.loop, 1);
        taken += wire_take_stream(proxy.right.peer, received - taken, taken);
    }
    trial_turns(proxy.left.loop, 10);
    talk_resume(&proxy.left.talk);
    while (taken < sent) {
        trial_turns(proxy.left.loop, 1);
        taken += wire_take_stream(proxy.right.peer, sent - taken, taken);
    }
    proxy_end(&proxy);
}

static void couple_refuses_what_it_cannot(void)
{
    struct call call;
    struct call elsewhere;
    struct gyre_stream idle = {0};

    call_open(&call, test_tcp_pair);
    call_open(&elsewhere, test_tcp_pair);
    struct gyre_stream *stream = call.talk.stream;
    assert_int_equal(gyre_stream_couple(NULL, stream), -EINVAL);
    assert_int_equal(gyre_stream_couple(stream, NULL), -EINVAL);
    assert_int_equal(gyre_stream_couple(stream, &idle), -EINVAL);
    assert_int_equal(gyre_stream_couple(stream, elsewhere.talk.stream), -EINVAL);
    assert_int_equal(gyre_stream_pause(NULL), -EINVAL);
    assert_int_equal(gyre_stream_pause(&idle), -EINVAL);
    assert_int_equal(gyre_stream_resume(NULL), -EINVAL);
    assert_int_equal(gyre_stream_resume(&idle), -EINVAL);
    call_end(&elsewhere);
    call_end(&call);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(pause_in_on_data_loses_nothing),
        TEST_CASE(pause_stops_a_flooding_peer),
        TEST_CASE(pause_holds_no_more_than_was_under_way),
        TEST_CASE(end_of_the_peer_while_paused_is_told_behind_the_data),
        TEST_CASE(reset_by_the_peer_while_paused_is_told_afterwards),
        TEST_CASE(pause_and_resume_in_every_callback_changes_nothing),
        TEST_CASE(pause_before_on_open_and_resume_in_it_reads),
        TEST_CASE(pause_before_on_open_keeps_everything),
        TEST_CASE(stash_is_handed_out_piece_by_piece),
        TEST_CASE(close_while_paused_with_a_full_stash_ends_with_the_peer),
        TEST_CASE(reset_while_paused_returns_what_was_kept),
        TEST_CASE(close_while_the_stash_is_handed_out),
        TEST_CASE(coupled_streams_bound_both_queues_and_lose_nothing),
        TEST_CASE(coupling_ends_with_the_first_stream_and_the_other_reads_on),
        TEST_CASE(stream_coupled_with_itself_is_a_bounded_echo),
        TEST_CASE(pause_and_coupling_are_independent),
        TEST_CASE(couple_refuses_what_it_cannot),
    };

    return test_main("net-pause", cases, TEST_COUNT(cases));
}
