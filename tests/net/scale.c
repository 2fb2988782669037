/* Many streams: one after another, and at once, also with peers that mean no good. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHURN   10000
#define WARM_UP 2000
#define IDLE    2000

/* Memory may wander by this much, for what libc and the kernel keep; a leak of 256 bytes per
 * connection would be 2 MiB. */
#define RSS_SLACK ((size_t)1 << 20)

/* Streams without a talk each, for there are too many. */
struct crowd {
    struct gyre_loop *loop;
    struct gyre_listener listener;
    struct gyre_addr address;
    struct gyre_stream_handler handler;
    int opened;
    int closed;
    int ended; /* the listener */
};

static struct crowd *crowd_of(struct gyre_stream *stream)
{
    return gyre_container_of(gyre_stream_listener(stream), struct crowd, listener);
}

static void count_open(struct gyre_stream *stream)
{
    crowd_of(stream)->opened++;
}

static void answer(struct gyre_stream *stream, const struct gyre_lease *data)
{
    assert_true(gyre_stream_forward(stream, data) > 0);
}

static void count_close(struct gyre_stream *stream, int error)
{
    (void)error;
    crowd_of(stream)->closed++;
}

static void count_end(struct gyre_listener *listener, int error)
{
    assert_int_equal(error, 0);
    gyre_container_of(listener, struct crowd, listener)->ended++;
}

static void crowd_open(struct crowd *crowd, uint32_t most)
{
    *crowd = (struct crowd){.loop = test_loop(),
                            .handler = {.on_open = count_open,
                                        .on_data = answer,
                                        .on_close = count_close,
                                        .idle_timeout_ns = 60 * GYRE_SEC}};
    const struct gyre_listener_options options = {
        .handler = &crowd->handler, .on_close = count_end, .max_connections = most};

    assert_int_equal(gyre_listen(crowd->loop, &crowd->listener, "127.0.0.1:0", &options), 0);
    assert_int_equal(gyre_listener_address(&crowd->listener, &crowd->address), 0);
}

static void reset_one(struct gyre_stream *stream, void *context)
{
    (void)context;
    assert_int_equal(gyre_stream_reset(stream), 0);
}

static void crowd_close(struct crowd *crowd)
{
    gyre_listener_each(&crowd->listener, reset_one, NULL);
    assert_int_equal(gyre_listener_close(&crowd->listener), 0);
    test_turns_until(crowd->loop, &crowd->ended);
    assert_int_equal(crowd->opened, crowd->closed);
    test_loop_end(crowd->loop);
}

/* F10, H05: connections one after another leave nothing behind. */
static void churn_of_connections_leaves_memory_and_descriptors_flat(void)
{
    struct crowd crowd;
    size_t resident = 0;
    size_t live = 0;
    size_t descriptors = 0;

    crowd_open(&crowd, 0);
    for (int i = 1; i <= CHURN; i++) {
        const int client = test_connect(&crowd.address.in);

        wire_send_stream(client, 64, 0);
        talk_until_sent(crowd.loop, client, 64, 0);
        if (i % 3 == 0) {
            close(client);
        } else {
            wire_reset(client);
        }
        test_turns_until_count(crowd.loop, &crowd.closed, i);
        if (i == WARM_UP) {
            resident = test_resident();
            live = gyre_allocator_live();
            descriptors = test_open_fds();
        }
    }
    assert_int_equal(gyre_allocator_live(), live);
    assert_int_equal(test_open_fds(), descriptors);
    assert_true(test_resident() <= resident + RSS_SLACK);
    crowd_close(&crowd);
}

/* H04: idle streams hold no buffer, cost no turns, and do not slow others down. */
static void idle_crowd_costs_little_and_nothing_per_turn(void)
{
    struct crowd crowd;
    static int clients[IDLE];

    wire_raise_descriptors(2 * IDLE + 64);
    crowd_open(&crowd, 0);
    const int first = test_connect(&crowd.address.in);
    wire_send_stream(first, 64, 0);
    talk_until_sent(crowd.loop, first, 64, 0);
    const size_t live = gyre_allocator_live();
    for (int i = 0; i < IDLE; i++) {
        clients[i] = test_connect(&crowd.address.in);
        if (i % 100 == 0) {
            trial_turns(crowd.loop, 2);
        }
    }
    test_turns_until_count(crowd.loop, &crowd.opened, IDLE + 1);
    assert_true(gyre_allocator_live() - live < IDLE / 20); /* pages of many */
    assert_int_equal(trial_pool(crowd.loop).lent, 0);
    assert_true(trial_idle_turns(crowd.loop, 100 * GYRE_MSEC) < 30);
    wire_send_stream(first, 64, 64);
    talk_until_sent(crowd.loop, first, 64, 64);
    close(first);
    for (int i = 0; i < IDLE; i++) {
        close(clients[i]);
    }
    test_turns_until_count(crowd.loop, &crowd.closed, IDLE + 1);
    crowd_close(&crowd);
}

/* H06 */
static void flood_over_the_maximum_is_served_in_the_end(void)
{
    struct crowd crowd;
    int clients[250];

    wire_raise_descriptors(600);
    crowd_open(&crowd, 50);
    for (int i = 0; i < 250; i++) {
        clients[i] = test_connect(&crowd.address.in);
    }
    for (int i = 0; i < 250; i++) {
        assert_true(gyre_listener_count(&crowd.listener) <= 50);
        wire_send_stream(clients[i], 64, 0);
        talk_until_sent(crowd.loop, clients[i], 64, 0);
        close(clients[i]);
    }
    test_turns_until_count(crowd.loop, &crowd.closed, 250);
    crowd_close(&crowd);
}

struct pumped {
    struct talk talk;
    int peer;
};

static void pump(struct talk *talk)
{
    while (gyre_stream_writable(talk->stream)) {
        static const uint8_t block[16384];

        assert_true(gyre_stream_write(talk->stream, block, sizeof block) > 0);
    }
}

/* B02: who heeds gyre_stream_writable() is bounded, however many do not read. */
static void stalled_readers_are_bounded(void)
{
    enum { ALL = 50 };
    struct gyre_loop *loop = test_loop();
    struct pumped *all = calloc(ALL, sizeof *all);
    const size_t before = test_resident();

    assert_non_null(all);
    for (int i = 0; i < ALL; i++) {
        int pair[2];

        test_unix_pair(pair);
        all[i].peer = pair[1];
        talk_init(&all[i].talk);
        all[i].talk.then[TALK_OPEN] = pump;
        all[i].talk.then[TALK_DRAIN] = pump;
        all[i].talk.handler.write_high = 64 << 10;
        talk_adopt(&all[i].talk, loop, pair[0]);
    }
    for (int round = 0; round < 300; round++) {
        trial_turns(loop, 1);
        for (int i = 0; i < ALL; i += 10) {
            wire_drain(all[i].peer);
        }
        for (int i = 0; i < ALL; i++) {
            assert_in_range(gyre_stream_queued(all[i].talk.stream), 0, (64 << 10) + 16384);
        }
    }
    assert_true(all[0].talk.count[TALK_DRAIN] > 10);
    assert_true(test_resident() <= before + ALL * ((size_t)160 << 10) + ((size_t)4 << 20));
    for (int i = 0; i < ALL; i++) {
        talk_reset(&all[i].talk);
        talk_end(loop, &all[i].talk);
        close(all[i].peer);
    }
    free(all);
    test_loop_end(loop);
}

/* B05, B06: the pool is small and everybody keeps; all bytes come in the end, without spinning. */
static void small_pool_serves_many_flooding_peers(void)
{
    enum { ALL = 64, EACH = 256 << 10 };
    struct gyre_loop_options options = test_options();
    struct pumped *all = calloc(ALL, sizeof *all);
    static uint64_t sent[ALL];
    int left = ALL;

    assert_non_null(all);
    memset(sent, 0, sizeof sent);
    options.pool_block = 16 << 10;
    options.pool_min = 64 << 10;
    options.pool_max = 128 << 10;
    options.pool_quota = 16 << 10;
    struct gyre_loop *loop = test_loop_with(&options);
    for (int i = 0; i < ALL; i++) {
        int pair[2];

        test_tcp_pair(pair);
        all[i].peer = pair[1];
        talk_init(&all[i].talk);
        all[i].talk.position = WIRE_STREAM(i);
        talk_adopt(&all[i].talk, loop, pair[0]);
        if (i % 2) {
            talk_pause(&all[i].talk); /* these fill their stashes first */
        }
    }
    for (int round = 0; left > 0; round++) {
        left = 0;
        for (int i = 0; i < ALL; i++) {
            uint8_t data[4096];

            if (sent[i] < EACH) {
                wire_fill(data, sizeof data, WIRE_STREAM(i) + sent[i]);
                const ssize_t got =
                    send(all[i].peer, data, sizeof data, MSG_DONTWAIT | MSG_NOSIGNAL);
                sent[i] += got > 0 ? (uint64_t)got : 0;
            }
            left += all[i].talk.received < EACH && all[i].talk.count[TALK_CLOSE] == 0;
        }
        trial_turns(loop, 1);
        if (round == 100) {
            for (int i = 1; i < ALL; i += 2) {
                talk_resume(&all[i].talk);
            }
        }
    }
    for (int i = 0; i < ALL; i++) {
        talk_reset(&all[i].talk);
        talk_end(loop, &all[i].talk);
        close(all[i].peer);
    }
    free(all);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"churn_of_connections_leaves_memory_and_descriptors_flat",
         churn_of_connections_leaves_memory_and_descriptors_flat, 60},
        {"idle_crowd_costs_little_and_nothing_per_turn",
         idle_crowd_costs_little_and_nothing_per_turn, 30},
        TEST_CASE(flood_over_the_maximum_is_served_in_the_end),
        TEST_CASE(stalled_readers_are_bounded),
        TEST_CASE(small_pool_serves_many_flooding_peers),
    };

    return test_main("net-scale", cases, TEST_COUNT(cases));
}
