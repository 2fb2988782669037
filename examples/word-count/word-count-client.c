/*
 * The client of word-count-server: sends the words of its command line and prints the answers.
 *
 * A blocking client would connect, write, then read until the end, each call waiting for the
 * network. Here each of these moments is a callback: connected (on_open), bytes have come
 * (on_data), the server has sent all (on_eof), and last, whatever happened before, on_close() with
 * the reason. main() only starts the connection and runs the loop, which returns when nothing is
 * left to wait for.
 */
#include "common/common.h"

#include <error.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client {
    struct gyre_stream stream;
    struct example_signals signals;
    char **words;
    size_t word_count;
    size_t answer_count;
    int result;
    int interrupted;
};

struct options {
    struct example_options common;
    struct client *client;
};

static struct client *client_of(struct gyre_stream *stream)
{
    return gyre_container_of(stream, struct client, stream);
}

/* What is written here is only queued; it leaves in one piece when the callback has returned. */
static void on_open(struct gyre_stream *stream)
{
    const struct client *client = client_of(stream);

    for (size_t i = 0; i < client->word_count; i++) {
        int rc = gyre_stream_write(stream, client->words[i], strlen(client->words[i]));

        example_must(rc < 0 ? rc : gyre_stream_write(stream, "\n", 1), "write");
    }
    example_must(gyre_stream_shutdown(stream), "shutdown"); /* we have said all; now we listen */
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct client *client = client_of(stream);

    for (size_t i = 0; i < data->len; i++) {
        client->answer_count += data->data[i] == '\n';
    }
    fwrite(data->data, 1, data->len, stdout);
}

static void on_close(struct gyre_stream *stream, int result)
{
    struct client *client = client_of(stream);

    client->result = result;
    example_signals_end(&client->signals); /* nothing else is left to wait for */
}

/* Without an on_eof() a stream closes itself when the peer has sent all. */
static const struct gyre_stream_handler client_handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_close = on_close,
    .connect_timeout_ns = 5 * GYRE_SEC,
    .idle_timeout_ns = 20 * GYRE_SEC,
};

/* SIGINT or SIGTERM: the rest of the answers is not wanted. */
static void on_stop(void *context)
{
    struct client *client = context;

    client->interrupted = 1;
    gyre_stream_reset(&client->stream);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    (void)text;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case ARGP_KEY_ARGS:
        options->client->words = state->argv + state->next;
        options->client->word_count = (size_t)(state->argc - state->next);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.parser = parse_option,
                                     .args_doc = "WORD...",
                                     .doc = "Sends words to a word-count-server, prints answers.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
}

int main(int argc, char **argv)
{
    struct client client = {0};
    struct options options = {.client = &client};
    struct gyre_addr address;
    struct gyre_loop *loop;

    parse_options(argc, argv, &options);
    address = example_address(&options.common);
    loop = example_loop_create(&options.common);
    example_must(gyre_stream_connect(&client.stream, loop, &address, &client_handler), "connect");
    example_signals_start(&client.signals, loop, on_stop, &client);
    example_loop_run(loop);
    if (client.interrupted) {
        error(EXIT_FAILURE, 0, "interrupted");
    }
    if (client.result < 0) {
        error(EXIT_FAILURE, 0, "connection: %s", gyre_strerror(client.result));
    }
    if (client.answer_count != client.word_count) {
        error(EXIT_FAILURE, 0, "%zu words, %zu answers", client.word_count, client.answer_count);
    }
    return EXIT_SUCCESS;
}
