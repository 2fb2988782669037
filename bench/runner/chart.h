/*
 * Charts of the report.
 */
#ifndef RUNNER_CHART_H
#define RUNNER_CHART_H

#include "bench.h"

enum chart_result { CHART_DRAWN, CHART_EMPTY, CHART_FAILED };

/**
 * chart_write() - draw one chart of a suite of the results with gnuplot, as an SVG element.
 * @number: unique in the document.  @why: gets the reason of CHART_FAILED.
 */
enum chart_result chart_write(FILE *out, const json_t *suite, const json_t *chart, unsigned number,
                              char why[256]);

/** html_text() - text with the characters escaped that mean something in HTML. */
void html_text(FILE *out, const char *text);

#endif
