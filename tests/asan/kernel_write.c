/*
 * What AddressSanitizer cannot see, and what gyre does about it.
 *
 * ASan instruments the program's own reads and writes. The kernel writes received bytes by itself, so
 * a buffer freed while a receive is under way is written to unnoticed: the first case shows it with
 * liburing alone. The drivers therefore ask ASan about every address that they hand to the kernel, and
 * again when it comes back (lib/base/poison.h): the other cases show that this closes the hole.
 */
#include "harness.h"

#include <gyre.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BUFFER_LEN = 64 };

/* The experiment: returns 0, silently, although the kernel writes into freed memory. */
static int kernel_writes_into_freed_memory(void *unused)
{
    struct io_uring ring;
    struct io_uring_cqe *cqe = NULL;
    char *buffer = malloc(BUFFER_LEN);
    int pair[2];

    (void)unused;
    if (io_uring_queue_init(8, &ring, 0) < 0) {
        return 77;
    }
    test_unix_pair(pair);
    io_uring_prep_recv(io_uring_get_sqe(&ring), pair[0], buffer, BUFFER_LEN, 0);
    io_uring_submit(&ring);
    free(buffer);
    if (write(pair[1], "into freed memory", 17) != 17 || io_uring_wait_cqe(&ring, &cqe) < 0) {
        return 1;
    }
    return cqe->res == 17 ? 0 : 2;
}

static void asan_does_not_see_the_kernel_write(void)
{
    const int status = test_child_status(kernel_writes_into_freed_memory, NULL);

    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        test_skip("io_uring is refused here");
    }
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void on_result(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
}

/* Returns only if nobody noticed. */
static int receive_into_freed(void *when)
{
    struct gyre_loop *loop = test_loop();
    char *buffer = malloc(BUFFER_LEN);
    struct gyre_op op;
    struct gyre_fd fd;
    int pair[2];

    test_unix_pair(pair);
    gyre_op_init(&op, on_result);
    if (when == NULL) {
        free(buffer);
    }
    if (gyre_fd_init(&fd, loop, pair[0]) < 0 || gyre_op_recv(&op, &fd, buffer, BUFFER_LEN, 0) < 0) {
        return 1;
    }
    gyre_loop_run(loop, GYRE_RUN_NOWAIT);
    if (when != NULL) {
        free(buffer);
    }
    if (write(pair[1], "x", 1) != 1) {
        return 2;
    }
    gyre_loop_run(loop, GYRE_RUN_ONCE);
    return 0;
}

static void buffer_freed_before_start_aborts(void)
{
    test_child_aborts(receive_into_freed, NULL);
}

static void buffer_freed_in_flight_aborts(void)
{
    static int in_flight;

    test_child_aborts(receive_into_freed, &in_flight);
}

int main(void)
{
    static const struct test_case cases[] = {
        {"asan_does_not_see_the_kernel_write", asan_does_not_see_the_kernel_write, 0},
        {"buffer_freed_before_start_aborts", buffer_freed_before_start_aborts, 0},
        {"buffer_freed_in_flight_aborts", buffer_freed_in_flight_aborts, 0},
    };

    return test_main("asan-kernel-write", cases, sizeof(cases) / sizeof(cases[0]));
}
