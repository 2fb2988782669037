/*
 * Operations: the input is a program, one byte an instruction and those behind it its operands,
 * that starts, cancels, delays and closes operations and streams on a simulated kernel. Callbacks
 * execute instructions too, so everything happens in every place. At the end all is closed, and the
 * loop has to come to rest: time is virtual, so a run that does not end is found.
 *
 *     input: options, count of faults and these, seed, instructions
 *
 * All storage is allocated to its size and freed in the moment the contract gives it back, so that
 * AddressSanitizer sees what is touched too late. What must hold is in the functions called
 * expect_...().
 */
#include "fuzz.h"

#include "base/sys.h"
#include "sim/sim.h"

#include <errno.h>
#include <gyre.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

enum {
    ITEMS = 12,
    SLOTS = 24,
    STREAMS = 3,
    TIMERS = 3,
    HELD = 4,
    CHANNELS = 16,
    FAULTS_MAX = 7,
    PORT = 7000,
    INPUT_MAX = 4096, /* longer ones find nothing that shorter ones do not */
    CONTROL_MAX = 256,
};

/* What can be open. Those up to PAIR are streams. */
enum type {
    TCP,
    UNIX,
    PAIR,
    UDP,
    DATAGRAMS,
    EVENT,
    LISTENER,
};

/* Both directions of a pair of Unix sockets: the bytes are counted, and each is its number. */
struct channel {
    uint8_t sent[2];
    uint8_t received[2];
    int unknown[2]; /* something may be missing from now on */
};

/* An open descriptor. */
struct item {
    enum type type;
    int number;         /* -1: nothing */
    struct gyre_fd *fd; /* NULL: not attached */
    int closing;
    int channel; /* -1: none */
    int side;
};

/* Where an operation lives. */
struct storage {
    union {
        struct gyre_op op;
        struct gyre_connect_op connect;
        struct gyre_msg_op msg;
    } as;
    int slot;
};

struct slot {
    struct storage *storage; /* NULL: idle */
    enum gyre_op_kind kind;
    int item; /* -1: none */
    int multishot;
    int asked;     /* to end */
    uint8_t *data; /* lent to it */
    uint8_t *control;
    size_t len;
    uint64_t moment_ns;
    uint32_t events;
};

struct held {
    struct gyre_lease lease;
    uint32_t sum;
};

struct my_stream {
    struct gyre_stream *stream; /* NULL: none */
    int opens, eofs;
    int ended; /* closed or reset by the program */
};

static struct {
    struct gyre_sim *sim;
    struct gyre_sim_host *host;
    struct gyre_sim_process *process;
    struct gyre_loop *loop;
    const uint8_t *data;
    size_t size;
    struct item item[ITEMS];
    struct slot slot[SLOTS];
    struct my_stream stream[STREAMS];
    struct gyre_timer timer[TIMERS];
    uint64_t due_ns[TIMERS];
    struct gyre_timer guard; /* ends a turn that waits */
    struct held held[HELD];
    struct channel channel[CHANNELS];
    int channels;
    int retain; /* so many of the leases that come */
    int posts;
    int in_call;     /* of the library: no callback may come */
    int in_callback; /* only one at a time */
    int finishing;
    uint8_t options;
} run;

/* ---- input ---- */

static uint8_t next(void)
{
    if (run.size == 0) {
        return 0;
    }
    run.size--;
    return *run.data++;
}

/* A length: small, or large enough to fill a socket. */
static size_t next_len(void)
{
    const uint8_t byte = next();

    return byte < 224 ? byte + 1u : (size_t)(byte - 223) * 4000;
}

/* Nanoseconds, at most 2^34. */
static uint64_t next_span(void)
{
    const uint64_t count = next();

    return count << (next() % 26);
}

static void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void broken(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* A call of the library, during which no callback may run. */
#define CALL(out, expression) \
    do {                      \
        run.in_call++;        \
        (out) = (expression); \
        run.in_call--;        \
    } while (0)

static uint64_t memory_refused(void)
{
    return gyre_sim_struck(run.sim, GYRE_SIM_FAULT_ALLOC_FAILS) +
           gyre_sim_struck(run.sim, GYRE_SIM_FAULT_MAP_FAILS);
}

static void act(void);

static void enter(void)
{
    if (run.in_call > 0 || run.in_callback) {
        broken("a callback inside another, or inside a call");
    }
    run.in_callback = 1;
}

static void leave(void)
{
    if (run.size > 0 && (next() & 3) == 0) {
        act();
    }
    run.in_callback = 0;
}

/* ---- bytes of pairs ---- */

static void fill(struct item *item, uint8_t *data, size_t len)
{
    struct channel *channel = item->channel >= 0 ? &run.channel[item->channel] : NULL;

    for (size_t i = 0; i < len; i++) {
        data[i] = channel != NULL ? channel->sent[item->side]++ : 1;
    }
}

static void expect_bytes(const struct item *item, const uint8_t *data, size_t len)
{
    struct channel *channel;

    if (item->channel < 0) {
        return;
    }
    channel = &run.channel[item->channel];
    for (size_t i = 0; i < len && !channel->unknown[!item->side]; i++) {
        const uint8_t expected = channel->received[!item->side]++;

        if (data[i] != expected) {
            broken("byte %zu of %zu is %u, not %u", i, len, data[i], expected);
        }
    }
}

/* Of what the item sends, some may never leave; or nobody counts any more. */
static void forget_sent(const struct item *item)
{
    if (item->channel >= 0) {
        run.channel[item->channel].unknown[item->side] = 1;
    }
}

static void forget_both(const struct item *item)
{
    if (item->channel >= 0) {
        run.channel[item->channel].unknown[0] = 1;
        run.channel[item->channel].unknown[1] = 1;
    }
}

/* ---- descriptors ---- */

static int free_items(void)
{
    int count = 0;

    for (int i = 0; i < ITEMS; i++) {
        count += run.item[i].number < 0;
    }
    return count;
}

static void attach(struct item *item)
{
    int rc;

    item->fd = malloc(sizeof(*item->fd));
    CALL(rc, gyre_fd_init(item->fd, run.loop, item->number));
    if (rc < 0) {
        if (rc != -ENOMEM || memory_refused() == 0) {
            broken("a descriptor is not attached: %s", gyre_error_name(rc));
        }
        free(item->fd);
        item->fd = NULL;
    }
}

static struct item *add(int number, enum type type)
{
    if (number < 0) {
        return NULL;
    }
    for (int i = 0; i < ITEMS && !run.finishing; i++) {
        struct item *item = &run.item[i];

        if (item->number < 0) {
            *item = (struct item){.type = type, .number = number, .channel = -1};
            attach(item);
            return item;
        }
    }
    gyre__sys_close(number);
    return NULL;
}

static socklen_t address_of(enum type type, uint8_t which, struct sockaddr_storage *out)
{
    struct sockaddr_un *name = (struct sockaddr_un *)out;
    struct sockaddr_in *ip = (struct sockaddr_in *)out;

    memset(out, 0, sizeof(*out));
    if (type == UNIX) {
        name->sun_family = AF_UNIX;
        name->sun_path[1] = (char)('a' + (which & 1));
        return offsetof(struct sockaddr_un, sun_path) + 2;
    }
    ip->sin_family = AF_INET;
    ip->sin_port = htons((uint16_t)(PORT + (which & 1)));
    ip->sin_addr.s_addr = htonl(which & 2 ? 0x0a000001 : INADDR_LOOPBACK); /* 10.0.0.1 */
    return sizeof(*ip);
}

static int open_socket(enum type type, uint8_t how)
{
    const int kind = type == UDP ? SOCK_DGRAM : SOCK_STREAM;

    return gyre__sys_socket(type == UNIX ? AF_UNIX : AF_INET,
                            kind | SOCK_CLOEXEC | (how & 1 ? SOCK_NONBLOCK : 0), 0);
}

static void open_bound(enum type type, uint8_t how)
{
    const enum type family = type == UDP ? UDP : how & 1 ? UNIX : TCP;
    struct sockaddr_storage address;
    const socklen_t len = address_of(family, how >> 1, &address);
    const int number = open_socket(family, how >> 3);
    int rc = -1;

    if (number >= 0) {
        rc = gyre__sys_bind(number, (struct sockaddr *)&address, len);
    }
    if (rc == 0 && type == LISTENER) {
        rc = gyre__sys_listen(number, how & 0x40 ? 1 : 128);
    }
    if (rc < 0 && number >= 0) {
        gyre__sys_close(number);
    } else {
        add(number, type);
    }
}

static void open_pair(enum type type, uint8_t how)
{
    const int kind = type == PAIR ? SOCK_STREAM : how & 2 ? SOCK_SEQPACKET : SOCK_DGRAM;
    const int counted = type == PAIR && run.channels < CHANNELS;
    int numbers[2];

    if (free_items() < 2 ||
        gyre__sys_socketpair(AF_UNIX, kind | SOCK_CLOEXEC | (how & 1 ? SOCK_NONBLOCK : 0), 0,
                             numbers) < 0) {
        return;
    }
    for (int side = 0; side < 2; side++) {
        struct item *item = add(numbers[side], type);

        item->side = side;
        item->channel = counted ? run.channels : -1;
    }
    run.channels += counted;
}

static void do_open(void)
{
    const enum type type = (enum type)(next() % (LISTENER + 1));
    const uint8_t how = next();

    if (free_items() == 0) {
        return;
    }
    switch (type) {
    case TCP:
    case UNIX:
        add(open_socket(type, how), type);
        break;
    case PAIR:
    case DATAGRAMS:
        open_pair(type, how);
        break;
    case EVENT:
        add(gyre__sys_eventfd(0, EFD_CLOEXEC | (how & 1 ? EFD_NONBLOCK : 0)), EVENT);
        break;
    default:
        open_bound(type, how);
    }
}

/* One that is attached, or NULL. Beginning with the one that is named, the first will do. */
static struct item *next_item(void)
{
    const int from = next();

    for (int i = 0; i < ITEMS; i++) {
        struct item *item = &run.item[(from + i) % ITEMS];

        if (item->number >= 0 && item->fd != NULL) {
            return item;
        }
    }
    return NULL;
}

static int is_idle(const struct item *item)
{
    for (int i = 0; i < SLOTS; i++) {
        if (run.slot[i].storage != NULL && run.slot[i].item == item - run.item) {
            return 0;
        }
    }
    return 1;
}

static void detach(struct item *item)
{
    const int idle = is_idle(item);
    int number = -1;
    int rc;

    CALL(rc, gyre_fd_detach(item->fd, &number));
    if (rc != (item->closing ? GYRE_ECLOSING : idle ? 0 : -EBUSY)) {
        broken("detach: %s", gyre_error_name(rc));
    }
    if (rc == 0) {
        FUZZ_EXPECT(number == item->number);
        free(item->fd);
        item->fd = NULL;
    }
}

static void do_detach(void)
{
    struct item *item = next_item();

    if (item != NULL) {
        detach(item);
    }
}

/* Those that are not attached: attached again, or closed. */
static void do_attach(void)
{
    const uint8_t how = next();

    for (int i = 0; i < ITEMS; i++) {
        struct item *item = &run.item[i];

        if (item->number >= 0 && item->fd == NULL) {
            if (how & 1) {
                attach(item);
            } else {
                gyre__sys_close(item->number);
                item->number = -1;
            }
        }
    }
}

/* ---- leases ---- */

static uint32_t sum_of(const struct gyre_lease *lease)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < lease->len; i++) {
        sum = sum * 31 + lease->data[i];
    }
    return sum;
}

static void retain(const struct gyre_lease *lease)
{
    for (int i = 0; i < HELD && run.retain > 0; i++) {
        if (run.held[i].lease.data == NULL) {
            run.held[i].sum = sum_of(lease);
            if (gyre_lease_retain(lease, &run.held[i].lease) < 0) {
                broken("a lease cannot be retained");
            }
            run.retain--;
            return;
        }
    }
}

static void release(struct held *held)
{
    if (held->lease.data != NULL && sum_of(&held->lease) != held->sum) {
        broken("retained bytes have changed");
    }
    gyre_lease_release(&held->lease);
    FUZZ_EXPECT(held->lease.data == NULL);
}

static void do_release(void)
{
    release(&run.held[next() % HELD]);
}

static void do_retain(void)
{
    run.retain = next() % (HELD + 1);
}

/* ---- results ---- */

/* Descriptors came: those that the control data tells of are all there are. */
static void close_passed(struct slot *slot)
{
    struct msghdr *msg = &slot->storage->as.msg.msg;

    FUZZ_EXPECT(msg->msg_controllen <= CONTROL_MAX);
    for (struct cmsghdr *item = CMSG_FIRSTHDR(msg); item != NULL; item = CMSG_NXTHDR(msg, item)) {
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS) {
            for (size_t at = CMSG_LEN(0); at + sizeof(int) <= item->cmsg_len; at += sizeof(int)) {
                int number;

                memcpy(&number, (uint8_t *)item + at, sizeof(number));
                FUZZ_EXPECT(gyre__sys_fcntl(number, F_GETFD, 0) == FD_CLOEXEC);
                gyre__sys_close(number);
            }
        }
    }
}

static void expect_lease(const struct gyre_result *result)
{
    if ((result->res > 0) != (result->lease != NULL)) {
        broken("recv_lease: %d bytes, %s lease", result->res, result->lease ? "a" : "no");
    }
    if (result->res == -ENOBUFS) {
        broken("recv_lease: -ENOBUFS");
    }
    if (result->lease != NULL) {
        FUZZ_EXPECT(result->lease->len == (size_t)result->res);
    }
}

static void expect_moment(const struct slot *slot, int res)
{
    if (res == 0 && gyre_loop_now(run.loop) < slot->moment_ns) {
        broken("a timeout came early");
    }
}

/* What was asked for, and what the kernel always tells: io_uring also POLLRDHUP (docs/uring.md). */
static void expect_events(const struct slot *slot, int res)
{
    const uint32_t told = POLLERR | POLLHUP | (run.options & 1 ? 0 : POLLRDHUP);

    if (res == 0 || (res > 0 && ((uint32_t)res & ~(slot->events | told)) != 0)) {
        broken("poll for %x: %x", slot->events, (unsigned)res);
    }
}

static void take_bytes(struct slot *slot, const struct gyre_result *result)
{
    const struct item *item = &run.item[slot->item];

    if (result->res > 0 && item->type == PAIR) {
        expect_bytes(item, result->lease != NULL ? result->lease->data : slot->data,
                     (size_t)result->res);
    }
    if (result->lease != NULL) {
        retain(result->lease);
    }
}

static void expect_result(struct slot *slot, const struct gyre_result *result)
{
    const int res = result->res;

    if (res == -EINTR || (res == -EAGAIN && slot->kind != GYRE_OP_CONNECT)) {
        broken("%s: %s", gyre_op_kind_name(slot->kind), gyre_error_name(res));
    }
    if (res == -ECANCELED && !slot->asked) {
        broken("%s: cancelled by nobody", gyre_op_kind_name(slot->kind));
    }
    if (slot->data != NULL && res > 0 && (size_t)res > slot->len) {
        broken("%s: %d of %zu bytes", gyre_op_kind_name(slot->kind), res, slot->len);
    }
    if (result->lease != NULL && slot->kind != GYRE_OP_RECV_LEASE) {
        broken("%s: a lease", gyre_op_kind_name(slot->kind));
    }
}

static void take_result(struct slot *slot, const struct gyre_result *result)
{
    const int res = result->res;
    struct item *item = slot->item >= 0 ? &run.item[slot->item] : NULL;

    switch (slot->kind) {
    case GYRE_OP_RECV_LEASE:
        expect_lease(result);
        take_bytes(slot, result);
        break;
    case GYRE_OP_RECV:
    case GYRE_OP_READ:
        take_bytes(slot, result);
        break;
    case GYRE_OP_RECVMSG:
        take_bytes(slot, result);
        if (res >= 0) {
            close_passed(slot);
        }
        break;
    case GYRE_OP_SEND:
    case GYRE_OP_SENDMSG:
        if (res != (int)slot->len) {
            forget_sent(item);
        }
        break;
    case GYRE_OP_ACCEPT:
        add(res, UNIX); /* as good as TCP: only connect asks */
        break;
    case GYRE_OP_POLL:
        expect_events(slot, res);
        break;
    case GYRE_OP_TIMEOUT:
        expect_moment(slot, res);
        break;
    default:
        FUZZ_EXPECT(res <= 0 || slot->kind == GYRE_OP_WRITE);
    }
}

static void end_slot(struct slot *slot)
{
    struct item *item = slot->item >= 0 ? &run.item[slot->item] : NULL;

    FUZZ_EXPECT(!gyre_op_active(&slot->storage->as.op));
    free(slot->storage);
    free(slot->data);
    free(slot->control);
    slot->storage = NULL;
    slot->data = NULL;
    slot->control = NULL;
    if (slot->kind == GYRE_OP_CLOSE) {
        if (!is_idle(item)) {
            broken("the close was not the last");
        }
        free(item->fd);
        item->fd = NULL;
        item->number = -1;
    }
}

static void on_result(struct gyre_op *op, const struct gyre_result *result)
{
    const struct storage *storage = gyre_container_of(op, struct storage, as.op);
    struct slot *slot = &run.slot[storage->slot];

    enter();
    if (slot->storage != storage) {
        broken("a result of an idle operation");
    }
    if ((result->flags & GYRE_MORE) && !slot->multishot) {
        broken("%s: more than one result", gyre_op_kind_name(slot->kind));
    }
    expect_result(slot, result);
    take_result(slot, result);
    if (!(result->flags & GYRE_MORE)) {
        end_slot(slot);
    }
    leave();
}

/* ---- operations ---- */

/* An idle slot with new storage; NULL if none is. One that is named and active is told so. */
static struct slot *next_slot(void)
{
    const int from = next() % SLOTS;
    int rc;

    if (run.slot[from].storage != NULL) {
        CALL(rc, gyre_op_nop(&run.slot[from].storage->as.op, run.loop));
        if (rc != -EBUSY) {
            broken("an active operation is started: %s", gyre_error_name(rc));
        }
    }
    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &run.slot[(from + i) % SLOTS];

        if (slot->storage == NULL) {
            *slot = (struct slot){.storage = malloc(sizeof(*slot->storage)), .item = -1};
            slot->storage->slot = (from + i) % SLOTS;
            gyre_op_init(&slot->storage->as.op, on_result);
            return slot;
        }
    }
    return NULL;
}

static void begun(struct slot *slot, enum gyre_op_kind kind, int rc)
{
    const struct item *item = slot->item >= 0 ? &run.item[slot->item] : NULL;

    slot->kind = kind;
    if (item != NULL && item->closing && rc != GYRE_ECLOSING) {
        broken("%s on a closing descriptor: %s", gyre_op_kind_name(kind), gyre_error_name(rc));
    }
    if (rc == 0) {
        return;
    }
    if (rc != (item != NULL && item->closing ? GYRE_ECLOSING : -ENOMEM) ||
        (rc == -ENOMEM && (memory_refused() == 0 || kind == GYRE_OP_CLOSE))) {
        broken("%s is refused: %s", gyre_op_kind_name(kind), gyre_error_name(rc));
    }
    if (kind == GYRE_OP_SEND || kind == GYRE_OP_SENDMSG) {
        forget_sent(item);
    }
    free(slot->storage);
    free(slot->data);
    free(slot->control);
    slot->storage = NULL;
    slot->data = NULL;
    slot->control = NULL;
}

/* A slot for an operation on an item, with memory of a length to lend (0: none). */
static struct slot *next_on_item(struct item **out_item, size_t len)
{
    struct item *item = next_item();
    struct slot *slot = item != NULL ? next_slot() : NULL;

    if (slot == NULL) {
        return NULL;
    }
    slot->item = (int)(item - run.item);
    slot->len = len;
    slot->data = len > 0 ? malloc(len) : NULL;
    *out_item = item;
    return slot;
}

static void do_recv(void)
{
    const uint32_t flags = next() & 1 ? GYRE_WAITALL : 0;
    struct item *item;
    struct slot *slot = next_on_item(&item, next_len());
    int rc;

    if (slot != NULL) {
        CALL(rc, gyre_op_recv(&slot->storage->as.op, item->fd, slot->data, slot->len, flags));
        begun(slot, GYRE_OP_RECV, rc);
    }
}

static void do_recv_lease(void)
{
    const int multishot = next() & 1;
    struct item *item;
    struct slot *slot = next_on_item(&item, 0);
    int rc;

    if (slot != NULL) {
        slot->multishot = multishot;
        CALL(rc,
             gyre_op_recv_lease(&slot->storage->as.op, item->fd, multishot ? GYRE_MULTISHOT : 0));
        begun(slot, GYRE_OP_RECV_LEASE, rc);
    }
}

static void do_send(void)
{
    struct item *item;
    struct slot *slot = next_on_item(&item, next_len());
    int rc;

    if (slot != NULL) {
        fill(item, slot->data, slot->len);
        CALL(rc, gyre_op_send(&slot->storage->as.op, item->fd, slot->data, slot->len));
        begun(slot, GYRE_OP_SEND, rc);
    }
}

/* The memory in pieces, the last of which takes the rest. */
static size_t cut(const struct slot *slot, struct iovec pieces[GYRE_IOV_MAX])
{
    const size_t count = 1u + next() % GYRE_IOV_MAX;
    const size_t each = slot->len / count;

    for (size_t i = 0; i < count; i++) {
        pieces[i].iov_base = slot->data + i * each;
        pieces[i].iov_len = i + 1 < count ? each : slot->len - i * each;
    }
    return count;
}

/* The control buffer is of any size, also one that holds a part of a number. */
static void do_recvmsg(void)
{
    const uint8_t how = next();
    struct iovec pieces[GYRE_IOV_MAX];
    struct msghdr msg = {.msg_iov = pieces};
    struct item *item;
    struct slot *slot = next_on_item(&item, next_len());
    int rc;

    if (slot == NULL) {
        return;
    }
    msg.msg_iovlen = cut(slot, pieces);
    if (how & 2) {
        msg.msg_controllen = next();
        slot->control = malloc(msg.msg_controllen + 1);
        msg.msg_control = slot->control;
    }
    CALL(rc, gyre_op_recvmsg(&slot->storage->as.msg, item->fd, &msg, how & 1 ? GYRE_WAITALL : 0));
    begun(slot, GYRE_OP_RECVMSG, rc);
}

/* Numbers of items go along. One of them may be the very socket they go through. */
static void add_rights(struct slot *slot, struct msghdr *msg)
{
    const int count = 1 + next() % 6;
    struct cmsghdr *head;
    int sent = 0;

    slot->control = calloc(1, CMSG_SPACE(6 * sizeof(int)));
    head = (struct cmsghdr *)(void *)slot->control;
    for (int i = 0; i < count; i++) {
        const struct item *item = next_item();

        if (item != NULL && item->type != LISTENER) {
            memcpy(CMSG_DATA(head) + (size_t)sent++ * sizeof(int), &item->number, sizeof(int));
        }
    }
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN((size_t)sent * sizeof(int));
    msg->msg_control = sent > 0 ? slot->control : NULL;
    msg->msg_controllen = sent > 0 ? CMSG_SPACE((size_t)sent * sizeof(int)) : 0;
}

static void do_sendmsg(void)
{
    const uint8_t how = next();
    struct iovec pieces[GYRE_IOV_MAX];
    struct msghdr msg = {.msg_iov = pieces};
    struct sockaddr_storage address;
    struct item *item;
    struct slot *slot = next_on_item(&item, next_len());
    int rc;

    if (slot == NULL) {
        return;
    }
    fill(item, slot->data, slot->len);
    msg.msg_iovlen = cut(slot, pieces);
    if (item->type == UDP) {
        msg.msg_namelen = address_of(UDP, how >> 1, &address);
        msg.msg_name = &address;
    } else if (how & 1) {
        add_rights(slot, &msg);
    }
    CALL(rc, gyre_op_sendmsg(&slot->storage->as.msg, item->fd, &msg));
    begun(slot, GYRE_OP_SENDMSG, rc);
}

static void do_read(void)
{
    struct item *item;
    struct slot *slot = next_on_item(&item, next_len());
    int rc;

    if (slot != NULL) {
        CALL(rc, gyre_op_read(&slot->storage->as.op, item->fd, slot->data, slot->len,
                              GYRE_OFFSET_CURRENT));
        begun(slot, GYRE_OP_READ, rc);
    }
}

/* Only to counters: a socket whose peer has gone would raise SIGPIPE. */
static void do_write(void)
{
    const size_t len = next() & 1 ? next_len() : sizeof(uint64_t);
    struct item *item;
    struct slot *slot = next_on_item(&item, len);
    int rc;

    if (slot == NULL) {
        return;
    }
    memset(slot->data, 0x1f, slot->len);
    if (item->type != EVENT) {
        CALL(rc, gyre_op_write(&slot->storage->as.op, item->fd, NULL, slot->len, 0));
        FUZZ_EXPECT(rc == (item->closing ? GYRE_ECLOSING : -EINVAL));
        CALL(rc, gyre_op_nop(&slot->storage->as.op, run.loop));
        slot->item = -1;
        begun(slot, GYRE_OP_NOP, rc);
        return;
    }
    CALL(rc, gyre_op_write(&slot->storage->as.op, item->fd, slot->data, slot->len,
                           GYRE_OFFSET_CURRENT));
    begun(slot, GYRE_OP_WRITE, rc);
}

static void do_poll(void)
{
    const uint8_t how = next();
    struct item *item;
    struct slot *slot = next_on_item(&item, 0);
    int rc;

    if (slot != NULL) {
        slot->multishot = how & 1;
        slot->events = (how & 2 ? POLLIN : 0) | (how & 4 ? POLLRDHUP : 0) |
                       (how & 8 || !(how & 6) ? POLLOUT : 0);
        CALL(rc, gyre_op_poll(&slot->storage->as.op, item->fd, slot->events,
                              how & 1 ? GYRE_MULTISHOT : 0));
        begun(slot, GYRE_OP_POLL, rc);
    }
}

static void do_accept(void)
{
    const int multishot = next() & 1;
    struct item *item;
    struct slot *slot = next_on_item(&item, 0);
    int rc;

    if (slot != NULL) {
        slot->multishot = multishot;
        CALL(rc, gyre_op_accept(&slot->storage->as.op, item->fd, multishot ? GYRE_MULTISHOT : 0));
        begun(slot, GYRE_OP_ACCEPT, rc);
    }
}

static void do_connect(void)
{
    const uint8_t which = next();
    struct sockaddr_storage address;
    struct item *item;
    struct slot *slot = next_on_item(&item, 0);
    socklen_t len;
    int rc;

    if (slot != NULL) {
        len = address_of(item->type == UNIX ? UNIX : TCP, which, &address);
        CALL(rc, gyre_op_connect(&slot->storage->as.connect, item->fd, (struct sockaddr *)&address,
                                 len));
        begun(slot, GYRE_OP_CONNECT, rc);
    }
}

static void ask_all_on(const struct item *item)
{
    for (int i = 0; i < SLOTS; i++) {
        if (run.slot[i].storage != NULL && run.slot[i].item == item - run.item) {
            run.slot[i].asked = 1;
        }
    }
    forget_sent(item);
}

static void close_item(struct item *item, uint32_t flags)
{
    struct slot *slot = next_slot();
    int rc;

    if (slot == NULL) { /* what ends makes room */
        CALL(rc, gyre_fd_cancel(item->fd));
        FUZZ_EXPECT(rc >= 0);
        ask_all_on(item);
        return;
    }
    slot->item = (int)(item - run.item);
    CALL(rc, gyre_op_close(&slot->storage->as.op, item->fd, flags));
    begun(slot, GYRE_OP_CLOSE, rc);
    if (rc == 0) {
        ask_all_on(item);
        item->closing = 1;
        slot->asked = 0; /* it ends with what close(2) says */
    }
}

static void do_close(void)
{
    const uint8_t how = next();
    struct item *item = next_item();

    if (item != NULL) {
        close_item(item, (how & 1 ? GYRE_CLOSE_FLUSH : 0) | (how & 2 ? GYRE_CLOSE_SHUTDOWN : 0));
    }
}

static void do_timeout(void)
{
    const uint64_t wait_ns = next_span();
    struct slot *slot = next_slot();
    int rc;

    if (slot != NULL) {
        slot->moment_ns = gyre_loop_now(run.loop) + wait_ns;
        CALL(rc, gyre_op_timeout(&slot->storage->as.op, run.loop, slot->moment_ns));
        begun(slot, GYRE_OP_TIMEOUT, rc);
    }
}

static void do_nop(void)
{
    struct slot *slot = next_slot();
    int rc;

    if (slot != NULL) {
        CALL(rc, gyre_op_nop(&slot->storage->as.op, run.loop));
        begun(slot, GYRE_OP_NOP, rc);
    }
}

/* ---- ending what was begun ---- */

static struct slot *next_active(void)
{
    const int from = next();

    for (int i = 0; i < SLOTS; i++) {
        struct slot *slot = &run.slot[(from + i) % SLOTS];

        if (slot->storage != NULL) {
            return slot;
        }
    }
    return NULL;
}

static void cancel(struct slot *slot)
{
    int rc;

    CALL(rc, gyre_op_cancel(&slot->storage->as.op));
    FUZZ_EXPECT(rc == 0);
    slot->asked |= slot->kind != GYRE_OP_CLOSE;
    if (slot->item >= 0) {
        forget_sent(&run.item[slot->item]);
        if (slot->kind == GYRE_OP_CLOSE) {
            ask_all_on(&run.item[slot->item]);
            slot->asked = 0;
        }
    }
}

static void do_cancel(void)
{
    struct slot *slot = next_active();

    if (slot != NULL) {
        cancel(slot);
    }
}

static void do_deadline(void)
{
    const uint8_t after = next();
    struct slot *slot = next_active();
    const uint64_t moment =
        after == 255 ? UINT64_MAX : gyre_loop_now(run.loop) + after * (GYRE_MSEC / 4);
    int rc;

    if (slot != NULL) {
        CALL(rc, gyre_op_set_deadline(&slot->storage->as.op, moment));
        FUZZ_EXPECT(rc == 0);
        if (slot->item >= 0) {
            forget_sent(&run.item[slot->item]);
        }
        if (slot->kind == GYRE_OP_TIMEOUT) {
            slot->moment_ns = moment < slot->moment_ns ? moment : slot->moment_ns;
        }
    }
}

static void do_cancel_all(void)
{
    struct item *item = next_item();
    int rc;

    if (item != NULL) {
        CALL(rc, gyre_fd_cancel(item->fd));
        FUZZ_EXPECT(rc >= 0);
        ask_all_on(item);
    }
}

/* ---- streams ---- */

static struct my_stream *of_stream(const struct gyre_stream *stream)
{
    for (int i = 0; i < STREAMS; i++) {
        if (run.stream[i].stream == stream) {
            return &run.stream[i];
        }
    }
    broken("a callback of a stream that has ended");
}

static void on_stream_open(struct gyre_stream *stream)
{
    enter();
    FUZZ_EXPECT(of_stream(stream)->opens++ == 0);
    leave();
}

static void on_stream_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    const struct my_stream *mine = of_stream(stream);

    enter();
    FUZZ_EXPECT(mine->opens == 1 && mine->eofs == 0 && !mine->ended && data->len > 0);
    retain(data);
    leave();
}

static void on_stream_eof(struct gyre_stream *stream)
{
    struct my_stream *mine = of_stream(stream);

    enter();
    FUZZ_EXPECT(mine->opens == 1 && mine->eofs++ == 0 && !mine->ended);
    leave();
}

static void on_stream_drain(struct gyre_stream *stream)
{
    enter();
    FUZZ_EXPECT(!of_stream(stream)->ended);
    leave();
}

/* Takes some and leaves the others. */
static void on_stream_descriptors(struct gyre_stream *stream, size_t count)
{
    int numbers[4];
    int taken;

    enter();
    FUZZ_EXPECT(!of_stream(stream)->ended && count <= 253);
    CALL(taken, gyre_stream_take_descriptors(stream, numbers, next() % 5));
    FUZZ_EXPECT(taken >= 0 && (size_t)taken <= count);
    for (int i = 0; i < taken; i++) {
        FUZZ_EXPECT(gyre__sys_fcntl(numbers[i], F_GETFD, 0) == FD_CLOEXEC);
        gyre__sys_close(numbers[i]);
    }
    leave();
}

static void on_stream_close(struct gyre_stream *stream, int error)
{
    struct my_stream *mine = of_stream(stream);

    enter();
    FUZZ_EXPECT(error <= 0);
    mine->stream = NULL;
    free(stream);
    leave();
}

static const struct gyre_stream_handler stream_handler = {
    .on_open = on_stream_open,
    .on_data = on_stream_data,
    .on_eof = on_stream_eof,
    .on_drain = on_stream_drain,
    .on_descriptors = on_stream_descriptors,
    .on_close = on_stream_close,
    .idle_timeout_ns = 2 * GYRE_SEC,
    .write_high = 20000,
};

static void do_adopt(void)
{
    struct my_stream *mine = &run.stream[next() % STREAMS];
    struct item *item = next_item();
    int rc;

    if (mine->stream != NULL || item == NULL || item->type > PAIR || item->closing ||
        !is_idle(item)) {
        return;
    }
    detach(item);
    forget_both(item);
    *mine = (struct my_stream){.stream = malloc(sizeof(*mine->stream))};
    CALL(rc, gyre_stream_adopt(mine->stream, run.loop, item->number, &stream_handler));
    if (rc == 0) {
        item->number = -1;
        return;
    }
    if (rc != -ENOMEM || memory_refused() == 0) {
        broken("a stream is not adopted: %s", gyre_error_name(rc));
    }
    free(mine->stream);
    mine->stream = NULL;
}

static void write_descriptors(struct gyre_stream *stream)
{
    const size_t count = 1u + next() % 4;
    const struct item *item = next_item();
    int numbers[4];
    int rc;

    if (item == NULL || item->type == LISTENER) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        numbers[i] = item->number;
    }
    CALL(rc, gyre_stream_write_descriptors(stream, "descriptors", 11, numbers, count));
    FUZZ_EXPECT(rc != -EBADF);
}

static void write_bytes(struct gyre_stream *stream)
{
    const size_t len = next_len();
    uint8_t *data = malloc(len);
    int rc;

    memset(data, 7, len);
    CALL(rc, gyre_stream_write(stream, data, len));
    FUZZ_EXPECT(rc <= (int)gyre_stream_queued(stream) && rc != -EINVAL);
    free(data);
}

static void do_stream(void)
{
    struct my_stream *mine = &run.stream[next() % STREAMS];
    const uint8_t what = next() % 8;
    int rc = 0;

    if (mine->stream == NULL) {
        return;
    }
    if (what == 0) {
        CALL(rc, gyre_stream_pause(mine->stream));
    } else if (what == 1) {
        CALL(rc, gyre_stream_resume(mine->stream));
    } else if (what == 2) {
        CALL(rc, gyre_stream_shutdown(mine->stream));
    } else if (what == 3) {
        mine->ended = 1;
        CALL(rc, gyre_stream_close(mine->stream));
    } else if (what == 4) {
        mine->ended = 1;
        CALL(rc, gyre_stream_reset(mine->stream));
    } else if (what == 5) {
        write_descriptors(mine->stream);
    } else {
        write_bytes(mine->stream);
    }
    FUZZ_EXPECT(rc != -EINVAL);
}

/* ---- timers, posts, turns ---- */

static void on_timer(struct gyre_timer *timer)
{
    const size_t index = (size_t)(timer - run.timer);

    enter();
    if (gyre_timer_active(timer) || gyre_loop_now(run.loop) < run.due_ns[index]) {
        broken("a timer fired early, or twice");
    }
    run.due_ns[index] = UINT64_MAX;
    leave();
}

static void on_guard(struct gyre_timer *timer)
{
    (void)timer;
    enter();
    leave();
}

static void do_timer(void)
{
    const size_t index = next() % TIMERS;
    const uint64_t wait_ns = next_span();
    int rc;

    if (next() & 1) {
        gyre_timer_stop(&run.timer[index]);
        run.due_ns[index] = UINT64_MAX;
        return;
    }
    run.due_ns[index] = gyre_loop_now(run.loop) + wait_ns;
    CALL(rc, gyre_timer_start(&run.timer[index], wait_ns));
    FUZZ_EXPECT(rc == 0);
}

static void on_post(struct gyre_loop *loop, void *data)
{
    enter();
    FUZZ_EXPECT(loop == run.loop && data == &run && run.posts > 0);
    run.posts--;
    leave();
}

static void do_post(void)
{
    int rc;

    CALL(rc, gyre_loop_post(run.loop, on_post, &run));
    FUZZ_EXPECT(rc == 0 || rc == -ENOBUFS);
    run.posts += rc == 0;
}

static void do_turns(void)
{
    const uint8_t how = next();
    int rc;

    if (run.in_callback) {
        rc = gyre_loop_run(run.loop, GYRE_RUN_NOWAIT);
        FUZZ_EXPECT(rc == GYRE_ENESTED);
        return;
    }
    for (int i = 0; i <= how % 4; i++) {
        if (how & 0x80) {
            rc = gyre_timer_start(&run.guard, (uint64_t)how * GYRE_MSEC / 8);
            FUZZ_EXPECT(rc == 0);
        }
        rc = gyre_loop_run(run.loop, how & 0x80 ? GYRE_RUN_ONCE : GYRE_RUN_NOWAIT);
        gyre_timer_stop(&run.guard);
        if (rc < 0) {
            broken("the loop ended: %s", gyre_error_name(rc));
        }
    }
}

static void do_wake(void)
{
    if (next() & 1) {
        gyre_loop_stop(run.loop);
    } else {
        gyre_loop_wake(run.loop);
    }
}

static void do_destroy(void)
{
    int attached = 0;

    for (int i = 0; i < ITEMS; i++) {
        attached |= run.item[i].number >= 0 && run.item[i].fd != NULL;
    }
    if (attached || run.in_callback) {
        FUZZ_EXPECT(gyre_loop_destroy(run.loop) == -EBUSY);
    }
}

/* ---- the world ---- */

static void do_sleep(void)
{
    gyre_sim_sleep(next_span());
}

static void do_reset(void)
{
    gyre_sim_reset(run.host, 0);
}

static void do_fault(void)
{
    const enum gyre_sim_fault fault = (enum gyre_sim_fault)(next() % GYRE_SIM_FAULT_COUNT);
    const uint64_t nth = 1 + next() % 16;

    FUZZ_EXPECT(gyre_sim_fail_nth(run.sim, fault, nth, 1 + next() % 4) == 0);
}

static void do_limit(void)
{
    FUZZ_EXPECT(gyre_sim_limit_fds(run.process, next() & 1 ? 4 + next() % 32 : 1000) == 0);
}

static void act(void)
{
    static void (*const actions[])(void) = {
        do_open,   do_recv,     do_recv_lease, do_send,    do_recvmsg, do_sendmsg, do_read,
        do_write,  do_poll,     do_accept,     do_connect, do_close,   do_timeout, do_nop,
        do_cancel, do_deadline, do_cancel_all, do_detach,  do_attach,  do_release, do_retain,
        do_adopt,  do_stream,   do_timer,      do_post,    do_turns,   do_wake,    do_destroy,
        do_sleep,  do_reset,    do_fault,      do_limit,
    };

    actions[next() % (sizeof(actions) / sizeof(actions[0]))]();
}

/* ---- a run ---- */

static void begin(void)
{
    struct gyre_loop_options options = {.backend = run.options & 1 ? GYRE_BACKEND_EPOLL
                                                                   : GYRE_BACKEND_URING};
    static const uint32_t off[] = {GYRE_FEATURE_INCREMENTAL, GYRE_FEATURE_BUFFER_RING,
                                   GYRE_FEATURE_MULTISHOT, GYRE_FEATURE_REGISTERED_RING};

    if (run.options & 2) {
        options.sq_entries = 8;
        options.cq_entries = 16;
    }
    if (run.options & 4) {
        options.pool_block = 4096;
        options.pool_min = 2 * 4096;
        options.pool_max = 3 * 4096;
        options.pool_quota = 2 * 4096;
    }
    if (run.options & 8) {
        options.features_off = off[run.options >> 4 & 3];
    }
    options.post_capacity = run.options & 0x40 ? 2 : 64;
    FUZZ_EXPECT(gyre_loop_create(&run.loop, &options) == 0);
    for (int i = 0; i < TIMERS; i++) {
        FUZZ_EXPECT(gyre_timer_init(&run.timer[i], run.loop, on_timer) == 0);
    }
    FUZZ_EXPECT(gyre_timer_init(&run.guard, run.loop, on_guard) == 0);
    for (int i = 0; i < ITEMS; i++) {
        run.item[i].number = -1;
    }
}

static void choose_faults(void)
{
    for (int i = next() % (FAULTS_MAX + 1); i > 0; i--) {
        const enum gyre_sim_fault fault = (enum gyre_sim_fault)(next() % GYRE_SIM_FAULT_COUNT);

        FUZZ_EXPECT(gyre_sim_rate(run.sim, fault, next() * 3900u) == 0);
    }
}

/* Nothing fails any more. */
static void heal(void)
{
    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        const enum gyre_sim_fault fault = (enum gyre_sim_fault)i;

        FUZZ_EXPECT(gyre_sim_rate(run.sim, fault, 0) == 0);
        FUZZ_EXPECT(gyre_sim_fail_nth(run.sim, fault, UINT32_MAX, 1) == 0);
    }
    FUZZ_EXPECT(gyre_sim_limit_fds(run.process, 1000) == 0);
}

static void close_everything(void)
{
    for (int i = 0; i < HELD; i++) {
        release(&run.held[i]);
    }
    for (int i = 0; i < TIMERS; i++) {
        gyre_timer_stop(&run.timer[i]);
    }
    for (int i = 0; i < SLOTS; i++) {
        if (run.slot[i].storage != NULL && (run.slot[i].item < 0 || (run.options & 0x80))) {
            cancel(&run.slot[i]);
        }
    }
    for (int i = 0; i < STREAMS; i++) {
        if (run.stream[i].stream != NULL) {
            run.stream[i].ended = 1;
            (void)gyre_stream_close(run.stream[i].stream);
        }
    }
    for (int i = 0; i < ITEMS; i++) {
        if (run.item[i].number >= 0 && run.item[i].fd == NULL) {
            gyre__sys_close(run.item[i].number);
            run.item[i].number = -1;
        } else if (run.item[i].number >= 0 && !run.item[i].closing) {
            close_item(&run.item[i], 0);
        }
    }
}

static void expect_nothing_left(void)
{
    struct gyre_loop_stats stats;
    struct gyre_pool_stats pool;

    FUZZ_EXPECT(free_items() == ITEMS && run.posts == 0);
    for (int i = 0; i < SLOTS; i++) {
        FUZZ_EXPECT(run.slot[i].storage == NULL);
    }
    FUZZ_EXPECT(gyre_loop_stats(run.loop, &stats) == 0);
    for (int kind = 0; kind < GYRE_OP_KIND_COUNT; kind++) {
        FUZZ_EXPECT(stats.started[kind] == stats.finished[kind]);
    }
    FUZZ_EXPECT(gyre_loop_pool_stats(run.loop, &pool) == 0);
    FUZZ_EXPECT(pool.leases == 0 && pool.lent == 0 && pool.starved == 0);
}

/* Closing needs slots, of which there may be too few at once. */
static void finish(void)
{
    int rc;

    run.finishing = 1;
    run.size = 0;
    run.retain = 0;
    heal();
    do {
        close_everything();
        rc = gyre_loop_run(run.loop, GYRE_RUN_DEFAULT);
        FUZZ_EXPECT(rc >= 0);
    } while (rc == 1 || free_items() < ITEMS);
    expect_nothing_left();
    FUZZ_EXPECT(gyre_loop_destroy(run.loop) == 0);
    run.loop = NULL;
}

static int main_of_process(void *context)
{
    const struct gyre_sim_process *process = gyre__sim_process();
    const uint32_t fds = process->fds_open;

    (void)context;
    begin();
    choose_faults();
    while (run.size > 0) {
        act();
    }
    finish();
    FUZZ_EXPECT(process->fds_open == fds);
    return 0;
}

static const char *check_pool(void *context)
{
    struct gyre_pool_stats pool;

    (void)context;
    if (run.loop != NULL && gyre_loop_pool_stats(run.loop, &pool) == 0 &&
        pool.free + pool.lent + pool.in_kernel != pool.total) {
        return "blocks of the pool are missing";
    }
    return NULL;
}

static void show(void *context, const char *line)
{
    (void)context;
    fprintf(stderr, "%s\n", line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gyre_sim_options options = {.faults_off = 1};
    const size_t live = gyre_allocator_live();

    memset(&run, 0, sizeof(run));
    run.data = data;
    run.size = size < INPUT_MAX ? size : INPUT_MAX;
    run.options = next();
    options.seed = next();
    options.trace = getenv("FUZZ_TRACE") != NULL ? show : NULL;
    FUZZ_EXPECT(gyre_sim_create(&run.sim, &options) == 0);
    FUZZ_EXPECT(gyre_sim_host_create(run.sim, "host", "10.0.0.1", &run.host) == 0);
    FUZZ_EXPECT(gyre_sim_check(run.sim, check_pool, NULL) == 0);
    FUZZ_EXPECT(gyre_sim_spawn(run.host, main_of_process, NULL, 0, &run.process) == 0);
    if (gyre_sim_run(run.sim) < 0 || gyre_sim_failure(run.sim) != NULL) {
        broken("%s", gyre_sim_failure(run.sim));
    }
    gyre_sim_destroy(run.sim);
    FUZZ_EXPECT(gyre_allocator_live() == live);
    return 0;
}
