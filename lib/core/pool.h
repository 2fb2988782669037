/* The receive pool: where received bytes are kept and who holds them. See pool.c. */
#ifndef GYRE_CORE_POOL_H
#define GYRE_CORE_POOL_H

#include "base/assert.h"

#include <gyre/loop.h>

/* A buffer of the kernel's ring has a 16 bit number: 10 bits for the block, 5 for the chunk. */
#define GYRE__POOL_BLOCKS_MAX 1024
#define GYRE__POOL_CHUNKS_MAX 32
#define GYRE__BLOCK_NONE      UINT32_MAX

enum gyre__block_place { GYRE__BLOCK_FREE, GYRE__BLOCK_DRIVER, GYRE__BLOCK_LENT };

struct gyre__block {
    uint32_t leases; /* slices handed out and not given back */
    uint32_t chunks; /* pieces that the driver may still fill */
    uint32_t used;   /* bytes filled, when filled bit by bit */
    uint32_t chunk_len;
    uint32_t next_free;
    uint32_t place;
};

struct gyre__pool {
    uint8_t *memory;
    struct gyre__block *table;
    uint32_t block_len;
    uint32_t min;
    uint32_t max;
    uint32_t total;                       /* blocks in use: the first so many */
    uint32_t count[GYRE__BLOCK_LENT + 1]; /* blocks in each place; the sum is total */
    uint32_t first_free;  /* of the first `min` blocks, the one that came back last */
    uint32_t first_spare; /* of those that the load has added */
    uint32_t current;     /* the block that direct receives fill, or GYRE__BLOCK_NONE */
    uint32_t quota;
    uint32_t leases; /* retained and not released */
    uint32_t copied; /* of these, out of their block */
    uint32_t chunk_len;
    uint32_t votes;
    uint32_t votes_full;
    uint64_t votes_bytes;
    uint32_t spare_turns;
    uint32_t starved_count;
    uint32_t held_count;      /* ops that wait until less is retained of their descriptor */
    uint16_t first_average;   /* of what descriptors get first, in units of GYRE__AVERAGE_UNIT */
    struct gyre_link starved; /* ops that wait for a block, in order of arrival */
};

int gyre__pool_init(struct gyre__pool *pool, const struct gyre_loop_options *options);
void gyre__pool_fini(struct gyre__pool *pool);

/* Cut blocks into pieces of a length that follows what arrives; otherwise a block is one piece. */
void gyre__pool_use_chunks(struct gyre__pool *pool);

/* Give a free block to the driver, or return GYRE__BLOCK_NONE. */
uint32_t gyre__pool_take(struct gyre__pool *pool, int may_grow);

/* Lend bytes of a block that the driver has, to @owner; ended by gyre__pool_unlend(). */
void gyre__pool_lend(struct gyre_fd *owner, uint32_t block, uint8_t *data, size_t len,
                     struct gyre_lease *out_lease);
void gyre__pool_free_block(struct gyre__pool *pool, uint32_t block);

/* Lend bytes that lie elsewhere, copied, to @owner; ended by gyre_lease_release(). Returns 0 or
 * -ENOMEM. */
int gyre__pool_lend_copied(struct gyre_fd *owner, const uint8_t *data, size_t len,
                           struct gyre_lease *out_lease);

static inline void gyre__pool_unlend(struct gyre__pool *pool, uint32_t block)
{
    struct gyre__block *entry = &pool->table[block];

    gyre_assert(block < pool->total && entry->leases > 0 && entry->place != GYRE__BLOCK_FREE);
    entry->leases--;
    if (entry->leases == 0 && entry->place == GYRE__BLOCK_LENT) {
        gyre__pool_free_block(pool, block);
    }
}

/* The driver is done with one piece of a block. */
void gyre__pool_chunk_done(struct gyre__pool *pool, uint32_t block);

/* The block that direct receives fill, with at least half of it empty; GYRE__BLOCK_NONE: none
 * free. */
uint32_t gyre__pool_current(struct gyre__pool *pool);

/* A piece of @chunk_len came back with @len bytes in it: choose the length of pieces to come. */
void gyre__pool_vote(struct gyre__pool *pool, uint32_t chunk_len, uint32_t len);

/* Once a turn: after a long rest, give back what the load does not need. */
void gyre__pool_rest(struct gyre__pool *pool);

static inline uint8_t *gyre__pool_at(const struct gyre__pool *pool, uint32_t block, size_t offset)
{
    return pool->memory + (size_t)block * pool->block_len + offset;
}

/* Whether no more than a quarter of the largest pool is left. The block filled directly is as good as
 * lent if leases hold it: it will be when it is full. */
static inline int gyre__pool_is_short(const struct gyre__pool *pool)
{
    const uint32_t held =
        pool->current != GYRE__BLOCK_NONE && pool->table[pool->current].leases != 0;

    return 4 * (pool->max - pool->count[GYRE__BLOCK_LENT] - held) <= pool->max;
}

/* Whether a receive waits for what is lent to come back. */
static inline int gyre__pool_is_awaited(const struct gyre__pool *pool)
{
    return pool->starved_count + pool->held_count > 0;
}

/* Blocks in the kernel's ring of buffers: those with the driver, but for the one filled
 * directly. */
static inline uint32_t gyre__pool_in_ring(const struct gyre__pool *pool)
{
    return pool->count[GYRE__BLOCK_DRIVER] - (pool->current != GYRE__BLOCK_NONE);
}

/* Whether a direct receive finds a block: one is being filled, is free, or can be had. */
static inline int gyre__pool_has_direct_room(const struct gyre__pool *pool)
{
    return pool->current != GYRE__BLOCK_NONE || pool->count[GYRE__BLOCK_FREE] != 0 ||
           pool->total < pool->max;
}

/* For how many bytes there is room for receives that starve, one way or the other; about. The pool
 * grows for them block by block, and only when all that it has is lent. */
static inline size_t gyre__pool_room(const struct gyre__pool *pool)
{
    const size_t blocks = pool->count[GYRE__BLOCK_FREE] + pool->count[GYRE__BLOCK_DRIVER];

    return (blocks > 0 ? blocks : pool->total < pool->max) * pool->block_len;
}

#endif
