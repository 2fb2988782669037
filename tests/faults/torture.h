/*
 * Torture: a case is run again and again, each time with one failure more: the first allocation is
 * refused, then the second ..., then the first socket(2) fails, the second ..., until the case has
 * come through without meeting the failure. See torture.c.
 *
 *     GYRE_TORTURE=memory|calls|all   what is struck; unset: the program's usual main program
 *     GYRE_TORTURE_MS=N               about so long for each case (default 20,000); 0: every place
 */
#ifndef GYRE_TESTS_FAULTS_TORTURE_H
#define GYRE_TESTS_FAULTS_TORTURE_H

#include "harness.h"

/*
 * Runs all cases whose names contain GYRE_TORTURE_ONLY, if that is set. @strict: 0: a case of the
 * conformance suite, whose own assertions expect success: that it ends early is no defect. 1: a case
 * that has to come to its end whatever fails. Prints a line for each case and each defect. Returns
 * the status of the program.
 */
int torture_run(const char *module, const struct test_case *cases, size_t count, int strict);

#endif
