/*
 * Draws with gnuplot: a script with its data inside, and the SVG that comes out made fit for the
 * page. In the page many drawings are one document, so their ids get a number; black and grey become
 * the page's colours there (report.c), for the dark scheme.
 */
#include "chart.h"

#include "measure.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define SVG_MAX       (1024 * 1024)
#define PLOT_LIMIT_MS 20000

/* Colours that can be told apart on white and on black; the points' forms help who sees none. */
static const char *const colours[] = {"#2a7fd4", "#d8711c", "#2f9e5b", "#c0458f", "#8f7a1e",
                                      "#7a63d0", "#c94b4b", "#178f9c", "#94683f", "#6c7f8f"};
static const int points[] = {7, 5, 9, 11, 13, 6, 4, 8, 10, 12};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void html_text(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        default:
            fputc(*text, out);
        }
    }
}

/* Whether a cell has the parameters of "size=64 depth=1". */
static bool has_fixed(const json_t *cell, const char *fixed)
{
    const json_t *parameters = json_object_get(cell, "parameters");
    char text[128];
    char *save = NULL;

    snprintf(text, sizeof(text), "%s", fixed);
    for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
        char *equals = strchr(word, '=');

        if (equals == NULL) {
            return false;
        }
        *equals = '\0';
        const json_t *value = json_object_get(parameters, word);

        if (json_integer_value(value) != strtoll(equals + 1, NULL, 10)) {
            return false;
        }
    }
    return true;
}

static const json_t *find_row(const json_t *cell, const char *contender)
{
    const json_t *rows = json_object_get(cell, "rows");

    for (size_t i = 0; i < json_array_size(rows); i++) {
        if (strcmp(json_text(json_array_get(rows, i), "contender"), contender) == 0) {
            return json_array_get(rows, i);
        }
    }
    return NULL;
}

static const json_t *find_cell(const json_t *suite, const char *name)
{
    const json_t *cells = json_object_get(suite, "cells");

    for (size_t i = 0; i < json_array_size(cells); i++) {
        if (strcmp(json_text(json_array_get(cells, i), "cell"), name) == 0) {
            return json_array_get(cells, i);
        }
    }
    return NULL;
}

/* The contenders of the suite, in the order of their first appearance. */
struct names {
    const char *items[32];
    size_t count;
};

static void collect_names(const json_t *suite, struct names *names)
{
    const json_t *cells = json_object_get(suite, "cells");

    names->count = 0;
    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *rows = json_object_get(json_array_get(cells, c), "rows");

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const char *name = json_text(json_array_get(rows, i), "contender");
            size_t at = 0;

            while (at < names->count && strcmp(names->items[at], name) != 0) {
                at++;
            }
            if (at == names->count && at < COUNT(names->items)) {
                names->items[names->count++] = name;
            }
        }
    }
}

static double divisor_of(const json_t *suite, const char *figure)
{
    const json_t *figures = json_object_get(suite, "figures");
    double divisor = 1.0;

    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *candidate = json_array_get(figures, i);

        if (strcmp(json_text(candidate, "name"), figure) == 0) {
            json_number(candidate, "divisor", &divisor);
        }
    }
    return divisor;
}

struct plot {
    FILE *script;
    const json_t *suite;
    const json_t *chart;
    struct names names;
    bool drawn[32]; /* names with data */
    bool bound[32]; /* ... and points that are the generator's */
    size_t points;  /* of the longest series */
};

/* Rates and times are the generator's where it was the slower side; what is counted in CPU time is not. */
static bool is_bound(const json_t *row, const char *figure)
{
    return json_is_true(json_object_get(row, "generator_bound")) && strstr(figure, "cpu") == NULL;
}

/* One line of data: place, value, low, high, generator-bound. Returns: whether there was a value. */
static bool write_point(struct plot *plot, size_t series, double x, const json_t *row,
                        const char *figure)
{
    const bool bound = is_bound(row, figure);
    const json_t *spread = json_object_get(json_object_get(row, "figures"), figure);
    const double divisor = divisor_of(plot->suite, figure);
    double median = 0.0;
    double low = 0.0;
    double high = 0.0;

    if (!json_number(spread, "median", &median) || !json_number(spread, "low", &low) ||
        !json_number(spread, "high", &high) ||
        (json_is_true(json_object_get(plot->chart, "y_log")) && median <= 0.0)) {
        return false;
    }
    fprintf(plot->script, "%.9g %.9g %.9g %.9g %d\n", x, median / divisor, low / divisor,
            high / divisor, (int)bound);
    plot->bound[series] |= bound;
    return true;
}

static size_t write_line_series(struct plot *plot, size_t series)
{
    const json_t *cells = json_object_get(plot->suite, "cells");
    const char *x_name = json_text(plot->chart, "x");
    size_t count = 0;

    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);
        double x = 0.0;

        if (has_fixed(cell, json_text(plot->chart, "fixed")) &&
            json_number(json_object_get(cell, "parameters"), x_name, &x)) {
            count += write_point(plot, series, x, find_row(cell, plot->names.items[series]),
                                 json_text(plot->chart, "figure"));
        }
    }
    return count;
}

/* The figures whose names begin as the chart says, one after the other. */
static size_t write_percentile_series(struct plot *plot, size_t series)
{
    const json_t *figures = json_object_get(plot->suite, "figures");
    const json_t *cell = find_cell(plot->suite, json_text(plot->chart, "fixed"));
    const char *prefix = json_text(plot->chart, "figure");
    double place = 0.0;
    size_t count = 0;

    for (size_t i = 0; i < json_array_size(figures); i++) {
        const char *name = json_text(json_array_get(figures, i), "name");

        if (strncmp(name, prefix, strlen(prefix)) == 0) {
            count +=
                write_point(plot, series, place, find_row(cell, plot->names.items[series]), name);
            place += 1.0;
        }
    }
    return count;
}

static size_t write_bar_series(struct plot *plot, size_t series)
{
    const json_t *cell = find_cell(plot->suite, json_text(plot->chart, "fixed"));

    return write_point(plot, series, (double)series, find_row(cell, plot->names.items[series]),
                       json_text(plot->chart, "figure"));
}

static void write_data(struct plot *plot)
{
    const char *kind = json_text(plot->chart, "kind");

    for (size_t i = 0; i < plot->names.count; i++) {
        size_t count;

        fprintf(plot->script, "$d%zu << EOD\n", i);
        if (strcmp(kind, "lines") == 0) {
            count = write_line_series(plot, i);
        } else if (strcmp(kind, "percentiles") == 0) {
            count = write_percentile_series(plot, i);
        } else {
            count = write_bar_series(plot, i);
        }
        fputs("EOD\n", plot->script);
        plot->drawn[i] = count > 0;
        plot->points = count > plot->points ? count : plot->points;
    }
}

/* 65536 is 64K in bytes, 100000 is 100K of anything. */
static void short_number(long long value, char text[32])
{
    const long long unit = value % 1024 == 0 ? 1024 : 1000;

    if (value >= unit * unit && value % (unit * unit) == 0) {
        snprintf(text, 32, "%lldM", value / (unit * unit));
    } else if (value >= unit && value % unit == 0) {
        snprintf(text, 32, "%lldK", value / unit);
    } else {
        snprintf(text, 32, "%lld", value);
    }
}

/* A tic at each value that was measured. gnuplot takes one that is named twice. */
static void write_line_tics(const struct plot *plot)
{
    const json_t *cells = json_object_get(plot->suite, "cells");
    const char *separator = "set xtics (";

    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);
        const json_t *value =
            json_object_get(json_object_get(cell, "parameters"), json_text(plot->chart, "x"));
        char text[32];

        if (has_fixed(cell, json_text(plot->chart, "fixed")) && json_is_integer(value)) {
            short_number(json_integer_value(value), text);
            fprintf(plot->script, "%s\"%s\" %lld", separator, text,
                    (long long)json_integer_value(value));
            separator = ", ";
        }
    }
    fputs(")\n", plot->script);
}

/* "latency_p99.9_ns" is p99.9. */
static void write_percentile_tics(const struct plot *plot)
{
    const json_t *figures = json_object_get(plot->suite, "figures");
    const char *prefix = json_text(plot->chart, "figure");
    int place = 0;

    fputs("set xtics (", plot->script);
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const char *name = json_text(json_array_get(figures, i), "name");

        if (strncmp(name, prefix, strlen(prefix)) == 0) {
            const char *rest = name + strlen(prefix);

            fprintf(plot->script, "%s\"%.*s\" %d", place == 0 ? "" : ", ", (int)strcspn(rest, "_"),
                    rest, place);
            place++;
        }
    }
    fputs(")\n", plot->script);
}

static void write_bar_tics(const struct plot *plot)
{
    bool first = true;

    fputs("set xtics rotate by -40 (", plot->script);
    for (size_t i = 0; i < plot->names.count; i++) {
        if (plot->drawn[i]) {
            fprintf(plot->script, "%s\"%s\" %zu", first ? "" : ", ", plot->names.items[i], i);
            first = false;
        }
    }
    fputs(")\n", plot->script);
}

static void write_settings(const struct plot *plot, unsigned number)
{
    const char *kind = json_text(plot->chart, "kind");
    FILE *s = plot->script;

    fprintf(s,
            "set terminal svg size 640,460 dynamic noenhanced font 'sans-serif,14' name 'c%u'\n"
            "set grid\nset key outside below maxrows 6\nset ylabel \"%s\"\nset format y '%%.10g'\n"
            "set tics nomirror\n",
            number, json_text(plot->chart, "y_label"));
    if (json_is_true(json_object_get(plot->chart, "y_log"))) {
        fputs("set logscale y\n", s);
    } else {
        fputs("set yrange [0:*]\n", s);
    }
    if (strcmp(kind, "lines") == 0) {
        fprintf(s, "set xlabel \"%s\"\n", json_text(plot->chart, "x"));
        write_line_tics(plot);
        if (json_is_true(json_object_get(plot->chart, "x_log"))) {
            fputs("set logscale x 2\n", s);
        }
    } else if (strcmp(kind, "percentiles") == 0) {
        write_percentile_tics(plot);
        fputs("set xrange [-0.2:*]\n", s);
    } else {
        write_bar_tics(plot);
        fputs("unset key\nset boxwidth 0.6\nset style fill solid 0.7\nset xrange [-1:*]\n", s);
    }
}

/* A grey ring around each point that is the generator's. */
static void write_rings(const struct plot *plot)
{
    static const char look[] = "with points pt 6 ps 1.6 lw 2 lc rgb '#808080'";
    bool any = false;

    for (size_t i = 0; i < plot->names.count; i++) {
        if (plot->bound[i]) {
            fprintf(plot->script, ", $d%zu using 1:($5 > 0 ? $2 : NaN) %s notitle", i, look);
            any = true;
        }
    }
    if (any) {
        fprintf(plot->script, ", NaN %s title 'generator-bound'", look);
    }
}

static void write_plot(const struct plot *plot)
{
    const bool bars = strcmp(json_text(plot->chart, "kind"), "bars") == 0;
    const char *separator = "plot ";

    for (size_t i = 0; i < plot->names.count; i++) {
        const char *name = plot->names.items[i];
        const bool ours = strncmp(name, "gyre", 4) == 0;

        if (!plot->drawn[i]) {
            continue;
        }
        fprintf(plot->script, "%s$d%zu using 1:2:3:4 with ", separator, i);
        if (bars) {
            fprintf(plot->script, "boxerrorbars lc rgb '%s' title '%s'",
                    colours[i % COUNT(colours)], name);
        } else {
            fprintf(plot->script, "yerrorlines lc rgb '%s' lw %s pt %d ps 0.7 dt %d title '%s'",
                    colours[i % COUNT(colours)], ours ? "3" : "1.5", points[i % COUNT(points)],
                    i >= COUNT(colours) ? 2 : 1, name);
        }
        separator = ", ";
    }
    if (!bars) {
        write_rings(plot);
    }
    fputc('\n', plot->script);
}

/* The script as text, or NULL when there is nothing to draw. */
static char *make_script(const json_t *suite, const json_t *chart, unsigned number)
{
    struct plot plot = {.suite = suite, .chart = chart};
    char *text = NULL;
    size_t size = 0;
    const bool lines = strcmp(json_text(chart, "kind"), "lines") == 0;

    plot.script = open_memstream(&text, &size);
    if (plot.script == NULL) {
        return NULL;
    }
    collect_names(suite, &plot.names);
    write_data(&plot);
    write_settings(&plot, number);
    write_plot(&plot);
    fclose(plot.script);
    if (plot.points < (lines ? 2 : 1)) {
        free(text);
        return NULL;
    }
    return text;
}

/* Replaces every @from in a line. */
static void put_replaced(FILE *out, const char *line, const char *const (*pairs)[2], size_t count)
{
    while (*line != '\0') {
        size_t i = 0;

        while (i < count && strncmp(line, pairs[i][0], strlen(pairs[i][0])) != 0) {
            i++;
        }
        if (i < count) {
            fputs(pairs[i][1], out);
            line += strlen(pairs[i][0]);
        } else {
            fputc(*line++, out);
        }
    }
}

/* An element of the page: no XML declaration, ids of its own, a name for those who cannot see it. */
static void write_svg(FILE *out, char *svg, const json_t *chart, unsigned number)
{
    char ids[4][24];
    const char *const pairs[][2] = {
        {"id='", ids[0]}, {"id=\"", ids[1]}, {"'#gp", ids[2]}, {"\"#gp", ids[3]}};
    char *save = NULL;

    snprintf(ids[0], sizeof(ids[0]), "id='c%u", number);
    snprintf(ids[1], sizeof(ids[1]), "id=\"c%u", number);
    snprintf(ids[2], sizeof(ids[2]), "'#c%ugp", number);
    snprintf(ids[3], sizeof(ids[3]), "\"#c%ugp", number);
    for (char *line = strtok_r(svg, "\n", &save); line != NULL;
         line = strtok_r(NULL, "\n", &save)) {
        if (strncmp(line, "<?xml", 5) == 0 || strncmp(line, "<desc>", 6) == 0) {
            continue;
        }
        if (strncmp(line, "<title>", 7) == 0) {
            fprintf(out, "<title id=\"t%u\">", number);
            html_text(out, json_text(chart, "title"));
            fputs("; the values are in the tables below</title>\n", out);
        } else if (strncmp(line, "<svg", 4) == 0) {
            fprintf(out, "<svg role=\"img\" aria-labelledby=\"t%u\"\n", number);
        } else {
            put_replaced(out, line, pairs, COUNT(pairs));
            fputc('\n', out);
        }
    }
}

enum chart_result chart_write(FILE *out, const json_t *suite, const json_t *chart, unsigned number,
                              char why[256])
{
    static char svg[SVG_MAX];
    struct sample failure = {0}; /* only for its outcome and text */
    struct external external;
    struct command command;
    char path[96];
    char *script = make_script(suite, chart, number);

    if (script == NULL) {
        return CHART_EMPTY;
    }
    if (external_command(&command, &failure, "gnuplot") == 0 &&
        external_open(&external, &failure) == 0) {
        snprintf(path, sizeof(path), "%s/chart.gp", external.directory);
        command_add(&command, path);
        if (external_file(&external, &failure, "chart.gp", script) == 0 &&
            program_output(&failure, &command, -1, PLOT_LIMIT_MS, svg, sizeof(svg)) == 0) {
            write_svg(out, svg, chart, number);
        }
        external_close(&external);
    }
    free(script);
    snprintf(why, 256, "%.255s", failure.text);
    return failure.outcome == OUTCOME_OK ? CHART_DRAWN : CHART_FAILED;
}
