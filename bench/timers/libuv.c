/* libuv's timers; see timers.h. */
#include "timers.h"

#include <err.h>
#include <stdlib.h>
#include <uv.h>

static uv_loop_t loop;
static uv_timer_t *all;
static uint32_t total;

static void must(int rc)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "libuv: %s", uv_strerror(rc));
    }
}

static void on_timer(uv_timer_t *timer)
{
    timers_fired((uint32_t)(timer - all));
}

static void timers_open(uint32_t count, const char *backend)
{
    (void)backend;
    must(uv_loop_init(&loop));
    all = calloc(count, sizeof(*all));
    total = count;
    if (all == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        must(uv_timer_init(&loop, &all[i]));
    }
}

static void timers_refresh(void)
{
    uv_update_time(&loop);
}

static void timers_start(uint32_t index, uint32_t timeout_ms)
{
    must(uv_timer_start(&all[index], on_timer, timeout_ms, 0));
}

static void timers_stop(uint32_t index)
{
    must(uv_timer_stop(&all[index]));
}

static void timers_run(void)
{
    must(uv_run(&loop, UV_RUN_DEFAULT));
}

static void timers_close(void)
{
    for (uint32_t i = 0; i < total; i++) {
        uv_close((uv_handle_t *)&all[i], NULL);
    }
    timers_run();
    must(uv_loop_close(&loop));
    free(all);
}

const struct timers timers = {
    .name = "libuv",
    .version = BENCH_PEER_VERSION,
    .open = timers_open,
    .refresh = timers_refresh,
    .start = timers_start,
    .restart = timers_start,
    .stop = timers_stop,
    .run = timers_run,
    .close = timers_close,
};
