/*
 * The insides of the simulated kernel. One world (struct gyre_sim) holds hosts, a host holds
 * processes, a process descriptors and threads. A thread is a coroutine: it runs until a system
 * call of its blocks, and then the world goes on to whatever comes next in virtual time. Everything
 * runs in one thread of the real process, so nothing here needs a lock.
 *
 *     world.c     clock, events, random numbers, trace, faults
 *     thread.c    coroutines, blocking, mutexes and conditions
 *     process.c   hosts, processes, descriptors, signals
 *     kernel.c call.c     the table of base/sys.h: from numbers and errno to files and -errno
 *     transfer.c  sending, receiving, accepting, connecting, with their faults
 *     socket.c    what all sockets have in common
 *     net.c       addresses, ports, links between hosts
 *     tcp.c udp.c unix.c and what they begin with     protocols
 *     epoll.c event.c uring.c     what waits for files
 *
 * Conventions: functions return >= 0 or -errno, and never block: where the operating system would
 * block, they return -EAGAIN, and call.c (for a blocking descriptor) or uring.c waits for the
 * file and asks again. Nothing depends on an address, so that a seed gives the same run everywhere:
 * order comes from lists, sequence numbers and gyre__sim_random().
 */
#ifndef GYRE_SIM_SIM_H
#define GYRE_SIM_SIM_H

#include "base/list.h"
#include "base/sys.h"

#include <gyre/addr.h>
#include <gyre/base.h>
#include <gyre/sim.h>

struct gyre_sim;
struct gyre_sim_host;
struct gyre_sim_process;
struct sim_thread;
struct sim_file;
struct sim_socket;

/* ---- world.c: time, chance, trace ---- */

/* Something that will happen. Embedded in what it happens to. */
struct sim_event {
    uint64_t when_ns;
    uint64_t order;                        /* among those of one moment: random, then by age */
    size_t place;                          /* in the heap, from 1; 0: not scheduled */
    void (*fire)(struct sim_event *event); /* not scheduled any more when it is called */
};

uint64_t gyre__sim_now(const struct gyre_sim *sim);

/* At a moment of virtual time; one that is past means as soon as possible. An event that is
 * scheduled already is moved. */
void gyre__sim_schedule(struct gyre_sim *sim, struct sim_event *event, uint64_t when_ns);
void gyre__sim_unschedule(struct gyre_sim *sim, struct sim_event *event);

/* The world's only entropy. Take one number a statement: the order of evaluation of arguments is
 * the compiler's. */
uint64_t gyre__sim_random(struct gyre_sim *sim);

/* 0..limit-1; limit > 0. */
uint64_t gyre__sim_below(struct gyre_sim *sim, uint64_t limit);

/* Whether this fault strikes now; counted as seen if it does. Never once the world is healed. */
int gyre__sim_fault(struct gyre_sim *sim, enum gyre_sim_fault fault);

/* 601 for Linux 6.1 and so on: what of its behaviour has changed since. */
unsigned gyre__sim_kernel_version(const struct gyre_sim *sim);

/* Note that a rare path was taken: for the assertions that it sometimes is. */
void gyre__sim_sometimes(struct gyre_sim *sim, enum gyre_sim_path path);

/* A line of the trace: always part of the trace's hash, and shown if somebody listens. No
 * addresses. */
void gyre__sim_trace(struct gyre_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* An invariant is broken: the run ends with this text. The first one counts. */
void gyre__sim_failed(struct gyre_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Memory of the simulated kernel: not counted, never refused. */
void *gyre__sim_alloc(size_t len); /* zeroed */

/* ---- files ---- */

/* Somebody who wants to know when a file changes: an epoll entry, a request of io_uring, a thread
 * that blocks. wake() may remove and add waiters, but must not run a thread; it schedules. */
struct sim_waiter {
    struct gyre_link link;
    void (*wake)(struct sim_waiter *waiter, uint32_t events);
};

/* What a kind of file does. An operation that is NULL is an error (-EINVAL; -ENOTSOCK for those of
 * sockets). */
struct sim_file_ops {
    const char *name;
    /* EPOLLIN and so on, that hold now. */
    uint32_t (*poll)(struct sim_file *file);
    /* The last descriptor was closed (or the last process that had one ended). The memory is freed
     * by the kernel when nobody holds it any more. */
    void (*release)(struct sim_file *file);
    /* Free what the file holds; @file itself is freed by gyre__sim_file_put(). */
    void (*destroy)(struct sim_file *file);
    ssize_t (*read)(struct sim_file *file, const struct iovec *pieces, int count, int flags);
    ssize_t (*write)(struct sim_file *file, const struct iovec *pieces, int count, int flags);
    int (*ioctl)(struct sim_file *file, unsigned long what, void *argument);
};

struct sim_file {
    const struct sim_file_ops *ops;
    struct gyre_sim *sim;
    struct gyre_sim_host *host;
    uint64_t id;              /* for traces: in the order of making */
    uint32_t holds;           /* descriptors, requests, queued messages, the protocol itself */
    uint32_t descriptors;     /* of these: numbers in processes, and descriptors under way */
    int flags;                /* O_NONBLOCK and access mode, as F_GETFL gives */
    struct gyre_link waiters; /* struct sim_waiter */
    struct gyre_link watches; /* epoll.c: the entries that are about this file */
};

/* A new file of @len bytes (zeroed, begins with struct sim_file), held once. Never NULL. */
void *gyre__sim_file_new(struct gyre_sim_host *host, const struct sim_file_ops *ops, size_t len);
void gyre__sim_file_hold(struct sim_file *file);
void gyre__sim_file_put(struct sim_file *file);

/* Descriptors count apart, because release() comes with the last of them. Each is a hold too. */
void gyre__sim_file_open(struct sim_file *file);
void gyre__sim_file_close(struct sim_file *file);

/* What poll() says has changed: @events are those that are new. Wakes every waiter. As on Linux, a
 * wake-up is sent whenever something arrives, also when the same events held before (this is what
 * an edge is). */
void gyre__sim_file_wake(struct sim_file *file, uint32_t events);
void gyre__sim_wait_add(struct sim_file *file, struct sim_waiter *waiter);
void gyre__sim_wait_remove(struct sim_waiter *waiter); /* also when it waits for nothing */

/* ---- sockets: socket.c ---- */

/* A message is described by struct msghdr everywhere; recv() sets msg_flags, msg_namelen and
 * msg_controllen. flags are those of send(2) and recv(2); MSG_DONTWAIT is always meant. */
struct sim_socket_ops {
    int (*bind)(struct sim_socket *socket, const struct sockaddr *address, socklen_t len);
    /* -EINPROGRESS when it has begun; then the socket becomes writable when it is done or failed.
     * Asked again: -EALREADY, 0 once and then -EISCONN, or the error once. */
    int (*connect)(struct sim_socket *socket, const struct sockaddr *address, socklen_t len);
    int (*listen)(struct sim_socket *socket, int backlog);
    /* A new socket, held once and with no descriptor yet, or -EAGAIN. */
    int (*accept)(struct sim_socket *socket, struct sim_socket **out_socket);
    int (*shutdown)(struct sim_socket *socket, int how);
    ssize_t (*send)(struct sim_socket *socket, const struct msghdr *msg, int flags);
    ssize_t (*recv)(struct sim_socket *socket, struct msghdr *msg, int flags);
    /* @address has room for any; *len is set. @peer: 1: the other end's, or -ENOTCONN; 2: for
     * accept(2), which tells it of a connection that is over too. */
    int (*name)(struct sim_socket *socket, int peer, struct sockaddr_storage *address,
                socklen_t *len);
    /* -ENOPROTOOPT: socket.c knows it, or nobody. */
    int (*setsockopt)(struct sim_socket *socket, int level, int name, const void *value,
                      socklen_t len);
    int (*getsockopt)(struct sim_socket *socket, int level, int name, void *value, socklen_t *len);
};

enum { SIM_OPTIONS_MAX = 24 };

struct sim_socket {
    struct sim_file file;
    const struct sim_socket_ops *ops;
    int family;
    int type;
    int protocol;
    int error; /* SO_ERROR: a positive errno, told once; gyre__sim_socket_error() takes it */
    uint8_t listening;
    uint8_t connecting; /* transfer.c: connect() has said -EINPROGRESS */
    uint8_t reuse_address;
    uint8_t reuse_port;
    uint8_t v6only;
    uint32_t send_buffer; /* as getsockopt says, that is twice what was asked for */
    uint32_t receive_buffer;
    struct linger linger;
    struct ucred owner;    /* who made it: SO_PEERCRED of the other side */
    uint32_t option_count; /* options that are kept and do nothing */
    struct {
        int level, name, value;
    } option[SIM_OPTIONS_MAX];
};

/* A socket of the family, or -EAFNOSUPPORT and the like. Held once, no descriptor. */
int gyre__sim_socket_make(struct gyre_sim_host *host, int family, int type, int protocol,
                          struct sim_socket **out_socket);

/* For the protocols: a new socket with the defaults of socket.c. @len: of the protocol's struct,
 * which begins with struct sim_socket. */
void *gyre__sim_socket_new(struct gyre_sim_host *host, const struct sim_file_ops *file_ops,
                           const struct sim_socket_ops *ops, size_t len);

/* NULL if it is none. */
struct sim_socket *gyre__sim_socket_of(struct sim_file *file);

/* setsockopt(2) and getsockopt(2): the protocol's first, then those that all have. */
int gyre__sim_socket_set(struct sim_socket *socket, int level, int name, const void *value,
                         socklen_t len);
int gyre__sim_socket_get(struct sim_socket *socket, int level, int name, void *value,
                         socklen_t *len);

/* Takes the pending error: 0 or -errno. */
int gyre__sim_socket_error(struct sim_socket *socket);

/* The kept value of an integer option, or @otherwise. */
int gyre__sim_socket_option(const struct sim_socket *socket, int level, int name, int otherwise);

/* One file of read(2) and write(2) for all sockets: for the protocols' tables. */
ssize_t gyre__sim_socket_read(struct sim_file *file, const struct iovec *pieces, int count,
                              int flags);
ssize_t gyre__sim_socket_write(struct sim_file *file, const struct iovec *pieces, int count,
                               int flags);

/* The protocols; each sets what the family needs. */
int gyre__sim_tcp_make(struct gyre_sim_host *host, int family, struct sim_socket **out_socket);
/* As a broken router would: both ends are reset. */
void gyre__sim_tcp_break(struct sim_socket *socket);
int gyre__sim_udp_make(struct gyre_sim_host *host, int family, struct sim_socket **out_socket);
int gyre__sim_unix_make(struct gyre_sim_host *host, int type, struct sim_socket **out_socket);
int gyre__sim_unix_pair(struct gyre_sim_host *host, int type, struct sim_socket *out_pair[2]);

/* ---- bytes of messages ---- */

size_t gyre__sim_pieces_len(const struct iovec *pieces, size_t count);
/* Copies at most @len bytes from @data to the pieces, beginning at @offset of these; the reverse. */
size_t gyre__sim_scatter(const struct iovec *pieces, size_t count, size_t offset, const void *data,
                         size_t len);
size_t gyre__sim_gather(const struct iovec *pieces, size_t count, size_t offset, void *data,
                        size_t len);
/* Writes a name to msg->msg_name as recvmsg(2) does. */
void gyre__sim_put_name(struct msghdr *msg, const struct sockaddr_storage *address, socklen_t len);
/* Appends a control message to msg->msg_control; @used: bytes that are there already, updated.
 * Sets MSG_CTRUNC when there is no room. The caller sets msg_controllen to @used at the end. */
void gyre__sim_put_control(struct msghdr *msg, size_t *used, int level, int type, const void *data,
                           size_t len);

/* ---- net.c: hosts, ports, links ---- */

/* An address and a port in one form: IPv4 as IPv4-mapped IPv6, the port in host order. */
struct sim_ip {
    struct in6_addr address;
    uint16_t port;
};

/* @from: AF_INET or AF_INET6. */
void gyre__sim_ip_read(struct sim_ip *out_ip, const struct sockaddr *from);
/* As a socket of the family tells it; returns its length. */
socklen_t gyre__sim_ip_write(const struct sim_ip *ip, int family, struct sockaddr_storage *out);
int gyre__sim_ip_same(const struct sim_ip *a, const struct sim_ip *b); /* without the port */
int gyre__sim_ip_is_any(const struct sim_ip *ip);
int gyre__sim_ip_is_v4(const struct sim_ip *ip);
int gyre__sim_ip_is_loopback(const struct sim_ip *ip);

/* The address from which @from sends to @to, if it has one of the kind: 0 or -ENETUNREACH. The
 * wildcard stands for loopback and is replaced by it. */
int gyre__sim_source(struct gyre_sim_host *from, struct sim_ip *to, struct sim_ip *out_source);

/* The host that has this address (any of 127.0.0.0/8 and ::1 are @from's own), or NULL. Only the
 * address part of @to is looked at; IPv4 in IPv6 is IPv4. */
struct gyre_sim_host *gyre__sim_route(struct gyre_sim_host *from, const struct sockaddr *to);

/* Whether the host has this address; not 127.0.0.1, which all have. */
int gyre__sim_host_has(const struct gyre_sim_host *host, const struct sockaddr *address);

/* When @len bytes that leave @from now arrive at @to: latency, jitter and rate of the link. Returns
 * the moment, or UINT64_MAX while the two are partitioned. */
uint64_t gyre__sim_transit(struct gyre_sim_host *from, struct gyre_sim_host *to, size_t len);

/* Each host: bound sockets by protocol. Kept by net.c, used by tcp.c and udp.c. */
struct sim_binding {
    struct gyre_link link;
    struct sim_socket *socket;
    int protocol; /* IPPROTO_TCP, IPPROTO_UDP */
    struct sockaddr_storage address;
    socklen_t len;
};

/* Binds as bind(2) does: checks that the address is the host's own, picks a free ephemeral port for
 * port 0 (at random), minds SO_REUSEADDR and SO_REUSEPORT and IPV6_V6ONLY. 0, -EADDRINUSE,
 * -EADDRNOTAVAIL, -EINVAL. */
int gyre__sim_bind(struct sim_socket *socket, struct sim_binding *binding, int protocol,
                   const struct sockaddr *address, socklen_t len);
void gyre__sim_unbind(struct sim_binding *binding);

/* listen(2) minds again what bind(2) did: two sockets with SO_REUSEADDR may have one port, but not
 * both listen. 0 or -EADDRINUSE. */
int gyre__sim_bind_again(const struct sim_binding *binding);

/* A port that is in use by something that is not bound (any more): it is never picked for port 0.
 * Counted. */
void gyre__sim_port_hold(struct gyre_sim_host *host, int protocol, uint16_t port);
void gyre__sim_port_drop(struct gyre_sim_host *host, int protocol, uint16_t port);

/* tcp_port.c: whether a connection (also one that lingers in TIME_WAIT) keeps others from binding
 * its port. @reuse: the new socket has SO_REUSEADDR. */
int gyre__sim_tcp_holds(struct gyre_sim_host *host, const struct sim_ip *ip, int reuse);

/* The end of a host: whatever is left of what is kept for it. TCP before the net: a connection
 * holds ports. Sockets that are still open find themselves without a connection. */
void gyre__sim_net_free(struct gyre_sim_host *host);
void gyre__sim_tcp_free(struct gyre_sim_host *host);
void gyre__sim_udp_free(struct gyre_sim_host *host);
void gyre__sim_unix_free(struct gyre_sim_host *host);
void gyre__sim_nudges_free(struct gyre_sim_host *host);

/* ---- unix.c: files by name ---- */

int gyre__sim_path_stat(struct gyre_sim_host *host, const char *path, struct stat *out_file);
int gyre__sim_path_unlink(struct gyre_sim_host *host, const char *path);
int gyre__sim_path_chmod(struct gyre_sim_host *host, const char *path, mode_t mode);
void gyre__sim_paths_free(struct gyre_sim_host *host);

/* ---- hosts, processes, threads: process.c, thread.c ---- */

enum { SIM_ADDRESSES_MAX = 4, SIM_FDS_MAX = 4096, SIM_NAME_MAX = 32 };

/* What a thread has unless it asks for another: prctl(2), PR_SET_TIMERSLACK. */
enum { SIM_TIMER_SLACK_NS = 50000 };

struct gyre_sim_host {
    struct gyre_link link; /* of the world */
    struct gyre_sim *sim;
    char name[SIM_NAME_MAX];
    uint32_t index; /* from 0, in the order of making */
    struct sockaddr_storage address[SIM_ADDRESSES_MAX];
    uint32_t address_count;
    struct gyre_link processes;
    struct gyre_link bindings; /* struct sim_binding, oldest first */
    struct gyre_link paths;    /* unix.c */
    struct gyre_link abstract; /* unix.c */
    uint64_t inodes;
    uint64_t loopback_ns;          /* what a packet to the host itself takes */
    struct gyre_link links;        /* net.c: struct sim_link, to other hosts */
    struct sim_ports *ports;       /* net.c; NULL: none in use yet */
    struct gyre_link connections;  /* tcp_end.c: struct sim_end */
    struct sim_tcp_host *tcp;      /* tcp.c; NULL: nothing yet */
    struct gyre_link datagrams;    /* udp.c: under way to this host */
    struct gyre_link nudges;       /* transfer.c */
    struct gyre_link unix_sockets; /* unix.c: all, oldest first */
};

struct sim_descriptor {
    struct sim_file *file; /* NULL: free */
    uint8_t cloexec;
};

struct gyre_sim_process {
    struct gyre_link link;
    struct gyre_sim_host *host;
    uint32_t pid;
    uint32_t flags;    /* GYRE_SIM_DAEMON */
    uint32_t fd_limit; /* RLIMIT_NOFILE */
    uint32_t fd_count; /* one above the highest number in use */
    uint32_t fds_open;
    int last_closed; /* a number */
    struct sim_descriptor fd[SIM_FDS_MAX];
    struct gyre_link threads;
    uint64_t signals_pending; /* bit by number */
    uint64_t signals_blocked;
    struct gyre_link signal_files; /* event.c: open signalfds */
    int (*main)(void *context);
    void *context;
    int status; /* what main() returned */
    uint8_t ended;
    uint64_t calls; /* system calls made */
    uint64_t waits; /* of these: epoll_wait, io_uring_enter */
    uint64_t timer_slack_ns;
};

/* The lowest free number >= @least, as Linux hands them out; the file gets a descriptor more.
 * -EMFILE. */
int gyre__sim_fd_install(struct gyre_sim_process *process, struct sim_file *file, int least,
                         int cloexec);
/* The file of a number, or NULL. */
struct sim_file *gyre__sim_fd_file(const struct gyre_sim_process *process, int number);
int gyre__sim_fd_close(struct gyre_sim_process *process, int number); /* 0 or -EBADF */
/* 0 if so many numbers are free, or -EMFILE. */
int gyre__sim_fd_room(const struct gyre_sim_process *process, uint32_t count);

/* Who makes the system call; NULL in the scheduler. */
struct sim_thread *gyre__sim_self(void);
struct gyre_sim_process *gyre__sim_process(void); /* of that */

/* The calling thread sleeps until gyre__sim_thread_wake() or the deadline (UINT64_MAX: never).
 * Returns 0 or -ETIMEDOUT. Other threads, and the network, go on meanwhile. */
int gyre__sim_thread_sleep(uint64_t deadline_ns);
void gyre__sim_thread_wake(struct sim_thread *thread);

/* Sleeps until the file has one of the events, or was woken: 0, -ETIMEDOUT. */
int gyre__sim_file_await(struct sim_file *file, uint32_t events, uint64_t deadline_ns);

/* ---- what waits for files ---- */

/* event.c */
int gyre__sim_eventfd_make(struct gyre_sim_host *host, unsigned value, int flags,
                           struct sim_file **out_file);
int gyre__sim_timerfd_make(struct gyre_sim_host *host, struct sim_file **out_file);
int gyre__sim_timerfd_set(struct sim_file *file, int flags, const struct itimerspec *when);
int gyre__sim_signalfd_make(struct gyre_sim_process *process, uint64_t set,
                            struct sim_file **out_file);
/* What signalfds of the process have to be told. */
void gyre__sim_signals_changed(struct gyre_sim_process *process);

/* epoll.c. wait() does not block: it returns the events there are, perhaps 0. */
int gyre__sim_epoll_make(struct gyre_sim_host *host, struct sim_file **out_file);
int gyre__sim_epoll_control(struct sim_file *epoll, int what, int number, struct sim_file *target,
                            const struct epoll_event *event);
int gyre__sim_epoll_take(struct sim_file *epoll, struct epoll_event *events, int count);
int gyre__sim_is_epoll(const struct sim_file *file);
/* The file's last descriptor was closed: no epoll knows it any more. */
void gyre__sim_epoll_forget(struct sim_file *file);

/* uring.c: the functions of liburing that the library uses, on behalf of the calling thread. */
int gyre__sim_uring_setup(unsigned entries, struct io_uring *ring, struct io_uring_params *params);
void gyre__sim_uring_exit(struct io_uring *ring);
int gyre__sim_uring_register_ring(struct io_uring *ring);
int gyre__sim_uring_register_eventfd(struct io_uring *ring, int fd);
int gyre__sim_uring_register_buffers(struct io_uring *ring, struct io_uring_buf_reg *registration);
int gyre__sim_uring_enter(unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags,
                          void *argument, size_t len);

/* transfer.c, for call.c and uring.c: an operation as the system call does it, without blocking. These
 * inject the faults of the calls. accept returns the new socket without a descriptor. */
ssize_t gyre__sim_do_send(struct sim_file *file, const struct msghdr *msg, int flags);
ssize_t gyre__sim_do_recv(struct sim_file *file, struct msghdr *msg, int flags);
int gyre__sim_do_accept(struct gyre_sim_process *process, struct sim_file *file, int flags);
int gyre__sim_do_connect(struct sim_file *file, const struct sockaddr *address, socklen_t len);
ssize_t gyre__sim_do_read(struct sim_file *file, const struct iovec *pieces, int count);
ssize_t gyre__sim_do_write(struct sim_file *file, const struct iovec *pieces, int count);

/* kernel.c: the table. */
extern const struct gyre__kernel gyre__sim_kernel;
/* thread.c: what programs call. The simulated kernel, unless a test puts something in between. */
extern const struct gyre__kernel *gyre__sim_programs;
/* real.c: the operating system's. */
extern const struct gyre__kernel gyre__real_kernel;

#endif
