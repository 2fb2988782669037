/*
 * Single datagrams, on io_uring.
 *
 * To be told of a datagram and then to read it are two system calls, which pay where many are read at
 * once. One that comes alone, as mostly where a client waits for each answer, is asked for instead:
 * a recvmsg is with the kernel, and the call that waits brings the datagram itself. Submitted with
 * that call, it takes what is there already.
 *
 *     32 events with less than 1.5 datagrams on average --> the poll ends, a recvmsg is started
 *     after 24 of them, later 256: are others behind it? --> if so on average, or after an error,
 *                                                            or while paused: the poll again
 *
 * What is received lies in memory of the socket's own, which is that of few sockets of a loop: the
 * kernel may write to it at any time. It is copied to where batches are received, so that all else
 * is as with a batch of one; hence for small datagrams only.
 */
#include "core/op.h"
#include "net/dgram.h"

#include <errno.h>
#include <string.h>

enum {
    LONE_SOCKETS = 64, /* of a loop: 4 MiB, of which small datagrams touch two pages each */
    LONE_SIZE = 2048,  /* at most, on average */
    LONE_LOOK_FIRST = 24,
    LONE_LOOK_MOST = 256,
    LONE_LOOK_SPAN = 16,
};

static struct gyre__slab *lone_slab(const struct gyre_dgram *dgram)
{
    return &gyre__dgram_loop(dgram)->net->dgram_lones;
}

/* On epoll a recvmsg is a wait and a call too. An error queue that is not empty would let each end
 * at once, with nothing. And where O_NONBLOCK is set the kernel does not wait for data. */
void gyre__dgram_lone_init(struct gyre_dgram *dgram)
{
    if (gyre__dgram_loop(dgram)->backend->tries_at_once || !(dgram->traits & GYRE__DGRAM_UDP) ||
        (dgram->flags & GYRE_DGRAM_ERROR_DETAIL) || gyre__fd_is(&dgram->fd, GYRE__FD_NONBLOCK)) {
        dgram->flags |= GYRE__DGRAM_BATCHES_ONLY;
    }
}

int gyre__dgram_lone_may_start(const struct gyre_dgram *dgram)
{
    return dgram->calm == GYRE__DGRAM_CALM && !dgram->paused && !dgram->readable &&
           gyre__list_empty(&dgram->held) && dgram->average <= LONE_SIZE &&
           !(dgram->flags & GYRE__DGRAM_BATCHES_ONLY) &&
           (dgram->lone != NULL || lone_slab(dgram)->used < LONE_SOCKETS);
}

/* To where batches are received. */
static void lone_copy(const struct gyre__dgram_lone *lone, struct gyre__dgram_scratch *scratch,
                      uint32_t len)
{
    const struct msghdr *from = &lone->op.msg;
    struct msghdr *to = &scratch->in[0].msg_hdr;

    scratch->in[0].msg_len = len;
    memcpy(scratch->rooms[0], lone->bytes, len);
    memcpy(&scratch->from[0].storage, from->msg_name, from->msg_namelen);
    to->msg_namelen = from->msg_namelen;
    to->msg_flags = from->msg_flags;
    if (scratch->shaped_control) {
        memcpy(scratch->in_control[0], lone->control, from->msg_controllen);
        to->msg_controllen = from->msg_controllen;
    }
}

static void lone_deliver(struct gyre_dgram *dgram, uint32_t len)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);

    gyre__dgram_shape(scratch, dgram);
    lone_copy(dgram->lone, scratch, len);
    gyre__dgram_take_batch(dgram, scratch, 1);
}

/* After how many the next look is: soon if others were there, else ever later; and never the same, so
 * that it meets bursts at all their places. */
static uint32_t lone_next_look(uint32_t look_at, int found)
{
    const uint32_t least = found ? LONE_LOOK_FIRST : LONE_LOOK_MOST;

    if (!found && look_at < LONE_LOOK_MOST) {
        return look_at + look_at / 2;
    }
    return look_at < least + LONE_LOOK_SPAN ? look_at + 1 : least;
}

/* Now and then: what else is there? It is received as ever. */
static void lone_look(struct gyre_dgram *dgram)
{
    struct gyre__dgram_lone *lone = dgram->lone;
    const uint64_t before = dgram->stats.received;

    lone->taken = 0;
    gyre__dgram_receive(dgram);
    lone->look_at = lone_next_look(lone->look_at, dgram->stats.received != before);
}

/* A datagram has a sender. On a socket that was shut down for reading nothing has none, at once. */
static int lone_is_none(const struct gyre_dgram *dgram, int32_t result)
{
    return result == 0 && dgram->lone->op.msg.msg_namelen == 0;
}

static void lone_took(struct gyre_dgram *dgram, int32_t result)
{
    if (result < 0) {
        dgram->calm = 0; /* whatever it is, it may be so again at once: poll */
        gyre__dgram_receive_failed(dgram, -result);
        return;
    }
    if (lone_is_none(dgram, result)) {
        dgram->flags |= GYRE__DGRAM_BATCHES_ONLY;
        return;
    }
    gyre_assert(gyre__list_empty(&dgram->held)); /* none is asked for while some are kept */
    dgram->readable = ++dgram->lone->taken >= dgram->lone->look_at;
    lone_deliver(dgram, (uint32_t)result);
    if (dgram->lone->taken >= dgram->lone->look_at && gyre__dgram_is_open(dgram)) {
        lone_look(dgram);
    }
}

static void dgram_on_lone(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_msg_op *msg_op = gyre_container_of(op, struct gyre_msg_op, op);
    struct gyre_dgram *dgram = gyre_container_of(msg_op, struct gyre__dgram_lone, op)->dgram;

    if (!gyre__dgram_is_open(dgram)) {
        dgram->stats.lost += result->res >= 0;
        return;
    }
    lone_took(dgram, result->res);
    if (gyre__dgram_is_open(dgram) && gyre__dgram_wait(dgram) < 0) {
        gyre__dgram_get_busy(dgram); /* no memory now */
        gyre__task_request(gyre__dgram_loop(dgram), &dgram->task);
    }
}

static struct gyre__dgram_lone *lone_take(struct gyre_dgram *dgram)
{
    struct gyre__slab *slab = lone_slab(dgram);
    struct gyre__dgram_lone *lone;

    gyre__dgram_loop(dgram)->stats.allocations += slab->free == NULL;
    lone = gyre__slab_take(slab);
    if (lone != NULL) {
        gyre_op_init(&lone->op.op, dgram_on_lone);
        lone->dgram = dgram;
        lone->taken = 0;
        lone->look_at = LONE_LOOK_FIRST;
    }
    return lone;
}

int gyre__dgram_lone_start(struct gyre_dgram *dgram)
{
    struct iovec room = {.iov_len = dgram->receive_max};
    struct msghdr msg = {.msg_iov = &room, .msg_iovlen = 1};

    if (dgram->lone == NULL) {
        dgram->lone = lone_take(dgram);
    }
    if (dgram->lone == NULL) {
        return -ENOMEM;
    }
    if (gyre__dgram_loop(dgram)->calm) {
        dgram->fd.ready &= (uint8_t)~GYRE__DIR_IN; /* the next is not there yet: poll first */
    } else {
        dgram->fd.ready |= GYRE__DIR_IN;
    }
    room.iov_base = dgram->lone->bytes;
    if (gyre__dgram_wants_control(dgram)) {
        msg.msg_control = dgram->lone->control;
        msg.msg_controllen = sizeof(dgram->lone->control);
    }
    return gyre_op_recvmsg(&dgram->lone->op, &dgram->fd, &msg, 0);
}

void gyre__dgram_lone_fini(struct gyre_dgram *dgram)
{
    if (dgram->lone != NULL) {
        gyre_assert(!gyre_op_active(&dgram->lone->op.op));
        gyre__slab_give(lone_slab(dgram), dgram->lone);
        dgram->lone = NULL;
        dgram->calm = 0;
    }
}
