/*
 * Socket options. GYRE_SOCKOPT_MAP is the table; here is what its units mean, and the few options
 * that are not one integer at one level: LINGER is a struct, TRAFFIC_CLASS and HOP_LIMIT have twins
 * in IPv6.
 */
#include "base/assert.h"
#include "base/sys.h"

#include <errno.h>
#include <gyre/sockopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum sockopt_unit {
    SOCKOPT_FLAG,
    SOCKOPT_COUNT,
    SOCKOPT_BYTES,
    SOCKOPT_SECONDS,
    SOCKOPT_MILLISECONDS,
    SOCKOPT_LINGER,
};

struct sockopt_row {
    const char *text;
    int level;
    int name;
    enum sockopt_unit unit;
    int least;
    int most;
};

static const struct sockopt_row sockopt_rows[] = {
#define X(name, level, kernel_name, unit, least, most) \
    [GYRE_SOCKOPT_##name] = {#name, level, kernel_name, SOCKOPT_##unit, least, most},
    GYRE_SOCKOPT_MAP(X)
#undef X
};

_Static_assert(sizeof sockopt_rows / sizeof sockopt_rows[0] == GYRE_SOCKOPT_COUNT,
               "each option has its row");

static const struct sockopt_row *sockopt_row_of(enum gyre_sockopt option)
{
    return (unsigned)option < GYRE_SOCKOPT_COUNT ? &sockopt_rows[option] : NULL;
}

/* One code for "there is no such option here": where setsockopt(2) says ENOPROTOOPT, getsockopt(2)
 * of the same socket says EOPNOTSUPP, and Unix sockets always do. */
static int sockopt_failed(int error)
{
    gyre_assert(error < 0);
    return error == -EOPNOTSUPP ? -ENOPROTOOPT : error;
}

static int sockopt_set_value(int number, int level, int name, const void *value, size_t len)
{
    const int rc = gyre_sockopt_set_raw(number, level, name, value, len);

    return rc < 0 ? sockopt_failed(rc) : 0;
}

static int sockopt_get_value(int number, int level, int name, void *value, size_t len)
{
    const int rc = gyre_sockopt_get_raw(number, level, name, value, len);

    if (rc < 0) {
        return sockopt_failed(rc);
    }
    gyre_assert((size_t)rc == len);
    return 0;
}

/* AF_INET, AF_INET6, -ENOPROTOOPT for a socket of another family, or another negative errno. */
static int sockopt_ip_family(int number)
{
    int family;
    const int rc = sockopt_get_value(number, SOL_SOCKET, SO_DOMAIN, &family, sizeof family);

    if (rc < 0) {
        return rc;
    }
    return family == AF_INET || family == AF_INET6 ? family : -ENOPROTOOPT;
}

/* The option of IPv6 that does what this one of IPv4 does. */
static int sockopt_twin(int name)
{
    gyre_assert(name == IP_TOS || name == IP_TTL);
    return name == IP_TOS ? IPV6_TCLASS : IPV6_UNICAST_HOPS;
}

/* An IPv6 socket with an IPv4 peer, mapped, goes by the option of IPv4. */
static int sockopt_set_ip(int number, int name, int value)
{
    const int family = sockopt_ip_family(number);
    int rc;

    if (family < 0) {
        return family;
    }
    if (family == AF_INET6) {
        rc = sockopt_set_value(number, IPPROTO_IPV6, sockopt_twin(name), &value, sizeof value);
        if (rc < 0) {
            return rc;
        }
    }
    rc = sockopt_set_value(number, IPPROTO_IP, name, &value, sizeof value);
    /* A raw IPv6 socket has no IPv4 to it. */
    return family == AF_INET6 && rc == -ENOPROTOOPT ? 0 : rc;
}

static int sockopt_get_ip(int number, int name, int *out)
{
    const int family = sockopt_ip_family(number);

    if (family < 0) {
        return family;
    }
    if (family == AF_INET6) {
        return sockopt_get_value(number, IPPROTO_IPV6, sockopt_twin(name), out, sizeof *out);
    }
    return sockopt_get_value(number, IPPROTO_IP, name, out, sizeof *out);
}

static int sockopt_set_linger(int number, int is_on, int seconds)
{
    const struct linger linger = {.l_onoff = is_on, .l_linger = seconds};

    return sockopt_set_value(number, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static int sockopt_get_linger(int number, uint64_t *out_value)
{
    struct linger linger;
    const int rc = sockopt_get_value(number, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);

    if (rc == 0) {
        *out_value = linger.l_onoff ? (unsigned)linger.l_linger * GYRE_SEC : GYRE_LINGER_OFF;
    }
    return rc;
}

/* How many of the caller's units are one of the kernel's. */
static uint64_t sockopt_scale(const struct sockopt_row *row)
{
    switch (row->unit) {
    case SOCKOPT_SECONDS:
    case SOCKOPT_LINGER:
        return GYRE_SEC;
    case SOCKOPT_MILLISECONDS:
        return GYRE_MSEC;
    default:
        return 1;
    }
}

/* To what the kernel takes, rounded up; -ERANGE when that is beyond the table's limits. */
static int64_t sockopt_to_kernel(const struct sockopt_row *row, uint64_t value)
{
    const uint64_t scale = sockopt_scale(row);
    const uint64_t scaled = value / scale + (value % scale != 0);

    gyre_assert(row->least >= 0 && row->least <= row->most);
    if (scaled < (uint64_t)row->least || scaled > (uint64_t)row->most) {
        return -ERANGE;
    }
    return (int64_t)scaled;
}

static uint64_t sockopt_from_kernel(const struct sockopt_row *row, int value)
{
    switch (row->unit) {
    case SOCKOPT_FLAG:
        return value != 0;
    case SOCKOPT_BYTES:
        return (unsigned)value / 2;
    default:
        return (unsigned)value * sockopt_scale(row);
    }
}

int gyre_sockopt_set(int number, enum gyre_sockopt option, uint64_t value)
{
    const struct sockopt_row *row = sockopt_row_of(option);
    int64_t scaled;
    int kernels;

    if (row == NULL) {
        return -EINVAL;
    }
    if (option == GYRE_SOCKOPT_LINGER && value == GYRE_LINGER_OFF) {
        return sockopt_set_linger(number, 0, 0);
    }
    scaled = sockopt_to_kernel(row, value);
    if (scaled < 0) {
        return -EINVAL;
    }
    kernels = (int)scaled;
    switch (option) {
    case GYRE_SOCKOPT_LINGER:
        return sockopt_set_linger(number, 1, kernels);
    case GYRE_SOCKOPT_TRAFFIC_CLASS:
    case GYRE_SOCKOPT_HOP_LIMIT:
        return sockopt_set_ip(number, row->name, kernels);
    default:
        return sockopt_set_value(number, row->level, row->name, &kernels, sizeof kernels);
    }
}

int gyre_sockopt_get(int number, enum gyre_sockopt option, uint64_t *out_value)
{
    const struct sockopt_row *row = sockopt_row_of(option);
    int kernels;
    int rc;

    if (row == NULL || out_value == NULL) {
        return -EINVAL;
    }
    switch (option) {
    case GYRE_SOCKOPT_LINGER:
        return sockopt_get_linger(number, out_value);
    case GYRE_SOCKOPT_TRAFFIC_CLASS:
    case GYRE_SOCKOPT_HOP_LIMIT:
        rc = sockopt_get_ip(number, row->name, &kernels);
        break;
    default:
        rc = sockopt_get_value(number, row->level, row->name, &kernels, sizeof kernels);
        break;
    }
    if (rc == 0) {
        *out_value = sockopt_from_kernel(row, kernels);
    }
    return rc;
}

const char *gyre_sockopt_name(enum gyre_sockopt option)
{
    const struct sockopt_row *row = sockopt_row_of(option);

    return row != NULL ? row->text : "UNKNOWN";
}

int gyre_sockopt_set_congestion(int number, const char *name)
{
    const size_t len = name != NULL ? strnlen(name, GYRE_CONGESTION_MAX) : 0;

    /* The kernel would cut a longer name and might find another. */
    if (len == 0 || len >= GYRE_CONGESTION_MAX) {
        return -EINVAL;
    }
    return sockopt_set_value(number, IPPROTO_TCP, TCP_CONGESTION, name, len);
}

int gyre_sockopt_congestion(int number, char *name, size_t size)
{
    char text[GYRE_CONGESTION_MAX] = "";
    size_t len;
    int rc;

    if (name == NULL) {
        return -EINVAL;
    }
    /* All of the kernel's array comes, with zeros behind the name. */
    rc = sockopt_get_value(number, IPPROTO_TCP, TCP_CONGESTION, text, sizeof text);
    if (rc < 0) {
        return rc;
    }
    len = strnlen(text, sizeof text - 1);
    if (len >= size) {
        return -ENOSPC;
    }
    memcpy(name, text, len);
    name[len] = '\0';
    return (int)len;
}

int gyre_sockopt_set_raw(int number, int level, int name, const void *value, size_t len)
{
    if ((value == NULL && len > 0) || len > INT_MAX) {
        return -EINVAL;
    }
    return gyre__sys_setsockopt(number, level, name, value, (socklen_t)len) < 0 ? -errno : 0;
}

int gyre_sockopt_get_raw(int number, int level, int name, void *value, size_t size)
{
    socklen_t len = (socklen_t)size;

    if ((value == NULL && size > 0) || size > INT_MAX) {
        return -EINVAL;
    }
    return gyre__sys_getsockopt(number, level, name, value, &len) < 0 ? -errno : (int)len;
}
