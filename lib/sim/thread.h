/* Threads, for thread.c, process.c and kernel.c. */
#ifndef GYRE_SIM_THREAD_H
#define GYRE_SIM_THREAD_H

#include "base/assert.h"
#include "sim/sim.h"

#include <ucontext.h>

enum { SIM_MUTEXES_MAX = 8 };

enum sim_thread_state {
    SIM_THREAD_NEW = 0,
    SIM_THREAD_RUNNING,
    SIM_THREAD_SLEEPING,
    SIM_THREAD_ENDED,
};

/* A thread that sleeps until a file changes; on its stack, which may never be seen again. */
struct sim_file_wait {
    struct gyre_link link; /* of the thread */
    struct sim_waiter waiter;
    struct sim_thread *thread;
    struct sim_file *file;
};

struct sim_thread {
    struct gyre_link link; /* of the process */
    struct gyre_sim_process *process;
    ucontext_t context;
    void *stack;
    void *fake_stack; /* AddressSanitizer's */
    void *(*body)(void *data);
    void *data;
    void *result;
    struct sim_event resume;
    struct sim_thread *joiner; /* sleeps until this one has ended */
    struct gyre_link waits;    /* struct sim_file_wait */
    const void *holds[SIM_MUTEXES_MAX];
    const void *waits_for; /* a condition */
    uint64_t busy;         /* system calls since it went on */
    uint64_t idle_waits;   /* waits in a row that found nothing to wait for and nothing to do */
    uint8_t state;
    uint8_t woken;
    uint8_t is_main;
};

/* NULL: no memory for a stack. It begins to run in a moment. */
struct sim_thread *gyre__sim_thread_new(struct gyre_sim_process *process, void *(*body)(void *),
                                        void *data);
/* It does not run any more; its stack stays until its process is freed. */
void gyre__sim_thread_stop(struct sim_thread *thread);
int gyre__sim_thread_join(struct sim_thread *thread, void **out_result);

/* process.c: a thread has ended; called in the scheduler. */
void gyre__sim_thread_ended(struct sim_thread *thread);

/* The calling thread is woken when the file changes. Between the two it looks, and sleeps. */
void gyre__sim_thread_wait_begin(struct sim_file_wait *wait, struct sim_file *file);
void gyre__sim_thread_wait_end(struct sim_file_wait *wait);

/* As pthreads do: 0 or a positive errno. */
int gyre__sim_mutex_lock(pthread_mutex_t *mutex);
int gyre__sim_mutex_unlock(pthread_mutex_t *mutex);
int gyre__sim_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int gyre__sim_cond_wake(const pthread_cond_t *condition, int all);

#endif
