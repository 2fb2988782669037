/*
 * A bulk server by hand: level-triggered epoll, one receive buffer for all connections. What is owed
 * is sent straight from the pattern until the socket is full; only then is writability waited for,
 * and reading goes on when all has left.
 */
#include "stream.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 128 * 1024, TURN_EVENTS = 256 };

struct connection {
    struct stream_state state;
    int fd;
    bool writing; /* waits for writability instead of data */
};

static struct stream_options options;
static const uint8_t *pattern;
static char buffer[BUFFER_SIZE];
static int epoll_fd;

static void drop(struct connection *connection)
{
    close(connection->fd);
    free(connection);
}

static void wait_for(struct connection *connection, bool writing)
{
    struct epoll_event event = {.events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = connection};

    if (connection->writing != writing) {
        connection->writing = writing;
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, connection->fd, &event);
    }
}

/* Returns: false when the connection is broken. */
static bool send_owed(struct connection *connection)
{
    struct stream_state *state = &connection->state;

    while (state->owed > 0) {
        const ssize_t sent =
            send(connection->fd, pattern + state->at, stream_span(state), MSG_NOSIGNAL);

        if (sent < 0 && errno != EINTR) {
            wait_for(connection, true);
            return errno == EAGAIN;
        }
        stream_sent(state, sent > 0 ? (uint32_t)sent : 0);
    }
    wait_for(connection, false);
    return true;
}

static void serve(struct connection *connection, uint32_t events)
{
    bool good = true;

    if ((events & ~(uint32_t)EPOLLOUT) != 0 && !connection->writing) {
        const ssize_t n = recv(connection->fd, buffer, sizeof(buffer), 0);

        good = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
        stream_received(&connection->state, &options, n > 0 ? (size_t)n : 0);
    }
    if (!good || !send_owed(connection)) {
        drop(connection);
    }
}

static void accept_all(int listener)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *connection = calloc(1, sizeof(*connection));
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};

        if (connection == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
            err(EXIT_FAILURE, "connection");
        }
        connection->fd = fd;
    }
}

static void watch(int fd, int *mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};

    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        err(EXIT_FAILURE, "epoll");
    }
}

int main(int argc, char **argv)
{
    struct epoll_event events[TURN_EVENTS];
    int listener;
    int signals;
    bool stopping = false;

    stream_parse(argc, argv, "Bulk server on epoll.", &options);
    echo_raise_fd_limit();
    signals = echo_signal_fd();
    listener = echo_listen(&options.echo, SOCK_NONBLOCK);
    pattern = pattern_create();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (pattern == NULL || epoll_fd < 0) {
        err(EXIT_FAILURE, "start");
    }
    watch(listener, &listener);
    watch(signals, &signals);
    echo_announce(listener, "epoll");
    while (!stopping) {
        const int count = epoll_wait(epoll_fd, events, TURN_EVENTS, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == &listener) {
                accept_all(listener);
            } else if (events[i].data.ptr == &signals) {
                stopping = true;
            } else {
                serve(events[i].data.ptr, events[i].events);
            }
        }
    }
    return EXIT_SUCCESS;
}
