/*
 * One measurement: start the server on its CPU, read its address, let gyre-load run against it from
 * the other CPU, stop the server, read its statistics. Whatever goes wrong ends in sample->outcome
 * and sample->text, never in a number.
 */
#include "bench.h"
#include "child.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 10000
#define STOP_GRACE_MS    3000
/* A crashed server that has not yet become a zombie. */
#define CRASH_GRACE_MS   500
/* Beyond warm-up and window: connecting, greeting, and gyre-load's own time limits. */
#define LOAD_EXTRA_MS    60000
#define LOAD_STALL_MS    "5000"

#define EXIT_WRONG_BYTES 3 /* of gyre-load */

static void fail(struct sample *sample, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void fail(struct sample *sample, enum outcome outcome, const char *format, ...)
{
    va_list arguments;

    if (sample->outcome != OUTCOME_OK) {
        return;
    }
    sample->outcome = outcome;
    va_start(arguments, format);
    vsnprintf(sample->text, sizeof(sample->text), format, arguments);
    va_end(arguments);
    sample->text[strcspn(sample->text, "\n")] = '\0';
}

/* How the child ended and what it said. */
static void fail_ended(struct sample *sample, const struct child *child, const char *what)
{
    char end[64];
    char text[300];

    child_describe_end(child, end, sizeof(end));
    child_error_text(child, text, sizeof(text));
    fail(sample, OUTCOME_FAILED, "%s: %s%s%s", what, end, text[0] == '\0' ? "" : ": ", text);
}

static int spawn_server(const struct bench_options *options, struct sample *sample,
                        struct child *server)
{
    const struct contender *contender = sample->contender;
    char path[PATH_MAX];
    const char *argv[8] = {path, "--port", "0", "--cc", options->congestion};
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)argv,
        .environment = "GYRE_ECHO_STATS=1",
        .cpu = options->server_cpu,
    };

    snprintf(path, sizeof(path), "%s/%s", options->servers_dir, contender->program);
    if (contender->backend != NULL) {
        argv[5] = "--backend";
        argv[6] = contender->backend;
    }
    if (access(path, X_OK) < 0) {
        fail(sample, OUTCOME_SKIPPED, "%s: %s", path, strerror(errno));
        return -1;
    }
    const int rc = child_spawn(server, &spec);

    if (rc < 0) {
        fail(sample, OUTCOME_FAILED, "%s: %s", path, strerror(-rc));
    }
    return rc;
}

/* "listening on 127.0.0.1:PORT", perhaps followed by more. Returns: the port, or 0. */
static unsigned parse_port(const char *line)
{
    static const char prefix[] = "listening on 127.0.0.1:";
    char *end = NULL;

    if (strncmp(line, prefix, sizeof(prefix) - 1) != 0) {
        return 0;
    }
    const unsigned long port = strtoul(line + sizeof(prefix) - 1, &end, 10);

    return (*end == '\0' || *end == ' ') && port <= 65535 ? (unsigned)port : 0;
}

static unsigned wait_until_listening(struct sample *sample, struct child *server)
{
    char line[256];
    const int rc = child_read_line(server, line, sizeof(line), START_TIMEOUT_MS);
    const unsigned port = rc == 0 ? parse_port(line) : 0;

    if (rc == -EINTR) {
        fail(sample, OUTCOME_INTERRUPTED, "interrupted");
    } else if (rc == -EPIPE) {
        child_stop(server, STOP_GRACE_MS);
        fail_ended(sample, server, "the server did not start");
    } else if (rc < 0) {
        fail(sample, OUTCOME_FAILED, "the server did not say that it listens: %s", strerror(-rc));
    } else if (port == 0) {
        fail(sample, OUTCOME_FAILED, "the server said '%.100s' instead of its address", line);
    } else if (sample->contender->backend != NULL &&
               strstr(line, sample->contender->backend) == NULL) {
        fail(sample, OUTCOME_FAILED, "asked for the backend %s, the server said '%.100s'",
             sample->contender->backend, line);
        return 0;
    }
    return port;
}

struct load_arguments {
    char text[8][16];
    const char *argv[28];
};

static void build_load_arguments(const struct bench_options *options, const struct sample *sample,
                                 pid_t server_pid, unsigned port, struct load_arguments *a)
{
    const struct cell *cell = sample->cell;
    const long numbers[] = {port,        cell->connections,  cell->size,
                            cell->depth, options->warmup_ms, options->duration_ms,
                            server_pid,  options->server_cpu};
    static const char *const names[] = {"--port",       "--connections", "--size",
                                        "--depth",      "--warmup-ms",   "--duration-ms",
                                        "--server-pid", "--server-cpu"};
    size_t n = 0;

    a->argv[n++] = options->load_path;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(a->text[i], sizeof(a->text[i]), "%ld", numbers[i]);
        a->argv[n++] = names[i];
        a->argv[n++] = a->text[i];
    }
    a->argv[n++] = "--cc";
    a->argv[n++] = options->congestion;
    a->argv[n++] = "--timeout-ms";
    a->argv[n++] = LOAD_STALL_MS;
    if (options->spin) {
        a->argv[n++] = "--spin";
    }
    a->argv[n] = NULL;
}

static void take_load_result(struct sample *sample, struct child *load, const char *line)
{
    json_error_t error;

    if (!WIFEXITED(load->status) || line[0] == '\0') {
        fail_ended(sample, load, "the load generator");
        return;
    }
    sample->load = json_loads(line, 0, &error);
    if (sample->load == NULL) {
        fail(sample, OUTCOME_FAILED, "the load generator's result: %s", error.text);
        return;
    }
    if (WEXITSTATUS(load->status) != 0) {
        const char *text = json_string_value(json_object_get(sample->load, "text"));
        const bool wrong = WEXITSTATUS(load->status) == EXIT_WRONG_BYTES;

        fail(sample, wrong ? OUTCOME_WRONG_BYTES : OUTCOME_FAILED, "%s",
             text == NULL ? "the load generator failed" : text);
    }
}

static void run_load(const struct bench_options *options, struct sample *sample, pid_t server_pid,
                     unsigned port)
{
    const int limit_ms = (int)(options->warmup_ms + options->duration_ms) + LOAD_EXTRA_MS;
    struct load_arguments arguments = {0};
    struct child load;
    char line[4096] = "";

    build_load_arguments(options, sample, server_pid, port, &arguments);
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)arguments.argv,
        .cpu = options->load_cpu,
    };
    int rc = child_spawn(&load, &spec);

    if (rc < 0) {
        fail(sample, OUTCOME_FAILED, "%s: %s", options->load_path, strerror(-rc));
        return;
    }
    rc = child_read_line(&load, line, sizeof(line), limit_ms);
    if (rc == 0 || rc == -EPIPE) {
        rc = child_wait(&load, STOP_GRACE_MS);
    }
    if (rc == -EINTR) {
        fail(sample, OUTCOME_INTERRUPTED, "interrupted");
    } else if (rc < 0) {
        fail(sample, OUTCOME_FAILED, "the load generator did not finish: %s", strerror(-rc));
    }
    child_stop(&load, STOP_GRACE_MS);
    take_load_result(sample, &load, line);
    child_release(&load);
}

/* The last line of the server's standard error that is a JSON object, if any. */
static json_t *parse_stats(const char *text)
{
    json_t *found = NULL;

    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        const size_t len = end == NULL ? strlen(line) : (size_t)(end - line);

        if (line[0] == '{') {
            json_decref(found);
            found = json_loadb(line, len, 0, NULL);
        }
        line = end == NULL ? NULL : end + 1;
    }
    return found;
}

static bool ended_well(const struct child *server)
{
    const int status = server->status;

    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGTERM;
    }
    return WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + SIGTERM;
}

/* A crash closes the connections before the process can be waited for. */
static bool crashed(const struct sample *sample, struct child *server)
{
    if (sample->outcome == OUTCOME_FAILED) {
        return child_wait(server, CRASH_GRACE_MS) == 0;
    }
    return child_has_ended(server);
}

static void stop_server(struct sample *sample, struct child *server)
{
    char text[16384];

    if (crashed(sample, server)) {
        /*
         * It explains what the load generator saw, so it takes precedence; wrong bytes stay wrong
         * bytes.
         */
        if (sample->outcome == OUTCOME_FAILED) {
            sample->outcome = OUTCOME_OK;
        }
        fail_ended(sample, server, "the server crashed");
        return;
    }
    if (!child_stop(server, STOP_GRACE_MS)) {
        fail(sample, OUTCOME_FAILED, "the server did not stop on SIGTERM and was killed");
    } else if (!ended_well(server)) {
        fail_ended(sample, server, "the server stopped badly");
    }
    child_error_text(server, text, sizeof(text));
    sample->stats = parse_stats(text);
}

void measure(const struct bench_options *options, struct sample *sample)
{
    struct child server;

    assert(sample->outcome == OUTCOME_OK && sample->load == NULL);
    if (spawn_server(options, sample, &server) < 0) {
        return;
    }
    const unsigned port = wait_until_listening(sample, &server);

    if (port != 0) {
        run_load(options, sample, server.pid, port);
        stop_server(sample, &server);
    } else {
        child_stop(&server, STOP_GRACE_MS);
    }
    child_release(&server);
}
