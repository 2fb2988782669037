/*
 * The sums of udp-calculator; see calculate.h.
 *
 * Each take_...() function reads one part of the text, moves the cursor behind it, and returns
 * whether it was there. The text comes from anybody, so nothing is assumed of it but its
 * terminating zero.
 */
#include "calculate.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What a sum is made of. */
struct sum {
    int64_t left;
    int64_t right;
    char operation;
    bool out_of_range; /* a number does not fit */
};

static void skip_space(const char **cursor)
{
    while (isspace((unsigned char)**cursor)) {
        (*cursor)++;
    }
}

static bool take(const char **cursor, char wanted)
{
    skip_space(cursor);
    if (**cursor != wanted) {
        return false;
    }
    (*cursor)++;
    return true;
}

static bool take_operator(const char **cursor, struct sum *sum)
{
    skip_space(cursor);
    if (**cursor == '\0' || strchr("+-*/", **cursor) == NULL) {
        return false;
    }
    sum->operation = *(*cursor)++;
    return true;
}

/* A number may have a sign, right before its digits. */
static bool take_number(const char **cursor, struct sum *sum, int64_t *out_number)
{
    const char *digits;
    char *end = NULL;

    skip_space(cursor);
    digits = *cursor + (**cursor == '+' || **cursor == '-');
    if (!isdigit((unsigned char)*digits)) {
        return false;
    }
    errno = 0;
    *out_number = strtoll(*cursor, &end, 10);
    sum->out_of_range |= errno == ERANGE;
    *cursor = end;
    return true;
}

/* 5 + 6 */
static bool take_infix(const char **cursor, struct sum *sum)
{
    return take_number(cursor, sum, &sum->left) && take_operator(cursor, sum) &&
           take_number(cursor, sum, &sum->right);
}

/* (+, 5, 6) */
static bool take_prefix(const char **cursor, struct sum *sum)
{
    return take(cursor, '(') && take_operator(cursor, sum) && take(cursor, ',') &&
           take_number(cursor, sum, &sum->left) && take(cursor, ',') &&
           take_number(cursor, sum, &sum->right) && take(cursor, ')');
}

/* Overflow of a signed number is undefined in C, so it must not happen, rather than be noticed. */
static const char *compute(const struct sum *sum, int64_t *out_result)
{
    bool overflow = false;

    switch (sum->operation) {
    case '+':
        overflow = __builtin_add_overflow(sum->left, sum->right, out_result);
        break;
    case '-':
        overflow = __builtin_sub_overflow(sum->left, sum->right, out_result);
        break;
    case '*':
        overflow = __builtin_mul_overflow(sum->left, sum->right, out_result);
        break;
    default:
        if (sum->right == 0) {
            return "division by zero";
        }
        overflow = sum->left == INT64_MIN && sum->right == -1; /* the one quotient too large */
        *out_result = overflow ? 0 : sum->left / sum->right;
    }
    return overflow ? "the result is out of range" : NULL;
}

const char *calculate(const char *text, int64_t *out_result)
{
    struct sum sum = {.out_of_range = false};
    const char *cursor = text;
    bool found;

    skip_space(&cursor);
    found = *cursor == '(' ? take_prefix(&cursor, &sum) : take_infix(&cursor, &sum);
    skip_space(&cursor);
    if (!found) {
        return "this is no sum; write 5 + 6 or (+, 5, 6)";
    }
    if (*cursor != '\0') {
        return "there is something behind the sum";
    }
    if (sum.out_of_range) {
        return "a number is out of range";
    }
    return compute(&sum, out_result);
}
