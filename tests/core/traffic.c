/*
 * A byte that goes back and forth: see traffic.h. End 0 begins; end 1 returns what it gets. An end
 * answers when it has received a byte and its own send has completed, in whichever order the two
 * callbacks come.
 */
#include "core/traffic.h"

#include <errno.h>

static void send_byte(struct traffic_end *end, uint8_t byte)
{
    end->out = byte;
    assert_int_equal(gyre_op_send(&end->send, &end->fd, &end->out, 1), 0);
}

static void receive_byte(struct traffic_end *end)
{
    assert_int_equal(gyre_op_recv(&end->recv, &end->fd, &end->in, 1, 0), 0);
}

static void count_round(struct traffic_end *end)
{
    struct traffic *traffic = end->traffic;

    assert_int_equal(end->in, (uint8_t)traffic->rounds);
    traffic->rounds++;
    traffic->done = traffic->rounds >= traffic->goal;
    if (!traffic->done) {
        send_byte(end, (uint8_t)traffic->rounds);
        receive_byte(end);
    }
}

static void answer(struct traffic_end *end)
{
    struct traffic *traffic = end->traffic;

    if (!end->received || gyre_op_active(&end->send) || traffic->closing) {
        return;
    }
    end->received = 0;
    if (end == &traffic->ends[0]) {
        count_round(end);
        return;
    }
    send_byte(end, end->in);
    if (traffic->rounds + 1 < traffic->goal) {
        receive_byte(end);
    }
}

static void on_sent(struct gyre_op *op, const struct gyre_result *result)
{
    assert_int_equal(result->res, 1);
    assert_int_equal(result->flags, 0);
    answer(gyre_container_of(op, struct traffic_end, send));
}

static void on_received(struct gyre_op *op, const struct gyre_result *result)
{
    struct traffic_end *end = gyre_container_of(op, struct traffic_end, recv);

    assert_int_equal(result->flags, 0);
    if (result->res == -ECANCELED && end->traffic->closing) {
        return;
    }
    assert_int_equal(result->res, 1);
    end->received = 1;
    answer(end);
}

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct traffic_end *end = gyre_container_of(op, struct traffic_end, close);

    assert_int_equal(result->res, 0);
    end->traffic->closed++;
}

void traffic_start(struct traffic *traffic, struct gyre_loop *loop, int goal)
{
    int pair[2];
    int i;

    *traffic = (struct traffic){.loop = loop, .goal = goal};
    test_tcp_pair(pair);
    for (i = 0; i < 2; i++) {
        struct traffic_end *end = &traffic->ends[i];

        end->traffic = traffic;
        assert_int_equal(gyre_fd_init(&end->fd, loop, pair[i]), 0);
        gyre_op_init(&end->recv, on_received);
        gyre_op_init(&end->send, on_sent);
        gyre_op_init(&end->close, on_closed);
        receive_byte(end);
    }
    send_byte(&traffic->ends[0], 0);
}

/* Flushed, so that no send is cut off on its way. */
void traffic_close(struct traffic *traffic)
{
    int i;

    traffic->closing = 1;
    for (i = 0; i < 2; i++) {
        struct traffic_end *end = &traffic->ends[i];

        assert_int_equal(gyre_op_close(&end->close, &end->fd, GYRE_CLOSE_FLUSH), 0);
    }
    test_turns_until_count(traffic->loop, &traffic->closed, 2);
}

void traffic_check(struct gyre_loop *loop, int goal)
{
    struct traffic traffic;

    traffic_start(&traffic, loop, goal);
    test_turns_until(loop, &traffic.done);
    assert_int_equal(traffic.rounds, goal);
    traffic_close(&traffic);
}
