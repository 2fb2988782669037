/*
 * A client that fetches one resource over HTTP/1.1 and writes it to a file or the standard output.
 *
 * A blocking client would connect, send, and read until it has everything, and hang where the
 * server does. Here every step is a callback, and every wait has a limit that the stream keeps by
 * itself: for the connection, for silence, and for all of it.
 *
 *     start --> on_open: the request leaves --> on_data: parsed, written --> on_close
 *        ^---------- the next address of the name, if this one does not answer ----+
 *
 * How long a body is, HTTP says in one of three ways (RFC 9112, section 6): by Content-Length, in
 * chunks, or by closing the connection. http_parser knows them all, so this program only has to say
 * when the connection has ended, and whether that was in time.
 *
 * A name is looked up before the loop starts, where blocking disturbs nobody.
 */
#include "common/common.h"

#include <errno.h>
#include <error.h>
#include <http_parser.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Exit statuses. */
enum {
    EXIT_USAGE = 1,     /* options, the URL, or the output file */
    EXIT_NETWORK = 2,   /* no such host, no connection, a timeout */
    EXIT_STATUS = 3,    /* the server answered with a status of 400 or above */
    EXIT_MALFORMED = 4, /* what came is no HTTP, is cut off, or exceeds the limit */
};

enum {
    NAME_SIZE = 256,
    PORT_SIZE = sizeof("65535"),
    REQUEST_SIZE = 8192,
    HEAD_MAX = 16 << 10, /* bytes of a head, of a chunk's first line, of a trailer */
};

#define CONNECT_TIMEOUT_NS (10 * GYRE_SEC)
#define CLOSE_TIMEOUT_NS   (1 * GYRE_SEC)

struct options {
    const char *url;
    const char *output; /* NULL: the standard output */
    uint64_t body_max;
    uint64_t idle_timeout_ns;
    uint64_t total_timeout_ns;
    struct example_options common;
};

struct url {
    char host[NAME_SIZE]; /* without the brackets of an IPv6 address */
    char port[PORT_SIZE];
    const char *path; /* with the query */
};

struct fetch {
    const struct options *options;
    struct url url;
    const struct addrinfo *address; /* the next to try */
    struct gyre_loop *loop;
    struct gyre_stream stream;
    struct gyre_stream_handler handler;
    struct example_signals signals;
    http_parser parser;
    FILE *output;
    uint64_t body_len;
    int is_open;
    int is_whole; /* the answer has come to its end */
    int status;   /* to exit with */
};

/* The first thing that goes wrong is the one to report. */
static void fail(struct fetch *fetch, int status, const char *what, const char *why)
{
    if (fetch->status == 0) {
        fetch->status = status;
        error(0, 0, "%s: %s", what, why);
    }
    fetch->is_whole = 1;
}

/* ---- the answer ---- */

static int on_head(http_parser *parser)
{
    struct fetch *fetch = parser->data;
    const struct options *options = fetch->options;

    if (parser->status_code < 200 || fetch->output != NULL) {
        return 0; /* an interim answer: the real one follows */
    }
    fetch->output = options->output == NULL ? stdout : fopen(options->output, "we");
    if (fetch->output == NULL) {
        fail(fetch, EXIT_USAGE, options->output, strerror(errno));
        return -1;
    }
    return 0;
}

/* Writing a file may block, which here holds up nobody but ourselves. */
static int on_body(http_parser *parser, const char *data, size_t len)
{
    struct fetch *fetch = parser->data;

    fetch->body_len += len;
    if (fetch->body_len > fetch->options->body_max) {
        fail(fetch, EXIT_MALFORMED, fetch->options->url, "the answer exceeds --max-bytes");
        return -1;
    }
    if (fwrite(data, 1, len, fetch->output) != len) {
        fail(fetch, EXIT_USAGE, "output", strerror(errno));
        return -1;
    }
    return 0;
}

static int on_whole(http_parser *parser)
{
    struct fetch *fetch = parser->data;

    if (parser->status_code >= 200) {
        fetch->is_whole = 1;
        http_parser_pause(parser, 1); /* what follows is not ours */
    }
    return 0;
}

/* @len 0: the server sends no more, which may be how the answer ends. */
static void parse(struct fetch *fetch, const char *data, size_t len)
{
    static const http_parser_settings settings = {
        .on_headers_complete = on_head,
        .on_body = on_body,
        .on_message_complete = on_whole,
    };
    enum http_errno problem;

    if (!fetch->is_whole) {
        http_parser_execute(&fetch->parser, &settings, data, len);
    }
    problem = HTTP_PARSER_ERRNO(&fetch->parser);
    if (!fetch->is_whole && (problem != HPE_OK || fetch->parser.upgrade)) {
        fail(fetch, EXIT_MALFORMED, "not HTTP/1.1",
             problem != HPE_OK ? http_errno_description(problem) : "another protocol follows");
    } else if (!fetch->is_whole && len == 0) {
        fail(fetch, EXIT_MALFORMED, "cut off", "the server closed the connection too early");
    }
    if (fetch->is_whole) {
        gyre_stream_close(&fetch->stream);
    }
}

/* ---- the stream ---- */

static struct fetch *fetch_of(struct gyre_stream *stream)
{
    return gyre_container_of(stream, struct fetch, stream);
}

static void on_open(struct gyre_stream *stream)
{
    struct fetch *fetch = fetch_of(stream);
    const struct url *url = &fetch->url;
    const int is_ipv6 = strchr(url->host, ':') != NULL;
    char request[REQUEST_SIZE];
    const int len =
        snprintf(request, sizeof(request),
                 "GET %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nUser-Agent: gyre-http-get\r\n"
                 "Accept: */*\r\nConnection: close\r\n\r\n",
                 url->path, is_ipv6 ? "[" : "", url->host, is_ipv6 ? "]" : "", url->port);

    fetch->is_open = 1;
    example_must(gyre_stream_write(stream, request, (size_t)len), "write");
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    parse(fetch_of(stream), (const char *)data->data, data->len);
}

static void on_eof(struct gyre_stream *stream)
{
    parse(fetch_of(stream), NULL, 0);
}

static void connect_next(struct fetch *fetch);

static void on_close(struct gyre_stream *stream, int error)
{
    struct fetch *fetch = fetch_of(stream);

    if (!fetch->is_open && fetch->status == 0 && fetch->address != NULL) {
        connect_next(fetch);
        return;
    }
    if (!fetch->is_whole) {
        fail(fetch, EXIT_NETWORK, fetch->options->url, gyre_strerror(error));
    }
    example_signals_end(&fetch->signals);
}

/* A name may have several addresses, of kinds that this machine may not even know. */
static void connect_next(struct fetch *fetch)
{
    int rc = -EADDRNOTAVAIL;

    while (fetch->address != NULL && rc < 0) {
        struct gyre_addr to = {.len = fetch->address->ai_addrlen};

        memcpy(&to.storage, fetch->address->ai_addr, to.len);
        fetch->address = fetch->address->ai_next;
        rc = gyre_stream_connect(&fetch->stream, fetch->loop, &to, &fetch->handler);
    }
    if (rc < 0) {
        fail(fetch, EXIT_NETWORK, fetch->options->url, gyre_strerror(rc));
        example_signals_end(&fetch->signals);
    }
}

static void on_stop(void *context)
{
    struct fetch *fetch = context;

    fail(fetch, EXIT_NETWORK, fetch->options->url, "interrupted");
    gyre_stream_reset(&fetch->stream);
}

/* Returns the status to exit with. */
static int run(struct fetch *fetch)
{
    fetch->handler = (struct gyre_stream_handler){
        .on_open = on_open,
        .on_data = on_data,
        .on_eof = on_eof,
        .on_close = on_close,
        .connect_timeout_ns = CONNECT_TIMEOUT_NS,
        .idle_timeout_ns = fetch->options->idle_timeout_ns,
        .total_timeout_ns = fetch->options->total_timeout_ns,
        .close_timeout_ns = CLOSE_TIMEOUT_NS,
    };
    http_parser_set_max_header_size(HEAD_MAX);
    http_parser_init(&fetch->parser, HTTP_RESPONSE);
    fetch->parser.data = fetch;
    fetch->loop = example_loop_create(&fetch->options->common);
    example_signals_start(&fetch->signals, fetch->loop, on_stop, fetch);
    connect_next(fetch);
    example_loop_run(fetch->loop);
    if (fetch->output != NULL && fclose(fetch->output) != 0) {
        fail(fetch, EXIT_USAGE, "output", strerror(errno));
    }
    return fetch->status == 0 && fetch->parser.status_code >= 400 ? EXIT_STATUS : fetch->status;
}

/* ---- the URL ---- */

/* A copy of a part of the URL. Returns its length, 0 if there is none or it is too long. */
static size_t copy_part(const char *text, const struct http_parser_url *parts,
                        enum http_parser_url_fields part, char *out, size_t size)
{
    const size_t len = parts->field_data[part].len;

    if (!(parts->field_set & 1u << part) || len == 0 || len >= size) {
        return 0;
    }
    memcpy(out, text + parts->field_data[part].off, len);
    out[len] = '\0';
    return len;
}

/*
 * Only http, and only characters that may be in a request line: a line break in a URL would begin
 * a header field of its own.
 */
static void parse_url(const char *text, struct url *out_url)
{
    struct http_parser_url parts;
    char scheme[sizeof("http")];
    const size_t len = strlen(text);

    for (size_t i = 0; i < len; i++) {
        if (text[i] <= ' ' || text[i] >= 0x7f || text[i] == '#') {
            error(EXIT_USAGE, 0, "'%s': a character that has to be percent-encoded", text);
        }
    }
    http_parser_url_init(&parts);
    if (len > REQUEST_SIZE / 2 || http_parser_parse_url(text, len, 0, &parts) != 0 ||
        !copy_part(text, &parts, UF_SCHEMA, scheme, sizeof(scheme)) ||
        strcmp(scheme, "http") != 0 || parts.field_set & 1u << UF_USERINFO ||
        !copy_part(text, &parts, UF_HOST, out_url->host, sizeof(out_url->host))) {
        error(EXIT_USAGE, 0, "'%s' is not of the form http://HOST[:PORT]/PATH", text);
    }
    if (!copy_part(text, &parts, UF_PORT, out_url->port, sizeof(out_url->port))) {
        memcpy(out_url->port, "80", sizeof("80"));
    }
    out_url->path = parts.field_set & 1u << UF_PATH ? text + parts.field_data[UF_PATH].off : "/";
}

/* ---- the program ---- */

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'o':
        options->output = text;
        return 0;
    case 'm':
        options->body_max = example_parse_number(state, text, 0, UINT64_MAX);
        return 0;
    case 'i':
        options->idle_timeout_ns = example_parse_number(state, text, 1, 86400) * GYRE_SEC;
        return 0;
    case 't':
        options->total_timeout_ns = example_parse_number(state, text, 1, 86400) * GYRE_SEC;
        return 0;
    case ARGP_KEY_ARG:
        if (options->url != NULL) {
            argp_error(state, "one URL at a time");
        }
        options->url = text;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a URL is needed");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *out_options)
{
    static const struct argp_option own[] = {
        {"output", 'o', "FILE", 0, "Write the body there, not to the standard output", 0},
        {"max-bytes", 'm', "N", 0, "Of the body; default 1 GiB", 0},
        {"idle-timeout", 'i', "SECONDS", 0, "Without a byte either way; default 10", 0},
        {"timeout", 't', "SECONDS", 0, "For the request and its answer; default 60", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_backend_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = own,
        .parser = parse_option,
        .args_doc = "http://HOST[:PORT]/PATH",
        .doc =
            "Fetches one resource over HTTP/1.1.\vExit status: 0 when it has come whole, 1 usage "
            "or output, 2 network, 3 an HTTP status of 400 or above, 4 a malformed answer or "
            "one that is too long.",
        .children = children,
    };

    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&argp, argc, argv, 0, NULL, out_options);
}

int main(int argc, char **argv)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct options options = {
        .body_max = 1u << 30, .idle_timeout_ns = 10 * GYRE_SEC, .total_timeout_ns = 60 * GYRE_SEC};
    struct fetch fetch = {.options = &options};
    struct addrinfo *addresses = NULL;
    int rc;

    parse_options(argc, argv, &options);
    parse_url(options.url, &fetch.url);
    rc = getaddrinfo(fetch.url.host, fetch.url.port, &hints, &addresses);
    if (rc != 0) {
        error(EXIT_NETWORK, 0, "%s: %s", fetch.url.host, gai_strerror(rc));
    }
    fetch.address = addresses;
    rc = run(&fetch);
    freeaddrinfo(addresses);
    return rc;
}
