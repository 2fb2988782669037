/*
 * gyre-churn: connections that live for one message.
 *
 * A fixed number of connections is open at a time. Each is opened, sends one message, gets it back
 * (every byte is compared) and is closed; the next takes its place. Opening blocks: on loopback the
 * handshake is done by the kernel before connect(2) returns, without the server's doing.
 *
 * Connections end with a reset. In order they would leave this side in TIME_WAIT, sixty seconds each,
 * and tens of thousands of those would be part of the next measurement.
 */
#include "clock.h"
#include "histogram.h"
#include "source.h"

#include "../load/pattern.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256

struct slot {
    uint64_t opened_ns;
    uint32_t at;   /* in the pattern */
    uint32_t left; /* bytes that have not come back */
    int fd;
};

struct churn {
    struct source_options options;
    struct sockaddr_in server;
    const uint8_t *pattern;
    struct slot *slots;
    int epoll_fd;
    uint32_t number; /* of the next connection */
    uint32_t open;
    bool reopen;
    uint64_t connections;
    uint64_t idle_ns;
    struct histogram service;
};

static struct churn churn;

static void set_options(int fd)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    const int on = 1;
    const char *cc = churn.options.congestion;

    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        (cc != NULL &&
         setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)) < 0)) {
        source_fail(SOURCE_SYSTEM, "socket options: %s", strerror(errno));
    }
}

static void slot_open(struct slot *slot)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = slot};
    const uint32_t size = churn.options.size;

    slot->opened_ns = clock_now_ns();
    slot->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (slot->fd < 0) {
        source_fail(SOURCE_SYSTEM, "socket: %s", strerror(errno));
    }
    set_options(slot->fd);
    slot->at = pattern_offset(churn.number++);
    slot->left = size;
    if (connect(slot->fd, (const struct sockaddr *)&churn.server, sizeof(churn.server)) < 0) {
        source_fail(SOURCE_REFUSED, "connection %u: %s", churn.number - 1, strerror(errno));
    }
    if (send(slot->fd, churn.pattern + slot->at, size, MSG_NOSIGNAL) != (ssize_t)size ||
        epoll_ctl(churn.epoll_fd, EPOLL_CTL_ADD, slot->fd, &event) < 0) {
        source_fail(SOURCE_LOST, "connection %u: %s", churn.number - 1, strerror(errno));
    }
    churn.open++;
}

static void slot_close(struct slot *slot)
{
    histogram_add(&churn.service, clock_now_ns() - slot->opened_ns);
    close(slot->fd);
    churn.open--;
    churn.connections++;
    if (churn.reopen) {
        slot_open(slot);
    }
}

static void slot_receive(struct slot *slot)
{
    static uint8_t buffer[65536];
    const ssize_t n = recv(slot->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        source_fail(SOURCE_LOST, "a connection ended before its message had come back: %s",
                    n == 0 ? "closed by the server" : strerror(errno));
    }
    if ((uint32_t)n > slot->left || memcmp(buffer, churn.pattern + slot->at, (size_t)n) != 0) {
        source_fail(SOURCE_WRONG_BYTES, "%zd bytes came back that are not those that were sent", n);
    }
    slot->at = pattern_advance(slot->at, (uint32_t)n);
    slot->left -= (uint32_t)n;
    if (slot->left == 0) {
        slot_close(slot);
    }
}

/* Returns: whether anything happened. */
static bool turn(void)
{
    struct epoll_event events[EVENTS_PER_TURN];
    const int wait_ms = churn.options.spin ? 0 : 20;
    const int count = epoll_wait(churn.epoll_fd, events, EVENTS_PER_TURN, wait_ms);

    for (int i = 0; i < count; i++) {
        slot_receive(events[i].data.ptr);
    }
    return count > 0;
}

/* Connections for so long, then until none is open. */
static void phase(uint64_t duration_ns)
{
    const uint64_t start = clock_now_ns();
    uint64_t now = start;
    uint64_t progress = start;

    churn.reopen = true;
    for (uint32_t i = 0; i < churn.options.connections; i++) {
        slot_open(&churn.slots[i]);
    }
    while (churn.open > 0) {
        const bool active = turn();
        const uint64_t then = now;

        now = clock_now_ns();
        if (active) {
            progress = now;
        } else if (churn.options.spin) {
            churn.idle_ns += now - then;
        }
        if (now - progress > churn.options.timeout_ms * NS_PER_MS) {
            source_fail(SOURCE_STALLED, "%u connections got no answer for %u ms", churn.open,
                        churn.options.timeout_ms);
        }
        churn.reopen = now - start < duration_ns;
    }
}

static void print_result(const struct window *window)
{
    const struct histogram *h = &churn.service;

    source_print(json_pack("{sb sI sI sI sI sf s{sI sI sI} so so}", "ok", 1, "at_a_time",
                           (json_int_t)churn.options.connections, "size",
                           (json_int_t)churn.options.size, "window_ns", (json_int_t)window->wall_ns,
                           "connections", (json_int_t)churn.connections, "connections_per_second",
                           (double)churn.connections * 1e9 / (double)window->wall_ns, "service_ns",
                           "p50", (json_int_t)histogram_percentile(h, 50.0), "p99",
                           (json_int_t)histogram_percentile(h, 99.0), "max", (json_int_t)h->max,
                           "generator", window_load_json(window, churn.connections, churn.idle_ns),
                           "server", window_server_json(window, churn.connections)));
}

int main(int argc, char **argv)
{
    struct window window;

    source_parse(argc, argv,
                 "Opens connections to an echo server, has one message echoed on each, and closes "
                 "them.",
                 &churn.options);
    churn.server = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(churn.options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    churn.pattern = pattern_create();
    churn.slots = calloc(churn.options.connections, sizeof(*churn.slots));
    churn.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (churn.pattern == NULL || churn.slots == NULL || churn.epoll_fd < 0) {
        source_fail(SOURCE_SYSTEM, "start: %s", strerror(errno));
    }
    phase(churn.options.warmup_ms * NS_PER_MS);
    churn.connections = 0;
    churn.idle_ns = 0;
    histogram_reset(&churn.service);
    source_measure(&churn.options, &churn.connections, phase, &window);
    print_result(&window);
    return SOURCE_OK;
}
