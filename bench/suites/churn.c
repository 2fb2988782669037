/*
 * The churn suite: connect, one message, close.
 */
#include "../runner/measure.h"
#include "suites.h"

static const struct contender contenders[] = {
    {.name = "echo-threads", .program = "echo-threads", .rounds = BENCH_ROUNDS_LEAST},
    SUITES_OWN_SERVERS,
    SUITES_LIBUV("try"),
    SUITES_OTHER_LIBRARIES,
};

static const struct cell cells[] = {
    {"1", IN_NORMAL | IN_FULL, {64, 1}},
    {"64", IN_ALL, {64, 64}},
    {"512", IN_FULL, {64, 512}},
};

static const struct figure figures[] = {
    {"server_cpu_ns_per_connection", "CPU ns/conn", 1, 0,
     "CPU time of the server for a connection with one message, kernel included."},
    {"connections_per_second", "conn/s", 1, 0,
     "connections opened and closed in a second; the load is the slower side."},
    {"connections_per_cpu_second", "conn/CPU s", 1, 0, "the first column the other way round."},
    {"service_p50_ns", "p50 us", 1e3, 1, "from before connect(2) to the last byte back, median."},
    {"service_p99_ns", "p99 us", 1e3, 1, "the same, 99th percentile."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
    {"generator_busy", "load", 1, 3, "share of one CPU that the load used."},
    {"delay_share", NULL, 1, 3, "share of the window spent ready to run without a CPU."},
};

static const struct chart charts[] = {
    {CHART_LINES, "CPU per connection, by connections at a time", "server_cpu_ns_per_connection",
     "at_a_time", "size=64", "CPU ns per connection", true, false},
};

static void take_figures(const struct bench_options *options, struct sample *sample,
                         const json_t *load)
{
    double ns = 0.0;

    if (json_number(load, "server.cpu_ns_per_message", &ns) && ns > 0.0) {
        sample_figure(sample, "server_cpu_ns_per_connection", ns);
        sample_figure(sample, "connections_per_cpu_second", 1e9 / ns);
    }
    sample_copy_figure(sample, "connections_per_second", load, "connections_per_second", 1.0);
    sample_copy_figure(sample, "service_p50_ns", load, "service_ns.p50", 1.0);
    sample_copy_figure(sample, "service_p99_ns", load, "service_ns.p99", 1.0);
    server_figures(options, sample, load);
}

static const struct load_plan load_plan = {
    .program = "gyre-churn",
    .is_tcp = true,
    .options = {{"--size", "size"}, {"--connections", "at_a_time"}},
    .slice_ms = MEASURE_SLICE_MS,
    .server = command_contender,
};

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    take_figures(options, sample, server_under_load(options, settings, sample, &load_plan));
}

/* A slice ends when the last of those that are open is closed. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const double closed_ms = 0.13 * cell->parameters[1];
    const uint32_t alone_ms =
        estimate_echo_ms(settings, cell->parameters[0], cell->parameters[1], 1);

    (void)contender;
    return estimate_turns_ms(settings, alone_ms, closed_ms, MEASURE_SLICE_MS, 0);
}

const struct suite suite_churn = {
    .name = "churn",
    .title = "connections that live for one message",
    .operation = "connection",
    .parameters = {"size", "at_a_time"},
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
        "The client ends each connection with a reset, so that none is left in TIME_WAIT for the "
        "next measurement. Opening and closing cost the client more than the server, so the "
        "rate is the client's; the CPU time is not.",
    .settings = {{5, 100, 300}, {7, 100, 400}, {5, 40, 100}},
    .saturating = true,
    .in_turns = suite_every_cell,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
