/*
 * Takes the measurements of a plan, one after the other, suite by suite.
 *
 * After each suite its tables are printed and the results written, so that what is finished can be
 * read while the rest runs. When a time is given, each suite has its share of it (estimate.c), and
 * begins no round that the last one says would not fit. A suite that turns out slower than estimated
 * still gets its first three rounds as long as the suites behind it then get theirs; and one round
 * whatever happens.
 */
#include "bench.h"
#include "child.h"
#include "clock.h"

#include <stdlib.h>
#include <string.h>

struct run {
    const struct bench_options *options;
    struct sample_list list;   /* of the suites that run */
    struct sample_list others; /* of earlier runs of other suites */
    struct store store;
    struct progress progress;
    struct estimate estimates[BENCH_SUITES_MAX];
    bool broken; /* results cannot be written */
    bool out_of_time;
};

/* What failed once in a cell is not tried again; a starved load may do better next time. */
static const struct sample *earlier_failure(const struct sample_list *list, size_t index)
{
    const struct sample *sample = &list->items[index];

    for (size_t i = 0; i < index; i++) {
        const struct sample *earlier = &list->items[i];

        if (earlier->done && earlier->cell == sample->cell &&
            earlier->contender == sample->contender && earlier->outcome != OUTCOME_OK &&
            earlier->outcome != OUTCOME_STARVED) {
            return earlier;
        }
    }
    return NULL;
}

/* Said once for a contender and a reason. */
static bool was_said(const struct sample_list *list, size_t index)
{
    const struct sample *sample = &list->items[index];

    for (size_t i = 0; i < index; i++) {
        if (list->items[i].done && list->items[i].contender == sample->contender &&
            list->items[i].outcome == OUTCOME_SKIPPED &&
            strcmp(list->items[i].text, sample->text) == 0) {
            return true;
        }
    }
    return false;
}

static void run_one(struct run *run, size_t index)
{
    struct sample *sample = &run->list.items[index];
    const struct sample *earlier = earlier_failure(&run->list, index);
    const struct settings settings = suite_settings(run->options, sample->suite);

    if (earlier != NULL) {
        sample->outcome = earlier->outcome;
        memcpy(sample->text, earlier->text, sizeof(sample->text));
        run->progress.total--;
    } else {
        progress_step(&run->progress, sample);
        const uint64_t start = clock_now_ns();

        sample->suite->sample(run->options, &settings, sample);
        sample->took_ms = (uint32_t)((clock_now_ns() - start) / NS_PER_MS);
    }
    if (earlier == NULL && sample->outcome != OUTCOME_OK && !was_said(&run->list, index)) {
        progress_note(&run->progress, "%s %s %s, round %u: %s: %s", sample->suite->name,
                      sample->cell->name, sample->contender->name, sample->round + 1,
                      outcome_name(sample->outcome), sample->text);
    }
    const char *beside = json_text(sample->detail, "reference");

    if (sample->outcome == OUTCOME_INTERRUPTED) {
        return;
    }
    if (beside[0] != '\0') {
        progress_note(&run->progress, "%s %s %s, round %u: no ratio, the reference beside it: %s",
                      sample->suite->name, sample->cell->name, sample->contender->name,
                      sample->round + 1, beside);
    }
    sample->done = true;
    run->broken |= store_append(&run->store, run->options, sample) < 0;
}

struct pace {
    uint64_t end_ns;   /* of the suite's time, UINT64_MAX: no limit */
    uint64_t least_ns; /* until then for the first rounds */
    uint64_t round_start_ns;
    const struct estimate *estimate;
    double slowness; /* of the rounds so far, at most: the time one took to its estimate */
    uint32_t round;
};

static struct pace pace_start(const struct run *run, size_t suite_index, uint64_t run_start_ns)
{
    const struct bench_options *options = run->options;
    const struct estimate *estimates = &run->estimates[suite_index];
    const size_t suites_left = options->suite_count - suite_index;
    const uint64_t now = clock_now_ns();
    const uint64_t run_end = run_start_ns + (uint64_t)options->minutes * 60 * NS_PER_S;
    const uint64_t left = now < run_end ? run_end - now : 0;
    struct pace pace = {
        .end_ns = UINT64_MAX,
        .least_ns = UINT64_MAX,
        .round_start_ns = now,
        .estimate = estimates,
    };

    if (options->minutes > 0) {
        uint64_t others_ns = 0;

        for (size_t i = 1; i < suites_left; i++) {
            others_ns += estimates[i].least_ms * NS_PER_MS;
        }
        pace.end_ns = now + estimate_share_ms(estimates, suites_left, left / NS_PER_MS) * NS_PER_MS;
        pace.least_ns = others_ns < left ? run_end - others_ns : now;
    }
    return pace;
}

/* At the first measurement of a round: whether the round still fits. */
static bool pace_allows(struct pace *pace, uint32_t round)
{
    if (round == pace->round) {
        return true;
    }
    const uint64_t now = clock_now_ns();
    const double took_ms = (double)(now - pace->round_start_ns) / NS_PER_MS;
    const double slowness = took_ms / ((double)pace->estimate->round_ms[pace->round] + 1.0);

    pace->round = round;
    pace->round_start_ns = now;
    pace->slowness = slowness > pace->slowness ? slowness : pace->slowness;
    const uint64_t ends_ns =
        now +
        (uint64_t)(pace->slowness * (double)pace->estimate->round_ms[round] * (double)NS_PER_MS);

    return pace->end_ns == UINT64_MAX || ends_ns <= pace->end_ns ||
           (round < BENCH_ROUNDS_LEAST && ends_ns <= pace->least_ns);
}

static void run_suite(struct run *run, size_t begin, size_t end, struct pace *pace)
{
    const struct suite *suite = run->options->suites[0];

    for (size_t i = begin; i < end; i++) {
        suite = run->list.items[i].suite;
        if (run->list.items[i].done) {
            continue;
        }
        if (!pace_allows(pace, run->list.items[i].round)) {
            progress_note(&run->progress, "%s: %u rounds; another does not fit the time",
                          suite->name, run->list.items[i].round);
            run->progress.total -= end - i;
            run->out_of_time = true;
            return;
        }
        run_one(run, i);
        if (run->broken || child_interrupted() ||
            run->list.items[i].outcome == OUTCOME_INTERRUPTED ||
            run->list.items[i].outcome == OUTCOME_WRONG_BYTES) {
            return;
        }
    }
}

static bool all_done(const struct run *run)
{
    for (size_t i = 0; i < run->list.count; i++) {
        if (!run->list.items[i].done) {
            return false;
        }
    }
    return true;
}

/* The results of everything measured, of this run and of earlier ones in the same directory. */
static json_t *write_results(struct run *run)
{
    struct sample_list all = {0};

    all.items = calloc(run->list.count + run->others.count + 1, sizeof(*all.items));
    if (all.items == NULL) {
        run->broken = true;
        return NULL;
    }
    for (size_t i = 0; i < run->others.count; i++) {
        all.items[all.count++] = run->others.items[i];
    }
    for (size_t i = 0; i < run->list.count; i++) {
        if (run->list.items[i].done) {
            all.items[all.count++] = run->list.items[i];
        }
    }
    json_t *results = results_build(run->options, &all, all_done(run));

    run->broken |= results == NULL || results_write(run->options, results) < 0;
    free(all.items);
    return results;
}

static void finish_suite(struct run *run, const struct suite *suite)
{
    progress_end(&run->progress);
    json_t *results = write_results(run);
    const json_t *part = results_suite(results, suite->name);

    if (part != NULL && !has_outcome(&run->list, suite, OUTCOME_WRONG_BYTES)) {
        table_suite(stdout, part);
    } else if (part != NULL) {
        fprintf(stderr,
                "gyre-bench: %s: a server answered with wrong bytes; there is no table, and no "
                "number of this run is worth anything\n",
                suite->name);
    }
    fflush(stdout);
    json_decref(results);
}

static enum bench_exit conclude(const struct run *run)
{
    size_t done = 0;

    for (size_t i = 0; i < run->list.count; i++) {
        done += run->list.items[i].done;
    }
    if (run->broken) {
        return BENCH_FAILED;
    }
    printf("results: %s/results.json, results.csv, samples.jsonl; gyre-bench report %s makes a "
           "page\n",
           run->options->out_dir, run->options->out_dir);
    fflush(stdout);
    if (child_interrupted()) {
        fprintf(stderr, "gyre-bench: interrupted after %zu of %zu measurements\n", done,
                run->list.count);
        return BENCH_INTERRUPTED;
    }
    if (has_outcome(&run->list, NULL, OUTCOME_WRONG_BYTES)) {
        return BENCH_WRONG_BYTES;
    }
    if (!has_outcome(&run->list, NULL, OUTCOME_OK)) {
        fprintf(stderr, "gyre-bench: not one contender could be measured\n");
        return BENCH_FAILED;
    }
    return has_outcome(&run->list, NULL, OUTCOME_FAILED) ? BENCH_FAILED : BENCH_OK;
}

static size_t undone(const struct sample_list *list)
{
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++) {
        count += !list->items[i].done;
    }
    return count;
}

static void estimate_all(struct run *run)
{
    for (size_t s = 0; s < run->options->suite_count; s++) {
        estimate_suite(run->options, &run->list, run->options->suites[s], &run->estimates[s]);
    }
}

static void run_all(struct run *run)
{
    const struct bench_options *options = run->options;
    const uint64_t start = clock_now_ns();
    size_t begin = 0;

    progress_start(&run->progress, undone(&run->list));
    estimate_all(run);
    for (size_t s = 0; s < options->suite_count; s++) {
        size_t end = begin;
        struct pace pace = pace_start(run, s, start);

        while (end < run->list.count && run->list.items[end].suite == options->suites[s]) {
            end++;
        }
        if (end > begin && !child_interrupted() && !run->broken) {
            run_suite(run, begin, end, &pace);
            finish_suite(run, options->suites[s]);
        }
        begin = end;
    }
}

int run_suites(const struct bench_options *options)
{
    struct run run = {.options = options};
    int status = BENCH_FAILED;

    for (size_t i = 0; i < options->suite_count; i++) {
        if (plan_suite(options, options->suites[i], &run.list) < 0) {
            fprintf(stderr, "gyre-bench: no memory\n");
            goto out;
        }
    }
    if (run.list.count == 0) {
        fprintf(stderr, "gyre-bench: no cell and contender match; see gyre-bench list\n");
        status = BENCH_USAGE;
        goto out;
    }
    if (options->dry_run) {
        estimate_all(&run);
        status =
            estimate_print(options, run.estimates, options->suite_count) ? BENCH_OK : BENCH_FAILED;
        goto out;
    }
    if (store_open(&run.store, options, &run.list, &run.others) == 0) {
        run_all(&run);
        status = conclude(&run);
    }
out:
    store_close(&run.store);
    samples_release(&run.list);
    samples_release(&run.others);
    return status;
}
