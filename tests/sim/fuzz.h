/*
 * The fuzzer of the net layer: programs on simulated hosts that use it at random, and a ledger of
 * what must be true of it. See fuzz.c.
 */
#ifndef GYRE_TESTS_SIM_FUZZ_H
#define GYRE_TESTS_SIM_FUZZ_H

#include <gyre.h>
#include <gyre/sim.h>

enum {
    CALLS_MAX = 84, /* connections of a run */
    CALLS_EACH = 6, /* of a client, mostly */
    CALLS_CROWD = 12,
    HELD_MAX = 4, /* leases that one side retains */
    PROGRAMS_MAX = 8,
};

/* What the answering side of a call does. */
enum call_mode {
    CALL_ECHO,    /* forwards what it receives */
    CALL_PATTERN, /* sends bytes of its own */
    CALL_SINK,    /* receives */
    CALL_MODES,
};

struct call;

/* One end of a connection, as its program sees it. */
struct side {
    struct call *call;
    int index;                  /* 0: who called, 1: who was called */
    struct gyre_stream *stream; /* NULL before it opens and behind on_close() */
    struct gyre_timer timer;    /* an action later */
    uint64_t sent;              /* bytes that a write took */
    uint64_t received;
    uint32_t lent;   /* memory given to gyre_stream_write_ref() and not released */
    uint32_t budget; /* actions left before it closes */
    int opens, eofs, closes;
    int paused;
    int ending; /* close or reset was asked for: only on_close() may come */
    int shut;
    int reset;         /* it was asked to reset, or ended with an error: its queue was dropped */
    int inside;        /* a callback of it is running */
    uint64_t heard_ns; /* when something moved, not later than that */
    struct gyre_lease held[HELD_MAX];
    int held_count;
};

/* A connection: its two sides, and what they agreed on. */
struct call {
    uint32_t id;
    enum call_mode mode;
    int is_unix;
    struct gyre_stream own; /* of side 0 */
    struct side side[2];
};

/* A simulated program: one loop. */
struct program {
    struct gyre_sim *sim;
    struct gyre_loop *loop;
    const char *name;
    struct gyre_sim_process *process;
    struct gyre_listener listener[2]; /* TCP and Unix */
    int listening[2];
    struct gyre_signal signal;
    struct gyre_timer tick;
    struct gyre_dgram dgram;
    int dgram_open;
    uint64_t dgrams_sent;
    uint64_t dgrams_received;
    struct gyre_work_pool *pool;
    struct gyre_work work;
    int works;
    int posts_out;
    int first_call; /* a client's share of the calls */
    int call_count;
    int calls_left; /* that have not ended */
    int stopping;
    int is_local; /* on the server's host */
};

/* The run. One at a time. */
struct fuzz {
    struct gyre_sim *sim;
    struct gyre_sim_host *host[PROGRAMS_MAX];
    int host_count;
    struct program program[PROGRAMS_MAX]; /* [0] is the server */
    int program_count;
    struct call call[CALLS_MAX];
    int call_count;
    struct gyre_stream_handler handler[2]; /* of each index */
    struct gyre_loop_options loop_options;
    int crowd; /* many connections at once, on small queues */
    int healed;
    uint64_t heal_at_ns;
    size_t live_before;
};

extern struct fuzz fuzz;

/* ---- ledger.c ---- */

/* The run is broken: says why, once. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t chance(uint64_t limit); /* 0..limit-1 */
int one_in(uint64_t limit);

/* The bytes that a side sends, from an offset on. */
void fill(const struct call *call, int index, uint64_t offset, uint8_t *data, size_t len);

/* Callbacks come in order, one at a time, and bytes as they were sent. */
void note_open(struct side *side);
void note_data(struct side *side, const struct gyre_lease *data);
void note_eof(struct side *side);
void note_close(struct side *side, int error);
void check_call(const struct call *call);
void note_enter(struct side *side);
void note_leave(struct side *side);
void check_loop(struct gyre_loop *loop);
const char *check_all(void *context);

/* ---- caller.c, server.c: programs ---- */

struct gyre_loop *make_loop(struct program *program);
void end_loop(struct program *program);
void choose_handlers(void); /* how the streams of a run behave */
int client_main(void *context);
int server_main(void *context);

/* ---- actions.c: what a side does ---- */

void side_begin(struct side *side, struct gyre_stream *stream);
void side_act(struct side *side);
void side_end(struct side *side);    /* behind on_close() */
void side_finish(struct side *side); /* the world is healed: come to an end */
int side_write(struct side *side, size_t len);
void side_forward(struct side *side, const struct gyre_lease *data);
void side_close(struct side *side);

/* ---- dgrams.c ---- */

void dgrams_open(struct program *program);
void dgrams_send(struct program *program);
void dgrams_close(struct program *program);

#endif
