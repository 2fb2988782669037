/* Datagram sockets: sending, its queue, its errors, segments, memory by reference. */
#include "dgramkit.h"

#include <netinet/udp.h>
#include <sched.h>
#include <sys/wait.h>

#define NOT_ALLOWED 99

static void open_v4(struct mate *mate, struct gyre_loop *loop)
{
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    mate_open(mate, loop, (struct gyre_dgram_options){.local = &local});
}

static int send_numbers(struct mate *mate, const struct gyre_addr *to, uint32_t first,
                        uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        const int rc = gyre_dgram_send(&mate->dgram, to, &i, sizeof(i));

        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- the queue ---- */

static void send_leaves_at_the_end_of_the_turn_in_order_and_together(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct gyre_loop_stats before;
    struct mate client;

    open_v4(&client, loop);
    trial_turns(loop, 2);
    before = trial_stats(loop);
    assert_int_equal(send_numbers(&client, &there, 0, 50), 0);
    assert_int_equal(gyre_dgram_queued(&client.dgram), 50 * 4);
    plain_expect_none(server);
    assert_int_equal(trial_stats(loop).syscalls, before.syscalls);
    trial_turns(loop, 1);
    assert_int_equal(gyre_dgram_queued(&client.dgram), 0);
    plain_expect_numbers(server, 0, 50);
    plain_expect_none(server);
    assert_true(trial_stats(loop).syscalls - before.syscalls <= 4);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void send_full_batch_leaves_at_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct mate client;

    open_v4(&client, loop);
    assert_int_equal(send_numbers(&client, &there, 0, 100), 0);
    plain_expect_numbers(server, 0, 64);
    plain_expect_none(server);
    trial_turns(loop, 1);
    plain_expect_numbers(server, 64, 36);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void send_above_the_limits_is_refused_and_drain_follows(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    uint8_t bytes[1000] = {0};
    struct mate client;

    mate_open(&client, loop,
              (struct gyre_dgram_options){.local = &local, .queue_count = 10, .queue_bytes = 1500});
    for (uint32_t round = 0; round < 3; round++) {
        assert_int_equal(send_numbers(&client, &there, 10 * round, 10), 0);
        assert_int_equal(send_numbers(&client, &there, 0, 1), -ENOBUFS);
        assert_int_equal(client.drains, round);
        test_turns_until_count(loop, &client.drains, (int)round + 1);
    }
    plain_expect_numbers(server, 0, 30);
    plain_expect_none(server);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 1000), 0);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 501), -ENOBUFS);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 500), 0);
    test_turns_until_count(loop, &client.drains, 4);
    trial_turns(loop, 3);
    assert_int_equal(client.drains, 4);
    assert_int_equal(client.errors, 0);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* Nobody would ever tell that there is room for it. */
static void send_longer_than_the_queue_is_refused_for_good(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    uint8_t bytes[1001] = {0};
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.local = &local, .queue_bytes = 1000});
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 1001), -EMSGSIZE);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 1000), 0);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 1001), -EMSGSIZE);
    trial_turns(loop, 3);
    assert_int_equal(client.drains, 0);
    assert_int_equal(plain_take(server, bytes, sizeof(bytes), NULL), 1000);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void send_copies_the_bytes_and_the_address(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    static uint8_t bytes[40000];
    static uint8_t got[40000];
    struct gyre_addr to = there;
    struct mate client;

    open_v4(&client, loop);
    for (int i = 0; i < 5; i++) {
        const size_t len = (size_t)i * 9999;

        to = there;
        wire_fill(bytes, len, WIRE_STREAM(i));
        assert_int_equal(gyre_dgram_send(&client.dgram, &to, bytes, len), 0);
        memset(bytes, 0xee, sizeof(bytes));
        memset(&to, 0xee, sizeof(to));
    }
    trial_turns(loop, 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(plain_take(server, got, sizeof(got), NULL), i * 9999);
        wire_check(got, (size_t)i * 9999, WIRE_STREAM(i));
    }
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* ---- a socket that takes no more ---- */

static void fill(struct gyre_loop *loop, struct mate *client)
{
    assert_int_equal(send_numbers(client, NULL, 0, 2000), 0);
    trial_turns(loop, 3);
    assert_true(gyre_dgram_queued(&client->dgram) > 0);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
}

static void read_all(struct gyre_loop *loop, struct mate *client, int server)
{
    uint32_t taken = 0;
    uint32_t number;

    while (taken < 2000) {
        plain_until(loop, server);
        while (plain_take(server, &number, sizeof(number), NULL) == sizeof(number)) {
            assert_int_equal(number, taken);
            taken++;
        }
    }
    assert_int_equal(client->errors, 0);
    assert_int_equal(gyre_dgram_queued(&client->dgram), 0);
}

/* @client is one of a pair. Returns the other. */
static int adopt_pair(struct mate *client, struct gyre_loop *loop)
{
    struct gyre_dgram_options options = {.handler = &mate_handler};
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    client->loop = loop;
    assert_int_equal(gyre_dgram_adopt(&client->dgram, loop, pair[0], &options), 0);
    return pair[1];
}

static void send_to_a_full_unix_pair_waits_for_room(void)
{
    struct gyre_loop *loop = test_loop();
    static struct mate client;
    const int server = adopt_pair(&client, loop);

    fill(loop, &client);
    read_all(loop, &client, server);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* What comes is waited for again and again meanwhile, alone and not. */
static void receive_while_waiting_for_room_forgets_neither(void)
{
    struct gyre_loop *loop = test_loop();
    static struct mate client;
    const int server = adopt_pair(&client, loop);
    int sent = 0;

    for (int round = 0; round < 3; round++) {
        for (; sent % 20 != 19; sent++) {
            assert_int_equal(send(server, "one", 3, 0), 3);
            mate_until(&client, sent + 1);
        }
        fill(loop, &client);
        for (int i = 0; i < 21; i++) {
            const int more = 1 + i % 3;

            for (int k = 0; k < more; k++) {
                assert_int_equal(send(server, "one", 3, 0), 3);
            }
            sent += more;
            mate_until(&client, sent);
        }
        assert_true(gyre_dgram_queued(&client.dgram) > 0);
        read_all(loop, &client, server);
    }
    assert_int_equal(client.datagrams, sent);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void send_to_a_full_connected_unix_socket_waits_for_room(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_unix(&there);
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    fill(loop, &client);
    read_all(loop, &client, server);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* Nothing would tell when there is room; and the others must not wait for one. */
static void send_to_a_full_unconnected_unix_socket_fails_and_the_rest_goes_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr full;
    struct gyre_addr there;
    const int idle = plain_unix(&full);
    const int server = plain_unix(&there);
    struct gyre_dgram_stats stats;
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UNIX});
    for (uint32_t i = 0; i < 500; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, &full, &i, sizeof(i)), 0);
        if (i % 100 == 0) {
            const uint32_t number = i / 100;

            assert_int_equal(gyre_dgram_send(&client.dgram, &there, &number, sizeof(number)), 0);
        }
    }
    while (gyre_dgram_queued(&client.dgram) > 0) {
        trial_turns(loop, 1);
    }
    trial_turns(loop, 3);
    plain_expect_numbers(server, 0, 5);
    assert_true(client.errors > 0);
    assert_int_equal(client.error, -EAGAIN);
    addr_same(&client.error_to, &full);
    assert_int_equal(gyre_dgram_stats(&client.dgram, &stats), 0);
    assert_int_equal(stats.sent + stats.unsent, 505);
    assert_int_equal(stats.unsent, client.errors);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    mate_close(&client);
    close(idle);
    close(server);
    test_loop_end(loop);
}

/* ---- errors ---- */

/* U03 */
static void send_longer_than_any_datagram_is_refused_at_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    static uint8_t bytes[70000];
    struct mate client;

    open_v4(&client, loop);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 65508), -EMSGSIZE);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 65536), -EMSGSIZE);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, 65507), 0);
    trial_turns(loop, 1);
    assert_int_equal(plain_take(server, bytes, sizeof(bytes), NULL), 65507);
    assert_int_equal(client.errors, 0);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U03: where only the kernel knows. */
static void send_too_long_for_the_socket_is_told_and_the_rest_sent(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_unix(&there);
    static uint8_t bytes[60000];
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_UNIX});
    wire_send_buffer(gyre_dgram_number(&client.dgram), 1);
    assert_int_equal(send_numbers(&client, &there, 0, 1), 0);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, bytes, sizeof(bytes)), 0);
    assert_int_equal(send_numbers(&client, &there, 1, 1), 0);
    test_turns_until(loop, &client.errors);
    trial_turns(loop, 2);
    assert_int_equal(client.errors, 1);
    assert_int_equal(client.error, -EMSGSIZE);
    addr_same(&client.error_to, &there);
    plain_expect_numbers(server, 0, 2);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U15: wherever in the batch the bad one is. */
static void send_one_bad_address_fails_alone(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr bad = addr_v4("255.255.255.255", 9);
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct gyre_dgram_stats stats;
    struct mate client;

    open_v4(&client, loop);
    for (uint32_t at = 0; at < 10; at++) {
        assert_int_equal(send_numbers(&client, &there, 0, at), 0);
        assert_int_equal(gyre_dgram_send(&client.dgram, &bad, "x", 1), 0);
        assert_int_equal(send_numbers(&client, &there, at, 9 - at), 0);
        test_turns_until_count(loop, &client.errors, (int)at + 1);
        trial_turns(loop, 1);
        assert_int_equal(client.errors, at + 1);
        assert_int_equal(client.error, -EACCES);
        addr_same(&client.error_to, &bad);
        plain_expect_numbers(server, 0, 9);
        plain_expect_none(server);
    }
    assert_int_equal(gyre_dgram_stats(&client.dgram, &stats), 0);
    assert_int_equal(stats.sent, 90);
    assert_int_equal(stats.unsent, 10);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U16 */
static void send_bad_arguments_are_refused(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr v6 = addr_v6("::1", 1);
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct gyre_addr broken = there;
    struct mate client;

    broken.len = sizeof(broken.storage) + 1;
    open_v4(&client, loop);
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, NULL, 1), -EINVAL);
    assert_int_equal(gyre_dgram_send(&client.dgram, &broken, "x", 1), -EINVAL);
    assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "x", 1), -EDESTADDRREQ);
    assert_int_equal(gyre_dgram_send_message(&client.dgram, NULL), -EINVAL);
    assert_int_equal(gyre_dgram_send_message(
                         &client.dgram, &(struct gyre_dgram_message){.to = &there, .from = &v6}),
                     -EAFNOSUPPORT);
    assert_int_equal(gyre_dgram_reply(&client.dgram, NULL, "x", 1), -EINVAL);
    assert_int_equal(gyre_dgram_queued(&client.dgram), 0);
    trial_turns(loop, 2);
    plain_expect_none(server);
    assert_int_equal(client.errors, 0);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void on_error_sends_again(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    mate_on_error(dgram, error, to);
    assert_int_equal(gyre_dgram_send(dgram, to, "x", 1), 0);
}

/* In a process of its own, in a network namespace with nothing in it. */
static int send_nowhere(void *argument)
{
    static struct mate client;
    struct gyre_loop *loop;
    const struct gyre_addr there = addr_v4("10.0.0.1", 9);
    struct gyre_dgram_handler handler = mate_handler;
    struct gyre_dgram_options options = {.kind = GYRE_DGRAM_UDP4, .handler = &handler};
    int errors = 0;

    (void)argument;
    if (unshare(CLONE_NEWNET) != 0) {
        return NOT_ALLOWED;
    }
    handler.on_error = on_error_sends_again;
    loop = test_loop();
    client.loop = loop;
    assert_int_equal(gyre_dgram_open(&client.dgram, loop, &options), 0);
    while (errors < 100000) {
        for (int i = 0; i < 500; i++) {
            assert_int_equal(gyre_dgram_send(&client.dgram, &there, "x", 1), 0);
        }
        errors += 500;
        test_turns_until_count(loop, &client.errors, errors);
        assert_int_equal(client.error, -ENETUNREACH);
        if (errors == 5000) {
            handler.on_error = mate_on_error;
        }
    }
    mate_close(&client);
    test_loop_end(loop);
    return 0;
}

/* U13 */
static void send_without_a_route_does_not_stall_the_loop(void)
{
    const int status = test_child_status(send_nowhere, NULL);

    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED) {
        test_skip("not allowed to make a network namespace");
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- by reference ---- */

struct lent {
    int releases;
    int closes; /* of the socket, at the release */
};

static void on_release(struct gyre_dgram *dgram, void *context)
{
    struct lent *lent = context;

    lent->releases++;
    lent->closes = mate_of(dgram)->closes;
}

static void send_by_reference_is_released_once_sent_or_failed(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr bad = addr_v4("255.255.255.255", 9);
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    static uint8_t bytes[30000];
    static uint8_t got[30000];
    struct lent lent[3] = {0};
    struct mate client;

    open_v4(&client, loop);
    wire_fill(bytes, sizeof(bytes), 0);
    for (int i = 0; i < 3; i++) {
        const struct gyre_dgram_message message = {.to = i == 1 ? &bad : &there,
                                                   .data = bytes,
                                                   .len = sizeof(bytes),
                                                   .release = on_release,
                                                   .context = &lent[i]};

        assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
        assert_int_equal(lent[i].releases, 0);
    }
    test_turns_until(loop, &lent[2].releases);
    trial_turns(loop, 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lent[i].releases, 1);
    }
    assert_int_equal(client.errors, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(plain_take(server, got, sizeof(got), NULL), sizeof(got));
        wire_check(got, sizeof(got), 0);
    }
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* What the socket takes at once has left; what it does not is dropped; all memory comes back. */
static void close_flushes_and_releases_before_on_close(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_unix(&there);
    struct gyre_dgram_stats stats;
    static struct lent lent[2000];
    uint32_t sent = 0;
    uint32_t number;
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    for (int i = 0; i < 2000; i++) {
        static uint32_t numbers[2000];

        numbers[i] = (uint32_t)i;
        const struct gyre_dgram_message message = {
            .data = &numbers[i], .len = 4, .release = on_release, .context = &lent[i]};

        assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
    }
    mate_close(&client);
    assert_int_equal(client.errors, 0);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(lent[i].releases, 1);
        assert_int_equal(lent[i].closes, 0);
    }
    while (plain_take(server, &number, sizeof(number), NULL) == sizeof(number)) {
        assert_int_equal(number, sent);
        sent++;
    }
    assert_true(sent > 0);
    assert_int_equal(gyre_dgram_stats(&client.dgram, &stats), 0);
    assert_int_equal(stats.sent, sent);
    assert_int_equal(stats.unsent, 2000 - sent);
    close(server);
    test_loop_end(loop);
}

static void close_right_after_send_still_sends(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct mate client;

    open_v4(&client, loop);
    assert_int_equal(send_numbers(&client, &there, 0, 10), 0);
    mate_close(&client);
    plain_expect_numbers(server, 0, 10);
    close(server);
    test_loop_end(loop);
}

/* ---- segments ---- */

static void expect_segments(int server, size_t len, size_t segment)
{
    uint8_t got[70000];

    for (size_t at = 0; at < len; at += segment) {
        const size_t piece = len - at < segment ? len - at : segment;

        assert_int_equal(plain_take(server, got, sizeof(got), NULL), piece);
        wire_check(got, piece, at);
    }
    plain_expect_none(server);
}

static void send_segments(struct mate *client, int server, const struct gyre_addr *there)
{
    static const struct {
        size_t len;
        uint16_t segment;
    } cases[] = {{10500, 1000}, {10000, 1000}, {1000, 1000},  {999, 1000},
                 {1, 1000},     {15000, 100},  {60000, 1472}, {0, 100}};
    static uint8_t bytes[60000];
    struct gyre_dgram_stats stats;
    uint64_t sent = 0;

    wire_fill(bytes, sizeof(bytes), 0);
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        const struct gyre_dgram_message message = {
            .to = there, .data = bytes, .len = cases[i].len, .segment = cases[i].segment};

        assert_int_equal(gyre_dgram_send_message(&client->dgram, &message), 0);
        while (gyre_dgram_queued(&client->dgram) > 0) {
            trial_turns(client->loop, 1);
        }
        trial_turns(client->loop, 1);
        if (cases[i].len > 0) {
            expect_segments(server, cases[i].len, cases[i].segment);
        } else {
            assert_int_equal(plain_take(server, bytes, 1, NULL), 0);
        }
        sent += cases[i].len > 0 ? (cases[i].len - 1) / cases[i].segment + 1 : 1;
    }
    assert_int_equal(client->errors, 0);
    assert_int_equal(gyre_dgram_stats(&client->dgram, &stats), 0);
    assert_int_equal(stats.sent, sent);
}

static void segments_are_datagrams_on_the_wire(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    struct mate client;

    open_v4(&client, loop);
    send_segments(&client, server, &there);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* A socket without checksums is one that the kernel cuts no segments for. */
static void segments_that_the_kernel_refuses_are_cut_by_the_library(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_open("127.0.0.1", &there);
    const int on = 1;
    struct mate client;

    open_v4(&client, loop);
    assert_int_equal(
        setsockopt(gyre_dgram_number(&client.dgram), SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)), 0);
    send_segments(&client, server, &there);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* Unix sockets have no segments at all. */
static void segments_over_unix_are_cut_by_the_library(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_unix(&there);
    static uint8_t bytes[5000];
    struct mate client;

    wire_fill(bytes, sizeof(bytes), 0);
    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    const struct gyre_dgram_message message = {.data = bytes, .len = 5000, .segment = 900};
    assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
    trial_turns(loop, 2);
    expect_segments(server, sizeof(bytes), 900);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

static void segments_in_a_long_queue_stay_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr there;
    const int server = plain_unix(&there);
    static uint8_t bytes[64][3000];
    uint8_t got[3000];
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    for (size_t i = 0; i < 64; i++) {
        const struct gyre_dgram_message message = {
            .data = bytes[i], .len = 3000, .segment = (uint16_t)(100 + i)};

        wire_fill(bytes[i], 3000, WIRE_STREAM(i));
        assert_int_equal(gyre_dgram_send_message(&client.dgram, &message), 0);
    }
    for (size_t i = 0; i < 64; i++) {
        for (size_t at = 0; at < 3000;) {
            plain_until(loop, server);
            const ssize_t len = plain_take(server, got, sizeof(got), NULL);

            assert_int_equal(len, 3000 - at < 100 + i ? 3000 - at : 100 + i);
            wire_check(got, (size_t)len, WIRE_STREAM(i) + at);
            at += (size_t)len;
        }
    }
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(send_leaves_at_the_end_of_the_turn_in_order_and_together),
        TEST_CASE(send_full_batch_leaves_at_once),
        TEST_CASE(send_above_the_limits_is_refused_and_drain_follows),
        TEST_CASE(send_longer_than_the_queue_is_refused_for_good),
        TEST_CASE(send_copies_the_bytes_and_the_address),
        TEST_CASE(send_to_a_full_unix_pair_waits_for_room),
        TEST_CASE(receive_while_waiting_for_room_forgets_neither),
        TEST_CASE(send_to_a_full_connected_unix_socket_waits_for_room),
        TEST_CASE(send_to_a_full_unconnected_unix_socket_fails_and_the_rest_goes_on),
        TEST_CASE(send_longer_than_any_datagram_is_refused_at_once),
        TEST_CASE(send_too_long_for_the_socket_is_told_and_the_rest_sent),
        TEST_CASE(send_one_bad_address_fails_alone),
        TEST_CASE(send_bad_arguments_are_refused),
        {"send_without_a_route_does_not_stall_the_loop",
         send_without_a_route_does_not_stall_the_loop, 60}, /* a namespace takes its time */
        TEST_CASE(send_by_reference_is_released_once_sent_or_failed),
        TEST_CASE(close_flushes_and_releases_before_on_close),
        TEST_CASE(close_right_after_send_still_sends),
        TEST_CASE(segments_are_datagrams_on_the_wire),
        TEST_CASE(segments_that_the_kernel_refuses_are_cut_by_the_library),
        TEST_CASE(segments_over_unix_are_cut_by_the_library),
        TEST_CASE(segments_in_a_long_queue_stay_in_order),
    };

    return test_main("net-dgram-send", cases, TEST_COUNT(cases));
}
