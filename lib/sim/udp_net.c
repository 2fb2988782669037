/*
 * Datagrams on their way: sent, lost, delayed, delivered, refused.
 *
 *     transmit() --one for each host that it is for--> launch() --lost--> nowhere
 *                                                         |
 *                                                     on its way (on the list of the host)
 *                                                         |
 *                    arrive() --a socket has the port--> its queue, or dropped if that is full
 *                       |
 *                       +--nobody has--> on its way back, refused: an error of the sender's socket
 *
 * Between two hosts datagrams keep their order, whatever the jitter, unless a fault has one stray.
 * The sender is charged for a datagram until it has arrived, as if the network card would say only
 * then that it was sent; within a host it is not charged, as with the loopback of Linux.
 */
#include "sim/charge.h"
#include "sim/udp.h"
#include "sim/world.h"

enum {
    HEADER_LEN = 28, /* IPv4 and UDP */
    QUOTE_LEN = 520, /* of the datagram, in an ICMP error */
    JOINED_MAX = 64, /* datagrams in one, by the network card */
    LEN_MAX = 65535,
    SCORE_FAMILY = 1,
    SCORE_ADDRESS = 4,
    SCORE_PEER = 8,
};

#define STRAY_MAX_NS (5 * GYRE_MSEC)
#define JOIN_NS      (50 * GYRE_USEC) /* as long as a network card collects before it interrupts */

static const uint32_t wake_in = EPOLLIN | EPOLLRDNORM;
static const uint32_t wake_out = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;

static unsigned long long id_of(const struct udp_socket *self)
{
    return (unsigned long long)self->socket.file.id;
}

/* ---- on its way ---- */

static void discharge(struct udp_datagram *datagram)
{
    struct udp_socket *sender = datagram->sender;

    if (sender == NULL) {
        return;
    }
    datagram->sender = NULL;
    sender->memory -= gyre__sim_charge(datagram->len);
    if (udp_is_bound(sender) && sender->memory * 2 <= sender->socket.send_buffer) {
        gyre__sim_file_wake(&sender->socket.file, wake_out);
    }
    gyre__sim_file_put(&sender->socket.file);
}

static void drop(struct udp_datagram *datagram)
{
    gyre__sim_unschedule(datagram->at->sim, &datagram->event);
    gyre__list_remove(&datagram->link);
    discharge(datagram);
    free(datagram);
}

static struct udp_datagram *datagram_of(struct gyre_link *link)
{
    return gyre_container_of(link, struct udp_datagram, link);
}

/* All that is on its way to the host, or only what comes from another. */
static void drop_all(struct gyre_sim_host *at, const struct gyre_sim_host *from)
{
    struct gyre_link *next;

    for (struct gyre_link *link = at->datagrams.next; link != &at->datagrams; link = next) {
        next = link->next;
        if (from == NULL || datagram_of(link)->host == from) {
            drop(datagram_of(link));
        }
    }
}

void gyre__sim_udp_free(struct gyre_sim_host *host)
{
    struct gyre_link *const hosts = &host->sim->hosts;

    for (struct gyre_link *link = hosts->next; link != hosts; link = link->next) {
        struct gyre_sim_host *one = gyre_container_of(link, struct gyre_sim_host, link);

        drop_all(one, one == host ? NULL : host);
    }
}

/* Not before the last one between the two hosts that keeps its place. */
static uint64_t behind_others(const struct gyre_sim_host *from, struct gyre_sim_host *at,
                              uint64_t when_ns)
{
    for (struct gyre_link *link = at->datagrams.prev; link != &at->datagrams; link = link->prev) {
        const struct udp_datagram *one = datagram_of(link);

        if (one->host == from && !one->strays && !one->refused) {
            return when_ns > one->event.when_ns ? when_ns : one->event.when_ns + 1;
        }
    }
    return when_ns;
}

static void arrive(struct sim_event *event);

static void travel(struct udp_datagram *datagram, uint64_t when_ns)
{
    datagram->event.fire = arrive;
    gyre__list_append(&datagram->at->datagrams, &datagram->link);
    gyre__sim_schedule(datagram->at->sim, &datagram->event, when_ns);
}

/* ---- sending ---- */

static struct udp_datagram *datagram_new(struct udp_socket *self, const struct udp_plan *plan,
                                         struct gyre_sim_host *at, const uint8_t *bytes, size_t len)
{
    struct udp_datagram *datagram = gyre__sim_alloc(sizeof(*datagram) + len);

    datagram->at = at;
    datagram->host = self->socket.file.host;
    datagram->from = plan->from;
    datagram->to = plan->to;
    datagram->interface =
        at == datagram->host && plan->interface != UDP_ETHERNET ? UDP_LOOPBACK : UDP_ETHERNET;
    datagram->ttl = plan->ttl;
    datagram->tos = plan->tos;
    datagram->segments = 1;
    datagram->len = len;
    if (len > 0) {
        memcpy(datagram->bytes, bytes, len);
    }
    if (at != datagram->host) {
        datagram->sender = self;
        self->memory += gyre__sim_charge(len);
        gyre__sim_file_hold(&self->socket.file);
    }
    return datagram;
}

static void launch(struct udp_socket *self, const struct udp_plan *plan, struct gyre_sim_host *at,
                   uint64_t burst, const uint8_t *bytes, size_t len)
{
    struct gyre_sim *sim = at->sim;
    struct gyre_sim_host *from = self->socket.file.host;
    uint64_t when_ns = gyre__sim_transit(from, at, HEADER_LEN + len);
    const int is_lost = gyre__sim_fault(sim, GYRE_SIM_FAULT_UDP_LOSS);
    const int strays = gyre__sim_fault(sim, GYRE_SIM_FAULT_UDP_REORDER);
    int copies = 1 + gyre__sim_fault(sim, GYRE_SIM_FAULT_UDP_DUPLICATE);

    if (is_lost || when_ns == UINT64_MAX) {
        gyre__sim_trace(sim, "udp #%llu to %s: %zu lost", id_of(self), at->name, len);
        return;
    }
    gyre__sim_trace(sim, "udp #%llu to %s: %zu", id_of(self), at->name, len);
    when_ns = strays ? when_ns : behind_others(from, at, when_ns);
    while (copies-- > 0) {
        struct udp_datagram *datagram = datagram_new(self, plan, at, bytes, len);

        datagram->burst = burst;
        datagram->strays = strays || copies > 0;
        travel(datagram, when_ns + (datagram->strays ? gyre__sim_below(sim, STRAY_MAX_NS) : 0));
    }
}

static int same_network(const struct sim_ip *a, const struct sim_ip *b)
{
    return gyre__sim_ip_is_v4(a) && gyre__sim_ip_is_v4(b) &&
           memcmp(a->address.s6_addr + 12, b->address.s6_addr + 12, 3) == 0;
}

static int is_on_network(const struct gyre_sim_host *host, const struct sim_ip *ip)
{
    for (uint32_t i = 0; i < host->address_count; i++) {
        struct sim_ip own;

        gyre__sim_ip_read(&own, (const struct sockaddr *)&host->address[i]);
        if (same_network(&own, ip)) {
            return 1;
        }
    }
    return 0;
}

static int is_limited_broadcast(const struct sim_ip *ip)
{
    static const uint8_t all[4] = {255, 255, 255, 255};

    return gyre__sim_ip_is_v4(ip) && memcmp(ip->address.s6_addr + 12, all, sizeof(all)) == 0;
}

static int is_loopback_broadcast(const struct sim_ip *ip)
{
    static const uint8_t all[4] = {127, 255, 255, 255};

    return gyre__sim_ip_is_v4(ip) && memcmp(ip->address.s6_addr + 12, all, sizeof(all)) == 0;
}

static struct gyre_sim_host *host_of(struct gyre_sim_host *from, const struct sim_ip *ip)
{
    struct sockaddr_storage address;

    gyre__sim_ip_write(ip, AF_INET6, &address);
    return gyre__sim_route(from, (const struct sockaddr *)&address);
}

int gyre__sim_udp_is_broadcast(struct gyre_sim_host *host, const struct sim_ip *ip)
{
    if (is_limited_broadcast(ip) || is_loopback_broadcast(ip)) {
        return 1;
    }
    return gyre__sim_ip_is_v4(ip) && ip->address.s6_addr[15] == 255 && is_on_network(host, ip) &&
           host_of(host, ip) == NULL;
}

static int is_looped(const struct udp_socket *self, const struct sim_ip *group)
{
    return self->option[gyre__sim_ip_is_v4(group) ? UDP_OPTION_MULTICAST_LOOP
                                                  : UDP_OPTION_MULTICAST_LOOP6];
}

/* To the hosts of the network; whether one has members shows when it arrives there. */
static void transmit_to_all(struct udp_socket *self, const struct udp_plan *plan, uint64_t burst,
                            const uint8_t *bytes, size_t len)
{
    struct gyre_sim_host *from = self->socket.file.host;
    struct gyre_link *const hosts = &from->sim->hosts;
    const int multicast = udp_is_multicast(&plan->to);

    for (struct gyre_link *link = hosts->next; link != hosts; link = link->next) {
        struct gyre_sim_host *at = gyre_container_of(link, struct gyre_sim_host, link);

        if (at == from ? multicast && plan->interface != UDP_LOOPBACK && !is_looped(self, &plan->to)
                       : plan->interface == UDP_LOOPBACK || plan->ttl == 0) {
            continue;
        }
        if (multicast || is_limited_broadcast(&plan->to) || is_on_network(at, &plan->to)) {
            launch(self, plan, at, burst, bytes, len);
        }
    }
}

void gyre__sim_udp_transmit(struct udp_socket *self, const struct udp_plan *plan, uint64_t burst,
                            const uint8_t *bytes, size_t len)
{
    struct gyre_sim_host *from = self->socket.file.host;
    struct gyre_sim_host *at;

    if (is_loopback_broadcast(&plan->to)) {
        launch(self, plan, from, burst, bytes, len);
        return;
    }
    if (udp_is_multicast(&plan->to) || gyre__sim_udp_is_broadcast(from, &plan->to)) {
        transmit_to_all(self, plan, burst, bytes, len);
        return;
    }
    at = host_of(from, &plan->to);
    if (at != NULL) {
        launch(self, plan, at, burst, bytes, len);
    } else {
        gyre__sim_trace(from->sim, "udp #%llu to nowhere: %zu", id_of(self), len);
    }
}

/* ---- who gets it ---- */

static struct udp_socket *udp_at(struct gyre_link *link)
{
    struct sim_binding *binding = gyre_container_of(link, struct sim_binding, link);

    return binding->protocol == IPPROTO_UDP ? udp_of(binding->socket) : NULL;
}

/* How well a socket fits what comes from @peer to @local; below 0: it does not. */
static int score_of(const struct udp_socket *one, const struct sim_ip *local,
                    const struct sim_ip *peer)
{
    const int v4 = gyre__sim_ip_is_v4(local);
    const struct sim_ip bound = udp_local(one);
    int score = 0;

    if (bound.port != local->port || (v4 ? one->socket.v6only : one->socket.family == AF_INET)) {
        return -1;
    }
    score += v4 && one->socket.family == AF_INET ? SCORE_FAMILY : 0;
    if (!gyre__sim_ip_is_any(&bound)) {
        if (!gyre__sim_ip_same(&bound, local)) {
            return -1;
        }
        score += SCORE_ADDRESS;
    } else if (gyre__sim_ip_is_v4(&bound) && !v4) {
        return -1;
    }
    if (one->connected) {
        if (!gyre__sim_ip_same(&one->peer, peer) || one->peer.port != peer->port) {
            return -1;
        }
        score += SCORE_PEER;
    }
    return score;
}

/* Which of the sockets that share a port gets what belongs to one flow: always the same. */
static uint32_t hash_of(const struct sim_ip *local, const struct sim_ip *peer)
{
    const struct sim_ip *both[2] = {local, peer};
    uint32_t hash = 2166136261u;

    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof(both[i]->address); k++) {
            hash = (hash ^ both[i]->address.s6_addr[k]) * 16777619u;
        }
        hash = (hash ^ (both[i]->port & 255u)) * 16777619u;
        hash = (hash ^ (both[i]->port >> 8)) * 16777619u;
    }
    return hash ^ hash >> 15;
}

static int shares_port(const struct udp_socket *one)
{
    return one->socket.reuse_port && !one->connected;
}

/* The @index-th of those that have the score and share the port; sets how many there are. */
static struct udp_socket *nth_of_group(struct gyre_sim_host *host, const struct sim_ip *local,
                                       const struct sim_ip *peer, int score, uint32_t index,
                                       uint32_t *out_count)
{
    struct udp_socket *found = NULL;

    *out_count = 0;
    for (struct gyre_link *link = host->bindings.next; link != &host->bindings; link = link->next) {
        struct udp_socket *one = udp_at(link);

        if (one != NULL && shares_port(one) && score_of(one, local, peer) == score) {
            found = *out_count == index ? one : found;
            ++*out_count;
        }
    }
    return found;
}

/* The socket that fits best; of those that fit as well, the one bound last. */
static struct udp_socket *find_socket(struct gyre_sim_host *host, const struct sim_ip *local,
                                      const struct sim_ip *peer)
{
    struct udp_socket *best = NULL;
    int best_score = 0;
    uint32_t count;

    for (struct gyre_link *link = host->bindings.next; link != &host->bindings; link = link->next) {
        struct udp_socket *one = udp_at(link);
        const int score = one != NULL ? score_of(one, local, peer) : -1;

        if (score >= best_score) {
            best = one;
            best_score = score;
        }
    }
    if (best == NULL || !shares_port(best)) {
        return best;
    }
    nth_of_group(host, local, peer, best_score, 0, &count);
    return nth_of_group(host, local, peer, best_score, hash_of(local, peer) % count, &count);
}

/* ---- joined datagrams (UDP_GRO) ---- */

/* Whether this one goes on where the last in the queue ends. */
static int may_join(const struct udp_socket *self, const struct udp_datagram *last,
                    const struct udp_datagram *datagram)
{
    const size_t segment = last->segments > 1 ? last->segment : last->len;

    return datagram->len > 0 && datagram->len <= segment && last->len % segment == 0 &&
           last->len + datagram->len <= LEN_MAX &&
           gyre__sim_ip_same(&last->from, &datagram->from) &&
           last->from.port == datagram->from.port && last->ttl == datagram->ttl &&
           gyre__sim_ip_same(&last->to, &datagram->to) && last->tos == datagram->tos &&
           datagram->came_ns - last->came_ns <= JOIN_NS && self->option[UDP_OPTION_GRO] &&
           !udp_is_multicast(&datagram->to);
}

/* Sometimes, as it depends on what the card had collected; what was sent in one call always. */
static int joins(struct udp_socket *self, const struct udp_datagram *datagram)
{
    const struct udp_datagram *last;

    if (gyre__list_empty(&self->queue)) {
        return 0;
    }
    last = datagram_of(self->queue.prev);
    if (last->len == 0 || !may_join(self, last, datagram)) {
        return 0;
    }
    if (last->burst != 0 && last->burst == datagram->burst) {
        return 1;
    }
    return last->segments < JOINED_MAX && gyre__sim_below(self->socket.file.sim, 2) == 0;
}

/* Replaces the last of the queue by both. */
static void join(struct udp_socket *self, struct udp_datagram *datagram)
{
    struct udp_datagram *last = datagram_of(self->queue.prev);
    struct udp_datagram *both = gyre__sim_alloc(sizeof(*both) + last->len + datagram->len);

    memcpy(both, last, sizeof(*both) + last->len);
    memcpy(both->bytes + last->len, datagram->bytes, datagram->len);
    both->segment = last->segments > 1 ? last->segment : (uint32_t)last->len;
    both->segments = last->segments + 1;
    both->len = last->len + datagram->len;
    self->queue_memory += gyre__sim_charge(both->len);
    self->queue_memory -= gyre__sim_charge(last->len);
    gyre__list_remove(&last->link);
    gyre__list_init(&both->link);
    gyre__list_append(&self->queue, &both->link);
    free(last);
    free(datagram);
}

/* ---- delivery ---- */

/* Takes over the datagram, which is on no list. */
static void enqueue(struct udp_socket *self, struct udp_datagram *datagram)
{
    struct gyre_sim *sim = self->socket.file.sim;

    if (self->queue_memory > 0 &&
        self->queue_memory + gyre__sim_charge(datagram->len) > self->socket.receive_buffer) {
        self->drops++;
        gyre__sim_trace(sim, "udp #%llu drops %zu", id_of(self), datagram->len);
        free(datagram);
        return;
    }
    gyre__sim_trace(sim, "udp #%llu has %zu", id_of(self), datagram->len);
    datagram->came_ns = gyre__sim_now(sim);
    datagram->drops = self->drops;
    if (joins(self, datagram)) {
        join(self, datagram);
    } else {
        self->queue_memory += gyre__sim_charge(datagram->len);
        gyre__list_append(&self->queue, &datagram->link);
    }
    gyre__sim_file_wake(&self->socket.file, wake_in);
}

static struct udp_datagram *copy_of(const struct udp_datagram *datagram)
{
    struct udp_datagram *copy = gyre__sim_alloc(sizeof(*copy) + datagram->len);

    memcpy(copy, datagram, sizeof(*copy) + datagram->len);
    gyre__list_init(&copy->link);
    return copy;
}

static int has_joined(const struct udp_socket *one, const struct udp_datagram *datagram)
{
    for (const struct gyre_link *link = one->groups.next; link != &one->groups; link = link->next) {
        const struct udp_group *group =
            (const void *)((const uint8_t *)link - offsetof(struct udp_group, link));

        if (group->interface == datagram->interface &&
            gyre__sim_ip_same(&group->group, &datagram->to)) {
            return 1;
        }
    }
    return 0;
}

/* As long as somebody on the host has joined the group, Linux hands its datagrams to all that have
 * the port, whether they have joined or not; unless they do not want that. */
static int is_member(const struct udp_socket *one, const struct udp_datagram *datagram)
{
    const enum udp_option all =
        gyre__sim_ip_is_v4(&datagram->to) ? UDP_OPTION_MULTICAST_ALL : UDP_OPTION_MULTICAST_ALL6;

    return one->option[all] || has_joined(one, datagram);
}

static int host_is_member(struct gyre_sim_host *host, const struct udp_datagram *datagram)
{
    for (struct gyre_link *link = host->bindings.next; link != &host->bindings; link = link->next) {
        const struct udp_socket *one = udp_at(link);

        if (one != NULL && has_joined(one, datagram)) {
            return 1;
        }
    }
    return 0;
}

/* To all that have the port. Takes over the datagram. */
static void deliver_to_all(struct gyre_sim_host *host, struct udp_datagram *datagram)
{
    const int multicast = udp_is_multicast(&datagram->to);

    if (!multicast || host_is_member(host, datagram)) {
        for (struct gyre_link *link = host->bindings.next; link != &host->bindings;
             link = link->next) {
            struct udp_socket *one = udp_at(link);

            if (one != NULL && score_of(one, &datagram->to, &datagram->from) >= 0 &&
                (!multicast || is_member(one, datagram))) {
                enqueue(one, copy_of(datagram));
            }
        }
    }
    free(datagram);
}

/* Nobody has the port, and the sender's host is told: an ICMP error, which quotes what it is
 * about. */
static void refuse(struct udp_datagram *datagram)
{
    struct gyre_sim_host *here = datagram->at;
    const uint64_t when_ns = gyre__sim_transit(
        here, datagram->host, HEADER_LEN + (datagram->len < QUOTE_LEN ? datagram->len : QUOTE_LEN));

    gyre__sim_trace(here->sim, "udp port %u of %s unreachable", (unsigned)datagram->to.port,
                    here->name);
    if (when_ns == UINT64_MAX) {
        free(datagram);
        return;
    }
    datagram->refused = 1;
    datagram->at = datagram->host;
    datagram->host = here;
    datagram->len = datagram->len < QUOTE_LEN ? datagram->len : QUOTE_LEN;
    travel(datagram, when_ns);
}

/* ---- errors ---- */

static void queue_error(struct udp_socket *self, const struct udp_datagram *datagram)
{
    const int v4 = gyre__sim_ip_is_v4(&datagram->to);
    struct udp_error *error = gyre__sim_alloc(sizeof(*error) + datagram->len);

    error->what.ee_errno = ECONNREFUSED;
    error->what.ee_origin = v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6;
    error->what.ee_type = v4 ? 3 : 1; /* destination unreachable: */
    error->what.ee_code = v4 ? 3 : 4; /* port unreachable */
    error->to = datagram->to;
    error->offender = datagram->to;
    error->offender.port = 0;
    error->len = datagram->len;
    memcpy(error->bytes, datagram->bytes, datagram->len);
    self->queue_memory += gyre__sim_charge(error->len);
    gyre__list_append(&self->errors, &error->link);
}

/* Without an error queue only a connected socket is told: it alone knows whom it is about. */
static void tell_refused(struct udp_datagram *datagram)
{
    struct udp_socket *self = find_socket(datagram->at, &datagram->from, &datagram->to);
    int queues;

    if (self == NULL) {
        free(datagram);
        return;
    }
    queues = self->option[self->socket.family == AF_INET6 && !gyre__sim_ip_is_v4(&datagram->to)
                              ? UDP_OPTION_RECVERR6
                              : UDP_OPTION_RECVERR];
    if (queues &&
        self->queue_memory + gyre__sim_charge(datagram->len) < self->socket.receive_buffer) {
        queue_error(self, datagram);
    }
    if (queues || self->connected) {
        gyre__sim_trace(self->socket.file.sim, "udp #%llu refused", id_of(self));
        self->socket.error = ECONNREFUSED;
        gyre__sim_file_wake(&self->socket.file, EPOLLERR);
    }
    free(datagram);
}

/* ---- arrival ---- */

static void arrive(struct sim_event *event)
{
    struct udp_datagram *datagram = gyre_container_of(event, struct udp_datagram, event);
    struct gyre_sim_host *host = datagram->at;
    struct udp_socket *one;

    gyre__list_remove(&datagram->link);
    discharge(datagram);
    if (datagram->refused) {
        tell_refused(datagram);
        return;
    }
    if (udp_is_multicast(&datagram->to) || gyre__sim_udp_is_broadcast(host, &datagram->to)) {
        deliver_to_all(host, datagram);
        return;
    }
    one = find_socket(host, &datagram->to, &datagram->from);
    if (one != NULL) {
        enqueue(one, datagram);
    } else {
        refuse(datagram);
    }
}
