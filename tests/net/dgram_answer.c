/*
 * Datagram sockets: what is sent from on_datagram(), which leaves when the callbacks of a batch have
 * returned, and mostly without having been queued.
 */
#include "dgramkit.h"

#define TAKEN_LAST 70000

static void open_v4(struct mate *mate, struct gyre_loop *loop)
{
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);

    mate_open(mate, loop, (struct gyre_dgram_options){.local = &local});
}

/* Turns until a plain socket has the next datagram, which must begin with @number. */
static void expect_next(struct gyre_loop *loop, int socket, uint32_t number)
{
    static uint8_t bytes[TAKEN_LAST];
    uint32_t got;

    plain_until(loop, socket);
    assert_true(plain_take(socket, bytes, sizeof(bytes), NULL) >= (ssize_t)sizeof(got));
    memcpy(&got, bytes, sizeof(got));
    assert_int_equal(got, number);
}

static uint32_t number_of(const struct gyre_datagram *datagram)
{
    uint32_t number;

    assert_true(datagram->len >= sizeof(number));
    memcpy(&number, datagram->data, sizeof(number));
    return number;
}

/* ---- order ---- */

static int released;

static void on_release(struct gyre_dgram *dgram, void *context)
{
    (void)dgram;
    (void)context;
    released++;
}

/* In place, a copy, by reference, in segments, a copy again; each carries the question's number. */
static void answer_in_all_ways(struct mate *mate, const struct gyre_datagram *datagram)
{
    static uint32_t lent[64];
    const uint32_t number = number_of(datagram);
    const uint32_t twice[2] = {number, number};
    uint32_t passing = number;

    lent[number % 64] = number;
    mate_echo(mate, datagram);
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, &passing, sizeof(passing)), 0);
    passing = UINT32_MAX;
    assert_int_equal(gyre_dgram_send_message(
                         &mate->dgram, &(struct gyre_dgram_message){.to = datagram->from,
                                                                    .data = &lent[number % 64],
                                                                    .len = sizeof(number),
                                                                    .release = on_release}),
                     0);
    assert_int_equal(
        gyre_dgram_send_message(&mate->dgram, &(struct gyre_dgram_message){.to = datagram->from,
                                                                           .data = twice,
                                                                           .len = sizeof(twice),
                                                                           .segment = 4}),
        0);
    mate_echo(mate, datagram);
}

static void answer_keeps_the_order_however_it_is_sent(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    released = 0;
    open_v4(&server, loop);
    server.then = answer_in_all_ways;
    const struct gyre_addr there = mate_addr(&server);
    for (uint32_t first = 0; first < 80; first += 20) {
        plain_send_numbers(client, &there, first, 20, 10);
        for (uint32_t i = 0; i < 20 * 6; i++) {
            expect_next(loop, client, first + i / 6);
        }
    }
    trial_turns(loop, 2);
    plain_expect_none(client);
    assert_int_equal(released, 80);
    assert_int_equal(server.errors, 0);
    assert_int_equal(gyre_dgram_queued(&server.dgram), 0);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* Another socket sends a whole batch from the callback. */
static void answer_and_flood_another(struct mate *mate, const struct gyre_datagram *datagram)
{
    struct mate *other = mate->context;

    mate_echo(mate, datagram);
    for (uint32_t i = 0; i < 70; i++) {
        assert_int_equal(
            gyre_dgram_send(&other->dgram, &other->from, &other->next, sizeof(other->next)), 0);
        other->next++;
    }
    mate_echo(mate, datagram);
}

static void answer_while_another_socket_sends_stays_whole(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_addr there;
    const int crowd = plain_open("127.0.0.1", &there);
    static struct mate server;
    static struct mate other;

    open_v4(&server, loop);
    open_v4(&other, loop);
    other.from = there;
    server.then = answer_and_flood_another;
    server.context = &other;
    const struct gyre_addr at = mate_addr(&server);
    plain_send_numbers(client, &at, 0, 3, 10);
    for (uint32_t i = 0; i < 6; i++) {
        expect_next(loop, client, i / 2);
    }
    for (uint32_t i = 0; i < 210; i++) {
        expect_next(loop, crowd, i);
    }
    plain_expect_none(client);
    mate_close(&server);
    mate_close(&other);
    close(client);
    close(crowd);
    test_loop_end(loop);
}

/* ---- what belongs to whom ---- */

static void answer_from_passing_memory(struct mate *mate, const struct gyre_datagram *datagram)
{
    const size_t len = 1 + number_of(datagram) % 3000;
    struct gyre_addr to = *datagram->from;
    uint8_t bytes[3000];

    wire_fill(bytes, len, WIRE_STREAM(number_of(datagram)));
    assert_int_equal(gyre_dgram_send(&mate->dgram, &to, bytes, len), 0);
    memset(bytes, 0xee, sizeof(bytes));
    memset(&to, 0xee, sizeof(to));
}

static void answer_copies_the_bytes_and_the_address(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    static uint8_t got[3000];
    struct mate server;

    open_v4(&server, loop);
    server.then = answer_from_passing_memory;
    const struct gyre_addr there = mate_addr(&server);
    for (uint32_t first = 0; first < 3000; first += 20) {
        plain_send_numbers(client, &there, first, 20, 10);
        for (uint32_t i = first; i < first + 20; i++) {
            plain_until(loop, client);
            assert_int_equal(plain_take(client, got, sizeof(got), NULL), 1 + i);
            wire_check(got, 1 + i, WIRE_STREAM(i));
        }
    }
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void answer_a_large_copy(struct mate *mate, const struct gyre_datagram *datagram)
{
    static uint8_t bytes[60000];

    assert_int_equal(datagram->len, sizeof(bytes));
    memcpy(bytes, datagram->data, sizeof(bytes));
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, bytes, sizeof(bytes)), 0);
    memset(bytes, 0xee, sizeof(bytes));
}

static void answer_large_in_one_batch_intact(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr here;
    const int client = plain_unix(&here);
    static uint8_t bytes[60000];
    struct gyre_addr there;
    struct mate server;
    int sent;

    close(plain_unix(&there)); /* a name that is free again */
    mate_open(&server, loop, (struct gyre_dgram_options){.local = &there});
    server.then = answer_a_large_copy;
    for (size_t round = 0; round < 5; round++) {
        for (sent = 0; sent < 3; sent++) { /* as many as one socket's buffer holds */
            wire_fill(bytes, sizeof(bytes), WIRE_STREAM(sent));
            plain_send(client, &there, bytes, sizeof(bytes));
        }
        for (int i = 0; i < sent; i++) {
            plain_until(loop, client);
            assert_int_equal(plain_take(client, bytes, sizeof(bytes), NULL), sizeof(bytes));
            wire_check(bytes, sizeof(bytes), WIRE_STREAM(i));
        }
    }
    assert_int_equal(server.errors, 0);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* ---- a socket that does not take them ---- */

/* A counter in passing memory, and the question in place. */
static void answer_four_fold(struct mate *mate, const struct gyre_datagram *datagram)
{
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, &mate->next, sizeof(mate->next)),
                         0);
        mate->next++;
        mate_echo(mate, datagram);
    }
}

static void answer_to_a_full_socket_waits_for_room_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram_options options = {.handler = &mate_handler};
    static struct mate server;
    uint32_t asked = 0;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    server.loop = loop;
    server.then = answer_four_fold;
    assert_int_equal(gyre_dgram_adopt(&server.dgram, loop, pair[0], &options), 0);
    for (uint32_t round = 0; round < 30; round++) {
        for (int i = 0; i < 20; i++, asked++) {
            assert_int_equal(send(pair[1], &asked, sizeof(asked), 0), sizeof(asked));
        }
        mate_until(&server, (int)asked);
        if (round % 10 == 9) { /* what is kept lies in memory that has been received into since */
            assert_true(gyre_dgram_queued(&server.dgram) > 0);
            for (uint32_t i = (asked - 200) * 4; i < asked * 4; i++) {
                expect_next(loop, pair[1], i);
                expect_next(loop, pair[1], i / 4);
            }
        }
    }
    assert_int_equal(server.errors, 0);
    mate_close(&server);
    close(pair[1]);
    test_loop_end(loop);
}

/* Echo, but the number of context goes where nobody may send to. */
static void answer_one_badly(struct mate *mate, const struct gyre_datagram *datagram)
{
    const struct gyre_addr bad = addr_v4("255.255.255.255", 9);

    if (number_of(datagram) == *(uint32_t *)mate->context) {
        assert_int_equal(gyre_dgram_send(&mate->dgram, &bad, "x", 1), 0);
    }
    mate_echo(mate, datagram);
}

static void answer_that_fails_fails_alone(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr bad = addr_v4("255.255.255.255", 9);
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_dgram_stats stats;
    struct mate server;
    uint32_t at;

    open_v4(&server, loop);
    server.then = answer_one_badly;
    server.context = &at;
    const struct gyre_addr there = mate_addr(&server);
    for (at = 0; at < 10; at++) {
        plain_send_numbers(client, &there, 0, 10, 10);
        for (uint32_t i = 0; i < 10; i++) {
            expect_next(loop, client, i);
        }
        test_turns_until_count(loop, &server.errors, (int)at + 1);
        assert_int_equal(server.errors, at + 1);
        assert_int_equal(server.error, -EACCES);
        addr_same(&server.error_to, &bad);
    }
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    assert_int_equal(stats.sent, 100);
    assert_int_equal(stats.unsent, 10);
    assert_int_equal(gyre_dgram_queued(&server.dgram), 0);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

static void answer_ten_and_no_more(struct mate *mate, const struct gyre_datagram *datagram)
{
    for (size_t i = 0; i < 10; i++) {
        assert_int_equal(gyre_dgram_queued(&mate->dgram), i * datagram->len);
        mate_echo(mate, datagram);
    }
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, "x", 1), -ENOBUFS);
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, datagram->data, 4), -ENOBUFS);
}

static void answer_above_the_limit_is_refused_and_drain_follows(void)
{
    struct gyre_loop *loop = test_loop();
    const struct gyre_addr local = addr_v4("127.0.0.1", 0);
    const int client = plain_open("127.0.0.1", NULL);
    struct mate server;

    mate_open(&server, loop, (struct gyre_dgram_options){.local = &local, .queue_count = 10});
    server.then = answer_ten_and_no_more;
    const struct gyre_addr there = mate_addr(&server);
    for (uint32_t round = 0; round < 3; round++) {
        plain_send_numbers(client, &there, round, 1, 10);
        for (int i = 0; i < 10; i++) {
            expect_next(loop, client, round);
        }
        test_turns_until_count(loop, &server.drains, (int)round + 1);
        assert_int_equal(server.drains, round + 1);
    }
    plain_expect_none(client);
    assert_int_equal(gyre_dgram_queued(&server.dgram), 0);
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

/* ---- the end ---- */

static void answer_and_close_at_five(struct mate *mate, const struct gyre_datagram *datagram)
{
    mate_echo(mate, datagram);
    if (mate->datagrams == 5) {
        assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
        assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, datagram->data, datagram->len),
                         GYRE_ECLOSING);
    }
}

static void answer_before_close_still_leaves(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_dgram_stats stats;
    struct mate server;

    open_v4(&server, loop);
    server.then = answer_and_close_at_five;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 20, 10);
    test_turns_until(loop, &server.closes);
    plain_expect_numbers(client, 0, 5);
    plain_expect_none(client);
    assert_int_equal(gyre_dgram_stats(&server.dgram, &stats), 0);
    assert_int_equal(stats.sent, 5);
    close(client);
    test_loop_end(loop);
}

/* ---- all of it at once ---- */

enum {
    NODES = 5, /* the last is one end of a pair */
    SINKS = 3,
    HEAD = 8,
    LONGEST = 3000,
};

struct crowd {
    struct gyre_loop *loop;
    struct crowd_node {
        struct gyre_dgram dgram;
        struct crowd *crowd;
        struct gyre_addr at;
        int open; /* until on_close() */
        uint64_t accepted;
    } node[NODES];
    int sink[SINKS]; /* the first is the other end of the pair, at no address */
    struct gyre_addr sink_at[SINKS];
    uint8_t lent[LONGEST];
    size_t lent_len;
    uint32_t lends;
    uint32_t releases;
    uint32_t seed;
    int ends; /* nothing is started any more */
    int closed;
};

static uint32_t chance(struct crowd *crowd, uint32_t below)
{
    return wire_random(&crowd->seed, below);
}

/* A datagram that says what it has to be. */
static size_t crowd_make(struct crowd *crowd, uint8_t *bytes)
{
    const uint32_t head[2] = {chance(crowd, 1 << 20),
                              HEAD + chance(crowd, chance(crowd, 4) == 0 ? LONGEST - HEAD : 60)};

    memcpy(bytes, head, HEAD);
    wire_fill(bytes + HEAD, head[1] - HEAD, WIRE_STREAM(head[0]));
    return head[1];
}

static void crowd_check(const uint8_t *bytes, size_t len)
{
    uint32_t head[2];

    assert_true(len >= HEAD);
    memcpy(head, bytes, HEAD);
    assert_int_equal(head[1], len);
    wire_check(bytes + HEAD, len - HEAD, WIRE_STREAM(head[0]));
}

static void crowd_release(struct gyre_dgram *dgram, void *context)
{
    (void)context;
    gyre_container_of(dgram, struct crowd_node, dgram)->crowd->releases++;
}

/* Anywhere: a node, a sink, nobody; NULL for the peer of the pair, which others do not have. */
static const struct gyre_addr *crowd_to(struct crowd *crowd)
{
    static const struct gyre_addr nobody_has = {
        .len = sizeof(sa_family_t) + 8, .un = {.sun_family = AF_UNIX, .sun_path = "\0nobody"}};
    const uint32_t which = chance(crowd, NODES + SINKS);

    if (which < NODES) {
        return which < NODES - 1 && crowd->node[which].open ? &crowd->node[which].at : NULL;
    }
    return which > NODES           ? &crowd->sink_at[which - NODES]
           : chance(crowd, 4) == 0 ? &nobody_has
                                   : NULL;
}

static void crowd_count(struct crowd_node *node, int rc)
{
    node->accepted += rc == 0;
    assert_true(rc == 0 || rc == -ENOBUFS || rc == -EDESTADDRREQ || rc == GYRE_ECLOSING ||
                rc == -EINVAL);
}

static void crowd_send(struct crowd *crowd, struct crowd_node *node,
                       const struct gyre_datagram *datagram)
{
    struct gyre_dgram_message message = {.to = crowd_to(crowd)};
    uint8_t bytes[LONGEST];
    int rc;

    switch (chance(crowd, 4)) {
    case 0:
        crowd_count(node, gyre_dgram_reply(&node->dgram, datagram, datagram->data, datagram->len));
        break;
    case 1:
        message.data = datagram->data;
        message.len = datagram->len;
        crowd_count(node, gyre_dgram_send_message(&node->dgram, &message));
        break;
    case 2:
        message.len = crowd_make(crowd, bytes);
        crowd_count(node, gyre_dgram_send(&node->dgram, message.to, bytes, message.len));
        memset(bytes, 0xee, sizeof(bytes));
        break;
    default:
        message.data = crowd->lent;
        message.len = crowd->lent_len;
        message.release = crowd_release;
        rc = gyre_dgram_send_message(&node->dgram, &message);
        crowd->lends += rc == 0;
        crowd_count(node, rc);
    }
}

static void crowd_on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct crowd_node *node = gyre_container_of(dgram, struct crowd_node, dgram);
    struct crowd *crowd = node->crowd;

    crowd_check(datagram->data, datagram->len);
    for (uint32_t i = chance(crowd, 4); i > 0 && !crowd->ends; i--) {
        struct crowd_node *one = chance(crowd, 2) ? node : &crowd->node[chance(crowd, NODES)];

        if (!one->open) {
            continue;
        }
        switch (chance(crowd, 40)) {
        case 0:
            gyre_dgram_close(&one->dgram);
            break;
        case 1:
        case 2:
            gyre_dgram_pause(&one->dgram);
            break;
        case 3:
        case 4:
            gyre_dgram_resume(&one->dgram);
            break;
        default:
            crowd_send(crowd, one, datagram);
        }
    }
    crowd_check(datagram->data, datagram->len);
}

static void crowd_on_close(struct gyre_dgram *dgram)
{
    struct crowd_node *node = gyre_container_of(dgram, struct crowd_node, dgram);
    struct gyre_dgram_stats stats;

    assert_int_equal(gyre_dgram_stats(dgram, &stats), 0);
    assert_int_equal(stats.sent + stats.unsent, node->accepted);
    node->open = 0;
    node->crowd->closed++;
}

static const struct gyre_dgram_handler crowd_handler = {.on_datagram = crowd_on_datagram,
                                                        .on_close = crowd_on_close};

static void crowd_open(struct crowd *crowd, int index)
{
    const struct gyre_addr local = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX};
    struct crowd_node *node = &crowd->node[index];
    struct gyre_dgram_options options = {.handler = &crowd_handler,
                                         .queue_count = index % 2 ? 20 : 0};
    int pair[2];

    *node = (struct crowd_node){.crowd = crowd, .open = 1};
    if (index < NODES - 1) {
        options.local = &local;
        assert_int_equal(gyre_dgram_open(&node->dgram, crowd->loop, &options), 0);
        assert_int_equal(gyre_dgram_local(&node->dgram, &node->at), 0);
        return;
    }
    if (crowd->sink[0] > 0) {
        close(crowd->sink[0]);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    wire_send_buffer(pair[0], 1); /* it waits for room often */
    assert_int_equal(gyre_dgram_adopt(&node->dgram, crowd->loop, pair[0], &options), 0);
    crowd->sink[0] = pair[1];
}

static void crowd_drain(int sink)
{
    uint8_t bytes[LONGEST];
    ssize_t len;

    while ((len = recv(sink, bytes, sizeof(bytes), MSG_DONTWAIT)) >= 0) {
        crowd_check(bytes, (size_t)len);
    }
}

static void crowd_step(struct crowd *crowd)
{
    uint8_t bytes[LONGEST];

    for (uint32_t i = chance(crowd, 40); i > 0; i--) {
        const struct crowd_node *node = &crowd->node[chance(crowd, NODES - 1)];
        const size_t len = crowd_make(crowd, bytes);
        const int from = crowd->sink[1 + chance(crowd, SINKS - 1)];

        if (chance(crowd, 5) == 0) {
            send(crowd->sink[0], bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        } else if (node->open) {
            sendto(from, bytes, len, MSG_DONTWAIT, &node->at.any, node->at.len);
        }
    }
    trial_turns(crowd->loop, 1 + (int)chance(crowd, 3));
    for (int i = 0; i < SINKS; i++) {
        if (chance(crowd, 4) == 0) {
            crowd_drain(crowd->sink[i]);
        }
    }
    for (int i = 0; i < NODES; i++) {
        if (!crowd->node[i].open) {
            crowd_open(crowd, i);
        } else if (chance(crowd, 10) == 0) {
            gyre_dgram_resume(&crowd->node[i].dgram);
        }
    }
}

/* Sockets that answer, send for each other, pause, wait for room and close each other in the middle
 * of their batches. */
static void answer_in_a_crowd_leaves_whole_or_is_counted_unsent(void)
{
    static struct crowd crowd;

    for (uint32_t run = 0; run < 10; run++) {
        int open = 0;

        memset(&crowd, 0, sizeof(crowd));
        crowd.loop = test_loop();
        crowd.seed = run + 1;
        crowd.lent_len = crowd_make(&crowd, crowd.lent);
        for (int i = 0; i < NODES; i++) {
            crowd_open(&crowd, i);
        }
        for (int i = 1; i < SINKS; i++) {
            crowd.sink[i] = plain_unix(&crowd.sink_at[i]);
        }
        for (int i = 0; i < test_steps(400, 1); i++) {
            crowd_step(&crowd);
        }
        crowd.ends = 1;
        for (int i = 0; i < NODES; i++) {
            open += crowd.node[i].open;
        }
        const int goal = crowd.closed + open;
        for (int i = 0; i < NODES; i++) {
            if (crowd.node[i].open) {
                gyre_dgram_close(&crowd.node[i].dgram);
            }
        }
        test_turns_until_count(crowd.loop, &crowd.closed, goal);
        assert_int_equal(crowd.lends, crowd.releases);
        for (int i = 0; i < SINKS; i++) {
            crowd_drain(crowd.sink[i]);
            close(crowd.sink[i]);
        }
        test_loop_end(crowd.loop);
    }
}

/* ---- what it costs ---- */

static void answer_of_a_batch_is_one_system_call(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = plain_open("127.0.0.1", NULL);
    struct gyre_loop_stats before;
    struct mate server;

    open_v4(&server, loop);
    server.then = mate_echo;
    const struct gyre_addr there = mate_addr(&server);
    plain_send_numbers(client, &there, 0, 50, 10); /* a page of the queue's memory is there now */
    mate_until(&server, 50);
    plain_expect_numbers(client, 0, 50);
    before = trial_stats(loop);
    plain_send_numbers(client, &there, 50, 50, 10);
    mate_until(&server, 100);
    plain_expect_numbers(client, 50, 50);
    assert_int_equal(trial_stats(loop).allocations, before.allocations);
    assert_true(trial_stats(loop).syscalls - before.syscalls -
                    (trial_stats(loop).enters - before.enters) <=
                2); /* one to receive, one to send */
    mate_close(&server);
    close(client);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(answer_keeps_the_order_however_it_is_sent),
        TEST_CASE(answer_while_another_socket_sends_stays_whole),
        TEST_CASE(answer_copies_the_bytes_and_the_address),
        TEST_CASE(answer_large_in_one_batch_intact),
        TEST_CASE(answer_to_a_full_socket_waits_for_room_in_order),
        TEST_CASE(answer_that_fails_fails_alone),
        TEST_CASE(answer_above_the_limit_is_refused_and_drain_follows),
        TEST_CASE(answer_before_close_still_leaves),
        TEST_CASE(answer_in_a_crowd_leaves_whole_or_is_counted_unsent),
        TEST_CASE(answer_of_a_batch_is_one_system_call),
    };

    return test_main("net-dgram-answer", cases, TEST_COUNT(cases));
}
