/*
 * Moving the bytes of one connection with recv(2) and send(2): with a single message under way
 * nothing is shared, and these two calls are all that it takes. What the load spends on a message
 * is part of what a ping-pong measures.
 */
#include "load.h"

#include "clock.h"
#include "pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Messages fit: neither side waits for room. */
static int plain_send(struct load *load, struct load_connection *c)
{
    return load_send(load, c, 0);
}

static int plain_turn(struct load *load)
{
    struct load_connection *c = &load->connections[0];
    const int flags = load_wait_ms(load) == 0 ? MSG_DONTWAIT : 0;
    uint8_t *buffer = load->engine_state;
    const ssize_t n = recv(c->fd, buffer, PATTERN_SPAN, flags);

    load->now_ns = clock_now_ns();
    load->enters++;
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (n <= 0) {
        return load_lost(load, c, n == 0 ? 0 : errno);
    }
    return load_received(load, c, buffer, (uint32_t)n) < 0 || plain_send(load, c) < 0 ? -1 : 1;
}

static int plain_open(struct load *load)
{
    const int wait_ms = load_wait_ms(load);
    const struct timeval limit = {.tv_usec = (suseconds_t)wait_ms * 1000};

    load->engine_state = malloc(PATTERN_SPAN);
    if (load->engine_state == NULL) {
        return load_fail(load, LOAD_SYSTEM, "memory: %s", strerror(errno));
    }
    if (setsockopt(load->connections[0].fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0) {
        return load_fail(load, LOAD_SYSTEM, "socket options: %s", strerror(errno));
    }
    return 0;
}

const struct load_engine load_engine_plain = {
    .name = "plain",
    .open = plain_open,
    .send = plain_send,
    .turn = plain_turn,
};
