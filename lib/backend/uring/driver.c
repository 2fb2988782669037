/*
 * The io_uring driver. Starting an operation writes a submission entry, but for a few that are better
 * made at once (docs/uring.md); the loop's one system call per turn submits them all, waits, and
 * reaps; completions are copied out, the queue is given back, and then their callbacks run. A
 * completion that finds nobody under its name is counted and dropped (its buffer is not).
 *
 * Completions that are not results:
 *     -EAGAIN   the descriptor is O_NONBLOCK, so the kernel did not wait: let it poll, then go on
 *     -EINTR, -ERESTARTSYS   go on
 *     short     of a transfer that is to be whole: go on with the rest
 * so that each operation ends exactly once with what epoll would have said.
 */
#include "backend/uring/driver.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- completion ---- */

void gyre__uring_count_rearm(struct gyre_op *op)
{
    op->loop->stats.rearms += (uint64_t)gyre__uring_is_multishot(op);
}

/* What a cancelled operation may end with instead of -ECANCELED. */
static int is_unfinished(int32_t res)
{
    return gyre__uring_is_interrupt(res) || res == -EAGAIN || res == -EALREADY ||
           res == -EINPROGRESS;
}

/* Of a transfer that takes nothing and says nothing: give up after a while. */
static int gives_up(struct gyre_op *op)
{
    return ++op->result > GYRE__ZEROES_MAX;
}

/*
 * The kernel goes on with a send by itself (MSG_WAITALL) until something ends it, and what that was
 * it does not say when some bytes have left: an error of the socket is used up. The next send tells,
 * so it is made at once: the result of a receive that stands behind this completion means something
 * else after an error than before.
 */
static void cut_short(struct gyre_op *op)
{
    const int rc = gyre__kind_of(op)->attempt(op);

    op->loop->stats.syscalls++;
    if (rc > 0) {
        gyre__op_advance(op, (size_t)rc);
    }
    if (rc < 0 && rc != GYRE__NOT_YET) {
        gyre__op_finish(op, gyre__op_outcome(op, rc), NULL);
    } else if (gyre__op_left(op) == 0) {
        gyre__op_finish(op, (int32_t)op->done, NULL);
    } else {
        gyre__uring_submit(op);
    }
}

/* A transfer or a single result. */
static GYRE__APART void transferred(struct gyre_op *op, int32_t res)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;
    const int continues = gyre__op_continues(op);
    const int sends = gyre__kind_of(op)->direction == GYRE__DIR_OUT;

    gyre__op_check_memory(op);
    if ((op->fd->ready & GYRE__READY_DOUBT) && gyre__uring_is_send(op)) {
        gyre__uring_sent_in_doubt(op->fd, gyre__op_left(op), res);
    }
    if (res > 0 && continues) {
        const int whole = (size_t)res == gyre__op_left(op);

        gyre__op_advance(op, (size_t)res);
        op->result = 0;
        if (whole || cancelled) {
            gyre__op_finish(op, (int32_t)op->done, NULL);
            return;
        }
        op->loop->stats.retries++;
        if (gyre__uring_is_send(op)) {
            cut_short(op);
        } else {
            gyre__uring_submit(op);
        }
    } else if (cancelled && is_unfinished(res)) {
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
    } else if (!cancelled && gyre__uring_is_interrupt(res)) {
        gyre__uring_submit(op);
    } else if (!cancelled && res == -EAGAIN) {
        op->loop->stats.eagains++;
        gyre__uring_poll_for(op);
    } else if (!cancelled && res == 0 && continues && sends && gyre__op_left(op) > 0) {
        if (gives_up(op)) {
            gyre__op_finish(op, gyre__op_outcome(op, -EIO), NULL);
        } else {
            gyre__uring_poll_for(op);
        }
    } else {
        gyre__op_finish(op, gyre__op_outcome(op, res), NULL);
    }
}

static GYRE__RARE void connected(struct gyre_op *op, int32_t res)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;

    if (cancelled && is_unfinished(res)) {
        res = -ECANCELED;
    }
    if (!cancelled && (gyre__uring_is_interrupt(res) || res == -EINPROGRESS || res == -EALREADY)) {
        op->done = 1; /* under way: its end is the socket's pending error */
        gyre__uring_poll_for(op);
    } else if (!cancelled && res == -ECONNABORTED && op->result == 0) {
        op->result = 1; /* left over from an attempt before this one: the next tells the truth */
        gyre__uring_submit(op);
    } else {
        gyre__op_finish(op, gyre__op_outcome(op, res), NULL);
    }
}

/* Kernels before 6.8 could end a multishot accept with a number that is no descriptor of ours. */
static int is_connection(int number)
{
    int listening = 1;
    socklen_t len = sizeof(listening);

    if (gyre__sys_getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0) {
        return errno != EBADF && errno != ENOTSOCK; /* else it is not known, and must not be lost */
    }
    return !listening;
}

static void accepted_last(struct gyre_op *op, int32_t res)
{
    const int is_junk = (op->flags & GYRE_MULTISHOT) &&
                        gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_MULTISHOT) &&
                        !is_connection(res);

    if (!(op->flags & GYRE_MULTISHOT) || (op->flags & GYRE__OP_CANCELLED)) {
        gyre__op_finish(op, is_junk ? gyre__op_outcome(op, -ECANCELED) : res, NULL);
        return;
    }
    if (!is_junk) {
        gyre__op_emit(op, res, NULL);
    }
    if (op->flags & GYRE__OP_CANCELLED) { /* in its callback, with nothing in the kernel */
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
        return;
    }
    gyre__uring_count_rearm(op);
    gyre__uring_submit(op);
}

static void accept_failed(struct gyre_op *op, int32_t res)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;

    if (cancelled) {
        gyre__op_finish(op, gyre__op_outcome(op, is_unfinished(res) ? -ECANCELED : res), NULL);
        return;
    }
    if (res == -EAGAIN) {
        op->loop->stats.eagains++;
        gyre__uring_poll_for(op);
        return;
    }
    res = gyre__accept_recover(op, gyre__uring_is_interrupt(res) ? -EINTR : res);
    if (res < 0) {
        gyre__op_finish(op, res, NULL);
    } else if (res == 1) {
        op->loop->stats.rearms++;
        gyre__uring_submit(op);
    }
}

static GYRE__APART void accepted(struct gyre_op *op, int32_t res, int more)
{
    if (res >= 0) {
        op->loop->pause_ns = 0;
    }
    if (res >= 0 && more) {
        gyre__op_emit(op, res, NULL);
    } else if (res >= 0) {
        accepted_last(op, res);
    } else if (!more) {
        accept_failed(op, res);
    }
}

static int is_plain(const struct gyre_fd *fd)
{
    struct stat status;

    return gyre__sys_fstat(fd->number, &status) == 0 && S_ISREG(status.st_mode);
}

static GYRE__APART void polled(struct gyre_op *op, int32_t res, int more)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;

    if (res > 0 && !more && (op->flags & GYRE_MULTISHOT) && is_plain(op->fd)) {
        gyre__op_finish(op, res, NULL); /* always ready, so one result is all there is */
        return;
    }
    if (res >= 0 && (op->flags & GYRE_MULTISHOT)) {
        if (res > 0) {
            gyre__op_emit(op, res, NULL);
        }
        if (more) {
            return;
        }
        if (!(op->flags & GYRE__OP_CANCELLED)) { /* ended by an overflow */
            op->loop->stats.rearms++;
            gyre__uring_submit(op);
            return;
        }
        res = -ECANCELED;
    }
    if (cancelled && is_unfinished(res)) {
        res = -ECANCELED;
    }
    gyre__op_finish(op, gyre__op_outcome(op, res), NULL);
}

/* The kernel polled for an operation, and it may go on: by a system call or by the ring. */
static void readable(struct gyre_op *op)
{
    int rc;

    if (op->kind == GYRE_OP_RECV_LEASE) {
        gyre__uring_receive_direct(op);
        return;
    }
    if (op->kind != GYRE_OP_CONNECT) {
        gyre__uring_submit(op);
        return;
    }
    rc = gyre__kind_of(op)->attempt(op);
    op->loop->stats.syscalls++;
    if (rc == GYRE__NOT_YET) {
        gyre__uring_poll_for(op);
    } else {
        gyre__op_finish(op, gyre__op_outcome(op, rc), NULL);
    }
}

/* The poll is over, and with it, perhaps, the operation. */
static void poll_ended(struct gyre_op *op, int32_t res)
{
    if (op->flags & GYRE__OP_ENDING) {
        gyre__op_finish(op, op->result, NULL);
    } else if (op->flags & GYRE__OP_CANCELLED) {
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
    } else if (op->flags & GYRE__OP_PAUSING) {
        gyre__uring_recv_go_on(op);
    } else if (res < 0) {
        gyre__op_finish(op, gyre__op_outcome(op, res), NULL);
    } else {
        readable(op);
    }
}

static GYRE__APART void poll_event(struct gyre_op *op, int32_t res, int more)
{
    const uint16_t leaving = GYRE__OP_ENDING | GYRE__OP_CANCELLED | GYRE__OP_PAUSING;

    if (!more) {
        op->flags &= (uint16_t)~GYRE__OP_POLLING;
    }
    if (res > 0) {
        op->fd->ready |= GYRE__DIR_IN;
        op->fd->ready |= res & (POLLRDHUP | POLLHUP | POLLERR | POLLPRI) ? GYRE__READY_END : 0;
    }
    if (op->state != GYRE__OP_ARMED) {
        return; /* it waits for something else, and finds the descriptor ready then */
    }
    if (!more) {
        poll_ended(op, res);
    } else if (!(op->flags & leaving)) {
        readable(op);
    }
}

/* All that was left of a send at once, as nearly always. */
static inline int is_whole_send(const struct gyre_op *op, int32_t res)
{
    return op->kind == GYRE_OP_SEND && res > 0 && (uint32_t)res == op->len - op->done;
}

static inline void complete(struct gyre_op *op, const struct gyre__cqe *cqe)
{
    const int more = (cqe->flags & IORING_CQE_F_MORE) != 0;

    if (!more && op->state == GYRE__OP_ARMED && !gyre__list_empty(&op->link)) {
        gyre__list_remove(&op->link); /* its cancel was still waiting for the queue */
    }
    if (op->flags & GYRE__OP_POLLING) {
        poll_event(op, cqe->res, more);
        return;
    }
    gyre_assert(op->state == GYRE__OP_ARMED);
    if (is_whole_send(op, cqe->res)) {
        op->fd->ready &= (uint8_t)~GYRE__READY_DOUBT;
        gyre__op_check_memory(op);
        gyre__op_finish(op, (int32_t)op->len, NULL);
        return;
    }
    if (op->kind == GYRE_OP_RECV_LEASE) {
        gyre__uring_received(op, cqe);
        return;
    }
    switch (op->kind) {
    case GYRE_OP_ACCEPT:
        accepted(op, cqe->res, more);
        break;
    case GYRE_OP_CONNECT:
        connected(op, cqe->res);
        break;
    case GYRE_OP_POLL:
        polled(op, cqe->res, more);
        break;
    case GYRE_OP_CLOSE:
        gyre__op_finish(op, cqe->res == -EINTR ? 0 : cqe->res, NULL);
        break;
    default:
        transferred(op, cqe->res);
        break;
    }
}

/*
 * A send that is the only one of its turn is better silent, or made by send(2): its completion would
 * come back at once, and then the ring has to be entered again to wait. That is known where one
 * completion has come, and none was there when the loop looked before.
 */
static void note_calm(struct gyre_loop *loop, struct gyre__uring *uring)
{
    loop->calm = uring->idle && uring->taken <= 1;
    loop->alone = loop->calm && uring->taken == 1;
    uring->idle &= uring->taken == 0;
}

/* A receive is part of a stream, behind its descriptor. A send's flow was used a moment ago. */
static GYRE__INLINE void prefetch_ops(const struct gyre_loop *loop, const struct gyre__cqe *cqe,
                                      const struct gyre__cqe *end)
{
    if (end - cqe > 1) {
        gyre__slots_prefetch_object(&loop->slots, cqe[1].user_data, -(int)sizeof(struct gyre_fd));
    }
    if (end - cqe > 2) {
        gyre__slots_prefetch(&loop->slots, cqe[2].user_data);
    }
}

static void uring_dispatch(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    const uint32_t count = uring->taken;

    loop->stats.cqes += count;
    note_calm(loop, uring);
    if (uring->silent_known) {
        gyre__uring_tell_silent(loop);
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct gyre__cqe *cqe = &uring->batch[i];
        struct gyre_op *op = gyre__slots_find(&loop->slots, cqe->user_data);

        prefetch_ops(loop, cqe, &uring->batch[count]);
        if (op != NULL) {
            complete(op, cqe);
            gyre__op_settle(loop);
            continue;
        }
        if (cqe->user_data & GYRE__CANCEL_TAG) {
            gyre__uring_cancel_failed(loop, cqe->user_data & ~GYRE__CANCEL_TAG);
            continue;
        }
        loop->stats.stale +=
            cqe->user_data != GYRE__NAME_NONE && cqe->user_data != GYRE__NAME_SILENT;
        if (cqe->flags & IORING_CQE_F_BUFFER) {
            gyre__bufring_take(&uring->bufring, &loop->pool, cqe, NULL, NULL);
        }
    }
    loop->alone = 0;
    uring->taken = 0;
}

/* ---- waiting ---- */

/* io_uring wakes at the nanosecond asked for, at a wake for each timer. Other waits of the kernel may
 * end late by the thread's timer slack, so that timers near each other share a wake: do the same. */
static uint64_t timeout_of(uint64_t deadline_ns, uint64_t slack_ns)
{
    uint64_t now;

    if (deadline_ns == 0 || deadline_ns == UINT64_MAX) {
        return deadline_ns;
    }
    now = gyre__clock_now();
    return deadline_ns > now ? gyre__time_add(deadline_ns - now, slack_ns) : 0;
}

static int enter(struct gyre_loop *loop, struct gyre__uring *uring, uint64_t timeout_ns)
{
    int rc;

    loop->stats.overflows += (uint64_t)gyre__ring_overflowed(&uring->ring);
    loop->stats.enters++;
    loop->stats.syscalls++;
    rc = gyre__ring_enter(&uring->ring, timeout_ns);
    switch (rc) {
    case 0:
    case -ETIME:
    case -EINTR:
        return 0;
    case -EAGAIN: /* no memory for requests now, or the completion queue has overflowed: */
    case -EBUSY:  /* reap, which a call that fails to submit does not; then try again */
        loop->stats.enters++;
        loop->stats.syscalls++;
        gyre__ring_reap(&uring->ring);
        return 0;
    case -EBADR:
        return GYRE_ELOST;
    default:
        return rc;
    }
}

/* Signals from here on are of work that the coming turn does not see. */
static void clear_event(struct gyre_loop *loop, const struct gyre__uring *uring)
{
    uint64_t count;

    loop->stats.syscalls++;
    if (gyre__sys_read(uring->event_number, &count, sizeof(count)) < 0) {
        return; /* there was none */
    }
}

/* Whether there is something to take in, or will be at once. */
static int look(struct gyre__uring *uring)
{
    const int pending = gyre__ring_pending(&uring->ring);

    uring->idle |= !pending;
    return pending;
}

static int uring_wait(struct gyre_loop *loop, uint64_t deadline_ns)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    uint64_t timeout_ns;
    int pending;
    int rc = 0;

    if (uring->taken > 0) {
        return 0;
    }
    if (uring->event_number >= 0) {
        clear_event(loop, uring);
    }
    if (uring->doubt_count > 0) {
        gyre__uring_settle_doubts(loop);
    }
    gyre__uring_submit_late_cancels(uring);
    if (uring->bufring.ring != NULL) {
        gyre__bufring_fill(&uring->bufring, &loop->pool);
    }
    timeout_ns = timeout_of(deadline_ns, uring->slack_ns); /* 0 also if it has passed meanwhile */
    if (timeout_ns != 0 && gyre__uring_must_tell(uring)) {
        timeout_ns = 0;
    }
    pending = look(uring);
    if (timeout_ns != 0 || pending || gyre__ring_unsubmitted(&uring->ring) > 0) {
        rc = enter(loop, uring, timeout_ns);
    }
    uring->taken = gyre__ring_take(&uring->ring, uring->batch, BATCH_MAX);
    if (uring->silent_fd != NULL) {
        gyre__uring_learn_silent(uring);
    }
    return rc;
}

static int uring_peek(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);

    return uring->taken > 0 || look(uring) || uring->doubt_count > 0 || uring->silent_fd != NULL ||
           !gyre__list_empty(&uring->cancels) || gyre__ring_unsubmitted(&uring->ring) > 0;
}

static void uring_forget(struct gyre_fd *fd)
{
    (void)fd; /* io_uring knows operations, not descriptors */
}

const struct gyre__backend gyre__uring_backend = {
    .id = GYRE_BACKEND_URING,
    .name = "uring",
    .init = gyre__uring_init,
    .fini = gyre__uring_fini,
    .arm = gyre__uring_arm,
    .resume = gyre__uring_resume,
    .send_silently = gyre__uring_send_silently,
    .submit_silent = gyre__uring_submit_silent,
    .cancel = gyre__uring_cancel,
    .wait = uring_wait,
    .dispatch = uring_dispatch,
    .peek = uring_peek,
    .forget = uring_forget,
    .pollable = gyre__uring_pollable,
    .info = gyre__uring_info,
};
