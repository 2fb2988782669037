/*
 * From measurements to results.json. The schema is in bench/README.md; "schema" changes with it.
 *
 * A contender that failed once in a cell gets no numbers there: its other rounds may have measured
 * something else than they seem to.
 */
#include "bench.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SCHEMA        "gyre-bench/3"
/* Below this the server had spare time: the load generator, or the round trip, set the pace. */
#define SATURATED_MIN 0.95
/* Above this share of the window spent waiting for a CPU, something else was running. */
#define DELAY_MAX     0.03

static const char *const outcome_names[] = {
    [OUTCOME_OK] = "ok",
    [OUTCOME_SKIPPED] = "skipped",
    [OUTCOME_WRONG_BYTES] = "wrong-bytes",
    [OUTCOME_FAILED] = "failed",
    [OUTCOME_STARVED] = "starved",
    [OUTCOME_INTERRUPTED] = "interrupted",
};

const char *outcome_name(enum outcome outcome)
{
    return outcome_names[outcome];
}

bool has_outcome(const struct sample_list *samples, const struct suite *suite, enum outcome outcome)
{
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].done && samples->items[i].outcome == outcome &&
            (suite == NULL || samples->items[i].suite == suite)) {
            return true;
        }
    }
    return false;
}

/* The samples of one contender in one cell. */
struct selection {
    const struct sample *items[BENCH_ROUNDS_MAX];
    size_t count;
};

static void select_samples(const struct sample_list *samples, const struct cell *cell,
                           const struct contender *contender, bool repeat, struct selection *out)
{
    out->count = 0;
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->items[i];

        if (sample->cell == cell && sample->contender == contender && sample->repeat == repeat &&
            out->count < BENCH_ROUNDS_MAX) {
            out->items[out->count++] = sample;
        }
    }
}

/*
 * The first that says there are no numbers. A starved load says nothing about the server, so that
 * counts only if it was so in every round.
 */
static const struct sample *first_bad(const struct selection *selection)
{
    const struct sample *starved = NULL;
    size_t good = 0;

    for (size_t i = 0; i < selection->count; i++) {
        const struct sample *sample = selection->items[i];

        if (sample->outcome == OUTCOME_OK) {
            good++;
        } else if (sample->outcome == OUTCOME_STARVED) {
            starved = sample;
        } else {
            return sample;
        }
    }
    return good == 0 ? starved : NULL;
}

static bool field(const struct sample *sample, const char *name, double *out)
{
    if (sample->outcome != OUTCOME_OK) {
        return false;
    }
    const json_t *value = json_object_get(sample->figures, name);

    *out = json_number_value(value);
    return json_is_number(value);
}

static struct spread field_spread(const struct selection *selection, const char *name)
{
    double values[BENCH_ROUNDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < selection->count; i++) {
        if (field(selection->items[i], name, &values[count])) {
            count++;
        }
    }
    return stats_spread(values, count);
}

void sample_ratio_name(char name[SAMPLE_RATIO_MAX], const char *reference)
{
    snprintf(name, SAMPLE_RATIO_MAX, "ratio_to_%s", reference);
}

/* What all rows of a cell are compared with. */
struct cell_context {
    const struct suite *suite;
    const struct contender *reference;
    struct selection references;
    struct spread resolution; /* count is 0 when it was not measured */
};

/* Each has a ratio to what ran beside it, or to nothing. */
static bool was_in_turns(const struct selection *selection)
{
    for (size_t i = 0; i < selection->count; i++) {
        if (json_object_get(selection->items[i]->detail, "ratios") != NULL) {
            return true;
        }
    }
    return false;
}

/* Pairs of the same round. */
static struct spread round_ratio_spread(const struct cell_context *context,
                                        const struct selection *selection)
{
    const struct selection *reference = &context->references;
    const char *name = context->suite->figures[0].name;
    double values[BENCH_ROUNDS_MAX];
    double references[BENCH_ROUNDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < selection->count; i++) {
        for (size_t j = 0; j < reference->count; j++) {
            if (selection->items[i]->round == reference->items[j]->round &&
                field(selection->items[i], name, &values[count]) &&
                field(reference->items[j], name, &references[count]) && references[count] > 0.0) {
                count++;
            }
        }
    }
    return stats_paired_ratio(values, references, count);
}

/* In turns a measurement is a pair by itself. */
static struct spread ratio_spread(const struct cell_context *context,
                                  const struct selection *selection)
{
    char own[SAMPLE_RATIO_MAX];

    if (!was_in_turns(selection)) {
        return round_ratio_spread(context, selection);
    }
    sample_ratio_name(own, context->reference->name);
    return field_spread(selection, own);
}

static json_t *spread_json(const struct spread *s)
{
    if (s->count == 0) {
        return json_null();
    }
    return json_pack("{sf sf sf sf sf sf sI}", "median", s->median, "min", s->min, "max", s->max,
                     "low", s->low, "high", s->high, "mad", s->mad, "count", (json_int_t)s->count);
}

static json_t *figures_json(const struct suite *suite, const struct selection *selection)
{
    json_t *figures = json_object();

    for (size_t i = 0; i < suite->figure_count; i++) {
        const struct spread spread = field_spread(selection, suite->figures[i].name);

        json_object_set_new(figures, suite->figures[i].name, spread_json(&spread));
    }
    return figures;
}

/* The medians stand one disturbed round; they do not stand a disturbed half. */
static void add_marks(json_t *row, const struct suite *suite, const struct selection *selection)
{
    const struct spread busy = field_spread(selection, "server_busy");
    const struct spread delay = field_spread(selection, "delay_share");

    json_object_set_new(
        row, "generator_bound",
        json_boolean(suite->saturating && busy.count > 0 && busy.median < SATURATED_MIN));
    json_object_set_new(row, "disturbed", json_boolean(delay.median > DELAY_MAX));
}

static void add_ratio(json_t *row, const struct cell_context *context,
                      const struct contender *contender, const struct selection *selection)
{
    const bool is_reference = contender == context->reference;
    /* What it was beside itself is the resolution; in its row it is 1 of itself. */
    const struct spread ratio =
        is_reference ? round_ratio_spread(context, selection) : ratio_spread(context, selection);
    const char *verdict = stats_verdict_name(stats_verdict(&ratio, &context->resolution));

    if (is_reference) {
        verdict = "reference";
    }
    json_object_set_new(row, "ratio", spread_json(&ratio));
    json_object_set_new(row, "verdict", verdict == NULL ? json_null() : json_string(verdict));
}

static json_t *row_json(const struct cell_context *context, const struct contender *contender,
                        const struct selection *selection)
{
    const struct sample *bad = first_bad(selection);
    json_t *row = json_pack("{ss ss}", "contender", contender->name, "outcome",
                            outcome_name(bad == NULL ? OUTCOME_OK : bad->outcome));

    if (bad != NULL) {
        json_object_set_new(row, "text", json_string(bad->text));
        return row;
    }
    json_object_set_new(row, "figures", figures_json(context->suite, selection));
    add_ratio(row, context, contender, selection);
    add_marks(row, context->suite, selection);
    return row;
}

static void find_reference(const struct sample_list *samples, const struct cell *cell,
                           struct cell_context *context)
{
    struct selection again;

    select_samples(samples, cell, context->reference, false, &context->references);
    select_samples(samples, cell, context->reference, true, &again);
    if (first_bad(&context->references) != NULL || first_bad(&again) != NULL) {
        context->references.count = 0;
    }
    context->resolution =
        ratio_spread(context, was_in_turns(&context->references) ? &context->references : &again);
}

static json_t *cell_json(const struct sample_list *samples, const struct cell *cell,
                         struct cell_context *context)
{
    const struct suite *suite = context->suite;
    json_t *parameters = json_object();
    json_t *rows = json_array();

    find_reference(samples, cell, context);
    for (size_t i = 0; i < suite->contender_count; i++) {
        struct selection selection;

        select_samples(samples, cell, &suite->contenders[i], false, &selection);
        if (selection.count > 0) {
            json_array_append_new(rows, row_json(context, &suite->contenders[i], &selection));
        }
    }
    for (size_t i = 0; i < BENCH_PARAMETERS_MAX && suite->parameters[i] != NULL; i++) {
        json_object_set_new(parameters, suite->parameters[i],
                            json_integer((json_int_t)cell->parameters[i]));
    }
    json_t *object = json_pack("{ss so so so}", "cell", cell->name, "parameters", parameters,
                               "same", spread_json(&context->resolution), "rows", rows);

    json_object_set_new(object, "resolution",
                        context->resolution.count == 0
                            ? json_null()
                            : json_real(stats_resolution(&context->resolution)));
    return object;
}

static json_t *cells_json(const struct bench_options *options, const struct sample_list *samples,
                          const struct suite *suite)
{
    struct cell_context context = {
        .suite = suite,
        .reference = suite_contender(suite, suite_reference(options, suite)),
    };
    json_t *cells = json_array();

    for (size_t c = 0; c < suite->cell_count; c++) {
        json_t *cell = cell_json(samples, &suite->cells[c], &context);

        if (json_array_size(json_object_get(cell, "rows")) > 0) {
            json_array_append(cells, cell);
        }
        json_decref(cell);
    }
    return cells;
}

static json_t *figure_list_json(const struct suite *suite)
{
    json_t *figures = json_array();

    for (size_t i = 0; i < suite->figure_count; i++) {
        const struct figure *figure = &suite->figures[i];

        json_array_append_new(
            figures, json_pack("{ss ss? sf si ss}", "name", figure->name, "column", figure->column,
                               "divisor", figure->divisor > 0.0 ? figure->divisor : 1.0, "decimals",
                               figure->decimals, "text", figure->text));
    }
    return figures;
}

static json_t *chart_list_json(const struct suite *suite)
{
    static const char *const kinds[] = {"lines", "percentiles", "bars"};
    json_t *charts = json_array();

    for (size_t i = 0; i < suite->chart_count; i++) {
        const struct chart *chart = &suite->charts[i];

        json_array_append_new(charts,
                              json_pack("{ss ss ss ss? ss ss sb sb}", "kind", kinds[chart->kind],
                                        "title", chart->title, "figure", chart->figure, "x",
                                        chart->x, "fixed", chart->fixed, "y_label", chart->y_label,
                                        "x_log", (int)chart->x_log, "y_log", (int)chart->y_log));
    }
    return charts;
}

static json_t *suite_json(const struct bench_options *options, const struct sample_list *samples,
                          const struct suite *suite)
{
    static const char *const levels[LEVEL_COUNT] = {"quick", "normal", "full"};
    const bool wrong = has_outcome(samples, suite, OUTCOME_WRONG_BYTES);
    const struct settings settings = suite_settings(options, suite);

    return json_pack(
        "{ss ss ss ss ss? sb sb so so so s{ss sI sI sI}}", "suite", suite->name, "title",
        suite->title, "operation", suite->operation, "reference", suite_reference(options, suite),
        "notes", suite->notes, "valid", (int)!wrong, "saturating", (int)suite->saturating,
        "figures", figure_list_json(suite), "charts", chart_list_json(suite), "cells",
        wrong ? json_null() : cells_json(options, samples, suite), "settings", "level",
        levels[options->level], "pairs", (json_int_t)settings.pairs, "warmup_ms",
        (json_int_t)settings.warmup_ms, "duration_ms", (json_int_t)settings.duration_ms);
}

static bool has_samples(const struct sample_list *samples, const struct suite *suite)
{
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].suite == suite) {
            return true;
        }
    }
    return false;
}

static json_t *time_json(void)
{
    const time_t now = time(NULL);
    struct tm parts;
    char text[32];

    gmtime_r(&now, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return json_string(text);
}

json_t *results_build(const struct bench_options *options, const struct sample_list *list,
                      bool complete)
{
    json_t *suites = json_array();
    bool valid = true;

    for (size_t i = 0; suite_at(i) != NULL; i++) {
        if (has_samples(list, suite_at(i))) {
            json_array_append_new(suites, suite_json(options, list, suite_at(i)));
            valid = valid && !has_outcome(list, suite_at(i), OUTCOME_WRONG_BYTES);
        }
    }
    return json_pack("{ss so sb sb so s{ss si si ss} so}", "schema", SCHEMA, "finished",
                     time_json(), "complete", (int)complete, "valid", (int)valid, "environment",
                     environment_json(), "machine", "congestion_control", options->congestion,
                     "server_cpu", options->server_cpu, "load_cpu", options->load_cpu,
                     "generator_waits", options->spin ? "spinning" : "sleeping", "suites", suites);
}

int write_file(const char *directory, const char *name,
               int (*write)(const char *path, const void *what), const void *what)
{
    char path[PATH_MAX];
    char temporary[PATH_MAX];
    const int len = snprintf(path, sizeof(path), "%s/%s", directory, name);

    if (len >= PATH_MAX - 4) {
        errno = ENAMETOOLONG;
    } else {
        snprintf(temporary, sizeof(temporary), "%.*s.new", PATH_MAX - 5, path);
        if (write(temporary, what) == 0 && rename(temporary, path) == 0) {
            return 0;
        }
    }
    fprintf(stderr, "gyre-bench: cannot write %s/%s: %s\n", directory, name, strerror(errno));
    return -1;
}

static int write_json(const char *path, const void *what)
{
    return json_dump_file(what, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
}

static int write_csv(const char *path, const void *what)
{
    return csv_write(path, what);
}

int results_write(const struct bench_options *options, const json_t *results)
{
    if (write_file(options->out_dir, "results.json", write_json, results) < 0) {
        return -1;
    }
    return write_file(options->out_dir, "results.csv", write_csv, results);
}

json_t *results_load(const char *directory)
{
    char path[PATH_MAX];
    json_error_t error;

    if (snprintf(path, sizeof(path), "%s/results.json", directory) >= PATH_MAX) {
        return NULL;
    }
    json_t *results = json_load_file(path, 0, &error);

    if (results == NULL) {
        fprintf(stderr, "gyre-bench: %s: %s\n", path, error.text);
    } else if (strcmp(json_text(results, "schema"), SCHEMA) != 0) {
        fprintf(stderr, "gyre-bench: %s: its schema is '%s', this program reads %s\n", path,
                json_text(results, "schema"), SCHEMA);
        json_decref(results);
        results = NULL;
    }
    return results;
}

const json_t *results_suite(const json_t *results, const char *name)
{
    const json_t *suites = json_object_get(results, "suites");

    for (size_t i = 0; i < json_array_size(suites); i++) {
        const json_t *suite = json_array_get(suites, i);

        if (strcmp(json_text(suite, "suite"), name) == 0) {
            return suite;
        }
    }
    return NULL;
}

const char *json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text == NULL ? "" : text;
}

bool json_number(const json_t *object, const char *path, double *out)
{
    char key[64];

    while (object != NULL) {
        const size_t len = strcspn(path, ".");

        assert(len < sizeof(key));
        memcpy(key, path, len);
        key[len] = '\0';
        object = json_object_get(object, key);
        if (path[len] == '\0') {
            break;
        }
        path += len + 1;
    }
    if (!json_is_number(object)) {
        return false;
    }
    *out = json_number_value(object);
    return true;
}

bool json_median(const json_t *object, const char *name, double *out)
{
    return json_number(json_object_get(object, name), "median", out);
}
