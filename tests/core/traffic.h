/*
 * Traffic for tests that need some beside what they test: a byte that goes back and forth over two
 * connected TCP sockets, both on the same loop.
 */
#ifndef GYRE_TESTS_CORE_TRAFFIC_H
#define GYRE_TESTS_CORE_TRAFFIC_H

#include "harness.h"

#define TRAFFIC_FOREVER INT32_MAX /* a goal: until traffic_close() */

struct traffic;

struct traffic_end {
    struct gyre_fd fd;
    struct gyre_op recv;
    struct gyre_op send;
    struct gyre_op close;
    struct traffic *traffic;
    int received; /* a byte is here that has not been answered yet */
    uint8_t in;
    uint8_t out;
};

struct traffic {
    struct traffic_end ends[2];
    struct gyre_loop *loop;
    int goal;    /* bytes that end 0 shall get back */
    int rounds;  /* bytes that came back */
    int done;    /* the goal is reached */
    int closing; /* cancelled receives are no surprise any more */
    int closed;  /* descriptors closed: 2 in the end */
};

/* Starts the exchange. */
void traffic_start(struct traffic *traffic, struct gyre_loop *loop, int goal);

/* Closes both descriptors and takes turns until that is done. */
void traffic_close(struct traffic *traffic);

/* All of it: an exchange of @goal bytes. */
void traffic_check(struct gyre_loop *loop, int goal);

#endif
