/* System calls of test cases on the simulated kernel: see redirect.h. */
#include "harness.h"
#include "sim/files.h"
#include "sim/thread.h"

#include <errno.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* The declarations; of the macros only the functions beside them are meant here. */
#include "redirect.h"
#undef kill
#undef open
#undef pthread_self

int redirect_skip(const char *why)
{
    test_skip(why);
}

pid_t redirect_getpid(void)
{
    const struct gyre_sim_process *process = gyre__sim_process();

    return process != NULL ? (pid_t)process->pid : -1;
}

pthread_t redirect_pthread_self(void)
{
    return (pthread_t)gyre__sim_self();
}

int redirect_kill(pid_t pid, int signal)
{
    struct gyre_sim_process *process = gyre__sim_process();

    if (pid != (pid_t)process->pid) {
        errno = ESRCH;
        return -1;
    }
    if (!(process->signals_blocked >> (signal - 1) & 1)) {
        test_skip("the simulation has no signal handlers");
    }
    return gyre_sim_signal(process, signal) < 0 ? -1 : 0;
}

int redirect_sigpending(sigset_t *out_set)
{
    const struct gyre_sim_process *process = gyre__sim_process();

    sigemptyset(out_set);
    for (int number = 1; number <= 64; number++) {
        if (process->signals_pending >> (number - 1) & 1) {
            sigaddset(out_set, number);
        }
    }
    return 0;
}

int redirect_setrlimit(int resource, const struct rlimit *limit)
{
    if (resource != RLIMIT_NOFILE) {
        test_skip("the simulation has no limits but that of descriptors");
    }
    gyre__sim_process()->fd_limit =
        (uint32_t)(limit->rlim_cur < SIM_FDS_MAX ? limit->rlim_cur : SIM_FDS_MAX);
    return 0;
}

/* Another thread has to go on before it can be posted. */
int redirect_sem_wait(sem_t *semaphore)
{
    while (sem_trywait(semaphore) != 0) {
        redirect_yield();
    }
    return 0;
}

int redirect_yield(void)
{
    gyre_sim_sleep(GYRE_USEC);
    return 0;
}

/* ---- descriptors ---- */

int redirect_fcntl(int number, int what, ...)
{
    struct sim_file *file = gyre__sim_fd_file(gyre__sim_process(), number);
    int argument = 0;

    if (what != F_GETFL && what != F_GETFD) {
        va_list arguments;

        va_start(arguments, what);
        argument = va_arg(arguments, int);
        va_end(arguments);
    }
    if (what == F_SETPIPE_SZ && file != NULL) {
        return pipe_resize(file, argument);
    }
    return sim_call_fcntl(number, what, argument);
}

int redirect_eventfd_write(int number, eventfd_t value)
{
    return sim_call_write(number, &value, sizeof(value)) == sizeof(value) ? 0 : -1;
}

static int install_file(struct sim_file *file, int flags)
{
    const int number = gyre__sim_fd_install(gyre__sim_process(), file, 0, (flags & O_CLOEXEC) != 0);

    file->flags |= flags & O_NONBLOCK;
    gyre__sim_file_put(file);
    if (number < 0) {
        errno = -number;
        return -1;
    }
    return number;
}

int redirect_open(const char *path, int flags, ...)
{
    if (strcmp(path, "/dev/null") != 0) {
        test_skip("the simulation has no files");
    }
    return install_file(null_make(gyre__sim_process()->host), flags);
}

int redirect_pipe2(int ends[2], int flags)
{
    struct sim_file *files[2];

    pipe_make(gyre__sim_process()->host, files);
    ends[0] = install_file(files[0], flags);
    ends[1] = install_file(files[1], flags);
    return ends[0] < 0 || ends[1] < 0 ? -1 : 0;
}

/* ---- datagrams ---- */

ssize_t redirect_sendto(int number, const void *data, size_t len, int flags,
                        const struct sockaddr *to, socklen_t to_len)
{
    struct iovec piece = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    const struct msghdr msg = {
        .msg_name = (void *)(uintptr_t)to,
        .msg_namelen = to_len,
        .msg_iov = &piece,
        .msg_iovlen = 1,
    };

    return sim_call_sendmsg(number, &msg, flags);
}

ssize_t redirect_recvfrom(int number, void *data, size_t len, int flags, struct sockaddr *from,
                          socklen_t *from_len)
{
    struct iovec piece = {.iov_base = data, .iov_len = len};
    struct msghdr msg = {
        .msg_name = from,
        .msg_namelen = from_len != NULL ? *from_len : 0,
        .msg_iov = &piece,
        .msg_iovlen = 1,
    };
    const ssize_t rc = sim_call_recvmsg(number, &msg, flags);

    if (rc >= 0 && from_len != NULL) {
        *from_len = msg.msg_namelen;
    }
    return rc;
}
