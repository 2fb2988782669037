/* Sending: order, all of it, once; borrowed memory; watermarks; what it costs. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY 10000

static void keep_data(struct talk *talk)
{
    struct gyre_lease *kept = talk->context;

    if (kept->len == 0) {
        assert_int_equal(gyre_lease_retain(talk->data, kept), 0);
    }
}

/* Bytes of the wire stream that the peer sent, retained; what is forwarded of them carries on. */
static void forward_next(struct talk *talk, const struct gyre_lease *kept, size_t *done, size_t len)
{
    struct gyre_lease slice;

    assert_int_equal(gyre_lease_retain(kept, &slice), 0);
    assert_true(*done + len <= slice.len);
    slice.data += *done;
    slice.len = len;
    wire_fill(slice.data, len, talk->written);
    assert_true(gyre_stream_forward(talk->stream, &slice) >= 0);
    gyre_lease_release(&slice);
    talk->written += len;
    *done += len;
}

/* W01, W10 */
static void writes_of_mixed_kinds_leave_in_order(void)
{
    struct call call;
    struct gyre_lease kept = {0};
    size_t forwarded = 0;
    uint32_t seed = 7;
    int refs = 0;

    call_open(&call, test_unix_pair);
    call.talk.then[TALK_DATA] = keep_data;
    call.talk.context = &kept;
    wire_send_stream(call.peer, 4096, 0);
    talk_until(call.loop, &call.talk, TALK_DATA, 1);
    for (int i = 0; i < MANY; i++) {
        const uint32_t kind = wire_random(&seed, 4);

        if (kind == 0) {
            assert_true(talk_write_ref(&call.talk, 1 + wire_random(&seed, 200)) > 0);
            refs++;
        } else if (kind == 1 && forwarded < kept.len) {
            forward_next(&call.talk, &kept, &forwarded, 1);
        } else {
            assert_true(talk_write(&call.talk, wire_random(&seed, 200)) >= 0);
        }
        if (wire_random(&seed, 500) == 0) {
            trial_turns(call.loop, 1);
        }
        if (gyre_stream_queued(call.talk.stream) > (1 << 20)) {
            trial_turns(call.loop, 1);
        }
        assert_true(gyre_stream_queued(call.talk.stream) < (4 << 20));
    }
    assert_true(forwarded > 1000);
    talk_until_sent(call.loop, call.peer, call.talk.written, 0);
    trial_turns(call.loop, 3);
    assert_int_equal(call.talk.count[TALK_RELEASE], refs);
    assert_int_equal(gyre_stream_queued(call.talk.stream), 0);
    gyre_lease_release(&kept);
    call_end(&call);
}

/* A peer that takes little at a time, at times nothing. */
static void take_slowly(struct call *call, size_t len)
{
    uint32_t seed = 11;

    for (size_t got = 0; got < len;) {
        const size_t most = wire_random(&seed, 20000);

        trial_turns(call->loop, 1 + (int)wire_random(&seed, 2));
        got += wire_take_stream(call->peer, most < len - got ? most : len - got, got);
    }
}

/* W02 */
static void short_sends_to_a_slow_reader_lose_nothing(void)
{
    struct call call;
    const size_t len = 4 << 20;

    for (int kind = 0; kind < 2; kind++) {
        call_open(&call, kind ? test_tcp_pair : test_unix_pair);
        wire_send_buffer(gyre_stream_number(call.talk.stream), 2048);
        for (size_t queued = 0; queued < len / 2; queued += 64 << 10) {
            assert_true(talk_write(&call.talk, 64 << 10) > 0);
        }
        assert_true(talk_write_ref(&call.talk, len / 2) < 0 ||
                    call.talk.written == len); /* the cap is 4 MiB */
        take_slowly(&call, call.talk.written);
        trial_turns(call.loop, 3);
        assert_int_equal(gyre_stream_queued(call.talk.stream), 0);
        call_end(&call);
    }
}

/* C08: and then everything, in order. */
static void writes_before_connected_leave_after_it(void)
{
    struct talk talk;
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    const int listener = test_listener(&to.in);

    talk_init(&talk);
    talk_connect(&talk, loop, &to);
    for (int i = 0; i < 100; i++) {
        assert_true(talk_write(&talk, 100) > 0);
        assert_true(talk_write_ref(&talk, 1000) > 0);
    }
    assert_int_equal(gyre_stream_queued(&talk.own), 110000);
    assert_int_equal(gyre_stream_shutdown(&talk.own), 0);
    assert_int_equal(gyre_stream_write(&talk.own, "x", 1), -EPIPE);
    assert_int_equal(talk.count[TALK_OPEN], 0);
    test_turns_until(loop, &talk.count[TALK_OPEN]);
    const int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    talk_until_sent(loop, server, 110000, 0);
    trial_turns(loop, 5);
    assert_int_equal(wire_expect_end(server), 0);
    assert_int_equal(talk.count[TALK_RELEASE], 100);
    close(server);
    talk_until(loop, &talk, TALK_EOF, 1);
    talk_close(&talk);
    assert_int_equal(talk_end(loop, &talk), 0);
    close(listener);
    test_loop_end(loop);
}

/* What a release callback sees: its memory is free, and on_close() has not been. */
static void released_before_the_end(struct talk *talk)
{
    assert_int_equal(talk->count[TALK_CLOSE], 0);
}

enum ending { BY_RESET, BY_CLOSE, BY_PEER_RESET, BY_PEER_CLOSE, BY_DEADLINE, BY_LEAVING, ENDINGS };

static void end_by(struct call *call, enum ending how)
{
    switch (how) {
    case BY_RESET:
        talk_reset(&call->talk);
        break;
    case BY_PEER_RESET:
        wire_reset(call->peer);
        call->peer = -1;
        break;
    case BY_PEER_CLOSE:
        call_close_peer(call);
        break;
    case BY_DEADLINE:
        assert_int_equal(gyre_stream_set_deadline(call->talk.stream, 1), 0);
        break;
    default:
        talk_close(&call->talk);
        break;
    }
    while (call->talk.count[TALK_CLOSE] == 0) {
        if (how == BY_LEAVING) {
            wire_drain(call->peer);
            shutdown(call->peer, SHUT_WR);
        }
        assert_int_equal(
            gyre_loop_run(call->loop, how == BY_LEAVING ? GYRE_RUN_NOWAIT : GYRE_RUN_ONCE) < 0, 0);
    }
}

/* Also the queue of a close whose deadline passes. */
static void borrowed_memory_is_released_once_and_before_on_close(void)
{
    for (enum ending how = 0; how < ENDINGS; how++) {
        for (int turns = 0; turns < 3; turns++) {
            struct call call;
            int number;

            call_prepare(&call, test_tcp_pair, &number);
            call.talk.handler.close_timeout_ns = 50 * GYRE_MSEC;
            if (how == BY_LEAVING) {
                call.talk.handler.close_timeout_ns = GYRE_NEVER;
            }
            call.talk.then[TALK_RELEASE] = released_before_the_end;
            talk_adopt(&call.talk, call.loop, number);
            talk_until(call.loop, &call.talk, TALK_OPEN, 1);
            if (how != BY_LEAVING) {
                wire_send_buffer(gyre_stream_number(call.talk.stream), 2048);
            }
            for (int i = 0; i < 30; i++) {
                assert_true(talk_write_ref(&call.talk, 100000) > 0);
                assert_true(talk_write(&call.talk, 100) > 0);
            }
            trial_turns(call.loop, turns);
            end_by(&call, how);
            assert_int_equal(call.talk.count[TALK_RELEASE], 30);
            call_end(&call);
        }
    }
}

static void write_another(struct talk *talk)
{
    int *left = talk->context;

    if (talk->stream != NULL && *left > 0) {
        (*left)--;
        assert_true(talk_write_ref(talk, 100) > 0);
    }
}

/* W15: no recursion, nothing doubled. */
static void write_in_release_goes_on_for_ever(void)
{
    struct call call;
    int left = 100000;
    size_t taken = 0;

    call_open(&call, test_unix_pair);
    call.talk.then[TALK_RELEASE] = write_another;
    call.talk.context = &left;
    assert_int_equal(talk_write_ref(&call.talk, 100), 100);
    while (call.talk.count[TALK_RELEASE] < 100001) {
        trial_turns(call.loop, 1);
        taken += wire_take_stream(call.peer, 1 << 16, taken);
    }
    talk_until_sent(call.loop, call.peer, call.talk.written - taken, taken);
    call_end(&call);
}

static void check_low(struct talk *talk)
{
    assert_int_equal(gyre_stream_writable(talk->stream), 1);
    assert_true(gyre_stream_queued(talk->stream) <= talk->handler.write_low);
}

/* B01 */
static void on_drain_comes_once_when_the_queue_is_low(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.write_high = 100000;
    call.talk.handler.write_low = 20000;
    call.talk.then[TALK_DRAIN] = check_low;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    wire_send_buffer(number, 2048);
    size_t taken = 0;
    for (int round = 1; round <= 3; round++) {
        assert_int_equal(gyre_stream_writable(call.talk.stream), 1);
        assert_int_equal(talk_write(&call.talk, 100000), 100000);
        assert_int_equal(gyre_stream_writable(call.talk.stream), 1); /* not above it */
        for (int i = 0; i < 300; i++) {
            assert_true(talk_write(&call.talk, 1000) > 0);
            assert_int_equal(gyre_stream_writable(call.talk.stream), 0);
        }
        trial_turns(call.loop, 5);
        assert_int_equal(call.talk.count[TALK_DRAIN], round - 1);
        talk_until_sent(call.loop, call.peer, call.talk.written - taken, taken);
        taken = call.talk.written;
        trial_turns(call.loop, 3);
        assert_int_equal(call.talk.count[TALK_DRAIN], round);
    }
    call_end(&call);
}

static void write_small_once_unfilled_without_drain(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.write_high = 1000;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(talk_write(&call.talk, 1000), 1000);
        talk_until_sent(call.loop, call.peer, 1000, (uint64_t)i * 1000);
        trial_turns(call.loop, 2);
    }
    assert_int_equal(call.talk.count[TALK_DRAIN], 0);
    call_end(&call);
}

static void write_above_the_cap_is_refused_and_queues_nothing(void)
{
    struct call call;
    int number;
    static const uint8_t data[3000];

    call_prepare(&call, test_unix_pair, &number);
    call.talk.handler.write_high = 500;
    call.talk.handler.write_cap = 2000;
    talk_adopt(&call.talk, call.loop, number);
    struct gyre_stream *stream = &call.talk.own;
    assert_int_equal(gyre_stream_write(stream, data, 2001), -ENOBUFS);
    assert_int_equal(gyre_stream_write_ref(stream, data, 2001, NULL, NULL), -ENOBUFS);
    assert_int_equal(gyre_stream_queued(stream), 0);
    assert_int_equal(talk_write(&call.talk, 1999), 1999);
    assert_int_equal(gyre_stream_write(stream, data, 2), -ENOBUFS);
    assert_int_equal(gyre_stream_write_ref(stream, data, 2, NULL, NULL), -ENOBUFS);
    assert_int_equal(gyre_stream_queued(stream), 1999);
    assert_int_equal(talk_write(&call.talk, 1), 2000);
    assert_int_equal(gyre_stream_write(stream, data, 0), 2000);
    talk_until_sent(call.loop, call.peer, 2000, 0);
    trial_turns(call.loop, 2);
    assert_int_equal(wire_readable(call.peer), 0);
    assert_int_equal(talk_write(&call.talk, 2000), 2000);
    call_end(&call);
}

/* "default 4 MiB, or twice write_high if that is more" */
static void write_cap_has_its_default(void)
{
    for (int large = 0; large < 2; large++) {
        struct call call;
        int number;
        const size_t cap = large ? 6 << 20 : 4 << 20;

        call_prepare(&call, test_unix_pair, &number);
        call.talk.handler.write_high = large ? 3 << 20 : 0;
        talk_adopt(&call.talk, call.loop, number);
        assert_int_equal(talk_write(&call.talk, cap + 1), -ENOBUFS);
        assert_int_equal(talk_write(&call.talk, cap), (int)cap);
        assert_int_equal(talk_write(&call.talk, 1), -ENOBUFS);
        call_end(&call);
    }
}

static uint64_t sends(struct gyre_loop *loop)
{
    const struct gyre_loop_stats stats = trial_stats(loop);

    return stats.started[GYRE_OP_SEND] + stats.started[GYRE_OP_SENDMSG];
}

static void write_ten(struct talk *talk)
{
    for (int i = 0; i < 10; i++) {
        assert_true(talk_write(talk, 100) > 0);
    }
}

static void write_ten_of_both(struct talk *talk)
{
    for (int i = 0; i < 5; i++) {
        assert_true(talk_write(talk, 100) > 0);
        assert_true(talk_write_ref(talk, 100) > 0);
    }
}

/* "What is written in one turn leaves in one system call or submission." */
static void writes_of_one_turn_leave_in_one_send(void)
{
    static const talk_fn writers[] = {write_ten, write_ten_of_both};

    for (size_t i = 0; i < TEST_COUNT(writers); i++) {
        struct call call;

        call_open(&call, test_tcp_pair);
        call.talk.then[TALK_DATA] = writers[i];
        wire_send_stream(call.peer, 10, 0);
        talk_until_sent(call.loop, call.peer, 1000, 0);
        assert_int_equal(sends(call.loop), 1);
        writers[i](&call.talk);
        talk_until_sent(call.loop, call.peer, 1000, 1000);
        assert_int_equal(sends(call.loop), 2);
        call_end(&call);
    }
}

/* Written in three parts, each of which is enough to be worth a system call of its own. */
static void write_parts(struct call *call, const uint8_t *parts[3], size_t len)
{
    for (int i = 0; i < 3; i++) {
        assert_true(gyre_stream_write_ref(call->talk.stream, parts[i], len, NULL, NULL) > 0);
    }
}

/* A large write leaves at once where a system call makes it; an entry of the ring would only be read
 * at the end of the turn. There parts that lie side by side are one piece, others are pieces. */
static void large_writes_of_one_turn_leave_in_one_send_by_the_ring(void)
{
    enum { LEN = 20000 };
    static uint8_t data[3 * LEN];
    const uint8_t *orders[2][3] = {{data, data + 2 * LEN, data + LEN},
                                   {data, data + LEN, data + 2 * LEN}};
    struct call call;

    call_open(&call, test_tcp_pair);
    for (size_t i = 0; i < 2; i++) {
        const size_t before = i * sizeof(data);
        struct gyre_loop_stats stats;
        uint64_t sent;

        for (size_t k = 0; k < 3; k++) {
            wire_fill(data + (orders[i][k] - data), LEN, before + k * LEN);
        }
        trial_turns(call.loop, 3); /* the last finds nothing */
        stats = trial_stats(call.loop);
        sent = sends(call.loop);
        write_parts(&call, orders[i], LEN);
        talk_until_sent(call.loop, call.peer, sizeof(data), before);
        trial_turns(call.loop, 3);
        assert_int_equal(sends(call.loop) - sent, test_variant_uring() ? 1 : 2);
        assert_int_equal(trial_stats(call.loop).started[GYRE_OP_SENDMSG],
                         stats.started[GYRE_OP_SENDMSG] + (i == 0));
    }
    call_end(&call);
}

/* A part that is taken by half is gone on with from there, whatever lay beside it. */
static void parts_side_by_side_survive_short_sends(void)
{
    enum { LEN = 50000, ROUNDS = 10 };
    static uint8_t data[3 * LEN * ROUNDS];
    struct call call;

    wire_fill(data, sizeof(data), 0);
    call_open(&call, test_unix_pair);
    wire_send_buffer(gyre_stream_number(call.talk.stream), 2048);
    for (size_t at = 0; at < sizeof(data); at += 3 * LEN) {
        const uint8_t *parts[3] = {data + at, data + at + LEN, data + at + 2 * LEN};

        write_parts(&call, parts, LEN);
        trial_turns(call.loop, 1);
    }
    take_slowly(&call, sizeof(data));
    trial_turns(call.loop, 3);
    assert_int_equal(gyre_stream_queued(call.talk.stream), 0);
    call_end(&call);
}

static void forward_it(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) > 0);
}

static void write_it(struct talk *talk)
{
    assert_true(talk_write(talk, talk->data->len) > 0);
}

/* Design, section 6: "no allocation per message". */
static void messages_allocate_nothing_in_the_steady_state(void)
{
    static const talk_fn answers[] = {forward_it, write_it};

    for (size_t i = 0; i < TEST_COUNT(answers); i++) {
        struct call call;
        uint64_t before = 0;
        size_t live = 0;

        call_open(&call, test_tcp_pair);
        call.talk.then[TALK_DATA] = answers[i];
        for (uint64_t round = 0; round < 4000; round++) {
            if (round == 3000) {
                before = trial_stats(call.loop).allocations;
                live = gyre_allocator_live();
            }
            wire_send_stream(call.peer, 500, round * 500);
            talk_until_sent(call.loop, call.peer, 500, round * 500);
        }
        assert_int_equal(trial_stats(call.loop).allocations, before);
        assert_int_equal(gyre_allocator_live(), live);
        call_end(&call);
    }
}

static size_t allocated;

static void *counting_alloc(size_t len)
{
    allocated += len;
    return malloc(len);
}

static void *counting_zalloc(size_t len)
{
    allocated += len;
    return calloc(1, len);
}

static void *counting_resize(void *memory, size_t len)
{
    allocated += len;
    return realloc(memory, len);
}

static const struct gyre_allocator counting = {counting_alloc, counting_zalloc, counting_resize,
                                               free};

/* Memory is bounded: many small writes to a peer that takes none share theirs. */
static void small_writes_while_stalled_share_memory(void)
{
    struct call call;
    size_t taken = 0;

    assert_int_equal(gyre_allocator_set(&counting), 0);
    call_open(&call, test_unix_pair);
    wire_send_buffer(gyre_stream_number(call.talk.stream), 2048);
    assert_true(talk_write_ref(&call.talk, 100000) > 0);
    trial_turns(call.loop, 3);
    allocated = 0;
    for (int i = 0; i < 20000; i++) {
        assert_true(talk_write(&call.talk, 10) > 0);
    }
    assert_in_range(allocated, 0, 2 << 20); /* 200,000 bytes of data */
    while (taken < call.talk.written) {
        trial_turns(call.loop, 1);
        taken += wire_take_stream(call.peer, call.talk.written - taken, taken);
    }
    call_end(&call);
    assert_int_equal(gyre_allocator_set(NULL), 0);
}

static void write_arguments_out_of_range_are_refused(void)
{
    struct call call;
    struct gyre_stream idle = {0};
    const struct gyre_lease nothing = {0};

    call_open(&call, test_unix_pair);
    struct gyre_stream *stream = call.talk.stream;
    assert_int_equal(gyre_stream_write(NULL, "x", 1), -EINVAL);
    assert_int_equal(gyre_stream_write(&idle, "x", 1), -EINVAL);
    assert_int_equal(gyre_stream_write(stream, NULL, 1), -EINVAL);
    assert_int_equal(gyre_stream_write(stream, "x", (size_t)INT32_MAX + 1), -EINVAL);
    assert_int_equal(gyre_stream_write(stream, NULL, 0), 0);
    assert_int_equal(gyre_stream_write_ref(NULL, "x", 1, NULL, NULL), -EINVAL);
    assert_int_equal(gyre_stream_write_ref(stream, NULL, 1, NULL, NULL), -EINVAL);
    assert_int_equal(gyre_stream_write_ref(stream, "x", 0, NULL, NULL), -EINVAL);
    assert_int_equal(gyre_stream_forward(NULL, &nothing), -EINVAL);
    assert_int_equal(gyre_stream_forward(stream, NULL), -EINVAL);
    assert_int_equal(gyre_stream_forward(stream, &nothing), -EINVAL);
    trial_turns(call.loop, 3);
    assert_int_equal(wire_readable(call.peer), 0); /* W09 */
    assert_int_equal(sends(call.loop), 0);
    assert_int_equal(gyre_stream_write_ref(stream, "static", 6, NULL, NULL), 6);
    trial_turns(call.loop, 3);
    assert_int_equal(wire_readable(call.peer), 6);
    call_end(&call);
}

/* From one stream to another, and the forwarder's lease is its own to release. */
static void forwarded_bytes_outlive_their_stream(void)
{
    struct call from;
    struct talk to;
    struct gyre_lease kept = {0};
    int pair[2];

    call_open(&from, test_tcp_pair);
    test_tcp_pair(pair);
    talk_init(&to);
    talk_adopt(&to, from.loop, pair[0]);
    talk_until(from.loop, &to, TALK_OPEN, 1);
    from.talk.then[TALK_DATA] = keep_data;
    from.talk.context = &kept;
    wire_send_stream(from.peer, 1000, 0);
    talk_until(from.loop, &from.talk, TALK_DATA, 1);
    talk_reset(&from.talk);
    talk_end(from.loop, &from.talk);
    assert_int_equal(gyre_stream_forward(to.stream, &kept), 1000);
    gyre_lease_release(&kept);
    talk_until_sent(from.loop, pair[1], 1000, 0);
    talk_reset(&to);
    talk_end(from.loop, &to);
    close(pair[1]);
    call_end(&from);
}

/* What a callback does behind forwarding what it was given. Each is to leave behind that. */
static void write_more(struct talk *talk)
{
    assert_int_equal(talk_write(talk, 10), 20);
}

static void write_more_by_reference(struct talk *talk)
{
    assert_int_equal(talk_write_ref(talk, 10), 20);
}

static void write_nothing_more(struct talk *talk)
{
    assert_int_equal(gyre_stream_write(talk->stream, NULL, 0), 10);
}

static void shut_down_behind(struct talk *talk)
{
    assert_int_equal(gyre_stream_shutdown(talk->stream), 0);
    assert_int_equal(gyre_stream_forward(talk->stream, talk->data), -EPIPE);
}

static void close_behind(struct talk *talk)
{
    talk_close(talk);
}

static void couple_with_itself(struct talk *talk)
{
    assert_int_equal(gyre_stream_couple(talk->stream, talk->stream), 0);
}

static void set_times_anew(struct talk *talk)
{
    static struct gyre_stream_handler handler;

    handler = talk->handler;
    handler.write_timeout_ns = GYRE_SEC;
    handler.idle_timeout_ns = GYRE_SEC;
    assert_int_equal(gyre_stream_set_handler(talk->stream, &handler), 0);
    assert_int_equal(
        gyre_stream_set_deadline(talk->stream, gyre_loop_now(talk->own.fd.loop) + 60 * GYRE_SEC),
        0);
}

static talk_fn behind;

static void forward_and_go_on(struct talk *talk)
{
    assert_int_equal(talk->data->len, 10);
    assert_int_equal(gyre_stream_queued(talk->stream), 0);
    assert_int_equal(gyre_stream_forward(talk->stream, talk->data), 10);
    assert_int_equal(gyre_stream_queued(talk->stream), 10);
    talk->written = 10; /* the bytes that the peer sent are the beginning of what it gets */
    behind(talk);
}

static void what_follows_a_forward_leaves_behind_it(void)
{
    static const struct {
        talk_fn fn;
        size_t more;
    } followers[] = {
        {write_more, 10},        {write_more_by_reference, 10},
        {write_nothing_more, 0}, {shut_down_behind, 0},
        {close_behind, 0},       {couple_with_itself, 0},
        {set_times_anew, 0},
    };

    for (size_t i = 0; i < TEST_COUNT(followers); i++) {
        struct call call;

        call_open(&call, test_tcp_pair);
        behind = followers[i].fn;
        call.talk.then[TALK_DATA] = forward_and_go_on;
        wire_send_stream(call.peer, 10, 0);
        talk_until_sent(call.loop, call.peer, 10 + followers[i].more, 0);
        trial_turns(call.loop, 3);
        assert_int_equal(sends(call.loop), 1);
        call_end(&call);
    }
}

static void forward_again(struct talk *talk)
{
    assert_int_equal(gyre_stream_forward(talk->stream, talk->data), 20);
}

static void bytes_forwarded_twice_leave_twice(void)
{
    struct call call;
    char got[40];
    size_t count = 0;

    call_open(&call, test_tcp_pair);
    behind = forward_again;
    call.talk.then[TALK_DATA] = forward_and_go_on;
    assert_int_equal(send(call.peer, "0123456789", 10, 0), 10);
    call.talk.unchecked = 1;
    while (count < 20) {
        trial_turns(call.loop, 1);
        const ssize_t more = recv(call.peer, got + count, sizeof(got) - count, MSG_DONTWAIT);
        count += more > 0 ? (size_t)more : 0;
    }
    assert_int_equal(count, 20);
    assert_memory_equal(got, "01234567890123456789", 20);
    call_end(&call);
}

static void reset_behind(struct talk *talk)
{
    talk_reset(talk);
}

/* What was only forwarded is dropped as what is queued is. */
static void reset_behind_a_forward_drops_it(void)
{
    struct call call;
    char byte;

    call_open(&call, test_tcp_pair);
    behind = reset_behind;
    call.talk.then[TALK_DATA] = forward_and_go_on;
    wire_send_stream(call.peer, 10, 0);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(sends(call.loop), 0);
    assert_int_equal(recv(call.peer, &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, ECONNRESET);
    call_end(&call);
}

static void forward_to_a_slow_reader_loses_nothing(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    wire_send_buffer(gyre_stream_number(call.talk.stream), 4096);
    call.talk.then[TALK_DATA] = forward_it;
    for (uint64_t at = 0; at < 400000; at += 10000) {
        wire_send_stream(call.peer, 10000, at);
        trial_turns(call.loop, 1);
    }
    talk_until_sent(call.loop, call.peer, 400000, 0);
    call_end(&call);
}

static int is_short;

static void *short_alloc(size_t len)
{
    return is_short ? NULL : malloc(len);
}

static void *short_zalloc(size_t len)
{
    return is_short ? NULL : calloc(1, len);
}

static void *short_resize(void *memory, size_t len)
{
    return is_short ? NULL : realloc(memory, len);
}

static const struct gyre_allocator scarce = {short_alloc, short_zalloc, short_resize, free};

static void forward_or_reset(struct talk *talk)
{
    const int rc = gyre_stream_forward(talk->stream, talk->data);

    if (rc < 0) {
        assert_int_equal(rc, -ENOMEM);
        talk_reset(talk);
    }
}

/* The socket takes nothing, and there is no memory for a queue: refused, or the stream says so. */
static void forward_without_memory_is_never_lost_in_silence(void)
{
    static char filling[65536];
    struct call call;

    assert_int_equal(gyre_allocator_set(&scarce), 0);
    call_open(&call, test_unix_pair);
    call.talk.then[TALK_DATA] = forward_or_reset;
    while (send(gyre_stream_number(call.talk.stream), filling, sizeof(filling), MSG_DONTWAIT) > 0) {
    }
    wire_send_stream(call.peer, 10, 0);
    is_short = 1;
    talk_until(call.loop, &call.talk, TALK_CLOSE, 1);
    is_short = 0;
    assert_int_equal(call.talk.count[TALK_DATA], 1);
    assert_int_equal(call.talk.error, call.talk.ending ? 0 : -ENOMEM);
    call_end(&call);
    assert_int_equal(gyre_allocator_set(NULL), 0);
}

static void answer_by_forward(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
    talk->written += talk->data->len;
}

static void answer_by_write(struct talk *talk)
{
    assert_true(talk_write(talk, talk->data->len) >= 0);
}

/* io_uring: what is sent while nothing else goes on is an entry without a completion; the receive is
 * one too where the kernel does not go on with it. */
static void lone_answers_and_lone_writes_are_not_completed(void)
{
    const talk_fn answers[] = {answer_by_forward, answer_by_write};

    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        struct gyre_loop_info info;
        struct call call;

        call_open(&call, test_tcp_pair);
        call.talk.then[TALK_DATA] = answers[i];
        assert_int_equal(gyre_loop_info(call.loop, &info), 0);
        trial_turns(call.loop, 3); /* the last finds nothing */
        const struct gyre_loop_stats before = trial_stats(call.loop);
        wire_send_stream(call.peer, 100, 0);
        talk_until_sent(call.loop, call.peer, 100, 0);
        trial_turns(call.loop, 2);
        assert_int_equal(talk_write(&call.talk, 100), 100);
        talk_until_sent(call.loop, call.peer, 100, 100);
        const struct gyre_loop_stats after = trial_stats(call.loop);
        const int receives = !(info.features & GYRE_FEATURE_MULTISHOT);
        const int by_ring = info.backend == GYRE_BACKEND_URING;
        call_end(&call);
        /* Received by calls, the first is answered by one: the socket may have more. */
        const int by_call = !(info.features & GYRE_FEATURE_BUFFER_RING);
        assert_int_equal(after.sqes - before.sqes, by_ring ? 2 + receives - by_call : 0);
        assert_int_equal(after.cqes - before.cqes, by_ring); /* of the message */
    }
}

/* Where several send in a turn they share: nobody is alone, and on io_uring each is an entry. */
static void writes_of_two_streams_in_a_turn_are_collected(void)
{
    struct call call;
    struct talk other;
    int pair[2];

    call_open(&call, test_tcp_pair);
    test_tcp_pair(pair);
    talk_init(&other);
    talk_adopt(&other, call.loop, pair[0]);
    talk_until(call.loop, &other, TALK_OPEN, 1);
    trial_turns(call.loop, 3); /* the last finds nothing */
    const uint64_t before = trial_stats(call.loop).sqes;
    assert_int_equal(talk_write(&call.talk, 100), 100);
    assert_int_equal(talk_write(&other, 100), 100);
    talk_until_sent(call.loop, call.peer, 100, 0);
    talk_until_sent(call.loop, pair[1], 100, 0);
    const uint64_t entries = trial_stats(call.loop).sqes - before;
    talk_reset(&other);
    talk_end(call.loop, &other);
    close(pair[1]);
    call_end(&call);
    assert_int_equal(entries, test_variant_uring() ? 2 : 0);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(writes_of_mixed_kinds_leave_in_order),
        TEST_CASE(short_sends_to_a_slow_reader_lose_nothing),
        TEST_CASE(writes_before_connected_leave_after_it),
        TEST_CASE(borrowed_memory_is_released_once_and_before_on_close),
        TEST_CASE(write_in_release_goes_on_for_ever),
        TEST_CASE(on_drain_comes_once_when_the_queue_is_low),
        TEST_CASE(write_small_once_unfilled_without_drain),
        TEST_CASE(write_above_the_cap_is_refused_and_queues_nothing),
        TEST_CASE(write_cap_has_its_default),
        TEST_CASE(writes_of_one_turn_leave_in_one_send),
        TEST_CASE(large_writes_of_one_turn_leave_in_one_send_by_the_ring),
        TEST_CASE(parts_side_by_side_survive_short_sends),
        TEST_CASE(messages_allocate_nothing_in_the_steady_state),
        TEST_CASE(small_writes_while_stalled_share_memory),
        TEST_CASE(write_arguments_out_of_range_are_refused),
        TEST_CASE(forwarded_bytes_outlive_their_stream),
        TEST_CASE(what_follows_a_forward_leaves_behind_it),
        TEST_CASE(bytes_forwarded_twice_leave_twice),
        TEST_CASE(reset_behind_a_forward_drops_it),
        TEST_CASE(forward_to_a_slow_reader_loses_nothing),
        TEST_CASE(forward_without_memory_is_never_lost_in_silence),
        TEST_CASE(lone_answers_and_lone_writes_are_not_completed),
        TEST_CASE(writes_of_two_streams_in_a_turn_are_collected),
    };

    return test_main("net-send", cases, TEST_COUNT(cases));
}
