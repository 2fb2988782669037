/*
 * The io_uring driver. Starting an operation writes a submission entry; the loop's one system call per
 * turn submits them all, waits, and reaps; completions are copied out, the queue is given back, and
 * then their callbacks run.
 *
 * An entry's name is (slot, generation) of the operation: written in entry() and nowhere else. A
 * completion that finds nobody under its name is counted and dropped (its buffer is not).
 *
 * Completions that are not results:
 *     -EAGAIN   the descriptor is O_NONBLOCK, so the kernel did not wait: let it poll, then go on
 *     -EINTR, -ERESTARTSYS   go on
 *     short     of a transfer that is to be whole: go on with the rest
 * so that each operation ends exactly once with what epoll would have said.
 */
#include "backend/uring/driver.h"

#include "backend/drivers.h"
#include "backend/uring/probe.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    DEFAULT_SQ = 256,  /* 16 KiB of entries: warm */
    DEFAULT_CQ = 4096, /* 64 KiB; an overflow is slow */
    SQ_LEAST = 8,
    SQ_MOST = 32768,
    CQ_MOST = 65536,
    SQ_SMALL = 64, /* where memory is short */
    ZEROES_MAX = 16,
    DIRECT_SEND_LEAST = 32 << 10,
};

#define ERESTARTSYS 512 /* the kernel's own code for "interrupted", which leaks at times */

/* ---- set up ---- */

static _Thread_local char refusal[160];

const char *gyre__uring_refusal(void)
{
    return refusal;
}

static const char *hint(int error)
{
    switch (-error) {
    case EPERM:
    case EACCES:
        return " (sysctl kernel.io_uring_disabled, or a sandbox such as a container's profile)";
    case ENOSYS:
        return " (no io_uring in this kernel, or a sandbox hides it)";
    case EINVAL:
        return " (Linux 6.1 or later is needed)";
    case ENOMEM:
        return " (memory, or RLIMIT_MEMLOCK)";
    default:
        return "";
    }
}

static int refuse(int error, const char *what)
{
    snprintf(refusal, sizeof(refusal), "%s was refused: %s%s", what, gyre_strerror(error),
             hint(error));
    return GYRE_ENOURING;
}

static int check_sizes(const struct gyre_loop_options *options, uint32_t *out_sq, uint32_t *out_cq)
{
    const uint32_t sq = options->sq_entries != 0 ? options->sq_entries : DEFAULT_SQ;
    const uint32_t least_cq = sq * 2 > DEFAULT_CQ ? sq * 2 : DEFAULT_CQ;
    const uint32_t cq = options->cq_entries != 0 ? options->cq_entries : least_cq;

    if (sq < SQ_LEAST || sq > SQ_MOST || cq < 2 * sq || cq > CQ_MOST) {
        return -EINVAL;
    }
    *out_sq = sq;
    *out_cq = cq;
    return 0;
}

/* In words, for each feature, whether it is on and why not. */
static void explain(struct gyre__uring *uring, const struct gyre__probe *probe, uint32_t off)
{
    for (int i = 0; i < GYRE_FEATURE_COUNT; i++) {
        if (uring->features & (1u << i)) {
            uring->why[i] = "on";
        } else if (off & (1u << i)) {
            uring->why[i] = "off: switched off by the options, or needs one that is";
        } else {
            uring->why[i] = probe->why[i] == -EINVAL ? "off: this kernel does not have it"
                                                     : gyre_strerror(probe->why[i]);
        }
    }
}

/* What is switched off takes with it what builds on it. */
static uint32_t all_off(uint32_t off)
{
    if (off & GYRE_FEATURE_BUFFER_RING) {
        off |= GYRE_FEATURE_INCREMENTAL;
    }
    return off & ~(uint32_t)GYRE_FEATURE_DEFER_TASKRUN; /* without it the driver does not run */
}

static void use_features(struct gyre__uring *uring)
{
    if (gyre__uring_has(uring, GYRE_FEATURE_REGISTERED_RING) &&
        gyre__ring_register(&uring->ring) < 0) {
        uring->features &= ~(uint32_t)GYRE_FEATURE_REGISTERED_RING; /* 16 a thread */
        uring->why[__builtin_ctz(GYRE_FEATURE_REGISTERED_RING)] =
            "off: no slot left for this thread";
    }
    if (gyre__uring_has(uring, GYRE_FEATURE_NO_IOWAIT)) {
        uring->ring.enter_flags |= GYRE__ENTER_NO_IOWAIT;
    }
}

static int open_ring(struct gyre__uring *uring, const struct gyre_loop_options *options)
{
    uint32_t sq = 0;
    uint32_t cq = 0;
    int rc = check_sizes(options, &sq, &cq);

    if (rc < 0) {
        return rc;
    }
    rc = gyre__ring_init(&uring->ring, sq, cq);
    if (rc == -ENOMEM && options->sq_entries == 0 && options->cq_entries == 0) {
        rc = gyre__ring_init(&uring->ring, SQ_SMALL, 4 * SQ_SMALL);
    }
    return rc < 0 ? refuse(rc, "io_uring_setup") : 0;
}

/* The pool, then the ring of its buffers. */
static int open_pool(struct gyre_loop *loop, struct gyre__uring *uring,
                     const struct gyre_loop_options *options)
{
    int rc = gyre__pool_init(&loop->pool, options);

    if (rc < 0 || !gyre__uring_has(uring, GYRE_FEATURE_BUFFER_RING)) {
        return rc;
    }
    rc = gyre__bufring_init(&uring->bufring, &uring->ring, &loop->pool,
                            gyre__uring_has(uring, GYRE_FEATURE_INCREMENTAL));
    if (rc < 0) { /* it worked in the probe; without it things work, slower */
        uring->features &= ~(uint32_t)(GYRE_FEATURE_BUFFER_RING | GYRE_FEATURE_INCREMENTAL);
        uring->why[__builtin_ctz(GYRE_FEATURE_BUFFER_RING)] = gyre_strerror(rc);
        uring->why[__builtin_ctz(GYRE_FEATURE_INCREMENTAL)] = gyre_strerror(rc);
    }
    return 0;
}

static int open_driver(struct gyre_loop *loop, struct gyre__uring *uring,
                       const struct gyre_loop_options *options, const struct gyre__probe *probe)
{
    const uint32_t off = all_off(options->features_off);
    int rc = open_ring(uring, options);

    if (rc < 0) {
        return rc;
    }
    uring->features = probe->features & ~off;
    explain(uring, probe, off);
    use_features(uring);
    rc = open_pool(loop, uring, options);
    if (rc < 0) {
        gyre__ring_fini(&uring->ring);
    }
    return rc;
}

static int uring_init(struct gyre_loop *loop, const struct gyre_loop_options *options)
{
    const struct gyre__probe *probe = gyre__uring_probe();
    struct gyre__uring *uring;
    int rc;

    refusal[0] = '\0';
    if (probe->error < 0) {
        return refuse(probe->error, probe->failed);
    }
    uring = gyre__zalloc(sizeof(*uring));
    if (uring == NULL) {
        return -ENOMEM;
    }
    gyre__list_init(&uring->cancels);
    rc = open_driver(loop, uring, options, probe);
    if (rc < 0) {
        gyre__free(uring);
        return rc;
    }
    loop->driver = uring;
    return 0;
}

static void uring_fini(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);

    gyre__ring_fini(&uring->ring); /* ends what the kernel had of ours, before its memory goes */
    gyre__bufring_fini(&uring->bufring);
    gyre__pool_fini(&loop->pool);
    gyre__free(uring);
    loop->driver = NULL;
}

/* ---- submission ---- */

/* An entry named @name, or NULL if the queue is full and the kernel takes nothing now. */
static struct io_uring_sqe *entry(struct gyre_loop *loop, uint64_t name)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    struct io_uring_sqe *sqe = gyre__ring_sqe(&uring->ring);

    if (sqe == NULL) {
        loop->stats.enters++;
        loop->stats.syscalls++;
        if (gyre__ring_submit(&uring->ring) == 0) {
            sqe = gyre__ring_sqe(&uring->ring);
        }
    }
    if (sqe != NULL) {
        sqe->user_data = name;
        loop->stats.sqes++;
    }
    return sqe;
}

static uint64_t name_of(const struct gyre_op *op)
{
    return gyre__name(op->slot, op->generation);
}

void gyre__uring_submit(struct gyre_op *op)
{
    struct io_uring_sqe *sqe = entry(op->loop, name_of(op));

    if (sqe == NULL) {
        gyre__op_try_later(op);
        return;
    }
    gyre__op_check_memory(op);
    gyre__kind_of(op)->prepare(op, sqe);
    if (!gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_MULTISHOT)) {
        if (op->kind == GYRE_OP_ACCEPT) {
            sqe->ioprio &= (uint16_t)~IORING_ACCEPT_MULTISHOT;
        } else if (op->kind == GYRE_OP_RECV_LEASE) {
            sqe->ioprio &= (uint16_t)~IORING_RECV_MULTISHOT;
        }
    }
}

void gyre__uring_poll_for(struct gyre_op *op)
{
    struct io_uring_sqe *sqe = entry(op->loop, name_of(op));

    if (sqe == NULL) {
        gyre__op_try_later(op);
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
    struct io_uring_sqe *sqe = entry(op->loop, GYRE__NAME_NONE);

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
    if (!submit_cancel(op)) {
        gyre__list_append(&gyre__uring_of(op->loop)->cancels, &op->link);
    }
}

static void submit_late_cancels(struct gyre__uring *uring)
{
    while (!gyre__list_empty(&uring->cancels)) {
        struct gyre_op *op = gyre__op_of_link(uring->cancels.next);

        if (!submit_cancel(op)) {
            return;
        }
        gyre__list_remove(&op->link);
    }
}

/* A Unix connect completes or fails at once; left to wait for a full backlog it would block a worker
 * thread of the kernel. */
static int connects_at_once(const struct gyre_op *op)
{
    return op->kind == GYRE_OP_CONNECT && gyre__connect_op(op)->address.ss_family == AF_UNIX;
}

static void attempt(struct gyre_op *op)
{
    const int rc = gyre__kind_of(op)->attempt(op);

    op->loop->stats.syscalls++;
    if (rc == GYRE__NOT_YET) {
        gyre__uring_poll_for(op);
    } else {
        gyre__op_ready(op, gyre__op_outcome(op, rc));
    }
}

static int sends_much(const struct gyre_op *op)
{
    return op->kind == GYRE_OP_SEND && op->arg.io.len >= DIRECT_SEND_LEAST;
}

/* Send what the socket takes now; the rest goes through the ring. */
static void send_direct(struct gyre_op *op)
{
    int rc;

    gyre__op_check_memory(op);
    rc = gyre__kind_of(op)->attempt(op);
    op->loop->stats.syscalls++;
    if (rc > 0) {
        gyre__op_advance(op, (size_t)rc);
    }
    if (rc > 0 && gyre__op_left(op) == 0) {
        gyre__op_ready(op, (int32_t)op->done);
    } else if (rc < 0 && rc != GYRE__NOT_YET) {
        gyre__op_ready(op, gyre__op_outcome(op, rc));
    } else {
        gyre__uring_submit(op);
    }
}

static void uring_arm(struct gyre_op *op)
{
    if (op->slot == 0) {
        gyre__op_take_slot(op);
    }
    if (op->kind == GYRE_OP_RECV_LEASE) {
        gyre__uring_recv_arm(op);
    } else if (sends_much(op)) {
        send_direct(op);
    } else if (connects_at_once(op)) {
        attempt(op);
    } else {
        gyre__uring_submit(op);
    }
}

/* From the list of tries: the queue was full, a block came back, a pause ended, there is more. */
static void uring_resume(struct gyre_op *op)
{
    if (op->kind == GYRE_OP_RECV_LEASE && op->slot != 0) {
        gyre__uring_recv_resume(op);
    } else {
        uring_arm(op);
    }
}

/* ---- completion ---- */

void gyre__uring_count_rearm(struct gyre_op *op)
{
    op->loop->stats.rearms += gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_MULTISHOT);
}

static int is_interrupt(int32_t res)
{
    return res == -EINTR || res == -ERESTARTSYS;
}

/* Of a transfer that takes nothing and says nothing: give up after a while. */
static int gives_up(struct gyre_op *op)
{
    return ++op->result > ZEROES_MAX;
}

/* A transfer or a single result. */
static void transferred(struct gyre_op *op, int32_t res)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;
    const int continues = gyre__op_continues(op);
    const int sends = gyre__kind_of(op)->direction == GYRE__DIR_OUT;

    gyre__op_check_memory(op);
    if (res > 0 && continues) {
        const int whole = (size_t)res == gyre__op_left(op);

        gyre__op_advance(op, (size_t)res);
        op->result = 0;
        if (whole || cancelled) {
            gyre__op_finish(op, (int32_t)op->done, NULL);
            return;
        }
        op->loop->stats.retries++;
        gyre__uring_submit(op);
    } else if (cancelled && is_interrupt(res)) {
        gyre__op_finish(op, gyre__op_outcome(op, -ECANCELED), NULL);
    } else if (!cancelled && is_interrupt(res)) {
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

static void connected(struct gyre_op *op, int32_t res)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;

    if (cancelled && (is_interrupt(res) || res == -EINPROGRESS)) {
        res = -ECANCELED;
    }
    if (!cancelled && (is_interrupt(res) || res == -EINPROGRESS || res == -EALREADY)) {
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

    return getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && !listening;
}

static void accepted_last(struct gyre_op *op, int32_t res)
{
    if (!(op->flags & GYRE_MULTISHOT) || (op->flags & GYRE__OP_CANCELLED)) {
        gyre__op_finish(op, res, NULL);
        return;
    }
    if (!gyre__uring_has(gyre__uring_of(op->loop), GYRE_FEATURE_MULTISHOT) || is_connection(res)) {
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
        gyre__op_finish(op, gyre__op_outcome(op, is_interrupt(res) ? -ECANCELED : res), NULL);
        return;
    }
    if (res == -EAGAIN) {
        op->loop->stats.eagains++;
        gyre__uring_poll_for(op);
        return;
    }
    res = gyre__accept_recover(op, is_interrupt(res) ? -EINTR : res);
    if (res < 0) {
        gyre__op_finish(op, res, NULL);
    } else if (res == 1) {
        op->loop->stats.rearms++;
        gyre__uring_submit(op);
    }
}

static void accepted(struct gyre_op *op, int32_t res, int more)
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

static void polled(struct gyre_op *op, int32_t res, int more)
{
    const int cancelled = (op->flags & GYRE__OP_CANCELLED) != 0;

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
    if (cancelled && is_interrupt(res)) {
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

static void poll_event(struct gyre_op *op, int32_t res, int more)
{
    const uint16_t leaving = GYRE__OP_ENDING | GYRE__OP_CANCELLED | GYRE__OP_PAUSING;

    if (!more) {
        op->flags &= (uint16_t)~GYRE__OP_POLLING;
    }
    if (res > 0) {
        op->fd->ready |= GYRE__DIR_IN;
        op->fd->ready |= res & (POLLRDHUP | POLLHUP | POLLERR) ? GYRE__READY_END : 0;
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

static void complete(struct gyre_op *op, const struct gyre__cqe *cqe)
{
    const int more = (cqe->flags & IORING_CQE_F_MORE) != 0;

    if (op->flags & GYRE__OP_POLLING) {
        poll_event(op, cqe->res, more);
        return;
    }
    gyre_assert(op->state == GYRE__OP_ARMED);
    if (!more && (op->flags & GYRE__OP_PAUSING)) {
        gyre__list_remove(&op->link); /* if its cancel was still waiting for the queue */
    }
    switch (op->kind) {
    case GYRE_OP_RECV_LEASE:
        gyre__uring_received(op, cqe);
        break;
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

static void uring_dispatch(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    const uint32_t count = uring->taken;

    loop->stats.cqes += count;
    for (uint32_t i = 0; i < count; i++) {
        const struct gyre__cqe *cqe = &uring->batch[i];
        struct gyre_op *op = gyre__slots_find(&loop->slots, cqe->user_data);

        if (op != NULL) {
            complete(op, cqe);
            gyre__op_settle(loop);
            continue;
        }
        loop->stats.stale += cqe->user_data != GYRE__NAME_NONE;
        if (cqe->flags & IORING_CQE_F_BUFFER) {
            gyre__bufring_take(&uring->bufring, &loop->pool, cqe, NULL, NULL);
        }
    }
    uring->taken = 0;
}

/* ---- waiting ---- */

static uint64_t timeout_of(uint64_t deadline_ns)
{
    uint64_t now;

    if (deadline_ns == 0 || deadline_ns == UINT64_MAX) {
        return deadline_ns;
    }
    now = gyre__clock_now();
    return deadline_ns > now ? deadline_ns - now : 0;
}

static int enter(struct gyre_loop *loop, struct gyre__uring *uring, uint64_t deadline_ns)
{
    int rc;

    loop->stats.overflows += (uint64_t)gyre__ring_overflowed(&uring->ring);
    loop->stats.enters++;
    loop->stats.syscalls++;
    rc = gyre__ring_enter(&uring->ring, timeout_of(deadline_ns));
    switch (rc) {
    case 0:
    case -ETIME:
    case -EINTR:
    case -EAGAIN: /* no memory for requests now: reap, then try again */
    case -EBUSY:  /* the completion queue has overflowed: reap first */
        return 0;
    case -EBADR:
        return GYRE_ELOST;
    default:
        return rc;
    }
}

static int uring_wait(struct gyre_loop *loop, uint64_t deadline_ns)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    int rc = 0;

    if (uring->taken > 0) {
        return 0;
    }
    submit_late_cancels(uring);
    if (uring->bufring.ring != NULL) {
        gyre__bufring_fill(&uring->bufring, &loop->pool);
    }
    if (deadline_ns != 0 || gyre__ring_unsubmitted(&uring->ring) > 0 ||
        gyre__ring_pending(&uring->ring)) {
        rc = enter(loop, uring, deadline_ns);
    }
    uring->taken = gyre__ring_take(&uring->ring, uring->batch, BATCH_MAX);
    return rc;
}

static int uring_peek(struct gyre_loop *loop)
{
    const struct gyre__uring *uring = gyre__uring_of(loop);

    return uring->taken > 0 || gyre__ring_unsubmitted(&uring->ring) > 0 ||
           gyre__ring_pending(&uring->ring);
}

static void uring_forget(struct gyre_fd *fd)
{
    (void)fd; /* io_uring knows operations, not descriptors */
}

static int uring_pollable(const struct gyre_loop *loop)
{
    return gyre__uring_of(loop)->ring.uring.ring_fd;
}

static void uring_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info)
{
    const struct gyre__uring *uring = gyre__uring_of(loop);

    out_info->features = uring->features;
    memcpy(out_info->feature_why, uring->why, sizeof(uring->why));
    out_info->sq_entries = uring->ring.uring.sq.ring_entries;
    out_info->cq_entries = uring->ring.uring.cq.ring_entries;
}

const struct gyre__backend gyre__uring_backend = {
    .id = GYRE_BACKEND_URING,
    .name = "uring",
    .init = uring_init,
    .fini = uring_fini,
    .arm = uring_arm,
    .resume = uring_resume,
    .cancel = gyre__uring_cancel,
    .wait = uring_wait,
    .dispatch = uring_dispatch,
    .peek = uring_peek,
    .forget = uring_forget,
    .pollable = uring_pollable,
    .info = uring_info,
};
