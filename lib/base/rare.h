/*
 * What the compiler is told of functions on and beside the path of a message. The library is compiled
 * as one unit, so a function with one caller is inlined into it; and a caller that every message runs
 * then saves registers and builds a frame for what it hardly ever does. That was a tenth of its
 * instructions.
 */
#ifndef GYRE_BASE_RARE_H
#define GYRE_BASE_RARE_H

/* Few messages call it: it is kept out of what calls it, and may be slow to reach. */
#define GYRE__RARE __attribute__((noinline, cold))

/* Kept out of what calls it, though some programs call it often. */
#define GYRE__APART __attribute__((noinline))

/* Inlined wherever it is called, so that its constant arguments are known in it. */
#define GYRE__INLINE inline __attribute__((always_inline))

#endif
