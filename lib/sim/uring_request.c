/*
 * The life of a request (the states are in uring.h). It is tried when its entry is taken in. If
 * that is too early, it waits for its file as a poll does; a wake-up queues task work, in which the
 * owner looks at the file and tries again. A multishot keeps its place among the file's waiters for
 * all its life and is tried at each wake-up, a single one is taken out by the first.
 *
 * Two properties of Linux that drivers meet, and that are kept here:
 *     a wake-up that comes before the last one was looked at is only counted. So an end that came
 *     together with data is seen only if the receive itself says that there is more, or if the
 *     count says that something happened after the data (`wakes`, only for hang-ups);
 *     what was there when a multishot was armed is one wake-up, whatever it was.
 */
#include "sim/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define LATE_NS_MAX (5 * GYRE_MSEC)

/* What every poll reports, asked or not. */
#define ALWAYS ((uint32_t)(EPOLLERR | EPOLLHUP | EPOLLRDHUP))

static struct sim_request *request_of_waiter(struct sim_waiter *waiter)
{
    return gyre_container_of(waiter, struct sim_request, waiter);
}

static struct sim_request *request_of_link(struct gyre_link *link)
{
    return gyre_container_of(link, struct sim_request, link);
}

/* ---- the end ---- */

static void request_free(struct sim_request *request)
{
    gyre__sim_wait_remove(&request->waiter);
    gyre__sim_unschedule(gyre__sim_of_uring(request->ring), &request->late);
    gyre__list_remove(&request->link);
    gyre__list_remove(&request->work);
    if (request->file != NULL) {
        gyre__sim_file_close(request->file);
    }
    free(request->pieces);
    free(request);
}

/* A multishot that ends although nobody asked: it will be started again. */
static void note_end(struct sim_request *request)
{
    struct sim_uring *ring = request->ring;

    if (request->multishot && !request->cancelled &&
        (request->res > 0 || request->res == -ENOBUFS)) {
        ring->ended[ring->ended_count++ % SIM_URING_ENDED_MAX] = request->sqe.user_data;
    }
}

static void note_start(struct sim_request *request)
{
    struct sim_uring *ring = request->ring;

    for (int i = 0; request->multishot && i < SIM_URING_ENDED_MAX; i++) {
        if (ring->ended[i] == request->sqe.user_data && ring->ended[i] != 0) {
            ring->ended[i] = 0;
            gyre__sim_sometimes(gyre__sim_of_uring(ring), GYRE_SIM_PATH_MULTISHOT_REARMED);
        }
    }
}

static void complete(struct sim_request *request)
{
    gyre__sim_request_check(request);
    note_end(request);
    if (request->cancelled && request->res == -ECANCELED) {
        gyre__sim_sometimes(gyre__sim_of_uring(request->ring), GYRE_SIM_PATH_CANCEL_WON);
    }
    gyre__sim_uring_post_last(request);
    request_free(request);
}

/* Ends with an error that is not the operation's own; a transfer that has begun says how far it
 * came. */
static void fail(struct sim_request *request, int error)
{
    request->res = request->done > 0 ? (int32_t)request->done : error;
    request->cqe_flags = 0;
    request->failed = 1;
    complete(request);
}

void gyre__sim_request_drop(struct sim_request *request)
{
    request_free(request);
}

/* ---- task work ---- */

static void work_add(struct sim_request *request)
{
    struct sim_uring *ring = request->ring;

    gyre__list_append(&ring->work, &request->work);
    ring->work_count++;
    gyre__sim_uring_work_added(ring, request->state != SIM_REQUEST_WOKEN);
}

static void work_late(struct sim_event *event)
{
    work_add(gyre_container_of(event, struct sim_request, late));
}

static void work_queue(struct sim_request *request, enum sim_request_state state)
{
    struct gyre_sim *sim = gyre__sim_of_uring(request->ring);

    request->state = state;
    if (gyre__sim_fault(sim, GYRE_SIM_FAULT_COMPLETION_LATE)) {
        const uint64_t span = gyre__sim_below(sim, LATE_NS_MAX);

        gyre__sim_schedule(sim, &request->late, gyre__sim_now(sim) + span);
        return;
    }
    work_add(request);
}

void gyre__sim_request_over(struct sim_request *request)
{
    request->late.fire = work_late;
    work_queue(request, SIM_REQUEST_OVER);
}

/* The first that calls has work queued; the others are counted. */
static void call(struct sim_request *request, uint32_t mask)
{
    if (request->wakes++ == 0) {
        request->mask = mask;
        work_queue(request, SIM_REQUEST_WOKEN);
    }
}

/* A change of a socket's state wakes everybody, on Linux, and does not say what it is: it has to be
 * looked at. Arrivals, room and errors are told, and believed. */
static void woken(struct sim_waiter *waiter, uint32_t events)
{
    struct sim_request *request = request_of_waiter(waiter);

    if (events & (EPOLLHUP | EPOLLRDHUP)) {
        events = 0;
    }
    if (events != 0 && (events & request->events & ~(uint32_t)EPOLLPRI) == 0) {
        return;
    }
    if (events != 0 && request->one_shot_poll && request->wakes == 0) {
        gyre__sim_wait_remove(waiter);
    }
    call(request, events);
}

/* ---- waiting for the file ---- */

/* Returns what is ready now. */
static uint32_t watch(struct sim_request *request, uint32_t events)
{
    request->state = SIM_REQUEST_ARMED;
    request->events = events | ALWAYS;
    request->wakes = 0;
    request->mask = 0;
    gyre__sim_wait_add(request->file, &request->waiter);
    return request->file->ops->poll(request->file) & request->events;
}

/* It was too early: wait, or, if things have changed meanwhile, try again in a moment. */
static void arm(struct sim_request *request)
{
    uint32_t ready;

    request->polled = 1;
    request->one_shot_poll = !request->multishot;
    ready = watch(request, gyre__sim_request_events(request) | EPOLLPRI);
    if (ready == 0) {
        return;
    }
    if (request->multishot) {
        call(request, ready);
    } else {
        gyre__sim_wait_remove(&request->waiter);
        work_queue(request, SIM_REQUEST_QUEUED);
    }
}

/* POLL_ADD: the poll is the request. */
static void poll_start(struct sim_request *request)
{
    uint32_t ready;

    request->one_shot_poll = !request->multishot;
    ready = watch(request, request->sqe.poll32_events);
    if (ready == 0) {
        return;
    }
    if (request->multishot) {
        call(request, ready);
    } else {
        request->res = (int32_t)ready;
        complete(request);
    }
}

static int is_send(const struct sim_request *request)
{
    return request->sqe.opcode == IORING_OP_SEND || request->sqe.opcode == IORING_OP_SENDMSG;
}

static int must_not_wait(const struct sim_request *request)
{
    const uint8_t opcode = request->sqe.opcode;

    return (is_send(request) || opcode == IORING_OP_RECV || opcode == IORING_OP_RECVMSG) &&
           (request->sqe.msg_flags & MSG_DONTWAIT);
}

/* Tries it where it is not polled for: at first, and again after a poll. */
static void issue(struct sim_request *request)
{
    request->state = SIM_REQUEST_ISSUED;
    if (request->sqe.opcode == IORING_OP_POLL_ADD) {
        poll_start(request);
    } else if (gyre__sim_request_try(request) == SIM_TURN_DONE) {
        complete(request);
    } else if (must_not_wait(request)) {
        fail(request, -EAGAIN);
    } else if (request->arms++ < SIM_URING_ARMS_MAX) {
        arm(request);
    } else if (is_send(request)) {
        gyre__sim_request_punt(request);
    } else {
        /* A worker thread that is blocked in the call: until the file changes, whatever it says. */
        request->one_shot_poll = !request->multishot;
        (void)watch(request, gyre__sim_request_events(request));
    }
}

/* ---- after a wake-up ---- */

/* A multishot is told of events. Returns 0 if it does not go on as it is. */
static int serve(struct sim_request *request, uint32_t ready, uint32_t *wakes)
{
    enum sim_turn turn;

    if (request->sqe.opcode == IORING_OP_POLL_ADD) {
        if (gyre__sim_uring_post_more(request, (int32_t)ready, 0)) {
            return 1;
        }
        request->res = (int32_t)ready;
        complete(request);
        return 0;
    }
    if ((ready & (EPOLLHUP | EPOLLRDHUP)) && *wakes > 1) {
        (*wakes)--; /* the end may be another wake-up than the data: look once more */
    }
    turn = gyre__sim_request_try(request);
    if (turn == SIM_TURN_DONE) {
        complete(request);
    } else if (turn == SIM_TURN_REQUEUE) {
        request->mask = 0;
        work_queue(request, SIM_REQUEST_WOKEN);
    }
    return turn == SIM_TURN_WAIT;
}

/* A single one: what it waited for is there, or it was woken for nothing. */
static void serve_once(struct sim_request *request, uint32_t ready)
{
    gyre__sim_wait_remove(&request->waiter);
    request->wakes = 0;
    if (request->sqe.opcode == IORING_OP_POLL_ADD && ready != 0) {
        request->res = (int32_t)ready;
        complete(request);
    } else {
        issue(request);
    }
}

static void look(struct sim_request *request)
{
    do {
        uint32_t wakes = request->wakes;
        uint32_t ready = wakes == 1 ? request->mask & request->events : 0;

        if (request->cancelled) {
            fail(request, -ECANCELED);
            return;
        }
        if (ready == 0) {
            ready = request->file->ops->poll(request->file) & request->events;
        }
        if (request->one_shot_poll) {
            serve_once(request, ready);
            return;
        }
        if (ready != 0 && !serve(request, ready, &wakes)) {
            return;
        }
        request->mask = 0;
        request->wakes -= wakes;
    } while (request->wakes > 0);
    request->state = SIM_REQUEST_ARMED;
}

void gyre__sim_request_run(struct sim_request *request)
{
    switch (request->state) {
    case SIM_REQUEST_QUEUED:
        issue(request);
        break;
    case SIM_REQUEST_OVER:
        complete(request);
        break;
    default:
        look(request);
        break;
    }
}

/* ---- the beginning ---- */

static struct sim_request *request_new(struct sim_uring *ring, const struct io_uring_sqe *sqe)
{
    struct sim_request *request = gyre__sim_alloc(sizeof(*request));

    request->ring = ring;
    request->id = ring->request_ids++;
    request->sqe = *sqe;
    request->waiter.wake = woken;
    request->late.fire = work_late;
    gyre__list_init(&request->waiter.link);
    gyre__list_init(&request->work);
    gyre__list_append(&ring->requests, &request->link);
    return request;
}

static int needs_file(const struct sim_request *request)
{
    const uint8_t opcode = request->sqe.opcode;

    return opcode != IORING_OP_NOP && opcode != IORING_OP_ASYNC_CANCEL && opcode != IORING_OP_CLOSE;
}

/* The request keeps its file open: closing the number ends nothing. */
static int take_file(struct sim_request *request)
{
    struct sim_file *file;

    if (!needs_file(request)) {
        return 0;
    }
    file = gyre__sim_fd_file(request->ring->process, request->sqe.fd);
    if (file == NULL) {
        return -EBADF;
    }
    gyre__sim_file_open(file);
    request->file = file;
    return 0;
}

void gyre__sim_request_submit(struct sim_uring *ring, const struct io_uring_sqe *sqe)
{
    struct sim_request *request = request_new(ring, sqe);
    int rc = gyre__sim_request_prepare(request);

    rc = rc < 0 ? rc : take_file(request);
    if (rc < 0) {
        fail(request, rc);
        return;
    }
    note_start(request);
    issue(request);
}

/* ---- cancelling ---- */

static int is_findable(const struct sim_request *request, uint64_t user_data)
{
    return request->sqe.user_data == user_data &&
           (request->state == SIM_REQUEST_ARMED || request->state == SIM_REQUEST_WOKEN ||
            request->state == SIM_REQUEST_WORKER);
}

static int cancel(struct sim_request *request)
{
    if (request->state == SIM_REQUEST_WORKER) {
        return gyre__sim_request_interrupt(request);
    }
    if (gyre__sim_fault(gyre__sim_of_uring(request->ring), GYRE_SIM_FAULT_CANCEL_LOSES)) {
        return -EALREADY;
    }
    request->cancelled = 1;
    call(request, 0);
    return 0;
}

/* The youngest of that name, as Linux finds it. */
int gyre__sim_request_cancel(struct sim_uring *ring, uint64_t user_data)
{
    int rc = -ENOENT;

    for (struct gyre_link *link = ring->requests.prev; link != &ring->requests; link = link->prev) {
        struct sim_request *request = request_of_link(link);

        if (is_findable(request, user_data)) {
            rc = cancel(request);
            break;
        }
    }
    if (rc < 0) {
        gyre__sim_sometimes(gyre__sim_of_uring(ring), GYRE_SIM_PATH_CANCEL_LOST);
    }
    return rc;
}
