/*
 * Simulated Unix sockets: streams, datagrams and sequenced packets within a host. What is sent is in
 * the queue of the receiver at once, and stays charged to the sender until it is read: so a sender
 * stops when its own send buffer is full of what others have not read. A datagram also has to fit
 * the receiver's queue, unless the two are connected to each other.
 *
 *     CLOSE --listen()--> LISTEN     the queue holds sockets that wait for accept()
 *       |
 *       +---connect()---> ESTABLISHED     the queue holds messages; the peer is known
 *                              |
 *                              +--the peer is closed--> still ESTABLISHED, shut both ways, and
 *                                 with ECONNRESET pending if the peer had not read everything
 *
 * A datagram socket is ESTABLISHED too when it has a peer, but receives from all. The peer is held,
 * so that it can be asked for its name when it is closed already (dead).
 *
 * Files: unix_message.c has the messages, unix_path.c the names.
 */
#include "sim/unix.h"

#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

enum {
    DATAGRAM_QUEUE = 10,      /* net.unix.max_dgram_qlen */
    BACKLOG_MAX = 4096,       /* net.core.somaxconn */
    PIECE_MAX = 3776 + 32768, /* of a stream, in one message */
    PIECE_SLACK = 64,
    DATAGRAM_SLACK = 32,
};

static const uint32_t wake_in = EPOLLIN | EPOLLRDNORM;
static const uint32_t wake_out = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND;
/* What Linux tells without saying what has changed wakes everybody. */
static const uint32_t wake_all =
    EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND | EPOLLRDHUP | EPOLLHUP | EPOLLERR;

static const struct sim_file_ops unix_file_ops;
static const struct sim_socket_ops unix_ops;

static unsigned long long id_of(const struct unix_socket *self)
{
    return (unsigned long long)self->socket.file.id;
}

static void wake(struct unix_socket *self, uint32_t events)
{
    gyre__sim_file_wake(&self->socket.file, events);
}

int gyre__sim_unix_is(const struct sim_file *file)
{
    return file->ops == &unix_file_ops;
}

static int is_datagram(const struct unix_socket *self)
{
    return self->socket.type == SOCK_DGRAM;
}

static int queue_is_full(const struct unix_socket *self)
{
    return self->queued > self->queue_max;
}

static int may_block(const struct unix_socket *self, int flags)
{
    return !(flags & MSG_DONTWAIT) && !(self->socket.file.flags & O_NONBLOCK);
}

/*
 * ---- those that wait for somebody else's queue ----
 *
 * Connected datagram sockets, whose poll() depends on it; and those whose send() or connect() would
 * block the calling thread. The latter are not writable meanwhile, so that the thread can wait for
 * that: Linux has it wait for the other socket, which poll() cannot.
 */

static int waits(const struct unix_socket *self)
{
    return !gyre__list_empty(&self->waits);
}

static void wait_in(struct unix_socket *self, struct unix_socket *other, int blocked)
{
    self->blocked = (uint8_t)blocked;
    if (!waits(self)) {
        gyre__list_append(&other->waiting, &self->waits);
    }
}

/* Returns whether it has to wait indeed. */
static int wait_for_queue(struct unix_socket *self, struct unix_socket *other)
{
    if (other->dead || (other->shut & UNIX_RECEIVE_SHUT) || !queue_is_full(other)) {
        gyre__list_remove(&self->waits);
        return 0;
    }
    wait_in(self, other, 0);
    return 1;
}

void gyre__sim_unix_wake_waiting(struct unix_socket *self, uint32_t events)
{
    struct gyre_link now;

    gyre__list_take(&now, &self->waiting);
    while (!gyre__list_empty(&now)) {
        struct unix_socket *one = gyre_container_of(now.next, struct unix_socket, waits);

        gyre__list_remove(&one->waits);
        wake(one, events);
    }
}

/* ---- new sockets ---- */

static struct unix_socket *socket_new(struct gyre_sim_host *host, int type)
{
    struct unix_socket *self = gyre__sim_socket_new(host, &unix_file_ops, &unix_ops, sizeof(*self));

    self->socket.family = AF_UNIX;
    self->socket.type = type;
    self->queue_max = DATAGRAM_QUEUE;
    self->peer_owner = (struct ucred){.pid = 0, .uid = (uid_t)-1, .gid = (gid_t)-1};
    gyre__list_init(&self->queue);
    gyre__list_init(&self->turn);
    gyre__list_init(&self->waiting);
    gyre__list_init(&self->waits);
    gyre__list_init(&self->abstract);
    gyre__list_append(&host->unix_sockets, &self->of_host);
    return self;
}

int gyre__sim_unix_make(struct gyre_sim_host *host, int type, struct sim_socket **out_socket)
{
    if (type == SOCK_RAW) {
        type = SOCK_DGRAM; /* as Linux has it */
    }
    if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET) {
        return -ESOCKTNOSUPPORT;
    }
    *out_socket = &socket_new(host, type)->socket;
    return 0;
}

static void set_peer(struct unix_socket *self, struct unix_socket *peer)
{
    struct unix_socket *before = self->peer;

    if (peer != NULL) {
        unix_hold(peer);
    }
    self->peer = peer;
    if (before != NULL) {
        unix_put(before);
    }
}

int gyre__sim_unix_pair(struct gyre_sim_host *host, int type, struct sim_socket *out_pair[2])
{
    const int rc = gyre__sim_unix_make(host, type, &out_pair[0]);

    if (rc < 0) {
        return rc;
    }
    out_pair[1] = &socket_new(host, out_pair[0]->type)->socket;
    for (int i = 0; i < 2; i++) {
        struct unix_socket *one = unix_of(out_pair[i]);

        set_peer(one, unix_of(out_pair[1 - i]));
        one->state = UNIX_ESTABLISHED;
        one->peer_owner = gyre__sim_unix_who(one);
    }
    gyre__sim_trace(host->sim, "unix #%llu and #%llu are a pair", id_of(unix_of(out_pair[0])),
                    id_of(unix_of(out_pair[1])));
    return 0;
}

/* ---- connect and accept ---- */

static int unix_listen(struct sim_socket *socket, int backlog)
{
    struct unix_socket *self = unix_of(socket);

    if (is_datagram(self)) {
        return -EOPNOTSUPP;
    }
    if (self->name_len == 0 || self->state == UNIX_ESTABLISHED) {
        return -EINVAL;
    }
    self->queue_max = (unsigned)backlog < BACKLOG_MAX ? (unsigned)backlog : BACKLOG_MAX;
    self->state = UNIX_LISTEN;
    self->peer_owner = gyre__sim_unix_who(self);
    socket->listening = 1;
    gyre__sim_unix_wake_waiting(self, wake_out);
    return 0;
}

/* The other end of a connection, which waits in the listener's queue until it is accepted. */
static void connect_to(struct unix_socket *self, struct unix_socket *listener)
{
    struct unix_socket *end = socket_new(listener->socket.file.host, listener->socket.type);

    end->state = UNIX_ESTABLISHED;
    end->name = listener->name;
    end->name_len = listener->name_len;
    end->peer_owner = gyre__sim_unix_who(self);
    self->peer_owner = listener->peer_owner;
    self->state = UNIX_ESTABLISHED;
    set_peer(end, self);
    set_peer(self, end);
    gyre__list_append(&listener->queue, &end->turn);
    listener->queued++;
    gyre__sim_trace(self->socket.file.sim, "unix #%llu connects to #%llu: #%llu", id_of(self),
                    id_of(listener), id_of(end));
    wake(listener, wake_in);
}

static int connect_stream(struct unix_socket *self, const struct sockaddr *address, socklen_t len)
{
    struct unix_socket *listener;
    int rc = gyre__sim_unix_check_name(address, len);

    gyre__list_remove(&self->waits);
    if (rc == 0 && self->passes_credentials) {
        rc = gyre__sim_unix_autobind(self);
    }
    rc = rc < 0 ? rc : gyre__sim_unix_find(self, address, len, &listener);
    if (rc < 0) {
        return rc;
    }
    if (listener->state != UNIX_LISTEN || (listener->shut & UNIX_RECEIVE_SHUT)) {
        return -ECONNREFUSED;
    }
    if (queue_is_full(listener)) {
        gyre__sim_sometimes(self->socket.file.sim, GYRE_SIM_PATH_BACKLOG_FULL);
        if (may_block(self, 0)) {
            wait_in(self, listener, 1);
        }
        return -EAGAIN;
    }
    if (self->state != UNIX_CLOSE) {
        return self->state == UNIX_ESTABLISHED ? -EISCONN : -EINVAL;
    }
    connect_to(self, listener);
    return 0;
}

/* Shut down for receiving, there will never be another. */
static int unix_accept(struct sim_socket *socket, struct sim_socket **out_socket)
{
    struct unix_socket *self = unix_of(socket);
    struct unix_socket *end;

    if (is_datagram(self)) {
        return -EOPNOTSUPP;
    }
    if (self->state != UNIX_LISTEN) {
        return -EINVAL;
    }
    if (gyre__list_empty(&self->queue)) {
        return (self->shut & UNIX_RECEIVE_SHUT) && may_block(self, 0) ? -EINVAL : -EAGAIN;
    }
    end = gyre_container_of(self->queue.next, struct unix_socket, turn);
    gyre__list_remove(&end->turn);
    self->queued--;
    gyre__sim_unix_wake_waiting(self, wake_out);
    end->passes_credentials = self->passes_credentials;
    gyre__sim_trace(socket->file.sim, "unix #%llu accepts #%llu", id_of(self), id_of(end));
    *out_socket = &end->socket;
    return 0;
}

/* ---- datagrams: connect ---- */

static int may_send(const struct unix_socket *self, const struct unix_socket *other)
{
    return other->peer == NULL || other->peer == self;
}

/* What the peer of before had sent is lost, and it is told. */
static void lose_peer(struct unix_socket *self, struct unix_socket *before)
{
    struct gyre_link lost;

    gyre__list_take(&lost, &self->queue);
    self->queued = 0;
    if (gyre__list_empty(&lost)) {
        return;
    }
    while (!gyre__list_empty(&lost)) {
        struct unix_message *message = gyre_container_of(lost.next, struct unix_message, link);

        gyre__list_remove(&message->link);
        gyre__sim_unix_message_free(message);
    }
    gyre__sim_unix_wake_waiting(self, wake_all);
    if (!before->dead && before->peer == self) {
        before->socket.error = ECONNRESET;
        wake(before, EPOLLERR);
    }
}

static void change_peer(struct unix_socket *self, struct unix_socket *other)
{
    struct unix_socket *before = self->peer;

    if (before != NULL) {
        unix_hold(before);
    }
    set_peer(self, other);
    self->state = other != NULL ? UNIX_ESTABLISHED : UNIX_CLOSE;
    if (before == NULL) {
        return;
    }
    if (waits(self)) {
        gyre__list_remove(&self->waits);
        wake(self, wake_out);
    }
    if (before != other) {
        lose_peer(self, before);
        if (before->peer == NULL) {
            before->state = UNIX_CLOSE;
        }
    }
    unix_put(before);
}

static int connect_datagram(struct unix_socket *self, const struct sockaddr *address, socklen_t len)
{
    struct unix_socket *other;
    int rc;

    if (len < sizeof(sa_family_t)) {
        return -EINVAL;
    }
    if (address->sa_family == AF_UNSPEC) {
        change_peer(self, NULL);
        return 0;
    }
    rc = gyre__sim_unix_check_name(address, len);
    if (rc == 0 && self->passes_credentials) {
        rc = gyre__sim_unix_autobind(self);
    }
    rc = rc < 0 ? rc : gyre__sim_unix_find(self, address, len, &other);
    if (rc < 0) {
        return rc;
    }
    if (!may_send(self, other)) {
        return -EPERM;
    }
    other->state = UNIX_ESTABLISHED;
    change_peer(self, other);
    gyre__sim_trace(self->socket.file.sim, "unix #%llu connects to #%llu", id_of(self),
                    id_of(other));
    return 0;
}

static int unix_connect(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct unix_socket *self = unix_of(socket);

    return is_datagram(self) ? connect_datagram(self, address, len)
                             : connect_stream(self, address, len);
}

/* ---- sending ---- */

/* Whether the send buffer has room: 0, the pending error, -EPIPE or -EAGAIN. */
static int check_room(struct unix_socket *self)
{
    const int rc = gyre__sim_socket_error(&self->socket);

    if (rc < 0) {
        return rc;
    }
    if (self->shut & UNIX_SEND_SHUT) {
        return -EPIPE;
    }
    if (self->memory >= self->socket.send_buffer) {
        gyre__sim_sometimes(self->socket.file.sim, GYRE_SIM_PATH_SEND_BLOCKED);
        return -EAGAIN;
    }
    return 0;
}

static void deliver(struct unix_socket *self, struct unix_socket *other,
                    struct unix_message *message)
{
    gyre__sim_unix_add_who(&message->control, self, other);
    gyre__list_append(&other->queue, &message->link);
    other->queued++;
    wake(other, wake_in);
}

static int broken_pipe(struct unix_socket *self, int flags)
{
    if (!(flags & MSG_NOSIGNAL)) {
        gyre__sim_failed(self->socket.file.sim,
                         "a send without MSG_NOSIGNAL to unix #%llu raises SIGPIPE", id_of(self));
    }
    return -EPIPE;
}

static size_t piece_of(const struct unix_socket *self, size_t left)
{
    const size_t half = self->socket.send_buffer / 2;
    const size_t most = half > 2 * PIECE_SLACK ? half - PIECE_SLACK : PIECE_SLACK;
    const size_t piece = left < most ? left : most;

    return piece < PIECE_MAX ? piece : PIECE_MAX;
}

/* Sends as many pieces as there is room for; the descriptors go with the first. */
static ssize_t send_stream(struct unix_socket *self, const struct msghdr *msg, int flags,
                           struct unix_control *control)
{
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    size_t sent = 0;
    int rc = 0;

    if (msg->msg_name != NULL && msg->msg_namelen > 0) {
        return self->state == UNIX_ESTABLISHED ? -EISCONN : -EOPNOTSUPP;
    }
    if (self->peer == NULL) {
        return -ENOTCONN;
    }
    if (self->shut & UNIX_SEND_SHUT) {
        return broken_pipe(self, flags);
    }
    while (sent < len && rc == 0) {
        const size_t piece = piece_of(self, len - sent);

        rc = check_room(self);
        if (rc == 0 && (self->peer->dead || (self->peer->shut & UNIX_RECEIVE_SHUT))) {
            rc = sent == 0 ? broken_pipe(self, flags) : -EPIPE;
        }
        if (rc == 0) {
            deliver(self, self->peer, gyre__sim_unix_message_new(self, msg, sent, piece, control));
            sent += piece;
        }
    }
    return sent > 0 ? (ssize_t)sent : rc;
}

/* The receiver of a datagram; held. Not connected: that of the address. */
static int find_receiver(struct unix_socket *self, const struct msghdr *msg,
                         struct unix_socket **out_other)
{
    int rc;

    if (msg->msg_name == NULL || msg->msg_namelen == 0 || self->socket.type == SOCK_SEQPACKET) {
        if (self->peer == NULL) {
            return -ENOTCONN;
        }
        *out_other = self->peer;
        return 0;
    }
    rc = gyre__sim_unix_check_name(msg->msg_name, msg->msg_namelen);
    return rc < 0 ? rc : gyre__sim_unix_find(self, msg->msg_name, msg->msg_namelen, out_other);
}

/* Whether the receiver takes it: 0 or an error. */
static int check_receiver(struct unix_socket *self, struct unix_socket *other, int flags)
{
    gyre__list_remove(&self->waits);
    if (!may_send(self, other)) {
        return -EPERM;
    }
    if (other->dead) {
        if (self->socket.type == SOCK_SEQPACKET) {
            return -EPIPE;
        }
        if (self->peer == other) {
            change_peer(self, NULL);
        }
        return -ECONNREFUSED;
    }
    if (other->shut & UNIX_RECEIVE_SHUT) {
        return -EPIPE;
    }
    if (other == self || other->peer == self || !queue_is_full(other)) {
        return 0;
    }
    if (self->peer == other || may_block(self, flags)) {
        /* The others are not told when there is room. */
        wait_in(self, other, self->peer != other);
    }
    return -EAGAIN;
}

static ssize_t send_datagram(struct unix_socket *self, const struct msghdr *msg, int flags,
                             struct unix_control *control)
{
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    const int named = msg->msg_name != NULL && msg->msg_namelen > 0;
    struct unix_socket *other = NULL;
    int rc = 0;

    if (named && self->socket.type == SOCK_DGRAM) {
        rc = gyre__sim_unix_check_name(msg->msg_name, msg->msg_namelen);
    }
    if (rc == 0 && self->passes_credentials) {
        rc = gyre__sim_unix_autobind(self);
    }
    if (rc == 0 && len + DATAGRAM_SLACK > self->socket.send_buffer) {
        rc = -EMSGSIZE;
    }
    rc = rc < 0 ? rc : check_room(self);
    rc = rc < 0 ? rc : find_receiver(self, msg, &other);
    rc = rc < 0 ? rc : check_receiver(self, other, flags);
    if (rc < 0) {
        return rc;
    }
    deliver(self, other, gyre__sim_unix_message_new(self, msg, 0, len, control));
    return (ssize_t)len;
}

static ssize_t unix_send(struct sim_socket *socket, const struct msghdr *msg, int flags)
{
    struct unix_socket *self = unix_of(socket);
    struct unix_control control;
    ssize_t rc;

    if (self->socket.type == SOCK_SEQPACKET) {
        rc = gyre__sim_socket_error(socket);
        if (rc < 0 || self->state != UNIX_ESTABLISHED) {
            return rc < 0 ? rc : -ENOTCONN;
        }
    }
    rc = gyre__sim_unix_read_control(self, msg, &control);
    if (rc < 0) {
        return rc;
    }
    if (flags & MSG_OOB) {
        rc = -EOPNOTSUPP;
    } else if (socket->type == SOCK_STREAM) {
        rc = send_stream(self, msg, flags, &control);
    } else {
        rc = send_datagram(self, msg, flags, &control);
    }
    gyre__sim_unix_drop_control(&control);
    if (rc >= 0) {
        gyre__sim_trace(socket->file.sim, "unix #%llu sends %zd", id_of(self), rc);
    }
    return rc;
}

/* ---- receiving ---- */

static void put_sender(struct msghdr *msg, const struct unix_message *message)
{
    gyre__sim_put_name(msg, &message->sender->name, message->sender->name_len);
}

/* The end, with nothing to tell but that nobody says it. What fails leaves *msg as it was. */
static ssize_t receive_end(struct unix_socket *self, struct msghdr *msg, int flags)
{
    const struct unix_control nothing = {0};

    msg->msg_namelen = 0;
    if (self->socket.type == SOCK_STREAM) {
        gyre__sim_unix_write_control(self, msg, flags, &nothing);
    } else {
        msg->msg_controllen = 0;
    }
    return 0;
}

/* Two processes may write to one end: what they say is told apart by who they are. */
static int same_who(const struct unix_control *a, const struct unix_control *b)
{
    return a->has_who == b->has_who &&
           (!a->has_who || memcmp(&a->who, &b->who, sizeof(a->who)) == 0);
}

/* The queue is empty. */
static ssize_t receive_nothing(struct unix_socket *self, struct msghdr *msg, int flags)
{
    const int rc = gyre__sim_socket_error(&self->socket);

    if (rc < 0) {
        return rc;
    }
    return self->shut & UNIX_RECEIVE_SHUT ? receive_end(self, msg, flags) : -EAGAIN;
}

/* What a read has gathered so far. */
struct unix_read {
    size_t got;
    struct unix_control control; /* of the messages it is from */
    struct unix_message *last;   /* unlinked, with the descriptors; NULL: none */
    int has_first;
};

/* One message, as far as it fits. Returns whether the read goes on behind it. */
static int take_piece(struct unix_socket *self, struct unix_message *message, struct msghdr *msg,
                      size_t len, int flags, struct unix_read *read)
{
    const size_t left = message->len - message->taken;
    const size_t piece = left < len - read->got ? left : len - read->got;

    if (!read->has_first) {
        read->has_first = 1;
        read->control = message->control;
        put_sender(msg, message);
    }
    read->control.rights = message->control.rights;
    gyre__sim_scatter(msg->msg_iov, msg->msg_iovlen, read->got, message->bytes + message->taken,
                      piece);
    read->got += piece;
    if (flags & MSG_PEEK) {
        return read->control.rights == NULL;
    }
    message->taken += piece;
    message->control.rights = NULL;
    if (message->taken == message->len) {
        gyre__list_remove(&message->link);
        self->queued--;
        gyre__sim_unix_message_free(message);
    }
    return read->control.rights == NULL;
}

/* Goes on over messages of one writer, and ends behind the first that has descriptors. */
static void take_pieces(struct unix_socket *self, struct msghdr *msg, size_t len, int flags,
                        struct unix_read *read)
{
    struct gyre_link *link = self->queue.next;
    int more = 1;

    while (more && link != &self->queue && (read->got < len || !read->has_first)) {
        struct unix_message *message = gyre_container_of(link, struct unix_message, link);

        link = link->next;
        if (read->has_first && self->passes_credentials &&
            !same_who(&read->control, &message->control)) {
            break;
        }
        more = take_piece(self, message, msg, len, flags, read);
    }
}

static ssize_t receive_stream(struct unix_socket *self, struct msghdr *msg, int flags)
{
    const size_t len = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct unix_read read = {0};

    if (self->state != UNIX_ESTABLISHED || (flags & MSG_OOB)) {
        return -EINVAL;
    }
    if (gyre__list_empty(&self->queue)) {
        return receive_nothing(self, msg, flags);
    }
    take_pieces(self, msg, len, flags, &read);
    gyre__sim_unix_write_control(self, msg, flags, &read.control);
    if (!(flags & MSG_PEEK)) {
        gyre__sim_unix_drop_control(&read.control);
    }
    if (gyre__list_empty(&self->queue) && (self->shut & UNIX_RECEIVE_SHUT)) {
        gyre__sim_sometimes(self->socket.file.sim, self->socket.error != 0
                                                       ? GYRE_SIM_PATH_DATA_WITH_RESET
                                                       : GYRE_SIM_PATH_DATA_WITH_END);
    }
    return (ssize_t)read.got;
}

static ssize_t receive_datagram(struct unix_socket *self, struct msghdr *msg, int flags)
{
    const size_t room = gyre__sim_pieces_len(msg->msg_iov, msg->msg_iovlen);
    struct unix_message *message = unix_first(self);
    int rc = gyre__sim_socket_error(&self->socket);
    size_t len;

    if (rc < 0) {
        return rc;
    }
    if (message == NULL) {
        const int ends = self->socket.type == SOCK_SEQPACKET || may_block(self, flags);

        return ends && (self->shut & UNIX_RECEIVE_SHUT) ? receive_end(self, msg, flags) : -EAGAIN;
    }
    len = message->len;
    put_sender(msg, message);
    if (room < len) {
        msg->msg_flags |= MSG_TRUNC;
    }
    gyre__sim_scatter(msg->msg_iov, msg->msg_iovlen, 0, message->bytes, len < room ? len : room);
    gyre__sim_unix_write_control(self, msg, flags, &message->control);
    if (!(flags & MSG_PEEK)) {
        gyre__list_remove(&message->link);
        self->queued--;
        gyre__sim_unix_message_free(message);
    }
    gyre__sim_unix_wake_waiting(self, wake_out);
    return (ssize_t)(len < room || (flags & MSG_TRUNC) ? len : room);
}

static ssize_t unix_recv(struct sim_socket *socket, struct msghdr *msg, int flags)
{
    struct unix_socket *self = unix_of(socket);
    ssize_t rc;

    msg->msg_flags = flags & MSG_CMSG_CLOEXEC;
    if (socket->type == SOCK_STREAM) {
        rc = receive_stream(self, msg, flags);
    } else if (flags & MSG_OOB) {
        rc = -EOPNOTSUPP;
    } else if (socket->type == SOCK_SEQPACKET && self->state != UNIX_ESTABLISHED) {
        rc = -ENOTCONN;
    } else {
        rc = receive_datagram(self, msg, flags);
    }
    if (rc >= 0) {
        gyre__sim_trace(socket->file.sim, "unix #%llu receives %zd", id_of(self), rc);
    }
    return rc;
}

/* ---- the end ---- */

static int unix_shutdown(struct sim_socket *socket, int how)
{
    struct unix_socket *self = unix_of(socket);
    struct unix_socket *other = self->peer;

    if (how != SHUT_RD && how != SHUT_WR && how != SHUT_RDWR) {
        return -EINVAL;
    }
    self->shut |= (uint8_t)(how + 1);
    gyre__sim_trace(socket->file.sim, "unix #%llu shutdown %d", id_of(self), how);
    if (other != NULL && !is_datagram(self)) {
        other->shut |= how != SHUT_WR ? UNIX_SEND_SHUT : 0;
        other->shut |= how != SHUT_RD ? UNIX_RECEIVE_SHUT : 0;
        wake(other, wake_all);
    }
    wake(self, wake_all);
    return 0;
}

static void close_socket(struct unix_socket *self, int refused);

static void flush_queue(struct unix_socket *self, enum unix_state state)
{
    while (!gyre__list_empty(&self->queue)) {
        struct gyre_link *link = self->queue.next;

        gyre__list_remove(link);
        self->queued--;
        if (state == UNIX_LISTEN) {
            struct unix_socket *end = gyre_container_of(link, struct unix_socket, turn);

            close_socket(end, 1);
            unix_put(end);
        } else {
            gyre__sim_unix_message_free(gyre_container_of(link, struct unix_message, link));
        }
    }
}

/* @refused: it was never accepted, which resets the other side. */
static void close_peer(struct unix_socket *self, struct unix_socket *peer, int refused)
{
    const int unread = !gyre__list_empty(&self->queue);

    if (is_datagram(self)) {
        return;
    }
    peer->shut = UNIX_SHUT;
    if (unread || refused) {
        peer->socket.error = ECONNRESET;
        gyre__sim_sometimes(self->socket.file.sim, GYRE_SIM_PATH_RESET_UNREAD);
    }
    wake(peer, wake_all);
}

static void close_socket(struct unix_socket *self, int refused)
{
    const enum unix_state state = self->state;
    struct unix_socket *peer = self->peer;

    gyre__sim_trace(self->socket.file.sim, "unix #%llu closed", id_of(self));
    gyre__sim_unix_unbind(self);
    self->dead = 1;
    self->shut = UNIX_SHUT;
    self->state = UNIX_CLOSE;
    self->peer = NULL;
    gyre__sim_unix_wake_waiting(self, wake_all);
    gyre__list_remove(&self->waits);
    if (peer != NULL) {
        close_peer(self, peer, refused);
    }
    flush_queue(self, state);
    if (peer != NULL) {
        unix_put(peer);
    }
}

static void unix_release(struct sim_file *file)
{
    struct gyre_sim_host *host = file->host;

    close_socket(unix_of_file(file), 0);
    gyre__sim_unix_collect(host);
}

/* A socket that never had a descriptor was not released either. */
static void unix_destroy(struct sim_file *file)
{
    struct unix_socket *self = unix_of_file(file);

    if (!self->dead) {
        close_socket(self, 0);
    }
    gyre__list_remove(&self->of_host);
}

/* ---- poll, names, options ---- */

static uint32_t poll_common(const struct unix_socket *self)
{
    uint32_t events = 0;

    events |= self->socket.error != 0 ? EPOLLERR : 0;
    events |= self->shut == UNIX_SHUT ? EPOLLHUP : 0;
    events |= self->shut & UNIX_RECEIVE_SHUT ? EPOLLRDHUP | EPOLLIN | EPOLLRDNORM : 0;
    events |= !gyre__list_empty(&self->queue) ? EPOLLIN | EPOLLRDNORM : 0;
    events |= !is_datagram(self) && self->state == UNIX_CLOSE ? EPOLLHUP : 0;
    return events;
}

/* A datagram socket is writable if its peer's queue has room as well; then it will be told. */
static int poll_writable(struct unix_socket *self)
{
    struct unix_socket *peer = self->peer;

    if (!unix_is_writable(self) || (self->blocked && waits(self))) {
        return 0;
    }
    return self->socket.type == SOCK_STREAM || peer == NULL || peer->peer == self ||
           !wait_for_queue(self, peer);
}

static uint32_t unix_poll(struct sim_file *file)
{
    struct unix_socket *self = unix_of_file(file);

    if (self->state == UNIX_CLOSE && self->socket.type != SOCK_DGRAM && self->blocked &&
        waits(self)) {
        return 0; /* in connect(), for a place in the backlog */
    }
    return poll_common(self) | (poll_writable(self) ? wake_out : 0);
}

static int unix_name(struct sim_socket *socket, int peer, struct sockaddr_storage *address,
                     socklen_t *len)
{
    const struct unix_socket *self = peer ? unix_of(socket)->peer : unix_of(socket);

    if (self == NULL) {
        return -ENOTCONN;
    }
    memset(address, 0, sizeof(*address));
    address->ss_family = AF_UNIX;
    *len = sizeof(sa_family_t);
    if (self->name_len > 0) {
        *address = self->name;
        *len = self->name_len;
    }
    return 0;
}

static int unix_setsockopt(struct sim_socket *socket, int level, int name, const void *value,
                           socklen_t len)
{
    int on;

    if (level != SOL_SOCKET) {
        return -EOPNOTSUPP;
    }
    if (name != SO_PASSCRED) {
        return -ENOPROTOOPT;
    }
    if (len < sizeof(on)) {
        return -EINVAL;
    }
    memcpy(&on, value, sizeof(on));
    unix_of(socket)->passes_credentials = on != 0;
    return 0;
}

static void put_value(void *value, socklen_t *len, const void *from, size_t from_len)
{
    *len = *len < from_len ? *len : (socklen_t)from_len;
    memcpy(value, from, *len);
}

static int unix_getsockopt(struct sim_socket *socket, int level, int name, void *value,
                           socklen_t *len)
{
    const struct unix_socket *self = unix_of(socket);
    const int passes = self->passes_credentials;
    const uint32_t memory[SK_MEMINFO_VARS] = {
        [SK_MEMINFO_RCVBUF] = socket->receive_buffer,
        [SK_MEMINFO_WMEM_ALLOC] = self->memory,
        [SK_MEMINFO_SNDBUF] = socket->send_buffer,
    };

    if (level != SOL_SOCKET) {
        return -EOPNOTSUPP;
    }
    if (name == SO_PEERCRED) {
        put_value(value, len, &self->peer_owner, sizeof(self->peer_owner));
    } else if (name == SO_PASSCRED) {
        put_value(value, len, &passes, sizeof(passes));
    } else if (name == SO_MEMINFO) {
        put_value(value, len, memory, sizeof(memory));
    } else {
        return -ENOPROTOOPT;
    }
    return 0;
}

/* Bytes that a read can have: of a datagram socket, those of the first. */
static int bytes_to_read(const struct unix_socket *self)
{
    size_t bytes = 0;

    if (self->state == UNIX_LISTEN) {
        return -EINVAL;
    }
    for (const struct gyre_link *link = self->queue.next; link != &self->queue; link = link->next) {
        const struct unix_message *message =
            (const void *)((const uint8_t *)link - offsetof(struct unix_message, link));

        bytes += message->len - message->taken;
        if (is_datagram(self)) {
            break;
        }
    }
    return (int)bytes;
}

static int unix_ioctl(struct sim_file *file, unsigned long what, void *argument)
{
    const struct unix_socket *self = unix_of_file(file);
    int value;

    if (what == SIOCOUTQ) {
        value = (int)self->memory;
    } else if (what == SIOCINQ) {
        value = bytes_to_read(self);
    } else {
        return -ENOTTY;
    }
    if (value < 0) {
        return value;
    }
    memcpy(argument, &value, sizeof(value));
    return 0;
}

static const struct sim_file_ops unix_file_ops = {
    .name = "unix",
    .poll = unix_poll,
    .release = unix_release,
    .destroy = unix_destroy,
    .read = gyre__sim_socket_read,
    .write = gyre__sim_socket_write,
    .ioctl = unix_ioctl,
};

static const struct sim_socket_ops unix_ops = {
    .bind = gyre__sim_unix_bind,
    .connect = unix_connect,
    .listen = unix_listen,
    .accept = unix_accept,
    .shutdown = unix_shutdown,
    .send = unix_send,
    .recv = unix_recv,
    .name = unix_name,
    .setsockopt = unix_setsockopt,
    .getsockopt = unix_getsockopt,
};
