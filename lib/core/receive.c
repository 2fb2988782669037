/*
 * Receiving into the pool by recv(2): all of the epoll driver's receives, and those of io_uring where
 * it has no buffer ring or where the data is bulk.
 *
 * The pool's current block is filled bit by bit. When nothing of it is lent any more it is filled from
 * its start again, so a server that answers at once always receives into the same warm memory.
 */
#include "core/op.h"

#include <errno.h>

enum {
    TRIES_PER_TURN = 16, /* receives of one operation, then others have their turn */
    BYTES_PER_TURN = 1 << 20,
};

/* Returns bytes, 0 at the end, an error, or GYRE__NOT_YET. */
static int recv_into(struct gyre_op *op, uint32_t block, struct gyre_lease *out_lease)
{
    struct gyre__pool *pool = &op->loop->pool;
    const uint32_t used = pool->table[block].used;
    const size_t room = pool->block_len - used;
    ssize_t got;

    do {
        got = recv(op->fd->number, gyre__pool_at(pool, block, used), room, MSG_DONTWAIT);
        op->loop->stats.syscalls++;
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 ? 0 : errno == EAGAIN ? GYRE__NOT_YET : -errno;
    }
    gyre__fd_note_received(op->fd, room, (size_t)got);
    pool->table[block].used += (uint32_t)got;
    gyre__pool_lend(op, block, used, (size_t)got, out_lease);
    return (int)got;
}

enum next { NEXT_GONE, NEXT_WAIT, NEXT_MORE };

static enum next deliver(struct gyre_op *op, int got, const struct gyre_lease *lease)
{
    struct gyre__pool *pool = &op->loop->pool; /* the operation may be gone after its callback */

    if (!(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, got, lease);
        gyre__pool_unlend(pool, lease->block);
        return NEXT_GONE;
    }
    gyre__op_emit(op, got, lease);
    gyre__pool_unlend(pool, lease->block);
    if (op->state != GYRE__OP_ARMED) { /* cancelled in its callback */
        return NEXT_GONE;
    }
    return op->fd->ready & GYRE__DIR_IN ? NEXT_MORE : NEXT_WAIT;
}

static enum next receive_once(struct gyre_op *op, int *bytes)
{
    struct gyre_lease lease;
    uint32_t block;
    int got;

    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
        return NEXT_GONE;
    }
    block = gyre__pool_current(&op->loop->pool);
    if (block == GYRE__BLOCK_NONE) {
        gyre__op_starve(op);
        return NEXT_GONE;
    }
    got = recv_into(op, block, &lease);
    if (got == GYRE__NOT_YET) {
        gyre__fd_note_empty(op);
        return NEXT_WAIT;
    }
    if (got <= 0) {
        gyre__op_finish(op, got, NULL);
        return NEXT_GONE;
    }
    *bytes += got;
    return deliver(op, got, &lease);
}

int gyre__receive_direct(struct gyre_op *op)
{
    int bytes = 0;

    if (op->slot == 0) {
        gyre__op_take_slot(op); /* by which leases know their owner */
    }
    for (int tries = 0; tries < TRIES_PER_TURN && bytes < BYTES_PER_TURN; tries++) {
        const enum next next = receive_once(op, &bytes);

        if (next != NEXT_MORE) {
            return next == NEXT_WAIT;
        }
    }
    gyre__op_try_later(op);
    return 0;
}
