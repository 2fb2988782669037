/*
 * What a number means nothing without: the kernel, the CPU and its mitigations, the build.
 */
#include "bench.h"
#include "clock.h"
#include "commit.h"

#include <dirent.h>
#include <gyre.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* Set by the build. */
#ifndef BENCH_COMPILER
#define BENCH_COMPILER "unknown"
#endif
#ifndef BENCH_FLAGS
#define BENCH_FLAGS "unknown"
#endif
#ifndef BENCH_LIBURING
#define BENCH_LIBURING "unknown"
#endif
#ifndef BENCH_VERSION
#define BENCH_VERSION "unknown"
#endif

#ifndef BENCH_PEERS
#define BENCH_PEERS ""
#endif

#define VULNERABILITIES "/sys/devices/system/cpu/vulnerabilities"

static json_t *file_json(const char *path)
{
    char line[256] = "";
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        return json_null();
    }
    const bool got = fgets(line, sizeof(line), file) != NULL;

    fclose(file);
    line[strcspn(line, "\n")] = '\0';
    return got ? json_string(line) : json_null();
}

static json_t *cpu_json(void)
{
    char line[256];
    char name[200] = "unknown";
    FILE *file = fopen("/proc/cpuinfo", "re");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "model name : %199[^\n]", name) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return json_pack("{ss sI}", "model", name, "online", (json_int_t)sysconf(_SC_NPROCESSORS_ONLN));
}

/* Only what applies to this CPU. */
static json_t *mitigations_json(void)
{
    json_t *all = json_object();
    DIR *directory = opendir(VULNERABILITIES);
    const struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        char path[sizeof(VULNERABILITIES) + sizeof(entry->d_name) + 1];

        snprintf(path, sizeof(path), "%s/%s", VULNERABILITIES, entry->d_name);
        json_t *value = entry->d_name[0] == '.' ? json_null() : file_json(path);
        const char *text = json_string_value(value);

        if (text != NULL && strcmp(text, "Not affected") != 0) {
            json_object_set(all, entry->d_name, value);
        }
        json_decref(value);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return all;
}

/* "name=version;..." as an object. */
static json_t *peers_json(void)
{
    json_t *peers = json_object();
    char list[] = BENCH_PEERS;
    char *save = NULL;

    for (char *pair = strtok_r(list, ";", &save); pair != NULL; pair = strtok_r(NULL, ";", &save)) {
        char *equals = strchr(pair, '=');

        if (equals != NULL) {
            *equals = '\0';
            json_object_set_new(peers, pair, json_string(equals + 1));
        }
    }
    return peers;
}

/* What entering the kernel costs, which is most of what tells io_uring from epoll: 1,000 ns where page
 * tables are changed and a hypervisor has a part in it. The least of some batches. */
static json_int_t system_call_ns(void)
{
    enum { BATCHES = 16, CALLS = 1000 };
    uint64_t least = UINT64_MAX;

    for (int i = 0; i < BATCHES; i++) {
        const uint64_t start = clock_now_ns();

        for (int call = 0; call < CALLS; call++) {
            getppid(); /* does nothing, and is not cached */
        }
        const uint64_t took = clock_now_ns() - start;

        least = took < least ? took : least;
    }
    return (json_int_t)(least / CALLS);
}

/* What gyre's driver uses of io_uring here, and why not the rest; or why there is none. */
static json_t *uring_json(void)
{
    const struct gyre_loop_options wanted = {.backend = GYRE_BACKEND_URING};
    struct gyre_loop *loop = NULL;
    struct gyre_loop_info info;
    json_t *features = json_object();

    if (gyre_loop_create(&loop, &wanted) < 0) {
        json_decref(features);
        return json_string(gyre_loop_refusal());
    }
    const bool known = gyre_loop_info(loop, &info) == 0;

    for (size_t i = 0; known && i < GYRE_FEATURE_COUNT; i++) {
        json_object_set_new(features, info.feature_names[i], json_string(info.feature_why[i]));
    }
    if (gyre_loop_destroy(loop) < 0) {
        json_object_set_new(features, "destroy", json_string("failed"));
    }
    return features;
}

json_t *environment_json(void)
{
    struct utsname name;

    uname(&name);
    return json_pack(
        "{ss ss ss so so sI so so ss so so ss ss ss ss}", "kernel", name.release, "kernel_build",
        name.version, "machine", name.machine, "cpu", cpu_json(), "mitigations", mitigations_json(),
        "system_call_ns", system_call_ns(), "clocksource",
        file_json("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "default_congestion_control", file_json("/proc/sys/net/ipv4/tcp_congestion_control"),
        "liburing", BENCH_LIBURING, "io_uring", uring_json(), "peers", peers_json(), "compiler",
        BENCH_COMPILER, "flags", BENCH_FLAGS, "version", BENCH_VERSION, "commit", BENCH_COMMIT);
}

const char *environment_commit(void)
{
    return BENCH_COMMIT;
}
