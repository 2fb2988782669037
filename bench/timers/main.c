/*
 * What timers cost: CPU time for each start, restart, stop or expiry, with COUNT timers running.
 *
 * Timeouts are pseudo-random, from 1 s to 60 s, so nothing expires but in `expire`; there they are
 * spread over a window, and the loop runs until all have fired. Only the operation is timed, with
 * the process's CPU clock, which is exact for the thread that reads it, and whose own cost is taken
 * off. What prepares a batch is not timed: which timers it takes in which order, and their timeouts,
 * stand in two arrays before it begins, so that a batch is nothing but calls of the library.
 * Order is scattered too: neither memory nor deadlines are visited in sequence.
 *
 * Each timer must fire once; that is noted in one bit each, so that the notes of a million stay in
 * the cache. How late is noted for one in 16, of many one in 64; one that is early is counted.
 */
#include "timers.h"

#include "clock.h"
#include "histogram.h"
#include "number.h"

#include <argp.h>
#include <err.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX       4000000L
#define TIMEOUT_MIN_MS  1000u
#define TIMEOUT_SPAN_MS 59000u
#define STRIDE          7919u /* a prime that divides no count in use */
#define MANY            65536u

enum operation { START, RESTART, STOP, EXPIRE };

struct measure {
    enum operation operation;
    uint32_t count;
    uint32_t duration_ms; /* of CPU time at least; of `expire`: the window */
    const char *backend;
    uint64_t random;
    uint64_t operations;
    uint64_t cpu_ns;
    uint64_t clock_ns;    /* what reading the CPU clock adds to a batch */
    uint32_t *indices;    /* of the next batch */
    uint32_t *timeouts;   /* in milliseconds */
    uint64_t *due_ns;     /* of `expire` */
    uint64_t *fired;      /* a bit each */
    uint32_t lateness_of; /* lateness is noted where these bits of the index are 0 */
    uint64_t early;
    uint64_t twice;
    struct histogram lateness;
};

static struct measure m = {.operation = START, .count = 1000, .duration_ms = 200, .random = 1};

/* xorshift64: any order will do, but the same for every library. */
static uint32_t next_random(uint32_t below)
{
    m.random ^= m.random << 13;
    m.random ^= m.random >> 7;
    m.random ^= m.random << 17;
    return (uint32_t)((m.random >> 32) * below >> 32);
}

static uint32_t scattered(uint32_t i)
{
    return (uint32_t)((uint64_t)i * STRIDE % m.count);
}

static uint64_t cpu_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void *array(uint32_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        err(EXIT_FAILURE, "memory");
    }
    return memory;
}

/* Every timer once, in a scattered order. */
static void prepare_each(void)
{
    for (uint32_t i = 0; i < m.count; i++) {
        m.indices[i] = scattered(i);
        m.timeouts[i] = TIMEOUT_MIN_MS + next_random(TIMEOUT_SPAN_MS);
    }
}

/* As many as there are, drawn at random. */
static void prepare_any(void)
{
    for (uint32_t i = 0; i < m.count; i++) {
        m.indices[i] = next_random(m.count);
        m.timeouts[i] = TIMEOUT_MIN_MS + next_random(TIMEOUT_SPAN_MS);
    }
}

static void start_batch(void)
{
    for (uint32_t i = 0; i < m.count; i++) {
        timers.start(m.indices[i], m.timeouts[i]);
    }
}

static void stop_batch(void)
{
    for (uint32_t i = 0; i < m.count; i++) {
        timers.stop(m.indices[m.count - 1 - i]);
    }
}

static void restart_batch(void)
{
    for (uint32_t i = 0; i < m.count; i++) {
        timers.restart(m.indices[i], m.timeouts[i]);
    }
}

/* The least time between two readings; with a thousand timers it is some per cent of a batch. */
static uint64_t clock_cost_ns(void)
{
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < 1000; i++) {
        const uint64_t before = cpu_now_ns();
        const uint64_t took = cpu_now_ns() - before;

        least = took < least ? took : least;
    }
    return least;
}

static void timed(void (*batch)(void))
{
    const uint64_t before = cpu_now_ns();

    batch();
    const uint64_t took = cpu_now_ns() - before;

    m.cpu_ns += took > m.clock_ns ? took - m.clock_ns : 0;
    m.operations += m.count;
}

static void measure_restart(void)
{
    prepare_each();
    start_batch();
    prepare_any();
    restart_batch(); /* until the structure is as mixed as it will be */
    while (m.cpu_ns < m.duration_ms * NS_PER_MS) {
        prepare_any();
        timers.refresh();
        timed(restart_batch);
    }
    prepare_each();
    stop_batch();
}

/* The other half of each batch is not timed, but has to be done. */
static void measure_start_or_stop(void)
{
    while (m.cpu_ns < m.duration_ms * NS_PER_MS) {
        prepare_each();
        timers.refresh();
        if (m.operation == START) {
            timed(start_batch);
            stop_batch();
        } else {
            start_batch();
            timed(stop_batch);
        }
    }
}

void timers_fired(uint32_t index)
{
    const uint64_t bit = UINT64_C(1) << (index & 63);

    m.twice += (m.fired[index / 64] & bit) != 0;
    m.fired[index / 64] |= bit;
    if ((index & m.lateness_of) == 0) {
        const uint64_t now = clock_now_ns();

        if (now < m.due_ns[index]) {
            m.early++;
        } else {
            histogram_add(&m.lateness, now - m.due_ns[index]);
        }
    }
}

static void measure_expire(void)
{
    m.due_ns = array(m.count, sizeof(*m.due_ns));
    m.fired = array(m.count / 64 + 1, sizeof(*m.fired));
    m.lateness_of = m.count >= MANY ? 63 : 15;
    timers.refresh();
    for (uint32_t i = 0; i < m.count; i++) {
        const uint32_t index = scattered(i);
        /* Starting a million takes a while; the first must not be due before the last is started. */
        const uint32_t timeout_ms = m.count / 2000 + 20 + next_random(m.duration_ms);

        m.due_ns[index] = clock_now_ns() + timeout_ms * NS_PER_MS;
        timers.start(index, timeout_ms);
    }
    timed(timers.run);
    for (uint32_t i = 0; i < m.count; i++) {
        if ((m.fired[i / 64] >> (i & 63) & 1) == 0) {
            errx(EXIT_FAILURE, "timer %" PRIu32 " never fired", i);
        }
    }
    if (m.twice > 0) {
        errx(EXIT_FAILURE, "%" PRIu64 " timers fired twice", m.twice);
    }
}

static void print_result(void)
{
    printf("{\"ok\":true,\"library\":\"%s\",\"version\":\"%s\",\"count\":%" PRIu32
           ",\"operations\":%" PRIu64 ",\"cpu_ns\":%" PRIu64 ",\"cpu_ns_per_operation\":%.3f"
           ",\"early\":%" PRIu64 ",\"lateness_ns\":{\"p50\":%" PRIu64 ",\"p99\":%" PRIu64
           ",\"max\":%" PRIu64 "}}\n",
           timers.name, timers.version, m.count, m.operations, m.cpu_ns,
           (double)m.cpu_ns / (double)m.operations, m.early, histogram_percentile(&m.lateness, 50),
           histogram_percentile(&m.lateness, 99), m.lateness.max);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    static const char *const names[] = {"start", "restart", "stop", "expire"};

    switch (key) {
    case 'n':
        m.count = (uint32_t)number_argument(text, 1, COUNT_MAX, state);
        return 0;
    case 'd':
        m.duration_ms = (uint32_t)number_argument(text, 1, 60000, state);
        return 0;
    case 'b':
        m.backend = text;
        return 0;
    case 'o':
        for (int i = 0; i < 4; i++) {
            if (strcmp(text, names[i]) == 0) {
                m.operation = (enum operation)i;
                return 0;
            }
        }
        argp_error(state, "'%s' is none of start, restart, stop, expire", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option option_table[] = {
        {"operation", 'o', "NAME", 0, "start (default), restart, stop or expire", 0},
        {"count", 'n', "N", 0, "timers (1000)", 0},
        {"duration-ms", 'd', "MS", 0, "CPU time to spend; of expire: when the last is due (200)",
         0},
        {"backend", 'b', "NAME", 0, "of gyre: uring or epoll", 0},
        {0},
    };
    static const struct argp argp = {.options = option_table, .parser = parse_option};

    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    timers.open(m.count, m.backend);
    m.clock_ns = clock_cost_ns();
    m.indices = array(m.count, sizeof(*m.indices));
    m.timeouts = array(m.count, sizeof(*m.timeouts));
    if (m.operation == EXPIRE) {
        measure_expire();
    } else if (m.operation == RESTART) {
        measure_restart();
    } else {
        measure_start_or_stop();
    }
    timers.close();
    print_result();
    return EXIT_SUCCESS;
}
