/*
 * A descriptor that a loop works on. struct gyre_fd is the caller's small companion to a file
 * descriptor: it knows which operations are active on it, keeps reads and writes in order, and is
 * what close waits for. Reads (accept, recv, recv_lease,
 * recvmsg, read) run one after another, in the order in
 * which they were started, and so do writes (connect, send, sendmsg, write): at most one of each is
 * with the kernel at a time. Polls run beside them.
 */
#ifndef GYRE_FD_H
#define GYRE_FD_H

#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

struct gyre_loop;

/**
 * struct gyre_fd - a file descriptor attached to a loop; all fields are private.
 * Ownership: the caller's storage; must not move or be freed between gyre_fd_init() and the
 * completion of gyre_op_close() (or gyre_fd_detach()).   Thread: the loop's.   Returns: (a type).
 * Source: docs/fd.md.
 */
struct gyre_fd {
    struct gyre_loop *loop;
    struct gyre_link ops;
    int number;
    uint32_t slot;
    uint32_t generation;
    uint32_t lent;
    uint16_t flags;
    uint16_t average;
    uint8_t state;
    uint8_t ready;
    uint8_t armed;
};

/**
 * gyre_fd_init() - attach an open file descriptor to a loop.
 * @fd: storage.  @loop: the loop that will work on it.  @number: an open descriptor: a socket,
 *      pipe, eventfd, terminal or file. It should be close-on-exec; blocking or not does not
 *      matter.
 * Returns: 0, -EINVAL (NULL, negative number), -EBADF (not open), -ENOMEM, GYRE_ETHREAD,
 *          GYRE_EFORK. On failure the descriptor stays the caller's.
 * Ownership: the descriptor belongs to the library until gyre_op_close() or gyre_fd_detach(): do
 *            not close(2) it meanwhile. The library may set O_NONBLOCK on it: the epoll driver for
 *            what has no other way not to block, io_uring for Unix connects and while it sheds.
 * Thread: loop thread only.   Limits: RLIMIT_NOFILE.
 * Source: docs/fd.md; epoll_ctl(2).
 */
GYRE_API GYRE_MUST_CHECK int gyre_fd_init(struct gyre_fd *fd, struct gyre_loop *loop, int number);

/**
 * gyre_fd_detach() - take the file descriptor back without closing it.
 * @fd: attached, with no active operation.  @out_number: set to the descriptor.
 * Returns: 0, -EINVAL (not attached), -EBUSY (operations are active), GYRE_ECLOSING, GYRE_ETHREAD,
 *          GYRE_EFORK.
 * Ownership: @fd is free and the descriptor the caller's.   Thread: loop thread only.
 * Source: docs/fd.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_fd_detach(struct gyre_fd *fd, int *out_number);

/**
 * gyre_fd_number() - the file descriptor, for getsockopt(2) and the like.
 * @fd: attached.
 * Returns: the descriptor, or -EBADF when nothing is attached.   Thread: loop thread only.
 * Source: docs/fd.md.
 */
GYRE_API int gyre_fd_number(const struct gyre_fd *fd);

/**
 * gyre_fd_cancel() - request the cancellation of every operation on a descriptor.
 * @fd: attached.
 * Returns: how many operations are active and have been asked to end, -EINVAL (not attached),
 *          GYRE_ETHREAD, GYRE_EFORK.
 * Thread: loop thread only.
 * Source: docs/contract.md, line 3.
 */
GYRE_API int gyre_fd_cancel(struct gyre_fd *fd);

GYRE_END

#endif
