/*
 * Bugs that were found by reading and by fuzzing, each as the smallest program that showed it. All
 * runs are bounded by the case's time limit: what hung then hangs again if the mend goes.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <gyre.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DATA_LEN = 40000, PAGE = 4096, LEASES_MAX = 64 };

/* A receive, what became of it, and what it retained. */
struct receiver {
    struct gyre_fd fd;
    struct gyre_op *op; /* on the heap, freed in its final callback */
    struct gyre_op close;
    struct gyre_lease leases[LEASES_MAX];
    int count;
    int retains;
    int cancels; /* in its first data callback */
    int ended;
    int closed;
    int32_t result;
    size_t received;
};

static struct receiver *receiver; /* of the case: an op on the heap cannot be traced back to it */

static void on_data(struct gyre_op *op, const struct gyre_result *result)
{
    if (result->res > 0) {
        receiver->received += (size_t)result->res;
    }
    if (result->lease != NULL && receiver->retains && receiver->count < LEASES_MAX) {
        assert_int_equal(gyre_lease_retain(result->lease, &receiver->leases[receiver->count++]), 0);
    }
    if (result->flags & GYRE_MORE) {
        if (receiver->cancels) {
            assert_int_equal(gyre_op_cancel(op), 0);
        }
        return;
    }
    receiver->result = result->res;
    receiver->ended = 1;
    free(op);
    receiver->op = NULL;
}

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    assert_int_equal(result->res, 0);
    receiver->closed = 1;
}

static void start(uint32_t flags)
{
    receiver->ended = 0;
    receiver->op = malloc(sizeof(*receiver->op));
    assert_non_null(receiver->op);
    gyre_op_init(receiver->op, on_data);
    assert_int_equal(gyre_op_recv_lease(receiver->op, &receiver->fd, flags), 0);
}

static void attach(struct gyre_loop *loop, struct receiver *new, int number)
{
    receiver = new;
    assert_int_equal(gyre_fd_init(&receiver->fd, loop, number), 0);
}

static void receive(struct gyre_loop *loop, struct receiver *new, int number)
{
    attach(loop, new, number);
    start(GYRE_MULTISHOT);
}

static void finish(struct gyre_loop *loop)
{
    gyre_op_init(&receiver->close, on_closed);
    assert_int_equal(gyre_op_close(&receiver->close, &receiver->fd, 0), 0);
    test_turns_until(loop, &receiver->closed);
    assert_true(receiver->ended);
    test_loop_end(loop);
}

static void release_all(struct receiver *holder)
{
    while (holder->count > 0) {
        gyre_lease_release(&holder->leases[--holder->count]);
    }
}

static void send_bytes(int number, size_t len)
{
    static const uint8_t zeroes[DATA_LEN];

    assert_int_equal(send(number, zeroes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Read after its end on epoll, never ended on io_uring without a buffer ring. */
static void receive_cancelled_in_its_callback_and_freed_in_the_last(void)
{
    struct gyre_loop_options options = test_options();
    struct receiver one = {.cancels = 1};
    struct gyre_loop *loop;
    int pair[2];

    options.pool_block = PAGE;
    options.pool_min = 4 * PAGE;
    options.pool_max = 4 * PAGE;
    loop = test_loop_with(&options);
    test_tcp_pair(pair);
    send_bytes(pair[1], DATA_LEN); /* more than one receive takes: the descriptor stays readable */
    attach(loop, &one, pair[0]);
    start(0); /* leaves the descriptor known to be readable */
    test_turns_until(loop, &one.ended);
    assert_true(one.result > 0);
    start(GYRE_MULTISHOT);
    test_turns_until(loop, &one.ended);
    assert_int_equal(one.result, -ECANCELED);
    close(pair[1]);
    finish(loop);
}

/* Stayed armed, with nothing to wake it, when it was over its quota again on waking. */
static void receive_held_twice_goes_on(void)
{
    struct gyre_loop_options options = test_options();
    struct receiver one = {.retains = 1};
    struct gyre_lease again[4];
    struct gyre_loop *loop;
    int pair[2];

    options.pool_quota = 10000;
    options.pool_block = PAGE;
    options.pool_min = 2 * PAGE;
    options.pool_max = 256 * PAGE;
    loop = test_loop_with(&options);
    test_tcp_pair(pair);
    receive(loop, &one, pair[0]);
    send_bytes(pair[1], DATA_LEN);
    while (one.received <= options.pool_quota) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    while (one.count > 1) {
        gyre_lease_release(&one.leases[--one.count]);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gyre_lease_retain(&one.leases[0], &again[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), 1);
    }
    for (int i = 0; i < 4; i++) {
        gyre_lease_release(&again[i]);
    }
    release_all(&one);
    while (one.received < DATA_LEN) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        release_all(&one);
    }
    close(pair[1]);
    finish(loop);
}

static void send_descriptor(int number)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    char byte = 0;
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    const struct msghdr message = {.msg_iov = &piece,
                                   .msg_iovlen = 1,
                                   .msg_control = &control,
                                   .msg_controllen = sizeof(control)};

    memcpy(CMSG_DATA(&control.header), &number, sizeof(number));
    assert_int_equal(sendmsg(number, &message, MSG_NOSIGNAL), 1);
}

/* A receive stops short behind a message with descriptors: that is not "empty". */
static void receive_short_at_passed_descriptors_goes_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct receiver one = {0};
    int pair[2];

    test_unix_pair(pair);
    send_descriptor(pair[1]);
    send_bytes(pair[1], 1);
    receive(loop, &one, pair[0]);
    while (one.received < 2) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    close(pair[1]);
    finish(loop);
}

/* ... nor is the place of urgent data. */
static void receive_short_at_urgent_data_goes_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct receiver one = {0};
    int pair[2];

    test_tcp_pair(pair);
    send_bytes(pair[1], 1);
    assert_int_equal(send(pair[1], "!", 1, MSG_OOB | MSG_NOSIGNAL), 1);
    send_bytes(pair[1], 1);
    receive(loop, &one, pair[0]);
    while (one.received < 2) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    close(pair[1]);
    finish(loop);
}

/* The sum of what is retained from one descriptor may pass 4 GiB: a lease handed to many. */
static void leases_of_one_descriptor_beyond_four_gibibytes(void)
{
    enum { HOLDERS = 1 << 20, EACH = 8192 };
    struct gyre_lease *leases = calloc(HOLDERS, sizeof(*leases));
    struct gyre_loop *loop = test_loop();
    struct receiver one = {.retains = 1};
    int pair[2];

    assert_non_null(leases);
    test_tcp_pair(pair);
    send_bytes(pair[1], EACH);
    receive(loop, &one, pair[0]);
    while (one.received < EACH) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    for (int i = 0; i < HOLDERS; i++) {
        assert_int_equal(gyre_lease_retain(&one.leases[0], &leases[i]), 0);
    }
    for (int i = 0; i < HOLDERS; i++) {
        gyre_lease_release(&leases[i]);
    }
    release_all(&one);
    free(leases);
    close(pair[1]);
    finish(loop);
}

static void on_write(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    receiver->result = result->res;
    receiver->ended = 1;
}

/* -EAGAIN of a descriptor that is O_NONBLOCK is no result, not of a cancelled write either. */
static void write_cancelled_on_a_full_eventfd_says_ecanceled(void)
{
    const uint64_t most = UINT64_MAX - 1;
    const uint64_t one_more = 1;
    struct receiver one = {0};
    struct gyre_loop *loop = test_loop();
    struct gyre_op op;

    receiver = &one;
    assert_int_equal(gyre_fd_init(&one.fd, loop, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), 0);
    assert_int_equal(write(gyre_fd_number(&one.fd), &most, sizeof(most)), sizeof(most));
    gyre_op_init(&op, on_write);
    assert_int_equal(gyre_op_write(&op, &one.fd, &one_more, sizeof(one_more), GYRE_OFFSET_CURRENT),
                     0);
    assert_int_equal(gyre_op_cancel(&op), 0);
    test_turns_until(loop, &one.ended);
    assert_int_equal(one.result, -ECANCELED);
    finish(loop);
}

static int fired;

static void on_tick(struct gyre_timer *timer)
{
    if (fired++ == 0) {
        assert_int_equal(gyre_timer_start_at(timer, 0), 0);
    }
}

/* A deadline of 0 is a past moment, and not "disarm" for the timer of an embedded loop. */
static void embedded_deadline_of_zero_is_due(void)
{
    struct gyre_loop *loop = test_loop();
    struct epoll_event event = {.events = EPOLLIN};
    struct gyre_timer timer;
    const int outer = epoll_create1(EPOLL_CLOEXEC);

    assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, gyre_loop_fd(loop), &event), 0);
    assert_int_equal(gyre_timer_init(&timer, loop, on_tick), 0);
    assert_int_equal(gyre_timer_start(&timer, 0), 0);
    while (gyre_loop_dispatch(loop) > 0) {
        assert_int_equal(epoll_wait(outer, &event, 1, -1), 1);
    }
    assert_int_equal(fired, 2);
    close(outer);
    test_loop_end(loop);
}

/* A send that blocks towards a peer which closed its side can be cancelled at any moment. */
static void send_to_a_half_closed_peer_can_be_cancelled_at_once(void)
{
    enum { BULK = 16 << 20 };
    uint8_t *data = calloc(1, BULK);
    struct gyre_loop *loop = test_loop();
    struct receiver one = {0};
    struct gyre_op op;
    int pair[2];

    assert_non_null(data);
    receiver = &one;
    test_tcp_pair(pair);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    assert_int_equal(gyre_fd_init(&one.fd, loop, pair[0]), 0);
    gyre_op_init(&op, on_write);
    assert_int_equal(gyre_op_send(&op, &one.fd, data, BULK), 0);
    assert_int_equal(gyre_op_cancel(&op), 0);
    test_turns_until(loop, &one.ended);
    assert_true(one.result > 0 || one.result == -ECANCELED);
    close(pair[1]);
    finish(loop);
    free(data);
}

static int refusal;

static void on_refused(struct gyre_op *op, const struct gyre_result *result)
{
    refusal = result->res;
    free(op);
}

/* The driver looked at an accept that had failed after its callback. */
static void accept_refused_and_freed_in_its_callback(void)
{
    struct gyre_op *op = malloc(sizeof(*op));
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    int number;

    assert_non_null(op);
    assert_int_equal(gyre_fd_init(&fd, loop, eventfd(0, EFD_CLOEXEC)), 0);
    gyre_op_init(op, on_refused);
    assert_int_equal(gyre_op_accept(op, &fd, 0), 0);
    test_turns_until(loop, &refusal);
    assert_int_equal(refusal, -ENOTSOCK);
    assert_int_equal(gyre_fd_detach(&fd, &number), 0);
    close(number);
    test_loop_end(loop);
}

static const struct test_case cases[] = {
    {"receive_cancelled_in_its_callback_and_freed_in_the_last",
     receive_cancelled_in_its_callback_and_freed_in_the_last, 0},
    {"receive_held_twice_goes_on", receive_held_twice_goes_on, 0},
    {"receive_short_at_passed_descriptors_goes_on", receive_short_at_passed_descriptors_goes_on, 0},
    {"receive_short_at_urgent_data_goes_on", receive_short_at_urgent_data_goes_on, 0},
    {"leases_of_one_descriptor_beyond_four_gibibytes",
     leases_of_one_descriptor_beyond_four_gibibytes, 0},
    {"write_cancelled_on_a_full_eventfd_says_ecanceled",
     write_cancelled_on_a_full_eventfd_says_ecanceled, 0},
    {"embedded_deadline_of_zero_is_due", embedded_deadline_of_zero_is_due, 0},
    {"send_to_a_half_closed_peer_can_be_cancelled_at_once",
     send_to_a_half_closed_peer_can_be_cancelled_at_once, 0},
    {"accept_refused_and_freed_in_its_callback", accept_refused_and_freed_in_its_callback, 0},
};

int main(void)
{
    return test_main("ops-regress", cases, TEST_COUNT(cases));
}
