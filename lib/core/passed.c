/*
 * Descriptors that come with bytes over Unix sockets (SCM_RIGHTS, unix(7)). recvmsg(2) installs them
 * in this process at once, so each has to find an owner or be closed; when not all of them could be
 * installed (MSG_CTRUNC: out of descriptors), those that were are closed, since a part of a message
 * is worth nothing to its receiver.
 *
 * The bytes are copied out of a buffer on the stack: such sockets carry little, and are not worth a
 * second way through the pool.
 */
#include "core/passed.h"

#include "base/sys.h"
#include "core/kinds.h"
#include "core/op.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PASSED_RECEIVE_LEN = 16 << 10 };

void gyre__passed_drop(struct gyre_loop *loop)
{
    struct gyre__passed_in *passed = &loop->passed;

    for (; passed->first < passed->count; passed->first++) {
        gyre__sys_close(passed->numbers[passed->first]);
    }
    passed->count = 0;
    passed->first = 0;
    passed->came = 0;
}

static void collect(struct gyre_loop *loop, struct msghdr *msg)
{
    struct gyre__passed_in *passed = &loop->passed;

    for (struct cmsghdr *header = CMSG_FIRSTHDR(msg); header != NULL;
         header = CMSG_NXTHDR(msg, header)) {
        const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            gyre_assert(passed->count + count <= sizeof(passed->numbers) / sizeof(int));
            memcpy(passed->numbers + passed->count, CMSG_DATA(header), count * sizeof(int));
            passed->count += (uint32_t)count;
            passed->came = 1;
        }
    }
    if (msg->msg_flags & MSG_CTRUNC) {
        gyre__passed_drop(loop);
        passed->came = 1;
    }
}

int gyre__passed_receive(struct gyre_fd *fd, struct gyre_lease *out_lease)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(fd->loop->passed.numbers))];
    uint8_t data[PASSED_RECEIVE_LEN];
    struct iovec piece = {.iov_base = data, .iov_len = sizeof(data)};
    struct msghdr msg = {.msg_iov = &piece,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = sizeof(control)};
    ssize_t got;
    int rc;

    do {
        got = gyre__sys_recvmsg(fd->number, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        fd->loop->stats.syscalls++;
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        return errno == EAGAIN ? GYRE__NOT_YET : -errno;
    }
    collect(fd->loop, &msg);
    if (got == 0) {
        gyre__passed_drop(fd->loop);
        return 0;
    }
    rc = gyre__pool_lend_copied(fd, data, (size_t)got, out_lease);
    if (rc < 0) {
        gyre__passed_drop(fd->loop);
    }
    return rc < 0 ? rc : (int)got;
}
