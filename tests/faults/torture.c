/*
 * The torturer. Each injection runs the case in a child of its own:
 *
 *     count:  no strike; how often is each call made, how long does it take?
 *     strike: (call, error, place) for every call that was made and every error that it may have,
 *             places 1, 2, ... until one is not reached any more
 *
 * and judges how the child ends:
 *
 *     killed by a signal, a sanitizer's report      a defect: "crash"
 *     still there at its limit                      a defect: "hang". Not so if a case that expects
 *                                                   success was told of an error, and now waits
 *                                                   for what cannot happen: then it "stalls"
 *     at its end with more descriptors, allocations
 *     or mappings than at its beginning             a defect: "leak"
 *     an assertion of the case                      a defect if the case is strict: "failed"
 *
 * Where a case makes thousands of calls, not every place can be tried: the first ones are, then the
 * rest in even steps, as many as the time allows. What was left out is counted and told.
 *
 * A program of the conformance suite is linked with --wrap=test_main, so that it comes here first.
 */
#include "faults/torture.h"

#include "faults/faults.h"
#include "place.h"

#include <errno.h>
#include <execinfo.h>
#include <poll.h>
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
    EARLY = 99,            /* status of a child that an assertion ended */
    LIMIT_LEAST_MS = 2000, /* of a child; more for a case that takes long by itself */
    LIMIT_FACTOR = 5,
    BUDGET_MS = 20000, /* for a case */
    PLACES_LEAST = 1,  /* that are tried of each (call, error) */
    OUTPUT_MAX = 8192, /* bytes of a child's output that are shown */
    SETTLE_TRIES = 500,
};

/* What a child tells, in shared memory. */
struct tale {
    int finished;
    int struck;
    int leaks;
    int waits_in_case; /* at its limit it was in no call of the library */
    uint64_t counts[FAULTS_CALLS];
};

struct verdict {
    const char *defect; /* NULL: none */
    uint64_t took_ns;
};

static struct tale *tale;
static int output;
static pid_t case_pid;
static struct {
    uint64_t cases, injections, left_out, early, passed, stalls, defects;
} sum;

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
#if defined(TEST_COVERAGE)
void __gcov_dump(void);
#endif

static void leave(int status) __attribute__((noreturn));

static void leave(int status)
{
    fflush(NULL);
#if defined(TEST_COVERAGE)
    __gcov_dump();
#endif
    _exit(status);
}

/* ---- in the child ---- */

/* cmocka ends a failed assertion outside of its own tests by exit(3). */
static void at_exit(void)
{
    tale->struck |= getpid() == case_pid && faults_strike_done();
    leave(EARLY);
}

static void on_limit(int number)
{
    void *frames[64];
    const int count = backtrace(frames, (int)TEST_COUNT(frames));

    (void)number;
    tale->waits_in_case = !faults_inside();
    tale->struck = faults_strike_done();
    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    raise(SIGKILL);
}

static int grew(const char *what, size_t before, size_t after)
{
    if (after != before) {
        fprintf(stderr, "%s: %zu before, %zu after\n", what, before, after);
    }
    return after != before;
}

/* Threads of the kernel's and of works end a moment later. */
static size_t settled_fds(size_t expected)
{
    size_t count = test_open_fds();

    for (int i = 0; count != expected && i < SETTLE_TRIES; i++) {
        poll(NULL, 0, 1);
        count = test_open_fds();
    }
    return count;
}

static void child(const struct test_case *test)
{
    const struct rlimit no_core = {0, 0};
    struct sigaction limit = {.sa_handler = on_limit};
    void *preload[1];
    size_t fds;

    case_pid = getpid();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    backtrace(preload, 1); /* loads libgcc now, not in the signal handler */
    sigaction(SIGXCPU, &limit, NULL);
    atexit(at_exit);
    fds = test_open_fds();
    test->body();
    if (getpid() != case_pid) {
        leave(EARLY);
    }
    tale->struck = faults_strike_done();
    for (int i = 0; i < FAULTS_CALLS; i++) {
        tale->counts[i] = faults_calls((enum faults_call)i);
    }
    tale->leaks = grew("descriptors", fds, settled_fds(fds)) +
                  grew("allocations", 0, gyre_allocator_live()) +
                  grew("bytes mapped", 0, faults_mapped());
    tale->leaks += __lsan_do_recoverable_leak_check != NULL && tale->leaks == 0 &&
                   __lsan_do_recoverable_leak_check() != 0;
    tale->finished = 1;
    leave(0);
}

/* ---- around it ---- */

static int wait_for(pid_t pid, uint64_t limit_ns)
{
    struct pollfd ready = {.events = POLLIN};
    const uint64_t end = test_now() + limit_ns;
    int rc = 0;

    ready.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    while (rc <= 0 && test_now() < end) {
        rc = poll(&ready, 1, (int)((end - test_now()) / GYRE_MSEC) + 1);
    }
    close(ready.fd);
    return rc > 0;
}

static void show_output(void)
{
    char text[OUTPUT_MAX];
    const ssize_t len = pread(output, text, sizeof(text), 0);

    if (len > 0) {
        fwrite(text, 1, (size_t)len, stdout);
    }
}

/* What the library gets over by itself: nobody is told, so nobody may wait for ever. */
static int is_passing(enum faults_call call, int error)
{
    return error == EINTR || error == 512 || error == EALREADY ||
           (error == EAGAIN && call >= FAULTS_REQUEST_accept) ||
           (error == ENOBUFS && call == FAULTS_REQUEST_recv) ||
           (call == FAULTS_CALL_io_uring_enter2 && (error == EAGAIN || error == EBUSY)) ||
           (call == FAULTS_CALL_epoll_pwait2 && error == ENOSYS);
}

static const char *judge(int status, int hung, int strict)
{
    if (hung) {
        return tale->waits_in_case && !strict ? NULL : "hang";
    }
    if (WIFSIGNALED(status)) {
        return "crash";
    }
    if (tale->leaks) {
        return "leak";
    }
    if (tale->finished) {
        return NULL;
    }
    /* Sanitizers end with statuses of their own. */
    return WEXITSTATUS(status) != EARLY ? "crash" : strict ? "failed" : NULL;
}

/* One child. */
static struct verdict run(const struct test_case *test, uint64_t limit_ns, int strict)
{
    struct verdict verdict = {NULL, test_now()};
    int status = 0;
    int hung;
    pid_t pid;

    memset(tale, 0, sizeof(*tale));
    if (ftruncate(output, 0) < 0 || lseek(output, 0, SEEK_SET) < 0) {
        abort();
    }
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        child(test);
    }
    hung = !wait_for(pid, limit_ns);
    if (hung) {
        kill(pid, SIGXCPU);
        wait_for(pid, GYRE_SEC);
    }
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    place_clear();
    verdict.took_ns = test_now() - verdict.took_ns;
    verdict.defect = judge(status, hung, strict);
    return verdict;
}

static void tell_defect(const struct test_case *test, const char *defect, enum faults_call call,
                        int error, uint64_t place)
{
    const char *name = strerrorname_np(error);
    char number[16];

    snprintf(number, sizeof(number), "%d", error);
    sum.defects++;
    printf("DEFECT %s: %s, GYRE_STRIKE=%s:%s:%llu\n", defect, test->name, faults_call_name(call),
           name != NULL ? name : number, (unsigned long long)place);
    show_output();
    fflush(stdout);
}

/* Returns whether the strike was met. */
static int inject(const struct test_case *test, enum faults_call call, int error, uint64_t place,
                  uint64_t limit_ns, int strict)
{
    struct verdict verdict;

    faults_strike(call, error, place);
    verdict = run(test, limit_ns, strict);
    if (verdict.defect != NULL && strcmp(verdict.defect, "hang") == 0 && !strict &&
        !is_passing(call, error)) {
        sum.stalls++;
        verdict.defect = NULL;
    }
    sum.injections += (uint64_t)(tale->struck || verdict.defect != NULL);
    sum.passed += (uint64_t)(tale->struck && tale->finished && verdict.defect == NULL);
    sum.early += (uint64_t)(tale->struck && !tale->finished && verdict.defect == NULL);
    if (verdict.defect != NULL) {
        tell_defect(test, verdict.defect, call, error, place);
    }
    return tale->struck || verdict.defect != NULL;
}

/* Places 1, 2, ... up to one that is not met; behind the first half of @most in steps, so that
 * about @most are tried of @count. */
static void strike_all(const struct test_case *test, enum faults_call call, uint64_t count,
                       uint64_t most, uint64_t limit_ns, int strict)
{
    const uint64_t step = count > most ? (count - most / 2) / (most - most / 2) + 1 : 1;

    for (const int *error = faults_call_errors(call); *error != 0; error++) {
        uint64_t place = 1;
        uint64_t tried = 0;

        while (inject(test, call, *error, place, limit_ns, strict)) {
            tried++;
            place += place < most / 2 ? 1 : step;
        }
        sum.left_out += count > most && count > tried ? count - tried : 0;
    }
}

static int is_chosen(enum faults_call call, const char *what)
{
    return strcmp(what, "all") == 0 ||
           (call == FAULTS_CALL_memory_refused) == (strcmp(what, "memory") == 0);
}

/* How many places of each (call, error) there is time for. */
static uint64_t affordable(const uint64_t *counts, const char *what, uint64_t took_ns)
{
    const char *text = getenv("GYRE_TORTURE_MS");
    const uint64_t budget_ms = text != NULL ? strtoull(text, NULL, 10) : BUDGET_MS;
    uint64_t pairs = 1;
    uint64_t most;

    for (int i = 0; i < FAULTS_CALLS; i++) {
        const int *errors = faults_call_errors((enum faults_call)i);

        for (; counts[i] > 0 && is_chosen((enum faults_call)i, what) && *errors != 0; errors++) {
            pairs++;
        }
    }
    if (budget_ms == 0) {
        return UINT64_MAX;
    }
    most = budget_ms * GYRE_MSEC / (took_ns * pairs + 1);
    return most < PLACES_LEAST ? PLACES_LEAST : most;
}

static void torture_one(const struct test_case *test, const char *what, int strict)
{
    const uint64_t limit_ns = (test->limit_seconds != 0 ? test->limit_seconds : 10) * GYRE_SEC;
    const uint64_t before = sum.injections;
    uint64_t counts[FAULTS_CALLS];
    struct verdict verdict;
    uint64_t most;

    faults_strike(FAULTS_CALLS, 0, 0);
    verdict = run(test, 2 * limit_ns, strict);
    if (!tale->finished || verdict.defect != NULL) {
        printf("%s: left out, without a failure it does not come to its end%s%s\n", test->name,
               verdict.defect != NULL ? ": " : "", verdict.defect != NULL ? verdict.defect : "");
        return;
    }
    memcpy(counts, tale->counts, sizeof(counts));
    most = affordable(counts, what, verdict.took_ns);
    for (int i = 0; i < FAULTS_CALLS; i++) {
        if (counts[i] > 0 && is_chosen((enum faults_call)i, what)) {
            strike_all(test, (enum faults_call)i, counts[i], most,
                       LIMIT_LEAST_MS * GYRE_MSEC + LIMIT_FACTOR * verdict.took_ns, strict);
        }
    }
    sum.cases++;
    printf("%s: %llu injections\n", test->name, (unsigned long long)(sum.injections - before));
    fflush(stdout);
}

/* The driver's self-test, whose outcome a process remembers: tortured by a case of its own, and not by
 * every one. */
static void warm_up(void)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;

    if (gyre_loop_create(&loop, &options) == 0) {
        gyre_loop_destroy(loop);
    }
}

int torture_run(const char *module, const struct test_case *cases, size_t count, int strict)
{
    const char *what = getenv("GYRE_TORTURE");
    const char *only = getenv("GYRE_TORTURE_ONLY");

    tale = mmap(NULL, sizeof(*tale), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    output = memfd_create("torture-output", MFD_CLOEXEC);
    if (tale == MAP_FAILED || output < 0) {
        abort();
    }
    place_share();
    if (getenv("GYRE_STRIKE") != NULL) { /* one of what this has told, for a debugger */
        for (size_t i = 0; i < count; i++) {
            if (only == NULL || strstr(cases[i].name, only) != NULL) {
                cases[i].body();
                place_clear();
            }
        }
        return 0;
    }
    if (!strict) {
        warm_up();
    }
    for (size_t i = 0; i < count; i++) {
        if (only == NULL || strstr(cases[i].name, only) != NULL) {
            torture_one(&cases[i], what != NULL ? what : "all", strict);
        }
    }
    printf("= %s: %llu cases, %llu injections (%llu passed, %llu ended early, %llu stalled), "
           "%llu places left out, %llu defects\n",
           module, (unsigned long long)sum.cases, (unsigned long long)sum.injections,
           (unsigned long long)sum.passed, (unsigned long long)(sum.early - sum.stalls),
           (unsigned long long)sum.stalls, (unsigned long long)sum.left_out,
           (unsigned long long)sum.defects);
    return sum.defects > 0;
}

/* ---- programs of the conformance suite ---- */

int __real_test_main(const char *module, const struct test_case *cases, size_t count);
int __wrap_test_main(const char *module, const struct test_case *cases, size_t count);

int __wrap_test_main(const char *module, const struct test_case *cases, size_t count)
{
    const char *what = getenv("GYRE_TORTURE");

    if (what == NULL || what[0] == '\0') {
        return __real_test_main(module, cases, count);
    }
    return torture_run(module, cases, count, 0);
}
