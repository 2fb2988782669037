/* The caller's timers: the wheel orders them, the loop pops them. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "core/loop.h"

#include <errno.h>
#include <string.h>

static void expired(struct gyre_alarm *alarm)
{
    struct gyre_timer *timer = gyre_container_of(alarm, struct gyre_timer, alarm);

    timer->loop->timers--;
    timer->loop->background_timers -= timer->background;
    timer->loop->stats.timers++;
    timer->fn(timer);
}

int gyre_timer_init(struct gyre_timer *timer, struct gyre_loop *loop, gyre_timer_fn fn)
{
    if (timer == NULL || loop == NULL || fn == NULL) {
        return -EINVAL;
    }
    memset(timer, 0, sizeof(*timer));
    timer->loop = loop;
    timer->fn = fn;
    timer->alarm.fire = expired;
    gyre__alarm_init(&timer->alarm);
    return 0;
}

static int check(const struct gyre_timer *timer)
{
    if (timer == NULL || timer->loop == NULL || timer->fn == NULL) {
        return -EINVAL;
    }
    return gyre__loop_check(timer->loop);
}

int gyre_timer_start_at(struct gyre_timer *timer, uint64_t deadline_ns)
{
    const int rc = check(timer);
    struct gyre_loop *loop;

    if (rc < 0) {
        return rc;
    }
    loop = timer->loop;
    if (gyre__alarm_active(&timer->alarm)) {
        gyre__wheel_remove(&loop->wheel, &timer->alarm);
    } else {
        loop->timers++;
        loop->background_timers += timer->background;
    }
    gyre__wheel_add(&loop->wheel, &timer->alarm, deadline_ns);
    return 0;
}

int gyre_timer_start(struct gyre_timer *timer, uint64_t timeout_ns)
{
    const uintptr_t place = (uintptr_t)timer; /* NULL has no members, but may be prefetched */

    /* Reading the clock lets nothing overtake it, so a timer that is not in the cache would be
     * waited for after it. This way both take their time at once. */
    __builtin_prefetch((const void *)(place + offsetof(struct gyre_timer, alarm)), 1);
    __builtin_prefetch((const void *)(place + offsetof(struct gyre_timer, fn)));
    return gyre_timer_start_at(timer, gyre__time_add(gyre__clock_now(), timeout_ns));
}

void gyre_timer_stop(struct gyre_timer *timer)
{
    gyre_assert(check(timer) == 0);
    if (gyre__alarm_active(&timer->alarm)) {
        gyre__wheel_remove(&timer->loop->wheel, &timer->alarm);
        timer->loop->timers--;
        timer->loop->background_timers -= timer->background;
    }
}

int gyre_timer_active(const struct gyre_timer *timer)
{
    return timer != NULL && timer->loop != NULL && gyre__alarm_active(&timer->alarm);
}

int gyre_timer_background(struct gyre_timer *timer, int background)
{
    const int rc = check(timer);

    if (rc < 0) {
        return rc;
    }
    if (gyre__alarm_active(&timer->alarm)) {
        return -EBUSY;
    }
    timer->background = background != 0;
    return 0;
}
