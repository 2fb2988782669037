/*
 * What a case must leave as it found it, as the operating system tells it: descriptors, threads,
 * children; and the library's own count of its allocations.
 */
#include "place.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SETTLE_MS = 2000,   /* for threads that have ended but are not reaped by the kernel yet */
    FD_TARGET_LEN = 64, /* of readlink(/proc/self/fd/N), enough to name a socket or a pipe */
    DIRECTORY_LEN = 32,
};

struct open_fd {
    int number;
    char target[FD_TARGET_LEN];
};

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

void account_take(struct account *account)
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

void account_check(const struct account *before)
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

/* ---- the directory of a case ---- */

/* In memory that the process around the case shares, so that it knows of it however the case ends;
 * empty if there was none. mkdtemp() writes a name here before it makes the directory. */
static char *directory;

void place_share(void)
{
    directory =
        mmap(NULL, DIRECTORY_LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (directory == MAP_FAILED) {
        abort();
    }
}

const char *test_directory(void)
{
    assert_string_equal(directory, "");
    snprintf(directory, DIRECTORY_LEN, "/tmp/gyre-case-XXXXXX");
    assert_non_null(mkdtemp(directory));
    return directory;
}

void place_clear(void)
{
    DIR *dir = directory[0] != '\0' ? opendir(directory) : NULL;
    const struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        unlinkat(dirfd(dir), entry->d_name, 0); /* refused for "." and "..", and for directories */
    }
    if (dir != NULL) {
        closedir(dir);
        rmdir(directory);
    }
    directory[0] = '\0';
}

int place_run(int (*program)(void *), void *context)
{
    return program(context);
}
