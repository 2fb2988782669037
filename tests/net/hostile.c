/* Peers that mean no good, and callers who call anything at any time: talk.c asserts what must hold
 * for every stream. Catalogue H12. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ALL   16
#define STEPS 60000

struct pair {
    struct talk talk;
    int peer; /* -1: closed */
};

struct hammer {
    struct gyre_loop *loop;
    struct pair *pairs;
    uint32_t seed;
};

static uint32_t below(struct hammer *hammer, uint32_t limit)
{
    return wire_random(&hammer->seed, limit);
}

/* One time in so many. */
static int rarely(struct hammer *hammer, uint32_t times)
{
    return below(hammer, times) == 0;
}

static void begin(struct hammer *hammer, struct pair *one)
{
    struct gyre_stream_handler *handler = &one->talk.handler;
    int pair[2];

    if (one->peer >= 0) {
        close(one->peer);
    }
    (below(hammer, 2) ? test_unix_pair : test_tcp_pair)(pair);
    talk_init(&one->talk);
    one->talk.unchecked = 1;
    one->peer = pair[1];
    handler->write_high = 20000;
    handler->close_timeout_ns = 20 * GYRE_MSEC;
    handler->on_eof = below(hammer, 2) ? NULL : handler->on_eof;
    handler->idle_timeout_ns = below(hammer, 2) ? 0 : 30 * GYRE_MSEC;
    handler->write_timeout_ns = below(hammer, 2) ? 0 : 30 * GYRE_MSEC;
    talk_adopt(&one->talk, hammer->loop, pair[0]);
}

static void do_write(struct hammer *hammer, struct pair *one)
{
    (void)!talk_write(&one->talk, below(hammer, 9000));
}

static void do_write_ref(struct hammer *hammer, struct pair *one)
{
    (void)!talk_write_ref(&one->talk, 1 + below(hammer, 90000));
}

static void do_pause(struct hammer *hammer, struct pair *one)
{
    (void)hammer;
    if (gyre_stream_pause(one->talk.stream) == 0) {
        one->talk.quiet = 1;
    }
}

static void do_resume(struct hammer *hammer, struct pair *one)
{
    (void)hammer;
    one->talk.quiet = 0;
    gyre_stream_resume(one->talk.stream);
}

static void do_couple(struct hammer *hammer, struct pair *one)
{
    struct talk *other = &hammer->pairs[below(hammer, ALL)].talk;

    if (other->stream != NULL) {
        (void)!gyre_stream_couple(one->talk.stream, other->stream);
    }
}

static void do_shutdown(struct hammer *hammer, struct pair *one)
{
    if (rarely(hammer, 20)) {
        gyre_stream_shutdown(one->talk.stream);
    }
}

static void do_close(struct hammer *hammer, struct pair *one)
{
    if (rarely(hammer, 20)) {
        talk_close(&one->talk);
    }
}

static void do_reset(struct hammer *hammer, struct pair *one)
{
    if (rarely(hammer, 30)) {
        talk_reset(&one->talk);
    }
}

static void do_deadline(struct hammer *hammer, struct pair *one)
{
    const uint64_t soon = test_now() + below(hammer, 1 << 24);

    gyre_stream_set_deadline(one->talk.stream, rarely(hammer, 4) ? soon : GYRE_NEVER);
}

static void do_peer_close(struct hammer *hammer, struct pair *one)
{
    const struct linger at_once = {.l_onoff = 1};

    if (one->peer >= 0 && rarely(hammer, 30)) {
        if (rarely(hammer, 2)) {
            setsockopt(one->peer, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        }
        close(one->peer);
        one->peer = -1;
    }
}

static void do_peer_read(struct hammer *hammer, struct pair *one)
{
    char data[20000];

    if (one->peer >= 0) {
        (void)!recv(one->peer, data, 1 + below(hammer, sizeof data), MSG_DONTWAIT);
    }
}

static void do_peer_write(struct hammer *hammer, struct pair *one)
{
    static const uint8_t data[30000];

    if (one->peer >= 0) {
        (void)!send(one->peer, data, 1 + below(hammer, sizeof data - 1),
                    MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

static void (*const calls[])(struct hammer *hammer, struct pair *one) = {
    do_write,    do_write,      do_write,     do_write_ref, do_write_ref,  do_pause,
    do_resume,   do_resume,     do_couple,    do_shutdown,  do_close,      do_reset,
    do_deadline, do_peer_close, do_peer_read, do_peer_read, do_peer_write, do_peer_write,
};

static void hammer_end(struct hammer *hammer)
{
    for (int i = 0; i < ALL; i++) {
        struct pair *one = &hammer->pairs[i];

        if (!one->talk.count[TALK_CLOSE]) {
            talk_reset(&one->talk);
            talk_end(hammer->loop, &one->talk);
        }
        if (one->peer >= 0) {
            close(one->peer);
        }
    }
    free(hammer->pairs);
    test_loop_end(hammer->loop);
}

static void random_calls_keep_every_promise(void)
{
    const int steps = test_steps(STEPS, 1);

    for (uint32_t seed = 1; seed <= 3; seed++) {
        struct hammer hammer = {.loop = test_loop(), .seed = seed};

        hammer.pairs = calloc(ALL, sizeof *hammer.pairs);
        assert_non_null(hammer.pairs);
        for (int i = 0; i < ALL; i++) {
            hammer.pairs[i].peer = -1;
            begin(&hammer, &hammer.pairs[i]);
        }
        for (int step = 0; step < steps; step++) {
            struct pair *one = &hammer.pairs[below(&hammer, ALL)];

            if (one->talk.count[TALK_CLOSE]) {
                begin(&hammer, one);
            }
            calls[below(&hammer, TEST_COUNT(calls))](&hammer, one);
            if (rarely(&hammer, 4)) {
                trial_turns(hammer.loop, 1);
            }
        }
        hammer_end(&hammer);
    }
}

static void call_anything(struct talk *talk)
{
    struct hammer *hammer = talk->context;
    struct pair *one = &hammer->pairs[below(hammer, ALL)];

    if (one->talk.stream != NULL && one->talk.count[TALK_CLOSE] == 0) {
        calls[below(hammer, TEST_COUNT(calls))](hammer, one);
    }
}

/* As that, from within callbacks, of itself and of others. */
static void random_calls_in_callbacks_keep_every_promise(void)
{
    const int steps = test_steps(STEPS, 1);
    struct hammer hammer = {.loop = test_loop(), .seed = 77};

    hammer.pairs = calloc(ALL, sizeof *hammer.pairs);
    assert_non_null(hammer.pairs);
    for (int i = 0; i < ALL; i++) {
        hammer.pairs[i].peer = -1;
        hammer.pairs[i].talk.count[TALK_CLOSE] = 1;
    }
    for (int step = 0; step < steps; step++) {
        struct pair *one = &hammer.pairs[below(&hammer, ALL)];

        if (one->talk.count[TALK_CLOSE]) {
            begin(&hammer, one);
            for (enum talk_event event = 0; event < TALK_EVENTS; event++) {
                one->talk.then[event] = call_anything;
            }
            one->talk.context = &hammer;
        }
        calls[below(&hammer, TEST_COUNT(calls))](&hammer, one);
        if (rarely(&hammer, 3)) {
            trial_turns(hammer.loop, 1);
        }
    }
    for (int i = 0; i < ALL; i++) {
        memset(hammer.pairs[i].talk.then, 0, sizeof hammer.pairs[i].talk.then);
        if (hammer.pairs[i].talk.stream == NULL) {
            hammer.pairs[i].talk.count[TALK_CLOSE] = 1;
        }
    }
    hammer_end(&hammer);
}

/* Data and a reset that were both there before the stream: the end must be told. */
static void reset_behind_data_before_the_open_ends_the_stream(void)
{
    for (int i = 0; i < 50; i++) {
        struct call call;
        int number;

        call_prepare(&call, test_tcp_pair, &number);
        wire_send_stream(call.peer, 1000, 0);
        wire_reset(call.peer);
        call.peer = -1;
        talk_adopt(&call.talk, call.loop, number);
        assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
        call_end(&call);
    }
}

/* R13: an urgent byte does not hold up or disturb the others. */
static void urgent_byte_is_no_harm(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    call.talk.unchecked = 1;
    for (int i = 0; i < 20; i++) {
        wire_send_stream(call.peer, 100, 0);
        assert_int_equal(send(call.peer, "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
        wire_send_stream(call.peer, 100, 0);
        talk_until_received(call.loop, &call.talk, (uint64_t)(i + 1) * 200);
    }
    assert_true(trial_idle_turns(call.loop, 50 * GYRE_MSEC) < 50);
    call_close_peer(&call);
    talk_until(call.loop, &call.talk, TALK_EOF, 1);
    call_end(&call);
}

/* H01: a byte now and then does not keep a peer beyond the deadline; in the meantime the others are
 * served. */
static void slow_peers_do_not_outlive_their_deadline(void)
{
    enum { PEERS = 20 };
    struct host host;
    uint64_t dialled[PEERS];
    int clients[PEERS];

    host_prepare(&host, PEERS);
    host.handler.total_timeout_ns = 100 * GYRE_MSEC;
    host_listen(&host, NULL);
    for (int i = 0; i < PEERS; i++) {
        dialled[i] = test_now();
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, PEERS);
    for (uint64_t round = 0; host.ended < PEERS; round++) {
        for (int i = 0; i < PEERS; i++) {
            uint8_t byte;

            wire_fill(&byte, 1, round);
            (void)!send(clients[i], &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        }
        trial_idle_turns(host.loop, 5 * GYRE_MSEC);
    }
    for (int i = 0; i < PEERS; i++) {
        assert_int_equal(host.talks[i].error, -ETIMEDOUT);
        assert_true(host.talks[i].at[TALK_TIMEOUT] - dialled[i] >= 100 * GYRE_MSEC);
        close(clients[i]);
    }
    host_end(&host);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"random_calls_keep_every_promise", random_calls_keep_every_promise, 60},
        {"random_calls_in_callbacks_keep_every_promise",
         random_calls_in_callbacks_keep_every_promise, 60},
        TEST_CASE(reset_behind_data_before_the_open_ends_the_stream),
        TEST_CASE(urgent_byte_is_no_harm),
        TEST_CASE(slow_peers_do_not_outlive_their_deadline),
    };

    return test_main("net-hostile", cases, TEST_COUNT(cases));
}
