/*
 * The idle suite: what connections cost that do nothing.
 */
#include "../runner/measure.h"
#include "suites.h"

#include <string.h>
#include <sys/resource.h>

static const struct contender contenders[] = {
    {.name = "echo-threads", .program = "echo-threads", .rounds = BENCH_ROUNDS_LEAST},
    SUITES_OWN_SERVERS,
    SUITES_LIBUV("try"),
    SUITES_OTHER_LIBRARIES,
};

static const struct cell cells[] = {
    {"1K", IN_QUICK, {1000}},
    {"10K", IN_NORMAL | IN_FULL, {10000}},
    {"100K", IN_FULL, {100000}},
    {"1M", IN_FULL, {1000000}},
};

static const struct figure figures[] = {
    {"user_bytes_per_connection", "user bytes", 1, 0,
     "resident memory of the server per connection, idle again after one message."},
    {"user_bytes_accepted", "accepted", 1, 0, "the same, accepted and nothing received yet."},
    {"kernel_bytes_per_connection", "kernel bytes", 1, 0,
     "growth of the kernel's slabs and stacks, both ends of the connection together."},
    {"idle_cpu_share", "idle CPU", 1, 5, "share of one CPU that the server used meanwhile."},
    {"busy_p50_ns", "busy p50 us", 1e3, 1,
     "service time of one busy connection among the idle ones, median."},
    {"busy_p99_ns", "busy p99 us", 1e3, 1, "the same, 99th percentile."},
};

static const struct chart charts[] = {
    {CHART_BARS, "Memory of the server per idle connection, 10,000 connections",
     "user_bytes_per_connection", NULL, "10K", "bytes", false, true},
    {CHART_BARS, "Median service time of a busy one among them", "busy_p50_ns", NULL, "10K", "ns",
     false, false},
};

#define OTHER_DESCRIPTORS 64u
#define THREADS_MAX       1000u

/* Opening a million takes two minutes: only the drivers, once. Memory is the same every time. */
#define MANY 100000u

static bool takes_part(const struct cell *cell, const struct contender *contender)
{
    const char *name = contender->name;

    if (cell->parameters[0] > MANY) {
        return strcmp(name, "echo-epoll") == 0 || strcmp(name, "echo-uring") == 0 ||
               strncmp(name, "gyre-", 5) == 0;
    }
    return strcmp(name, "echo-threads") != 0 || cell->parameters[0] <= THREADS_MAX;
}

static uint32_t rounds(const struct cell *cell)
{
    return cell->parameters[0] > MANY ? 1 : BENCH_ROUNDS_MAX;
}

static uint64_t files_limit(void)
{
    struct rlimit limit = {0};

    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max;
}

static bool limit_allows(uint32_t connections)
{
    return files_limit() >= (uint64_t)connections + OTHER_DESCRIPTORS;
}

/* Connections are opened one after the other, and each exchanges a message. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const uint32_t connections = cell->parameters[0];

    (void)contender;
    if (!limit_allows(connections)) {
        return 0;
    }
    return 2 * settings->duration_ms + ESTIMATE_AROUND_MS + connections / 1000 * 80;
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    const uint32_t connections = sample_parameter(sample, "connections");
    struct command command;
    struct server server;

    if (!limit_allows(connections)) {
        sample_fail(sample, OUTCOME_SKIPPED, "a process may open %llu files here (ulimit -Hn)",
                    (unsigned long long)files_limit());
        return;
    }
    if (command_contender(&command, options, sample) < 0 ||
        server_start(&server, options, sample, &command, sample->contender->expect) < 0) {
        return;
    }
    if (load_command(&command, options, settings, sample, &server, "gyre-idle-load") == 0) {
        command_add_number(&command, "--connections", connections);
        json_t *load =
            program_run(sample, &command, options->load_cpu, 60000 + (int)(connections / 2));

        sample_copy_figure(sample, "user_bytes_per_connection", load, "user_bytes", 1.0);
        sample_copy_figure(sample, "user_bytes_accepted", load, "user_bytes_accepted", 1.0);
        sample_copy_figure(sample, "kernel_bytes_per_connection", load, "kernel_bytes", 1.0);
        sample_copy_figure(sample, "idle_cpu_share", load, "idle_cpu_share", 1.0);
        sample_copy_figure(sample, "busy_p50_ns", load, "busy_service_ns.p50", 1.0);
        sample_copy_figure(sample, "busy_p99_ns", load, "busy_service_ns.p99", 1.0);
        sample_detail(sample, "load", load);
    }
    server_stop(&server, sample);
}

const struct suite suite_idle = {
    .name = "idle",
    .title = "memory and CPU time of idle connections, and one busy among them",
    .operation = "connection",
    .parameters = {"connections"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "echo-epoll",
    .notes =
        "Resident memory counts whole pages, and what the C library keeps for later. The kernel's "
        "slabs belong to the whole machine; what else it does meanwhile is in them.",
    .settings = {{1, 1, 100}, {3, 1, 300}, {3, 1, 300}},
    .takes_part = takes_part,
    .rounds = rounds,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
