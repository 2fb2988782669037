/* A write to an eventfd for each post, epoll, and a queue; see post.h. */
#include "post.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int event_fd;
static int epoll_fd;

static void post_open(const char *backend)
{
    struct epoll_event event = {.events = EPOLLIN};

    (void)backend;
    event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (event_fd < 0 || epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event) < 0) {
        err(EXIT_FAILURE, "eventfd");
    }
}

static void post_post(uint64_t number)
{
    const uint64_t one = 1;

    queue_push(number);
    if (write(event_fd, &one, sizeof(one)) < 0) {
        err(EXIT_FAILURE, "eventfd");
    }
}

static void post_run(void)
{
    struct epoll_event event;
    uint64_t count = 0;

    do {
        if (epoll_wait(epoll_fd, &event, 1, -1) < 0 && errno != EINTR) {
            err(EXIT_FAILURE, "epoll");
        }
        if (read(event_fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
            err(EXIT_FAILURE, "eventfd");
        }
    } while (queue_take_all() == 0);
}

static void post_close(void)
{
    close(event_fd);
    close(epoll_fd);
}

const struct poster poster = {
    .name = "eventfd",
    .open = post_open,
    .post = post_post,
    .run = post_run,
    .close = post_close,
};
