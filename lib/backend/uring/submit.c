/*
 * Telling the kernel of operations, and of those that should end.
 *
 * An entry's name is (slot, generation) of the operation: written in entry() and nowhere else.
 * An entry that the queue cannot take is not lost: the operation gets another turn from the list of
 * tries, a cancel waits on a list of its own.
 */
#include "backend/uring/driver.h"
#include "base/clock.h"
#include "base/list.h"

#include <sys/socket.h>

/* The queue is full: an entry, if the kernel takes those that are in it. */
static GYRE__RARE struct io_uring_sqe *make_room(struct gyre_loop *loop)
{
    struct gyre__ring *ring = &gyre__uring_of(loop)->ring;

    loop->stats.enters++;
    loop->stats.syscalls++;
    return gyre__ring_submit(ring) == 0 ? gyre__ring_sqe(ring) : NULL;
}

static inline struct io_uring_sqe *entry(struct gyre_loop *loop, uint64_t name)
{
    struct io_uring_sqe *sqe = gyre__ring_sqe(&gyre__uring_of(loop)->ring);

    if (sqe == NULL) {
        sqe = make_room(loop);
    }
    if (sqe != NULL) {
        sqe->user_data = name;
        loop->stats.sqes++;
    }
    return sqe;
}

struct io_uring_sqe *gyre__uring_entry(struct gyre_loop *loop, uint64_t name)
{
    return entry(loop, name);
}

static uint64_t name_of(const struct gyre_op *op)
{
    return gyre__name(op->slot, op->generation);
}

/*
 * Whether the kernel serves an operation until it ends. Not receives from other than TCP: up to
 * 6.18 at least, a multishot receive from a Unix socket whose peer closed before it was armed
 * delivers the data and never the end.
 */
int gyre__uring_is_multishot(struct gyre_op *op)
{
    return (op->flags & GYRE_MULTISHOT) &&
           gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_MULTISHOT) &&
           (op->kind != GYRE_OP_RECV_LEASE || gyre__fd_is(op->fd, GYRE__FD_TCP));
}

static inline void submit_op(struct gyre_op *op)
{
    struct io_uring_sqe *sqe = entry(op->loop, name_of(op));

    if (sqe == NULL) {
        gyre__op_try_next_turn(op);
        return;
    }
    gyre__op_check_memory(op);
    gyre__kind_of(op)->prepare(op, sqe);
    if ((op->flags & GYRE_MULTISHOT) && !gyre__uring_is_multishot(op)) {
        sqe->ioprio &= (uint16_t) ~(op->kind == GYRE_OP_ACCEPT       ? IORING_ACCEPT_MULTISHOT
                                    : op->kind == GYRE_OP_RECV_LEASE ? IORING_RECV_MULTISHOT
                                                                     : 0);
    }
}

void gyre__uring_submit(struct gyre_op *op)
{
    submit_op(op);
}

void gyre__uring_poll_for(struct gyre_op *op)
{
    struct io_uring_sqe *sqe = entry(op->loop, name_of(op));

    if (sqe == NULL) {
        gyre__op_try_next_turn(op);
        return;
    }
    op->flags |= GYRE__OP_POLLING;
    sqe->opcode = IORING_OP_POLL_ADD;
    sqe->fd = op->fd->number;
    gyre__sqe_set_poll(sqe, gyre__kind_poll_events(op));
    if (op->kind == GYRE_OP_RECV_LEASE && (op->flags & GYRE_MULTISHOT)) {
        sqe->len = IORING_POLL_ADD_MULTI;
    }
}

/* Returns 0 if the queue cannot take it now. */
static int submit_cancel(struct gyre_op *op)
{
    struct io_uring_sqe *sqe = entry(op->loop, name_of(op) | GYRE__CANCEL_TAG);

    if (sqe == NULL) {
        return 0;
    }
    sqe->opcode = IORING_OP_ASYNC_CANCEL;
    sqe->fd = -1;
    sqe->addr = name_of(op);
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS; /* the operation's own completion tells */
    return 1;
}

void gyre__uring_cancel(struct gyre_op *op)
{
    if (gyre__list_empty(&op->link) && !submit_cancel(op)) {
        gyre__list_append(&gyre__uring_of(op->loop)->cancels, &op->link);
    }
}

static void cancel_again(struct gyre_alarm *alarm)
{
    struct gyre__uring *uring = gyre_container_of(alarm, struct gyre__uring, again);

    gyre__list_move(&uring->cancels, &uring->missed);
}

/*
 * Mostly the operation has just completed. But one that the kernel is handing to a worker thread (a
 * send that blocks towards a peer which closed its side) is in none of the places where a cancel
 * looks, and then blocks for good.
 */
void gyre__uring_cancel_failed(struct gyre_loop *loop, uint64_t name)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    struct gyre_op *op = gyre__slots_find(&loop->slots, name);

    if (op == NULL || op->state != GYRE__OP_ARMED || !gyre__list_empty(&op->link) ||
        !(op->flags & (GYRE__OP_CANCELLED | GYRE__OP_PAUSING | GYRE__OP_ENDING))) {
        return;
    }
    gyre__list_append(&uring->missed, &op->link);
    if (!gyre__alarm_active(&uring->again)) {
        uring->again.fire = cancel_again;
        gyre__wheel_add(&loop->wheel, &uring->again, gyre__time_add(gyre__clock_now(), GYRE_MSEC));
    }
}

void gyre__uring_submit_late_cancels(struct gyre__uring *uring)
{
    while (!gyre__list_empty(&uring->cancels)) {
        struct gyre_op *op = gyre__op_of_link(uring->cancels.next);

        if (!submit_cancel(op)) {
            return;
        }
        gyre__list_remove(&op->link);
    }
}

/* A Unix connect completes or fails at once; left to wait for a full backlog it would block a
 * worker thread of the kernel. */
static int connects_at_once(const struct gyre_op *op)
{
    return op->kind == GYRE_OP_CONNECT && gyre__connect_op(op)->address.ss_family == AF_UNIX;
}

static GYRE__RARE void attempt(struct gyre_op *op)
{
    const int rc = gyre__kind_of(op)->attempt(op);

    op->loop->stats.syscalls++;
    if (rc == GYRE__NOT_YET) {
        gyre__uring_poll_for(op);
    } else {
        gyre__op_ready(op, gyre__op_outcome(op, rc));
    }
}

static int is_sent_directly(const struct gyre_op *op)
{
    switch (op->kind) {
    case GYRE_OP_SEND:
    case GYRE_OP_SENDMSG:
        return gyre__fd_sends_directly(op->fd);
    default:
        return 0;
    }
}

/* Send what the socket takes now; the rest goes through the ring. */
static GYRE__APART void send_direct(struct gyre_op *op)
{
    int rc;

    gyre__op_check_memory(op);
    op->loop->alone = 0; /* what follows may share */
    rc = gyre__kind_of(op)->attempt(op);
    op->loop->stats.syscalls++;
    op->loop->stats.eagains += rc == GYRE__NOT_YET;
    if (rc > 0) {
        op->fd->ready &= (uint8_t)~GYRE__READY_DOUBT;
        gyre__op_advance(op, (size_t)rc);
    }
    if (rc >= 0 && gyre__op_left(op) == 0) {
        gyre__op_ready(op, (int32_t)op->done);
    } else if (rc < 0 && rc != GYRE__NOT_YET) {
        gyre__op_ready(op, gyre__op_outcome(op, rc));
    } else {
        gyre__uring_submit(op);
    }
}

void gyre__uring_arm(struct gyre_op *op)
{
    if (op->slot == 0) {
        gyre__op_take_slot(op);
    }
    if (op->kind == GYRE_OP_RECV_LEASE) {
        gyre__uring_recv_arm(op);
    } else if (is_sent_directly(op)) {
        send_direct(op);
    } else if (connects_at_once(op)) {
        attempt(op);
    } else {
        submit_op(op);
    }
}

/* From the list of tries: the queue was full, a block came back, a pause ended, there is more. */
void gyre__uring_resume(struct gyre_op *op)
{
    if (op->kind == GYRE_OP_RECV_LEASE && op->slot != 0) {
        gyre__uring_recv_resume(op);
    } else {
        gyre__uring_arm(op);
    }
}
