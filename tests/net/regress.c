/*
 * Bugs of the net layer that were found by reading and by fuzzing, each as the smallest program that
 * showed it. All runs are bounded by the case's time limit: what hung then hangs again if the mend
 * goes.
 */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a test does from within the loop: what it changes is met in that same turn. */
struct strike {
    struct gyre_timer timer;
    struct call *call;
    void (*fn)(struct call *call);
    int done;
};

static void on_strike(struct gyre_timer *timer)
{
    struct strike *strike = gyre_container_of(timer, struct strike, timer);

    strike->fn(strike->call);
    strike->done = 1;
}

static void strike(struct call *call, void (*fn)(struct call *call))
{
    struct strike strike = {.call = call, .fn = fn};

    assert_int_equal(gyre_timer_init(&strike.timer, call->loop, on_strike), 0);
    assert_int_equal(gyre_timer_start(&strike.timer, 1), 0);
    test_turns_until(call->loop, &strike.done);
}

/* The peer resets the connection; on return that has arrived, and nobody was told. */
static void reset_arrives(struct call *call)
{
    struct pollfd one = {.fd = gyre_stream_number(call->talk.stream)};

    wire_reset(call->peer);
    call->peer = -1;
    assert_int_equal(poll(&one, 1, -1), 1);
}

/* An open TCP stream whose receive is with the driver. */
static void open_and_waiting(struct call *call)
{
    call_open(call, test_tcp_pair);
    trial_turns(call->loop, 3);
}

/* A loop whose receives take little at a time. */
static struct gyre_loop *loop_of_small_blocks(void)
{
    struct gyre_loop_options options = test_options();

    options.pool_block = 4096;
    return test_loop_with(&options);
}

#define MUCH (1100 << 10)

static void write_much_to_the_coupled(struct talk *talk)
{
    if (talk->count[TALK_DATA] == 1) {
        assert_true(talk_write_ref(talk->context, MUCH) > 0);
    }
}

/* What was in hand overtook what had been kept when the other's queue was full for a moment. */
static void coupled_queue_that_drains_at_once_keeps_the_order(void)
{
    const size_t len = 48 << 10;
    struct gyre_loop *loop = loop_of_small_blocks();
    struct talk from;
    struct talk to;
    int in[2];
    int out[2];

    test_tcp_pair(in);
    test_tcp_pair(out);
    wire_send_buffer(out[0], 4 << 20);
    talk_init(&from);
    talk_init(&to);
    from.then[TALK_DATA] = write_much_to_the_coupled;
    from.context = &to;
    talk_adopt(&from, loop, in[0]);
    talk_adopt(&to, loop, out[0]);
    assert_int_equal(gyre_stream_couple(&from.own, &to.own), 0);
    trial_turns(loop, 3);
    wire_send_stream(in[1], len, 0);
    while (from.received < len) {
        trial_turns(loop, 1);
        wire_drain(out[1]);
    }
    talk_reset(&from);
    talk_reset(&to);
    assert_int_equal(talk_end(loop, &from), 0);
    assert_int_equal(talk_end(loop, &to), 0);
    close(in[1]);
    close(out[1]);
    test_loop_end(loop);
}

static void meet_a_reset_by_reference(struct call *call)
{
    reset_arrives(call);
    assert_true(talk_write_ref(&call->talk, 100) > 0);
}

/* Never ended: the close from within found a stream that was neither sending nor receiving. */
static void close_in_the_release_of_a_failed_send_ends(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.close_timeout_ns = GYRE_NEVER;
    call.talk.then[TALK_RELEASE] = talk_close;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    trial_turns(call.loop, 3);
    strike(&call, meet_a_reset_by_reference);
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    assert_int_equal(call.talk.count[TALK_RELEASE], 1);
    call_end(&call);
}

static void expect_nodelay(struct talk *talk)
{
    int on = 0;
    socklen_t len = sizeof on;

    assert_int_equal(
        getsockopt(gyre_stream_number(talk->stream), IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
    assert_true(on);
}

/* Only the sockets of a listener that gyre had opened itself were without Nagle's delay. */
static void stream_accepted_by_an_adopted_listener_has_no_delay(void)
{
    struct host host;
    int client;

    host_prepare(&host, 1);
    host.then[TALK_OPEN] = expect_nodelay;
    assert_int_equal(
        gyre_listen_adopt(host.loop, &host.listener, test_listener(NULL), &host.options), 0);
    assert_int_equal(gyre_listener_address(&host.listener, &host.address), 0);
    client = host_dial(&host);
    test_turns_until(host.loop, &host.opened);
    host_end(&host);
    close(client);
}

static void meet_a_reset(struct call *call)
{
    reset_arrives(call);
    assert_int_equal(talk_write(&call->talk, 1), 1);
}

/* The send that was tried at once got ECONNRESET and dropped it; the next one was told EPIPE. */
static void send_that_meets_a_reset_tells_it(void)
{
    struct call call;

    open_and_waiting(&call);
    strike(&call, meet_a_reset);
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    assert_int_equal(call.talk.count[TALK_EOF], 0);
    call_end(&call);
}

static void stuff_and_meet_a_reset(struct call *call)
{
    assert_true(wire_stuff(call->peer) > 0);
    meet_a_reset(call);
}

/* The send got the error, the receive's 0 behind the data passed for an end: bytes were missing. */
static void reset_that_a_send_met_is_no_end_of_the_data(void)
{
    struct call call;

    open_and_waiting(&call);
    call.talk.unchecked = 1;
    strike(&call, stuff_and_meet_a_reset);
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    assert_int_equal(call.talk.count[TALK_EOF], 0);
    call_end(&call);
}

static int datagrams;

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    (void)dgram;
    (void)datagram;
    datagrams++;
}

static const struct gyre_dgram_handler counting = {.on_datagram = on_datagram};

enum { PASSED = 5 };

static void send_descriptors(int number)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(PASSED * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(PASSED * sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    const struct msghdr message = {.msg_iov = &piece,
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = sizeof control};

    for (size_t i = 0; i < PASSED; i++) {
        memcpy(CMSG_DATA(&control.header) + i * sizeof number, &number, sizeof number);
    }
    assert_int_equal(sendmsg(number, &message, MSG_NOSIGNAL), 1);
}

/* A flag for IP sockets made room for control data, in which descriptors came, to stay open. */
static void descriptors_sent_to_a_datagram_socket_do_not_stay(void)
{
    const struct gyre_dgram_options options = {.handler = &counting,
                                               .flags = GYRE_DGRAM_PACKET_INFO};
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram dgram;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, pair[0], &options), 0);
    const size_t before = test_open_fds();
    for (int i = 0; i < 10; i++) {
        send_descriptors(pair[1]);
        test_turns_until_count(loop, &datagrams, i + 1);
    }
    assert_int_equal(test_open_fds(), before);
    assert_int_equal(gyre_dgram_close(&dgram), 0);
    while (gyre_loop_run(loop, GYRE_RUN_DEFAULT) > 0) {
    }
    close(pair[1]);
    test_loop_end(loop);
}

/* Pieces of one byte each weighed one byte: their memory had no bound below millions of them. */
static void queue_of_tiny_pieces_asks_to_slow_down(void)
{
    const int most = 10000; /* pairs of a byte copied and one by reference */
    struct call call;
    int pairs = 0;

    call_open(&call, test_tcp_pair);
    while (gyre_stream_writable(call.talk.stream) && pairs < most) {
        assert_true(talk_write(&call.talk, 1) > 0);
        assert_true(talk_write_ref(&call.talk, 1) > 0);
        pairs++;
    }
    assert_true(pairs < most);
    talk_until_sent(call.loop, call.peer, call.talk.written, 0);
    talk_until(call.loop, &call.talk, TALK_DRAIN, 1);
    assert_int_equal(call.talk.count[TALK_RELEASE], pairs);
    call_end(&call);
}

static void refuse_and_drain(uint32_t write_high, uint32_t write_cap)
{
    struct call call;
    int number;
    int rc;

    call_prepare(&call, test_unix_pair, &number);
    wire_send_buffer(number, 4096);
    call.talk.handler.write_high = write_high;
    call.talk.handler.write_cap = write_cap;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    while ((rc = talk_write_ref(&call.talk, 30000)) > 0) {
    }
    assert_int_equal(rc, -ENOBUFS);
    assert_int_equal(gyre_stream_writable(call.talk.stream), 0);
    talk_until_sent(call.loop, call.peer, call.talk.written, 0);
    talk_until(call.loop, &call.talk, TALK_DRAIN, 1);
    assert_true(gyre_stream_writable(call.talk.stream));
    call_end(&call);
}

/* Refused for its cap, but below its high mark: it was "writable", and on_drain() never came. */
static void write_refused_below_the_high_mark_is_told_of_room(void)
{
    refuse_and_drain(0, 100000);
    refuse_and_drain(60000, 80000);
}

static void fail_to_send_and_resume(struct call *call)
{
    assert_int_equal(shutdown(call->peer, SHUT_RD), 0);
    assert_true(talk_write(&call->talk, 20000) > 0); /* so much does not wait for the turn's end */
    talk_resume(&call->talk);
}

/* What had come while it was paused was dropped when sending failed, and later bytes handed out. */
static void bytes_kept_while_paused_outlive_a_failed_send(void)
{
    struct call call;

    call_open(&call, test_unix_pair);
    trial_turns(call.loop, 3);
    talk_pause(&call.talk);
    wire_send_stream(call.peer, 4, 0);
    while (wire_readable(gyre_stream_number(call.talk.stream)) > 0) {
        trial_turns(call.loop, 1);
    }
    trial_turns(call.loop, 3);
    wire_send_stream(call.peer, 4, 4);
    strike(&call, fail_to_send_and_resume);
    talk_until_received(call.loop, &call.talk, 8);
    wire_send_stream(call.peer, 5, 8);
    call_close_peer(&call);
    assert_int_equal(talk_end(call.loop, &call.talk), -EPIPE);
    assert_int_equal(call.talk.received, 13);
    call_end(&call);
}

static int scarce;

static void *scarce_alloc(size_t len)
{
    return scarce ? NULL : malloc(len);
}

static void *scarce_zalloc(size_t len)
{
    return scarce ? NULL : calloc(1, len);
}

static void *scarce_resize(void *memory, size_t len)
{
    return scarce ? NULL : realloc(memory, len);
}

static const struct gyre_allocator allocator = {scarce_alloc, scarce_zalloc, scarce_resize, free};

/* Reads all that comes; returns what the read behind it said. */
static int read_to_the_end(int number)
{
    static char data[64 << 10];
    ssize_t got;

    do {
        got = recv(number, data, sizeof data, 0);
    } while (got > 0);
    return got < 0 ? -errno : 0;
}

/* The stream that lacked memory to keep a byte ended in order: a part passed for the whole. */
static void stream_out_of_memory_resets_what_it_has_not_sent(void)
{
    enum { PIECES = 191 }; /* with the first: all the chunks that were taken at once */
    struct call call;

    assert_int_equal(gyre_allocator_set(&allocator), 0);
    open_and_waiting(&call);
    wire_send_buffer(gyre_stream_number(call.talk.stream), 4096);
    assert_true(talk_write_ref(&call.talk, 3 << 20) > 0);
    for (int i = 0; i < PIECES; i++) {
        assert_true(talk_write_ref(&call.talk, 1) > 0);
    }
    trial_turns(call.loop, 1);
    talk_pause(&call.talk);
    scarce = 1;
    wire_send_stream(call.peer, 1, 0);
    assert_int_equal(talk_end(call.loop, &call.talk), -ENOMEM);
    scarce = 0;
    assert_int_equal(read_to_the_end(call.peer), -ECONNRESET);
    call_end(&call);
    assert_int_equal(gyre_allocator_set(NULL), 0);
}

/* A multishot accept took the whole backlog, descriptors and all, for a listener of one stream. */
static void listener_at_its_maximum_leaves_the_backlog_alone(void)
{
    enum { CLIENTS = 200 };
    struct host host;
    int clients[CLIENTS];

    host_prepare(&host, CLIENTS);
    host.options.max_connections = 1;
    host_listen(&host, NULL);
    const size_t before = test_open_fds();
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until(host.loop, &host.opened);
    trial_turns(host.loop, 20);
    assert_int_equal(gyre_listener_count(&host.listener), 1);
    assert_int_equal(test_open_fds(), before + CLIENTS + 1);
    for (int i = 0; i < CLIENTS; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

struct pauser {
    struct call call;
    int told;
};

static void pause_in_on_descriptors(struct gyre_stream *stream, size_t count)
{
    struct pauser *pauser = gyre_container_of(stream, struct pauser, call.talk.own);

    assert_int_equal(count, PASSED);
    pauser->told++;
    talk_pause(&pauser->call.talk);
}

/* The byte came although the stream had been paused when its descriptors were told. */
static void pause_in_on_descriptors_keeps_the_bytes(void)
{
    struct pauser pauser = {0};
    struct talk *talk = &pauser.call.talk;
    int number;

    call_prepare(&pauser.call, test_unix_pair, &number);
    talk->handler.flags = GYRE_STREAM_DESCRIPTORS;
    talk->handler.on_descriptors = pause_in_on_descriptors;
    talk->unchecked = 1;
    talk_adopt(talk, pauser.call.loop, number);
    talk_until(pauser.call.loop, talk, TALK_OPEN, 1);
    const size_t before = test_open_fds();
    for (int i = 0; i < 4; i++) {
        if (i % 2) {
            talk_pause(talk); /* so that it is kept first, with its descriptors */
        }
        send_descriptors(pauser.call.peer);
        trial_turns(pauser.call.loop, 5);
        if (i % 2) {
            talk_resume(talk);
        }
        test_turns_until_count(pauser.call.loop, &pauser.told, i + 1);
        trial_turns(pauser.call.loop, 5);
        assert_int_equal(talk->received, i);
        talk_resume(talk);
        talk_until_received(pauser.call.loop, talk, (uint64_t)i + 1);
    }
    assert_int_equal(pauser.told, 4);
    assert_int_equal(test_open_fds(), before);
    call_end(&pauser.call);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(coupled_queue_that_drains_at_once_keeps_the_order),
        TEST_CASE(close_in_the_release_of_a_failed_send_ends),
        TEST_CASE(stream_accepted_by_an_adopted_listener_has_no_delay),
        TEST_CASE(send_that_meets_a_reset_tells_it),
        TEST_CASE(reset_that_a_send_met_is_no_end_of_the_data),
        TEST_CASE(descriptors_sent_to_a_datagram_socket_do_not_stay),
        TEST_CASE(queue_of_tiny_pieces_asks_to_slow_down),
        TEST_CASE(write_refused_below_the_high_mark_is_told_of_room),
        TEST_CASE(bytes_kept_while_paused_outlive_a_failed_send),
        TEST_CASE(stream_out_of_memory_resets_what_it_has_not_sent),
        TEST_CASE(listener_at_its_maximum_leaves_the_backlog_alone),
        TEST_CASE(pause_in_on_descriptors_keeps_the_bytes),
    };

    return test_main("net-regress", cases, TEST_COUNT(cases));
}
