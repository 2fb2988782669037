/*
 * A TCP server that measures words: for each word it receives it answers one line, the length of
 * the word in bytes and its first character. "to the sea" is answered by "2 t", "3 t", "3 s".
 *
 * A blocking server would call read() in a loop, one thread per client, and keep what it knows of
 * the current word in local variables. Here one thread serves everybody: on_data() is called with
 * what has come, whoever sent it, and returns at once. So what must survive until the next call has
 * to be put somewhere: into the bytes that the listener keeps with each stream (ext_size).
 *
 * TCP is a stream of bytes, not of messages: a word may come in one piece, or one byte at a time.
 * The program below cannot tell, because all it carries over is a count and a character.
 *
 * A peer that sends and never reads the answers would make the answers pile up. Coupling the stream
 * with itself prevents that: while many answers wait, nothing more is read.
 */
#include "common/common.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    ANSWERS_SIZE = 4096, /* answers are collected, and written when so many bytes are full */
    ANSWER_MAX = sizeof("18446744073709551615 \\xff\n"),
};

/* The word that is being received. */
struct word {
    size_t len; /* 0: none, we are between words */
    unsigned char first;
};

/* Answers that are not written yet. */
struct answers {
    size_t len;
    char text[ANSWERS_SIZE];
};

static void write_answers(struct gyre_stream *stream, struct answers *answers)
{
    /* Fails when the peer is gone, or takes nothing for so long that write_cap is reached. */
    if (answers->len > 0 && gyre_stream_write(stream, answers->text, answers->len) < 0) {
        gyre_stream_reset(stream);
    }
    answers->len = 0;
}

/* Answers the word, if there is one, and begins a new one. */
static void end_word(struct gyre_stream *stream, struct word *word, struct answers *answers)
{
    const char *format = isprint(word->first) ? "%zu %c\n" : "%zu \\x%02x\n";

    if (word->len == 0) {
        return;
    }
    if (sizeof(answers->text) - answers->len < ANSWER_MAX) {
        write_answers(stream, answers);
    }
    answers->len +=
        (size_t)snprintf(answers->text + answers->len, ANSWER_MAX, format, word->len, word->first);
    word->len = 0;
}

static void on_open(struct gyre_stream *stream)
{
    example_must(gyre_stream_couple(stream, stream), "couple");
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct word *word = gyre_stream_ext(stream);
    struct answers answers = {.len = 0};

    for (size_t i = 0; i < data->len; i++) {
        if (isspace(data->data[i])) {
            end_word(stream, word, &answers);
        } else {
            if (word->len == 0) {
                word->first = data->data[i];
            }
            word->len++;
        }
    }
    write_answers(stream, &answers);
}

/* The peer sends no more, which ends the last word. It still reads: closing sends what is queued. */
static void on_eof(struct gyre_stream *stream)
{
    struct answers answers = {.len = 0};

    end_word(stream, gyre_stream_ext(stream), &answers);
    write_answers(stream, &answers);
    gyre_stream_close(stream);
}

static const struct gyre_stream_handler word_handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .idle_timeout_ns = 60 * GYRE_SEC,
    .write_timeout_ns = 20 * GYRE_SEC,
    .close_timeout_ns = 5 * GYRE_SEC,
};

/* No new connections; those that are open get what is queued for them, and end. */
static void on_stop(void *context)
{
    example_must(gyre_listener_drain(context), "drain");
}

int main(int argc, char **argv)
{
    const struct gyre_listener_options listener_options = {
        .handler = &word_handler,
        .ext_size = sizeof(struct word),
        .on_close = example_listener_closed,
    };
    struct example_options options = {0};
    struct example_signals signals;
    struct gyre_listener listener;
    struct gyre_addr address;
    struct gyre_loop *loop;

    example_parse_options(argc, argv, "Answers the length and first character of each word.",
                          &options);
    example_raise_fd_limit();
    address = example_address(&options);
    loop = example_loop_create(&options);
    example_must(gyre_listen_addr(loop, &listener, &address, &listener_options), "listen");
    example_signals_start(&signals, loop, on_stop, &listener);
    example_announce_listener(&listener);
    example_loop_run(loop);
    return EXIT_SUCCESS;
}
