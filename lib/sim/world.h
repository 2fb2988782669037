/* The world itself, for world.c, thread.c and process.c; the rest uses sim.h. */
#ifndef GYRE_SIM_WORLD_H
#define GYRE_SIM_WORLD_H

#include "sim/sim.h"

enum { SIM_CHECKS_MAX = 16, SIM_FAILURE_MAX = 512 };

/* A binary heap of events: the earliest first. Grows; its memory is the simulator's own. */
struct sim_heap {
    struct sim_event **event; /* [1..count] */
    size_t count;
    size_t room;
};

struct sim_chance {
    uint32_t rate;   /* in a million */
    uint64_t could;  /* how often it could have struck */
    uint64_t struck; /* how often it did */
    uint64_t from;   /* scripted: these of `could` strike */
    uint64_t until;
};

struct gyre_sim {
    struct gyre_sim_options options;
    uint64_t now_ns;
    uint64_t random[4];
    uint64_t hash;
    uint64_t steps;
    uint64_t order;          /* of events */
    struct sim_heap soon;    /* what the kernel and the network do */
    struct sim_heap threads; /* threads that will go on */
    struct gyre_link hosts;
    uint32_t host_count;
    uint32_t processes; /* that the run waits for */
    uint32_t pids;
    uint64_t file_ids;
    uint64_t
        idle_waits_max; /* a thread that asks so often whether there is work, and there is not */
    uint8_t running;    /* in gyre_sim_run() */
    uint8_t failed;
    struct sim_chance chance[GYRE_SIM_FAULT_COUNT];
    uint64_t seen[GYRE_SIM_PATH_COUNT];
    uint32_t check_count;
    struct {
        const char *(*invariant)(void *context);
        void *context;
    } check[SIM_CHECKS_MAX];
    struct gyre_link scripts;
    char failure[SIM_FAILURE_MAX];
};

/* The earliest event of a heap, or NULL. */
struct sim_event *gyre__sim_first(const struct sim_heap *heap);
void gyre__sim_heap_add(struct gyre_sim *sim, struct sim_heap *heap, struct sim_event *event,
                        uint64_t when_ns);
void gyre__sim_heap_remove(struct sim_heap *heap, struct sim_event *event);

/* Time passes while a thread computes; what is due by then happens. */
void gyre__sim_spend(struct gyre_sim *sim, uint64_t span_ns);

/* thread.c: frees threads; process.c: closes and frees. */
void gyre__sim_threads_free(struct gyre_sim_process *process);
void gyre__sim_host_free(struct gyre_sim_host *host);
void gyre__sim_process_end(struct gyre_sim_process *process);

#endif
