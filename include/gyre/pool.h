/*
 * Received data is lent, not copied. Each loop has one receive pool: a few large blocks that the
 * kernel (io_uring buffer ring) or the loop (epoll) fills one after another. What arrives is handed
 * to the callback as a lease: a slice of a block. The slice is valid during the callback, or, when
 * retained, until released. A block goes back when its last lease is released.
 *
 * An idle connection holds no buffer. A connection that holds more than its quota is not read from
 * until it lets go; one that finds the pool empty waits on a fair list. The caller never sees
 * either: no -ENOBUFS reaches a callback.
 */
#ifndef GYRE_POOL_H
#define GYRE_POOL_H

#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

struct gyre_loop;

/**
 * struct gyre_lease - bytes on loan from the loop's receive pool.
 * @data: the bytes, writable by the holder.  @len: how many.
 * Ownership: see gyre_lease_retain(). The other fields are private. A struct of zeroes is a lease
 * of nothing; releasing it does nothing.   Thread: the loop's.   Returns: (a type).
 * Source: docs/pool.md.
 */
struct gyre_lease {
    uint8_t *data;
    size_t len;
    struct gyre_loop *loop;
    void *copy;
    uint32_t block;
    uint32_t held;
    uint32_t owner_slot;
    uint32_t owner_generation;
};

/**
 * gyre_lease_retain() - keep received bytes beyond the callback.
 * @lent: the lease of the result that the callback got, or any held lease.
 * @out_lease: set to a lease of the same bytes that the caller must release. While the pool is
 *             short of blocks, small leases are copied to memory of their own, so that a slow
 *             reader pins what it holds and not whole blocks: use @out_lease->data from now on.
 * Returns: 0, -EINVAL (NULL, or a lease of nothing). Nothing else fails: if there is no memory for
 *          the copy, the block is pinned.
 * Ownership: one release for each retain.   Thread: loop thread only.
 * Limits: the connection's quota (gyre_loop_options.pool_quota) stops its reading, not this call.
 * Source: docs/pool.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_lease_retain(const struct gyre_lease *lent,
                                               struct gyre_lease *out_lease);

/**
 * gyre_lease_release() - give retained bytes back; @lease becomes a lease of nothing.
 * @lease: retained, or a lease of nothing. The order of releases does not matter.
 * Returns: nothing.   Thread: loop thread only (asserted).
 * Source: docs/pool.md.
 */
GYRE_API void gyre_lease_release(struct gyre_lease *lease);

/**
 * struct gyre_pool_stats - where the blocks are; free + lent + in_kernel == total, always.
 * @total: blocks in use by the pool.  @free: nobody holds them.  @in_kernel: handed to the kernel
 * (or, on epoll, the one being filled).  @lent: held by leases only.  @leases: retained leases
 * outstanding.  @copied: of these, copied out of their block.  @starved: connections waiting for a
 * block now.  @block_len: bytes in a block.  @chunk_len: bytes in one buffer of the ring; less than
 * @block_len where the kernel cannot consume buffers incrementally.
 * Returns: (a type).   Thread: the loop's.   Source: docs/pool.md.
 */
struct gyre_pool_stats {
    uint32_t total;
    uint32_t free;
    uint32_t in_kernel;
    uint32_t lent;
    uint32_t leases;
    uint32_t copied;
    uint32_t starved;
    uint32_t block_len;
    uint32_t chunk_len;
};

/**
 * gyre_loop_pool_stats() - read the state of a loop's receive pool.
 * @loop: the loop.  @out_stats: filled in.
 * Returns: 0, -EINVAL, GYRE_ETHREAD, GYRE_EFORK.   Thread: loop thread only.
 * Source: docs/pool.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_loop_pool_stats(const struct gyre_loop *loop,
                                                  struct gyre_pool_stats *out_stats);

GYRE_END

#endif
