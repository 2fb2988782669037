/* The life of an operation, for core and the drivers. See op.c. */
#ifndef GYRE_CORE_OP_H
#define GYRE_CORE_OP_H

#include "base/list.h"
#include "base/rare.h"
#include "base/sys.h"
#include "core/kinds.h"
#include "core/loop.h"

#include <errno.h>
#include <gyre/op.h>
#include <sys/socket.h>

enum gyre__op_state {
    GYRE__OP_IDLE = 0, /* the caller's */
    GYRE__OP_QUEUED,   /* behind another of its direction; or a timeout, waiting for its moment */
    GYRE__OP_ARMED,    /* the driver's */
    GYRE__OP_TRY,      /* on the loop's list of tries: the driver goes on with it in dispatch */
    GYRE__OP_READY,    /* on the loop's list of results: its callback runs in dispatch */
    GYRE__OP_STARVED,  /* on the pool's list: no block was free */
    GYRE__OP_HELD,     /* a receive whose caller retains more than the quota */
    GYRE__OP_PAUSED,   /* on the loop's list: an accept that ran out of descriptors */
    GYRE__OP_STATE_COUNT
};

/* Flags of an op beyond the public ones (bits 0..7). */
#define GYRE__OP_PATIENT    (1u << 4) /* a single accept that outlives shortages as a multishot does */
#define GYRE__OP_CANCELLED  (1u << 8)  /* cancel was requested */
#define GYRE__OP_TIMED_OUT  (1u << 9)  /* ... by its deadline */
#define GYRE__OP_ENDING     (1u << 7)  /* io_uring: finishes when its poll has ended */
#define GYRE__OP_POLLING    (1u << 10) /* io_uring: the kernel polls for it, whatever its state */
#define GYRE__OP_PAUSING    (1u << 11) /* the kernel was asked to end a multishot; not the caller */
#define GYRE__OP_BACKGROUND (1u << 12) /* the loop's own: does not keep it alive */
#define GYRE__OP_SHUT       (1u << 13) /* close: shutdown(2) has been done */
#define GYRE__OP_DEADLINE   (1u << 15) /* its alarm has been used */
#define GYRE__OP_TURN       (1u << 14) /* has its direction of the descriptor */

/* struct gyre_fd */
enum gyre__fd_state { GYRE__FD_NONE = 0, GYRE__FD_OPEN = 0x51, GYRE__FD_CLOSING, GYRE__FD_CLOSED };

#define GYRE__FD_NONBLOCK   (1u << 0) /* O_NONBLOCK is set */
#define GYRE__FD_REGISTERED (1u << 1) /* with epoll */
#define GYRE__FD_PLAIN      (1u << 2) /* cannot be polled: a regular file, always ready */
#define GYRE__FD_TYPED      (1u << 3) /* the next three are known */
#define GYRE__FD_SOCKET     (1u << 4)
#define GYRE__FD_STREAM     (1u << 5)
#define GYRE__FD_TCP        (1u << 6)
#define GYRE__FD_BULK       (1u << 7) /* io_uring without incremental buffers: much comes at a time */
#define GYRE__FD_CONTROL    (1u << 8) /* descriptors that come with its data are wanted */

/* epoll: registered for input only, since no operation had to wait for room yet. */
#define GYRE__FD_NO_ROOM_EVENTS (1u << 9)
#define GYRE__FD_LEVEL          (1u << 10) /* epoll: registered level-triggered, to accept */
#define GYRE__FD_LISTENS        (1u << 11) /* epoll: an accept has waited on it */

/* gyre_fd.armed: directions that an operation has, and: */
#define GYRE__FD_HOLDS (1u << 2) /* an operation is HELD until less is retained */

/* gyre_fd.ready: directions as enum gyre__direction, and: */
#define GYRE__READY_END   (1u << 2) /* an end, error or mark is near: a short read is not the last */
#define GYRE__READY_ASKED (1u << 3) /* asked again beside it, and nothing has come since */
#define GYRE__READY_DOUBT (1u << 4) /* io_uring: behind what has come a reset may be hidden */

/* For each state, the states that may follow it; the rest is a bug. See op.c. */
extern const uint8_t gyre__op_may_follow[GYRE__OP_STATE_COUNT];

static inline void gyre__op_set_state(struct gyre_op *op, enum gyre__op_state state)
{
    gyre_assert(op->state < GYRE__OP_STATE_COUNT &&
                ((unsigned)gyre__op_may_follow[op->state] >> state & 1));
    op->state = (uint8_t)state;
}

/* Begin an operation whose arguments are set: it takes its turn on its descriptor. */
static inline int gyre__op_check(const struct gyre_op *op, const struct gyre_loop *loop,
                                 const struct gyre_fd *fd)
{
    int rc;

    if (op == NULL || op->fn == NULL || loop == NULL) {
        return -EINVAL;
    }
    rc = gyre__loop_check(loop);
    if (rc < 0) {
        return rc;
    }
    if (op->state != GYRE__OP_IDLE) {
        return -EBUSY;
    }
    if (fd != NULL && fd->state != GYRE__FD_OPEN) {
        return fd->state == GYRE__FD_CLOSING ? GYRE_ECLOSING : -EINVAL;
    }
    return 0;
}

int gyre__op_begin(struct gyre_op *op, enum gyre_op_kind kind, struct gyre_loop *loop,
                   struct gyre_fd *fd, uint32_t flags);

/* As gyre__op_begin(), for a send. */
int gyre__op_begin_send(struct gyre_op *op, struct gyre_fd *fd);

/* Send bytes that the library has seen to, with an operation of its own: as gyre_op_send() without
 * its checks. */
static inline int gyre__op_send(struct gyre_op *op, struct gyre_fd *fd, const uint8_t *data,
                                uint32_t len)
{
    gyre_assert(op->state == GYRE__OP_IDLE && fd->state == GYRE__FD_OPEN);
    op->arg.io.data = (uint8_t *)(uintptr_t)data;
    op->arg.io.offset = GYRE_OFFSET_CURRENT;
    op->len = len;
    return gyre__op_begin_send(op, fd);
}

/* A name for the kernel; room was reserved when the operation began. */
static inline void gyre__op_take_slot(struct gyre_op *op)
{
    op->slot = gyre__slots_take(&op->loop->slots, op, &op->generation);
}

/* The result is known; its callback runs in dispatch. */
static inline void gyre__op_ready(struct gyre_op *op, int32_t result)
{
    gyre__op_set_state(op, GYRE__OP_READY);
    op->result = result;
    gyre__list_append(&op->loop->results, &op->link);
}

/* The driver goes on with it in dispatch. */
static inline void gyre__op_try_later(struct gyre_op *op)
{
    if (op->state != GYRE__OP_TRY) {
        gyre__op_set_state(op, GYRE__OP_TRY);
        gyre__list_append(&op->loop->tries, &op->link);
    }
}

/* No block was free: wait on the pool's list. */
GYRE__RARE void gyre__op_starve(struct gyre_op *op);

/* Its caller retains more than the quota: wait until that is less. */
GYRE__RARE void gyre__op_hold(struct gyre_op *op);

/* Dispatch only: the last result; the operation is over before its callback runs. */
void gyre__op_finish(struct gyre_op *op, int32_t result, const struct gyre_lease *lease);

/* Dispatch only: one result of many. */
void gyre__op_emit(struct gyre_op *op, int32_t result, const struct gyre_lease *lease);

/* The result for an operation that has moved bytes, or failed with @error before it could. */
int32_t gyre__op_outcome(const struct gyre_op *op, int32_t error);

/* As gyre_fd_init(), without a question: an open descriptor with the GYRE__FD_* flags that are known
 * of it. Returns 0 or -ENOMEM. */
int gyre__fd_attach(struct gyre_fd *fd, struct gyre_loop *loop, int number, uint16_t flags);

/* Whether a send gains nothing by waiting for the end of the turn. */
static inline int gyre__sends_now(const struct gyre_loop *loop)
{
    return loop->backend->tries_at_once || loop->alone;
}

/* Whether a send leaves when it begins, and not at the end of the turn: also on a descriptor that
 * receives in bulk, where it gives the memory back for the next receive. */
static inline int gyre__fd_sends_directly(const struct gyre_fd *fd)
{
    return gyre__sends_now(fd->loop) || (fd->flags & GYRE__FD_BULK);
}

static inline int gyre__fd_may_send_now(const struct gyre_fd *fd)
{
    return !(fd->armed & GYRE__DIR_OUT) && (fd->ready & GYRE__DIR_OUT);
}

/* What came of it; it counts as an operation. */
static GYRE__INLINE int gyre__fd_sent_now(struct gyre_fd *fd, enum gyre_op_kind kind, int sent)
{
    struct gyre_loop *loop = fd->loop;

    loop->stats.syscalls++;
    loop->alone = 0;
    if (sent == GYRE__NOT_YET || sent == 0) {
        return GYRE__NOT_YET;
    }
    loop->stats.started[kind]++;
    loop->stats.finished[kind]++;
    if (sent > 0) {
        fd->ready &= (uint8_t)~GYRE__READY_DOUBT;
    }
    return sent;
}

/* If gyre__sends_now(): send without an operation, when none has its turn to. Returns bytes sent, an
 * error (which the kernel tells once), or GYRE__NOT_YET. In line: see base/syscall.h. */
static GYRE__INLINE int gyre__fd_send_now(struct gyre_fd *fd, const void *data, size_t len)
{
    if (!gyre__fd_may_send_now(fd)) {
        return GYRE__NOT_YET;
    }
    return gyre__fd_sent_now(
        fd, GYRE_OP_SEND,
        GYRE__ATTEMPT(gyre__sys_send(fd->number, data, len, MSG_DONTWAIT | MSG_NOSIGNAL)));
}

static GYRE__INLINE int gyre__fd_sendmsg_now(struct gyre_fd *fd, const struct msghdr *msg)
{
    if (!gyre__fd_may_send_now(fd)) {
        return GYRE__NOT_YET;
    }
    return gyre__fd_sent_now(
        fd, GYRE_OP_SENDMSG,
        GYRE__ATTEMPT(gyre__sys_sendmsg(fd->number, msg, MSG_DONTWAIT | MSG_NOSIGNAL)));
}

/* The attempt of its kind, in line. */
static GYRE__INLINE int gyre__op_attempt_send(const struct gyre_op *op)
{
    return GYRE__ATTEMPT(gyre__sys_send(op->fd->number, op->arg.io.data + op->done,
                                        op->len - op->done, MSG_DONTWAIT | MSG_NOSIGNAL));
}

/* Begin to close; the close operation has begun and gets the result. */
void gyre__fd_close(struct gyre_fd *fd, struct gyre_op *close);

/* Something changed on a closing descriptor: go on if it is time. */
void gyre__fd_step(struct gyre_fd *fd);

/* As gyre_op_cancel(), for an active operation. */
void gyre__op_request_end(struct gyre_op *op);

/* A name for a descriptor, if it has none: by it events and leases find it as long as it lasts.
 * Room was reserved when it was attached. */
static inline void gyre__fd_take_name(struct gyre_fd *fd)
{
    if (fd->slot == 0) {
        fd->slot = gyre__slots_take(&fd->loop->slots, fd, &fd->generation);
    }
}

void gyre__fd_drop_name(struct gyre_fd *fd);

/* Those that were held get another try, if they may. */
GYRE__RARE void gyre__fd_release_held(struct gyre_fd *fd);

/* Pool: what came from a descriptor is retained less than before. */
static inline void gyre__fd_lent_less(struct gyre_fd *fd)
{
    if (fd->armed & GYRE__FD_HOLDS) {
        gyre__fd_release_held(fd);
    }
}

static inline int gyre__op_over_quota(const struct gyre_op *op)
{
    return op->fd->lent > op->loop->pool.quota;
}

/* Loop: operations that starve get another try while there are blocks. */
void gyre__op_feed_starved(struct gyre_loop *loop);

/* Run the callbacks of the results that are known now. Returns how many. */
unsigned gyre__op_run_results(struct gyre_loop *loop);

/* After each completion: what it completed at once has its callback while the data is warm. */
static inline unsigned gyre__op_settle(struct gyre_loop *loop)
{
    return gyre__list_empty(&loop->results) ? 0 : gyre__op_run_results(loop);
}

/* gyre__op_dispatch() where there are some. */
void gyre__op_run_tries(struct gyre_loop *loop, unsigned budget);

/* Loop: tries and results, about @budget of them. Mostly there are none. */
static inline void gyre__op_dispatch(struct gyre_loop *loop, unsigned budget)
{
    if (!gyre__list_empty(&loop->tries) || !gyre__list_empty(&loop->results)) {
        gyre__op_run_tries(loop, budget);
    }
}

/* As gyre__op_try_later(), but not in this turn: it has had its share of it. */
static inline void gyre__op_try_next_turn(struct gyre_op *op)
{
    gyre__op_set_state(op, GYRE__OP_TRY);
    gyre__list_append(&op->loop->later, &op->link);
}

enum gyre__received {
    GYRE__RECEIVED_WAIT,      /* the operation has to wait for readiness */
    GYRE__RECEIVED_END,       /* its final result is in op->result; the driver finishes it */
    GYRE__RECEIVED_CANCELLED, /* a callback cancelled it; it is still ARMED */
    GYRE__RECEIVED_GONE,      /* it is finished, or in another state than ARMED */
};

/* Receive into the pool by system calls, as much as one turn allows. Callbacks run. See
 * receive.c. */
enum gyre__received gyre__receive_direct(struct gyre_op *op);

/* A moving average of what is there when it is received, over about 8 such moments, beginning with the
 * first; in units of 64 bytes, rounded up: 0 means that nothing has come. @more: of the same moment as
 * what was received before, which was cut at the end of a block. */
#define GYRE__AVERAGE_UNIT 64
#define GYRE__AVERAGE_MOST (4096u - 1) /* 256 KiB: what is more would be remembered for long */

static inline uint16_t gyre__next_average(uint32_t average, uint32_t units, int more)
{
    const uint32_t before = more ? average : average - (average + 7u) / 8;
    const uint32_t next = average == 0 ? units : before + (units + 7) / 8;

    return (uint16_t)(next < GYRE__AVERAGE_MOST ? next : GYRE__AVERAGE_MOST);
}

static inline void gyre__fd_note_size(struct gyre_fd *fd, uint32_t len, int more)
{
    const uint32_t units = (len + GYRE__AVERAGE_UNIT - 1) / GYRE__AVERAGE_UNIT;
    struct gyre__pool *pool = &fd->loop->pool;

    if (fd->average == 0) {
        pool->first_average = gyre__next_average(pool->first_average, units, 0);
    }
    fd->average = gyre__next_average(fd->average, units, more);
}

/* A try found nothing. Returns 1 if it has to be made again. */
GYRE__RARE int gyre__fd_note_empty(struct gyre_op *op);

/* A TCP stream that gave less than there was room for is empty, unless its end, an error or urgent
 * data is near (epoll(7)). A Unix stream also stops short behind a message with descriptors. */
static inline void gyre__fd_note_received(struct gyre_fd *fd, size_t room, size_t got)
{
    fd->ready &= (uint8_t)~GYRE__READY_ASKED;
    if (got < room && !(fd->ready & GYRE__READY_END)) {
        fd->ready &= (uint8_t)~GYRE__DIR_IN;
    }
}

/* Ask the kernel what kind of descriptor it is. Returns 0 or an error, and asks again then. */
GYRE__RARE int gyre__fd_learn_type(struct gyre_fd *fd);

/* The same, of one of which it may be known. */
static inline int gyre__fd_know_type(struct gyre_fd *fd)
{
    return fd->flags & GYRE__FD_TYPED ? 0 : gyre__fd_learn_type(fd);
}

/* What kind of descriptor it is: GYRE__FD_SOCKET, GYRE__FD_STREAM or GYRE__FD_TCP. 0 also if it
 * cannot be known. */
static inline int gyre__fd_is(struct gyre_fd *fd, uint8_t what)
{
    (void)gyre__fd_know_type(fd);
    return (fd->flags & what) != 0;
}

/* Operations that wait for data on a socket: what is no socket never has any. */
static inline int gyre__kind_receives(enum gyre_op_kind kind)
{
    return kind == GYRE_OP_RECV || kind == GYRE_OP_RECV_LEASE || kind == GYRE_OP_RECVMSG;
}

/* As gyre_op_accept() with @flags, and one that outlives shortages in any case. */
int gyre__op_accept_patiently(struct gyre_op *op, struct gyre_fd *fd, uint32_t flags);

/* A multishot accept begins: keep a descriptor in reserve. */
void gyre__accept_prepare(struct gyre_loop *loop);

/* An accept met an error: go on now (1), later by itself (0), or not (the error). */
int gyre__accept_recover(struct gyre_op *op, int32_t error);

#endif
