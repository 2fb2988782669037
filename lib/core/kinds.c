/*
 * Every kind of operation, once: prepare() describes it to io_uring, attempt() tries it without
 * blocking. The drivers differ in when they ask the kernel, not in what they ask.
 *
 * Everything a submission points at is memory of the op itself or memory the caller lent: the
 * kernel reads it at the end of the turn, when locals are gone.
 */
#include "core/kinds.h"

#include "base/assert.h"
#include "base/poison.h"
#include "base/sys.h"
#include "core/op.h"
#include "core/uring_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static GYRE__RARE int set_nonblocking(struct gyre_fd *fd)
{
    int rc = gyre__sys_fcntl(fd->number, F_GETFL, 0);

    fd->loop->stats.syscalls++;
    if (rc >= 0 && !(rc & O_NONBLOCK)) {
        rc = gyre__sys_fcntl(fd->number, F_SETFL, rc | O_NONBLOCK);
        fd->loop->stats.syscalls++;
    }
    if (rc < 0) {
        return -errno;
    }
    fd->flags |= GYRE__FD_NONBLOCK;
    return 0;
}

/* For what has no MSG_DONTWAIT: the descriptor itself must not block. Returns 0 or an error. */
static inline int make_nonblocking(struct gyre_fd *fd)
{
    return fd->flags & GYRE__FD_NONBLOCK ? 0 : set_nonblocking(fd);
}

/* ---- poll ---- */

static void poll_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = op->fd->number;
    gyre__sqe_set_poll(sqe, op->arg.poll.events);
    if (op->flags & GYRE_MULTISHOT) {
        sqe->len = IORING_POLL_ADD_MULTI;
    }
}

static int poll_attempt(struct gyre_op *op)
{
    struct pollfd one = {.fd = op->fd->number, .events = (short)op->arg.poll.events};
    const int rc = GYRE__ATTEMPT(gyre__sys_poll(&one, 1, 0));

    if (rc < 0) {
        return rc;
    }
    if (one.revents & POLLNVAL) {
        return -EBADF;
    }
    return one.revents != 0 ? one.revents : GYRE__NOT_YET;
}

/* ---- accept ---- */

static void accept_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_ACCEPT;
    sqe->fd = op->fd->number;
    sqe->accept_flags = SOCK_CLOEXEC;
    if (op->flags & GYRE_MULTISHOT) {
        sqe->ioprio = IORING_ACCEPT_MULTISHOT;
    }
}

static int accept_attempt(struct gyre_op *op)
{
    if (make_nonblocking(op->fd) < 0) {
        return -EACCES; /* whatever fcntl(2) said: from accept4(2) it might mean to try again */
    }
    return GYRE__ATTEMPT(gyre__sys_accept4(op->fd->number, NULL, NULL, SOCK_CLOEXEC));
}

/* ---- connect ---- */

static void connect_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    const struct gyre_connect_op *connect = gyre__connect_op(op);

    sqe->opcode = IORING_OP_CONNECT;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)&connect->address;
    sqe->off = connect->address_len;
}

/*
 * connect(2) begins the attempt, and asked again tells how it stands; `done` says that it has
 * begun. Not SO_ERROR: only connect(2) makes the socket's state follow. A socket that failed to
 * connect before says ECONNABORTED once and means that one.
 */
static int connect_attempt(struct gyre_op *op)
{
    const struct gyre_connect_op *connect_op = gyre__connect_op(op);
    const struct sockaddr *address = (const struct sockaddr *)&connect_op->address;
    int rc = make_nonblocking(op->fd);

    if (rc < 0) {
        return rc;
    }
    rc = gyre__sys_connect(op->fd->number, address, connect_op->address_len);
    if (rc < 0 && errno == ECONNABORTED && !op->done) {
        rc = gyre__sys_connect(op->fd->number, address, connect_op->address_len);
    }
    if (rc == 0 || (errno == EISCONN && op->done)) {
        return 0;
    }
    if (errno == EINPROGRESS || errno == EALREADY || errno == EINTR) {
        op->done = 1;
        return GYRE__NOT_YET;
    }
    return -errno; /* EAGAIN is an error here: a Unix backlog is full, or there is no local port */
}

/* ---- recv, send ---- */

static void recv_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)(op->arg.io.data + op->done);
    sqe->len = op->len - op->done;
    sqe->msg_flags = op->flags & GYRE_WAITALL ? MSG_WAITALL : 0;
    if (!(op->fd->ready & GYRE__DIR_IN)) {
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST; /* known to be empty: spare the futile try */
    }
}

static int recv_attempt(struct gyre_op *op)
{
    return GYRE__ATTEMPT(gyre__sys_recv(op->fd->number, op->arg.io.data + op->done,
                                        op->len - op->done, MSG_DONTWAIT));
}

static void recv_lease_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_RECV;
    sqe->fd = op->fd->number;
    sqe->flags = IOSQE_BUFFER_SELECT;
    if (op->flags & GYRE_MULTISHOT) {
        sqe->ioprio = IORING_RECV_MULTISHOT;
    }
    if (!(op->fd->ready & GYRE__DIR_IN)) {
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    }
}

/* MSG_WAITALL: the kernel continues a short send by itself and completes once. */
static void send_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_SEND;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)(op->arg.io.data + op->done);
    sqe->len = op->len - op->done;
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

static int send_attempt(struct gyre_op *op)
{
    return gyre__op_attempt_send(op);
}

/* ---- recvmsg, sendmsg ---- */

static void recvmsg_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_RECVMSG;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)&gyre__msg_op(op)->msg;
    sqe->len = 1;
    sqe->msg_flags = MSG_CMSG_CLOEXEC | (op->flags & GYRE_WAITALL ? MSG_WAITALL : 0);
    if (!(op->fd->ready & GYRE__DIR_IN)) {
        sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
    }
}

static int recvmsg_attempt(struct gyre_op *op)
{
    return GYRE__ATTEMPT(
        gyre__sys_recvmsg(op->fd->number, &gyre__msg_op(op)->msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC));
}

static void sendmsg_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_SENDMSG;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)&gyre__msg_op(op)->msg;
    sqe->len = 1;
    sqe->msg_flags = MSG_WAITALL | MSG_NOSIGNAL;
}

static int sendmsg_attempt(struct gyre_op *op)
{
    return GYRE__ATTEMPT(
        gyre__sys_sendmsg(op->fd->number, &gyre__msg_op(op)->msg, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* ---- read, write ---- */

/* An offset in the middle of a transfer moves with it, except the file's own. */
static uint64_t offset_now(const struct gyre_op *op)
{
    const uint64_t offset = op->arg.io.offset;

    return offset == GYRE_OFFSET_CURRENT ? offset : offset + op->done;
}

static void read_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_READ;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)op->arg.io.data;
    sqe->len = op->len;
    sqe->off = op->arg.io.offset;
}

static int read_attempt(struct gyre_op *op)
{
    const struct iovec one = {.iov_base = op->arg.io.data, .iov_len = op->len};
    const off_t offset = (off_t)op->arg.io.offset; /* -1 makes it readv(2), for what has none */
    const int rc = make_nonblocking(op->fd);

    return rc < 0 ? rc : GYRE__ATTEMPT(gyre__sys_preadv2(op->fd->number, &one, 1, offset, 0));
}

static void write_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_WRITE;
    sqe->fd = op->fd->number;
    sqe->addr = (uint64_t)(uintptr_t)(op->arg.io.data + op->done);
    sqe->len = op->len - op->done;
    sqe->off = offset_now(op);
}

static int write_attempt(struct gyre_op *op)
{
    const struct iovec one = {.iov_base = op->arg.io.data + op->done,
                              .iov_len = op->len - op->done};
    const off_t offset = (off_t)offset_now(op);
    const int rc = make_nonblocking(op->fd);

    return rc < 0 ? rc : GYRE__ATTEMPT(gyre__sys_pwritev2(op->fd->number, &one, 1, offset, 0));
}

/* ---- close ---- */

static void close_prepare(const struct gyre_op *op, struct io_uring_sqe *sqe)
{
    sqe->opcode = IORING_OP_CLOSE;
    sqe->fd = op->fd->number;
}

static int close_attempt(struct gyre_op *op)
{
    /* Linux has closed the descriptor even when close(2) says EINTR: never repeat it. */
    const int rc = gyre__sys_close(op->fd->number);

    return rc == 0 || errno == EINTR ? 0 : -errno;
}

/* The pool gives the memory, so each driver receives leases in its own way. */
const struct gyre__kind gyre__kinds[GYRE_OP_KIND_COUNT] = {
    [GYRE_OP_NOP] = {"nop", GYRE__DIR_NONE, 0, NULL, NULL},
    [GYRE_OP_TIMEOUT] = {"timeout", GYRE__DIR_NONE, 0, NULL, NULL},
    [GYRE_OP_POLL] = {"poll", GYRE__DIR_NONE, 0, poll_prepare, poll_attempt},
    [GYRE_OP_ACCEPT] = {"accept", GYRE__DIR_IN, 0, accept_prepare, accept_attempt},
    [GYRE_OP_CONNECT] = {"connect", GYRE__DIR_OUT, 0, connect_prepare, connect_attempt},
    [GYRE_OP_RECV] = {"recv", GYRE__DIR_IN, 0, recv_prepare, recv_attempt},
    [GYRE_OP_RECV_LEASE] = {"recv_lease", GYRE__DIR_IN, 0, recv_lease_prepare, NULL},
    [GYRE_OP_SEND] = {"send", GYRE__DIR_OUT, 1, send_prepare, send_attempt},
    [GYRE_OP_RECVMSG] = {"recvmsg", GYRE__DIR_IN, 0, recvmsg_prepare, recvmsg_attempt},
    [GYRE_OP_SENDMSG] = {"sendmsg", GYRE__DIR_OUT, 1, sendmsg_prepare, sendmsg_attempt},
    [GYRE_OP_READ] = {"read", GYRE__DIR_IN, 0, read_prepare, read_attempt},
    [GYRE_OP_WRITE] = {"write", GYRE__DIR_OUT, 1, write_prepare, write_attempt},
    [GYRE_OP_CLOSE] = {"close", GYRE__DIR_NONE, 0, close_prepare, close_attempt},
};

const char *gyre_op_kind_name(enum gyre_op_kind kind)
{
    return (unsigned)kind < GYRE_OP_KIND_COUNT ? gyre__kinds[kind].name : "unknown";
}

uint32_t gyre__kind_poll_events(const struct gyre_op *op)
{
    if (op->kind == GYRE_OP_POLL) {
        return op->arg.poll.events;
    }
    return gyre__kind_of(op)->direction == GYRE__DIR_OUT ? POLLOUT : POLLIN | POLLPRI | POLLRDHUP;
}

static int is_message(const struct gyre_op *op)
{
    return op->kind == GYRE_OP_RECVMSG || op->kind == GYRE_OP_SENDMSG;
}

static size_t pieces_len(const struct msghdr *msg)
{
    size_t len = 0;

    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        len += msg->msg_iov[i].iov_len;
    }
    return len;
}

int gyre__op_continues(const struct gyre_op *op)
{
    return gyre__kind_of(op)->transfers || (op->flags & GYRE_WAITALL) != 0;
}

size_t gyre__op_left(const struct gyre_op *op)
{
    return is_message(op) ? pieces_len(&gyre__msg_op(op)->msg) : op->len - op->done;
}

/* Drop the first @len bytes of the pieces; the address and control data went with the first
 * byte. */
static void advance_pieces(struct msghdr *msg, size_t len)
{
    while (len > 0) {
        struct iovec *piece = msg->msg_iov;

        if (len < piece->iov_len) {
            piece->iov_base = (char *)piece->iov_base + len;
            piece->iov_len -= len;
            break;
        }
        len -= piece->iov_len;
        msg->msg_iov++;
        msg->msg_iovlen--;
    }
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
}

void gyre__op_restore_control(struct gyre_op *op)
{
    struct msghdr *msg = &gyre__msg_op(op)->msg;

    msg->msg_control = op->arg.io.data;
    msg->msg_controllen = op->len;
}

void gyre__op_advance(struct gyre_op *op, size_t len)
{
    gyre_assert(len <= gyre__op_left(op));
    if (is_message(op)) {
        struct msghdr *msg = &gyre__msg_op(op)->msg;

        if (op->done == 0) {
            op->arg.io.data = msg->msg_control;
            op->len = (uint32_t)msg->msg_controllen;
        }
        advance_pieces(msg, len);
    }
    op->done += (uint32_t)len;
}

#if defined(GYRE__ASAN)
void gyre__op_check_memory(const struct gyre_op *op)
{
    gyre__check_memory(op, sizeof(*op));
    switch (op->kind) {
    case GYRE_OP_RECV:
    case GYRE_OP_SEND:
    case GYRE_OP_READ:
    case GYRE_OP_WRITE:
        gyre__check_memory(op->arg.io.data, op->len);
        break;
    case GYRE_OP_RECVMSG:
    case GYRE_OP_SENDMSG: {
        const struct msghdr *msg = &gyre__msg_op(op)->msg;

        for (size_t i = 0; i < msg->msg_iovlen; i++) {
            gyre__check_memory(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len);
        }
        gyre__check_memory(msg->msg_control, msg->msg_controllen);
        break;
    }
    default:
        break;
    }
}
#endif
