/*
 * Sending.
 *
 *     queue --the socket takes it--------> freed, or ended (memory was lent: release to come)
 *           --it fails, or close drops it-> ended (on_error to come, and release)
 *
 * Items are sent in order, up to 64 in one system call. The callbacks of those that ended run soon
 * after, from the loop.
 *
 * Answers go a shorter way. What a socket sends from on_datagram() while nothing else of it is queued is
 * described to the kernel at once, and is sent when the callbacks of the batch have returned. It is
 * not copied where it lies in the memory that the batch was received into, as that is not written
 * before; but a single one that leaves silently (core/backend.h) is. Room for an item is set aside, so that what the socket does not take can always be queued.
 *
 * sendmmsg(2) fails only when its first message does, so a failure is always that of the first in
 * the queue. But it need not be about that datagram: an ICMP error that an earlier one provoked
 * waits in the socket and is told to whoever calls next, who then has sent nothing. So the first is
 * tried again. If that works, or fails in another way, the error was the socket's; else its own.
 */
#include "base/sys.h"
#include "net/dgram.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <string.h>

enum {
    SEGMENTS_MAX = 64,  /* of one call; UDP_MAX_SEGMENTS before Linux 6.9 */
    SILENT_MOST = 2048, /* bytes that are copied for it */
    MAPPED_PREFIX = 12, /* bytes before the IPv4 address in a mapped one */
};

/* ---- items ---- */

static struct gyre__slab *dgram_slab(const struct gyre_dgram *dgram)
{
    return &gyre__dgram_loop(dgram)->net->dgram_pages;
}

static size_t dgram_round_up(size_t len)
{
    return (len + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
}

/* Make dgram->page have room. The page before it is given back by its last item. */
static int dgram_make_room(struct gyre_dgram *dgram, size_t len)
{
    struct gyre__slab *slab = dgram_slab(dgram);
    struct gyre__dgram_page *page = dgram->page;

    if (page != NULL && page->used + len <= GYRE__DGRAM_PAGE_ROOM) {
        return 0;
    }
    gyre__dgram_loop(dgram)->stats.allocations += slab->free == NULL;
    page = gyre__slab_take(slab);
    if (page == NULL) {
        return -ENOMEM;
    }
    page->used = 0;
    page->live = 0;
    dgram->page = page;
    return 0;
}

static struct gyre__dgram_item *dgram_item_take(struct gyre_dgram *dgram, size_t extra)
{
    const size_t len = dgram_round_up(sizeof(struct gyre__dgram_item) + extra);
    struct gyre__dgram_item *item;

    if (dgram_make_room(dgram, len) < 0) {
        return NULL;
    }
    item = (struct gyre__dgram_item *)(void *)(dgram->page->bytes + dgram->page->used);
    item->page = dgram->page;
    dgram->page->used += (uint32_t)len;
    dgram->page->live++;
    return item;
}

/* Also the page, when this was the last on it: an idle socket holds none. */
static void dgram_item_give(struct gyre_dgram *dgram, struct gyre__dgram_item *item)
{
    struct gyre__dgram_page *page = item->page;

    gyre_assert(page->live > 0);
    if (--page->live > 0) {
        return;
    }
    if (page == dgram->page) {
        dgram->page = NULL;
    }
    gyre__slab_give(dgram_slab(dgram), page);
}

/* An item leaves the queue. */
static void dgram_item_end(struct gyre_dgram *dgram, struct gyre__dgram_item *item, int error)
{
    gyre__list_remove(&item->link);
    dgram->queued_bytes -= item->len;
    dgram->queued_count--;
    dgram->stats.unsent += error != 0;
    item->error = error;
    if (error == 0 && item->release == NULL) {
        dgram_item_give(dgram, item);
        return;
    }
    gyre__list_append(&dgram->ended, &item->link);
    gyre__dgram_request_work(dgram);
}

static struct gyre__dgram_item *dgram_item_of(struct gyre_link *link)
{
    return gyre_container_of(link, struct gyre__dgram_item, link);
}

static struct gyre__dgram_item *dgram_first(struct gyre_dgram *dgram)
{
    return dgram_item_of(dgram->queue.next);
}

void gyre__dgram_settle(struct gyre_dgram *dgram)
{
    struct gyre_link now;

    gyre__list_take(&now, &dgram->ended); /* those that the callbacks add wait for the next time */
    while (!gyre__list_empty(&now)) {
        struct gyre__dgram_item *item = dgram_item_of(now.next);
        const gyre_dgram_release_fn release = item->release;
        struct gyre_addr to = {.len = item->to_len};

        gyre__list_remove(&item->link);
        memcpy(&to.any, item->to, item->to_len);
        if (item->error != 0) {
            gyre__dgram_report(dgram, item->error, to.len > 0 ? &to : NULL);
        }
        if (release != NULL) {
            release(dgram, item->context);
        }
        dgram_item_give(dgram, item);
    }
}

void gyre__dgram_drop_queue(struct gyre_dgram *dgram)
{
    while (!gyre__list_empty(&dgram->queue)) {
        dgram_item_end(dgram, dgram_first(dgram), -ECANCELED);
    }
}

/* ---- one system call ---- */

static int dgram_has_gso(struct gyre_dgram *dgram)
{
    int value;
    socklen_t len = sizeof(value);

    if (!(dgram->traits & GYRE__DGRAM_GSO_KNOWN)) {
        dgram->traits |= GYRE__DGRAM_GSO_KNOWN;
        /* Linux 4.18; before, the control item would be ignored. */
        if ((dgram->traits & GYRE__DGRAM_UDP) &&
            gyre__sys_getsockopt(dgram->fd.number, SOL_UDP, UDP_SEGMENT, &value, &len) == 0) {
            dgram->traits |= GYRE__DGRAM_GSO;
        }
        gyre__dgram_loop(dgram)->stats.syscalls++;
    }
    return (dgram->traits & GYRE__DGRAM_GSO) != 0;
}

/* How much of an item goes in one message. */
static size_t dgram_piece(struct gyre_dgram *dgram, const struct gyre__dgram_item *item,
                          size_t offset)
{
    const size_t left = item->len - offset;
    size_t most = item->segment;

    if (item->segment == 0) {
        return left;
    }
    if (!(item->flags & GYRE__DGRAM_ITEM_SPLIT) && dgram_has_gso(dgram)) {
        const size_t fit = dgram->send_max / item->segment;

        most *= fit < SEGMENTS_MAX ? fit : SEGMENTS_MAX;
    }
    return left < most ? left : most;
}

/* What the kernel leaves as it is was set when the memory was made: see dgram_get_scratch(). */
static inline struct msghdr *dgram_describe(struct gyre__dgram_scratch *scratch, unsigned index,
                                            const void *to, socklen_t to_len)
{
    struct msghdr *msg = &scratch->out[index].msg_hdr;

    msg->msg_name = to_len > 0 ? (void *)(uintptr_t)to : NULL;
    msg->msg_namelen = to_len;
    msg->msg_control = NULL;
    msg->msg_controllen = 0;
    return msg;
}

static void dgram_describe_piece(struct gyre__dgram_scratch *scratch, unsigned index,
                                 struct gyre__dgram_item *item, size_t offset, size_t piece)
{
    struct msghdr *msg = dgram_describe(scratch, index, item->to, item->to_len);

    scratch->out_item[index] = item;
    scratch->out_iov[index] = (struct iovec){(void *)(uintptr_t)(item->data + offset), piece};
    if (item->from_family != 0 || item->segment != 0) {
        gyre__dgram_write_control(item, piece, msg, scratch->out_control[index]);
    }
}

static unsigned dgram_describe_item(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch,
                                    unsigned count, struct gyre__dgram_item *item)
{
    size_t offset = item->offset;

    do {
        const size_t piece = dgram_piece(dgram, item, offset);

        dgram_describe_piece(scratch, count++, item, offset, piece);
        offset += piece;
    } while (offset < item->len && count < GYRE__DGRAM_BATCH);
    return count;
}

static unsigned dgram_describe_queue(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch)
{
    unsigned count = 0;

    for (struct gyre_link *link = dgram->queue.next;
         link != &dgram->queue && count < GYRE__DGRAM_BATCH; link = link->next) {
        count = dgram_describe_item(dgram, scratch, count, dgram_item_of(link));
    }
    return count;
}

/* An empty datagram is one too. */
static uint32_t dgram_segments(const struct gyre__dgram_item *item, uint32_t piece)
{
    return item->segment == 0 || piece == 0 ? 1 : (piece + item->segment - 1) / item->segment;
}

/* The first in the queue was sent, or has another error of its own: this one is the socket's. */
static void dgram_tell_suspect(struct gyre_dgram *dgram)
{
    if (dgram->flags & GYRE_DGRAM_ERROR_DETAIL) {
        dgram->troubled = 1; /* the error queue says more */
    } else {
        dgram->pending_error = dgram->suspect;
    }
    dgram->suspect = 0;
    gyre__dgram_request_work(dgram);
}

static void dgram_sent(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch, int count)
{
    dgram->room = GYRE__DGRAM_ROOM_UNKNOWN;
    if (dgram->suspect != 0) {
        dgram_tell_suspect(dgram);
    }
    for (int i = 0; i < count; i++) {
        struct gyre__dgram_item *item = scratch->out_item[i];
        const uint32_t piece = (uint32_t)scratch->out_iov[i].iov_len;

        item->offset += piece;
        dgram->stats.sent += dgram_segments(item, piece);
        if (item->offset == item->len) {
            dgram_item_end(dgram, item, 0);
        }
    }
}

/* ---- what can go wrong ---- */

static void dgram_fail_first(struct gyre_dgram *dgram, int error)
{
    if (dgram->suspect != 0 && dgram->suspect != error) {
        dgram_tell_suspect(dgram);
    }
    dgram->suspect = 0;
    dgram_item_end(dgram, dgram_first(dgram), error);
}

static int dgram_has_room(struct gyre_dgram *dgram)
{
    struct pollfd one = {.fd = dgram->fd.number, .events = POLLOUT};

    gyre__dgram_loop(dgram)->stats.syscalls++;
    return gyre__sys_poll(&one, 1, 0) == 1 && (one.revents & POLLOUT);
}

/*
 * The socket takes no more: wait until it says that there is room. If it says so and still takes
 * nothing, then it is the receiver's queue that is full: of a Unix socket that this one is not
 * connected to. Nothing tells when that changes, and others may be behind it in the queue, so the
 * datagram fails. An event may be older than what was sent since; only poll(2) tells what is now.
 */
static void dgram_await_room(struct gyre_dgram *dgram)
{
    gyre__dgram_loop(dgram)->stats.eagains++;
    if (dgram->room == GYRE__DGRAM_ROOM_SURE) {
        dgram_fail_first(dgram, -EAGAIN);
    } else if (dgram->room == GYRE__DGRAM_ROOM_TOLD && dgram_has_room(dgram)) {
        dgram->room = GYRE__DGRAM_ROOM_SURE;
    } else if (gyre_op_poll(&dgram->out, &dgram->fd, POLLOUT, 0) < 0) {
        dgram_fail_first(dgram, -ENOMEM);
    }
}

/* Whether the kernel or the network card refused to cut segments; the library then does it. */
static int dgram_refuses_segments(struct gyre_dgram *dgram, int error)
{
    const struct gyre__dgram_item *first = dgram_first(dgram);
    const int refusal = error == EINVAL || error == EIO || error == EMSGSIZE || error == EOPNOTSUPP;

    return refusal && first->segment != 0 && !(first->flags & GYRE__DGRAM_ITEM_SPLIT) &&
           dgram_piece(dgram, first, first->offset) > first->segment;
}

static void dgram_send_failed(struct gyre_dgram *dgram, int error)
{
    if (error == EINTR) {
        return;
    }
    if (error == EAGAIN) {
        dgram_await_room(dgram);
    } else if (dgram_refuses_segments(dgram, error)) {
        dgram_first(dgram)->flags |= GYRE__DGRAM_ITEM_SPLIT;
        if (error == EIO) { /* the interface has no checksum offload */
            dgram->traits &= (uint8_t)~GYRE__DGRAM_GSO;
        }
    } else if (dgram->suspect == 0) {
        dgram->suspect = -error;
    } else {
        dgram_fail_first(dgram, -error);
    }
}

/* ---- flush ---- */

/* For room, or to know what became of the first. */
static int dgram_waits(const struct gyre_dgram *dgram)
{
    return gyre_op_active(&dgram->out) || dgram->silent;
}

/* How many messages of out[] the socket took, or -1 and errno. A lone one is handed over in registers:
 * a message is copied from the process in three parts. */
static int dgram_send_out(struct gyre_dgram *dgram, unsigned count)
{
    struct mmsghdr *out = gyre__dgram_scratch(dgram)->out;
    const struct msghdr *first = &out->msg_hdr;
    const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;

    gyre__dgram_loop(dgram)->stats.syscalls++;
    if (count > 1 || first->msg_control != NULL) {
        return gyre__sys_sendmmsg(dgram->fd.number, out, count, flags);
    }
    return gyre__sys_sendto(dgram->fd.number, first->msg_iov->iov_base, first->msg_iov->iov_len,
                            flags, first->msg_name, first->msg_namelen) < 0
               ? -1
               : 1;
}

/* A writer that was refused may go on. */
static inline void dgram_ask_to_drain(struct gyre_dgram *dgram)
{
    if (dgram->refused && dgram->queued_count <= dgram->count_max / 2 &&
        dgram->queued_bytes <= dgram->bytes_max / 2) {
        gyre__dgram_request_work(dgram); /* on_drain */
    }
}

void gyre__dgram_flush(struct gyre_dgram *dgram)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);

    gyre__dgram_send_answers(scratch); /* of whomever: their place is needed */
    while (!gyre__list_empty(&dgram->queue) && !dgram_waits(dgram)) {
        const unsigned count = dgram_describe_queue(dgram, scratch);
        const int rc = dgram_send_out(dgram, count);
        const int error = rc < 0 ? errno : 0;

        if (rc >= 0) {
            dgram_sent(dgram, scratch, rc);
        } else if (error == EAGAIN && !gyre__dgram_is_open(dgram)) {
            break; /* closing: what is not taken at once is dropped */
        } else {
            dgram_send_failed(dgram, error);
        }
    }
    dgram_ask_to_drain(dgram);
}

/* An answer that the socket did not take becomes an item. Its page has had the room set aside. */
static void dgram_keep_answer(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch,
                              unsigned index)
{
    struct gyre__dgram_item *item = scratch->out_item[index];
    const struct msghdr *msg = &scratch->out[index].msg_hdr;
    const struct iovec *iov = &scratch->out_iov[index];
    uint8_t *copy = (uint8_t *)item->to + msg->msg_namelen;

    if (msg->msg_control == NULL) { /* else its source is there */
        item->from_family = 0;
        item->interface = 0;
    }
    item->page = dgram->page;
    item->data = copy;
    item->len = (uint32_t)iov->iov_len;
    item->offset = 0;
    item->error = 0;
    item->segment = 0;
    item->flags = 0;
    item->to_len = msg->msg_namelen;
    item->release = NULL;
    item->context = NULL;
    if (msg->msg_namelen > 0 && msg->msg_name != item->to) {
        memcpy(item->to, msg->msg_name, msg->msg_namelen);
    }
    if (iov->iov_len > 0 && iov->iov_base != copy) {
        memcpy(copy, iov->iov_base, iov->iov_len);
    }
    dgram->page->live++;
    gyre__list_init(&item->link);
    gyre__list_append(&dgram->queue, &item->link);
}

/* The socket took @sent answers of @count, and failed with @error or did not say why. */
static GYRE__RARE void dgram_keep_answers(struct gyre_dgram *dgram, unsigned sent, unsigned count,
                                          int error)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);

    for (unsigned i = 0; i < sent; i++) {
        dgram->queued_bytes -= scratch->out_iov[i].iov_len;
    }
    for (unsigned i = sent; i < count; i++) {
        dgram_keep_answer(dgram, scratch, i);
    }
    if (error != 0 && (error != EAGAIN || gyre__dgram_is_open(dgram))) {
        dgram_send_failed(dgram, error);
    }
    gyre__dgram_flush(dgram);
}

/* ---- an answer alone ---- */

static struct gyre_dgram *dgram_of_fd(const struct gyre_fd *fd)
{
    return gyre_container_of((struct gyre_fd *)(uintptr_t)fd, struct gyre_dgram, fd);
}

/* Somebody waits for the end of a silent send. */
static int dgram_is_awaited(const struct gyre_fd *fd)
{
    const struct gyre_dgram *dgram = dgram_of_fd(fd);

    return !gyre__dgram_is_open(dgram) || dgram->queued_count > 1 || dgram->refused ||
           dgram->suspect != 0;
}

static void dgram_on_sent_silently(struct gyre_fd *fd, int32_t res)
{
    struct gyre_dgram *dgram = dgram_of_fd(fd);
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);

    dgram->silent = 0;
    if (res >= 0) {
        struct gyre__dgram_item *item = dgram_first(dgram);

        scratch->out_item[0] = item;
        scratch->out_iov[0].iov_len = item->len;
        dgram_sent(dgram, scratch, 1);
    } else if (gyre__dgram_is_open(dgram) || res != -EAGAIN) {
        dgram_send_failed(dgram, -res);
    }
    if (!gyre__dgram_is_open(dgram)) {
        gyre__dgram_end(dgram);
    } else {
        gyre__dgram_flush(dgram);
    }
}

/* The only answer, if it is alone in its turn, leaves when the loop sleeps: it becomes an item until then.
 * Returns 0 if it has to be sent at once. */
static int dgram_send_silently(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch)
{
    const struct gyre_loop *loop = gyre__dgram_loop(dgram);
    struct gyre__silent silent = {.sent = dgram_on_sent_silently, .is_awaited = dgram_is_awaited};
    const struct gyre__dgram_item *item;

    if (loop->backend->send_silently == NULL || !loop->alone || dgram->readable ||
        dgram_is_awaited(&dgram->fd) || scratch->out[0].msg_hdr.msg_control != NULL ||
        scratch->out_iov[0].iov_len > SILENT_MOST) {
        return 0;
    }
    dgram_keep_answer(dgram, scratch, 0);
    item = dgram_first(dgram);
    silent.data = item->data;
    silent.len = item->len;
    silent.to = item->to_len > 0 ? item->to : NULL;
    silent.to_len = item->to_len;
    dgram->silent = (uint8_t)loop->backend->send_silently(&dgram->fd, &silent);
    if (!dgram->silent) {
        gyre__dgram_flush(dgram);
    }
    return 1;
}

static inline void dgram_give_answers_page(struct gyre_dgram *dgram)
{
    gyre__slab_give(dgram_slab(dgram), dgram->page);
    dgram->page = NULL;
}

void gyre__dgram_send_answers(struct gyre__dgram_scratch *scratch)
{
    struct gyre_dgram *dgram = scratch->answering;
    const unsigned count = scratch->answers;
    int rc;

    if (count == 0) {
        return;
    }
    gyre_assert(gyre__list_empty(&dgram->queue) && dgram->page->live == 0);
    scratch->answers = 0;
    if (count == 1 && dgram_send_silently(dgram, scratch)) {
        return;
    }
    rc = dgram_send_out(dgram, count);
    if (rc > 0) {
        dgram->room = GYRE__DGRAM_ROOM_UNKNOWN;
        dgram->stats.sent += (unsigned)rc;
        dgram->queued_count -= (unsigned)rc;
    }
    if (rc != (int)count) {
        dgram_keep_answers(dgram, rc > 0 ? (unsigned)rc : 0, count, rc < 0 ? errno : 0);
        return;
    }
    dgram->queued_bytes = 0; /* nothing else was queued */
    dgram_give_answers_page(dgram);
    dgram_ask_to_drain(dgram);
}

void gyre__dgram_on_room(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_dgram *dgram = gyre_container_of(op, struct gyre_dgram, out);

    if (!gyre__dgram_is_open(dgram)) {
        return;
    }
    if (result->res > 0 && (result->res & POLLERR)) {
        gyre__dgram_take_errors(dgram); /* or the next poll would end at once again */
    }
    if (result->res < 0 && dgram->room == GYRE__DGRAM_ROOM_UNTOLD) {
        dgram_fail_first(dgram, result->res); /* or it would be asked for ever */
    }
    dgram->room = result->res < 0 ? GYRE__DGRAM_ROOM_UNTOLD : GYRE__DGRAM_ROOM_TOLD;
    gyre__dgram_flush(dgram);
}

/* ---- queue ---- */

static size_t dgram_longest(const struct gyre_dgram *dgram,
                            const struct gyre_dgram_message *message)
{
    return message->segment == 0 ? dgram->send_max : GYRE_DGRAM_MAX;
}

static int dgram_check_source(const struct gyre_dgram *dgram,
                              const struct gyre_dgram_message *message)
{
    int family;

    if (message->from == NULL && message->interface == 0) {
        return 0;
    }
    family = dgram->traits & GYRE__DGRAM_IPV4   ? AF_INET
             : dgram->traits & GYRE__DGRAM_IPV6 ? AF_INET6
                                                : AF_UNSPEC;
    if (family == AF_UNSPEC || (message->from != NULL && message->from->any.sa_family != family)) {
        return -EAFNOSUPPORT;
    }
    return family;
}

static int dgram_check_message(const struct gyre_dgram *dgram,
                               const struct gyre_dgram_message *message)
{
    const int has_address = message->to != NULL && message->to->len > 0;

    if ((message->data == NULL && message->len > 0) ||
        (has_address && message->to->len > sizeof(message->to->storage))) {
        return -EINVAL;
    }
    if (message->len > dgram_longest(dgram, message) || message->segment > dgram->send_max) {
        return -EMSGSIZE;
    }
    return has_address || (dgram->traits & GYRE__DGRAM_CONNECTED) ? 0 : -EDESTADDRREQ;
}

static inline int dgram_has_space(const struct gyre_dgram *dgram, size_t len)
{
    return dgram->queued_count < dgram->count_max && dgram->queued_bytes <= dgram->bytes_max &&
           len <= dgram->bytes_max - dgram->queued_bytes;
}

static int dgram_check_space(struct gyre_dgram *dgram, size_t len)
{
    if (dgram_has_space(dgram, len)) {
        return 0;
    }
    if (len > dgram->bytes_max) {
        return -EMSGSIZE; /* no drain makes room for it */
    }
    dgram->refused = 1;
    return -ENOBUFS;
}

static int dgram_leaves_by_ipv4(const struct gyre_dgram *dgram, const struct gyre_addr *to)
{
    return to != NULL && to->len > 0 ? gyre__dgram_is_ipv4(to)
                                     : (dgram->traits & GYRE__DGRAM_PEER_IPV4) != 0;
}

static void dgram_set_source(const struct gyre_dgram *dgram, struct gyre__dgram_item *item,
                             const struct gyre_dgram_message *message, int family)
{
    item->from_family = (uint8_t)family;
    item->interface = message->interface;
    memset(&item->from, 0, sizeof(item->from));
    if (message->from != NULL && family == AF_INET) {
        item->from.in = message->from->in.sin_addr;
    } else if (message->from != NULL && family == AF_INET6) {
        item->from.in6 = message->from->in6.sin6_addr;
        if (message->interface == 0 && IN6_IS_ADDR_LINKLOCAL(&item->from.in6)) {
            item->interface = message->from->in6.sin6_scope_id; /* no address without it */
        }
    } else if (family == AF_INET6 && dgram_leaves_by_ipv4(dgram, message->to)) {
        item->from.in6.s6_addr[10] = 0xff; /* even no address has to be a mapped one */
        item->from.in6.s6_addr[11] = 0xff;
    }
}

static void dgram_fill(struct gyre__dgram_item *item, const struct gyre_dgram_message *message,
                       socklen_t to_len)
{
    uint8_t *copy = (uint8_t *)item->to + to_len;

    item->data = message->data;
    item->len = (uint32_t)message->len;
    item->offset = 0;
    item->error = 0;
    item->segment = message->segment;
    item->flags = 0;
    item->to_len = to_len;
    item->release = message->release;
    item->context = message->context;
    if (to_len > 0) {
        memcpy(item->to, &message->to->any, to_len);
    }
    if (message->release == NULL && message->len > 0) {
        memcpy(copy, message->data, message->len);
        item->data = copy;
    }
}

static inline socklen_t dgram_to_len(const struct gyre_dgram_message *message)
{
    return message->to != NULL ? message->to->len : 0;
}

static int dgram_enqueue(struct gyre_dgram *dgram, const struct gyre_dgram_message *message,
                         int family)
{
    const socklen_t to_len = message->to != NULL ? message->to->len : 0;
    const size_t copied = message->release == NULL ? message->len : 0;
    struct gyre__dgram_item *item;

    if (dgram->answering) {
        gyre__dgram_send_answers(gyre__dgram_scratch(dgram)); /* they come first */
    }
    item = dgram_item_take(dgram, to_len + copied);
    if (item == NULL) {
        return -ENOMEM;
    }
    dgram_fill(item, message, to_len);
    dgram_set_source(dgram, item, message, family);
    gyre__list_init(&item->link);
    gyre__list_append(&dgram->queue, &item->link);
    dgram->queued_bytes += message->len;
    dgram->queued_count++;
    if (dgram->queued_count == GYRE__DGRAM_BATCH) {
        gyre__dgram_flush(dgram); /* a full batch leaves while it is in the cache */
    } else {
        gyre__task_request(gyre__dgram_loop(dgram), &dgram->task);
    }
    return 0;
}

/* ---- answers ---- */

/* Room for an item, in a page of its own for what is answered in one call. NULL: queue it. */
static inline struct gyre__dgram_item *
dgram_answer_room(struct gyre_dgram *dgram, struct gyre__dgram_scratch *scratch, size_t len)
{
    struct gyre__dgram_page *page;

    if (scratch->answers > 0 && dgram->page->used + len > GYRE__DGRAM_PAGE_ROOM) {
        gyre__dgram_send_answers(scratch);
    }
    if (scratch->answers == 0 && (!gyre__list_empty(&dgram->queue) || dgram->page != NULL ||
                                  dgram_make_room(dgram, len) < 0)) {
        return NULL;
    }
    page = dgram->page;
    page->used += (uint32_t)len;
    return (struct gyre__dgram_item *)(void *)(page->bytes + page->used - len);
}

static inline int dgram_lies_in(const void *data, const void *from, size_t len)
{
    return (uintptr_t)data - (uintptr_t)from < len;
}

/* Describe an answer; it has been checked. Returns its index, or -1 if it has to be queued. */
static inline int dgram_answer(struct gyre_dgram *dgram, const struct gyre_addr *to,
                               const void *data, size_t len)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);
    const socklen_t to_len = to != NULL ? to->len : 0;
    struct gyre__dgram_item *item = dgram_answer_room(
        dgram, scratch, dgram_round_up(sizeof(struct gyre__dgram_item) + to_len + len));
    const void *name = item;
    unsigned index;

    if (item == NULL) {
        return -1;
    }
    if (to_len > 0) {
        name = dgram_lies_in(to, scratch->from, sizeof(scratch->from))
                   ? &to->any
                   : memcpy(item->to, &to->any, to_len);
    }
    if (len > 0 && !dgram_lies_in(data, scratch->rooms, sizeof(scratch->rooms))) {
        data = memcpy((uint8_t *)item->to + to_len, data, len);
    }
    index = scratch->answers++;
    dgram_describe(scratch, index, name, to_len);
    scratch->out_item[index] = item;
    scratch->out_iov[index].iov_base = (void *)(uintptr_t)data;
    scratch->out_iov[index].iov_len = len;
    dgram->queued_bytes += len;
    dgram->queued_count++;
    return (int)index;
}

/* A full batch leaves while it is in the cache. */
static inline void dgram_answered(struct gyre_dgram *dgram, int index)
{
    if (index == GYRE__DGRAM_BATCH - 1) {
        gyre__dgram_send_answers(gyre__dgram_scratch(dgram));
    }
}

/* Returns 0 if it has to be queued. */
static int dgram_answer_message(struct gyre_dgram *dgram, const struct gyre_dgram_message *message,
                                int family)
{
    struct gyre__dgram_scratch *scratch = gyre__dgram_scratch(dgram);
    int index;

    if (!dgram->answering || message->release != NULL || message->segment != 0) {
        return 0;
    }
    index = dgram_answer(dgram, message->to, message->data, message->len);
    if (index < 0) {
        return 0;
    }
    if (family != 0) {
        struct gyre__dgram_item *item = scratch->out_item[index];

        item->segment = 0;
        dgram_set_source(dgram, item, message, family);
        gyre__dgram_write_control(item, message->len, &scratch->out[index].msg_hdr,
                                  scratch->out_control[index]);
    }
    dgram_answered(dgram, index);
    return 1;
}

/* ---- send ---- */

int gyre_dgram_send_message(struct gyre_dgram *dgram, const struct gyre_dgram_message *message)
{
    int rc = message == NULL ? -EINVAL : gyre__dgram_check(dgram);
    int family;

    rc = rc < 0 ? rc : dgram_check_message(dgram, message);
    if (rc < 0) {
        return rc;
    }
    family = dgram_check_source(dgram, message);
    if (family < 0) {
        return family;
    }
    rc = dgram_check_space(dgram, message->len);
    if (rc < 0) {
        return rc;
    }
    return dgram_answer_message(dgram, message, family) ? 0 : dgram_enqueue(dgram, message, family);
}

/* What most answers are: bytes, to an address. Anything else is looked at more closely. */
static inline int dgram_is_usual_answer(const struct gyre_dgram *dgram, const struct gyre_addr *to,
                                        const void *data, size_t len)
{
    return dgram != NULL && dgram->answering && gyre__loop_check(gyre__dgram_loop(dgram)) == 0 &&
           data != NULL && len <= dgram->send_max && to != NULL && to->len > 0 &&
           to->len <= sizeof(to->storage) && dgram_has_space(dgram, len);
}

static GYRE__APART int dgram_send_unusual(struct gyre_dgram *dgram, const struct gyre_addr *to,
                                          const void *data, size_t len)
{
    const struct gyre_dgram_message message = {.to = to, .data = data, .len = len};

    return gyre_dgram_send_message(dgram, &message);
}

int gyre_dgram_send(struct gyre_dgram *dgram, const struct gyre_addr *to, const void *data,
                    size_t len)
{
    if (dgram_is_usual_answer(dgram, to, data, len)) {
        const int index = dgram_answer(dgram, to, data, len);

        if (index >= 0) {
            dgram_answered(dgram, index);
            return 0;
        }
    }
    return dgram_send_unusual(dgram, to, data, len);
}

/* From the address that was asked. IPv4: or from one of its interface, if that was a group's. */
static GYRE__APART int dgram_reply_from(struct gyre_dgram *dgram,
                                        const struct gyre_datagram *datagram, const void *data,
                                        size_t len)
{
    struct gyre_dgram_message message = {.to = datagram->from, .data = data, .len = len};
    struct gyre_addr from = *datagram->local;

    if (from.any.sa_family == AF_INET) {
        from.in.sin_addr.s_addr = datagram->source;
    } else if (IN6_IS_ADDR_V4MAPPED(&from.in6.sin6_addr)) {
        memcpy(from.in6.sin6_addr.s6_addr + MAPPED_PREFIX, &datagram->source,
               sizeof(datagram->source));
    }
    if (from.any.sa_family == AF_INET || !IN6_IS_ADDR_MULTICAST(&from.in6.sin6_addr)) {
        message.from = &from;
    }
    return gyre_dgram_send_message(dgram, &message);
}

int gyre_dgram_reply(struct gyre_dgram *dgram, const struct gyre_datagram *datagram,
                     const void *data, size_t len)
{
    if (datagram == NULL) {
        return -EINVAL;
    }
    return datagram->local == NULL ? gyre_dgram_send(dgram, datagram->from, data, len)
                                   : dgram_reply_from(dgram, datagram, data, len);
}
