/* Memory that fails: in each scenario the k-th allocation, for each k until none fails. Nothing may
 * crash, leak or hang; what is reported is -ENOMEM. Catalogue F04. */
#include "talk.h"
#include "trial.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 500 /* allocations of a scenario */

static int armed;
static int until; /* allocations that still work */
static int failed;

static int fails(void)
{
    if (!armed || --until >= 0) {
        return 0;
    }
    failed = 1;
    armed = 0;
    return 1;
}

static void *alloc(size_t len)
{
    return fails() ? NULL : malloc(len);
}

static void *zalloc(size_t len)
{
    return fails() ? NULL : calloc(1, len);
}

static void *resize(void *memory, size_t len)
{
    return fails() ? NULL : realloc(memory, len);
}

static const struct gyre_allocator scarce = {alloc, zalloc, resize, free};

static void torture(void (*scenario)(void))
{
    int k = 0;

    assert_int_equal(gyre_allocator_set(&scarce), 0);
    do {
        until = k;
        failed = 0;
        scenario();
        armed = 0;
        assert_true(++k < MOST);
    } while (failed);
    assert_true(k > 1); /* something failed at least once */
    assert_int_equal(gyre_allocator_set(NULL), 0);
}

static void check_rc(int rc)
{
    assert_true(rc >= 0 || (rc == -ENOMEM && failed));
}

/* Data both ways, pause and resume, a full queue, an end; everything from nothing. */
static void talk_life(void)
{
    struct gyre_loop *loop = test_loop();
    struct talk talk;
    int pair[2];

    test_tcp_pair(pair);
    talk_init(&talk);
    armed = 1;
    int rc = gyre_stream_adopt(&talk.own, loop, pair[0], &talk.handler);
    check_rc(rc);
    if (rc < 0) {
        close(pair[0]);
        close(pair[1]);
        test_loop_end(loop);
        return;
    }
    wire_send_stream(pair[1], 3000, 0);
    for (int i = 0; i < 20 && talk.count[TALK_CLOSE] == 0; i++) {
        if (talk.stream != NULL && talk.count[TALK_OPEN]) {
            rc = talk_write(&talk, 5000);
            assert_true(rc >= 0 || rc == -ENOTCONN || rc == -ENOMEM);
            rc = talk_write_ref(&talk, 5000);
            assert_true(rc >= 0 || rc == -ENOTCONN || rc == -ENOMEM);
        }
        if (talk.stream != NULL && i == 3 && gyre_stream_pause(talk.stream) == 0) {
            talk.quiet = 1;
            wire_send_stream(pair[1], 3000, 3000);
        }
        trial_turns(loop, 1);
        if (talk.stream != NULL && i == 10) {
            rc = gyre_stream_resume(talk.stream);
            talk.quiet = rc == -ENOMEM;
            assert_true(rc == 0 || rc == -ENOMEM || rc == -ENOTCONN);
        }
        wire_drain(pair[1]);
    }
    armed = 0;
    if (talk.count[TALK_CLOSE] == 0) {
        talk_close(&talk);
        wire_drain(pair[1]);
        shutdown(pair[1], SHUT_WR);
        while (talk.count[TALK_CLOSE] == 0) {
            trial_turns(loop, 1);
            wire_drain(pair[1]);
        }
        assert_true(talk.error == 0 || talk.error == -ENOMEM);
    } else {
        assert_int_equal(talk.error, -ENOMEM);
    }
    close(pair[1]);
    test_loop_end(loop);
}

static void memory_failing_during_a_talk_is_survived(void)
{
    torture(talk_life);
}

static void connect_life(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_addr to = {.len = sizeof to.in};
    struct talk talk;
    const int listener = test_listener(&to.in);

    talk_init(&talk);
    armed = 1;
    int rc = gyre_stream_connect(&talk.own, loop, &to, &talk.handler);
    check_rc(rc);
    if (rc == 0) {
        rc = talk_write(&talk, 100);
        assert_true(rc >= 0 || rc == -ENOMEM);
        while (!talk.count[TALK_OPEN] && !talk.count[TALK_CLOSE]) {
            trial_turns(loop, 1);
        }
        if (talk.stream != NULL) {
            talk_reset(&talk);
        }
        talk_end(loop, &talk);
        assert_true(talk.error == 0 || talk.error == -ENOMEM);
    }
    armed = 0;
    close(listener);
    test_loop_end(loop);
}

static void memory_failing_during_a_connect_is_survived(void)
{
    torture(connect_life);
}

/* Connections that find no memory are shed; the listener lives on. */
static void listener_life(void)
{
    struct host host;
    int clients[5];
    int ended = 0;

    host_prepare(&host, 100);
    host.options.max_connections = 3;
    armed = 1;
    int rc = gyre_listen(host.loop, &host.listener, "127.0.0.1:0", &host.options);
    check_rc(rc);
    if (rc < 0) {
        armed = 0;
        test_loop_end(host.loop);
        free(host.talks);
        return;
    }
    assert_int_equal(gyre_listener_address(&host.listener, &host.address), 0);
    for (int i = 0; i < 5; i++) {
        clients[i] = host_dial(&host);
    }
    for (int i = 0; i < 30; i++) {
        trial_turns(host.loop, 1);
        if (host.opened > ended && host.talks[ended].stream != NULL) {
            talk_reset(&host.talks[ended++]);
        }
    }
    armed = 0;
    for (int i = 0; i < 5; i++) {
        close(clients[i]);
    }
    if (host.closes == 0) { /* alive: it accepts */
        const int before = host.opened;
        const int client = host_dial(&host);

        while (host.opened == before) {
            if (host.opened > ended && host.talks[ended].stream != NULL) {
                talk_reset(&host.talks[ended++]);
            }
            assert_true(gyre_loop_run(host.loop, GYRE_RUN_ONCE) >= 0);
        }
        close(client);
    } else {
        assert_int_equal(host.error, -ENOMEM);
    }
    while (ended < host.opened) {
        if (host.talks[ended].stream != NULL) {
            talk_reset(&host.talks[ended]);
        }
        ended++;
    }
    host_end(&host);
}

static void memory_failing_at_a_listener_sheds_and_goes_on(void)
{
    torture(listener_life);
}

static void pass_on(struct talk *talk)
{
    struct talk *other = talk->context;

    if (other->stream != NULL && !other->ending) {
        (void)!gyre_stream_forward(other->stream, talk->data);
    }
}

static void proxy_life(void)
{
    struct gyre_loop *loop = test_loop();
    struct talk talks[2];
    int pairs[2][2];
    static uint8_t flood[1 << 16];

    for (int i = 0; i < 2; i++) {
        test_unix_pair(pairs[i]);
        talk_init(&talks[i]);
        talks[i].handler.write_high = 10000;
        talks[i].then[TALK_DATA] = pass_on;
        talks[i].context = &talks[1 - i];
        talks[i].unchecked = 1;
        talk_adopt(&talks[i], loop, pairs[i][0]);
    }
    armed = 1;
    int rc = gyre_stream_couple(&talks[0].own, &talks[1].own);
    check_rc(rc);
    for (int i = 0; i < 40; i++) {
        (void)!send(pairs[0][1], flood, sizeof flood, MSG_DONTWAIT | MSG_NOSIGNAL);
        trial_turns(loop, 1);
        if (i > 20) {
            wire_drain(pairs[1][1]);
        }
    }
    armed = 0;
    for (int i = 0; i < 2; i++) {
        if (talks[i].stream != NULL) {
            talk_reset(&talks[i]);
        }
        talk_end(loop, &talks[i]);
        assert_true(talks[i].error == 0 || talks[i].error == -ENOMEM);
        close(pairs[i][1]);
    }
    test_loop_end(loop);
}

static void memory_failing_in_a_proxy_is_survived(void)
{
    torture(proxy_life);
}

static void descriptors_life(void)
{
    struct gyre_loop *loop = test_loop();
    struct talk talk;
    int pair[2];
    const int numbers[3] = {0, 0, 0};

    test_unix_pair(pair);
    talk_init(&talk);
    talk_adopt(&talk, loop, pair[0]);
    armed = 1;
    const int rc = gyre_stream_write_descriptors(&talk.own, "x", 1, numbers, 3);
    check_rc(rc);
    trial_turns(loop, 5);
    armed = 0;
    if (talk.stream != NULL) {
        talk_reset(&talk);
    }
    talk_end(loop, &talk);
    assert_true(talk.error == 0 || talk.error == -ENOMEM);
    close(pair[1]);
    test_loop_end(loop);
}

static void memory_failing_with_descriptors_leaks_none(void)
{
    torture(descriptors_life);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(memory_failing_during_a_talk_is_survived),
        TEST_CASE(memory_failing_during_a_connect_is_survived),
        TEST_CASE(memory_failing_at_a_listener_sheds_and_goes_on),
        TEST_CASE(memory_failing_in_a_proxy_is_survived),
        TEST_CASE(memory_failing_with_descriptors_leaks_none),
    };

    return test_main("net-torture", cases, TEST_COUNT(cases));
}
