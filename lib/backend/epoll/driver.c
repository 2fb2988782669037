/*
 * The epoll driver: completions made from readiness, at the price of the best hand-written loop.
 *
 * A descriptor is registered edge-triggered when an operation first has to wait on it; close(2) takes
 * it out. It is registered for output only when an operation first has to wait for that: a new
 * connection would be told of the room that it has, and a datagram socket of the room that each
 * datagram leaves. gyre_fd.ready remembers what the edges said:
 *
 *     IN, OUT   a try may succeed. Set by an edge; cleared when a try finds nothing, and for IN
 *               also when a stream gave less than there was room for: then it is empty, and the
 *               next edge tells of more (epoll(7), "edge-triggered"). So a receive that is armed
 *               again and again costs no EAGAIN.
 *     END       an end or an error is behind the data: a short read does not mean empty.
 *
 * Writes are tried at once when they are started: mostly they succeed, and the bytes are hot.
 * Reads wait for an edge, or for dispatch when IN is set. Each operation may move so much per turn;
 * what is left goes to the end of the list of tries, and the loop does not sleep while that is not
 * empty.
 *
 * Sockets that accept are registered level-triggered. An edge would oblige to accept until there is
 * nothing, and an accept4(2) that finds nothing has made a socket and a file for it before it looks.
 * So about as many are accepted as there were the last time, mostly one, and of others the kernel tells
 * again. If nobody is there to accept them, the registration becomes edge-triggered for good, or the
 * loop would spin.
 */
#include "backend/epoll/driver.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/sys.h"
#include "core/op.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 512,      /* 6 KiB; more events than this take another turn */
    OPS_PER_EVENT = 16,    /* tries and results before the next event has its turn */
    ACCEPTS_PER_TURN = 64, /* accepts of one operation */
};

#define REGISTRATION (EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET)
#define ACCEPTING    EPOLLIN

struct epoll_driver {
    int number;
    int count; /* events taken in and not dispatched */
    int no_pwait2;
    struct epoll_event events[EVENTS_MAX];
};

static struct epoll_driver *driver_of(const struct gyre_loop *loop)
{
    return loop->driver;
}

/* ---- set up ---- */

static int epoll_init(struct gyre_loop *loop, const struct gyre_loop_options *options)
{
    struct epoll_driver *driver = gyre__zalloc(sizeof(*driver));
    int rc;

    if (driver == NULL) {
        return -ENOMEM;
    }
    driver->number = gyre__sys_epoll_create1(EPOLL_CLOEXEC);
    if (driver->number < 0) {
        rc = -errno;
        gyre__free(driver);
        return rc;
    }
    rc = gyre__pool_init(&loop->pool, options);
    if (rc < 0) {
        gyre__sys_close(driver->number);
        gyre__free(driver);
        return rc;
    }
    loop->driver = driver;
    return 0;
}

static void epoll_fini(struct gyre_loop *loop)
{
    struct epoll_driver *driver = driver_of(loop);

    gyre__sys_close(driver->number);
    gyre__pool_fini(&loop->pool);
    gyre__free(driver);
    loop->driver = NULL;
}

/* ---- registration ---- */

static int control(struct gyre_fd *fd, int what)
{
    const uint32_t unwanted = fd->flags & GYRE__FD_NO_ROOM_EVENTS ? EPOLLOUT : 0;
    const uint32_t events = fd->flags & GYRE__FD_LEVEL ? ACCEPTING : REGISTRATION & ~unwanted;
    struct epoll_event event = {.events = events, .data.u64 = gyre__name(fd->slot, fd->generation)};

    fd->loop->stats.syscalls++;
    return gyre__sys_epoll_ctl(driver_of(fd->loop)->number, what, fd->number, &event) < 0 ? -errno
                                                                                          : 0;
}

static int register_fd(struct gyre_fd *fd)
{
    int rc;

    if (fd->flags & GYRE__FD_PLAIN) {
        return 0;
    }
    gyre__fd_take_name(fd);
    rc = control(fd, EPOLL_CTL_ADD);
    if (rc == -EEXIST) { /* a duplicate kept it open, and it has its old number again */
        rc = control(fd, EPOLL_CTL_MOD);
    }
    if (rc == -EPERM) {
        fd->flags |= GYRE__FD_PLAIN;
        return 0;
    }
    fd->flags |= rc == 0 ? GYRE__FD_REGISTERED : 0;
    return rc;
}

static void epoll_forget(struct gyre_fd *fd)
{
    if (fd->flags & GYRE__FD_REGISTERED) {
        control(fd, EPOLL_CTL_DEL);
        fd->flags &= (uint16_t)~GYRE__FD_REGISTERED;
    }
}

/* ---- trying ---- */

static int waits_for_room(const struct gyre_op *op)
{
    return (gyre__kind_poll_events(op) & POLLOUT) != 0;
}

/* An edge will tell what the operation waits for. */
static inline int is_registered_for(const struct gyre_op *op)
{
    const uint32_t flags = op->fd->flags;

    return (flags & GYRE__FD_REGISTERED) &&
           !((flags & GYRE__FD_LEVEL) && op->kind != GYRE_OP_ACCEPT) &&
           !((flags & GYRE__FD_NO_ROOM_EVENTS) && waits_for_room(op));
}

/* Wait for an edge. Called from arm() and resume(), so a failure is a result for later. */
static void await_first_edge(struct gyre_op *op)
{
    const uint16_t before = op->fd->flags;
    int rc;

    op->fd->flags &= (uint16_t)~GYRE__FD_LEVEL;
    if (waits_for_room(op)) {
        op->fd->flags &= (uint16_t)~GYRE__FD_NO_ROOM_EVENTS;
    } else if (op->kind == GYRE_OP_ACCEPT) {
        op->fd->flags |= GYRE__FD_LEVEL | GYRE__FD_LISTENS;
    }
    /* What holds by now, a change of the registration tells. */
    rc = before & GYRE__FD_REGISTERED ? control(op->fd, EPOLL_CTL_MOD) : register_fd(op->fd);
    if (rc < 0) {
        op->fd->flags = before;
        gyre__op_ready(op, gyre__op_outcome(op, rc));
    } else if (op->fd->flags & GYRE__FD_PLAIN) {
        gyre__op_try_later(op);
    }
}

static inline void await_edge(struct gyre_op *op)
{
    if (!is_registered_for(op)) {
        await_first_edge(op);
    }
}

/* Try once. Returns 1 with the final result, 0 to try again at once, GYRE__NOT_YET to wait. */
static int try_once(struct gyre_op *op, int32_t *out_result)
{
    const int rc =
        op->kind == GYRE_OP_SEND ? gyre__op_attempt_send(op) : gyre__kind_of(op)->attempt(op);
    size_t left;

    op->loop->stats.syscalls++;
    if (rc == GYRE__NOT_YET) {
        return GYRE__NOT_YET;
    }
    if (op->kind == GYRE_OP_SEND && op->done == 0 && rc == (int)op->len) {
        *out_result = rc; /* the whole of it at once, as nearly always */
        return 1;
    }
    left = gyre__op_continues(op) ? gyre__op_left(op) : 0;
    *out_result = gyre__op_outcome(op, rc);
    if (rc < 0 || !gyre__op_continues(op) ||
        (rc == 0 && gyre__kind_of(op)->direction == GYRE__DIR_IN)) {
        return 1;
    }
    gyre__op_advance(op, (size_t)rc);
    *out_result = (int32_t)op->done;
    if ((size_t)rc == left) {
        return 1;
    }
    op->loop->stats.retries++;
    return 0;
}

/* Returns 1 with the final result, or 0 when the operation has to wait for an edge. */
static int try_op(struct gyre_op *op, int32_t *out_result)
{
    const size_t room = op->kind == GYRE_OP_RECV ? op->len : 0;
    int zeroes = 0;
    int rc;

    gyre__op_check_memory(op);
    do {
        const uint32_t before = op->done;

        rc = try_once(op, out_result);
        zeroes += rc == 0 && op->done == before;
        if (rc == GYRE__NOT_YET && !gyre__fd_note_empty(op)) {
            return 0;
        }
    } while ((rc == 0 && zeroes < GYRE__ZEROES_MAX) || rc == GYRE__NOT_YET);
    if (rc == 0) {
        *out_result = gyre__op_outcome(op, -EIO); /* takes nothing, says nothing: give up */
    }
    if (room != 0 && *out_result > 0 && gyre__fd_is(op->fd, GYRE__FD_TCP)) {
        gyre__fd_note_received(op->fd, room, (size_t)*out_result);
    }
    return 1;
}

/* ---- accepting ---- */

/* How many connections to accept before the kernel is asked whether there are others: twice as many
 * if there were others the last time, half if there were none. */
static uint32_t accepts_now(struct gyre_op *op)
{
    uint32_t *most = &op->arg.accept.most;

    if (!(op->fd->flags & GYRE__FD_LEVEL) || driver_of(op->loop)->count == EVENTS_MAX) {
        return ACCEPTS_PER_TURN; /* there may be many, or it may be long until it is told again */
    }
    if ((uint32_t)op->loop->stats.turns - op->arg.accept.turn == 1) {
        *most = *most < ACCEPTS_PER_TURN / 2 ? 2 * *most : ACCEPTS_PER_TURN;
    }
    return *most;
}

static void accepted_all(struct gyre_op *op)
{
    const uint32_t half = op->arg.accept.most / 2;

    op->arg.accept.most = half > op->done ? half : op->done > 0 ? op->done : 1;
}

/* One accept. Returns 1 if the operation may go on in this turn. */
static int accept_once(struct gyre_op *op)
{
    int rc = gyre__kind_of(op)->attempt(op);

    op->loop->stats.syscalls++;
    if (rc == GYRE__NOT_YET) {
        if (gyre__fd_note_empty(op)) {
            return 1;
        }
        accepted_all(op);
        await_edge(op);
        return 0;
    }
    op->done++;
    if (rc >= 0) {
        op->loop->pause_ns = 0;
        if (!(op->flags & GYRE_MULTISHOT)) {
            gyre__op_finish(op, rc, NULL);
            return 0;
        }
        gyre__op_emit(op, rc, NULL);
        return op->state == GYRE__OP_ARMED;
    }
    rc = gyre__accept_recover(op, rc);
    if (rc < 0) {
        gyre__op_finish(op, rc, NULL); /* it may be gone now */
        return 0;
    }
    op->loop->stats.rearms += rc == 1;
    return rc == 1;
}

static void accept_some(struct gyre_op *op)
{
    const uint32_t most = accepts_now(op);

    op->done = 0;
    while (op->done < most) {
        if (!accept_once(op)) {
            return;
        }
    }
    if (op->fd->flags & GYRE__FD_LEVEL) {
        op->fd->ready &= (uint8_t)~GYRE__DIR_IN; /* until it is told again */
        op->arg.accept.turn = (uint32_t)op->loop->stats.turns;
    } else {
        gyre__op_try_next_turn(op);
    }
}

/* ---- polling ---- */

/* op->result holds the events that an edge brought, or 0: ask. */
static void poll_resume(struct gyre_op *op)
{
    int events = op->result;

    if (events == 0) {
        events = gyre__kind_of(op)->attempt(op);
        op->loop->stats.syscalls++;
    }
    op->result = 0;
    if (op->fd->flags & GYRE__FD_PLAIN) { /* always ready, so one result is all there is */
        gyre__op_finish(op, events == GYRE__NOT_YET ? -EINVAL : events, NULL);
    } else if (events == GYRE__NOT_YET) {
        await_edge(op);
    } else if (events < 0 || !(op->flags & GYRE_MULTISHOT)) {
        gyre__op_finish(op, events, NULL);
    } else {
        gyre__op_emit(op, events, NULL);
    }
}

/* A descriptor registered before reports only changes: ask for what holds already. */
static void poll_arm(struct gyre_op *op)
{
    if (is_registered_for(op)) {
        gyre__op_try_later(op);
    } else {
        await_edge(op);
    }
}

static GYRE__INLINE void receive(struct gyre_op *op)
{
    switch (gyre__receive_direct(op)) {
    case GYRE__RECEIVED_WAIT:
        if (!(op->fd->flags & GYRE__FD_REGISTERED)) {
            await_first_edge(op);
        }
        break;
    case GYRE__RECEIVED_END:
        if (gyre__list_empty(&op->loop->results)) {
            gyre__op_finish(op, op->result, NULL);
        } else {
            gyre__op_ready(op, op->result); /* behind what was learnt before, of a send perhaps */
        }
        break;
    case GYRE__RECEIVED_CANCELLED: /* does not occur: a cancel here takes effect at once */
    case GYRE__RECEIVED_GONE:
        break;
    }
}

/* ---- the driver's part of the core ---- */

static void close_resume(struct gyre_op *op)
{
    if (op->fd->flags & GYRE__FD_LISTENS) {
        epoll_forget(op->fd); /* a duplicate would keep it, to be told of each connection */
    }
    op->fd->flags &= (uint16_t)~GYRE__FD_REGISTERED; /* events still queued for it find nobody */
    op->loop->stats.syscalls++;
    gyre__op_finish(op, gyre__kind_of(op)->attempt(op), NULL);
}

static void epoll_arm(struct gyre_op *op)
{
    const uint8_t direction = gyre__kind_of(op)->direction;
    int32_t result;

    if (op->kind == GYRE_OP_ACCEPT) {
        op->arg.accept.most = 1;
        op->arg.accept.turn = (uint32_t)op->loop->stats.turns - 2;
    }
    if (direction == GYRE__DIR_OUT && (op->fd->ready & GYRE__DIR_OUT)) {
        if (try_op(op, &result)) {
            gyre__op_ready(op, result);
        } else {
            await_edge(op);
        }
    } else if (op->kind == GYRE_OP_CLOSE) {
        gyre__op_try_later(op); /* behind the last callbacks of the descriptor's operations */
    } else if (op->kind == GYRE_OP_POLL) {
        poll_arm(op);
    } else if (op->kind == GYRE_OP_ACCEPT && !(op->fd->flags & GYRE__FD_REGISTERED)) {
        gyre__op_try_later(op); /* once: what does not listen is found out, not waited for */
    } else if (op->fd->ready & direction) {
        gyre__op_try_later(op);
    } else {
        await_edge(op);
    }
}

static void epoll_resume(struct gyre_op *op)
{
    int32_t result;

    if (op->kind == GYRE_OP_RECV_LEASE) {
        receive(op);
    } else if (op->kind == GYRE_OP_ACCEPT) {
        accept_some(op);
    } else if (op->kind == GYRE_OP_POLL) {
        poll_resume(op);
    } else if (op->kind == GYRE_OP_CLOSE) {
        close_resume(op);
    } else if (try_op(op, &result)) {
        gyre__op_finish(op, result, NULL);
    } else {
        await_edge(op);
    }
}

/* Nothing of it is with the kernel. */
static void epoll_cancel(struct gyre_op *op)
{
    gyre__op_ready(op, gyre__op_outcome(op, -ECANCELED));
}

static int wait_ms(uint64_t deadline_ns, uint64_t now_ns)
{
    const uint64_t ms = (deadline_ns - now_ns + GYRE_MSEC - 1) / GYRE_MSEC; /* up: never early */

    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static int call_wait(struct gyre_loop *loop, uint64_t deadline_ns)
{
    struct epoll_driver *driver = driver_of(loop);
    const uint64_t now = deadline_ns == 0 || deadline_ns == UINT64_MAX ? 0 : gyre__clock_now();
    const uint64_t span = deadline_ns > now ? deadline_ns - now : 0;
    const struct timespec timeout = {.tv_sec = (time_t)(span / GYRE_SEC),
                                     .tv_nsec = (long)(span % GYRE_SEC)};
    int rc;

    if (span == 0 || deadline_ns == UINT64_MAX) {
        return gyre__sys_epoll_wait(driver->number, driver->events, EVENTS_MAX, span == 0 ? 0 : -1);
    }
    if (!driver->no_pwait2) {
        rc = gyre__sys_epoll_pwait2(driver->number, driver->events, EVENTS_MAX, &timeout, NULL);
        if (rc >= 0 || (errno != ENOSYS && errno != EPERM)) {
            return rc;
        }
        driver->no_pwait2 = 1; /* before Linux 5.11, or forbidden */
    }
    return gyre__sys_epoll_wait(driver->number, driver->events, EVENTS_MAX,
                                wait_ms(deadline_ns, now));
}

static int epoll_wait_events(struct gyre_loop *loop, uint64_t deadline_ns)
{
    struct epoll_driver *driver = driver_of(loop);
    int rc;

    if (driver->count > 0) {
        return 0;
    }
    rc = call_wait(loop, deadline_ns);
    loop->stats.enters++;
    loop->stats.syscalls++;
    if (rc < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    driver->count = rc;
    return 0;
}

static uint32_t poll_wants(const struct gyre_op *op, uint32_t events)
{
    return events & (op->arg.poll.events | EPOLLERR | EPOLLHUP);
}

/* The operations that an edge concerns get their try. Returns whether any has one now. */
static int wake_ops(struct gyre_fd *fd, uint32_t events)
{
    int woken = 0;

    for (struct gyre_link *link = fd->ops.next; link != &fd->ops; link = link->next) {
        struct gyre_op *op = gyre__op_on(fd, link);

        if (op->kind == GYRE_OP_POLL) {
            const uint32_t wanted = poll_wants(op, events);

            if (wanted != 0 && (op->state == GYRE__OP_ARMED || op->state == GYRE__OP_TRY)) {
                op->result |= (int32_t)wanted;
                gyre__op_try_later(op);
            }
        } else if (op->state == GYRE__OP_ARMED && (fd->ready & gyre__kind_of(op)->direction)) {
            gyre__op_try_later(op);
        }
        woken |= op->state == GYRE__OP_TRY;
    }
    return woken;
}

/* Connections wait and nobody accepts them: told of them once, not again and again. */
static GYRE__RARE void use_edges(struct gyre_fd *fd)
{
    fd->flags &= (uint16_t)~GYRE__FD_LEVEL;
    if (control(fd, EPOLL_CTL_MOD) < 0) {
        fd->flags |= GYRE__FD_LEVEL;
    }
}

static struct gyre_fd *take_event(struct gyre_loop *loop, const struct epoll_event *event)
{
    struct gyre_fd *fd = gyre__slots_find(&loop->slots, event->data.u64);
    const uint32_t events = event->events;

    if (fd == NULL) {
        loop->stats.stale++;
        return NULL;
    }
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) {
        fd->ready |= GYRE__READY_END;
    }
    if (events & (EPOLLIN | EPOLLPRI | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
        fd->ready |= GYRE__DIR_IN;
    }
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
        fd->ready |= GYRE__DIR_OUT;
    }
    return fd;
}

/* The operation that is all there is on the descriptor, and that nothing is to run before: as with
 * nearly every message. Such a one need not be put on the list of tries to be taken from it. */
static struct gyre_op *lone_op(const struct gyre_loop *loop, const struct gyre_fd *fd)
{
    struct gyre_op *op;

    if (fd->ops.next != fd->ops.prev || gyre__list_empty(&fd->ops) ||
        !gyre__list_empty(&loop->tries) || !gyre__list_empty(&loop->results)) {
        return NULL;
    }
    op = gyre__op_on(fd, fd->ops.next);
    return op->state == GYRE__OP_ARMED ? op : NULL;
}

/* Returns whether the event was for a lone operation that has had its turn now. */
static int serve_lone(const struct gyre_loop *loop, const struct gyre_fd *fd, uint32_t events)
{
    struct gyre_op *op = lone_op(loop, fd);

    if (op == NULL) {
        return 0;
    }
    if (op->kind == GYRE_OP_RECV_LEASE && (fd->ready & GYRE__DIR_IN)) {
        receive(op);
        return 1;
    }
    if (op->kind == GYRE_OP_POLL && poll_wants(op, events) != 0) {
        op->result = (int32_t)poll_wants(op, events);
        poll_resume(op);
        return 1;
    }
    return 0;
}

static void dispatch_event(struct gyre_loop *loop, const struct epoll_event *event)
{
    struct gyre_fd *fd = take_event(loop, event);

    if (fd != NULL && !serve_lone(loop, fd, event->events) && !wake_ops(fd, event->events) &&
        (fd->flags & GYRE__FD_LEVEL)) {
        use_edges(fd);
    }
    gyre__op_dispatch(loop, OPS_PER_EVENT);
}

static GYRE__INLINE void prefetch_events(const struct gyre_loop *loop, int index)
{
    const struct epoll_driver *driver = driver_of(loop);
    const struct epoll_event *event = &driver->events[index];

    if (index + 1 < driver->count) {
        gyre__slots_prefetch_object(&loop->slots, event[1].data.u64, 0);
    }
    if (index + 2 < driver->count) {
        gyre__slots_prefetch(&loop->slots, event[2].data.u64);
    }
}

/*
 * The events were copied out by epoll_wait, so callbacks may run between them: an event whose
 * descriptor one of them closed finds nobody under its name. What an event woke runs at once, while
 * the descriptor's memory is warm.
 */
static void epoll_dispatch(struct gyre_loop *loop)
{
    struct epoll_driver *driver = driver_of(loop);
    const int count = driver->count;

    for (int i = 0; i < count; i++) {
        prefetch_events(loop, i);
        dispatch_event(loop, &driver->events[i]);
    }
    driver->count = 0;
}

static int epoll_peek(struct gyre_loop *loop)
{
    return epoll_wait_events(loop, 0) == 0 && driver_of(loop)->count > 0;
}

static int epoll_pollable(struct gyre_loop *loop)
{
    return driver_of(loop)->number;
}

static void epoll_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info)
{
    (void)loop;
    for (int i = 0; i < GYRE_FEATURE_COUNT; i++) {
        out_info->feature_why[i] = "off: a feature of the io_uring driver";
    }
}

const struct gyre__backend gyre__epoll_backend = {
    .id = GYRE_BACKEND_EPOLL,
    .name = "epoll",
    .tries_at_once = 1,
    .init = epoll_init,
    .fini = epoll_fini,
    .arm = epoll_arm,
    .resume = epoll_resume,
    .cancel = epoll_cancel,
    .wait = epoll_wait_events,
    .dispatch = epoll_dispatch,
    .peek = epoll_peek,
    .forget = epoll_forget,
    .pollable = epoll_pollable,
    .info = epoll_info,
};
