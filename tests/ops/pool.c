/* The receive pool: leases are held as long as their holder likes, the pool is never lost, never
 * spun on, and its exhaustion slows, and does nothing else. */
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TINY_BLOCK 4096
#define TINY_POOL  (4 * TINY_BLOCK)
#define HELD_MAX   4096

/* Blocks of 4 KiB, and a quota that is no hindrance: what limits is the pool. */
static struct gyre_loop *loop_of(size_t blocks)
{
    struct gyre_loop_options options = test_options();

    options.pool_min = blocks * TINY_BLOCK;
    options.pool_max = blocks * TINY_BLOCK;
    options.pool_block = TINY_BLOCK;
    options.pool_quota = (size_t)1 << 30;
    return test_loop_with(&options);
}

static struct gyre_loop *tiny_loop(void)
{
    return loop_of(TINY_POOL / TINY_BLOCK);
}

/* A connection whose leases the test keeps. */
struct keeper {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    int peer;
    struct trial receiving;
    int keep;      /* 0: the data is checked and let go */
    int arm_again; /* receives one by one */
    int count;
    uint64_t received; /* bytes, also the position in the stream */
    uint64_t base;     /* of the stream */
    struct gyre_lease held[HELD_MAX];
    uint64_t positions[HELD_MAX];
};

static void keep_lease(struct trial *trial, const struct gyre_result *result)
{
    struct keeper *keeper = trial->context;

    if (result->res <= 0) {
        assert_null(result->lease);
        return;
    }
    assert_int_equal(result->lease->len, result->res);
    wire_check(result->lease->data, result->lease->len, keeper->base + keeper->received);
    if (keeper->keep) {
        assert_true(keeper->count < HELD_MAX);
        keeper->positions[keeper->count] = keeper->base + keeper->received;
        assert_int_equal(gyre_lease_retain(result->lease, &keeper->held[keeper->count]), 0);
        keeper->count++;
    }
    keeper->received += (uint64_t)result->res;
    if ((result->flags & GYRE_MORE) == 0 && keeper->arm_again) {
        trial_init(trial, keep_lease, keeper);
        assert_int_equal(gyre_op_recv_lease(&trial->op, &keeper->fd, 0), 0);
    }
}

static struct keeper *keeper_prepare_on(struct gyre_loop *loop, uint64_t stream, const int *pair)
{
    struct keeper *keeper = calloc(1, sizeof *keeper);

    assert_non_null(keeper);
    keeper->loop = loop;
    keeper->peer = pair[1];
    keeper->keep = 1;
    keeper->base = WIRE_STREAM(stream);
    trial_attach(loop, &keeper->fd, pair[0]);
    trial_init(&keeper->receiving, keep_lease, keeper);
    return keeper;
}

static struct keeper *keeper_prepare(struct gyre_loop *loop, uint64_t stream)
{
    int pair[2];

    test_unix_pair(pair);
    return keeper_prepare_on(loop, stream, pair);
}

static struct keeper *keeper_open(struct gyre_loop *loop, uint64_t stream)
{
    struct keeper *keeper = keeper_prepare(loop, stream);

    assert_int_equal(gyre_op_recv_lease(&keeper->receiving.op, &keeper->fd, GYRE_MULTISHOT), 0);
    return keeper;
}

/* On io_uring the kernel serves a TCP connection until it is told to end. */
static struct keeper *keeper_open_tcp(struct gyre_loop *loop, uint64_t stream)
{
    int pair[2];

    test_tcp_pair(pair);
    struct keeper *keeper = keeper_prepare_on(loop, stream, pair);

    assert_int_equal(gyre_op_recv_lease(&keeper->receiving.op, &keeper->fd, GYRE_MULTISHOT), 0);
    return keeper;
}

/* Receives one by one, each receive started in the callback of the one before. */
static struct keeper *keeper_open_single(struct gyre_loop *loop, uint64_t stream)
{
    struct keeper *keeper = keeper_prepare(loop, stream);

    keeper->arm_again = 1;
    assert_int_equal(gyre_op_recv_lease(&keeper->receiving.op, &keeper->fd, 0), 0);
    return keeper;
}

/* Checks that a held lease still has its bytes, and gives it back. */
static void keeper_release(struct keeper *keeper, int index)
{
    struct gyre_lease *lease = &keeper->held[index];
    const int last = --keeper->count;

    wire_check(lease->data, lease->len, keeper->positions[index]);
    memset(lease->data, 0xff, lease->len); /* a lease is writable by its holder */
    gyre_lease_release(lease);
    assert_null(lease->data);
    assert_int_equal(lease->len, 0);
    gyre_lease_release(lease);
    *lease = keeper->held[last];
    keeper->positions[index] = keeper->positions[last];
}

static void keeper_release_all(struct keeper *keeper, uint32_t *seed)
{
    while (keeper->count > 0) {
        keeper_release(keeper, (int)wire_random(seed, (uint32_t)keeper->count));
    }
}

static void keeper_wait(struct keeper *keeper, uint64_t total)
{
    while (keeper->received < total) {
        assert_int_equal(keeper->receiving.finals, 0);
        assert_int_equal(gyre_loop_run(keeper->loop, GYRE_RUN_ONCE), 1);
    }
}

static void keeper_close(struct keeper *keeper)
{
    trial_close(keeper->loop, &keeper->fd);
    close(keeper->peer);
    free(keeper);
}

/* How much the other end could write without anybody reading: sent in full, from position 0. */
static size_t flood(int number, uint64_t position, size_t limit)
{
    uint8_t data[TINY_BLOCK];
    size_t done = 0;

    while (done < limit) {
        wire_fill(data, sizeof data, position + done);
        const ssize_t sent = send(number, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent <= 0) {
            assert_true(sent < 0 && errno == EAGAIN);
            break;
        }
        done += (size_t)sent;
    }
    return done;
}

/* Sends to a keeper of everything until nothing more comes, although more was sent. Returns how much
 * was sent. */
static size_t fill_pool(struct keeper *keeper)
{
    size_t sent = 0;
    uint64_t before;

    do {
        before = keeper->received;
        sent += flood(keeper->peer, keeper->base + sent, 1 << 20);
        trial_turns(keeper->loop, 20);
    } while (keeper->received != before);
    assert_true(keeper->received < sent);
    return sent;
}

#define CROWD       64
#define CROWD_BYTES ((uint64_t)1 << 20)

struct crossing {
    struct gyre_fd in;
    struct gyre_fd out;
    struct reader reader;
    struct writer writer;
};

static void all_arrive(enum reader_mode mode)
{
    struct gyre_loop *loop = tiny_loop();
    struct crossing *crossings = calloc(CROWD, sizeof *crossings);

    assert_non_null(crossings);
    for (size_t i = 0; i < CROWD; i++) {
        int pair[2];

        test_unix_pair(pair);
        trial_attach(loop, &crossings[i].in, pair[0]);
        trial_attach(loop, &crossings[i].out, pair[1]);
        reader_start(&crossings[i].reader, &crossings[i].in, mode, WIRE_STREAM(i));
        writer_start(&crossings[i].writer, &crossings[i].out, CROWD_BYTES, WIRE_STREAM(i));
    }
    for (size_t i = 0; i < CROWD; i++) {
        reader_wait(loop, &crossings[i].reader, CROWD_BYTES);
        test_turns_until(loop, &crossings[i].writer.done);
        assert_int_equal(crossings[i].writer.error, 0);
        (void)trial_pool(loop);
    }
    assert_true(trial_pool(loop).total <= TINY_POOL / TINY_BLOCK);
    for (size_t i = 0; i < CROWD; i++) {
        trial_close(loop, &crossings[i].out);
        reader_end(loop, &crossings[i].reader);
        trial_close(loop, &crossings[i].in);
    }
    free(crossings);
    test_loop_end(loop);
}

/* B05 */
static void pool_of_four_blocks_serves_64_connections_multishot(void)
{
    all_arrive(READER_MULTISHOT);
}

static void pool_of_four_blocks_serves_64_connections_one_by_one(void)
{
    all_arrive(READER_LEASE);
}

/* B06 */
static void pool_all_held_does_not_spin_and_goes_on_after_release(void)
{
    struct gyre_loop *loop = tiny_loop();
    struct keeper *keeper = keeper_open(loop, 0);
    uint32_t seed = 13;

    const size_t sent = fill_pool(keeper);
    const uint64_t before = keeper->received;
    assert_true(trial_stats(loop).starved > 0);
    assert_int_equal(trial_pool(loop).starved, 1);
    const uint64_t enters = trial_stats(loop).enters;
    const uint64_t starved = trial_stats(loop).starved;
    assert_true(trial_idle_turns(loop, 100 * GYRE_MSEC) <= 10);
    assert_true(trial_stats(loop).enters - enters <= 10);
    assert_true(trial_stats(loop).starved - starved <= 1);
    assert_int_equal(keeper->received, before);
    assert_int_equal(keeper->receiving.finals, 0);
    keeper->keep = 0;
    keeper_release_all(keeper, &seed);
    keeper_wait(keeper, sent);
    assert_int_equal(trial_pool(loop).starved, 0);
    assert_int_equal(trial_pool(loop).lent, 0);
    keeper_close(keeper);
    test_loop_end(loop);
}

/* B06: one release at a time, among several that starve; each of them gets its turn. */
static void pool_released_bit_by_bit_feeds_all_that_starve(void)
{
    struct gyre_loop *loop = tiny_loop();
    struct keeper *holder = keeper_open(loop, 0);
    struct keeper *others[8];
    uint32_t seed = 14;

    (void)fill_pool(holder);
    for (size_t i = 0; i < 8; i++) {
        others[i] = keeper_open(loop, i + 1);
        others[i]->keep = 0;
        wire_send_stream(others[i]->peer, 50000, WIRE_STREAM(i + 1));
    }
    trial_turns(loop, 20);
    assert_int_equal(gyre_op_cancel(&holder->receiving.op), 0);
    assert_int_equal(trial_end(loop, &holder->receiving), -ECANCELED);
    keeper_release_all(holder, &seed);
    for (size_t i = 0; i < 8; i++) {
        keeper_wait(others[i], 50000);
        keeper_close(others[i]);
    }
    keeper_close(holder);
    test_loop_end(loop);
}

/* What starves can be cancelled, timed out and closed. */
static void pool_starved_receive_can_be_ended(void)
{
    struct gyre_loop *loop = tiny_loop();
    struct keeper *holder = keeper_open(loop, 0);
    uint32_t seed = 15;

    (void)fill_pool(holder);
    for (int round = 0; round < 6; round++) {
        struct gyre_fd fd;
        struct trial receiving;
        int pair[2];

        test_unix_pair(pair);
        trial_attach(loop, &fd, pair[0]);
        wire_send_stream(pair[1], 100, 0);
        trial_init(&receiving, NULL, NULL);
        assert_int_equal(
            gyre_op_recv_lease(&receiving.op, &fd, round % 2 == 0 ? 0 : GYRE_MULTISHOT), 0);
        trial_turns(loop, 5);
        assert_int_equal(receiving.results, 0);
        if (round / 2 == 0) {
            assert_int_equal(gyre_op_cancel(&receiving.op), 0);
            assert_int_equal(trial_end(loop, &receiving), -ECANCELED);
        } else if (round / 2 == 1) {
            assert_int_equal(gyre_op_set_deadline(&receiving.op, gyre_loop_now(loop)), 0);
            assert_int_equal(trial_end(loop, &receiving), -ETIMEDOUT);
        }
        assert_int_equal(wire_readable(pair[0]), 100);
        trial_close(loop, &fd);
        assert_int_equal(receiving.finals, 1);
        close(pair[1]);
    }
    assert_int_equal(gyre_op_cancel(&holder->receiving.op), 0);
    assert_int_equal(trial_end(loop, &holder->receiving), -ECANCELED);
    keeper_release_all(holder, &seed);
    keeper_close(holder);
    test_loop_end(loop);
}

/* What starves, and whose peer has gone meanwhile with a reset, is received, and then the reset is. */
static void pool_starved_receive_finds_the_reset_behind_its_data(void)
{
    static const struct {
        size_t blocks;
        size_t len;
    } cases[] = {
        {4, 100},
        {4, 3 * TINY_BLOCK},
        {64, 40 * TINY_BLOCK}, /* more than the kernel fills in one go */
    };
    const int room = 1 << 20;
    uint32_t seed = 17;

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct gyre_loop *loop = loop_of(cases[i].blocks);
        struct keeper *holder = keeper_open(loop, 0);
        struct trial receiving;
        struct gyre_fd fd;
        int pair[2];

        (void)fill_pool(holder);
        test_tcp_pair(pair);
        assert_int_equal(setsockopt(pair[0], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
        assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
        trial_attach(loop, &fd, pair[0]);
        trial_init(&receiving, NULL, NULL);
        assert_int_equal(gyre_op_recv_lease(&receiving.op, &fd, GYRE_MULTISHOT), 0);
        if (cases[i].len < TINY_BLOCK) {
            wire_send_stream(pair[1], cases[i].len, 0);
        } else {
            (void)flood(pair[1], 0, cases[i].len);
        }
        trial_turns(loop, 5);
        assert_int_equal(receiving.results, 0);
        wire_reset(pair[1]);
        trial_turns(loop, 5);
        const size_t there = wire_readable(pair[0]);
        assert_int_equal(gyre_op_cancel(&holder->receiving.op), 0);
        assert_int_equal(trial_end(loop, &holder->receiving), -ECANCELED);
        keeper_release_all(holder, &seed);
        assert_int_equal(trial_end(loop, &receiving), -ECONNRESET);
        assert_int_equal(receiving.bytes, there);
        print_message("%zu bytes of %zu came before the reset\n", there, cases[i].len);
        trial_close(loop, &fd);
        keeper_close(holder);
        test_loop_end(loop);
    }
}

/* The quota: a flooding peer holds no more than its share, and the others go on. */
static void stop_at_quota(struct keeper *(*opened)(struct gyre_loop *loop, uint64_t stream))
{
    struct gyre_loop_options options = test_options();
    const size_t quota = 64 << 10;
    /* What the kernel had received when the quota was reached still comes, and of a multishot what
     * comes in one turn more: two floods. */
    const size_t slack = 512 << 10;
    uint32_t seed = 16;
    size_t sent = 0;

    options.pool_quota = quota;
    struct gyre_loop *loop = test_loop_with(&options);
    struct keeper *flooded = opened(loop, 0);
    struct keeper *other = keeper_open(loop, 1);
    other->keep = 0;
    for (int i = 0; i < 200; i++) {
        sent += flood(flooded->peer, sent, 256 << 10);
        trial_turns(loop, 2);
        wire_send_stream(other->peer, 100, WIRE_STREAM(1) + other->received);
        keeper_wait(other, other->received + 100);
    }
    assert_in_range(flooded->received, quota, quota + slack);
    assert_true(flooded->received < sent);
    const uint64_t before = flooded->received;
    assert_true(trial_idle_turns(loop, 50 * GYRE_MSEC) <= 10);
    assert_int_equal(flooded->received, before);
    flooded->keep = 0;
    keeper_release_all(flooded, &seed);
    keeper_wait(flooded, sent);
    keeper_close(flooded);
    keeper_close(other);
    test_loop_end(loop);
}

static void pool_quota_stops_one_connection_and_no_other(void)
{
    stop_at_quota(keeper_open);
}

static void pool_quota_stops_a_tcp_connection(void)
{
    stop_at_quota(keeper_open_tcp);
}

/* With three quarters of the pool lent, what exceeds the quota has no turn more. */
static void pool_quota_holds_at_once_when_the_pool_is_short(void)
{
    struct gyre_loop_options options = test_options();
    uint32_t seed = 17;

    options.pool_min = 8 * TINY_BLOCK;
    options.pool_max = 8 * TINY_BLOCK;
    options.pool_block = TINY_BLOCK;
    options.pool_quota = TINY_BLOCK;
    struct gyre_loop *loop = test_loop_with(&options);
    struct keeper *keeper = keeper_open_tcp(loop, 2);
    size_t sent = flood(keeper->peer, keeper->base, 6 * TINY_BLOCK);

    trial_turns(loop, 4);
    const uint64_t before = keeper->received;

    assert_true(before > options.pool_quota);
    sent += flood(keeper->peer, keeper->base + sent, TINY_BLOCK);
    trial_turns(loop, 4);
    assert_int_equal(keeper->received, before);
    keeper->keep = 0;
    keeper_release_all(keeper, &seed);
    keeper_wait(keeper, sent);
    keeper_close(keeper);
    test_loop_end(loop);
}

static void pool_quota_is_the_connections_however_it_receives(void)
{
    stop_at_quota(keeper_open_single);
}

/* B07: random lives of 16 connections; the books balance after every step. */
static void pool_is_conserved_through_random_lives(void)
{
    struct gyre_loop *loop = tiny_loop();
    struct keeper *keepers[16] = {0};
    size_t sent[16] = {0};
    uint32_t seed = 17;

    for (int step = 0, steps = test_steps(20000, 1); step < steps; step++) {
        const size_t i = wire_random(&seed, 16);
        const uint32_t what = wire_random(&seed, 100);
        struct keeper *keeper = keepers[i];

        if (keeper == NULL) {
            keepers[i] = keeper_open(loop, i);
            sent[i] = 0;
        } else if (what < 40) {
            sent[i] += flood(keeper->peer, keeper->base + sent[i], 1 + wire_random(&seed, 20000));
        } else if (what < 80) {
            trial_turns(loop, 1);
        } else if (what < 95) {
            while (keeper->count > 0 && wire_random(&seed, 4) != 0) {
                keeper_release(keeper, (int)wire_random(&seed, (uint32_t)keeper->count));
            }
            keeper->keep = wire_random(&seed, 2) == 0;
        } else {
            trial_close(loop, &keeper->fd);
            close(keeper->peer);
            keeper_release_all(keeper, &seed);
            free(keeper);
            keepers[i] = NULL;
        }
        (void)trial_pool(loop);
    }
    for (size_t i = 0; i < 16; i++) {
        if (keepers[i] != NULL) {
            keepers[i]->keep = 0; /* more may come before it is closed */
            keeper_release_all(keepers[i], &seed);
            keeper_close(keepers[i]);
        }
    }
    test_loop_end(loop);
}

/* B10 */
static void pool_end_and_error_come_without_a_lease(void)
{
    struct gyre_loop *loop = test_loop();

    for (int round = 0; round < 4; round++) {
        struct gyre_fd fd;
        static struct reader reader;
        int pair[2];

        test_tcp_pair(pair);
        trial_attach(loop, &fd, pair[0]);
        reader_start(&reader, &fd, round % 2 == 0 ? READER_LEASE : READER_MULTISHOT, 0);
        for (size_t i = 0; i < 10; i++) {
            wire_send_stream(pair[1], 777, 777 * i);
            reader_wait(loop, &reader, 777 * (i + 1));
        }
        if (round < 2) {
            close(pair[1]);
        } else {
            wire_reset(pair[1]);
        }
        test_turns_until(loop, &reader.done); /* asserts that there is no lease */
        assert_int_equal(reader.error, round < 2 ? 0 : -ECONNRESET);
        trial_close(loop, &fd);
    }
    test_loop_end(loop);
}

/* R11 */
static void pool_leases_released_in_any_order_keep_their_bytes(void)
{
    struct gyre_loop *loop = test_loop();
    struct keeper *keeper = keeper_open(loop, 3);
    uint32_t seed = 18;
    uint64_t sent = 0;

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++) {
            const size_t len = 1 + wire_random(&seed, 3000);

            wire_send_stream(keeper->peer, len, keeper->base + sent);
            sent += len;
            trial_turns(loop, 1);
            if (keeper->count > 25) {
                keeper_release(keeper, (int)wire_random(&seed, (uint32_t)keeper->count));
            }
        }
        keeper_release_all(keeper, &seed);
        keeper_wait(keeper, sent);
        assert_int_equal(trial_pool(loop).leases, keeper->count);
    }
    keeper_release_all(keeper, &seed);
    assert_int_equal(trial_pool(loop).leases, 0);
    keeper_close(keeper);
    test_loop_end(loop);
}

/* Contract line 6: a lease needs neither its operation nor its descriptor; the loop waits for it. */
static void pool_lease_outlives_its_operation_and_descriptor(void)
{
    struct gyre_loop *loop = test_loop();
    struct keeper *keeper = keeper_open(loop, 0);
    struct gyre_lease lease;

    wire_send_stream(keeper->peer, 1000, 0);
    keeper_wait(keeper, 1000);
    assert_int_equal(gyre_op_cancel(&keeper->receiving.op), 0);
    assert_int_equal(trial_end(loop, &keeper->receiving), -ECANCELED);
    lease = keeper->held[0];
    const int count = keeper->count;
    keeper_close(keeper);
    assert_int_equal(count, 1);
    for (uint64_t i = 0; i < 20; i++) { /* others use the pool meanwhile */
        struct keeper *other = keeper_open(loop, 1 + i);
        uint32_t seed = 19;

        wire_send_stream(other->peer, 100000, WIRE_STREAM(1 + i));
        keeper_wait(other, 100000);
        keeper_release_all(other, &seed);
        keeper_close(other);
    }
    wire_check(lease.data, lease.len, 0);
    assert_int_equal(gyre_loop_destroy(loop), -EBUSY);
    assert_int_equal(trial_pool(loop).leases, 1);
    gyre_lease_release(&lease);
    test_loop_end(loop);
}

/* X18: those that come after it get its place in the loop's table, and not its debts. */
static void pool_lease_of_a_gone_descriptor_is_nobodys(void)
{
    enum { OTHERS = 8 };
    struct gyre_loop *loop = test_loop();
    struct keeper *keeper = keeper_open(loop, 0);
    struct keeper *others[OTHERS];
    struct gyre_lease lease;

    wire_send_stream(keeper->peer, 1000, 0);
    keeper_wait(keeper, 1000);
    lease = keeper->held[0];
    assert_int_equal(keeper->count, 1);
    assert_int_equal(gyre_op_cancel(&keeper->receiving.op), 0);
    assert_int_equal(trial_end(loop, &keeper->receiving), -ECANCELED);
    keeper_close(keeper);
    for (uint64_t i = 0; i < OTHERS; i++) {
        others[i] = keeper_open(loop, 1 + i);
        others[i]->keep = 0;
        wire_send_stream(others[i]->peer, 100, WIRE_STREAM(1 + i));
        keeper_wait(others[i], 100);
    }
    wire_check(lease.data, lease.len, 0);
    gyre_lease_release(&lease);
    for (int i = 0; i < OTHERS; i++) {
        keeper_close(others[i]);
    }
    test_loop_end(loop);
}

static void pool_lease_retained_twice_is_released_twice(void)
{
    struct gyre_loop *loop = test_loop();
    struct keeper *keeper = keeper_open(loop, 0);
    struct gyre_lease again;

    wire_send_stream(keeper->peer, 100, 0);
    keeper_wait(keeper, 100);
    assert_int_equal(gyre_lease_retain(&keeper->held[0], &again), 0);
    assert_int_equal(again.len, 100);
    gyre_lease_release(&keeper->held[0]);
    wire_check(again.data, again.len, 0);
    assert_int_equal(trial_pool(loop).leases, 1);
    gyre_lease_release(&again);
    assert_int_equal(trial_pool(loop).leases, 0);
    keeper->count = 0;
    keeper_close(keeper);
    test_loop_end(loop);
}

static void pool_lease_of_nothing_is_refused_and_released(void)
{
    struct gyre_lease nothing = {0};
    struct gyre_lease out = {0};

    assert_int_equal(gyre_lease_retain(&nothing, &out), -EINVAL);
    assert_int_equal(gyre_lease_retain(NULL, &out), -EINVAL);
    assert_int_equal(gyre_lease_retain(&nothing, NULL), -EINVAL);
    gyre_lease_release(&nothing);
    assert_null(out.data);
}

/* Many small leases in a pool that is short: they are copied out, and the reading goes on. */
static void pool_small_leases_are_copied_out_while_it_is_short(void)
{
    struct gyre_loop *loop = tiny_loop();
    struct keeper *keeper = keeper_open(loop, 5);
    uint32_t seed = 20;

    for (uint64_t i = 0; i < 1000; i++) {
        wire_send_stream(keeper->peer, 64, keeper->base + 64 * i);
        keeper_wait(keeper, 64 * (i + 1));
    }
    const struct gyre_pool_stats pool = trial_pool(loop);
    assert_int_equal(pool.leases, 1000);
    assert_true(pool.copied > 0 && pool.copied <= pool.leases);
    assert_true(pool.total <= TINY_POOL / TINY_BLOCK);
    keeper_release_all(keeper, &seed);
    assert_int_equal(trial_pool(loop).copied, 0);
    keeper_close(keeper);
    test_loop_end(loop);
}

/* The pool grows to its maximum under load, and the leases show it; then it is all home again. */
static void pool_grows_to_its_maximum_and_not_beyond(void)
{
    struct gyre_loop_options options = test_options();
    struct keeper *keepers[8];
    size_t sent[8] = {0};
    uint32_t seed = 21;

    options.pool_min = TINY_POOL;
    options.pool_max = 16 * TINY_BLOCK;
    options.pool_block = TINY_BLOCK;
    options.pool_quota = (size_t)1 << 30;
    struct gyre_loop *loop = test_loop_with(&options);
    for (size_t i = 0; i < 8; i++) {
        keepers[i] = keeper_open(loop, i);
    }
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < 8; i++) {
            sent[i] += flood(keepers[i]->peer, keepers[i]->base + sent[i], 32 << 10);
        }
        trial_turns(loop, 10);
        assert_true(trial_pool(loop).total <= 16);
    }
    assert_true(trial_pool(loop).total > 4);
    for (size_t i = 0; i < 8; i++) {
        keepers[i]->keep = 0;
        keeper_release_all(keepers[i], &seed);
    }
    for (size_t i = 0; i < 8; i++) {
        keeper_wait(keepers[i], sent[i]);
        keeper_close(keepers[i]);
    }
    test_loop_end(loop);
}

/* What the load has made it grow by is given back when that is over, a block at a time; it was not on
 * io_uring, where the last blocks went round between the ring and the pool. */
static void pool_that_has_grown_shrinks_when_it_is_idle(void)
{
    /* With no more free than lent there is nothing to spare. */
    enum { BLOCKS = 16, SOON = 2 * TINY_POOL / TINY_BLOCK, ROUNDS = 40 };
    struct gyre_loop_options options = test_options();
    struct keeper *keeper;
    uint32_t seed = 22;

    options.pool_min = TINY_POOL;
    options.pool_max = BLOCKS * TINY_BLOCK;
    options.pool_block = TINY_BLOCK;
    options.pool_quota = (size_t)1 << 30;
    struct gyre_loop *loop = test_loop_with(&options);
    keeper = keeper_open(loop, 0);
    size_t sent = flood(keeper->peer, keeper->base, 2 * BLOCKS * TINY_BLOCK);
    trial_turns(loop, 20);
    assert_int_equal(trial_pool(loop).total, BLOCKS);
    trial_turns(loop, 2 * 4096); /* all lent: nothing to give back */
    assert_int_equal(trial_pool(loop).total, BLOCKS);
    keeper->keep = 0;
    keeper_release_all(keeper, &seed);
    keeper_wait(keeper, sent);
    /* A little traffic brings back what the kernel's ring still holds of them. */
    for (int i = 0; i < ROUNDS && trial_pool(loop).total > SOON; i++) {
        sent += flood(keeper->peer, keeper->base + sent, TINY_BLOCK);
        keeper_wait(keeper, sent);
        trial_turns(loop, BLOCKS * 4096 / ROUNDS);
    }
    assert_true(trial_pool(loop).total <= SOON);
    sent += flood(keeper->peer, keeper->base + sent, 8 * TINY_BLOCK); /* and it serves as before */
    keeper_wait(keeper, sent);
    keeper_close(keeper);
    test_loop_end(loop);
}

/* The block that small data was being put into when the load ended kept all before it. */
static void pool_shrinks_past_the_block_filled_last(void)
{
    enum { BLOCKS = 16, SOON = 2 * TINY_POOL / TINY_BLOCK, PIECE = 1500 };
    struct gyre_loop_options options = test_options();
    struct keeper *keeper;
    uint32_t seed = 23;
    size_t sent = 0;

    options.pool_min = TINY_POOL;
    options.pool_max = BLOCKS * TINY_BLOCK;
    options.pool_block = TINY_BLOCK;
    options.pool_quota = (size_t)1 << 30;
    struct gyre_loop *loop = test_loop_with(&options);
    keeper = keeper_open(loop, 0);
    while (trial_pool(loop).total < BLOCKS) {
        sent += flood(keeper->peer, keeper->base + sent, PIECE);
        keeper_wait(keeper, sent);
    }
    keeper->keep = 0;
    keeper_release_all(keeper, &seed);
    for (int i = 0; i < 40 && trial_pool(loop).total > SOON; i++) {
        sent += flood(keeper->peer, keeper->base + sent, 10);
        keeper_wait(keeper, sent);
        trial_turns(loop, 2 * 4096);
    }
    assert_true(trial_pool(loop).total <= SOON);
    keeper_close(keeper);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"pool_of_four_blocks_serves_64_connections_multishot",
         pool_of_four_blocks_serves_64_connections_multishot, 30},
        {"pool_of_four_blocks_serves_64_connections_one_by_one",
         pool_of_four_blocks_serves_64_connections_one_by_one, 30},
        TEST_CASE(pool_all_held_does_not_spin_and_goes_on_after_release),
        TEST_CASE(pool_released_bit_by_bit_feeds_all_that_starve),
        TEST_CASE(pool_starved_receive_can_be_ended),
        TEST_CASE(pool_starved_receive_finds_the_reset_behind_its_data),
        TEST_CASE(pool_quota_stops_one_connection_and_no_other),
        TEST_CASE(pool_quota_stops_a_tcp_connection),
        TEST_CASE(pool_quota_holds_at_once_when_the_pool_is_short),
        TEST_CASE(pool_quota_is_the_connections_however_it_receives),
        TEST_CASE(pool_is_conserved_through_random_lives),
        TEST_CASE(pool_end_and_error_come_without_a_lease),
        TEST_CASE(pool_leases_released_in_any_order_keep_their_bytes),
        TEST_CASE(pool_lease_outlives_its_operation_and_descriptor),
        TEST_CASE(pool_lease_of_a_gone_descriptor_is_nobodys),
        TEST_CASE(pool_lease_retained_twice_is_released_twice),
        TEST_CASE(pool_lease_of_nothing_is_refused_and_released),
        TEST_CASE(pool_small_leases_are_copied_out_while_it_is_short),
        TEST_CASE(pool_grows_to_its_maximum_and_not_beyond),
        TEST_CASE(pool_that_has_grown_shrinks_when_it_is_idle),
        TEST_CASE(pool_shrinks_past_the_block_filled_last),
    };

    return test_main("ops-pool", cases, TEST_COUNT(cases));
}
