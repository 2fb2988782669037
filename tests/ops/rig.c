/* Rigs: see rig.h. */
#include "rig.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* The smallest send buffer the kernel gives, so that filling it is cheap. */
#define SMALL_BUFFER 1

/* A moment that no test lives to see. */
#define FAR_NS (3600 * GYRE_SEC)

static void attach(struct rig *rig, int number)
{
    trial_attach(rig->loop, &rig->fd, number);
    rig->attached = 1;
}

/* What waits for data. */

static void open_socket(struct rig *rig)
{
    int pair[2];

    test_unix_pair(pair);
    attach(rig, pair[0]);
    rig->peer = pair[1];
}

static void open_pipe_reader(struct rig *rig)
{
    int ends[2];

    wire_pipe(ends);
    attach(rig, ends[0]);
    rig->peer = ends[1];
}

static void give_byte(struct rig *rig)
{
    assert_int_equal(write(rig->peer, "x", 1), 1);
    rig->provoked++;
}

static void settle_received(struct rig *rig, const struct trial *trial)
{
    const size_t left = rig->attached ? wire_drain(gyre_fd_number(&rig->fd)) : 0;

    if (rig->attached) {
        assert_int_equal(trial->bytes + left, rig->provoked);
    }
    rig->provoked = 0;
}

static void settle_polled(struct rig *rig, const struct trial *trial)
{
    if (rig->attached) {
        assert_int_equal(wire_drain(gyre_fd_number(&rig->fd)), rig->provoked);
    }
    if (trial->hits > 0) {
        assert_true(rig->provoked > 0);
    }
    rig->provoked = 0;
}

static int start_poll(struct rig *rig, struct trial *trial)
{
    return gyre_op_poll(&trial->op, &rig->fd, POLLIN, 0);
}

static int start_poll_multishot(struct rig *rig, struct trial *trial)
{
    return gyre_op_poll(&trial->op, &rig->fd, POLLIN, GYRE_MULTISHOT);
}

static int start_recv(struct rig *rig, struct trial *trial)
{
    return gyre_op_recv(&trial->op, &rig->fd, rig->data, sizeof rig->data, 0);
}

static int start_lease(struct rig *rig, struct trial *trial)
{
    return gyre_op_recv_lease(&trial->op, &rig->fd, 0);
}

static int start_lease_multishot(struct rig *rig, struct trial *trial)
{
    return gyre_op_recv_lease(&trial->op, &rig->fd, GYRE_MULTISHOT);
}

static struct msghdr message(struct rig *rig)
{
    rig->iov = (struct iovec){.iov_base = rig->data, .iov_len = sizeof rig->data};
    return (struct msghdr){.msg_iov = &rig->iov, .msg_iovlen = 1};
}

static int start_recvmsg(struct rig *rig, struct trial *trial)
{
    const struct msghdr msg = message(rig);

    return gyre_op_recvmsg(&trial->msg, &rig->fd, &msg, 0);
}

static int start_read(struct rig *rig, struct trial *trial)
{
    return gyre_op_read(&trial->op, &rig->fd, rig->data, sizeof rig->data, GYRE_OFFSET_CURRENT);
}

/* What waits for room. */

static void stuff(struct rig *rig)
{
    rig->stuffed = wire_stuff(gyre_fd_number(&rig->fd));
}

static void open_full_socket(struct rig *rig)
{
    open_socket(rig);
    wire_send_buffer(gyre_fd_number(&rig->fd), SMALL_BUFFER);
    stuff(rig);
}

static void open_full_pipe(struct rig *rig)
{
    int ends[2];

    wire_pipe(ends);
    assert_true(fcntl(ends[1], F_SETPIPE_SZ, 4096) > 0);
    attach(rig, ends[1]);
    rig->peer = ends[0];
    stuff(rig);
}

static void make_room(struct rig *rig)
{
    rig->provoked += wire_drain(rig->peer);
}

static void settle_sent(struct rig *rig, const struct trial *trial)
{
    rig->provoked += wire_drain(rig->peer);
    assert_int_equal(rig->provoked, rig->stuffed + trial->bytes);
    rig->provoked = 0;
    rig->stuffed = 0;
    if (rig->attached) {
        stuff(rig);
    }
}

static int start_send(struct rig *rig, struct trial *trial)
{
    return gyre_op_send(&trial->op, &rig->fd, rig->data, sizeof rig->data);
}

static int start_sendmsg(struct rig *rig, struct trial *trial)
{
    const struct msghdr msg = message(rig);

    return gyre_op_sendmsg(&trial->msg, &rig->fd, &msg);
}

static int start_write(struct rig *rig, struct trial *trial)
{
    return gyre_op_write(&trial->op, &rig->fd, rig->data, sizeof rig->data, GYRE_OFFSET_CURRENT);
}

/* What waits for connections. */

static void open_listener(struct rig *rig)
{
    attach(rig, test_listener(&rig->address));
}

static void connect_client(struct rig *rig)
{
    assert_int_equal(rig->client, -1);
    rig->client = test_connect(&rig->address);
    rig->provoked++;
}

static void settle_accepted(struct rig *rig, const struct trial *trial)
{
    struct pollfd entry = {.fd = gyre_fd_number(&rig->fd), .events = POLLIN};
    size_t waiting = 0;

    while (rig->attached && poll(&entry, 1, 0) == 1) {
        const int number = accept4(entry.fd, NULL, NULL, SOCK_CLOEXEC);

        assert_true(number >= 0);
        assert_int_equal(close(number), 0);
        waiting++;
    }
    if (rig->attached) {
        assert_int_equal((size_t)trial->hits + waiting, rig->provoked);
    }
    if (rig->client >= 0) {
        wire_reset(rig->client);
        rig->client = -1;
    }
    rig->provoked = 0;
}

static int start_accept(struct rig *rig, struct trial *trial)
{
    return gyre_op_accept(&trial->op, &rig->fd, 0);
}

static int start_accept_multishot(struct rig *rig, struct trial *trial)
{
    return gyre_op_accept(&trial->op, &rig->fd, GYRE_MULTISHOT);
}

/* What can only be cancelled. */

static void open_blackhole(struct rig *rig)
{
    rig->peer = wire_blackhole(&rig->address, &rig->client);
    attach(rig, wire_tcp());
}

static int start_connect(struct rig *rig, struct trial *trial)
{
    return gyre_op_connect(&trial->connect, &rig->fd, (const struct sockaddr *)&rig->address,
                           sizeof rig->address);
}

static void open_nothing(struct rig *rig)
{
    (void)rig;
}

static int start_timeout(struct rig *rig, struct trial *trial)
{
    return gyre_op_timeout(&trial->op, rig->loop, gyre_loop_now(rig->loop) + FAR_NS);
}

static void settle_nothing(struct rig *rig, const struct trial *trial)
{
    assert_int_equal(trial->hits, 0);
    rig->provoked = 0;
}

const struct rig_kind rig_kinds[] = {
    {"poll", 0, open_socket, start_poll, give_byte, settle_polled},
    {"poll multishot", 1, open_socket, start_poll_multishot, give_byte, settle_polled},
    {"accept", 0, open_listener, start_accept, connect_client, settle_accepted},
    {"accept multishot", 1, open_listener, start_accept_multishot, connect_client, settle_accepted},
    {"connect", 0, open_blackhole, start_connect, NULL, settle_nothing},
    {"recv", 0, open_socket, start_recv, give_byte, settle_received},
    {"recv_lease", 0, open_socket, start_lease, give_byte, settle_received},
    {"recv_lease multishot", 1, open_socket, start_lease_multishot, give_byte, settle_received},
    {"recvmsg", 0, open_socket, start_recvmsg, give_byte, settle_received},
    {"read", 0, open_pipe_reader, start_read, give_byte, settle_received},
    {"send", 0, open_full_socket, start_send, make_room, settle_sent},
    {"sendmsg", 0, open_full_socket, start_sendmsg, make_room, settle_sent},
    {"write", 0, open_full_pipe, start_write, make_room, settle_sent},
    {"timeout", 0, open_nothing, start_timeout, NULL, settle_nothing},
};
const size_t rig_kind_count = TEST_COUNT(rig_kinds);

void rig_open(struct rig *rig, struct gyre_loop *loop, const struct rig_kind *kind)
{
    print_message("kind: %s\n", kind->name);
    *rig = (struct rig){.kind = kind, .loop = loop, .peer = -1, .client = -1};
    kind->begin(rig);
}

static int is_accept(const struct rig *rig)
{
    return rig->kind->begin == open_listener;
}

static void on_rig_result(struct trial *trial, const struct gyre_result *result)
{
    struct rig *rig = trial->context;

    if (is_accept(rig)) {
        trial_drop_descriptor(trial, result);
    }
    if (rig->then != NULL) {
        rig->then(trial, result);
    }
}

int rig_start(struct rig *rig, struct trial *trial, trial_fn then)
{
    rig->then = then;
    trial_init(trial, on_rig_result, rig);
    return rig->kind->start(rig, trial);
}

void rig_provoke(struct rig *rig)
{
    rig->kind->provoke(rig);
}

void rig_settle(struct rig *rig, const struct trial *trial)
{
    rig->kind->settle(rig, trial);
}

void rig_close(struct rig *rig)
{
    if (rig->attached) {
        trial_close(rig->loop, &rig->fd);
    }
    if (rig->peer >= 0) {
        assert_int_equal(close(rig->peer), 0);
    }
    if (rig->client >= 0) {
        wire_reset(rig->client);
    }
}

void rig_each(void (*body)(struct rig *rig))
{
    struct gyre_loop *loop = test_loop();

    for (size_t i = 0; i < rig_kind_count; i++) {
        struct rig rig;

        rig_open(&rig, loop, &rig_kinds[i]);
        body(&rig);
        rig_close(&rig);
    }
    test_loop_end(loop);
}
