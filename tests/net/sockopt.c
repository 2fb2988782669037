/* Socket options: each is set and got on every socket that has it. Catalogue W16. */
#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum {
    TCP4 = 1 << 0,
    TCP6 = 1 << 1,
    UDP4 = 1 << 2,
    UDP6 = 1 << 3,
    UNIX_STREAM = 1 << 4,
    UNIX_DGRAM = 1 << 5,
    SORTS = 6,
    TCP = TCP4 | TCP6,
    INET = TCP | UDP4 | UDP6,
    ALL = INET | UNIX_STREAM | UNIX_DGRAM,
};

struct sort {
    int family;
    int type;
};

static const struct sort sorts[SORTS] = {
    {AF_INET, SOCK_STREAM}, {AF_INET6, SOCK_STREAM}, {AF_INET, SOCK_DGRAM},
    {AF_INET6, SOCK_DGRAM}, {AF_UNIX, SOCK_STREAM},  {AF_UNIX, SOCK_DGRAM},
};

/* What is set, and what is then got. */
struct step {
    uint64_t set;
    uint64_t got;
};

struct expectation {
    enum gyre_sockopt option;
    int had_by; /* the sorts of socket that have it */
    const struct step *steps;
    size_t step_count;
    const uint64_t *refused; /* values out of its range */
    size_t refused_count;
};

#define STEPS(...) \
    (const struct step[]){__VA_ARGS__}, TEST_COUNT(((const struct step[]){__VA_ARGS__}))
#define REFUSED(...) (const uint64_t[]){__VA_ARGS__}, TEST_COUNT(((const uint64_t[]){__VA_ARGS__}))

/* SO_REUSEPORT of Unix sockets depends on the kernel: not asked. */
static const struct expectation expectations[] = {
    {GYRE_SOCKOPT_REUSE_ADDRESS, ALL, STEPS({1, 1}, {0, 0}, {1, 1}), REFUSED(2, UINT64_MAX)},
    {GYRE_SOCKOPT_REUSE_PORT, INET, STEPS({1, 1}, {0, 0}), REFUSED(2)},
    {GYRE_SOCKOPT_KEEPALIVE, ALL, STEPS({1, 1}, {0, 0}), REFUSED(2, GYRE_SEC)},
    {GYRE_SOCKOPT_KEEPALIVE_IDLE, TCP,
     STEPS({30 * GYRE_SEC, 30 * GYRE_SEC}, {1, GYRE_SEC}, {GYRE_SEC + 1, 2 * GYRE_SEC}),
     REFUSED(0, 32768 * GYRE_SEC, UINT64_MAX)},
    {GYRE_SOCKOPT_KEEPALIVE_INTERVAL, TCP,
     STEPS({10 * GYRE_SEC, 10 * GYRE_SEC}, {32767 * GYRE_SEC, 32767 * GYRE_SEC}),
     REFUSED(0, 32767 * GYRE_SEC + 1, UINT64_MAX - 1)},
    {GYRE_SOCKOPT_KEEPALIVE_COUNT, TCP, STEPS({1, 1}, {127, 127}, {3, 3}),
     REFUSED(0, 128, 1ULL << 32 | 3)},
    {GYRE_SOCKOPT_NODELAY, TCP, STEPS({1, 1}, {0, 0}), REFUSED(2)},
    {GYRE_SOCKOPT_SEND_BUFFER, ALL, STEPS({65536, 65536}, {32768, 32768}),
     REFUSED(0, 1 << 30, UINT64_MAX)},
    {GYRE_SOCKOPT_RECEIVE_BUFFER, ALL, STEPS({65536, 65536}, {5000, 5000}),
     REFUSED(0, 1 << 30, UINT64_MAX)},
    {GYRE_SOCKOPT_LINGER, ALL,
     STEPS({1, GYRE_SEC}, {0, 0}, {3 * GYRE_SEC, 3 * GYRE_SEC}, {GYRE_LINGER_OFF, GYRE_LINGER_OFF}),
     REFUSED(32768 * GYRE_SEC, GYRE_LINGER_OFF - 1)},
    {GYRE_SOCKOPT_USER_TIMEOUT, TCP,
     STEPS({1, GYRE_MSEC}, {20 * GYRE_SEC + 1, 20 * GYRE_SEC + GYRE_MSEC}, {0, 0}),
     REFUSED(INT_MAX *GYRE_MSEC + 1, UINT64_MAX)},
    {GYRE_SOCKOPT_TRAFFIC_CLASS, INET, STEPS({46 << 2, 46 << 2}, {0, 0}, {0x20, 0x20}),
     REFUSED(256)},
    {GYRE_SOCKOPT_HOP_LIMIT, INET, STEPS({1, 1}, {255, 255}, {64, 64}),
     REFUSED(0, 256, UINT64_MAX)},
    {GYRE_SOCKOPT_V6ONLY, TCP6 | UDP6, STEPS({1, 1}, {0, 0}), REFUSED(2)},
    {GYRE_SOCKOPT_DEFER_ACCEPT, TCP,
     STEPS({1, GYRE_SEC}, {2 * GYRE_SEC, 3 * GYRE_SEC}, {4 * GYRE_SEC, 7 * GYRE_SEC}, {0, 0}),
     REFUSED(32768 * GYRE_SEC)},
    {GYRE_SOCKOPT_FAST_OPEN, TCP, STEPS({5, 5}, {0, 0}, {1, 1}), REFUSED(1ULL << 31, UINT64_MAX)},
    {GYRE_SOCKOPT_FAST_OPEN_CONNECT, TCP, STEPS({1, 1}, {0, 0}), REFUSED(2)},
};

/* Whether this machine has it switched off, as containers may: then it is not the library's. */
static int switched_off(int number, const struct expectation *expected)
{
    int one = 1;

    return expected->option == GYRE_SOCKOPT_FAST_OPEN_CONNECT &&
           setsockopt(number, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one) < 0;
}

static void expect_steps(int number, const struct expectation *expected)
{
    uint64_t value;

    for (size_t i = 0; i < expected->step_count; i++) {
        const struct step *step = &expected->steps[i];

        if (gyre_sockopt_set(number, expected->option, step->set) != 0 ||
            gyre_sockopt_get(number, expected->option, &value) != 0 || value != step->got) {
            fail_msg("%s, step %zu", gyre_sockopt_name(expected->option), i);
        }
    }
}

/* Nothing changes. */
static void expect_refusals(int number, const struct expectation *expected)
{
    uint64_t before = 0;
    uint64_t value = 1;

    assert_int_equal(gyre_sockopt_get(number, expected->option, &before), 0);
    for (size_t i = 0; i < expected->refused_count; i++) {
        if (gyre_sockopt_set(number, expected->option, expected->refused[i]) != -EINVAL) {
            fail_msg("%s takes value %zu", gyre_sockopt_name(expected->option), i);
        }
    }
    assert_int_equal(gyre_sockopt_get(number, expected->option, &value), 0);
    assert_int_equal(value, before);
}

/* A socket of a sort, or -1 where the machine has no IPv6. */
static int open_sort(const struct sort *sort)
{
    const int number = socket(sort->family, sort->type | SOCK_CLOEXEC, 0);

    assert_true(number >= 0 || (sort->family == AF_INET6 && errno == EAFNOSUPPORT));
    return number;
}

static void sockopt_each_is_got_as_it_was_set(void)
{
    for (size_t sort = 0; sort < SORTS; sort++) {
        for (size_t i = 0; i < TEST_COUNT(expectations); i++) {
            const int number = open_sort(&sorts[sort]);

            if (number >= 0 && (expectations[i].had_by & 1 << sort) &&
                !switched_off(number, &expectations[i])) {
                expect_steps(number, &expectations[i]);
                expect_refusals(number, &expectations[i]);
            }
            if (number >= 0) {
                close(number);
            }
        }
    }
}

/* One code, whichever of its own the kernel has for it. */
static void sockopt_that_a_socket_has_not_reports_enoprotoopt(void)
{
    for (size_t sort = 0; sort < SORTS; sort++) {
        for (size_t i = 0; i < TEST_COUNT(expectations); i++) {
            const struct expectation *expected = &expectations[i];
            const int number = open_sort(&sorts[sort]);
            uint64_t value = 77;

            if (number < 0) {
                continue;
            }
            if (!(expected->had_by & 1 << sort) && expected->option != GYRE_SOCKOPT_REUSE_PORT) {
                if (gyre_sockopt_set(number, expected->option, expected->steps[0].set) !=
                        -ENOPROTOOPT ||
                    gyre_sockopt_get(number, expected->option, &value) != -ENOPROTOOPT) {
                    fail_msg("%s on sort %zu", gyre_sockopt_name(expected->option), sort);
                }
                assert_int_equal(value, 77);
            }
            close(number);
        }
    }
}

static void sockopt_expectations_cover_every_option(void)
{
    assert_int_equal(TEST_COUNT(expectations), GYRE_SOCKOPT_COUNT);
    for (int i = 0; i < GYRE_SOCKOPT_COUNT; i++) {
        assert_int_equal(expectations[i].option, i);
    }
}

static void sockopt_names_are_those_of_the_enumeration(void)
{
    assert_string_equal(gyre_sockopt_name(GYRE_SOCKOPT_REUSE_ADDRESS), "REUSE_ADDRESS");
    assert_string_equal(gyre_sockopt_name(GYRE_SOCKOPT_FAST_OPEN_CONNECT), "FAST_OPEN_CONNECT");
    assert_string_equal(gyre_sockopt_name(GYRE_SOCKOPT_COUNT), "UNKNOWN");
    assert_string_equal(gyre_sockopt_name((enum gyre_sockopt) - 1), "UNKNOWN");
}

static void sockopt_bad_arguments_are_refused(void)
{
    const int number = wire_tcp();
    char text[GYRE_CONGESTION_MAX];
    uint64_t value;
    int pipe_ends[2];

    wire_pipe(pipe_ends);
    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_COUNT, 1), -EINVAL);
    assert_int_equal(gyre_sockopt_set(number, (enum gyre_sockopt) - 1, 1), -EINVAL);
    assert_int_equal(gyre_sockopt_get(number, GYRE_SOCKOPT_COUNT, &value), -EINVAL);
    for (int i = 0; i < GYRE_SOCKOPT_COUNT; i++) {
        const uint64_t right = expectations[i].steps[0].set;

        assert_int_equal(gyre_sockopt_get(number, (enum gyre_sockopt)i, NULL), -EINVAL);
        assert_int_equal(gyre_sockopt_get(-1, (enum gyre_sockopt)i, &value), -EBADF);
        assert_int_equal(gyre_sockopt_set(-1, (enum gyre_sockopt)i, right), -EBADF);
        assert_int_equal(gyre_sockopt_get(pipe_ends[0], (enum gyre_sockopt)i, &value), -ENOTSOCK);
        assert_int_equal(gyre_sockopt_set(pipe_ends[0], (enum gyre_sockopt)i, right), -ENOTSOCK);
    }
    assert_int_equal(gyre_sockopt_congestion(-1, text, sizeof text), -EBADF);
    assert_int_equal(gyre_sockopt_set_congestion(pipe_ends[0], "reno"), -ENOTSOCK);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    close(number);
}

/* Linux has a least and a most for buffers: it moves what is beyond without a word, and what is got
 * says so. */
static void sockopt_buffer_beyond_the_limits_of_linux_is_told_by_get(void)
{
    const int number = wire_tcp();
    uint64_t value;
    int kernels;

    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_SEND_BUFFER, 1), 0);
    assert_int_equal(gyre_sockopt_get(number, GYRE_SOCKOPT_SEND_BUFFER, &value), 0);
    assert_true(value > 1);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_SNDBUF, &kernels, sizeof kernels),
                     sizeof kernels);
    assert_int_equal(value, kernels / 2);
    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_RECEIVE_BUFFER, (1 << 30) - 1), 0);
    assert_int_equal(gyre_sockopt_get(number, GYRE_SOCKOPT_RECEIVE_BUFFER, &value), 0);
    assert_in_range(value, 65536, (1 << 30) - 1);
    close(number);
}

/* An IPv6 socket may have an IPv4 peer, and then goes by the options of IPv4. */
static void sockopt_of_ip_goes_to_both_protocols_of_an_ipv6_socket(void)
{
    for (size_t sort = 0; sort < SORTS; sort++) {
        const int number = sorts[sort].family == AF_INET6 ? open_sort(&sorts[sort]) : -1;
        int kernels = 0;

        if (number < 0) {
            continue;
        }
        assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_TRAFFIC_CLASS, 184), 0);
        assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_HOP_LIMIT, 7), 0);
        assert_int_equal(gyre_sockopt_get_raw(number, IPPROTO_IP, IP_TOS, &kernels, sizeof kernels),
                         4);
        assert_int_equal(kernels, 184);
        assert_int_equal(gyre_sockopt_get_raw(number, IPPROTO_IP, IP_TTL, &kernels, sizeof kernels),
                         4);
        assert_int_equal(kernels, 7);
        assert_int_equal(
            gyre_sockopt_get_raw(number, IPPROTO_IPV6, IPV6_TCLASS, &kernels, sizeof kernels), 4);
        assert_int_equal(kernels, 184);
        assert_int_equal(
            gyre_sockopt_get_raw(number, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &kernels, sizeof kernels),
            4);
        assert_int_equal(kernels, 7);
        close(number);
    }
}

/* What each means to the kernel, seen past the library. */
static void sockopt_times_reach_the_kernel_in_its_units(void)
{
    const int number = wire_tcp();
    struct linger linger;
    int kernels;

    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_KEEPALIVE_IDLE, 30 * GYRE_SEC), 0);
    assert_int_equal(
        gyre_sockopt_get_raw(number, IPPROTO_TCP, TCP_KEEPIDLE, &kernels, sizeof kernels), 4);
    assert_int_equal(kernels, 30);
    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_USER_TIMEOUT, 30 * GYRE_SEC), 0);
    assert_int_equal(
        gyre_sockopt_get_raw(number, IPPROTO_TCP, TCP_USER_TIMEOUT, &kernels, sizeof kernels), 4);
    assert_int_equal(kernels, 30000);
    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_LINGER, 0), 0);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_LINGER, &linger, sizeof linger),
                     sizeof linger);
    assert_int_equal(linger.l_onoff, 1);
    assert_int_equal(linger.l_linger, 0);
    assert_int_equal(gyre_sockopt_set(number, GYRE_SOCKOPT_LINGER, GYRE_LINGER_OFF), 0);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_LINGER, &linger, sizeof linger),
                     sizeof linger);
    assert_int_equal(linger.l_onoff, 0);
    close(number);
}

static void sockopt_too_late_is_refused(void)
{
    struct sockaddr_in address;
    const int listener = test_listener(&address);
    const int client = test_connect(&address);

    assert_int_equal(gyre_sockopt_set(client, GYRE_SOCKOPT_FAST_OPEN, 5), -EINVAL);
    assert_int_equal(gyre_sockopt_set(listener, GYRE_SOCKOPT_FAST_OPEN, 5), 0);
    assert_int_equal(gyre_sockopt_set(client, GYRE_SOCKOPT_FAST_OPEN_CONNECT, 1), -EINVAL);
    close(client);
    close(listener);
}

static void sockopt_of_a_listener_is_inherited(void)
{
    struct sockaddr_in address;
    const int listener = test_listener(&address);
    uint64_t value;

    assert_int_equal(gyre_sockopt_set(listener, GYRE_SOCKOPT_NODELAY, 1), 0);
    assert_int_equal(gyre_sockopt_set(listener, GYRE_SOCKOPT_KEEPALIVE, 1), 0);
    assert_int_equal(gyre_sockopt_set(listener, GYRE_SOCKOPT_KEEPALIVE_COUNT, 4), 0);
    const int client = test_connect(&address);
    const int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(server >= 0);
    assert_int_equal(gyre_sockopt_get(server, GYRE_SOCKOPT_NODELAY, &value), 0);
    assert_int_equal(value, 1);
    assert_int_equal(gyre_sockopt_get(server, GYRE_SOCKOPT_KEEPALIVE, &value), 0);
    assert_int_equal(value, 1);
    assert_int_equal(gyre_sockopt_get(server, GYRE_SOCKOPT_KEEPALIVE_COUNT, &value), 0);
    assert_int_equal(value, 4);
    close(server);
    close(client);
    close(listener);
}

static void sockopt_congestion_control_is_chosen_by_name(void)
{
    const int number = wire_tcp();
    const int udp = wire_udp(NULL);
    char name[GYRE_CONGESTION_MAX] = "z";

    assert_int_equal(gyre_sockopt_set_congestion(number, "reno"), 0); /* every kernel has it */
    assert_int_equal(gyre_sockopt_congestion(number, name, 4), -ENOSPC);
    assert_string_equal(name, "z");
    assert_int_equal(gyre_sockopt_congestion(number, name, 5), 4);
    assert_string_equal(name, "reno");
    assert_int_equal(gyre_sockopt_congestion(number, NULL, 5), -EINVAL);
    assert_int_equal(gyre_sockopt_set_congestion(number, "gyre-none"), -ENOENT);
    assert_int_equal(gyre_sockopt_set_congestion(number, "0123456789abcdef"), -EINVAL);
    assert_int_equal(gyre_sockopt_set_congestion(number, ""), -EINVAL);
    assert_int_equal(gyre_sockopt_set_congestion(number, NULL), -EINVAL);
    assert_int_equal(gyre_sockopt_set_congestion(udp, "reno"), -ENOPROTOOPT);
    assert_int_equal(gyre_sockopt_congestion(udp, name, sizeof name), -ENOPROTOOPT);
    assert_string_equal(name, "reno");
    close(udp);
    close(number);
}

static void sockopt_raw_is_the_system_call(void)
{
    const int number = wire_tcp();
    const int size = 1000;
    struct tcp_info info;
    char byte = 'z';
    int got = 0;

    assert_int_equal(
        gyre_sockopt_set_raw(number, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &size, sizeof size), 0);
    assert_int_equal(gyre_sockopt_get_raw(number, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &got, sizeof got),
                     4);
    assert_int_equal(got, size);
    assert_true(gyre_sockopt_get_raw(number, IPPROTO_TCP, TCP_INFO, &info, sizeof info) > 100);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_TYPE, &byte, 1), 1);
    assert_int_equal(byte, SOCK_STREAM);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, 9999, &got, sizeof got),
                     -ENOPROTOOPT);
    assert_int_equal(gyre_sockopt_set_raw(number, SOL_SOCKET, SO_TYPE, &got, sizeof got),
                     -ENOPROTOOPT);
    assert_int_equal(gyre_sockopt_set_raw(number, SOL_SOCKET, SO_SNDBUF, NULL, 4), -EINVAL);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_SNDBUF, NULL, 4), -EINVAL);
    assert_int_equal(gyre_sockopt_get_raw(number, SOL_SOCKET, SO_SNDBUF, &got, SIZE_MAX), -EINVAL);
    assert_int_equal(gyre_sockopt_set_raw(-1, SOL_SOCKET, SO_SNDBUF, &got, sizeof got), -EBADF);
    close(number);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(sockopt_each_is_got_as_it_was_set),
        TEST_CASE(sockopt_that_a_socket_has_not_reports_enoprotoopt),
        TEST_CASE(sockopt_expectations_cover_every_option),
        TEST_CASE(sockopt_names_are_those_of_the_enumeration),
        TEST_CASE(sockopt_bad_arguments_are_refused),
        TEST_CASE(sockopt_buffer_beyond_the_limits_of_linux_is_told_by_get),
        TEST_CASE(sockopt_of_ip_goes_to_both_protocols_of_an_ipv6_socket),
        TEST_CASE(sockopt_times_reach_the_kernel_in_its_units),
        TEST_CASE(sockopt_too_late_is_refused),
        TEST_CASE(sockopt_of_a_listener_is_inherited),
        TEST_CASE(sockopt_congestion_control_is_chosen_by_name),
        TEST_CASE(sockopt_raw_is_the_system_call),
    };

    return test_main("net-sockopt", cases, TEST_COUNT(cases));
}
