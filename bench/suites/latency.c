/*
 * The latency suite: an open loop at shares of what each server takes at most, and one connection:
 * ping-pong as fast as it goes, ping-pong of two ends that wait in the same way, and a message every
 * 500 us.
 *
 * Each measurement finds the saturation of its own server first, so that 75 % is 75 % of what this
 * server can do at this hour. Latency counts from the moment a message was due.
 *
 * The load spins, for every contender, so no answer waits for the load to wake. In the ping-pong the
 * server has nothing to do for a few microseconds only, while the load sends; a virtual CPU hardly
 * falls asleep in that time (a host may poll for 200 us before it really stops one), and both sides'
 * way through TCP is most of what is measured. With 500 us between messages it does fall asleep: that
 * is what busy polling is for. And where both ends are servers, both sleep or both poll: in the cell
 * "both-ends" the load sleeps, too, but opposite a server that does not.
 */
#include "../runner/measure.h"
#include "suites.h"

#include <string.h>

static const struct contender contenders[] = {
    SUITES_OWN_SERVERS,
    {.name = "gyre-uring-busy",
     .program = "echo-server",
     .arguments = {"--backend", "uring", "--busy-poll-us", "1000"},
     .expect = "uring"},
    {.name = "gyre-epoll-busy",
     .program = "echo-server",
     .arguments = {"--backend", "epoll", "--busy-poll-us", "1000"},
     .expect = "epoll"},
    SUITES_LIBUV("try"),
    SUITES_OTHER_LIBRARIES,
};

/* percent and rate 0: ping-pong, a closed loop. */
static const struct cell cells[] = {
    {"ping-pong", IN_ALL, {64, 1, 0}},
    {"both-ends", IN_ALL, {64, 1, 0, 0, 1}},
    {"paced", IN_ALL, {64, 1, 0, 2000}},
    {"25", IN_FULL, {64, 64, 25}},
    {"50", IN_NORMAL | IN_FULL, {64, 64, 50}},
    {"75", IN_ALL, {64, 64, 75}},
    {"90", IN_FULL, {64, 64, 90}},
};

static const struct figure figures[] = {
    {"latency_p50_ns", "p50 us", 1e3, 1,
     "latency from the moment a message was due, median; ping-pong: service time."},
    {"latency_p75_ns", NULL, 1e3, 1, "the same, 75th percentile."},
    {"latency_p90_ns", "p90 us", 1e3, 1, "the same, 90th percentile."},
    {"latency_p95_ns", NULL, 1e3, 1, "the same, 95th percentile."},
    {"latency_p99_ns", "p99 us", 1e3, 1, "the same, 99th percentile."},
    {"latency_p99.9_ns", "p99.9 us", 1e3, 1, "the same, 99.9th percentile."},
    {"latency_max_ns", "max us", 1e3, 1, "the same, the slowest."},
    {"saturation_per_second", "saturation", 1, 0,
     "messages a second that would keep the server's CPU busy, on a schedule."},
    {"closed_loop_per_second", NULL, 1, 0, "messages a second that a closed loop reached."},
    {"messages_per_second", "messages/s", 1, 0, "messages that the open loop sent in a second."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
    {"generator_busy", "load", 1, 3, "share of one CPU that the load used."},
    {"send_lateness_p99_ns", NULL, 1e3, 1,
     "from the moment a message was due to its being sent, 99th percentile."},
    {"delay_share", NULL, 1, 3, "share of the window spent ready to run without a CPU."},
};

static const struct chart charts[] = {
    {CHART_PERCENTILES, "Latency at 50 % of saturation", "latency_", NULL, "50", "us", false, true},
    {CHART_PERCENTILES, "Latency at 90 % of saturation", "latency_", NULL, "90", "us", false, true},
    {CHART_PERCENTILES, "Ping-pong on one connection", "latency_", NULL, "ping-pong", "us", false,
     true},
    {CHART_PERCENTILES, "Ping-pong, the load waits as the server does", "latency_", NULL,
     "both-ends", "us", false, true},
    {CHART_PERCENTILES, "One connection, a message every 500 us", "latency_", NULL, "paced", "us",
     false, true},
    {CHART_LINES, "99th percentile by load", "latency_p99_ns", "percent", "size=64 connections=64",
     "us", false, true},
};

/* Messages that leave this late were not due then; the rest of the figures would be fiction. */
#define SEND_LATENESS_MAX_NS 1e6
/* A load that is busy all the time has a queue of its own, and that would be in the figures. */
#define LOAD_BUSY_MAX        0.97

static bool is_busy_polling(const struct contender *contender)
{
    return strstr(contender->name, "-busy") != NULL;
}

/* Busy polling is for one connection, and a fair comparison only there. */
static bool takes_part(const struct cell *cell, const struct contender *contender)
{
    return cell->parameters[2] == 0 || !is_busy_polling(contender);
}

/* The options of the load in this cell. */
static struct bench_options load_options(const struct bench_options *options,
                                         const struct sample *sample)
{
    struct bench_options chosen = *options;

    if (sample_parameter(sample, "alike") != 0 && !is_busy_polling(sample->contender)) {
        chosen.spin = false;
    }
    return chosen;
}

static void take_figures(const struct bench_options *options, struct sample *sample,
                         const json_t *load, bool open)
{
    static const char *const names[] = {"p50", "p75", "p90", "p95", "p99", "p99.9", "max"};
    const json_t *times = json_object_get(load, open ? "latency_ns" : "service_ns");
    double lateness = 0.0;
    double busy = 0.0;

    for (size_t i = 0; i < SUITES_COUNT(names); i++) {
        const json_t *value = json_object_get(times, names[i]);
        char figure[32];

        snprintf(figure, sizeof(figure), "latency_%s_ns", names[i]);
        if (json_is_number(value)) {
            sample_figure(sample, figure, json_number_value(value));
        }
    }
    sample_copy_figure(sample, "saturation_per_second", load, "saturation_per_second", 1.0);
    sample_copy_figure(sample, "closed_loop_per_second", load, "closed_loop_per_second", 1.0);
    sample_copy_figure(sample, "messages_per_second", load, "messages_per_second", 1.0);
    sample_copy_figure(sample, "send_lateness_p99_ns", load, "send_lateness_ns.p99", 1.0);
    server_figures(options, sample, load);
    if (json_number(load, "send_lateness_ns.p99", &lateness) && lateness > SEND_LATENESS_MAX_NS) {
        sample_fail(sample, OUTCOME_STARVED,
                    "one message in a hundred left %.1f ms late: the load had no CPU",
                    lateness / 1e6);
    }
    if (open && json_number(load, "generator.busy", &busy) && busy > LOAD_BUSY_MAX) {
        sample_fail(sample, OUTCOME_STARVED,
                    "the load was busy for %.0f %% of the time, which is no schedule",
                    100.0 * busy);
    }
}

/* Ping-pong, in turns with the reference. */
static void measure_closed(const struct bench_options *options, const struct settings *settings,
                           struct sample *sample)
{
    static const struct load_plan plan = {
        .program = "gyre-load",
        .is_tcp = true,
        .options = {{"--size", "size"}, {"--connections", "connections"}},
        .slice_ms = MEASURE_SLICE_MS,
        .compares_medians = true,
        .load_options = load_options,
        .server = command_contender,
    };
    const struct settings chosen = {
        .warmup_ms = settings->warmup_ms,
        .duration_ms = (settings->duration_ms + 1) / 2,
    };

    take_figures(options, sample, server_under_load(options, &chosen, sample, &plan), false);
}

static void measure_open(const struct bench_options *options, const struct settings *settings,
                         struct sample *sample)
{
    const uint32_t percent = sample_parameter(sample, "percent");
    struct command command;
    struct server server;

    if (options->server_cpu == options->load_cpu) {
        sample_fail(sample, OUTCOME_SKIPPED, "a schedule cannot be kept on the server's CPU");
        return;
    }
    if (command_contender(&command, options, sample) < 0 ||
        server_start(&server, options, sample, &command, sample->contender->expect) < 0) {
        return;
    }
    if (load_command(&command, options, settings, sample, &server, "gyre-load") == 0) {
        command_add(&command, "--cc");
        command_add(&command, options->congestion);
        command_add_number(&command, "--size", sample_parameter(sample, "size"));
        command_add_number(&command, "--connections", sample_parameter(sample, "connections"));
        if (percent > 0) {
            command_add_number(&command, "--rate-percent", percent);
            command_add_number(&command, "--saturate-ms", settings->duration_ms / 2);
        } else {
            command_add_number(&command, "--rate", sample_parameter(sample, "rate"));
        }
        json_t *load = load_run(options, settings, sample, &command);

        take_figures(options, sample, load, true);
        sample_detail(sample, "load", load);
    }
    server_stop(&server, sample);
}

/* Ping-pong is; an open loop has its own time. */
static bool in_turns(const struct cell *cell)
{
    return cell->parameters[2] == 0 && cell->parameters[3] == 0;
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    if (in_turns(sample->cell)) {
        measure_closed(options, settings, sample);
    } else {
        measure_open(options, settings, sample);
    }
}

/* Below saturation, that is looked for first, in two steps. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const uint32_t window_ms = settings->duration_ms;

    (void)contender;
    return settings->warmup_ms + (cell->parameters[2] > 0 ? 2 * window_ms : window_ms) +
           ESTIMATE_AROUND_MS;
}

const struct suite suite_latency = {
    .name = "latency",
    .title = "an open loop below saturation, and ping-pong",
    .operation = "message",
    .parameters = {"size", "connections", "percent", "rate", "alike"},
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
        "percent: of the rate that would keep the same server's CPU busy, found just before. "
        "rate: messages a second on one connection. Both 0: ping-pong, service time of a closed "
        "loop. The load spins, but alike: there it sleeps with the servers that sleep. -busy: the "
        "loop looks for work for a millisecond before it sleeps.",
    .settings = {{5, 100, 400}, {7, 100, 600}, {3, 60, 500}},
    .takes_part = takes_part,
    .in_turns = in_turns,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
