/* uv_async_send() and a queue; see post.h. */
#include "post.h"

#include <err.h>
#include <stdlib.h>
#include <uv.h>

static uv_loop_t loop;
static uv_async_t async;

static void must(int rc)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "libuv: %s", uv_strerror(rc));
    }
}

static void on_async(uv_async_t *handle)
{
    if (queue_take_all() != 0) {
        uv_close((uv_handle_t *)handle, NULL);
    }
}

static void post_open(const char *backend)
{
    (void)backend;
    must(uv_loop_init(&loop));
    must(uv_async_init(&loop, &async, on_async));
}

static void post_post(uint64_t number)
{
    queue_push(number);
    must(uv_async_send(&async));
}

static void post_run(void)
{
    must(uv_run(&loop, UV_RUN_DEFAULT));
}

static void post_close(void)
{
    must(uv_loop_close(&loop));
}

const struct poster poster = {
    .name = "libuv",
    .open = post_open,
    .post = post_post,
    .run = post_run,
    .close = post_close,
};
