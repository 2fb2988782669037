/*
 * The counts suite: what noise cannot touch. System calls, those that found nothing, entries handed
 * to io_uring, allocations, user-space instructions, each for one message.
 *
 * Each is the difference of two runs that differ by a known number of messages, so that start, end
 * and connections cancel out. The server runs under a tracer (gyre-count), then under callgrind. Both
 * slow it down, so that it always finds a message on every connection: what is counted is a server
 * at saturation.
 */
#include "../runner/measure.h"
#include "suites.h"

#include <stdlib.h>
#include <string.h>

static const struct contender contenders[] = {
    SUITES_OWN_SERVERS,
    SUITES_LIBUV("try"),
    SUITES_LIBUV("write"),
    SUITES_OTHER_LIBRARIES,
};

static const struct cell cells[] = {
    {"64x1", IN_NORMAL | IN_FULL, {64, 1}},
    {"64x64", IN_ALL, {64, 64}},
    {"64x1000", IN_FULL, {64, 1000}},
    {"16Kx64", IN_FULL, {16384, 64}},
};

/*
 * Messages of the short run, for each connection, and by how many more the long one has: their
 * difference may be off by a call or two, which is one in ten thousand. One connection takes two
 * switches between processes for a message, so it gets fewer.
 */
#define SHORT_MESSAGES      20u
#define SHORT_MESSAGES_MANY 5u
#define MANY                1000u
#define MORE_MESSAGES       10000u
#define MORE_MESSAGES_ALONE 2000u

static uint32_t short_messages(const struct cell *cell)
{
    const uint32_t connections = cell->parameters[1];

    return connections * (connections < MANY ? SHORT_MESSAGES : SHORT_MESSAGES_MANY);
}

static uint32_t more_messages(const struct cell *cell)
{
    return cell->parameters[1] == 1 ? MORE_MESSAGES_ALONE : MORE_MESSAGES;
}

static const struct figure figures[] = {
    {"syscalls_per_message", "calls/m", 1, 4, "system calls of the server per message."},
    {"eagains_per_message", "EAGAIN/m", 1, 4, "system calls that found nothing to do."},
    {"sqes_per_message", "SQEs/m", 1, 3, "entries handed to io_uring."},
    {"cqes_per_message", "CQEs/m", 1, 3, "completions that io_uring put in its queues."},
    {"allocations_per_message", "allocs/m", 1, 4, "calls of malloc and its kind."},
    {"instructions_per_message", "instr/m", 1, 0, "user-space instructions (callgrind)."},
};

static const struct chart charts[] = {
    {CHART_BARS, "System calls per message, 64 B x 64", "syscalls_per_message", NULL, "64x64",
     "system calls", false, false},
    {CHART_BARS, "Instructions per message, 64 B x 64", "instructions_per_message", NULL, "64x64",
     "user-space instructions", false, false},
    {CHART_BARS, "Allocations per message, 64 B x 64", "allocations_per_message", NULL, "64x64",
     "allocations", false, false},
};

/* How the server is started: what stands before its command line. */
enum tool { TOOL_TRACER, TOOL_CALLGRIND };

static int begin(struct command *command, const struct bench_options *options,
                 struct sample *sample, enum tool tool)
{
    static char preload[PATH_MAX];
    struct command server;
    struct command found;

    if (command_init(&found, options, sample, "gyre-count-preload.so") < 0 ||
        command_contender(&server, options, sample) < 0) {
        return -1;
    }
    memcpy(preload, found.path, sizeof(preload));
    if (tool == TOOL_TRACER) {
        if (command_init(command, options, sample, "gyre-count") < 0) {
            return -1;
        }
        command_add(command, preload);
    } else {
        if (external_command(command, sample, "valgrind") < 0) {
            return -1;
        }
        command_add(command, "--tool=callgrind");
        command_add(command, "--callgrind-out-file=/dev/null");
    }
    static char program[PATH_MAX];

    memcpy(program, server.path, sizeof(program));
    command_add(command, program);
    command_add_all(command, server.argv + 1);
    return 0;
}

/* One run. @text: gets what the server and its tool wrote to standard error. */
static void run(const struct bench_options *options, struct sample *sample, enum tool tool,
                uint32_t messages, char *text, size_t size)
{
    const struct settings settings = {.warmup_ms = 0, .duration_ms = 1000};
    struct command command;
    struct server server;

    if (begin(&command, options, sample, tool) < 0 ||
        server_start(&server, options, sample, &command, sample->contender->expect) < 0) {
        return;
    }
    if (load_command(&command, options, &settings, sample, &server, "gyre-load") == 0) {
        command_add(&command, "--cc");
        command_add(&command, options->congestion);
        command_add_number(&command, "--size", sample_parameter(sample, "size"));
        command_add_number(&command, "--connections", sample_parameter(sample, "connections"));
        command_add_number(&command, "--messages", messages);
        json_t *load = load_run(options, &settings, sample, &command);

        json_decref(load);
    }
    server_stop_text(&server, sample, text, size);
}

/* A number by its name, anywhere in the JSON lines of a text. */
static bool find_number(const char *text, const char *object, const char *name, double *out)
{
    char key[64];
    const char *at = strstr(text, object);

    snprintf(key, sizeof(key), "\"%s\":", name);
    at = at == NULL ? NULL : strstr(at, key);
    if (at == NULL) {
        return false;
    }
    *out = strtod(at + strlen(key), NULL);
    return true;
}

static void difference(struct sample *sample, const char *figure, const char *texts[2],
                       const char *object, const char *name)
{
    double few = 0.0;
    double many = 0.0;

    if (find_number(texts[0], object, name, &few) && find_number(texts[1], object, name, &many)) {
        sample_figure(sample, figure, (many - few) / more_messages(sample->cell));
    }
}

static bool instructions(const char *text, double *out)
{
    const char *at = strstr(text, "Collected : ");

    if (at == NULL) {
        return false;
    }
    *out = strtod(at + strlen("Collected : "), NULL);
    return true;
}

static void count(const struct bench_options *options, struct sample *sample, enum tool tool)
{
    static char few_text[16384];
    static char many_text[16384];
    const char *texts[2] = {few_text, many_text};
    const uint32_t few = short_messages(sample->cell);
    double few_instructions = 0.0;
    double many_instructions = 0.0;

    few_text[0] = '\0';
    many_text[0] = '\0';
    run(options, sample, tool, few, few_text, sizeof(few_text));
    if (sample->outcome == OUTCOME_OK) {
        run(options, sample, tool, few + more_messages(sample->cell), many_text, sizeof(many_text));
    }
    if (sample->outcome != OUTCOME_OK) {
        return;
    }
    if (tool == TOOL_TRACER) {
        difference(sample, "syscalls_per_message", texts, "{\"traced\"", "calls");
        difference(sample, "eagains_per_message", texts, "{\"traced\"", "eagains");
        difference(sample, "sqes_per_message", texts, "{\"traced\"", "submitted");
        difference(sample, "allocations_per_message", texts, "{\"traced\"", "allocations");
        difference(sample, "cqes_per_message", texts, "{\"traced\"", "completed");
    } else if (instructions(few_text, &few_instructions) &&
               instructions(many_text, &many_instructions)) {
        sample_figure(sample, "instructions_per_message",
                      (many_instructions - few_instructions) / more_messages(sample->cell));
    }
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    struct sample second = *sample;

    (void)settings;
    count(options, sample, TOOL_TRACER);
    if (sample->outcome != OUTCOME_OK) {
        return;
    }
    /* Without valgrind, or where it does not know a system call, the other counts stand. */
    count(options, &second, TOOL_CALLGRIND);
    sample_copy_figure(sample, "instructions_per_message", second.figures,
                       "instructions_per_message", 1.0);
    if (second.outcome == OUTCOME_INTERRUPTED) {
        sample_fail(sample, OUTCOME_INTERRUPTED, "interrupted");
    } else if (second.outcome != OUTCOME_OK) {
        sample_detail(sample, "callgrind", json_string(second.text));
    }
    json_decref(second.figures);
    json_decref(second.detail);
}

/* Two runs under the tracer and two under callgrind, which takes long to start. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    const double message_ms = 0.1 + cell->parameters[0] / 270e3;
    const uint32_t messages = 2 * short_messages(cell) + more_messages(cell);

    (void)contender;
    (void)settings;
    return 1600 + (uint32_t)(message_ms * messages);
}

const struct suite suite_counts = {
    .name = "counts",
    .title = "what a message takes: system calls, entries, allocations, instructions",
    .operation = "message",
    .parameters = {"size", "connections"},
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
        "Differences of two runs with a known number of messages, under a tracer and under "
        "callgrind, which make the server slow and so every turn a full one. Ratios are of system "
        "calls.",
    .settings = {{1, 1, 1}, {1, 1, 1}, {1, 1, 1}},
    .estimate_ms = estimate_ms,
    .sample = measure,
};
