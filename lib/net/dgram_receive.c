/*
 * Receiving. The poll tells that there is something; then the socket is read in batches, until it
 * is empty or has had its share of the turn. A batch that is not full says that it is empty: an
 * error that cut it short brings an event of its own, from the poll that was there when it arrived,
 * or from the next, which finds it.
 */
#include "net/dgram.h"

#include "base/alloc.h"
#include "base/sys.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

enum {
    BATCHES_PER_TURN = 4,
    STREAK_FROM = 8, /* events in a row that brought something */
    /* Datagrams of an event, on average. */
    FLOOD_FROM = 12 * GYRE__DGRAM_AVERAGE_UNIT,
    FLOOD_UNTIL = 4 * GYRE__DGRAM_AVERAGE_UNIT,
    LONE_BELOW = 3 * GYRE__DGRAM_AVERAGE_UNIT / 2,
    BATCH_LEAST = 8,         /* of large datagrams */
    BATCH_BYTES = 256 << 10, /* what a batch may touch: a good part of a second-level cache */
    ERRORS_PER_TURN = 16,    /* a message each */
};

/* A datagram that had been received when its socket was paused. */
struct dgram_held {
    struct gyre_link link;
    struct gyre_datagram datagram;
    struct gyre_addr from;
    struct gyre_addr local;
    uint8_t bytes[];
};

/* ---- set up ---- */

/* Make headers fit what the socket expects; mostly they do, from the last time. */
void gyre__dgram_shape(struct gyre__dgram_scratch *scratch, const struct gyre_dgram *dgram)
{
    const int control = gyre__dgram_wants_control(dgram);

    if (scratch->shaped_max == dgram->receive_max && scratch->shaped_control == control) {
        return;
    }
    for (int i = 0; i < GYRE__DGRAM_BATCH; i++) {
        struct msghdr *msg = &scratch->in[i].msg_hdr;

        scratch->in_iov[i] = (struct iovec){scratch->rooms[i], dgram->receive_max};
        *msg = (struct msghdr){
            .msg_name = &scratch->from[i].any,
            .msg_namelen = sizeof(scratch->from[i].storage),
            .msg_iov = &scratch->in_iov[i],
            .msg_iovlen = 1,
            .msg_control = control ? scratch->in_control[i] : NULL,
            .msg_controllen = control ? GYRE__DGRAM_CONTROL : 0,
        };
    }
    scratch->shaped_max = dgram->receive_max;
    scratch->shaped_control = control;
}

/* What the kernel changed in a header, for the next time. It does not read the flags, and leaves the
 * length of no control data at 0. */
static inline void dgram_reset_header(struct gyre__dgram_scratch *scratch, int index)
{
    struct msghdr *msg = &scratch->in[index].msg_hdr;

    msg->msg_namelen = sizeof(scratch->from[index].storage);
    if (scratch->shaped_control) {
        msg->msg_controllen = GYRE__DGRAM_CONTROL;
    }
}

static unsigned dgram_batch_size(const struct gyre_dgram *dgram)
{
    const unsigned fits = BATCH_BYTES / (dgram->average + 1);

    if (fits >= GYRE__DGRAM_BATCH) {
        return GYRE__DGRAM_BATCH;
    }
    return fits > BATCH_LEAST ? fits : BATCH_LEAST;
}

/* ---- deliver ---- */

/* Keep a copy until receiving is resumed. */
static void dgram_hold(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct dgram_held *held = gyre__alloc(sizeof(*held) + datagram->len);

    if (held == NULL) {
        dgram->stats.lost++;
        return;
    }
    gyre__dgram_loop(dgram)->stats.allocations++;
    held->datagram = *datagram;
    held->from = *datagram->from;
    held->datagram.from = &held->from;
    if (datagram->local != NULL) {
        held->local = *datagram->local;
        held->datagram.local = &held->local;
    }
    memcpy(held->bytes, datagram->data, datagram->len);
    held->datagram.data = held->bytes;
    gyre__list_append(&dgram->held, &held->link);
}

static void dgram_deliver(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    dgram->stats.received++;
    dgram->stats.truncated += datagram->flags & GYRE_DGRAM_TRUNCATED;
    dgram->handler->on_datagram(dgram, datagram);
}

static void dgram_deliver_held(struct gyre_dgram *dgram)
{
    while (!gyre__list_empty(&dgram->held) && gyre__dgram_is_open(dgram) && !dgram->paused) {
        struct dgram_held *held = gyre_container_of(dgram->held.next, struct dgram_held, link);

        gyre__list_remove(&held->link);
        dgram_deliver(dgram, &held->datagram);
        gyre__free(held);
    }
}

void gyre__dgram_drop_held(struct gyre_dgram *dgram)
{
    while (!gyre__list_empty(&dgram->held)) {
        struct dgram_held *held = gyre_container_of(dgram->held.next, struct dgram_held, link);

        gyre__list_remove(&held->link);
        gyre__free(held);
        dgram->stats.lost++;
    }
}

/* What control data tell, as it is without any. */
static inline void dgram_clear_control(struct gyre_datagram *datagram)
{
    datagram->segment = 0;
    datagram->local = NULL;
    datagram->interface = 0;
    datagram->ttl = -1;
    datagram->tos = -1;
    datagram->source = 0;
}

/* Raw IPv4 sockets alone receive the IP header: take it off. */
static void dgram_strip_header(struct gyre_datagram *datagram)
{
    const uint8_t *bytes = datagram->data;
    const size_t len = datagram->len > 0 ? (bytes[0] & 15u) * 4u : 0;
    const size_t header = len < datagram->len ? len : datagram->len; /* receive_max may cut it */

    datagram->data = bytes + header;
    datagram->len -= header;
}

/* @datagram: as the one before left it. */
static inline void dgram_take(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch,
                              int index, struct gyre_datagram *datagram)
{
    const uint32_t raw4 = GYRE__DGRAM_RAW | GYRE__DGRAM_IPV4;
    struct mmsghdr *in = &scratch->in[index];
    struct gyre_addr local;

    datagram->data = scratch->rooms[index];
    datagram->len = in->msg_len;
    datagram->flags = in->msg_hdr.msg_flags & MSG_TRUNC ? GYRE_DGRAM_TRUNCATED : 0;
    datagram->from = &scratch->from[index];
    scratch->from[index].len = in->msg_hdr.msg_namelen;
    if (scratch->shaped_control) {
        dgram_clear_control(datagram);
        gyre__dgram_read_control(&in->msg_hdr, datagram, &local);
    }
    if ((dgram->traits & raw4) == raw4) {
        dgram_strip_header(datagram);
    }
    dgram_reset_header(scratch, index);
    if (!gyre__dgram_is_open(dgram)) {
        dgram->stats.lost++;
    } else if (dgram->paused) {
        dgram_hold(dgram, datagram);
    } else {
        dgram_deliver(dgram, datagram);
    }
}

/* A moving average over about 8 datagrams. */
static void dgram_note_sizes(struct gyre_dgram *dgram, const struct gyre__dgram_scratch *scratch,
                             unsigned count)
{
    const unsigned weight = count < 8 ? count : 8;
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++) {
        sum += scratch->in[i].msg_len;
    }
    if (count > 0) {
        dgram->average =
            dgram->average - dgram->average * weight / 8 + (uint32_t)(sum / count) * weight / 8;
    }
}

/* Callbacks run; what they answer leaves behind them. */
void gyre__dgram_take_batch(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch,
                            int count)
{
    struct gyre_datagram datagram;

    dgram_note_sizes(dgram, scratch, (unsigned)count);
    dgram_clear_control(&datagram);
    scratch->answering = dgram;
    dgram->answering = 1;
    for (int i = 0; i < count; i++) {
        dgram_take(dgram, scratch, i, &datagram);
    }
    gyre__dgram_send_answers(scratch);
    scratch->answering = NULL;
    dgram->answering = 0;
}

/* ---- errors ---- */

/* The message of an ICMP error: what it says, and about which address; or why it cannot be had.
 * Returns 0 when there is none. */
static int dgram_report_queued_error(struct gyre_dgram *dgram)
{
    _Alignas(struct cmsghdr) uint8_t control[GYRE__DGRAM_CONTROL];
    struct gyre_addr to = {0};
    struct msghdr msg = {.msg_name = &to.any,
                         .msg_namelen = sizeof(to.storage),
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t rc;

    do { /* nothing but this tells of what is queued */
        rc = gyre__sys_recvmsg(dgram->fd.number, &msg, MSG_ERRQUEUE | MSG_DONTWAIT);
        gyre__dgram_loop(dgram)->stats.syscalls++;
    } while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EAGAIN) {
        return 0;
    }
    if (rc < 0) {
        gyre__dgram_report(dgram, -errno, NULL);
        return 1;
    }
    to.len = msg.msg_namelen;
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&msg); item != NULL; item = CMSG_NXTHDR(&msg, item)) {
        uint32_t error; /* what struct sock_extended_err begins with */

        if (((item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR) ||
             (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR)) &&
            item->cmsg_len >= CMSG_LEN(sizeof(error))) {
            memcpy(&error, CMSG_DATA(item), sizeof(error));
            gyre__dgram_report(dgram, -(int)error, to.len > 0 ? &to : NULL);
            break;
        }
    }
    return 1;
}

int gyre__dgram_take_errors(struct gyre_dgram *dgram)
{
    int told = 0;

    if (!(dgram->flags & GYRE_DGRAM_ERROR_DETAIL)) {
        return 0;
    }
    while (told < ERRORS_PER_TURN && gyre__dgram_is_open(dgram) &&
           dgram_report_queued_error(dgram)) {
        told++;
    }
    return told;
}

void gyre__dgram_receive_failed(struct gyre_dgram *dgram, int error)
{
    if (error != EINTR && gyre__dgram_take_errors(dgram) == 0) {
        gyre__dgram_report(dgram, -error, NULL);
    }
}

/* ---- receive ---- */

/* Callbacks run. Returns 0 when there is nothing left. */
static int dgram_receive_batch(struct gyre_dgram *dgram)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);
    const unsigned room = dgram_batch_size(dgram);
    int count;

    gyre__dgram_shape(scratch, dgram);
    count = gyre__sys_recvmmsg(dgram->fd.number, scratch->in, room, MSG_DONTWAIT | MSG_CMSG_CLOEXEC,
                               NULL);
    gyre__dgram_loop(dgram)->stats.syscalls++;
    if (count < 0) {
        if (errno == EAGAIN) {
            gyre__dgram_loop(dgram)->stats.eagains++;
            return 0;
        }
        gyre__dgram_receive_failed(dgram, errno);
        return 1;
    }
    gyre__dgram_take_batch(dgram, scratch, count);
    return (unsigned)count == room;
}

/* ---- wait, or not ---- */

/* To arm a poll costs no call of its own on io_uring. */
static int dgram_polls_once(const struct gyre_dgram *dgram)
{
    return dgram->flooded ||
           (dgram->streak == STREAK_FROM && !gyre__dgram_loop(dgram)->backend->tries_at_once);
}

/*
 * While a poll is armed, or the socket stands in the epoll set, each datagram that arrives or leaves
 * calls it, to tell what is known already: 70 ns each on Linux 6.18, and several times that while
 * the sender is on another processor, because both take the same locks. So on io_uring a poll is for
 * one event, and armed anew with the call that waits for the next: what it told of has been read by
 * then, and often more has come. To take a socket out of an epoll set and put it back are two calls,
 * more than is saved where an event brings few. A socket that is flooded is taken off by either
 * driver and is busy: it is read in each turn, behind the others, and only when it is found empty is
 * it put back, where the kernel first looks whether something is there.
 *
 * An event, or a look at what waits behind a single datagram, has brought @count. One that brought
 * nothing leads back to the poll that stays, for some time: whatever makes a poll end at once each
 * time, and cannot be received now, would keep the loop busy. It tells nothing of how many come.
 */
static void dgram_note_batch(struct gyre_dgram *dgram, uint64_t count)
{
    const unsigned unit = GYRE__DGRAM_AVERAGE_UNIT;
    /* Of a burst that a look meets anywhere, half is still to come, and one has been taken. */
    const int looked = dgram->busy == GYRE__DGRAM_IDLE && !gyre_op_active(&dgram->in);
    const uint64_t burst = looked ? 2 * count + 1 : count;
    const uint64_t some = burst < GYRE__DGRAM_BATCH ? burst : GYRE__DGRAM_BATCH;

    if (burst == 0) {
        if (dgram->busy != GYRE__DGRAM_BUSY_FED) { /* else there was no event */
            dgram->streak = 0;
            dgram->flooded = 0;
        }
        return;
    }
    dgram->streak += dgram->streak < STREAK_FROM;
    dgram->batch = (uint16_t)(dgram->batch - dgram->batch / 8 + some * unit / 8);
    if (dgram->batch >= LONE_BELOW) {
        dgram->calm = 0;
    } else if (dgram->calm < GYRE__DGRAM_CALM) {
        dgram->calm++;
    }
    if (dgram->batch < FLOOD_UNTIL) {
        dgram->flooded = 0;
    } else if (dgram->batch >= FLOOD_FROM) {
        dgram->flooded = 1;
    }
    if ((dgram->in.flags & GYRE_MULTISHOT) &&
        (dgram_polls_once(dgram) || gyre__dgram_lone_may_start(dgram))) {
        gyre_op_cancel(&dgram->in); /* see its callback */
    }
}

int gyre__dgram_wait(struct gyre_dgram *dgram)
{
    if (gyre__dgram_lone_may_start(dgram)) {
        if (gyre__dgram_lone_start(dgram) == 0) {
            return 0;
        }
        dgram->calm = 0;
    }
    gyre__dgram_lone_fini(dgram);
    return gyre_op_poll(&dgram->in, &dgram->fd, POLLIN,
                        dgram_polls_once(dgram) ? 0 : GYRE_MULTISHOT);
}

/* It counts as an operation, so that the loop runs and the poll's place is kept. */
void gyre__dgram_get_busy(struct gyre_dgram *dgram)
{
    gyre_assert(dgram->busy == GYRE__DGRAM_IDLE && !gyre_op_active(&dgram->in));
    dgram->busy = GYRE__DGRAM_BUSY;
    dgram->readable = 1;
    gyre__dgram_loop(dgram)->active_ops++;
}

void gyre__dgram_rest(struct gyre_dgram *dgram)
{
    if (dgram->busy != GYRE__DGRAM_IDLE) {
        dgram->busy = GYRE__DGRAM_IDLE;
        gyre__dgram_loop(dgram)->active_ops--;
    }
}

void gyre__dgram_poll_ended(struct gyre_dgram *dgram, int32_t result)
{
    if (result == -ECANCELED && !dgram->flooded && gyre__dgram_wait(dgram) == 0) {
        return;
    }
    gyre__dgram_get_busy(dgram);
    if (gyre__list_empty(&dgram->fd.ops)) { /* else one waits for room */
        gyre__dgram_loop(dgram)->backend->forget(&dgram->fd);
    }
    if (result < 0) { /* the batch before was what led here, or there is no memory for a poll */
        dgram->busy = GYRE__DGRAM_BUSY_FED;
        gyre__task_request(gyre__dgram_loop(dgram), &dgram->task);
    }
}

/* The turn of a busy socket brought @count. */
static void dgram_stay_busy(struct gyre_dgram *dgram, uint64_t count)
{
    if (count > 0 && dgram->flooded) {
        dgram->busy = GYRE__DGRAM_BUSY_FED;
        dgram->readable = 1;
        return;
    }
    gyre__dgram_rest(dgram);
    if (gyre__dgram_wait(dgram) < 0) {
        gyre__dgram_get_busy(dgram); /* no memory now */
    }
}

void gyre__dgram_receive(struct gyre_dgram *dgram)
{
    const uint64_t before = dgram->stats.received;
    const int told = dgram->readable; /* else this is no event's batch */

    if (dgram->troubled) {
        dgram->troubled = gyre__dgram_take_errors(dgram) == ERRORS_PER_TURN;
    }
    dgram_deliver_held(dgram);
    for (int i = 0; i < BATCHES_PER_TURN && gyre__dgram_may_receive(dgram); i++) {
        dgram->readable = (uint8_t)dgram_receive_batch(dgram);
    }
    if (!gyre__dgram_is_open(dgram)) {
        return;
    }
    if (told) {
        dgram_note_batch(dgram, dgram->stats.received - before);
    }
    if (dgram->busy != GYRE__DGRAM_IDLE) {
        dgram_stay_busy(dgram, dgram->stats.received - before);
    }
    if (dgram->troubled || dgram->busy != GYRE__DGRAM_IDLE || gyre__dgram_may_receive(dgram)) {
        gyre__task_request(gyre__dgram_loop(dgram), &dgram->task); /* go on, behind the others */
    }
}
