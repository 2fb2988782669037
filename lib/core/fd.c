/* Descriptors attached to a loop, and how they end. */
#include "core/op.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>

int gyre__fd_attach(struct gyre_fd *fd, struct gyre_loop *loop, int number, uint16_t flags)
{
    const int reserved = gyre__loop_reserve(loop, 0, 1);

    if (reserved < 0) {
        return reserved;
    }
    loop->stats.allocations += (uint64_t)reserved;
    memset(fd, 0, sizeof(*fd));
    fd->loop = loop;
    fd->number = number;
    fd->state = GYRE__FD_OPEN;
    fd->flags = flags | GYRE__FD_NO_ROOM_EVENTS;
    fd->ready = GYRE__DIR_OUT; /* a send is worth a try; a receive rarely is */
    gyre__list_init(&fd->ops);
    loop->fds++;
    return 0;
}

int gyre_fd_init(struct gyre_fd *fd, struct gyre_loop *loop, int number)
{
    int rc;

    if (fd == NULL || loop == NULL || number < 0) {
        return -EINVAL;
    }
    rc = gyre__loop_check(loop);
    rc = rc < 0 ? rc : gyre__sys_fcntl(number, F_GETFL, 0);
    if (rc < 0) {
        return rc == -1 ? -errno : rc;
    }
    return gyre__fd_attach(fd, loop, number, rc & O_NONBLOCK ? GYRE__FD_NONBLOCK : 0);
}

static int check_attached(const struct gyre_fd *fd)
{
    if (fd == NULL || (fd->state != GYRE__FD_OPEN && fd->state != GYRE__FD_CLOSING)) {
        return -EINVAL;
    }
    return gyre__loop_check(fd->loop);
}

int gyre_fd_detach(struct gyre_fd *fd, int *out_number)
{
    const int rc = out_number == NULL ? -EINVAL : check_attached(fd);

    if (rc < 0) {
        return rc;
    }
    if (fd->state == GYRE__FD_CLOSING) {
        return GYRE_ECLOSING;
    }
    if (!gyre__list_empty(&fd->ops)) {
        return -EBUSY;
    }
    fd->loop->backend->forget(fd);
    gyre__fd_drop_name(fd);
    fd->loop->fds--;
    fd->state = GYRE__FD_CLOSED;
    *out_number = fd->number;
    return 0;
}

int gyre_fd_number(const struct gyre_fd *fd)
{
    const int attached =
        fd != NULL && (fd->state == GYRE__FD_OPEN || fd->state == GYRE__FD_CLOSING);

    return attached ? fd->number : -EBADF;
}

int gyre_fd_cancel(struct gyre_fd *fd)
{
    const int rc = check_attached(fd);
    int asked = 0;

    if (rc < 0) {
        return rc;
    }
    for (struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        gyre__op_request_end(gyre__op_on(fd, link));
        asked++;
    }
    return asked;
}

void gyre__fd_close(struct gyre_fd *fd, struct gyre_op *close)
{
    gyre_assert(fd->state == GYRE__FD_OPEN && close->state == GYRE__OP_QUEUED);
    fd->state = GYRE__FD_CLOSING;
    for (struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        struct gyre_op *op = gyre__op_on(fd, link);

        if (!(close->flags & GYRE_CLOSE_FLUSH) || gyre__kind_of(op)->direction != GYRE__DIR_OUT) {
            gyre__op_request_end(op);
        }
    }
    gyre__list_append(&fd->ops, &close->fd_link);
    gyre__fd_step(fd);
}

void gyre__fd_drop_name(struct gyre_fd *fd)
{
    if (fd->slot != 0) {
        gyre__slots_release(&fd->loop->slots, fd->slot);
        fd->slot = 0;
    }
}

static int ask(struct gyre_fd *fd, int option)
{
    int value = -1;
    socklen_t len = sizeof(value);

    fd->loop->stats.syscalls++;
    return gyre__sys_getsockopt(fd->number, SOL_SOCKET, option, &value, &len) == 0 ? value : -errno;
}

/* For most descriptors one question is enough: they are TCP. */
int gyre__fd_learn_type(struct gyre_fd *fd)
{
    const int protocol = ask(fd, SO_PROTOCOL);
    const int is_socket = protocol != -ENOTSOCK && protocol != -EBADF;
    const int type = protocol == IPPROTO_TCP ? SOCK_STREAM
                     : protocol < 0          ? protocol
                                             : ask(fd, SO_TYPE);

    if (is_socket && type < 0) {
        return type;
    }
    fd->flags |= GYRE__FD_TYPED;
    fd->flags |= is_socket ? GYRE__FD_SOCKET : 0;
    fd->flags |= type == SOCK_STREAM ? GYRE__FD_STREAM : 0;
    fd->flags |= protocol == IPPROTO_TCP ? GYRE__FD_TCP : 0;
    return 0;
}

/* At the place of urgent data TCP says EAGAIN also because a signal is pending, whatever is behind
 * it, and will not speak of that again (tcp_recvmsg_locked() in Linux). So where a mark is near it is
 * asked once more. */
int gyre__fd_note_empty(struct gyre_op *op)
{
    const uint8_t direction = gyre__kind_of(op)->direction;
    const uint8_t near = GYRE__READY_END | GYRE__READY_ASKED;
    struct gyre_fd *fd = op->fd;

    op->loop->stats.eagains++;
    if (direction == GYRE__DIR_IN && (fd->ready & near) == GYRE__READY_END) {
        fd->ready |= GYRE__READY_ASKED; /* the end stays: it may be behind what comes now */
        return 1;
    }
    fd->ready &= (uint8_t) ~(direction == GYRE__DIR_IN ? direction | near : direction);
    return 0;
}
