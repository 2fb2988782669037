/*
 * Receiving into the pool with io_uring: a receive that takes a buffer from the ring when data is
 * there. With multishot one submission serves a connection's life:
 *
 *     data, MORE          emit
 *     data, no MORE       emit, arm again            (the kernel ends a multishot when it likes)
 *     -ENOBUFS            wait on the pool's list for the blocks that come back, then arm again
 *     0 or an error       finish
 *
 * A caller that retains more than its quota is paused: when the multishot brings something in a later
 * turn and what came before still exceeds it, the kernel is asked to end it, and what it still had in
 * hand is delivered. The receive goes on when leases are given back. Mostly they are before anything
 * comes: a burst for which a send is under way has left with the next call into the kernel.
 *
 * Where a buffer is a piece of a block, bulk data is received by system calls instead, the kernel only
 * polling. What is there at a time decides, on average, with a gap between going over and coming
 * back. Without a buffer ring all data is received so.
 */
#include "backend/uring/driver.h"

#include "base/assert.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>

enum {
    BULK_FROM = 24 << 10,
    BULK_UNTIL = 8 << 10,
    ONE_GO = 32, /* buffers that a multishot fills before it polls: MULTISHOT_MAX_RETRY in Linux */
    FRESH_TURNS = 2, /* within these, what a multishot brings was there when it was armed; one more
                      * for each batch that a full completion queue holds before it */
};

/* Which way the next receives go. */
static int is_bulk(struct gyre_op *op)
{
    const uint32_t average = op->fd->average * (uint32_t)GYRE__AVERAGE_UNIT;

    if (op->fd->flags & GYRE__FD_CONTROL) {
        return 1; /* descriptors come by recvmsg(2) only */
    }
    if (gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_INCREMENTAL)) {
        return 0; /* a buffer takes whatever is there */
    }
    if (average >= BULK_FROM) {
        op->fd->flags |= GYRE__FD_BULK;
    } else if (average < BULK_UNTIL) {
        op->fd->flags &= (uint16_t)~GYRE__FD_BULK;
    }
    return (op->fd->flags & GYRE__FD_BULK) != 0;
}

static int is_direct(struct gyre_op *op)
{
    return (op->flags & GYRE__OP_POLLING) ||
           !gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_BUFFER_RING) ||
           (op->fd->flags & GYRE__FD_CONTROL) ||
           (is_bulk(op) && gyre__pool_has_direct_room(&op->loop->pool));
}

static int fill_ring(struct gyre_op *op)
{
    struct gyre__pool *pool = &op->loop->pool;

    gyre__bufring_fill(&gyre__uring_of(op->loop)->bufring, pool);
    return gyre__pool_in_ring(pool) > 0;
}

/* Whether the kernel has taken all data before it polls, and finds a reset behind it then. It receives
 * first where data is known to wait, until the ring is empty, or this is a long one. */
static int polls_behind_data(const struct gyre_op *op)
{
    return (op->fd->ready & GYRE__DIR_IN) && op->loop->pool.min <= ONE_GO &&
           gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_INCREMENTAL);
}

/* What comes first may be there already, and is received with the submission then. That needs a buffer
 * even if there is nothing; where buffers are pieces of a block, there are not enough for a crowd. */
static int is_worth_a_try(const struct gyre_op *op)
{
    return op->fd->average == 0 && gyre__pool_in_ring(&op->loop->pool) > 0 &&
           gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_INCREMENTAL);
}

static void submit_receive(struct gyre_op *op)
{
    struct gyre_fd *fd = op->fd;
    const uint8_t before = fd->ready & GYRE__DIR_IN;

    /* When it was armed, which is never 0; 0 where a reset does not hide: see hides_reset(). */
    op->done = polls_behind_data(op) ? 0 : (uint32_t)op->loop->stats.turns | 1;
    if (is_worth_a_try(op)) {
        fd->ready |= GYRE__DIR_IN; /* for its entry only: do not poll first */
    }
    gyre__uring_submit(op);
    fd->ready &= (uint8_t) ~(GYRE__DIR_IN | GYRE__READY_DOUBT);
    if (op->state != GYRE__OP_ARMED) {
        fd->ready |= before; /* it is tried again */
    }
}

/* With an empty ring too, unless data is there: when some comes, the ring may have been filled. If it
 * is, others may have waited longer. */
static void arm_ring(struct gyre_op *op)
{
    struct gyre__pool *pool = &op->loop->pool;
    const int waits = (op->fd->ready & GYRE__DIR_IN) != 0;

    if (waits && pool->starved_count > 0) {
        gyre__op_starve(op);
    } else if (fill_ring(op) || !waits) {
        submit_receive(op);
    } else if (gyre__pool_has_direct_room(pool)) {
        gyre__op_try_later(op);
    } else {
        gyre__op_starve(op);
    }
}

void gyre__uring_recv_arm(struct gyre_op *op)
{
    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
    } else if (!is_direct(op)) {
        arm_ring(op);
    } else if (op->fd->ready & GYRE__DIR_IN) {
        gyre__op_try_later(op);
    } else {
        gyre__uring_poll_for(op);
    }
}

static void end_multishot(struct gyre_op *op)
{
    op->flags |= GYRE__OP_PAUSING;
    gyre__uring_cancel(op);
}

/* Nothing is there: let the kernel poll, or, when the data is bulk no more, go back to the ring. */
static void wait_readable(struct gyre_op *op)
{
    const int back =
        gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_BUFFER_RING) && !is_bulk(op);

    if (!(op->flags & GYRE__OP_POLLING)) {
        gyre__uring_recv_arm(op);
    } else if (back) {
        end_multishot(op);
    }
}

void gyre__uring_receive_direct(struct gyre_op *op)
{
    switch (gyre__receive_direct(op)) {
    case GYRE__RECEIVED_WAIT:
        wait_readable(op);
        break;
    case GYRE__RECEIVED_END:
        if (op->flags & GYRE__OP_POLLING) {
            op->flags |= GYRE__OP_ENDING; /* the kernel lets go of the descriptor first */
            gyre__uring_cancel(op);
        } else {
            gyre__op_ready(op, op->result); /* behind what was learnt before it */
        }
        break;
    case GYRE__RECEIVED_CANCELLED:
        if (!(op->flags & GYRE__OP_POLLING)) { /* nothing of it is with the kernel */
            gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
        }
        break;
    case GYRE__RECEIVED_GONE:
        break;
    }
}

/* All blocks that direct receives could have are lent, but the ring has some. */
static int must_use_ring(const struct gyre_op *op)
{
    return !(op->fd->flags & GYRE__FD_CONTROL) && !gyre__pool_has_direct_room(&op->loop->pool) &&
           gyre__pool_in_ring(&op->loop->pool) > 0;
}

void gyre__uring_recv_resume(struct gyre_op *op)
{
    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
    } else if ((op->flags & GYRE__OP_POLLING) && must_use_ring(op)) {
        end_multishot(op);
    } else if (!is_direct(op) && fill_ring(op)) {
        submit_receive(op);
    } else if ((op->fd->ready & GYRE__DIR_IN) &&
               (is_direct(op) || gyre__pool_has_direct_room(&op->loop->pool))) {
        gyre__uring_receive_direct(op);
    } else if (!(op->flags & GYRE__OP_POLLING)) {
        gyre__uring_recv_arm(op);
    } /* else the kernel polls for it already */
}

/* The kernel has let go of it although the caller has not. */
void gyre__uring_recv_go_on(struct gyre_op *op)
{
    op->flags &= (uint16_t)~GYRE__OP_PAUSING;
    if (op->flags & GYRE__OP_CANCELLED) {
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
        return;
    }
    gyre__uring_count_rearm(op);
    gyre__uring_recv_arm(op);
}

/* Whether its quota is exceeded, and not only by what has come in this turn, of which @len bytes came
 * last; or by anything, when the pool is short. What came last counts as retained: who keeps no more
 * of what comes holds no more, and is read on from while a piece is longer than the excess. */
static int stays_over_quota(struct gyre_op *op, uint32_t len)
{
    const struct gyre__pool *pool = &op->loop->pool;
    const uint32_t turn = (uint32_t)op->loop->stats.turns;

    if (!gyre__op_over_quota(op)) {
        return 0;
    }
    if (op->fd->lent <= (uint64_t)pool->quota + len) {
        op->arg.lease.over_turn = turn;
    }
    return op->arg.lease.over_turn != turn || gyre__pool_is_short(pool);
}

/* A multishot in the kernel has to end: its caller holds too much, or its data has become bulk. */
static void pause_if_due(struct gyre_op *op, uint32_t len)
{
    const int to_direct = is_bulk(op) && gyre__pool_has_direct_room(&op->loop->pool);

    if ((stays_over_quota(op, len) || to_direct) &&
        !(op->flags & (GYRE__OP_PAUSING | GYRE__OP_CANCELLED))) {
        end_multishot(op);
    }
}

/* ---- a reset behind data ---- */

/*
 * Data and a reset that were both there when the multishot was armed: the kernel (6.18) delivers the
 * data and then waits for a wake-up that has been already. It looks by itself when it says that
 * there is more, and when it is woken; so this has to be asked after arming only, for the first data
 * behind which there is no more: it may have come in many buffers.
 *
 * Mostly it need not be asked: who receives answers, and a send that begins behind the data and succeeds
 * has met no reset. So it is a doubt until the turn ends.
 *
 *     some was sent at once      there is none
 *     a send is with the kernel  its end tells: unless it is whole, the receive is armed anew
 *     neither                    poll(2) is asked
 */
static int ask_for_reset(struct gyre_op *op)
{
    struct pollfd one = {.fd = op->fd->number};
    int rc;

    op->loop->stats.syscalls++;
    rc = gyre__sys_poll(&one, 1, 0);
    return rc < 0 || (rc == 1 && (one.revents & (POLLERR | POLLHUP)) != 0); /* not known: it may */
}

/* Returns 0 if it has to be asked now: a send that began before may end well nevertheless. */
static int put_off(struct gyre_op *op)
{
    struct gyre__uring *uring = gyre__uring_of(op->loop);

    if (op->fd->armed & GYRE__DIR_OUT) {
        return 0;
    }
    gyre_assert(uring->doubt_count < BATCH_MAX); /* one for a completion */
    op->fd->ready |= GYRE__READY_DOUBT;
    uring->doubts[uring->doubt_count++] = gyre__name(op->slot, op->generation);
    return 1;
}

static int is_in_kernel(const struct gyre_op *op)
{
    return op->state == GYRE__OP_ARMED && !(op->flags & (GYRE__OP_PAUSING | GYRE__OP_CANCELLED));
}

/* By an operation that is with the kernel, or silently. */
static int is_sending(const struct gyre_fd *fd)
{
    if (gyre__uring_of(fd->loop)->silent_fd == fd) {
        return 1;
    }
    for (const struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        const struct gyre_op *op = gyre__op_on(fd, link);

        if (gyre__uring_is_send(op) && op->state == GYRE__OP_ARMED) {
            return 1;
        }
    }
    return 0;
}

void gyre__uring_settle_doubts(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);

    for (uint32_t i = 0; i < uring->doubt_count; i++) {
        struct gyre_op *op = gyre__slots_find(&loop->slots, uring->doubts[i]);

        if (op != NULL && is_in_kernel(op) && (op->fd->ready & GYRE__READY_DOUBT) &&
            !is_sending(op->fd)) {
            op->fd->ready &= (uint8_t)~GYRE__READY_DOUBT;
            if (ask_for_reset(op)) {
                end_multishot(op);
            }
        }
    }
    uring->doubt_count = 0;
}

/* A send that found no room has looked for a reset before. */
void gyre__uring_sent_in_doubt(struct gyre_fd *fd, size_t len, int32_t res)
{
    fd->ready &= (uint8_t)~GYRE__READY_DOUBT;
    if (res == -EAGAIN || (res > 0 && (size_t)res == len)) {
        return;
    }
    for (struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        struct gyre_op *op = gyre__op_on(fd, link);

        if (op->kind == GYRE_OP_RECV_LEASE && is_in_kernel(op)) {
            end_multishot(op);
        }
    }
}

/* Whether the kernel is to look again behind @cqe. */
static GYRE__RARE int hides_reset(struct gyre_op *op, const struct gyre__cqe *cqe)
{
    const uint32_t armed = op->done;
    const uint32_t fresh =
        FRESH_TURNS + gyre__uring_of(op->loop)->ring.uring.cq.ring_entries / BATCH_MAX;

    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) {
        op->done = (uint32_t)op->loop->stats.turns | 1;
        return 0;
    }
    op->done = 0;
    /* One more, since what was noted in an even turn names the next. */
    if ((uint32_t)op->loop->stats.turns + 1 - armed > fresh + 1 ||
        !(cqe->flags & IORING_CQE_F_MORE)) {
        return 0;
    }
    return !put_off(op) && ask_for_reset(op);
}

/* ---- completions ---- */

static void deliver_slice(struct gyre_op *op, const struct gyre__cqe *cqe,
                          const struct gyre_lease *lease)
{
    struct gyre__pool *pool = &op->loop->pool; /* the operation may be gone after its callback */
    const int again = op->done != 0 && hides_reset(op, cqe);

    if (!(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, cqe->res, lease);
        gyre__pool_unlend(pool, lease->block);
        return;
    }
    gyre__op_emit(op, cqe->res, lease);
    gyre__pool_unlend(pool, lease->block);
    if (again && !(op->flags & (GYRE__OP_PAUSING | GYRE__OP_CANCELLED))) {
        end_multishot(op);
    } else if (cqe->flags & IORING_CQE_F_MORE) {
        pause_if_due(op, (uint32_t)cqe->res);
    } else {
        gyre__uring_recv_go_on(op);
    }
}

/* The kernel had data and no buffer left: there are some again when what was received has been sent,
 * as a rule with the next turn. The pool need not grow for that. */
static GYRE__RARE void unserved(struct gyre_op *op)
{
    op->flags &= (uint16_t)~GYRE__OP_PAUSING;
    op->fd->ready |= GYRE__DIR_IN;
    gyre__op_starve(op);
}

static void ended(struct gyre_op *op, int32_t res)
{
    switch (res) {
    case -ENOBUFS:
        if (!(op->flags & GYRE__OP_CANCELLED)) {
            unserved(op);
            return;
        }
        break;
    case -ECANCELED:
    case -EAGAIN:
        break;
    default:
        if (gyre__uring_is_interrupt(res)) {
            break;
        }
        gyre__op_finish(op, res, NULL);
        return;
    }
    gyre__uring_recv_go_on(op);
}

void gyre__uring_received(struct gyre_op *op, const struct gyre__cqe *cqe)
{
    struct gyre__uring *uring = gyre__uring_of(op->loop);
    struct gyre_lease lease;
    int leased = 0;

    if (cqe->flags & IORING_CQE_F_BUFFER) {
        gyre__fd_take_name(op->fd); /* by which leases know their owner */
        leased = gyre__bufring_take(&uring->bufring, &op->loop->pool, cqe, op->fd, &lease);
    }
    if (cqe->res > 0) {
        gyre__fd_note_size(op->fd, (uint32_t)cqe->res, op->fd->ready & GYRE__DIR_IN);
    }
    if (cqe->flags & IORING_CQE_F_SOCK_NONEMPTY) {
        op->fd->ready |= GYRE__DIR_IN;
    } else {
        op->fd->ready &= (uint8_t)~GYRE__DIR_IN;
    }
    if (cqe->res > 0) {
        gyre_assert(leased);
        deliver_slice(op, cqe, &lease);
    } else if (!(cqe->flags & IORING_CQE_F_MORE)) {
        ended(op, cqe->res);
    }
}
