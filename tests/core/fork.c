/* Processes: fork, exec, and the thread that owns the loop. Catalogue Z01, Z02, Z03, Z05, A17. */
#include "core/traffic.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A loop on which there is one of everything that could hold a descriptor. */
struct busy {
    struct gyre_loop *loop;
    struct traffic traffic;
    struct gyre_fd listener;
    struct gyre_op accept;
    struct gyre_op close;
    struct gyre_timer timer;
    int accepted; /* the descriptor */
    int peer;
    int accepts;
    int closed;
};

static void on_accepted(struct gyre_op *op, const struct gyre_result *result)
{
    struct busy *busy = gyre_container_of(op, struct busy, accept);

    if (result->res == -ECANCELED) {
        return;
    }
    assert_true(result->res >= 0);
    busy->accepted = result->res;
    busy->accepts++;
}

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    assert_int_equal(result->res, 0);
    gyre_container_of(op, struct busy, close)->closed++;
}

static void on_tick(struct gyre_timer *timer)
{
    (void)timer;
}

static void busy_start(struct busy *busy)
{
    struct sockaddr_in address;

    *busy = (struct busy){.loop = test_loop(), .accepted = -1};
    assert_int_equal(gyre_fd_init(&busy->listener, busy->loop, test_listener(&address)), 0);
    gyre_op_init(&busy->accept, on_accepted);
    gyre_op_init(&busy->close, on_closed);
    assert_int_equal(gyre_op_accept(&busy->accept, &busy->listener, GYRE_MULTISHOT), 0);
    busy->peer = test_connect(&address);
    test_turns_until(busy->loop, &busy->accepts);
    assert_true(gyre_loop_fd(busy->loop) >= 0);
    traffic_start(&busy->traffic, busy->loop, 3);
    test_turns_until(busy->loop, &busy->traffic.done);
    assert_int_equal(gyre_timer_init(&busy->timer, busy->loop, on_tick), 0);
    assert_int_equal(gyre_timer_start(&busy->timer, 3600 * GYRE_SEC), 0);
}

static void busy_end(struct busy *busy)
{
    gyre_timer_stop(&busy->timer);
    traffic_close(&busy->traffic);
    assert_int_equal(gyre_op_close(&busy->close, &busy->listener, 0), 0);
    test_turns_until(busy->loop, &busy->closed);
    close(busy->accepted);
    close(busy->peer);
    test_loop_end(busy->loop);
}

/* ---- exec ---- */

/* Z01, A17, contract line 11: every descriptor that the library made is close-on-exec. */
static void descriptors_of_a_busy_loop_are_close_on_exec(void)
{
    enum { NUMBERS = 1024 };
    char inherited[NUMBERS];
    struct busy busy;
    int number;

    for (number = 0; number < NUMBERS; number++) {
        inherited[number] = fcntl(number, F_GETFD) >= 0;
    }
    busy_start(&busy);
    for (number = 0; number < NUMBERS; number++) {
        int flags = fcntl(number, F_GETFD);

        if (flags >= 0 && !inherited[number] && (flags & FD_CLOEXEC) == 0) {
            char path[64];
            char target[128] = "";

            snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
            assert_true(readlink(path, target, sizeof(target) - 1) > 0);
            fail_msg("descriptor %d (%s) is not close-on-exec", number, target);
        }
    }
    busy_end(&busy);
}

/* What an exec'ed program finds in its /proc/self/fd. */
static void list_after_exec(char *out, size_t len)
{
    size_t at = 0;
    ssize_t count;
    int status = 0;
    int pipes[2];
    pid_t pid;

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(pipes[1], STDOUT_FILENO);
        execl("/bin/ls", "ls", "/proc/self/fd", (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    while ((count = read(pipes[0], out + at, len - 1 - at)) > 0) {
        at += (size_t)count;
    }
    out[at] = '\0';
    close(pipes[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Z01 */
static void exec_child_inherits_nothing_of_a_busy_loop(void)
{
    char before[1024];
    char during[1024];
    struct busy busy;

    list_after_exec(before, sizeof(before));
    busy_start(&busy);
    list_after_exec(during, sizeof(during));
    assert_string_equal(before, during);
    assert_int_equal(gyre_loop_run(busy.loop, GYRE_RUN_NOWAIT), 1);
    busy_end(&busy);
}

/* ---- fork ---- */

static void on_post(struct gyre_loop *loop, void *data)
{
    (void)loop;
    (void)data;
}

/* Each call on the parent's loop is refused; none hurts the parent. Returns the number of the first
 * that was not, for the exit status. */
static int touch_all(void *data)
{
    struct busy *busy = data;
    struct gyre_loop *loop = busy->loop;
    struct gyre_pool_stats pool;
    struct gyre_fd fd;
    struct gyre_op op;
    int number = -1;
    int results[20];
    int count = 0;
    int i;

    gyre_op_init(&op, test_ignore);
    results[count++] = gyre_loop_run(loop, GYRE_RUN_NOWAIT);
    results[count++] = gyre_loop_run(loop, GYRE_RUN_DEFAULT);
    results[count++] = gyre_loop_dispatch(loop);
    results[count++] = gyre_loop_fd(loop);
    results[count++] = gyre_loop_post(loop, on_post, NULL);
    results[count++] = gyre_loop_destroy(loop);
    results[count++] = gyre_op_nop(&op, loop);
    results[count++] = gyre_op_timeout(&op, loop, 1);
    results[count++] = gyre_op_recv(&op, &busy->listener, &number, 1, 0);
    results[count++] = gyre_op_close(&op, &busy->listener, 0);
    results[count++] = gyre_op_cancel(&busy->accept);
    results[count++] = gyre_op_set_deadline(&busy->accept, 1);
    results[count++] = gyre_fd_cancel(&busy->listener);
    results[count++] = gyre_fd_detach(&busy->traffic.ends[0].fd, &number);
    results[count++] = gyre_fd_init(&fd, loop, busy->peer);
    results[count++] = gyre_timer_start(&busy->timer, 1);
    results[count++] = gyre_timer_start_at(&busy->timer, 1);
    results[count++] = gyre_loop_pool_stats(loop, &pool);
    for (i = 0; i < count; i++) {
        if (results[i] != GYRE_EFORK) {
            print_error("call %d: %s\n", i, gyre_error_name(results[i]));
            return i + 1;
        }
    }
    return 0;
}

/* Z02 */
static void forked_child_that_touches_the_loop_is_refused(void)
{
    struct busy busy;

    busy_start(&busy);
    test_child_passes(touch_all, &busy);
    assert_int_equal(gyre_loop_run(busy.loop, GYRE_RUN_NOWAIT), 1);
    traffic_check(busy.loop, 20);
    busy_end(&busy);
}

static int wake_parent(void *loop)
{
    gyre_loop_wake(loop);
    return 0;
}

/* Z02: wake cannot refuse; it must not crash, and what it does to the parent is one turn more. */
static void forked_child_that_wakes_the_loop_does_no_harm(void)
{
    struct gyre_loop *loop = test_loop();

    traffic_check(loop, 5);
    test_child_passes(wake_parent, loop);
    traffic_check(loop, 5);
    test_loop_end(loop);
}

static int serve_in_child(void *unused)
{
    struct gyre_loop *loop = test_loop();

    (void)unused;
    traffic_check(loop, 100);
    test_loop_end(loop);
    return 0;
}

/* Z03: a loop of the child's own, while the parent's is in use, and after it was used. */
static void forked_child_runs_a_loop_of_its_own(void)
{
    struct gyre_loop *loop = test_loop();
    struct traffic traffic;

    traffic_start(&traffic, loop, 50);
    assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    test_child_passes(serve_in_child, NULL);
    test_turns_until(loop, &traffic.done);
    test_child_passes(serve_in_child, NULL);
    traffic_close(&traffic);
    test_loop_end(loop);
    test_child_passes(serve_in_child, NULL);
}

static int exit_only(void *unused)
{
    (void)unused;
    return 0;
}

/* Z02: children that come and go, as of a program that starts other programs. */
static void forked_children_that_exit_do_not_disturb_the_loop(void)
{
    struct gyre_loop *loop = test_loop();
    struct traffic traffic;
    int i;

    traffic_start(&traffic, loop, 200);
    for (i = 0; i < 10; i++) {
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
        test_child_passes(exit_only, NULL);
    }
    test_turns_until(loop, &traffic.done);
    traffic_close(&traffic);
    test_loop_end(loop);
}

/* ---- threads ---- */

static void *run_elsewhere(void *loop)
{
    return (void *)(intptr_t)gyre_loop_run(loop, GYRE_RUN_NOWAIT);
}

/* Z05 */
static void loop_run_by_another_thread_is_refused(void)
{
    struct gyre_loop *loop = test_loop();
    pthread_t thread;
    void *rc = NULL;

    assert_int_equal(pthread_create(&thread, NULL, run_elsewhere, loop), 0);
    assert_int_equal(pthread_join(thread, &rc), 0);
    assert_int_equal((intptr_t)rc, GYRE_ETHREAD);
    traffic_check(loop, 5);
    test_loop_end(loop);
}

static void *create_run_destroy(void *unused)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *loop = NULL;
    struct gyre_op op;
    intptr_t failed = 0;
    int i;

    (void)unused;
    for (i = 0; i < 20; i++) {
        gyre_op_init(&op, test_ignore);
        failed += gyre_loop_create(&loop, &options) != 0;
        failed += gyre_op_nop(&op, loop) != 0;
        failed += gyre_loop_run(loop, GYRE_RUN_DEFAULT) != 0;
        failed += gyre_loop_destroy(loop) != 0;
    }
    return (void *)failed;
}

/* Loops made, used and destroyed in several threads at once. */
static void loops_of_many_threads_live_side_by_side(void)
{
    pthread_t threads[4];
    size_t i;

    for (i = 0; i < TEST_COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, create_run_destroy, NULL), 0);
    }
    for (i = 0; i < TEST_COUNT(threads); i++) {
        void *failed = NULL;

        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static const struct test_case cases[] = {
    {"descriptors_of_a_busy_loop_are_close_on_exec", descriptors_of_a_busy_loop_are_close_on_exec,
     0},
    {"exec_child_inherits_nothing_of_a_busy_loop", exec_child_inherits_nothing_of_a_busy_loop, 0},
    {"forked_child_that_touches_the_loop_is_refused", forked_child_that_touches_the_loop_is_refused,
     0},
    {"forked_child_that_wakes_the_loop_does_no_harm", forked_child_that_wakes_the_loop_does_no_harm,
     0},
    {"forked_child_runs_a_loop_of_its_own", forked_child_runs_a_loop_of_its_own, 0},
    {"forked_children_that_exit_do_not_disturb_the_loop",
     forked_children_that_exit_do_not_disturb_the_loop, 0},
    {"loop_run_by_another_thread_is_refused", loop_run_by_another_thread_is_refused, 0},
    {"loops_of_many_threads_live_side_by_side", loops_of_many_threads_live_side_by_side, 0},
};

int main(void)
{
    return test_main("fork", cases, TEST_COUNT(cases));
}
