/*
 * The timers suite: start, restart, stop and expire, with a thousand to a million timers running.
 */
#include "../runner/measure.h"
#include "suites.h"

static const struct contender contenders[] = {
    {.name = "gyre-uring", .program = "timers-gyre", .arguments = {"--backend", "uring"}},
    {.name = "gyre-epoll", .program = "timers-gyre", .arguments = {"--backend", "epoll"}},
    {.name = "libuv", .program = "timers-libuv"},
    {.name = "libevent", .program = "timers-libevent"},
    {.name = "libev", .program = "timers-libev"},
};

#define MANY 1000000u

static const char *const operations[] = {"start", "restart", "stop", "expire"};

static const struct cell cells[] = {
    {"start-1K", IN_FULL, {1000, 0}},      {"start-100K", IN_NORMAL | IN_FULL, {100000, 0}},
    {"start-1M", IN_FULL, {1000000, 0}},   {"restart-1K", IN_NORMAL | IN_FULL, {1000, 1}},
    {"restart-100K", IN_ALL, {100000, 1}}, {"restart-1M", IN_ALL, {1000000, 1}},
    {"stop-1K", IN_FULL, {1000, 2}},       {"stop-100K", IN_NORMAL | IN_FULL, {100000, 2}},
    {"stop-1M", IN_FULL, {1000000, 2}},    {"expire-1K", IN_FULL, {1000, 3}},
    {"expire-100K", IN_ALL, {100000, 3}},  {"expire-1M", IN_FULL, {1000000, 3}},
};

static const struct figure figures[] = {
    {"cpu_ns_per_operation", "CPU ns/op", 1, 1, "CPU time per start, restart, stop or expiry."},
    {"operations_per_cpu_second", "op/CPU s", 1, 0, "the same the other way round."},
    {"lateness_p50_ns", "late p50 us", 1e3, 1,
     "expire: from the deadline to the callback, median."},
    {"lateness_p99_ns", "late p99 us", 1e3, 1, "the same, 99th percentile."},
    {"lateness_max_ns", "late max us", 1e3, 1, "the same, the latest."},
    {"early", "early", 1, 0,
     "expire: callbacks before the deadline, which are not in the lateness, of one timer in 16, in "
     "64 from 65,536 on; deadlines are counted from the clock, not from a loop's idea of now."},
};

static const struct chart charts[] = {
    {CHART_LINES, "Start", "cpu_ns_per_operation", "timers", "operation=0", "CPU ns", true, true},
    {CHART_LINES, "Restart", "cpu_ns_per_operation", "timers", "operation=1", "CPU ns", true, true},
    {CHART_LINES, "Stop", "cpu_ns_per_operation", "timers", "operation=2", "CPU ns", true, true},
    {CHART_LINES, "Expire", "cpu_ns_per_operation", "timers", "operation=3", "CPU ns", true, true},
};

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    struct command command;

    if (command_init(&command, options, sample, sample->contender->program) < 0) {
        return;
    }
    command_add(&command, "--operation");
    command_add(&command, operations[sample_parameter(sample, "operation")]);
    command_add_number(&command, "--count", sample_parameter(sample, "timers"));
    command_add_number(&command, "--duration-ms", settings->duration_ms);
    command_add_all(&command, sample->contender->arguments);
    json_t *result = program_run(sample, &command, options->server_cpu, 60000);
    double ns = 0.0;

    if (json_number(result, "cpu_ns_per_operation", &ns) && ns > 0.0) {
        sample_figure(sample, "cpu_ns_per_operation", ns);
        sample_figure(sample, "operations_per_cpu_second", 1e9 / ns);
    }
    if (sample_parameter(sample, "operation") == 3) {
        sample_copy_figure(sample, "lateness_p50_ns", result, "lateness_ns.p50", 1.0);
        sample_copy_figure(sample, "lateness_p99_ns", result, "lateness_ns.p99", 1.0);
        sample_copy_figure(sample, "lateness_max_ns", result, "lateness_ns.max", 1.0);
        sample_copy_figure(sample, "early", result, "early", 1.0);
    }
    sample_detail(sample, "result", result);
}

/* Three rounds are enough where libraries are far apart, and a round takes long. */
static uint32_t rounds(const struct cell *cell)
{
    return cell->parameters[0] >= MANY ? BENCH_ROUNDS_LEAST : BENCH_ROUNDS_MAX;
}

/* A million take several batches of half a second, of which one half is not timed. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    (void)contender;
    return settings->duration_ms + ESTIMATE_AROUND_MS + cell->parameters[0] / 600;
}

const struct suite suite_timers = {
    .name = "timers",
    .title = "start, restart, stop, expire",
    .operation = "operation",
    .parameters = {"timers", "operation"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "libuv",
    .notes = "Timeouts are whole milliseconds, 1 s to 60 s, in a scattered order. operation: 0 "
             "start, 1 restart, 2 stop, 3 expire.",
    .settings = {{5, 1, 100}, {7, 1, 200}, {5, 1, 150}},
    .rounds = rounds,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
