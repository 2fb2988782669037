/*
 * The torturer in virtual time. The cases are programs on the simulated kernel (tests/sim/place.c),
 * with the library's real drivers, and between these and the kernel lies the table that fails calls.
 * Nothing there waits in real time, and a whole world is memory of one process. So each case is run
 * once, and at each place at which a call could fail the process forks:
 *
 *     runner:  call 1 --- call 2 --- call 3 --- ... --- the end
 *                |          |          |
 *     branch:    fails      fails      fails, and goes on from there to its own end
 *
 * A branch costs a fork and what is left of the case, which is little where the failure ends it, so
 * every place of nearly every case can be tried, with every error. Where nobody can go on any more the
 * world says so at once: that is what a hang is here. Only the library's calls fail: those that the
 * cases make themselves go past the table (tests/sim/redirect.h).
 */
#include "faults/torture.h"
#include "sim/place_world.h"
#include "sim/sim.h"
#include "sim/thread.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    EARLY = 99,  /* status of a process that an assertion of the case ended */
    STUCK = 98,  /* the world cannot go on */
    BROKEN = 97, /* the world failed in another way */
    SPINS = 96,  /* at its limit, of processor time */
    LIMIT_LEAST_MS = 300,
    LIMIT_FACTOR = 5,
    BASE_LIMIT_MS = 120000,
    FIRST = 32, /* of each sort of call */
    MANY_CALLS = 10000,
    FIRST_OF_MANY = 1, /* in a case that makes more than those */
};

/* What a process tells, in shared memory. */
struct tale {
    int finished;
    int leaks;
    uint64_t took_ns; /* of the processor, the case alone */
    uint64_t counts[FAULTS_CALLS];
    char skipped[256];
};

static struct {
    struct torture_sum sum;
    struct tale base;   /* the case without a failure */
    struct tale branch; /* the last branch */
    struct faults_places places;
} * shared;

static struct tale *tale; /* this process's own */
static int output;
static const struct test_case *current;
static int is_branch;
static pid_t runner_pid;
static uint8_t *due[FAULTS_CALLS];   /* for each call of a sort whether it is to be struck */
static uint64_t tried[FAULTS_CALLS]; /* injections so far */

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

static uint64_t processor_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * GYRE_SEC + (uint64_t)now.tv_nsec;
}

/* ---- the case ---- */

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
    _exit(SPINS);
}

/* Where it crashed; then it does so again, and is killed. */
static void on_crash(int number)
{
    void *frames[64];
    const int count = backtrace(frames, (int)TEST_COUNT(frames));

    backtrace_symbols_fd(frames, count, STDERR_FILENO);
    signal(number, SIG_DFL);
    raise(number);
}

static void limit_ms(uint64_t ms)
{
    const struct itimerval limit = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000)}};

    setitimer(ITIMER_PROF, &limit, NULL);
}

static void on_world_failed(const char *why)
{
    fprintf(stderr, "%s\n", why);
    if (strstr(why, "what will never happen") == NULL && strstr(why, "end of time") == NULL) {
        leave(BROKEN);
    }
    leave(STUCK);
}

static int grew(const char *what, size_t before, size_t after)
{
    if (after != before) {
        fprintf(stderr, "%s: %zu before, %zu after\n", what, before, after);
    }
    return after != before;
}

/* The driver's self-test, whose outcome a process remembers: the scenarios torture it. */
static void warm_up(void)
{
    const struct gyre_loop_options options = test_options();
    struct gyre_loop *loop;

    if (gyre_loop_create(&loop, &options) == 0) {
        gyre_loop_destroy(loop);
    }
}

/* A program on the simulated kernel; in a branch it comes out of the same call as in the runner. */
static int life(void *context)
{
    int (*const asked)(enum faults_call, uint64_t) = *(int (**)(enum faults_call, uint64_t))context;
    const char *strike = getenv("GYRE_STRIKE");
    uint64_t began_ns;
    size_t fds, threads, mapped;

    warm_up();
    fds = test_open_fds();
    threads = test_threads();
    mapped = faults_mapped();
    faults_strike(FAULTS_CALLS, 0, 0);
    if (strike != NULL) {
        faults_strike_parse(strike);
    }
    faults_record(asked == NULL && strike == NULL ? &shared->places : NULL);
    faults_chain_from(__builtin_frame_address(0));
    faults_explore(asked);
    began_ns = processor_time();
    current->body();
    tale->took_ns = processor_time() - began_ns;
    faults_explore(NULL);
    faults_record(NULL);
    for (int i = 0; i < FAULTS_CALLS; i++) {
        tale->counts[i] = faults_calls((enum faults_call)i);
    }
    tale->leaks = grew("descriptors", fds, test_open_fds()) +
                  grew("threads", threads, test_threads()) +
                  grew("allocations", 0, gyre_allocator_live()) +
                  grew("bytes mapped", mapped, faults_mapped());
    return 0;
}

static void count_left_out(void)
{
    for (int i = 0; i < FAULTS_CALLS; i++) {
        const int *error = faults_call_errors((enum faults_call)i);
        uint64_t all = 0;

        for (; torture_is_chosen((enum faults_call)i) && *error != 0; error++) {
            all += shared->base.counts[i];
        }
        shared->sum.places_left_out += all - tried[i];
    }
}

static void run_case(int (*asked)(enum faults_call, uint64_t))
{
    const int rc = place_run(life, &asked);

    tale->leaks += tale->leaks == 0 && __lsan_do_recoverable_leak_check != NULL &&
                   __lsan_do_recoverable_leak_check() != 0;
    tale->finished = rc == 0;
    if (asked != NULL && !is_branch) {
        count_left_out();
    }
    leave(rc == 0 ? 0 : BROKEN);
}

/* The runner, and the process that finds out what the case does by itself. */
static void begin(struct tale *own)
{
    const struct rlimit no_core = {0, 0};
    static char stack[64 << 10];
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction limit = {.sa_handler = on_limit};
    struct sigaction crash = {.sa_handler = on_crash, .sa_flags = SA_ONSTACK};
    void *preload[1];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_CORE, &no_core);
    backtrace(preload, 1); /* loads libgcc now, not in the signal handler */
    sigaction(SIGPROF, &limit, NULL);
    sigaltstack(&other, NULL);
    sigaction(SIGSEGV, &crash, NULL);
    sigaction(SIGABRT, &crash, NULL);
    atexit(at_exit);
    place_failed = on_world_failed;
    tale = own;
}

static void empty_output(void)
{
    fflush(NULL);
    if (ftruncate(output, 0) < 0 || lseek(output, 0, SEEK_SET) < 0) {
        abort();
    }
}

static void write_to_output(void)
{
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
}

static int status_of(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* ---- branches ---- */

static enum torture_end judge(int status, enum faults_call call, int error)
{
    if (WIFSIGNALED(status)) {
        dprintf(output, "signal %d\n", WTERMSIG(status));
        return TORTURE_CRASH;
    }
    switch (WEXITSTATUS(status)) {
    case 0:
        return shared->branch.leaks ? TORTURE_LEAK : TORTURE_PASSED;
    case EARLY:
        return TORTURE_EARLY;
    case STUCK:
    case SPINS: /* cases look again and again, in turns that do not wait */
        return torture_hang(current->name, call, error);
    default:
        return TORTURE_CRASH;
    }
}

/* Returns the error in the branch, and 0 in the runner when the branch has ended. */
static int branch(enum faults_call call, int error, uint64_t place)
{
    const struct torture_strike strike = {call, error, place, 0};
    pid_t pid;

    memset(&shared->branch, 0, sizeof(shared->branch));
    empty_output();
    pid = fork();
    if (pid == 0) {
        is_branch = 1;
        tale = &shared->branch;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        write_to_output();
        limit_ms(LIMIT_LEAST_MS + LIMIT_FACTOR * shared->base.took_ns / GYRE_MSEC);
        return error;
    }
    if (pid < 0) {
        abort();
    }
    torture_count(&shared->sum, current->name, judge(status_of(pid), call, error), &strike, output);
    return 0;
}

static int gate(enum faults_call call, uint64_t place)
{
    /* Processes that a case forks are not tortured: they may be there to be aborted. */
    if (is_branch || place > shared->base.counts[call] || due[call] == NULL || !due[call][place] ||
        getpid() != runner_pid) {
        return 0;
    }
    for (const int *error = faults_call_errors(call); *error != 0; error++) {
        tried[call]++;
        if (branch(call, *error, place) != 0) {
            return *error;
        }
    }
    return 0;
}

/* ---- cases ---- */

/* The case without a failure. Returns whether it comes to its end. */
static int run_base(void)
{
    pid_t pid;
    int status;

    memset(&shared->base, 0, sizeof(shared->base));
    memset(&shared->places, 0, sizeof(shared->places));
    empty_output();
    pid = fork();
    if (pid == 0) {
        begin(&shared->base);
        write_to_output();
        limit_ms(BASE_LIMIT_MS);
        run_case(NULL);
    }
    status = status_of(pid);
    return status == 0 && shared->base.leaks == 0;
}

/* Where a case makes very many calls, repetitions are dear, and say least. */
static uint64_t first_of_each(void)
{
    uint64_t all = 0;

    for (int i = 0; i < FAULTS_CALLS; i++) {
        all += torture_is_chosen((enum faults_call)i) ? shared->base.counts[i] : 0;
    }
    return torture_first(all > MANY_CALLS ? FIRST_OF_MANY : FIRST);
}

/* What is struck: the first calls of each sort, and of each chain of callers the first and the last. */
static void choose(void)
{
    const uint64_t first = first_of_each();
    const struct faults_place *place = shared->places.at;

    for (int i = 0; i < FAULTS_CALLS; i++) {
        const uint64_t count = shared->base.counts[i];

        if (torture_is_chosen((enum faults_call)i)) {
            due[i] = calloc(count + 1, 1);
            assert_non_null(due[i]);
            memset(due[i], 1, (count < first ? count : first) + 1);
        }
    }
    for (; place < shared->places.at + FAULTS_PLACES_MAX; place++) {
        if (place->chain != 0 && due[place->call] != NULL) {
            due[place->call][place->first] = 1;
            due[place->call][place->last] = 1;
        }
    }
}

static void runner(void)
{
    begin(&shared->base);
    write_to_output();
    runner_pid = getpid();
    choose();
    run_case(gate);
}

/* Its end comes back here only in the parent. */
static void torture_one(const struct test_case *test)
{
    const uint64_t before = shared->sum.injections;
    struct timespec began, ended;
    uint64_t took_ns;
    int status;
    pid_t pid;

    current = test;
    if (!run_base()) {
        const char *skipped = shared->base.skipped;

        torture_leave_out(&shared->sum, test->name,
                          skipped[0] != '\0' ? skipped : "it fails without a failure",
                          skipped[0] != '\0' ? -1 : output);
        return;
    }
    if (shared->places.lost > 0) {
        torture_leave_out(&shared->sum, test->name, "there is no room for its places", -1);
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &began);
    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        runner();
    }
    status = status_of(pid);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    took_ns = (uint64_t)(ended.tv_sec - began.tv_sec) * GYRE_SEC + (uint64_t)ended.tv_nsec -
              (uint64_t)began.tv_nsec;
    if (status != 0) {
        torture_leave_out(&shared->sum, test->name, "it is not the same when it is run again", -1);
        return;
    }
    shared->sum.cases++;
    fprintf(torture_report, "%s: %llu injections, %llu ms\n", test->name,
            (unsigned long long)(shared->sum.injections - before),
            (unsigned long long)(took_ns / GYRE_MSEC));
    fflush(torture_report);
}

/* The library has the kernel take its loops and buffers from children; branches need them. */
static int keep_on_fork(void *address, size_t len, int advice)
{
    return advice == MADV_WIPEONFORK || advice == MADV_DONTFORK
               ? 0
               : gyre__sim_kernel.madvise(address, len, advice);
}

/* Of the simulated thread that runs. */
static const void *stack_end(void)
{
    const stack_t *stack = &gyre__sim_self()->context.uc_stack;

    return (const char *)stack->ss_sp + stack->ss_size;
}

static void prepare(void)
{
    static struct gyre__kernel kernel;

    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    output = memfd_create("torture-output", MFD_CLOEXEC);
    torture_report = fdopen(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "w");
    if (shared == MAP_FAILED || output < 0 || torture_report == NULL) {
        abort();
    }
    gyre__kernel = &gyre__real_kernel; /* of the scheduler, which is no program */
    kernel = gyre__sim_kernel;
    kernel.madvise = keep_on_fork;
    faults_chain_stack(stack_end);
    gyre__sim_programs = faults_put_over(&kernel, (const void *(*)(void))gyre__sim_self);
}

static void reproduce(const struct test_case *test)
{
    current = test;
    if (fork() == 0) {
        begin(&shared->base);
        run_case(NULL);
    }
}

int __real_test_main(const char *module, const struct test_case *cases, size_t count);
int __wrap_test_main(const char *module, const struct test_case *cases, size_t count);
void __real_test_skip(const char *why) __attribute__((noreturn));
void __wrap_test_skip(const char *why) __attribute__((noreturn));

int __wrap_test_main(const char *module, const struct test_case *cases, size_t count)
{
    const char *what = getenv("GYRE_TORTURE");
    const char *strike = getenv("GYRE_STRIKE");

    if ((what == NULL || what[0] == '\0') && strike == NULL) {
        return __real_test_main(module, cases, count);
    }
    prepare();
    for (size_t i = 0; i < count; i++) {
        if (!torture_is_asked(&cases[i])) {
            continue;
        }
        if (strike != NULL) { /* one of what this has told, again */
            int status = 0;

            reproduce(&cases[i]);
            wait(&status);
            printf("%s: status %d\n", cases[i].name, status);
        } else {
            torture_one(&cases[i]);
        }
    }
    return strike != NULL ? 0
                          : torture_summary(&shared->sum, module) || shared->sum.injections == 0;
}

/* The first run of a case finds out. */
void __wrap_test_skip(const char *why)
{
    if (tale == NULL) {
        __real_test_skip(why);
    }
    snprintf(tale->skipped, sizeof(tale->skipped), "%s", why);
    leave(EARLY);
}
