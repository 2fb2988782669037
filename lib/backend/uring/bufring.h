/* The kernel's ring of receive buffers, fed with blocks of the pool. See bufring.c. */
#ifndef GYRE_URING_BUFRING_H
#define GYRE_URING_BUFRING_H

#include "backend/uring/ring.h"
#include "base/assert.h"
#include "base/rare.h"
#include "core/pool.h"

#define GYRE__BUFFER_GROUP 0 /* one group serves all connections of a loop */

struct gyre__bufring {
    struct io_uring_buf_ring *ring; /* NULL: none registered */
    size_t mapped;
    uint32_t mask;
    uint16_t tail;
    uint8_t incremental;
};

/* Returns 0 or why the kernel refused. */
int gyre__bufring_init(struct gyre__bufring *bufring, struct gyre__ring *ring,
                       struct gyre__pool *pool, int incremental);
void gyre__bufring_fini(struct gyre__bufring *bufring);

/* Hand free blocks to the kernel. */
void gyre__bufring_fill(struct gyre__bufring *bufring, struct gyre__pool *pool);

/* The kernel is done with a buffer, in which there are @len bytes. */
GYRE__APART void gyre__bufring_done(const struct gyre__bufring *bufring, struct gyre__pool *pool,
                                    uint32_t number, uint32_t len);

/* Where in the block the data is. */
static inline size_t gyre__bufring_place(const struct gyre__bufring *bufring,
                                         struct gyre__block *block, uint32_t chunk, uint32_t len)
{
    const size_t offset = bufring->incremental ? block->used : (size_t)chunk * block->chunk_len;

    block->used += len;
    return offset;
}

/* Take a completion's buffer: a lease if it holds data and its owner is known. 1 if leased. */
static inline int gyre__bufring_take(struct gyre__bufring *bufring, struct gyre__pool *pool,
                                     const struct gyre__cqe *cqe, struct gyre_fd *owner,
                                     struct gyre_lease *out_lease)
{
    const uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    const uint32_t number = id / GYRE__POOL_CHUNKS_MAX;
    const uint32_t len = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    struct gyre__block *block = &pool->table[number];
    const int leased = owner != NULL && len > 0;
    size_t offset;

    gyre_assert(number < pool->total && block->place == GYRE__BLOCK_DRIVER);
    offset = gyre__bufring_place(bufring, block, id % GYRE__POOL_CHUNKS_MAX, len);
    if (leased) {
        gyre_assert(offset + len <= pool->block_len);
        gyre__pool_lend(owner, number, gyre__pool_at(pool, number, offset), len, out_lease);
    }
    if (!bufring->incremental || !(cqe->flags & GYRE__CQE_F_BUF_MORE)) {
        gyre__bufring_done(bufring, pool, number, len);
    }
    return leased;
}

#endif
