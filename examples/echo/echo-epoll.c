/*
 * echo-epoll - one thread, many connections, edge-triggered epoll.
 *
 * The idea: the kernel keeps the set of descriptors, so nothing is handed over again on each turn,
 * and a wait returns only those that are ready. The cost of a turn depends on how many are ready,
 * not on how many there are. Edge-triggered means that an event says "something has changed since
 * you were told last": each socket is registered once, for everything, and epoll_ctl() is never
 * called again. In return the program itself must remember that there is more to read.
 *
 * What makes it fast:
 *  - Two system calls per message, receive and send, and one wait for many messages. There is no
 *    receive that finds nothing: one that returns fewer bytes than there was room for has emptied
 *    the socket, and what comes later raises a new edge. The exceptions are the end of the
 *    stream and urgent data, at which a receive stops early; both are announced by events.
 *  - Send first, ask later. The socket nearly always has room, so the bytes are sent straight from
 *    the receive buffer, and the edge for writing is waited for only when it was full.
 *  - One receive buffer for all connections, which stays in the processor's cache. A connection
 *    has memory of its own only while its peer does not take what it sent.
 *  - Nothing is removed from the set before close(), which does that by itself.
 *
 * What keeps it fair and small: a connection that could be read for ever goes to the end of the
 * ready list after a few reads, and one whose peer is slow is not read until all is sent, so it
 * never holds more than one receive buffer. The sender is then held back by TCP itself.
 *
 * What it costs: state per connection, and care with the edges. A single connection with short
 * messages gains nothing over the blocking program.
 *
 * When it is right: servers with many connections on any Linux of the last decades, and wherever
 * io_uring is not allowed.
 */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* Large enough for a message of 64 KiB to be a short receive, small enough for the cache. */
    BUFFER_SIZE = 128 * 1024,
    /* More events per wait save system calls; the gain has vanished long before this number. */
    TURN_EVENTS = 512,
    /* Full receives from one connection before others get their turn. */
    READ_BUDGET = 4,
    /* New connections taken per turn, so that a flood of them does not hold up the old ones. */
    ACCEPT_BUDGET = 64,
};

struct connection {
    LIST_ENTRY(connection) link;        /* in server.connections */
    TAILQ_ENTRY(connection) ready_link; /* in server.ready, if is_ready */
    int fd;
    bool is_ready;    /* has used up its budget and is served again next turn */
    bool readable;    /* an edge was seen and the socket has not been emptied since */
    bool read_to_end; /* a short receive does not mean empty: hang-up, error or urgent data */
    char *pending;    /* what the peer has not taken yet, NULL if nothing */
    size_t pending_begin;
    size_t pending_end;
};

/* What is known about the clients in the backlog. */
enum backlog_state {
    BACKLOG_EMPTY,    /* wait for an edge */
    BACKLOG_MORE,     /* the budget was used up: go on next turn */
    BACKLOG_SHORTAGE, /* no descriptor or memory for the next one: try again later */
};

struct server {
    int epoll;
    int listener;
    int signals;
    bool stopping;
    enum backlog_state backlog;
    LIST_HEAD(, connection) connections;
    TAILQ_HEAD(ready_list, connection) ready;
    char *buffer;
};

/* No other event of this turn can name the connection: each descriptor is reported once. */
static void drop(struct server *server, struct connection *connection)
{
    LIST_REMOVE(connection, link);
    if (connection->is_ready) {
        TAILQ_REMOVE(&server->ready, connection, ready_link);
    }
    close(connection->fd);
    free(connection->pending);
    free(connection);
}

/* Sends until all is sent or the socket is full. Returns the bytes sent, -1 if it is broken. */
static ssize_t send_some(int fd, const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        const ssize_t sent = send(fd, data + done, len - done, MSG_NOSIGNAL);
        if (sent >= 0) {
            done += (size_t)sent;
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            return -1;
        }
    }
    return (ssize_t)done;
}

/* The receive buffer is needed for others: keep the rest in memory of the connection's own. */
static bool keep(struct connection *connection, const char *data, size_t len)
{
    connection->pending = malloc(len);
    if (connection->pending == NULL) {
        return false;
    }
    memcpy(connection->pending, data, len);
    connection->pending_begin = 0;
    connection->pending_end = len;
    return true;
}

static bool echo(struct connection *connection, const char *data, size_t len)
{
    const ssize_t sent = send_some(connection->fd, data, len);
    if (sent < 0) {
        return false;
    }
    return (size_t)sent == len || keep(connection, data + sent, len - (size_t)sent);
}

static bool flush(struct connection *connection)
{
    const ssize_t sent = send_some(connection->fd, connection->pending + connection->pending_begin,
                                   connection->pending_end - connection->pending_begin);
    if (sent < 0) {
        return false;
    }
    connection->pending_begin += (size_t)sent;
    if (connection->pending_begin == connection->pending_end) {
        free(connection->pending);
        connection->pending = NULL;
    }
    return true;
}

/* One receive and its echo. Returns false at the end of the connection. */
static bool receive(struct server *server, struct connection *connection)
{
    const ssize_t received = recv(connection->fd, server->buffer, BUFFER_SIZE, 0);
    if (received < 0 && errno == EAGAIN) {
        connection->readable = false;
        return true;
    }
    if (received < 0) {
        return errno == EINTR;
    }
    if (received == 0) {
        return false;
    }
    if (received < BUFFER_SIZE && !connection->read_to_end) {
        connection->readable = false;
    }
    return echo(connection, server->buffer, (size_t)received);
}

/* Reads up to the budget, or less if the socket is empty or the peer slow. */
static bool pump(struct server *server, struct connection *connection)
{
    for (int i = 0; i < READ_BUDGET; i++) {
        if (!connection->readable || connection->pending != NULL) {
            return true;
        }
        if (!receive(server, connection)) {
            return false;
        }
    }
    return true;
}

/* Serves a connection; what can be read and written after that is left to the next turn. */
static void serve_connection(struct server *server, struct connection *connection)
{
    if (!pump(server, connection)) {
        drop(server, connection);
        return;
    }
    if (connection->readable && connection->pending == NULL) {
        connection->is_ready = true;
        TAILQ_INSERT_TAIL(&server->ready, connection, ready_link);
    }
}

static void on_connection_event(struct server *server, struct connection *connection,
                                uint32_t events)
{
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) {
        connection->read_to_end = true;
    }
    if (events & ~(uint32_t)EPOLLOUT) {
        connection->readable = true;
    }
    if (connection->pending != NULL && !flush(connection)) {
        drop(server, connection);
        return;
    }
    if (!connection->is_ready) {
        serve_connection(server, connection);
    }
}

/* Serves those that are on the list now, once; who needs another turn is put behind them. */
static void serve_ready_list(struct server *server)
{
    struct ready_list now = TAILQ_HEAD_INITIALIZER(now);
    TAILQ_CONCAT(&now, &server->ready, ready_link);
    while (!TAILQ_EMPTY(&now)) {
        struct connection *connection = TAILQ_FIRST(&now);
        TAILQ_REMOVE(&now, connection, ready_link);
        connection->is_ready = false;
        serve_connection(server, connection);
    }
}

/* Registers the descriptor for the rest of its life. */
static bool watch(struct server *server, int fd, uint32_t events, void *what)
{
    struct epoll_event event = {.events = events, .data.ptr = what};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void welcome(struct server *server, int fd)
{
    const uint32_t everything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
    struct connection *connection = calloc(1, sizeof(*connection));
    if (connection == NULL || !watch(server, fd, everything, connection)) {
        free(connection);
        close(fd);
        return;
    }
    connection->fd = fd;
    LIST_INSERT_HEAD(&server->connections, connection, link);
}

/*
 * An edge announces that clients wait, not how many, so they are taken until none is left, the
 * budget is used up, or a shortage comes. No new edge would come for those left behind: the state
 * of the backlog remembers them.
 */
static enum backlog_state accept_clients(struct server *server)
{
    for (int i = 0; i < ACCEPT_BUDGET; i++) {
        const int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(server, fd);
        } else if (errno == EAGAIN) {
            return BACKLOG_EMPTY;
        } else if (echo_is_shortage(errno)) {
            return BACKLOG_SHORTAGE;
        }
    }
    return BACKLOG_MORE;
}

static void on_event(struct server *server, const struct epoll_event *event)
{
    if (event->data.ptr == &server->listener) {
        server->backlog = BACKLOG_MORE;
    } else if (event->data.ptr == &server->signals) {
        server->stopping = true;
    } else {
        on_connection_event(server, event->data.ptr, event->events);
    }
}

/* How long to wait: not at all while work is left, a little after a shortage, else for ever. */
static int wait_ms(const struct server *server)
{
    if (!TAILQ_EMPTY(&server->ready) || server->backlog == BACKLOG_MORE) {
        return 0;
    }
    return server->backlog == BACKLOG_SHORTAGE ? ECHO_ACCEPT_PAUSE_MS : -1;
}

static void turn(struct server *server)
{
    struct epoll_event events[TURN_EVENTS];
    const int count = epoll_wait(server->epoll, events, TURN_EVENTS, wait_ms(server));
    if (count < 0 && errno != EINTR) {
        err(EXIT_FAILURE, "epoll_wait");
    }
    for (int i = 0; i < count; i++) {
        on_event(server, &events[i]);
    }
    serve_ready_list(server);
    if (server->backlog != BACKLOG_EMPTY) {
        server->backlog = accept_clients(server);
    }
}

static void start(struct server *server, const struct echo_options *options)
{
    LIST_INIT(&server->connections);
    TAILQ_INIT(&server->ready);
    server->signals = echo_signal_fd();
    server->listener = echo_listen(options, SOCK_NONBLOCK);
    server->epoll = epoll_create1(EPOLL_CLOEXEC);
    server->buffer = malloc(BUFFER_SIZE);
    if (server->epoll < 0 || server->buffer == NULL ||
        !watch(server, server->listener, EPOLLIN | EPOLLET, &server->listener) ||
        !watch(server, server->signals, EPOLLIN, &server->signals)) {
        err(EXIT_FAILURE, "start");
    }
}

static void finish(struct server *server)
{
    while (!LIST_EMPTY(&server->connections)) {
        drop(server, LIST_FIRST(&server->connections));
    }
    close(server->listener);
    close(server->signals);
    close(server->epoll);
    free(server->buffer);
}

int main(int argc, char **argv)
{
    struct server server = {0};
    struct echo_options options;
    echo_parse_options(argc, argv, "Echo server on edge-triggered epoll.", &options);
    echo_raise_fd_limit();
    start(&server, &options);
    echo_announce(server.listener, NULL);
    while (!server.stopping) {
        turn(&server);
    }
    finish(&server);
    return EXIT_SUCCESS;
}
