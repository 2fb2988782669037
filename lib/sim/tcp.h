/*
 * TCP of the simulated kernel, between its two halves: tcp.c is what programs see (struct sim_tcp, a
 * socket), tcp_end.c and what tcp_end.h names are what hosts say to each other (struct
 * sim_connection, which has two ends). A
 * socket that is connected, or tries to be, has an end; an end has a socket until that is closed,
 * and goes on alone until all is said.
 */
#ifndef GYRE_SIM_TCP_H
#define GYRE_SIM_TCP_H

#include "sim/sim.h"

#include <linux/tcp.h>

/*
 * One end of a connection:
 *
 *     SILENT -> SYN_RECEIVED -> OPEN -> DONE      the side that was called
 *               SYN_SENT ----> OPEN -> DONE       the side that calls
 *     any -> GONE
 *
 * SILENT has not been heard of. OPEN is open in at least one direction; which is in the flows. DONE
 * has ended in both, and only repeats its last word. GONE was reset or has given up: it answers
 * everything with a reset.
 */
enum sim_end_state {
    SIM_END_SILENT,
    SIM_END_SYN_SENT,
    SIM_END_SYN_RECEIVED,
    SIM_END_OPEN,
    SIM_END_DONE,
    SIM_END_GONE,
};

/*
 * The bytes of one direction, in one ring from the sender's program to the receiver's: nothing is
 * copied on the way. All are positions in the stream, from 0; the end of it (FIN) takes the one
 * behind the last byte.
 *
 *     read <= arrived <= sent <= written + fin        acked <= arrived
 */
struct sim_flow {
    uint8_t *memory; /* of the bytes from read to written */
    size_t room;     /* a power of two, or 0 */
    uint64_t written;
    uint64_t sent; /* goes back to acked when something was lost */
    uint64_t acked;
    uint64_t edge; /* the sender may send up to here, as far as it knows */
    uint64_t arrived;
    uint64_t read;
    uint64_t offered; /* the edge that the receiver told last */
    uint8_t fin;      /* the sender's program has ended it */
    uint8_t fin_arrived;
};

struct sim_end {
    struct gyre_link link; /* of the host's connections */
    struct sim_connection *connection;
    struct gyre_sim_host *host; /* NULL: there is no such host */
    struct sim_tcp *socket;     /* NULL: not accepted yet, or closed */
    struct sim_tcp *listener;   /* SYN_RECEIVED: of whom */
    struct gyre_link pending;   /* of the listener */
    enum sim_end_state state;
    struct sim_ip local;
    struct sim_flow out;
    struct gyre_link wire;    /* struct segment, on the way from here */
    struct sim_event arrival; /* of the first of these */
    struct sim_event timer;   /* to look at `deadline_ns`; may fire too early */
    uint64_t deadline_ns;
    uint64_t waiting_ns; /* since then nothing was acknowledged of what should be */
    uint64_t heard_ns;   /* when something came last */
    uint64_t tried_ns;   /* when something was last sent for it, or acknowledged */
    uint32_t tries;      /* in vain, in a row */
    uint32_t window;     /* bytes that the receiver takes before its program reads */
    uint8_t holds_port;
    uint8_t ended_first; /* its FIN was first, or at the same time: it goes to TIME_WAIT */
    uint8_t reuse;       /* SO_REUSEADDR of its socket */
};

struct sim_connection {
    uint64_t id;
    struct gyre_sim *sim;
    uint64_t begun_ns;
    uint64_t round_trip_ns;
    struct sim_end end[2]; /* [0] called */
};

enum { SIM_TCP_OPTIONS_MAX = 16 };

/* Connected or not as connect(2) sees it: SS_UNCONNECTED and so on. */
enum sim_tcp_stage { SIM_TCP_IDLE, SIM_TCP_CONNECTING, SIM_TCP_CONNECTED };

enum { SIM_SHUT_IN = 1, SIM_SHUT_OUT = 2, SIM_SHUT_BOTH = 3 };

struct sim_tcp {
    struct sim_socket base;
    struct sim_binding binding;
    struct sim_end *end;
    enum sim_tcp_stage stage;
    uint8_t shut;     /* of SIM_SHUT_: also by the peer's FIN, or because it is over */
    uint8_t done;     /* SOCK_DONE: the FIN came; an end before any error */
    uint8_t no_space; /* SOCK_NOSPACE: somebody found no room, and is told when there is */
    uint8_t chosen;   /* the binding is connect's own choice */
    uint8_t released;
    struct sim_ip local; /* of the last connection */
    struct sim_ip peer;
    struct gyre_link listening; /* of the host's listeners */
    struct gyre_link accepting; /* in the listener's queue */
    struct gyre_link queue;     /* a listener's: sockets to be accepted */
    struct gyre_link pending;   /* a listener's: ends that are SYN_RECEIVED */
    uint32_t queued;
    uint32_t backlog;
    char congestion[16];
    struct {
        int name, value;
    } option[SIM_TCP_OPTIONS_MAX];
    uint32_t option_count;
};

/* What TCP keeps of a host. */
struct sim_tcp_host {
    struct gyre_link listeners;
    struct gyre_link lingering; /* struct lingering, in TIME_WAIT, the oldest first */
};

/* ---- tcp.c ---- */

static inline struct sim_tcp *gyre__sim_tcp_of(struct sim_socket *socket)
{
    return gyre_container_of(socket, struct sim_tcp, base);
}

struct sim_tcp_host *gyre__sim_tcp_host(struct gyre_sim_host *host);

/* EPOLLIN and so on. */
uint32_t gyre__sim_tcp_mask(const struct sim_tcp *tcp);

/* What changed is not said: waiters look at all that holds now (sk_state_change). */
void gyre__sim_tcp_changed(struct sim_tcp *tcp);

/* The value of a TCP option, as far as it was set. */
int gyre__sim_tcp_option(const struct sim_tcp *tcp, int name, int otherwise);

/* The listener that @ip belongs to, or NULL. */
struct sim_tcp *gyre__sim_tcp_listener(struct gyre_sim_host *host, const struct sim_ip *ip);

int gyre__sim_tcp_is_full(const struct sim_tcp *listener);

/* The handshake of @end is over: a socket for it in the listener's queue. */
void gyre__sim_tcp_queue(struct sim_tcp *listener, struct sim_end *end);

/* The connection is over for the socket, with an error or 0. */
void gyre__sim_tcp_over(struct sim_tcp *tcp, int error);

/* ---- tcp_end.c ---- */

static inline struct sim_end *gyre__sim_peer(const struct sim_end *end)
{
    return &end->connection->end[end == &end->connection->end[0]];
}

/* Bytes of a flow that its receiver can read. */
static inline uint64_t gyre__sim_flow_unread(const struct sim_flow *flow)
{
    return flow->arrived - flow->fin_arrived - flow->read;
}

/* Sends the SYN. */
void gyre__sim_end_call(struct sim_tcp *tcp, const struct sim_ip *source, const struct sim_ip *to,
                        struct gyre_sim_host *host);
size_t gyre__sim_end_write(struct sim_end *end, const struct msghdr *msg, size_t len);
size_t gyre__sim_end_read(struct sim_end *end, const struct msghdr *msg, size_t len, int peek);
void gyre__sim_end_finish(struct sim_end *end); /* FIN behind what is written */
void gyre__sim_end_reset(struct sim_end *end);  /* RST, if there is somebody to tell */
/* The socket is closed; the end goes on alone, or is freed. */
void gyre__sim_end_leave(struct sim_end *end);
/* Timers depend on options and on what is known: look again. */
void gyre__sim_end_plan(struct sim_end *end);

#endif
