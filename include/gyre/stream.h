/*
 * Streams: connections over TCP and Unix sockets. A stream is opened (by a listener, by connecting,
 * or from a connected socket), calls back with what happens, and is closed; the last callback is
 * always on_close(), once, whatever ended it. It receives by itself and holds no memory for that
 * while nothing arrives.
 *
 *     connect() --> CONNECTING --on_open()--> OPEN --close(), or on_eof() and none given--> CLOSING
 *                       |                      |        the queue leaves, then the peer's end
 *                       |                      |        or the deadline is waited for
 *                       +--failure, reset(), deadline---> everything ends ---> on_close()
 *
 * Sending never blocks and never calls back from within: bytes are queued, in order. What is
 * written in one turn leaves in one system call or submission, mostly. Three ways, one queue:
 *  - gyre_stream_write() copies; the caller's memory is free at once;
 *  - gyre_stream_write_ref() sends from the caller's memory and says when it is done with it;
 *  - gyre_stream_forward() sends received bytes from where they lie.
 *
 * Memory is bounded: above write_high the stream asks to slow down (gyre_stream_writable() is 0
 * until on_drain()), above write_cap it refuses. gyre_stream_couple() makes one stream's queue pause
 * the reading of another, which is what a proxy needs.
 *
 * An open stream keeps gyre_loop_run() going, also one that is paused.
 *
 * All functions: loop thread only. Those that start, change or end something say GYRE_ETHREAD to
 * another thread; those that only tell something do not look.
 */
#ifndef GYRE_STREAM_H
#define GYRE_STREAM_H

#include <gyre/addr.h>
#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/fd.h>
#include <gyre/op.h>
#include <gyre/pool.h>

GYRE_BEGIN

struct gyre_listener;
struct gyre_loop;
struct gyre_stream;
struct ucred;

#define GYRE_NEVER           UINT64_MAX /* as a timeout: none */
#define GYRE_DESCRIPTORS_MAX 253        /* in one message: SCM_MAX_FD, unix(7) */

/** enum gyre_stream_timeout - which of a stream's times ran out. */
enum gyre_stream_timeout {
    GYRE_TIMEOUT_CONNECT, /* not connected in time; on_close() only, no on_timeout() */
    GYRE_TIMEOUT_FIRST,   /* the peer has sent nothing since the stream opened */
    GYRE_TIMEOUT_IDLE,    /* nothing moved, either way */
    GYRE_TIMEOUT_WRITE,   /* bytes are queued and the peer took none of them */
    GYRE_TIMEOUT_TOTAL,   /* total_timeout_ns, or the moment of gyre_stream_set_deadline() */
    GYRE_TIMEOUT_CLOSE,   /* closing took too long; on_close() only, no on_timeout() */
};

/* gyre_stream_handler.flags */
#define GYRE_STREAM_NAGLE       (1u << 0) /* leave TCP_NODELAY off */
#define GYRE_STREAM_DESCRIPTORS (1u << 1) /* Unix: take descriptors that the peer sends */

/**
 * struct gyre_stream_handler - what streams of one kind do, and their limits. Every callback may be
 * NULL and every number 0, which means its default.
 * @on_open: connected, or accepted. Writing, pausing and closing are allowed from here on.
 * @on_data: bytes came; valid during the call, or retain them (gyre_lease_retain()). NULL: dropped.
 * @on_eof: the peer sends no more; what is written still reaches it, until gyre_stream_close().
 *     NULL: the stream is closed, after what is queued has left.
 * @on_drain: the queue, once above write_high, is down to write_low.
 * @on_timeout: a time ran out. A stream that is still open when it returns is reset, with
 *     -ETIMEDOUT; it may send a last word and close instead. NULL: reset.
 * @on_descriptors: Unix: descriptors came with the bytes of the next on_data(). Those that are to
 *     be kept are taken by gyre_stream_take_descriptors(); the others are closed when it returns.
 *     @count 0: the peer sent some, but this process could not hold all of them, and has none.
 * @on_close: the last call. @error: 0 when it was closed as asked, or by the peer and on_eof was
 *     NULL; else what ended it: -ECONNREFUSED, -ECONNRESET, -ETIMEDOUT, -EPIPE, -ENOMEM ...
 *     The stream's memory is the caller's again; an accepted stream's is reused on return.
 * @connect_timeout_ns: until connected; default 30 s.  @first_timeout_ns: from on_open() to the
 *     first byte of the peer; default none.  @idle_timeout_ns: without a byte moved either way;
 *     default none.  @write_timeout_ns: with bytes queued of which none are taken; default none.
 *     @total_timeout_ns: from on_open(); default none.  @close_timeout_ns: from gyre_stream_close()
 *     to its end; default 10 s; also for a stream that
 *     cannot send any more, until it ends.  All: nanoseconds, GYRE_NEVER for none; never early, but
 *     that what moved counts from gyre_loop_now(), the beginning of its turn; late by up to
 *     2 ms and the length of a turn, and while bytes are queued by a quarter.
 * @write_high, @write_low: bytes queued at which the stream asks to slow down, and to go on;
 *     defaults 256 KiB, and half of @write_high.  @write_cap: bytes that the queue can hold at all;
 *     default 4 MiB, or twice @write_high if that is more; at most INT32_MAX.
 * @flags: GYRE_STREAM_*.
 * Ownership: the caller's; must outlive the streams that use it.   Thread: the loop's.
 * Returns: (a type).   Limits: timeouts up to 26 days, longer ones are none (total_timeout_ns: no limit).
 * Source: docs/streams.md.
 */
struct gyre_stream_handler {
    void (*on_open)(struct gyre_stream *stream);
    void (*on_data)(struct gyre_stream *stream, const struct gyre_lease *data);
    void (*on_eof)(struct gyre_stream *stream);
    void (*on_drain)(struct gyre_stream *stream);
    void (*on_timeout)(struct gyre_stream *stream, enum gyre_stream_timeout which);
    void (*on_descriptors)(struct gyre_stream *stream, size_t count);
    void (*on_close)(struct gyre_stream *stream, int error);
    uint64_t connect_timeout_ns;
    uint64_t first_timeout_ns;
    uint64_t idle_timeout_ns;
    uint64_t write_timeout_ns;
    uint64_t total_timeout_ns;
    uint64_t close_timeout_ns;
    uint32_t write_high;
    uint32_t write_low;
    uint32_t write_cap;
    uint32_t flags;
};

struct gyre__flow;

/**
 * struct gyre_stream - a connection; all fields are private.
 * Ownership: the caller's storage for streams that connect or adopt, which must not move or be
 * freed from then until on_close(); the listener's for streams that it accepted.
 * Thread: the loop's.   Returns: (a type).   Limits: 216 bytes on x86-64; what a stream needs only
 * while it sends comes from memory that the streams of a loop share.
 * Source: docs/streams.md.
 */
struct gyre_stream {
    struct gyre_fd fd;
    struct gyre_op recv;
    const struct gyre_stream_handler *handler;
    struct gyre__flow *flow;
    uint64_t deadline_ns;
    uint32_t opened;
    uint32_t active;
    uint16_t flags;
    int16_t error;
    uint16_t place;
    uint8_t state;
};

/**
 * gyre_stream_connect() - open a stream to an address.
 * @stream: storage.  @loop: where.  @to: an IP or Unix address.  @handler: see there.
 * Returns: 0, and on_open() or on_close() will tell; -EINVAL; -EAFNOSUPPORT; -EMFILE, -ENFILE,
 *          -ENOMEM, GYRE_ETHREAD, GYRE_EFORK; others of socket(2), getsockopt(2).
 * Thread: loop thread only.   Limits: connect_timeout_ns. What is written before on_open() leaves
 *          after it.
 * Source: connect(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_connect(struct gyre_stream *stream, struct gyre_loop *loop,
                                                 const struct gyre_addr *to,
                                                 const struct gyre_stream_handler *handler);

/**
 * gyre_stream_connect_with() - as gyre_stream_connect(), with a socket that the caller made: bound
 *                              to a source address, or with options of its own.
 * @number: a stream socket, not connected, close-on-exec.
 * Returns: as gyre_stream_connect(), and -EBADF, -ENOTSOCK, others of getsockopt(2), -EPROTOTYPE
 *          (not a stream). On failure @number stays the caller's.
 * Ownership: @number belongs to the stream.   Thread: loop thread only.
 * Source: connect(2), bind(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_connect_with(struct gyre_stream *stream,
                                                      struct gyre_loop *loop, int number,
                                                      const struct gyre_addr *to,
                                                      const struct gyre_stream_handler *handler);

/**
 * gyre_stream_adopt() - open a stream on a connected socket: one of a pair, or inherited.
 * @stream: storage.  @loop: where.  @number: a connected stream socket, close-on-exec.
 * @handler: see there. on_open() is called as for any other.
 * Returns: 0; -EINVAL; -EBADF, -ENOTSOCK, others of getsockopt(2); -EPROTOTYPE (not a stream);
 *          -ENOMEM; GYRE_ETHREAD; GYRE_EFORK. On failure @number stays the caller's.
 * Ownership: @number belongs to the stream.   Thread: loop thread only.
 * Source: socketpair(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_adopt(struct gyre_stream *stream, struct gyre_loop *loop,
                                               int number,
                                               const struct gyre_stream_handler *handler);

/**
 * gyre_stream_write() - queue bytes to send, copied.
 * @stream: open or connecting.  @data, @len: 0..INT32_MAX bytes; the caller's again on return.
 * Returns: bytes queued now (>= 0); -EINVAL; -ENOTCONN (not open, or being closed); -EPIPE (after
 *          gyre_stream_shutdown(), or when a send has failed: what ends the stream is told to
 *          on_close()); -ENOBUFS (it would exceed write_cap; nothing is queued); -ENOMEM (nothing
 *          is queued); GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.   Limits: write_cap of the handler.
 * Source: send(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_write(struct gyre_stream *stream, const void *data,
                                               size_t len);

/**
 * gyre_release_fn - memory lent by gyre_stream_write_ref() is the caller's again: its bytes have
 *                   left, or never will.
 * @context: as given.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch(), before
 * on_close().
 * Source: docs/streams.md.
 */
typedef void (*gyre_release_fn)(void *context);

/**
 * gyre_stream_write_ref() - queue bytes to send from where they lie.
 * @stream: as gyre_stream_write().  @data, @len: 1..INT32_MAX bytes, lent until @release.  @release: called once; NULL
 *          for memory that is never freed.  @context: handed to @release.
 * Returns: as gyre_stream_write(); if it is < 0, @release is not called.
 * Thread: loop thread only.   Limits: write_cap of the handler.
 * Source: send(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_write_ref(struct gyre_stream *stream, const void *data,
                                                   size_t len, gyre_release_fn release,
                                                   void *context);

/**
 * gyre_stream_forward() - queue received bytes to send, not copied.
 * @stream: as gyre_stream_write().  @data: what on_data() got, of this or another stream of the
 *          same loop, or a retained lease, which stays the caller's to release.
 * Returns: as gyre_stream_write(). Later, in on_close(): -ENOMEM, if the socket did not take all at
 *          once and there was no memory to keep the rest.
 * Thread: loop thread only.   Limits: write_cap of the handler; and the sender's pool_quota: who
 *          sends faster than the bytes leave is not read from meanwhile.
 * Source: docs/pool.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_forward(struct gyre_stream *stream,
                                                 const struct gyre_lease *data);

/**
 * gyre_stream_write_descriptors() - queue bytes to send, copied, and descriptors with them.
 * @stream: of a Unix socket.  @data, @len: at least 1 byte, with whose first the descriptors go.
 * @numbers, @count: 1..GYRE_DESCRIPTORS_MAX descriptors; duplicated, so they may be closed at once.
 * Returns: as gyre_stream_write(), and -EOPNOTSUPP (not a Unix socket), -EBADF, -EMFILE, others of
 *          getsockopt(2).
 * Thread: loop thread only.   Limits: the peer may refuse (-ETOOMANYREFS ends the stream).
 * Source: unix(7) SCM_RIGHTS.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_write_descriptors(struct gyre_stream *stream,
                                                           const void *data, size_t len,
                                                           const int *numbers, size_t count);

/**
 * gyre_stream_take_descriptors() - in on_descriptors(): take descriptors that came.
 * @stream: the stream.  @numbers, @count: room for so many; they are close-on-exec.
 * Returns: how many were set, from the first not yet taken; -EINVAL.
 * Ownership: the caller's to close.   Thread: loop thread only.
 * Source: unix(7) SCM_RIGHTS; recvmsg(2) MSG_CMSG_CLOEXEC.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_take_descriptors(struct gyre_stream *stream, int *numbers,
                                                          size_t count);

/**
 * gyre_stream_queued() - bytes written that have not left for the kernel, or of which that is not known.
 * @stream: any.
 * Returns: bytes; 0 when closed.   Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API size_t gyre_stream_queued(const struct gyre_stream *stream);

/**
 * gyre_stream_writable() - whether the stream takes more without asking to slow down.
 * @stream: any.
 * Returns: 1, or 0 from the moment its queue exceeds write_high until on_drain(), and when it is not
 *          open.
 * Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API int gyre_stream_writable(const struct gyre_stream *stream);

/**
 * gyre_stream_pause() - stop reading; the peer is slowed down by TCP.
 * @stream: open or connecting. Pausing twice is pausing once.
 * Returns: 0; -ENOTCONN; GYRE_ETHREAD; GYRE_EFORK. No on_data() and on_eof() until
 *          gyre_stream_resume(); what came already is kept for then.
 * Thread: loop thread only.   Limits: holds what was under way: one receive, or on io_uring what the
 *          ring of the pool had room for (less than pool_min).
 * Source: docs/streams.md.
 */
GYRE_API int gyre_stream_pause(struct gyre_stream *stream);

/**
 * gyre_stream_resume() - read again after gyre_stream_pause().
 * @stream: as there. Resuming what is not paused does nothing.
 * Returns: 0; -ENOTCONN; -ENOMEM (still paused); GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only. What was kept comes from the loop, not from within this call.
 * Source: docs/streams.md.
 */
GYRE_API int gyre_stream_resume(struct gyre_stream *stream);

/**
 * gyre_stream_couple() - let the queue of each of two streams pause the reading of the other:
 *                        above write_high, until write_low.
 * @a, @b: open or connecting streams of one loop; not coupled yet; may be the same (an echo).
 * Returns: 0; -EINVAL; -ENOTCONN; -EBUSY (coupled already); -ENOMEM; GYRE_ETHREAD; GYRE_EFORK. It
 *          ends with the first of the two: then the other reads on.
 * Thread: loop thread only. Independent of gyre_stream_pause(): reading goes on when neither holds
 *          it up.
 * Source: docs/streams.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_couple(struct gyre_stream *a, struct gyre_stream *b);

/**
 * gyre_stream_shutdown() - send no more: when the queue has left, the peer sees the end. Reading
 *                          goes on.
 * @stream: open or connecting. Twice is once.
 * Returns: 0; -ENOTCONN; GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only.
 * Source: shutdown(2) SHUT_WR; RFC 9293 section 3.6.
 */
GYRE_API int gyre_stream_shutdown(struct gyre_stream *stream);

/**
 * gyre_stream_close() - end a stream in order: what is queued leaves, the peer sees the end, its own
 *                       end is waited for (what it still sends is dropped), on_close().
 * @stream: open or connecting. Closing twice is closing once. While connecting: ends at once,
 *          and what was written is dropped.
 * Returns: 0; -EINVAL (not a stream that was opened); GYRE_ETHREAD; GYRE_EFORK. No on_data(),
 *          on_eof(), on_drain() or on_timeout() after this call.
 * Thread: loop thread only.   Limits: close_timeout_ns for all of it; if something is still queued
 *          then, as gyre_stream_reset() with -ETIMEDOUT.
 * Source: docs/contract.md, line 5; RFC 9293 section 3.6; RFC 1122 section 4.2.2.13 says why the
 *         peer's end is waited for: data that arrives after close(2) resets the connection, and the
 *         peer can lose what it had not read.
 */
GYRE_API int gyre_stream_close(struct gyre_stream *stream);

/**
 * gyre_stream_reset() - end a stream now: what is queued is dropped, a TCP peer sees a reset,
 *                       on_close() follows soon.
 * @stream: open, connecting, or closing.
 * Returns: as gyre_stream_close().
 * Thread: loop thread only.
 * Source: socket(7) SO_LINGER; RFC 9293 section 3.5.3.
 */
GYRE_API int gyre_stream_reset(struct gyre_stream *stream);

/**
 * gyre_stream_set_deadline() - choose the moment of GYRE_TIMEOUT_TOTAL, for example for one request.
 * @stream: open or connecting.  @deadline_ns: of CLOCK_MONOTONIC, see gyre_loop_now(); GYRE_NEVER:
 *          none. Replaces total_timeout_ns of the handler.
 * Returns: 0; -ENOTCONN; GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only.   Limits: O(1); later moments cost nothing at all.
 * Source: docs/streams.md.
 */
GYRE_API int gyre_stream_set_deadline(struct gyre_stream *stream, uint64_t deadline_ns);

/**
 * gyre_stream_set_handler() - hand a stream over to another handler, from its next callback on.
 * @stream: open or connecting.  @handler: must outlive the stream; its times count from now.
 *          Its flags are those of the handler with which the stream was opened.
 * Returns: 0; -EINVAL; -ENOTCONN; GYRE_ETHREAD; GYRE_EFORK.
 * Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_set_handler(struct gyre_stream *stream,
                                                     const struct gyre_stream_handler *handler);

/**
 * gyre_stream_number() - the socket, for options (gyre/sockopt.h) and the like.
 * @stream: opened.
 * Returns: the descriptor, the stream's; -EBADF.   Thread: loop thread only.
 * Source: docs/sockopt.md.
 */
GYRE_API int gyre_stream_number(const struct gyre_stream *stream);

/**
 * gyre_stream_local() - the address of this end, as gyre_addr_local().
 * @stream: opened.  @out_addr: set to it.
 * Returns: 0, -EINVAL, -EBADF (in on_close() the socket is closed: keep what is to be logged).
 * Thread: loop thread only.
 * Source: getsockname(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_local(const struct gyre_stream *stream,
                                               struct gyre_addr *out_addr);

/**
 * gyre_stream_peer() - the address of the other end, as gyre_addr_peer().
 * @stream: open.  @out_addr: set to it.
 * Returns: 0, -EINVAL, -EBADF (as gyre_stream_local()), -ENOTCONN.   Thread: loop thread only.
 * Source: getpeername(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_peer(const struct gyre_stream *stream,
                                              struct gyre_addr *out_addr);

/**
 * gyre_stream_loop() - the loop that a stream is on.
 * @stream: opened.
 * Returns: the loop.   Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API struct gyre_loop *gyre_stream_loop(const struct gyre_stream *stream);

/**
 * gyre_stream_listener() - the listener that accepted a stream.
 * @stream: opened.
 * Returns: the listener; NULL for other streams.   Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API struct gyre_listener *gyre_stream_listener(const struct gyre_stream *stream);

/**
 * gyre_stream_ext() - the application's own bytes behind an accepted stream.
 * @stream: accepted by a listener with an ext_size.
 * Returns: ext_size bytes, aligned for any type, zeroed when the stream opens; NULL for other
 *          streams.
 * Thread: loop thread only.   Ownership: the stream's, until on_close() returns.
 * Source: docs/streams.md.
 */
GYRE_API void *gyre_stream_ext(const struct gyre_stream *stream);

/**
 * gyre_stream_of_ext() - the stream before its own bytes: the way back of gyre_stream_ext().
 * @ext: what gyre_stream_ext() returned.
 * Returns: the stream.   Thread: any.
 * Source: docs/streams.md.
 */
GYRE_API struct gyre_stream *gyre_stream_of_ext(void *ext);

/**
 * gyre_stream_peer_credentials() - who is at the other end of a Unix socket.
 * @stream: opened.  @out_credentials: process, user and group when it connected or listened.
 * Returns: 0; -EINVAL; -EBADF; -EOPNOTSUPP (not a Unix socket); others of getsockopt(2).
 * Limits: struct ucred needs _GNU_SOURCE, defined before the first include.
 * Thread: loop thread only.
 * Source: unix(7) SO_PEERCRED.
 */
GYRE_API GYRE_MUST_CHECK int gyre_stream_peer_credentials(const struct gyre_stream *stream,
                                                          struct ucred *out_credentials);

GYRE_END

#endif
