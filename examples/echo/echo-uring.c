/*
 * echo-uring - one thread, many connections, io_uring.
 *
 * The idea: select, poll and epoll tell when a call would not block, and the program then makes
 * the call. With io_uring the program describes the calls in a queue that it shares with the
 * kernel (submission queue entries, SQEs), and the kernel puts the results in another (completion
 * queue entries, CQEs). One system call hands over everything that was described, and waits. It
 * serves dozens of messages, so the cost of entering the kernel nearly disappears.
 *
 *      kernel                                      program
 *      receive into the buffer at hand  -- CQE -->  slice put in the queue of its connection
 *      send straight from that buffer   <-- SQE --  the first slice of the queue
 *      all was taken                    -- CQE -->  slice released; with its last slice released,
 *      buffer is used again             <-- ring -- a full buffer goes back
 *
 * What makes it fast:
 *  - Accept and receive are multishot: asked for once, they report again and again. A message
 *    costs one SQE, for sending, and two CQEs. There is no other work per message.
 *  - Nobody has a buffer while waiting. The kernel takes one from a ring of buffers when bytes
 *    have arrived, and fills it from front to back with what comes next, for whichever connection
 *    (an incremental buffer ring). Short messages so lie side by side in a few cache lines.
 *  - The program copies nothing: bytes are sent from where they were received.
 *  - The ring belongs to one thread (SINGLE_ISSUER) and does its work when that thread asks for
 *    completions (DEFER_TASKRUN), in batches, and not by interrupting it.
 *
 * What keeps it fair and small: a buffer is shared, so one peer that does not read must not hold
 * it. A slice is therefore first sent with MSG_DONTWAIT; what the socket does not take at once is
 * copied to memory of the connection, and the buffer is free. From there the kernel sends it when
 * it can (MSG_WAITALL), and if the copies grow large, receiving is cancelled until they are gone.
 * The sender is then held back by TCP itself.
 *
 * What it costs: ownership has to be thought through, because the kernel works on memory after the
 * call has returned: nothing is freed before the completion has been seen. It needs Linux 6.12,
 * and io_uring is forbidden in many containers.
 *
 * When it is right: many connections with short messages, where system calls are a large part of
 * the work. With messages of 16 KiB and more, copying is what costs, and epoll does as well.
 */
#include "common.h"

#include <assert.h>
#include <err.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* More than are prepared in a usual turn; a full queue costs a system call, nothing else. */
    SUBMISSION_ENTRIES = 512,
    /* Much larger, because one accept or receive completes many times. Overflow is slow. */
    COMPLETION_ENTRIES = 8192,
    /*
     * Few and large, because a message that meets the end of a buffer is cut in two: one more
     * receive, and two parts to send. The kernel walks through all of them in turn, so together
     * they should stay in the second-level cache, beside the data in the sockets. Processor time
     * per message, compared with echo-epoll (Linux 6.18, cache of 2 MiB, 64 connections): 4 of
     * 256 KiB cost 1.02 with messages of 16 KiB and 1.05 to 1.07 with 64 KiB; 16 of 64 KiB cost
     * 1.05 and 1.11. With messages of 4 KiB and less the shape makes no difference.
     */
    BUFFER_COUNT = 4,
    BUFFER_SIZE = 256 * 1024,
    BUFFER_GROUP = 0,
    /* Bytes not yet taken by the peer of one connection: stop receiving, and begin again. */
    PAUSE_ABOVE = 256 * 1024,
    RESUME_BELOW = 64 * 1024,
    /* Slices that are sent together. A message needs two if it met the end of a buffer. */
    SEND_SLICES = 4,
    /* Copies of short slices are collected in pieces of at least this size. */
    COPY_SIZE = 16 * 1024,
};

/*
 * Kernel constants that liburing 2.3 does not have yet. The names are our own, because newer
 * headers define the kernel's names, some as macros and some as enumerators.
 */
enum {
    BUFFER_RING_INCREMENTAL = 2,    /* IOU_PBUF_RING_INC, Linux 6.12 */
    CQE_BUFFER_CONTINUES = 1U << 4, /* IORING_CQE_F_BUF_MORE, Linux 6.12 */
};

/* struct io_uring_buf_reg, whose field flags is called pad in liburing 2.3. */
struct buffer_ring_registration {
    uint64_t address;
    uint32_t entries;
    uint16_t group;
    uint16_t flags;
    uint64_t reserved[3];
};
static_assert(sizeof(struct buffer_ring_registration) == sizeof(struct io_uring_buf_reg),
              "this is the kernel's layout");

/* What a completion belongs to: the low bits of its user data, the rest is the connection. */
enum tag {
    TAG_RECEIVE,
    TAG_SEND,
    TAG_CANCEL,
    TAG_ACCEPT,
    TAG_ACCEPT_PAUSE,
    TAG_SIGNAL,
    TAG_MASK = 7,
};
static_assert(alignof(max_align_t) > TAG_MASK, "addresses from malloc() have room for a tag");

/* Bytes to be sent. They lie in a buffer of the ring or, as a copy, behind the slice itself. */
struct slice {
    TAILQ_ENTRY(slice) link;
    char *data;
    uint32_t len;
    uint32_t room;         /* a copy: what can still be added behind data + len */
    struct buffer *buffer; /* NULL for a copy */
    char copy[];
};
TAILQ_HEAD(slice_queue, slice);

struct buffer {
    char *data;
    uint32_t filled; /* where the kernel writes next: the sum of what it has reported */
    uint32_t unsent; /* bytes of it that are in slices */
    bool in_ring;    /* the kernel may write to it */
};

/*
 * Completions only note what has happened here; advance() then decides what follows from all of
 * it. The kernel holds the connection's address while receiving or sending says so.
 */
struct connection {
    int fd;
    bool receiving;  /* the multishot receive is armed */
    bool cancelling; /* ... and about to be cancelled */
    bool starving;   /* in server.starving: the receive ended because no buffer was left */
    bool ended;      /* the peer has sent its last byte */
    bool broken;     /* an error, or the server stops: nothing more is sent */
    bool touched;    /* in server.touched */
    size_t queued;   /* bytes in the queue */
    struct slice_queue queue;
    struct slice *sending; /* the queue up to this slice is with the kernel; NULL: no send is */
    struct iovec parts[SEND_SLICES];
    struct msghdr message; /* names the parts, and is read by the kernel at submission */
    STAILQ_ENTRY(connection) touched_link;
    TAILQ_ENTRY(connection) starving_link;
    LIST_ENTRY(connection) link;
};

struct server {
    struct io_uring ring;
    int listener;
    int signals;
    bool stopping;
    struct io_uring_buf_ring *buffer_ring;
    char *pool;
    struct buffer buffers[BUFFER_COUNT];
    int returned_count; /* put in the ring, but not published to the kernel yet */
    int in_ring_count;
    struct slice_queue spare_slices;
    LIST_HEAD(, connection) connections;
    STAILQ_HEAD(, connection) touched; /* something happened to them in this turn */
    TAILQ_HEAD(, connection) starving; /* in the order in which they will get a buffer */
};

/* ---- Submission ------------------------------------------------------------------------- */

/* An empty SQE. If the queue is full, its contents are submitted without waiting. */
static struct io_uring_sqe *next_sqe(struct server *server)
{
    struct io_uring_sqe *sqe;
    while ((sqe = io_uring_get_sqe(&server->ring)) == NULL) {
        const int result = io_uring_submit(&server->ring);
        if (result < 0 && result != -EAGAIN && result != -EBUSY && result != -EINTR) {
            errx(EXIT_FAILURE, "io_uring_submit: %s", strerror(-result));
        }
    }
    return sqe;
}

static uint64_t user_data(const struct connection *connection, enum tag tag)
{
    return (uint64_t)(uintptr_t)connection | tag;
}

/* Without a length: the kernel chooses a buffer and uses what is left of it. */
static void start_receive(struct server *server, struct connection *connection)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_recv_multishot(sqe, connection->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, user_data(connection, TAG_RECEIVE));
    connection->receiving = true;
    connection->cancelling = false;
}

static void cancel_receive(struct server *server, struct connection *connection)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_cancel64(sqe, user_data(connection, TAG_RECEIVE), 0);
    io_uring_sqe_set_data64(sqe, user_data(NULL, TAG_CANCEL));
    connection->cancelling = true;
}

/* Lists the slices at the head of the queue, as many as one send takes. Returns the last one. */
static struct slice *gather(struct connection *connection)
{
    struct slice *last = NULL;
    struct slice *slice = TAILQ_FIRST(&connection->queue);
    size_t count = 0;
    while (slice != NULL && count < SEND_SLICES) {
        connection->parts[count++] = (struct iovec){.iov_base = slice->data, .iov_len = slice->len};
        last = slice;
        slice = TAILQ_NEXT(slice, link);
    }
    connection->message = (struct msghdr){.msg_iov = connection->parts, .msg_iovlen = count};
    return last;
}

/*
 * One send at a time, since a second one could overtake the first where that has to wait. A queue
 * holds only slices in buffers or only copies.
 */
static void start_send(struct server *server, struct connection *connection)
{
    const struct slice *first = TAILQ_FIRST(&connection->queue);
    const int flags = MSG_NOSIGNAL | (first->buffer != NULL ? MSG_DONTWAIT : MSG_WAITALL);
    struct io_uring_sqe *sqe = next_sqe(server);
    connection->sending = gather(connection);
    if (connection->sending == first) {
        io_uring_prep_send(sqe, connection->fd, first->data, first->len, flags);
    } else {
        io_uring_prep_sendmsg(sqe, connection->fd, &connection->message, (unsigned)flags);
    }
    io_uring_sqe_set_data64(sqe, user_data(connection, TAG_SEND));
}

static void start_accept(struct server *server)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_multishot_accept(sqe, server->listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, user_data(NULL, TAG_ACCEPT));
}

/* The kernel reads the time when the SQE is submitted, hence static. */
static void start_accept_pause(struct server *server)
{
    static struct __kernel_timespec pause = {.tv_nsec = ECHO_ACCEPT_PAUSE_MS * 1000000LL};
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_timeout(sqe, &pause, 0, 0);
    io_uring_sqe_set_data64(sqe, user_data(NULL, TAG_ACCEPT_PAUSE));
}

static void start_signal_watch(struct server *server)
{
    struct io_uring_sqe *sqe = next_sqe(server);
    io_uring_prep_poll_add(sqe, server->signals, POLLIN);
    io_uring_sqe_set_data64(sqe, user_data(NULL, TAG_SIGNAL));
}

/* ---- Buffers and slices ----------------------------------------------------------------- */

static void return_buffer(struct server *server, struct buffer *buffer)
{
    assert(!buffer->in_ring && buffer->unsent == 0);
    const unsigned short id = (unsigned short)(buffer - server->buffers);
    buffer->filled = 0;
    buffer->in_ring = true;
    io_uring_buf_ring_add(server->buffer_ring, buffer->data, BUFFER_SIZE, id,
                          io_uring_buf_ring_mask(BUFFER_COUNT), server->returned_count);
    server->returned_count++;
    server->in_ring_count++;
}

/* Shows the returned buffers to the kernel, all with one store. */
static void publish_buffers(struct server *server)
{
    io_uring_buf_ring_advance(server->buffer_ring, server->returned_count);
    server->returned_count = 0;
}

static void return_if_unused(struct server *server, struct buffer *buffer)
{
    if (buffer->unsent == 0 && !buffer->in_ring) {
        return_buffer(server, buffer);
    }
}

/* Says that bytes of a slice have been sent or copied. */
static void release(struct server *server, struct buffer *buffer, uint32_t len)
{
    assert(buffer->unsent >= len);
    buffer->unsent -= len;
    return_if_unused(server, buffer);
}

/*
 * Slices that refer to buffers come and go with every message, so they are kept for the next one.
 * Each stands for at least one byte of a buffer, so there are no more than the buffers have bytes.
 */
static struct slice *new_slice(struct server *server)
{
    struct slice *slice = TAILQ_FIRST(&server->spare_slices);
    if (slice == NULL) {
        return malloc(sizeof(*slice));
    }
    TAILQ_REMOVE(&server->spare_slices, slice, link);
    return slice;
}

static void free_slice(struct server *server, struct slice *slice)
{
    if (slice->buffer == NULL) {
        free(slice);
        return;
    }
    release(server, slice->buffer, slice->len);
    TAILQ_INSERT_HEAD(&server->spare_slices, slice, link);
}

static void drop_queue(struct server *server, struct slice_queue *queue)
{
    while (!TAILQ_EMPTY(queue)) {
        struct slice *slice = TAILQ_FIRST(queue);
        TAILQ_REMOVE(queue, slice, link);
        free_slice(server, slice);
    }
}

/* ---- The queue of a connection ---------------------------------------------------------- */

/* The last slice if bytes may be added to it: not if the kernel is sending it just now. */
static struct slice *open_slice(struct connection *connection)
{
    struct slice *last = TAILQ_LAST(&connection->queue, slice_queue);
    return last == connection->sending ? NULL : last;
}

static struct slice *add_copy_slice(struct connection *connection, uint32_t len)
{
    const uint32_t size = len > COPY_SIZE ? len : (uint32_t)COPY_SIZE;
    struct slice *slice = malloc(sizeof(*slice) + size);
    if (slice != NULL) {
        *slice = (struct slice){.data = slice->copy, .room = size};
        TAILQ_INSERT_TAIL(&connection->queue, slice, link);
    }
    return slice;
}

/* Copies bytes to the end of the queue. */
static bool queue_copy(struct connection *connection, const char *data, uint32_t len)
{
    struct slice *slice = open_slice(connection);
    if (slice == NULL || slice->buffer != NULL || slice->room < len) {
        slice = add_copy_slice(connection, len);
    }
    if (slice == NULL) {
        return false;
    }
    memcpy(slice->data + slice->len, data, len);
    slice->len += len;
    slice->room -= len;
    return true;
}

/* Adds received bytes to the queue where they lie. What lies side by side is sent at once. */
static bool queue_in_place(struct server *server, struct connection *connection,
                           struct buffer *buffer, char *data, uint32_t len)
{
    struct slice *slice = open_slice(connection);
    if (slice == NULL || slice->buffer != buffer || slice->data + slice->len != data) {
        slice = new_slice(server);
        if (slice == NULL) {
            return false;
        }
        *slice = (struct slice){.data = data, .buffer = buffer};
        TAILQ_INSERT_TAIL(&connection->queue, slice, link);
    }
    slice->len += len;
    buffer->unsent += len;
    return true;
}

/* A peer is slow while the queue begins with a copy; then all that follows is copied too. */
static bool is_slow(const struct connection *connection)
{
    const struct slice *first = TAILQ_FIRST(&connection->queue);
    return first != NULL && first->buffer == NULL;
}

/* The bytes are counted even if memory is short: the connection is given up in that case. */
static bool queue_bytes(struct server *server, struct connection *connection, struct buffer *buffer,
                        char *data, uint32_t len)
{
    connection->queued += len;
    if (is_slow(connection)) {
        return queue_copy(connection, data, len);
    }
    return queue_in_place(server, connection, buffer, data, len);
}

/* Frees the buffers from the queue of a peer that did not take everything. */
static bool copy_queue(struct server *server, struct connection *connection)
{
    assert(connection->sending == NULL);
    struct slice_queue old = TAILQ_HEAD_INITIALIZER(old);
    TAILQ_CONCAT(&old, &connection->queue, link);
    bool copied = true;
    struct slice *slice;
    TAILQ_FOREACH(slice, &old, link)
    {
        copied = copied && queue_copy(connection, slice->data, slice->len);
    }
    drop_queue(server, &old);
    return copied;
}

/* ---- The life of a connection ----------------------------------------------------------- */

/* Says that something has happened to the connection: advance() is called at the turn's end. */
static void touch(struct server *server, struct connection *connection)
{
    if (!connection->touched) {
        connection->touched = true;
        STAILQ_INSERT_TAIL(&server->touched, connection, touched_link);
    }
}

/* The shutdown ends the armed receive, and its completion comes as if the peer had left. */
static void fail(struct server *server, struct connection *connection)
{
    if (!connection->broken) {
        connection->broken = true;
        shutdown(connection->fd, SHUT_RDWR);
    }
    touch(server, connection);
}

static void welcome(struct server *server, int fd)
{
    struct connection *connection = server->stopping ? NULL : calloc(1, sizeof(*connection));
    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->fd = fd;
    TAILQ_INIT(&connection->queue);
    LIST_INSERT_HEAD(&server->connections, connection, link);
    touch(server, connection);
}

static void destroy(struct server *server, struct connection *connection)
{
    assert(!connection->receiving && connection->sending == NULL && !connection->touched);
    drop_queue(server, &connection->queue);
    if (connection->starving) {
        TAILQ_REMOVE(&server->starving, connection, starving_link);
    }
    LIST_REMOVE(connection, link);
    close(connection->fd);
    free(connection);
}

/* Receiving goes on unless the end has come, the peer is far behind, or no buffer is left. */
static void advance_receive(struct server *server, struct connection *connection)
{
    if (connection->receiving) {
        if (connection->queued > PAUSE_ABOVE && !connection->cancelling) {
            cancel_receive(server, connection);
        }
    } else if (!connection->starving && connection->queued < RESUME_BELOW) {
        start_receive(server, connection);
    }
}

/* Derives from the state of a connection what is to be done next, and destroys it at its end. */
static void advance(struct server *server, struct connection *connection)
{
    if (connection->sending == NULL && !connection->broken && !TAILQ_EMPTY(&connection->queue)) {
        start_send(server, connection);
    }
    if (!connection->broken && !connection->ended) {
        advance_receive(server, connection);
    } else if (connection->sending == NULL && !connection->receiving) {
        destroy(server, connection);
    }
}

static void advance_touched(struct server *server)
{
    while (!STAILQ_EMPTY(&server->touched)) {
        struct connection *connection = STAILQ_FIRST(&server->touched);
        STAILQ_REMOVE_HEAD(&server->touched, touched_link);
        connection->touched = false;
        advance(server, connection);
    }
}

/*
 * A receive that finds no buffer ends. It must not be started before there is one, since it would
 * end again at once. As many are started as there are buffers; the others stay in the list. They
 * are not forgotten: while no buffer is in the ring, all are in slices, and each of those goes
 * away with a completion, which brings another turn. Called last for the same reason: a buffer
 * that came back in this turn may be followed by no completion at all.
 */
static void feed_starving(struct server *server)
{
    for (int i = 0; i < server->in_ring_count && !TAILQ_EMPTY(&server->starving); i++) {
        struct connection *connection = TAILQ_FIRST(&server->starving);
        TAILQ_REMOVE(&server->starving, connection, starving_link);
        connection->starving = false;
        advance(server, connection);
    }
}

/* ---- Completions ------------------------------------------------------------------------ */

/*
 * The completion names the buffer, not the place in it: that is the sum of all that was reported
 * for this buffer so far, in the order of the completions.
 */
static void take_bytes(struct server *server, struct connection *connection,
                       const struct io_uring_cqe *cqe)
{
    struct buffer *buffer = &server->buffers[cqe->flags >> IORING_CQE_BUFFER_SHIFT];
    char *data = buffer->data + buffer->filled;
    const uint32_t len = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    assert(buffer->in_ring && buffer->filled + len <= BUFFER_SIZE);
    buffer->filled += len;
    if (!(cqe->flags & CQE_BUFFER_CONTINUES)) {
        buffer->in_ring = false;
        server->in_ring_count--;
    }
    if (len > 0 && !connection->broken && !queue_bytes(server, connection, buffer, data, len)) {
        fail(server, connection);
    }
    return_if_unused(server, buffer);
}

static void on_receive(struct server *server, struct connection *connection,
                       const struct io_uring_cqe *cqe)
{
    touch(server, connection);
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        take_bytes(server, connection, cqe);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE)) {
        connection->receiving = false;
    }
    if (cqe->res == -ENOBUFS) {
        connection->starving = true;
        TAILQ_INSERT_TAIL(&server->starving, connection, starving_link);
    } else if (cqe->res == 0) {
        connection->ended = true;
    } else if (cqe->res < 0 && cqe->res != -ECANCELED && cqe->res != -EINTR) {
        fail(server, connection);
    }
}

/* Takes sent bytes from the head of the queue. Returns whether all that was with the kernel is. */
static bool take_sent(struct server *server, struct connection *connection, uint32_t sent)
{
    connection->queued -= sent;
    bool is_complete = false;
    struct slice *slice = TAILQ_FIRST(&connection->queue);
    while (!is_complete && sent >= slice->len) {
        sent -= slice->len;
        is_complete = slice == connection->sending;
        TAILQ_REMOVE(&connection->queue, slice, link);
        free_slice(server, slice);
        slice = TAILQ_FIRST(&connection->queue);
    }
    if (!is_complete) {
        slice->data += sent;
        slice->len -= sent;
        if (slice->buffer != NULL) {
            release(server, slice->buffer, sent);
        }
    }
    connection->sending = NULL;
    return is_complete;
}

static void on_send(struct server *server, struct connection *connection,
                    const struct io_uring_cqe *cqe)
{
    touch(server, connection);
    if (cqe->res < 0 && cqe->res != -EAGAIN && cqe->res != -EINTR) {
        connection->sending = NULL;
        fail(server, connection);
        return;
    }
    const uint32_t sent = cqe->res > 0 ? (uint32_t)cqe->res : 0;
    const bool is_complete = take_sent(server, connection, sent);
    if (!is_complete && !is_slow(connection) && !copy_queue(server, connection)) {
        fail(server, connection);
    }
}

/* A multishot accept goes on until its completion says otherwise, as it does after an error. */
static void on_accept(struct server *server, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= 0) {
        welcome(server, cqe->res);
    }
    if (cqe->flags & IORING_CQE_F_MORE) {
        return;
    }
    if (cqe->res < 0 && echo_is_shortage(-cqe->res)) {
        start_accept_pause(server);
    } else {
        start_accept(server);
    }
}

/* The server ends when the last completion of the last connection has been seen. */
static void on_signal(struct server *server)
{
    server->stopping = true;
    struct connection *connection;
    LIST_FOREACH(connection, &server->connections, link)
    {
        fail(server, connection);
    }
}

static void on_completion(struct server *server, const struct io_uring_cqe *cqe)
{
    const uint64_t address = cqe->user_data & ~(uint64_t)TAG_MASK;
    struct connection *connection = (struct connection *)(uintptr_t)address;
    switch ((enum tag)(cqe->user_data & TAG_MASK)) {
    case TAG_RECEIVE:
        on_receive(server, connection, cqe);
        break;
    case TAG_SEND:
        on_send(server, connection, cqe);
        break;
    case TAG_ACCEPT:
        on_accept(server, cqe);
        break;
    case TAG_ACCEPT_PAUSE:
        start_accept(server);
        break;
    case TAG_SIGNAL:
        on_signal(server);
        break;
    case TAG_CANCEL: /* what counts is the completion of the receive itself */
    default:
        break;
    }
}

static void reap(struct server *server)
{
    unsigned head;
    unsigned count = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&server->ring, head, cqe)
    {
        on_completion(server, cqe);
        count++;
    }
    io_uring_cq_advance(&server->ring, count);
}

/* ---- The loop --------------------------------------------------------------------------- */

/*
 * One turn, one system call: hand over what was prepared, wait, look at what has completed. The
 * kernel is not called for a single completion, so what belongs together is submitted together.
 */
static void turn(struct server *server)
{
    const int result = io_uring_submit_and_wait(&server->ring, 1);
    if (result < 0 && result != -EAGAIN && result != -EBUSY && result != -EINTR) {
        errx(EXIT_FAILURE, "io_uring_submit_and_wait: %s", strerror(-result));
    }
    reap(server);
    advance_touched(server);
    feed_starving(server);
    publish_buffers(server);
}

static void start_ring(struct server *server)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                 IORING_SETUP_CLAMP,
        .cq_entries = COMPLETION_ENTRIES,
    };
    int result = io_uring_queue_init_params(SUBMISSION_ENTRIES, &server->ring, &params);
    if (result < 0) {
        errx(EXIT_FAILURE, "io_uring is not available: %s", strerror(-result));
    }
    /* Saves looking up the descriptor of the ring on every call. */
    result = io_uring_register_ring_fd(&server->ring);
    if (result < 0) {
        errx(EXIT_FAILURE, "io_uring_register_ring_fd: %s", strerror(-result));
    }
}

static void *map(size_t size)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) {
        err(EXIT_FAILURE, "buffers");
    }
    return memory;
}

static void start_buffers(struct server *server)
{
    server->pool = map((size_t)BUFFER_COUNT * BUFFER_SIZE);
    server->buffer_ring = map(BUFFER_COUNT * sizeof(struct io_uring_buf));
    const struct buffer_ring_registration registration = {
        .address = (uint64_t)(uintptr_t)server->buffer_ring,
        .entries = BUFFER_COUNT,
        .group = BUFFER_GROUP,
        .flags = BUFFER_RING_INCREMENTAL,
    };
    const int result = io_uring_register((unsigned)server->ring.ring_fd, IORING_REGISTER_PBUF_RING,
                                         &registration, 1);
    if (result < 0) {
        errx(EXIT_FAILURE, "no incremental buffer ring (Linux 6.12): %s", strerror(-result));
    }
    io_uring_buf_ring_init(server->buffer_ring);
    for (int i = 0; i < BUFFER_COUNT; i++) {
        server->buffers[i].data = server->pool + (size_t)i * BUFFER_SIZE;
        return_buffer(server, &server->buffers[i]);
    }
    publish_buffers(server);
}

static void start(struct server *server, const struct echo_options *options)
{
    TAILQ_INIT(&server->spare_slices);
    LIST_INIT(&server->connections);
    STAILQ_INIT(&server->touched);
    TAILQ_INIT(&server->starving);
    server->signals = echo_signal_fd();
    server->listener = echo_listen(options, 0);
    start_ring(server);
    start_buffers(server);
    start_accept(server);
    start_signal_watch(server);
}

/* The ring goes first: after that the kernel uses nothing of ours any more. */
static void finish(struct server *server)
{
    io_uring_queue_exit(&server->ring);
    while (!TAILQ_EMPTY(&server->spare_slices)) {
        struct slice *slice = TAILQ_FIRST(&server->spare_slices);
        TAILQ_REMOVE(&server->spare_slices, slice, link);
        free(slice);
    }
    munmap(server->buffer_ring, BUFFER_COUNT * sizeof(struct io_uring_buf));
    munmap(server->pool, (size_t)BUFFER_COUNT * BUFFER_SIZE);
    close(server->listener);
    close(server->signals);
}

int main(int argc, char **argv)
{
    struct server server = {0};
    struct echo_options options;
    echo_parse_options(argc, argv, "Echo server on io_uring.", &options);
    echo_raise_fd_limit();
    start(&server, &options);
    echo_announce(server.listener, NULL);
    while (!server.stopping || !LIST_EMPTY(&server.connections)) {
        turn(&server);
    }
    finish(&server);
    return EXIT_SUCCESS;
}
