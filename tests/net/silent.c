/*
 * Answers that leave with the call that waits: on io_uring, what is sent while nothing else goes on. The
 * loop then sleeps, and does not know yet what became of it. Nobody may notice, but who counts calls.
 */
#include "dgramkit.h"
#include "talk.h"

#define SPAN (50 * GYRE_MSEC)

enum {
    WARM_UP = 200, /* also until it is decided how datagrams are received */
    MESSAGES = 240,
    DATAGRAMS = 60,
    LEN = 64,
};

static int on_uring(struct gyre_loop *loop, uint32_t features)
{
    struct gyre_loop_info info;

    assert_int_equal(gyre_loop_info(loop, &info), 0);
    return info.backend == GYRE_BACKEND_URING && (info.features & features) == features;
}

static void run_until_stopped(struct gyre_loop *loop)
{
    assert_true(gyre_loop_run(loop, GYRE_RUN_DEFAULT) >= 0);
}

/* ---- streams ---- */

/* Two streams of one loop, connected with each other. */
struct rally {
    struct gyre_loop *loop;
    struct talk ends[2];
    int left; /* messages */
};

static const char message[LEN] = "message";

static struct rally *rally_of(const struct talk *talk)
{
    return talk->context;
}

static void rally_open(struct rally *rally)
{
    int pair[2];

    memset(rally, 0, sizeof(*rally));
    rally->loop = test_loop();
    test_tcp_pair(pair);
    for (int i = 0; i < 2; i++) {
        talk_init(&rally->ends[i]);
        rally->ends[i].unchecked = 1;
        rally->ends[i].context = rally;
        talk_adopt(&rally->ends[i], rally->loop, pair[i]);
        wire_nodelay(pair[i]);
    }
    talk_until(rally->loop, &rally->ends[0], TALK_OPEN, 1);
    talk_until(rally->loop, &rally->ends[1], TALK_OPEN, 1);
}

static void rally_write(struct talk *talk)
{
    assert_true(gyre_stream_write(talk->stream, message, LEN) >= 0);
}

static void rally_start(struct rally *rally, int count)
{
    rally->left = count;
    rally_write(&rally->ends[0]);
    run_until_stopped(rally->loop);
}

static void rally_end(struct rally *rally)
{
    for (int i = 0; i < 2; i++) {
        if (rally->ends[i].stream != NULL) {
            talk_reset(&rally->ends[i]);
            talk_end(rally->loop, &rally->ends[i]);
        }
    }
    test_loop_end(rally->loop);
}

static void answer_by_forward(struct talk *talk)
{
    if (--rally_of(talk)->left == 0) {
        gyre_loop_stop(rally_of(talk)->loop);
    } else {
        assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
    }
}

static void answer_by_write(struct talk *talk)
{
    if (--rally_of(talk)->left == 0) {
        gyre_loop_stop(rally_of(talk)->loop);
    } else {
        rally_write(talk);
    }
}

static void lone_message_costs_one_call_on_io_uring_and_three_on_epoll(void)
{
    const talk_fn answers[] = {answer_by_forward, answer_by_write};

    for (size_t i = 0; i < TEST_COUNT(answers); i++) {
        struct rally rally;

        rally_open(&rally);
        rally.ends[0].then[TALK_DATA] = answers[i];
        rally.ends[1].then[TALK_DATA] = answers[i];
        rally_start(&rally, WARM_UP);
        const struct gyre_loop_stats before = trial_stats(rally.loop);
        rally_start(&rally, MESSAGES);
        const struct gyre_loop_stats after = trial_stats(rally.loop);
        const uint64_t calls = after.syscalls - before.syscalls;
        const int by_ring = on_uring(rally.loop, GYRE_FEATURE_BUFFER_RING);
        const int by_epoll = !on_uring(rally.loop, 0);
        const uint64_t completed = after.cqes - before.cqes;

        assert_int_equal(after.allocations, before.allocations);
        rally_end(&rally);
        assert_true(calls <= (by_ring ? 1 : by_epoll ? 3 : 4) * MESSAGES + 4);
        /* What was received, and no answer: completed, they could share a call too. */
        assert_true(!by_ring || completed <= MESSAGES + 4);
    }
}

/* What a server does in the turn in which it has answered. */
static void then_close(struct gyre_loop *loop, void *data)
{
    (void)loop;
    talk_close(data);
}

static void then_reset(struct gyre_loop *loop, void *data)
{
    (void)loop;
    talk_reset(data);
}

static void then_shut_down(struct gyre_loop *loop, void *data)
{
    struct talk *talk = data;

    (void)loop;
    assert_int_equal(gyre_stream_shutdown(talk->stream), 0);
}

static void then_write_and_close(struct gyre_loop *loop, void *data)
{
    (void)loop;
    rally_write(data);
    talk_close(data);
}

static void close_it(struct talk *talk)
{
    talk_close(talk);
}

static void stop_when_both_are_closed(struct talk *talk)
{
    struct rally *rally = rally_of(talk);

    if (rally->ends[0].stream == NULL && rally->ends[1].stream == NULL) {
        gyre_loop_stop(rally->loop);
    }
}

struct follow_up {
    gyre_post_fn fn;
    uint64_t bytes; /* that the peer gets */
};

static const struct follow_up *follow;

static void answer_and_more(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
    assert_int_equal(gyre_loop_post(rally_of(talk)->loop, follow->fn, talk), 0);
}

static void what_follows_an_answer_in_its_turn_does_not_wait(void)
{
    static const struct follow_up follow_ups[] = {
        {then_close, LEN},
        {then_shut_down, LEN},
        {then_write_and_close, 2 * LEN},
    };

    for (size_t i = 0; i < TEST_COUNT(follow_ups); i++) {
        struct rally rally;

        follow = &follow_ups[i];
        rally_open(&rally);
        for (int end = 0; end < 2; end++) {
            rally.ends[end].then[TALK_EOF] = close_it;
            rally.ends[end].then[TALK_CLOSE] = stop_when_both_are_closed;
        }
        rally.ends[1].then[TALK_DATA] = answer_and_more;
        rally_start(&rally, 0);
        assert_int_equal(rally.ends[0].received, follow->bytes);
        assert_int_equal(rally.ends[0].error, 0);
        assert_int_equal(rally.ends[1].error, 0);
        rally_end(&rally);
    }
}

static void reset_behind_an_answer_ends_at_once(void)
{
    static const struct follow_up reset = {then_reset, 0};
    struct rally rally;

    follow = &reset;
    rally_open(&rally);
    rally.ends[0].then[TALK_CLOSE] = stop_when_both_are_closed;
    rally.ends[1].then[TALK_CLOSE] = stop_when_both_are_closed;
    rally.ends[1].then[TALK_DATA] = answer_and_more;
    rally_start(&rally, 0);
    assert_int_equal(rally.ends[0].error, -ECONNRESET);
    rally_end(&rally);
}

static void answer(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
}

static void answer_and_stop(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
    gyre_loop_stop(gyre_stream_loop(talk->stream));
}

/* There may be no other run. */
static void answer_of_a_loop_that_stops_has_left(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_DATA] = answer_and_stop;
    trial_turns(call.loop, 3); /* the last finds nothing */
    wire_send_stream(call.peer, LEN, 0);
    run_until_stopped(call.loop);
    wire_expect_stream(call.peer, LEN, 0);
    call_end(&call);
}

static void answer_by_ref(struct talk *talk)
{
    assert_true(talk_write_ref(talk, LEN) > 0);
}

static void stop_it(struct talk *talk)
{
    gyre_loop_stop(gyre_stream_loop(talk->stream));
}

/* Though nothing else happens. */
static void borrowed_memory_of_an_answer_is_released_at_once(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_DATA] = answer_by_ref;
    call.talk.then[TALK_RELEASE] = stop_it;
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LEN, 0);
    run_until_stopped(call.loop);
    assert_int_equal(call.talk.count[TALK_RELEASE], 1);
    call.talk.then[TALK_RELEASE] = NULL;
    wire_expect_stream(call.peer, LEN, 0);
    call_end(&call);
}

/* Who waits for the queue by running the loop sees it become empty. */
static void queue_of_an_answer_is_empty_after_a_run_or_two(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_DATA] = answer;
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LEN, 0);
    talk_until(call.loop, &call.talk, TALK_DATA, 1);
    while (gyre_stream_queued(&call.talk.own) > 0) {
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_ONCE), 1);
    }
    wire_expect_stream(call.peer, LEN, 0);
    call_end(&call);
}

static void answer_and_shut_down(struct talk *talk)
{
    answer(talk);
    assert_int_equal(gyre_loop_post(gyre_stream_loop(talk->stream), then_shut_down, talk), 0);
}

/* Which sleeps when this one says that it has nothing to do. */
static void shutdown_behind_an_answer_inside_another_loop(void)
{
    char bytes[LEN];
    struct call call;
    ssize_t got = -1;

    call_open(&call, test_tcp_pair);
    struct pollfd outer = {.fd = gyre_loop_fd(call.loop), .events = POLLIN};
    call.talk.then[TALK_DATA] = answer_and_shut_down;
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LEN, 0);
    while (got != 0) {
        assert_int_equal(poll(&outer, 1, -1), 1);
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
        do {
            got = recv(call.peer, bytes, sizeof(bytes), MSG_DONTWAIT);
        } while (got > 0);
    }
    call_end(&call);
}

/* Until not a byte finds room, and the peer's side takes no more of it either. Returns how many went. */
static ssize_t fill_socket(int number, const uint8_t *bytes, size_t len)
{
    ssize_t filled = 0;

    for (int refused = 0; refused < 100; refused++) {
        for (size_t part = len; part > 0; part /= 2) {
            ssize_t sent;

            while ((sent = send(number, bytes, part, MSG_DONTWAIT)) > 0) {
                filled += sent;
                refused = 0;
            }
        }
    }
    return filled;
}

static void answer_without_room_leaves_later(void)
{
    static uint8_t filling[65536];
    struct call call;
    ssize_t filled;

    call_open(&call, test_tcp_pair);
    call.talk.then[TALK_DATA] = answer;
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LEN, 0); /* first: it acknowledges, which makes room */
    filled = fill_socket(gyre_stream_number(call.talk.stream), filling, sizeof(filling));
    talk_until(call.loop, &call.talk, TALK_DATA, 1);
    trial_turns(call.loop, 2);
    while (filled > 0) {
        const ssize_t got =
            recv(call.peer, filling,
                 (size_t)filled < sizeof(filling) ? (size_t)filled : sizeof(filling), MSG_DONTWAIT);

        filled -= got > 0 ? got : 0;
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
    }
    talk_until_sent(call.loop, call.peer, LEN, 0);
    call_end(&call);
}

/* The peer takes a part of it. */
static void answer_that_does_not_fit_leaves_in_parts(void)
{
    enum { LARGE = 60000 };
    const int small = 4096;
    struct call call;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    assert_int_equal(setsockopt(number, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    call.talk.then[TALK_DATA] = answer;
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LARGE, 0);
    talk_until_received(call.loop, &call.talk, LARGE);
    talk_until_sent(call.loop, call.peer, LARGE, 0);
    call_end(&call);
}

static uint64_t answered_at; /* by the loop's clock, which is that of times */

static void answer_and_note_when(struct talk *talk)
{
    answered_at = gyre_loop_now(gyre_stream_loop(talk->stream));
    answer(talk);
}

/* From when it was sent, and not from when that was known. */
static void idle_time_runs_from_the_answer(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.idle_timeout_ns = SPAN;
    call.talk.then[TALK_DATA] = answer_and_note_when;
    call.talk.then[TALK_TIMEOUT] = stop_it;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    wire_send_stream(call.peer, LEN, 0);
    talk_until(call.loop, &call.talk, TALK_DATA, 1);
    run_until_stopped(call.loop);
    const uint64_t span = call.talk.at[TALK_TIMEOUT] - answered_at;
    assert_true(span >= SPAN);
    assert_true(span < SPAN + SPAN / 2 || !test_is_simulated()); /* how late is not judged else */
    call_end(&call);
}

static void then_write_much(struct gyre_loop *loop, void *data)
{
    (void)loop;
    assert_true(talk_write_ref(data, 16 << 20) > 0);
}

static void answer_and_much(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
    assert_int_equal(gyre_loop_post(gyre_stream_loop(talk->stream), then_write_much, talk), 0);
}

/* The queue was never empty since the answer. */
static void what_is_written_behind_an_answer_has_its_time(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.write_timeout_ns = SPAN;
    call.talk.handler.write_high = 32 << 20;
    call.talk.then[TALK_DATA] = answer_and_much;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, LEN, 0);
    assert_int_equal(talk_end(call.loop, &call.talk), -ETIMEDOUT);
    assert_int_equal(call.talk.which, GYRE_TIMEOUT_WRITE);
    call_end(&call);
}

/* ---- datagrams ---- */

/* Two sockets of one loop. */
struct volley {
    struct gyre_loop *loop;
    struct mate mates[2];
    int left; /* datagrams */
    gyre_post_fn follow;
};

static void return_it(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct volley *volley = mate->context;

    if (--volley->left <= 0) {
        gyre_loop_stop(volley->loop);
    } else {
        mate_echo(mate, datagram);
    }
}

static void volley_start(struct volley *volley, int count)
{
    const struct gyre_addr to = mate_addr(&volley->mates[1]);

    volley->left = count;
    trial_turns(volley->loop, 3); /* the last finds nothing: it is alone */
    assert_int_equal(gyre_dgram_send(&volley->mates[0].dgram, &to, message, LEN), 0);
    run_until_stopped(volley->loop);
}

static void volley_open(struct volley *volley)
{
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    volley->loop = test_loop();
    for (int i = 0; i < 2; i++) {
        struct mate *mate = &volley->mates[i];

        mate_open(mate, volley->loop, (struct gyre_dgram_options){.local = &local});
        mate->context = volley;
        mate->then = return_it;
    }
    volley_start(volley, WARM_UP);
}

static void volley_end(struct volley *volley)
{
    for (int i = 0; i < 2; i++) {
        if (volley->mates[i].closes == 0) {
            mate_close(&volley->mates[i]);
        }
    }
    test_loop_end(volley->loop);
}

/* Between two looks for others; behind one, these two would no more be alone: what a call sends at once is
 * there before the loop looks. */
static void lone_datagram_costs_one_call_on_io_uring_and_three_on_epoll(void)
{
    static struct volley volley;

    volley_open(&volley);
    const struct gyre_loop_stats before = trial_stats(volley.loop);
    volley_start(&volley, DATAGRAMS);
    const struct gyre_loop_stats after = trial_stats(volley.loop);
    const uint64_t calls = after.syscalls - before.syscalls;
    const int by_ring = on_uring(volley.loop, 0);

    assert_int_equal(after.allocations, before.allocations);
    volley_end(&volley);
    assert_true(calls <= (by_ring ? 1 : 3) * DATAGRAMS + 4);
}

static void answer_and_follow(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct volley *volley = mate->context;

    mate_echo(mate, datagram);
    assert_int_equal(gyre_loop_post(volley->loop, volley->follow, mate), 0);
}

static void then_send_another(struct gyre_loop *loop, void *data)
{
    struct mate *mate = data;

    (void)loop;
    assert_int_equal(gyre_dgram_send(&mate->dgram, &mate->from, "x", 1), 0);
}

static void then_close_socket(struct gyre_loop *loop, void *data)
{
    struct mate *mate = data;

    (void)loop;
    assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
}

static void stop_at_the_last(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct volley *volley = mate->context;

    assert_int_equal(datagram->len,
                     volley->left == 1 && volley->follow == then_send_another ? 1 : LEN);
    if (--volley->left == 0) {
        gyre_loop_stop(volley->loop);
    }
}

/* One is answered, and more is done in that turn; @count come back. */
static void volley_follow(struct volley *volley, gyre_post_fn follow_up, int count)
{
    volley_open(volley);
    volley->follow = follow_up;
    volley->mates[0].then = stop_at_the_last;
    volley->mates[1].then = answer_and_follow;
    volley_start(volley, count);
}

static void datagram_behind_an_answer_leaves_behind_it(void)
{
    static struct volley volley;

    volley_follow(&volley, then_send_another, 2);
    volley_end(&volley);
}

static void answer_of_a_socket_that_is_closed_in_its_turn_has_left(void)
{
    static struct volley volley;

    volley_follow(&volley, then_close_socket, 1);
    test_turns_until(volley.loop, &volley.mates[1].closes);
    assert_int_equal(volley.mates[1].errors, 0);
    volley_end(&volley);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(lone_message_costs_one_call_on_io_uring_and_three_on_epoll),
        TEST_CASE(what_follows_an_answer_in_its_turn_does_not_wait),
        TEST_CASE(reset_behind_an_answer_ends_at_once),
        TEST_CASE(answer_of_a_loop_that_stops_has_left),
        TEST_CASE(borrowed_memory_of_an_answer_is_released_at_once),
        TEST_CASE(queue_of_an_answer_is_empty_after_a_run_or_two),
        TEST_CASE(shutdown_behind_an_answer_inside_another_loop),
        TEST_CASE(answer_without_room_leaves_later),
        TEST_CASE(answer_that_does_not_fit_leaves_in_parts),
        TEST_CASE(idle_time_runs_from_the_answer),
        TEST_CASE(what_is_written_behind_an_answer_has_its_time),
        TEST_CASE(lone_datagram_costs_one_call_on_io_uring_and_three_on_epoll),
        TEST_CASE(datagram_behind_an_answer_leaves_behind_it),
        TEST_CASE(answer_of_a_socket_that_is_closed_in_its_turn_has_left),
    };

    return test_main("net-silent", cases, TEST_COUNT(cases));
}
