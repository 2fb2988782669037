/*
 * Receiving into the pool with io_uring: a receive that takes a buffer from the ring when data is
 * there. With multishot one submission serves a connection's life:
 *
 *     data, MORE          emit
 *     data, no MORE       emit, arm again            (the kernel ends a multishot when it likes)
 *     -ENOBUFS            wait on the pool's list    (arming on an empty ring would fail at once)
 *     0 or an error       finish
 *
 * A caller that retains more than its quota is paused: the kernel is asked to end the multishot, and
 * what it still had in hand is delivered. The receive goes on when leases are given back.
 *
 * Without a buffer ring the kernel only polls, and the data is received by a system call.
 */
#include "backend/uring/driver.h"

#include "base/assert.h"

#include <errno.h>

void gyre__uring_recv_arm(struct gyre_op *op)
{
    struct gyre__uring *uring = gyre__uring_of(op->loop);

    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
        return;
    }
    if (!gyre__uring_has(uring, GYRE_FEATURE_BUFFER_RING)) {
        gyre__uring_poll_for(op);
        return;
    }
    gyre__bufring_fill(&uring->bufring, &op->loop->pool);
    if (op->loop->pool.count[GYRE__BLOCK_DRIVER] == 0) {
        gyre__op_starve(op);
        return;
    }
    gyre__uring_submit(op);
}

/* The kernel has let go of it although the caller has not. */
static void go_on(struct gyre_op *op)
{
    op->flags &= (uint16_t)~GYRE__OP_PAUSING;
    if (op->flags & GYRE__OP_CANCELLED) {
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
        return;
    }
    gyre__uring_count_rearm(op);
    gyre__uring_recv_arm(op);
}

static void pause_if_over_quota(struct gyre_op *op)
{
    if (gyre__op_over_quota(op) && !(op->flags & (GYRE__OP_PAUSING | GYRE__OP_CANCELLED))) {
        op->flags |= GYRE__OP_PAUSING;
        gyre__uring_cancel(op);
    }
}

static void deliver(struct gyre_op *op, const struct gyre__cqe *cqe, const struct gyre_lease *lease)
{
    struct gyre__pool *pool = &op->loop->pool; /* the operation may be gone after its callback */

    if (!(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, cqe->res, lease);
        gyre__pool_unlend(pool, lease->block);
        return;
    }
    gyre__op_emit(op, cqe->res, lease);
    gyre__pool_unlend(pool, lease->block);
    if (cqe->flags & IORING_CQE_F_MORE) {
        pause_if_over_quota(op);
    } else {
        go_on(op);
    }
}

static void ended(struct gyre_op *op, int32_t res)
{
    switch (res) {
    case -ENOBUFS:
        if (!(op->flags & GYRE__OP_CANCELLED)) {
            op->flags &= (uint16_t)~GYRE__OP_PAUSING;
            gyre__op_starve(op);
            return;
        }
        break;
    case -ECANCELED:
    case -EINTR:
    case -EAGAIN:
        break;
    default:
        gyre__op_finish(op, res, NULL);
        return;
    }
    go_on(op);
}

void gyre__uring_received(struct gyre_op *op, const struct gyre__cqe *cqe)
{
    struct gyre__uring *uring = gyre__uring_of(op->loop);
    struct gyre_lease lease;
    int leased = 0;

    if (cqe->flags & IORING_CQE_F_BUFFER) {
        leased = gyre__bufring_take(&uring->bufring, &op->loop->pool, cqe, op, &lease);
    }
    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) {
        op->fd->ready |= GYRE__DIR_IN;
    } else {
        op->fd->ready &= (uint8_t)~GYRE__DIR_IN;
    }
    if (cqe->res > 0) {
        gyre_assert(leased);
        deliver(op, cqe, &lease);
    } else if (!(cqe->flags & IORING_CQE_F_MORE)) {
        ended(op, cqe->res);
    }
}
