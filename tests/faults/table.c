/*
 * The table itself: each call is counted and may be struck, and some fail or fall short by chance.
 *
 * The epoll driver hears of a change once (EPOLLET). A receive that is turned away or cut short by a
 * fault leaves bytes behind, of which the kernel would not speak again, as it never does such a
 * thing by itself. So the kernel is made to: EPOLL_CTL_MOD with the events that are registered
 * already makes it look anew. Where the socket is in no epoll set, such faults do not happen.
 */
#include "faults/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WATCHES_MAX = 4096, PIECES_MAX = 16 };

/* lib/sim/real.c */
extern const struct gyre__kernel gyre__real_kernel;

static const struct gyre__kernel *below = &gyre__real_kernel;
static const void *(*thread_of)(void);

/* ---- strikes ---- */

/* How a call says that it failed. */
enum manner { ERRNO, NEGATIVE, POSITIVE, NOTHING };

struct call {
    enum manner manner;
    int errors[FAULTS_ERRORS_MAX]; /* that it may be struck with, up to a 0 */
};

/*
 * Without errors are calls that cannot fail for what the library asks of them, and those whose
 * failure has no remedy: a close that is not made leaves its descriptor, a wake-up that is not
 * written (eventfd) is lost.
 */
static const struct call calls[FAULTS_CALLS] = {
#define CALL(name, ...) [FAULTS_CALL_##name] = {__VA_ARGS__}
    CALL(socket, ERRNO, {EMFILE, ENOBUFS}),
    CALL(socketpair, ERRNO, {EMFILE}),
    CALL(bind, ERRNO, {EADDRINUSE}),
    CALL(listen, ERRNO, {EADDRINUSE}),
    CALL(accept4, ERRNO, {EMFILE, ECONNABORTED, ENOMEM, EINTR}),
    CALL(connect, ERRNO, {ENETUNREACH, EAGAIN, ECONNABORTED}),
    CALL(shutdown, ERRNO, {ENOTCONN}),
    CALL(setsockopt, ERRNO, {ENOMEM}),
    CALL(getsockopt, ERRNO, {ENOBUFS}),
    CALL(getsockname, ERRNO, {ENOBUFS}),
    CALL(getpeername, ERRNO, {ENOTCONN, ENOBUFS}),
    CALL(send, ERRNO, {EINTR, ENOBUFS, EPIPE, ECONNRESET}),
    CALL(sendto, ERRNO, {EINTR, ENOBUFS, EPERM}),
    CALL(sendmsg, ERRNO, {EINTR, ENOBUFS, EPIPE}),
    CALL(sendmmsg, ERRNO, {EINTR, ENOBUFS, EPERM}),
    CALL(recv, ERRNO, {EINTR, ENOMEM, ECONNRESET}),
    CALL(recvmsg, ERRNO, {EINTR, ENOMEM}),
    CALL(recvmmsg, ERRNO, {EINTR, ENOMEM}),
    CALL(read, ERRNO, {EINTR}),
    CALL(write, ERRNO, {0}),
    CALL(preadv2, ERRNO, {EINTR, EIO}),
    CALL(pwritev2, ERRNO, {EINTR, ENOSPC}),
    CALL(close, ERRNO, {0}),
    CALL(fcntl, ERRNO, {EMFILE}), /* F_DUPFD; F_SETFL with EPERM */
    CALL(ioctl, ERRNO, {EINVAL}),
    CALL(poll, ERRNO, {EINTR, ENOMEM}),
    CALL(eventfd, ERRNO, {EMFILE}),
    CALL(signalfd, ERRNO, {EMFILE}),
    CALL(timerfd_create, ERRNO, {EMFILE}),
    CALL(timerfd_settime, ERRNO, {0}),
    CALL(epoll_create1, ERRNO, {EMFILE}),
    CALL(epoll_ctl, ERRNO, {ENOMEM, ENOSPC}), /* EPOLL_CTL_ADD only */
    CALL(epoll_wait, ERRNO, {EINTR}),
    CALL(epoll_pwait2, ERRNO, {EINTR, ENOSYS}),
    CALL(clock_gettime, ERRNO, {0}),
    CALL(lstat, ERRNO, {ENOENT}),
    CALL(stat, ERRNO, {ENOENT}),
    CALL(fstat, ERRNO, {ENOMEM}),
    CALL(unlink, ERRNO, {EACCES}),
    CALL(chmod, ERRNO, {EPERM}),
    CALL(getrlimit, ERRNO, {EFAULT}),
    CALL(prctl, ERRNO, {EINVAL}),
    CALL(mmap, ERRNO, {ENOMEM}),
    CALL(munmap, ERRNO, {0}),
    CALL(madvise, ERRNO, {EINVAL}),
    CALL(pthread_sigmask, POSITIVE, {0}),
    CALL(pthread_create, POSITIVE, {EAGAIN}),
    CALL(pthread_join, POSITIVE, {0}),
    CALL(pthread_setname_np, POSITIVE, {ERANGE}),
    CALL(pthread_mutex_lock, POSITIVE, {0}),
    CALL(pthread_mutex_unlock, POSITIVE, {0}),
    CALL(pthread_cond_wait, POSITIVE, {0}),
    CALL(pthread_cond_signal, POSITIVE, {0}),
    CALL(pthread_cond_broadcast, POSITIVE, {0}),
    CALL(if_indextoname, NOTHING, {ENXIO}),
    CALL(memory_refused, POSITIVE, {ENOMEM}),
    CALL(getenv, NOTHING, {0}),
    CALL(io_uring_queue_init_params, NEGATIVE, {ENOMEM, EMFILE, EPERM}),
    CALL(io_uring_ring_dontfork, NEGATIVE, {ENOMEM}),
    CALL(io_uring_register_ring_fd, NEGATIVE, {ENOMEM, EBUSY}),
    CALL(io_uring_register_eventfd, NEGATIVE, {ENOMEM}),
    CALL(io_uring_register_buf_ring, NEGATIVE, {ENOMEM, EINVAL}),
    CALL(io_uring_enter2, NEGATIVE, {EINTR, EAGAIN, EBUSY, ENOMEM}),
#undef CALL
#define REQUEST(name, ...) [FAULTS_REQUEST_##name] = {NEGATIVE, __VA_ARGS__}
    REQUEST(accept, {EMFILE, ECONNABORTED, EINTR, EAGAIN}),
    REQUEST(connect, {ECONNREFUSED, ECONNABORTED}),
    REQUEST(recv, {ECONNRESET, EINTR, ENOMEM}),
    REQUEST(recv_select, {ENOBUFS, ECONNRESET, EINTR, ENOMEM}),
    REQUEST(send, {EAGAIN, EINTR, EPIPE, 512}),
    REQUEST(recvmsg, {EAGAIN, EINTR, ENOMEM}),
    REQUEST(sendmsg, {EAGAIN, EINTR, EPIPE}),
    REQUEST(read, {EAGAIN, EINTR, EIO}),
    REQUEST(write, {EAGAIN, EINTR, ENOSPC}),
    REQUEST(poll, {ENOMEM}),
    REQUEST(cancel, {EALREADY, ENOENT}),
#undef REQUEST
};

static struct {
    enum faults_call call;
    int error;
    uint64_t place; /* 0: none */
    uint64_t chain; /* 0: any */
    uint64_t met;   /* calls along it */
    int done;
} strike;

static struct faults_places *recorder;
static int *told; /* where it is noted that the strike has happened */

static int (*explorer)(enum faults_call call, uint64_t place);
static uint64_t counts[FAULTS_CALLS];
static size_t mapped;

void faults_strike(enum faults_call call, int error, uint64_t place)
{
    memset(counts, 0, sizeof(counts));
    strike.call = call;
    strike.error = error;
    strike.place = place;
    strike.chain = 0;
    strike.met = 0;
    strike.done = 0;
}

void faults_strike_chain(enum faults_call call, int error, uint64_t chain, uint64_t place)
{
    faults_strike(call, error, place);
    strike.chain = chain;
}

void faults_record(struct faults_places *places)
{
    recorder = places;
}

void faults_strike_tells(int *flag)
{
    told = flag;
}

int faults_strike_done(void)
{
    return strike.done;
}

uint64_t faults_calls(enum faults_call call)
{
    return counts[call];
}

const char *faults_call_name(enum faults_call call)
{
    static const char *const names[FAULTS_CALLS] = {
#define X(result, name, parameters, arguments) [FAULTS_CALL_##name] = #name,
        GYRE__SYS_MAP(X)
#undef X
#define X(name) [FAULTS_REQUEST_##name] = "uring-" #name,
            FAULTS_REQUEST_MAP(X)
#undef X
    };

    return call == FAULTS_CALL_memory_refused ? "memory" : names[call];
}

const int *faults_call_errors(enum faults_call call)
{
    static const int none[1];

    return call < FAULTS_CALLS ? calls[call].errors : none;
}

void faults_explore(int (*gate)(enum faults_call call, uint64_t place))
{
    explorer = gate;
}

/* Whether it is the one that is to fail. */
static int is_struck(enum faults_call call, uint64_t chain, uint64_t place)
{
    if (call != strike.call) {
        return 0;
    }
    if (strike.chain == 0) {
        return place == strike.place;
    }
    return chain == strike.chain && ++strike.met == strike.place;
}

int faults_gate_of(enum faults_call call, uint64_t marks)
{
    const int asked = recorder != NULL || (strike.chain != 0 && strike.call == call);
    const uint64_t chain = asked ? faults_chain(call, marks) : 0;
    const uint64_t place = ++counts[call];
    int error = 0;

    if (recorder != NULL && *calls[call].errors != 0) {
        faults_note_place(recorder, call, chain, place);
    }
    if (explorer != NULL) {
        error = explorer(call, place);
    } else if (is_struck(call, chain, place)) {
        error = strike.error;
    }
    strike.done |= error != 0;
    if (error != 0 && told != NULL) {
        *told = 1;
    }
    return error;
}

int faults_gate(enum faults_call call)
{
    return faults_gate_of(call, 0);
}

static int error_of_name(const char *name)
{
    for (int i = 1; i < 134; i++) {
        const char *known = strerrorname_np(i);

        if (known != NULL && strcmp(known, name) == 0) {
            return i;
        }
    }
    return (int)strtol(name, NULL, 10);
}

int faults_strike_parse(const char *text)
{
    char name[40];
    char error[24];
    unsigned long long place;
    unsigned long long chain = 0;

    if (sscanf(text, "%39[^:]:%23[^:]:%llu:%llx", name, error, &place, &chain) < 3 ||
        error_of_name(error) <= 0) {
        return -1;
    }
    for (int i = 0; i < FAULTS_CALLS; i++) {
        if (strcmp(faults_call_name((enum faults_call)i), name) == 0) {
            faults_strike_chain((enum faults_call)i, error_of_name(error), chain, place);
            return 0;
        }
    }
    return -1;
}

/* ---- every call: counted, perhaps struck, else made ---- */

static intptr_t failed(enum faults_call call, int error)
{
    errno = error;
    switch (calls[call].manner) {
    case NEGATIVE:
        return -error;
    case POSITIVE:
        return error;
    case NOTHING:
        return 0;
    default:
        return -1; /* MAP_FAILED too */
    }
}

#define X(result, name, parameters, arguments)                \
    static result counted_##name parameters                   \
    {                                                         \
        const int error = faults_gate(FAULTS_CALL_##name);    \
                                                              \
        if (error != 0) {                                     \
            return (result)failed(FAULTS_CALL_##name, error); \
        }                                                     \
        return below->name arguments;                         \
    }
GYRE__SYS_MAP(X)
#undef X

/* ---- sockets in epoll sets ---- */

static struct {
    int epoll; /* 0: not in one that is known */
    struct epoll_event event;
} watches[WATCHES_MAX];

static int is_watched(int number)
{
    return number >= 0 && number < WATCHES_MAX && watches[number].epoll != 0;
}

/* The kernel shall look at it again, and tell. */
static void nudge(int number)
{
    if (is_watched(number)) {
        struct epoll_event event = watches[number].event;

        below->epoll_ctl(watches[number].epoll, EPOLL_CTL_MOD, number, &event);
    }
}

static int faulty_epoll_ctl(int epoll, int what, int number, struct epoll_event *event)
{
    int rc;

    if (what != EPOLL_CTL_ADD) {
        rc = below->epoll_ctl(epoll, what, number, event);
    } else if (faults_chance(GYRE_SIM_FAULT_EPOLL_CTL_ENOMEM)) {
        return (int)failed(FAULTS_CALL_epoll_ctl, ENOMEM);
    } else {
        rc = counted_epoll_ctl(epoll, what, number, event);
    }
    if (rc == 0 && number < WATCHES_MAX && (what == EPOLL_CTL_DEL || (event->events & EPOLLET))) {
        watches[number].epoll = what == EPOLL_CTL_DEL ? 0 : epoll;
        watches[number].event = event != NULL ? *event : watches[number].event;
    }
    return rc;
}

static int faulty_close(int number)
{
    if (is_watched(number)) {
        watches[number].epoll = 0;
    }
    return counted_close(number);
}

/* One event more, of a descriptor on which nothing may have happened. */
static int add_spurious(int epoll, struct epoll_event *events, int count, int most)
{
    static int next;

    if (count < 0 || count >= most || !faults_chance(GYRE_SIM_FAULT_EPOLL_SPURIOUS)) {
        return count;
    }
    for (int i = 0; i < WATCHES_MAX; i++) {
        next = (next + 1) % WATCHES_MAX;
        if (watches[next].epoll == epoll) {
            events[count] = watches[next].event;
            events[count].events = EPOLLIN | EPOLLOUT;
            return count + 1;
        }
    }
    return count;
}

static int faulty_epoll_wait(int epoll, struct epoll_event *events, int most, int timeout_ms)
{
    int count;

    if (faults_chance(GYRE_SIM_FAULT_CALL_EINTR)) {
        return (int)failed(FAULTS_CALL_epoll_wait, EINTR);
    }
    count = counted_epoll_wait(epoll, events, most, timeout_ms);
    return add_spurious(epoll, events, count, most);
}

static int faulty_epoll_pwait2(int epoll, struct epoll_event *events, int most,
                               const struct timespec *timeout, const sigset_t *mask)
{
    int count;

    if (faults_chance(GYRE_SIM_FAULT_CALL_EINTR)) {
        return (int)failed(FAULTS_CALL_epoll_pwait2, EINTR);
    }
    count = counted_epoll_pwait2(epoll, events, most, timeout, mask);
    return add_spurious(epoll, events, count, most);
}

/* ---- transfers ---- */

int faults_socket_type(int number)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &len) == 0 ? type : 0;
}

static int is_stream(int number)
{
    return faults_socket_type(number) == SOCK_STREAM;
}

/* The error that a receive shall end with, or 0. */
static int recv_fault(int number, int flags)
{
    if (faults_chance(GYRE_SIM_FAULT_CALL_EINTR)) {
        return EINTR;
    }
    if (flags & (MSG_PEEK | MSG_ERRQUEUE)) {
        return 0;
    }
    if (is_watched(number) && faults_chance(GYRE_SIM_FAULT_RECV_AGAIN)) {
        nudge(number);
        return EAGAIN;
    }
    if (faults_chance(GYRE_SIM_FAULT_RECV_ENOMEM)) {
        nudge(number);
        return ENOMEM;
    }
    return is_stream(number) && faults_chance(GYRE_SIM_FAULT_RECV_RESET) ? ECONNRESET : 0;
}

static ssize_t faulty_recv(int number, void *data, size_t len, int flags)
{
    const int error = recv_fault(number, flags);
    ssize_t got;

    if (error != 0) {
        return failed(FAULTS_CALL_recv, error);
    }
    if (len < 2 || (flags & MSG_PEEK) || !is_watched(number) || !is_stream(number) ||
        !faults_chance(GYRE_SIM_FAULT_RECV_SHORT)) {
        return counted_recv(number, data, len, flags);
    }
    len = 1 + faults_below(len < 4096 ? len - 1 : 4096);
    got = counted_recv(number, data, len, flags);
    if (got == (ssize_t)len) {
        nudge(number);
    }
    return got;
}

static ssize_t faulty_recvmsg(int number, struct msghdr *msg, int flags)
{
    const int error = recv_fault(number, flags);

    return error != 0 ? failed(FAULTS_CALL_recvmsg, error) : counted_recvmsg(number, msg, flags);
}

static int faulty_recvmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags,
                           struct timespec *timeout)
{
    const int error = recv_fault(number, flags);

    if (error != 0) {
        return (int)failed(FAULTS_CALL_recvmmsg, error);
    }
    return counted_recvmmsg(number, msgs, count, flags, timeout);
}

static int send_fault(int number)
{
    if (faults_chance(GYRE_SIM_FAULT_CALL_EINTR)) {
        return EINTR;
    }
    if (!is_stream(number)) {
        /* No EAGAIN: of a datagram socket with room it means that the receiver has none. */
        return faults_chance(GYRE_SIM_FAULT_SEND_ENOBUFS) ? ENOBUFS : 0;
    }
    if (faults_chance(GYRE_SIM_FAULT_SEND_AGAIN)) {
        nudge(number);
        return EAGAIN;
    }
    return faults_chance(GYRE_SIM_FAULT_SEND_RESET) ? ECONNRESET
           : faults_chance(FAULTS_SEND_EPIPE)       ? EPIPE
                                                    : 0;
}

static ssize_t faulty_send(int number, const void *data, size_t len, int flags)
{
    const int error = send_fault(number);

    if (error != 0) {
        return failed(FAULTS_CALL_send, error);
    }
    if (is_stream(number) && faults_chance(FAULTS_SEND_ZERO)) {
        return 0;
    }
    if (len > 1 && is_stream(number) && faults_chance(GYRE_SIM_FAULT_SEND_SHORT)) {
        len = 1 + faults_below(len - 1);
    }
    return counted_send(number, data, len, flags);
}

/* The first part of a message: so many bytes of its pieces, at random. */
static void cut(struct msghdr *msg, struct iovec *pieces)
{
    size_t left = 0;
    size_t count = 0;

    for (size_t i = 0; i < msg->msg_iovlen && i < PIECES_MAX; i++) {
        left += msg->msg_iov[i].iov_len;
    }
    left = left > 1 ? 1 + faults_below(left - 1) : left;
    for (; left > 0; count++) {
        pieces[count] = msg->msg_iov[count];
        pieces[count].iov_len = pieces[count].iov_len < left ? pieces[count].iov_len : left;
        left -= pieces[count].iov_len;
    }
    msg->msg_iov = pieces;
    msg->msg_iovlen = count;
}

static ssize_t faulty_sendmsg(int number, const struct msghdr *msg, int flags)
{
    const int error = send_fault(number);
    struct iovec pieces[PIECES_MAX];
    struct msghdr part = *msg;

    if (error != 0) {
        return failed(FAULTS_CALL_sendmsg, error);
    }
    if (msg->msg_controllen == 0 && is_stream(number) && faults_chance(GYRE_SIM_FAULT_SEND_SHORT)) {
        cut(&part, pieces);
    }
    return counted_sendmsg(number, &part, flags);
}

static ssize_t faulty_sendto(int number, const void *data, size_t len, int flags,
                             const struct sockaddr *to, socklen_t to_len)
{
    const int error = send_fault(number);

    if (error != 0) {
        return failed(FAULTS_CALL_sendto, error);
    }
    return counted_sendto(number, data, len, flags, to, to_len);
}

static int faulty_sendmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags)
{
    const int error = send_fault(number);

    if (error != 0) {
        return (int)failed(FAULTS_CALL_sendmmsg, error);
    }
    return counted_sendmmsg(number, msgs, count, flags);
}

/* ---- the rest ---- */

static int faulty_accept4(int number, struct sockaddr *address, socklen_t *len, int flags)
{
    const int error = faults_chance(GYRE_SIM_FAULT_CALL_EINTR)       ? EINTR
                      : faults_chance(GYRE_SIM_FAULT_ACCEPT_EMFILE)  ? EMFILE
                      : faults_chance(GYRE_SIM_FAULT_ACCEPT_ENFILE)  ? ENFILE
                      : faults_chance(GYRE_SIM_FAULT_ACCEPT_ABORTED) ? ECONNABORTED
                      : faults_chance(GYRE_SIM_FAULT_ACCEPT_ENOBUFS) ? ENOBUFS
                                                                     : 0;

    if (error != 0) {
        return (int)failed(FAULTS_CALL_accept4, error);
    }
    return counted_accept4(number, address, len, flags);
}

static int faulty_connect(int number, const struct sockaddr *address, socklen_t len)
{
    const int error = faults_chance(GYRE_SIM_FAULT_CONNECT_REFUSED)   ? ECONNREFUSED
                      : faults_chance(GYRE_SIM_FAULT_CONNECT_TIMEOUT) ? ETIMEDOUT
                      : faults_chance(GYRE_SIM_FAULT_CONNECT_UNREACH) ? EHOSTUNREACH
                      : faults_chance(GYRE_SIM_FAULT_CONNECT_NOPORT)  ? EADDRNOTAVAIL
                                                                      : 0;

    if (error != 0) {
        return (int)failed(FAULTS_CALL_connect, error);
    }
    return counted_connect(number, address, len);
}

static int faulty_socket(int family, int type, int protocol)
{
    const int error = faults_chance(GYRE_SIM_FAULT_SOCKET_EMFILE)    ? EMFILE
                      : faults_chance(GYRE_SIM_FAULT_SOCKET_ENOBUFS) ? ENOBUFS
                                                                     : 0;

    if (error != 0) {
        return (int)failed(FAULTS_CALL_socket, error);
    }
    return counted_socket(family, type, protocol);
}

static int faulty_setsockopt(int number, int level, int name, const void *value, socklen_t len)
{
    if (faults_chance(GYRE_SIM_FAULT_OPTION_FAILS)) {
        return (int)failed(FAULTS_CALL_setsockopt, ENOBUFS);
    }
    return counted_setsockopt(number, level, name, value, len);
}

/* Two of its uses can fail: to get another descriptor, and to change a flag, if a filter of
 * system calls does not let it. */
static int faulty_fcntl(int number, int what, int argument)
{
    int rc;

    if (what != F_DUPFD_CLOEXEC && what != F_SETFL) {
        return below->fcntl(number, what, argument);
    }
    rc = counted_fcntl(number, what, argument);
    if (rc < 0 && what == F_SETFL) {
        errno = EPERM;
    }
    return rc;
}

static void *faulty_mmap(void *address, size_t len, int protection, int flags, int number,
                         off_t offset)
{
    void *memory;

    if (faults_chance(GYRE_SIM_FAULT_MAP_FAILS)) {
        return (void *)failed(FAULTS_CALL_mmap, ENOMEM);
    }
    memory = counted_mmap(address, len, protection, flags, number, offset);
    mapped += memory != MAP_FAILED ? len : 0;
    return memory;
}

static int faulty_munmap(void *address, size_t len)
{
    mapped -= len;
    return counted_munmap(address, len);
}

size_t faults_mapped(void)
{
    return mapped;
}

static int faulty_memory_refused(void)
{
    return faults_chance(GYRE_SIM_FAULT_ALLOC_FAILS) || counted_memory_refused();
}

static int register_fault(void)
{
    return faults_chance(GYRE_SIM_FAULT_REGISTER_FAILS) ? -ENOMEM : 0;
}

static int faulty_register_ring_fd(struct io_uring *ring)
{
    const int rc = register_fault();

    return rc < 0 ? rc : counted_io_uring_register_ring_fd(ring);
}

static int faulty_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *registration,
                                    unsigned flags)
{
    const int rc = register_fault();

    return rc < 0 ? rc : counted_io_uring_register_buf_ring(ring, registration, flags);
}

static int faulty_init(unsigned entries, struct io_uring *ring, struct io_uring_params *params)
{
    const int error = faults_gate(FAULTS_CALL_io_uring_queue_init_params);

    return error != 0 ? -error : faults_ring_init(entries, ring, params);
}

static int faulty_enter2(unsigned number, unsigned to_submit, unsigned wait_count, unsigned flags,
                         void *argument, size_t len)
{
    const int error = faults_gate(FAULTS_CALL_io_uring_enter2);

    int rc;

    if (error != 0) {
        return -error;
    }
    rc = faults_ring_enter(number, to_submit, wait_count, flags, argument, len);
    return rc;
}

static struct gyre__kernel table = {
#define X(result, name, parameters, arguments) .name = counted_##name,
    GYRE__SYS_MAP(X)
#undef X
        .io_uring_queue_exit = faults_ring_exit,
};

void faults_install(void)
{
    table.epoll_ctl = faulty_epoll_ctl;
    table.epoll_wait = faulty_epoll_wait;
    table.epoll_pwait2 = faulty_epoll_pwait2;
    table.close = faulty_close;
    table.recv = faulty_recv;
    table.recvmsg = faulty_recvmsg;
    table.recvmmsg = faulty_recvmmsg;
    table.send = faulty_send;
    table.sendto = faulty_sendto;
    table.sendmsg = faulty_sendmsg;
    table.sendmmsg = faulty_sendmmsg;
    table.accept4 = faulty_accept4;
    table.connect = faulty_connect;
    table.socket = faulty_socket;
    table.setsockopt = faulty_setsockopt;
    table.fcntl = faulty_fcntl;
    table.mmap = faulty_mmap;
    table.munmap = faulty_munmap;
    table.memory_refused = faulty_memory_refused;
    table.io_uring_register_ring_fd = faulty_register_ring_fd;
    table.io_uring_register_buf_ring = faulty_register_buf_ring;
    table.io_uring_queue_init_params = faulty_init;
    table.io_uring_enter2 = faulty_enter2;
    gyre__kernel = &table;
}

const struct gyre__kernel *faults_put_over(const struct gyre__kernel *kernel,
                                           const void *(*thread)(void))
{
    below = kernel;
    thread_of = thread;
    return &table;
}

const struct gyre__kernel *faults_kernel(void)
{
    return below;
}

const void *faults_thread(void)
{
    return thread_of != NULL ? thread_of() : NULL;
}

/* Every program that links this: what the environment asks for, or an end. */
__attribute__((constructor)) static void begin(void)
{
    const char *strikes = getenv("GYRE_STRIKE");
    char why[256];

    if (faults_parse(getenv("GYRE_FAULTS"), why, sizeof(why)) < 0) {
        fprintf(stderr, "%s\n", why);
        _exit(2);
    }
    if (strikes != NULL && strikes[0] != '\0' && faults_strike_parse(strikes) < 0) {
        fprintf(stderr, "GYRE_STRIKE: \"%s\" is not CALL:ERROR:PLACE[:CHAIN]\n", strikes);
        _exit(2);
    }
    faults_install();
}
