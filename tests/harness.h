/*
 * What every test program is built on: cases in their own processes, with a time limit and a full
 * account of what they left behind, over cmocka. A program is one module; it is run once for each
 * variant of the library (GYRE_TEST_VARIANT) and the same cases must pass on all of them.
 *
 * Include this header first: it brings cmocka and everything cmocka.h wants before it.
 */
#ifndef GYRE_TESTS_HARNESS_H
#define GYRE_TESTS_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <gyre.h>
#include <netinet/in.h>
#include <sys/types.h>

#define TEST_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TEST_CASE(body) \
    {                   \
#body, body, 0  \
    }

/* One case: its name (subject_condition_expectation), what it does, and the seconds it may take; 0:
 * ten. The limit is for a case that hangs, never a verdict on speed; it is wider in sanitized
 * builds. */
struct test_case {
    const char *name;
    void (*body)(void);
    unsigned limit_seconds;
};

/*
 * The main program of a module: runs each case in a forked child with a time limit. A child that
 * fails, crashes, hangs or leaks (descriptors, allocations of the library, child processes, threads,
 * under LeakSanitizer memory) fails its case with a message that says what happened; what a case
 * prints is shown only then. Exits with 0, 1, or 77 when nothing ran because the variant is not
 * available here.
 *
 * The program's own arguments are found by themselves:
 *
 *     PROGRAM [--list] [SUBSTRING]     cases whose names contain SUBSTRING
 *     GYRE_TEST_NOFORK=1               in this process, for debuggers and valgrind; no time limit
 *     GYRE_TEST_TAP=1                  results in TAP on stdout, for meson; cmocka's go to stderr
 *     GYRE_TEST_LIMIT=SECONDS          another default for the time limit
 */
int test_main(const char *module, const struct test_case *cases, size_t count);

/* Ends the case; it counts as skipped, not as passed, and the reason is reported. */
void test_skip(const char *why) __attribute__((noreturn));

/* Whether the case runs on the simulated kernel (tests/sim/place.c). */
int test_is_simulated(void);

/* Skips the case if so: for what the simulation does not have, or cannot show. */
void test_skip_simulated(const char *why);

/* The options of the variant under test: GYRE_TEST_VARIANT is uring, uring-noinc, uring-nobufring,
 * uring-nomultishot or epoll (default epoll). Change what the case needs, then gyre_loop_create(). */
struct gyre_loop_options test_options(void);

/* Whether the variant under test runs on the io_uring driver. */
int test_variant_uring(void);

/* A loop of the variant. */
struct gyre_loop *test_loop(void);

/* A loop with options of the case's own. */
struct gyre_loop *test_loop_with(const struct gyre_loop_options *options);

/* Asserts that nothing is left: pool conserved and all home, as many operations finished as
 * started; destroys the loop and asserts that it could be. */
void test_loop_end(struct gyre_loop *loop);

/* Asserts that the pool's books balance: free + lent + in_kernel == total. */
void test_pool_conserved(struct gyre_loop *loop);

/* Turns of the loop (GYRE_RUN_ONCE) until *flag is not 0. Fails when the loop has nothing left to
 * do before that; where only posts are awaited, take a gyre_loop_ref(). */
void test_turns_until(struct gyre_loop *loop, const int *flag);

/* Turns of the loop until *counter is at least @goal. */
void test_turns_until_count(struct gyre_loop *loop, const int *counter, int goal);

/* A listening TCP socket on 127.0.0.1 and a port of the kernel's choice: blocking, close-on-exec.
 * @out, if not NULL, is set to its address. */
int test_listener(struct sockaddr_in *out);

/* A blocking TCP socket connected to @address. */
int test_connect(const struct sockaddr_in *address);

/* Two connected blocking TCP sockets over loopback, close-on-exec. */
void test_tcp_pair(int pair[2]);

/* Two connected blocking Unix stream sockets, close-on-exec. */
void test_unix_pair(int pair[2]);

/* Makes a directory of the case's own and returns its path; once in a case. The case removes it, which
 * shows that nothing was left in it. After a case that dies before, the harness does. */
const char *test_directory(void);

/* How many steps a case of random calls or of many rounds takes: a hundredth of @usual under torture, and
 * the @least that it needs. There each place at which a call can fail costs a run of the case, random calls reach
 * one by ever new chains, and rounds repeat the same. */
int test_steps(int usual, int least);

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t test_now(void);

/* Open descriptors of this process. */
size_t test_open_fds(void);

/* Threads of this process; with the kernel's io_uring workers in it. */
size_t test_threads(void);
size_t test_tasks(void);

/* Resident memory of this process, bytes; 0 in sanitized builds, where it says nothing. */
size_t test_resident(void);

/* Whether the program runs on valgrind, which emulates some limits of the kernel in its own way. */
int test_on_valgrind(void);

/* Runs @body in a forked child, which exits with what @body returns (0..100); returns the wait
 * status. A failed assertion in the child is exit status 111. Leaves no core file. */
int test_child_status(int (*body)(void *), void *argument);

/* Asserts that @body in a forked child exits with 0. */
void test_child_passes(int (*body)(void *), void *argument);

/* Asserts that @body in a forked child dies of SIGABRT: a programming error that gyre asserts. */
void test_child_aborts(int (*body)(void *), void *argument);

/* An operation callback for operations whose results do not matter. */
void test_ignore(struct gyre_op *op, const struct gyre_result *result);

#endif
