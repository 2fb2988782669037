/* The table of base/sys.h that is the operating system itself: what a thread begins with. */
#include "sim/sim.h"

/* Functions that the C library declares in other words: with a variable number of arguments, with
 * enumerations, or with other pointers. */
static int real_fcntl(int fd, int what, int argument)
{
    return fcntl(fd, what, argument);
}

static int real_ioctl(int fd, unsigned long what, void *argument)
{
    return ioctl(fd, what, argument);
}

static int real_getrlimit(int resource, struct rlimit *out_limit)
{
    return getrlimit((__rlimit_resource_t)resource, out_limit);
}

static int real_prctl(int what, unsigned long argument)
{
    return prctl(what, argument, 0, 0, 0);
}

static int real_bind(int fd, const struct sockaddr *address, socklen_t len)
{
    return bind(fd, address, len);
}

static int real_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    return connect(fd, address, len);
}

static int real_accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    return accept4(fd, address, len, flags);
}

static int real_getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
    return getsockname(fd, address, len);
}

static int real_getpeername(int fd, struct sockaddr *address, socklen_t *len)
{
    return getpeername(fd, address, len);
}

static int real_enter2(unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags,
                       void *argument, size_t len)
{
    return io_uring_enter2(fd, to_submit, wait_count, flags, argument, len);
}

static int real_memory_refused(void)
{
    return 0;
}

const struct gyre__kernel gyre__real_kernel = {
    .socket = socket,
    .socketpair = socketpair,
    .bind = real_bind,
    .listen = listen,
    .accept4 = real_accept4,
    .connect = real_connect,
    .shutdown = shutdown,
    .setsockopt = setsockopt,
    .getsockopt = getsockopt,
    .getsockname = real_getsockname,
    .getpeername = real_getpeername,
    .send = send,
    .sendmsg = sendmsg,
    .sendto = sendto,
    .sendmmsg = sendmmsg,
    .recv = recv,
    .recvmsg = recvmsg,
    .recvmmsg = recvmmsg,
    .read = read,
    .write = write,
    .preadv2 = preadv2,
    .pwritev2 = pwritev2,
    .close = close,
    .fcntl = real_fcntl,
    .ioctl = real_ioctl,
    .poll = poll,
    .eventfd = eventfd,
    .signalfd = signalfd,
    .timerfd_create = timerfd_create,
    .timerfd_settime = timerfd_settime,
    .epoll_create1 = epoll_create1,
    .epoll_ctl = epoll_ctl,
    .epoll_wait = epoll_wait,
    .epoll_pwait2 = epoll_pwait2,
    .clock_gettime = clock_gettime,
    .lstat = lstat,
    .stat = stat,
    .fstat = fstat,
    .unlink = unlink,
    .chmod = chmod,
    .getrlimit = real_getrlimit,
    .prctl = real_prctl,
    .mmap = mmap,
    .munmap = munmap,
    .madvise = madvise,
    .pthread_sigmask = pthread_sigmask,
    .pthread_create = pthread_create,
    .pthread_join = pthread_join,
    .pthread_setname_np = pthread_setname_np,
    .pthread_mutex_lock = pthread_mutex_lock,
    .pthread_mutex_unlock = pthread_mutex_unlock,
    .pthread_cond_wait = pthread_cond_wait,
    .pthread_cond_signal = pthread_cond_signal,
    .pthread_cond_broadcast = pthread_cond_broadcast,
    .if_indextoname = if_indextoname,
    .relax = gyre__relax,
    .memory_refused = real_memory_refused,
    .getenv = getenv,
    .io_uring_queue_init_params = io_uring_queue_init_params,
    .io_uring_ring_dontfork = io_uring_ring_dontfork,
    .io_uring_register_ring_fd = io_uring_register_ring_fd,
    .io_uring_register_eventfd = io_uring_register_eventfd,
    .io_uring_register_buf_ring = io_uring_register_buf_ring,
    .io_uring_enter2 = real_enter2,
    .io_uring_queue_exit = io_uring_queue_exit,
};
