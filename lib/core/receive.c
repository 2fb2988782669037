/*
 * Receiving into the pool by recv(2): all of the epoll driver's receives, and those of io_uring
 * where it has no buffer ring or where the data is bulk.
 *
 * The pool's current block is filled bit by bit. When nothing of it is lent any more it is filled
 * from its start again, so a server that answers at once always receives into the same warm memory.
 */
#include "base/sys.h"
#include "core/op.h"
#include "core/passed.h"

#include <errno.h>

enum {
    TRIES_PER_TURN = 16, /* receives of one operation, then others have their turn */
    BYTES_PER_TURN = 1 << 20,
    BYTES_OF_ALL = 8 << 20, /* of all operations together: a turn stays short enough for timers */
};

/* Returns bytes, 0 at the end, an error, or GYRE__NOT_YET. */
static int recv_into(struct gyre_op *op, uint32_t block, struct gyre_lease *out_lease)
{
    struct gyre__pool *pool = &op->loop->pool;
    const uint32_t used = pool->table[block].used;
    const size_t room = pool->block_len - used;
    ssize_t got;

    do {
        got = gyre__sys_recv(op->fd->number, gyre__pool_at(pool, block, used), room, MSG_DONTWAIT);
        op->loop->stats.syscalls++;
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 ? 0 : errno == EAGAIN ? GYRE__NOT_YET : -errno;
    }
    if (gyre__fd_is(op->fd, GYRE__FD_TCP)) {
        gyre__fd_note_received(op->fd, room, (size_t)got);
    }
    gyre__op_note_size(op, (uint32_t)got);
    pool->table[block].used += (uint32_t)got;
    gyre__pool_lend(op->fd, block, used, (size_t)got, out_lease);
    return (int)got;
}

static void give_back(struct gyre_loop *loop, struct gyre_lease *lease)
{
    if (lease->copy != NULL) {
        gyre_lease_release(lease);
        gyre__passed_drop(loop);
    } else {
        gyre__pool_unlend(&loop->pool, lease->block);
    }
}

/* Returns 1 if there may be more to receive at once; else *out_what is set. */
static int deliver(struct gyre_op *op, int got, struct gyre_lease *lease,
                   enum gyre__received *out_what)
{
    struct gyre_loop *loop = op->loop; /* the operation may be gone after its callback */

    *out_what = GYRE__RECEIVED_GONE;
    if (!(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, got, lease);
        give_back(loop, lease);
        return 0;
    }
    gyre__op_emit(op, got, lease);
    give_back(loop, lease);
    if (op->state != GYRE__OP_ARMED) {
        return 0; /* its callback ended it: settling may run its final one, and it be gone */
    }
    gyre__op_settle(loop); /* what the callback sent at once gives the memory back */
    if (op->state != GYRE__OP_ARMED) {
        return 0; /* ended just now; its final callback is still to come */
    }
    if (op->flags & GYRE__OP_CANCELLED) {
        *out_what = GYRE__RECEIVED_CANCELLED;
        return 0;
    }
    *out_what = GYRE__RECEIVED_WAIT;
    return (op->fd->ready & GYRE__DIR_IN) != 0;
}

/* As deliver(). */
static int receive_once(struct gyre_op *op, int *bytes, enum gyre__received *out_what)
{
    const int control = op->fd->flags & GYRE__FD_CONTROL;
    struct gyre_lease lease;
    uint32_t block;
    int got;

    *out_what = GYRE__RECEIVED_GONE;
    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
        return 0;
    }
    block = control ? GYRE__BLOCK_NONE : gyre__pool_current(&op->loop->pool);
    if (block == GYRE__BLOCK_NONE && !control) {
        gyre__op_starve(op);
        return 0;
    }
    got = control ? gyre__passed_receive(op->fd, &lease) : recv_into(op, block, &lease);
    if (got == GYRE__NOT_YET) {
        gyre__fd_note_empty(op);
        *out_what = GYRE__RECEIVED_WAIT;
        return 0;
    }
    if (got <= 0) {
        op->result = got;
        *out_what = GYRE__RECEIVED_END;
        return 0;
    }
    *bytes += got;
    op->loop->received += (size_t)got;
    return deliver(op, got, &lease, out_what);
}

enum gyre__received gyre__receive_direct(struct gyre_op *op)
{
    enum gyre__received what;
    int bytes = 0;

    gyre__fd_take_name(op->fd); /* by which leases know their owner */
    for (int tries = 0;
         tries < TRIES_PER_TURN && bytes < BYTES_PER_TURN && op->loop->received < BYTES_OF_ALL;
         tries++) {
        if (!receive_once(op, &bytes, &what)) {
            return what;
        }
    }
    gyre__op_try_next_turn(op);
    return GYRE__RECEIVED_GONE;
}
