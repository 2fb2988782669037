/*
 * The same scenario on different kernels and drivers: a seed decides what two to five connections
 * and a few datagram sockets of one program do, round by round. After each round the loop runs until
 * nothing happens any more, so that what the user sees does not depend on how fast anything is:
 * which events each side of a connection has, how many bytes between two of them, and with which
 * error it ends. Where data is cut, and how the events of different sides mix, may differ, and is
 * not printed.
 *
 *     differential URING|EPOLL FIRST_SEED COUNT      one paragraph a seed
 *
 * It is compiled twice: for the operating system, and (SIMULATED) for the simulated kernel.
 * differential.py compares the four outputs.
 */
#include <errno.h>
#include <gyre.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(SIMULATED)
#include <gyre/sim.h>
#endif

enum {
    CALLS = 5,
    DGRAMS = 3,
    ROUNDS = 24,
    LOG_LEN = 4096,
    WRITE_MOST = 200000,
    QUIET_TICKS = 2,
};

#define TICK_NS GYRE_MSEC

/* One end of a connection. */
struct side {
    struct gyre_stream *stream; /* NULL: not open yet, or closed */
    uint64_t sent;
    uint64_t received;
    uint64_t fresh; /* of these, since the last event that was logged */
    int index;      /* 0: called, 1: was called; the bytes differ */
    int ending;
    int paused;
    int is_unix;
    char log[LOG_LEN];
    size_t log_len;
};

struct call {
    struct gyre_stream own;
    struct side side[2];
    int used;
};

struct box {
    struct gyre_dgram dgram;
    struct gyre_addr addr;
    int open;
    int received;
    int sent;
    char log[LOG_LEN];
    size_t log_len;
};

/* One scenario at a time. */
static struct {
    struct gyre_loop *loop;
    uint64_t random;
    uint64_t events; /* of any kind: nothing is quiet while it grows */
    struct gyre_listener listener[2];
    struct gyre_addr refusing; /* nobody listens there */
    struct call call[CALLS];
    struct side *expected; /* the side that the next accepted stream is */
    struct box box[DGRAMS];
    struct gyre_timer tick;
    uint64_t events_before;
    int quiet;
} world;

static uint8_t bytes[WRITE_MOST];

static uint64_t below(uint64_t limit)
{
    uint64_t z = world.random += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (z ^ z >> 31) % limit;
}

static void must(int rc, const char *what)
{
    if (rc < 0) {
        printf("%s: %s\n", what, gyre_error_name(rc));
        exit(2);
    }
}

/* ---- the log ---- */

static void append(char *log, size_t *len, const char *format, va_list arguments)
{
    const int rc = vsnprintf(log + *len, LOG_LEN - *len, format, arguments);

    if (rc < 0 || (size_t)rc >= LOG_LEN - *len) {
        puts("a log is full");
        exit(2);
    }
    *len += (size_t)rc;
}

static void flush_data(struct side *side)
{
    if (side->fresh > 0) {
        side->log_len += (size_t)snprintf(side->log + side->log_len, LOG_LEN - side->log_len,
                                          " data:%llu", (unsigned long long)side->fresh);
        side->fresh = 0;
    }
}

__attribute__((format(printf, 2, 3))) static void note(struct side *side, const char *format, ...)
{
    va_list arguments;

    world.events++;
    flush_data(side);
    va_start(arguments, format);
    append(side->log, &side->log_len, format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 2, 3))) static void note_box(struct box *box, const char *format, ...)
{
    va_list arguments;

    world.events++;
    va_start(arguments, format);
    append(box->log, &box->log_len, format, arguments);
    va_end(arguments);
}

/* ---- streams ---- */

static uint8_t byte_at(int index, uint64_t offset)
{
    return (uint8_t)(offset * 31 + offset / 251 + (uint64_t)index);
}

static struct side *side_of(struct gyre_stream *stream)
{
    struct side **accepted;

    if (gyre_stream_listener(stream) == NULL) {
        return &gyre_container_of(stream, struct call, own)->side[0];
    }
    accepted = gyre_stream_ext(stream);
    if (*accepted == NULL) {
        *accepted = world.expected;
        world.expected = NULL;
    }
    return *accepted;
}

static void on_open(struct gyre_stream *stream)
{
    struct side *side = side_of(stream);

    side->stream = stream;
    note(side, " open");
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct side *side = side_of(stream);

    world.events++;
    for (size_t i = 0; i < data->len; i++) {
        if (data->data[i] != byte_at(1 - side->index, side->received + i)) {
            note(side, " WRONG-BYTE:%llu", (unsigned long long)(side->received + i));
            break;
        }
    }
    side->received += data->len;
    side->fresh += data->len;
}

static void on_eof(struct gyre_stream *stream)
{
    note(side_of(stream), " eof");
}

static void on_close(struct gyre_stream *stream, int error)
{
    struct side *side = side_of(stream);

    note(side, " close:%s", error == 0 ? "0" : gyre_error_name(error));
    side->stream = NULL;
}

static const struct gyre_stream_handler handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_eof = on_eof,
    .on_close = on_close,
    .write_cap = 64 << 20,
};

/* ---- datagrams ---- */

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct box *box = gyre_container_of(dgram, struct box, dgram);

    box->received++;
    note_box(box, " got:%zu", datagram->len);
}

static void on_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    note_box(gyre_container_of(dgram, struct box, dgram), " error:%s%s", gyre_error_name(error),
             to != NULL ? "!" : "");
}

static void on_box_close(struct gyre_dgram *dgram)
{
    struct box *box = gyre_container_of(dgram, struct box, dgram);

    box->open = 0;
    note_box(box, " closed");
}

static const struct gyre_dgram_handler box_handler = {
    .on_datagram = on_datagram,
    .on_error = on_error,
    .on_close = on_box_close,
};

/* ---- until nothing happens ---- */

static void on_tick(struct gyre_timer *timer)
{
    world.quiet = world.events == world.events_before ? world.quiet + 1 : 0;
    world.events_before = world.events;
    if (world.quiet < QUIET_TICKS) {
        must(gyre_timer_start(timer, TICK_NS), "timer");
    }
}

static void settle(void)
{
    world.quiet = 0;
    world.events_before = world.events;
    must(gyre_timer_start(&world.tick, TICK_NS), "timer");
    while (world.quiet < QUIET_TICKS) {
        must(gyre_loop_run(world.loop, GYRE_RUN_ONCE), "run");
    }
}

/* ---- actions ---- */

static void write_some(struct side *side)
{
    static const uint32_t most[] = {10, 1000, 20000, WRITE_MOST};
    const size_t len = 1 + (size_t)below(most[below(4)]);
    int rc;

    for (size_t i = 0; i < len; i++) {
        bytes[i] = byte_at(side->index, side->sent + i);
    }
    rc = gyre_stream_write(side->stream, bytes, len);
    if (rc < 0) {
        note(side, " write:%s", gyre_error_name(rc));
    } else {
        side->sent += len;
    }
}

static void tell(struct side *side, const char *what, int rc)
{
    note(side, " %s%s%s", what, rc < 0 ? ":" : "", rc < 0 ? gyre_error_name(rc) : "");
}

/*
 * A Unix socket that is closed with bytes unread tells its peer of a reset, and how much a paused
 * stream has read already is the driver's business. So the end is not that of a paused one.
 */
static void prepare_end(struct side *side)
{
    if (side->is_unix && side->paused) {
        side->paused = 0;
        tell(side, "[resume]", gyre_stream_resume(side->stream));
        settle();
    }
    side->ending = 1;
}

static void finish(struct side *side, const char *what, int (*how)(struct gyre_stream *stream))
{
    prepare_end(side);
    if (side->stream != NULL) {
        tell(side, what, how(side->stream));
    }
}

static void act_on(struct side *side)
{
    switch (below(12)) {
    case 0:
        tell(side, "[shutdown]", gyre_stream_shutdown(side->stream));
        break;
    case 1:
        finish(side, "[close]", gyre_stream_close);
        break;
    case 2:
        finish(side, "[reset]", gyre_stream_reset);
        break;
    case 3:
    case 4:
        side->paused = 1;
        tell(side, "[pause]", gyre_stream_pause(side->stream));
        break;
    case 5:
    case 6:
        side->paused = 0;
        tell(side, "[resume]", gyre_stream_resume(side->stream));
        break;
    case 7: /* the end right behind the bytes */
        write_some(side);
        finish(side, "[write-close]", gyre_stream_close);
        break;
    case 8:
        write_some(side);
        tell(side, "[write-shutdown]", gyre_stream_shutdown(side->stream));
        break;
    default:
        write_some(side);
    }
}

static void begin_call(struct call *call, int which)
{
    struct gyre_addr to = world.refusing;

    call->used = 1;
    call->side[1].index = 1;
    call->side[0].is_unix = call->side[1].is_unix = which == 1;
    world.expected = which < 2 ? &call->side[1] : NULL;
    if (which < 2) {
        must(gyre_listener_address(&world.listener[which], &to), "address");
    }
    note(&call->side[0], which == 0 ? "[tcp]" : which == 1 ? "[unix]" : "[refused]");
    must(gyre_stream_connect(&call->own, world.loop, &to, &handler), "connect");
    call->side[0].stream = &call->own;
    if (below(3) == 0) {
        write_some(&call->side[0]); /* before it stands */
    }
}

static void act_on_call(struct call *call)
{
    struct side *side = &call->side[below(2)];

    if (!call->used) {
        begin_call(call, below(8) == 0 ? 2 : (int)below(2));
        settle(); /* so that the next accepted stream is of the next call */
    } else if (side->stream != NULL && !side->ending) {
        act_on(side);
    }
}

static void act_on_box(struct box *box)
{
    struct box *other = &world.box[below(DGRAMS)];
    const size_t len = 1 + (size_t)below(below(4) == 0 ? 9000 : 500);
    int rc;

    if (!box->open) {
        return;
    }
    if (below(12) == 0) {
        must(gyre_dgram_close(&box->dgram), "close of datagrams");
        return;
    }
    for (uint64_t i = 1 + below(5); i > 0; i--) {
        rc = gyre_dgram_send(&box->dgram, &other->addr, bytes, len);
        if (rc < 0) {
            note_box(box, " send:%s", gyre_error_name(rc));
        }
        box->sent++;
    }
}

/* ---- a scenario ---- */

static void open_box(struct box *box)
{
    struct gyre_addr any = {.len = sizeof(any.in)};
    const struct gyre_dgram_options options = {.handler = &box_handler, .local = &any};

    any.in.sin_family = AF_INET;
    any.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(gyre_dgram_open(&box->dgram, world.loop, &options), "datagrams");
    must(gyre_dgram_local(&box->dgram, &box->addr), "address of datagrams");
    box->open = 1;
}

static void open_all(enum gyre_backend backend)
{
    const struct gyre_loop_options options = {.backend = backend};
    const struct gyre_listener_options listening = {.handler = &handler,
                                                    .ext_size = sizeof(struct side *)};
    struct gyre_listener closing;
    char name[64];

    must(gyre_loop_create(&world.loop, &options), "loop");
    must(gyre_timer_init(&world.tick, world.loop, on_tick), "timer");
    snprintf(name, sizeof(name), "unix:@gyre-differential-%d", (int)getpid());
    must(gyre_listen(world.loop, &world.listener[0], "127.0.0.1:0", &listening), "listen");
    must(gyre_listen(world.loop, &world.listener[1], name, &listening), "listen");
    must(gyre_listen(world.loop, &closing, "127.0.0.1:0", &listening), "listen");
    must(gyre_listener_address(&closing, &world.refusing), "address");
    gyre_listener_close(&closing);
    settle();
    for (int i = 0; i < DGRAMS; i++) {
        open_box(&world.box[i]);
    }
}

static void close_all(void)
{
    for (int i = 0; i < CALLS; i++) {
        for (int end = 0; end < 2; end++) {
            struct side *side = &world.call[i].side[end];

            if (side->stream != NULL && !side->ending) {
                finish(side, "[end]", gyre_stream_reset);
                settle();
            }
        }
    }
    for (int i = 0; i < DGRAMS; i++) {
        if (world.box[i].open) {
            must(gyre_dgram_close(&world.box[i].dgram), "close of datagrams");
        }
    }
    gyre_listener_close(&world.listener[0]);
    gyre_listener_close(&world.listener[1]);
    settle();
    must(gyre_loop_destroy(world.loop), "end of the loop");
}

static void print_all(uint64_t seed)
{
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 0; i < CALLS; i++) {
        for (int end = 0; end < 2 && world.call[i].used; end++) {
            struct side *side = &world.call[i].side[end];

            flush_data(side);
            printf("  %d%c %s\n", i, end == 0 ? 'a' : 'b', side->log);
        }
    }
    for (int i = 0; i < DGRAMS; i++) {
        printf("  datagrams %d sent:%d received:%d%s\n", i, world.box[i].sent,
               world.box[i].received, world.box[i].log);
    }
}

static int run_scenario(uint64_t seed, enum gyre_backend backend)
{
    const uint64_t calls = 1 + seed % CALLS;

    memset(&world, 0, sizeof(world));
    world.random = seed;
    open_all(backend);
    for (int round = 0; round < ROUNDS; round++) {
        act_on_call(&world.call[below(calls)]);
        if (below(3) == 0) {
            act_on_box(&world.box[below(DGRAMS)]);
        }
        settle();
    }
    close_all();
    print_all(seed);
    return 0;
}

/* ---- where it runs ---- */

#if defined(SIMULATED)

struct job {
    uint64_t seed;
    enum gyre_backend backend;
};

static int program(void *context)
{
    const struct job *job = context;

    return run_scenario(job->seed, job->backend);
}

static int run_somewhere(uint64_t seed, enum gyre_backend backend)
{
    const struct gyre_sim_options options = {.seed = seed, .faults_off = 1};
    struct job job = {seed, backend};
    struct gyre_sim *sim;
    struct gyre_sim_host *host;
    int rc;

    must(gyre_sim_create(&sim, &options), "world");
    must(gyre_sim_host_create(sim, "host", "10.0.0.1", &host), "host");
    must(gyre_sim_spawn(host, program, &job, 0, NULL), "program");
    rc = gyre_sim_run(sim);
    if (rc < 0) {
        printf("seed %llu: %s\n", (unsigned long long)seed, gyre_sim_failure(sim));
    }
    gyre_sim_destroy(sim);
    return rc;
}

#else

static int run_somewhere(uint64_t seed, enum gyre_backend backend)
{
    return run_scenario(seed, backend);
}

#endif

int main(int argc, char **argv)
{
    uint64_t first;
    uint64_t count;
    enum gyre_backend backend;
    int rc = 0;

    if (argc != 4) {
        fputs("usage: differential uring|epoll FIRST_SEED COUNT\n", stderr);
        return 2;
    }
    backend = strcmp(argv[1], "uring") == 0 ? GYRE_BACKEND_URING : GYRE_BACKEND_EPOLL;
    first = strtoull(argv[2], NULL, 0);
    count = strtoull(argv[3], NULL, 0);
    for (uint64_t i = 0; i < count; i++) {
        rc |= run_somewhere(first + i, backend);
    }
    return rc < 0;
}
