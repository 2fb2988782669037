/*
 * Two servers in turns; why, and what is said between us and the loads, stands in ../common/turns.h.
 */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Beyond connecting, warm-up and slice. */
#define STEP_LIMIT_MS 60000

/* A server and its load. */
struct side {
    struct sample *sample; /* what goes wrong with it */
    struct child load;
    int limit_ms;
    char line[PROGRAM_LINE_MAX]; /* what the load said last */
    bool goes_on;                /* it waits to be told */
    bool compares_medians;
};

/* What the load says; anything but @word means that it has come to an end. */
static bool hear(struct side *side, const char *word)
{
    side->goes_on = program_read(side->sample, &side->load, side->line, side->limit_ms) == 0 &&
                    strncmp(side->line, word, strlen(word)) == 0;
    return side->goes_on;
}

static bool side_start(struct side *side, const struct bench_options *options,
                       const struct settings *settings, const struct load_plan *plan,
                       const struct server *server)
{
    struct command command;

    side->limit_ms = (int)(settings->warmup_ms + plan->slice_ms) + STEP_LIMIT_MS;
    if (plan_command(&command, options, settings, side->sample, plan, server) < 0) {
        return false;
    }
    command_add_number(&command, "--slice-ms", plan->slice_ms);
    if (program_start(&side->load, side->sample, &command, options->load_cpu, true) < 0) {
        return false;
    }
    hear(side, "ready");
    return true;
}

static bool slice(struct side *side, double *out_cost_ns)
{
    if (child_tell(&side->load, "\n") < 0 || !hear(side, "slice ")) {
        side->goes_on = false; /* its end says why */
        return false;
    }
    char *end = side->line;
    const double cpu_ns = strtod(side->line + strlen("slice "), &end);

    *out_cost_ns = side->compares_medians ? strtod(end, NULL) : cpu_ns;
    return true;
}

static json_t *side_end(struct side *side)
{
    child_tell_end(&side->load);
    if (side->sample->outcome == OUTCOME_OK && side->line[0] != '{') {
        program_read(side->sample, &side->load, side->line, side->limit_ms);
    }
    return program_end(side->sample, &side->load, side->line);
}

/* A pair of slices. Returns: whether there is a ratio. */
static bool pair(struct side *own, struct side *rival, bool own_first, double *out_ratio)
{
    struct side *sides[2] = {own_first ? own : rival, own_first ? rival : own};
    double costs[2] = {0.0, 0.0};

    for (int i = 0; i < 2; i++) {
        if (sides[i]->goes_on) {
            slice(sides[i], &costs[i]);
        }
    }
    const double own_ns = costs[own_first ? 0 : 1];
    const double rival_ns = costs[own_first ? 1 : 0];

    *out_ratio = rival_ns > 0.0 ? own_ns / rival_ns : 0.0;
    return own_ns > 0.0 && rival_ns > 0.0;
}

/* Also without the rival, if that has come to an end. Returns: how many ratios there are. */
static uint32_t take_turns(struct side *own, struct side *rival, uint32_t pairs, double *ratios)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < pairs && own->goes_on; i++) {
        count += pair(own, rival, (i + own->sample->round) % 2 == 0, &ratios[count]);
    }
    return count;
}

/* As long as the window; an even number, so that each is the first in as many. */
static uint32_t pairs_wanted(const struct settings *settings, const struct load_plan *plan)
{
    const uint32_t slices = (settings->duration_ms + plan->slice_ms - 1) / plan->slice_ms;
    const uint32_t even = slices + slices % 2;

    return even == 0 ? 2 : even < STATS_MAX ? even : STATS_MAX;
}

static const struct contender *reference_of(const struct bench_options *options,
                                            const struct suite *suite)
{
    return suite_contender(suite, suite_reference(options, suite));
}

/* The ratio counts if the reference did well to its end. */
static void note_ratio(struct sample *sample, const struct sample *reference, const double *ratios,
                       uint32_t count, uint32_t wanted)
{
    const bool good = reference->outcome == OUTCOME_OK && count == wanted;
    json_t *list = json_array();
    char name[SAMPLE_RATIO_MAX];

    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(list, json_real(ratios[i]));
    }
    sample_detail(sample, "ratios", list);
    sample_ratio_name(name, reference->contender->name);
    if (good) {
        sample_figure(sample, name, stats_median(ratios, count));
    }
}

/* Its failure is not the contender's, but wrong bytes are wrong bytes. */
static void note_failure(struct sample *sample, const struct sample *reference)
{
    if (reference->outcome == OUTCOME_WRONG_BYTES) {
        sample->outcome = sample->outcome == OUTCOME_FAILED ? OUTCOME_OK : sample->outcome;
        sample_fail(sample, OUTCOME_WRONG_BYTES, "the reference beside it: %s", reference->text);
    } else if (reference->outcome != OUTCOME_OK && reference->outcome != OUTCOME_SKIPPED) {
        sample_detail(sample, "reference", json_string(reference->text));
    }
}

/* The reference, its server and its load, from start to end. Returns: how many ratios there are. */
static uint32_t with_reference(struct side *own, struct sample *sample,
                               const struct bench_options *options, const struct settings *settings,
                               const struct load_plan *plan, double *ratios)
{
    static struct side rival;
    struct command command;
    struct server server;
    const uint32_t pairs = pairs_wanted(settings, plan);

    rival = (struct side){.sample = sample, .compares_medians = plan->compares_medians};
    if (plan->server(&command, options, sample) < 0 ||
        server_start(&server, options, sample, &command, sample->contender->expect) < 0) {
        return take_turns(own, &rival, pairs, ratios);
    }
    const bool started = side_start(&rival, options, settings, plan, &server);
    const uint32_t count = take_turns(own, &rival, pairs, ratios);

    if (started) {
        json_t *result = side_end(&rival);

        server_figures(options, sample, result); /* was it starved? */
        json_decref(result);
    }
    server_stop(&server, sample);
    return count;
}

json_t *turns_run(const struct bench_options *options, const struct settings *settings,
                  struct sample *sample, const struct load_plan *plan, const struct server *server)
{
    static struct side own;
    double ratios[STATS_MAX];
    struct sample reference = {
        .suite = sample->suite,
        .cell = sample->cell,
        .contender = reference_of(options, sample->suite),
    };

    own = (struct side){.sample = sample, .compares_medians = plan->compares_medians};
    if (!side_start(&own, options, settings, plan, server)) {
        return NULL;
    }
    const uint32_t count =
        own.goes_on ? with_reference(&own, &reference, options, settings, plan, ratios) : 0;
    json_t *result = side_end(&own);

    note_ratio(sample, &reference, ratios, count, pairs_wanted(settings, plan));
    note_failure(sample, &reference);
    json_decref(reference.figures);
    json_decref(reference.detail);
    return result;
}
