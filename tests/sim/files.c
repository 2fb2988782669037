/*
 * Pipes and /dev/null: see files.h. A pipe is one buffer of bytes with two files. As on Linux it is
 * writable while a page is free, a write of up to a page is whole or nothing, and a larger one takes
 * what fits.
 */
#include "sim/files.h"

#include "base/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

/* ---- /dev/null ---- */

static uint32_t null_poll(struct sim_file *file)
{
    (void)file;
    return EPOLLIN | EPOLLOUT;
}

static ssize_t null_read(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    (void)file, (void)pieces, (void)count, (void)flags;
    return 0;
}

static ssize_t null_write(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    (void)file, (void)flags;
    return (ssize_t)gyre__sim_pieces_len(pieces, (size_t)count);
}

static const struct sim_file_ops null_ops = {
    .name = "null",
    .poll = null_poll,
    .read = null_read,
    .write = null_write,
};

struct sim_file *null_make(struct gyre_sim_host *host)
{
    return gyre__sim_file_new(host, &null_ops, sizeof(struct sim_file));
}

/* ---- pipes ---- */

enum { PAGE = 4096, CAPACITY = 16 * PAGE };

struct pipe_end {
    struct sim_file file;
    struct pipe_end *other; /* NULL: gone */
    struct pipe_buffer *buffer;
    int writes;
};

struct pipe_buffer {
    size_t from; /* of the bytes; they are moved to the front when they are few */
    size_t len;
    size_t capacity;
    int ends; /* that are not destroyed */
    uint8_t bytes[2 * CAPACITY];
};

static struct pipe_end *end_of(struct sim_file *file)
{
    return gyre_container_of(file, struct pipe_end, file);
}

static size_t free_room(const struct pipe_buffer *buffer)
{
    return buffer->capacity - buffer->len;
}

static uint32_t pipe_poll(struct sim_file *file)
{
    const struct pipe_end *end = end_of(file);
    const struct pipe_buffer *buffer = end->buffer;

    if (end->writes) {
        return (free_room(buffer) >= PAGE ? EPOLLOUT | EPOLLWRNORM : 0u) |
               (end->other == NULL ? EPOLLERR : 0u);
    }
    return (buffer->len > 0 ? EPOLLIN | EPOLLRDNORM : 0u) | (end->other == NULL ? EPOLLHUP : 0u);
}

static ssize_t pipe_read(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    struct pipe_end *end = end_of(file);
    struct pipe_buffer *buffer = end->buffer;
    size_t len;

    (void)flags;
    if (end->writes) {
        return -EBADF;
    }
    if (buffer->len == 0) {
        return end->other == NULL ? 0 : -EAGAIN;
    }
    len = gyre__sim_scatter(pieces, (size_t)count, 0, buffer->bytes + buffer->from, buffer->len);
    buffer->from += len;
    buffer->len -= len;
    if (end->other != NULL && free_room(buffer) >= PAGE) {
        gyre__sim_file_wake(&end->other->file, EPOLLOUT | EPOLLWRNORM);
    }
    return (ssize_t)len;
}

static void append(struct pipe_buffer *buffer, const uint8_t *bytes, size_t len)
{
    if (buffer->from + buffer->len + len > sizeof(buffer->bytes)) {
        memmove(buffer->bytes, buffer->bytes + buffer->from, buffer->len);
        buffer->from = 0;
    }
    memcpy(buffer->bytes + buffer->from + buffer->len, bytes, len);
    buffer->len += len;
}

static size_t put_pieces(struct pipe_buffer *buffer, const struct iovec *pieces, int count)
{
    size_t done = 0;

    for (int i = 0; i < count; i++) {
        const size_t room = free_room(buffer);
        const size_t len = pieces[i].iov_len < room ? pieces[i].iov_len : room;

        append(buffer, pieces[i].iov_base, len);
        done += len;
    }
    return done;
}

static ssize_t pipe_write(struct sim_file *file, const struct iovec *pieces, int count, int flags)
{
    struct pipe_end *end = end_of(file);
    const size_t len = gyre__sim_pieces_len(pieces, (size_t)count);
    const size_t room = free_room(end->buffer);
    size_t done;

    (void)flags;
    if (!end->writes) {
        return -EBADF;
    }
    if (end->other == NULL) {
        return -EPIPE;
    }
    if (len == 0) {
        return 0;
    }
    if (room == 0 || (len <= PAGE && room < len)) {
        return -EAGAIN;
    }
    done = put_pieces(end->buffer, pieces, count);
    gyre__sim_file_wake(&end->other->file, EPOLLIN | EPOLLRDNORM);
    return (ssize_t)done;
}

/* The last descriptor of an end is gone: the other is told, and has nobody any more. */
static void pipe_release(struct sim_file *file)
{
    struct pipe_end *end = end_of(file);
    struct pipe_end *other = end->other;

    if (other != NULL) {
        other->other = NULL;
        end->other = NULL;
        gyre__sim_file_wake(&other->file, other->writes ? EPOLLERR : EPOLLHUP);
    }
}

static void pipe_destroy(struct sim_file *file)
{
    struct pipe_buffer *buffer = end_of(file)->buffer;

    if (--buffer->ends == 0) {
        free(buffer);
    }
}

static const struct sim_file_ops pipe_ops = {
    .name = "pipe",
    .poll = pipe_poll,
    .read = pipe_read,
    .write = pipe_write,
    .release = pipe_release,
    .destroy = pipe_destroy,
};

void pipe_make(struct gyre_sim_host *host, struct sim_file *out_files[2])
{
    struct pipe_buffer *buffer = gyre__sim_alloc(sizeof(*buffer));
    struct pipe_end *ends[2];

    buffer->capacity = CAPACITY;
    buffer->ends = 2;
    for (int i = 0; i < 2; i++) {
        ends[i] = gyre__sim_file_new(host, &pipe_ops, sizeof(struct pipe_end));
        ends[i]->buffer = buffer;
        ends[i]->writes = i;
        ends[i]->file.flags = i == 0 ? O_RDONLY : O_WRONLY;
        out_files[i] = &ends[i]->file;
    }
    ends[0]->other = ends[1];
    ends[1]->other = ends[0];
}

int pipe_resize(struct sim_file *file, int capacity)
{
    struct pipe_buffer *buffer;

    if (file->ops != &pipe_ops || capacity < PAGE || capacity > CAPACITY ||
        end_of(file)->buffer->len > (size_t)capacity) {
        errno = file->ops != &pipe_ops ? EBADF : EINVAL;
        return -1;
    }
    buffer = end_of(file)->buffer;
    buffer->capacity = (size_t)capacity;
    return capacity;
}
