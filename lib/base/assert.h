/*
 * gyre_assert() stays in release builds: it guards what only a bug, the caller's or ours, can
 * break. The library does not print, so the message is left where a debugger and a core file find
 * it.
 */
#ifndef GYRE_BASE_ASSERT_H
#define GYRE_BASE_ASSERT_H

#define gyre_assert(condition)                                   \
    do {                                                         \
        if (__builtin_expect(!(condition), 0)) {                 \
            gyre__assert_failed(#condition, __FILE__, __LINE__); \
        }                                                        \
    } while (0)

_Noreturn void gyre__assert_failed(const char *condition, const char *file, int line);

#endif
