/*
 * The system calls that a message is made of, in place and not through the C library.
 *
 * A processor predicts where a function returns to from what it remembers of the last calls. A
 * message's way through the kernel makes it forget: behind a system call each return into a function
 * that called before it is predicted wrong, and the C library's function around the call is the first
 * of them. docs/epoll.md says how much that is.
 *
 * They answer as the C library's do, with -1 and errno, and io_uring_enter2 as liburing's, with
 * -errno. But they are no cancellation points, and whatever replaces the C library's functions does
 * not see them: a sanitizer, or a preloaded library. Sanitizers are told from here; for others the
 * build defines GYRE_LIBC_CALLS (meson_options.txt).
 *
 * Only with glibc, whose structures are the kernel's; and not with SVE, of whose registers the kernel
 * keeps less across a call than a compiler believes of the instruction
 * (Documentation/arch/arm64/sve.rst).
 */
#ifndef GYRE_BASE_SYSCALL_H
#define GYRE_BASE_SYSCALL_H

#include "base/rare.h"

#include <errno.h>
#include <features.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GYRE__SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define GYRE__SANITIZED 1
#endif
#endif

#if defined(__GLIBC__) && defined(__LP64__) && !defined(GYRE_LIBC_CALLS) && \
    !defined(GYRE__SANITIZED) &&                                            \
    (defined(__x86_64__) || (defined(__aarch64__) && !defined(__ARM_FEATURE_SVE)))

#if defined(__x86_64__)
static GYRE__INLINE long gyre__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = e;
    register long sixth __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    return result;
}
#else
static GYRE__INLINE long gyre__syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#endif

static GYRE__INLINE long gyre__syscall_result(long result)
{
    if (__builtin_expect(result < 0, 0)) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

/* Arguments of any kind, as the kernel gets them. */
#define GYRE__SYSCALL(name, a, b, c, d, e, f) \
    gyre__syscall(SYS_##name, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))
#define GYRE__SYSCALL_ERRNO(...) gyre__syscall_result(GYRE__SYSCALL(__VA_ARGS__))

static GYRE__INLINE ssize_t gyre__sys_send(int fd, const void *data, size_t len, int flags)
{
    return GYRE__SYSCALL_ERRNO(sendto, fd, data, len, flags, 0, 0);
}

static GYRE__INLINE ssize_t gyre__sys_sendto(int fd, const void *data, size_t len, int flags,
                                             const struct sockaddr *to, socklen_t to_len)
{
    return GYRE__SYSCALL_ERRNO(sendto, fd, data, len, flags, to, to_len);
}

static GYRE__INLINE ssize_t gyre__sys_sendmsg(int fd, const struct msghdr *msg, int flags)
{
    return GYRE__SYSCALL_ERRNO(sendmsg, fd, msg, flags, 0, 0, 0);
}

static GYRE__INLINE int gyre__sys_sendmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags)
{
    return (int)GYRE__SYSCALL_ERRNO(sendmmsg, fd, msgs, count, flags, 0, 0);
}

static GYRE__INLINE ssize_t gyre__sys_recv(int fd, void *data, size_t len, int flags)
{
    return GYRE__SYSCALL_ERRNO(recvfrom, fd, data, len, flags, 0, 0);
}

static GYRE__INLINE ssize_t gyre__sys_recvmsg(int fd, struct msghdr *msg, int flags)
{
    return GYRE__SYSCALL_ERRNO(recvmsg, fd, msg, flags, 0, 0, 0);
}

static GYRE__INLINE int gyre__sys_recvmmsg(int fd, struct mmsghdr *msgs, unsigned count, int flags,
                                           struct timespec *timeout)
{
    return (int)GYRE__SYSCALL_ERRNO(recvmmsg, fd, msgs, count, flags, timeout, 0);
}

static GYRE__INLINE int gyre__sys_epoll_wait(int fd, struct epoll_event *events, int count,
                                             int timeout_ms)
{
#if defined(SYS_epoll_wait)
    return (int)GYRE__SYSCALL_ERRNO(epoll_wait, fd, events, count, timeout_ms, 0, 0);
#else
    return (int)GYRE__SYSCALL_ERRNO(epoll_pwait, fd, events, count, timeout_ms, NULL, 0);
#endif
}

static GYRE__INLINE int gyre__sys_epoll_pwait2(int fd, struct epoll_event *events, int count,
                                               const struct timespec *timeout, const sigset_t *mask)
{
    return (int)GYRE__SYSCALL_ERRNO(epoll_pwait2, fd, events, count, timeout, mask,
                                    (_NSIG - 1) / 8);
}

static GYRE__INLINE int gyre__sys_io_uring_enter2(unsigned fd, unsigned to_submit,
                                                  unsigned wait_count, unsigned flags,
                                                  void *argument, size_t len)
{
    return (int)GYRE__SYSCALL(io_uring_enter, fd, to_submit, wait_count, flags, argument, len);
}

#else

#define gyre__sys_send            send
#define gyre__sys_sendto          sendto
#define gyre__sys_sendmsg         sendmsg
#define gyre__sys_sendmmsg        sendmmsg
#define gyre__sys_recv            recv
#define gyre__sys_recvmsg         recvmsg
#define gyre__sys_recvmmsg        recvmmsg
#define gyre__sys_epoll_wait      epoll_wait
#define gyre__sys_epoll_pwait2    epoll_pwait2
#define gyre__sys_io_uring_enter2 io_uring_enter2

#endif

#endif
