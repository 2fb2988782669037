/*
 * A UDP echo server by hand: recvmmsg(2) takes what has come, up to a batch, and waits only for the
 * first; sendmmsg(2) sends it all back. Two system calls for a batch, no readiness asked for.
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
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, DATAGRAM_MAX = 65536 };

struct batch {
    struct mmsghdr messages[BATCH];
    struct iovec parts[BATCH];
    struct sockaddr_in peers[BATCH];
};

static volatile sig_atomic_t stopping;

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
static void turn(int fd, struct batch *batch, int *used)
{
    for (int i = 0; i < *used; i++) {
        batch->parts[i].iov_len = DATAGRAM_MAX;
        batch->messages[i].msg_hdr.msg_namelen = sizeof(batch->peers[i]);
    }
    *used = recvmmsg(fd, batch->messages, BATCH, MSG_WAITFORONE, NULL);
    for (int i = 0; i < *used; i++) {
        batch->parts[i].iov_len = batch->messages[i].msg_len;
    }
    if (*used > 0) {
        send_all(fd, batch, (unsigned)*used);
    }
}

int main(int argc, char **argv)
{
    static struct batch batch;
    const struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: recvmmsg ends */
    struct echo_options options;
    int used = 0;

    echo_parse_options(argc, argv, "Echo of datagrams with recvmmsg and sendmmsg.", &options);
    const int fd = open_socket(&options);
    uint8_t *memory = calloc(BATCH, DATAGRAM_MAX);

    if (memory == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    for (size_t i = 0; i < BATCH; i++) {
        batch.parts[i] = (struct iovec){memory + i * DATAGRAM_MAX, DATAGRAM_MAX};
        batch.messages[i].msg_hdr = (struct msghdr){
            .msg_name = &batch.peers[i],
            .msg_namelen = sizeof(batch.peers[i]),
            .msg_iov = &batch.parts[i],
            .msg_iovlen = 1,
        };
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    echo_announce(fd, "mmsg");
    while (stopping == 0) {
        turn(fd, &batch, &used);
    }
    free(memory);
    close(fd);
    return EXIT_SUCCESS;
}
