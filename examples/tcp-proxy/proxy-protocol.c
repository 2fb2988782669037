/* Headers of the PROXY protocol; see proxy-protocol.h. */
#include "proxy-protocol.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
    V2_PROXY = 0x21, /* version 2, command PROXY */
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
};

static size_t header_text(const struct gyre_addr *from, const struct gyre_addr *to, uint8_t *header)
{
    const int family = from->any.sa_family;
    const void *from_ip = &from->in.sin_addr;
    const void *to_ip = &to->in.sin_addr;
    char from_text[INET6_ADDRSTRLEN];
    char to_text[INET6_ADDRSTRLEN];

    if (family == AF_INET6) {
        from_ip = &from->in6.sin6_addr;
        to_ip = &to->in6.sin6_addr;
    }
    inet_ntop(family, from_ip, from_text, sizeof(from_text));
    inet_ntop(family, to_ip, to_text, sizeof(to_text));
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
    uint8_t *end = append(header, "\r\n\r\n\0\r\nQUIT\n", 12);

    *end++ = V2_PROXY;
    if (from->any.sa_family == AF_INET6) {
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
