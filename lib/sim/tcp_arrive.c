/* What an end of a TCP connection does with the segments that arrive, the handshake included. */
#include "sim/tcp_end.h"

#include "base/assert.h"

#include <errno.h>
#include <sys/epoll.h>

/* Over in both directions: the socket is as good as never connected, and the port of who ended
 * first is kept from others for a while. */
static void check_done(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || !end->out.fin || gyre__sim_end_waits(end) ||
        !gyre__sim_flow_in(end)->fin_arrived) {
        return;
    }
    end->state = SIM_END_DONE;
    end->deadline_ns = UINT64_MAX;
    if (end->ended_first) {
        gyre__sim_end_linger(end);
    }
    gyre__sim_end_drop_port(end);
    if (end->socket != NULL) {
        gyre__sim_tcp_over(end->socket, 0);
    }
}

/* EPOLLOUT comes back when a third of the buffer is free, for those who found it full. */
static void tell_of_room(struct sim_end *end)
{
    struct sim_tcp *tcp = end->socket;

    if (tcp != NULL && tcp->no_space && (gyre__sim_tcp_mask(tcp) & EPOLLOUT)) {
        tcp->no_space = 0;
        gyre__sim_file_wake(&tcp->base.file, EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND);
    }
}

static void take_ack(struct sim_end *end, const struct segment *segment)
{
    struct sim_flow *out = &end->out;
    const int was_shut_out = gyre__sim_flow_shut_out(out);

    end->tries = gyre__sim_end_waits(end) ? end->tries : 0; /* of keep-alive: it is there */
    if (segment->ack > out->acked) {
        gyre_assert(segment->ack <= gyre__sim_flow_total(out));
        out->acked = segment->ack;
        out->sent = out->sent > out->acked ? out->sent : out->acked;
        gyre__sim_end_progress(end);
        if (out->fin && !gyre__sim_end_waits(end) && end->socket != NULL) {
            gyre__sim_tcp_changed(end->socket); /* FIN_WAIT2 */
        }
    }
    if (segment->edge > out->edge) {
        out->edge = segment->edge;
        if (was_shut_out) {
            gyre__sim_end_progress(end);
        }
    }
    tell_of_room(end);
    gyre__sim_end_push(end);
}

/* Bytes for a program that has said that it takes no more, and has ended its own direction
 * (TCPABORTONDATA). */
static int is_unwanted(const struct sim_end *end, const struct segment *segment)
{
    const struct sim_flow *in = gyre__sim_flow_in(end);
    const uint64_t bytes_to = segment->to - ((segment->flags & SEGMENT_FIN) != 0);

    return end->out.fin && bytes_to > in->arrived &&
           (end->socket == NULL || (end->socket->shut & SIM_SHUT_IN));
}

static void take_end(struct sim_end *end)
{
    struct sim_flow *in = gyre__sim_flow_in(end);
    struct sim_tcp *tcp = end->socket;

    in->fin_arrived = 1;
    gyre__sim_trace(end->connection->sim, "tcp %llu%c end", (unsigned long long)end->connection->id,
                    gyre__sim_end_arrow(gyre__sim_peer(end)));
    if (end->out.fin && gyre__sim_end_waits(end)) {
        gyre__sim_sometimes(end->connection->sim, GYRE_SIM_PATH_SIMULTANEOUS_CLOSE);
    }
    if (tcp != NULL) {
        if (gyre__sim_flow_unread(in) > 0) {
            gyre__sim_sometimes(end->connection->sim, GYRE_SIM_PATH_DATA_WITH_END);
        }
        tcp->shut |= SIM_SHUT_IN;
        tcp->done = 1;
        gyre__sim_tcp_changed(tcp);
    }
}

static void take_bytes(struct sim_end *end, const struct segment *segment)
{
    struct sim_flow *in = gyre__sim_flow_in(end);
    const uint64_t len = segment->to - ((segment->flags & SEGMENT_FIN) != 0) - in->arrived;

    in->arrived = segment->to;
    if (len > 0) {
        gyre__sim_trace(end->connection->sim, "tcp %llu%c %llu bytes",
                        (unsigned long long)end->connection->id,
                        gyre__sim_end_arrow(gyre__sim_peer(end)), (unsigned long long)len);
    }
    if (segment->flags & SEGMENT_FIN) {
        take_end(end);
    }
    if (end->socket != NULL && (gyre__sim_tcp_mask(end->socket) & EPOLLIN)) {
        gyre__sim_file_wake(&end->socket->base.file, EPOLLIN | EPOLLRDNORM);
    }
}

static void take(struct sim_end *end, const struct segment *segment)
{
    const struct sim_flow *in = gyre__sim_flow_in(end);
    const int is_new = segment->to > in->arrived && segment->from <= in->arrived;

    take_ack(end, segment);
    if (is_new && is_unwanted(end, segment)) {
        gyre__sim_end_send_reset(end);
        gyre__sim_end_give_up(end, ECONNRESET);
        return;
    }
    if (is_new) {
        take_bytes(end, segment);
    }
    if (segment->to > segment->from || (segment->flags & SEGMENT_PROBE)) {
        gyre__sim_end_send_ack(end);
    }
    check_done(end);
}

void gyre__sim_end_take_reset(struct sim_end *end)
{
    const struct sim_flow *in = gyre__sim_flow_in(end);
    const int close_wait = in->fin_arrived && !end->out.fin;

    gyre__sim_trace(end->connection->sim, "tcp %llu%c reset",
                    (unsigned long long)end->connection->id,
                    gyre__sim_end_arrow(gyre__sim_peer(end)));
    if (end->socket != NULL && gyre__sim_flow_unread(in) > 0) {
        gyre__sim_sometimes(end->connection->sim, GYRE_SIM_PATH_DATA_WITH_RESET);
    }
    if (end->state == SIM_END_SYN_SENT) {
        gyre__sim_end_give_up(end, ECONNREFUSED);
    } else {
        gyre__sim_end_give_up(end, close_wait ? EPIPE : ECONNRESET);
    }
}

/* ---- handshake ---- */

static void take_call(struct sim_end *end)
{
    struct sim_connection *connection = end->connection;
    struct sim_tcp *listener = gyre__sim_tcp_listener(end->host, &end->local);

    if (listener == NULL) {
        gyre__sim_end_send_reset(end);
        return;
    }
    if (gyre__sim_tcp_is_full(listener)) { /* as if it had been lost */
        gyre__sim_sometimes(connection->sim, GYRE_SIM_PATH_BACKLOG_FULL);
        gyre__sim_trace(connection->sim, "tcp %llu not heard: backlog",
                        (unsigned long long)connection->id);
        return;
    }
    end->state = SIM_END_SYN_RECEIVED;
    end->listener = listener;
    end->window = listener->base.receive_buffer / 2;
    end->reuse = listener->base.reuse_address;
    gyre__sim_end_hold_port(end);
    gyre__list_append(&listener->pending, &end->pending);
    gyre__sim_end_progress(end);
    gyre__sim_end_send(end, 0, 0, SEGMENT_SYN);
}

static void take_answer(struct sim_end *end, const struct segment *segment)
{
    struct sim_connection *connection = end->connection;

    end->state = SIM_END_OPEN;
    end->out.edge = segment->edge;
    connection->round_trip_ns = gyre__sim_end_now(end) - connection->begun_ns;
    gyre__sim_end_progress(end);
    gyre__sim_trace(connection->sim, "tcp %llu connected", (unsigned long long)connection->id);
    gyre__sim_end_send_ack(end);
    gyre__sim_tcp_changed(end->socket);
}

/* What completes the handshake may be the first bytes too. With no room in the listener's queue it
 * is as if it had been lost, though the caller takes itself for connected. */
static void take_confirmation(struct sim_end *end, const struct segment *segment)
{
    struct sim_connection *connection = end->connection;
    struct sim_tcp *listener = end->listener;

    if (gyre__sim_tcp_is_full(listener)) {
        gyre__sim_sometimes(connection->sim, GYRE_SIM_PATH_BACKLOG_FULL);
        return;
    }
    end->state = SIM_END_OPEN;
    end->listener = NULL;
    gyre__list_remove(&end->pending);
    gyre__sim_end_progress(end);
    gyre__sim_trace(connection->sim, "tcp %llu accepted by %llu",
                    (unsigned long long)connection->id, (unsigned long long)listener->base.file.id);
    gyre__sim_tcp_queue(listener, end);
    take(end, segment);
}

static void arrive_early(struct sim_end *end, const struct segment *segment)
{
    switch (end->state) {
    case SIM_END_SILENT:
        if (segment->flags & SEGMENT_SYN) {
            take_call(end);
        } else if (!(segment->flags & SEGMENT_RST)) {
            gyre__sim_end_send_reset(end);
        }
        break;
    case SIM_END_SYN_SENT:
        if (segment->flags & SEGMENT_SYN) {
            take_answer(end, segment);
        }
        break;
    default:
        if (segment->flags & SEGMENT_SYN) {
            gyre__sim_end_send(end, 0, 0, SEGMENT_SYN);
        } else {
            take_confirmation(end, segment);
        }
        break;
    }
}

void gyre__sim_end_arrive(struct sim_end *end, const struct segment *segment)
{
    end->heard_ns = gyre__sim_end_now(end);
    if (end->state == SIM_END_GONE || end->state == SIM_END_DONE) {
        if (segment->flags & SEGMENT_RST) {
            return;
        }
        if (end->state == SIM_END_GONE) {
            gyre__sim_end_send_reset(end);
        } else if (segment->to > segment->from) {
            gyre__sim_end_send_ack(end);
        }
        return;
    }
    if ((segment->flags & SEGMENT_RST) && end->state != SIM_END_SILENT) {
        gyre__sim_end_take_reset(end);
    } else if (end->state != SIM_END_OPEN) {
        arrive_early(end, segment);
    } else if (segment->flags & SEGMENT_SYN) {
        gyre__sim_end_send_ack(end); /* our word was lost: the handshake's last */
    } else {
        take(end, segment);
    }
    gyre__sim_end_plan(end);
}
