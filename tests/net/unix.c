/* Streams and listeners over Unix sockets: their files, names, credentials and descriptors. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* A directory of the case's own, and a path in it. */
struct place {
    const char *directory;
    char path[96];
    char text[112]; /* the path as an address */
};

static void place_make(struct place *place)
{
    place->directory = test_directory();
    snprintf(place->path, sizeof place->path, "%s/socket", place->directory);
    snprintf(place->text, sizeof place->text, "unix:%s", place->path);
}

static void place_remove(const struct place *place)
{
    unlink(place->path);
    assert_int_equal(rmdir(place->directory), 0);
}

static int exists(const char *path)
{
    struct stat file;

    return lstat(path, &file) == 0;
}

static void echo(struct talk *talk)
{
    assert_true(gyre_stream_forward(talk->stream, talk->data) > 0);
}

static void check_echo(struct host *host)
{
    const int client = host_dial(host);

    wire_send_stream(client, 1000, 0);
    talk_until_sent(host->loop, client, 1000, 0);
    close(client);
}

static void host_at(struct host *host, const char *text, uint32_t flags)
{
    host_prepare(host, 8);
    host->then[TALK_DATA] = echo;
    host->options.flags = flags;
    host_listen(host, text);
}

/* N01; the file goes with the listener. */
static void path_is_listened_on_and_removed_in_the_end(void)
{
    struct place place;
    struct host host;

    place_make(&place);
    host_at(&host, place.text, 0);
    assert_true(exists(place.path));
    check_echo(&host);
    assert_int_equal(gyre_listener_close(&host.listener), 0);
    assert_false(exists(place.path));
    host.talks[0].stream != NULL ? talk_reset(&host.talks[0]) : (void)0;
    test_turns_until(host.loop, &host.closes);
    host_end(&host);
    place_remove(&place);
}

/* N04 */
static void path_that_exists_is_in_use(void)
{
    static const uint32_t flags[] = {0, GYRE_LISTEN_STALE};
    struct place place;
    struct host host;
    struct gyre_listener other;

    place_make(&place);
    host_at(&host, place.text, 0);
    for (size_t i = 0; i < TEST_COUNT(flags); i++) {
        host.options.flags = flags[i];
        assert_int_equal(gyre_listen(host.loop, &other, place.text, &host.options), -EADDRINUSE);
        assert_true(exists(place.path)); /* it is another's */
    }
    check_echo(&host);
    host_end(&host);
    place_remove(&place);
}

static void leave_stale_socket(const struct place *place)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, place->path, strlen(place->path) + 1);
    assert_int_equal(bind(number, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(number, 1), 0);
    close(number);
}

/* N04 */
static void stale_path_is_replaced_when_asked_only(void)
{
    struct place place;
    struct host host;

    place_make(&place);
    leave_stale_socket(&place);
    host_prepare(&host, 8);
    host.then[TALK_DATA] = echo;
    assert_int_equal(gyre_listen(host.loop, &host.listener, place.text, &host.options),
                     -EADDRINUSE);
    assert_true(exists(place.path));
    host.options.flags = GYRE_LISTEN_STALE;
    host_listen(&host, place.text);
    check_echo(&host);
    host_end(&host);
    assert_false(exists(place.path));
    place_remove(&place);
}

/* Never a file that is no socket, nor what a link points to. */
static void path_of_another_file_is_left_alone(void)
{
    struct place place;
    struct host host;
    char target[96];

    place_make(&place);
    host_prepare(&host, 1);
    host.options.flags = GYRE_LISTEN_STALE;
    const int file = open(place.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    close(file);
    assert_int_equal(gyre_listen(host.loop, &host.listener, place.text, &host.options),
                     -EADDRINUSE);
    assert_true(exists(place.path));
    unlink(place.path);
    leave_stale_socket(&place);
    snprintf(target, sizeof target, "%s/target", place.directory);
    assert_int_equal(rename(place.path, target), 0);
    assert_int_equal(symlink(target, place.path), 0);
    assert_int_equal(gyre_listen(host.loop, &host.listener, place.text, &host.options),
                     -EADDRINUSE);
    assert_true(exists(place.path) && exists(target));
    unlink(target);
    test_loop_end(host.loop);
    free(host.talks);
    place_remove(&place);
}

/* A file that has taken the place of the listener's is not its to remove. */
static void path_taken_over_by_another_is_not_removed(void)
{
    struct place place;
    struct host host;

    place_make(&place);
    host_at(&host, place.text, 0);
    assert_int_equal(unlink(place.path), 0);
    leave_stale_socket(&place);
    host_end(&host);
    assert_true(exists(place.path));
    place_remove(&place);
}

/* N05 */
static void mode_of_the_file_is_as_asked(void)
{
    static const uint32_t modes[] = {0600, 0660, 0777};
    struct place place;
    struct stat file;

    test_skip_simulated("the simulation has no umask");
    place_make(&place);
    const mode_t before = umask(0077);
    for (size_t i = 0; i < TEST_COUNT(modes); i++) {
        struct host host;

        host_prepare(&host, 1);
        host.options.mode = modes[i];
        host_listen(&host, place.text);
        assert_int_equal(stat(place.path, &file), 0);
        assert_int_equal(file.st_mode & 07777, modes[i]);
        host_end(&host);
    }
    struct host host;
    host_at(&host, place.text, 0);
    assert_int_equal(stat(place.path, &file), 0);
    assert_int_equal(file.st_mode & 0077, 0); /* what the umask leaves */
    host_end(&host);
    umask(before);
    place_remove(&place);
}

/* N03: the longest works, one more is an error, never cut. */
static void long_paths_work_or_are_refused(void)
{
    struct place place;
    char text[200] = "unix:";
    char *path = text + 5;

    place_make(&place);
    memset(path, 0, 195);
    const size_t start = strlen(place.directory) + 1;
    snprintf(path, 195, "%s/", place.directory);
    memset(path + start, 'x', 107 - start);
    struct host host;
    host_at(&host, text, 0);
    assert_true(exists(path));
    check_echo(&host);
    host_end(&host);
    assert_false(exists(path));
    path[107] = 'x';
    host_prepare(&host, 1);
    assert_int_equal(gyre_listen(host.loop, &host.listener, text, &host.options), -ENAMETOOLONG);
    test_loop_end(host.loop);
    free(host.talks);
    place_remove(&place);
}

/* N02 */
static void abstract_names_leave_no_file(void)
{
    struct host host;
    char text[64];

    snprintf(text, sizeof text, "unix:@gyre-test-%d", (int)getpid());
    host_at(&host, text, 0);
    assert_int_equal(host.address.un.sun_path[0], 0);
    check_echo(&host);
    struct gyre_listener other;
    assert_int_equal(gyre_listen(host.loop, &other, text, &host.options), -EADDRINUSE);
    host_end(&host);
}

static void adopted_listener_leaves_the_file_alone(void)
{
    struct place place;
    struct host host;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    place_make(&place);
    memcpy(address.sun_path, place.path, strlen(place.path) + 1);
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(number, (struct sockaddr *)&address, sizeof address), 0);
    host_prepare(&host, 8);
    host.then[TALK_DATA] = echo;
    assert_int_equal(gyre_listen_adopt(host.loop, &host.listener, number, &host.options), -EINVAL);
    assert_int_equal(listen(number, 8), 0);
    assert_int_equal(gyre_listen_adopt(host.loop, &host.listener, number, &host.options), 0);
    assert_int_equal(gyre_listener_address(&host.listener, &host.address), 0);
    check_echo(&host);
    host_end(&host);
    assert_true(exists(place.path));
    place_remove(&place);
}

/* N06 */
static void connect_to_nobody_says_why(void)
{
    struct place place;
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to;

    place_make(&place);
    assert_int_equal(gyre_addr_parse(place.text, &to), 0);
    for (int i = 0; i < 3; i++) {
        static const int expected[] = {-ENOENT, -ECONNREFUSED, -ECONNREFUSED};
        struct talk talk;

        if (i == 1) {
            leave_stale_socket(&place);
        } else if (i == 2) {
            unlink(place.path);
            close(open(place.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        }
        talk_init(&talk);
        talk_connect(&talk, loop, &to);
        assert_int_equal(talk_end(loop, &talk), expected[i]);
    }
    test_loop_end(loop);
    place_remove(&place);
}

/* N09 */
static void peer_credentials_are_those_of_the_peer(void)
{
    struct call call;
    struct ucred who = {0};

    call_open(&call, test_unix_pair);
    assert_int_equal(gyre_stream_peer_credentials(call.talk.stream, &who), 0);
    assert_int_equal(who.pid, getpid());
    assert_int_equal(who.uid, getuid());
    assert_int_equal(who.gid, getgid());
    assert_int_equal(gyre_stream_peer_credentials(call.talk.stream, NULL), -EINVAL);
    struct gyre_stream idle = {0};
    assert_int_equal(gyre_stream_peer_credentials(&idle, &who), -EBADF);
    call_end(&call);
    call_open(&call, test_tcp_pair);
    assert_int_equal(gyre_stream_peer_credentials(call.talk.stream, &who), -EOPNOTSUPP);
    call_end(&call);
}

/* Reads what is there, and the descriptors with it. Returns bytes; -1: nothing. */
static ssize_t take_with_descriptors(int peer, void *data, size_t len, int *numbers, int *out_count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(GYRE_DESCRIPTORS_MAX * sizeof(int))];
    struct iovec piece = {data, len};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    const ssize_t got = recvmsg(peer, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    *out_count = 0;
    for (struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL; header != NULL;
         header = CMSG_NXTHDR(&message, header)) {
        const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        memcpy(numbers + *out_count, CMSG_DATA(header), count * sizeof(int));
        *out_count += (int)count;
    }
    return got;
}

/* N10: between other bytes, once, however the send is cut. */
static void descriptors_arrive_once_and_not_behind_their_first_byte(void)
{
    static uint8_t data[300000];
    struct call call;
    int numbers[GYRE_DESCRIPTORS_MAX];
    int count;
    int seen = 0;
    size_t got = 0;
    int pipe_ends[2];

    call_open(&call, test_unix_pair);
    wire_pipe(pipe_ends);
    wire_send_buffer(gyre_stream_number(call.talk.stream), 2048);
    wire_fill(data, sizeof data, 0);
    struct gyre_stream *stream = call.talk.stream;
    assert_true(gyre_stream_write(stream, data, 100) > 0);
    assert_true(gyre_stream_write_descriptors(stream, data + 100, 200000, pipe_ends, 2) > 0);
    assert_true(gyre_stream_write(stream, data + 200100, 99) > 0);
    assert_true(gyre_stream_write_descriptors(stream, data + 200199, 1, pipe_ends, 1) > 0);
    assert_true(gyre_stream_write_descriptors(stream, data + 200200, 1, pipe_ends, 1) > 0);
    assert_true(gyre_stream_write(stream, data + 200201, 99799) > 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]); /* duplicated */
    while (got < sizeof data) {
        uint8_t part[1000];

        trial_turns(call.loop, 1);
        const ssize_t len = take_with_descriptors(call.peer, part, sizeof part, numbers, &count);
        if (len < 0) {
            continue;
        }
        wire_check(part, (size_t)len, got);
        if (count > 0) {
            /* Behind bytes without descriptors the kernel reads on, up to these. */
            assert_int_equal(count, got <= 100 ? 2 : 1);
            assert_true((got <= 100 && 100 < got + (size_t)len) || got == 200199 || got == 200200 ||
                        (got < 200199 && got + (size_t)len == 200200));
            seen += count;
            for (int i = 0; i < count; i++) {
                assert_true(fcntl(numbers[i], F_GETFD) >= 0);
                close(numbers[i]);
            }
        }
        got += (size_t)len;
    }
    assert_int_equal(seen, 4);
    call_end(&call);
}

/* N12 */
static void descriptors_that_never_left_are_closed(void)
{
    struct call call;
    int pipe_ends[2];

    call_open(&call, test_unix_pair);
    wire_pipe(pipe_ends);
    assert_true(talk_write_ref(&call.talk, 3 << 20) > 0);
    assert_true(gyre_stream_write_descriptors(call.talk.stream, "x", 1, pipe_ends, 2) > 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    trial_turns(call.loop, 3);
    call_end(&call); /* the harness counts descriptors */
}

/* N14 */
static void descriptors_that_cannot_be_sent_are_refused(void)
{
    struct call call;
    int numbers[GYRE_DESCRIPTORS_MAX + 1];
    const int bad[2] = {0, 9999};

    for (size_t i = 0; i < TEST_COUNT(numbers); i++) {
        numbers[i] = 0;
    }
    call_open(&call, test_unix_pair);
    struct gyre_stream *stream = call.talk.stream;
    const size_t open_before = test_open_fds();
    assert_int_equal(gyre_stream_write_descriptors(stream, "x", 1, NULL, 1), -EINVAL);
    assert_int_equal(gyre_stream_write_descriptors(stream, "x", 1, numbers, 0), -EINVAL);
    assert_int_equal(gyre_stream_write_descriptors(stream, "x", 0, numbers, 1), -EINVAL);
    assert_int_equal(gyre_stream_write_descriptors(stream, "x", 1, numbers, 254), -EINVAL);
    assert_int_equal(gyre_stream_write_descriptors(stream, "x", 1, bad, 2), -EBADF);
    assert_int_equal(test_open_fds(), open_before);
    assert_int_equal(gyre_stream_queued(stream), 0);
    assert_null(stream->flow);
    call_end(&call);
    call_open(&call, test_tcp_pair);
    assert_int_equal(gyre_stream_write_descriptors(call.talk.stream, "x", 1, numbers, 1),
                     -EOPNOTSUPP);
    call_end(&call);
}

/* What a stream is sent besides bytes. */
struct receiver {
    struct call call;
    int told;       /* on_descriptors() */
    size_t came;    /* its counts */
    uint64_t place; /* bytes received before the last */
    size_t take;    /* how many to take of each */
    int taken[1000];
    size_t taken_count;
    int reset; /* in on_descriptors() */
};

static void take_them(struct gyre_stream *stream, size_t count)
{
    struct receiver *receiver = gyre_container_of(stream, struct receiver, call.talk.own);
    int more[2];

    assert_int_equal(receiver->call.talk.quiet, 0);
    receiver->told++;
    receiver->came += count;
    receiver->place = receiver->call.talk.received;
    const size_t want = receiver->take < count ? receiver->take : count;
    const int got = gyre_stream_take_descriptors(stream, receiver->taken + receiver->taken_count,
                                                 receiver->take);
    assert_int_equal(got, want);
    receiver->taken_count += (size_t)got;
    assert_int_equal(gyre_stream_take_descriptors(stream, NULL, 1), -EINVAL);
    if (want == count) {
        assert_int_equal(gyre_stream_take_descriptors(stream, more, 2), 0);
    }
    if (receiver->reset) {
        talk_reset(&receiver->call.talk);
    }
}

static void receiver_open(struct receiver *receiver, size_t take)
{
    int number;

    memset(receiver, 0, sizeof *receiver);
    receiver->take = take;
    call_prepare(&receiver->call, test_unix_pair, &number);
    receiver->call.talk.handler.flags = GYRE_STREAM_DESCRIPTORS;
    receiver->call.talk.handler.on_descriptors = take_them;
    talk_adopt(&receiver->call.talk, receiver->call.loop, number);
    talk_until(receiver->call.loop, &receiver->call.talk, TALK_OPEN, 1);
}

static void receiver_end(struct receiver *receiver)
{
    for (size_t i = 0; i < receiver->taken_count; i++) {
        assert_int_equal(fcntl(receiver->taken[i], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        close(receiver->taken[i]);
    }
    call_end(&receiver->call);
}

/* Bytes of the wire stream with so many descriptors of a pipe; waits for nothing. */
static void send_descriptors(int peer, size_t len, uint64_t position, size_t count)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(GYRE_DESCRIPTORS_MAX * sizeof(int))] = {0};
    uint8_t data[1000];
    int numbers[GYRE_DESCRIPTORS_MAX];
    int pipe_ends[2];
    struct iovec piece = {data, len};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    wire_pipe(pipe_ends);
    for (size_t i = 0; i < count; i++) {
        numbers[i] = pipe_ends[i % 2];
    }
    wire_fill(data, len, position);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), numbers, count * sizeof(int));
    assert_int_equal(sendmsg(peer, &message, MSG_NOSIGNAL), (ssize_t)len);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

/* N10, N15: each message's own, before its bytes, close-on-exec. */
static void descriptors_come_before_their_bytes(void)
{
    struct receiver receiver;
    struct talk *talk = &receiver.call.talk;
    static const size_t counts[] = {1, 3, 253, 2, 7};
    uint64_t sent = 0;
    size_t came = 0;

    receiver_open(&receiver, GYRE_DESCRIPTORS_MAX);
    for (size_t i = 0; i < TEST_COUNT(counts); i++) {
        send_descriptors(receiver.call.peer, 100, sent, counts[i]);
        sent += 100;
        wire_send_stream(receiver.call.peer, 500, sent);
        sent += 500;
        came += counts[i];
        if (i % 2) {
            talk_until_received(receiver.call.loop, talk, sent);
            assert_int_equal(receiver.told, i + 1);
            assert_true(receiver.place <= sent - 600);
        }
    }
    talk_until_received(receiver.call.loop, talk, sent);
    assert_int_equal(receiver.told, TEST_COUNT(counts));
    assert_int_equal(receiver.came, came);
    assert_int_equal(receiver.taken_count, came);
    receiver_end(&receiver);
}

/* N12: the harness counts what is left open. */
static void descriptors_not_taken_are_closed(void)
{
    struct receiver receiver;

    for (size_t take = 0; take < 2; take++) {
        receiver_open(&receiver, take);
        const size_t before = test_open_fds();
        for (uint64_t i = 0; i < 5; i++) {
            send_descriptors(receiver.call.peer, 10, i * 10, 3);
            talk_until_received(receiver.call.loop, &receiver.call.talk, (i + 1) * 10);
        }
        assert_int_equal(receiver.told, 5);
        assert_int_equal(receiver.came, 15);
        assert_int_equal(test_open_fds(), before + receiver.taken_count);
        receiver_end(&receiver);
    }
}

static int accepted_came;

static void close_them(struct gyre_stream *stream, size_t count)
{
    int numbers[GYRE_DESCRIPTORS_MAX];

    assert_int_equal(gyre_stream_take_descriptors(stream, numbers, count), count);
    for (size_t i = 0; i < count; i++) {
        close(numbers[i]);
    }
    accepted_came += (int)count;
}

static void descriptors_come_over_accepted_streams(void)
{
    struct place place;
    struct host host;

    accepted_came = 0;
    place_make(&place);
    host_prepare(&host, 2);
    host.handler.flags = GYRE_STREAM_DESCRIPTORS;
    host.handler.on_descriptors = close_them;
    host_listen(&host, place.text);
    for (int i = 0; i < 2; i++) {
        const int client = host_dial(&host);

        send_descriptors(client, 10, 0, 3);
        test_turns_until_count(host.loop, &accepted_came, 3 * (i + 1));
        talk_until_received(host.loop, &host.talks[i], 10);
        close(client);
    }
    host_end(&host);
    place_remove(&place);
}

/* Without the flag, or without the callback, the kernel or the library drops them. */
static void descriptors_nobody_wants_leave_nothing(void)
{
    for (int flag = 0; flag < 2; flag++) {
        struct call call;
        int number;

        call_prepare(&call, test_unix_pair, &number);
        call.talk.handler.flags = flag ? GYRE_STREAM_DESCRIPTORS : 0;
        talk_adopt(&call.talk, call.loop, number);
        talk_until(call.loop, &call.talk, TALK_OPEN, 1);
        const size_t before = test_open_fds();
        send_descriptors(call.peer, 10, 0, 3);
        talk_until_received(call.loop, &call.talk, 10);
        trial_turns(call.loop, 2);
        assert_int_equal(test_open_fds(), before);
        call_end(&call);
    }
}

/* What is kept while a stream is paused keeps its descriptors. */
static void descriptors_wait_while_paused(void)
{
    for (int how = 0; how < 3; how++) {
        struct receiver receiver;
        struct talk *talk = &receiver.call.talk;

        receiver_open(&receiver, GYRE_DESCRIPTORS_MAX);
        const size_t before = test_open_fds();
        talk_pause(talk);
        send_descriptors(receiver.call.peer, 10, 0, 3);
        send_descriptors(receiver.call.peer, 10, 10, 2);
        trial_turns(receiver.call.loop, 5);
        assert_int_equal(receiver.told, 0);
        if (how == 0) {
            talk_resume(talk);
            talk_until_received(receiver.call.loop, talk, 20);
            assert_int_equal(receiver.taken_count, 5);
        } else if (how == 1) {
            talk_close(talk);
            call_close_peer(&receiver.call);
            assert_int_equal(talk_end(receiver.call.loop, talk), 0);
            assert_int_equal(test_open_fds(), before - 2);
        }
        receiver_end(&receiver);
    }
}

static void stream_reset_in_on_descriptors_leaves_nothing(void)
{
    struct receiver receiver;

    receiver_open(&receiver, 1);
    receiver.reset = 1;
    send_descriptors(receiver.call.peer, 10, 0, 3);
    send_descriptors(receiver.call.peer, 10, 10, 3);
    assert_int_equal(talk_end(receiver.call.loop, &receiver.call.talk), 0);
    assert_int_equal(receiver.told, 1);
    assert_int_equal(receiver.call.talk.received, 0);
    receiver_end(&receiver);
}

/* N13: told with a count of 0; the bytes come, and so do the next descriptors. */
static void descriptors_that_do_not_fit_are_told_and_bytes_come(void)
{
    struct receiver receiver;
    struct rlimit before;

    receiver_open(&receiver, GYRE_DESCRIPTORS_MAX);
    const size_t open_before = test_open_fds();
    send_descriptors(receiver.call.peer, 10, 0, 3);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit less = {.rlim_cur = 3, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    talk_until_received(receiver.call.loop, &receiver.call.talk, 10);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(receiver.told, 1);
    assert_int_equal(receiver.came, 0);
    assert_int_equal(test_open_fds(), open_before);
    send_descriptors(receiver.call.peer, 10, 10, 3);
    talk_until_received(receiver.call.loop, &receiver.call.talk, 20);
    assert_int_equal(receiver.came, 3);
    receiver_end(&receiver);
}

static void take_outside_of_on_descriptors_gives_none(void)
{
    struct receiver receiver;
    struct gyre_stream idle = {0};
    int number;

    receiver_open(&receiver, 0);
    assert_int_equal(gyre_stream_take_descriptors(&receiver.call.talk.own, &number, 1), 0);
    assert_int_equal(gyre_stream_take_descriptors(NULL, &number, 1), -EINVAL);
    assert_int_equal(gyre_stream_take_descriptors(&idle, &number, 1), -EINVAL);
    receiver_end(&receiver);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(path_is_listened_on_and_removed_in_the_end),
        TEST_CASE(path_that_exists_is_in_use),
        TEST_CASE(stale_path_is_replaced_when_asked_only),
        TEST_CASE(path_of_another_file_is_left_alone),
        TEST_CASE(path_taken_over_by_another_is_not_removed),
        TEST_CASE(mode_of_the_file_is_as_asked),
        TEST_CASE(long_paths_work_or_are_refused),
        TEST_CASE(abstract_names_leave_no_file),
        TEST_CASE(adopted_listener_leaves_the_file_alone),
        TEST_CASE(connect_to_nobody_says_why),
        TEST_CASE(peer_credentials_are_those_of_the_peer),
        TEST_CASE(descriptors_arrive_once_and_not_behind_their_first_byte),
        TEST_CASE(descriptors_that_never_left_are_closed),
        TEST_CASE(descriptors_that_cannot_be_sent_are_refused),
        TEST_CASE(descriptors_come_before_their_bytes),
        TEST_CASE(descriptors_not_taken_are_closed),
        TEST_CASE(descriptors_come_over_accepted_streams),
        TEST_CASE(descriptors_nobody_wants_leave_nothing),
        TEST_CASE(descriptors_wait_while_paused),
        TEST_CASE(stream_reset_in_on_descriptors_leaves_nothing),
        TEST_CASE(descriptors_that_do_not_fit_are_told_and_bytes_come),
        TEST_CASE(take_outside_of_on_descriptors_gives_none),
    };

    return test_main("net-unix", cases, TEST_COUNT(cases));
}
