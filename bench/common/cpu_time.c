/*
 * CPU time of other processes. Which sources are right, and when, is said in cpu_time.h.
 */
#include "cpu_time.h"

#include "clock.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLE_QUIET_NS (200 * UINT64_C(1000))
#define SETTLE_LIMIT_NS (20 * NS_PER_MS)

int cpu_time_process(pid_t pid, uint64_t *out_ns)
{
    clockid_t clock_id;
    struct timespec ts;
    const int rc = clock_getcpuclockid(pid, &clock_id);

    if (rc != 0) {
        return -rc;
    }
    if (clock_gettime(clock_id, &ts) < 0) {
        return -errno;
    }
    *out_ns = (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
    return 0;
}

int cpu_time_settled(pid_t pid, uint64_t *out_ns)
{
    const uint64_t start = clock_now_ns();
    uint64_t now = start;
    uint64_t changed = start;
    uint64_t last = UINT64_MAX;

    while (now - changed < SETTLE_QUIET_NS && now - start < SETTLE_LIMIT_NS) {
        uint64_t value = 0;
        const int rc = cpu_time_process(pid, &value);

        if (rc < 0) {
            return rc;
        }
        now = clock_now_ns();
        if (value != last) {
            last = value;
            changed = now;
        }
    }
    *out_ns = last;
    return 0;
}

/* Reads the first line of a small file in /proc; the newline goes. */
static int read_line(const char *path, char *line, size_t size)
{
    FILE *file = fopen(path, "re");

    if (file == NULL) {
        return -errno;
    }
    const char *got = fgets(line, (int)size, file);

    fclose(file);
    if (got == NULL) {
        return -ENODATA;
    }
    line[strcspn(line, "\n")] = '\0';
    return 0;
}

static pid_t find_thread(const char *name)
{
    DIR *proc = opendir("/proc");
    const struct dirent *entry;
    pid_t found = 0;

    while (proc != NULL && found == 0 && (entry = readdir(proc)) != NULL) {
        char path[300];
        char comm[64];
        const long pid = strtol(entry->d_name, NULL, 10);

        snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
        if (pid > 0 && read_line(path, comm, sizeof(comm)) == 0 && strcmp(comm, name) == 0) {
            found = (pid_t)pid;
        }
    }
    if (proc != NULL) {
        closedir(proc);
    }
    return found;
}

/*
 * /proc/PID/schedstat, of the main thread: ns on a CPU, ns waiting for one, number of time
 * slices.
 */
static int read_schedstat(pid_t pid, uint64_t *out_cpu_ns, uint64_t *out_delay_ns)
{
    char path[64];
    char line[128];

    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    if (read_line(path, line, sizeof(line)) < 0 ||
        sscanf(line, "%" SCNu64 " %" SCNu64, out_cpu_ns, out_delay_ns) != 2) {
        return -ENOENT;
    }
    return 0;
}

int cpu_time_delay(pid_t pid, uint64_t *out_ns)
{
    uint64_t cpu_ns = 0;

    return read_schedstat(pid, &cpu_ns, out_ns);
}

int cpu_time_ksoftirqd(unsigned cpu, uint64_t *out_ns)
{
    char name[32];
    uint64_t delay_ns = 0;

    snprintf(name, sizeof(name), "ksoftirqd/%u", cpu);
    const pid_t pid = find_thread(name);

    return pid == 0 ? -ENOENT : read_schedstat(pid, out_ns, &delay_ns);
}
