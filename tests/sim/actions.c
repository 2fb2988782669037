/* What a side of a connection does: at random, and more carefully once the world is healed. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum {
    SMALL_MAX = 600,
    LARGE_MAX = 150000,
    ACTIONS_MAX = 40,
    LATER_NS_MAX = 300000000,
};

/* ---- writing ---- */

struct loan {
    struct side *side;
    uint8_t *data;
    size_t len;
};

static void on_release(void *context)
{
    struct loan *loan = context;

    if (loan->side->lent == 0) {
        broken("memory was released twice");
    }
    loan->side->lent--;
    memset(loan->data, 0xdd, loan->len); /* what still sends from it is found out */
    free(loan->data);
    free(loan);
}

static int may_write(const struct side *side)
{
    return side->stream != NULL && !side->ending && !side->shut;
}

/* What a write must say, by what the side knows of itself. It counts as sent before, as the peer may
 * have received it when the call returns: where the queue to the kernel is full that waits, and
 * others run. */
static void note_write(struct side *side, int rc, size_t len, size_t queued)
{
    const uint32_t cap = fuzz.handler[side->index].write_cap;

    if (rc >= 0) {
        return;
    }
    side->sent -= len;
    /* A piece counts for at least 64 bytes. */
    if (rc == -ENOBUFS && 64 * queued + len <= cap) {
        broken("call %u side %d: refused %zu bytes with %zu queued, the cap is %u", side->call->id,
               side->index, len, queued, cap);
    }
    if (rc == -ENOMEM && gyre_sim_struck(fuzz.sim, GYRE_SIM_FAULT_ALLOC_FAILS) == 0) {
        broken("call %u side %d: -ENOMEM, but there is memory", side->call->id, side->index);
    }
}

static int write_by_reference(struct side *side, uint8_t *data, size_t len)
{
    struct loan *loan = malloc(sizeof(*loan));
    int rc;

    *loan = (struct loan){side, data, len};
    side->lent++;
    rc = gyre_stream_write_ref(side->stream, data, len, on_release, loan);
    if (rc < 0) {
        side->lent--;
        free(loan);
        free(data);
    }
    return rc;
}

int side_write(struct side *side, size_t len)
{
    const size_t queued = gyre_stream_queued(side->stream);
    const int copied = one_in(2);
    uint8_t *data;
    int rc;

    if (!may_write(side) || len == 0) {
        return 0;
    }
    data = malloc(len);
    fill(side->call, side->index, side->sent, data, len);
    side->sent += len;
    if (copied) {
        rc = gyre_stream_write(side->stream, data, len);
        memset(data, 0xdd, len);
        free(data);
    } else {
        rc = write_by_reference(side, data, len);
    }
    note_write(side, rc, len, queued);
    return rc;
}

/* The echo loses nothing: what it cannot queue ends the connection. */
void side_forward(struct side *side, const struct gyre_lease *data)
{
    const size_t queued = gyre_stream_queued(side->stream);
    int rc;

    side->sent += data->len;
    rc = gyre_stream_forward(side->stream, data);
    note_write(side, rc, data->len, queued);
    if (rc < 0 && side->stream != NULL) {
        side->ending = 1;
        side->reset = 1;
        gyre_stream_reset(side->stream);
    }
}

/* ---- leases ---- */

static void release_held(struct side *side)
{
    while (side->held_count > 0) { /* in any order */
        const uint64_t which = chance((uint64_t)side->held_count);
        struct gyre_lease lease = side->held[which];

        side->held[which] = side->held[--side->held_count];
        gyre_lease_release(&lease);
    }
}

/* ---- ending ---- */

void side_close(struct side *side)
{
    if (side->stream != NULL) {
        side->ending = 1;
        gyre_stream_close(side->stream);
        if (one_in(8)) {
            gyre_stream_close(side->stream);
        }
    }
}

static void side_reset(struct side *side)
{
    side->ending = 1;
    side->reset = 1;
    gyre_stream_reset(side->stream);
}

static void side_shutdown(struct side *side)
{
    if (gyre_stream_shutdown(side->stream) == 0) {
        side->shut = 1;
    }
}

static void side_pause(struct side *side)
{
    if (gyre_stream_pause(side->stream) == 0) {
        side->paused = 1;
    }
}

static void side_resume(struct side *side)
{
    side->paused = 0;
    if (gyre_stream_resume(side->stream) == -ENOMEM) {
        side->paused = 1;
    }
}

/* ---- acting ---- */

static void later(struct side *side)
{
    const uint64_t span = one_in(4) ? LATER_NS_MAX : LATER_NS_MAX / 100;
    const int rc = gyre_timer_start(&side->timer, chance(span));

    if (rc < 0) {
        broken("a timer does not start: %s", gyre_error_name(rc));
    }
}

static void write_some(struct side *side)
{
    const uint64_t writes = 1 + chance(4);

    for (uint64_t i = 0; i < writes && may_write(side); i++) {
        const uint64_t limit = one_in(6) ? LARGE_MAX : SMALL_MAX;

        side_write(side, 1 + chance(limit));
    }
}

static int writes_by_itself(const struct side *side)
{
    return side->index == 0 || side->call->mode == CALL_PATTERN;
}

static void act_once(struct side *side)
{
    switch (chance(24)) {
    case 0:
    case 1:
        side_pause(side);
        break;
    case 2:
        side_resume(side);
        break;
    case 3:
        if (one_in(3)) {
            side_shutdown(side);
        }
        break;
    case 4:
        if (one_in(6)) {
            side_close(side);
        }
        break;
    case 5:
        if (one_in(10)) {
            side_reset(side);
        }
        break;
    case 6:
        if (gyre_stream_couple(side->stream, side->stream) == -EINVAL) {
            broken("a stream cannot be coupled to itself");
        }
        break;
    case 7:
        gyre_stream_set_deadline(side->stream, one_in(8)
                                                   ? gyre_loop_now(gyre_stream_loop(side->stream)) +
                                                         chance(2 * GYRE_SEC)
                                                   : GYRE_NEVER);
        break;
    case 8:
        release_held(side);
        break;
    default:
        if (writes_by_itself(side)) {
            write_some(side);
        }
    }
}

void side_act(struct side *side)
{
    if (side->stream == NULL || side->ending) {
        return;
    }
    if (fuzz.healed || side->budget == 0) {
        side_finish(side);
        return;
    }
    side->budget--;
    act_once(side);
    if (side->stream != NULL && !side->ending && !gyre_timer_active(&side->timer)) {
        later(side);
    }
}

void side_finish(struct side *side)
{
    release_held(side);
    if (side->stream == NULL || side->ending) {
        return;
    }
    side_resume(side);
    if (side->paused) {
        later(side); /* no memory; try again */
    } else if (side->index == 0 && !side->shut && one_in(2)) {
        side_shutdown(side); /* and hear what the other has to say */
        later(side);
    } else if (side->index == 0) {
        side_close(side);
    }
}

static void on_timer(struct gyre_timer *timer)
{
    side_act(gyre_container_of(timer, struct side, timer));
}

void side_begin(struct side *side, struct gyre_stream *stream)
{
    const int rc = gyre_timer_init(&side->timer, gyre_stream_loop(stream), on_timer);

    if (rc < 0) {
        broken("a timer cannot be made: %s", gyre_error_name(rc));
    }
    side->stream = stream;
    side->budget = (uint32_t)(1 + chance(ACTIONS_MAX));
    later(side);
}

void side_end(struct side *side)
{
    gyre_timer_stop(&side->timer);
    release_held(side);
    side->stream = NULL;
}
