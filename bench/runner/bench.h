/*
 * The runner, what its parts share.
 *
 *   main.c         subcommands and options
 *   echo.c         the echo suite: which contenders, which cells, in which order
 *   measure.c      one measurement: one server, one load, start to end
 *   child.c        processes
 *   stats.c        medians, spreads, paired ratios
 *   summary.c      from measurements to the rows of the table
 *   table.c        the table for people
 *   results.c      results.json
 *   environment.c  what a number means nothing without
 *   progress.c     what is going on meanwhile
 */
#ifndef RUNNER_BENCH_H
#define RUNNER_BENCH_H

#include "stats.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define BENCH_ROUNDS_MAX  100u
#define BENCH_FILTERS_MAX 16u

/* Exit status of gyre-bench. */
enum bench_exit {
    BENCH_OK = 0,
    BENCH_FAILED = 1, /* some contender failed; the others' numbers stand */
    BENCH_USAGE = 2,
    BENCH_WRONG_BYTES = 3, /* no table */
    BENCH_INTERRUPTED = 130,
};

struct bench_options {
    const char *servers_dir;
    const char *load_path;
    const char *out_dir;
    const char *congestion;
    const char *filters[BENCH_FILTERS_MAX]; /* none: everything */
    size_t filter_count;
    const struct contender *reference; /* what the others are compared with */
    uint32_t pairs;
    uint32_t warmup_ms;
    uint32_t duration_ms;
    bool quick;
    int server_cpu;
    int load_cpu;
    bool spin;
};

struct contender {
    const char *name;
    const char *program;
    const char *backend; /* of echo-server, or NULL */
    bool repeat;         /* the reference a second time: its ratio to the first is the resolution */
};

struct cell {
    const char *name;
    uint32_t size;
    uint32_t connections;
    uint32_t depth;
    const char *const *extra; /* slow contenders that take part, NULL-terminated */
};

#define REFERENCE_NAME   "echo-epoll" /* unless another is asked for */
/* A slow contender needs no more rounds: its distance is not a matter of per cents. */
#define EXTRA_ROUNDS_MAX 3u

extern struct contender contenders[];
extern const size_t contender_count;
extern const struct cell cells[];
extern const size_t cell_count;

enum outcome {
    OUTCOME_OK,
    OUTCOME_SKIPPED,     /* not there */
    OUTCOME_WRONG_BYTES, /* the only one that forbids the table */
    OUTCOME_FAILED,      /* crashed, did not start, lost or starved connections */
    OUTCOME_INTERRUPTED,
};

struct sample {
    const struct cell *cell;
    const struct contender *contender;
    uint32_t round;
    enum outcome outcome;
    char text[512]; /* why not OK */
    json_t *load;   /* what gyre-load printed, or NULL */
    json_t *stats;  /* the server's own statistics, or NULL */
};

struct sample_list {
    const struct contender *reference;
    struct sample *items;
    size_t count;
    size_t capacity;
};

struct row {
    const struct contender *contender;
    enum outcome outcome;
    const char *text;
    struct spread messages_per_second;
    struct spread cpu_ns_per_message;
    struct spread ratio;
    struct spread p50_ns;
    struct spread p99_ns;
    struct spread syscalls_per_message;
    struct spread server_busy;
    struct spread load_busy;
    bool generator_bound;
    bool disturbed;
};

/* More contenders than there are in the table of echo.c. */
#define ROWS_MAX 16

struct cell_summary {
    const struct cell *cell;
    const struct contender *reference;
    struct spread resolution; /* of A/A: count is 0 when it was not measured */
    size_t row_count;
    struct row rows[ROWS_MAX];
};

/**
 * measure() - run one server under one load; fills @sample, whose cell, contender and round are
 * set.
 */
void measure(const struct bench_options *options, struct sample *sample);

/** echo_run() - the echo suite. Returns: enum bench_exit. */
int echo_run(const struct bench_options *options);

/**
 * echo_reference() - compare with the contender called @name instead of echo-epoll.
 * Returns: it; NULL when there is none of that name, or none that runs in every cell and round.
 */
const struct contender *echo_reference(const char *name);

/** echo_list() - print contenders and cells. */
void echo_list(void);

/** summarize() - the rows of one cell. Returns: false when nothing of it was measured. */
bool summarize(const struct sample_list *samples, const struct cell *cell,
               struct cell_summary *out_summary);

/** table_print() - the table of one cell. */
void table_print(FILE *out, const struct cell_summary *summary);

/** table_legend() - how to read it, after the last table. */
void table_legend(FILE *out, const struct contender *reference);

/** results_write() - DIR/results.json. Returns: 0 or -1, @path then says what failed. */
int results_write(const struct bench_options *options, const struct sample_list *samples,
                  bool complete, char path[PATH_MAX]);

/** environment_json() - kernel, CPU, versions, flags. */
json_t *environment_json(void);

/** outcome_name() - "ok", "wrong-bytes" and so on. */
const char *outcome_name(enum outcome outcome);

/** has_outcome() - whether any sample ended so. */
bool has_outcome(const struct sample_list *samples, enum outcome outcome);

struct progress {
    size_t total;
    size_t done;
    uint64_t start_ns;
    bool terminal;
};

/** progress_start() - on standard error: a bar on a terminal, lines otherwise. */
void progress_start(struct progress *progress, size_t total);

/** progress_step() - one measurement begins. */
void progress_step(struct progress *progress, const struct sample *sample);

/** progress_note() - something to tell that is not progress. */
void progress_note(struct progress *progress, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/** progress_end() - leave the line clean. */
void progress_end(struct progress *progress);

#endif
