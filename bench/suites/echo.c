/*
 * The suites echo and uring, in the same cells.
 *
 * echo: the I/O models, and the libraries built on them, against each other, over message size,
 * connections and messages in flight. Which of io_uring and epoll is ahead changes sides along at
 * least two of the three, so there is no cell that stands for the others.
 *
 * uring: gyre on io_uring against the hand-written server. In echo each of them is in turns with the
 * one on epoll, and the quotient of two such ratios is less sure than either: too coarse to tell a
 * few per cent. So here they are in turns with each other, in the cells where that is possible.
 *
 * Left out are the cells with more than 256 MiB in flight: 16 KiB x 16,384 x 16 and the like measure
 * the memory of the machine.
 */
#include "../runner/measure.h"
#include "suites.h"
#include "turns.h"

#include <string.h>

/* The first four need no verdict: their distance is no matter of per cents. */
static const struct contender contenders[] = {
    {.name = "echo-blocking", .program = "echo-blocking", .rounds = BENCH_ROUNDS_LEAST},
    {.name = "echo-threads", .program = "echo-threads", .rounds = BENCH_ROUNDS_LEAST},
    {.name = "echo-select", .program = "echo-select", .rounds = BENCH_ROUNDS_LEAST},
    {.name = "echo-poll", .program = "echo-poll", .rounds = BENCH_ROUNDS_LEAST},
    SUITES_OWN_SERVERS,
    {.name = "gyre-ops-uring",
     .program = "echo-ops",
     .arguments = {"--backend", "uring"},
     .expect = "uring",
     .levels = IN_QUICK | IN_NORMAL},
    {.name = "gyre-ops-epoll",
     .program = "echo-ops",
     .arguments = {"--backend", "epoll"},
     .expect = "epoll",
     .levels = IN_QUICK | IN_NORMAL},
    SUITES_LIBUV("try"),
    SUITES_LIBUV("write"),
    SUITES_OTHER_LIBRARIES,
};

static const struct cell cells[] = {
    {"16x1", IN_FULL, {16, 1, 1}},
    {"16x8", IN_FULL, {16, 8, 1}},
    {"16x64", IN_NORMAL | IN_FULL, {16, 64, 1}},
    {"16x512", IN_FULL, {16, 512, 1}},
    {"16x4096", IN_FULL, {16, 4096, 1}},
    {"16x16384", IN_FULL, {16, 16384, 1}},
    {"64x1", IN_QUICK | IN_NORMAL | IN_FULL, {64, 1, 1}},
    {"64x8", IN_NORMAL | IN_FULL, {64, 8, 1}},
    {"64x64", IN_QUICK | IN_NORMAL | IN_FULL, {64, 64, 1}},
    {"64x512", IN_NORMAL | IN_FULL, {64, 512, 1}},
    {"64x1000", IN_QUICK | IN_NORMAL, {64, 1000, 1}},
    {"64x4096", IN_NORMAL | IN_FULL, {64, 4096, 1}},
    {"64x16384", IN_FULL, {64, 16384, 1}},
    {"512x1", IN_FULL, {512, 1, 1}},
    {"512x8", IN_FULL, {512, 8, 1}},
    {"512x64", IN_NORMAL | IN_FULL, {512, 64, 1}},
    {"512x512", IN_FULL, {512, 512, 1}},
    {"512x4096", IN_FULL, {512, 4096, 1}},
    {"512x16384", IN_FULL, {512, 16384, 1}},
    {"4Kx1", IN_FULL, {4096, 1, 1}},
    {"4Kx8", IN_FULL, {4096, 8, 1}},
    {"4Kx64", IN_QUICK | IN_NORMAL | IN_FULL, {4096, 64, 1}},
    {"4Kx512", IN_NORMAL | IN_FULL, {4096, 512, 1}},
    {"4Kx4096", IN_FULL, {4096, 4096, 1}},
    {"4Kx16384", IN_FULL, {4096, 16384, 1}},
    {"16Kx1", IN_FULL, {16384, 1, 1}},
    {"16Kx8", IN_FULL, {16384, 8, 1}},
    {"16Kx64", IN_QUICK | IN_NORMAL | IN_FULL, {16384, 64, 1}},
    {"16Kx512", IN_FULL, {16384, 512, 1}},
    {"16Kx4096", IN_FULL, {16384, 4096, 1}},
    {"16Kx16384", IN_FULL, {16384, 16384, 1}},
    {"64Kx1", IN_NORMAL | IN_FULL, {65536, 1, 1}},
    {"64Kx8", IN_FULL, {65536, 8, 1}},
    {"64Kx64", IN_QUICK | IN_NORMAL | IN_FULL, {65536, 64, 1}},
    {"64Kx512", IN_FULL, {65536, 512, 1}},
    {"64Kx4096", IN_FULL, {65536, 4096, 1}},
    {"16x1x16", IN_FULL, {16, 1, 16}},
    {"16x8x16", IN_FULL, {16, 8, 16}},
    {"16x64x16", IN_FULL, {16, 64, 16}},
    {"16x512x16", IN_FULL, {16, 512, 16}},
    {"16x4096x16", IN_FULL, {16, 4096, 16}},
    {"16x16384x16", IN_FULL, {16, 16384, 16}},
    {"64x1x16", IN_FULL, {64, 1, 16}},
    {"64x8x16", IN_FULL, {64, 8, 16}},
    {"64x64x16", IN_NORMAL | IN_FULL, {64, 64, 16}},
    {"64x512x16", IN_FULL, {64, 512, 16}},
    {"64x4096x16", IN_FULL, {64, 4096, 16}},
    {"64x16384x16", IN_FULL, {64, 16384, 16}},
    {"512x1x16", IN_FULL, {512, 1, 16}},
    {"512x8x16", IN_FULL, {512, 8, 16}},
    {"512x64x16", IN_FULL, {512, 64, 16}},
    {"512x512x16", IN_FULL, {512, 512, 16}},
    {"512x4096x16", IN_FULL, {512, 4096, 16}},
    {"512x16384x16", IN_FULL, {512, 16384, 16}},
    {"4Kx1x16", IN_FULL, {4096, 1, 16}},
    {"4Kx8x16", IN_FULL, {4096, 8, 16}},
    {"4Kx64x16", IN_NORMAL | IN_FULL, {4096, 64, 16}},
    {"4Kx512x16", IN_FULL, {4096, 512, 16}},
    {"4Kx4096x16", IN_FULL, {4096, 4096, 16}},
    {"16Kx1x16", IN_FULL, {16384, 1, 16}},
    {"16Kx8x16", IN_FULL, {16384, 8, 16}},
    {"16Kx64x16", IN_FULL, {16384, 64, 16}},
    {"16Kx512x16", IN_FULL, {16384, 512, 16}},
    {"64Kx1x16", IN_FULL, {65536, 1, 16}},
    {"64Kx8x16", IN_FULL, {65536, 8, 16}},
    {"64Kx64x16", IN_FULL, {65536, 64, 16}},
};

static const struct figure figures[] = {
    {"server_cpu_ns_per_message", "CPU ns/m", 1, 0,
     "CPU time of the server per message, kernel included."},
    {"messages_per_second", "messages/s", 1, 0, "messages echoed in a second."},
    {"service_p50_ns", "p50 us", 1e3, 1, "service time in a closed loop, not latency: median."},
    {"service_p99_ns", "p99 us", 1e3, 1, "the same, 99th percentile."},
    {"syscalls_per_message", "calls/m", 1, 4,
     "system calls per message, counted by the server itself over its whole life, connections "
     "included; gyre only."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
    {"generator_busy", "load", 1, 3, "share of one CPU that the load generator used."},
    {"delay_share", NULL, 1, 3, "share of the window spent ready to run without a CPU."},
};

static const struct chart charts[] = {
    {CHART_LINES, "CPU per message by connections, 64 B, depth 1", "server_cpu_ns_per_message",
     "connections", "size=64 depth=1", "CPU ns per message", true, true},
    {CHART_LINES, "CPU per message by connections, 64 B, depth 16", "server_cpu_ns_per_message",
     "connections", "size=64 depth=16", "CPU ns per message", true, true},
    {CHART_LINES, "CPU per message by size, 64 connections, depth 1", "server_cpu_ns_per_message",
     "size", "connections=64 depth=1", "CPU ns per message", true, true},
    {CHART_LINES, "CPU per message by size, 4,096 connections, depth 1",
     "server_cpu_ns_per_message", "size", "connections=4096 depth=1", "CPU ns per message", true,
     true},
    {CHART_LINES, "Throughput by connections, 64 B, depth 1", "messages_per_second", "connections",
     "size=64 depth=1", "messages per second", true, false},
    {CHART_LINES, "Throughput by size, 64 connections, depth 1", "messages_per_second", "size",
     "connections=64 depth=1", "messages per second", true, true},
};

/*
 * A server that serves one connection at a time takes part with one connection; select(2) ends at
 * 1,024 descriptors; what costs a look at every connection, or a thread for each, is shown where that
 * matters, with small messages.
 */
static bool takes_part(const struct cell *cell, const struct contender *contender)
{
    const char *name = contender->name;
    const uint32_t connections = cell->parameters[1];
    const bool shows = cell->parameters[0] == 64 && cell->parameters[2] == 1 && connections >= 64 &&
                       connections <= 4096;

    if (strcmp(name, "echo-blocking") == 0) {
        return connections == 1 && cell->parameters[2] == 1;
    }
    if (strcmp(name, "echo-select") == 0) {
        return shows && connections <= 1000;
    }
    if (strcmp(name, "echo-threads") == 0 || strcmp(name, "echo-poll") == 0) {
        return shows;
    }
    return true;
}

static void take_figures(const struct bench_options *options, struct sample *sample,
                         const json_t *load)
{
    sample_copy_figure(sample, "server_cpu_ns_per_message", load, "server.cpu_ns_per_message", 1.0);
    sample_copy_figure(sample, "messages_per_second", load, "messages_per_second", 1.0);
    sample_copy_figure(sample, "service_p50_ns", load, "service_ns.p50", 1.0);
    sample_copy_figure(sample, "service_p99_ns", load, "service_ns.p99", 1.0);
    server_figures(options, sample, load);
}

/* Opening so many for two servers takes too long: from here on measured alone. */
#define MANY 16384u

/* From here on a verdict's rounds would take too long. */
#define SEVERAL 4096u

/* A turn lets all that is in flight come back once, and goes on; then again, at its end. */
#define SLICES_LEAST 2u

static double flight_ms(const struct cell *cell)
{
    return estimate_flight_ms(cell->parameters[0], cell->parameters[1], cell->parameters[2]);
}

/* 0: measured alone. */
static uint32_t slice_ms(const struct cell *cell)
{
    return cell->parameters[1] >= MANY ? 0 : MEASURE_SLICE_MS + (uint32_t)flight_ms(cell);
}

static bool in_turns(const struct cell *cell)
{
    return slice_ms(cell) > 0;
}

/* The window is as long as some turns take. */
static struct settings in_slices(const struct settings *settings, uint32_t slice)
{
    struct settings chosen = *settings;

    if (chosen.duration_ms < SLICES_LEAST * slice) {
        chosen.duration_ms = SLICES_LEAST * slice;
    }
    return chosen;
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    const struct load_plan plan = {
        .program = "gyre-load",
        .is_tcp = true,
        .options = {{"--size", "size"}, {"--connections", "connections"}, {"--depth", "depth"}},
        .slice_ms = slice_ms(sample->cell),
        .server = command_contender,
    };
    const struct settings chosen = in_slices(settings, plan.slice_ms);

    take_figures(options, sample, server_under_load(options, &chosen, sample, &plan));
}

static uint32_t rounds(const struct cell *cell)
{
    return cell->parameters[1] >= SEVERAL ? BENCH_ROUNDS_LEAST : BENCH_ROUNDS_MAX;
}

static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const uint32_t slice = slice_ms(cell);
    const struct settings chosen = in_slices(settings, slice);
    const uint32_t alone_ms =
        estimate_echo_ms(&chosen, cell->parameters[0], cell->parameters[1], cell->parameters[2]);

    (void)contender;
    return slice == 0 ? alone_ms
                      : estimate_turns_ms(&chosen, alone_ms, flight_ms(cell), slice,
                                          turns_lead_ns(slice, cell->parameters[1]));
}

const struct suite suite_echo = {
    .name = "echo",
    .title = "CPU time per message, by size, connections and depth",
    .operation = "message",
    .parameters = {"size", "connections", "depth"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "echo-epoll",
    .notes = "Messages per second are the server's own only where it was busy; rows marked "
             "generator-bound are not.",
    .settings = {{5, 30, 72}, {7, 50, 200}, {5, 20, 48}},
    .saturating = true,
    .takes_part = takes_part,
    .in_turns = in_turns,
    .rounds = rounds,
    .estimate_ms = estimate_ms,
    .sample = measure,
};

static const struct contender on_uring[] = {SUITES_ON_URING};

static bool is_on_uring_in_turns(const struct cell *cell, const struct contender *contender)
{
    (void)contender;
    return in_turns(cell);
}

const struct suite suite_uring = {
    .name = "uring",
    .title = "gyre on io_uring in turns with the hand-written server",
    .operation = "message",
    .parameters = {"size", "connections", "depth"},
    .contenders = on_uring,
    .contender_count = SUITES_COUNT(on_uring),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .reference = "echo-uring",
    .notes = "The cells of echo but those of 16,384 connections, which are not measured in turns.",
    .settings = {{5, 30, 72}, {7, 50, 200}, {5, 20, 60}},
    .saturating = true,
    .takes_part = is_on_uring_in_turns,
    .in_turns = in_turns,
    .rounds = rounds,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
