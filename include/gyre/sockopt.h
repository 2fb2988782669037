/*
 * Socket options by name, with their units and ranges checked, on a plain descriptor number: of a
 * listener, a stream or a datagram socket alike, see gyre_fd_number(). One pair of functions serves
 * every option that is a number; the table below says which there are.
 *
 *     rc = gyre_sockopt_set(number, GYRE_SOCKOPT_KEEPALIVE_IDLE, 30 * GYRE_SEC);
 *     rc = gyre_sockopt_get(number, GYRE_SOCKOPT_SEND_BUFFER, &bytes);
 */
#ifndef GYRE_SOCKOPT_H
#define GYRE_SOCKOPT_H

#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

/*
 * X(name, level, kernel's name, unit, least, most); level and kernel's name are those of
 * setsockopt(2) and need <netinet/tcp.h> and <netinet/in.h> only where the macro is used with them.
 *
 * The unit says what a value is, and what least and most count:
 *   FLAG          0 or 1
 *   COUNT         a number
 *   BYTES         bytes, half of what Linux says: it doubles what it is told, to make room for its
 *                 own bookkeeping. So what was set is what is got, unless Linux raised it to its
 *                 least or cut it to net.core.wmem_max or rmem_max, which it does silently.
 *   SECONDS       nanoseconds; rounded up to whole seconds. least and most are in seconds.
 *   MILLISECONDS  nanoseconds; rounded up to whole milliseconds. least and most are in these.
 *   LINGER        as SECONDS, or GYRE_LINGER_OFF
 *
 * TRAFFIC_CLASS and HOP_LIMIT go to both protocols of an IPv6 socket, which may have IPv4 peers.
 * Linux rounds DEFER_ACCEPT up to when it retransmits (1, 3, 7, 15 s ...; above 29,887 s down to
 * that), and cuts FAST_OPEN to net.core.somaxconn.
 */
#define GYRE_SOCKOPT_MAP(X)                                                         \
    /* Bind although connections of an earlier listener still linger. */            \
    X(REUSE_ADDRESS, SOL_SOCKET, SO_REUSEADDR, FLAG, 0, 1)                          \
    /* Several sockets on one address; the kernel spreads what comes. */            \
    X(REUSE_PORT, SOL_SOCKET, SO_REUSEPORT, FLAG, 0, 1)                             \
    /* Probe connections that are idle. */                                          \
    X(KEEPALIVE, SOL_SOCKET, SO_KEEPALIVE, FLAG, 0, 1)                              \
    /* Silence before the first probe, between probes, and probes unanswered. */    \
    X(KEEPALIVE_IDLE, IPPROTO_TCP, TCP_KEEPIDLE, SECONDS, 1, 32767)                 \
    X(KEEPALIVE_INTERVAL, IPPROTO_TCP, TCP_KEEPINTVL, SECONDS, 1, 32767)            \
    X(KEEPALIVE_COUNT, IPPROTO_TCP, TCP_KEEPCNT, COUNT, 1, 127)                     \
    /* Send small segments at once (no Nagle). */                                   \
    X(NODELAY, IPPROTO_TCP, TCP_NODELAY, FLAG, 0, 1)                                \
    /* Room for what is not sent or not received yet; ends TCP's own adaption. */   \
    X(SEND_BUFFER, SOL_SOCKET, SO_SNDBUF, BYTES, 1, 1073741823)                     \
    X(RECEIVE_BUFFER, SOL_SOCKET, SO_RCVBUF, BYTES, 1, 1073741823)                  \
    /* How long close(2) waits for unsent data; 0: drop it and reset. */            \
    X(LINGER, SOL_SOCKET, SO_LINGER, LINGER, 0, 32767)                              \
    /* How long sent data may stay unacknowledged; 0: the system's own. */          \
    X(USER_TIMEOUT, IPPROTO_TCP, TCP_USER_TIMEOUT, MILLISECONDS, 0, 2147483647)     \
    /* The byte with DSCP (upper six bits) and ECN; TCP keeps ECN to itself. */     \
    X(TRAFFIC_CLASS, IPPROTO_IP, IP_TOS, COUNT, 0, 255)                             \
    /* How many routers a packet may pass (TTL). */                                 \
    X(HOP_LIMIT, IPPROTO_IP, IP_TTL, COUNT, 1, 255)                                 \
    /* An IPv6 socket that takes no IPv4; before bind. */                           \
    X(V6ONLY, IPPROTO_IPV6, IPV6_V6ONLY, FLAG, 0, 1)                                \
    /* Accept once data is there, or at the latest then, at a retransmission. */    \
    X(DEFER_ACCEPT, IPPROTO_TCP, TCP_DEFER_ACCEPT, SECONDS, 0, 32767)               \
    /* Listener: connections that may wait with data in the SYN (TCP Fast Open). */ \
    X(FAST_OPEN, IPPROTO_TCP, TCP_FASTOPEN, COUNT, 0, 2147483647)                   \
    /* Client: connect sends nothing until there is data to go with the SYN. */     \
    X(FAST_OPEN_CONNECT, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, FLAG, 0, 1)

/* GYRE_SOCKOPT_LINGER: close(2) returns at once and the kernel sends on; how a socket begins. */
#define GYRE_LINGER_OFF UINT64_MAX

/* Enough for every name of a congestion control, with the terminating zero. */
#define GYRE_CONGESTION_MAX 16

/** enum gyre_sockopt - the options that are numbers; see GYRE_SOCKOPT_MAP for what they do. */
enum gyre_sockopt {
#define X(name, level, kernel_name, unit, least, most) GYRE_SOCKOPT_##name,
    GYRE_SOCKOPT_MAP(X)
#undef X
        GYRE_SOCKOPT_COUNT /* how many there are */
};

/**
 * gyre_sockopt_set() - set an option of a socket.
 * @number: a socket.  @option: which one.  @value: in its unit; a flag is 0 or 1.
 * Returns: 0; -EINVAL (no such option here, out of its range, or too late: the socket is connected
 *          or bound already); -ENOPROTOOPT (the socket has no such option, or the machine has it
 *          switched off); -EBADF; -ENOTSOCK; -EPERM.
 * Thread: any.   Limits: never blocks. A connection inherits most options of its listener.
 * Source: docs/sockopt.md; socket(7), tcp(7), ip(7), ipv6(7).
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_set(int number, enum gyre_sockopt option, uint64_t value);

/**
 * gyre_sockopt_get() - the value of an option of a socket.
 * @number: a socket.  @option: which one.  @out_value: set to it, in its unit.
 * Returns: 0; -EINVAL (NULL, or no such option here); -ENOPROTOOPT (the socket has no such option);
 *          -EBADF; -ENOTSOCK.
 * Thread: any.   Limits: of SECONDS and MILLISECONDS, multiples of these.
 * Source: docs/sockopt.md; socket(7), tcp(7), ip(7), ipv6(7).
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_get(int number, enum gyre_sockopt option,
                                              uint64_t *out_value);

/**
 * gyre_sockopt_name() - the name of an option, for messages.
 * @option: which one.
 * Returns: a string with process lifetime, as "KEEPALIVE_IDLE"; "UNKNOWN" for what is no option.
 * Thread: any.
 * Source: GYRE_SOCKOPT_MAP.
 */
GYRE_API const char *gyre_sockopt_name(enum gyre_sockopt option);

/**
 * gyre_sockopt_set_congestion() - choose the congestion control of a TCP socket.
 * @number: a socket.  @name: "cubic", "bbr" ...
 * Returns: 0; -EINVAL (NULL, empty, longer than 15 bytes); -ENOENT (the machine has none of that
 *          name); -EPERM (it may not be chosen by everybody); -ENOPROTOOPT (not TCP); -EBADF;
 *          -ENOTSOCK.
 * Thread: any.   Limits: what there is: net.ipv4.tcp_available_congestion_control.
 * Source: tcp(7), TCP_CONGESTION.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_set_congestion(int number, const char *name);

/**
 * gyre_sockopt_congestion() - the congestion control of a TCP socket.
 * @number: a socket.  @name, @size: where to; GYRE_CONGESTION_MAX bytes are enough.
 * Returns: the length without the terminating zero; -EINVAL (NULL); -ENOSPC (nothing written);
 *          -ENOPROTOOPT (not TCP); -EBADF; -ENOTSOCK.
 * Thread: any.
 * Source: tcp(7), TCP_CONGESTION.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_congestion(int number, char *name, size_t size);

/**
 * gyre_sockopt_set_raw() - set any option, as setsockopt(2) does.
 * @number: a socket.  @level, @name: as setsockopt(2) has them.  @value, @len: what to set it to.
 * Returns: 0; -EINVAL (NULL with a length); the negative errno of setsockopt(2), as it is.
 * Thread: any.
 * Source: setsockopt(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_set_raw(int number, int level, int name,
                                                  const void *value, size_t len);

/**
 * gyre_sockopt_get_raw() - get any option, as getsockopt(2) does.
 * @number: a socket.  @level, @name: as getsockopt(2) has them.  @value, @size: where to.
 * Returns: the length of the value, which the kernel may have cut to @size; -EINVAL (NULL with a
 *          size); the negative errno of getsockopt(2), as it is.
 * Thread: any.
 * Source: getsockopt(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_sockopt_get_raw(int number, int level, int name, void *value,
                                                  size_t size);

GYRE_END

#endif
