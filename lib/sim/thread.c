/*
 * Threads of simulated programs: coroutines on stacks of their own (swapcontext(3)), of which one at
 * most runs, until it sleeps.
 *
 *     NEW --event--> RUNNING --gyre__sim_thread_sleep()--> SLEEPING --event--> RUNNING
 *                       '--body returned--> ENDED
 *
 *  - NEW, SLEEPING: an event may be scheduled that lets it go on: its deadline, or soon if it was
 *    woken. Going on takes a moment, as on a machine with other things to do; it may be late, and is
 *    never early.
 *  - ENDED: waits to be joined, or for the end of its process.
 *
 * Mutexes and conditions are those of pthreads, which only this file looks at: a mutex is taken by
 * whoever finds its address on no list of holders.
 */
#include "sim/thread.h"

#include "sim/world.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#if defined(SIM_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

enum {
    STACK_LEN = 256 << 10,
    GUARD_LEN = 4096,
    WAKE_NS = 20000,        /* going on takes up to so long */
    LATE_NS = 50 * 1000000, /* or, as a fault, so long */
    MUTEX_RETRY_NS = 1000,
};

_Thread_local const struct gyre__kernel *gyre__kernel = &gyre__real_kernel;
const struct gyre__kernel *gyre__sim_programs = &gyre__sim_kernel;

static _Thread_local struct sim_thread *self;
static _Thread_local ucontext_t scheduler;
#if defined(SIM_ASAN)
static _Thread_local const void *scheduler_stack;
static _Thread_local size_t scheduler_stack_len;
#endif

struct sim_thread *gyre__sim_self(void)
{
    return self;
}

struct gyre_sim_process *gyre__sim_process(void)
{
    return self != NULL ? self->process : NULL;
}

/* ---- switching ---- */

/* AddressSanitizer has to know which stack is in use. */
static void before_switch(void **fake_stack, const void *stack, size_t len)
{
#if defined(SIM_ASAN)
    __sanitizer_start_switch_fiber(fake_stack, stack, len);
#else
    (void)fake_stack;
    (void)stack;
    (void)len;
#endif
}

static void after_switch(void *fake_stack)
{
#if defined(SIM_ASAN)
    const void *stack;
    size_t len;

    __sanitizer_finish_switch_fiber(fake_stack, &stack, &len);
    if (self != NULL) { /* we came from the scheduler */
        scheduler_stack = stack;
        scheduler_stack_len = len;
    }
#else
    (void)fake_stack;
#endif
}

static void to_scheduler(struct sim_thread *thread)
{
    void **keep = thread->state == SIM_THREAD_ENDED ? NULL : &thread->fake_stack;

#if defined(SIM_ASAN)
    before_switch(keep, scheduler_stack, scheduler_stack_len);
#else
    before_switch(keep, NULL, 0);
#endif
    swapcontext(&thread->context, &scheduler);
    after_switch(thread->fake_stack);
}

static void begin(void)
{
    struct sim_thread *thread = self;

    after_switch(NULL);
    thread->result = thread->body(thread->data);
    thread->state = SIM_THREAD_ENDED;
    if (thread->is_main) {
        thread->process->status = (int)(intptr_t)thread->result;
    }
    to_scheduler(thread);
    gyre_assert(0); /* an ended thread does not go on */
}

static void run(struct sim_thread *thread)
{
    void *fake_stack = NULL;

    gyre_assert(self == NULL);
    self = thread;
    gyre__kernel = gyre__sim_programs;
    thread->state = SIM_THREAD_RUNNING;
    thread->busy = 0;
    before_switch(&fake_stack, thread->stack, STACK_LEN);
    swapcontext(&scheduler, &thread->context);
    self = NULL;
    gyre__kernel = &gyre__real_kernel;
    after_switch(fake_stack);
    if (thread->state == SIM_THREAD_ENDED) {
        gyre__sim_thread_ended(thread);
    }
}

static void go_on(struct sim_event *event)
{
    run(gyre_container_of(event, struct sim_thread, resume));
}

/* ---- making and ending ---- */

struct sim_thread *gyre__sim_thread_new(struct gyre_sim_process *process, void *(*body)(void *),
                                        void *data)
{
    struct gyre_sim *sim = process->host->sim;
    struct sim_thread *thread;
    char *stack = mmap(NULL, STACK_LEN + GUARD_LEN, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);

    if (stack == MAP_FAILED) {
        return NULL;
    }
    mprotect(stack, GUARD_LEN, PROT_NONE);
    thread = gyre__sim_alloc(sizeof(*thread));
    thread->process = process;
    thread->stack = stack + GUARD_LEN;
    thread->body = body;
    thread->data = data;
    thread->resume.fire = go_on;
    gyre__list_init(&thread->waits);
    getcontext(&thread->context);
    thread->context.uc_stack.ss_sp = thread->stack;
    thread->context.uc_stack.ss_size = STACK_LEN;
    thread->context.uc_link = NULL;
    makecontext(&thread->context, begin, 0);
    gyre__list_append(&process->threads, &thread->link);
    gyre__sim_heap_add(sim, &sim->threads, &thread->resume, sim->now_ns);
    return thread;
}

static void free_thread(struct sim_thread *thread)
{
    struct gyre_sim *sim = thread->process->host->sim;

    gyre_assert(thread != self);
    gyre__sim_heap_remove(&sim->threads, &thread->resume);
    gyre__list_remove(&thread->link);
    munmap((char *)thread->stack - GUARD_LEN, STACK_LEN + GUARD_LEN);
    free(thread);
}

void gyre__sim_thread_stop(struct sim_thread *thread)
{
    gyre_assert(thread != self);
    gyre__sim_heap_remove(&thread->process->host->sim->threads, &thread->resume);
    thread->state = SIM_THREAD_ENDED;
    while (!gyre__list_empty(&thread->waits)) {
        gyre__sim_thread_wait_end(
            gyre_container_of(thread->waits.next, struct sim_file_wait, link));
    }
}

void gyre__sim_threads_free(struct gyre_sim_process *process)
{
    while (!gyre__list_empty(&process->threads)) {
        free_thread(gyre_container_of(process->threads.next, struct sim_thread, link));
    }
}

/* ---- sleeping and waking ---- */

static uint64_t lateness(struct gyre_sim *sim)
{
    const int late = gyre__sim_fault(sim, GYRE_SIM_FAULT_WAKE_LATE);

    if (late) {
        gyre__sim_sometimes(sim, GYRE_SIM_PATH_TIMER_LATE);
    }
    return gyre__sim_below(sim, late ? LATE_NS : WAKE_NS);
}

static void resume_at(struct sim_thread *thread, uint64_t when_ns)
{
    struct gyre_sim *sim = thread->process->host->sim;
    const uint64_t late_ns = lateness(sim);

    gyre__sim_heap_add(sim, &sim->threads, &thread->resume,
                       when_ns < UINT64_MAX - late_ns ? when_ns + late_ns : when_ns);
}

int gyre__sim_thread_sleep(uint64_t deadline_ns)
{
    struct sim_thread *thread = self;

    gyre_assert(thread != NULL && thread->state == SIM_THREAD_RUNNING);
    if (thread->woken) { /* between looking and sleeping */
        thread->woken = 0;
        deadline_ns = 0;
    }
    thread->state = SIM_THREAD_SLEEPING;
    if (deadline_ns != UINT64_MAX) {
        resume_at(thread, deadline_ns > thread->process->host->sim->now_ns
                              ? deadline_ns
                              : thread->process->host->sim->now_ns);
    }
    to_scheduler(thread);
    if (thread->woken) {
        thread->woken = 0;
        return 0;
    }
    return -ETIMEDOUT;
}

void gyre__sim_thread_wake(struct sim_thread *thread)
{
    if (thread->woken || thread->state == SIM_THREAD_ENDED) {
        return;
    }
    thread->woken = 1;
    if (thread->state == SIM_THREAD_SLEEPING) {
        resume_at(thread, thread->process->host->sim->now_ns);
    }
}

static void file_woke(struct sim_waiter *waiter, uint32_t events)
{
    (void)events;
    gyre__sim_thread_wake(gyre_container_of(waiter, struct sim_file_wait, waiter)->thread);
}

/* The file is held as long as somebody waits for it: its number may be closed meanwhile. */
void gyre__sim_thread_wait_begin(struct sim_file_wait *wait, struct sim_file *file)
{
    wait->thread = self;
    wait->file = file;
    wait->waiter.wake = file_woke;
    gyre__list_init(&wait->waiter.link);
    gyre__sim_file_hold(file);
    gyre__sim_wait_add(file, &wait->waiter);
    gyre__list_append(&self->waits, &wait->link);
}

void gyre__sim_thread_wait_end(struct sim_file_wait *wait)
{
    gyre__list_remove(&wait->link);
    gyre__sim_wait_remove(&wait->waiter);
    gyre__sim_file_put(wait->file);
}

int gyre__sim_file_await(struct sim_file *file, uint32_t events, uint64_t deadline_ns)
{
    struct sim_file_wait wait;
    int rc = 0;

    gyre__sim_thread_wait_begin(&wait, file);
    if (!(file->ops->poll(file) & events)) {
        rc = gyre__sim_thread_sleep(deadline_ns);
    }
    gyre__sim_thread_wait_end(&wait);
    return rc;
}

void gyre_sim_sleep(uint64_t duration_ns)
{
    struct gyre_sim *sim = self->process->host->sim;
    const uint64_t until =
        duration_ns < UINT64_MAX - sim->now_ns ? sim->now_ns + duration_ns : UINT64_MAX;

    while (sim->now_ns < until) {
        gyre__sim_thread_sleep(until);
    }
}

/* ---- pthreads ---- */

int gyre__sim_thread_join(struct sim_thread *thread, void **out_result)
{
    while (thread->state != SIM_THREAD_ENDED) {
        thread->joiner = self;
        gyre__sim_thread_sleep(UINT64_MAX);
    }
    if (out_result != NULL) {
        *out_result = thread->result;
    }
    free_thread(thread);
    return 0;
}

static int holds(const struct sim_thread *thread, const pthread_mutex_t *mutex)
{
    for (int i = 0; i < SIM_MUTEXES_MAX; i++) {
        if (thread->holds[i] == mutex && thread->state != SIM_THREAD_ENDED) {
            return 1;
        }
    }
    return 0;
}

/* In any process: what a program keeps in static memory, all programs of the world share. */
static struct sim_thread *holder_of(const pthread_mutex_t *mutex)
{
    const struct gyre_link *hosts = &self->process->host->sim->hosts;

    for (struct gyre_link *host = hosts->next; host != hosts; host = host->next) {
        const struct gyre_link *processes =
            &gyre_container_of(host, struct gyre_sim_host, link)->processes;

        for (struct gyre_link *link = processes->next; link != processes; link = link->next) {
            const struct gyre_link *threads =
                &gyre_container_of(link, struct gyre_sim_process, link)->threads;

            for (struct gyre_link *next = threads->next; next != threads; next = next->next) {
                struct sim_thread *thread = gyre_container_of(next, struct sim_thread, link);

                if (holds(thread, mutex)) {
                    return thread;
                }
            }
        }
    }
    return NULL;
}

int gyre__sim_mutex_lock(pthread_mutex_t *mutex)
{
    while (holder_of(mutex) != NULL) {
        gyre_assert(holder_of(mutex) != self);
        gyre__sim_thread_sleep(self->process->host->sim->now_ns + MUTEX_RETRY_NS);
    }
    for (int i = 0; i < SIM_MUTEXES_MAX; i++) {
        if (self->holds[i] == NULL) {
            self->holds[i] = mutex;
            return 0;
        }
    }
    gyre_assert(0); /* more mutexes at once than anybody here needs */
    return EAGAIN;
}

int gyre__sim_mutex_unlock(pthread_mutex_t *mutex)
{
    for (int i = 0; i < SIM_MUTEXES_MAX; i++) {
        if (self->holds[i] == mutex) {
            self->holds[i] = NULL;
            return 0;
        }
    }
    return EPERM;
}

int gyre__sim_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex)
{
    self->waits_for = condition;
    gyre__sim_mutex_unlock(mutex);
    gyre__sim_thread_sleep(UINT64_MAX);
    self->waits_for = NULL;
    return gyre__sim_mutex_lock(mutex);
}

int gyre__sim_cond_wake(const pthread_cond_t *condition, int all)
{
    struct gyre_link *threads = &self->process->threads;

    for (struct gyre_link *link = threads->next; link != threads; link = link->next) {
        struct sim_thread *thread = gyre_container_of(link, struct sim_thread, link);

        if (thread->waits_for == condition) {
            thread->waits_for = NULL;
            gyre__sim_thread_wake(thread);
            if (!all) {
                break;
            }
        }
    }
    return 0;
}
