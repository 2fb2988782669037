/*
 * The send queue of a stream: chunks, in the order in which they were written. One operation sends
 * the first of them, up to GYRE_IOV_MAX pieces at a time; when it completes, what has left is
 * released and the next is sent.
 *
 *     write, forward --> queue --(end of the turn, or much is queued)--> flush --> on_sent --> ...
 *
 * Small writes join in one buffer. A stream that has nothing to send holds none of this: the flow,
 * chunks and buffers are the loop's, lent to whoever sends.
 */
#include "net/stream.h"

#include "base/alloc.h"
#include "base/sys.h"
#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    /* So much does not wait for the end of the turn if it can leave at once: a system call more
     * weighs nothing beside it, and it is still in the cache. */
    SEND_EAGER_LEN = 16 << 10,
    /* Of one operation. A cancel waits while it is copied; with half of it, bulk cost 2 % more. */
    SEND_MOST_LEN = 512 << 10,
    /* Of one that is not TCP: its end is the only sign of progress, for what the peer takes makes
     * room that is filled at once. */
    SEND_MOST_OTHER_LEN = 64 << 10,
    WRITE_HIGH_DEFAULT = 256 << 10,
    WRITE_CAP_DEFAULT = 4 << 20,
};

/* Descriptors on their way, behind a chunk; the control message that carries them. */
struct gyre__passed {
    uint32_t count;
    size_t control_len;
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(GYRE_DESCRIPTORS_MAX * sizeof(int))];
};

/* struct tcp_info as far as it is needed here, which glibc 2.36 does not have (tcp(7), Linux 4.1). */
struct tcp_progress {
    struct tcp_info info;
    uint64_t pacing_rate;
    uint64_t max_pacing_rate;
    uint64_t bytes_acked;
};

_Static_assert(offsetof(struct tcp_progress, bytes_acked) == 120, "as in linux/tcp.h");

static uint32_t cap_of(const struct gyre_stream *stream)
{
    const uint32_t cap = stream->handler->write_cap;
    const uint32_t high = stream->handler->write_high;

    if (cap != 0) {
        return cap < INT32_MAX ? cap : INT32_MAX;
    }
    return high <= WRITE_CAP_DEFAULT / 2 ? WRITE_CAP_DEFAULT
                                         : (high < INT32_MAX / 2 ? 2 * high : INT32_MAX);
}

static uint32_t high_of(const struct gyre_stream *stream)
{
    const uint32_t cap = stream->handler->write_cap;

    if (stream->handler->write_high != 0) {
        return stream->handler->write_high;
    }
    return cap != 0 && cap < 2 * WRITE_HIGH_DEFAULT ? cap / 2 : WRITE_HIGH_DEFAULT;
}

static uint32_t low_of(const struct gyre_stream *stream)
{
    const uint32_t high = high_of(stream);
    const uint32_t low = stream->handler->write_low;

    return low != 0 && low < high ? low : high / 2;
}

/* ---- flows ---- */

static void on_sent_one(struct gyre_op *op, const struct gyre_result *result);
static void on_sent_pieces(struct gyre_op *op, const struct gyre_result *result);

static void flush_task(struct gyre_task *task)
{
    struct gyre__flow *flow = gyre_container_of(task, struct gyre__flow, flush);

    if (gyre__sends_now(flow->stream->fd.loop)) {
        gyre__flow_push(flow->stream);
    } else {
        gyre__flow_flush(flow);
    }
}

void gyre__flow_construct(void *memory)
{
    struct gyre__flow *flow = memory;

    memset(flow, 0, sizeof(*flow));
    gyre_op_init(&flow->send, on_sent_one);
    gyre__task_init(&flow->flush, flush_task);
}

void gyre__parcel_construct(void *memory)
{
    memset(memory, 0, sizeof(struct gyre__parcel));
}

static inline struct gyre__flow *flow_of(struct gyre_stream *stream)
{
    struct gyre__flow *flow = stream->flow;

    if (flow != NULL) {
        return flow;
    }
    flow = gyre__slab_take(&stream->fd.loop->net->flows);
    if (flow != NULL) { /* all else is as it was given back: empty */
        flow->stream = stream;
        stream->flow = flow;
    }
    return flow;
}

struct gyre__flow *gyre__flow_of(struct gyre_stream *stream)
{
    return flow_of(stream);
}

static GYRE__INLINE void settle_flow(struct gyre_stream *stream, struct gyre__flow *flow)
{
    if (flow->queue.first != NULL || flow->stash.first != NULL || flow->sending != 0 ||
        flow->parcel != NULL || flow->coupled != NULL) {
        return;
    }
    gyre_assert(flow->queued == 0 && flow->send.state == GYRE__OP_IDLE);
    if (gyre__task_pending(&flow->flush)) {
        gyre__task_withdraw(&flow->flush);
    }
    stream->flow = NULL;
    gyre__slab_give(&stream->fd.loop->net->flows, flow);
}

void gyre__flow_settle(struct gyre_stream *stream)
{
    if (stream->flow != NULL) {
        settle_flow(stream, stream->flow);
    }
}

/* ---- chunks ---- */

static inline void push_chunk(struct gyre__chunks *chunks, struct gyre__chunk *chunk)
{
    chunk->next = NULL;
    if (chunks->first == NULL) {
        chunks->first = chunk;
    } else {
        chunks->last->next = chunk;
    }
    chunks->last = chunk;
}

static struct gyre__chunk *pop_chunk(struct gyre__chunks *chunks)
{
    struct gyre__chunk *chunk = chunks->first;

    chunks->first = chunk->next;
    return chunk;
}

static GYRE__RARE void drop_passed(struct gyre__passed *passed)
{
    int number;

    for (uint32_t i = 0; i < passed->count; i++) {
        memcpy(&number, CMSG_DATA((struct cmsghdr *)passed->control) + i * sizeof(number),
               sizeof(number));
        gyre__sys_close(number);
    }
    gyre__free(passed);
}

static void drop_buffer(struct gyre__net *net, struct gyre__buffer *buffer)
{
    if (--buffer->chunks == 0) {
        gyre__slab_give(&net->buffers, buffer);
    }
}

/* The chunk is given back first: the caller is called, and may do anything. */
static void release_ref(struct gyre__net *net, struct gyre__chunk *chunk)
{
    const gyre_release_fn fn = chunk->release.fn;
    void *const context = chunk->release.context;

    gyre__slab_give(&net->chunks, chunk);
    if (fn != NULL) {
        fn(context);
    }
}

/* Its memory goes back to whoever it is of. */
static inline void release_chunk(struct gyre__net *net, struct gyre__chunk *chunk)
{
    if (chunk->passed != NULL) {
        drop_passed(chunk->passed);
    }
    if (chunk->kind == GYRE__CHUNK_REF) {
        release_ref(net, chunk);
        return;
    }
    if (chunk->kind == GYRE__CHUNK_LEASE) {
        gyre_lease_release(&chunk->lease);
    } else if (chunk->kind == GYRE__CHUNK_COPY) {
        drop_buffer(net, chunk->buffer);
    }
    gyre__slab_give(&net->chunks, chunk);
}

static inline struct gyre__chunk *take_chunk(struct gyre__net *net, enum gyre__chunk_kind kind)
{
    struct gyre__chunk *chunk = gyre__slab_take(&net->chunks);

    if (chunk != NULL) {
        chunk->kind = (uint16_t)kind;
        chunk->passed = NULL;
    }
    return chunk;
}

static void drop_chunks(struct gyre__net *net, struct gyre__chunks *chunks)
{
    while (chunks->first != NULL) {
        release_chunk(net, pop_chunk(chunks));
    }
}

/* What is to be sent. The flow is in order before callbacks run: they may do anything. */
static void drop_queue(struct gyre_stream *stream)
{
    struct gyre__flow *flow = stream->flow;
    struct gyre__chunks queue = flow->queue;

    flow->queue.first = NULL;
    flow->queued = 0;
    flow->weight = 0;
    flow->filling = NULL;
    gyre__flow_settle(stream);
    drop_chunks(stream->fd.loop->net, &queue);
}

void gyre__flow_drop(struct gyre_stream *stream)
{
    gyre__flow_drop_stash(stream);
    if (stream->flow != NULL) {
        drop_queue(stream);
    }
}

/* ---- descriptors on their way ---- */

static int duplicate(struct gyre__passed *passed, const int *numbers, size_t count)
{
    struct cmsghdr *header = (struct cmsghdr *)passed->control;

    for (; passed->count < count; passed->count++) {
        const int copy = gyre__sys_fcntl(numbers[passed->count], F_DUPFD_CLOEXEC, 0);

        if (copy < 0) {
            return -errno;
        }
        memcpy(CMSG_DATA(header) + passed->count * sizeof(copy), &copy, sizeof(copy));
    }
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    passed->control_len = CMSG_SPACE(count * sizeof(int));
    return 0;
}

static int make_passed(const int *numbers, size_t count, struct gyre__passed **out_passed)
{
    struct gyre__passed *passed = gyre__zalloc(sizeof(*passed));
    int rc;

    if (passed == NULL) {
        return -ENOMEM;
    }
    rc = duplicate(passed, numbers, count);
    if (rc < 0) {
        drop_passed(passed);
        return rc;
    }
    *out_passed = passed;
    return 0;
}

/* Those that came with the bytes being handed out, for later. */
static struct gyre__passed *keep_passed(struct gyre__passed_in *from)
{
    struct gyre__passed *passed = gyre__zalloc(sizeof(*passed));

    if (passed != NULL) {
        passed->count = from->count;
        memcpy(CMSG_DATA((struct cmsghdr *)passed->control), from->numbers,
               from->count * sizeof(int));
        from->count = 0;
    }
    return passed;
}

static void return_passed(struct gyre__passed *passed, struct gyre__passed_in *to)
{
    to->count = passed->count;
    to->first = 0;
    to->came = 1;
    memcpy(to->numbers, CMSG_DATA((struct cmsghdr *)passed->control), to->count * sizeof(int));
    gyre__free(passed);
}

int gyre_stream_take_descriptors(struct gyre_stream *stream, int *numbers, size_t count)
{
    struct gyre__passed_in *passed;
    size_t taken = 0;

    if (stream == NULL || stream->fd.loop == NULL || (numbers == NULL && count > 0)) {
        return -EINVAL;
    }
    passed = &stream->fd.loop->passed;
    while (taken < count && passed->first < passed->count) {
        numbers[taken++] = passed->numbers[passed->first++];
    }
    return (int)taken;
}

/* ---- the stash ---- */

static void push_front(struct gyre__chunks *chunks, struct gyre__chunk *chunk)
{
    chunk->next = chunks->first;
    if (chunks->first == NULL) {
        chunks->last = chunk;
    }
    chunks->first = chunk;
}

int gyre__flow_stash(struct gyre_stream *stream, const struct gyre_lease *lease,
                     enum gyre__stash_end end)
{
    struct gyre__net *net = stream->fd.loop->net;
    struct gyre__flow *flow = gyre__flow_of(stream);
    struct gyre__chunk *chunk = flow != NULL ? take_chunk(net, GYRE__CHUNK_LEASE) : NULL;
    struct gyre__passed_in *passed = &stream->fd.loop->passed;
    int rc;

    if (chunk != NULL && passed->came) {
        chunk->passed = keep_passed(passed);
        if (chunk->passed == NULL) {
            gyre__slab_give(&net->chunks, chunk);
            chunk = NULL;
        }
    }
    if (chunk == NULL) {
        gyre__flow_settle(stream);
        return -ENOMEM;
    }
    rc = gyre_lease_retain(lease, &chunk->lease);
    gyre_assert(rc == 0);
    if (end == GYRE__STASH_FIRST) {
        push_front(&flow->stash, chunk);
    } else {
        push_chunk(&flow->stash, chunk);
    }
    return 0;
}

int gyre__flow_unstash(struct gyre_stream *stream, struct gyre_lease *out_lease)
{
    struct gyre__flow *flow = stream->flow;
    struct gyre__chunk *chunk;

    if (flow == NULL || flow->stash.first == NULL) {
        return 0;
    }
    chunk = pop_chunk(&flow->stash);
    *out_lease = chunk->lease;
    if (chunk->passed != NULL) {
        return_passed(chunk->passed, &stream->fd.loop->passed);
    }
    gyre__slab_give(&stream->fd.loop->net->chunks, chunk);
    return 1;
}

void gyre__flow_drop_stash(struct gyre_stream *stream)
{
    if (stream->flow != NULL) { /* leases and descriptors: no callback runs */
        drop_chunks(stream->fd.loop->net, &stream->flow->stash);
        gyre__flow_settle(stream);
    }
}

/* ---- flow control ---- */

static GYRE__RARE int queue_loan(struct gyre_stream *stream);

int gyre_stream_couple(struct gyre_stream *a, struct gyre_stream *b)
{
    struct gyre__flow *flow_a;
    struct gyre__flow *flow_b;

    if (a == NULL || b == NULL || a->fd.loop == NULL || a->fd.loop != b->fd.loop) {
        return -EINVAL;
    }
    if (gyre__loop_check(a->fd.loop) < 0) {
        return gyre__loop_check(a->fd.loop);
    }
    if (a->state == GYRE__STREAM_NONE || a->state > GYRE__STREAM_OPEN ||
        b->state == GYRE__STREAM_NONE || b->state > GYRE__STREAM_OPEN) {
        return -ENOTCONN;
    }
    if ((gyre__stream_has_loan(a) && queue_loan(a) < 0) ||
        (gyre__stream_has_loan(b) && queue_loan(b) < 0)) {
        return -ENOMEM;
    }
    flow_a = gyre__flow_of(a);
    flow_b = gyre__flow_of(b);
    if (flow_a == NULL || flow_b == NULL || flow_a->coupled != NULL || flow_b->coupled != NULL) {
        const int rc = flow_a == NULL || flow_b == NULL ? -ENOMEM : -EBUSY;

        gyre__flow_settle(a);
        gyre__flow_settle(b);
        return rc;
    }
    flow_a->coupled = b;
    flow_b->coupled = a;
    a->flags |= b->flags & GYRE__STREAM_FULL ? GYRE__STREAM_HELD : 0;
    b->flags |= a->flags & GYRE__STREAM_FULL ? GYRE__STREAM_HELD : 0;
    return 0;
}

/* Back to reading; if there is no memory even for that, it cannot go on. */
static void let_read(struct gyre_stream *stream)
{
    if (stream->flags & GYRE__STREAM_HELD) {
        stream->flags &= (uint16_t)~GYRE__STREAM_HELD;
        if (gyre__stream_read_on(stream) < 0) {
            gyre__stream_fail(stream, -ENOMEM);
        }
    }
}

void gyre__flow_uncouple(struct gyre_stream *stream)
{
    struct gyre_stream *other = stream->flow != NULL ? stream->flow->coupled : NULL;

    if (other == NULL) {
        return;
    }
    stream->flow->coupled = NULL;
    stream->flags &= (uint16_t)~GYRE__STREAM_HELD;
    if (other != stream) {
        other->flow->coupled = NULL;
        let_read(other);
        gyre__flow_settle(other);
    }
}

static GYRE__RARE void note_full(struct gyre_stream *stream, const struct gyre__flow *flow)
{
    stream->flags |= GYRE__STREAM_FULL;
    if (flow->coupled != NULL) {
        flow->coupled->flags |= GYRE__STREAM_HELD;
    }
}

static GYRE__RARE void note_drained(struct gyre_stream *stream)
{
    stream->flags &= (uint16_t)~GYRE__STREAM_FULL;
    if (stream->flow != NULL && stream->flow->coupled != NULL) {
        let_read(stream->flow->coupled);
    }
    if (stream->state == GYRE__STREAM_OPEN && stream->handler->on_drain != NULL) {
        stream->handler->on_drain(stream);
    }
}

/* ---- writing ---- */

/* What the queue counts for: its bytes, and more for pieces of very few. */
static size_t weight_of(const struct gyre__flow *flow)
{
    return flow != NULL ? (size_t)flow->queued + flow->weight : 0;
}

/* Who was refused is told when there is room again, though the queue may not be above its mark. */
static GYRE__RARE int refuse_write(struct gyre_stream *stream)
{
    if (gyre__stream_sends(stream)) {
        note_full(stream, stream->flow);
    }
    return -ENOBUFS;
}

static inline int check_write(struct gyre_stream *stream, const void *data, size_t len)
{
    int rc;

    if (stream == NULL || stream->fd.loop == NULL || (data == NULL && len > 0) || len > INT32_MAX) {
        return -EINVAL;
    }
    rc = gyre__loop_check(stream->fd.loop);
    if (rc < 0) {
        return rc;
    }
    if (stream->state != GYRE__STREAM_OPEN && stream->state != GYRE__STREAM_CONNECTING) {
        return -ENOTCONN;
    }
    if (stream->flags & GYRE__STREAM_SHUT) {
        return -EPIPE;
    }
    if (gyre__stream_has_loan(stream) && queue_loan(stream) < 0) { /* more comes behind it */
        return -ENOMEM;
    }
    if (weight_of(stream->flow) + len > cap_of(stream)) {
        return refuse_write(stream);
    }
    return 0;
}

static inline int is_eager(const struct gyre_stream *stream, const struct gyre__flow *flow)
{
    return flow->queued >= SEND_EAGER_LEN && gyre__fd_sends_directly(&stream->fd);
}

/* See that what was queued is sent: at once if it is much, else at the end of the turn. */
static void send_soon(struct gyre_stream *stream, struct gyre__flow *flow)
{
    if (flow->sending != 0 || stream->state == GYRE__STREAM_CONNECTING) {
        return; /* it follows what is under way */
    }
    if (is_eager(stream, flow)) {
        gyre__flow_flush(flow);
    } else {
        gyre__task_request(stream->fd.loop, &flow->flush);
    }
}

/* Bytes have joined the queue. Returns how many it has. */
static inline int note_queued(struct gyre_stream *stream, size_t len)
{
    struct gyre__flow *flow = stream->flow;
    const int inside = stream->flags & GYRE__STREAM_INSIDE; /* its queue will be seen to */
    const int was_empty = flow->queued == 0;

    flow->queued += (uint32_t)len;
    if (was_empty && !inside) {
        gyre__stream_watch_sending(stream);
    }
    if (weight_of(flow) > high_of(stream)) {
        note_full(stream, flow);
    }
    if (!inside || is_eager(stream, flow)) {
        send_soon(stream, flow);
    }
    return (int)flow->queued;
}

/* Chunks with buffers for @len bytes, or none. */
static int take_buffers(struct gyre__net *net, size_t len, struct gyre__chunks *out_chunks)
{
    while (len > 0) {
        struct gyre__chunk *chunk = take_chunk(net, GYRE__CHUNK_COPY);
        struct gyre__buffer *buffer = chunk != NULL ? gyre__slab_take(&net->buffers) : NULL;

        if (buffer == NULL) {
            if (chunk != NULL) {
                gyre__slab_give(&net->chunks, chunk);
            }
            drop_chunks(net, out_chunks);
            return -ENOMEM;
        }
        chunk->len = (uint32_t)(len < sizeof(buffer->bytes) ? len : sizeof(buffer->bytes));
        chunk->data = buffer->bytes;
        chunk->buffer = buffer;
        buffer->chunks = 1;
        buffer->used = chunk->len;
        push_chunk(out_chunks, chunk);
        len -= chunk->len;
    }
    return 0;
}

static inline void add_chunk(struct gyre__flow *flow, struct gyre__chunk *chunk)
{
    chunk->weight = (uint16_t)(chunk->len < GYRE__CHUNK_LEAST ? GYRE__CHUNK_LEAST - chunk->len : 0);
    push_chunk(&flow->queue, chunk);
    flow->weight += chunk->weight;
}

static size_t room_in(const struct gyre__buffer *buffer)
{
    return buffer != NULL ? sizeof(buffer->bytes) - buffer->used : 0;
}

/* Whether the last chunk ends where the buffer's free room begins, so that it can grow. What is
 * being sent of it does not matter: that is a part of the queue's beginning. */
static int can_grow(const struct gyre__flow *flow)
{
    const struct gyre__chunk *last = flow->queue.first != NULL ? flow->queue.last : NULL;

    return last != NULL && flow->filling != NULL && last->kind == GYRE__CHUNK_COPY &&
           last->buffer == flow->filling &&
           last->data + last->len == flow->filling->bytes + flow->filling->used;
}

/* Put bytes into the room of the buffer that is being filled; @chunk, unless the last can grow, is
 * for them. */
static void fill_buffer(struct gyre__flow *flow, const uint8_t *data, size_t len,
                        struct gyre__chunk *chunk)
{
    struct gyre__buffer *buffer = flow->filling;

    memcpy(buffer->bytes + buffer->used, data, len);
    if (chunk == NULL) {
        flow->queue.last->len += (uint32_t)len;
    } else {
        chunk->data = buffer->bytes + buffer->used;
        chunk->len = (uint32_t)len;
        chunk->buffer = buffer;
        buffer->chunks++;
        add_chunk(flow, chunk);
    }
    buffer->used += (uint32_t)len;
}

/* Takes memory for all of the bytes before it copies the first: all of them are queued, or none.
 * @passed, unless NULL, goes with the first, which then has a chunk of its own. */
static int queue_copy(struct gyre_stream *stream, const uint8_t *data, size_t len,
                      struct gyre__passed *passed)
{
    struct gyre__net *net = stream->fd.loop->net;
    struct gyre__flow *flow = stream->flow;
    const size_t room = room_in(flow->filling);
    const size_t joined = passed != NULL ? 0 : len < room ? len : room;
    struct gyre__chunks fresh = {0};
    struct gyre__chunk *own = NULL;

    if (joined > 0 && !can_grow(flow)) {
        own = take_chunk(net, GYRE__CHUNK_COPY);
        if (own == NULL) {
            return -ENOMEM;
        }
    }
    if (take_buffers(net, len - joined, &fresh) < 0) {
        if (own != NULL) {
            gyre__slab_give(&net->chunks, own);
        }
        return -ENOMEM;
    }
    if (joined > 0) {
        fill_buffer(flow, data, joined, own);
    }
    if (passed != NULL) {
        fresh.first->passed = passed;
    }
    for (data += joined; fresh.first != NULL;) {
        struct gyre__chunk *chunk = pop_chunk(&fresh);

        memcpy(chunk->buffer->bytes, data, chunk->len);
        data += chunk->len;
        add_chunk(flow, chunk);
        flow->filling = chunk->buffer;
    }
    return 0;
}

int gyre_stream_write(struct gyre_stream *stream, const void *data, size_t len)
{
    int rc = check_write(stream, data, len);

    if (rc < 0 || len == 0) {
        return rc < 0 ? rc : (int)gyre_stream_queued(stream);
    }
    rc = gyre__flow_of(stream) == NULL ? -ENOMEM : queue_copy(stream, data, len, NULL);
    if (rc < 0) {
        gyre__flow_settle(stream);
        return rc;
    }
    return note_queued(stream, len);
}

/* A chunk of bytes that stay where they are; its kind's own fields are the caller's to set. */
static inline struct gyre__chunk *
queue_chunk(struct gyre_stream *stream, enum gyre__chunk_kind kind, const void *data, size_t len)
{
    struct gyre__flow *flow = flow_of(stream);
    struct gyre__chunk *chunk = flow != NULL ? take_chunk(stream->fd.loop->net, kind) : NULL;

    if (chunk == NULL) {
        gyre__flow_settle(stream);
        return NULL;
    }
    chunk->data = data;
    chunk->len = (uint32_t)len;
    add_chunk(flow, chunk);
    return chunk;
}

int gyre_stream_write_ref(struct gyre_stream *stream, const void *data, size_t len,
                          gyre_release_fn release, void *context)
{
    const int rc = len == 0 ? -EINVAL : check_write(stream, data, len);
    struct gyre__chunk *chunk;

    if (rc < 0) {
        return rc;
    }
    chunk = queue_chunk(stream, GYRE__CHUNK_REF, data, len);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    chunk->release.fn = release;
    chunk->release.context = context;
    return note_queued(stream, len);
}

/* A chunk of a lease's bytes but the first @gone, which holds them by itself. */
static inline struct gyre__chunk *queue_lease(struct gyre_stream *stream,
                                              const struct gyre_lease *lease, size_t gone)
{
    struct gyre__chunk *chunk =
        queue_chunk(stream, GYRE__CHUNK_LEASE, lease->data, lease->len - gone);

    if (chunk != NULL) {
        const int rc = gyre_lease_retain(lease, &chunk->lease);

        gyre_assert(rc == 0);
        chunk->data = chunk->lease.data + gone; /* it may have been copied */
    }
    return chunk;
}

/* What was lent joins the queue. Returns 0, or -ENOMEM, and it is still lent. */
static int queue_loan(struct gyre_stream *stream)
{
    struct gyre__net *net = stream->fd.loop->net;
    const struct gyre_lease *loan = net->loan;

    if (queue_lease(stream, loan, 0) == NULL) {
        return -ENOMEM;
    }
    stream->flow->queued += loan->len;
    net->loan = NULL;
    return 0;
}

/* Nothing is queued, so what on_data() was given can be sent from where it lies when that returns:
 * in one piece, and without a mark being reached. */
static int can_lend(const struct gyre_stream *stream, const struct gyre_lease *lease)
{
    return (stream->flags & GYRE__STREAM_INSIDE) && lease == stream->fd.loop->net->handed &&
           stream->flow == NULL && lease->len <= SEND_MOST_OTHER_LEN &&
           lease->len + GYRE__CHUNK_LEAST <= high_of(stream);
}

int gyre_stream_forward(struct gyre_stream *stream, const struct gyre_lease *data)
{
    const int rc =
        data == NULL || data->len == 0 ? -EINVAL : check_write(stream, data->data, data->len);

    if (rc < 0) {
        return rc;
    }
    if (can_lend(stream, data)) {
        stream->fd.loop->net->loan = data;
        return (int)data->len;
    }
    if (queue_lease(stream, data, 0) == NULL) {
        return -ENOMEM;
    }
    return note_queued(stream, data->len);
}

size_t gyre_stream_queued(const struct gyre_stream *stream)
{
    if (stream == NULL) {
        return 0;
    }
    if (gyre__stream_has_loan(stream)) {
        return stream->fd.loop->net->loan->len;
    }
    return stream->flow != NULL ? stream->flow->queued : 0;
}

int gyre_stream_writable(const struct gyre_stream *stream)
{
    return stream != NULL &&
           (stream->state == GYRE__STREAM_OPEN || stream->state == GYRE__STREAM_CONNECTING) &&
           !(stream->flags & (GYRE__STREAM_SHUT | GYRE__STREAM_FULL));
}

/* ---- descriptors ---- */

int gyre_stream_write_descriptors(struct gyre_stream *stream, const void *data, size_t len,
                                  const int *numbers, size_t count)
{
    struct gyre__passed *passed = NULL;
    int rc = len == 0 || numbers == NULL || count == 0 || count > GYRE_DESCRIPTORS_MAX
                 ? -EINVAL
                 : check_write(stream, data, len);

    rc = rc < 0 ? rc : gyre__socket_check_unix(stream->fd.number);
    if (rc < 0) {
        return rc;
    }
    rc = make_passed(numbers, count, &passed);
    if (rc == 0) {
        rc = gyre__flow_of(stream) == NULL ? -ENOMEM : queue_copy(stream, data, len, passed);
    }
    if (rc < 0) {
        if (passed != NULL) {
            drop_passed(passed);
        }
        gyre__flow_settle(stream);
        return rc;
    }
    return note_queued(stream, len);
}

/* ---- sending ---- */

static size_t most_len(struct gyre_stream *stream)
{
    return gyre__fd_is(&stream->fd, GYRE__FD_TCP) ? SEND_MOST_LEN : SEND_MOST_OTHER_LEN;
}

/* Whether @data lies behind @piece, as what was received in two parts often does. */
static int goes_on(const struct iovec *piece, const uint8_t *data)
{
    return (const uint8_t *)piece->iov_base + piece->iov_len == data;
}

/* Pieces for one operation; descriptors go with the first byte of the first of them only. Returns
 * their length. */
static size_t collect_pieces(const struct gyre__flow *flow, struct iovec *pieces, size_t *out_count)
{
    const size_t most = most_len(flow->stream);
    const struct gyre__chunk *chunk = flow->queue.first;
    size_t len = 0;
    size_t count = 0;

    for (; chunk != NULL && count < GYRE_IOV_MAX && len < most &&
           (count == 0 || chunk->passed == NULL);
         chunk = chunk->next) {
        const size_t room = most - len;
        const size_t part = chunk->len < room ? chunk->len : room;

        if (count > 0 && goes_on(&pieces[count - 1], chunk->data)) {
            pieces[count - 1].iov_len += part;
        } else {
            pieces[count].iov_base = (void *)(uintptr_t)chunk->data;
            pieces[count++].iov_len = part;
        }
        len += part;
    }
    *out_count = count;
    return len;
}

/* One piece of @len bytes without descriptors, at the beginning of the queue. Returns 0, and
 * flow->sending is set, or an error. */
static inline int send_one(struct gyre__flow *flow, uint32_t len)
{
    flow->sending = len;
    return gyre__op_send(&flow->send, &flow->stream->fd, flow->queue.first->data, len);
}

static int send_parcel(struct gyre__flow *flow, struct gyre__parcel *parcel, struct iovec *pieces,
                       size_t count)
{
    struct gyre__passed *passed = flow->queue.first->passed;
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    int rc;

    if (passed != NULL) {
        message.msg_control = passed->control;
        message.msg_controllen = passed->control_len;
    }
    parcel->flow = flow;
    gyre_op_init(&parcel->msg.op, on_sent_pieces);
    rc = gyre_op_sendmsg(&parcel->msg, &flow->stream->fd, &message);
    if (rc == 0) {
        flow->parcel = parcel;
    }
    return rc;
}

/* Several chunks, a large one, or descriptors; as send_one(). */
static GYRE__APART int send_pieces(struct gyre__flow *flow)
{
    struct gyre__slab *parcels = &flow->stream->fd.loop->net->parcels;
    struct iovec pieces[GYRE_IOV_MAX];
    struct gyre__parcel *parcel;
    size_t count;
    const size_t len = collect_pieces(flow, pieces, &count);
    int rc;

    if (count == 1 && flow->queue.first->passed == NULL) {
        return send_one(flow, (uint32_t)len);
    }
    parcel = gyre__slab_take(parcels);
    rc = parcel == NULL ? -ENOMEM : send_parcel(flow, parcel, pieces, count);
    if (rc < 0 && parcel != NULL) {
        gyre__slab_give(parcels, parcel);
    }
    flow->sending = (uint32_t)len;
    return rc;
}

/* Whether something is queued, may leave, and is not leaving already. */
static int may_send(const struct gyre_stream *stream, const struct gyre__flow *flow)
{
    return flow->queue.first != NULL && flow->sending == 0 &&
           stream->state != GYRE__STREAM_CONNECTING && stream->state < GYRE__STREAM_ENDING &&
           !(stream->flags & GYRE__STREAM_BROKEN);
}

void gyre__flow_flush(struct gyre__flow *flow)
{
    struct gyre_stream *stream = flow->stream;
    const struct gyre__chunk *first = flow->queue.first;
    int rc;

    if (gyre__task_pending(&flow->flush)) {
        gyre__task_withdraw(&flow->flush);
    }
    if (!may_send(stream, flow)) {
        return;
    }
    rc = first->next == NULL && first->passed == NULL && first->len <= SEND_MOST_OTHER_LEN
             ? send_one(flow, first->len)
             : send_pieces(flow);
    if (rc < 0) {
        flow->sending = 0;
        gyre__stream_fail(stream, rc);
    }
}

/* Bytes have left: what they lay in is released. `sending` stays set meanwhile, so that what the
 * caller's release functions write is not sent before it is this function's turn. */
static inline void pop_sent(struct gyre__flow *flow, size_t len)
{
    struct gyre__net *net = flow->stream->fd.loop->net;

    while (len > 0) {
        struct gyre__chunk *chunk = flow->queue.first;

        if (len < chunk->len) {
            chunk->data += len;
            chunk->len -= (uint32_t)len;
            flow->queued -= (uint32_t)len;
            if (chunk->passed != NULL) { /* they went with its first byte */
                drop_passed(chunk->passed);
                chunk->passed = NULL;
            }
            return;
        }
        len -= chunk->len;
        flow->queued -= chunk->len;
        flow->weight -= chunk->weight;
        if (chunk->kind == GYRE__CHUNK_COPY && chunk->buffer == flow->filling &&
            chunk->buffer->chunks == 1) {
            flow->filling = NULL; /* this is its last chunk: it goes */
        }
        release_chunk(net, pop_chunk(&flow->queue));
    }
}

static GYRE__RARE void send_failed(struct gyre_stream *stream, int error)
{
    gyre__stream_broken(stream, error);
    if (stream->state == GYRE__STREAM_OPEN && stream->flow != NULL) {
        gyre__flow_uncouple(stream);
        drop_queue(stream);
    }
}

/* Behind a send that was not all there was to do. */
static GYRE__APART void go_on_sending(struct gyre__flow *flow, int32_t res)
{
    struct gyre_stream *stream = flow->stream;

    if (stream->state >= GYRE__STREAM_ENDING) {
        gyre__stream_step(stream);
        return;
    }
    if (res < 0) {
        send_failed(stream, res);
        return;
    }
    gyre__flow_flush(flow);
    if ((stream->flags & GYRE__STREAM_FULL) && weight_of(flow) <= low_of(stream)) {
        note_drained(stream);
    }
    if (!gyre__stream_sends(stream) && (stream->flags & GYRE__STREAM_SHUT)) {
        gyre__stream_flushed(stream);
    }
    gyre__flow_settle(stream);
}

/* Behind a send: @res bytes have left, or it failed. */
static GYRE__INLINE void flow_left(struct gyre__flow *flow, int32_t res)
{
    struct gyre_stream *stream = flow->stream;

    if (res > 0) {
        pop_sent(flow, (size_t)res);
    }
    flow->sending = 0;
    if (res > 0 && flow->queue.first == NULL && stream->state == GYRE__STREAM_OPEN &&
        !(stream->flags & (GYRE__STREAM_FULL | GYRE__STREAM_SHUT))) {
        settle_flow(stream, flow); /* as nearly always: all has left, and nobody waits for that */
    } else {
        go_on_sending(flow, res);
    }
}

static GYRE__INLINE void flow_sent(struct gyre__flow *flow, int32_t res)
{
    struct gyre_stream *stream = flow->stream;

    if (res > 0) {
        if ((uint32_t)res < flow->sending) {
            stream->flags |= GYRE__STREAM_SHORT;
        }
        gyre__stream_be_active(stream);
        flow->progress_ns = stream->fd.loop->now_ns;
    }
    flow_left(flow, res);
}

/* As gyre__fd_send_now(). */
static GYRE__APART int push_pieces(const struct gyre__flow *flow)
{
    struct iovec pieces[GYRE_IOV_MAX];
    size_t count;

    collect_pieces(flow, pieces, &count);
    if (count == 1) {
        return gyre__fd_send_now(&flow->stream->fd, pieces->iov_base, pieces->iov_len);
    }
    return gyre__fd_sendmsg_now(&flow->stream->fd,
                                &(struct msghdr){.msg_iov = pieces, .msg_iovlen = count});
}

/* ---- sending silently ---- */

/* Somebody waits for the end of a silent send: a caller, or whoever needs the memory. */
static int is_send_awaited(const struct gyre_fd *fd)
{
    const struct gyre_stream *stream = gyre_container_of(fd, struct gyre_stream, fd);
    const struct gyre__flow *flow = stream->flow;

    return stream->state != GYRE__STREAM_OPEN ||
           (stream->flags & (GYRE__STREAM_FULL | GYRE__STREAM_SHUT)) != 0 ||
           flow->queued != flow->sending || flow->queue.first->kind == GYRE__CHUNK_REF ||
           (flow->queue.first->kind == GYRE__CHUNK_LEASE && gyre__pool_is_awaited(&fd->loop->pool));
}

/* Whether there is a gain: the loop does not sleep while more is there to be received, of which this,
 * held, would fill the pool or the quota. */
static int gains_by_silence(const struct gyre_fd *fd)
{
    return !(fd->ready & GYRE__DIR_IN) && !(fd->flags & GYRE__FD_BULK) &&
           fd->lent <= fd->loop->pool.quota / 2;
}

/* There was no room for all of it: an operation waits for some. */
static GYRE__RARE void send_rest(struct gyre__flow *flow, uint32_t left)
{
    struct gyre_stream *stream = flow->stream;
    int rc;

    if (stream->state >= GYRE__STREAM_ENDING) {
        flow->sending = 0;
        gyre__stream_step(stream);
        return;
    }
    flow->sending = left;
    rc = gyre__op_send(&flow->send, &stream->fd, flow->queue.first->data, left);
    if (rc < 0) {
        flow->sending = 0;
        gyre__stream_fail(stream, rc);
    }
}

static void on_sent_silently(struct gyre_fd *fd, int32_t res)
{
    struct gyre_stream *stream = gyre_container_of(fd, struct gyre_stream, fd);
    struct gyre__flow *flow = stream->flow;
    const uint32_t len = flow->sending;

    fd->loop->stats.finished[GYRE_OP_SEND]++;
    if (res == -EAGAIN) {
        send_rest(flow, len);
    } else if (res >= 0 && (uint32_t)res < len) {
        pop_sent(flow, (size_t)res); /* a part of the first chunk: nothing is released */
        send_rest(flow, len - (uint32_t)res);
    } else {
        flow_left(flow, res);
    }
    if (stream->state == GYRE__STREAM_OPEN && gyre__stream_sends(stream)) {
        gyre__stream_watch_sending(stream); /* from here on: before, no time was watched */
    }
}

/* Returns 0 if that cannot be. */
static int send_silently(struct gyre_stream *stream, struct gyre__flow *flow)
{
    const struct gyre__backend *backend = stream->fd.loop->backend;
    const struct gyre__chunk *first = flow->queue.first;
    const struct gyre__silent silent = {
        .data = first->data,
        .len = first->len,
        .sent = on_sent_silently,
        .is_awaited = is_send_awaited,
    };

    if (backend->send_silently == NULL || first->next != NULL || first->len > SEND_MOST_OTHER_LEN ||
        !gains_by_silence(&stream->fd)) {
        return 0;
    }
    flow->sending = first->len;
    if (is_send_awaited(&stream->fd) || !backend->send_silently(&stream->fd, &silent)) {
        flow->sending = 0;
        return 0;
    }
    if (gyre__task_pending(&flow->flush)) {
        gyre__task_withdraw(&flow->flush);
    }
    gyre__stream_be_active(stream); /* now, and not when it is known */
    flow->progress_ns = stream->fd.loop->now_ns;
    stream->fd.loop->stats.started[GYRE_OP_SEND]++; /* as if an operation had been */
    return 1;
}

/* ---- sending at once ---- */

/* Returns 1 if it is sent silently. */
static GYRE__INLINE int push_flow(struct gyre_stream *stream, struct gyre__flow *flow)
{
    const struct gyre__chunk *first = flow->queue.first;
    int res;

    if (!gyre__sends_now(stream->fd.loop) || !may_send(stream, flow) || first->passed != NULL) {
        gyre__flow_flush(flow);
        return 0;
    }
    if (send_silently(stream, flow)) {
        return 1;
    }
    res = first->next == NULL && first->len <= SEND_MOST_OTHER_LEN
              ? gyre__fd_send_now(&stream->fd, first->data, first->len)
              : push_pieces(flow);
    if (res == GYRE__NOT_YET) {
        gyre__flow_flush(flow);
        return 0;
    }
    if (gyre__task_pending(&flow->flush)) {
        gyre__task_withdraw(&flow->flush);
    }
    flow->sending = 1; /* until what has left is released */
    flow_sent(flow, res);
    return 0;
}

int gyre__flow_push(struct gyre_stream *stream)
{
    return push_flow(stream, stream->flow);
}

void gyre__flow_push_written(struct gyre_stream *stream, int is_news)
{
    if (!push_flow(stream, stream->flow) && is_news && gyre__stream_sends(stream)) {
        gyre__stream_watch_sending(stream);
    }
}

/* The socket did not take all that was lent: @res says what it did. */
static void keep_loan(struct gyre_stream *stream, const struct gyre_lease *lease, int res)
{
    const size_t gone = res > 0 ? (size_t)res : 0;

    if (res < 0 && res != GYRE__NOT_YET) {
        send_failed(stream, res);
        return;
    }
    if (queue_lease(stream, lease, gone) == NULL) {
        gyre__stream_fail(stream, -ENOMEM);
        return;
    }
    stream->flow->queued += (uint32_t)(lease->len - gone);
    gyre__flow_flush(stream->flow);
    gyre__stream_watch_sending(stream);
}

int gyre__flow_push_lease(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    if (queue_lease(stream, lease, 0) == NULL) {
        return 0;
    }
    stream->flow->queued += (uint32_t)lease->len;
    if (!gyre__flow_push(stream) && gyre__stream_sends(stream)) {
        gyre__stream_watch_sending(stream);
    }
    return 1;
}

void gyre__flow_sent_loan(struct gyre_stream *stream, const struct gyre_lease *lease, int res)
{
    if (res != (int)lease->len) {
        keep_loan(stream, lease, res);
    } else {
        gyre__stream_flushed(stream);
    }
}

static void on_sent_one(struct gyre_op *op, const struct gyre_result *result)
{
    flow_sent(gyre_container_of(op, struct gyre__flow, send), result->res);
}

static void on_sent_pieces(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre__parcel *parcel = gyre_container_of(op, struct gyre__parcel, msg.op);
    struct gyre__flow *flow = parcel->flow;

    flow->parcel = NULL;
    gyre__slab_give(&flow->stream->fd.loop->net->parcels, parcel);
    flow_sent(flow, result->res);
}

/* How far the peer has got: what it acknowledged, or, where that is not told, as on a Unix socket,
 * what waits for it. Of the same socket always the same. If the question fails, what was known: no
 * progress. */
static uint64_t ask_progress(const struct gyre_stream *stream)
{
    const uint64_t known = stream->flow->acked;
    struct tcp_progress tcp = {0};
    socklen_t len = sizeof(tcp);
    int waiting = 0;
    int rc;

    stream->fd.loop->stats.syscalls++;
    rc = gyre__sys_getsockopt(stream->fd.number, IPPROTO_TCP, TCP_INFO, &tcp, &len);
    if (rc == 0 && len == sizeof(tcp)) {
        return tcp.bytes_acked;
    }
    if (rc < 0 && errno != EOPNOTSUPP && errno != ENOPROTOOPT &&
        (stream->fd.flags & GYRE__FD_TCP)) {
        return known;
    }
    return gyre__sys_ioctl(stream->fd.number, SIOCOUTQ, &waiting) == 0 ? (uint64_t)waiting : known;
}

/* The first look since the queue ceased to be empty finds nothing to compare with: it counts as
 * progress, so that a time is late by the interval of looks at most, and never early. */
void gyre__flow_look(struct gyre_stream *stream)
{
    struct gyre__flow *flow = stream->flow;
    const uint64_t acked = ask_progress(stream);

    if (acked != flow->acked) {
        flow->acked = acked;
        flow->progress_ns = stream->fd.loop->now_ns;
        gyre__stream_be_active(stream);
    }
}
