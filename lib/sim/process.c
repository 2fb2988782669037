/*
 * Hosts, their processes, and what a process has: descriptors by number, threads, signals. A process
 * ends when its main function returns, when a signal that it does not block arrives, or when a script
 * kills it. Then the kernel closes its descriptors, in the order of their numbers.
 *
 * Numbers are given out as Linux does, the lowest that is free, so that a number is used again at
 * once: whoever closes too early, or twice, hits somebody else's file. 0, 1 and 2 are taken and
 * refer to nothing.
 */
#include "sim/thread.h"
#include "sim/world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_FD = 3, SIGNAL_STATUS = 128, LOOPBACK_NS = 5000 };

/* ---- files ---- */

void *gyre__sim_file_new(struct gyre_sim_host *host, const struct sim_file_ops *ops, size_t len)
{
    struct sim_file *file = gyre__sim_alloc(len);

    file->ops = ops;
    file->host = host;
    file->sim = host->sim;
    file->id = ++host->sim->file_ids;
    file->holds = 1;
    file->flags = O_RDWR;
    gyre__list_init(&file->waiters);
    gyre__list_init(&file->watches);
    return file;
}

void gyre__sim_file_hold(struct sim_file *file)
{
    gyre_assert(file->holds > 0);
    file->holds++;
}

void gyre__sim_file_put(struct sim_file *file)
{
    gyre_assert(file->holds > 0);
    if (--file->holds > 0) {
        return;
    }
    gyre_assert(file->descriptors == 0 && gyre__list_empty(&file->waiters) &&
                gyre__list_empty(&file->watches));
    if (file->ops->destroy != NULL) {
        file->ops->destroy(file);
    }
    free(file);
}

void gyre__sim_file_open(struct sim_file *file)
{
    gyre__sim_file_hold(file);
    file->descriptors++;
}

void gyre__sim_file_close(struct sim_file *file)
{
    gyre_assert(file->descriptors > 0);
    if (--file->descriptors == 0) {
        gyre__sim_epoll_forget(file);
        if (file->ops->release != NULL) {
            file->ops->release(file);
        }
    }
    gyre__sim_file_put(file);
}

/* From the first to the last, as they came; one may leave while the others are told. */
void gyre__sim_file_wake(struct sim_file *file, uint32_t events)
{
    struct gyre_link now;

    gyre__sim_file_hold(file);
    gyre__list_take(&now, &file->waiters);
    while (!gyre__list_empty(&now)) {
        struct sim_waiter *waiter = gyre_container_of(now.next, struct sim_waiter, link);

        gyre__list_remove(&waiter->link);
        gyre__list_append(&file->waiters, &waiter->link);
        waiter->wake(waiter, events);
    }
    gyre__sim_file_put(file);
}

void gyre__sim_wait_add(struct sim_file *file, struct sim_waiter *waiter)
{
    gyre__list_append(&file->waiters, &waiter->link);
}

void gyre__sim_wait_remove(struct sim_waiter *waiter)
{
    gyre__list_remove(&waiter->link);
}

/* ---- descriptors ---- */

struct sim_file *gyre__sim_fd_file(const struct gyre_sim_process *process, int number)
{
    return number >= 0 && number < SIM_FDS_MAX ? process->fd[number].file : NULL;
}

static int lowest_free(const struct gyre_sim_process *process, int least)
{
    int number = least > FIRST_FD ? least : FIRST_FD;

    while (number < SIM_FDS_MAX && process->fd[number].file != NULL) {
        number++;
    }
    return number < (int)process->fd_limit ? number : -EMFILE;
}

int gyre__sim_fd_room(const struct gyre_sim_process *process, uint32_t count)
{
    int number = FIRST_FD - 1;

    for (; count > 0; count--) {
        number = lowest_free(process, number + 1);
        if (number < 0) {
            gyre__sim_sometimes(process->host->sim, GYRE_SIM_PATH_FDS_EXHAUSTED);
            return number;
        }
    }
    return 0;
}

int gyre__sim_fd_install(struct gyre_sim_process *process, struct sim_file *file, int least,
                         int cloexec)
{
    const int number = lowest_free(process, least);

    if (number < 0) {
        gyre__sim_sometimes(process->host->sim, GYRE_SIM_PATH_FDS_EXHAUSTED);
        return number;
    }
    gyre__sim_file_open(file);
    process->fd[number].file = file;
    process->fd[number].cloexec = (uint8_t)(cloexec != 0);
    process->fds_open++;
    if (number == process->last_closed) {
        gyre__sim_sometimes(process->host->sim, GYRE_SIM_PATH_FD_REUSED);
    }
    if ((uint32_t)number >= process->fd_count) {
        process->fd_count = (uint32_t)number + 1;
    }
    return number;
}

int gyre__sim_fd_close(struct gyre_sim_process *process, int number)
{
    struct sim_file *file = gyre__sim_fd_file(process, number);

    if (file == NULL) {
        return -EBADF;
    }
    process->fd[number].file = NULL;
    process->fds_open--;
    process->last_closed = number;
    gyre__sim_file_close(file);
    return 0;
}

/* ---- hosts ---- */

static int add_address(struct gyre_sim_host *host, const char *text, size_t len)
{
    char copy[64];
    struct gyre_addr addr;
    int rc;

    if (len >= sizeof(copy) || host->address_count == SIM_ADDRESSES_MAX) {
        return -EINVAL;
    }
    memcpy(copy, text, len);
    copy[len] = '\0';
    rc = gyre_addr_parse_ip(copy, 0, &addr);
    if (rc < 0) {
        return rc;
    }
    if (gyre__sim_host_has(host, &addr.any)) {
        return -EADDRINUSE; /* named twice */
    }
    for (struct gyre_link *link = host->sim->hosts.next; link != &host->sim->hosts;
         link = link->next) {
        if (gyre__sim_host_has(gyre_container_of(link, struct gyre_sim_host, link), &addr.any)) {
            return -EADDRINUSE;
        }
    }
    memcpy(&host->address[host->address_count++], &addr.any, addr.len);
    return 0;
}

static int add_addresses(struct gyre_sim_host *host, const char *text)
{
    int rc;

    for (;; text++) {
        const size_t len = strcspn(text, ",");

        rc = add_address(host, text, len);
        text += len;
        if (rc < 0 || *text == '\0') {
            return rc;
        }
    }
}

int gyre_sim_host_create(struct gyre_sim *sim, const char *name, const char *address,
                         struct gyre_sim_host **out_host)
{
    struct gyre_sim_host *host;
    int rc;

    if (sim == NULL || name == NULL || address == NULL || out_host == NULL ||
        strlen(name) >= SIM_NAME_MAX) {
        return -EINVAL;
    }
    host = gyre__sim_alloc(sizeof(*host));
    host->sim = sim;
    host->loopback_ns = LOOPBACK_NS;
    snprintf(host->name, sizeof(host->name), "%s", name);
    gyre__list_init(&host->processes);
    gyre__list_init(&host->bindings);
    gyre__list_init(&host->paths);
    gyre__list_init(&host->abstract);
    gyre__list_init(&host->links);
    gyre__list_init(&host->connections);
    gyre__list_init(&host->datagrams);
    gyre__list_init(&host->nudges);
    gyre__list_init(&host->unix_sockets);
    rc = add_addresses(host, address);
    if (rc < 0) {
        free(host);
        return rc;
    }
    host->index = sim->host_count++;
    gyre__list_append(&sim->hosts, &host->link);
    *out_host = host;
    return 0;
}

static void free_process(struct gyre_sim_process *process)
{
    gyre__list_remove(&process->link);
    gyre__sim_threads_free(process);
    free(process);
}

void gyre__sim_host_free(struct gyre_sim_host *host)
{
    for (struct gyre_link *link = host->processes.next; link != &host->processes;
         link = link->next) {
        gyre__sim_process_end(gyre_container_of(link, struct gyre_sim_process, link));
    }
    gyre__sim_unix_free(host);
    gyre__sim_nudges_free(host);
    gyre__sim_tcp_free(host);
    gyre__sim_udp_free(host);
    gyre__sim_paths_free(host);
    gyre__sim_net_free(host);
    while (!gyre__list_empty(&host->processes)) {
        free_process(gyre_container_of(host->processes.next, struct gyre_sim_process, link));
    }
    gyre__list_remove(&host->link);
    free(host);
}

/* ---- processes ---- */

static void *process_main(void *data)
{
    struct gyre_sim_process *process = data;

    return (void *)(intptr_t)process->main(process->context);
}

int gyre_sim_spawn(struct gyre_sim_host *host, int (*main)(void *context), void *context,
                   unsigned flags, struct gyre_sim_process **out_process)
{
    struct gyre_sim_process *process;
    struct sim_thread *thread;

    if (host == NULL || main == NULL || (flags & ~GYRE_SIM_DAEMON) != 0) {
        return -EINVAL;
    }
    process = gyre__sim_alloc(sizeof(*process));
    process->host = host;
    process->pid = ++host->sim->pids;
    process->flags = flags;
    process->fd_limit = SIM_FDS_MAX;
    process->timer_slack_ns = SIM_TIMER_SLACK_NS;
    process->last_closed = -1;
    process->main = main;
    process->context = context;
    gyre__list_init(&process->threads);
    gyre__list_init(&process->signal_files);
    gyre__list_append(&host->processes, &process->link);
    thread = gyre__sim_thread_new(process, process_main, process);
    if (thread == NULL) {
        free_process(process);
        return -ENOMEM;
    }
    thread->is_main = 1;
    host->sim->processes += !(flags & GYRE_SIM_DAEMON);
    if (out_process != NULL) {
        *out_process = process;
    }
    return 0;
}

/* In the scheduler, or in a script. Threads are freed with the process: one may be in the middle of
 * a call that led here. */
void gyre__sim_process_end(struct gyre_sim_process *process)
{
    struct gyre_sim *sim = process->host->sim;

    if (process->ended) {
        return;
    }
    process->ended = 1;
    for (struct gyre_link *link = process->threads.next; link != &process->threads;
         link = link->next) {
        gyre__sim_thread_stop(gyre_container_of(link, struct sim_thread, link));
    }
    for (uint32_t number = 0; number < process->fd_count; number++) {
        gyre__sim_fd_close(process, (int)number);
    }
    sim->processes -= !(process->flags & GYRE_SIM_DAEMON);
    gyre__sim_trace(sim, "process %u of %s ends with %d", process->pid, process->host->name,
                    process->status);
}

void gyre__sim_thread_ended(struct sim_thread *thread)
{
    struct gyre_sim_process *process = thread->process;

    if (thread->joiner != NULL) {
        gyre__sim_thread_wake(thread->joiner);
    }
    if (!thread->is_main) {
        return;
    }
    if (process->status != 0) {
        gyre__sim_failed(process->host->sim, "process %u of %s ended with status %d", process->pid,
                         process->host->name, process->status);
    }
    gyre__sim_process_end(process);
}

int gyre_sim_ended(const struct gyre_sim_process *process, int *out_status)
{
    if (process->ended && out_status != NULL) {
        *out_status = process->status;
    }
    return process->ended;
}

int gyre_sim_kill(struct gyre_sim_process *process)
{
    if (process == NULL || process == gyre__sim_process()) {
        return -EINVAL;
    }
    if (process->ended) {
        return -ESRCH;
    }
    process->status = SIGNAL_STATUS + SIGKILL;
    gyre__sim_process_end(process);
    return 0;
}

int gyre_sim_limit_fds(struct gyre_sim_process *process, unsigned limit)
{
    if (process == NULL || limit < 1 || limit > SIM_FDS_MAX - 1) {
        return -EINVAL;
    }
    process->fd_limit = limit;
    return 0;
}

int gyre_sim_signal(struct gyre_sim_process *process, int number)
{
    if (process == NULL || number < 1 || number > 64) {
        return -EINVAL;
    }
    if (process->ended) {
        return -ESRCH;
    }
    gyre__sim_trace(process->host->sim, "signal %d to process %u", number, process->pid);
    if (number == SIGKILL || !(process->signals_blocked >> (number - 1) & 1)) {
        if (process == gyre__sim_process()) {
            return -EINVAL; /* a program does not end under its own feet */
        }
        process->status = SIGNAL_STATUS + number;
        gyre__sim_process_end(process);
        return 0;
    }
    process->signals_pending |= UINT64_C(1) << (number - 1);
    gyre__sim_signals_changed(process);
    return 0;
}
