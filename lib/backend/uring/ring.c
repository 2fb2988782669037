/*
 * The queues and the one system call. liburing maps the queues; entering is our own, because it is
 * where the time goes: one io_uring_enter submits, waits and reaps, always with GETEVENTS, since
 * under DEFER_TASKRUN completions are produced nowhere else.
 *
 * The queue heads and tails are shared with the kernel: what we publish is stored with release (the
 * entries before the tail), what the kernel publishes is loaded with acquire (the tail before the
 * entries).
 */
#include "backend/uring/ring.h"

#include "base/assert.h"
#include "base/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

static uint32_t load_acquire(const unsigned *shared)
{
    return __atomic_load_n(shared, __ATOMIC_ACQUIRE);
}

static void store_release(unsigned *shared, uint32_t value)
{
    __atomic_store_n(shared, value, __ATOMIC_RELEASE);
}

_Static_assert(sizeof(struct gyre__cqe) == sizeof(struct io_uring_cqe) &&
                   offsetof(struct gyre__cqe, res) == offsetof(struct io_uring_cqe, res) &&
                   offsetof(struct gyre__cqe, flags) == offsetof(struct io_uring_cqe, flags),
               "completions are copied as they are");

int gyre__ring_init(struct gyre__ring *ring, uint32_t sq_entries, uint32_t cq_entries)
{
    struct io_uring_params params = {.flags = GYRE__RING_FLAGS, .cq_entries = cq_entries};
    const int rc = gyre__sys_io_uring_queue_init_params(sq_entries, &ring->uring, &params);

    if (rc < 0) {
        return rc;
    }
    gyre__sys_io_uring_ring_dontfork(&ring->uring); /* a forked child must not touch the queues */
    ring->features = params.features;
    ring->enter_number = ring->uring.ring_fd;
    ring->enter_flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    ring->sqe_tail = *ring->uring.sq.ktail;
    /* Entry i always stands at index i. Newer liburing may have no index array at all. */
    if (ring->uring.sq.array != NULL) {
        for (uint32_t i = 0; i < ring->uring.sq.ring_entries; i++) {
            ring->uring.sq.array[i] = i;
        }
    }
    return 0;
}

void gyre__ring_fini(struct gyre__ring *ring)
{
    gyre__sys_io_uring_queue_exit(&ring->uring);
}

int gyre__ring_register(struct gyre__ring *ring)
{
    const int rc = gyre__sys_io_uring_register_ring_fd(&ring->uring);

    if (rc < 0) {
        return rc;
    }
    ring->enter_number = ring->uring.enter_ring_fd;
    ring->enter_flags |= IORING_ENTER_REGISTERED_RING;
    return 0;
}

uint32_t gyre__ring_unsubmitted(const struct gyre__ring *ring)
{
    return ring->sqe_tail - load_acquire(ring->uring.sq.khead);
}

struct io_uring_sqe *gyre__ring_sqe(struct gyre__ring *ring)
{
    struct io_uring_sqe *sqe;

    if (gyre__ring_unsubmitted(ring) >= ring->uring.sq.ring_entries) {
        return NULL;
    }
    sqe = &ring->uring.sq.sqes[ring->sqe_tail++ & ring->uring.sq.ring_mask];
    memset(sqe, 0, sizeof(*sqe));
    return sqe;
}

uint32_t gyre__ring_completions(const struct gyre__ring *ring)
{
    return load_acquire(ring->uring.cq.ktail) - *ring->uring.cq.khead;
}

int gyre__ring_overflowed(const struct gyre__ring *ring)
{
    return (__atomic_load_n(ring->uring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW) != 0;
}

int gyre__ring_pending(const struct gyre__ring *ring)
{
    const uint32_t flags = __atomic_load_n(ring->uring.sq.kflags, __ATOMIC_RELAXED);

    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0 ||
           gyre__ring_completions(ring) > 0;
}

int gyre__ring_submit(struct gyre__ring *ring)
{
    const uint32_t count = gyre__ring_unsubmitted(ring);
    int rc;

    store_release(ring->uring.sq.ktail, ring->sqe_tail);
    ring->enters++;
    rc = gyre__sys_io_uring_enter2((unsigned)ring->enter_number, count, 0,
                                   ring->enter_flags & IORING_ENTER_REGISTERED_RING, NULL, 0);
    return rc < 0 ? rc : 0;
}

int gyre__ring_enter(struct gyre__ring *ring, uint64_t timeout_ns)
{
    struct __kernel_timespec span = {.tv_sec = (long long)(timeout_ns / GYRE_SEC),
                                     .tv_nsec = (long long)(timeout_ns % GYRE_SEC)};
    struct io_uring_getevents_arg argument = {
        .ts = timeout_ns == 0 || timeout_ns == UINT64_MAX ? 0 : (uint64_t)(uintptr_t)&span,
    };
    const uint32_t count = gyre__ring_unsubmitted(ring);
    int rc;

    store_release(ring->uring.sq.ktail, ring->sqe_tail);
    ring->enters++;
    rc = gyre__sys_io_uring_enter2((unsigned)ring->enter_number, count, timeout_ns == 0 ? 0 : 1,
                                   ring->enter_flags, (void *)&argument, sizeof(argument));
    return rc < 0 ? rc : 0;
}

void gyre__ring_reap(struct gyre__ring *ring)
{
    const uint32_t flags =
        ring->enter_flags & (IORING_ENTER_REGISTERED_RING | IORING_ENTER_GETEVENTS);

    ring->enters++;
    if (gyre__sys_io_uring_enter2((unsigned)ring->enter_number, 0, 0, flags, NULL, 0) < 0) {
        return; /* the next turn sees why */
    }
}

uint32_t gyre__ring_take(struct gyre__ring *ring, struct gyre__cqe *out_cqes, uint32_t max)
{
    const uint32_t head = *ring->uring.cq.khead;
    const uint32_t ready = gyre__ring_completions(ring);
    const uint32_t count = ready < max ? ready : max;
    const uint32_t at = head & ring->uring.cq.ring_mask;
    const uint32_t to_end = ring->uring.cq.ring_entries - at;
    const uint32_t until_wrap = count < to_end ? count : to_end;

    memcpy(out_cqes, &ring->uring.cq.cqes[at], until_wrap * sizeof(*out_cqes));
    memcpy(out_cqes + until_wrap, ring->uring.cq.cqes, (count - until_wrap) * sizeof(*out_cqes));
    store_release(ring->uring.cq.khead, head + count);
    return count;
}
