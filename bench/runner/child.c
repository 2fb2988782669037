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

static _Noreturn void run_child(const struct child_spec *spec, pid_t parent, int out_fd, int err_fd)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(126); /* the runner died before the line above */
    }
    setpgid(0, 0);
    dup2(out_fd, STDOUT_FILENO);
    dup2(err_fd, STDERR_FILENO);
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

static int open_files(struct child *child, int *out_write_fd)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return -errno;
    }
    child->err_fd = memfd_create("stderr", MFD_CLOEXEC);
    if (child->err_fd < 0) {
        const int error = errno;

        close(pipe_fds[0]);
        close(pipe_fds[1]);
        return -error;
    }
    child->out_fd = pipe_fds[0];
    *out_write_fd = pipe_fds[1];
    return 0;
}

int child_spawn(struct child *child, const struct child_spec *spec)
{
    const pid_t parent = getpid();
    int write_fd = -1;

    *child = (struct child){.pidfd = -1};
    int rc = open_files(child, &write_fd);

    if (rc < 0) {
        return rc;
    }
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        run_child(spec, parent, write_fd, child->err_fd);
    }
    rc = child->pid < 0 ? -errno : 0;
    close(write_fd);
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
    if (child->pidfd >= 0) {
        close(child->pidfd);
    }
    close(child->out_fd);
    close(child->err_fd);
    *child = (struct child){.pidfd = -1};
}
