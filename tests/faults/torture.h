/*
 * Torture: a case is run again and again, each time with one failure more: the first allocation is
 * refused, then the second ..., then the first socket(2) fails, the second ..., until the case has
 * come through without meeting the failure. On the operating system: torture.c; in virtual time, on
 * the simulated kernel: virtual.c. Both judge alike: judge.c.
 *
 *     GYRE_TORTURE=memory|calls|all   what is struck; unset: the program's usual main program
 *     GYRE_TORTURE_MS=N               about so long for each case (default 20,000); 0: every place
 *     GYRE_TORTURE_ONLY=TEXT          cases whose names contain this
 *     GYRE_TORTURE_STALLS=1           tell of each case that waits for ever, too
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
    uint64_t places_left_out;
};

/* Whether calls of this sort are struck, by GYRE_TORTURE. */
int torture_is_chosen(enum faults_call call);

/* Whether a case is run, by GYRE_TORTURE_ONLY. */
int torture_is_asked(const struct test_case *test);

/* GYRE_TORTURE_MS; 0: no limit. */
uint64_t torture_budget_ms(void);

/* What there is time for by that. */
struct torture_plan {
    uint64_t most; /* places of each (call, error); UINT64_MAX: all */
    uint64_t step; /* where there is not even time for one of each: of so many one */
    uint64_t come; /* pairs (call, error) that have come so far */
};

/* @counts: how often each call is made.  @took_ns: one injection. */
struct torture_plan torture_plan(const uint64_t *counts, uint64_t took_ns);

/* Whether the next pair (call, error) is tried at all. */
int torture_is_due(struct torture_plan *plan);

/* The places that are tried if there is time for @most of @count: 1, 2, ... for the first half, then
 * in even steps. Returns the one behind @place; from 0. */
uint64_t torture_next_place(uint64_t place, uint64_t count, uint64_t most);

/* A case that waits for ever: HANG, or STALLED where the error was one that it was told of. */
enum torture_end torture_hang(const char *name, enum faults_call call, int error);

/* Counts the end of an injection, and prints it if it is a defect, with what @output holds. */
void torture_count(struct torture_sum *sum, const char *name, enum torture_end end,
                   enum faults_call call, int error, uint64_t place, int output);

/* Counts a case that is left out and says why. */
void torture_leave_out(struct torture_sum *sum, const char *name, const char *why, int output);

/* Prints the sum. Returns the status of the program. */
int torture_summary(const struct torture_sum *sum, const char *module);

#endif
