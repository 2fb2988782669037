/*
 * Faults on the real kernel. Test programs that link this run the library on a table of base/sys.h
 * that is the operating system's, with two things in between:
 *
 *     chance    each fault of GYRE_SIM_FAULT_MAP with a probability of its own, from GYRE_FAULTS
 *     strike    one failure: the k-th allocation, or the k-th time that a certain call is made
 *
 * One rule holds for both: never to lie about what the kernel has done. A call fails instead of being
 * made, or moves less than it was asked to; a completion comes later, or changes places with
 * another one. What a call has done is told.
 *
 *     GYRE_FAULTS=recv.short=0.3,accept.emfile=0.01,seed=7
 *     GYRE_STRIKE=recv:ENOMEM:3          the third recv(2) fails; GYRE_STRIKE=memory:ENOMEM:3
 *     GYRE_STRIKE=recv:ENOMEM:1:5ac0...  the first recv(2) of those that come along this chain of
 *                                        callers (chain.c)
 *
 * The table serves the thread that runs main() and the processes that it forks. It is not part of
 * libgyre-sim: it tests gyre, not what is built on it.
 */
#ifndef GYRE_TESTS_FAULTS_H
#define GYRE_TESTS_FAULTS_H

#include "base/sys.h"

#include <gyre/sim.h>
#include <stddef.h>
#include <stdint.h>

/* Beside those of the simulated world, and mostly what no kernel should say, and some have said:
 * X(name, text). */
#define FAULTS_ODD_MAP(X)                                                                     \
    X(SEND_EPIPE, "send.epipe") /* the peer takes no more */                                  \
    X(ACCEPT_195, "accept.195") /* a multishot accept ends with a number that is no socket */ \
    X(SEND_ZERO, "send.zero")   /* a send takes nothing and says nothing */                   \
    X(RESTARTSYS, "call.erestartsys") /* the kernel's own code for "interrupted", 512 */

enum faults_odd {
    FAULTS_BEFORE_ODD = GYRE_SIM_FAULT_COUNT - 1, /* they go on behind enum gyre_sim_fault */
#define X(name, text) FAULTS_##name,
    FAULTS_ODD_MAP(X)
#undef X
        FAULTS_COUNT
};

/* What a strike can hit: every call of the table, and each sort of request of io_uring. */
#define FAULTS_REQUEST_MAP(X) \
    X(accept)                 \
    X(connect)                \
    X(recv)                   \
    X(recv_select)            \
    X(send)                   \
    X(recvmsg)                \
    X(sendmsg)                \
    X(read)                   \
    X(write)                  \
    X(poll)                   \
    X(cancel)

enum faults_call {
#define X(result, name, parameters, arguments) FAULTS_CALL_##name,
    GYRE__SYS_MAP(X)
#undef X
#define X(name) FAULTS_REQUEST_##name,
        FAULTS_REQUEST_MAP(X)
#undef X
            FAULTS_CALLS
};

enum { FAULTS_ERRORS_MAX = 5 };

/* ---- chance.c ---- */

/* Sets rates and seed from @text, a list as in GYRE_FAULTS; NULL switches all off. Returns 0, or -1
 * with a sentence in @out_why. */
int faults_parse(const char *text, char *out_why, size_t room);

/* Whether this fault strikes now: of enum gyre_sim_fault or enum faults_odd. */
int faults_chance(int fault);

/* 0..limit-1; limit > 0. */
uint64_t faults_below(uint64_t limit);

/* How often it has struck in this process. */
uint64_t faults_struck(int fault);

/* ---- table.c ---- */

/* From now on the calling thread's calls go through the table. The constructor does it. */
void faults_install(void);

/* Puts the table over another kernel than the operating system's, a simulated one, whose thread that
 * calls @thread names. Returns the table, for whoever has to make the calls go there. */
const struct gyre__kernel *faults_put_over(const struct gyre__kernel *kernel,
                                           const void *(*thread)(void));
const struct gyre__kernel *faults_kernel(void);
const void *faults_thread(void); /* NULL on the operating system */

struct faults_places; /* below */

/* Notes from now on where each call comes from; NULL: no more. */
void faults_record(struct faults_places *places);

/* In the place of strikes: @gate is asked at each call that is made, the @place-th of its sort, and
 * says with which error it is to fail, or 0. NULL: no more. */
void faults_explore(int (*gate)(enum faults_call call, uint64_t place));

/* Lets the call fail the @place-th time from now on (from 1), with @error; place 0: never. Begins to
 * count anew. */
void faults_strike(enum faults_call call, int error, uint64_t place);

/* The same of the calls that come along this chain alone. */
void faults_strike_chain(enum faults_call call, int error, uint64_t chain, uint64_t place);

/* As those, from "recv:ENOMEM:3" or "recv:ENOMEM:3:CHAIN". Returns 0 or -1. */
int faults_strike_parse(const char *text);

/* Sets *@flag too when it happens, in shared memory if processes are forked; NULL: nothing. */
void faults_strike_tells(int *flag);

/* Whether it has happened, how often each call was made since faults_strike(), its name, and the
 * errors that it may end with, a list that ends with 0. */
int faults_strike_done(void);
uint64_t faults_calls(enum faults_call call);
const char *faults_call_name(enum faults_call call);
const int *faults_call_errors(enum faults_call call);

/* Bytes mapped by the library and not unmapped. */
size_t faults_mapped(void);

/* Counts a call, and returns the error that it is to fail with, or 0. */
int faults_gate(enum faults_call call);

/* The same of one that its chain of callers alone does not tell from others: @marks do. */
int faults_gate_of(enum faults_call call, uint64_t marks);

/* What sort of socket it is: SOCK_STREAM and so on; 0 if it is none. */
int faults_socket_type(int number);

/* ---- chain.c: where calls come from ---- */

enum { FAULTS_PLACES_MAX = 1 << 15 };

struct faults_place {
    uint64_t chain; /* 0: none */
    uint64_t count; /* calls that came along it */
    uint64_t first; /* which of all calls of their sort, from 1 */
    uint64_t last;
    enum faults_call call;
};

struct faults_places {
    uint64_t lost; /* calls for whose chain there was no room */
    struct faults_place at[FAULTS_PLACES_MAX];
};

/* Chains begin below this frame, which is the caller of the case. */
void faults_chain_from(const void *frame);

/* Says where the stack in use ends, if it is not the process's own. */
void faults_chain_stack(const void *(*end)(void));

/* Of the caller. @call, @marks: what else makes it another chain. */
uint64_t faults_chain(enum faults_call call, uint64_t marks);
void faults_note_place(struct faults_places *places, enum faults_call call, uint64_t chain,
                       uint64_t number);

/* ---- ring.c: the calls of liburing that are more than passed on ---- */

/* Whether a request can be made to fail: the kernel's no-ops take the result to say (Linux 6.10). */
int faults_requests_can_fail(void);

int faults_ring_init(unsigned entries, struct io_uring *uring, struct io_uring_params *params);
int faults_ring_enter(unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags,
                      void *argument, size_t len);
void faults_ring_exit(struct io_uring *uring);

#endif
