/*
 * Misuse: wrong arguments are refused with -EINVAL and do nothing; an object that is in use is
 * refused with -EBUSY; what can only be a bug of the program aborts. Catalogue M01..M06, E01.
 */
#include "core/traffic.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* What the table's calls are made with: everything valid, so that each is wrong in one way. */
static struct stage {
    struct gyre_loop *loop;
    struct gyre_fd fd;     /* attached, idle */
    struct gyre_fd zeroed; /* never attached */
    struct gyre_op op;     /* initialised, idle */
    struct gyre_op raw;    /* zeroes: never initialised */
    struct gyre_connect_op connect;
    struct gyre_msg_op message;
    struct gyre_timer timer;
    struct gyre_timer raw_timer;
    struct gyre_lease nothing;
    struct sockaddr_storage address;
    struct iovec iov[GYRE_IOV_MAX + 1];
    char bytes[64];
    int peer;
    int callbacks;
} stage;

static void on_unexpected(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
    stage.callbacks++;
}

static void on_unexpected_tick(struct gyre_timer *timer)
{
    (void)timer;
    stage.callbacks++;
}

static void on_unexpected_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    stage.callbacks++;
}

static void stage_set(void)
{
    int pair[2];
    size_t i;

    memset(&stage, 0, sizeof(stage));
    stage.loop = test_loop();
    test_tcp_pair(pair);
    stage.peer = pair[1];
    assert_int_equal(gyre_fd_init(&stage.fd, stage.loop, pair[0]), 0);
    gyre_op_init(&stage.op, on_unexpected);
    gyre_op_init(&stage.connect.op, on_unexpected);
    gyre_op_init(&stage.message.op, on_unexpected);
    assert_int_equal(gyre_timer_init(&stage.timer, stage.loop, on_unexpected_tick), 0);
    for (i = 0; i < TEST_COUNT(stage.iov); i++) {
        stage.iov[i] = (struct iovec){stage.bytes, sizeof(stage.bytes)};
    }
}

/* Nothing was started: the loop has nothing to do, the descriptor can be taken back at once. */
static void stage_clear(void)
{
    int number = -1;

    assert_int_equal(gyre_loop_alive(stage.loop), 0);
    assert_int_equal(gyre_loop_run(stage.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(stage.callbacks, 0);
    assert_int_equal(gyre_fd_detach(&stage.fd, &number), 0);
    close(number);
    close(stage.peer);
    test_loop_end(stage.loop);
}

#define INVALID(call)                                                                            \
    do {                                                                                         \
        int rc_ = (call);                                                                        \
        if (rc_ != -EINVAL) {                                                                    \
            fail_msg("%s: %s, expected EINVAL", #call, rc_ < 0 ? gyre_error_name(rc_) : ">= 0"); \
        }                                                                                        \
    } while (0)

/* ---- M01: NULL ---- */

/* M01 */
static void loop_calls_with_null_are_refused(void)
{
    struct gyre_loop_stats stats;
    struct gyre_loop_info info;
    struct gyre_pool_stats pool;

    stage_set();
    INVALID(gyre_loop_create(NULL, NULL));
    INVALID(gyre_loop_run(NULL, GYRE_RUN_DEFAULT));
    INVALID(gyre_loop_dispatch(NULL));
    INVALID(gyre_loop_fd(NULL));
    INVALID(gyre_loop_post(NULL, on_unexpected_post, NULL));
    INVALID(gyre_loop_post(stage.loop, NULL, NULL));
    INVALID(gyre_loop_info(NULL, &info));
    INVALID(gyre_loop_info(stage.loop, NULL));
    INVALID(gyre_loop_stats(NULL, &stats));
    INVALID(gyre_loop_stats(stage.loop, NULL));
    INVALID(gyre_loop_pool_stats(NULL, &pool));
    INVALID(gyre_loop_pool_stats(stage.loop, NULL));
    stage_clear();
}

/* M01 */
static void descriptor_calls_with_null_are_refused(void)
{
    struct gyre_fd fd;
    int number = 77;

    stage_set();
    INVALID(gyre_fd_init(NULL, stage.loop, 0));
    INVALID(gyre_fd_init(&fd, NULL, 0));
    INVALID(gyre_fd_init(&fd, stage.loop, -1));
    INVALID(gyre_fd_init(&fd, stage.loop, INT_MIN));
    INVALID(gyre_fd_detach(NULL, &number));
    INVALID(gyre_fd_detach(&stage.fd, NULL));
    INVALID(gyre_fd_detach(&stage.zeroed, &number));
    INVALID(gyre_fd_cancel(NULL));
    INVALID(gyre_fd_cancel(&stage.zeroed));
    assert_int_equal(gyre_fd_number(NULL), -EBADF);
    assert_int_equal(gyre_fd_number(&stage.zeroed), -EBADF);
    assert_int_equal(number, 77);
    stage_clear();
}

/* M01 */
static void timer_and_lease_calls_with_null_are_refused(void)
{
    struct gyre_lease out = {0};

    stage_set();
    INVALID(gyre_timer_init(NULL, stage.loop, on_unexpected_tick));
    INVALID(gyre_timer_init(&stage.raw_timer, NULL, on_unexpected_tick));
    INVALID(gyre_timer_init(&stage.raw_timer, stage.loop, NULL));
    INVALID(gyre_timer_start(NULL, 0));
    INVALID(gyre_timer_start(&stage.raw_timer, 0));
    INVALID(gyre_timer_start_at(NULL, 0));
    INVALID(gyre_timer_start_at(&stage.raw_timer, 0));
    INVALID(gyre_timer_background(NULL, 1));
    INVALID(gyre_timer_background(&stage.raw_timer, 1));
    INVALID(gyre_lease_retain(NULL, &out));
    INVALID(gyre_lease_retain(&stage.nothing, &out));
    INVALID(gyre_lease_retain(&stage.nothing, NULL));
    gyre_lease_release(&stage.nothing);
    gyre_lease_release(&out);
    stage_clear();
}

/* M01 */
static void simple_operations_with_null_are_refused(void)
{
    stage_set();
    INVALID(gyre_op_nop(NULL, stage.loop));
    INVALID(gyre_op_nop(&stage.op, NULL));
    INVALID(gyre_op_nop(&stage.raw, stage.loop));
    INVALID(gyre_op_timeout(NULL, stage.loop, 0));
    INVALID(gyre_op_timeout(&stage.op, NULL, 0));
    INVALID(gyre_op_timeout(&stage.raw, stage.loop, 0));
    INVALID(gyre_op_cancel(NULL));
    INVALID(gyre_op_cancel(&stage.raw));
    INVALID(gyre_op_set_deadline(NULL, 0));
    INVALID(gyre_op_set_deadline(&stage.raw, 0));
    INVALID(gyre_op_set_deadline(&stage.op, 0));
    assert_int_equal(gyre_op_cancel(&stage.op), 0);
    assert_int_equal(gyre_op_active(&stage.op), 0);
    stage_clear();
}

/* M01 */
static void descriptor_operations_with_null_operation_are_refused(void)
{
    const struct sockaddr *address = (const struct sockaddr *)&stage.address;
    const struct msghdr message = {.msg_iov = stage.iov, .msg_iovlen = 1};
    char *bytes = stage.bytes;
    struct gyre_fd *fd = &stage.fd;

    stage_set();
    INVALID(gyre_op_poll(NULL, fd, POLLIN, 0));
    INVALID(gyre_op_accept(NULL, fd, 0));
    INVALID(gyre_op_connect(NULL, fd, address, sizeof(struct sockaddr_in)));
    INVALID(gyre_op_recv(NULL, fd, bytes, 1, 0));
    INVALID(gyre_op_recv_lease(NULL, fd, 0));
    INVALID(gyre_op_send(NULL, fd, bytes, 1));
    INVALID(gyre_op_recvmsg(NULL, fd, &message, 0));
    INVALID(gyre_op_sendmsg(NULL, fd, &message));
    INVALID(gyre_op_read(NULL, fd, bytes, 1, 0));
    INVALID(gyre_op_write(NULL, fd, bytes, 1, 0));
    INVALID(gyre_op_close(NULL, fd, 0));
    INVALID(gyre_op_recv(&stage.raw, fd, bytes, 1, 0));
    INVALID(gyre_op_send(&stage.raw, fd, bytes, 1));
    INVALID(gyre_op_close(&stage.raw, fd, 0));
    stage_clear();
}

static void refused_with_descriptor(struct gyre_fd *fd)
{
    const struct sockaddr *address = (const struct sockaddr *)&stage.address;
    const struct msghdr message = {.msg_iov = stage.iov, .msg_iovlen = 1};
    char *bytes = stage.bytes;

    INVALID(gyre_op_poll(&stage.op, fd, POLLIN, 0));
    INVALID(gyre_op_accept(&stage.op, fd, 0));
    INVALID(gyre_op_connect(&stage.connect, fd, address, sizeof(struct sockaddr_in)));
    INVALID(gyre_op_recv(&stage.op, fd, bytes, 1, 0));
    INVALID(gyre_op_recv_lease(&stage.op, fd, 0));
    INVALID(gyre_op_send(&stage.op, fd, bytes, 1));
    INVALID(gyre_op_recvmsg(&stage.message, fd, &message, 0));
    INVALID(gyre_op_sendmsg(&stage.message, fd, &message));
    INVALID(gyre_op_read(&stage.op, fd, bytes, 1, 0));
    INVALID(gyre_op_write(&stage.op, fd, bytes, 1, 0));
    INVALID(gyre_op_close(&stage.op, fd, 0));
}

/* M01 */
static void descriptor_operations_without_descriptor_are_refused(void)
{
    stage_set();
    refused_with_descriptor(NULL);
    refused_with_descriptor(&stage.zeroed);
    stage_clear();
}

/* ---- M01, M06: lengths, counts, flags ---- */

/* M01 */
static void transfers_with_bad_length_are_refused(void)
{
    const size_t huge[] = {(size_t)INT32_MAX + 1, UINT32_MAX, SIZE_MAX, SIZE_MAX / 2};
    size_t i;

    stage_set();
    for (i = 0; i < TEST_COUNT(huge); i++) {
        INVALID(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, huge[i], 0));
        INVALID(gyre_op_send(&stage.op, &stage.fd, stage.bytes, huge[i]));
        INVALID(gyre_op_read(&stage.op, &stage.fd, stage.bytes, huge[i], 0));
        INVALID(gyre_op_write(&stage.op, &stage.fd, stage.bytes, huge[i], 0));
    }
    INVALID(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 0, 0));
    INVALID(gyre_op_read(&stage.op, &stage.fd, stage.bytes, 0, 0));
    INVALID(gyre_op_recv(&stage.op, &stage.fd, NULL, 1, 0));
    INVALID(gyre_op_read(&stage.op, &stage.fd, NULL, 1, 0));
    INVALID(gyre_op_send(&stage.op, &stage.fd, NULL, 1));
    INVALID(gyre_op_write(&stage.op, &stage.fd, NULL, 1, 0));
    stage_clear();
}

/* M06 */
static void messages_with_bad_pieces_are_refused(void)
{
    struct msghdr message = {.msg_iov = stage.iov, .msg_iovlen = GYRE_IOV_MAX + 1};

    stage_set();
    INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, NULL, 0));
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, NULL));
    INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, &message, 0));
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    message.msg_iovlen = SIZE_MAX;
    INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, &message, 0));
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    message.msg_iovlen = 0;
    INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, &message, 0));
    message.msg_iov = NULL;
    message.msg_iovlen = 1;
    INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, &message, 0));
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    message.msg_iov = stage.iov;
    message.msg_iovlen = 2;
    stage.iov[0].iov_len = INT32_MAX;
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    stage.iov[0].iov_len = SIZE_MAX;
    stage.iov[1].iov_len = 2;
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    stage.iov[0] = (struct iovec){NULL, 5};
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    message.msg_iovlen = 1;
    stage.iov[0] = (struct iovec){stage.bytes, 1};
    message.msg_name = &stage.address;
    message.msg_namelen = sizeof(stage.address) + 1;
    INVALID(gyre_op_sendmsg(&stage.message, &stage.fd, &message));
    stage_clear();
}

/* M01 */
static void connect_with_bad_address_is_refused(void)
{
    const struct sockaddr *address = (const struct sockaddr *)&stage.address;

    stage_set();
    INVALID(gyre_op_connect(&stage.connect, &stage.fd, NULL, sizeof(struct sockaddr_in)));
    INVALID(gyre_op_connect(&stage.connect, &stage.fd, address, sizeof(stage.address) + 1));
    INVALID(gyre_op_connect(&stage.connect, &stage.fd, address, (socklen_t)-1));
    stage_clear();
}

/* M01 */
static void operations_with_unknown_flags_are_refused(void)
{
    const struct msghdr message = {.msg_iov = stage.iov, .msg_iovlen = 1};
    const uint32_t unknown[] = {1u << 31, 1u << 8, UINT32_MAX};
    size_t i;

    stage_set();
    for (i = 0; i < TEST_COUNT(unknown); i++) {
        INVALID(gyre_op_poll(&stage.op, &stage.fd, POLLIN, unknown[i]));
        INVALID(gyre_op_accept(&stage.op, &stage.fd, unknown[i]));
        INVALID(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, unknown[i]));
        INVALID(gyre_op_recv_lease(&stage.op, &stage.fd, unknown[i]));
        INVALID(gyre_op_recvmsg(&stage.message, &stage.fd, &message, unknown[i]));
        INVALID(gyre_op_close(&stage.op, &stage.fd, unknown[i]));
    }
    INVALID(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, GYRE_MULTISHOT));
    INVALID(gyre_op_recv_lease(&stage.op, &stage.fd, GYRE_WAITALL));
    INVALID(gyre_op_accept(&stage.op, &stage.fd, GYRE_WAITALL));
    INVALID(gyre_op_close(&stage.op, &stage.fd, GYRE_MULTISHOT));
    INVALID(gyre_op_poll(&stage.op, &stage.fd, 0, 0));
    INVALID(gyre_op_poll(&stage.op, &stage.fd, 1u << 20, 0));
    stage_clear();
}

static void loop_options_out_of_range_are_refused(void)
{
    const struct gyre_loop_options good = test_options();
    struct gyre_loop *untouched = (struct gyre_loop *)&stage;
    struct gyre_loop *loop = untouched;
    struct gyre_loop_options bad[16];
    int accepted = 0;
    size_t i;

    for (i = 0; i < TEST_COUNT(bad); i++) {
        bad[i] = good;
    }
    bad[0].backend = (enum gyre_backend)99;
    bad[1].sq_entries = 7;
    bad[2].sq_entries = 32769;
    bad[3].cq_entries = 65537;
    bad[4].sq_entries = 64;
    bad[4].cq_entries = 64;
    bad[5].pool_block = 4096 + 1;
    bad[6].pool_block = 2048;
    bad[7].pool_block = 2u << 20;
    bad[8].features_off = 1u << 31;
    bad[9].pool_min = 32u << 20;
    bad[9].pool_max = 1u << 20;
    bad[10].pool_block = 6000;
    bad[11].sq_entries = UINT32_MAX;
    bad[12].cq_entries = UINT32_MAX;
    bad[13].pool_min = SIZE_MAX;
    bad[14].pool_max = SIZE_MAX;
    bad[15].post_capacity = UINT32_MAX;
    for (i = 0; i < TEST_COUNT(bad); i++) {
        int rc = gyre_loop_create(&loop, &bad[i]);

        if (rc != -EINVAL) {
            print_error("options %zu: %s\n", i, rc < 0 ? gyre_error_name(rc) : "accepted");
            accepted++;
        }
        if (rc == 0) {
            assert_int_equal(gyre_loop_destroy(loop), 0);
            loop = untouched;
        }
        assert_ptr_equal(loop, untouched);
    }
    assert_int_equal(accepted, 0);
}

/* ---- M02: in use ---- */

/* M02 */
static void active_operation_started_again_is_busy(void)
{
    const struct msghdr message = {.msg_iov = stage.iov, .msg_iovlen = 1};

    stage_set();
    assert_int_equal(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, 0), 0);
    assert_int_equal(gyre_op_nop(&stage.op, stage.loop), -EBUSY);
    assert_int_equal(gyre_op_timeout(&stage.op, stage.loop, 0), -EBUSY);
    assert_int_equal(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, 0), -EBUSY);
    assert_int_equal(gyre_op_recv_lease(&stage.op, &stage.fd, 0), -EBUSY);
    assert_int_equal(gyre_op_accept(&stage.op, &stage.fd, 0), -EBUSY);
    assert_int_equal(gyre_op_poll(&stage.op, &stage.fd, POLLIN, 0), -EBUSY);
    assert_int_equal(gyre_op_send(&stage.op, &stage.fd, "x", 1), -EBUSY);
    assert_int_equal(gyre_op_read(&stage.op, &stage.fd, stage.bytes, 1, 0), -EBUSY);
    assert_int_equal(gyre_op_write(&stage.op, &stage.fd, "x", 1, 0), -EBUSY);
    assert_int_equal(gyre_op_close(&stage.op, &stage.fd, 0), -EBUSY);
    assert_int_equal(gyre_op_recvmsg(&stage.message, &stage.fd, &message, 0), 0);
    assert_int_equal(gyre_op_sendmsg(&stage.message, &stage.fd, &message), -EBUSY);
    assert_int_equal(gyre_loop_alive(stage.loop), 2);
    assert_int_equal(gyre_fd_cancel(&stage.fd), 2);
    assert_int_equal(gyre_loop_run(stage.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(stage.callbacks, 2);
    stage.callbacks = 0;
    stage_clear();
}

/* M02, M04 */
static void descriptor_in_use_is_not_detached(void)
{
    int number = -1;

    stage_set();
    assert_int_equal(gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, 0), 0);
    assert_int_equal(gyre_fd_detach(&stage.fd, &number), -EBUSY);
    assert_int_equal(number, -1);
    assert_int_equal(gyre_op_cancel(&stage.op), 0);
    assert_int_equal(gyre_fd_detach(&stage.fd, &number), -EBUSY);
    assert_int_equal(gyre_loop_run(stage.loop, GYRE_RUN_DEFAULT), 0);
    stage.callbacks = 0;
    stage_clear();
}

/* M04 */
static void descriptor_being_closed_takes_no_operations(void)
{
    struct gyre_op second;
    int number = -1;

    stage_set();
    gyre_op_init(&second, on_unexpected);
    assert_int_equal(gyre_op_close(&stage.op, &stage.fd, 0), 0);
    assert_int_equal(gyre_op_recv(&second, &stage.fd, stage.bytes, 1, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_op_recv_lease(&second, &stage.fd, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_op_send(&second, &stage.fd, "x", 1), GYRE_ECLOSING);
    assert_int_equal(gyre_op_poll(&second, &stage.fd, POLLIN, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_op_close(&second, &stage.fd, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_fd_detach(&stage.fd, &number), GYRE_ECLOSING);
    assert_int_equal(gyre_loop_run(stage.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(stage.callbacks, 1);
    assert_int_equal(gyre_fd_number(&stage.fd), -EBADF);
    INVALID(gyre_op_recv(&second, &stage.fd, stage.bytes, 1, 0));
    INVALID(gyre_fd_cancel(&stage.fd));
    close(stage.peer);
    test_loop_end(stage.loop);
}

/* ---- M05: bad descriptors ---- */

/* M05 */
static void descriptor_not_open_is_refused(void)
{
    struct gyre_fd fd;

    stage_set();
    assert_int_equal(gyre_fd_init(&fd, stage.loop, 1000000), -EBADF);
    assert_int_equal(gyre_fd_init(&fd, stage.loop, INT_MAX), -EBADF);
    stage_clear();
}

struct outcome {
    struct gyre_op op;
    struct gyre_op close;
    int results;
    int res;
};

static void on_outcome(struct gyre_op *op, const struct gyre_result *result)
{
    struct outcome *outcome = gyre_container_of(op, struct outcome, op);

    outcome->results++;
    outcome->res = result->res;
}

/* What a recv on descriptor @number, of whatever sort, comes to; closes it. */
static int recv_on(int number)
{
    struct outcome outcome = {0};
    struct gyre_fd fd;

    assert_true(number >= 0);
    gyre_op_init(&outcome.op, on_outcome);
    gyre_op_init(&outcome.close, test_ignore);
    assert_int_equal(gyre_fd_init(&fd, stage.loop, number), 0);
    assert_int_equal(gyre_op_recv(&outcome.op, &fd, stage.bytes, 1, 0), 0);
    test_turns_until(stage.loop, &outcome.results);
    assert_int_equal(gyre_op_close(&outcome.close, &fd, 0), 0);
    assert_int_equal(gyre_loop_run(stage.loop, GYRE_RUN_DEFAULT), 0);
    assert_int_equal(outcome.results, 1);
    return outcome.res;
}

/* M05: the same word on every backend. */
static void recv_on_other_than_socket_says_so(void)
{
    stage_set();
    assert_int_equal(recv_on(open("/dev/null", O_RDWR | O_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(recv_on(open("/proc/self/exe", O_RDONLY | O_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(recv_on(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(recv_on(eventfd(0, EFD_CLOEXEC)), -ENOTSOCK);
    assert_int_equal(recv_on(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), -ENOTCONN);
    stage_clear();
}

/* ---- assertions: each in a process of its own, which dies of SIGABRT and of nothing else ---- */

static int unref_too_often(void *unused)
{
    (void)unused;
    stage_set();
    gyre_loop_ref(stage.loop);
    gyre_loop_unref(stage.loop);
    gyre_loop_unref(stage.loop);
    return 0;
}

/* L21 */
static void unref_without_ref_aborts(void)
{
    test_child_aborts(unref_too_often, NULL);
}

static int reinit_active_operation(void *zero)
{
    stage_set();
    if (gyre_op_recv(&stage.op, &stage.fd, stage.bytes, 1, 0) != 0 ||
        gyre_loop_run(stage.loop, GYRE_RUN_NOWAIT) != 1) {
        return 1;
    }
    if (zero != NULL) {
        memset(&stage.op, 0, sizeof(stage.op));
    } else {
        gyre_op_init(&stage.op, on_unexpected);
    }
    if (write(stage.peer, "x", 1) != 1) {
        return 2;
    }
    (void)gyre_loop_run(stage.loop, GYRE_RUN_ONCE);
    return 3;
}

/* M02: the loop finds out when the result arrives for an operation that says it is idle. */
static void active_operation_initialised_again_aborts(void)
{
    test_child_aborts(reinit_active_operation, NULL);
}

/* M03 */
static void active_operation_overwritten_aborts(void)
{
    test_child_aborts(reinit_active_operation, &stage);
}

static struct gyre_lease held;

static void on_hold(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    stage.callbacks += gyre_lease_retain(result->lease, &held) == 0;
}

static int release_lease_twice(void *unused)
{
    struct gyre_lease copy;

    (void)unused;
    stage_set();
    gyre_op_init(&stage.op, on_hold);
    if (gyre_op_recv_lease(&stage.op, &stage.fd, 0) != 0 || write(stage.peer, "x", 1) != 1) {
        return 1;
    }
    while (stage.callbacks == 0) {
        if (gyre_loop_run(stage.loop, GYRE_RUN_ONCE) < 0) {
            return 2;
        }
    }
    copy = held;
    gyre_lease_release(&held);
    gyre_lease_release(&held); /* a lease of nothing by now: does nothing */
    gyre_lease_release(&copy);
    return 3;
}

/* M03 */
static void lease_released_twice_through_a_copy_aborts(void)
{
    test_child_aborts(release_lease_twice, NULL);
}

static const struct test_case cases[] = {
    {"loop_calls_with_null_are_refused", loop_calls_with_null_are_refused, 0},
    {"descriptor_calls_with_null_are_refused", descriptor_calls_with_null_are_refused, 0},
    {"timer_and_lease_calls_with_null_are_refused", timer_and_lease_calls_with_null_are_refused, 0},
    {"simple_operations_with_null_are_refused", simple_operations_with_null_are_refused, 0},
    {"descriptor_operations_with_null_operation_are_refused",
     descriptor_operations_with_null_operation_are_refused, 0},
    {"descriptor_operations_without_descriptor_are_refused",
     descriptor_operations_without_descriptor_are_refused, 0},
    {"transfers_with_bad_length_are_refused", transfers_with_bad_length_are_refused, 0},
    {"messages_with_bad_pieces_are_refused", messages_with_bad_pieces_are_refused, 0},
    {"connect_with_bad_address_is_refused", connect_with_bad_address_is_refused, 0},
    {"operations_with_unknown_flags_are_refused", operations_with_unknown_flags_are_refused, 0},
    {"loop_options_out_of_range_are_refused", loop_options_out_of_range_are_refused, 0},
    {"active_operation_started_again_is_busy", active_operation_started_again_is_busy, 0},
    {"descriptor_in_use_is_not_detached", descriptor_in_use_is_not_detached, 0},
    {"descriptor_being_closed_takes_no_operations", descriptor_being_closed_takes_no_operations, 0},
    {"descriptor_not_open_is_refused", descriptor_not_open_is_refused, 0},
    {"recv_on_other_than_socket_says_so", recv_on_other_than_socket_says_so, 0},
    {"unref_without_ref_aborts", unref_without_ref_aborts, 0},
    {"active_operation_initialised_again_aborts", active_operation_initialised_again_aborts, 0},
    {"active_operation_overwritten_aborts", active_operation_overwritten_aborts, 0},
    {"lease_released_twice_through_a_copy_aborts", lease_released_twice_through_a_copy_aborts, 0},
};

int main(void)
{
    return test_main("misuse", cases, TEST_COUNT(cases));
}
