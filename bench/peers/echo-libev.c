/*
 * An echo server on libev: readiness alone, the system calls are the program's.
 *
 * One watcher for each connection and one receive buffer for all. The echo is sent at once; what the
 * socket does not take is kept, and the watcher waits for writing instead of reading until it is
 * gone.
 */
#include "echo/common.h"

#include <err.h>
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 128 * 1024, ACCEPT_BUDGET = 64 };

struct connection {
    ev_io io; /* first: a watcher is its connection */
    char *pending;
    size_t pending_begin;
    size_t pending_end;
};

static char shared[BUFFER_SIZE];

static void drop(struct ev_loop *loop, struct connection *connection)
{
    ev_io_stop(loop, &connection->io);
    close(connection->io.fd);
    free(connection->pending);
    free(connection);
}

static void wait_for(struct ev_loop *loop, struct connection *connection, int events)
{
    ev_io_stop(loop, &connection->io);
    ev_io_modify(&connection->io, events);
    ev_io_start(loop, &connection->io);
}

/* Returns: the bytes sent, 0 when the socket is full; -1 when it is broken. */
static ssize_t send_some(int fd, const char *data, size_t len)
{
    const ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);

    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    return sent;
}

static void flush(struct ev_loop *loop, struct connection *connection)
{
    const ssize_t sent =
        send_some(connection->io.fd, connection->pending + connection->pending_begin,
                  connection->pending_end - connection->pending_begin);

    if (sent < 0) {
        drop(loop, connection);
        return;
    }
    connection->pending_begin += (size_t)sent;
    if (connection->pending_begin == connection->pending_end) {
        free(connection->pending);
        connection->pending = NULL;
        wait_for(loop, connection, EV_READ);
    }
}

static void echo(struct ev_loop *loop, struct connection *connection, size_t len)
{
    const ssize_t sent = send_some(connection->io.fd, shared, len);

    if (sent == (ssize_t)len) {
        return;
    }
    const size_t done = sent > 0 ? (size_t)sent : 0;

    connection->pending = sent < 0 ? NULL : malloc(len - done);
    if (connection->pending == NULL) {
        drop(loop, connection);
        return;
    }
    memcpy(connection->pending, shared + done, len - done);
    connection->pending_begin = 0;
    connection->pending_end = len - done;
    wait_for(loop, connection, EV_WRITE);
}

static void on_io(struct ev_loop *loop, ev_io *io, int events)
{
    struct connection *connection = (struct connection *)io;

    if ((events & EV_WRITE) != 0) {
        flush(loop, connection);
        return;
    }
    const ssize_t received = recv(io->fd, shared, sizeof(shared), 0);

    if (received > 0) {
        echo(loop, connection, (size_t)received);
    } else if (received == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(loop, connection);
    }
}

static void on_accept(struct ev_loop *loop, ev_io *listener, int events)
{
    (void)events;
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        const int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            return;
        }
        struct connection *connection = calloc(1, sizeof(*connection));

        if (connection == NULL) {
            close(fd);
            return;
        }
        ev_io_init(&connection->io, on_io, fd, EV_READ);
        ev_io_start(loop, &connection->io);
    }
}

static void on_signal(struct ev_loop *loop, ev_signal *signal, int events)
{
    (void)signal;
    (void)events;
    ev_break(loop, EVBREAK_ALL);
}

int main(int argc, char **argv)
{
    struct echo_options options;
    ev_io listener;
    ev_signal signals[2];

    echo_parse_options(argc, argv, "Echo on libev.", &options);
    echo_raise_fd_limit();
    struct ev_loop *loop = ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV);

    if (loop == NULL) {
        errx(EXIT_FAILURE, "libev: no loop");
    }
    ev_io_init(&listener, on_accept, echo_listen(&options, SOCK_NONBLOCK), EV_READ);
    ev_io_start(loop, &listener);
    for (int i = 0; i < 2; i++) {
        ev_signal_init(&signals[i], on_signal, i == 0 ? SIGTERM : SIGINT);
        ev_signal_start(loop, &signals[i]);
    }
    echo_announce(listener.fd, "libev epoll");
    ev_run(loop, 0);
    return EXIT_SUCCESS;
}
