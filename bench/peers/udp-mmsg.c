/*
 * A UDP echo server by hand: recvmmsg(2) takes what has come, up to a batch; sendmmsg(2) sends it all
 * back.
 *
 * --wait receive (default): recvmmsg(2) itself waits for the first datagram. Two system calls for a
 * batch, and no readiness asked for; but such a thread can serve this one socket only, and nothing
 * else. --wait epoll: epoll_wait(2) waits, as it has to in a server with more than one socket.
 * Edge-triggered, so that the set is not asked again: a batch that is not full has emptied the socket.
 */
#include "echo/common.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM_MAX = 65536, EVENTS_MAX = 64 };

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in peers[BATCH];
};

static volatile sig_atomic_t stopping;
static bool waits_with_epoll;

static void on_signal(int number)
{
    stopping = number;
}

static int open_socket(const struct echo_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (inet_pton(AF_INET, options->host, &address.sin_addr) != 1) {
        errx(EXIT_FAILURE, "'%s' is not an IPv4 address", options->host);
    }
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        err(EXIT_FAILURE, "cannot receive on %s port %u", options->host, (unsigned)options->port);
    }
    return fd;
}

static void send_all(int fd, struct batch *batch, unsigned count)
{
    unsigned done = 0;

    while (done < count) {
        const int sent = sendmmsg(fd, batch->messages + done, count - done, 0);

        if (sent < 0 && errno != EINTR) {
            return; /* lost, as datagrams may be */
        }
        done += sent > 0 ? (unsigned)sent : 0;
    }
}

/* The kernel has changed lengths and addresses to those of the last batch. */
static void turn(int fd, struct batch *batch, int *used, int flags)
{
    for (int i = 0; i < *used; i++) {
        batch->parts[i].iov_len = DATAGRAM_MAX;
        batch->messages[i].msg_hdr.msg_namelen = sizeof(batch->peers[i]);
    }
    *used = recvmmsg(fd, batch->messages, BATCH, flags, NULL);
    for (int i = 0; i < *used; i++) {
        batch->parts[i].iov_len = batch->messages[i].msg_len;
    }
    if (*used > 0) {
        send_all(fd, batch, (unsigned)*used);
    }
}

static void serve_one_socket(int fd, struct batch *batch)
{
    int used = 0;

    while (stopping == 0) {
        turn(fd, batch, &used, MSG_WAITFORONE);
    }
}

static void serve_sockets(int fd, struct batch *batch)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = fd};
    struct epoll_event events[EVENTS_MAX];
    const int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int used = 0;

    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        err(EXIT_FAILURE, "epoll");
    }
    while (stopping == 0) {
        const int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            do {
                turn(events[i].data.fd, batch, &used, MSG_DONTWAIT);
            } while (used == BATCH);
        }
    }
    close(epoll_fd);
}

static void describe(struct batch *batch, uint8_t *memory)
{
    for (size_t i = 0; i < BATCH; i++) {
        batch->parts[i] = (struct iovec){memory + i * DATAGRAM_MAX, DATAGRAM_MAX};
        batch->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->peers[i],
            .msg_namelen = sizeof(batch->peers[i]),
            .msg_iov = &batch->parts[i],
            .msg_iovlen = 1,
        };
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case 'w':
        waits_with_epoll = strcmp(text, "epoll") == 0;
        if (!waits_with_epoll && strcmp(text, "receive") != 0) {
            argp_error(state, "--wait takes receive or epoll, not '%s'", text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"wait", 'w', "HOW", 0, "receive (default): in recvmmsg; epoll: in epoll_wait", 0},
        {0},
    };
    static const struct argp_child children[] = {{&echo_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .doc = "Echo of datagrams with recvmmsg and sendmmsg.",
                                     .children = children};
    static struct batch batch;
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: the wait ends */
    struct echo_options options;

    argp_parse(&argp, argc, argv, 0, NULL, &options);
    const int fd = open_socket(&options);
    uint8_t *memory = calloc(BATCH, DATAGRAM_MAX);

    if (memory == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    describe(&batch, memory);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    echo_announce(fd, waits_with_epoll ? "mmsg epoll" : "mmsg");
    if (waits_with_epoll) {
        serve_sockets(fd, &batch);
    } else {
        serve_one_socket(fd, &batch);
    }
    free(memory);
    close(fd);
    return EXIT_SUCCESS;
}
