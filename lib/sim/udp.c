/*
 * Simulated UDP over IPv4 and IPv6. A socket has no states but these:
 *
 *     unbound --bind(), or the first connect() or send()--> bound --connect()--> connected
 *                                                             ^                      |
 *                                                             +---connect(AF_UNSPEC)-+
 *
 * Addresses are kept as struct sim_ip, IPv4 in its IPv6 form, so that IPv4 and a dual-stack IPv6
 * socket are one thing. What was sent is on its way until it arrives or is lost: see udp_net.c.
 * Options and control data are in udp_option.c.
 */
#include "sim/udp.h"
#include "sim/charge.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

enum {
    LEN_MAX = 65535,
    LEN_MAX_V4 = 65507, /* less the headers of IPv4 and UDP */
    LEN_MAX_V6 = 65527, /* IPv6 does not count its own header */
    MTU = 1500,
    MTU_LOOPBACK = 65536,
    HEADERS_V4 = 28,
    HEADERS_V6 = 48,
    SEGMENTS_MAX = 128, /* UDP_MAX_SEGMENTS */
    IN6_LEAST = 24,     /* struct sockaddr_in6 before it had a scope */
};

static const uint32_t wake_all =
    EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

static const struct sim_file_ops udp_file_ops;
static const struct sim_socket_ops udp_ops;

static unsigned long long id_of(const struct udp_socket *self)
{
    return (unsigned long long)self->socket.file.id;
}

int gyre__sim_udp_make(struct gyre_sim_host *host, int family, struct sim_socket **out_socket)
{
    struct udp_socket *self = gyre__sim_socket_new(host, &udp_file_ops, &udp_ops, sizeof(*self));

    self->socket.family = family;
    self->socket.type = SOCK_DGRAM;
    self->socket.protocol = IPPROTO_UDP;
    gyre__list_init(&self->binding.link);
    gyre__list_init(&self->queue);
    gyre__list_init(&self->errors);
    gyre__list_init(&self->groups);
    gyre__sim_udp_options_init(self);
    *out_socket = &self->socket;
    return 0;
}

/* ---- bind ---- */

static int udp_bind(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct udp_socket *self = udp_of(socket);
    struct sim_ip asked;
    struct sim_ip local;
    int rc;

    if (len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    rc = gyre__sim_bind(socket, &self->binding, IPPROTO_UDP, address, len);
    if (rc < 0) {
        return rc;
    }
    gyre__sim_ip_read(&asked, address);
    local = udp_local(self);
    self->keeps_port = asked.port != 0;
    self->keeps_address = !gyre__sim_ip_is_any(&local);
    gyre__sim_trace(socket->file.sim, "udp #%llu bind %u", id_of(self), (unsigned)local.port);
    return 0;
}

/* To a port of the ephemeral range, if it has none. */
static int autobind(struct udp_socket *self)
{
    struct sockaddr_storage any = {.ss_family = (sa_family_t)self->socket.family};

    if (udp_is_bound(self)) {
        return 0;
    }
    self->keeps_port = 0;
    self->keeps_address = 0;
    return gyre__sim_bind(&self->socket, &self->binding, IPPROTO_UDP, (const struct sockaddr *)&any,
                          self->socket.family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                          : sizeof(struct sockaddr_in)) < 0
               ? -EAGAIN
               : 0;
}

static void set_local(struct udp_socket *self, const struct in6_addr *address)
{
    struct sim_ip local = udp_local(self);

    local.address = *address;
    self->binding.len = gyre__sim_ip_write(&local, self->socket.family, &self->binding.address);
}

/* ---- where to and where from ---- */

/* An address that the socket's family takes. */
static int read_address(const struct udp_socket *self, const struct sockaddr *address,
                        socklen_t len, struct sim_ip *out_ip)
{
    const int v6 = address->sa_family == AF_INET6;

    if (len < (v6 ? (socklen_t)IN6_LEAST : (socklen_t)sizeof(struct sockaddr_in))) {
        return -EINVAL;
    }
    if (address->sa_family != AF_INET && !(v6 && self->socket.family == AF_INET6)) {
        return self->socket.family == AF_INET6 ? -EINVAL : -EAFNOSUPPORT;
    }
    gyre__sim_ip_read(out_ip, address);
    return self->socket.v6only && gyre__sim_ip_is_v4(out_ip) ? -ENETUNREACH : 0;
}

/* The interface that a group's datagrams leave by, if nothing says which. */
static unsigned multicast_interface(const struct udp_socket *self, const struct sim_ip *to)
{
    const unsigned chosen = gyre__sim_ip_is_v4(to)
                                ? self->multicast_interface
                                : (unsigned)self->option[UDP_OPTION_MULTICAST_IF6];

    return chosen != 0 ? chosen : UDP_ETHERNET;
}

static void loopback_of(const struct sim_ip *to, struct sim_ip *out_ip)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    gyre__sim_ip_read(out_ip, (const struct sockaddr *)&in);
    if (!gyre__sim_ip_is_v4(to)) {
        out_ip->address = in6addr_loopback;
    }
}

/* The address that the network gives for @plan->to, if the socket and the caller name none. */
static int choose_source(struct udp_socket *self, struct udp_plan *plan)
{
    const struct sim_ip local = udp_local(self);
    struct sim_ip source = {0};
    const int rc = gyre__sim_source(self->socket.file.host, &plan->to, &source);

    if (rc < 0 && udp_is_multicast(&plan->to) && plan->interface == UDP_LOOPBACK) {
        loopback_of(&plan->to, &source); /* Linux takes one with more than the host's scope first */
    } else if (rc < 0) {
        return rc;
    }
    if (!plan->has_from && !gyre__sim_ip_is_any(&local) && !udp_is_multicast(&local) &&
        !gyre__sim_udp_is_broadcast(self->socket.file.host, &local)) {
        plan->from.address = local.address;
        plan->has_from = 1;
    }
    if (!plan->has_from) {
        plan->from.address = source.address;
    }
    plan->from.port = local.port;
    return 0;
}

/* Whether a datagram may go this way: 0 or an error. */
static int check_route(struct udp_socket *self, struct udp_plan *plan)
{
    struct gyre_sim_host *host = self->socket.file.host;
    struct sockaddr_storage to;
    int rc;

    if (udp_is_multicast(&plan->to) && plan->interface == 0) {
        plan->interface = multicast_interface(self, &plan->to);
    }
    rc = choose_source(self, plan);
    if (rc < 0) {
        return rc;
    }
    if (gyre__sim_ip_is_v4(&plan->from) != gyre__sim_ip_is_v4(&plan->to)) {
        return -ENETUNREACH;
    }
    if (gyre__sim_udp_is_broadcast(host, &plan->to)) {
        return gyre__sim_socket_option(&self->socket, SOL_SOCKET, SO_BROADCAST, 0) ? 0 : -EACCES;
    }
    gyre__sim_ip_write(&plan->to, AF_INET6, &to);
    if (gyre__sim_ip_is_loopback(&plan->from) && !udp_is_multicast(&plan->to) &&
        gyre__sim_route(host, (const struct sockaddr *)&to) != host) {
        return -EINVAL; /* a loopback address never leaves its host */
    }
    return 0;
}

/* ---- connect ---- */

static void set_any(struct udp_socket *self)
{
    static const struct in6_addr any_v4 = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

    set_local(self, self->socket.family == AF_INET ? &any_v4 : &in6addr_any);
}

static int fits_local(const struct udp_socket *self, const struct sim_ip *to)
{
    const struct sim_ip local = udp_local(self);

    return self->keeps_address || gyre__sim_ip_is_any(&local) ||
           gyre__sim_ip_is_v4(&local) == gyre__sim_ip_is_v4(to);
}

/* What connect() has chosen goes; what bind() has named stays. */
static void disconnect(struct udp_socket *self)
{
    self->connected = 0;
    self->socket.error = 0;
    if (!udp_is_bound(self)) {
        return;
    }
    if (!self->keeps_address) {
        set_any(self);
    }
    if (!self->keeps_port) {
        gyre__sim_unbind(&self->binding);
    }
}

static int udp_connect(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct udp_socket *self = udp_of(socket);
    struct udp_plan plan = {0};
    int rc;

    if (len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    if (address->sa_family == AF_UNSPEC) {
        disconnect(self);
        return 0;
    }
    rc = autobind(self);
    rc = rc < 0 ? rc : read_address(self, address, len, &plan.to);
    if ((rc == -EINVAL && len >= IN6_LEAST) ||
        (rc == -ENETUNREACH && address->sa_family == AF_INET)) {
        rc = -EAFNOSUPPORT;
    }
    if (rc == 0 && !fits_local(self, &plan.to)) {
        set_any(self); /* the last connect() has chosen it */
    }
    rc = rc < 0 ? rc : check_route(self, &plan);
    if (rc < 0) {
        return rc;
    }
    set_local(self, &plan.from.address);
    self->peer = plan.to;
    self->connected = 1;
    gyre__sim_trace(socket->file.sim, "udp #%llu connects to port %u", id_of(self),
                    (unsigned)plan.to.port);
    return 0;
}

/* ---- send ---- */

static int read_destination(const struct udp_socket *self, const struct msghdr *msg,
                            struct udp_plan *plan)
{
    const struct sockaddr *address = msg->msg_name;
    struct sockaddr_in in;
    int rc;

    if (address == NULL || msg->msg_namelen == 0 ||
        (self->socket.family == AF_INET6 && msg->msg_namelen >= sizeof(sa_family_t) &&
         address->sa_family == AF_UNSPEC)) {
        plan->to = self->peer;
        return self->connected ? 0 : -EDESTADDRREQ;
    }
    if (msg->msg_namelen < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    if (address->sa_family == AF_UNSPEC && msg->msg_namelen >= sizeof(in)) {
        memcpy(&in, address, sizeof(in)); /* old programs leave the family out */
        in.sin_family = AF_INET;
        rc = read_address(self, (const struct sockaddr *)&in, sizeof(in), &plan->to);
    } else {
        rc = read_address(self, address, msg->msg_namelen, &plan->to);
    }
    return rc == 0 && plan->to.port == 0 ? -EINVAL : rc;
}

/* Whether segments of this length fit the interface, and are not too many. */
static int check_segments(const struct udp_socket *self, const struct udp_plan *plan, size_t len)
{
    const int v4 = gyre__sim_ip_is_v4(&plan->to);
    struct gyre_sim_host *host = self->socket.file.host;
    struct sockaddr_storage to;
    size_t mtu = MTU;

    gyre__sim_ip_write(&plan->to, AF_INET6, &to);
    if (gyre__sim_route(host, (const struct sockaddr *)&to) == host) {
        mtu = MTU_LOOPBACK;
    }
    if (plan->segment == 0) {
        return 0;
    }
    if ((len < plan->segment ? len : plan->segment) + (v4 ? HEADERS_V4 : HEADERS_V6) > mtu) {
        return -EMSGSIZE;
    }
    return len > (size_t)plan->segment * SEGMENTS_MAX ? -EINVAL : 0;
}

static void set_hops(const struct udp_socket *self, struct udp_plan *plan)
{
    const int v4 = gyre__sim_ip_is_v4(&plan->to);
    enum udp_option hops = v4 ? UDP_OPTION_TTL : UDP_OPTION_HOPS;

    if (udp_is_multicast(&plan->to)) {
        hops = v4 ? UDP_OPTION_MULTICAST_TTL : UDP_OPTION_MULTICAST_HOPS;
    }
    plan->ttl = plan->ttl >= 0 ? plan->ttl : self->option[hops];
    plan->tos = plan->tos >= 0 ? plan->tos : self->option[v4 ? UDP_OPTION_TOS : UDP_OPTION_TCLASS];
}

static int make_plan(struct udp_socket *self, const struct msghdr *msg, struct udp_plan *plan)
{
    int rc;

    *plan = (struct udp_plan){
        .ttl = -1, .tos = -1, .segment = (uint32_t)self->option[UDP_OPTION_SEGMENT]};
    rc = read_destination(self, msg, plan);
    rc = rc < 0 ? rc : gyre__sim_udp_read_control(self, msg, plan);
    rc = rc < 0 ? rc : check_route(self, plan);
    if (rc == 0) {
        set_hops(self, plan);
    }
    return rc;
}

/* Whether there is room to send: 0, the pending error, -EPIPE or -EAGAIN. */
static int check_room(struct udp_socket *self)
{
    const int rc = gyre__sim_socket_error(&self->socket);

    if (rc < 0) {
        return rc;
    }
    if (self->shut & UDP_SEND_SHUT) {
        return -EPIPE;
    }
    if (self->memory >= self->socket.send_buffer) {
        gyre__sim_sometimes(self->socket.file.sim, GYRE_SIM_PATH_SEND_BLOCKED);
        return -EAGAIN;
    }
    return 0;
}

static void transmit(struct udp_socket *self, const struct udp_plan *plan, const struct msghdr *msg,
                     size_t len)
{
    const size_t segment = plan->segment != 0 ? plan->segment : len;
    uint8_t *bytes = gyre__sim_alloc(len + 1);
    const uint64_t burst = len > segment ? ++self->socket.file.host->inodes : 0;
    size_t sent = 0;

    gyre__sim_gather(msg->msg_iov, msg->msg_iovlen, 0, bytes, len);
    do {
        const size_t part = len - sent < segment ? len - sent : segment;

        gyre__sim_udp_transmit(self, plan, burst, bytes + sent, part);
        sent += part;
    } while (sent < len);
    free(bytes);
}

static ssize_t udp_send(struct sim_socket *socket, const struct msghdr *msg, int flags)
{
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct udp_socket *self = udp_of(socket);
    struct udp_plan plan;
    int rc = autobind(self);

    if (rc == 0 && len > LEN_MAX) {
        rc = -EMSGSIZE;
    }
    if (rc == 0 && (flags & MSG_OOB)) {
        rc = -EOPNOTSUPP;
    }
    rc = rc < 0 ? rc : make_plan(self, msg, &plan);
    if (rc == 0 && len > (gyre__sim_ip_is_v4(&plan.to) ? LEN_MAX_V4 : LEN_MAX_V6)) {
        rc = -EMSGSIZE;
    }
    rc = rc < 0 ? rc : check_room(self);
    rc = rc < 0 ? rc : check_segments(self, &plan, len);
    if (rc < 0) {
        return rc;
    }
    transmit(self, &plan, msg, len);
    return (ssize_t)len;
}

/* ---- receive ---- */

static struct udp_datagram *first_of(const struct udp_socket *self)
{
    return gyre__list_empty(&self->queue)
               ? NULL
               : gyre_container_of(self->queue.next, struct udp_datagram, link);
}

static struct udp_error *first_error(const struct udp_socket *self)
{
    return gyre__list_empty(&self->errors)
               ? NULL
               : gyre_container_of(self->errors.next, struct udp_error, link);
}

static void free_first(struct udp_socket *self)
{
    struct udp_datagram *datagram = first_of(self);

    gyre__list_remove(&datagram->link);
    self->queue_memory -= gyre__sim_charge(datagram->len);
    free(datagram);
}

static void free_error(struct udp_socket *self)
{
    struct udp_error *error = first_error(self);

    gyre__list_remove(&error->link);
    self->queue_memory -= gyre__sim_charge(error->len);
    free(error);
}

/* Copies the bytes; returns how many there was room for. */
static size_t put_bytes(struct msghdr *msg, const uint8_t *bytes, size_t len)
{
    const size_t room = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);

    if (room < len) {
        msg->msg_flags |= MSG_TRUNC;
    }
    return gyre__sim_scatter(msg->msg_iov, msg->msg_iovlen, 0, bytes, room < len ? room : len);
}

static void put_address(const struct udp_socket *self, struct msghdr *msg, const struct sim_ip *ip)
{
    struct sockaddr_storage address;
    const socklen_t len = gyre__sim_ip_write(ip, self->socket.family, &address);

    gyre__sim_put_name(msg, &address, len);
}

/* The pending error is that of the queue's first; taking one out may tell of the next. */
static ssize_t receive_error(struct udp_socket *self, struct msghdr *msg)
{
    const struct udp_error *error = first_error(self);
    size_t len;

    if (error == NULL) {
        return -EAGAIN;
    }
    msg->msg_flags |= MSG_ERRQUEUE;
    len = put_bytes(msg, error->bytes, error->len);
    put_address(self, msg, &error->to);
    gyre__sim_udp_write_error(self, msg, error);
    free_error(self);
    error = first_error(self);
    self->socket.error = error != NULL ? (int)error->what.ee_errno : 0;
    if (error != NULL) {
        gyre__sim_file_wake(&self->socket.file, EPOLLERR);
    }
    return (ssize_t)len;
}

static ssize_t udp_recv(struct sim_socket *socket, struct msghdr *msg, int flags)
{
    struct udp_socket *self = udp_of(socket);
    const struct udp_datagram *datagram = first_of(self);
    size_t len;
    int rc;

    msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
    if (flags & MSG_ERRQUEUE) {
        return receive_error(self, msg);
    }
    rc = gyre__sim_socket_error(socket);
    if (rc < 0) {
        return rc;
    }
    if (datagram == NULL) {
        const int blocks = !(flags & MSG_DONTWAIT) && !(socket->file.flags & O_NONBLOCK);

        if (!blocks || !(self->shut & UDP_RECEIVE_SHUT)) {
            return -EAGAIN;
        }
        msg->msg_namelen = 0;
        msg->msg_controllen = 0;
        return 0;
    }
    len = put_bytes(msg, datagram->bytes, datagram->len);
    len = flags & MSG_TRUNC ? datagram->len : len;
    put_address(self, msg, &datagram->from);
    gyre__sim_udp_write_control(self, msg, datagram);
    gyre__sim_trace(socket->file.sim, "udp #%llu receives %zu", id_of(self), len);
    if (!(flags & MSG_PEEK)) {
        free_first(self);
    }
    return (ssize_t)len;
}

/* ---- the end ---- */

/* One that is not connected is shut down all the same, and told that it is not connected. */
static int udp_shutdown(struct sim_socket *socket, int how)
{
    struct udp_socket *self = udp_of(socket);

    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    self->shut |= (uint8_t)(how + 1);
    gyre__sim_file_wake(&socket->file, wake_all);
    return self->connected ? 0 : -ENOTCONN;
}

static void udp_release(struct sim_file *file)
{
    struct udp_socket *self = udp_of_file(file);

    gyre__sim_trace(file->sim, "udp #%llu closed", id_of(self));
    gyre__sim_udp_leave_all(self);
    gyre__sim_unbind(&self->binding);
    self->connected = 0;
    self->shut = UDP_SHUT;
    while (!gyre__list_empty(&self->queue)) {
        free_first(self);
    }
    while (!gyre__list_empty(&self->errors)) {
        free_error(self);
    }
}

/* One that never had a descriptor was not released. */
static void udp_destroy(struct sim_file *file)
{
    struct udp_socket *self = udp_of_file(file);

    if (self->shut != UDP_SHUT || udp_is_bound(self)) {
        udp_release(file);
    }
}

/* ---- the rest ---- */

static uint32_t udp_poll(struct sim_file *file)
{
    const struct udp_socket *self = udp_of_file(file);
    uint32_t events = 0;

    events |= self->socket.error != 0 || !gyre__list_empty(&self->errors) ? EPOLLERR : 0;
    events |= self->shut & UDP_RECEIVE_SHUT ? EPOLLRDHUP | EPOLLIN | EPOLLRDNORM : 0;
    events |= self->shut == UDP_SHUT ? EPOLLHUP : 0;
    events |= !gyre__list_empty(&self->queue) ? EPOLLIN | EPOLLRDNORM : 0;
    events |=
        self->memory < self->socket.send_buffer / 2 ? EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND : 0;
    return events;
}

static int udp_name(struct sim_socket *socket, int peer, struct sockaddr_storage *address,
                    socklen_t *len)
{
    const struct udp_socket *self = udp_of(socket);

    if (peer) {
        if (!self->connected) {
            return -ENOTCONN;
        }
        *len = gyre__sim_ip_write(&self->peer, socket->family, address);
        return 0;
    }
    memset(address, 0, sizeof(*address));
    address->ss_family = (sa_family_t)socket->family;
    *len = socket->family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (udp_is_bound(self)) {
        *address = self->binding.address;
        *len = self->binding.len;
    }
    return 0;
}

static int udp_ioctl(struct sim_file *file, unsigned long what, void *argument)
{
    const struct udp_socket *self = udp_of_file(file);
    const struct udp_datagram *datagram = first_of(self);
    int value;

    if (what == SIOCOUTQ) {
        value = (int)self->memory;
    } else if (what == SIOCINQ) {
        value = datagram != NULL ? (int)datagram->len : 0;
    } else {
        return -ENOTTY;
    }
    memcpy(argument, &value, sizeof(value));
    return 0;
}

static const struct sim_file_ops udp_file_ops = {
    .name = "udp",
    .poll = udp_poll,
    .release = udp_release,
    .destroy = udp_destroy,
    .read = gyre__sim_socket_read,
    .write = gyre__sim_socket_write,
    .ioctl = udp_ioctl,
};

static const struct sim_socket_ops udp_ops = {
    .bind = udp_bind,
    .connect = udp_connect,
    .shutdown = udp_shutdown,
    .send = udp_send,
    .recv = udp_recv,
    .name = udp_name,
    .setsockopt = gyre__sim_udp_setsockopt,
    .getsockopt = gyre__sim_udp_getsockopt,
};
