/* libev's timers; see timers.h. ev_timer_again() is its way to restart one that runs. */
#include "timers.h"

#include <err.h>
#include <ev.h>
#include <stdlib.h>

static struct ev_loop *loop;
static ev_timer *all;

static void on_timer(struct ev_loop *of, ev_timer *timer, int events)
{
    (void)of;
    (void)events;
    timers_fired((uint32_t)(timer - all));
}

static void timers_open(uint32_t count, const char *backend)
{
    (void)backend;
    loop = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    all = calloc(count, sizeof(*all));
    if (loop == NULL || all == NULL) {
        errx(EXIT_FAILURE, "libev: loop or memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        ev_timer_init(&all[i], on_timer, 0.0, 0.0);
    }
}

static void timers_refresh(void)
{
    ev_now_update(loop);
}

static void timers_start(uint32_t index, uint32_t timeout_ms)
{
    ev_timer_set(&all[index], timeout_ms / 1e3, 0.0);
    ev_timer_start(loop, &all[index]);
}

static void timers_restart(uint32_t index, uint32_t timeout_ms)
{
    all[index].repeat = timeout_ms / 1e3;
    ev_timer_again(loop, &all[index]);
}

static void timers_stop(uint32_t index)
{
    ev_timer_stop(loop, &all[index]);
}

static void timers_run(void)
{
    ev_run(loop, 0);
}

static void timers_close(void)
{
    ev_loop_destroy(loop);
    free(all);
}

const struct timers timers = {
    .name = "libev",
    .version = BENCH_PEER_VERSION,
    .open = timers_open,
    .refresh = timers_refresh,
    .start = timers_start,
    .restart = timers_restart,
    .stop = timers_stop,
    .run = timers_run,
    .close = timers_close,
};
