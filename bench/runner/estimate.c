/*
 * How long a run takes, before it is made, and what of a given time each suite gets.
 *
 * A suite says what one measurement of it costs: the window, and what stands around it, which for
 * many connections is the larger part. The figures were noted on a machine with two CPUs; on
 * another they are off by the same factor everywhere, which the shares do not notice, and the run
 * itself goes by the clock.
 *
 * A median wants three rounds, a verdict five. So of the time all suites first get what their first
 * three take, then what the next two take, then what the rest takes. What is left when all that is
 * planned fits is divided too: the estimate may be wrong.
 */
#include "bench.h"
#include "clock.h"

static uint32_t sample_ms(const struct bench_options *options, const struct sample *sample)
{
    const struct settings settings = suite_settings(options, sample->suite);

    if (sample->suite->estimate_ms != NULL) {
        return sample->suite->estimate_ms(&settings, sample->cell, sample->contender);
    }
    return settings.warmup_ms + settings.duration_ms + ESTIMATE_AROUND_MS;
}

double estimate_flight_ms(uint32_t size, uint32_t connections, uint32_t depth)
{
    const double send_us = 8.0;
    const double message_us = 0.1 + (double)size / 1500.0;

    return (send_us + message_us * (double)depth) * (double)connections / 1e3;
}

/* Of estimate_flight_ms(), as measured. */
#define FLIGHT_SHARE 0.75

uint32_t estimate_echo_ms(const struct settings *settings, uint32_t size, uint32_t connections,
                          uint32_t depth)
{
    /* Opened, greeted and closed; what is in flight comes back at the end of warm-up and window. */
    const double opened_ms = 0.075 * (double)connections;
    const double flight_ms = FLIGHT_SHARE * estimate_flight_ms(size, connections, depth);

    return settings->warmup_ms + settings->duration_ms + ESTIMATE_AROUND_MS +
           (uint32_t)(opened_ms + 2.0 * flight_ms);
}

/* What stands around is not quite doubled. */
uint32_t estimate_turns_ms(const struct settings *settings, uint32_t alone_ms, double flight_ms,
                           uint32_t slice_ms, uint64_t lead_ns)
{
    const double slices = 2.0 * settings->duration_ms / slice_ms;
    const double back_ms = FLIGHT_SHARE * flight_ms;
    const double lead_ms = lead_ns > 0 ? (double)lead_ns / NS_PER_MS + back_ms : 0.0;

    return 2 * alone_ms - ESTIMATE_AROUND_MS + (uint32_t)((lead_ms + back_ms) * slices);
}

/* What the rounds from..to take. */
static uint64_t rounds_ms(const struct estimate *estimate, uint32_t from, uint32_t to)
{
    uint64_t sum = 0;

    for (uint32_t round = from; round < to; round++) {
        sum += estimate->round_ms[round];
    }
    return sum;
}

void estimate_suite(const struct bench_options *options, const struct sample_list *list,
                    const struct suite *suite, struct estimate *out)
{
    *out = (struct estimate){.suite = suite};
    for (size_t i = 0; i < list->count; i++) {
        const struct sample *sample = &list->items[i];

        if (sample->suite != suite || sample->done) {
            continue;
        }
        const uint32_t ms = sample_ms(options, sample);

        out->rounds = sample->round + 1;
        out->measurements++;
        out->first_round += sample->round == 0;
        out->round_ms[sample->round] += ms;
        out->all_ms += ms;
    }
    out->least_ms = rounds_ms(out, 0, BENCH_ROUNDS_LEAST);
}

/* As much of @whole as @part is of @sum. */
static uint64_t portion(uint64_t whole, uint64_t part, uint64_t sum)
{
    return sum == 0 ? 0 : (uint64_t)((double)whole * (double)part / (double)sum);
}

uint64_t estimate_share_ms(const struct estimate *estimates, size_t count, uint64_t left_ms)
{
    static const uint32_t steps[] = {0, BENCH_ROUNDS_LEAST, BENCH_ROUNDS_VERDICT, BENCH_ROUNDS_MAX};
    uint64_t share_ms = 0;

    for (size_t step = 0; step + 1 < sizeof(steps) / sizeof(steps[0]); step++) {
        const uint64_t own_ms = rounds_ms(&estimates[0], steps[step], steps[step + 1]);
        uint64_t sum_ms = 0;

        for (size_t i = 0; i < count; i++) {
            sum_ms += rounds_ms(&estimates[i], steps[step], steps[step + 1]);
        }
        if (left_ms < sum_ms) {
            return share_ms + portion(left_ms, own_ms, sum_ms);
        }
        share_ms += own_ms;
        left_ms -= sum_ms;
    }
    return share_ms + portion(left_ms, share_ms, estimate_total_ms(estimates, count));
}

/* How many rounds fit into a time, by the same rule as in run.c: none is begun that would not. */
static uint32_t rounds_that_fit(const struct estimate *estimate, uint64_t share_ms,
                                uint64_t *out_used_ms)
{
    uint32_t rounds = 0;

    *out_used_ms = 0;
    while (rounds < estimate->rounds && *out_used_ms + estimate->round_ms[rounds] <= share_ms) {
        *out_used_ms += estimate->round_ms[rounds++];
    }
    return rounds;
}

bool estimate_print(const struct bench_options *options, const struct estimate *estimates,
                    size_t count)
{
    const uint64_t limit_ms =
        options->minutes == 0 ? UINT64_MAX / 4 : (uint64_t)options->minutes * 60000;
    uint64_t left_ms = limit_ms;
    size_t measurements = 0;
    bool fits = true;

    printf("%-8s %16s %10s %8s %14s %10s\n", "suite", "a round has", "seconds", "planned",
           "rounds that fit", "seconds");
    for (size_t i = 0; i < count; i++) {
        const struct estimate *e = &estimates[i];
        const uint32_t least = e->rounds < BENCH_ROUNDS_LEAST ? e->rounds : BENCH_ROUNDS_LEAST;
        uint64_t used_ms = 0;
        const uint32_t rounds =
            rounds_that_fit(e, estimate_share_ms(e, count - i, left_ms), &used_ms);

        printf("%-8s %16zu %10.1f %8u %14u%s %10.1f\n", e->suite->name, e->first_round,
               (double)e->round_ms[0] / 1e3, e->rounds, rounds, rounds < least ? "!" : " ",
               (double)used_ms / 1e3);
        fits &= rounds >= least;
        left_ms -= used_ms;
        measurements += e->measurements;
    }
    printf("\nabout %.1f minutes; all %zu measurements planned would take %.1f\n",
           (double)(limit_ms - left_ms) / 6e4, measurements,
           (double)estimate_total_ms(estimates, count) / 6e4);
    if (!fits) {
        printf("! fewer than the %u rounds that a median wants\n", BENCH_ROUNDS_LEAST);
    }
    return fits;
}

uint64_t estimate_total_ms(const struct estimate *estimates, size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        sum += estimates[i].all_ms;
    }
    return sum;
}
