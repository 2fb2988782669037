/*
 * gyre-sim-fuzz: runs of the net layer on the simulated kernel, one for each seed. In a run a server
 * and a few clients use streams, listeners, datagrams, timers, posts, work and signals at random,
 * while the network and the kernel fail as the seed says. After each step, and at the end, a ledger
 * says whether every promise was kept (ledger.c). From a moment on nothing fails any more, and then
 * everything has to come to an end.
 *
 * Prints seeds per second and a hash of all runs' hashes; a seed that fails is printed with the step
 * and can be run again with --start SEED --seeds 1 --trace.
 */
#include "fuzz.h"

#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct fuzz fuzz;

static struct {
    uint64_t seeds;
    uint64_t start;
    enum gyre_sim_personality personality;
    int trace;
    int twice;
    int keep_going;
    int coverage;
} settings = {.seeds = 100, .twice = 0};

static volatile uint64_t seed_now;

/* ---- one run ---- */

static void show(void *context, const char *line)
{
    (void)context;
    puts(line);
}

static void choose_options(void)
{
    struct gyre_loop_options *options = &fuzz.loop_options;

    *options = (struct gyre_loop_options){0};
    if (one_in(2) || fuzz.crowd) {
        options->sq_entries = 8;
        options->cq_entries = fuzz.crowd ? 16 : (uint32_t)(16 << chance(3));
    }
    if (one_in(2)) {
        options->pool_block = 4096;
        options->pool_min = 4096 * (2 + chance(3));
        options->pool_max = options->pool_min + 4096 * chance(4);
        options->pool_quota = 4096 * (1 + chance(4));
    }
    if (one_in(3)) {
        static const uint32_t off[] = {GYRE_FEATURE_INCREMENTAL, GYRE_FEATURE_BUFFER_RING,
                                       GYRE_FEATURE_MULTISHOT, GYRE_FEATURE_REGISTERED_RING};

        options->features_off = off[chance(4)];
    }
    if (one_in(4)) {
        options->post_capacity = 2;
    }
    if (one_in(8)) {
        options->busy_poll_ns = chance(200 * GYRE_USEC);
    }
}

static void add_host(int index)
{
    char name[16];
    char address[64];
    int rc;

    snprintf(name, sizeof(name), "host%d", index + 1);
    snprintf(address, sizeof(address), "10.0.0.%d,fd00::%d", index + 1, index + 1);
    rc = gyre_sim_host_create(fuzz.sim, name, address, &fuzz.host[index]);
    if (rc < 0) {
        broken("no host: %s", gyre_error_name(rc));
    }
}

/* Programs 0 and 1 are on the first host, the others have one each. */
static struct gyre_sim_host *host_of(int index)
{
    return fuzz.host[index < 2 ? 0 : index - 1];
}

static void add_program(int index)
{
    static const char *const names[PROGRAMS_MAX] = {"server",  "local",   "client2", "client3",
                                                    "client4", "client5", "client6", "client7"};
    struct program *program = &fuzz.program[index];
    int rc;

    *program = (struct program){.sim = fuzz.sim,
                                .name = names[index],
                                .is_local = index == 1,
                                .first_call = fuzz.call_count};
    if (index > 0) {
        program->call_count = fuzz.crowd ? CALLS_CROWD : (int)(1 + chance(CALLS_EACH));
        fuzz.call_count += program->call_count;
    }
    rc = gyre_sim_spawn(host_of(index), index == 0 ? server_main : client_main, program,
                        index == 0 ? GYRE_SIM_DAEMON : 0, &program->process);
    if (rc < 0) {
        broken("no program: %s", gyre_error_name(rc));
    }
    if (one_in(4)) {
        gyre_sim_limit_fds(program->process, (unsigned)(12 + chance(20)));
    }
}

static void prepare_calls(void)
{
    memset(fuzz.call, 0, sizeof(fuzz.call));
    for (uint32_t i = 0; i < CALLS_MAX; i++) {
        struct call *call = &fuzz.call[i];

        call->id = i;
        call->mode = (enum call_mode)chance(CALL_MODES);
        for (int index = 0; index < 2; index++) {
            call->side[index].call = call;
            call->side[index].index = index;
        }
    }
}

/* ---- the network's fate ---- */

static void part(void *context)
{
    const int on = context != NULL;
    const uint64_t a = chance((uint64_t)fuzz.host_count);
    const uint64_t b = chance((uint64_t)fuzz.host_count);

    if (a != b) {
        gyre_sim_partition(fuzz.host[a], fuzz.host[b], on);
    }
}

static void reset_some(void *context)
{
    (void)context;
    gyre_sim_reset(fuzz.host[chance((uint64_t)fuzz.host_count)], 0);
}

static void heal(void *context)
{
    (void)context;
    fuzz.healed = 1;
    for (int a = 0; a < fuzz.host_count; a++) {
        for (int b = 0; b < fuzz.host_count; b++) {
            if (a != b) {
                gyre_sim_partition(fuzz.host[a], fuzz.host[b], 0);
            }
        }
    }
    for (int i = 0; i < fuzz.program_count; i++) {
        gyre_sim_limit_fds(fuzz.program[i].process, 1000);
    }
}

static void at(uint64_t when_ns, void (*fn)(void *context), void *context)
{
    if (gyre_sim_at(fuzz.sim, when_ns, fn, context) < 0) {
        broken("no script");
    }
}

static void write_scripts(void)
{
    at(fuzz.heal_at_ns, heal, NULL);
    for (uint64_t i = chance(4); i > 0; i--) {
        const uint64_t from = chance(fuzz.heal_at_ns);

        at(from, part, &fuzz);
        at(from + chance(fuzz.heal_at_ns - from), part, NULL);
    }
    if (one_in(4)) {
        at(chance(fuzz.heal_at_ns), reset_some, NULL);
    }
    for (int a = 0; a < fuzz.host_count; a++) {
        for (int b = a + 1; b < fuzz.host_count; b++) {
            const struct gyre_sim_link link = {
                .latency_ns = 1 + chance(20 * GYRE_MSEC),
                .jitter_ns = one_in(2) ? 0 : chance(10 * GYRE_MSEC),
                .bytes_per_second = one_in(3) ? 100000 + chance(10000000) : 0,
            };

            gyre_sim_link(fuzz.host[a], fuzz.host[b], &link);
        }
    }
}

/* The clients have ended: the server is told to, and has to. */
static void stop_server(void)
{
    struct program *server = &fuzz.program[0];
    int status;

    if (gyre_sim_failure(fuzz.sim) != NULL || gyre_sim_ended(server->process, &status)) {
        return;
    }
    if (gyre_sim_signal(server->process, SIGTERM) < 0) {
        broken("the server cannot be told to end");
    }
}

static int wait_for_server(void *context)
{
    (void)context;
    gyre_sim_sleep(GYRE_MSEC);
    while (!fuzz.program[0].listening[1]) { /* it may still be trying to begin */
        gyre_sim_sleep(10 * GYRE_MSEC);
    }
    stop_server();
    while (!gyre_sim_ended(fuzz.program[0].process, NULL)) {
        gyre_sim_sleep(10 * GYRE_MSEC);
    }
    return 0;
}

static void check_end(void)
{
    const size_t left = gyre_allocator_live() - fuzz.live_before;

    if (gyre_sim_failure(fuzz.sim) == NULL && left != 0) {
        broken("%zu allocations are left", left);
    }
    for (int i = 0; i < fuzz.call_count && gyre_sim_failure(fuzz.sim) == NULL; i++) {
        check_call(&fuzz.call[i]);
    }
}

static void run_to_end(void)
{
    int rc = gyre_sim_run(fuzz.sim);

    if (rc == 0) {
        rc = gyre_sim_spawn(fuzz.host[0], wait_for_server, NULL, 0, NULL);
        rc = rc < 0 ? rc : gyre_sim_run(fuzz.sim);
    }
    if (rc < 0 && rc != GYRE_ESIM) {
        broken("the run does not run: %s", gyre_error_name(rc));
    }
    check_end();
}

static void prepare(uint64_t seed)
{
    const struct gyre_sim_options options = {
        .seed = seed,
        .personality = settings.personality,
        .heal_at_ns = 10 * GYRE_SEC,
        .end_ns = 300 * GYRE_SEC,
        .trace = settings.trace ? show : NULL,
    };

    memset(&fuzz, 0, sizeof(fuzz));
    if (gyre_sim_create(&fuzz.sim, &options) < 0) {
        fputs("gyre-sim-fuzz: no world\n", stderr);
        exit(2);
    }
    fuzz.live_before = gyre_allocator_live(); /* a run that failed leaves some */
    fuzz.heal_at_ns = options.heal_at_ns;
    fuzz.crowd = one_in(16);
    fuzz.program_count = fuzz.crowd ? PROGRAMS_MAX : (int)(2 + chance(4));
    fuzz.host_count = fuzz.program_count > 2 ? fuzz.program_count - 1 : 1;
    choose_options();
    choose_handlers();
    prepare_calls();
    for (int i = 0; i < fuzz.host_count; i++) {
        add_host(i);
    }
    for (int i = 0; i < fuzz.program_count; i++) {
        add_program(i);
    }
    write_scripts();
    if (gyre_sim_check(fuzz.sim, check_all, NULL) < 0) {
        broken("no check");
    }
}

struct totals {
    uint64_t failures;
    uint64_t steps;
    uint64_t hash;
    uint64_t seen[GYRE_SIM_PATH_COUNT];
    uint64_t struck[GYRE_SIM_FAULT_COUNT];
};

static void add_up(struct totals *totals)
{
    for (int i = 0; i < GYRE_SIM_PATH_COUNT; i++) {
        totals->seen[i] += gyre_sim_seen(fuzz.sim, (enum gyre_sim_path)i);
    }
    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        totals->struck[i] += gyre_sim_struck(fuzz.sim, (enum gyre_sim_fault)i);
    }
    totals->steps += gyre_sim_steps(fuzz.sim);
}

/* Returns the hash of the run; 0 if it failed. */
static uint64_t run_seed(uint64_t seed, struct totals *totals)
{
    uint64_t hash;

    seed_now = seed;
    prepare(seed);
    run_to_end();
    hash = gyre_sim_hash(fuzz.sim);
    if (gyre_sim_failure(fuzz.sim) != NULL) {
        printf("FAIL %s\n", gyre_sim_failure(fuzz.sim));
        hash = 0;
    }
    if (totals != NULL) {
        add_up(totals);
    }
    gyre_sim_destroy(fuzz.sim);
    return hash;
}

/* ---- the batch ---- */

/* An assertion of the library: say which seed it was. Only calls that a handler may make. */
static void on_abort(int number)
{
    char text[64] = "FAIL seed=0x";
    size_t len = strlen(text);

    for (int shift = 60; shift >= 0; shift -= 4) {
        text[len++] = "0123456789abcdef"[seed_now >> shift & 15];
    }
    memcpy(text + len, " step=?: crashed\n", 17);
    if (write(STDOUT_FILENO, text, len + 17) < 0) {
        _exit(3);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void count_seed(uint64_t seed, struct totals *totals)
{
    const uint64_t hash = run_seed(seed, totals);

    if (hash == 0) {
        totals->failures++;
    } else if (settings.twice && run_seed(seed, NULL) != hash) {
        printf("FAIL seed=0x%" PRIx64 " step=0: two runs of it differ\n", seed);
        totals->failures++;
    }
    totals->hash = (totals->hash ^ hash) * UINT64_C(0x100000001b3);
}

/* What the other driver never meets. */
static int is_elsewhere(int number, const int *uring, size_t uring_count, const int *epoll,
                        size_t epoll_count)
{
    const int *elsewhere = settings.personality == GYRE_SIM_EPOLL ? uring : epoll;
    const size_t count = settings.personality == GYRE_SIM_EPOLL ? uring_count : epoll_count;

    for (size_t i = 0; i < count && settings.personality != GYRE_SIM_SEEDED; i++) {
        if (elsewhere[i] == number) {
            return 1;
        }
    }
    return 0;
}

static int path_is_elsewhere(int path)
{
    static const int uring[] = {
        GYRE_SIM_PATH_CQ_OVERFLOW,       GYRE_SIM_PATH_SQ_FULL,
        GYRE_SIM_PATH_BUFFERS_EMPTY,     GYRE_SIM_PATH_BUFFER_CONTINUED,
        GYRE_SIM_PATH_MULTISHOT_REARMED, GYRE_SIM_PATH_CANCEL_LOST,
        GYRE_SIM_PATH_CANCEL_WON,
    };

    return is_elsewhere(path, uring, sizeof(uring) / sizeof(uring[0]), NULL, 0);
}

static int fault_is_elsewhere(int fault)
{
    static const int uring[] = {
        GYRE_SIM_FAULT_RECV_ENOBUFS,     GYRE_SIM_FAULT_ENTER_EAGAIN,
        GYRE_SIM_FAULT_ENTER_EBUSY,      GYRE_SIM_FAULT_ENTER_PARTIAL,
        GYRE_SIM_FAULT_MULTISHOT_ENDS,   GYRE_SIM_FAULT_COMPLETION_LATE,
        GYRE_SIM_FAULT_COMPLETION_ORDER, GYRE_SIM_FAULT_CANCEL_LOSES,
        GYRE_SIM_FAULT_REGISTER_FAILS,
    };
    static const int epoll[] = {GYRE_SIM_FAULT_EPOLL_CTL_ENOMEM, GYRE_SIM_FAULT_EPOLL_SPURIOUS};

    return is_elsewhere(fault, uring, sizeof(uring) / sizeof(uring[0]), epoll,
                        sizeof(epoll) / sizeof(epoll[0]));
}

static int report_line(uint64_t count, const char *what, int elsewhere)
{
    printf("%12" PRIu64 "  %s%s\n", count, what, elsewhere ? " (of the other driver)" : "");
    return count == 0 && !elsewhere;
}

/* A batch that never met a rare path says nothing about it. Returns how many were not met. */
static int report_coverage(const struct totals *totals)
{
    int blind = 0;

    for (int i = 0; i < GYRE_SIM_PATH_COUNT; i++) {
        blind += report_line(totals->seen[i], gyre_sim_path_name((enum gyre_sim_path)i),
                             path_is_elsewhere(i));
    }
    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        blind += report_line(totals->struck[i], gyre_sim_fault_name((enum gyre_sim_fault)i),
                             fault_is_elsewhere(i));
    }
    return blind;
}

static double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int run_batch(void)
{
    struct totals totals = {.hash = UINT64_C(0xcbf29ce484222325)};
    const double begin = seconds();
    uint64_t done = 0;

    while (done < settings.seeds && (totals.failures == 0 || settings.keep_going)) {
        count_seed(settings.start + done++, &totals);
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failed, %" PRIu64
           " steps, %.1f seeds/s, hash %016" PRIx64 "\n",
           done, totals.failures, totals.steps, (double)done / (seconds() - begin), totals.hash);
    if (settings.coverage && report_coverage(&totals) > 0) {
        puts("FAIL the batch is blind: it never met what counts 0 above");
        return 1;
    }
    return totals.failures > 0;
}

/* ---- arguments ---- */

enum { OPTION_TWICE = 256, OPTION_KEEP_GOING, OPTION_COVERAGE, OPTION_PERSONALITY };

static uint64_t number_of(struct argp_state *state, const char *text)
{
    char *end;
    uint64_t number;

    errno = 0;
    number = strtoull(text, &end, 0);
    if (errno != 0 || *text == '\0' || *end != '\0') {
        argp_error(state, "not a number: %s", text);
    }
    return number;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'n':
        settings.seeds = number_of(state, text);
        break;
    case 's':
        settings.start = number_of(state, text);
        break;
    case OPTION_PERSONALITY:
        if (strcmp(text, "uring") == 0) {
            settings.personality = GYRE_SIM_URING;
        } else if (strcmp(text, "epoll") == 0) {
            settings.personality = GYRE_SIM_EPOLL;
        } else {
            argp_error(state, "the personality is uring or epoll, not %s", text);
        }
        break;
    case 't':
        settings.trace = 1;
        break;
    case OPTION_TWICE:
        settings.twice = 1;
        break;
    case OPTION_KEEP_GOING:
        settings.keep_going = 1;
        break;
    case OPTION_COVERAGE:
        settings.coverage = 1;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"seeds", 'n', "N", 0, "how many seeds (100)", 0},
        {"start", 's', "S", 0, "the first of them (0)", 0},
        {"personality", OPTION_PERSONALITY, "uring|epoll", 0, "which driver (the seed decides)", 0},
        {"trace", 't', NULL, 0, "print the trace of each run", 0},
        {"twice", OPTION_TWICE, NULL, 0, "run each seed twice: the hashes must be the same", 0},
        {"keep-going", OPTION_KEEP_GOING, NULL, 0, "go on behind a seed that failed", 0},
        {"coverage", OPTION_COVERAGE, NULL, 0,
         "say which rare paths and faults were met; fail if one was not", 0},
        {0},
    };
    const struct argp parser = {
        .options = options,
        .parser = parse,
        .doc = "Uses gyre's net layer at random on a simulated kernel, once for each seed."};

    argp_parse(&parser, argc, argv, 0, NULL, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGABRT, on_abort);
    signal(SIGSEGV, on_abort);
    return run_batch();
}
