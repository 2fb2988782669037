/* Cancelling and deadlines: one final result, the real one if it won, and nothing lost. */
#include "rig.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RACES  10000
#define FORCED 10
#define CROWD  10000

static void cancel_once(struct rig *rig)
{
    struct trial trial;

    for (int turns = 0; turns < 3; turns++) {
        assert_int_equal(rig_start(rig, &trial, NULL), 0);
        trial_turns(rig->loop, turns);
        assert_int_equal(trial.results, 0);
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
        assert_int_equal(trial.results, 0);
        assert_int_equal(trial_end(rig->loop, &trial), -ECANCELED);
        assert_int_equal(trial.results, 1);
        rig_settle(rig, &trial);
        if (rig->kind->provoke == NULL && rig->attached) {
            return; /* a connect leaves its socket half connected */
        }
    }
}

/* K01 */
static void cancel_of_every_kind_pending_gives_one_ecanceled(void)
{
    rig_each(cancel_once);
}

static void cancel_again(struct rig *rig)
{
    struct trial trial;

    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    assert_int_equal(rig_start(rig, &trial, NULL), 0);
    trial_turns(rig->loop, 1);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
    }
    trial_turns(rig->loop, 1);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    assert_int_equal(trial_end(rig->loop, &trial), -ECANCELED);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    trial_turns(rig->loop, 3);
    assert_int_equal(trial.results, 1);
    rig_settle(rig, &trial);
}

/* K04 */
static void cancel_twice_when_done_and_when_idle_does_nothing(void)
{
    rig_each(cancel_again);
}

/* A cancel for an operation that ended must not reach the next one in the same storage. */
static void cancel_then_restart(struct rig *rig)
{
    struct trial trial;

    if (rig->kind->provoke == NULL) {
        return;
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(rig_start(rig, &trial, NULL), 0);
        trial_turns(rig->loop, i % 2);
        rig_provoke(rig);
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
        (void)trial_end(rig->loop, &trial);
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
        rig_settle(rig, &trial);
        assert_int_equal(rig_start(rig, &trial, NULL), 0);
        trial_turns(rig->loop, 3);
        assert_int_equal(trial.results, 0);
        rig_provoke(rig);
        test_turns_until(rig->loop, &trial.hits);
        if (rig->kind->multishot) {
            assert_int_equal(gyre_op_cancel(&trial.op), 0);
            assert_int_equal(trial_end(rig->loop, &trial), -ECANCELED);
        }
        rig_settle(rig, &trial);
    }
}

/* K04, X18 */
static void cancel_that_came_late_does_not_reach_the_next_operation(void)
{
    rig_each(cancel_then_restart);
}

/* How a race is cut off. */
typedef void (*cut_fn)(struct rig *rig, struct trial *trial, uint32_t *seed);

static void cut_by_cancel(struct rig *rig, struct trial *trial, uint32_t *seed)
{
    (void)rig;
    (void)seed;
    assert_int_equal(gyre_op_cancel(&trial->op), 0);
}

static void cut_by_deadline(struct rig *rig, struct trial *trial, uint32_t *seed)
{
    const uint64_t deadline = gyre_loop_now(rig->loop) + wire_random(seed, 20) * GYRE_USEC;

    if (gyre_op_active(&trial->op)) {
        assert_int_equal(gyre_op_set_deadline(&trial->op, deadline), 0);
    }
}

struct race {
    cut_fn cut;
    int32_t lost; /* the result of an operation that was cut off */
    int wins;
    int losses;
    uint32_t seed;
};

/* Starts, provokes, cuts off, in an order and with turns between that the seed decides. The first
 * FORCED rounds cannot win, the next cannot lose. */
static void race_once(struct rig *rig, struct race *race, int round)
{
    const uint32_t schedule = wire_random(&race->seed, 16);
    const int provoked = round >= FORCED;
    const int early = provoked && (schedule & 1) != 0;
    struct trial trial;

    if (early) {
        rig_provoke(rig);
    }
    assert_int_equal(rig_start(rig, &trial, NULL), 0);
    trial_turns(rig->loop, (schedule & 2) != 0);
    if (provoked && !early) {
        rig_provoke(rig);
    }
    trial_turns(rig->loop, (schedule & 12) == 0);
    if (provoked && round < 2 * FORCED) {
        test_turns_until(rig->loop, &trial.hits);
    }
    race->cut(rig, &trial, &race->seed);
    const int32_t res = trial_end(rig->loop, &trial);
    assert_true(res == race->lost || res >= 0);
    assert_int_equal(trial.results, trial.hits + (res < 0));
    assert_true(trial.results == 1 || rig->kind->multishot);
    race->wins += trial.hits > 0;
    race->losses += trial.hits == 0;
    rig_settle(rig, &trial);
}

static void race_all_kinds(const struct race *of, int rounds)
{
    struct gyre_loop *loop = test_loop();

    for (size_t i = 0; i < rig_kind_count; i++) {
        struct race race = *of;
        struct rig rig;

        if (rig_kinds[i].provoke == NULL) {
            continue;
        }
        rig_open(&rig, loop, &rig_kinds[i]);
        for (int round = 0; round < rounds; round++) {
            race_once(&rig, &race, round);
        }
        assert_true(race.wins >= FORCED);
        assert_true(race.losses >= FORCED);
        rig_close(&rig);
    }
    test_loop_end(loop);
}

/* K02, K03, K06: only the result or ECANCELED; what won is delivered, what lost is still there. */
static void cancel_versus_completion_of_every_kind_ends_once_and_loses_nothing(void)
{
    race_all_kinds(&(struct race){.cut = cut_by_cancel, .lost = -ECANCELED, .seed = 10},
                   test_steps(RACES, 2 * FORCED));
}

/* K08 */
static void deadline_versus_completion_of_every_kind_ends_once_and_loses_nothing(void)
{
    race_all_kinds(&(struct race){.cut = cut_by_deadline, .lost = -ETIMEDOUT, .seed = 11},
                   test_steps(RACES, 2 * FORCED));
}

/* T12 */
static void timeout_cancel_versus_fire_ends_once(void)
{
    struct gyre_loop *loop = test_loop();
    const int races = test_steps(RACES, 2 * FORCED);
    uint32_t seed = 12;
    int fired = 0;

    for (int i = 0; i < races; i++) {
        struct trial trial;
        uint64_t deadline = gyre_loop_update_now(loop) + wire_random(&seed, 30) * GYRE_USEC;

        deadline = i < FORCED ? deadline + GYRE_SEC : deadline;
        trial_init(&trial, NULL, NULL);
        assert_int_equal(gyre_op_timeout(&trial.op, loop, deadline), 0);
        trial_turns(loop, (int)wire_random(&seed, 4));
        if (i >= FORCED && i < 2 * FORCED) {
            assert_int_equal(trial_end(loop, &trial), 0);
        }
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
        const int32_t res = trial_end(loop, &trial);
        assert_true(res == 0 || res == -ECANCELED);
        assert_true(res != 0 || test_now() >= deadline);
        assert_int_equal(trial.results, 1);
        fired += res == 0;
    }
    assert_in_range(fired, FORCED, races - FORCED);
    test_loop_end(loop);
}

static void time_out(struct rig *rig)
{
    struct trial trial;

    if (!rig->attached) {
        return; /* a timeout: the next case */
    }
    for (int round = 0; round < 3; round++) {
        assert_int_equal(rig_start(rig, &trial, NULL), 0);
        const uint64_t now = gyre_loop_update_now(rig->loop);
        const uint64_t deadline = round == 0 ? now - 1 : now + 3 * GYRE_MSEC;

        if (round == 2) { /* an earlier deadline is replaced */
            assert_int_equal(gyre_op_set_deadline(&trial.op, now + 1), 0);
        }
        assert_int_equal(gyre_op_set_deadline(&trial.op, deadline), 0);
        assert_int_equal(trial.results, 0);
        assert_int_equal(trial_end(rig->loop, &trial), -ETIMEDOUT);
        assert_true(test_now() >= deadline);
        assert_int_equal(trial.results, 1);
        rig_settle(rig, &trial);
        if (rig->kind->provoke == NULL && rig->attached) {
            return;
        }
    }
}

/* K07 */
static void deadline_of_every_kind_gives_etimedout_once_and_never_early(void)
{
    rig_each(time_out);
}

/* K07: a timeout's own moment is a success; a deadline before it is none. */
static void deadline_of_a_timeout_gives_etimedout(void)
{
    struct gyre_loop *loop = test_loop();
    struct trial trial;
    const uint64_t now = gyre_loop_update_now(loop);

    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_timeout(&trial.op, loop, now + 3600 * GYRE_SEC), 0);
    assert_int_equal(gyre_op_set_deadline(&trial.op, now + GYRE_MSEC), 0);
    assert_int_equal(trial_end(loop, &trial), -ETIMEDOUT);
    test_loop_end(loop);
}

static void deadline_taken_back_does_not_strike(void)
{
    struct gyre_loop *loop = test_loop();
    struct rig rig;
    struct trial trial;

    rig_open(&rig, loop, &rig_kinds[0]);
    assert_int_equal(rig_start(&rig, &trial, NULL), 0);
    assert_int_equal(gyre_op_set_deadline(&trial.op, gyre_loop_now(loop) + GYRE_MSEC), 0);
    assert_int_equal(gyre_op_set_deadline(&trial.op, UINT64_MAX), 0);
    (void)trial_idle_turns(loop, 5 * GYRE_MSEC);
    assert_int_equal(trial.results, 0);
    assert_int_equal(gyre_op_cancel(&trial.op), 0);
    assert_int_equal(trial_end(loop, &trial), -ECANCELED);
    assert_int_equal(gyre_op_set_deadline(&trial.op, gyre_loop_now(loop)), -EINVAL);
    /* Nor does a deadline outlive its operation. */
    assert_int_equal(rig_start(&rig, &trial, NULL), 0);
    assert_int_equal(gyre_op_set_deadline(&trial.op, gyre_loop_now(loop) + GYRE_MSEC), 0);
    rig_provoke(&rig);
    assert_true(trial_end(loop, &trial) > 0);
    rig_settle(&rig, &trial);
    assert_int_equal(rig_start(&rig, &trial, NULL), 0);
    (void)trial_idle_turns(loop, 5 * GYRE_MSEC);
    assert_int_equal(trial.results, 0);
    rig_close(&rig);
    test_loop_end(loop);
}

/* K03: the deadline strikes while the operation's result waits behind more completions than one turn
 * takes. It won: what it received must be told. Where it had not been tried, the bytes are still
 * there. */
static void deadline_struck_before_its_result_was_seen_does_not_hide_it(void)
{
    enum { AHEAD = 1100, LEN = 100 };
    struct trial *ahead = calloc(AHEAD, sizeof *ahead);
    struct trial receiving;
    struct line line;
    uint8_t data[LEN];

    assert_non_null(ahead);
    line_open(&line, test_unix_pair);
    wire_send_stream(line.peer, LEN, 0);
    for (int i = 0; i < AHEAD; i++) {
        trial_init(&ahead[i], NULL, NULL);
        assert_int_equal(gyre_op_poll(&ahead[i].op, &line.fd, POLLOUT, 0), 0);
    }
    trial_init(&receiving, NULL, NULL);
    assert_int_equal(gyre_op_recv(&receiving.op, &line.fd, data, LEN, 0), 0);
    assert_int_equal(gyre_op_set_deadline(&receiving.op, gyre_loop_now(line.loop)), 0);
    const int32_t res = trial_end(line.loop, &receiving);
    if (res == -ETIMEDOUT) {
        assert_int_equal(recv(line.fd.number, data, LEN, MSG_DONTWAIT), LEN);
    } else {
        assert_int_equal(res, LEN);
    }
    wire_check(data, LEN, 0);
    for (int i = 0; i < AHEAD; i++) {
        assert_int_equal(trial_end(line.loop, &ahead[i]), POLLOUT);
    }
    free(ahead);
    line_close(&line);
}

/* Cancel and deadline together: which of the two is told is up to the library, but only once. */
static void cancel_and_deadline_at_once_end_once(void)
{
    struct gyre_loop *loop = test_loop();
    struct rig rig;

    for (int i = 0; i < 100; i++) {
        struct trial trial;

        rig_open(&rig, loop, &rig_kinds[(size_t)i % (rig_kind_count - 1)]); /* no timeout */
        assert_int_equal(rig_start(&rig, &trial, NULL), 0);
        trial_turns(loop, i % 3);
        assert_int_equal(gyre_op_set_deadline(&trial.op, gyre_loop_now(loop)), 0);
        trial_turns(loop, i % 2);
        assert_int_equal(gyre_op_cancel(&trial.op), 0);
        const int32_t res = trial_end(loop, &trial);
        assert_true(res == -ECANCELED || res == -ETIMEDOUT);
        rig_settle(&rig, &trial);
        rig_close(&rig);
    }
    test_loop_end(loop);
}

#define BATCH 32

struct batch {
    struct trial trials[BATCH];
    struct gyre_fd fds[BATCH];
    uint8_t bytes[BATCH];
    int cancelled;
};

static void cancel_the_others(struct trial *trial, const struct gyre_result *result)
{
    struct batch *batch = trial->context;

    (void)result;
    if (batch->cancelled) {
        return;
    }
    batch->cancelled = 1;
    for (size_t i = 0; i < BATCH; i++) {
        assert_int_equal(gyre_op_cancel(&batch->trials[i].op), 0);
    }
}

/* K10: the others have completed already, in the same turn. */
static void cancel_of_operations_later_in_the_batch_ends_each_once(void)
{
    struct gyre_loop *loop = test_loop();
    static struct batch batch;
    int pairs[BATCH][2];

    for (size_t i = 0; i < BATCH; i++) {
        test_unix_pair(pairs[i]);
        trial_attach(loop, &batch.fds[i], pairs[i][0]);
        trial_init(&batch.trials[i], cancel_the_others, &batch);
        assert_int_equal(gyre_op_recv(&batch.trials[i].op, &batch.fds[i], &batch.bytes[i], 1, 0),
                         0);
    }
    trial_turns(loop, 2);
    for (size_t i = 0; i < BATCH; i++) {
        wire_send_stream(pairs[i][1], 1, i);
    }
    for (size_t i = 0; i < BATCH; i++) {
        const int32_t res = trial_end(loop, &batch.trials[i]);

        assert_true(res == 1 || res == -ECANCELED);
        if (res < 0) {
            assert_int_equal(wire_take(pairs[i][0], &batch.bytes[i], 1), 1);
        }
        wire_check(&batch.bytes[i], 1, i);
        assert_int_equal(wire_readable(pairs[i][0]), 0);
    }
    trial_turns(loop, 3);
    for (size_t i = 0; i < BATCH; i++) {
        trial_close(loop, &batch.fds[i]);
        close(pairs[i][1]);
    }
    test_loop_end(loop);
}

/* K10, T06: timeouts that are all due in one turn. */
static void cancel_of_timeouts_due_in_the_same_turn_ends_each_once(void)
{
    struct gyre_loop *loop = test_loop();
    static struct batch batch;
    const uint64_t now = gyre_loop_update_now(loop);

    for (size_t i = 0; i < BATCH; i++) {
        trial_init(&batch.trials[i], cancel_the_others, &batch);
        assert_int_equal(gyre_op_timeout(&batch.trials[i].op, loop, now), 0);
    }
    for (size_t i = 0; i < BATCH; i++) {
        const int32_t res = trial_end(loop, &batch.trials[i]);

        assert_true(res == 0 || res == -ECANCELED);
    }
    test_loop_end(loop);
}

#define CROWD_FDS 500
#define PER_FD    (CROWD / CROWD_FDS)

/* The j-th operation on a descriptor, of all kinds that a socket can have. */
static int start_one(struct trial *trial, struct gyre_fd *fd, uint8_t *byte, size_t j)
{
    struct iovec iov = {.iov_base = byte, .iov_len = 1};
    const struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    trial_init(trial, NULL, NULL);
    switch (j % 10) {
    case 0:
        return gyre_op_recv(&trial->op, fd, byte, 1, 0);
    case 1:
        return gyre_op_recv_lease(&trial->op, fd, 0);
    case 2:
        return gyre_op_recv_lease(&trial->op, fd, GYRE_MULTISHOT);
    case 3:
        return gyre_op_recvmsg(&trial->msg, fd, &msg, 0);
    case 4:
        return gyre_op_read(&trial->op, fd, byte, 1, GYRE_OFFSET_CURRENT);
    case 5:
        return gyre_op_send(&trial->op, fd, byte, 1);
    case 6:
        return gyre_op_sendmsg(&trial->msg, fd, &msg);
    case 7:
        return gyre_op_write(&trial->op, fd, byte, 1, GYRE_OFFSET_CURRENT);
    case 8:
        return gyre_op_poll(&trial->op, fd, POLLIN, 0);
    default:
        return gyre_op_poll(&trial->op, fd, POLLIN, GYRE_MULTISHOT);
    }
}

/* K11 */
static void cancel_of_ten_thousand_ends_each_once_and_the_loop_returns(void)
{
    struct gyre_loop *loop = test_loop();
    struct trial *trials = calloc(CROWD, sizeof *trials);
    struct gyre_fd *fds = calloc(CROWD_FDS, sizeof *fds);
    int peers[CROWD_FDS];
    uint8_t bytes[CROWD] = {0};

    assert_non_null(trials);
    assert_non_null(fds);
    wire_raise_descriptors(2 * CROWD_FDS + 64);
    for (size_t i = 0; i < CROWD_FDS; i++) {
        int pair[2];

        test_unix_pair(pair);
        peers[i] = pair[1];
        wire_send_buffer(pair[0], 1);
        (void)wire_stuff(pair[0]);
        trial_attach(loop, &fds[i], pair[0]);
        for (size_t j = 0; j < PER_FD; j++) {
            const size_t at = i * PER_FD + j;

            assert_int_equal(start_one(&trials[at], &fds[i], &bytes[at], j), 0);
        }
    }
    trial_turns(loop, 3);
    for (size_t i = 0; i < CROWD_FDS; i++) {
        assert_int_equal(gyre_fd_cancel(&fds[i]), PER_FD);
    }
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_DEFAULT), 0);
    for (size_t i = 0; i < CROWD; i++) {
        assert_int_equal(trials[i].finals, 1);
        assert_int_equal(trials[i].results, 1);
        assert_int_equal(trials[i].res, -ECANCELED);
    }
    for (size_t i = 0; i < CROWD_FDS; i++) {
        assert_int_equal(gyre_fd_cancel(&fds[i]), 0);
        trial_close(loop, &fds[i]);
        close(peers[i]);
    }
    test_loop_end(loop);
    free(trials);
    free(fds);
}

/* K12 */
static void cancel_by_deadline_of_a_send_does_not_hang_the_next(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_fd fd;
    struct trial sending;
    int pair[2];

    test_unix_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    (void)wire_stuff(pair[0]);
    for (int i = 0; i < 3; i++) {
        trial_init(&sending, NULL, NULL);
        assert_int_equal(gyre_op_send(&sending.op, &fd, "abc", 3), 0);
        assert_int_equal(gyre_op_set_deadline(&sending.op, gyre_loop_now(loop) + 1), 0);
        assert_int_equal(trial_end(loop, &sending), -ETIMEDOUT);
    }
    (void)wire_drain(pair[1]);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &fd, "def", 3), 0);
    assert_int_equal(trial_end(loop, &sending), 3);
    char data[8];
    assert_int_equal(wire_take(pair[1], data, sizeof data), 3);
    assert_memory_equal(data, "def", 3);
    trial_close(loop, &fd);
    close(pair[1]);
    test_loop_end(loop);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(cancel_of_every_kind_pending_gives_one_ecanceled),
        TEST_CASE(cancel_twice_when_done_and_when_idle_does_nothing),
        TEST_CASE(cancel_that_came_late_does_not_reach_the_next_operation),
        {"cancel_versus_completion_of_every_kind_ends_once_and_loses_nothing",
         cancel_versus_completion_of_every_kind_ends_once_and_loses_nothing, 60},
        {"deadline_versus_completion_of_every_kind_ends_once_and_loses_nothing",
         deadline_versus_completion_of_every_kind_ends_once_and_loses_nothing, 60},
        TEST_CASE(timeout_cancel_versus_fire_ends_once),
        TEST_CASE(deadline_of_every_kind_gives_etimedout_once_and_never_early),
        TEST_CASE(deadline_of_a_timeout_gives_etimedout),
        TEST_CASE(deadline_taken_back_does_not_strike),
        TEST_CASE(deadline_struck_before_its_result_was_seen_does_not_hide_it),
        TEST_CASE(cancel_and_deadline_at_once_end_once),
        TEST_CASE(cancel_of_operations_later_in_the_batch_ends_each_once),
        TEST_CASE(cancel_of_timeouts_due_in_the_same_turn_ends_each_once),
        TEST_CASE(cancel_of_ten_thousand_ends_each_once_and_the_loop_returns),
        TEST_CASE(cancel_by_deadline_of_a_send_does_not_hang_the_next),
    };

    return test_main("ops-cancel", cases, TEST_COUNT(cases));
}
