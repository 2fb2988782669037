/*
 * epoll, as fs/eventpoll.c does it: an entry listens to its file, is put on the list of the ready
 * ones when the file wakes it with an event that it wants, and is asked again when it is taken. An
 * edge-triggered entry then leaves the list until the next wake-up; a level-triggered one stays on it
 * as long as it has something to tell.
 */
#include "base/assert.h"
#include "sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

struct epoll {
    struct sim_file file;
    struct gyre_link entries; /* all */
    struct gyre_link ready;
    uint32_t entry_count;
};

struct entry {
    struct epoll *epoll;
    struct gyre_link link;       /* of epoll->entries */
    struct gyre_link ready_link; /* of epoll->ready */
    struct gyre_link watch;      /* of file->watches */
    struct sim_waiter waiter;
    struct sim_file *file;
    int number; /* with the file what the entry is known by */
    struct epoll_event event;
};

#define ALWAYS (EPOLLERR | EPOLLHUP)

static struct epoll *epoll_of(struct sim_file *file)
{
    gyre_assert(gyre__sim_is_epoll(file));
    return gyre_container_of(file, struct epoll, file);
}

static void make_ready(struct entry *entry)
{
    if (gyre__list_empty(&entry->ready_link)) {
        gyre__list_append(&entry->epoll->ready, &entry->ready_link);
    }
    gyre__sim_file_wake(&entry->epoll->file, EPOLLIN);
}

static uint32_t wanted(const struct entry *entry)
{
    return entry->event.events | ALWAYS;
}

static void woke(struct sim_waiter *waiter, uint32_t events)
{
    struct entry *entry = gyre_container_of(waiter, struct entry, waiter);

    if (events & wanted(entry)) {
        make_ready(entry);
    }
}

static void remove_entry(struct entry *entry)
{
    gyre__list_remove(&entry->link);
    gyre__list_remove(&entry->ready_link);
    gyre__list_remove(&entry->watch);
    gyre__sim_wait_remove(&entry->waiter);
    entry->epoll->entry_count--;
    free(entry);
}

/* ---- the file ---- */

static uint32_t epoll_poll(struct sim_file *file)
{
    struct epoll *epoll = epoll_of(file);

    for (struct gyre_link *link = epoll->ready.next; link != &epoll->ready; link = link->next) {
        const struct entry *entry = gyre_container_of(link, struct entry, ready_link);

        if (entry->file->ops->poll(entry->file) & wanted(entry)) {
            return EPOLLIN | EPOLLRDNORM;
        }
    }
    return 0;
}

static void epoll_release(struct sim_file *file)
{
    struct epoll *epoll = epoll_of(file);

    while (!gyre__list_empty(&epoll->entries)) {
        remove_entry(gyre_container_of(epoll->entries.next, struct entry, link));
    }
}

static const struct sim_file_ops epoll_ops = {
    .name = "epoll",
    .poll = epoll_poll,
    .release = epoll_release,
};

int gyre__sim_epoll_make(struct gyre_sim_host *host, struct sim_file **out_file)
{
    struct epoll *epoll = gyre__sim_file_new(host, &epoll_ops, sizeof(*epoll));

    gyre__list_init(&epoll->entries);
    gyre__list_init(&epoll->ready);
    *out_file = &epoll->file;
    return 0;
}

int gyre__sim_is_epoll(const struct sim_file *file)
{
    return file->ops == &epoll_ops;
}

void gyre__sim_epoll_forget(struct sim_file *file)
{
    while (!gyre__list_empty(&file->watches)) {
        remove_entry(gyre_container_of(file->watches.next, struct entry, watch));
    }
}

/* ---- epoll_ctl ---- */

static struct entry *find(struct epoll *epoll, int number, const struct sim_file *file)
{
    for (struct gyre_link *link = file->watches.next; link != &file->watches; link = link->next) {
        struct entry *entry = gyre_container_of(link, struct entry, watch);

        if (entry->epoll == epoll && entry->number == number) {
            return entry;
        }
    }
    return NULL;
}

/* What holds already is told too, once. */
static void look(struct entry *entry)
{
    if (entry->file->ops->poll(entry->file) & wanted(entry)) {
        make_ready(entry);
    }
}

static int add(struct epoll *epoll, int number, struct sim_file *file,
               const struct epoll_event *event)
{
    struct entry *entry;

    if (gyre__sim_fault(file->sim, GYRE_SIM_FAULT_EPOLL_CTL_ENOMEM)) {
        return -ENOMEM;
    }
    entry = gyre__sim_alloc(sizeof(*entry));
    entry->epoll = epoll;
    entry->file = file;
    entry->number = number;
    entry->event = *event;
    entry->waiter.wake = woke;
    gyre__list_init(&entry->ready_link);
    gyre__list_init(&entry->waiter.link);
    gyre__list_append(&epoll->entries, &entry->link);
    gyre__list_append(&file->watches, &entry->watch);
    gyre__sim_wait_add(file, &entry->waiter);
    epoll->entry_count++;
    look(entry);
    return 0;
}

int gyre__sim_epoll_control(struct sim_file *file, int what, int number, struct sim_file *target,
                            const struct epoll_event *event)
{
    struct epoll *epoll = epoll_of(file);
    struct entry *entry = find(epoll, number, target);

    switch (what) {
    case EPOLL_CTL_ADD:
        return entry != NULL ? -EEXIST : add(epoll, number, target, event);
    case EPOLL_CTL_MOD:
        if (entry == NULL) {
            return -ENOENT;
        }
        entry->event = *event;
        look(entry);
        return 0;
    case EPOLL_CTL_DEL:
        if (entry == NULL) {
            return -ENOENT;
        }
        remove_entry(entry);
        return 0;
    default:
        return -EINVAL;
    }
}

/* ---- epoll_wait ---- */

/* Any entry may be told of readiness that is gone when the program looks (epoll(7) warns of it). */
static struct entry *spurious(struct epoll *epoll)
{
    struct gyre_sim *sim = epoll->file.sim;
    struct gyre_link *link = epoll->entries.next;
    uint64_t skip;

    if (epoll->entry_count == 0 || !gyre__sim_fault(sim, GYRE_SIM_FAULT_EPOLL_SPURIOUS)) {
        return NULL;
    }
    for (skip = gyre__sim_below(sim, epoll->entry_count); skip > 0; skip--) {
        link = link->next;
    }
    return gyre_container_of(link, struct entry, link);
}

static int put_event(struct epoll_event *event, const struct entry *entry, uint32_t events)
{
    event->events = events;
    event->data = entry->event.data;
    return 1;
}

int gyre__sim_epoll_take(struct sim_file *file, struct epoll_event *events, int count)
{
    struct epoll *epoll = epoll_of(file);
    const struct entry *surprised = spurious(epoll);
    struct gyre_link now;
    int taken = 0;

    gyre__list_take(&now, &epoll->ready);
    while (taken < count && !gyre__list_empty(&now)) {
        struct entry *entry = gyre_container_of(now.next, struct entry, ready_link);
        const uint32_t hold = entry->file->ops->poll(entry->file) & wanted(entry);

        gyre__list_remove(&entry->ready_link);
        if (hold == 0) {
            continue;
        }
        taken += put_event(&events[taken], entry, hold);
        if (!(entry->event.events & EPOLLET)) {
            gyre__list_append(&epoll->ready, &entry->ready_link);
        }
    }
    while (!gyre__list_empty(&epoll->ready)) { /* those told of already: behind the others */
        struct gyre_link *link = epoll->ready.next;

        gyre__list_remove(link);
        gyre__list_append(&now, link);
    }
    gyre__list_move(&epoll->ready, &now);
    if (taken < count && surprised != NULL) {
        taken +=
            put_event(&events[taken], surprised, surprised->event.events & (EPOLLIN | EPOLLOUT));
    }
    return taken;
}
