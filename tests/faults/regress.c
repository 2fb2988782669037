/* Defects that faults and torture have found, each with the fault that shows it. */
#include "faults/faults.h"
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static void only_on_uring(void)
{
    if (!test_variant_uring()) {
        test_skip("a completion of io_uring");
    }
}

/* It ended the receive with 512, an error that nobody knows. */
static void lease_receive_interrupted_by_erestartsys_goes_on(void)
{
    struct trial trial;
    struct line line;

    only_on_uring();
    line_open(&line, test_tcp_pair);
    trial_init(&trial, NULL, NULL);
    faults_strike(FAULTS_REQUEST_recv_select, 512, 1);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, GYRE_MULTISHOT), 0);
    trial_turns(line.loop, 2);
    wire_send_stream(line.peer, 100, 0);
    while (trial.bytes < 100) {
        assert_int_equal(trial.finals, 0);
        assert_int_equal(gyre_loop_run(line.loop, GYRE_RUN_ONCE), 1);
    }
    assert_true(faults_strike_done());
    gyre_op_cancel(&trial.op);
    assert_int_equal(trial_end(line.loop, &trial), -ECANCELED);
    line_close(&line);
}

enum { HOARD = 600 };

struct hoard {
    struct gyre_lease leases[HOARD];
    size_t count;
};

static void hoard_keep(struct trial *trial, const struct gyre_result *result)
{
    struct hoard *hoard = trial->context;

    if (result->lease != NULL) {
        assert_true(hoard->count < HOARD);
        assert_int_equal(gyre_lease_retain(result->lease, &hoard->leases[hoard->count++]), 0);
    }
}

/* A block that was being filled directly was not counted as held, although leases held it: the pool
 * was taken to be short, and small leases were copied out, too late to leave a block. */
static void small_leases_leave_a_block_beside_one_filled_directly(void)
{
    static struct hoard hoard;
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;
    struct trial trial;
    struct gyre_fd fd;
    int pair[2];

    only_on_uring();
    options.pool_block = 4096;
    options.pool_min = 4 * options.pool_block;
    options.pool_max = options.pool_min;
    options.pool_quota = (size_t)1 << 30;
    loop = test_loop_with(&options);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    trial_attach(loop, &fd, pair[0]);
    trial_init(&trial, hoard_keep, &hoard);
    faults_strike(FAULTS_REQUEST_recv_select, ENOBUFS, 1);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, GYRE_MULTISHOT), 0);
    for (uint64_t i = 0; i < HOARD; i++) {
        wire_send_stream(pair[1], 64, 64 * i);
        while (trial.bytes < 64 * (i + 1)) {
            assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        }
    }
    assert_true(faults_strike_done());
    for (size_t i = 0; i < hoard.count; i++) {
        gyre_lease_release(&hoard.leases[i]);
    }
    gyre_op_cancel(&trial.op);
    assert_int_equal(trial_end(loop, &trial), -ECANCELED);
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

/* A08: the number was asked for its being a socket, but not when the accept was cancelled. */
static void accept_cancelled_with_a_number_of_nothing_delivers_none(void)
{
    struct gyre_loop *loop;
    struct trial trial;
    struct gyre_fd fd;
    char why[128];

    only_on_uring();
    loop = test_loop();
    trial_attach(loop, &fd, test_listener(NULL));
    trial_init(&trial, NULL, NULL);
    assert_int_equal(faults_parse("accept.195=1", why, sizeof(why)), 0);
    assert_int_equal(gyre_op_accept(&trial.op, &fd, GYRE_MULTISHOT), 0);
    gyre_op_cancel(&trial.op);
    assert_int_equal(trial_end(loop, &trial), -ECANCELED);
    assert_int_equal(faults_parse(NULL, why, sizeof(why)), 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* Data and a reset are there when a stream, which has received before, receives again. */
static void resume_at_a_reset(struct call *call)
{
    call_open(call, test_tcp_pair);
    wire_send_stream(call->peer, 100, 0);
    talk_until_received(call->loop, &call->talk, 100);
    talk_pause(&call->talk);
    wire_send_stream(call->peer, 100, 100); /* which ends the receive */
    trial_turns(call->loop, 5);
    wire_send_stream(call->peer, 1000, 200);
    wire_reset(call->peer);
    call->peer = -1;
    talk_resume(&call->talk);
}

/* The reset was looked for within two turns only; a full completion queue holds more batches. */
static void reset_behind_data_that_is_seen_late_ends_the_stream(void)
{
    char why[128];

    only_on_uring();
    assert_int_equal(faults_parse("completion.late=1", why, sizeof(why)), 0);
    for (int i = 0; i < 10; i++) {
        struct call call;

        resume_at_a_reset(&call);
        assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
        call_end(&call);
    }
}

/* Whether there is a reset could not be asked: it was taken to be none, and nobody looked again. */
static void reset_behind_data_that_cannot_be_asked_for_ends_the_stream(void)
{
    struct call call;

    only_on_uring();
    resume_at_a_reset(&call);
    faults_strike(FAULTS_CALL_poll, ENOMEM, 1);
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    assert_true(faults_strike_done());
    call_end(&call);
}

/* A signal in the moment in which a receive stands at urgent data: EAGAIN, whatever is behind it. */
static void receive_turned_away_at_urgent_data_goes_on(void)
{
    struct trial trial;
    struct line line;

    if (test_variant_uring()) {
        test_skip("a receive by recv(2)");
    }
    line_open(&line, test_tcp_pair);
    wire_send_stream(line.peer, 100, 0);
    assert_int_equal(send(line.peer, "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
    wire_send_stream(line.peer, 100, 100);
    trial_init(&trial, NULL, NULL);
    faults_strike(FAULTS_CALL_recv, EAGAIN, 2);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, GYRE_MULTISHOT), 0);
    while (trial.bytes < 200) {
        assert_int_equal(trial.finals, 0);
        assert_int_equal(gyre_loop_run(line.loop, GYRE_RUN_ONCE), 1);
    }
    assert_true(faults_strike_done());
    gyre_op_cancel(&trial.op);
    assert_int_equal(trial_end(line.loop, &trial), -ECANCELED);
    line_close(&line);
}

/* The end that is near when it is turned away is not forgotten. */
static void end_behind_urgent_data_turned_away_at_is_told(void)
{
    struct trial trial;
    struct line line;

    if (test_variant_uring()) {
        test_skip("a receive by recv(2)");
    }
    line_open(&line, test_tcp_pair);
    wire_send_stream(line.peer, 100, 0);
    assert_int_equal(send(line.peer, "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
    wire_send_stream(line.peer, 100, 100);
    assert_int_equal(shutdown(line.peer, SHUT_WR), 0);
    trial_init(&trial, NULL, NULL);
    faults_strike(FAULTS_CALL_recv, EAGAIN, 2);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, GYRE_MULTISHOT), 0);
    assert_int_equal(trial_end(line.loop, &trial), 0);
    assert_int_equal(trial.bytes, 200);
    assert_true(faults_strike_done());
    line_close(&line);
}

/* ---- wake-ups ---- */

static int posted;

static void on_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    posted = 1;
}

static void *post_to(void *loop)
{
    poll(NULL, 0, 30); /* until it sleeps, most likely */
    return gyre_loop_post(loop, on_post, NULL) == 0 ? loop : NULL;
}

/* The loop's own poll had failed, and with it its books: it never woke, and never ended. */
static void loop_without_memory_to_wait_for_wakes_tries_again(void)
{
    struct gyre_loop *loop;
    pthread_t thread;
    void *done;

    only_on_uring();
    loop = test_loop();
    faults_strike(FAULTS_REQUEST_poll, ENOMEM, 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 0);
    assert_true(faults_strike_done());
    assert_int_equal(gyre_loop_alive(loop), 0);
    gyre_loop_ref(loop);
    assert_int_equal(pthread_create(&thread, NULL, post_to, loop), 0);
    test_turns_until(loop, &posted);
    assert_int_equal(pthread_join(thread, &done), 0);
    assert_non_null(done);
    gyre_loop_unref(loop);
    test_loop_end(loop);
}

/* The time to ask again came, and nothing told the other event loop that there is work. */
static void embedded_loop_asks_again_for_a_lost_cancel(void)
{
    struct pollfd ready = {.events = POLLIN};
    struct trial trial;
    struct line line;

    only_on_uring();
    line_open(&line, test_tcp_pair);
    ready.fd = gyre_loop_fd(line.loop);
    assert_true(ready.fd >= 0);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, GYRE_MULTISHOT), 0);
    assert_true(gyre_loop_dispatch(line.loop) > 0);
    faults_strike(FAULTS_REQUEST_cancel, EALREADY, 1);
    gyre_op_cancel(&trial.op);
    while (trial.finals == 0) {
        assert_true(gyre_loop_dispatch(line.loop) >= 0);
        if (trial.finals == 0) {
            assert_int_equal(poll(&ready, 1, 2000), 1);
        }
    }
    assert_true(faults_strike_done());
    assert_int_equal(trial.res, -ECANCELED);
    line_close(&line);
}

/* ---- signals ---- */

static int arrived;

static void on_signal(struct gyre_signal *signal, const struct signalfd_siginfo *info)
{
    (void)signal;
    (void)info;
    arrived = 1;
}

static int closed;

static void on_signal_close(struct gyre_signal *signal)
{
    (void)signal;
    closed = 1;
}

static void signal_read_that_fails_with(int failure)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_signal signal;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    assert_int_equal(gyre_signal_block(&set), 0);
    assert_int_equal(gyre_signal_start(&signal, loop, &set, on_signal), 0);
    faults_strike(FAULTS_CALL_read, failure, 1);
    kill(getpid(), SIGUSR2);
    test_turns_until(loop, &arrived);
    assert_true(faults_strike_done());
    assert_int_equal(gyre_signal_close(&signal, on_signal_close), 0);
    test_turns_until(loop, &closed);
    test_loop_end(loop);
}

/* It waited for the next signal then. */
static void signal_read_that_is_interrupted_is_made_again(void)
{
    signal_read_that_fails_with(EINTR);
}

/* The same. */
static void signal_read_that_fails_is_made_again(void)
{
    signal_read_that_fails_with(ENOMEM);
}

/* ---- datagrams ---- */

static struct gyre_addr refused_at;
static int refused_first; /* error, and the last one */
static int refused_last;
static int refused;

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    (void)dgram;
    (void)datagram;
}

static void on_refused(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    (void)dgram;
    refused_first = refused == 0 ? error : refused_first;
    refused_last = error;
    refused_at = to != NULL ? *to : (struct gyre_addr){0};
    refused++;
}

/* The send that meets the error first uses up the socket's own; reading the queued one fails once. */
static void queued_error_whose_read_fails_with(int failure)
{
    static const struct gyre_dgram_handler handler = {.on_datagram = on_datagram,
                                                      .on_error = on_refused};
    struct gyre_loop *loop = test_loop();
    const int nobody = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int peer = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct gyre_addr local;
    struct gyre_addr there;
    struct gyre_addr good;
    struct gyre_dgram dgram;

    assert_int_equal(gyre_addr_parse("127.0.0.1:0", &local), 0);
    there = good = local;
    assert_int_equal(bind(peer, &good.any, good.len), 0);
    assert_int_equal(getsockname(peer, &good.any, &good.len), 0);
    assert_int_equal(bind(nobody, &there.any, there.len), 0);
    assert_int_equal(getsockname(nobody, &there.any, &there.len), 0);
    close(nobody); /* its port is nobody's now */
    assert_int_equal(
        gyre_dgram_open(&dgram, loop,
                        &(struct gyre_dgram_options){.handler = &handler,
                                                     .local = &local,
                                                     .flags = GYRE_DGRAM_ERROR_DETAIL}),
        0);
    faults_strike(FAULTS_CALL_recvmsg, failure, 1);
    assert_int_equal(gyre_dgram_send(&dgram, &there, "lost", 4), 0);
    assert_int_equal(gyre_dgram_send(&dgram, &good, "come", 4), 0);
    test_turns_until(loop, &refused);
    assert_true(faults_strike_done());
    if (failure != EINTR) {
        assert_int_equal(refused_first, -failure);
        test_turns_until_count(loop, &refused, 2);
    }
    assert_int_equal(refused_last, -ECONNREFUSED);
    assert_int_equal(refused_at.in.sin_port, there.in.sin_port);
    close(peer);
    gyre_dgram_close(&dgram);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* It was told with the next error only. */
static void queued_error_whose_read_is_interrupted_tells_its_address(void)
{
    queued_error_whose_read_fails_with(EINTR);
}

/* The same. */
static void queued_error_that_cannot_be_read_is_told_and_read_again(void)
{
    queued_error_whose_read_fails_with(ENOMEM);
}

static int flooded;
static int flood_errors;
static int ebb; /* so many datagrams, of which the last 100 bring one more each */

static void on_flood(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct gyre_addr here;

    (void)datagram;
    flooded++;
    if (ebb > 0 && --ebb < 100) {
        assert_int_equal(gyre_dgram_local(dgram, &here), 0);
        assert_int_equal(sendto(gyre_dgram_number(dgram), "x", 1, 0, &here.any, here.len), 1);
    }
}

static void on_flood_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    (void)dgram;
    (void)error;
    (void)to;
    flood_errors++;
}

static void flood(int client, const struct gyre_addr *there, struct gyre_loop *loop)
{
    const int before = flooded;

    for (int i = 0; i < 64; i++) {
        assert_int_equal(sendto(client, "x", 1, 0, &there->any, there->len), 1);
    }
    test_turns_until_count(loop, &flooded, before + 64);
}

/* On 127.0.0.1; its address is @out_there. */
static void open_for_flood(struct gyre_dgram *dgram, struct gyre_loop *loop,
                           struct gyre_addr *out_there)
{
    static const struct gyre_dgram_handler handler = {.on_datagram = on_flood,
                                                      .on_error = on_flood_error};
    const struct gyre_dgram_options options = {.handler = &handler, .local = out_there};

    assert_int_equal(gyre_addr_parse("127.0.0.1:0", out_there), 0);
    assert_int_equal(gyre_dgram_open(dgram, loop, &options), 0);
    assert_int_equal(gyre_dgram_local(dgram, out_there), 0);
}

/* A flooded socket is taken off the poll, and back when it is found empty, or when less has come for a
 * while. It was closed when there was no memory for that. */
static void poll_again_without_memory(int one_by_one)
{
    struct gyre_loop *loop = test_loop();
    const int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct gyre_addr there;
    struct gyre_dgram dgram;

    open_for_flood(&dgram, loop, &there);
    for (int i = 0; i < 5; i++) {
        flood(client, &there, loop);
    }
    if (test_variant_uring()) {
        faults_strike(FAULTS_REQUEST_poll, ENOMEM, 1);
    } else {
        faults_strike(FAULTS_CALL_epoll_ctl, ENOSPC, 1);
    }
    ebb = one_by_one;
    flood(client, &there, loop);
    while (!faults_strike_done() || ebb > 0) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    flood(client, &there, loop);
    assert_int_equal(flood_errors, 0);
    close(client);
    gyre_dgram_close(&dgram);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

static void flooded_socket_without_memory_for_a_poll_stays_busy(void)
{
    poll_again_without_memory(0);
}

static void socket_whose_flood_ebbs_without_memory_for_a_poll_stays_busy(void)
{
    poll_again_without_memory(63 + 100); /* the flood, and then one by one */
}

/* It was polled anew though nothing had been received yet, which a socket must have been to live without
 * memory for that. */
static void paused_socket_is_not_polled_anew(void)
{
    struct gyre_loop *loop = test_loop();
    const int client = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct gyre_addr there;
    struct gyre_dgram dgram;

    only_on_uring();
    open_for_flood(&dgram, loop, &there);
    trial_turns(loop, 2);
    assert_int_equal(gyre_dgram_pause(&dgram), 0);
    faults_strike(FAULTS_REQUEST_poll, ENOMEM, 1);
    assert_int_equal(sendto(client, "x", 1, 0, &there.any, there.len), 1);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) < 10);
    assert_int_equal(gyre_dgram_resume(&dgram), 0);
    test_turns_until_count(loop, &flooded, 1);
    assert_int_equal(flood_errors, 0);
    close(client);
    gyre_dgram_close(&dgram);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

static int refuse_to_wait(enum faults_call call, uint64_t place)
{
    (void)place;
    return call == FAULTS_REQUEST_poll ? ENOMEM : 0;
}

/* It asked to be told of room in each turn, for ever. */
static void full_socket_without_memory_to_wait_for_room_gives_up(void)
{
    static const struct gyre_dgram_handler handler = {.on_datagram = on_datagram,
                                                      .on_error = on_refused};
    const struct gyre_dgram_options options = {.handler = &handler};
    struct gyre_loop *loop = test_loop();
    struct gyre_dgram dgram;
    int pair[2];

    only_on_uring(); /* epoll needs no memory: the socket is registered */
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, pair[0], &options), 0);
    trial_turns(loop, 2);
    refused = 0;
    faults_explore(refuse_to_wait);
    while (refused < 3) { /* nobody reads: the socket takes so many, and no more */
        assert_int_equal(gyre_dgram_send(&dgram, NULL, "x", 1), 0);
        trial_turns(loop, 1);
    }
    test_turns_until_count(loop, &refused, 3 + (int)gyre_dgram_queued(&dgram));
    faults_explore(NULL);
    assert_int_equal(refused_last, -ENOMEM);
    close(pair[1]);
    gyre_dgram_close(&dgram);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    test_loop_end(loop);
}

/* ---- descriptors ---- */

/* It was taken to be no Unix socket, and its peer's descriptors were dropped in silence. */
static void socket_that_cannot_be_asked_for_its_family_is_refused(void)
{
    static const struct gyre_stream_handler handler = {.flags = GYRE_STREAM_DESCRIPTORS};
    const struct gyre_listener_options options = {.handler = &handler};
    struct gyre_loop *loop = test_loop();
    struct gyre_addr address;
    struct gyre_listener listener;
    struct gyre_stream stream;
    int pair[2];

    test_unix_pair(pair);
    assert_int_equal(gyre_addr_parse("unix:@", &address), 0);
    for (unsigned kth = 1; kth <= 2; kth++) { /* its type, its family */
        faults_strike(FAULTS_CALL_getsockopt, ENOBUFS, kth);
        assert_int_equal(gyre_stream_adopt(&stream, loop, pair[0], &handler), -ENOBUFS);
        assert_true(faults_strike_done());
    }
    for (unsigned kth = 1; kth <= 2; kth++) { /* its protocol, its family */
        faults_strike(FAULTS_CALL_getsockopt, ENOBUFS, kth);
        assert_int_equal(gyre_listen_addr(loop, &listener, &address, &options), -ENOBUFS);
        assert_true(faults_strike_done());
    }
    close(pair[0]);
    close(pair[1]);
    test_loop_end(loop);
}

/* ---- the queue of submissions ---- */

static int polls_ended;

static void poll_ended(struct trial *trial, const struct gyre_result *result)
{
    (void)trial;
    assert_int_equal(result->res, POLLOUT);
    polls_ended++;
}

/* Not found, but made by a mutation: an operation that the queue cannot take waits for its turn. */
static void operation_that_finds_the_queue_full_and_the_kernel_busy_waits(void)
{
    struct gyre_loop_options options = test_options();
    struct trial polls[20];
    struct gyre_loop *loop;
    struct gyre_fd fd;
    int pair[2];

    only_on_uring();
    options.sq_entries = 8;
    loop = test_loop_with(&options);
    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    polls_ended = 0;
    faults_strike(FAULTS_CALL_io_uring_enter2, EBUSY, 1);
    for (size_t i = 0; i < TEST_COUNT(polls); i++) {
        trial_init(&polls[i], poll_ended, NULL);
        assert_int_equal(gyre_op_poll(&polls[i].op, &fd, POLLOUT, 0), 0);
    }
    test_turns_until_count(loop, &polls_ended, TEST_COUNT(polls));
    assert_true(faults_strike_done());
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

/* ---- errors taken for answers ---- */

static int refuse_options(enum faults_call call, uint64_t place)
{
    (void)place;
    return call == FAULTS_CALL_getsockopt ? ENOBUFS : 0;
}

static int accepted_number;

static void keep_number(struct trial *trial, const struct gyre_result *result)
{
    (void)trial;
    accepted_number = result->res >= 0 ? result->res : accepted_number;
}

/* A08, and the question failed: it was nobody's, and stayed open. */
static void connection_of_which_nothing_can_be_asked_is_delivered(void)
{
    struct sockaddr_in address;
    struct gyre_loop *loop;
    struct trial trial;
    struct gyre_fd fd;
    char why[128];

    only_on_uring();
    loop = test_loop();
    accepted_number = -1;
    trial_attach(loop, &fd, test_listener(&address));
    trial_init(&trial, keep_number, NULL);
    assert_int_equal(faults_parse("multishot.end=1", why, sizeof(why)), 0);
    assert_int_equal(gyre_op_accept(&trial.op, &fd, GYRE_MULTISHOT), 0);
    trial_turns(loop, 2);
    faults_strike(FAULTS_CALLS, 0, 0);
    faults_explore(refuse_options);
    const int client = test_connect(&address);
    while (accepted_number < 0) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    faults_explore(NULL);
    assert_true(faults_strike_done());
    assert_int_equal(faults_parse(NULL, why, sizeof(why)), 0);
    close(accepted_number);
    close(client);
    gyre_op_cancel(&trial.op);
    assert_int_equal(trial_end(loop, &trial), -ECANCELED);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* epoll: it was accepted from all the same, which blocks the loop where nobody waits. */
static void descriptor_that_cannot_be_made_nonblocking_fails(void)
{
    struct gyre_loop *loop;
    struct trial trial;
    struct gyre_fd fd;

    if (test_variant_uring()) {
        test_skip("io_uring does not ask for it");
    }
    loop = test_loop();
    trial_attach(loop, &fd, test_listener(NULL));
    for (int multishot = 0; multishot < 2; multishot++) {
        trial_init(&trial, NULL, NULL);
        faults_strike(FAULTS_CALL_fcntl, EPERM, multishot ? 2 : 1); /* behind the reserve's */
        assert_int_equal(gyre_op_accept(&trial.op, &fd, multishot ? GYRE_MULTISHOT : 0), 0);
        assert_int_equal(trial_end(loop, &trial), -EACCES);
        assert_true(faults_strike_done());
    }
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void receive_on_a_socket_whose_kind_cannot_be_asked_tells_why(void)
{
    struct trial trial;
    struct line line;

    for (unsigned kth = 1; kth <= 2; kth++) { /* its protocol, its type */
        line_open(&line, test_unix_pair);
        trial_init(&trial, NULL, NULL);
        faults_strike(FAULTS_CALL_getsockopt, ENOBUFS, kth);
        assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, 0), 0);
        assert_int_equal(trial_end(line.loop, &trial), -ENOBUFS);
        assert_true(faults_strike_done());
        trial_init(&trial, NULL, NULL);
        assert_int_equal(gyre_op_recv_lease(&trial.op, &line.fd, 0), 0);
        wire_send_stream(line.peer, 100, 0);
        assert_int_equal(trial_end(line.loop, &trial), 100);
        line_close(&line);
    }
}

/* Asked twice, of which the first failed: more was sent than there is. */
static void send_on_a_socket_whose_kind_cannot_be_asked_sends_what_there_is(void)
{
    enum { LEN = 100000 };
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    talk_adopt(&call.talk, call.loop, number);
    faults_strike(FAULTS_CALL_getsockopt, ENOBUFS, 1);
    assert_true(talk_write_ref(&call.talk, LEN) >= 0);
    talk_until_sent(call.loop, call.peer, LEN, 0);
    assert_true(faults_strike_done());
    talk_close(&call.talk);
    assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
    assert_int_equal(talk_end(call.loop, &call.talk), 0);
    assert_int_equal(recv(call.peer, (char[1]){0}, 1, 0), 0);
    call_end(&call);
}

/* What was sent may have met a reset, and this be no end. */
static void end_while_a_send_is_unknown_is_no_orderly_one(void)
{
    struct call call;

    call_open(&call, test_tcp_pair);
    do { /* nobody reads */
        assert_true(talk_write(&call.talk, 60000) >= 0);
        trial_turns(call.loop, 3);
    } while (gyre_stream_queued(call.talk.stream) < (size_t)5 * 60000);
    faults_explore(refuse_options);
    assert_int_equal(shutdown(call.peer, SHUT_WR), 0);
    assert_int_equal(talk_end(call.loop, &call.talk), -ECONNRESET);
    faults_explore(NULL);
    assert_int_equal(call.talk.count[TALK_EOF], 0);
    call_end(&call);
}

static const struct gyre_dgram_handler bare = {.on_datagram = on_datagram, .on_error = on_refused};

/* Returns what it was found to have on. */
static uint32_t adopt_and_close(struct gyre_loop *loop, int number)
{
    struct gyre_dgram dgram;
    uint32_t flags;

    assert_int_equal(
        gyre_dgram_adopt(&dgram, loop, number, &(struct gyre_dgram_options){.handler = &bare}), 0);
    flags = dgram.flags;
    gyre_dgram_close(&dgram);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    return flags;
}

static void refuse_to_adopt(struct gyre_loop *loop, int number, enum faults_call call, unsigned kth)
{
    const struct gyre_dgram_options options = {.handler = &bare};
    struct gyre_dgram dgram;

    faults_strike(call, ENOBUFS, kth);
    assert_int_equal(gyre_dgram_adopt(&dgram, loop, number, &options), -ENOBUFS);
    assert_true(faults_strike_done());
}

/* UDP_GRO was taken to be off, and joined datagrams were handed over as one. */
static void datagram_socket_that_cannot_be_asked_for_its_options_is_not_adopted(void)
{
    struct gyre_loop *loop = test_loop();
    const int number = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const int on = 1;

    assert_int_equal(setsockopt(number, SOL_UDP, UDP_GRO, &on, sizeof(on)), 0);
    assert_int_equal(setsockopt(number, IPPROTO_IP, IP_RECVERR, &on, sizeof(on)), 0);
    for (unsigned kth = 1; kth <= 5; kth++) { /* its family, type, protocol, and these two */
        refuse_to_adopt(loop, number, FAULTS_CALL_getsockopt, kth);
    }
    const uint32_t both = GYRE_DGRAM_GRO | GYRE_DGRAM_ERROR_DETAIL;
    assert_int_equal(adopt_and_close(loop, number) & both, both);
    test_loop_end(loop);
}

/* What Linux says of an option that a socket does not have, or of which it can only not be asked: then
 * it may be on. */
static void datagram_socket_without_an_option_is_adopted(void)
{
    static const int answers[] = {ENOPROTOOPT, EOPNOTSUPP};
    struct gyre_loop *loop = test_loop();

    for (size_t i = 0; i < TEST_COUNT(answers); i++) {
        faults_strike(FAULTS_CALL_getsockopt, answers[i], 4); /* UDP_GRO */
        const uint32_t on =
            adopt_and_close(loop, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) & GYRE_DGRAM_GRO;
        assert_int_equal(on, answers[i] == ENOPROTOOPT ? GYRE_DGRAM_GRO : 0);
        assert_true(faults_strike_done());
    }
    test_loop_end(loop);
}

/* It was taken to be connected to nobody, and sends without an address were refused. */
static void datagram_socket_that_cannot_be_asked_for_its_peer_is_not_adopted(void)
{
    struct gyre_loop *loop = test_loop();
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
    refuse_to_adopt(loop, pair[0], FAULTS_CALL_getpeername, 1);
    adopt_and_close(loop, pair[0]);
    close(pair[1]);
    test_loop_end(loop);
}

/* The file stayed, and the next start was told that the address is in use. */
static void listener_whose_file_cannot_be_told_leaves_none(void)
{
    static const struct gyre_stream_handler handler;
    const struct gyre_listener_options options = {.handler = &handler};
    struct gyre_loop *loop = test_loop();
    const char *directory = test_directory();
    struct gyre_listener listener;
    struct gyre_addr address;
    struct stat file;
    char text[128];

    snprintf(text, sizeof(text), "unix:%s/socket", directory);
    assert_int_equal(gyre_addr_parse(text, &address), 0);
    faults_strike(FAULTS_CALL_stat, ENOMEM, 1);
    assert_int_equal(gyre_listen_addr(loop, &listener, &address, &options), -ENOMEM);
    assert_true(faults_strike_done());
    assert_int_equal(lstat(address.un.sun_path, &file), -1);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(gyre_listen_addr(loop, &listener, &address, &options), 0);
    assert_int_equal(gyre_listener_close(&listener), 0);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(rmdir(directory), 0);
    test_loop_end(loop);
}

static int asked;

static int refuse_each_second_option(enum faults_call call, uint64_t place)
{
    (void)place;
    return call == FAULTS_CALL_getsockopt && asked++ % 2 ? ENOBUFS : 0;
}

/* Without TCP_INFO what waits was looked at: another quantity, whose difference was progress. */
static void stalled_stream_that_cannot_be_asked_for_its_progress_ends(void)
{
    struct call call;
    int number;

    call_prepare(&call, test_tcp_pair, &number);
    call.talk.handler.write_timeout_ns = 50 * GYRE_MSEC;
    call.talk.handler.write_cap = 64 << 20;
    talk_adopt(&call.talk, call.loop, number);
    talk_until(call.loop, &call.talk, TALK_OPEN, 1);
    faults_explore(refuse_each_second_option);
    assert_true(talk_write_ref(&call.talk, 32 << 20) > 0);
    while (call.talk.count[TALK_CLOSE] == 0) {
        assert_true(asked < 50); /* a fourth of the time lies between two looks */
        assert_int_equal(gyre_loop_run(call.loop, GYRE_RUN_ONCE) < 0, 0);
    }
    faults_explore(NULL);
    assert_true(asked > 1);
    assert_int_equal(call.talk.error, -ETIMEDOUT);
    assert_int_equal(call.talk.which, GYRE_TIMEOUT_WRITE);
    call_end(&call);
}

/* ---- what GYRE_FAULTS may say ---- */

static void faults_text_with_a_mistake_is_refused(void)
{
    static const char *const bad[] = {
        "recv.sort=0.1", "recv.short=2", "recv.short=-0.1", "recv.short=x",          "recv.short",
        "recv.short=",   "seed=x",       "net.delay=0.1",   "recv.short=0.1,,seed=1"};
    char why[128];

    for (size_t i = 0; i < TEST_COUNT(bad); i++) {
        why[0] = '\0';
        assert_int_equal(faults_parse(bad[i], why, sizeof(why)), -1);
        assert_non_null(strstr(why, "GYRE_FAULTS"));
    }
    assert_int_equal(faults_parse("recv.short=1,accept.emfile=0.01,seed=7", why, sizeof(why)), 0);
    assert_int_equal(faults_chance(GYRE_SIM_FAULT_RECV_SHORT), 1);
    assert_int_equal(faults_chance(GYRE_SIM_FAULT_SEND_SHORT), 0);
    assert_int_equal(faults_struck(GYRE_SIM_FAULT_RECV_SHORT), 1);
    assert_int_equal(faults_parse(NULL, why, sizeof(why)), 0);
    assert_int_equal(faults_strike_parse("recv:ENOMEM"), -1);
    assert_int_equal(faults_strike_parse("resv:ENOMEM:1"), -1);
    assert_int_equal(faults_strike_parse("recv:ENOMEM:1"), 0);
    assert_int_equal(faults_strike_parse("recv:ENOMEM:1:1f"), 0);
    faults_strike(FAULTS_CALLS, 0, 0);
}

int main(void)
{
    const struct test_case cases[] = {
        TEST_CASE(lease_receive_interrupted_by_erestartsys_goes_on),
        TEST_CASE(small_leases_leave_a_block_beside_one_filled_directly),
        TEST_CASE(accept_cancelled_with_a_number_of_nothing_delivers_none),
        TEST_CASE(reset_behind_data_that_is_seen_late_ends_the_stream),
        TEST_CASE(reset_behind_data_that_cannot_be_asked_for_ends_the_stream),
        TEST_CASE(receive_turned_away_at_urgent_data_goes_on),
        TEST_CASE(end_behind_urgent_data_turned_away_at_is_told),
        TEST_CASE(loop_without_memory_to_wait_for_wakes_tries_again),
        TEST_CASE(embedded_loop_asks_again_for_a_lost_cancel),
        TEST_CASE(signal_read_that_is_interrupted_is_made_again),
        TEST_CASE(signal_read_that_fails_is_made_again),
        TEST_CASE(queued_error_whose_read_is_interrupted_tells_its_address),
        TEST_CASE(queued_error_that_cannot_be_read_is_told_and_read_again),
        TEST_CASE(flooded_socket_without_memory_for_a_poll_stays_busy),
        TEST_CASE(paused_socket_is_not_polled_anew),
        TEST_CASE(socket_whose_flood_ebbs_without_memory_for_a_poll_stays_busy),
        TEST_CASE(full_socket_without_memory_to_wait_for_room_gives_up),
        TEST_CASE(socket_that_cannot_be_asked_for_its_family_is_refused),
        TEST_CASE(operation_that_finds_the_queue_full_and_the_kernel_busy_waits),
        TEST_CASE(connection_of_which_nothing_can_be_asked_is_delivered),
        TEST_CASE(descriptor_that_cannot_be_made_nonblocking_fails),
        TEST_CASE(receive_on_a_socket_whose_kind_cannot_be_asked_tells_why),
        TEST_CASE(send_on_a_socket_whose_kind_cannot_be_asked_sends_what_there_is),
        TEST_CASE(end_while_a_send_is_unknown_is_no_orderly_one),
        TEST_CASE(datagram_socket_that_cannot_be_asked_for_its_options_is_not_adopted),
        TEST_CASE(datagram_socket_without_an_option_is_adopted),
        TEST_CASE(datagram_socket_that_cannot_be_asked_for_its_peer_is_not_adopted),
        TEST_CASE(listener_whose_file_cannot_be_told_leaves_none),
        TEST_CASE(stalled_stream_that_cannot_be_asked_for_its_progress_ends),
        TEST_CASE(faults_text_with_a_mistake_is_refused),
    };

    return test_main("faults-regress", cases, TEST_COUNT(cases));
}
