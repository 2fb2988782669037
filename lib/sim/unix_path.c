/*
 * The names of simulated Unix sockets: files, and abstract names.
 *
 *     no file --bind()--> a file with its socket --close()--> a file that refuses --unlink()--> none
 *                                   |                                                      |
 *                                   +---------------------unlink()-------------------------+
 *
 * A host has no other files than these, and every directory exists: a path is compared as the text
 * that it is. An abstract name has no file and ends with its socket. Stream and datagram sockets may
 * have the same abstract name, but not the same path.
 */
#include "sim/unix.h"

#include <stdio.h>

enum {
    PATH_ROOM = sizeof(((struct unix_path *)NULL)->name),
    UMASK = 022,
    AUTOBIND_MASK = 0xfffff, /* five hexadecimal digits */
};

static const size_t name_offset = offsetof(struct sockaddr_un, sun_path);

/* ---- files ---- */

static struct unix_path *path_find(const struct gyre_sim_host *host, const char *name)
{
    for (struct gyre_link *link = host->paths.next; link != &host->paths; link = link->next) {
        struct unix_path *path = gyre_container_of(link, struct unix_path, link);

        if (strcmp(path->name, name) == 0) {
            return path;
        }
    }
    return NULL;
}

static void path_remove(struct unix_path *path)
{
    gyre__list_remove(&path->link);
    if (path->socket != NULL) {
        path->socket->path = NULL;
    }
    free(path);
}

int gyre__sim_path_stat(struct gyre_sim_host *host, const char *name, struct stat *out_file)
{
    const struct unix_path *path = path_find(host, name);

    if (path == NULL) {
        return -ENOENT;
    }
    memset(out_file, 0, sizeof(*out_file));
    out_file->st_dev = host->index + 1;
    out_file->st_ino = path->inode;
    out_file->st_mode = S_IFSOCK | path->mode;
    out_file->st_nlink = 1;
    out_file->st_uid = path->owner.uid;
    out_file->st_gid = path->owner.gid;
    return 0;
}

int gyre__sim_path_unlink(struct gyre_sim_host *host, const char *name)
{
    struct unix_path *path = path_find(host, name);

    if (path == NULL) {
        return -ENOENT;
    }
    gyre__sim_trace(host->sim, "unlink %s %s", host->name, name);
    path_remove(path);
    return 0;
}

int gyre__sim_path_chmod(struct gyre_sim_host *host, const char *name, mode_t mode)
{
    struct unix_path *path = path_find(host, name);

    if (path == NULL) {
        return -ENOENT;
    }
    path->mode = mode & 07777;
    return 0;
}

void gyre__sim_paths_free(struct gyre_sim_host *host)
{
    while (!gyre__list_empty(&host->paths)) {
        path_remove(gyre_container_of(host->paths.next, struct unix_path, link));
    }
}

/* ---- names ---- */

int gyre__sim_unix_check_name(const struct sockaddr *address, socklen_t len)
{
    if (len <= name_offset || len > sizeof(struct sockaddr_un) || address->sa_family != AF_UNIX) {
        return -EINVAL;
    }
    return 0;
}

/* The path ends with its first zero, or with the address. */
static void path_of(const struct sockaddr *address, socklen_t len, char *out_name)
{
    const char *text = (const char *)address + name_offset;
    const size_t most = len - name_offset;
    const size_t used = strnlen(text, most);

    memcpy(out_name, text, used);
    out_name[used] = '\0';
}

static int is_abstract(const struct sockaddr *address)
{
    return ((const char *)address)[name_offset] == '\0';
}

static struct unix_socket *abstract_find(const struct gyre_sim_host *host, int type,
                                         const struct sockaddr *address, socklen_t len)
{
    for (struct gyre_link *link = host->abstract.next; link != &host->abstract; link = link->next) {
        struct unix_socket *one = gyre_container_of(link, struct unix_socket, abstract);

        if (one->socket.type == type && one->name_len == len &&
            memcmp(&one->name, address, len) == 0) {
            return one;
        }
    }
    return NULL;
}

int gyre__sim_unix_find(const struct unix_socket *self, const struct sockaddr *address,
                        socklen_t len, struct unix_socket **out_socket)
{
    struct gyre_sim_host *host = self->socket.file.host;
    char name[PATH_ROOM];
    const struct unix_path *path;

    if (is_abstract(address)) {
        *out_socket = abstract_find(host, self->socket.type, address, len);
        return *out_socket != NULL ? 0 : -ECONNREFUSED;
    }
    path_of(address, len, name);
    path = path_find(host, name);
    if (path == NULL) {
        return -ENOENT;
    }
    if (path->socket == NULL) {
        return -ECONNREFUSED;
    }
    *out_socket = path->socket;
    return path->socket->socket.type == self->socket.type ? 0 : -EPROTOTYPE;
}

/* ---- bind ---- */

static void set_name(struct unix_socket *self, const void *name, size_t len)
{
    self->name.ss_family = AF_UNIX;
    memcpy((char *)&self->name + name_offset, name, len);
    self->name_len = (socklen_t)(name_offset + len);
}

static void bind_abstract(struct unix_socket *self, const void *name, size_t len)
{
    set_name(self, name, len);
    gyre__list_append(&self->socket.file.host->abstract, &self->abstract);
    gyre__sim_trace(self->socket.file.sim, "unix #%llu bind @%.*s",
                    (unsigned long long)self->socket.file.id, (int)len - 1,
                    (const char *)&self->name + name_offset + 1);
}

/* The terminating zero counts, also when the path is so long that the address had no room for it. */
static void bind_path(struct unix_socket *self, const char *name)
{
    struct gyre_sim_host *host = self->socket.file.host;
    struct unix_path *path = gyre__sim_alloc(sizeof(*path));
    const size_t len = strlen(name);

    memcpy(path->name, name, len);
    path->socket = self;
    path->inode = ++host->inodes;
    path->mode = 0777 & ~UMASK;
    path->owner = gyre__sim_unix_who(self);
    gyre__list_append(&host->paths, &path->link);
    self->path = path;
    set_name(self, path->name, len + 1);
    gyre__sim_trace(host->sim, "unix #%llu bind %s", (unsigned long long)self->socket.file.id,
                    name);
}

/* A name that nobody has: a zero and five hexadecimal digits. */
int gyre__sim_unix_autobind(struct unix_socket *self)
{
    struct sim_file *file = &self->socket.file;
    uint32_t number;

    if (self->name_len > 0) {
        return 0;
    }
    number = (uint32_t)gyre__sim_random(file->sim) & AUTOBIND_MASK;
    for (uint32_t tries = 0; tries <= AUTOBIND_MASK; tries++) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        char text[16];

        snprintf(text, sizeof(text), "%05x", (unsigned)((number + tries) & AUTOBIND_MASK));
        memcpy(name.sun_path + 1, text, 5);
        if (abstract_find(file->host, self->socket.type, (const struct sockaddr *)&name,
                          (socklen_t)name_offset + 6) == NULL) {
            bind_abstract(self, name.sun_path, 6);
            return 0;
        }
    }
    return -ENOSPC;
}

int gyre__sim_unix_bind(struct sim_socket *socket, const struct sockaddr *address, socklen_t len)
{
    struct unix_socket *self = unix_of(socket);
    struct gyre_sim_host *host = socket->file.host;
    char name[PATH_ROOM];
    int rc;

    if (len == name_offset && address->sa_family == AF_UNIX) {
        return gyre__sim_unix_autobind(self);
    }
    rc = gyre__sim_unix_check_name(address, len);
    if (rc < 0) {
        return rc;
    }
    if (is_abstract(address)) {
        if (self->name_len > 0) {
            return -EINVAL;
        }
        if (abstract_find(host, socket->type, address, len) != NULL) {
            return -EADDRINUSE;
        }
        bind_abstract(self, (const char *)address + name_offset, len - name_offset);
        return 0;
    }
    path_of(address, len, name);
    if (path_find(host, name) != NULL) {
        return -EADDRINUSE;
    }
    if (self->name_len > 0) {
        return -EINVAL;
    }
    bind_path(self, name);
    return 0;
}

void gyre__sim_unix_unbind(struct unix_socket *self)
{
    gyre__list_remove(&self->abstract);
    if (self->path != NULL) {
        self->path->socket = NULL;
        self->path = NULL;
    }
}
