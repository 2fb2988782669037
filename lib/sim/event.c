/*
 * The small files that other files are waited for with: eventfd(2), timerfd_create(2), signalfd(2).
 */
#include "base/assert.h"
#include "sim/sim.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

static size_t put(const struct iovec *pieces, int count, const void *data, size_t len)
{
    return gyre__sim_scatter(pieces, (size_t)count, 0, data, len);
}

/* ---- eventfd ---- */

struct event_file {
    struct sim_file file;
    uint64_t count;
};

#define COUNT_MAX (UINT64_MAX - 1)

static struct event_file *event_of(struct sim_file *file)
{
    return gyre_container_of(file, struct event_file, file);
}

static uint32_t event_poll(struct sim_file *file)
{
    const uint64_t count = event_of(file)->count;

    return (count > 0 ? EPOLLIN : 0u) | (count < COUNT_MAX ? EPOLLOUT : 0u);
}

static ssize_t event_read(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    struct event_file *event = event_of(file);
    const uint64_t value = event->count;

    (void)flags;
    if (gyre__sim_pieces_len(pieces, (size_t)count) < sizeof(value)) {
        return -EINVAL;
    }
    if (value == 0) {
        return -EAGAIN;
    }
    event->count = 0;
    put(pieces, count, &value, sizeof(value));
    gyre__sim_file_wake(file, EPOLLOUT);
    return sizeof(value);
}

static ssize_t event_write(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    struct event_file *event = event_of(file);
    uint64_t value;

    (void)flags;
    if (gyre__sim_gather(pieces, (size_t)count, 0, &value, sizeof(value)) < sizeof(value) ||
        value == UINT64_MAX) {
        return -EINVAL;
    }
    if (value > COUNT_MAX - event->count) {
        return -EAGAIN;
    }
    event->count += value;
    gyre__sim_file_wake(file, EPOLLIN);
    return sizeof(value);
}

static const struct sim_file_ops event_ops = {
    .name = "eventfd",
    .poll = event_poll,
    .read = event_read,
    .write = event_write,
};

int gyre__sim_eventfd_make(struct gyre_sim_host *host, unsigned value, int flags,
                           struct sim_file **out_file)
{
    struct event_file *event;

    if (flags & ~(EFD_CLOEXEC | EFD_NONBLOCK)) {
        return -EINVAL; /* no semaphores here */
    }
    event = gyre__sim_file_new(host, &event_ops, sizeof(*event));
    event->count = value;
    *out_file = &event->file;
    return 0;
}

/* ---- timerfd: absolute, once ---- */

struct timer_file {
    struct sim_file file;
    struct sim_event event;
    uint64_t expired;
};

#define CLOCK_BEGIN_NS (1000 * GYRE_SEC) /* what CLOCK_MONOTONIC says at the beginning */

static struct timer_file *timer_of(struct sim_file *file)
{
    return gyre_container_of(file, struct timer_file, file);
}

static uint32_t timer_poll(struct sim_file *file)
{
    return timer_of(file)->expired > 0 ? EPOLLIN : 0;
}

static ssize_t timer_read(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    struct timer_file *timer = timer_of(file);
    const uint64_t expired = timer->expired;

    (void)flags;
    if (gyre__sim_pieces_len(pieces, (size_t)count) < sizeof(expired)) {
        return -EINVAL;
    }
    if (expired == 0) {
        return -EAGAIN;
    }
    timer->expired = 0;
    put(pieces, count, &expired, sizeof(expired));
    return sizeof(expired);
}

static void timer_release(struct sim_file *file)
{
    gyre__sim_unschedule(file->sim, &timer_of(file)->event);
}

static const struct sim_file_ops timer_ops = {
    .name = "timerfd",
    .poll = timer_poll,
    .read = timer_read,
    .release = timer_release,
};

static void expire(struct sim_event *event)
{
    struct timer_file *timer = gyre_container_of(event, struct timer_file, event);

    timer->expired++;
    gyre__sim_file_wake(&timer->file, EPOLLIN);
}

int gyre__sim_timerfd_make(struct gyre_sim_host *host, struct sim_file **out_file)
{
    struct timer_file *timer = gyre__sim_file_new(host, &timer_ops, sizeof(*timer));

    timer->event.fire = expire;
    *out_file = &timer->file;
    return 0;
}

int gyre__sim_timerfd_set(struct sim_file *file, int flags, const struct itimerspec *when)
{
    const uint64_t moment =
        (uint64_t)when->it_value.tv_sec * GYRE_SEC + (uint64_t)when->it_value.tv_nsec;
    struct timer_file *timer = timer_of(file);

    if (file->ops != &timer_ops || !(flags & TFD_TIMER_ABSTIME) || when->it_interval.tv_sec != 0 ||
        when->it_interval.tv_nsec != 0) {
        return -EINVAL;
    }
    timer->expired = 0;
    gyre__sim_unschedule(file->sim, &timer->event);
    if (moment != 0) {
        gyre__sim_schedule(file->sim, &timer->event,
                           moment > CLOCK_BEGIN_NS ? moment - CLOCK_BEGIN_NS : 0);
    }
    return 0;
}

/* ---- signalfd: the signals of its process that it asks for ---- */

struct signal_file {
    struct sim_file file;
    struct gyre_link link; /* of the process */
    struct gyre_sim_process *process;
    uint64_t set;
};

static struct signal_file *signal_of(struct sim_file *file)
{
    return gyre_container_of(file, struct signal_file, file);
}

static uint32_t signal_poll(struct sim_file *file)
{
    const struct signal_file *signal = signal_of(file);

    return signal->process->signals_pending & signal->set ? EPOLLIN : 0;
}

static ssize_t signal_read(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    const struct signal_file *signal = signal_of(file);
    const uint64_t pending = signal->process->signals_pending & signal->set;
    struct signalfd_siginfo info = {0};

    (void)flags;
    if (gyre__sim_pieces_len(pieces, (size_t)count) < sizeof(info)) {
        return -EINVAL;
    }
    if (pending == 0) {
        return -EAGAIN;
    }
    info.ssi_signo = (uint32_t)__builtin_ctzll(pending) + 1;
    signal->process->signals_pending &= ~(pending & (~pending + 1)); /* the lowest */
    put(pieces, count, &info, sizeof(info));
    return sizeof(info);
}

static void signal_release(struct sim_file *file)
{
    gyre__list_remove(&signal_of(file)->link);
}

static const struct sim_file_ops signal_ops = {
    .name = "signalfd",
    .poll = signal_poll,
    .read = signal_read,
    .release = signal_release,
};

int gyre__sim_signalfd_make(struct gyre_sim_process *process, uint64_t set,
                            struct sim_file **out_file)
{
    struct signal_file *signal = gyre__sim_file_new(process->host, &signal_ops, sizeof(*signal));

    signal->process = process;
    signal->set = set;
    gyre__list_append(&process->signal_files, &signal->link);
    *out_file = &signal->file;
    return 0;
}

void gyre__sim_signals_changed(struct gyre_sim_process *process)
{
    struct gyre_link *files = &process->signal_files;

    for (struct gyre_link *link = files->next; link != files; link = link->next) {
        gyre__sim_file_wake(&gyre_container_of(link, struct signal_file, link)->file, EPOLLIN);
    }
}
