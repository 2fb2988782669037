/* Options of the bulk servers; see stream.h. */
#include "stream.h"

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct stream_options *options = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->echo;
        return 0;
    case 'r':
        options->receive = (uint32_t)echo_parse_number(state, text, 1, 1 << 24);
        return 0;
    case 's':
        options->reply = (uint32_t)echo_parse_number(state, text, 1, 1 << 24);
        return 0;
    case 'b':
        options->backend = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

void stream_parse(int argc, char **argv, const char *doc, struct stream_options *out_options)
{
    static const struct argp_option own[] = {
        {"receive", 'r', "BYTES", 0, "length of a request (65536)", 0},
        {"reply", 's', "BYTES", 0, "length of its reply (8)", 0},
        {"backend", 'b', "NAME", 0, "of gyre: uring or epoll", 0},
        {0},
    };
    static const struct argp_child children[] = {{&echo_argp, 0, NULL, 0}, {0}};
    const struct argp argp = {
        .options = own, .parser = parse_option, .doc = doc, .children = children};

    *out_options = (struct stream_options){.receive = 65536, .reply = 8};
    argp_parse(&argp, argc, argv, 0, NULL, out_options);
}
