/*
 * Worker threads of the ring (io-wq), as far as the library meets them: for sends.
 *
 * A request that was ready to be tried so often, and each time too early, is not polled for any more
 * but given to a thread that blocks. That is no rare accident: every poll reports RDHUP, so a send
 * without room to a peer that has ended its side is "ready" at once, 128 times.
 *
 *     [punt] -> on the way -> sending <-> waiting for room -> task work, completion
 *
 * On the way, it is in none of the places where a cancel looks (-ENOENT). Later a cancel says
 * -EALREADY and interrupts the thread: the request ends with what was sent, or -EINTR. O_NONBLOCK
 * changes nothing, as nowhere for sockets.
 */
#include "sim/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { HAND_OVER_NS = 50000 };

static void end(struct sim_request *request, ssize_t rc)
{
    gyre__sim_request_end(request, request->done > 0 ? (ssize_t)request->done : rc, 0);
    gyre__sim_request_over(request);
}

static ssize_t send_rest(struct sim_request *request)
{
    struct sim_socket *socket = gyre__sim_socket_of(request->file);
    struct iovec *pieces = gyre__sim_alloc((request->msg.msg_iovlen + 1) * sizeof(*pieces));
    struct msghdr msg;
    ssize_t rc;

    gyre__sim_request_check(request);
    msg = gyre__sim_request_rest_msg(request, pieces);
    rc = socket->ops->send(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    free(pieces);
    return rc;
}

/* Until everything is sent or it would block. Not on behalf of a thread of the program. */
static void work(struct sim_event *event)
{
    struct sim_request *request = gyre_container_of(event, struct sim_request, late);
    const size_t whole = gyre__sim_pieces_len(request->pieces, request->msg.msg_iovlen);
    ssize_t rc = 0;

    request->handed = 1;
    gyre__sim_wait_remove(&request->waiter);
    if (request->cancelled) {
        end(request, -EINTR);
        return;
    }
    while (request->done < whole && rc >= 0) {
        rc = send_rest(request);
        request->done += rc > 0 ? (size_t)rc : 0;
    }
    if (rc == -EAGAIN) {
        gyre__sim_wait_add(request->file, &request->waiter);
    } else {
        end(request, rc);
    }
}

static void call(struct sim_waiter *waiter, uint32_t events)
{
    struct sim_request *request = gyre_container_of(waiter, struct sim_request, waiter);
    struct gyre_sim *sim = gyre__sim_of_uring(request->ring);

    (void)events;
    gyre__sim_schedule(sim, &request->late, gyre__sim_now(sim));
}

void gyre__sim_request_punt(struct sim_request *request)
{
    struct gyre_sim *sim = gyre__sim_of_uring(request->ring);
    const uint64_t span = gyre__sim_below(sim, HAND_OVER_NS);

    gyre__sim_trace(sim, "ring %llu: #%llu %s is given to a thread",
                    (unsigned long long)request->ring->file.id, (unsigned long long)request->id,
                    gyre__sim_request_name(request));
    request->state = SIM_REQUEST_WORKER;
    request->waiter.wake = call;
    request->late.fire = work;
    gyre__sim_schedule(sim, &request->late, gyre__sim_now(sim) + span);
}

int gyre__sim_request_interrupt(struct sim_request *request)
{
    struct gyre_sim *sim = gyre__sim_of_uring(request->ring);

    if (!request->handed) {
        return -ENOENT;
    }
    request->cancelled = 1;
    gyre__sim_schedule(sim, &request->late, gyre__sim_now(sim));
    return -EALREADY;
}
