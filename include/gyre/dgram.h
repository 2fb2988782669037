/*
 * Datagrams: UDP over IPv4 and IPv6, Unix datagram sockets, ICMP. Both ways go in batches, so that a
 * busy socket makes far less than one system call per datagram, on every driver.
 *
 *     gyre_dgram_open() --> OPEN --gyre_dgram_close()--> CLOSING --on_close()--> the caller's again
 *
 *  - on_datagram() gets each datagram with its sender, from the memory it was received into;
 *  - what is sent during a turn leaves together at its end, in order; a full batch leaves at once;
 *  - an error of one datagram concerns that one: on_error() is told, the rest goes on;
 *  - after gyre_dgram_close() there is no callback but the release of memory that was lent, and
 *    on_close(), the last.
 *
 * Callbacks run from gyre_loop_run() and gyre_loop_dispatch() only. Every function here can return
 * -EINVAL (an argument is NULL or out of range), GYRE_ECLOSING (the socket is being closed),
 * GYRE_ETHREAD and GYRE_EFORK.
 */
#ifndef GYRE_DGRAM_H
#define GYRE_DGRAM_H

#include <gyre/addr.h>
#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/fd.h>
#include <gyre/op.h>

GYRE_BEGIN

struct gyre_dgram;
struct gyre_loop;

#define GYRE_DGRAM_MAX 65535 /* bytes of a datagram, or of the segments sent together */

/* Flags of struct gyre_dgram_options. */
#define GYRE_DGRAM_BROADCAST    (1u << 0) /* may send to broadcast addresses */
#define GYRE_DGRAM_REUSE_PORT   (1u << 1) /* several sockets share the port and its load */
#define GYRE_DGRAM_REUSE_ADDR   (1u << 2) /* several sockets each get what is multicast to it */
#define GYRE_DGRAM_V6ONLY       (1u << 3) /* IPv6: no IPv4 through mapped addresses */
#define GYRE_DGRAM_PACKET_INFO  (1u << 4) /* tell at which address and interface it arrived */
#define GYRE_DGRAM_TTL          (1u << 5) /* tell the time to live (hop limit) */
#define GYRE_DGRAM_TOS          (1u << 6) /* tell the type of service (traffic class) */
#define GYRE_DGRAM_GRO          (1u << 7) /* datagrams of one size may arrive joined */
#define GYRE_DGRAM_ERROR_DETAIL (1u << 8) /* ICMP errors also when unconnected; to which address */

/* Flags of struct gyre_datagram. */
#define GYRE_DGRAM_TRUNCATED (1u << 0) /* it was longer than there was room for; the rest is lost */

/** enum gyre_dgram_kind - which socket to make. */
enum gyre_dgram_kind {
    GYRE_DGRAM_BY_ADDRESS, /* UDP or Unix, by the family of the local or the peer's address */
    GYRE_DGRAM_UDP4,
    GYRE_DGRAM_UDP6,
    GYRE_DGRAM_UNIX,
    GYRE_DGRAM_ICMP4, /* as anybody if that is allowed, else as root; see docs/datagrams.md */
    GYRE_DGRAM_ICMP6,
};

/**
 * struct gyre_datagram - a datagram that arrived.
 * @data, @len: its bytes; @len 0 is a datagram too.  @flags: GYRE_DGRAM_TRUNCATED or 0.
 * @from: the sender's address; its len is 0 when it has none (an unnamed Unix socket).
 * @segment: with GYRE_DGRAM_GRO: @data is several datagrams of this size, the last perhaps
 *     shorter; 0: one datagram.
 * @local, @interface: with GYRE_DGRAM_PACKET_INFO: at which address (port 0) and on which interface
 *     it arrived; otherwise NULL and 0.
 * @ttl, @tos: with GYRE_DGRAM_TTL, GYRE_DGRAM_TOS; otherwise -1.
 * @source: private; IPv4: where gyre_dgram_reply() answers from.
 * Returns: (a type).   Ownership: all of it is the library's, valid during the callback and not to
 * be written to: an answer that lies in it is sent from there.
 * Thread: the loop's.   Source: recvmsg(2), ip(7), ipv6(7), udp(7).
 */
struct gyre_datagram {
    const void *data;
    size_t len;
    uint32_t flags;
    uint32_t segment;
    const struct gyre_addr *from;
    const struct gyre_addr *local;
    unsigned interface;
    int ttl;
    int tos;
    uint32_t source;
};

/**
 * struct gyre_dgram_handler - what a socket calls; all but @on_datagram may be NULL.
 * @on_datagram: a datagram arrived.
 * @on_error: something went wrong, and the socket works on, unless it is its waiting for data that
 *     failed: then on_close() follows. (For want of memory only before the first datagram; later the
 *     socket is read in each turn until there is some.) @to: the address of the datagram that was not
 *     sent, or that the network refused; NULL when it is not known, as for a receive or an ICMP error
 *     of a connected socket.
 * @on_drain: after a send was refused with -ENOBUFS: there is room again.
 * @on_close: the last: @dgram is the caller's again and may be freed.
 * Returns: (a type).   Thread: the loop's.   Ownership: must outlive the socket.
 * Source: docs/datagrams.md.
 */
struct gyre_dgram_handler {
    void (*on_datagram)(struct gyre_dgram *dgram, const struct gyre_datagram *datagram);
    void (*on_error)(struct gyre_dgram *dgram, int error, const struct gyre_addr *to);
    void (*on_drain)(struct gyre_dgram *dgram);
    void (*on_close)(struct gyre_dgram *dgram);
};

/**
 * struct gyre_dgram_options - how to open a socket. Zero means the default, for every field but
 *                             @handler.
 * @handler: required.  @kind: see enum gyre_dgram_kind.  @flags: GYRE_DGRAM_* of the first list.
 * @local: the address to bind to; NULL: the kernel chooses one at the first send.
 * @peer: the address to connect to: sends need no address, and only its datagrams arrive, once it is
 *     connected; what others send to the port between bind(2) and connect(2) still does.
 * @receive_max: longer datagrams are truncated to this many bytes, 1..GYRE_DGRAM_MAX; default
 *     GYRE_DGRAM_MAX.
 * @queue_bytes, @queue_count: how much may wait to be sent; defaults 1 MiB and 4,096 datagrams.
 * Returns: (a type).   Thread: any.   Source: docs/datagrams.md.
 */
struct gyre_dgram_options {
    const struct gyre_dgram_handler *handler;
    enum gyre_dgram_kind kind;
    uint32_t flags;
    const struct gyre_addr *local;
    const struct gyre_addr *peer;
    size_t receive_max;
    size_t queue_bytes;
    size_t queue_count;
};

/**
 * struct gyre_dgram_stats - counters of one socket.
 * @received, @sent: datagrams; received: as they were delivered (joined ones are one), sent: as
 *     they went to the kernel.  @truncated: of those received.
 * @errors: calls of on_error, or that there would have been.
 * @unsent: datagrams that were accepted and not sent: by an error, or by close.
 * @lost: datagrams that were taken from the kernel and not delivered: at a close, or for want of
 *     memory while paused.
 * @kernel_drops: datagrams that the kernel dropped, mostly because its receive buffer was full.
 * Returns: (a type).   Thread: the loop's.   Source: docs/datagrams.md.
 */
struct gyre_dgram_stats {
    uint64_t received;
    uint64_t sent;
    uint64_t truncated;
    uint64_t errors;
    uint64_t unsent;
    uint64_t lost;
    uint64_t kernel_drops;
};

/**
 * struct gyre_dgram - a datagram socket on a loop; all fields are private.
 * Ownership: the caller's storage; must not move or be freed between gyre_dgram_open() and
 * on_close().   Thread: the loop's.   Returns: (a type).
 * Source: docs/datagrams.md.
 */
struct gyre_dgram {
    struct gyre_fd fd;
    const struct gyre_dgram_handler *handler;
    uint8_t state;
    uint8_t traits;
    uint8_t readable;
    uint8_t paused;
    uint8_t refused;
    uint8_t room;
    uint8_t troubled;
    uint8_t flooded;
    uint8_t streak;
    uint8_t busy;
    uint8_t answering;
    uint8_t silent;
    uint16_t flags;
    uint16_t batch;
    uint8_t calm;
    uint32_t receive_max;
    uint32_t send_max;
    uint32_t average;
    int32_t suspect;
    int32_t pending_error;
    struct gyre_op in;
    struct gyre_op out;
    struct gyre_op work;
    struct gyre_op closing;
    struct gyre_task task;
    struct gyre_link queue;
    struct gyre_link ended;
    struct gyre_link held;
    struct gyre__dgram_page *page;
    struct gyre__dgram_lone *lone;
    size_t queued_bytes;
    size_t queued_count;
    size_t bytes_max;
    size_t count_max;
    struct gyre_dgram_stats stats;
};

/**
 * gyre_dgram_open() - make a socket, bind and connect it as asked, and receive from it.
 * @dgram: storage.  @loop: where.  @options: how.
 * Returns: 0; -EAFNOSUPPORT (no kind is given and the addresses tell none, or they differ);
 *          -ENOMEM; or an error of socket(2) (-EACCES, -EPERM for ICMP), setsockopt(2), bind(2) or
 *          connect(2). On failure nothing happened.
 * Thread: loop thread only.
 * Source: docs/datagrams.md; udp(7), unix(7), icmp(7).
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_open(struct gyre_dgram *dgram, struct gyre_loop *loop,
                                             const struct gyre_dgram_options *options);

/**
 * gyre_dgram_adopt() - receive from a socket that exists already.
 * @dgram: storage.  @loop: where.  @number: an open socket.  @options: how; the flags that switch
 *      socket options on are obeyed, those that are not given are left as they are. If
 *      GYRE_DGRAM_GRO or GYRE_DGRAM_ERROR_DETAIL is on already, it counts as given. kind is found
 *      out, local and peer must be NULL.
 * Returns: 0; -EBADF, -ENOTSOCK; -EPROTOTYPE (it is neither a datagram nor a raw socket); -ENOMEM;
 *          an error of getsockopt(2), getpeername(2) or setsockopt(2).
 * Ownership: the descriptor is the library's until on_close(); on failure it stays the caller's.
 * Thread: loop thread only.
 * Source: docs/datagrams.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_adopt(struct gyre_dgram *dgram, struct gyre_loop *loop,
                                              int number, const struct gyre_dgram_options *options);

/**
 * gyre_dgram_close() - end a socket.
 * @dgram: open. May be called in any of its callbacks.
 * Returns: 0. What is queued is sent if the socket takes it at once, the rest is dropped. Then,
 *          from the loop: memory that was lent is released, and on_close() is called, as the last.
 * Ownership: @dgram is the library's until on_close().   Thread: loop thread only.
 * Source: docs/datagrams.md; docs/contract.md, line 5.
 */
GYRE_API int gyre_dgram_close(struct gyre_dgram *dgram);

/**
 * gyre_dgram_pause() - no on_datagram() until gyre_dgram_resume(). What arrives waits in the
 *                      socket's buffer; when that is full the kernel drops.
 * @dgram: open.
 * Returns: 0. Pausing twice is pausing once. What had been taken from the kernel is kept.
 * Thread: loop thread only.
 * Source: docs/datagrams.md.
 */
GYRE_API int gyre_dgram_pause(struct gyre_dgram *dgram);

/**
 * gyre_dgram_resume() - receive again; first what was kept, in order.
 * @dgram: open.
 * Returns: 0.   Thread: loop thread only.
 * Source: docs/datagrams.md.
 */
GYRE_API int gyre_dgram_resume(struct gyre_dgram *dgram);

/**
 * gyre_dgram_release_fn - the memory of a message is the caller's again: it was sent, or failed, or
 *                         was dropped by close.
 * @dgram: the socket; may be closing.  @context: of the message.
 * Returns: nothing.   Thread: the loop's, from gyre_loop_run() or gyre_loop_dispatch() only.
 * Source: docs/datagrams.md.
 */
typedef void (*gyre_dgram_release_fn)(struct gyre_dgram *dgram, void *context);

/**
 * struct gyre_dgram_message - a datagram to be sent, with everything that can be said about it.
 * Zero means the default, for every field.
 * @to: where to; NULL: to the peer of a connected socket.
 * @data, @len: 0..GYRE_DGRAM_MAX bytes.
 * @segment: not 0: split into datagrams of this many bytes, the last perhaps shorter. The kernel or
 *     the network card does it where they can (UDP_SEGMENT), else the library; on the wire it is
 *     the same.
 * @from: the address to send from, of which the port does not count; NULL: by the routing table.
 * @interface: the interface to send on; 0: by the routing table, or that of a link-local @from.
 * @release: NULL: the bytes are copied. Else they are borrowed until it is called, once, with
 *     @context.
 * Returns: (a type).   Thread: the loop's.   Source: docs/datagrams.md; udp(7), ip(7), ipv6(7).
 */
struct gyre_dgram_message {
    const struct gyre_addr *to;
    const void *data;
    size_t len;
    uint16_t segment;
    const struct gyre_addr *from;
    unsigned interface;
    gyre_dgram_release_fn release;
    void *context;
};

/**
 * gyre_dgram_send() - copy a datagram to the queue of a socket; it leaves with the others of this
 *                     turn, from on_datagram() of the socket itself with those of the batch.
 * @dgram: open.  @to: where to, copied; NULL: to the peer of a connected socket.
 * @data, @len: 0..GYRE_DGRAM_MAX bytes, copied.
 * Returns: 0; -ENOBUFS (the queue is full: nothing was queued, on_drain() tells when to go on);
 *          -EMSGSIZE (longer than any datagram of this kind can be, or than queue_bytes);
 *          -EDESTADDRREQ (no address, and the socket is not connected); -ENOMEM. What goes wrong
 *          later is told to on_error().
 * Thread: loop thread only.   Limits: gyre_dgram_options.queue_bytes and queue_count.
 * Source: docs/datagrams.md; sendmmsg(2), send(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_send(struct gyre_dgram *dgram, const struct gyre_addr *to,
                                             const void *data, size_t len);

/**
 * gyre_dgram_send_message() - as gyre_dgram_send(), with a choice of source, segments, or by
 *                             reference.
 * @dgram: open.  @message: copied; the bytes too unless message->release is set.
 * Returns: as gyre_dgram_send(); -EAFNOSUPPORT (a source address or interface for a socket that is
 *          neither IPv4 nor IPv6, or of another family). On failure release is not called.
 * Thread: loop thread only.
 * Source: docs/datagrams.md; udp(7) "UDP_SEGMENT", ip(7) "IP_PKTINFO".
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_send_message(struct gyre_dgram *dgram,
                                                     const struct gyre_dgram_message *message);

/**
 * gyre_dgram_reply() - copy an answer to the queue: to the sender of a datagram, and with
 *                      GYRE_DGRAM_PACKET_INFO from the address that the datagram was sent to.
 * @dgram: open.  @datagram: what on_datagram() got.  @data, @len: as in gyre_dgram_send().
 * Returns: as gyre_dgram_send().   Thread: loop thread only.
 * Limits: the answer to an IPv6 multicast leaves from the address of the routing table, to an IPv4
 * multicast or broadcast from that of the interface where it arrived.
 * Source: docs/datagrams.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_reply(struct gyre_dgram *dgram,
                                              const struct gyre_datagram *datagram,
                                              const void *data, size_t len);

/**
 * gyre_dgram_join() - receive what is sent to a multicast group.
 * @dgram: open, UDP.  @group: its address; the port does not count.  @interface: on which
 *      interface; 0: by the routing table.
 * Returns: 0, or an error of setsockopt(2): -EADDRINUSE (joined already), -ENODEV, -EINVAL (no
 *          multicast address), -ENOBUFS (too many).
 * Thread: loop thread only.   Limits: net.ipv4.igmp_max_memberships groups, 20 by default.
 * Source: ip(7), ipv6(7); RFC 3678 section 5.1.
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_join(struct gyre_dgram *dgram,
                                             const struct gyre_addr *group, unsigned interface);

/**
 * gyre_dgram_leave() - take a gyre_dgram_join() back.
 * @dgram, @group, @interface: as then.
 * Returns: 0, or an error of setsockopt(2): -EADDRNOTAVAIL (not joined).   Thread: loop thread only.
 * Source: RFC 3678 section 5.1.
 */
GYRE_API int gyre_dgram_leave(struct gyre_dgram *dgram, const struct gyre_addr *group,
                              unsigned interface);

/**
 * gyre_dgram_set_multicast_interface() - on which interface multicasts leave.
 * @dgram: open, UDP.  @interface: its index; 0: by the routing table.
 * Returns: 0, or an error of setsockopt(2).   Thread: loop thread only.
 * Source: ip(7) "IP_MULTICAST_IF"; ipv6(7) "IPV6_MULTICAST_IF"; if_nametoindex(3).
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_set_multicast_interface(struct gyre_dgram *dgram,
                                                                unsigned interface);

/**
 * gyre_dgram_set_multicast_ttl() - how many hops multicasts travel.
 * @dgram: open, UDP.  @ttl: 0 (this machine) to 255; the kernel's default is 1.
 * Returns: 0, or an error of setsockopt(2).   Thread: loop thread only.
 * Source: ip(7) "IP_MULTICAST_TTL"; ipv6(7) "IPV6_MULTICAST_HOPS".
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_set_multicast_ttl(struct gyre_dgram *dgram, int ttl);

/**
 * gyre_dgram_set_multicast_loop() - whether members on this machine get the multicasts of this
 *                                   socket; they do by default.
 * @dgram: open, UDP.  @loop: 1 or 0.
 * Returns: 0, or an error of setsockopt(2).   Thread: loop thread only.
 * Source: ip(7) "IP_MULTICAST_LOOP"; ipv6(7) "IPV6_MULTICAST_LOOP".
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_set_multicast_loop(struct gyre_dgram *dgram, int loop);

/**
 * gyre_dgram_local() - the address that a socket is bound to.
 * @dgram: open.  @out_addr: set to it.
 * Returns: 0, or an error of getsockname(2).   Thread: loop thread only.
 * Source: getsockname(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_dgram_local(const struct gyre_dgram *dgram,
                                              struct gyre_addr *out_addr);

/**
 * gyre_dgram_number() - the file descriptor, for getsockopt(2) and setsockopt(2).
 * @dgram: open or closing.
 * Returns: the descriptor, or -EBADF.   Thread: loop thread only.
 * Source: docs/datagrams.md.
 */
GYRE_API int gyre_dgram_number(const struct gyre_dgram *dgram);

/**
 * gyre_dgram_is_raw() - whether an ICMP socket is a raw one, because the other was not allowed.
 * @dgram: open.
 * Returns: 1: every ICMP message of the machine arrives, and identifiers are sent as they are; 0:
 *          only the answers to its own requests arrive, and the kernel sets the identifier.
 * Thread: loop thread only.
 * Source: docs/datagrams.md; icmp(7), raw(7).
 */
GYRE_API int gyre_dgram_is_raw(const struct gyre_dgram *dgram);

/**
 * gyre_dgram_queued() - how much waits to be sent, or may have left without that being known yet.
 * @dgram: open.
 * Returns: bytes.   Thread: loop thread only.
 * Source: docs/datagrams.md.
 */
GYRE_API size_t gyre_dgram_queued(const struct gyre_dgram *dgram);

/**
 * gyre_dgram_stats() - read the counters of a socket.
 * @dgram: open, closing, or in on_close().  @out_stats: filled in; kernel_drops is asked for, and 0
 *      when closed.
 * Returns: 0.   Thread: loop thread only.   Limits: one system call.
 * Source: docs/datagrams.md; socket(7) "SO_MEMINFO" (Linux 4.12).
 */
GYRE_API int gyre_dgram_stats(const struct gyre_dgram *dgram, struct gyre_dgram_stats *out_stats);

GYRE_END

#endif
