/* Sending: in the order of starting, all of it, however slow the reader; never a SIGPIPE. */
#include "stream.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define QUEUED  10000
#define LARGE   ((size_t)64 << 20)
#define CHAINED 200000

/* Turns, and reads at the other end in pieces of up to @most bytes, until the trial has ended; then
 * reads the rest of @total bytes, and finds no more. */
static void read_slowly(struct line *line, const struct trial *sending, size_t most, size_t total)
{
    uint32_t seed = 5;
    size_t got = 0;

    while (sending->finals == 0) {
        trial_turns(line->loop, (int)wire_random(&seed, 3));
        got += wire_take_stream(line->peer, 1 + wire_random(&seed, (uint32_t)most), got);
    }
    assert_true(got <= total);
    wire_expect_stream(line->peer, total - got, got);
    assert_int_equal(wire_take_stream(line->peer, 1, 0), 0);
}

static uint8_t *stream_bytes(size_t len)
{
    uint8_t *data = malloc(len);

    assert_non_null(data);
    wire_fill(data, len, 0);
    return data;
}

/* W01, L16 */
static void send_ten_thousand_queued_leave_in_order(void)
{
    struct line line;
    struct trial *sending = calloc(QUEUED, sizeof *sending);
    uint32_t seed = 6;
    size_t total = 0;
    uint8_t *data = stream_bytes(QUEUED * 100);

    assert_non_null(sending);
    line_open(&line, test_unix_pair);
    wire_send_buffer(gyre_fd_number(&line.fd), 4096);
    for (size_t i = 0; i < QUEUED; i++) {
        const size_t len = 1 + wire_random(&seed, 100);

        trial_init(&sending[i], NULL, (void *)(uintptr_t)len);
        assert_int_equal(gyre_op_send(&sending[i].op, &line.fd, data + total, len), 0);
        total += len;
    }
    read_slowly(&line, &sending[QUEUED - 1], 5000, total);
    for (size_t i = 0; i < QUEUED; i++) {
        assert_int_equal(sending[i].finals, 1);
        assert_int_equal(sending[i].res, (uintptr_t)sending[i].context);
        assert_true(i == 0 || sending[i].rank > sending[i - 1].rank);
    }
    line_close(&line);
    free(data);
    free(sending);
}

/* W02 */
static void send_of_64_mib_to_a_slow_reader_arrives_intact(void)
{
    static void (*const pairs[])(int pair[2]) = {test_unix_pair, test_tcp_pair};
    uint8_t *data = stream_bytes(LARGE);

    for (size_t p = 0; p < TEST_COUNT(pairs); p++) {
        struct line line;
        struct trial sending;

        line_open(&line, pairs[p]);
        wire_send_buffer(gyre_fd_number(&line.fd), p == 0 ? 2048 : 65536);
        trial_init(&sending, NULL, NULL);
        assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, LARGE), 0);
        read_slowly(&line, &sending, 256 << 10, LARGE);
        assert_int_equal(sending.res, LARGE);
        line_close(&line);
    }
    free(data);
}

/* Cuts @len bytes into 16 pieces, one of them empty. */
static void cut(struct iovec iov[GYRE_IOV_MAX], uint8_t *data, size_t len)
{
    uint32_t seed = 7;
    size_t done = 0;

    for (size_t i = 0; i + 1 < GYRE_IOV_MAX; i++) {
        const size_t part = i == 5 ? 0 : wire_random(&seed, (uint32_t)(len / GYRE_IOV_MAX));

        iov[i] = (struct iovec){.iov_base = data + done, .iov_len = part};
        done += part;
    }
    iov[GYRE_IOV_MAX - 1] = (struct iovec){.iov_base = data + done, .iov_len = len - done};
}

/* W10: the pieces are copied at start; the array may be gone at once. */
static void sendmsg_of_16_pieces_goes_on_after_every_short_one(void)
{
    const size_t len = 4 << 20;
    uint8_t *data = stream_bytes(len);
    static void (*const pairs[])(int pair[2]) = {test_unix_pair, test_tcp_pair};

    for (size_t p = 0; p < TEST_COUNT(pairs); p++) {
        struct line line;
        struct trial sending;
        struct iovec iov[GYRE_IOV_MAX];
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = GYRE_IOV_MAX};

        cut(iov, data, len);
        line_open(&line, pairs[p]);
        wire_send_buffer(gyre_fd_number(&line.fd), p == 0 ? 2048 : 65536);
        trial_init(&sending, NULL, NULL);
        assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, &msg), 0);
        memset(iov, 0xff, sizeof iov);
        memset(&msg, 0xff, sizeof msg);
        read_slowly(&line, &sending, 20000, len);
        assert_int_equal(sending.res, len);
        line_close(&line);
    }
    free(data);
}

/* W05, R16 */
static void send_nonblocking_descriptor_never_shows_eagain(void)
{
    struct line line;
    struct trial sending;
    uint8_t *data = stream_bytes(1 << 20);

    line_open(&line, test_unix_pair);
    wire_nonblocking(gyre_fd_number(&line.fd));
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, 1 << 20), 0);
    trial_turns(line.loop, 20);
    assert_int_equal(sending.results, 0);
    read_slowly(&line, &sending, 50000, 1 << 20);
    assert_int_equal(sending.res, 1 << 20);
    line_close(&line);
    free(data);
}

static volatile sig_atomic_t alarms;

static void count_alarm(int number)
{
    (void)number;
    alarms++;
}

/* W05, L14: a signal each millisecond, system calls not restarted. */
static void send_and_recv_in_a_storm_of_signals_show_no_eintr(void)
{
    const struct sigaction action = {.sa_handler = count_alarm};
    const struct itimerval often = {.it_interval.tv_usec = 1000, .it_value.tv_usec = 1000};
    const struct itimerval never = {0};
    struct line line;
    struct gyre_fd receiving;
    static struct writer writer;
    static struct reader reader;

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    line_open(&line, test_unix_pair);
    trial_attach(line.loop, &receiving, line.peer);
    line.peer = -1;
    assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
    for (uint64_t round = 0; alarms < 50; round++) {
        const uint64_t total = 1 << 20;

        writer_start(&writer, &line.fd, total, round * total);
        if (round == 0) {
            reader_start(&reader, &receiving, READER_MULTISHOT, 0);
        }
        reader_wait(line.loop, &reader, (round + 1) * total);
        test_turns_until(line.loop, &writer.done);
        assert_int_equal(writer.error, 0);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
    trial_close(line.loop, &receiving);
    line_close(&line);
}

static int default_sigpipe(void)
{
    struct sigaction action;

    return sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL;
}

/* W06 */
static void send_to_a_closed_peer_gives_epipe_and_no_signal(void)
{
    static void (*const pairs[])(int pair[2]) = {test_unix_pair, test_tcp_pair};

    assert_true(default_sigpipe());
    for (size_t p = 0; p < TEST_COUNT(pairs); p++) {
        struct line line;
        struct trial sending;
        int32_t res = 1;
        char byte = 'x';
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

        line_open(&line, pairs[p]);
        close(line.peer);
        line.peer = -1;
        /* TCP learns of it by the answer to the first bytes, and then says EPIPE forever. */
        for (int i = 0; i < 3 || res > 0; i++) {
            trial_init(&sending, NULL, NULL);
            assert_int_equal(gyre_op_send(&sending.op, &line.fd, "x", 1), 0);
            res = trial_end(line.loop, &sending);
            assert_true(res == -EPIPE || i < 2);
        }
        assert_int_equal(res, -EPIPE);
        trial_init(&sending, NULL, NULL);
        assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, &msg), 0);
        assert_int_equal(trial_end(line.loop, &sending), -EPIPE);
        line_close(&line);
    }
    assert_true(default_sigpipe());
}

/* W07 */
static void send_after_shutdown_gives_epipe_and_after_close_is_refused(void)
{
    struct line line;
    struct trial sending;

    line_open(&line, test_tcp_pair);
    shutdown(gyre_fd_number(&line.fd), SHUT_WR);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, "x", 1), 0);
    assert_int_equal(trial_end(line.loop, &sending), -EPIPE);
    line_start_close(&line, 0);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, "x", 1), GYRE_ECLOSING);
    assert_int_equal(trial_end(line.loop, &line.closing), 0);
    assert_int_equal(sending.results, 0);
    assert_true(gyre_op_send(&sending.op, &line.fd, "x", 1) < 0);
    line_close(&line);
}

/* W09 */
static void send_of_nothing_completes_in_its_turn_and_sends_nothing(void)
{
    struct line line;
    struct trial sending[4];
    const struct msghdr empty = {0};

    line_open(&line, test_tcp_pair);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        trial_init(&sending[i], NULL, NULL);
    }
    assert_int_equal(gyre_op_send(&sending[0].op, &line.fd, "abc", 3), 0);
    assert_int_equal(gyre_op_send(&sending[1].op, &line.fd, "x", 0), 0);
    assert_int_equal(gyre_op_sendmsg(&sending[2].msg, &line.fd, &empty), 0);
    assert_int_equal(gyre_op_send(&sending[3].op, &line.fd, "def", 3), 0);
    assert_int_equal(trial_end(line.loop, &sending[3]), 3);
    for (size_t i = 0; i < TEST_COUNT(sending); i++) {
        assert_int_equal(sending[i].finals, 1);
        assert_int_equal(sending[i].res, i % 3 == 0 ? 3 : 0);
        assert_true(i == 0 || sending[i].rank > sending[i - 1].rank);
    }
    char data[6];
    assert_int_equal(recv(line.peer, data, sizeof data, MSG_WAITALL), 6);
    assert_int_equal(wire_readable(line.peer), 0);
    assert_memory_equal(data, "abcdef", 6);
    line_close(&line);
}

static void scribble(struct trial *trial, const struct gyre_result *result)
{
    assert_true(result->res >= 0);
    memset(trial->context, 0xff, (size_t)result->res);
}

/* W10: after the final callback nobody reads the buffer any more. */
static void send_buffer_is_the_callers_again_in_the_callback(void)
{
    struct line line;
    size_t got = 0;

    line_open(&line, test_unix_pair);
    for (size_t i = 0; i < 100; i++) {
        const size_t len = 10000;
        uint8_t *data = malloc(len);
        struct trial sending;

        assert_non_null(data);
        wire_fill(data, len, got);
        trial_init(&sending, scribble, data);
        assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, len), 0);
        assert_int_equal(trial_end(line.loop, &sending), len);
        free(data);
        wire_expect_stream(line.peer, len, got);
        got += len;
    }
    line_close(&line);
}

struct chain {
    struct line line;
    int left;
    uintptr_t lowest;
    uintptr_t highest;
    int done;
};

static void send_next(struct trial *trial, const struct gyre_result *result)
{
    struct chain *chain = trial->context;
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    assert_int_equal(result->res, 1);
    chain->lowest = here < chain->lowest ? here : chain->lowest;
    chain->highest = here > chain->highest ? here : chain->highest;
    if (--chain->left == 0) {
        chain->done = 1;
        return;
    }
    if (chain->left % 64 == 0) {
        assert_int_equal(wire_drain(chain->line.peer), 64);
    }
    trial_init(trial, send_next, chain);
    assert_int_equal(gyre_op_send(&trial->op, &chain->line.fd, "x", 1), 0);
}

/* W15 */
static void send_chained_in_its_callback_keeps_the_stack_flat(void)
{
    struct chain chain = {.left = CHAINED, .lowest = UINTPTR_MAX};
    struct trial sending;

    line_open(&chain.line, test_unix_pair);
    trial_init(&sending, send_next, &chain);
    assert_int_equal(gyre_op_send(&sending.op, &chain.line.fd, "x", 1), 0);
    test_turns_until(chain.line.loop, &chain.done);
    assert_true(chain.highest - chain.lowest < 1024);
    line_close(&chain.line);
}

/* W16 */
static void send_descriptor_number_takes_socket_options(void)
{
    struct line line;
    int value = 0;
    socklen_t len = sizeof value;

    line_open(&line, test_tcp_pair);
    wire_send_buffer(gyre_fd_number(&line.fd), 50000);
    assert_int_equal(getsockopt(gyre_fd_number(&line.fd), SOL_SOCKET, SO_SNDBUF, &value, &len), 0);
    assert_int_equal(value, 100000); /* the kernel doubles it, socket(7) */
    line_close(&line);
}

/* How a send in the middle of a large buffer is ended. */
enum ending { END_CANCEL, END_DEADLINE, END_CLOSE, END_COUNT };

static int32_t end_midway(struct line *line, struct trial *sending, enum ending ending)
{
    trial_turns(line->loop, 20);
    assert_int_equal(sending->results, 0);
    if (ending == END_CANCEL) {
        assert_int_equal(gyre_op_cancel(&sending->op), 0);
    } else if (ending == END_DEADLINE) {
        assert_int_equal(gyre_op_set_deadline(&sending->op, gyre_loop_now(line->loop) + 1), 0);
    } else {
        line_start_close(line, 0);
        assert_int_equal(trial_end(line->loop, &line->closing), 0);
    }
    return trial_end(line->loop, sending);
}

/* The result says how much left, to the byte, and the next send goes on from there (K12). */
static void send_cut_short_reports_the_bytes_that_left(void)
{
    const size_t len = 8 << 20;
    uint8_t *data = stream_bytes(len);

    for (int i = 0; i < 2 * END_COUNT; i++) {
        const enum ending ending = i % END_COUNT;
        struct line line;
        struct trial sending;
        struct iovec iov[GYRE_IOV_MAX];
        const struct msghdr msg = {.msg_iov = iov, .msg_iovlen = GYRE_IOV_MAX};

        print_message("ending %d of a %s\n", ending, i < END_COUNT ? "send" : "sendmsg");
        cut(iov, data, len);
        line_open(&line, test_unix_pair);
        trial_init(&sending, NULL, NULL);
        assert_int_equal(i < END_COUNT ? gyre_op_send(&sending.op, &line.fd, data, len)
                                       : gyre_op_sendmsg(&sending.msg, &line.fd, &msg),
                         0);
        const int32_t left = end_midway(&line, &sending, ending);
        assert_in_range(left, 1, len - 1);
        assert_int_equal(wire_take_stream(line.peer, SIZE_MAX, 0), left);
        if (ending != END_CLOSE) {
            trial_init(&sending, NULL, NULL);
            assert_int_equal(gyre_op_send(&sending.op, &line.fd, data + left, 100), 0);
            assert_int_equal(trial_end(line.loop, &sending), 100);
            wire_expect_stream(line.peer, 100, (uint64_t)left);
        }
        line_close(&line);
    }
    free(data);
}

/* Those behind one that was cancelled are sent. */
static void send_cancelled_in_the_queue_lets_the_others_pass(void)
{
    struct line line;
    struct trial sending[5];
    uint8_t *data = stream_bytes(1 << 20);

    line_open(&line, test_unix_pair);
    for (size_t i = 0; i < 5; i++) {
        trial_init(&sending[i], NULL, NULL);
    }
    assert_int_equal(gyre_op_send(&sending[0].op, &line.fd, data, 1 << 20), 0);
    for (size_t i = 1; i < 5; i++) {
        assert_int_equal(gyre_op_send(&sending[i].op, &line.fd, &"0abcd"[i], 1), 0);
    }
    trial_turns(line.loop, 5);
    assert_int_equal(gyre_op_cancel(&sending[2].op), 0);
    assert_int_equal(trial_end(line.loop, &sending[2]), -ECANCELED);
    assert_int_equal(sending[0].results, 0);
    size_t got = 0;
    while (sending[0].finals == 0 || got < 1 << 20) {
        trial_turns(line.loop, 1);
        got += wire_take_stream(line.peer, (1 << 20) - got, got);
    }
    assert_int_equal(trial_end(line.loop, &sending[4]), 1);
    char tail[8];
    assert_int_equal(wire_take(line.peer, tail, sizeof tail), 3);
    assert_memory_equal(tail, "acd", 3);
    line_close(&line);
    free(data);
}

static void send_bad_arguments_are_refused(void)
{
    struct line line;
    struct trial sending;
    struct iovec iov[GYRE_IOV_MAX + 1] = {{0}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = GYRE_IOV_MAX + 1};
    uint8_t data[1];

    line_open(&line, test_unix_pair);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(NULL, &line.fd, data, 1), -EINVAL);
    assert_int_equal(gyre_op_send(&sending.op, NULL, data, 1), -EINVAL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, NULL, 1), -EINVAL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, (size_t)INT32_MAX + 1), -EINVAL);
    assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, &msg), -EINVAL);
    assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, NULL), -EINVAL);
    msg.msg_iovlen = 2;
    iov[0] = (struct iovec){.iov_base = data, .iov_len = INT32_MAX};
    iov[1] = (struct iovec){.iov_base = data, .iov_len = 1};
    assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, &msg), -EINVAL);
    iov[0].iov_len = SIZE_MAX;
    assert_int_equal(gyre_op_sendmsg(&sending.msg, &line.fd, &msg), -EINVAL);
    trial_turns(line.loop, 2);
    assert_int_equal(sending.results, 0);
    line_close(&line);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(send_ten_thousand_queued_leave_in_order),
        {"send_of_64_mib_to_a_slow_reader_arrives_intact",
         send_of_64_mib_to_a_slow_reader_arrives_intact, 30},
        TEST_CASE(sendmsg_of_16_pieces_goes_on_after_every_short_one),
        TEST_CASE(send_nonblocking_descriptor_never_shows_eagain),
        TEST_CASE(send_and_recv_in_a_storm_of_signals_show_no_eintr),
        TEST_CASE(send_to_a_closed_peer_gives_epipe_and_no_signal),
        TEST_CASE(send_after_shutdown_gives_epipe_and_after_close_is_refused),
        TEST_CASE(send_of_nothing_completes_in_its_turn_and_sends_nothing),
        TEST_CASE(send_buffer_is_the_callers_again_in_the_callback),
        TEST_CASE(send_chained_in_its_callback_keeps_the_stack_flat),
        TEST_CASE(send_descriptor_number_takes_socket_options),
        TEST_CASE(send_cut_short_reports_the_bytes_that_left),
        TEST_CASE(send_cancelled_in_the_queue_lets_the_others_pass),
        TEST_CASE(send_bad_arguments_are_refused),
    };

    return test_main("ops-send", cases, TEST_COUNT(cases));
}
