/* What must be true of every connection, and who is told when it is not. */
#include "fuzz.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void broken(const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    gyre_sim_fail(fuzz.sim, "%s", text);
}

uint64_t chance(uint64_t limit)
{
    return gyre_sim_random(fuzz.sim) % limit;
}

int one_in(uint64_t limit)
{
    return chance(limit) == 0;
}

/* ---- bytes ---- */

/* Every side sends the same bytes of a prime period, each from a place of its own, so that bytes that
 * are lost, doubled or another's show. */
enum { PERIOD = 131071, PATTERN_LEN = 2 * PERIOD };

static const uint8_t *pattern(void)
{
    static uint8_t bytes[PATTERN_LEN];
    uint32_t state = 1;

    if (bytes[0] == 0) {
        for (size_t i = 0; i < PATTERN_LEN; i++) {
            state = i == PERIOD ? 1 : state * 1664525 + 1013904223;
            bytes[i] = (uint8_t)(state >> 24) | (i == 0);
        }
        memcpy(bytes + PERIOD, bytes, PATTERN_LEN - PERIOD);
    }
    return bytes;
}

static size_t place_of(const struct call *call, int index, uint64_t offset)
{
    return (size_t)((offset + (uint64_t)call->id * 7919 + (uint64_t)index * 104729) % PERIOD);
}

/* Which side's bytes an echo sends. */
static int speaker(const struct call *call, int index)
{
    return call->mode == CALL_ECHO ? 0 : index;
}

void fill(const struct call *call, int index, uint64_t offset, uint8_t *data, size_t len)
{
    index = speaker(call, index);
    for (; index == 0 && offset < sizeof(call->id) && len > 0; offset++, len--) {
        *data++ = (uint8_t)(call->id >> (8 * offset)); /* a call begins with its name */
    }
    while (len > 0) {
        const size_t part = len < PERIOD ? len : PERIOD;

        memcpy(data, pattern() + place_of(call, index, offset), part);
        data += part;
        offset += part;
        len -= part;
    }
}

/* How many of the bytes are those that the side sent from @offset on. */
static size_t count_right(const struct call *call, int index, uint64_t offset, const uint8_t *data,
                          size_t len)
{
    static uint8_t expected[PERIOD];
    size_t right = 0;

    while (right < len) {
        const size_t part = len - right < PERIOD ? len - right : PERIOD;

        fill(call, index, offset + right, expected, part);
        for (size_t i = 0; memcmp(expected, data + right, part) != 0; i++) {
            if (expected[i] != data[right + i]) {
                return right + i;
            }
        }
        right += part;
    }
    return right;
}

/* ---- callbacks ---- */

static const char *name_of(const struct side *side)
{
    static char text[32];

    snprintf(text, sizeof(text), "call %u side %d", side->call->id, side->index);
    return text;
}

void note_enter(struct side *side)
{
    if (side->inside) {
        broken("%s: a callback within a callback", name_of(side));
    }
    if (side->closes > 0) {
        broken("%s: a callback behind on_close()", name_of(side));
    }
    side->inside = 1;
}

void note_leave(struct side *side)
{
    side->inside = 0;
}

static void expect_open(const struct side *side, const char *what)
{
    if (side->opens != 1) {
        broken("%s: %s before on_open()", name_of(side), what);
    }
    if (side->ending) {
        broken("%s: %s behind close or reset", name_of(side), what);
    }
}

void note_open(struct side *side)
{
    if (side->opens++ > 0) {
        broken("%s: opened twice", name_of(side));
    }
}

void note_data(struct side *side, const struct gyre_lease *data)
{
    const struct side *peer = &side->call->side[!side->index];
    size_t right;

    expect_open(side, "data");
    if (side->paused) {
        broken("%s: data while paused", name_of(side));
    }
    if (side->eofs > 0) {
        broken("%s: data behind the end", name_of(side));
    }
    if (data->len == 0) {
        broken("%s: data of no bytes", name_of(side));
    }
    right = count_right(side->call, peer->index, side->received, data->data, data->len);
    if (right < data->len) {
        broken("%s: byte %llu is wrong", name_of(side),
               (unsigned long long)(side->received + right));
        return;
    }
    side->received += data->len;
    if (side->received > peer->sent) {
        broken("%s: %llu bytes received, %llu sent", name_of(side),
               (unsigned long long)side->received, (unsigned long long)peer->sent);
    }
}

static void check_end_of_data(const struct side *side)
{
    const struct side *peer = &side->call->side[!side->index];

    if (side->received != peer->sent) {
        broken("%s: the end after %llu of %llu bytes", name_of(side),
               (unsigned long long)side->received, (unsigned long long)peer->sent);
    }
}

/* The end comes behind all that was sent. A Unix socket that is reset looks as one that ended, and
 * its side is told later: see check_call(). */
void note_eof(struct side *side)
{
    const struct side *peer = &side->call->side[!side->index];

    expect_open(side, "the end");
    if (side->paused) {
        broken("%s: the end while paused", name_of(side));
    }
    if (side->eofs++ > 0) {
        broken("%s: the end twice", name_of(side));
    }
    if (side->call->is_unix) {
        return;
    }
    check_end_of_data(side);
    /* One that was never met has been shed, or its program has ended. */
    if (peer->opens > 0 && !peer->shut && !peer->ending && !peer->reset) {
        broken("%s: the end, but the other side goes on", name_of(side));
    }
}

/* When all is over. */
void check_call(const struct call *call)
{
    for (int index = 0; index < 2; index++) {
        const struct side *side = &call->side[index];
        const struct side *peer = &call->side[!index];

        if (side->opens > 0 && side->closes == 0) {
            broken("%s: never closed", name_of(side));
        }
        if (side->eofs > 0 && peer->closes > 0 && !peer->reset) {
            check_end_of_data(side);
        }
    }
}

void note_close(struct side *side, int error)
{
    if (side->closes++ > 0) {
        broken("%s: closed twice", name_of(side));
    }
    if (side->lent > 0) {
        broken("%s: closed with %u pieces of memory not released", name_of(side), side->lent);
    }
    if (error > 0) {
        broken("%s: closed with %d", name_of(side), error);
    }
    side->reset |= error != 0;
}

/* ---- loops ---- */

void check_loop(struct gyre_loop *loop)
{
    struct gyre_pool_stats pool;

    if (gyre_loop_pool_stats(loop, &pool) == 0 &&
        pool.free + pool.lent + pool.in_kernel != pool.total) {
        broken("pool: %u free, %u lent, %u in the kernel, of %u", pool.free, pool.lent,
               pool.in_kernel, pool.total);
    }
}

/* After each step of the run. */
const char *check_all(void *context)
{
    static char text[96];

    (void)context;
    for (int i = 0; i < fuzz.program_count; i++) {
        struct gyre_loop *loop = fuzz.program[i].loop;

        if (loop != NULL) {
            check_loop(loop);
        }
    }
    for (int i = 0; i < fuzz.call_count; i++) {
        for (int index = 0; index < 2; index++) {
            const struct side *side = &fuzz.call[i].side[index];
            const uint32_t cap = fuzz.handler[index].write_cap;

            if (side->stream != NULL && gyre_stream_queued(side->stream) > cap) {
                snprintf(text, sizeof(text), "call %d side %d: %zu bytes queued, the cap is %u", i,
                         index, gyre_stream_queued(side->stream), cap);
                return text;
            }
        }
    }
    return NULL;
}
