/*
 * The one seam to the operating system: whatever the library asks of it, it asks through a
 * gyre__sys_ name. In libgyre these are the functions of the C library and of liburing themselves,
 * by another name, or the system call itself (base/syscall.h). In libgyre-sim (GYRE_SIM) they go
 * through a table that belongs to the thread: the operating system's own, one that injects faults,
 * or a simulated kernel (lib/sim). So the drivers and everything above them run there as they are.
 *
 * Whoever needs another function adds it here: tests/tidy/banned.py refuses the bare names.
 */
#ifndef GYRE_BASE_SYS_H
#define GYRE_BASE_SYS_H

/* Tell the processor that this is a spin: it leaves the other hardware thread more room. */
static inline int gyre__relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    return 0;
}

#if defined(GYRE_SIM)

#include <fcntl.h>
#include <liburing.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* X(result, name, parameters, arguments); they behave as the functions of these names do: -1 and
 * errno, or -errno where liburing and pthreads say so. fcntl and ioctl take one argument more. */
/* clang-format off */
#define GYRE__SYS_MAP(X)                                                                           \
    X(int, socket, (int family, int type, int protocol), (family, type, protocol))                 \
    X(int, socketpair, (int family, int type, int protocol, int *numbers),                         \
      (family, type, protocol, numbers))                                                           \
    X(int, bind, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))      \
    X(int, listen, (int fd, int backlog), (fd, backlog))                                           \
    X(int, accept4, (int fd, struct sockaddr *address, socklen_t *len, int flags),                 \
      (fd, address, len, flags))                                                                   \
    X(int, connect, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))   \
    X(int, shutdown, (int fd, int how), (fd, how))                                                 \
    X(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t len),            \
      (fd, level, name, value, len))                                                               \
    X(int, getsockopt, (int fd, int level, int name, void *value, socklen_t *len),                 \
      (fd, level, name, value, len))                                                               \
    X(int, getsockname, (int fd, struct sockaddr *address, socklen_t *len), (fd, address, len))    \
    X(int, getpeername, (int fd, struct sockaddr *address, socklen_t *len), (fd, address, len))    \
    X(ssize_t, send, (int fd, const void *data, size_t len, int flags), (fd, data, len, flags))    \
    X(ssize_t, sendto,                                                                             \
      (int fd, const void *data, size_t len, int flags, const struct sockaddr *to,                 \
       socklen_t to_len),                                                                          \
      (fd, data, len, flags, to, to_len))                                                          \
    X(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), (fd, msg, flags))           \
    X(int, sendmmsg, (int fd, struct mmsghdr *msgs, unsigned count, int flags),                    \
      (fd, msgs, count, flags))                                                                    \
    X(ssize_t, recv, (int fd, void *data, size_t len, int flags), (fd, data, len, flags))          \
    X(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), (fd, msg, flags))                 \
    X(int, recvmmsg,                                                                               \
      (int fd, struct mmsghdr *msgs, unsigned count, int flags, struct timespec *timeout),         \
      (fd, msgs, count, flags, timeout))                                                           \
    X(ssize_t, read, (int fd, void *data, size_t len), (fd, data, len))                            \
    X(ssize_t, write, (int fd, const void *data, size_t len), (fd, data, len))                     \
    X(ssize_t, preadv2, (int fd, const struct iovec *pieces, int count, off_t offset, int flags),  \
      (fd, pieces, count, offset, flags))                                                          \
    X(ssize_t, pwritev2, (int fd, const struct iovec *pieces, int count, off_t offset, int flags), \
      (fd, pieces, count, offset, flags))                                                          \
    X(int, close, (int fd), (fd))                                                                  \
    X(int, fcntl, (int fd, int what, int argument), (fd, what, argument))                          \
    X(int, ioctl, (int fd, unsigned long what, void *argument), (fd, what, argument))              \
    X(int, poll, (struct pollfd *fds, nfds_t count, int timeout_ms), (fds, count, timeout_ms))     \
    X(int, eventfd, (unsigned value, int flags), (value, flags))                                   \
    X(int, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags))                   \
    X(int, timerfd_create, (int clock, int flags), (clock, flags))                                 \
    X(int, timerfd_settime,                                                                        \
      (int fd, int flags, const struct itimerspec *when, struct itimerspec *out_before),           \
      (fd, flags, when, out_before))                                                               \
    X(int, epoll_create1, (int flags), (flags))                                                    \
    X(int, epoll_ctl, (int fd, int what, int other, struct epoll_event *event),                    \
      (fd, what, other, event))                                                                    \
    X(int, epoll_wait, (int fd, struct epoll_event *events, int count, int timeout_ms),            \
      (fd, events, count, timeout_ms))                                                             \
    X(int, epoll_pwait2,                                                                           \
      (int fd, struct epoll_event *events, int count, const struct timespec *timeout,              \
       const sigset_t *mask),                                                                      \
      (fd, events, count, timeout, mask))                                                          \
    X(int, clock_gettime, (clockid_t clock, struct timespec *out_time), (clock, out_time))         \
    X(int, lstat, (const char *path, struct stat *out_file), (path, out_file))                     \
    X(int, stat, (const char *path, struct stat *out_file), (path, out_file))                      \
    X(int, fstat, (int fd, struct stat *out_file), (fd, out_file))                                 \
    X(int, unlink, (const char *path), (path))                                                     \
    X(int, chmod, (const char *path, mode_t mode), (path, mode))                                   \
    X(int, getrlimit, (int resource, struct rlimit *out_limit), (resource, out_limit))             \
    X(int, prctl, (int what, unsigned long argument), (what, argument))                            \
    X(void *, mmap, (void *address, size_t len, int protection, int flags, int fd, off_t offset),  \
      (address, len, protection, flags, fd, offset))                                               \
    X(int, munmap, (void *address, size_t len), (address, len))                                    \
    X(int, madvise, (void *address, size_t len, int advice), (address, len, advice))               \
    X(int, pthread_sigmask, (int how, const sigset_t *set, sigset_t *out_before),                  \
      (how, set, out_before))                                                                      \
    X(int, pthread_create,                                                                         \
      (pthread_t *out_thread, const pthread_attr_t *attributes, void *(*body)(void *), void *data),\
      (out_thread, attributes, body, data))                                                        \
    X(int, pthread_join, (pthread_t thread, void **out_result), (thread, out_result))              \
    X(int, pthread_setname_np, (pthread_t thread, const char *name), (thread, name))               \
    X(int, pthread_mutex_lock, (pthread_mutex_t *mutex), (mutex))                                  \
    X(int, pthread_mutex_unlock, (pthread_mutex_t *mutex), (mutex))                                \
    X(int, pthread_cond_wait, (pthread_cond_t *condition, pthread_mutex_t *mutex),                 \
      (condition, mutex))                                                                          \
    X(int, pthread_cond_signal, (pthread_cond_t *condition), (condition))                          \
    X(int, pthread_cond_broadcast, (pthread_cond_t *condition), (condition))                       \
    X(char *, if_indextoname, (unsigned index, char *name), (index, name))                         \
    X(int, relax, (void), ())                                                                      \
    /* Whether the allocator has to say that there is no memory, for once. */                      \
    X(int, memory_refused, (void), ())                                                             \
    X(char *, getenv, (const char *name), (name))                                                  \
    X(int, io_uring_queue_init_params,                                                             \
      (unsigned entries, struct io_uring *ring, struct io_uring_params *params),                   \
      (entries, ring, params))                                                                     \
    X(int, io_uring_ring_dontfork, (struct io_uring *ring), (ring))                                \
    X(int, io_uring_register_ring_fd, (struct io_uring *ring), (ring))                             \
    X(int, io_uring_register_eventfd, (struct io_uring *ring, int fd), (ring, fd))                 \
    X(int, io_uring_register_buf_ring,                                                             \
      (struct io_uring *ring, struct io_uring_buf_reg *registration, unsigned flags),              \
      (ring, registration, flags))                                                                 \
    X(int, io_uring_enter2,                                                                        \
      (unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags, void *argument,       \
       size_t len),                                                                                \
      (fd, to_submit, wait_count, flags, argument, len))
/* clang-format on */

struct gyre__kernel {
#define X(result, name, parameters, arguments) result(*name) parameters;
    GYRE__SYS_MAP(X)
#undef X
    void (*io_uring_queue_exit)(struct io_uring *ring);
};

/* What this thread's calls go to; begins as the operating system. */
extern _Thread_local const struct gyre__kernel *gyre__kernel;

#define X(result, name, parameters, arguments)       \
    static inline result gyre__sys_##name parameters \
    {                                                \
        return gyre__kernel->name arguments;         \
    }
GYRE__SYS_MAP(X)
#undef X

static inline void gyre__sys_io_uring_queue_exit(struct io_uring *ring)
{
    gyre__kernel->io_uring_queue_exit(ring);
}

#else

#include "base/syscall.h"

#define gyre__sys_socket                     socket
#define gyre__sys_socketpair                 socketpair
#define gyre__sys_bind                       bind
#define gyre__sys_listen                     listen
#define gyre__sys_accept4                    accept4
#define gyre__sys_connect                    connect
#define gyre__sys_shutdown                   shutdown
#define gyre__sys_setsockopt                 setsockopt
#define gyre__sys_getsockopt                 getsockopt
#define gyre__sys_getsockname                getsockname
#define gyre__sys_getpeername                getpeername
#define gyre__sys_read                       read
#define gyre__sys_write                      write
#define gyre__sys_preadv2                    preadv2
#define gyre__sys_pwritev2                   pwritev2
#define gyre__sys_close                      close
#define gyre__sys_fcntl                      fcntl
#define gyre__sys_ioctl                      ioctl
#define gyre__sys_poll                       poll
#define gyre__sys_eventfd                    eventfd
#define gyre__sys_signalfd                   signalfd
#define gyre__sys_timerfd_create             timerfd_create
#define gyre__sys_timerfd_settime            timerfd_settime
#define gyre__sys_epoll_create1              epoll_create1
#define gyre__sys_epoll_ctl                  epoll_ctl
#define gyre__sys_clock_gettime              clock_gettime
#define gyre__sys_lstat                      lstat
#define gyre__sys_stat                       stat
#define gyre__sys_fstat                      fstat
#define gyre__sys_unlink                     unlink
#define gyre__sys_chmod                      chmod
#define gyre__sys_getrlimit                  getrlimit
#define gyre__sys_prctl                      prctl
#define gyre__sys_mmap                       mmap
#define gyre__sys_munmap                     munmap
#define gyre__sys_madvise                    madvise
#define gyre__sys_pthread_sigmask            pthread_sigmask
#define gyre__sys_pthread_create             pthread_create
#define gyre__sys_pthread_join               pthread_join
#define gyre__sys_pthread_setname_np         pthread_setname_np
#define gyre__sys_pthread_mutex_lock         pthread_mutex_lock
#define gyre__sys_pthread_mutex_unlock       pthread_mutex_unlock
#define gyre__sys_pthread_cond_wait          pthread_cond_wait
#define gyre__sys_pthread_cond_signal        pthread_cond_signal
#define gyre__sys_pthread_cond_broadcast     pthread_cond_broadcast
#define gyre__sys_if_indextoname             if_indextoname
#define gyre__sys_relax                      gyre__relax
#define gyre__sys_memory_refused()           0
#define gyre__sys_getenv                     getenv
#define gyre__sys_io_uring_queue_init_params io_uring_queue_init_params
#define gyre__sys_io_uring_ring_dontfork     io_uring_ring_dontfork
#define gyre__sys_io_uring_register_ring_fd  io_uring_register_ring_fd
#define gyre__sys_io_uring_register_eventfd  io_uring_register_eventfd
#define gyre__sys_io_uring_register_buf_ring io_uring_register_buf_ring
#define gyre__sys_io_uring_queue_exit        io_uring_queue_exit

#endif

#endif
