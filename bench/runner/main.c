/*
 * gyre-bench: runs the suites. bench/README.md says what is measured and how to read it.
 */
#include "bench.h"
#include "child.h"
#include "measure.h"
#include "number.h"

#include <argp.h>
#include <assert.h>
#include <libgen.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_QUICK = 256,
    KEY_FULL,
    KEY_PAIRS,
    KEY_OUT,
    KEY_SERVERS,
    KEY_FILTER,
    KEY_REFERENCE,
    KEY_CC,
    KEY_WARMUP,
    KEY_DURATION,
    KEY_SLEEP,
    KEY_MINUTES,
    KEY_RESUME,
    KEY_STARVED,
    KEY_DRY_RUN,
};

static const struct argp_option run_options[] = {
    {"quick", KEY_QUICK, NULL, 0, "few cells and short windows", 0},
    {"full", KEY_FULL, NULL, 0, "every cell", 0},
    {"pairs", KEY_PAIRS, "N", 0,
     "rounds of every cell, at most: some cells and contenders have no more than three", 0},
    {"warmup-ms", KEY_WARMUP, "MS", 0, "load before each window", 0},
    {"duration-ms", KEY_DURATION, "MS", 0, "length of each window", 0},
    {"filter", KEY_FILTER, "TEXT", 0,
     "only cells and contenders with TEXT in \"suite/cell/contender\"; may be given several times",
     0},
    {"reference", KEY_REFERENCE, "NAME", 0,
     "form ratios to this contender, in the suites that have it", 0},
    {"cc", KEY_CC, "NAME", 0, "TCP congestion control of both ends (reno)", 0},
    {"sleep", KEY_SLEEP, NULL, 0, "let the load generator sleep instead of spin when idle", 0},
    {"minutes", KEY_MINUTES, "N", 0, "begin no round of a suite that would not fit into this", 0},
    {"starved-percent", KEY_STARVED, "N", 0,
     "a load that was without its CPU for more of the window gives no number (50; 100: never)", 0},
    {"resume", KEY_RESUME, NULL, 0,
     "keep what DIR has of the same commit, programs and settings, measure the rest", 0},
    {"dry-run", KEY_DRY_RUN, NULL, 0,
     "measure nothing; print how long it would take, and how many rounds fit", 0},
    {"out", KEY_OUT, "DIR", 0, "where the results go (gyre-bench-results)", 0},
    {"servers-dir", KEY_SERVERS, "DIR", 0,
     "look for programs here first, and in no example's directory", 0},
    {0},
};

static uint32_t parse_count(const char *text, long min, long max, struct argp_state *state)
{
    return (uint32_t)number_argument(text, min, max, state);
}

static void add_filter(struct bench_options *options, const char *text, struct argp_state *state)
{
    if (options->filter_count == BENCH_FILTERS_MAX) {
        argp_error(state, "more than %u filters", BENCH_FILTERS_MAX);
    }
    options->filters[options->filter_count++] = text;
}

static void add_one_suite(struct bench_options *options, const struct suite *suite)
{
    for (size_t i = 0; i < options->suite_count; i++) {
        if (options->suites[i] == suite) {
            return;
        }
    }
    assert(options->suite_count < BENCH_SUITES_MAX);
    options->suites[options->suite_count++] = suite;
}

static void add_suite(struct bench_options *options, const char *name, struct argp_state *state)
{
    const struct suite *suite = suite_find(name);

    if (suite != NULL) {
        add_one_suite(options, suite);
    } else if (strcmp(name, "all") == 0) {
        for (size_t i = 0; suite_at(i) != NULL; i++) {
            add_one_suite(options, suite_at(i));
        }
    } else {
        argp_error(state, "there is no suite '%s'; see gyre-bench list", name);
    }
}

static bool is_reference(const struct bench_options *options, const char *name)
{
    for (size_t s = 0; s < options->suite_count; s++) {
        for (size_t i = 0; i < options->suites[s]->contender_count; i++) {
            const struct contender *contender = &options->suites[s]->contenders[i];

            if (strcmp(contender->name, name) == 0 &&
                suite_fits_reference(options->suites[s], options->level, contender)) {
                return true;
            }
        }
    }
    return false;
}

/* Tests put servers of their own into one directory. */
static void set_servers_dir(struct bench_options *options, const char *directory)
{
    options->dirs[0] = directory;
    options->dirs[2] = NULL; /* behind it stays this program's own: the loads */
}

static error_t parse_more(int key, char *argument, struct argp_state *state)
{
    struct bench_options *options = state->input;

    switch (key) {
    case KEY_FILTER:
        add_filter(options, argument, state);
        return 0;
    case KEY_REFERENCE:
        options->reference = argument;
        return 0;
    case KEY_CC:
        options->congestion = argument;
        return 0;
    case KEY_SLEEP:
        options->spin = false;
        return 0;
    case KEY_RESUME:
        options->resume = true;
        return 0;
    case KEY_DRY_RUN:
        options->dry_run = true;
        return 0;
    case KEY_OUT:
        options->out_dir = argument;
        return 0;
    case KEY_SERVERS:
        set_servers_dir(options, argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_run(int key, char *argument, struct argp_state *state)
{
    struct bench_options *options = state->input;

    switch (key) {
    case KEY_QUICK:
        options->level = LEVEL_QUICK;
        return 0;
    case KEY_FULL:
        options->level = LEVEL_FULL;
        return 0;
    case KEY_PAIRS:
        options->settings.pairs = parse_count(argument, 1, BENCH_ROUNDS_MAX, state);
        return 0;
    case KEY_WARMUP:
        options->settings.warmup_ms = parse_count(argument, 1, 60000, state);
        return 0;
    case KEY_DURATION:
        options->settings.duration_ms = parse_count(argument, 1, 600000, state);
        return 0;
    case KEY_STARVED:
        options->starved_percent = parse_count(argument, 1, 100, state);
        return 0;
    case KEY_MINUTES:
        options->minutes = parse_count(argument, 1, 10000, state);
        return 0;
    case ARGP_KEY_ARG:
        add_suite(options, argument, state);
        return 0;
    case ARGP_KEY_END:
        if (options->suite_count == 0) {
            argp_error(state, "name a suite, or all; see gyre-bench list");
        }
        if (options->reference != NULL && !is_reference(options, options->reference)) {
            argp_error(state, "'%s' is no contender to compare with; see gyre-bench list",
                       options->reference);
        }
        return 0;
    default:
        return parse_more(key, argument, state);
    }
}

/*
 * The first two CPUs this process may use; with one CPU both share it, and spinning would starve
 * the server.
 */
static bool choose_cpus(struct bench_options *options)
{
    cpu_set_t set;
    int found = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0) {
        return false;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
        if (CPU_ISSET((unsigned)cpu, &set)) {
            options->load_cpu = cpu;
            options->server_cpu = found == 0 ? cpu : options->server_cpu;
            found++;
        }
    }
    if (found == 1) {
        fprintf(stderr, "gyre-bench: one CPU only; server and load generator share it\n");
        options->spin = false;
    }
    return found > 0;
}

/*
 * Where the build puts programs, seen from this one. The first is replaced by --servers-dir, the
 * second, this program's own, always stays.
 */
static bool locate_programs(struct bench_options *options)
{
    static const char *const places[] = {
        "../examples/echo",
        ".",
        "peers",
        "stream",
        "timers",
        "post",
        "../examples/udp",
        "../examples/web-server",
        "../examples/tcp-proxy",
    };
    static char dirs[sizeof(places) / sizeof(places[0])][PATH_MAX];
    char own[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (len < 0) {
        return false;
    }
    own[len] = '\0';
    const char *directory = dirname(own);

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (snprintf(dirs[i], PATH_MAX, "%s/%s", directory, places[i]) >= PATH_MAX) {
            return false;
        }
        options->dirs[i] = dirs[i];
    }
    return true;
}

static int command_run(int argc, char **argv)
{
    static const struct argp argp = {
        .options = run_options,
        .parser = parse_run,
        .args_doc = "SUITE...",
        .doc = "Runs suites: contenders in alternating order, each pinned to one CPU and loaded "
               "from another, compared by what they cost.",
    };
    struct bench_options options = {
        .level = LEVEL_NORMAL,
        .out_dir = "gyre-bench-results",
        .congestion = "reno",
        .spin = true,
        .starved_percent = 50,
    };

    if (!locate_programs(&options) || !choose_cpus(&options)) {
        perror("gyre-bench");
        return BENCH_FAILED;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    child_signals_init();
    external_sweep();
    return run_suites(&options);
}

static int usage(FILE *out, int status)
{
    fputs(
        "usage: gyre-bench list [SUITE]              what there is to measure\n"
        "       gyre-bench run SUITE... [OPTION...]  measure (run --help: options); all: everything\n"
        "       gyre-bench SUITE [OPTION...]         the same, of one suite\n"
        "       gyre-bench report DIR                make DIR/report.html from DIR/results.json\n"
        "       gyre-bench compare DIR_A DIR_B       what differs between two results\n",
        out);
    return status;
}

static int list_suites(const char *name)
{
    if (suite_list(name)) {
        return BENCH_OK;
    }
    fprintf(stderr, "gyre-bench: there is no suite '%s'; see gyre-bench list\n", name);
    return BENCH_USAGE;
}

int main(int argc, char **argv)
{
    static char run_name[] = "gyre-bench run";
    const char *command = argc < 2 ? "" : argv[1];

    argp_err_exit_status = BENCH_USAGE;
    if (strcmp(command, "run") == 0) {
        argv[1] = run_name;
        return command_run(argc - 1, argv + 1);
    }
    if (suite_find(command) != NULL) {
        return command_run(argc, argv);
    }
    if (strcmp(command, "list") == 0 && argc <= 3) {
        return list_suites(argc == 3 ? argv[2] : NULL);
    }
    if (strcmp(command, "report") == 0 && argc == 3) {
        child_signals_init();
        return report_write(argv[2]);
    }
    if (strcmp(command, "compare") == 0 && argc == 4) {
        return compare_directories(argv[2], argv[3]);
    }
    if (strcmp(command, "--help") == 0) {
        return usage(stdout, BENCH_OK);
    }
    return usage(stderr, BENCH_USAGE);
}
