/*
 * The key-value server, for a main function (sim-kv-server.c) and for the simulation
 * (sim-kv-test.c), which runs this very code on simulated machines.
 *
 * The protocol: a request is a line, and for SET as many bytes as it says and a newline. Requests
 * may be sent without waiting for replies; these come in order.
 *
 *     SET key 5\n               OK\n        (or FULL\n: the store has no room)
 *     hello\n
 *     GET key\n                 VALUE 5\n   (or NONE\n)
 *                               hello\n
 *     DELETE key\n              OK\n        (or NONE\n)
 *
 * Keys are 1 to 64 printable characters without spaces; values are up to 16 KiB of any bytes.
 * Anything else is answered by "ERROR reason\n", and the connection is closed: there is no telling
 * where the next request would begin.
 */
#ifndef SIM_KV_SERVER_H
#define SIM_KV_SERVER_H

#include "sim-kv/store.h"

#include <gyre.h>

struct kv_server {
    /* Set by the caller, before kv_server_run(); 0 and NULL mean the default. */
    struct gyre_addr address;
    struct gyre_loop_options loop_options;
    uint32_t clients_max; /* at a time; default 1,000 */
    uint32_t keys_max;    /* default 100,000 */
    size_t bytes_max;     /* of all keys and values; default 64 MiB */
    int planted_bug;      /* 1: save memory, and be wrong; see server.c */
    void (*on_ready)(const struct gyre_addr *address); /* it listens */

    /* The server's own. */
    struct gyre_listener listener;
    struct gyre_signal signals;
    struct kv_store store;
    int error; /* what ended the listener */
};

/*
 * Serves until SIGINT or SIGTERM, and then ends in order. Returns 0, or what has failed: nothing is
 * left behind then, and it can be tried again.
 */
int kv_server_run(struct kv_server *server);

#endif
