/*
 * For tests of the simulator itself: a world with two hosts, a server that sends back what it gets,
 * and callers that connect to it, send, and note what happened and when.
 */
#ifndef GYRE_TESTS_SIM_RIG_H
#define GYRE_TESTS_SIM_RIG_H

#include "harness.h"

#include <gyre/sim.h>

enum { RIG_PORT = 7000 };

struct rig {
    struct gyre_sim *sim;
    struct gyre_sim_host *server;
    struct gyre_sim_host *client;
};

/* A world on the driver of the variant under test. NULL: seed 1, nothing fails by itself. */
void rig_begin(struct rig *rig, const struct gyre_sim_options *options);
void rig_end(struct rig *rig);

struct gyre_sim_process *rig_spawn(struct gyre_sim_host *host, int (*main_fn)(void *context),
                                   void *context, unsigned flags);

/* Asserts that the run ends well. */
void rig_run(struct rig *rig);

/* Asserts that the run fails, and that @text is in what it says. */
void rig_fails(struct rig *rig, const char *text);

/* A program: echoes until so many connections have ended. */
struct echo {
    int connections; /* how many it takes */
    int reads_late;  /* 1: reads nothing in its first second */
    struct gyre_loop_options options;
    struct gyre_loop *loop;
    struct gyre_listener listener;
    struct gyre_timer timer;
    struct gyre_stream *stream; /* the last one */
    int opened;
    int closed;
    int error; /* of the last one */
};

int echo_main(void *context);

/* A program: connects, sends @len bytes, closes when they are back, or as soon as it is open
 * (@len 0). Moments are those of the world. */
struct caller {
    struct rig *rig;
    const char *to;    /* NULL: the server's address and port */
    uint64_t delay_ns; /* before it connects */
    uint64_t quiet_ns; /* between being connected and sending */
    size_t len;
    struct gyre_loop *loop;
    struct gyre_stream stream;
    struct gyre_timer timer;
    size_t received;
    int start_error; /* of gyre_stream_connect() */
    int error;
    uint64_t began_ns;
    uint64_t opened_ns;
    uint64_t first_ns; /* the first byte that came back */
    uint64_t last_ns;
    uint64_t closed_ns;
};

int caller_main(void *context);

/* A server and a caller on the two hosts, run to the end. */
void rig_call(struct rig *rig, struct echo *echo, struct caller *caller);

#endif
