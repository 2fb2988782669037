/*
 * The list of suites. They run in this order.
 */
#include "../suites/suites.h"

#include <assert.h>
#include <string.h>

static const struct suite *const suites[] = {
    &suite_echo, &suite_uring,   &suite_timers, &suite_post,  &suite_churn,
    &suite_udp,  &suite_latency, &suite_stream, &suite_proxy, &suite_idle,
    &suite_http, &suite_counts,  NULL,
};

const struct suite *suite_at(size_t index)
{
    assert(index < sizeof(suites) / sizeof(suites[0]));
    return suites[index];
}

const struct suite *suite_find(const char *name)
{
    for (size_t i = 0; suites[i] != NULL; i++) {
        if (strcmp(suites[i]->name, name) == 0) {
            return suites[i];
        }
    }
    return NULL;
}

struct settings suite_settings(const struct bench_options *options, const struct suite *suite)
{
    struct settings settings = suite->settings[options->level];
    const struct settings *given = &options->settings;

    settings.pairs = given->pairs > 0 ? given->pairs : settings.pairs;
    settings.warmup_ms = given->warmup_ms > 0 ? given->warmup_ms : settings.warmup_ms;
    settings.duration_ms = given->duration_ms > 0 ? given->duration_ms : settings.duration_ms;
    return settings;
}

bool suite_takes_part(const struct suite *suite, enum level level, const struct cell *cell,
                      const struct contender *contender)
{
    const unsigned bit = 1u << level;

    return (cell->levels & bit) != 0 &&
           (contender->levels == 0 || (contender->levels & bit) != 0) &&
           (suite->takes_part == NULL || suite->takes_part(cell, contender));
}

/* The suite's own is where anybody is. */
bool suite_fits_reference(const struct suite *suite, enum level level,
                          const struct contender *contender)
{
    const struct contender *own = suite_contender(suite, suite->reference);

    for (size_t i = 0; i < suite->cell_count; i++) {
        if (suite_takes_part(suite, level, &suite->cells[i], own) &&
            !suite_takes_part(suite, level, &suite->cells[i], contender)) {
            return false;
        }
    }
    return contender->rounds == 0;
}

const char *suite_reference(const struct bench_options *options, const struct suite *suite)
{
    for (size_t i = 0; options->reference != NULL && i < suite->contender_count; i++) {
        if (strcmp(suite->contenders[i].name, options->reference) == 0 &&
            suite_fits_reference(suite, options->level, &suite->contenders[i])) {
            return options->reference;
        }
    }
    return suite->reference;
}

const struct contender *suite_contender(const struct suite *suite, const char *name)
{
    size_t i = 0;

    while (strcmp(suite->contenders[i].name, name) != 0) {
        i++;
        assert(i < suite->contender_count);
    }
    return &suite->contenders[i];
}

bool suite_in_turns(const struct suite *suite, const struct cell *cell)
{
    return suite->in_turns != NULL && suite->in_turns(cell);
}

bool suite_every_cell(const struct cell *cell)
{
    (void)cell;
    return true;
}

uint32_t suite_parameter(const struct suite *suite, const struct cell *cell, const char *name)
{
    for (size_t i = 0; i < BENCH_PARAMETERS_MAX && suite->parameters[i] != NULL; i++) {
        if (strcmp(suite->parameters[i], name) == 0) {
            return cell->parameters[i];
        }
    }
    assert(!"no such parameter");
    return 0;
}

static void list_one(const struct suite *suite)
{
    static const char *const names[LEVEL_COUNT] = {"quick", "normal", "full"};

    printf("\nsuite %s: %s\n  contenders:", suite->name, suite->title);
    for (size_t i = 0; i < suite->contender_count; i++) {
        const struct contender *contender = &suite->contenders[i];

        printf(" %s%s", contender->name,
               suite_fits_reference(suite, LEVEL_FULL, contender) ? "" : "*");
    }
    printf("\n  ratios to: %s", suite->reference);
    for (int level = 0; level < LEVEL_COUNT; level++) {
        printf("\n  %s cells:", names[level]);
        for (size_t i = 0; i < suite->cell_count; i++) {
            if (suite_takes_part(suite, (enum level)level, &suite->cells[i],
                                 suite_contender(suite, suite->reference))) {
                printf(" %s", suite->cells[i].name);
            }
        }
    }
    printf("\n");
}

bool suite_list(const char *name)
{
    if (name != NULL && suite_find(name) == NULL) {
        return false;
    }
    for (size_t i = 0; suites[i] != NULL; i++) {
        if (name == NULL || strcmp(suites[i]->name, name) == 0) {
            list_one(suites[i]);
        }
    }
    printf("\n* not in every cell of --full, or in fewer rounds\n");
    return true;
}
