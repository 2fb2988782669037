/*
 * What the counting program and the library that it preloads share: one page of memory, whose
 * descriptor the library finds in its environment.
 */
#ifndef COUNTS_COUNTS_H
#define COUNTS_COUNTS_H

#include <stdint.h>

#define COUNTS_VARIABLE "GYRE_BENCH_COUNTS_FD"

struct counts {
    _Atomic uint64_t allocations; /* malloc, calloc, realloc and the aligned ones */
    _Atomic uint64_t frees;
};

#endif
