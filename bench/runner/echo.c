/*
 * The echo suite: the I/O models against each other.
 *
 * Rounds are the outer loop, cells the next, contenders the inner one: the members of a pair run
 * within seconds of each other, the rounds of one cell are spread over the whole run, and an
 * interrupted run has a little of everything. Every other round goes through the contenders
 * backwards, so that a drift of the machine favours nobody.
 */
#include "bench.h"
#include "child.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char again_name[32] = REFERENCE_NAME "-again";

/* Constant but for the last, which becomes what it repeats. */
struct contender contenders[] = {
    {"echo-blocking", "echo-blocking", NULL, false}, {"echo-threads", "echo-threads", NULL, false},
    {"echo-select", "echo-select", NULL, false},     {"echo-poll", "echo-poll", NULL, false},
    {REFERENCE_NAME, "echo-epoll", NULL, false},     {"echo-uring", "echo-uring", NULL, false},
    {"gyre-uring", "echo-server", "uring", false},   {"gyre-epoll", "echo-server", "epoll", false},
    {"gyre-ops-uring", "echo-ops", "uring", false},  {"gyre-ops-epoll", "echo-ops", "epoll", false},
    {again_name, "echo-epoll", NULL, true},
};

const size_t contender_count = sizeof(contenders) / sizeof(contenders[0]);

static_assert(sizeof(contenders) / sizeof(contenders[0]) <= ROWS_MAX, "every contender has a row");

static const char *const slow_single[] = {"echo-blocking", NULL};
static const char *const slow_many[] = {"echo-threads", "echo-select", "echo-poll", NULL};
static const char *const slow_none[] = {NULL};

const struct cell cells[] = {
    {"64x1", 64, 1, 1, slow_single},     {"64x64", 64, 64, 1, slow_many},
    {"64x1000", 64, 1000, 1, slow_many}, {"4Kx64", 4096, 64, 1, slow_none},
    {"16Kx64", 16384, 64, 1, slow_none}, {"64Kx64", 65536, 64, 1, slow_none},
};

const size_t cell_count = sizeof(cells) / sizeof(cells[0]);

/* In some cell as a slow one: then only there. */
static bool is_slow(const struct contender *contender)
{
    for (size_t i = 0; i < cell_count; i++) {
        for (const char *const *name = cells[i].extra; *name != NULL; name++) {
            if (strcmp(*name, contender->name) == 0) {
                return true;
            }
        }
    }
    return false;
}

static bool is_extra(const struct cell *cell, const struct contender *contender)
{
    for (const char *const *name = cell->extra; *name != NULL; name++) {
        if (strcmp(*name, contender->name) == 0) {
            return true;
        }
    }
    return false;
}

const struct contender *echo_reference(const char *name)
{
    struct contender *again = &contenders[contender_count - 1];

    assert(again->repeat);
    for (const struct contender *contender = contenders; contender < again; contender++) {
        if (strcmp(contender->name, name) == 0 && !is_slow(contender)) {
            snprintf(again_name, sizeof(again_name), "%s-again", name);
            again->program = contender->program;
            again->backend = contender->backend;
            return contender;
        }
    }
    return NULL;
}

/*
 * A filter matches inside "cell/contender"; what others are compared with is never filtered out
 * of a cell.
 */
static bool is_wanted(const struct bench_options *options, const struct cell *cell,
                      const struct contender *contender)
{
    char name[64];

    snprintf(name, sizeof(name), "%s/%s", cell->name, contender->name);
    for (size_t i = 0; i < options->filter_count; i++) {
        if (strstr(name, options->filters[i]) != NULL) {
            return true;
        }
    }
    return options->filter_count == 0;
}

static bool cell_is_wanted(const struct bench_options *options, const struct cell *cell)
{
    for (size_t i = 0; i < contender_count; i++) {
        if ((!is_slow(&contenders[i]) || is_extra(cell, &contenders[i])) &&
            is_wanted(options, cell, &contenders[i])) {
            return true;
        }
    }
    return false;
}

static bool takes_part(const struct bench_options *options, const struct cell *cell,
                       const struct contender *contender, uint32_t round)
{
    if (is_slow(contender) && (!is_extra(cell, contender) || round >= EXTRA_ROUNDS_MAX)) {
        return false;
    }
    if (contender == options->reference || contender->repeat) {
        return cell_is_wanted(options, cell);
    }
    return is_wanted(options, cell, contender);
}

/* The plan: every measurement in its order, still without results. */
static void plan(const struct bench_options *options, struct sample_list *list)
{
    for (uint32_t round = 0; round < options->pairs; round++) {
        for (size_t c = 0; c < cell_count; c++) {
            for (size_t i = 0; i < contender_count; i++) {
                const struct contender *contender =
                    &contenders[round % 2 == 0 ? i : contender_count - 1 - i];

                if (takes_part(options, &cells[c], contender, round)) {
                    list->items[list->capacity++] = (struct sample){
                        .cell = &cells[c],
                        .contender = contender,
                        .round = round,
                    };
                }
            }
        }
    }
}

/* What failed once in a cell, or is not there, is not tried again. */
static const struct sample *earlier_failure(const struct sample_list *list,
                                            const struct sample *sample)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct sample *earlier = &list->items[i];

        if (earlier->contender == sample->contender && earlier->outcome != OUTCOME_OK &&
            (earlier->cell == sample->cell || earlier->outcome == OUTCOME_SKIPPED)) {
            return earlier;
        }
    }
    return NULL;
}

static void run_one(const struct bench_options *options, struct sample_list *list,
                    struct progress *progress)
{
    struct sample *sample = &list->items[list->count];
    const struct sample *earlier = earlier_failure(list, sample);

    if (earlier != NULL) {
        sample->outcome = earlier->outcome;
        memcpy(sample->text, earlier->text, sizeof(sample->text));
        progress->total--;
    } else {
        progress_step(progress, sample);
        measure(options, sample);
    }
    if (earlier == NULL && sample->outcome != OUTCOME_OK) {
        progress_note(progress, "%s %s, round %u: %s: %s", sample->cell->name,
                      sample->contender->name, sample->round + 1, outcome_name(sample->outcome),
                      sample->text);
    }
    list->count++;
}

static void run_all(const struct bench_options *options, struct sample_list *list)
{
    struct progress progress;

    progress_start(&progress, list->capacity);
    while (list->count < list->capacity && !child_interrupted() &&
           !has_outcome(list, OUTCOME_WRONG_BYTES)) {
        run_one(options, list, &progress);
    }
    progress_end(&progress);
}

static void print_tables(const struct sample_list *list)
{
    for (size_t i = 0; i < cell_count; i++) {
        struct cell_summary summary;

        if (summarize(list, &cells[i], &summary)) {
            table_print(stdout, &summary);
        }
    }
    table_legend(stdout, list->reference);
}

static enum bench_exit conclude(const struct bench_options *options, const struct sample_list *list)
{
    const bool complete = list->count == list->capacity && !has_outcome(list, OUTCOME_INTERRUPTED);
    const bool wrong = has_outcome(list, OUTCOME_WRONG_BYTES);
    char path[PATH_MAX];

    if (!wrong) {
        print_tables(list);
    }
    const int rc = results_write(options, list, complete || wrong, path);

    fflush(stdout);
    if (rc < 0) {
        fprintf(stderr, "gyre-bench: cannot write %s\n", path);
        return BENCH_FAILED;
    }
    printf("results: %s\n", path);
    if (wrong) {
        fprintf(stderr, "gyre-bench: a server echoed wrong bytes; there is no table, and no number "
                        "of this run is worth anything\n");
        return BENCH_WRONG_BYTES;
    }
    if (!complete) {
        fprintf(stderr, "gyre-bench: interrupted after %zu of %zu measurements\n", list->count,
                list->capacity);
        return BENCH_INTERRUPTED;
    }
    if (!has_outcome(list, OUTCOME_OK)) {
        fprintf(stderr, "gyre-bench: not one server of %s could be measured\n",
                options->servers_dir);
        return BENCH_FAILED;
    }
    return has_outcome(list, OUTCOME_FAILED) ? BENCH_FAILED : BENCH_OK;
}

static void release(struct sample_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        json_decref(list->items[i].load);
        json_decref(list->items[i].stats);
    }
    free(list->items);
}

int echo_run(const struct bench_options *options)
{
    const size_t most = options->pairs * cell_count * contender_count;
    struct sample_list list = {
        .reference = options->reference,
        .items = calloc(most, sizeof(*list.items)),
    };

    if (list.items == NULL) {
        fprintf(stderr, "gyre-bench: no memory\n");
        return BENCH_FAILED;
    }
    plan(options, &list);
    if (list.capacity == 0) {
        fprintf(stderr,
                "gyre-bench: no cell and contender match the filter; see gyre-bench list\n");
        release(&list);
        return BENCH_USAGE;
    }
    run_all(options, &list);
    const enum bench_exit status = conclude(options, &list);

    release(&list);
    return status;
}

void echo_list(void)
{
    printf("suite echo\n\ncell       bytes  connections  depth  contenders\n");
    for (size_t c = 0; c < cell_count; c++) {
        printf("%-8s %7u %12u %6u ", cells[c].name, cells[c].size, cells[c].connections,
               cells[c].depth);
        for (size_t i = 0; i < contender_count; i++) {
            if (!is_slow(&contenders[i]) || is_extra(&cells[c], &contenders[i])) {
                printf(" %s", contenders[i].name);
            }
        }
        printf("\n");
    }
}
