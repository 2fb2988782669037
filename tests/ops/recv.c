/* Receiving from streams: every byte, once, in order, then one end; in all three ways to receive. */
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Runs a body in each way to receive, over TCP and over Unix sockets. */
static void in_every_mode(void (*body)(struct line *line, struct reader *reader,
                                       enum reader_mode mode))
{
    static void (*const pairs[])(int pair[2]) = {test_tcp_pair, test_unix_pair};

    for (size_t p = 0; p < TEST_COUNT(pairs); p++) {
        for (enum reader_mode mode = 0; mode < READER_MODES; mode++) {
            static struct reader reader;
            struct line line;

            reader_announce(mode);
            line_open(&line, pairs[p]);
            body(&line, &reader, mode);
            line_close(&line);
        }
    }
}

static void byte_by_byte(struct line *line, struct reader *reader, enum reader_mode mode)
{
    uint32_t seed = 4;

    reader_start(reader, &line->fd, mode, 0);
    for (size_t i = 0; i < 3000; i++) {
        wire_send_stream(line->peer, 1, i);
        trial_turns(line->loop, wire_random(&seed, 3) == 0);
    }
    reader_wait(line->loop, reader, 3000);
    shutdown(line->peer, SHUT_WR);
    reader_end(line->loop, reader);
    assert_int_equal(reader->received, 3000);
}

/* R01 */
static void recv_byte_by_byte_keeps_the_stream(void)
{
    in_every_mode(byte_by_byte);
}

static void data_then_end(struct gyre_loop *loop, enum reader_mode mode, uint32_t schedule)
{
    struct gyre_fd fd;
    struct reader reader;
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    if (schedule & 1) {
        reader_start(&reader, &fd, mode, 0);
        trial_turns(loop, (schedule & 2) != 0);
    }
    wire_send_stream(pair[1], 100, 0);
    trial_turns(loop, (schedule & 4) != 0);
    if (schedule & 8) {
        shutdown(pair[1], SHUT_WR);
    } else {
        close(pair[1]);
    }
    if ((schedule & 1) == 0) {
        reader_start(&reader, &fd, mode, 0);
    }
    reader_end(loop, &reader);
    assert_int_equal(reader.received, 100);
    trial_close(loop, &fd);
    if (schedule & 8) {
        close(pair[1]);
    }
}

/* R04: 10,000 of them, in every order of arming, data and end. */
static void recv_data_then_end_gives_data_first_and_one_end(void)
{
    struct gyre_loop *loop = test_loop();

    for (uint32_t i = 0; i < 10000; i++) {
        data_then_end(loop, i % READER_MODES, i / READER_MODES % 16);
    }
    test_loop_end(loop);
}

static void end_again(struct line *line, struct reader *reader, enum reader_mode mode)
{
    shutdown(line->peer, SHUT_WR);
    for (int i = 0; i < 3; i++) {
        reader_start(reader, &line->fd, mode, 0);
        reader_end(line->loop, reader);
        assert_int_equal(reader->received, 0);
    }
}

static void recv_after_the_end_gives_the_end_again(void)
{
    in_every_mode(end_again);
}

static void reset(enum reader_mode mode, int armed_before)
{
    static struct reader reader;
    struct line line;
    struct trial sending;

    reader_announce(mode);
    line_open(&line, test_tcp_pair);
    if (armed_before) {
        reader_start(&reader, &line.fd, mode, 0);
        trial_turns(line.loop, 2);
    }
    wire_reset(line.peer);
    line.peer = -1;
    if (!armed_before) {
        reader_start(&reader, &line.fd, mode, 0);
    }
    test_turns_until(line.loop, &reader.done);
    assert_int_equal(reader.error, -ECONNRESET);
    assert_int_equal(reader.results, 0);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, "x", 1), 0);
    assert_int_equal(trial_end(line.loop, &sending), -EPIPE);
    line_close(&line);
}

/* R05 */
static void recv_reset_reports_econnreset_once(void)
{
    for (enum reader_mode mode = 0; mode < READER_MODES; mode++) {
        reset(mode, 0);
        reset(mode, 1);
    }
}

/* R05: a send that waits for room ends too, and one of the two says ECONNRESET. */
static void recv_reset_ends_the_send_that_waits_as_well(void)
{
    for (enum reader_mode mode = 0; mode < READER_MODES; mode++) {
        static struct reader reader;
        struct line line;
        struct trial sending;
        char *data = calloc(1, 32 << 20);

        line_open(&line, test_tcp_pair);
        assert_non_null(data);
        reader_start(&reader, &line.fd, mode, 0);
        trial_init(&sending, NULL, NULL);
        assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, 32 << 20), 0);
        trial_turns(line.loop, 10);
        assert_int_equal(sending.results, 0);
        wire_reset(line.peer);
        line.peer = -1;
        test_turns_until(line.loop, &reader.done);
        const int32_t sent = trial_end(line.loop, &sending);
        assert_true(sent < 32 << 20);
        assert_true(reader.error == -ECONNRESET || reader.error == 0);
        assert_true(reader.error == -ECONNRESET || sent == -ECONNRESET || sent > 0);
        line_close(&line);
        free(data);
    }
}

/* A receive that has had something before, behind which the kernel may hide a reset. */
static void receive_once(struct line *line, struct trial *receiving)
{
    trial_init(receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving->op, &line->fd, GYRE_MULTISHOT), 0);
    wire_send_stream(line->peer, 100, 0);
    while (receiving->bytes < 100) {
        assert_int_equal(gyre_loop_run(line->loop, GYRE_RUN_ONCE), 1);
    }
    gyre_op_cancel(&receiving->op);
    assert_int_equal(trial_end(line->loop, receiving), -ECANCELED);
}

static void answer(struct trial *receiving, const struct gyre_result *result)
{
    struct trial *sending = receiving->context;

    if (result->res > 0 && !gyre_op_active(&sending->op)) {
        assert_int_equal(gyre_op_send(&sending->op, receiving->op.fd, "x", 1), 0);
    }
}

/* Others have data in the same turn, or not: then a send leaves at once. */
static void answer_a_reset(int alone)
{
    struct trial receiving;
    struct trial sending;
    struct trial neighbour;
    struct gyre_fd fd;
    struct line line;
    int pair[2];

    line_open(&line, test_tcp_pair);
    test_tcp_pair(pair);
    trial_attach(line.loop, &fd, pair[0]);
    trial_init(&neighbour, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&neighbour.op, &fd, 0), 0);
    receive_once(&line, &receiving);
    trial_turns(line.loop, 2);
    if (!alone) {
        wire_send_stream(pair[1], 1, 0);
    }
    wire_send_stream(line.peer, 1000, 100);
    wire_reset(line.peer);
    line.peer = -1;
    trial_init(&sending, NULL, NULL);
    trial_init(&receiving, answer, &sending);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    const int32_t end = trial_end(line.loop, &receiving);
    const int32_t sent = trial_end(line.loop, &sending);
    assert_int_equal(receiving.bytes, 1000);
    assert_true(end == 0 || end == -ECONNRESET);
    assert_true(sent == -EPIPE || sent == -ECONNRESET);
    assert_true(end == -ECONNRESET || sent == -ECONNRESET);
    line_start_close(&line, 0);
    wire_send_stream(pair[1], 1, 0);
    trial_end(line.loop, &neighbour);
    trial_close(line.loop, &fd);
    close(pair[1]);
    line_close(&line);
}

/* Data and a reset were there when the receive began, and what was received is answered. */
static void recv_reset_behind_what_is_answered_ends_the_receive(void)
{
    answer_a_reset(0);
    answer_a_reset(1);
}

/* Inside another event loop: nothing more would call for a dispatch. */
static void recv_reset_behind_data_ends_the_receive_of_an_embedded_loop(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    const int outer = epoll_create1(EPOLL_CLOEXEC);
    struct trial receiving;
    struct line line;

    line_open(&line, test_tcp_pair);
    receive_once(&line, &receiving);
    assert_int_equal(epoll_ctl(outer, EPOLL_CTL_ADD, gyre_loop_fd(line.loop), &event), 0);
    wire_send_stream(line.peer, 1000, 100);
    wire_reset(line.peer);
    line.peer = -1;
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
    while (gyre_loop_dispatch(line.loop) > 0) {
        assert_int_equal(epoll_wait(outer, &event, 1, -1), 1);
    }
    assert_int_equal(receiving.bytes, 1000);
    assert_int_equal(receiving.res, -ECONNRESET);
    close(outer);
    line_close(&line);
}

static void unarmed(struct line *line, struct reader *reader, enum reader_mode mode)
{
    wire_send_stream(line->peer, 10, 0);
    assert_true(trial_idle_turns(line->loop, 20 * GYRE_MSEC) <= 5);
    reader_start(reader, &line->fd, mode, 0);
    reader_wait(line->loop, reader, 10);
    assert_int_equal(gyre_op_cancel(&reader->op), 0);
    test_turns_until(line->loop, &reader->done);
    wire_send_stream(line->peer, 10, 10);
    assert_true(trial_idle_turns(line->loop, 20 * GYRE_MSEC) <= 5);
    shutdown(line->peer, SHUT_WR);
    assert_true(trial_idle_turns(line->loop, 20 * GYRE_MSEC) <= 5);
    reader_start(reader, &line->fd, mode, 10);
    reader_end(line->loop, reader);
    assert_int_equal(reader->received, 10);
}

/* R07: data, and the end, for which nobody has asked yet. */
static void recv_not_armed_data_waits_without_spinning(void)
{
    in_every_mode(unarmed);
}

static void megabytes(struct line *line, struct reader *reader, enum reader_mode mode)
{
    const size_t total = 4 << 20;
    struct gyre_fd sending_fd;
    static struct writer writer;

    reader_start(reader, &line->fd, mode, 0);
    trial_attach(line->loop, &sending_fd, line->peer);
    writer_start(&writer, &sending_fd, total, 0);
    reader_wait(line->loop, reader, total);
    test_turns_until(line->loop, &writer.done);
    assert_int_equal(writer.error, 0);
    trial_close(line->loop, &sending_fd);
    line->peer = -1;
    reader_end(line->loop, reader);
}

/* R09: across many blocks of the pool, however the kernel cuts them. */
static void recv_megabytes_come_in_order(void)
{
    in_every_mode(megabytes);
}

struct pause {
    struct line *line;
    uint64_t received;
    int stops;
};

static void check_only(struct trial *trial, const struct gyre_result *result)
{
    struct pause *pause = trial->context;

    if (result->res > 0) {
        wire_check(result->lease->data, result->lease->len, pause->received);
        pause->received += (uint64_t)result->res;
    }
}

/* Asks to stop at every third result; what was received already may still come. */
static void stop_sometimes(struct trial *trial, const struct gyre_result *result)
{
    struct pause *pause = trial->context;

    check_only(trial, result);
    if (result->res > 0 && trial->results % 3 == 0) {
        pause->stops++;
        assert_int_equal(gyre_op_cancel(&trial->op), 0);
    }
}

/* R02 */
static void recv_stopped_in_its_callback_and_started_again_loses_nothing(void)
{
    const size_t total = 300000;
    struct line line;
    struct pause pause = {.line = &line};
    struct trial receiving;
    size_t sent = 0;

    line_open(&line, test_unix_pair);
    trial_init(&receiving, stop_sometimes, &pause);
    while (pause.received < total) {
        if (sent < total) {
            wire_send_stream(line.peer, 1000, sent);
            sent += 1000;
        }
        if (!gyre_op_active(&receiving.op)) {
            const uint64_t before = pause.received;

            trial_turns(line.loop, 2);
            assert_int_equal(pause.received, before);
            trial_init(&receiving, stop_sometimes, &pause);
            assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
        }
        trial_turns(line.loop, 1);
    }
    assert_true(pause.stops > 0);
    assert_int_equal(pause.received, total);
    line_close(&line);
}

/* Large pieces, then small ones, and again: a driver may change its way of receiving in between, and
 * is made to stop and go on while it does. */
static void recv_of_pieces_that_grow_and_shrink_keeps_the_stream(void)
{
    struct line line;
    struct pause pause = {.line = &line};
    struct trial receiving;
    uint32_t seed = 23;
    size_t sent = 0;

    line_open(&line, test_unix_pair);
    trial_init(&receiving, stop_sometimes, &pause);
    for (int i = 0; i < 3000; i++) {
        const size_t len = i / 100 % 2 == 0 ? 60000 : 1 + wire_random(&seed, 100);

        wire_send_stream(line.peer, len, sent);
        sent += len;
        while (pause.received < sent) {
            if (!gyre_op_active(&receiving.op)) {
                trial_init(&receiving, i % 500 < 250 ? check_only : stop_sometimes, &pause);
                assert_int_equal(gyre_op_recv_lease(&receiving.op, &line.fd, GYRE_MULTISHOT), 0);
            }
            assert_true(gyre_loop_run(line.loop, GYRE_RUN_ONCE) >= 0);
        }
        assert_int_equal(pause.received, sent);
    }
    line_close(&line);
}

/* Reads of one descriptor are served one after another. */
static void recv_several_started_are_served_in_order(void)
{
    struct line line;
    struct trial receiving[8];
    uint8_t data[8][10];

    line_open(&line, test_unix_pair);
    for (size_t i = 0; i < 8; i++) {
        trial_init(&receiving[i], NULL, NULL);
        assert_int_equal(gyre_op_recv(&receiving[i].op, &line.fd, data[i], 10, GYRE_WAITALL), 0);
    }
    for (size_t i = 0; i < 80; i += 5) {
        wire_send_stream(line.peer, 5, i);
        trial_turns(line.loop, 1);
    }
    for (size_t i = 0; i < 8; i++) {
        assert_int_equal(trial_end(line.loop, &receiving[i]), 10);
        wire_check(data[i], 10, 10 * i);
        assert_true(i == 0 || receiving[i].rank > receiving[i - 1].rank);
    }
    line_close(&line);
}

/* R12 */
static void recv_waitall_is_short_only_at_the_end(void)
{
    struct line line;
    struct trial receiving;
    uint8_t data[1000];

    line_open(&line, test_tcp_pair);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, data, 1000, GYRE_WAITALL), 0);
    for (size_t i = 0; i < 10; i++) {
        trial_turns(line.loop, 2);
        assert_int_equal(receiving.results, 0);
        wire_send_stream(line.peer, 100, 100 * i);
    }
    assert_int_equal(trial_end(line.loop, &receiving), 1000);
    wire_check(data, 1000, 0);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, data, 1000, GYRE_WAITALL), 0);
    wire_send_stream(line.peer, 700, 0);
    trial_turns(line.loop, 2);
    assert_int_equal(receiving.results, 0);
    shutdown(line.peer, SHUT_WR);
    assert_int_equal(trial_end(line.loop, &receiving), 700);
    wire_check(data, 700, 0);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, data, 1000, GYRE_WAITALL), 0);
    assert_int_equal(trial_end(line.loop, &receiving), 0);
    line_close(&line);
}

/* R12: what a cancel finds received is delivered. */
static void recv_waitall_cancelled_midway_delivers_what_came(void)
{
    struct line line;
    struct trial receiving;
    uint8_t data[1000];

    line_open(&line, test_unix_pair);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, data, 1000, GYRE_WAITALL), 0);
    trial_turns(line.loop, 1);
    wire_send_stream(line.peer, 300, 0);
    trial_turns(line.loop, 3);
    assert_int_equal(gyre_op_cancel(&receiving.op), 0);
    assert_int_equal(trial_end(line.loop, &receiving), 300);
    wire_check(data, 300, 0);
    line_close(&line);
}

static void urgent(struct line *line, struct reader *reader, enum reader_mode mode)
{
    reader_start(reader, &line->fd, mode, 0);
    for (size_t i = 0; i < 10; i++) {
        wire_send_stream(line->peer, 20, 20 * i);
        assert_int_equal(send(line->peer, "!", 1, MSG_OOB), 1);
        trial_turns(line->loop, (int)i % 3);
        /* One byte is urgent at a time: a second one makes the first ordinary. */
        reader_wait(line->loop, reader, 20 * (i + 1));
    }
    shutdown(line->peer, SHUT_WR);
    reader_end(line->loop, reader);
    assert_int_equal(reader->received, 200);
}

/* R13: out of band means that it is no part of the stream. */
static void recv_urgent_byte_is_no_part_of_the_stream(void)
{
    for (enum reader_mode mode = 0; mode < READER_MODES; mode++) {
        static struct reader reader;
        struct line line;

        test_skip_simulated("the simulation has no urgent data");
        reader_announce(mode);
        line_open(&line, test_tcp_pair);
        urgent(&line, &reader, mode);
        line_close(&line);
    }
}

/* A datagram that is cut short would pass for the last of an empty socket. */
static void recv_lease_of_a_datagram_socket_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial trial;

    trial_attach(loop, &fd, wire_udp(NULL));
    for (int multishot = 0; multishot < 2; multishot++) {
        trial_init(&trial, NULL, NULL);
        assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, multishot ? GYRE_MULTISHOT : 0), 0);
        assert_int_equal(trial_end(loop, &trial), -EPROTOTYPE);
        assert_int_equal(trial.results, 1);
    }
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void check_lease(struct trial *trial, const struct gyre_result *result)
{
    size_t *got = trial->context;

    assert_true(result->res > 0);
    wire_check(result->lease->data, result->lease->len, *got);
    *got += result->lease->len;
}

/* What one way of receiving has found out about the socket, the other one relies on. */
static void recv_by_lease_and_into_memory_take_turns(void)
{
    enum { ROUNDS = 60, BLOCK = 4096, PIECE = 100 };
    struct gyre_loop_options options = test_options();
    struct gyre_fd fd;
    struct trial trial;
    uint8_t data[PIECE];
    size_t sent = 0;
    size_t got = 0;
    int pair[2];

    options.pool_block = BLOCK;
    options.pool_min = 4 * BLOCK;
    options.pool_max = 4 * BLOCK;
    struct gyre_loop *loop = test_loop_with(&options);
    test_tcp_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    for (int i = 0; i < ROUNDS; i++) {
        if (sent == got) {
            wire_send_stream(pair[1], (size_t)(i % 5 + 1) * BLOCK, sent);
            sent += (size_t)(i % 5 + 1) * BLOCK;
        }
        if (i % 2 == 0) {
            trial_init(&trial, check_lease, &got);
            assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, 0), 0);
            trial_end(loop, &trial);
        } else {
            trial_init(&trial, NULL, NULL);
            assert_int_equal(gyre_op_recv(&trial.op, &fd, data, PIECE, 0), 0);
            const int32_t len = trial_end(loop, &trial);
            assert_true(len > 0);
            wire_check(data, (size_t)len, got);
            got += (size_t)len;
        }
        assert_true(got <= sent);
    }
    close(pair[1]);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* R14: INT32_MAX is accepted, and what there is arrives; more is refused at once. */
static void recv_lengths_are_bounded(void)
{
    struct line line;
    struct trial receiving;
    uint8_t *huge = mmap(NULL, (size_t)INT32_MAX + 1, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(huge != MAP_FAILED);
    line_open(&line, test_unix_pair);
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, huge, 0, 0), -EINVAL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, huge, (size_t)INT32_MAX + 1, 0),
                     -EINVAL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, huge, SIZE_MAX, 0), -EINVAL);
    wire_send_stream(line.peer, 1000, 0);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, huge, INT32_MAX, 0), 0);
    assert_int_equal(trial_end(line.loop, &receiving), 1000);
    wire_check(huge, 1000, 0);
    line_close(&line);
    munmap(huge, (size_t)INT32_MAX + 1);
}

static void nonblocking(struct line *line, struct reader *reader, enum reader_mode mode)
{
    wire_nonblocking(gyre_fd_number(&line->fd));
    reader_start(reader, &line->fd, mode, 0);
    for (size_t i = 0; i < 5; i++) {
        trial_turns(line->loop, 5);
        assert_int_equal(reader->done, 0);
        wire_send_stream(line->peer, 100, 100 * i);
        reader_wait(line->loop, reader, 100 * (i + 1));
    }
    shutdown(line->peer, SHUT_WR);
    reader_end(line->loop, reader);
}

/* R16 */
static void recv_nonblocking_descriptor_never_shows_eagain(void)
{
    in_every_mode(nonblocking);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(recv_byte_by_byte_keeps_the_stream),
        TEST_CASE(recv_data_then_end_gives_data_first_and_one_end),
        TEST_CASE(recv_after_the_end_gives_the_end_again),
        TEST_CASE(recv_reset_reports_econnreset_once),
        TEST_CASE(recv_reset_ends_the_send_that_waits_as_well),
        TEST_CASE(recv_reset_behind_what_is_answered_ends_the_receive),
        TEST_CASE(recv_reset_behind_data_ends_the_receive_of_an_embedded_loop),
        TEST_CASE(recv_not_armed_data_waits_without_spinning),
        TEST_CASE(recv_megabytes_come_in_order),
        TEST_CASE(recv_stopped_in_its_callback_and_started_again_loses_nothing),
        TEST_CASE(recv_of_pieces_that_grow_and_shrink_keeps_the_stream),
        TEST_CASE(recv_several_started_are_served_in_order),
        TEST_CASE(recv_waitall_is_short_only_at_the_end),
        TEST_CASE(recv_waitall_cancelled_midway_delivers_what_came),
        TEST_CASE(recv_urgent_byte_is_no_part_of_the_stream),
        TEST_CASE(recv_lease_of_a_datagram_socket_is_refused),
        TEST_CASE(recv_by_lease_and_into_memory_take_turns),
        {"recv_lengths_are_bounded", recv_lengths_are_bounded, 90}, /* 2 GiB in the simulation */
        TEST_CASE(recv_nonblocking_descriptor_never_shows_eagain),
    };

    return test_main("ops-recv", cases, TEST_COUNT(cases));
}
