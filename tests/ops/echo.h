/*
 * An echo server on the operation layer: multishot accept, multishot receive into the pool, each
 * lease retained until its send has completed. One send per connection is active at a time; what
 * arrives meanwhile waits, until the quota of the pool makes the peer wait.
 */
#ifndef GYRE_TESTS_OPS_ECHO_H
#define GYRE_TESTS_OPS_ECHO_H

#include "trial.h"

struct echo_conn;
struct echo_piece;

struct echo_server {
    struct gyre_loop *loop;
    struct gyre_fd listener;
    struct trial accepting;
    struct echo_conn *idle_conns; /* kept for the next connections */
    struct echo_piece *idle_pieces;
    int open;          /* connections now */
    int opened;        /* connections ever */
    int closed;        /* connections closed */
    uint64_t bytes;    /* sent back */
    uint64_t messages; /* sends completed */
};

/* Accepts from the listening socket @number, or from none when it is negative. */
void echo_start(struct echo_server *server, struct gyre_loop *loop, int number);

/* Serves a connection that the test has. */
void echo_adopt(struct echo_server *server, int number);

/* Closes the listener, turns until the clients have closed every connection, frees all. */
void echo_end(struct echo_server *server);

#endif
