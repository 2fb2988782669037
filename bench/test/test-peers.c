/*
 * The echo servers on other libraries do what the comparison presumes: they echo every byte, also
 * when the socket takes only a part, and close in order when the client has sent all.
 *
 * test-peers GYRE_LOAD "SERVER [OPTION...]"...
 */
#include "child.h"
#include "pattern.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS   20000
#define PEERS_MAX     16
#define ARGUMENTS_MAX 8
/* More than the socket buffers of both ends hold, so that sends are cut short. */
#define STREAM_BYTES  (24u * 1024u * 1024u)

static const char *load_path;

struct peer {
    char *argv[ARGUMENTS_MAX + 1];
    struct child child;
    unsigned port;
};

static int peer_start(void **state)
{
    struct peer *peer = *state;
    const struct child_spec spec = {.argv = peer->argv, .cpu = -1};
    char line[128];

    assert_int_equal(child_spawn(&peer->child, &spec), 0);
    assert_int_equal(child_read_line(&peer->child, line, sizeof(line), PATIENCE_MS), 0);
    assert_int_equal(sscanf(line, "listening on 127.0.0.1:%u", &peer->port), 1);
    return 0;
}

/* SIGTERM ends it at once and well, whatever happened before. */
static int peer_stop(void **state)
{
    struct peer *peer = *state;

    assert_true(child_stop(&peer->child, PATIENCE_MS));
    assert_int_equal(peer->child.status, 0);
    child_release(&peer->child);
    return 0;
}

static void load(const struct peer *peer, const char *connections, const char *size,
                 const char *depth)
{
    char port[16];
    struct child child;

    snprintf(port, sizeof(port), "%u", peer->port);
    const char *argv[] = {
        load_path, "--port",      port, "--connections", connections, "--size", size, "--depth",
        depth,     "--warmup-ms", "5",  "--duration-ms", "50",        NULL};
    const struct child_spec spec = {.argv = (char *const *)(uintptr_t)argv, .cpu = -1};

    assert_int_equal(child_spawn(&child, &spec), 0);
    assert_int_equal(child_wait(&child, PATIENCE_MS), 0);
    assert_int_equal(child.status, 0);
    child_release(&child);
}

static void peer_echoes_small_messages(void **state)
{
    load(*state, "64", "64", "1");
    load(*state, "8", "16", "16");
}

static void peer_echoes_messages_larger_than_its_buffers(void **state)
{
    load(*state, "4", "1000000", "4");
}

static int connect_to(const struct peer *peer)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)peer->port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

struct stream {
    const uint8_t *pattern;
    size_t sent;
    size_t received;
    int fd;
    bool ended;
};

static size_t step(size_t done)
{
    const size_t left = STREAM_BYTES - done;

    return left < PATTERN_SPAN ? left : PATTERN_SPAN;
}

static void send_more(struct stream *s)
{
    const ssize_t n = send(s->fd, s->pattern + s->sent % PATTERN_PERIOD, step(s->sent),
                           MSG_DONTWAIT | MSG_NOSIGNAL);

    assert_true(n > 0 || errno == EAGAIN);
    s->sent += n > 0 ? (size_t)n : 0;
    if (s->sent == STREAM_BYTES) {
        assert_int_equal(shutdown(s->fd, SHUT_WR), 0);
    }
}

static void receive_more(struct stream *s)
{
    static uint8_t buffer[PATTERN_SPAN];
    const ssize_t n = recv(s->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    assert_true(n >= 0);
    assert_memory_equal(buffer, s->pattern + s->received % PATTERN_PERIOD, (size_t)n);
    s->received += (size_t)n;
    s->ended = n == 0;
}

/*
 * Sends all it can before it reads at all, so that the server meets a full socket, then half-closes:
 * everything comes back, and then the end.
 */
static void peer_returns_all_after_a_half_close(void **state)
{
    struct stream s = {.pattern = pattern_create(), .fd = connect_to(*state)};
    int quiet_ms = 100;

    assert_non_null(s.pattern);
    while (s.sent < STREAM_BYTES || !s.ended) {
        const bool reading = quiet_ms < 0;
        struct pollfd fd = {.fd = s.fd, .events = reading ? POLLIN : 0};

        fd.events = (short)(fd.events | (s.sent < STREAM_BYTES ? POLLOUT : 0));
        const int rc = poll(&fd, 1, reading ? PATIENCE_MS : quiet_ms);

        assert_true(rc > 0 || !reading);
        quiet_ms = rc == 0 ? -1 : quiet_ms; /* the server takes no more: begin to read */
        if ((fd.revents & POLLOUT) != 0) {
            send_more(&s);
        }
        if ((fd.revents & POLLIN) != 0) {
            receive_more(&s);
        }
    }
    assert_int_equal(s.received, STREAM_BYTES);
    close(s.fd);
    free((void *)(uintptr_t)s.pattern);
}

static void peer_survives_reset_connections(void **state)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};

    for (int i = 0; i < 20; i++) {
        const int fd = connect_to(*state);

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        assert_int_equal(send(fd, "hello", 5, MSG_NOSIGNAL), 5);
        close(fd);
    }
    load(*state, "2", "64", "1");
}

static void parse(struct peer *peer, char *command)
{
    char *save = NULL;
    size_t count = 0;

    for (char *word = strtok_r(command, " ", &save); word != NULL && count < ARGUMENTS_MAX;
         word = strtok_r(NULL, " ", &save)) {
        peer->argv[count++] = word;
    }
}

int main(int argc, char **argv)
{
    static struct peer peers[PEERS_MAX];
    int failed = 0;

    if (argc < 2 || argc - 2 > PEERS_MAX) {
        fprintf(stderr, "usage: test-peers GYRE_LOAD \"SERVER [OPTION...]\"...\n");
        return 2;
    }
    load_path = argv[1];
    for (int i = 2; i < argc; i++) {
        struct peer *peer = &peers[i - 2];

        parse(peer, argv[i]);
#define PEER_TEST(function)                              \
    {                                                    \
#function, function, peer_start, peer_stop, peer \
    }
        const struct CMUnitTest tests[] = {
            PEER_TEST(peer_echoes_small_messages),
            PEER_TEST(peer_echoes_messages_larger_than_its_buffers),
            PEER_TEST(peer_returns_all_after_a_half_close),
            PEER_TEST(peer_survives_reset_connections),
        };

        failed += cmocka_run_group_tests_name(peer->argv[0], tests, NULL, NULL);
    }
    return failed;
}
