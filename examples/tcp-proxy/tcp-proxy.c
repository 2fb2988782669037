/*
 * A TCP proxy: for each client it opens a connection to the target, and carries bytes both ways.
 *
 * A blocking proxy needs two threads for each client, one for each direction, and each of them does
 * read(), write(), read() ... What slows such a thread down is what must slow a proxy down: while
 * the receiver takes nothing, write() waits, so nothing is read, and TCP tells the sender to wait.
 * Without threads nothing waits by itself, and a proxy that reads on fills its memory instead.
 * gyre_stream_couple() puts this back: while one stream's queue is full, the other is not read.
 *
 *     client --on_data()--> queue of the server's stream --> server        and the same way back
 *       ^------------- not read while that is full
 *
 * The bytes are not copied: what was received (a lease) is sent from where it lies. So they lie in
 * the loop's receive pool, which all tunnels share. A tunnel holds at most twice --cap, and there
 * are never more tunnels than fit in the pool, so that tunnels which stand still, however many,
 * leave room for the others.
 *
 * TCP ends each direction on its own. Some protocols need that: a client says all it has to say,
 * ends its direction, and then reads the answer. So the end of what one side sends is passed on
 * as such (gyre_stream_shutdown()), and the tunnel ends when both sides have ended.
 */
#include "common/common.h"
#include "proxy-protocol.h"

#include <errno.h>
#include <error.h>
#include <stdlib.h>

#define KIB ((size_t)1024)
#define MIB (1024 * KIB)

enum { CLIENT, SERVER, SIDES };

static const size_t pool_block = 64 * KIB; /* no receive is larger */
static const size_t pool_max = 64 * MIB;

struct proxy {
    struct gyre_listener listener;
    struct gyre_stream_handler handlers[SIDES];
    struct gyre_addr target;
    int protocol_version; /* 0: no header */
};

struct tunnel {
    struct proxy *proxy;
    struct gyre_stream *streams[SIDES]; /* NULL: has ended */
    int has_sent_all[SIDES];
    int connected;
    struct gyre_stream server;
};

/* A client's stream keeps a pointer to its tunnel, the server's is part of it. */
static struct tunnel *tunnel_of_client(struct gyre_stream *stream)
{
    struct tunnel **place = gyre_stream_ext(stream);

    return *place;
}

static struct tunnel *tunnel_of_server(struct gyre_stream *stream)
{
    return gyre_container_of(stream, struct tunnel, server);
}

/* ---- both directions ---- */

static void reset_tunnel(struct tunnel *tunnel)
{
    for (int side = 0; side < SIDES; side++) {
        if (tunnel->streams[side] != NULL) {
            gyre_stream_reset(tunnel->streams[side]);
        }
    }
}

/* What is queued still leaves. */
static void close_tunnel(struct tunnel *tunnel)
{
    for (int side = 0; side < SIDES; side++) {
        if (tunnel->streams[side] != NULL) {
            gyre_stream_close(tunnel->streams[side]);
        }
    }
}

static void carry(struct tunnel *tunnel, int from, const struct gyre_lease *data)
{
    struct gyre_stream *to = tunnel->streams[!from];
    int rc = to == NULL ? -EPIPE : gyre_stream_forward(to, data);

    /* -EPIPE: that side takes no more. It may have sent something before, which is still to come
     * and to be passed on; then its end will tell. */
    if (rc < 0 && rc != -EPIPE) {
        reset_tunnel(tunnel);
    }
}

static void end_direction(struct tunnel *tunnel, int from)
{
    tunnel->has_sent_all[from] = 1;
    if (tunnel->has_sent_all[!from]) {
        close_tunnel(tunnel);
    } else if (tunnel->streams[!from] != NULL) {
        gyre_stream_shutdown(tunnel->streams[!from]);
    }
}

/*
 * One side is gone. If it was an error, the other side is reset, for it must not take what it has
 * got for everything. Not so when the end had been passed on before: a server that answers and does
 * not want the rest of a question resets what is still sent to it, and the answer is whole. Nor if
 * the target could not be reached: then nothing was sent.
 */
static void end_side(struct tunnel *tunnel, int side, int error)
{
    struct gyre_stream *other = tunnel->streams[!side];

    tunnel->streams[side] = NULL;
    if (other == NULL) {
        free(tunnel);
    } else if (error < 0 && tunnel->connected && !tunnel->has_sent_all[side]) {
        gyre_stream_reset(other);
    } else {
        gyre_stream_close(other);
    }
}

/* ---- the server's side ---- */

static void on_server_open(struct gyre_stream *stream)
{
    tunnel_of_server(stream)->connected = 1;
}

static void on_server_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    carry(tunnel_of_server(stream), SERVER, data);
}

static void on_server_eof(struct gyre_stream *stream)
{
    end_direction(tunnel_of_server(stream), SERVER);
}

static void on_server_close(struct gyre_stream *stream, int error)
{
    end_side(tunnel_of_server(stream), SERVER, error);
}

/* ---- the client's side ---- */

/* Says to the server who the client is, ahead of what the client sends. */
static int write_header(struct gyre_stream *client, struct gyre_stream *server, int version)
{
    uint8_t header[PROXY_HEADER_MAX];
    struct gyre_addr from;
    struct gyre_addr to;
    int rc = gyre_addr_peer(gyre_stream_number(client), &from);

    if (rc == 0) {
        rc = gyre_addr_local(gyre_stream_number(client), &to);
    }
    if (rc < 0) {
        return rc; /* the client is gone already */
    }
    gyre_addr_unmap(&from);
    gyre_addr_unmap(&to);
    return gyre_stream_write(server, header, proxy_header(version, &from, &to, header));
}

static int open_server(struct tunnel *tunnel, struct gyre_stream *client)
{
    struct proxy *proxy = tunnel->proxy;
    struct gyre_stream *server = &tunnel->server;
    int rc = gyre_stream_connect(server, gyre_stream_loop(client), &proxy->target,
                                 &proxy->handlers[SERVER]);

    if (rc < 0) {
        return rc;
    }
    tunnel->streams[SERVER] = server;
    if (proxy->protocol_version != 0) {
        rc = write_header(client, server, proxy->protocol_version);
    }
    return rc < 0 ? rc : gyre_stream_couple(client, server);
}

/* The server's stream takes bytes from now on; they leave when it is connected. */
static void on_client_open(struct gyre_stream *stream)
{
    struct gyre_listener *listener = gyre_stream_listener(stream);
    struct tunnel **place = gyre_stream_ext(stream);
    struct tunnel *tunnel = calloc(1, sizeof(*tunnel));

    if (tunnel == NULL) {
        gyre_stream_reset(stream);
        return;
    }
    *place = tunnel;
    tunnel->proxy = gyre_container_of(listener, struct proxy, listener);
    tunnel->streams[CLIENT] = stream;
    if (open_server(tunnel, stream) < 0) {
        reset_tunnel(tunnel);
    }
}

static void on_client_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    carry(tunnel_of_client(stream), CLIENT, data);
}

static void on_client_eof(struct gyre_stream *stream)
{
    end_direction(tunnel_of_client(stream), CLIENT);
}

static void on_client_close(struct gyre_stream *stream, int error)
{
    struct tunnel *tunnel = tunnel_of_client(stream);

    if (tunnel != NULL) { /* NULL: there was no memory for one */
        end_side(tunnel, CLIENT, error);
    }
}

/* ---- the program ---- */

struct options {
    struct example_options common;
    const char *target;
    int protocol_version;
    uint32_t cap;
    uint64_t idle_ns;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'l':
        options->common.port = (uint16_t)example_parse_number(state, text, 0, UINT16_MAX);
        return 0;
    case 't':
        options->target = text;
        return 0;
    case 'P':
        options->protocol_version = (int)example_parse_number(state, text, 1, 2);
        return 0;
    case 'c':
        options->cap = (uint32_t)example_parse_number(state, text, 2 * pool_block, pool_max / 2);
        return 0;
    case 'i':
        options->idle_ns = example_parse_number(state, text, 1, 86400) * GYRE_SEC;
        return 0;
    case ARGP_KEY_END:
        if (options->target == NULL) {
            argp_error(state, "--target is missing");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_option own[] = {
        {"listen", 'l', "PORT", 0, "The same as --port", 0},
        {"target", 't', "ADDRESS", 0, "Where to: 127.0.0.1:80, [::1]:80, unix:/run/a.sock", 0},
        {"proxy-protocol", 'P', "1|2", 0, "Tell the target first who the client is", 0},
        {"cap", 'c', "BYTES", 0, "Hold at most so much in each direction (default 128 KiB)", 0},
        {"idle", 'i', "SECONDS", 0, "End a tunnel in which nothing moves (default 300)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .doc = "Carries TCP connections to another address.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
}

static void set_handlers(struct proxy *proxy, const struct options *options)
{
    const struct gyre_stream_handler limits = {
        .connect_timeout_ns = 10 * GYRE_SEC,
        .idle_timeout_ns = options->idle_ns,
        .close_timeout_ns = 5 * GYRE_SEC,
        .write_high = options->cap - (uint32_t)pool_block, /* and one receive more */
        .write_cap = options->cap,
    };
    struct gyre_stream_handler *client = &proxy->handlers[CLIENT];
    struct gyre_stream_handler *server = &proxy->handlers[SERVER];

    *client = limits;
    client->on_open = on_client_open;
    client->on_data = on_client_data;
    client->on_eof = on_client_eof;
    client->on_close = on_client_close;
    *server = limits;
    server->on_open = on_server_open;
    server->on_data = on_server_data;
    server->on_eof = on_server_eof;
    server->on_close = on_server_close;
}

static void stop_tunnel(struct gyre_stream *stream, void *context)
{
    struct tunnel *tunnel = tunnel_of_client(stream);

    (void)context;
    if (tunnel != NULL) {
        close_tunnel(tunnel);
    }
}

static void on_stop(void *context)
{
    struct proxy *proxy = context;

    example_must(gyre_listener_close(&proxy->listener), "close");
    gyre_listener_each(&proxy->listener, stop_tunnel, NULL);
}

int main(int argc, char **argv)
{
    struct options options = {.cap = 128 * KIB, .idle_ns = 300 * GYRE_SEC};
    struct gyre_listener_options listener_options = {.ext_size = sizeof(struct tunnel *),
                                                     .on_close = example_listener_closed};
    struct proxy proxy;
    struct example_signals signals;
    struct gyre_addr address;
    struct gyre_loop *loop;

    parse_options(argc, argv, &options);
    if (gyre_addr_parse(options.target, &proxy.target) < 0) {
        error(EXIT_FAILURE, 0, "target '%s' is not an address with a port", options.target);
    }
    proxy.protocol_version = options.protocol_version;
    set_handlers(&proxy, &options);
    listener_options.handler = &proxy.handlers[CLIENT];
    listener_options.max_connections = (uint32_t)(pool_max / (2 * options.cap));
    options.common.loop.pool_block = pool_block;
    options.common.loop.pool_max = pool_max;
    options.common.loop.pool_quota = options.cap;
    example_raise_fd_limit();
    address = example_address(&options.common);
    loop = example_loop_create(&options.common);
    example_must(gyre_listen_addr(loop, &proxy.listener, &address, &listener_options), "listen");
    example_signals_start(&signals, loop, on_stop, &proxy);
    example_announce_listener(&proxy.listener);
    example_loop_run(loop);
    return EXIT_SUCCESS;
}
