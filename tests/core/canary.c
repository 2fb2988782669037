/*
 * Canaries: cases whose outcome is known, most of them bad. canary.py runs them and checks that the
 * harness calls each what it is. They are run by nothing else.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void canary_passes(void)
{
    assert_int_equal(1, 1);
}

static void canary_skips(void)
{
    test_skip("because it is a canary");
}

static void canary_fails_assertion(void)
{
    assert_int_equal(1, 2);
}

static void canary_leaks_descriptor(void)
{
    assert_true(open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0);
}

static void canary_closes_foreign_descriptor(void)
{
    close(STDIN_FILENO);
}

static void canary_leaks_loop(void)
{
    (void)test_loop();
}

static void canary_leaks_thread(void)
{
    static sem_t never;
    pthread_t thread;

    sem_init(&never, 0, 0);
    assert_int_equal(pthread_create(&thread, NULL, (void *(*)(void *))(uintptr_t)sem_wait, &never),
                     0);
    pthread_detach(thread);
}

static void canary_leaves_child(void)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        pause();
        _exit(0);
    }
}

static void canary_hangs(void)
{
    for (;;) {
        pause();
    }
}

static void canary_spins(void)
{
    for (volatile int i = 0;; i = 1 - i) {
    }
}

static void canary_crashes(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

static void canary_aborts(void)
{
    abort();
}

/* canary.py sees that it is gone. */
static void canary_dies_in_its_directory(void)
{
    const char *directory = test_directory();
    char path[64];

    fprintf(stderr, "directory: %s\n", directory);
    snprintf(path, sizeof(path), "%s/file", directory);
    assert_true(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) >= 0);
    abort();
}

static void canary_exits(void)
{
    _exit(0);
}

static int fails_in_child(void *unused)
{
    (void)unused;
    assert_int_equal(1, 2);
    return 0;
}

static void canary_fails_in_forked_process(void)
{
    test_child_passes(fails_in_child, NULL);
}

static void canary_busy_loop_is_destroyed(void)
{
    struct gyre_loop *loop = test_loop();
    struct gyre_op op;

    gyre_op_init(&op, test_ignore);
    assert_int_equal(gyre_op_nop(&op, loop), 0);
    test_loop_end(loop);
}

static void canary_waits_for_nothing(void)
{
    struct gyre_loop *loop = test_loop();
    int never = 0;

    test_turns_until(loop, &never);
}

static const struct test_case cases[] = {
    {"canary_passes", canary_passes, 0},
    {"canary_skips", canary_skips, 0},
    {"canary_fails_assertion", canary_fails_assertion, 0},
    {"canary_leaks_descriptor", canary_leaks_descriptor, 0},
    {"canary_closes_foreign_descriptor", canary_closes_foreign_descriptor, 0},
    {"canary_leaks_loop", canary_leaks_loop, 0},
    {"canary_leaks_thread", canary_leaks_thread, 0},
    {"canary_leaves_child", canary_leaves_child, 0},
    {"canary_hangs", canary_hangs, 1},
    {"canary_spins", canary_spins, 1},
    {"canary_crashes", canary_crashes, 0},
    {"canary_aborts", canary_aborts, 0},
    {"canary_dies_in_its_directory", canary_dies_in_its_directory, 0},
    {"canary_exits", canary_exits, 0},
    {"canary_fails_in_forked_process", canary_fails_in_forked_process, 0},
    {"canary_busy_loop_is_destroyed", canary_busy_loop_is_destroyed, 0},
    {"canary_waits_for_nothing", canary_waits_for_nothing, 0},
};

int main(void)
{
    return test_main("canary", cases, TEST_COUNT(cases));
}
