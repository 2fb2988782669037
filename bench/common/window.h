/*
 * The measured window of a load: what the generator and the server used in it.
 *
 * Open and close it while nothing is in flight: the server then sleeps, and its CPU clock is exact
 * (cpu_time.h). The generator's own clock is read inside of that, so that waiting for the server to
 * fall asleep does not count.
 */
#ifndef BENCH_WINDOW_H
#define BENCH_WINDOW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct window {
    /* Set by the caller. */
    pid_t server_pid; /* 0: none */
    int server_cpu;   /* whose ksoftirqd is read; -1: none */
    /* Differences, after window_close(). */
    uint64_t wall_ns;
    uint64_t own_cpu_ns;
    uint64_t own_delay_ns; /* ready, but another process had the CPU */
    uint64_t server_cpu_ns;
    uint64_t server_delay_ns; /* the same, of the server's main thread */
    uint64_t ksoftirqd_ns;
    bool has_ksoftirqd;
};

/** window_open() - note all clocks. Returns: 0, or -errno when the server is not there. */
int window_open(struct window *window);

/** window_close() - from the notes to differences. Returns: 0, or -errno as window_open(). */
int window_close(struct window *window);

/** window_add() - add the differences of @more to those of @sum. */
void window_add(struct window *sum, const struct window *more);

/** window_server_ns() - what the server used, with ksoftirqd's part. */
uint64_t window_server_ns(const struct window *window);

/**
 * window_server_json() - what the server used, in total and for each of @count messages.
 * Returns: an object, or null without a server.
 */
json_t *window_server_json(const struct window *window, uint64_t count);

/**
 * window_load_json() - the same of the generator.
 * @idle_ns: of its own time what it spent looking for work in vain.
 */
json_t *window_load_json(const struct window *window, uint64_t count, uint64_t idle_ns);

#endif
