/*
 * Errors. Every function that can fail returns a negative errno value or one of the codes below;
 * completions carry the same numbers. The codes of gyre lie below -4096, where no errno can be
 * (the kernel's MAX_ERRNO is 4095), so the two never meet.
 */
#ifndef GYRE_ERROR_H
#define GYRE_ERROR_H

#include <errno.h>
#include <gyre/base.h>

GYRE_BEGIN

#define GYRE_ERROR_MAP(X)                                                                   \
    X(GYRE_ETHREAD, -4097, "called from a thread that does not own the loop")               \
    X(GYRE_EFORK, -4098, "the loop belongs to the parent of this forked process")           \
    X(GYRE_ENESTED, -4099, "the loop is already running; it cannot be run from a callback") \
    X(GYRE_ENOURING, -4100, "io_uring was demanded but is not available")                   \
    X(GYRE_EBACKEND, -4101, "GYRE_BACKEND must be auto, uring or epoll")                    \
    X(GYRE_ELOST, -4102, "the kernel lost completions; the loop cannot go on")              \
    X(GYRE_ECLOSING, -4103, "the descriptor is being closed")                               \
    X(GYRE_EUNBLOCKED, -4104, "a signal to be watched is not blocked in this thread")       \
    X(GYRE_ESIM, -4105, "the simulated run failed; gyre_sim_failure() says why")

/** enum gyre_error - the codes that errno has no word for; see GYRE_ERROR_MAP for the texts. */
enum gyre_error {
#define X(name, value, text) name = (value),
    GYRE_ERROR_MAP(X)
#undef X
};

/**
 * gyre_strerror() - what an error code of gyre or of errno says, in words.
 * @error: a negative result of any function or completion.
 * Returns: a string with process lifetime, never NULL; "no error" for values >= 0, "unknown
 *          error" for codes that neither errno nor gyre defines.
 * Thread: any.
 * Source: GYRE_ERROR_MAP; strerrordesc_np(3).
 */
GYRE_API const char *gyre_strerror(int error);

/**
 * gyre_error_name() - the symbolic name of an error code, such as "ECONNRESET" or "GYRE_ETHREAD".
 * @error: a negative result of any function or completion.
 * Returns: a string with process lifetime, never NULL; "OK" for values >= 0, "UNKNOWN" otherwise.
 * Thread: any.
 * Source: GYRE_ERROR_MAP; strerrorname_np(3).
 */
GYRE_API const char *gyre_error_name(int error);

GYRE_END

#endif
