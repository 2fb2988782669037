/*
 * Two servers in turns.
 *
 * Both run and are connected; while one is measured, the other has nothing in flight and sleeps. A
 * turn takes some milliseconds, and the order is A B, B A, A B and so on: two slices of a pair lie
 * side by side, so what the machine does to one it mostly does to the other, and a drift favours
 * neither. Two runs one after the other are hundreds of milliseconds apart, and a machine with other
 * guests is not the same for so long.
 *
 * What a change of turns costs, caches that have gone cold, is the same for both.
 */
#include "load.h"

static int slice(struct duel *duel, bool own, double *out_cost_ns)
{
    return load_slice(own ? &duel->own : &duel->rival, out_cost_ns);
}

static int pair(struct duel *duel, bool own_first)
{
    double costs[2];

    if (slice(duel, own_first, &costs[own_first ? 0 : 1]) < 0 ||
        slice(duel, !own_first, &costs[own_first ? 1 : 0]) < 0) {
        return -1;
    }
    if (costs[1] > 0.0) {
        duel->ratios[duel->pairs++] = costs[0] / costs[1];
    }
    return 0;
}

static int run(struct duel *duel, const struct load_options *options)
{
    const uint32_t wanted = (options->duration_ms + options->slice_ms - 1) / options->slice_ms;
    const uint32_t pairs = wanted < DUEL_PAIRS_MAX ? wanted : DUEL_PAIRS_MAX;

    if (load_open(&duel->own, options) < 0 || load_open(&duel->rival, &duel->rival_options) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        if (pair(duel, i % 2 == 0) < 0) {
            return -1;
        }
    }
    return load_end(&duel->own) < 0 || load_end(&duel->rival) < 0 ? -1 : 0;
}

int duel_run(struct duel *duel, const struct load_options *options)
{
    duel->rival_options = *options;
    duel->rival_options.port = options->rival_port;
    duel->rival_options.server_pid = options->rival_pid;
    if (run(duel, options) == 0) {
        return 0;
    }
    if (duel->rival.failure != LOAD_OK) {
        load_fail(&duel->own, duel->rival.failure, "the rival: %s", duel->rival.failure_text);
    }
    return -1;
}
