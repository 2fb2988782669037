/*
 * gyre-count: runs a program and counts its system calls and allocations.
 *
 *     gyre-count PRELOAD PROGRAM [ARGUMENT...]
 *
 * The program is traced (ptrace(2)): each system call stops it on entering and on leaving. It and its
 * threads end with this program, whatever ends that. SIGTERM and SIGINT are passed on. At the end
 * comes one JSON object on standard error: system calls, those among them that found nothing (EAGAIN),
 * entries handed to io_uring and its completions (if they could be counted), allocations.
 */
#include "counts.h"
#include "rings.h"

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Threads whose last entered call is known at a time. */
#define THREADS_MAX 64

struct thread {
    pid_t id;
    uint64_t call;
    uint64_t arguments[6];
};

struct totals {
    uint64_t calls;
    uint64_t eagains;
    uint64_t submitted;
};

static struct thread threads[THREADS_MAX];
static struct totals totals;
static pid_t program;
static volatile sig_atomic_t stop_signal;

static void on_signal(int number)
{
    stop_signal = number;
    kill(program, number);
}

static struct counts *make_page(const char *preload)
{
    char text[16];
    /* No close-on-exec: the program shall inherit it. */
    const int fd = (int)syscall(SYS_memfd_create, "counts", 0);

    if (fd < 0 || ftruncate(fd, sizeof(struct counts)) < 0) {
        err(EXIT_FAILURE, "memory to share");
    }
    void *page = mmap(NULL, sizeof(struct counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (page == MAP_FAILED) {
        err(EXIT_FAILURE, "memory to share");
    }
    snprintf(text, sizeof(text), "%d", fd);
    setenv(COUNTS_VARIABLE, text, 1);
    setenv("LD_PRELOAD", preload, 1);
    return page;
}

static struct thread *thread_of(pid_t id)
{
    for (int i = 0; i < THREADS_MAX; i++) {
        if (threads[i].id == id || threads[i].id == 0) {
            threads[i].id = id;
            return &threads[i];
        }
    }
    errx(EXIT_FAILURE, "more than %d threads", THREADS_MAX);
}

static void count_call(pid_t id)
{
    struct __ptrace_syscall_info info;
    struct thread *thread = thread_of(id);

    if (ptrace(PTRACE_GET_SYSCALL_INFO, id, sizeof(info), &info) <= 0) {
        return;
    }
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
        thread->call = info.entry.nr;
        memcpy(thread->arguments, info.entry.args, sizeof(thread->arguments));
        totals.calls++;
    } else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
        totals.eagains += info.exit.rval == -EAGAIN;
        if (thread->call == SYS_io_uring_enter && info.exit.rval > 0) {
            totals.submitted += (uint64_t)info.exit.rval;
        }
        rings_returned(id, thread->call, thread->arguments, info.exit.rval);
    }
}

/* Returns: the signal to deliver to the stopped thread, 0 for none. */
static int on_stop(pid_t id, int status)
{
    const int number = WSTOPSIG(status);

    if (number == (SIGTRAP | 0x80)) {
        count_call(id);
        return 0;
    }
    /* Reports of new threads, and the first stop of each. */
    return status >> 16 != 0 || number == SIGSTOP || number == SIGTRAP ? 0 : number;
}

static int trace(void)
{
    for (;;) {
        int status = 0;
        const pid_t id = waitpid(-1, &status, __WALL);

        if (id < 0 && errno == EINTR) {
            continue;
        }
        if (id < 0) {
            return EXIT_FAILURE;
        }
        if (WIFSTOPPED(status)) {
            const int number = on_stop(id, status);

            ptrace(PTRACE_SYSCALL, id, NULL, (void *)(intptr_t)number);
        } else if (id == program) {
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        } else {
            thread_of(id)->id = -1; /* the place is not used again */
        }
    }
}

static void start(char **argv)
{
    const long wanted = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE;
    int status = 0;

    program = fork();
    if (program == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execv(argv[0], argv);
        err(127, "%s", argv[0]);
    }
    if (program < 0 || waitpid(program, &status, 0) != program || !WIFSTOPPED(status)) {
        err(EXIT_FAILURE, "%s", argv[0]);
    }
    if (ptrace(PTRACE_SETOPTIONS, program, NULL, (void *)wanted) < 0 ||
        ptrace(PTRACE_SYSCALL, program, NULL, NULL) < 0) {
        err(EXIT_FAILURE, "ptrace");
    }
}

static void print_result(const struct counts *counts)
{
    uint64_t completed = 0;

    fprintf(stderr, "{\"traced\":true,\"calls\":%" PRIu64 ",\"eagains\":%" PRIu64, totals.calls,
            totals.eagains);
    fprintf(stderr, ",\"submitted\":%" PRIu64, totals.submitted);
    if (rings_completed(&completed)) {
        fprintf(stderr, ",\"completed\":%" PRIu64, completed);
    }
    fprintf(stderr, ",\"allocations\":%" PRIu64 ",\"frees\":%" PRIu64 "}\n", counts->allocations,
            counts->frees);
}

int main(int argc, char **argv)
{
    const struct sigaction action = {.sa_handler = on_signal};

    if (argc < 3) {
        errx(2, "usage: gyre-count PRELOAD PROGRAM [ARGUMENT...]");
    }
    const struct counts *counts = make_page(argv[1]);

    start(argv + 2);
    unsetenv("LD_PRELOAD");
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    const int status = trace();

    print_result(counts);
    return status;
}
