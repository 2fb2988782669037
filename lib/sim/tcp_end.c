/*
 * TCP between hosts: two ends that send each other segments.
 *
 *     program -> written .... sent -----wire-----> arrived .... read -> program
 *                              ^ edge: how far the receiver's window lets it
 *
 * The wire of an end is a list: segments arrive in the order in which they were sent, one event at a
 * time, each no earlier than the one before. A segment names positions in the flow; its bytes stay
 * in the flow's ring. Nothing is lost but what is sent while the hosts are partitioned, and that is
 * sent again from what was acknowledged, at growing intervals, until it is too late (ETIMEDOUT).
 *
 * A connection lives as long as one of its ends has a socket, has something to say, or is being
 * spoken to. It is freed at the end of an event or of a call from outside (settle), nowhere else.
 */
#include "sim/tcp_end.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>

enum { ROOM_KEPT = 16 << 10 }; /* an empty ring that is larger is freed */

/* ---- beginning and end of a connection ---- */

static void free_wire(struct sim_end *end)
{
    while (!gyre__list_empty(&end->wire)) {
        struct segment *segment = gyre_container_of(end->wire.next, struct segment, link);

        gyre__list_remove(&segment->link);
        free(segment);
    }
    gyre__sim_unschedule(end->connection->sim, &end->arrival);
}

static void free_connection(struct sim_connection *connection)
{
    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &connection->end[i];

        if (end->socket != NULL) {
            end->socket->end = NULL;
        }
        free_wire(end);
        gyre__sim_unschedule(connection->sim, &end->timer);
        gyre__list_remove(&end->pending);
        gyre__sim_end_drop_port(end);
        gyre__list_remove(&end->link);
        gyre__sim_flow_drop(&end->out);
    }
    free(connection);
}

static int is_finished(const struct sim_end *end)
{
    return end->socket == NULL && gyre__list_empty(&end->wire) &&
           (end->state == SIM_END_SILENT || end->state == SIM_END_DONE ||
            end->state == SIM_END_GONE);
}

void gyre__sim_connection_settle(struct sim_connection *connection)
{
    if (is_finished(&connection->end[0]) && is_finished(&connection->end[1])) {
        free_connection(connection);
    }
}

static void fire_arrival(struct sim_event *event)
{
    struct sim_end *from = gyre_container_of(event, struct sim_end, arrival);
    struct sim_connection *connection = from->connection;
    struct segment *segment = gyre_container_of(from->wire.next, struct segment, link);

    gyre__list_remove(&segment->link);
    if (!gyre__list_empty(&from->wire)) {
        const struct segment *next = gyre_container_of(from->wire.next, struct segment, link);

        gyre__sim_schedule(connection->sim, event, next->when_ns);
    }
    gyre__sim_end_arrive(gyre__sim_peer(from), segment);
    free(segment);
    gyre__sim_connection_settle(connection);
}

static void begin_end(struct sim_connection *connection, struct sim_end *end,
                      struct gyre_sim_host *host)
{
    end->connection = connection;
    end->host = host;
    end->deadline_ns = UINT64_MAX;
    end->arrival.fire = fire_arrival;
    end->timer.fire = gyre__sim_end_timer;
    gyre__list_init(&end->link);
    gyre__list_init(&end->pending);
    gyre__list_init(&end->wire);
}

/* No socket hears of it from here; a reset is sent by others, if at all. */
void gyre__sim_end_give_up(struct sim_end *end, int error)
{
    struct sim_tcp *tcp = end->socket;

    gyre_assert(end->state != SIM_END_GONE);
    end->state = SIM_END_GONE;
    end->deadline_ns = UINT64_MAX;
    gyre__list_remove(&end->pending);
    gyre__sim_end_drop_port(end);
    if (tcp != NULL) {
        gyre__sim_tcp_over(tcp, error);
    }
}

/* ---- for the sockets ---- */

void gyre__sim_end_call(struct sim_tcp *tcp, const struct sim_ip *source, const struct sim_ip *to,
                        struct gyre_sim_host *host)
{
    struct gyre_sim_host *from = tcp->base.file.host;
    struct sim_connection *connection = gyre__sim_alloc(sizeof(*connection));
    struct sim_end *end = &connection->end[0];

    connection->id = tcp->base.file.id;
    connection->sim = from->sim;
    connection->begun_ns = gyre__sim_now(from->sim);
    begin_end(connection, end, from);
    begin_end(connection, &connection->end[1], host);
    connection->end[1].local = *to;
    end->local = *source;
    end->reuse = tcp->base.reuse_address;
    end->socket = tcp;
    tcp->end = end;
    gyre__sim_end_hold_port(end);
    end->state = SIM_END_SYN_SENT;
    gyre__sim_end_progress(end);
    gyre__sim_trace(connection->sim, "tcp %llu calls %s:%u from %s:%u",
                    (unsigned long long)connection->id, host != NULL ? host->name : "nobody",
                    to->port, from->name, source->port);
    gyre__sim_end_send(end, 0, 0, SEGMENT_SYN);
    gyre__sim_end_plan(end);
}

size_t gyre__sim_end_write(struct sim_end *end, const struct msghdr *msg, size_t len)
{
    gyre_assert(end->state == SIM_END_OPEN && !end->out.fin);
    if (!gyre__sim_end_waits(end)) {
        gyre__sim_end_progress(end);
    }
    gyre__sim_flow_fill(&end->out, msg, len);
    gyre__sim_end_push(end);
    gyre__sim_end_plan(end);
    return len;
}

/* The program has made room; the peer is told when that is worth a segment. */
static void tell_window(struct sim_end *end)
{
    const struct sim_flow *in = gyre__sim_flow_in(end);
    const uint64_t edge = gyre__sim_end_edge(end);

    if (end->state == SIM_END_OPEN && !in->fin_arrived && edge > in->offered &&
        edge - in->arrived >= 2 * (in->offered - in->arrived)) {
        gyre__sim_end_send_ack(end);
    }
}

size_t gyre__sim_end_read(struct sim_end *end, const struct msghdr *msg, size_t len, int peek)
{
    struct sim_flow *in = gyre__sim_flow_in(end);
    const uint64_t unread = gyre__sim_flow_unread(in);

    len = len < unread ? len : (size_t)unread;
    gyre__sim_flow_drain(in, msg, len);
    if (peek) {
        return len;
    }
    in->read += len;
    if (in->read == in->written && in->room > ROOM_KEPT) {
        gyre__sim_flow_drop(in);
    }
    tell_window(end);
    return len;
}

void gyre__sim_end_finish(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || end->out.fin) {
        return;
    }
    if (!gyre__sim_end_waits(end)) {
        gyre__sim_end_progress(end);
    }
    end->out.fin = 1;
    end->ended_first = !gyre__sim_flow_in(end)->fin_arrived;
    gyre__sim_end_push(end);
    gyre__sim_end_plan(end);
}

void gyre__sim_end_reset(struct sim_end *end)
{
    if (end->state == SIM_END_OPEN || end->state == SIM_END_SYN_RECEIVED) {
        gyre__sim_end_send_reset(end);
    }
    if (end->state != SIM_END_GONE && end->state != SIM_END_DONE) {
        gyre__sim_end_give_up(end, 0);
    }
}

void gyre__sim_end_leave(struct sim_end *end)
{
    struct sim_connection *connection = end->connection;

    if (end->socket != NULL) {
        end->socket->end = NULL;
        end->socket = NULL;
    }
    if (end->state == SIM_END_SYN_SENT) {
        gyre__sim_end_give_up(end, 0);
    }
    if (end->state == SIM_END_OPEN) {
        gyre__sim_end_finish(end);
        end->tried_ns = gyre__sim_end_waits(end) ? end->tried_ns : gyre__sim_end_now(end);
        gyre__sim_end_plan(end);
    }
    gyre__sim_connection_settle(connection);
}

/* ---- from outside ---- */

static void break_connection(struct sim_connection *connection)
{
    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &connection->end[i];

        if (end->state != SIM_END_SILENT && end->state != SIM_END_DONE &&
            end->state != SIM_END_GONE) {
            gyre__sim_end_take_reset(end);
        }
    }
    free_wire(&connection->end[0]);
    free_wire(&connection->end[1]);
    gyre__sim_connection_settle(connection);
}

void gyre__sim_tcp_break(struct sim_socket *socket)
{
    struct sim_end *end = gyre__sim_tcp_of(socket)->end;

    if (end != NULL && end->state == SIM_END_OPEN) {
        break_connection(end->connection);
    }
}

/* The next of a host's ends that is of another connection: both may be on the list. */
static struct gyre_link *next_connection(const struct gyre_link *head, const struct sim_end *end)
{
    struct gyre_link *next = end->link.next;

    while (next != head &&
           gyre_container_of(next, struct sim_end, link)->connection == end->connection) {
        next = next->next;
    }
    return next;
}

int gyre_sim_reset(struct gyre_sim_host *host, unsigned port)
{
    struct gyre_link *ends;
    int count = 0;

    if (host == NULL) {
        return -EINVAL;
    }
    ends = &host->connections;
    for (struct gyre_link *link = ends->next, *next; link != ends; link = next) {
        struct sim_end *end = gyre_container_of(link, struct sim_end, link);
        const int open = end->state == SIM_END_OPEN || end->state == SIM_END_SYN_SENT ||
                         end->state == SIM_END_SYN_RECEIVED;

        next = next_connection(ends, end);
        if (open &&
            (port == 0 || end->local.port == port || gyre__sim_peer(end)->local.port == port)) {
            count++;
            break_connection(end->connection);
        }
    }
    return count;
}

void gyre__sim_tcp_free(struct gyre_sim_host *host)
{
    struct sim_tcp_host *kept = host->tcp;

    while (!gyre__list_empty(&host->connections)) {
        free_connection(
            gyre_container_of(host->connections.next, struct sim_end, link)->connection);
    }
    if (kept == NULL) {
        return;
    }
    gyre__sim_lingering_free(host);
    while (!gyre__list_empty(&kept->listeners)) {
        gyre__list_remove(kept->listeners.next);
    }
    free(kept);
    host->tcp = NULL;
}
