/*
 * The programs of a run: a server that listens on TCP and on a Unix socket, and clients on its own
 * host and on others. Each does besides what programs do: timers, posts, work on threads, signals.
 * What fails for want of something is tried again, as programs do.
 */
#include "fuzz.h"

#include <gyre/alloc.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIES_MAX = 1000,
    RETRY_NS = 5000000,
    TICK_NS_MAX = 400000000,
    SERVER_PORT = 7000,
};

#define UNIX_ADDRESS "unix:/run/fuzz.sock"

/* ---- loops ---- */

struct gyre_loop *make_loop(struct program *program)
{
    int rc = -ENOMEM;

    for (int i = 0; i < TRIES_MAX && rc < 0; i++) {
        rc = gyre_loop_create(&program->loop, &fuzz.loop_options);
        if (rc < 0) {
            gyre_sim_sleep(RETRY_NS);
        }
    }
    if (rc < 0) {
        broken("%s: no loop: %s", program->name, gyre_error_name(rc));
        return NULL;
    }
    return program->loop;
}

/* Nothing is active any more: all that was begun has ended, and all blocks are home. */
void end_loop(struct program *program)
{
    struct gyre_loop *loop = program->loop;
    struct gyre_pool_stats pool;
    struct gyre_loop_stats stats;
    int rc;

    check_loop(loop);
    if (gyre_loop_pool_stats(loop, &pool) == 0 && (pool.leases > 0 || pool.lent > 0)) {
        broken("%s: %u leases and %u blocks are out at the end", program->name, pool.leases,
               pool.lent);
    }
    if (gyre_loop_stats(loop, &stats) == 0) {
        for (int kind = 0; kind < GYRE_OP_KIND_COUNT; kind++) {
            if (stats.started[kind] != stats.finished[kind]) {
                broken("%s: %s: %llu started, %llu finished", program->name,
                       gyre_op_kind_name((enum gyre_op_kind)kind),
                       (unsigned long long)stats.started[kind],
                       (unsigned long long)stats.finished[kind]);
            }
        }
    }
    program->loop = NULL;
    rc = gyre_loop_destroy(loop);
    if (rc < 0) {
        broken("%s: the loop cannot be destroyed: %s", program->name, gyre_error_name(rc));
    }
}

static void run_loop(struct program *program)
{
    int rc;

    do {
        rc = gyre_loop_run(program->loop, GYRE_RUN_DEFAULT);
    } while (rc == 1);
    if (rc < 0) {
        broken("%s: the loop ended: %s", program->name, gyre_error_name(rc));
    }
}

/* ---- timers, posts, work ---- */

static void on_post(struct gyre_loop *loop, void *data)
{
    struct program *program = data;

    if (loop != program->loop || program->posts_out == 0) {
        broken("%s: a post that nobody made", program->name);
    }
    program->posts_out--;
}

static void do_work(struct gyre_work *work)
{
    struct program *program = gyre_container_of(work, struct program, work);

    gyre_sim_sleep(chance(50 * GYRE_MSEC));
    program->works += 1000;
}

static void work_done(struct gyre_work *work, int result)
{
    struct program *program = gyre_container_of(work, struct program, work);

    program->works -= result == 0 ? 1001 : 1;
    if (program->works != 0) {
        broken("%s: work was done %d times", program->name, program->works);
    }
}

static void start_work(struct program *program)
{
    if (gyre_work_active(&program->work)) {
        if (one_in(3)) {
            gyre_work_cancel(&program->work);
        }
        return;
    }
    if (gyre_work_start(&program->work, program->pool, program->loop) == 0) {
        program->works = 1;
    }
}

static void tick_again(struct program *program)
{
    const uint64_t span = chance(TICK_NS_MAX);

    if (gyre_timer_start(&program->tick, span) < 0) {
        broken("%s: a timer does not start", program->name);
    }
}

/* All that a program has say something in one turn, or a part of them end. */
static void burst(const struct program *program)
{
    const int index = program == &fuzz.program[0];
    const int ends = one_in(8);

    for (int i = 0; i < fuzz.call_count; i++) {
        struct side *side = &fuzz.call[i].side[index];

        if (side->stream != NULL && gyre_stream_loop(side->stream) == program->loop &&
            (index == 0 || side->call->mode == CALL_PATTERN)) {
            side_write(side, 1 + chance(200));
            if (ends && one_in(2)) {
                side_close(side);
            }
        }
    }
}

static void on_tick(struct gyre_timer *timer)
{
    struct program *program = gyre_container_of(timer, struct program, tick);

    switch (chance(5)) {
    case 4:
        burst(program);
        break;
    case 0:
        if (gyre_loop_post(program->loop, on_post, program) == 0) {
            program->posts_out++;
        }
        break;
    case 1:
        start_work(program);
        break;
    default:
        dgrams_send(program);
    }
    if (!program->stopping && (program->calls_left > 0 || program == &fuzz.program[0])) {
        tick_again(program);
    }
}

static void begin(struct program *program)
{
    if (gyre_timer_init(&program->tick, program->loop, on_tick) < 0) {
        broken("%s: no timer", program->name);
    }
    gyre_work_init(&program->work, do_work, work_done);
    while (gyre_work_pool_create(&program->pool, NULL) < 0) {
        gyre_sim_sleep(RETRY_NS);
    }
    dgrams_open(program);
    tick_again(program);
}

static void end(struct program *program)
{
    gyre_work_pool_destroy(program->pool);
    if (program->posts_out != 0 || program->works != 0) {
        broken("%s: %d posts and %d works are missing", program->name, program->posts_out,
               program->works);
    }
    end_loop(program);
}

/* ---- the calling side ---- */

static struct side *caller_of(struct gyre_stream *stream)
{
    return &gyre_container_of(stream, struct call, own)->side[0];
}

/* So that much may be there at a time, as on a real connection after a while. */
static void make_room(int number)
{
    int rc = 0;

    if (one_in(4)) {
        rc = gyre_sockopt_set(number, GYRE_SOCKOPT_RECEIVE_BUFFER, 1 << 20);
    }
    if (rc < 0 && gyre_sim_struck(fuzz.sim, GYRE_SIM_FAULT_OPTION_FAILS) == 0) {
        broken("no room to receive: %s", gyre_error_name(rc));
    }
}

static void caller_on_open(struct gyre_stream *stream)
{
    struct side *side = caller_of(stream);

    note_enter(side);
    note_open(side);
    make_room(gyre_stream_number(stream));
    side_act(side);
    note_leave(side);
}

static void caller_on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct side *side = caller_of(stream);

    note_enter(side);
    note_data(side, data);
    if (side->held_count < HELD_MAX && one_in(8) &&
        gyre_lease_retain(data, &side->held[side->held_count]) == 0) {
        side->held_count++;
    }
    if (one_in(10)) {
        side_act(side);
    }
    note_leave(side);
}

static void caller_on_eof(struct gyre_stream *stream)
{
    struct side *side = caller_of(stream);

    note_enter(side);
    note_eof(side);
    side_close(side);
    note_leave(side);
}

static void caller_on_drain(struct gyre_stream *stream)
{
    struct side *side = caller_of(stream);

    note_enter(side);
    if (!side->shut && !gyre_stream_writable(stream)) {
        broken("call %u: told of room, but there is none", side->call->id);
    }
    if (one_in(3)) {
        side_act(side);
    }
    note_leave(side);
}

static void caller_on_close(struct gyre_stream *stream, int error)
{
    struct side *side = caller_of(stream);
    struct program *program = NULL;

    note_enter(side);
    note_close(side, error);
    side_end(side);
    note_leave(side);
    for (int i = 1; i < fuzz.program_count; i++) {
        const int first = fuzz.program[i].first_call;

        if ((int)side->call->id >= first &&
            (int)side->call->id < first + fuzz.program[i].call_count) {
            program = &fuzz.program[i];
        }
    }
    if (--program->calls_left == 0) {
        program->stopping = 1;
        gyre_timer_stop(&program->tick);
        dgrams_close(program);
    }
}

static int dial(struct program *program, struct call *call)
{
    struct gyre_addr to;
    int rc;

    call->is_unix = program->is_local && one_in(2);
    rc = gyre_addr_parse(call->is_unix       ? UNIX_ADDRESS
                         : program->is_local ? "127.0.0.1:7000"
                         : one_in(3)         ? "[fd00::1]:7000"
                                             : "10.0.0.1:7000",
                         &to);
    if (rc < 0) {
        broken("an address is not read: %s", gyre_error_name(rc));
    }
    return gyre_stream_connect(&call->own, program->loop, &to, &fuzz.handler[0]);
}

/* A call begins with its name, so that the other side knows it. */
static void introduce(struct side *side)
{
    uint8_t name[sizeof(side->call->id)];
    int rc;

    fill(side->call, 0, 0, name, sizeof(name));
    rc = gyre_stream_write(side->stream, name, sizeof(name));
    if (rc >= 0) {
        side->sent += sizeof(name);
    } else if (rc != -ENOMEM) {
        broken("call %u: the first bytes are refused: %s", side->call->id, gyre_error_name(rc));
    } else {
        side->ending = 1;
        side->reset = 1;
        gyre_stream_reset(side->stream);
    }
}

static void begin_call(struct program *program, struct call *call)
{
    const int rc = dial(program, call);

    if (rc < 0) { /* no descriptor, no memory: this call does not take place */
        call->side[0].closes = 1;
        program->calls_left--;
        return;
    }
    side_begin(&call->side[0], &call->own);
    introduce(&call->side[0]);
}

struct dialer {
    struct gyre_timer timer;
    struct program *program;
    int next;
};

static void on_dial(struct gyre_timer *timer)
{
    struct dialer *dialer = gyre_container_of(timer, struct dialer, timer);
    struct program *program = dialer->program;

    begin_call(program, &fuzz.call[program->first_call + dialer->next++]);
    if (dialer->next < program->call_count) {
        const uint64_t span = fuzz.crowd || one_in(3) ? 0 : chance(300 * GYRE_MSEC);

        if (gyre_timer_start(timer, span) < 0) {
            broken("a timer does not start");
        }
    } else if (program->calls_left == 0) {
        program->stopping = 1;
        gyre_timer_stop(&program->tick);
        dgrams_close(program);
    }
}

int client_main(void *context)
{
    struct program *program = context;
    struct dialer dialer = {.program = program};

    if (make_loop(program) == NULL) {
        return 1;
    }
    program->calls_left = program->call_count;
    begin(program);
    if (gyre_timer_init(&dialer.timer, program->loop, on_dial) < 0 ||
        gyre_timer_start(&dialer.timer, chance(200 * GYRE_MSEC)) < 0) {
        broken("%s: no timer", program->name);
    }
    run_loop(program);
    end(program);
    return 0;
}

/* ---- the answering side ---- */

/* An accepted stream is a guest until it has said who it is. */
struct guest {
    struct side *side;
    uint32_t id;
    uint32_t known; /* bytes of the id */
};

static struct guest *guest_of(const struct gyre_stream *stream)
{
    return gyre_stream_ext(stream);
}

static void meet(struct gyre_stream *stream, struct guest *guest)
{
    struct side *side;

    if (guest->id >= (uint32_t)fuzz.call_count) {
        broken("a guest says that it is call %u", guest->id);
        return;
    }
    side = &fuzz.call[guest->id].side[1];
    if (side->opens > 0) {
        broken("call %u is here twice", guest->id);
        return;
    }
    guest->side = side;
    side_begin(side, stream);
    note_open(side);
}

/* Returns how many of the bytes were its name. */
static size_t listen_to_name(struct gyre_stream *stream, struct guest *guest,
                             const struct gyre_lease *data)
{
    size_t used = 0;

    while (guest->known < sizeof(guest->id) && used < data->len) {
        guest->id |= (uint32_t)data->data[used++] << (8 * guest->known++);
    }
    if (used > 0 && guest->known == sizeof(guest->id)) {
        meet(stream, guest);
        if (guest->side != NULL) {
            guest->side->received = sizeof(guest->id) - used; /* the rest is checked below */
        }
    }
    return used;
}

static void server_on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct guest *guest = guest_of(stream);
    struct side *side;
    uint8_t early[sizeof(guest->id)];
    uint32_t before = guest->known;

    listen_to_name(stream, guest, data);
    side = guest->side;
    if (side == NULL) {
        return;
    }
    note_enter(side);
    if (before > 0 && before < sizeof(guest->id) && side->call->mode == CALL_ECHO) {
        fill(side->call, 0, 0, early, before); /* came before we knew what to do with it */
        if (gyre_stream_write(stream, early, before) >= 0) {
            side->sent += before;
        } else {
            side->ending = side->reset = 1;
            gyre_stream_reset(stream);
        }
    }
    if (!side->ending) {
        note_data(side, data);
        if (side->call->mode == CALL_ECHO && !side->shut) {
            side_forward(side, data);
        }
        if (one_in(12)) {
            side_act(side);
        }
    }
    note_leave(side);
}

static void server_on_eof(struct gyre_stream *stream)
{
    struct guest *guest = guest_of(stream);

    if (guest->side == NULL) {
        gyre_stream_close(stream);
        return;
    }
    note_enter(guest->side);
    note_eof(guest->side);
    side_close(guest->side);
    note_leave(guest->side);
}

static void server_on_drain(struct gyre_stream *stream)
{
    struct guest *guest = guest_of(stream);

    if (guest->side != NULL) {
        note_enter(guest->side);
        side_act(guest->side);
        note_leave(guest->side);
    }
}

static void server_on_close(struct gyre_stream *stream, int error)
{
    struct guest *guest = guest_of(stream);

    if (guest->side != NULL) {
        note_enter(guest->side);
        note_close(guest->side, error);
        side_end(guest->side);
        note_leave(guest->side);
    }
}

static void listen_at(struct program *program, int which, const char *address)
{
    struct gyre_listener_options options = {
        .handler = &fuzz.handler[1],
        .ext_size = sizeof(struct guest),
        .max_connections = one_in(3) ? (uint32_t)(1 + chance(4)) : 0,
        .backlog = one_in(3) ? (uint32_t)(1 + chance(3)) : 0,
    };
    int rc;

    for (int i = 0; i < TRIES_MAX; i++) {
        rc = gyre_listen(program->loop, &program->listener[which], address, &options);
        if (rc == 0) {
            make_room(gyre_listener_number(&program->listener[which])); /* inherited */
            program->listening[which] = 1;
            return;
        }
        gyre_sim_sleep(RETRY_NS);
    }
    broken("cannot listen at %s: %s", address, gyre_error_name(rc));
}

static void on_signal(struct gyre_signal *signal, const struct signalfd_siginfo *info)
{
    struct program *program = gyre_container_of(signal, struct program, signal);

    (void)info;
    program->stopping = 1;
    gyre_timer_stop(&program->tick);
    for (int i = 0; i < 2; i++) {
        if (program->listening[i]) {
            gyre_listener_drain(&program->listener[i]);
        }
    }
    dgrams_close(program);
    gyre_signal_close(signal, NULL);
}

static void watch_signals(struct program *program)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    if (gyre_signal_block(&set) < 0) {
        broken("signals cannot be blocked");
    }
    while (gyre_signal_start(&program->signal, program->loop, &set, on_signal) < 0) {
        gyre_sim_sleep(RETRY_NS);
    }
}

int server_main(void *context)
{
    struct program *program = context;

    if (make_loop(program) == NULL) {
        return 1;
    }
    watch_signals(program);
    begin(program);
    listen_at(program, 0, "[::]:7000");
    listen_at(program, 1, UNIX_ADDRESS);
    run_loop(program);
    end(program);
    return 0;
}

/* ---- how the streams of a run behave ---- */

static uint64_t some_timeout(uint64_t most_ns)
{
    return one_in(3) ? 1 + chance(most_ns) : 0;
}

static void choose_handler(struct gyre_stream_handler *handler)
{
    handler->idle_timeout_ns = some_timeout(5 * GYRE_SEC);
    handler->write_timeout_ns = some_timeout(5 * GYRE_SEC);
    handler->first_timeout_ns = some_timeout(5 * GYRE_SEC);
    handler->total_timeout_ns = some_timeout(20 * GYRE_SEC);
    handler->connect_timeout_ns = some_timeout(10 * GYRE_SEC);
    handler->close_timeout_ns = some_timeout(10 * GYRE_SEC);
    handler->write_cap = one_in(2) ? 4 << 20 : (uint32_t)(4096 + chance(300000));
    handler->write_high = one_in(2) ? 0 : (uint32_t)(1 + chance(handler->write_cap / 2));
}

void choose_handlers(void)
{
    fuzz.handler[0] = (struct gyre_stream_handler){
        .on_open = caller_on_open,
        .on_data = caller_on_data,
        .on_eof = caller_on_eof,
        .on_drain = caller_on_drain,
        .on_close = caller_on_close,
    };
    fuzz.handler[1] = (struct gyre_stream_handler){
        .on_data = server_on_data,
        .on_eof = server_on_eof,
        .on_drain = server_on_drain,
        .on_close = server_on_close,
    };
    choose_handler(&fuzz.handler[0]);
    choose_handler(&fuzz.handler[1]);
}
