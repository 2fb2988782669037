/* The insides of streams. stream.c: how they open, receive, and end; send.c: how they send. */
#ifndef GYRE_NET_STREAM_H
#define GYRE_NET_STREAM_H

#include "base/assert.h"
#include "base/rare.h"
#include "core/loop.h"
#include "core/op.h"
#include "core/task.h"
#include "net/net.h"

#include <gyre/stream.h>

enum gyre__stream_state {
    GYRE__STREAM_NONE = 0,   /* not opened, or on_close() has been called */
    GYRE__STREAM_CONNECTING, /* or adopted, and on_open() to come */
    GYRE__STREAM_OPEN,
    GYRE__STREAM_CLOSING,   /* gyre_stream_close(): the queue has to leave */
    GYRE__STREAM_LINGERING, /* shut down: the peer's end has to come */
    GYRE__STREAM_ENDING,    /* its operations have to end */
    GYRE__STREAM_CLOSED,    /* close(2) is under way */
    GYRE__STREAM_STATE_COUNT
};

/* gyre_stream.flags */
#define GYRE__STREAM_PAUSED   (1u << 0)  /* by gyre_stream_pause() */
#define GYRE__STREAM_HELD     (1u << 1)  /* by the queue of the stream it is coupled with */
#define GYRE__STREAM_HEARD    (1u << 2)  /* the peer has sent something */
#define GYRE__STREAM_ENDED    (1u << 3)  /* the peer's end, or an error, came: nothing more will */
#define GYRE__STREAM_TOLD     (1u << 4)  /* ... and has been passed on */
#define GYRE__STREAM_SHUT     (1u << 5)  /* gyre_stream_shutdown(), or closing */
#define GYRE__STREAM_SHUTDOWN (1u << 6)  /* ... and shutdown(2) has been called */
#define GYRE__STREAM_FULL     (1u << 7)  /* the queue was above write_high */
#define GYRE__STREAM_RESET    (1u << 8)  /* the peer shall see a reset */
#define GYRE__STREAM_ACCEPTED (1u << 9)  /* it lives in its listener's nursery */
#define GYRE__STREAM_BROKEN   (1u << 10) /* sending failed; what the peer sent is still read */

#define GYRE__STREAM_INSIDE (1u << 11) /* in its on_data(), after which its queue is sent */

#define GYRE__STREAM_DEADLINE (1u << 12) /* gyre_stream_set_deadline() has chosen one, or none */

#define GYRE__STREAM_FIN (1u << 13) /* with ENDED: in order, not by an error */

#define GYRE__STREAM_SHORT (1u << 14) /* a send ended early: its error may have been swallowed */

#define GYRE__STREAM_GONE (1u << 15) /* the peer has reset it: nothing is left to be reset */

#define GYRE__STREAM_QUIET (GYRE__STREAM_PAUSED | GYRE__STREAM_HELD)

/* What a chunk counts for at least, however few its bytes: a queue of many is bounded too. */
#define GYRE__CHUNK_LEAST   64
#define GYRE__ACKED_UNKNOWN UINT64_MAX

enum gyre__chunk_kind {
    GYRE__CHUNK_COPY,
    GYRE__CHUNK_REF,
    GYRE__CHUNK_LEASE,
};

/* Bytes that were copied to be sent, those of several chunks. */
struct gyre__buffer {
    uint32_t chunks;
    uint32_t used;
    uint8_t bytes[4096 - 8];
};

/* A piece of a send queue; or, received while the stream was paused, of the stash. */
struct gyre__chunk {
    struct gyre__chunk *next;
    const uint8_t *data;
    uint32_t len;
    uint16_t kind;
    uint16_t weight;             /* what it counts for beyond its bytes */
    struct gyre__passed *passed; /* descriptors that go with its first byte, or NULL */
    union {
        struct gyre__buffer *buffer;
        struct gyre_lease lease;
        struct {
            gyre_release_fn fn;
            void *context;
        } release;
    };
};

struct gyre__chunks {
    struct gyre__chunk *first;
    struct gyre__chunk *last;
};

/*
 * What a stream needs only while it has something to send, is paused with bytes in hand, or is
 * coupled. A stream without it has an empty queue.
 */
struct gyre__flow {
    struct gyre_stream *stream; /* first, where the slab writes too: set whenever it is taken */
    struct gyre_task flush;
    struct gyre__chunks queue;
    struct gyre__chunks stash;
    struct gyre__buffer *filling; /* the last buffer of the queue, which may have room; or NULL */
    uint32_t weight;              /* of the chunks in the queue, beyond their bytes */
    uint32_t queued;              /* bytes in the queue */
    uint32_t sending;             /* of them, with the send operation, or silently on their way */
    struct gyre__parcel *parcel;  /* of a connect, or of a send of several pieces */
    struct gyre_stream *coupled;  /* its reading stops while this queue is full */
    uint64_t progress_ns;         /* when the queue last got shorter, or ceased to be empty */
    uint64_t acked;               /* what the kernel then said of it */
    struct gyre_op send;
};

/* Operations that point at more than fits into a flow. */
struct gyre__parcel {
    union {
        struct gyre_msg_op msg;
        struct gyre_connect_op connect;
    };
    struct gyre__flow *flow;
};

static inline void gyre__stream_be_active(struct gyre_stream *stream)
{
    stream->active = (uint32_t)(stream->fd.loop->now_ns >> 20);
}

/* ---- send.c ---- */

/* The stream's, taken from the loop's if it has none; NULL: no memory. */
struct gyre__flow *gyre__flow_of(struct gyre_stream *stream);

/* Give it back when nothing needs it. */
void gyre__flow_settle(struct gyre_stream *stream);

/* Everything that it holds is dropped; callbacks that release memory run. */
void gyre__flow_drop(struct gyre_stream *stream);

/* Send what is queued, if nothing is being sent. Runs no callbacks. */
void gyre__flow_flush(struct gyre__flow *flow);

/* The same, from the loop: what can be sent at once is, and callbacks may run. Returns 1 if it leaves
 * when the loop sleeps, and no time has to be watched until then. */
int gyre__flow_push(struct gyre_stream *stream);

/* Behind an on_data() that has written. @is_news: the queue was empty before. */
GYRE__APART void gyre__flow_push_written(struct gyre_stream *stream, int is_news);

/* Behind an on_data() that has forwarded what it was given, and nothing else. Where it can leave
 * silently it has to be held until that is known; returns 0 if it could not be queued. */
GYRE__APART int gyre__flow_push_lease(struct gyre_stream *stream, const struct gyre_lease *lease);

/* It was sent from where it lies, and @res came of it: not all has left, or an end waits for that. */
GYRE__RARE void gyre__flow_sent_loan(struct gyre_stream *stream, const struct gyre_lease *lease,
                                     int res);

/* Slab constructors. */
void gyre__flow_construct(void *memory);
void gyre__parcel_construct(void *memory);

enum gyre__stash_end { GYRE__STASH_LAST, GYRE__STASH_FIRST };

/* Bytes received while the stream is paused, behind the others, or before them. Returns 0 or
 * -ENOMEM. */
int gyre__flow_stash(struct gyre_stream *stream, const struct gyre_lease *lease,
                     enum gyre__stash_end end);

/* The oldest of them, the caller's to release. Returns 1, or 0 when there is none. */
int gyre__flow_unstash(struct gyre_stream *stream, struct gyre_lease *out_lease);

static inline int gyre__flow_stashes(const struct gyre_stream *stream)
{
    return stream->flow != NULL && stream->flow->stash.first != NULL;
}

/* Drop it: nobody will want it. */
void gyre__flow_drop_stash(struct gyre_stream *stream);

/* Note progress if the peer has taken bytes of a send that is under way since the last look. */
void gyre__flow_look(struct gyre_stream *stream);

/* The stream ends: the one it is coupled with reads on. */
void gyre__flow_uncouple(struct gyre_stream *stream);

static inline int gyre__stream_sends(const struct gyre_stream *stream)
{
    return stream->flow != NULL && stream->flow->queued > 0;
}

/* The kernel has some of it, or what became of that is not known. */
static inline int gyre__stream_is_sending(const struct gyre_stream *stream)
{
    return stream->flow != NULL && stream->flow->sending != 0;
}

/* In its on_data(), which has forwarded what it was given: that is sent when it returns, and until
 * then is in no queue. Nothing else is. */
static inline int gyre__stream_has_loan(const struct gyre_stream *stream)
{
    return (stream->flags & GYRE__STREAM_INSIDE) && stream->fd.loop->net->loan != NULL;
}

/* ---- stream.c ---- */

/* An option of SOL_SOCKET, or an error. */
int gyre__socket_ask(int number, int option);

/* 0 for a Unix socket, over which descriptors can be passed; -EOPNOTSUPP; or an error. */
int gyre__socket_check_unix(int number);

/* GYRE__FD_CONTROL for a socket on which descriptors are wanted and can come, 0 for others, or an
 * error. */
int gyre__stream_control(int number, const struct gyre_stream_handler *handler);

/* Make storage a stream on a socket that is a stream socket. Returns 0 or an error. */
int gyre__stream_init(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                      const struct gyre_stream_handler *handler);

/* As that, for a blocking socket that accept(2) just returned, of the kind that @fd_flags say; it is
 * in a nursery page, at stream->place. */
int gyre__stream_accept(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                        uint16_t fd_flags, const struct gyre_stream_handler *handler);

/* From the loop: it is connected; on_open(). */
void gyre__stream_opened(struct gyre_stream *stream);

/* Its queue has ceased to be empty: see that it moves. */
GYRE__APART void gyre__stream_watch_queue(struct gyre_stream *stream);

/* As that, if a time depends on it. */
static inline void gyre__stream_watch_sending(struct gyre_stream *stream)
{
    if (stream->handler->write_timeout_ns != 0 || stream->handler->idle_timeout_ns != 0) {
        gyre__stream_watch_queue(stream);
    }
}

/* It cannot go on: ends with @error, dropping what is queued. */
void gyre__stream_fail(struct gyre_stream *stream, int error);

/* Sending failed. What the peer has sent before it went away, its reason perhaps, is still read. */
void gyre__stream_broken(struct gyre_stream *stream, int error);

/* The queue has left. */
void gyre__stream_flushed(struct gyre_stream *stream);

/* One of its operations has ended: go on with ending, if it is. */
void gyre__stream_step(struct gyre_stream *stream);

/* Reading may have become allowed, or not. Returns 0 or -ENOMEM. */
int gyre__stream_read_on(struct gyre_stream *stream);

/* ---- listener.c ---- */

/* An accepted stream has ended and on_close() returned: its memory goes back. */
void gyre__nursery_return(struct gyre_stream *stream);

#endif
