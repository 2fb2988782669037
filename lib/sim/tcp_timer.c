/* What an end of a TCP connection does when time passes: it sends again, sees whether the peer is
 * there, and gives up. One timer serves all; it may fire too early. */
#include "sim/tcp_end.h"

#include <errno.h>

enum {
    SYN_TRIES = 6,    /* tcp_syn_retries: 127 s */
    SYNACK_TRIES = 5, /* tcp_synack_retries: 63 s */
    /* Linux waits for 15 minutes (tcp_retries2); nothing is learnt in the rest of them. */
    GIVE_UP_S = 15,
    ORPHAN_STUCK_S = 120,
    FIN_WAIT_S = 60, /* tcp_fin_timeout */
    KEEPALIVE_IDLE_S = 7200,
    KEEPALIVE_INTERVAL_S = 75,
    KEEPALIVE_COUNT = 9,
};

#define RETRY_FIRST_NS  (200 * GYRE_MSEC)
#define RETRY_MAX_NS    (120 * GYRE_SEC)
#define SYN_RETRY_NS    GYRE_SEC
#define NO_NEIGHBOUR_NS (3100 * GYRE_MSEC) /* three unanswered ARP requests, a second each */
#define SHIFT_MAX       16

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
        return gyre__sim_end_waits(end) ? retry_deadline(end) : idle_deadline(end);
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
void gyre__sim_end_progress(struct sim_end *end)
{
    end->tries = 0;
    end->tried_ns = gyre__sim_end_now(end);
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
    const uint64_t waited_ns = gyre__sim_end_now(end) - end->waiting_ns;
    const uint64_t silent_ns = gyre__sim_end_now(end) - end->heard_ns;

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
                    (unsigned long long)end->connection->id, gyre__sim_end_arrow(end));
    gyre__sim_end_give_up(end, error);
}

static void send_again(struct sim_end *end)
{
    struct sim_flow *out = &end->out;
    const int shut_out = out->acked < out->written && out->edge <= out->acked;

    if (is_too_late(end, shut_out)) {
        time_out(end, ETIMEDOUT);
        return;
    }
    end->tried_ns = gyre__sim_end_now(end);
    if (is_answer_coming(end)) {
        return;
    }
    end->tries++;
    out->sent = out->acked;
    if (shut_out) {
        gyre__sim_end_send(end, out->sent, out->sent, SEGMENT_PROBE);
    } else {
        gyre__sim_end_push(end);
    }
}

/* Nothing is to be sent: a peer that has not ended after the orphan's end, or is not there. */
static void look_after(struct sim_end *end)
{
    const uint64_t limit_ns = user_timeout(end);
    const uint64_t silent_ns = gyre__sim_end_now(end) - end->heard_ns;
    int dead;

    if (end->socket == NULL) {
        gyre__sim_end_give_up(
            end, 0); /* the end of FIN_WAIT2: what comes later is answered with a reset */
        return;
    }
    dead = limit_ns != 0
               ? end->tries > 0 && silent_ns >= limit_ns
               : (int)end->tries >= gyre__sim_tcp_option(end->socket, TCP_KEEPCNT, KEEPALIVE_COUNT);
    if (dead) {
        gyre__sim_end_send_reset(end);
        time_out(end, ETIMEDOUT);
        return;
    }
    end->tries++;
    end->tried_ns = gyre__sim_end_now(end);
    gyre__sim_end_send(end, end->out.sent, end->out.sent, SEGMENT_PROBE);
}

static void call_again(struct sim_end *end)
{
    const uint64_t limit_ns = user_timeout(end);
    const int most = gyre__sim_tcp_option(end->socket, TCP_SYNCNT, SYN_TRIES);

    if (gyre__sim_peer(end)->host == NULL) {
        time_out(end, EHOSTUNREACH);
    } else if ((int)end->tries >= most ||
               (limit_ns != 0 && gyre__sim_end_now(end) - end->waiting_ns >= limit_ns)) {
        time_out(end, ETIMEDOUT);
    } else {
        end->tries++;
        end->tried_ns = gyre__sim_end_now(end);
        gyre__sim_end_send(end, 0, 0, SEGMENT_SYN);
    }
}

static void answer_again(struct sim_end *end)
{
    if (end->tries >= SYNACK_TRIES) {
        time_out(end, 0);
        return;
    }
    end->tries++;
    end->tried_ns = gyre__sim_end_now(end);
    gyre__sim_end_send(end, 0, 0, SEGMENT_SYN);
}

void gyre__sim_end_timer(struct sim_event *event)
{
    struct sim_end *end = gyre_container_of(event, struct sim_end, timer);
    struct sim_connection *connection = end->connection;

    end->deadline_ns = next_deadline(end);
    if (end->deadline_ns > gyre__sim_end_now(end)) {
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
        if (gyre__sim_end_waits(end)) {
            send_again(end);
        } else {
            look_after(end);
        }
        break;
    default:
        break;
    }
    gyre__sim_end_plan(end);
    gyre__sim_connection_settle(connection);
}
