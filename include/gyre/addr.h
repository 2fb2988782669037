/*
 * Socket addresses: IPv4, IPv6 and Unix, as text and as what the system calls take. Parsing is
 * strict and never asks the network: what is not an address is refused, so a host name never takes
 * a way that blocks. (Looking names up is a library of its own; its results are struct gyre_addr.)
 *
 *     127.0.0.1:80       IPv4: four decimal numbers; no octal, no hex, nothing left out
 *     [::1]:80           IPv6 in brackets, with a zone if need be: [fe80::1%eth0]:80
 *     unix:/run/a.sock   a Unix socket by its path
 *     unix:@name         a Unix socket by an abstract name
 *
 * In the name of a Unix socket, \xHH is the byte with that number. What is written escapes so each
 * byte that is not printable ASCII, the backslash, and an @ that begins a path.
 */
#ifndef GYRE_ADDR_H
#define GYRE_ADDR_H

#include <gyre/base.h>
#include <gyre/error.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

GYRE_BEGIN

/* Enough for every address as text, with the terminating zero: the longest is a Unix name of 108
 * bytes, each written as \xHH. An IP address takes at most 70. */
#define GYRE_ADDR_TEXT_MAX 448

/**
 * struct gyre_addr - a socket address of any family.
 * @len: bytes of it that count; 0: no address.  @any: as the system calls take it; any.sa_family
 * says which of the others holds.  @in, @in6, @un: by family.
 * Ownership: a value; copy it freely.   Thread: any.   Returns: (a type).
 * Source: ip(7), ipv6(7), unix(7).
 */
struct gyre_addr {
    socklen_t len;
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    };
};

/**
 * gyre_addr_parse() - read an address with its port, or of a Unix socket.
 * @text: in one of the forms at the head of this file; nothing before or behind it.
 * @out_addr: set to the address.
 * Returns: 0; -EINVAL (NULL, or not an address in one of the forms; also a number with leading
 *          zeros, and "unix:" without a name); -ERANGE (a port above 65535); -ENAMETOOLONG (a Unix
 *          name of more than 107 bytes, never cut); -ENODEV (no such zone); with a zone, what
 *          socket(2) returns when it could not be looked up, as -EMFILE.
 * Thread: any.
 * Limits: never blocks. A zone is the name of an interface of this machine, or else a number, which
 *         is taken as it is; the kernel heeds it for link-local addresses only.
 * Source: inet_pton(3), netdevice(7) SIOCGIFINDEX, unix(7) "Address format"; RFC 3986 section 3.2.2;
 *         RFC 6874.
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_parse(const char *text, struct gyre_addr *out_addr);

/**
 * gyre_addr_parse_ip() - read an IP address without a port.
 * @text: "127.0.0.1", "::1", "fe80::1%eth0"; IPv6 also in brackets.  @port: 0..65535, in host
 *        order.  @out_addr: set to both.
 * Returns: as gyre_addr_parse(); -ERANGE for @port.   Thread: any.   Limits: as there.
 * Source: inet_pton(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_parse_ip(const char *text, unsigned port,
                                                struct gyre_addr *out_addr);

/**
 * gyre_addr_unix() - the address of a Unix socket.
 * @name, @len: a path (no zero byte in it), or an abstract name with its leading zero byte (any
 *      bytes behind it); @len 0: unnamed, for autobind.  @out_addr: set to the address.
 * Returns: 0, -EINVAL, -ENAMETOOLONG (more than 107 bytes, the leading zero aside).   Thread: any.
 * Source: unix(7) "Address format".
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_unix(const void *name, size_t len,
                                            struct gyre_addr *out_addr);

/**
 * gyre_addr_format() - write an address as text that gyre_addr_parse() reads back.
 * @addr: the address.  @text, @size: where to; GYRE_ADDR_TEXT_MAX bytes are enough. The exception
 *        is an unnamed Unix address: its text, "unix:", is for reading only.
 * Returns: the length without the terminating zero; -EINVAL (NULL, no address, too short for its
 *          family, or a family not known here); -ENOSPC (nothing written).
 * Thread: any.   Limits: printable ASCII whatever the address holds, so that it may go to a log.
 * Source: inet_ntop(3), if_indextoname(3); RFC 5952 section 4.
 */
GYRE_API int gyre_addr_format(const struct gyre_addr *addr, char *text, size_t size);

/**
 * gyre_addr_port() - the port of an IP address.
 * @addr: the address.
 * Returns: 0..65535 in host order; -EINVAL when it is no IP address.   Thread: any.
 * Source: ip(7).
 */
GYRE_API int gyre_addr_port(const struct gyre_addr *addr);

/**
 * gyre_addr_set_port() - change the port of an IP address.
 * @addr: the address.  @port: 0..65535, in host order.
 * Returns: 0, -EINVAL (NULL or no IP address), -ERANGE.   Thread: any.
 * Source: ip(7).
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_set_port(struct gyre_addr *addr, unsigned port);

/**
 * gyre_addr_equal() - whether two addresses name the same socket.
 * @a, @b: addresses. An IPv4 address equals itself mapped into IPv6 (::ffff:a.b.c.d). NULL, no
 *         address, and an unnamed Unix address equal nothing, not even themselves.
 * Returns: 1 or 0.   Thread: any.
 * Source: RFC 4291 section 2.5.5.2.
 */
GYRE_API int gyre_addr_equal(const struct gyre_addr *a, const struct gyre_addr *b);

/**
 * gyre_addr_unmap() - make an IPv4 address that was mapped into IPv6 an IPv4 address again, as
 *                     dual-stack sockets report their peers; any other is left as it is.
 * @addr: the address.
 * Returns: nothing.   Thread: any.
 * Source: RFC 4291 section 2.5.5.2; ipv6(7).
 */
GYRE_API void gyre_addr_unmap(struct gyre_addr *addr);

/**
 * gyre_addr_local() - the address that a socket is bound to.
 * @number: a socket.  @out_addr: set to it.
 * Returns: 0, -EINVAL (NULL), -EBADF, -ENOTSOCK.   Thread: any.
 * Source: getsockname(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_local(int number, struct gyre_addr *out_addr);

/**
 * gyre_addr_peer() - the address that a socket is connected to.
 * @number: a socket.  @out_addr: set to it; of an unnamed Unix socket, the family alone.
 * Returns: 0, -EINVAL (NULL), -EBADF, -ENOTSOCK, -ENOTCONN.   Thread: any.
 * Source: getpeername(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_addr_peer(int number, struct gyre_addr *out_addr);

/**
 * gyre_service_port() - the port that a service is known by.
 * @name: "http", an alias, or a number as text.  @protocol: "tcp", "udp" ...
 * Returns: the port, in host order; -EINVAL (NULL, empty); -ENOENT (no such service, or the machine
 *          has no table); -ERANGE (a number above 65535); -ENOMEM.
 * Thread: any.   Limits: reads a file, and asks whatever else nsswitch.conf(5) names: not for the
 *          loop's thread while it serves.
 * Source: getservbyname_r(3), services(5).
 */
GYRE_API int gyre_service_port(const char *name, const char *protocol);

/**
 * gyre_service_name() - the name that a port is known by.
 * @port: 0..65535, in host order.  @protocol: "tcp", "udp" ...  @name, @size: where to.
 * Returns: the length without the terminating zero; -EINVAL (NULL); -ENOENT (the port has no name);
 *          -ERANGE (a port above 65535); -ENOSPC (nothing written); -ENOMEM.
 * Thread: any.   Limits: as gyre_service_port().
 * Source: getservbyport_r(3), services(5).
 */
GYRE_API int gyre_service_name(unsigned port, const char *protocol, char *name, size_t size);

/**
 * gyre_host_name() - the name of this machine.
 * @name, @size: where to; HOST_NAME_MAX + 1 bytes are enough.
 * Returns: the length without the terminating zero; -EINVAL (NULL); -ENAMETOOLONG (nothing written).
 * Thread: any.
 * Source: gethostname(2), uname(2).
 */
GYRE_API int gyre_host_name(char *name, size_t size);

GYRE_END

#endif
