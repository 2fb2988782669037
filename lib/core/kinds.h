/*
 * The kinds of operation. Each is defined once, with both of its implementations side by side: how
 * to describe it to io_uring (prepare) and how to try it without blocking (attempt). See kinds.c.
 */
#ifndef GYRE_CORE_KINDS_H
#define GYRE_CORE_KINDS_H

#include "base/poison.h"

#include <errno.h>
#include <gyre/op.h>
#include <sys/types.h>

struct io_uring_sqe;

/* What an attempt returns when it would have to wait. Not -EAGAIN, which connect(2) means as an
 * error. */
#define GYRE__NOT_YET INT32_MIN

/* The result of a system call, which is simply made again when a signal interrupts it. */
#define GYRE__ATTEMPT(call)                                             \
    __extension__({                                                     \
        ssize_t rc_;                                                    \
        do {                                                            \
            rc_ = (call);                                               \
        } while (rc_ < 0 && errno == EINTR);                            \
        rc_ >= 0 ? (int)rc_ : errno == EAGAIN ? GYRE__NOT_YET : -errno; \
    })

/* Which way an operation moves bytes: those of one direction take turns on their descriptor. */
enum gyre__direction {
    GYRE__DIR_NONE = 0,
    GYRE__DIR_IN = 1,
    GYRE__DIR_OUT = 2,
};

struct gyre__kind {
    const char *name;
    uint8_t direction;
    uint8_t transfers; /* a short result is continued */
    /* NULL: never with the kernel. */
    void (*prepare)(const struct gyre_op *op, struct io_uring_sqe *sqe);
    /* Returns the result or GYRE__NOT_YET; repeats on EINTR. NULL: the driver has its own way. */
    int (*attempt)(struct gyre_op *op);
};

extern const struct gyre__kind gyre__kinds[GYRE_OP_KIND_COUNT];

static inline const struct gyre__kind *gyre__kind_of(const struct gyre_op *op)
{
    return &gyre__kinds[op->kind];
}

/* Sends in a row that take nothing and give no error, before they count as failed. */
#define GYRE__ZEROES_MAX 16

/* Poll events that tell when to try an operation again. */
uint32_t gyre__kind_poll_events(const struct gyre_op *op);

/* A short result is not the result: go on until all is moved. */
int gyre__op_continues(const struct gyre_op *op);

/* Bytes still to be moved; what the caller asked for, less what was moved already. */
size_t gyre__op_left(const struct gyre_op *op);

/* Note @len more bytes moved. */
void gyre__op_advance(struct gyre_op *op, size_t len);

/* recvmsg: the control data that came with the first part, for the caller. */
void gyre__op_restore_control(struct gyre_op *op);

/* In sanitizer builds: the memory that the operation lends to the kernel is alive. */
#if defined(GYRE__ASAN)
void gyre__op_check_memory(const struct gyre_op *op);
#else
static inline void gyre__op_check_memory(const struct gyre_op *op)
{
    (void)op;
}
#endif

static inline struct gyre_connect_op *gyre__connect_op(const struct gyre_op *op)
{
    return gyre_container_of(op, struct gyre_connect_op, op);
}

static inline struct gyre_msg_op *gyre__msg_op(const struct gyre_op *op)
{
    return gyre_container_of(op, struct gyre_msg_op, op);
}

#endif
