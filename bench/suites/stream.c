/*
 * The stream suite: bulk data, one way, the other, and both.
 */
#include "../runner/measure.h"
#include "suites.h"
#include "turns.h"

static const struct contender contenders[] = {
    {.name = "epoll", .program = "stream-epoll"},
    {.name = "gyre-uring",
     .program = "stream-gyre",
     .arguments = {"--backend", "uring"},
     .expect = "uring"},
    {.name = "gyre-epoll",
     .program = "stream-gyre",
     .arguments = {"--backend", "epoll"},
     .expect = "epoll"},
    {.name = "libuv", .program = "stream-libuv"},
};

#define KIB 1024
#define MIB (1024 * 1024)

/* What the server receives and sends in turn. */
static const struct cell cells[] = {
    {"up-64K", IN_ALL, {64 * KIB, 8, 8}},
    {"up-256K", IN_FULL, {256 * KIB, 8, 8}},
    {"up-1M", IN_NORMAL | IN_FULL, {MIB, 8, 8}},
    {"down-64K", IN_ALL, {8, 64 * KIB, 8}},
    {"down-256K", IN_FULL, {8, 256 * KIB, 8}},
    {"down-1M", IN_NORMAL | IN_FULL, {8, MIB, 8}},
    {"both-64K", IN_FULL, {64 * KIB, 64 * KIB, 8}},
    {"both-256K", IN_FULL, {256 * KIB, 256 * KIB, 8}},
    {"both-1M", IN_NORMAL | IN_FULL, {MIB, MIB, 8}},
};

static const struct figure figures[] = {
    {"server_cpu_ns_per_mib", "CPU us/MiB", 1e3, 1,
     "CPU time of the server per MiB moved, either way, kernel included."},
    {"mib_per_cpu_second", "MiB/CPU s", 1, 0, "the same the other way round."},
    {"mib_per_second", "MiB/s", 1, 0, "MiB moved in a second."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
    {"generator_busy", "load", 1, 3, "share of one CPU that the load used."},
    {"delay_share", NULL, 1, 3, "share of the window spent ready to run without a CPU."},
};

static const struct chart charts[] = {
    {CHART_LINES, "Received by the server, by size of a piece", "server_cpu_ns_per_mib", "receive",
     "reply=8", "CPU ns per MiB", true, false},
    {CHART_LINES, "Sent by the server, by size of a piece", "server_cpu_ns_per_mib", "reply",
     "receive=8", "CPU ns per MiB", true, false},
};

static void take_figures(const struct bench_options *options, struct sample *sample,
                         const json_t *load)
{
    const double mib =
        ((double)sample_parameter(sample, "receive") + (double)sample_parameter(sample, "reply")) /
        MIB;
    double ns = 0.0;

    if (json_number(load, "server.cpu_ns_per_message", &ns) && ns > 0.0) {
        sample_figure(sample, "server_cpu_ns_per_mib", ns / mib);
        sample_figure(sample, "mib_per_cpu_second", 1e9 * mib / ns);
    }
    sample_copy_figure(sample, "mib_per_second", load, "messages_per_second", mib);
    server_figures(options, sample, load);
}

static int server_command(struct command *command, const struct bench_options *options,
                          struct sample *sample)
{
    if (command_contender(command, options, sample) < 0) {
        return -1;
    }
    command_add_number(command, "--receive", sample_parameter(sample, "receive"));
    command_add_number(command, "--reply", sample_parameter(sample, "reply"));
    return 0;
}

static const struct load_plan load_plan = {
    .program = "gyre-load",
    .is_tcp = true,
    .options = {{"--size", "receive"}, {"--reply-size", "reply"}, {"--connections", "connections"}},
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
    const uint32_t size = cell->parameters[0] + cell->parameters[1];
    const uint32_t alone_ms = estimate_echo_ms(settings, size, cell->parameters[2], 1);

    (void)contender;
    return estimate_turns_ms(settings, alone_ms, estimate_flight_ms(size, cell->parameters[2], 1),
                             MEASURE_SLICE_MS,
                             turns_lead_ns(MEASURE_SLICE_MS, cell->parameters[2]));
}

const struct suite suite_stream = {
    .name = "stream",
    .title = "bulk data: received, sent, and both",
    .operation = "MiB",
    .parameters = {"receive", "reply", "connections"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "epoll",
    .notes =
        "A server answers each piece that it receives with one of another length; 8 bytes are a "
        "request or an acknowledgement. What it sends is compared byte by byte; what it receives "
        "it drops.",
    .settings = {{5, 100, 300}, {7, 100, 400}, {5, 40, 100}},
    .saturating = true,
    .in_turns = suite_every_cell,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
