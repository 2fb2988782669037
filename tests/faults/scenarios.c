/*
 * Small lives that come to their end in order whatever fails: the strict cases of torture.c. Each
 * begins a few things on a loop; when they have done what they are for, or an error was told, or
 * patience is over, everything is ended; the loop is run until nothing is left and destroyed.
 *
 *     begin -> [done | told | patience] -> end -> run until empty -> destroy
 *
 * If patience ends although no error was told, something was lost: that fails the case. So does
 * anything that is left behind.
 */
#include "faults/torture.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LEN = 40000, TRIES = 5, PATIENCE_MS = 1500, STREAMS = 8 };

/* Of a stream that cannot send any more, too: less than patience. */
#define CLOSE_NS (100 * GYRE_MSEC)

static struct {
    struct gyre_loop *loop;
    struct gyre_timer patience;
    void (*end)(void);
    int told;
    int ending;
} world;

static char bytes[LEN];

static void tell(int rc)
{
    world.told |= rc < 0;
}

/* Ends everything, once, if it is time to. */
static void end_if(int done)
{
    if ((done || world.told) && !world.ending) {
        world.ending = 1;
        gyre_timer_stop(&world.patience);
        world.end();
    }
}

static void on_patience(struct gyre_timer *timer)
{
    (void)timer;
    assert_true(world.told); /* or nothing failed, and yet it does not go on */
    end_if(1);
}

static void run_until_empty(void)
{
    int rc = -1;

    for (int i = 0; rc < 0 && i < TRIES; i++) {
        rc = gyre_loop_run(world.loop, GYRE_RUN_DEFAULT);
        tell(rc);
        end_if(0);
    }
    assert_int_equal(rc, 0);
}

static void live(int (*begin)(void), void (*end)(void))
{
    const struct gyre_loop_options options = test_options();

    memset(&world, 0, sizeof(world));
    world.end = end;
    if (gyre_loop_create(&world.loop, &options) < 0) {
        return;
    }
    tell(gyre_timer_init(&world.patience, world.loop, on_patience));
    tell(gyre_timer_start(&world.patience, PATIENCE_MS * GYRE_MSEC));
    tell(begin());
    end_if(0);
    run_until_empty();
    assert_int_equal(gyre_loop_destroy(world.loop), 0);
}

/* ---- a loop, and what needs no descriptor ---- */

static void loop_begins_and_ends(void)
{
    const struct gyre_loop_options options = test_options();

    if (gyre_loop_create(&world.loop, &options) == 0) {
        for (int i = 0; i < TRIES && gyre_loop_run(world.loop, GYRE_RUN_NOWAIT) < 0; i++) {
        }
        assert_int_equal(gyre_loop_destroy(world.loop), 0);
    }
}

static struct gyre_timer timers[100];
static int fired, posted;

static void nothing(void)
{
}

static void on_timer(struct gyre_timer *timer)
{
    (void)timer;
    fired++;
    end_if(fired + posted == 101);
}

static void on_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    posted++;
    end_if(fired + posted == 101);
}

static void *post_one(void *out_rc)
{
    *(int *)out_rc = gyre_loop_post(world.loop, on_post, NULL);
    return NULL;
}

static int begin_timers(void)
{
    pthread_t thread;
    int rc = 0;

    fired = posted = 0;
    for (int i = 0; i < 100; i++) {
        tell(gyre_timer_init(&timers[i], world.loop, on_timer));
        tell(gyre_timer_start(&timers[i], (uint64_t)(1 + i % 7) * GYRE_MSEC));
    }
    assert_int_equal(pthread_create(&thread, NULL, post_one, &rc), 0);
    pthread_join(thread, NULL);
    return rc;
}

static void timers_and_posts(void)
{
    live(begin_timers, nothing);
}

/* ---- streams ---- */

static struct gyre_stream streams[STREAMS];
static int is_open[STREAMS];
static int accepted; /* streams of the listener that are open */
static size_t received;
static struct gyre_listener listener;
static int listening;
static size_t goal = LEN; /* bytes that come back */

static void end_streams(void)
{
    if (listening) {
        assert_int_equal(gyre_listener_reset(&listener), 0);
    }
    for (int i = 0; i < STREAMS; i++) {
        if (is_open[i]) {
            assert_int_equal(gyre_stream_reset(&streams[i]), 0);
        }
    }
}

static void on_echo(struct gyre_stream *stream, const struct gyre_lease *data)
{
    tell(gyre_stream_forward(stream, data));
}

static void on_accepted(struct gyre_stream *stream)
{
    (void)stream;
    accepted++;
}

static void on_accepted_close(struct gyre_stream *stream, int error)
{
    (void)stream;
    tell(error);
    accepted--;
    end_if(0);
}

static const struct gyre_stream_handler echo = {.on_open = on_accepted,
                                                .on_data = on_echo,
                                                .on_close = on_accepted_close,
                                                .close_timeout_ns = CLOSE_NS};

static void on_listener_close(struct gyre_listener *closed, int error)
{
    (void)closed;
    assert_true(listening && accepted == 0);
    listening = 0;
    tell(error);
    end_if(0);
}

static void client_open(struct gyre_stream *stream)
{
    tell(gyre_stream_write(stream, bytes, LEN));
    end_if(0);
}

static void client_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    (void)stream;
    received += data->len;
    end_if(received == goal);
}

static void client_close(struct gyre_stream *stream, int error)
{
    const size_t index = (size_t)(stream - streams);

    assert_true(is_open[index]);
    is_open[index] = 0;
    tell(error);
    if (!world.ending) {
        tell(-EPIPE); /* it had more to do */
    }
    end_if(0);
}

static const struct gyre_stream_handler client = {.on_open = client_open,
                                                  .on_data = client_data,
                                                  .on_close = client_close,
                                                  .close_timeout_ns = CLOSE_NS};

static int open_listener(size_t max_connections, struct gyre_addr *out_addr)
{
    const struct gyre_listener_options options = {
        .handler = &echo, .on_close = on_listener_close, .max_connections = max_connections};
    const int rc = gyre_listen(world.loop, &listener, "127.0.0.1:0", &options);

    received = 0;
    listening = rc == 0;
    return rc < 0 ? rc : gyre_listener_address(&listener, out_addr);
}

static int open_client(int index, const struct gyre_addr *to)
{
    const int rc = gyre_stream_connect(&streams[index], world.loop, to, &client);

    is_open[index] = rc == 0;
    return rc;
}

static int begin_echo(void)
{
    struct gyre_addr to;
    int rc = open_listener(0, &to);

    goal = LEN;
    return rc < 0 ? rc : open_client(0, &to);
}

static void stream_is_echoed(void)
{
    live(begin_echo, end_streams);
}

static int begin_crowd(void)
{
    struct gyre_addr to;
    int rc = open_listener(3, &to);

    goal = 3 * LEN; /* the others wait until one of these ends */
    for (int i = 0; rc == 0 && i < STREAMS; i++) {
        rc = open_client(i, &to);
    }
    return rc;
}

static void listener_is_at_its_limit(void)
{
    live(begin_crowd, end_streams);
}

/* Nobody listens there: an error comes in any case. */
static int begin_refused(void)
{
    struct gyre_addr to;
    int rc = open_listener(0, &to);

    goal = LEN;
    rc = rc < 0 ? rc : gyre_listener_reset(&listener);
    return rc < 0 ? rc : open_client(0, &to);
}

static void connect_is_refused(void)
{
    live(begin_refused, end_streams);
    assert_true(world.told || world.loop == NULL);
}

/* ---- streams on pairs of sockets: 0 - 1 coupled with 2 - 3, which echoes ---- */

static void on_relay(struct gyre_stream *stream, const struct gyre_lease *data)
{
    tell(gyre_stream_forward(&streams[stream == &streams[1] ? 2 : 1], data));
    end_if(0);
}

static const struct gyre_stream_handler relay = {
    .on_data = on_relay, .on_close = client_close, .close_timeout_ns = CLOSE_NS};
static const struct gyre_stream_handler mirror = {
    .on_data = on_echo, .on_close = client_close, .close_timeout_ns = CLOSE_NS};

static int adopt_pair(int index, const struct gyre_stream_handler *first,
                      const struct gyre_stream_handler *second)
{
    int pair[2];
    int rc;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    rc = gyre_stream_adopt(&streams[index + 1], world.loop, pair[1], second);
    is_open[index + 1] = rc == 0;
    if (rc < 0) {
        close(pair[0]);
        close(pair[1]);
        return rc;
    }
    rc = gyre_stream_adopt(&streams[index], world.loop, pair[0], first);
    is_open[index] = rc == 0;
    if (rc < 0) {
        close(pair[0]);
    }
    return rc;
}

static int begin_proxy(void)
{
    int rc = adopt_pair(2, &relay, &mirror);

    received = 0;
    goal = LEN;
    rc = rc < 0 ? rc : adopt_pair(0, &client, &relay);
    return rc < 0 ? rc : gyre_stream_couple(&streams[1], &streams[2]);
}

static void proxy_relays_both_ways(void)
{
    live(begin_proxy, end_streams);
}

/* ---- descriptors over a Unix socket ---- */

static void giver_open(struct gyre_stream *stream)
{
    const int number = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
    const int rc = gyre_stream_write_descriptors(stream, "x", 1, &number, 1);

    close(number); /* the stream has duplicates */
    tell(rc);
    end_if(0);
}

static void taker_descriptors(struct gyre_stream *stream, size_t count)
{
    int number;

    if (count == 1 && gyre_stream_take_descriptors(stream, &number, 1) == 1) {
        assert_true(fcntl(number, F_GETFD) & FD_CLOEXEC);
        close(number);
    } else {
        tell(-EMFILE);
    }
}

static void taker_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    (void)stream;
    (void)data;
    end_if(1);
}

static const struct gyre_stream_handler giver = {
    .on_open = giver_open, .on_close = client_close, .close_timeout_ns = CLOSE_NS};
static const struct gyre_stream_handler taker = {.on_data = taker_data,
                                                 .on_descriptors = taker_descriptors,
                                                 .on_close = client_close,
                                                 .close_timeout_ns = CLOSE_NS,
                                                 .flags = GYRE_STREAM_DESCRIPTORS};

static int begin_descriptors(void)
{
    return adopt_pair(0, &giver, &taker);
}

static void descriptors_are_passed(void)
{
    live(begin_descriptors, end_streams);
}

/* ---- bytes that are kept, and memory that is lent ---- */

static struct gyre_lease kept[64];
static size_t kept_count;

static void keeper_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    (void)stream;
    received += data->len;
    if (kept_count < TEST_COUNT(kept)) {
        const int rc = gyre_lease_retain(data, &kept[kept_count]);

        tell(rc);
        kept_count += rc == 0;
    }
    end_if(received == goal);
}

static void on_release(void *context)
{
    (*(int *)context)--;
}

static int lent;

static void lender_open(struct gyre_stream *stream)
{
    for (int i = 0; i < 3; i++) {
        const int rc = gyre_stream_write_ref(stream, bytes, LEN, on_release, &lent);

        tell(rc);
        lent += rc >= 0;
    }
    end_if(0);
}

static void end_kept(void)
{
    while (kept_count > 0) {
        gyre_lease_release(&kept[--kept_count]);
    }
    end_streams();
}

static const struct gyre_stream_handler keeper = {
    .on_data = keeper_data, .on_close = client_close, .close_timeout_ns = CLOSE_NS};
static const struct gyre_stream_handler lender = {
    .on_open = lender_open, .on_close = client_close, .close_timeout_ns = CLOSE_NS};

static int begin_kept(void)
{
    received = 0;
    goal = 3 * LEN;
    kept_count = 0;
    lent = 0;
    return adopt_pair(0, &lender, &keeper);
}

static void bytes_are_kept_and_lent(void)
{
    live(begin_kept, end_kept);
    assert_int_equal(lent, 0);
}

/* ---- datagrams ---- */

static struct gyre_dgram dgram;
static int bound;

static void on_datagram(struct gyre_dgram *from, const struct gyre_datagram *datagram)
{
    received++;
    assert_int_equal(datagram->len, 5);
    if (received == 1) {
        tell(gyre_dgram_reply(from, datagram, "again", 5));
    }
    end_if(received == 2);
}

static void on_dgram_error(struct gyre_dgram *from, int error, const struct gyre_addr *to)
{
    (void)from;
    (void)to;
    tell(error);
    end_if(0);
}

static void on_dgram_close(struct gyre_dgram *closed)
{
    (void)closed;
    assert_true(bound);
    bound = 0;
    end_if(0);
}

static void end_dgram(void)
{
    if (bound) {
        (void)gyre_dgram_close(&dgram); /* it may be closing already */
    }
}

static int begin_dgram(void)
{
    static const struct gyre_dgram_handler handler = {
        .on_datagram = on_datagram, .on_error = on_dgram_error, .on_close = on_dgram_close};
    struct gyre_addr address;
    int rc = gyre_addr_parse("127.0.0.1:0", &address);
    const struct gyre_dgram_options options = {
        .handler = &handler, .local = &address, .flags = GYRE_DGRAM_PACKET_INFO | GYRE_DGRAM_TTL};

    received = 0;
    rc = rc < 0 ? rc : gyre_dgram_open(&dgram, world.loop, &options);
    bound = rc == 0;
    rc = rc < 0 ? rc : gyre_dgram_local(&dgram, &address);
    return rc < 0 ? rc : gyre_dgram_send(&dgram, &address, "hello", 5);
}

static void datagrams_go_round(void)
{
    live(begin_dgram, end_dgram);
}

/* ---- signals ---- */

static struct gyre_signal watch;
static int watching;

static void on_signal(struct gyre_signal *signal, const struct signalfd_siginfo *info)
{
    (void)signal;
    assert_int_equal(info->ssi_signo, SIGUSR1);
    end_if(1);
}

static void on_signal_close(struct gyre_signal *signal)
{
    (void)signal;
    assert_true(watching);
    watching = 0;
}

static void end_signals(void)
{
    if (watching) {
        assert_int_equal(gyre_signal_close(&watch, on_signal_close), 0);
    }
}

static int begin_signals(void)
{
    sigset_t set;
    int rc;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    rc = gyre_signal_block(&set);
    rc = rc < 0 ? rc : gyre_signal_start(&watch, world.loop, &set, on_signal);
    watching = rc == 0;
    return rc < 0 ? rc : kill(getpid(), SIGUSR1);
}

static void signals_arrive(void)
{
    live(begin_signals, end_signals);
}

/* ---- works ---- */

static struct gyre_work works[6];
static struct gyre_work_pool *pool;
static int works_left;

static void do_work(struct gyre_work *work)
{
    (void)work;
}

static void on_work_done(struct gyre_work *work, int result)
{
    (void)work;
    tell(result);
    works_left--;
    end_if(works_left == 0);
}

static int begin_works(void)
{
    const struct gyre_work_pool_options options = {0};
    int rc = gyre_work_pool_create(&pool, &options);

    works_left = 0;
    for (size_t i = 0; rc == 0 && i < TEST_COUNT(works); i++) {
        gyre_work_init(&works[i], do_work, on_work_done);
        rc = gyre_work_start(&works[i], pool, world.loop);
        works_left += rc == 0;
    }
    return rc;
}

static void works_are_done(void)
{
    pool = NULL;
    live(begin_works, nothing);
    if (pool != NULL) {
        assert_int_equal(gyre_work_pool_destroy(pool), 0);
    }
}

/* ---- a loop in a loop ---- */

static void loop_is_embedded(void)
{
    const struct gyre_loop_options options = test_options();
    struct pollfd ready = {.events = POLLIN};
    int rc = 1;

    memset(&world, 0, sizeof(world));
    world.end = end_streams;
    if (gyre_loop_create(&world.loop, &options) < 0) {
        return;
    }
    tell(gyre_timer_init(&world.patience, world.loop, on_patience));
    ready.fd = gyre_loop_fd(world.loop);
    tell(ready.fd);
    tell(begin_echo());
    end_if(0);
    /* A told dispatch that failed is made again, as of one that has to reset everything. */
    for (int i = 0; rc != 0 && i < 1000 && ready.fd >= 0; i++) {
        rc = gyre_loop_dispatch(world.loop);
        tell(rc);
        end_if(0);
        if (rc > 0) {
            assert_true(poll(&ready, 1, PATIENCE_MS) == 1);
        }
    }
    run_until_empty();
    assert_int_equal(gyre_loop_destroy(world.loop), 0);
}

int main(void)
{
    const struct test_case cases[] = {
        TEST_CASE(loop_begins_and_ends),   TEST_CASE(timers_and_posts),
        TEST_CASE(stream_is_echoed),       TEST_CASE(listener_is_at_its_limit),
        TEST_CASE(connect_is_refused),     TEST_CASE(proxy_relays_both_ways),
        TEST_CASE(descriptors_are_passed), TEST_CASE(bytes_are_kept_and_lent),
        TEST_CASE(datagrams_go_round),     TEST_CASE(signals_arrive),
        TEST_CASE(works_are_done),         TEST_CASE(loop_is_embedded),
    };

    return torture_run("torture", cases, TEST_COUNT(cases), 1);
}
