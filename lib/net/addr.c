/*
 * Addresses as text. A form is recognised by how it begins, and then everything has to fit to the
 * last byte; the C library reads only single numbers out of pieces that were cut to length before:
 *
 *     unix:...           [addr_read_unix]
 *     [...]:port         [addr_read_in6, addr_read_port]
 *     anything else      [addr_read_in, addr_read_port]
 *
 * What goes out has been built aside, so a failure leaves the caller's memory as it was. An address
 * may come from the caller's own hands: before any of its fields is used, addr_family() says
 * whether it is long enough for its family.
 */
#include "net/addr.h"

#include "base/assert.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <gyre/addr.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    ADDR_PORT_MAX = 65535,
    ADDR_UNIX_HEAD = offsetof(struct sockaddr_un, sun_path),
    ADDR_UNIX_NAME = sizeof(((struct sockaddr_un *)NULL)->sun_path), /* an abstract name fills it */
    ADDR_UNIX_PATH = ADDR_UNIX_NAME - 1, /* a path ends in a zero byte */
    ADDR_UNIX_END =
        ADDR_UNIX_HEAD + ADDR_UNIX_NAME + 1, /* getsockname(2) adds one to a full path */
};

static const char addr_unix_scheme[] = "unix:";

_Static_assert(sizeof "[]:65535" + INET6_ADDRSTRLEN + IF_NAMESIZE <= GYRE_ADDR_TEXT_MAX,
               "an IPv6 address with zone and port fits");
_Static_assert(sizeof addr_unix_scheme + 4 * (ADDR_UNIX_NAME + 1) <= GYRE_ADDR_TEXT_MAX,
               "a Unix name fits when each of its bytes takes four");
_Static_assert(ADDR_UNIX_HEAD == sizeof(sa_family_t), "an unnamed Unix address is its family");

/* All zero but these. The member named is the largest, as a compiler need not clear what lies
 * beyond the member of a union that it initialises. */
static struct gyre_addr addr_blank(int family, socklen_t len)
{
    return (struct gyre_addr){.len = len, .storage = {.ss_family = (sa_family_t)family}};
}

/* The family of an address that is long enough for it; AF_UNSPEC of all else. */
static int addr_family(const struct gyre_addr *addr)
{
    if (addr == NULL || addr->len < sizeof(sa_family_t) || addr->len > sizeof addr->storage) {
        return AF_UNSPEC;
    }
    switch (addr->any.sa_family) {
    case AF_INET:
        return addr->len >= sizeof addr->in ? AF_INET : AF_UNSPEC;
    case AF_INET6:
        return addr->len >= sizeof addr->in6 ? AF_INET6 : AF_UNSPEC;
    case AF_UNIX:
        return addr->len <= ADDR_UNIX_END ? AF_UNIX : AF_UNSPEC;
    default:
        return AF_UNSPEC;
    }
}

/* The name of a Unix address: 0 bytes, a path without its end, or an abstract name with its leading
 * zero byte. It may be one byte longer than sun_path, so it is reached through the union. */
static size_t addr_unix_name(const struct gyre_addr *addr, const char **out_name)
{
    const size_t room = addr->len - ADDR_UNIX_HEAD;
    const char *name = (const char *)&addr->storage + ADDR_UNIX_HEAD;

    gyre_assert(addr->any.sa_family == AF_UNIX);
    *out_name = name;
    return room > 0 && name[0] == '\0' ? room : strnlen(name, room);
}

/* A decimal number with nothing around it and no leading zeros, which some read as octal. Returns
 * it, -EINVAL, or -ERANGE above @max. */
static int64_t addr_read_decimal(const char *text, uint32_t max)
{
    uint64_t value = 0;

    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) {
        return -EINVAL;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return -EINVAL;
        }
        /* Past the maximum the rest is still looked at: "99999x" is no number. */
        if (value <= max) {
            value = value * 10 + (uint64_t)(*text - '0');
        }
    }
    return value <= max ? (int64_t)value : -ERANGE;
}

int gyre__addr_read_port(const char *text)
{
    gyre_assert(text != NULL);
    return (int)addr_read_decimal(text, ADDR_PORT_MAX);
}

/* inet_pton(3) takes exactly four decimal numbers, and refuses those with leading zeros. */
static int addr_read_in(const char *host, size_t len, struct gyre_addr *out)
{
    char text[INET_ADDRSTRLEN];

    if (len >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, host, len);
    text[len] = '\0';
    *out = addr_blank(AF_INET, sizeof out->in);
    return inet_pton(AF_INET, text, &out->in.sin_addr) == 1 ? 0 : -EINVAL;
}

/* The index of an interface, or a negative errno; -ENODEV when there is none of that name. Not by
 * if_nametoindex(3), which does not tell that from running out of descriptors. */
static int addr_interface(const char *name)
{
    struct ifreq request = {.ifr_ifindex = 0};
    const int number = gyre__sys_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int rc;

    gyre_assert(strlen(name) < sizeof request.ifr_name);
    if (number < 0) {
        return -errno;
    }
    memcpy(request.ifr_name, name, strlen(name));
    rc = gyre__sys_ioctl(number, SIOCGIFINDEX, &request) < 0 ? -errno : request.ifr_ifindex;
    gyre__sys_close(number);
    return rc;
}

/* An interface by its name, or by its number: this need not exist, as formatting the address of an
 * interface that is gone leaves just the number. */
static int addr_read_zone(const char *zone, size_t len, uint32_t *out_index)
{
    char text[IF_NAMESIZE];
    int64_t index;

    if (len == 0) {
        return -EINVAL;
    }
    if (len >= sizeof text) {
        return -ENODEV;
    }
    memcpy(text, zone, len);
    text[len] = '\0';
    index = addr_interface(text);
    if (index == -ENODEV) {
        index = addr_read_decimal(text, UINT32_MAX);
        index = index > 0 ? index : -ENODEV;
    }
    if (index < 0) {
        return (int)index;
    }
    *out_index = (uint32_t)index;
    return 0;
}

/* Without brackets around it. */
static int addr_read_in6(const char *host, size_t len, struct gyre_addr *out)
{
    char text[INET6_ADDRSTRLEN];
    const char *percent = memchr(host, '%', len);
    const size_t digits = percent != NULL ? (size_t)(percent - host) : len;

    if (digits >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, host, digits);
    text[digits] = '\0';
    *out = addr_blank(AF_INET6, sizeof out->in6);
    if (inet_pton(AF_INET6, text, &out->in6.sin6_addr) != 1) {
        return -EINVAL;
    }
    if (percent == NULL) {
        return 0;
    }
    return addr_read_zone(percent + 1, len - digits - 1, &out->in6.sin6_scope_id);
}

static int addr_hex_digit(char digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    if (digit >= 'a' && digit <= 'f') {
        return digit - 'a' + 10;
    }
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* One byte of a name, plain or as \xHH; moves on behind it. Returns it, or -EINVAL. */
static int addr_read_byte(const char **text)
{
    const char *at = *text;
    int high;
    int low;

    if (at[0] != '\\') {
        *text = at + 1;
        return (unsigned char)at[0];
    }
    high = at[1] == 'x' ? addr_hex_digit(at[2]) : -1;
    low = high >= 0 ? addr_hex_digit(at[3]) : -1;
    if (low < 0) {
        return -EINVAL;
    }
    *text = at + 4;
    return high * 16 + low;
}

/* Behind "unix:". An empty name is refused: bound to, it would be an address of the kernel's
 * choice, which nobody means who wrote no name. */
static int addr_read_unix(const char *text, struct gyre_addr *out)
{
    const int is_abstract = *text == '@';
    char name[ADDR_UNIX_NAME + 1];
    size_t len = 0;

    if (*text == '\0') {
        return -EINVAL;
    }
    if (is_abstract) {
        name[len++] = '\0';
        text++;
    }
    while (*text != '\0') {
        const int byte = addr_read_byte(&text);

        if (byte < 0) {
            return byte;
        }
        if (len == sizeof name) {
            return -ENAMETOOLONG;
        }
        name[len++] = (char)byte;
    }
    if (!is_abstract && name[0] == '\0') {
        return -EINVAL; /* "\x00" is not a second way to write the @ */
    }
    return gyre_addr_unix(name, len, out);
}

/* The part before the port. */
static int addr_read_host(const char *host, size_t len, struct gyre_addr *out)
{
    if (len >= 2 && host[0] == '[' && host[len - 1] == ']') {
        return addr_read_in6(host + 1, len - 2, out);
    }
    return addr_read_in(host, len, out);
}

int gyre_addr_parse(const char *text, struct gyre_addr *out_addr)
{
    struct gyre_addr addr;
    const char *colon;
    int port;
    int rc;

    if (text == NULL || out_addr == NULL) {
        return -EINVAL;
    }
    if (strncmp(text, addr_unix_scheme, sizeof addr_unix_scheme - 1) == 0) {
        return addr_read_unix(text + sizeof addr_unix_scheme - 1, out_addr);
    }
    colon = strrchr(text, ':');
    if (colon == NULL) {
        return -EINVAL;
    }
    rc = addr_read_host(text, (size_t)(colon - text), &addr);
    if (rc < 0) {
        return rc;
    }
    port = gyre__addr_read_port(colon + 1);
    if (port < 0) {
        return port;
    }
    rc = gyre_addr_set_port(&addr, (unsigned)port);
    gyre_assert(rc == 0);
    *out_addr = addr;
    return 0;
}

int gyre_addr_parse_ip(const char *text, unsigned port, struct gyre_addr *out_addr)
{
    struct gyre_addr addr;
    size_t len;
    int rc;

    if (text == NULL || out_addr == NULL) {
        return -EINVAL;
    }
    len = strlen(text);
    if (text[0] != '[' && memchr(text, ':', len) != NULL) {
        rc = addr_read_in6(text, len, &addr);
    } else {
        rc = addr_read_host(text, len, &addr);
    }
    if (rc == 0) {
        rc = gyre_addr_set_port(&addr, port);
    }
    if (rc == 0) {
        *out_addr = addr;
    }
    return rc;
}

int gyre_addr_unix(const void *name, size_t len, struct gyre_addr *out_addr)
{
    struct gyre_addr addr = addr_blank(AF_UNIX, ADDR_UNIX_HEAD);
    int is_path;

    if (out_addr == NULL || (name == NULL && len > 0)) {
        return -EINVAL;
    }
    is_path = len > 0 && *(const char *)name != '\0';
    if (is_path && memchr(name, '\0', len) != NULL) {
        return -EINVAL;
    }
    if (len > (is_path ? ADDR_UNIX_PATH : ADDR_UNIX_NAME)) {
        return -ENAMETOOLONG;
    }
    if (len > 0) {
        memcpy(addr.un.sun_path, name, len);
    }
    /* A path counts with its end, as the kernel reports it; an abstract name has none. */
    addr.len += (socklen_t)(len + (is_path ? 1 : 0));
    *out_addr = addr;
    return 0;
}

static int addr_write_in(const struct sockaddr_in *in, char *text)
{
    char host[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
    return snprintf(text, GYRE_ADDR_TEXT_MAX, "%s:%u", host, (unsigned)ntohs(in->sin_port));
}

static int addr_is_plain(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text <= ' ' || *text > '~') {
            return 0;
        }
    }
    return 1;
}

static int addr_write_in6(const struct sockaddr_in6 *in6, char *text)
{
    char host[INET6_ADDRSTRLEN];
    char zone[1 + IF_NAMESIZE] = "";
    const unsigned port = ntohs(in6->sin6_port);

    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    if (in6->sin6_scope_id != 0) {
        zone[0] = '%';
        if (gyre__sys_if_indextoname(in6->sin6_scope_id, zone + 1) == NULL ||
            !addr_is_plain(zone)) {
            snprintf(zone, sizeof zone, "%%%u", (unsigned)in6->sin6_scope_id);
        }
    }
    return snprintf(text, GYRE_ADDR_TEXT_MAX, "[%s%s]:%u", host, zone, port);
}

/* A peer chooses its own name, and the text goes to logs and terminals: what is not printable ASCII
 * is escaped, and the backslash for the way back. So is an @ that begins a path. */
static int addr_write_unix(const struct gyre_addr *addr, char *text)
{
    const char *name;
    const size_t len = addr_unix_name(addr, &name);
    int used = snprintf(text, GYRE_ADDR_TEXT_MAX, "%s", addr_unix_scheme);

    for (size_t i = 0; i < len; i++) {
        const unsigned char byte = (unsigned char)name[i];

        if (i == 0 && byte == '\0') {
            text[used++] = '@';
        } else if (byte < ' ' || byte > '~' || byte == '\\' || (i == 0 && byte == '@')) {
            used += snprintf(text + used, sizeof "\\xHH", "\\x%02x", byte);
        } else {
            text[used++] = (char)byte;
        }
        gyre_assert(used < GYRE_ADDR_TEXT_MAX);
    }
    text[used] = '\0';
    return used;
}

int gyre_addr_format(const struct gyre_addr *addr, char *text, size_t size)
{
    char buffer[GYRE_ADDR_TEXT_MAX];
    int len;

    if (text == NULL) {
        return -EINVAL;
    }
    switch (addr_family(addr)) {
    case AF_INET:
        len = addr_write_in(&addr->in, buffer);
        break;
    case AF_INET6:
        len = addr_write_in6(&addr->in6, buffer);
        break;
    case AF_UNIX:
        len = addr_write_unix(addr, buffer);
        break;
    default:
        return -EINVAL;
    }
    gyre_assert(len > 0 && len < GYRE_ADDR_TEXT_MAX);
    if ((size_t)len >= size) {
        return -ENOSPC;
    }
    memcpy(text, buffer, (size_t)len + 1);
    return len;
}

int gyre_addr_port(const struct gyre_addr *addr)
{
    switch (addr_family(addr)) {
    case AF_INET:
        return ntohs(addr->in.sin_port);
    case AF_INET6:
        return ntohs(addr->in6.sin6_port);
    default:
        return -EINVAL;
    }
}

int gyre_addr_set_port(struct gyre_addr *addr, unsigned port)
{
    const int family = addr_family(addr);

    if (family != AF_INET && family != AF_INET6) {
        return -EINVAL;
    }
    if (port > ADDR_PORT_MAX) {
        return -ERANGE;
    }
    if (family == AF_INET) {
        addr->in.sin_port = htons((uint16_t)port);
    } else {
        addr->in6.sin6_port = htons((uint16_t)port);
    }
    return 0;
}

static int addr_equal_unix(const struct gyre_addr *a, const struct gyre_addr *b)
{
    const char *a_name;
    const char *b_name;
    const size_t a_len = addr_unix_name(a, &a_name);
    const size_t b_len = addr_unix_name(b, &b_name);

    return a_len == b_len && a_len > 0 && memcmp(a_name, b_name, a_len) == 0;
}

int gyre_addr_equal(const struct gyre_addr *a, const struct gyre_addr *b)
{
    struct gyre_addr left;
    struct gyre_addr right;
    int family;

    if (addr_family(a) == AF_UNSPEC || addr_family(b) == AF_UNSPEC) {
        return 0;
    }
    left = *a;
    right = *b;
    gyre_addr_unmap(&left);
    gyre_addr_unmap(&right);
    family = addr_family(&left);
    if (family != addr_family(&right)) {
        return 0;
    }
    if (family == AF_UNIX) {
        return addr_equal_unix(&left, &right);
    }
    if (gyre_addr_port(&left) != gyre_addr_port(&right)) {
        return 0;
    }
    if (family == AF_INET) {
        return left.in.sin_addr.s_addr == right.in.sin_addr.s_addr;
    }
    return left.in6.sin6_scope_id == right.in6.sin6_scope_id &&
           IN6_ARE_ADDR_EQUAL(&left.in6.sin6_addr, &right.in6.sin6_addr);
}

void gyre_addr_unmap(struct gyre_addr *addr)
{
    struct gyre_addr plain = addr_blank(AF_INET, sizeof plain.in);

    if (addr_family(addr) != AF_INET6 || !IN6_IS_ADDR_V4MAPPED(&addr->in6.sin6_addr)) {
        return;
    }
    plain.in.sin_port = addr->in6.sin6_port;
    memcpy(&plain.in.sin_addr, addr->in6.sin6_addr.s6_addr + 12, sizeof plain.in.sin_addr);
    *addr = plain;
}

/* Asks the kernel, through getsockname(2) or getpeername(2). */
static int addr_ask(int number, struct gyre_addr *out,
                    int (*asking)(int number, struct sockaddr *address, socklen_t *len))
{
    struct gyre_addr addr = addr_blank(AF_UNSPEC, sizeof addr.storage);

    if (out == NULL) {
        return -EINVAL;
    }
    if (asking(number, &addr.any, &addr.len) < 0) {
        return -errno;
    }
    /* What the kernel could not hand over whole is not an address to go on with. */
    if (addr.len > sizeof addr.storage) {
        return -EINVAL;
    }
    *out = addr;
    return 0;
}

static int addr_ask_local(int number, struct sockaddr *address, socklen_t *len)
{
    return gyre__sys_getsockname(number, address, len);
}

static int addr_ask_peer(int number, struct sockaddr *address, socklen_t *len)
{
    return gyre__sys_getpeername(number, address, len);
}

int gyre_addr_local(int number, struct gyre_addr *out_addr)
{
    return addr_ask(number, out_addr, addr_ask_local);
}

int gyre_addr_peer(int number, struct gyre_addr *out_addr)
{
    return addr_ask(number, out_addr, addr_ask_peer);
}
