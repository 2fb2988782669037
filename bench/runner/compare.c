/*
 * Two results against each other: two commits, or two machines.
 *
 * Absolute figures of two runs are not comparable on a machine that is shared: other guests, other
 * hour. What is compared is each contender's ratio to the reference of its own run, which both
 * measured under the same conditions as the contender; the absolute figures stand beside it. A change
 * is called one only if it is larger than both resolutions together.
 */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct totals {
    size_t rows;
    size_t better;
    size_t worse;
    size_t unresolved;
    size_t missing;
};

static const json_t *find(const json_t *array, const char *key, const char *name)
{
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *object = json_array_get(array, i);

        if (strcmp(json_text(object, key), name) == 0) {
            return object;
        }
    }
    return NULL;
}

/* By how much ratios of a cell may differ and say nothing. Returns: whether there are enough of both to
 * tell, as for a verdict. */
static bool uncertainty(const json_t *cell, const json_t *row, double *out)
{
    double ratios = 0.0;
    double same = 0.0;

    return json_number(cell, "resolution", out) && json_number(cell, "same.count", &same) &&
           json_number(row, "ratio.count", &ratios) && same >= STATS_VERDICT_MIN &&
           ratios >= STATS_VERDICT_MIN;
}

static const char *verdict_of(double change, double open, struct totals *totals)
{
    if (change > 1.0 + open) {
        totals->worse++;
        return "more";
    }
    if (change < 1.0 - open) {
        totals->better++;
        return "less";
    }
    return "level";
}

static void print_change(const json_t *cells[2], const json_t *rows[2], double a, double b,
                         struct totals *totals)
{
    double open[2] = {0.0, 0.0};

    printf(" %8.3f %8.3f %8.3f", a, b, b / a);
    if (uncertainty(cells[0], rows[0], &open[0]) && uncertainty(cells[1], rows[1], &open[1])) {
        const double sum = open[0] + open[1];

        printf("  +-%5.1f %%  %s\n", sum * 100.0, verdict_of(b / a, sum, totals));
    } else {
        printf("  not resolved\n");
        totals->unresolved++;
    }
}

static void compare_row(const json_t *suite, const json_t *cell_a, const json_t *cell_b,
                        const json_t *row_a, struct totals *totals)
{
    const char *name = json_text(row_a, "contender");
    const json_t *row_b = find(json_object_get(cell_b, "rows"), "contender", name);
    const char *primary = json_text(json_array_get(json_object_get(suite, "figures"), 0), "name");
    double value_a = 0.0;
    double value_b = 0.0;
    double ratio_a = 0.0;
    double ratio_b = 0.0;

    printf("  %-16s %-18s", json_text(cell_a, "cell"), name);
    if (!json_median(json_object_get(row_a, "figures"), primary, &value_a) ||
        !json_median(json_object_get(row_b, "figures"), primary, &value_b)) {
        printf(" A: %s, B: %s\n", json_text(row_a, "outcome"),
               row_b == NULL ? "not measured" : json_text(row_b, "outcome"));
        totals->missing++;
        return;
    }
    printf(" %12.1f %12.1f", value_a, value_b);
    totals->rows++;
    if (strcmp(json_text(row_a, "verdict"), "reference") == 0) {
        printf("  reference\n");
    } else if (json_median(row_a, "ratio", &ratio_a) && json_median(row_b, "ratio", &ratio_b) &&
               ratio_a > 0.0) {
        print_change((const json_t *[]){cell_a, cell_b}, (const json_t *[]){row_a, row_b}, ratio_a,
                     ratio_b, totals);
    } else {
        printf("  no ratio\n");
        totals->unresolved++;
    }
}

/* Cells of @cells that @others has not. */
static void print_missing(const json_t *cells, const json_t *others, const char *side,
                          struct totals *totals)
{
    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);

        if (find(others, "cell", json_text(cell, "cell")) == NULL) {
            printf("  %-16s only in %s\n", json_text(cell, "cell"), side);
            totals->missing += json_array_size(json_object_get(cell, "rows"));
        }
    }
}

/* Rows of B that A has not; those of A that B has not are said in their place. */
static void print_new_rows(const json_t *cell_a, const json_t *cell_b, struct totals *totals)
{
    const json_t *rows = json_object_get(cell_b, "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *name = json_text(row, "contender");

        if (find(json_object_get(cell_a, "rows"), "contender", name) == NULL) {
            printf("  %-16s %-18s A: not measured, B: %s\n", json_text(cell_b, "cell"), name,
                   json_text(row, "outcome"));
            totals->missing++;
        }
    }
}

static void compare_cell(const json_t *suite, const json_t *cell_a, const json_t *cell_b,
                         struct totals *totals)
{
    const json_t *rows = json_object_get(cell_a, "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        compare_row(suite, cell_a, cell_b, json_array_get(rows, i), totals);
    }
    print_new_rows(cell_a, cell_b, totals);
}

static void compare_suite(const json_t *suite_a, const json_t *suite_b, struct totals *totals)
{
    const json_t *cells_a = json_object_get(suite_a, "cells");
    const json_t *cells_b = json_object_get(suite_b, "cells");
    const json_t *primary = json_array_get(json_object_get(suite_a, "figures"), 0);

    printf("\n%s: %s, ratios to %s\n", json_text(suite_a, "suite"), json_text(primary, "name"),
           json_text(suite_a, "reference"));
    if (strcmp(json_text(suite_a, "reference"), json_text(suite_b, "reference")) != 0) {
        printf("  B's ratios are to %s: not comparable\n", json_text(suite_b, "reference"));
        return;
    }
    if (!json_is_true(json_object_get(suite_a, "valid")) ||
        !json_is_true(json_object_get(suite_b, "valid"))) {
        printf("  wrong bytes: no number of it is worth anything\n");
        return;
    }
    printf("  %-16s %-18s %12s %12s %8s %8s %8s  %9s\n", "cell", "contender", "A", "B", "ratio A",
           "ratio B", "B/A", "open");
    for (size_t c = 0; c < json_array_size(cells_a); c++) {
        const json_t *cell_a = json_array_get(cells_a, c);
        const json_t *cell_b = find(cells_b, "cell", json_text(cell_a, "cell"));

        if (cell_b != NULL) {
            compare_cell(suite_a, cell_a, cell_b, totals);
        }
    }
    print_missing(cells_a, cells_b, "A", totals);
    print_missing(cells_b, cells_a, "B", totals);
}

/* Suites that only one of the two has. */
static void print_lone_suites(const json_t *results, const json_t *others, const char *side)
{
    const json_t *suites = json_object_get(results, "suites");

    for (size_t i = 0; i < json_array_size(suites); i++) {
        const char *name = json_text(json_array_get(suites, i), "suite");

        if (results_suite(others, name) == NULL) {
            printf("\n%s: only in %s\n", name, side);
        }
    }
}

/* Numbers are measured, and not the same twice. */
static bool is_same(const json_t *value, const json_t *other)
{
    if (json_is_number(value) && json_is_number(other)) {
        return fabs(json_number_value(value) - json_number_value(other)) <=
               0.1 * fabs(json_number_value(value));
    }
    return json_equal(value, other) != 0;
}

/* What else differs is said first: it may explain everything below. */
static void compare_environments(const json_t *a, const json_t *b)
{
    json_t *first = json_object_get(a, "environment");
    const json_t *second = json_object_get(b, "environment");
    const char *key;
    const json_t *value;

    printf("A: commit %s, %s\nB: commit %s, %s\n", json_text(first, "commit"),
           json_text(a, "finished"), json_text(second, "commit"), json_text(b, "finished"));
    json_object_foreach(first, key, value)
    {
        const json_t *other = json_object_get(second, key);

        if (strcmp(key, "commit") != 0 && !is_same(value, other)) {
            char *text_a = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
            char *text_b = other == NULL ? NULL : json_dumps(other, JSON_ENCODE_ANY | JSON_COMPACT);

            printf("differs: %s: A %s, B %s\n", key, text_a, text_b == NULL ? "-" : text_b);
            free(text_a);
            free(text_b);
        }
    }
}

int compare_directories(const char *directory_a, const char *directory_b)
{
    json_t *a = results_load(directory_a);
    json_t *b = a == NULL ? NULL : results_load(directory_b);
    struct totals totals = {0};

    if (b == NULL) {
        json_decref(a);
        return BENCH_USAGE;
    }
    const json_t *suites = json_object_get(a, "suites");

    compare_environments(a, b);
    for (size_t i = 0; i < json_array_size(suites); i++) {
        const json_t *suite_a = json_array_get(suites, i);
        const json_t *suite_b = results_suite(b, json_text(suite_a, "suite"));

        if (suite_b != NULL) {
            compare_suite(suite_a, suite_b, &totals);
        }
    }
    print_lone_suites(a, b, "A");
    print_lone_suites(b, a, "B");
    printf("\n%zu rows in both: %zu less, %zu more, %zu without a verdict, the rest level; %zu "
           "without numbers in one\n"
           "ratio: to the reference of the same run. B/A: the ratio in B by that in A; below 1, B\n"
           "  needs less. open: both runs' resolutions together; a change within it is none.\n",
           totals.rows, totals.better, totals.worse, totals.unresolved, totals.missing);
    json_decref(a);
    json_decref(b);
    return BENCH_OK;
}
