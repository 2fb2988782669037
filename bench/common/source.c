/*
 * What the loads have in common; see source.h.
 */
#include "source.h"

#include "clock.h"
#include "number.h"
#include "turns.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_PORT = 256,
    KEY_CONNECTIONS,
    KEY_SIZE,
    KEY_DEPTH,
    KEY_WARMUP,
    KEY_DURATION,
    KEY_TIMEOUT,
    KEY_CC,
    KEY_SPIN,
    KEY_PID,
    KEY_CPU,
    KEY_SLICE,
};

static const struct argp_option option_table[] = {
    {"port", KEY_PORT, "N", 0, "port of the server, on 127.0.0.1 (required)", 0},
    {"connections", KEY_CONNECTIONS, "N", 0, "at a time (64)", 0},
    {"size", KEY_SIZE, "BYTES", 0, "bytes per message (64)", 0},
    {"depth", KEY_DEPTH, "N", 0, "messages in flight per connection (1)", 0},
    {"warmup-ms", KEY_WARMUP, "MS", 0, "load before the measured window (100)", 0},
    {"duration-ms", KEY_DURATION, "MS", 0, "length of the measured window (1000)", 0},
    {"slice-ms", KEY_SLICE, "MS", 0, TURNS_TEXT, 0},
    {"timeout-ms", KEY_TIMEOUT, "MS", 0, "give up after this long without an answer (5000)", 0},
    {"cc", KEY_CC, "NAME", 0, "TCP congestion control (the system's default)", 0},
    {"spin", KEY_SPIN, NULL, 0, "poll instead of sleeping when there is nothing to do", 0},
    {"server-pid", KEY_PID, "PID", 0, "report this process's CPU time in the window", 0},
    {"server-cpu", KEY_CPU, "N", 0, "add the time of this CPU's ksoftirqd to it", 0},
    {0},
};

static error_t parse_times(int key, char *text, struct argp_state *state)
{
    struct source_options *options = state->input;

    switch (key) {
    case KEY_WARMUP:
        options->warmup_ms = (uint32_t)number_argument(text, 0, 600000, state);
        return 0;
    case KEY_DURATION:
        options->duration_ms = (uint32_t)number_argument(text, 1, 600000, state);
        return 0;
    case KEY_SLICE:
        options->slice_ms = (uint32_t)number_argument(text, 1, 600000, state);
        return 0;
    case KEY_TIMEOUT:
        options->timeout_ms = (uint32_t)number_argument(text, 1, 600000, state);
        return 0;
    case KEY_PID:
        options->server_pid = (pid_t)number_argument(text, 1, 1L << 22, state);
        return 0;
    case KEY_CPU:
        options->server_cpu = (int)number_argument(text, 0, 1023, state);
        return 0;
    case ARGP_KEY_END:
        if (options->port == 0) {
            argp_error(state, "--port is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct source_options *options = state->input;

    switch (key) {
    case KEY_PORT:
        options->port = (uint16_t)number_argument(text, 1, 65535, state);
        return 0;
    case KEY_CONNECTIONS:
        options->connections = (uint32_t)number_argument(text, 1, 2000000, state);
        return 0;
    case KEY_SIZE:
        options->size = (uint32_t)number_argument(text, 1, 65507, state);
        return 0;
    case KEY_DEPTH:
        options->depth = (uint32_t)number_argument(text, 1, 1024, state);
        return 0;
    case KEY_CC:
        options->congestion = text;
        return 0;
    case KEY_SPIN:
        options->spin = true;
        return 0;
    default:
        return parse_times(key, text, state);
    }
}

void source_parse(int argc, char **argv, const char *doc, struct source_options *out_options)
{
    const struct argp argp = {.options = option_table, .parser = parse_option, .doc = doc};

    *out_options = (struct source_options){
        .connections = 64,
        .size = 64,
        .depth = 1,
        .warmup_ms = 100,
        .duration_ms = 1000,
        .timeout_ms = 5000,
        .server_cpu = -1,
    };
    argp_err_exit_status = SOURCE_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, out_options);
}

void source_fail(enum source_exit status, const char *format, ...)
{
    static const char *const names[] = {
        "none", "system", "usage", "wrong-bytes", "connection-lost", "connect-failed", "stalled"};
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    source_print(json_pack("{sb ss ss}", "ok", 0, "error", names[status], "text", text));
    fprintf(stderr, "%s: %s\n", names[status], text);
    exit((int)status);
}

void source_print(json_t *object)
{
    if (object == NULL || json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9)) < 0 ||
        putchar('\n') == EOF || fflush(stdout) == EOF) {
        fprintf(stderr, "the result cannot be written\n");
        exit(SOURCE_SYSTEM);
    }
    json_decref(object);
}

static void check(const struct window *window, int rc)
{
    if (rc < 0) {
        source_fail(SOURCE_LOST, "CPU time of the server, process %d: %s", (int)window->server_pid,
                    strerror(-rc));
    }
}

static void measure(const struct source_options *options, uint32_t duration_ms,
                    void (*phase)(uint64_t duration_ns), struct window *sum)
{
    struct window now = {.server_pid = options->server_pid, .server_cpu = options->server_cpu};

    check(&now, window_open(&now));
    phase(duration_ms * NS_PER_MS);
    check(&now, window_close(&now));
    window_add(sum, &now);
}

void source_measure(const struct source_options *options, const uint64_t *count,
                    void (*phase)(uint64_t duration_ns), struct window *out_window)
{
    *out_window = (struct window){
        .server_pid = options->server_pid,
        .server_cpu = options->server_cpu,
    };
    if (options->slice_ms == 0) {
        measure(options, options->duration_ms, phase, out_window);
        return;
    }
    turns_ready();
    while (turns_next()) {
        const uint64_t cpu_ns = window_server_ns(out_window);
        const uint64_t before = *count;

        measure(options, options->slice_ms, phase, out_window);
        turns_done(window_server_ns(out_window) - cpu_ns, *count - before, 0.0);
    }
    if (*count == 0) {
        source_fail(SOURCE_USAGE, "%s", TURNS_NONE);
    }
}
