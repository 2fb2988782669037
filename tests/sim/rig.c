/* Programs for tests of the simulator; see rig.h. */
#include "rig.h"

#include <string.h>

/* ---- the world ---- */

void rig_begin(struct rig *rig, const struct gyre_sim_options *options)
{
    static const struct gyre_sim_options calm = {.seed = 1, .faults_off = 1};
    struct gyre_sim_options own = options != NULL ? *options : calm;

    own.personality = test_variant_uring() ? GYRE_SIM_URING : GYRE_SIM_EPOLL;
    assert_int_equal(gyre_sim_create(&rig->sim, &own), 0);
    assert_int_equal(gyre_sim_host_create(rig->sim, "server", "10.0.0.1,fd00::1", &rig->server), 0);
    assert_int_equal(gyre_sim_host_create(rig->sim, "client", "10.0.0.2,fd00::2", &rig->client), 0);
}

void rig_end(struct rig *rig)
{
    gyre_sim_destroy(rig->sim);
    rig->sim = NULL;
}

struct gyre_sim_process *rig_spawn(struct gyre_sim_host *host, int (*main_fn)(void *context),
                                   void *context, unsigned flags)
{
    struct gyre_sim_process *process = NULL;

    assert_int_equal(gyre_sim_spawn(host, main_fn, context, flags, &process), 0);
    return process;
}

void rig_run(struct rig *rig)
{
    if (gyre_sim_run(rig->sim) != 0) {
        fail_msg("the run failed: %s", gyre_sim_failure(rig->sim));
    }
    assert_null(gyre_sim_failure(rig->sim));
}

void rig_fails(struct rig *rig, const char *text)
{
    assert_int_equal(gyre_sim_run(rig->sim), GYRE_ESIM);
    if (strstr(gyre_sim_failure(rig->sim), text) == NULL) {
        fail_msg("'%s' is not in: %s", text, gyre_sim_failure(rig->sim));
    }
}

/* ---- the server ---- */

static struct echo *echo_of(struct gyre_stream *stream)
{
    return gyre_container_of(gyre_stream_listener(stream), struct echo, listener);
}

static void echo_on_open(struct gyre_stream *stream)
{
    struct echo *echo = echo_of(stream);

    echo->stream = stream;
    if (++echo->opened == echo->connections) {
        gyre_listener_close(&echo->listener);
    }
    if (echo->reads_late) {
        gyre_stream_pause(stream);
    }
}

static void echo_on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    if (gyre_stream_forward(stream, data) < 0) {
        gyre_stream_reset(stream);
    }
}

static void echo_on_close(struct gyre_stream *stream, int error)
{
    struct echo *echo = echo_of(stream);

    echo->closed++;
    echo->error = error;
    echo->stream = NULL;
    gyre_timer_stop(&echo->timer);
}

static const struct gyre_stream_handler echo_handler = {
    .on_open = echo_on_open,
    .on_data = echo_on_data,
    .on_close = echo_on_close,
};

static void echo_on_timer(struct gyre_timer *timer)
{
    struct echo *echo = gyre_container_of(timer, struct echo, timer);

    if (echo->stream != NULL) {
        gyre_stream_resume(echo->stream);
    }
}

int echo_main(void *context)
{
    struct echo *echo = context;

    return gyre_loop_create(&echo->loop, &echo->options) < 0 ||
           gyre_listen(echo->loop, &echo->listener, "[::]:7000",
                       &(struct gyre_listener_options){.handler = &echo_handler}) < 0 ||
           gyre_timer_init(&echo->timer, echo->loop, echo_on_timer) < 0 ||
           (echo->reads_late && gyre_timer_start(&echo->timer, GYRE_SEC) < 0) ||
           gyre_loop_run(echo->loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(echo->loop) < 0;
}

/* ---- the caller ---- */

static struct caller *caller_of(struct gyre_stream *stream)
{
    return gyre_container_of(stream, struct caller, stream);
}

static void caller_send(struct caller *caller)
{
    static char bytes[4 << 20];

    if (caller->len == 0) {
        gyre_stream_close(&caller->stream);
    } else if (gyre_stream_write_ref(&caller->stream, bytes, caller->len, NULL, NULL) < 0) {
        gyre_stream_reset(&caller->stream);
    }
}

static void caller_on_timer(struct gyre_timer *timer)
{
    caller_send(gyre_container_of(timer, struct caller, timer));
}

static void caller_on_open(struct gyre_stream *stream)
{
    struct caller *caller = caller_of(stream);

    caller->opened_ns = gyre_sim_now(caller->rig->sim);
    if (caller->quiet_ns == 0) {
        caller_send(caller);
    } else if (gyre_timer_start(&caller->timer, caller->quiet_ns) < 0) {
        gyre_sim_fail(caller->rig->sim, "no timer");
    }
}

static void caller_on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct caller *caller = caller_of(stream);

    caller->last_ns = gyre_sim_now(caller->rig->sim);
    caller->first_ns = caller->received == 0 ? caller->last_ns : caller->first_ns;
    caller->received += data->len;
    if (caller->received == caller->len) {
        gyre_stream_close(stream);
    }
}

static void caller_on_close(struct gyre_stream *stream, int error)
{
    struct caller *caller = caller_of(stream);

    caller->error = error;
    caller->closed_ns = gyre_sim_now(caller->rig->sim);
    gyre_timer_stop(&caller->timer);
}

static const struct gyre_stream_handler caller_handler = {
    .on_open = caller_on_open,
    .on_data = caller_on_data,
    .on_close = caller_on_close,
    .connect_timeout_ns = GYRE_NEVER,
};

int caller_main(void *context)
{
    struct caller *caller = context;
    struct gyre_addr to;

    gyre_sim_sleep(caller->delay_ns);
    if (gyre_addr_parse(caller->to != NULL ? caller->to : "10.0.0.1:7000", &to) < 0 ||
        gyre_loop_create(&caller->loop, NULL) < 0 ||
        gyre_timer_init(&caller->timer, caller->loop, caller_on_timer) < 0) {
        return 1;
    }
    caller->began_ns = gyre_sim_now(caller->rig->sim);
    caller->start_error = gyre_stream_connect(&caller->stream, caller->loop, &to, &caller_handler);
    return gyre_loop_run(caller->loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(caller->loop) < 0;
}

void rig_call(struct rig *rig, struct echo *echo, struct caller *caller)
{
    caller->rig = rig;
    caller->delay_ns = caller->delay_ns != 0 ? caller->delay_ns : 10 * GYRE_MSEC;
    echo->connections = echo->connections != 0 ? echo->connections : 1;
    rig_spawn(rig->server, echo_main, echo, 0);
    rig_spawn(rig->client, caller_main, caller, 0);
    rig_run(rig);
}
