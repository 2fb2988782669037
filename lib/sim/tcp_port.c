/* The ports that TCP connections of a host hold, also for a while after their end (TIME_WAIT). */
#include "sim/tcp_end.h"

#include "base/assert.h"

#include <stdlib.h>

enum { TIME_WAIT_S = 60 }; /* TCP_TIMEWAIT_LEN */

/* The port of a connection that has ended here first. */
struct lingering {
    struct gyre_link link;
    struct sim_ip local;
    uint64_t until_ns;
    uint8_t reuse;
};

void gyre__sim_end_hold_port(struct sim_end *end)
{
    gyre_assert(!end->holds_port);
    gyre__sim_port_hold(end->host, IPPROTO_TCP, end->local.port);
    gyre__list_append(&end->host->connections, &end->link);
    end->holds_port = 1;
}

void gyre__sim_end_drop_port(struct sim_end *end)
{
    if (end->holds_port) {
        gyre__sim_port_drop(end->host, IPPROTO_TCP, end->local.port);
        end->holds_port = 0;
    }
}

static void drop_lingering(struct gyre_sim_host *host, struct lingering *one)
{
    gyre__sim_port_drop(host, IPPROTO_TCP, one->local.port);
    gyre__list_remove(&one->link);
    free(one);
}

/* TIME_WAIT needs no event: those that are over are dropped when the next one begins or somebody
 * asks. */
static void expire_lingering(struct gyre_sim_host *host)
{
    struct gyre_link *const list = &gyre__sim_tcp_host(host)->lingering;

    while (!gyre__list_empty(list)) {
        struct lingering *one = gyre_container_of(list->next, struct lingering, link);

        if (one->until_ns > gyre__sim_now(host->sim)) {
            return;
        }
        drop_lingering(host, one);
    }
}

void gyre__sim_end_linger(struct sim_end *end)
{
    struct lingering *one = gyre__sim_alloc(sizeof(*one));

    expire_lingering(end->host);
    one->local = end->local;
    one->reuse = end->reuse;
    one->until_ns = gyre__sim_end_now(end) + TIME_WAIT_S * GYRE_SEC;
    gyre__sim_port_hold(end->host, IPPROTO_TCP, end->local.port);
    gyre__list_append(&gyre__sim_tcp_host(end->host)->lingering, &one->link);
}

static int collides(const struct sim_ip *ip, const struct sim_ip *local)
{
    return ip->port == local->port && (gyre__sim_ip_is_any(ip) || gyre__sim_ip_same(ip, local));
}

int gyre__sim_tcp_holds(struct gyre_sim_host *host, const struct sim_ip *ip, int reuse)
{
    const struct sim_tcp_host *kept = gyre__sim_tcp_host(host);

    expire_lingering(host);
    for (struct gyre_link *link = host->connections.next; link != &host->connections;
         link = link->next) {
        const struct sim_end *end = gyre_container_of(link, struct sim_end, link);

        if (end->holds_port && !(reuse && end->reuse) && collides(ip, &end->local)) {
            return 1;
        }
    }
    for (struct gyre_link *link = kept->lingering.next; link != &kept->lingering;
         link = link->next) {
        const struct lingering *one = gyre_container_of(link, struct lingering, link);

        if (!(reuse && one->reuse) && collides(ip, &one->local)) {
            return 1;
        }
    }
    return 0;
}

void gyre__sim_lingering_free(struct gyre_sim_host *host)
{
    struct gyre_link *const list = &gyre__sim_tcp_host(host)->lingering;

    while (!gyre__list_empty(list)) {
        drop_lingering(host, gyre_container_of(list->next, struct lingering, link));
    }
}
