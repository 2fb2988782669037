/*
 * Two servers in turns; why, and what is said between us and the loads, stands in ../common/turns.h.
 */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEP_LIMIT_MS 60000

/* A server and its load. */
struct side {
    struct sample *sample; /* what goes wrong with it */
    struct child load;
    char line[PROGRAM_LINE_MAX]; /* what the load said last */
    bool goes_on;                /* it waits to be told */
    bool compares_medians;
};

/* What the load says; anything but @word means that it has come to an end. */
static bool hear(struct side *side, const char *word)
{
    side->goes_on = program_read(side->sample, &side->load, side->line, STEP_LIMIT_MS) == 0 &&
                    strncmp(side->line, word, strlen(word)) == 0;
    return side->goes_on;
}

static bool side_start(struct side *side, const struct bench_options *options,
                       const struct settings *settings, const struct load_plan *plan,
                       const struct server *server)
{
    struct command command;

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
        program_read(side->sample, &side->load, side->line, STEP_LIMIT_MS);
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

/* Also without the rival, if that has come to an end. */
static void take_turns(struct side *own, struct side *rival, uint32_t pairs)
{
    double ratios[STATS_MAX];
    uint32_t count = 0;

    for (uint32_t i = 0; i < pairs && own->goes_on; i++) {
        count += pair(own, rival, i % 2 == 0, &ratios[count]);
    }
    if (count < pairs || pairs == 0) {
        return;
    }
    json_t *list = json_array();

    for (uint32_t i = 0; i < count; i++) {
        json_array_append_new(list, json_real(ratios[i]));
    }
    sample_figure(own->sample, SAMPLE_RATIO, stats_median(ratios, count));
    sample_detail(own->sample, "ratios", list);
}

/* @reference NULL: it did not start. */
static void with_rival(struct side *own, const struct bench_options *options,
                       const struct settings *settings, const struct load_plan *plan,
                       const struct server *reference, struct sample *reference_sample)
{
    static struct side rival;
    const uint32_t wanted = (settings->duration_ms + plan->slice_ms - 1) / plan->slice_ms;

    rival = (struct side){.sample = reference_sample, .compares_medians = plan->compares_medians};
    const bool started =
        reference != NULL && side_start(&rival, options, settings, plan, reference);

    take_turns(own, &rival, wanted < STATS_MAX ? wanted : STATS_MAX);
    if (started) {
        json_decref(side_end(&rival));
    }
}

static const struct contender *reference_of(const struct bench_options *options,
                                            const struct suite *suite)
{
    return suite_contender(suite, suite_reference(options, suite));
}

bool turns_wanted(const struct bench_options *options, const struct sample *sample,
                  const struct load_plan *plan)
{
    return plan->slice_ms > 0 &&
           (sample->repeat || sample->contender != reference_of(options, sample->suite));
}

/* Its failure is not the contender's, but wrong bytes are wrong bytes. */
static void note_reference(struct sample *sample, struct sample *reference)
{
    if (reference->outcome == OUTCOME_WRONG_BYTES) {
        sample_fail(sample, OUTCOME_WRONG_BYTES, "the reference beside it: %s", reference->text);
    } else if (reference->outcome != OUTCOME_OK) {
        sample_detail(sample, "reference", json_string(reference->text));
    }
    json_decref(reference->figures);
    json_decref(reference->detail);
}

json_t *turns_run(const struct bench_options *options, const struct settings *settings,
                  struct sample *sample, const struct load_plan *plan, const struct server *server)
{
    static struct side own;
    struct command command;
    struct server reference;
    struct sample other = {
        .suite = sample->suite,
        .cell = sample->cell,
        .contender = reference_of(options, sample->suite),
    };

    own = (struct side){.sample = sample, .compares_medians = plan->compares_medians};
    if (!side_start(&own, options, settings, plan, server)) {
        return NULL;
    }
    const bool has_reference =
        plan->server(&command, options, &other) == 0 &&
        server_start(&reference, options, &other, &command, other.contender->expect) == 0;

    with_rival(&own, options, settings, plan, has_reference ? &reference : NULL, &other);
    if (has_reference) {
        server_stop(&reference, &other);
    }
    json_t *result = side_end(&own);

    note_reference(sample, &other);
    return result;
}
