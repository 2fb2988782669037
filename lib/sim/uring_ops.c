/*
 * What each operation does. prepare() copies and checks what the kernel looks at when it takes the
 * entry in; a try carries the operation out as far as it goes without blocking:
 *
 *     DONE       it has its result
 *     WAIT       too early (-EAGAIN), or a multishot that has given what there was
 *     REQUEUE    a multishot receive that has had its share
 *
 * The system calls themselves, with their faults, are transfer.c's.
 */
#include "sim/tcp.h"
#include "sim/uring.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

enum {
    POISON = 0xa5,
    NOP_INJECT_RESULT = 1u << 0, /* IORING_NOP_INJECT_RESULT, which liburing 2.3 does not know */
    INJECT_SINCE = 610,
};

#define IN_EVENTS  ((uint32_t)(EPOLLIN | EPOLLRDNORM))
#define OUT_EVENTS ((uint32_t)(EPOLLOUT | EPOLLWRNORM))

static struct sim_socket *socket_of(const struct sim_request *request)
{
    return gyre__sim_socket_of(request->file);
}

enum sim_turn gyre__sim_request_end(struct sim_request *request, ssize_t res, uint32_t flags)
{
    request->res = (int32_t)res;
    request->cqe_flags = flags;
    request->failed |= res < 0;
    return SIM_TURN_DONE;
}

/* Only streams are transferred in parts. */
int gyre__sim_request_goes_on(const struct sim_request *request)
{
    const int type = socket_of(request)->type;

    return (request->sqe.msg_flags & MSG_WAITALL) &&
           (type == SOCK_STREAM || type == SOCK_SEQPACKET);
}

/* ---- messages ---- */

/* The array of pieces is the kernel's own from here on; the bytes stay the program's. */
static int copy_pieces(struct sim_request *request, const struct iovec *pieces, size_t count)
{
    if (count > SIM_URING_PIECES_MAX) {
        return -EMSGSIZE;
    }
    request->pieces = gyre__sim_alloc((count + 1) * sizeof(*pieces));
    if (count > 0) {
        memcpy(request->pieces, pieces, count * sizeof(*pieces));
    }
    request->msg.msg_iov = request->pieces;
    request->msg.msg_iovlen = count;
    return 0;
}

int gyre__sim_request_copy_buffer(struct sim_request *request)
{
    const struct iovec one = {.iov_base = (void *)(uintptr_t)request->sqe.addr,
                              .iov_len = request->sqe.len};

    return copy_pieces(request, &one, 1);
}

int gyre__sim_request_copy_msg(struct sim_request *request)
{
    const struct msghdr *msg = (const struct msghdr *)(uintptr_t)request->sqe.addr;

    if (msg == NULL) {
        return -EFAULT;
    }
    request->msg = *msg;
    return copy_pieces(request, msg->msg_iov, msg->msg_iovlen);
}

size_t gyre__sim_request_rest(const struct sim_request *request, struct iovec *pieces)
{
    size_t skip = request->done;
    size_t count = 0;

    for (size_t i = 0; i < request->msg.msg_iovlen; i++) {
        const struct iovec *piece = &request->pieces[i];
        const size_t off = skip < piece->iov_len ? skip : piece->iov_len;

        skip -= off;
        if (off < piece->iov_len) {
            pieces[count++] = (struct iovec){.iov_base = (char *)piece->iov_base + off,
                                             .iov_len = piece->iov_len - off};
        }
    }
    return count;
}

/* Descriptors went with the first bytes. */
struct msghdr gyre__sim_request_rest_msg(const struct sim_request *request, struct iovec *pieces)
{
    struct msghdr msg = request->msg;

    msg.msg_iov = pieces;
    msg.msg_iovlen = gyre__sim_request_rest(request, pieces);
    if (request->done > 0) {
        msg.msg_control = NULL;
        msg.msg_controllen = 0;
    }
    return msg;
}

/* ---- receiving ---- */

/* Nobody may read it before the completion. */
static void poison(const struct sim_request *request)
{
    for (size_t i = 0; i < request->msg.msg_iovlen; i++) {
        const struct iovec *piece = &request->pieces[i];

        if (piece->iov_len > 0) {
            memset(piece->iov_base, POISON, piece->iov_len);
        }
    }
}

static int recv_select_prepare(const struct sim_request *request)
{
    if (request->sqe.msg_flags & MSG_WAITALL) {
        if (request->multishot) {
            return -EINVAL;
        }
        return gyre__sim_uring_unmodelled(request->ring, "MSG_WAITALL with buffer selection");
    }
    if (request->multishot && request->sqe.len != 0) {
        return gyre__sim_uring_unmodelled(request->ring, "a multishot receive with a length");
    }
    return 0;
}

static int recv_prepare(struct sim_request *request)
{
    const uint16_t known = IORING_RECVSEND_POLL_FIRST | IORING_RECV_MULTISHOT;
    const int selects = (request->sqe.flags & IOSQE_BUFFER_SELECT) != 0;
    int rc;

    if (request->sqe.ioprio & ~known) {
        return gyre__sim_uring_unmodelled(request->ring, "a flag of a receive");
    }
    request->multishot = (request->sqe.ioprio & IORING_RECV_MULTISHOT) != 0;
    if (request->sqe.opcode == IORING_OP_RECVMSG) {
        if (selects || request->multishot) {
            return gyre__sim_uring_unmodelled(request->ring, "recvmsg with buffer selection");
        }
        rc = gyre__sim_request_copy_msg(request);
    } else if (selects) {
        return recv_select_prepare(request);
    } else {
        rc = request->multishot ? -EINVAL : gyre__sim_request_copy_buffer(request);
    }
    if (rc == 0) {
        poison(request);
    }
    return rc;
}

/*
 * How many bytes are left, as the protocol hints (SO_INQ); -1: it does not say. TCP counts its end
 * for one byte, so that a receive which took the last bytes before it looks again; not a reset.
 */
static int bytes_left(const struct sim_request *request)
{
    const struct sim_socket *socket = socket_of(request);
    const struct sim_file *file = request->file;
    int left = -1;

    if (socket->type != SOCK_STREAM || file->ops->ioctl == NULL ||
        file->ops->ioctl(request->file, FIONREAD, &left) < 0) {
        return -1;
    }
    if (left == 0 && socket->family != AF_UNIX) {
        left = gyre__sim_tcp_of(gyre__sim_socket_of(request->file))->done;
    }
    return left;
}

static uint32_t nonempty(int left)
{
    return left > 0 ? IORING_CQE_F_SOCK_NONEMPTY : 0;
}

static void trace_transfer(const struct sim_request *request, ssize_t res)
{
    gyre__sim_trace(gyre__sim_of_uring(request->ring), "ring %llu: #%llu %s %llu = %zd",
                    (unsigned long long)request->ring->file.id, (unsigned long long)request->id,
                    gyre__sim_request_name(request), (unsigned long long)request->file->id, res);
}

/* One receive into a buffer of the group. Returns 0 when @out_turn says what is next. */
static int recv_one(struct sim_request *request, enum sim_turn *out_turn)
{
    struct sim_uring *ring = request->ring;
    const uint16_t id = request->sqe.buf_group;
    struct iovec buffer;
    struct msghdr msg = {.msg_iov = &buffer, .msg_iovlen = 1};
    uint32_t flags;
    ssize_t rc = gyre__sim_group_peek(ring, id, &buffer);
    int left;

    if (rc < 0) {
        *out_turn = gyre__sim_request_end(request, rc, 0);
        return 0;
    }
    rc = gyre__sim_do_recv(request->file, &msg, (int)request->sqe.msg_flags | MSG_DONTWAIT);
    if (rc == -EAGAIN) {
        *out_turn = SIM_TURN_WAIT;
        return 0;
    }
    trace_transfer(request, rc);
    left = rc >= 0 ? bytes_left(request) : -1;
    flags = nonempty(left) | (rc > 0 ? gyre__sim_group_commit(ring, id, (size_t)rc) : 0);
    if (rc <= 0 || !request->multishot || !gyre__sim_uring_post_more(request, (int32_t)rc, flags)) {
        *out_turn = gyre__sim_request_end(request, rc, flags);
        return 0;
    }
    *out_turn = SIM_TURN_WAIT;
    return left != 0; /* more, or unknown: look again */
}

static enum sim_turn recv_select_try(struct sim_request *request)
{
    enum sim_turn turn;

    while (recv_one(request, &turn)) {
        if (request->retries++ >= SIM_URING_RETRIES_MAX) {
            request->retries = 0;
            return SIM_TURN_REQUEUE;
        }
    }
    return turn;
}

/* What recvmsg(2) tells beside the bytes goes to the program's own struct msghdr. */
static void tell_msg(const struct sim_request *request, const struct msghdr *msg)
{
    struct msghdr *user = (struct msghdr *)(uintptr_t)request->sqe.addr;

    if (request->sqe.opcode == IORING_OP_RECVMSG) {
        user->msg_namelen = msg->msg_namelen;
        user->msg_controllen = msg->msg_controllen;
        user->msg_flags = msg->msg_flags;
    }
}

static enum sim_turn recv_try(struct sim_request *request)
{
    const size_t whole = gyre__sim_pieces_len(request->pieces, request->msg.msg_iovlen);
    struct msghdr msg = request->msg;
    struct iovec *pieces = gyre__sim_alloc((msg.msg_iovlen + 1) * sizeof(*pieces));
    int left;
    ssize_t rc;

    msg.msg_iov = pieces;
    msg.msg_iovlen = gyre__sim_request_rest(request, pieces);
    rc = gyre__sim_do_recv(request->file, &msg,
                           ((int)request->sqe.msg_flags & ~MSG_WAITALL) | MSG_DONTWAIT);
    free(pieces);
    if (rc == -EAGAIN) {
        return SIM_TURN_WAIT;
    }
    trace_transfer(request, rc);
    if (rc >= 0) {
        tell_msg(request, &msg);
    }
    if (rc > 0) {
        request->done += (size_t)rc;
        if (request->done < whole && request->msg.msg_control == NULL &&
            gyre__sim_request_goes_on(request)) {
            return SIM_TURN_WAIT;
        }
    }
    left = rc >= 0 ? bytes_left(request) : -1;
    return gyre__sim_request_end(request, request->done > 0 ? (ssize_t)request->done : rc,
                                 nonempty(left));
}

static enum sim_turn recv_start(struct sim_request *request)
{
    if (!request->polled && (request->sqe.ioprio & IORING_RECVSEND_POLL_FIRST)) {
        return SIM_TURN_WAIT;
    }
    if (socket_of(request) == NULL) {
        return gyre__sim_request_end(request, -ENOTSOCK, 0);
    }
    return request->sqe.flags & IOSQE_BUFFER_SELECT ? recv_select_try(request) : recv_try(request);
}

/* ---- accepting, connecting ---- */

static int accept_prepare(struct sim_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;

    if (sqe->len != 0 || (sqe->accept_flags & ~(uint32_t)(SOCK_CLOEXEC | SOCK_NONBLOCK))) {
        return -EINVAL;
    }
    if ((sqe->ioprio & ~IORING_ACCEPT_MULTISHOT) || sqe->file_index != 0 || sqe->addr != 0) {
        return gyre__sim_uring_unmodelled(request->ring, "accept with this flag or an address");
    }
    request->multishot = (sqe->ioprio & IORING_ACCEPT_MULTISHOT) != 0;
    return 0;
}

/* Unix sockets do not say whether another connection waits. */
static enum sim_turn accept_try(struct sim_request *request)
{
    const struct sim_socket *socket = socket_of(request);

    for (;;) {
        const int rc = gyre__sim_do_accept(request->ring->process, request->file,
                                           (int)request->sqe.accept_flags);
        uint32_t more = 0;

        if (rc == -EAGAIN) {
            return SIM_TURN_WAIT;
        }
        trace_transfer(request, rc);
        if (rc >= 0 && socket->family != AF_UNIX) {
            more =
                request->file->ops->poll(request->file) & EPOLLIN ? IORING_CQE_F_SOCK_NONEMPTY : 0;
        }
        if (rc < 0 || !request->multishot || !gyre__sim_uring_post_more(request, rc, more)) {
            return gyre__sim_request_end(request, rc, more);
        }
        if (more == 0 && socket->family != AF_UNIX) {
            return SIM_TURN_WAIT;
        }
    }
}

static int connect_prepare(struct sim_request *request)
{
    const struct io_uring_sqe *sqe = &request->sqe;

    if (sqe->len != 0 || sqe->buf_index != 0 || sqe->rw_flags != 0 || sqe->file_index != 0 ||
        sqe->off > sizeof(request->name)) {
        return -EINVAL;
    }
    if (sqe->off > 0) {
        memcpy(&request->name, (const void *)(uintptr_t)sqe->addr, sqe->off);
    }
    return 0;
}

/* Asked again and again until it is done: what connect(2) says then is the result. */
static enum sim_turn connect_try(struct sim_request *request)
{
    int rc = gyre__sim_do_connect(request->file, (const struct sockaddr *)&request->name,
                                  (socklen_t)request->sqe.off);

    if (rc == -EAGAIN || rc == -EINPROGRESS) {
        request->connecting |= rc == -EINPROGRESS;
        return SIM_TURN_WAIT;
    }
    if (rc == -ECONNABORTED && !request->aborted) {
        request->aborted = 1;
        return SIM_TURN_WAIT;
    }
    if (rc == -EISCONN && request->connecting) {
        rc = gyre__sim_socket_error(socket_of(request));
    }
    trace_transfer(request, rc);
    return gyre__sim_request_end(request, rc, 0);
}

/* ---- read, write, close, cancel ---- */

static int rw_prepare(struct sim_request *request)
{
    int rc;

    if (request->sqe.rw_flags != 0 || request->sqe.ioprio != 0) {
        return gyre__sim_uring_unmodelled(request->ring, "read or write with flags");
    }
    rc = gyre__sim_request_copy_buffer(request);
    if (request->sqe.opcode == IORING_OP_READ) {
        poison(request);
    } else {
        gyre__sim_request_lend(request);
    }
    return rc;
}

static enum sim_turn rw_try(struct sim_request *request)
{
    const int count = (int)request->msg.msg_iovlen;
    const ssize_t rc = request->sqe.opcode == IORING_OP_READ
                           ? gyre__sim_do_read(request->file, request->pieces, count)
                           : gyre__sim_do_write(request->file, request->pieces, count);

    if (rc == -EAGAIN) {
        return SIM_TURN_WAIT;
    }
    trace_transfer(request, rc);
    return gyre__sim_request_end(request, rc, 0);
}

/* The ring itself is not closed this way. */
static enum sim_turn close_try(struct sim_request *request)
{
    struct sim_uring *ring = request->ring;
    const struct sim_file *file = gyre__sim_fd_file(ring->process, request->sqe.fd);

    if (file == NULL || file->ops == ring->file.ops) {
        return gyre__sim_request_end(request, -EBADF, 0);
    }
    return gyre__sim_request_end(request, gyre__sim_fd_close(ring->process, request->sqe.fd), 0);
}

static int cancel_prepare(const struct sim_request *request)
{
    if (request->sqe.cancel_flags != 0) {
        return gyre__sim_uring_unmodelled(request->ring, "a cancel by other than user_data");
    }
    return 0;
}

static int poll_prepare(struct sim_request *request)
{
    if (request->sqe.len & ~IORING_POLL_ADD_MULTI) {
        return gyre__sim_uring_unmodelled(request->ring, "a flag of a poll");
    }
    request->multishot = (request->sqe.len & IORING_POLL_ADD_MULTI) != 0;
#if __BYTE_ORDER == __BIG_ENDIAN
    request->sqe.poll32_events =
        request->sqe.poll32_events << 16 | request->sqe.poll32_events >> 16;
#endif
    return 0;
}

/* ---- all of them ---- */

int gyre__sim_request_prepare(struct sim_request *request)
{
    const uint8_t known = IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS;
    const uint8_t opcode = request->sqe.opcode;

    if (request->sqe.flags & ~known) {
        return gyre__sim_uring_unmodelled(request->ring, "a flag of an entry");
    }
    if ((request->sqe.flags & IOSQE_BUFFER_SELECT) && opcode != IORING_OP_RECV &&
        opcode != IORING_OP_RECVMSG) {
        return -EOPNOTSUPP;
    }
    switch (opcode) {
    case IORING_OP_NOP:
    case IORING_OP_CLOSE:
        return 0;
    case IORING_OP_POLL_ADD:
        return poll_prepare(request);
    case IORING_OP_ASYNC_CANCEL:
        return cancel_prepare(request);
    case IORING_OP_ACCEPT:
        return accept_prepare(request);
    case IORING_OP_CONNECT:
        return connect_prepare(request);
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
        return recv_prepare(request);
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        return gyre__sim_send_prepare(request);
    case IORING_OP_READ:
    case IORING_OP_WRITE:
        return rw_prepare(request);
    default:
        return gyre__sim_uring_unmodelled(request->ring, "an operation");
    }
}

/* Linux 6.10 lets a no-op be told its result: so tests make requests fail. */
static enum sim_turn nop_try(struct sim_request *request)
{
    const int told = (request->sqe.rw_flags & NOP_INJECT_RESULT) != 0 &&
                     gyre__sim_kernel_version(gyre__sim_of_uring(request->ring)) >= INJECT_SINCE;

    return gyre__sim_request_end(request, told ? (int32_t)request->sqe.len : 0, 0);
}

enum sim_turn gyre__sim_request_try(struct sim_request *request)
{
    switch (request->sqe.opcode) {
    case IORING_OP_CLOSE:
        return close_try(request);
    case IORING_OP_ASYNC_CANCEL:
        return gyre__sim_request_end(request,
                                     gyre__sim_request_cancel(request->ring, request->sqe.addr), 0);
    case IORING_OP_ACCEPT:
        return accept_try(request);
    case IORING_OP_CONNECT:
        return connect_try(request);
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
        return recv_start(request);
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        return gyre__sim_send_try(request);
    case IORING_OP_READ:
    case IORING_OP_WRITE:
        return rw_try(request);
    default:
        return nop_try(request);
    }
}

uint32_t gyre__sim_request_events(const struct sim_request *request)
{
    switch (request->sqe.opcode) {
    case IORING_OP_ACCEPT:
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
    case IORING_OP_READ:
        return IN_EVENTS;
    case IORING_OP_CONNECT:
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
    case IORING_OP_WRITE:
        return OUT_EVENTS;
    default:
        return 0;
    }
}

const char *gyre__sim_request_name(const struct sim_request *request)
{
    switch (request->sqe.opcode) {
    case IORING_OP_NOP:
        return "nop";
    case IORING_OP_POLL_ADD:
        return "poll";
    case IORING_OP_ASYNC_CANCEL:
        return "cancel";
    case IORING_OP_ACCEPT:
        return "accept";
    case IORING_OP_CONNECT:
        return "connect";
    case IORING_OP_RECV:
        return "recv";
    case IORING_OP_RECVMSG:
        return "recvmsg";
    case IORING_OP_SEND:
        return "send";
    case IORING_OP_SENDMSG:
        return "sendmsg";
    case IORING_OP_READ:
        return "read";
    case IORING_OP_WRITE:
        return "write";
    case IORING_OP_CLOSE:
        return "close";
    default:
        return "?";
    }
}
