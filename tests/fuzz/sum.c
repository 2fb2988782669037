/*
 * The sums of the example udp-calculator: a second reader of the same grammar, which computes with
 * 128 bits, comes to the same.
 */
#include "fuzz.h"

#include "calculate.h"

#include <string.h>

/* Wider than the sums, so that nothing overflows. */
__extension__ typedef __int128 wide;

static const char *skip(const char *at)
{
    return at + strspn(at, " \t\n\v\f\r");
}

/* Returns what is behind the number, or NULL. One that fits into no sum is 2^64. */
static const char *read_number(const char *at, wide *out_number)
{
    const wide beyond = (wide)1 << 64;
    int negative;

    at = skip(at);
    negative = *at == '-';
    at += *at == '-' || *at == '+';
    if (*at < '0' || *at > '9') {
        return NULL;
    }
    for (*out_number = 0; *at >= '0' && *at <= '9'; at++) {
        *out_number = *out_number * 10 + (*at - '0');
        *out_number = *out_number > beyond ? beyond : *out_number;
    }
    *out_number = negative ? -*out_number : *out_number;
    return at;
}

static const char *read_mark(const char *at, const char *allowed, char *out_mark)
{
    at = at != NULL ? skip(at) : NULL;
    if (at == NULL || *at == '\0' || strchr(allowed, *at) == NULL) {
        return NULL;
    }
    *out_mark = *at;
    return at + 1;
}

struct sum {
    wide left;
    wide right;
    char operation;
};

/* Whether the text is a sum. */
static int read_sum(const char *text, struct sum *sum)
{
    const char *at = skip(text);
    char mark;

    if (*at == '(') {
        at = read_mark(read_mark(at + 1, "+-*/", &sum->operation), ",", &mark);
        at = at != NULL ? read_mark(read_number(at, &sum->left), ",", &mark) : NULL;
        at = at != NULL ? read_mark(read_number(at, &sum->right), ")", &mark) : NULL;
    } else {
        at = read_mark(read_number(at, &sum->left), "+-*/", &sum->operation);
        at = at != NULL ? read_number(at, &sum->right) : NULL;
    }
    return at != NULL && *skip(at) == '\0';
}

static int fits(wide number)
{
    return number >= INT64_MIN && number <= INT64_MAX;
}

/* Whether it has a result that fits. */
static int compute(const struct sum *sum, wide *out_result)
{
    if (!fits(sum->left) || !fits(sum->right) || (sum->operation == '/' && sum->right == 0)) {
        return 0;
    }
    switch (sum->operation) {
    case '+':
        *out_result = sum->left + sum->right;
        break;
    case '-':
        *out_result = sum->left - sum->right;
        break;
    case '*':
        *out_result = sum->left * sum->right;
        break;
    default:
        *out_result = sum->left / sum->right;
    }
    return fits(*out_result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = fuzz_text(data, size);
    struct sum sum = {0};
    wide expected = 0;
    int64_t result = 0;
    const int valid = read_sum(text, &sum) && compute(&sum, &expected);
    const char *trouble = calculate(text, &result);

    FUZZ_EXPECT((trouble == NULL) == valid);
    FUZZ_EXPECT(trouble != NULL ? trouble[0] != '\0' : result == expected);
    free(text);
    return 0;
}
