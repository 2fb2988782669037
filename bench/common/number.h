/*
 * Strict numbers from the command line.
 */
#ifndef BENCH_NUMBER_H
#define BENCH_NUMBER_H

#include <argp.h>
#include <stdbool.h>

/**
 * number_parse() - a decimal number, nothing before or after it.
 * Returns: true when @text is one in @min..@max, which is then in @out_value.
 */
bool number_parse(const char *text, long min, long max, long *out_value);

/** number_argument() - the number of an option; ends the program by argp_error() when it is none. */
long number_argument(const char *text, long min, long max, struct argp_state *state);

#endif
