/*
 * Statistics of a handful of repeated measurements.
 */
#include "stats.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

double stats_median(const double *values, size_t count)
{
    double sorted[STATS_MAX];

    assert(count >= 1 && count <= STATS_MAX);
    memcpy(sorted, values, count * sizeof(*values));
    qsort(sorted, count, sizeof(*sorted), compare);
    if (count % 2 == 1) {
        return sorted[count / 2];
    }
    return (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0;
}

struct spread stats_spread(const double *values, size_t count)
{
    double distances[STATS_MAX];

    assert(count <= STATS_MAX);
    if (count == 0) {
        return (struct spread){0};
    }
    struct spread spread = {
        .count = count,
        .median = stats_median(values, count),
        .min = values[0],
        .max = values[0],
    };

    for (size_t i = 0; i < count; i++) {
        spread.min = fmin(spread.min, values[i]);
        spread.max = fmax(spread.max, values[i]);
        distances[i] = fabs(values[i] - spread.median);
    }
    spread.mad = stats_median(distances, count);
    return spread;
}

struct spread stats_paired_ratio(const double *values, const double *references, size_t count)
{
    double ratios[STATS_MAX];

    assert(count <= STATS_MAX);
    for (size_t i = 0; i < count; i++) {
        assert(references[i] > 0.0);
        ratios[i] = values[i] / references[i];
    }
    return stats_spread(ratios, count);
}
