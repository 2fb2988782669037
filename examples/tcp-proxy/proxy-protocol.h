/*
 * The PROXY protocol: what a proxy sends first on a connection to a server, so that the server
 * knows the client's address and not only the proxy's. Version 1 is one line of text, version 2 is
 * binary.
 * Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
 */
#ifndef EXAMPLE_PROXY_PROTOCOL_H
#define EXAMPLE_PROXY_PROTOCOL_H

#include <gyre.h>

enum { PROXY_HEADER_MAX = 108 }; /* the longest of version 1, with a terminating zero */

/*
 * Writes the header of version 1 or 2 for a connection from one address to another. If they are not
 * both IPv4 or both IPv6 it says that they are unknown. Returns its length.
 */
size_t proxy_header(int version, const struct gyre_addr *from, const struct gyre_addr *to,
                    uint8_t header[PROXY_HEADER_MAX]);

#endif
