/* The ends of TCP connections, between the files that make them: tcp_end.c, which begins and ends
 * them, tcp_flow.c, tcp_port.c, tcp_send.c, tcp_arrive.c and tcp_timer.c. Sockets use tcp.h. */
#ifndef GYRE_SIM_TCP_END_H
#define GYRE_SIM_TCP_END_H

#include "sim/tcp.h"

enum { SEGMENT_SYN = 1, SEGMENT_FIN = 2, SEGMENT_RST = 4, SEGMENT_PROBE = 8 };

/* From @from to @to; a FIN takes the last place of these. */
struct segment {
    struct gyre_link link;
    uint64_t when_ns;
    uint64_t from;
    uint64_t to;
    uint64_t ack;
    uint64_t edge;
    int flags;
};

static inline uint64_t gyre__sim_end_now(const struct sim_end *end)
{
    return gyre__sim_now(end->connection->sim);
}

/* For traces: what goes from the caller to the called is ">". */
static inline char gyre__sim_end_arrow(const struct sim_end *from)
{
    return from == &from->connection->end[0] ? '>' : '<';
}

static inline struct sim_flow *gyre__sim_flow_in(const struct sim_end *end)
{
    return &gyre__sim_peer(end)->out;
}

static inline uint64_t gyre__sim_flow_total(const struct sim_flow *flow)
{
    return flow->written + flow->fin;
}

/* The peer does not read, and what it has room for is under way or there. */
static inline int gyre__sim_flow_shut_out(const struct sim_flow *flow)
{
    return flow->sent < flow->written && flow->edge <= flow->sent;
}

/* Something was sent, or is to be, that the peer has not acknowledged. */
static inline int gyre__sim_end_waits(const struct sim_end *end)
{
    return end->out.acked < gyre__sim_flow_total(&end->out);
}

/* ---- tcp_end.c ---- */

/* No socket hears of it from here; a reset is sent by others, if at all. */
void gyre__sim_end_give_up(struct sim_end *end, int error);

/* Frees the connection if nobody needs it: at the end of an event, or of a call from outside. */
void gyre__sim_connection_settle(struct sim_connection *connection);

/* ---- tcp_flow.c ---- */

void gyre__sim_flow_fill(struct sim_flow *flow, const struct msghdr *msg, size_t len);
void gyre__sim_flow_drain(const struct sim_flow *flow, const struct msghdr *msg, size_t len);
void gyre__sim_flow_drop(struct sim_flow *flow); /* its memory */

/* ---- tcp_port.c ---- */

void gyre__sim_end_hold_port(struct sim_end *end);
void gyre__sim_end_drop_port(struct sim_end *end);
void gyre__sim_end_linger(struct sim_end *end); /* TIME_WAIT */
void gyre__sim_lingering_free(struct gyre_sim_host *host);

/* ---- tcp_send.c ---- */

/* How far the peer may send. */
uint64_t gyre__sim_end_edge(struct sim_end *end);
/* A segment with the positions from @from to @to, and SEGMENT_ flags. */
void gyre__sim_end_send(struct sim_end *end, uint64_t from, uint64_t to, int flags);
void gyre__sim_end_send_ack(struct sim_end *end);
void gyre__sim_end_send_reset(struct sim_end *end);
/* Sends what may be sent. */
void gyre__sim_end_push(struct sim_end *end);

/* ---- tcp_timer.c ---- */

/* Progress: patience begins anew. */
void gyre__sim_end_progress(struct sim_end *end);
void gyre__sim_end_timer(struct sim_event *event);

/* ---- tcp_arrive.c ---- */

void gyre__sim_end_arrive(struct sim_end *end, const struct segment *segment);
void gyre__sim_end_take_reset(struct sim_end *end);

#endif
