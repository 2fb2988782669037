/*
 * Control messages: what the library makes of those that come with datagrams (net/dgram_control.c),
 * and with the bytes of Unix sockets (core/passed.c). The first byte chooses:
 *
 *     RAW      the rest is a control buffer as no kernel would fill it
 *     KERNEL   the rest says which items a kernel appends to a buffer that may be too small for them
 *     PASSED   the same, with descriptors among the items; the library asks recvmsg(2) for them, and
 *              the one that it reaches is below
 *
 * A reader of its own says what the result must be.
 */
#include "fuzz.h"

#include "base/sys.h"
#include "core/op.h"
#include "core/passed.h"
#include "net/dgram.h"

#include <errno.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

extern const struct gyre__kernel gyre__real_kernel;

enum mode {
    MODE_RAW,
    MODE_KERNEL,
    MODE_PASSED,
    MODES,
};

enum {
    RAW_MAX = 512,
    FD_FIRST = 1000, /* the numbers that PASSED gives out */
    FDS_MAX = 300,
    RIGHTS_MAX = 253, /* SCM_MAX_FD of Linux */
    VALUE_MAX = 64,
};

/* The input, used up from its beginning; zeroes behind its end. */
struct input {
    const uint8_t *data;
    size_t size;
};

static uint8_t next(struct input *input)
{
    if (input->size == 0) {
        return 0;
    }
    input->size--;
    return *input->data++;
}

/* ---- the kernel's side ---- */

/* As put_cmsg() of Linux: an item that does not fit is cut off. */
static void put(struct msghdr *msg, size_t *used, int level, int type, const void *value,
                size_t len)
{
    const size_t room = msg->msg_controllen - *used;
    const size_t fits = CMSG_LEN(len) < room ? CMSG_LEN(len) : room;
    struct cmsghdr head = {.cmsg_len = fits, .cmsg_level = level, .cmsg_type = type};
    uint8_t *at = (uint8_t *)msg->msg_control + *used;

    if (room < sizeof(head)) {
        msg->msg_flags |= MSG_CTRUNC;
        return;
    }
    if (fits < CMSG_LEN(len)) {
        msg->msg_flags |= MSG_CTRUNC;
    }
    memcpy(at, &head, sizeof(head));
    memcpy(at + CMSG_LEN(0), value, fits - CMSG_LEN(0));
    *used += CMSG_SPACE(len) < room ? CMSG_SPACE(len) : room;
}

static const struct {
    int level;
    int type;
    size_t len;
} kinds[] = {
    {IPPROTO_IP, IP_TTL, 4},
    {IPPROTO_IP, IP_TOS, 1},
    {IPPROTO_IP, IP_PKTINFO, sizeof(struct in_pktinfo)},
    {IPPROTO_IPV6, IPV6_HOPLIMIT, 4},
    {IPPROTO_IPV6, IPV6_TCLASS, 4},
    {IPPROTO_IPV6, IPV6_PKTINFO, sizeof(struct in6_pktinfo)},
    {SOL_UDP, UDP_GRO, 4},
    {SOL_SOCKET, SO_TIMESTAMP, 16},
    {SOL_SOCKET, SO_TIMESTAMPING, 48},
    {SOL_SOCKET, SO_RXQ_OVFL, 4},
    {IPPROTO_IP, IP_RECVOPTS, 40},
    {IPPROTO_IP, IP_ORIGDSTADDR, 16},
    {SOL_SOCKET, SCM_CREDENTIALS, 12},
    {SOL_SOCKET, 3, 30}, /* SCM_SECURITY */
};

static void put_some(struct msghdr *msg, size_t *used, struct input *input)
{
    const size_t kind = next(input) % (sizeof(kinds) / sizeof(kinds[0]));
    uint8_t value[VALUE_MAX];

    for (size_t i = 0; i < kinds[kind].len; i++) {
        value[i] = next(input);
    }
    put(msg, used, kinds[kind].level, kinds[kind].type, value, kinds[kind].len);
}

/* ---- datagrams ---- */

static int int_of(const uint8_t *value, size_t len, int otherwise)
{
    int number;

    if (len < sizeof(number)) {
        return len > 0 ? value[0] : otherwise;
    }
    memcpy(&number, value, sizeof(number));
    return number;
}

/* What one item says, by the manuals. */
static void expect_item(const struct cmsghdr *head, const uint8_t *value, size_t len,
                        struct gyre_datagram *datagram, struct gyre_addr *local)
{
    const int level = head->cmsg_level;
    const int type = head->cmsg_type;

    if ((level == IPPROTO_IP && type == IP_TTL) ||
        (level == IPPROTO_IPV6 && type == IPV6_HOPLIMIT)) {
        datagram->ttl = int_of(value, len, datagram->ttl);
    } else if ((level == IPPROTO_IP && type == IP_TOS) ||
               (level == IPPROTO_IPV6 && type == IPV6_TCLASS)) {
        datagram->tos = int_of(value, len, datagram->tos);
    } else if (level == SOL_UDP && type == UDP_GRO) {
        const int segment = int_of(value, len, (int)datagram->segment);

        datagram->segment = segment > 0 && (size_t)segment < datagram->len ? (uint32_t)segment : 0;
    } else if (level == IPPROTO_IP && type == IP_PKTINFO && len >= 12 && datagram->local) {
        memcpy(&datagram->source, value + 4, 4);
    } else if (level == IPPROTO_IP && type == IP_PKTINFO && len >= 12) {
        memcpy(&datagram->interface, value, 4);
        memcpy(&datagram->source, value + 4, 4);
        local->in = (struct sockaddr_in){.sin_family = AF_INET};
        memcpy(&local->in.sin_addr, value + 8, 4);
        local->len = sizeof(local->in);
        datagram->local = local;
    } else if (level == IPPROTO_IPV6 && type == IPV6_PKTINFO && len >= 20) {
        memcpy(&datagram->interface, value + 16, 4);
        local->in6 = (struct sockaddr_in6){.sin6_family = AF_INET6};
        memcpy(&local->in6.sin6_addr, value, 16);
        if (value[0] == 0xfe && (value[1] & 0xc0) == 0x80) {
            local->in6.sin6_scope_id = datagram->interface;
        }
        local->len = sizeof(local->in6);
        datagram->local = local;
    }
}

/* An item may be cut off by the end of the buffer; then it is the last. */
static void expect_all(const uint8_t *control, size_t size, struct gyre_datagram *datagram,
                       struct gyre_addr *local)
{
    size_t at = 0;

    while (size - at >= sizeof(struct cmsghdr)) {
        struct cmsghdr head;
        const size_t room = size - at;

        memcpy(&head, control + at, sizeof(head));
        const size_t all = head.cmsg_len < room ? head.cmsg_len : room;
        if (all > sizeof(head)) {
            expect_item(&head, control + at + sizeof(head), all - sizeof(head), datagram, local);
        }
        if (head.cmsg_len < sizeof(head) || head.cmsg_len > room ||
            CMSG_ALIGN(head.cmsg_len) > room) {
            break;
        }
        at += CMSG_ALIGN(head.cmsg_len);
    }
}

static void check_datagram(struct msghdr *msg, size_t len)
{
    struct gyre_addr local[2] = {{.len = 0}, {.len = 0}};
    struct gyre_datagram expected = {.len = len, .ttl = -1, .tos = -1};
    struct gyre_datagram datagram = expected;

    expect_all(msg->msg_control, msg->msg_controllen, &expected, &local[0]);
    gyre__dgram_read_control(msg, &datagram, &local[1]);
    FUZZ_EXPECT(datagram.ttl == expected.ttl && datagram.tos == expected.tos);
    FUZZ_EXPECT(datagram.segment == expected.segment && datagram.interface == expected.interface);
    FUZZ_EXPECT(datagram.source == expected.source);
    FUZZ_EXPECT((datagram.local != NULL) == (expected.local != NULL));
    FUZZ_EXPECT(local[0].len == local[1].len);
    FUZZ_EXPECT(memcmp(&local[0].storage, &local[1].storage, local[0].len) == 0);
}

static void fuzz_raw(struct input *input)
{
    const size_t len = next(input);
    const size_t size = input->size < RAW_MAX ? input->size : RAW_MAX;
    struct msghdr msg = {.msg_control = malloc(size + 1), .msg_controllen = size};

    FUZZ_EXPECT(msg.msg_control != NULL);
    memcpy(msg.msg_control, input->data, size);
    msg.msg_control = realloc(msg.msg_control, size > 0 ? size : 1); /* of exactly this size */
    FUZZ_EXPECT(msg.msg_control != NULL);
    check_datagram(&msg, len);
    free(msg.msg_control);
}

static void fuzz_kernel(struct input *input)
{
    const size_t len = (size_t)next(input) << 8;
    struct msghdr msg = {.msg_control = malloc(GYRE__DGRAM_CONTROL),
                         .msg_controllen = GYRE__DGRAM_CONTROL};
    size_t used = 0;

    FUZZ_EXPECT(msg.msg_control != NULL);
    memset(msg.msg_control, next(input), GYRE__DGRAM_CONTROL); /* from another datagram */
    while (input->size > 0) {
        put_some(&msg, &used, input);
    }
    msg.msg_controllen = used;
    check_datagram(&msg, len);
    free(msg.msg_control);
}

/* ---- descriptors ---- */

/* The process of PASSED. */
static struct {
    struct input input;
    int limit; /* RLIMIT_NOFILE, counted from FD_FIRST */
    int refuses_memory;
    int made; /* descriptors given out */
    int open; /* of these */
    uint8_t is_open[FDS_MAX];
    int truncated;
} process;

/* As scm_detach_fds() of Linux: those that fit and for which there are numbers. */
static void put_rights(struct msghdr *msg, size_t *used, int count)
{
    const size_t room = msg->msg_controllen - *used;
    int numbers[RIGHTS_MAX];
    int done = 0;

    while (done < count && CMSG_LEN((size_t)(done + 1) * sizeof(int)) <= room &&
           process.made < process.limit) {
        process.is_open[process.made] = 1;
        process.open++;
        numbers[done++] = FD_FIRST + process.made++;
    }
    if (done > 0) {
        put(msg, used, SOL_SOCKET, SCM_RIGHTS, numbers, (size_t)done * sizeof(int));
    }
    if (done < count) {
        msg->msg_flags |= MSG_CTRUNC;
    }
}

static ssize_t recvmsg_fails(int error)
{
    errno = error;
    return -1;
}

static ssize_t kernel_recvmsg(int fd, struct msghdr *msg, int flags)
{
    struct input *input = &process.input;
    const uint8_t what = next(input);
    size_t used = 0;

    (void)fd;
    FUZZ_EXPECT((flags & MSG_CMSG_CLOEXEC) && (flags & MSG_DONTWAIT));
    if (what < 3) {
        return recvmsg_fails(what == 0 ? EAGAIN : what == 1 ? EINTR : ECONNRESET);
    }
    while (input->size > 0 && used < msg->msg_controllen) {
        const uint8_t item = next(input);

        if (item & 1) {
            put_rights(msg, &used, item < 255 ? item / 2 + 1 : RIGHTS_MAX);
        } else {
            put_some(msg, &used, input);
        }
    }
    msg->msg_controllen = used;
    process.truncated = (msg->msg_flags & MSG_CTRUNC) != 0;
    memset(msg->msg_iov[0].iov_base, what, msg->msg_iov[0].iov_len);
    return what == 3 ? 0 : what;
}

static int kernel_close(int fd)
{
    FUZZ_EXPECT(fd >= FD_FIRST && fd < FD_FIRST + process.made && process.is_open[fd - FD_FIRST]);
    process.is_open[fd - FD_FIRST] = 0;
    process.open--;
    return 0;
}

static int kernel_memory_refused(void)
{
    return process.refuses_memory;
}

/* On the real kernel. */
static struct gyre_loop *begin_loop(struct gyre_fd *fd)
{
    const struct gyre_loop_options options = {.backend = GYRE_BACKEND_EPOLL,
                                              .pool_block = 4096,
                                              .pool_min = 2 * 4096,
                                              .pool_max = 2 * 4096,
                                              .post_capacity = 2};
    struct gyre_loop *loop;

    FUZZ_EXPECT(gyre_loop_create(&loop, &options) == 0);
    FUZZ_EXPECT(gyre_fd_init(fd, loop, eventfd(0, EFD_CLOEXEC)) == 0);
    gyre__fd_take_name(fd);
    return loop;
}

static void end_loop(struct gyre_loop *loop, struct gyre_fd *fd)
{
    int number;

    FUZZ_EXPECT(gyre_fd_detach(fd, &number) == 0 && close(number) == 0);
    FUZZ_EXPECT(gyre_loop_destroy(loop) == 0);
}

static void check_passed(const struct gyre_loop *loop, int got)
{
    const struct gyre__passed_in *passed = &loop->passed;

    if (got <= 0 || process.truncated) {
        FUZZ_EXPECT(process.open == 0 && passed->count == 0);
        return;
    }
    FUZZ_EXPECT(process.open == process.made && passed->count == (uint32_t)process.made);
    for (uint32_t i = 0; i < passed->count; i++) {
        FUZZ_EXPECT(passed->numbers[i] == FD_FIRST + (int)i);
    }
    FUZZ_EXPECT(passed->came == (process.made > 0));
}

static void fuzz_passed(struct input *input)
{
    struct gyre_fd fd;
    struct gyre_loop *loop = begin_loop(&fd);
    struct gyre__kernel kernel = gyre__real_kernel;
    struct gyre_lease lease = {.len = 0};
    int got;

    memset(&process, 0, sizeof(process));
    process.limit = next(input);
    process.refuses_memory = next(input) & 1;
    process.input = *input;
    kernel.recvmsg = kernel_recvmsg;
    kernel.close = kernel_close;
    kernel.memory_refused = kernel_memory_refused;
    gyre__kernel = &kernel;
    got = gyre__passed_receive(&fd, &lease);
    check_passed(loop, got);
    gyre__passed_drop(loop);
    FUZZ_EXPECT(process.open == 0);
    if (got > 0) {
        FUZZ_EXPECT(lease.len == (size_t)got && lease.data[0] == (uint8_t)got);
        gyre_lease_release(&lease);
    }
    gyre__kernel = &gyre__real_kernel;
    end_loop(loop, &fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const run[MODES])(struct input * input) = {fuzz_raw, fuzz_kernel, fuzz_passed};
    struct input input = {data, size};

    run[next(&input) % MODES](&input);
    return 0;
}
