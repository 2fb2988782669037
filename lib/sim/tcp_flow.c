/* The ring of a TCP flow: the bytes between one program's write and the other's read. */
#include "sim/tcp_end.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM_FIRST = 4 << 10 };

/* Copies @len bytes from position @at of one ring to another. */
static void move_bytes(const struct sim_flow *from, uint8_t *memory, size_t room)
{
    uint64_t at = from->read;

    while (at < from->written) {
        const size_t here = (size_t)(at & (from->room - 1));
        const size_t there = (size_t)(at & (room - 1));
        size_t len = (size_t)(from->written - at);

        len = len < from->room - here ? len : from->room - here;
        len = len < room - there ? len : room - there;
        memcpy(memory + there, from->memory + here, len);
        at += len;
    }
}

static void make_room(struct sim_flow *flow, size_t len)
{
    const size_t needed = (size_t)(flow->written - flow->read) + len;
    size_t room = flow->room > 0 ? flow->room : ROOM_FIRST;
    uint8_t *memory;

    while (room < needed) {
        room *= 2;
    }
    if (room == flow->room) {
        return;
    }
    memory = gyre__sim_alloc(room);
    move_bytes(flow, memory, room);
    free(flow->memory);
    flow->memory = memory;
    flow->room = room;
}

void gyre__sim_flow_drop(struct sim_flow *flow)
{
    free(flow->memory);
    flow->memory = NULL;
    flow->room = 0;
}

void gyre__sim_flow_fill(struct sim_flow *flow, const struct msghdr *msg, size_t len)
{
    size_t done = 0;

    make_room(flow, len);
    while (done < len) {
        const size_t here = (size_t)(flow->written & (flow->room - 1));
        const size_t span = len - done < flow->room - here ? len - done : flow->room - here;

        gyre__sim_gather(msg->msg_iov, msg->msg_iovlen, done, flow->memory + here, span);
        flow->written += span;
        done += span;
    }
}

void gyre__sim_flow_drain(const struct sim_flow *flow, const struct msghdr *msg, size_t len)
{
    size_t done = 0;

    while (done < len) {
        const size_t here = (size_t)((flow->read + done) & (flow->room - 1));
        const size_t span = len - done < flow->room - here ? len - done : flow->room - here;

        gyre__sim_scatter(msg->msg_iov, msg->msg_iovlen, done, flow->memory + here, span);
        done += span;
    }
}
