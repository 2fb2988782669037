/*
 * Listeners, and where the streams that they accept live.
 *
 *     NONE -> LISTENING [listen] -> CLOSING [close] -> WAITING [the socket is closed] -> NONE
 *                                                      (for the last stream to end)
 *
 * A multishot accept serves the listener as long as the maximum of connections is far, single ones
 * near it. It is cancelled while the listener is paused or full, and started again; what it had
 * accepted above the maximum by then waits until there is a place.
 *
 * Streams live in pages of many, their nursery, so that an idle one costs what it holds and no
 * more. A stream knows its place in its page, and the page its listener.
 */
#include "base/alloc.h"
#include "base/sys.h"
#include "net/net.h"
#include "net/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <gyre/listener.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    LISTENER_NONE = 0,
    LISTENER_LISTENING,
    LISTENER_CLOSING,
    LISTENER_WAITING,
};

enum {
    LISTEN_BACKLOG = 4096,
    PLACE_UNIT = 16, /* of gyre_stream.place */
    PAGE_LEN = 64 << 10,
    EXT_MOST = 64 << 10,
};

struct nursery_page {
    struct nursery_page *next;
    struct gyre_listener *listener;
    max_align_t places[];
};

struct gyre__nursery {
    struct nursery_page *pages;
    struct gyre_link free; /* streams, through their fd.ops */
    size_t place_len;
    size_t per_page;
    int *parked; /* accepted above the maximum */
    size_t parked_count;
    size_t parked_room;
};

/* ---- the nursery ---- */

static size_t stream_len(void)
{
    return (sizeof(struct gyre_stream) + PLACE_UNIT - 1) / PLACE_UNIT * PLACE_UNIT;
}

static struct nursery_page *page_of(const struct gyre_stream *stream)
{
    return (struct nursery_page *)((uint8_t *)(uintptr_t)stream -
                                   (size_t)stream->place * PLACE_UNIT);
}

static struct gyre_stream *place_in(struct nursery_page *page, const struct gyre__nursery *nursery,
                                    size_t index)
{
    return (struct gyre_stream *)((uint8_t *)page->places + index * nursery->place_len);
}

static struct gyre__nursery *nursery_create(size_t ext_size)
{
    struct gyre__nursery *nursery = gyre__zalloc(sizeof(*nursery));

    if (nursery != NULL) {
        gyre__list_init(&nursery->free);
        nursery->place_len = stream_len() + (ext_size + PLACE_UNIT - 1) / PLACE_UNIT * PLACE_UNIT;
        nursery->per_page = (PAGE_LEN - sizeof(struct nursery_page)) / nursery->place_len;
        nursery->per_page += nursery->per_page == 0;
    }
    return nursery;
}

static void nursery_destroy(struct gyre__nursery *nursery)
{
    while (nursery->pages != NULL) {
        struct nursery_page *page = nursery->pages;

        nursery->pages = page->next;
        gyre__free(page);
    }
    gyre__free(nursery->parked);
    gyre__free(nursery);
}

static void nursery_grow(struct gyre_listener *listener)
{
    struct gyre__nursery *nursery = listener->nursery;
    struct nursery_page *page =
        gyre__zalloc(sizeof(*page) + nursery->per_page * nursery->place_len);

    if (page == NULL) {
        return;
    }
    page->next = nursery->pages;
    page->listener = listener;
    nursery->pages = page;
    for (size_t i = 0; i < nursery->per_page; i++) {
        struct gyre_stream *stream = place_in(page, nursery, i);

        stream->place = (uint16_t)(((uint8_t *)stream - (uint8_t *)page) / PLACE_UNIT);
        gyre__list_append(&nursery->free, &stream->fd.ops);
    }
}

/* The last one given back first: it is in the cache. */
static struct gyre_stream *nursery_take(struct gyre_listener *listener)
{
    struct gyre__nursery *nursery = listener->nursery;
    struct gyre_link *link;

    if (gyre__list_empty(&nursery->free)) {
        nursery_grow(listener);
    }
    if (gyre__list_empty(&nursery->free)) {
        return NULL;
    }
    link = nursery->free.next;
    gyre__list_remove(link);
    return gyre_container_of(link, struct gyre_stream, fd.ops);
}

static void nursery_give(struct gyre__nursery *nursery, struct gyre_stream *stream)
{
    gyre__list_append(nursery->free.next, &stream->fd.ops);
}

struct gyre_listener *gyre_stream_listener(const struct gyre_stream *stream)
{
    return stream->flags & GYRE__STREAM_ACCEPTED ? page_of(stream)->listener : NULL;
}

void *gyre_stream_ext(const struct gyre_stream *stream)
{
    if (!(stream->flags & GYRE__STREAM_ACCEPTED) ||
        page_of(stream)->listener->options.ext_size == 0) {
        return NULL;
    }
    return (uint8_t *)(uintptr_t)stream + stream_len();
}

struct gyre_stream *gyre_stream_of_ext(void *ext)
{
    return (struct gyre_stream *)((uint8_t *)ext - stream_len());
}

/* ---- accepting ---- */

static void finish_listener(struct gyre_listener *listener)
{
    if (listener->state != LISTENER_WAITING || listener->count > 0) {
        return;
    }
    listener->state = LISTENER_NONE;
    gyre_loop_unref(listener->fd.loop);
    nursery_destroy(listener->nursery);
    listener->nursery = NULL;
    if (listener->options.on_close != NULL) {
        listener->options.on_close(listener, listener->error);
    }
}

static int wants_more(const struct gyre_listener *listener)
{
    return listener->state == LISTENER_LISTENING && !listener->paused &&
           listener->count < listener->options.max_connections;
}

/* A multishot accept takes all that wait before the first of them is seen. So near the maximum they
 * are accepted one by one: the others stay in the backlog, and hold no descriptor. */
static uint32_t accept_flags(const struct gyre_listener *listener)
{
    const uint32_t places = listener->options.max_connections - listener->count;

    return places > listener->options.backlog ? GYRE_MULTISHOT : 0;
}

static int accept_on(struct gyre_listener *listener)
{
    if (!wants_more(listener) || gyre_op_active(&listener->accept)) {
        return 0; /* if it was cancelled, its end will see to it */
    }
    return gyre__op_accept_patiently(&listener->accept, &listener->fd, accept_flags(listener));
}

static void listener_fail(struct gyre_listener *listener, int error)
{
    if (listener->state == LISTENER_LISTENING) {
        listener->error = error;
        gyre_listener_close(listener);
    }
}

static void shed_number(struct gyre_listener *listener, int number)
{
    listener->fd.loop->stats.sheds++;
    listener->fd.loop->stats.syscalls++;
    gyre__sys_close(number);
}

/* Accepted before the accept could be ended: it waits for a place, as in the backlog. */
static int park(struct gyre__nursery *nursery, int number)
{
    if (nursery->parked_count == nursery->parked_room) {
        const size_t room = nursery->parked_room == 0 ? 16 : 2 * nursery->parked_room;
        int *parked = gyre__resize(nursery->parked, room * sizeof(*parked));

        if (parked == NULL) {
            return -ENOMEM;
        }
        nursery->parked = parked;
        nursery->parked_room = room;
    }
    nursery->parked[nursery->parked_count++] = number;
    return 0;
}

static void open_stream(struct gyre_listener *listener, int number)
{
    struct gyre_stream *stream = nursery_take(listener);
    int rc;

    if (stream == NULL) {
        shed_number(listener, number);
        return;
    }
    rc = gyre__stream_accept(stream, listener->fd.loop, number, listener->fd_flags,
                             listener->options.handler);
    if (rc < 0) {
        nursery_give(listener->nursery, stream);
        shed_number(listener, number);
        return;
    }
    if (listener->options.ext_size > 0) {
        memset(gyre_stream_ext(stream), 0, listener->options.ext_size);
    }
    listener->count++;
    if (!wants_more(listener)) {
        gyre_op_cancel(&listener->accept);
    }
    gyre__stream_opened(stream);
}

static void add_number(struct gyre_listener *listener, int number)
{
    if (listener->state != LISTENER_LISTENING) {
        shed_number(listener, number);
    } else if (listener->count < listener->options.max_connections) {
        open_stream(listener, number);
    } else if (park(listener->nursery, number) < 0) {
        shed_number(listener, number);
    }
}

/* Places have become free: first for those that were accepted before. */
static void open_parked(struct gyre_listener *listener)
{
    struct gyre__nursery *nursery = listener->nursery;

    while (nursery->parked_count > 0 && listener->state == LISTENER_LISTENING &&
           listener->count < listener->options.max_connections) {
        const int number = nursery->parked[0];

        nursery->parked_count--;
        memmove(nursery->parked, nursery->parked + 1,
                nursery->parked_count * sizeof(*nursery->parked));
        open_stream(listener, number);
    }
}

static void close_parked(struct gyre_listener *listener)
{
    struct gyre__nursery *nursery = listener->nursery;

    while (nursery->parked_count > 0) {
        shed_number(listener, nursery->parked[--nursery->parked_count]);
    }
}

static void on_accepted(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_listener *listener = gyre_container_of(op, struct gyre_listener, accept);
    int rc = 0;

    if (result->res >= 0) {
        add_number(listener, result->res);
    } else if (result->res != -ECANCELED) {
        rc = result->res;
    }
    if (!(result->flags & GYRE_MORE) && rc == 0) {
        rc = accept_on(listener);
    }
    if (rc < 0) {
        listener_fail(listener, rc);
    }
}

void gyre__nursery_return(struct gyre_stream *stream)
{
    struct gyre_listener *listener = page_of(stream)->listener;
    int rc;

    nursery_give(listener->nursery, stream);
    gyre_assert(listener->count > 0);
    listener->count--;
    open_parked(listener);
    rc = accept_on(listener);
    if (rc < 0 && listener->count == 0) {
        listener_fail(listener, rc); /* otherwise the next stream that ends tries again */
    }
    finish_listener(listener);
}

/* ---- the socket ---- */

static int set_flag(int number, int level, int name, int on)
{
    return gyre__sys_setsockopt(number, level, name, &on, sizeof(on)) < 0 ? -errno : 0;
}

static int prepare_socket(int number, const struct gyre_addr *address,
                          const struct gyre_listener_options *options)
{
    int rc = 0;

    if (address->any.sa_family == AF_UNIX) {
        return 0;
    }
    if (address->any.sa_family == AF_INET6) {
        rc = set_flag(number, IPPROTO_IPV6, IPV6_V6ONLY, !!(options->flags & GYRE_LISTEN_V6ONLY));
    }
    rc = rc < 0 ? rc : set_flag(number, SOL_SOCKET, SO_REUSEADDR, 1);
    if (rc == 0 && (options->flags & GYRE_LISTEN_REUSE_PORT)) {
        rc = set_flag(number, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    return rc;
}

static int is_path(const struct gyre_addr *address)
{
    return address->any.sa_family == AF_UNIX &&
           address->len > offsetof(struct sockaddr_un, sun_path) && address->un.sun_path[0] != '\0';
}

/* A socket file that nobody listens on: what a server left that was killed. */
static int is_stale(const struct gyre_addr *address)
{
    struct stat file;
    const int number = gyre__sys_socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int refused;

    if (number < 0) {
        return 0;
    }
    refused = gyre__sys_connect(number, &address->any, address->len) < 0 && errno == ECONNREFUSED;
    gyre__sys_close(number);
    return refused && gyre__sys_lstat(address->un.sun_path, &file) == 0 && S_ISSOCK(file.st_mode);
}

static int bind_socket(int number, const struct gyre_addr *address, uint32_t flags)
{
    if (gyre__sys_bind(number, &address->any, address->len) == 0) {
        return 0;
    }
    if (errno != EADDRINUSE || !is_path(address) || !(flags & GYRE_LISTEN_STALE)) {
        return -errno;
    }
    if (!is_stale(address)) {
        return -EADDRINUSE;
    }
    gyre__sys_unlink(address->un.sun_path);
    return gyre__sys_bind(number, &address->any, address->len) < 0 ? -errno : 0;
}

/* The file of the socket, so that it can be removed in the end, and only it. If it cannot be told from
 * others it is removed at once, as bind(2) has just made it: left behind, it would be in the way of
 * the next start. */
static int own_file(struct gyre_listener *listener, const struct gyre_addr *address)
{
    struct stat file;

    if (!is_path(address)) {
        return 0;
    }
    if (gyre__sys_stat(address->un.sun_path, &file) < 0) {
        const int rc = -errno;

        gyre__sys_unlink(address->un.sun_path);
        return rc;
    }
    listener->file = *address;
    listener->file_device = file.st_dev;
    listener->file_inode = file.st_ino;
    if (listener->options.mode != 0 &&
        gyre__sys_chmod(address->un.sun_path, listener->options.mode) < 0) {
        return -errno;
    }
    return 0;
}

static void remove_file(struct gyre_listener *listener)
{
    struct stat file;

    if (listener->file.len != 0 && gyre__sys_stat(listener->file.un.sun_path, &file) == 0 &&
        file.st_dev == listener->file_device && file.st_ino == listener->file_inode) {
        gyre__sys_unlink(listener->file.un.sun_path);
    }
    listener->file.len = 0;
}

/* Nobody can connect before listen(2), so the file has its mode in time. */
static int open_listener(struct gyre_listener *listener, const struct gyre_addr *address,
                         int *out_number)
{
    const uint32_t backlog = listener->options.backlog;
    const int number = gyre__sys_socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int rc = number < 0 ? -errno : prepare_socket(number, address, &listener->options);

    rc = rc < 0 ? rc : bind_socket(number, address, listener->options.flags);
    rc = rc < 0 ? rc : own_file(listener, address);
    if (rc == 0 && gyre__sys_listen(number, backlog < INT32_MAX ? (int)backlog : INT32_MAX) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        remove_file(listener);
        if (number >= 0) {
            gyre__sys_close(number);
        }
        return rc;
    }
    *out_number = number;
    return 0;
}

/* ---- start ---- */

static uint32_t default_maximum(void)
{
    struct rlimit limit;

    if (gyre__sys_getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT32_MAX) {
        return INT32_MAX;
    }
    return (uint32_t)(limit.rlim_cur - limit.rlim_cur / 16);
}

static int check_listen(const struct gyre_loop *loop, const struct gyre_listener *listener,
                        const struct gyre_listener_options *options)
{
    const uint32_t known = GYRE_LISTEN_REUSE_PORT | GYRE_LISTEN_V6ONLY | GYRE_LISTEN_STALE;

    if (loop == NULL || listener == NULL || options == NULL || options->handler == NULL ||
        options->ext_size > EXT_MOST || (options->flags & ~known) != 0 ||
        (options->mode & ~07777u) != 0) {
        return -EINVAL;
    }
    return gyre__loop_check(loop);
}

static int check_listening(int number)
{
    const int type = gyre__socket_ask(number, SO_TYPE);
    const int listens = gyre__socket_ask(number, SO_ACCEPTCONN);

    if (type < 0 || listens < 0) {
        return type < 0 ? type : listens;
    }
    return type != SOCK_STREAM ? -EPROTOTYPE : listens ? 0 : -EINVAL;
}

static void prepare_listener(struct gyre_listener *listener,
                             const struct gyre_listener_options *options)
{
    memset(listener, 0, sizeof(*listener));
    listener->options = *options;
    if (options->max_connections == 0) {
        listener->options.max_connections = default_maximum();
    }
    if (options->backlog == 0) {
        listener->options.backlog = LISTEN_BACKLOG;
    }
}

/* What its connections are, which need not be asked for each of them. */
static int learn_flags(struct gyre_listener *listener, int number)
{
    const int protocol = gyre__socket_ask(number, SO_PROTOCOL);
    const int control = gyre__stream_control(number, listener->options.handler);
    const int tcp = protocol == IPPROTO_TCP ? GYRE__FD_TCP : 0;

    if (protocol < 0 || control < 0) {
        return protocol < 0 ? protocol : control;
    }
    listener->fd_flags =
        (uint16_t)(GYRE__FD_TYPED | GYRE__FD_SOCKET | GYRE__FD_STREAM | tcp | control);
    return 0;
}

/* The socket listens; everything else follows. On failure it is still open. */
static int start_listener(struct gyre_listener *listener, struct gyre_loop *loop, int number)
{
    int rc = gyre__net_of(loop) == NULL ? -ENOMEM : learn_flags(listener, number);

    rc = rc < 0 ? rc : gyre_fd_init(&listener->fd, loop, number);
    if (rc < 0) {
        return rc;
    }
    if ((listener->fd_flags & GYRE__FD_TCP) &&
        !(listener->options.handler->flags & GYRE_STREAM_NAGLE)) {
        (void)set_flag(number, IPPROTO_TCP, TCP_NODELAY, 1); /* accepted sockets inherit it */
    }
    gyre_op_init(&listener->accept, on_accepted);
    listener->nursery = nursery_create(listener->options.ext_size);
    listener->state = LISTENER_LISTENING;
    rc = listener->nursery == NULL ? -ENOMEM : accept_on(listener);
    if (rc < 0) {
        const int detached = gyre_fd_detach(&listener->fd, &number);

        gyre_assert(detached == 0);
        gyre__free(listener->nursery);
        listener->state = LISTENER_NONE;
        return rc;
    }
    gyre_loop_ref(loop); /* also while it accepts nothing */
    return 0;
}

int gyre_listen_addr(struct gyre_loop *loop, struct gyre_listener *listener,
                     const struct gyre_addr *address, const struct gyre_listener_options *options)
{
    int rc = check_listen(loop, listener, options);
    int number;

    if (rc < 0 || address == NULL || address->len == 0) {
        return rc < 0 ? rc : -EINVAL;
    }
    prepare_listener(listener, options);
    rc = open_listener(listener, address, &number);
    if (rc < 0) {
        return rc;
    }
    rc = start_listener(listener, loop, number);
    if (rc < 0) {
        remove_file(listener);
        gyre__sys_close(number);
    }
    return rc;
}

int gyre_listen(struct gyre_loop *loop, struct gyre_listener *listener, const char *address,
                const struct gyre_listener_options *options)
{
    struct gyre_addr parsed;
    const int rc = gyre_addr_parse(address, &parsed);

    return rc < 0 ? rc : gyre_listen_addr(loop, listener, &parsed, options);
}

int gyre_listen_adopt(struct gyre_loop *loop, struct gyre_listener *listener, int number,
                      const struct gyre_listener_options *options)
{
    int rc = check_listen(loop, listener, options);

    rc = rc < 0 ? rc : check_listening(number);
    if (rc < 0) {
        return rc;
    }
    prepare_listener(listener, options);
    return start_listener(listener, loop, number);
}

/* ---- while it listens ---- */

static int check_listener(const struct gyre_listener *listener)
{
    int rc;

    if (listener == NULL || listener->state == LISTENER_NONE) {
        return -EINVAL;
    }
    rc = gyre__loop_check(listener->fd.loop);
    return rc < 0 ? rc : listener->state == LISTENER_LISTENING ? 0 : GYRE_ECLOSING;
}

int gyre_listener_address(const struct gyre_listener *listener, struct gyre_addr *out_addr)
{
    const int number = listener == NULL ? -EINVAL : gyre_listener_number(listener);

    return number < 0 ? number : gyre_addr_local(number, out_addr);
}

int gyre_listener_number(const struct gyre_listener *listener)
{
    return listener == NULL || listener->state == LISTENER_NONE ? -EBADF
                                                                : gyre_fd_number(&listener->fd);
}

int gyre_listener_pause(struct gyre_listener *listener)
{
    const int rc = check_listener(listener);

    if (rc == 0) {
        listener->paused = 1;
        gyre_op_cancel(&listener->accept);
    }
    return rc;
}

int gyre_listener_resume(struct gyre_listener *listener)
{
    const int rc = check_listener(listener);

    if (rc < 0) {
        return rc;
    }
    listener->paused = 0;
    return accept_on(listener);
}

size_t gyre_listener_count(const struct gyre_listener *listener)
{
    return listener->count;
}

static void visit(struct gyre_listener *listener, enum gyre__stream_state last,
                  void (*fn)(struct gyre_stream *stream, void *context), void *context)
{
    const struct gyre__nursery *nursery = listener->nursery;

    for (struct nursery_page *page = nursery != NULL ? nursery->pages : NULL; page != NULL;
         page = page->next) {
        for (size_t i = 0; i < nursery->per_page; i++) {
            struct gyre_stream *stream = place_in(page, nursery, i);

            if (stream->state >= GYRE__STREAM_OPEN && stream->state <= last) {
                fn(stream, context);
            }
        }
    }
}

void gyre_listener_each(struct gyre_listener *listener,
                        void (*fn)(struct gyre_stream *stream, void *context), void *context)
{
    visit(listener, GYRE__STREAM_OPEN, fn, context);
}

static void on_listener_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct gyre_listener *listener = gyre_container_of(op, struct gyre_listener, close);

    (void)result;
    listener->state = LISTENER_WAITING;
    finish_listener(listener);
}

int gyre_listener_close(struct gyre_listener *listener)
{
    int rc = check_listener(listener);

    if (rc < 0) {
        return rc == GYRE_ECLOSING ? 0 : rc;
    }
    remove_file(listener);
    close_parked(listener);
    gyre_op_init(&listener->close, on_listener_closed);
    rc = gyre_op_close(&listener->close, &listener->fd, 0);
    gyre_assert(rc == 0);
    listener->state = LISTENER_CLOSING;
    return 0;
}

static void close_one(struct gyre_stream *stream, void *context)
{
    (void)context;
    gyre_stream_close(stream);
}

int gyre_listener_drain(struct gyre_listener *listener)
{
    const int rc = gyre_listener_close(listener);

    if (rc == 0) {
        gyre_listener_each(listener, close_one, NULL);
    }
    return rc;
}

static void reset_one(struct gyre_stream *stream, void *context)
{
    (void)context;
    gyre_stream_reset(stream);
}

int gyre_listener_reset(struct gyre_listener *listener)
{
    const int rc = gyre_listener_close(listener);

    if (rc == 0) {
        visit(listener, GYRE__STREAM_LINGERING, reset_one, NULL);
    }
    return rc;
}
