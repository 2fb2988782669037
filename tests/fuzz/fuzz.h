/*
 * Fuzz targets. Each is one file with one function, which libFuzzer calls with inputs it invents,
 * and replay.c with those kept in corpus/. It aborts on what must not be.
 */
#ifndef GYRE_TESTS_FUZZ_H
#define GYRE_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* As assert(3), in every build. */
#define FUZZ_EXPECT(condition) \
    do {                       \
        if (!(condition)) {    \
            abort();           \
        }                      \
    } while (0)

/* The target: one input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input as text: it ends where the input ends, or at a zero byte in it. To be freed. */
static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    FUZZ_EXPECT(text != NULL);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)data[i];
    }
    text[size] = '\0';
    return text;
}

#endif
