/*
 * Statistics of a handful of repeated measurements.
 */
#ifndef RUNNER_STATS_H
#define RUNNER_STATS_H

#include <stddef.h>

/* More rounds than anybody waits for; bounds the arrays. */
#define STATS_MAX 1000

struct spread {
    size_t count; /* 0: nothing was measured, the rest is 0 */
    double median;
    double min;
    double max;
    double mad; /* median of the absolute distances from the median */
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

#endif
