/*
 * TCP sockets as programs see them: what each system call does in each state, as Linux does it, the
 * odd cases included. What goes between hosts is in tcp_end.c.
 *
 *     IDLE ---- listen --> listening
 *      |
 *      +------ connect --> CONNECTING --> CONNECTED       (sim_tcp_stage; accepted ones begin there)
 *
 * The stage is what connect(2) goes by; what happens to the connection meanwhile is the end's state.
 * They differ on purpose: a connection that has failed stays CONNECTING until somebody asks
 * connect(2) how it stands, which tells the error (or ECONNABORTED, when SO_ERROR was read before)
 * and makes the socket as new. A connection that is over in both directions, or was reset, has
 * state DONE or GONE, which poll(2) shows as EPOLLHUP, as of a socket that never was connected.
 */
#include "sim/tcp.h"

#include "base/assert.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

enum {
    BACKLOG_MAX = 4096,   /* net.core.somaxconn */
    DEFER_MAX_S = 30000,  /* 255 retransmissions */
    SEND_BUFFER = 174080, /* small for Linux, where it grows, so that senders meet the limit */
    RECEIVE_BUFFER = 131072,
};

static const struct sim_file_ops tcp_file_ops;
static const struct sim_socket_ops tcp_ops;

/* linux/tcp.h has these, netinet/tcp.h too; the states of the kernel are in neither. */
enum { INFO_ESTABLISHED = 1, INFO_SYN_SENT, INFO_SYN_RECV, INFO_FIN_WAIT1, INFO_FIN_WAIT2 };
enum { INFO_TIME_WAIT = 6, INFO_CLOSE, INFO_CLOSE_WAIT, INFO_LAST_ACK, INFO_LISTEN, INFO_CLOSING };

struct sim_tcp_host *gyre__sim_tcp_host(struct gyre_sim_host *host)
{
    if (host->tcp == NULL) {
        host->tcp = gyre__sim_alloc(sizeof(*host->tcp));
        gyre__list_init(&host->tcp->listeners);
        gyre__list_init(&host->tcp->lingering);
    }
    return host->tcp;
}

static struct sim_tcp *tcp_of_file(struct sim_file *file)
{
    return gyre_container_of(file, struct sim_tcp, base.file);
}

/* ---- states ---- */

/* TCP_CLOSE: never connected, or over. */
static int is_closed(const struct sim_tcp *tcp)
{
    return tcp->end == NULL || tcp->end->state == SIM_END_DONE || tcp->end->state == SIM_END_GONE;
}

static int is_calling(const struct sim_tcp *tcp)
{
    return tcp->end != NULL && tcp->end->state == SIM_END_SYN_SENT;
}

static uint64_t unread_of(const struct sim_tcp *tcp)
{
    return tcp->end != NULL ? gyre__sim_flow_unread(&gyre__sim_peer(tcp->end)->out) : 0;
}

/* Bytes that the send buffer holds: until they are acknowledged. */
static uint64_t queued_of(const struct sim_tcp *tcp)
{
    const struct sim_flow *out;

    if (tcp->end == NULL || tcp->end->state != SIM_END_OPEN) {
        return 0;
    }
    out = &tcp->end->out;
    return out->acked < out->written ? out->written - out->acked : 0;
}

/* sk_stream_is_writeable(): as much is free as half of what is queued. */
static int is_writable(const struct sim_tcp *tcp)
{
    const uint64_t queued = queued_of(tcp);

    return queued < tcp->base.send_buffer && tcp->base.send_buffer - queued >= queued / 2;
}

static int is_readable(const struct sim_tcp *tcp)
{
    const int mark = gyre__sim_socket_option(&tcp->base, SOL_SOCKET, SO_RCVLOWAT, 1);

    return unread_of(tcp) >= (uint64_t)(mark > 0 ? mark : 1);
}

/* tcp_poll() */
uint32_t gyre__sim_tcp_mask(const struct sim_tcp *tcp)
{
    uint32_t mask = 0;

    if (tcp->base.listening) {
        return tcp->queued > 0 ? EPOLLIN | EPOLLRDNORM : 0;
    }
    if (tcp->shut == SIM_SHUT_BOTH || is_closed(tcp)) {
        mask |= EPOLLHUP;
    }
    if (tcp->shut & SIM_SHUT_IN) {
        mask |= EPOLLIN | EPOLLRDNORM | EPOLLRDHUP;
    }
    if (!is_calling(tcp)) {
        mask |= is_readable(tcp) ? EPOLLIN | EPOLLRDNORM : 0;
        if ((tcp->shut & SIM_SHUT_OUT) || is_writable(tcp)) {
            mask |= EPOLLOUT | EPOLLWRNORM;
        }
    }
    return mask | (tcp->base.error != 0 ? EPOLLERR : 0);
}

/* Whoever asks and finds no room will be told when there is some. */
static uint32_t tcp_poll(struct sim_file *file)
{
    struct sim_tcp *tcp = tcp_of_file(file);
    const uint32_t mask = gyre__sim_tcp_mask(tcp);

    if (!tcp->base.listening && !is_calling(tcp) && !(mask & EPOLLOUT)) {
        tcp->no_space = 1;
    }
    return mask;
}

void gyre__sim_tcp_changed(struct sim_tcp *tcp)
{
    gyre__sim_file_wake(&tcp->base.file, EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM |
                                             EPOLLWRBAND | EPOLLRDHUP | EPOLLHUP | EPOLLERR);
}

static void unbind_chosen(struct sim_tcp *tcp)
{
    if (tcp->chosen) {
        gyre__sim_unbind(&tcp->binding);
        tcp->chosen = 0;
    }
}

void gyre__sim_tcp_over(struct sim_tcp *tcp, int error)
{
    if (error != 0) {
        tcp->base.error = error;
    }
    tcp->shut = SIM_SHUT_BOTH;
    unbind_chosen(tcp);
    gyre__sim_tcp_changed(tcp);
    if (error != 0) {
        gyre__sim_file_wake(&tcp->base.file, EPOLLERR);
    }
}

/* ---- options ---- */

int gyre__sim_tcp_option(const struct sim_tcp *tcp, int name, int otherwise)
{
    for (uint32_t i = 0; i < tcp->option_count; i++) {
        if (tcp->option[i].name == name) {
            return tcp->option[i].value;
        }
    }
    return otherwise;
}

/* What getsockopt(2) says of options that are numbers; and whether there is such an option. */
static int has_option(int name, int *out_default, int *out_least, int *out_most)
{
    static const struct {
        int name, otherwise, least, most;
    } known[] = {
        {TCP_NODELAY, 0, INT_MIN, INT_MAX},
        {TCP_MAXSEG, 536, 0, 32767},
        {TCP_CORK, 0, INT_MIN, INT_MAX},
        {TCP_KEEPIDLE, 7200, 1, 32767},
        {TCP_KEEPINTVL, 75, 1, 32767},
        {TCP_KEEPCNT, 9, 1, 127},
        {TCP_SYNCNT, 6, 1, 127},
        {TCP_LINGER2, 60, INT_MIN, INT_MAX},
        {TCP_DEFER_ACCEPT, 0, INT_MIN, INT_MAX},
        {TCP_QUICKACK, 1, INT_MIN, INT_MAX},
        {TCP_USER_TIMEOUT, 0, 0, INT_MAX},
        {TCP_FASTOPEN, 0, 0, INT_MAX},
        {TCP_FASTOPEN_CONNECT, 0, 0, 1},
        {TCP_NOTSENT_LOWAT, 0, INT_MIN, INT_MAX},
    };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i].name == name) {
            *out_default = known[i].otherwise;
            *out_least = known[i].least;
            *out_most = known[i].most;
            return 1;
        }
    }
    return 0;
}

static void keep_option(struct sim_tcp *tcp, int name, int value)
{
    uint32_t i = 0;

    while (i < tcp->option_count && tcp->option[i].name != name) {
        i++;
    }
    gyre_assert(i < SIM_TCP_OPTIONS_MAX);
    tcp->option_count = i == tcp->option_count ? i + 1 : tcp->option_count;
    tcp->option[i].name = name;
    tcp->option[i].value = value;
}

/* Seconds as a number of retransmissions of the handshake's answer, and back: 1, 3, 7 ... */
static int defer_as_kept(int seconds)
{
    int interval = 1;
    int sum = seconds > 0 ? 1 : 0;

    while (sum < seconds && sum < DEFER_MAX_S) {
        interval = 2 * interval < 120 ? 2 * interval : 120;
        sum += interval;
    }
    return sum;
}

/* What Linux makes of a value before it keeps it. */
static int as_kept(int name, int value)
{
    switch (name) {
    case TCP_DEFER_ACCEPT:
        return defer_as_kept(value);
    case TCP_NODELAY:
    case TCP_CORK:
        return value != 0;
    case TCP_FASTOPEN:
        return value < BACKLOG_MAX ? value : BACKLOG_MAX;
    default:
        return value;
    }
}

static int set_number(struct sim_tcp *tcp, int name, const void *value, socklen_t len)
{
    int otherwise;
    int least;
    int most;
    int number;

    if (!has_option(name, &otherwise, &least, &most)) {
        return -ENOPROTOOPT;
    }
    if (len < sizeof(number)) {
        return -EINVAL;
    }
    memcpy(&number, value, sizeof(number));
    if (number < least || number > most) {
        return -EINVAL;
    }
    if ((name == TCP_FASTOPEN && !tcp->base.listening && !is_closed(tcp)) ||
        (name == TCP_FASTOPEN_CONNECT && (tcp->base.listening || !is_closed(tcp)))) {
        return -EINVAL;
    }
    keep_option(tcp, name, as_kept(name, number));
    return 0;
}

static int set_congestion(struct sim_tcp *tcp, const char *name, socklen_t len)
{
    char text[sizeof(tcp->congestion)] = {0};

    if (len < 1) {
        return -EINVAL;
    }
    memcpy(text, name, len < sizeof(text) ? len : sizeof(text) - 1);
    if (strcmp(text, "cubic") != 0 && strcmp(text, "reno") != 0) {
        return -ENOENT;
    }
    memcpy(tcp->congestion, text, sizeof(text));
    return 0;
}

static int tcp_setsockopt(struct sim_socket *socket, int level, int name, const void *value,
                          socklen_t len)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    int rc;

    if (level == SOL_SOCKET && name == SO_KEEPALIVE && tcp->end != NULL) {
        /* socket.c keeps it; once it has, the timer has to know */
        gyre__sim_schedule(socket->file.sim, &tcp->end->timer, gyre__sim_now(socket->file.sim));
    }
    if (level != IPPROTO_TCP) {
        return -ENOPROTOOPT;
    }
    rc = name == TCP_CONGESTION ? set_congestion(tcp, value, len)
                                : set_number(tcp, name, value, len);
    if (rc == 0 && tcp->end != NULL) {
        gyre__sim_end_plan(tcp->end);
    }
    return rc;
}

static int state_for_info(const struct sim_tcp *tcp)
{
    const struct sim_end *end = tcp->end;
    const struct sim_flow *out = end != NULL ? &end->out : NULL;
    int acked;
    int heard;

    if (tcp->base.listening) {
        return INFO_LISTEN;
    }
    if (is_closed(tcp)) {
        return INFO_CLOSE;
    }
    if (is_calling(tcp)) {
        return INFO_SYN_SENT;
    }
    heard = gyre__sim_peer(end)->out.fin_arrived;
    acked = out->acked > out->written;
    if (!out->fin) {
        return heard ? INFO_CLOSE_WAIT : INFO_ESTABLISHED;
    }
    if (heard) {
        return end->ended_first ? INFO_CLOSING : INFO_LAST_ACK;
    }
    return acked ? INFO_FIN_WAIT2 : INFO_FIN_WAIT1;
}

static void fill_info(const struct sim_tcp *tcp, struct tcp_info *info)
{
    const struct sim_end *end = tcp->end;
    const struct sim_flow *in;

    memset(info, 0, sizeof(*info));
    info->tcpi_state = (uint8_t)state_for_info(tcp);
    info->tcpi_snd_mss = 1448;
    info->tcpi_rcv_mss = 1448;
    if (tcp->base.listening) {
        info->tcpi_unacked = tcp->queued;
        info->tcpi_sacked = tcp->backlog;
        return;
    }
    if (end == NULL) {
        return;
    }
    in = &gyre__sim_peer(end)->out;
    info->tcpi_retransmits = (uint8_t)(end->tries < UINT8_MAX ? end->tries : UINT8_MAX);
    info->tcpi_rtt = (uint32_t)(end->connection->round_trip_ns / 1000);
    info->tcpi_unacked = (uint32_t)((end->out.sent - end->out.acked + 1447) / 1448);
    info->tcpi_bytes_acked = end->out.acked < end->out.written ? end->out.acked : end->out.written;
    info->tcpi_bytes_received = in->arrived - in->fin_arrived;
    info->tcpi_notsent_bytes =
        end->out.sent < end->out.written ? (uint32_t)(end->out.written - end->out.sent) : 0;
}

static int give(void *value, socklen_t *len, const void *from, size_t from_len)
{
    *len = *len < from_len ? *len : (socklen_t)from_len;
    memcpy(value, from, *len);
    return 0;
}

static int tcp_getsockopt(struct sim_socket *socket, int level, int name, void *value,
                          socklen_t *len)
{
    const struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    struct tcp_info info;
    int otherwise;
    int least;
    int most;
    int number;

    if (level != IPPROTO_TCP) {
        return -ENOPROTOOPT;
    }
    if (name == TCP_INFO) {
        fill_info(tcp, &info);
        return give(value, len, &info, sizeof(info));
    }
    if (name == TCP_CONGESTION) {
        return give(value, len, tcp->congestion, sizeof(tcp->congestion));
    }
    if (!has_option(name, &otherwise, &least, &most)) {
        return -ENOPROTOOPT;
    }
    number = gyre__sim_tcp_option(tcp, name, otherwise);
    return give(value, len, &number, sizeof(number));
}

/* ---- bind, listen, accept ---- */

static int tcp_bind(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);

    if (socket->listening || !is_closed(tcp)) {
        return -EINVAL;
    }
    return gyre__sim_bind(socket, &tcp->binding, IPPROTO_TCP, address, len);
}

static int bind_any(struct sim_tcp *tcp)
{
    struct sockaddr_storage any = {.ss_family = (sa_family_t)tcp->base.family};
    const socklen_t len =
        tcp->base.family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    return gyre__sim_bind(&tcp->base, &tcp->binding, IPPROTO_TCP, (const struct sockaddr *)&any,
                          len);
}

static int tcp_listen(struct sim_socket *socket, int backlog)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    int rc;

    if (tcp->stage != SIM_TCP_IDLE || !is_closed(tcp)) {
        return -EINVAL;
    }
    if (!socket->listening) {
        const int bound = tcp->binding.socket != NULL;

        rc = bound ? gyre__sim_bind_again(&tcp->binding) : bind_any(tcp);
        if (rc < 0) {
            return rc;
        }
        tcp->chosen = !bound;
        socket->listening = 1;
        gyre__list_append(&gyre__sim_tcp_host(socket->file.host)->listeners, &tcp->listening);
        gyre__sim_trace(socket->file.sim, "tcp %llu listens", (unsigned long long)socket->file.id);
    }
    tcp->backlog = (unsigned)backlog < BACKLOG_MAX ? (uint32_t)backlog : BACKLOG_MAX;
    return 0;
}

/* How well a listener fits: 0 is not at all, its own address better than a wildcard, and its own
 * family better than IPv4 in IPv6. */
static int fit(const struct sim_tcp *listener, const struct sim_ip *ip)
{
    struct sim_ip bound;

    gyre__sim_ip_read(&bound, (const struct sockaddr *)&listener->binding.address);
    if (bound.port != ip->port) {
        return 0;
    }
    if (gyre__sim_ip_same(&bound, ip)) {
        return 3;
    }
    if (!gyre__sim_ip_is_any(&bound)) {
        return 0;
    }
    if (gyre__sim_ip_is_v4(&bound) == gyre__sim_ip_is_v4(ip)) {
        return 2;
    }
    return gyre__sim_ip_is_v4(ip) && !listener->base.v6only;
}

/* Of several that fit as well (SO_REUSEPORT) one at random, each with the same chance. */
struct sim_tcp *gyre__sim_tcp_listener(struct gyre_sim_host *host, const struct sim_ip *ip)
{
    const struct sim_tcp_host *kept = gyre__sim_tcp_host(host);
    struct sim_tcp *found = NULL;
    uint64_t rivals = 0;
    int best = 1;

    for (struct gyre_link *link = kept->listeners.next; link != &kept->listeners;
         link = link->next) {
        struct sim_tcp *one = gyre_container_of(link, struct sim_tcp, listening);
        const int fits = fit(one, ip);

        if (fits < best || fits == 0) {
            continue;
        }
        rivals = fits > best ? 1 : rivals + 1;
        best = fits;
        if (rivals == 1 || gyre__sim_below(host->sim, rivals) == 0) {
            found = one;
        }
    }
    return found;
}

int gyre__sim_tcp_is_full(const struct sim_tcp *listener)
{
    return listener->queued > listener->backlog;
}

static struct sim_tcp *new_socket(struct gyre_sim_host *host, int family)
{
    struct sim_tcp *tcp = gyre__sim_socket_new(host, &tcp_file_ops, &tcp_ops, sizeof(*tcp));

    tcp->base.family = family;
    tcp->base.type = SOCK_STREAM;
    tcp->base.protocol = IPPROTO_TCP;
    tcp->base.send_buffer = SEND_BUFFER;
    tcp->base.receive_buffer = RECEIVE_BUFFER;
    memcpy(tcp->congestion, "cubic", sizeof("cubic"));
    gyre__list_init(&tcp->listening);
    gyre__list_init(&tcp->accepting);
    gyre__list_init(&tcp->queue);
    gyre__list_init(&tcp->pending);
    return tcp;
}

int gyre__sim_tcp_make(struct gyre_sim_host *host, int family, struct sim_socket **out_socket)
{
    *out_socket = &new_socket(host, family)->base;
    return 0;
}

static void inherit(struct sim_tcp *child, const struct sim_tcp *listener)
{
    const struct sim_socket *from = &listener->base;

    child->base.reuse_address = from->reuse_address;
    child->base.reuse_port = from->reuse_port;
    child->base.v6only = from->v6only;
    child->base.send_buffer = from->send_buffer;
    child->base.receive_buffer = from->receive_buffer;
    child->base.linger = from->linger;
    child->base.owner = from->owner;
    child->base.option_count = from->option_count;
    memcpy(child->base.option, from->option, sizeof(from->option));
    memcpy(child->congestion, listener->congestion, sizeof(child->congestion));
    memcpy(child->option, listener->option, sizeof(child->option));
    child->option_count = listener->option_count;
}

void gyre__sim_tcp_queue(struct sim_tcp *listener, struct sim_end *end)
{
    struct sim_tcp *child = new_socket(end->host, listener->base.family);

    inherit(child, listener);
    child->stage = SIM_TCP_CONNECTED;
    child->end = end;
    child->local = end->local;
    child->peer = gyre__sim_peer(end)->local;
    end->socket = child;
    gyre__list_append(&listener->queue, &child->accepting);
    listener->queued++;
    gyre__sim_file_wake(&listener->base.file, EPOLLIN | EPOLLRDNORM);
}

static int tcp_accept(struct sim_socket *socket, struct sim_socket **out_socket)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    struct sim_tcp *child;

    if (!socket->listening) {
        return -EINVAL;
    }
    if (gyre__list_empty(&tcp->queue)) {
        return -EAGAIN;
    }
    child = gyre_container_of(tcp->queue.next, struct sim_tcp, accepting);
    gyre__list_remove(&child->accepting);
    tcp->queued--;
    *out_socket = &child->base; /* with the queue's hold */
    return 0;
}

/* ---- connect ---- */

/* tcp_disconnect(): as new, but for a port that the program itself has bound. */
static void disconnect(struct sim_tcp *tcp)
{
    struct sim_end *end = tcp->end;

    tcp->stage = SIM_TCP_IDLE;
    tcp->shut = 0;
    tcp->done = 0;
    tcp->end = NULL;
    unbind_chosen(tcp);
    if (end != NULL) {
        end->socket = NULL;
        gyre__sim_end_reset(end);
        gyre__sim_end_leave(end);
    }
    gyre__sim_file_wake(&tcp->base.file, EPOLLERR);
}

static int check_target(const struct sim_tcp *tcp, const struct sockaddr *address, socklen_t len)
{
    const int v6 = tcp->base.family == AF_INET6;
    struct sim_ip to;

    if (len < (v6 ? (socklen_t)offsetof(struct sockaddr_in6, sin6_scope_id)
                  : (socklen_t)sizeof(struct sockaddr_in))) {
        return -EINVAL;
    }
    if (address->sa_family != tcp->base.family) {
        return -EAFNOSUPPORT;
    }
    gyre__sim_ip_read(&to, address);
    return v6 && tcp->base.v6only && gyre__sim_ip_is_v4(&to) ? -ENETUNREACH : 0;
}

/* The local address of a connection: what is bound, and what is left open by that. */
static int choose_source(struct sim_tcp *tcp, struct sim_ip *to, struct sim_ip *out_source)
{
    struct sockaddr_storage address;
    struct sim_ip bound;
    socklen_t len;
    int rc = gyre__sim_source(tcp->base.file.host, to, out_source);

    if (rc < 0) {
        return rc;
    }
    if (tcp->binding.socket == NULL) {
        len = gyre__sim_ip_write(out_source, tcp->base.family, &address);
        rc = gyre__sim_bind(&tcp->base, &tcp->binding, IPPROTO_TCP,
                            (const struct sockaddr *)&address, len);
        if (rc < 0) {
            return -EADDRNOTAVAIL;
        }
        tcp->chosen = 1;
    }
    gyre__sim_ip_read(&bound, (const struct sockaddr *)&tcp->binding.address);
    out_source->port = bound.port;
    if (!gyre__sim_ip_is_any(&bound)) {
        out_source->address = bound.address;
    }
    return 0;
}

static int begin_connect(struct sim_tcp *tcp, const struct sockaddr *address, socklen_t len)
{
    struct gyre_sim_host *host = tcp->base.file.host;
    struct sockaddr_storage target;
    struct sim_ip to;
    int rc = check_target(tcp, address, len);

    if (rc < 0) {
        return rc;
    }
    gyre__sim_ip_read(&to, address);
    rc = choose_source(tcp, &to, &tcp->local);
    if (rc < 0) {
        return rc;
    }
    tcp->peer = to;
    gyre__sim_ip_write(&to, tcp->base.family, &target);
    gyre__sim_end_call(tcp, &tcp->local, &to,
                       gyre__sim_route(host, (const struct sockaddr *)&target));
    return 0;
}

/* inet_stream_connect(): the address counts in the first call only; later ones ask how it stands. */
static int tcp_connect(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    int rc = -EALREADY;

    if (len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    if (address->sa_family == AF_UNSPEC && !socket->listening) {
        disconnect(tcp);
        return 0;
    }
    if (tcp->stage == SIM_TCP_CONNECTED || socket->listening) {
        return -EISCONN;
    }
    if (tcp->stage == SIM_TCP_IDLE) {
        rc = begin_connect(tcp, address, len);
        if (rc < 0) {
            return rc;
        }
        tcp->stage = SIM_TCP_CONNECTING;
        rc = -EINPROGRESS;
    }
    if (is_calling(tcp)) {
        return rc;
    }
    if (is_closed(tcp)) {
        rc = gyre__sim_socket_error(socket);
        disconnect(tcp);
        return rc < 0 ? rc : -ECONNABORTED;
    }
    tcp->stage = SIM_TCP_CONNECTED;
    return 0;
}

/* ---- data ---- */

/* EPIPE is told by a signal too, which the library must not risk. */
static ssize_t broken_pipe(struct sim_tcp *tcp, int flags)
{
    const int rc = gyre__sim_socket_error(&tcp->base);

    if (rc < 0 && rc != -EPIPE) {
        return rc;
    }
    if (!(flags & MSG_NOSIGNAL)) {
        gyre__sim_failed(tcp->base.file.sim, "tcp %llu: a send raises SIGPIPE",
                         (unsigned long long)tcp->base.file.id);
    }
    return -EPIPE;
}

static ssize_t no_room(struct sim_tcp *tcp)
{
    tcp->no_space = 1;
    gyre__sim_sometimes(tcp->base.file.sim, GYRE_SIM_PATH_SEND_BLOCKED);
    return -EAGAIN;
}

static ssize_t tcp_send(struct sim_socket *socket, const struct msghdr *msg, int flags)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    uint64_t queued;
    size_t room;

    if (is_calling(tcp) && socket->error == 0) {
        return -EAGAIN;
    }
    if (socket->listening || is_closed(tcp) || socket->error != 0 || (tcp->shut & SIM_SHUT_OUT)) {
        return broken_pipe(tcp, flags);
    }
    queued = queued_of(tcp);
    room = queued < socket->send_buffer ? (size_t)(socket->send_buffer - queued) : 0;
    if (len > 0 && room == 0) {
        return no_room(tcp);
    }
    if (len > room) {
        tcp->no_space = 1;
    }
    return (ssize_t)gyre__sim_end_write(tcp->end, msg, len < room ? len : room);
}

static ssize_t tcp_recv(struct sim_socket *socket, struct msghdr *msg, int flags)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);

    msg->msg_namelen = 0;
    msg->msg_controllen = 0;
    msg->msg_flags = 0;
    if (flags & MSG_ERRQUEUE) {
        return -EAGAIN;
    }
    if (socket->listening) {
        return -ENOTCONN;
    }
    if (flags & MSG_OOB) {
        return -EINVAL;
    }
    if (unread_of(tcp) > 0) {
        return (ssize_t)gyre__sim_end_read(tcp->end, msg, len, (flags & MSG_PEEK) != 0);
    }
    if (tcp->done) {
        return 0;
    }
    if (socket->error != 0) {
        return gyre__sim_socket_error(socket);
    }
    if (tcp->shut & SIM_SHUT_IN) {
        return 0;
    }
    return is_closed(tcp) ? -ENOTCONN : -EAGAIN;
}

/* ---- the end ---- */

/* A connection that nobody will accept. */
static void refuse(struct sim_tcp *child)
{
    struct sim_end *end = child->end;

    gyre__list_remove(&child->accepting);
    if (end != NULL) {
        end->socket = NULL;
        child->end = NULL;
        gyre__sim_end_reset(end);
        gyre__sim_end_leave(end);
    }
    gyre__sim_file_put(&child->base.file);
}

static void stop_listening(struct sim_tcp *tcp)
{
    tcp->base.listening = 0;
    gyre__list_remove(&tcp->listening);
    while (!gyre__list_empty(&tcp->pending)) {
        struct sim_end *end = gyre_container_of(tcp->pending.next, struct sim_end, pending);

        gyre__sim_end_reset(end); /* which takes it out */
        gyre__sim_end_leave(end);
    }
    while (!gyre__list_empty(&tcp->queue)) {
        refuse(gyre_container_of(tcp->queue.next, struct sim_tcp, accepting));
    }
    tcp->queued = 0;
}

/* Bytes that nobody has read are a reason to say that it was not all well (RFC 2525, 2.17). */
static int resets_at_close(const struct sim_tcp *tcp)
{
    if (tcp->end == NULL || tcp->end->state != SIM_END_OPEN) {
        return 0;
    }
    if (unread_of(tcp) > 0) {
        gyre__sim_sometimes(tcp->base.file.sim, GYRE_SIM_PATH_RESET_UNREAD);
        return 1;
    }
    return tcp->base.linger.l_onoff && tcp->base.linger.l_linger == 0;
}

/* What is queued still goes out, and the end behind it, unless it has to be a reset. */
static void close_connection(struct sim_tcp *tcp)
{
    struct sim_end *end = tcp->end;
    const int resets = resets_at_close(tcp);

    tcp->shut = SIM_SHUT_BOTH;
    tcp->end = NULL;
    if (end == NULL) {
        return;
    }
    end->socket = NULL;
    if (resets) {
        gyre__sim_end_reset(end);
    }
    gyre__sim_end_leave(end);
}

static void tcp_release(struct sim_file *file)
{
    struct sim_tcp *tcp = tcp_of_file(file);

    tcp->released = 1;
    if (tcp->base.listening) {
        stop_listening(tcp);
    }
    close_connection(tcp);
    gyre__sim_unbind(&tcp->binding);
}

/* One that never had a descriptor was not released. */
static void tcp_destroy(struct sim_file *file)
{
    if (!tcp_of_file(file)->released) {
        tcp_release(file);
    }
}

static int tcp_shutdown(struct sim_socket *socket, int how)
{
    struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    const int shut = how + 1;

    if (how < SHUT_RD || how > SHUT_RDWR) {
        return -EINVAL;
    }
    if (socket->listening) {
        if (shut & SIM_SHUT_IN) { /* as tcp_disconnect(): it listens no more */
            stop_listening(tcp);
            unbind_chosen(tcp);
            gyre__sim_tcp_changed(tcp);
        }
        return 0;
    }
    if (is_calling(tcp)) {
        socket->error = ECONNRESET;
        disconnect(tcp);
        return 0;
    }
    tcp->shut |= (uint8_t)shut;
    if (is_closed(tcp)) {
        gyre__sim_tcp_changed(tcp);
        return -ENOTCONN;
    }
    tcp->stage = SIM_TCP_CONNECTED;
    if (shut & SIM_SHUT_OUT) {
        gyre__sim_end_finish(tcp->end);
    }
    gyre__sim_tcp_changed(tcp);
    return 0;
}

/* ---- names, numbers ---- */

static int tcp_name(struct sim_socket *socket, int peer, struct sockaddr_storage *address,
                    socklen_t *len)
{
    const struct sim_tcp *tcp = gyre__sim_tcp_of(socket);
    const struct sim_ip none = {.port = 0};

    if (peer) {
        if (peer == 1 && (is_closed(tcp) || is_calling(tcp))) {
            return -ENOTCONN;
        }
        *len = gyre__sim_ip_write(&tcp->peer, socket->family, address);
    } else if (tcp->end != NULL) {
        *len = gyre__sim_ip_write(&tcp->local, socket->family, address);
    } else if (tcp->binding.socket != NULL) {
        *address = tcp->binding.address;
        *len = tcp->binding.len;
    } else {
        *len = gyre__sim_ip_write(&none, socket->family, address);
    }
    return 0;
}

static int tcp_ioctl(struct sim_file *file, unsigned long what, void *argument)
{
    const struct sim_tcp *tcp = tcp_of_file(file);
    const struct sim_flow *out = tcp->end != NULL ? &tcp->end->out : NULL;
    const int open = out != NULL && tcp->end->state == SIM_END_OPEN;
    uint64_t number = 0;

    if (what != SIOCINQ && what != SIOCOUTQ && what != SIOCOUTQNSD) {
        return -ENOTTY;
    }
    if (tcp->base.listening) {
        return -EINVAL;
    }
    if (what == SIOCINQ) {
        number = unread_of(tcp);
    } else if (open) {
        const uint64_t from = what == SIOCOUTQ ? out->acked : out->sent;

        number = out->written + out->fin - from;
    }
    *(int *)argument = number < INT_MAX ? (int)number : INT_MAX;
    return 0;
}

static const struct sim_file_ops tcp_file_ops = {
    .name = "tcp",
    .poll = tcp_poll,
    .release = tcp_release,
    .destroy = tcp_destroy,
    .read = gyre__sim_socket_read,
    .write = gyre__sim_socket_write,
    .ioctl = tcp_ioctl,
};

static const struct sim_socket_ops tcp_ops = {
    .bind = tcp_bind,
    .connect = tcp_connect,
    .listen = tcp_listen,
    .accept = tcp_accept,
    .shutdown = tcp_shutdown,
    .send = tcp_send,
    .recv = tcp_recv,
    .name = tcp_name,
    .setsockopt = tcp_setsockopt,
    .getsockopt = tcp_getsockopt,
};
