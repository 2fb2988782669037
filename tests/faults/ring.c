/*
 * Faults of io_uring, on real rings, in the memory that program and kernel share.
 *
 * Entries of the submission queue are changed before the kernel sees them:
 *
 *     shorter      the length of a transfer is cut: its completion is short, and true
 *     fails        the entry becomes a no-op that completes with the error (Linux 6.10 can be told
 *                  the result of a no-op): the operation has not been tried
 *     multishot    the flag is taken away: a multishot that ends after its first result
 *
 * Completions are held back: behind io_uring_enter(2) the tail of the completion queue is set back
 * in front of them, and forward again before the next call. They never leave the queue, so the
 * kernel's own counting is right. The flag that says that there is work to run is set for as long:
 * a program that looks at it asks again, as it does of a kernel that has not posted them yet. Those
 * that have come together may change places, but not two of one request, nor two that name
 * buffers: they say in which order the kernel filled these.
 *
 *     enter: tail forward -> change entries -> the call -> change places -> tail back
 */
#include "backend/uring/driver.h"
#include "faults/faults.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    RINGS_MAX = 64,
    PROBE_ENTRIES = 8,    /* the library's self-test uses rings of this size: spared by chance */
    NOP_INJECT = 1u << 0, /* IORING_NOP_INJECT_RESULT, which liburing 2.3 does not know */
    HOLDS_MAX = 3,        /* calls in a row that hold something back */
    NUMBERS_MAX = 32,     /* descriptors whose requests are places of their own */
};

struct ring {
    struct io_uring *uring; /* NULL: free */
    pid_t pid;
    const void *thread; /* of a simulated kernel */
    unsigned entries;
    uint32_t examined; /* entries of the submission queue before this one are seen to */
    uint32_t seen;     /* completions before this one have been shown */
    uint32_t held;     /* completions behind it that have not */
    uint32_t holds;    /* calls in a row */
};

static struct ring rings[RINGS_MAX];
static int has_inject = -1;

/* ---- rings ---- */

static struct ring *find(unsigned fd, unsigned flags)
{
    for (size_t i = 0; i < RINGS_MAX; i++) {
        const struct io_uring *uring = rings[i].uring;

        if (uring == NULL || rings[i].pid != getpid() || rings[i].thread != faults_thread()) {
            continue; /* or it is the parent's */
        }
        if (flags & IORING_ENTER_REGISTERED_RING
                ? (uring->int_flags != 0 && uring->enter_ring_fd == (int)fd)
                : uring->ring_fd == (int)fd) {
            return &rings[i];
        }
    }
    return NULL;
}

/* Whether a no-op can be told its result: asked of a ring of its own. */
static int probe_inject(void)
{
    struct io_uring uring;
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe;
    int told = 0;

    if (io_uring_queue_init(2, &uring, 0) < 0) {
        return 0;
    }
    sqe = io_uring_get_sqe(&uring);
    io_uring_prep_nop(sqe);
    sqe->rw_flags = NOP_INJECT;
    sqe->len = (uint32_t)-EXDEV;
    if (io_uring_submit(&uring) == 1 && io_uring_wait_cqe(&uring, &cqe) == 0) {
        told = cqe->res == -EXDEV;
    }
    io_uring_queue_exit(&uring);
    return told;
}

int faults_requests_can_fail(void)
{
    if (has_inject < 0) {
        has_inject = faults_thread() != NULL || probe_inject(); /* simulated kernels can */
    }
    return has_inject;
}

int faults_ring_init(unsigned entries, struct io_uring *uring, struct io_uring_params *params)
{
    const int rc = faults_kernel()->io_uring_queue_init_params(entries, uring, params);

    (void)faults_requests_can_fail(); /* asked now, and not between two calls of the library */
    for (size_t i = 0; rc == 0 && i < RINGS_MAX; i++) {
        if (rings[i].uring == NULL) {
            rings[i] = (struct ring){
                .uring = uring, .pid = getpid(), .thread = faults_thread(), .entries = entries};
            break; /* one that finds no place is left alone */
        }
    }
    return rc;
}

void faults_ring_exit(struct io_uring *uring)
{
    for (size_t i = 0; i < RINGS_MAX; i++) {
        if (rings[i].uring == uring) {
            rings[i].uring = NULL;
        }
    }
    faults_kernel()->io_uring_queue_exit(uring);
}

/* ---- entries ---- */

/* Returns 1: nothing more is to be done about this entry. */
static int fail(struct io_uring_sqe *sqe, int res)
{
    const uint64_t name = sqe->user_data;

    if (!has_inject) {
        return 0;
    }
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_NOP;
    sqe->fd = -1;
    sqe->rw_flags = NOP_INJECT;
    sqe->len = (uint32_t)res;
    sqe->user_data = name;
    return 1;
}

static int fails_by(struct io_uring_sqe *sqe, int fault, int res)
{
    return faults_chance(fault) && fail(sqe, res);
}

static int is_interrupted(struct io_uring_sqe *sqe)
{
    return fails_by(sqe, GYRE_SIM_FAULT_CALL_EINTR, -EINTR) ||
           fails_by(sqe, FAULTS_RESTARTSYS, -512);
}

static void shorten(struct io_uring_sqe *sqe, int fault)
{
    if (sqe->len > 1 && faults_socket_type(sqe->fd) == SOCK_STREAM && faults_chance(fault)) {
        sqe->len = 1 + (uint32_t)faults_below(sqe->len - 1);
    }
}

static void change_accept(struct io_uring_sqe *sqe)
{
    const int multishot = sqe->ioprio & IORING_ACCEPT_MULTISHOT;

    if (fails_by(sqe, GYRE_SIM_FAULT_ACCEPT_EMFILE, -EMFILE) ||
        fails_by(sqe, GYRE_SIM_FAULT_ACCEPT_ENFILE, -ENFILE) ||
        fails_by(sqe, GYRE_SIM_FAULT_ACCEPT_ABORTED, -ECONNABORTED) ||
        fails_by(sqe, GYRE_SIM_FAULT_ACCEPT_ENOBUFS, -ENOBUFS) ||
        (multishot && fails_by(sqe, FAULTS_ACCEPT_195, 195)) || is_interrupted(sqe)) {
        return;
    }
    if (multishot && faults_chance(GYRE_SIM_FAULT_MULTISHOT_ENDS)) {
        sqe->ioprio &= (uint16_t)~IORING_ACCEPT_MULTISHOT;
    }
}

static void change_connect(struct io_uring_sqe *sqe)
{
    /* Not interrupted: that would mean that it has begun. */
    if (!fails_by(sqe, GYRE_SIM_FAULT_CONNECT_REFUSED, -ECONNREFUSED) &&
        !fails_by(sqe, GYRE_SIM_FAULT_CONNECT_TIMEOUT, -ETIMEDOUT) &&
        !fails_by(sqe, GYRE_SIM_FAULT_CONNECT_UNREACH, -EHOSTUNREACH)) {
        fails_by(sqe, GYRE_SIM_FAULT_CONNECT_NOPORT, -EADDRNOTAVAIL);
    }
}

static void change_recv(struct io_uring_sqe *sqe)
{
    const int multishot = sqe->ioprio & IORING_RECV_MULTISHOT;
    const int selects = sqe->flags & IOSQE_BUFFER_SELECT;

    if (fails_by(sqe, GYRE_SIM_FAULT_RECV_RESET, -ECONNRESET) ||
        fails_by(sqe, GYRE_SIM_FAULT_RECV_ENOMEM, -ENOMEM) ||
        (selects && fails_by(sqe, GYRE_SIM_FAULT_RECV_ENOBUFS, -ENOBUFS)) ||
        (!selects && fails_by(sqe, GYRE_SIM_FAULT_RECV_AGAIN, -EAGAIN)) || is_interrupted(sqe)) {
        return;
    }
    if (multishot && faults_chance(GYRE_SIM_FAULT_MULTISHOT_ENDS)) {
        sqe->ioprio &= (uint16_t)~IORING_RECV_MULTISHOT;
    }
    if (!selects) {
        shorten(sqe, GYRE_SIM_FAULT_RECV_SHORT);
    }
}

static void change_send(struct io_uring_sqe *sqe, int whole)
{
    const int stream = faults_socket_type(sqe->fd) == SOCK_STREAM;

    if (is_interrupted(sqe) || (!stream && fails_by(sqe, GYRE_SIM_FAULT_SEND_ENOBUFS, -ENOBUFS)) ||
        (stream &&
         (fails_by(sqe, GYRE_SIM_FAULT_SEND_AGAIN, -EAGAIN) ||
          fails_by(sqe, GYRE_SIM_FAULT_SEND_RESET, -ECONNRESET) ||
          fails_by(sqe, FAULTS_SEND_EPIPE, -EPIPE) || fails_by(sqe, FAULTS_SEND_ZERO, 0)))) {
        return;
    }
    /* The kernel would say of a silent one that it is short. */
    if (!whole && !(sqe->flags & IOSQE_CQE_SKIP_SUCCESS)) {
        shorten(sqe, GYRE_SIM_FAULT_SEND_SHORT);
    }
}

static void change_poll(struct io_uring_sqe *sqe)
{
    if ((sqe->len & IORING_POLL_ADD_MULTI) && faults_chance(GYRE_SIM_FAULT_MULTISHOT_ENDS)) {
        sqe->len &= ~(uint32_t)IORING_POLL_ADD_MULTI;
    }
}

static void change(struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
        change_accept(sqe);
        break;
    case IORING_OP_CONNECT:
        change_connect(sqe);
        break;
    case IORING_OP_RECV:
        change_recv(sqe);
        break;
    case IORING_OP_SEND:
        change_send(sqe, 0);
        break;
    case IORING_OP_SENDMSG:
        change_send(sqe, 1); /* its pieces are the library's */
        break;
    case IORING_OP_RECVMSG:
    case IORING_OP_READ:
    case IORING_OP_WRITE:
        is_interrupted(sqe);
        break;
    case IORING_OP_POLL_ADD:
        change_poll(sqe);
        break;
    case IORING_OP_ASYNC_CANCEL:
        fails_by(sqe, GYRE_SIM_FAULT_CANCEL_LOSES, -EALREADY);
        break;
    default: /* a close above all: one that is not made leaves its descriptor */
        break;
    }
}

static enum faults_call sort_of(const struct io_uring_sqe *sqe)
{
    switch (sqe->opcode) {
    case IORING_OP_ACCEPT:
        return FAULTS_REQUEST_accept;
    case IORING_OP_CONNECT:
        return FAULTS_REQUEST_connect;
    case IORING_OP_RECV:
        return sqe->flags & IOSQE_BUFFER_SELECT ? FAULTS_REQUEST_recv_select : FAULTS_REQUEST_recv;
    case IORING_OP_SEND:
        return FAULTS_REQUEST_send;
    case IORING_OP_RECVMSG:
        return FAULTS_REQUEST_recvmsg;
    case IORING_OP_SENDMSG:
        return FAULTS_REQUEST_sendmsg;
    case IORING_OP_READ:
        return FAULTS_REQUEST_read;
    case IORING_OP_WRITE:
        return FAULTS_REQUEST_write;
    case IORING_OP_POLL_ADD:
        return FAULTS_REQUEST_poll;
    case IORING_OP_ASYNC_CANCEL:
        return FAULTS_REQUEST_cancel;
    default:
        return FAULTS_CALLS;
    }
}

/* Entries come before the kernel at the end of a turn, all along the same chain of callers. These tell
 * them apart: what is asked for, and of which descriptor, if it is one of the first. */
static uint64_t marks_of(const struct io_uring_sqe *sqe)
{
    const uint64_t number = sqe->fd >= 0 && sqe->fd < NUMBERS_MAX ? (uint64_t)sqe->fd : NUMBERS_MAX;

    return number << 32 | (uint64_t)sqe->ioprio << 16 | sqe->flags;
}

/* Each entry once, although a call may take only some of them. */
static void examine(struct ring *ring)
{
    const struct io_uring_sq *queue = &ring->uring->sq;
    const uint32_t tail = *queue->ktail;

    for (; ring->examined != tail; ring->examined++) {
        struct io_uring_sqe *sqe = &queue->sqes[ring->examined & queue->ring_mask];
        const enum faults_call sort = sort_of(sqe);
        const int error = sort != FAULTS_CALLS ? faults_gate_of(sort, marks_of(sqe)) : 0;

        if (error != 0) {
            fail(sqe, -error);
        } else if (ring->entries > PROBE_ENTRIES) {
            change(sqe);
        }
    }
}

/* ---- completions ---- */

static void set_tail(struct ring *ring, uint32_t tail)
{
    __atomic_store_n(ring->uring->cq.ktail, tail, __ATOMIC_RELEASE);
}

static void show_all(struct ring *ring)
{
    if (ring->held > 0) {
        set_tail(ring, ring->seen + ring->held);
        __atomic_fetch_and(ring->uring->sq.kflags, ~(unsigned)IORING_SQ_TASKRUN, __ATOMIC_RELAXED);
    }
}

static struct io_uring_cqe *cqe_at(const struct ring *ring, uint32_t index)
{
    return &ring->uring->cq.cqes[index & ring->uring->cq.ring_mask];
}

static int may_change_places(const struct io_uring_cqe *a, const struct io_uring_cqe *b)
{
    return ((a->user_data ^ b->user_data) & ~GYRE__CANCEL_TAG) != 0 &&
           !(a->flags & b->flags & IORING_CQE_F_BUFFER);
}

/* Neighbours, from the front: so one may come a long way back, and none far to the front. */
static void mix(struct ring *ring, uint32_t count)
{
    for (uint32_t i = 0; i + 1 < count; i++) {
        struct io_uring_cqe *a = cqe_at(ring, ring->seen + i);
        struct io_uring_cqe *b = cqe_at(ring, ring->seen + i + 1);
        const struct io_uring_cqe kept = *a;

        if (may_change_places(a, b) && faults_chance(GYRE_SIM_FAULT_COMPLETION_ORDER)) {
            *a = *b;
            *b = kept;
        }
    }
}

/* That a silent send failed is there when the call that submits it returns. */
static int tells_of_silence(const struct ring *ring, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (cqe_at(ring, ring->seen + i)->user_data == GYRE__NAME_SILENT) {
            return 1;
        }
    }
    return 0;
}

/* What the call has brought: all behind ring->seen. */
static void show_some(struct ring *ring)
{
    const uint32_t tail = *ring->uring->cq.ktail;
    const uint32_t count = tail - ring->seen;

    mix(ring, count);
    if (count > 0 && ring->holds < HOLDS_MAX && !tells_of_silence(ring, count) &&
        faults_chance(GYRE_SIM_FAULT_COMPLETION_LATE)) {
        ring->held = 1 + (uint32_t)faults_below(count);
        ring->holds++;
        set_tail(ring, tail - ring->held);
        __atomic_fetch_or(ring->uring->sq.kflags, IORING_SQ_TASKRUN, __ATOMIC_RELAXED);
    } else {
        ring->held = 0;
        ring->holds = 0;
    }
    ring->seen = tail - ring->held;
}

/* A call that does not reap leaves the tail alone, unless it has posted something itself. */
static void after_submit(struct ring *ring)
{
    const uint32_t tail = *ring->uring->cq.ktail;

    if (tail != ring->seen) {
        ring->seen = tail;
        ring->held = 0;
    }
}

int faults_ring_enter(unsigned fd, unsigned to_submit, unsigned wait_count, unsigned flags,
                      void *argument, size_t len)
{
    struct ring *ring = find(fd, flags);
    int rc;

    if (ring == NULL) {
        return faults_kernel()->io_uring_enter2(fd, to_submit, wait_count, flags, argument, len);
    }
    if (ring->entries > PROBE_ENTRIES) {
        if (to_submit > 0 && faults_chance(GYRE_SIM_FAULT_ENTER_EAGAIN)) {
            return -EAGAIN;
        }
        if (to_submit > 0 && faults_chance(GYRE_SIM_FAULT_ENTER_EBUSY)) {
            return -EBUSY;
        }
        if (wait_count > 0 && faults_chance(GYRE_SIM_FAULT_ENTER_EINTR)) {
            if (to_submit == 0) {
                return -EINTR;
            }
            wait_count = 0;
        }
        if (to_submit > 1 && faults_chance(GYRE_SIM_FAULT_ENTER_PARTIAL)) {
            to_submit = 1 + (unsigned)faults_below(to_submit - 1);
            wait_count = 0;
        }
    }
    examine(ring);
    if (!(flags & IORING_ENTER_GETEVENTS)) {
        rc = faults_kernel()->io_uring_enter2(fd, to_submit, wait_count, flags, argument, len);
        after_submit(ring);
        return rc;
    }
    show_all(ring);
    rc = faults_kernel()->io_uring_enter2(fd, to_submit, wait_count, flags, argument, len);
    show_some(ring);
    return rc;
}
