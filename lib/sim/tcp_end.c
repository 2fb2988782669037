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
#include "sim/tcp.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    SEGMENT_MAX_LEN = 64 << 10, /* as with segmentation offload */
    HEADER_LEN = 40,
    ROOM_FIRST = 4 << 10,
    ROOM_KEPT = 16 << 10, /* an empty ring that is larger is freed */
    WINDOW_STEP = 16 << 10,
    SYN_TRIES = 6,    /* tcp_syn_retries: 127 s */
    SYNACK_TRIES = 5, /* tcp_synack_retries: 63 s */
    /* Linux waits for 15 minutes (tcp_retries2); nothing is learnt in the rest of them. */
    GIVE_UP_S = 15,
    ORPHAN_STUCK_S = 120,
    FIN_WAIT_S = 60,  /* tcp_fin_timeout */
    TIME_WAIT_S = 60, /* TCP_TIMEWAIT_LEN */
    KEEPALIVE_IDLE_S = 7200,
    KEEPALIVE_INTERVAL_S = 75,
    KEEPALIVE_COUNT = 9,
};

#define RETRY_FIRST_NS  (200 * GYRE_MSEC)
#define RETRY_MAX_NS    (120 * GYRE_SEC)
#define SYN_RETRY_NS    GYRE_SEC
#define NO_NEIGHBOUR_NS (3100 * GYRE_MSEC) /* three unanswered ARP requests, a second each */
#define SHIFT_MAX       16

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

/* The port of a connection that has ended here first. */
struct lingering {
    struct gyre_link link;
    struct sim_ip local;
    uint64_t until_ns;
    uint8_t reuse;
};

static void arrive(struct sim_end *end, const struct segment *segment);
static void push(struct sim_end *end);

static uint64_t now_of(const struct sim_end *end)
{
    return gyre__sim_now(end->connection->sim);
}

/* For traces: what goes from the caller to the called is ">". */
static char arrow(const struct sim_end *from)
{
    return from == &from->connection->end[0] ? '>' : '<';
}

static struct sim_flow *flow_in(const struct sim_end *end)
{
    return &gyre__sim_peer(end)->out;
}

static uint64_t total_of(const struct sim_flow *flow)
{
    return flow->written + flow->fin;
}

/* ---- the ring ---- */

/* Copies @len bytes from position @at of one ring to another. */
static void move_bytes(const struct sim_flow *from, uint8_t *memory, size_t room)
{
    uint64_t at = from->read;

    while (at < from->written) {
        const size_t here = (size_t)(at & (from->room - 1));
        const size_t there = (size_t)(at & (room - 1));
        size_t len = (size_t)(from->written - at);

        len = len < from->room - here ? len : from->room - here;
        len = len < room - there ? len : room - there;
        memcpy(memory + there, from->memory + here, len);
        at += len;
    }
}

static void make_room(struct sim_flow *flow, size_t len)
{
    const size_t needed = (size_t)(flow->written - flow->read) + len;
    size_t room = flow->room > 0 ? flow->room : ROOM_FIRST;
    uint8_t *memory;

    while (room < needed) {
        room *= 2;
    }
    if (room == flow->room) {
        return;
    }
    memory = gyre__sim_alloc(room);
    move_bytes(flow, memory, room);
    free(flow->memory);
    flow->memory = memory;
    flow->room = room;
}

static void drop_memory(struct sim_flow *flow)
{
    free(flow->memory);
    flow->memory = NULL;
    flow->room = 0;
}

static void fill(struct sim_flow *flow, const struct msghdr *msg, size_t len)
{
    size_t done = 0;

    make_room(flow, len);
    while (done < len) {
        const size_t here = (size_t)(flow->written & (flow->room - 1));
        const size_t span = len - done < flow->room - here ? len - done : flow->room - here;

        gyre__sim_gather(msg->msg_iov, msg->msg_iovlen, done, flow->memory + here, span);
        flow->written += span;
        done += span;
    }
}

static void drain(const struct sim_flow *flow, const struct msghdr *msg, size_t len)
{
    size_t done = 0;

    while (done < len) {
        const size_t here = (size_t)((flow->read + done) & (flow->room - 1));
        const size_t span = len - done < flow->room - here ? len - done : flow->room - here;

        gyre__sim_scatter(msg->msg_iov, msg->msg_iovlen, done, flow->memory + here, span);
        done += span;
    }
}

/* ---- what is kept of a host ---- */

static void hold_port(struct sim_end *end)
{
    gyre_assert(!end->holds_port);
    gyre__sim_port_hold(end->host, IPPROTO_TCP, end->local.port);
    gyre__list_append(&end->host->connections, &end->link);
    end->holds_port = 1;
}

static void drop_port(struct sim_end *end)
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

static void linger(struct sim_end *end)
{
    struct lingering *one = gyre__sim_alloc(sizeof(*one));

    expire_lingering(end->host);
    one->local = end->local;
    one->reuse = end->reuse;
    one->until_ns = now_of(end) + TIME_WAIT_S * GYRE_SEC;
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
        drop_port(end);
        gyre__list_remove(&end->link);
        drop_memory(&end->out);
    }
    free(connection);
}

static int is_finished(const struct sim_end *end)
{
    return end->socket == NULL && gyre__list_empty(&end->wire) &&
           (end->state == SIM_END_SILENT || end->state == SIM_END_DONE ||
            end->state == SIM_END_GONE);
}

static void settle(struct sim_connection *connection)
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
    arrive(gyre__sim_peer(from), segment);
    free(segment);
    settle(connection);
}

static void fire_timer(struct sim_event *event);

static void begin_end(struct sim_connection *connection, struct sim_end *end,
                      struct gyre_sim_host *host)
{
    end->connection = connection;
    end->host = host;
    end->deadline_ns = UINT64_MAX;
    end->arrival.fire = fire_arrival;
    end->timer.fire = fire_timer;
    gyre__list_init(&end->link);
    gyre__list_init(&end->pending);
    gyre__list_init(&end->wire);
}

/* No socket hears of it from here; a reset is sent by others, if at all. */
static void give_up(struct sim_end *end, int error)
{
    struct sim_tcp *tcp = end->socket;

    gyre_assert(end->state != SIM_END_GONE);
    end->state = SIM_END_GONE;
    end->deadline_ns = UINT64_MAX;
    gyre__list_remove(&end->pending);
    drop_port(end);
    if (tcp != NULL) {
        gyre__sim_tcp_over(tcp, error);
    }
}

/* ---- sending ---- */

/* How far the peer may send: what the program has read and a window more. It moves in steps, for
 * else the peer would send crumbs (RFC 9293, 3.8.6.2.2). */
static uint64_t next_edge(struct sim_end *end)
{
    const struct sim_flow *in = flow_in(end);
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

static void send_segment(struct sim_end *end, uint64_t from, uint64_t to, int flags)
{
    struct sim_end *peer = gyre__sim_peer(end);
    struct sim_flow *in = flow_in(end);
    struct segment *segment;
    uint64_t when_ns;

    if (peer->host == NULL) {
        return;
    }
    when_ns = gyre__sim_transit(end->host, peer->host, (size_t)(to - from) + HEADER_LEN);
    if (when_ns == UINT64_MAX) {
        return; /* lost; whoever needs an answer will try again */
    }
    in->offered = next_edge(end);
    segment = gyre__sim_alloc(sizeof(*segment));
    segment->when_ns = when_ns;
    segment->from = from;
    segment->to = to;
    segment->ack = in->arrived;
    segment->edge = in->offered;
    segment->flags = flags;
    put_on_wire(end, segment);
}

static void send_ack(struct sim_end *end)
{
    send_segment(end, end->out.sent, end->out.sent, 0);
}

static void send_reset(struct sim_end *end)
{
    gyre__sim_trace(end->connection->sim, "tcp %llu%c reset sent",
                    (unsigned long long)end->connection->id, arrow(end));
    send_segment(end, end->out.sent, end->out.sent, SEGMENT_RST);
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

/* The peer does not read, and what it has room for is under way or there. */
static int is_shut_out(const struct sim_flow *flow)
{
    return flow->sent < flow->written && flow->edge <= flow->sent;
}

/* Sends what may be sent. */
static void push(struct sim_end *end)
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
        send_segment(end, from, out->sent, fin ? SEGMENT_FIN : 0);
    }
    if (out->fin && out->sent == out->written) {
        out->sent++;
        send_segment(end, out->written, out->sent, SEGMENT_FIN);
    }
    if (is_shut_out(out)) {
        gyre__sim_sometimes(sim, GYRE_SIM_PATH_WINDOW_CLOSED);
    }
}

/* ---- time ---- */

static uint64_t seconds(const struct sim_end *end, int name, int otherwise)
{
    const int value =
        end->socket != NULL ? gyre__sim_tcp_option(end->socket, name, otherwise) : otherwise;

    return (uint64_t)value * GYRE_SEC;
}

static uint64_t user_timeout(const struct sim_end *end)
{
    return end->socket != NULL
               ? (uint64_t)gyre__sim_tcp_option(end->socket, TCP_USER_TIMEOUT, 0) * GYRE_MSEC
               : 0;
}

static int keeps_alive(const struct sim_end *end)
{
    return end->socket != NULL &&
           gyre__sim_socket_option(&end->socket->base, SOL_SOCKET, SO_KEEPALIVE, 0) != 0;
}

static int is_waiting(const struct sim_end *end)
{
    return end->out.acked < total_of(&end->out);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t backoff(uint64_t first_ns, uint32_t tries)
{
    return least(first_ns << (tries < SHIFT_MAX ? tries : SHIFT_MAX), RETRY_MAX_NS);
}

/* When a sender that waits has to do something again. */
static uint64_t retry_deadline(const struct sim_end *end)
{
    const uint64_t limit_ns = user_timeout(end);
    const uint64_t next_ns = end->tried_ns + backoff(RETRY_FIRST_NS, end->tries);

    if (limit_ns != 0) {
        return least(next_ns, end->waiting_ns + limit_ns);
    }
    if (end->waiting_ns + GIVE_UP_S * GYRE_SEC > end->tried_ns) {
        return least(next_ns, end->waiting_ns + GIVE_UP_S * GYRE_SEC);
    }
    return next_ns;
}

static uint64_t idle_deadline(const struct sim_end *end)
{
    if (end->socket == NULL && end->out.fin) {
        return end->tried_ns + FIN_WAIT_S * GYRE_SEC;
    }
    if (!keeps_alive(end)) {
        return UINT64_MAX;
    }
    return end->tries == 0 ? end->heard_ns + seconds(end, TCP_KEEPIDLE, KEEPALIVE_IDLE_S)
                           : end->tried_ns + seconds(end, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
}

static uint64_t next_deadline(const struct sim_end *end)
{
    switch (end->state) {
    case SIM_END_SYN_SENT:
        if (gyre__sim_peer(end)->host == NULL) {
            return end->tried_ns + NO_NEIGHBOUR_NS;
        }
        return user_timeout(end) != 0 ? least(end->tried_ns + backoff(SYN_RETRY_NS, end->tries),
                                              end->waiting_ns + user_timeout(end))
                                      : end->tried_ns + backoff(SYN_RETRY_NS, end->tries);
    case SIM_END_SYN_RECEIVED:
        return end->tried_ns + backoff(SYN_RETRY_NS, end->tries);
    case SIM_END_OPEN:
        return is_waiting(end) ? retry_deadline(end) : idle_deadline(end);
    default:
        return UINT64_MAX;
    }
}

void gyre__sim_end_plan(struct sim_end *end)
{
    end->deadline_ns = next_deadline(end);
    if (end->deadline_ns != UINT64_MAX &&
        (end->timer.place == 0 || end->timer.when_ns > end->deadline_ns)) {
        gyre__sim_schedule(end->connection->sim, &end->timer, end->deadline_ns);
    }
}

/* Progress: patience begins anew. */
static void note_progress(struct sim_end *end)
{
    end->tries = 0;
    end->tried_ns = now_of(end);
    end->waiting_ns = end->tried_ns;
}

/* What was sent is still on its way, or its answer is: nothing was lost. */
static int is_answer_coming(const struct sim_end *end)
{
    const struct gyre_link *const wire = &gyre__sim_peer(end)->wire;

    if (!gyre__list_empty(&end->wire)) {
        return 1;
    }
    for (const struct gyre_link *link = wire->next; link != wire; link = link->next) {
        if (gyre_container_of(link, struct segment, link)->ack > end->out.acked) {
            return 1;
        }
    }
    return 0;
}

/* Whether an open end has waited long enough. */
static int is_too_late(const struct sim_end *end, int shut_out)
{
    const uint64_t limit_ns = user_timeout(end);
    const uint64_t waited_ns = now_of(end) - end->waiting_ns;
    const uint64_t silent_ns = now_of(end) - end->heard_ns;

    if (limit_ns != 0) {
        return waited_ns >= limit_ns;
    }
    if (is_answer_coming(end)) {
        return 0;
    }
    if (shut_out && end->socket == NULL && waited_ns >= ORPHAN_STUCK_S * GYRE_SEC) {
        return 1;
    }
    return least(waited_ns, shut_out ? silent_ns : waited_ns) >= GIVE_UP_S * GYRE_SEC;
}

static void time_out(struct sim_end *end, int error)
{
    gyre__sim_trace(end->connection->sim, "tcp %llu%c times out",
                    (unsigned long long)end->connection->id, arrow(end));
    give_up(end, error);
}

static void send_again(struct sim_end *end)
{
    struct sim_flow *out = &end->out;
    const int shut_out = out->acked < out->written && out->edge <= out->acked;

    if (is_too_late(end, shut_out)) {
        time_out(end, ETIMEDOUT);
        return;
    }
    end->tried_ns = now_of(end);
    if (is_answer_coming(end)) {
        return;
    }
    end->tries++;
    out->sent = out->acked;
    if (shut_out) {
        send_segment(end, out->sent, out->sent, SEGMENT_PROBE);
    } else {
        push(end);
    }
}

/* Nothing is to be sent: a peer that has not ended after the orphan's end, or is not there. */
static void look_after(struct sim_end *end)
{
    const uint64_t limit_ns = user_timeout(end);
    const uint64_t silent_ns = now_of(end) - end->heard_ns;
    int dead;

    if (end->socket == NULL) {
        give_up(end, 0); /* the end of FIN_WAIT2: what comes later is answered with a reset */
        return;
    }
    dead = limit_ns != 0
               ? end->tries > 0 && silent_ns >= limit_ns
               : (int)end->tries >= gyre__sim_tcp_option(end->socket, TCP_KEEPCNT, KEEPALIVE_COUNT);
    if (dead) {
        send_reset(end);
        time_out(end, ETIMEDOUT);
        return;
    }
    end->tries++;
    end->tried_ns = now_of(end);
    send_segment(end, end->out.sent, end->out.sent, SEGMENT_PROBE);
}

static void call_again(struct sim_end *end)
{
    const uint64_t limit_ns = user_timeout(end);
    const int most = gyre__sim_tcp_option(end->socket, TCP_SYNCNT, SYN_TRIES);

    if (gyre__sim_peer(end)->host == NULL) {
        time_out(end, EHOSTUNREACH);
    } else if ((int)end->tries >= most ||
               (limit_ns != 0 && now_of(end) - end->waiting_ns >= limit_ns)) {
        time_out(end, ETIMEDOUT);
    } else {
        end->tries++;
        end->tried_ns = now_of(end);
        send_segment(end, 0, 0, SEGMENT_SYN);
    }
}

static void answer_again(struct sim_end *end)
{
    if (end->tries >= SYNACK_TRIES) {
        time_out(end, 0);
        return;
    }
    end->tries++;
    end->tried_ns = now_of(end);
    send_segment(end, 0, 0, SEGMENT_SYN);
}

static void fire_timer(struct sim_event *event)
{
    struct sim_end *end = gyre_container_of(event, struct sim_end, timer);
    struct sim_connection *connection = end->connection;

    end->deadline_ns = next_deadline(end);
    if (end->deadline_ns > now_of(end)) {
        gyre__sim_end_plan(end);
        return;
    }
    switch (end->state) {
    case SIM_END_SYN_SENT:
        call_again(end);
        break;
    case SIM_END_SYN_RECEIVED:
        answer_again(end);
        break;
    case SIM_END_OPEN:
        if (is_waiting(end)) {
            send_again(end);
        } else {
            look_after(end);
        }
        break;
    default:
        break;
    }
    gyre__sim_end_plan(end);
    settle(connection);
}

/* ---- receiving ---- */

/* Over in both directions: the socket is as good as never connected, and the port of who ended
 * first is kept from others for a while. */
static void check_done(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || !end->out.fin || is_waiting(end) ||
        !flow_in(end)->fin_arrived) {
        return;
    }
    end->state = SIM_END_DONE;
    end->deadline_ns = UINT64_MAX;
    if (end->ended_first) {
        linger(end);
    }
    drop_port(end);
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
    const int was_shut_out = is_shut_out(out);

    end->tries = is_waiting(end) ? end->tries : 0; /* of keep-alive: it is there */
    if (segment->ack > out->acked) {
        gyre_assert(segment->ack <= total_of(out));
        out->acked = segment->ack;
        out->sent = out->sent > out->acked ? out->sent : out->acked;
        note_progress(end);
        if (out->fin && !is_waiting(end) && end->socket != NULL) {
            gyre__sim_tcp_changed(end->socket); /* FIN_WAIT2 */
        }
    }
    if (segment->edge > out->edge) {
        out->edge = segment->edge;
        if (was_shut_out) {
            note_progress(end);
        }
    }
    tell_of_room(end);
    push(end);
}

/* Bytes for a program that has said that it takes no more, and has ended its own direction
 * (TCPABORTONDATA). */
static int is_unwanted(const struct sim_end *end, const struct segment *segment)
{
    const struct sim_flow *in = flow_in(end);
    const uint64_t bytes_to = segment->to - ((segment->flags & SEGMENT_FIN) != 0);

    return end->out.fin && bytes_to > in->arrived &&
           (end->socket == NULL || (end->socket->shut & SIM_SHUT_IN));
}

static void take_end(struct sim_end *end)
{
    struct sim_flow *in = flow_in(end);
    struct sim_tcp *tcp = end->socket;

    in->fin_arrived = 1;
    gyre__sim_trace(end->connection->sim, "tcp %llu%c end", (unsigned long long)end->connection->id,
                    arrow(gyre__sim_peer(end)));
    if (end->out.fin && is_waiting(end)) {
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
    struct sim_flow *in = flow_in(end);
    const uint64_t len = segment->to - ((segment->flags & SEGMENT_FIN) != 0) - in->arrived;

    in->arrived = segment->to;
    if (len > 0) {
        gyre__sim_trace(end->connection->sim, "tcp %llu%c %llu bytes",
                        (unsigned long long)end->connection->id, arrow(gyre__sim_peer(end)),
                        (unsigned long long)len);
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
    const struct sim_flow *in = flow_in(end);
    const int is_new = segment->to > in->arrived && segment->from <= in->arrived;

    take_ack(end, segment);
    if (is_new && is_unwanted(end, segment)) {
        send_reset(end);
        give_up(end, ECONNRESET);
        return;
    }
    if (is_new) {
        take_bytes(end, segment);
    }
    if (segment->to > segment->from || (segment->flags & SEGMENT_PROBE)) {
        send_ack(end);
    }
    check_done(end);
}

static void take_reset(struct sim_end *end)
{
    const struct sim_flow *in = flow_in(end);
    const int close_wait = in->fin_arrived && !end->out.fin;

    gyre__sim_trace(end->connection->sim, "tcp %llu%c reset",
                    (unsigned long long)end->connection->id, arrow(gyre__sim_peer(end)));
    if (end->socket != NULL && gyre__sim_flow_unread(in) > 0) {
        gyre__sim_sometimes(end->connection->sim, GYRE_SIM_PATH_DATA_WITH_RESET);
    }
    if (end->state == SIM_END_SYN_SENT) {
        give_up(end, ECONNREFUSED);
    } else {
        give_up(end, close_wait ? EPIPE : ECONNRESET);
    }
}

/* ---- handshake ---- */

static void take_call(struct sim_end *end)
{
    struct sim_connection *connection = end->connection;
    struct sim_tcp *listener = gyre__sim_tcp_listener(end->host, &end->local);

    if (listener == NULL) {
        send_reset(end);
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
    hold_port(end);
    gyre__list_append(&listener->pending, &end->pending);
    note_progress(end);
    send_segment(end, 0, 0, SEGMENT_SYN);
}

static void take_answer(struct sim_end *end, const struct segment *segment)
{
    struct sim_connection *connection = end->connection;

    end->state = SIM_END_OPEN;
    end->out.edge = segment->edge;
    connection->round_trip_ns = now_of(end) - connection->begun_ns;
    note_progress(end);
    gyre__sim_trace(connection->sim, "tcp %llu connected", (unsigned long long)connection->id);
    send_ack(end);
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
    note_progress(end);
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
            send_reset(end);
        }
        break;
    case SIM_END_SYN_SENT:
        if (segment->flags & SEGMENT_SYN) {
            take_answer(end, segment);
        }
        break;
    default:
        if (segment->flags & SEGMENT_SYN) {
            send_segment(end, 0, 0, SEGMENT_SYN);
        } else {
            take_confirmation(end, segment);
        }
        break;
    }
}

static void arrive(struct sim_end *end, const struct segment *segment)
{
    end->heard_ns = now_of(end);
    if (end->state == SIM_END_GONE || end->state == SIM_END_DONE) {
        if (segment->flags & SEGMENT_RST) {
            return;
        }
        if (end->state == SIM_END_GONE) {
            send_reset(end);
        } else if (segment->to > segment->from) {
            send_ack(end);
        }
        return;
    }
    if ((segment->flags & SEGMENT_RST) && end->state != SIM_END_SILENT) {
        take_reset(end);
    } else if (end->state != SIM_END_OPEN) {
        arrive_early(end, segment);
    } else if (segment->flags & SEGMENT_SYN) {
        send_ack(end); /* our word was lost: the handshake's last */
    } else {
        take(end, segment);
    }
    gyre__sim_end_plan(end);
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
    hold_port(end);
    end->state = SIM_END_SYN_SENT;
    note_progress(end);
    gyre__sim_trace(connection->sim, "tcp %llu calls %s:%u from %s:%u",
                    (unsigned long long)connection->id, host != NULL ? host->name : "nobody",
                    to->port, from->name, source->port);
    send_segment(end, 0, 0, SEGMENT_SYN);
    gyre__sim_end_plan(end);
}

size_t gyre__sim_end_write(struct sim_end *end, const struct msghdr *msg, size_t len)
{
    gyre_assert(end->state == SIM_END_OPEN && !end->out.fin);
    if (!is_waiting(end)) {
        note_progress(end);
    }
    fill(&end->out, msg, len);
    push(end);
    gyre__sim_end_plan(end);
    return len;
}

/* The program has made room; the peer is told when that is worth a segment. */
static void tell_window(struct sim_end *end)
{
    const struct sim_flow *in = flow_in(end);
    const uint64_t edge = next_edge(end);

    if (end->state == SIM_END_OPEN && !in->fin_arrived && edge > in->offered &&
        edge - in->arrived >= 2 * (in->offered - in->arrived)) {
        send_ack(end);
    }
}

size_t gyre__sim_end_read(struct sim_end *end, const struct msghdr *msg, size_t len, int peek)
{
    struct sim_flow *in = flow_in(end);
    const uint64_t unread = gyre__sim_flow_unread(in);

    len = len < unread ? len : (size_t)unread;
    drain(in, msg, len);
    if (peek) {
        return len;
    }
    in->read += len;
    if (in->read == in->written && in->room > ROOM_KEPT) {
        drop_memory(in);
    }
    tell_window(end);
    return len;
}

void gyre__sim_end_finish(struct sim_end *end)
{
    if (end->state != SIM_END_OPEN || end->out.fin) {
        return;
    }
    if (!is_waiting(end)) {
        note_progress(end);
    }
    end->out.fin = 1;
    end->ended_first = !flow_in(end)->fin_arrived;
    push(end);
    gyre__sim_end_plan(end);
}

void gyre__sim_end_reset(struct sim_end *end)
{
    if (end->state == SIM_END_OPEN || end->state == SIM_END_SYN_RECEIVED) {
        send_reset(end);
    }
    if (end->state != SIM_END_GONE && end->state != SIM_END_DONE) {
        give_up(end, 0);
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
        give_up(end, 0);
    }
    if (end->state == SIM_END_OPEN) {
        gyre__sim_end_finish(end);
        end->tried_ns = is_waiting(end) ? end->tried_ns : now_of(end);
        gyre__sim_end_plan(end);
    }
    settle(connection);
}

/* ---- from outside ---- */

static void break_connection(struct sim_connection *connection)
{
    for (int i = 0; i < 2; i++) {
        struct sim_end *end = &connection->end[i];

        if (end->state != SIM_END_SILENT && end->state != SIM_END_DONE &&
            end->state != SIM_END_GONE) {
            take_reset(end);
        }
    }
    free_wire(&connection->end[0]);
    free_wire(&connection->end[1]);
    settle(connection);
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
    while (!gyre__list_empty(&kept->lingering)) {
        drop_lingering(host, gyre_container_of(kept->lingering.next, struct lingering, link));
    }
    while (!gyre__list_empty(&kept->listeners)) {
        gyre__list_remove(kept->listeners.next);
    }
    free(kept);
    host->tcp = NULL;
}
