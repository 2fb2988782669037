/*
 * The harness: see harness.h for what it promises.
 *
 *     cmocka --> run_case() --fork--> child: cmocka again, with one test: account, body, account
 *                    |                  |                                (at the place: place.h)
 *                    +-- time limit <---+-- report (shared memory), output (a memfd)
 *
 * cmocka leaves a failed assertion by longjmp, to the last setjmp of the process that failed. So the
 * child runs a cmocka group of its own, and a process that a case forked and whose assertion failed
 * ends in teardown(), before it could go on with somebody else's cases.
 */
#include "place.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LIMIT_SECONDS = 10,    /* of a case that names none */
    SLOW_FACTOR = 4,       /* what sanitizers may cost, and counting what runs */
    EXIT_SKIPPED = 77,     /* meson: the whole program was skipped */
    EXIT_SUBCHILD = 111,   /* an assertion failed in a process that the case forked */
    OUTPUT_MAX = 64 << 10, /* bytes of a failed case's output that are shown */
};

/* What the child tells its parent, in shared memory. */
struct report {
    int finished;
    int skipped;
    char why[512];
};

static struct report no_report; /* of a case that another main program runs */
static struct report *report = &no_report;
static const struct test_case *current;
static pid_t case_pid; /* the process in which the body of the current case runs */
static int output_fd;  /* a memfd: what the child prints */
static FILE *tap;
static unsigned tap_number;
static size_t skipped_count;
static size_t ran_count;
static int saved_argc;
static char **saved_argv;

/* Present in programs linked with LeakSanitizer. */
int __lsan_do_recoverable_leak_check(void) __attribute__((weak));

/* Of a program that counts what runs (./dev coverage), and writes it down at exit(3): a process that
 * ends by _exit(2) has to ask for it. */
#if defined(TEST_COVERAGE)
#define COUNTED 1
void __gcov_dump(void);
#else
#define COUNTED 0
#endif

/* glibc hands constructors the arguments of main(), so that modules need not pass them on. */
__attribute__((constructor)) static void keep_arguments(int argc, char **argv)
{
    saved_argc = argc;
    saved_argv = argv;
}

static void leave(int status) __attribute__((noreturn));

static void leave(int status)
{
    fflush(NULL);
#if defined(TEST_COVERAGE)
    __gcov_dump();
#endif
    _exit(status);
}

static int no_fork(void)
{
    const char *value = getenv("GYRE_TEST_NOFORK");

    return value != NULL && strcmp(value, "0") != 0;
}

/* ---- running one case ---- */

static void *do_nothing(void *unused)
{
    return unused;
}

/* ThreadSanitizer starts a thread of its own beside the first of the program: before the account. */
static void settle_sanitizer(void)
{
    pthread_t thread;

    if (SANITIZED && pthread_create(&thread, NULL, do_nothing, NULL) == 0) {
        pthread_join(thread, NULL);
    }
}

static void accounted_body(void **state)
{
    static struct account before; /* static: a case that fails or is skipped does not return here */

    (void)state;
    settle_sanitizer();
    free(before.fds);
    account_take(&before);
    if (before.live != 0) {
        fail_msg("%zu allocations of the library alive before the case", before.live);
    }
    current->body();
    account_check(&before);
    if (getpid() == case_pid) {
        report->finished = 1;
    }
}

static int teardown(void **state)
{
    (void)state;
    if (getpid() != case_pid) {
        leave(EXIT_SUBCHILD);
    }
    return 0;
}

/* Says where a child hangs. Not async-signal-safe in every detail; the process is lost anyway. */
static void on_limit(int number)
{
    static const char title[] = "stack at the time limit (addr2line -e PROGRAM OFFSET):\n";
    void *frames[64];
    int count = backtrace(frames, (int)TEST_COUNT(frames));

    (void)number;
    if (write(STDERR_FILENO, title, sizeof(title) - 1) > 0) {
        backtrace_symbols_fd(frames, count, STDERR_FILENO);
    }
    raise(SIGKILL);
}

/* cmocka as well: a failed assertion must find its way out on the stack on which it failed. */
static int run_one(void *context)
{
    const struct CMUnitTest one[] = {{current->name, accounted_body, NULL, teardown, NULL}};

    (void)context;
    return cmocka_run_group_tests_name(current->name, one, NULL, NULL);
}

static int run_bare(void *state)
{
    accounted_body(state);
    return 0;
}

static void child(void)
{
    struct sigaction limit = {.sa_handler = on_limit};
    void *preload[1];
    int leaked;
    int rc;

    case_pid = getpid();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output_fd, STDOUT_FILENO);
    dup2(output_fd, STDERR_FILENO);
    backtrace(preload, 1); /* loads libgcc now, not in the signal handler */
    sigaction(SIGXCPU, &limit, NULL);
    rc = place_run(run_one, NULL);
    leaked = report->finished && __lsan_do_recoverable_leak_check != NULL &&
             __lsan_do_recoverable_leak_check() != 0;
    leave(report->skipped ? EXIT_SKIPPED : !report->finished || rc != 0 || leaked);
}

static unsigned limit_ms(const struct test_case *test)
{
    const char *text = getenv("GYRE_TEST_LIMIT");
    unsigned seconds = text != NULL ? (unsigned)strtoul(text, NULL, 10) : 0;

    if (seconds == 0) {
        seconds = LIMIT_SECONDS;
    }
    if (test->limit_seconds != 0) {
        seconds = test->limit_seconds;
    }
    return seconds * 1000 * (SANITIZED || COUNTED ? SLOW_FACTOR : 1);
}

static int wait_process(pid_t pid, unsigned timeout_ms)
{
    struct pollfd ready = {.events = POLLIN};
    uint64_t limit = test_now() + timeout_ms * GYRE_MSEC;
    int rc = 0;

    ready.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (ready.fd < 0) {
        return 1; /* no such system call: wait without a limit, meson has one too */
    }
    while (rc <= 0 && test_now() < limit) {
        rc = poll(&ready, 1, (int)((limit - test_now()) / GYRE_MSEC) + 1);
    }
    close(ready.fd);
    return rc > 0;
}

static void print_wchan(pid_t pid)
{
    char path[64];
    char where[128] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/wchan", (int)pid);
    file = fopen(path, "re");
    if (file != NULL) {
        if (fgets(where, sizeof(where), file) != NULL && where[0] != '0') {
            print_error("it waits in the kernel: %s\n", where);
        }
        fclose(file);
    }
}

static int reap(pid_t pid)
{
    int hung = !wait_process(pid, limit_ms(current));
    int status = 0;

    if (hung) {
        print_error("time limit of %u ms reached\n", limit_ms(current));
        print_wchan(pid);
        kill(pid, SIGXCPU);
        wait_process(pid, 2000);
    }
    kill(-pid, SIGKILL); /* and whatever the case forked and left */
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return hung ? -1 : status;
}

static void show_output(void)
{
    char buffer[4096];
    off_t at = 0;
    ssize_t len;

    while (at < OUTPUT_MAX && (len = pread(output_fd, buffer, sizeof(buffer), at)) > 0) {
        fwrite(buffer, 1, (size_t)len, stderr);
        at += len;
    }
    fflush(stderr);
}

static void tap_line(const char *verdict, const char *directive, const char *why)
{
    if (tap != NULL) {
        fprintf(tap, "%s %u - %s%s%s\n", verdict, ++tap_number, current->name, directive, why);
        fflush(tap);
    }
}

static void judge(int status)
{
    if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) {
        skipped_count++;
        print_message("skipped: %s\n", report->why);
        tap_line("ok", " # SKIP ", report->why);
        skip();
    }
    if (status >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 && report->finished) {
        tap_line("ok", "", "");
        return;
    }
    show_output();
    tap_line("not ok", "", "");
    if (status < 0) {
        fail_msg("%s hangs", current->name);
    }
    if (WIFSIGNALED(status)) {
        fail_msg("%s was killed by signal %d (%s)", current->name, WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    }
    fail_msg("%s failed, exit status %d", current->name, WEXITSTATUS(status));
}

static void run_case(void **state)
{
    pid_t pid;

    current = *state;
    case_pid = getpid();
    memset(report, 0, sizeof(*report));
    ran_count++;
    if (no_fork()) {
        if (place_run(run_bare, state) != 0) {
            fail_msg("the place where %s ran is broken", current->name);
        }
        return;
    }
    output_fd = memfd_create("test-output", MFD_CLOEXEC);
    assert_true(output_fd >= 0);
    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        child();
    }
    judge(reap(pid));
    close(output_fd);
}

/* Without a child, what a case came to is known only here. */
static int finish_case(void **state)
{
    (void)teardown(state);
    place_clear();
    if (no_fork()) {
        skipped_count += report->skipped ? 1 : 0;
        tap_line(report->finished || report->skipped ? "ok" : "not ok",
                 report->skipped ? " # SKIP " : "", report->why);
    }
    return 0;
}

/* ---- the program ---- */

static int try_variant(void *unused)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *loop = NULL;

    (void)unused;
    if (gyre_loop_create(&loop, &options) == GYRE_ENOURING) {
        snprintf(report->why, sizeof(report->why), "%s", gyre_loop_refusal());
        leave(EXIT_SKIPPED);
    }
    leave(0);
}

/* Whether the variant runs here: asked in a child, so that no case inherits anything. */
static int variant_available(void)
{
    int status = 0;
    pid_t pid;

    if (!test_variant_uring()) {
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        place_run(try_variant, NULL);
        leave(1);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return !WIFEXITED(status) || WEXITSTATUS(status) != EXIT_SKIPPED;
}

static int skip_all(const char *module, const struct CMUnitTest *tests, size_t count)
{
    size_t i;

    print_message("%s: skipped: io_uring is not available: %s\n", module, report->why);
    for (i = 0; i < count && tap != NULL; i++) {
        current = tests[i].initial_state;
        tap_line("ok", " # SKIP ", report->why);
    }
    return tap != NULL ? 0 : EXIT_SKIPPED;
}

/* Results go to what was stdout; what cmocka prints must not be mistaken for them. */
static void open_tap(void)
{
    int fd;

    if (getenv("GYRE_TEST_TAP") == NULL) {
        return;
    }
    fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    tap = fd < 0 ? NULL : fdopen(fd, "w");
    if (tap == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0) {
        abort();
    }
}

static size_t select_cases(struct CMUnitTest *tests, const struct test_case *cases, size_t count,
                           const char *filter)
{
    size_t selected = 0;
    size_t i;

    for (i = 0; i < count; i++) {
        if (filter == NULL || strstr(cases[i].name, filter) != NULL) {
            tests[selected++] = (struct CMUnitTest){
                .name = cases[i].name,
                .test_func = run_case,
                .teardown_func = finish_case,
                .initial_state = (void *)(uintptr_t)&cases[i],
            };
        }
    }
    return selected;
}

static int run_selected(const char *module, const struct CMUnitTest *tests, size_t count)
{
    int failed;

    open_tap();
    if (tap != NULL) {
        fprintf(tap, "1..%zu\n", count);
        fflush(tap);
    }
    if (!variant_available()) {
        return skip_all(module, tests, count);
    }
    failed = _cmocka_run_group_tests(module, tests, count, NULL, NULL);
    if (tap != NULL) {
        return 0; /* the lines say it; any other status would mean that the harness broke */
    }
    return failed != 0 ? 1 : skipped_count == ran_count ? EXIT_SKIPPED : 0;
}

int test_main(const char *module, const struct test_case *cases, size_t count)
{
    struct CMUnitTest *tests = calloc(count + 1, sizeof(*tests));
    const char *filter = saved_argc > 1 ? saved_argv[1] : NULL;
    size_t i;
    int rc;

    report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tests == NULL || report == MAP_FAILED) {
        abort();
    }
    place_share();
    if (filter != NULL && strcmp(filter, "--list") == 0) {
        for (i = 0; i < count; i++) {
            puts(cases[i].name);
        }
        free(tests);
        return 0;
    }
    count = select_cases(tests, cases, count, filter);
    rc = run_selected(module, tests, count);
    free(tests);
    return rc;
}

void test_skip(const char *why)
{
    report->skipped = 1;
    snprintf(report->why, sizeof(report->why), "%s", why);
    skip();
    abort();
}

/* ---- processes of a case ---- */

int test_on_valgrind(void)
{
    const char *preload = getenv("LD_PRELOAD");

    return preload != NULL && strstr(preload, "vgpreload") != NULL;
}

/* Valgrind looks for leaks in a forked child as it exits, and finds what is its parent's. It lets go
 * of a process that becomes another program. */
static void leave_child(int status)
{
    char number[16];

    if (test_on_valgrind()) {
        fflush(NULL);
        snprintf(number, sizeof(number), "%d", status);
        unsetenv("LD_PRELOAD");
        execl("/bin/sh", "sh", "-c", "exit $0", number, (char *)NULL);
    }
    leave(status);
}

int test_child_status(int (*body)(void *), void *argument)
{
    const struct rlimit no_core = {0, 0};
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        setrlimit(RLIMIT_CORE, &no_core);
        leave_child(body(argument));
    }
    while (waitpid(pid, &status, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return status;
}

void test_child_passes(int (*body)(void *), void *argument)
{
    int status = test_child_status(body, argument);

    if (WIFSIGNALED(status)) {
        fail_msg("the forked process was killed by signal %d (%s)", WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

void test_child_aborts(int (*body)(void *), void *argument)
{
    int status = test_child_status(body, argument);

    if (!WIFSIGNALED(status)) {
        fail_msg("the forked process exited with %d, SIGABRT was expected", WEXITSTATUS(status));
    }
    assert_int_equal(WTERMSIG(status), SIGABRT);
}
