/*
 * The contract of design.md section 1, lines 2, 8, 9, 10, 11 and 12; the others are in
 * tests/ops/contract.c. Each case is named after its line.
 */
#include "core/traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

/* An operation with its last result. */
struct outcome {
    struct gyre_op op;
    int results;
    int res;
};

static void on_outcome(struct gyre_op *op, const struct gyre_result *result)
{
    struct outcome *outcome = gyre_container_of(op, struct outcome, op);

    outcome->results++;
    outcome->res = result->res;
}

static void outcome_init(struct outcome *outcome)
{
    *outcome = (struct outcome){.res = INT_MAX};
    gyre_op_init(&outcome->op, on_outcome);
}

static void close_fd(struct gyre_loop *loop, struct gyre_fd *fd)
{
    struct outcome outcome;

    outcome_init(&outcome);
    assert_int_equal(gyre_op_close(&outcome.op, fd, 0), 0);
    test_turns_until(loop, &outcome.results);
    assert_int_equal(outcome.res, 0);
}

static struct gyre_loop_stats stats_of(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats;
}

struct ticker {
    struct gyre_timer timer;
    int ticks;
};

static void on_ignored_tick(struct gyre_timer *timer)
{
    gyre_container_of(timer, struct ticker, timer)->ticks++;
}

/* ---- line 2: callbacks run only from the loop, on its thread, one at a time ---- */

struct place {
    struct gyre_loop *loop;
    struct gyre_op ops[3];
    struct gyre_timer timer;
    struct gyre_fd fd;
    pthread_t thread;
    char byte;
    int running; /* gyre_loop_run() is on the stack */
    int depth;
    int callbacks;
};

static struct place place;

static void check_place(void)
{
    assert_true(pthread_equal(pthread_self(), place.thread));
    assert_int_equal(place.running, 1);
    assert_int_equal(place.depth++, 0);
    place.callbacks++;
}

static void on_place_op(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
    check_place();
    /* What these start completes in a later turn of its own, not from in here. */
    if (place.callbacks < 20) {
        struct gyre_op *idle = gyre_op_active(&place.ops[0]) ? &place.ops[1] : &place.ops[0];

        if (!gyre_op_active(idle)) {
            assert_int_equal(gyre_op_nop(idle, place.loop), 0);
            assert_int_equal(gyre_op_cancel(idle), 0);
        }
        assert_int_equal(gyre_timer_start(&place.timer, 0), 0);
    }
    place.depth--;
}

static void on_place_tick(struct gyre_timer *timer)
{
    (void)timer;
    check_place();
    place.depth--;
}

static void on_place_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    check_place();
    place.depth--;
}

static void *post_from_elsewhere(void *loop)
{
    return (void *)(intptr_t)gyre_loop_post(loop, on_place_post, NULL);
}

static void contract_02_callbacks_run_only_from_the_loop_on_its_thread(void)
{
    pthread_t thread;
    void *rc = NULL;
    int pair[2];
    int i;

    place.loop = test_loop();
    place.thread = pthread_self();
    test_tcp_pair(pair);
    for (i = 0; i < 3; i++) {
        gyre_op_init(&place.ops[i], on_place_op);
    }
    assert_int_equal(gyre_timer_init(&place.timer, place.loop, on_place_tick), 0);
    assert_int_equal(gyre_fd_init(&place.fd, place.loop, pair[0]), 0);
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_int_equal(gyre_op_recv(&place.ops[2], &place.fd, &place.byte, 1, 0), 0);
    assert_int_equal(gyre_op_nop(&place.ops[0], place.loop), 0);
    assert_int_equal(gyre_timer_start(&place.timer, 0), 0);
    assert_int_equal(pthread_create(&thread, NULL, post_from_elsewhere, place.loop), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_null(rc);
    assert_int_equal(place.callbacks, 0);
    place.running = 1;
    assert_int_equal(gyre_loop_run(place.loop, GYRE_RUN_DEFAULT), 0);
    place.running = 0;
    assert_true(place.callbacks >= 20);
    place.running = 1;
    gyre_op_init(&place.ops[0], test_ignore);
    assert_int_equal(gyre_op_close(&place.ops[0], &place.fd, 0), 0);
    assert_int_equal(gyre_loop_run(place.loop, GYRE_RUN_DEFAULT), 0);
    close(pair[1]);
    test_loop_end(place.loop);
}

/* ---- line 8: fairness ---- */

struct flood {
    struct gyre_fd fd;
    struct gyre_op op;
    struct gyre_op close;
    int peer;
    uint64_t bytes;
    uint64_t bytes_before_turn;
    uint64_t most_per_turn;
    int ended;
    int closed;
};

static void on_flood(struct gyre_op *op, const struct gyre_result *result)
{
    struct flood *flood = gyre_container_of(op, struct flood, op);

    if (result->res > 0) {
        flood->bytes += (uint64_t)result->res;
    } else {
        assert_int_equal(result->res, -ECANCELED);
    }
    flood->ended = (result->flags & GYRE_MORE) == 0;
}

static void on_flood_closed(struct gyre_op *op, const struct gyre_result *result)
{
    (void)result;
    gyre_container_of(op, struct flood, close)->closed = 1;
}

/* A peer that sends as fast as it can, until the other side has closed. */
static void *flood_peer(void *data)
{
    static const char block[65536];
    struct flood *flood = data;

    while (send(flood->peer, block, sizeof(block), MSG_NOSIGNAL) > 0) {
    }
    return NULL;
}

static void flood_start(struct flood *flood, struct gyre_loop *loop, pthread_t *thread)
{
    int pair[2];

    *flood = (struct flood){0};
    test_tcp_pair(pair);
    flood->peer = pair[1];
    assert_int_equal(gyre_fd_init(&flood->fd, loop, pair[0]), 0);
    gyre_op_init(&flood->op, on_flood);
    gyre_op_init(&flood->close, on_flood_closed);
    assert_int_equal(gyre_op_recv_lease(&flood->op, &flood->fd, GYRE_MULTISHOT), 0);
    assert_int_equal(pthread_create(thread, NULL, flood_peer, flood), 0);
}

static void flood_end(struct flood *flood, struct gyre_loop *loop, pthread_t thread)
{
    assert_int_equal(gyre_op_close(&flood->close, &flood->fd, 0), 0);
    test_turns_until(loop, &flood->closed);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(flood->ended);
    close(flood->peer);
}

/* Two peers flood the loop; a byte still goes back and forth, timers fire, connections are accepted,
 * and no turn is spent on the flood alone. */
static void contract_08_flooding_peers_starve_nobody(void)
{
    struct gyre_loop *loop = test_loop();
    struct flood floods[2];
    pthread_t threads[2];
    struct traffic traffic;
    struct ticker ticker = {0};
    int fired = 0;
    int i;

    for (i = 0; i < 2; i++) {
        flood_start(&floods[i], loop, &threads[i]);
    }
    while (floods[0].bytes == 0 || floods[1].bytes == 0) { /* a thread may begin late */
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    traffic_start(&traffic, loop, 200);
    assert_int_equal(gyre_timer_init(&ticker.timer, loop, on_ignored_tick), 0);
    while (!traffic.done || fired < 20) {
        if (!gyre_timer_active(&ticker.timer)) {
            assert_int_equal(gyre_timer_start(&ticker.timer, GYRE_MSEC), 0);
            fired = ticker.ticks;
        }
        for (i = 0; i < 2; i++) {
            floods[i].bytes_before_turn = floods[i].bytes;
        }
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        for (i = 0; i < 2; i++) {
            uint64_t bytes = floods[i].bytes - floods[i].bytes_before_turn;

            floods[i].most_per_turn =
                bytes > floods[i].most_per_turn ? bytes : floods[i].most_per_turn;
        }
    }
    for (i = 0; i < 2; i++) {
        if (floods[i].most_per_turn > 16u << 20) { /* the whole pool: bounded at all */
            fail_msg("%llu bytes in one turn", (unsigned long long)floods[i].most_per_turn);
        }
    }
    gyre_timer_stop(&ticker.timer);
    traffic_close(&traffic);
    for (i = 0; i < 2; i++) {
        flood_end(&floods[i], loop, threads[i]);
    }
    test_loop_end(loop);
}

/* ---- line 9: the same situation gives the same code on every backend ---- */

static struct gyre_loop *judge_loop; /* of the situations below */

/* What @start, on descriptor @number, comes to; closes the descriptor. */
static int result_of(int number, int (*start)(struct gyre_op *op, struct gyre_fd *fd))
{
    struct outcome outcome;
    struct gyre_fd fd;

    assert_true(number >= 0);
    outcome_init(&outcome);
    assert_int_equal(gyre_fd_init(&fd, judge_loop, number), 0);
    assert_int_equal(start(&outcome.op, &fd), 0);
    test_turns_until(judge_loop, &outcome.results);
    close_fd(judge_loop, &fd);
    assert_int_equal(outcome.results, 1);
    return outcome.res;
}

static char scratch[16];

static int start_recv(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_recv(op, fd, scratch, sizeof(scratch), 0);
}

static int start_recv_lease(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_recv_lease(op, fd, 0);
}

static int start_send(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_send(op, fd, "x", 1);
}

static int start_accept(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_accept(op, fd, 0);
}

static int start_accept_multishot(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_accept(op, fd, GYRE_MULTISHOT);
}

static int start_read(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_read(op, fd, scratch, sizeof(scratch), GYRE_OFFSET_CURRENT);
}

static int start_read_at(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_read(op, fd, scratch, sizeof(scratch), 0);
}

static int start_write(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_write(op, fd, "x", 1, GYRE_OFFSET_CURRENT);
}

static int start_poll(struct gyre_op *op, struct gyre_fd *fd)
{
    return gyre_op_poll(op, fd, POLLIN | POLLOUT, 0);
}

static int start_recv_cancelled(struct gyre_op *op, struct gyre_fd *fd)
{
    int rc = start_recv(op, fd);

    return rc != 0 ? rc : gyre_op_cancel(op);
}

static int start_recv_bounded(struct gyre_op *op, struct gyre_fd *fd)
{
    int rc = start_recv(op, fd);

    return rc != 0 ? rc : gyre_op_set_deadline(op, test_now() + GYRE_MSEC);
}

static int one_end_of_reset_connection(void)
{
    const struct linger reset = {.l_onoff = 1};
    int pair[2];

    test_tcp_pair(pair);
    assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(pair[1]);
    return pair[0];
}

static int one_end_of_closed_connection(void)
{
    int pair[2];

    test_unix_pair(pair);
    close(pair[1]);
    return pair[0];
}

static int open_tcp(void)
{
    return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int open_file(const char *path, int flags)
{
    return open(path, flags | O_CLOEXEC);
}

/* A connected socket; its peer stays open, and is closed with the loop's turn that comes. */
static int idle_peer = -1;

static int one_end_of_idle_connection(void)
{
    int pair[2];

    test_tcp_pair(pair);
    idle_peer = pair[1];
    return pair[0];
}

static void contract_09_receive_and_send_errors_are_the_same_everywhere(void)
{
    judge_loop = test_loop();
    assert_int_equal(result_of(open_tcp(), start_recv), -ENOTCONN);
    assert_int_equal(result_of(open_tcp(), start_recv_lease), -ENOTCONN);
    assert_int_equal(result_of(open_tcp(), start_send), -EPIPE);
    assert_int_equal(result_of(one_end_of_reset_connection(), start_recv), -ECONNRESET);
    assert_int_equal(result_of(one_end_of_reset_connection(), start_recv_lease), -ECONNRESET);
    assert_int_equal(result_of(one_end_of_reset_connection(), start_send), -ECONNRESET);
    assert_int_equal(result_of(one_end_of_closed_connection(), start_recv), 0);
    assert_int_equal(result_of(one_end_of_closed_connection(), start_recv_lease), 0);
    assert_int_equal(result_of(one_end_of_closed_connection(), start_send), -EPIPE);
    assert_int_equal(result_of(one_end_of_idle_connection(), start_recv_cancelled), -ECANCELED);
    close(idle_peer);
    assert_int_equal(result_of(one_end_of_idle_connection(), start_recv_bounded), -ETIMEDOUT);
    close(idle_peer);
    test_loop_end(judge_loop);
}

static void contract_09_wrong_descriptor_errors_are_the_same_everywhere(void)
{
    judge_loop = test_loop();
    assert_int_equal(result_of(open_file("/dev/null", O_RDWR), start_recv), -ENOTSOCK);
    assert_int_equal(result_of(open_file("/dev/null", O_RDWR), start_recv_lease), -ENOTSOCK);
    assert_int_equal(result_of(open_file("/dev/null", O_RDWR), start_send), -ENOTSOCK);
    assert_int_equal(result_of(open_file("/dev/null", O_RDWR), start_accept), -ENOTSOCK);
    assert_int_equal(result_of(open_file("/proc/self/exe", O_RDONLY), start_recv), -ENOTSOCK);
    assert_int_equal(result_of(open_tcp(), start_accept), -EINVAL);
    assert_int_equal(result_of(open_tcp(), start_accept_multishot), -EINVAL);
    assert_int_equal(result_of(open_file("/", O_RDONLY | O_DIRECTORY), start_read), -EISDIR);
    assert_int_equal(result_of(open_file("/dev/null", O_WRONLY), start_read), -EBADF);
    assert_int_equal(result_of(open_file("/dev/null", O_RDONLY), start_write), -EBADF);
    assert_int_equal(result_of(open_file("/dev/null", O_RDWR), start_read), 0);
    assert_int_equal(result_of(open_file("/dev/zero", O_RDWR), start_read), sizeof(scratch));
    assert_int_equal(result_of(open_file("/proc/self/exe", O_RDONLY), start_read_at),
                     sizeof(scratch));
    assert_int_equal(result_of(open_file("/dev/full", O_WRONLY), start_write), -ENOSPC);
    assert_int_equal(result_of(open_file("/proc/self/exe", O_RDONLY), start_poll),
                     POLLIN | POLLOUT);
    assert_int_equal(result_of(eventfd(0, EFD_CLOEXEC), start_poll), POLLOUT);
    test_loop_end(judge_loop);
}

struct connecting {
    struct gyre_connect_op connect;
    int results;
    int res;
};

static void on_connected(struct gyre_op *op, const struct gyre_result *result)
{
    struct connecting *connecting = gyre_container_of(op, struct connecting, connect.op);

    connecting->results++;
    connecting->res = result->res;
}

static int connect_result(int number, const void *address, size_t len)
{
    struct connecting connecting = {0};
    struct gyre_fd fd;

    assert_true(number >= 0);
    assert_int_equal(gyre_fd_init(&fd, judge_loop, number), 0);
    gyre_op_init(&connecting.connect.op, on_connected);
    assert_int_equal(gyre_op_connect(&connecting.connect, &fd, address, (socklen_t)len), 0);
    test_turns_until(judge_loop, &connecting.results);
    close_fd(judge_loop, &fd);
    assert_int_equal(connecting.results, 1);
    return connecting.res;
}

static void contract_09_connect_errors_are_the_same_everywhere(void)
{
    const struct sockaddr_un missing = {.sun_family = AF_UNIX, .sun_path = "/nonexistent/socket"};
    const struct sockaddr_un file = {.sun_family = AF_UNIX, .sun_path = "/proc/self/exe"};
    struct sockaddr_in address;
    int listener;

    judge_loop = test_loop();
    listener = test_listener(&address);
    assert_int_equal(connect_result(open_tcp(), &address, sizeof(address)), 0);
    assert_int_equal(connect_result(open_tcp(), &address, 4), -EINVAL);
    assert_int_equal(connect_result(test_connect(&address), &address, sizeof(address)), -EISCONN);
    close(listener);
    assert_int_equal(connect_result(open_tcp(), &address, sizeof(address)), -ECONNREFUSED);
    assert_int_equal(connect_result(open_tcp(), &missing, sizeof(missing)), -EAFNOSUPPORT);
    assert_int_equal(
        connect_result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &missing, sizeof(missing)),
        -ENOENT);
    if (!test_is_simulated()) { /* there are no files there */
        assert_int_equal(
            connect_result(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &file, sizeof(file)),
            -ECONNREFUSED);
    }
    assert_int_equal(connect_result(open_file("/dev/null", O_RDWR), &address, sizeof(address)),
                     -ENOTSOCK);
    test_loop_end(judge_loop);
}

/* ---- line 10: running out slows or sheds; it never spins, exits or loses ---- */

/* No descriptor is free while this is in force. */
static struct rlimit exhaust_descriptors(void)
{
    struct rlimit before;
    struct rlimit none;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    return before;
}

static void contract_10_create_without_descriptors_fails_cleanly(void)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *untouched = (struct gyre_loop *)&judge_loop;
    struct gyre_loop *loop = untouched;
    struct rlimit before = exhaust_descriptors();
    struct rlimit limit = before;
    rlim_t free_from;
    int rc = -EMFILE;
    int steps;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    free_from = limit.rlim_cur;
    /* One more descriptor at a time: each that the loop needs is missing once. */
    for (steps = 0; rc != 0; steps++) {
        limit.rlim_cur = free_from + (rlim_t)steps;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        rc = gyre_loop_create(&loop, &options);
        if (rc != 0) {
            assert_int_equal(rc, -EMFILE);
            assert_ptr_equal(loop, untouched);
            assert_int_equal(gyre_allocator_live(), 0);
        }
        assert_true(steps < 64);
    }
    assert_true(steps > 1);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    traffic_check(loop, 5);
    test_loop_end(loop);
}

/* Descriptors that are taken up to a limit, so that the next one is refused. The limit is in force
 * from the start: io_uring notes it when an accept is submitted. */
struct hoard {
    struct rlimit before;
    int numbers[64];
    int count;
};

static void hoard_limit(struct hoard *hoard)
{
    struct rlimit limit;
    int lowest = open("/dev/null", O_RDONLY | O_CLOEXEC);

    assert_true(lowest >= 0);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &hoard->before), 0);
    limit = hoard->before;
    limit.rlim_cur = (rlim_t)lowest + TEST_COUNT(hoard->numbers) - 8;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    hoard->count = 0;
}

static void hoard_take(struct hoard *hoard)
{
    int number;

    while ((number = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        assert_true(hoard->count < (int)TEST_COUNT(hoard->numbers));
        hoard->numbers[hoard->count++] = number;
    }
    assert_int_equal(errno, EMFILE);
}

static void hoard_give_back(struct hoard *hoard)
{
    while (hoard->count > 0) {
        close(hoard->numbers[--hoard->count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &hoard->before), 0);
}

struct server {
    struct gyre_fd fd;
    struct gyre_op op;
    int accepted; /* the last descriptor */
    int results;
    int res;
};

static void on_server_accept(struct gyre_op *op, const struct gyre_result *result)
{
    struct server *server = gyre_container_of(op, struct server, op);

    server->results++;
    server->res = result->res;
    if (result->res >= 0) {
        close(result->res);
    }
}

static void contract_10_accept_without_descriptors_sheds_and_does_not_spin(void)
{
    struct gyre_loop *loop = test_loop();
    struct server server = {0};
    struct sockaddr_in address;
    struct ticker ticker = {0};
    struct hoard hoard;
    uint64_t turns;
    int clients[3];
    int i;

    hoard_limit(&hoard);
    assert_int_equal(gyre_fd_init(&server.fd, loop, test_listener(&address)), 0);
    gyre_op_init(&server.op, on_server_accept);
    assert_int_equal(gyre_op_accept(&server.op, &server.fd, GYRE_MULTISHOT), 0);
    assert_int_equal(gyre_timer_init(&ticker.timer, loop, on_ignored_tick), 0);
    for (i = 0; i < 3; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(clients[i] >= 0);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    hoard_take(&hoard);
    for (i = 0; i < 2; i++) {
        assert_int_equal(connect(clients[i], (struct sockaddr *)&address, sizeof(address)), 0);
    }
    turns = stats_of(loop).turns;
    assert_int_equal(gyre_timer_start(&ticker.timer, 100 * GYRE_MSEC), 0);
    test_turns_until(loop, &ticker.ticks);
    assert_in_range(stats_of(loop).turns - turns, 1, 60);
    assert_int_equal(server.results, 0);
    assert_true(stats_of(loop).sheds > 0);
    hoard_give_back(&hoard);
    assert_int_equal(connect(clients[2], (struct sockaddr *)&address, sizeof(address)), 0);
    test_turns_until(loop, &server.results);
    assert_true(server.res >= 0);
    assert_true(gyre_op_active(&server.op));
    close_fd(loop, &server.fd);
    for (i = 0; i < 3; i++) {
        close(clients[i]);
    }
    test_loop_end(loop);
}

static void contract_10_single_accept_without_descriptors_reports(void)
{
    struct gyre_loop *loop;
    struct server server = {0};
    struct sockaddr_in address;
    struct hoard hoard;
    int client;

    if (test_on_valgrind()) {
        test_skip("valgrind accepts, finds the limit reached, and closes the connection itself");
    }
    loop = test_loop();
    hoard_limit(&hoard);
    assert_int_equal(gyre_fd_init(&server.fd, loop, test_listener(&address)), 0);
    gyre_op_init(&server.op, on_server_accept);
    client = test_connect(&address);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    hoard_take(&hoard);
    assert_int_equal(gyre_op_accept(&server.op, &server.fd, 0), 0);
    test_turns_until(loop, &server.results);
    hoard_give_back(&hoard);
    assert_int_equal(server.res, -EMFILE);
    assert_int_equal(gyre_op_accept(&server.op, &server.fd, 0), 0);
    test_turns_until_count(loop, &server.results, 2);
    assert_true(server.res >= 0);
    close_fd(loop, &server.fd);
    close(client);
    test_loop_end(loop);
}

enum { HOARD_BYTES = 128 << 10, HOARD_LEASES = 4096 };

/* Keeps everything that it receives, until told to let go. */
struct hoarder {
    struct gyre_fd fd;
    struct gyre_op op;
    struct gyre_lease leases[HOARD_LEASES];
    int held;
    int generous; /* release at once */
    int bytes;
    int wrong;
};

static void on_hoard(struct gyre_op *op, const struct gyre_result *result)
{
    struct hoarder *hoarder = gyre_container_of(op, struct hoarder, op);
    int i;

    if (result->res <= 0) {
        assert_int_equal(result->res, -ECANCELED);
        return;
    }
    for (i = 0; i < result->res; i++) {
        hoarder->wrong += result->lease->data[i] != (uint8_t)((hoarder->bytes + i) % 251);
    }
    hoarder->bytes += result->res;
    if (!hoarder->generous) {
        assert_true(hoarder->held < HOARD_LEASES);
        assert_int_equal(gyre_lease_retain(result->lease, &hoarder->leases[hoarder->held++]), 0);
    }
}

static void hoard_release(struct hoarder *hoarder)
{
    while (hoarder->held > 0) {
        gyre_lease_release(&hoarder->leases[--hoarder->held]);
    }
}

/* Writes the pattern that on_hoard() expects, in a thread: the socket holds less than all of it. */
static void *write_pattern(void *data)
{
    static uint8_t pattern[HOARD_BYTES];
    const int *peer = data;
    size_t sent = 0;
    size_t i;

    for (i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i % 251);
    }
    while (sent < sizeof(pattern)) {
        ssize_t count = send(*peer, pattern + sent, sizeof(pattern) - sent, MSG_NOSIGNAL);

        if (count <= 0) {
            break;
        }
        sent += (size_t)count;
    }
    return NULL;
}

static struct gyre_loop *small_pool_loop(void)
{
    struct gyre_loop_options options = test_options();

    options.pool_block = 4096;
    options.pool_min = 4 * 4096;
    options.pool_max = 4 * 4096;
    options.pool_quota = HOARD_BYTES * 4;
    return test_loop_with(&options);
}

/* The pool is empty: reading waits without turning; what comes back is used; no byte is lost. */
static void contract_10_receive_without_buffers_waits_and_goes_on(void)
{
    struct gyre_loop *loop = small_pool_loop();
    struct hoarder *hoarder = calloc(1, sizeof(*hoarder));
    struct ticker ticker = {0};
    pthread_t thread;
    uint64_t turns;
    int pair[2];

    assert_non_null(hoarder);
    test_tcp_pair(pair);
    assert_int_equal(gyre_timer_init(&ticker.timer, loop, on_ignored_tick), 0);
    assert_int_equal(gyre_fd_init(&hoarder->fd, loop, pair[0]), 0);
    gyre_op_init(&hoarder->op, on_hoard);
    assert_int_equal(gyre_op_recv_lease(&hoarder->op, &hoarder->fd, GYRE_MULTISHOT), 0);
    assert_int_equal(pthread_create(&thread, NULL, write_pattern, &pair[1]), 0);
    while (stats_of(loop).starved == 0) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        test_pool_conserved(loop);
    }
    turns = stats_of(loop).turns;
    assert_int_equal(gyre_timer_start(&ticker.timer, 50 * GYRE_MSEC), 0);
    test_turns_until(loop, &ticker.ticks);
    assert_in_range(stats_of(loop).turns - turns, 1, 20);
    assert_true(hoarder->bytes < HOARD_BYTES);
    hoard_release(hoarder);
    hoarder->generous = 1;
    test_turns_until_count(loop, &hoarder->bytes, HOARD_BYTES);
    assert_int_equal(hoarder->bytes, HOARD_BYTES);
    assert_int_equal(hoarder->wrong, 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    close_fd(loop, &hoarder->fd);
    close(pair[1]);
    test_loop_end(loop);
    free(hoarder);
}

/* ---- line 11: nothing printed, no signals, no handlers, nothing inherited ---- */

static void use_everything(void)
{
    struct gyre_loop_options bad = {.sq_entries = 3};
    struct gyre_loop *none = NULL;
    struct gyre_op unused;

    judge_loop = test_loop();
    gyre_op_init(&unused, test_ignore);
    assert_int_equal(gyre_loop_create(&none, &bad), -EINVAL);
    assert_int_equal(gyre_op_nop(&unused, NULL), -EINVAL);
    assert_true(gyre_loop_fd(judge_loop) >= 0);
    traffic_check(judge_loop, 50);
    assert_int_equal(result_of(one_end_of_reset_connection(), start_send), -ECONNRESET);
    assert_int_equal(result_of(one_end_of_closed_connection(), start_send), -EPIPE);
    assert_int_equal(result_of(one_end_of_closed_connection(), start_recv_lease), 0);
    assert_int_equal(gyre_loop_destroy(judge_loop), 0);
}

static void contract_11_library_prints_nothing(void)
{
    int capture = memfd_create("capture", MFD_CLOEXEC);
    int saved[2];
    off_t printed;
    int i;

    assert_true(capture >= 0);
    fflush(NULL);
    for (i = 0; i < 2; i++) {
        saved[i] = fcntl(STDOUT_FILENO + i, F_DUPFD_CLOEXEC, 3);
        assert_true(saved[i] >= 0);
        assert_true(dup2(capture, STDOUT_FILENO + i) >= 0);
    }
    use_everything();
    fflush(NULL);
    printed = lseek(capture, 0, SEEK_END);
    for (i = 0; i < 2; i++) {
        assert_true(dup2(saved[i], STDOUT_FILENO + i) >= 0);
        close(saved[i]);
    }
    close(capture);
    assert_int_equal(printed, 0);
}

static int die_in_silence(void *capture)
{
    dup2(*(int *)capture, STDOUT_FILENO);
    dup2(*(int *)capture, STDERR_FILENO);
    gyre_loop_unref(test_loop());
    return 0;
}

/* Even a failed assertion: what it has to say is in the core file. */
static void contract_11_library_prints_nothing_when_it_asserts(void)
{
    int capture = memfd_create("capture", MFD_CLOEXEC);

    assert_true(capture >= 0);
    test_child_aborts(die_in_silence, &capture);
    assert_int_equal(lseek(capture, 0, SEEK_END), 0);
    close(capture);
}

static void contract_11_signal_dispositions_are_left_alone(void)
{
    struct sigaction before[NSIG];
    sigset_t mask_before;
    sigset_t mask_after;
    int number;

    for (number = 1; number < NSIG; number++) {
        memset(&before[number], 0, sizeof(before[number]));
        (void)sigaction(number, NULL, &before[number]);
    }
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask_before), 0);
    use_everything();
    for (number = 1; number < NSIG; number++) {
        struct sigaction after = {0};

        (void)sigaction(number, NULL, &after);
        assert_true(after.sa_handler == before[number].sa_handler);
        assert_int_equal(after.sa_flags, before[number].sa_flags);
    }
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask_after), 0);
    for (number = 1; number < NSIG; number++) {
        assert_int_equal(sigismember(&mask_before, number), sigismember(&mask_after, number));
    }
}

static volatile sig_atomic_t sigpipes;

static void on_sigpipe(int number)
{
    (void)number;
    sigpipes++;
}

static void contract_11_sends_to_closed_peers_raise_no_sigpipe(void)
{
    const struct sigaction action = {.sa_handler = on_sigpipe};
    struct sigaction before;

    assert_int_equal(sigaction(SIGPIPE, &action, &before), 0);
    judge_loop = test_loop();
    assert_int_equal(result_of(one_end_of_closed_connection(), start_send), -EPIPE);
    assert_int_equal(result_of(open_tcp(), start_send), -EPIPE);
    test_loop_end(judge_loop);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    assert_int_equal(sigpipes, 0);
}

static void contract_11_descriptors_are_close_on_exec(void)
{
    enum { NUMBERS = 1024 };
    char inherited[NUMBERS];
    int number;

    for (number = 0; number < NUMBERS; number++) {
        inherited[number] = fcntl(number, F_GETFD) >= 0;
    }
    judge_loop = test_loop();
    traffic_check(judge_loop, 3);
    assert_true(gyre_loop_fd(judge_loop) >= 0);
    for (number = 0; number < NUMBERS; number++) {
        int flags = fcntl(number, F_GETFD);

        assert_true(inherited[number] || flags < 0 || (flags & FD_CLOEXEC) != 0);
    }
    test_loop_end(judge_loop);
}

/* ---- line 12: one thread ---- */

static struct visited {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct gyre_op idle;
    struct gyre_op active;
    struct gyre_connect_op connect;
    struct gyre_msg_op message;
    struct gyre_timer timer;
    struct gyre_lease lease;
    int peer;
} visited;

struct refusal {
    const char *call;
    int rc;
};

static struct refusal refusals[64];
static size_t refusal_count;

#define VISIT(call)                                                  \
    do {                                                             \
        refusals[refusal_count++] = (struct refusal){#call, (call)}; \
    } while (0)

static void visit_loop_and_timer(void)
{
    struct gyre_pool_stats pool;
    struct gyre_loop_stats stats;
    struct gyre_loop_info info;

    VISIT(gyre_loop_run(visited.loop, GYRE_RUN_NOWAIT));
    VISIT(gyre_loop_run(visited.loop, GYRE_RUN_DEFAULT));
    VISIT(gyre_loop_dispatch(visited.loop));
    VISIT(gyre_loop_fd(visited.loop));
    VISIT(gyre_loop_destroy(visited.loop));
    VISIT(gyre_loop_pool_stats(visited.loop, &pool));
    VISIT(gyre_loop_stats(visited.loop, &stats));
    VISIT(gyre_loop_info(visited.loop, &info));
    VISIT(gyre_timer_start(&visited.timer, 0));
    VISIT(gyre_timer_start_at(&visited.timer, 0));
    VISIT(gyre_op_nop(&visited.idle, visited.loop));
    VISIT(gyre_op_timeout(&visited.idle, visited.loop, 0));
    VISIT(gyre_op_cancel(&visited.active));
    VISIT(gyre_op_set_deadline(&visited.active, 0));
}

static void *visit_all(void *unused)
{
    const struct sockaddr_in address = {.sin_family = AF_INET};
    struct iovec iov = {scratch, sizeof(scratch)};
    const struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
    struct gyre_fd *fd = &visited.fd;
    struct gyre_fd other;
    int number;

    visit_loop_and_timer();
    VISIT(gyre_fd_init(&other, visited.loop, visited.peer));
    VISIT(gyre_fd_detach(fd, &number));
    VISIT(gyre_fd_cancel(fd));
    VISIT(gyre_op_poll(&visited.idle, fd, POLLIN, 0));
    VISIT(gyre_op_accept(&visited.idle, fd, 0));
    VISIT(
        gyre_op_connect(&visited.connect, fd, (const struct sockaddr *)&address, sizeof(address)));
    VISIT(gyre_op_recv(&visited.idle, fd, scratch, 1, 0));
    VISIT(gyre_op_recv_lease(&visited.idle, fd, 0));
    VISIT(gyre_op_send(&visited.idle, fd, "x", 1));
    VISIT(gyre_op_recvmsg(&visited.message, fd, &message, 0));
    VISIT(gyre_op_sendmsg(&visited.message, fd, &message));
    VISIT(gyre_op_read(&visited.idle, fd, scratch, 1, 0));
    VISIT(gyre_op_write(&visited.idle, fd, "x", 1, 0));
    VISIT(gyre_op_close(&visited.idle, fd, 0));
    return unused;
}

static void on_visited_tick(struct gyre_timer *timer)
{
    (void)timer;
}

static void visited_set(void)
{
    int pair[2];

    visited.loop = test_loop();
    test_tcp_pair(pair);
    visited.peer = pair[1];
    gyre_op_init(&visited.idle, test_ignore);
    gyre_op_init(&visited.active, test_ignore);
    gyre_op_init(&visited.connect.op, test_ignore);
    gyre_op_init(&visited.message.op, test_ignore);
    assert_int_equal(gyre_timer_init(&visited.timer, visited.loop, on_visited_tick), 0);
    assert_int_equal(gyre_fd_init(&visited.fd, visited.loop, pair[0]), 0);
    assert_int_equal(gyre_op_recv(&visited.active, &visited.fd, scratch, 1, 0), 0);
}

/* L12 */
static void contract_12_calls_from_another_thread_are_refused(void)
{
    pthread_t thread;
    size_t i;

    test_skip_simulated("in the simulation all threads are one to the library");
    visited_set();
    assert_int_equal(pthread_create(&thread, NULL, visit_all, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(refusal_count, 28);
    for (i = 0; i < refusal_count; i++) {
        if (refusals[i].rc != GYRE_ETHREAD) {
            fail_msg("%s: %s, expected GYRE_ETHREAD", refusals[i].call,
                     gyre_error_name(refusals[i].rc));
        }
    }
    assert_int_equal(gyre_loop_alive(visited.loop), 1);
    assert_true(gyre_op_active(&visited.active));
    close_fd(visited.loop, &visited.fd);
    close(visited.peer);
    traffic_check(visited.loop, 5);
    test_loop_end(visited.loop);
}

enum assertion {
    ASSERT_STOP,
    ASSERT_REF,
    ASSERT_UNREF,
    ASSERT_TIMER_STOP,
    ASSERT_LEASE_RELEASE,
    ASSERT_COUNT
};

static void *break_a_rule(void *data)
{
    switch (*(const enum assertion *)data) {
    case ASSERT_STOP:
        gyre_loop_stop(visited.loop);
        break;
    case ASSERT_REF:
        gyre_loop_ref(visited.loop);
        break;
    case ASSERT_UNREF:
        gyre_loop_unref(visited.loop);
        break;
    case ASSERT_TIMER_STOP:
        gyre_timer_stop(&visited.timer);
        break;
    case ASSERT_LEASE_RELEASE:
        gyre_lease_release(&visited.lease);
        break;
    case ASSERT_COUNT:
        break;
    }
    return NULL;
}

static void on_keep_lease(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    assert_int_equal(gyre_lease_retain(result->lease, &visited.lease), 0);
}

static int break_a_rule_elsewhere(void *which)
{
    pthread_t thread;

    visited_set();
    gyre_loop_ref(visited.loop);
    gyre_op_init(&visited.idle, on_keep_lease);
    assert_int_equal(gyre_timer_start(&visited.timer, GYRE_SEC), 0);
    assert_int_equal(gyre_op_cancel(&visited.active), 0);
    while (gyre_op_active(&visited.active)) {
        assert_true(gyre_loop_run(visited.loop, GYRE_RUN_ONCE) >= 0);
    }
    assert_int_equal(gyre_op_recv_lease(&visited.idle, &visited.fd, 0), 0);
    assert_int_equal(write(visited.peer, "x", 1), 1);
    while (gyre_op_active(&visited.idle)) {
        assert_true(gyre_loop_run(visited.loop, GYRE_RUN_ONCE) >= 0);
    }
    assert_int_equal(pthread_create(&thread, NULL, break_a_rule, which), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    return 0;
}

/* L12: what returns nothing cannot refuse; it asserts. */
static void contract_12_calls_that_cannot_refuse_assert(void)
{
    enum assertion which;

    test_skip_simulated("in the simulation all threads are one to the library");
    for (which = ASSERT_STOP; which < ASSERT_COUNT; which++) {
        test_child_aborts(break_a_rule_elsewhere, &which);
    }
}

static void on_allowed_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (*(int *)data)++;
}

static void *use_what_is_allowed(void *data)
{
    intptr_t rc = gyre_loop_post(visited.loop, on_allowed_post, data);

    gyre_loop_wake(visited.loop);
    gyre_loop_close_posts(visited.loop);
    return (void *)rc;
}

static void contract_12_post_wake_and_close_posts_work_from_anywhere(void)
{
    pthread_t thread;
    void *rc = NULL;
    int posted = 0;

    visited.loop = test_loop();
    assert_int_equal(pthread_create(&thread, NULL, use_what_is_allowed, &posted), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_null(rc);
    assert_int_equal(gyre_loop_run(visited.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(posted, 1);
    test_loop_end(visited.loop);
}

static const struct test_case cases[] = {
    {"contract_02_callbacks_run_only_from_the_loop_on_its_thread",
     contract_02_callbacks_run_only_from_the_loop_on_its_thread, 0},
    {"contract_08_flooding_peers_starve_nobody", contract_08_flooding_peers_starve_nobody, 0},
    {"contract_09_receive_and_send_errors_are_the_same_everywhere",
     contract_09_receive_and_send_errors_are_the_same_everywhere, 0},
    {"contract_09_wrong_descriptor_errors_are_the_same_everywhere",
     contract_09_wrong_descriptor_errors_are_the_same_everywhere, 0},
    {"contract_09_connect_errors_are_the_same_everywhere",
     contract_09_connect_errors_are_the_same_everywhere, 0},
    {"contract_10_create_without_descriptors_fails_cleanly",
     contract_10_create_without_descriptors_fails_cleanly, 0},
    {"contract_10_accept_without_descriptors_sheds_and_does_not_spin",
     contract_10_accept_without_descriptors_sheds_and_does_not_spin, 0},
    {"contract_10_single_accept_without_descriptors_reports",
     contract_10_single_accept_without_descriptors_reports, 0},
    {"contract_10_receive_without_buffers_waits_and_goes_on",
     contract_10_receive_without_buffers_waits_and_goes_on, 0},
    {"contract_11_library_prints_nothing", contract_11_library_prints_nothing, 0},
    {"contract_11_library_prints_nothing_when_it_asserts",
     contract_11_library_prints_nothing_when_it_asserts, 0},
    {"contract_11_signal_dispositions_are_left_alone",
     contract_11_signal_dispositions_are_left_alone, 0},
    {"contract_11_sends_to_closed_peers_raise_no_sigpipe",
     contract_11_sends_to_closed_peers_raise_no_sigpipe, 0},
    {"contract_11_descriptors_are_close_on_exec", contract_11_descriptors_are_close_on_exec, 0},
    {"contract_12_calls_from_another_thread_are_refused",
     contract_12_calls_from_another_thread_are_refused, 0},
    {"contract_12_calls_that_cannot_refuse_assert", contract_12_calls_that_cannot_refuse_assert, 0},
    {"contract_12_post_wake_and_close_posts_work_from_anywhere",
     contract_12_post_wake_and_close_posts_work_from_anywhere, 0},
};

int main(void)
{
    return test_main("contract", cases, TEST_COUNT(cases));
}
