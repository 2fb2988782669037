/* Datagram sockets: receiving, errors, pausing, closing. */
#include "dgramkit.h"

#include <stdio.h>
#include <stdlib.h>

static struct gyre_dgram_options on(const struct gyre_addr *local)
{
    return (struct gyre_dgram_options){.local = local};
}

static void open_v4(struct mate *mate, struct gyre_loop *loop)
{
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    mate_open(mate, loop, on(&local));
}

/* ---- receiving ---- */

static void echo_over(const struct gyre_addr *local, struct gyre_loop *loop)
{
    struct mate server;
    int clients[5];
    struct gyre_addr there;
    struct gyre_addr mine[5];
    uint8_t bytes[100];
    struct gyre_addr from;

    mate_open(&server, loop, on(local));
    server.then = mate_echo;
    there = mate_addr(&server);
    for (int i = 0; i < 5; i++) {
        clients[i] = plain_try(local, &mine[i]);
        assert_true(clients[i] >= 0);
    }
    for (int i = 0; i < 20; i++) {
        wire_fill(bytes, sizeof(bytes), WIRE_STREAM(i));
        plain_send(clients[i % 5], &there, bytes, sizeof(bytes));
        mate_until(&server, i + 1);
        addr_same(&server.from, &mine[i % 5]);
        plain_until(loop, clients[i % 5]);
        memset(bytes, 0, sizeof(bytes));
        assert_int_equal(plain_take(clients[i % 5], bytes, sizeof(bytes), &from), sizeof(bytes));
        wire_check(bytes, sizeof(bytes), WIRE_STREAM(i));
        addr_same(&from, &there);
    }
    for (int i = 0; i < 5; i++) {
        close(clients[i]);
    }
    mate_close(&server);
}

/* U01 */
static void echo_v4_answers_each_sender(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    echo_over(&local, loop);
    test_loop_end(loop);
}

/* U01 */
static void echo_v6_answers_each_sender(void)
{
    const struct gyre_addr local = addr_v6("::1", 0);
    const int there = plain_try(&local, NULL);

    if (there < 0) {
        test_skip("no IPv6 here");
    }
    close(there);
    struct gyre_loop *loop = test_loop();
    echo_over(&local, loop);
    test_loop_end(loop);
}

static void echo_unix_answers_each_sender(void)
{
    const struct gyre_addr local = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX};
    struct gyre_loop *loop = test_loop();

    echo_over(&local, loop);
    test_loop_end(loop);
}

static void receive_from_an_unnamed_unix_socket_tells_no_sender(void)
{
    const struct gyre_addr local = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX};
    struct gyre_loop *loop = test_loop();
    const int client = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct mate server;

    mate_open(&server, loop, on(&local));
    const struct gyre_addr there = mate_addr(&server);
    plain_send(client, &there, "abc", 3);
    mate_until(&server, 1);
    assert_int_equal(server.from.len, 0);
    assert_int_equal(gyre_dgram_send(&server.dgram, &server.from, "x", 1), -EDESTADDRREQ);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void truncated_at(size_t most)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint8_t bytes[10000];

    wire_fill(bytes, sizeof(bytes), 0);
    mate_open(&server, loop, (struct gyre_dgram_options){.local = &local, .receive_max = most});
    const struct gyre_addr there = mate_addr(&server);
    for (int i = 0; i < 3; i++) {
        const size_t len = most + 1 - (size_t)i; /* one more, the same, one less */

        plain_send(client, &there, bytes, len);
        mate_until(&server, i + 1);
        assert_int_equal(server.last.flags, i == 0 ? GYRE_DGRAM_TRUNCATED : 0);
        assert_int_equal(server.last.len, i == 2 ? most - 1 : most);
        wire_check(server.bytes, server.last.len, 0);
    }
    /* In one batch, too. */
    plain_send(client, &there, bytes, sizeof(bytes));
    plain_send(client, &there, bytes, 1);
    mate_until(&server, 5);
    assert_int_equal(server.last.flags, 0);
    assert_int_equal(server.last.len, 1);
    struct gyre_dgram_stats stats;
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    assert_int_equal(stats.truncated, 2);
    assert_int_equal(stats.received, 5);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* U02 */
static void receive_truncated_is_flagged_and_the_next_intact(void)
{
    truncated_at(100);
    truncated_at(2112);
    truncated_at(2113);
    truncated_at(5000);
}

static void receive_every_size_intact(void)
{
    static const size_t sizes[] = {1, 1472, 2111, 2112, 2113, 4096, 9000, 40000, 65507};
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    static uint8_t bytes[65507];
    struct mate server;

    open_v4(&server, loop);
    const struct gyre_addr there = mate_addr(&server);
    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        wire_fill(bytes, sizes[i], WIRE_STREAM(i));
        plain_send(client, &there, bytes, sizes[i]);
        mate_until(&server, (int)i + 1);
        assert_int_equal(server.last.len, sizes[i]);
        wire_check(server.bytes, sizes[i], WIRE_STREAM(i));
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

struct sizes {
    size_t lens[200];
};

static void check_size(struct mate *mate, const struct gyre_datagram *datagram)
{
    const struct sizes *sizes = mate->context;
    const size_t index = mate->next++;

    assert_int_equal(datagram->len, sizes->lens[index]);
    wire_check(datagram->data, datagram->len, WIRE_STREAM(index));
}

static void receive_mixed_sizes_in_one_batch_intact(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    static uint8_t bytes[20000];
    struct sizes sizes;
    struct mate server;
    uint32_t seed = 7;

    open_v4(&server, loop);
    const struct gyre_addr there = mate_addr(&server);
    server.then = check_size;
    server.context = &sizes;
    for (size_t i = 0; i < TEST_COUNT(sizes.lens); i++) {
        sizes.lens[i] = wire_random(&seed, i % 4 == 0 ? 20000 : 100);
        wire_fill(bytes, sizes.lens[i], WIRE_STREAM(i));
        plain_send(client, &there, bytes, sizes.lens[i]);
        if (i % 8 == 7) {
            mate_until(&server, (int)i + 1);
        }
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* U04 */
static void receive_empty_datagram_is_data(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr mine;
    const int client = plain_open("127.0.0.1", &mine);
    struct mate server;
    uint8_t byte;

    open_v4(&server, loop);
    server.then = mate_echo;
    const struct gyre_addr there = mate_addr(&server);
    for (int i = 0; i < 3; i++) {
        plain_send(client, &there, "", 0);
        mate_until(&server, i + 1);
        assert_int_equal(server.last.len, 0);
        addr_same(&server.from, &mine);
        plain_until(loop, client);
        assert_int_equal(plain_take(client, &byte, 1, NULL), 0);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* No edge is lost, however arrivals and turns interleave. */
static void receive_at_any_moment_loses_nothing(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t seed = 1;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    for (int i = 0; i < 3000; i++) {
        const uint32_t count = wire_random(&seed, 4) == 0 ? 64 : wire_random(&seed, 5);

        plain_send_numbers(client, &there, sent, count, 10);
        sent += count;
        trial_turns(loop, (int)wire_random(&seed, 3));
        if (wire_random(&seed, 3) == 0 || count == 64) {
            mate_until(&server, (int)sent);
        }
    }
    mate_until(&server, (int)sent);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* More than a turn's share, and then silence: nothing wakes the loop but itself. */
static void receive_more_than_a_turn_takes_goes_on_by_itself(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int room = 1 << 20;
    struct gyre_dgram_stats stats;
    struct mate server;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    assert_int_equal(
        setsockopt(gyre_dgram_number(&server.dgram), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
        0);
    trial_turns(loop, 3);
    plain_send_numbers(client, &there, 0, 1000, 10);
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    const int arrived = 1000 - (int)stats.kernel_drops;
    assert_true(arrived > 260);
    mate_until(&server, arrived);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* The memory that they share fits each of them, whoever had it before. */
static void receive_on_sockets_of_all_kinds_in_turn(void)
{
    static struct mate servers[4];
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr v4 = addr_v4("127.0.0.1", 0);
    const struct gyre_addr name = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX};
    const struct gyre_dgram_options options[4] = {
        {.local = &v4, .receive_max = 100},
        {.local = &name, .receive_max = 100},
        {.local = &v4, .flags = GYRE_DGRAM_PACKET_INFO},
        {.local = &name, .receive_max = 3000},
    };
    struct gyre_addr mine[2];
    struct gyre_addr long_name = {.len = 90, .un.sun_family = AF_UNIX};
    uint8_t bytes[2999];
    int clients[2];

    snprintf(long_name.un.sun_path + 1, 80, "gyre-dgram-%d", (int)getpid());
    clients[0] = plain_open("127.0.0.1", &mine[0]);
    clients[1] = plain_try(&long_name, &mine[1]);
    assert_true(clients[1] >= 0);
    for (int i = 0; i < 4; i++) {
        mate_open(&servers[i], loop, options[i]);
    }
    for (int round = 0; round < 12; round++) {
        const int i = round % 4;
        const struct gyre_addr there = mate_addr(&servers[i]);
        const size_t len = options[i].receive_max == 100 ? 100 : sizeof(bytes);

        wire_fill(bytes, len, WIRE_STREAM(round));
        for (int k = 0; k < 3; k++) {
            plain_send(clients[i % 2], &there, bytes, len);
        }
        mate_until(&servers[i], 3 * (round / 4 + 1));
        assert_int_equal(servers[i].last.len, len);
        assert_int_equal(servers[i].last.flags, 0);
        assert_int_equal(servers[i].last.local != NULL, i == 2);
        wire_check(servers[i].bytes, len, WIRE_STREAM(round));
        addr_same(&servers[i].from, &mine[i % 2]);
    }
    for (int i = 0; i < 4; i++) {
        mate_close(&servers[i]);
    }
    close(clients[0]);
    close(clients[1]);
    test_loop_end(loop);
}

/* U09 */
static void burst_received_and_dropped_add_up(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_dgram_stats stats;
    struct mate server;
    uint32_t seed = 5;
    uint64_t sent = 0;

    open_v4(&server, loop);
    const struct gyre_addr there = mate_addr(&server);
    while (sent < 100000) {
        const uint32_t count = 1 + wire_random(&seed, 2000);

        plain_send_numbers(client, &there, 0, count, 100);
        sent += count;
        trial_turns(loop, (int)wire_random(&seed, 4));
    }
    do {
        trial_turns(loop, 1);
        assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    } while (stats.received + stats.kernel_drops < sent);
    assert_int_equal(stats.received + stats.kernel_drops, sent);
    assert_int_equal(stats.received, server.datagrams);
    assert_true(stats.kernel_drops > 0);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void busy_socket_makes_few_system_calls(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_echo;
    const struct gyre_addr there = mate_addr(&server);
    const struct gyre_loop_stats before = trial_stats(loop);
    while (sent < 10000) {
        plain_send_numbers(client, &there, sent, 100, 100);
        sent += 100;
        mate_until(&server, (int)sent);
        while (gyre_dgram_queued(&server.dgram) > 0) {
            trial_turns(loop, 1);
        }
        plain_expect_numbers(client, sent - 100, 100);
    }
    const struct gyre_loop_stats after = trial_stats(loop);
    assert_true(after.syscalls - before.syscalls < 2 * sent / 10); /* each way */
    assert_true(after.allocations - before.allocations < 10);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* As docs/datagrams.md says, and 4 are then enough. */
static void twelve_datagrams_an_event_make_a_socket_busy(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    for (uint32_t burst = 12; burst != 0; burst = burst > 4 ? 4 : 0) {
        for (int i = 0; i < 100; i++) {
            plain_send_numbers(client, &there, sent, burst, 4);
            sent += burst;
            mate_until(&server, (int)sent);
        }
        assert_int_equal(server.dgram.flooded, 1);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* A poll that stays would be called for each datagram; see dgram_receive.c. It is there at first, and
 * after an event that brought nothing, as on a paused socket. */
static void few_datagrams_an_event_are_polled_for_anew_on_io_uring(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const uint64_t bursts = 50;
    struct mate server;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    for (int round = 0; round < 2; round++) {
        const uint64_t before = trial_stats(loop).sqes;

        for (uint64_t i = 0; i < bursts; i++, sent += 3) {
            plain_send_numbers(client, &there, sent, 3, 4);
            mate_until(&server, (int)sent + 3);
        }
        const uint64_t sqes = trial_stats(loop).sqes - before;

        assert_true(test_variant_uring() ? sqes > bursts / 2 : sqes == 0);
        assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
        plain_send_numbers(client, &there, sent++, 1, 4);
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
        assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
        mate_until(&server, (int)sent);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* How a socket waits may depend on how much comes: many at a time, then one by one, and again. */
static void receive_in_floods_and_singly_loses_nothing_and_never_spins(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 40; i++, sent += 40) {
            plain_send_numbers(client, &there, sent, 40, 10);
            mate_until(&server, (int)sent + 40);
        }
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
        assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
        plain_send_numbers(client, &there, sent, 40, 10);
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
        assert_int_equal(server.datagrams, sent);
        assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
        sent += 40;
        mate_until(&server, (int)sent);
        for (int i = 0; i < 40; i++) {
            trial_turns(loop, i % 3);
            plain_send_numbers(client, &there, sent++, 1, 10);
            mate_until(&server, (int)sent);
        }
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* 256 in a row, and once more behind what else there is in the turn. */
static void flooded_socket_keeps_to_its_share_of_a_turn(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int room = 1 << 20;
    struct mate server;
    uint32_t sent = 0;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    /* As much as a process without privileges may have is enough. */
    assert_int_equal(
        setsockopt(gyre_dgram_number(&server.dgram), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
        0);
    for (int round = 0; round < 5; round++) {
        plain_send_numbers(client, &there, sent, 64, 4);
        sent += 64;
        mate_until(&server, (int)sent);
    }
    trial_turns(loop, 3);
    assert_int_equal(server.dgram.flooded, 1); /* that it was empty in between says nothing */
    plain_send_numbers(client, &there, sent, 520, 4);
    sent += 520;
    while (server.datagrams < (int)sent) {
        const int before = server.datagrams;

        trial_turns(loop, 1);
        assert_true(server.datagrams - before <= 2 * 256);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void pause_when_busy(struct mate *mate, const struct gyre_datagram *datagram)
{
    mate_in_order(mate, datagram);
    if (mate->dgram.busy && mate->context == NULL) {
        mate->context = mate;
        assert_int_equal(gyre_dgram_pause(&mate->dgram), 0);
    }
}

/* It is polled again, for errors. */
static void flooded_socket_is_told_of_errors_while_paused(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t sent = 0;

    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_ERROR_DETAIL});
    server.then = pause_when_busy;
    const struct gyre_addr there = mate_addr(&server);
    while (server.context == NULL) {
        plain_send_numbers(client, &there, sent, 64, 4);
        sent += 64;
        while (server.datagrams < (int)sent && server.context == NULL) {
            trial_turns(loop, 1);
        }
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    const int before = server.datagrams;
    const struct gyre_addr to = nobody();

    assert_int_equal(gyre_dgram_send(&server.dgram, &to, "x", 1), 0);
    test_turns_until(loop, &server.errors);
    assert_int_equal(server.error, -ECONNREFUSED);
    plain_send_numbers(client, &there, sent++, 1, 4);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    assert_int_equal(server.datagrams, before);
    assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
    mate_until(&server, (int)sent);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* Room in the send buffer is no news to a socket that has always had some. */
static void reply_that_has_left_wakes_nobody(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_v4(&server, loop);
    server.then = mate_echo;
    const struct gyre_addr there = mate_addr(&server);
    trial_turns(loop, 2);
    const unsigned idle = (unsigned)trial_idle_turns(loop, 20 * GYRE_MSEC);
    for (int i = 0; i < 3; i++) {
        plain_send(client, &there, "hello", 5);
        mate_until(&server, i + 1);
        assert_true((unsigned)trial_idle_turns(loop, 20 * GYRE_MSEC) <= idle);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void again(struct mate *mate, const struct gyre_datagram *datagram)
{
    if (mate->context == NULL) {
        assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, "again", 5), 0);
    }
}

/* Datagrams that go round for ever leave everybody else a turn. */
static void flood_does_not_starve_the_rest(void)
{
    struct gyre_loop *loop = test_loop();
    struct mate storm;
    struct mate calm;
    struct trial timeout;

    open_v4(&storm, loop);
    open_v4(&calm, loop);
    calm.then = mate_echo;
    storm.then = again;
    const struct gyre_addr itself = mate_addr(&storm);
    const struct gyre_addr other = mate_addr(&calm);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(gyre_dgram_send(&storm.dgram, &itself, "again", 5), 0);
    }
    assert_int_equal(gyre_dgram_send(&storm.dgram, &other, "hello", 5), 0);
    trial_init(&timeout, NULL, NULL);
    assert_int_equal(
        gyre_op_timeout(&timeout.op, loop, gyre_loop_update_now(loop) + 20 * GYRE_MSEC), 0);
    assert_int_equal(trial_end(loop, &timeout), 0);
    test_turns_until_count(loop, &calm.datagrams, 10);
    storm.context = &storm;
    mate_close(&storm);
    mate_close(&calm);
    test_loop_end(loop);
}

/* ---- processes ---- */

struct forked {
    struct mate *mate;
    const struct gyre_datagram *datagram;
};

static void refused_in_a_child(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct gyre_dgram *dgram = &mate->dgram;
    const struct gyre_dgram_message message = {.to = datagram->from, .data = "x", .len = 1};
    struct gyre_dgram_stats stats;
    struct gyre_addr addr;
    static struct mate other;

    assert_int_equal(gyre_dgram_send(dgram, datagram->from, "x", 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_send(dgram, datagram->from, datagram->data, 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_reply(dgram, datagram, "x", 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_send_message(dgram, &message), GYRE_EFORK);
    assert_int_equal(gyre_dgram_pause(dgram), GYRE_EFORK);
    assert_int_equal(gyre_dgram_resume(dgram), GYRE_EFORK);
    assert_int_equal(gyre_dgram_close(dgram), GYRE_EFORK);
    assert_int_equal(gyre_dgram_join(dgram, datagram->from, 0), GYRE_EFORK);
    assert_int_equal(gyre_dgram_leave(dgram, datagram->from, 0), GYRE_EFORK);
    assert_int_equal(gyre_dgram_set_multicast_interface(dgram, 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_set_multicast_ttl(dgram, 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_set_multicast_loop(dgram, 1), GYRE_EFORK);
    assert_int_equal(gyre_dgram_local(dgram, &addr), GYRE_EFORK);
    assert_int_equal(gyre_dgram_stats(dgram, &stats), GYRE_EFORK);
    assert_int_equal(mate_try(&other, mate->loop, on(datagram->from)), GYRE_EFORK);
}

/* It has a loop of its own, and the parent's socket is closed in it. */
static int child_in_on_datagram(void *argument)
{
    const struct forked *forked = argument;
    struct gyre_loop *loop;
    static struct mate mine;

    refused_in_a_child(forked->mate, forked->datagram);
    close(gyre_dgram_number(&forked->mate->dgram));
    loop = test_loop();
    open_v4(&mine, loop);
    const struct gyre_addr itself = mate_addr(&mine);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(gyre_dgram_send(&mine.dgram, &itself, "x", 1), 0);
        mate_until(&mine, i);
    }
    mate_close(&mine);
    test_loop_end(loop);
    return 0;
}

static void echo_around_a_fork(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct forked forked = {mate, datagram};

    mate_echo(mate, datagram);
    if (mate->datagrams % 4 == 2) {
        test_child_passes(child_in_on_datagram, &forked);
    }
    mate_echo(mate, datagram);
}

static void fork_in_on_datagram_leaves_the_socket_to_the_parent(void)
{
    test_skip_simulated("the simulation has no fork");
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_v4(&server, loop);
    server.then = echo_around_a_fork;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 8, 10);
    mate_until(&server, 8);
    trial_turns(loop, 2);
    for (uint32_t i = 0; i < 8; i++) {
        plain_expect_numbers(client, i, 1);
        plain_expect_numbers(client, i, 1);
    }
    plain_expect_none(client);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* ---- errors ---- */

/* U05 */
static void refused_connected_is_told_and_the_socket_works_on(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
    test_turns_until(loop, &client.errors);
    assert_int_equal(client.error, -ECONNREFUSED);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    assert_int_equal(client.errors, 1);
    const int server = plain_try(&there, NULL);
    assert_true(server >= 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, NULL, &i, sizeof(i)), 0);
    }
    plain_until(loop, server);
    plain_expect_numbers(server, 0, 3);
    const struct gyre_addr mine = mate_addr(&client);
    plain_send(server, &mine, "answer", 6);
    mate_until(&client, 1);
    assert_int_equal(client.errors, 1);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U05: an error that an earlier datagram caused does not cost a later one. */
static void refused_earlier_does_not_lose_the_next_datagram(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    assert_int_equal(gyre_dgram_pause(&client.dgram), 0);
    assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
    trial_turns(loop, 2);
    const int server = plain_try(&there, NULL);
    assert_true(server >= 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, NULL, &i, sizeof(i)), 0);
    }
    test_turns_until(loop, &client.errors);
    assert_int_equal(client.error, -ECONNREFUSED);
    assert_int_equal(client.error_to.len, 0);
    plain_expect_numbers(server, 0, 3);
    trial_turns(loop, 5);
    assert_int_equal(client.errors, 1);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U05 */
static void refused_unconnected_is_not_told_and_nothing_spins(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct mate client;

    open_v4(&client, loop);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, &there, "lost", 4), 0);
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    assert_int_equal(client.errors, 0);
    mate_close(&client);
    test_loop_end(loop);
}

/* Its owner has switched the queue on behind the library, and nobody reads it: the socket is in error
 * for ever. */
static void error_queue_that_nobody_reads_does_not_spin(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    const struct gyre_dgram_options options = {.handler = &mate_handler};
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_addr local;
    const int number = plain_open("127.0.0.1", &local);
    const int on = 1;
    static struct mate mate;

    mate.loop = loop;
    mate.then = mate_in_order;
    assert_int_equal(gyre_dgram_adopt(&mate.dgram, loop, number, &options), 0);
    assert_int_equal(setsockopt(number, SOL_IP, IP_RECVERR, &on, sizeof(on)), 0);
    for (uint32_t i = 0; i < 40; i++) {
        if (i % 10 == 5) {
            assert_int_equal(gyre_dgram_send(&mate.dgram, &there, "lost", 4), 0);
            assert_true(trial_idle_turns(loop, 5 * GYRE_MSEC) < 20);
        }
        plain_send_numbers(client, &local, i, 1, 10);
        mate_until(&mate, (int)i + 1);
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    assert_true(mate.errors > 0);
    assert_int_equal(mate.error, -ECONNREFUSED);
    mate_close(&mate);
    close(client);
    test_loop_end(loop);
}

/* Each poll ends at once. What brings nothing says nothing of how many come: they do not come singly, so
 * none is asked for alone, which the kernel would try again and again. */
static void bursts_beside_an_error_that_nobody_reads_cost_few_turns(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr nowhere = nobody();
    const struct gyre_addr any = addr_v4("127.0.0.1", 0);
    const int client = plain_open("127.0.0.1", NULL);
    const uint32_t bursts = 60;
    const int on = 1;
    struct mate server;

    mate_open(&server, loop, (struct gyre_dgram_options){.local = &any});
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    assert_int_equal(
        setsockopt(gyre_dgram_number(&server.dgram), SOL_IP, IP_RECVERR, &on, sizeof(on)), 0);
    assert_int_equal(gyre_dgram_send(&server.dgram, &nowhere, "lost", 4), 0);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    const uint64_t before = trial_stats(loop).turns;
    for (uint32_t i = 0; i < bursts; i++) {
        plain_send_numbers(client, &there, 3 * i, 3, 10);
        mate_until(&server, (int)(3 * i + 3));
        assert_true(trial_idle_turns(loop, GYRE_MSEC / 10) < 20);
        assert_null(server.dgram.lone);
    }
    assert_true(trial_stats(loop).turns - before < 10 * (uint64_t)bursts);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void refused_with_detail_when_connected_is_told_each_time(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct mate client;

    mate_open(&client, loop,
              (struct gyre_dgram_options){.peer = &there, .flags = GYRE_DGRAM_ERROR_DETAIL});
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
        assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
        test_turns_until_count(loop, &client.errors, i);
        assert_int_equal(client.error, -ECONNREFUSED);
        addr_same(&client.error_to, &there);
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 40);
    mate_close(&client);
    test_loop_end(loop);
}

static void refused_with_detail_tells_which_address(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const struct gyre_addr there = nobody();
    struct gyre_addr good;
    const int server = plain_open("127.0.0.1", &good);
    struct mate client;

    mate_open(&client, loop,
              (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_ERROR_DETAIL});
    assert_int_equal(gyre_dgram_send(&client.dgram, &there, "lost", 4), 0);
    test_turns_until(loop, &client.errors);
    assert_int_equal(client.error, -ECONNREFUSED);
    addr_same(&client.error_to, &there);
    for (uint32_t i = 0; i < 20; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, &there, "lost", 4), 0);
        assert_int_equal(gyre_dgram_send(&client.dgram, &good, &i, sizeof(i)), 0);
    }
    test_turns_until_count(loop, &client.errors, 2);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 40);
    plain_expect_numbers(server, 0, 20);
    plain_expect_none(server);
    mate_close(&client);
    close(server);
    test_loop_end(loop);
}

/* U06 */
static void refused_while_paused_waits_and_nothing_spins(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct mate client;

    mate_open(&client, loop, (struct gyre_dgram_options){.peer = &there});
    assert_int_equal(gyre_dgram_pause(&client.dgram), 0);
    assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    assert_int_equal(client.errors, 0);
    assert_int_equal(gyre_dgram_resume(&client.dgram), 0);
    test_turns_until(loop, &client.errors);
    assert_int_equal(client.error, -ECONNREFUSED);
    mate_close(&client);
    test_loop_end(loop);
}

/* The peer turns to another and leaves something unread. A Unix socket has no error queue: asked for
 * it, it would hand out what it has received. */
static void reset_with_detail_of_a_unix_pair_costs_no_datagram(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_options options = {.handler = &mate_handler,
                                         .flags = GYRE_DGRAM_ERROR_DETAIL};
    struct gyre_addr there;
    const int other = plain_unix(&there);
    static struct mate mate;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    mate.loop = loop;
    mate.then = mate_in_order;
    assert_int_equal(gyre_dgram_adopt(&mate.dgram, loop, pair[0], &options), 0);
    assert_int_equal(gyre_dgram_send(&mate.dgram, NULL, "unread", 6), 0);
    trial_turns(loop, 1);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(send(pair[1], &i, sizeof(i), 0), sizeof(i));
    }
    assert_int_equal(connect(pair[1], &there.any, there.len), 0);
    mate_until(&mate, 3);
    assert_int_equal(mate.errors, 1);
    assert_int_equal(mate.error, -ECONNRESET);
    mate_close(&mate);
    close(pair[1]);
    close(other);
    test_loop_end(loop);
}

static void note_refused(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    mate_on_error(dgram, error, to);
    mate_of(dgram)->next += error == -ECONNREFUSED;
}

/* That the peer has gone is told to the first try only: with it the kernel disconnects the socket. */
static void refused_by_a_unix_peer_that_has_gone_is_told(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_handler handler = mate_handler;
    const struct gyre_dgram_options options = {.handler = &handler};
    struct gyre_dgram_stats stats;
    static struct mate mate;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    handler.on_error = note_refused;
    mate.loop = loop;
    assert_int_equal(gyre_dgram_adopt(&mate.dgram, loop, pair[0], &options), 0);
    close(pair[1]);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gyre_dgram_send(&mate.dgram, NULL, "lost", 4), 0);
    }
    test_turns_until_count(loop, &mate.errors, 3);
    trial_turns(loop, 2);
    assert_int_equal(mate.errors, 4);
    assert_int_equal(mate.next, 1);
    assert_int_equal(mate.error, -ENOTCONN);
    assert_int_equal(gyre_dgram_stats(&mate.dgram, &stats), 0);
    assert_int_equal(stats.unsent, 3);
    assert_int_equal(stats.sent, 0);
    mate_close(&mate);
    test_loop_end(loop);
}

static void close_on_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    mate_on_error(dgram, error, to);
    assert_int_equal(gyre_dgram_close(dgram), 0);
}

/* U06 */
static void close_in_on_error_ends_everything(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr there = nobody();
    struct gyre_dgram_handler handler = mate_handler;
    struct gyre_dgram_options options = {.peer = &there, .handler = &handler};
    static struct mate client;

    handler.on_error = close_on_error;
    memset(&client, 0, sizeof(client));
    assert_int_equal(gyre_dgram_open(&client.dgram, loop, &options), 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(gyre_dgram_send(&client.dgram, NULL, "lost", 4), 0);
    }
    test_turns_until(loop, &client.closes);
    assert_int_equal(client.errors, 1);
    test_loop_end(loop);
}

/* ---- stopping ---- */

static void close_at_five(struct mate *mate, const struct gyre_datagram *datagram)
{
    mate_in_order(mate, datagram);
    if (mate->datagrams == 5) {
        assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
        assert_int_equal(gyre_dgram_close(&mate->dgram), GYRE_ECLOSING);
        assert_int_equal(gyre_dgram_send(&mate->dgram, datagram->from, "x", 1), GYRE_ECLOSING);
    }
}

/* U08 */
static void close_in_the_middle_of_a_batch_delivers_none_after(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    struct gyre_dgram_stats stats;

    open_v4(&server, loop);
    server.then = close_at_five;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 20, 10);
    test_turns_until(loop, &server.closes);
    assert_int_equal(server.datagrams, 5);
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    assert_int_equal(stats.lost, 15);
    close(client);
    test_loop_end(loop);
}

static void pause_at_fives(struct mate *mate, const struct gyre_datagram *datagram)
{
    mate_in_order(mate, datagram);
    assert_int_equal(datagram->len, 10);
    if (mate->datagrams % 5 == 0) {
        assert_int_equal(gyre_dgram_pause(&mate->dgram), 0);
    }
}

static void look_and_pause_at_fives(struct mate *mate, const struct gyre_datagram *datagram)
{
    assert_non_null(datagram->local);
    assert_int_equal(datagram->local->in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    pause_at_fives(mate, datagram);
}

/* U08 */
static void pause_in_the_middle_of_a_batch_keeps_the_rest_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr mine;
    const int client = plain_open("127.0.0.1", &mine);
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct mate server;

    mate_open(&server, loop,
              (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_PACKET_INFO});
    server.then = look_and_pause_at_fives;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 20, 10);
    for (int i = 1; i <= 8; i++) {
        mate_until(&server, 5 * i);
        trial_turns(loop, 5);
        assert_int_equal(server.datagrams, 5 * i);
        addr_same(&server.from, &mine);
        if (i == 2) {
            plain_send_numbers(client, &there, 20, 20, 10);
        }
        assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
        assert_int_equal(server.datagrams, 5 * i);
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void pause_leaves_datagrams_to_the_kernel_until_resumed(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_v4(&server, loop);
    server.then = mate_in_order;
    const struct gyre_addr there = mate_addr(&server);
    assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
    assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
    plain_send_numbers(client, &there, 0, 100, 10);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 20);
    assert_int_equal(server.datagrams, 0);
    assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
    assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
    assert_int_equal(server.datagrams, 0);
    mate_until(&server, 100);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void close_with_datagrams_kept_frees_them(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_dgram_stats stats;
    struct mate server;

    open_v4(&server, loop);
    server.then = pause_at_fives;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 20, 10);
    mate_until(&server, 5);
    assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
    mate_close(&server);
    assert_int_equal(server.datagrams, 5);
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    assert_int_equal(stats.lost, 15);
    close(client);
    test_loop_end(loop);
}

static int freed;

static void free_it(struct gyre_dgram *dgram)
{
    freed++;
    free(mate_of(dgram));
}

static void on_close_may_free_the_socket(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_handler handler = {.on_datagram = mate_on_datagram, .on_close = free_it};
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const struct gyre_dgram_options options = {.local = &local, .handler = &handler};

    for (int i = 0; i < 10; i++) {
        struct mate *mate = calloc(1, sizeof(*mate));

        assert_int_equal(gyre_dgram_open(&mate->dgram, loop, &options), 0);
        const struct gyre_addr there = mate_addr(mate);
        trial_turns(loop, i % 3);
        assert_int_equal(gyre_dgram_send(&mate->dgram, &there, "x", 1), 0);
        trial_turns(loop, i % 4);
        assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
        assert_int_equal(freed, i);
        test_turns_until_count(loop, &freed, i + 1);
    }
    test_loop_end(loop);
}

static void reply_and_close(struct mate *mate, const struct gyre_datagram *datagram)
{
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, "bye", 3), 0);
    assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
}

static void on_close_may_free_a_socket_that_has_just_sent(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_handler handler = {.on_datagram = mate_on_datagram, .on_close = free_it};
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const struct gyre_dgram_options options = {.local = &local, .handler = &handler};
    const int client = plain_open("127.0.0.1", NULL);
    struct mate *mate = calloc(1, sizeof(*mate));
    uint8_t bytes[3];

    assert_int_equal(gyre_dgram_open(&mate->dgram, loop, &options), 0);
    mate->then = reply_and_close;
    const struct gyre_addr there = mate_addr(mate);
    plain_send(client, &there, "x", 1);
    test_turns_until(loop, &freed);
    assert_int_equal(plain_take(client, bytes, sizeof(bytes), NULL), 3);
    close(client);
    trial_turns(loop, 2);
    test_loop_end(loop);
}

static void open_bad_arguments_are_refused(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr v4 = addr_v4("127.0.0.1", 0);
    const struct gyre_addr v6 = addr_v6("::1", 0);
    const struct gyre_dgram_handler empty = {0};
    struct gyre_dgram_options options = {.local = &v4};
    struct mate mate;

    assert_int_equal(gyre_dgram_open(&mate.dgram, loop, NULL), -EINVAL);
    assert_int_equal(gyre_dgram_open(&mate.dgram, loop, &options), -EINVAL);
    options.handler = &empty;
    assert_int_equal(gyre_dgram_open(&mate.dgram, loop, &options), -EINVAL);
    options.handler = &mate_handler;
    assert_int_equal(gyre_dgram_open(NULL, loop, &options), -EINVAL);
    assert_int_equal(gyre_dgram_open(&mate.dgram, NULL, &options), -EINVAL);
    assert_int_equal(mate_try(&mate, loop, (struct gyre_dgram_options){0}), -EAFNOSUPPORT);
    assert_int_equal(mate_try(&mate, loop, (struct gyre_dgram_options){.local = &v4, .peer = &v6}),
                     -EAFNOSUPPORT);
    assert_int_equal(
        mate_try(&mate, loop, (struct gyre_dgram_options){.local = &v4, .flags = 1u << 9}),
        -EINVAL);
    assert_int_equal(
        mate_try(&mate, loop, (struct gyre_dgram_options){.local = &v4, .receive_max = 65536}),
        -EINVAL);
    assert_int_equal(
        mate_try(&mate, loop, (struct gyre_dgram_options){.kind = GYRE_DGRAM_ICMP6 + 1}), -EINVAL);
    struct gyre_addr taken;
    const int other = plain_open("127.0.0.1", &taken);
    assert_int_equal(mate_try(&mate, loop, on(&taken)), -EADDRINUSE);
    close(other);
    memset(&mate, 0, sizeof(mate));
    assert_int_equal(gyre_dgram_close(&mate.dgram), -EINVAL);
    assert_int_equal(gyre_dgram_send(NULL, NULL, NULL, 0), -EINVAL);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(echo_v4_answers_each_sender),
        TEST_CASE(echo_v6_answers_each_sender),
        TEST_CASE(echo_unix_answers_each_sender),
        TEST_CASE(receive_from_an_unnamed_unix_socket_tells_no_sender),
        TEST_CASE(receive_truncated_is_flagged_and_the_next_intact),
        TEST_CASE(receive_every_size_intact),
        TEST_CASE(receive_mixed_sizes_in_one_batch_intact),
        TEST_CASE(receive_empty_datagram_is_data),
        TEST_CASE(receive_at_any_moment_loses_nothing),
        TEST_CASE(receive_more_than_a_turn_takes_goes_on_by_itself),
        TEST_CASE(receive_on_sockets_of_all_kinds_in_turn),
        TEST_CASE(burst_received_and_dropped_add_up),
        TEST_CASE(busy_socket_makes_few_system_calls),
        TEST_CASE(twelve_datagrams_an_event_make_a_socket_busy),
        TEST_CASE(receive_in_floods_and_singly_loses_nothing_and_never_spins),
        TEST_CASE(few_datagrams_an_event_are_polled_for_anew_on_io_uring),
        TEST_CASE(flooded_socket_keeps_to_its_share_of_a_turn),
        TEST_CASE(flooded_socket_is_told_of_errors_while_paused),
        TEST_CASE(reply_that_has_left_wakes_nobody),
        TEST_CASE(flood_does_not_starve_the_rest),
        TEST_CASE(fork_in_on_datagram_leaves_the_socket_to_the_parent),
        TEST_CASE(refused_connected_is_told_and_the_socket_works_on),
        TEST_CASE(refused_earlier_does_not_lose_the_next_datagram),
        TEST_CASE(refused_unconnected_is_not_told_and_nothing_spins),
        TEST_CASE(error_queue_that_nobody_reads_does_not_spin),
        TEST_CASE(bursts_beside_an_error_that_nobody_reads_cost_few_turns),
        TEST_CASE(refused_with_detail_when_connected_is_told_each_time),
        TEST_CASE(refused_with_detail_tells_which_address),
        TEST_CASE(refused_while_paused_waits_and_nothing_spins),
        TEST_CASE(reset_with_detail_of_a_unix_pair_costs_no_datagram),
        TEST_CASE(refused_by_a_unix_peer_that_has_gone_is_told),
        TEST_CASE(close_in_on_error_ends_everything),
        TEST_CASE(close_in_the_middle_of_a_batch_delivers_none_after),
        TEST_CASE(pause_in_the_middle_of_a_batch_keeps_the_rest_in_order),
        TEST_CASE(pause_leaves_datagrams_to_the_kernel_until_resumed),
        TEST_CASE(close_with_datagrams_kept_frees_them),
        TEST_CASE(on_close_may_free_the_socket),
        TEST_CASE(on_close_may_free_a_socket_that_has_just_sent),
        TEST_CASE(open_bad_arguments_are_refused),
    };

    return test_main("net-dgram", cases, TEST_COUNT(cases));
}
