/*
 * Statistics of a handful of repeated measurements.
 */
#ifndef RUNNER_STATS_H
#define RUNNER_STATS_H

#include <stddef.h>

/* More rounds than anybody waits for; bounds the arrays. */
#define STATS_MAX 1000

/* Of fewer values even the smallest and the largest enclose the median too seldom. */
#define STATS_VERDICT_MIN 5

struct spread {
    size_t count; /* 0: nothing was measured, the rest is 0 */
    double median;
    double min;
    double max;
    double mad; /* median of the absolute distances from the median */
    /* Where the true median lies, with a confidence of 93.75 % (from five values on). */
    double low;
    double high;
};

/* What a ratio says once the resolution is known. */
enum verdict {
    VERDICT_NONE,  /* too few rounds, or the resolution was not measured */
    VERDICT_LEVEL, /* within the resolution: no difference */
    VERDICT_LESS,
    VERDICT_MORE,
};

/**
 * stats_median() - the middle value, or the mean of the two in the middle. @count: 1..STATS_MAX.
 */
double stats_median(const double *values, size_t count);

/** stats_spread() - median and spread. @count: 0..STATS_MAX. */
struct spread stats_spread(const double *values, size_t count);

/**
 * stats_paired_ratio() - the spread of @values[i] / @references[i]. The two of a pair were measured
 * right after each other, so what disturbed both cancels out; the ratio of two averages would not
 * have that property.
 */
struct spread stats_paired_ratio(const double *values, const double *references, size_t count);

/**
 * stats_resolution() - by how much a ratio may be off 1 and say nothing: the farther end of the
 * interval of @same, the ratio of a contender to itself.
 */
double stats_resolution(const struct spread *same);

/**
 * stats_verdict() - less or more only if the median of @ratio is farther from 1 than the resolution
 * that @same gives, and all of its interval lies on that side of 1.
 */
enum verdict stats_verdict(const struct spread *ratio, const struct spread *same);

/** stats_verdict_name() - "level" and so on; NULL for none. */
const char *stats_verdict_name(enum verdict verdict);

#endif
