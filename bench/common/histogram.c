/*
 * Histogram: the slow half, reading percentiles out. The idea is in histogram.h.
 */
#include "histogram.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void histogram_reset(struct histogram *histogram)
{
    memset(histogram, 0, sizeof(*histogram));
}

uint64_t histogram_bucket_high(unsigned index)
{
    assert(index < HISTOGRAM_BUCKETS);
    if (index < 2 * HISTOGRAM_SUB_COUNT) {
        return index;
    }
    /* Inverse of histogram_index(): value >> shift is always in 128..255. */
    const unsigned shift = (index >> HISTOGRAM_SUB_BITS) - 1u;
    const uint64_t top = (index & (HISTOGRAM_SUB_COUNT - 1u)) + HISTOGRAM_SUB_COUNT;

    return (top << shift) + ((UINT64_C(1) << shift) - 1u);
}

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    assert(percent > 0.0 && percent <= 100.0);
    const double wanted = ceil((double)histogram->count * percent / 100.0);
    uint64_t seen = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && (double)seen >= wanted) {
            const uint64_t high = histogram_bucket_high(i);
            return high < histogram->max ? high : histogram->max;
        }
    }
    return histogram->max;
}

double histogram_median(const struct histogram *histogram)
{
    const double wanted = (double)histogram->count / 2.0;
    double seen = 0.0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        const double here = (double)histogram->buckets[i];

        if (here > 0.0 && seen + here >= wanted) {
            const double low = i == 0 ? 0.0 : (double)histogram_bucket_high(i - 1);
            const double high = (double)histogram_bucket_high(i);

            return low + (high - low) * (wanted - seen) / here;
        }
        seen += here;
    }
    return 0.0;
}

void histogram_subtract(struct histogram *histogram, const struct histogram *before)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        histogram->buckets[i] -= before->buckets[i];
    }
    histogram->count -= before->count;
    histogram->sum -= before->sum;
}
