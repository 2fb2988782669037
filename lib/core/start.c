/* The start functions: check the arguments, put them into the operation, begin it. */
#include "core/op.h"

#include "base/assert.h"
#include "base/list.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

void gyre_op_init(struct gyre_op *op, gyre_op_fn fn)
{
    gyre_assert(op != NULL && fn != NULL);
    memset(op, 0, sizeof(*op));
    op->fn = fn;
    gyre__list_init(&op->fd_link);
    gyre__list_init(&op->link);
}

int gyre_op_active(const struct gyre_op *op)
{
    return op != NULL && op->state != GYRE__OP_IDLE;
}

static int check_fd_op(const struct gyre_op *op, const struct gyre_fd *fd, uint32_t flags,
                       uint32_t allowed)
{
    if (fd == NULL || (flags & ~allowed) != 0) {
        return -EINVAL;
    }
    return gyre__op_check(op, fd->loop, fd);
}

int gyre_op_nop(struct gyre_op *op, struct gyre_loop *loop)
{
    int rc = gyre__op_check(op, loop, NULL);

    if (rc < 0) {
        return rc;
    }
    rc = gyre__op_begin(op, GYRE_OP_NOP, loop, NULL, 0);
    if (rc == 0) {
        gyre__op_ready(op, 0);
    }
    return rc;
}

int gyre_op_timeout(struct gyre_op *op, struct gyre_loop *loop, uint64_t deadline_ns)
{
    int rc = gyre__op_check(op, loop, NULL);

    if (rc < 0) {
        return rc;
    }
    op->arg.timeout.moment_ns = deadline_ns;
    rc = gyre__op_begin(op, GYRE_OP_TIMEOUT, loop, NULL, 0);
    if (rc == 0) {
        rc = gyre_op_set_deadline(op, UINT64_MAX);
        gyre_assert(rc == 0);
    }
    return rc;
}

int gyre_op_poll(struct gyre_op *op, struct gyre_fd *fd, uint32_t events, uint32_t flags)
{
    const int rc = check_fd_op(op, fd, flags, GYRE_MULTISHOT);

    if (rc < 0) {
        return rc;
    }
    if (events == 0 || (events & ~(uint32_t)(POLLIN | POLLOUT | POLLPRI | POLLRDHUP)) != 0) {
        return -EINVAL;
    }
    op->arg.poll.events = events;
    return gyre__op_begin(op, GYRE_OP_POLL, fd->loop, fd, flags);
}

int gyre_op_accept(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags)
{
    const int rc = check_fd_op(op, fd, flags, GYRE_MULTISHOT);

    if (rc < 0) {
        return rc;
    }
    if (flags & GYRE_MULTISHOT) {
        gyre__accept_prepare(fd->loop);
    }
    return gyre__op_begin(op, GYRE_OP_ACCEPT, fd->loop, fd, flags);
}

int gyre__op_accept_patiently(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags)
{
    const int rc = check_fd_op(op, fd, flags, GYRE_MULTISHOT);

    if (rc < 0) {
        return rc;
    }
    gyre__accept_prepare(fd->loop);
    return gyre__op_begin(op, GYRE_OP_ACCEPT, fd->loop, fd, flags | GYRE__OP_PATIENT);
}

int gyre_op_connect(struct gyre_connect_op *op, struct gyre_fd *fd, const struct sockaddr *address,
                    socklen_t address_len)
{
    const int rc = op == NULL ? -EINVAL : check_fd_op(&op->op, fd, 0, 0);

    if (rc < 0) {
        return rc;
    }
    if (address == NULL || address_len < sizeof(sa_family_t) || address_len > sizeof(op->address)) {
        return -EINVAL;
    }
    memcpy(&op->address, address, address_len);
    op->address_len = address_len;
    return gyre__op_begin(&op->op, GYRE_OP_CONNECT, fd->loop, fd, 0);
}

static int check_buffer(const void *data, size_t len, size_t least)
{
    return len < least || len > INT32_MAX || (data == NULL && len > 0) ? -EINVAL : 0;
}

/* What recv, send, read and write have in common. */
static int set_io(struct gyre_op *op, const struct gyre_fd *fd, const void *data, size_t len,
                  size_t least)
{
    int rc = check_fd_op(op, fd, 0, 0);

    rc = rc < 0 ? rc : check_buffer(data, len, least);
    if (rc == 0) {
        op->arg.io.data = (uint8_t *)(uintptr_t)data;
        op->len = (uint32_t)len;
        op->arg.io.offset = GYRE_OFFSET_CURRENT;
    }
    return rc;
}

static int set_offset(struct gyre_op *op, uint64_t offset)
{
    op->arg.io.offset = offset;
    return offset != GYRE_OFFSET_CURRENT && offset > INT64_MAX ? -EINVAL : 0;
}

int gyre_op_recv(struct gyre_op *op, struct gyre_fd *fd, void *data, size_t len, uint32_t flags)
{
    const int rc = flags & ~GYRE_WAITALL ? -EINVAL : set_io(op, fd, data, len, 1);

    return rc < 0 ? rc : gyre__op_begin(op, GYRE_OP_RECV, fd->loop, fd, flags);
}

int gyre_op_recv_lease(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags)
{
    const int rc = check_fd_op(op, fd, flags, GYRE_MULTISHOT);

    if (rc < 0) {
        return rc;
    }
    return gyre__op_begin(op, GYRE_OP_RECV_LEASE, fd->loop, fd, flags);
}

int gyre_op_send(struct gyre_op *op, struct gyre_fd *fd, const void *data, size_t len)
{
    const int rc = set_io(op, fd, data, len, 0);

    return rc < 0 ? rc : gyre__op_begin_send(op, fd);
}

static int check_message(const struct msghdr *msg, size_t least_pieces)
{
    size_t len = 0;

    if (msg == NULL || msg->msg_iovlen < least_pieces || msg->msg_iovlen > GYRE_IOV_MAX ||
        (msg->msg_iovlen > 0 && msg->msg_iov == NULL) || msg->msg_controllen > UINT32_MAX) {
        return -EINVAL;
    }
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        if (check_buffer(msg->msg_iov[i].iov_base, msg->msg_iov[i].iov_len, 0) < 0) {
            return -EINVAL;
        }
        len += msg->msg_iov[i].iov_len;
    }
    return len > INT32_MAX ? -EINVAL : 0;
}

/* The pieces are copied, so that the caller's array may be a local and can be advanced. */
static void set_message(struct gyre_msg_op *op, const struct msghdr *msg)
{
    for (size_t i = 0; i < msg->msg_iovlen; i++) {
        op->iov[i] = msg->msg_iov[i];
    }
    op->msg = *msg;
    op->msg.msg_iov = op->iov;
    op->msg.msg_flags = 0;
}

int gyre_op_recvmsg(struct gyre_msg_op *op, struct gyre_fd *fd, const struct msghdr *msg,
                    uint32_t flags)
{
    int rc = op == NULL ? -EINVAL : check_fd_op(&op->op, fd, flags, GYRE_WAITALL);

    rc = rc < 0 ? rc : check_message(msg, 1);
    if (rc < 0) {
        return rc;
    }
    set_message(op, msg);
    op->msg.msg_name = &op->address;
    op->msg.msg_namelen = sizeof(op->address);
    return gyre__op_begin(&op->op, GYRE_OP_RECVMSG, fd->loop, fd, flags);
}

int gyre_op_sendmsg(struct gyre_msg_op *op, struct gyre_fd *fd, const struct msghdr *msg)
{
    int rc = op == NULL ? -EINVAL : check_fd_op(&op->op, fd, 0, 0);

    rc = rc < 0 ? rc : check_message(msg, 0);
    if (rc < 0) {
        return rc;
    }
    if (msg->msg_namelen > sizeof(op->address) || (msg->msg_name == NULL && msg->msg_namelen > 0)) {
        return -EINVAL;
    }
    set_message(op, msg);
    if (msg->msg_name != NULL) {
        memcpy(&op->address, msg->msg_name, msg->msg_namelen);
        op->msg.msg_name = &op->address;
    }
    return gyre__op_begin(&op->op, GYRE_OP_SENDMSG, fd->loop, fd, 0);
}

int gyre_op_read(struct gyre_op *op, struct gyre_fd *fd, void *data, size_t len, uint64_t offset)
{
    int rc = set_io(op, fd, data, len, 1);

    rc = rc < 0 ? rc : set_offset(op, offset);
    return rc < 0 ? rc : gyre__op_begin(op, GYRE_OP_READ, fd->loop, fd, 0);
}

int gyre_op_write(struct gyre_op *op, struct gyre_fd *fd, const void *data, size_t len,
                  uint64_t offset)
{
    int rc = set_io(op, fd, data, len, 0);

    rc = rc < 0 ? rc : set_offset(op, offset);
    return rc < 0 ? rc : gyre__op_begin(op, GYRE_OP_WRITE, fd->loop, fd, 0);
}

int gyre_op_close(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags)
{
    int rc = check_fd_op(op, fd, flags, GYRE_CLOSE_FLUSH | GYRE_CLOSE_SHUTDOWN);

    if (rc < 0) {
        return rc;
    }
    rc = gyre__op_begin(op, GYRE_OP_CLOSE, fd->loop, fd, flags);
    if (rc == 0) {
        gyre__fd_close(fd, op);
    }
    return rc;
}
