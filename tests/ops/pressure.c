/* Queues far too small for what is asked of them: it takes longer, and nothing else. On epoll, which
 * has no queues, the same work must come out the same. */
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOAD  1000
#define PAIRS 200

/* The smallest queues there are. */
static struct gyre_loop *small_loop(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop_info info;

    options.sq_entries = 8;
    options.cq_entries = 16;
    struct gyre_loop *loop = test_loop_with(&options);
    assert_int_equal(gyre_loop_info(loop, &info), 0);
    assert_int_equal(info.sq_entries, test_variant_uring() ? 8 : 0);
    assert_int_equal(info.cq_entries, test_variant_uring() ? 16 : 0);
    return loop;
}

/* Asserts that the queue did overflow, else the case has shown nothing. */
static void small_loop_end(struct gyre_loop *loop)
{
    assert_true(trial_stats(loop).overflows > 0 || !test_variant_uring());
    test_loop_end(loop);
}

struct swarm {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct trial trials[LOAD];
    uint8_t data[LOAD];
    int ended;
};

static void count_end(struct trial *trial, const struct gyre_result *result)
{
    struct swarm *swarm = trial->context;

    (void)result;
    swarm->ended++;
}

/* Half of them need the kernel. */
static void start_many(struct trial *trial, const struct gyre_result *result)
{
    struct swarm *swarm = trial->context;

    (void)result;
    for (size_t i = 0; i < LOAD; i++) {
        struct gyre_op *op = &swarm->trials[i].op;

        trial_init(&swarm->trials[i], count_end, swarm);
        assert_int_equal(i % 2 == 0 ? gyre_op_nop(op, swarm->loop)
                                    : gyre_op_poll(op, &swarm->fd, POLLOUT, 0),
                         0);
    }
    assert_int_equal(swarm->ended, 0);
}

/* L16, Q02: the loop's return says that nothing is left behind in an overflow. */
static void pressure_of_a_thousand_starts_in_one_callback_all_end(void)
{
    static struct swarm swarm;
    struct trial first;
    int pair[2];

    test_unix_pair(pair);
    swarm.loop = small_loop();
    trial_attach(swarm.loop, &swarm.fd, pair[0]);
    trial_init(&first, start_many, &swarm);
    assert_int_equal(gyre_op_nop(&first.op, swarm.loop), 0);
    assert_int_equal(gyre_loop_run(swarm.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(swarm.ended, LOAD);
    for (size_t i = 0; i < LOAD; i++) {
        assert_int_equal(swarm.trials[i].res, i % 2 == 0 ? 0 : POLLOUT);
    }
    trial_close(swarm.loop, &swarm.fd);
    close(pair[1]);
    small_loop_end(swarm.loop);
}

/* Q02: nobody waits for the kernel, which alone can bring what has overflowed. */
static void pressure_completions_arrive_in_turns_that_do_not_wait(void)
{
    static struct swarm swarm;
    int pair[2];

    test_unix_pair(pair);
    swarm.loop = small_loop();
    trial_attach(swarm.loop, &swarm.fd, pair[0]);
    for (size_t i = 0; i < LOAD; i++) {
        trial_init(&swarm.trials[i], count_end, &swarm);
        assert_int_equal(gyre_op_poll(&swarm.trials[i].op, &swarm.fd, POLLOUT, 0), 0);
    }
    trial_turns(swarm.loop, LOAD);
    assert_int_equal(swarm.ended, LOAD);
    trial_close(swarm.loop, &swarm.fd);
    close(pair[1]);
    small_loop_end(swarm.loop);
}

static void start_sends(struct trial *trial, const struct gyre_result *result)
{
    struct swarm *swarm = trial->context;

    (void)result;
    for (size_t i = 0; i < LOAD; i++) {
        trial_init(&swarm->trials[i], count_end, swarm);
        assert_int_equal(gyre_op_send(&swarm->trials[i].op, &swarm->fd, &swarm->data[i], 1), 0);
    }
}

/* L16 */
static void pressure_of_a_thousand_sends_on_one_socket_keeps_their_order(void)
{
    static struct swarm swarm;
    struct trial first;
    int pair[2];

    test_unix_pair(pair);
    swarm.loop = small_loop();
    trial_attach(swarm.loop, &swarm.fd, pair[0]);
    wire_fill(swarm.data, LOAD, 0);
    trial_init(&first, start_sends, &swarm);
    assert_int_equal(gyre_op_nop(&first.op, swarm.loop), 0);
    size_t got = 0;
    while (got < LOAD) { /* a socket takes a few hundred such small messages at a time */
        trial_turns(swarm.loop, 1);
        got += wire_take_stream(pair[1], LOAD, got);
    }
    test_turns_until_count(swarm.loop, &swarm.ended, LOAD);
    for (size_t i = 0; i < LOAD; i++) {
        assert_int_equal(swarm.trials[i].res, 1);
        assert_true(i == 0 || swarm.trials[i].rank > swarm.trials[i - 1].rank);
    }
    trial_close(swarm.loop, &swarm.fd);
    close(pair[1]);
    test_loop_end(swarm.loop);
}

/* Q01: a thousand receives wait, and all their data comes between two turns. */
static void pressure_of_a_thousand_completions_in_one_turn_all_arrive(void)
{
    static struct swarm swarm;
    static struct gyre_fd fds[LOAD];
    static int peers[LOAD];

    wire_raise_descriptors(2 * LOAD + 64);
    swarm.loop = small_loop();
    for (size_t i = 0; i < LOAD; i++) {
        int pair[2];

        test_unix_pair(pair);
        peers[i] = pair[1];
        trial_attach(swarm.loop, &fds[i], pair[0]);
        trial_init(&swarm.trials[i], count_end, &swarm);
        assert_int_equal(gyre_op_recv(&swarm.trials[i].op, &fds[i], &swarm.data[i], 1, 0), 0);
    }
    trial_turns(swarm.loop, 3);
    assert_int_equal(swarm.ended, 0);
    for (size_t i = 0; i < LOAD; i++) {
        wire_send_stream(peers[i], 1, i);
    }
    test_turns_until_count(swarm.loop, &swarm.ended, LOAD);
    for (size_t i = 0; i < LOAD; i++) {
        assert_int_equal(swarm.trials[i].res, 1);
        wire_check(&swarm.data[i], 1, i);
        trial_close(swarm.loop, &fds[i]);
        close(peers[i]);
    }
    small_loop_end(swarm.loop);
}

struct lane {
    struct gyre_fd fd;
    struct reader reader;
    int peer;
};

/* Q01, Q05: multishot receives, which the kernel ends when the queue overflows. */
static void receive_under_pressure(enum reader_mode mode)
{
    struct gyre_loop *loop = small_loop();
    struct lane *lanes = calloc(PAIRS, sizeof *lanes);
    uint64_t sent = 0;

    assert_non_null(lanes);
    reader_announce(mode);
    for (size_t i = 0; i < PAIRS; i++) {
        int pair[2];

        test_unix_pair(pair);
        lanes[i].peer = pair[1];
        trial_attach(loop, &lanes[i].fd, pair[0]);
        reader_start(&lanes[i].reader, &lanes[i].fd, mode, WIRE_STREAM(i));
    }
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < PAIRS; i++) {
            for (size_t piece = 0; piece < 5; piece++) {
                wire_send_stream(lanes[i].peer, 20, WIRE_STREAM(i) + sent + 20 * piece);
            }
        }
        sent += 100;
        trial_turns(loop, round % 3);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        reader_wait(loop, &lanes[i].reader, sent);
        shutdown(lanes[i].peer, SHUT_WR);
    }
    for (size_t i = 0; i < PAIRS; i++) {
        reader_end(loop, &lanes[i].reader);
        trial_close(loop, &lanes[i].fd);
        close(lanes[i].peer);
    }
    free(lanes);
    small_loop_end(loop);
}

static void pressure_on_multishot_receives_loses_nothing(void)
{
    receive_under_pressure(READER_MULTISHOT);
}

static void pressure_on_single_receives_loses_nothing(void)
{
    receive_under_pressure(READER_LEASE);
    receive_under_pressure(READER_PLAIN);
}

struct gate {
    int count;
    int numbers[LOAD];
};

static void keep_accepted(struct trial *trial, const struct gyre_result *result)
{
    struct gate *gate = trial->context;

    if (result->res >= 0) {
        gate->numbers[gate->count++] = result->res;
    }
}

/* Q05, A07: a multishot accept, ended by an overflow, goes on; no connection is lost. */
static void pressure_on_a_multishot_accept_loses_no_connection(void)
{
    struct gyre_loop *loop = small_loop();
    struct gyre_fd fd;
    struct sockaddr_in address;
    struct trial accepting;
    struct gyre_loop_info info;
    static struct gate gate;
    static int clients[LOAD];

    wire_raise_descriptors(2 * LOAD + 64);
    trial_attach(loop, &fd, wire_listener(SOMAXCONN, &address));
    trial_init(&accepting, keep_accepted, &gate);
    assert_int_equal(gyre_op_accept(&accepting.op, &fd, GYRE_MULTISHOT), 0);
    trial_turns(loop, 2);
    for (int i = 0; i < LOAD; i++) {
        clients[i] = test_connect(&address);
        if (i % 250 == 249) {
            test_turns_until_count(loop, &gate.count, i + 1);
        }
    }
    assert_int_equal(accepting.finals, 0);
    for (int i = 0; i < LOAD; i++) {
        wire_reset(clients[i]);
        wire_reset(gate.numbers[i]);
    }
    trial_close(loop, &fd);
    assert_int_equal(accepting.res, -ECANCELED);
    assert_int_equal(gyre_loop_info(loop, &info), 0);
    if (info.features & GYRE_FEATURE_MULTISHOT) {
        small_loop_end(loop);
    } else { /* one accept at a time overflows nothing */
        test_loop_end(loop);
    }
}

/* Q05: multishot polls. */
static void pressure_on_multishot_polls_loses_no_change(void)
{
    struct gyre_loop *loop = small_loop();
    static struct swarm swarm;
    static struct gyre_fd fds[PAIRS];

    for (size_t i = 0; i < PAIRS; i++) {
        trial_attach(loop, &fds[i], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        trial_init(&swarm.trials[i], NULL, NULL);
        assert_int_equal(gyre_op_poll(&swarm.trials[i].op, &fds[i], POLLIN, GYRE_MULTISHOT), 0);
    }
    trial_turns(loop, 2);
    for (int round = 1; round <= 20; round++) {
        eventfd_t value;

        for (size_t i = 0; i < PAIRS; i++) {
            assert_int_equal(eventfd_write(gyre_fd_number(&fds[i]), 1), 0);
        }
        for (size_t i = 0; i < PAIRS; i++) {
            test_turns_until_count(loop, &swarm.trials[i].results, round);
            assert_int_equal(swarm.trials[i].res, POLLIN);
            assert_int_equal(eventfd_read(gyre_fd_number(&fds[i]), &value), 0);
        }
        /* Re-arming after an overflow may tell of a state twice, while it lasts; not later. */
        trial_turns(loop, 3);
        for (size_t i = 0; i < PAIRS; i++) {
            assert_int_equal(swarm.trials[i].finals, 0);
            swarm.trials[i].results = round;
        }
    }
    for (size_t i = 0; i < PAIRS; i++) {
        trial_close(loop, &fds[i]);
        assert_int_equal(swarm.trials[i].res, -ECANCELED);
    }
    small_loop_end(loop);
}

/* Everything at once, both ways, over queues of 8 and 16. */
static void pressure_of_streams_both_ways_keeps_every_stream(void)
{
    struct both {
        struct gyre_fd fd[2];
        struct reader reader[2];
        struct writer writer[2];
    };
    const uint64_t total = 100000;
    struct gyre_loop *loop = small_loop();
    struct both *both = calloc(PAIRS, sizeof *both);

    assert_non_null(both);
    for (size_t i = 0; i < PAIRS; i++) {
        int pair[2];

        test_unix_pair(pair);
        for (size_t end = 0; end < 2; end++) {
            trial_attach(loop, &both[i].fd[end], pair[end]);
        }
        for (size_t end = 0; end < 2; end++) {
            reader_start(&both[i].reader[end], &both[i].fd[end],
                         (enum reader_mode)(i % READER_MODES), WIRE_STREAM(2 * i + end));
            writer_start(&both[i].writer[end], &both[i].fd[1 - end], total,
                         WIRE_STREAM(2 * i + end));
        }
    }
    for (size_t i = 0; i < 2 * PAIRS; i++) {
        reader_wait(loop, &both[i / 2].reader[i % 2], total);
        test_turns_until(loop, &both[i / 2].writer[i % 2].done);
    }
    for (size_t i = 0; i < 2 * PAIRS; i++) {
        trial_close(loop, &both[i / 2].fd[i % 2]);
        assert_int_equal(both[i / 2].reader[i % 2].done, 1);
    }
    free(both);
    small_loop_end(loop);
}

/* A pool of two blocks, and those who hold them. */
enum { TIGHT_BLOCK = 4096, TIGHT_LINES = 4 };

struct tight {
    struct gyre_loop *loop;
    struct gyre_fd fds[TIGHT_LINES];
    struct trial trials[TIGHT_LINES];
    int peers[TIGHT_LINES];
    struct gyre_lease kept[64];
    size_t first; /* of those kept, the oldest */
    size_t count;
};

static void tight_keep(struct trial *trial, const struct gyre_result *result)
{
    struct tight *tight = trial->context;

    if (result->res >= TIGHT_BLOCK / 2) {
        assert_int_equal(gyre_lease_retain(result->lease, &tight->kept[tight->count++ % 64]), 0);
    }
}

static void tight_release(struct tight *tight)
{
    if (tight->first < tight->count) {
        gyre_lease_release(&tight->kept[tight->first++ % 64]);
    }
}

/* Both blocks are lent at last. */
static void tight_open(struct tight *tight)
{
    struct gyre_loop_options options = test_options();

    memset(tight, 0, sizeof(*tight));
    options.pool_block = TIGHT_BLOCK;
    options.pool_min = 2 * TIGHT_BLOCK;
    options.pool_max = 2 * TIGHT_BLOCK;
    tight->loop = test_loop_with(&options);
    for (size_t i = 0; i < TIGHT_LINES; i++) {
        int pair[2];

        test_tcp_pair(pair);
        wire_nodelay(pair[1]);
        tight->peers[i] = pair[1];
        trial_attach(tight->loop, &tight->fds[i], pair[0]);
        trial_init(&tight->trials[i], tight_keep, tight);
        assert_int_equal(gyre_op_recv_lease(&tight->trials[i].op, &tight->fds[i], GYRE_MULTISHOT),
                         0);
    }
    trial_turns(tight->loop, 3);
    for (size_t i = 0; i < 2; i++) {
        wire_send_stream(tight->peers[i], TIGHT_BLOCK, 0);
        trial_turns(tight->loop, 5);
    }
}

static void tight_close(struct tight *tight)
{
    while (tight->first < tight->count) {
        tight_release(tight);
    }
    for (size_t i = 0; i < TIGHT_LINES; i++) {
        trial_close(tight->loop, &tight->fds[i]);
        close(tight->peers[i]);
    }
    test_loop_end(tight->loop);
}

struct ack {
    struct gyre_fd fd;
    struct trial trial;
    struct tight *tight;
    char byte;
};

static void ack_came(struct trial *trial, const struct gyre_result *result)
{
    struct ack *ack = trial->context;

    if (result->res == 1) {
        tight_release(ack->tight);
        trial_init(trial, ack_came, ack);
        assert_int_equal(gyre_op_recv(&trial->op, &ack->fd, &ack->byte, 1, 0), 0);
    }
}

/* Who starves is served before those that come later, however many they are. */
static void pressure_who_starves_is_not_overtaken_for_ever(void)
{
    enum { ROUNDS = 200, LEN = 4000 };
    static struct tight tight;
    static struct ack ack;
    int pair[2];
    int round = 0;

    tight_open(&tight);
    test_tcp_pair(pair);
    wire_nodelay(pair[1]);
    ack.tight = &tight;
    trial_attach(tight.loop, &ack.fd, pair[0]);
    trial_init(&ack.trial, ack_came, &ack);
    assert_int_equal(gyre_op_recv(&ack.trial.op, &ack.fd, &ack.byte, 1, 0), 0);
    trial_turns(tight.loop, 3);
    wire_send_stream(tight.peers[3], 100, 0); /* this one waits */
    trial_turns(tight.loop, 3);
    for (; round < ROUNDS && tight.trials[3].bytes == 0; round++) {
        wire_send_stream(pair[1], 1, 0);
        wire_send_stream(tight.peers[round % 2], LEN, 0);
        trial_turns(tight.loop, 5);
    }
    print_message("served after %d rounds, others had %llu bytes\n", round,
                  (unsigned long long)(tight.trials[0].bytes + tight.trials[1].bytes));
    const uint64_t got = tight.trials[3].bytes;
    trial_close(tight.loop, &ack.fd);
    close(pair[1]);
    tight_close(&tight);
    assert_int_equal(got, 100);
    assert_true(round <= 4);
}

/* The same where blocks come back between two turns, and one receive takes all of a block. */
static void pressure_who_starves_is_first_behind_a_release(void)
{
    enum { ROUNDS = 200 };
    static struct tight tight;
    int round = 0;

    tight_open(&tight);
    wire_send_stream(tight.peers[3], 100, 0); /* this one waits */
    trial_turns(tight.loop, 3);
    for (; round < ROUNDS && tight.trials[3].bytes == 0; round++) {
        wire_send_stream(tight.peers[round % 2], TIGHT_BLOCK, 0);
        tight_release(&tight);
        trial_turns(tight.loop, 5);
    }
    const uint64_t got = tight.trials[3].bytes;
    tight_close(&tight);
    assert_int_equal(got, 100);
    assert_true(round <= 4);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(pressure_of_a_thousand_starts_in_one_callback_all_end),
        TEST_CASE(pressure_completions_arrive_in_turns_that_do_not_wait),
        TEST_CASE(pressure_of_a_thousand_sends_on_one_socket_keeps_their_order),
        TEST_CASE(pressure_of_a_thousand_completions_in_one_turn_all_arrive),
        TEST_CASE(pressure_on_multishot_receives_loses_nothing),
        TEST_CASE(pressure_on_single_receives_loses_nothing),
        TEST_CASE(pressure_on_a_multishot_accept_loses_no_connection),
        TEST_CASE(pressure_on_multishot_polls_loses_no_change),
        TEST_CASE(pressure_of_streams_both_ways_keeps_every_stream),
        TEST_CASE(pressure_who_starves_is_not_overtaken_for_ever),
        TEST_CASE(pressure_who_starves_is_first_behind_a_release),
    };

    return test_main("ops-pressure", cases, TEST_COUNT(cases));
}
