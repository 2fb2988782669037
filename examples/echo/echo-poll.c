/*
 * echo-poll - one thread, many connections, poll().
 *
 * The idea is the one of echo-select: sockets that do not block, one call that waits for all of
 * them, and per connection a buffer that is either empty (wait to read) or not (wait to write).
 * poll() is given an array with one entry per descriptor, so there is no highest number, and what
 * is asked for (events) and what is answered (revents) are separate fields, so the array need not
 * be built anew.
 *
 * What it costs: the array goes to the kernel and is walked by both sides on every turn. With a
 * thousand connections of which one is ready, a thousand are looked at.
 *
 * When it is right: up to some dozens of descriptors, or when the set changes on every turn, or
 * where the program must run on systems other than Linux.
 */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BUFFER_SIZE = 64 * 1024,
    /* The first two entries of the array are not connections. */
    SIGNALS = 0,
    LISTENER = 1,
    FIRST_CONNECTION = 2,
    /* One turn with this many takes milliseconds; more would be of no use with poll(). */
    CONNECTION_LIMIT = 65536,
    INITIAL_CAPACITY = 64,
};

struct connection {
    size_t begin; /* the bytes from begin to end are still to be sent */
    size_t end;
    char data[BUFFER_SIZE];
};

/* Two arrays with the same index: poll() wants its entries side by side. */
struct server {
    struct pollfd *entries;
    struct connection **connections;
    size_t count;
    size_t capacity;
    bool shortage; /* accept failed for want of descriptors or memory */
};

static bool grow(struct server *server)
{
    const size_t capacity = server->capacity == 0 ? INITIAL_CAPACITY : 2 * server->capacity;
    struct pollfd *entries = reallocarray(server->entries, capacity, sizeof(*entries));
    if (entries == NULL) {
        return false;
    }
    server->entries = entries;
    struct connection **connections =
        reallocarray(server->connections, capacity, sizeof(struct connection *));
    if (connections == NULL) {
        return false;
    }
    server->connections = connections;
    server->capacity = capacity;
    return true;
}

static bool add(struct server *server, int fd, struct connection *connection)
{
    if (server->count == server->capacity && !grow(server)) {
        return false;
    }
    server->entries[server->count] = (struct pollfd){.fd = fd, .events = POLLIN};
    server->connections[server->count] = connection;
    server->count++;
    return true;
}

/* The last entry moves into the gap. */
static void drop(struct server *server, size_t index)
{
    close(server->entries[index].fd);
    free(server->connections[index]);
    server->count--;
    server->entries[index] = server->entries[server->count];
    server->connections[index] = server->connections[server->count];
}

/* Sends what the socket takes. Returns false if the connection is broken. */
static bool flush(struct pollfd *entry, struct connection *connection)
{
    while (connection->begin < connection->end) {
        const ssize_t sent = send(entry->fd, connection->data + connection->begin,
                                  connection->end - connection->begin, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno == EAGAIN) {
            entry->events = POLLOUT;
            return true;
        }
        if (sent < 0) {
            return false;
        }
        connection->begin += (size_t)sent;
    }
    entry->events = POLLIN;
    return true;
}

/*
 * Receives once and sends at once, since the socket nearly always has room: waiting for it to
 * become writable would cost a whole turn. Returns false at the end of the connection.
 */
static bool receive(struct pollfd *entry, struct connection *connection)
{
    const ssize_t received = recv(entry->fd, connection->data, sizeof(connection->data), 0);
    if (received < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    if (received == 0) {
        return false;
    }
    connection->begin = 0;
    connection->end = (size_t)received;
    return flush(entry, connection);
}

/* POLLERR and POLLHUP come unasked; the call that follows then returns the error itself. */
static bool serve_connection(struct pollfd *entry, struct connection *connection)
{
    if (entry->events == POLLOUT) {
        return flush(entry, connection);
    }
    return receive(entry, connection);
}

/* Backwards, so that the entry that drop() moves into the gap has been served already. */
static void serve_ready(struct server *server)
{
    for (size_t i = server->count; i-- > FIRST_CONNECTION;) {
        struct pollfd *entry = &server->entries[i];
        if (entry->revents != 0 && !serve_connection(entry, server->connections[i])) {
            drop(server, i);
        }
    }
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
    if (!add(server, fd, connection)) {
        free(connection);
        close(fd);
    }
}

static bool has_room(const struct server *server)
{
    return server->count < CONNECTION_LIMIT + FIRST_CONNECTION;
}

static void accept_clients(struct server *server)
{
    const int listener = server->entries[LISTENER].fd;
    while (has_room(server)) {
        const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            welcome(server, fd);
        } else if (errno == EAGAIN) {
            return;
        } else if (echo_is_shortage(errno)) {
            server->shortage = true;
            return;
        }
    }
}

/*
 * Waits once and serves what is ready. Returns false when a signal asks for the end. While no
 * client can be taken, nothing is asked about the listener; poll() would report it for ever.
 */
static bool turn(struct server *server)
{
    const bool paused = server->shortage || !has_room(server);
    server->shortage = false;
    server->entries[LISTENER].events = paused ? 0 : POLLIN;
    const int ready = poll(server->entries, server->count, paused ? ECHO_ACCEPT_PAUSE_MS : -1);
    if (ready < 0 && errno != EINTR) {
        err(EXIT_FAILURE, "poll");
    }
    if (ready <= 0) {
        return true;
    }
    const bool stop = server->entries[SIGNALS].revents != 0;
    const bool clients_wait = server->entries[LISTENER].revents != 0;
    serve_ready(server);
    if (clients_wait) {
        accept_clients(server);
    }
    return !stop;
}

static void start(struct server *server, int signals, int listener)
{
    if (!add(server, signals, NULL) || !add(server, listener, NULL)) {
        err(EXIT_FAILURE, "start");
    }
}

static void finish(struct server *server)
{
    while (server->count > 0) {
        drop(server, server->count - 1);
    }
    free(server->entries);
    free(server->connections);
}

int main(int argc, char **argv)
{
    struct server server = {0};
    struct echo_options options;
    echo_parse_options(argc, argv, "Echo server on poll().", &options);
    echo_raise_fd_limit();
    const int signals = echo_signal_fd();
    const int listener = echo_listen(&options, SOCK_NONBLOCK);
    start(&server, signals, listener);
    echo_announce(listener, NULL);
    while (turn(&server)) {
    }
    finish(&server);
    return EXIT_SUCCESS;
}
