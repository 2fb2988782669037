/* The contract of design.md, section 1, for operations: lines 1, 3, 4, 5, 6 and 7. The other lines
 * are about the loop and have their tests elsewhere. */
#include "rig.h"
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Line 1: a start function that returns < 0 did nothing and its callback never runs. */

static void refuse_busy(struct rig *rig)
{
    struct trial trial;

    assert_int_equal(rig_start(rig, &trial, NULL), 0);
    const struct gyre_loop_stats before = trial_stats(rig->loop);
    for (int turns = 0; turns < 2; turns++) {
        trial_turns(rig->loop, turns);
        assert_int_equal(rig->kind->start(rig, &trial), -EBUSY);
        assert_int_equal(gyre_op_nop(&trial.op, rig->loop), -EBUSY);
    }
    const struct gyre_loop_stats after = trial_stats(rig->loop);
    assert_memory_equal(after.started, before.started, sizeof after.started);
    assert_int_equal(trial.results, 0);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    assert_int_equal(trial_end(rig->loop, &trial), -ECANCELED);
    trial_turns(rig->loop, 2);
    assert_int_equal(trial.results, 1);
    rig_settle(rig, &trial);
}

static void contract_01_a_start_refused_as_busy_does_nothing(void)
{
    rig_each(refuse_busy);
}

static void refuse_detached(struct rig *rig)
{
    struct trial trial;
    struct trial closing;

    if (!rig->attached) {
        return;
    }
    trial_init(&closing, NULL, NULL);
    assert_int_equal(gyre_op_close(&closing.op, &rig->fd, 0), 0);
    rig->attached = 0;
    assert_int_equal(rig_start(rig, &trial, NULL), GYRE_ECLOSING);
    assert_int_equal(gyre_op_active(&trial.op), 0);
    assert_int_equal(trial_end(rig->loop, &closing), 0);
    assert_int_equal(rig_start(rig, &trial, NULL), -EINVAL);
    trial_turns(rig->loop, 2);
    assert_int_equal(trial.results, 0);
}

static void contract_01_a_start_refused_as_closing_does_nothing(void)
{
    rig_each(refuse_detached);
}

static void refuse_not_initialised(struct rig *rig)
{
    struct trial trial;

    memset(&trial, 0, sizeof trial);
    assert_int_equal(rig->kind->start(rig, &trial), -EINVAL);
    trial_init(&trial, NULL, NULL);
    trial_turns(rig->loop, 2);
    assert_int_equal(trial.results, 0);
}

static void contract_01_a_start_of_an_operation_without_callback_does_nothing(void)
{
    rig_each(refuse_not_initialised);
}

static void end_once(struct rig *rig)
{
    struct trial trial;

    assert_int_equal(rig_start(rig, &trial, NULL), 0);
    assert_int_equal(gyre_op_active(&trial.op), 1);
    if (rig->kind->provoke != NULL) {
        rig_provoke(rig);
        test_turns_until(rig->loop, &trial.hits);
        assert_int_equal(trial.finals, !rig->kind->multishot);
    }
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    (void)trial_end(rig->loop, &trial);
    trial_turns(rig->loop, 3);
    assert_int_equal(trial.results, trial.hits + (rig->kind->multishot || trial.hits == 0));
    assert_int_equal(gyre_op_active(&trial.op), 0);
    rig_settle(rig, &trial);
}

static void contract_01_a_start_that_returns_0_ends_exactly_once(void)
{
    rig_each(end_once);
}

static void contract_01_a_nop_ends_exactly_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct trial trial;

    for (int i = 0; i < 10; i++) {
        trial_init(&trial, NULL, NULL);
        assert_int_equal(gyre_op_nop(&trial.op, loop), 0);
        if (i % 2 != 0) {
            assert_int_equal(gyre_op_cancel(&trial.op), 0);
        }
        const int32_t res = trial_end(loop, &trial);
        assert_true(res == 0 || (i % 2 != 0 && res == -ECANCELED));
        trial_turns(loop, 2);
        assert_int_equal(trial.results, 1);
    }
    test_loop_end(loop);
}

/* Line 3: cancel is a request, idempotent, never dropped, not even when the queue is full. */

#define MANY 300

struct herd {
    struct gyre_loop *loop;
    struct gyre_fd fds[MANY];
    int peers[MANY];
    struct trial trials[MANY];
    uint8_t bytes[MANY];
};

static struct herd herd;

static void herd_open(void)
{
    struct gyre_loop_options options = test_options();

    options.sq_entries = 8;
    options.cq_entries = 16;
    herd.loop = test_loop_with(&options);
    for (size_t i = 0; i < MANY; i++) {
        int pair[2];

        test_unix_pair(pair);
        trial_attach(herd.loop, &herd.fds[i], pair[0]);
        herd.peers[i] = pair[1];
        trial_init(&herd.trials[i], NULL, NULL);
    }
}

static void herd_start(void)
{
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(gyre_op_recv(&herd.trials[i].op, &herd.fds[i], &herd.bytes[i], 1, 0), 0);
    }
}

static void herd_cancel(void)
{
    for (size_t i = 0; i < 2 * MANY; i++) {
        assert_int_equal(gyre_op_cancel(&herd.trials[i % MANY].op), 0);
    }
}

static void herd_close(void)
{
    for (size_t i = 0; i < MANY; i++) {
        trial_close(herd.loop, &herd.fds[i]);
        close(herd.peers[i]);
    }
    test_loop_end(herd.loop);
}

static void start_and_cancel_herd(struct trial *trial, const struct gyre_result *result)
{
    (void)trial;
    (void)result;
    herd_start();
    herd_cancel();
}

static void contract_03_cancel_right_after_start_with_a_full_queue_is_not_dropped(void)
{
    struct trial nop;

    herd_open();
    trial_init(&nop, start_and_cancel_herd, NULL);
    assert_int_equal(gyre_op_nop(&nop.op, herd.loop), 0);
    assert_int_equal(gyre_loop_run(herd.loop, GYRE_RUN_DEFAULT), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(herd.trials[i].finals, 1);
        assert_int_equal(herd.trials[i].res, -ECANCELED);
    }
    herd_close();
}

static void contract_03_cancel_of_pending_with_a_full_queue_is_not_dropped(void)
{
    herd_open();
    herd_start();
    trial_turns(herd.loop, 5);
    herd_cancel();
    assert_int_equal(gyre_loop_run(herd.loop, GYRE_RUN_DEFAULT), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(herd.trials[i].finals, 1);
        assert_int_equal(herd.trials[i].res, -ECANCELED);
    }
    herd_close();
}

/* Whoever won: the byte is delivered, or it is still there. */
static void contract_03_cancel_that_loses_delivers_the_result(void)
{
    herd_open();
    herd_start();
    trial_turns(herd.loop, 5);
    for (size_t i = 0; i < MANY; i++) {
        wire_send_stream(herd.peers[i], 1, i);
    }
    herd_cancel();
    assert_int_equal(gyre_loop_run(herd.loop, GYRE_RUN_DEFAULT), 0);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(herd.trials[i].finals, 1);
        if (herd.trials[i].res == -ECANCELED) {
            assert_int_equal(wire_take(gyre_fd_number(&herd.fds[i]), &herd.bytes[i], 1), 1);
        } else {
            assert_int_equal(herd.trials[i].res, 1);
        }
        wire_check(&herd.bytes[i], 1, i);
        assert_int_equal(wire_readable(gyre_fd_number(&herd.fds[i])), 0);
    }
    herd_close();
}

/* Line 4: inside its final callback an operation is free. */

static void start_again(struct trial *trial, const struct gyre_result *result)
{
    struct rig *rig = trial->context;

    if ((result->flags & GYRE_MORE) == 0) {
        assert_int_equal(rig_start(rig, trial, NULL), 0);
    }
}

static void again_in_callback(struct rig *rig)
{
    struct trial trial;

    if (rig->kind->provoke == NULL && rig->attached) {
        return; /* a socket that is connecting cannot connect again */
    }
    assert_int_equal(rig_start(rig, &trial, start_again), 0);
    trial_turns(rig->loop, 1);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    while (rig->then != NULL) {
        assert_true(gyre_loop_run(rig->loop, GYRE_RUN_ONCE) >= 0);
    }
    trial_turns(rig->loop, 3);
    assert_int_equal(trial.results, 0);
    if (rig->kind->provoke != NULL) {
        rig_provoke(rig);
        test_turns_until(rig->loop, &trial.hits);
    }
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    (void)trial_end(rig->loop, &trial);
    rig_settle(rig, &trial);
}

static void contract_04_an_operation_may_be_started_again_in_its_final_callback(void)
{
    rig_each(again_in_callback);
}

static void become_a_nop(struct trial *trial, const struct gyre_result *result)
{
    struct rig *rig = trial->context;

    if ((result->flags & GYRE_MORE) == 0) {
        trial_init(trial, NULL, rig);
        assert_int_equal(gyre_op_nop(&trial->op, rig->loop), 0);
    }
}

static void other_kind_in_callback(struct rig *rig)
{
    struct trial trial;

    assert_int_equal(rig_start(rig, &trial, become_a_nop), 0);
    trial_turns(rig->loop, 1);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    while (trial.then != NULL || trial.finals == 0) {
        assert_true(gyre_loop_run(rig->loop, GYRE_RUN_ONCE) >= 0);
    }
    assert_int_equal(trial.res, 0);
    assert_int_equal(trial.results, 1);
}

static void contract_04_an_operation_may_become_another_kind_in_its_final_callback(void)
{
    rig_each(other_kind_in_callback);
}

static int freed;

static void free_trial(struct trial *trial, const struct gyre_result *result)
{
    if ((result->flags & GYRE_MORE) == 0) {
        memset(trial, 0xff, sizeof *trial);
        free(trial);
        freed++;
    }
}

static void freed_in_callback(struct rig *rig)
{
    for (int i = 0; i < 20; i++) {
        struct trial *trial = malloc(sizeof *trial);
        const int before = freed;

        assert_non_null(trial);
        if (rig->kind->provoke != NULL && i % 2 == 0) {
            rig_provoke(rig);
        }
        assert_int_equal(rig_start(rig, trial, free_trial), 0);
        if (rig->kind->provoke == NULL || rig->kind->multishot || i % 2 != 0) {
            trial_turns(rig->loop, 1);
            assert_int_equal(gyre_op_cancel(&trial->op), 0);
        }
        test_turns_until_count(rig->loop, &freed, before + 1);
        trial_turns(rig->loop, 2);
        rig_close(rig);
        rig_open(rig, rig->loop, rig->kind);
    }
}

static void contract_04_an_operation_may_be_freed_in_its_final_callback(void)
{
    rig_each(freed_in_callback);
}

/* Line 5: close, step by step. */

struct closing {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    int number;
    int peer;
    struct trial receiving;
    struct trial polling;
    struct trial sending[3];
    struct trial ending;
    uint64_t ranks;
};

static int is_open(int number)
{
    return fcntl(number, F_GETFD) >= 0;
}

/* The results before the last find the descriptor open, and closing. */
static void before_close(struct trial *trial, const struct gyre_result *result)
{
    struct closing *closing = trial->context;
    struct trial late;

    (void)result;
    assert_true(is_open(closing->number));
    assert_int_equal(closing->ending.results, 0);
    trial_init(&late, NULL, NULL);
    assert_int_equal(gyre_op_send(&late.op, &closing->fd, "x", 1), GYRE_ECLOSING);
}

static void after_close(struct trial *trial, const struct gyre_result *result)
{
    struct closing *closing = trial->context;

    assert_int_equal(result->res, 0);
    assert_false(is_open(closing->number));
    assert_int_equal(closing->receiving.finals, 1);
    assert_int_equal(closing->polling.finals, 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(closing->sending[i].finals, 1);
    }
    memset(&closing->fd, 0xff, sizeof closing->fd);
    memset(&closing->receiving.op, 0xff, sizeof closing->receiving.op);
}

static void closing_open(struct closing *closing, const uint8_t *data, size_t len)
{
    int pair[2];

    test_unix_pair(pair);
    *closing = (struct closing){.loop = test_loop(), .number = pair[0], .peer = pair[1]};
    trial_attach(closing->loop, &closing->fd, pair[0]);
    trial_init(&closing->receiving, before_close, closing);
    trial_init(&closing->polling, before_close, closing);
    trial_init(&closing->ending, after_close, closing);
    assert_int_equal(gyre_op_recv_lease(&closing->receiving.op, &closing->fd, GYRE_MULTISHOT), 0);
    assert_int_equal(gyre_op_poll(&closing->polling.op, &closing->fd, POLLPRI, GYRE_MULTISHOT), 0);
    for (size_t i = 0; i < 3; i++) {
        trial_init(&closing->sending[i], before_close, closing);
        assert_int_equal(gyre_op_send(&closing->sending[i].op, &closing->fd, data + len * i, len),
                         0);
    }
}

static void contract_05_close_ends_all_and_comes_last(void)
{
    const size_t len = 1 << 20;
    uint8_t *data = malloc(3 * len);

    assert_non_null(data);
    wire_fill(data, 3 * len, 0);
    for (uint32_t flush = 0; flush <= GYRE_CLOSE_FLUSH; flush += GYRE_CLOSE_FLUSH) {
        struct closing closing;
        size_t got = 0;

        closing_open(&closing, data, len);
        assert_int_equal(gyre_op_close(&closing.ending.op, &closing.fd, flush), 0);
        assert_int_equal(closing.ending.results + closing.receiving.results, 0);
        assert_true(is_open(closing.number));
        while (closing.ending.finals == 0) {
            trial_turns(closing.loop, 1);
            got += wire_take_stream(closing.peer, SIZE_MAX, got);
        }
        got += wire_take_stream(closing.peer, SIZE_MAX, got);
        assert_int_equal(got, closing.sending[0].bytes + closing.sending[1].bytes +
                                  closing.sending[2].bytes);
        assert_true(flush == 0 || got == 3 * len);
        assert_int_equal(wire_expect_end(closing.peer), 0);
        trial_turns(closing.loop, 3);
        assert_int_equal(closing.ending.results, 1);
        close(closing.peer);
        test_loop_end(closing.loop);
    }
    free(data);
}

/* Line 6: buffers. */

/* After the final result nobody writes to the memory that was given. */
static void contract_06_a_buffer_given_is_left_alone_after_the_final_result(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial receiving;
    uint8_t buffer[100];
    uint8_t expected[100];
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    memset(expected, 0x55, sizeof expected);
    for (int i = 0; i < 100; i++) {
        trial_init(&receiving, NULL, NULL);
        assert_int_equal(gyre_op_recv(&receiving.op, &fd, buffer, sizeof buffer, 0), 0);
        trial_turns(loop, i % 3);
        assert_int_equal(gyre_op_cancel(&receiving.op), 0);
        assert_int_equal(trial_end(loop, &receiving), -ECANCELED);
        memset(buffer, 0x55, sizeof buffer);
        wire_send_stream(pair[1], 50, 0);
        trial_turns(loop, 3);
        assert_memory_equal(buffer, expected, sizeof buffer);
        assert_int_equal(wire_drain(pair[0]), 50);
    }
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

struct lending {
    struct gyre_lease kept;
    int received; /* bytes */
};

static void keep_first(struct trial *trial, const struct gyre_result *result)
{
    struct lending *lending = trial->context;

    if (result->res > 0) {
        assert_int_equal(result->lease->len, result->res);
        wire_check(result->lease->data, result->lease->len, (uint64_t)lending->received);
        if (lending->received == 0) {
            assert_int_equal(gyre_lease_retain(result->lease, &lending->kept), 0);
        }
        lending->received += result->res;
    }
}

/* What is lent is valid in the callback; what is retained, until it is released. */
static void contract_06_a_lease_retained_is_valid_until_released(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial receiving;
    struct lending lending = {.received = 0};
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    trial_init(&receiving, keep_first, &lending);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &fd, GYRE_MULTISHOT), 0);
    for (int i = 0; i < 20000; i++) { /* twice through the whole pool */
        wire_send_stream(pair[1], 100, 100 * (uint64_t)i);
        test_turns_until_count(loop, &lending.received, 100 * (i + 1));
    }
    wire_check(lending.kept.data, lending.kept.len, 0);
    trial_close(loop, &fd);
    wire_check(lending.kept.data, lending.kept.len, 0);
    gyre_lease_release(&lending.kept);
    close(pair[1]);
    test_loop_end(loop);
}

/* Line 7: bytes leave in the order written; at most one send and one receive are in the kernel. */

#define MIXED 600

static int start_mixed(struct trial *trial, struct gyre_fd *fd, const uint8_t *data, size_t len,
                       size_t i)
{
    struct iovec iov[2] = {
        {.iov_base = (void *)(uintptr_t)data, .iov_len = len / 2},
        {.iov_base = (void *)(uintptr_t)(data + len / 2), .iov_len = len - len / 2}};
    const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

    trial_init(trial, NULL, NULL);
    if (i % 3 == 0) {
        return gyre_op_send(&trial->op, fd, data, len);
    }
    if (i % 3 == 1) {
        return gyre_op_sendmsg(&trial->msg, fd, &msg);
    }
    return gyre_op_write(&trial->op, fd, data, len, GYRE_OFFSET_CURRENT);
}

static void contract_07_bytes_leave_in_the_order_written(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    static struct trial trials[MIXED];
    uint8_t *data = malloc(MIXED * 3000);
    uint32_t seed = 22;
    size_t total = 0;
    size_t got = 0;
    int pair[2];

    assert_non_null(data);
    wire_fill(data, MIXED * 3000, 0);
    test_unix_pair(pair);
    wire_send_buffer(pair[0], 4096);
    wire_nonblocking(pair[0]);
    trial_attach(loop, &fd, pair[0]);
    for (size_t i = 0; i < MIXED; i++) {
        const size_t len = wire_random(&seed, 3000);

        assert_int_equal(start_mixed(&trials[i], &fd, data + total, len, i), 0);
        total += len;
        trials[i].context = (void *)(uintptr_t)len;
        if (i % 50 == 0) {
            trial_turns(loop, 1);
        }
    }
    while (got < total) {
        trial_turns(loop, 1);
        got += wire_take_stream(pair[1], 1 + wire_random(&seed, 9000), got);
    }
    for (size_t i = 0; i < MIXED; i++) {
        assert_int_equal(trial_end(loop, &trials[i]), (uintptr_t)trials[i].context);
        assert_true(i == 0 || trials[i].rank > trials[i - 1].rank);
    }
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
    free(data);
}

/* W03: of ten sends and ten receives the kernel is told of one each. */
static void contract_07_at_most_one_send_and_one_receive_are_with_the_kernel(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial trials[20];
    uint8_t bytes[20] = {0};
    int pair[2];

    test_unix_pair(pair);
    (void)wire_stuff(pair[0]);
    trial_attach(loop, &fd, pair[0]);
    trial_turns(loop, 3);
    const uint64_t before = trial_stats(loop).sqes;
    for (size_t i = 0; i < TEST_COUNT(trials); i++) {
        trial_init(&trials[i], NULL, NULL);
        assert_int_equal(i % 2 == 0 ? gyre_op_send(&trials[i].op, &fd, &bytes[i], 1)
                                    : gyre_op_recv(&trials[i].op, &fd, &bytes[i], 1, 0),
                         0);
    }
    trial_turns(loop, 5);
    assert_true(trial_stats(loop).sqes - before <= 2);
    trial_close(loop, &fd);
    for (size_t i = 0; i < TEST_COUNT(trials); i++) {
        assert_int_equal(trials[i].res, -ECANCELED);
    }
    close(pair[1]);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(contract_01_a_start_refused_as_busy_does_nothing),
        TEST_CASE(contract_01_a_start_refused_as_closing_does_nothing),
        TEST_CASE(contract_01_a_start_of_an_operation_without_callback_does_nothing),
        TEST_CASE(contract_01_a_start_that_returns_0_ends_exactly_once),
        TEST_CASE(contract_01_a_nop_ends_exactly_once),
        TEST_CASE(contract_03_cancel_right_after_start_with_a_full_queue_is_not_dropped),
        TEST_CASE(contract_03_cancel_of_pending_with_a_full_queue_is_not_dropped),
        TEST_CASE(contract_03_cancel_that_loses_delivers_the_result),
        TEST_CASE(contract_04_an_operation_may_be_started_again_in_its_final_callback),
        TEST_CASE(contract_04_an_operation_may_become_another_kind_in_its_final_callback),
        TEST_CASE(contract_04_an_operation_may_be_freed_in_its_final_callback),
        TEST_CASE(contract_05_close_ends_all_and_comes_last),
        TEST_CASE(contract_06_a_buffer_given_is_left_alone_after_the_final_result),
        TEST_CASE(contract_06_a_lease_retained_is_valid_until_released),
        TEST_CASE(contract_07_bytes_leave_in_the_order_written),
        TEST_CASE(contract_07_at_most_one_send_and_one_receive_are_with_the_kernel),
    };

    return test_main("ops-contract", cases, TEST_COUNT(cases));
}
