/*
 * The receive pool.
 *
 * One mapping is reserved for the largest pool; its first `total` blocks are in use. Every block is
 * in one of three places, and free + driver + lent == total:
 *
 *     FREE --take()--> DRIVER --chunk_done() of the last piece--> LENT --last lease given back-->
 *     FREE
 *                      (parts of it may be lent already)          (skipped when nothing is lent)
 *
 * A driver that fills bit by bit has one piece a block and moves the fill mark `used`. One that
 * cannot (buffer rings before Linux 6.12) has the block cut into equal pieces, each filled once.
 * The length of pieces follows what arrives: received sizes vote, and blocks taken later are cut
 * anew, so that small messages do not walk through megabytes and large ones are not cut into
 * crumbs.
 *
 * Free blocks are used last in, first out: the block given back last is still in the cache.
 *
 * The pool grows by a block when the driver has none, none is free and the maximum is not reached.
 * Blocks beyond the minimum go back to the system when they have been spare for long.
 *
 * A lease pins its whole block, even if it is 60 bytes of 64 KiB. So when no more than a
 * quarter of the largest pool is left, retaining a small lease copies it out.
 */
#include "core/pool.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/poison.h"
#include "base/sys.h"
#include "core/loop.h"
#include "core/op.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
    DEFAULT_MIN = 1 << 20,
    DEFAULT_MAX = 16 << 20,
    /* Few large blocks: messages are split at the end of one, and a larger block has fewer ends. */
    DEFAULT_BLOCK = 256 << 10,
    DEFAULT_QUOTA = 256 << 10,
    BLOCK_LEAST = 4 << 10,
    BLOCK_MOST = 1 << 20,
    CHUNK_FIRST = 4 << 10, /* before anything is known: a page */
    VOTES = 64,            /* receives between two decisions on the length of pieces */
    SPARE_TURNS = 4096,    /* with more free than lent, before a block is given back */
    SMALL_SHARE = 8,       /* less than 1/8 of a block is a small lease */
};

/* A lease copied out of its block; the bytes follow. */
struct copy {
    uint32_t holders;
    uint32_t len;
    uint8_t bytes[];
};

/* ---- sizes ---- */

static int check_sizes(struct gyre__pool *pool, const struct gyre_loop_options *options)
{
    const size_t block = options->pool_block != 0 ? options->pool_block : DEFAULT_BLOCK;
    const size_t least = 2 * block;
    const size_t most = GYRE__POOL_BLOCKS_MAX * block;
    size_t max = options->pool_max;
    size_t min = options->pool_min;

    /* The defaults give way to what the options say. */
    if (min == 0) {
        min = DEFAULT_MIN > least ? DEFAULT_MIN : least;
        min = max != 0 && min > max ? max : min;
        min = min > most ? most : min;
    }
    if (max == 0) {
        max = DEFAULT_MAX < most ? DEFAULT_MAX : most;
        max = max < min ? min : max;
    }
    if (block < BLOCK_LEAST || block > BLOCK_MOST || (block & (block - 1)) != 0 || min > max ||
        min < least || max > most || options->pool_quota > UINT32_MAX) {
        return -EINVAL;
    }
    pool->block_len = (uint32_t)block;
    pool->min = (uint32_t)(min / block);
    pool->max = (uint32_t)(max / block);
    pool->quota = options->pool_quota != 0 ? (uint32_t)options->pool_quota : DEFAULT_QUOTA;
    return 0;
}

/* ---- places ---- */

static void move_block(struct gyre__pool *pool, uint32_t block, enum gyre__block_place to)
{
    struct gyre__block *entry = &pool->table[block];

    pool->count[entry->place]--;
    entry->place = to;
    pool->count[to]++;
    gyre_assert(pool->count[0] + pool->count[1] + pool->count[2] == pool->total);
}

/* Two lists, the last come first, since it is warm; but what the load has added is used only where the
 * rest does not suffice: or the last blocks could go round for ever, and none be given back. */
static uint32_t *free_list_of(struct gyre__pool *pool, uint32_t block)
{
    return block < pool->min ? &pool->first_free : &pool->first_spare;
}

void gyre__pool_free_block(struct gyre__pool *pool, uint32_t block)
{
    uint32_t *list = free_list_of(pool, block);

    move_block(pool, block, GYRE__BLOCK_FREE);
    pool->table[block].next_free = *list;
    *list = block;
    gyre__poison(gyre__pool_at(pool, block, 0), pool->block_len);
}

static void add_block(struct gyre__pool *pool)
{
    const uint32_t block = pool->total++;

    gyre_assert(pool->total <= pool->max);
    pool->table[block] = (struct gyre__block){.place = GYRE__BLOCK_FREE};
    pool->count[GYRE__BLOCK_FREE]++;
    gyre__pool_free_block(pool, block);
}

int gyre__pool_init(struct gyre__pool *pool, const struct gyre_loop_options *options)
{
    const int rc = check_sizes(pool, options);
    void *memory;

    if (rc < 0) {
        return rc;
    }
    pool->table = gyre__zalloc(pool->max * sizeof(*pool->table));
    if (pool->table == NULL) {
        return -ENOMEM;
    }
    /* Not accounted until touched: a loop that receives little uses little. */
    memory = gyre__sys_mmap(NULL, (size_t)pool->max * pool->block_len, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        gyre__free(pool->table);
        pool->table = NULL;
        return -ENOMEM;
    }
    pool->memory = memory;
    pool->chunk_len = pool->block_len;
    pool->first_free = GYRE__BLOCK_NONE;
    pool->first_spare = GYRE__BLOCK_NONE;
    pool->current = GYRE__BLOCK_NONE;
    gyre__list_init(&pool->starved);
    for (uint32_t i = 0; i < pool->min; i++) {
        add_block(pool);
    }
    return 0;
}

void gyre__pool_fini(struct gyre__pool *pool)
{
    if (pool->memory != NULL) {
        gyre__unpoison(pool->memory, (size_t)pool->max * pool->block_len);
        gyre__sys_munmap(pool->memory, (size_t)pool->max * pool->block_len);
    }
    gyre__free(pool->table);
    pool->memory = NULL;
    pool->table = NULL;
}

void gyre__pool_use_chunks(struct gyre__pool *pool)
{
    const uint32_t least = pool->block_len / GYRE__POOL_CHUNKS_MAX;

    pool->chunk_len = CHUNK_FIRST > least ? CHUNK_FIRST : least;
}

uint32_t gyre__pool_take(struct gyre__pool *pool, int may_grow)
{
    struct gyre__block *entry;
    uint32_t block;

    if (pool->count[GYRE__BLOCK_FREE] == 0) {
        if (!may_grow || pool->total == pool->max) {
            return GYRE__BLOCK_NONE;
        }
        add_block(pool);
    }
    block = pool->first_free != GYRE__BLOCK_NONE ? pool->first_free : pool->first_spare;
    entry = &pool->table[block];
    gyre_assert(entry->place == GYRE__BLOCK_FREE && entry->leases == 0 && entry->chunks == 0);
    *free_list_of(pool, block) = entry->next_free;
    move_block(pool, block, GYRE__BLOCK_DRIVER);
    entry->used = 0;
    entry->chunk_len = pool->chunk_len;
    entry->chunks = pool->block_len / pool->chunk_len;
    gyre__unpoison(gyre__pool_at(pool, block, 0), pool->block_len);
    return block;
}

void gyre__pool_chunk_done(struct gyre__pool *pool, uint32_t block)
{
    struct gyre__block *entry = &pool->table[block];

    gyre_assert(entry->place == GYRE__BLOCK_DRIVER && entry->chunks > 0);
    entry->chunks--;
    if (entry->chunks != 0) {
        return;
    }
    if (entry->leases != 0) {
        move_block(pool, block, GYRE__BLOCK_LENT);
    } else {
        gyre__pool_free_block(pool, block);
    }
}

uint32_t gyre__pool_current(struct gyre__pool *pool)
{
    if (pool->current != GYRE__BLOCK_NONE) {
        struct gyre__block *entry = &pool->table[pool->current];

        if (entry->leases == 0) {
            entry->used = 0;
        }
        if (entry->used <= pool->block_len / 2) {
            return pool->current;
        }
        gyre__pool_chunk_done(pool, pool->current);
    }
    pool->current = gyre__pool_take(pool, 1);
    if (pool->current != GYRE__BLOCK_NONE) { /* filled bit by bit, however the ring's are cut */
        pool->table[pool->current].chunks = 1;
        pool->table[pool->current].chunk_len = pool->block_len;
    }
    return pool->current;
}

/* ---- sizes that follow the load ---- */

void gyre__pool_vote(struct gyre__pool *pool, uint32_t chunk_len, uint32_t len)
{
    const uint32_t least = pool->block_len / GYRE__POOL_CHUNKS_MAX;

    pool->votes_full += len == chunk_len;
    pool->votes_bytes += len;
    if (++pool->votes < VOTES) {
        return;
    }
    if (pool->votes_full > VOTES / 2 && pool->chunk_len < pool->block_len) {
        pool->chunk_len *= 2;
    } else if (pool->votes_bytes / VOTES < pool->chunk_len / 4 && pool->chunk_len / 2 >= least) {
        pool->chunk_len /= 2;
    }
    pool->votes = 0;
    pool->votes_full = 0;
    pool->votes_bytes = 0;
}

/* Take the last block out of use, if it is free. */
static void drop_block(struct gyre__pool *pool)
{
    const uint32_t last = pool->total - 1;
    uint32_t *link = &pool->first_spare;

    if (pool->table[last].place != GYRE__BLOCK_FREE) {
        return;
    }
    while (*link != last) {
        link = &pool->table[*link].next_free;
    }
    *link = pool->table[last].next_free;
    pool->total--;
    pool->count[GYRE__BLOCK_FREE]--;
    gyre__sys_madvise(gyre__pool_at(pool, last, 0), pool->block_len, MADV_DONTNEED);
}

/* Give up the block that is filled bit by bit, if it is the last one and empty: it would keep all
 * those before it in use. */
static void leave_last(struct gyre__pool *pool)
{
    if (pool->current == pool->total - 1 && pool->table[pool->current].leases == 0) {
        gyre__pool_chunk_done(pool, pool->current);
        pool->current = GYRE__BLOCK_NONE;
    }
}

void gyre__pool_rest(struct gyre__pool *pool)
{
    if (pool->total == pool->min ||
        pool->count[GYRE__BLOCK_FREE] <= pool->count[GYRE__BLOCK_LENT]) {
        pool->spare_turns = 0;
        return;
    }
    if (++pool->spare_turns >= SPARE_TURNS) {
        pool->spare_turns = 0;
        leave_last(pool);
        drop_block(pool);
    }
}

/* ---- leases ---- */

void gyre__pool_lend(struct gyre_fd *owner, uint32_t block, uint8_t *data, size_t len,
                     struct gyre_lease *out_lease)
{
    gyre_assert(len > 0);
    owner->loop->pool.table[block].leases++;
    *out_lease = (struct gyre_lease){
        .data = data,
        .len = len,
        .loop = owner->loop,
        .block = block,
        .held = (uint32_t)len,
        .owner_slot = owner->slot,
        .owner_generation = owner->generation,
    };
}

static struct copy *copy_out(struct gyre__pool *pool, const struct gyre_lease *lent)
{
    struct copy *copy = gyre__alloc(sizeof(*copy) + lent->len);

    if (copy == NULL) {
        return NULL;
    }
    lent->loop->stats.allocations++;
    copy->holders = 1;
    copy->len = (uint32_t)lent->len;
    memcpy(copy->bytes, lent->data, lent->len);
    pool->copied++;
    return copy;
}

/* Make *lease, a plain copy of the lent one, hold its bytes by itself. */
static void hold(struct gyre__pool *pool, struct gyre_lease *lease)
{
    struct copy *copy = lease->copy;

    if (copy != NULL) {
        copy->holders++;
        return;
    }
    if (gyre__pool_is_short(pool) && lease->len < pool->block_len / SMALL_SHARE) {
        copy = copy_out(pool, lease);
        if (copy != NULL) {
            lease->copy = copy;
            lease->data = copy->bytes;
            return;
        }
    }
    pool->table[lease->block].leases++;
}

static struct gyre_fd *owner_of(const struct gyre_lease *lease)
{
    return gyre__slots_find(&lease->loop->slots,
                            gyre__name(lease->owner_slot, lease->owner_generation));
}

/* A lease shared so often that the sum cannot be told is nobody's: it counts as little as it can be
 * counted. */
static void charge_owner(struct gyre_lease *lease)
{
    struct gyre_fd *owner = owner_of(lease);

    if (owner != NULL && __builtin_add_overflow(owner->lent, lease->held, &owner->lent)) {
        owner->lent -= lease->held;
        lease->owner_slot = 0;
    }
}

int gyre_lease_retain(const struct gyre_lease *lent, struct gyre_lease *out_lease)
{
    struct gyre_loop *loop;

    if (lent == NULL || out_lease == NULL || lent->loop == NULL) {
        return -EINVAL;
    }
    loop = lent->loop;
    gyre__loop_assert_thread(loop);
    *out_lease = *lent;
    hold(&loop->pool, out_lease);
    out_lease->held = (uint32_t)out_lease->len;
    loop->pool.leases++;
    charge_owner(out_lease);
    return 0;
}

int gyre__pool_lend_copied(struct gyre_fd *owner, const uint8_t *data, size_t len,
                           struct gyre_lease *out_lease)
{
    struct gyre__pool *pool = &owner->loop->pool;
    const struct gyre_lease lent = {.data = (uint8_t *)(uintptr_t)data,
                                    .len = len,
                                    .loop = owner->loop,
                                    .block = GYRE__BLOCK_NONE,
                                    .held = (uint32_t)len,
                                    .owner_slot = owner->slot,
                                    .owner_generation = owner->generation};
    struct copy *copy = copy_out(pool, &lent);

    if (copy == NULL) {
        return -ENOMEM;
    }
    *out_lease = lent;
    out_lease->copy = copy;
    out_lease->data = copy->bytes;
    charge_owner(out_lease);
    pool->leases++;
    return 0;
}

static void drop_copy(struct gyre__pool *pool, struct copy *copy)
{
    gyre_assert(copy->holders > 0);
    copy->holders--;
    if (copy->holders == 0) {
        pool->copied--;
        gyre__free(copy);
    }
}

void gyre_lease_release(struct gyre_lease *lease)
{
    struct gyre__pool *pool;
    struct gyre_fd *owner;

    if (lease == NULL || lease->loop == NULL) {
        return;
    }
    gyre__loop_assert_thread(lease->loop);
    pool = &lease->loop->pool;
    gyre_assert(pool->leases > 0);
    pool->leases--;
    if (lease->copy != NULL) {
        drop_copy(pool, lease->copy);
    } else {
        gyre__pool_unlend(pool, lease->block);
    }
    owner = owner_of(lease);
    if (owner != NULL) {
        gyre_assert(owner->lent >= lease->held);
        owner->lent -= lease->held;
        gyre__fd_lent_less(owner);
    }
    lease->data = NULL;
    lease->len = 0;
    lease->loop = NULL;
}

int gyre_loop_pool_stats(const struct gyre_loop *loop, struct gyre_pool_stats *out_stats)
{
    const struct gyre__pool *pool;
    int rc;

    if (loop == NULL || out_stats == NULL) {
        return -EINVAL;
    }
    rc = gyre__loop_check(loop);
    if (rc < 0) {
        return rc;
    }
    pool = &loop->pool;
    *out_stats = (struct gyre_pool_stats){
        .total = pool->total,
        .free = pool->count[GYRE__BLOCK_FREE],
        .in_kernel = pool->count[GYRE__BLOCK_DRIVER],
        .lent = pool->count[GYRE__BLOCK_LENT],
        .leases = pool->leases,
        .copied = pool->copied,
        .starved = pool->starved_count,
        .block_len = pool->block_len,
        .chunk_len = pool->chunk_len,
    };
    return 0;
}
