/*
 * Moving the bytes with io_uring, for as little CPU time per message as it can:
 *
 * - one system call per turn submits the sends and collects the completions (DEFER_TASKRUN), on a
 *   registered ring and registered sockets;
 * - one multishot receive per connection for its whole life, into a few large buffers that the
 *   kernel fills incrementally: the data of a turn lies densely packed in a few cache-hot KiB;
 * - sends come straight out of the pattern, which lives as long as the process. At depth 1 their
 *   completions are skipped: the echo of the last byte proves that the send is done. At greater
 *   depth the completion is needed, because at most one send per socket may be in the kernel (a
 *   second could overtake the first when that waits for space); what becomes due meanwhile leaves
 *   in one send.
 *
 * Spinning, an idle turn looks at two words of shared memory and makes no system call.
 */
#include "load.h"

#include "clock.h"
#include "pattern.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Newer than the headers this must build with; values of the kernel's interface. */
#define URING_PBUF_INCREMENTAL 2u    /* io_uring_buf_reg.flags, Linux 6.12 */
#define URING_CQE_BUFFER_MORE  0x10u /* the buffer goes on with the next completion */

#define SQ_ENTRIES     512u
#define CQ_ENTRIES_MIN 4096u
#define BUFFER_GROUP   0

/*
 * Incremental: few large buffers, together well inside the L2 cache. Otherwise one buffer per
 * receive.
 */
#define INCREMENTAL_COUNT 8u
#define INCREMENTAL_SIZE  (64u * 1024u)
#define SINGLE_COUNT      512u
#define SINGLE_SIZE       (4u * 1024u)

static_assert(INCREMENTAL_SIZE <= PATTERN_SPAN, "a receive must fit one comparison");

/* user_data: the connection's index, and what it was. */
#define KIND_RECEIVE (UINT64_C(0) << 32)
#define KIND_SEND    (UINT64_C(1) << 32)

struct uring {
    struct io_uring ring;
    struct io_uring_buf_ring *returned;
    uint8_t *buffers;
    uint32_t *consumed; /* bytes of each buffer that were handed out */
    uint32_t buffer_count;
    uint32_t buffer_size;
    uint16_t tail; /* of `returned`, not yet published */
    bool incremental;
    bool skip_sends;
};

static void buffer_return(struct uring *u, uint32_t id)
{
    struct io_uring_buf *entry = &u->returned->bufs[u->tail & (u->buffer_count - 1)];

    /* Not the whole struct: the last field of the first entry is the ring's tail. */
    entry->addr = (uint64_t)(uintptr_t)(u->buffers + (size_t)id * u->buffer_size);
    entry->len = u->buffer_size;
    entry->bid = (uint16_t)id;
    u->consumed[id] = 0;
    u->tail++;
}

/* The entries must be visible to the kernel before the tail that covers them. */
static void buffers_publish(struct uring *u)
{
    __atomic_store_n(&u->returned->tail, u->tail, __ATOMIC_RELEASE);
}

static void *map_pages(size_t size)
{
    void *memory =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

static int buffers_register(struct uring *u, uint32_t count, uint16_t flags)
{
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)u->returned,
        .ring_entries = count,
        .bgid = BUFFER_GROUP,
        .pad = flags, /* called `flags` in later headers */
    };
    return io_uring_register_buf_ring(&u->ring, &registration, 0);
}

static int buffers_open(struct load *load, struct uring *u)
{
    u->returned = map_pages(SINGLE_COUNT * sizeof(struct io_uring_buf));
    u->buffers = map_pages(SINGLE_COUNT * SINGLE_SIZE);
    u->consumed = calloc(SINGLE_COUNT, sizeof(*u->consumed));
    if (u->returned == NULL || u->buffers == NULL || u->consumed == NULL) {
        return load_fail(load, LOAD_SYSTEM, "receive buffers: %s", strerror(errno));
    }
    u->buffer_count = INCREMENTAL_COUNT;
    u->buffer_size = INCREMENTAL_SIZE;
    u->incremental = true;
    int rc = buffers_register(u, u->buffer_count, URING_PBUF_INCREMENTAL);

    if (rc == -EINVAL) {
        u->buffer_count = SINGLE_COUNT;
        u->buffer_size = SINGLE_SIZE;
        u->incremental = false;
        rc = buffers_register(u, u->buffer_count, 0);
    }
    if (rc < 0) {
        return load_fail(load, LOAD_SYSTEM, "io_uring buffer ring: %s", strerror(-rc));
    }
    for (uint32_t id = 0; id < u->buffer_count; id++) {
        buffer_return(u, id);
    }
    buffers_publish(u);
    return 0;
}

static_assert(INCREMENTAL_COUNT * INCREMENTAL_SIZE <= SINGLE_COUNT * SINGLE_SIZE,
              "either shape of the receive buffers fits the memory");

static int ring_open(struct load *load, struct uring *u)
{
    const uint32_t wanted = load->options->connections * 2;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN,
        .cq_entries = wanted < CQ_ENTRIES_MIN ? CQ_ENTRIES_MIN : wanted,
    };
    int rc = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &params);

    if (rc < 0) {
        return load_fail(load, LOAD_SYSTEM, "io_uring refused: %s", strerror(-rc));
    }
    rc = io_uring_register_ring_fd(&u->ring);
    if (rc < 0) {
        return load_fail(load, LOAD_SYSTEM, "io_uring ring descriptor: %s", strerror(-rc));
    }
    return 0;
}

static int sockets_register(struct load *load, struct uring *u)
{
    const uint32_t count = load->options->connections;
    int *fds = calloc(count, sizeof(*fds));

    if (fds == NULL) {
        return load_fail(load, LOAD_SYSTEM, "memory: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < count; i++) {
        fds[i] = load->connections[i].fd;
    }
    const int rc = io_uring_register_files(&u->ring, fds, count);

    free(fds);
    return rc < 0 ? load_fail(load, LOAD_SYSTEM, "io_uring sockets: %s", strerror(-rc)) : 0;
}

/* A free submission entry; the full queue goes to the kernel first. */
static struct io_uring_sqe *get_sqe(struct load *load, struct uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (sqe == NULL) {
        const int rc = io_uring_submit(&u->ring);

        load->enters++;
        if (rc < 0 && rc != -EINTR && rc != -EBUSY) {
            load_fail(load, LOAD_SYSTEM, "io_uring submit: %s", strerror(-rc));
            return NULL;
        }
        sqe = io_uring_get_sqe(&u->ring);
    }
    if (sqe == NULL) {
        load_fail(load, LOAD_SYSTEM, "io_uring: the submission queue stays full");
    }
    return sqe;
}

static int arm_receive(struct load *load, uint32_t index)
{
    struct uring *u = load->engine_state;
    struct io_uring_sqe *sqe = get_sqe(load, u);

    if (sqe == NULL) {
        return -1;
    }
    io_uring_prep_recv_multishot(sqe, (int)index, NULL, 0, 0);
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data64(sqe, KIND_RECEIVE | index);
    return 0;
}

static int uring_send(struct load *load, struct load_connection *c)
{
    struct uring *u = load->engine_state;
    const uint32_t len = c->unsent > PATTERN_SPAN ? PATTERN_SPAN : (uint32_t)c->unsent;

    if (len == 0 || c->sending > 0) {
        return 0;
    }
    struct io_uring_sqe *sqe = get_sqe(load, u);

    if (sqe == NULL) {
        return -1;
    }
    const uint32_t index = (uint32_t)(c - load->connections);

    io_uring_prep_send(sqe, (int)index, load->pattern + c->sent_at, len, MSG_WAITALL);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, KIND_SEND | index);
    c->sent_at = pattern_advance(c->sent_at, len);
    c->unsent -= len;
    if (u->skip_sends) {
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    } else {
        c->sending = len;
    }
    return 0;
}

static int on_send(struct load *load, struct load_connection *c, const struct io_uring_cqe *cqe)
{
    if (cqe->res < 0) {
        return load_lost(load, c, -cqe->res);
    }
    if ((uint32_t)cqe->res != c->sending) {
        return load_fail(load, LOAD_SYSTEM, "a send of %u bytes ended after %d", c->sending,
                         cqe->res);
    }
    c->sending = 0;
    return uring_send(load, c);
}

static int on_receive(struct load *load, struct load_connection *c, const struct io_uring_cqe *cqe)
{
    struct uring *u = load->engine_state;
    int rc = 0;

    if (cqe->res > 0 && (cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        const uint32_t id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        const uint8_t *data = u->buffers + (size_t)id * u->buffer_size + u->consumed[id];

        u->consumed[id] += (uint32_t)cqe->res;
        assert(u->consumed[id] <= u->buffer_size);
        rc = load_received(load, c, data, (uint32_t)cqe->res);
        if ((cqe->flags & URING_CQE_BUFFER_MORE) == 0) {
            buffer_return(u, id);
        }
        if (rc == 0 && c->unsent > 0) {
            rc = uring_send(load, c);
        }
    } else if (cqe->res != -ENOBUFS) {
        return load_lost(load, c, -cqe->res);
    }
    if (rc == 0 && (cqe->flags & IORING_CQE_F_MORE) == 0) {
        rc = arm_receive(load, (uint32_t)(c - load->connections));
    }
    return rc;
}

static int process(struct load *load, struct uring *u)
{
    const struct io_uring_cqe *cqe;
    unsigned head;
    unsigned count = 0;
    int rc = 0;

    io_uring_for_each_cqe(&u->ring, head, cqe)
    {
        struct load_connection *c = &load->connections[(uint32_t)cqe->user_data];

        rc = (cqe->user_data & KIND_SEND) != 0 ? on_send(load, c, cqe) : on_receive(load, c, cqe);
        count++;
        if (rc < 0) {
            break;
        }
    }
    io_uring_cq_advance(&u->ring, count);
    buffers_publish(u);
    return rc < 0 ? -1 : (int)count;
}

/* Submits and collects, as little as the moment needs. Returns: 0 or a negative errno. */
static int enter(struct load *load, struct uring *u)
{
    const unsigned pending = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
    const int wait_ms = load_wait_ms(load);

    if (wait_ms > 0) {
        struct __kernel_timespec limit = {.tv_nsec = (int64_t)wait_ms * (int64_t)NS_PER_MS};
        struct io_uring_cqe *cqe = NULL;

        load->enters++;
        return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &limit, NULL);
    }
    if (io_uring_sq_ready(&u->ring) > 0) {
        load->enters++;
        return io_uring_submit_and_get_events(&u->ring);
    }
    if ((__atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & pending) != 0) {
        load->enters++;
        return io_uring_get_events(&u->ring);
    }
    return 0;
}

static int uring_turn(struct load *load)
{
    struct uring *u = load->engine_state;
    const int rc = enter(load, u);

    if (rc < 0 && rc != -EINTR && rc != -ETIME && rc != -EAGAIN && rc != -EBUSY) {
        return load_fail(load, LOAD_SYSTEM, "io_uring enter: %s", strerror(-rc));
    }
    load->now_ns = clock_now_ns();
    return io_uring_cq_ready(&u->ring) == 0 ? 0 : process(load, u);
}

static int uring_open(struct load *load)
{
    struct uring *u = calloc(1, sizeof(*u));

    if (u == NULL) {
        return load_fail(load, LOAD_SYSTEM, "memory: %s", strerror(errno));
    }
    load->engine_state = u;
    u->skip_sends = load->depth == 1 && load->size <= PATTERN_SPAN && !load_is_open(load->options);
    if (ring_open(load, u) < 0 || sockets_register(load, u) < 0 || buffers_open(load, u) < 0) {
        return -1;
    }
    for (uint32_t i = 0; i < load->options->connections; i++) {
        if (arm_receive(load, i) < 0) {
            return -1;
        }
    }
    snprintf(load->engine_note, sizeof(load->engine_note), "registered sockets, %s buffers%s",
             u->incremental ? "incremental" : "single", u->skip_sends ? ", sends unconfirmed" : "");
    return 0;
}

const struct load_engine load_engine_uring = {
    .name = "io_uring",
    .open = uring_open,
    .send = uring_send,
    .turn = uring_turn,
};
