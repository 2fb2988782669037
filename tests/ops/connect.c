/* Connecting: one result, the kernel's; what is sent meanwhile follows in order. */
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define RACES       10000
#define NOT_ALLOWED 99

/* A socket on a loop of its own, about to connect. */
struct caller {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct trial connecting;
};

static void caller_open(struct caller *caller, int number)
{
    caller->loop = test_loop();
    trial_attach(caller->loop, &caller->fd, number);
    trial_init(&caller->connecting, NULL, NULL);
}

static void caller_connect(struct caller *caller, const void *address, size_t len)
{
    trial_init(&caller->connecting, NULL, NULL);
    assert_int_equal(
        gyre_op_connect(&caller->connecting.connect, &caller->fd, address, (socklen_t)len), 0);
}

static void caller_close(struct caller *caller)
{
    trial_close(caller->loop, &caller->fd);
    test_loop_end(caller->loop);
}

static int accepted(int listener)
{
    const int number = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    assert_true(number >= 0);
    return number;
}

/* C01; the address is copied: the caller's may go at once. */
static void connect_reaches_the_listener_with_the_right_addresses(void)
{
    struct caller caller;
    struct sockaddr_in there;
    struct sockaddr_in local = {0};
    struct sockaddr_in peer = {0};
    socklen_t len = sizeof local;
    const int listener = test_listener(&there);
    struct sockaddr_in scratch = there;

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &scratch, sizeof scratch);
    memset(&scratch, 0xff, sizeof scratch);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), 0);
    const int number = gyre_fd_number(&caller.fd);
    const int server = accepted(listener);
    assert_int_equal(getpeername(number, (struct sockaddr *)&peer, &len), 0);
    assert_int_equal(peer.sin_port, there.sin_port);
    assert_int_equal(peer.sin_addr.s_addr, there.sin_addr.s_addr);
    assert_int_equal(getsockname(number, (struct sockaddr *)&local, &len), 0);
    assert_int_equal(getpeername(server, (struct sockaddr *)&peer, &len), 0);
    assert_int_equal(peer.sin_port, local.sin_port);
    wire_send_stream(server, 1000, 0);
    wire_expect_stream(number, 1000, 0);
    close(listener);
    caller_close(&caller);
    close(server);
}

/* C02 */
static void connect_refused_reports_econnrefused_and_leaves_the_descriptor(void)
{
    struct caller caller;
    struct sockaddr_in address;
    const int reserved = wire_refusing(&address);

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ECONNREFUSED);
    assert_true(gyre_fd_number(&caller.fd) >= 0);
    close(reserved);
    caller_close(&caller);
}

/* C03: never ECONNABORTED, which the kernel has for the second try on a nonblocking socket. */
static void connect_refused_twenty_times_on_one_socket_says_the_same(void)
{
    struct caller caller;
    struct sockaddr_in address;
    const int reserved = wire_refusing(&address);

    caller_open(&caller, wire_tcp());
    for (int i = 0; i < 20; i++) {
        caller_connect(&caller, &address, sizeof address);
        assert_int_equal(trial_end(caller.loop, &caller.connecting), -ECONNREFUSED);
    }
    close(reserved);
    caller_close(&caller);
}

/* In a process of its own, in a network namespace with nothing in it. */
static int connect_nowhere(void *argument)
{
    struct caller caller;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(1)};

    (void)argument;
    if (unshare(CLONE_NEWNET) != 0) {
        return NOT_ALLOWED;
    }
    address.sin_addr.s_addr = htonl(0x0a000001);
    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ENETUNREACH);
    caller_close(&caller);
    return 0;
}

/* C04 */
static void connect_without_a_route_reports_enetunreach(void)
{
    const int status = test_child_status(connect_nowhere, NULL);

    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED) {
        test_skip("not allowed to make a network namespace");
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void connect_to_a_connected_socket_reports_eisconn(void)
{
    struct caller caller;
    struct sockaddr_in address;
    const int listener = test_listener(&address);

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), 0);
    caller_connect(&caller, &address, sizeof address);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -EISCONN);
    close(listener);
    caller_close(&caller);
}

/* C05, K07 */
static void connect_unanswered_times_out_at_its_deadline_once(void)
{
    struct caller caller;
    struct sockaddr_in address;
    int client;
    const int listener = wire_blackhole(&address, &client);

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    const uint64_t deadline = gyre_loop_update_now(caller.loop) + 200 * GYRE_MSEC;
    assert_int_equal(gyre_op_set_deadline(&caller.connecting.op, deadline), 0);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ETIMEDOUT);
    assert_true(test_now() >= deadline);
    assert_int_equal(caller.connecting.results, 1);
    caller_close(&caller);
    close(client);
    close(listener);
}

/* C06 */
static void connect_closed_meanwhile_is_cancelled_before_the_close(void)
{
    struct caller caller;
    struct sockaddr_in address;
    struct trial closing;
    int client;
    const int listener = wire_blackhole(&address, &client);

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    trial_turns(caller.loop, 2);
    trial_init(&closing, NULL, NULL);
    assert_int_equal(gyre_op_close(&closing.op, &caller.fd, 0), 0);
    assert_int_equal(caller.connecting.results, 0);
    assert_int_equal(trial_end(caller.loop, &closing), 0);
    assert_int_equal(caller.connecting.finals, 1);
    assert_int_equal(caller.connecting.res, -ECANCELED);
    assert_true(caller.connecting.rank < closing.rank);
    test_loop_end(caller.loop);
    close(client);
    close(listener);
}

/* One race of C07. */
static void race(struct gyre_loop *loop, int listener, const struct sockaddr_in *address, int turns)
{
    struct caller caller = {.loop = loop};

    trial_attach(loop, &caller.fd, wire_tcp());
    const int number = gyre_fd_number(&caller.fd);
    const struct linger at_once = {.l_onoff = 1};
    assert_int_equal(setsockopt(number, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    caller_connect(&caller, address, sizeof *address);
    trial_turns(loop, turns);
    assert_int_equal(gyre_op_cancel(&caller.connecting.op), 0);
    const int32_t res = trial_end(loop, &caller.connecting);
    assert_true(res == 0 || res == -ECANCELED);
    trial_close(loop, &caller.fd);
    struct pollfd entry = {.fd = listener, .events = POLLIN};
    while (poll(&entry, 1, 0) == 1) {
        close(accepted(listener));
    }
}

/* C07 */
static void connect_cancel_versus_success_ends_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct sockaddr_in address;
    const int listener = test_listener(&address);
    uint32_t seed = 3;

    for (int i = 0, races = test_steps(RACES, 1); i < races; i++) {
        race(loop, listener, &address, (int)wire_random(&seed, 3));
    }
    close(listener);
    test_loop_end(loop);
}

/* C08, W10: and the sends find the socket connected. */
static void connect_sends_started_meanwhile_follow_in_order(void)
{
    struct caller caller;
    struct sockaddr_in address;
    const int listener = test_listener(&address);
    struct trial sending[10];
    uint8_t data[1000];

    wire_fill(data, sizeof data, 0);
    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        trial_init(&sending[i], NULL, NULL);
        assert_int_equal(gyre_op_send(&sending[i].op, &caller.fd, data + 100 * i, 100), 0);
    }
    assert_int_equal(caller.connecting.results, 0);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        assert_int_equal(trial_end(caller.loop, &sending[i]), 100);
        assert_true(sending[i].rank > (i == 0 ? caller.connecting.rank : sending[i - 1].rank));
    }
    assert_int_equal(caller.connecting.finals, 1);
    assert_int_equal(caller.connecting.res, 0);
    const int server = accepted(listener);
    wire_expect_stream(server, 1000, 0);
    caller_close(&caller);
    assert_int_equal(wire_expect_end(server), 0);
    close(server);
    close(listener);
}

/* C09 */
static void connect_failing_fails_the_sends_behind_it(void)
{
    struct caller caller;
    struct sockaddr_in address;
    const int reserved = wire_refusing(&address);
    struct trial sending[2];

    caller_open(&caller, wire_tcp());
    caller_connect(&caller, &address, sizeof address);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        trial_init(&sending[i], NULL, NULL);
        assert_int_equal(gyre_op_send(&sending[i].op, &caller.fd, "abc", 3), 0);
    }
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ECONNREFUSED);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        assert_int_equal(trial_end(caller.loop, &sending[i]), -EPIPE);
        assert_true(sending[i].rank > caller.connecting.rank);
    }
    close(reserved);
    caller_close(&caller);
}

/* An abstract Unix address that no other process has; the kernel chooses it. */
static int unix_listener(int backlog, struct sockaddr_un *out, socklen_t *out_len)
{
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const sa_family_t family = AF_UNIX;

    assert_true(number >= 0);
    assert_int_equal(bind(number, (const struct sockaddr *)&family, sizeof family), 0);
    *out_len = sizeof *out;
    assert_int_equal(getsockname(number, (struct sockaddr *)out, out_len), 0);
    if (backlog >= 0) {
        assert_int_equal(listen(number, backlog), 0);
    }
    return number;
}

static int unix_socket(void)
{
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(number >= 0);
    return number;
}

static void connect_unix_reaches_the_listener(void)
{
    struct caller caller;
    struct sockaddr_un address;
    socklen_t len;
    const int listener = unix_listener(8, &address, &len);

    caller_open(&caller, unix_socket());
    caller_connect(&caller, &address, len);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), 0);
    const int server = accepted(listener);
    wire_send_stream(server, 100, 0);
    wire_expect_stream(gyre_fd_number(&caller.fd), 100, 0);
    close(server);
    close(listener);
    caller_close(&caller);
}

/* N06 */
static void connect_unix_to_nobody_reports_why(void)
{
    struct caller caller;
    struct sockaddr_un address;
    struct sockaddr_un missing = {.sun_family = AF_UNIX};
    socklen_t len;
    const int silent = unix_listener(-1, &address, &len);

    caller_open(&caller, unix_socket());
    caller_connect(&caller, &address, len);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ECONNREFUSED);
    snprintf(missing.sun_path, sizeof missing.sun_path, "/nonexistent/gyre-%d", (int)getpid());
    caller_connect(&caller, &missing, sizeof missing);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), -ENOENT);
    close(silent);
    caller_close(&caller);
}

/* N07: there is no event to wait for, so the kernel's EAGAIN is told, and the caller decides. */
static void connect_unix_with_full_backlog_reports_eagain_and_may_be_repeated(void)
{
    struct caller caller;
    struct sockaddr_un address;
    socklen_t len;
    const int listener = unix_listener(0, &address, &len);
    const int first = unix_socket();

    assert_int_equal(connect(first, (struct sockaddr *)&address, len), 0);
    caller_open(&caller, unix_socket());
    for (int i = 0; i < 3; i++) {
        const uint64_t before = trial_stats(caller.loop).turns;

        caller_connect(&caller, &address, len);
        assert_int_equal(trial_end(caller.loop, &caller.connecting), -EAGAIN);
        assert_true(trial_stats(caller.loop).turns - before < 10);
    }
    close(accepted(listener));
    caller_connect(&caller, &address, len);
    assert_int_equal(trial_end(caller.loop, &caller.connecting), 0);
    close(accepted(listener));
    close(first);
    close(listener);
    caller_close(&caller);
}

static void connect_bad_arguments_are_refused(void)
{
    struct caller caller;
    struct sockaddr_storage address = {.ss_family = AF_INET};
    const struct sockaddr *any = (const struct sockaddr *)&address;

    caller_open(&caller, wire_tcp());
    struct gyre_connect_op *op = &caller.connecting.connect;
    assert_int_equal(gyre_op_connect(NULL, &caller.fd, any, sizeof address), -EINVAL);
    assert_int_equal(gyre_op_connect(op, NULL, any, sizeof address), -EINVAL);
    assert_int_equal(gyre_op_connect(op, &caller.fd, NULL, sizeof address), -EINVAL);
    assert_int_equal(gyre_op_connect(op, &caller.fd, any, sizeof address + 1), -EINVAL);
    trial_turns(caller.loop, 2);
    assert_int_equal(caller.connecting.results, 0);
    caller_close(&caller);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(connect_reaches_the_listener_with_the_right_addresses),
        TEST_CASE(connect_refused_reports_econnrefused_and_leaves_the_descriptor),
        TEST_CASE(connect_refused_twenty_times_on_one_socket_says_the_same),
        TEST_CASE(connect_without_a_route_reports_enetunreach),
        TEST_CASE(connect_to_a_connected_socket_reports_eisconn),
        TEST_CASE(connect_unanswered_times_out_at_its_deadline_once),
        TEST_CASE(connect_closed_meanwhile_is_cancelled_before_the_close),
        TEST_CASE(connect_cancel_versus_success_ends_once),
        TEST_CASE(connect_sends_started_meanwhile_follow_in_order),
        TEST_CASE(connect_failing_fails_the_sends_behind_it),
        TEST_CASE(connect_unix_reaches_the_listener),
        TEST_CASE(connect_unix_to_nobody_reports_why),
        TEST_CASE(connect_unix_with_full_backlog_reports_eagain_and_may_be_repeated),
        TEST_CASE(connect_bad_arguments_are_refused),
    };

    return test_main("ops-connect", cases, TEST_COUNT(cases));
}
