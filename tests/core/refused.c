/*
 * A program that uses a loop of the library's choice and says in one line which driver it got and
 * why. refused.py runs it under strace, which refuses it system calls.
 */
#include <errno.h>
#include <gyre.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { EXIT_BROKEN = 1, EXIT_REFUSED = 3 };

static int result_of_recv;

static void on_done(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    result_of_recv = result->res;
}

/* Something arrives: whether the loop is any good. */
static int use(struct gyre_loop *loop)
{
    struct gyre_op receive;
    struct gyre_op closing;
    struct gyre_fd fd;
    char byte = 0;
    int pair[2];

    gyre_op_init(&receive, on_done);
    gyre_op_init(&closing, on_done);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0 ||
        gyre_fd_init(&fd, loop, pair[0]) != 0 || send(pair[1], "x", 1, MSG_NOSIGNAL) != 1 ||
        gyre_op_recv(&receive, &fd, &byte, 1, 0) != 0 ||
        gyre_loop_run(loop, GYRE_RUN_DEFAULT) != 0 || result_of_recv != 1 || byte != 'x') {
        return -1;
    }
    if (gyre_op_close(&closing, &fd, 0) != 0 || gyre_loop_run(loop, GYRE_RUN_DEFAULT) != 0) {
        return -1;
    }
    return result_of_recv;
}

int main(void)
{
    struct gyre_loop *loop = NULL;
    struct gyre_loop_info info;
    int rc = gyre_loop_create(&loop, NULL);

    if (rc != 0) {
        printf("%s: %s\n", gyre_error_name(rc), gyre_loop_refusal());
        return rc == GYRE_ENOURING ? EXIT_REFUSED : EXIT_BROKEN;
    }
    if (gyre_loop_info(loop, &info) != 0 || use(loop) != 0) {
        return EXIT_BROKEN;
    }
    printf("%s: %s\n", info.backend_name, info.backend_why);
    return gyre_loop_destroy(loop) == 0 ? 0 : EXIT_BROKEN;
}
