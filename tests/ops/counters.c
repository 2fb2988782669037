/* What a message costs, counted and not timed. */
#include "echo.h"
#include "trial.h"
#include "wire.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS 1000
#define MESSAGE     64
#define WARM_UP     20
#define ROUNDS      50

/* An echo server and its thousand clients, all of which send in each round. */
struct busy {
    struct gyre_loop *loop;
    struct echo_server server;
    int clients[CONNECTIONS];
    uint64_t count;
    size_t message;
    uint64_t rounds;
};

static void busy_open_on(struct busy *busy, struct gyre_loop *loop, size_t message)
{
    busy->count = (uint64_t)test_steps(CONNECTIONS, 100);
    wire_raise_descriptors(2 * busy->count + 64);
    busy->loop = loop;
    busy->message = message;
    busy->rounds = 0;
    echo_start(&busy->server, busy->loop, -1);
    for (uint64_t i = 0; i < busy->count; i++) {
        int pair[2];

        test_tcp_pair(pair);
        wire_nodelay(pair[0]);
        wire_nodelay(pair[1]);
        echo_adopt(&busy->server, pair[0]);
        busy->clients[i] = pair[1];
    }
}

static void busy_open(struct busy *busy)
{
    busy_open_on(busy, test_loop(), MESSAGE);
}

static void busy_round(struct busy *busy)
{
    const uint64_t position = busy->rounds++ * busy->message;

    for (uint64_t i = 0; i < busy->count; i++) {
        wire_send_stream(busy->clients[i], busy->message, WIRE_STREAM(i) + position);
    }
    while (busy->server.bytes < busy->rounds * busy->count * busy->message) {
        assert_int_equal(gyre_loop_run(busy->loop, GYRE_RUN_ONCE), 1);
    }
    for (uint64_t i = 0; i < busy->count; i++) {
        wire_expect_stream(busy->clients[i], busy->message, WIRE_STREAM(i) + position);
    }
}

static void busy_rounds(struct busy *busy, int count)
{
    for (int i = 0; i < count; i++) {
        busy_round(busy);
    }
}

static void busy_close(struct busy *busy)
{
    for (uint64_t i = 0; i < busy->count; i++) {
        wire_reset(busy->clients[i]);
    }
    echo_end(&busy->server);
    test_loop_end(busy->loop);
}

/* Done when, point 3 */
static void counters_show_no_allocation_per_message(void)
{
    const int rounds = test_steps(ROUNDS, 10);
    static struct busy busy;

    busy_open(&busy);
    busy_rounds(&busy, WARM_UP);
    const uint64_t allocations = trial_stats(busy.loop).allocations;
    const size_t live = gyre_allocator_live();
    busy_rounds(&busy, rounds);
    assert_int_equal(trial_stats(busy.loop).allocations, allocations);
    assert_int_equal(gyre_allocator_live(), live);
    assert_int_equal(busy.server.messages, (WARM_UP + (uint64_t)rounds) * busy.count);
    busy_close(&busy);
}

/* Done when, point 3 */
static void counters_show_20_messages_per_system_call_on_io_uring(void)
{
    const int rounds = test_steps(ROUNDS, 10);
    static struct busy busy;
    struct gyre_loop_info info;

    busy_open(&busy);
    assert_int_equal(gyre_loop_info(busy.loop, &info), 0);
    busy_rounds(&busy, WARM_UP);
    const struct gyre_loop_stats before = trial_stats(busy.loop);
    busy_rounds(&busy, rounds);
    const struct gyre_loop_stats after = trial_stats(busy.loop);
    const uint64_t messages = (uint64_t)rounds * busy.count;
    print_message("%llu system calls, %llu enters for %llu messages\n",
                  (unsigned long long)(after.syscalls - before.syscalls),
                  (unsigned long long)(after.enters - before.enters), (unsigned long long)messages);
    busy_close(&busy);
    if (info.backend != GYRE_BACKEND_URING || (info.features & GYRE_FEATURE_INCREMENTAL) == 0) {
        test_skip("a promise of the io_uring driver with all features");
    }
    assert_true(after.syscalls >= after.enters);
    assert_true((after.syscalls - before.syscalls) * 20 <= messages);
}

/* io_uring: whether a reset hides behind what comes first, the answer tells, and nobody asks. */
static void counters_show_no_call_for_the_first_message(void)
{
    static struct busy busy;
    struct gyre_loop_info info;

    busy_open(&busy);
    assert_int_equal(gyre_loop_info(busy.loop, &info), 0);
    const struct gyre_loop_stats before = trial_stats(busy.loop);
    busy_round(&busy);
    const struct gyre_loop_stats after = trial_stats(busy.loop);
    busy_close(&busy);
    if (info.backend != GYRE_BACKEND_URING || (info.features & GYRE_FEATURE_INCREMENTAL) == 0) {
        test_skip("a promise of the io_uring driver with all features");
    }
    assert_int_equal(after.syscalls - before.syscalls, after.enters - before.enters);
}

/* Done when, point 3 */
static void counters_show_no_failed_receives_on_epoll(void)
{
    const int rounds = test_steps(ROUNDS, 10);
    static struct busy busy;

    if (test_variant_uring()) {
        test_skip("a promise of the epoll driver");
    }
    busy_open(&busy);
    busy_rounds(&busy, WARM_UP);
    const struct gyre_loop_stats before = trial_stats(busy.loop);
    busy_rounds(&busy, rounds);
    const struct gyre_loop_stats after = trial_stats(busy.loop);
    const uint64_t messages = (uint64_t)rounds * busy.count;
    print_message("%llu system calls, %llu failed for %llu messages\n",
                  (unsigned long long)(after.syscalls - before.syscalls),
                  (unsigned long long)(after.eagains - before.eagains),
                  (unsigned long long)messages);
    assert_int_equal(after.eagains, before.eagains);
    assert_true((after.syscalls - before.syscalls) * 10 <= messages * 21);
    busy_close(&busy);
}

/* io_uring: nothing of a network run is handed to the kernel's worker threads. */
static void counters_show_no_worker_threads(void)
{
    static struct busy busy;
    const size_t before = test_tasks();

    busy_open(&busy);
    busy_rounds(&busy, 5);
    assert_int_equal(test_tasks(), before);
    busy_close(&busy);
}

/* L18: a thousand connections that say nothing. */
static void counters_show_no_turns_while_idle(void)
{
    static struct busy busy;

    busy_open(&busy);
    busy_rounds(&busy, 2);
    trial_turns(busy.loop, 3);
    const uint64_t enters = trial_stats(busy.loop).enters;
    assert_true(trial_idle_turns(busy.loop, 100 * GYRE_MSEC) <= 4);
    assert_true(trial_stats(busy.loop).enters - enters <= 8);
    busy_close(&busy);
}

/* L22: a workload that is known, and the books of it. */
static void counters_add_up_with_a_known_workload(void)
{
    static struct busy busy;
    struct gyre_loop_stats stats;

    busy_open(&busy);
    busy_rounds(&busy, 10);
    stats = trial_stats(busy.loop);
    assert_int_equal(stats.started[GYRE_OP_RECV_LEASE], busy.count);
    assert_int_equal(stats.finished[GYRE_OP_RECV_LEASE], 0);
    assert_int_equal(stats.started[GYRE_OP_SEND], 10 * busy.count);
    assert_int_equal(stats.finished[GYRE_OP_SEND], 10 * busy.count);
    assert_int_equal(stats.overflows, 0);
    assert_int_equal(stats.sheds, 0);
    assert_int_equal(stats.starved, 0);
    assert_int_equal(stats.rearms, 0);
    busy_close(&busy);
}

/* More has come than the buffers hold, a lot more: who found none left is not asked for again and
 * again while the others are served. */
static void counters_show_a_burst_that_outgrows_the_pool_asked_for_once(void)
{
    enum { BLOCK = 16384, LEN = 3000 }; /* too long to be copied out of a block */
    static struct busy busy;
    struct gyre_loop_options options = test_options();

    options.pool_block = BLOCK;
    options.pool_min = 2 * BLOCK; /* room for ten messages of a thousand, or five */
    options.pool_max = 4 * BLOCK;
    busy_open_on(&busy, test_loop_with(&options), LEN);
    busy_rounds(&busy, 2);
    const struct gyre_loop_stats before = trial_stats(busy.loop);
    busy_rounds(&busy, 10);
    const struct gyre_loop_stats after = trial_stats(busy.loop);
    print_message("%llu entries, %llu starved for %llu messages\n",
                  (unsigned long long)(after.sqes - before.sqes),
                  (unsigned long long)(after.starved - before.starved),
                  (unsigned long long)(10 * busy.count));
    busy_close(&busy);
    /* A send and a receive begun anew; as much again for what is cut at the end of a block. */
    assert_true(after.sqes - before.sqes <= 4 * 10 * busy.count);
    assert_true(after.starved - before.starved <= 4 * 10 * busy.count);
}

/* One client, and room for large messages in the sockets. */
static void busy_open_one(struct busy *busy, size_t message,
                          const struct gyre_loop_options *options)
{
    const int room = 1 << 20; /* as much of it as is allowed */
    int pair[2];

    busy->count = 1;
    busy->loop = test_loop_with(options);
    busy->message = message;
    busy->rounds = 0;
    echo_start(&busy->server, busy->loop, -1);
    test_tcp_pair(pair);
    for (int i = 0; i < 2; i++) {
        wire_nodelay(pair[i]);
        assert_int_equal(setsockopt(pair[i], SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
        assert_int_equal(setsockopt(pair[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    }
    echo_adopt(&busy->server, pair[0]);
    busy->clients[0] = pair[1];
}

/* A message has to be there as a whole. */
static void skip_unless_buffers_hold(size_t message)
{
    const int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int room = 1 << 20;
    socklen_t len = sizeof(room);

    assert_true(number >= 0);
    assert_int_equal(setsockopt(number, SOL_SOCKET, SO_RCVBUF, &room, len), 0);
    assert_int_equal(getsockopt(number, SOL_SOCKET, SO_RCVBUF, &room, &len), 0);
    close(number);
    if ((size_t)room / 2 < message) {
        test_skip("receive buffers may not be made large enough");
    }
}

/* Calls that are not the ring's, and entries, in 32 messages behind the first eight. */
static void count_large(size_t message, size_t block, struct gyre_loop_info *out_info,
                        uint64_t *out_calls, uint64_t *out_entries)
{
    static struct busy busy;
    struct gyre_loop_options options = test_options();

    options.pool_block = block;
    busy_open_one(&busy, message, &options);
    assert_int_equal(gyre_loop_info(busy.loop, out_info), 0);
    busy_rounds(&busy, 8);
    const struct gyre_loop_stats before = trial_stats(busy.loop);
    busy_rounds(&busy, 32);
    const struct gyre_loop_stats after = trial_stats(busy.loop);
    *out_calls = after.syscalls - before.syscalls - (after.enters - before.enters);
    *out_entries = after.sqes - before.sqes;
    busy_close(&busy);
}

/* io_uring: however much is there at a time, and however long blocks are, it goes through the ring. */
static void counters_show_large_messages_by_the_ring(void)
{
    const size_t messages[] = {64 << 10, 160 << 10};
    const size_t blocks[] = {256 << 10, 32 << 10};
    struct gyre_loop_info info;
    uint64_t calls;
    uint64_t entries;

    skip_unless_buffers_hold(messages[1]);
    for (int i = 0; i < 4; i++) {
        count_large(messages[i / 2], blocks[i % 2], &info, &calls, &entries);
        if ((info.features & GYRE_FEATURE_INCREMENTAL) &&
            (info.features & GYRE_FEATURE_MULTISHOT)) {
            /* Behind what was cut a poll(2) looks for a reset. By calls there would be more: two for
             * each block. */
            assert_true(calls < (i % 2 == 0 ? 2 * 32 : 3 * 32));
            assert_true(entries > 32 / 2);
        }
    }
}

/* io_uring: a burst beyond the quota that is sent back by the time something comes again does not end the
 * receive. It did, and was begun anew for each. */
static void counters_show_no_receive_ended_by_a_burst_that_is_answered(void)
{
    static struct busy busy;
    struct gyre_loop_options options = test_options();
    struct gyre_loop_info info;

    skip_unless_buffers_hold(64 << 10);
    options.pool_quota = 16 << 10;
    options.pool_block = 32 << 10; /* it comes in pieces */
    busy_open_one(&busy, 64 << 10, &options);
    assert_int_equal(gyre_loop_info(busy.loop, &info), 0);
    busy_rounds(&busy, 8);
    const uint64_t before = trial_stats(busy.loop).rearms;
    busy_rounds(&busy, 32);
    const uint64_t rearms = trial_stats(busy.loop).rearms - before;
    busy_close(&busy);
    if ((info.features & GYRE_FEATURE_INCREMENTAL) && (info.features & GYRE_FEATURE_MULTISHOT)) {
        assert_true(rearms < 32 / 2); /* a message may come in two turns, with its answer between */
    }
}

static int takes_pieces(const struct gyre_loop_info *info)
{
    return (info->features & GYRE_FEATURE_BUFFER_RING) &&
           !(info->features & GYRE_FEATURE_INCREMENTAL);
}

/* io_uring, where a buffer is but a piece of a block: bulk is received and sent by system calls. */
static void counters_show_bulk_by_calls_where_buffers_are_pieces(void)
{
    struct gyre_loop_info info;
    uint64_t calls;
    uint64_t entries;

    skip_unless_buffers_hold(160 << 10);
    count_large(160 << 10, 0, &info, &calls, &entries);
    if (takes_pieces(&info)) {
        assert_true(calls >= 2 * 32);
        assert_true(entries < 32 / 2);
    }
}

/* Messages one by one. Returns the entries that were submitted for them. */
static uint64_t entries_for(struct busy *busy, uint64_t count, int idle_before)
{
    const uint64_t bytes = busy->server.bytes;
    const uint64_t before = trial_stats(busy->loop).sqes;

    for (uint64_t i = 0; i < count; i++) {
        if (idle_before) {
            trial_turns(busy->loop, 1); /* which finds nothing */
        }
        wire_send_stream(busy->clients[0], busy->message, i * busy->message);
        while (busy->server.bytes < bytes + (i + 1) * busy->message) {
            assert_int_equal(gyre_loop_run(busy->loop, GYRE_RUN_ONCE), 1);
        }
        wire_expect_stream(busy->clients[0], busy->message, i * busy->message);
    }
    return trial_stats(busy->loop).sqes - before;
}

/* Likewise: the data of a connection may be bulk now and then. */
static void counters_show_bulk_forgotten(void)
{
    static struct busy busy;
    const struct gyre_loop_options options = test_options();
    struct gyre_loop_info info;

    skip_unless_buffers_hold(160 << 10);
    busy_open_one(&busy, 160 << 10, &options);
    assert_int_equal(gyre_loop_info(busy.loop, &info), 0);
    for (int i = 0; i < 3; i++) {
        busy.message = 160 << 10;
        entries_for(&busy, 8, 0);
        const uint64_t bulk = entries_for(&busy, 16, 0);
        busy.message = 100;
        entries_for(&busy, 40, 0);
        const uint64_t small = entries_for(&busy, 16, 0);

        if (takes_pieces(&info)) {
            assert_true(bulk < 16 / 2);
            assert_int_equal(small, 16); /* their answers */
        }
    }
    busy_close(&busy);
}

/* io_uring: where a message comes alone, its answer is a system call and no entry. Where it is there
 * when the loop looks, as on a busy one, the answer is collected. */
static void counters_show_a_lone_message_answered_without_an_entry(void)
{
    enum { COUNT = 32 };
    static struct busy busy;
    struct gyre_loop_info info;

    busy_open(&busy);
    assert_int_equal(gyre_loop_info(busy.loop, &info), 0);
    busy_rounds(&busy, 2);
    const uint64_t alone = entries_for(&busy, COUNT, 1);
    const uint64_t collected = entries_for(&busy, COUNT, 0);
    busy_close(&busy);
    if (info.features & GYRE_FEATURE_MULTISHOT) {
        assert_int_equal(alone, 0);
        assert_int_equal(collected, COUNT);
    } else if (info.backend == GYRE_BACKEND_URING) {
        assert_int_equal(alone, COUNT); /* the receives; with none armed, nothing is there before */
    }
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(counters_show_no_allocation_per_message),
        TEST_CASE(counters_show_20_messages_per_system_call_on_io_uring),
        TEST_CASE(counters_show_no_call_for_the_first_message),
        TEST_CASE(counters_show_no_failed_receives_on_epoll),
        TEST_CASE(counters_show_no_worker_threads),
        TEST_CASE(counters_show_no_turns_while_idle),
        TEST_CASE(counters_add_up_with_a_known_workload),
        TEST_CASE(counters_show_a_burst_that_outgrows_the_pool_asked_for_once),
        TEST_CASE(counters_show_large_messages_by_the_ring),
        TEST_CASE(counters_show_no_receive_ended_by_a_burst_that_is_answered),
        TEST_CASE(counters_show_bulk_by_calls_where_buffers_are_pieces),
        TEST_CASE(counters_show_bulk_forgotten),
        TEST_CASE(counters_show_a_lone_message_answered_without_an_entry),
    };

    return test_main("ops-counters", cases, TEST_COUNT(cases));
}
