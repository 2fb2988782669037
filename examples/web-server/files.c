/* Files kept ready to be sent; see files.h. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <gyre/base.h>
#include <http_parser.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_MAX = 512,
    DATE_OFFSET = sizeof("HTTP/1.1 200 OK\r\nDate: ") - 1,
};

static const char page_text[] =
    "<!doctype html>\n<title>gyre</title>\n<p>Hello from the gyre web server.</p>\n";

/* ---- dates ---- */

static void format_date(time_t second, char text[FILES_DATE_LEN + 1])
{
    static const char days[] = "SunMonTueWedThuFriSat";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    struct tm tm;

    if (gmtime_r(&second, &tm) == NULL || tm.tm_year < -900 || tm.tm_year > 8099) {
        memset(&tm, 0, sizeof(tm)); /* a file from beyond the four digits of a year */
        tm.tm_mday = 1;
        tm.tm_year = 70;
        tm.tm_wday = 4;
    }
    /* The remainders say to the compiler what it cannot know: that the numbers are short. */
    snprintf(text, FILES_DATE_LEN + 1, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
             days + 3 * tm.tm_wday, (unsigned)tm.tm_mday % 100, months + 3 * tm.tm_mon,
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
             (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

void files_set_time(struct files *files, uint64_t now_ns)
{
    struct timespec now;

    files->now_ns = now_ns;
    if (now_ns < files->next_second_ns) {
        return;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    files->next_second_ns = now_ns + GYRE_SEC - (uint64_t)now.tv_nsec;
    files->second = now.tv_sec;
    format_date(now.tv_sec, files->date);
}

/* The heads are copied when they are sent, so the date in them can change at any time. */
static void set_date(const struct files *files, struct file *file)
{
    if (file->dated != files->second) {
        file->dated = files->second;
        memcpy(file->bytes + DATE_OFFSET, files->date, FILES_DATE_LEN);
    }
}

/* ---- making a file ---- */

static const char *type_of(const char *path)
{
    static const struct {
        const char *ending;
        const char *type;
    } types[] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/plain; charset=utf-8"},
        {"json", "application/json"},
        {"xml", "application/xml"},
        {"pdf", "application/pdf"},
        {"wasm", "application/wasm"},
        {"svg", "image/svg+xml"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"ico", "image/vnd.microsoft.icon"},
        {"woff2", "font/woff2"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
    };
    const char *const dot = strrchr(path, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcasecmp(dot + 1, types[i].ending) == 0) {
            return types[i].type;
        }
    }
    return "application/octet-stream";
}

/* The head of the answer for the whole file. */
static size_t write_head(const struct files *files, const struct file *file, char head[HEAD_MAX])
{
    return (size_t)snprintf(head, HEAD_MAX,
                            "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: %s\r\n"
                            "Content-Length: %" PRIu64 "\r\nLast-Modified: %s\r\n"
                            "Accept-Ranges: bytes\r\n",
                            files->date, file->type, file->size, file->modified);
}

/* Its contents have @size bytes, in memory if @in_memory: then they are the caller's to fill in. */
static struct file *make_file(const struct files *files, const char *path, size_t path_len,
                              const struct stat *status, uint64_t size, int in_memory)
{
    struct file *file = calloc(1, sizeof(*file) + path_len + 1);
    char head[HEAD_MAX];

    if (file == NULL) {
        return NULL;
    }
    memcpy(file->path, path, path_len);
    file->references = 1;
    file->fd = -1;
    file->status = *status;
    file->size = size;
    file->type = type_of(file->path);
    file->dated = files->second;
    format_date(status->st_mtime, file->modified);
    file->head_len = write_head(files, file, head);
    file->bytes = malloc(file->head_len + 2 + (in_memory ? size : 0));
    if (file->bytes == NULL) {
        free(file);
        return NULL;
    }
    memcpy(file->bytes, head, file->head_len);
    memcpy(file->bytes + file->head_len, "\r\n", 2);
    return file;
}

void file_refer(struct file *file)
{
    file->references++;
}

void file_release(void *context)
{
    struct file *file = context;

    if (--file->references == 0) {
        if (file->fd >= 0) {
            close(file->fd);
        }
        free(file->bytes);
        free(file);
    }
}

/* ---- reading ---- */

static int status_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EXDEV: /* it leads out of the root */
    case ENAMETOOLONG:
        return HTTP_STATUS_NOT_FOUND;
    case EACCES:
    case EPERM:
        return HTTP_STATUS_FORBIDDEN;
    default: /* out of descriptors, out of memory, a disk that fails ... */
        return HTTP_STATUS_SERVICE_UNAVAILABLE;
    }
}

/*
 * Opens a file below the root, and nothing else: the kernel refuses every path that leads out of
 * it, by "..", by a slash at its start, or by a symbolic link (links that stay inside are fine).
 * Returns the descriptor or a negative HTTP status.
 */
static int open_below(int root, const char *path, struct stat *out_status)
{
    const struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, /* a pipe must not hold us up */
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    const int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));

    if (fd < 0) {
        return -status_of_errno(errno);
    }
    if (fstat(fd, out_status) < 0 || !S_ISREG(out_status->st_mode)) {
        close(fd);
        return -HTTP_STATUS_NOT_FOUND;
    }
    return fd;
}

int64_t file_read(const struct file *file, void *data, size_t len, uint64_t offset)
{
    ssize_t n;

    do {
        n = pread(file->fd, data, len, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* Reads the contents into memory. Returns 0, or -1 when they are not what they were just now. */
static int load(struct file *file)
{
    char *const contents = file->bytes + file->head_len + 2;
    uint64_t len = 0;

    while (len < file->size) {
        const int64_t n = file_read(file, contents + len, file->size - len, len);

        if (n <= 0) {
            return -1;
        }
        len += (uint64_t)n;
    }
    close(file->fd);
    file->fd = -1;
    return 0;
}

/* Takes @fd over. Returns NULL when there is no memory, or the file is being changed. */
static struct file *read_file(const struct files *files, const char *path, size_t len, int fd,
                              const struct stat *status)
{
    const int is_small = status->st_size <= FILES_CONTENTS_MAX;
    struct file *file = make_file(files, path, len, status, (uint64_t)status->st_size, is_small);

    if (file == NULL) {
        close(fd);
        return NULL;
    }
    file->fd = fd;
    if (is_small && load(file) < 0) {
        file_release(file);
        return NULL;
    }
    return file;
}

/* ---- the table ---- */

static struct file **bucket_of(struct files *files, const char *path, size_t len)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)path[i]) * 16777619u;
    }
    return &files->buckets[hash % FILES_BUCKETS];
}

static struct file *look_up(struct files *files, const char *path, size_t len)
{
    struct file *file = *bucket_of(files, path, len);

    while (file != NULL && (strncmp(file->path, path, len) != 0 || file->path[len] != '\0')) {
        file = file->next_in_bucket;
    }
    return file;
}

static void add(struct files *files, struct file *file)
{
    struct file **const bucket = bucket_of(files, file->path, strlen(file->path));

    file->next_in_bucket = *bucket;
    *bucket = file;
    file->older = files->newest;
    file->newer = NULL;
    *(files->newest != NULL ? &files->newest->newer : &files->oldest) = file;
    files->newest = file;
    files->count++;
}

/* Out of the table; who refers to it keeps it. */
static void take_out(struct files *files, struct file *file)
{
    struct file **link = bucket_of(files, file->path, strlen(file->path));

    while (*link != file) {
        link = &(*link)->next_in_bucket;
    }
    *link = file->next_in_bucket;
    *(file->newer != NULL ? &file->newer->older : &files->newest) = file->older;
    *(file->older != NULL ? &file->older->newer : &files->oldest) = file->newer;
    files->count--;
}

static void drop(struct files *files, struct file *file)
{
    take_out(files, file);
    file_release(file);
}

static int is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Looks at the file itself. @known: what the table has, or NULL. Returns as files_find(). */
static int look_at(struct files *files, const char *path, size_t len, struct file *known,
                   struct file **out_file)
{
    struct stat status;
    const int fd =
        files->root < 0 ? -HTTP_STATUS_NOT_FOUND : open_below(files->root, path, &status);
    struct file *file = known;

    if (fd >= 0 && known != NULL && is_same(&status, &known->status)) {
        close(fd);
        take_out(files, file);
    } else {
        if (known != NULL) {
            drop(files, known);
        }
        file = fd < 0 ? NULL : read_file(files, path, len, fd, &status);
        if (file == NULL) {
            return fd < 0 ? fd : -HTTP_STATUS_SERVICE_UNAVAILABLE;
        }
    }
    if (files->count == FILES_MAX) {
        drop(files, files->oldest);
    }
    file->checked_ns = files->now_ns;
    add(files, file);
    *out_file = file;
    return 0;
}

static int find(struct files *files, const char *path, size_t len, struct file **out_file)
{
    struct file *file = look_up(files, path, len);

    if (file == NULL || files->now_ns - file->checked_ns >= GYRE_SEC) {
        const int rc = look_at(files, path, len, file, &file);

        if (rc < 0) {
            return rc;
        }
    }
    set_date(files, file);
    *out_file = file;
    return 0;
}

static int find_index(struct files *files, const char *path, size_t len, struct file **out_file)
{
    static const char name[] = "index.html";
    char full[PATH_MAX];
    int rc = -HTTP_STATUS_NOT_FOUND;

    if (len + sizeof(name) <= sizeof(full)) {
        memcpy(full, path, len);
        memcpy(full + len, name, sizeof(name));
        rc = find(files, full, len + sizeof(name) - 1, out_file);
    }
    if (rc == -HTTP_STATUS_NOT_FOUND && len == 0) {
        set_date(files, files->page);
        *out_file = files->page;
        rc = 0;
    }
    return rc;
}

int files_find(struct files *files, const char *path, size_t len, struct file **out_file)
{
    const int is_directory = len == 0 || path[len - 1] == '/';

    return (is_directory ? find_index : find)(files, path, len, out_file);
}

/* ---- begin and end ---- */

int files_init(struct files *files, const char *root)
{
    const struct stat now = {.st_mtime = time(NULL)};

    memset(files, 0, sizeof(*files));
    files_set_time(files, 0);
    files->next_second_ns = 0;
    files->page = make_file(files, "index.html", strlen("index.html"), &now, strlen(page_text), 1);
    if (files->page == NULL) {
        return -ENOMEM;
    }
    memcpy(files->page->bytes + files->page->head_len + 2, page_text, strlen(page_text));
    files->root = root == NULL ? -1 : open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root != NULL && files->root < 0) {
        const int error = errno;

        file_release(files->page);
        return -error;
    }
    return 0;
}

void files_fini(struct files *files)
{
    while (files->newest != NULL) {
        drop(files, files->newest);
    }
    file_release(files->page);
    if (files->root >= 0) {
        close(files->root);
    }
}
