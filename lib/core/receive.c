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

/* Of one receive: an enum gyre__received, or that there may be more to receive at once. */
enum { RECEIVED_MORE = GYRE__RECEIVED_GONE + 1 };

/* Returns bytes, 0 at the end, an error, or GYRE__NOT_YET. @more: not the first receive in a row. */
static GYRE__INLINE int recv_into(struct gyre_fd *fd, uint32_t block, int more,
                                  struct gyre_lease *out_lease)
{
    struct gyre_loop *loop = fd->loop;
    struct gyre__pool *pool = &loop->pool;
    struct gyre__block *entry = &pool->table[block];
    const size_t room = pool->block_len - entry->used;
    uint8_t *const data = gyre__pool_at(pool, block, entry->used);
    ssize_t got;

    do {
        got = gyre__sys_recv(fd->number, data, room, MSG_DONTWAIT);
        loop->stats.syscalls++;
    } while (got < 0 && errno == EINTR);
    if (got <= 0) {
        return got == 0 ? 0 : errno == EAGAIN ? GYRE__NOT_YET : -errno;
    }
    if (gyre__fd_is(fd, GYRE__FD_TCP)) {
        gyre__fd_note_received(fd, room, (size_t)got);
    }
    gyre__fd_note_size(fd, (uint32_t)got, more);
    gyre_assert((size_t)got <= room);
    entry->used += (uint32_t)got;
    loop->received += (size_t)got;
    gyre__pool_lend(fd, block, data, (size_t)got, out_lease);
    return (int)got;
}

static int go_on_receiving(struct gyre_op *op)
{
    if (op->state != GYRE__OP_ARMED) {
        return GYRE__RECEIVED_GONE; /* its callback ended it: settling may run its final one */
    }
    gyre__op_settle(op->loop); /* what the callback sent at once gives the memory back */
    if (op->state != GYRE__OP_ARMED) {
        return GYRE__RECEIVED_GONE; /* ended just now; its final callback is still to come */
    }
    if (op->flags & GYRE__OP_CANCELLED) {
        return GYRE__RECEIVED_CANCELLED;
    }
    return op->fd->ready & GYRE__DIR_IN ? RECEIVED_MORE : GYRE__RECEIVED_WAIT;
}

static GYRE__RARE int received_none(struct gyre_op *op, int got)
{
    if (got == GYRE__NOT_YET) {
        return gyre__fd_note_empty(op) ? RECEIVED_MORE : GYRE__RECEIVED_WAIT;
    }
    op->result = got;
    return GYRE__RECEIVED_END;
}

static GYRE__RARE int starve_receive(struct gyre_op *op)
{
    gyre__op_starve(op);
    return GYRE__RECEIVED_GONE;
}

/* With descriptors: bytes that are copied, for they come by recvmsg(2). */
static GYRE__RARE int receive_control(struct gyre_op *op)
{
    struct gyre_loop *loop = op->loop; /* the operation may be gone after its callback */
    const int is_last = !(op->flags & GYRE_MULTISHOT);
    struct gyre_lease lease;
    const int got = gyre__passed_receive(op->fd, &lease);

    if (got <= 0) {
        return received_none(op, got);
    }
    loop->received += (size_t)got;
    if (is_last) {
        gyre__op_finish(op, got, &lease);
    } else {
        gyre__op_emit(op, got, &lease);
    }
    gyre_lease_release(&lease);
    gyre__passed_drop(loop);
    return is_last ? GYRE__RECEIVED_GONE : go_on_receiving(op);
}

static GYRE__INLINE int receive_plain(struct gyre_op *op, int more)
{
    struct gyre__pool *pool = &op->loop->pool; /* the operation may be gone after its callback */
    const uint32_t block = gyre__pool_current(pool);
    struct gyre_lease lease;
    int got;

    if (block == GYRE__BLOCK_NONE) {
        return starve_receive(op);
    }
    got = recv_into(op->fd, block, more, &lease);
    if (got <= 0) {
        return received_none(op, got);
    }
    if (!(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, got, &lease);
        gyre__pool_unlend(pool, block);
        return GYRE__RECEIVED_GONE;
    }
    gyre__op_emit(op, got, &lease);
    gyre__pool_unlend(pool, block);
    return go_on_receiving(op);
}

static GYRE__INLINE int receive_once(struct gyre_op *op, int more)
{
    if (gyre__op_over_quota(op)) {
        gyre__op_hold(op);
        return GYRE__RECEIVED_GONE;
    }
    return op->fd->flags & GYRE__FD_CONTROL ? receive_control(op) : receive_plain(op, more);
}

/* The first receive has left something: it goes on, within what one turn allows. */
static GYRE__APART int receive_more(struct gyre_op *op, size_t before)
{
    struct gyre_loop *loop = op->loop;

    for (int tries = 1; tries < TRIES_PER_TURN && loop->received - before < BYTES_PER_TURN &&
                        loop->received < BYTES_OF_ALL;
         tries++) {
        const int what = receive_once(op, 1);

        if (what != RECEIVED_MORE) {
            return what;
        }
    }
    gyre__op_try_next_turn(op);
    return GYRE__RECEIVED_GONE;
}

enum gyre__received gyre__receive_direct(struct gyre_op *op)
{
    const size_t before = op->loop->received;
    int what = RECEIVED_MORE;

    gyre__fd_take_name(op->fd); /* by which leases know their owner */
    if (before < BYTES_OF_ALL) {
        what = receive_once(op, 0);
    }
    return (enum gyre__received)(what == RECEIVED_MORE ? receive_more(op, before) : what);
}
