/*
 * A bounded queue of many producers and one consumer: a ring of cells. A producer claims a position
 * by moving the tail, fills the cell and publishes it by its function, which is NULL while the cell
 * is free; the consumer takes it, sets it to NULL and moves the head, which gives the cell back.
 *
 * The tail is one word: the position, and two bits about it. So claiming, closing and going to sleep
 * are decided by the same atomic step, the only one that a post takes:
 *
 *     CLOSED   a post is either accepted before the close, and runs, or refused after it
 *     ASLEEP   whoever claims a position clears it, and the one that finds it set wakes the loop: a
 *              burst of posts costs one system call, and none while the loop is awake
 *
 * Producers compare the tail with `limit`, the end of what they know to be free, and look at the
 * head only there: the line that the loop writes with each post stays with the loop.
 *
 * A post that is claimed and not yet published, when the loop goes to sleep, will wake nobody. Its
 * thread is between two stores, so the loop gives it a moment; but it may have been stopped there,
 * and a loop does not spin: it sleeps for a short while, and looks again.
 *
 * A thread that claimed and found ASLEEP is the one that wakes the loop. If it is stopped before it
 * has done so, the posts behind it wait for it, as they would for its cell.
 *
 * Beside it, returns: what the loop gave to another thread and gets back. The giver cannot be told
 * that the queue is full, and need not be: each return brings its own link, so they are a stack
 * without limit, which the loop takes whole and turns round. Here the store (of the stack) and the
 * load (of ASLEEP) are of two words, and both sides need theirs in this order for all to see: they
 * are sequentially consistent.
 */
#include "core/post.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/sys.h"

#include <errno.h>

#define CLOSED   UINT64_C(1)
#define ASLEEP   UINT64_C(2)
#define POSITION UINT64_C(4) /* the unit of positions in the tail */

enum {
    FILL_LOOKS = 64,    /* a microsecond or so */
    PREFETCH_CELLS = 8, /* two cache lines ahead */
};

static uint64_t position_of(uint64_t tail)
{
    return tail / POSITION;
}

int gyre__posts_init(struct gyre__posts *posts, uint32_t capacity)
{
    gyre_assert(capacity != 0 && (capacity & (capacity - 1)) == 0);
    posts->ring = gyre__alloc(capacity * sizeof(*posts->ring));
    if (posts->ring == NULL) {
        return -ENOMEM;
    }
    posts->mask = capacity - 1;
    posts->arrived = NULL;
    for (uint64_t i = 0; i < capacity; i++) {
        atomic_init(&posts->ring[i].fn, NULL);
    }
    atomic_init(&posts->head, 0);
    atomic_init(&posts->returns, NULL);
    atomic_init(&posts->limit, capacity);
    atomic_init(&posts->tail, 0);
    return 0;
}

void gyre__posts_fini(struct gyre__posts *posts)
{
    gyre__free(posts->ring);
    posts->ring = NULL;
}

/* ---- producers ---- */

/* Acquire, twice: what the consumer did to a cell was done before it gave the cell back. */
static int has_room(struct gyre__posts *posts, uint64_t position)
{
    uint64_t limit = atomic_load_explicit(&posts->limit, memory_order_acquire);

    if (position >= limit) {
        limit = atomic_load_explicit(&posts->head, memory_order_acquire) + posts->mask + 1;
        atomic_store_explicit(&posts->limit, limit, memory_order_release);
    }
    return position < limit;
}

int gyre__posts_push(struct gyre__posts *posts, gyre_post_fn fn, void *data)
{
    uint64_t tail = atomic_load_explicit(&posts->tail, memory_order_relaxed);
    struct gyre__post *cell;

    do {
        if (tail & CLOSED) {
            return -ESHUTDOWN;
        }
        if (!has_room(posts, position_of(tail))) {
            return -ENOBUFS;
        }
    } while (!atomic_compare_exchange_weak_explicit(&posts->tail, &tail,
                                                    (tail & ~ASLEEP) + POSITION,
                                                    memory_order_seq_cst, memory_order_relaxed));
    cell = &posts->ring[position_of(tail) & posts->mask];
    cell->data = data;
    /* Release: the data before the function that lets the consumer read it. */
    atomic_store_explicit(&cell->fn, fn, memory_order_release);
    __builtin_prefetch(&posts->ring[(position_of(tail) + PREFETCH_CELLS) & posts->mask], 1);
    return (tail & ASLEEP) != 0;
}

int gyre__posts_return(struct gyre__posts *posts, struct gyre_return *back)
{
    struct gyre_return *newest = atomic_load_explicit(&posts->returns, memory_order_relaxed);

    /* What was written to the object comes before it. Only the loop removes, and then all, so that
     * an equal pointer means an equal stack. */
    do {
        back->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&posts->returns, &newest, back,
                                                    memory_order_seq_cst, memory_order_relaxed));
    return (atomic_load(&posts->tail) & ASLEEP) != 0 &&
           (atomic_fetch_and(&posts->tail, ~ASLEEP) & ASLEEP) != 0;
}

void gyre__posts_close(struct gyre__posts *posts)
{
    atomic_fetch_or_explicit(&posts->tail, CLOSED, memory_order_relaxed);
}

/* ---- the loop ---- */

/* Written by the loop alone, so that it may be read without order. */
static uint64_t head_of(const struct gyre__posts *posts)
{
    return atomic_load_explicit(&posts->head, memory_order_relaxed);
}

int gyre__posts_pop(struct gyre__posts *posts, gyre_post_fn *out_fn, void **out_data)
{
    const uint64_t head = head_of(posts);
    struct gyre__post *cell = &posts->ring[head & posts->mask];

    *out_fn = atomic_load_explicit(&cell->fn, memory_order_acquire);
    if (*out_fn == NULL) {
        return 0;
    }
    *out_data = cell->data;
    atomic_store_explicit(&cell->fn, NULL, memory_order_relaxed);
    /* Release: all of this before a producer may fill the cell again. */
    atomic_store_explicit(&posts->head, head + 1, memory_order_release);
    return 1;
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

static int post_filled(const struct gyre__posts *posts)
{
    return atomic_load_explicit(&posts->ring[head_of(posts) & posts->mask].fn,
                                memory_order_relaxed) != NULL;
}

int gyre__posts_pending(const struct gyre__posts *posts)
{
    return post_filled(posts) || posts->arrived != NULL || atomic_load(&posts->returns) != NULL;
}

size_t gyre__posts_count(const struct gyre__posts *posts)
{
    return (size_t)(position_of(atomic_load_explicit(&posts->tail, memory_order_relaxed)) -
                    head_of(posts));
}

enum gyre__posts_sleep gyre__posts_sleep(struct gyre__posts *posts)
{
    const uint64_t tail = atomic_fetch_or(&posts->tail, ASLEEP);

    for (int i = 0; !gyre__posts_pending(posts); i++) {
        if (position_of(tail) == head_of(posts)) {
            return GYRE__POSTS_ASLEEP;
        }
        if (i == FILL_LOOKS) {
            return GYRE__POSTS_DOZE;
        }
        gyre__sys_relax();
    }
    gyre__posts_awake(posts);
    return GYRE__POSTS_THERE;
}

void gyre__posts_awake(struct gyre__posts *posts)
{
    /* Relaxed: a producer that still sees it wakes us for nothing, which is harmless. */
    if (atomic_load_explicit(&posts->tail, memory_order_relaxed) & ASLEEP) {
        atomic_fetch_and_explicit(&posts->tail, ~ASLEEP, memory_order_relaxed);
    }
}
