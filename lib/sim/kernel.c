/*
 * The table of base/sys.h for simulated programs: from numbers to files, from -errno to errno, and
 * from calls that may block to files that never do. Each call takes a little virtual time, in which
 * the network goes on; and it may fail by a fault, always instead of being carried out and never
 * after.
 */
#include "sim/kernel.h"

#include <errno.h>
#include <linux/sockios.h>
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
struct gyre_sim_process *gyre__sim_call_enter(void)
{
    struct gyre_sim_process *process = gyre__sim_process();
    struct gyre_sim *sim = process->host->sim;

    process->calls++;
    gyre__sim_self()->busy++;
    gyre__sim_spend(sim, CALL_NS + gyre__sim_below(sim, CALL_NS));
    return process;
}

int gyre__sim_call_fault(enum gyre_sim_fault which)
{
    return gyre__sim_fault(sim_of_caller(), which);
}

/* From -errno to -1 and errno. */
ssize_t gyre__sim_call_outcome(ssize_t rc)
{
    if (rc >= 0) {
        gyre__sim_self()->idle_waits = 0;
        return rc;
    }
    errno = (int)-rc;
    return -1;
}

int gyre__sim_call_install(struct sim_file *file, int flags)
{
    const int number = gyre__sim_fd_install(gyre__sim_process(), file, 0, flags & SOCK_CLOEXEC);

    file->flags |= flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;
    gyre__sim_file_put(file);
    return number;
}

/* ---- descriptors ---- */

static int call_close(int number)
{
    return (int)gyre__sim_call_outcome(gyre__sim_fd_close(gyre__sim_call_enter(), number));
}

static int call_fcntl(int number, int what, int argument)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_file *file = gyre__sim_fd_file(process, number);

    if (file == NULL) {
        return (int)gyre__sim_call_outcome(-EBADF);
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
        return (int)gyre__sim_call_outcome(
            gyre__sim_fd_install(process, file, argument, what == F_DUPFD_CLOEXEC));
    default:
        return (int)gyre__sim_call_outcome(-EINVAL);
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
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);
    int rc = file == NULL ? -EBADF : -ENOTTY;

    if (rc == -ENOTTY && what == SIOCGIFINDEX && gyre__sim_socket_of(file) != NULL) {
        rc = interface_index(argument);
    } else if (rc == -ENOTTY && file->ops->ioctl != NULL) {
        rc = file->ops->ioctl(file, what, argument);
    }
    return (int)gyre__sim_call_outcome(rc);
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
    struct gyre_sim *sim = gyre__sim_call_enter()->host->sim;
    const uint64_t deadline =
        timeout_ms < 0 ? UINT64_MAX : sim->now_ns + (uint64_t)timeout_ms * GYRE_MSEC;
    int ready;

    if (count > POLL_MAX) {
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
    while (ready = poll_once(fds, count), ready == 0 && sim->now_ns < deadline) {
        poll_sleep(fds, count, deadline);
    }
    return ready;
}

static int call_fstat(int number, struct stat *out_file)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);

    if (file == NULL) {
        return (int)gyre__sim_call_outcome(-EBADF);
    }
    memset(out_file, 0, sizeof(*out_file));
    out_file->st_mode = gyre__sim_socket_of(file) != NULL ? S_IFSOCK | 0777 : 0600;
    out_file->st_ino = file->id;
    return 0;
}

/* ---- what waits ---- */

static int made(int rc, struct sim_file *const *file, int flags)
{
    return (int)gyre__sim_call_outcome(rc < 0 ? rc : gyre__sim_call_install(*file, flags));
}

_Static_assert((int)EFD_CLOEXEC == SOCK_CLOEXEC && (int)EFD_NONBLOCK == SOCK_NONBLOCK &&
                   (int)EPOLL_CLOEXEC == SOCK_CLOEXEC && (int)TFD_NONBLOCK == SOCK_NONBLOCK &&
                   (int)SFD_CLOEXEC == SOCK_CLOEXEC,
               "one flag by many names");

static int call_eventfd(unsigned value, int flags)
{
    struct sim_file *file = NULL;

    return made(gyre__sim_eventfd_make(gyre__sim_call_enter()->host, value, flags, &file), &file,
                flags);
}

static int call_signalfd(int number, const sigset_t *set, int flags)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_file *file = NULL;
    uint64_t bits = 0;

    if (number != -1) {
        return (int)gyre__sim_call_outcome(-EINVAL);
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
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
    return made(gyre__sim_timerfd_make(gyre__sim_call_enter()->host, &file), &file, flags);
}

static int call_timerfd_settime(int number, int flags, const struct itimerspec *when,
                                struct itimerspec *out_before)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_call_enter(), number);

    if (out_before != NULL) {
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
    return (int)gyre__sim_call_outcome(file == NULL ? -EBADF
                                                    : gyre__sim_timerfd_set(file, flags, when));
}

static int call_epoll_create1(int flags)
{
    struct sim_file *file = NULL;

    return made(gyre__sim_epoll_make(gyre__sim_call_enter()->host, &file), &file, flags);
}

static int call_epoll_ctl(int number, int what, int other, struct epoll_event *event)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct sim_file *epoll = gyre__sim_fd_file(process, number);
    struct sim_file *target = gyre__sim_fd_file(process, other);

    if (epoll == NULL || target == NULL) {
        return (int)gyre__sim_call_outcome(-EBADF);
    }
    if (!gyre__sim_is_epoll(epoll) || epoll == target) {
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
    return (int)gyre__sim_call_outcome(gyre__sim_epoll_control(epoll, what, other, target, event));
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
    struct gyre_sim_process *process = gyre__sim_call_enter();
    struct gyre_sim *sim = process->host->sim;
    struct sim_file *epoll = gyre__sim_fd_file(process, number);
    const uint64_t deadline =
        timeout_ns < UINT64_MAX - sim->now_ns ? sim->now_ns + timeout_ns : UINT64_MAX;
    int taken;

    if (epoll == NULL || !gyre__sim_is_epoll(epoll) || count <= 0) {
        return (int)gyre__sim_call_outcome(epoll == NULL ? -EBADF : -EINVAL);
    }
    process->waits++;
    if (timeout_ns == 0) {
        yield();
    } else if (gyre__sim_call_fault(GYRE_SIM_FAULT_ENTER_EINTR)) {
        return (int)gyre__sim_call_outcome(-EINTR);
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
    return (int)gyre__sim_call_outcome(
        gyre__sim_path_stat(gyre__sim_call_enter()->host, path, out_file));
}

static int call_unlink(const char *path)
{
    return (int)gyre__sim_call_outcome(gyre__sim_path_unlink(gyre__sim_call_enter()->host, path));
}

static int call_chmod(const char *path, mode_t mode)
{
    return (int)gyre__sim_call_outcome(
        gyre__sim_path_chmod(gyre__sim_call_enter()->host, path, mode));
}

static int call_getrlimit(int resource, struct rlimit *out_limit)
{
    const struct gyre_sim_process *process = gyre__sim_call_enter();

    if (resource != RLIMIT_NOFILE) {
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
    out_limit->rlim_cur = process->fd_limit;
    out_limit->rlim_max = process->fd_limit;
    return 0;
}

/* The timer slack, of all threads of a program; waits of this kernel end on time all the same, which
 * slack allows. */
static int call_prctl(int what, unsigned long argument)
{
    struct gyre_sim_process *process = gyre__sim_call_enter();

    switch (what) {
    case PR_GET_TIMERSLACK:
        return (int)process->timer_slack_ns;
    case PR_SET_TIMERSLACK:
        process->timer_slack_ns = argument == 0 ? SIM_TIMER_SLACK_NS : argument;
        return 0;
    default:
        return (int)gyre__sim_call_outcome(-EINVAL);
    }
}

/* Memory is the test program's own. */
static void *call_mmap(void *address, size_t len, int protection, int flags, int number,
                       off_t offset)
{
    gyre__sim_call_enter();
    if (!(flags & MAP_ANONYMOUS) || gyre__sim_call_fault(GYRE_SIM_FAULT_MAP_FAILS)) {
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
    struct gyre_sim_process *process = gyre__sim_call_enter();
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
    struct sim_thread *thread = gyre__sim_thread_new(gyre__sim_call_enter(), body, data);

    (void)attributes;
    if (thread == NULL) {
        return EAGAIN;
    }
    *out_thread = (pthread_t)thread;
    return 0;
}

static int call_pthread_join(pthread_t name, void **out_result)
{
    gyre__sim_call_enter();
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
    gyre__sim_call_enter();
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
    return gyre__sim_call_fault(GYRE_SIM_FAULT_ALLOC_FAILS);
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
    gyre__sim_call_enter();
    return gyre__sim_uring_setup(entries, ring, params);
}

static void call_ring_exit(struct io_uring *ring)
{
    gyre__sim_call_enter();
    gyre__sim_uring_exit(ring);
}

static int call_ring_dontfork(struct io_uring *ring)
{
    (void)ring;
    return 0;
}

static int call_register_ring(struct io_uring *ring)
{
    gyre__sim_call_enter();
    return gyre__sim_uring_register_ring(ring);
}

static int call_register_eventfd(struct io_uring *ring, int number)
{
    gyre__sim_call_enter();
    return gyre__sim_uring_register_eventfd(ring, number);
}

static int call_register_buffers(struct io_uring *ring, struct io_uring_buf_reg *registration,
                                 unsigned flags)
{
    (void)flags;
    gyre__sim_call_enter();
    return gyre__sim_uring_register_buffers(ring, registration);
}

static int call_ring_enter(unsigned number, unsigned to_submit, unsigned wait_count, unsigned flags,
                           void *argument, size_t len)
{
    int rc;

    gyre__sim_call_enter()->waits++;
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
    .socket = gyre__sim_call_socket,
    .socketpair = gyre__sim_call_socketpair,
    .bind = gyre__sim_call_bind,
    .listen = gyre__sim_call_listen,
    .accept4 = gyre__sim_call_accept4,
    .connect = gyre__sim_call_connect,
    .shutdown = gyre__sim_call_shutdown,
    .setsockopt = gyre__sim_call_setsockopt,
    .getsockopt = gyre__sim_call_getsockopt,
    .getsockname = gyre__sim_call_getsockname,
    .getpeername = gyre__sim_call_getpeername,
    .send = gyre__sim_call_send,
    .sendmsg = gyre__sim_call_sendmsg,
    .sendto = gyre__sim_call_sendto,
    .sendmmsg = gyre__sim_call_sendmmsg,
    .recv = gyre__sim_call_recv,
    .recvmsg = gyre__sim_call_recvmsg,
    .recvmmsg = gyre__sim_call_recvmmsg,
    .read = gyre__sim_call_read,
    .write = gyre__sim_call_write,
    .preadv2 = gyre__sim_call_preadv2,
    .pwritev2 = gyre__sim_call_pwritev2,
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
