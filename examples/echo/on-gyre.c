#include "on-gyre.h"

#include <error.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void gyre_echo_must(int rc, const char *what)
{
    if (rc < 0) {
        error(EXIT_FAILURE, 0, "%s: %s", what, gyre_strerror(rc));
    }
}

struct gyre_loop *gyre_echo_loop(const struct gyre_loop_options *options)
{
    struct gyre_loop *loop = NULL;
    const int rc = gyre_loop_create(&loop, options);

    if (rc == GYRE_ENOURING) {
        error(EXIT_FAILURE, 0, "%s: %s", gyre_strerror(rc), gyre_loop_refusal());
    }
    gyre_echo_must(rc, "loop");
    return loop;
}

void gyre_echo_announce(struct gyre_loop *loop, int listener)
{
    struct gyre_loop_info info;
    char extra[32];

    gyre_echo_must(gyre_loop_info(loop, &info), "info");
    snprintf(extra, sizeof(extra), "backend=%s", info.backend_name);
    echo_announce(listener, extra);
    if (gyre_loop_refusal()[0] != '\0') {
        fprintf(stderr, "%s: not io_uring: %s\n", program_invocation_short_name,
                gyre_loop_refusal());
    }
}

void gyre_echo_print_stats(const struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    if (getenv("GYRE_ECHO_STATS") == NULL || gyre_loop_stats(loop, &stats) < 0) {
        return;
    }
    fprintf(stderr,
            "{\"turns\":%" PRIu64 ",\"enters\":%" PRIu64 ",\"syscalls\":%" PRIu64
            ",\"sqes\":%" PRIu64 ",\"cqes\":%" PRIu64 ",\"messages\":%" PRIu64
            ",\"eagains\":%" PRIu64 ",\"starved\":%" PRIu64 ",\"rearms\":%" PRIu64
            ",\"overflows\":%" PRIu64 ",\"retries\":%" PRIu64 ",\"allocations\":%" PRIu64 "}\n",
            stats.turns, stats.enters, stats.syscalls, stats.sqes, stats.cqes,
            stats.finished[GYRE_OP_SEND] + stats.finished[GYRE_OP_SENDMSG], stats.eagains,
            stats.starved, stats.rearms, stats.overflows, stats.retries, stats.allocations);
}

static enum gyre_backend parse_backend(struct argp_state *state, const char *text)
{
    if (strcmp(text, "uring") == 0) {
        return GYRE_BACKEND_URING;
    }
    if (strcmp(text, "epoll") == 0) {
        return GYRE_BACKEND_EPOLL;
    }
    if (strcmp(text, "auto") != 0) {
        argp_error(state, "--backend takes auto, uring or epoll, not '%s'", text);
    }
    return GYRE_BACKEND_AUTO;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct gyre_echo_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->echo;
        return 0;
    case 'b':
        options->loop.backend = parse_backend(state, text);
        return 0;
    case 'B':
        options->loop.busy_poll_ns = echo_parse_number(state, text, 0, 1000000) * GYRE_USEC;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void gyre_echo_parse(int argc, char **argv, const char *doc, struct gyre_echo_options *out_options)
{
    static const struct argp_option own[] = {
        {"backend", 'b', "NAME", 0, "auto (default), uring or epoll", 0},
        {"busy-poll-us", 'B', "N", 0, "look for work so long before sleeping; default 0", 0},
        {0},
    };
    static const struct argp_child children[] = {{&echo_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = own, .parser = parse_option, .doc = doc, .children = children};

    *out_options = (struct gyre_echo_options){0};
    argp_parse(&argp, argc, argv, 0, NULL, out_options);
}
