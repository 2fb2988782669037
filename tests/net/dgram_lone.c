/*
 * Datagrams that come one at a time. On io_uring a socket that mostly sees such asks for the datagram
 * itself, and not to be told of it; what it delivers must be the same in either way, whatever happens
 * while one is asked for.
 */
#include "dgramkit.h"

#include <fcntl.h>

enum {
    SETTLED = 80, /* single datagrams after which it is decided how they are received */
    SOCKETS = 64, /* of a loop that may ask so */
};

static int asks_singly(struct gyre_loop *loop)
{
    struct gyre_loop_info info;

    assert_int_equal(gyre_loop_info(loop, &info), 0);
    return info.backend == GYRE_BACKEND_URING;
}

static void send_one_by_one(struct mate *mate, int client, uint32_t count, size_t len)
{
    const struct gyre_addr there = mate_addr(mate);
    const uint32_t first = (uint32_t)mate->datagrams;

    for (uint32_t i = 0; i < count; i++) {
        plain_send_numbers(client, &there, first + i, 1, len);
        mate_until(mate, (int)(first + i + 1));
    }
}

/* A socket of 127.0.0.1 that has settled. */
static void open_settled(struct mate *mate, struct gyre_loop *loop, int client,
                         struct gyre_dgram_options options)
{
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    options.local = &local;
    mate_open(mate, loop, options);
    mate->then = mate_in_order;
    send_one_by_one(mate, client, SETTLED, 10);
    assert_int_equal(mate->dgram.lone != NULL, asks_singly(loop));
}

static void finish(struct mate *mate, int client)
{
    struct gyre_loop *loop = mate->loop;

    mate_close(mate);
    close(client);
    test_loop_end(loop);
}

/* The call that waits, and the answer, since the loop is left before it sleeps; some are followed by a
 * look for others. See silent.c. */
static void single_datagram_costs_two_calls_on_io_uring_and_three_on_epoll(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const uint32_t count = 320;
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    server.then = mate_echo;
    send_one_by_one(&server, client, 1, 10); /* memory for answers, from the first on */
    plain_expect_numbers(client, SETTLED, 1);
    const struct gyre_loop_stats before = trial_stats(loop);
    for (uint32_t i = 1; i <= count; i++) {
        send_one_by_one(&server, client, 1, 10);
        plain_expect_numbers(client, SETTLED + i, 1);
    }
    const struct gyre_loop_stats after = trial_stats(loop);
    const uint64_t calls = after.syscalls - before.syscalls;

    assert_true(asks_singly(loop) ? calls <= 2 * count + count / 24 : calls <= 3 * count + 1);
    assert_int_equal(after.allocations, before.allocations);
    finish(&server, client);
}

static void single_and_many_in_any_succession_arrive_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;
    uint32_t seed = 11;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    const struct gyre_addr there = mate_addr(&server);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 60; i++) {
            const uint32_t count = 1 + wire_random(&seed, round % 3 == 0 ? 60 : 3);

            plain_send_numbers(client, &there, (uint32_t)server.datagrams, count, 10);
            mate_until(&server, server.datagrams + (int)count);
        }
        send_one_by_one(&server, client, SETTLED, 10);
    }
    assert_int_equal(server.dgram.lone != NULL, asks_singly(loop));
    finish(&server, client);
}

/* Nobody asks for each of many alone. */
static void flood_of_a_settled_socket_makes_few_system_calls(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    const struct gyre_addr there = mate_addr(&server);
    const struct gyre_loop_stats before = trial_stats(loop);
    for (int i = 0; i < 100; i++) {
        plain_send_numbers(client, &there, (uint32_t)server.datagrams, 100, 10);
        mate_until(&server, server.datagrams + 100);
    }
    assert_true(trial_stats(loop).syscalls - before.syscalls < 10000 / 10);
    finish(&server, client);
}

/* Of any length, and though a look at what is there empties the socket. */
static void bursts_of_a_settled_socket_make_few_system_calls(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int bursts = test_steps(400, 40);

    for (uint32_t burst = 3; burst <= 33; burst += burst < 12 ? 1 : 3) {
        struct mate server;

        open_settled(&server, loop, client, (struct gyre_dgram_options){0});
        const struct gyre_addr there = mate_addr(&server);
        const struct gyre_loop_stats before = trial_stats(loop);
        for (int i = 0; i < bursts; i++) {
            plain_send_numbers(client, &there, (uint32_t)server.datagrams, burst, 10);
            mate_until(&server, server.datagrams + (int)burst);
        }
        const uint64_t calls = trial_stats(loop).syscalls - before.syscalls;
        /* Each burst: the wait, one read or two. On epoll busy sockets make more. */
        assert_true(calls < 3 * (uint64_t)bursts + 100 || !asks_singly(loop));
        mate_close(&server);
    }
    close(client);
    test_loop_end(loop);
}

/* Nothing can be received, and that at once: it is no datagram, and no reason to turn. */
static void shut_down_socket_brings_nothing_and_does_not_spin(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    shutdown(gyre_dgram_number(&server.dgram), SHUT_RD); /* ENOTCONN, and done all the same */
    trial_turns(loop, 3);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    assert_int_equal(server.datagrams, SETTLED);
    finish(&server, client);
}

static void single_datagrams_behind_a_burst_are_not_overtaken(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int room = 1 << 20;
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    assert_int_equal(
        setsockopt(gyre_dgram_number(&server.dgram), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
        0);
    const struct gyre_addr there = mate_addr(&server);
    for (uint32_t sent = SETTLED; sent < SETTLED + 3000;) {
        plain_send_numbers(client, &there, sent, 300, 10); /* more than a turn takes */
        sent += 300;
        for (int i = 0; i < 3; i++, sent++) {
            trial_turns(loop, 1);
            plain_send_numbers(client, &there, sent, 1, 10);
        }
        mate_until(&server, (int)sent);
    }
    finish(&server, client);
}

static void pause_while_one_is_asked_for_leaves_the_rest_to_the_kernel(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    const struct gyre_addr there = mate_addr(&server);
    for (int round = 0; round < 5; round++) {
        const int before = server.datagrams;
        const uint64_t kept = trial_stats(loop).allocations;

        assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
        trial_turns(loop, round % 2); /* it may be with the kernel, or not yet */
        plain_send_numbers(client, &there, (uint32_t)before, 5, 10);
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
        assert_int_equal(server.datagrams, before);
        assert_true(trial_stats(loop).allocations - kept <= 1); /* the one that was asked for */
        assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
        assert_int_equal(server.datagrams, before);
        mate_until(&server, before + 5);
        send_one_by_one(&server, client, SETTLED, 10);
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    finish(&server, client);
}

/* Told of them, as the pause has made it, and to ask again: not at the same time. */
static void burst_after_a_pause_arrives_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const int room = 1 << 20;
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    assert_int_equal(
        setsockopt(gyre_dgram_number(&server.dgram), SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
        0);
    const struct gyre_addr there = mate_addr(&server);
    for (int round = 0; round < 5; round++) {
        assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
        plain_send_numbers(client, &there, (uint32_t)server.datagrams, 1, 10);
        trial_turns(loop, 2);
        assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
        mate_until(&server, server.datagrams + 1);
        plain_send_numbers(client, &there, (uint32_t)server.datagrams, 300, 10);
        mate_until(&server, server.datagrams + 300);
        send_one_by_one(&server, client, SETTLED, 10);
    }
    finish(&server, client);
}

static void resume_with_one_kept_delivers_it_first(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    const struct gyre_addr there = mate_addr(&server);
    trial_turns(loop, 1);
    assert_int_equal(gyre_dgram_pause(&server.dgram), 0);
    plain_send_numbers(client, &there, SETTLED, 1, 10);
    trial_turns(loop, 2);
    assert_int_equal(gyre_dgram_resume(&server.dgram), 0);
    plain_send_numbers(client, &there, SETTLED + 1, 2, 10);
    mate_until(&server, SETTLED + 3);
    finish(&server, client);
}

static void close_while_one_is_asked_for_ends_everything(void)
{
    for (int turns = 0; turns < 3; turns++) {
        struct gyre_loop *loop = test_loop();
        const int client = plain_open("127.0.0.1", NULL);
        struct gyre_dgram_stats stats;
        struct mate server;

        open_settled(&server, loop, client, (struct gyre_dgram_options){0});
        const struct gyre_addr there = mate_addr(&server);
        trial_turns(loop, turns > 0);
        if (turns < 2) {
            plain_send_numbers(client, &there, SETTLED, 1, 10);
        }
        const int before = server.datagrams;
        mate_close(&server);
        assert_int_equal(server.datagrams, before); /* none behind close */
        assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
        if (turns == 0) { /* it is received, as it was asked for before the end was */
            assert_int_equal(stats.lost, asks_singly(loop));
        }
        close(client);
        test_loop_end(loop);
    }
}

static void close_it(struct mate *mate, const struct gyre_datagram *datagram)
{
    (void)datagram;
    assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
}

static void close_when_a_single_one_arrives(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){0});
    server.then = close_it;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, SETTLED, 3, 10);
    test_turns_until(loop, &server.closes);
    assert_int_equal(server.datagrams, SETTLED + 1);
    close(client);
    test_loop_end(loop);
}

static void single_datagram_is_truncated_and_the_next_intact(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    uint8_t bytes[200];
    struct mate server;

    open_settled(&server, loop, client, (struct gyre_dgram_options){.receive_max = 100});
    server.then = NULL;
    const struct gyre_addr there = mate_addr(&server);
    memset(bytes, 7, sizeof(bytes));
    for (int i = 0; i < 3; i++) {
        plain_send(client, &there, bytes, sizeof(bytes));
        mate_until(&server, SETTLED + 2 * i + 1);
        assert_int_equal(server.last.len, 100);
        assert_true(server.last.flags & GYRE_DGRAM_TRUNCATED);
        plain_send(client, &there, bytes, i * 50u); /* an empty one too */
        mate_until(&server, SETTLED + 2 * i + 2);
        assert_int_equal(server.last.len, i * 50);
        assert_int_equal(server.last.flags, 0);
    }
    assert_memory_equal(server.bytes, bytes, 100);
    finish(&server, client);
}

static void single_datagram_tells_where_it_went(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr mine;
    const int client = plain_open("127.0.0.1", &mine);
    const int ttl = 33;
    struct mate server;

    assert_int_equal(setsockopt(client, IPPROTO_IP, IP_TTL, &ttl, sizeof(ttl)), 0);
    open_settled(&server, loop, client,
                 (struct gyre_dgram_options){.flags = GYRE_DGRAM_PACKET_INFO | GYRE_DGRAM_TTL});
    for (int i = 0; i < 40; i++) {
        memset(&server.local, 0, sizeof(server.local));
        send_one_by_one(&server, client, 1, 10 + (size_t)i);
        assert_int_equal(server.local.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        assert_int_equal(server.last.ttl, ttl);
        assert_int_equal(server.last.len, 10 + i);
        addr_same(&server.from, &mine);
    }
    finish(&server, client);
}

static void refused_while_one_is_asked_for_is_told_and_the_socket_works_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr mine;
    int client = plain_open("127.0.0.1", &mine);
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct mate server;

    mate_open(&server, loop, (struct gyre_dgram_options){.local = &local, .peer = &mine});
    server.then = mate_in_order;
    send_one_by_one(&server, client, SETTLED, 10);
    assert_int_equal(server.dgram.lone != NULL, asks_singly(loop));
    for (int i = 0; i < 3; i++) {
        close(client);
        assert_int_equal(gyre_dgram_send(&server.dgram, NULL, "x", 1), 0);
        test_turns_until_count(loop, &server.errors, i + 1);
        assert_int_equal(server.error, -ECONNREFUSED);
        assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
        client = plain_try(&mine, NULL);
        assert_true(client >= 0);
        send_one_by_one(&server, client, SETTLED, 10);
        assert_int_equal(server.errors, i + 1);
    }
    finish(&server, client);
}

static void sockets_beyond_sixty_four_wait_as_ever(void)
{
    static struct mate servers[SOCKETS + 1];
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    struct mate *last = &servers[SOCKETS];

    for (int i = 0; i < SOCKETS; i++) {
        open_settled(&servers[i], loop, client, (struct gyre_dgram_options){0});
    }
    mate_open(last, loop, (struct gyre_dgram_options){.local = &local});
    last->then = mate_in_order;
    send_one_by_one(last, client, 2 * SETTLED, 10);
    assert_null(last->dgram.lone);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    const struct gyre_addr first = mate_addr(&servers[0]);
    assert_int_equal(gyre_dgram_pause(&servers[0].dgram), 0); /* which makes room */
    plain_send_numbers(client, &first, SETTLED, 1, 10);
    trial_turns(loop, 2);
    send_one_by_one(last, client, SETTLED, 10);
    assert_int_equal(last->dgram.lone != NULL, asks_singly(loop));
    for (int i = 0; i <= SOCKETS; i++) {
        mate_close(&servers[i]);
    }
    close(client);
    test_loop_end(loop);
}

static void large_ones_and_some_sockets_are_not_asked_for_singly(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const int number = plain_try(&local, NULL);
    uint8_t bytes[4000] = {0};
    struct mate large;
    struct mate detailed;
    struct mate adopted;

    mate_open(&large, loop, (struct gyre_dgram_options){.local = &local});
    const struct gyre_addr there = mate_addr(&large);
    for (int i = 0; i < SETTLED; i++) {
        plain_send(client, &there, bytes, sizeof(bytes));
        mate_until(&large, i + 1);
    }
    assert_null(large.dgram.lone);

    mate_open(&detailed, loop,
              (struct gyre_dgram_options){.local = &local, .flags = GYRE_DGRAM_ERROR_DETAIL});
    detailed.then = mate_in_order;
    send_one_by_one(&detailed, client, SETTLED, 10);
    assert_null(detailed.dgram.lone);
    mate_close(&detailed);

    assert_int_equal(fcntl(number, F_SETFL, O_NONBLOCK), 0);
    memset(&adopted, 0, sizeof(adopted));
    adopted.loop = loop;
    adopted.then = mate_in_order;
    assert_int_equal(gyre_dgram_adopt(&adopted.dgram, loop, number,
                                      &(struct gyre_dgram_options){.handler = &mate_handler}),
                     0);
    send_one_by_one(&adopted, client, SETTLED, 10);
    assert_null(adopted.dgram.lone);
    mate_close(&adopted);
    finish(&large, client);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(single_datagram_costs_two_calls_on_io_uring_and_three_on_epoll),
        TEST_CASE(single_and_many_in_any_succession_arrive_in_order),
        TEST_CASE(flood_of_a_settled_socket_makes_few_system_calls),
        TEST_CASE(bursts_of_a_settled_socket_make_few_system_calls),
        TEST_CASE(shut_down_socket_brings_nothing_and_does_not_spin),
        TEST_CASE(single_datagrams_behind_a_burst_are_not_overtaken),
        TEST_CASE(pause_while_one_is_asked_for_leaves_the_rest_to_the_kernel),
        TEST_CASE(burst_after_a_pause_arrives_in_order),
        TEST_CASE(resume_with_one_kept_delivers_it_first),
        TEST_CASE(close_while_one_is_asked_for_ends_everything),
        TEST_CASE(close_when_a_single_one_arrives),
        TEST_CASE(single_datagram_is_truncated_and_the_next_intact),
        TEST_CASE(single_datagram_tells_where_it_went),
        TEST_CASE(refused_while_one_is_asked_for_is_told_and_the_socket_works_on),
        TEST_CASE(sockets_beyond_sixty_four_wait_as_ever),
        TEST_CASE(large_ones_and_some_sockets_are_not_asked_for_singly),
    };

    return test_main("net-dgram_lone", cases, TEST_COUNT(cases));
}
