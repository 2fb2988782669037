/*
 * gyre-load: a closed-loop load generator for echo servers. What it does is described in load.h and
 * bench/README.md.
 */
#include "load.h"

#include "number.h"
#include "turns.h"

#include <argp.h>
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEY_HOST = 256,
    KEY_PORT,
    KEY_CONNECTIONS,
    KEY_SIZE,
    KEY_DEPTH,
    KEY_WARMUP,
    KEY_DURATION,
    KEY_TIMEOUT,
    KEY_CC,
    KEY_CPU,
    KEY_SERVER_PID,
    KEY_SERVER_CPU,
    KEY_ENGINE,
    KEY_SPIN,
    KEY_RATE,
    KEY_RATE_PERCENT,
    KEY_REPLY,
    KEY_MESSAGES,
    KEY_SATURATE,
    KEY_SLICE,
};

static const struct argp_option option_table[] = {
    {"host", KEY_HOST, "ADDRESS", 0, "IPv4 address of the server (127.0.0.1)", 0},
    {"port", KEY_PORT, "N", 0, "port of the server (required)", 0},
    {"connections", KEY_CONNECTIONS, "N", 0, "connections (64)", 0},
    {"size", KEY_SIZE, "BYTES", 0, "bytes per message (64)", 0},
    {"reply-size", KEY_REPLY, "BYTES", 0,
     "bytes of each reply, which is the next piece of the pattern; default: an echo", 0},
    {"depth", KEY_DEPTH, "N", 0, "messages in flight per connection (1)", 0},
    {"warmup-ms", KEY_WARMUP, "MS", 0, "load before the measured window (100)", 0},
    {"duration-ms", KEY_DURATION, "MS", 0, "length of the measured window (1000)", 0},
    {"messages", KEY_MESSAGES, "N", 0, "measure so many messages instead of so long", 0},
    {"timeout-ms", KEY_TIMEOUT, "MS", 0, "give up after this long without an answer (5000)", 0},
    {"cc", KEY_CC, "NAME", 0, "TCP congestion control (the system's default)", 0},
    {"cpu", KEY_CPU, "N", 0, "run on this CPU only", 0},
    {"server-pid", KEY_SERVER_PID, "PID", 0, "report this process's CPU time in the window", 0},
    {"server-cpu", KEY_SERVER_CPU, "N", 0, "add the time of this CPU's ksoftirqd to it", 0},
    {"engine", KEY_ENGINE, "NAME", 0, "auto, uring or epoll (auto)", 0},
    {"spin", KEY_SPIN, NULL, 0, "poll instead of sleeping when there is nothing to do", 0},
    {"rate", KEY_RATE, "N", 0, "measure latency: send N messages a second, on a schedule", 0},
    {"rate-percent", KEY_RATE_PERCENT, "N", 0, "the same, at N % of what the server takes at most",
     0},
    {"saturate-ms", KEY_SATURATE, "MS", 0,
     "length of each of the two windows that find out how much that is (300)", 0},
    {"slice-ms", KEY_SLICE, "MS", 0, TURNS_TEXT, 0},
    {0},
};

struct number_option {
    int key;
    long min;
    long max;
    size_t offset; /* of a uint32_t or int in struct load_options */
};

static const struct number_option number_table[] = {
    {KEY_CONNECTIONS, 1, LOAD_CONNECTIONS_MAX, offsetof(struct load_options, connections)},
    {KEY_SIZE, 1, LOAD_SIZE_MAX, offsetof(struct load_options, size)},
    {KEY_DEPTH, 1, LOAD_DEPTH_MAX, offsetof(struct load_options, depth)},
    {KEY_WARMUP, 0, 3600000, offsetof(struct load_options, warmup_ms)},
    {KEY_DURATION, 1, 3600000, offsetof(struct load_options, duration_ms)},
    {KEY_TIMEOUT, 1, 3600000, offsetof(struct load_options, timeout_ms)},
    {KEY_CPU, 0, CPU_SETSIZE - 1, offsetof(struct load_options, cpu)},
    {KEY_MESSAGES, 1, INT32_MAX, offsetof(struct load_options, messages)},
    {KEY_REPLY, 1, LOAD_SIZE_MAX, offsetof(struct load_options, reply_size)},
    {KEY_RATE, 1, 10000000, offsetof(struct load_options, rate)},
    {KEY_RATE_PERCENT, 1, 1000, offsetof(struct load_options, rate_percent)},
    {KEY_SATURATE, 1, 3600000, offsetof(struct load_options, saturate_ms)},
    {KEY_SLICE, 1, 3600000, offsetof(struct load_options, slice_ms)},
    {KEY_SERVER_PID, 1, 1L << 22, offsetof(struct load_options, server_pid)},
    {KEY_SERVER_CPU, 0, CPU_SETSIZE - 1, offsetof(struct load_options, server_cpu)},
};

static_assert(sizeof(pid_t) == sizeof(int32_t) && sizeof(int) == sizeof(int32_t),
              "number_table stores 32 bits");

static int parse_number(int key, const char *text, struct argp_state *state)
{
    for (size_t i = 0; i < sizeof(number_table) / sizeof(number_table[0]); i++) {
        const struct number_option *option = &number_table[i];

        if (option->key != key) {
            continue;
        }
        const int32_t stored = (int32_t)number_argument(text, option->min, option->max, state);
        memcpy((char *)state->input + option->offset, &stored, sizeof(stored));
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
}

static void parse_engine(const char *text, struct argp_state *state)
{
    static const char *const names[] = {"auto", "uring", "epoll"};
    struct load_options *options = state->input;

    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            options->engine = (enum load_engine_choice)i;
            return;
        }
    }
    argp_error(state, "engine '%s' is none of auto, uring, epoll", text);
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct load_options *options = state->input;

    switch (key) {
    case KEY_HOST:
        options->host = argument;
        return 0;
    case KEY_PORT:
        options->port = (uint16_t)number_argument(argument, 1, UINT16_MAX, state);
        return 0;
    case KEY_CC:
        options->congestion = argument;
        return 0;
    case KEY_ENGINE:
        parse_engine(argument, state);
        return 0;
    case KEY_SPIN:
        options->spin = true;
        return 0;
    case ARGP_KEY_ARG:
        return ARGP_ERR_UNKNOWN;
    case ARGP_KEY_END:
        if (options->port == 0) {
            argp_error(state, "--port is missing");
        }
        if (options->slice_ms > 0 && (load_is_open(options) || options->messages > 0)) {
            argp_error(state, "in turns the closed loop is measured, for a time");
        }
        return 0;
    default:
        return parse_number(key, argument, state);
    }
}

static void pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        fprintf(stderr, "gyre-load: CPU %d: %s\n", cpu, strerror(errno));
        exit(LOAD_USAGE);
    }
}

static struct load load; /* large: the histogram */

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .options = option_table,
        .parser = parse_option,
        .doc =
            "Keeps DEPTH messages in flight on every connection to an echo server, compares every "
            "byte that comes back, and prints one JSON object. The exit status is 0 only if "
            "every byte was right.",
    };
    struct load_options options = {
        .host = "127.0.0.1",
        .connections = 64,
        .size = 64,
        .depth = 1,
        .warmup_ms = 100,
        .duration_ms = 1000,
        .timeout_ms = 5000,
        .saturate_ms = 300,
        .cpu = -1,
        .server_cpu = -1,
    };

    argp_err_exit_status = LOAD_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    if (options.cpu >= 0) {
        pin(options.cpu);
    }
    if (load_run(&load, &options) < 0) {
        fprintf(stderr, "gyre-load: %s: %s\n", load_failure_name(load.failure), load.failure_text);
    }
    if (load_print(&load) < 0) {
        fprintf(stderr, "gyre-load: cannot write the result\n");
        return LOAD_SYSTEM;
    }
    return (int)load.failure;
}
