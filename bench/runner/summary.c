/*
 * From measurements to rows. A contender that failed once in a cell gets no numbers there: its
 * other rounds may have measured something else than they seem to.
 */
#include "bench.h"

#include <assert.h>
#include <string.h>

/* Below this the server had spare time: the load generator, or the round trip, set the pace. */
#define SATURATED_MIN 0.95
/* Above this share of the window spent waiting for a CPU, something else was running. */
#define DELAY_MAX     0.03

static const char *const outcome_names[] = {
    [OUTCOME_OK] = "ok",
    [OUTCOME_SKIPPED] = "skipped",
    [OUTCOME_WRONG_BYTES] = "wrong-bytes",
    [OUTCOME_FAILED] = "failed",
    [OUTCOME_INTERRUPTED] = "interrupted",
};

const char *outcome_name(enum outcome outcome)
{
    return outcome_names[outcome];
}

bool has_outcome(const struct sample_list *samples, enum outcome outcome)
{
    for (size_t i = 0; i < samples->count; i++) {
        if (samples->items[i].outcome == outcome) {
            return true;
        }
    }
    return false;
}

/* A number inside the load generator's object, by its path "a.b"; false when it is not there. */
static bool number_at(const json_t *root, const char *outer, const char *inner, double *out)
{
    const json_t *value = json_object_get(root, outer);

    if (inner != NULL) {
        value = json_object_get(value, inner);
    }
    *out = json_number_value(value);
    return json_is_number(value);
}

enum field {
    FIELD_RATE,
    FIELD_CPU,
    FIELD_P50,
    FIELD_P99,
    FIELD_SERVER_BUSY,
    FIELD_LOAD_BUSY,
    FIELD_SYSCALLS,
};

static bool syscalls_per_message(const struct sample *sample, double *out)
{
    double syscalls = 0;
    double messages = 0;
    const bool known = number_at(sample->stats, "syscalls", NULL, &syscalls) &&
                       number_at(sample->stats, "messages", NULL, &messages) && messages > 0;

    *out = known ? syscalls / messages : 0.0;
    return known;
}

static bool field(const struct sample *sample, enum field which, double *out)
{
    static const char *const paths[][2] = {
        [FIELD_RATE] = {"messages_per_second", NULL},
        [FIELD_CPU] = {"server", "cpu_ns_per_message"},
        [FIELD_P50] = {"service_ns", "p50"},
        [FIELD_P99] = {"service_ns", "p99"},
        [FIELD_SERVER_BUSY] = {"server", "busy"},
        [FIELD_LOAD_BUSY] = {"generator", "busy"},
    };

    if (which == FIELD_SYSCALLS) {
        return syscalls_per_message(sample, out);
    }
    return number_at(sample->load, paths[which][0], paths[which][1], out);
}

/* The samples of one contender in one cell. */
struct selection {
    const struct sample *items[BENCH_ROUNDS_MAX];
    size_t count;
};

static void select_samples(const struct sample_list *samples, const struct cell *cell,
                           const char *name, struct selection *out)
{
    out->count = 0;
    for (size_t i = 0; i < samples->count; i++) {
        const struct sample *sample = &samples->items[i];

        if (sample->cell == cell && strcmp(sample->contender->name, name) == 0 &&
            sample->outcome != OUTCOME_INTERRUPTED) {
            assert(out->count < BENCH_ROUNDS_MAX);
            out->items[out->count++] = sample;
        }
    }
}

static struct spread field_spread(const struct selection *selection, enum field which)
{
    double values[BENCH_ROUNDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < selection->count; i++) {
        if (selection->items[i]->outcome == OUTCOME_OK &&
            field(selection->items[i], which, &values[count])) {
            count++;
        }
    }
    return stats_spread(values, count);
}

/* Pairs of the same round. */
static struct spread ratio_spread(const struct selection *selection,
                                  const struct selection *reference)
{
    double values[BENCH_ROUNDS_MAX];
    double references[BENCH_ROUNDS_MAX];
    size_t count = 0;

    for (size_t i = 0; i < selection->count; i++) {
        for (size_t j = 0; j < reference->count; j++) {
            if (selection->items[i]->round == reference->items[j]->round &&
                field(selection->items[i], FIELD_CPU, &values[count]) &&
                field(reference->items[j], FIELD_CPU, &references[count]) &&
                references[count] > 0.0) {
                count++;
            }
        }
    }
    return stats_paired_ratio(values, references, count);
}

/* The larger share of the window that one of the two processes was ready to run and had no CPU. */
static double delay_share(const struct sample *sample)
{
    double window = 0;
    double own = 0;
    double server = 0;

    number_at(sample->load, "window_ns", NULL, &window);
    number_at(sample->load, "generator", "delay_ns", &own);
    number_at(sample->load, "server", "delay_ns", &server);
    return window > 0.0 ? (own > server ? own : server) / window : 0.0;
}

/* The medians stand one disturbed round; they do not stand a disturbed half. */
static bool was_disturbed(const struct selection *selection)
{
    double shares[BENCH_ROUNDS_MAX];

    for (size_t i = 0; i < selection->count; i++) {
        shares[i] = delay_share(selection->items[i]);
    }
    return selection->count > 0 && stats_median(shares, selection->count) > DELAY_MAX;
}

static void fill_numbers(struct row *row, const struct selection *selection,
                         const struct selection *reference)
{
    row->messages_per_second = field_spread(selection, FIELD_RATE);
    row->cpu_ns_per_message = field_spread(selection, FIELD_CPU);
    row->p50_ns = field_spread(selection, FIELD_P50);
    row->p99_ns = field_spread(selection, FIELD_P99);
    row->server_busy = field_spread(selection, FIELD_SERVER_BUSY);
    row->load_busy = field_spread(selection, FIELD_LOAD_BUSY);
    row->syscalls_per_message = field_spread(selection, FIELD_SYSCALLS);
    row->ratio = ratio_spread(selection, reference);
    row->generator_bound = row->server_busy.median < SATURATED_MIN;
    row->disturbed = was_disturbed(selection);
}

static void fill_row(struct row *row, const struct contender *contender,
                     const struct selection *selection, const struct selection *reference)
{
    *row = (struct row){.contender = contender, .outcome = OUTCOME_OK, .text = ""};
    for (size_t i = 0; i < selection->count; i++) {
        if (selection->items[i]->outcome != OUTCOME_OK) {
            row->outcome = selection->items[i]->outcome;
            row->text = selection->items[i]->text;
            return;
        }
    }
    fill_numbers(row, selection, reference);
}

static bool all_ok(const struct selection *selection)
{
    for (size_t i = 0; i < selection->count; i++) {
        if (selection->items[i]->outcome != OUTCOME_OK) {
            return false;
        }
    }
    return true;
}

bool summarize(const struct sample_list *samples, const struct cell *cell,
               struct cell_summary *out_summary)
{
    struct selection reference;

    *out_summary = (struct cell_summary){.cell = cell, .reference = samples->reference};
    select_samples(samples, cell, samples->reference->name, &reference);
    if (!all_ok(&reference)) {
        reference.count = 0;
    }
    for (size_t i = 0; i < contender_count; i++) {
        struct row *row = &out_summary->rows[out_summary->row_count];
        struct selection selection;

        select_samples(samples, cell, contenders[i].name, &selection);
        if (selection.count == 0) {
            continue;
        }
        assert(out_summary->row_count < ROWS_MAX);
        fill_row(row, &contenders[i], &selection, &reference);
        if (contenders[i].repeat) {
            out_summary->resolution = row->ratio;
        }
        out_summary->row_count++;
    }
    return out_summary->row_count > 0;
}
