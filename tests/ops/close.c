/* Closing: no new operations, the old ones end, then close(2), then one result, the last. */
#include "rig.h"
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void start_send(struct line *line, struct trial *sending, const void *data, size_t len)
{
    trial_init(sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending->op, &line->fd, data, len), 0);
}

static uint8_t *stream_bytes(size_t len)
{
    uint8_t *data = malloc(len);

    assert_non_null(data);
    wire_fill(data, len, 0);
    return data;
}

/* X01 */
static void close_of_the_peers_half_still_lets_a_megabyte_out(void)
{
    const size_t len = 1 << 20;
    struct line line;
    static struct reader reader;
    struct trial sending;
    uint8_t *data = stream_bytes(len);

    line_open(&line, test_tcp_pair);
    reader_start(&reader, &line.fd, READER_MULTISHOT, 0);
    wire_send_stream(line.peer, 100, 0);
    shutdown(line.peer, SHUT_WR);
    reader_end(line.loop, &reader);
    assert_int_equal(reader.received, 100);
    start_send(&line, &sending, data, len);
    size_t got = 0;
    while (sending.finals == 0) {
        trial_turns(line.loop, 1);
        got += wire_take_stream(line.peer, len, got);
    }
    assert_int_equal(sending.res, len);
    wire_expect_stream(line.peer, len - got, got);
    line_start_close(&line, 0);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_int_equal(wire_expect_end(line.peer), 0);
    line_close(&line);
    free(data);
}

/* X02 */
static void close_with_flush_lets_the_queued_sends_leave_first(void)
{
    static struct trial sending[100];
    const size_t len = 10000;
    uint8_t *data = stream_bytes(len * TEST_COUNT(sending));

    for (uint32_t flags = 0; flags < 2; flags++) {
        struct line line;
        struct trial receiving;
        uint8_t byte;
        size_t got = 0;

        line_open(&line, test_unix_pair);
        wire_send_buffer(gyre_fd_number(&line.fd), 4096);
        trial_init(&receiving, NULL, NULL);
        assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, &byte, 1, 0), 0);
        for (size_t i = 0; i < TEST_COUNT(sending); i++) {
            start_send(&line, &sending[i], data + len * i, len);
        }
        line_start_close(&line, GYRE_CLOSE_FLUSH | (flags == 0 ? 0 : GYRE_CLOSE_SHUTDOWN));
        while (line.closing.finals == 0) {
            trial_turns(line.loop, 1);
            got += wire_take_stream(line.peer, 30000, got);
        }
        wire_expect_stream(line.peer, len * TEST_COUNT(sending) - got, got);
        assert_int_equal(wire_expect_end(line.peer), 0);
        for (size_t i = 0; i < TEST_COUNT(sending); i++) {
            assert_int_equal(sending[i].finals, 1);
            assert_int_equal(sending[i].res, len);
            assert_true(sending[i].rank < line.closing.rank);
        }
        assert_int_equal(receiving.finals, 1);
        assert_int_equal(receiving.res, -ECANCELED);
        assert_true(receiving.rank < line.closing.rank);
        assert_int_equal(line.closing.res, 0);
        line_close(&line);
    }
    free(data);
}

/* A flush with nothing to flush is a close; X02 */
static void close_with_flush_and_nothing_queued_closes(void)
{
    struct line line;

    line_open(&line, test_tcp_pair);
    line_start_close(&line, GYRE_CLOSE_FLUSH | GYRE_CLOSE_SHUTDOWN);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_int_equal(wire_expect_end(line.peer), 0);
    line_close(&line);
}

/* X03: shut down by hand before, and from both ends at once. */
static void close_with_shutdown_after_and_during_another_ends_both(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fds[2];
    struct trial closing[2];
    int pair[2];

    for (int round = 0; round < 3; round++) {
        test_tcp_pair(pair);
        for (int i = 0; i < 2; i++) {
            trial_attach(loop, &fds[i], pair[i]);
            if (round > 0) {
                assert_int_equal(shutdown(pair[i], round == 1 ? SHUT_WR : SHUT_RDWR), 0);
            }
        }
        for (int i = 0; i < 2; i++) {
            trial_init(&closing[i], NULL, NULL);
            assert_int_equal(gyre_op_close(&closing[i].op, &fds[i], GYRE_CLOSE_SHUTDOWN), 0);
        }
        assert_int_equal(trial_end(loop, &closing[0]), 0);
        assert_int_equal(trial_end(loop, &closing[1]), 0);
    }
    test_loop_end(loop);
}

/* X04: the kernel's hold on a socket with a receive pending must not keep the FIN back. */
static void close_with_a_receive_pending_sends_the_end(void)
{
    for (enum reader_mode mode = 0; mode < READER_MODES; mode++) {
        static struct reader reader;
        struct line line;

        reader_announce(mode);
        line_open(&line, test_tcp_pair);
        reader_start(&reader, &line.fd, mode, 0);
        trial_turns(line.loop, 2);
        line_start_close(&line, 0);
        assert_int_equal(trial_end(line.loop, &line.closing), 0);
        assert_int_equal(reader.error, -ECANCELED);
        struct pollfd entry = {.fd = line.peer, .events = POLLIN};
        assert_int_equal(poll(&entry, 1, 100), 1);
        assert_int_equal(wire_expect_end(line.peer), 0);
        line_close(&line);
    }
}

/* X05: without FLUSH what has not left is dropped, and said so. */
static void close_without_flush_cancels_the_sends(void)
{
    const size_t len = 8 << 20;
    struct line line;
    struct trial sending[3];
    uint8_t *data = stream_bytes(len);

    line_open(&line, test_unix_pair);
    for (size_t i = 0; i < 3; i++) {
        start_send(&line, &sending[i], data, len);
    }
    trial_turns(line.loop, 5);
    line_start_close(&line, 0);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_in_range(sending[0].res, 1, len - 1);
    assert_int_equal(sending[1].res, -ECANCELED);
    assert_int_equal(sending[2].res, -ECANCELED);
    wire_expect_stream(line.peer, (size_t)sending[0].res, 0);
    assert_int_equal(wire_expect_end(line.peer), 0);
    line_close(&line);
    free(data);
}

/* X05: a flush that the peer does not let end, ended by a deadline, and by a cancel. */
static void close_flush_stuck_ends_at_its_deadline_or_cancel(void)
{
    const size_t len = 8 << 20;
    uint8_t *data = stream_bytes(len);

    for (int round = 0; round < 2; round++) {
        struct line line;
        struct trial sending[2];

        line_open(&line, test_unix_pair);
        start_send(&line, &sending[0], data, len);
        start_send(&line, &sending[1], data, len);
        line_start_close(&line, GYRE_CLOSE_FLUSH);
        const uint64_t deadline = gyre_loop_update_now(line.loop) + 20 * GYRE_MSEC;
        if (round == 0) {
            assert_int_equal(gyre_op_set_deadline(&line.closing.op, deadline), 0);
        } else {
            trial_turns(line.loop, 10);
            assert_int_equal(line.closing.results, 0);
            assert_int_equal(gyre_op_cancel(&line.closing.op), 0);
        }
        assert_int_equal(trial_end(line.loop, &line.closing), 0);
        assert_true(round == 1 || test_now() >= deadline);
        assert_in_range(sending[0].res, 1, len - 1);
        assert_int_equal(sending[1].finals, 1);
        assert_int_equal(sending[1].res, -ECANCELED);
        wire_expect_stream(line.peer, (size_t)sending[0].res, 0);
        assert_int_equal(wire_expect_end(line.peer), 0);
        line_close(&line);
    }
    free(data);
}

/* Every operation that a descriptor can have, at once; each ends once, before the close. */
static void close_with_everything_pending_ends_each_and_itself_last(void)
{
    struct line line;
    struct trial trials[15];
    uint8_t data[15][16] = {{0}};
    size_t n = 0;

    for (size_t i = 0; i < TEST_COUNT(trials); i++) {
        trial_init(&trials[i], NULL, NULL);
    }
    line_open(&line, test_unix_pair);
    (void)wire_stuff(gyre_fd_number(&line.fd));
    for (; n < 3; n++) {
        assert_int_equal(gyre_op_recv(&trials[n].op, &line.fd, data[n], 16, 0), 0);
    }
    assert_int_equal(gyre_op_recv_lease(&trials[n++].op, &line.fd, 0), 0);
    assert_int_equal(gyre_op_recv_lease(&trials[n++].op, &line.fd, GYRE_MULTISHOT), 0);
    for (; n < 7; n++) {
        struct iovec iov = {.iov_base = data[n], .iov_len = 16};
        const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

        assert_int_equal(n == 5 ? gyre_op_recvmsg(&trials[n].msg, &line.fd, &msg, 0)
                                : gyre_op_sendmsg(&trials[n].msg, &line.fd, &msg),
                         0);
    }
    for (; n < 10; n++) {
        assert_int_equal(gyre_op_send(&trials[n].op, &line.fd, data[n], 16), 0);
    }
    assert_int_equal(gyre_op_read(&trials[n].op, &line.fd, data[n], 16, GYRE_OFFSET_CURRENT), 0);
    n++;
    assert_int_equal(gyre_op_write(&trials[n].op, &line.fd, data[n], 16, GYRE_OFFSET_CURRENT), 0);
    n++;
    assert_int_equal(gyre_op_poll(&trials[n++].op, &line.fd, POLLIN, 0), 0);
    assert_int_equal(gyre_op_poll(&trials[n++].op, &line.fd, POLLIN, GYRE_MULTISHOT), 0);
    assert_int_equal(gyre_op_poll(&trials[n++].op, &line.fd, POLLOUT, 0), 0);
    assert_int_equal(n, TEST_COUNT(trials));
    trial_turns(line.loop, 2);
    line_start_close(&line, 0);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    for (size_t i = 0; i < TEST_COUNT(trials); i++) {
        assert_int_equal(trials[i].finals, 1);
        assert_int_equal(trials[i].res, -ECANCELED);
        assert_true(trials[i].rank < line.closing.rank);
    }
    line_close(&line);
}

static struct trial closing;

static void close_rig(struct trial *trial, const struct gyre_result *result)
{
    struct rig *rig = trial->context;

    (void)result;
    if (rig->attached) {
        rig->attached = 0;
        trial_init(&closing, NULL, NULL);
        assert_int_equal(gyre_op_close(&closing.op, &rig->fd, 0), 0);
    }
}

static void close_in_callback(struct rig *rig)
{
    struct trial trial;

    if (rig->kind->provoke == NULL) {
        return;
    }
    for (int turns = 0; turns < 3; turns++) {
        if (turns > 0) {
            rig_close(rig);
            rig_open(rig, rig->loop, rig->kind);
        }
        assert_int_equal(rig_start(rig, &trial, close_rig), 0);
        trial_turns(rig->loop, turns);
        rig_provoke(rig);
        test_turns_until(rig->loop, &trial.finals);
        assert_int_equal(trial_end(rig->loop, &closing), 0);
        assert_true(trial.rank < closing.rank);
        assert_true(!rig->kind->multishot || trial.res == -ECANCELED);
        rig_settle(rig, &trial);
    }
}

/* X08: the matrix, results */
static void close_in_the_callback_of_every_kind_is_the_last_result(void)
{
    rig_each(close_in_callback);
}

static void close_in_cancelled_callback(struct rig *rig)
{
    struct trial trial;

    if (!rig->attached) {
        return;
    }
    assert_int_equal(rig_start(rig, &trial, close_rig), 0);
    trial_turns(rig->loop, 1);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    assert_int_equal(trial_end(rig->loop, &trial), -ECANCELED);
    assert_int_equal(trial_end(rig->loop, &closing), 0);
    rig_settle(rig, &trial);
}

/* X08: the matrix, errors */
static void close_in_the_callback_of_every_cancel_is_the_last_result(void)
{
    rig_each(close_in_cancelled_callback);
}

static void reuse_as_close(struct trial *trial, const struct gyre_result *result)
{
    struct rig *rig = trial->context;

    if ((result->flags & GYRE_MORE) == 0 && rig->attached) {
        rig->attached = 0;
        trial_init(trial, NULL, NULL);
        assert_int_equal(gyre_op_close(&trial->op, &rig->fd, 0), 0);
    }
}

static void close_by_same_op(struct rig *rig)
{
    struct trial trial;

    if (!rig->attached) {
        return;
    }
    assert_int_equal(rig_start(rig, &trial, reuse_as_close), 0);
    trial_turns(rig->loop, 1);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    while (rig->attached) {
        assert_true(gyre_loop_run(rig->loop, GYRE_RUN_ONCE) >= 0);
    }
    assert_int_equal(trial_end(rig->loop, &trial), 0);
}

/* X08, contract line 4: an operation is free in its final callback, also to become the close. */
static void close_by_the_operation_that_just_ended_works(void)
{
    rig_each(close_by_same_op);
}

struct owner {
    struct gyre_fd fd;
    struct trial receiving;
    struct trial polling;
    struct trial closing;
    int *freed;
};

static void free_owner(struct trial *trial, const struct gyre_result *result)
{
    struct owner *owner = trial->context;

    assert_int_equal(result->res, 0);
    (*owner->freed)++;
    memset(owner, 0xff, sizeof *owner);
    free(owner);
}

/* X09 */
static void close_callback_may_free_everything(void)
{
    struct gyre_loop *loop = test_loop();
    int freed = 0;

    for (int i = 0; i < 200; i++) {
        struct owner *owner = malloc(sizeof *owner);
        int pair[2];

        assert_non_null(owner);
        test_unix_pair(pair);
        owner->freed = &freed;
        trial_attach(loop, &owner->fd, pair[0]);
        trial_init(&owner->receiving, NULL, NULL);
        trial_init(&owner->polling, NULL, NULL);
        trial_init(&owner->closing, free_owner, owner);
        assert_int_equal(gyre_op_recv_lease(&owner->receiving.op, &owner->fd, GYRE_MULTISHOT), 0);
        assert_int_equal(gyre_op_poll(&owner->polling.op, &owner->fd, POLLIN, GYRE_MULTISHOT), 0);
        trial_turns(loop, i % 2);
        wire_send_stream(pair[1], 100, 0);
        trial_turns(loop, i % 3);
        assert_int_equal(gyre_op_close(&owner->closing.op, &owner->fd, 0), 0);
        trial_turns(loop, i % 5);
        close(pair[1]);
    }
    test_turns_until_count(loop, &freed, 200);
    trial_turns(loop, 3);
    test_loop_end(loop);
}

/* X12: the caller broke the rule; the error is told, nobody else suffers, nothing spins. */
static void close_of_a_descriptor_closed_behind_the_loop_reports_ebadf(void)
{
    struct line line;
    struct gyre_fd other;
    static struct reader reader;
    struct trial receiving;
    int pair[2];

    line_open(&line, test_unix_pair);
    test_unix_pair(pair);
    trial_attach(line.loop, &other, pair[0]);
    reader_start(&reader, &other, READER_MULTISHOT, 0);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    trial_turns(line.loop, 2);
    assert_int_equal(close(gyre_fd_number(&line.fd)), 0);
    assert_true(trial_idle_turns(line.loop, 10 * GYRE_MSEC) <= 5);
    line_start_close(&line, 0);
    assert_int_equal(trial_end(line.loop, &line.closing), -EBADF);
    assert_int_equal(receiving.finals, 1);
    wire_send_stream(pair[1], 100, 0);
    reader_wait(line.loop, &reader, 100);
    trial_close(line.loop, &other);
    close(pair[1]);
    line_close(&line);
}

/* X13: the description lives on elsewhere; its events must reach nobody, also not the next
 * descriptor of the same number. */
static void close_of_a_duplicated_descriptor_leaves_no_phantom_events(void)
{
    struct line line;
    struct trial receiving;
    static struct reader reader;
    struct gyre_fd next;
    int pair[2];

    line_open(&line, test_unix_pair);
    const int number = gyre_fd_number(&line.fd);
    const int copy = fcntl(number, F_DUPFD_CLOEXEC, 0);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    trial_turns(line.loop, 2);
    line_start_close(&line, 0);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    memset(&line.fd, 0xff, sizeof line.fd); /* as if freed */
    wire_send_stream(line.peer, 10, 0);
    assert_true(trial_idle_turns(line.loop, 10 * GYRE_MSEC) <= 10);
    test_unix_pair(pair);
    assert_int_equal(pair[0], number);
    trial_attach(line.loop, &next, pair[0]);
    reader_start(&reader, &next, READER_MULTISHOT, 0);
    for (uint64_t i = 0; i < 10; i++) {
        wire_send_stream(line.peer, 10, 10 + 10 * i);
        trial_turns(line.loop, 2);
        assert_int_equal(reader.received, 50 * i);
        wire_send_stream(pair[1], 50, 50 * i);
        reader_wait(line.loop, &reader, 50 * (i + 1));
    }
    assert_int_equal(wire_take_stream(copy, 200, 0), 110);
    close(copy);
    trial_close(line.loop, &next);
    close(pair[1]);
    close(line.peer);
    test_loop_end(line.loop);
}

/* The description lives on and comes back under the number that it had: an epoll set still knows the
 * two, by the name of the one that was closed. */
static void close_of_a_duplicated_descriptor_that_comes_back_is_forgotten(void)
{
    struct line line;
    struct trial receiving;
    static struct reader reader;

    line_open(&line, test_unix_pair);
    const int number = gyre_fd_number(&line.fd);
    const int copy = fcntl(number, F_DUPFD_CLOEXEC, 0);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    trial_turns(line.loop, 2);
    trial_close(line.loop, &line.fd);
    assert_int_equal(fcntl(copy, F_DUPFD_CLOEXEC, number), number);
    trial_attach(line.loop, &line.fd, number);
    reader_start(&reader, &line.fd, READER_MULTISHOT, 0);
    trial_turns(line.loop, 2);
    for (uint64_t i = 0; i < 3; i++) {
        wire_send_stream(line.peer, 100, 100 * i);
        reader_wait(line.loop, &reader, 100 * (i + 1));
    }
    close(copy);
    close(line.peer);
    line.peer = -1;
    reader_end(line.loop, &reader);
    line_close(&line);
}

/* X13: SHUTDOWN ends the connection although the description lives on elsewhere. */
static void close_with_shutdown_ends_a_duplicated_connection(void)
{
    for (int round = 0; round < 2; round++) {
        struct line line;
        char byte;

        line_open(&line, test_tcp_pair);
        const int copy = fcntl(gyre_fd_number(&line.fd), F_DUPFD_CLOEXEC, 0);
        line_start_close(&line, round == 0 ? 0 : GYRE_CLOSE_SHUTDOWN);
        assert_int_equal(trial_end(line.loop, &line.closing), 0);
        if (round == 0) {
            assert_int_equal(wire_take(line.peer, &byte, 1), -EAGAIN);
        } else {
            assert_int_equal(wire_expect_end(line.peer), 0);
        }
        close(copy);
        line_close(&line);
    }
}

/* X14, M04 */
static void close_twice_is_refused_and_ends_once(void)
{
    struct line line;
    struct trial again;
    struct trial receiving;
    uint8_t byte;

    line_open(&line, test_unix_pair);
    trial_init(&again, NULL, NULL);
    trial_init(&receiving, NULL, NULL);
    line_start_close(&line, 0);
    assert_int_equal(gyre_op_close(&again.op, &line.fd, 0), GYRE_ECLOSING);
    assert_true(gyre_op_close(&line.closing.op, &line.fd, 0) < 0);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, &byte, 1, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_op_poll(&receiving.op, &line.fd, POLLIN, 0), GYRE_ECLOSING);
    assert_int_equal(gyre_fd_detach(&line.fd, &(int){0}), GYRE_ECLOSING);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_true(gyre_op_close(&again.op, &line.fd, 0) < 0);
    trial_turns(line.loop, 3);
    assert_int_equal(again.results + receiving.results, 0);
    line_close(&line);
}

static void close_posted(struct gyre_loop *loop, void *data)
{
    struct line *line = data;

    (void)loop;
    line_start_close(line, 0);
    gyre_loop_unref(line->loop);
}

static void *post_close(void *data)
{
    struct line *line = data;

    return gyre_loop_post(line->loop, close_posted, line) == 0 ? NULL : line;
}

/* X15 */
static void close_asked_for_by_another_thread_is_posted(void)
{
    struct line line;
    struct trial receiving;
    pthread_t thread;
    void *failed = NULL;

    line_open(&line, test_unix_pair);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    gyre_loop_ref(line.loop);
    assert_int_equal(pthread_create(&thread, NULL, post_close, &line), 0);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_int_equal(receiving.res, -ECANCELED);
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    line_close(&line);
}

/* X18: slots and numbers are used again at once; what was left of the old connection, completions
 * and data, must not reach the new one. */
static void close_and_reopen_in_the_same_storage_mixes_nothing(void)
{
    struct gyre_loop *loop = test_loop();
    static struct reader reader;
    struct gyre_fd fd;
    struct trial ending;
    uint32_t seed = 9;
    int old = -1;

    for (uint64_t i = 0; i < 5000; i++) {
        int pair[2];

        test_unix_pair(pair);
        trial_attach(loop, &fd, pair[0]);
        reader_start(&reader, &fd, (enum reader_mode)wire_random(&seed, READER_MODES),
                     WIRE_STREAM(i));
        if (old >= 0) {
            close(old);
        }
        trial_turns(loop, (int)wire_random(&seed, 2));
        wire_send_stream(pair[1], 300, WIRE_STREAM(i));
        trial_turns(loop, (int)wire_random(&seed, 2));
        trial_init(&ending, NULL, NULL);
        assert_int_equal(gyre_op_close(&ending.op, &fd, 0), 0);
        wire_send_stream(pair[1], 300, WIRE_STREAM(i) + 300);
        assert_int_equal(trial_end(loop, &ending), 0);
        assert_int_equal(reader.done, 1);
        assert_true(reader.error == -ECANCELED || reader.error == GYRE_ECLOSING);
        old = pair[1];
    }
    close(old);
    test_loop_end(loop);
}

/* Detaching is not closing: the descriptor goes on, without the loop. */
static void detach_gives_the_descriptor_back_unless_busy(void)
{
    struct line line;
    struct trial receiving;
    int number = -1;
    uint8_t byte;

    line_open(&line, test_unix_pair);
    const int expected = gyre_fd_number(&line.fd);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, &byte, 1, 0), 0);
    trial_turns(line.loop, 1);
    assert_int_equal(gyre_fd_detach(&line.fd, &number), -EBUSY);
    assert_int_equal(number, -1);
    assert_int_equal(gyre_op_cancel(&receiving.op), 0);
    assert_int_equal(trial_end(line.loop, &receiving), -ECANCELED);
    assert_int_equal(gyre_fd_detach(&line.fd, &number), 0);
    assert_int_equal(number, expected);
    assert_int_equal(gyre_fd_number(&line.fd), -EBADF);
    assert_int_equal(gyre_fd_detach(&line.fd, &number), -EINVAL);
    assert_true(gyre_op_recv(&receiving.op, &line.fd, &byte, 1, 0) < 0);
    wire_send_stream(line.peer, 10, 0);
    wire_expect_stream(number, 10, 0);
    trial_attach(line.loop, &line.fd, number);
    wire_send_stream(line.peer, 1, 10);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, &byte, 1, 0), 0);
    assert_int_equal(trial_end(line.loop, &receiving), 1);
    wire_check(&byte, 1, 10);
    line_close(&line);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(close_of_the_peers_half_still_lets_a_megabyte_out),
        TEST_CASE(close_with_flush_lets_the_queued_sends_leave_first),
        TEST_CASE(close_with_flush_and_nothing_queued_closes),
        TEST_CASE(close_with_shutdown_after_and_during_another_ends_both),
        TEST_CASE(close_with_a_receive_pending_sends_the_end),
        TEST_CASE(close_without_flush_cancels_the_sends),
        TEST_CASE(close_flush_stuck_ends_at_its_deadline_or_cancel),
        TEST_CASE(close_with_everything_pending_ends_each_and_itself_last),
        TEST_CASE(close_in_the_callback_of_every_kind_is_the_last_result),
        TEST_CASE(close_in_the_callback_of_every_cancel_is_the_last_result),
        TEST_CASE(close_by_the_operation_that_just_ended_works),
        TEST_CASE(close_callback_may_free_everything),
        TEST_CASE(close_of_a_descriptor_closed_behind_the_loop_reports_ebadf),
        TEST_CASE(close_of_a_duplicated_descriptor_leaves_no_phantom_events),
        TEST_CASE(close_of_a_duplicated_descriptor_that_comes_back_is_forgotten),
        TEST_CASE(close_with_shutdown_ends_a_duplicated_connection),
        TEST_CASE(close_twice_is_refused_and_ends_once),
        TEST_CASE(close_asked_for_by_another_thread_is_posted),
        TEST_CASE(close_and_reopen_in_the_same_storage_mixes_nothing),
        TEST_CASE(detach_gives_the_descriptor_back_unless_busy),
    };

    return test_main("ops-close", cases, TEST_COUNT(cases));
}
