/* The io_uring driver's insides, shared by its files. */
#ifndef GYRE_URING_DRIVER_H
#define GYRE_URING_DRIVER_H

#include "backend/uring/bufring.h"
#include "backend/uring/ring.h"
#include "core/op.h"

#include <errno.h>

extern const struct gyre__backend gyre__uring_backend;

/* Why the driver's init() said GYRE_ENOURING last on this thread, in words. */
const char *gyre__uring_refusal(void);

enum {
    BATCH_MAX = 1024, /* completions taken out per turn, 16 KiB; the rest takes another turn */
};

struct gyre__uring {
    struct gyre__ring ring;
    struct gyre__bufring bufring;
    uint32_t features; /* GYRE_FEATURE_* in use */
    const char *why[GYRE_FEATURE_COUNT];
    struct gyre_link cancels; /* ops whose cancel found the submission queue full */
    struct gyre_link missed;  /* ops whose cancel the kernel could not place */
    struct gyre_alarm again;  /* when those are cancelled again */
    int event_number;         /* readable when the ring has work, for another event loop, or -1 */
    uint64_t slack_ns;        /* how much later than asked for a wait may end */
    uint32_t taken;           /* completions in the batch that were not dispatched */
    uint8_t idle;             /* since the last completion there was a moment with none to take */
    uint32_t doubt_count;
    struct gyre_fd *silent_fd; /* on which a send is silent, or NULL; see silent.c */
    struct gyre__silent silent;
    uint32_t silent_tail; /* of the submission queue behind it */
    uint32_t silent_mark; /* of the completion queue: its completion, if any, stands before that */
    uint8_t silent_marked;
    uint8_t silent_known; /* it is over: silent_res */
    int32_t silent_res;
    struct gyre__cqe batch[BATCH_MAX];
    uint64_t doubts[BATCH_MAX]; /* receives that may hide a reset, by name */
};

static inline struct gyre__uring *gyre__uring_of(const struct gyre_loop *loop)
{
    return loop->driver;
}

static inline int gyre__uring_has(const struct gyre__uring *uring, enum gyre_feature feature)
{
    return (uring->features & feature) != 0;
}

/* 512 is ERESTARTSYS, the kernel's own code for "interrupted", which leaks at times. */
static inline int gyre__uring_is_interrupt(int32_t res)
{
    return res == -EINTR || res == -512;
}

/* The driver's part of the core (core/backend.h), as far as it is not in driver.c. */
int gyre__uring_init(struct gyre_loop *loop, const struct gyre_loop_options *options);
void gyre__uring_fini(struct gyre_loop *loop);
int gyre__uring_pollable(struct gyre_loop *loop);
void gyre__uring_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info);
void gyre__uring_arm(struct gyre_op *op);
void gyre__uring_resume(struct gyre_op *op);

/* Describe an ARMED operation to the kernel; if the queue cannot take it, it gets another turn. */
void gyre__uring_submit(struct gyre_op *op);

/* Let the kernel poll for an ARMED operation; a multishot receive is polled for until it is
 * ended. */
void gyre__uring_poll_for(struct gyre_op *op);

/* Ask the kernel to end an ARMED operation. Never dropped. */
void gyre__uring_cancel(struct gyre_op *op);

/* In the name of a cancel's own completion, which comes only if it failed: (slot, generation) is that
 * of its target. Slots need fewer bits. */
#define GYRE__CANCEL_TAG (UINT64_C(1) << 31)

/* The kernel did not find what was to be cancelled. If it still has it, ask again in a moment. */
void gyre__uring_cancel_failed(struct gyre_loop *loop, uint64_t name);

void gyre__uring_submit_late_cancels(struct gyre__uring *uring);

/* The name of the send that posts a completion only when it fails. */
#define GYRE__NAME_SILENT (UINT64_C(1) << 30)

/* silent.c: begin; submit it now; whether the loop must not sleep; a batch has been taken; tell. */
int gyre__uring_send_silently(struct gyre_fd *fd, const struct gyre__silent *silent);
void gyre__uring_submit_silent(struct gyre_loop *loop);
int gyre__uring_must_tell(const struct gyre__uring *uring);
void gyre__uring_learn_silent(struct gyre__uring *uring);
void gyre__uring_tell_silent(struct gyre_loop *loop);

/* An entry named @name, or NULL if the queue is full and the kernel takes nothing now. */
struct io_uring_sqe *gyre__uring_entry(struct gyre_loop *loop, uint64_t name);

/* Whether the kernel serves an operation until it ends, as the caller wishes. */
int gyre__uring_is_multishot(struct gyre_op *op);

static inline int gyre__uring_is_send(const struct gyre_op *op)
{
    return op->kind == GYRE_OP_SEND || op->kind == GYRE_OP_SENDMSG;
}

/* A multishot that the kernel ended goes on: counted where the kernel could have gone on. */
void gyre__uring_count_rearm(struct gyre_op *op);

/*
 * recv_lease, see receive.c: begin; go on in dispatch; receive what is there; go on after the
 * kernel let go of it; a completion; before the ring is entered; a send where a reset may be hidden.
 */
void gyre__uring_recv_arm(struct gyre_op *op);
void gyre__uring_recv_resume(struct gyre_op *op);
void gyre__uring_receive_direct(struct gyre_op *op);
void gyre__uring_recv_go_on(struct gyre_op *op);
void gyre__uring_received(struct gyre_op *op, const struct gyre__cqe *cqe);
void gyre__uring_settle_doubts(struct gyre_loop *loop);
void gyre__uring_sent_in_doubt(struct gyre_fd *fd, size_t len, int32_t res);

#endif
