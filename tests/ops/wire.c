/* The other end: see wire.h. */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes handled at once; a page, so that a write to a pipe that polls writable cannot block. */
#define WIRE_CHUNK 4096

uint32_t wire_random(uint32_t *seed, uint32_t limit)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (*seed >> 8) % limit;
}

/* Fibonacci hashing: neighbours differ, and no period of a power of two hides a moved block. */
static uint8_t byte_at(uint64_t position)
{
    return (uint8_t)((position * UINT64_C(0x9e3779b97f4a7c15)) >> 56);
}

void wire_fill(void *data, size_t len, uint64_t position)
{
    uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(position + i);
    }
}

void wire_check(const void *data, size_t len, uint64_t position)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != byte_at(position + i)) {
            fail_msg("byte %zu of %zu is wrong (stream %llu, position %llu)", i, len,
                     (unsigned long long)(position >> 40),
                     (unsigned long long)((position + i) & 0xffffffffffu));
        }
    }
}

void wire_send(int number, const void *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        const ssize_t sent = send(number, (const char *)data + done, len - done, MSG_NOSIGNAL);

        assert_true(sent > 0 || (sent < 0 && errno == EINTR));
        done += sent > 0 ? (size_t)sent : 0;
    }
}

void wire_send_stream(int number, size_t len, uint64_t position)
{
    uint8_t data[WIRE_CHUNK];

    for (size_t done = 0; done < len;) {
        const size_t part = len - done < sizeof data ? len - done : sizeof data;

        wire_fill(data, part, position + done);
        wire_send(number, data, part);
        done += part;
    }
}

static int polls(int number, short events)
{
    struct pollfd entry = {.fd = number, .events = events};

    return poll(&entry, 1, 0) == 1 && (entry.revents & (events | POLLERR | POLLHUP)) != 0;
}

ssize_t wire_take(int number, void *data, size_t len)
{
    if (!polls(number, POLLIN)) {
        return -EAGAIN;
    }
    const ssize_t got = read(number, data, len);
    return got < 0 ? -errno : got;
}

size_t wire_take_stream(int number, size_t len, uint64_t position)
{
    uint8_t data[WIRE_CHUNK];
    size_t done = 0;

    while (done < len) {
        const size_t part = len - done < sizeof data ? len - done : sizeof data;
        const ssize_t got = wire_take(number, data, part);

        if (got <= 0) {
            assert_true(got == -EAGAIN || got == 0);
            break;
        }
        wire_check(data, (size_t)got, position + done);
        done += (size_t)got;
    }
    return done;
}

size_t wire_drain(int number)
{
    uint8_t data[WIRE_CHUNK];
    size_t done = 0;

    for (ssize_t got; (got = wire_take(number, data, sizeof data)) > 0;) {
        done += (size_t)got;
    }
    return done;
}

void wire_expect_stream(int number, size_t len, uint64_t position)
{
    uint8_t data[WIRE_CHUNK];

    for (size_t done = 0; done < len;) {
        const size_t part = len - done < sizeof data ? len - done : sizeof data;
        const ssize_t got = read(number, data, part);

        assert_true(got > 0);
        wire_check(data, (size_t)got, position + done);
        done += (size_t)got;
    }
}

int wire_expect_end(int number)
{
    char byte;
    const ssize_t got = read(number, &byte, 1);

    assert_true(got <= 0);
    return got == 0 ? 0 : -errno;
}

static ssize_t push(int number, const void *data, size_t len)
{
    const ssize_t sent = send(number, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0 && errno == ENOTSOCK) {
        return polls(number, POLLOUT) ? write(number, data, len) : -1;
    }
    return sent;
}

size_t wire_stuff(int number)
{
    static const uint8_t data[WIRE_CHUNK];
    size_t done = 0;

    for (ssize_t sent; (sent = push(number, data, sizeof data)) > 0;) {
        done += (size_t)sent;
    }
    return done;
}

size_t wire_readable(int number)
{
    int len = 0;

    assert_int_equal(ioctl(number, FIONREAD, &len), 0);
    return (size_t)len;
}

static void set_option(int number, int level, int name, const void *value, socklen_t len)
{
    assert_int_equal(setsockopt(number, level, name, value, len), 0);
}

void wire_send_buffer(int number, int len)
{
    set_option(number, SOL_SOCKET, SO_SNDBUF, &len, sizeof len);
}

void wire_nodelay(int number)
{
    const int on = 1;

    set_option(number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void wire_nonblocking(int number)
{
    assert_int_equal(fcntl(number, F_SETFL, fcntl(number, F_GETFL) | O_NONBLOCK), 0);
}

void wire_reset(int number)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    set_option(number, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    assert_int_equal(close(number), 0);
}

static int bound(int type, struct sockaddr_in *out)
{
    const int number = socket(AF_INET, type | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof address;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(number >= 0);
    assert_int_equal(bind(number, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(number, (struct sockaddr *)&address, &len), 0);
    if (out != NULL) {
        *out = address;
    }
    return number;
}

int wire_listener(int backlog, struct sockaddr_in *out)
{
    const int number = bound(SOCK_STREAM, out);

    assert_int_equal(listen(number, backlog), 0);
    return number;
}

int wire_refusing(struct sockaddr_in *out)
{
    return bound(SOCK_STREAM, out);
}

int wire_blackhole(struct sockaddr_in *out, int *out_client)
{
    const int number = wire_listener(0, out);

    *out_client = test_connect(out);
    return number;
}

int wire_tcp(void)
{
    const int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(number >= 0);
    return number;
}

int wire_udp(struct sockaddr_in *out)
{
    return bound(SOCK_DGRAM, out);
}

void wire_pipe(int pipe_ends[2])
{
    assert_int_equal(pipe2(pipe_ends, O_CLOEXEC), 0);
}

void wire_raise_descriptors(size_t needed)
{
    struct rlimit limit;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_cur < needed) {
        test_skip("RLIMIT_NOFILE is too low");
    }
}
