/* Loops of the variant under test, sockets, time: see harness.h. */
#include "harness.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* ---- variants and loops ---- */

static const char *variant(void)
{
    const char *name = getenv("GYRE_TEST_VARIANT");

    return name == NULL || name[0] == '\0' ? "epoll" : name;
}

int test_variant_uring(void)
{
    return strncmp(variant(), "uring", strlen("uring")) == 0;
}

struct gyre_loop_options test_options(void)
{
    static const struct {
        const char *name;
        enum gyre_backend backend;
        uint32_t features_off;
    } variants[] = {
        {"epoll", GYRE_BACKEND_EPOLL, 0},
        {"uring", GYRE_BACKEND_URING, 0},
        {"uring-noinc", GYRE_BACKEND_URING, GYRE_FEATURE_INCREMENTAL},
        {"uring-nobufring", GYRE_BACKEND_URING,
         GYRE_FEATURE_BUFFER_RING | GYRE_FEATURE_INCREMENTAL},
        {"uring-nomultishot", GYRE_BACKEND_URING, GYRE_FEATURE_MULTISHOT},
    };
    struct gyre_loop_options options = {0};
    size_t i;

    for (i = 0; i < TEST_COUNT(variants); i++) {
        if (strcmp(variant(), variants[i].name) == 0) {
            options.backend = variants[i].backend;
            options.features_off = variants[i].features_off;
            return options;
        }
    }
    fprintf(stderr, "GYRE_TEST_VARIANT=%s: no such variant\n", variant());
    abort();
}

struct gyre_loop *test_loop_with(const struct gyre_loop_options *options)
{
    struct gyre_loop *loop = NULL;
    int rc = gyre_loop_create(&loop, options);

    if (rc != 0) {
        fail_msg("gyre_loop_create: %s (%s): %s", gyre_error_name(rc), gyre_strerror(rc),
                 gyre_loop_refusal());
    }
    assert_non_null(loop);
    return loop;
}

struct gyre_loop *test_loop(void)
{
    const struct gyre_loop_options options = test_options();

    return test_loop_with(&options);
}

void test_pool_conserved(struct gyre_loop *loop)
{
    struct gyre_pool_stats pool = {0};

    assert_int_equal(gyre_loop_pool_stats(loop, &pool), 0);
    assert_int_equal(pool.free + pool.lent + pool.in_kernel, pool.total);
}

void test_loop_end(struct gyre_loop *loop)
{
    struct gyre_loop_stats stats;
    struct gyre_pool_stats pool = {0};
    int kind;

    test_pool_conserved(loop);
    assert_int_equal(gyre_loop_pool_stats(loop, &pool), 0);
    assert_int_equal(pool.lent, 0);
    assert_int_equal(pool.leases, 0);
    assert_int_equal(pool.starved, 0);
    assert_int_equal(gyre_loop_stats(loop, &stats), 0);
    for (kind = 0; kind < GYRE_OP_KIND_COUNT; kind++) {
        if (stats.started[kind] != stats.finished[kind]) {
            fail_msg("%s: %llu started, %llu finished", gyre_op_kind_name((enum gyre_op_kind)kind),
                     (unsigned long long)stats.started[kind],
                     (unsigned long long)stats.finished[kind]);
        }
    }
    assert_int_equal(gyre_loop_destroy(loop), 0);
}

void test_turns_until_count(struct gyre_loop *loop, const int *counter, int goal)
{
    while (*counter < goal) {
        int rc = gyre_loop_run(loop, GYRE_RUN_ONCE);

        if (rc < 0) {
            fail_msg("gyre_loop_run: %s", gyre_error_name(rc));
        }
        if (rc == 0 && *counter < goal) {
            fail_msg("the loop has nothing left to do, %d of %d happened", *counter, goal);
        }
    }
}

void test_turns_until(struct gyre_loop *loop, const int *flag)
{
    while (*flag == 0) {
        int rc = gyre_loop_run(loop, GYRE_RUN_ONCE);

        if (rc < 0) {
            fail_msg("gyre_loop_run: %s", gyre_error_name(rc));
        }
        if (rc == 0 && *flag == 0) {
            fail_msg("the loop has nothing left to do, and what was awaited has not happened");
        }
    }
}

void test_ignore(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
}

int test_is_simulated(void)
{
#if defined(GYRE_SIM)
    return 1;
#else
    return 0;
#endif
}

void test_skip_simulated(const char *why)
{
    if (test_is_simulated()) {
        test_skip(why);
    }
}

/* ---- sockets, time ---- */

int test_listener(struct sockaddr_in *out)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(fd, SOMAXCONN), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    if (out != NULL) {
        *out = address;
    }
    return fd;
}

/* A test may rain signals on the loop; its own blocking calls are not what is tested. */
static sigset_t block_signals(void)
{
    sigset_t before;
    sigset_t all;

    sigfillset(&all);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &all, &before), 0);
    return before;
}

int test_connect(const struct sockaddr_in *address)
{
    const sigset_t before = block_signals();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = connect(fd, (const struct sockaddr *)address, sizeof(*address));

    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_true(fd >= 0);
    assert_int_equal(rc, 0);
    return fd;
}

void test_tcp_pair(int pair[2])
{
    const sigset_t before = block_signals();
    struct sockaddr_in address;
    int listener = test_listener(&address);

    pair[0] = test_connect(&address);
    pair[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
    assert_true(pair[1] >= 0);
    close(listener);
}

void test_unix_pair(int pair[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

int test_steps(int usual, int least)
{
    if (getenv("GYRE_TORTURE") == NULL && getenv("GYRE_STRIKE") == NULL) {
        return usual;
    }
    return usual / 100 > least ? usual / 100 : least;
}

uint64_t test_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * GYRE_SEC + (uint64_t)now.tv_nsec;
}
