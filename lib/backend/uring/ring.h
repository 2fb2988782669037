/* The ring itself: submission entries, one system call, completion entries. See ring.c. */
#ifndef GYRE_URING_RING_H
#define GYRE_URING_RING_H

#include "core/uring_abi.h"

#include <gyre/loop.h>

/* How the ring is entered: submission is deferred to the loop's own wait. */
#define GYRE__RING_FLAGS                                                  \
    (IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | \
     IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN)

/* A completion, taken out of the queue. */
struct gyre__cqe {
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct gyre__ring {
    struct io_uring uring; /* liburing's mapping of the queues */
    uint32_t features;     /* IORING_FEAT_* */
    uint32_t enter_flags;
    int enter_number;  /* descriptor, or index if registered */
    uint32_t sqe_tail; /* entries handed out */
    uint64_t enters;
};

/* Returns 0 or the error of io_uring_setup(2) or of mapping the queues. */
int gyre__ring_init(struct gyre__ring *ring, uint32_t sq_entries, uint32_t cq_entries);
void gyre__ring_fini(struct gyre__ring *ring);

/* Enter by index instead of by descriptor. Returns 0 or an error, and the descriptor serves. */
int gyre__ring_register(struct gyre__ring *ring);

/* A zeroed entry, or NULL when the queue is full. */
struct io_uring_sqe *gyre__ring_sqe(struct gyre__ring *ring);

/* Entries handed out and not consumed by the kernel. */
uint32_t gyre__ring_unsubmitted(const struct gyre__ring *ring);

/* Completions to take, and whether entering would bring some. */
uint32_t gyre__ring_completions(const struct gyre__ring *ring);
int gyre__ring_pending(const struct gyre__ring *ring);
int gyre__ring_overflowed(const struct gyre__ring *ring);

/* Submit everything without waiting or reaping. Returns 0 or an error. */
int gyre__ring_submit(struct gyre__ring *ring);

/* Submit everything and reap; wait up to @timeout_ns (0: not; UINT64_MAX: for ever). */
int gyre__ring_enter(struct gyre__ring *ring, uint64_t timeout_ns);

/* Reap without submitting or waiting. */
void gyre__ring_reap(struct gyre__ring *ring);

/* Take out at most @max completions. */
uint32_t gyre__ring_take(struct gyre__ring *ring, struct gyre__cqe *out_cqes, uint32_t max);

#endif
