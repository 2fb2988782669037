/*
 * The life of an operation.
 *
 *     IDLE --begin()--> QUEUED --its turn on the descriptor--> ARMED (the driver's)
 *
 *     ARMED --result known at once-----------> READY --dispatch: finish()--> IDLE, callback
 *           --the driver wants another try---> TRY ----dispatch: resume()--> ARMED or finish()
 *           --no block in the pool-----------> STARVED --a block came back--> TRY
 *           --caller retains over its quota--> HELD -----leases given back--> TRY
 *           --accept: out of descriptors-----> PAUSED ---after a while------> TRY
 *           --completion in the driver's dispatch--------------------------> finish() or emit()
 *
 *     cancel():  QUEUED, STARVED, HELD, PAUSED, TRY
 *                       -> READY with -ECANCELED, or with what was moved so far
 *                ARMED  -> asks the driver; the result comes as it comes
 *                READY  -> nothing: the operation has won the race
 *
 * IDLE is set before the final callback runs, so inside it the operation is free. Operations of one
 * direction take turns on their descriptor: `armed` of struct gyre_fd says which directions are
 * taken; whoever finishes hands over to the next in the descriptor's list.
 *
 * Closing a descriptor is an operation too, last in the list. Whenever an operation leaves a
 * closing descriptor, gyre__fd_step() looks whether the close itself may go ahead.
 */
#include "core/op.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/sys.h"

#include <errno.h>
#include <string.h>

enum {
    STARVED_SHARE = 4, /* a quarter of the room is for those that starve, in each turn */
};

/* What may follow what; the rest is a bug. */
const uint8_t gyre__op_may_follow[GYRE__OP_STATE_COUNT] = {
#define TO(state) (1u << GYRE__OP_##state)
    [GYRE__OP_IDLE] = TO(QUEUED) | TO(READY),
    [GYRE__OP_QUEUED] = TO(ARMED) | TO(READY),
    [GYRE__OP_ARMED] =
        TO(ARMED) | TO(IDLE) | TO(TRY) | TO(READY) | TO(STARVED) | TO(HELD) | TO(PAUSED),
    [GYRE__OP_TRY] = TO(ARMED) | TO(IDLE) | TO(READY),
    [GYRE__OP_READY] = TO(IDLE),
    [GYRE__OP_STARVED] = TO(TRY) | TO(READY) | TO(ARMED),
    [GYRE__OP_HELD] = TO(TRY) | TO(READY) | TO(ARMED),
    [GYRE__OP_PAUSED] = TO(TRY) | TO(READY),
#undef TO
};

/* ---- begin ---- */

/* Whether it can be received on. */
static inline int check_receive(struct gyre_fd *fd, enum gyre_op_kind kind)
{
    const int rc = gyre__fd_know_type(fd);

    if (rc < 0) {
        return rc;
    }
    if (!(fd->flags & GYRE__FD_SOCKET)) {
        return -ENOTSOCK; /* to wait until it is readable could take for ever */
    }
    return kind == GYRE_OP_RECV_LEASE && !(fd->flags & GYRE__FD_STREAM)
               ? -EPROTOTYPE /* a short receive would be taken for an empty socket */
               : 0;
}

/* Its turn has come: the driver's from now on. @kind is the operation's, which the compiler may
 * know. */
static inline void arm_kind(struct gyre_op *op, enum gyre_op_kind kind)
{
    const uint8_t direction = gyre__kinds[kind].direction;
    int rc;

    if (direction != GYRE__DIR_NONE) {
        op->fd->armed |= direction;
        op->flags |= GYRE__OP_TURN;
    }
    gyre__op_set_state(op, GYRE__OP_ARMED);
    rc = gyre__kind_receives(kind) ? check_receive(op->fd, kind) : 0;
    if (rc < 0) {
        gyre__op_ready(op, rc);
    } else {
        op->loop->backend->arm(op);
    }
}

static void arm(struct gyre_op *op)
{
    arm_kind(op, (enum gyre_op_kind)op->kind);
}

static inline void take_turn(struct gyre_op *op, enum gyre_op_kind kind)
{
    const uint8_t direction = gyre__kinds[kind].direction;

    gyre__list_append(&op->fd->ops, &op->fd_link);
    if (direction == GYRE__DIR_NONE || !(op->fd->armed & direction)) {
        arm_kind(op, kind);
    }
}

/* Inlined, so that the kind is known where it is begun for most messages. */
static GYRE__INLINE int begin_kind(struct gyre_op *op, enum gyre_op_kind kind,
                                   struct gyre_loop *loop, struct gyre_fd *fd, uint32_t flags)
{
    /* Names are taken later, when nothing may fail any more. The room for a close was reserved when
     * its descriptor was attached: an end must not need memory. A nop never has a name. */
    const int named = kind != GYRE_OP_CLOSE && kind != GYRE_OP_NOP;
    const int rc = named ? gyre__loop_reserve(loop, 1, 0) : 0;

    if (rc < 0) {
        return rc;
    }
    loop->stats.allocations += (uint64_t)rc;
    op->loop = loop;
    op->fd = fd;
    op->kind = (uint8_t)kind;
    op->flags = (uint16_t)(flags | (op->flags & GYRE__OP_BACKGROUND));
    op->slot = 0;
    op->result = 0;
    op->done = 0;
    loop->active_ops++;
    loop->stats.started[kind] += !(op->flags & GYRE__OP_BACKGROUND);
    gyre__op_set_state(op, GYRE__OP_QUEUED);
    if (fd != NULL && kind != GYRE_OP_CLOSE) {
        take_turn(op, kind);
    }
    return 0;
}

int gyre__op_begin(struct gyre_op *op, enum gyre_op_kind kind, struct gyre_loop *loop,
                   struct gyre_fd *fd, uint32_t flags)
{
    return begin_kind(op, kind, loop, fd, flags);
}

int gyre__op_begin_send(struct gyre_op *op, struct gyre_fd *fd)
{
    return begin_kind(op, GYRE_OP_SEND, fd->loop, fd, 0);
}

/* ---- waiting for something else than the kernel ---- */

void gyre__op_starve(struct gyre_op *op)
{
    struct gyre__pool *pool = &op->loop->pool;

    gyre__op_set_state(op, GYRE__OP_STARVED);
    gyre__list_append(&pool->starved, &op->link);
    pool->starved_count++;
    op->loop->stats.starved++;
}

void gyre__op_hold(struct gyre_op *op)
{
    gyre__op_set_state(op, GYRE__OP_HELD);
    op->fd->armed |= GYRE__FD_HOLDS;
    op->loop->pool.held_count++;
    op->loop->stats.starved++;
}

/* What a receive is going to take; of one that has had nothing yet, what others got first. */
static size_t wants_of(const struct gyre_op *op)
{
    const struct gyre__pool *pool = &op->loop->pool;
    const size_t average = op->fd->average != 0 ? op->fd->average : pool->first_average;

    return average != 0 ? average * GYRE__AVERAGE_UNIT : pool->block_len / STARVED_SHARE;
}

/* As many as their share of the room serves: more would only starve again, or those would for whom
 * data comes meanwhile, and that costs each a receive in vain. */
void gyre__op_feed_starved(struct gyre_loop *loop)
{
    struct gyre__pool *pool = &loop->pool;
    size_t room = gyre__pool_room(pool) / STARVED_SHARE;

    while (room > 0 && !gyre__list_empty(&pool->starved)) {
        struct gyre_op *op = gyre__op_of_link(pool->starved.next);
        const size_t wants = wants_of(op);

        gyre__list_remove(&op->link);
        pool->starved_count--;
        gyre__op_try_later(op);
        room -= wants < room ? wants : room;
    }
}

void gyre__fd_release_held(struct gyre_fd *fd)
{
    if (fd->lent > fd->loop->pool.quota / 2) {
        return;
    }
    fd->armed &= (uint8_t)~GYRE__FD_HOLDS;
    for (struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        struct gyre_op *op = gyre__op_on(fd, link);

        if (op->state == GYRE__OP_HELD) {
            fd->loop->pool.held_count--;
            gyre__op_try_later(op);
        }
    }
}

/* ---- results ---- */

int32_t gyre__op_outcome(const struct gyre_op *op, int32_t error)
{
    if (op->done > 0 && gyre__op_continues(op)) {
        return (int32_t)op->done;
    }
    if (error == -ECANCELED && (op->flags & GYRE__OP_TIMED_OUT)) {
        return -ETIMEDOUT;
    }
    return error;
}

static int flushing(const struct gyre_op *close)
{
    return (close->flags & GYRE_CLOSE_FLUSH) && !(close->flags & GYRE__OP_CANCELLED);
}

static int any_writes(const struct gyre_fd *fd)
{
    for (const struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        const struct gyre_op *op = gyre__op_on(fd, link);

        if (gyre__kind_of(op)->direction == GYRE__DIR_OUT) {
            return 1;
        }
    }
    return 0;
}

static void shut(struct gyre_op *close)
{
    if ((close->flags & GYRE_CLOSE_SHUTDOWN) && !(close->flags & GYRE__OP_SHUT)) {
        close->flags |= GYRE__OP_SHUT;
        gyre__sys_shutdown(close->fd->number,
                           SHUT_RDWR); /* an error means that there is no connection */
        close->loop->stats.syscalls++;
    }
}

/* An operation left a closing descriptor, or the close was hastened: go on if it is time. */
void gyre__fd_step(struct gyre_fd *fd)
{
    struct gyre_op *close = gyre__op_on(fd, fd->ops.prev);

    gyre_assert(close->kind == GYRE_OP_CLOSE);
    if (flushing(close) && any_writes(fd)) {
        return;
    }
    shut(close);
    if (fd->ops.next == &close->fd_link && close->state == GYRE__OP_QUEUED) {
        arm(close);
    }
}

/* Hand the direction over to the next operation that waits for it, searching behind @link. */
static void hand_over(struct gyre_fd *fd, struct gyre_link *link, uint8_t direction)
{
    fd->armed &= (uint8_t)~direction;
    for (; link != &fd->ops; link = link->next) {
        struct gyre_op *op = gyre__op_on(fd, link);

        if (op->state == GYRE__OP_QUEUED && gyre__kind_of(op)->direction == direction) {
            arm(op);
            return;
        }
    }
}

static void leave_fd(struct gyre_op *op)
{
    struct gyre_fd *fd = op->fd;
    struct gyre_link *after = op->fd_link.next;

    gyre__list_remove(&op->fd_link);
    if (op->kind == GYRE_OP_CLOSE) {
        gyre_assert(gyre__list_empty(&fd->ops));
        fd->state = GYRE__FD_CLOSED;
        gyre__fd_drop_name(fd);
        fd->loop->fds--;
        return;
    }
    if (op->flags & GYRE__OP_TURN) {
        hand_over(fd, after, gyre__kind_of(op)->direction);
    }
    if (fd->state == GYRE__FD_CLOSING) {
        gyre__fd_step(fd);
    }
}

static void call(struct gyre_op *op, int32_t res, uint32_t flags, const struct gyre_lease *lease)
{
    const struct gyre_result result = {.res = res, .flags = flags, .lease = lease};

    op->fn(op, &result);
}

static void drop_deadline(struct gyre_op *op)
{
    if (gyre__alarm_active(&op->alarm)) {
        gyre__wheel_remove(&op->loop->wheel, &op->alarm);
    }
}

void gyre__op_finish(struct gyre_op *op, int32_t result, const struct gyre_lease *lease)
{
    struct gyre_loop *loop = op->loop;

    if (op->flags & GYRE__OP_DEADLINE) {
        drop_deadline(op);
    }
    if (op->slot != 0) {
        gyre__slots_release(&loop->slots, op->slot);
        op->slot = 0;
    }
    if (!gyre__list_empty(&op->link)) {
        gyre__list_remove(&op->link); /* a cancel of it still waits for the submission queue */
    }
    gyre__op_set_state(op, GYRE__OP_IDLE);
    loop->active_ops--;
    loop->stats.finished[op->kind]++;
    if (op->fd != NULL) {
        leave_fd(op);
    }
    if (op->kind == GYRE_OP_RECVMSG && op->done > 0) {
        gyre__op_restore_control(op);
    }
    call(op, result, 0, lease);
}

void gyre__op_emit(struct gyre_op *op, int32_t result, const struct gyre_lease *lease)
{
    gyre_assert(op->state == GYRE__OP_ARMED && (op->flags & GYRE_MULTISHOT));
    call(op, result, GYRE_MORE, lease);
}

/* ---- cancel and deadline ---- */

static void hasten_close(struct gyre_op *close)
{
    struct gyre_fd *fd = close->fd;

    if (close->state != GYRE__OP_QUEUED) {
        return; /* with the kernel already: it cannot be held up */
    }
    for (struct gyre_link *link = fd->ops.next; link != &close->fd_link; link = link->next) {
        gyre__op_request_end(gyre__op_on(fd, link));
    }
    gyre__fd_step(fd);
}

/* It waits for something in the loop: it ends at once, unless the kernel still polls for it. */
static void end_waiting(struct gyre_op *op)
{
    gyre__list_remove(&op->link);
    if (op->flags & GYRE__OP_POLLING) {
        gyre__op_set_state(op, GYRE__OP_ARMED);
        op->loop->backend->cancel(op);
    } else {
        gyre__op_ready(op, gyre__op_outcome(op, -ECANCELED));
    }
}

void gyre__op_request_end(struct gyre_op *op)
{
    if (op->state == GYRE__OP_IDLE || (op->flags & GYRE__OP_CANCELLED)) {
        return;
    }
    op->flags |= GYRE__OP_CANCELLED;
    if (op->kind == GYRE_OP_CLOSE) {
        hasten_close(op);
        return;
    }
    switch ((enum gyre__op_state)op->state) {
    case GYRE__OP_STARVED:
        op->loop->pool.starved_count--;
        end_waiting(op);
        break;
    case GYRE__OP_HELD:
        op->loop->pool.held_count--;
        end_waiting(op);
        break;
    case GYRE__OP_QUEUED:
    case GYRE__OP_PAUSED:
    case GYRE__OP_TRY:
        end_waiting(op);
        break;
    case GYRE__OP_ARMED:
        op->loop->backend->cancel(op);
        break;
    default:
        break; /* READY: the result is known */
    }
}

static void deadline_passed(struct gyre_alarm *alarm)
{
    struct gyre_op *op = gyre_container_of(alarm, struct gyre_op, alarm);

    if (op->kind == GYRE_OP_TIMEOUT && alarm->deadline_ns >= op->arg.timeout.moment_ns) {
        if (op->state == GYRE__OP_QUEUED) {
            gyre__op_ready(op, 0);
        }
        return;
    }
    if (!(op->flags & GYRE__OP_CANCELLED)) {
        op->flags |= GYRE__OP_TIMED_OUT;
    }
    gyre__op_request_end(op);
}

int gyre_op_set_deadline(struct gyre_op *op, uint64_t deadline_ns)
{
    int rc;

    if (op == NULL || op->state == GYRE__OP_IDLE) {
        return -EINVAL;
    }
    rc = gyre__loop_check(op->loop);
    if (rc < 0) {
        return rc;
    }
    if (op->flags & GYRE__OP_DEADLINE) {
        drop_deadline(op);
    } else {
        gyre__alarm_init(&op->alarm);
        op->flags |= GYRE__OP_DEADLINE;
    }
    op->alarm.fire = deadline_passed;
    if (op->kind == GYRE_OP_TIMEOUT && deadline_ns > op->arg.timeout.moment_ns) {
        deadline_ns = op->arg.timeout.moment_ns;
    }
    if (deadline_ns != UINT64_MAX) {
        gyre__wheel_add(&op->loop->wheel, &op->alarm, deadline_ns);
    }
    return 0;
}

int gyre_op_cancel(struct gyre_op *op)
{
    int rc;

    if (op == NULL || op->fn == NULL) {
        return -EINVAL;
    }
    if (op->state == GYRE__OP_IDLE) {
        return 0;
    }
    rc = gyre__loop_check(op->loop);
    if (rc == 0) {
        gyre__op_request_end(op);
    }
    return rc;
}

/* ---- dispatch ---- */

/* Those that the callbacks add wait for the next call: a chain of operations that complete at once
 * must not keep the rest from its turn. */
unsigned gyre__op_run_results(struct gyre_loop *loop)
{
    struct gyre_link now;
    unsigned handled = 0;

    gyre__list_take(&now, &loop->results);
    while (!gyre__list_empty(&now)) {
        struct gyre_op *op = gyre__op_of_link(now.next);

        gyre__list_remove(&op->link);
        gyre__op_finish(op, op->result, NULL);
        handled++;
    }
    return handled;
}

/* Results between tries: a server that answers what it received gives the memory back before the
 * next receive, which then finds it warm. */
void gyre__op_run_tries(struct gyre_loop *loop, unsigned budget)
{
    unsigned handled = gyre__op_settle(loop);

    while (handled < budget &&
           !(gyre__list_empty(&loop->tries) && gyre__list_empty(&loop->results))) {
        if (!gyre__list_empty(&loop->tries)) {
            struct gyre_op *op = gyre__op_of_link(loop->tries.next);

            gyre__list_remove(&op->link);
            gyre__op_set_state(op, GYRE__OP_ARMED);
            loop->backend->resume(op);
            handled++;
        }
        handled += gyre__op_settle(loop);
    }
}
