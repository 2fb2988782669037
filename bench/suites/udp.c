/*
 * The udp suite: datagrams echoed.
 */
#include "../runner/measure.h"
#include "suites.h"

static const struct contender contenders[] = {
    {.name = "mmsg", .program = "udp-mmsg"},
    {.name = "mmsg-epoll", .program = "udp-mmsg", .arguments = {"--wait=epoll"}},
    {.name = "gyre-uring", .program = "udp-echo", .arguments = {"--backend", "uring"}},
    {.name = "gyre-epoll", .program = "udp-echo", .arguments = {"--backend", "epoll"}},
    {.name = "libuv", .program = "udp-libuv"},
};

static const struct cell cells[] = {
    {"64x1", IN_NORMAL | IN_FULL, {64, 1, 1}},
    {"64x1x32", IN_ALL, {64, 1, 32}},
    {"64x64", IN_ALL, {64, 64, 1}},
    {"1400x1x32", IN_FULL, {1400, 1, 32}},
    {"1400x64", IN_NORMAL | IN_FULL, {1400, 64, 1}},
};

static const struct figure figures[] = {
    {"server_cpu_ns_per_message", "CPU ns/m", 1, 0,
     "CPU time of the server per datagram, kernel included."},
    {"messages_per_second", "datagrams/s", 1, 0, "datagrams echoed in a second."},
    {"messages_per_cpu_second", "m/CPU s", 1, 0, "the first column the other way round."},
    {"lost", "lost", 1, 0, "datagrams that did not come back."},
    {"service_p50_ns", "p50 us", 1e3, 1, "service time in a closed loop, not latency: median."},
    {"service_p99_ns", "p99 us", 1e3, 1, "the same, 99th percentile."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
    {"generator_busy", "load", 1, 3, "share of one CPU that the load used."},
    {"delay_share", NULL, 1, 3, "share of the window spent ready to run without a CPU."},
};

static const struct chart charts[] = {
    {CHART_BARS, "64 B, one flow, 32 in flight", "server_cpu_ns_per_message", NULL, "64x1x32",
     "CPU ns per datagram", false, false},
    {CHART_BARS, "64 B, 64 flows", "server_cpu_ns_per_message", NULL, "64x64",
     "CPU ns per datagram", false, false},
};

static void take_figures(const struct bench_options *options, struct sample *sample,
                         const json_t *load)
{
    double ns = 0.0;

    if (json_number(load, "server.cpu_ns_per_message", &ns) && ns > 0.0) {
        sample_figure(sample, "server_cpu_ns_per_message", ns);
        sample_figure(sample, "messages_per_cpu_second", 1e9 / ns);
    }
    sample_copy_figure(sample, "messages_per_second", load, "messages_per_second", 1.0);
    sample_copy_figure(sample, "lost", load, "lost", 1.0);
    sample_copy_figure(sample, "service_p50_ns", load, "service_ns.p50", 1.0);
    sample_copy_figure(sample, "service_p99_ns", load, "service_ns.p99", 1.0);
    server_figures(options, sample, load);
}

static int server_command(struct command *command, const struct bench_options *options,
                          struct sample *sample)
{
    if (command_init(command, options, sample, sample->contender->program) < 0) {
        return -1;
    }
    command_add_number(command, "--port", 0);
    command_add_all(command, sample->contender->arguments);
    return 0;
}

static const struct load_plan load_plan = {
    .program = "gyre-udp-load",
    .options = {{"--size", "size"}, {"--connections", "flows"}, {"--depth", "depth"}},
    .slice_ms = MEASURE_SLICE_MS,
    .server = server_command,
};

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    take_figures(options, sample, server_under_load(options, settings, sample, &load_plan));
}

static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const uint32_t *p = cell->parameters;
    const uint32_t alone_ms = estimate_echo_ms(settings, p[0], p[1], p[2]);

    (void)contender;
    return estimate_turns_ms(settings, alone_ms, estimate_flight_ms(p[0], p[1], p[2]),
                             MEASURE_SLICE_MS, 0);
}

const struct suite suite_udp = {
    .name = "udp",
    .title = "datagrams echoed",
    .operation = "datagram",
    .parameters = {"size", "flows", "depth"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "mmsg",
    .notes =
        "Every server has one socket; mmsg waits in recvmmsg, so it could not have more, "
        "mmsg-epoll in epoll_wait. A flow is a socket of the load. More than one datagram in a "
        "hundred lost gives no number.",
    .settings = {{5, 100, 300}, {7, 100, 400}, {5, 40, 100}},
    .saturating = true,
    .in_turns = suite_every_cell,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
