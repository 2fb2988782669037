/*
 * Loads that take turns.
 *
 * A machine with other guests is not the same a third of a second later. So two servers are compared
 * in short slices, A B B A: each has a load of its own, connected and warmed up, and one of the loads
 * at a time is told to go on. What it is told, and what it says:
 *
 *     out: ready            it may be told
 *     in:  a line           measure one slice
 *     out: slice NS NS      done: CPU time of the server for each message of it, and the median
 *                           time of a message (0: not known)
 *     in:  end of file      no more; the result follows as without turns, a sum over the slices
 *
 * In between nothing is in flight, and load and server sleep; one that polls does so for a while.
 *
 * While the other was served, a server's code and what it keeps for its connections have left the caches;
 * after a slice of its own they have not. So gyre-load, whose connections last, first goes on for half a
 * slice that is not measured; not with so many that nothing would stay there, where it would take long.
 */
#ifndef BENCH_TURNS_H
#define BENCH_TURNS_H

#include <stdbool.h>
#include <stdint.h>

/* Of the option --slice-ms. */
#define TURNS_TEXT "measure in slices of this length, one for each line on standard input"

/* Why there is no result. */
#define TURNS_NONE "no slice was asked for"

/* Connections from which on there is no lead. */
#define TURNS_LEAD_BELOW 4096u

/** turns_lead_ns() - what comes before a slice and is not measured; 0: nothing does. */
static inline uint64_t turns_lead_ns(uint32_t slice_ms, uint32_t connections)
{
    return connections < TURNS_LEAD_BELOW ? (uint64_t)slice_ms * 500000 : 0;
}

/** turns_ready() - say that the load can begin. */
void turns_ready(void);

/** turns_next() - wait to be told. Returns: false at the end. */
bool turns_next(void);

/** turns_done() - say what a slice took: @cpu_ns of the server for @count messages; their median. */
void turns_done(uint64_t cpu_ns, uint64_t count, double median_ns);

#endif
