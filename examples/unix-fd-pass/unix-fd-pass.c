/*
 * Hands open files from one process to another, over a Unix socket.
 *
 *     unix-fd-pass receive unix:/tmp/files.sock
 *     unix-fd-pass send unix:/tmp/files.sock /etc/hostname
 *
 * A Unix socket carries not only bytes: with a byte may go descriptors (SCM_RIGHTS, unix(7)). The
 * receiver gets descriptors of its own for the very files that the sender has open, whether it
 * could have opened them or not. Servers use this to have a process with more rights open what one
 * with less rights reads, or to hand over a listening socket to their next version.
 *
 * The sender writes each name as one line, and the descriptor goes with its first byte. The socket
 * is a stream, so the lines may arrive in any pieces; what holds is the order: the first line
 * belongs to the first descriptor, and so on.
 *
 * Whoever takes descriptors takes what others have made. So the receiver asks the kernel who is at
 * the other end and takes files of its own user only, reads none but regular files (a pipe could
 * let it wait for ever), and closes what it has not asked for.
 */
#include "common/common.h"

#include <errno.h>
#include <error.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WAITING_MAX = 16, /* descriptors whose lines have not come yet */
    NAME_MAX_LEN = 255,
    SHOWN_MAX = 64 * 1024, /* bytes of a file that are shown */
};

/* ---- receiving ---- */

/* Kept with each stream, zeroed when it opens. */
struct sender {
    int waiting[WAITING_MAX];
    size_t waiting_count;
    size_t name_len;
    char name[NAME_MAX_LEN + 1];
};

static void show_file(int number, const char *name)
{
    static char content[SHOWN_MAX];
    struct stat status;
    ssize_t len;

    if (fstat(number, &status) < 0 || !S_ISREG(status.st_mode)) {
        printf("%s: not a regular file\n", name);
        return;
    }
    len = pread(number, content, sizeof(content), 0);
    if (len < 0) {
        printf("%s: %s\n", name, strerror(errno));
        return;
    }
    printf("%s: %lld bytes\n", name, (long long)status.st_size);
    fwrite(content, 1, (size_t)len, stdout);
}

/* Returns 0, or -1 if no descriptor came with the name. */
static int end_name(struct sender *sender)
{
    const int number = sender->waiting[0];

    if (sender->waiting_count == 0) {
        return -1;
    }
    sender->waiting_count--;
    memmove(sender->waiting, sender->waiting + 1, sender->waiting_count * sizeof(number));
    sender->name[sender->name_len] = '\0';
    sender->name_len = 0;
    show_file(number, sender->name);
    fflush(stdout);
    close(number);
    return 0;
}

static int take_byte(struct sender *sender, char byte)
{
    if (byte == '\n') {
        return end_name(sender);
    }
    if (sender->name_len == NAME_MAX_LEN) {
        return -1;
    }
    sender->name[sender->name_len++] = byte >= ' ' && byte < 0x7f ? byte : '?';
    return 0;
}

static void on_receiver_open(struct gyre_stream *stream)
{
    struct ucred peer;

    if (gyre_stream_peer_credentials(stream, &peer) < 0 || peer.uid != geteuid()) {
        gyre_stream_reset(stream);
    }
}

static void on_descriptors(struct gyre_stream *stream, size_t count)
{
    struct sender *sender = gyre_stream_ext(stream);
    const size_t room = WAITING_MAX - sender->waiting_count;
    int taken;

    if (count == 0 || count > room) { /* 0: they did not fit into this process */
        gyre_stream_reset(stream);
        return;
    }
    taken = gyre_stream_take_descriptors(stream, sender->waiting + sender->waiting_count, count);
    example_must(taken, "descriptors");
    sender->waiting_count += (size_t)taken;
}

static void on_receiver_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    for (size_t i = 0; i < data->len; i++) {
        if (take_byte(gyre_stream_ext(stream), (char)data->data[i]) < 0) {
            gyre_stream_reset(stream);
            return;
        }
    }
}

static void on_receiver_close(struct gyre_stream *stream, int error)
{
    const struct sender *sender = gyre_stream_ext(stream);

    (void)error;
    for (size_t i = 0; i < sender->waiting_count; i++) {
        close(sender->waiting[i]);
    }
}

static const struct gyre_stream_handler receiver_handler = {
    .on_open = on_receiver_open,
    .on_data = on_receiver_data,
    .on_descriptors = on_descriptors,
    .on_close = on_receiver_close,
    .idle_timeout_ns = 10 * GYRE_SEC,
    .close_timeout_ns = 2 * GYRE_SEC,
    .flags = GYRE_STREAM_DESCRIPTORS,
};

static void on_stop(void *context)
{
    example_must(gyre_listener_drain(context), "drain");
}

static int receive_files(struct gyre_loop *loop, const struct gyre_addr *address)
{
    const struct gyre_listener_options listener_options = {
        .handler = &receiver_handler,
        .ext_size = sizeof(struct sender),
        .on_close = example_listener_closed,
        .max_connections = 64,
        .mode = 0600,
        .flags = GYRE_LISTEN_STALE,
    };
    struct gyre_listener listener;
    struct example_signals signals;

    example_must(gyre_listen_addr(loop, &listener, address, &listener_options), "listen");
    example_signals_start(&signals, loop, on_stop, &listener);
    example_announce_listener(&listener);
    example_loop_run(loop);
    return 0;
}

/* ---- sending ---- */

struct files {
    struct gyre_stream stream;
    char **names;
    size_t count;
    int result;
};

/* The descriptor is duplicated for the way, so ours can be closed at once. */
static void send_file(struct gyre_stream *stream, const char *name)
{
    const int number = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (number < 0) {
        error(EXIT_FAILURE, errno, "%s", name);
    }
    example_must(gyre_stream_write_descriptors(stream, name, strlen(name), &number, 1), "send");
    example_must(gyre_stream_write(stream, "\n", 1), "send");
    close(number);
}

static void on_sender_open(struct gyre_stream *stream)
{
    const struct files *files = gyre_container_of(stream, struct files, stream);

    for (size_t i = 0; i < files->count; i++) {
        send_file(stream, files->names[i]);
    }
    gyre_stream_close(stream);
}

static void on_sender_close(struct gyre_stream *stream, int error)
{
    gyre_container_of(stream, struct files, stream)->result = error;
}

static const struct gyre_stream_handler sender_handler = {
    .on_open = on_sender_open,
    .on_close = on_sender_close,
    .connect_timeout_ns = 5 * GYRE_SEC,
    .close_timeout_ns = 5 * GYRE_SEC,
};

static int send_files(struct gyre_loop *loop, const struct gyre_addr *address, struct files *files)
{
    example_must(gyre_stream_connect(&files->stream, loop, address, &sender_handler), "connect");
    example_loop_run(loop);
    return files->result;
}

/* ---- the program ---- */

struct options {
    struct example_options common;
    char **arguments;
    size_t count;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;

    (void)text;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case ARGP_KEY_ARGS:
        options->arguments = state->argv + state->next;
        options->count = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_END:
        if (!(options->count == 2 && strcmp(options->arguments[0], "receive") == 0) &&
            !(options->count > 2 && strcmp(options->arguments[0], "send") == 0)) {
            argp_usage(state);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_child children[] = {{&example_backend_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.parser = parse_option,
                                     .args_doc = "receive ADDRESS\nsend ADDRESS FILE...",
                                     .doc = "Hands open files to another process. ADDRESS is "
                                            "unix:/path or unix:@name.",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
}

int main(int argc, char **argv)
{
    struct options options = {.count = 0};
    struct gyre_addr address;
    struct gyre_loop *loop;
    int rc;

    parse_options(argc, argv, &options);
    if (gyre_addr_parse(options.arguments[1], &address) < 0 || address.any.sa_family != AF_UNIX) {
        error(EXIT_FAILURE, 0, "'%s' is not the address of a Unix socket", options.arguments[1]);
    }
    loop = example_loop_create(&options.common);
    if (options.count == 2) {
        rc = receive_files(loop, &address);
    } else {
        struct files files = {.names = options.arguments + 2, .count = options.count - 2};

        rc = send_files(loop, &address, &files);
    }
    example_must(rc, "connection");
    return EXIT_SUCCESS;
}
