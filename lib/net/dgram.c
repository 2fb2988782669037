/*
 * Datagram sockets: opening, closing, and when the callbacks run.
 *
 *     NONE --gyre_dgram_open()--> OPEN --gyre_dgram_close()--> CLOSING --finish()--> CLOSED
 *
 * OPEN:    the poll `in` is active and tells of data, or a recvmsg brings it (dgram_lone.c), or the
 *          socket is busy and read without being told;
 *          `out` is active while the socket's send buffer is full.
 * CLOSING: the descriptor's close waits for both; nothing is queued. It begins when it is known what
 *          became of an answer that left silently, if one did.
 * CLOSED:  nothing refers to the struct any more.
 *
 * Callbacks run from operations' callbacks only: those for data from that of `in` or of the recvmsg, all that come
 * from sending, closing and resuming from that of `work`, a nop. The task runs at the end of each
 * turn in which something was sent; it sends, and goes on with what had its share of the turn.
 */
#include "net/dgram.h"

#include "base/alloc.h"
#include "base/sys.h"
#include "core/op.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum {
    DGRAM_QUEUE_BYTES = 1 << 20,
    DGRAM_QUEUE_COUNT = 4096,
};

#define DGRAM_FLAGS ((GYRE_DGRAM_ERROR_DETAIL << 1) - 1)

static void dgram_set_state(struct gyre_dgram *dgram, enum gyre__dgram_state state)
{
    gyre_assert(state == GYRE__DGRAM_OPEN || (int)state == dgram->state + 1);
    dgram->state = (uint8_t)state;
}

int gyre__dgram_check(const struct gyre_dgram *dgram)
{
    int rc;

    if (dgram == NULL ||
        (dgram->state != GYRE__DGRAM_OPEN && dgram->state != GYRE__DGRAM_CLOSING)) {
        return -EINVAL;
    }
    rc = gyre__loop_check(gyre__dgram_loop(dgram));
    if (rc < 0) {
        return rc;
    }
    return gyre__dgram_is_open(dgram) ? 0 : GYRE_ECLOSING;
}

/* ---- callbacks ---- */

void gyre__dgram_request_work(struct gyre_dgram *dgram)
{
    int rc;

    if (gyre_op_active(&dgram->work)) {
        return;
    }
    rc = gyre_op_nop(&dgram->work, gyre__dgram_loop(dgram));
    gyre_assert(rc == 0); /* a nop needs no memory */
}

void gyre__dgram_report(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    if (!gyre__dgram_is_open(dgram)) {
        return;
    }
    dgram->stats.errors++;
    if (dgram->handler->on_error != NULL) {
        dgram->handler->on_error(dgram, error, to);
    }
}

static void dgram_drain(struct gyre_dgram *dgram)
{
    if (!dgram->refused || dgram->queued_count > dgram->count_max / 2 ||
        dgram->queued_bytes > dgram->bytes_max / 2) {
        return;
    }
    dgram->refused = 0;
    if (dgram->handler->on_drain != NULL) {
        dgram->handler->on_drain(dgram);
    }
}

/* Nothing of it is with the kernel, and no callback is to come: release everything. */
static void dgram_finish(struct gyre_dgram *dgram)
{
    const struct gyre_dgram_handler *handler = dgram->handler;

    gyre_assert(!gyre_op_active(&dgram->in) && !gyre_op_active(&dgram->out));
    gyre__dgram_lone_fini(dgram);
    gyre__dgram_settle(dgram);
    gyre_assert(dgram->page == NULL && dgram->queued_count == 0);
    dgram_set_state(dgram, GYRE__DGRAM_CLOSED);
    if (handler->on_close != NULL) {
        handler->on_close(dgram);
    }
}

static void dgram_on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_dgram *dgram = gyre_container_of(op, struct gyre_dgram, closing);

    (void)result; /* close(2) frees the descriptor whatever it says */
    if (!gyre_op_active(&dgram->work)) {
        dgram_finish(dgram);
    }
}

static void dgram_on_work(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_dgram *dgram = gyre_container_of(op, struct gyre_dgram, work);
    const int32_t error = dgram->pending_error;

    (void)result;
    dgram->pending_error = 0;
    if (error != 0) {
        gyre__dgram_report(dgram, error, NULL);
    }
    gyre__dgram_settle(dgram);
    if (gyre__dgram_is_open(dgram)) {
        dgram_drain(dgram);
    }
    if (gyre__dgram_is_open(dgram)) {
        gyre__dgram_receive(dgram);
    } else if (!gyre_op_active(&dgram->closing) && !gyre_op_active(&dgram->work) &&
               !dgram->silent) {
        dgram_finish(dgram);
    }
}

/* A socket that has received is polled, or registered, anew, so it must not end when once that needs
 * memory that the kernel has not: it stays busy, and tries again. Where the first time fails it ends. */
static int dgram_lacks_memory(const struct gyre_dgram *dgram, int32_t error)
{
    return dgram->stats.received > 0 && (error == -ENOMEM || error == -ENOSPC);
}

static void dgram_on_readable(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_dgram *dgram = gyre_container_of(op, struct gyre_dgram, in);

    if (!gyre__dgram_is_open(dgram)) {
        return;
    }
    if (result->res < 0 && result->res != -ECANCELED && !dgram_lacks_memory(dgram, result->res)) {
        gyre__dgram_report(dgram, result->res, NULL);
        if (gyre__dgram_is_open(dgram)) {
            gyre_dgram_close(dgram); /* it would never receive again */
        }
        return;
    }
    dgram->readable |= result->res >= 0;
    if (!(result->flags & GYRE_MORE)) { /* before callbacks run: its memory is still reserved */
        gyre__dgram_poll_ended(dgram, result->res);
    }
    if (result->res < 0) {
        return; /* for another way of waiting */
    }
    dgram->troubled |= (result->res & POLLERR) && (dgram->flags & GYRE_DGRAM_ERROR_DETAIL);
    if (!gyre_op_active(&dgram->work)) {
        gyre__dgram_receive(dgram);
    }
}

static void dgram_end_turn(struct gyre_task *task)
{
    struct gyre_dgram *dgram = gyre_container_of(task, struct gyre_dgram, task);

    gyre__dgram_flush(dgram);
    if (dgram->troubled || dgram->busy || gyre__dgram_may_receive(dgram)) {
        gyre__dgram_request_work(dgram);
    }
}

/* ---- open ---- */

static void dgram_prepare_scratch(struct gyre__dgram_scratch *scratch)
{
    scratch->shaped_max = 0;
    scratch->answering = NULL;
    scratch->answers = 0;
    memset(scratch->out, 0, sizeof(scratch->out));
    for (int i = 0; i < GYRE__DGRAM_BATCH; i++) {
        scratch->out[i].msg_hdr.msg_iov = &scratch->out_iov[i];
        scratch->out[i].msg_hdr.msg_iovlen = 1;
    }
}

static int dgram_get_scratch(struct gyre_loop *loop)
{
    struct gyre__net *net = gyre__net_of(loop);

    if (net == NULL) {
        return -ENOMEM;
    }
    if (net->scratch == NULL) {
        const size_t line = _Alignof(struct gyre__dgram_scratch);
        /* Not zeroed: mostly never touched. An allocator promises less alignment. */
        uint8_t *memory = gyre__alloc(sizeof(*net->scratch) + line - 1);

        if (memory == NULL) {
            return -ENOMEM;
        }
        loop->stats.allocations++;
        net->scratch_memory = memory;
        memory += -(uintptr_t)memory & (line - 1);
        net->scratch = (struct gyre__dgram_scratch *)(void *)memory;
        dgram_prepare_scratch(net->scratch);
    }
    return 0;
}

static int dgram_check_options(const struct gyre_dgram *dgram, struct gyre_loop *loop,
                               const struct gyre_dgram_options *options)
{
    if (dgram == NULL || loop == NULL || options == NULL || options->handler == NULL ||
        options->handler->on_datagram == NULL || (options->flags & ~DGRAM_FLAGS) != 0 ||
        options->receive_max > GYRE_DGRAM_MAX || options->queue_count > UINT32_MAX) {
        return -EINVAL;
    }
    return gyre__loop_check(loop);
}

static size_t dgram_or(size_t value, size_t otherwise)
{
    return value != 0 ? value : otherwise;
}

static void dgram_init(struct gyre_dgram *dgram, const struct gyre_dgram_options *options)
{
    memset(dgram, 0, sizeof(*dgram));
    dgram->handler = options->handler;
    dgram->flags = (uint16_t)options->flags;
    dgram->receive_max = (uint32_t)dgram_or(options->receive_max, GYRE_DGRAM_MAX);
    dgram->bytes_max = dgram_or(options->queue_bytes, DGRAM_QUEUE_BYTES);
    dgram->count_max = dgram_or(options->queue_count, DGRAM_QUEUE_COUNT);
    gyre_op_init(&dgram->in, dgram_on_readable);
    gyre_op_init(&dgram->out, gyre__dgram_on_room);
    gyre_op_init(&dgram->work, dgram_on_work);
    gyre_op_init(&dgram->closing, dgram_on_closed);
    gyre__task_init(&dgram->task, dgram_end_turn);
    gyre__list_init(&dgram->queue);
    gyre__list_init(&dgram->ended);
    gyre__list_init(&dgram->held);
}

/* The descriptor is the library's if this succeeds, else the caller's. */
static int dgram_start(struct gyre_dgram *dgram, struct gyre_loop *loop, int number)
{
    int ignored;
    int rc = gyre_fd_init(&dgram->fd, loop, number);

    if (rc < 0) {
        return rc;
    }
    gyre__dgram_lone_init(dgram);
    rc = gyre__dgram_wait(dgram);
    if (rc < 0) {
        const int undone = gyre_fd_detach(&dgram->fd, &ignored);

        gyre_assert(undone == 0);
        return rc;
    }
    dgram_set_state(dgram, GYRE__DGRAM_OPEN);
    return 0;
}

int gyre_dgram_open(struct gyre_dgram *dgram, struct gyre_loop *loop,
                    const struct gyre_dgram_options *options)
{
    int rc = dgram_check_options(dgram, loop, options);
    int number;

    rc = rc < 0 ? rc : dgram_get_scratch(loop);
    if (rc < 0) {
        return rc;
    }
    dgram_init(dgram, options);
    number = gyre__dgram_socket(dgram, options);
    if (number < 0) {
        return number;
    }
    rc = dgram_start(dgram, loop, number);
    if (rc < 0) {
        gyre__sys_close(number);
    }
    return rc;
}

int gyre_dgram_adopt(struct gyre_dgram *dgram, struct gyre_loop *loop, int number,
                     const struct gyre_dgram_options *options)
{
    int rc = dgram_check_options(dgram, loop, options);

    if (rc == 0 && (options->local != NULL || options->peer != NULL ||
                    options->kind != GYRE_DGRAM_BY_ADDRESS)) {
        rc = -EINVAL;
    }
    rc = rc < 0 ? rc : dgram_get_scratch(loop);
    if (rc < 0) {
        return rc;
    }
    dgram_init(dgram, options);
    rc = gyre__dgram_inspect(dgram, number, options);
    return rc < 0 ? rc : dgram_start(dgram, loop, number);
}

/* ---- close, pause ---- */

void gyre__dgram_end(struct gyre_dgram *dgram)
{
    int rc;

    gyre__dgram_flush(dgram);
    gyre__dgram_rest(dgram);
    gyre__dgram_drop_queue(dgram);
    rc = gyre_op_close(&dgram->closing, &dgram->fd, 0);
    gyre_assert(rc == 0);
}

int gyre_dgram_close(struct gyre_dgram *dgram)
{
    const int rc = gyre__dgram_check(dgram);

    if (rc < 0) {
        return rc;
    }
    dgram_set_state(dgram, GYRE__DGRAM_CLOSING);
    gyre__task_withdraw(&dgram->task);
    gyre__dgram_send_answers(gyre__dgram_scratch(dgram));
    dgram->answering = 0;
    gyre__dgram_drop_held(dgram);
    if (!dgram->silent) {
        gyre__dgram_end(dgram);
    }
    return 0;
}

int gyre_dgram_pause(struct gyre_dgram *dgram)
{
    const int rc = gyre__dgram_check(dgram);

    if (rc == 0) {
        dgram->paused = 1;
    }
    return rc;
}

int gyre_dgram_resume(struct gyre_dgram *dgram)
{
    const int rc = gyre__dgram_check(dgram);

    if (rc < 0 || !dgram->paused) {
        return rc;
    }
    dgram->paused = 0;
    if (dgram->readable || !gyre__list_empty(&dgram->held)) {
        gyre__dgram_request_work(dgram);
    }
    return 0;
}

/* ---- asking ---- */

int gyre_dgram_local(const struct gyre_dgram *dgram, struct gyre_addr *out_addr)
{
    struct gyre_addr addr = {.len = sizeof(addr.storage)};
    const int rc = out_addr == NULL ? -EINVAL : gyre__dgram_check(dgram);

    if (rc < 0) {
        return rc;
    }
    if (gyre__sys_getsockname(dgram->fd.number, &addr.any, &addr.len) < 0) {
        return -errno;
    }
    *out_addr = addr;
    return 0;
}

int gyre_dgram_number(const struct gyre_dgram *dgram)
{
    return dgram != NULL ? gyre_fd_number(&dgram->fd) : -EBADF;
}

int gyre_dgram_is_raw(const struct gyre_dgram *dgram)
{
    return dgram != NULL && (dgram->traits & GYRE__DGRAM_RAW);
}

size_t gyre_dgram_queued(const struct gyre_dgram *dgram)
{
    return dgram != NULL ? dgram->queued_bytes : 0;
}

int gyre_dgram_stats(const struct gyre_dgram *dgram, struct gyre_dgram_stats *out_stats)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof(memory);
    int rc;

    if (dgram == NULL || out_stats == NULL || dgram->state == GYRE__DGRAM_NONE) {
        return -EINVAL;
    }
    /* The loop of one that is closed may be gone. */
    rc = dgram->state == GYRE__DGRAM_CLOSED ? 0 : gyre__loop_check(gyre__dgram_loop(dgram));
    if (rc < 0) {
        return rc;
    }
    *out_stats = dgram->stats;
    if (gyre_fd_number(&dgram->fd) >= 0 &&
        gyre__sys_getsockopt(dgram->fd.number, SOL_SOCKET, SO_MEMINFO, memory, &len) == 0) {
        out_stats->kernel_drops = memory[SK_MEMINFO_DROPS];
    }
    return 0;
}
