/* Trials: see trial.h. */
#include "trial.h"

#include <unistd.h>

static uint64_t results_seen;

static void on_result(struct gyre_op *op, const struct gyre_result *result)
{
    struct trial *trial = gyre_container_of(op, struct trial, op);
    const int final = (result->flags & GYRE_MORE) == 0;

    assert_int_equal(trial->finals, 0);
    assert_int_equal(gyre_op_active(op), !final);
    trial->results++;
    trial->finals += final;
    trial->hits += result->res >= 0;
    trial->bytes += result->res > 0 ? (uint64_t)result->res : 0;
    trial->res = result->res;
    trial->rank = ++results_seen;
    if (trial->then != NULL) {
        trial->then(trial, result);
    }
}

void trial_init(struct trial *trial, trial_fn then, void *context)
{
    *trial = (struct trial){.then = then, .context = context};
    gyre_op_init(&trial->op, on_result);
}

int32_t trial_end(struct gyre_loop *loop, struct trial *trial)
{
    test_turns_until(loop, &trial->finals);
    assert_int_equal(trial->finals, 1);
    return trial->res;
}

void trial_turns(struct gyre_loop *loop, int count)
{
    for (int i = 0; i < count; i++) {
        assert_true(gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0);
    }
}

void trial_attach(struct gyre_loop *loop, struct gyre_fd *fd, int number)
{
    assert_true(number >= 0);
    assert_int_equal(gyre_fd_init(fd, loop, number), 0);
}

void trial_close(struct gyre_loop *loop, struct gyre_fd *fd)
{
    struct trial closing;

    trial_init(&closing, NULL, NULL);
    assert_int_equal(gyre_op_close(&closing.op, fd, 0), 0);
    assert_int_equal(trial_end(loop, &closing), 0);
}

struct gyre_loop_stats trial_stats(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;

    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    return stats;
}

struct gyre_pool_stats trial_pool(struct gyre_loop *loop)
{
    struct gyre_pool_stats stats;

    assert_int_equal(gyre_loop_pool_stats(loop, &stats), 0);
    assert_int_equal(stats.free + stats.lent + stats.in_kernel, stats.total);
    return stats;
}

uint64_t trial_idle_turns(struct gyre_loop *loop, uint64_t span_ns)
{
    struct trial timeout;
    const uint64_t before = trial_stats(loop).turns;

    trial_init(&timeout, NULL, NULL);
    assert_int_equal(gyre_op_timeout(&timeout.op, loop, gyre_loop_update_now(loop) + span_ns), 0);
    assert_int_equal(trial_end(loop, &timeout), 0);
    return trial_stats(loop).turns - before;
}

void line_open(struct line *line, void (*pair_of)(int pair[2]))
{
    int pair[2];

    pair_of(pair);
    line->loop = test_loop();
    line->peer = pair[1];
    trial_attach(line->loop, &line->fd, pair[0]);
    trial_init(&line->closing, NULL, NULL);
}

void line_start_close(struct line *line, uint32_t flags)
{
    trial_init(&line->closing, NULL, NULL);
    assert_int_equal(gyre_op_close(&line->closing.op, &line->fd, flags), 0);
}

void line_close(struct line *line)
{
    if (gyre_fd_number(&line->fd) >= 0) {
        trial_close(line->loop, &line->fd);
    }
    if (line->peer >= 0) {
        assert_int_equal(close(line->peer), 0);
    }
    test_loop_end(line->loop);
}

void trial_drop_descriptor(struct trial *trial, const struct gyre_result *result)
{
    (void)trial;
    if (result->res >= 0) {
        assert_int_equal(close(result->res), 0);
    }
}
