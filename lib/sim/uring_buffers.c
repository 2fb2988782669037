/*
 * Provided buffer rings. The program fills entries and moves the tail; a receive looks at the entry
 * at the head when it is tried, and takes it only if something came: a buffer that was looked at
 * for an error, or for the end of a stream, stays the first.
 *
 *     plain          a receive takes the whole buffer, however little it brings
 *     incremental    a receive takes as much of the buffer as it brings; address and length in the
 *                    program's entry move along, and BUF_MORE says that the buffer is not used up
 */
#include "sim/uring.h"

#include <errno.h>
#include <limits.h>

enum { PAGE = 4096, ENTRIES_MAX = 32768, INCREMENTAL_SINCE = 612 };

static struct sim_uring_group *group_of(struct sim_uring *ring, uint16_t id)
{
    for (int i = 0; i < SIM_URING_GROUPS_MAX; i++) {
        if (ring->group[i].ring != NULL && ring->group[i].id == id) {
            return &ring->group[i];
        }
    }
    return NULL;
}

static int check(struct sim_uring *ring, const struct gyre__buf_reg *registration)
{
    const uint32_t entries = registration->ring_entries;

    if (registration->resv[0] != 0 || registration->resv[1] != 0 || registration->resv[2] != 0) {
        return -EINVAL;
    }
    if (registration->flags & ~GYRE__PBUF_RING_INC) {
        return gyre__sim_uring_unmodelled(ring, "a flag of a buffer ring");
    }
    if (registration->flags != 0 &&
        gyre__sim_kernel_version(gyre__sim_of_uring(ring)) < INCREMENTAL_SINCE) {
        return -EINVAL;
    }
    if (registration->ring_addr == 0) {
        return -EFAULT;
    }
    if (registration->ring_addr % PAGE != 0 || entries == 0 || entries > ENTRIES_MAX ||
        (entries & (entries - 1)) != 0) {
        return -EINVAL;
    }
    return group_of(ring, registration->bgid) != NULL ? -EEXIST : 0;
}

int gyre__sim_group_register(struct sim_uring *ring, const struct gyre__buf_reg *registration)
{
    const int rc = check(ring, registration);

    if (rc < 0) {
        return rc;
    }
    for (int i = 0; i < SIM_URING_GROUPS_MAX; i++) {
        struct sim_uring_group *group = &ring->group[i];

        if (group->ring == NULL) {
            *group = (struct sim_uring_group){
                .ring = (struct io_uring_buf_ring *)(uintptr_t)registration->ring_addr,
                .id = registration->bgid,
                .mask = (uint16_t)(registration->ring_entries - 1),
                .incremental = (registration->flags & GYRE__PBUF_RING_INC) != 0,
            };
            return 0;
        }
    }
    return gyre__sim_uring_unmodelled(ring, "another group of buffers");
}

int gyre__sim_group_peek(struct sim_uring *ring, uint16_t id, struct iovec *out_buffer)
{
    struct gyre_sim *sim = gyre__sim_of_uring(ring);
    const struct sim_uring_group *group = group_of(ring, id);
    const struct io_uring_buf *buffer;

    if (group == NULL) {
        return -ENOBUFS;
    }
    if (group->ring->tail == group->head) {
        gyre__sim_sometimes(sim, GYRE_SIM_PATH_BUFFERS_EMPTY);
        return -ENOBUFS;
    }
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_RECV_ENOBUFS)) {
        return -ENOBUFS;
    }
    buffer = &group->ring->bufs[group->head & group->mask];
    out_buffer->iov_base = (void *)(uintptr_t)buffer->addr;
    out_buffer->iov_len = buffer->len < INT_MAX ? buffer->len : INT_MAX;
    return 0;
}

uint32_t gyre__sim_group_commit(struct sim_uring *ring, uint16_t id, size_t len)
{
    struct sim_uring_group *group = group_of(ring, id);
    struct io_uring_buf *buffer = &group->ring->bufs[group->head & group->mask];
    const uint32_t flags = IORING_CQE_F_BUFFER | (uint32_t)buffer->bid << IORING_CQE_BUFFER_SHIFT;

    if (group->begun) {
        gyre__sim_sometimes(gyre__sim_of_uring(ring), GYRE_SIM_PATH_BUFFER_CONTINUED);
    }
    if (group->incremental && len < buffer->len) {
        buffer->addr += len;
        buffer->len -= (uint32_t)len;
        group->begun = 1;
        return flags | GYRE__CQE_F_BUF_MORE;
    }
    if (group->incremental) {
        buffer->len = 0;
    }
    group->begun = 0;
    group->head++;
    return flags;
}
