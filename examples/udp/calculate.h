/*
 * The sums of udp-calculator: two whole numbers and one of + - * /, written "5 + 6" or "(+, 5, 6)".
 */
#ifndef CALCULATE_H
#define CALCULATE_H

#include <stdint.h>

/*
 * Computes the sum that is the text, all of it but for white space around its parts.
 * Returns NULL, and sets *out_result; or what is wrong, in words.
 */
const char *calculate(const char *text, int64_t *out_result);

#endif
