/*
 * The completion queues of a traced program: how many completions io_uring has put there.
 *
 * A program tells nobody what it takes from its rings, but the kernel counts what it puts there, in memory
 * that both share. Where that lies is seen when the ring is set up and mapped.
 */
#ifndef BENCH_COUNTS_RINGS_H
#define BENCH_COUNTS_RINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * rings_returned() - thread @id of the program returns from a system call.
 * @call, @arguments: as it entered.  @result: what it gets.
 */
void rings_returned(pid_t id, uint64_t call, const uint64_t arguments[6], int64_t result);

/**
 * rings_completed() - completions until the last call seen.
 * Returns: whether they are known: all rings could be read.
 */
bool rings_completed(uint64_t *out_count);

#endif
