/*
 * The table of base/sys.h for simulated programs: from numbers to files, from -errno to errno, and
 * from calls that may block to files that never do. Each call takes a little virtual time, in which
 * the network goes on; and it may fail by a fault, always instead of being carried out and never
 * after.
 */
#include "sim/thread.h"
#include "sim/world.h"

#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>

enum {
    CALL_NS = 200, /* a system call, and up to twice as much */
    CLOCK_NS = 25, /* reading the clock is none */
    RELAX_NS = 100,
    CALLS_AT_A_STRETCH = 512,
    LEAP_NS_MAX = 10 * 1000000000ull / 1000, /* in microseconds */
};

#define CLOCK_BEGIN_NS (1000 * GYRE_SEC)

static struct gyre_sim *sim_of_caller(void)
{
    return gyre__sim_process()->host->sim;
}

/* Every call begins here. */
static struct gyre_sim_process *enter(void)
{
    struct gyre_sim_process *process = gyre__sim_process();
    struct gyre_sim *sim = process->host->sim;

    process->calls++;
    gyre__sim_self()->busy++;
    gyre__sim_spend(sim, CALL_NS + gyre__sim_below(sim, CALL_NS));
    return process;
}

static int fault(enum gyre_sim_fault which)
{
    return gyre__sim_fault(sim_of_caller(), which);
}

/* From -errno to -1 and errno. */
static ssize_t outcome(ssize_t rc)
{
    if (rc >= 0) {
        gyre__sim_self()->idle_waits = 0;
        return rc;
    }
    errno = (int)-rc;
    return -1;
}

static struct sim_socket *socket_of(int number, int *out_error)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_process(), number);
    struct sim_socket *socket = file != NULL ? gyre__sim_socket_of(file) : NULL;

    *out_error = file == NULL ? -EBADF : socket == NULL ? -ENOTSOCK : 0;
    return socket;
}

/* ---- transfers, with the faults of theirs; also for io_uring ---- */

/* The connection is reset just before. What that means for the call is the protocol's to say. */
static void break_sometimes(struct sim_socket *socket, enum gyre_sim_fault which)
{
    if (socket->type == SOCK_STREAM && socket->family != AF_UNIX && fault(which)) {
        gyre__sim_tcp_break(socket);
    }
}

static int send_fault(struct sim_socket *socket)
{
    const int connected = socket->type == SOCK_STREAM;

    /* A socket that is dead says so before it looks for room. */
    if (!(socket->file.ops->poll(&socket->file) & (EPOLLERR | EPOLLHUP)) &&
        fault(GYRE_SIM_FAULT_SEND_AGAIN)) {
        return -EAGAIN;
    }
    if (!connected && fault(GYRE_SIM_FAULT_SEND_ENOBUFS)) {
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

enum { CUT_PIECES = 16 };

/* How much of @len a stream moves in one call. */
static size_t shortened(size_t len, enum gyre_sim_fault which)
{
    if (len <= 1 || !fault(which)) {
        return len;
    }
    return 1 + (size_t)gyre__sim_below(sim_of_caller(), len - 1);
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

static void nudge_later(struct sim_file *file, uint32_t events)
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
            nudge_later(file, EPOLLOUT | EPOLLWRNORM);
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
    if (fault(GYRE_SIM_FAULT_RECV_AGAIN)) {
        nudge_later(file, EPOLLIN | EPOLLRDNORM);
        return -EAGAIN;
    }
    if (fault(GYRE_SIM_FAULT_RECV_ENOMEM) && !(flags & MSG_ERRQUEUE)) {
        nudge_later(file, EPOLLIN | EPOLLRDNORM);
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
    return fault(GYRE_SIM_FAULT_ACCEPT_EMFILE)    ? -EMFILE
           : fault(GYRE_SIM_FAULT_ACCEPT_ENFILE)  ? -ENFILE
           : fault(GYRE_SIM_FAULT_ACCEPT_ABORTED) ? -ECONNABORTED
           : fault(GYRE_SIM_FAULT_ACCEPT_ENOBUFS) ? -ENOBUFS
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
    if (fault(GYRE_SIM_FAULT_CONNECT_REFUSED)) {
        return -ECONNREFUSED;
    }
    if (socket->family == AF_UNIX) {
        return 0;
    }
    return fault(GYRE_SIM_FAULT_CONNECT_TIMEOUT)   ? -ETIMEDOUT
           : fault(GYRE_SIM_FAULT_CONNECT_UNREACH) ? -EHOSTUNREACH
           : fault(GYRE_SIM_FAULT_CONNECT_NOPORT)  ? -EADDRNOTAVAIL
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
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct rest rest = {.msg = *msg};
    size_t done = 0;
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    if (fault(GYRE_SIM_FAULT_CALL_EINTR)) {
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
        nudge_later(file, EPOLLIN | EPOLLRDNORM);
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
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    size_t done;
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    if (fault(GYRE_SIM_FAULT_CALL_EINTR)) {
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

static int install(struct sim_file *file, int flags)
{
    const int number = gyre__sim_fd_install(gyre__sim_process(), file, 0, flags & SOCK_CLOEXEC);

    file->flags |= flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;
    gyre__sim_file_put(file);
    return number;
}

static int call_socket(int family, int type, int protocol)
{
    struct gyre_sim_process *process = enter();
    struct sim_socket *socket;
    int rc = fault(GYRE_SIM_FAULT_SOCKET_EMFILE)    ? -EMFILE
             : fault(GYRE_SIM_FAULT_SOCKET_ENOBUFS) ? -ENOBUFS
                                                    : gyre__sim_fd_room(process, 1);

    rc = rc < 0 ? rc
                : gyre__sim_socket_make(process->host, family,
                                        type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), protocol, &socket);
    return (int)outcome(rc < 0 ? rc : install(&socket->file, type));
}

static int call_socketpair(int family, int type, int protocol, int *numbers)
{
    struct gyre_sim_process *process = enter();
    struct sim_socket *pair[2];
    int rc = family != AF_UNIX ? -EAFNOSUPPORT : protocol != 0 ? -EPROTONOSUPPORT : 0;

    rc = rc < 0 ? rc : gyre__sim_fd_room(process, 2);
    rc = rc < 0 ? rc
                : gyre__sim_unix_pair(process->host, type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK), pair);
    if (rc < 0) {
        return (int)outcome(rc);
    }
    numbers[0] = install(&pair[0]->file, type);
    numbers[1] = install(&pair[1]->file, type);
    gyre_assert(numbers[0] >= 0 && numbers[1] >= 0);
    return 0;
}

static int call_bind(int number, const struct sockaddr *address, socklen_t len)
{
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    return (int)outcome(rc < 0 ? rc : socket->ops->bind(socket, address, len));
}

static int call_listen(int number, int backlog)
{
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    if (rc == 0) {
        rc = socket->ops->listen != NULL ? socket->ops->listen(socket, backlog) : -EOPNOTSUPP;
    }
    return (int)outcome(rc);
}

static int call_name(int number, int peer, struct sockaddr *address, socklen_t *len)
{
    struct sockaddr_storage name = {0};
    socklen_t name_len = 0;
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    rc = rc < 0 ? rc : socket->ops->name(socket, peer, &name, &name_len);
    if (rc == 0) {
        memcpy(address, &name, name_len < *len ? name_len : *len);
        *len = name_len;
    }
    return (int)outcome(rc);
}

static int call_accept4(int number, struct sockaddr *address, socklen_t *len, int flags)
{
    struct gyre_sim_process *process = enter();
    struct sim_file *file = gyre__sim_fd_file(process, number);
    int rc = file == NULL ? -EBADF : 0;

    if (rc == 0 && fault(GYRE_SIM_FAULT_CALL_EINTR)) {
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
        call_name(rc, 2, address, len); /* also of one that was reset meanwhile */
    }
    return (int)outcome(rc);
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

static int call_connect(int number, const struct sockaddr *address, socklen_t len)
{
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
    int rc = file == NULL ? -EBADF : gyre__sim_do_connect(file, address, len);

    while (file != NULL && must_wait_to_connect(file, rc)) {
        gyre__sim_file_await(file, EPOLLOUT | EPOLLERR | EPOLLHUP, UINT64_MAX);
        rc = gyre__sim_do_connect(file, address, len);
    }
    return (int)outcome(rc);
}

static int call_shutdown(int number, int how)
{
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    return (int)outcome(rc < 0 ? rc : socket->ops->shutdown(socket, how));
}

static int call_getsockname(int number, struct sockaddr *address, socklen_t *len)
{
    return call_name(number, 0, address, len);
}

static int call_getpeername(int number, struct sockaddr *address, socklen_t *len)
{
    return call_name(number, 1, address, len);
}

static int call_setsockopt(int number, int level, int name, const void *value, socklen_t len)
{
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    /* Not SO_LINGER: Linux notes it in two fields, and cannot fail to. */
    if (rc == 0 && (level != SOL_SOCKET || name != SO_LINGER) &&
        fault(GYRE_SIM_FAULT_OPTION_FAILS)) {
        rc = -ENOBUFS;
    }
    return (int)outcome(rc < 0 ? rc : gyre__sim_socket_set(socket, level, name, value, len));
}

static int call_getsockopt(int number, int level, int name, void *value, socklen_t *len)
{
    struct sim_socket *socket;
    int rc;

    enter();
    socket = socket_of(number, &rc);
    return (int)outcome(rc < 0 ? rc : gyre__sim_socket_get(socket, level, name, value, len));
}

/* ---- sending and receiving ---- */

static ssize_t call_send(int number, const void *data, size_t len, int flags)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    const struct msghdr msg = {.msg_iov = &piece, .msg_iovlen = 1};

    return outcome(send_blocking(number, &msg, flags));
}

static ssize_t call_sendmsg(int number, const struct msghdr *msg, int flags)
{
    return outcome(send_blocking(number, msg, flags));
}

static int call_sendmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags)
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
    return (int)outcome(done > 0 ? (ssize_t)done : rc);
}

static ssize_t call_recv(int number, void *data, size_t len, int flags)
{
    struct iovec piece = {.iov_base = data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &piece, .msg_iovlen = 1};

    return outcome(recv_blocking(number, &msg, flags));
}

static ssize_t call_recvmsg(int number, struct msghdr *msg, int flags)
{
    return outcome(recv_blocking(number, msg, flags));
}

/* An error behind a message is told by the next call: the model leaves it where it is. */
static int call_recvmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags,
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
    return (int)outcome(done > 0 ? (ssize_t)done : rc);
}

static ssize_t read_blocking(int number, const struct iovec *pieces, int count)
{
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
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
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
    ssize_t rc;

    if (file == NULL) {
        return -EBADF;
    }
    while (rc = gyre__sim_do_write(file, pieces, count), must_wait(file, rc, 0)) {
        gyre__sim_file_await(file, EPOLLOUT | EPOLLERR | EPOLLHUP, UINT64_MAX);
    }
    return rc;
}

static ssize_t call_read(int number, void *data, size_t len)
{
    const struct iovec piece = {.iov_base = data, .iov_len = len};

    return outcome(read_blocking(number, &piece, 1));
}

static ssize_t call_write(int number, const void *data, size_t len)
{
    const struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};

    return outcome(write_blocking(number, &piece, 1));
}

/* Nothing here can be read at an offset. */
static ssize_t call_preadv2(int number, const struct iovec *pieces, int count, off_t offset,
                            int flags)
{
    (void)flags;
    return outcome(offset == -1 ? read_blocking(number, pieces, count) : -ESPIPE);
}

static ssize_t call_pwritev2(int number, const struct iovec *pieces, int count, off_t offset,
                             int flags)
{
    (void)flags;
    return outcome(offset == -1 ? write_blocking(number, pieces, count) : -ESPIPE);
}

/* ---- descriptors ---- */

static int call_close(int number)
{
    return (int)outcome(gyre__sim_fd_close(enter(), number));
}

static int call_fcntl(int number, int what, int argument)
{
    struct gyre_sim_process *process = enter();
    struct sim_file *file = gyre__sim_fd_file(process, number);

    if (file == NULL) {
        return (int)outcome(-EBADF);
    }
    switch (what) {
    case F_GETFL:
        return file->flags;
    case F_SETFL:
        file->flags = (file->flags & O_ACCMODE) | (argument & ~O_ACCMODE);
        return 0;
    case F_GETFD:
        return process->fd[number].cloexec ? FD_CLOEXEC : 0;
    case F_SETFD:
        process->fd[number].cloexec = (argument & FD_CLOEXEC) != 0;
        return 0;
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return (int)outcome(gyre__sim_fd_install(process, file, argument, what == F_DUPFD_CLOEXEC));
    default:
        return (int)outcome(-EINVAL);
    }
}

static int interface_index(struct ifreq *request)
{
    if (strcmp(request->ifr_name, "lo") != 0) {
        return -ENODEV;
    }
    request->ifr_ifindex = 1;
    return 0;
}

static int call_ioctl(int number, unsigned long what, void *argument)
{
    struct sim_file *file = gyre__sim_fd_file(enter(), number);
    int rc = file == NULL ? -EBADF : -ENOTTY;

    if (rc == -ENOTTY && what == SIOCGIFINDEX && gyre__sim_socket_of(file) != NULL) {
        rc = interface_index(argument);
    } else if (rc == -ENOTTY && file->ops->ioctl != NULL) {
        rc = file->ops->ioctl(file, what, argument);
    }
    return (int)outcome(rc);
}

static int poll_once(struct pollfd *fds, nfds_t count)
{
    int ready = 0;

    for (nfds_t i = 0; i < count; i++) {
        struct sim_file *file = gyre__sim_fd_file(gyre__sim_process(), fds[i].fd);

        fds[i].revents = 0;
        if (file != NULL) {
            fds[i].revents =
                (short)(file->ops->poll(file) & ((uint32_t)fds[i].events | EPOLLERR | EPOLLHUP));
        } else if (fds[i].fd >= 0) {
            fds[i].revents = POLLNVAL;
        }
        ready += fds[i].revents != 0;
    }
    return ready;
}

enum { POLL_MAX = 64 };

static void poll_sleep(const struct pollfd *fds, nfds_t count, uint64_t deadline_ns)
{
    struct sim_file_wait wait[POLL_MAX];
    nfds_t waits = 0;

    for (nfds_t i = 0; i < count; i++) {
        struct sim_file *file = gyre__sim_fd_file(gyre__sim_process(), fds[i].fd);

        if (file != NULL) {
            gyre__sim_thread_wait_begin(&wait[waits++], file);
        }
    }
    gyre__sim_thread_sleep(deadline_ns);
    while (waits > 0) {
        gyre__sim_thread_wait_end(&wait[--waits]);
    }
}

static int call_poll(struct pollfd *fds, nfds_t count, int timeout_ms)
{
    struct gyre_sim *sim = enter()->host->sim;
    const uint64_t deadline =
        timeout_ms < 0 ? UINT64_MAX : sim->now_ns + (uint64_t)timeout_ms * GYRE_MSEC;
    int ready;

    if (count > POLL_MAX) {
        return (int)outcome(-EINVAL);
    }
    while (ready = poll_once(fds, count), ready == 0 && sim->now_ns < deadline) {
        poll_sleep(fds, count, deadline);
    }
    return ready;
}

static int call_fstat(int number, struct stat *out_file)
{
    struct sim_file *file = gyre__sim_fd_file(enter(), number);

    if (file == NULL) {
        return (int)outcome(-EBADF);
    }
    memset(out_file, 0, sizeof(*out_file));
    out_file->st_mode = gyre__sim_socket_of(file) != NULL ? S_IFSOCK | 0777 : 0600;
    out_file->st_ino = file->id;
    return 0;
}

/* ---- what waits ---- */

static int made(int rc, struct sim_file *const *file, int flags)
{
    return (int)outcome(rc < 0 ? rc : install(*file, flags));
}

_Static_assert((int)EFD_CLOEXEC == SOCK_CLOEXEC && (int)EFD_NONBLOCK == SOCK_NONBLOCK &&
                   (int)EPOLL_CLOEXEC == SOCK_CLOEXEC && (int)TFD_NONBLOCK == SOCK_NONBLOCK &&
                   (int)SFD_CLOEXEC == SOCK_CLOEXEC,
               "one flag by many names");

static int call_eventfd(unsigned value, int flags)
{
    struct sim_file *file = NULL;

    return made(gyre__sim_eventfd_make(enter()->host, value, flags, &file), &file, flags);
}

static int call_signalfd(int number, const sigset_t *set, int flags)
{
    struct gyre_sim_process *process = enter();
    struct sim_file *file = NULL;
    uint64_t bits = 0;

    if (number != -1) {
        return (int)outcome(-EINVAL);
    }
    for (int i = 1; i <= 64; i++) {
        bits |= (uint64_t)(sigismember(set, i) == 1) << (i - 1);
    }
    return made(gyre__sim_signalfd_make(process, bits, &file), &file, flags);
}

static int call_timerfd_create(int clock, int flags)
{
    struct sim_file *file = NULL;

    if (clock != CLOCK_MONOTONIC) {
        return (int)outcome(-EINVAL);
    }
    return made(gyre__sim_timerfd_make(enter()->host, &file), &file, flags);
}

static int call_timerfd_settime(int number, int flags, const struct itimerspec *when,
                                struct itimerspec *out_before)
{
    struct sim_file *file = gyre__sim_fd_file(enter(), number);

    if (out_before != NULL) {
        return (int)outcome(-EINVAL);
    }
    return (int)outcome(file == NULL ? -EBADF : gyre__sim_timerfd_set(file, flags, when));
}

static int call_epoll_create1(int flags)
{
    struct sim_file *file = NULL;

    return made(gyre__sim_epoll_make(enter()->host, &file), &file, flags);
}

static int call_epoll_ctl(int number, int what, int other, struct epoll_event *event)
{
    struct gyre_sim_process *process = enter();
    struct sim_file *epoll = gyre__sim_fd_file(process, number);
    struct sim_file *target = gyre__sim_fd_file(process, other);

    if (epoll == NULL || target == NULL) {
        return (int)outcome(-EBADF);
    }
    if (!gyre__sim_is_epoll(epoll) || epoll == target) {
        return (int)outcome(-EINVAL);
    }
    return (int)outcome(gyre__sim_epoll_control(epoll, what, other, target, event));
}

/* A thread that asks and never sleeps: let the others go on. One that goes on so for ever, while
 * nothing happens, spins. */
static void yield(void)
{
    struct sim_thread *thread = gyre__sim_self();
    struct gyre_sim *sim = sim_of_caller();

    if (++thread->idle_waits > sim->idle_waits_max) {
        gyre__sim_failed(sim, "a thread of %s spins: %llu waits without anything happening",
                         thread->process->host->name, (unsigned long long)sim->idle_waits_max);
        gyre__sim_thread_sleep(UINT64_MAX); /* the run is over */
    }
    gyre__sim_thread_sleep(sim->now_ns);
}

static int wait_epoll(int number, struct epoll_event *events, int count, uint64_t timeout_ns)
{
    struct gyre_sim_process *process = enter();
    struct gyre_sim *sim = process->host->sim;
    struct sim_file *epoll = gyre__sim_fd_file(process, number);
    const uint64_t deadline =
        timeout_ns < UINT64_MAX - sim->now_ns ? sim->now_ns + timeout_ns : UINT64_MAX;
    int taken;

    if (epoll == NULL || !gyre__sim_is_epoll(epoll) || count <= 0) {
        return (int)outcome(epoll == NULL ? -EBADF : -EINVAL);
    }
    process->waits++;
    if (timeout_ns == 0) {
        yield();
    } else if (fault(GYRE_SIM_FAULT_ENTER_EINTR)) {
        return (int)outcome(-EINTR);
    }
    gyre__sim_file_hold(epoll);
    while (taken = gyre__sim_epoll_take(epoll, events, count),
           taken == 0 && sim->now_ns < deadline) {
        gyre__sim_file_await(epoll, EPOLLIN, deadline);
    }
    gyre__sim_file_put(epoll);
    if (taken > 0 || timeout_ns != 0) {
        gyre__sim_self()->idle_waits = 0;
    }
    return taken;
}

static int call_epoll_wait(int number, struct epoll_event *events, int count, int timeout_ms)
{
    return wait_epoll(number, events, count,
                      timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * GYRE_MSEC);
}

static int call_epoll_pwait2(int number, struct epoll_event *events, int count,
                             const struct timespec *timeout, const sigset_t *mask)
{
    (void)mask;
    return wait_epoll(number, events, count,
                      timeout == NULL
                          ? UINT64_MAX
                          : (uint64_t)timeout->tv_sec * GYRE_SEC + (uint64_t)timeout->tv_nsec);
}

/* ---- time, paths, memory, the rest ---- */

static int call_clock_gettime(clockid_t clock, struct timespec *out_time)
{
    struct sim_thread *thread = gyre__sim_self();
    struct gyre_sim *sim = sim_of_caller();
    uint64_t now;

    (void)clock;
    if (++thread->busy > CALLS_AT_A_STRETCH) {
        yield(); /* one that computes without end, between two looks at the clock */
    }
    gyre__sim_spend(sim, CLOCK_NS + gyre__sim_below(sim, CLOCK_NS));
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_CLOCK_LEAP)) {
        gyre__sim_spend(sim, GYRE_USEC * gyre__sim_below(sim, LEAP_NS_MAX));
    }
    now = CLOCK_BEGIN_NS + sim->now_ns;
    out_time->tv_sec = (time_t)(now / GYRE_SEC);
    out_time->tv_nsec = (long)(now % GYRE_SEC);
    return 0;
}

static int call_stat(const char *path, struct stat *out_file)
{
    return (int)outcome(gyre__sim_path_stat(enter()->host, path, out_file));
}

static int call_unlink(const char *path)
{
    return (int)outcome(gyre__sim_path_unlink(enter()->host, path));
}

static int call_chmod(const char *path, mode_t mode)
{
    return (int)outcome(gyre__sim_path_chmod(enter()->host, path, mode));
}

static int call_getrlimit(int resource, struct rlimit *out_limit)
{
    const struct gyre_sim_process *process = enter();

    if (resource != RLIMIT_NOFILE) {
        return (int)outcome(-EINVAL);
    }
    out_limit->rlim_cur = process->fd_limit;
    out_limit->rlim_max = process->fd_limit;
    return 0;
}

/* The timer slack, of all threads of a program; waits of this kernel end on time all the same, which
 * slack allows. */
static int call_prctl(int what, unsigned long argument)
{
    struct gyre_sim_process *process = enter();

    switch (what) {
    case PR_GET_TIMERSLACK:
        return (int)process->timer_slack_ns;
    case PR_SET_TIMERSLACK:
        process->timer_slack_ns = argument == 0 ? SIM_TIMER_SLACK_NS : argument;
        return 0;
    default:
        return (int)outcome(-EINVAL);
    }
}

/* Memory is the test program's own. */
static void *call_mmap(void *address, size_t len, int protection, int flags, int number,
                       off_t offset)
{
    enter();
    if (!(flags & MAP_ANONYMOUS) || fault(GYRE_SIM_FAULT_MAP_FAILS)) {
        errno = flags & MAP_ANONYMOUS ? ENOMEM : EBADF;
        return MAP_FAILED;
    }
    return mmap(address, len, protection, flags, number, offset);
}

static int call_munmap(void *address, size_t len)
{
    return munmap(address, len);
}

static int call_madvise(void *address, size_t len, int advice)
{
    return madvise(address, len, advice);
}

static int call_pthread_sigmask(int how, const sigset_t *set, sigset_t *out_before)
{
    struct gyre_sim_process *process = enter();
    uint64_t bits = 0;

    if (out_before != NULL) {
        sigemptyset(out_before);
    }
    for (int i = 1; i <= 64; i++) {
        if (out_before != NULL && (process->signals_blocked >> (i - 1) & 1)) {
            sigaddset(out_before, i);
        }
        bits |= (uint64_t)(set != NULL && sigismember(set, i) == 1) << (i - 1);
    }
    if (set != NULL) {
        process->signals_blocked = how == SIG_SETMASK ? bits
                                   : how == SIG_BLOCK ? process->signals_blocked | bits
                                                      : process->signals_blocked & ~bits;
    }
    return 0;
}

_Static_assert(sizeof(pthread_t) == sizeof(void *), "a thread's name is its address");

static int call_pthread_create(pthread_t *out_thread, const pthread_attr_t *attributes,
                               void *(*body)(void *), void *data)
{
    struct sim_thread *thread = gyre__sim_thread_new(enter(), body, data);

    (void)attributes;
    if (thread == NULL) {
        return EAGAIN;
    }
    *out_thread = (pthread_t)thread;
    return 0;
}

static int call_pthread_join(pthread_t name, void **out_result)
{
    enter();
    return gyre__sim_thread_join((struct sim_thread *)name, out_result);
}

static int call_pthread_setname_np(pthread_t name, const char *text)
{
    (void)name;
    (void)text;
    return 0;
}

static int call_pthread_cond_signal(pthread_cond_t *condition)
{
    return gyre__sim_cond_wake(condition, 0);
}

static int call_pthread_cond_broadcast(pthread_cond_t *condition)
{
    return gyre__sim_cond_wake(condition, 1);
}

static char *call_if_indextoname(unsigned index, char *name)
{
    enter();
    return index == 1 ? memcpy(name, "lo", sizeof("lo")) : NULL;
}

/* A spin that would be a thousand steps of the processor is one of ours. */
static int call_relax(void)
{
    gyre__sim_spend(sim_of_caller(), RELAX_NS);
    return 0;
}

static int call_memory_refused(void)
{
    return fault(GYRE_SIM_FAULT_ALLOC_FAILS);
}

static char *call_getenv(const char *name)
{
    static char uring[] = "uring";
    static char epoll[] = "epoll";

    if (strcmp(name, "GYRE_BACKEND") != 0) {
        return NULL;
    }
    return sim_of_caller()->options.personality == GYRE_SIM_EPOLL ? epoll : uring;
}

/* ---- io_uring ---- */

static int call_ring_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    enter();
    return gyre__sim_uring_setup(entries, ring, params);
}

static void call_ring_exit(struct io_uring *ring)
{
    enter();
    gyre__sim_uring_exit(ring);
}

static int call_ring_dontfork(struct io_uring *ring)
{
    (void)ring;
    return 0;
}

static int call_register_ring(struct io_uring *ring)
{
    enter();
    return gyre__sim_uring_register_ring(ring);
}

static int call_register_eventfd(struct io_uring *ring, int number)
{
    enter();
    return gyre__sim_uring_register_eventfd(ring, number);
}

static int call_register_buffers(struct io_uring *ring, struct io_uring_buf_reg *registration,
                                 unsigned flags)
{
    (void)flags;
    enter();
    return gyre__sim_uring_register_buffers(ring, registration);
}

static int call_ring_enter(unsigned number, unsigned to_submit, unsigned wait_count, unsigned flags,
                           void *argument, size_t len)
{
    int rc;

    enter()->waits++;
    if (wait_count == 0) {
        yield();
    }
    rc = gyre__sim_uring_enter(number, to_submit, wait_count, flags, argument, len);
    if (to_submit > 0 || wait_count > 0) {
        gyre__sim_self()->idle_waits = 0;
    }
    return rc;
}

const struct gyre__kernel gyre__sim_kernel = {
    .socket = call_socket,
    .socketpair = call_socketpair,
    .bind = call_bind,
    .listen = call_listen,
    .accept4 = call_accept4,
    .connect = call_connect,
    .shutdown = call_shutdown,
    .setsockopt = call_setsockopt,
    .getsockopt = call_getsockopt,
    .getsockname = call_getsockname,
    .getpeername = call_getpeername,
    .send = call_send,
    .sendmsg = call_sendmsg,
    .sendmmsg = call_sendmmsg,
    .recv = call_recv,
    .recvmsg = call_recvmsg,
    .recvmmsg = call_recvmmsg,
    .read = call_read,
    .write = call_write,
    .preadv2 = call_preadv2,
    .pwritev2 = call_pwritev2,
    .close = call_close,
    .fcntl = call_fcntl,
    .ioctl = call_ioctl,
    .poll = call_poll,
    .eventfd = call_eventfd,
    .signalfd = call_signalfd,
    .timerfd_create = call_timerfd_create,
    .timerfd_settime = call_timerfd_settime,
    .epoll_create1 = call_epoll_create1,
    .epoll_ctl = call_epoll_ctl,
    .epoll_wait = call_epoll_wait,
    .epoll_pwait2 = call_epoll_pwait2,
    .clock_gettime = call_clock_gettime,
    .lstat = call_stat,
    .stat = call_stat,
    .fstat = call_fstat,
    .unlink = call_unlink,
    .chmod = call_chmod,
    .getrlimit = call_getrlimit,
    .prctl = call_prctl,
    .mmap = call_mmap,
    .munmap = call_munmap,
    .madvise = call_madvise,
    .pthread_sigmask = call_pthread_sigmask,
    .pthread_create = call_pthread_create,
    .pthread_join = call_pthread_join,
    .pthread_setname_np = call_pthread_setname_np,
    .pthread_mutex_lock = gyre__sim_mutex_lock,
    .pthread_mutex_unlock = gyre__sim_mutex_unlock,
    .pthread_cond_wait = gyre__sim_cond_wait,
    .pthread_cond_signal = call_pthread_cond_signal,
    .pthread_cond_broadcast = call_pthread_cond_broadcast,
    .if_indextoname = call_if_indextoname,
    .relax = call_relax,
    .memory_refused = call_memory_refused,
    .getenv = call_getenv,
    .io_uring_queue_init_params = call_ring_init,
    .io_uring_queue_exit = call_ring_exit,
    .io_uring_ring_dontfork = call_ring_dontfork,
    .io_uring_register_ring_fd = call_register_ring,
    .io_uring_register_eventfd = call_register_eventfd,
    .io_uring_register_buf_ring = call_register_buffers,
    .io_uring_enter2 = call_ring_enter,
};
