/*
 * Opening the connections, one after the other with blocking connects: about 30 us each on
 * loopback.
 *
 * A port range of 28,000 (the kernel's default) is not enough for many connections from one address
 * to one server, so towards 127.0.0.0/8 each 8,192 connections get a source address of their own,
 * bound without a port (IP_BIND_ADDRESS_NO_PORT: the kernel then chooses the port at connect, by
 * the whole four-tuple).
 *
 * The sockets are closed with a reset (SO_LINGER 0). Otherwise every run would leave its
 * connections in TIME_WAIT, whose timers then run during the next measurement.
 */
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>

#define CONNECTIONS_PER_SOURCE 8192u
/* Standard streams, the ring, epoll, the pattern, and some for the C library. */
#define OTHER_DESCRIPTORS      32u

static int raise_descriptor_limit(struct load *load)
{
    const rlim_t wanted = load->options->connections + OTHER_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return load_fail(load, LOAD_SYSTEM, "getrlimit: %s", strerror(errno));
    }
    if (limit.rlim_cur < wanted) {
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur < wanted) {
            return load_fail(load, LOAD_SYSTEM,
                             "%u connections need %llu open files, the limit is %llu",
                             load->options->connections, (unsigned long long)wanted,
                             (unsigned long long)limit.rlim_max);
        }
    }
    return 0;
}

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int set_options(struct load *load, int fd)
{
    const struct load_options *options = load->options;
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    const struct timeval limit = {
        .tv_sec = options->timeout_ms / 1000,
        .tv_usec = (suseconds_t)(options->timeout_ms % 1000) * 1000,
    };
    const char *cc = options->congestion;

    if (cc != NULL && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)) < 0) {
        return load_fail(load, LOAD_SYSTEM, "congestion control %s: %s", cc, strerror(errno));
    }
    if (set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
        return load_fail(load, LOAD_SYSTEM, "socket options: %s", strerror(errno));
    }
    return 0;
}

static int bind_source(struct load *load, int fd, const struct sockaddr_in *server, uint32_t index)
{
    const uint32_t block = index / CONNECTIONS_PER_SOURCE;
    const struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + block),
    };

    if (block == 0 || ntohl(server->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET) {
        return 0;
    }
    if (set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1) < 0 ||
        bind(fd, (const struct sockaddr *)&source, sizeof(source)) < 0) {
        return load_fail(load, LOAD_SYSTEM, "source address: %s", strerror(errno));
    }
    return 0;
}

static int connect_one(struct load *load, const struct sockaddr_in *server, uint32_t index)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return load_fail(load, LOAD_SYSTEM, "socket: %s", strerror(errno));
    }
    load->connections[index].fd = fd;
    if (set_options(load, fd) < 0 || bind_source(load, fd, server, index) < 0) {
        return -1;
    }
    if (connect(fd, (const struct sockaddr *)server, sizeof(*server)) < 0) {
        const int error = errno == EINPROGRESS ? ETIMEDOUT : errno;
        return load_fail(load, LOAD_CONNECT_FAILED, "connection %u of %u to %s:%u: %s", index,
                         load->options->connections, load->options->host, load->options->port,
                         strerror(error));
    }
    return 0;
}

static void note_congestion(struct load *load)
{
    socklen_t len = sizeof(load->congestion) - 1;

    if (getsockopt(load->connections[0].fd, IPPROTO_TCP, TCP_CONGESTION, load->congestion, &len) <
        0) {
        snprintf(load->congestion, sizeof(load->congestion), "unknown");
    }
}

int load_connect_all(struct load *load)
{
    struct sockaddr_in server = {
        .sin_family = AF_INET,
        .sin_port = htons(load->options->port),
    };

    if (inet_pton(AF_INET, load->options->host, &server.sin_addr) != 1) {
        return load_fail(load, LOAD_USAGE, "'%s' is not an IPv4 address", load->options->host);
    }
    if (raise_descriptor_limit(load) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < load->options->connections; i++) {
        if (connect_one(load, &server, i) < 0) {
            return -1;
        }
    }
    note_congestion(load);
    return 0;
}
