/*
 * The runner, what its parts share.
 *
 *   main.c         subcommands and options
 *   suites.c       the list of suites; ../suites/ has one file for each
 *   plan.c         which measurements a run takes, in which order
 *   estimate.c     how long they take, and what of a given time each suite gets
 *   run.c          takes them, one after the other
 *   store.c        samples.jsonl: every measurement as it is made, and those of before
 *   measure.c      parts of one measurement: a server, a load, a program
 *   external.c     the same for programs that are not ours: nginx, HAProxy, wrk
 *   child.c        processes
 *   stats.c        medians, spreads, paired ratios
 *   summary.c      from measurements to results.json
 *   environment.c  what a number means nothing without
 *   table.c        results for people, in a terminal
 *   csv.c          results.csv
 *   report.c       results for people, as a page; chart.c draws with gnuplot
 *   compare.c      two results against each other
 *   progress.c     what is going on meanwhile
 *
 * A suite is a table: contenders, cells, figures, and a function that takes one sample. Everything
 * else (order, pairing, resolution, repeats, results, reports) is the same for all suites.
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

#define BENCH_ROUNDS_MAX     100u
#define BENCH_FILTERS_MAX    16u
#define BENCH_PARAMETERS_MAX 5
#define BENCH_SUITES_MAX     16
#define BENCH_DIRS_MAX       16

/* As many as a median wants, and as a verdict wants; a time that is given goes to these first. */
#define BENCH_ROUNDS_LEAST   3u
#define BENCH_ROUNDS_VERDICT 5u

/* Exit status of gyre-bench. */
enum bench_exit {
    BENCH_OK = 0,
    BENCH_FAILED = 1, /* some contender failed; the others' numbers stand */
    BENCH_USAGE = 2,
    BENCH_WRONG_BYTES = 3, /* a suite has no table */
    BENCH_INTERRUPTED = 130,
};

/* How much to measure. A cell belongs to one level or more. */
enum level { LEVEL_QUICK, LEVEL_NORMAL, LEVEL_FULL, LEVEL_COUNT };

#define IN_QUICK  (1u << LEVEL_QUICK)
#define IN_NORMAL (1u << LEVEL_NORMAL)
#define IN_FULL   (1u << LEVEL_FULL)
#define IN_ALL    (IN_QUICK | IN_NORMAL | IN_FULL)

struct settings {
    uint32_t pairs;
    uint32_t warmup_ms;
    uint32_t duration_ms;
};

struct bench_options {
    const char *dirs[BENCH_DIRS_MAX]; /* where programs are, NULL-terminated */
    const char *out_dir;
    const char *congestion;
    const char *filters[BENCH_FILTERS_MAX]; /* none: everything */
    size_t filter_count;
    const char *reference; /* instead of the suite's own, where it has a contender of that name */
    const struct suite *suites[BENCH_SUITES_MAX];
    size_t suite_count;
    enum level level;
    struct settings settings; /* 0: the suite's own for the level */
    uint32_t starved_percent; /* a load without its CPU for longer gives no number */
    uint32_t minutes;         /* for everything; 0: as long as it takes */
    int server_cpu;
    int load_cpu;
    bool spin;
    bool resume;
    bool dry_run; /* say how long it would take, measure nothing */
};

struct contender {
    const char *name;
    const char *program;      /* a file name */
    const char *arguments[6]; /* NULL-terminated */
    const char *expect;       /* a word of the server's announcement, or NULL */
    unsigned levels;          /* 0: all */
    uint32_t rounds;          /* at most; 0: as many as its cells have */
};

struct cell {
    char name[24];
    unsigned levels;
    uint32_t parameters[BENCH_PARAMETERS_MAX];
};

/* A number that a sample yields. */
struct figure {
    const char *name;   /* key in the results, unit included */
    const char *column; /* heading in the terminal, NULL: not there */
    double divisor;     /* of the printed value; 0: 1 */
    int decimals;
    const char *text; /* what it is, for the legend and the report */
};

enum chart_kind {
    CHART_LINES,       /* a figure over a parameter, the others fixed */
    CHART_PERCENTILES, /* figures over their place, in one cell */
    CHART_BARS,        /* a figure of each contender, in one cell */
};

struct chart {
    enum chart_kind kind;
    const char *title;
    const char *figure; /* of CHART_PERCENTILES: what all names begin with */
    const char *x;      /* parameter of CHART_LINES */
    const char *fixed;  /* "size=64 depth=1" of CHART_LINES; the cell otherwise */
    const char *y_label;
    bool x_log;
    bool y_log;
};

struct sample;

struct suite {
    const char *name;
    const char *title;
    const char *operation;                        /* what is counted: "message" */
    const char *parameters[BENCH_PARAMETERS_MAX]; /* their names, as many as there are */
    const struct contender *contenders; /* in no other suite: with a cell they say which samples */
    size_t contender_count;
    const struct cell *cells;
    size_t cell_count;
    const struct figure *figures; /* the first is the primary one: ratios, less is better */
    size_t figure_count;
    const struct chart *charts;
    size_t chart_count;
    const char *reference;
    const char *notes; /* for the report: what to know before reading, or NULL */
    struct settings settings[LEVEL_COUNT];
    bool saturating; /* rows whose server was not busy are marked */

    /** takes_part() - whether a contender belongs into a cell; NULL: always. */
    bool (*takes_part)(const struct cell *cell, const struct contender *contender);

    /** in_turns() - whether a cell's contenders run in turns with the reference; NULL: in none. */
    bool (*in_turns)(const struct cell *cell);

    /** rounds() - in how many rounds a cell is measured at most, its contenders in no more; NULL: all. */
    uint32_t (*rounds)(const struct cell *cell);

    /** estimate_ms() - what a measurement takes, all in all; NULL: little more than the window. */
    uint32_t (*estimate_ms)(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender);

    /** sample() - measure once: fills outcome, text, figures, detail. */
    void (*sample)(const struct bench_options *options, const struct settings *settings,
                   struct sample *sample);
};

enum outcome {
    OUTCOME_OK,
    OUTCOME_SKIPPED,     /* not there, or not possible here */
    OUTCOME_WRONG_BYTES, /* the only one that forbids the table */
    OUTCOME_FAILED,      /* crashed, did not start, lost or starved connections */
    OUTCOME_STARVED,     /* the load had no CPU: the others' rounds count */
    OUTCOME_INTERRUPTED,
};

struct sample {
    const struct suite *suite;
    const struct cell *cell;
    const struct contender *contender;
    uint32_t round;
    bool repeat; /* the reference a second time, where it was not beside itself */
    bool done;
    uint32_t took_ms; /* all of it, from before the server's start to after its end */
    enum outcome outcome;
    char text[512];  /* why not OK */
    json_t *figures; /* numbers by name, or NULL */
    json_t *detail;  /* as the programs reported it, or NULL */
};

/* Longer than a contender's name. */
#define SAMPLE_RATIO_MAX 64

/**
 * sample_ratio_name() - the figure of a sample that was measured in turns with a reference: its ratio
 * to that one.
 */
void sample_ratio_name(char name[SAMPLE_RATIO_MAX], const char *reference);

struct sample_list {
    struct sample *items;
    size_t count;
    size_t capacity;
};

/* ---- suites.c ---- */

/** suite_find() - the suite of that name, or NULL. */
const struct suite *suite_find(const char *name);

/** suite_at() - the suites in their order; NULL behind the last. */
const struct suite *suite_at(size_t index);

/**
 * suite_list() - print what there is to run. @name: of one suite, or NULL.
 * Returns: false, and prints nothing, if there is no such suite.
 */
bool suite_list(const char *name);

/** suite_settings() - pairs and times of a suite in this run. */
struct settings suite_settings(const struct bench_options *options, const struct suite *suite);

/** suite_reference() - the contender that ratios are formed to. */
const char *suite_reference(const struct bench_options *options, const struct suite *suite);

/** suite_takes_part() - whether a contender is measured in a cell at a level. */
bool suite_takes_part(const struct suite *suite, enum level level, const struct cell *cell,
                      const struct contender *contender);

/** suite_fits_reference() - whether it is in all cells of a level, and in all of their rounds. */
bool suite_fits_reference(const struct suite *suite, enum level level,
                          const struct contender *contender);

/** suite_contender() - the contender of that name, which there must be. */
const struct contender *suite_contender(const struct suite *suite, const char *name);

/** suite_in_turns() - whether a cell is measured in turns with the reference. */
bool suite_in_turns(const struct suite *suite, const struct cell *cell);

/** suite_every_cell() - in_turns() of suites where all are. */
bool suite_every_cell(const struct cell *cell);

/** suite_parameter() - a cell's parameter by its name. */
uint32_t suite_parameter(const struct suite *suite, const struct cell *cell, const char *name);

/* ---- plan.c ---- */

/** plan_suite() - add a suite's measurements, in their order. Returns: 0, or -1 for want of memory. */
int plan_suite(const struct bench_options *options, const struct suite *suite,
               struct sample_list *list);

/* ---- estimate.c ---- */

/* A server that is started and stopped, and a load that is started: most of it the linker's. */
#define ESTIMATE_AROUND_MS 114u

/* What of a suite is still to be measured. */
struct estimate {
    const struct suite *suite;
    uint32_t rounds;
    size_t first_round; /* measurements */
    size_t measurements;
    uint64_t round_ms[BENCH_ROUNDS_MAX];
    uint64_t least_ms; /* of the first BENCH_ROUNDS_LEAST */
    uint64_t all_ms;
};

/** estimate_suite() - from those of the list that are not done. */
void estimate_suite(const struct bench_options *options, const struct sample_list *list,
                    const struct suite *suite, struct estimate *out);

/** estimate_share_ms() - what the first of these suites gets of the time left for all of them. */
uint64_t estimate_share_ms(const struct estimate *estimates, size_t count, uint64_t left_ms);

/** estimate_print() - a table. Returns: whether every suite gets the rounds that it wants at least. */
bool estimate_print(const struct bench_options *options, const struct estimate *estimates,
                    size_t count);

/** estimate_total_ms() - of all their rounds. */
uint64_t estimate_total_ms(const struct estimate *estimates, size_t count);

/** estimate_echo_ms() - a server and a load with so much in flight, for a suite's estimate_ms(). */
uint32_t estimate_echo_ms(const struct settings *settings, uint32_t size, uint32_t connections,
                          uint32_t depth);

/** estimate_flight_ms() - until all that is in flight has come back, at most. */
double estimate_flight_ms(uint32_t size, uint32_t connections, uint32_t depth);

/**
 * estimate_turns_ms() - two servers in turns, one of which would take @alone_ms.
 * @flight_ms: what is in flight comes back at the end of each slice, at most so late.
 * @lead_ns: what the load does before each slice, turns_lead_ns().
 */
uint32_t estimate_turns_ms(const struct settings *settings, uint32_t alone_ms, double flight_ms,
                           uint32_t slice_ms, uint64_t lead_ns);

/* ---- run.c ---- */

/** run_suites() - measure, write results, print tables. Returns: enum bench_exit. */
int run_suites(const struct bench_options *options);

/* ---- store.c ---- */

struct store {
    FILE *file;
    char path[PATH_MAX];
};

/**
 * store_open() - DIR/samples.jsonl: takes over those measurements of @list that are there and still
 * hold (--resume), keeps those of other suites, and opens the file for more.
 * @others: gets the measurements of suites that do not run now.
 * Returns: 0 or -1, said on standard error.
 */
int store_open(struct store *store, const struct bench_options *options, struct sample_list *list,
               struct sample_list *others);

/** store_append() - one measurement more. Returns: 0 or -1. */
int store_append(struct store *store, const struct bench_options *options,
                 const struct sample *sample);

/** store_close() - close the file. */
void store_close(struct store *store);

/** samples_release() - free a list. */
void samples_release(struct sample_list *list);

/* ---- summary.c ---- */

/** results_build() - the object of results.json. @complete: everything planned was measured. */
json_t *results_build(const struct bench_options *options, const struct sample_list *list,
                      bool complete);

/** results_write() - DIR/results.json and DIR/results.csv. Returns: 0 or -1, said. */
int results_write(const struct bench_options *options, const json_t *results);

/** results_load() - DIR/results.json, its schema checked. Returns: it, or NULL, said. */
json_t *results_load(const char *directory);

/** results_suite() - a suite of the results by name, or NULL. */
const json_t *results_suite(const json_t *results, const char *name);

/** outcome_name() - "ok", "wrong-bytes" and so on. */
const char *outcome_name(enum outcome outcome);

/** has_outcome() - whether any sample of the suite (NULL: of any) ended so. */
bool has_outcome(const struct sample_list *samples, const struct suite *suite,
                 enum outcome outcome);

/** environment_json() - kernel, CPU, versions, flags. */
json_t *environment_json(void);

/** environment_commit() - the commit that was built. */
const char *environment_commit(void);

/* ---- table.c, csv.c, report.c, compare.c: from results.json ---- */

/** table_suite() - the tables of one suite's cells, and how to read them. */
void table_suite(FILE *out, const json_t *suite);

/** csv_write() - one line for each figure of each row. Returns: 0 or -1. */
int csv_write(const char *path, const json_t *results);

/** report_write() - DIR/report.html from DIR/results.json. Returns: enum bench_exit. */
int report_write(const char *directory);

/** compare_directories() - a table of what changed. Returns: enum bench_exit. */
int compare_directories(const char *a, const char *b);

/** json_text() - a string member, "" when it is not there. */
const char *json_text(const json_t *object, const char *key);

/** json_number() - a number by its path "a.b.c". Returns: false when it is not there. */
bool json_number(const json_t *object, const char *path, double *out);

/** json_median() - the median of a spread by its name. Returns: false when it is null. */
bool json_median(const json_t *object, const char *name, double *out);

/** write_file() - put text into DIR/NAME by way of a temporary file. Returns: 0 or -1, said. */
int write_file(const char *directory, const char *name,
               int (*write)(const char *path, const void *what), const void *what);

/* ---- progress.c ---- */

struct progress {
    size_t total;
    size_t done;
    uint64_t start_ns;
    bool terminal;
    const struct sample *last;
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
