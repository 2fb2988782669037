/*
 * A bulk server on gyre's streams. What is received is dropped where it lies; replies are sent from
 * the pattern without a copy, as far as the queue takes them, and the rest on on_drain(). SIGTERM ends
 * the process as it is.
 */
#include "stream.h"

#include <err.h>
#include <gyre.h>
#include <stdlib.h>
#include <string.h>

static struct stream_options options;
static const uint8_t *pattern;

static void must(int rc)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "gyre: %s", gyre_strerror(rc));
    }
}

static void send_owed(struct gyre_stream *stream)
{
    struct stream_state *state = gyre_stream_ext(stream);

    while (state->owed > 0 && gyre_stream_writable(stream) != 0) {
        const uint32_t len = stream_span(state);

        if (gyre_stream_write_ref(stream, pattern + state->at, len, NULL, NULL) < 0) {
            gyre_stream_reset(stream);
            return;
        }
        stream_sent(state, len);
    }
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    stream_received(gyre_stream_ext(stream), &options, data->len);
    send_owed(stream);
}

static void on_open(struct gyre_stream *stream)
{
    memset(gyre_stream_ext(stream), 0, sizeof(struct stream_state));
}

static const struct gyre_stream_handler handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_drain = send_owed,
};

int main(int argc, char **argv)
{
    static struct gyre_listener listener;
    const struct gyre_listener_options listener_options = {
        .handler = &handler,
        .ext_size = sizeof(struct stream_state),
    };
    struct gyre_loop_options loop_options = {0};
    struct gyre_loop *loop = NULL;

    stream_parse(argc, argv, "Bulk server on gyre.", &options);
    echo_raise_fd_limit();
    const bool epoll = options.backend != NULL && strcmp(options.backend, "epoll") == 0;

    loop_options.backend = epoll ? GYRE_BACKEND_EPOLL : GYRE_BACKEND_URING;
    pattern = pattern_create();
    if (pattern == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    const int fd = echo_listen(&options.echo, 0);

    must(gyre_loop_create(&loop, &loop_options));
    must(gyre_listen_adopt(loop, &listener, fd, &listener_options));
    echo_announce(fd, epoll ? "epoll" : "uring");
    must(gyre_loop_run(loop, GYRE_RUN_DEFAULT));
    return EXIT_SUCCESS;
}
