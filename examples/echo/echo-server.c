/*
 * An echo server on gyre: the same program runs on io_uring and on epoll.
 *
 * A listener accepts, and makes a stream of each connection; the stream calls back with what
 * happens. Received bytes are on loan from the loop's pool (a lease); they are sent back from where
 * they lie, in order, and what is sent in one turn leaves together. A peer that sends but does not
 * read is not read from any more once it holds more than its quota of the pool, so memory stays
 * bounded and TCP slows the peer: nothing here does that. When a peer has sent all, what is on its
 * way back still reaches it, and then the connection is closed: that is what a stream does unless
 * told otherwise.
 *
 * Right for: nearly every server. echo-ops.c does the same on operations, the layer below;
 * echo-epoll.c and echo-uring.c do by hand what the library does here.
 */
#include "on-gyre.h"

#include <poll.h>
#include <stdlib.h>

struct server {
    struct gyre_loop *loop;
    struct gyre_listener listener;
    struct gyre_fd signals;
    struct gyre_op signal;
    struct gyre_op close_signals;
};

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    if (gyre_stream_forward(stream, data) < 0) { /* no memory, or the peer is gone */
        gyre_stream_reset(stream);
    }
}

static const struct gyre_stream_handler echo = {.on_data = on_data};

static void on_signals_closed(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
}

static void on_signal(struct gyre_op *op, const struct gyre_result *result)
{
    struct server *server = gyre_container_of(op, struct server, signal);

    gyre_echo_must(result->res, "wait for signals");
    gyre_echo_must(gyre_listener_drain(&server->listener), "close");
    gyre_echo_must(gyre_op_close(&server->close_signals, &server->signals, 0), "close");
    /* With nothing active any more, gyre_loop_run() returns. */
}

/* Ended by itself, for want of memory perhaps: to wait for signals any longer would serve nobody. */
static void on_listener_close(struct gyre_listener *listener, int error)
{
    (void)listener;
    gyre_echo_must(error, "the listener has ended");
}

static void start(struct server *server, const struct echo_options *options)
{
    const int listening = echo_listen(options, 0);
    const struct gyre_listener_options listener = {.handler = &echo, .on_close = on_listener_close};

    gyre_op_init(&server->signal, on_signal);
    gyre_op_init(&server->close_signals, on_signals_closed);
    gyre_echo_must(gyre_listen_adopt(server->loop, &server->listener, listening, &listener),
                   "listen");
    gyre_echo_must(gyre_fd_init(&server->signals, server->loop, echo_signal_fd()), "attach");
    gyre_echo_must(gyre_op_poll(&server->signal, &server->signals, POLLIN, 0), "poll");
    gyre_echo_announce(server->loop, listening);
}

int main(int argc, char **argv)
{
    struct gyre_echo_options options;
    struct server server = {0};

    gyre_echo_parse(argc, argv, "Sends back what it receives, on the streams of gyre.", &options);
    echo_raise_fd_limit();
    server.loop = gyre_echo_loop(&options.loop);
    start(&server, &options.echo);
    gyre_echo_must(gyre_loop_run(server.loop, GYRE_RUN_DEFAULT), "run");
    gyre_echo_print_stats(server.loop);
    gyre_echo_must(gyre_loop_destroy(server.loop), "destroy");
    return EXIT_SUCCESS;
}
