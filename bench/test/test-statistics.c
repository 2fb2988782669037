/*
 * What the numbers are made with: histogram, medians, paired ratios, pattern, CPU clocks.
 */
#include "bench.h"
#include "clock.h"
#include "cpu_time.h"
#include "histogram.h"
#include "number.h"
#include "pattern.h"
#include "stats.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static struct histogram histogram;

static int reset(void **state)
{
    (void)state;
    histogram_reset(&histogram);
    return 0;
}

static void histogram_bucket_contains_its_values(void **state)
{
    (void)state;
    for (unsigned shift = 0; shift < 64; shift++) {
        for (uint64_t step = 0; step < 300; step++) {
            const uint64_t value = (UINT64_C(1) << shift) + step * ((UINT64_C(1) << shift) / 300);
            const unsigned index = histogram_index(value);

            assert_in_range(index, 0, HISTOGRAM_BUCKETS - 1);
            assert_true(histogram_bucket_high(index) >= value);
            if (index > 0) {
                assert_true(histogram_bucket_high(index - 1) < value);
            }
        }
    }
}

static void histogram_error_stays_below_one_percent(void **state)
{
    (void)state;
    for (uint64_t value = 1; value < UINT64_C(1) << 62; value += value / 3 + 1) {
        const uint64_t high = histogram_bucket_high(histogram_index(value));

        assert_true((double)(high - value) <= 0.0079 * (double)value);
    }
}

static void histogram_last_bucket_is_in_the_array(void **state)
{
    (void)state;
    assert_true(histogram_index(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
    assert_true(histogram_bucket_high(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static void histogram_percentiles_of_known_values(void **state)
{
    (void)state;
    for (uint64_t value = 1; value <= 100000; value++) {
        histogram_add(&histogram, value);
    }
    assert_float_equal(histogram_percentile(&histogram, 50.0), 50000, 500);
    assert_float_equal(histogram_percentile(&histogram, 90.0), 90000, 900);
    assert_float_equal(histogram_percentile(&histogram, 99.0), 99000, 990);
    assert_float_equal(histogram_percentile(&histogram, 99.9), 99900, 999);
    assert_int_equal(histogram_percentile(&histogram, 100.0), 100000);
    assert_int_equal(histogram.count, 100000);
    assert_int_equal(histogram.sum / histogram.count, 50000);
}

/* Finer than the buckets, which are 128 wide here. */
static void histogram_median_lies_inside_a_bucket(void **state)
{
    (void)state;
    assert_true(histogram_median(&histogram) == 0.0);
    for (uint64_t value = 20000; value <= 30000; value++) {
        histogram_add(&histogram, value);
    }
    assert_float_equal(histogram_median(&histogram), 25000, 2);
    for (uint64_t value = 30001; value <= 30101; value++) {
        histogram_add(&histogram, value);
    }
    assert_float_equal(histogram_median(&histogram), 25050, 2);
    struct histogram before = histogram;

    for (uint64_t value = 50000; value <= 50200; value++) {
        histogram_add(&histogram, value);
    }
    histogram_subtract(&histogram, &before);
    assert_int_equal(histogram.count, 201);
    assert_float_equal(histogram_median(&histogram), 50100, 60);
}

static void histogram_outlier_moves_only_the_top(void **state)
{
    (void)state;
    for (int i = 0; i < 999; i++) {
        histogram_add(&histogram, 100);
    }
    histogram_add(&histogram, 1000000);
    assert_int_equal(histogram_percentile(&histogram, 50.0), 100);
    assert_int_equal(histogram_percentile(&histogram, 99.9), 100);
    assert_int_equal(histogram_percentile(&histogram, 99.99), 1000000);
    assert_int_equal(histogram.max, 1000000);
}

static void histogram_empty_gives_zero(void **state)
{
    (void)state;
    assert_int_equal(histogram_percentile(&histogram, 50.0), 0);
}

static void median_of_odd_and_even_counts(void **state)
{
    static const double values[] = {9.0, 1.0, 5.0, 3.0};

    (void)state;
    assert_float_equal(stats_median(values, 1), 9.0, 0.0);
    assert_float_equal(stats_median(values, 3), 5.0, 0.0);
    assert_float_equal(stats_median(values, 4), 4.0, 0.0);
}

static void spread_of_known_values(void **state)
{
    static const double values[] = {1.0, 2.0, 3.0, 4.0, 100.0};
    const struct spread spread = stats_spread(values, 5);

    (void)state;
    assert_float_equal(spread.median, 3.0, 0.0);
    assert_float_equal(spread.min, 1.0, 0.0);
    assert_float_equal(spread.max, 100.0, 0.0);
    assert_float_equal(spread.mad, 1.0, 0.0);
    assert_int_equal(spread.count, 5);
    assert_int_equal(stats_spread(values, 0).count, 0);
}

/*
 * The machine slows down threefold on the way; the pairs do not notice, the ratio of the averages
 * would.
 */
static void paired_ratio_ignores_drift(void **state)
{
    static const double references[] = {100.0, 150.0, 200.0, 250.0, 300.0};
    static const double values[] = {90.0, 135.0, 180.0, 225.0, 900.0};
    const struct spread ratio = stats_paired_ratio(values, references, 5);

    (void)state;
    assert_float_equal(ratio.median, 0.9, 1e-9);
    assert_float_equal(ratio.min, 0.9, 1e-9);
    assert_float_equal(ratio.max, 3.0, 1e-9);
}

static void pattern_has_no_window_twice(void **state)
{
    uint8_t *pattern = pattern_create();
    uint8_t *seen = calloc(1, UINT64_C(1) << 29); /* one bit for every value of four bytes */
    unsigned doubles = 0;

    (void)state;
    assert_non_null(pattern);
    assert_non_null(seen);
    for (size_t i = 0; i < PATTERN_PERIOD; i++) {
        uint32_t word;

        memcpy(&word, pattern + i, sizeof(word));
        doubles += (seen[word / 8] >> (word % 8)) & 1u;
        seen[word / 8] |= (uint8_t)(1u << (word % 8));
    }
    /* 2^32 words, 2^16 windows: half a coincidence is expected. */
    assert_in_range(doubles, 0, 5);
    free(seen);
    free(pattern);
}

static void pattern_repeats_after_its_period(void **state)
{
    uint8_t *pattern = pattern_create();

    (void)state;
    assert_non_null(pattern);
    assert_memory_equal(pattern, pattern + PATTERN_PERIOD, PATTERN_PERIOD);
    assert_int_equal(pattern_advance(PATTERN_PERIOD - 1, 1), 0);
    assert_int_equal(pattern_advance(5, 3 * PATTERN_PERIOD), 5);
    free(pattern);
}

static void pattern_offset_differs_for_every_connection(void **state)
{
    static uint8_t used[PATTERN_PERIOD];

    (void)state;
    for (uint32_t i = 0; i < PATTERN_PERIOD; i++) {
        const uint32_t offset = pattern_offset(i);

        assert_int_equal(used[offset], 0);
        used[offset] = 1;
    }
}

static void number_refuses_what_is_not_one(void **state)
{
    static const char *const bad[] = {"",   " 1",   "1 ", "1x", "x",
                                      "+1", "0x10", "11", "-1", "99999999999999999999"};
    long value = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(number_parse(bad[i], 0, 10, &value));
    }
    assert_true(number_parse("10", 0, 10, &value));
    assert_int_equal(value, 10);
}

#define WORK_NS (20 * NS_PER_MS)

static uint64_t thread_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void *use_cpu(void *argument)
{
    const uint64_t end = thread_ns() + WORK_NS;

    while (thread_ns() < end) {
    }
    return argument;
}

/* Two threads work and end; then the process says so and sleeps until its parent hangs up. */
static _Noreturn void be_threaded(int ready_fd, int end_fd)
{
    char byte = 0;

    for (int i = 0; i < 2; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, use_cpu, NULL) != 0) {
            _exit(1);
        }
        pthread_join(thread, NULL);
    }
    if (write(ready_fd, &byte, 1) != 1) {
        _exit(1);
    }
    _exit(read(end_fd, &byte, 1) == 0 ? 0 : 1);
}

static void cpu_time_counts_ended_threads(void **state)
{
    int ready[2];
    int end[2];
    uint64_t used = 0;
    uint64_t again = 0;
    int status = 0;
    char byte;

    (void)state;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    const pid_t pid = fork();

    if (pid == 0) {
        close(end[1]);
        be_threaded(ready[1], end[0]);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(cpu_time_settled(pid, &used), 0);
    assert_int_equal(cpu_time_settled(pid, &again), 0);
    assert_true(used >= 2 * WORK_NS);
    assert_true(used < 4 * WORK_NS);
    assert_true(used == again);
    close(end[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    close(end[0]);
    close(ready[0]);
    close(ready[1]);
}

/* Of n values in order, how many of each end may be outside: 93.75 % and more stay inside. */
static void interval_leaves_out_what_a_coin_seldom_gives(void **state)
{
    static const struct {
        size_t count;
        size_t out;
    } expected[] = {{1, 0}, {5, 0}, {8, 0}, {9, 1}, {10, 1}, {12, 2}, {20, 5}, {100, 40}};
    double values[100];

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        values[i] = (double)i;
    }
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        const size_t count = expected[i].count;
        const struct spread spread = stats_spread(values, count);

        assert_true(spread.low == (double)expected[i].out);
        assert_true(spread.high == (double)(count - 1 - expected[i].out));
    }
}

static void verdict_needs_more_than_the_resolution(void **state)
{
    static const double same[] = {0.97, 0.99, 1.0, 1.01, 1.04};
    static const double higher[] = {1.03, 1.06, 1.05, 1.07, 1.02};
    static const double within[] = {1.01, 1.03, 1.03, 1.03, 1.02};
    static const double mixed[] = {0.98, 1.06, 1.05, 1.07, 1.08};
    static const double lower[] = {0.90, 0.91, 0.92, 0.93, 0.95};
    const struct spread resolution = stats_spread(same, 5);
    const struct spread ratios[] = {stats_spread(higher, 5), stats_spread(within, 5),
                                    stats_spread(mixed, 5), stats_spread(lower, 5),
                                    stats_spread(higher, 4)};

    (void)state;
    assert_true(fabs(stats_resolution(&resolution) - 0.04) < 1e-9);
    assert_int_equal(stats_verdict(&ratios[0], &resolution), VERDICT_MORE);
    assert_int_equal(stats_verdict(&ratios[1], &resolution), VERDICT_LEVEL);
    assert_int_equal(stats_verdict(&ratios[2], &resolution), VERDICT_LEVEL);
    assert_int_equal(stats_verdict(&ratios[3], &resolution), VERDICT_LESS);
    assert_int_equal(stats_verdict(&ratios[4], &resolution), VERDICT_NONE);
    assert_int_equal(stats_verdict(&resolution, &resolution), VERDICT_LEVEL);
}

/* A suite whose round takes as long as its cell's parameter says, for the estimates. */
static uint32_t parameter_ms(const struct settings *settings, const struct cell *cell,
                             const struct contender *contender)
{
    (void)settings;
    (void)contender;
    return cell->parameters[0];
}

struct settings suite_settings(const struct bench_options *options, const struct suite *suite)
{
    (void)options;
    return suite->settings[0];
}

static void estimate_rounds(const struct suite *suite, const struct cell *cell, uint32_t rounds,
                            struct estimate *out)
{
    struct sample samples[10] = {0};
    const struct sample_list list = {.items = samples, .count = rounds};

    for (uint32_t i = 0; i < rounds; i++) {
        samples[i] = (struct sample){.suite = suite, .cell = cell, .round = i};
    }
    estimate_suite(NULL, &list, suite, out);
}

static void estimate_counts_what_is_not_done(void **state)
{
    static const struct suite suite = {.estimate_ms = parameter_ms};
    static const struct suite other = {.estimate_ms = parameter_ms};
    static const struct cell cell = {.parameters = {100}};
    struct sample samples[] = {
        {.suite = &suite, .cell = &cell, .done = true},
        {.suite = &suite, .cell = &cell},
        {.suite = &other, .cell = &cell},
        {.suite = &suite, .cell = &cell, .round = 4},
    };
    const struct sample_list list = {.items = samples, .count = 4};
    struct estimate estimate;

    (void)state;
    estimate_suite(NULL, &list, &suite, &estimate);
    assert_int_equal(estimate.measurements, 2);
    assert_int_equal(estimate.first_round, 1);
    assert_int_equal(estimate.rounds, 5);
    assert_int_equal(estimate.all_ms, 200);
    assert_int_equal(estimate.least_ms, 100);
}

/* First three rounds for all, then five, then the rest; each time as much as there is. */
static void estimate_shares_give_everybody_the_first_rounds(void **state)
{
    static const struct suite suites[2] = {{.estimate_ms = parameter_ms},
                                           {.estimate_ms = parameter_ms}};
    static const struct cell long_cell = {.parameters = {1000}};
    static const struct cell short_cell = {.parameters = {10}};
    struct estimate estimates[2];

    (void)state;
    estimate_rounds(&suites[0], &long_cell, 9, &estimates[0]);
    estimate_rounds(&suites[1], &short_cell, 7, &estimates[1]);
    assert_int_equal(estimate_share_ms(estimates, 2, 1515), 1500);
    assert_int_equal(estimate_share_ms(estimates, 2, 3030), 3000);
    assert_int_equal(estimate_share_ms(estimates, 2, 5050), 5000);
    assert_int_equal(estimate_share_ms(estimates, 2, 9070), 9000);
    assert_in_range(estimate_share_ms(estimates, 2, 2 * 9070), 17990, 18000);
    assert_int_equal(estimate_share_ms(estimates + 1, 1, 70), 70);
}

/* Twice what one takes, but for one start, and the end of each slice of both: 2 x 60 / 12 of them. With a
 * lead half as much again, which has an end too. */
static void estimate_of_turns_has_both_and_the_ends_of_slices(void **state)
{
    static const struct settings settings = {.warmup_ms = 30, .duration_ms = 60};
    const uint32_t alone_ms = estimate_echo_ms(&settings, 64, 1, 1);

    (void)state;
    assert_int_equal(alone_ms, 90 + ESTIMATE_AROUND_MS);
    assert_int_equal(estimate_turns_ms(&settings, alone_ms, 0.0, 12, 0), 180 + ESTIMATE_AROUND_MS);
    assert_int_equal(estimate_turns_ms(&settings, alone_ms, 4.0, 12, 0),
                     180 + ESTIMATE_AROUND_MS + 30);
    assert_int_equal(estimate_turns_ms(&settings, alone_ms, 0.0, 12, 6000000),
                     180 + ESTIMATE_AROUND_MS + 60);
    assert_int_equal(estimate_turns_ms(&settings, alone_ms, 4.0, 12, 6000000),
                     180 + ESTIMATE_AROUND_MS + 60 + 2 * 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(histogram_bucket_contains_its_values),
        cmocka_unit_test(histogram_error_stays_below_one_percent),
        cmocka_unit_test(histogram_last_bucket_is_in_the_array),
        cmocka_unit_test_setup(histogram_percentiles_of_known_values, reset),
        cmocka_unit_test_setup(histogram_median_lies_inside_a_bucket, reset),
        cmocka_unit_test_setup(histogram_outlier_moves_only_the_top, reset),
        cmocka_unit_test_setup(histogram_empty_gives_zero, reset),
        cmocka_unit_test(median_of_odd_and_even_counts),
        cmocka_unit_test(spread_of_known_values),
        cmocka_unit_test(paired_ratio_ignores_drift),
        cmocka_unit_test(pattern_has_no_window_twice),
        cmocka_unit_test(pattern_repeats_after_its_period),
        cmocka_unit_test(pattern_offset_differs_for_every_connection),
        cmocka_unit_test(number_refuses_what_is_not_one),
        cmocka_unit_test(estimate_counts_what_is_not_done),
        cmocka_unit_test(estimate_shares_give_everybody_the_first_rounds),
        cmocka_unit_test(estimate_of_turns_has_both_and_the_ends_of_slices),
        cmocka_unit_test(interval_leaves_out_what_a_coin_seldom_gives),
        cmocka_unit_test(verdict_needs_more_than_the_resolution),
        cmocka_unit_test(cpu_time_counts_ended_threads),
    };

    return cmocka_run_group_tests_name("statistics", tests, NULL, NULL);
}
