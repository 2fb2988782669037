/*
 * What it costs to have something done in a loop's thread.
 *
 * --mode stream: one thread posts as fast as it can, with at most 4,096 under way. --mode wake: one
 * post at a time, each after a pause in which the loop falls asleep; what counts is the time from the
 * post to the callback.
 *
 * The loop stays on the CPU that the program was started on, the posting thread has one of its own.
 * Posts carry numbers, which must arrive in order and without gaps.
 *
 * What the driver itself shares between the threads must not be what is measured: a cache line that
 * one thread writes and the other reads costs more than a post does. So the posting thread keeps what
 * it last saw of the arrivals and looks again only when its window is full, and the loop's thread
 * tells of one arrival in 64.
 */
#include "post.h"

#include "clock.h"
#include "histogram.h"
#include "number.h"

#include <argp.h>
#include <err.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Long enough for any of the loops to go to sleep. */
#define PAUSE_NS (60 * UINT64_C(1000))

/* --mode stream: one arrival in so many is told; fewer than may be under way. */
#define TELL_EVERY 64u

struct shared {
    _Alignas(64) _Atomic uint64_t arrived; /* as far as it was told */
    _Alignas(64) _Atomic uint64_t last;    /* number of the last post, once it is known */
    _Alignas(64) uint64_t sent_ns;         /* --mode wake */
    uint64_t posted;
};

static struct shared shared = {.last = UINT64_MAX};
/* Each thread's own line. */
static _Alignas(64) uint64_t arrived_here; /* of the loop's thread: all of them */
static _Alignas(64) uint64_t arrived_seen; /* of the posting thread: when it last looked */
static struct histogram latency;
static const char *backend;
static bool wake_mode;
static uint32_t duration_ms = 200;
static int poster_cpu = -1;
static uint64_t poster_cpu_ns;

static uint64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

int post_arrived(uint64_t number)
{
    if (number != arrived_here) {
        errx(EXIT_FAILURE, "post %" PRIu64 " arrived in the place of %" PRIu64, number,
             arrived_here);
    }
    if (wake_mode) {
        histogram_add(&latency, clock_now_ns() - shared.sent_ns);
    }
    arrived_here++;
    if (wake_mode || arrived_here % TELL_EVERY == 0) {
        atomic_store_explicit(&shared.arrived, arrived_here, memory_order_release);
    }
    return number == atomic_load_explicit(&shared.last, memory_order_relaxed);
}

/* Leaves the memory system to the other thread for a moment. */
static void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static void wait_for_room(uint64_t posted, uint64_t in_flight)
{
    while (posted - arrived_seen >= in_flight) {
        relax();
        arrived_seen = atomic_load_explicit(&shared.arrived, memory_order_acquire);
    }
}

static void pause_for(uint64_t ns)
{
    const uint64_t end = clock_now_ns() + ns;

    while (clock_now_ns() < end) {
        relax();
    }
}

/* The clock is read for one post in 64; that says when to end. */
static void post_stream(uint64_t end_ns)
{
    uint64_t posted = 0;

    do {
        wait_for_room(posted, POST_IN_FLIGHT_MAX);
        poster.post(posted++);
    } while ((posted & 63) != 0 || clock_now_ns() < end_ns);
    shared.posted = posted;
}

static void post_wakes(uint64_t end_ns)
{
    uint64_t posted = 0;

    do {
        pause_for(PAUSE_NS);
        shared.sent_ns = clock_now_ns();
        poster.post(posted++);
        wait_for_room(posted, 1);
    } while (clock_now_ns() < end_ns);
    shared.posted = posted;
}

static void pin_self(int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        err(EXIT_FAILURE, "CPU %d", cpu);
    }
}

static void *post_all(void *context)
{
    const uint64_t end_ns = clock_now_ns() + duration_ms * NS_PER_MS;

    (void)context;
    pin_self(poster_cpu);
    (wake_mode ? post_wakes : post_stream)(end_ns);
    /* One more, which ends the loop. */
    wait_for_room(shared.posted, wake_mode ? 1 : POST_IN_FLIGHT_MAX);
    poster_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    shared.sent_ns = clock_now_ns();
    atomic_store_explicit(&shared.last, shared.posted, memory_order_relaxed);
    poster.post(shared.posted);
    return NULL;
}

static void print_result(uint64_t wall_ns, uint64_t loop_cpu_ns)
{
    const double posts = (double)shared.posted;

    printf("{\"ok\":true,\"library\":\"%s\",\"posts\":%" PRIu64 ",\"wall_ns_per_post\":%.3f"
           ",\"posts_per_second\":%.1f,\"loop_cpu_ns_per_post\":%.3f"
           ",\"poster_cpu_ns_per_post\":%.3f,\"wake_ns\":{\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
           ",\"max\":%" PRIu64 "}}\n",
           poster.name, shared.posted, (double)wall_ns / posts, posts * 1e9 / (double)wall_ns,
           (double)loop_cpu_ns / posts, (double)poster_cpu_ns / posts,
           histogram_percentile(&latency, 50), histogram_percentile(&latency, 99), latency.max);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'd':
        duration_ms = (uint32_t)number_argument(text, 1, 60000, state);
        return 0;
    case 'c':
        poster_cpu = (int)number_argument(text, 0, CPU_SETSIZE - 1, state);
        return 0;
    case 'b':
        backend = text;
        return 0;
    case 'm':
        wake_mode = strcmp(text, "wake") == 0;
        if (!wake_mode && strcmp(text, "stream") != 0) {
            argp_error(state, "'%s' is neither stream nor wake", text);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option option_table[] = {
        {"mode", 'm', "NAME", 0, "stream (default) or wake", 0},
        {"duration-ms", 'd', "MS", 0, "how long to post (200)", 0},
        {"poster-cpu", 'c', "N", 0, "where the posting thread runs", 0},
        {"backend", 'b', "NAME", 0, "of gyre: uring or epoll", 0},
        {0},
    };
    static const struct argp argp = {.options = option_table, .parser = parse_option};
    pthread_t thread;

    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    poster.open(backend);
    const uint64_t cpu_before = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    const uint64_t start = clock_now_ns();

    if (pthread_create(&thread, NULL, post_all, NULL) != 0) {
        errx(EXIT_FAILURE, "no thread");
    }
    poster.run();
    const uint64_t wall_ns = clock_now_ns() - start;
    const uint64_t loop_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_before;

    pthread_join(thread, NULL);
    poster.close();
    print_result(wall_ns, loop_cpu_ns);
    return EXIT_SUCCESS;
}
