/*
 * A talk: one stream in a test, and all that became of it. Its callbacks count what happens, assert
 * what must hold for every stream, check received bytes (see wire.h), and then hand over to the
 * test, if it asked. A call is a talk over one end of a pair of sockets; the other end is the
 * test's. A host is a listener and the talks that it accepted.
 */
#ifndef GYRE_TESTS_NET_TALK_H
#define GYRE_TESTS_NET_TALK_H

#include "harness.h"

enum talk_event {
    TALK_OPEN,
    TALK_DATA,
    TALK_EOF,
    TALK_DRAIN,
    TALK_TIMEOUT,
    TALK_CLOSE,
    TALK_RELEASE, /* of talk_write_ref() */
    TALK_EVENTS,
};

struct talk;
struct host;

typedef void (*talk_fn)(struct talk *talk);

struct talk {
    struct gyre_stream own;
    struct gyre_stream *stream;         /* that, or the accepted one; NULL behind on_close() */
    struct gyre_stream_handler handler; /* with all callbacks; change it before the stream opens */
    talk_fn then[TALK_EVENTS];
    int count[TALK_EVENTS];
    uint64_t at[TALK_EVENTS];      /* when it last happened */
    const struct gyre_lease *data; /* in TALK_DATA */
    enum gyre_stream_timeout which;
    int error;         /* of on_close() */
    uint64_t received; /* bytes */
    uint64_t position; /* of the first of them in its wire stream */
    uint64_t written;  /* bytes, by talk_write() and talk_write_ref() */
    int unchecked;     /* what comes is not a wire stream */
    int quiet;         /* nothing may be received now: paused */
    int ending;        /* close or reset was asked for: only on_close() may come */
    struct host *host;
    void *context; /* the test's own */
};

/* Makes storage a talk that has not begun. */
void talk_init(struct talk *talk);

void talk_adopt(struct talk *talk, struct gyre_loop *loop, int number);
void talk_connect(struct talk *talk, struct gyre_loop *loop, const struct gyre_addr *to);

/* Close and reset, after which nothing but on_close() may come. */
void talk_close(struct talk *talk);
void talk_reset(struct talk *talk);

/* Pause and resume, between which nothing may be received. */
void talk_pause(struct talk *talk);
void talk_resume(struct talk *talk);

/* The next @len bytes of the wire stream that begins at 0, copied. Returns what the write does. */
int talk_write(struct talk *talk, size_t len);

/* As that, from memory that TALK_RELEASE releases. */
int talk_write_ref(struct talk *talk, size_t len);

/* Turns until on_close(); returns its error. */
int talk_end(struct gyre_loop *loop, struct talk *talk);

/* Turns until the event has happened @goal times. */
void talk_until(struct gyre_loop *loop, const struct talk *talk, enum talk_event event, int goal);

/* Turns until so many bytes were received. */
void talk_until_received(struct gyre_loop *loop, const struct talk *talk, uint64_t goal);

/* Turns while reading and checking what comes at the peer, until @len bytes did. */
void talk_until_sent(struct gyre_loop *loop, int peer, size_t len, uint64_t position);

/* Blocks the thread, as a callback that takes long does. */
void talk_spin(uint64_t span_ns);

struct call {
    struct gyre_loop *loop;
    struct talk talk;
    int peer; /* -1: closed */
};

/* @pair_of: test_unix_pair or test_tcp_pair. The talk has not begun: call->talk.handler and then[]
 * can be changed. */
void call_prepare(struct call *call, void (*pair_of)(int pair[2]), int *out_number);

/* All of it: on return the stream is open. */
void call_open(struct call *call, void (*pair_of)(int pair[2]));

/* Closes the stream if it is not closed, the peer and the loop. */
void call_end(struct call *call);

void call_close_peer(struct call *call);

struct host {
    struct gyre_loop *loop;
    struct gyre_listener listener;
    struct gyre_listener_options options;
    struct gyre_stream_handler handler;
    struct gyre_addr address;
    talk_fn then[TALK_EVENTS]; /* of each talk */
    struct talk *talks;        /* in the order of their coming */
    int capacity;
    int opened;
    int ended;  /* talks */
    int closes; /* of the listener */
    int error;
};

/* The loop and the defaults; options and handler can be changed. @capacity: talks at most. */
void host_prepare(struct host *host, int capacity);

/* Listens on 127.0.0.1 and a free port, or at @address. */
void host_listen(struct host *host, const char *address);

/* Both. */
void host_open(struct host *host, int capacity);

/* A blocking socket that is connected, or soon will be. */
int host_dial(const struct host *host);

/* Turns until the listener has ended. */
void host_close(struct host *host);

/* Closes everything: streams by reset, the listener, the loop. */
void host_end(struct host *host);

#endif
