/* libevent's timers; see timers.h. The base takes no locks. */
#include "timers.h"

#include <err.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <sys/time.h>

static struct event_base *base;
static struct event *all;

static void on_timer(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    timers_fired((uint32_t)((struct event *)context - all));
}

static void timers_open(uint32_t count, const char *backend)
{
    struct event_config *config = event_config_new();

    (void)backend;
    if (config == NULL || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) < 0) {
        errx(EXIT_FAILURE, "libevent: configuration");
    }
    base = event_base_new_with_config(config);
    event_config_free(config);
    all = calloc(count, sizeof(*all));
    if (base == NULL || all == NULL) {
        errx(EXIT_FAILURE, "libevent: base or memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        evtimer_assign(&all[i], base, on_timer, &all[i]);
    }
}

/* Outside of its loop libevent reads the clock for each timer. */
static void timers_refresh(void)
{
}

static void timers_start(uint32_t index, uint32_t timeout_ms)
{
    const struct timeval timeout = {
        .tv_sec = timeout_ms / 1000,
        .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000,
    };

    if (evtimer_add(&all[index], &timeout) < 0) {
        errx(EXIT_FAILURE, "libevent: timer");
    }
}

static void timers_stop(uint32_t index)
{
    evtimer_del(&all[index]);
}

static void timers_run(void)
{
    if (event_base_dispatch(base) < 0) {
        errx(EXIT_FAILURE, "libevent: loop");
    }
}

static void timers_close(void)
{
    event_base_free(base);
    free(all);
}

const struct timers timers = {
    .name = "libevent",
    .version = BENCH_PEER_VERSION,
    .open = timers_open,
    .refresh = timers_refresh,
    .start = timers_start,
    .restart = timers_start,
    .stop = timers_stop,
    .run = timers_run,
    .close = timers_close,
};
