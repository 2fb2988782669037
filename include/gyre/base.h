/* What every public header needs: linkage, attributes, container_of. */
#ifndef GYRE_BASE_H
#define GYRE_BASE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
#define GYRE_BEGIN extern "C" {
#define GYRE_END   }
#else
#define GYRE_BEGIN
#define GYRE_END
#endif

#define GYRE_API        __attribute__((visibility("default")))
#define GYRE_MUST_CHECK __attribute__((warn_unused_result))

/* Which argument is a format of printf(3), and which is the first that it is about; from 1. */
#define GYRE_PRINTF(at, first) __attribute__((format(printf, at, first)))

#define GYRE_USEC UINT64_C(1000)       /* nanoseconds in a microsecond */
#define GYRE_MSEC UINT64_C(1000000)    /* nanoseconds in a millisecond */
#define GYRE_SEC  UINT64_C(1000000000) /* nanoseconds in a second */

/* gyre_container_of() - the object of @type whose @member @ptr points to. */
#define gyre_container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* A place in one of the library's intrusive lists. Never touched by the caller. */
struct gyre_link {
    struct gyre_link *prev;
    struct gyre_link *next;
};

/* Something on its way back to its loop from another thread. Never touched by the caller. */
struct gyre_return {
    struct gyre_return *next;
    void (*arrive)(struct gyre_return *back);
};

/* What an object asks the loop to do at the end of the turn. Never touched by the caller. */
struct gyre_task {
    struct gyre_link link;
    void (*run)(struct gyre_task *task);
};

#endif
