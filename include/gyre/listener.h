/*
 * Listeners: sockets that accept connections for as long as they live, and make a stream of each.
 * Limits are on from the start: at the maximum of connections a listener stops accepting until one
 * has ended (the rest waits in the backlog); out of descriptors it sheds, backs off and recovers by
 * itself.
 */
#ifndef GYRE_LISTENER_H
#define GYRE_LISTENER_H

#include <gyre/addr.h>
#include <gyre/base.h>
#include <gyre/error.h>
#include <gyre/fd.h>
#include <gyre/op.h>
#include <gyre/stream.h>

GYRE_BEGIN

struct gyre_listener;
struct gyre_loop;

/* gyre_listener_options.flags */
#define GYRE_LISTEN_REUSE_PORT (1u << 0) /* SO_REUSEPORT: several listeners share the port */
#define GYRE_LISTEN_V6ONLY     (1u << 1) /* "[::]" does not take IPv4 connections */
#define GYRE_LISTEN_STALE      (1u << 2) /* Unix: remove a socket file that nobody listens on */

/**
 * struct gyre_listener_options - how to listen. Zero means the default, for every field but
 * @handler.
 * @handler: of the streams; must outlive them. Its flags are read when the listener starts.
 * @ext_size: bytes of the application's own with each stream (gyre_stream_ext()); at most 64 KiB.
 * @on_close: the listener has ended, and so has its last stream; its memory is the caller's again.
 *     @error: 0, or what ended it.
 * @max_connections: streams at a time; default: 15/16 of the soft RLIMIT_NOFILE, now.
 * @backlog: connections that wait to be accepted; default 4096; the kernel caps it at
 *     net.core.somaxconn.
 * @mode: of a Unix socket's file, such as 0660; default: what the umask leaves.
 * @flags: GYRE_LISTEN_*.
 * Returns: (a type).   Thread: the loop's.   Source: docs/streams.md; listen(2).
 */
struct gyre_listener_options {
    const struct gyre_stream_handler *handler;
    size_t ext_size;
    void (*on_close)(struct gyre_listener *listener, int error);
    uint32_t max_connections;
    uint32_t backlog;
    uint32_t mode;
    uint32_t flags;
};

struct gyre__nursery;

/**
 * struct gyre_listener - a listening socket and the streams it accepted; all fields are private.
 * Ownership: the caller's storage; must not move or be freed from gyre_listen() until on_close().
 * Thread: the loop's.   Returns: (a type).   Source: docs/streams.md.
 */
struct gyre_listener {
    struct gyre_fd fd;
    struct gyre_op accept;
    struct gyre_op close;
    struct gyre_listener_options options;
    struct gyre__nursery *nursery;
    uint32_t count;
    uint16_t fd_flags;
    uint8_t state;
    uint8_t paused;
    int32_t error;
    struct gyre_addr file;
    uint64_t file_device;
    uint64_t file_inode;
};

/**
 * gyre_listen() - accept connections to an address, given as text.
 * @loop: where.  @listener: storage.  @address: as gyre_addr_parse() reads it, such as
 *        "127.0.0.1:0", "[::]:80", "unix:/run/a.sock", "unix:@name"; port 0: one that is free.
 * @options: copied.
 * Returns: 0; as gyre_addr_parse(); as gyre_listen_addr().
 * Thread: loop thread only.
 * Source: bind(2), listen(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_listen(struct gyre_loop *loop, struct gyre_listener *listener,
                                         const char *address,
                                         const struct gyre_listener_options *options);

/**
 * gyre_listen_addr() - as gyre_listen(), with an address.
 * @address: IP or Unix. "[::]" takes IPv4 connections too, unless GYRE_LISTEN_V6ONLY.
 * Returns: 0; -EINVAL; -EADDRINUSE (with a Unix path: the file exists, and, with GYRE_LISTEN_STALE,
 *          is no socket or is listened on); -EADDRNOTAVAIL; -EACCES; -EAFNOSUPPORT; -EMFILE,
 *          -ENFILE, -ENOMEM; GYRE_ETHREAD; GYRE_EFORK; others of bind(2), getsockopt(2).
 * Thread: loop thread only.   Limits: SO_REUSEADDR is set on IP sockets, so that a server can be
 *          started again at once.
 * Source: bind(2), listen(2), unix(7), ipv6(7) IPV6_V6ONLY.
 */
GYRE_API GYRE_MUST_CHECK int gyre_listen_addr(struct gyre_loop *loop,
                                              struct gyre_listener *listener,
                                              const struct gyre_addr *address,
                                              const struct gyre_listener_options *options);

/**
 * gyre_listen_adopt() - as gyre_listen(), on a socket that listens already: inherited, or handed
 *                       over.
 * @number: a listening stream socket, close-on-exec.
 * Returns: 0; -EINVAL (also: it does not listen); -EBADF, -ENOTSOCK, others of getsockopt(2);
 *          -EPROTOTYPE; -ENOMEM; GYRE_ETHREAD; GYRE_EFORK. On failure @number stays the caller's.
 * Ownership: @number belongs to the listener; a Unix socket's file is left alone.
 * Thread: loop thread only.
 * Source: socket(7) SO_ACCEPTCONN.
 */
GYRE_API GYRE_MUST_CHECK int gyre_listen_adopt(struct gyre_loop *loop,
                                               struct gyre_listener *listener, int number,
                                               const struct gyre_listener_options *options);

/**
 * gyre_listener_address() - what the listener is bound to, with the port that the kernel chose.
 * @listener: listening.  @out_addr: set to it.
 * Returns: 0, -EINVAL, -EBADF (closed).   Thread: loop thread only.
 * Source: getsockname(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_listener_address(const struct gyre_listener *listener,
                                                   struct gyre_addr *out_addr);

/**
 * gyre_listener_number() - the listening socket, for options (gyre/sockopt.h): accepted sockets
 *                          inherit most of them.
 * @listener: listening.
 * Returns: the descriptor, the listener's; -EBADF.   Thread: loop thread only.
 * Source: docs/sockopt.md.
 */
GYRE_API int gyre_listener_number(const struct gyre_listener *listener);

/**
 * gyre_listener_pause() - accept no more for now; connections wait in the backlog.
 * @listener: listening.
 * Returns: 0, -EINVAL, GYRE_ECLOSING, GYRE_ETHREAD, GYRE_EFORK. Connections that had been accepted
 *          already may still open.
 * Thread: loop thread only.
 * Source: listen(2).
 */
GYRE_API int gyre_listener_pause(struct gyre_listener *listener);

/**
 * gyre_listener_resume() - accept again after gyre_listener_pause().
 * @listener: listening.
 * Returns: 0, -EINVAL, -ENOMEM, GYRE_ECLOSING, GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.
 * Source: listen(2).
 */
GYRE_API int gyre_listener_resume(struct gyre_listener *listener);

/**
 * gyre_listener_count() - streams accepted and not yet closed.
 * @listener: initialised.
 * Returns: their number.   Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API size_t gyre_listener_count(const struct gyre_listener *listener);

/**
 * gyre_listener_each() - call a function for each stream that is open, in no particular order; those
 *                        being closed are counted, but not visited.
 * @listener: initialised.  @fn: may write to, close and reset any stream.  @context: handed to @fn.
 * Returns: nothing.   Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API void gyre_listener_each(struct gyre_listener *listener,
                                 void (*fn)(struct gyre_stream *stream, void *context),
                                 void *context);

/**
 * gyre_listener_close() - end a listener: no more connections, its socket is closed (and the file of
 *                         a Unix socket removed); when its last stream has ended, on_close().
 * @listener: listening. Closing twice is closing once.
 * Returns: 0, -EINVAL, GYRE_ETHREAD, GYRE_EFORK. Streams go on; to end them too:
 *          gyre_listener_drain().
 * Thread: loop thread only.
 * Source: docs/contract.md, line 5.
 */
GYRE_API int gyre_listener_close(struct gyre_listener *listener);

/**
 * gyre_listener_drain() - gyre_listener_close(), and gyre_stream_close() for each stream.
 * @listener: listening, or being closed.
 * Returns: as gyre_listener_close().
 * Thread: loop thread only.   Limits: each stream's close_timeout_ns.
 * Source: docs/streams.md.
 */
GYRE_API int gyre_listener_drain(struct gyre_listener *listener);

/**
 * gyre_listener_reset() - gyre_listener_close(), and gyre_stream_reset() for each stream, those that
 *                         are being closed included: for a drain that takes too long.
 * @listener: listening, or being closed.
 * Returns: as gyre_listener_close().
 * Thread: loop thread only.
 * Source: docs/streams.md.
 */
GYRE_API int gyre_listener_reset(struct gyre_listener *listener);

GYRE_END

#endif
