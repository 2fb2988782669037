/*
 * Programs that are not ours: nginx, HAProxy, wrk. They are found in PATH, get their configuration in
 * a directory of their own under /tmp, and announce nothing: a port is chosen beforehand, and the
 * server is there when it accepts. A port that somebody took meanwhile makes the server end, which is
 * seen and said.
 *
 * A run that is killed leaves its directory. Each is locked while it is in use, and the kernel ends a
 * lock with its process: what can be locked by the next run belongs to nobody any more.
 */
#include "measure.h"

#include "clock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define START_LIMIT_NS (10 * NS_PER_S)
#define STOP_GRACE_MS  5000
#define LOOK_AGAIN_MS  10

#define DIRECTORY_PREFIX "gyre-bench.run-"
/* Younger than this a directory may just be about to be locked. */
#define ABANDONED_S      60

static int free_port(unsigned *out_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = fd;

    if (rc >= 0) {
        rc = bind(fd, (struct sockaddr *)&address, len);
    }
    if (rc >= 0) {
        rc = getsockname(fd, (struct sockaddr *)&address, &len);
    }
    *out_port = ntohs(address.sin_port);
    if (fd >= 0) {
        close(fd);
    }
    return rc < 0 ? -errno : 0;
}

int external_open(struct external *external, struct sample *sample)
{
    snprintf(external->directory, sizeof(external->directory), "/tmp/" DIRECTORY_PREFIX "XXXXXX");
    if (mkdtemp(external->directory) == NULL || free_port(&external->port) < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", external->directory, strerror(errno));
        return -1;
    }
    external->lock_fd = open(external->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (external->lock_fd < 0 || flock(external->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", external->directory, strerror(errno));
        external_close(external);
        return -1;
    }
    return 0;
}

static void remove_directory(const char *path)
{
    DIR *directory = opendir(path);
    const struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (entry->d_name[0] != '.' && unlinkat(dirfd(directory), entry->d_name, 0) < 0) {
            unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    rmdir(path);
}

void external_close(const struct external *external)
{
    remove_directory(external->directory);
    if (external->lock_fd >= 0) {
        close(external->lock_fd);
    }
}

static void sweep_one(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat status;

    if (fd < 0) {
        return;
    }
    if (fstat(fd, &status) == 0 && status.st_uid == geteuid() &&
        time(NULL) - status.st_mtime > ABANDONED_S && flock(fd, LOCK_EX | LOCK_NB) == 0) {
        remove_directory(path);
    }
    close(fd);
}

void external_sweep(void)
{
    DIR *directory = opendir("/tmp");
    const struct dirent *entry;

    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        if (strncmp(entry->d_name, DIRECTORY_PREFIX, sizeof(DIRECTORY_PREFIX) - 1) == 0) {
            char path[PATH_MAX];

            snprintf(path, sizeof(path), "/tmp/%s", entry->d_name);
            sweep_one(path);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

int external_file(const struct external *external, struct sample *sample, const char *name,
                  const char *text)
{
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", external->directory, name);
    FILE *file = fopen(path, "we");

    if (file == NULL || fputs(text, file) == EOF || fclose(file) == EOF) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", path, strerror(errno));
        return -1;
    }
    return 0;
}

int external_command(struct command *command, struct sample *sample, const char *program)
{
    const char *path = getenv("PATH");
    char places[4096];
    char *save = NULL;

    command->argc = 0;
    command->text_count = 0;
    snprintf(places, sizeof(places), "%s:/usr/sbin:/usr/bin", path == NULL ? "" : path);
    for (const char *place = strtok_r(places, ":", &save); place != NULL;
         place = strtok_r(NULL, ":", &save)) {
        if (snprintf(command->path, PATH_MAX, "%s/%s", place, program) < PATH_MAX &&
            access(command->path, X_OK) == 0) {
            command_add(command, command->path);
            return 0;
        }
    }
    sample_fail(sample, OUTCOME_SKIPPED, "%s is not installed", program);
    return -1;
}

static bool accepts(unsigned port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected =
        fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return connected;
}

int server_start_at(struct server *server, const struct bench_options *options,
                    struct sample *sample, const struct command *command, unsigned port)
{
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)command->argv,
        .cpu = options->server_cpu,
    };
    const uint64_t end = clock_now_ns() + START_LIMIT_NS;
    int rc = child_spawn(&server->child, &spec);

    if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", command->argv[0], strerror(-rc));
        return -1;
    }
    server->port = port;
    do {
        rc = child_wait(&server->child, LOOK_AGAIN_MS);
    } while (rc == -ETIMEDOUT && !accepts(port) && clock_now_ns() < end);
    if (rc == -ETIMEDOUT && accepts(port)) {
        return 0;
    }
    if (rc == 0) {
        char text[300];

        child_error_text(&server->child, text, sizeof(text));
        sample_fail(sample, OUTCOME_FAILED, "the server did not start: %s", text);
    }
    sample_fail(sample, rc == -EINTR ? OUTCOME_INTERRUPTED : OUTCOME_FAILED,
                "the server does not accept connections: %s", strerror(-rc));
    child_stop(&server->child, STOP_GRACE_MS);
    child_release(&server->child);
    return -1;
}

int program_output(struct sample *sample, const struct command *command, int cpu, int limit_ms,
                   char *output, size_t size)
{
    const struct child_spec spec = {
        .argv = (char *const *)(uintptr_t)command->argv,
        .cpu = cpu,
    };
    struct child child;
    size_t used = 0;
    int rc = child_spawn(&child, &spec);

    if (rc < 0) {
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", command->argv[0], strerror(-rc));
        return -1;
    }
    /* Line by line, so that an interruption is seen. */
    while (rc == 0 && used + 1 < size) {
        rc = child_read_line(&child, output + used, size - used, limit_ms);
        if (rc == 0) {
            used += strlen(output + used);
            output[used++] = '\n';
        }
    }
    output[used < size ? used : size - 1] = '\0';
    if (rc == -EPIPE) {
        rc = child_wait(&child, STOP_GRACE_MS);
    }
    child_stop(&child, STOP_GRACE_MS);
    if (rc == 0 && child.status != 0) {
        char text[300];

        child_error_text(&child, text, sizeof(text));
        sample_fail(sample, OUTCOME_FAILED, "%s: %s", command->argv[0], text);
    } else if (rc < 0) {
        sample_fail(sample, rc == -EINTR ? OUTCOME_INTERRUPTED : OUTCOME_FAILED, "%s: %s",
                    command->argv[0], strerror(-rc));
    }
    child_release(&child);
    return sample->outcome == OUTCOME_OK ? 0 : -1;
}
