/*
 * System calls that concern sockets, and reading and writing. The files never block, so a call on a
 * blocking descriptor waits here and tries again.
 */
#include "sim/kernel.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>

static struct sim_socket *socket_of(int number, int *out_error)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_process(), number);
    struct sim_socket *socket = file != NULL ? gyre__sim_socket_of(file) : NULL;

    *out_error = file == NULL ? -EBADF : socket == NULL ? -ENOTSOCK : 0;
    return socket;
}

/* ---- blocking ---- */

static int must_wait(const struct sim_file *file, ssize_t rc, int flags)
{
    return rc == -EAGAIN && !(file->flags & O_NONBLOCK) && !(flags & MSG_DONTWAIT);
}

/* What is left of a message behind its first @done bytes. */
struct rest {
    struct iovec pieces[CUT_PIECES];
    struct msghdr msg;
};

static void keep_rest(struct rest *rest, const struct msghdr *msg, size_t done)
{
    size_t count = 0;

    for (size_t i = 0; i < msg->msg_iovlen && count < CUT_PIECES; i++) {
        const struct iovec *piece = &msg->msg_iov[i];
        const size_t skip = piece->iov_len < done ? piece->iov_len : done;

        done -= skip;
        if (skip < piece->iov_len) {
            rest->pieces[count].iov_base = (char *)piece->iov_base + skip;
            rest->pieces[count++].iov_len = piece->iov_len - skip;
        }
    }
    rest->msg.msg_iov = rest->pieces;
    rest->msg.msg_iovlen = count;
}

/* A blocking stream takes all that it is given, and gives all that MSG_WAITALL asks for, unless it
 * ends. */
static int goes_on(const struct sim_file *file, ssize_t rc, int flags)
{
    const struct sim_socket *socket = gyre__sim_socket_of((struct sim_file *)(uintptr_t)file);

    return rc > 0 && must_wait(file, -EAGAIN, flags) && socket->type == SOCK_STREAM;
}

static ssize_t send_blocking(int number, const struct msghdr *msg, int flags)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct rest rest = {.msg = *msg};
    size_t done = 0;
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    if (gyre__sim_call_fault(GYRE_SIM_FAULT_CALL_EINTR)) {
        return -EINTR;
    }
    for (;;) {
        rc = gyre__sim_do_send(file, &rest.msg, flags);
        done += rc > 0 ? (size_t)rc : 0;
        if (must_wait(file, rc, flags)) {
            gyre__sim_file_await(file, EPOLLOUT | EPOLLERR | EPOLLHUP, UINT64_MAX);
        } else if (goes_on(file, rc, flags) && done < len) {
            rest.msg = (struct msghdr){0};
            keep_rest(&rest, msg, done);
        } else {
            return done > 0 ? (ssize_t)done : rc;
        }
    }
}

/* A TCP socket that gave less than there was room for was empty then: epoll(7) says so. So what a
 * fault has left there comes now, and is told of. io_uring says by a flag that there is more. */
static void tell_of_rest(struct sim_file *file, size_t room, ssize_t got, int flags)
{
    const struct sim_socket *socket = gyre__sim_socket_of(file);
    int waiting = 0;

    if (got > 0 && (size_t)got < room && !(flags & MSG_PEEK) && socket->type == SOCK_STREAM &&
        socket->family != AF_UNIX && file->ops->ioctl(file, SIOCINQ, &waiting) == 0 &&
        waiting > 0) {
        gyre__sim_nudge(file, EPOLLIN | EPOLLRDNORM);
    }
}

static ssize_t recv_once(struct sim_file *file, struct msghdr *msg, int flags)
{
    const size_t room = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    ssize_t rc;

    while (rc = gyre__sim_do_recv(file, msg, flags), must_wait(file, rc, flags)) {
        gyre__sim_file_await(file, EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP, UINT64_MAX);
    }
    tell_of_rest(file, room, rc, flags);
    return rc;
}

static ssize_t recv_blocking(int number, struct msghdr *msg, int flags)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    size_t done;
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    if (gyre__sim_call_fault(GYRE_SIM_FAULT_CALL_EINTR)) {
        return -EINTR;
    }
    rc = recv_once(file, msg, flags);
    done = rc > 0 ? (size_t)rc : 0;
    while ((flags & MSG_WAITALL) &&
           goes_on(file, rc, flags | (flags & MSG_PEEK ? MSG_DONTWAIT : 0)) && done < len) {
        struct rest rest = {.msg = {0}};

        keep_rest(&rest, msg, done);
        rc = recv_once(file, &rest.msg, flags);
        done += rc > 0 ? (size_t)rc : 0;
    }
    return done > 0 ? (ssize_t)done : rc;
}

/* ---- sockets ---- */

int gyre__sim_call_socket(int family, int type, int protocol)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_socket *socket;
    int rc = gyre__sim_call_fault(GYRE_SIM_FAULT_SOCKET_EMFILE)    ? -EMFILE
             : gyre__sim_call_fault(GYRE_SIM_FAULT_SOCKET_ENOBUFS) ? -ENOBUFS
                                                                   : gyre__sim_fd_room(process, 1);

    rc = rc < 0 ? rc
                : gyre__sim_socket_make(process->host, family,
                                        type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol, &socket);
    return (int)gyre__sim_call_outcome(rc < 0 ? rc : gyre__sim_call_install(&socket->file, type));
}

int gyre__sim_call_socketpair(int family, int type, int protocol, int *numbers)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_socket *pair[2];
    int rc = family != AF_UNIX ? -EAFNOSUPPORT : protocol != 0 ? -EPROTONOSUPPORT : 0;

    rc = rc < 0 ? rc : gyre__sim_fd_room(process, 2);
    rc = rc < 0 ? rc
                : gyre__sim_unix_pair(process->host, type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), pair);
    if (rc < 0) {
        return (int)gyre__sim_call_outcome(rc);
    }
    numbers[0] = gyre__sim_call_install(&pair[0]->file, type);
    numbers[1] = gyre__sim_call_install(&pair[1]->file, type);
    gyre_assert(numbers[0] >= 0 && numbers[1] >= 0);
    return 0;
}

int gyre__sim_call_bind(int number, const struct sockaddr *address, socklen_t len)
{
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    return (int)gyre__sim_call_outcome(rc < 0 ? rc : socket->ops->bind(socket, address, len));
}

int gyre__sim_call_listen(int number, int backlog)
{
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    if (rc == 0) {
        rc = socket->ops->listen != NULL ? socket->ops->listen(socket, backlog) : -EOPNOTSUPP;
    }
    return (int)gyre__sim_call_outcome(rc);
}

int gyre__sim_call_name(int number, int peer, struct sockaddr *address, socklen_t *len)
{
    struct sockaddr_storage name = {0};
    socklen_t name_len = 0;
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    rc = rc < 0 ? rc : socket->ops->name(socket, peer, &name, &name_len);
    if (rc == 0) {
        memcpy(address, &name, name_len < *len ? name_len : *len);
        *len = name_len;
    }
    return (int)gyre__sim_call_outcome(rc);
}

int gyre__sim_call_accept4(int number, struct sockaddr *address, socklen_t *len, int flags)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_file *file = gyre__sim_fd_file(process, number);
    int rc = file == NULL ? -EBADF : 0;

    if (rc == 0 && gyre__sim_call_fault(GYRE_SIM_FAULT_CALL_EINTR)) {
        rc = -EINTR;
    }
    while (rc == 0) {
        rc = gyre__sim_do_accept(process, file, flags);
        if (!must_wait(file, rc, 0)) {
            break;
        }
        gyre__sim_file_await(file, EPOLLIN, UINT64_MAX);
        rc = 0;
    }
    if (rc >= 0 && address != NULL) {
        gyre__sim_call_name(rc, 2, address, len); /* also of one that was reset meanwhile */
    }
    return (int)gyre__sim_call_outcome(rc);
}

/* Another try is due when the socket is writable: the connection stands, has failed, or (Unix, for
 * the blocking) the backlog has a place. */
static int must_wait_to_connect(struct sim_file *file, int rc)
{
    const struct sim_socket *socket = gyre__sim_socket_of(file);

    if (file->flags & O_NONBLOCK) {
        return 0;
    }
    return rc == -EINPROGRESS || rc == -EALREADY ||
           (rc == -EAGAIN && socket != NULL && socket->family == AF_UNIX);
}

int gyre__sim_call_connect(int number, const struct sockaddr *address, socklen_t len)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    int rc = file == NULL ? -EBADF : gyre__sim_do_connect(file, address, len);

    while (file != NULL && must_wait_to_connect(file, rc)) {
        gyre__sim_file_await(file, EPOLLOUT | EPOLLERR | EPOLLHUP, UINT64_MAX);
        rc = gyre__sim_do_connect(file, address, len);
    }
    return (int)gyre__sim_call_outcome(rc);
}

int gyre__sim_call_shutdown(int number, int how)
{
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    return (int)gyre__sim_call_outcome(rc < 0 ? rc : socket->ops->shutdown(socket, how));
}

int gyre__sim_call_getsockname(int number, struct sockaddr *address, socklen_t *len)
{
    return gyre__sim_call_name(number, 0, address, len);
}

int gyre__sim_call_getpeername(int number, struct sockaddr *address, socklen_t *len)
{
    return gyre__sim_call_name(number, 1, address, len);
}

int gyre__sim_call_setsockopt(int number, int level, int name, const void *value, socklen_t len)
{
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    /* Not SO_LINGER: Linux notes it in two fields, and cannot fail to. */
    if (rc == 0 && (level != SOL_SOCKET || name != SO_LINGER) &&
        gyre__sim_call_fault(GYRE_SIM_FAULT_OPTION_FAILS)) {
        rc = -ENOBUFS;
    }
    return (int)gyre__sim_call_outcome(
        rc < 0 ? rc : gyre__sim_socket_set(socket, level, name, value, len));
}

int gyre__sim_call_getsockopt(int number, int level, int name, void *value, socklen_t *len)
{
    struct sim_socket *socket;
    int rc;

    gyre__sim_call_enter();
    socket = socket_of(number, &rc);
    return (int)gyre__sim_call_outcome(
        rc < 0 ? rc : gyre__sim_socket_get(socket, level, name, value, len));
}

/* ---- sending and receiving ---- */

ssize_t gyre__sim_call_send(int number, const void *data, size_t len, int flags)
{
    return gyre__sim_call_sendto(number, data, len, flags, NULL, 0);
}

ssize_t gyre__sim_call_sendto(int number, const void *data, size_t len, int flags,
                              const struct sockaddr *to, socklen_t to_len)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    const struct msghdr msg = {.msg_name = (void *)(uintptr_t)to,
                               .msg_namelen = to_len,
                               .msg_iov = &piece,
                               .msg_iovlen = 1};

    return gyre__sim_call_outcome(send_blocking(number, &msg, flags));
}

ssize_t gyre__sim_call_sendmsg(int number, const struct msghdr *msg, int flags)
{
    return gyre__sim_call_outcome(send_blocking(number, msg, flags));
}

int gyre__sim_call_sendmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags)
{
    ssize_t rc = 0;
    unsigned done = 0;

    for (; done < count; done++) {
        rc = send_blocking(number, &msgs[done].msg_hdr, flags);
        if (rc < 0) {
            break;
        }
        msgs[done].msg_len = (unsigned)rc;
    }
    return (int)gyre__sim_call_outcome(done > 0 ? (ssize_t)done : rc);
}

ssize_t gyre__sim_call_recv(int number, void *data, size_t len, int flags)
{
    struct iovec piece = {.iov_base = data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &piece, .msg_iovlen = 1};

    return gyre__sim_call_outcome(recv_blocking(number, &msg, flags));
}

ssize_t gyre__sim_call_recvmsg(int number, struct msghdr *msg, int flags)
{
    return gyre__sim_call_outcome(recv_blocking(number, msg, flags));
}

/* An error behind a message is told by the next call: the model leaves it where it is. */
int gyre__sim_call_recvmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags,
                            struct timespec *timeout)
{
    ssize_t rc = 0;
    unsigned done = 0;

    (void)timeout;
    for (; done < count; done++) {
        rc = recv_blocking(number, &msgs[done].msg_hdr, done > 0 ? flags | MSG_DONTWAIT : flags);
        if (rc < 0) {
            break;
        }
        msgs[done].msg_len = (unsigned)rc;
    }
    if (done > 0 && rc < 0 && rc != -EAGAIN && rc != -EINTR) {
        struct sim_socket *socket =
            gyre__sim_socket_of(gyre__sim_fd_file(gyre__sim_process(), number));

        socket->error = (int)-rc;
    }
    return (int)gyre__sim_call_outcome(done > 0 ? (ssize_t)done : rc);
}

static ssize_t read_blocking(int number, const struct iovec *pieces, int count)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    while (rc = gyre__sim_do_read(file, pieces, count), must_wait(file, rc, 0)) {
        gyre__sim_file_await(file, EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP, UINT64_MAX);
    }
    return rc;
}

static ssize_t write_blocking(int number, const struct iovec *pieces, int count)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    while (rc = gyre__sim_do_write(file, pieces, count), must_wait(file, rc, 0)) {
        gyre__sim_file_await(file, EPOLLOUT | EPOLLERR | EPOLLHUP, UINT64_MAX);
    }
    return rc;
}

ssize_t gyre__sim_call_read(int number, void *data, size_t len)
{
    const struct iovec piece = {.iov_base = data, .iov_len = len};

    return gyre__sim_call_outcome(read_blocking(number, &piece, 1));
}

ssize_t gyre__sim_call_write(int number, const void *data, size_t len)
{
    const struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

    return gyre__sim_call_outcome(write_blocking(number, &piece, 1));
}

/* Nothing here can be read at an offset. */
ssize_t gyre__sim_call_preadv2(int number, const struct iovec *pieces, int count, off_t offset,
                               int flags)
{
    (void)flags;
    return gyre__sim_call_outcome(offset == -1 ? read_blocking(number, pieces, count) : -ESPIPE);
}

ssize_t gyre__sim_call_pwritev2(int number, const struct iovec *pieces, int count, off_t offset,
                                int flags)
{
    (void)flags;
    return gyre__sim_call_outcome(offset == -1 ? write_blocking(number, pieces, count) : -ESPIPE);
}
