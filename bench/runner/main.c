/*
 * gyre-bench: runs the suites. bench/README.md says what is measured and how to read it.
 */
#include "bench.h"
#include "child.h"
#include "number.h"

#include <argp.h>
#include <libgen.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_QUICK = 256,
    KEY_PAIRS,
    KEY_REFERENCE,
    KEY_OUT,
    KEY_SERVERS,
    KEY_LOAD,
    KEY_FILTER,
    KEY_CC,
    KEY_WARMUP,
    KEY_DURATION,
    KEY_SLEEP,
};

static const struct argp_option echo_options[] = {
    {"quick", KEY_QUICK, NULL, 0, "short windows, under three minutes", 0},
    {"reference", KEY_REFERENCE, "NAME", 0,
     "the contender that the others are compared with (echo-epoll)", 0},
    {"pairs", KEY_PAIRS, "N", 0, "rounds of every cell (quick: 6, else 10)", 0},
    {"warmup-ms", KEY_WARMUP, "MS", 0, "load before each window (quick: 100, else 300)", 0},
    {"duration-ms", KEY_DURATION, "MS", 0, "length of each window (quick: 500, else 2000)", 0},
    {"filter", KEY_FILTER, "TEXT", 0,
     "only cells and contenders with TEXT in \"cell/contender\"; may be given several times", 0},
    {"cc", KEY_CC, "NAME", 0, "TCP congestion control of both ends (reno)", 0},
    {"sleep", KEY_SLEEP, NULL, 0, "let the load generator sleep instead of spin when idle", 0},
    {"out", KEY_OUT, "DIR", 0, "where results.json goes (gyre-bench-results)", 0},
    {"servers-dir", KEY_SERVERS, "DIR", 0,
     "where the servers are (../examples/echo, seen from this program)", 0},
    {"load", KEY_LOAD, "FILE", 0, "the load generator (gyre-load, next to this program)", 0},
    {0},
};

static uint32_t parse_count(const char *text, long min, long max, struct argp_state *state)
{
    long value = 0;

    if (!number_parse(text, min, max, &value)) {
        argp_error(state, "'%s' is not a number in %ld..%ld", text, min, max);
    }
    return (uint32_t)value;
}

static void add_filter(struct bench_options *options, const char *text, struct argp_state *state)
{
    if (options->filter_count == BENCH_FILTERS_MAX) {
        argp_error(state, "more than %u filters", BENCH_FILTERS_MAX);
    }
    options->filters[options->filter_count++] = text;
}

static void set_reference(struct bench_options *options, const char *name, struct argp_state *state)
{
    options->reference = echo_reference(name);
    if (options->reference == NULL) {
        argp_error(state, "no contender '%s' to compare with; see gyre-bench list", name);
    }
}

static error_t parse_echo(int key, char *argument, struct argp_state *state)
{
    struct bench_options *options = state->input;

    switch (key) {
    case KEY_QUICK:
        options->quick = true;
        return 0;
    case KEY_PAIRS:
        options->pairs = parse_count(argument, 1, BENCH_ROUNDS_MAX, state);
        return 0;
    case KEY_REFERENCE:
        set_reference(options, argument, state);
        return 0;
    case KEY_WARMUP:
        options->warmup_ms = parse_count(argument, 1, 60000, state);
        return 0;
    case KEY_DURATION:
        options->duration_ms = parse_count(argument, 1, 600000, state);
        return 0;
    case KEY_FILTER:
        add_filter(options, argument, state);
        return 0;
    case KEY_CC:
        options->congestion = argument;
        return 0;
    case KEY_SLEEP:
        options->spin = false;
        return 0;
    case KEY_OUT:
        options->out_dir = argument;
        return 0;
    case KEY_SERVERS:
        options->servers_dir = argument;
        return 0;
    case KEY_LOAD:
        options->load_path = argument;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void apply_defaults(struct bench_options *options)
{
    if (options->pairs == 0) {
        options->pairs = options->quick ? 6 : 10;
    }
    if (options->warmup_ms == 0) {
        options->warmup_ms = options->quick ? 100 : 300;
    }
    if (options->duration_ms == 0) {
        options->duration_ms = options->quick ? 500 : 2000;
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

static bool join_path(char path[PATH_MAX], const char *directory, const char *name)
{
    return snprintf(path, PATH_MAX, "%s/%s", directory, name) < PATH_MAX;
}

/*
 * The build puts gyre-load next to gyre-bench, and the servers into a neighbour of its directory.
 */
static bool locate_programs(struct bench_options *options)
{
    static char load_path[PATH_MAX];
    static char servers_dir[PATH_MAX];
    char own[PATH_MAX];
    const ssize_t len = readlink("/proc/self/exe", own, sizeof(own) - 1);

    if (len < 0) {
        return false;
    }
    own[len] = '\0';
    const char *directory = dirname(own);

    if (!join_path(load_path, directory, "gyre-load") ||
        !join_path(servers_dir, directory, "../examples/echo")) {
        return false;
    }
    options->load_path = load_path;
    options->servers_dir = servers_dir;
    return true;
}

static int command_echo(int argc, char **argv)
{
    static const struct argp argp = {
        .options = echo_options,
        .parser = parse_echo,
        .doc =
            "Runs the echo servers one after the other, in alternating order, each pinned to one "
            "CPU and loaded from another, and compares the CPU time they need per message.",
    };
    struct bench_options options = {
        .reference = echo_reference(REFERENCE_NAME),
        .out_dir = "gyre-bench-results",
        .congestion = "reno",
        .spin = true,
    };

    if (!locate_programs(&options) || !choose_cpus(&options)) {
        perror("gyre-bench");
        return BENCH_FAILED;
    }
    argp_parse(&argp, argc, argv, 0, NULL, &options);
    apply_defaults(&options);
    if (access(options.load_path, X_OK) < 0) {
        perror(options.load_path);
        return BENCH_USAGE;
    }
    child_signals_init();
    return echo_run(&options);
}

static int usage(FILE *out, int status)
{
    fputs("usage: gyre-bench echo [OPTION...]   run the echo comparison (echo --help: options)\n"
          "       gyre-bench list               list its cells and contenders\n",
          out);
    return status;
}

int main(int argc, char **argv)
{
    static char echo_name[] = "gyre-bench echo";

    argp_err_exit_status = BENCH_USAGE;
    if (argc >= 2 && strcmp(argv[1], "echo") == 0) {
        argv[1] = echo_name;
        return command_echo(argc - 1, argv + 1);
    }
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        echo_list();
        return BENCH_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        return usage(stdout, BENCH_OK);
    }
    return usage(stderr, BENCH_USAGE);
}
