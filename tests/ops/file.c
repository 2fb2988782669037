/* Files, pipes, eventfds, and waiting for states of them. */
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static int32_t do_write(struct gyre_loop *loop, struct gyre_fd *fd, const void *data, size_t len,
                        uint64_t offset)
{
    struct trial trial;

    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_write(&trial.op, fd, data, len, offset), 0);
    return trial_end(loop, &trial);
}

static int32_t do_read(struct gyre_loop *loop, struct gyre_fd *fd, void *data, size_t len,
                       uint64_t offset)
{
    struct trial trial;

    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_read(&trial.op, fd, data, len, offset), 0);
    return trial_end(loop, &trial);
}

static void attach_file(struct gyre_loop *loop, struct gyre_fd *fd)
{
    trial_attach(loop, fd, open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
}

static void file_written_at_offsets_reads_back(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    uint8_t data[10000];

    attach_file(loop, &fd);
    for (size_t i = 10; i-- > 0;) {
        wire_fill(data, 1000, 1000 * i);
        assert_int_equal(do_write(loop, &fd, data, 1000, 1000 * i), 1000);
    }
    memset(data, 0, sizeof data);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 0), 10000);
    wire_check(data, 10000, 0);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 9500), 500);
    wire_check(data, 500, 9500);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 10000), 0);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 99999), 0);
    assert_int_equal(do_write(loop, &fd, data, 0, 5), 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* A write that the file system cuts short goes on behind what it wrote, and then says how far. */
static void file_write_over_the_size_limit_is_cut_short(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct rlimit before;
    uint8_t data[10000];

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    const struct rlimit limit = {.rlim_cur = 6000, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_true(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
    attach_file(loop, &fd);
    wire_fill(data, sizeof data, 0);
    for (uint64_t offset = 0; offset <= 2000; offset += 1000) {
        assert_int_equal(do_write(loop, &fd, data, sizeof data, offset), 6000 - offset);
    }
    assert_int_equal(do_write(loop, &fd, data, sizeof data, 6000), -EFBIG);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 0), 6000);
    wire_check(data + 2000, 4000, 0);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void file_current_position_moves_on(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    char data[16];

    attach_file(loop, &fd);
    assert_int_equal(do_write(loop, &fd, "abc", 3, GYRE_OFFSET_CURRENT), 3);
    assert_int_equal(do_write(loop, &fd, "defg", 4, GYRE_OFFSET_CURRENT), 4);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, GYRE_OFFSET_CURRENT), 0);
    assert_int_equal(lseek(gyre_fd_number(&fd), 2, SEEK_SET), 2);
    assert_int_equal(do_read(loop, &fd, data, 3, GYRE_OFFSET_CURRENT), 3);
    assert_memory_equal(data, "cde", 3);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, GYRE_OFFSET_CURRENT), 2);
    assert_memory_equal(data, "fg", 2);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* Reads and writes queue, also where nothing ever waits. */
static void file_many_started_at_once_end_in_order(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    static struct trial writing[200];
    uint8_t data[200];

    attach_file(loop, &fd);
    wire_fill(data, sizeof data, 0);
    for (size_t i = 0; i < TEST_COUNT(writing); i++) {
        trial_init(&writing[i], NULL, NULL);
        assert_int_equal(gyre_op_write(&writing[i].op, &fd, data + i, 1, GYRE_OFFSET_CURRENT), 0);
    }
    assert_int_equal(trial_end(loop, &writing[199]), 1);
    for (size_t i = 1; i < TEST_COUNT(writing); i++) {
        assert_true(writing[i].rank > writing[i - 1].rank);
    }
    memset(data, 0, sizeof data);
    assert_int_equal(do_read(loop, &fd, data, sizeof data, 0), 200);
    wire_check(data, 200, 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void file_pipe_read_waits_for_data_and_sees_the_end(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial reading;
    uint8_t data[100];
    int ends[2];

    wire_pipe(ends);
    trial_attach(loop, &fd, ends[0]);
    trial_init(&reading, NULL, NULL);
    assert_int_equal(gyre_op_read(&reading.op, &fd, data, 100, GYRE_OFFSET_CURRENT), 0);
    trial_turns(loop, 5);
    assert_int_equal(reading.results, 0);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    assert_int_equal(trial_end(loop, &reading), 3);
    assert_memory_equal(data, "abc", 3);
    trial_init(&reading, NULL, NULL);
    assert_int_equal(gyre_op_read(&reading.op, &fd, data, 100, GYRE_OFFSET_CURRENT), 0);
    trial_turns(loop, 5);
    close(ends[1]);
    assert_int_equal(trial_end(loop, &reading), 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* W02 for pipes: the smallest one, and a reader that takes its time. */
static void file_pipe_write_of_a_megabyte_ends_when_all_of_it_left(void)
{
    const size_t len = 1 << 20;
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial writing;
    uint8_t *data = malloc(len);
    uint32_t seed = 8;
    int ends[2];

    assert_non_null(data);
    wire_fill(data, len, 0);
    wire_pipe(ends);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) > 0);
    trial_attach(loop, &fd, ends[1]);
    trial_init(&writing, NULL, NULL);
    assert_int_equal(gyre_op_write(&writing.op, &fd, data, len, GYRE_OFFSET_CURRENT), 0);
    for (size_t got = 0; got < len;) {
        trial_turns(loop, 1);
        got += wire_take_stream(ends[0], 1 + wire_random(&seed, 5000), got);
    }
    assert_int_equal(trial_end(loop, &writing), len);
    trial_close(loop, &fd);
    close(ends[0]);
    test_loop_end(loop);
    free(data);
}

/* A nonblocking eventfd answers io_uring's read with EAGAIN instead of waiting. */
static void file_eventfd_read_waits_whether_it_blocks_or_not(void)
{
    for (int round = 0; round < 2; round++) {
        struct gyre_loop *loop = test_loop();
        struct gyre_fd fd;
        struct trial reading;
        uint64_t value = 0;

        trial_attach(loop, &fd, eventfd(0, EFD_CLOEXEC | (round == 0 ? 0 : EFD_NONBLOCK)));
        trial_init(&reading, NULL, NULL);
        assert_int_equal(gyre_op_read(&reading.op, &fd, &value, sizeof value, GYRE_OFFSET_CURRENT),
                         0);
        trial_turns(loop, 5);
        assert_int_equal(reading.results, 0);
        assert_int_equal(eventfd_write(gyre_fd_number(&fd), 42), 0);
        assert_int_equal(trial_end(loop, &reading), sizeof value);
        assert_int_equal(value, 42);
        value = 7;
        assert_int_equal(do_write(loop, &fd, &value, sizeof value, GYRE_OFFSET_CURRENT),
                         sizeof value);
        assert_int_equal(do_read(loop, &fd, &value, sizeof value, GYRE_OFFSET_CURRENT),
                         sizeof value);
        assert_int_equal(value, 7);
        trial_close(loop, &fd);
        test_loop_end(loop);
    }
}

static void file_wrong_descriptors_report_why(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    char byte = 'x';
    int ends[2];

    wire_pipe(ends);
    trial_attach(loop, &fd, ends[0]);
    assert_int_equal(do_write(loop, &fd, &byte, 1, GYRE_OFFSET_CURRENT), -EBADF);
    trial_close(loop, &fd);
    trial_attach(loop, &fd, ends[1]);
    assert_int_equal(do_read(loop, &fd, &byte, 1, GYRE_OFFSET_CURRENT), -EBADF);
    trial_close(loop, &fd);
    trial_attach(loop, &fd, open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_int_equal(do_read(loop, &fd, &byte, 1, GYRE_OFFSET_CURRENT), -EISDIR);
    trial_close(loop, &fd);
    assert_int_equal(gyre_fd_init(&fd, loop, ends[1]), -EBADF);
    test_loop_end(loop);
}

/* A socket operation on a file, M05. */
static void file_socket_operations_report_enotsock(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial trial;
    char byte = 'x';

    attach_file(loop, &fd);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_recv(&trial.op, &fd, &byte, 1, 0), 0);
    assert_int_equal(trial_end(loop, &trial), -ENOTSOCK);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_send(&trial.op, &fd, &byte, 1), 0);
    assert_int_equal(trial_end(loop, &trial), -ENOTSOCK);
    for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags++) {
        trial_init(&trial, NULL, NULL);
        assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, flags), 0);
        assert_int_equal(trial_end(loop, &trial), -ENOTSOCK);
    }
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void start_poll(struct trial *trial, struct gyre_fd *fd, uint32_t events, uint32_t flags)
{
    trial_init(trial, NULL, NULL);
    assert_int_equal(gyre_op_poll(&trial->op, fd, events, flags), 0);
}

static void poll_single_gives_the_events_that_hold(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;
    struct trial out;
    struct trial both;
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    start_poll(&in, &fd, POLLIN, 0);
    start_poll(&out, &fd, POLLOUT, 0);
    start_poll(&both, &fd, POLLIN | POLLOUT, 0);
    assert_int_equal(trial_end(loop, &out), POLLOUT);
    assert_int_equal(trial_end(loop, &both), POLLOUT);
    trial_turns(loop, 3);
    assert_int_equal(in.results, 0);
    wire_send_stream(pair[1], 1, 0);
    assert_int_equal(trial_end(loop, &in), POLLIN);
    start_poll(&both, &fd, POLLIN | POLLOUT, 0);
    assert_int_equal(trial_end(loop, &both), POLLIN | POLLOUT);
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

/* A poll that has ended may be started again while the state still holds; no edge is needed. */
static void poll_started_again_finds_what_still_holds(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;
    int ends[2];

    wire_pipe(ends);
    trial_attach(loop, &fd, ends[0]);
    assert_int_equal(write(ends[1], "abc", 3), 3);
    for (int i = 0; i < 5; i++) {
        start_poll(&in, &fd, POLLIN, 0);
        assert_int_equal(trial_end(loop, &in), POLLIN);
    }
    assert_int_equal(wire_drain(ends[0]), 3);
    start_poll(&in, &fd, POLLIN, 0);
    trial_turns(loop, 5);
    assert_int_equal(in.results, 0);
    trial_close(loop, &fd);
    assert_int_equal(in.res, -ECANCELED);
    close(ends[1]);
    test_loop_end(loop);
}

static void poll_multishot_gives_a_result_for_each_change(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;

    trial_attach(loop, &fd, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    start_poll(&in, &fd, POLLIN, GYRE_MULTISHOT);
    for (int i = 1; i <= 20; i++) {
        eventfd_t value;

        assert_int_equal(eventfd_write(gyre_fd_number(&fd), 1), 0);
        test_turns_until_count(loop, &in.results, i);
        assert_int_equal(in.res, POLLIN);
        assert_int_equal(eventfd_read(gyre_fd_number(&fd), &value), 0);
        trial_turns(loop, 2);
        assert_int_equal(in.results, i);
    }
    assert_int_equal(in.finals, 0);
    assert_int_equal(gyre_op_cancel(&in.op), 0);
    assert_int_equal(trial_end(loop, &in), -ECANCELED);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* A state that holds and does not change is reported once, not in every turn. */
static void poll_multishot_of_a_lasting_state_does_not_spin(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    wire_send_stream(pair[1], 10, 0);
    start_poll(&in, &fd, POLLIN, GYRE_MULTISHOT);
    test_turns_until_count(loop, &in.results, 1);
    assert_true(trial_idle_turns(loop, 20 * GYRE_MSEC) <= 5);
    assert_in_range(in.results, 1, 2);
    trial_close(loop, &fd);
    assert_int_equal(in.finals, 1);
    close(pair[1]);
    test_loop_end(loop);
}

/* A file is always ready and never tells of a change: one result, and no more to come. */
static void poll_multishot_of_a_file_has_one_result(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;

    attach_file(loop, &fd);
    for (int i = 0; i < 2; i++) {
        start_poll(&in, &fd, POLLIN, GYRE_MULTISHOT);
        assert_int_equal(trial_end(loop, &in), POLLIN);
        assert_int_equal(in.results, 1);
    }
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void poll_hangup_is_reported_unasked(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;
    int ends[2];

    wire_pipe(ends);
    trial_attach(loop, &fd, ends[0]);
    start_poll(&in, &fd, POLLIN, 0);
    trial_turns(loop, 2);
    close(ends[1]);
    assert_int_equal(trial_end(loop, &in) & (POLLHUP | POLLERR), POLLHUP);
    start_poll(&in, &fd, POLLIN, 0);
    assert_int_equal(trial_end(loop, &in) & (POLLHUP | POLLERR), POLLHUP);
    trial_close(loop, &fd);

    wire_pipe(ends);
    trial_attach(loop, &fd, ends[1]);
    (void)wire_stuff(ends[1]);
    start_poll(&in, &fd, POLLOUT, 0);
    trial_turns(loop, 2);
    assert_int_equal(in.results, 0);
    close(ends[0]);
    assert_int_equal(trial_end(loop, &in) & (POLLHUP | POLLERR), POLLERR);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void poll_half_close_of_the_peer_is_reported_if_asked(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial asked;
    int pair[2];

    test_tcp_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    start_poll(&asked, &fd, POLLRDHUP, 0);
    wire_send_stream(pair[1], 10, 0);
    trial_turns(loop, 3);
    assert_int_equal(asked.results, 0);
    shutdown(pair[1], SHUT_WR);
    assert_int_equal(trial_end(loop, &asked), POLLRDHUP);
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

/* G13: epoll refuses regular files; poll(2) calls them ready. */
static void poll_regular_file_is_always_ready(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial in;

    attach_file(loop, &fd);
    start_poll(&in, &fd, POLLIN, 0);
    assert_int_equal(trial_end(loop, &in), POLLIN);
    start_poll(&in, &fd, POLLIN | POLLOUT, 0);
    assert_int_equal(trial_end(loop, &in), POLLIN | POLLOUT);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void poll_and_file_bad_arguments_are_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial trial;
    char byte;

    attach_file(loop, &fd);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_poll(NULL, &fd, POLLIN, 0), -EINVAL);
    assert_int_equal(gyre_op_poll(&trial.op, NULL, POLLIN, 0), -EINVAL);
    assert_int_equal(gyre_op_poll(&trial.op, &fd, 1u << 31, 0), -EINVAL);
    assert_int_equal(gyre_op_read(&trial.op, &fd, NULL, 1, 0), -EINVAL);
    assert_int_equal(gyre_op_read(&trial.op, &fd, &byte, 0, 0), -EINVAL);
    assert_int_equal(gyre_op_read(&trial.op, &fd, &byte, (size_t)INT32_MAX + 1, 0), -EINVAL);
    assert_int_equal(gyre_op_write(&trial.op, &fd, NULL, 1, 0), -EINVAL);
    assert_int_equal(gyre_op_write(&trial.op, &fd, &byte, (size_t)INT32_MAX + 1, 0), -EINVAL);
    trial_turns(loop, 2);
    assert_int_equal(trial.results, 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(file_written_at_offsets_reads_back),
        TEST_CASE(file_write_over_the_size_limit_is_cut_short),
        TEST_CASE(file_current_position_moves_on),
        TEST_CASE(file_many_started_at_once_end_in_order),
        TEST_CASE(file_pipe_read_waits_for_data_and_sees_the_end),
        TEST_CASE(file_pipe_write_of_a_megabyte_ends_when_all_of_it_left),
        TEST_CASE(file_eventfd_read_waits_whether_it_blocks_or_not),
        TEST_CASE(file_wrong_descriptors_report_why),
        TEST_CASE(file_socket_operations_report_enotsock),
        TEST_CASE(poll_single_gives_the_events_that_hold),
        TEST_CASE(poll_started_again_finds_what_still_holds),
        TEST_CASE(poll_multishot_gives_a_result_for_each_change),
        TEST_CASE(poll_multishot_of_a_lasting_state_does_not_spin),
        TEST_CASE(poll_multishot_of_a_file_has_one_result),
        TEST_CASE(poll_hangup_is_reported_unasked),
        TEST_CASE(poll_half_close_of_the_peer_is_reported_if_asked),
        TEST_CASE(poll_regular_file_is_always_ready),
        TEST_CASE(poll_and_file_bad_arguments_are_refused),
    };

    return test_main("ops-file", cases, TEST_COUNT(cases));
}
