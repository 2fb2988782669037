/* Accepting: no connection is lost, doubled or leaked, whatever happens around it. */
#include "rig.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BURST      1000
#define RACES      10000
#define SHED_COUNT 4

/* A listener on a loop of its own, and what was accepted from it. */
struct door {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct sockaddr_in address;
    struct trial accepting;
    int accepted[BURST];
    int count;
};

static void keep_accepted(struct trial *trial, const struct gyre_result *result)
{
    struct door *door = trial->context;

    if (result->res >= 0) {
        assert_true(door->count < BURST);
        door->accepted[door->count++] = result->res;
    }
}

static void door_open(struct door *door)
{
    *door = (struct door){.loop = test_loop()};
    trial_attach(door->loop, &door->fd, wire_listener(SOMAXCONN, &door->address));
    trial_init(&door->accepting, keep_accepted, door);
}

static void door_accept(struct door *door, uint32_t flags)
{
    trial_init(&door->accepting, keep_accepted, door);
    assert_int_equal(gyre_op_accept(&door->accepting.op, &door->fd, flags), 0);
}

/* Closes what was accepted, with a reset. */
static void door_drop(struct door *door)
{
    while (door->count > 0) {
        wire_reset(door->accepted[--door->count]);
    }
}

static void door_close(struct door *door)
{
    door_drop(door);
    trial_close(door->loop, &door->fd);
    test_loop_end(door->loop);
}

static void assert_connected(int a, int b)
{
    wire_send_stream(a, 100, 0);
    wire_expect_stream(b, 100, 0);
    wire_send_stream(b, 100, WIRE_STREAM(1));
    wire_expect_stream(a, 100, WIRE_STREAM(1));
}

/* A01 */
static void accept_single_gives_a_working_connection(void)
{
    struct door door;
    int domain = 0;
    socklen_t len = sizeof domain;

    door_open(&door);
    door_accept(&door, 0);
    const int client = test_connect(&door.address);
    const int number = trial_end(door.loop, &door.accepting);
    assert_true(number > STDERR_FILENO);
    assert_int_equal(getsockopt(number, SOL_SOCKET, SO_DOMAIN, &domain, &len), 0);
    assert_int_equal(domain, AF_INET);
    assert_connected(client, number);
    assert_int_equal(door.accepting.results, 1);
    wire_reset(client);
    door_close(&door);
}

static void accept_multishot_gives_connection_after_connection(void)
{
    struct door door;

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    for (int i = 0; i < 50; i++) {
        const int client = test_connect(&door.address);

        test_turns_until_count(door.loop, &door.count, i + 1);
        assert_connected(client, door.accepted[i]);
        wire_reset(client);
    }
    assert_int_equal(door.accepting.finals, 0);
    assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    assert_int_equal(door.accepting.results, 51);
    door_close(&door);
}

struct burst {
    struct door *door;
    int clients[BURST];
};

static void connect_burst(struct trial *trial, const struct gyre_result *result)
{
    struct burst *burst = trial->context;

    (void)result;
    for (int32_t i = 0; i < BURST; i++) {
        burst->clients[i] = test_connect(&burst->door->address);
        wire_send(burst->clients[i], &i, sizeof i);
    }
}

/* A02: they all connect while a callback keeps the loop from accepting. */
static void accept_burst_in_a_callback_is_delivered_once_each(void)
{
    static struct door door;
    static struct burst burst;
    static int seen[BURST];
    struct trial nop;

    door_open(&door);
    burst.door = &door;
    door_accept(&door, GYRE_MULTISHOT);
    trial_init(&nop, connect_burst, &burst);
    assert_int_equal(gyre_op_nop(&nop.op, door.loop), 0);
    test_turns_until_count(door.loop, &door.count, BURST);
    for (int i = 0; i < BURST; i++) {
        int32_t client = -1;

        assert_int_equal(recv(door.accepted[i], &client, sizeof client, MSG_WAITALL),
                         sizeof client);
        assert_in_range(client, 0, BURST - 1);
        assert_int_equal(seen[client]++, 0);
        wire_reset(burst.clients[client]);
    }
    trial_turns(door.loop, 3);
    assert_int_equal(door.count, BURST);
    door_close(&door);
}

/* One race of A03: the client connects around the moment of the cancel. */
static void race(struct door *door, uint32_t flags, uint32_t schedule)
{
    const int before = (schedule & 4) != 0;
    int client = -1;

    if (before) {
        client = test_connect(&door->address);
    }
    door_accept(door, flags);
    trial_turns(door->loop, (schedule & 1) != 0);
    if (!before) {
        client = test_connect(&door->address);
    }
    trial_turns(door->loop, (schedule & 2) != 0);
    assert_int_equal(gyre_op_cancel(&door->accepting.op), 0);
    const int32_t res = trial_end(door->loop, &door->accepting);
    assert_true(res == -ECANCELED || res >= 0);
    if (door->count == 0) {
        door_accept(door, 0);
        assert_true(trial_end(door->loop, &door->accepting) >= 0);
    }
    assert_int_equal(door->count, 1);
    wire_reset(client);
    door_drop(door);
}

/* A03, single */
static void accept_cancel_versus_connect_loses_no_connection(void)
{
    struct door door;
    uint32_t seed = 1;

    door_open(&door);
    for (int i = 0, races = test_steps(RACES, 1); i < races; i++) {
        race(&door, 0, wire_random(&seed, 8));
    }
    door_close(&door);
}

/* A03, multishot */
static void accept_multishot_cancel_versus_connect_loses_no_connection(void)
{
    struct door door;
    uint32_t seed = 2;

    door_open(&door);
    for (int i = 0, races = test_steps(RACES, 1); i < races; i++) {
        race(&door, GYRE_MULTISHOT, wire_random(&seed, 8));
    }
    door_close(&door);
}

/* A03: a listener closed while clients come: each is delivered, or sees its end; none hangs. */
static void accept_listener_closed_versus_connect_leaves_no_client_hanging(void)
{
    for (uint32_t i = 0; i < 200; i++) {
        struct door door;
        struct trial closing;

        door_open(&door);
        door_accept(&door, i % 2 != 0 ? GYRE_MULTISHOT : 0);
        trial_turns(door.loop, i % 3 != 0);
        const int client = test_connect(&door.address);
        trial_init(&closing, NULL, NULL);
        assert_int_equal(gyre_op_close(&closing.op, &door.fd, 0), 0);
        assert_int_equal(trial_end(door.loop, &closing), 0);
        assert_int_equal(door.accepting.finals, 1);
        if (door.count > 0) {
            assert_connected(client, door.accepted[0]);
            wire_reset(client);
        } else {
            assert_int_equal(door.accepting.res, -ECANCELED);
            assert_int_equal(wire_expect_end(client), -ECONNRESET);
            close(client);
        }
        door_drop(&door);
        test_loop_end(door.loop);
    }
}

/* A04 */
static void accept_stopped_and_started_again_delivers_the_backlog(void)
{
    struct door door;
    int clients[20];

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    trial_turns(door.loop, 1);
    assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    for (int i = 0; i < 20; i++) {
        clients[i] = test_connect(&door.address);
    }
    trial_turns(door.loop, 5);
    assert_int_equal(door.count, 0);
    door_accept(&door, GYRE_MULTISHOT);
    test_turns_until_count(door.loop, &door.count, 20);
    for (int i = 0; i < 20; i++) {
        assert_connected(clients[i], door.accepted[i]);
        wire_reset(clients[i]);
    }
    door_close(&door);
}

/* A05 */
static void accept_listener_closed_with_backlog_resets_the_clients(void)
{
    struct gyre_loop *loop = test_loop();
    struct sockaddr_in address;
    struct gyre_fd fd;
    int clients[5];

    trial_attach(loop, &fd, test_listener(&address));
    for (int i = 0; i < 5; i++) {
        clients[i] = test_connect(&address);
    }
    trial_close(loop, &fd);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(wire_expect_end(clients[i]), -ECONNRESET);
        close(clients[i]);
    }
    test_loop_end(loop);
}

struct slam {
    struct door *door;
    struct trial closing_listener;
    struct gyre_fd fd;
    struct trial closing_connection;
};

static void close_both(struct trial *trial, const struct gyre_result *result)
{
    struct slam *slam = trial->context;

    if (result->res < 0) {
        assert_int_equal(result->res, -ECANCELED);
        return;
    }
    assert_int_equal(slam->closing_listener.results, 0);
    trial_attach(slam->door->loop, &slam->fd, result->res);
    assert_int_equal(gyre_op_close(&slam->closing_listener.op, &slam->door->fd, 0), 0);
    assert_int_equal(gyre_op_close(&slam->closing_connection.op, &slam->fd, 0), 0);
}

/* A06 */
static void accept_both_closed_in_its_callback_ends_cleanly(void)
{
    for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags++) {
        struct door door;
        struct slam slam = {.door = &door};

        door_open(&door);
        trial_init(&slam.closing_listener, NULL, NULL);
        trial_init(&slam.closing_connection, NULL, NULL);
        trial_init(&door.accepting, close_both, &slam);
        assert_int_equal(gyre_op_accept(&door.accepting.op, &door.fd, flags), 0);
        const int client = test_connect(&door.address);
        assert_int_equal(trial_end(door.loop, &slam.closing_listener), 0);
        assert_int_equal(trial_end(door.loop, &slam.closing_connection), 0);
        assert_int_equal(door.accepting.finals, 1);
        assert_true(door.accepting.rank < slam.closing_listener.rank);
        assert_int_equal(wire_expect_end(client), 0);
        close(client);
        test_loop_end(door.loop);
    }
}

/* A07, A09: armed once, also where the kernel has no multishot, and free while nobody comes. */
static void accept_multishot_idle_costs_nothing_per_turn(void)
{
    struct door door;

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    const int client = test_connect(&door.address);
    test_turns_until_count(door.loop, &door.count, 1);
    trial_turns(door.loop, 2);
    const struct gyre_loop_stats before = trial_stats(door.loop);
    trial_turns(door.loop, 100);
    const struct gyre_loop_stats after = trial_stats(door.loop);
    assert_int_equal(after.sqes, before.sqes);
    assert_int_equal(after.eagains, before.eagains);
    assert_int_equal(after.rearms, before.rearms);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    wire_reset(client);
    door_close(&door);
}

/* Of a lone connection the kernel has told, so there is no need to find out that it is alone: an
 * accept that finds nothing is among the dearest calls. */
static void accept_multishot_of_lone_connections_finds_each_at_once(void)
{
    struct door door;
    struct gyre_loop_stats before = {0};

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    for (int i = 0; i < 20; i++) {
        const int client = test_connect(&door.address);

        test_turns_until_count(door.loop, &door.count, i + 1);
        trial_turns(door.loop, 3);
        wire_reset(client);
        before = i == 0 ? trial_stats(door.loop) : before;
    }
    assert_int_equal(trial_stats(door.loop).eagains, before.eagains);
    door_close(&door);
}

static void assert_all_accepted(struct door *door, int count)
{
    int clients[20];

    door_drop(door);
    for (int i = 0; i < count; i++) {
        clients[i] = test_connect(&door->address);
    }
    test_turns_until_count(door->loop, &door->count, count);
    trial_turns(door->loop, 3);
    assert_int_equal(door->count, count);
    for (int i = 0; i < count; i++) {
        wire_reset(clients[i]);
    }
}

/* They are told of until somebody takes them, unless nobody would. */
static void connections_that_nobody_accepts_do_not_keep_the_loop_awake(void)
{
    struct door door;
    int clients[20];

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    assert_all_accepted(&door, 20);
    assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    door_drop(&door);
    for (int i = 0; i < 20; i++) {
        clients[i] = test_connect(&door.address);
    }
    trial_turns(door.loop, 3);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    door_accept(&door, GYRE_MULTISHOT);
    test_turns_until_count(door.loop, &door.count, 20);
    for (int i = 0; i < 20; i++) {
        wire_reset(clients[i]);
    }
    assert_all_accepted(&door, 1);
    assert_all_accepted(&door, 20);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    door_close(&door);
}

/* A poll is told of changes, though an accept that waits on the same socket is told of what is. */
static void poll_of_a_listener_tells_of_changes_only(void)
{
    struct door door;
    struct trial polling;

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    assert_all_accepted(&door, 1);
    trial_init(&polling, NULL, NULL);
    assert_int_equal(gyre_op_poll(&polling.op, &door.fd, POLLIN, GYRE_MULTISHOT), 0);
    assert_all_accepted(&door, 5);
    assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    const int before = polling.results;
    const int client = test_connect(&door.address);
    trial_turns(door.loop, 20);
    assert_in_range(polling.results, before + 1, before + 3);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    gyre_op_cancel(&polling.op);
    trial_end(door.loop, &polling);
    wire_reset(client);
    door_close(&door);
}

/* Its registration outlasts it where a duplicate keeps the file open. Nobody is there to take what it
 * would tell, and nothing can be done about it any more. */
static void listener_closed_while_a_duplicate_lives_does_not_keep_the_loop_awake(void)
{
    struct door door;

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    assert_all_accepted(&door, 1);
    const int duplicate = fcntl(gyre_fd_number(&door.fd), F_DUPFD_CLOEXEC, 0);
    trial_close(door.loop, &door.fd);
    const int client = test_connect(&door.address);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    wire_reset(client);
    close(duplicate);
    door_drop(&door);
    test_loop_end(door.loop);
}

/* Nobody accepts any more when the first connection comes: of that one the loop is told once. It came
 * between a close and its turn, or before. */
static void told_of_a_connection_and_closed(int before)
{
    struct door door;
    struct trial closing;
    int clients[2];

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    assert_all_accepted(&door, 1);
    const int duplicate = fcntl(gyre_fd_number(&door.fd), F_DUPFD_CLOEXEC, 0);
    if (before) {
        assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
        assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    }
    clients[0] = test_connect(&door.address);
    assert_int_equal(poll(&(struct pollfd){.fd = duplicate, .events = POLLIN}, 1, -1), 1);
    trial_turns(door.loop, before ? 3 : 0);
    trial_init(&closing, NULL, NULL);
    assert_int_equal(gyre_op_close(&closing.op, &door.fd, 0), 0);
    assert_int_equal(trial_end(door.loop, &closing), 0);
    const uint64_t stale = trial_stats(door.loop).stale;
    clients[1] = test_connect(&door.address);
    trial_turns(door.loop, 3);
    assert_int_equal(trial_stats(door.loop).stale, stale);
    wire_reset(clients[0]);
    wire_reset(clients[1]);
    close(duplicate);
    door_drop(&door);
    test_loop_end(door.loop);
}

static void listener_told_of_a_connection_while_it_closes_is_forgotten(void)
{
    told_of_a_connection_and_closed(0);
}

static void listener_told_of_a_connection_while_paused_is_forgotten(void)
{
    told_of_a_connection_and_closed(1);
}

static void shut_and_close(struct trial *trial, const struct gyre_result *result)
{
    struct door *door = trial->context;

    (void)result;
    trial_init(trial, NULL, NULL);
    assert_int_equal(gyre_op_close(&trial->op, &door->fd, GYRE_CLOSE_SHUTDOWN), 0);
}

/* As that, of one that was shut down: nothing waits, and still it would be told of for ever. */
static void listener_shut_down_while_a_duplicate_lives_does_not_keep_the_loop_awake(void)
{
    struct door door;
    struct trial closing;

    door_open(&door);
    door_accept(&door, GYRE_MULTISHOT);
    assert_all_accepted(&door, 1);
    const int duplicate = fcntl(gyre_fd_number(&door.fd), F_DUPFD_CLOEXEC, 0);
    trial_init(&closing, shut_and_close, &door);
    assert_int_equal(gyre_op_nop(&closing.op, door.loop), 0);
    trial_turns(door.loop, 1);
    assert_int_equal(trial_end(door.loop, &closing), 0);
    assert_true(trial_idle_turns(door.loop, 20 * GYRE_MSEC) <= 4);
    close(duplicate);
    door_drop(&door);
    test_loop_end(door.loop);
}

#define NOISES 1600

/* More descriptors have news in each turn than the driver takes in, so the listener has its turn only
 * in every second or third. */
static void connections_are_accepted_beside_a_flood_of_events(void)
{
    static struct door door;
    static struct gyre_fd noise[NOISES];
    static struct trial polling[NOISES];
    const uint64_t one = 1;
    struct gyre_loop_info info;
    int clients[60];
    int turns = 0;

    door_open(&door);
    assert_int_equal(gyre_loop_info(door.loop, &info), 0);
    door_accept(&door, GYRE_MULTISHOT);
    for (int i = 0; i < NOISES; i++) {
        trial_attach(door.loop, &noise[i], eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        trial_init(&polling[i], NULL, NULL);
        assert_int_equal(gyre_op_poll(&polling[i].op, &noise[i], POLLIN, GYRE_MULTISHOT), 0);
    }
    trial_turns(door.loop, 3);
    for (size_t i = 0; i < TEST_COUNT(clients); i++) {
        clients[i] = test_connect(&door.address);
    }
    while (door.count < (int)TEST_COUNT(clients)) {
        for (int i = 0; i < NOISES; i++) {
            assert_int_equal(write(gyre_fd_number(&noise[i]), &one, sizeof(one)), sizeof(one));
        }
        trial_turns(door.loop, 1);
        turns++;
    }
    print_message("%d turns\n", turns);
    if (test_variant_uring() && !(info.features & GYRE_FEATURE_MULTISHOT)) {
        assert_true(turns <= 2 * (int)TEST_COUNT(clients)); /* each has a turn of its own */
    } else {
        assert_true(turns <= 30);
    }
    for (size_t i = 0; i < TEST_COUNT(clients); i++) {
        wire_reset(clients[i]);
    }
    for (int i = 0; i < NOISES; i++) {
        trial_close(door.loop, &noise[i]);
    }
    door_close(&door);
}

/* A10: Linux hands out a connection that was reset while it waited, or skips it; both are fine. */
static void accept_connection_reset_in_the_backlog_is_survived(void)
{
    for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags++) {
        struct door door;

        door_open(&door);
        wire_reset(test_connect(&door.address));
        const int client = test_connect(&door.address);
        wire_send_stream(client, 10, 0);
        door_accept(&door, flags);
        for (int next = 0, got = 0; got == 0; next++) {
            test_turns_until_count(door.loop, &door.count, next + 1);
            got = recv(door.accepted[next], &(char){0}, 1, MSG_PEEK) == 1;
            if (!got && flags == 0) {
                door_accept(&door, flags);
            }
        }
        assert_in_range(door.count, 1, 2);
        wire_expect_stream(door.accepted[door.count - 1], 10, 0);
        wire_reset(client);
        door_close(&door);
    }
}

/* A13, M05: the kernel's word on descriptors that cannot be accepted from, on every backend. */
static void accept_on_what_does_not_listen_reports_why(void)
{
    struct gyre_loop *loop = test_loop();
    int ends[2];

    wire_pipe(ends);
    close(ends[1]);
    const struct {
        int number;
        int32_t res;
    } cases[] = {{wire_tcp(), -EINVAL}, {wire_udp(NULL), -EOPNOTSUPP}, {ends[0], -ENOTSOCK}};

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        struct gyre_fd fd;
        struct trial trial;

        trial_attach(loop, &fd, cases[i].number);
        for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags++) {
            trial_init(&trial, NULL, NULL);
            assert_int_equal(gyre_op_accept(&trial.op, &fd, flags), 0);
            assert_int_equal(trial_end(loop, &trial), cases[i].res);
            assert_int_equal(trial.results, 1);
        }
        trial_close(loop, &fd);
    }
    test_loop_end(loop);
}

static void assert_all_close_on_exec(void)
{
    for (int number = STDERR_FILENO + 1; number < 64; number++) {
        const int flags = fcntl(number, F_GETFD);

        if (flags >= 0 && (flags & FD_CLOEXEC) == 0) {
            fail_msg("descriptor %d is not close-on-exec", number);
        }
    }
}

/* What the harness holds open is not the library's business: mark it, so that only new descriptors
 * count. */
static void mark_all_close_on_exec(void)
{
    for (int number = STDERR_FILENO + 1; number < 64; number++) {
        (void)fcntl(number, F_SETFD, FD_CLOEXEC);
    }
}

/* A17: accepted descriptors, and all that a loop opens for itself. */
static void accept_descriptors_are_close_on_exec(void)
{
    struct door door;

    mark_all_close_on_exec();
    door_open(&door);
    assert_true(gyre_loop_fd(door.loop) >= 0);
    door_accept(&door, 0);
    const int first = test_connect(&door.address);
    assert_true(trial_end(door.loop, &door.accepting) >= 0);
    door_accept(&door, GYRE_MULTISHOT);
    const int second = test_connect(&door.address);
    test_turns_until_count(door.loop, &door.count, 2);
    assert_all_close_on_exec();
    wire_reset(first);
    wire_reset(second);
    door_close(&door);
}

/* A18 */
static void accept_nonblocking_listener_never_shows_eagain(void)
{
    for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags++) {
        struct door door;

        door_open(&door);
        wire_nonblocking(gyre_fd_number(&door.fd));
        door_accept(&door, flags);
        trial_turns(door.loop, 10);
        assert_int_equal(door.accepting.results, 0);
        const int client = test_connect(&door.address);
        test_turns_until_count(door.loop, &door.count, 1);
        assert_connected(client, door.accepted[0]);
        wire_reset(client);
        door_close(&door);
    }
}

/* What keeps all descriptors in use, and the limit as it was. The limit is lowered before an accept
 * is started: io_uring goes by the one that held when it was. */
struct shortage {
    struct rlimit before;
    int fillers[64];
    int count;
};

static void shortage_prepare(struct shortage *shortage)
{
    struct rlimit now;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &shortage->before), 0);
    const int next = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
    assert_true(next >= 0);
    assert_int_equal(close(next), 0);
    now = shortage->before;
    now.rlim_cur = (rlim_t)next + 32;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    shortage->count = 0;
}

static void shortage_begin(struct shortage *shortage)
{
    for (int number; (number = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0;) {
        assert_in_range(shortage->count, 0, 63);
        shortage->fillers[shortage->count++] = number;
    }
    assert_int_equal(errno, EMFILE);
}

static void shortage_end(struct shortage *shortage)
{
    while (shortage->count > 0) {
        close(shortage->fillers[--shortage->count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &shortage->before), 0);
}

/* F01: sheds, counted; does not spin; goes on when there are descriptors again. */
static void accept_multishot_without_descriptors_sheds_and_recovers(void)
{
    struct door door;
    struct shortage shortage;
    int clients[SHED_COUNT];

    door_open(&door);
    shortage_prepare(&shortage);
    door_accept(&door, GYRE_MULTISHOT);
    trial_turns(door.loop, 2);
    for (int i = 0; i < SHED_COUNT; i++) {
        clients[i] = wire_tcp();
    }
    shortage_begin(&shortage);
    const struct gyre_loop_stats start = trial_stats(door.loop);
    for (int i = 0; i < SHED_COUNT; i++) {
        assert_int_equal(connect(clients[i], (struct sockaddr *)&door.address, sizeof door.address),
                         0);
    }
    while (trial_stats(door.loop).sheds < SHED_COUNT) {
        assert_int_equal(gyre_loop_run(door.loop, GYRE_RUN_ONCE), 1);
        assert_true(trial_stats(door.loop).turns - start.turns < 200);
        assert_true(trial_stats(door.loop).enters - start.enters < 200);
    }
    assert_int_equal(door.accepting.results, 0);
    for (int i = 0; i < SHED_COUNT; i++) {
        (void)wire_expect_end(clients[i]);
        close(clients[i]);
    }
    shortage_end(&shortage);
    const int client = test_connect(&door.address);
    test_turns_until_count(door.loop, &door.count, 1);
    assert_connected(client, door.accepted[0]);
    assert_int_equal(trial_stats(door.loop).sheds, SHED_COUNT);
    wire_reset(client);
    door_close(&door);
}

/* F01, F11: out of descriptors, and nobody comes; io_uring fails an accept even then. */
static void accept_multishot_without_descriptors_idles_while_nobody_comes(void)
{
    struct door door;
    struct shortage shortage;

    door_open(&door);
    shortage_prepare(&shortage);
    shortage_begin(&shortage);
    door_accept(&door, GYRE_MULTISHOT);
    assert_true(trial_idle_turns(door.loop, 300 * GYRE_MSEC) < 40);
    assert_int_equal(door.accepting.results, 0);
    assert_int_equal(trial_stats(door.loop).sheds, 0);
    shortage_end(&shortage);
    const int client = test_connect(&door.address);
    test_turns_until_count(door.loop, &door.count, 1);
    assert_connected(client, door.accepted[0]);
    wire_reset(client);
    door_close(&door);
}

/* F01: from the start on there was no descriptor, not even one to shed with; those who wait are
 * served in the end, and until then nothing spins. */
static void accept_multishot_started_without_descriptors_keeps_who_waits(void)
{
    struct door door;
    struct shortage shortage;
    int clients[SHED_COUNT];

    door_open(&door);
    for (int i = 0; i < SHED_COUNT; i++) {
        clients[i] = test_connect(&door.address);
    }
    shortage_prepare(&shortage);
    shortage_begin(&shortage);
    door_accept(&door, GYRE_MULTISHOT);
    assert_true(trial_idle_turns(door.loop, 300 * GYRE_MSEC) < 40);
    assert_int_equal(door.accepting.results, 0);
    shortage_end(&shortage);
    test_turns_until_count(door.loop, &door.count, SHED_COUNT);
    assert_int_equal(trial_stats(door.loop).sheds, 0);
    for (int i = 0; i < SHED_COUNT; i++) {
        assert_connected(clients[i], door.accepted[i]);
        wire_reset(clients[i]);
    }
    door_close(&door);
}

/* A cancel during the back-off does not wait for its end. */
static void accept_multishot_cancelled_while_backing_off_ends(void)
{
    struct door door;
    struct shortage shortage;

    door_open(&door);
    shortage_prepare(&shortage);
    shortage_begin(&shortage);
    door_accept(&door, GYRE_MULTISHOT);
    trial_turns(door.loop, 3);
    assert_int_equal(gyre_op_cancel(&door.accepting.op), 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -ECANCELED);
    assert_int_equal(door.accepting.results, 1);
    shortage_end(&shortage);
    door_close(&door);
}

static void accept_single_without_descriptors_reports_emfile(void)
{
    struct door door;
    struct shortage shortage;

    door_open(&door);
    const int client = test_connect(&door.address);
    shortage_prepare(&shortage);
    shortage_begin(&shortage);
    door_accept(&door, 0);
    assert_int_equal(trial_end(door.loop, &door.accepting), -EMFILE);
    assert_int_equal(trial_stats(door.loop).sheds, 0);
    shortage_end(&shortage);
    door_accept(&door, 0);
    assert_true(trial_end(door.loop, &door.accepting) >= 0);
    assert_connected(client, door.accepted[0]);
    wire_reset(client);
    door_close(&door);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(accept_single_gives_a_working_connection),
        TEST_CASE(accept_multishot_gives_connection_after_connection),
        TEST_CASE(accept_burst_in_a_callback_is_delivered_once_each),
        TEST_CASE(accept_cancel_versus_connect_loses_no_connection),
        TEST_CASE(accept_multishot_cancel_versus_connect_loses_no_connection),
        TEST_CASE(accept_listener_closed_versus_connect_leaves_no_client_hanging),
        TEST_CASE(accept_stopped_and_started_again_delivers_the_backlog),
        TEST_CASE(accept_listener_closed_with_backlog_resets_the_clients),
        TEST_CASE(accept_both_closed_in_its_callback_ends_cleanly),
        TEST_CASE(accept_multishot_idle_costs_nothing_per_turn),
        TEST_CASE(accept_multishot_of_lone_connections_finds_each_at_once),
        TEST_CASE(connections_that_nobody_accepts_do_not_keep_the_loop_awake),
        TEST_CASE(poll_of_a_listener_tells_of_changes_only),
        TEST_CASE(listener_closed_while_a_duplicate_lives_does_not_keep_the_loop_awake),
        TEST_CASE(listener_told_of_a_connection_while_it_closes_is_forgotten),
        TEST_CASE(listener_told_of_a_connection_while_paused_is_forgotten),
        TEST_CASE(listener_shut_down_while_a_duplicate_lives_does_not_keep_the_loop_awake),
        TEST_CASE(connections_are_accepted_beside_a_flood_of_events),
        TEST_CASE(accept_connection_reset_in_the_backlog_is_survived),
        TEST_CASE(accept_on_what_does_not_listen_reports_why),
        TEST_CASE(accept_descriptors_are_close_on_exec),
        TEST_CASE(accept_nonblocking_listener_never_shows_eagain),
        TEST_CASE(accept_multishot_without_descriptors_sheds_and_recovers),
        TEST_CASE(accept_multishot_without_descriptors_idles_while_nobody_comes),
        TEST_CASE(accept_multishot_started_without_descriptors_keeps_who_waits),
        TEST_CASE(accept_multishot_cancelled_while_backing_off_ends),
        TEST_CASE(accept_single_without_descriptors_reports_emfile),
    };

    return test_main("ops-accept", cases, TEST_COUNT(cases));
}
