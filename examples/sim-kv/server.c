/*
 * The server: a loop, a listener, signals, and what comes in. A connection is always in one of three
 * states, which is all that has to be kept between two receives, wherever these cut the requests:
 *
 *     LINE --SET--> VALUE --all bytes are there--> NEWLINE --stored, answered--> LINE
 *       '--GET, DELETE: answered--> LINE
 *
 * The bytes of a value go straight into an entry that the store does not know yet. It gets it when it
 * is complete.
 *
 * A client that asks for much and reads little would have its replies pile up. When the queue is
 * long the server stops in the middle of what it has received, keeps the rest, does not read on, and
 * goes on when the queue is short again. So what a client can make the server hold is bounded: one
 * receive, one value on its way in, and write_high and one value on their way out.
 *
 * The planted bug is an optimisation: a value of the same length as the one that the key has is
 * received into that one's memory. It needs no allocation, and it passes every test in which a value
 * arrives in one piece, or nobody asks for it meanwhile.
 */
#include "sim-kv/server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

enum {
    LINE_MAX_LEN = 96, /* "DELETE ", a key, and more than enough for a length */
    QUEUE_LEN = 65536, /* replies; above it no requests are carried out */
};

enum session_state { SESSION_LINE, SESSION_VALUE, SESSION_NEWLINE };

/* What the server knows of a connection; it lies behind the stream. */
struct session {
    enum session_state state;
    uint32_t line_len;
    uint32_t value_len;
    char line[LINE_MAX_LEN];
    struct kv_entry *entry; /* the value that is being received */
    struct gyre_lease rest; /* received and not looked at, while replies wait */
    size_t rest_at;
};

static struct kv_server *server_of(const struct gyre_stream *stream)
{
    return gyre_container_of(gyre_stream_listener(stream), struct kv_server, listener);
}

/* ---- replies ---- */

/* A reply that cannot be queued whole leaves the peer with half of one: only a reset is honest. */
static void reply(struct gyre_stream *stream, const char *text)
{
    if (gyre_stream_write(stream, text, strlen(text)) < 0) {
        gyre_stream_reset(stream);
    }
}

static void refuse(struct gyre_stream *stream, const char *text)
{
    reply(stream, text);
    gyre_stream_close(stream);
}

static void release_entry(void *context)
{
    kv_entry_put(context);
}

static void reply_value(struct gyre_stream *stream, struct kv_entry *entry)
{
    char head[32];

    snprintf(head, sizeof(head), "VALUE %u\n", entry->value_len);
    reply(stream, head);
    if (entry->value_len > 0) {
        kv_entry_hold(entry);
        if (gyre_stream_write_ref(stream, entry->value, entry->value_len, release_entry, entry) <
            0) {
            kv_entry_put(entry);
            gyre_stream_reset(stream);
        }
    }
    reply(stream, "\n");
}

/* ---- requests ---- */

struct words {
    const char *text[3];
    size_t len[3];
    int count;
};

/* One space between words, none before and behind; 0: not so. */
static int split(const char *line, size_t len, struct words *out_words)
{
    size_t begin = 0;

    out_words->count = 0;
    for (size_t i = 0; i <= len; i++) {
        if (i < len && line[i] != ' ') {
            if (line[i] < '!' || line[i] > '~') {
                return 0;
            }
            continue;
        }
        if (i == begin || out_words->count == 3) {
            return 0;
        }
        out_words->text[out_words->count] = line + begin;
        out_words->len[out_words->count++] = i - begin;
        begin = i + 1;
    }
    return 1;
}

/* A length in decimal, at most KV_VALUE_MAX, or -1. */
static long length_of(const char *text, size_t len)
{
    long number = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return -1;
        }
        number = 10 * number + (text[i] - '0');
        if (number > KV_VALUE_MAX) {
            return -1;
        }
    }
    return number;
}

/* The memory that a value is received into. */
static struct kv_entry *entry_for(const struct kv_server *server, const struct words *words,
                                  size_t len)
{
    struct kv_entry *old = kv_store_find(&server->store, words->text[1], words->len[1]);

    if (server->planted_bug && old != NULL && old->value_len == len) {
        kv_entry_hold(old);
        return old;
    }
    return kv_entry_new(words->text[1], words->len[1], len);
}

static void begin_set(struct gyre_stream *stream, struct session *session,
                      const struct words *words)
{
    const long len = length_of(words->text[2], words->len[2]);

    if (len < 0) {
        refuse(stream, "ERROR the length of a value is 0 to 16384\n");
        return;
    }
    session->entry = entry_for(server_of(stream), words, (size_t)len);
    if (session->entry == NULL) {
        refuse(stream, "ERROR out of memory\n");
        return;
    }
    session->value_len = 0;
    session->state = len > 0 ? SESSION_VALUE : SESSION_NEWLINE;
}

static int is_word(const struct words *words, int count, const char *name)
{
    return words->count == count && words->len[0] == strlen(name) &&
           memcmp(words->text[0], name, words->len[0]) == 0;
}

static void carry_out(struct gyre_stream *stream, struct session *session)
{
    struct kv_store *store = &server_of(stream)->store;
    struct kv_entry *entry;
    struct words words;

    if (!split(session->line, session->line_len, &words)) {
        refuse(stream, "ERROR this is not a request\n");
    } else if (words.count > 1 && words.len[1] > KV_KEY_MAX) {
        refuse(stream, "ERROR a key has at most 64 characters\n");
    } else if (is_word(&words, 3, "SET")) {
        begin_set(stream, session, &words);
    } else if (is_word(&words, 2, "DELETE")) {
        reply(stream, kv_store_delete(store, words.text[1], words.len[1]) ? "OK\n" : "NONE\n");
    } else if (is_word(&words, 2, "GET")) {
        entry = kv_store_find(store, words.text[1], words.len[1]);
        if (entry != NULL) {
            reply_value(stream, entry);
        } else {
            reply(stream, "NONE\n");
        }
    } else {
        refuse(stream, "ERROR this is not a request\n");
    }
    session->line_len = 0;
}

static void end_set(struct gyre_stream *stream, struct session *session)
{
    const int rc = kv_store_set(&server_of(stream)->store, session->entry);

    kv_entry_put(session->entry);
    session->entry = NULL;
    session->state = SESSION_LINE;
    reply(stream, rc < 0 ? "FULL\n" : "OK\n");
}

/* Each of these takes what it can of the bytes, at least one, and returns how many. */
static size_t take_line(struct gyre_stream *stream, struct session *session,
                        const unsigned char *data, size_t len)
{
    const unsigned char *end = memchr(data, '\n', len);
    const size_t part = end != NULL ? (size_t)(end - data) : len;

    if (part > sizeof(session->line) - session->line_len) {
        refuse(stream, "ERROR the line is too long\n");
        return len;
    }
    memcpy(session->line + session->line_len, data, part);
    session->line_len += (uint32_t)part;
    if (end == NULL) {
        return len;
    }
    carry_out(stream, session);
    return part + 1;
}

static size_t take_value(struct session *session, const unsigned char *data, size_t len)
{
    const size_t missing = session->entry->value_len - session->value_len;
    const size_t part = len < missing ? len : missing;

    memcpy(session->entry->value + session->value_len, data, part);
    session->value_len += (uint32_t)part;
    if (part == missing) {
        session->state = SESSION_NEWLINE;
    }
    return part;
}

static size_t take_newline(struct gyre_stream *stream, struct session *session,
                           const unsigned char *data)
{
    if (*data == '\n') {
        end_set(stream, session);
    } else {
        refuse(stream, "ERROR the value is longer than was said\n");
    }
    return 1;
}

static size_t take(struct gyre_stream *stream, const unsigned char *data, size_t len)
{
    struct session *session = gyre_stream_ext(stream);

    switch (session->state) {
    case SESSION_VALUE:
        return take_value(session, data, len);
    case SESSION_NEWLINE:
        return take_newline(stream, session, data);
    default:
        return take_line(stream, session, data, len);
    }
}

/* ---- the stream ---- */

/* Carries out requests as long as replies have room; returns how far it came. It also stops when the
 * stream is not open any more. */
static size_t take_all(struct gyre_stream *stream, const struct gyre_lease *data, size_t at)
{
    while (at < data->len && gyre_stream_writable(stream)) {
        at += take(stream, data->data + at, data->len - at);
    }
    return at;
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct session *session = gyre_stream_ext(stream);

    session->rest_at = take_all(stream, data, 0);
    if (session->rest_at < data->len && gyre_stream_pause(stream) == 0 &&
        gyre_lease_retain(data, &session->rest) < 0) {
        gyre_stream_reset(stream);
    }
}

static void on_drain(struct gyre_stream *stream)
{
    struct session *session = gyre_stream_ext(stream);

    session->rest_at = take_all(stream, &session->rest, session->rest_at);
    if (session->rest_at == session->rest.len) {
        gyre_lease_release(&session->rest);
        session->rest_at = 0;
        if (gyre_stream_resume(stream) == -ENOMEM) {
            gyre_stream_reset(stream);
        }
    }
}

static void on_close(struct gyre_stream *stream, int error)
{
    struct session *session = gyre_stream_ext(stream);

    (void)error;
    gyre_lease_release(&session->rest);
    if (session->entry != NULL) {
        kv_entry_put(session->entry);
    }
}

static const struct gyre_stream_handler handler = {
    .on_data = on_data,
    .on_drain = on_drain,
    .on_close = on_close,
    .idle_timeout_ns = 60 * GYRE_SEC,
    .write_timeout_ns = 20 * GYRE_SEC,
    .close_timeout_ns = 5 * GYRE_SEC,
    .write_high = QUEUE_LEN,
};

/* ---- begin and end ---- */

/* No new connections; those that are open get what is queued for them, and end. */
static void on_signal(struct gyre_signal *watcher, const struct signalfd_siginfo *info)
{
    struct kv_server *server = gyre_container_of(watcher, struct kv_server, signals);

    (void)info;
    gyre_listener_drain(&server->listener);
    gyre_signal_close(watcher, NULL);
}

/* Also when it has ended by itself, because the kernel had no memory for it: then nothing can wait
 * for signals any more, or the program would go on and serve nobody. */
static void on_listener_close(struct gyre_listener *listener, int error)
{
    struct kv_server *server = gyre_container_of(listener, struct kv_server, listener);

    server->error = error;
    gyre_signal_close(&server->signals, NULL);
}

static int listen_on(struct kv_server *server, struct gyre_loop *loop)
{
    const struct gyre_listener_options options = {
        .handler = &handler,
        .ext_size = sizeof(struct session),
        .on_close = on_listener_close,
        .max_connections = server->clients_max != 0 ? server->clients_max : 1000,
    };
    struct gyre_addr address;
    int rc = gyre_listen_addr(loop, &server->listener, &server->address, &options);

    if (rc < 0) {
        return rc;
    }
    rc = gyre_listener_address(&server->listener, &address);
    if (rc < 0) {
        gyre_listener_close(&server->listener);
    } else if (server->on_ready != NULL) {
        server->on_ready(&address);
    }
    return rc;
}

static int start(struct kv_server *server, struct gyre_loop *loop)
{
    sigset_t set;
    int rc;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    rc = gyre_signal_block(&set);
    rc = rc < 0 ? rc : gyre_signal_start(&server->signals, loop, &set, on_signal);
    if (rc < 0) {
        return rc;
    }
    rc = listen_on(server, loop);
    if (rc < 0) {
        gyre_signal_close(&server->signals, NULL);
    }
    return rc;
}

int kv_server_run(struct kv_server *server)
{
    struct gyre_loop *loop;
    int started;
    int rc = gyre_loop_create(&loop, &server->loop_options);

    if (rc < 0) {
        return rc;
    }
    server->error = 0;
    kv_store_init(&server->store, server->keys_max != 0 ? server->keys_max : 100000,
                  server->bytes_max != 0 ? server->bytes_max : 64u << 20);
    started = start(server, loop);
    rc = gyre_loop_run(loop, GYRE_RUN_DEFAULT); /* also what failed has something to close */
    kv_store_end(&server->store);
    gyre_loop_destroy(loop);
    return started < 0 ? started : rc < 0 ? rc : server->error;
}
