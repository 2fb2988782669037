/*
 * The life of a stream.
 *
 *     NONE -> CONNECTING [connect, adopt] -> OPEN [opened]     (accepted: NONE -> OPEN)
 *
 *     OPEN -> CLOSING [close] -> LINGERING [flushed] -> ENDING [the peer's end came]
 *     any of these -> ENDING [fail, reset] -> CLOSED [step: no operation is left] -> NONE [on_close]
 *
 * There are at most two operations: the receive in the stream itself, and a send, or the connect, in
 * its flow. When both have ended, the receive's storage serves the close(2). So nothing has to be
 * allocated to end a stream, and its memory is in nobody's hands when on_close() runs.
 *
 * The receive never has a deadline of its own, so its alarm is the stream's: one alarm for all of
 * its times. A message only notes when it came; the alarm, when it fires, looks which time is next,
 * and is set for that. So it never has to be moved to an earlier moment while messages come and go.
 *
 * Pausing is lazy: the receive goes on until something comes, which is kept for later, and only then
 * is cancelled. A pause that is soon over costs nothing.
 */
#include "net/stream.h"

#include "base/clock.h"
#include "base/sys.h"
#include "core/passed.h"
#include "net/net.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STREAM_CONNECT_NS (30 * GYRE_SEC)
#define STREAM_CLOSE_NS   (10 * GYRE_SEC)
#define STREAM_TICK_BITS  20 /* moments are kept in units of 2^20 ns, about a millisecond */

static struct gyre_stream *stream_of(struct gyre_op *op)
{
    return gyre_container_of(op, struct gyre_stream, recv);
}

/* For each state, the states that may follow it. */
static void set_stream_state(struct gyre_stream *stream, enum gyre__stream_state state)
{
#define TO(name) (1u << GYRE__STREAM_##name)
    static const uint8_t may_follow[GYRE__STREAM_STATE_COUNT] = {
        [GYRE__STREAM_NONE] = TO(CONNECTING) | TO(OPEN),
        [GYRE__STREAM_CONNECTING] = TO(OPEN) | TO(ENDING),
        [GYRE__STREAM_OPEN] = TO(CLOSING) | TO(ENDING),
        [GYRE__STREAM_CLOSING] = TO(LINGERING) | TO(ENDING),
        [GYRE__STREAM_LINGERING] = TO(ENDING),
        [GYRE__STREAM_ENDING] = TO(CLOSED),
        [GYRE__STREAM_CLOSED] = TO(NONE),
    };
#undef TO
    gyre_assert(stream->state < GYRE__STREAM_STATE_COUNT &&
                ((unsigned)may_follow[stream->state] >> state & 1));
    stream->state = (uint8_t)state;
}

/* 0 if the stream can be used, or why not. */
static int check_usable(const struct gyre_stream *stream)
{
    int rc;

    if (stream == NULL || stream->fd.loop == NULL) {
        return -EINVAL;
    }
    rc = gyre__loop_check(stream->fd.loop);
    if (rc < 0) {
        return rc;
    }
    return stream->state == GYRE__STREAM_CONNECTING || stream->state == GYRE__STREAM_OPEN
               ? 0
               : -ENOTCONN;
}

/* ---- times ---- */

struct due {
    uint64_t at_ns;
    enum gyre_stream_timeout which;
};

/* When something happened that was noted as a tick: not before its end, for times are never early.
 * Longer ago than the ticks reach cannot be told, and is not asked: such timeouts are none. */
static uint64_t tick_end(const struct gyre_stream *stream, uint32_t tick)
{
    const uint64_t now = stream->fd.loop->now_ns >> STREAM_TICK_BITS;

    return (now + (uint64_t)(int32_t)(tick - (uint32_t)now) + 1) << STREAM_TICK_BITS;
}

static uint64_t timeout_or(uint64_t timeout_ns, uint64_t default_ns)
{
    const uint64_t timeout = timeout_ns != 0 ? timeout_ns : default_ns;

    return timeout >> STREAM_TICK_BITS > INT32_MAX ? GYRE_NEVER : timeout;
}

static void consider(struct due *due, uint64_t from_ns, uint64_t timeout_ns, uint64_t default_ns,
                     enum gyre_stream_timeout which)
{
    const uint64_t at = gyre__time_add(from_ns, timeout_or(timeout_ns, default_ns));

    if (at < due->at_ns) {
        *due = (struct due){.at_ns = at, .which = which};
    }
}

static void consider_open(const struct gyre_stream *stream, struct due *due)
{
    const struct gyre_stream_handler *handler = stream->handler;

    if (stream->flags & GYRE__STREAM_BROKEN) {
        consider(due, tick_end(stream, stream->opened), handler->close_timeout_ns, STREAM_CLOSE_NS,
                 GYRE_TIMEOUT_CLOSE);
    }
    if (!(stream->flags & GYRE__STREAM_HEARD)) {
        consider(due, tick_end(stream, stream->opened), handler->first_timeout_ns, GYRE_NEVER,
                 GYRE_TIMEOUT_FIRST);
    }
    consider(due, tick_end(stream, stream->active), handler->idle_timeout_ns, GYRE_NEVER,
             GYRE_TIMEOUT_IDLE);
    if (gyre__stream_sends(stream)) {
        consider(due, stream->flow->progress_ns, handler->write_timeout_ns, GYRE_NEVER,
                 GYRE_TIMEOUT_WRITE);
    }
}

static struct due next_due(const struct gyre_stream *stream)
{
    const struct gyre_stream_handler *handler = stream->handler;
    struct due due = {.at_ns = stream->deadline_ns, .which = GYRE_TIMEOUT_TOTAL};

    switch ((enum gyre__stream_state)stream->state) {
    case GYRE__STREAM_CONNECTING:
        consider(&due, tick_end(stream, stream->opened), handler->connect_timeout_ns,
                 STREAM_CONNECT_NS, GYRE_TIMEOUT_CONNECT);
        break;
    case GYRE__STREAM_OPEN:
        consider_open(stream, &due);
        break;
    case GYRE__STREAM_CLOSING:
    case GYRE__STREAM_LINGERING:
        due.at_ns = UINT64_MAX;
        consider(&due, tick_end(stream, stream->opened), handler->close_timeout_ns, STREAM_CLOSE_NS,
                 GYRE_TIMEOUT_CLOSE);
        break;
    default:
        due.at_ns = UINT64_MAX;
        break;
    }
    return due;
}

/* How often to look whether a send under way moves: its operation tells only when all has left. */
static uint64_t look_interval(const struct gyre_stream *stream)
{
    const uint64_t write_ns = timeout_or(stream->handler->write_timeout_ns, GYRE_NEVER);
    const uint64_t idle_ns = timeout_or(stream->handler->idle_timeout_ns, GYRE_NEVER);
    const uint64_t least = write_ns < idle_ns ? write_ns : idle_ns;

    return least == GYRE_NEVER ? GYRE_NEVER : least / 4;
}

/* The alarm fires when the next time is due, or sooner. */
static void watch(struct gyre_stream *stream)
{
    struct gyre_alarm *alarm = &stream->recv.alarm;
    struct gyre__wheel *wheel = &stream->fd.loop->wheel;
    uint64_t at = next_due(stream).at_ns;

    if (stream->state == GYRE__STREAM_OPEN && gyre__stream_sends(stream)) {
        const uint64_t look = gyre__time_add(stream->fd.loop->now_ns, look_interval(stream));

        at = look < at ? look : at;
    }
    if (gyre__alarm_active(alarm)) {
        if (alarm->deadline_ns <= at) {
            return;
        }
        gyre__wheel_remove(wheel, alarm);
    }
    if (at != UINT64_MAX) {
        gyre__wheel_add(wheel, alarm, at);
    }
}

void gyre__stream_watch_queue(struct gyre_stream *stream)
{
    stream->flow->progress_ns = gyre__clock_now();
    stream->flow->acked = GYRE__ACKED_UNKNOWN;
    watch(stream);
}

/* A clock reading of its own: the turn may have begun long ago. */
static void note_opened(struct gyre_stream *stream)
{
    stream->opened = (uint32_t)(gyre__clock_now() >> STREAM_TICK_BITS);
    stream->active = stream->opened;
}

static void end_late(struct gyre_stream *stream, enum gyre_stream_timeout which)
{
    if (which == GYRE_TIMEOUT_CLOSE && stream->state != GYRE__STREAM_CLOSING) {
        gyre__stream_fail(stream, stream->error); /* nothing of ours is left to be sent */
        return;
    }
    if (stream->state == GYRE__STREAM_OPEN && stream->handler->on_timeout != NULL) {
        stream->handler->on_timeout(stream, which);
        if (stream->state != GYRE__STREAM_OPEN) {
            return;
        }
    }
    gyre__stream_fail(stream, -ETIMEDOUT);
}

static void alarm_fired(struct gyre_alarm *alarm)
{
    struct gyre_stream *stream = gyre_container_of(alarm, struct gyre_stream, recv.alarm);
    struct due due;

    if (stream->state == GYRE__STREAM_OPEN && gyre__stream_sends(stream)) {
        gyre__flow_look(stream);
    }
    due = next_due(stream);
    if (due.at_ns <= stream->fd.loop->now_ns) {
        end_late(stream, due.which);
    } else {
        watch(stream);
    }
}

/* ---- receiving ---- */

/* The peer's end, or an error, behind everything that was received. */
static void tell_end(struct gyre_stream *stream)
{
    if (stream->flags & GYRE__STREAM_TOLD) {
        return;
    }
    stream->flags |= GYRE__STREAM_TOLD;
    if ((stream->flags & GYRE__STREAM_FIN) && stream->handler->on_eof != NULL) {
        stream->handler->on_eof(stream); /* also if sending has failed: everything has come */
    } else if (stream->error == 0) {
        gyre_stream_close(stream);
    }
    if (stream->error < 0) {
        gyre__stream_fail(stream, stream->error);
    }
}

static int may_tell(const struct gyre_stream *stream)
{
    return stream->state == GYRE__STREAM_OPEN && !(stream->flags & GYRE__STREAM_QUIET);
}

/* Returns 0 if on_descriptors() paused the stream: then the bytes are not handed out. */
static GYRE__RARE int hand_out_descriptors(struct gyre_stream *stream)
{
    if (stream->handler->on_descriptors == NULL) {
        return 1;
    }
    stream->handler->on_descriptors(stream, stream->fd.loop->passed.count);
    gyre__passed_drop(stream->fd.loop);
    return stream->state != GYRE__STREAM_OPEN || !(stream->flags & GYRE__STREAM_QUIET);
}

/* As that. */
static inline int hand_out(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    if (stream->fd.loop->passed.came && !hand_out_descriptors(stream)) {
        return 0;
    }
    if (stream->state == GYRE__STREAM_OPEN && stream->handler->on_data != NULL) {
        stream->handler->on_data(stream, lease);
    }
    return 1;
}

static int keep(struct gyre_stream *stream, const struct gyre_lease *lease,
                enum gyre__stash_end end)
{
    const int rc = gyre__flow_stash(stream, lease, end);

    if (rc < 0) {
        gyre__stream_fail(stream, rc);
    }
    return rc;
}

static void hand_out_stash(struct gyre_stream *stream)
{
    struct gyre_lease lease;

    while (may_tell(stream) && gyre__flow_unstash(stream, &lease)) {
        if (!hand_out(stream, &lease)) {
            (void)keep(stream, &lease, GYRE__STASH_FIRST);
        }
        gyre__passed_drop(stream->fd.loop);
        gyre_lease_release(&lease);
    }
    if (may_tell(stream) && (stream->flags & GYRE__STREAM_ENDED)) {
        tell_end(stream);
    }
}

/* The receive is idle: start it if there is more to come, and it is wanted. */
static void start_receive(struct gyre_stream *stream)
{
    const int drop = stream->state == GYRE__STREAM_LINGERING;
    int rc;

    if (!(may_tell(stream) || drop) || (stream->flags & GYRE__STREAM_ENDED) ||
        gyre_op_active(&stream->recv)) {
        return;
    }
    rc = gyre_op_recv_lease(&stream->recv, &stream->fd, GYRE_MULTISHOT);
    if (rc < 0) {
        gyre__stream_fail(stream, rc);
    }
}

/* From the loop: reading goes on, first with what was kept. */
static void go_on_reading(struct gyre_stream *stream)
{
    hand_out_stash(stream);
    gyre__flow_settle(stream);
    start_receive(stream);
}

/* Bytes are handed out by the loop only, so ask it for a turn: the receive's storage is free. */
int gyre__stream_read_on(struct gyre_stream *stream)
{
    if (gyre_op_active(&stream->recv) || !may_tell(stream)) {
        return 0; /* its end, or whatever holds it up, will see to it */
    }
    return gyre_op_nop(&stream->recv, stream->fd.loop);
}

static GYRE__RARE void keep_for_later(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    if (keep(stream, lease, GYRE__STASH_LAST) == 0) {
        gyre_op_cancel(&stream->recv);
    }
}

static GYRE__INLINE void push_loan(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    const struct gyre_loop *loop = stream->fd.loop;
    int res;

    loop->net->loan = NULL;
    if (stream->state >= GYRE__STREAM_ENDING ||
        (loop->backend->send_silently != NULL && gyre__flow_push_lease(stream, lease))) {
        return;
    }
    res = gyre__fd_send_now(&stream->fd, lease->data, lease->len);
    if (res != (int)lease->len || (stream->flags & GYRE__STREAM_SHUT)) {
        gyre__flow_sent_loan(stream, lease, res);
    }
}

/* Where a send need not wait for others, what on_data() queues leaves while it is warm. */
static void hand_out_and_push(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    const int is_news = !gyre__stream_sends(stream);

    stream->fd.loop->net->handed = lease;
    stream->flags |= GYRE__STREAM_INSIDE;
    if (!hand_out(stream, lease)) {
        keep_for_later(stream, lease);
    }
    stream->flags &= (uint16_t)~GYRE__STREAM_INSIDE;
    if (stream->fd.loop->net->loan != NULL) {
        push_loan(stream, lease);
    } else if (stream->flow != NULL) {
        gyre__flow_push_written(stream, is_news);
    }
}

static void received(struct gyre_stream *stream, const struct gyre_lease *lease)
{
    stream->flags |= GYRE__STREAM_HEARD;
    gyre__stream_be_active(stream);
    if (stream->state != GYRE__STREAM_OPEN) {
        return; /* closing: nobody wants it */
    }
    if ((stream->flags & GYRE__STREAM_QUIET) || gyre__flow_stashes(stream)) {
        keep_for_later(stream, lease);
    } else if (gyre__sends_now(stream->fd.loop)) {
        hand_out_and_push(stream, lease);
    } else if (!hand_out(stream, lease)) {
        keep_for_later(stream, lease);
    }
}

/* A send is with the kernel, or its result was not looked at, and the connection is closed already:
 * not by our own end, which would come behind the send. */
static int died_while_sending(const struct gyre_stream *stream)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    if (!gyre__stream_is_sending(stream)) {
        return 0;
    }
    stream->fd.loop->stats.syscalls++;
    if (gyre__sys_getsockopt(stream->fd.number, IPPROTO_TCP, TCP_INFO, &info, &len) < 0) {
        /* Not known: a part must not pass for the whole. Where there is no such option it may. */
        return errno != ENOPROTOOPT && errno != EOPNOTSUPP;
    }
    return info.tcpi_state == TCP_CLOSE;
}

/*
 * A socket tells its error once. If a send got it, the receive says 0, as if the peer had ended in
 * order. Linux says EPIPE to the send only if the peer's end came before the reset; so that is an
 * end, and ECONNRESET is none. A send that was cut short may have swallowed the error, so behind it
 * nothing is an end: neither with EPIPE of the next send, nor before that; nor is it while a send is
 * under way that will turn out to be (tcp(7); tcp_reset() in Linux).
 */
static void note_end(struct gyre_stream *stream, int32_t res)
{
    const int told = stream->error != 0 && stream->error != -EPIPE;
    const int tcp = (stream->fd.flags & GYRE__FD_TCP) != 0;

    stream->flags |= GYRE__STREAM_ENDED;
    stream->flags |= res == -ECONNRESET ? GYRE__STREAM_GONE : 0;
    if (told) {
        return;
    }
    if (res < 0) {
        stream->error = (int16_t)res;
    } else if (tcp && ((stream->flags & GYRE__STREAM_SHORT) || died_while_sending(stream))) {
        stream->error = -ECONNRESET;
    } else {
        stream->flags |= GYRE__STREAM_FIN;
    }
}

static GYRE__RARE void receive_ended(struct gyre_stream *stream, int32_t res)
{
    if (res != -ECANCELED) {
        note_end(stream, res);
    }
    switch ((enum gyre__stream_state)stream->state) {
    case GYRE__STREAM_OPEN:
        go_on_reading(stream);
        if ((stream->flags & GYRE__STREAM_BROKEN) && (stream->flags & GYRE__STREAM_ENDED) &&
            !gyre__flow_stashes(stream)) {
            gyre__stream_fail(stream, stream->error); /* also if it is paused: nothing will come */
        }
        break;
    case GYRE__STREAM_LINGERING:
        if (stream->flags & GYRE__STREAM_ENDED) {
            gyre__stream_fail(stream, stream->error);
        } else {
            start_receive(stream);
        }
        break;
    case GYRE__STREAM_ENDING:
        gyre__stream_step(stream);
        break;
    default:
        break; /* CLOSING: when the queue has left */
    }
}

/* The last result of its receive, or the turn that was asked for in its place. */
static GYRE__APART void received_last(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_stream *stream = stream_of(op);

    if (result->lease != NULL) {
        received(stream, result->lease);
    }
    if (op->kind != GYRE_OP_NOP) {
        receive_ended(stream, result->res);
    } else if (stream->state == GYRE__STREAM_CONNECTING) {
        gyre__stream_opened(stream);
    } else {
        receive_ended(stream, -ECANCELED);
    }
}

static void on_received(struct gyre_op *op, const struct gyre_result *result)
{
    if (!(result->flags & GYRE_MORE)) {
        received_last(op, result);
    } else if (result->lease != NULL) {
        received(stream_of(op), result->lease);
    }
}

int gyre_stream_pause(struct gyre_stream *stream)
{
    const int rc = check_usable(stream);

    if (rc == 0) {
        stream->flags |= GYRE__STREAM_PAUSED;
    }
    return rc;
}

int gyre_stream_resume(struct gyre_stream *stream)
{
    int rc = check_usable(stream);

    if (rc < 0 || !(stream->flags & GYRE__STREAM_PAUSED)) {
        return rc;
    }
    stream->flags &= (uint16_t)~GYRE__STREAM_PAUSED;
    rc = gyre__stream_read_on(stream);
    if (rc < 0) {
        stream->flags |= GYRE__STREAM_PAUSED;
    }
    return rc;
}

/* ---- opening ---- */

int gyre__socket_ask(int number, int option)
{
    int value = 0;
    socklen_t len = sizeof(value);

    return gyre__sys_getsockopt(number, SOL_SOCKET, option, &value, &len) < 0 ? -errno : value;
}

int gyre__socket_check_unix(int number)
{
    const int family = gyre__socket_ask(number, SO_DOMAIN);

    return family < 0 ? family : family == AF_UNIX ? 0 : -EOPNOTSUPP;
}

int gyre__stream_control(int number, const struct gyre_stream_handler *handler)
{
    const int wanted = (handler->flags & GYRE_STREAM_DESCRIPTORS) != 0;
    const int rc = wanted ? gyre__socket_check_unix(number) : -EOPNOTSUPP;

    return rc == 0 ? (int)GYRE__FD_CONTROL : rc == -EOPNOTSUPP ? 0 : rc;
}

/* All but the descriptor. */
static void begin_stream(struct gyre_stream *stream, const struct gyre_stream_handler *handler)
{
    gyre_op_init(&stream->recv, on_received);
    gyre__alarm_init(&stream->recv.alarm);
    stream->recv.alarm.fire = alarm_fired;
    stream->handler = handler;
    stream->flow = NULL;
    stream->deadline_ns = UINT64_MAX;
    stream->flags = 0;
    stream->error = 0;
    stream->state = GYRE__STREAM_NONE;
    gyre_loop_ref(stream->fd.loop); /* also while none of its operations is active */
}

int gyre__stream_init(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                      const struct gyre_stream_handler *handler)
{
    const int control = gyre__stream_control(number, handler);
    int rc = gyre__net_of(loop) == NULL ? -ENOMEM : control < 0 ? control : 0;

    rc = rc < 0 ? rc : gyre_fd_init(&stream->fd, loop, number);
    if (rc == 0) {
        stream->fd.flags |= (uint16_t)control;
        begin_stream(stream, handler);
        note_opened(stream);
    }
    return rc;
}

int gyre__stream_accept(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                        uint16_t fd_flags, const struct gyre_stream_handler *handler)
{
    const int rc = gyre__fd_attach(&stream->fd, loop, number, fd_flags);

    if (rc == 0) {
        begin_stream(stream, handler);
        stream->flags = GYRE__STREAM_ACCEPTED;
    }
    return rc;
}

static void shut_down(struct gyre_stream *stream)
{
    if (!(stream->flags & GYRE__STREAM_SHUTDOWN)) {
        stream->flags |= GYRE__STREAM_SHUTDOWN;
        stream->fd.loop->stats.syscalls++;
        gyre__sys_shutdown(stream->fd.number,
                           SHUT_WR); /* an error means that the connection is gone */
    }
}

static void set_nodelay(const struct gyre_stream *stream)
{
    const int on = 1;

    if (!(stream->handler->flags & GYRE_STREAM_NAGLE)) {
        stream->fd.loop->stats.syscalls++; /* where it is no TCP socket, there is no Nagle either */
        (void)gyre__sys_setsockopt(stream->fd.number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    }
}

/* Its times run from now. Without any there is nothing to note: a handler that has some notes it
 * when it takes over. */
static void start_times(struct gyre_stream *stream)
{
    const struct gyre_stream_handler *handler = stream->handler;

    if (handler->total_timeout_ns != 0 && !(stream->flags & GYRE__STREAM_DEADLINE)) {
        stream->deadline_ns = gyre__time_add(gyre__clock_now(), handler->total_timeout_ns);
    }
    if ((handler->first_timeout_ns | handler->idle_timeout_ns) != 0) {
        note_opened(stream);
        watch(stream);
    } else if (stream->deadline_ns != UINT64_MAX || gyre__stream_sends(stream)) {
        watch(stream);
    }
}

void gyre__stream_opened(struct gyre_stream *stream)
{
    set_stream_state(stream, GYRE__STREAM_OPEN);
    start_times(stream);
    if (stream->handler->on_open != NULL) {
        stream->handler->on_open(stream);
    }
    if (gyre__stream_sends(stream)) {
        gyre__flow_push(stream);
    } else if (stream->state == GYRE__STREAM_OPEN && (stream->flags & GYRE__STREAM_SHUT)) {
        shut_down(stream);
    }
    start_receive(stream);
}

static void on_connected(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre__parcel *parcel = gyre_container_of(op, struct gyre__parcel, connect.op);
    struct gyre__flow *flow = parcel->flow;
    struct gyre_stream *stream = flow->stream;

    flow->parcel = NULL;
    gyre__slab_give(&stream->fd.loop->net->parcels, parcel);
    if (stream->state == GYRE__STREAM_ENDING) {
        gyre__stream_step(stream);
    } else if (result->res < 0) {
        gyre__stream_fail(stream, result->res);
    } else {
        gyre__stream_opened(stream);
        gyre__flow_settle(stream);
    }
}

static int start_connect(struct gyre_stream *stream, const struct gyre_addr *to)
{
    struct gyre__flow *flow = gyre__flow_of(stream);
    struct gyre__slab *parcels = &stream->fd.loop->net->parcels;
    struct gyre__parcel *parcel = flow != NULL ? gyre__slab_take(parcels) : NULL;
    int rc;

    if (parcel == NULL) {
        return -ENOMEM;
    }
    parcel->flow = flow;
    gyre_op_init(&parcel->connect.op, on_connected);
    rc = gyre_op_connect(&parcel->connect, &stream->fd, &to->any, to->len);
    if (rc < 0) {
        gyre__slab_give(parcels, parcel);
        return rc;
    }
    flow->parcel = parcel;
    return 0;
}

static int check_socket(int number)
{
    const int type = gyre__socket_ask(number, SO_TYPE);

    return type < 0 ? type : type == SOCK_STREAM ? 0 : -EPROTOTYPE;
}

static int check_open(const struct gyre_stream *stream, struct gyre_loop *loop,
                      const struct gyre_stream_handler *handler)
{
    return stream == NULL || loop == NULL || handler == NULL ? -EINVAL : gyre__loop_check(loop);
}

/* Undo gyre__stream_init(); the descriptor stays open. */
static void forget_stream(struct gyre_stream *stream)
{
    int number;
    const int rc = gyre_fd_detach(&stream->fd, &number);

    gyre_assert(rc == 0);
    gyre__flow_settle(stream);
    gyre_loop_unref(stream->fd.loop);
}

int gyre_stream_connect_with(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                             const struct gyre_addr *to, const struct gyre_stream_handler *handler)
{
    int rc = check_open(stream, loop, handler);

    if (rc == 0 && (to == NULL || to->len == 0)) {
        rc = -EINVAL;
    }
    rc = rc < 0 ? rc : check_socket(number);
    rc = rc < 0 ? rc : gyre__stream_init(stream, loop, number, handler);
    if (rc < 0) {
        return rc;
    }
    set_nodelay(stream);
    rc = start_connect(stream, to);
    if (rc < 0) {
        forget_stream(stream);
        return rc;
    }
    set_stream_state(stream, GYRE__STREAM_CONNECTING);
    watch(stream);
    return 0;
}

int gyre_stream_connect(struct gyre_stream *stream, struct gyre_loop *loop,
                        const struct gyre_addr *to, const struct gyre_stream_handler *handler)
{
    int rc = check_open(stream, loop, handler);
    int number;

    if (rc < 0 || to == NULL || to->len == 0) {
        return rc < 0 ? rc : -EINVAL;
    }
    number = gyre__sys_socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (number < 0) {
        return -errno;
    }
    rc = gyre_stream_connect_with(stream, loop, number, to, handler);
    if (rc < 0) {
        gyre__sys_close(number);
    }
    return rc;
}

int gyre_stream_adopt(struct gyre_stream *stream, struct gyre_loop *loop, int number,
                      const struct gyre_stream_handler *handler)
{
    int rc = check_open(stream, loop, handler);

    rc = rc < 0 ? rc : check_socket(number);
    rc = rc < 0 ? rc : gyre__stream_init(stream, loop, number, handler);
    if (rc < 0) {
        return rc;
    }
    rc = gyre_op_nop(&stream->recv, loop);
    if (rc < 0) {
        forget_stream(stream);
        return rc;
    }
    set_nodelay(stream);
    set_stream_state(stream, GYRE__STREAM_CONNECTING);
    return 0;
}

/* ---- ending ---- */

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_stream *stream = stream_of(op);
    const struct gyre_stream_handler *handler = stream->handler;
    const int accepted = stream->flags & GYRE__STREAM_ACCEPTED;

    (void)result; /* close(2) has no error that concerns a socket's user */
    gyre__flow_drop(stream);
    set_stream_state(stream, GYRE__STREAM_NONE);
    gyre_loop_unref(stream->fd.loop);
    if (handler->on_close != NULL) {
        handler->on_close(stream, stream->error);
    }
    if (accepted) {
        gyre__nursery_return(stream);
    }
}

static void make_reset(const struct gyre_stream *stream)
{
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    stream->fd.loop->stats.syscalls++;
    (void)gyre__sys_setsockopt(stream->fd.number, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void gyre__stream_step(struct gyre_stream *stream)
{
    int rc;

    if (stream->state != GYRE__STREAM_ENDING || !gyre__list_empty(&stream->fd.ops) ||
        gyre_op_active(&stream->recv) || gyre__stream_is_sending(stream)) {
        return;
    }
    set_stream_state(stream, GYRE__STREAM_CLOSED);
    if (gyre__alarm_active(&stream->recv.alarm)) {
        gyre__wheel_remove(&stream->fd.loop->wheel, &stream->recv.alarm);
    }
    if ((stream->flags & (GYRE__STREAM_RESET | GYRE__STREAM_GONE)) == GYRE__STREAM_RESET) {
        make_reset(stream);
    }
    stream->recv.fn = on_closed;
    rc = gyre_op_close(&stream->recv, &stream->fd, 0);
    gyre_assert(rc == 0);
}

static void end_stream(struct gyre_stream *stream)
{
    set_stream_state(stream, GYRE__STREAM_ENDING);
    gyre__flow_uncouple(stream);
    if (stream->flow != NULL) {
        gyre__task_withdraw(&stream->flow->flush);
    }
    if (!gyre__list_empty(&stream->fd.ops)) {
        gyre_fd_cancel(&stream->fd);
    }
    gyre__stream_step(stream);
}

void gyre__stream_fail(struct gyre_stream *stream, int error)
{
    if (stream->state == GYRE__STREAM_ENDING || stream->state == GYRE__STREAM_CLOSED) {
        return;
    }
    stream->error = stream->error == 0 ? (int16_t)error : stream->error;
    if (error < 0) {
        stream->flags |= GYRE__STREAM_RESET; /* a part must not pass for the whole */
    }
    end_stream(stream);
}

void gyre__stream_broken(struct gyre_stream *stream, int error)
{
    if (stream->state != GYRE__STREAM_OPEN || !gyre_op_active(&stream->recv) ||
        (stream->flags & GYRE__STREAM_TOLD)) {
        gyre__stream_fail(stream, error);
        return;
    }
    stream->flags |= GYRE__STREAM_BROKEN | GYRE__STREAM_SHUT;
    stream->error = stream->error == 0 ? (int16_t)error : stream->error;
    note_opened(stream); /* from here on: when it broke; a Unix peer may never send its end */
    watch(stream);
}

void gyre__stream_flushed(struct gyre_stream *stream)
{
    if (stream->state >= GYRE__STREAM_ENDING) {
        return;
    }
    if (stream->state == GYRE__STREAM_CLOSING && (stream->flags & GYRE__STREAM_ENDED)) {
        end_stream(stream);
        return;
    }
    shut_down(stream);
    if (stream->state == GYRE__STREAM_CLOSING) {
        set_stream_state(stream, GYRE__STREAM_LINGERING);
        start_receive(stream);
    }
}

int gyre_stream_shutdown(struct gyre_stream *stream)
{
    const int rc = check_usable(stream);

    if (rc < 0 || (stream->flags & GYRE__STREAM_SHUT)) {
        return rc;
    }
    stream->flags |= GYRE__STREAM_SHUT;
    if (stream->state == GYRE__STREAM_OPEN && !gyre__stream_sends(stream) &&
        !gyre__stream_has_loan(stream)) {
        gyre__stream_flushed(stream);
    }
    return 0;
}

static int check_closable(const struct gyre_stream *stream)
{
    if (stream == NULL || stream->fd.loop == NULL || stream->state == GYRE__STREAM_NONE) {
        return -EINVAL;
    }
    return gyre__loop_check(stream->fd.loop);
}

int gyre_stream_close(struct gyre_stream *stream)
{
    const int rc = check_closable(stream);

    if (rc < 0 || stream->state > GYRE__STREAM_OPEN) {
        return rc;
    }
    if (stream->state == GYRE__STREAM_CONNECTING) {
        if (stream->flow != NULL && stream->flow->parcel != NULL) {
            end_stream(stream);
            return 0;
        }
        set_stream_state(stream, GYRE__STREAM_OPEN); /* adopted: its socket is connected */
    }
    set_stream_state(stream, GYRE__STREAM_CLOSING);
    stream->flags |= GYRE__STREAM_SHUT;
    gyre__flow_uncouple(stream);
    gyre__flow_drop_stash(stream);
    note_opened(stream); /* from here on: when closing began */
    if (gyre__stream_sends(stream)) {
        gyre__task_request(stream->fd.loop, &stream->flow->flush);
    } else if (!gyre__stream_has_loan(stream)) {
        gyre__stream_flushed(stream);
    }
    watch(stream);
    return 0;
}

int gyre_stream_reset(struct gyre_stream *stream)
{
    const int rc = check_closable(stream);

    if (rc == 0 && stream->state < GYRE__STREAM_ENDING) {
        stream->flags |= GYRE__STREAM_RESET;
        end_stream(stream);
    }
    return rc;
}

/* ---- the rest ---- */

int gyre_stream_set_deadline(struct gyre_stream *stream, uint64_t deadline_ns)
{
    const int rc = check_usable(stream);

    if (rc == 0) {
        stream->deadline_ns = deadline_ns;
        stream->flags |= GYRE__STREAM_DEADLINE;
        watch(stream);
    }
    return rc;
}

int gyre_stream_set_handler(struct gyre_stream *stream, const struct gyre_stream_handler *handler)
{
    const int rc = handler == NULL ? -EINVAL : check_usable(stream);

    if (rc < 0) {
        return rc;
    }
    stream->handler = handler;
    note_opened(stream);
    stream->deadline_ns = UINT64_MAX;
    stream->flags &= (uint16_t) ~(GYRE__STREAM_HEARD | GYRE__STREAM_DEADLINE);
    if (handler->total_timeout_ns != 0 && stream->state == GYRE__STREAM_OPEN) {
        stream->deadline_ns = gyre__time_add(gyre__clock_now(), handler->total_timeout_ns);
    }
    if (gyre__stream_sends(stream)) {
        gyre__stream_watch_sending(stream);
    }
    watch(stream);
    return 0;
}

int gyre_stream_number(const struct gyre_stream *stream)
{
    return stream == NULL ? -EBADF : gyre_fd_number(&stream->fd);
}

int gyre_stream_local(const struct gyre_stream *stream, struct gyre_addr *out_addr)
{
    const int number = gyre_stream_number(stream);

    return number < 0 ? number : gyre_addr_local(number, out_addr);
}

int gyre_stream_peer(const struct gyre_stream *stream, struct gyre_addr *out_addr)
{
    const int number = gyre_stream_number(stream);

    return number < 0 ? number : gyre_addr_peer(number, out_addr);
}

struct gyre_loop *gyre_stream_loop(const struct gyre_stream *stream)
{
    return stream->fd.loop;
}

int gyre_stream_peer_credentials(const struct gyre_stream *stream, struct ucred *out_credentials)
{
    const int number = gyre_stream_number(stream);
    socklen_t len = sizeof(*out_credentials);
    int rc = number;

    if (out_credentials == NULL) {
        return -EINVAL;
    }
    rc = rc < 0 ? rc
                : gyre__socket_check_unix(number); /* other sockets say process 0, not an error */
    return rc < 0 ? rc
           : gyre__sys_getsockopt(number, SOL_SOCKET, SO_PEERCRED, out_credentials, &len) < 0
               ? -errno
               : 0;
}
