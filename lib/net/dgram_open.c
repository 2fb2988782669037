/* Making a datagram socket, and what is set on one: families, options, groups. */
#include "base/sys.h"
#include "net/dgram.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <unistd.h>

enum {
    UDP4_MAX = 65507, /* 65,535 less the headers of IPv4 and UDP */
    UDP6_MAX = 65527, /* IPv6 does not count its own header */
};

struct dgram_type {
    int family;
    int type;
    int protocol;
};

static int dgram_set(int number, int level, int option, int value)
{
    return gyre__sys_setsockopt(number, level, option, &value, sizeof(value)) < 0 ? -errno : 0;
}

static void dgram_set_traits(struct gyre_dgram *dgram, const struct dgram_type *type)
{
    const int udp = type->family != AF_UNIX && type->protocol == IPPROTO_UDP;

    dgram->traits |= type->family == AF_INET ? GYRE__DGRAM_IPV4 : 0;
    dgram->traits |= type->family == AF_INET6 ? GYRE__DGRAM_IPV6 : 0;
    dgram->traits |= udp ? GYRE__DGRAM_UDP : 0;
    dgram->traits |= type->type == SOCK_RAW ? GYRE__DGRAM_RAW : 0;
    dgram->send_max = GYRE_DGRAM_MAX;
    if (udp) {
        dgram->send_max = type->family == AF_INET ? UDP4_MAX : UDP6_MAX;
    }
}

/* ---- the type ---- */

static int dgram_address_family(const struct gyre_dgram_options *options)
{
    const int local = options->local != NULL ? options->local->any.sa_family : AF_UNSPEC;
    const int peer = options->peer != NULL ? options->peer->any.sa_family : AF_UNSPEC;

    if (local != AF_UNSPEC && peer != AF_UNSPEC && local != peer) {
        return AF_UNSPEC;
    }
    return local != AF_UNSPEC ? local : peer;
}

static int dgram_choose_type(const struct gyre_dgram_options *options, struct dgram_type *out_type)
{
    static const struct dgram_type types[] = {
        [GYRE_DGRAM_UDP4] = {AF_INET, SOCK_DGRAM, IPPROTO_UDP},
        [GYRE_DGRAM_UDP6] = {AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
        [GYRE_DGRAM_UNIX] = {AF_UNIX, SOCK_DGRAM, 0},
        [GYRE_DGRAM_ICMP4] = {AF_INET, SOCK_DGRAM, IPPROTO_ICMP},
        [GYRE_DGRAM_ICMP6] = {AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6},
    };
    const int family = dgram_address_family(options);
    enum gyre_dgram_kind kind = options->kind;

    if ((unsigned)kind > GYRE_DGRAM_ICMP6) {
        return -EINVAL;
    }
    if (kind == GYRE_DGRAM_BY_ADDRESS) {
        kind = family == AF_INET    ? GYRE_DGRAM_UDP4
               : family == AF_INET6 ? GYRE_DGRAM_UDP6
               : family == AF_UNIX  ? GYRE_DGRAM_UNIX
                                    : GYRE_DGRAM_BY_ADDRESS;
    }
    *out_type = types[kind];
    return kind != GYRE_DGRAM_BY_ADDRESS ? 0 : -EAFNOSUPPORT;
}

/* ICMP: without privileges if net.ipv4.ping_group_range allows it, else a raw socket. */
static int dgram_make_socket(struct dgram_type *type)
{
    int number = gyre__sys_socket(type->family, type->type | SOCK_CLOEXEC, type->protocol);
    const int icmp = type->protocol == IPPROTO_ICMP || type->protocol == IPPROTO_ICMPV6;

    if (number < 0 && icmp && (errno == EACCES || errno == EPERM || errno == EPROTONOSUPPORT)) {
        type->type = SOCK_RAW;
        number = gyre__sys_socket(type->family, SOCK_RAW | SOCK_CLOEXEC, type->protocol);
    }
    return number < 0 ? -errno : number;
}

/* ---- options ---- */

/* One flag: an option of IPv4, of IPv6, or of the socket itself. */
struct dgram_switch {
    uint32_t flag;
    uint8_t traits; /* sockets that have it; 0: all */
    int level;
    int option;
};

/* On IPv6 sockets also those of IPv4, for datagrams with mapped addresses. */
static const struct dgram_switch dgram_switches[] = {
    {GYRE_DGRAM_BROADCAST, 0, SOL_SOCKET, SO_BROADCAST},
    {GYRE_DGRAM_REUSE_PORT, 0, SOL_SOCKET, SO_REUSEPORT},
    {GYRE_DGRAM_REUSE_ADDR, 0, SOL_SOCKET, SO_REUSEADDR},
    {GYRE_DGRAM_PACKET_INFO, GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6, IPPROTO_IP, IP_PKTINFO},
    {GYRE_DGRAM_PACKET_INFO, GYRE__DGRAM_IPV6, IPPROTO_IPV6, IPV6_RECVPKTINFO},
    {GYRE_DGRAM_TTL, GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6, IPPROTO_IP, IP_RECVTTL},
    {GYRE_DGRAM_TTL, GYRE__DGRAM_IPV6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT},
    {GYRE_DGRAM_TOS, GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6, IPPROTO_IP, IP_RECVTOS},
    {GYRE_DGRAM_TOS, GYRE__DGRAM_IPV6, IPPROTO_IPV6, IPV6_RECVTCLASS},
    {GYRE_DGRAM_ERROR_DETAIL, GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6, IPPROTO_IP, IP_RECVERR},
    {GYRE_DGRAM_ERROR_DETAIL, GYRE__DGRAM_IPV6, IPPROTO_IPV6, IPV6_RECVERR},
};

/* A raw IPv6 socket has nothing to do with IPv4, and refuses its options (ENOPROTOOPT). */
static int dgram_is_raw6(const struct gyre_dgram *dgram)
{
    return (dgram->traits & GYRE__DGRAM_IPV6) && (dgram->traits & GYRE__DGRAM_RAW);
}

static int dgram_has_switch(const struct gyre_dgram *dgram, const struct dgram_switch *one)
{
    if (one->level == IPPROTO_IP && dgram_is_raw6(dgram)) {
        return 0;
    }
    return one->traits == 0 || (dgram->traits & one->traits);
}

static int dgram_switch_on(struct gyre_dgram *dgram, int number, uint32_t flags)
{
    /* Only IP sockets are received from with room for control data: over a Unix socket it would be
     * descriptors that come. And only they have an error queue: asked for it, a Unix socket hands out
     * the next datagram. */
    if (!(dgram->traits & (GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6))) {
        dgram->flags &= (uint16_t) ~(GYRE__DGRAM_INFO_FLAGS | GYRE_DGRAM_ERROR_DETAIL);
    }
    for (size_t i = 0; i < sizeof(dgram_switches) / sizeof(dgram_switches[0]); i++) {
        const struct dgram_switch *one = &dgram_switches[i];
        int rc;

        if (!(flags & one->flag) || !dgram_has_switch(dgram, one)) {
            continue;
        }
        rc = dgram_set(number, one->level, one->option, 1);
        if (rc < 0) {
            return rc;
        }
    }
    if ((flags & GYRE_DGRAM_GRO) && (dgram->traits & GYRE__DGRAM_UDP)) {
        const int rc = dgram_set(number, SOL_UDP, UDP_GRO, 1);

        return rc == -ENOPROTOOPT ? 0 : rc; /* before Linux 5.0: never joined */
    }
    return 0;
}

static void dgram_set_peer(struct gyre_dgram *dgram, const struct gyre_addr *peer)
{
    dgram->traits |= GYRE__DGRAM_CONNECTED;
    dgram->traits |= gyre__dgram_is_ipv4(peer) ? GYRE__DGRAM_PEER_IPV4 : 0;
}

static int dgram_bind_and_connect(struct gyre_dgram *dgram, int number,
                                  const struct gyre_dgram_options *options)
{
    const struct gyre_addr *local = options->local;
    const struct gyre_addr *peer = options->peer;

    if (local != NULL && gyre__sys_bind(number, &local->any, local->len) < 0) {
        return -errno;
    }
    if (peer == NULL) {
        return 0;
    }
    dgram_set_peer(dgram, peer);
    return gyre__sys_connect(number, &peer->any, peer->len) < 0 ? -errno : 0;
}

int gyre__dgram_socket(struct gyre_dgram *dgram, const struct gyre_dgram_options *options)
{
    struct dgram_type type;
    int rc = dgram_choose_type(options, &type);
    int number;

    if (rc < 0) {
        return rc;
    }
    number = dgram_make_socket(&type);
    if (number < 0) {
        return number;
    }
    dgram_set_traits(dgram, &type);
    if (type.family == AF_INET6 && type.protocol == IPPROTO_UDP) {
        rc =
            dgram_set(number, IPPROTO_IPV6, IPV6_V6ONLY, (options->flags & GYRE_DGRAM_V6ONLY) != 0);
    }
    rc = rc < 0 ? rc : dgram_switch_on(dgram, number, options->flags);
    rc = rc < 0 ? rc : dgram_bind_and_connect(dgram, number, options);
    if (rc < 0) {
        gyre__sys_close(number);
        return rc;
    }
    return number;
}

static int dgram_ask(int number, int level, int option, int *out_value)
{
    socklen_t len = sizeof(*out_value);

    return gyre__sys_getsockopt(number, level, option, out_value, &len) < 0 ? -errno : 0;
}

/* Whether it is on. A raw socket with the protocol UDP knows no UDP_GRO (EOPNOTSUPP). Linux before
 * 5.13 cannot be asked for it (ENOPROTOOPT), though from 5.0 on it can be on: that it is expected
 * does no harm. Any other error is no answer. */
static int dgram_ask_switch(int number, const struct dgram_switch *one, int *out_on)
{
    const int rc = dgram_ask(number, one->level, one->option, out_on);

    if (rc == -ENOPROTOOPT || rc == -EOPNOTSUPP) {
        *out_on = rc == -ENOPROTOOPT;
        return 0;
    }
    return rc;
}

/* What was switched on before and cannot be ignored: joined datagrams have to be told from single
 * ones, and errors that nobody takes from their queue fill the receive buffer. */
static int dgram_learn_switches(struct gyre_dgram *dgram, int number)
{
    static const struct dgram_switch learnt[] = {
        {GYRE_DGRAM_GRO, GYRE__DGRAM_UDP, SOL_UDP, UDP_GRO},
        {GYRE_DGRAM_ERROR_DETAIL, GYRE__DGRAM_IPV4 | GYRE__DGRAM_IPV6, IPPROTO_IP, IP_RECVERR},
        {GYRE_DGRAM_ERROR_DETAIL, GYRE__DGRAM_IPV6, IPPROTO_IPV6, IPV6_RECVERR},
    };

    for (size_t i = 0; i < sizeof(learnt) / sizeof(learnt[0]); i++) {
        const struct dgram_switch *one = &learnt[i];
        int on = 0;
        const int rc = dgram_has_switch(dgram, one) ? dgram_ask_switch(number, one, &on) : 0;

        if (rc < 0) {
            return rc;
        }
        dgram->flags |= on ? (uint16_t)one->flag : 0;
    }
    return 0;
}

/* Without a peer: ENOTCONN, of CAN's J1939 EADDRNOTAVAIL, and EOPNOTSUPP of a family that has none,
 * such as AF_PACKET. Any other error does not say whether there is one. */
static int dgram_learn_peer(struct gyre_dgram *dgram, int number)
{
    struct gyre_addr peer;

    peer.len = sizeof(peer.storage);
    if (gyre__sys_getpeername(number, &peer.any, &peer.len) == 0) {
        dgram_set_peer(dgram, &peer);
        return 0;
    }
    return errno == ENOTCONN || errno == EADDRNOTAVAIL || errno == EOPNOTSUPP ? 0 : -errno;
}

int gyre__dgram_inspect(struct gyre_dgram *dgram, int number,
                        const struct gyre_dgram_options *options)
{
    struct dgram_type type;
    int rc = dgram_ask(number, SOL_SOCKET, SO_DOMAIN, &type.family);

    rc = rc < 0 ? rc : dgram_ask(number, SOL_SOCKET, SO_TYPE, &type.type);
    rc = rc < 0 ? rc : dgram_ask(number, SOL_SOCKET, SO_PROTOCOL, &type.protocol);
    if (rc < 0) {
        return rc;
    }
    if (type.type != SOCK_DGRAM && type.type != SOCK_RAW) {
        return -EPROTOTYPE;
    }
    dgram_set_traits(dgram, &type);
    rc = dgram_learn_peer(dgram, number);
    rc = rc < 0 ? rc : dgram_learn_switches(dgram, number);
    if (rc == 0 && (options->flags & GYRE_DGRAM_V6ONLY) && type.family == AF_INET6) {
        rc = dgram_set(number, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    return rc < 0 ? rc : dgram_switch_on(dgram, number, options->flags);
}

/* ---- multicast ---- */

static int dgram_change_membership(struct gyre_dgram *dgram, const struct gyre_addr *group,
                                   unsigned interface, int option)
{
    struct group_req request = {.gr_interface = interface};
    const int rc = group == NULL || group->len == 0 ? -EINVAL : gyre__dgram_check(dgram);
    const int level = rc == 0 && group->any.sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;

    if (rc < 0) {
        return rc;
    }
    memcpy(&request.gr_group, &group->storage, sizeof(request.gr_group));
    return gyre__sys_setsockopt(dgram->fd.number, level, option, &request, sizeof(request)) < 0
               ? -errno
               : 0;
}

int gyre_dgram_join(struct gyre_dgram *dgram, const struct gyre_addr *group, unsigned interface)
{
    return dgram_change_membership(dgram, group, interface, MCAST_JOIN_GROUP);
}

int gyre_dgram_leave(struct gyre_dgram *dgram, const struct gyre_addr *group, unsigned interface)
{
    return dgram_change_membership(dgram, group, interface, MCAST_LEAVE_GROUP);
}

/* An IPv6 socket sends to IPv4 groups too, by mapped addresses, and has the options of both. */
static int dgram_set_multicast6(struct gyre_dgram *dgram, int option, int value)
{
    return dgram->traits & GYRE__DGRAM_IPV6
               ? dgram_set(dgram->fd.number, IPPROTO_IPV6, option, value)
               : 0;
}

int gyre_dgram_set_multicast_interface(struct gyre_dgram *dgram, unsigned interface)
{
    const struct ip_mreqn request = {.imr_ifindex = (int)interface};
    int rc = interface > INT32_MAX ? -EINVAL : gyre__dgram_check(dgram);

    rc = rc < 0 ? rc : dgram_set_multicast6(dgram, IPV6_MULTICAST_IF, (int)interface);
    if (rc < 0 || dgram_is_raw6(dgram)) {
        return rc;
    }
    rc = gyre__sys_setsockopt(dgram->fd.number, IPPROTO_IP, IP_MULTICAST_IF, &request,
                              sizeof(request));
    return rc < 0 ? -errno : 0;
}

/* The same option of either family. */
static int dgram_set_multicast(struct gyre_dgram *dgram, int option4, int option6, int value)
{
    int rc = gyre__dgram_check(dgram);

    rc = rc < 0 ? rc : dgram_set_multicast6(dgram, option6, value);
    return rc < 0 || dgram_is_raw6(dgram) ? rc
                                          : dgram_set(dgram->fd.number, IPPROTO_IP, option4, value);
}

int gyre_dgram_set_multicast_ttl(struct gyre_dgram *dgram, int ttl)
{
    if (ttl < 0 || ttl > 255) {
        return -EINVAL;
    }
    return dgram_set_multicast(dgram, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, ttl);
}

int gyre_dgram_set_multicast_loop(struct gyre_dgram *dgram, int loop)
{
    if (loop != 0 && loop != 1) {
        return -EINVAL;
    }
    return dgram_set_multicast(dgram, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, loop);
}
