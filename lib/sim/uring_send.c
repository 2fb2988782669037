/*
 * The operations that send, and I6: memory lent to the kernel is not written to. A hash of the
 * bytes is taken when the entry is taken in and compared at each try and at the end.
 */
#include "sim/uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

/* Of a larger piece a sample is looked at, or one that is sent in many tries takes for ever. */
enum { HASHED_MOST = 64 << 10 };

/* Eight bytes a step; in the manner of FNV-1a, the upper half folded in. */
static uint64_t mix(uint64_t hash, uint64_t word)
{
    hash = (hash ^ word) * FNV_PRIME;
    return hash ^ hash >> 32;
}

/* Never 0 but by chance. */
static uint64_t hash_of(const struct sim_request *request)
{
    uint64_t hash = FNV_BASIS;

    for (size_t i = 0; i < request->msg.msg_iovlen; i++) {
        const unsigned char *bytes = request->pieces[i].iov_base;
        const size_t len = request->pieces[i].iov_len;
        const size_t step = sizeof(uint64_t) * (1 + len / HASHED_MOST);

        for (size_t k = 0; k < len; k += step) {
            uint64_t word = 0;

            memcpy(&word, bytes + k, len - k < sizeof(word) ? len - k : sizeof(word));
            hash = mix(hash, word);
        }
    }
    return hash;
}

/* Once in a moment: the program does not run in between. */
void gyre__sim_request_check(struct sim_request *request)
{
    const uint64_t now = gyre__sim_now(request->ring->file.sim);

    if (request->hash == 0 || request->checked_ns == now) {
        return;
    }
    request->checked_ns = now;
    if (hash_of(request) != request->hash) {
        gyre__sim_failed(gyre__sim_of_uring(request->ring),
                         "send buffer changed in flight: ring %llu #%llu %s",
                         (unsigned long long)request->ring->file.id,
                         (unsigned long long)request->id, gyre__sim_request_name(request));
    }
}

void gyre__sim_request_lend(struct sim_request *request)
{
    request->hash = hash_of(request);
    request->checked_ns = gyre__sim_now(request->ring->file.sim);
}

static int copy_name(struct sim_request *request)
{
    if (request->msg.msg_name == NULL) {
        return 0;
    }
    if (request->msg.msg_namelen > sizeof(request->name)) {
        return -EINVAL;
    }
    memcpy(&request->name, request->msg.msg_name, request->msg.msg_namelen);
    request->msg.msg_name = &request->name;
    return 0;
}

/* Bytes, and the address that they are for, if one is given (Linux 6.1). */
static int copy_bytes(struct sim_request *request)
{
    request->msg.msg_name = (void *)(uintptr_t)request->sqe.addr2;
    request->msg.msg_namelen = request->sqe.addr2 != 0 ? request->sqe.addr_len : 0;
    return gyre__sim_request_copy_buffer(request);
}

int gyre__sim_send_prepare(struct sim_request *request)
{
    int rc;

    if (request->sqe.ioprio & ~IORING_RECVSEND_POLL_FIRST) {
        return gyre__sim_uring_unmodelled(request->ring, "a send with this flag");
    }
    rc = request->sqe.opcode == IORING_OP_SEND ? copy_bytes(request)
                                               : gyre__sim_request_copy_msg(request);
    rc = rc < 0 ? rc : copy_name(request);
    if (rc == 0) {
        gyre__sim_request_lend(request);
    }
    return rc;
}

/* A send that is to be whole goes on through polls and completes once. */
enum sim_turn gyre__sim_send_try(struct sim_request *request)
{
    const size_t whole = gyre__sim_pieces_len(request->pieces, request->msg.msg_iovlen);
    const int flags = ((int)request->sqe.msg_flags & ~MSG_WAITALL) | MSG_DONTWAIT | MSG_NOSIGNAL;
    struct msghdr msg;
    struct iovec *pieces;
    ssize_t rc;

    if (!request->polled && (request->sqe.ioprio & IORING_RECVSEND_POLL_FIRST)) {
        return SIM_TURN_WAIT;
    }
    if (gyre__sim_socket_of(request->file) == NULL) {
        return gyre__sim_request_end(request, -ENOTSOCK, 0);
    }
    gyre__sim_request_check(request);
    pieces = gyre__sim_alloc((request->msg.msg_iovlen + 1) * sizeof(*pieces));
    msg = gyre__sim_request_rest_msg(request, pieces);
    rc = gyre__sim_do_send(request->file, &msg, flags);
    free(pieces);
    if (rc == -EAGAIN) {
        gyre__sim_sometimes(gyre__sim_of_uring(request->ring), GYRE_SIM_PATH_SEND_BLOCKED);
        return SIM_TURN_WAIT;
    }
    if (rc > 0) {
        request->done += (size_t)rc;
        if (request->done < whole && gyre__sim_request_goes_on(request)) {
            return SIM_TURN_WAIT;
        }
    }
    return gyre__sim_request_end(request, request->done > 0 ? (ssize_t)request->done : rc, 0);
}
