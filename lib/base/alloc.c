/*
 * Memory goes through one replaceable allocator and is counted, so that a test can say that nothing
 * is left and that nothing was taken per message.
 *
 * The count is atomic because loops live in different threads. The allocator itself is not: it may
 * be replaced only while nothing is alive, before the first loop of the process.
 */
#include "base/alloc.h"

#include "base/sys.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

static void *zalloc(size_t len)
{
    return calloc(1, len);
}

static const struct gyre_allocator libc_allocator = {
    .alloc = malloc, .zalloc = zalloc, .resize = realloc, .release = free};

static struct gyre_allocator current = {
    .alloc = malloc, .zalloc = zalloc, .resize = realloc, .release = free};

static atomic_size_t live;

int gyre_allocator_set(const struct gyre_allocator *allocator)
{
    if (allocator == NULL) {
        allocator = &libc_allocator;
    }
    if (allocator->alloc == NULL || allocator->zalloc == NULL || allocator->resize == NULL ||
        allocator->release == NULL) {
        return -EINVAL;
    }
    if (gyre_allocator_live() != 0) {
        return -EBUSY;
    }
    current = *allocator;
    return 0;
}

size_t gyre_allocator_live(void)
{
    return atomic_load_explicit(&live, memory_order_relaxed);
}

/* Relaxed: the count orders nothing, it is only read when all is quiet. */
static void *counted(void *memory)
{
    if (memory != NULL) {
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    }
    return memory;
}

void *gyre__alloc(size_t len)
{
    return gyre__sys_memory_refused() ? NULL : counted(current.alloc(len));
}

void *gyre__zalloc(size_t len)
{
    return gyre__sys_memory_refused() ? NULL : counted(current.zalloc(len));
}

void *gyre__resize(void *memory, size_t len)
{
    if (memory == NULL) {
        return gyre__alloc(len);
    }
    return gyre__sys_memory_refused() ? NULL : current.resize(memory, len);
}

void gyre__free(void *memory)
{
    if (memory != NULL) {
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
        current.release(memory);
    }
}

void *gyre__map_wiped(size_t len)
{
    void *memory =
        gyre__sys_mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        return NULL;
    }
    /* Linux 4.14. If it fails, a forked child is not told apart; nothing else depends on it. */
    gyre__sys_madvise(memory, len, MADV_WIPEONFORK);
    return memory;
}
