#include "rings.h"

#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Set up in all, those that a program opens to find out what the kernel knows too. */
#define RINGS_MAX 64

struct ring {
    int fd; /* -1: closed, or its number is another's */
    bool was_mapped;
    uint32_t tail_offset;
    uint64_t tail_at; /* in the program's memory; 0: not mapped */
    uint32_t tail;    /* as read last: the kernel's count, modulo 2^32 */
};

static struct ring rings[RINGS_MAX];
static unsigned ring_count;
static uint64_t completed;
static bool unknown; /* a ring whose completions cannot be counted */

static bool read_memory(pid_t id, uint64_t address, void *out, size_t len)
{
    const struct iovec own = {.iov_base = out, .iov_len = len};
    const struct iovec other = {.iov_base = (void *)(uintptr_t)address, .iov_len = len};

    return process_vm_readv(id, &own, 1, &other, 1, 0) == (ssize_t)len;
}

static void forget(int fd)
{
    for (unsigned i = 0; i < ring_count; i++) {
        if (rings[i].fd == fd) {
            rings[i].fd = -1;
        }
    }
}

static void set_up(pid_t id, uint64_t address, int fd)
{
    struct io_uring_params params;

    forget(fd);
    if (ring_count == RINGS_MAX || !read_memory(id, address, &params, sizeof(params))) {
        unknown = true;
        return;
    }
    rings[ring_count++] = (struct ring){.fd = fd, .tail_offset = params.cq_off.tail};
}

/* Since Linux 5.4 both queues are one mapping, at the offset of either. */
static void mapped(int fd, uint64_t offset, uint64_t address)
{
    for (unsigned i = 0; i < ring_count; i++) {
        if (rings[i].fd == fd && (offset == IORING_OFF_SQ_RING || offset == IORING_OFF_CQ_RING)) {
            rings[i].tail_at = address + rings[i].tail_offset;
            rings[i].was_mapped = true;
        }
    }
}

static void look(pid_t id, struct ring *ring)
{
    uint32_t tail = 0;

    if (!read_memory(id, ring->tail_at, &tail, sizeof(tail))) {
        unknown = true;
        return;
    }
    completed += (uint32_t)(tail - ring->tail);
    ring->tail = tail;
}

/* What was there cannot be looked at any more; all of its completions have been seen. */
static void unmapped(uint64_t address, uint64_t len)
{
    for (unsigned i = 0; i < ring_count; i++) {
        if (rings[i].tail_at - address < len) {
            rings[i].tail_at = 0;
        }
    }
}

void rings_returned(pid_t id, uint64_t call, const uint64_t arguments[6], int64_t result)
{
    switch (call) {
    case SYS_io_uring_setup:
        if (result >= 0) {
            set_up(id, arguments[1], (int)result);
        }
        break;
    case SYS_mmap:
        if (result >= 0 && !(arguments[3] & MAP_ANONYMOUS)) {
            mapped((int)arguments[4], arguments[5], (uint64_t)result);
        }
        break;
    case SYS_munmap:
        unmapped(arguments[0], arguments[1]);
        break;
    case SYS_close:
        forget((int)arguments[0]);
        break;
    case SYS_io_uring_enter: /* its descriptor may be one of those registered: look at all */
        for (unsigned i = 0; i < ring_count; i++) {
            if (rings[i].tail_at != 0) {
                look(id, &rings[i]);
            }
        }
        break;
    default:
        break;
    }
}

bool rings_completed(uint64_t *out_count)
{
    *out_count = completed;
    for (unsigned i = 0; i < ring_count; i++) {
        unknown |= !rings[i].was_mapped; /* in memory of the program's own, for instance */
    }
    return !unknown;
}
