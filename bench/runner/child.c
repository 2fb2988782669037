/*
 * Child processes.
 *
 * Every child gets SIGKILL from the kernel when the runner dies, for whatever reason
 * (PR_SET_PDEATHSIG), and a process group of its own, so that Ctrl-C reaches the runner alone,
 * which then ends its children in order. Signals are blocked except while waiting, so none is
 * missed between a look at the flag and the wait.
 */
#include "child.h"

#include "clock.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;
static sigset_t signals_outside; /* the mask the runner was started with */

static void on_signal(int number)
{
    interrupted = number;
}

void child_signals_init(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    const struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        sigaction(numbers[i], &action, NULL);
        sigaddset(&set, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, &set, &signals_outside);
    sigdelset(&signals_outside, SIGINT);
    sigdelset(&signals_outside, SIGTERM);
    sigdelset(&signals_outside, SIGHUP);
}

bool child_interrupted(void)
{
    sigset_t pending;

    sigpending(&pending);
    return interrupted != 0 || sigismember(&pending, SIGINT) == 1 ||
           sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGHUP) == 1;
}

static void pin_or_exit(int cpu)
{
    cpu_set_t set;

    if (cpu < 0) {
        return;
    }
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) < 0) {
        dprintf(STDERR_FILENO, "CPU %d: %s\n", cpu, strerror(errno));
        _exit(126);
    }
}

/* The ends of the descriptors that the child gets; -1: none. */
struct ends {
    int in_fd;
    int out_fd;
    int err_fd;
};

static _Noreturn void run_child(const struct child_spec *spec, pid_t parent,
                                const struct ends *ends)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(126); /* the runner died before the line above */
    }
    setpgid(0, 0);
    if (ends->in_fd >= 0) {
        dup2(ends->in_fd, STDIN_FILENO);
    }
    dup2(ends->out_fd, STDOUT_FILENO);
    dup2(ends->err_fd, STDERR_FILENO);
    pin_or_exit(spec->cpu);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, &signals_outside, NULL);
    if (spec->environment != NULL) {
        putenv((char *)(uintptr_t)spec->environment);
    }
    execv(spec->argv[0], spec->argv);
    dprintf(STDERR_FILENO, "%s: %s\n", spec->argv[0], strerror(errno));
    _exit(127);
}

static void close_if(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* A pair of sockets for the input: writing to one whose reader has ended is an error, no signal. */
static int open_files(struct child *child, const struct child_spec *spec, struct ends *ends)
{
    int in[2] = {-1, -1};
    int out[2];

    if (pipe2(out, O_CLOEXEC) < 0) {
        return -errno;
    }
    child->out_fd = out[0];
    ends->out_fd = out[1];
    child->err_fd = memfd_create("stderr", MFD_CLOEXEC);
    ends->err_fd = child->err_fd;
    if (child->err_fd < 0 ||
        (spec->is_told && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in) < 0)) {
        return -errno;
    }
    child->in_fd = in[0];
    ends->in_fd = in[1];
    return 0;
}

int child_spawn(struct child *child, const struct child_spec *spec)
{
    const pid_t parent = getpid();
    struct ends ends = {-1, -1, -1};

    *child = (struct child){.pidfd = -1, .in_fd = -1, .out_fd = -1, .err_fd = -1};
    int rc = open_files(child, spec, &ends);

    if (rc == 0) {
        fflush(NULL);
        child->pid = fork();
        if (child->pid == 0) {
            run_child(spec, parent, &ends);
        }
        rc = child->pid < 0 ? -errno : 0;
    }
    close_if(&ends.in_fd);
    close_if(&ends.out_fd);
    if (rc == 0) {
        child->pidfd = pidfd_open(child->pid, 0);
        rc = child->pidfd < 0 ? -errno : 0;
    }
    if (rc < 0) {
        child_stop(child, 0);
        child_release(child);
    }
    return rc;
}

int child_tell(const struct child *child, const char *text)
{
    const size_t len = strlen(text);
    const ssize_t n = send(child->in_fd, text, len, MSG_NOSIGNAL);

    return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EMSGSIZE;
}

void child_tell_end(struct child *child)
{
    close_if(&child->in_fd);
}

/*
 * Waits for events on up to two descriptors. Returns: 1, 0 at the deadline, -EINTR when
 * interrupted.
 */
static int wait_events(struct pollfd *fds, nfds_t count, uint64_t deadline_ns)
{
    while (interrupted == 0) {
        const uint64_t now = clock_now_ns();
        const uint64_t left = now < deadline_ns ? deadline_ns - now : 0;
        const struct timespec limit = {
            .tv_sec = (time_t)(left / NS_PER_S),
            .tv_nsec = (long)(left % NS_PER_S),
        };
        const int rc = ppoll(fds, count, &limit, &signals_outside);

        if (rc >= 0) {
            return rc > 0;
        }
        assert(errno == EINTR);
    }
    return -EINTR;
}

static uint64_t deadline_after(int timeout_ms)
{
    return clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
}

int child_read_line(struct child *child, char *line, size_t size, int timeout_ms)
{
    const uint64_t deadline = deadline_after(timeout_ms);
    size_t used = 0;

    while (used + 1 < size) {
        struct pollfd fd = {.fd = child->out_fd, .events = POLLIN};
        const int rc = wait_events(&fd, 1, deadline);

        if (rc <= 0) {
            return rc < 0 ? rc : -ETIMEDOUT;
        }
        if (read(child->out_fd, line + used, 1) <= 0) {
            return -EPIPE;
        }
        if (line[used] == '\n') {
            line[used] = '\0';
            return 0;
        }
        used++;
    }
    return -EMSGSIZE;
}

bool child_has_ended(struct child *child)
{
    if (!child->ended && child->pid > 0) {
        child->ended = waitpid(child->pid, &child->status, WNOHANG) == child->pid;
    }
    return child->ended;
}

int child_wait(struct child *child, int timeout_ms)
{
    struct pollfd fd = {.fd = child->pidfd, .events = POLLIN};

    if (child_has_ended(child)) {
        return 0;
    }
    const int rc = wait_events(&fd, 1, deadline_after(timeout_ms));

    if (rc <= 0) {
        return rc < 0 ? rc : -ETIMEDOUT;
    }
    child_has_ended(child);
    assert(child->ended);
    return 0;
}

/* An interruption must not cut the grace short: poll(2) with the signals still blocked. */
static bool wait_uninterrupted(struct child *child, int timeout_ms)
{
    struct pollfd fd = {.fd = child->pidfd, .events = POLLIN};

    if (!child_has_ended(child) && child->pidfd >= 0) {
        poll(&fd, 1, timeout_ms);
    }
    return child_has_ended(child);
}

bool child_stop(struct child *child, int grace_ms)
{
    if (child->pid <= 0 || child_has_ended(child)) {
        return true;
    }
    kill(child->pid, SIGTERM);
    if (wait_uninterrupted(child, grace_ms)) {
        return true;
    }
    kill(child->pid, SIGKILL);
    child->ended = waitpid(child->pid, &child->status, 0) == child->pid;
    return false;
}

void child_error_text(const struct child *child, char *text, size_t size)
{
    const ssize_t n = pread(child->err_fd, text, size - 1, 0);

    text[n > 0 ? n : 0] = '\0';
}

void child_describe_end(const struct child *child, char *text, size_t size)
{
    assert(child->ended);
    if (WIFSIGNALED(child->status)) {
        snprintf(text, size, "killed by SIG%s", sigabbrev_np(WTERMSIG(child->status)));
    } else {
        snprintf(text, size, "exit status %d", WEXITSTATUS(child->status));
    }
}

void child_release(struct child *child)
{
    assert(child->pid <= 0 || child->ended);
    close_if(&child->pidfd);
    close_if(&child->in_fd);
    close_if(&child->out_fd);
    close_if(&child->err_fd);
}
