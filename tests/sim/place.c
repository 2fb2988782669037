/*
 * Cases as programs on the simulated kernel: see place.h. The world has one host, no faults, and a
 * seed that is always the same unless GYRE_TEST_SEED names another; GYRE_TEST_TRACE=1 prints what
 * happens in it.
 */
#include "place.h"

#include "sim/files.h"
#include "sim/place_world.h"
#include "sim/thread.h"
#include "sim/world.h"

#include <stdio.h>
#include <stdlib.h>

/* Cases may set timers that lie far ahead; one that hangs meets its real time limit. */
#define END_NS (1000000 * GYRE_SEC)

void (*place_failed)(const char *why);

struct open_fd {
    int number;
    uint64_t id;
    const char *kind;
};

size_t test_open_fds(void)
{
    return gyre__sim_process()->fds_open;
}

size_t test_threads(void)
{
    const struct gyre_link *threads = &gyre__sim_process()->threads;
    size_t count = 0;

    for (const struct gyre_link *link = threads->next; link != threads; link = link->next) {
        count += gyre_container_of(link, struct sim_thread, link)->state != SIM_THREAD_ENDED;
    }
    return count;
}

size_t test_tasks(void)
{
    return test_threads();
}

/* The simulated kernel's memory is the program's own, and says nothing about the library's. */
size_t test_resident(void)
{
    return 0;
}

void account_take(struct account *account)
{
    const struct gyre_sim_process *process = gyre__sim_process();

    account->fds = calloc(process->fds_open + 1, sizeof(*account->fds));
    assert_non_null(account->fds);
    account->fd_count = 0;
    for (int i = 0; i < (int)process->fd_count; i++) {
        const struct sim_file *file = gyre__sim_fd_file(process, i);

        if (file != NULL) {
            account->fds[account->fd_count++] =
                (struct open_fd){.number = i, .id = file->id, .kind = file->ops->name};
        }
    }
    account->threads = test_threads();
    account->live = gyre_allocator_live();
}

static int is_among(const struct open_fd *one, const struct account *account)
{
    for (size_t i = 0; i < account->fd_count; i++) {
        if (account->fds[i].number == one->number && account->fds[i].id == one->id) {
            return 1;
        }
    }
    return 0;
}

/* Prints what is in @a and not in @b. */
static int differences(const struct account *a, const struct account *b, const char *what)
{
    int count = 0;

    for (size_t i = 0; i < a->fd_count; i++) {
        if (!is_among(&a->fds[i], b)) {
            print_error("descriptor %d (%s) %s\n", a->fds[i].number, a->fds[i].kind, what);
            count++;
        }
    }
    return count;
}

void account_check(const struct account *before)
{
    struct account after;
    int failures = 0;

    account_take(&after);
    failures += differences(&after, before, "left open");
    failures += differences(before, &after, "was open before the case and is not any more");
    if (after.live != before->live) {
        print_error("%zu allocations of the library alive, %zu before\n", after.live, before->live);
        failures++;
    }
    if (after.threads != before->threads) {
        print_error("%zu threads, %zu before\n", after.threads, before->threads);
        failures++;
    }
    free(after.fds);
    if (failures > 0) {
        fail_msg("the case leaks: %d findings", failures);
    }
}

/* ---- directories: all exist ---- */

void place_share(void)
{
}

void place_clear(void)
{
}

const char *test_directory(void)
{
    return "/tmp/gyre-case-123456";
}

/* ---- the world ---- */

static void show(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

static struct gyre_sim *make_world(void)
{
    const char *seed = getenv("GYRE_TEST_SEED");
    const struct gyre_sim_options options = {
        .seed = seed != NULL ? strtoull(seed, NULL, 0) : 1,
        .personality = test_variant_uring() ? GYRE_SIM_URING : GYRE_SIM_EPOLL,
        .faults_off = 1,
        .end_ns = END_NS,
        .trace = getenv("GYRE_TEST_TRACE") != NULL ? show : NULL,
    };
    struct gyre_sim *sim = NULL;

    return gyre_sim_create(&sim, &options) < 0 ? NULL : sim;
}

/* Standard input, output and error: a program expects them, and a case may send one to another. */
static void open_standard(struct gyre_sim_process *process)
{
    for (int i = 0; i < 3; i++) {
        struct sim_file *file = null_make(process->host);

        gyre__sim_file_open(file);
        gyre__sim_file_put(file);
        process->fd[i].file = file;
        process->fds_open++;
    }
    process->fd_count = 3;
}

/* What is sent to the host itself is there when the call returns, as on Linux; the fuzzer lets it
 * take a while, as it may. Cases may look for something again and again, as long as they like. */
static int run_world(struct gyre_sim *sim, int (*program)(void *), void *context)
{
    struct gyre_sim_host *host;
    struct gyre_sim_process *process;
    int rc = gyre_sim_host_create(sim, "host", "10.0.0.1,fd00::1", &host);

    rc = rc < 0 ? rc : gyre_sim_spawn(host, program, context, 0, &process);
    if (rc == 0) {
        host->loopback_ns = 0;
        sim->idle_waits_max = UINT64_MAX;
        open_standard(process);
    }
    rc = rc < 0 ? rc : gyre_sim_run(sim);
    if (rc < 0) {
        const char *failure = gyre_sim_failure(sim);

        if (place_failed != NULL && failure != NULL) {
            place_failed(failure);
        }
        fprintf(stderr, "the simulation failed: %s\n",
                failure != NULL ? failure : gyre_error_name(rc));
    }
    return rc;
}

int place_run(int (*program)(void *), void *context)
{
    struct gyre_sim *sim = make_world();
    int rc;

    if (sim == NULL) {
        return 1;
    }
    rc = run_world(sim, program, context);
    gyre_sim_destroy(sim);
    return rc < 0;
}
