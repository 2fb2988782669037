/*
 * Strict numbers from the command line.
 */
#include "number.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

bool number_parse(const char *text, long min, long max, long *out_value)
{
    char *end = NULL;

    if (!isdigit((unsigned char)text[0]) && text[0] != '-') {
        return false;
    }
    errno = 0;
    const long value = strtol(text, &end, 10);

    if (errno != 0 || *end != '\0' || value < min || value > max) {
        return false;
    }
    *out_value = value;
    return true;
}

long number_argument(const char *text, long min, long max, struct argp_state *state)
{
    long value = 0;

    if (!number_parse(text, min, max, &value)) {
        argp_error(state, "'%s' is not a number in %ld..%ld", text, min, max);
    }
    return value;
}
