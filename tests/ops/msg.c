/* Messages: datagrams with their addresses, their borders, and descriptors that travel. */
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MUCH = 1 << 20 }; /* more than a socket takes */

/* A socket on a loop of its own, and one message. */
struct post {
    struct gyre_loop *loop;
    struct gyre_fd fd;
    struct sockaddr_in address;
    int peer;
    struct sockaddr_in peer_address;
    struct trial trial;
    struct trial answer; /* started in the callback of the first */
    uint8_t data[2048];
    struct iovec iov;
};

static void post_open_udp(struct post *post)
{
    *post = (struct post){.loop = test_loop()};
    trial_attach(post->loop, &post->fd, wire_udp(&post->address));
    post->peer = wire_udp(&post->peer_address);
}

static void post_open_unix(struct post *post, int type)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
    *post = (struct post){.loop = test_loop(), .peer = pair[1]};
    trial_attach(post->loop, &post->fd, pair[0]);
}

static void post_close(struct post *post)
{
    trial_close(post->loop, &post->fd);
    close(post->peer);
    test_loop_end(post->loop);
}

static struct msghdr message(struct post *post, size_t len)
{
    post->iov = (struct iovec){.iov_base = post->data, .iov_len = len};
    return (struct msghdr){.msg_iov = &post->iov, .msg_iovlen = 1};
}

static void start_recvmsg(struct post *post, size_t len)
{
    const struct msghdr msg = message(post, len);

    trial_init(&post->trial, NULL, NULL);
    assert_int_equal(gyre_op_recvmsg(&post->trial.msg, &post->fd, &msg, 0), 0);
}

static int32_t receive(struct post *post, size_t len)
{
    start_recvmsg(post, len);
    return trial_end(post->loop, &post->trial);
}

/* What reaches the kernel is a copy: the caller's structures are overwritten at once. */
static int32_t send_to(struct post *post, size_t len, const void *address, size_t address_len)
{
    struct sockaddr_storage copy;
    struct msghdr msg = message(post, len);

    memcpy(&copy, address, address_len);
    msg.msg_name = &copy;
    msg.msg_namelen = (socklen_t)address_len;
    trial_init(&post->trial, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post->trial.msg, &post->fd, &msg), 0);
    memset(&copy, 0xff, sizeof copy);
    memset(&msg, 0xff, sizeof msg);
    memset(&post->iov, 0xff, sizeof post->iov);
    return trial_end(post->loop, &post->trial);
}

static void send_datagram(const struct post *post, size_t len, uint64_t position)
{
    uint8_t data[2048];

    wire_fill(data, len, position);
    assert_int_equal(sendto(post->peer, data, len, 0, (const struct sockaddr *)&post->address,
                            sizeof post->address),
                     len);
}

/* U01: several datagrams, each with its sender, and back to it. */
static void msg_udp_echo_goes_back_to_the_senders_address(void)
{
    struct post post;
    uint8_t back[2048];

    post_open_udp(&post);
    for (uint64_t i = 0; i < 20; i++) {
        const size_t len = 1 + 100 * (size_t)i;

        send_datagram(&post, len, WIRE_STREAM(i));
        assert_int_equal(receive(&post, sizeof post.data), len);
        wire_check(post.data, len, WIRE_STREAM(i));
        const struct msghdr *msg = &post.trial.msg.msg;
        const struct sockaddr_in *from = msg->msg_name;
        assert_ptr_equal(msg->msg_name, &post.trial.msg.address);
        assert_int_equal(msg->msg_namelen, sizeof *from);
        assert_int_equal(from->sin_port, post.peer_address.sin_port);
        assert_int_equal(from->sin_addr.s_addr, post.peer_address.sin_addr.s_addr);
        assert_int_equal(msg->msg_flags & MSG_TRUNC, 0);
        const struct sockaddr_in to = *from;
        assert_int_equal(send_to(&post, len, &to, sizeof to), len);
        assert_int_equal(recv(post.peer, back, sizeof back, 0), len);
        wire_check(back, len, WIRE_STREAM(i));
    }
    post_close(&post);
}

static int udp6(struct sockaddr_in6 *out)
{
    const int number = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof *out;

    *out = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    if (number < 0 || bind(number, (struct sockaddr *)out, sizeof *out) != 0) {
        test_skip("no IPv6 on this machine");
    }
    assert_int_equal(getsockname(number, (struct sockaddr *)out, &len), 0);
    return number;
}

/* U01, IPv6 */
static void msg_udp6_echo_goes_back_to_the_senders_address(void)
{
    struct sockaddr_in6 here;
    struct sockaddr_in6 there;
    struct post post = {.peer = udp6(&there)};
    const int number = udp6(&here);

    post.loop = test_loop();
    trial_attach(post.loop, &post.fd, number);
    assert_int_equal(sendto(post.peer, "hello", 5, 0, (struct sockaddr *)&here, sizeof here), 5);
    assert_int_equal(receive(&post, sizeof post.data), 5);
    const struct sockaddr_in6 from = *(struct sockaddr_in6 *)post.trial.msg.msg.msg_name;
    assert_int_equal(from.sin6_port, there.sin6_port);
    assert_memory_equal(&from.sin6_addr, &there.sin6_addr, sizeof from.sin6_addr);
    assert_int_equal(send_to(&post, 5, &from, sizeof from), 5);
    assert_int_equal(recv(post.peer, post.data, sizeof post.data, 0), 5);
    post_close(&post);
}

/* U04, in both ways to receive, and both ways to send one. */
static void msg_udp_empty_datagram_is_data(void)
{
    struct post post;
    const struct msghdr empty = {0};

    post_open_udp(&post);
    send_datagram(&post, 0, 0);
    send_datagram(&post, 5, 0);
    send_datagram(&post, 0, 0);
    send_datagram(&post, 6, 0);
    assert_int_equal(receive(&post, sizeof post.data), 0);
    assert_int_equal(post.trial.msg.msg.msg_namelen, sizeof(struct sockaddr_in));
    assert_int_equal(receive(&post, sizeof post.data), 5);
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_recv(&post.trial.op, &post.fd, post.data, sizeof post.data, 0), 0);
    assert_int_equal(trial_end(post.loop, &post.trial), 0);
    assert_int_equal(receive(&post, sizeof post.data), 6);

    const struct sockaddr *there = (const struct sockaddr *)&post.peer_address;
    assert_int_equal(connect(gyre_fd_number(&post.fd), there, sizeof post.peer_address), 0);
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_send(&post.trial.op, &post.fd, post.data, 0), 0);
    assert_int_equal(trial_end(post.loop, &post.trial), 0);
    assert_int_equal(recv(post.peer, post.data, sizeof post.data, 0), 0);
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post.trial.msg, &post.fd, &empty), 0);
    assert_int_equal(trial_end(post.loop, &post.trial), 0);
    assert_int_equal(recv(post.peer, post.data, sizeof post.data, 0), 0);
    assert_int_equal(wire_take(post.peer, post.data, 1), -EAGAIN);
    post_close(&post);
}

/* One message comes while nothing else goes on, and @answer starts what answers it. Returns the
 * entries that were submitted for that. */
static uint64_t ask_alone(struct post *post, trial_fn answer)
{
    uint64_t before;

    trial_init(&post->trial, answer, post);
    assert_int_equal(gyre_op_poll(&post->trial.op, &post->fd, POLLIN, 0), 0);
    trial_turns(post->loop, 2); /* the last finds nothing */
    before = trial_stats(post->loop).sqes;
    assert_int_equal(send(post->peer, "?", 1, MSG_NOSIGNAL), 1);
    assert_int_equal(trial_end(post->loop, &post->trial) & POLLIN, POLLIN);
    return trial_stats(post->loop).sqes - before;
}

static void answer_nothing(struct trial *trial, const struct gyre_result *result)
{
    struct post *post = trial->context;

    assert_true(result->res > 0);
    trial_init(&post->answer, NULL, NULL);
    assert_int_equal(gyre_op_send(&post->answer.op, &post->fd, NULL, 0), 0);
}

static void answer_no_pieces(struct trial *trial, const struct gyre_result *result)
{
    const struct msghdr empty = {0};
    struct post *post = trial->context;

    assert_true(result->res > 0);
    trial_init(&post->answer, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post->answer.msg, &post->fd, &empty), 0);
}

/* A send that is the only one of its turn may be made without the ring: once. */
static void msg_empty_datagram_that_answers_alone_leaves_once(void)
{
    const trial_fn answers[] = {answer_nothing, answer_no_pieces};
    struct post post;

    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        post_open_unix(&post, SOCK_DGRAM);
        assert_int_equal(ask_alone(&post, answers[i]), 0);
        assert_int_equal(trial_end(post.loop, &post.answer), 0);
        assert_int_equal(recv(post.peer, post.data, sizeof post.data, MSG_DONTWAIT), 0);
        assert_int_equal(wire_take(post.peer, post.data, 1), -EAGAIN);
        post_close(&post);
    }
}

/* In two pieces. */
static void answer_much(struct trial *trial, const struct gyre_result *result)
{
    static uint8_t much[MUCH];
    struct post *post = trial->context;
    struct iovec pieces[] = {{much, 1000}, {much + 1000, sizeof much - 1000}};
    const struct msghdr msg = {.msg_iov = pieces, .msg_iovlen = 2};

    assert_true(result->res > 0);
    wire_fill(much, sizeof much, 0);
    trial_init(&post->answer, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post->answer.msg, &post->fd, &msg), 0);
}

static void take_much(struct post *post, uint64_t len)
{
    uint64_t got = 0;
    ssize_t rc;

    for (; got < len; got += (uint64_t)rc) {
        rc = wire_take(post->peer, post->data, sizeof post->data);
        if (rc == -EAGAIN) {
            assert_true(gyre_op_active(&post->answer.op));
            assert_true(gyre_loop_run(post->loop, GYRE_RUN_NOWAIT) >= 0);
            rc = 0;
            continue;
        }
        assert_true(rc > 0);
        wire_check(post->data, (size_t)rc, got);
    }
}

static void msg_answer_larger_than_the_socket_goes_on_behind_what_left(void)
{
    struct post post;

    post_open_unix(&post, SOCK_STREAM);
    wire_send_buffer(gyre_fd_number(&post.fd), 4096);
    assert_int_equal(ask_alone(&post, answer_much), test_variant_uring());
    take_much(&post, MUCH);
    assert_int_equal(trial_end(post.loop, &post.answer), MUCH);
    post_close(&post);
}

/* U02 */
static void msg_udp_truncated_datagram_is_flagged_and_the_next_is_whole(void)
{
    struct post post;

    post_open_udp(&post);
    send_datagram(&post, 1000, 0);
    send_datagram(&post, 50, WIRE_STREAM(1));
    assert_int_equal(receive(&post, 100), 100);
    assert_int_equal(post.trial.msg.msg.msg_flags & MSG_TRUNC, MSG_TRUNC);
    wire_check(post.data, 100, 0);
    assert_int_equal(receive(&post, 100), 50);
    assert_int_equal(post.trial.msg.msg.msg_flags & MSG_TRUNC, 0);
    wire_check(post.data, 50, WIRE_STREAM(1));
    post_close(&post);
}

/* U03 */
static void msg_udp_too_big_reports_emsgsize(void)
{
    struct post post;
    static uint8_t big[70000];
    struct iovec iov = {.iov_base = big, .iov_len = sizeof big};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    post_open_udp(&post);
    msg.msg_name = &post.peer_address;
    msg.msg_namelen = sizeof post.peer_address;
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post.trial.msg, &post.fd, &msg), 0);
    assert_int_equal(trial_end(post.loop, &post.trial), -EMSGSIZE);
    assert_int_equal(send_to(&post, 10, &post.peer_address, sizeof post.peer_address), 10);
    assert_int_equal(recv(post.peer, big, sizeof big, 0), 10);
    post_close(&post);
}

/* Connects the socket to a port that nobody has any more, and sends there. */
static void provoke_unreachable(struct post *post)
{
    struct sockaddr_in gone;
    const int number = wire_udp(&gone);
    const struct sockaddr *address = (const struct sockaddr *)&gone;

    assert_int_equal(connect(gyre_fd_number(&post->fd), address, sizeof gone), 0);
    close(number);
    trial_init(&post->trial, NULL, NULL);
    assert_int_equal(gyre_op_send(&post->trial.op, &post->fd, "x", 1), 0);
    assert_int_equal(trial_end(post->loop, &post->trial), 1);
}

/* U05 */
static void msg_udp_unreachable_reports_econnrefused_once(void)
{
    struct post post;

    post_open_udp(&post);
    provoke_unreachable(&post);
    assert_int_equal(receive(&post, 100), -ECONNREFUSED);
    start_recvmsg(&post, 100);
    trial_turns(post.loop, 5);
    assert_int_equal(post.trial.results, 0);
    assert_int_equal(gyre_op_cancel(&post.trial.op), 0);
    assert_int_equal(trial_end(post.loop, &post.trial), -ECANCELED);
    post_close(&post);
}

/* U06 */
static void msg_udp_unreachable_while_nobody_receives_does_not_spin(void)
{
    struct post post;

    post_open_udp(&post);
    provoke_unreachable(&post);
    assert_true(trial_idle_turns(post.loop, 20 * GYRE_MSEC) <= 5);
    assert_int_equal(receive(&post, 100), -ECONNREFUSED);
    provoke_unreachable(&post);
    assert_true(trial_idle_turns(post.loop, 20 * GYRE_MSEC) <= 5);
    post_close(&post);
}

/* N08 */
static void msg_seqpacket_and_datagram_keep_their_borders(void)
{
    static const int types[] = {SOCK_SEQPACKET, SOCK_DGRAM};

    for (size_t t = 0; t < TEST_COUNT(types); t++) {
        struct post post;

        post_open_unix(&post, types[t]);
        for (size_t i = 1; i < 5; i++) {
            assert_int_equal(send(post.peer, "abcdefgh", i, 0), i);
        }
        for (size_t i = 1; i < 5; i++) {
            assert_int_equal(receive(&post, 100), i);
        }
        trial_init(&post.trial, NULL, NULL);
        memcpy(post.data, "abcdefgh", 8);
        assert_int_equal(gyre_op_send(&post.trial.op, &post.fd, post.data, 7), 0);
        assert_int_equal(trial_end(post.loop, &post.trial), 7);
        assert_int_equal(recv(post.peer, post.data, sizeof post.data, 0), 7);
        post_close(&post);
    }
}

/* Scattered over pieces; with WAITALL the pieces fill one after another, across short receives. */
static void msg_recvmsg_fills_its_pieces_in_order(void)
{
    struct post post;
    uint8_t data[60];
    struct iovec iov[4] = {{data, 10}, {data + 10, 0}, {data + 10, 20}, {data + 30, 30}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 4};

    post_open_unix(&post, SOCK_STREAM);
    for (int round = 0; round < 2; round++) {
        const size_t len = round == 0 ? 60 : 37;

        trial_init(&post.trial, NULL, NULL);
        assert_int_equal(gyre_op_recvmsg(&post.trial.msg, &post.fd, &msg, GYRE_WAITALL), 0);
        for (size_t i = 0; i < len; i++) {
            wire_send_stream(post.peer, 1, i);
            trial_turns(post.loop, 1);
            assert_int_equal(post.trial.results, i == 59);
        }
        if (round == 1) {
            shutdown(post.peer, SHUT_WR);
        }
        assert_int_equal(trial_end(post.loop, &post.trial), len);
        wire_check(data, len, 0);
    }
    post_close(&post);
}

union control {
    struct cmsghdr header;
    char space[CMSG_SPACE(sizeof(int))];
};

static void put_descriptor(struct msghdr *msg, union control *control, int number)
{
    memset(control, 0, sizeof *control);
    control->header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof number), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control->header), &number, sizeof number);
    msg->msg_control = control;
    msg->msg_controllen = sizeof *control;
}

static int got_descriptor(struct msghdr *msg)
{
    const struct cmsghdr *header = CMSG_FIRSTHDR(msg);
    int number = -1;

    assert_non_null(header);
    assert_int_equal(header->cmsg_level, SOL_SOCKET);
    assert_int_equal(header->cmsg_type, SCM_RIGHTS);
    assert_int_equal(header->cmsg_len, CMSG_LEN(sizeof number));
    memcpy(&number, CMSG_DATA(header), sizeof number);
    assert_true(number >= 0);
    return number;
}

/* N10, A17: sent and received by the library. */
static void msg_unix_descriptor_passed_arrives_close_on_exec(void)
{
    struct post post;
    struct gyre_fd receiving;
    struct trial sent;
    union control out;
    union control in;
    int pair[2];

    test_unix_pair(pair);
    post_open_unix(&post, SOCK_STREAM);
    trial_attach(post.loop, &receiving, post.peer);
    memcpy(post.data, "fd", 2);
    struct msghdr msg = message(&post, 2);
    put_descriptor(&msg, &out, pair[0]);
    trial_init(&sent, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&sent.msg, &post.fd, &msg), 0);
    msg = message(&post, sizeof post.data);
    msg.msg_control = &in;
    msg.msg_controllen = sizeof in;
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_recvmsg(&post.trial.msg, &receiving, &msg, 0), 0);
    assert_int_equal(trial_end(post.loop, &sent), 2);
    assert_int_equal(trial_end(post.loop, &post.trial), 2);
    const int arrived = got_descriptor(&post.trial.msg.msg);
    assert_int_equal(fcntl(arrived, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(post.trial.msg.msg.msg_flags & MSG_CTRUNC, 0);
    wire_send_stream(arrived, 10, 0);
    wire_expect_stream(pair[1], 10, 0);
    close(arrived);
    close(pair[0]);
    close(pair[1]);
    trial_close(post.loop, &receiving);
    trial_close(post.loop, &post.fd);
    test_loop_end(post.loop);
}

/* A large message with a descriptor: the descriptor goes along once, however often it is continued. */
static void msg_unix_descriptor_with_a_slow_reader_arrives_once(void)
{
    struct post post;
    static uint8_t data[1 << 20];
    static uint8_t back[1 << 20];
    struct iovec iov = {.iov_base = data, .iov_len = sizeof data};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    union control out;
    int descriptors = 0;

    post_open_unix(&post, SOCK_STREAM);
    wire_fill(data, sizeof data, 0);
    wire_send_buffer(gyre_fd_number(&post.fd), 4096);
    put_descriptor(&msg, &out, STDIN_FILENO);
    trial_init(&post.trial, NULL, NULL);
    assert_int_equal(gyre_op_sendmsg(&post.trial.msg, &post.fd, &msg), 0);
    for (size_t got = 0; got < sizeof data;) {
        union control in;
        struct iovec place = {.iov_base = back + got, .iov_len = sizeof back - got};
        struct msghdr take = {.msg_iov = &place, .msg_iovlen = 1};

        take.msg_control = &in;
        take.msg_controllen = sizeof in;
        trial_turns(post.loop, 1);
        const ssize_t len = recvmsg(post.peer, &take, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (len > 0) {
            got += (size_t)len;
            if (take.msg_controllen > 0) {
                close(got_descriptor(&take));
                descriptors++;
            }
        }
    }
    assert_int_equal(trial_end(post.loop, &post.trial), sizeof data);
    assert_int_equal(descriptors, 1);
    wire_check(back, sizeof back, 0);
    post_close(&post);
}

static void msg_bad_arguments_are_refused(void)
{
    struct post post;
    struct iovec iov[GYRE_IOV_MAX + 1] = {{0}};
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 0};

    post_open_unix(&post, SOCK_STREAM);
    trial_init(&post.trial, NULL, NULL);
    struct gyre_msg_op *op = &post.trial.msg;
    assert_int_equal(gyre_op_recvmsg(op, &post.fd, &msg, 0), -EINVAL);
    assert_int_equal(gyre_op_recvmsg(op, &post.fd, NULL, 0), -EINVAL);
    msg.msg_iovlen = GYRE_IOV_MAX + 1;
    assert_int_equal(gyre_op_recvmsg(op, &post.fd, &msg, 0), -EINVAL);
    msg.msg_iovlen = 1;
    assert_int_equal(gyre_op_recvmsg(NULL, &post.fd, &msg, 0), -EINVAL);
    assert_int_equal(gyre_op_recvmsg(op, NULL, &msg, 0), -EINVAL);
    trial_turns(post.loop, 2);
    assert_int_equal(post.trial.results, 0);
    post_close(&post);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(msg_udp_echo_goes_back_to_the_senders_address),
        TEST_CASE(msg_udp6_echo_goes_back_to_the_senders_address),
        TEST_CASE(msg_udp_empty_datagram_is_data),
        TEST_CASE(msg_empty_datagram_that_answers_alone_leaves_once),
        TEST_CASE(msg_answer_larger_than_the_socket_goes_on_behind_what_left),
        TEST_CASE(msg_udp_truncated_datagram_is_flagged_and_the_next_is_whole),
        TEST_CASE(msg_udp_too_big_reports_emsgsize),
        TEST_CASE(msg_udp_unreachable_reports_econnrefused_once),
        TEST_CASE(msg_udp_unreachable_while_nobody_receives_does_not_spin),
        TEST_CASE(msg_seqpacket_and_datagram_keep_their_borders),
        TEST_CASE(msg_recvmsg_fills_its_pieces_in_order),
        TEST_CASE(msg_unix_descriptor_passed_arrives_close_on_exec),
        TEST_CASE(msg_unix_descriptor_with_a_slow_reader_arrives_once),
        TEST_CASE(msg_bad_arguments_are_refused),
    };

    return test_main("ops-msg", cases, TEST_COUNT(cases));
}
