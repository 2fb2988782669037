/*
 * echo-client - tests an echo server and checks every byte.
 *
 * The idea: each connection sends a message, reads it back whole, then sends the next: one message
 * is under way per connection. What a connection sends is a long pseudo-random pattern that
 * repeats after a prime number of bytes, begun at a place of the connection's own. A byte that is
 * lost, doubled, swapped or taken from another connection therefore shows at once, and checking is
 * a memcmp() with the pattern, without a copy of what was sent.
 *
 * A message may be larger than all socket buffers on the way, and the server may stop reading when
 * it cannot write. So the client never waits for room to send without also reading: both
 * directions are served by one edge-triggered epoll loop.
 *
 * The exit status is 0 only if every message came back right.
 */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    /* A prime, so that no message size and no buffer size divides it. */
    PATTERN_PERIOD = 65521,
    MESSAGE_SIZE_MAX = 16 * 1024 * 1024,
    CONNECTION_LIMIT = 1000 * 1000,
    BUFFER_SIZE = 256 * 1024,
    TURN_EVENTS = 512,
    /* No byte on any connection for this long counts as failure. */
    SILENCE_LIMIT_MS = 30 * 1000,
};

struct client_options {
    struct echo_options common;
    size_t connections;
    size_t size;
    uint64_t count; /* messages per connection */
};

struct connection {
    int fd;
    bool is_done;
    size_t origin;    /* where in the pattern this connection began */
    uint64_t sent;    /* bytes, since the beginning of the connection */
    uint64_t checked; /* bytes that came back and were right */
};

struct client {
    struct client_options options;
    struct connection *connections;
    size_t open_count;
    size_t failed_count;
    int epoll;
    char *pattern; /* one period and a message's or a buffer's length more */
    char *buffer;
};

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct client_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        options->connections = 1;
        options->size = 64;
        options->count = 1000;
        state->child_inputs[0] = &options->common;
        return 0;
    case 'n':
        options->connections = echo_parse_number(state, arg, 1, CONNECTION_LIMIT);
        return 0;
    case 's':
        options->size = echo_parse_number(state, arg, 1, MESSAGE_SIZE_MAX);
        return 0;
    case 'm':
        options->count = echo_parse_number(state, arg, 1, UINT32_MAX);
        return 0;
    case ARGP_KEY_END:
        if (options->common.port == 0) {
            argp_error(state, "--port is needed");
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct client_options *out_options)
{
    const struct argp_option table[] = {
        {.name = "connections", .key = 'n', .arg = "N", .doc = "Connections (default 1)"},
        {.name = "size", .key = 's', .arg = "BYTES", .doc = "Size of a message (default 64)"},
        {.name = "count", .key = 'm', .arg = "N", .doc = "Messages per connection (default 1000)"},
        {0},
    };
    const struct argp_child children[] = {{.argp = &echo_argp}, {0}};
    const struct argp argp = {
        .options = table,
        .parser = parse_option,
        .doc = "Sends messages to an echo server and checks every byte that comes back.",
        .children = children,
    };
    const error_t error = argp_parse(&argp, argc, argv, 0, NULL, out_options);
    if (error != 0) {
        errx(EXIT_FAILURE, "options: %s", strerror(error));
    }
}

/* Fills one period by xorshift and repeats it, so that any stretch can be used as it is. */
static void make_pattern(struct client *client)
{
    const size_t stretch =
        client->options.size > BUFFER_SIZE ? client->options.size : (size_t)BUFFER_SIZE;
    const size_t total = PATTERN_PERIOD + stretch;
    client->pattern = malloc(total);
    client->buffer = malloc(BUFFER_SIZE);
    if (client->pattern == NULL || client->buffer == NULL) {
        err(EXIT_FAILURE, "buffers");
    }
    uint32_t state = 2463534242U;
    for (size_t i = 0; i < total; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        client->pattern[i] =
            i < PATTERN_PERIOD ? (char)(state >> 24) : client->pattern[i - PATTERN_PERIOD];
    }
}

/* Connects with a blocking call: the backlog then sets the pace. Returns -1 on failure. */
static int connect_one(const struct addrinfo *address, const char *cc)
{
    const int on = 1;
    const int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        (cc != NULL &&
         setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)) < 0) ||
        connect(fd, address->ai_addr, address->ai_addrlen) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static int connect_any(const struct addrinfo *addresses, const char *cc)
{
    int fd = -1;
    for (const struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next) {
        fd = connect_one(a, cc);
    }
    if (fd < 0) {
        err(EXIT_FAILURE, "connect");
    }
    return fd;
}

/* A connection is registered later, when all exist: the test begins for all at the same time. */
static void connect_all(struct client *client)
{
    const struct echo_options *common = &client->options.common;
    char port[sizeof("65535")];
    snprintf(port, sizeof(port), "%u", (unsigned)common->port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *addresses = NULL;
    const int error = getaddrinfo(common->host, port, &hints, &addresses);
    if (error != 0) {
        errx(EXIT_FAILURE, "host '%s': %s", common->host, gai_strerror(error));
    }
    client->connections = calloc(client->options.connections, sizeof(struct connection));
    if (client->connections == NULL) {
        err(EXIT_FAILURE, "connections");
    }
    for (size_t i = 0; i < client->options.connections; i++) {
        struct connection *connection = &client->connections[i];
        connection->fd = connect_any(addresses, common->cc);
        connection->origin = (i * 7919) % PATTERN_PERIOD;
    }
    freeaddrinfo(addresses);
}

/* Where in the pattern a byte of the stream is. */
static const char *pattern_at(const struct client *client, const struct connection *connection,
                              uint64_t position)
{
    return client->pattern + (connection->origin + position) % PATTERN_PERIOD;
}

/* What is still to be sent of the present message. The next begins when this one is back. */
static size_t unsent(const struct client *client, const struct connection *connection)
{
    const uint64_t size = client->options.size;
    const uint64_t begun = connection->checked / size + 1;
    const uint64_t messages = begun < client->options.count ? begun : client->options.count;
    return (size_t)(messages * size - connection->sent);
}

static void fail(struct client *client, struct connection *connection, const char *why)
{
    if (client->failed_count == 0) {
        warnx("connection %zu after %llu right bytes: %s",
              (size_t)(connection - client->connections), (unsigned long long)connection->checked,
              why);
    }
    client->failed_count++;
}

static bool send_message(struct client *client, struct connection *connection)
{
    size_t len;
    while ((len = unsent(client, connection)) > 0) {
        const char *data = pattern_at(client, connection, connection->sent);
        const ssize_t sent = send(connection->fd, data, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            return true;
        }
        if (sent < 0 && errno != EINTR) {
            fail(client, connection, strerror(errno));
            return false;
        }
        connection->sent += sent > 0 ? (uint64_t)sent : 0;
    }
    return true;
}

/* Checks what was received. More than was sent is as wrong as a wrong byte. */
static bool check(struct client *client, struct connection *connection, size_t len)
{
    const char *expected = pattern_at(client, connection, connection->checked);
    if (len > connection->sent - connection->checked) {
        fail(client, connection, "more bytes came back than were sent");
        return false;
    }
    if (memcmp(client->buffer, expected, len) != 0) {
        fail(client, connection, "a wrong byte came back");
        return false;
    }
    connection->checked += len;
    return true;
}

/*
 * Receives until the socket is empty, which a short receive tells unless the stream has ended.
 * Returns false when the connection has failed.
 */
static bool receive(struct client *client, struct connection *connection, bool has_ended)
{
    for (;;) {
        const ssize_t received = recv(connection->fd, client->buffer, BUFFER_SIZE, 0);
        if (received < 0 && errno == EAGAIN) {
            return true;
        }
        if (received == 0 || (received < 0 && errno != EINTR)) {
            fail(client, connection, received == 0 ? "the server closed it" : strerror(errno));
            return false;
        }
        if (received > 0 && !check(client, connection, (size_t)received)) {
            return false;
        }
        if (received > 0 && received < BUFFER_SIZE && !has_ended) {
            return true;
        }
    }
}

static bool is_complete(const struct client *client, const struct connection *connection)
{
    return connection->checked == client->options.count * client->options.size;
}

static void on_event(struct client *client, struct connection *connection, uint32_t events)
{
    bool alive = true;
    if (events & ~(uint32_t)EPOLLOUT) {
        alive = receive(client, connection, (events & ~(uint32_t)(EPOLLIN | EPOLLOUT)) != 0);
    }
    if (alive && !is_complete(client, connection)) {
        alive = send_message(client, connection);
    }
    if (!alive || is_complete(client, connection)) {
        connection->is_done = true;
        close(connection->fd);
        client->open_count--;
    }
}

/* Registering raises the edge for writing, with which the first message is sent. */
static void watch_all(struct client *client)
{
    client->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < client->options.connections; i++) {
        struct connection *connection = &client->connections[i];
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                    .data.ptr = connection};
        if (epoll_ctl(client->epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0) {
            err(EXIT_FAILURE, "epoll");
        }
    }
    client->open_count = client->options.connections;
}

static void fail_the_silent(struct client *client)
{
    for (size_t i = 0; i < client->options.connections; i++) {
        if (!client->connections[i].is_done) {
            fail(client, &client->connections[i], "no answer");
        }
    }
}

static void run(struct client *client)
{
    while (client->open_count > 0) {
        struct epoll_event events[TURN_EVENTS];
        const int count = epoll_wait(client->epoll, events, TURN_EVENTS, SILENCE_LIMIT_MS);
        if (count < 0 && errno != EINTR) {
            err(EXIT_FAILURE, "epoll_wait");
        }
        if (count == 0) {
            fail_the_silent(client);
            return;
        }
        for (int i = 0; i < count; i++) {
            on_event(client, events[i].data.ptr, events[i].events);
        }
    }
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const struct client *client, double seconds)
{
    const struct client_options *options = &client->options;
    const double messages = (double)options->connections * (double)options->count;
    if (client->failed_count > 0) {
        printf("FAILED: %zu of %zu connections\n", client->failed_count, options->connections);
        return;
    }
    printf("%.0f messages of %zu bytes on %zu connections in %.3f s: %.0f messages/s, "
           "every byte right\n",
           messages, options->size, options->connections, seconds, messages / seconds);
}

int main(int argc, char **argv)
{
    struct client client = {0};
    parse_options(argc, argv, &client.options);
    echo_raise_fd_limit();
    make_pattern(&client);
    connect_all(&client);
    const double begin = seconds_now();
    watch_all(&client);
    run(&client);
    report(&client, seconds_now() - begin);
    close(client.epoll);
    free(client.connections);
    free(client.pattern);
    free(client.buffer);
    return client.failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
