/* Streams: how they open, what they are told, who may call, what they cost when idle. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* C01, A17 */
static void connect_opens_and_talks_both_ways(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct gyre_addr peer;
    struct talk talk;
    const int listener = test_listener(&to.in);

    talk_init(&talk);
    struct gyre_addr scratch = to;
    talk_connect(&talk, loop, &scratch);
    memset(&scratch, 0xff, sizeof scratch);
    assert_int_equal(talk.count[TALK_OPEN], 0);
    assert_int_equal(gyre_stream_writable(&talk.own), 1);
    talk_until(loop, &talk, TALK_OPEN, 1);
    const int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    const int number = gyre_stream_number(&talk.own);
    assert_int_equal(fcntl(number, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(gyre_addr_peer(number, &peer), 0);
    assert_int_equal(gyre_addr_equal(&peer, &to), 1);
    assert_ptr_equal(gyre_stream_loop(&talk.own), loop);
    assert_null(gyre_stream_listener(&talk.own));
    assert_null(gyre_stream_ext(&talk.own));
    wire_send_stream(server, 5000, 0);
    talk_until_received(loop, &talk, 5000);
    assert_int_equal(talk_write(&talk, 5000), 5000);
    talk_until_sent(loop, server, 5000, 0);
    close(server);
    talk_until(loop, &talk, TALK_EOF, 1);
    talk_close(&talk);
    assert_int_equal(talk_end(loop, &talk), 0);
    close(listener);
    test_loop_end(loop);
}

static void addresses_of_both_ends_are_told_while_the_socket_is_open(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct gyre_addr told = {.len = 0};
    struct gyre_addr seen;
    struct talk talk;
    const int listener = test_listener(&to.in);

    talk_init(&talk);
    assert_int_equal(gyre_stream_local(&talk.own, &told), -EBADF);
    assert_int_equal(gyre_stream_peer(&talk.own, &told), -EBADF);
    talk_connect(&talk, loop, &to);
    talk_until(loop, &talk, TALK_OPEN, 1);
    const int server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(gyre_stream_local(&talk.own, NULL), -EINVAL);
    assert_int_equal(gyre_stream_peer(&talk.own, NULL), -EINVAL);
    assert_int_equal(gyre_stream_peer(&talk.own, &told), 0);
    assert_int_equal(gyre_addr_equal(&told, &to), 1);
    assert_int_equal(gyre_stream_local(&talk.own, &told), 0);
    assert_int_equal(gyre_addr_peer(server, &seen), 0);
    assert_int_equal(gyre_addr_equal(&told, &seen), 1);
    wire_reset(server);
    assert_int_equal(talk_end(loop, &talk), -ECONNRESET);
    assert_int_equal(gyre_stream_local(&talk.own, &told), -EBADF);
    close(listener);
    test_loop_end(loop);
}

/* C02, C09 */
static void connect_refused_ends_with_econnrefused(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    const int reserved = wire_refusing(&to.in);

    for (int i = 0; i < 20; i++) {
        struct talk talk;

        talk_init(&talk);
        talk_connect(&talk, loop, &to);
        assert_true(talk_write_ref(&talk, 100) > 0);
        assert_int_equal(talk_end(loop, &talk), -ECONNREFUSED);
        assert_int_equal(talk.count[TALK_OPEN], 0);
        assert_int_equal(talk.count[TALK_RELEASE], 1);
        assert_int_equal(gyre_stream_number(&talk.own), -EBADF);
    }
    close(reserved);
    test_loop_end(loop);
}

/* C06 */
static void connect_closed_meanwhile_ends_at_once(void)
{
    for (int reset = 0; reset < 2; reset++) {
        for (int turns = 0; turns < 3; turns++) {
            struct gyre_loop *loop = test_loop();
            struct gyre_addr to = {.len = sizeof to.in};
            struct talk talk;
            int client;
            const int listener = wire_blackhole(&to.in, &client);

            talk_init(&talk);
            talk_connect(&talk, loop, &to);
            assert_true(talk_write_ref(&talk, 100) > 0);
            trial_turns(loop, turns);
            (reset ? talk_reset : talk_close)(&talk);
            assert_int_equal(talk_end(loop, &talk), 0);
            assert_int_equal(talk.count[TALK_RELEASE], 1);
            close(client);
            close(listener);
            test_loop_end(loop);
        }
    }
}

/* C07: whatever wins, it ends once and no descriptor is left. */
static void connect_versus_close_ends_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    const int listener = test_listener(&to.in);

    for (int i = 0; i < 2000; i++) {
        struct talk talk;

        talk_init(&talk);
        talk_connect(&talk, loop, &to);
        trial_turns(loop, i % 3);
        talk_reset(&talk);
        assert_int_equal(talk_end(loop, &talk), 0);
        if (i % 3 > 0) {
            close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        } else {
            const int flags = fcntl(listener, F_GETFL);

            fcntl(listener, F_SETFL, flags | O_NONBLOCK);
            close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
            fcntl(listener, F_SETFL, flags);
        }
    }
    close(listener);
    test_loop_end(loop);
}

/* C11 */
static void connect_with_a_bound_socket_keeps_its_address(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct gyre_addr local;
    struct sockaddr_in source = {.sin_family = AF_INET};
    struct talk talk;
    const int listener = test_listener(&to.in);
    const int number = wire_tcp();

    source.sin_addr.s_addr = htonl(0x7f000002);
    assert_int_equal(bind(number, (struct sockaddr *)&source, sizeof source), 0);
    talk_init(&talk);
    assert_int_equal(gyre_stream_connect_with(&talk.own, loop, number, &to, &talk.handler), 0);
    talk_until(loop, &talk, TALK_OPEN, 1);
    assert_int_equal(gyre_stream_number(&talk.own), number);
    assert_int_equal(gyre_addr_local(number, &local), 0);
    assert_int_equal(local.in.sin_addr.s_addr, source.sin_addr.s_addr);
    talk_reset(&talk);
    talk_end(loop, &talk);
    close(listener);
    test_loop_end(loop);
}

static void connect_refuses_what_it_cannot(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    const struct gyre_addr none = {0};
    struct gyre_addr odd = {.len = sizeof odd.any};
    struct sockaddr_in unused;
    struct talk talk;
    int pipe_ends[2];
    const int reserved = wire_refusing(&to.in);
    const int udp = wire_udp(&unused);
    const int tcp = wire_tcp();

    wire_pipe(pipe_ends);
    talk_init(&talk);
    struct gyre_stream *own = &talk.own;
    const struct gyre_stream_handler *handler = &talk.handler;
    odd.any.sa_family = 200;
    assert_int_equal(gyre_stream_connect(NULL, loop, &to, handler), -EINVAL);
    assert_int_equal(gyre_stream_connect(own, NULL, &to, handler), -EINVAL);
    assert_int_equal(gyre_stream_connect(own, loop, NULL, handler), -EINVAL);
    assert_int_equal(gyre_stream_connect(own, loop, &none, handler), -EINVAL);
    assert_int_equal(gyre_stream_connect(own, loop, &to, NULL), -EINVAL);
    assert_int_equal(gyre_stream_connect(own, loop, &odd, handler), -EAFNOSUPPORT);
    assert_int_equal(gyre_stream_connect_with(own, loop, -1, &to, handler), -EBADF);
    assert_int_equal(gyre_stream_connect_with(own, loop, pipe_ends[0], &to, handler), -ENOTSOCK);
    assert_int_equal(gyre_stream_connect_with(own, loop, udp, &to, handler), -EPROTOTYPE);
    assert_int_equal(gyre_stream_connect_with(own, loop, tcp, NULL, handler), -EINVAL);
    assert_int_equal(gyre_stream_connect_with(own, loop, tcp, &to, NULL), -EINVAL);
    assert_int_equal(gyre_stream_adopt(NULL, loop, tcp, handler), -EINVAL);
    assert_int_equal(gyre_stream_adopt(own, NULL, tcp, handler), -EINVAL);
    assert_int_equal(gyre_stream_adopt(own, loop, tcp, NULL), -EINVAL);
    assert_int_equal(gyre_stream_adopt(own, loop, -1, handler), -EBADF);
    assert_int_equal(gyre_stream_adopt(own, loop, pipe_ends[0], handler), -ENOTSOCK);
    assert_int_equal(gyre_stream_adopt(own, loop, udp, handler), -EPROTOTYPE);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    assert_int_equal(close(udp) | close(tcp) | close(reserved), 0); /* still the caller's */
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    test_loop_end(loop);
}

/* F03 */
static void connect_without_descriptors_reports_emfile(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct rlimit before;
    struct talk talk;
    const int listener = test_listener(&to.in);

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    talk_init(&talk);
    const int rc = gyre_stream_connect(&talk.own, loop, &to, &talk.handler);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(rc, -EMFILE);
    talk_connect(&talk, loop, &to);
    talk_until(loop, &talk, TALK_OPEN, 1);
    talk_reset(&talk);
    talk_end(loop, &talk);
    close(listener);
    test_loop_end(loop);
}

/* "@stream: open or connecting", "(not a stream that was opened)" */
static void functions_refuse_what_is_no_stream(void)
{
    struct gyre_stream idle = {0};
    const struct gyre_stream_handler handler = {0};
    struct gyre_stream *const nothing[] = {NULL, &idle};

    for (size_t i = 0; i < TEST_COUNT(nothing); i++) {
        assert_int_equal(gyre_stream_close(nothing[i]), -EINVAL);
        assert_int_equal(gyre_stream_reset(nothing[i]), -EINVAL);
        assert_int_equal(gyre_stream_shutdown(nothing[i]), -EINVAL);
        assert_int_equal(gyre_stream_set_deadline(nothing[i], 0), -EINVAL);
        assert_int_equal(gyre_stream_set_handler(nothing[i], &handler), -EINVAL);
        assert_int_equal(gyre_stream_number(nothing[i]), -EBADF);
        assert_int_equal(gyre_stream_queued(nothing[i]), 0);
        assert_int_equal(gyre_stream_writable(nothing[i]), 0);
    }
}

/* R16 */
static void adopted_socket_may_be_nonblocking(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    wire_nonblocking(number);
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    for (int i = 0; i < 50; i++) {
        trial_turns(call.loop, 2);
        wire_send_stream(call.peer, 10, (uint64_t)i * 10);
        talk_until_received(call.loop, &call.talk, (uint64_t)(i + 1) * 10);
    }
    call_end(&call);
}

static void adopted_socket_that_is_not_connected_ends_with_enotconn(void)
{
    struct gyre_loop *loop = test_loop();
    struct talk talk;

    talk_init(&talk);
    talk_adopt(&talk, loop, wire_tcp());
    assert_int_equal(talk_end(loop, &talk), -ENOTCONN);
    test_loop_end(loop);
}

/* R01 */
static void bytes_that_come_one_by_one_all_come(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    wire_nodelay(call.peer);
    for (uint64_t i = 0; i < 2000; i++) {
        wire_send_stream(call.peer, 1, i);
        trial_turns(call.loop, (int)(i % 3));
    }
    talk_until_received(call.loop, &call.talk, 2000);
    call_end(&call);
}

static void every_callback_may_be_missing(void)
{
    static const struct gyre_stream_handler bare = {.idle_timeout_ns = 0};
    struct gyre_loop *loop = test_loop();
    struct gyre_stream stream;
    int pair[2];

    test_tcp_pair(pair);
    assert_int_equal(gyre_stream_adopt(&stream, loop, pair[0], &bare), 0);
    assert_true(gyre_stream_write(&stream, "hello", 5) > 0);
    wire_send_stream(pair[1], 1000, 0);
    trial_turns(loop, 5);
    assert_int_equal(wire_readable(pair[1]), 5);
    assert_int_equal(wire_drain(pair[1]), 5);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(wire_expect_end(pair[1]), 0);
    close(pair[1]);
    test_loop_end(loop);
}

struct switched {
    struct call call;
    struct gyre_stream_handler other;
    int data;
    int closes;
};

static void other_on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    struct switched *switched = gyre_container_of(stream, struct switched, call.talk.own);

    switched->data += (int)data->len;
}

static void other_on_close(struct gyre_stream *stream, int error)
{
    struct switched *switched = gyre_container_of(stream, struct switched, call.talk.own);

    assert_int_equal(error, 0);
    switched->closes++;
}

static void switch_handler(struct talk *talk)
{
    struct switched *switched = gyre_container_of(talk, struct switched, call.talk);

    assert_int_equal(gyre_stream_set_handler(talk->stream, &switched->other), 0);
}

/* "From its next callback on", in each callback. */
static void handler_switched_in_a_callback_serves_the_next(void)
{
    for (enum talk_event event = TALK_OPEN; event <= TALK_DATA; event++) {
        struct switched switched = {
            .other = {.on_data = other_on_data, .on_close = other_on_close}};
        int number;

        call_prepare(&switched.call, test_tcp_pair, &number);
        switched.call.talk.then[event] = switch_handler;
        wire_send_stream(switched.call.peer, 10, 0);
        talk_adopt(&switched.call.talk, switched.call.loop, number);
        while (switched.call.talk.received + (uint64_t)switched.data < 10) {
            trial_turns(switched.call.loop, 1);
        }
        wire_send_stream(switched.call.peer, 10, 10);
        test_turns_until_count(switched.call.loop, &switched.data, event == TALK_OPEN ? 20 : 10);
        assert_int_equal(gyre_stream_set_handler(&switched.call.talk.own, NULL), -EINVAL);
        call_close_peer(&switched.call);
        test_turns_until(switched.call.loop, &switched.closes);
        assert_int_equal(switched.call.talk.count[TALK_CLOSE], 0);
        test_loop_end(switched.call.loop);
    }
}

static void set_handler_while_the_stash_waits_hands_it_to_the_new_one(void)
{
    struct switched switched = {.other = {.on_data = other_on_data, .on_close = other_on_close}};
    struct call *call = &switched.call;

    call_open(call, test_tcp_pair);
    talk_pause(&call->talk);
    wire_send_stream(call->peer, 10, 0);
    trial_turns(call->loop, 5);
    switch_handler(&call->talk);
    call->talk.quiet = 0;
    assert_int_equal(gyre_stream_resume(&call->talk.own), 0);
    test_turns_until_count(call->loop, &switched.data, 10);
    assert_int_equal(gyre_stream_reset(&call->talk.own), 0);
    test_turns_until(call->loop, &switched.closes);
    close(call->peer);
    test_loop_end(call->loop);
}

/* What a foreign thread is told. */
struct foreign {
    struct call *call;
    struct gyre_listener *listener;
    const struct gyre_listener_options *options;
    const struct gyre_stream_handler *handler;
};

static void *call_from_elsewhere(void *argument)
{
    const struct foreign *foreign = argument;
    struct gyre_stream *stream = foreign->call->talk.stream;
    struct gyre_loop *loop = foreign->call->loop;
    struct gyre_listener other;
    struct gyre_stream fresh;
    const struct gyre_addr to = {.len = sizeof to.in, .in = {.sin_family = AF_INET}};
    const int results[] = {
        gyre_stream_write(stream, "x", 1),
        gyre_stream_write_ref(stream, "x", 1, NULL, NULL),
        gyre_stream_shutdown(stream),
        gyre_stream_pause(stream),
        gyre_stream_resume(stream),
        gyre_stream_couple(stream, stream),
        gyre_stream_close(stream),
        gyre_stream_reset(stream),
        gyre_stream_set_deadline(stream, 1),
        gyre_stream_set_handler(stream, foreign->handler),
        gyre_stream_connect(&fresh, loop, &to, foreign->handler),
        gyre_stream_connect_with(&fresh, loop, 0, &to, foreign->handler),
        gyre_stream_adopt(&fresh, loop, 0, foreign->handler),
        gyre_listen(loop, &other, "127.0.0.1:0", foreign->options),
        gyre_listen_adopt(loop, &other, 0, foreign->options),
        gyre_listener_pause(foreign->listener),
        gyre_listener_resume(foreign->listener),
        gyre_listener_close(foreign->listener),
        gyre_listener_drain(foreign->listener),
    };
    uintptr_t wrong = 0;

    for (size_t i = 0; i < TEST_COUNT(results); i++) {
        wrong |= results[i] == GYRE_ETHREAD ? 0 : (uintptr_t)1 << i;
    }
    return (void *)wrong;
}

static void functions_from_another_thread_are_refused(void)
{
    struct host host;
    struct call call;
    pthread_t thread;
    void *wrong = NULL;

    test_skip_simulated("in the simulation all threads are one to the library");
    host_open(&host, 1);
    call_open(&call, test_tcp_pair);
    struct gyre_loop *own = call.loop;
    struct foreign foreign = {&call, &host.listener, &host.options, &host.handler};
    assert_int_equal(pthread_create(&thread, NULL, call_from_elsewhere, &foreign), 0);
    assert_int_equal(pthread_join(thread, &wrong), 0);
    assert_int_equal((uintptr_t)wrong, 0);
    trial_turns(own, 3);
    assert_int_equal(wire_readable(call.peer), 0);
    call_end(&call);
    host_end(&host);
}

static int call_in_child(void *argument)
{
    struct call *call = argument;
    struct gyre_stream *stream = call->talk.stream;

    return gyre_stream_write(stream, "x", 1) != GYRE_EFORK ||
           gyre_stream_close(stream) != GYRE_EFORK || gyre_stream_reset(stream) != GYRE_EFORK ||
           gyre_stream_pause(stream) != GYRE_EFORK || gyre_stream_shutdown(stream) != GYRE_EFORK;
}

/* Z02 */
static void functions_in_a_forked_child_are_refused(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    test_child_passes(call_in_child, &call);
    wire_send_stream(call.peer, 10, 0);
    talk_until_received(call.loop, &call.talk, 10);
    call_end(&call);
}

/* Design, section 6: an idle connection holds at most 256 bytes and no receive buffer. */
static void idle_stream_holds_nothing(void)
{
    struct call call;

    if (sizeof(void *) == 8) {
        assert_true(sizeof(struct gyre_stream) <= 256);
    }
    call_open(&call, test_tcp_pair);
    wire_send_stream(call.peer, 1000, 0);
    talk_until_received(call.loop, &call.talk, 1000);
    assert_true(talk_write(&call.talk, 1000) > 0);
    talk_until_sent(call.loop, call.peer, 1000, 0);
    trial_turns(call.loop, 3);
    assert_null(call.talk.own.flow);
    assert_int_equal(trial_pool(call.loop).leases, 0);
    assert_int_equal(trial_pool(call.loop).lent, 0);
    assert_true(trial_idle_turns(call.loop, 50 * GYRE_MSEC) < 10);
    call_end(&call);
}

/* An open stream is something to wait for, also while nothing of it is under way. */
static void open_stream_keeps_the_loop_running_while_paused(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    talk_pause(&call.talk);
    wire_send_stream(call.peer, 10, 0);
    trial_turns(call.loop, 10);
    assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_NOWAIT), 1);
    assert_true(gyre_loop_alive(call.loop) > 0);
    call_end(&call);
}

static void loop_with_a_stream_is_busy(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    assert_int_equal(gyre_loop_destroy(call.loop), -EBUSY);
    call_end(&call);
}

static void echo(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) > 0);
}

/* One flooding connection and others: all are served. A16, H07 */
static void flooding_peer_does_not_starve_the_others(void)
{
    struct host host;
    int clients[5];
    uint64_t sent = 0;
    uint64_t taken = 0;
    static uint8_t flood[1 << 16];

    host_prepare(&host, 5);
    host.then[TALK_DATA] = echo;
    host_listen(&host, NULL);
    for (int i = 0; i < 5; i++) {
        clients[i] = host_dial(&host);
    }
    test_turns_until_count(host.loop, &host.opened, 5);
    host.talks[0].unchecked = 1;
    for (uint64_t round = 0; round < 200; round++) {
        ssize_t got;
        int turns = 0;

        while ((got = send(clients[0], flood, sizeof flood, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
            sent += (uint64_t)got;
        }
        for (int i = 1; i < 5; i++) {
            wire_send_stream(clients[i], 100, round * 100);
        }
        for (int i = 1; i < 5; i++) {
            for (size_t done = 0; done < 100; turns++) {
                trial_turns(host.loop, 1);
                done += wire_take_stream(clients[i], 100 - done, round * 100 + done);
                taken += wire_drain(clients[0]);
            }
        }
        assert_true(turns < 1000);
    }
    while (taken < sent) {
        trial_turns(host.loop, 1);
        taken += wire_drain(clients[0]);
    }
    for (int i = 0; i < 5; i++) {
        close(clients[i]);
    }
    host_end(&host);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(connect_opens_and_talks_both_ways),
        TEST_CASE(addresses_of_both_ends_are_told_while_the_socket_is_open),
        TEST_CASE(connect_refused_ends_with_econnrefused),
        TEST_CASE(connect_closed_meanwhile_ends_at_once),
        TEST_CASE(connect_versus_close_ends_once),
        TEST_CASE(connect_with_a_bound_socket_keeps_its_address),
        TEST_CASE(connect_refuses_what_it_cannot),
        TEST_CASE(connect_without_descriptors_reports_emfile),
        TEST_CASE(functions_refuse_what_is_no_stream),
        TEST_CASE(adopted_socket_may_be_nonblocking),
        TEST_CASE(adopted_socket_that_is_not_connected_ends_with_enotconn),
        TEST_CASE(bytes_that_come_one_by_one_all_come),
        TEST_CASE(every_callback_may_be_missing),
        TEST_CASE(handler_switched_in_a_callback_serves_the_next),
        TEST_CASE(set_handler_while_the_stash_waits_hands_it_to_the_new_one),
        TEST_CASE(functions_from_another_thread_are_refused),
        TEST_CASE(functions_in_a_forked_child_are_refused),
        TEST_CASE(idle_stream_holds_nothing),
        TEST_CASE(open_stream_keeps_the_loop_running_while_paused),
        TEST_CASE(loop_with_a_stream_is_busy),
        TEST_CASE(flooding_peer_does_not_starve_the_others),
    };

    return test_main("net-stream", cases, TEST_COUNT(cases));
}
