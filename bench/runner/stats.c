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

/*
 * The interval of the median that makes no assumption about the distribution: as many of the
 * smallest and of the largest values are left out as a fair coin would seldom give (the sign test).
 * Of up to eight values none is.
 */
#define MISSED_MAX 0.0625

static size_t left_out(size_t count)
{
    double term = exp2(-(double)count); /* that a coin shows heads k times, from k = 0 on */
    double tail = 0.0;
    size_t k = 0;

    while (2.0 * (tail + term) <= MISSED_MAX) {
        tail += term;
        term *= (double)(count - k) / (double)(k + 1);
        k++;
    }
    return k == 0 ? 0 : k - 1;
}

static void find_interval(struct spread *spread, const double *values)
{
    double sorted[STATS_MAX];
    const size_t out = left_out(spread->count);

    memcpy(sorted, values, spread->count * sizeof(*values));
    qsort(sorted, spread->count, sizeof(*sorted), compare);
    assert(2 * out < spread->count);
    spread->low = sorted[out];
    spread->high = sorted[spread->count - 1 - out];
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
    find_interval(&spread, values);
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

double stats_resolution(const struct spread *same)
{
    return fmax(fabs(same->low - 1.0), fabs(same->high - 1.0));
}

enum verdict stats_verdict(const struct spread *ratio, const struct spread *same)
{
    if (ratio->count < STATS_VERDICT_MIN || same->count < STATS_VERDICT_MIN) {
        return VERDICT_NONE;
    }
    const double resolution = stats_resolution(same);

    if (ratio->median > 1.0 + resolution && ratio->low > 1.0) {
        return VERDICT_MORE;
    }
    if (ratio->median < 1.0 - resolution && ratio->high < 1.0) {
        return VERDICT_LESS;
    }
    return VERDICT_LEVEL;
}

const char *stats_verdict_name(enum verdict verdict)
{
    static const char *const names[] = {NULL, "level", "less", "more"};

    return names[verdict];
}
