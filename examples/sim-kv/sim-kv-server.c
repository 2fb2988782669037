/*
 * The key-value server as a program: options, and the rest is in server.c. Try it with nc:
 *
 *     $ sim-kv-server --port 7000 &
 *     $ printf 'SET sea 4\nblue\nGET sea\n' | nc -N 127.0.0.1 7000
 */
#include "common/common.h"
#include "sim-kv/server.h"

#include <stdlib.h>

struct options {
    struct example_options common;
    struct kv_server *server;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'c':
        options->server->clients_max = (uint32_t)example_parse_number(state, text, 1, 1000000);
        return 0;
    case 'k':
        options->server->keys_max = (uint32_t)example_parse_number(state, text, 1, 10000000);
        return 0;
    case 'm':
        options->server->bytes_max = example_parse_number(state, text, 1, 65536) << 20;
        return 0;
    case 'B':
        options->server->planted_bug = 1;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_option table[] = {
        {"clients", 'c', "COUNT", 0, "Clients at a time (default 1000)", 0},
        {"keys", 'k', "COUNT", 0, "Keys to keep at most (default 100000)", 0},
        {"memory", 'm', "MIB", 0, "MiB of keys and values at most (default 64)", 0},
        {"planted-bug", 'B', NULL, 0, "Have the bug that the simulation is to find", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = table,
                                     .parser = parse_option,
                                     .doc = "Keeps values by keys, in memory.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
}

int main(int argc, char **argv)
{
    static struct kv_server server;
    struct options options = {.server = &server};

    parse_options(argc, argv, &options);
    example_raise_fd_limit();
    server.address = example_address(&options.common);
    server.loop_options = options.common.loop;
    server.on_ready = example_announce;
    example_must(kv_server_run(&server), "server");
    return EXIT_SUCCESS;
}
