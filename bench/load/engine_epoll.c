/*
 * Moving the bytes with epoll: where io_uring is refused, and for large messages.
 *
 * Large messages are why this is more than a fall-back: readiness lets one connection after the
 * other be read into the same buffer, which is compared while it is in the cache.
 *
 * One edge-triggered registration per socket. A receive that did not fill the buffer has emptied
 * the socket.
 */
#include "load.h"

#include "clock.h"
#include "pattern.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define EVENTS_PER_TURN 512
struct ready {
    int epoll_fd;
    struct epoll_event events[EVENTS_PER_TURN];
    uint8_t buffer[PATTERN_SPAN];
};

/* Where there is no room, the edge of EPOLLOUT resumes. */
static int ready_send(struct load *load, struct load_connection *c)
{
    return load_send(load, c, MSG_DONTWAIT);
}

static int ready_receive(struct load *load, struct load_connection *c)
{
    struct ready *r = load->engine_state;
    ssize_t n;

    do {
        n = recv(c->fd, r->buffer, sizeof(r->buffer), MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return load_lost(load, c, n == 0 ? 0 : errno);
        }
        if (n > 0 && load_received(load, c, r->buffer, (uint32_t)n) < 0) {
            return -1;
        }
    } while (n == (ssize_t)sizeof(r->buffer) || (n < 0 && errno == EINTR));
    return 0;
}

static int on_event(struct load *load, const struct epoll_event *event)
{
    struct load_connection *c = &load->connections[event->data.u32];

    if ((event->events & ~(uint32_t)EPOLLOUT) != 0 && ready_receive(load, c) < 0) {
        return -1;
    }
    return c->unsent > 0 ? ready_send(load, c) : 0;
}

static int ready_turn(struct load *load)
{
    struct ready *r = load->engine_state;
    const int count = epoll_wait(r->epoll_fd, r->events, EVENTS_PER_TURN, load_wait_ms(load));

    load->now_ns = clock_now_ns();
    load->enters++;
    if (count < 0) {
        return errno == EINTR ? 0 : load_fail(load, LOAD_SYSTEM, "epoll: %s", strerror(errno));
    }
    for (int i = 0; i < count; i++) {
        if (on_event(load, &r->events[i]) < 0) {
            return -1;
        }
    }
    return count;
}

static int ready_add(struct load *load, uint32_t index)
{
    const struct ready *r = load->engine_state;
    const int fd = load->connections[index].fd;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
        .data.u32 = index,
    };

    if (epoll_ctl(r->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return load_fail(load, LOAD_SYSTEM, "epoll: %s", strerror(errno));
    }
    return 0;
}

static int ready_open(struct load *load)
{
    struct ready *r = malloc(sizeof(*r));

    if (r == NULL) {
        return load_fail(load, LOAD_SYSTEM, "memory: %s", strerror(errno));
    }
    load->engine_state = r;
    r->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll_fd < 0) {
        return load_fail(load, LOAD_SYSTEM, "epoll: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < load->options->connections; i++) {
        if (ready_add(load, i) < 0) {
            return -1;
        }
    }
    return 0;
}

const struct load_engine load_engine_epoll = {
    .name = "epoll",
    .open = ready_open,
    .send = ready_send,
    .turn = ready_turn,
};
