/*
 * The key-value server, tested by simulation: for each seed a server and three clients on four
 * simulated machines, with a network and kernels that fail as the seed says. The server is the code
 * of sim-kv-server, unchanged; only the library below it is another one. After each step the history
 * is asked whether a client has seen what it must not see (history.h).
 *
 *     $ sim-kv-test --seeds 1000                   all is well
 *     $ sim-kv-test --seeds 1000 --planted-bug     FAIL seed=... step=...: k3 is torn: ...
 *     $ sim-kv-test --seed 0x... --planted-bug --trace | less
 */
#include "sim-kv/client.h"
#include "sim-kv/server.h"

#include <argp.h>
#include <errno.h>
#include <gyre/alloc.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENTS = 3, REQUESTS = 60, PORT = 7000 };

/* A run: everything that a seed's world is made of. */
static struct {
    struct gyre_sim *sim;
    struct gyre_sim_host *host[1 + CLIENTS]; /* the server's is the first */
    struct gyre_sim_process *server_process;
    struct gyre_sim_process *client_process[CLIENTS];
    struct kv_server server;
    struct client client[CLIENTS];
    struct history history;
    uint32_t checked_count; /* the store, when it was last looked at */
    size_t checked_bytes;
} run;

static struct {
    uint64_t seeds;
    uint64_t first;
    enum gyre_sim_personality personality;
    int planted_bug;
    int trace;
    int keep_going;
} settings = {.seeds = 100};

static uint64_t below(uint64_t limit)
{
    return gyre_sim_random(run.sim) % limit;
}

static void must(int rc, const char *what)
{
    if (rc < 0) {
        fprintf(stderr, "sim-kv-test: %s: %s\n", what, gyre_strerror(rc));
        exit(2);
    }
}

/* ---- programs ---- */

/* The server, and who starts it again when it cannot begin. That it may lose what it has stored is
 * not forgiven: a read would show it. */
static int server_main(void *context)
{
    while (kv_server_run(context) < 0) {
        gyre_sim_sleep(20 * GYRE_MSEC);
    }
    return 0;
}

/* Whoever runs the server ends it when the clients are done. */
static int operator_main(void *context)
{
    (void)context;
    for (int i = 0; i < CLIENTS; i++) {
        while (!gyre_sim_ended(run.client_process[i], NULL)) {
            gyre_sim_sleep(10 * GYRE_MSEC);
        }
    }
    must(gyre_sim_signal(run.server_process, SIGTERM), "the server cannot be told to end");
    while (!gyre_sim_ended(run.server_process, NULL)) {
        gyre_sim_sleep(10 * GYRE_MSEC);
    }
    return 0;
}

/* ---- invariants ---- */

/* Looks at all of the store, so only when something has changed. */
static const char *check_store(void *context)
{
    const struct kv_store *store = context;

    if (store->count == run.checked_count && store->bytes == run.checked_bytes) {
        return NULL;
    }
    run.checked_count = store->count;
    run.checked_bytes = store->bytes;
    return kv_store_check(store);
}

/* ---- the network's fate ---- */

static void part(void *host)
{
    gyre_sim_partition(run.host[0], host, 1);
}

static void heal(void *host)
{
    gyre_sim_partition(run.host[0], host, 0);
}

static void reset(void *host)
{
    gyre_sim_reset(host, 0);
}

static void write_script(struct gyre_sim_host *host)
{
    const struct gyre_sim_link link = {
        .latency_ns = 1 + below(10 * GYRE_MSEC),
        .jitter_ns = below(2) * below(5 * GYRE_MSEC),
        .bytes_per_second = below(2) * (100000 + below(10000000)),
    };
    const uint64_t from = below(8 * GYRE_SEC);

    must(gyre_sim_link(run.host[0], host, &link), "link");
    if (below(3) == 0) {
        must(gyre_sim_at(run.sim, from, part, host), "script");
        must(gyre_sim_at(run.sim, from + below(4 * GYRE_SEC), heal, host), "script");
    }
    if (below(3) == 0) {
        must(gyre_sim_at(run.sim, below(8 * GYRE_SEC), reset, host), "script");
    }
}

/* ---- a run ---- */

static void add_server(void)
{
    must(gyre_sim_host_create(run.sim, "server", "10.0.0.1", &run.host[0]), "host");
    must(gyre_addr_parse_ip("10.0.0.1", PORT, &run.server.address), "address");
    run.server.planted_bug = settings.planted_bug;
    if (below(4) == 0) {
        run.server.keys_max = HISTORY_KEYS - 2;
    }
    must(
        gyre_sim_spawn(run.host[0], server_main, &run.server, GYRE_SIM_DAEMON, &run.server_process),
        "server");
    must(gyre_sim_check(run.sim, check_store, &run.server.store), "check");
}

static void add_client(unsigned index)
{
    static const char *const names[CLIENTS] = {"client1", "client2", "client3"};
    static const char *const addresses[CLIENTS] = {"10.0.0.2", "10.0.0.3", "10.0.0.4"};
    struct gyre_sim_host **host = &run.host[1 + index];

    run.client[index] = (struct client){
        .sim = run.sim,
        .history = &run.history,
        .server = run.server.address,
        .name = names[index],
        .index = index,
        .count = CLIENTS,
        .requests_left = REQUESTS,
    };
    must(gyre_sim_host_create(run.sim, names[index], addresses[index], host), "host");
    must(gyre_sim_spawn(*host, client_main, &run.client[index], 0, &run.client_process[index]),
         "client");
    write_script(*host);
}

static void show(void *context, const char *line)
{
    (void)context;
    puts(line);
}

static void prepare(uint64_t seed)
{
    const struct gyre_sim_options options = {
        .seed = seed,
        .personality = settings.personality,
        .trace = settings.trace ? show : NULL,
    };

    memset(&run, 0, sizeof(run));
    must(gyre_sim_create(&run.sim, &options), "world");
    history_init(&run.history);
    must(gyre_sim_check(run.sim, history_check, &run.history), "check");
    add_server();
    for (unsigned i = 0; i < CLIENTS; i++) {
        add_client(i);
    }
    must(gyre_sim_spawn(run.host[0], operator_main, NULL, 0, NULL), "operator");
}

static void report_failure(uint64_t seed)
{
    static const char *const names[] = {"", " --personality uring", " --personality epoll"};

    printf("FAIL %s\n", gyre_sim_failure(run.sim));
    printf("again: sim-kv-test --seed 0x%" PRIx64 "%s%s --trace\n", seed,
           names[settings.personality], settings.planted_bug ? " --planted-bug" : "");
}

/* Returns the hash of the run; 0: it failed. */
static uint64_t run_seed(uint64_t seed)
{
    const size_t before = gyre_allocator_live(); /* what failed runs have lost */
    uint64_t hash;

    prepare(seed);
    if (gyre_sim_run(run.sim) == 0 && gyre_allocator_live() != before) {
        gyre_sim_fail(run.sim, "memory is left at the end");
    }
    hash = gyre_sim_hash(run.sim);
    if (gyre_sim_failure(run.sim) != NULL) {
        report_failure(seed);
        hash = 0;
    }
    gyre_sim_destroy(run.sim);
    return hash;
}

static int run_seeds(void)
{
    uint64_t hash = 0;
    uint64_t done = 0;
    uint64_t failed = 0;

    while (done < settings.seeds && (failed == 0 || settings.keep_going)) {
        const uint64_t one = run_seed(settings.first + done++);

        failed += one == 0;
        hash = (hash ^ one) * UINT64_C(0x100000001b3);
    }
    printf("%" PRIu64 " seeds, %" PRIu64 " failed, hash %016" PRIx64 "\n", done, failed, hash);
    return failed > 0;
}

/* ---- arguments ---- */

static uint64_t number_of(struct argp_state *state, const char *text)
{
    char *end;
    uint64_t number;

    errno = 0;
    number = strtoull(text, &end, 0);
    if (errno != 0 || text[0] < '0' || text[0] > '9' || *end != '\0') {
        argp_error(state, "'%s' is not a number", text);
    }
    return number;
}

static enum gyre_sim_personality personality_of(struct argp_state *state, const char *text)
{
    if (strcmp(text, "uring") != 0 && strcmp(text, "epoll") != 0) {
        argp_error(state, "--personality takes uring or epoll, not '%s'", text);
    }
    return strcmp(text, "uring") == 0 ? GYRE_SIM_URING : GYRE_SIM_EPOLL;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'n':
        settings.seeds = number_of(state, text);
        return 0;
    case 'f':
        settings.first = number_of(state, text);
        return 0;
    case 's':
        settings.first = number_of(state, text);
        settings.seeds = 1;
        return 0;
    case 'p':
        settings.personality = personality_of(state, text);
        return 0;
    case 'B':
        settings.planted_bug = 1;
        return 0;
    case 't':
        settings.trace = 1;
        return 0;
    case 'k':
        settings.keep_going = 1;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp_option table[] = {
        {"seeds", 'n', "COUNT", 0, "How many seeds (default 100)", 0},
        {"first", 'f', "SEED", 0, "The first of them (default 0)", 0},
        {"seed", 's', "SEED", 0, "This one alone", 0},
        {"personality", 'p', "NAME", 0, "uring or epoll (default: the seed decides)", 0},
        {"planted-bug", 'B', NULL, 0, "Test a server that has a bug", 0},
        {"trace", 't', NULL, 0, "Print what happens", 0},
        {"keep-going", 'k', NULL, 0, "Go on after a seed that failed", 0},
        {0},
    };
    static const struct argp argp = {
        .options = table, .parser = parse, .doc = "Tests sim-kv-server on simulated machines."};

    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    return run_seeds();
}
