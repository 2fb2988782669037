/*
 * Where cases run: for harness.c. There are two such places, with one implementation each: a process
 * of the operating system (account.c), and a program on a simulated kernel (sim/place.c).
 */
#ifndef GYRE_TESTS_PLACE_H
#define GYRE_TESTS_PLACE_H

#include "harness.h"

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

struct open_fd;

/* What a case must leave as it found it. */
struct account {
    struct open_fd *fds;
    size_t fd_count;
    size_t threads;
    size_t live; /* allocations of the library */
};

/* Frees what the account had before; begin with zeros. */
void account_take(struct account *account);

/* Fails the case if anything is not as it was. */
void account_check(const struct account *before);

/* A process that runs cases in children of its own: share once, before the first; clear after each,
 * which removes the directory of one that did not (test_directory()). */
void place_share(void);
void place_clear(void);

/* Runs a program there, to its end. Returns its status; not 0 also when the place broke. */
int place_run(int (*program)(void *), void *context);

#endif
