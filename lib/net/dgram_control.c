/* Control data of datagrams: what comes with one that was received, and goes with one to be sent. */
#include "net/dgram.h"

#include <netinet/udp.h>
#include <string.h>

/*
 * The bytes of an item's value that are there. Somebody may have switched on more on a socket than
 * the buffer holds; then the kernel cuts the last item off where the buffer ends, and behind it lies
 * what another datagram left.
 */
static size_t control_len(const struct msghdr *msg, const struct cmsghdr *item)
{
    const uint8_t *control = msg->msg_control;
    const size_t room = msg->msg_controllen - (size_t)((const uint8_t *)item - control);
    const size_t len = item->cmsg_len < room ? item->cmsg_len : room;

    return len > CMSG_LEN(0) ? len - CMSG_LEN(0) : 0;
}

static void read_control_int(struct cmsghdr *item, size_t len, int *out_value)
{
    if (len >= sizeof(*out_value)) {
        memcpy(out_value, CMSG_DATA(item), sizeof(*out_value));
    } else if (len > 0) { /* IP_TOS is one byte */
        *out_value = *CMSG_DATA(item);
    }
}

static void read_ipv4_control(struct cmsghdr *item, size_t len, struct gyre_datagram *datagram,
                              struct gyre_addr *local)
{
    struct in_pktinfo info;

    if (item->cmsg_type == IP_TTL) {
        read_control_int(item, len, &datagram->ttl);
    } else if (item->cmsg_type == IP_TOS) {
        read_control_int(item, len, &datagram->tos);
    } else if (item->cmsg_type == IP_PKTINFO && len >= sizeof(info)) {
        memcpy(&info, CMSG_DATA(item), sizeof(info));
        datagram->source = info.ipi_spec_dst.s_addr;
        if (datagram->local != NULL) {
            return; /* an IPv6 socket: it has been told as a mapped address */
        }
        local->in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = info.ipi_addr};
        local->len = sizeof(local->in);
        datagram->local = local;
        datagram->interface = (unsigned)info.ipi_ifindex;
    }
}

static void read_ipv6_control(struct cmsghdr *item, size_t len, struct gyre_datagram *datagram,
                              struct gyre_addr *local)
{
    struct in6_pktinfo info;

    if (item->cmsg_type == IPV6_HOPLIMIT) {
        read_control_int(item, len, &datagram->ttl);
    } else if (item->cmsg_type == IPV6_TCLASS) {
        read_control_int(item, len, &datagram->tos);
    } else if (item->cmsg_type == IPV6_PKTINFO && len >= sizeof(info)) {
        memcpy(&info, CMSG_DATA(item), sizeof(info));
        local->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = info.ipi6_addr};
        if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) {
            local->in6.sin6_scope_id = info.ipi6_ifindex;
        }
        local->len = sizeof(local->in6);
        datagram->local = local;
        datagram->interface = info.ipi6_ifindex;
    }
}

void gyre__dgram_read_control(struct msghdr *msg, struct gyre_datagram *datagram,
                              struct gyre_addr *local)
{
    for (struct cmsghdr *item = CMSG_FIRSTHDR(msg); item != NULL; item = CMSG_NXTHDR(msg, item)) {
        const size_t len = control_len(msg, item);

        if (item->cmsg_level == SOL_UDP && item->cmsg_type == UDP_GRO) {
            int segment = (int)datagram->segment;

            read_control_int(item, len, &segment);
            datagram->segment = (size_t)segment < datagram->len ? (uint32_t)segment : 0;
        } else if (item->cmsg_level == IPPROTO_IP) {
            read_ipv4_control(item, len, datagram, local);
        } else if (item->cmsg_level == IPPROTO_IPV6) {
            read_ipv6_control(item, len, datagram, local);
        }
    }
}

/* Append one item; the buffer has room for all that can be asked for at once. */
static void add_control(struct msghdr *msg, uint8_t *control, int level, int type,
                        const void *value, size_t len)
{
    struct cmsghdr *item = (struct cmsghdr *)(void *)(control + msg->msg_controllen);

    gyre_assert(msg->msg_controllen + CMSG_SPACE(len) <= GYRE__DGRAM_CONTROL_OUT);
    item->cmsg_level = level;
    item->cmsg_type = type;
    item->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(item), value, len);
    msg->msg_control = control;
    msg->msg_controllen += CMSG_SPACE(len);
}

void gyre__dgram_write_control(const struct gyre__dgram_item *item, size_t piece,
                               struct msghdr *msg, uint8_t *control)
{
    if (item->from_family == AF_INET) {
        const struct in_pktinfo info = {.ipi_spec_dst = item->from.in,
                                        .ipi_ifindex = (int)item->interface};

        add_control(msg, control, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    } else if (item->from_family == AF_INET6) {
        const struct in6_pktinfo info = {.ipi6_addr = item->from.in6,
                                         .ipi6_ifindex = item->interface};

        add_control(msg, control, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    }
    if (item->segment != 0 && piece > item->segment) {
        add_control(msg, control, SOL_UDP, UDP_SEGMENT, &item->segment, sizeof(item->segment));
    }
}
