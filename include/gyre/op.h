/*
 * Operations. An operation is started, and completes: its callback gets the result. Nothing is ever
 * "ready". The operation lives in the caller's storage and allocates nothing.
 *
 *     IDLE --start()--> ACTIVE --final callback--> IDLE      (multishot: any number of results
 *                          |                                  with GYRE_MORE before the final one)
 *                          +--gyre_op_cancel(), deadline: the final result comes sooner
 *
 * The contract, each line of which has a test (docs/contract.md):
 *  - a start function that returns < 0 did nothing and its callback never runs; if it returns 0 the
 *    callback runs exactly once without GYRE_MORE;
 *  - callbacks run only from gyre_loop_run() or gyre_loop_dispatch(), never from inside start,
 *    cancel or close;
 *  - cancel is a request: what won the race is delivered (bytes, a new descriptor);
 *  - in its final callback an operation is free: start it again, free it, close its descriptor;
 *  - buffers belong to the library from start to the final callback;
 *  - short transfers, -EINTR and -EAGAIN are the library's business.
 *
 * Every start function can return, and does nothing when it does: -EINVAL (an argument is NULL or
 * out of range, the operation or the descriptor was not initialised), -EBUSY (the operation is
 * active), GYRE_ECLOSING (the descriptor is being closed), -ENOMEM (no memory for the loop's table
 * of operations; never from gyre_op_close()), GYRE_ETHREAD and GYRE_EFORK. What else can go wrong
 * arrives as the result.
 */
#ifndef GYRE_OP_H
#define GYRE_OP_H

#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/fd.h>
#include <gyre/pool.h>
#include <gyre/timer.h>
#include <sys/socket.h>

GYRE_BEGIN

struct gyre_loop;
struct gyre_op;

/* Flags of start functions. */
#define GYRE_MULTISHOT      (1u << 0) /* accept, recv_lease, poll: results until it is ended */
#define GYRE_WAITALL        (1u << 1) /* recv, recvmsg: short only at the end or on error */
#define GYRE_CLOSE_FLUSH    (1u << 2) /* close: let the writes already started end first */
#define GYRE_CLOSE_SHUTDOWN (1u << 3) /* close: shutdown(2) both directions before */

/* Flags of results. */
#define GYRE_MORE (1u << 0) /* not the final result: the operation goes on */

#define GYRE_IOV_MAX        16         /* pieces of one recvmsg or sendmsg */
#define GYRE_OFFSET_CURRENT UINT64_MAX /* read, write: the file's own position */

/** enum gyre_op_kind - the kinds of operation, as counted in struct gyre_loop_stats. */
enum gyre_op_kind {
    GYRE_OP_NOP,
    GYRE_OP_TIMEOUT,
    GYRE_OP_POLL,
    GYRE_OP_ACCEPT,
    GYRE_OP_CONNECT,
    GYRE_OP_RECV,
    GYRE_OP_RECV_LEASE,
    GYRE_OP_SEND,
    GYRE_OP_RECVMSG,
    GYRE_OP_SENDMSG,
    GYRE_OP_READ,
    GYRE_OP_WRITE,
    GYRE_OP_CLOSE,
    GYRE_OP_KIND_COUNT
};

/**
 * struct gyre_result - what a completion says.
 * @res: >= 0: bytes, a new descriptor, poll events or 0; < 0: an error.
 * @flags: GYRE_MORE or 0.
 * @lease: recv_lease with @res > 0: the bytes, valid during the callback; see gyre_lease_retain().
 *         Otherwise NULL.
 * Returns: (a type).   Thread: the loop's, during the callback.
 * Source: docs/ops.md.
 */
struct gyre_result {
    int32_t res;
    uint32_t flags;
    const struct gyre_lease *lease;
};

/**
 * gyre_op_fn - a result of an operation.
 * @op: the operation. Without GYRE_MORE in @result->flags it is idle now, and the caller's again.
 * @result: valid during the call.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch() only.
 * Source: docs/contract.md, lines 1, 2 and 4.
 */
typedef void (*gyre_op_fn)(struct gyre_op *op, const struct gyre_result *result);

/**
 * struct gyre_op - one asynchronous operation; all fields are private.
 * Ownership: the caller's; must not move or be freed while active. Reusable for any kind of
 * operation after its final callback.   Thread: the loop's.   Returns: (a type).
 * Source: docs/ops.md.
 */
struct gyre_op {
    gyre_op_fn fn;
    struct gyre_loop *loop;
    struct gyre_fd *fd;
    struct gyre_link fd_link;
    struct gyre_link link;
    uint32_t slot;
    uint32_t generation;
    uint8_t kind;
    uint8_t state;
    uint16_t flags;
    int32_t result;
    union {
        struct {
            uint8_t *data;
            uint64_t offset;
        } io;
        struct {
            uint32_t events;
        } poll;
        struct {
            uint32_t most;
            uint32_t turn;
        } accept;
        struct {
            uint32_t over_turn;
        } lease;
        struct {
            uint64_t moment_ns;
        } timeout;
    } arg;
    uint32_t len;
    uint32_t done;
    struct gyre_alarm alarm;
};

/**
 * struct gyre_connect_op - a connect operation with room for the address.
 * @op: the operation; its callback finds the rest with gyre_container_of().
 * Ownership: as struct gyre_op; the other fields are private.   Thread: the loop's.
 * Returns: (a type).   Source: connect(2); io_uring_prep_connect(3).
 */
struct gyre_connect_op {
    struct gyre_op op;
    socklen_t address_len;
    struct sockaddr_storage address;
};

/**
 * struct gyre_msg_op - a recvmsg or sendmsg operation with room for what it points at.
 * @op: the operation.
 * @msg: after a recvmsg: msg_name (pointing at @address), msg_namelen, msg_controllen and msg_flags
 *       as recvmsg(2) leaves them. Private while active.
 * Ownership: as struct gyre_op. The caller's iovec array and address are copied at start; the bytes
 * and the control buffer are borrowed until the final callback.   Thread: the loop's.
 * Returns: (a type).   Limits: GYRE_IOV_MAX pieces.   Source: recvmsg(2), sendmsg(2).
 */
struct gyre_msg_op {
    struct gyre_op op;
    struct msghdr msg;
    struct iovec iov[GYRE_IOV_MAX];
    struct sockaddr_storage address;
};

/**
 * gyre_op_init() - make storage an idle operation.
 * @op: storage, not an active operation.  @fn: called with every result.
 * Returns: nothing.   Thread: any, before the operation is started.
 * Source: docs/ops.md.
 */
GYRE_API void gyre_op_init(struct gyre_op *op, gyre_op_fn fn);

/**
 * gyre_op_active() - whether the final callback is still to come.
 * @op: initialised.
 * Returns: 1 or 0.   Thread: loop thread only.
 * Source: docs/ops.md.
 */
GYRE_API int gyre_op_active(const struct gyre_op *op);

/**
 * gyre_op_cancel() - request that an operation ends soon.
 * @op: initialised. Cancelling one that is idle, or cancelled already, does nothing.
 * Returns: 0, -EINVAL (not initialised), GYRE_ETHREAD, GYRE_EFORK. The final result arrives as a
 *          callback in any case: the real one if the operation won the race, else -ECANCELED. A
 *          send cut short delivers the bytes that left, if any did.
 * Thread: loop thread only.
 * Source: docs/contract.md, line 3; io_uring_cancelation(7).
 */
GYRE_API int gyre_op_cancel(struct gyre_op *op);

/**
 * gyre_op_set_deadline() - cancel the operation by itself at a moment, with -ETIMEDOUT.
 * @op: active.  @deadline_ns: of CLOCK_MONOTONIC, see gyre_loop_now(); replaces an earlier one;
 *      UINT64_MAX: none.
 * Returns: 0, -EINVAL (not active), GYRE_ETHREAD, GYRE_EFORK. The operation's result is its real
 *          one if that won the race, else -ETIMEDOUT.
 * Thread: loop thread only.   Limits: O(1), no system call: one wait deadline serves the loop.
 * Source: docs/timers.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_set_deadline(struct gyre_op *op, uint64_t deadline_ns);

/**
 * gyre_op_nop() - complete soon, with 0: in this turn if started in a callback, else in the next.
 * @op: initialised, idle.  @loop: where.
 * Returns: 0 or as listed at the head of this file.   Thread: loop thread only.
 * Source: docs/ops.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_nop(struct gyre_op *op, struct gyre_loop *loop);

/**
 * gyre_op_timeout() - complete at a moment, with 0.
 * @op: initialised, idle.  @loop: where.  @deadline_ns: of CLOCK_MONOTONIC, see gyre_loop_now().
 * Returns: 0 or as listed at the head of this file.   Thread: loop thread only.
 * Source: docs/timers.md. For many timers struct gyre_timer is smaller.
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_timeout(struct gyre_op *op, struct gyre_loop *loop,
                                             uint64_t deadline_ns);

/**
 * gyre_op_poll() - wait until a descriptor is in one of the states asked for.
 * @op: initialised, idle.  @fd: attached.  @events: of POLLIN, POLLOUT, POLLPRI, POLLRDHUP.
 * @flags: GYRE_MULTISHOT: a result for each change, until cancelled.
 * Returns: 0 or as listed at the head of this file. Result: the events that hold, with POLLERR and
 *          POLLHUP when they do, and on io_uring POLLRDHUP (docs/uring.md).
 * Thread: loop thread only.
 * Source: poll(2); io_uring_prep_poll_add(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_poll(struct gyre_op *op, struct gyre_fd *fd, uint32_t events,
                                          uint32_t flags);

/**
 * gyre_op_accept() - accept one connection, or with GYRE_MULTISHOT connection after connection.
 * @op: initialised, idle.  @fd: a listening socket.  @flags: GYRE_MULTISHOT or 0.
 * Returns: 0 or as listed at the head of this file. Result: a new descriptor, close-on-exec, the
 *          caller's to close or to attach (the final result of a cancelled multishot can be one
 *          too: look at the number, not only at GYRE_MORE); or an error. Connections that were
 *          reset while they waited are skipped. A multishot accept outlives -EMFILE, -ENFILE, -ENOBUFS and -ENOMEM:
 *          it closes what it cannot hold (counted as sheds), backs off and goes on; a single one
 *          reports them.
 * Thread: loop thread only.   Limits: the back-off is 10 ms, doubling up to 1 s.
 * Source: accept(2) "Error handling"; io_uring_prep_multishot_accept(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_accept(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags);

/**
 * gyre_op_connect() - connect a socket; sends started meanwhile follow in order.
 * @op: initialised (&op->op), idle.  @fd: a socket.  @address, @address_len: copied.
 * Returns: 0 or as listed at the head of this file. Result: 0, or an error of connect(2); -EAGAIN
 *          among them, when the backlog of a Unix socket is full: nothing tells when to try again.
 * Thread: loop thread only.   Limits: sizeof(struct sockaddr_storage).
 * Source: connect(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_connect(struct gyre_connect_op *op, struct gyre_fd *fd,
                                             const struct sockaddr *address, socklen_t address_len);

/**
 * gyre_op_recv() - receive into the caller's memory.
 * @op: initialised, idle.  @fd: a socket.  @data, @len: where to, 1..INT32_MAX bytes; borrowed
 *      until
 *      the final callback.  @flags: GYRE_WAITALL or 0.
 * Returns: 0 or as listed at the head of this file. Result: bytes; 0 at the end of a stream (or for
 *          an empty datagram); or an error.
 * Thread: loop thread only.
 * Source: recv(2); io_uring_prep_recv(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_recv(struct gyre_op *op, struct gyre_fd *fd, void *data,
                                          size_t len, uint32_t flags);

/**
 * gyre_op_recv_lease() - receive from a stream into the loop's pool; no memory is held while
 *                        nothing arrives.
 * @op: initialised, idle.  @fd: a stream socket.  @flags: GYRE_MULTISHOT or 0.
 * Returns: 0 or as listed at the head of this file. Result: bytes, with @lease set; 0 at the end of
 *          the stream; -EPROTOTYPE if it is none; or another error. With GYRE_MULTISHOT data comes
 *          until one of these, or a cancel, ends it; after a cancel, data already received still
 *          arrives first, with GYRE_MORE.
 * Thread: loop thread only.   Limits: bytes per turn and retained bytes per connection
 *          (gyre_loop_options.pool_quota); beyond, reading waits and TCP slows the peer.
 * Source: docs/pool.md; io_uring_prep_recv_multishot(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_recv_lease(struct gyre_op *op, struct gyre_fd *fd,
                                                uint32_t flags);

/**
 * gyre_op_send() - send all of a buffer.
 * @op: initialised, idle.  @fd: a connected socket.  @data, @len: 0..INT32_MAX bytes, borrowed
 *      until the final callback. 0 sends nothing on a stream, an empty datagram on a datagram
 *      socket.
 * Returns: 0 or as listed at the head of this file. Result: @len; fewer bytes when an error, a
 *          cancel or a deadline cut it short (the next send meets the error); or, when nothing
 *          left, an error. Never raises SIGPIPE.
 * Thread: loop thread only.
 * Source: send(2); io_uring_prep_send(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_send(struct gyre_op *op, struct gyre_fd *fd, const void *data,
                                          size_t len);

/**
 * gyre_op_recvmsg() - receive a message with its address and control data.
 * @op: initialised (&op->op), idle.  @fd: a socket.  @msg: msg_iov (1..GYRE_IOV_MAX pieces,
 *      copied), msg_control and msg_controllen (borrowed); the sender's address goes to
 *      @op->address.
 * @flags: GYRE_WAITALL or 0.
 * Returns: 0 or as listed at the head of this file. Result: bytes, or an error; @op->msg has the
 *          rest. Descriptors received arrive close-on-exec.
 * Thread: loop thread only.
 * Source: recvmsg(2); io_uring_prep_recvmsg(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_recvmsg(struct gyre_msg_op *op, struct gyre_fd *fd,
                                             const struct msghdr *msg, uint32_t flags);

/**
 * gyre_op_sendmsg() - send all of several pieces, with an address or control data if wished.
 * @op: initialised (&op->op), idle.  @fd: a socket.  @msg: msg_iov (0..GYRE_IOV_MAX pieces) and
 *      msg_name are copied, msg_control is borrowed.
 * Returns: 0 or as listed at the head of this file. Result: as gyre_op_send(). Never raises
 *          SIGPIPE.
 * Thread: loop thread only.   Limits: INT32_MAX bytes in total.
 * Source: sendmsg(2); io_uring_prep_sendmsg(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_sendmsg(struct gyre_msg_op *op, struct gyre_fd *fd,
                                             const struct msghdr *msg);

/**
 * gyre_op_read() - read from a file, pipe, eventfd or terminal.
 * @op: initialised, idle.  @fd: attached.  @data, @len: 1..INT32_MAX bytes, borrowed until the
 *      final
 *      callback.  @offset: bytes from the start of the file, or GYRE_OFFSET_CURRENT.
 * Returns: 0 or as listed at the head of this file. Result: bytes, 0 at the end, or an error.
 * Thread: loop thread only.   Limits: regular files block the loop on epoll, not on io_uring.
 * Source: pread(2); io_uring_prep_read(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_read(struct gyre_op *op, struct gyre_fd *fd, void *data,
                                          size_t len, uint64_t offset);

/**
 * gyre_op_write() - write all of a buffer to a file, pipe, eventfd or terminal.
 * @op: initialised, idle.  @fd: attached.  @data, @len: 0..INT32_MAX bytes, borrowed until the
 *      final
 *      callback.  @offset: bytes from the start of the file, or GYRE_OFFSET_CURRENT.
 * Returns: 0 or as listed at the head of this file. Result: as gyre_op_send(). Pipes whose reader
 *          left raise SIGPIPE unless the program ignores it: use sockets where that matters.
 * Thread: loop thread only.   Limits: regular files block the loop on epoll, not on io_uring.
 * Source: pwrite(2); io_uring_prep_write(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_write(struct gyre_op *op, struct gyre_fd *fd, const void *data,
                                           size_t len, uint64_t offset);

/**
 * gyre_op_close() - end a descriptor: no new operations, what is active is cancelled and completes,
 *                   then close(2), then this operation completes, as the last.
 * @op: initialised, idle; not an operation already active on @fd.  @fd: attached.
 * @flags: GYRE_CLOSE_FLUSH: writes already started end by themselves (set a deadline on @op to
 *         bound this: it cancels them). GYRE_CLOSE_SHUTDOWN: shutdown(2) first, so that the peer
 *         sees the end although another process holds the descriptor too; with FLUSH after the
 *         writes.
 * Returns: 0 or as listed at the head of this file. Result: 0 or an error of close(2); in its
 *          callback @fd is free.
 * Ownership: from its final callback on, @fd is the caller's.   Thread: loop thread only.
 * Limits: cancelling a close, or its deadline, hastens it (ends the flush); it still closes, and
 *         its result is that of close(2), not -ECANCELED or -ETIMEDOUT.
 * Source: docs/contract.md, line 5; close(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_op_close(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags);

GYRE_END

#endif
