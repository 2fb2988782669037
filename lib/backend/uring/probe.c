/*
 * A self-test on a socket pair. A kernel's version says little: distributions carry patches back,
 * sandboxes refuse single calls, and a setup that succeeds may be followed by an enter that does
 * not. So each feature is used once, for real, and is on if the right bytes came out.
 */
#include "backend/uring/probe.h"

#include "backend/uring/ring.h"
#include "base/sys.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_LEN = 4096, BUFFERS = 2, ENTRIES = 8, ROUND_TRIP_TURNS = 16 };

/* A simulated world is its thread's own, and so is what is known of its kernel. */
#if defined(GYRE_SIM)
#define PER_KERNEL static _Thread_local
#else
#define PER_KERNEL static
#endif

/* static: no heap to go wrong with. Written by one thread at a time, until it is known. */
PER_KERNEL struct gyre__probe result;
PER_KERNEL int known;
PER_KERNEL struct {
    _Alignas(BUFFER_LEN) uint8_t ring[BUFFER_LEN]; /* a buffer ring must be page aligned */
    uint8_t buffers[BUFFERS][BUFFER_LEN];
} memory;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void refused(int error, const char *what)
{
    result.error = error;
    result.failed = what;
}

static void lacks(enum gyre_feature feature, int error)
{
    result.why[__builtin_ctz(feature)] = error;
}

static void has(enum gyre_feature feature)
{
    result.features |= feature;
}

/* Enter until a completion comes. Returns 0 or an error. */
static int one_completion(struct gyre__ring *ring, struct gyre__cqe *out_cqe)
{
    for (int i = 0; i < ROUND_TRIP_TURNS; i++) {
        int rc;

        if (gyre__ring_take(ring, out_cqe, 1) == 1) {
            return 0;
        }
        rc = gyre__ring_enter(ring, 100 * GYRE_MSEC);
        if (rc == -EAGAIN || rc == -EBUSY) {
            gyre__ring_reap(ring); /* no memory just now; see driver.c */
        } else if (rc < 0 && rc != -ETIME && rc != -EINTR) {
            return rc;
        }
    }
    return -ETIME;
}

static int try_nop(struct gyre__ring *ring)
{
    struct io_uring_sqe *sqe = gyre__ring_sqe(ring);
    struct gyre__cqe cqe;
    int rc;

    sqe->opcode = IORING_OP_NOP;
    rc = one_completion(ring, &cqe);
    return rc < 0 ? rc : cqe.res;
}

static int register_buffers(struct gyre__ring *ring, int incremental)
{
    struct gyre__buf_reg registration = {.ring_addr = (uint64_t)(uintptr_t)memory.ring,
                                         .ring_entries = BUFFERS,
                                         .flags = incremental ? GYRE__PBUF_RING_INC : 0};
    struct io_uring_buf_ring *buffers = (struct io_uring_buf_ring *)memory.ring;
    int rc;

    memset(memory.ring, 0, sizeof(memory.ring));
    rc = gyre__sys_io_uring_register_buf_ring(&ring->uring,
                                              (struct io_uring_buf_reg *)&registration, 0);
    if (rc < 0) {
        return rc;
    }
    for (uint16_t i = 0; i < BUFFERS; i++) {
        buffers->bufs[i].addr = (uint64_t)(uintptr_t)memory.buffers[i];
        buffers->bufs[i].len = BUFFER_LEN;
        buffers->bufs[i].bid = i;
    }
    __atomic_store_n(&buffers->tail, BUFFERS, __ATOMIC_RELEASE);
    return 0;
}

/* Named after its socket. */
static void arm_recv(struct gyre__ring *ring, int socket, int multishot)
{
    struct io_uring_sqe *sqe = gyre__ring_sqe(ring);

    sqe->opcode = IORING_OP_RECV;
    sqe->fd = socket;
    sqe->flags = IOSQE_BUFFER_SELECT;
    sqe->ioprio = multishot ? IORING_RECV_MULTISHOT : 0;
    sqe->user_data = (uint64_t)socket;
}

/* Receive one message. Returns the completion's flags, or an error. */
static int receive_one(struct gyre__ring *ring, int peer, uint8_t byte)
{
    struct gyre__cqe cqe;
    int rc;

    if (gyre__sys_send(peer, &byte, 1, MSG_NOSIGNAL) != 1) {
        return -errno;
    }
    rc = one_completion(ring, &cqe);
    if (rc < 0) {
        return rc;
    }
    if (cqe.res != 1 || !(cqe.flags & IORING_CQE_F_BUFFER)) {
        return cqe.res < 0 ? cqe.res : -EIO;
    }
    return (int)(cqe.flags & 0xffff);
}

/* Two messages into one buffer, one behind the other: incremental. Two buffers: not. */
static int try_receives(struct gyre__ring *ring, const int pair[2], int incremental)
{
    int first;
    int second;

    arm_recv(ring, pair[0], 1);
    first = receive_one(ring, pair[1], 'a');
    if (first < 0) {
        return first;
    }
    if (!(first & IORING_CQE_F_MORE)) {
        return -EIO;
    }
    second = receive_one(ring, pair[1], 'b');
    if (second < 0) {
        return second;
    }
    if (incremental) {
        return (first & GYRE__CQE_F_BUF_MORE) && memcmp(memory.buffers[0], "ab", 2) == 0 ? 0 : -EIO;
    }
    return memory.buffers[0][0] == 'a' && memory.buffers[1][0] == 'b' ? 0 : -EIO;
}

static int send_byte(int socket, uint8_t byte)
{
    return gyre__sys_send(socket, &byte, 1, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

/*
 * Two sockets whose data is there in one batch, the first's receive single, the second's multishot.
 * Which bytes of an incremental buffer are whose is told by the order of the completions alone.
 * Kernels before 6.16 or so post what a multishot brings at once and what ends a request at the end
 * of the batch. Whatever else comes of it proves nothing, and is as bad.
 */
static int try_order(struct gyre__ring *ring, const int first[2], const int second[2])
{
    struct gyre__cqe cqes[2];
    int rc;

    arm_recv(ring, first[0], 0);
    arm_recv(ring, second[0], 1);
    rc = gyre__ring_enter(ring, 0);
    rc = rc < 0 ? rc : send_byte(first[1], 'a');
    rc = rc < 0 ? rc : send_byte(second[1], 'b');
    rc = rc < 0 ? rc : gyre__ring_enter(ring, 0);
    if (rc < 0) {
        return rc;
    }
    if (gyre__ring_take(ring, cqes, 2) != 2 || cqes[0].user_data != (uint64_t)first[0] ||
        !(cqes[1].flags & IORING_CQE_F_MORE) || memcmp(memory.buffers[0], "ab", 2) != 0) {
        return -EILSEQ;
    }
    return 0;
}

static int make_pair(int pair[2])
{
    return gyre__sys_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ? -errno : 0;
}

static void close_pair(const int pair[2])
{
    gyre__sys_close(pair[0]);
    gyre__sys_close(pair[1]);
}

/* A ring of its own for each try, so that a half-finished one leaves nothing behind. */
static int try_on_ring(int incremental, const int first[2], const int second[2])
{
    struct gyre__ring ring = {0};
    int rc = gyre__ring_init(&ring, ENTRIES, 2 * ENTRIES);

    if (rc < 0) {
        return rc;
    }
    rc = register_buffers(&ring, incremental);
    if (rc == 0) {
        rc = second != NULL ? try_order(&ring, first, second)
                            : try_receives(&ring, first, incremental);
    }
    gyre__ring_fini(&ring);
    return rc;
}

static int try_buffers(int incremental)
{
    int pair[2];
    int rc = make_pair(pair);

    if (rc < 0) {
        return rc;
    }
    rc = try_on_ring(incremental, pair, NULL);
    close_pair(pair);
    return rc;
}

static int try_incremental_order(void)
{
    int first[2];
    int second[2];
    int rc = make_pair(first);

    if (rc < 0) {
        return rc;
    }
    rc = make_pair(second);
    if (rc == 0) {
        rc = try_on_ring(1, first, second);
        close_pair(second);
    }
    close_pair(first);
    return rc;
}

static void probe_buffers(void)
{
    int rc = try_buffers(1);

    rc = rc < 0 ? rc : try_incremental_order();
    if (rc == 0) {
        has(GYRE_FEATURE_INCREMENTAL);
    } else {
        lacks(GYRE_FEATURE_INCREMENTAL, rc);
        rc = try_buffers(0);
    }
    if (rc == 0) {
        has(GYRE_FEATURE_BUFFER_RING);
        has(GYRE_FEATURE_MULTISHOT);
    } else {
        lacks(GYRE_FEATURE_BUFFER_RING, rc);
        lacks(GYRE_FEATURE_MULTISHOT, rc);
    }
}

static void probe_ring(struct gyre__ring *ring)
{
    int rc = try_nop(ring);

    if (rc < 0) {
        refused(rc, "io_uring_enter");
        return;
    }
    rc = gyre__ring_register(ring);
    if (rc < 0) {
        /* Refused by a sandbox, as all registration then is, or no slot left for this thread. */
        lacks(GYRE_FEATURE_REGISTERED_RING, rc);
    } else if ((rc = try_nop(ring)) < 0) {
        lacks(GYRE_FEATURE_REGISTERED_RING, rc);
    } else {
        has(GYRE_FEATURE_REGISTERED_RING);
    }
    if (ring->features & GYRE__FEAT_NO_IOWAIT) {
        has(GYRE_FEATURE_NO_IOWAIT);
    } else {
        lacks(GYRE_FEATURE_NO_IOWAIT, -EINVAL);
    }
    probe_buffers();
}

static void probe(void)
{
    struct gyre__ring ring = {0};
    const int rc = gyre__ring_init(&ring, ENTRIES, 2 * ENTRIES);

    if (rc < 0) {
        refused(rc, "io_uring_setup");
        return;
    }
    probe_ring(&ring);
    gyre__ring_fini(&ring);
}

/* What may be different a moment later is not remembered. */
static int is_passing(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EAGAIN ||
           error == -ETIME;
}

static int is_final(void)
{
    int passing = is_passing(result.error);

    for (int i = 0; i < GYRE_FEATURE_COUNT; i++) {
        passing |= is_passing(result.why[i]);
    }
    return !passing;
}

void gyre__uring_probe(struct gyre__probe *out_probe)
{
    gyre__sys_pthread_mutex_lock(&lock);
    if (!known) {
        result = (struct gyre__probe){0};
        probe();
        known = is_final();
    }
    *out_probe = result;
    gyre__sys_pthread_mutex_unlock(&lock);
}

#if defined(GYRE_SIM)
void gyre__uring_probe_forget(void)
{
    gyre__sys_pthread_mutex_lock(&lock);
    known = 0;
    gyre__sys_pthread_mutex_unlock(&lock);
}
#endif
