/* gyre_loop_post(); see post.h. */
#include "post.h"

#include <err.h>
#include <gyre.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct gyre_loop *loop;

static void must(int rc)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "gyre: %s", gyre_strerror(rc));
    }
}

static void on_post(struct gyre_loop *of, void *data)
{
    if (post_arrived((uint64_t)(uintptr_t)data) != 0) {
        gyre_loop_stop(of);
    }
}

static void post_open(const char *backend)
{
    const bool epoll = backend != NULL && strcmp(backend, "epoll") == 0;
    const struct gyre_loop_options options = {
        .backend = epoll ? GYRE_BACKEND_EPOLL : GYRE_BACKEND_URING,
        .post_capacity = POST_IN_FLIGHT_MAX,
    };

    must(gyre_loop_create(&loop, &options));
    gyre_loop_ref(loop);
}

static void post_post(uint64_t number)
{
    must(gyre_loop_post(loop, on_post, (void *)(uintptr_t)number));
}

static void post_run(void)
{
    must(gyre_loop_run(loop, GYRE_RUN_DEFAULT));
}

static void post_close(void)
{
    gyre_loop_unref(loop);
    must(gyre_loop_destroy(loop));
}

const struct poster poster = {
    .name = "gyre",
    .open = post_open,
    .post = post_post,
    .run = post_run,
    .close = post_close,
};
