/*
 * results.csv: one line for each figure of each row, and one for each ratio, so that a spreadsheet
 * or a data frame can pivot as it likes.
 */
#include "bench.h"

#include <errno.h>
#include <string.h>

struct line {
    FILE *file;
    const char *suite;
    const char *cell;
    const char *contender;
    const char *outcome;
    bool bound;
    double resolution; /* negative: none */
};

static void print_text(FILE *file, const char *text)
{
    if (strpbrk(text, ",\"\n") == NULL) {
        fputs(text, file);
        return;
    }
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"') {
            fputc('"', file);
        }
        fputc(*text, file);
    }
    fputc('"', file);
}

/* @verdict: of a ratio, else NULL. */
static void print_line(const struct line *line, const char *figure, const json_t *spread,
                       const char *verdict)
{
    static const char *const members[] = {"median", "min", "max", "low", "high", "mad", "count"};
    const char *const texts[] = {line->suite, line->cell, line->contender, line->outcome, figure};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        print_text(line->file, texts[i]);
        fputc(',', line->file);
    }
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        double value = 0.0;

        if (json_number(spread, members[i], &value)) {
            fprintf(line->file, "%.9g", value);
        }
        fputc(',', line->file);
    }
    if (verdict != NULL && line->resolution >= 0.0) {
        fprintf(line->file, "%.9g", line->resolution);
    }
    fprintf(line->file, ",%s,%d\n", verdict == NULL ? "" : verdict, (int)line->bound);
}

static void print_row(struct line *line, const json_t *row)
{
    json_t *figures = json_object_get(row, "figures");
    const char *name;
    const json_t *spread;

    line->contender = json_text(row, "contender");
    line->outcome = json_text(row, "outcome");
    line->bound = json_is_true(json_object_get(row, "generator_bound"));
    if (figures == NULL) {
        print_line(line, "", NULL, NULL);
        return;
    }
    json_object_foreach(figures, name, spread)
    {
        if (!json_is_null(spread)) {
            print_line(line, name, spread, NULL);
        }
    }
    print_line(line, "ratio", json_object_get(row, "ratio"), json_text(row, "verdict"));
}

static void print_cells(struct line *line, const json_t *suite)
{
    const json_t *cells = json_object_get(suite, "cells");

    line->suite = json_text(suite, "suite");
    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);
        const json_t *rows = json_object_get(cell, "rows");

        line->cell = json_text(cell, "cell");
        line->resolution = -1.0;
        json_number(cell, "resolution", &line->resolution);
        for (size_t i = 0; i < json_array_size(rows); i++) {
            print_row(line, json_array_get(rows, i));
        }
    }
}

int csv_write(const char *path, const json_t *results)
{
    const json_t *suites = json_object_get(results, "suites");
    struct line line = {.file = fopen(path, "we")};

    if (line.file == NULL) {
        return -1;
    }
    fputs("suite,cell,contender,outcome,figure,median,min,max,low,high,mad,count,resolution,"
          "verdict,generator_bound\n",
          line.file);
    for (size_t i = 0; i < json_array_size(suites); i++) {
        print_cells(&line, json_array_get(suites, i));
    }
    const int failed = ferror(line.file);

    return fclose(line.file) == EOF || failed != 0 ? -1 : 0;
}
