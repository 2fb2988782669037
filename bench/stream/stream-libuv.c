/*
 * A bulk server on libuv. What is owed is tried at once, straight from the pattern, which needs no
 * copy; what the socket does not take is given to uv_write(), and reading waits for it.
 */
#include "stream.h"

#include <err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <uv.h>

enum { BUFFER_SIZE = 128 * 1024, BACKLOG = 65535 };

struct connection {
    uv_tcp_t handle;
    uv_write_t request;
    struct stream_state state;
    bool writing;
};

static struct stream_options options;
static const uint8_t *pattern;
static uv_loop_t loop;
static char shared[BUFFER_SIZE];

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop(struct connection *connection)
{
    if (!uv_is_closing((uv_handle_t *)&connection->handle)) {
        uv_close((uv_handle_t *)&connection->handle, on_closed);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(shared, BUFFER_SIZE);
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer);
static void send_owed(struct connection *connection);

static void on_written(uv_write_t *request, int status)
{
    struct connection *connection = request->data;

    connection->writing = false;
    if (status < 0 || uv_is_closing((uv_handle_t *)&connection->handle)) {
        drop(connection);
        return;
    }
    send_owed(connection);
    if (!connection->writing &&
        uv_read_start((uv_stream_t *)&connection->handle, on_alloc, on_read) < 0) {
        drop(connection);
    }
}

static void send_owed(struct connection *connection)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;
    struct stream_state *state = &connection->state;

    while (state->owed > 0 && !connection->writing) {
        const uint32_t span = stream_span(state);
        char *data = (char *)(uintptr_t)(pattern + state->at);
        uv_buf_t buffer = uv_buf_init(data, span);
        const int sent = uv_try_write(stream, &buffer, 1);

        if (sent < 0 && sent != UV_EAGAIN) {
            drop(connection);
            return;
        }
        const uint32_t done = sent > 0 ? (uint32_t)sent : 0;

        if (done < span) {
            buffer = uv_buf_init(data + done, span - done);
            connection->request.data = connection;
            connection->writing = true;
            uv_read_stop(stream);
            if (uv_write(&connection->request, stream, &buffer, 1, on_written) < 0) {
                drop(connection);
                return;
            }
        }
        stream_sent(state, span);
    }
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;

    (void)buffer;
    if (len < 0) {
        drop(connection);
        return;
    }
    stream_received(&connection->state, &options, (size_t)len);
    send_owed(connection);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct connection *connection = status < 0 ? NULL : calloc(1, sizeof(*connection));

    if (connection == NULL || uv_tcp_init(&loop, &connection->handle) < 0) {
        errx(EXIT_FAILURE, "connection");
    }
    connection->handle.data = connection;
    if (uv_accept(listener, (uv_stream_t *)&connection->handle) < 0 ||
        uv_read_start((uv_stream_t *)&connection->handle, on_alloc, on_read) < 0) {
        drop(connection);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)signal;
    (void)number;
    uv_stop(&loop);
}

int main(int argc, char **argv)
{
    static uv_tcp_t listener;
    static uv_signal_t signal;

    stream_parse(argc, argv, "Bulk server on libuv.", &options);
    echo_raise_fd_limit();
    pattern = pattern_create();
    const int fd = echo_listen(&options.echo, SOCK_NONBLOCK);

    if (pattern == NULL || uv_loop_init(&loop) < 0 || uv_tcp_init(&loop, &listener) < 0 ||
        uv_tcp_open(&listener, fd) < 0 ||
        uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection) < 0 ||
        uv_signal_init(&loop, &signal) < 0 || uv_signal_start(&signal, on_signal, SIGTERM) < 0) {
        errx(EXIT_FAILURE, "libuv: start");
    }
    echo_announce(fd, "libuv");
    uv_run(&loop, UV_RUN_DEFAULT);
    return EXIT_SUCCESS;
}
