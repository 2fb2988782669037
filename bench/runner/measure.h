/*
 * Parts of which suites compose a measurement. Whatever goes wrong ends in sample->outcome and
 * sample->text, never in a number; the first failure stays.
 */
#ifndef RUNNER_MEASURE_H
#define RUNNER_MEASURE_H

#include "bench.h"
#include "child.h"

#define MEASURE_ARGUMENTS_MAX 40

/* A command line that is put together; texts made of numbers live inside. */
struct command {
    char path[PATH_MAX];
    char texts[16][24];
    size_t text_count;
    const char *argv[MEASURE_ARGUMENTS_MAX];
    size_t argc;
};

struct server {
    struct child child;
    unsigned port;
};

/** sample_fail() - note why there is no number. */
void sample_fail(struct sample *sample, enum outcome outcome, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** sample_figure() - note a number. */
void sample_figure(struct sample *sample, const char *name, double value);

/** sample_copy_figure() - note the number at a path of @from, times @factor, if it is there. */
void sample_copy_figure(struct sample *sample, const char *name, const json_t *from,
                        const char *path, double factor);

/** sample_detail() - keep what a program said; the reference is taken over. */
void sample_detail(struct sample *sample, const char *name, json_t *value);

/** sample_parameter() - a parameter of the sample's cell. */
uint32_t sample_parameter(const struct sample *sample, const char *name);

/**
 * command_init() - begin with a program of this build. Returns: 0, or -1 when it is not there: the
 * sample is then skipped.
 */
int command_init(struct command *command, const struct bench_options *options,
                 struct sample *sample, const char *program);

/** command_add() - one argument, which must live as long as the command. */
void command_add(struct command *command, const char *argument);

/** command_add_all() - the arguments of a NULL-terminated list. */
void command_add_all(struct command *command, const char *const *arguments);

/** command_add_number() - an option and its number. */
void command_add_number(struct command *command, const char *option, long value);

/** command_contender() - the sample's contender, with its own arguments and those all servers take. */
int command_contender(struct command *command, const struct bench_options *options,
                      struct sample *sample);

/**
 * server_start() - start a server on the server's CPU and read its address.
 * @expect: a word that its announcement must have, or NULL.
 * Returns: 0; -1 after sample_fail(), and there is nothing to stop.
 */
int server_start(struct server *server, const struct bench_options *options, struct sample *sample,
                 const struct command *command, const char *expect);

/** server_stop() - stop it; that it crashed explains a failure seen before. Notes its statistics. */
void server_stop(struct server *server, struct sample *sample);

/* ---- external.c ---- */

/* Programs that are not ours: found in PATH, configured in a directory of their own. */
struct external {
    char directory[64];
    int lock_fd; /* held as long as the directory is in use */
    unsigned port;
};

/** external_sweep() - remove the directories of runs that were killed. */
void external_sweep(void);

/** external_open() - make the directory, choose a port. Returns: 0, or -1 after sample_fail(). */
int external_open(struct external *external, struct sample *sample);

/** external_close() - remove the directory and the files in it. */
void external_close(const struct external *external);

/** external_file() - write a file into the directory. Returns: 0, or -1 after sample_fail(). */
int external_file(const struct external *external, struct sample *sample, const char *name,
                  const char *text);

/**
 * external_command() - begin with a program of PATH, /usr/sbin or /usr/bin. Returns: 0, or -1 when
 * it is not there: the sample is then skipped.
 */
int external_command(struct command *command, struct sample *sample, const char *program);

/**
 * server_start_at() - as server_start(), of a server that announces nothing: until it accepts
 * connections at @port.
 */
int server_start_at(struct server *server, const struct bench_options *options,
                    struct sample *sample, const struct command *command, unsigned port);

/** program_output() - run a program to its end. Returns: 0 with its output, or -1 after sample_fail(). */
int program_output(struct sample *sample, const struct command *command, int cpu, int limit_ms,
                   char *output, size_t size);

/** server_stop_text() - the same, and what it wrote to standard error. */
void server_stop_text(struct server *server, struct sample *sample, char *text, size_t size);

/** load_command() - gyre-load against a server: port, watched process, times, congestion control. */
int load_command(struct command *command, const struct bench_options *options,
                 const struct settings *settings, struct sample *sample,
                 const struct server *server, const char *program);

/**
 * program_run() - run a program to its end and read the JSON object that it prints.
 * @cpu: where.  @limit_ms: how long at most.
 * Returns: the object, also when it says what went wrong; NULL. sample->outcome tells.
 */
json_t *program_run(struct sample *sample, const struct command *command, int cpu, int limit_ms);

/** program_start() - its first half. @is_told: see child.h. Returns: 0, or -1 after sample_fail(). */
int program_start(struct child *child, struct sample *sample, const struct command *command,
                  int cpu, bool is_told);

/* What a program prints about itself is shorter. */
#define PROGRAM_LINE_MAX 65536

/**
 * program_read() - the next line that it prints; @line of PROGRAM_LINE_MAX is empty when there is
 * none. Returns: 0, or -1 after sample_fail().
 */
int program_read(struct sample *sample, struct child *child, char *line, int limit_ms);

/**
 * program_end() - its second half: wait for the end, judge, release the child.
 * @line: the last that it printed.
 * Returns: as program_run().
 */
json_t *program_end(struct sample *sample, struct child *child, const char *line);

/** load_run() - program_run() of a load on its CPU, within a time that follows from @settings. */
json_t *load_run(const struct bench_options *options, const struct settings *settings,
                 struct sample *sample, const struct command *command);

/* A load, and how the cell's parameters are its options. */
struct load_plan {
    const char *program;
    bool is_tcp; /* it takes the congestion control */
    struct {
        const char *option;
        const char *parameter;
    } options[4];
    uint32_t slice_ms;     /* in turns of this length with the reference; 0: alone */
    bool compares_medians; /* then: of the time of a message, not of the server's CPU time */

    /** load_options() - of the load for this contender; NULL: those of all. */
    struct bench_options (*load_options)(const struct bench_options *options,
                                         const struct sample *sample);

    /** server() - the command line of the sample's contender. Returns: as command_init(). */
    int (*server)(struct command *command, const struct bench_options *options,
                  struct sample *sample);
};

/* A turn: a thousand messages of a quick server, and short beside what disturbs a machine. */
#define MEASURE_SLICE_MS 12

/** plan_command() - the load's command line. Returns: as command_init(). */
int plan_command(struct command *command, const struct bench_options *options,
                 const struct settings *settings, struct sample *sample,
                 const struct load_plan *plan, const struct server *server);

/**
 * server_under_load() - start the contender's server, run the load against it, stop it.
 * With slice_ms the reference and a load for it run beside it (turns.c).
 * Returns: what the load said, which the sample keeps as its detail; NULL after sample_fail().
 */
const json_t *server_under_load(const struct bench_options *options,
                                const struct settings *settings, struct sample *sample,
                                const struct load_plan *plan);

/**
 * server_figures() - what every load reports of a server: busy shares, delay. A load that was starved
 * is no number.
 */
void server_figures(const struct bench_options *options, struct sample *sample, const json_t *load);

/* ---- turns.c ---- */

/**
 * turns_run() - the load against @server, in turns with the reference, which is started for it. The
 * median over its pairs is a figure, sample_ratio_name(). A reference that fails gives no ratio, and
 * the sample's detail says why.
 * Returns: as program_run().
 */
json_t *turns_run(const struct bench_options *options, const struct settings *settings,
                  struct sample *sample, const struct load_plan *plan, const struct server *server);

#endif
