/* Talks: see talk.h. */
#include "talk.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct talk *talk_of(struct gyre_stream *stream)
{
    if (gyre_stream_listener(stream) != NULL) {
        return *(struct talk **)gyre_stream_ext(stream);
    }
    return gyre_container_of(stream, struct talk, own);
}

static void happened(struct talk *talk, enum talk_event event)
{
    assert_int_equal(talk->count[TALK_CLOSE], event == TALK_CLOSE);
    if (event != TALK_RELEASE && event != TALK_CLOSE) {
        assert_int_equal(talk->ending, 0);
    }
    talk->at[event] = test_now();
    if (talk->then[event] != NULL) {
        talk->then[event](talk);
    }
}

static void count(struct talk *talk, enum talk_event event)
{
    talk->count[event]++;
    happened(talk, event);
}

/* The first callback of an accepted stream finds its talk in its host. */
static struct talk *admit(struct gyre_stream *stream)
{
    struct host *host = gyre_container_of(gyre_stream_listener(stream), struct host, listener);
    struct talk *talk;

    assert_true(host->opened < host->capacity);
    talk = &host->talks[host->opened++];
    talk_init(talk);
    talk->stream = stream;
    talk->host = host;
    memcpy(talk->then, host->then, sizeof talk->then);
    *(struct talk **)gyre_stream_ext(stream) = talk;
    return talk;
}

static void on_open(struct gyre_stream *stream)
{
    struct talk *talk = gyre_stream_listener(stream) != NULL ? admit(stream) : talk_of(stream);

    assert_int_equal(talk->count[TALK_OPEN], 0);
    count(talk, TALK_OPEN);
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct talk *talk = talk_of(stream);

    assert_int_equal(talk->count[TALK_OPEN], 1);
    assert_int_equal(talk->count[TALK_EOF], 0);
    assert_int_equal(talk->quiet, 0);
    assert_true(data->len > 0);
    if (!talk->unchecked) {
        wire_check(data->data, data->len, talk->position + talk->received);
    }
    talk->received += data->len;
    talk->data = data;
    count(talk, TALK_DATA);
}

static void on_eof(struct gyre_stream *stream)
{
    struct talk *talk = talk_of(stream);

    assert_int_equal(talk->count[TALK_OPEN], 1);
    assert_int_equal(talk->count[TALK_EOF], 0);
    assert_int_equal(talk->quiet, 0);
    count(talk, TALK_EOF);
}

static void on_drain(struct gyre_stream *stream)
{
    count(talk_of(stream), TALK_DRAIN);
}

static void on_timeout(struct gyre_stream *stream, enum gyre_stream_timeout which)
{
    struct talk *talk = talk_of(stream);

    talk->which = which;
    count(talk, TALK_TIMEOUT);
}

static void on_close(struct gyre_stream *stream, int error)
{
    struct talk *talk = talk_of(stream);

    assert_int_equal(talk->count[TALK_CLOSE], 0);
    assert_int_equal(gyre_stream_queued(stream), 0);
    talk->stream = NULL;
    talk->error = error;
    if (talk->host != NULL) {
        talk->host->ended++;
    }
    count(talk, TALK_CLOSE);
}

static const struct gyre_stream_handler all_callbacks = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_drain = on_drain,
    .on_timeout = on_timeout,
    .on_close = on_close,
};

void talk_init(struct talk *talk)
{
    memset(talk, 0, sizeof *talk);
    talk->handler = all_callbacks;
    talk->stream = &talk->own;
}

void talk_adopt(struct talk *talk, struct gyre_loop *loop, int number)
{
    assert_int_equal(gyre_stream_adopt(&talk->own, loop, number, &talk->handler), 0);
}

void talk_connect(struct talk *talk, struct gyre_loop *loop, const struct gyre_addr *to)
{
    assert_int_equal(gyre_stream_connect(&talk->own, loop, to, &talk->handler), 0);
}

void talk_close(struct talk *talk)
{
    assert_int_equal(gyre_stream_close(talk->stream), 0);
    talk->ending = 1;
}

void talk_reset(struct talk *talk)
{
    assert_int_equal(gyre_stream_reset(talk->stream), 0);
    talk->ending = 1;
}

void talk_pause(struct talk *talk)
{
    assert_int_equal(gyre_stream_pause(talk->stream), 0);
    talk->quiet = 1;
}

void talk_resume(struct talk *talk)
{
    talk->quiet = 0;
    assert_int_equal(gyre_stream_resume(talk->stream), 0);
}

int talk_write(struct talk *talk, size_t len)
{
    uint8_t *data = malloc(len + 1);
    int rc;

    assert_non_null(data);
    wire_fill(data, len, talk->written);
    rc = gyre_stream_write(talk->stream, data, len);
    memset(data, 0xee, len);
    free(data);
    talk->written += rc >= 0 ? len : 0;
    return rc;
}

/* Bytes that a stream borrows. */
struct loan {
    struct talk *talk;
    size_t len;
    uint8_t data[];
};

static void loan_back(void *context)
{
    struct loan *loan = context;
    struct talk *talk = loan->talk;

    free(loan);
    count(talk, TALK_RELEASE);
}

int talk_write_ref(struct talk *talk, size_t len)
{
    struct loan *loan = malloc(sizeof *loan + len);
    int rc;

    assert_non_null(loan);
    loan->talk = talk;
    wire_fill(loan->data, len, talk->written);
    rc = gyre_stream_write_ref(talk->stream, loan->data, len, loan_back, loan);
    if (rc < 0) {
        free(loan);
    } else {
        talk->written += len;
    }
    return rc;
}

int talk_end(struct gyre_loop *loop, struct talk *talk)
{
    test_turns_until(loop, &talk->count[TALK_CLOSE]);
    return talk->error;
}

void talk_until(struct gyre_loop *loop, const struct talk *talk, enum talk_event event, int goal)
{
    test_turns_until_count(loop, &talk->count[event], goal);
}

void talk_until_received(struct gyre_loop *loop, const struct talk *talk, uint64_t goal)
{
    while (talk->received < goal) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
}

void talk_until_sent(struct gyre_loop *loop, int peer, size_t len, uint64_t position)
{
    for (size_t got = 0; got < len;) {
        assert_true(gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0);
        got += wire_take_stream(peer, len - got, position + got);
        if (got < len && recv(peer, &(char){0}, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
            fail_msg("the end after %zu of %zu bytes", got, len);
        }
    }
}

void talk_spin(uint64_t span_ns)
{
    const uint64_t from = test_now();

    while (test_now() - from < span_ns) {
    }
}

void call_prepare(struct call *call, void (*pair_of)(int pair[2]), int *out_number)
{
    int pair[2];

    pair_of(pair);
    call->loop = test_loop();
    call->peer = pair[1];
    talk_init(&call->talk);
    *out_number = pair[0];
}

void call_open(struct call *call, void (*pair_of)(int pair[2]))
{
    int number;

    call_prepare(call, pair_of, &number);
    talk_adopt(&call->talk, call->loop, number);
    talk_until(call->loop, &call->talk, TALK_OPEN, 1);
}

void call_close_peer(struct call *call)
{
    assert_int_equal(close(call->peer), 0);
    call->peer = -1;
}

void call_end(struct call *call)
{
    if (call->talk.count[TALK_CLOSE] == 0) {
        talk_reset(&call->talk);
        talk_end(call->loop, &call->talk);
    }
    if (call->peer >= 0) {
        call_close_peer(call);
    }
    test_loop_end(call->loop);
}

static void on_listener_close(struct gyre_listener *listener, int error)
{
    struct host *host = gyre_container_of(listener, struct host, listener);

    assert_int_equal(host->ended, host->opened);
    assert_int_equal(gyre_listener_count(listener), 0);
    host->closes++;
    host->error = error;
}

void host_prepare(struct host *host, int capacity)
{
    memset(host, 0, sizeof *host);
    host->loop = test_loop();
    host->handler = all_callbacks;
    host->options.handler = &host->handler;
    host->options.on_close = on_listener_close;
    host->options.ext_size = sizeof(struct talk *);
    host->capacity = capacity;
    host->talks = calloc((size_t)capacity, sizeof *host->talks);
    assert_non_null(host->talks);
}

void host_listen(struct host *host, const char *address)
{
    assert_int_equal(gyre_listen(host->loop, &host->listener,
                                 address != NULL ? address : "127.0.0.1:0", &host->options),
                     0);
    assert_int_equal(gyre_listener_address(&host->listener, &host->address), 0);
}

void host_open(struct host *host, int capacity)
{
    host_prepare(host, capacity);
    host_listen(host, NULL);
}

int host_dial(const struct host *host)
{
    const int number = socket(host->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(number >= 0);
    assert_int_equal(connect(number, &host->address.any, host->address.len), 0);
    return number;
}

void host_close(struct host *host)
{
    assert_int_equal(gyre_listener_close(&host->listener), 0);
    test_turns_until(host->loop, &host->closes);
    assert_int_equal(host->closes, 1);
}

static void reset_one(struct gyre_stream *stream, void *context)
{
    (void)context;
    talk_reset(talk_of(stream));
}

void host_end(struct host *host)
{
    if (host->closes == 0) {
        gyre_listener_each(&host->listener, reset_one, NULL);
        host_close(host);
    }
    test_loop_end(host->loop);
    free(host->talks);
}
