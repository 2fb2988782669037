/* What the files of simulated UDP share. See udp.c. */
#ifndef GYRE_SIM_UDP_H
#define GYRE_SIM_UDP_H

#include "sim/sim.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>

enum {
    UDP_RECEIVE_SHUT = 1, /* udp_socket.shut */
    UDP_SEND_SHUT = 2,
    UDP_SHUT = UDP_RECEIVE_SHUT | UDP_SEND_SHUT,
};

/* The interfaces of a host. The second is there if it has an address. */
enum {
    UDP_LOOPBACK = 1,
    UDP_ETHERNET = 2,
};

/* Options with an integer value: X(name here, level, name, least, most, at first). */
#define UDP_OPTION_MAP(X)                                                 \
    X(TOS, IPPROTO_IP, IP_TOS, 0, 255, 0)                                 \
    X(TTL, IPPROTO_IP, IP_TTL, 1, 255, 64)                                \
    X(RECVTOS, IPPROTO_IP, IP_RECVTOS, 0, 1, 0)                           \
    X(RECVTTL, IPPROTO_IP, IP_RECVTTL, 0, 1, 0)                           \
    X(PKTINFO, IPPROTO_IP, IP_PKTINFO, 0, 1, 0)                           \
    X(RECVERR, IPPROTO_IP, IP_RECVERR, 0, 1, 0)                           \
    X(MULTICAST_TTL, IPPROTO_IP, IP_MULTICAST_TTL, 0, 255, 1)             \
    X(MULTICAST_LOOP, IPPROTO_IP, IP_MULTICAST_LOOP, 0, 1, 1)             \
    X(MULTICAST_ALL, IPPROTO_IP, IP_MULTICAST_ALL, 0, 1, 1)               \
    X(TCLASS, IPPROTO_IPV6, IPV6_TCLASS, 0, 255, 0)                       \
    X(HOPS, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 0, 255, 64)                  \
    X(RECVTCLASS, IPPROTO_IPV6, IPV6_RECVTCLASS, 0, 1, 0)                 \
    X(RECVHOPS, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 0, 1, 0)                 \
    X(PKTINFO6, IPPROTO_IPV6, IPV6_RECVPKTINFO, 0, 1, 0)                  \
    X(RECVERR6, IPPROTO_IPV6, IPV6_RECVERR, 0, 1, 0)                      \
    X(MULTICAST_HOPS, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 0, 255, 1)       \
    X(MULTICAST_LOOP6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, 0, 1, 1)        \
    X(MULTICAST_ALL6, IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0, 1, 1)          \
    X(MULTICAST_IF6, IPPROTO_IPV6, IPV6_MULTICAST_IF, 0, UDP_ETHERNET, 0) \
    X(SEGMENT, SOL_UDP, UDP_SEGMENT, 0, 65535, 0)                         \
    X(GRO, SOL_UDP, UDP_GRO, 0, 1, 0)

enum udp_option {
#define X(name, level, kernel_name, least, most, first) UDP_OPTION_##name,
    UDP_OPTION_MAP(X)
#undef X
        UDP_OPTION_COUNT
};

/* A group that a socket has joined on an interface. */
struct udp_group {
    struct gyre_link link;
    struct sim_ip group; /* without a port */
    unsigned interface;
};

struct udp_socket {
    struct sim_socket socket;
    struct sim_binding binding; /* binding.socket is NULL while it has no port */
    struct sim_ip peer;
    uint8_t connected;
    uint8_t shut;          /* UDP_*_SHUT */
    uint8_t keeps_address; /* bind(2) named one: connect(2) does not change it */
    uint8_t keeps_port;
    struct gyre_link queue;  /* struct udp_datagram */
    struct gyre_link errors; /* struct udp_error, for MSG_ERRQUEUE */
    uint32_t queue_memory;   /* of both */
    uint32_t memory;         /* of what is on its way */
    uint32_t drops;
    struct gyre_link groups; /* struct udp_group */
    uint32_t group_count;
    unsigned multicast_interface; /* of IPv4; 0: not chosen */
    int option[UDP_OPTION_COUNT];
};

/* A datagram on its way, then in a queue. One that nobody took is on its way back, as what an ICMP
 * error quotes. */
struct udp_datagram {
    struct gyre_link link;
    struct sim_event event;     /* its arrival */
    struct gyre_sim_host *at;   /* the host that it goes to */
    struct gyre_sim_host *host; /* that it comes from */
    struct udp_socket *sender;  /* held, and charged for it; NULL: nobody is any more */
    struct sim_ip from;
    struct sim_ip to;
    unsigned interface; /* where it arrives */
    int ttl;
    int tos;
    uint64_t burst; /* number of the call that sent it, if it sent several; 0 */
    uint64_t came_ns;
    uint32_t segment;  /* some were joined: the length of all but the last; 0 */
    uint32_t segments; /* how many */
    uint32_t drops;    /* that the queue had seen when it came */
    uint8_t refused;   /* on its way back */
    uint8_t strays;    /* others may overtake it */
    size_t len;
    uint8_t bytes[];
};

struct udp_error {
    struct gyre_link link;
    struct sock_extended_err what;
    struct sim_ip to;       /* of the datagram that it is about */
    struct sim_ip offender; /* who says it */
    size_t len;
    uint8_t bytes[]; /* of the datagram */
};

/* What to send, from where to where. */
struct udp_plan {
    struct sim_ip from;
    struct sim_ip to;
    unsigned interface; /* 0: as the address says */
    int ttl;
    int tos;
    uint32_t segment; /* 0: one datagram */
    uint8_t has_from; /* control data said so */
};

static inline struct udp_socket *udp_of(struct sim_socket *socket)
{
    return gyre_container_of(socket, struct udp_socket, socket);
}

static inline struct udp_socket *udp_of_file(struct sim_file *file)
{
    return gyre_container_of(file, struct udp_socket, socket.file);
}

static inline struct sim_ip udp_local(const struct udp_socket *self)
{
    struct sim_ip ip;

    gyre__sim_ip_read(&ip, (const struct sockaddr *)&self->binding.address);
    return ip;
}

static inline int udp_is_multicast(const struct sim_ip *ip)
{
    const uint8_t *bytes = ip->address.s6_addr;

    return gyre__sim_ip_is_v4(ip) ? bytes[12] >= 224 && bytes[12] < 240 : bytes[0] == 0xff;
}

static inline int udp_is_bound(const struct udp_socket *self)
{
    return self->binding.socket != NULL;
}

/* udp_net.c */

/* Whether it is the broadcast address of all, or of the network of one of the host's addresses: as
 * the simulation has it, the first three bytes. */
int gyre__sim_udp_is_broadcast(struct gyre_sim_host *host, const struct sim_ip *ip);

/* Send one datagram of @len bytes, to whoever it is for. */
void gyre__sim_udp_transmit(struct udp_socket *self, const struct udp_plan *plan, uint64_t burst,
                            const uint8_t *bytes, size_t len);

/* udp_option.c */

void gyre__sim_udp_options_init(struct udp_socket *self);
int gyre__sim_udp_setsockopt(struct sim_socket *socket, int level, int name, const void *value,
                             socklen_t len);
int gyre__sim_udp_getsockopt(struct sim_socket *socket, int level, int name, void *value,
                             socklen_t *len);
void gyre__sim_udp_leave_all(struct udp_socket *self);
int gyre__sim_udp_has_interface(const struct gyre_sim_host *host, unsigned interface);

/* Control data: what goes with a datagram that is sent, 0 or an error; and what comes with one. */
int gyre__sim_udp_read_control(struct udp_socket *self, const struct msghdr *msg,
                               struct udp_plan *plan);
void gyre__sim_udp_write_control(const struct udp_socket *self, struct msghdr *msg,
                                 const struct udp_datagram *datagram);
void gyre__sim_udp_write_error(const struct udp_socket *self, struct msghdr *msg,
                               const struct udp_error *error);

#endif
