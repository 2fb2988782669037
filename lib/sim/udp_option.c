/*
 * Options, groups and control data of simulated UDP sockets. Options with an integer value are rows
 * of UDP_OPTION_MAP; the others are structures of several kinds that say the same thing: which group,
 * on which interface.
 */
#include "sim/charge.h"
#include "sim/udp.h"

#include <linux/sock_diag.h>

enum { GROUPS_MAX = 20 }; /* net.ipv4.igmp_max_memberships */

static const struct option_row {
    int level, name, least, most, first;
} rows[] = {
#define X(name, level, kernel_name, least, most, first) {level, kernel_name, least, most, first},
    UDP_OPTION_MAP(X)
#undef X
};

void gyre__sim_udp_options_init(struct udp_socket *self)
{
    for (int i = 0; i < UDP_OPTION_COUNT; i++) {
        self->option[i] = rows[i].first;
    }
}

static const struct option_row *row_of(int level, int name, int *out_index)
{
    for (int i = 0; i < UDP_OPTION_COUNT; i++) {
        if (rows[i].level == level && rows[i].name == name) {
            *out_index = i;
            return &rows[i];
        }
    }
    return NULL;
}

/* Levels that sockets of the family have no business with are refused; a name that is not known
 * here may be one that is only kept. */
static int check_level(const struct sim_socket *socket, int level)
{
    const int known = level == SOL_SOCKET || level == SOL_UDP || level == IPPROTO_IP ||
                      (level == IPPROTO_IPV6 && socket->family == AF_INET6);

    return known ? 0 : -EOPNOTSUPP;
}

/* ---- groups ---- */

int gyre__sim_udp_has_interface(const struct gyre_sim_host *host, unsigned interface)
{
    return interface == UDP_LOOPBACK || (interface == UDP_ETHERNET && host->address_count > 0);
}

/* The interface with this address of the host; 0: none. */
static unsigned interface_of(struct gyre_sim_host *host, struct in_addr address)
{
    const struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = address};
    struct sim_ip ip;

    gyre__sim_ip_read(&ip, (const struct sockaddr *)&in);
    if (gyre__sim_ip_is_loopback(&ip)) {
        return UDP_LOOPBACK;
    }
    return gyre__sim_route(host, (const struct sockaddr *)&in) == host ? UDP_ETHERNET : 0;
}

/* @request: how the caller says it; sets the group, and the interface or 0 for any. */
static int read_group(struct gyre_sim_host *host, int level, int name, const void *value,
                      socklen_t len, struct udp_group *out_group)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct group_req request;
    struct ip_mreqn old = {0};
    struct ipv6_mreq old6;

    if (name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP) {
        if (len < sizeof(request)) {
            return -EINVAL;
        }
        memcpy(&request, value, sizeof(request));
        if (request.gr_group.ss_family != (level == IPPROTO_IP ? AF_INET : AF_INET6)) {
            return level == IPPROTO_IP ? -EINVAL : -EADDRNOTAVAIL;
        }
        gyre__sim_ip_read(&out_group->group, (const struct sockaddr *)&request.gr_group);
        out_group->interface = request.gr_interface;
    } else if (level == IPPROTO_IP) {
        if (len < sizeof(struct ip_mreq)) {
            return -EINVAL;
        }
        memcpy(&old, value, len < sizeof(old) ? sizeof(struct ip_mreq) : sizeof(old));
        in.sin_addr = old.imr_multiaddr;
        gyre__sim_ip_read(&out_group->group, (const struct sockaddr *)&in);
        out_group->interface = (unsigned)old.imr_ifindex;
        if (old.imr_ifindex == 0 && old.imr_address.s_addr != htonl(INADDR_ANY)) {
            out_group->interface = interface_of(host, old.imr_address);
            if (out_group->interface == 0) {
                return -ENODEV;
            }
        }
    } else {
        if (len < sizeof(old6)) {
            return -EINVAL;
        }
        memcpy(&old6, value, sizeof(old6));
        in6.sin6_addr = old6.ipv6mr_multiaddr;
        gyre__sim_ip_read(&out_group->group, (const struct sockaddr *)&in6);
        out_group->interface = old6.ipv6mr_interface;
    }
    out_group->group.port = 0;
    return udp_is_multicast(&out_group->group) ? 0 : -EINVAL;
}

/* On any interface if it is 0. */
static struct udp_group *find_group(struct udp_socket *self, const struct udp_group *wanted)
{
    for (struct gyre_link *link = self->groups.next; link != &self->groups; link = link->next) {
        struct udp_group *group = gyre_container_of(link, struct udp_group, link);

        if ((wanted->interface == 0 || group->interface == wanted->interface) &&
            gyre__sim_ip_same(&group->group, &wanted->group)) {
            return group;
        }
    }
    return NULL;
}

static int join_group(struct udp_socket *self, struct udp_group *wanted)
{
    struct udp_group *group;

    if (wanted->interface == 0) {
        wanted->interface = UDP_ETHERNET; /* where the route to all groups goes */
    }
    if (!gyre__sim_udp_has_interface(self->socket.file.host, wanted->interface)) {
        return -ENODEV;
    }
    if (find_group(self, wanted) != NULL) {
        return -EADDRINUSE;
    }
    if (self->group_count == GROUPS_MAX) {
        return -ENOBUFS;
    }
    group = gyre__sim_alloc(sizeof(*group));
    group->group = wanted->group;
    group->interface = wanted->interface;
    gyre__list_append(&self->groups, &group->link);
    self->group_count++;
    return 0;
}

static int leave_group(struct udp_socket *self, const struct udp_group *wanted)
{
    struct udp_group *group = find_group(self, wanted);

    if (group == NULL) {
        return -EADDRNOTAVAIL;
    }
    gyre__list_remove(&group->link);
    self->group_count--;
    free(group);
    return 0;
}

void gyre__sim_udp_leave_all(struct udp_socket *self)
{
    while (!gyre__list_empty(&self->groups)) {
        struct udp_group *group = gyre_container_of(self->groups.next, struct udp_group, link);

        leave_group(self, group);
    }
}

static int set_multicast_interface(struct udp_socket *self, const void *value, socklen_t len)
{
    struct gyre_sim_host *host = self->socket.file.host;
    struct ip_mreqn request = {0};
    unsigned interface;

    if (len >= sizeof(struct ip_mreq)) {
        memcpy(&request, value, len < sizeof(request) ? sizeof(struct ip_mreq) : sizeof(request));
    } else if (len >= sizeof(struct in_addr)) {
        memcpy(&request.imr_address, value, sizeof(struct in_addr));
    } else {
        return -EINVAL;
    }
    interface = (unsigned)request.imr_ifindex;
    if (interface == 0 && request.imr_address.s_addr != htonl(INADDR_ANY)) {
        interface = interface_of(host, request.imr_address);
    } else if (interface == 0) {
        self->multicast_interface = 0;
        return 0;
    }
    if (!gyre__sim_udp_has_interface(host, interface)) {
        return -EADDRNOTAVAIL;
    }
    self->multicast_interface = interface;
    return 0;
}

/* -ENOPROTOOPT: not about groups. */
static int set_membership(struct udp_socket *self, int level, int name, const void *value,
                          socklen_t len)
{
    const int v4 = level == IPPROTO_IP;
    const int joins =
        name == MCAST_JOIN_GROUP || name == (v4 ? IP_ADD_MEMBERSHIP : IPV6_JOIN_GROUP);
    const int leaves =
        name == MCAST_LEAVE_GROUP || name == (v4 ? IP_DROP_MEMBERSHIP : IPV6_LEAVE_GROUP);
    struct udp_group group = {0};
    int rc;

    if (level != IPPROTO_IP && level != IPPROTO_IPV6) {
        return -ENOPROTOOPT;
    }
    if (v4 && name == IP_MULTICAST_IF) {
        return set_multicast_interface(self, value, len);
    }
    if (!joins && !leaves) {
        return -ENOPROTOOPT;
    }
    rc = read_group(self->socket.file.host, level, name, value, len, &group);
    if (rc < 0) {
        return rc;
    }
    return joins ? join_group(self, &group) : leave_group(self, &group);
}

/* ---- options ---- */

/* -1 is the default of those that are a number of hops or a class. */
static int set_row(struct udp_socket *self, const struct option_row *row, int index, int value)
{
    if (row->least == 0 && row->most == 1) {
        self->option[index] = value != 0;
        return 0;
    }
    if (value == -1 && row->level != SOL_UDP && index != UDP_OPTION_TOS) {
        self->option[index] = row->first;
        return 0;
    }
    if (index == UDP_OPTION_TOS) {
        value &= 255;
    }
    if (value < row->least || value > row->most) {
        return -EINVAL;
    }
    if (index == UDP_OPTION_MULTICAST_IF6 && value != 0 &&
        !gyre__sim_udp_has_interface(self->socket.file.host, (unsigned)value)) {
        return -ENODEV;
    }
    self->option[index] = value;
    return 0;
}

int gyre__sim_udp_setsockopt(struct sim_socket *socket, int level, int name, const void *value,
                             socklen_t len)
{
    struct udp_socket *self = udp_of(socket);
    const struct option_row *row;
    int index = 0;
    int number = 0;
    int rc = check_level(socket, level);

    rc = rc < 0 ? rc : set_membership(self, level, name, value, len);
    if (rc != -ENOPROTOOPT) {
        return rc;
    }
    if (level == IPPROTO_IPV6 && name == IPV6_V6ONLY && udp_is_bound(self)) {
        return -EINVAL;
    }
    row = row_of(level, name, &index);
    if (row == NULL) {
        return -ENOPROTOOPT;
    }
    if (level == IPPROTO_IP && len > 0 && len < sizeof(number)) {
        number = *(const uint8_t *)value;
    } else if (len < sizeof(number)) {
        return -EINVAL;
    } else {
        memcpy(&number, value, sizeof(number));
    }
    return set_row(self, row, index, number);
}

static void put_value(void *value, socklen_t *len, const void *from, size_t from_len)
{
    *len = *len < from_len ? *len : (socklen_t)from_len;
    memcpy(value, from, *len);
}

int gyre__sim_udp_getsockopt(struct sim_socket *socket, int level, int name, void *value,
                             socklen_t *len)
{
    const struct udp_socket *self = udp_of(socket);
    const uint32_t memory[SK_MEMINFO_VARS] = {
        [SK_MEMINFO_RMEM_ALLOC] = self->queue_memory,
        [SK_MEMINFO_RCVBUF] = socket->receive_buffer,
        [SK_MEMINFO_WMEM_ALLOC] = self->memory,
        [SK_MEMINFO_SNDBUF] = socket->send_buffer,
        [SK_MEMINFO_DROPS] = self->drops,
    };
    int index = 0;
    const int rc = check_level(socket, level);

    if (rc < 0) {
        return rc;
    }
    if (level == SOL_SOCKET && name == SO_MEMINFO) {
        put_value(value, len, memory, sizeof(memory));
        return 0;
    }
    if (row_of(level, name, &index) == NULL) {
        return -ENOPROTOOPT;
    }
    put_value(value, len, &self->option[index], sizeof(self->option[index]));
    return 0;
}

/* ---- control data of what is sent ---- */

static int read_int(const struct cmsghdr *item, int *out_value)
{
    if (item->cmsg_len == CMSG_LEN(sizeof(uint8_t))) {
        *out_value = *CMSG_DATA(item);
        return 0;
    }
    if (item->cmsg_len != CMSG_LEN(sizeof(*out_value))) {
        return -EINVAL;
    }
    memcpy(out_value, CMSG_DATA(item), sizeof(*out_value));
    return *out_value < 0 || *out_value > 255 ? -EINVAL : 0;
}

/* An address to send from has to be the host's own. */
static int set_source(struct udp_socket *self, struct udp_plan *plan,
                      const struct sockaddr *address, int interface)
{
    struct gyre_sim_host *host = self->socket.file.host;

    if (interface != 0 && !gyre__sim_udp_has_interface(host, (unsigned)interface)) {
        return -ENODEV;
    }
    plan->interface = interface != 0 ? (unsigned)interface : plan->interface;
    gyre__sim_ip_read(&plan->from, address);
    if (gyre__sim_ip_is_any(&plan->from)) {
        return 0;
    }
    plan->has_from = 1;
    if (gyre__sim_route(host, address) == host) {
        return 0;
    }
    return gyre__sim_ip_is_v4(&plan->from) ? -ENETUNREACH : -EINVAL;
}

static int read_ipv4_item(struct udp_socket *self, const struct cmsghdr *item,
                          struct udp_plan *plan)
{
    struct sockaddr_in in = {.sin_family = AF_INET};
    struct in_pktinfo info;
    int rc;

    switch (item->cmsg_type) {
    case IP_PKTINFO:
        if (item->cmsg_len != CMSG_LEN(sizeof(info))) {
            return -EINVAL;
        }
        memcpy(&info, CMSG_DATA(item), sizeof(info));
        in.sin_addr = info.ipi_spec_dst;
        return set_source(self, plan, (const struct sockaddr *)&in, info.ipi_ifindex);
    case IP_TTL:
        rc = item->cmsg_len == CMSG_LEN(sizeof(int)) ? read_int(item, &plan->ttl) : -EINVAL;
        return rc == 0 && plan->ttl == 0 ? -EINVAL : rc;
    case IP_TOS:
        return read_int(item, &plan->tos);
    default:
        return -EINVAL;
    }
}

static int read_ipv6_item(struct udp_socket *self, const struct cmsghdr *item,
                          struct udp_plan *plan)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    struct in6_pktinfo info;

    switch (item->cmsg_type) {
    case IPV6_PKTINFO:
        if (item->cmsg_len < CMSG_LEN(sizeof(info))) {
            return -EINVAL;
        }
        memcpy(&info, CMSG_DATA(item), sizeof(info));
        if (gyre__sim_ip_is_v4(&plan->to) && !IN6_IS_ADDR_V4MAPPED(&info.ipi6_addr)) {
            return -EINVAL; /* not even :: */
        }
        in6.sin6_addr = info.ipi6_addr;
        return set_source(self, plan, (const struct sockaddr *)&in6, (int)info.ipi6_ifindex);
    case IPV6_HOPLIMIT:
        return read_int(item, &plan->ttl);
    case IPV6_TCLASS:
        return read_int(item, &plan->tos);
    default:
        return -EINVAL;
    }
}

static int read_item(struct udp_socket *self, const struct cmsghdr *item, struct udp_plan *plan)
{
    uint16_t segment;

    switch (item->cmsg_level) {
    case SOL_UDP:
        if (item->cmsg_type != UDP_SEGMENT || item->cmsg_len != CMSG_LEN(sizeof(segment))) {
            return -EINVAL;
        }
        memcpy(&segment, CMSG_DATA(item), sizeof(segment));
        plan->segment = segment;
        return 0;
    case IPPROTO_IP:
        return gyre__sim_ip_is_v4(&plan->to) ? read_ipv4_item(self, item, plan) : 0;
    case IPPROTO_IPV6:
        return self->socket.family == AF_INET6 ? read_ipv6_item(self, item, plan) : 0;
    case SOL_SOCKET: /* descriptors and credentials are ignored, the rest is not known */
        return item->cmsg_type == SCM_RIGHTS || item->cmsg_type == SCM_CREDENTIALS ? 0 : -EINVAL;
    default:
        return 0;
    }
}

int gyre__sim_udp_read_control(struct udp_socket *self, const struct msghdr *msg,
                               struct udp_plan *plan)
{
    const size_t len = msg->msg_control != NULL ? msg->msg_controllen : 0;
    size_t at = 0;
    int rc = 0;

    while (rc == 0 && at < len && len - at >= sizeof(struct cmsghdr)) {
        const struct cmsghdr *item = (const void *)((const uint8_t *)msg->msg_control + at);

        if (item->cmsg_len < sizeof(*item) || item->cmsg_len > len - at) {
            return -EINVAL;
        }
        rc = read_item(self, item, plan);
        at += CMSG_ALIGN(item->cmsg_len);
    }
    return rc;
}

/* ---- control data of what is received ---- */

/* Four bytes behind the prefix of mapped addresses. */
static struct in_addr v4_of(const struct sim_ip *ip)
{
    struct in_addr address;

    memcpy(&address, ip->address.s6_addr + 12, sizeof(address));
    return address;
}

/* To answer from: the address that it came to, or for a group or broadcast one that it can be
 * answered from. */
static struct in_addr reply_address(const struct udp_socket *self,
                                    const struct udp_datagram *datagram)
{
    struct gyre_sim_host *host = self->socket.file.host;
    struct sim_ip to = datagram->from;
    struct sim_ip source;

    if (!udp_is_multicast(&datagram->to) && !gyre__sim_udp_is_broadcast(host, &datagram->to)) {
        return v4_of(&datagram->to);
    }
    return gyre__sim_source(host, &to, &source) == 0 ? v4_of(&source) : v4_of(&datagram->to);
}

static void write_ipv4(const struct udp_socket *self, struct msghdr *msg, size_t *used,
                       const struct udp_datagram *datagram)
{
    const uint8_t tos = (uint8_t)datagram->tos;

    if (self->option[UDP_OPTION_PKTINFO]) {
        const struct in_pktinfo info = {.ipi_ifindex = (int)datagram->interface,
                                        .ipi_spec_dst = reply_address(self, datagram),
                                        .ipi_addr = v4_of(&datagram->to)};

        gyre__sim_put_control(msg, used, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
    if (self->option[UDP_OPTION_RECVTTL]) {
        gyre__sim_put_control(msg, used, IPPROTO_IP, IP_TTL, &datagram->ttl, sizeof(datagram->ttl));
    }
    if (self->option[UDP_OPTION_RECVTOS]) {
        gyre__sim_put_control(msg, used, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
    }
}

static void write_ipv6(const struct udp_socket *self, struct msghdr *msg, size_t *used,
                       const struct udp_datagram *datagram)
{
    if (self->option[UDP_OPTION_RECVHOPS]) {
        gyre__sim_put_control(msg, used, IPPROTO_IPV6, IPV6_HOPLIMIT, &datagram->ttl,
                              sizeof(datagram->ttl));
    }
    if (self->option[UDP_OPTION_RECVTCLASS]) {
        gyre__sim_put_control(msg, used, IPPROTO_IPV6, IPV6_TCLASS, &datagram->tos,
                              sizeof(datagram->tos));
    }
}

void gyre__sim_udp_write_control(const struct udp_socket *self, struct msghdr *msg,
                                 const struct udp_datagram *datagram)
{
    const int counts = gyre__sim_socket_option(&self->socket, SOL_SOCKET, SO_RXQ_OVFL, 0);
    size_t used = 0;

    if (counts && datagram->drops > 0) {
        gyre__sim_put_control(msg, &used, SOL_SOCKET, SO_RXQ_OVFL, &datagram->drops,
                              sizeof(datagram->drops));
    }
    if (self->option[UDP_OPTION_GRO] && datagram->segments > 1) {
        const int segment = (int)datagram->segment;

        gyre__sim_put_control(msg, &used, SOL_UDP, UDP_GRO, &segment, sizeof(segment));
    }
    if (self->socket.family == AF_INET6 && self->option[UDP_OPTION_PKTINFO6]) {
        const struct in6_pktinfo info = {.ipi6_addr = datagram->to.address,
                                         .ipi6_ifindex = datagram->interface};

        gyre__sim_put_control(msg, &used, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
    if (gyre__sim_ip_is_v4(&datagram->to)) {
        write_ipv4(self, msg, &used, datagram);
    } else {
        write_ipv6(self, msg, &used, datagram);
    }
    msg->msg_controllen = used;
}

void gyre__sim_udp_write_error(const struct udp_socket *self, struct msghdr *msg,
                               const struct udp_error *error)
{
    const int v6 = self->socket.family == AF_INET6;
    struct {
        struct sock_extended_err what;
        struct sockaddr_in6 offender;
    } data = {.what = error->what};
    struct sockaddr_storage offender;
    const socklen_t len = gyre__sim_ip_write(&error->offender, self->socket.family, &offender);
    size_t used = 0;

    memcpy(&data.offender, &offender, len);
    gyre__sim_put_control(msg, &used, v6 ? IPPROTO_IPV6 : IPPROTO_IP,
                          v6 ? IPV6_RECVERR : IP_RECVERR, &data, sizeof(data.what) + len);
    msg->msg_controllen = used;
}
