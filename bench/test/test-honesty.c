/*
 * The suite against servers that misbehave: what is wrong must be reported as what it is, and never
 * as a number.
 *
 * test-honesty STUB GYRE_LOAD GYRE_BENCH. Each case starts its own servers on ports of the kernel's
 * choice and its own directory, and checks that nothing is left. The test is a subreaper: a process
 * that a dying runner forgets becomes its child, where it can be counted.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

static const char *stub_path;
static const char *load_path;
static const char *bench_path;

/* ---- what a case leaves behind ---- */

static pid_t a_child(void)
{
    FILE *file = fopen("/proc/thread-self/children", "re");
    int pid = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%d", &pid), 1);
    fclose(file);
    return pid;
}

/*
 * Ends what is left, so that it is one case's failure and not that of those behind it.
 * Returns: how many children there were.
 */
static int end_children(void)
{
    int count = 0;
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0) {
        if (pid == 0) {
            pid = a_child();
            kill(pid, SIGKILL);
            assert_int_equal(waitpid(pid, NULL, 0), pid);
        }
        count++;
    }
    return count;
}

static int assert_no_child_left(void **state)
{
    (void)state;
    assert_int_equal(end_children(), 0);
    return 0;
}

/* ---- gyre-load against one server ---- */

struct run {
    int status; /* exit status, -1 if killed */
    json_t *result;
};

static unsigned start_server(struct child *server, const char *environment)
{
    const char *argv[] = {stub_path, NULL};
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)argv,
        .environment = environment,
        .cpu = -1,
    };
    char line[128];
    unsigned port = 0;

    assert_int_equal(child_spawn(server, &spec), 0);
    assert_int_equal(child_read_line(server, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(sscanf(line, "listening on 127.0.0.1:%u", &port), 1);
    return port;
}

static int exit_status(const struct child *child)
{
    return WIFEXITED(child->status) ? WEXITSTATUS(child->status) : -1;
}

static struct run run_load(unsigned port, const char *engine, const char *depth, const char *pid)
{
    char port_text[16];
    char line[4096] = "";
    struct run run = {0};
    struct child load;

    snprintf(port_text, sizeof(port_text), "%u", port);
    const char *argv[] = {
        load_path, "--port",     port_text, "--connections", "8",   "--warmup-ms",
        "5",       "--engine",   engine,    "--depth",       depth, "--timeout-ms",
        "300",     "--messages", "2000",    "--server-pid",  pid,   NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&load, &spec), 0);
    assert_int_equal(child_read_line(&load, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(child_wait(&load, PATIENCE_MS), 0);
    run.status = exit_status(&load);
    run.result = json_loads(line, 0, NULL);
    assert_non_null(run.result);
    child_release(&load);
    return run;
}

static const char *text_at(const json_t *root, const char *key)
{
    const char *text = json_string_value(json_object_get(root, key));

    return text == NULL ? "" : text;
}

/*
 * One server with one fault, one load: the exit status and the "error" must be as said (NULL: any
 * but success).
 */
static void expect(const char *fault, const char *depth, int status, const char *error)
{
    static const char *const engines[] = {"auto", "epoll"};
    char environment[64];

    snprintf(environment, sizeof(environment), "BENCH_STUB=stub-server:%s,", fault);
    for (size_t i = 0; i < sizeof(engines) / sizeof(engines[0]); i++) {
        struct child server;
        char pid[16];
        const unsigned port = start_server(&server, environment);

        snprintf(pid, sizeof(pid), "%d", (int)server.pid);
        struct run run = run_load(port, engines[i], depth, pid);

        if (error == NULL) {
            assert_int_not_equal(run.status, 0);
        } else {
            assert_int_equal(run.status, status);
            assert_string_equal(text_at(run.result, "error"), error);
        }
        if (status != 0) {
            assert_null(json_object_get(run.result, "messages"));
        }
        json_decref(run.result);
        child_stop(&server, PATIENCE_MS);
        child_release(&server);
    }
}

static void load_good_server_gives_numbers(void **state)
{
    struct child server;
    char pid[16];
    const unsigned port = start_server(&server, NULL);

    (void)state;
    snprintf(pid, sizeof(pid), "%d", (int)server.pid);
    struct run run = run_load(port, "auto", "3", pid);

    assert_int_equal(run.status, 0);
    assert_true(json_is_true(json_object_get(run.result, "ok")));
    assert_true(json_integer_value(json_object_get(run.result, "messages")) > 0);
    const json_t *measured = json_object_get(run.result, "server");

    assert_true(json_integer_value(json_object_get(measured, "cpu_ns")) > 0);
    json_decref(run.result);
    assert_true(child_stop(&server, PATIENCE_MS));
    child_release(&server);
}

static void load_good_server_passes_on_every_engine(void **state)
{
    (void)state;
    expect("none", "1", 0, "");
    expect("none", "16", 0, "");
}

static void load_flipped_bit_is_wrong_bytes(void **state)
{
    (void)state;
    expect("flip", "1", 3, "wrong-bytes");
}

static void load_swapped_answers_are_wrong_bytes(void **state)
{
    (void)state;
    expect("swap", "1", 3, "wrong-bytes");
}

static void load_surplus_byte_is_wrong_bytes(void **state)
{
    (void)state;
    expect("surplus", "1", 3, "wrong-bytes");
}

static void load_lost_byte_is_found(void **state)
{
    (void)state;
    expect("lose", "1", 6, "stalled");
    /* Wrong bytes if more was sent behind it, a stall otherwise. */
    expect("lose", "16", 1, NULL);
}

static void load_closed_connection_is_lost(void **state)
{
    (void)state;
    expect("close", "1", 4, "connection-lost");
}

static void load_crashed_server_is_lost(void **state)
{
    (void)state;
    expect("crash", "1", 4, "connection-lost");
}

static void load_starved_connection_is_a_stall(void **state)
{
    (void)state;
    expect("starve", "1", 6, "stalled");
}

static void load_refused_connect_is_said(void **state)
{
    (void)state;
    expect("refuse", "1", 5, "connect-failed");
}

/* ---- gyre-bench against a directory of servers ---- */

static const char *const programs[] = {"echo-epoll", "echo-uring", "echo-server"};

struct suite {
    char directory[64];
    char out[4096]; /* what it printed */
    char err[16384];
    int status;
    json_t *results; /* NULL when there are none */
};

static int suite_setup(void **state)
{
    struct suite *suite = calloc(1, sizeof(*suite));
    char path[128];

    assert_non_null(suite);
    snprintf(suite->directory, sizeof(suite->directory), "/tmp/test-honesty-XXXXXX");
    assert_non_null(mkdtemp(suite->directory));
    for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", suite->directory, programs[i]);
        assert_int_equal(symlink(stub_path, path), 0);
    }
    *state = suite;
    return 0;
}

static int suite_teardown(void **state)
{
    static const char *const files[] = {"echo-epoll",        "echo-uring",
                                        "echo-server",       "ready",
                                        "out/results.json",  "out/results.csv",
                                        "out/samples.jsonl", "out/samples.jsonl.new",
                                        "out/report.html",   "out"};
    struct suite *suite = *state;
    const int left = end_children(); /* before their files go */
    char path[128];

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", suite->directory, files[i]);
        remove(path);
    }
    assert_int_equal(left, 0);
    assert_int_equal(rmdir(suite->directory), 0);
    json_decref(suite->results);
    free(suite);
    return 0;
}

/*
 * Starts the runner on the cell 64x64; `exec` keeps the process id, and its progress comes
 * through the same pipe.
 */
static void start_filtered(const struct suite *suite, struct child *bench, const char *faults,
                           const char *filter, const char *options)
{
    char command[PATH_MAX + 512];
    char environment[256];

    snprintf(command, sizeof(command),
             "exec '%s' echo --servers-dir %s --out %s/out --filter echo/64x64/%s %s", bench_path,
             suite->directory, suite->directory, filter, options);
    snprintf(environment, sizeof(environment), "BENCH_STUB=%s,", faults);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)argv,
        .environment = environment,
        .cpu = -1,
    };
    assert_int_equal(child_spawn(bench, &spec), 0);
}

static void start_bench(const struct suite *suite, struct child *bench, const char *faults,
                        const char *options)
{
    start_filtered(suite, bench, faults, "", options);
}

static void read_all(int fd, char *text, size_t size)
{
    size_t used = 0;
    ssize_t n;

    while (used + 1 < size && (n = read(fd, text + used, size - 1 - used)) > 0) {
        used += (size_t)n;
    }
    text[used] = '\0';
}

static void finish_bench(struct suite *suite, struct child *bench)
{
    char path[128];

    read_all(bench->out_fd, suite->out, sizeof(suite->out));
    assert_int_equal(child_wait(bench, PATIENCE_MS), 0);
    child_error_text(bench, suite->err, sizeof(suite->err));
    suite->status = exit_status(bench);
    child_release(bench);
    snprintf(path, sizeof(path), "%s/out/results.json", suite->directory);
    suite->results = json_load_file(path, 0, NULL);
}

static void run_bench(struct suite *suite, const char *faults, const char *more)
{
    char options[256];
    struct child bench;

    snprintf(options, sizeof(options),
             "--pairs 1 --warmup-ms 5 --duration-ms 20 --starved-percent 100 %s", more);
    start_bench(suite, &bench, faults, options);
    finish_bench(suite, &bench);
}

/* The only cell. */
static const json_t *cell(const struct suite *suite)
{
    const json_t *only = json_array_get(json_object_get(suite->results, "suites"), 0);

    return json_array_get(json_object_get(only, "cells"), 0);
}

/* The row of a contender in the only cell. */
static const json_t *row(const struct suite *suite, const char *contender)
{
    const json_t *rows = json_object_get(cell(suite), "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *candidate = json_array_get(rows, i);

        if (strcmp(text_at(candidate, "contender"), contender) == 0) {
            return candidate;
        }
    }
    return NULL;
}

static double median_at(const json_t *object, const char *key)
{
    return json_number_value(json_object_get(json_object_get(object, key), "median"));
}

static void bench_good_servers_give_a_table(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "", "");
    assert_int_equal(suite->status, 0);
    assert_non_null(strstr(suite->out, "gyre-uring"));
    assert_non_null(strstr(suite->out, "A/A"));
    assert_true(median_at(row(suite, "gyre-epoll"), "ratio") > 0.0);
    assert_true(median_at(cell(suite), "same") > 0.0);
    const json_t *figures = json_object_get(row(suite, "gyre-uring"), "figures");

    assert_true(median_at(figures, "syscalls_per_message") == 2.0);
    assert_true(json_is_true(json_object_get(suite->results, "complete")));
    assert_true(json_is_true(json_object_get(suite->results, "valid")));
    /* Not in the directory: skipped, and said so. */
    assert_string_equal(text_at(row(suite, "echo-poll"), "outcome"), "skipped");
}

static void bench_wrong_bytes_forbid_the_table(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "echo-uring:flip", "");
    assert_int_equal(suite->status, 3);
    assert_null(strstr(suite->out, "messages/s"));
    assert_non_null(strstr(suite->err, "wrong bytes"));
    assert_true(json_is_false(json_object_get(suite->results, "valid")));
    const json_t *only = json_array_get(json_object_get(suite->results, "suites"), 0);

    assert_true(json_is_false(json_object_get(only, "valid")));
    assert_true(json_is_null(json_object_get(only, "cells")));
}

static void expect_failed(struct suite *suite, const char *fault, const char *more,
                          const char *text)
{
    char faults[64];

    snprintf(faults, sizeof(faults), "echo-uring:%s", fault);
    run_bench(suite, faults, more);
    assert_int_equal(suite->status, 1);
    const json_t *bad = row(suite, "echo-uring");

    assert_string_equal(text_at(bad, "outcome"), "failed");
    assert_non_null(strstr(text_at(bad, "text"), text));
    assert_null(json_object_get(bad, "figures"));
    assert_non_null(strstr(suite->out, text));
    assert_string_equal(text_at(row(suite, "gyre-uring"), "outcome"), "ok");
}

static void bench_crashed_server_is_no_number(void **state)
{
    expect_failed(*state, "crash", "", "the server crashed: killed by SIGABRT");
}

/* With so many pieces behind it that it happens in a window. */
static void bench_server_that_crashes_late_is_no_number(void **state)
{
    expect_failed(*state, "crash1500", "--duration-ms 500",
                  "the server crashed: killed by SIGABRT");
}

static void bench_port_clash_is_no_number(void **state)
{
    expect_failed(*state, "clash", "", "Address already in use");
}

static void bench_refused_connect_is_no_number(void **state)
{
    expect_failed(*state, "refuse", "", "Connection refused");
}

static void bench_silent_server_is_no_number(void **state)
{
    expect_failed(*state, "garbage", "", "instead of its address");
}

static void bench_bad_exit_is_no_number(void **state)
{
    expect_failed(*state, "bad-end", "", "exit status 9");
}

static void bench_failed_reference_gives_no_ratio(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "echo-epoll:close", "");
    assert_int_equal(suite->status, 1);
    assert_string_equal(text_at(row(suite, "echo-epoll"), "outcome"), "failed");
    assert_true(json_is_null(json_object_get(row(suite, "gyre-uring"), "ratio")));
}

/* How often a contender was measured, at its own place in a round or once more. */
static size_t count_lines(const struct suite *suite, const char *contender, bool repeat)
{
    char path[128];
    char *line = NULL;
    size_t size = 0;
    size_t count = 0;

    snprintf(path, sizeof(path), "%s/out/samples.jsonl", suite->directory);
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    while (getline(&line, &size, file) > 0) {
        json_t *sample = json_loads(line, 0, NULL);

        count += json_is_true(json_object_get(sample, "repeat")) == repeat &&
                 strcmp(text_at(sample, "contender"), contender) == 0;
        json_decref(sample);
    }
    free(line);
    fclose(file);
    return count;
}

static void bench_another_reference_is_compared_with(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "", "--reference gyre-uring");
    assert_int_equal(suite->status, 0);
    assert_non_null(strstr(suite->out, "A/A: gyre-uring against itself"));
    const json_t *only = json_array_get(json_object_get(suite->results, "suites"), 0);

    assert_string_equal(text_at(only, "reference"), "gyre-uring");
    assert_true(median_at(row(suite, "gyre-uring"), "ratio") == 1.0);
    assert_string_equal(text_at(row(suite, "gyre-uring"), "verdict"), "reference");
    assert_true(median_at(row(suite, "echo-epoll"), "ratio") > 0.0);
    assert_int_equal(count_lines(suite, "gyre-uring", false), 1);
    assert_int_equal(count_lines(suite, "gyre-uring", true), 0);
    assert_true(json_number_value(json_object_get(cell(suite), "resolution")) > 0.0);
}

/* In turns (64x64, ping-pong) it runs beside itself; where it does not (paced), a second time. */
static void bench_reference_is_compared_with_itself_once(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "",
              "--servers-dir /nonexistent latency --filter latency/paced/ "
              "--filter latency/ping-pong/");
    assert_int_equal(count_lines(suite, "echo-epoll", false), 3);
    assert_int_equal(count_lines(suite, "echo-epoll", true), 1);
}

/* How many measurements the cost of a row is made of. */
static json_int_t row_count(const json_t *row)
{
    const json_t *figures = json_object_get(row, "figures");
    const json_t *cost = json_object_get(figures, "server_cpu_ns_per_message");

    return json_integer_value(json_object_get(cost, "count"));
}

/* Two suites with the same cells and servers: each has its own reference, measurements and ratios. */
static void bench_suites_with_the_same_cells_are_apart(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "", "uring --full --filter uring/64x64/ --filter uring/16x16384/");
    assert_int_equal(suite->status, 0);
    const json_t *suites = json_object_get(suite->results, "suites");
    const json_t *uring = json_array_get(suites, 1);
    const json_t *cells = json_object_get(uring, "cells");
    const json_t *rows = json_object_get(json_array_get(cells, 0), "rows");

    assert_int_equal(json_array_size(suites), 2);
    assert_string_equal(text_at(uring, "reference"), "echo-uring");
    assert_int_equal(json_array_size(cells), 1); /* that of 16,384 is not measured in turns */
    assert_int_equal(json_array_size(rows), 2);
    assert_string_equal(text_at(json_array_get(rows, 0), "verdict"), "reference");
    assert_string_equal(text_at(json_array_get(rows, 1), "contender"), "gyre-uring");
    assert_true(median_at(json_array_get(rows, 1), "ratio") > 0.0);
    assert_int_equal(row_count(json_array_get(rows, 1)), 1);
    assert_int_equal(row_count(row(suite, "gyre-uring")), 1);
    assert_true(median_at(row(suite, "gyre-uring"), "ratio") > 0.0);
}

/*
 * As many as the run has, the cell (64x4096: three) or the contender (echo-poll: three), whichever has
 * fewest. Servers are not needed for that: what is skipped is noted in each round.
 */
static void bench_rounds_are_the_fewest_of_run_cell_and_contender(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "", "--servers-dir /nonexistent --pairs 5");
    assert_int_equal(count_lines(suite, "gyre-uring", false), 5);
    assert_int_equal(count_lines(suite, "echo-poll", false), 3);
    json_decref(suite->results);
    run_bench(suite, "", "--servers-dir /nonexistent --pairs 5 --filter echo/64x4096/");
    assert_int_equal(count_lines(suite, "gyre-uring", false), 5 + 3);
    assert_int_equal(count_lines(suite, "echo-poll", false), 3 + 3);
    json_decref(suite->results);
    run_bench(suite, "", "--servers-dir /nonexistent --pairs 2");
    assert_int_equal(count_lines(suite, "gyre-uring", false), 2);
    assert_int_equal(count_lines(suite, "echo-poll", false), 2);
}

static void bench_reference_that_fails_gives_no_ratio(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "echo-uring:close", "--reference echo-uring");
    assert_int_equal(suite->status, 1);
    assert_true(json_is_null(json_object_get(row(suite, "echo-epoll"), "ratio")));
}

/*
 * Runs measurements that cannot end by themselves within the patience of this test; returns when as
 * many servers are under load as good ones are in turns.
 */
static void start_endless_bench(const struct suite *suite, struct child *bench, const char *faults,
                                int servers)
{
    char path[128];
    char byte;

    snprintf(path, sizeof(path), "%s/ready", suite->directory);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(setenv("BENCH_STUB_READY", path, 1), 0);
    const int fd = open(path, O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    start_bench(suite, bench, faults, "--pairs 1 --warmup-ms 5 --duration-ms 60000 2>&1");
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    for (; servers > 0; servers--) {
        assert_int_equal(poll(&ready, 1, PATIENCE_MS), 1);
        assert_int_equal(read(fd, &byte, 1), 1);
    }
    close(fd);
    assert_int_equal(unsetenv("BENCH_STUB_READY"), 0);
}

static void bench_interrupted_keeps_results_and_no_process(void **state)
{
    struct suite *suite = *state;
    struct child bench;

    start_endless_bench(suite, &bench, "", 2);
    kill(bench.pid, SIGINT);
    finish_bench(suite, &bench);
    assert_int_equal(suite->status, 130);
    assert_no_child_left(NULL);
    assert_true(json_is_false(json_object_get(suite->results, "complete")));
    assert_non_null(strstr(suite->out, "interrupted after"));
}

/* The first contender, the reference, says no address; the next one, alone then, does not end. */
static void bench_interrupted_has_what_came_before(void **state)
{
    struct suite *suite = *state;
    struct child bench;
    char out[128];

    start_endless_bench(suite, &bench, "echo-epoll:garbage", 1);
    kill(bench.pid, SIGINT);
    finish_bench(suite, &bench);
    assert_int_equal(suite->status, 130);
    assert_string_equal(text_at(row(suite, "echo-epoll"), "outcome"), "failed");
    assert_non_null(strstr(text_at(row(suite, "echo-epoll"), "text"), "instead of its address"));
    json_decref(suite->results);
    suite->results = NULL;
    snprintf(out, sizeof(out), "%s/out", suite->directory);
    const char *argv[] = {bench_path, "report", out, NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&bench, &spec), 0);
    finish_bench(suite, &bench);
    assert_int_equal(suite->status, 0);
}

/*
 * Waits for the next orphan to end. Returns: false when there is none; fails the test when none
 * ends in time.
 */
static bool reap_orphan(int *status)
{
    const struct timespec limit = {.tv_sec = PATIENCE_MS / 1000};
    sigset_t set;
    pid_t pid;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    while ((pid = waitpid(-1, status, WNOHANG)) == 0) {
        assert_int_equal(sigtimedwait(&set, NULL, &limit), SIGCHLD);
    }
    assert_true(pid > 0 || errno == ECHILD);
    return pid > 0;
}

/* Without a chance to clean up: its children must die with it. */
static void bench_killed_leaves_no_process(void **state)
{
    struct suite *suite = *state;
    struct child bench;
    sigset_t child_signal;
    int status = 0;
    int orphans = 0;

    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    start_endless_bench(suite, &bench, "", 2);
    sigprocmask(SIG_BLOCK, &child_signal, NULL);
    kill(bench.pid, SIGKILL);
    assert_int_equal(child_wait(&bench, PATIENCE_MS), 0);
    child_release(&bench);
    while (reap_orphan(&status)) {
        /* A load may find its server gone, and nobody to say so to, before its own signal is there. */
        assert_true(
            (WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGPIPE)) ||
            (WIFEXITED(status) && WEXITSTATUS(status) != 0));
        orphans++;
    }
    sigprocmask(SIG_UNBLOCK, &child_signal, NULL);
    assert_int_equal(orphans, 4); /* two servers, two loads */
}

/* ---- what the numbers say ---- */

/* Runs a reference and one contender, both stubs, in so many pairs. Returns: the verdict. */
static const char *verdict_of(struct suite *suite, const char *contender, const char *faults,
                              unsigned pairs)
{
    char options[128];
    struct child bench;

    snprintf(options, sizeof(options),
             "--pairs %u --warmup-ms 10 --duration-ms 40 --starved-percent 100", pairs);
    start_filtered(suite, &bench, faults, contender, options);
    json_decref(suite->results);
    suite->results = NULL;
    finish_bench(suite, &bench);
    assert_int_equal(suite->status, 0);
    return text_at(row(suite, contender), "verdict");
}

/*
 * A spin of 10 % in its callback makes a server slower, and the runner says so. Where the machine is
 * too restless to see that, more pairs follow, and then more of a spin: what is tested is that the
 * verdict is right, not how quiet the machine is.
 */
static void bench_planted_slow_down_is_found(void **state)
{
    static const struct {
        const char *faults;
        unsigned pairs;
        double part; /* that it is slower */
    } attempts[] = {{"echo-uring:slow10", 11, 0.1},
                    {"echo-uring:slow10", 31, 0.1},
                    {"echo-uring:slow30", 31, 0.3},
                    {"echo-uring:slow100", 21, 1.0}};
    struct suite *suite = *state;
    const char *verdict = "";

    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        verdict = verdict_of(suite, "echo-uring", attempts[i].faults, attempts[i].pairs);
        assert_string_not_equal(verdict, "less");
        const double found = median_at(row(suite, "echo-uring"), "ratio") - 1.0;

        if (strcmp(verdict, "more") == 0 && found > attempts[i].part / 2.0 &&
            found < attempts[i].part * 2.0) {
            print_message("found with %s, %u pairs\n", attempts[i].faults, attempts[i].pairs);
            return;
        }
    }
    fail_msg("the slow server is '%s'", verdict);
}

/* The same program under another name is level with it, within the resolution that is printed. */
static void bench_same_program_is_level(void **state)
{
    struct suite *suite = *state;
    const char *verdict = "";

    for (unsigned pairs = 9; pairs <= 36; pairs *= 2) {
        verdict = verdict_of(suite, "echo-uring", "", pairs);
        const double ratio = median_at(row(suite, "echo-uring"), "ratio");
        const double resolution = json_number_value(json_object_get(cell(suite), "resolution"));

        if (strcmp(verdict, "level") == 0 && ratio <= 1.0 + resolution &&
            ratio >= 1.0 - resolution) {
            return;
        }
    }
    fail_msg("the same program is '%s'", verdict);
}

/* The second CPU that this process may use, where the runner puts its load; -1 without one. */
static int second_cpu(void)
{
    cpu_set_t set;
    int found = 0;

    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        found += CPU_ISSET((unsigned)cpu, &set);
        if (found == 2) {
            return cpu;
        }
    }
    return -1;
}

static void bench_starved_load_is_no_number(void **state)
{
    const char *argv[] = {"/bin/sh", "-c", "while :; do :; done", NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = second_cpu()};
    struct suite *suite = *state;
    struct child hogs[7];
    struct child bench;

    if (spec.cpu < 0) {
        skip();
    }
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(child_spawn(&hogs[i], &spec), 0);
    }
    start_bench(suite, &bench, "", "--pairs 1 --warmup-ms 5 --duration-ms 200");
    finish_bench(suite, &bench);
    for (size_t i = 0; i < 7; i++) {
        child_stop(&hogs[i], PATIENCE_MS);
        child_release(&hogs[i]);
    }
    assert_string_equal(text_at(row(suite, "gyre-uring"), "outcome"), "starved");
    assert_null(json_object_get(row(suite, "gyre-uring"), "figures"));
    assert_non_null(strstr(suite->out, "without its CPU"));
}

/* Lines of samples.jsonl, and a sum over its first @lines of them. */
static size_t count_samples(const struct suite *suite, size_t lines, uint64_t *out_sum)
{
    char path[128];
    size_t count = 0;
    int c;

    snprintf(path, sizeof(path), "%s/out/samples.jsonl", suite->directory);
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    *out_sum = 0;
    while ((c = fgetc(file)) != EOF) {
        *out_sum = count < lines ? *out_sum * 31 + (uint64_t)c : *out_sum;
        count += c == '\n';
    }
    fclose(file);
    return count;
}

static void bench_resumed_keeps_what_was_measured(void **state)
{
    struct suite *suite = *state;
    uint64_t before = 0;
    uint64_t after = 0;

    run_bench(suite, "", "");
    json_decref(suite->results);
    const size_t once = count_samples(suite, SIZE_MAX, &before);

    run_bench(suite, "", "--pairs 2 --resume");
    json_decref(suite->results);
    assert_int_equal(count_samples(suite, once, &after), 2 * once);
    assert_true(before == after);
    run_bench(suite, "", "--pairs 2 --resume --warmup-ms 6"); /* other settings: nothing holds */
    json_decref(suite->results);
    assert_int_equal(count_samples(suite, once, &after), 2 * once);
    assert_true(before != after);
    run_bench(suite, "", "");
    assert_int_equal(count_samples(suite, once, &after), once);
}

/* What failed, and what has no ratio because the reference beside it did. */
static void bench_resumed_measures_what_says_nothing(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "echo-epoll:close1500", "--duration-ms 500");
    assert_string_equal(text_at(row(suite, "gyre-uring"), "outcome"), "ok");
    assert_true(json_is_null(json_object_get(row(suite, "gyre-uring"), "ratio")));
    assert_string_equal(text_at(row(suite, "echo-epoll"), "outcome"), "failed");
    json_decref(suite->results);
    run_bench(suite, "", "--duration-ms 500 --resume");
    assert_true(median_at(row(suite, "gyre-uring"), "ratio") > 0.0);
    assert_string_equal(text_at(row(suite, "echo-epoll"), "outcome"), "ok");
}

/* As if a slice of it had told nothing. Returns how many of the @lines were of it and had a ratio. */
static size_t forget_ratios(const struct suite *suite, const char *contender, size_t lines)
{
    char path[128];
    json_t *samples = json_array();
    json_t *sample;
    size_t count = 0;
    size_t i;

    snprintf(path, sizeof(path), "%s/out/samples.jsonl", suite->directory);
    FILE *file = fopen(path, "re");

    assert_non_null(file);
    while ((sample = json_loadf(file, JSON_DISABLE_EOF_CHECK, NULL)) != NULL) {
        json_array_append_new(samples, sample);
    }
    fclose(file);
    assert_int_equal(json_array_size(samples), lines);
    file = fopen(path, "we");
    assert_non_null(file);
    json_array_foreach(samples, i, sample)
    {
        if (strcmp(text_at(sample, "contender"), contender) == 0) {
            json_t *figures = json_object_get(sample, "figures");

            count += json_object_del(figures, "ratio_to_echo-epoll") == 0;
        }
        assert_int_equal(json_dumpf(sample, file, JSON_COMPACT), 0);
        fputc('\n', file);
    }
    assert_int_equal(fclose(file), 0);
    json_decref(samples);
    return count;
}

static void bench_resumed_measures_a_lost_ratio(void **state)
{
    struct suite *suite = *state;
    uint64_t sum = 0;

    run_bench(suite, "", "");
    json_decref(suite->results);
    const size_t lines = count_samples(suite, SIZE_MAX, &sum);

    assert_int_equal(forget_ratios(suite, "gyre-uring", lines), 1);
    run_bench(suite, "", "--resume");
    assert_true(median_at(row(suite, "gyre-uring"), "ratio") > 0.0);
    assert_int_equal(row_count(row(suite, "gyre-uring")), 1); /* in place of the other */
    assert_int_equal(count_samples(suite, SIZE_MAX, &sum), lines);
}

static void bench_nothing_measured_is_a_failure(void **state)
{
    struct suite *suite = *state;

    run_bench(suite, "", "--servers-dir /nonexistent");
    assert_int_equal(suite->status, 1);
    assert_non_null(strstr(suite->err, "not one contender"));
    assert_string_equal(text_at(row(suite, "gyre-uring"), "outcome"), "skipped");
}

static void bench_filter_without_match_is_refused(void **state)
{
    struct suite *suite = *state;
    struct child bench;
    const char *argv[] = {bench_path, "echo", "--filter", "no such thing", NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&bench, &spec), 0);
    finish_bench(suite, &bench);
    assert_int_equal(suite->status, 2);
}

/* With no more open files than where the estimates were noted: idle plans as many as there may be. */
static void dry_run(struct suite *suite, const char *minutes)
{
    char command[PATH_MAX + 256];
    char out[128];
    struct child bench;

    snprintf(out, sizeof(out), "%s/out", suite->directory);
    snprintf(
        command, sizeof(command),
        "ulimit -n 20000 2>/dev/null; exec '%s' run all --full --dry-run --minutes %s --out %s",
        bench_path, minutes, out);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&bench, &spec), 0);
    finish_bench(suite, &bench);
    assert_int_equal(access(out, F_OK), -1);
}

/* By the estimate; the machine may be slower by some per cent than those it was noted on. */
#define FULL_MINUTES_MAX 53.5

/*
 * The full run of ./dev bench full: by the estimate each suite gets all of its rounds in the time that
 * it is given there. What does not fit is said, and nothing is measured.
 */
static void bench_dry_run_says_what_fits(void **state)
{
    static const char *const names[] = {"echo",    "uring",  "timers", "post", "churn", "udp",
                                        "latency", "stream", "proxy",  "idle", "http",  "counts"};
    struct suite *suite = *state;

    dry_run(suite, "58");
    assert_int_equal(suite->status, 0);
    assert_null(strchr(suite->out, '!'));
    const char *all = strstr(suite->out, "planned would take ");

    assert_non_null(all);
    assert_true(strtod(all + strlen("planned would take "), NULL) < FULL_MINUTES_MAX);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char line[16];

        snprintf(line, sizeof(line), "\n%s ", names[i]);
        assert_non_null(strstr(suite->out, line));
    }
    dry_run(suite, "5");
    assert_int_equal(suite->status, 1);
    assert_non_null(strchr(suite->out, '!'));
}

/* Unknown; in some cells only, for few rounds; in all rounds of some cells; in other levels. */
static void bench_unfit_reference_is_refused(void **state)
{
    static const char *const unfit[] = {"echo", "gyre-uring-again", "echo-threads",
                                        "gyre-uring-busy latency", "gyre-ops-uring --full"};
    struct suite *suite = *state;

    for (size_t i = 0; i < sizeof(unfit) / sizeof(unfit[0]); i++) {
        char option[64];

        snprintf(option, sizeof(option), "--reference %s", unfit[i]);
        run_bench(suite, "", option);
        assert_int_equal(suite->status, 2);
        assert_null(suite->results);
        assert_non_null(strstr(suite->err, "to compare with"));
    }
}

#define LOAD_TEST(function)  cmocka_unit_test_teardown(function, assert_no_child_left)
#define SUITE_TEST(function) cmocka_unit_test_setup_teardown(function, suite_setup, suite_teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        LOAD_TEST(load_good_server_gives_numbers),
        LOAD_TEST(load_good_server_passes_on_every_engine),
        LOAD_TEST(load_flipped_bit_is_wrong_bytes),
        LOAD_TEST(load_swapped_answers_are_wrong_bytes),
        LOAD_TEST(load_surplus_byte_is_wrong_bytes),
        LOAD_TEST(load_lost_byte_is_found),
        LOAD_TEST(load_closed_connection_is_lost),
        LOAD_TEST(load_crashed_server_is_lost),
        LOAD_TEST(load_starved_connection_is_a_stall),
        LOAD_TEST(load_refused_connect_is_said),
        SUITE_TEST(bench_good_servers_give_a_table),
        SUITE_TEST(bench_wrong_bytes_forbid_the_table),
        SUITE_TEST(bench_crashed_server_is_no_number),
        SUITE_TEST(bench_server_that_crashes_late_is_no_number),
        SUITE_TEST(bench_port_clash_is_no_number),
        SUITE_TEST(bench_refused_connect_is_no_number),
        SUITE_TEST(bench_silent_server_is_no_number),
        SUITE_TEST(bench_bad_exit_is_no_number),
        SUITE_TEST(bench_failed_reference_gives_no_ratio),
        SUITE_TEST(bench_another_reference_is_compared_with),
        SUITE_TEST(bench_reference_is_compared_with_itself_once),
        SUITE_TEST(bench_suites_with_the_same_cells_are_apart),
        SUITE_TEST(bench_rounds_are_the_fewest_of_run_cell_and_contender),
        SUITE_TEST(bench_reference_that_fails_gives_no_ratio),
        SUITE_TEST(bench_unfit_reference_is_refused),
        SUITE_TEST(bench_interrupted_keeps_results_and_no_process),
        SUITE_TEST(bench_interrupted_has_what_came_before),
        SUITE_TEST(bench_killed_leaves_no_process),
        SUITE_TEST(bench_planted_slow_down_is_found),
        SUITE_TEST(bench_same_program_is_level),
        SUITE_TEST(bench_starved_load_is_no_number),
        SUITE_TEST(bench_resumed_keeps_what_was_measured),
        SUITE_TEST(bench_resumed_measures_what_says_nothing),
        SUITE_TEST(bench_resumed_measures_a_lost_ratio),
        SUITE_TEST(bench_nothing_measured_is_a_failure),
        SUITE_TEST(bench_filter_without_match_is_refused),
        SUITE_TEST(bench_dry_run_says_what_fits),
    };

    if (argc != 4) {
        fprintf(stderr, "usage: test-honesty STUB GYRE_LOAD GYRE_BENCH\n");
        return 2;
    }
    stub_path = realpath(argv[1], NULL);
    load_path = realpath(argv[2], NULL);
    bench_path = realpath(argv[3], NULL);
    if (stub_path == NULL || load_path == NULL || bench_path == NULL) {
        perror("test-honesty");
        return 2;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    child_signals_init();
    return cmocka_run_group_tests_name("honesty", tests, NULL, NULL);
}
