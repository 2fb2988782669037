/*
 * The loads beside the closed loop of gyre-load: what is wrong must be said, and what they count must
 * be what they say.
 *
 * test-loads STUB GYRE_LOAD GYRE_CHURN GYRE_UDP_LOAD GYRE_COUNT PRELOAD
 */
#include "child.h"

#include <arpa/inet.h>
#include <errno.h>
#include <float.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS   20000
#define ARGUMENTS_MAX 24

static const char *stub_path;
static const char *load_path;
static const char *churn_path;
static const char *udp_path;
static const char *count_path;
static const char *preload_path;

struct run {
    int status; /* exit status, -1 if killed */
    json_t *result;
};

static const char *text_at(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));

    return text == NULL ? "" : text;
}

static int64_t number_at(const json_t *root, const char *key, const char *inner)
{
    const json_t *value = json_object_get(root, key);

    return json_integer_value(inner == NULL ? value : json_object_get(value, inner));
}

static void read_port(struct child *server, unsigned *out_port)
{
    char line[128];

    assert_int_equal(child_read_line(server, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(sscanf(line, "listening on 127.0.0.1:%u", out_port), 1);
}

static void start_server(struct child *server, char *const *argv, const char *fault,
                         unsigned *out_port)
{
    char environment[64];
    const struct child_spec spec = {.argv = argv, .environment = environment, .cpu = -1};

    snprintf(environment, sizeof(environment), "BENCH_STUB=stub-server:%s,", fault);
    assert_int_equal(child_spawn(server, &spec), 0);
    read_port(server, out_port);
}

static void start_stub(struct child *server, const char *fault, unsigned *out_port)
{
    const char *argv[] = {stub_path, NULL};

    start_server(server, (char *const *)(uintptr_t)argv, fault, out_port);
}

/* Runs a load against a port, with more options in one text. */
static struct run run_load(const char *program, unsigned port, const char *options)
{
    char command[1024];
    static char line[8192];
    struct child load;
    struct run run = {0};

    snprintf(command, sizeof(command), "exec '%s' --port %u --timeout-ms 1500 --warmup-ms 5 %s",
             program, port, options);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    line[0] = '\0';
    assert_int_equal(child_spawn(&load, &spec), 0);
    assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    run.status = WIFEXITED(load.status) ? WEXITSTATUS(load.status) : -1;
    run.result = json_loads(line, 0, NULL);
    assert_non_null(run.result);
    child_release(&load);
    return run;
}

/* @error NULL: any but success. */
static void expect(const char *program, const char *options, const char *fault, int status,
                   const char *error)
{
    struct child server;
    unsigned port = 0;

    start_stub(&server, fault, &port);
    struct run run = run_load(program, port, options);

    if (error == NULL) {
        assert_int_not_equal(run.status, 0);
    } else {
        assert_int_equal(run.status, status);
        assert_string_equal(text_at(run.result, "error"), error);
    }
    if (status != 0) {
        assert_null(json_object_get(run.result, "server"));
    }
    json_decref(run.result);
    child_stop(&server, PATIENCE_MS);
    child_release(&server);
}

static void churn_says_what_is_wrong(void **state)
{
    static const char options[] = "--connections 8 --duration-ms 2000";

    (void)state;
    expect(churn_path, options, "none", 0, "");
    expect(churn_path, options, "flip", 3, "wrong-bytes");
    expect(churn_path, options, "close", 4, "connection-lost");
    /* A connection is lost, or the next is refused, whichever is seen first. */
    expect(churn_path, options, "crash", 4, NULL);
    expect(churn_path, options, "refuse", 5, "connect-failed");
    expect(churn_path, options, "starve", 6, "stalled");
}

static void open_loop_says_what_is_wrong(void **state)
{
    static const char options[] =
        "--connections 8 --duration-ms 500 --saturate-ms 500 --rate-percent 50";

    (void)state;
    expect(load_path, options, "none", 0, "");
    expect(load_path, options, "flip", 3, "wrong-bytes");
    expect(load_path, options, "surplus", 3, "wrong-bytes");
    expect(load_path, options, "crash", 4, "connection-lost");
    expect(load_path, options, "lose", 6, "stalled");
}

/*
 * A server that sleeps for 20 ms after each 1,000 messages. In a closed loop 8 in 1,000 messages see
 * that. On a schedule at half the rate, all that were due meanwhile do: about a third.
 */
static void open_loop_counts_from_the_schedule(void **state)
{
    struct child server;
    unsigned port = 0;

    (void)state;
    start_stub(&server, "pause", &port);
    struct run open = run_load(load_path, port,
                               "--connections 8 --duration-ms 400 --saturate-ms 200 "
                               "--rate-percent 50");

    assert_int_equal(open.status, 0);
    assert_null(json_object_get(open.result, "service_ns"));
    assert_true(number_at(open.result, "latency_ns", "p99") > 5000000);
    struct run closed = run_load(load_path, port, "--connections 8 --duration-ms 400");

    assert_int_equal(closed.status, 0);
    assert_true(number_at(closed.result, "service_ns", "p50") <
                number_at(open.result, "latency_ns", "p99"));
    json_decref(open.result);
    json_decref(closed.result);
    assert_true(child_stop(&server, PATIENCE_MS));
    child_release(&server);
}

/* At a rate that is given, nothing is looked for, and so many are due in the window. */
static void open_loop_keeps_a_given_rate(void **state)
{
    struct child server;
    unsigned port = 0;

    (void)state;
    start_stub(&server, "none", &port);
    struct run run = run_load(load_path, port, "--connections 1 --duration-ms 200 --rate 1000");

    assert_int_equal(run.status, 0);
    assert_int_equal(number_at(run.result, "messages", NULL), 200);
    assert_null(json_object_get(run.result, "saturation_per_second"));
    assert_true(number_at(run.result, "latency_ns", "p50") > 0);
    json_decref(run.result);
    assert_true(child_stop(&server, PATIENCE_MS));
    child_release(&server);
}

static void load_sends_as_many_messages_as_asked(void **state)
{
    struct child server;
    unsigned port = 0;

    (void)state;
    start_stub(&server, "none", &port);
    struct run run = run_load(load_path, port, "--connections 8 --depth 4 --messages 1003");

    assert_int_equal(run.status, 0);
    assert_int_equal(number_at(run.result, "messages", NULL), 1003);
    json_decref(run.result);
    assert_true(child_stop(&server, PATIENCE_MS));
    child_release(&server);
}

/* Runs the stub under the tracer. Returns: what it counted. */
static json_t *count_messages(unsigned messages)
{
    const char *argv[] = {count_path, preload_path, stub_path, NULL};
    char options[64];
    char text[4096];
    struct child server;
    unsigned port = 0;

    start_server(&server, (char *const *)(uintptr_t)argv, "none", &port);
    snprintf(options, sizeof(options), "--connections 1 --warmup-ms 0 --messages %u", messages);
    struct run run = run_load(load_path, port, options);

    assert_int_equal(run.status, 0);
    json_decref(run.result);
    assert_true(child_stop(&server, PATIENCE_MS));
    child_error_text(&server, text, sizeof(text));
    child_release(&server);
    const char *line = strstr(text, "{\"traced\"");
    json_t *counts = line == NULL ? NULL : json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);

    assert_non_null(counts);
    return counts;
}

/* The stub polls, receives and sends for each message, and allocates nothing. */
static void count_is_three_calls_for_a_message(void **state)
{
    (void)state;
    if (preload_path[0] == '\0') {
        skip(); /* a sanitizer has to be loaded before anything else */
    }
    json_t *few = count_messages(100);
    json_t *many = count_messages(300);

    const double calls = number_at(many, "calls", NULL) - number_at(few, "calls", NULL);

    /* The signal that stops it comes in its last poll, or before that is called. */
    assert_true(calls > 3 * 200 - 10 && calls < 3 * 200 + 10);
    assert_int_equal(number_at(many, "allocations", NULL), number_at(few, "allocations", NULL));
    assert_true(number_at(few, "allocations", NULL) > 0);
    json_decref(few);
    json_decref(many);
}

/* Completions of a load of @messages, traced itself; -1 without io_uring. */
static int64_t count_completions(unsigned port, unsigned messages)
{
    char command[1024];
    char line[8192] = "";
    char text[4096];
    struct child load;

    snprintf(
        command, sizeof(command),
        "exec '%s' '%s' '%s' --port %u --connections 4 --engine uring --warmup-ms 0 --messages %u",
        count_path, preload_path, load_path, port, messages);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&load, &spec), 0);
    assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    child_error_text(&load, text, sizeof(text));
    child_release(&load);
    if (!WIFEXITED(load.status) || WEXITSTATUS(load.status) != 0) {
        return -1;
    }
    json_t *counts = json_loads(strstr(text, "{\"traced\""), JSON_DISABLE_EOF_CHECK, NULL);

    assert_non_null(counts);
    const int64_t completed = json_is_integer(json_object_get(counts, "completed"))
                                  ? number_at(counts, "completed", NULL)
                                  : -1;
    json_decref(counts);
    return completed;
}

/* The load sends without completions, and a message in flight is received as one piece. */
static void count_is_one_completion_for_a_message(void **state)
{
    struct child server;
    unsigned port = 0;

    (void)state;
    if (preload_path[0] == '\0') {
        skip();
    }
    start_stub(&server, "none", &port);
    const int64_t few = count_completions(port, 100);
    const int64_t many = count_completions(port, 300);

    child_stop(&server, PATIENCE_MS);
    child_release(&server);
    if (few < 0) {
        skip(); /* no io_uring here, or one whose memory cannot be read */
    }
    assert_int_equal(many - few, 200);
}

/* ---- in turns ---- */

/* What slices cost for each message. */
struct costs {
    unsigned slices;
    double least_ns;
    double most_ns;
};

/* Tells a load to measure @slices slices. */
static struct costs tell(struct child *load, unsigned slices)
{
    struct costs costs = {.least_ns = DBL_MAX};
    char line[8192];
    double cost_ns = 0.0;

    assert_int_equal(child_read_line(load, line, sizeof(line), PATIENCE_MS), 0);
    assert_string_equal(line, "ready");
    while (costs.slices < slices && child_tell(load, "\n") == 0 &&
           child_read_line(load, line, sizeof(line), PATIENCE_MS) == 0 &&
           sscanf(line, "slice %lf", &cost_ns) == 1) {
        assert_true(cost_ns > 0.0);
        costs.least_ns = cost_ns < costs.least_ns ? cost_ns : costs.least_ns;
        costs.most_ns = cost_ns > costs.most_ns ? cost_ns : costs.most_ns;
        costs.slices++;
    }
    return costs;
}

static void start_in_turns(struct child *load, const char *program, unsigned port, pid_t server)
{
    char port_text[16];
    char pid_text[16];
    const char *argv[] = {program,  "--port",     port_text, "--connections", "4", "--server-pid",
                          pid_text, "--slice-ms", "2",       "--warmup-ms",   "0", "--timeout-ms",
                          "1500",   NULL};
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)argv, .cpu = -1, .is_told = true};

    snprintf(port_text, sizeof(port_text), "%u", port);
    snprintf(pid_text, sizeof(pid_text), "%d", (int)server);
    assert_int_equal(child_spawn(load, &spec), 0);
}

/* The result is the sum of the slices: so its cost lies between theirs. */
static void turns_are_summed_up(const char *program, unsigned port, pid_t server, const char *count)
{
    const double rounding = 1e-6; /* a slice is told in nine digits */
    struct child load;
    char line[8192];

    start_in_turns(&load, program, port, server);
    const struct costs costs = tell(&load, 3);

    assert_int_equal(costs.slices, 3);
    child_tell_end(&load);
    assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
    json_t *result = json_loads(line, 0, NULL);

    assert_non_null(result);
    const double messages = number_at(result, count, NULL);
    const double cost_ns = number_at(result, "server", "cpu_ns") / messages;

    assert_true(messages >= 3 * 4);
    assert_true(number_at(result, "window_ns", NULL) >= 3 * 2000000);
    assert_true(cost_ns >= costs.least_ns * (1 - rounding));
    assert_true(cost_ns <= costs.most_ns * (1 + rounding));
    json_decref(result);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    child_release(&load);
}

static void loads_take_turns(void **state)
{
    struct child server;
    unsigned port = 0;

    (void)state;
    start_stub(&server, "none", &port);
    turns_are_summed_up(load_path, port, server.pid, "messages");
    turns_are_summed_up(churn_path, port, server.pid, "connections");
    child_stop(&server, PATIENCE_MS);
    child_release(&server);
}

/* The server has served the first message of each connection, what came before each slice, at least one on
 * each again, and what is counted: depth 1, so a message is a piece. */
static void turns_have_a_lead_that_is_not_counted(void **state)
{
    const char *argv[] = {stub_path, NULL};
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)argv, .environment = "GYRE_ECHO_STATS=1", .cpu = -1};
    struct child server;
    struct child load;
    unsigned port = 0;
    unsigned long served = 0;
    char line[8192];

    (void)state;
    assert_int_equal(child_spawn(&server, &spec), 0);
    read_port(&server, &port);
    start_in_turns(&load, load_path, port, server.pid);
    assert_int_equal(tell(&load, 3).slices, 3);
    child_tell_end(&load);
    assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
    json_t *result = json_loads(line, 0, NULL);

    assert_non_null(result);
    const int64_t counted = number_at(result, "messages", NULL);

    json_decref(result);
    assert_true(counted >= 3 * 4);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    assert_true(WIFEXITED(load.status) && WEXITSTATUS(load.status) == 0);
    child_release(&load);
    child_stop(&server, PATIENCE_MS);
    child_error_text(&server, line, sizeof(line));
    assert_int_equal(sscanf(line, "{\"syscalls\":%*u,\"messages\":%lu}", &served), 1);
    assert_true((int64_t)served - counted >= 4 + 3 * 4);
    child_release(&server);
}

/* A failure is not a slice, and what it was is the result. */
static void turns_say_what_is_wrong(void **state)
{
    struct child server;
    struct child load;
    unsigned port = 0;

    (void)state;
    start_stub(&server, "flip", &port);
    start_in_turns(&load, load_path, port, server.pid);
    assert_true(tell(&load, 100000).slices < 100000);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    assert_true(WIFEXITED(load.status) && WEXITSTATUS(load.status) == 3);
    child_release(&load);
    child_stop(&server, PATIENCE_MS);
    child_release(&server);
}

/* Whoever tells it is gone: it ends, and says that it measured nothing. */
static void turns_end_with_the_input(void **state)
{
    const char *const programs[] = {load_path, churn_path};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct child server;
        struct child load;
        unsigned port = 0;
        char line[8192];

        start_stub(&server, "none", &port);
        start_in_turns(&load, programs[i], port, server.pid);
        assert_int_equal(tell(&load, 0).slices, 0);
        child_tell_end(&load);
        assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
        assert_non_null(strstr(line, "no slice"));
        assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
        assert_true(WIFEXITED(load.status) && WEXITSTATUS(load.status) == 2);
        child_release(&load);
        child_stop(&server, PATIENCE_MS);
        child_release(&server);
    }
}

/* ---- datagrams ---- */

enum udp_fault { UDP_NONE, UDP_FLIP, UDP_TWICE, UDP_LOSE_ONE, UDP_LOSE_MANY, UDP_SWALLOW };

struct udp_server {
    enum udp_fault fault;
    int fd;
    unsigned port;
    pthread_t thread;
};

/* Ends with a datagram of one byte. */
static void *udp_serve(void *context)
{
    const struct udp_server *server = context;
    static uint8_t buffer[65536];

    for (unsigned count = 1;; count++) {
        struct sockaddr_in peer;
        socklen_t len = sizeof(peer);
        const ssize_t n =
            recvfrom(server->fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &len);
        const bool at_fault = count == 200;
        int times = 1;

        if (n <= 1) {
            return NULL;
        }
        buffer[n - 1] ^= server->fault == UDP_FLIP && at_fault ? 4 : 0;
        times += server->fault == UDP_TWICE && at_fault;
        times -= server->fault == UDP_LOSE_ONE && at_fault;
        times -= server->fault == UDP_LOSE_MANY && count % 10 == 0;
        times -= server->fault == UDP_SWALLOW;
        for (int i = 0; i < times; i++) {
            sendto(server->fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, len);
        }
    }
}

static void udp_start(struct udp_server *server, enum udp_fault fault)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);

    server->fault = fault;
    server->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(server->fd, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, udp_serve, server), 0);
}

static void udp_stop(struct udp_server *server)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)server->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(sendto(fd, "!", 1, 0, (struct sockaddr *)&address, sizeof(address)), 1);
    pthread_join(server->thread, NULL);
    close(fd);
    close(server->fd);
}

static void expect_udp(enum udp_fault fault, const char *options, int status, const char *error)
{
    struct udp_server server;

    udp_start(&server, fault);
    struct run run = run_load(udp_path, server.port, options);

    udp_stop(&server);
    assert_int_equal(run.status, status);
    assert_string_equal(text_at(run.result, "error"), error);
    if (fault == UDP_LOSE_ONE) {
        assert_true(number_at(run.result, "lost", NULL) > 0);
    }
    json_decref(run.result);
}

static void udp_says_what_is_wrong(void **state)
{
    static const char options[] = "--warmup-ms 0 --connections 4 --depth 4 --duration-ms 300";

    (void)state;
    expect_udp(UDP_NONE, options, 0, "");
    expect_udp(UDP_FLIP, options, 3, "wrong-bytes");
    expect_udp(UDP_TWICE, options, 3, "wrong-bytes");
    expect_udp(UDP_LOSE_MANY, options, 4, "connection-lost");
    expect_udp(UDP_SWALLOW, options, 4, "connection-lost");
}

/* The server is this process. */
static void udp_takes_turns(void **state)
{
    static struct udp_server server; /* its thread's, also behind a failure */

    (void)state;
    udp_start(&server, UDP_NONE);
    turns_are_summed_up(udp_path, server.port, getpid(), "messages");
    udp_stop(&server);
}

static void udp_counts_what_was_lost(void **state)
{
    (void)state;
    expect_udp(UDP_LOSE_ONE, "--warmup-ms 0 --connections 1 --depth 4 --duration-ms 400", 0, "");
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(churn_says_what_is_wrong),
        cmocka_unit_test(open_loop_says_what_is_wrong),
        cmocka_unit_test(open_loop_counts_from_the_schedule),
        cmocka_unit_test(open_loop_keeps_a_given_rate),
        cmocka_unit_test(load_sends_as_many_messages_as_asked),
        cmocka_unit_test(count_is_three_calls_for_a_message),
        cmocka_unit_test(count_is_one_completion_for_a_message),
        cmocka_unit_test(loads_take_turns),
        cmocka_unit_test(turns_have_a_lead_that_is_not_counted),
        cmocka_unit_test(turns_say_what_is_wrong),
        cmocka_unit_test(turns_end_with_the_input),
        cmocka_unit_test(udp_says_what_is_wrong),
        cmocka_unit_test(udp_takes_turns),
        cmocka_unit_test(udp_counts_what_was_lost),
    };

    if (argc != 7) {
        fprintf(stderr, "usage: test-loads STUB LOAD CHURN UDP_LOAD COUNT PRELOAD\n");
        return 2;
    }
    stub_path = argv[1];
    load_path = argv[2];
    churn_path = argv[3];
    udp_path = argv[4];
    count_path = argv[5];
    preload_path = argv[6];
    return cmocka_run_group_tests_name("loads", tests, NULL, NULL);
}
