/*
 * What the bulk servers share. A bulk server answers each RECEIVE bytes of a connection with the next
 * REPLY bytes of the pattern (load/pattern.h), from its beginning: large and small is an upload,
 * small and large a download, large and large both at once.
 */
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include "../load/pattern.h"

#include "echo/common.h"

#include <stddef.h>

struct stream_options {
    struct echo_options echo;
    uint32_t receive;
    uint32_t reply;
    const char *backend; /* of gyre */
};

/* How far a connection is. */
struct stream_state {
    uint32_t received; /* of the current request */
    uint32_t at;       /* in the pattern: the next byte to reply */
    uint64_t owed;     /* bytes of replies that have not been handed over */
};

/* stream_parse() - ends the program when the options are wrong. */
void stream_parse(int argc, char **argv, const char *doc, struct stream_options *out_options);

/* stream_received() - note @len bytes; what is owed grows by the requests that they complete. */
static inline void stream_received(struct stream_state *state, const struct stream_options *options,
                                   size_t len)
{
    const uint64_t total = state->received + (uint64_t)len;

    state->owed += total / options->receive * options->reply;
    state->received = (uint32_t)(total % options->receive);
}

/* stream_span() - how much can be sent from one place of the pattern. */
static inline uint32_t stream_span(const struct stream_state *state)
{
    return state->owed < PATTERN_SPAN ? (uint32_t)state->owed : PATTERN_SPAN;
}

/* stream_sent() - note that @len owed bytes were handed over. */
static inline void stream_sent(struct stream_state *state, uint32_t len)
{
    state->owed -= len;
    state->at = pattern_advance(state->at, len);
}

#endif
