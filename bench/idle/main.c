/*
 * What an idle connection costs in memory.
 *
 * A child process opens many connections, from many source addresses of 127.0.0.0/8; this process
 * accepts them with a gyre listener and does nothing more. The figure is what its anonymous
 * resident memory has grown by, divided by the connections: everything that the library takes from
 * the system for them, tables and what allocators waste included, and nothing that the kernel
 * keeps. It is read again when each connection has echoed a message and is idle once more.
 */
#include "number.h"

#include <argp.h>
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <gyre.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PER_SOURCE = 8192,      /* connections from one address: well below its range of ports */
    OTHER_DESCRIPTORS = 64, /* of a process, beside its connections */
    PROCESSES_MAX = 64,
};

struct idle {
    uint32_t connections;
    enum gyre_backend backend;
    struct gyre_loop *loop;
    struct gyre_listener listener;
    uint32_t echoed;
    uint32_t ended;
};

static struct idle idle = {.connections = 100000};

static void idle_must(int rc, const char *what)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "%s: %s", what, gyre_strerror(rc));
    }
}

/* ---- the client: a process of its own ---- */

static int connect_from(uint32_t index, const struct sockaddr_in *server)
{
    const struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / PER_SOURCE),
    };
    const struct linger reset = {.l_onoff = 1};
    const int on = 1;
    const int number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (number < 0 ||
        setsockopt(number, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0 ||
        setsockopt(number, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
        bind(number, (const struct sockaddr *)&source, sizeof(source)) < 0 ||
        connect(number, (const struct sockaddr *)server, sizeof(*server)) < 0) {
        err(EXIT_FAILURE, "connection %u", index);
    }
    return number;
}

/* Waits for the other process; ends with it. */
static void await_word(int control)
{
    char word;

    if (read(control, &word, 1) != 1) {
        exit(EXIT_SUCCESS);
    }
}

static void run_client(int control)
{
    int *numbers = calloc(idle.connections, sizeof(*numbers));
    struct sockaddr_in server;
    char byte = 'x';

    if (numbers == NULL || read(control, &server, sizeof(server)) != sizeof(server)) {
        exit(EXIT_FAILURE);
    }
    for (uint32_t i = 0; i < idle.connections; i++) {
        numbers[i] = connect_from(i, &server);
    }
    await_word(control);
    for (uint32_t i = 0; i < idle.connections; i++) {
        if (write(numbers[i], &byte, 1) != 1 || read(numbers[i], &byte, 1) != 1) {
            err(EXIT_FAILURE, "echo on connection %u", i);
        }
    }
    await_word(control);
    free(numbers);
}

/* ---- the server ---- */

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    idle_must(gyre_stream_forward(stream, data), "forward");
    idle.echoed++;
}

static void on_close(struct gyre_stream *stream, int error)
{
    (void)stream;
    (void)error;
    idle.ended++;
}

static const struct gyre_stream_handler idle_handler = {.on_data = on_data, .on_close = on_close};

/* Bytes of anonymous memory that this process has in use. */
static size_t resident(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    char line[256];
    size_t kib = 0;

    if (status == NULL) {
        err(EXIT_FAILURE, "/proc/self/status");
    }
    while (fgets(line, sizeof(line), status) != NULL && sscanf(line, "RssAnon: %zu", &kib) != 1) {
    }
    fclose(status);
    return kib * 1024;
}

/* Bytes by which this process has grown since @before. */
static size_t growth(size_t before)
{
    const size_t now = resident();

    return now > before ? now - before : 0;
}

static void run_until(const uint32_t *counter, pid_t client)
{
    while (*counter < idle.connections) {
        if (client != 0 && waitpid(client, NULL, WNOHANG) == client) {
            errx(EXIT_FAILURE, "the client ended early");
        }
        idle_must(gyre_loop_run(idle.loop, GYRE_RUN_ONCE), "run");
    }
}

static void tell(int control, const void *data, size_t len)
{
    if (write(control, data, len) != (ssize_t)len) {
        err(EXIT_FAILURE, "control");
    }
}

/* Each figure is told to @parent, and the next step begins when it says so: the connections of all
 * processes are open at the same time. */
static void measure(int parent, int control, pid_t client)
{
    const struct gyre_listener_options options = {
        .handler = &idle_handler,
        .max_connections = idle.connections,
    };
    struct gyre_addr address;
    size_t figure;
    size_t before;

    idle_must(gyre_listen(idle.loop, &idle.listener, "127.0.0.1:0", &options), "listen");
    idle_must(gyre_listener_address(&idle.listener, &address), "address");
    before = resident();
    tell(control, &address.in, sizeof(address.in));
    run_until(&idle.listener.count, client);
    figure = growth(before);
    tell(parent, &figure, sizeof(figure));
    await_word(parent);
    tell(control, "m", 1);
    run_until(&idle.echoed, client);
    figure = growth(before);
    tell(parent, &figure, sizeof(figure));
    await_word(parent);
    tell(control, "e", 1);
    run_until(&idle.ended, 0);
    idle_must(gyre_listener_close(&idle.listener), "close");
    idle_must(gyre_loop_run(idle.loop, GYRE_RUN_DEFAULT), "run");
}

/* ---- options ---- */

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'n':
        idle.connections = (uint32_t)number_argument(text, 1, 1000000, state);
        return 0;
    case 'b':
        if (strcmp(text, "uring") != 0 && strcmp(text, "epoll") != 0) {
            argp_error(state, "--backend takes uring or epoll, not '%s'", text);
        }
        idle.backend = strcmp(text, "uring") == 0 ? GYRE_BACKEND_URING : GYRE_BACKEND_EPOLL;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* As many open files as may be had, up to what all connections need. Returns how many. */
static uint32_t raise_limit(void)
{
    const rlim_t wanted = idle.connections + OTHER_DESCRIPTORS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        err(EXIT_FAILURE, "getrlimit");
    }
    if (limit.rlim_max < wanted) { /* needs privilege */
        const struct rlimit more = {.rlim_cur = wanted, .rlim_max = wanted};

        if (setrlimit(RLIMIT_NOFILE, &more) == 0) {
            return (uint32_t)wanted;
        }
    }
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        err(EXIT_FAILURE, "setrlimit");
    }
    return (uint32_t)limit.rlim_cur;
}

/* A child that runs @body with one end of a socket pair; it ends with this process. */
static pid_t start_child(void (*body)(int control), int *out_control)
{
    int control[2];
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) < 0) {
        err(EXIT_FAILURE, "socketpair");
    }
    child = fork();
    if (child < 0) {
        err(EXIT_FAILURE, "fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(control[0]);
        body(control[1]);
        exit(EXIT_SUCCESS);
    }
    close(control[1]);
    *out_control = control[0];
    return child;
}

static void run_server(int parent)
{
    int control;
    const pid_t client = start_child(run_client, &control);

    idle_must(gyre_loop_create(&idle.loop, &(struct gyre_loop_options){.backend = idle.backend}),
              "loop");
    measure(parent, control, client);
    close(control);
    waitpid(client, NULL, 0);
    idle_must(gyre_loop_destroy(idle.loop), "destroy");
}

static double collect(const int *controls, uint32_t count)
{
    size_t sum = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t figure;

        if (read(controls[i], &figure, sizeof(figure)) != sizeof(figure)) {
            errx(EXIT_FAILURE, "a server ended early");
        }
        sum += figure;
    }
    for (uint32_t i = 0; i < count; i++) {
        tell(controls[i], "g", 1);
    }
    return (double)sum;
}

static void print_heading(uint32_t processes, uint32_t total)
{
    struct gyre_loop_info info;

    idle_must(gyre_loop_create(&idle.loop, &(struct gyre_loop_options){.backend = idle.backend}),
              "loop");
    idle_must(gyre_loop_info(idle.loop, &info), "info");
    printf("%s, %u connections in %u process%s, struct gyre_stream %zu bytes\n", info.backend_name,
           total, processes, processes == 1 ? "" : "es", sizeof(struct gyre_stream));
    printf("%-34s %10s\n", "", "bytes each");
    fflush(stdout);
    idle_must(gyre_loop_destroy(idle.loop), "destroy");
}

int main(int argc, char **argv)
{
    static const struct argp_option own[] = {
        {"connections", 'n', "N", 0, "how many; default 100000", 0},
        {"backend", 'b', "NAME", 0, "uring or epoll; default: as gyre chooses", 0},
        {0},
    };
    static const struct argp argp = {
        .options = own,
        .parser = parse_option,
        .doc = "Prints the user memory of an idle connection. Where a process may not have as many "
               "open files as connections are asked for, several processes share them."};
    int controls[PROCESSES_MAX];
    uint32_t processes;
    uint32_t total;
    int status;

    argp_parse(&argp, argc, argv, 0, NULL, NULL);
    processes = idle.connections / (raise_limit() - OTHER_DESCRIPTORS) + 1;
    if (processes > PROCESSES_MAX) {
        errx(EXIT_FAILURE, "too many connections for the limit of open files");
    }
    idle.connections /= processes;
    total = idle.connections * processes;
    print_heading(processes, total);
    for (uint32_t i = 0; i < processes; i++) {
        start_child(run_server, &controls[i]);
    }
    printf("%-34s %10.1f\n", "accepted, nothing received yet",
           collect(controls, processes) / total);
    printf("%-34s %10.1f\n", "idle again after a message each",
           collect(controls, processes) / total);
    while (wait(&status) > 0) {
        if (status != 0) {
            errx(EXIT_FAILURE, "a server failed");
        }
    }
    return EXIT_SUCCESS;
}
