/* Listeners: bursts, limits, pauses, their end, and what they refuse. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define BURST 500

static void echo(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) >= 0);
}

static void close_talk(struct talk *talk)
{
    talk_close(talk);
}

static void check_echo_again(struct host *host, int client, uint64_t position)
{
    wire_send_stream(client, 1000, position);
    talk_until_sent(host->loop, client, 1000, position);
}

static void check_echo(struct host *host, int client)
{
    check_echo_again(host, client, 0);
}

/* A01, A17 */
static void listener_accepts_and_streams_talk(void)
{
    struct host host;

    host_prepare(&host, 1);
    host.then[TALK_DATA] = echo;
    host.then[TALK_EOF] = close_talk;
    host_listen(&host, NULL);
    const int client = host_dial(&host);
    check_echo(&host, client);
    struct gyre_stream *stream = host.talks[0].stream;
    assert_ptr_equal(gyre_stream_listener(stream), &host.listener);
    assert_ptr_equal(gyre_stream_loop(stream), host.loop);
    assert_ptr_equal(gyre_stream_of_ext(gyre_stream_ext(stream)), stream);
    assert_int_equal((uintptr_t)gyre_stream_ext(stream) % _Alignof(max_align_t), 0);
    assert_int_equal(fcntl(gyre_stream_number(stream), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(gyre_listener_number(&host.listener), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(gyre_listener_count(&host.listener), 1);
    close(client);
    test_turns_until_count(host.loop, &host.ended, 1);
    assert_int_equal(host.talks[0].error, 0);
    assert_int_equal(gyre_listener_count(&host.listener), 0);
    host_end(&host);
}

/* A02: they came while nobody looked. */
static void listener_serves_a_burst_each_once(void)
{
    struct host host;
    int clients[BURST];

    wire_raise_descriptors(2 * BURST + 64);
    host_prepare(&host, BURST);
    host.then[TALK_DATA] = echo;
    host_listen(&host, NULL);
    for (int i = 0; i < BURST; i++) {
        clients[i] = host_dial(&host);
        wire_send_stream(clients[i], 100, WIRE_STREAM(0));
    }
    test_turns_until_count(host.loop, &host.opened, BURST);
    for (int i = 0; i < BURST; i++) {
        talk_until_sent(host.loop, clients[i], 100, WIRE_STREAM(0));
        close(clients[i]);
    }
    test_turns_until_count(host.loop, &host.opened, BURST);
    assert_int_equal(gyre_listener_count(&host.listener), BURST);
    host_end(&host);
}

static void ext_is_zeroed_for_each_stream_and(struct talk *talk)
{
    uint8_t *more = (uint8_t *)gyre_stream_ext(talk->stream) + sizeof(struct talk *);

    for (int i = 0; i < 1000; i++) {
        assert_int_equal(more[i], 0);
    }
    memset(more, 0xaa, 1000);
    talk_reset(talk);
}

static void ext_is_zeroed_for_each_stream(void)
{
    struct host host;

    host_prepare(&host, 5);
    host.options.ext_size = sizeof(struct talk *) + 1000;
    host.then[TALK_OPEN] = ext_is_zeroed_for_each_stream_and;
    host_listen(&host, NULL);
    for (int i = 1; i <= 5; i++) {
        const int client = host_dial(&host);

        test_turns_until_count(host.loop, &host.ended, i);
        close(client);
    }
    host_end(&host);
}

/* A15: "the rest waits in the backlog". */
static void listener_at_its_maximum_parks_the_rest(void)
{
    enum { MOST = 4, ALL = 20 };
    struct host host;
    int clients[ALL];

    host_prepare(&host, ALL);
    host.options.max_connections = MOST;
    host.then[TALK_DATA] = echo;
    host.then[TALK_EOF] = close_talk;
    host_listen(&host, NULL);
    for (int i = 0; i < ALL; i++) {
        clients[i] = host_dial(&host);
    }
    for (int i = 0; i < ALL; i++) {
        assert_true(gyre_listener_count(&host.listener) <= MOST);
        check_echo(&host, clients[i]);
        close(clients[i]);
    }
    assert_int_equal(host.opened, ALL);
    assert_int_equal(trial_stats(host.loop).sheds, 0);
    host_end(&host);
}

/* One after another, so that nothing is accepted beyond the maximum. */
static void listener_at_its_maximum_accepts_again_after_an_end(void)
{
    struct host host;
    int clients[6];

    host_prepare(&host, 6);
    host.options.max_connections = 2;
    host.then[TALK_DATA] = echo;
    host.then[TALK_EOF] = close_talk;
    host_listen(&host, NULL);
    for (int i = 0; i < 2; i++) {
        clients[i] = host_dial(&host);
        check_echo(&host, clients[i]);
    }
    for (int i = 2; i < 6; i++) {
        trial_turns(host.loop, 5);
        clients[i] = host_dial(&host);
        trial_turns(host.loop, 5);
        assert_int_equal(host.opened, i);
        assert_int_equal(gyre_listener_count(&host.listener), 2);
        close(clients[i - 2]);
        check_echo(&host, clients[i]);
    }
    assert_true(trial_idle_turns(host.loop, 20 * GYRE_MSEC) < 20);
    close(clients[4]);
    close(clients[5]);
    host_end(&host);
}

/* A04 */
static void listener_pause_leaves_connections_in_the_backlog(void)
{
    struct host host;
    int clients[10];

    host_open(&host, 10);
    trial_turns(host.loop, 3);
    assert_int_equal(gyre_listener_pause(&host.listener), 0);
    assert_int_equal(gyre_listener_pause(&host.listener), 0);
    trial_turns(host.loop, 5);
    for (int i = 0; i < 10; i++) {
        clients[i] = host_dial(&host);
    }
    trial_turns(host.loop, 10);
    assert_int_equal(host.opened, 0);
    assert_int_equal(gyre_listener_resume(&host.listener), 0);
    assert_int_equal(gyre_listener_resume(&host.listener), 0);
    test_turns_until_count(host.loop, &host.opened, 10);
    assert_int_equal(trial_stats(host.loop).sheds, 0);
    for (int i = 0; i < 10; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

/* What waits at the maximum is closed with the listener. */
static void close_at_the_maximum_ends_those_that_waited(void)
{
    struct host host;
    int clients[20];

    host_prepare(&host, 20);
    host.options.max_connections = 4;
    host_listen(&host, NULL);
    for (int i = 0; i < 20; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, 4);
    trial_turns(host.loop, 5);
    assert_int_equal(gyre_listener_drain(&host.listener), 0);
    for (int i = 0; i < 4; i++) {
        host.talks[i].ending = 1;
    }
    for (int i = 0; i < 20; i++) {
        trial_turns(host.loop, 1);
        (void)wire_expect_end(clients[i]);
        close(clients[i]);
    }
    test_turns_until(host.loop, &host.closes);
    assert_int_equal(host.opened, 4);
    host_end(&host);
}

/* A multishot accept that was begun far from the maximum takes what comes in a turn, and the last
 * may be one too many. Returns with the maximum of streams open and one client more connected. */
static void host_overfill(struct host *host, int clients[4])
{
    host_prepare(host, 4);
    host->options.max_connections = 3;
    host->options.backlog = 1; /* so that a maximum of three is far */
    host->then[TALK_DATA] = echo;
    host->then[TALK_EOF] = close_talk;
    host_listen(host, NULL);
    for (int i = 0; i < 4; i += 2) {
        clients[i] = host_dial(host);
        clients[i + 1] = host_dial(host);
        test_turns_until_count(host->loop, &host->opened, i == 0 ? 2 : 3);
    }
    trial_turns(host->loop, 5);
    assert_int_equal(host->opened, 3);
    assert_int_equal(gyre_listener_count(&host->listener), 3);
}

static void connection_accepted_beyond_the_maximum_waits_for_a_place(void)
{
    struct host host;
    int clients[4];

    host_overfill(&host, clients);
    check_echo(&host, clients[2]);
    close(clients[0]);
    check_echo(&host, clients[3]);
    for (int i = 1; i < 4; i++) {
        close(clients[i]);
    }
    assert_int_equal(trial_stats(host.loop).sheds, 0);
    host_end(&host);
}

static void close_ends_a_connection_accepted_beyond_the_maximum(void)
{
    struct host host;
    int clients[4];

    host_overfill(&host, clients);
    assert_int_equal(gyre_listener_close(&host.listener), 0);
    trial_turns(host.loop, 5);
    (void)wire_expect_end(clients[3]);
    assert_int_equal(host.opened, 3);
    for (int i = 0; i < 4; i++) {
        close(clients[i]);
    }
    test_turns_until(host.loop, &host.closes);
    host_end(&host);
}

static void pause_listener(struct talk *talk)
{
    assert_int_equal(gyre_listener_pause(&talk->host->listener), 0);
}

/* "Connections that had been accepted already may still open": or wait, but are not lost. */
static void listener_pause_loses_no_connection(void)
{
    struct host host;
    int clients[20];

    host_prepare(&host, 20);
    host.then[TALK_OPEN] = pause_listener;
    host.then[TALK_DATA] = echo;
    host_listen(&host, NULL);
    for (int i = 0; i < 20; i++) {
        clients[i] = host_dial(&host);
    }
    trial_turns(host.loop, 20);
    memset(host.then, 0, sizeof host.then);
    host.then[TALK_DATA] = echo;
    assert_int_equal(gyre_listener_resume(&host.listener), 0);
    for (int i = 0; i < 20; i++) {
        check_echo(&host, clients[i]);
        close(clients[i]);
    }
    assert_int_equal(host.opened, 20);
    host_end(&host);
}

static void resume_listener(struct talk *talk)
{
    pause_listener(talk);
    assert_int_equal(gyre_listener_resume(&talk->host->listener), 0);
}

static void listener_paused_and_resumed_in_on_open_loses_no_connection(void)
{
    struct host host;
    int clients[20];

    host_prepare(&host, 20);
    host.then[TALK_OPEN] = resume_listener;
    host_listen(&host, NULL);
    for (int i = 0; i < 20; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, 20);
    for (int i = 0; i < 20; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

/* A05 */
static void close_with_a_backlog_ends_the_clients_that_waited(void)
{
    struct host host;
    int clients[10];

    host_open(&host, 10);
    assert_int_equal(gyre_listener_pause(&host.listener), 0);
    trial_turns(host.loop, 5);
    for (int i = 0; i < 10; i++) {
        clients[i] = host_dial(&host);
    }
    host_close(&host);
    assert_int_equal(host.opened, 0);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(wire_expect_end(clients[i]), -ECONNRESET);
        close(clients[i]);
    }
    host_end(&host);
}

/* A03 */
static void close_versus_connect_leaks_nothing(void)
{
    for (int i = 0; i < 500; i++) {
        struct host host;

        host_open(&host, 1);
        const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(client, &host.address.any, host.address.len);
        trial_turns(host.loop, i % 4);
        assert_int_equal(gyre_listener_close(&host.listener), 0);
        trial_turns(host.loop, i % 3);
        if (host.closes == 0) {
            gyre_listener_drain(&host.listener);
        }
        close(client);
        test_turns_until(host.loop, &host.closes);
        host_end(&host);
    }
}

static void close_listener(struct talk *talk)
{
    if (talk->host->closes == 0) {
        assert_int_equal(gyre_listener_close(&talk->host->listener), 0);
    }
}

static void close_listener_and_talk(struct talk *talk)
{
    close_listener(talk);
    talk_reset(talk);
}

static void drain_listener(struct talk *talk)
{
    assert_int_equal(gyre_listener_drain(&talk->host->listener), 0);
    talk->ending = 1;
}

/* A06, X08 */
static void listener_closed_in_every_callback_ends_once(void)
{
    static const talk_fn enders[] = {close_listener, close_listener_and_talk, drain_listener};

    for (enum talk_event event = 0; event <= TALK_CLOSE; event++) {
        for (size_t i = 0; i < TEST_COUNT(enders); i++) {
            struct host host;

            if (event == TALK_DRAIN || (event == TALK_CLOSE && i > 0) ||
                (event == TALK_EOF && i == 0)) {
                continue; /* nothing drains; an ended stream cannot end again, a live one must */
            }
            host_prepare(&host, 2);
            host.then[TALK_EOF] = close_talk;
            host.then[event] = enders[i];
            host.handler.idle_timeout_ns = event == TALK_TIMEOUT ? 20 * GYRE_MSEC : 0;
            host_listen(&host, NULL);
            const int client = host_dial(&host);
            wire_send_stream(client, 100, 0);
            if (event != TALK_TIMEOUT) {
                assert_int_equal(shutdown(client, SHUT_WR), 0);
            }
            while (host.closes == 0) {
                assert_true(gyre_loop_run(host.loop, GYRE_RUN_ONCE) >= 0);
                if (host.opened > 0 && host.talks[0].ending) {
                    shutdown(client, SHUT_WR);
                }
            }
            assert_int_equal(host.opened, 1);
            assert_int_equal(host.error, 0);
            close(client);
            host_end(&host);
        }
    }
}

static void forget_listener(struct gyre_listener *listener, int error)
{
    struct host *host = gyre_container_of(listener, struct host, listener);

    assert_int_equal(error, 0);
    assert_int_equal(host->ended, host->opened);
    memset(listener, 0xdd, sizeof *listener);
    host->closes++;
}

/* X09 */
static void listener_memory_is_free_in_its_on_close(void)
{
    struct host host;

    host_prepare(&host, 3);
    host.options.on_close = forget_listener;
    host_listen(&host, NULL);
    const int client = host_dial(&host);
    test_turns_until_count(host.loop, &host.opened, 1);
    assert_int_equal(gyre_listener_close(&host.listener), 0);
    trial_turns(host.loop, 5);
    assert_int_equal(host.closes, 0); /* its stream goes on */
    assert_int_equal(gyre_listener_close(&host.listener), 0);
    assert_int_equal(gyre_listener_pause(&host.listener), GYRE_ECLOSING);
    assert_int_equal(gyre_listener_resume(&host.listener), GYRE_ECLOSING);
    assert_int_equal(gyre_listener_number(&host.listener), -EBADF);
    wire_send_stream(client, 100, 0);
    talk_until_received(host.loop, &host.talks[0], 100);
    talk_reset(&host.talks[0]);
    test_turns_until(host.loop, &host.closes);
    close(client);
    host_end(&host);
}

/* X16 */
static void drain_lets_every_stream_end_in_order(void)
{
    enum { ALL = 50 };
    struct host host;
    int clients[ALL];

    host_open(&host, ALL);
    for (int i = 0; i < ALL; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, ALL);
    for (int i = 0; i < ALL; i++) {
        assert_true(talk_write(&host.talks[i], 10000) > 0);
    }
    assert_int_equal(gyre_listener_drain(&host.listener), 0);
    assert_int_equal(gyre_listener_drain(&host.listener), 0);
    for (int i = 0; i < ALL; i++) {
        host.talks[i].ending = 1;
        talk_until_sent(host.loop, clients[i], 10000, 0);
        trial_turns(host.loop, 3);
        assert_int_equal(wire_expect_end(clients[i]), 0);
        close(clients[i]);
    }
    test_turns_until(host.loop, &host.closes);
    for (int i = 0; i < ALL; i++) {
        assert_int_equal(host.talks[i].error, 0);
    }
    host_end(&host);
}

/* Peers that do not close by themselves: a drain would wait for them. */
static void reset_ends_a_drain_at_once(void)
{
    enum { ALL = 5 };
    struct host host;
    int clients[ALL];

    host_open(&host, ALL);
    for (int i = 0; i < ALL; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, ALL);
    assert_int_equal(gyre_listener_drain(&host.listener), 0);
    for (int i = 0; i < ALL; i++) {
        host.talks[i].ending = 1;
    }
    trial_turns(host.loop, 5);
    assert_int_equal(host.closes, 0);
    assert_int_equal(gyre_listener_reset(&host.listener), 0);
    test_turns_until(host.loop, &host.closes);
    for (int i = 0; i < ALL; i++) {
        close(clients[i]);
    }
    assert_int_equal(gyre_listener_reset(&host.listener), -EINVAL);
    host_end(&host);
}

static void count_one(struct gyre_stream *stream, void *context)
{
    int *counted = context;

    assert_non_null(gyre_stream_listener(stream));
    (*counted)++;
    if (*counted % 2) {
        gyre_stream_reset(stream);
    }
}

static void each_visits_the_open_streams_once(void)
{
    enum { ALL = 300 };
    struct host host;
    int clients[ALL];
    int counted = 0;

    wire_raise_descriptors(2 * ALL + 64);
    host_open(&host, ALL);
    gyre_listener_each(&host.listener, count_one, &counted);
    assert_int_equal(counted, 0);
    for (int i = 0; i < ALL; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, ALL);
    gyre_listener_each(&host.listener, count_one, &counted);
    assert_int_equal(counted, ALL);
    test_turns_until_count(host.loop, &host.ended, ALL / 2);
    counted = 0;
    gyre_listener_each(&host.listener, count_one, &counted);
    assert_int_equal(counted, ALL / 2);
    for (int i = 0; i < ALL; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

/* F01 */
static void listener_without_descriptors_sheds_and_recovers(void)
{
    struct host host;
    struct rlimit before;
    int held[64];
    int clients[8];
    int count = 0;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit less = {.rlim_cur = 48, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    host_prepare(&host, 64);
    host.then[TALK_DATA] = echo;
    host.options.max_connections = 64;
    host_listen(&host, NULL);
    const int first = host_dial(&host);
    check_echo(&host, first);
    for (int i = 0; i < 8; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(clients[i] >= 0);
    }
    while (count < 64 && (held[count] = fcntl(first, F_DUPFD_CLOEXEC, 0)) >= 0) {
        count++;
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(connect(clients[i], &host.address.any, host.address.len), 0);
    }
    assert_true(trial_idle_turns(host.loop, 100 * GYRE_MSEC) < 200);
    check_echo_again(&host, first, 1000); /* others are served meanwhile */
    for (int i = 0; i < 8; i++) {
        close(clients[i]);
    }
    while (count > 0) {
        close(held[--count]);
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    const int last = host_dial(&host);
    check_echo(&host, last);
    assert_true(trial_stats(host.loop).sheds > 0);
    close(first);
    close(last);
    host_end(&host);
}

/* A10 */
static void connection_reset_while_it_waited_does_no_harm(void)
{
    struct host host;

    host_prepare(&host, 21);
    host.then[TALK_DATA] = echo;
    host.then[TALK_EOF] = close_talk;
    host_listen(&host, NULL);
    for (int i = 0; i < 20; i++) {
        wire_reset(host_dial(&host));
    }
    const int client = host_dial(&host);
    check_echo(&host, client);
    close(client);
    host_end(&host);
}

/* A12 */
static void two_listeners_share_a_port(void)
{
    struct host hosts[2];
    char text[GYRE_ADDR_TEXT_MAX];
    int clients[64];

    host_prepare(&hosts[0], 64);
    hosts[0].options.flags = GYRE_LISTEN_REUSE_PORT;
    host_listen(&hosts[0], NULL);
    host_prepare(&hosts[1], 64);
    hosts[1].options.flags = GYRE_LISTEN_REUSE_PORT;
    assert_true(gyre_addr_format(&hosts[0].address, text, sizeof text) > 0);
    host_listen(&hosts[1], text);
    for (int i = 0; i < 64; i++) {
        clients[i] = host_dial(&hosts[0]);
    }
    while (hosts[0].opened + hosts[1].opened < 64) {
        trial_turns(hosts[0].loop, 1);
        trial_turns(hosts[1].loop, 1);
    }
    assert_true(hosts[0].opened > 0 && hosts[1].opened > 0);
    for (int i = 0; i < 64; i++) {
        close(clients[i]);
    }
    host_end(&hosts[1]);
    host_end(&hosts[0]);
}

/* A13 */
static void listen_reports_what_bind_refuses(void)
{
    struct host host;
    struct gyre_listener other;
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr address;

    host_open(&host, 1);
    assert_true(gyre_addr_format(&host.address, text, sizeof text) > 0);
    assert_int_equal(gyre_listen(host.loop, &other, text, &host.options), -EADDRINUSE);
    assert_int_equal(gyre_listen(host.loop, &other, "192.0.2.1:0", &host.options), -EADDRNOTAVAIL);
    assert_int_equal(gyre_listen(host.loop, &other, "nonsense", &host.options), -EINVAL);
    assert_int_equal(gyre_listen(host.loop, &other, NULL, &host.options), -EINVAL);
    assert_int_equal(gyre_listen(NULL, &other, text, &host.options), -EINVAL);
    assert_int_equal(gyre_listen(host.loop, NULL, text, &host.options), -EINVAL);
    assert_int_equal(gyre_listen(host.loop, &other, text, NULL), -EINVAL);
    assert_int_equal(gyre_listen_addr(host.loop, &other, NULL, &host.options), -EINVAL);
    address.len = 0;
    assert_int_equal(gyre_listen_addr(host.loop, &other, &address, &host.options), -EINVAL);
    struct gyre_listener_options bad = host.options;
    bad.handler = NULL;
    assert_int_equal(gyre_listen(host.loop, &other, "127.0.0.1:0", &bad), -EINVAL);
    bad = host.options;
    bad.ext_size = (64 << 10) + 1;
    assert_int_equal(gyre_listen(host.loop, &other, "127.0.0.1:0", &bad), -EINVAL);
    bad = host.options;
    bad.flags = 1u << 30;
    assert_int_equal(gyre_listen(host.loop, &other, "127.0.0.1:0", &bad), -EINVAL);
    bad = host.options;
    bad.mode = 010000;
    assert_int_equal(gyre_listen(host.loop, &other, "127.0.0.1:0", &bad), -EINVAL);
    host_end(&host);
}

static void listener_functions_refuse_what_is_no_listener(void)
{
    struct gyre_listener listener = {0};
    struct gyre_addr address;

    assert_int_equal(gyre_listener_address(NULL, &address), -EINVAL);
    assert_int_equal(gyre_listener_address(&listener, &address), -EBADF);
    assert_int_equal(gyre_listener_number(&listener), -EBADF);
    assert_int_equal(gyre_listener_pause(NULL), -EINVAL);
    assert_int_equal(gyre_listener_pause(&listener), -EINVAL);
    assert_int_equal(gyre_listener_resume(NULL), -EINVAL);
    assert_int_equal(gyre_listener_resume(&listener), -EINVAL);
    assert_int_equal(gyre_listener_close(NULL), -EINVAL);
    assert_int_equal(gyre_listener_close(&listener), -EINVAL);
    assert_int_equal(gyre_listener_drain(NULL), -EINVAL);
    assert_int_equal(gyre_listener_drain(&listener), -EINVAL);
    assert_int_equal(gyre_listener_count(&listener), 0);
}

/* A18, A14 */
static void listener_adopts_a_listening_socket_only(void)
{
    struct host host;
    struct sockaddr_in address;
    int pair[2];
    int pipe_ends[2];

    host_prepare(&host, 1);
    host.then[TALK_DATA] = echo;
    const int unbound = wire_tcp();
    const int udp = wire_udp(&address);
    wire_pipe(pipe_ends);
    test_tcp_pair(pair);
    struct gyre_listener *listener = &host.listener;
    assert_int_equal(gyre_listen_adopt(host.loop, listener, -1, &host.options), -EBADF);
    assert_int_equal(gyre_listen_adopt(host.loop, listener, unbound, &host.options), -EINVAL);
    assert_int_equal(gyre_listen_adopt(host.loop, listener, pair[0], &host.options), -EINVAL);
    assert_int_equal(gyre_listen_adopt(host.loop, listener, udp, &host.options), -EPROTOTYPE);
    assert_int_equal(gyre_listen_adopt(host.loop, listener, pipe_ends[0], &host.options),
                     -ENOTSOCK);
    const int number = test_listener(&address);
    wire_nonblocking(number);
    assert_int_equal(gyre_listen_adopt(host.loop, listener, number, &host.options), 0);
    assert_int_equal(gyre_listener_number(listener), number);
    assert_int_equal(gyre_listener_address(listener, &host.address), 0);
    const int client = host_dial(&host);
    check_echo(&host, client);
    close(client);
    close(unbound);
    close(udp);
    close(pair[0]);
    close(pair[1]);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    host_end(&host);
}

/* A service manager, or the server that handed the socket over, keeps it open: connections that come
 * while this one ends are not its own. */
static void listener_that_ends_leaves_an_inherited_socket_in_peace(void)
{
    struct host host;
    struct sockaddr_in address;

    host_prepare(&host, 2);
    const int number = test_listener(&address);
    const int managers = fcntl(number, F_DUPFD_CLOEXEC, 0);
    assert_int_equal(gyre_listen_adopt(host.loop, &host.listener, number, &host.options), 0);
    assert_int_equal(gyre_listener_address(&host.listener, &host.address), 0);
    const int client = host_dial(&host);
    test_turns_until_count(host.loop, &host.opened, 1);
    assert_int_equal(gyre_listener_close(&host.listener), 0);
    trial_turns(host.loop, 3);
    const int later = test_connect(&address);
    assert_true(trial_idle_turns(host.loop, 20 * GYRE_MSEC) <= 4);
    close(later);
    close(client);
    close(managers);
    host_end(&host);
}

/* Z08: a server can be started again at once, although its connections linger in TIME_WAIT. */
static void listener_starts_again_on_its_port(void)
{
    struct host host;
    char text[GYRE_ADDR_TEXT_MAX];

    host_open(&host, 1);
    assert_true(gyre_addr_format(&host.address, text, sizeof text) > 0);
    const int client = host_dial(&host);
    test_turns_until_count(host.loop, &host.opened, 1);
    talk_close(&host.talks[0]);
    trial_turns(host.loop, 3);
    close(client);
    test_turns_until_count(host.loop, &host.ended, 1);
    host_close(&host);
    host_end(&host);
    host_prepare(&host, 1);
    host_listen(&host, text);
    host_end(&host);
}

static void try_v6(const char *address, uint32_t flags, int takes_v4)
{
    struct host host;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct gyre_addr peer;

    host_prepare(&host, 2);
    host.options.flags = flags;
    host_listen(&host, address);
    const int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int four = wire_tcp();
    struct sockaddr_in6 to = host.address.in6;
    to.sin6_addr = in6addr_loopback;
    assert_int_equal(connect(six, (struct sockaddr *)&to, sizeof to), 0);
    test_turns_until_count(host.loop, &host.opened, 1);
    v4.sin_port = to.sin6_port;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(four, (struct sockaddr *)&v4, sizeof v4), takes_v4 ? 0 : -1);
    if (takes_v4) {
        test_turns_until_count(host.loop, &host.opened, 2);
        assert_int_equal(gyre_addr_peer(gyre_stream_number(host.talks[1].stream), &peer), 0);
        gyre_addr_unmap(&peer);
        assert_int_equal(peer.any.sa_family, AF_INET);
    }
    close(six);
    close(four);
    host_end(&host);
}

/* I01, I02, I03 */
static void listener_on_ipv6_takes_ipv4_too_unless_told(void)
{
    const int six = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 here = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};

    if (six < 0 || bind(six, (struct sockaddr *)&here, sizeof here) < 0) {
        close(six);
        test_skip("no IPv6 here");
    }
    close(six);
    try_v6("[::]:0", 0, 1);
    try_v6("[::]:0", GYRE_LISTEN_V6ONLY, 0);
    try_v6("[::1]:0", 0, 0);
}

/* The loop may go as soon as on_close() was called; a loop with a listener may not. */
static void loop_with_a_listener_is_busy(void)
{
    struct host host;

    host_open(&host, 1);
    trial_turns(host.loop, 2);
    assert_int_equal(gyre_loop_destroy(host.loop), -EBUSY);
    host_end(&host);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(listener_accepts_and_streams_talk),
        TEST_CASE(listener_serves_a_burst_each_once),
        TEST_CASE(ext_is_zeroed_for_each_stream),
        TEST_CASE(listener_at_its_maximum_parks_the_rest),
        TEST_CASE(listener_at_its_maximum_accepts_again_after_an_end),
        TEST_CASE(close_at_the_maximum_ends_those_that_waited),
        TEST_CASE(connection_accepted_beyond_the_maximum_waits_for_a_place),
        TEST_CASE(close_ends_a_connection_accepted_beyond_the_maximum),
        TEST_CASE(listener_pause_leaves_connections_in_the_backlog),
        TEST_CASE(listener_pause_loses_no_connection),
        TEST_CASE(listener_paused_and_resumed_in_on_open_loses_no_connection),
        TEST_CASE(close_with_a_backlog_ends_the_clients_that_waited),
        TEST_CASE(close_versus_connect_leaks_nothing),
        TEST_CASE(listener_closed_in_every_callback_ends_once),
        TEST_CASE(listener_memory_is_free_in_its_on_close),
        TEST_CASE(drain_lets_every_stream_end_in_order),
        TEST_CASE(reset_ends_a_drain_at_once),
        TEST_CASE(each_visits_the_open_streams_once),
        TEST_CASE(listener_without_descriptors_sheds_and_recovers),
        TEST_CASE(connection_reset_while_it_waited_does_no_harm),
        TEST_CASE(two_listeners_share_a_port),
        TEST_CASE(listen_reports_what_bind_refuses),
        TEST_CASE(listener_functions_refuse_what_is_no_listener),
        TEST_CASE(listener_adopts_a_listening_socket_only),
        TEST_CASE(listener_that_ends_leaves_an_inherited_socket_in_peace),
        TEST_CASE(listener_starts_again_on_its_port),
        TEST_CASE(listener_on_ipv6_takes_ipv4_too_unless_told),
        TEST_CASE(loop_with_a_listener_is_busy),
    };

    return test_main("net-listener", cases, TEST_COUNT(cases));
}
