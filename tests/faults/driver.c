/*
 * What the drivers make of a kernel that refuses one thing, once: what the caller is told, and that the
 * loop goes on afterwards. Torture looks for crashes, leaks and hangs at every place; here it is said
 * what has to come of some of them.
 */
#include "core/traffic.h"
#include "faults/faults.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void only_on(int uring)
{
    if (test_variant_uring() != uring) {
        test_skip(uring ? "of io_uring" : "of epoll");
    }
}

/* For cases in which a request of io_uring fails. */
static void need_failing_requests(void)
{
    if (test_variant_uring() && !faults_requests_can_fail()) {
        test_skip("the kernel's no-ops take no result: before Linux 6.10");
    }
}

static void chance(const char *text)
{
    char why[128];

    assert_int_equal(faults_parse(text, why, sizeof(why)), 0);
}

static void use_and_end(struct gyre_loop *loop)
{
    traffic_check(loop, 20);
    test_loop_end(loop);
}

static struct gyre_loop_info info_of(struct gyre_loop *loop)
{
    struct gyre_loop_info info;

    assert_int_equal(gyre_loop_info(loop, &info), 0);
    return info;
}

static int create(const struct gyre_loop_options *options)
{
    const size_t fds = test_open_fds();
    struct gyre_loop *loop = NULL;
    const int rc = gyre_loop_create(&loop, options);

    assert_true(rc < 0); /* or it is none of the cases that use this */
    assert_null(loop);
    assert_int_equal(test_open_fds(), fds);
    assert_int_equal(gyre_allocator_live(), 0);
    return rc;
}

/* From here on the driver's self-test is remembered. */
static void know_the_kernel(void)
{
    test_loop_end(test_loop());
}

/* ---- setting up ---- */

static void setup_that_fails_oddly_is_a_refusal_without_advice(void)
{
    const struct gyre_loop_options options = test_options();

    only_on(1);
    faults_strike(FAULTS_CALL_io_uring_queue_init_params, EIO, 1);
    assert_int_equal(create(&options), GYRE_ENOURING);
    assert_true(faults_strike_done());
    assert_string_equal(gyre_loop_refusal(), "io_uring_setup was refused: Input/output error");
}

/* No refusal: the other driver would not start either. And nothing of it is remembered. */
static void setup_without_descriptors_says_so_and_is_tried_again(void)
{
    static const int errors[] = {EMFILE, ENFILE};
    const struct gyre_loop_options options = test_options();

    for (size_t i = 0; i < TEST_COUNT(errors); i++) {
        faults_strike(test_variant_uring() ? FAULTS_CALL_io_uring_queue_init_params
                                           : FAULTS_CALL_epoll_create1,
                      errors[i], 1);
        assert_int_equal(create(&options), -errors[i]);
        assert_true(faults_strike_done());
        assert_string_equal(gyre_loop_refusal(), "");
    }
    use_and_end(test_loop());
}

static void setup_without_memory_makes_smaller_queues(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;

    only_on(1);
    know_the_kernel();
    faults_strike(FAULTS_CALL_io_uring_queue_init_params, ENOMEM, 1);
    loop = test_loop();
    assert_true(faults_strike_done());
    assert_int_equal(info_of(loop).sq_entries, 64);
    assert_int_equal(info_of(loop).cq_entries, 256);
    use_and_end(loop);
    /* What the caller has asked for is not made smaller. */
    options.sq_entries = 128;
    faults_strike(FAULTS_CALL_io_uring_queue_init_params, ENOMEM, 1);
    assert_int_equal(create(&options), GYRE_ENOURING);
    assert_non_null(strstr(gyre_loop_refusal(), "RLIMIT_MEMLOCK"));
    options.sq_entries = 0;
    options.cq_entries = 4096;
    faults_strike(FAULTS_CALL_io_uring_queue_init_params, ENOMEM, 1);
    assert_int_equal(create(&options), GYRE_ENOURING);
}

/* How often memory is mapped for a loop. */
static uint64_t count_maps(const struct gyre_loop_options *options)
{
    struct gyre_loop *loop;

    faults_strike(FAULTS_CALLS, 0, 0);
    loop = test_loop_with(options);
    const uint64_t count = faults_calls(FAULTS_CALL_mmap);
    test_loop_end(loop);
    return count;
}

static void pool_without_memory_makes_no_loop(void)
{
    struct gyre_loop_options options = test_options();

    know_the_kernel();
    options.features_off |= GYRE_FEATURE_BUFFER_RING;
    const uint64_t maps = count_maps(&options);
    assert_true(maps > 0);
    for (uint64_t place = 1; place <= maps; place++) {
        faults_strike(FAULTS_CALL_mmap, ENOMEM, place);
        assert_int_equal(create(&options), -ENOMEM);
        assert_true(faults_strike_done());
    }
    use_and_end(test_loop());
}

/* The ring of the pool's buffers is mapped last, and registered then. */
static void buffer_ring_that_cannot_be_had_is_done_without(void)
{
    struct {
        enum faults_call call;
        int error;
        uint64_t place;
    } strikes[] = {{FAULTS_CALL_mmap, ENOMEM, 0},
                   {FAULTS_CALL_io_uring_register_buf_ring, EINVAL, 1}};
    const struct gyre_loop_options options = test_options();
    const uint32_t gone = GYRE_FEATURE_BUFFER_RING | GYRE_FEATURE_INCREMENTAL;

    only_on(1);
    know_the_kernel();
    strikes[0].place = count_maps(&options);
    for (size_t i = 0; i < TEST_COUNT(strikes); i++) {
        struct gyre_loop *loop;
        struct gyre_loop_info info;

        faults_strike(strikes[i].call, strikes[i].error, strikes[i].place);
        loop = test_loop();
        assert_true(faults_strike_done());
        info = info_of(loop);
        assert_int_equal(info.features & gone, 0);
        assert_string_equal(info.feature_why[__builtin_ctz(GYRE_FEATURE_BUFFER_RING)],
                            gyre_strerror(-strikes[i].error));
        use_and_end(loop);
    }
}

static void queue_that_cannot_be_registered_is_used_by_its_descriptor(void)
{
    const int bit = __builtin_ctz(GYRE_FEATURE_REGISTERED_RING);
    struct gyre_loop *loop;

    only_on(1);
    know_the_kernel();
    faults_strike(FAULTS_CALL_io_uring_register_ring_fd, EBUSY, 1);
    loop = test_loop();
    assert_true(faults_strike_done());
    assert_int_equal(info_of(loop).features & GYRE_FEATURE_REGISTERED_RING, 0);
    assert_string_equal(info_of(loop).feature_why[bit], "off: no slot left for this thread");
    use_and_end(loop);
}

/* ---- waiting ---- */

static void wait_that_fails_is_what_run_returns(void)
{
    const enum faults_call call =
        test_variant_uring() ? FAULTS_CALL_io_uring_enter2 : FAULTS_CALL_epoll_wait;
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop = test_loop();

    faults_strike(call, ENXIO, 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), -ENXIO);
    assert_true(faults_strike_done());
    if (test_variant_uring()) {
        faults_strike(call, EBADR, 1);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_NOWAIT), GYRE_ELOST);
    }
    use_and_end(loop);
    options.busy_poll_ns = GYRE_USEC; /* then it is asked once more before it sleeps */
    loop = test_loop_with(&options);
    gyre_loop_ref(loop);
    faults_strike(call, ENXIO, 1);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), -ENXIO);
    gyre_loop_unref(loop);
    use_and_end(loop);
}

static void check_timer(struct gyre_loop *loop, uint64_t span_ns)
{
    struct trial timeout;
    const uint64_t begin = gyre_loop_update_now(loop);

    trial_init(&timeout, NULL, NULL);
    assert_int_equal(gyre_op_timeout(&timeout.op, loop, begin + span_ns), 0);
    assert_int_equal(trial_end(loop, &timeout), 0);
    assert_true(gyre_loop_update_now(loop) >= begin + span_ns);
}

/* Before Linux 5.11, or in a sandbox: milliseconds then, rounded so that no timer is early; and it is
 * not asked for again. */
static void wait_without_epoll_pwait2_is_never_too_short(void)
{
    static const int errors[] = {ENOSYS, EPERM};

    only_on(0);
    for (size_t i = 0; i < TEST_COUNT(errors); i++) {
        struct gyre_loop *loop = test_loop();

        faults_strike(FAULTS_CALL_epoll_pwait2, errors[i], 1);
        for (int spans = 0; spans < 3; spans++) {
            check_timer(loop, 1500 * GYRE_USEC);
        }
        assert_int_equal(faults_calls(FAULTS_CALL_epoll_pwait2), 1);
        assert_true(faults_calls(FAULTS_CALL_epoll_wait) <= 30); /* it does not spin */
        test_loop_end(loop);
    }
}

/* Neither the call that submits nor the one that reaps instead has memory. */
static void enter_that_fails_twice_is_made_again(void)
{
    struct gyre_loop *loop;
    struct trial nop;

    only_on(1);
    loop = test_loop();
    trial_init(&nop, NULL, NULL);
    assert_int_equal(gyre_op_nop(&nop.op, loop), 0);
    chance("enter.ebusy=1");
    faults_strike(FAULTS_CALL_io_uring_enter2, ENOMEM, 2);
    assert_true(gyre_loop_run(loop, GYRE_RUN_NOWAIT) >= 0);
    assert_true(faults_strike_done());
    chance(NULL);
    assert_int_equal(trial_end(loop, &nop), 0);
    use_and_end(loop);
}

/* ---- inside another event loop ---- */

static int posted;

static void on_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
    posted = 1;
}

/* Each call on the way fails once, and the next attempt finds what the one before has made. */
static void descriptor_of_a_loop_that_failed_can_be_asked_for_again(void)
{
    static const struct {
        enum faults_call call;
        int error;
        uint64_t places;
    } strikes[] = {{FAULTS_CALL_timerfd_create, EMFILE, 1},
                   {FAULTS_CALL_epoll_create1, EMFILE, 1},
                   {FAULTS_CALL_epoll_ctl, ENOMEM, 3},
                   {FAULTS_CALL_eventfd, EMFILE, 1},
                   {FAULTS_CALL_io_uring_register_eventfd, ENOMEM, 1}};
    struct gyre_loop *loop = test_loop();
    struct pollfd ready = {.events = POLLIN};

    for (size_t i = 0; i < (test_variant_uring() ? TEST_COUNT(strikes) : 3); i++) {
        for (uint64_t place = 1; place <= strikes[i].places; place++) {
            if (strikes[i].call == FAULTS_CALL_eventfd) {
                test_loop_end(loop); /* it is made once in a loop's life */
                loop = test_loop();
            }
            faults_strike(strikes[i].call, strikes[i].error, place);
            assert_int_equal(gyre_loop_fd(loop), -strikes[i].error);
            assert_true(faults_strike_done());
        }
    }
    ready.fd = gyre_loop_fd(loop);
    assert_true(ready.fd >= 0);
    assert_int_equal(gyre_loop_fd(loop), ready.fd);
    assert_int_equal(gyre_loop_dispatch(loop), 0);
    assert_int_equal(poll(&ready, 1, 0), 0);
    assert_int_equal(gyre_loop_post(loop, on_post, NULL), 0);
    assert_int_equal(poll(&ready, 1, 2000), 1);
    assert_true(gyre_loop_dispatch(loop) >= 0);
    assert_true(posted);
    test_loop_end(loop);
}

/* ---- operations ---- */

/* On io_uring the loop's own poll is submitted in its first turn. */
static struct line *open_line(struct line *line)
{
    line_open(line, test_tcp_pair);
    trial_turns(line->loop, 1);
    return line;
}

/* Nobody is told of an error, and no byte leaves: for ever would be too long. */
static void send_that_takes_nothing_ends_with_eio(void)
{
    static const char data[100];
    struct trial sending;
    struct line line;

    need_failing_requests();
    open_line(&line);
    chance("send.zero=1");
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, sizeof(data)), 0);
    assert_int_equal(trial_end(line.loop, &sending), -EIO);
    assert_int_equal(wire_readable(line.peer), 0);
    chance(NULL);
    trial_init(&sending, NULL, NULL);
    assert_int_equal(gyre_op_send(&sending.op, &line.fd, data, sizeof(data)), 0);
    assert_int_equal(trial_end(line.loop, &sending), sizeof(data));
    line_close(&line);
}

static void poll_that_fails_is_told(void)
{
    struct trial trial;
    struct line line;
    uint8_t byte;

    need_failing_requests();
    open_line(&line);
    trial_init(&trial, NULL,
               NULL); /* so that an epoll set knows the descriptor, and poll(2) is asked */
    assert_int_equal(gyre_op_recv(&trial.op, &line.fd, &byte, 1, 0), 0);
    trial_turns(line.loop, 1);
    for (uint32_t flags = 0; flags <= GYRE_MULTISHOT; flags += GYRE_MULTISHOT) {
        struct trial polling;

        faults_strike(test_variant_uring() ? FAULTS_REQUEST_poll : FAULTS_CALL_poll, ENOMEM, 1);
        trial_init(&polling, NULL, NULL);
        assert_int_equal(gyre_op_poll(&polling.op, &line.fd, POLLIN, flags), 0);
        assert_int_equal(trial_end(line.loop, &polling), -ENOMEM);
        assert_true(faults_strike_done());
    }
    wire_send_stream(line.peer, 1, 0);
    assert_int_equal(trial_end(line.loop, &trial), 1);
    line_close(&line);
}

static void poll_interrupted_and_cancelled_is_cancelled(void)
{
    struct trial polling;
    struct line line;

    only_on(1);
    need_failing_requests();
    open_line(&line);
    faults_strike(FAULTS_REQUEST_poll, EINTR, 1);
    trial_init(&polling, NULL, NULL);
    assert_int_equal(gyre_op_poll(&polling.op, &line.fd, POLLIN, 0), 0);
    gyre_op_cancel(&polling.op);
    assert_int_equal(trial_end(line.loop, &polling), -ECANCELED);
    assert_true(faults_strike_done());
    line_close(&line);
}

/* Without buffer rings the kernel polls, and the bytes are fetched: of that poll nobody knows. */
static void receive_whose_poll_fails_is_told(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;
    struct trial trial;
    struct gyre_fd fd;
    int pair[2];

    only_on(1);
    need_failing_requests();
    options.features_off |= GYRE_FEATURE_BUFFER_RING;
    loop = test_loop_with(&options);
    test_tcp_pair(pair);
    trial_attach(loop, &fd, pair[0]);
    trial_turns(loop, 1);
    faults_strike(FAULTS_REQUEST_poll, ENOMEM, 1);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, GYRE_MULTISHOT), 0);
    assert_int_equal(trial_end(loop, &trial), -ENOMEM);
    assert_true(faults_strike_done());
    wire_send_stream(pair[1], 10, 0);
    trial_init(&trial, NULL, NULL);
    assert_int_equal(gyre_op_recv_lease(&trial.op, &fd, 0), 0);
    assert_int_equal(trial_end(loop, &trial), 10);
    close(pair[1]);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

/* ---- connecting ---- */

static int unix_listener(struct sockaddr_un *out, socklen_t *out_len)
{
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    *out_len = sizeof(*out);
    assert_int_equal(bind(number, (struct sockaddr *)out, sizeof(sa_family_t)), 0);
    assert_int_equal(listen(number, 8), 0);
    assert_int_equal(getsockname(number, (struct sockaddr *)out, out_len), 0);
    return number;
}

/* Interrupted means that it is under way, and its end has to be waited for. */
static void check_under_way(int error, int listener, int number, const void *address, socklen_t len,
                            enum faults_call call)
{
    struct gyre_loop *loop = test_loop();
    struct trial connecting;
    struct gyre_fd fd;

    trial_attach(loop, &fd, number);
    faults_strike(call, error, 1);
    trial_init(&connecting, NULL, NULL);
    assert_int_equal(gyre_op_connect(&connecting.connect, &fd, address, len), 0);
    assert_int_equal(trial_end(loop, &connecting), 0);
    assert_true(faults_strike_done());
    close(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    assert_int_equal(wire_expect_end(number), 0);
    trial_close(loop, &fd);
    test_loop_end(loop);
}

static void connect_that_is_interrupted_comes_to_its_end(void)
{
    static const int errors[] = {EINTR, EALREADY, EINPROGRESS};
    struct sockaddr_in tcp;
    struct sockaddr_un name;
    socklen_t name_len;

    need_failing_requests();
    const int tcp_listener = test_listener(&tcp);
    const int name_listener = unix_listener(&name, &name_len);
    for (size_t i = 0; i < TEST_COUNT(errors); i++) {
        check_under_way(errors[i], tcp_listener, wire_tcp(), &tcp, sizeof(tcp),
                        test_variant_uring() ? FAULTS_REQUEST_connect : FAULTS_CALL_connect);
    }
    check_under_way(EINTR, name_listener, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), &name,
                    name_len, FAULTS_CALL_connect); /* made by a system call on both */
    close(tcp_listener);
    close(name_listener);
}

static void connect_interrupted_and_cancelled_is_cancelled(void)
{
    struct gyre_loop *loop;
    struct sockaddr_in address;
    struct trial connecting;
    struct gyre_fd fd;

    need_failing_requests();
    loop = test_loop();
    const int listener = test_listener(&address);
    trial_attach(loop, &fd, wire_tcp());
    faults_strike(test_variant_uring() ? FAULTS_REQUEST_connect : FAULTS_CALL_connect, EINTR, 1);
    trial_init(&connecting, NULL, NULL);
    assert_int_equal(
        gyre_op_connect(&connecting.connect, &fd, (struct sockaddr *)&address, sizeof(address)), 0);
    gyre_op_cancel(&connecting.op);
    assert_int_equal(trial_end(loop, &connecting), -ECANCELED);
    assert_true(faults_strike_done());
    trial_close(loop, &fd);
    close(listener);
    test_loop_end(loop);
}

int main(void)
{
    const struct test_case cases[] = {
        TEST_CASE(setup_that_fails_oddly_is_a_refusal_without_advice),
        TEST_CASE(setup_without_descriptors_says_so_and_is_tried_again),
        TEST_CASE(setup_without_memory_makes_smaller_queues),
        TEST_CASE(pool_without_memory_makes_no_loop),
        TEST_CASE(buffer_ring_that_cannot_be_had_is_done_without),
        TEST_CASE(queue_that_cannot_be_registered_is_used_by_its_descriptor),
        TEST_CASE(wait_that_fails_is_what_run_returns),
        TEST_CASE(wait_without_epoll_pwait2_is_never_too_short),
        TEST_CASE(enter_that_fails_twice_is_made_again),
        TEST_CASE(descriptor_of_a_loop_that_failed_can_be_asked_for_again),
        TEST_CASE(send_that_takes_nothing_ends_with_eio),
        TEST_CASE(poll_that_fails_is_told),
        TEST_CASE(poll_interrupted_and_cancelled_is_cancelled),
        TEST_CASE(receive_whose_poll_fails_is_told),
        TEST_CASE(connect_that_is_interrupted_comes_to_its_end),
        TEST_CASE(connect_interrupted_and_cancelled_is_cancelled),
    };

    return test_main("faults-driver", cases, TEST_COUNT(cases));
}
