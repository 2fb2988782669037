/*
 * A chat room over TCP: what a member writes goes to all others, line by line. Try it with two or
 * three terminals and nc; the first line a member sends is its name.
 *
 * With blocking sockets one member who does not read would stop the thread that writes to it, and
 * with it everybody who waits for that thread. Here a write only queues, so nobody waits. But what
 * is queued for a member who never reads must end somewhere: each queue has a cap, at which
 * gyre_stream_write() refuses (-ENOBUFS), and the room then drops this one member. That is the
 * choice to make in every server that sends to many: lose a message, lose the member, or let the
 * slowest set the pace for all.
 *
 * Bytes of one member end up on the terminals of others, so control characters are taken out: a
 * member cannot move somebody's cursor, or write a line that looks like another member's.
 */
#include "common/common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MEMBERS_MAX = 1000,
    NAME_MAX_LEN = 24,
    LINE_MAX_LEN = 500, /* as sent by a member, without the newline */
    MESSAGE_SIZE = NAME_MAX_LEN + LINE_MAX_LEN + sizeof(": \n"),
    CAP_DEFAULT = 256 * 1024,
};

/* Kept with each stream, zeroed when it opens. */
struct member {
    char name[NAME_MAX_LEN + 1]; /* "": has not said it yet, and is not in the room */
    uint16_t line_len;
    uint16_t too_slow;
    char line[LINE_MAX_LEN];
};

struct message {
    const struct gyre_stream *from; /* who does not get it */
    const char *text;
    size_t len;
};

/* ---- to all others ---- */

static void send_to(struct gyre_stream *stream, void *context)
{
    const struct message *message = context;
    struct member *member = gyre_stream_ext(stream);

    if (stream == message->from || member->name[0] == '\0') {
        return;
    }
    /* Other errors mean that the member is leaving already. */
    if (gyre_stream_write(stream, message->text, message->len) == -ENOBUFS) {
        member->too_slow = 1;
        gyre_stream_reset(stream);
    }
}

static void broadcast(struct gyre_stream *from, const char *text, int len)
{
    struct message message = {.from = from, .text = text, .len = (size_t)len};

    gyre_listener_each(gyre_stream_listener(from), send_to, &message);
}

/* A line about a member. */
static void announce(struct gyre_stream *stream, const char *what)
{
    const struct member *member = gyre_stream_ext(stream);
    char text[MESSAGE_SIZE];

    broadcast(stream, text, snprintf(text, sizeof(text), "* %s %s\n", member->name, what));
}

/* The line that a member has written. */
static void pass_on(struct gyre_stream *stream, size_t len)
{
    const struct member *member = gyre_stream_ext(stream);
    char text[MESSAGE_SIZE];

    broadcast(stream, text,
              snprintf(text, sizeof(text), "%s: %.*s\n", member->name, (int)len, member->line));
}

/* ---- one member ---- */

static void say(struct gyre_stream *stream, const char *text)
{
    if (gyre_stream_write(stream, text, strlen(text)) < 0) {
        gyre_stream_reset(stream);
    }
}

/* A last word, then the end; what is queued still leaves. Nothing is called back but on_close(). */
static void dismiss(struct gyre_stream *stream, const char *why)
{
    say(stream, why);
    gyre_stream_close(stream);
}

/* Control characters do not get into the line: those of ASCII, and those that UTF-8 writes as
 * C2 80 .. C2 9F. */
static int is_wanted(const struct member *member, unsigned char byte)
{
    const int after_c2 = member->line_len > 0 && member->line[member->line_len - 1] == '\xc2';

    return byte >= ' ' && byte != 0x7f && !(after_c2 && byte >= 0x80 && byte < 0xa0);
}

/* Returns 0, or -1 if the member has to go. */
static int end_line(struct gyre_stream *stream, struct member *member)
{
    const size_t len = member->line_len;

    member->line_len = 0;
    if (member->name[0] != '\0') {
        if (len > 0) {
            pass_on(stream, len);
        }
        return 0;
    }
    if (len == 0 || len > NAME_MAX_LEN) {
        dismiss(stream, "* a name has 1 to 24 bytes\n");
        return -1;
    }
    memcpy(member->name, member->line, len);
    announce(stream, "joined");
    say(stream, "* welcome\n");
    return 0;
}

static int take_byte(struct gyre_stream *stream, struct member *member, unsigned char byte)
{
    if (byte == '\n') {
        return end_line(stream, member);
    }
    if (!is_wanted(member, byte)) {
        return 0;
    }
    if (member->line_len == LINE_MAX_LEN) {
        dismiss(stream, "* that line is too long\n");
        return -1;
    }
    member->line[member->line_len++] = (char)byte;
    return 0;
}

static void on_open(struct gyre_stream *stream)
{
    say(stream, "* your name?\n");
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct member *member = gyre_stream_ext(stream);

    for (size_t i = 0; i < data->len; i++) {
        if (take_byte(stream, member, data->data[i]) < 0) {
            return;
        }
    }
}

static void on_timeout(struct gyre_stream *stream, enum gyre_stream_timeout which)
{
    if (which == GYRE_TIMEOUT_FIRST || which == GYRE_TIMEOUT_IDLE) {
        dismiss(stream, "* nothing happened for too long\n");
    }
}

/* Whatever ended the member, here it is told. The member itself is not open any more. */
static void on_close(struct gyre_stream *stream, int error)
{
    const struct member *member = gyre_stream_ext(stream);

    if (member->name[0] == '\0') {
        return;
    }
    if (member->too_slow) {
        announce(stream, "was too slow");
    } else {
        announce(stream, error == 0 ? "left" : "was lost");
    }
}

/* ---- the server ---- */

struct options {
    struct example_options common;
    uint32_t cap;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        options->cap = CAP_DEFAULT;
        return 0;
    case 'c':
        options->cap = (uint32_t)example_parse_number(state, text, 4096, 1 << 30);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_option own[] = {
        {"cap", 'c', "BYTES", 0, "Drop a member with so much unread (default 256 KiB)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .doc = "A chat room over TCP.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
}

static void on_stop(void *context)
{
    example_must(gyre_listener_drain(context), "drain");
}

int main(int argc, char **argv)
{
    struct options options = {0};
    struct gyre_stream_handler handler;
    struct gyre_listener listener;
    struct example_signals signals;
    struct gyre_addr address;
    struct gyre_loop *loop;

    parse_options(argc, argv, &options);
    handler = (struct gyre_stream_handler){
        .on_open = on_open,
        .on_data = on_data,
        .on_timeout = on_timeout,
        .on_close = on_close,
        .first_timeout_ns = 60 * GYRE_SEC,
        .idle_timeout_ns = 3600 * GYRE_SEC,
        .close_timeout_ns = 2 * GYRE_SEC,
        .write_high = options.cap / 2,
        .write_cap = options.cap,
    };
    example_raise_fd_limit();
    address = example_address(&options.common);
    loop = example_loop_create(&options.common);
    example_must(
        gyre_listen_addr(loop, &listener, &address,
                         &(struct gyre_listener_options){.handler = &handler,
                                                         .ext_size = sizeof(struct member),
                                                         .on_close = example_listener_closed,
                                                         .max_connections = MEMBERS_MAX}),
        "listen");
    example_signals_start(&signals, loop, on_stop, &listener);
    example_announce_listener(&listener);
    example_loop_run(loop);
    return EXIT_SUCCESS;
}
