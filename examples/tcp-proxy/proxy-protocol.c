/* Headers of the PROXY protocol; see proxy-protocol.h. */
#include "proxy-protocol.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
    V2_PROXY = 0x21, /* version 2, command PROXY */
    V2_UNKNOWN = 0x00,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
};

/* AF_INET or AF_INET6 if both addresses are of it; else the header says that they are unknown. */
static int common_family(const struct gyre_addr *from, const struct gyre_addr *to)
{
    const int family = from->any.sa_family;
    const int is_ip = family == AF_INET || family == AF_INET6;

    return is_ip && to->any.sa_family == family ? family : AF_UNSPEC;
}

/* The protocol knows only hexadecimal digits in IPv6 addresses; inet_ntop(3) writes the last four
 * bytes of some in the manner of IPv4. */
static void ip_text(const struct gyre_addr *addr, char text[INET6_ADDRSTRLEN])
{
    const uint8_t *ip = addr->in6.sin6_addr.s6_addr;
    size_t len = 0;

    if (addr->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &addr->in.sin_addr, text, INET6_ADDRSTRLEN);
        return;
    }
    inet_ntop(AF_INET6, ip, text, INET6_ADDRSTRLEN);
    for (size_t i = 0; i < 16 && (len > 0 || strchr(text, '.') != NULL); i += 2) {
        len += (size_t)snprintf(text + len, INET6_ADDRSTRLEN - len, i == 0 ? "%x" : ":%x",
                                ip[i] << 8 | ip[i + 1]);
    }
}

static size_t header_text(const struct gyre_addr *from, const struct gyre_addr *to, uint8_t *header)
{
    const int family = common_family(from, to);
    char from_text[INET6_ADDRSTRLEN];
    char to_text[INET6_ADDRSTRLEN];

    if (family == AF_UNSPEC) {
        return (size_t)snprintf((char *)header, PROXY_HEADER_MAX, "PROXY UNKNOWN\r\n");
    }
    ip_text(from, from_text);
    ip_text(to, to_text);
    return (size_t)snprintf((char *)header, PROXY_HEADER_MAX, "PROXY %s %s %s %d %d\r\n",
                            family == AF_INET6 ? "TCP6" : "TCP4", from_text, to_text,
                            gyre_addr_port(from), gyre_addr_port(to));
}

static uint8_t *append(uint8_t *end, const void *bytes, size_t len)
{
    memcpy(end, bytes, len);
    return end + len;
}

/* A signature, version and command, family, the length of what follows, addresses, ports. Addresses
 * and ports are in network order already. */
static size_t header_binary(const struct gyre_addr *from, const struct gyre_addr *to,
                            uint8_t *header)
{
    const int family = common_family(from, to);
    uint8_t *end = append(header, "\r\n\r\n\0\r\nQUIT\n", 12);

    *end++ = V2_PROXY;
    if (family == AF_UNSPEC) {
        end = append(end, (const uint8_t[]){V2_UNKNOWN, 0, 0}, 3);
    } else if (family == AF_INET6) {
        end = append(end, (const uint8_t[]){V2_TCP6, 0, 36}, 3);
        end = append(end, &from->in6.sin6_addr, 16);
        end = append(end, &to->in6.sin6_addr, 16);
        end = append(end, &from->in6.sin6_port, 2);
        end = append(end, &to->in6.sin6_port, 2);
    } else {
        end = append(end, (const uint8_t[]){V2_TCP4, 0, 12}, 3);
        end = append(end, &from->in.sin_addr, 4);
        end = append(end, &to->in.sin_addr, 4);
        end = append(end, &from->in.sin_port, 2);
        end = append(end, &to->in.sin_port, 2);
    }
    return (size_t)(end - header);
}

size_t proxy_header(int version, const struct gyre_addr *from, const struct gyre_addr *to,
                    uint8_t header[PROXY_HEADER_MAX])
{
    return version == 1 ? header_text(from, to, header) : header_binary(from, to, header);
}
