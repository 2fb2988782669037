/*
 * What the io_uring interface of newer kernels has and liburing 2.3 (Linux 6.1) lacks, under our
 * own names: several are enum members in newer headers, so #ifndef could not tell.
 * Source: include/uapi/linux/io_uring.h; the version in which each appeared is given.
 */
#ifndef GYRE_CORE_URING_ABI_H
#define GYRE_CORE_URING_ABI_H

#include <endian.h>
#include <liburing.h>
#include <stddef.h>

#define GYRE__ENTER_NO_IOWAIT (1u << 7)  /* 6.15 */
#define GYRE__FEAT_NO_IOWAIT  (1u << 17) /* 6.15 */
#define GYRE__PBUF_RING_INC   2          /* 6.12, struct io_uring_buf_reg.flags (2.3: .pad) */
#define GYRE__CQE_F_BUF_MORE  (1u << 4)  /* 6.12 */

_Static_assert(sizeof(struct io_uring_sqe) == 64, "SQE");
_Static_assert(sizeof(struct io_uring_cqe) == 16, "CQE");
_Static_assert(sizeof(struct io_uring_buf) == 16, "buffer ring entry");
_Static_assert(sizeof(struct io_uring_buf_reg) == 40, "buffer ring registration");
_Static_assert(sizeof(struct io_uring_getevents_arg) == 24, "wait argument");
_Static_assert(offsetof(struct io_uring_buf_reg, bgid) == 12, "flags follow the group id");

/* struct io_uring_buf_reg with the flags field that 2.3 calls pad. */
struct gyre__buf_reg {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t bgid;
    uint16_t flags;
    uint64_t resv[3];
};
_Static_assert(sizeof(struct gyre__buf_reg) == sizeof(struct io_uring_buf_reg), "same layout");

/* The two halves of the event mask are swapped on big-endian machines. */
static inline void gyre__sqe_set_poll(struct io_uring_sqe *sqe, uint32_t events)
{
#if __BYTE_ORDER == __BIG_ENDIAN
    events = events << 16 | events >> 16;
#endif
    sqe->poll32_events = events;
}

#endif
