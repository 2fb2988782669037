/*
 * A bounded queue of many producers and one consumer: a ring of cells, each with a sequence number
 * that says whose turn it is. A producer claims a position by moving the tail, fills the cell and
 * publishes it by setting its sequence to position + 1; the consumer takes it and sets the sequence
 * to position + capacity, the producer's turn of the next round.
 *
 *     cell.sequence:  p --claimed, filled--> p + 1 --taken--> p + capacity
 *
 * Closing sets the highest bit of the tail, so that claiming and closing are decided by one atomic
 * word: a post is either accepted before the close, and runs, or refused after it.
 *
 * Beside it, returns: what the loop gave to another thread and gets back. The giver cannot be told
 * that the queue is full, and need not be: each return brings its own link, so they are a stack
 * without limit, which the loop takes whole and turns round.
 *
 * Sleeping: the loop sets `asleep`, then looks at the queue again; a producer publishes, then looks
 * at `asleep`. Both sides need their store to be visible before their load (a store-load order,
 * which only sequential consistency gives), else each could miss the other and the loop would sleep
 * on a post. The producer that finds the flag set clears it and is the one that wakes the loop, so
 * that a burst of posts costs one system call, and none while the loop is awake.
 */
#include "core/post.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <errno.h>

#define CLOSED (UINT64_C(1) << 63)

int gyre__posts_init(struct gyre__posts *posts, uint32_t capacity)
{
    gyre_assert(capacity != 0 && (capacity & (capacity - 1)) == 0);
    posts->ring = gyre__alloc(capacity * sizeof(*posts->ring));
    if (posts->ring == NULL) {
        return -ENOMEM;
    }
    posts->mask = capacity - 1;
    posts->head = 0;
    posts->arrived = NULL;
    atomic_init(&posts->returns, NULL);
    for (uint64_t i = 0; i < capacity; i++) {
        atomic_init(&posts->ring[i].sequence, i);
    }
    atomic_init(&posts->tail, 0);
    atomic_init(&posts->asleep, 0);
    return 0;
}

void gyre__posts_fini(struct gyre__posts *posts)
{
    gyre__free(posts->ring);
    posts->ring = NULL;
}

/* Returns the cell of the claimed position, or NULL with the error in *out_error. */
static struct gyre__post *claim(struct gyre__posts *posts, uint64_t *out_position, int *out_error)
{
    uint64_t tail = atomic_load_explicit(&posts->tail, memory_order_relaxed);

    for (;;) {
        struct gyre__post *cell = &posts->ring[tail & posts->mask];
        /* Acquire: what the consumer read from the cell was read before it gave the cell back. */
        const uint64_t sequence = atomic_load_explicit(&cell->sequence, memory_order_acquire);

        if (tail & CLOSED) {
            *out_error = -ESHUTDOWN;
            return NULL;
        }
        if (sequence == tail) {
            /* Relaxed: the cell's sequence publishes, the tail only counts. */
            if (atomic_compare_exchange_weak_explicit(&posts->tail, &tail, tail + 1,
                                                      memory_order_relaxed, memory_order_relaxed)) {
                *out_position = tail;
                return cell;
            }
        } else if (sequence < tail) {
            *out_error = -ENOBUFS; /* still holds the post of the round before */
            return NULL;
        } else {
            tail = atomic_load_explicit(&posts->tail, memory_order_relaxed);
        }
    }
}

int gyre__posts_push(struct gyre__posts *posts, gyre_post_fn fn, void *data)
{
    uint64_t position = 0;
    int error = 0;
    struct gyre__post *cell = claim(posts, &position, &error);

    if (cell == NULL) {
        return error;
    }
    cell->fn = fn;
    cell->data = data;
    /* Release: fn and data before the number that lets the consumer read them. */
    atomic_store_explicit(&cell->sequence, position + 1, memory_order_release);
    return 0;
}

static int post_filled(const struct gyre__posts *posts)
{
    const struct gyre__post *cell = &posts->ring[posts->head & posts->mask];

    return atomic_load_explicit(&cell->sequence, memory_order_acquire) == posts->head + 1;
}

int gyre__posts_pop(struct gyre__posts *posts, gyre_post_fn *out_fn, void **out_data)
{
    struct gyre__post *cell = &posts->ring[posts->head & posts->mask];

    if (!post_filled(posts)) {
        return 0;
    }
    *out_fn = cell->fn;
    *out_data = cell->data;
    /* Release: our reads of the cell end before a producer may fill it again. */
    atomic_store_explicit(&cell->sequence, posts->head + posts->mask + 1, memory_order_release);
    posts->head++;
    return 1;
}

void gyre__posts_return(struct gyre__posts *posts, struct gyre_return *back)
{
    struct gyre_return *newest = atomic_load_explicit(&posts->returns, memory_order_relaxed);

    /* Release: what was written to the object before the loop reads it. Only the loop removes, and
     * then all, so that an equal pointer means an equal stack. */
    do {
        back->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&posts->returns, &newest, back,
                                                    memory_order_release, memory_order_relaxed));
}

struct gyre_return *gyre__posts_arrival(struct gyre__posts *posts)
{
    struct gyre_return *first = posts->arrived;

    if (first == NULL && atomic_load_explicit(&posts->returns, memory_order_relaxed) != NULL) {
        struct gyre_return *newest =
            atomic_exchange_explicit(&posts->returns, NULL, memory_order_acquire);

        while (newest != NULL) {
            struct gyre_return *older = newest->next;

            newest->next = first;
            first = newest;
            newest = older;
        }
    }
    posts->arrived = first != NULL ? first->next : NULL;
    return first;
}

int gyre__posts_pending(const struct gyre__posts *posts)
{
    return post_filled(posts) || posts->arrived != NULL ||
           atomic_load_explicit(&posts->returns, memory_order_relaxed) != NULL;
}

size_t gyre__posts_count(const struct gyre__posts *posts)
{
    const uint64_t tail = atomic_load_explicit(&posts->tail, memory_order_relaxed) & ~CLOSED;

    return (size_t)(tail - posts->head);
}

void gyre__posts_close(struct gyre__posts *posts)
{
    atomic_fetch_or_explicit(&posts->tail, CLOSED, memory_order_relaxed);
}

int gyre__posts_claim_wake(struct gyre__posts *posts)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&posts->asleep, memory_order_relaxed) == 0) {
        return 0;
    }
    return atomic_exchange(&posts->asleep, 0) == 1;
}

int gyre__posts_sleep(struct gyre__posts *posts)
{
    atomic_store(&posts->asleep, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (gyre__posts_pending(posts)) {
        gyre__posts_awake(posts);
        return 0;
    }
    return 1;
}

void gyre__posts_awake(struct gyre__posts *posts)
{
    /* Relaxed: a producer that still sees 1 wakes us for nothing, which is harmless. */
    atomic_store_explicit(&posts->asleep, 0, memory_order_relaxed);
}
