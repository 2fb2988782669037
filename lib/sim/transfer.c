/*
 * Transfers, accepting and connecting as the system calls do them, with their faults, but without
 * blocking: for call.c and for io_uring.
 */
#include "sim/kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <sys/epoll.h>

/* The connection is reset just before. What that means for the call is the protocol's to say. */
static void break_sometimes(struct sim_socket *socket, enum gyre_sim_fault which)
{
    if (socket->type == SOCK_STREAM && socket->family != AF_UNIX && gyre__sim_call_fault(which)) {
        gyre__sim_tcp_break(socket);
    }
}

static int send_fault(struct sim_socket *socket)
{
    const int connected = socket->type == SOCK_STREAM;

    /* A socket that is dead says so before it looks for room. */
    if (!(socket->file.ops->poll(&socket->file) & (EPOLLERR | EPOLLHUP)) &&
        gyre__sim_call_fault(GYRE_SIM_FAULT_SEND_AGAIN)) {
        return -EAGAIN;
    }
    if (!connected && gyre__sim_call_fault(GYRE_SIM_FAULT_SEND_ENOBUFS)) {
        return -ENOBUFS;
    }
    break_sometimes(socket, GYRE_SIM_FAULT_SEND_RESET);
    return 0;
}

/* A message that is cut: its first @len bytes. */
static size_t cut_pieces(const struct msghdr *msg, size_t len, struct iovec *pieces, size_t room)
{
    size_t count = 0;

    for (; count < msg->msg_iovlen && count < room && len > 0; count++) {
        pieces[count] = msg->msg_iov[count];
        pieces[count].iov_len = pieces[count].iov_len < len ? pieces[count].iov_len : len;
        len -= pieces[count].iov_len;
    }
    return count;
}

/* How much of @len a stream moves in one call. */
static size_t shortened(size_t len, enum gyre_sim_fault which)
{
    if (len <= 1 || !gyre__sim_call_fault(which)) {
        return len;
    }
    return 1 + (size_t)gyre__sim_below(gyre__sim_process()->host->sim, len - 1);
}

/* A send that would block has its edge later, and one that a fault turned away would never get it:
 * so the kernel tells of room soon. */
struct nudge {
    struct sim_event event;
    struct gyre_link link; /* of the host */
    struct sim_file *file;
    uint32_t events;
};

static void free_nudge(struct nudge *nudge)
{
    gyre__sim_unschedule(nudge->file->sim, &nudge->event);
    gyre__list_remove(&nudge->link);
    gyre__sim_file_put(nudge->file);
    free(nudge);
}

static void give_nudge(struct sim_event *event)
{
    struct nudge *nudge = gyre_container_of(event, struct nudge, event);

    gyre__sim_file_wake(nudge->file, nudge->events);
    free_nudge(nudge);
}

void gyre__sim_nudges_free(struct gyre_sim_host *host)
{
    while (!gyre__list_empty(&host->nudges)) {
        free_nudge(gyre_container_of(host->nudges.next, struct nudge, link));
    }
}

void gyre__sim_nudge(struct sim_file *file, uint32_t events)
{
    struct nudge *nudge = gyre__sim_alloc(sizeof(*nudge));

    nudge->event.fire = give_nudge;
    nudge->file = file;
    nudge->events = events;
    gyre__sim_file_hold(file);
    gyre__list_append(&file->host->nudges, &nudge->link);
    gyre__sim_schedule(file->sim, &nudge->event,
                       gyre__sim_now(file->sim) + 1000 + gyre__sim_below(file->sim, GYRE_MSEC));
}

ssize_t gyre__sim_do_send(struct sim_file *file, const struct msghdr *msg, int flags)
{
    struct sim_socket *socket = gyre__sim_socket_of(file);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct iovec pieces[CUT_PIECES];
    struct msghdr cut = *msg;
    int rc;

    if (socket == NULL) {
        return -ENOTSOCK;
    }
    rc = send_fault(socket);
    if (rc < 0) {
        if (rc == -EAGAIN) {
            gyre__sim_nudge(file, EPOLLOUT | EPOLLWRNORM);
        }
        return rc;
    }
    if (socket->type == SOCK_STREAM && msg->msg_controllen == 0) {
        const size_t part = shortened(len, GYRE_SIM_FAULT_SEND_SHORT);

        if (part < len) {
            cut.msg_iov = pieces;
            cut.msg_iovlen = cut_pieces(msg, part, pieces, CUT_PIECES);
        }
    }
    return socket->ops->send(socket, &cut, flags);
}

/* Of @len bytes, how many could be received. */
static size_t there_is(struct sim_file *file, size_t len)
{
    int waiting = 0;

    if (file->ops->ioctl == NULL || file->ops->ioctl(file, SIOCINQ, &waiting) < 0 || waiting <= 0) {
        return len;
    }
    return (size_t)waiting < len ? (size_t)waiting : len;
}

ssize_t gyre__sim_do_recv(struct sim_file *file, struct msghdr *msg, int flags)
{
    struct sim_socket *socket = gyre__sim_socket_of(file);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct iovec pieces[CUT_PIECES];
    struct iovec *const whole = msg->msg_iov;
    const size_t whole_count = msg->msg_iovlen;
    ssize_t rc;

    if (socket == NULL) {
        return -ENOTSOCK;
    }
    if (gyre__sim_call_fault(GYRE_SIM_FAULT_RECV_AGAIN)) {
        gyre__sim_nudge(file, EPOLLIN | EPOLLRDNORM);
        return -EAGAIN;
    }
    if (gyre__sim_call_fault(GYRE_SIM_FAULT_RECV_ENOMEM) && !(flags & MSG_ERRQUEUE)) {
        gyre__sim_nudge(file, EPOLLIN | EPOLLRDNORM);
        return -ENOMEM;
    }
    break_sometimes(socket, GYRE_SIM_FAULT_RECV_RESET);
    if (socket->type == SOCK_STREAM && !(flags & MSG_PEEK)) {
        const size_t most = there_is(file, len);
        const size_t part = shortened(most, GYRE_SIM_FAULT_RECV_SHORT);

        if (part < most) {
            msg->msg_iovlen = cut_pieces(msg, part, pieces, CUT_PIECES);
            msg->msg_iov = pieces;
        }
    }
    rc = socket->ops->recv(socket, msg, flags);
    msg->msg_iov = whole;
    msg->msg_iovlen = whole_count;
    return rc;
}

static int accept_fault(void)
{
    return gyre__sim_call_fault(GYRE_SIM_FAULT_ACCEPT_EMFILE)    ? -EMFILE
           : gyre__sim_call_fault(GYRE_SIM_FAULT_ACCEPT_ENFILE)  ? -ENFILE
           : gyre__sim_call_fault(GYRE_SIM_FAULT_ACCEPT_ABORTED) ? -ECONNABORTED
           : gyre__sim_call_fault(GYRE_SIM_FAULT_ACCEPT_ENOBUFS) ? -ENOBUFS
                                                                 : 0;
}

int gyre__sim_do_accept(struct gyre_sim_process *process, struct sim_file *file, int flags)
{
    struct sim_socket *socket = gyre__sim_socket_of(file);
    struct sim_socket *accepted;
    int number;
    int rc;

    if (socket == NULL) {
        return -ENOTSOCK;
    }
    if (socket->ops->accept == NULL || socket->type == SOCK_DGRAM) {
        return -EOPNOTSUPP;
    }
    if (!socket->listening) {
        return -EINVAL;
    }
    rc = gyre__sim_fd_room(process, 1); /* before the connection leaves the backlog, as in Linux */
    rc = rc < 0 ? rc : accept_fault();
    rc = rc < 0 ? rc : socket->ops->accept(socket, &accepted);
    if (rc < 0) {
        return rc;
    }
    accepted->file.flags |= flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;
    number = gyre__sim_fd_install(process, &accepted->file, 0, flags & SOCK_CLOEXEC);
    gyre__sim_file_put(&accepted->file);
    gyre__sim_trace(process->host->sim, "accept %llu as %d in %u",
                    (unsigned long long)accepted->file.id, number, process->pid);
    return number;
}

static int connect_fault(const struct sim_socket *socket)
{
    if (socket->connecting || socket->type != SOCK_STREAM) {
        return 0;
    }
    if (gyre__sim_call_fault(GYRE_SIM_FAULT_CONNECT_REFUSED)) {
        return -ECONNREFUSED;
    }
    if (socket->family == AF_UNIX) {
        return 0;
    }
    return gyre__sim_call_fault(GYRE_SIM_FAULT_CONNECT_TIMEOUT)   ? -ETIMEDOUT
           : gyre__sim_call_fault(GYRE_SIM_FAULT_CONNECT_UNREACH) ? -EHOSTUNREACH
           : gyre__sim_call_fault(GYRE_SIM_FAULT_CONNECT_NOPORT)  ? -EADDRNOTAVAIL
                                                                  : 0;
}

int gyre__sim_do_connect(struct sim_file *file, const struct sockaddr *address, socklen_t len)
{
    struct sim_socket *socket = gyre__sim_socket_of(file);
    int rc;

    if (socket == NULL) {
        return -ENOTSOCK;
    }
    rc = connect_fault(socket);
    rc = rc < 0 ? rc : socket->ops->connect(socket, address, len);
    socket->connecting = rc == -EINPROGRESS || rc == -EALREADY;
    return rc;
}

ssize_t gyre__sim_do_read(struct sim_file *file, const struct iovec *pieces, int count)
{
    return file->ops->read != NULL ? file->ops->read(file, pieces, count, 0) : -EINVAL;
}

ssize_t gyre__sim_do_write(struct sim_file *file, const struct iovec *pieces, int count)
{
    return file->ops->write != NULL ? file->ops->write(file, pieces, count, 0) : -EINVAL;
}
