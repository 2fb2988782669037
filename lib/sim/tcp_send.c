/* What an end of a TCP connection sends: segments, as far as the receiver's window lets it, and how
 * far its own window lets the peer. */
#include "sim/tcp_end.h"

#include "base/assert.h"

enum {
    SEGMENT_MAX_LEN = 64 << 10, /* as with segmentation offload */
    HEADER_LEN = 40,
    WINDOW_STEP = 16 << 10,
};

/* How far the peer may send: what the program has read and a window more. It moves in steps, for
 * else the peer would send crumbs (RFC 9293, 3.8.6.2.2). */
uint64_t gyre__sim_end_edge(struct sim_end *end)
{
    const struct sim_flow *in = gyre__sim_flow_in(end);
    uint64_t edge;
    uint32_t step;

    if (end->socket != NULL) {
        end->window = end->socket->base.receive_buffer / 2; /* tcp_adv_win_scale: 1 */
    }
    edge = in->read + end->window;
    step = end->window / 2 < WINDOW_STEP ? end->window / 2 : WINDOW_STEP;
    return edge > in->offered && edge - in->offered >= step ? edge : in->offered;
}

static void put_on_wire(struct sim_end *end, struct segment *segment)
{
    struct gyre_link *last = end->wire.prev;
    const int first = gyre__list_empty(&end->wire);

    if (!first) {
        const struct segment *before = gyre_container_of(last, struct segment, link);

        segment->when_ns = segment->when_ns > before->when_ns ? segment->when_ns : before->when_ns;
    }
    gyre__list_append(&end->wire, &segment->link);
    if (first) {
        gyre__sim_schedule(end->connection->sim, &end->arrival, segment->when_ns);
    }
}

void gyre__sim_end_send(struct sim_end *end, uint64_t from, uint64_t to, int flags)
{
    struct sim_end *peer = gyre__sim_peer(end);
    struct sim_flow *in = gyre__sim_flow_in(end);
    struct segment *segment;
    uint64_t when_ns;

    if (peer->host == NULL) {
        return;
    }
    when_ns = gyre__sim_transit(end->host, peer->host, (size_t)(to - from) + HEADER_LEN);
    if (when_ns == UINT64_MAX) {
        return; /* lost; whoever needs an answer will try again */
    }
    in->offered = gyre__sim_end_edge(end);
    segment = gyre__sim_alloc(sizeof(*segment));
    segment->when_ns = when_ns;
    segment->from = from;
    segment->to = to;
    segment->ack = in->arrived;
    segment->edge = in->offered;
    segment->flags = flags;
    put_on_wire(end, segment);
}

void gyre__sim_end_send_ack(struct sim_end *end)
{
    gyre__sim_end_send(end, end->out.sent, end->out.sent, 0);
}

void gyre__sim_end_send_reset(struct sim_end *end)
{
    gyre__sim_trace(end->connection->sim, "tcp %llu%c reset sent",
                    (unsigned long long)end->connection->id, gyre__sim_end_arrow(end));
    gyre__sim_end_send(end, end->out.sent, end->out.sent, SEGMENT_RST);
}

/* A segment as large as it can be, mostly. */
static uint64_t pick_len(struct gyre_sim *sim, uint64_t most)
{
    most = most < SEGMENT_MAX_LEN ? most : SEGMENT_MAX_LEN;
    if (most == 1 || gyre__sim_below(sim, 4) != 0) {
        return most;
    }
    return 1 + gyre__sim_below(sim, most);
}

/* Sends what may be sent. */
void gyre__sim_end_push(struct sim_end *end)
{
    struct gyre_sim *sim = end->connection->sim;
    struct sim_flow *out = &end->out;
    const uint64_t limit = out->written < out->edge ? out->written : out->edge;

    gyre_assert(end->state == SIM_END_OPEN);
    while (out->sent < limit) {
        const uint64_t from = out->sent;
        const uint64_t len = pick_len(sim, limit - from);
        const int fin = out->fin && from + len == out->written;

        out->sent = from + len + (uint64_t)fin;
        gyre__sim_end_send(end, from, out->sent, fin ? SEGMENT_FIN : 0);
    }
    if (out->fin && out->sent == out->written) {
        out->sent++;
        gyre__sim_end_send(end, out->written, out->sent, SEGMENT_FIN);
    }
    if (gyre__sim_flow_shut_out(out)) {
        gyre__sim_sometimes(sim, GYRE_SIM_PATH_WINDOW_CLOSED);
    }
}
