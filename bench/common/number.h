/*
 * Strict numbers from the command line.
 */
#ifndef BENCH_NUMBER_H
#define BENCH_NUMBER_H

#include <stdbool.h>

/**
 * number_parse() - a decimal number, nothing before or after it.
 * Returns: true when @text is one in @min..@max, which is then in @out_value.
 */
bool number_parse(const char *text, long min, long max, long *out_value);

#endif
