/*
 * The closed loop, and the open one. How a run is laid out is said in load.h.
 *
 * Service time: the clock is read once per turn of the loop, after the kernel has handed over its
 * events and before the first is looked at. A message is stamped with the clock of the turn that
 * sends it and measured against the clock of the turn that sees its last byte. Both are off by at
 * most the generator's own turn, in the same direction (towards longer), for every server alike. It
 * is not latency: a closed loop does not send while the server is slow.
 *
 * Latency is what the open loop measures: messages are due at fixed intervals, one connection after
 * the other. What is due is sent, whether or not earlier answers have come. The rate is given
 * (--rate), or a share of the saturation of this very server (--rate-percent), which is looked for
 * just before.
 *
 * Saturation is not what a closed loop reaches. A closed loop keeps both sides busy with a message on
 * every connection at once; neither sleeps, and a turn is shared by many. On a schedule messages come
 * one by one, most of them wake the server, and each costs more on both sides: three quarters of the
 * closed loop's rate is then very nearly all that there is, a queue builds up whenever the machine
 * hesitates, and what is measured is that queue. So a second look takes an open loop at half the
 * closed loop's rate, and the share of a CPU that the server uses there: the saturation is the rate
 * at which that would be all of it.
 */
#include "load.h"

#include "clock.h"
#include "pattern.h"
#include "turns.h"

#include <assert.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A sleeping generator wakes this often to look at its deadlines. */
#define SLEEP_MS 20

/*
 * Between two empty turns lies less than this, unless the generator was not running: that is not
 * its idleness.
 */
#define IDLE_STEP_MAX_NS (20 * UINT64_C(1000))

const char *load_failure_name(enum load_failure failure)
{
    static const char *const names[] = {
        [LOAD_OK] = "none",
        [LOAD_SYSTEM] = "system",
        [LOAD_USAGE] = "usage",
        [LOAD_WRONG_BYTES] = "wrong-bytes",
        [LOAD_CONNECTION_LOST] = "connection-lost",
        [LOAD_CONNECT_FAILED] = "connect-failed",
        [LOAD_STALLED] = "stalled",
    };
    return names[failure];
}

int load_fail(struct load *load, enum load_failure failure, const char *format, ...)
{
    if (load->failure == LOAD_OK) {
        va_list arguments;

        load->failure = failure;
        va_start(arguments, format);
        vsnprintf(load->failure_text, sizeof(load->failure_text), format, arguments);
        va_end(arguments);
    }
    return -1;
}

static uint32_t connection_index(const struct load *load, const struct load_connection *c)
{
    return (uint32_t)(c - load->connections);
}

int load_lost(struct load *load, const struct load_connection *c, int error)
{
    return load_fail(load, LOAD_CONNECTION_LOST, "connection %u ended after %llu echoed bytes: %s",
                     connection_index(load, c), (unsigned long long)c->received,
                     error == 0 ? "closed by the server" : strerror(error));
}

int load_wait_ms(const struct load *load)
{
    return load->options->spin || load->open ? 0 : SLEEP_MS;
}

static uint64_t *stamp(const struct load *load, const struct load_connection *c, uint32_t number)
{
    const uint32_t slot = (c->stamp_head + number) % load->depth;

    return &load->stamps[(size_t)connection_index(load, c) * load->depth + slot];
}

static void issue(struct load *load, struct load_connection *c, uint32_t count)
{
    assert(c->in_flight + count <= load->depth);
    for (uint32_t i = 0; i < count; i++) {
        *stamp(load, c, c->in_flight + i) = load->now_ns;
    }
    load->issue_left -= load->issue_left == UINT64_MAX ? 0 : count;
    c->in_flight += count;
    c->unsent += (uint64_t)count * load->size;
    load->outstanding += count;
}

/* When message @number of the schedule is due. */
static uint64_t due_ns(const struct load *load, uint64_t number)
{
    return load->open_start_ns + (uint64_t)((double)number * load->open_interval_ns);
}

/*
 * Of an open loop: answers come in order, so how many have come says which one this is. Its latency
 * counts from the moment it was due, however late it was sent: what waits in this program because
 * the server is slow waits at the server's expense.
 */
static uint64_t intended_ns(const struct load *load, const struct load_connection *c)
{
    const uint64_t number =
        (uint64_t)c->replies * load->options->connections + connection_index(load, c);

    return due_ns(load, number);
}

static void complete_one(struct load *load, struct load_connection *c)
{
    if (load->open) {
        const uint64_t intended = intended_ns(load, c);

        histogram_add(&load->service, load->now_ns > intended ? load->now_ns - intended : 0);
    } else {
        histogram_add(&load->service, load->now_ns - *stamp(load, c, 0));
        c->stamp_head = c->stamp_head + 1 == load->depth ? 0 : c->stamp_head + 1;
    }
    c->in_flight--;
    c->replies++;
    load->outstanding--;
    load->messages++;
}

static int report_wrong_bytes(struct load *load, const struct load_connection *c,
                              const uint8_t *data, uint32_t len)
{
    const uint8_t *expected = load->pattern + c->expect_at;
    uint32_t i = 0;

    while (i < len && data[i] == expected[i]) {
        i++;
    }
    return load_fail(load, LOAD_WRONG_BYTES,
                     "connection %u: byte %llu of the echo is 0x%02x and should be 0x%02x",
                     connection_index(load, c), (unsigned long long)(c->received + i), data[i],
                     expected[i]);
}

static int report_surplus(struct load *load, const struct load_connection *c, uint32_t len)
{
    return load_fail(load, LOAD_WRONG_BYTES,
                     "connection %u: %u more bytes after byte %llu than were sent",
                     connection_index(load, c), len, (unsigned long long)c->received);
}

int load_received(struct load *load, struct load_connection *c, const uint8_t *data, uint32_t len)
{
    uint32_t completed = 0;

    assert(len <= PATTERN_SPAN);
    if (memcmp(data, load->pattern + c->expect_at, len) != 0) {
        return report_wrong_bytes(load, c, data, len);
    }
    c->expect_at = pattern_advance(c->expect_at, len);
    c->received += len;
    while (len >= c->reply_left && c->in_flight > 0) {
        len -= c->reply_left;
        c->reply_left = load->reply_size;
        complete_one(load, c);
        completed++;
    }
    if (len > 0 && c->in_flight == 0) {
        return report_surplus(load, c, len);
    }
    c->reply_left -= len;
    if (completed > load->issue_left) {
        completed = (uint32_t)load->issue_left;
    }
    if (load->reissue && completed > 0) {
        issue(load, c, completed);
    }
    return 0;
}

static int report_stall(struct load *load)
{
    const struct load_connection *c = load->connections;
    uint32_t waiting = 0;
    const struct load_connection *first = NULL;

    for (uint32_t i = 0; i < load->options->connections; i++) {
        if (c[i].in_flight > 0) {
            first = first == NULL ? &c[i] : first;
            waiting++;
        }
    }
    return load_fail(load, LOAD_STALLED,
                     "%u of %u connections got no answer for %u ms; the first is connection %u, "
                     "after %llu echoed bytes",
                     waiting, load->options->connections, load->options->timeout_ms,
                     first == NULL ? 0 : connection_index(load, first),
                     first == NULL ? 0 : (unsigned long long)first->received);
}

/* Counts the time between two empty turns as idle; `was_empty` is the turn before. */
static int turn(struct load *load, bool *was_empty, uint64_t *progress_ns)
{
    const uint64_t before = load->now_ns;
    const int events = load->engine->turn(load);

    if (events < 0) {
        return -1;
    }
    load->turns++;
    if (events > 0) {
        *progress_ns = load->now_ns;
    } else if (*was_empty && load->options->spin && load->now_ns - before < IDLE_STEP_MAX_NS) {
        load->idle_ns += load->now_ns - before;
    }
    *was_empty = events == 0;
    if (load->now_ns - *progress_ns > load->options->timeout_ms * NS_PER_MS) {
        return report_stall(load);
    }
    return 0;
}

static int start_all(struct load *load, uint32_t depth)
{
    load->now_ns = clock_now_ns();
    for (uint32_t i = 0; i < load->options->connections; i++) {
        struct load_connection *c = &load->connections[i];

        c->replies = 0;
        issue(load, c, depth < load->issue_left ? depth : (uint32_t)load->issue_left);
        if (load->engine->send(load, c) < 0) {
            return -1;
        }
    }
    return 0;
}

/* One phase: `depth` messages in flight per connection for `duration_ns`, then none. */
static int phase(struct load *load, uint32_t depth, uint64_t duration_ns)
{
    const uint64_t start = clock_now_ns();
    uint64_t progress = start;
    bool was_empty = false;

    assert(load->outstanding == 0);
    load->reissue = duration_ns > 0 || load->issue_left != UINT64_MAX;
    if (start_all(load, depth) < 0) {
        return -1;
    }
    while (load->outstanding > 0) {
        if (turn(load, &was_empty, &progress) < 0) {
            return -1;
        }
        if (load->now_ns - start >= duration_ns && load->issue_left == UINT64_MAX) {
            load->reissue = false;
        }
    }
    return 0;
}

/* Sends what is due. The clock is that of the turn: answers in it were seen no later. */
static int send_due(struct load *load)
{
    while (load->open_next < UINT64_MAX && due_ns(load, load->open_next) <= load->now_ns) {
        const uint64_t due = due_ns(load, load->open_next);
        struct load_connection *c =
            &load->connections[load->open_next % load->options->connections];

        if (due >= load->open_end_ns) {
            return 0;
        }
        histogram_add(&load->lateness, load->now_ns - due);
        load->open_next++;
        c->in_flight++;
        c->unsent += load->size;
        load->outstanding++;
        if (load->engine->send(load, c) < 0) {
            return -1;
        }
    }
    return 0;
}

/* An open loop of so long, then until everything has come back. */
static int open_phase(struct load *load, double rate, uint64_t duration_ns)
{
    uint64_t progress = clock_now_ns();
    bool was_empty = false;

    assert(load->outstanding == 0);
    for (uint32_t i = 0; i < load->options->connections; i++) {
        load->connections[i].replies = 0;
    }
    load->open = true;
    load->reissue = false;
    load->open_next = 0;
    load->open_interval_ns = 1e9 / rate;
    load->now_ns = progress;
    load->open_start_ns = progress + NS_PER_MS;
    load->open_end_ns = load->open_start_ns + duration_ns;
    histogram_reset(&load->lateness);
    while (load->now_ns < load->open_end_ns || load->outstanding > 0) {
        if (load->outstanding == 0) {
            progress = load->now_ns; /* nothing is owed */
        }
        if (turn(load, &was_empty, &progress) < 0 || send_due(load) < 0) {
            return -1;
        }
    }
    load->open = false;
    return 0;
}

static int server_lost(struct load *load, int rc)
{
    return load_fail(load, LOAD_CONNECTION_LOST, "CPU time of the server, process %d: %s",
                     (int)load->options->server_pid, strerror(-rc));
}

static void reset_counters(struct load *load)
{
    histogram_reset(&load->service);
    load->messages = 0;
    load->turns = 0;
    load->enters = 0;
    load->idle_ns = 0;
    load->window = (struct window){
        .server_pid = load->options->server_pid,
        .server_cpu = load->options->server_cpu,
    };
}

/* What lies between two moments with nothing in flight is added to the counters. */
static int window(struct load *load, uint32_t duration_ms, double rate)
{
    struct window now = {
        .server_pid = load->options->server_pid,
        .server_cpu = load->options->server_cpu,
    };
    int rc = window_open(&now);

    if (rc < 0) {
        return server_lost(load, rc);
    }
    load->issue_left = load->options->messages > 0 ? load->options->messages : UINT64_MAX;
    rc = rate > 0.0 ? open_phase(load, rate, duration_ms * NS_PER_MS)
                    : phase(load, load->depth, duration_ms * NS_PER_MS);
    if (rc < 0) {
        return -1;
    }
    rc = window_close(&now);
    window_add(&load->window, &now);
    return rc < 0 ? server_lost(load, rc) : 0;
}

static int measure(struct load *load, uint32_t duration_ms, double rate)
{
    reset_counters(load);
    return window(load, duration_ms, rate);
}

static double messages_per_second(const struct load *load)
{
    return (double)load->messages * 1e9 / (double)load->window.wall_ns;
}

/* Share of one CPU in the last window; 0 when the server is not watched. */
static double server_busy(const struct load *load)
{
    return (double)window_server_ns(&load->window) / (double)load->window.wall_ns;
}

/* How many messages a second the server takes at most, as far as two short windows tell. */
static int find_saturation(struct load *load)
{
    const uint32_t window_ms = load->options->saturate_ms;

    if (measure(load, window_ms, 0.0) < 0) {
        return -1;
    }
    load->closed_rate = messages_per_second(load);
    load->closed_busy = server_busy(load);
    load->saturation = load->closed_rate;
    if (load->options->server_pid == 0) {
        return 0;
    }
    if (measure(load, window_ms, load->closed_rate / 2.0) < 0) {
        return -1;
    }
    const double busy = server_busy(load);
    const double rate = messages_per_second(load);

    if (busy > 0.0 && rate / busy < load->closed_rate) {
        load->saturation = rate / busy;
    }
    return 0;
}

static int measure_open(struct load *load)
{
    const struct load_options *options = load->options;

    if (options->rate > 0) {
        return measure(load, options->duration_ms, options->rate);
    }
    if (find_saturation(load) < 0) {
        return -1;
    }
    return measure(load, options->duration_ms,
                   load->saturation * (double)options->rate_percent / 100.0);
}

/*
 * io_uring wins while messages are small, by its one system call per turn; from 64 KiB on, reading
 * every connection into the same cache-hot buffer wins.
 */
#define URING_BYTES_IN_FLIGHT_MAX (32u * 1024u)

/* What surely fits the buffers of one socket. */
#define PLAIN_BYTES_IN_FLIGHT_MAX 4096u

static bool is_plain(const struct load *load)
{
    const uint64_t largest = load->size > load->reply_size ? load->size : load->reply_size;

    return load->options->engine == LOAD_ENGINE_AUTO && load->options->connections == 1 &&
           largest * load->depth <= PLAIN_BYTES_IN_FLIGHT_MAX;
}

static int open_engine(struct load *load)
{
    const enum load_engine_choice choice = load->options->engine;
    const bool large =
        (uint64_t)(load->size > load->reply_size ? load->size : load->reply_size) * load->depth >
        URING_BYTES_IN_FLIGHT_MAX;

    if (is_plain(load)) {
        load->engine = &load_engine_plain;
        return load->engine->open(load);
    }
    if (choice == LOAD_ENGINE_EPOLL || (choice == LOAD_ENGINE_AUTO && large)) {
        load->engine = &load_engine_epoll;
        return load->engine->open(load);
    }
    load->engine = &load_engine_uring;
    const int rc = load->engine->open(load);

    if (rc < 0 && choice == LOAD_ENGINE_AUTO) {
        load->failure = LOAD_OK;
        memcpy(load->engine_note, load->failure_text, sizeof(load->engine_note));
        load->engine = &load_engine_epoll;
        return load->engine->open(load);
    }
    return rc;
}

static int allocate(struct load *load)
{
    const struct load_options *options = load->options;

    load->pattern = pattern_create();
    load->connections = calloc(options->connections, sizeof(*load->connections));
    load->stamps = calloc((size_t)options->connections * options->depth, sizeof(*load->stamps));
    if (load->pattern == NULL || load->connections == NULL || load->stamps == NULL) {
        return load_fail(load, LOAD_SYSTEM, "memory: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < options->connections; i++) {
        load->connections[i] = (struct load_connection){
            .sent_at = pattern_offset(i),
            .expect_at = options->reply_size > 0 ? 0 : pattern_offset(i),
            .reply_left = load->reply_size,
            .fd = -1,
        };
    }
    return 0;
}

/*
 * The last answer of a connection is acknowledged by a timer, 40 ms later, when the other server is
 * measured. So what is due is done now; after an even value the socket goes on delaying, where after 1
 * it would acknowledge each answer by a segment of its own (net/ipv4/tcp.c).
 */
static void acknowledge(const struct load *load)
{
    const int once = 2;

    for (uint32_t i = 0; i < load->options->connections; i++) {
        setsockopt(load->connections[i].fd, IPPROTO_TCP, TCP_QUICKACK, &once, sizeof(once));
    }
}

/* Of the messages since @before. */
static double median_since(const struct load *load, const struct histogram *before)
{
    static struct histogram slice;

    slice = load->service;
    histogram_subtract(&slice, before);
    return histogram_median(&slice);
}

/* Load that is not counted: the times of messages are again those of @before. */
static int lead(struct load *load, uint64_t duration_ns, const struct histogram *before)
{
    const uint64_t messages = load->messages;
    const uint64_t turns = load->turns;
    const uint64_t enters = load->enters;
    const uint64_t idle_ns = load->idle_ns;

    if (phase(load, load->depth, duration_ns) < 0) {
        return -1;
    }
    load->service = *before;
    load->messages = messages;
    load->turns = turns;
    load->enters = enters;
    load->idle_ns = idle_ns;
    return 0;
}

/* A window at a time, when told. */
static int measure_in_turns(struct load *load)
{
    static struct histogram before;
    const uint32_t slice_ms = load->options->slice_ms;
    const uint64_t lead_ns = turns_lead_ns(slice_ms, load->options->connections);

    acknowledge(load);
    turns_ready();
    while (turns_next()) {
        before = load->service;
        if (lead_ns > 0 && lead(load, lead_ns, &before) < 0) {
            return -1;
        }
        const uint64_t cpu_ns = window_server_ns(&load->window);
        const uint64_t messages = load->messages;

        if (window(load, slice_ms, 0.0) < 0) {
            return -1;
        }
        acknowledge(load);
        turns_done(window_server_ns(&load->window) - cpu_ns, load->messages - messages,
                   median_since(load, &before));
    }
    return load->messages > 0 ? 0 : load_fail(load, LOAD_USAGE, "%s", TURNS_NONE);
}

static int measure_all(struct load *load)
{
    const struct load_options *options = load->options;

    reset_counters(load);
    if (options->slice_ms > 0) {
        return measure_in_turns(load);
    }
    return load_is_open(options) ? measure_open(load) : window(load, options->duration_ms, 0.0);
}

int load_run(struct load *load, const struct load_options *options)
{
    load->options = options;
    load->size = options->size;
    load->reply_size = options->reply_size > 0 ? options->reply_size : options->size;
    load->depth = options->depth;
    if (allocate(load) < 0 || load_connect_all(load) < 0 || open_engine(load) < 0) {
        return -1;
    }
    load->issue_left = UINT64_MAX;
    if (phase(load, 1, 0) < 0) {
        return -1;
    }
    if (options->warmup_ms > 0 && phase(load, load->depth, options->warmup_ms * NS_PER_MS) < 0) {
        return -1;
    }
    const int rc = measure_all(load);

    /* Everything asked for has come; whatever comes now was never sent. */
    return rc < 0 || load->engine->turn(load) < 0 ? -1 : 0;
}
