/*
 * The kernel takes receive buffers from a ring in shared memory, in order, when data is there: an
 * armed receive holds none. A buffer's number is (block, chunk).
 *
 *     incremental (Linux 6.12)   one buffer a block; the kernel packs receives one behind another
 *                                and says with BUF_MORE that the block goes on. The place of a
 *                                slice is the sum of what came before it, in completion order: so
 *                                every completion that names a buffer must be counted here, even
 *                                one whose operation is gone.
 *     otherwise                  a block is cut into chunks, each filled once.
 */
#include "backend/uring/bufring.h"

#include "base/assert.h"
#include "base/bits.h"
#include "base/sys.h"

#include <errno.h>
#include <sys/mman.h>

static int map_ring(struct gyre__bufring *bufring, uint32_t entries)
{
    void *memory;

    bufring->mapped = entries * sizeof(struct io_uring_buf);
    memory = gyre__sys_mmap(NULL, bufring->mapped, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return -ENOMEM;
    }
    gyre__sys_madvise(memory, bufring->mapped, MADV_DONTFORK);
    bufring->ring = memory;
    bufring->mask = entries - 1;
    return 0;
}

int gyre__bufring_init(struct gyre__bufring *bufring, struct gyre__ring *ring,
                       struct gyre__pool *pool, int incremental)
{
    const uint32_t chunks = incremental ? 1 : GYRE__POOL_CHUNKS_MAX;
    const uint32_t entries = gyre__power_of_two(pool->max * chunks);
    struct gyre__buf_reg registration = {.ring_entries = entries, .bgid = GYRE__BUFFER_GROUP};
    int rc = map_ring(bufring, entries);

    if (rc < 0) {
        return rc;
    }
    registration.ring_addr = (uint64_t)(uintptr_t)bufring->ring;
    registration.flags = incremental ? GYRE__PBUF_RING_INC : 0;
    rc = gyre__sys_io_uring_register_buf_ring(&ring->uring,
                                              (struct io_uring_buf_reg *)&registration, 0);
    if (rc < 0) {
        gyre__bufring_fini(bufring);
        return rc;
    }
    bufring->tail = 0;
    bufring->incremental = (uint8_t)incremental;
    if (!incremental) {
        gyre__pool_use_chunks(pool);
    }
    gyre__bufring_fill(bufring, pool);
    return 0;
}

/* The ring that knows the buffers has been closed before. */
void gyre__bufring_fini(struct gyre__bufring *bufring)
{
    if (bufring->ring != NULL) {
        gyre__sys_munmap(bufring->ring, bufring->mapped);
        bufring->ring = NULL;
    }
}

static void publish_block(struct gyre__bufring *bufring, const struct gyre__pool *pool,
                          uint32_t block)
{
    const struct gyre__block *entry = &pool->table[block];

    for (uint32_t chunk = 0; chunk < entry->chunks; chunk++) {
        struct io_uring_buf *buffer = &bufring->ring->bufs[bufring->tail++ & bufring->mask];

        buffer->addr = (uint64_t)(uintptr_t)gyre__pool_at(pool, block, chunk * entry->chunk_len);
        buffer->len = entry->chunk_len;
        buffer->bid = (uint16_t)(block * GYRE__POOL_CHUNKS_MAX + chunk);
    }
}

void gyre__bufring_fill(struct gyre__bufring *bufring, struct gyre__pool *pool)
{
    /* What the pool has at rest; but where bulk data is received directly, that finds one too. */
    const uint32_t target = bufring->incremental ? pool->min : pool->min - 1;
    const uint16_t before = bufring->tail;

    while (gyre__pool_in_ring(pool) < target) {
        /* Grow only when the kernel has nothing left: what is lent comes back soon, as a rule. */
        const uint32_t block = gyre__pool_take(pool, gyre__pool_in_ring(pool) == 0);

        if (block == GYRE__BLOCK_NONE) {
            break;
        }
        publish_block(bufring, pool, block);
    }
    if (bufring->tail != before) {
        /* Release: the entries before the tail that makes them the kernel's. */
        __atomic_store_n(&bufring->ring->tail, bufring->tail, __ATOMIC_RELEASE);
    }
}

/* The kernel is done with a buffer, in which there are @len bytes. */
void gyre__bufring_done(const struct gyre__bufring *bufring, struct gyre__pool *pool,
                        uint32_t number, uint32_t len)
{
    if (!bufring->incremental) {
        gyre__pool_vote(pool, pool->table[number].chunk_len, len);
    }
    gyre__pool_chunk_done(pool, number);
}
