/*
 * report.html: one page that needs nothing else. For each suite the charts, a table of all ratios
 * with the resolution beside them, and a table of every figure of each cell; how to get each number
 * again. Losing cells look like winning ones: what is less and what is more is said in words.
 */
#include "bench.h"
#include "chart.h"

#include <stdlib.h>
#include <string.h>

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1c2126;--back:#fff;--muted:#5d6670;--line:#d5dae0;"
    "--band:#f3f5f7;--link:#0b5cad}\n"
    "@media(prefers-color-scheme:dark){:root{--ink:#e3e7eb;--back:#14181c;--muted:#9aa5b0;"
    "--line:#363d45;--band:#1d2329;--link:#7db8f0}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;padding:1rem;max-width:82rem;background:var(--back);color:var(--ink);"
    "font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}\n"
    "h1,h2,h3{line-height:1.25}h2{margin-top:2.5rem;border-top:1px solid var(--line);"
    "padding-top:1rem}\n"
    "a{color:var(--link)}nav ul{display:flex;flex-wrap:wrap;gap:.3rem 1rem;padding:0;"
    "list-style:none}\n"
    ".charts{display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,28rem),"
    "1fr))}\n"
    "figure{margin:0;min-width:0}figcaption{font-weight:600;margin-bottom:.3rem}\n"
    ".scroll{overflow-x:auto;max-width:100%}.scroll:focus-visible{outline:2px solid var(--link)}\n"
    "svg{display:block;width:100%;min-width:30rem;height:auto}\n"
    "svg [stroke=black]{stroke:var(--ink)}svg [fill=black]{fill:var(--ink)}"
    "svg [color=black]{color:var(--ink)}svg [stroke=gray]{stroke:var(--line)}"
    "svg [color=gray]{color:var(--line)}\n"
    "table{border-collapse:collapse;font-size:.875rem;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;font-weight:600;padding:.5rem 0}\n"
    "th,td{padding:.25rem .6rem;text-align:right;white-space:nowrap;border-bottom:1px solid "
    "var(--line)}\n"
    "th:first-child,td:first-child{text-align:left;position:sticky;left:0;background:var(--back)}\n"
    "thead th{background:var(--band);vertical-align:bottom}\n"
    "thead th:first-child{background:var(--band)}\n"
    "td.text{text-align:left;white-space:normal;min-width:16rem}\n"
    ".bound{color:var(--muted)}small{color:var(--muted)}\n"
    "details{margin:.75rem 0}summary{cursor:pointer;font-weight:600;padding:.3rem 0}\n"
    "code{background:var(--band);padding:.1rem .3rem;border-radius:.2rem}\n"
    "dt{font-weight:600}dd{margin:0 0 .4rem 1rem}\n";

struct report {
    FILE *out;
    const json_t *results;
    unsigned charts; /* so far; their ids */
};

static void put(struct report *r, const char *text)
{
    fputs(text, r->out);
}

static void put_text(struct report *r, const char *text)
{
    html_text(r->out, text);
}

static void begin_scroll(struct report *r, const char *label)
{
    put(r, "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"");
    put_text(r, label);
    put(r, "\">");
}

static void put_number(struct report *r, double value, int decimals)
{
    char text[64];
    size_t whole;

    snprintf(text, sizeof(text), "%.*f", decimals, value);
    whole = strcspn(text, ".");
    for (size_t i = 0; text[i] != '\0'; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0 && text[i - 1] != '-') {
            fputc(',', r->out);
        }
        fputc(text[i], r->out);
    }
}

/* ---- the head of the page ---- */

static void put_json_value(struct report *r, const json_t *value)
{
    char *text = json_is_string(value)
                     ? NULL
                     : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(4));

    put_text(r, json_is_string(value) ? json_string_value(value) : text == NULL ? "" : text);
    free(text);
}

static void put_object_rows(struct report *r, const json_t *object, const char *prefix)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        char name[96];

        snprintf(name, sizeof(name), "%s%s", prefix, key);
        if (json_is_object(value) && json_object_size(value) > 0) {
            char inner[100];

            snprintf(inner, sizeof(inner), "%s ", name);
            put_object_rows(r, value, inner);
            continue;
        }
        put(r, "<tr><th scope=\"row\">");
        put_text(r, name);
        put(r, "</th><td class=\"text\">");
        put_json_value(r, value);
        put(r, "</td></tr>\n");
    }
}

static void put_environment(struct report *r)
{
    put(r, "<details><summary>Environment</summary>");
    begin_scroll(r, "Environment");
    put(r, "<table><caption>Where this was measured</caption><tbody>\n");
    put_object_rows(r, json_object_get(r->results, "environment"), "");
    put_object_rows(r, json_object_get(r->results, "machine"), "");
    put(r, "</tbody></table></div></details>\n");
}

static void put_how_to_read(struct report *r)
{
    put(r,
        "<details><summary>How to read this</summary>\n<ul>\n"
        "<li>The first figure of a suite is its cost, and less is better. A <em>ratio</em> is the "
        "cost divided by that of the suite's reference, in turns with it or in the same round; the "
        "median of the rounds is given.</li>\n"
        "<li>The <em>resolution</em> of a cell is how far the reference is off when it is measured "
        "against itself in the same way (A/A). A ratio within it is no difference: <em>level</em>. "
        "<em>less</em> and <em>more</em> also ask that all of the ratio's interval lies on that "
        "side of 1. Fewer than five rounds get no verdict.</li>\n"
        "<li>Grey, <em>generator-bound</em>: the server was less than 95 % busy, so its rates and "
        "times are the load's; cost and ratio are its own.</li>\n"
        "<li>Error bars are the interval in which the true median lies, with a confidence of "
        "93.75 % from five rounds on.</li>\n"
        "<li>Absolute figures hold for one machine on one day.</li>\n</ul></details>\n");
}

static void put_navigation(struct report *r)
{
    const json_t *suites = json_object_get(r->results, "suites");

    put(r, "<nav aria-label=\"Suites\"><ul>\n");
    for (size_t i = 0; i < json_array_size(suites); i++) {
        const char *name = json_text(json_array_get(suites, i), "suite");

        put(r, "<li><a href=\"#");
        put_text(r, name);
        put(r, "\">");
        put_text(r, name);
        put(r, "</a></li>\n");
    }
    put(r, "</ul></nav>\n");
}

static void put_head(struct report *r)
{
    const json_t *environment = json_object_get(r->results, "environment");

    put(r, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
           "<link rel=\"icon\" href=\"data:,\">\n<title>gyre benchmarks, commit ");
    put_text(r, json_text(environment, "commit"));
    put(r, "</title>\n<style>\n");
    put(r, style);
    put(r, "</style>\n</head>\n<body>\n<main>\n<h1>gyre benchmarks</h1>\n<p>Commit <code>");
    put_text(r, json_text(environment, "commit"));
    put(r, "</code>, measured until ");
    put_text(r, json_text(r->results, "finished"));
    put(r, ", Linux ");
    put_text(r, json_text(environment, "kernel"));
    put(r, ", ");
    put_text(r, json_text(json_object_get(environment, "cpu"), "model"));
    put(r, ".</p>\n");
    if (!json_is_true(json_object_get(r->results, "complete"))) {
        put(r, "<p><strong>Not everything that was planned was measured.</strong> The number of "
               "rounds stands with each figure in results.json.</p>\n");
    }
    put_how_to_read(r);
    put_environment(r);
    put_navigation(r);
}

/* ---- one suite ---- */

static void put_charts(struct report *r, const json_t *suite)
{
    const json_t *charts = json_object_get(suite, "charts");
    char why[256] = "";

    if (json_array_size(charts) == 0) {
        return;
    }
    put(r, "<div class=\"charts\">\n");
    for (size_t i = 0; i < json_array_size(charts); i++) {
        const json_t *chart = json_array_get(charts, i);
        char *svg = NULL;
        size_t size = 0;
        FILE *memory = open_memstream(&svg, &size);

        if (memory == NULL) {
            continue;
        }
        const enum chart_result result = chart_write(memory, suite, chart, ++r->charts, why);

        fclose(memory);
        if (result == CHART_DRAWN) {
            put(r, "<figure><figcaption>");
            put_text(r, json_text(chart, "title"));
            put(r, "</figcaption>");
            begin_scroll(r, json_text(chart, "title"));
            put(r, svg);
            put(r, "</div></figure>\n");
        } else if (result == CHART_FAILED) {
            put(r, "<p>A chart could not be drawn: ");
            put_text(r, why);
            put(r, "</p>\n");
        }
        free(svg);
    }
    put(r, "</div>\n");
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

/* Contenders in the order of their first appearance. */
static size_t collect_names(const json_t *suite, const char **names, size_t max)
{
    const json_t *cells = json_object_get(suite, "cells");
    size_t count = 0;

    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *rows = json_object_get(json_array_get(cells, c), "rows");

        for (size_t i = 0; i < json_array_size(rows); i++) {
            const char *name = json_text(json_array_get(rows, i), "contender");
            size_t at = 0;

            while (at < count && strcmp(names[at], name) != 0) {
                at++;
            }
            if (at == count && at < max) {
                names[count++] = name;
            }
        }
    }
    return count;
}

static void put_ratio_cell(struct report *r, const json_t *row)
{
    const bool bound = json_is_true(json_object_get(row, "generator_bound"));
    const char *verdict = json_text(row, "verdict");
    double ratio = 0.0;

    put(r, bound ? "<td class=\"bound\">" : "<td>");
    if (row == NULL) {
        put(r, "");
    } else if (strcmp(json_text(row, "outcome"), "ok") != 0) {
        put_text(r, json_text(row, "outcome"));
    } else if (json_median(row, "ratio", &ratio)) {
        put_number(r, ratio, 3);
        put(r, " <small>");
        put_text(r, verdict);
        put(r, "</small>");
    } else {
        put(r, "-");
    }
    put(r, "</td>");
}

static void put_overview(struct report *r, const json_t *suite)
{
    const json_t *cells = json_object_get(suite, "cells");
    const json_t *primary = json_array_get(json_object_get(suite, "figures"), 0);
    const char *names[32];
    const size_t count = collect_names(suite, names, 32);

    begin_scroll(r, "Ratios");
    put(r, "<table><caption>Ratios of ");
    put_text(r, json_text(primary, "name"));
    put(r, " to ");
    put_text(r, json_text(suite, "reference"));
    put(r, "; below 1 is less</caption>\n<thead><tr><th scope=\"col\">cell</th>"
           "<th scope=\"col\">resolution</th>");
    for (size_t i = 0; i < count; i++) {
        put(r, "<th scope=\"col\">");
        put_text(r, names[i]);
        put(r, "</th>");
    }
    put(r, "</tr></thead>\n<tbody>\n");
    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *cell = json_array_get(cells, c);
        double resolution = 0.0;

        put(r, "<tr><th scope=\"row\">");
        put_text(r, json_text(cell, "cell"));
        put(r, "</th><td>");
        if (json_number(cell, "resolution", &resolution)) {
            fprintf(r->out, "&plusmn;%.1f %%", resolution * 100.0);
        }
        put(r, "</td>");
        for (size_t i = 0; i < count; i++) {
            put_ratio_cell(r, find_row(cell, names[i]));
        }
        put(r, "</tr>\n");
    }
    put(r, "</tbody></table></div>\n");
}

static void put_figure_cell(struct report *r, const json_t *figure, const json_t *row)
{
    const int decimals = (int)json_integer_value(json_object_get(figure, "decimals"));
    double divisor = 1.0;
    double value = 0.0;

    json_number(figure, "divisor", &divisor);
    put(r, "<td>");
    if (json_median(json_object_get(row, "figures"), json_text(figure, "name"), &value)) {
        put_number(r, value / divisor, decimals);
    } else {
        put(r, "-");
    }
    put(r, "</td>");
}

static void put_row(struct report *r, const json_t *suite, const json_t *row)
{
    const json_t *figures = json_object_get(suite, "figures");
    const json_t *ratio = json_object_get(row, "ratio");
    double low = 0.0;
    double high = 0.0;

    put(r, json_is_true(json_object_get(row, "generator_bound")) ? "<tr class=\"bound\">" : "<tr>");
    put(r, "<th scope=\"row\">");
    put_text(r, json_text(row, "contender"));
    put(r, "</th>");
    if (strcmp(json_text(row, "outcome"), "ok") != 0) {
        fprintf(r->out, "<td class=\"text\" colspan=\"%zu\">", json_array_size(figures) + 3);
        put_text(r, json_text(row, "outcome"));
        put(r, ": ");
        put_text(r, json_text(row, "text"));
        put(r, "</td></tr>\n");
        return;
    }
    put_ratio_cell(r, row);
    put(r, "<td>");
    if (json_number(ratio, "low", &low) && json_number(ratio, "high", &high)) {
        fprintf(r->out, "%.3f&ndash;%.3f", low, high);
    }
    put(r, "</td>");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        put_figure_cell(r, json_array_get(figures, i), row);
    }
    put(r, "<td>");
    put(r, json_is_true(json_object_get(row, "generator_bound")) ? "generator-bound " : "");
    put(r, json_is_true(json_object_get(row, "disturbed")) ? "disturbed" : "");
    put(r, "</td></tr>\n");
}

static void put_cell(struct report *r, const json_t *suite, const json_t *cell)
{
    const json_t *figures = json_object_get(suite, "figures");
    const json_t *rows = json_object_get(cell, "rows");
    const char *level = json_text(json_object_get(suite, "settings"), "level");
    double resolution = 0.0;

    put(r, "<details><summary>");
    put_text(r, json_text(suite, "suite"));
    put(r, " ");
    put_text(r, json_text(cell, "cell"));
    put(r, "</summary>\n<p>Again: <code>gyre-bench run ");
    put_text(r, json_text(suite, "suite"));
    put(r, strcmp(level, "normal") == 0 ? "" : " --");
    put_text(r, strcmp(level, "normal") == 0 ? "" : level);
    put(r, " --filter ");
    put_text(r, json_text(suite, "suite"));
    put(r, "/");
    put_text(r, json_text(cell, "cell"));
    put(r, "/</code></p>\n");
    begin_scroll(r, json_text(cell, "cell"));
    put(r, "<table><caption>");
    put_text(r, json_text(cell, "cell"));
    put(r, ": medians of the rounds");
    if (json_number(cell, "resolution", &resolution)) {
        fprintf(r->out, "; ratios resolve &plusmn;%.1f %%", resolution * 100.0);
    }
    put(r, "</caption>\n<thead><tr><th scope=\"col\">contender</th>"
           "<th scope=\"col\">ratio</th><th scope=\"col\">interval</th>");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);
        const char *column = json_text(figure, "column");

        put(r, "<th scope=\"col\">");
        put_text(r, column[0] == '\0' ? json_text(figure, "name") : column);
        put(r, "</th>");
    }
    put(r, "<th scope=\"col\">marks</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        put_row(r, suite, json_array_get(rows, i));
    }
    put(r, "</tbody></table></div></details>\n");
}

static void put_legend(struct report *r, const json_t *suite)
{
    const json_t *figures = json_object_get(suite, "figures");

    put(r, "<details><summary>What the columns mean</summary><dl>\n");
    for (size_t i = 0; i < json_array_size(figures); i++) {
        const json_t *figure = json_array_get(figures, i);
        const char *column = json_text(figure, "column");

        put(r, "<dt>");
        put_text(r, column[0] == '\0' ? json_text(figure, "name") : column);
        put(r, "</dt><dd>");
        put_text(r, json_text(figure, "text"));
        put(r, "</dd>\n");
    }
    put(r, "</dl></details>\n");
}

static void put_settings(struct report *r, const json_t *suite)
{
    const json_t *settings = json_object_get(suite, "settings");

    fprintf(r->out, "<p>Up to %lld rounds, windows of %lld ms after %lld ms of warm-up. ",
            (long long)json_integer_value(json_object_get(settings, "pairs")),
            (long long)json_integer_value(json_object_get(settings, "duration_ms")),
            (long long)json_integer_value(json_object_get(settings, "warmup_ms")));
    put_text(r, json_text(suite, "notes"));
    put(r, "</p>\n");
}

static void put_suite(struct report *r, const json_t *suite)
{
    const json_t *cells = json_object_get(suite, "cells");

    put(r, "<section aria-labelledby=\"");
    put_text(r, json_text(suite, "suite"));
    put(r, "\">\n<h2 id=\"");
    put_text(r, json_text(suite, "suite"));
    put(r, "\">");
    put_text(r, json_text(suite, "suite"));
    put(r, ": ");
    put_text(r, json_text(suite, "title"));
    put(r, "</h2>\n");
    if (!json_is_true(json_object_get(suite, "valid"))) {
        put(r, "<p><strong>A server answered with wrong bytes. No number of this run of the suite "
               "is worth anything, so there is none.</strong></p>\n</section>\n");
        return;
    }
    put_settings(r, suite);
    put_charts(r, suite);
    put_overview(r, suite);
    put_legend(r, suite);
    for (size_t c = 0; c < json_array_size(cells); c++) {
        put_cell(r, suite, json_array_get(cells, c));
    }
    put(r, "</section>\n");
}

static int write_page(const char *path, const void *what)
{
    const json_t *results = what;
    const json_t *suites = json_object_get(results, "suites");
    struct report report = {.out = fopen(path, "we"), .results = results};

    if (report.out == NULL) {
        return -1;
    }
    put_head(&report);
    for (size_t i = 0; i < json_array_size(suites); i++) {
        put_suite(&report, json_array_get(suites, i));
    }
    put(&report, "</main>\n</body>\n</html>\n");
    const int failed = ferror(report.out);

    return fclose(report.out) == EOF || failed != 0 ? -1 : 0;
}

int report_write(const char *directory)
{
    json_t *results = results_load(directory);

    if (results == NULL) {
        return BENCH_USAGE;
    }
    const int rc = write_file(directory, "report.html", write_page, results);

    json_decref(results);
    if (rc < 0) {
        return BENCH_FAILED;
    }
    printf("report: %s/report.html\n", directory);
    return BENCH_OK;
}
