/*
 * The network between hosts: who has an address, which ports are in use, and how long it takes from
 * one host to another.
 *
 * Addresses are kept in one form (struct sim_ip: IPv4 as IPv4-mapped IPv6), so that a dual-stack
 * socket and an IPv4 socket are compared alike. 127.0.0.0/8 and ::1 are the host's own, wherever it
 * is; the wildcard as a destination means loopback, as on Linux.
 *
 * A link is one direction between two hosts, made when it is first used. What is sent over it waits
 * for its turn (rate), travels (latency, jitter), and sometimes was lost once (the fault NET_DELAY).
 * The order of what belongs together is the protocol's business: two calls for one link may give
 * moments in the wrong order.
 */
#include "sim/world.h"

#include "base/assert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    PORT_COUNT = 1 << 16,
    /* net.ipv4.ip_local_port_range as Linux begins */
    EPHEMERAL_FIRST = 32768,
    EPHEMERAL_LAST = 60999,
    EPHEMERAL_COUNT = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1,
};

#define LATENCY_DEFAULT_NS (100 * GYRE_USEC)
#define LOST_ONCE_MAX_NS   (300 * GYRE_MSEC)

/* How many bindings and connections have a port. */
struct sim_ports {
    uint32_t tcp[PORT_COUNT];
    uint32_t udp[PORT_COUNT];
};

/* One direction between two hosts; on the list of the host where it begins. */
struct sim_link {
    struct gyre_link link;
    struct gyre_sim_host *to;
    struct gyre_sim_link options;
    uint64_t free_ns; /* with a rate: when what was sent before has left */
    uint8_t partitioned;
};

/* ---- addresses ---- */

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

void gyre__sim_ip_read(struct sim_ip *out_ip, const struct sockaddr *from)
{
    struct sockaddr_in in;
    struct sockaddr_in6 in6;

    if (from->sa_family == AF_INET) {
        memcpy(&in, from, sizeof(in));
        memcpy(out_ip->address.s6_addr, mapped_prefix, sizeof(mapped_prefix));
        memcpy(out_ip->address.s6_addr + 12, &in.sin_addr, 4);
        out_ip->port = ntohs(in.sin_port);
        return;
    }
    gyre_assert(from->sa_family == AF_INET6);
    memcpy(&in6, from, sizeof(in6));
    out_ip->address = in6.sin6_addr;
    out_ip->port = ntohs(in6.sin6_port);
}

int gyre__sim_ip_is_v4(const struct sim_ip *ip)
{
    return memcmp(ip->address.s6_addr, mapped_prefix, sizeof(mapped_prefix)) == 0;
}

int gyre__sim_ip_is_any(const struct sim_ip *ip)
{
    static const uint8_t zeroes[16];
    const size_t from = gyre__sim_ip_is_v4(ip) ? 12 : 0;

    return memcmp(ip->address.s6_addr + from, zeroes, sizeof(zeroes) - from) == 0;
}

int gyre__sim_ip_is_loopback(const struct sim_ip *ip)
{
    return gyre__sim_ip_is_v4(ip) ? ip->address.s6_addr[12] == 127
                                  : IN6_IS_ADDR_LOOPBACK(&ip->address);
}

int gyre__sim_ip_same(const struct sim_ip *a, const struct sim_ip *b)
{
    return memcmp(&a->address, &b->address, sizeof(a->address)) == 0;
}

socklen_t gyre__sim_ip_write(const struct sim_ip *ip, int family, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (family == AF_INET) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(ip->port)};

        memcpy(&in.sin_addr, ip->address.s6_addr + 12, 4);
        memcpy(out, &in, sizeof(in));
        return sizeof(in);
    }
    const struct sockaddr_in6 in6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(ip->port), .sin6_addr = ip->address};

    memcpy(out, &in6, sizeof(in6));
    return sizeof(in6);
}

static void write_loopback(struct sim_ip *ip)
{
    if (gyre__sim_ip_is_v4(ip)) {
        memcpy(ip->address.s6_addr + 12, (const uint8_t[4]){127, 0, 0, 1}, 4);
    } else {
        ip->address = in6addr_loopback;
    }
}

/* The host's own address number @index. */
static struct sim_ip own_address(const struct gyre_sim_host *host, uint32_t index)
{
    struct sim_ip ip;

    gyre__sim_ip_read(&ip, (const struct sockaddr *)&host->address[index]);
    return ip;
}

/* Loopback apart, which all have. */
static int has_name(const struct gyre_sim_host *host, const struct sim_ip *ip)
{
    for (uint32_t i = 0; i < host->address_count; i++) {
        const struct sim_ip own = own_address(host, i);

        if (gyre__sim_ip_same(&own, ip)) {
            return 1;
        }
    }
    return 0;
}

static int has_address(const struct gyre_sim_host *host, const struct sim_ip *ip)
{
    return gyre__sim_ip_is_loopback(ip) || has_name(host, ip);
}

int gyre__sim_host_has(const struct gyre_sim_host *host, const struct sockaddr *address)
{
    struct sim_ip ip;

    gyre__sim_ip_read(&ip, address);
    return has_name(host, &ip);
}

struct gyre_sim_host *gyre__sim_route(struct gyre_sim_host *from, const struct sockaddr *to)
{
    struct gyre_link *const hosts = &from->sim->hosts;
    struct sim_ip ip;

    if (to->sa_family != AF_INET && to->sa_family != AF_INET6) {
        return NULL;
    }
    gyre__sim_ip_read(&ip, to);
    if (gyre__sim_ip_is_any(&ip) || has_address(from, &ip)) {
        return from;
    }
    for (struct gyre_link *link = hosts->next; link != hosts; link = link->next) {
        struct gyre_sim_host *host = gyre_container_of(link, struct gyre_sim_host, link);

        if (has_name(host, &ip)) {
            return host;
        }
    }
    return NULL;
}

int gyre__sim_source(struct gyre_sim_host *from, struct sim_ip *to, struct sim_ip *out_source)
{
    if (gyre__sim_ip_is_any(to)) {
        write_loopback(to);
    }
    *out_source = *to;
    out_source->port = 0;
    if (gyre__sim_ip_is_loopback(to)) {
        write_loopback(out_source);
        return 0;
    }
    if (has_address(from, to)) {
        return 0;
    }
    for (uint32_t i = 0; i < from->address_count; i++) {
        const struct sim_ip own = own_address(from, i);

        if (gyre__sim_ip_is_v4(&own) == gyre__sim_ip_is_v4(to)) {
            out_source->address = own.address;
            return 0;
        }
    }
    return -ENETUNREACH;
}

/* ---- links ---- */

static struct sim_link *link_to(struct gyre_sim_host *from, struct gyre_sim_host *to)
{
    struct sim_link *new_one;

    for (struct gyre_link *link = from->links.next; link != &from->links; link = link->next) {
        struct sim_link *one = gyre_container_of(link, struct sim_link, link);

        if (one->to == to) {
            return one;
        }
    }
    new_one = gyre__sim_alloc(sizeof(*new_one));
    new_one->to = to;
    new_one->options.latency_ns = LATENCY_DEFAULT_NS;
    gyre__list_append(&from->links, &new_one->link);
    return new_one;
}

/* When @len bytes have left: after those before them, at the rate of the link. */
static uint64_t time_of_leaving(struct sim_link *link, uint64_t now_ns, size_t len)
{
    const uint64_t rate = link->options.bytes_per_second;

    if (rate == 0) {
        return now_ns;
    }
    link->free_ns = link->free_ns > now_ns ? link->free_ns : now_ns;
    link->free_ns += len * GYRE_SEC / rate;
    return link->free_ns;
}

uint64_t gyre__sim_transit(struct gyre_sim_host *from, struct gyre_sim_host *to, size_t len)
{
    struct gyre_sim *sim = from->sim;
    const uint64_t now_ns = gyre__sim_now(sim);
    struct sim_link *link;
    uint64_t when_ns;

    if (from == to) {
        return now_ns + from->loopback_ns;
    }
    link = link_to(from, to);
    if (link->partitioned) {
        return UINT64_MAX;
    }
    when_ns = time_of_leaving(link, now_ns, len) + link->options.latency_ns;
    if (link->options.jitter_ns > 0) {
        when_ns += gyre__sim_below(sim, link->options.jitter_ns + 1);
    }
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_NET_DELAY)) {
        when_ns += 1 + gyre__sim_below(sim, LOST_ONCE_MAX_NS);
    }
    return when_ns;
}

static void set_link(struct sim_link *link, const struct gyre_sim_link *options)
{
    link->options = *options;
    if (options->latency_ns == 0) {
        link->options.latency_ns = LATENCY_DEFAULT_NS;
    }
}

int gyre_sim_link(struct gyre_sim_host *a, struct gyre_sim_host *b,
                  const struct gyre_sim_link *link)
{
    if (a == NULL || b == NULL || a == b || a->sim != b->sim || link == NULL ||
        link->jitter_ns == UINT64_MAX) {
        return -EINVAL;
    }
    set_link(link_to(a, b), link);
    set_link(link_to(b, a), link);
    return 0;
}

void gyre_sim_partition(struct gyre_sim_host *a, struct gyre_sim_host *b, int on)
{
    gyre_assert(a != NULL && b != NULL && a != b && a->sim == b->sim);
    gyre__sim_trace(a->sim, "net %s %s: %s", a->name, b->name, on ? "parted" : "joined");
    link_to(a, b)->partitioned = on != 0;
    link_to(b, a)->partitioned = on != 0;
}

static void drop_links(struct gyre_sim_host *host, const struct gyre_sim_host *to)
{
    for (struct gyre_link *link = host->links.next, *next; link != &host->links; link = next) {
        struct sim_link *one = gyre_container_of(link, struct sim_link, link);

        next = link->next;
        if (to == NULL || one->to == to) {
            gyre__list_remove(link);
            free(one);
        }
    }
}

void gyre__sim_net_free(struct gyre_sim_host *host)
{
    struct gyre_link *const hosts = &host->sim->hosts;

    drop_links(host, NULL);
    for (struct gyre_link *link = hosts->next; link != hosts; link = link->next) {
        drop_links(gyre_container_of(link, struct gyre_sim_host, link), host);
    }
    free(host->ports);
    host->ports = NULL;
}

/* ---- ports ---- */

static uint32_t *port_users(struct gyre_sim_host *host, int protocol, uint16_t port)
{
    if (host->ports == NULL) {
        host->ports = gyre__sim_alloc(sizeof(*host->ports));
    }
    return protocol == IPPROTO_TCP ? &host->ports->tcp[port] : &host->ports->udp[port];
}

void gyre__sim_port_hold(struct gyre_sim_host *host, int protocol, uint16_t port)
{
    ++*port_users(host, protocol, port);
}

void gyre__sim_port_drop(struct gyre_sim_host *host, int protocol, uint16_t port)
{
    uint32_t *users;

    if (host->ports == NULL) {
        return; /* the world ends */
    }
    users = port_users(host, protocol, port);
    gyre_assert(*users > 0);
    --*users;
}

/* A port of the ephemeral range that nobody has: at random, and from there the next. 0: none. */
static uint16_t pick_port(struct gyre_sim_host *host, int protocol)
{
    const uint64_t first = gyre__sim_below(host->sim, EPHEMERAL_COUNT);

    for (uint64_t i = 0; i < EPHEMERAL_COUNT; i++) {
        const uint16_t port = (uint16_t)(EPHEMERAL_FIRST + (first + i) % EPHEMERAL_COUNT);

        if (*port_users(host, protocol, port) == 0) {
            return port;
        }
    }
    return 0;
}

/* ---- binding ---- */

/* Whether both sockets would get what comes to one address: they have the same, or one has the
 * wildcard, and that takes the other's kind too. */
static int overlaps(const struct sim_socket *a, const struct sim_ip *ip_a,
                    const struct sim_socket *b, const struct sim_ip *ip_b)
{
    const int v4_a = gyre__sim_ip_is_v4(ip_a);
    const int v4_b = gyre__sim_ip_is_v4(ip_b);

    if (v4_a == v4_b) {
        return gyre__sim_ip_is_any(ip_a) || gyre__sim_ip_is_any(ip_b) ||
               gyre__sim_ip_same(ip_a, ip_b);
    }
    return v4_a ? gyre__sim_ip_is_any(ip_b) && !b->v6only : gyre__sim_ip_is_any(ip_a) && !a->v6only;
}

/* What inet_csk_bind_conflict() and its like of UDP let pass. */
static int may_share(const struct sim_socket *a, const struct sim_socket *b)
{
    return (a->reuse_address && b->reuse_address && !b->listening) ||
           (a->reuse_port && b->reuse_port);
}

static int is_taken(const struct sim_socket *socket, int protocol, const struct sim_ip *ip)
{
    struct gyre_sim_host *host = socket->file.host;
    const struct gyre_link *const bindings = &host->bindings;

    if (*port_users(host, protocol, ip->port) == 0) {
        return 0;
    }
    for (const struct gyre_link *link = bindings->next; link != bindings; link = link->next) {
        const struct sim_binding *other = gyre_container_of(link, struct sim_binding, link);
        struct sim_ip other_ip;

        if (other->protocol != protocol || other->socket == socket) {
            continue;
        }
        gyre__sim_ip_read(&other_ip, (const struct sockaddr *)&other->address);
        if (other_ip.port == ip->port && overlaps(socket, ip, other->socket, &other_ip) &&
            !may_share(socket, other->socket)) {
            return 1;
        }
    }
    return protocol == IPPROTO_TCP && gyre__sim_tcp_holds(host, ip, socket->reuse_address);
}

/* Multicast and broadcast: can be bound to. */
static int is_group(const struct sim_ip *ip)
{
    const uint8_t *bytes = ip->address.s6_addr + 12;

    if (!gyre__sim_ip_is_v4(ip)) {
        return IN6_IS_ADDR_MULTICAST(&ip->address);
    }
    return (bytes[0] & 0xf0) == 0xe0 || (bytes[0] & bytes[1] & bytes[2] & bytes[3]) == 0xff;
}

/* What bind(2) says of an address before it looks at ports. */
static int check_address(const struct sim_socket *socket, const struct sockaddr *address,
                         socklen_t len, struct sim_ip *out_ip)
{
    const int v6 = socket->family == AF_INET6;

    if (len < (v6 ? (socklen_t)offsetof(struct sockaddr_in6, sin6_scope_id)
                  : (socklen_t)sizeof(struct sockaddr_in))) {
        return -EINVAL;
    }
    if (address->sa_family != socket->family) {
        return -EAFNOSUPPORT;
    }
    gyre__sim_ip_read(out_ip, address);
    if (v6 && socket->v6only && gyre__sim_ip_is_v4(out_ip)) {
        return -EINVAL;
    }
    if (gyre__sim_ip_is_any(out_ip) || has_address(socket->file.host, out_ip)) {
        return 0;
    }
    return is_group(out_ip) ? 0 : -EADDRNOTAVAIL;
}

int gyre__sim_bind(struct sim_socket *socket, struct sim_binding *binding, int protocol,
                   const struct sockaddr *address, socklen_t len)
{
    struct gyre_sim_host *host = socket->file.host;
    struct sim_ip ip;
    int rc;

    if (binding->socket != NULL) {
        return -EINVAL;
    }
    rc = check_address(socket, address, len, &ip);
    if (rc < 0) {
        return rc;
    }
    if (ip.port == 0) {
        ip.port = pick_port(host, protocol);
        rc = ip.port != 0 ? 0 : -EADDRINUSE;
    } else {
        rc = is_taken(socket, protocol, &ip) ? -EADDRINUSE : 0;
    }
    if (rc < 0) {
        return rc;
    }
    binding->socket = socket;
    binding->protocol = protocol;
    binding->len = gyre__sim_ip_write(&ip, socket->family, &binding->address);
    gyre__list_append(&host->bindings, &binding->link);
    gyre__sim_port_hold(host, protocol, ip.port);
    return 0;
}

int gyre__sim_bind_again(const struct sim_binding *binding)
{
    struct sim_ip ip;

    gyre_assert(binding->socket != NULL);
    gyre__sim_ip_read(&ip, (const struct sockaddr *)&binding->address);
    return is_taken(binding->socket, binding->protocol, &ip) ? -EADDRINUSE : 0;
}

void gyre__sim_unbind(struct sim_binding *binding)
{
    struct sim_ip ip;

    if (binding->socket == NULL) {
        return;
    }
    gyre__sim_ip_read(&ip, (const struct sockaddr *)&binding->address);
    gyre__sim_port_drop(binding->socket->file.host, binding->protocol, ip.port);
    gyre__list_remove(&binding->link);
    binding->socket = NULL;
}
