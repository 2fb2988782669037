/* What other threads ask of the loop. See post.c. */
#ifndef GYRE_CORE_POST_H
#define GYRE_CORE_POST_H

#include <gyre/loop.h>
#include <stdatomic.h>

struct gyre__post {
    _Atomic(gyre_post_fn) fn; /* NULL: free */
    void *data;
};

/* Each part has a cache line of its own, by who writes it. */
struct gyre__posts {
    struct gyre__post *ring;
    uint64_t mask;

    _Alignas(64) _Atomic uint64_t tail; /* producers */
    _Atomic uint64_t limit;             /* producers: free cells end here, or later */

    _Alignas(64) _Atomic uint64_t head; /* loop thread */
    struct gyre_return *arrived;        /* loop thread only: taken from returns, oldest first */

    _Alignas(64) struct gyre_return *_Atomic returns; /* newest first */
};

/* @capacity: a power of two. Returns 0 or -ENOMEM. */
int gyre__posts_init(struct gyre__posts *posts, uint32_t capacity);
void gyre__posts_fini(struct gyre__posts *posts);

/* Any thread. Returns 0; 1: accepted, and the caller has to wake the loop; -ENOBUFS, -ESHUTDOWN. */
int gyre__posts_push(struct gyre__posts *posts, gyre_post_fn fn, void *data);

/* Loop thread. Returns 1 and the oldest post, or 0. */
int gyre__posts_pop(struct gyre__posts *posts, gyre_post_fn *out_fn, void **out_data);

/* Any thread: never fails. The memory is the loop's thread's at once. Returns 1 if the caller has to
 * wake the loop. */
int gyre__posts_return(struct gyre__posts *posts, struct gyre_return *back);

/* Loop thread. The oldest return, or NULL. */
struct gyre_return *gyre__posts_arrival(struct gyre__posts *posts);

/* Loop thread: a post or a return is there. */
int gyre__posts_pending(const struct gyre__posts *posts);

/* Accepted and not yet taken, those still being filled included. */
size_t gyre__posts_count(const struct gyre__posts *posts);
void gyre__posts_close(struct gyre__posts *posts);

enum gyre__posts_sleep {
    GYRE__POSTS_THERE,  /* some came in between: do not sleep */
    GYRE__POSTS_ASLEEP, /* sleep: the next one wakes the loop */
    GYRE__POSTS_DOZE, /* sleep for a short while: one is being filled, and will not wake the loop */
};

/* Loop thread: announce sleep. */
enum gyre__posts_sleep gyre__posts_sleep(struct gyre__posts *posts);
void gyre__posts_awake(struct gyre__posts *posts);

#endif
