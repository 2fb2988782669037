/*
 * A histogram of durations with bounded relative error and no configuration.
 *
 * Values below 256 are counted exactly. Above, every power of two is cut into 128 equal buckets, so
 * that a bucket is at most 1/128 of its values wide: what is reported for a percentile is the
 * highest value of its bucket and at most 0.79 % too high. Recording is a shift, an add and an
 * increment; the whole range of uint64_t fits.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS  7u
#define HISTOGRAM_SUB_COUNT (1u << HISTOGRAM_SUB_BITS)
/* Exponents 0..56 of 128 buckets each, on top of the first 128 exact ones. */
#define HISTOGRAM_BUCKETS   ((64u - HISTOGRAM_SUB_BITS + 1u) * HISTOGRAM_SUB_COUNT)

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/** histogram_index() - the bucket of a value, 0..HISTOGRAM_BUCKETS-1. */
static inline unsigned histogram_index(uint64_t value)
{
    if (value < HISTOGRAM_SUB_COUNT) {
        return (unsigned)value;
    }
    const unsigned shift = 63u - HISTOGRAM_SUB_BITS - (unsigned)__builtin_clzll(value);

    return (shift << HISTOGRAM_SUB_BITS) + (unsigned)(value >> shift);
}

/** histogram_add() - count one value. */
static inline void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->buckets[histogram_index(value)]++;
    histogram->count++;
    histogram->sum += value;
    if (value > histogram->max) {
        histogram->max = value;
    }
}

/** histogram_reset() - forget everything. */
void histogram_reset(struct histogram *histogram);

/** histogram_bucket_high() - the highest value that falls into bucket @index. */
uint64_t histogram_bucket_high(unsigned index);

/**
 * histogram_percentile() - the value that at least @percent % of the values do not exceed.
 * @percent: above 0, at most 100; 100 gives the exact maximum.
 * Returns: the value, at most 0.79 % too high and never above the maximum; 0 when the histogram is
 * empty.
 */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/**
 * histogram_median() - the median, with the values of a bucket taken to lie evenly in it, so that two
 * medians compare finer than buckets are wide. 0 when nothing was counted.
 */
double histogram_median(const struct histogram *histogram);

/** histogram_subtract() - forget what was counted in @before, an earlier copy; the maximum stays. */
void histogram_subtract(struct histogram *histogram, const struct histogram *before);

#endif
