/*
 * Parts of one measurement: the server on its CPU, the load on the other, programs that measure
 * themselves.
 */
#include "measure.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_TIMEOUT_MS 20000
#define STOP_GRACE_MS    5000
/* A crashed server that has not yet become a zombie. */
#define CRASH_GRACE_MS   500
/* Beyond warm-up and window: connecting, greeting, and the load's own time limits. */
#define LOAD_EXTRA_MS    60000
#define LOAD_STALL_MS    "5000"

#define EXIT_WRONG_BYTES 3 /* of every load */

void sample_fail(struct sample *sample, enum outcome outcome, const char *format, ...)
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

void sample_figure(struct sample *sample, const char *name, double value)
{
    if (sample->figures == NULL) {
        sample->figures = json_object();
    }
    json_object_set_new(sample->figures, name, json_real(value));
}

void sample_copy_figure(struct sample *sample, const char *name, const json_t *from,
                        const char *path, double factor)
{
    double value = 0.0;

    if (json_number(from, path, &value)) {
        sample_figure(sample, name, value * factor);
    }
}

void sample_detail(struct sample *sample, const char *name, json_t *value)
{
    if (sample->detail == NULL) {
        sample->detail = json_object();
    }
    json_object_set_new(sample->detail, name, value == NULL ? json_null() : value);
}

uint32_t sample_parameter(const struct sample *sample, const char *name)
{
    return suite_parameter(sample->suite, sample->cell, name);
}

int command_init(struct command *command, const struct bench_options *options,
                 struct sample *sample, const char *program)
{
    command->argc = 0;
    command->text_count = 0;
    for (size_t i = 0; options->dirs[i] != NULL; i++) {
        const int len = snprintf(command->path, PATH_MAX, "%s/%s", options->dirs[i], program);

        if (len < PATH_MAX && access(command->path, X_OK) == 0) {
            command_add(command, command->path);
            return 0;
        }
    }
    sample_fail(sample, OUTCOME_SKIPPED, "%s was not built: what it needs was not there", program);
    return -1;
}

void command_add(struct command *command, const char *argument)
{
    assert(command->argc + 1 < MEASURE_ARGUMENTS_MAX);
    command->argv[command->argc++] = argument;
    command->argv[command->argc] = NULL;
}

void command_add_all(struct command *command, const char *const *arguments)
{
    for (; *arguments != NULL; arguments++) {
        command_add(command, *arguments);
    }
}

void command_add_number(struct command *command, const char *option, long value)
{
    assert(command->text_count < sizeof(command->texts) / sizeof(command->texts[0]));
    char *text = command->texts[command->text_count++];

    snprintf(text, sizeof(command->texts[0]), "%ld", value);
    command_add(command, option);
    command_add(command, text);
}

int command_contender(struct command *command, const struct bench_options *options,
                      struct sample *sample)
{
    if (command_init(command, options, sample, sample->contender->program) < 0) {
        return -1;
    }
    command_add(command, "--port");
    command_add(command, "0");
    command_add(command, "--cc");
    command_add(command, options->congestion);
    command_add_all(command, sample->contender->arguments);
    return 0;
}

/* How the child ended and what it said. */
static void fail_ended(struct sample *sample, const struct child *child, const char *what)
{
    char end[64];
    char text[300];

    child_describe_end(child, end, sizeof(end));
    child_error_text(child, text, sizeof(text));
    sample_fail(sample, OUTCOME_FAILED, "%s: %s%s%s", what, end, text[0] == '\0' ? "" : ": ", text);
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

static unsigned wait_until_listening(struct sample *sample, struct child *child, const char *expect)
{
    char line[256];
    const int rc = child_read_line(child, line, sizeof(line), START_TIMEOUT_MS);
    const unsigned port = rc == 0 ? parse_port(line) : 0;

    if (rc == -EINTR) {
        sample_fail(sample, OUTCOME_INTERRUPTED, "interrupted");
    } else if (rc == -EPIPE) {
        child_stop(child, STOP_GRACE_MS);
        fail_ended(sample, child, "the server did not start");
    } else if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "the server did not say that it listens: %s",
                    strerror(-rc));
    } else if (port == 0) {
        sample_fail(sample, OUTCOME_FAILED, "the server said '%.100s' instead of its address",
                    line);
    } else if (expect != NULL && strstr(line, expect) == NULL) {
        sample_fail(sample, OUTCOME_FAILED, "asked for %s, the server said '%.100s'", expect, line);
        return 0;
    }
    return port;
}

int server_start(struct server *server, const struct bench_options *options, struct sample *sample,
                 const struct command *command, const char *expect)
{
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)command->argv,
        .environment = "GYRE_ECHO_STATS=1",
        .cpu = options->server_cpu,
    };
    const int rc = child_spawn(&server->child, &spec);

    if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", command->argv[0], strerror(-rc));
        return -1;
    }
    server->port = wait_until_listening(sample, &server->child, expect);
    if (server->port == 0) {
        child_stop(&server->child, STOP_GRACE_MS);
        child_release(&server->child);
        return -1;
    }
    return 0;
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

static bool ended_well(const struct child *child)
{
    const int status = child->status;

    if (WIFSIGNALED(status)) {
        return WTERMSIG(status) == SIGTERM;
    }
    return WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 128 + SIGTERM;
}

/* A crash closes the connections before the process can be waited for. */
static bool crashed(const struct sample *sample, struct child *child)
{
    if (sample->outcome == OUTCOME_FAILED) {
        return child_wait(child, CRASH_GRACE_MS) == 0;
    }
    return child_has_ended(child);
}

static void note_statistics(struct sample *sample, const struct child *child)
{
    char text[16384];
    double messages = 0.0;

    child_error_text(child, text, sizeof(text));
    json_t *stats = parse_stats(text);

    if (json_number(stats, "messages", &messages) && messages > 0.0) {
        sample_copy_figure(sample, "syscalls_per_message", stats, "syscalls", 1.0 / messages);
    }
    if (stats != NULL) {
        sample_detail(sample, "server_stats", stats);
    }
}

void server_stop(struct server *server, struct sample *sample)
{
    char text[16384];

    server_stop_text(server, sample, text, sizeof(text));
}

void server_stop_text(struct server *server, struct sample *sample, char *text, size_t size)
{
    struct child *child = &server->child;

    if (crashed(sample, child)) {
        /*
         * It explains what the load generator saw, so it takes precedence; wrong bytes stay wrong
         * bytes.
         */
        if (sample->outcome == OUTCOME_FAILED) {
            sample->outcome = OUTCOME_OK;
        }
        fail_ended(sample, child, "the server crashed");
    } else if (!child_stop(child, STOP_GRACE_MS)) {
        sample_fail(sample, OUTCOME_FAILED, "the server did not stop on SIGTERM and was killed");
    } else if (!ended_well(child)) {
        fail_ended(sample, child, "the server stopped badly");
    } else {
        note_statistics(sample, child);
    }
    child_error_text(child, text, size);
    child_release(child);
}

int load_command(struct command *command, const struct bench_options *options,
                 const struct settings *settings, struct sample *sample,
                 const struct server *server, const char *program)
{
    if (command_init(command, options, sample, program) < 0) {
        return -1;
    }
    command_add_number(command, "--port", server->port);
    command_add_number(command, "--server-pid", server->child.pid);
    command_add_number(command, "--server-cpu", options->server_cpu);
    command_add_number(command, "--warmup-ms", settings->warmup_ms);
    command_add_number(command, "--duration-ms", settings->duration_ms);
    command_add(command, "--timeout-ms");
    command_add(command, LOAD_STALL_MS);
    if (options->spin) {
        command_add(command, "--spin");
    }
    return 0;
}

static void take_result(struct sample *sample, const struct child *child, const char *line,
                        json_t **out_result)
{
    json_error_t error;

    *out_result = line[0] == '{' ? json_loads(line, 0, &error) : NULL;
    if (!WIFEXITED(child->status) || *out_result == NULL) {
        fail_ended(sample, child, "the program gave no result");
        return;
    }
    if (WEXITSTATUS(child->status) != 0) {
        const char *text = json_text(*out_result, "text");
        const bool wrong = WEXITSTATUS(child->status) == EXIT_WRONG_BYTES;

        sample_fail(sample, wrong ? OUTCOME_WRONG_BYTES : OUTCOME_FAILED, "%s",
                    text[0] == '\0' ? "the load generator failed" : text);
    }
}

int program_start(struct child *child, struct sample *sample, const struct command *command,
                  int cpu, bool is_told)
{
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)command->argv,
        .cpu = cpu,
        .is_told = is_told,
    };
    const int rc = child_spawn(child, &spec);

    if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", command->argv[0], strerror(-rc));
        return -1;
    }
    return 0;
}

int program_read(struct sample *sample, struct child *child, char *line, int limit_ms)
{
    const int rc = child_read_line(child, line, PROGRAM_LINE_MAX, limit_ms);

    if (rc == -EPIPE) {
        line[0] = '\0'; /* how it ended says more */
        return 0;
    }
    if (rc == -EINTR) {
        sample_fail(sample, OUTCOME_INTERRUPTED, "interrupted");
    } else if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s did not finish: %s", sample->contender->name,
                    strerror(-rc));
    }
    return rc;
}

json_t *program_end(struct sample *sample, struct child *child, const char *line)
{
    json_t *result = NULL;

    if (sample->outcome == OUTCOME_OK) {
        const int rc = child_wait(child, STOP_GRACE_MS);

        if (rc == -EINTR) {
            sample_fail(sample, OUTCOME_INTERRUPTED, "interrupted");
        } else if (rc < 0) {
            sample_fail(sample, OUTCOME_FAILED, "%s did not end: %s", sample->contender->name,
                        strerror(-rc));
        }
    }
    child_stop(child, STOP_GRACE_MS);
    take_result(sample, child, line, &result);
    child_release(child);
    return result;
}

json_t *program_run(struct sample *sample, const struct command *command, int cpu, int limit_ms)
{
    static char line[PROGRAM_LINE_MAX];
    struct child child;

    if (program_start(&child, sample, command, cpu, false) < 0) {
        return NULL;
    }
    line[0] = '\0';
    program_read(sample, &child, line, limit_ms);
    return program_end(sample, &child, line);
}

json_t *load_run(const struct bench_options *options, const struct settings *settings,
                 struct sample *sample, const struct command *command)
{
    const int limit_ms = (int)(settings->warmup_ms + settings->duration_ms) + LOAD_EXTRA_MS;

    return program_run(sample, command, options->load_cpu, limit_ms);
}

void server_figures(const struct bench_options *options, struct sample *sample, const json_t *load)
{
    double window = 0.0;
    double own = 0.0;
    double server = 0.0;

    sample_copy_figure(sample, "server_busy", load, "server.busy", 1.0);
    sample_copy_figure(sample, "generator_busy", load, "generator.busy", 1.0);
    if (json_number(load, "window_ns", &window) && window > 0.0) {
        json_number(load, "generator.delay_ns", &own);
        json_number(load, "server.delay_ns", &server);
        sample_figure(sample, "delay_share", (own > server ? own : server) / window);
        if (100.0 * own / window > options->starved_percent &&
            options->server_cpu != options->load_cpu) {
            sample_fail(sample, OUTCOME_STARVED,
                        "the load was without its CPU for %.0f %% of the time",
                        100.0 * own / window);
        }
    }
}

int plan_command(struct command *command, const struct bench_options *options,
                 const struct settings *settings, struct sample *sample,
                 const struct load_plan *plan, const struct server *server)
{
    const struct bench_options chosen =
        plan->load_options != NULL ? plan->load_options(options, sample) : *options;

    if (load_command(command, &chosen, settings, sample, server, plan->program) < 0) {
        return -1;
    }
    if (plan->is_tcp) {
        command_add(command, "--cc");
        command_add(command, options->congestion);
    }
    for (size_t i = 0; i < 4 && plan->options[i].option != NULL; i++) {
        command_add_number(command, plan->options[i].option,
                           sample_parameter(sample, plan->options[i].parameter));
    }
    return 0;
}

const json_t *server_under_load(const struct bench_options *options,
                                const struct settings *settings, struct sample *sample,
                                const struct load_plan *plan)
{
    struct command command;
    struct server server;
    json_t *load = NULL;

    assert((plan->slice_ms > 0) == suite_in_turns(sample->suite, sample->cell));
    if (plan->server(&command, options, sample) < 0 ||
        server_start(&server, options, sample, &command, sample->contender->expect) < 0) {
        return NULL;
    }
    if (plan->slice_ms > 0) {
        load = turns_run(options, settings, sample, plan, &server);
    } else if (plan_command(&command, options, settings, sample, plan, &server) == 0) {
        load = load_run(options, settings, sample, &command);
    }
    sample_detail(sample, "load", load);
    server_stop(&server, sample);
    return load;
}
