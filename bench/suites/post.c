/*
 * The post suite: having something done in a loop's thread from another one.
 */
#include "../runner/measure.h"
#include "suites.h"

static const struct contender contenders[] = {
    {.name = "gyre-uring", .program = "post-gyre", .arguments = {"--backend", "uring"}},
    {.name = "gyre-epoll", .program = "post-gyre", .arguments = {"--backend", "epoll"}},
    {.name = "libuv", .program = "post-libuv"},
    {.name = "eventfd", .program = "post-eventfd"},
};

static const char *const modes[] = {"stream", "wake"};

static const struct cell cells[] = {
    {"stream", IN_ALL, {0}},
    {"wake", IN_ALL, {1}},
};

static const struct figure figures[] = {
    {"ns_per_post", "ns/post", 1, 1,
     "stream: wall time per post; wake: median time from the post to its callback."},
    {"posts_per_second", "posts/s", 1, 0, "posts run in a second."},
    {"loop_cpu_ns_per_post", "loop CPU ns", 1, 1, "CPU time of the loop's thread per post."},
    {"poster_cpu_ns_per_post", "post CPU ns", 1, 1,
     "CPU time of the posting thread per post, in which it waits spinning."},
    {"wake_p50_ns", "wake p50 us", 1e3, 1, "wake: from the post to the callback, median."},
    {"wake_p99_ns", "wake p99 us", 1e3, 1, "the same, 99th percentile."},
};

static const struct chart charts[] = {
    {CHART_BARS, "Time per post, stream", "ns_per_post", NULL, "stream", "ns", false, false},
    {CHART_BARS, "From post to callback, the loop asleep", "ns_per_post", NULL, "wake", "ns", false,
     false},
};

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    const uint32_t mode = sample_parameter(sample, "mode");
    struct command command;

    if (command_init(&command, options, sample, sample->contender->program) < 0) {
        return;
    }
    if (options->server_cpu == options->load_cpu) {
        sample_fail(sample, OUTCOME_SKIPPED, "two threads that wait for each other need two CPUs");
        return;
    }
    command_add(&command, "--mode");
    command_add(&command, modes[mode]);
    command_add_number(&command, "--duration-ms", settings->duration_ms);
    command_add_number(&command, "--poster-cpu", options->load_cpu);
    command_add_all(&command, sample->contender->arguments);
    json_t *result = program_run(sample, &command, options->server_cpu, 60000);

    sample_copy_figure(sample, "ns_per_post", result,
                       mode == 0 ? "wall_ns_per_post" : "wake_ns.p50", 1.0);
    sample_copy_figure(sample, "posts_per_second", result, "posts_per_second", 1.0);
    sample_copy_figure(sample, "loop_cpu_ns_per_post", result, "loop_cpu_ns_per_post", 1.0);
    sample_copy_figure(sample, "poster_cpu_ns_per_post", result, "poster_cpu_ns_per_post", 1.0);
    if (mode == 1) {
        sample_copy_figure(sample, "wake_p50_ns", result, "wake_ns.p50", 1.0);
        sample_copy_figure(sample, "wake_p99_ns", result, "wake_ns.p99", 1.0);
    }
    sample_detail(sample, "result", result);
}

const struct suite suite_post = {
    .name = "post",
    .title = "posts from another thread, and waking a loop",
    .operation = "post",
    .parameters = {"mode"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "libuv",
    .notes = "One thread posts, on a CPU of its own. uv_async and the eventfd only wake; with them "
             "the posts travel in a queue under a mutex.",
    .settings = {{5, 1, 200}, {9, 1, 300}, {7, 1, 300}},
    .sample = measure,
};
