/*
 * A client of the UDP servers: sends each of its arguments, or else each line of its input, as one
 * datagram, and prints the answer.
 *
 * A datagram may be lost, the question or the answer, and nobody says so. So the client waits, asks
 * again, waits twice as long (it may be a crowd that loses datagrams), and at last gives up. A
 * blocking client would set a time limit on recv(); here a timer and a socket wait side by side, and
 * whichever calls back first decides.
 *
 * When a question was asked twice, there may be two answers. Nothing in these datagrams says which
 * question an answer belongs to, and the second one must not be taken for the answer to the next
 * question. So each question has a socket of its own, with a port of its own: what comes late comes
 * to a port that is closed. The socket is connected, so that only the server is heard, and so that
 * the kernel tells when no server is there.
 *
 * There is one thing to do at a time, so the program is a plain loop over the questions, and each of
 * them runs the event loop until nothing is left to wait for. SIGINT and SIGTERM are one of the
 * things that a question waits for; while a line of input is waited for, they end the program as
 * they would any other.
 */
#include "common/common.h"

#include <errno.h>
#include <error.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct client {
    struct example_options options;
    uint64_t timeout_ns; /* of the first try */
    unsigned tries;
    struct gyre_addr server;
    struct gyre_loop *loop;
    char **arguments; /* the questions; none: from the input */
    size_t argument_count;
    size_t failures;
    int interrupted;
};

struct question {
    struct gyre_dgram dgram;
    struct gyre_timer timer;
    struct example_signals signals;
    const char *text;
    size_t len;
    uint64_t timeout_ns;
    unsigned tries_left;
    int result;
};

/* ---- one question ---- */

/* Nothing is waited for any more, so the loop returns. */
static void end(struct question *question, int result)
{
    question->result = result;
    gyre_timer_stop(&question->timer);
    gyre_dgram_close(&question->dgram);
    example_signals_end(&question->signals);
}

static void on_stop(void *context)
{
    end(context, -EINTR);
}

static void ask(struct question *question)
{
    int rc = gyre_dgram_send(&question->dgram, NULL, question->text, question->len);

    if (rc < 0) {
        end(question, rc);
        return;
    }
    question->tries_left--;
    example_must(gyre_timer_start(&question->timer, question->timeout_ns), "timer");
    question->timeout_ns *= 2;
}

static void on_timeout(struct gyre_timer *timer)
{
    struct question *question = gyre_container_of(timer, struct question, timer);

    if (question->tries_left > 0) {
        ask(question);
    } else {
        end(question, -ETIMEDOUT);
    }
}

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    const char *text = datagram->data;

    fwrite(text, 1, datagram->len, stdout);
    if (datagram->len == 0 || text[datagram->len - 1] != '\n') {
        putchar('\n');
    }
    end(gyre_container_of(dgram, struct question, dgram), 0);
}

static void on_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    (void)to; /* the server; the socket is connected */
    end(gyre_container_of(dgram, struct question, dgram), error);
}

static const struct gyre_dgram_handler question_handler = {
    .on_datagram = on_datagram,
    .on_error = on_error,
};

static void unblock_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* Asks a question until it is answered, or was asked often enough. */
static void put_question(struct client *client, const char *text, size_t len)
{
    const struct gyre_dgram_options dgram_options = {
        .handler = &question_handler,
        .peer = &client->server,
    };
    struct question question = {
        .text = text,
        .len = len,
        .timeout_ns = client->timeout_ns,
        .tries_left = client->tries,
    };
    int rc = gyre_dgram_open(&question.dgram, client->loop, &dgram_options);

    if (rc < 0) {
        error(EXIT_FAILURE, 0, "%s: %s", client->options.host, gyre_strerror(rc));
    }
    example_must(gyre_timer_init(&question.timer, client->loop, on_timeout), "timer");
    example_signals_start(&question.signals, client->loop, on_stop, &question);
    ask(&question);
    example_must(gyre_loop_run(client->loop, GYRE_RUN_DEFAULT), "run");
    unblock_signals();
    fflush(stdout);
    if (question.result < 0) {
        error(0, 0, "'%.40s': %s", text, gyre_strerror(question.result));
        client->failures++;
        client->interrupted = question.result == -EINTR;
    }
}

/* ---- the program ---- */

static void put_lines(struct client *client, FILE *input)
{
    char *line = NULL;
    size_t size = 0;
    ssize_t len;

    while (!client->interrupted && (len = getline(&line, &size, input)) >= 0) {
        if (len > 0 && line[len - 1] == '\n') {
            len--;
        }
        put_question(client, line, (size_t)len);
    }
    free(line);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct client *client = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &client->options;
        return 0;
    case 't':
        client->timeout_ns = example_parse_number(state, text, 1, 60000) * GYRE_MSEC;
        return 0;
    case 'n':
        client->tries = (unsigned)example_parse_number(state, text, 1, 10);
        return 0;
    case ARGP_KEY_ARGS:
        client->arguments = state->argv + state->next;
        client->argument_count = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_END:
        if (client->options.port == 0) {
            argp_error(state, "--port is needed: where the server listens");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct client *client)
{
    static const struct argp_option own[] = {
        {"timeout", 't', "MS", 0, "Wait so long for the first answer (default 1000)", 0},
        {"tries", 'n', "N", 0, "Ask so often, each time waiting twice as long (default 4)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .args_doc = "[TEXT...]",
                                     .doc = "Sends each TEXT, or else each line of its input, in a "
                                            "UDP datagram, and prints the answers.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, client);
}

int main(int argc, char **argv)
{
    struct client client = {.timeout_ns = GYRE_SEC, .tries = 4};

    parse_options(argc, argv, &client);
    client.server = example_address(&client.options);
    client.loop = example_loop_create(&client.options);
    for (size_t i = 0; i < client.argument_count && !client.interrupted; i++) {
        put_question(&client, client.arguments[i], strlen(client.arguments[i]));
    }
    if (client.argument_count == 0) {
        put_lines(&client, stdin);
    }
    example_must(gyre_loop_destroy(client.loop), "end of the loop");
    return client.failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
