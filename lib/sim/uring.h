/*
 * The simulated io_uring's insides, shared by its files:
 *
 *     uring.c           the ring: setup, registration, entering and waiting, the completion queue
 *     uring_request.c   the life of a request: from its entry through polls to its completion
 *     uring_ops.c       what each operation does when it is tried
 *     uring_send.c      the operations that send, and the watch over their memory
 *     uring_worker.c    sends that block in a thread of the kernel
 *     uring_buffers.c   provided buffer rings
 *
 * Modelled on Linux 6.18, for rings with SINGLE_ISSUER and DEFER_TASKRUN: everything happens in the
 * owner's io_uring_enter(). Entries are tried as they are taken in; what the wake-ups of files call
 * for ("task work") is done when the owner enters with GETEVENTS, and only then are there
 * completions.
 */
#ifndef GYRE_SIM_URING_H
#define GYRE_SIM_URING_H

#include "core/uring_abi.h"
#include "sim/sim.h"

enum {
    SIM_URING_SQ_MAX = 32768,
    SIM_URING_CQ_MAX = 65536,
    SIM_URING_REGISTERED_MAX = 16, /* rings that a thread may enter by index */
    SIM_URING_GROUPS_MAX = 4,      /* buffer groups of a ring; the library has one */
    SIM_URING_RETRIES_MAX = 32,    /* receives of a multishot in a row; then others have a turn */
    SIM_URING_ARMS_MAX = 128,      /* then it is not polled for any more */
    SIM_URING_ENDED_MAX = 16,      /* multishots that ended lately, to see them started again */
    SIM_URING_PIECES_MAX = 1024,   /* IOV_MAX */
};

/* What ring and process share. */
struct sim_uring_queues {
    unsigned sq_head, sq_tail, sq_mask, sq_entries, sq_flags, sq_dropped;
    unsigned cq_head, cq_tail, cq_mask, cq_entries, cq_flags, cq_overflow;
};

/* A buffer ring: its memory, and its tail, are the program's; the head is the kernel's. */
struct sim_uring_group {
    struct io_uring_buf_ring *ring; /* NULL: not registered */
    uint16_t id;
    uint16_t mask;
    uint16_t head;
    uint8_t incremental;
    uint8_t begun; /* incremental: the first buffer has something already */
};

/* A completion that is not in the queue (yet). */
struct sim_uring_completion {
    struct gyre_link link;
    uint64_t user_data;
    int32_t res;
    uint32_t flags;
};

struct sim_uring {
    struct sim_file file;
    struct gyre_sim_process *process;
    struct sim_thread *owner;
    uint64_t request_ids;
    struct sim_uring_queues *queues;
    unsigned *sq_array;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    struct gyre_link requests; /* struct sim_request: all that have not completed, oldest first */
    struct gyre_link work;     /* struct sim_request: task work, first come first */
    uint32_t work_count;
    struct gyre_link done;     /* struct sim_uring_completion: will be posted before enter() ends */
    struct gyre_link overflow; /* struct sim_uring_completion: found the queue full */
    uint32_t wanted;           /* completions that the sleeping owner waits for; 0: it is awake */
    struct sim_file *event;    /* registered eventfd, or NULL */
    struct sim_uring_group group[SIM_URING_GROUPS_MAX];
    uint64_t ended[SIM_URING_ENDED_MAX]; /* user_data */
    uint32_t ended_count;
    int index; /* registered, or -1 */
    struct sim_thread *registrar;
    struct sim_uring *next_registered;
};

/*
 * A request.
 *
 *     ISSUED -> (completed)               the first try was enough, or the request is wrong
 *     ISSUED -> ARMED                     it waits for its file [arm]
 *     ISSUED -> QUEUED                    the file became ready meanwhile: try again [arm]
 *     ARMED -> WOKEN                      task work: look at the file, perhaps try [woken, cancel]
 *     WOKEN -> ARMED                      a multishot goes on, or it was for nothing
 *     WOKEN, QUEUED -> ISSUED             tried again [run]
 *     WOKEN -> (completed)
 *     ISSUED -> WORKER                    armed too often: a thread goes on with it [punt]
 *     WORKER -> OVER -> (completed)       task work, to tell
 *
 * A cancel finds requests that are ARMED or WOKEN. One that is QUEUED is in none of the places
 * where it looks, as on Linux.
 */
enum sim_request_state {
    SIM_REQUEST_ISSUED,
    SIM_REQUEST_ARMED,
    SIM_REQUEST_WOKEN,
    SIM_REQUEST_QUEUED,
    SIM_REQUEST_WORKER,
    SIM_REQUEST_OVER,
};

struct sim_request {
    struct gyre_link link; /* of the ring's requests */
    struct gyre_link work; /* of the ring's task work */
    struct sim_waiter waiter;
    struct sim_event late; /* the task work comes later */
    struct sim_uring *ring;
    struct sim_file *file; /* open for as long as the request lives, or NULL */
    uint64_t id;           /* for traces */
    struct io_uring_sqe sqe;
    enum sim_request_state state;
    uint32_t events; /* that it polls for */
    uint32_t mask;   /* what the wake-up said; 0: look */
    uint32_t wakes;  /* that were not looked at: the first of them queued the work */
    uint8_t multishot;
    uint8_t one_shot_poll; /* the poll ends with the first event */
    uint8_t polled;        /* has been ready once: POLL_FIRST is over */
    uint8_t cancelled;
    uint8_t handed;     /* a worker has it */
    uint8_t failed;     /* SKIP_SUCCESS does not hide it */
    uint8_t connecting; /* connect: begun */
    uint8_t aborted;    /* connect: has said ECONNABORTED once */
    uint32_t arms;
    uint32_t retries; /* of a multishot, in a row */
    int32_t res;
    uint32_t cqe_flags;
    size_t done;   /* bytes of a transfer that is to be whole */
    uint64_t hash; /* of the bytes to send; 0: there are none */
    uint64_t checked_ns;
    struct sockaddr_storage name;
    struct msghdr msg;
    struct iovec *pieces; /* copied */
};

/* What a try came to. */
enum sim_turn {
    SIM_TURN_DONE,    /* res and cqe_flags are the request's last completion */
    SIM_TURN_WAIT,    /* not yet, or a multishot that goes on: wait for the file */
    SIM_TURN_REQUEUE, /* a multishot has had enough for now: behind the others */
};

static inline struct gyre_sim *gyre__sim_of_uring(const struct sim_uring *ring)
{
    return ring->file.sim;
}

/* ---- uring.c ---- */

/* Gives a completion to the program, at once. @more: one of several; returns 0, and does nothing,
 * if there is no room, for then the request has to end. The last one of a request always goes out,
 * to the overflow list if need be. */
int gyre__sim_uring_post_more(struct sim_request *request, int32_t res, uint32_t flags);
void gyre__sim_uring_post_last(struct sim_request *request);

/* Task work has been queued: tells the program, and wakes it if it waits for that much. @now: even
 * if it waits for more. */
void gyre__sim_uring_work_added(struct sim_uring *ring, int now);

/* What the program does and the model lacks: ends the run. Returns -EINVAL. */
int gyre__sim_uring_unmodelled(struct sim_uring *ring, const char *what);

/* ---- uring_request.c ---- */

/* Takes an entry in and tries it. */
void gyre__sim_request_submit(struct sim_uring *ring, const struct io_uring_sqe *sqe);
/* Does the task work that @request, which was taken from the queue, calls for. */
void gyre__sim_request_run(struct sim_request *request);
/* The ring is closed. */
void gyre__sim_request_drop(struct sim_request *request);
/* Ends the request that has this name: 0, -ENOENT, -EALREADY. */
int gyre__sim_request_cancel(struct sim_uring *ring, uint64_t user_data);

/* A worker has the result. */
void gyre__sim_request_over(struct sim_request *request);

/* ---- uring_worker.c ---- */

/* A thread sends the rest. */
void gyre__sim_request_punt(struct sim_request *request);
/* A cancel: -ENOENT or -EALREADY. */
int gyre__sim_request_interrupt(struct sim_request *request);

/* ---- uring_ops.c, uring_send.c ---- */

/* Copies and checks what the kernel looks at once: 0 or the error the request ends with. */
int gyre__sim_request_prepare(struct sim_request *request);
/* Tries it. */
enum sim_turn gyre__sim_request_try(struct sim_request *request);
/* What it polls for; 0: it is never polled for. */
uint32_t gyre__sim_request_events(const struct sim_request *request);
const char *gyre__sim_request_name(const struct sim_request *request);
/* From here on the program does not write to the bytes; whether it has not. */
void gyre__sim_request_lend(struct sim_request *request);
void gyre__sim_request_check(struct sim_request *request);

enum sim_turn gyre__sim_request_end(struct sim_request *request, ssize_t res, uint32_t flags);
/* Copies what describes the bytes; these stay the program's. */
int gyre__sim_request_copy_buffer(struct sim_request *request);
int gyre__sim_request_copy_msg(struct sim_request *request);
/* The rest of the copied pieces, behind what is done; returns how many. */
size_t gyre__sim_request_rest(const struct sim_request *request, struct iovec *pieces);
/* What of a message is still to be sent; in @pieces. */
struct msghdr gyre__sim_request_rest_msg(const struct sim_request *request, struct iovec *pieces);
/* Whether a transfer that is to be whole goes on after a part. */
int gyre__sim_request_goes_on(const struct sim_request *request);

int gyre__sim_send_prepare(struct sim_request *request);
enum sim_turn gyre__sim_send_try(struct sim_request *request);

/* ---- uring_buffers.c ---- */

int gyre__sim_group_register(struct sim_uring *ring, const struct gyre__buf_reg *registration);
/* The buffer that comes next, without taking it: 0 or -ENOBUFS. */
int gyre__sim_group_peek(struct sim_uring *ring, uint16_t id, struct iovec *out_buffer);
/* @len bytes of it are used. Returns the flags of the completion. */
uint32_t gyre__sim_group_commit(struct sim_uring *ring, uint16_t id, size_t len);

#endif
