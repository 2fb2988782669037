/*
 * A client of the simulation: a program that writes its own keys and reads those of all, several
 * requests at a time, connects again when a connection is lost, and tells the history what it has
 * seen. Which requests, the seed decides.
 */
#ifndef SIM_KV_CLIENT_H
#define SIM_KV_CLIENT_H

#include "sim-kv/history.h"

#include <gyre.h>
#include <gyre/sim.h>

enum { CLIENT_REQUESTS_MAX = 4, CLIENT_LINE_MAX = 32 };

enum request_kind { REQUEST_GET, REQUEST_SET, REQUEST_DELETE };

struct request {
    enum request_kind kind;
    unsigned key;
    unsigned number; /* the write; of a read, what history_read() said */
};

struct client {
    /* Set by the caller. */
    struct gyre_sim *sim;
    struct history *history;
    struct gyre_addr server;
    const char *name;
    unsigned index; /* this client's keys: index, index + count, ... */
    unsigned count;
    unsigned requests_left;

    /* The client's own. */
    struct gyre_loop *loop;
    struct gyre_stream stream;
    struct gyre_timer timer; /* until the next attempt to connect, or the next request */
    int is_open;
    struct request request[CLIENT_REQUESTS_MAX]; /* not answered yet, the oldest first */
    unsigned request_count;
    char line[CLIENT_LINE_MAX];
    size_t line_len;
    size_t value_len;
    size_t value_missing; /* with its newline; 0: the next is a line */
    unsigned char value[HISTORY_VALUE_MAX + 1];
};

/* The program, for gyre_sim_spawn(); @context: a struct client. */
int client_main(void *context);

#endif
