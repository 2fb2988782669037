/*
 * The harness: see harness.h for what it promises.
 *
 *     cmocka --> run_case() --fork--> child: cmocka again, with one test: account, body, account
 *                    |                  |
 *                    +-- time limit <---+-- report (shared memory), output (a memfd)
 *
 * cmocka leaves a failed assertion by longjmp, to the last setjmp of the process that failed. So the
 * child runs a cmocka group of its own, and a process that a case forked and whose assertion failed
 * ends in teardown(), before it could go on with somebody else's cases.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
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
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum {
    LIMIT_SECONDS = 10,    /* of a case that names none */
    SANITIZED_FACTOR = 4,  /* what sanitizers may cost */
    SETTLE_MS = 2000,      /* for threads that have ended but are not reaped by the kernel yet */
    EXIT_SKIPPED = 77,     /* meson: the whole program was skipped */
    EXIT_SUBCHILD = 111,   /* an assertion failed in a process that the case forked */
    FD_TARGET_LEN = 64,    /* of readlink(/proc/self/fd/N), enough to name a socket or a pipe */
    OUTPUT_MAX = 64 << 10, /* bytes of a failed case's output that are shown */
};

/* What the child tells its parent, in shared memory. */
struct report {
    int finished;
    int skipped;
    char why[512];
};

struct open_fd {
    int number;
    char target[FD_TARGET_LEN];
};

struct account {
    struct open_fd *fds;
    size_t fd_count;
    size_t threads;
    size_t live;
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
void __gcov_dump(void);
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

/* ---- what a case must leave as it found it ---- */

static void read_target(int number, char *out_target)
{
    char path[64];
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", number);
    len = readlink(path, out_target, FD_TARGET_LEN - 1);
    out_target[len < 0 ? 0 : len] = '\0';
}

/* The numbers in a directory of /proc/self, such as fd or task; @out may be NULL. */
static size_t list_numbers(const char *path, int *out, size_t max)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    size_t count = 0;

    if (dir == NULL) {
        return 0;
    }
    while ((entry = readdir(dir)) != NULL) {
        int number = (int)strtol(entry->d_name, NULL, 10);

        if (entry->d_name[0] == '.' || number == dirfd(dir)) {
            continue;
        }
        if (out != NULL && count < max) {
            out[count] = number;
        }
        count++;
    }
    closedir(dir);
    return count;
}

size_t test_open_fds(void)
{
    return list_numbers("/proc/self/fd", NULL, 0);
}

/* A worker of io_uring, named iou-wrk-... or iou-sqp-...: the kernel's, which ends it when it likes
 * after the ring is gone. */
static int is_kernel_worker(const char *task)
{
    char path[64];
    char name[8] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/proc/self/task/%.16s/comm", task);
    file = fopen(path, "re");
    if (file == NULL) {
        return 1; /* gone meanwhile */
    }
    if (fgets(name, sizeof(name), file) == NULL) {
        name[0] = '\0';
    }
    fclose(file);
    return strncmp(name, "iou-", 4) == 0;
}

static size_t count_tasks(int kernel_too)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    size_t count = 0;

    assert_non_null(tasks);
    while ((entry = readdir(tasks)) != NULL) {
        count += entry->d_name[0] != '.' && (kernel_too || !is_kernel_worker(entry->d_name));
    }
    closedir(tasks);
    return count;
}

size_t test_threads(void)
{
    return count_tasks(0);
}

size_t test_tasks(void)
{
    return count_tasks(1);
}

size_t test_resident(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long total = 0;
    unsigned long resident = 0;

    if (file != NULL) {
        if (fscanf(file, "%lu %lu", &total, &resident) != 2) {
            resident = 0;
        }
        fclose(file);
    }
    /* Sanitized: mostly what the sanitizer keeps in quarantine. */
    return SANITIZED ? 0 : resident * (size_t)sysconf(_SC_PAGESIZE);
}

static void account_take(struct account *account)
{
    size_t max = test_open_fds() + 64;
    int *numbers = calloc(max, sizeof(*numbers));
    size_t i;

    assert_non_null(numbers);
    account->fd_count = list_numbers("/proc/self/fd", numbers, max);
    account->fds = calloc(account->fd_count + 1, sizeof(*account->fds));
    assert_non_null(account->fds);
    for (i = 0; i < account->fd_count; i++) {
        account->fds[i].number = numbers[i];
        read_target(numbers[i], account->fds[i].target);
    }
    free(numbers);
    account->threads = test_threads();
    account->live = gyre_allocator_live();
}

static const struct open_fd *account_find(const struct account *account, int number)
{
    size_t i;

    for (i = 0; i < account->fd_count; i++) {
        if (account->fds[i].number == number) {
            return &account->fds[i];
        }
    }
    return NULL;
}

/* Prints what is in @a and not, or not the same, in @b. */
static int differences(const struct account *a, const struct account *b, const char *what)
{
    int count = 0;
    size_t i;

    for (i = 0; i < a->fd_count; i++) {
        const struct open_fd *other = account_find(b, a->fds[i].number);

        if (other == NULL || strcmp(other->target, a->fds[i].target) != 0) {
            count++;
            if (count <= 8) {
                print_error("descriptor %d (%s) %s\n", a->fds[i].number, a->fds[i].target, what);
            }
        }
    }
    return count;
}

/* Whether the process has children, alive or not waited for. */
static int has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0;
}

/* pthread_join() returns, and a ring is closed, a moment before the kernel has reaped the threads. */
static size_t threads_settled(size_t expected)
{
    uint64_t limit = test_now() + SETTLE_MS * GYRE_MSEC;
    size_t count = test_threads();

    while (count > expected && test_now() < limit) {
        poll(NULL, 0, 1);
        count = test_threads();
    }
    return count;
}

static void account_check(const struct account *before)
{
    struct account after;
    size_t threads = threads_settled(before->threads);
    int failures = 0;

    account_take(&after);
    failures += differences(&after, before, "left open");
    failures += differences(before, &after, "was open before the case and is not any more");
    if (after.live != before->live) {
        print_error("%zu allocations of the library alive, %zu before\n", after.live, before->live);
        failures++;
    }
    if (threads != before->threads) {
        print_error("%zu threads, %zu before\n", threads, before->threads);
        failures++;
    }
    if (has_children()) {
        print_error("child processes left\n");
        failures++;
    }
    free(after.fds);
    if (failures > 0) {
        fail_msg("the case leaks: %d findings", failures);
    }
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

static void child(void)
{
    const struct CMUnitTest one[] = {{current->name, accounted_body, NULL, teardown, NULL}};
    struct sigaction limit = {.sa_handler = on_limit};
    void *preload[1];
    int leaked;

    case_pid = getpid();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output_fd, STDOUT_FILENO);
    dup2(output_fd, STDERR_FILENO);
    backtrace(preload, 1); /* loads libgcc now, not in the signal handler */
    sigaction(SIGXCPU, &limit, NULL);
    cmocka_run_group_tests_name(current->name, one, NULL, NULL);
    leaked = report->finished && __lsan_do_recoverable_leak_check != NULL &&
             __lsan_do_recoverable_leak_check() != 0;
    leave(report->skipped ? EXIT_SKIPPED : !report->finished || leaked);
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
    return seconds * 1000 * (SANITIZED ? SANITIZED_FACTOR : 1);
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
        accounted_body(state);
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
    if (no_fork()) {
        skipped_count += report->skipped ? 1 : 0;
        tap_line(report->finished || report->skipped ? "ok" : "not ok",
                 report->skipped ? " # SKIP " : "", report->why);
    }
    return 0;
}

/* ---- the program ---- */

/* Whether the variant runs here: asked in a child, so that no case inherits anything. */
static int variant_available(void)
{
    struct gyre_loop_options options = test_options();
    struct gyre_loop *loop = NULL;
    int status = 0;
    pid_t pid;

    if (!test_variant_uring()) {
        return 1;
    }
    pid = fork();
    if (pid == 0) {
        if (gyre_loop_create(&loop, &options) == GYRE_ENOURING) {
            snprintf(report->why, sizeof(report->why), "%s", gyre_loop_refusal());
            leave(EXIT_SKIPPED);
        }
        leave(0);
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

/* ---- sockets, time, processes ---- */

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

uint64_t test_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * GYRE_SEC + (uint64_t)now.tv_nsec;
}

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
