/*
 * gyre-idle-load: what connections cost that do nothing.
 *
 * Opens so many connections to an echo server and reads the server's resident memory: once all are
 * accepted, and again after each has had one message echoed. What the kernel holds for them is the
 * growth of its slabs, both ends together. Then the server's CPU time while nothing happens, and
 * the service time of one busy connection among the idle ones.
 *
 * Connections are accepted in order, so an answer on a later one says that the earlier ones are
 * accepted; one is asked for now and then, so that the backlog does not overflow.
 */
#include "clock.h"
#include "cpu_time.h"
#include "histogram.h"
#include "source.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_PER_SOURCE 8192u
#define PROBE_EVERY            1000u
#define OTHER_DESCRIPTORS      32u

struct idle {
    struct source_options options;
    int *fds;
    int probe; /* the busy connection */
};

static struct idle idle;

static void raise_limit(void)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0 ||
        limit.rlim_cur < idle.options.connections + OTHER_DESCRIPTORS) {
        source_fail(SOURCE_SYSTEM, "%u connections need more than the %llu open files allowed",
                    idle.options.connections, (unsigned long long)limit.rlim_cur);
    }
}

static int connect_one(uint32_t index)
{
    const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    const struct timeval limit = {.tv_sec = idle.options.timeout_ms / 1000};
    const int on = 1;
    const struct sockaddr_in source = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK + index / CONNECTIONS_PER_SOURCE),
    };
    const struct sockaddr_in server = {
        .sin_family = AF_INET,
        .sin_port = htons(idle.options.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on)) < 0 ||
        bind(fd, (const struct sockaddr *)&source, sizeof(source)) < 0) {
        source_fail(SOURCE_SYSTEM, "socket %u: %s", index, strerror(errno));
    }
    if (connect(fd, (const struct sockaddr *)&server, sizeof(server)) < 0) {
        source_fail(SOURCE_REFUSED, "connection %u: %s", index, strerror(errno));
    }
    return fd;
}

static void exchange(int fd, uint32_t number)
{
    uint32_t message[16];
    uint32_t answer[16] = {0};
    size_t used = 0;

    for (uint32_t i = 0; i < 16; i++) {
        message[i] = number * 2654435761u + i;
    }
    if (send(fd, message, sizeof(message), MSG_NOSIGNAL) != sizeof(message)) {
        source_fail(SOURCE_LOST, "connection %u: %s", number, strerror(errno));
    }
    while (used < sizeof(answer)) {
        const ssize_t n = recv(fd, (char *)answer + used, sizeof(answer) - used, 0);

        if (n <= 0) {
            source_fail(n < 0 && errno == EAGAIN ? SOURCE_STALLED : SOURCE_LOST,
                        "connection %u: %s", number, n == 0 ? "closed" : strerror(errno));
        }
        used += (size_t)n;
    }
    if (memcmp(message, answer, sizeof(message)) != 0) {
        source_fail(SOURCE_WRONG_BYTES, "connection %u: wrong bytes", number);
    }
}

/* A number behind a word in a file of /proc, in KiB there. */
static uint64_t read_kib(const char *path, const char *word)
{
    FILE *file = fopen(path, "re");
    char line[256];
    uint64_t value = 0;

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, word, strlen(word)) == 0) {
            value = strtoull(line + strlen(word), NULL, 10) * 1024;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return value;
}

static uint64_t server_memory(void)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/status", (int)idle.options.server_pid);
    return read_kib(path, "VmRSS:");
}

static uint64_t kernel_memory(void)
{
    return read_kib("/proc/meminfo", "Slab:") + read_kib("/proc/meminfo", "KernelStack:");
}

static void open_all(void)
{
    for (uint32_t i = 0; i < idle.options.connections; i++) {
        idle.fds[i] = connect_one(i);
        if (i % PROBE_EVERY == PROBE_EVERY - 1) {
            const int fd = connect_one(i);

            exchange(fd, i);
            close(fd);
        }
    }
    idle.probe = connect_one(idle.options.connections);
    exchange(idle.probe, 0);
}

/* Share of a CPU that the server uses while nobody wants anything. */
static double idle_share(void)
{
    uint64_t before = 0;
    uint64_t after = 0;

    cpu_time_settled(idle.options.server_pid, &before);
    const uint64_t start = clock_now_ns();

    poll(NULL, 0, (int)idle.options.duration_ms);
    cpu_time_settled(idle.options.server_pid, &after);
    return (double)(after - before) / (double)(clock_now_ns() - start);
}

static json_t *busy_json(void)
{
    static struct histogram times;
    const uint64_t end = clock_now_ns() + idle.options.duration_ms * NS_PER_MS;
    uint32_t number = 0;

    while (clock_now_ns() < end) {
        const uint64_t start = clock_now_ns();

        exchange(idle.probe, number++);
        histogram_add(&times, clock_now_ns() - start);
    }
    return json_pack("{sI sI sI}", "p50", (json_int_t)histogram_percentile(&times, 50.0), "p99",
                     (json_int_t)histogram_percentile(&times, 99.0), "max", (json_int_t)times.max);
}

static double each(uint64_t after, uint64_t before)
{
    return ((double)after - (double)before) / (double)idle.options.connections;
}

int main(int argc, char **argv)
{
    source_parse(argc, argv,
                 "Opens connections to an echo server, leaves them alone, and says what they cost.",
                 &idle.options);
    raise_limit();
    idle.fds = calloc(idle.options.connections, sizeof(*idle.fds));
    if (idle.fds == NULL || idle.options.server_pid == 0) {
        source_fail(SOURCE_USAGE, "--server-pid is missing, or memory");
    }
    const int first = connect_one(0);

    exchange(first, 0); /* what the server allocates once */
    const uint64_t user_before = server_memory();
    const uint64_t kernel_before = kernel_memory();

    open_all();
    const uint64_t user_accepted = server_memory();

    for (uint32_t i = 0; i < idle.options.connections; i++) {
        exchange(idle.fds[i], i);
    }
    const uint64_t user_after = server_memory();
    const uint64_t kernel_after = kernel_memory();
    const double share = idle_share();

    source_print(json_pack(
        "{sb sI sf sf sf sf so}", "ok", 1, "connections", (json_int_t)idle.options.connections,
        "user_bytes_accepted", each(user_accepted, user_before), "user_bytes",
        each(user_after, user_before), "kernel_bytes", each(kernel_after, kernel_before),
        "idle_cpu_share", share, "busy_service_ns", busy_json()));
    return SOURCE_OK;
}
