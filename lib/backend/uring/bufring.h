/* The kernel's ring of receive buffers, fed with blocks of the pool. See bufring.c. */
#ifndef GYRE_URING_BUFRING_H
#define GYRE_URING_BUFRING_H

#include "backend/uring/ring.h"
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

/* Take a completion's buffer: a lease if it holds data and its owner is known. 1 if leased. */
int gyre__bufring_take(struct gyre__bufring *bufring, struct gyre__pool *pool,
                       const struct gyre__cqe *cqe, struct gyre_fd *owner,
                       struct gyre_lease *out_lease);

#endif
