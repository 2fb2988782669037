/* Options, the loop, the ready line and signals of the example programs; see common.h. */
#include "common/common.h"

#include <errno.h>
#include <error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* ---- options ---- */

uint64_t example_parse_number(struct argp_state *state, const char *text, uint64_t min,
                              uint64_t max)
{
    char *end = NULL;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min ||
        value > max) {
        argp_error(state, "'%s' is not a whole number from %llu to %llu", text,
                   (unsigned long long)min, (unsigned long long)max);
    }
    return value;
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

static error_t parse_backend_option(int key, char *text, struct argp_state *state)
{
    struct example_options *options = state->input;

    if (key != 'b') {
        return ARGP_ERR_UNKNOWN;
    }
    options->loop.backend = parse_backend(state, text);
    return 0;
}

static const struct argp_option backend_table[] = {
    {"backend", 'b', "NAME", 0, "auto (default), uring or epoll", 0},
    {0},
};

const struct argp example_backend_argp = {.options = backend_table, .parser = parse_backend_option};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct example_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = options;
        if (options->host == NULL) {
            options->host = "127.0.0.1";
        }
        return 0;
    case 'h':
        options->host = text;
        return 0;
    case 'p':
        options->port = (uint16_t)example_parse_number(state, text, 0, UINT16_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    {"host", 'h', "ADDRESS", 0, "Numeric address (default 127.0.0.1)", 0},
    {"port", 'p', "PORT", 0, "Port; servers: 0 (default) is any free one", 0},
    {0},
};

static const struct argp_child option_children[] = {{&example_backend_argp, 0, NULL, 0}, {0}};

const struct argp example_argp = {
    .options = option_table, .parser = parse_option, .children = option_children};

void example_parse_options(int argc, char **argv, const char *doc,
                           struct example_options *out_options)
{
    struct argp with_doc = example_argp;

    with_doc.doc = doc;
    argp_parse(&with_doc, argc, argv, 0, NULL, out_options);
}

struct gyre_addr example_address(const struct example_options *options)
{
    struct gyre_addr address;
    int rc = gyre_addr_parse_ip(options->host, options->port, &address);

    if (rc < 0) {
        error(EXIT_FAILURE, 0, "'%s' is not a numeric address: %s", options->host,
              gyre_strerror(rc));
    }
    return address;
}

/* ---- errors ---- */

void example_must(int rc, const char *what)
{
    if (rc < 0) {
        error(EXIT_FAILURE, 0, "%s: %s", what, gyre_strerror(rc));
    }
}

/* ---- the loop ---- */

struct gyre_loop *example_loop_create(const struct example_options *options)
{
    struct gyre_loop *loop = NULL;
    int rc = gyre_loop_create(&loop, &options->loop);

    if (rc == GYRE_ENOURING) {
        error(EXIT_FAILURE, 0, "%s: %s", gyre_strerror(rc), gyre_loop_refusal());
    }
    example_must(rc, "loop");
    return loop;
}

void example_loop_run(struct gyre_loop *loop)
{
    example_must(gyre_loop_run(loop, GYRE_RUN_DEFAULT), "run");
    example_must(gyre_loop_destroy(loop), "end of the loop");
}

void example_raise_fd_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        error(EXIT_FAILURE, errno, "getrlimit");
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        error(EXIT_FAILURE, errno, "setrlimit");
    }
}

/* ---- servers ---- */

void example_announce(const struct gyre_addr *address)
{
    char text[GYRE_ADDR_TEXT_MAX];

    example_must(gyre_addr_format(address, text, sizeof(text)), "address");
    printf("listening on %s\n", text);
    fflush(stdout);
}

void example_announce_listener(const struct gyre_listener *listener)
{
    struct gyre_addr address;

    example_must(gyre_listener_address(listener, &address), "address");
    example_announce(&address);
}

void example_listener_closed(struct gyre_listener *listener, int error)
{
    (void)listener;
    example_must(error, "the listener has ended");
}

static void on_signal(struct gyre_signal *watcher, const struct signalfd_siginfo *info)
{
    struct example_signals *signals = gyre_container_of(watcher, struct example_signals, watcher);

    (void)info;
    example_signals_end(signals);
    signals->on_signal(signals->context);
}

void example_signals_start(struct example_signals *signals, struct gyre_loop *loop,
                           void (*on_signal_fn)(void *context), void *context)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    example_must(gyre_signal_block(&set), "block signals");
    example_must(gyre_signal_start(&signals->watcher, loop, &set, on_signal), "watch signals");
    signals->on_signal = on_signal_fn;
    signals->context = context;
    signals->open = 1;
}

void example_signals_end(struct example_signals *signals)
{
    if (signals->open) {
        signals->open = 0;
        example_must(gyre_signal_close(&signals->watcher, NULL), "close the signal watcher");
    }
}
