/*
 * What the files of the table have in common: kernel.c, which has the table itself, and call.c with
 * the calls that concern sockets, and reading and writing. Each call begins with
 * gyre__sim_call_enter() and ends with gyre__sim_call_outcome().
 */
#ifndef GYRE_SIM_KERNEL_H
#define GYRE_SIM_KERNEL_H

#include "sim/thread.h"
#include "sim/world.h"

/* Takes a little time. Returns whose call it is. */
struct gyre_sim_process *gyre__sim_call_enter(void);

/* Whether the caller's world lets this fail now. */
int gyre__sim_call_fault(enum gyre_sim_fault which);

/* From -errno to -1 and errno. */
ssize_t gyre__sim_call_outcome(ssize_t rc);

/* The lowest free number for a new file, which then belongs to it. */
int gyre__sim_call_install(struct sim_file *file, int flags);

/* ---- transfer.c ---- */

enum { CUT_PIECES = 16 }; /* of a message that is moved in parts */

/* Somebody was turned away by a fault who would never have an edge: the file tells of @events soon. */
void gyre__sim_nudge(struct sim_file *file, uint32_t events);

/* ---- call.c ---- */

int gyre__sim_call_socket(int family, int type, int protocol);
int gyre__sim_call_socketpair(int family, int type, int protocol, int *numbers);
int gyre__sim_call_bind(int number, const struct sockaddr *address, socklen_t len);
int gyre__sim_call_listen(int number, int backlog);
int gyre__sim_call_name(int number, int peer, struct sockaddr *address, socklen_t *len);
int gyre__sim_call_accept4(int number, struct sockaddr *address, socklen_t *len, int flags);
int gyre__sim_call_connect(int number, const struct sockaddr *address, socklen_t len);
int gyre__sim_call_shutdown(int number, int how);
int gyre__sim_call_getsockname(int number, struct sockaddr *address, socklen_t *len);
int gyre__sim_call_getpeername(int number, struct sockaddr *address, socklen_t *len);
int gyre__sim_call_setsockopt(int number, int level, int name, const void *value, socklen_t len);
int gyre__sim_call_getsockopt(int number, int level, int name, void *value, socklen_t *len);
ssize_t gyre__sim_call_send(int number, const void *data, size_t len, int flags);
ssize_t gyre__sim_call_sendmsg(int number, const struct msghdr *msg, int flags);
ssize_t gyre__sim_call_sendto(int number, const void *data, size_t len, int flags,
                              const struct sockaddr *to, socklen_t to_len);
int gyre__sim_call_sendmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags);
ssize_t gyre__sim_call_recv(int number, void *data, size_t len, int flags);
ssize_t gyre__sim_call_recvmsg(int number, struct msghdr *msg, int flags);
int gyre__sim_call_recvmmsg(int number, struct mmsghdr *msgs, unsigned count, int flags,
                            struct timespec *timeout);
ssize_t gyre__sim_call_read(int number, void *data, size_t len);
ssize_t gyre__sim_call_write(int number, const void *data, size_t len);
ssize_t gyre__sim_call_preadv2(int number, const struct iovec *pieces, int count, off_t offset,
                               int flags);
ssize_t gyre__sim_call_pwritev2(int number, const struct iovec *pieces, int count, off_t offset,
                                int flags);

#endif
