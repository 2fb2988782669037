/*
 * The tables for people in a terminal, from results.json: one for each cell. Every figure is a
 * median over the rounds; what each column means stands under the last table.
 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#define COLUMN_WIDTH 11

/* 1234567.8 as 1,234,567.8. */
static const char *format_number(double value, int decimals, char text[48])
{
    char digits[40];
    size_t used = 0;

    snprintf(digits, sizeof(digits), "%.*f", decimals, value);
    const size_t whole = strcspn(digits, ".");

    for (size_t i = 0; digits[i] != '\0' && used < 46; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && digits[i - 1] != '-') {
            text[used++] = ',';
        }
        text[used++] = digits[i];
    }
    text[used] = '\0';
    return text;
}

static void print_parameters(FILE *out, const json_t *cell)
{
    const json_t *parameters = json_object_get(cell, "parameters");
    const char *name;
    const json_t *value;

    json_object_foreach((json_t *)(uintptr_t)parameters, name, value)
    {
        fprintf(out, "  %s %lld", name, (long long)json_integer_value(value));
    }
}

static void print_heading(FILE *out, const json_t *suite, const json_t *cell)
{
    const json_t *figures = json_object_get(suite, "figures");
    double resolution = 0.0;
    double same = 0.0;

    fprintf(out, "\n%s %s ", json_text(suite, "suite"), json_text(cell, "cell"));
    print_parameters(out, cell);
    if (json_number(cell, "resolution", &resolution) && json_median(cell, "same", &same)) {
        fprintf(out, "   (A/A: %s against itself %.3f, resolution %.1f %%)",
                json_text(suite, "reference"), same, resolution * 100.0);
    }
    fprintf(out, "\n%-18s", "");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);

        if (json_is_string(json_object_get(figure, "column"))) {
            fprintf(out, " %*s", COLUMN_WIDTH, json_text(figure, "column"));
        }
        if (i == 0) {
            fprintf(out, " %7s %13s %-9s", "ratio", "spread", "");
        }
    }
    fputc('\n', out);
}

static void print_ratio(FILE *out, const json_t *row)
{
    const json_t *ratio = json_object_get(row, "ratio");
    const char *verdict = json_text(row, "verdict");
    char range[48] = "-";
    double median = 0.0;
    double min = 0.0;
    double max = 0.0;

    if (!json_number(ratio, "median", &median)) {
        fprintf(out, " %7s %13s %-9s", "-", "-", "");
        return;
    }
    if (json_number(ratio, "min", &min) && json_number(ratio, "max", &max)) {
        snprintf(range, sizeof(range), "%.3f..%.3f", min, max);
    }
    if (strcmp(verdict, "reference") == 0) {
        snprintf(range, sizeof(range), "-");
    }
    fprintf(out, " %7.3f %13s %-9s", median, range, verdict);
}

static void print_figures(FILE *out, const json_t *suite, const json_t *row)
{
    const json_t *figures = json_object_get(suite, "figures");

    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);
        const int decimals = (int)json_integer_value(json_object_get(figure, "decimals"));
        double divisor = 1.0;
        double value = 0.0;
        char text[48] = "-";

        json_number(figure, "divisor", &divisor);
        if (json_median(json_object_get(row, "figures"), json_text(figure, "name"), &value)) {
            format_number(value / divisor, decimals, text);
        }
        if (json_is_string(json_object_get(figure, "column"))) {
            fprintf(out, " %*s", COLUMN_WIDTH, text);
        }
        if (i == 0) {
            print_ratio(out, row);
        }
    }
}

static void print_row(FILE *out, const json_t *suite, const json_t *row)
{
    fprintf(out, "%-18s", json_text(row, "contender"));
    if (strcmp(json_text(row, "outcome"), "ok") != 0) {
        fprintf(out, " %s: %s\n", json_text(row, "outcome"), json_text(row, "text"));
        return;
    }
    print_figures(out, suite, row);
    fprintf(out, "%s%s\n",
            json_is_true(json_object_get(row, "generator_bound")) ? "  generator-bound" : "",
            json_is_true(json_object_get(row, "disturbed")) ? "  disturbed" : "");
}

static void print_legend(FILE *out, const json_t *suite)
{
    const json_t *figures = json_object_get(suite, "figures");
    const char *reference = json_text(suite, "reference");

    fputc('\n', out);
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);

        if (json_is_string(json_object_get(figure, "column"))) {
            fprintf(out, "%s: %s\n", json_text(figure, "column"), json_text(figure, "text"));
        }
    }
    fprintf(
        out,
        "ratio: the first column, divided by that of %s in turns with it or in the\n"
        "  same round; median of the rounds. Below 1 is less. spread: smallest and largest of the rounds.\n"
        "A/A: %s measured against itself in the same way. A ratio within the resolution is no\n"
        "  difference: level.\n",
        reference, reference);
    if (json_is_true(json_object_get(suite, "saturating"))) {
        fputs("generator-bound: the server was less than 95 % busy, so rates and times are not\n"
              "  its own; CPU time and ratio are. disturbed: other work kept one of the two from\n"
              "  its CPU for more than 3 % of the time, in half of the rounds or more.\n",
              out);
    }
    fputc('\n', out);
}

void table_suite(FILE *out, const json_t *suite)
{
    const json_t *cells = json_object_get(suite, "cells");

    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);
        const json_t *rows = json_object_get(cell, "rows");

        print_heading(out, suite, cell);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            print_row(out, suite, json_array_get(rows, i));
        }
    }
    print_legend(out, suite);
}
