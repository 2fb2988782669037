/*
 * The files that a web server hands out, kept ready: for each, the head of the answer, and either
 * its contents behind it or, when it is large, its open descriptor. At most once a second a file is
 * looked at again, so what is handed out is up to a second old.
 *
 * Opening and reading regular files blocks the loop. From the page cache that takes microseconds; a
 * server of more files than fit into memory would read them with gyre_op_read(), which does not
 * block on io_uring, or on the threads of gyre_work.
 */
#ifndef WEB_FILES_H
#define WEB_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

enum {
    FILES_MAX = 256,               /* kept at a time; each may hold a descriptor */
    FILES_CONTENTS_MAX = 64 << 10, /* larger files are not kept in memory */
    FILES_DATE_LEN = 29,           /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    FILES_BUCKETS = 2 * FILES_MAX, /* of the hash table */
};

/* A file that was there when it was last looked at. It lives as long as anybody refers to it. */
struct file {
    struct file *next_in_bucket;
    struct file *newer; /* in the order in which they were looked at */
    struct file *older;
    unsigned references;
    uint64_t checked_ns;
    int64_t dated;      /* the second that the head's Date says */
    struct stat status; /* as it was then */
    uint64_t size;      /* of the contents */
    const char *type;   /* for Content-Type */
    char modified[FILES_DATE_LEN + 1];
    int fd;          /* -1: the contents are in memory */
    size_t head_len; /* without the empty line */
    char *bytes;     /* the head, the empty line, the contents if they are in memory */
    char path[];
};

struct files {
    int root; /* the directory that they are in, or -1: no files, only the page */
    struct file *page;
    struct file *buckets[FILES_BUCKETS];
    struct file *newest;
    struct file *oldest;
    unsigned count;
    uint64_t now_ns; /* of the loop */
    uint64_t next_second_ns;
    int64_t second; /* of the calendar, and the same as text */
    char date[FILES_DATE_LEN + 1];
};

/* Opens the directory @root, or NULL. Returns 0 or -errno. */
int files_init(struct files *files, const char *root);
void files_fini(struct files *files);

/* Tells the time, once a turn or more often: @now_ns of the loop. Cheap unless a second has passed. */
void files_set_time(struct files *files, uint64_t now_ns);

/*
 * Finds the file that @path names below the root; a path that is empty or ends with a slash means
 * index.html there. Returns 0, or a negative HTTP status. *out_file is good until the next call;
 * to keep it longer: file_refer().
 */
int files_find(struct files *files, const char *path, size_t len, struct file **out_file);

void file_refer(struct file *file);
void file_release(void *file);

/* The contents, if they are in memory. */
static inline const char *file_contents(const struct file *file)
{
    return file->bytes + file->head_len + 2;
}

/*
 * Reads up to @len bytes at @offset of a large file. Returns how many, 0 at its end, which may come
 * earlier than it was promised when somebody shortens the file, or -errno. (A mapping would end
 * this program with SIGBUS then.)
 */
int64_t file_read(const struct file *file, void *data, size_t len, uint64_t offset);

#endif
