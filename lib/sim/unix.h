/* What the files of the simulated Unix sockets share. See unix.c. */
#ifndef GYRE_SIM_UNIX_H
#define GYRE_SIM_UNIX_H

#include "sim/sim.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

enum unix_state {
    UNIX_CLOSE = 0, /* new, or not connected any more */
    UNIX_LISTEN,
    UNIX_ESTABLISHED,
};

enum {
    UNIX_RECEIVE_SHUT = 1, /* unix_socket.shut */
    UNIX_SEND_SHUT = 2,
    UNIX_SHUT = UNIX_RECEIVE_SHUT | UNIX_SEND_SHUT,
    UNIX_RIGHTS_MAX = 253, /* SCM_MAX_FD: descriptors in one message */
};

/* A file of the host that is a socket. It stays when the socket is closed. */
struct unix_path {
    struct gyre_link link; /* of host->paths */
    struct unix_socket *socket;
    uint64_t inode;
    mode_t mode;
    struct ucred owner;
    char name[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];
};

struct unix_socket {
    struct sim_socket socket;
    enum unix_state state;
    uint8_t dead; /* released */
    uint8_t shut; /* UNIX_*_SHUT */
    uint8_t passes_credentials;
    struct ucred peer_owner;      /* SO_PEERCRED; of a listener: its own, for those that connect */
    struct unix_socket *peer;     /* held; may be dead */
    struct gyre_link queue;       /* struct unix_message; of a listener: struct unix_socket.turn */
    struct gyre_link turn;        /* in a listener's queue */
    uint32_t queued;              /* how many */
    uint32_t queue_max;           /* it is full above this */
    uint32_t memory;              /* of this socket's messages that nobody has read yet */
    struct gyre_link waiting;     /* unix_socket.waits: senders that found this queue full */
    struct gyre_link waits;       /* on the peer's list */
    uint8_t blocked;              /* it waits there for a call that would block */
    struct sockaddr_storage name; /* bound to; kept until the memory is freed */
    socklen_t name_len;           /* 0: unnamed */
    struct unix_path *path;       /* NULL: abstract, or unlinked */
    struct gyre_link abstract;    /* of host->abstract */
    struct gyre_link of_host;     /* of host->unix_sockets */
    uint32_t travelling;          /* how many of its descriptors are in messages */
    uint8_t reachable;            /* for the collector */
};

/* Descriptors in a message, each opened once more for the journey. */
struct unix_rights {
    uint32_t count;
    struct sim_file *file[UNIX_RIGHTS_MAX];
};

/* What goes with the bytes of a message. */
struct unix_control {
    struct unix_rights *rights; /* NULL: none */
    struct ucred who;
    uint8_t has_who;
};

/* Some bytes of a stream that were sent in one piece, or a datagram. */
struct unix_message {
    struct gyre_link link;
    struct unix_socket *sender; /* held */
    uint32_t memory;            /* what the sender is charged for it */
    size_t len;
    size_t taken; /* bytes that were read */
    struct unix_control control;
    uint8_t bytes[];
};

static inline struct unix_socket *unix_of(struct sim_socket *socket)
{
    return gyre_container_of(socket, struct unix_socket, socket);
}

static inline struct unix_socket *unix_of_file(struct sim_file *file)
{
    return gyre_container_of(file, struct unix_socket, socket.file);
}

static inline struct unix_message *unix_first(const struct unix_socket *self)
{
    return gyre__list_empty(&self->queue)
               ? NULL
               : gyre_container_of(self->queue.next, struct unix_message, link);
}

static inline void unix_hold(struct unix_socket *self)
{
    gyre__sim_file_hold(&self->socket.file);
}

static inline void unix_put(struct unix_socket *self)
{
    gyre__sim_file_put(&self->socket.file);
}

/* Linux counts three quarters of the send buffer as not worth a wake-up. */
static inline int unix_is_writable(const struct unix_socket *self)
{
    return self->state != UNIX_LISTEN &&
           ((uint64_t)self->memory + 1) * 4 <= self->socket.send_buffer;
}

/* unix.c */

/* Whether this file is a Unix socket: the collector looks into those only. */
int gyre__sim_unix_is(const struct sim_file *file);

/* Tell senders that found the queue of this socket full. */
void gyre__sim_unix_wake_waiting(struct unix_socket *self, uint32_t events);

/* unix_message.c */

/* What the calling process is, for a message or a peer. */
struct ucred gyre__sim_unix_who(const struct unix_socket *self);

/* Read what is to be sent along. Opens the descriptors. 0, -EBADF, -EINVAL, -EPERM. */
int gyre__sim_unix_read_control(struct unix_socket *self, const struct msghdr *msg,
                                struct unix_control *out_control);
void gyre__sim_unix_drop_control(struct unix_control *control);

/* Credentials are added when one of the two sides wants them. */
void gyre__sim_unix_add_who(struct unix_control *control, const struct unix_socket *from,
                            const struct unix_socket *to);

/* A message of @len bytes beginning at @offset of those of @msg, charged to the sender. Takes over
 * what is in @control. */
struct unix_message *gyre__sim_unix_message_new(struct unix_socket *sender,
                                                const struct msghdr *msg, size_t offset, size_t len,
                                                struct unix_control *control);

/* Not on a list any more. The sender is told that it has room. */
void gyre__sim_unix_message_free(struct unix_message *message);

/* Append control data to what is received, as recvmsg(2) does, and set msg_controllen. The
 * descriptors get numbers; they stay open in @control too. */
void gyre__sim_unix_write_control(const struct unix_socket *self, struct msghdr *msg, int flags,
                                  const struct unix_control *control);

/* Close sockets that can be reached only through messages in their own queues. */
void gyre__sim_unix_collect(struct gyre_sim_host *host);

/* unix_path.c */

/* bind(2) and its opposite, which leaves the file. */
int gyre__sim_unix_bind(struct sim_socket *socket, const struct sockaddr *address, socklen_t len);
int gyre__sim_unix_autobind(struct unix_socket *self);
void gyre__sim_unix_unbind(struct unix_socket *self);

/* Checks an address: 0 or -EINVAL. */
int gyre__sim_unix_check_name(const struct sockaddr *address, socklen_t len);

/* The socket of a checked address: 0, -ENOENT, -ECONNREFUSED, -EPROTOTYPE. */
int gyre__sim_unix_find(const struct unix_socket *self, const struct sockaddr *address,
                        socklen_t len, struct unix_socket **out_socket);

#endif
