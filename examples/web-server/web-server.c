/*
 * A web server: static files over HTTP/1.1.
 *
 * A blocking server would read a request, answer it, and read the next, one thread per client. Here
 * one thread serves everybody: on_data() is called with whatever has come, which may be a part of a
 * request, exactly one, or many (a client may send the next before it has the answer to the last:
 * pipelining). What has to survive until the next call is in struct connection.
 *
 *     on_data --> a body to skip? --> a head, whole? --> answer --> the next one in what came
 *                                         |                |
 *                                   keep the part     large file: piece by piece, as it leaves
 *
 * What makes it fast is what it does not do: a request that came whole is parsed where it lies; a
 * small file is answered from memory, head and contents in one send; nothing is allocated for
 * either. What makes it robust are limits, on everything that a client decides: bytes and time of a
 * head, bytes of a body, requests in one turn, answers that wait because they are not read.
 *
 * request.c knows HTTP requests, files.c the files; this file knows connections.
 */
#include "common/common.h"
#include "files.h"
#include "request.h"

#include <errno.h>
#include <error.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REQUESTS_PER_TURN = 64, /* of one connection, then the others' turn comes */
    COPY_MAX = 3 << 10,     /* contents up to so many bytes are copied to go with the head */
    PIECE_LEN = 128 << 10,  /* of a large file */
    HEAD_SIZE = 1024,
};

#define WRITE_TIMEOUT_NS (20 * GYRE_SEC) /* a client that reads nothing of what waits for it */
#define CLOSE_TIMEOUT_NS (5 * GYRE_SEC)
#define STOP_TIMEOUT_NS  (10 * GYRE_SEC) /* what is still under way when the server is to end */
#define SLOWEST_RATE     4096            /* bytes per second at which a large file must be read */

struct server {
    struct gyre_loop *loop;
    struct gyre_listener listener;
    struct gyre_stream_handler handler;
    struct files files;
    uint64_t head_timeout_ns;
};

/* What the listener keeps with each stream. Zero at first. */
struct connection {
    struct partial *partial;   /* the beginning of a head */
    struct transfer *transfer; /* a large file on its way */
    struct rest *rest;         /* bytes received for later; the stream is paused */
    uint32_t body_left;        /* bytes of a body to skip */
    uint8_t has_deadline;
    uint8_t last;    /* no request is answered after this */
    uint8_t ended;   /* the client sends no more */
    uint8_t closing; /* gyre_stream_close() or _reset() has been called */
};

/* A head that came in pieces is collected here. */
struct partial {
    struct request request;
    size_t len;
    char bytes[REQUEST_HEAD_MAX];
};

/* A large file is read into one buffer, sent from there, and read on when that has left. */
struct transfer {
    struct connection *connection;
    struct file *file;
    uint64_t offset;
    uint64_t end;
    char piece[PIECE_LEN];
};

/* Requests that have to wait, for a file before them or for the next turn. */
struct rest {
    struct connection *connection;
    struct gyre_timer again;
    struct gyre_lease lease;
    size_t used;
};

static void continue_rest(struct connection *connection);

static struct gyre_stream *stream_of(struct connection *connection)
{
    return gyre_stream_of_ext(connection);
}

static struct server *server_of(struct connection *connection)
{
    return gyre_container_of(gyre_stream_listener(stream_of(connection)), struct server, listener);
}

/* ---- times and ends ---- */

static void set_deadline(struct connection *connection, uint64_t timeout_ns)
{
    const uint64_t now = gyre_loop_now(server_of(connection)->loop);

    (void)gyre_stream_set_deadline(stream_of(connection), now + timeout_ns);
    connection->has_deadline = 1;
}

static void end_deadline(struct connection *connection)
{
    if (connection->has_deadline) {
        (void)gyre_stream_set_deadline(stream_of(connection), GYRE_NEVER);
        connection->has_deadline = 0;
    }
}

static void abandon(struct connection *connection)
{
    connection->closing = 1;
    gyre_stream_reset(stream_of(connection));
}

/* Closes the connection when there is nothing more to say. */
static void settle(struct connection *connection)
{
    const int is_done = connection->last || (connection->ended && connection->rest == NULL);

    if (is_done && connection->transfer == NULL && !connection->closing) {
        connection->closing = 1;
        gyre_stream_close(stream_of(connection));
    }
}

/* ---- sending ---- */

static void send_text(struct connection *connection, const char *text, size_t len)
{
    if (!connection->closing && gyre_stream_write(stream_of(connection), text, len) < 0) {
        abandon(connection); /* the client is gone, or there is no memory */
    }
}

static void end_transfer(struct transfer *transfer)
{
    struct connection *connection = transfer->connection;

    connection->transfer = NULL;
    file_release(transfer->file);
    free(transfer);
    end_deadline(connection);
}

static void send_piece(struct transfer *transfer);

/* The piece has left, or never will, because the connection ends: then the next write says so. */
static void on_piece_sent(void *context)
{
    struct transfer *transfer = context;
    struct connection *connection = transfer->connection;

    if (transfer->offset < transfer->end) {
        send_piece(transfer);
        return;
    }
    end_transfer(transfer);
    continue_rest(connection);
    settle(connection);
}

static void send_piece(struct transfer *transfer)
{
    struct connection *connection = transfer->connection;
    const uint64_t left = transfer->end - transfer->offset;
    const int64_t n = file_read(transfer->file, transfer->piece,
                                left < PIECE_LEN ? left : PIECE_LEN, transfer->offset);

    /* A file that has become shorter cannot be made good any more: the head has promised more. */
    if (n <= 0 || gyre_stream_write_ref(stream_of(connection), transfer->piece, (size_t)n,
                                        on_piece_sent, transfer) < 0) {
        end_transfer(transfer);
        abandon(connection);
        return;
    }
    transfer->offset += (uint64_t)n;
}

static void start_transfer(struct connection *connection, struct file *file, uint64_t from,
                           uint64_t len)
{
    struct transfer *transfer = malloc(sizeof(*transfer));

    if (transfer == NULL) {
        abandon(connection);
        return;
    }
    transfer->connection = connection;
    transfer->file = file;
    transfer->offset = from;
    transfer->end = from + len;
    file_refer(file);
    connection->transfer = transfer;
    set_deadline(connection, WRITE_TIMEOUT_NS + len / SLOWEST_RATE * GYRE_SEC);
    send_piece(transfer);
}

static void send_contents(struct connection *connection, struct file *file, uint64_t from,
                          uint64_t len)
{
    if (connection->closing || len == 0) {
        return;
    }
    if (file->fd >= 0) {
        start_transfer(connection, file, from, len);
        return;
    }
    file_refer(file);
    if (gyre_stream_write_ref(stream_of(connection), file_contents(file) + from, len, file_release,
                              file) < 0) {
        file_release(file);
        abandon(connection);
    }
}

/* ---- answers ---- */

/* HTTP/1.1 keeps connections unless told otherwise, HTTP/1.0 closes them unless told otherwise. */
static const char *connection_field(const struct request *request)
{
    if (!request->keep_alive) {
        return "Connection: close\r\n";
    }
    return request->parser.http_minor == 0 ? "Connection: keep-alive\r\n" : "";
}

/* An answer that is no file. Nothing that the client sent is repeated in it. */
static void answer_status(struct connection *connection, const struct request *request, int status)
{
    const char *const reason = http_status_str((enum http_status)status);
    const char *const allow =
        status == HTTP_STATUS_METHOD_NOT_ALLOWED ? "Allow: GET, HEAD\r\n" : "";
    char text[HEAD_SIZE / 4];
    char about_text[HEAD_SIZE / 4] = "";
    char head[HEAD_SIZE];
    int len = snprintf(text, sizeof(text), "%d %s\n", status, reason);

    if (status == HTTP_STATUS_NOT_MODIFIED) {
        text[0] = '\0';
    } else {
        snprintf(about_text, sizeof(about_text),
                 "Content-Type: text/plain\r\nContent-Length: %d\r\n", len);
    }
    len = snprintf(head, sizeof(head), "HTTP/1.1 %d %s\r\nDate: %s\r\n%s%s%s\r\n%s", status, reason,
                   server_of(connection)->files.date, allow, connection_field(request), about_text,
                   request_is_head(request) ? "" : text);
    send_text(connection, head, (size_t)len);
}

static void answer_whole(struct connection *connection, const struct request *request,
                         struct file *file)
{
    const char *const field = connection_field(request);
    const char *bytes = file->bytes;
    size_t len = file->head_len + 2;

    if (*field != '\0') { /* it goes before the empty line */
        send_text(connection, bytes, file->head_len);
        send_text(connection, field, strlen(field));
        bytes += file->head_len;
        len = 2;
    }
    if (request_is_head(request)) {
        send_text(connection, bytes, len);
    } else if (file->fd < 0 && file->size <= COPY_MAX) {
        send_text(connection, bytes, len + file->size);
    } else {
        send_text(connection, bytes, len);
        send_contents(connection, file, 0, file->size);
    }
}

static void answer_part(struct connection *connection, const struct request *request,
                        struct file *file, uint64_t from, uint64_t len)
{
    char head[HEAD_SIZE];
    const int head_len = snprintf(
        head, sizeof(head),
        "HTTP/1.1 206 Partial Content\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %" PRIu64
        "\r\nContent-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64
        "\r\nLast-Modified: %s\r\n%s\r\n",
        server_of(connection)->files.date, file->type, len, from, from + len - 1, file->size,
        file->modified, connection_field(request));

    send_text(connection, head, (size_t)head_len);
    send_contents(connection, file, from, len);
}

static void answer_beyond(struct connection *connection, const struct request *request,
                          const struct file *file)
{
    char head[HEAD_SIZE];
    const int len =
        snprintf(head, sizeof(head),
                 "HTTP/1.1 416 Range Not Satisfiable\r\nDate: %s\r\n"
                 "Content-Range: bytes */%" PRIu64 "\r\nContent-Length: 0\r\n%s\r\n",
                 server_of(connection)->files.date, file->size, connection_field(request));

    send_text(connection, head, (size_t)len);
}

/* Clients send back the date that they were given: nothing else needs to be understood. */
static int is_date_of(const struct request_text *text, const struct file *file)
{
    return text->len == FILES_DATE_LEN && memcmp(text->at, file->modified, FILES_DATE_LEN) == 0;
}

static void answer_file(struct connection *connection, const struct request *request,
                        struct file *file)
{
    uint64_t from;
    uint64_t len;
    enum range range = RANGE_NONE;

    if (is_date_of(&request->if_modified_since, file)) {
        answer_status(connection, request, HTTP_STATUS_NOT_MODIFIED);
        return;
    }
    if (request->range.len > 0 && !request_is_head(request) &&
        (request->if_range.at == NULL || is_date_of(&request->if_range, file))) {
        range = request_range(request, file->size, &from, &len);
    }
    switch (range) {
    case RANGE_NONE:
        answer_whole(connection, request, file);
        break;
    case RANGE_PART:
        answer_part(connection, request, file, from, len);
        break;
    case RANGE_BEYOND:
        answer_beyond(connection, request, file);
        break;
    }
}

/* Answers a request that makes sense. */
static void answer(struct connection *connection, const struct request *request)
{
    struct server *server = server_of(connection);
    const int is_get = request->parser.method == HTTP_GET || request_is_head(request);
    char path[REQUEST_PATH_SIZE];
    struct file *file = NULL;
    int rc = is_get ? request_path(request, path) : -HTTP_STATUS_METHOD_NOT_ALLOWED;

    connection->body_left = (uint32_t)request->body_len; /* at most REQUEST_BODY_MAX */
    connection->last = !request->keep_alive;
    files_set_time(&server->files, gyre_loop_now(server->loop));
    if (request->wants_continue && request->body_len > 0 && request->parser.http_minor > 0) {
        send_text(connection, "HTTP/1.1 100 Continue\r\n\r\n",
                  strlen("HTTP/1.1 100 Continue\r\n\r\n"));
    }
    if (rc >= 0) {
        rc = files_find(&server->files, path, (size_t)rc, &file);
    }
    if (rc < 0) {
        answer_status(connection, request, -rc);
    } else {
        answer_file(connection, request, file);
    }
    settle(connection);
}

/* Answers what is no request. Where the next one would begin is not known, so this is the end. */
static void refuse(struct connection *connection, struct request *request, int status)
{
    struct server *server = server_of(connection);

    files_set_time(&server->files, gyre_loop_now(server->loop));
    request->keep_alive = 0;
    connection->last = 1;
    answer_status(connection, request, status);
    settle(connection);
}

/* ---- receiving ---- */

/* What is known of a head that came whole, or is whole now, or never will be. */
static void take_head(struct connection *connection, struct request *request, int parsed)
{
    end_deadline(connection);
    if (parsed < 0) {
        refuse(connection, request, -parsed);
        return;
    }
    answer(connection, request);
    if (connection->body_left > 0 && !connection->closing && connection->transfer == NULL) {
        set_deadline(connection, server_of(connection)->head_timeout_ns);
    }
}

/* A head begins, but does not end, with these bytes. */
static void keep_partial(struct connection *connection, const char *data, size_t len)
{
    struct partial *partial = malloc(sizeof(*partial));

    if (partial == NULL) {
        abandon(connection);
        return;
    }
    memcpy(partial->bytes, data, len);
    partial->len = len;
    request_init(&partial->request);
    (void)request_parse(&partial->request, partial->bytes, len); /* as before: not whole yet */
    connection->partial = partial;
    set_deadline(connection, server_of(connection)->head_timeout_ns);
}

/* More of a head that came in pieces. Returns how many of the bytes belong to it. */
static size_t add_to_partial(struct connection *connection, const char *data, size_t len)
{
    struct partial *partial = connection->partial;
    const size_t before = partial->len;
    const size_t room = sizeof(partial->bytes) - before;
    const size_t added = len < room ? len : room;
    int parsed;

    memcpy(partial->bytes + before, data, added);
    partial->len += added;
    parsed = request_parse(&partial->request, partial->bytes, partial->len);
    if (parsed == 0) {
        return added;
    }
    connection->partial = NULL;
    take_head(connection, &partial->request, parsed);
    free(partial);
    return parsed < 0 ? len : (size_t)parsed - before;
}

/* Returns how many of the bytes belong to the head that they begin with, or go on with. */
static size_t receive_head(struct connection *connection, const char *data, size_t len)
{
    struct request request;
    int parsed;

    if (connection->partial != NULL) {
        return add_to_partial(connection, data, len);
    }
    request_init(&request);
    parsed = request_parse(&request, data, len);
    if (parsed == 0) {
        keep_partial(connection, data, len);
        return len;
    }
    take_head(connection, &request, parsed);
    return parsed < 0 ? len : (size_t)parsed;
}

static size_t skip_body(struct connection *connection, size_t len)
{
    const size_t skipped = len < connection->body_left ? len : connection->body_left;

    connection->body_left -= (uint32_t)skipped;
    if (connection->body_left == 0 && connection->transfer == NULL) {
        end_deadline(connection);
    }
    return skipped;
}

/* Whether the next request can be answered now: the answers before it are not too many. */
static int may_go_on(struct connection *connection)
{
    return connection->transfer == NULL && gyre_stream_writable(stream_of(connection));
}

/* Returns how many of the bytes are dealt with: all, unless the rest has to wait. */
static size_t receive(struct connection *connection, const char *data, size_t len)
{
    size_t used = 0;

    for (int requests = 0; used < len && !connection->last; requests++) {
        if (connection->body_left > 0) {
            used += skip_body(connection, len - used);
        } else if (requests < REQUESTS_PER_TURN && may_go_on(connection)) {
            used += receive_head(connection, data + used, len - used);
        } else {
            return used;
        }
    }
    return len;
}

/* ---- requests that have to wait ---- */

static void drop_rest(struct connection *connection)
{
    struct rest *rest = connection->rest;

    if (rest != NULL) {
        connection->rest = NULL;
        gyre_timer_stop(&rest->again);
        gyre_lease_release(&rest->lease);
        free(rest);
    }
}

/* Goes on if nothing is in the way: from on_drain(), after a file, in the next turn. */
static void continue_rest(struct connection *connection)
{
    struct rest *rest = connection->rest;

    if (rest == NULL || connection->closing) {
        return;
    }
    rest->used += receive(connection, (const char *)rest->lease.data + rest->used,
                          rest->lease.len - rest->used);
    if (rest->used == rest->lease.len) {
        drop_rest(connection);
        if (!connection->closing && gyre_stream_resume(stream_of(connection)) < 0) {
            abandon(connection);
        }
    } else if (may_go_on(connection)) {
        example_must(gyre_timer_start(&rest->again, 0), "timer"); /* the others first */
    }
}

static void on_again(struct gyre_timer *timer)
{
    struct rest *rest = gyre_container_of(timer, struct rest, again);
    struct connection *connection = rest->connection;

    continue_rest(connection);
    settle(connection);
}

/* Nothing more is read meanwhile, so TCP slows the client down. */
static void keep_rest(struct connection *connection, const struct gyre_lease *data, size_t used)
{
    struct rest *rest = malloc(sizeof(*rest));

    if (rest == NULL) {
        abandon(connection);
        return;
    }
    rest->connection = connection;
    rest->used = used;
    example_must(gyre_timer_init(&rest->again, server_of(connection)->loop, on_again), "timer");
    example_must(gyre_lease_retain(data, &rest->lease), "retain");
    connection->rest = rest;
    gyre_stream_pause(stream_of(connection));
    if (may_go_on(connection)) {
        example_must(gyre_timer_start(&rest->again, 0), "timer");
    }
}

/* ---- streams ---- */

static void on_open(struct gyre_stream *stream)
{
    struct connection *connection = gyre_stream_ext(stream);

    set_deadline(connection, server_of(connection)->head_timeout_ns);
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct connection *connection = gyre_stream_ext(stream);
    const size_t used = receive(connection, (const char *)data->data, data->len);

    if (used < data->len && !connection->closing) {
        keep_rest(connection, data, used);
    }
}

static void on_drain(struct gyre_stream *stream)
{
    struct connection *connection = gyre_stream_ext(stream);

    continue_rest(connection);
    settle(connection);
}

static void on_eof(struct gyre_stream *stream)
{
    struct connection *connection = gyre_stream_ext(stream);

    connection->ended = 1;
    settle(connection);
}

/* An idle connection is closed; one that takes too long for a head is told; else it is reset. */
static void on_timeout(struct gyre_stream *stream, enum gyre_stream_timeout which)
{
    struct connection *connection = gyre_stream_ext(stream);

    if (which == GYRE_TIMEOUT_WRITE || connection->transfer != NULL) {
        connection->closing = 1;
    } else if (connection->partial != NULL) {
        refuse(connection, &connection->partial->request, HTTP_STATUS_REQUEST_TIMEOUT);
    } else {
        connection->last = 1;
        settle(connection);
    }
}

static void on_close(struct gyre_stream *stream, int error)
{
    struct connection *connection = gyre_stream_ext(stream);

    (void)error;
    drop_rest(connection);
    free(connection->partial);
}

/* ---- the program ---- */

struct options {
    struct example_options common;
    const char *root;
    uint64_t head_timeout_ns;
    uint64_t idle_timeout_ns;
    uint32_t max_connections;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'r':
        options->root = text;
        return 0;
    case 't':
        options->head_timeout_ns = example_parse_number(state, text, 1, 3600) * GYRE_SEC;
        return 0;
    case 'k':
        options->idle_timeout_ns = example_parse_number(state, text, 1, 3600) * GYRE_SEC;
        return 0;
    case 'm':
        options->max_connections = (uint32_t)example_parse_number(state, text, 1, 1000000);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static struct options parse_options(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"root", 'r', "DIR", 0, "Directory with the files; without it there is one page", 0},
        {"head-timeout", 't', "SECONDS", 0, "For all of a request's head; default 10", 0},
        {"keep-alive", 'k', "SECONDS", 0, "Without a request; default 60", 0},
        {"max-connections", 'm', "N", 0, "At a time; default: what the descriptors allow", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .doc = "Serves files over HTTP/1.1.",
                                     .children = children};
    struct options options = {.head_timeout_ns = 10 * GYRE_SEC, .idle_timeout_ns = 60 * GYRE_SEC};

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    return options;
}

/* Files on their way still get where they should; nothing new is begun. */
static void end_connection(struct gyre_stream *stream, void *context)
{
    struct connection *connection = gyre_stream_ext(stream);

    (void)context;
    connection->last = 1;
    if (connection->transfer != NULL) {
        set_deadline(connection, STOP_TIMEOUT_NS);
    }
    settle(connection);
}

static void on_stop(void *context)
{
    struct server *server = context;

    example_must(gyre_listener_close(&server->listener), "close");
    gyre_listener_each(&server->listener, end_connection, NULL);
}

static void start(struct server *server, const struct options *options)
{
    const struct gyre_addr address = example_address(&options->common);
    const struct gyre_listener_options listener_options = {
        .handler = &server->handler,
        .ext_size = sizeof(struct connection),
        .on_close = example_listener_closed,
        .max_connections = options->max_connections,
    };

    server->head_timeout_ns = options->head_timeout_ns;
    server->handler = (struct gyre_stream_handler){
        .on_open = on_open,
        .on_data = on_data,
        .on_eof = on_eof,
        .on_drain = on_drain,
        .on_timeout = on_timeout,
        .on_close = on_close,
        .idle_timeout_ns = options->idle_timeout_ns,
        .write_timeout_ns = WRITE_TIMEOUT_NS,
        .close_timeout_ns = CLOSE_TIMEOUT_NS,
    };
    server->loop = example_loop_create(&options->common);
    example_must(gyre_listen_addr(server->loop, &server->listener, &address, &listener_options),
                 "listen");
}

int main(int argc, char **argv)
{
    const struct options options = parse_options(argc, argv);
    struct example_signals signals;
    struct server server;
    int rc;

    example_raise_fd_limit();
    rc = files_init(&server.files, options.root);
    if (rc < 0) {
        error(EXIT_FAILURE, -rc, "%s", options.root != NULL ? options.root : "files");
    }
    start(&server, &options);
    example_signals_start(&signals, server.loop, on_stop, &server);
    example_announce_listener(&server.listener);
    example_loop_run(server.loop);
    files_fini(&server.files);
    return EXIT_SUCCESS;
}
