/*
 * An echo server on libuv, in the two ways that its documentation offers for sending.
 *
 * --send try (default): uv_try_write() straight from the one receive buffer that all connections
 * share; what the socket does not take is copied and written with uv_write(), and the connection is
 * not read until that is done. --send write: uv_write() of a buffer of the connection's own, as the
 * guide's echo server does it, with the buffers and requests kept for reuse.
 */
#include "echo/common.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

enum {
    BUFFER_SIZE = 128 * 1024,    /* shared, of --send try */
    OWN_BUFFER_SIZE = 64 * 1024, /* what libuv suggests, of --send write */
    QUEUE_HIGH = 4 * 64 * 1024,  /* a slow reader: more than this waits, stop reading */
    BACKLOG = 65535,
};

struct connection {
    uv_tcp_t handle;
    bool paused;
    bool ended; /* the peer has sent all */
};

/* A write under way and its bytes. */
struct piece {
    uv_write_t request;
    struct connection *connection;
    struct piece *next; /* free list */
    char data[];
};

static uv_loop_t loop;
static char shared[BUFFER_SIZE];
static struct piece *free_pieces;
static bool send_with_write;

static void *must(void *memory)
{
    if (memory == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    return memory;
}

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

static struct piece *piece_get(void)
{
    struct piece *piece = free_pieces;

    if (piece == NULL) {
        return must(malloc(sizeof(*piece) + OWN_BUFFER_SIZE));
    }
    free_pieces = piece->next;
    return piece;
}

static void piece_put(struct piece *piece)
{
    piece->next = free_pieces;
    free_pieces = piece;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    if (send_with_write) {
        *buffer = uv_buf_init(piece_get()->data, OWN_BUFFER_SIZE);
    } else {
        *buffer = uv_buf_init(shared, BUFFER_SIZE);
    }
}

static struct piece *piece_of(char *data)
{
    return (struct piece *)(void *)(data - offsetof(struct piece, data));
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer);

/* What follows a write: go on reading, or close when the peer is done and all is sent. */
static void resume(struct connection *connection)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;

    if (uv_is_closing((uv_handle_t *)stream) || uv_stream_get_write_queue_size(stream) > 0) {
        return;
    }
    if (connection->ended) {
        drop(connection);
    } else if (connection->paused) {
        connection->paused = false;
        if (uv_read_start(stream, on_alloc, on_read) < 0) {
            drop(connection);
        }
    }
}

static void pause_reading(struct connection *connection)
{
    connection->paused = true;
    uv_read_stop((uv_stream_t *)&connection->handle);
}

static void on_written(uv_write_t *request, int status)
{
    struct piece *piece = (struct piece *)request;
    struct connection *connection = piece->connection;

    if (send_with_write) {
        piece_put(piece);
    } else {
        free(piece);
    }
    if (status < 0) {
        drop(connection);
    } else {
        resume(connection);
    }
}

static void start_write(struct connection *connection, struct piece *piece, size_t len)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;
    const uv_buf_t buffer = uv_buf_init(piece->data, (unsigned)len);

    piece->connection = connection;
    if (uv_write(&piece->request, stream, &buffer, 1, on_written) < 0) {
        on_written(&piece->request, UV_EPIPE);
    } else if (!connection->paused && uv_stream_get_write_queue_size(stream) > QUEUE_HIGH) {
        pause_reading(connection);
    }
}

static void try_write(struct connection *connection, size_t len)
{
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;
    const uv_buf_t buffer = uv_buf_init(shared, (unsigned)len);
    const int sent = uv_try_write(stream, &buffer, 1);

    if (sent < 0 && sent != UV_EAGAIN) {
        drop(connection);
        return;
    }
    const size_t done = sent > 0 ? (size_t)sent : 0;

    if (done < len) {
        struct piece *rest = must(malloc(sizeof(*rest) + len - done));

        memcpy(rest->data, shared + done, len - done);
        pause_reading(connection);
        start_write(connection, rest, len - done);
    }
}

static void on_read(uv_stream_t *stream, ssize_t len, const uv_buf_t *buffer)
{
    struct connection *connection = stream->data;

    if (len > 0 && send_with_write) {
        start_write(connection, piece_of(buffer->base), (size_t)len);
    } else if (len > 0) {
        try_write(connection, (size_t)len);
    } else if (send_with_write && buffer->base != NULL) {
        piece_put(piece_of(buffer->base));
    }
    if (len == UV_EOF) {
        connection->ended = true;
        resume(connection);
    } else if (len < 0) {
        drop(connection);
    }
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status < 0) {
        return;
    }
    struct connection *connection = must(calloc(1, sizeof(*connection)));
    uv_stream_t *stream = (uv_stream_t *)&connection->handle;

    if (uv_tcp_init(&loop, &connection->handle) < 0) {
        free(connection);
        return;
    }
    connection->handle.data = connection;
    if (uv_accept(listener, stream) < 0 || uv_read_start(stream, on_alloc, on_read) < 0) {
        drop(connection);
    }
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) {
        uv_close(handle, handle->data == NULL ? NULL : on_closed);
    }
}

/* Every handle is closed; the loop then has nothing left to do and returns. */
static void on_signal(uv_signal_t *signal, int number)
{
    (void)signal;
    (void)number;
    uv_walk(&loop, close_handle, NULL);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case 's':
        send_with_write = strcmp(text, "write") == 0;
        if (!send_with_write && strcmp(text, "try") != 0) {
            argp_error(state, "--send takes try or write, not '%s'", text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void must_uv(int rc, const char *what)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "%s: %s", what, uv_strerror(rc));
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"send", 's', "HOW", 0, "try (default): uv_try_write; write: uv_write", 0},
        {0},
    };
    static const struct argp_child children[] = {{&echo_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = own, .parser = parse_option, .doc = "Echo on libuv.", .children = children};
    struct echo_options options;
    static uv_tcp_t listener;
    static uv_signal_t signals[2];

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    echo_raise_fd_limit();
    const int fd = echo_listen(&options, SOCK_NONBLOCK);

    must_uv(uv_loop_init(&loop), "loop");
    must_uv(uv_tcp_init(&loop, &listener), "listener");
    must_uv(uv_tcp_open(&listener, fd), "listener");
    must_uv(uv_listen((uv_stream_t *)&listener, BACKLOG, on_connection), "listen");
    for (int i = 0; i < 2; i++) {
        must_uv(uv_signal_init(&loop, &signals[i]), "signal");
        must_uv(uv_signal_start(&signals[i], on_signal, i == 0 ? SIGTERM : SIGINT), "signal");
    }
    echo_announce(fd, send_with_write ? "libuv write" : "libuv try");
    uv_run(&loop, UV_RUN_DEFAULT);
    must_uv(uv_loop_close(&loop), "close");
    return EXIT_SUCCESS;
}
