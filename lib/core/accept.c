/*
 * What a multishot accept does about errors.
 *
 * Connections that died in the backlog, and network errors that Linux passes on from the new
 * socket, are skipped: accept(2) says to treat them like EAGAIN.
 *
 * Out of descriptors or memory: the connection stays in the backlog, so trying again at once would
 * spin. The loop keeps a descriptor in reserve; it is given up for a moment, connections are
 * accepted and closed, so that their clients learn of it at once. Then accepting pauses: 10 ms,
 * doubling up to
 * 1 s while the shortage lasts. One alarm serves all accepts of the loop: they run out together.
 */
#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/sys.h"
#include "core/op.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define PAUSE_FIRST_NS (10 * GYRE_MSEC)
#define PAUSE_MAX_NS   GYRE_SEC
enum { SHED_MAX = 64 }; /* connections closed per pause: a turn's work */

static int is_transient(int32_t error)
{
    switch (-error) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPERM: /* a firewall refused this one */
    case EINTR:
        return 1;
    default:
        return 0;
    }
}

static int is_shortage(int32_t error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

static void take_reserve(struct gyre_loop *loop)
{
    if (loop->reserve_number < 0) {
        loop->reserve_number = gyre__sys_fcntl(loop->wake_number, F_DUPFD_CLOEXEC, 0);
        loop->stats.syscalls++;
    }
}

static int one_waits(const struct gyre_op *op)
{
    struct pollfd one = {.fd = op->fd->number, .events = POLLIN};

    op->loop->stats.syscalls++;
    return gyre__sys_poll(&one, 1, 0) == 1;
}

static void shed(struct gyre_op *op)
{
    struct gyre_loop *loop = op->loop;

    if (loop->reserve_number < 0) {
        return;
    }
    gyre__sys_close(loop->reserve_number);
    loop->reserve_number = -1;
    for (int i = 0; i < SHED_MAX && one_waits(op); i++) {
        const int number = gyre__kinds[GYRE_OP_ACCEPT].attempt(op);

        loop->stats.syscalls += 2;
        if (number < 0) {
            break;
        }
        gyre__sys_close(number);
        loop->stats.sheds++;
    }
    take_reserve(loop);
}

static void pause_ended(struct gyre_alarm *alarm)
{
    struct gyre_loop *loop = gyre_container_of(alarm, struct gyre_loop, pause_end);

    while (!gyre__list_empty(&loop->paused)) {
        struct gyre_op *op = gyre__op_of_link(loop->paused.next);

        gyre__list_remove(&op->link);
        gyre__op_try_later(op);
    }
}

static void pause_accept(struct gyre_op *op)
{
    struct gyre_loop *loop = op->loop;

    gyre__op_set_state(op, GYRE__OP_PAUSED);
    gyre__list_append(&loop->paused, &op->link);
    if (gyre__alarm_active(&loop->pause_end)) {
        return;
    }
    loop->pause_ns = loop->pause_ns == 0 ? PAUSE_FIRST_NS : 2 * loop->pause_ns;
    loop->pause_ns = loop->pause_ns < PAUSE_MAX_NS ? loop->pause_ns : PAUSE_MAX_NS;
    loop->pause_end.fire = pause_ended;
    gyre__wheel_add(&loop->wheel, &loop->pause_end,
                    gyre__time_add(gyre__clock_now(), loop->pause_ns));
}

void gyre__accept_prepare(struct gyre_loop *loop)
{
    take_reserve(loop);
}

int gyre__accept_recover(struct gyre_op *op, int32_t error)
{
    gyre_assert(!(op->flags & GYRE__OP_CANCELLED));
    if (is_transient(error)) {
        return 1;
    }
    if (!(op->flags & (GYRE_MULTISHOT | GYRE__OP_PATIENT)) || !is_shortage(error)) {
        return error;
    }
    shed(op);
    pause_accept(op);
    return 0;
}
