/*
 * AddressSanitizer sees what the program reads and writes, not what the kernel does: a completion
 * that lands in freed memory goes unnoticed (tests/asan shows it). In sanitizer builds the drivers
 * therefore ask, for every address they hand to the kernel and again when it comes back, whether it
 * is poisoned; and the pool poisons its free blocks. Elsewhere all of this is nothing.
 */
#ifndef GYRE_BASE_POISON_H
#define GYRE_BASE_POISON_H

#include "base/assert.h"

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define GYRE__ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GYRE__ASAN 1
#endif
#endif

#if defined(GYRE__ASAN)
#include <sanitizer/asan_interface.h>

static inline void gyre__poison(const void *memory, size_t len)
{
    __asan_poison_memory_region(memory, len);
}

static inline void gyre__unpoison(const void *memory, size_t len)
{
    __asan_unpoison_memory_region(memory, len);
}

/* The memory is the caller's to lend: not freed, not out of scope. */
static inline void gyre__check_memory(const void *memory, size_t len)
{
    gyre_assert(len == 0 || __asan_region_is_poisoned((void *)(size_t)memory, len) == NULL);
}
#else
static inline void gyre__poison(const void *memory, size_t len)
{
    (void)memory;
    (void)len;
}

static inline void gyre__unpoison(const void *memory, size_t len)
{
    (void)memory;
    (void)len;
}

static inline void gyre__check_memory(const void *memory, size_t len)
{
    (void)memory;
    (void)len;
}
#endif

#endif
