/*
 * Torture: a case is run again and again, each time with one failure more: the first allocation is
 * refused, then the second ..., then the first socket(2) fails, the second ..., until the case has
 * come through without meeting the failure. On the operating system: torture.c; in virtual time, on
 * the simulated kernel: virtual.c. Both judge alike: judge.c.
 *
 *     GYRE_TORTURE=memory|calls|all   what is struck; unset: the program's usual main program
 *     GYRE_TORTURE_FIRST=N            what is struck of what repeats itself; see below
 *     GYRE_TORTURE_ONLY=TEXT          cases whose names contain this
 *     GYRE_TORTURE_STALLS=1           tell of each case that waits for ever, too
 *
 * A place is a call along a certain chain of callers (chain.c), with one of the errors that it can have.
 * Cases make thousands of calls, and most of these come along the same few chains. What fails at each
 * place is
 *
 *     in virtual time             the first call and the last, and besides, from wherever they come,
 *                                 the first N calls of each sort (default 32; 1 where a case makes
 *                                 more than 10,000 calls)
 *     on the operating system     the first N calls (default 1): each costs a run of the whole case
 *
 * The others are repetitions: they are left out, and counted.
 */
#ifndef GYRE_TESTS_FAULTS_TORTURE_H
#define GYRE_TESTS_FAULTS_TORTURE_H

#include "faults/faults.h"
#include "harness.h"

#include <stdio.h>

/*
 * Runs all cases whose names contain GYRE_TORTURE_ONLY, if that is set. @strict: 0: a case of the
 * conformance suite, whose own assertions expect success: that it ends early is no defect. 1: a case
 * that has to come to its end whatever fails. Prints a line for each case and each defect. Returns
 * the status of the program.
 */
int torture_run(const char *module, const struct test_case *cases, size_t count, int strict);

/* ---- judge.c ---- */

/* Where all is told. */
extern FILE *torture_report;

/* How an injection ended. */
enum torture_end {
    TORTURE_PASSED = 0, /* the case came to its end */
    TORTURE_EARLY,      /* an assertion of the case ended it */
    TORTURE_STALLED,    /* it waits for ever, and may: it was told of an error */
    TORTURE_CRASH,      /* from here on: defects */
    TORTURE_HANG,
    TORTURE_LEAK,
    TORTURE_FAILED, /* as EARLY, of a strict case */
};

struct torture_sum {
    uint64_t cases;
    uint64_t cases_left_out; /* skipped, or failing without a failure */
    uint64_t injections;
    uint64_t ends[TORTURE_FAILED + 1];
    uint64_t missed;          /* strikes that another run of the case did not come to */
    uint64_t places_left_out; /* calls along chains of which others were struck */
};

/* What fails: a call with an error, the @place-th along the chain, or of all if that is 0. */
struct torture_strike {
    enum faults_call call;
    int error;
    uint64_t place;
    uint64_t chain;
};

/* Whether calls of this sort are struck, by GYRE_TORTURE. */
int torture_is_chosen(enum faults_call call);

/* Whether a case is run, by GYRE_TORTURE_ONLY. */
int torture_is_asked(const struct test_case *test);

/* GYRE_TORTURE_FIRST, or @otherwise. */
uint64_t torture_first(uint64_t otherwise);

/* A case that waits for ever: HANG, or STALLED where the error was one that it was told of. */
enum torture_end torture_hang(const char *name, enum faults_call call, int error);

/* Counts the end of an injection, and prints it if it is a defect, with what @output holds. */
void torture_count(struct torture_sum *sum, const char *name, enum torture_end end,
                   const struct torture_strike *strike, int output);

/* Counts a case that is left out and says why. */
void torture_leave_out(struct torture_sum *sum, const char *name, const char *why, int output);

/* Prints the sum. Returns the status of the program. */
int torture_summary(const struct torture_sum *sum, const char *module);

#endif
