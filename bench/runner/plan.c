/*
 * Which measurements a suite takes, and in which order.
 *
 * Rounds are the outer loop, cells the next, contenders the inner one: the members of a pair run
 * within seconds of each other, the rounds of one cell are spread over the whole run, and an
 * interrupted run has a little of everything. Every other round goes through the contenders
 * backwards, so that a drift of the machine favours nobody. The ratio of the reference to itself is
 * the resolution: in turns it runs beside itself, at its own place, and elsewhere a second time, at
 * the end.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* A filter matches inside "suite/cell/contender". */
static bool is_wanted(const struct bench_options *options, const struct suite *suite,
                      const struct cell *cell, const struct contender *contender)
{
    char name[160];

    snprintf(name, sizeof(name), "%s/%s/%s", suite->name, cell->name, contender->name);
    for (size_t i = 0; i < options->filter_count; i++) {
        if (strstr(name, options->filters[i]) != NULL) {
            return true;
        }
    }
    return options->filter_count == 0;
}

static bool cell_is_wanted(const struct bench_options *options, const struct suite *suite,
                           const struct cell *cell)
{
    for (size_t i = 0; i < suite->contender_count; i++) {
        if (suite_takes_part(suite, options->level, cell, &suite->contenders[i]) &&
            is_wanted(options, suite, cell, &suite->contenders[i])) {
            return true;
        }
    }
    return false;
}

/* As many as the cell has, or the contender, whichever has fewer. */
static bool has_round(const struct suite *suite, const struct cell *cell,
                      const struct contender *contender, uint32_t round)
{
    return (suite->rounds == NULL || round < suite->rounds(cell)) &&
           (contender->rounds == 0 || round < contender->rounds);
}

/* What others are compared with is never filtered out of a cell. */
static bool takes_part(const struct bench_options *options, const struct suite *suite,
                       const struct cell *cell, const struct contender *contender, uint32_t round)
{
    if (!suite_takes_part(suite, options->level, cell, contender) ||
        !has_round(suite, cell, contender, round)) {
        return false;
    }
    return strcmp(contender->name, suite_reference(options, suite)) == 0 ||
           is_wanted(options, suite, cell, contender);
}

static int add(struct sample_list *list, const struct sample *sample)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity == 0 ? 256 : list->capacity * 2;
        struct sample *items = realloc(list->items, capacity * sizeof(*items));

        if (items == NULL) {
            return -1;
        }
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *sample;
    return 0;
}

/* One round of one cell; place contender_count, if there is one, is the reference's second. */
static int plan_cell(const struct bench_options *options, const struct suite *suite,
                     const struct cell *cell, uint32_t round, struct sample_list *list)
{
    const size_t places = suite->contender_count + !suite_in_turns(suite, cell);
    const struct contender *reference = suite_contender(suite, suite_reference(options, suite));

    for (size_t i = 0; i < places; i++) {
        const size_t place = round % 2 == 0 ? i : places - 1 - i;
        const bool repeat = place == suite->contender_count;
        const struct sample sample = {
            .suite = suite,
            .cell = cell,
            .contender = repeat ? reference : &suite->contenders[place],
            .round = round,
            .repeat = repeat,
        };

        if (takes_part(options, suite, cell, sample.contender, round) && add(list, &sample) < 0) {
            return -1;
        }
    }
    return 0;
}

int plan_suite(const struct bench_options *options, const struct suite *suite,
               struct sample_list *list)
{
    const struct settings settings = suite_settings(options, suite);

    for (uint32_t round = 0; round < settings.pairs; round++) {
        for (size_t c = 0; c < suite->cell_count; c++) {
            if (cell_is_wanted(options, suite, &suite->cells[c]) &&
                plan_cell(options, suite, &suite->cells[c], round, list) < 0) {
                return -1;
            }
        }
    }
    return 0;
}
