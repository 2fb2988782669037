/* gyre's timers; see timers.h. */
#include "timers.h"

#include <err.h>
#include <gyre.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct gyre_loop *loop;
static struct gyre_timer *all;

static void must(int rc)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "gyre: %s", gyre_strerror(rc));
    }
}

static void on_timer(struct gyre_timer *timer)
{
    timers_fired((uint32_t)(timer - all));
}

static void timers_open(uint32_t count, const char *backend)
{
    const bool epoll = backend != NULL && strcmp(backend, "epoll") == 0;
    const struct gyre_loop_options options = {
        .backend = epoll ? GYRE_BACKEND_EPOLL : GYRE_BACKEND_URING,
    };

    must(gyre_loop_create(&loop, &options));
    all = calloc(count, sizeof(*all));
    if (all == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        must(gyre_timer_init(&all[i], loop, on_timer));
    }
}

static void timers_refresh(void)
{
    gyre_loop_update_now(loop);
}

static void timers_start(uint32_t index, uint32_t timeout_ms)
{
    must(gyre_timer_start(&all[index], timeout_ms * GYRE_MSEC));
}

static void timers_stop(uint32_t index)
{
    gyre_timer_stop(&all[index]);
}

static void timers_run(void)
{
    must(gyre_loop_run(loop, GYRE_RUN_DEFAULT));
}

static void timers_close(void)
{
    must(gyre_loop_destroy(loop));
    free(all);
}

const struct timers timers = {
    .name = "gyre",
    .version = BENCH_PEER_VERSION,
    .open = timers_open,
    .refresh = timers_refresh,
    .start = timers_start,
    .restart = timers_start,
    .stop = timers_stop,
    .run = timers_run,
    .close = timers_close,
};
