/*
 * A send that posts no completion when it succeeds, one at a time.
 *
 * The kernel carries a send out while it takes the entry in. With MSG_DONTWAIT it is over then, whatever
 * became of it, and IOSQE_CQE_SKIP_SUCCESS leaves out that all went well (Linux 5.17). So a message that
 * comes alone is answered by the call that waits for the next, and costs one system call.
 *
 *     send_silently --entry--> [enter and sleep] --whatever wakes the loop--> all left
 *                                                --its completion-----------> a part did, or an error
 *
 * Who sends so has to do without an answer until then. So somebody may begin to wait for it before the
 * loop sleeps (is_awaited), and then the loop does not.
 */
#include "backend/uring/driver.h"

#include <sys/socket.h>

int gyre__uring_send_silently(struct gyre_fd *fd, const struct gyre__silent *silent)
{
    struct gyre__uring *uring = gyre__uring_of(fd->loop);
    struct io_uring_sqe *sqe;

    if (!fd->loop->alone || uring->silent_fd != NULL || (fd->armed & GYRE__DIR_OUT)) {
        return 0;
    }
    sqe = gyre__uring_entry(fd->loop, GYRE__NAME_SILENT);
    if (sqe == NULL) {
        return 0;
    }
    sqe->opcode = IORING_OP_SEND;
    sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
    sqe->fd = fd->number;
    sqe->addr = (uint64_t)(uintptr_t)silent->data;
    sqe->len = silent->len;
    sqe->addr2 = (uint64_t)(uintptr_t)silent->to; /* Linux 6.1 */
    sqe->addr_len = (uint16_t)silent->to_len;
    sqe->msg_flags = MSG_DONTWAIT | MSG_WAITALL | MSG_NOSIGNAL;
    uring->silent = *silent;
    uring->silent_fd = fd;
    uring->silent_tail = uring->ring.sqe_tail;
    uring->silent_marked = 0;
    uring->silent_res = (int32_t)silent->len;
    fd->armed |= GYRE__DIR_OUT;
    fd->loop->alone = 0;
    fd->loop->active_ops++; /* the loop runs until it is told */
    return 1;
}

void gyre__uring_submit_silent(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);

    if (uring->silent_fd != NULL && gyre__ring_unsubmitted(&uring->ring) > 0) {
        loop->stats.enters++;
        loop->stats.syscalls++;
        (void)gyre__ring_submit(&uring->ring); /* if not, for want of memory, the next turn does */
    }
}

static int is_submitted(const struct gyre__uring *uring)
{
    return gyre__ring_unsubmitted(&uring->ring) <= uring->ring.sqe_tail - uring->silent_tail;
}

/* It was submitted before, so that no call is needed to know; or somebody waits. */
int gyre__uring_must_tell(const struct gyre__uring *uring)
{
    return uring->silent_fd != NULL &&
           (is_submitted(uring) || uring->silent.is_awaited(uring->silent_fd));
}

/* Its completion is posted while it is submitted: if it is not among those that were there then, there is
 * none. */
void gyre__uring_learn_silent(struct gyre__uring *uring)
{
    const struct gyre__ring *ring = &uring->ring;
    const uint32_t head = *ring->uring.cq.khead;

    for (uint32_t i = 0; i < uring->taken; i++) {
        if (uring->batch[i].user_data == GYRE__NAME_SILENT) {
            uring->silent_res = uring->batch[i].res;
            uring->silent_known = 1;
            return;
        }
    }
    if (!uring->silent_marked && is_submitted(uring) && !gyre__ring_overflowed(ring)) {
        uring->silent_mark = head + gyre__ring_completions(ring);
        uring->silent_marked = 1;
    }
    uring->silent_known = uring->silent_marked && (int32_t)(head - uring->silent_mark) >= 0;
}

/* Before the results of the turn: what a receive says after an error means something else. No operation
 * waits for the descriptor's turn to send: who sends silently has no other. */
void gyre__uring_tell_silent(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    const struct gyre__silent silent = uring->silent;
    struct gyre_fd *fd = uring->silent_fd;
    const int32_t res = gyre__uring_is_interrupt(uring->silent_res) ? -EAGAIN : uring->silent_res;

    uring->silent_fd = NULL;
    uring->silent_known = 0;
    fd->armed &= (uint8_t)~GYRE__DIR_OUT;
    loop->active_ops--;
    if (fd->ready & GYRE__READY_DOUBT) {
        gyre__uring_sent_in_doubt(fd, silent.len, res);
    }
    silent.sent(fd, res);
}
