/*
 * echo-select - one thread, many connections, select().
 *
 * The idea: no call blocks any more except one. select() is given the set of descriptors to be
 * watched for reading and the set for writing, sleeps until one of them is ready, and leaves in
 * the sets those that are. Each connection has a buffer and is in one of two states: the buffer is
 * empty and the program waits to read, or it holds bytes and the program waits to write. A client
 * that does not read therefore stays in the second state and gets no more than one buffer.
 *
 * What it costs: the kernel and the program both go through all descriptors up to the highest on
 * every turn, however few are ready. Worse, a set has FD_SETSIZE (1024) bits, and a descriptor
 * above that would be written past its end. The number of the descriptor counts, not how many
 * there are; such a connection is refused here.
 *
 * When it is right: a handful of descriptors in a program that must run on every system. On Linux
 * poll() does the same without the limit.
 */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };

struct connection {
    size_t begin; /* the bytes from begin to end are still to be sent */
    size_t end;
    char data[BUFFER_SIZE];
};

struct server {
    int listener;
    int signals;
    int highest; /* the highest descriptor in the sets */
    int base;    /* the higher of listener and signals: what is there without connections */
    bool accept_paused;
    unsigned refused_count;
    fd_set want_read;
    fd_set want_write;
    struct connection *connections[FD_SETSIZE]; /* by descriptor */
};

static void drop(struct server *server, int fd)
{
    FD_CLR(fd, &server->want_read);
    FD_CLR(fd, &server->want_write);
    free(server->connections[fd]);
    server->connections[fd] = NULL;
    close(fd);
    while (server->highest > server->base && server->connections[server->highest] == NULL) {
        server->highest--;
    }
}

/* Sends what the socket takes. Returns false if the connection is broken. */
static bool flush(struct server *server, int fd)
{
    struct connection *connection = server->connections[fd];
    while (connection->begin < connection->end) {
        const ssize_t sent = send(fd, connection->data + connection->begin,
                                  connection->end - connection->begin, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            FD_CLR(fd, &server->want_read);
            FD_SET(fd, &server->want_write);
            return true;
        }
        if (sent < 0) {
            return false;
        }
        connection->begin += (size_t)sent;
    }
    FD_SET(fd, &server->want_read);
    FD_CLR(fd, &server->want_write);
    return true;
}

/*
 * Receives once and sends at once, since the socket nearly always has room: waiting for it to
 * become writable would cost a whole turn. Returns false at the end of the connection.
 */
static bool receive(struct server *server, int fd)
{
    struct connection *connection = server->connections[fd];
    const ssize_t received = recv(fd, connection->data, sizeof(connection->data), 0);
    if (received < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (received == 0) {
        return false;
    }
    connection->begin = 0;
    connection->end = (size_t)received;
    return flush(server, fd);
}

static void refuse(struct server *server, int fd)
{
    if (server->refused_count == 0) {
        warnx("connection refused: descriptor %d is beyond FD_SETSIZE (%d), which is all that "
              "select() can watch; further refusals are counted, not printed",
              fd, FD_SETSIZE);
    }
    server->refused_count++;
    close(fd);
}

static void welcome(struct server *server, int fd)
{
    struct connection *connection = malloc(sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->begin = 0;
    connection->end = 0;
    server->connections[fd] = connection;
    FD_SET(fd, &server->want_read);
    if (fd > server->highest) {
        server->highest = fd;
    }
}

/* Accepts all who wait. After a shortage the next turn leaves the listener out. */
static void accept_clients(struct server *server)
{
    for (;;) {
        const int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= FD_SETSIZE) {
            refuse(server, fd);
        } else if (fd >= 0) {
            welcome(server, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (echo_is_shortage(errno)) {
            server->accept_paused = true;
            FD_CLR(server->listener, &server->want_read);
            return;
        }
    }
}

static void serve_ready(struct server *server, const fd_set *can_read, const fd_set *can_write)
{
    const int highest = server->highest;
    for (int fd = 0; fd <= highest; fd++) {
        if (server->connections[fd] == NULL) {
            continue;
        }
        bool alive = true;
        if (FD_ISSET(fd, can_write)) {
            alive = flush(server, fd);
        } else if (FD_ISSET(fd, can_read)) {
            alive = receive(server, fd);
        }
        if (!alive) {
            drop(server, fd);
        }
    }
}

/* Waits once and serves what is ready. Returns false when a signal asks for the end. */
static bool turn(struct server *server)
{
    fd_set can_read = server->want_read;
    fd_set can_write = server->want_write;
    struct timeval pause = {.tv_usec = ECHO_ACCEPT_PAUSE_MS * 1000};
    const int ready = select(server->highest + 1, &can_read, &can_write, NULL,
                             server->accept_paused ? &pause : NULL);
    if (server->accept_paused) {
        server->accept_paused = false;
        FD_SET(server->listener, &server->want_read);
    }
    if (ready < 0 && errno != EINTR) {
        err(EXIT_FAILURE, "select");
    }
    if (ready <= 0) {
        return true;
    }
    serve_ready(server, &can_read, &can_write);
    if (FD_ISSET(server->listener, &can_read)) {
        accept_clients(server);
    }
    return !FD_ISSET(server->signals, &can_read);
}

static void start(struct server *server)
{
    server->base = server->listener > server->signals ? server->listener : server->signals;
    server->highest = server->base;
    if (server->base >= FD_SETSIZE) {
        errx(EXIT_FAILURE, "too many descriptors are open already for select()");
    }
    FD_SET(server->listener, &server->want_read);
    FD_SET(server->signals, &server->want_read);
}

static void finish(struct server *server)
{
    for (int fd = 0; fd < FD_SETSIZE; fd++) {
        if (server->connections[fd] != NULL) {
            drop(server, fd);
        }
    }
    close(server->listener);
    close(server->signals);
    if (server->refused_count > 0) {
        warnx("%u connections were refused in all", server->refused_count);
    }
}

int main(int argc, char **argv)
{
    static struct server server;
    struct echo_options options;
    echo_parse_options(argc, argv, "Echo server on select().", &options);
    echo_raise_fd_limit();
    server.signals = echo_signal_fd();
    server.listener = echo_listen(&options, SOCK_NONBLOCK);
    start(&server);
    echo_announce(server.listener, NULL);
    while (turn(&server)) {
    }
    finish(&server);
    return EXIT_SUCCESS;
}
