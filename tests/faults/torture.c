/*
 * The torturer. Each injection runs the case in a child of its own:
 *
 *     count:  no strike; along which chains of callers (chain.c) do calls come, how long does it take?
 *     strike: for each chain and every error that its call may have, the first call along it
 *
 * and judges how the child ends:
 *
 *     killed by a signal, a sanitizer's report      a defect: "crash"
 *     still there at its limit, or asleep for long  a defect: "hang". Not so if a case that expects
 *                                                   success was told of an error, and now waits
 *                                                   for what cannot happen: then it "stalls"
 *     at its end with more descriptors, allocations
 *     or mappings than at its beginning             a defect: "leak"
 *     an assertion of the case                      a defect if the case is strict: "failed"
 *
 * The next run of a case need not make the same calls in the same order. So a strike is the n-th call
 * along a chain, and not the k-th of all; one that is not met is counted. Processes that a case forks
 * are struck as well.
 *
 * A program of the conformance suite is linked with --wrap=test_main, so that it comes here first.
 */
#include "faults/torture.h"

#include "place.h"

#include <dirent.h>
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
    LOOK_MS = 25,    /* so often a child is looked at */
    IDLE_MS = 250,   /* in which nobody of a child has run: it waits for ever, most likely */
    IDLE_FACTOR = 2, /* and so many times what the case takes by itself */
    PATIENCE = 4,    /* times its limit, before it is said to hang */
    SETTLE_TRIES = 500,
};

/* What a child tells, in shared memory. */
struct tale {
    int finished;
    int struck;
    int leaks;
    char skipped[256];
};

struct limits {
    uint64_t all_ns;
    uint64_t idle_ns;
};

struct verdict {
    enum torture_end end;
    uint64_t took_ns;
};

static struct tale *tale;
static struct faults_places *places; /* in shared memory: processes that cases fork count too */
static int output;
static pid_t case_pid;
static struct torture_sum sum;

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
    leave(EARLY);
}

static void on_limit(int number)
{
    void *frames[64];
    const int count = backtrace(frames, (int)TEST_COUNT(frames));

    (void)number;
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

/* Chains of callers begin here, whoever calls it. */
__attribute__((noinline)) static void call_case(const struct test_case *test)
{
    faults_chain_from(__builtin_frame_address(0));
    test->body();
    faults_chain_from(NULL);
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
    call_case(test);
    if (getpid() != case_pid) {
        leave(EARLY);
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

/* How often a thread has gone to sleep; 0 if it does not sleep now. */
static uint64_t naps_of_thread(const char *status_path)
{
    FILE *file = fopen(status_path, "re");
    unsigned long long naps = 0;
    char state = 'S';
    char line[128];

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "State: %c", &state) == 1 && state != 'S') {
            break;
        }
        if (sscanf(line, "voluntary_ctxt_switches: %llu", &naps) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return state == 'S' ? naps + 1 : 0;
}

/* The same of all threads of a process; 0 if one of them does not sleep. */
static uint64_t naps_of(pid_t pid)
{
    char path[300];
    uint64_t naps = 0;
    int awake = 0;
    DIR *tasks;

    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    tasks = opendir(path);
    for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
        if (entry->d_name[0] != '.') {
            uint64_t one;

            snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, entry->d_name);
            one = naps_of_thread(path);
            naps += one;
            awake |= one == 0;
        }
    }
    if (tasks != NULL) {
        closedir(tasks);
    }
    return awake ? 0 : naps;
}

/* Whether it ended in time, or before nobody of it did anything any more. */
static int wait_for(pid_t pid, const struct limits *limits)
{
    struct pollfd ready = {.events = POLLIN};
    const uint64_t end = test_now() + limits->all_ns;
    uint64_t busy_at = test_now();
    uint64_t before = 0;
    int rc = 0;

    ready.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    while (rc <= 0 && test_now() < end && test_now() - busy_at < limits->idle_ns) {
        uint64_t naps;

        rc = poll(&ready, 1, LOOK_MS);
        naps = rc <= 0 ? naps_of(pid) : 0;
        busy_at = naps == 0 || naps != before ? test_now() : busy_at;
        before = naps;
    }
    close(ready.fd);
    return rc > 0;
}

static enum torture_end judge(int status, int strict)
{
    if (WIFSIGNALED(status)) {
        return TORTURE_CRASH;
    }
    if (tale->leaks) {
        return TORTURE_LEAK;
    }
    if (tale->finished) {
        return TORTURE_PASSED;
    }
    /* Sanitizers end with statuses of their own. */
    return WEXITSTATUS(status) != EARLY ? TORTURE_CRASH : strict ? TORTURE_FAILED : TORTURE_EARLY;
}

/* One child. */
static struct verdict run(const struct test_case *test, const struct limits *limits, int strict)
{
    static const struct limits to_die = {GYRE_SEC, GYRE_SEC};
    struct verdict verdict = {TORTURE_HANG, test_now()};
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
    hung = !wait_for(pid, limits);
    if (hung) {
        kill(pid, SIGXCPU);
        wait_for(pid, &to_die);
    }
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    place_clear();
    verdict.took_ns = test_now() - verdict.took_ns;
    if (!hung) {
        verdict.end = judge(status, strict);
    }
    return verdict;
}

/* Returns whether the strike was met. */
static int inject(const struct test_case *test, const struct torture_strike *strike,
                  const struct limits *limits, int strict)
{
    const struct limits patient = {PATIENCE * limits->all_ns, PATIENCE * limits->all_ns};
    struct verdict verdict;

    faults_strike_chain(strike->call, strike->error, strike->chain, strike->place);
    verdict = run(test, limits, strict);
    if (verdict.end == TORTURE_HANG && !strict) {
        verdict.end = torture_hang(test->name, strike->call, strike->error);
    }
    if (verdict.end == TORTURE_HANG) { /* it may only have slept: once more, with much time */
        verdict = run(test, &patient, strict);
    }
    if (!tale->struck && verdict.end < TORTURE_CRASH) {
        sum.missed++;
        return 0;
    }
    torture_count(&sum, test->name, verdict.end, strike, output);
    return 1;
}

/* The first call that came along a chain, or as many as are asked for, with each error. */
static void strike_place(const struct test_case *test, const struct faults_place *place,
                         const struct limits *limits, int strict)
{
    const uint64_t first = torture_first(1);

    for (const int *error = faults_call_errors(place->call); *error != 0; error++) {
        struct torture_strike strike = {place->call, *error, 1, place->chain};

        for (; strike.place <= first && strike.place <= place->count; strike.place++) {
            inject(test, &strike, limits, strict);
        }
        sum.places_left_out += place->count - (strike.place - 1);
    }
}

static void torture_one(const struct test_case *test, int strict)
{
    const uint64_t limit_ns = (test->limit_seconds != 0 ? test->limit_seconds : 10) * GYRE_SEC;
    struct limits limits = {2 * limit_ns, 2 * limit_ns};
    const uint64_t before = sum.injections;
    const uint64_t began_ns = test_now();
    struct verdict verdict;

    memset(places, 0, sizeof(*places));
    faults_strike(FAULTS_CALLS, 0, 0);
    faults_record(places);
    verdict = run(test, &limits, strict);
    faults_record(NULL);
    if (verdict.end != TORTURE_PASSED) {
        torture_leave_out(&sum, test->name,
                          tale->skipped[0] != '\0'
                              ? tale->skipped
                              : "without a failure it does not come to its end",
                          tale->skipped[0] != '\0' ? -1 : output);
        return;
    }
    if (places->lost > 0) {
        torture_leave_out(&sum, test->name, "there is no room for its places", -1);
        return;
    }
    limits.all_ns = LIMIT_LEAST_MS * GYRE_MSEC + LIMIT_FACTOR * verdict.took_ns;
    limits.idle_ns = IDLE_MS * GYRE_MSEC + IDLE_FACTOR * verdict.took_ns;
    for (size_t i = 0; i < FAULTS_PLACES_MAX; i++) {
        if (places->at[i].chain != 0 && torture_is_chosen(places->at[i].call)) {
            strike_place(test, &places->at[i], &limits, strict);
        }
    }
    sum.cases++;
    printf("%s: %llu injections, %llu ms\n", test->name,
           (unsigned long long)(sum.injections - before),
           (unsigned long long)((test_now() - began_ns) / GYRE_MSEC));
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
    tale = mmap(NULL, sizeof(*tale), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    output = memfd_create("torture-output", MFD_CLOEXEC);
    torture_report = stdout;
    faults_strike_tells(&tale->struck);
    place_share();
    places = mmap(NULL, sizeof(*places), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tale == MAP_FAILED || places == MAP_FAILED || output < 0) {
        abort();
    }
    if (!strict) {
        warm_up();
    }
    if (getenv("GYRE_STRIKE") != NULL) {            /* one of what this has told, for a debugger */
        faults_strike_parse(getenv("GYRE_STRIKE")); /* from here on */
        for (size_t i = 0; i < count; i++) {
            if (torture_is_asked(&cases[i])) {
                call_case(&cases[i]);
                place_clear();
            }
        }
        return 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (torture_is_asked(&cases[i])) {
            torture_one(&cases[i], strict);
        }
    }
    return torture_summary(&sum, module);
}

/* ---- programs of the conformance suite ---- */

int __real_test_main(const char *module, const struct test_case *cases, size_t count);
void __real_test_skip(const char *why) __attribute__((noreturn));

int __wrap_test_main(const char *module, const struct test_case *cases, size_t count);

int __wrap_test_main(const char *module, const struct test_case *cases, size_t count)
{
    const char *what = getenv("GYRE_TORTURE");

    if (what == NULL || what[0] == '\0') {
        return __real_test_main(module, cases, count);
    }
    return torture_run(module, cases, count, 0);
}

/* The first run of a case finds out. */
void __wrap_test_skip(const char *why) __attribute__((noreturn));

void __wrap_test_skip(const char *why)
{
    if (tale == NULL) {
        __real_test_skip(why);
    }
    snprintf(tale->skipped, sizeof(tale->skipped), "%s", why);
    leave(EARLY);
}
