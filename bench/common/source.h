/*
 * What the loads have in common: options, and how a load ends.
 */
#ifndef BENCH_SOURCE_H
#define BENCH_SOURCE_H

#include "window.h"

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit status and the "error" of the JSON object; the same numbers as gyre-load's. */
enum source_exit {
    SOURCE_OK = 0,
    SOURCE_SYSTEM = 1,
    SOURCE_USAGE = 2,
    SOURCE_WRONG_BYTES = 3,
    SOURCE_LOST = 4,
    SOURCE_REFUSED = 5,
    SOURCE_STALLED = 6,
};

/* Options of every load; those that a load has no use for are left alone. */
struct source_options {
    uint16_t port;
    uint32_t connections;
    uint32_t size;
    uint32_t depth;
    uint32_t warmup_ms;
    uint32_t duration_ms;
    uint32_t timeout_ms;
    uint32_t slice_ms;      /* measure in turns (turns.h) of this length; 0: in one window */
    const char *congestion; /* NULL: what the system gives */
    bool spin;
    pid_t server_pid;
    int server_cpu;
};

/** source_parse() - fill @out_options; ends the program when they are wrong. */
void source_parse(int argc, char **argv, const char *doc, struct source_options *out_options);

/** source_fail() - print the object that says why there is no number, and end the program. */
_Noreturn void source_fail(enum source_exit status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** source_print() - print the result: the reference to @object is taken over. */
void source_print(json_t *object);

/**
 * source_measure() - measure duration_ms, or slices as long as they are asked for; ends the program
 * when the server is gone.
 * @count: what was done so far, which @phase counts up.
 * @phase: loads the server for a time, then lets everything come back.
 */
void source_measure(const struct source_options *options, const uint64_t *count,
                    void (*phase)(uint64_t duration_ns), struct window *out_window);

#endif
