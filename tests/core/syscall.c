/* The system calls that are made in place (lib/base/syscall.h) answer as the C library's functions do. */
#include "base/sys.h"
#include "harness.h"

#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#if defined(__GLIBC__) && defined(__x86_64__) && defined(__LP64__) && !defined(GYRE_LIBC_CALLS) && \
    !defined(GYRE__SANITIZED) && defined(gyre__sys_recv)
#error "a message's calls are to be in place here"
#endif

static void close_pair(int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

static void bytes_and_errors_of_a_stream(void)
{
    char bytes[16];
    int pair[2];

    test_tcp_pair(pair);
    errno = 0;
    assert_int_equal(gyre__sys_recv(pair[0], bytes, sizeof(bytes), MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    errno = 0;
    assert_int_equal(gyre__sys_send(pair[1], "hello", 5, MSG_NOSIGNAL), 5);
    assert_int_equal(gyre__sys_recv(pair[0], bytes, 2, 0), 2);
    assert_int_equal(gyre__sys_recv(pair[0], bytes + 2, sizeof(bytes) - 2, 0), 3);
    assert_memory_equal(bytes, "hello", 5);
    assert_int_equal(errno, 0); /* success leaves it alone */
    shutdown(pair[1], SHUT_WR);
    assert_int_equal(gyre__sys_recv(pair[0], bytes, sizeof(bytes), 0), 0);
    assert_int_equal(gyre__sys_send(pair[1], "x", 1, MSG_NOSIGNAL), -1);
    assert_int_equal(errno, EPIPE);
    close_pair(pair);
    assert_int_equal(gyre__sys_send(-1, "x", 1, 0), -1);
    assert_int_equal(errno, EBADF);
}

static void addresses_and_truncation_of_messages(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_in from = {0};
    socklen_t len = sizeof(address);
    char bytes[4];
    struct iovec piece = {.iov_base = bytes, .iov_len = sizeof(bytes)};
    struct msghdr msg = {
        .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &piece, .msg_iovlen = 1};
    const int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(receiver, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(getsockname(receiver, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(gyre__sys_sendto(sender, "datagram", 8, 0, (struct sockaddr *)&address, len),
                     8);
    assert_int_equal(gyre__sys_recvmsg(receiver, &msg, MSG_TRUNC), 8);
    assert_memory_equal(bytes, "data", 4);
    assert_true(msg.msg_flags & MSG_TRUNC);
    assert_int_equal(msg.msg_namelen, sizeof(from));
    assert_int_equal(from.sin_addr.s_addr, address.sin_addr.s_addr);
    msg.msg_name = &address;
    msg.msg_namelen = len;
    assert_int_equal(gyre__sys_sendmsg(sender, &msg, 0), 4);
    assert_int_equal(gyre__sys_recv(receiver, bytes, sizeof(bytes), 0), 4);
    assert_int_equal(
        gyre__sys_sendto(sender, "x", 1, 0, (struct sockaddr *)&address, sizeof(short)), -1);
    assert_int_equal(errno, EINVAL);
    close(receiver);
    close(sender);
}

static void several_messages_at_once(void)
{
    enum { COUNT = 3 };
    char bytes[COUNT][8] = {"a", "bb", "ccc"};
    struct iovec pieces[COUNT];
    struct mmsghdr msgs[COUNT] = {0};
    int pair[2];

    for (int i = 0; i < COUNT; i++) {
        pieces[i] = (struct iovec){.iov_base = bytes[i], .iov_len = strlen(bytes[i])};
        msgs[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gyre__sys_sendmmsg(pair[0], msgs, COUNT, 0), COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(msgs[i].msg_len, i + 1);
        pieces[i].iov_len = sizeof(bytes[i]);
    }
    assert_int_equal(gyre__sys_recvmmsg(pair[1], msgs, 2, MSG_DONTWAIT, NULL), 2);
    assert_int_equal(msgs[1].msg_len, 2);
    assert_int_equal(gyre__sys_recvmmsg(pair[1], msgs, COUNT, MSG_DONTWAIT, NULL), 1);
    assert_int_equal(msgs[0].msg_len, 3);
    assert_int_equal(gyre__sys_recvmmsg(pair[1], msgs, COUNT, MSG_DONTWAIT, NULL), -1);
    assert_int_equal(errno, EAGAIN);
    close_pair(pair);
}

static void ignore_signal(int number)
{
    (void)number;
}

/* A signal that is blocked and pending interrupts a wait whose mask lets it through. */
static int wait_interrupted(void *argument)
{
    const int number = *(int *)argument;
    const struct sigaction action = {.sa_handler = ignore_signal};
    const struct timespec forever = {.tv_sec = 3600};
    struct epoll_event event;
    sigset_t blocked;
    sigset_t none;

    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    if (sigaction(SIGUSR1, &action, NULL) < 0 || sigprocmask(SIG_BLOCK, &blocked, NULL) < 0 ||
        raise(SIGUSR1) != 0) {
        return 1;
    }
    if (gyre__sys_epoll_pwait2(number, &event, 1, &forever, &none) != -1) {
        return 2;
    }
    return errno == EINTR ? 0 : 3;
}

static int watching(int *pair, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    const int number = epoll_create1(EPOLL_CLOEXEC);

    test_tcp_pair(pair);
    assert_int_equal(epoll_ctl(number, EPOLL_CTL_ADD, pair[0], &event), 0);
    return number;
}

static void events_of_a_wait(void)
{
    const uint64_t data = UINT64_C(0x123456789abcdef0);
    struct epoll_event events[2];
    int pair[2];
    const int number = watching(pair, data);

    assert_int_equal(gyre__sys_epoll_wait(number, events, 2, 0), 0);
    assert_int_equal(gyre__sys_send(pair[1], "x", 1, 0), 1);
    assert_int_equal(gyre__sys_epoll_wait(number, events, 2, -1), 1);
    assert_true(events[0].data.u64 == data);
    assert_int_equal(gyre__sys_epoll_wait(number, events, 0, 0), -1);
    assert_int_equal(errno, EINVAL);
    close_pair(pair);
    close(number);
}

static void time_and_signals_of_a_wait(void)
{
    const struct timespec moment = {.tv_nsec = 1000};
    struct epoll_event events[2];
    int pair[2];
    int number = watching(pair, 0);
    const int rc = epoll_pwait2(number, events, 2, &moment, NULL);

    if (rc < 0 && (errno == ENOSYS || errno == EPERM)) {
        close_pair(pair);
        close(number);
        test_skip("no epoll_pwait2 here");
    }
    assert_int_equal(gyre__sys_epoll_pwait2(number, events, 2, &moment, NULL), 0);
    test_child_passes(wait_interrupted, &number);
    assert_int_equal(gyre__sys_send(pair[1], "x", 1, 0), 1);
    assert_int_equal(gyre__sys_epoll_pwait2(number, events, 2, NULL, NULL), 1);
    close_pair(pair);
    close(number);
}

/* As liburing's function: the error is the result. Where io_uring is forbidden that is another one. */
static void entering_tells_the_error(void)
{
    errno = 0;
    assert_true(gyre__sys_io_uring_enter2((unsigned)-1, 0, 0, 0, NULL, 0) < -1);
    assert_int_equal(errno, 0);
}

static const struct test_case cases[] = {
    TEST_CASE(bytes_and_errors_of_a_stream), TEST_CASE(addresses_and_truncation_of_messages),
    TEST_CASE(several_messages_at_once),     TEST_CASE(events_of_a_wait),
    TEST_CASE(time_and_signals_of_a_wait),   TEST_CASE(entering_tells_the_error),
};

int main(void)
{
    return test_main("syscall", cases, TEST_COUNT(cases));
}
