/* What other threads ask of the loop. See post.c. */
#ifndef GYRE_CORE_POST_H
#define GYRE_CORE_POST_H

#include <gyre/loop.h>
#include <stdatomic.h>

struct gyre__post {
    _Atomic uint64_t sequence;
    gyre_post_fn fn;
    void *data;
};

struct gyre__posts {
    struct gyre__post *ring;
    uint64_t mask;
    uint64_t head;                        /* loop thread only */
    struct gyre_return *arrived;          /* loop thread only: taken from returns, oldest first */
    _Alignas(64) _Atomic uint64_t tail;   /* producers; a line of its own */
    _Alignas(64) _Atomic uint32_t asleep; /* 1: a producer must wake the loop */
    struct gyre_return *_Atomic returns;  /* newest first */
};

/* @capacity: a power of two. Returns 0 or -ENOMEM. */
int gyre__posts_init(struct gyre__posts *posts, uint32_t capacity);
void gyre__posts_fini(struct gyre__posts *posts);

/* Any thread. Returns 0, -ENOBUFS, -ESHUTDOWN. */
int gyre__posts_push(struct gyre__posts *posts, gyre_post_fn fn, void *data);

/* Loop thread. Returns 1 and the oldest post, or 0. */
int gyre__posts_pop(struct gyre__posts *posts, gyre_post_fn *out_fn, void **out_data);

/* Any thread: never fails. The memory is the loop's thread's at once. */
void gyre__posts_return(struct gyre__posts *posts, struct gyre_return *back);

/* Loop thread. The oldest return, or NULL. */
struct gyre_return *gyre__posts_arrival(struct gyre__posts *posts);

/* Loop thread: a post or a return is there. */
int gyre__posts_pending(const struct gyre__posts *posts);

/* Accepted and not yet taken, those still being filled included. */
size_t gyre__posts_count(const struct gyre__posts *posts);
void gyre__posts_close(struct gyre__posts *posts);

/* Any thread, after a push: returns 1 to the one producer that has to wake the loop. */
int gyre__posts_claim_wake(struct gyre__posts *posts);

/* Loop thread: announce sleep. Returns 0, and the loop must not sleep, when a post came in
 * between. */
int gyre__posts_sleep(struct gyre__posts *posts);
void gyre__posts_awake(struct gyre__posts *posts);

#endif
