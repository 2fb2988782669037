/*
 * Headers of the PROXY protocol that the example tcp-proxy writes: a reader as strict as the
 * protocol's text allows reads the same addresses and ports from them. There is no reader in the
 * examples.
 *
 *     input: version (1 bit), two addresses: a family, a port, 16 bytes
 */
#include "fuzz.h"

#include "proxy-protocol.h"

#include <string.h>

enum {
    ADDRESS_LEN = 19, /* of the input, for each */
    V2_HEAD = 16,     /* signature, command, family, length */
    V1_LONGEST = 107, /* as the protocol says */
    FAMILIES = 4,     /* IPv4, IPv6, Unix, none */
    GROUPS = 8,       /* of an IPv6 address */
    DIGITS_MAX = 4,   /* of each */
    PORT_MAX = 65535,
};

/* ---- a strict reader of version 1 ---- */

static int is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

static int hex_value(uint8_t byte)
{
    if (is_digit(byte)) {
        return byte - '0';
    }
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

static void take(const uint8_t **at, const uint8_t *end, const char *wanted)
{
    const size_t len = strlen(wanted);

    FUZZ_EXPECT((size_t)(end - *at) >= len && memcmp(*at, wanted, len) == 0);
    *at += len;
}

/* Digits without a leading zero. */
static unsigned take_decimal(const uint8_t **at, const uint8_t *end, unsigned max)
{
    unsigned value = 0;

    FUZZ_EXPECT(*at < end && is_digit(**at));
    FUZZ_EXPECT(**at != '0' || *at + 1 == end || !is_digit((*at)[1]));
    for (; *at < end && is_digit(**at); (*at)++) {
        value = 10 * value + (unsigned)(**at - '0');
        FUZZ_EXPECT(value <= max);
    }
    return value;
}

static void take_ipv4(const uint8_t **at, const uint8_t *end, uint8_t ip[16])
{
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            take(at, end, ".");
        }
        ip[i] = (uint8_t)take_decimal(at, end, UINT8_MAX);
    }
}

static unsigned take_group(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *first = *at;
    unsigned value = 0;

    for (; *at < end && hex_value(**at) >= 0; (*at)++) {
        value = 16 * value + (unsigned)hex_value(**at);
    }
    FUZZ_EXPECT(*at > first && *at - first <= DIGITS_MAX);
    return value;
}

/* Groups of hexadecimal digits, of which one run of zeroes may be "::". */
static void take_ipv6(const uint8_t **at, const uint8_t *end, uint8_t ip[16])
{
    unsigned group[GROUPS] = {0};
    int count = 0;
    int gap = -1;

    if (end - *at >= 2 && memcmp(*at, "::", 2) == 0) {
        *at += 2;
        gap = 0;
    }
    while (*at < end && **at != ' ') {
        FUZZ_EXPECT(count < GROUPS);
        group[count++] = take_group(at, end);
        if (*at < end && **at == ' ') {
            break;
        }
        take(at, end, ":");
        if (*at < end && **at == ':') {
            FUZZ_EXPECT(gap < 0);
            gap = count;
            (*at)++;
        } else {
            FUZZ_EXPECT(*at < end && **at != ' '); /* no single colon at the end */
        }
    }
    FUZZ_EXPECT(gap < 0 ? count == GROUPS : count < GROUPS);
    memset(ip, 0, 16);
    for (int i = 0; i < count; i++) {
        const int place = gap < 0 || i < gap ? i : GROUPS - count + i;

        ip[2 * place] = (uint8_t)(group[i] >> 8);
        ip[2 * place + 1] = (uint8_t)group[i];
    }
}

/* ---- what it must be ---- */

struct end {
    int family;
    unsigned port;
    uint8_t ip[16];
};

static size_t ip_len(const struct end *end)
{
    return end->family == AF_INET ? 4 : 16;
}

static void check_text(const uint8_t *header, size_t len, const struct end ends[2], int known)
{
    const uint8_t *at = header;
    const uint8_t *end = header + len;

    FUZZ_EXPECT(len <= V1_LONGEST);
    take(&at, end, "PROXY ");
    if (!known) {
        take(&at, end, "UNKNOWN\r\n");
        FUZZ_EXPECT(at == end);
        return;
    }
    take(&at, end, ends[0].family == AF_INET ? "TCP4 " : "TCP6 ");
    for (int i = 0; i < 2; i++) {
        uint8_t ip[16];

        (ends[i].family == AF_INET ? take_ipv4 : take_ipv6)(&at, end, ip);
        FUZZ_EXPECT(memcmp(ip, ends[i].ip, ip_len(&ends[i])) == 0);
        take(&at, end, " ");
    }
    FUZZ_EXPECT(take_decimal(&at, end, PORT_MAX) == ends[0].port);
    take(&at, end, " ");
    FUZZ_EXPECT(take_decimal(&at, end, PORT_MAX) == ends[1].port);
    take(&at, end, "\r\n");
    FUZZ_EXPECT(at == end);
}

static void check_binary(const uint8_t *header, size_t len, const struct end ends[2], int known)
{
    static const uint8_t signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                        0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
    const size_t ip = ip_len(&ends[0]);
    const uint8_t *ports = header + V2_HEAD + 2 * ip;

    FUZZ_EXPECT(len >= V2_HEAD && memcmp(header, signature, sizeof(signature)) == 0);
    FUZZ_EXPECT(header[12] == 0x21 && (size_t)(header[14] << 8 | header[15]) == len - V2_HEAD);
    if (!known) {
        FUZZ_EXPECT(header[13] == 0 && len == V2_HEAD);
        return;
    }
    FUZZ_EXPECT(header[13] == (ends[0].family == AF_INET ? 0x11 : 0x21));
    FUZZ_EXPECT(len == V2_HEAD + 2 * ip + 4);
    for (int i = 0; i < 2; i++) {
        FUZZ_EXPECT(memcmp(header + V2_HEAD + (size_t)i * ip, ends[i].ip, ip) == 0);
        FUZZ_EXPECT((unsigned)(ports[2 * i] << 8 | ports[2 * i + 1]) == ends[i].port);
    }
}

static void make_address(const uint8_t *data, struct end *end, struct gyre_addr *addr)
{
    static const int families[FAMILIES] = {AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC};
    const in_port_t port = htons((uint16_t)(data[1] << 8 | data[2]));

    *end = (struct end){.family = families[data[0] % FAMILIES], .port = ntohs(port)};
    memcpy(end->ip, data + 3, sizeof(end->ip));
    memset(addr, 0, sizeof(*addr));
    addr->any.sa_family = (sa_family_t)end->family;
    if (end->family == AF_INET) {
        addr->in.sin_port = port;
        memcpy(&addr->in.sin_addr, end->ip, 4);
        addr->len = sizeof(addr->in);
    } else if (end->family == AF_INET6) {
        addr->in6.sin6_port = port;
        memcpy(&addr->in6.sin6_addr, end->ip, 16);
        addr->len = sizeof(addr->in6);
    } else {
        memcpy(addr->any.sa_data, end->ip, sizeof(addr->any.sa_data));
        addr->len = sizeof(addr->any);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gyre_addr addr[2];
    struct end ends[2];
    uint8_t *header = malloc(PROXY_HEADER_MAX); /* of exactly this size, for AddressSanitizer */
    size_t len;
    int known;

    FUZZ_EXPECT(header != NULL);
    if (size >= 1 + 2 * ADDRESS_LEN) {
        make_address(data + 1, &ends[0], &addr[0]);
        make_address(data + 1 + ADDRESS_LEN, &ends[1], &addr[1]);
        known = ends[0].family == ends[1].family &&
                (ends[0].family == AF_INET || ends[0].family == AF_INET6);
        len = proxy_header(1 + (data[0] & 1), &addr[0], &addr[1], header);
        FUZZ_EXPECT(len < PROXY_HEADER_MAX);
        (data[0] & 1 ? check_binary : check_text)(header, len, ends, known);
    }
    free(header);
    return 0;
}
