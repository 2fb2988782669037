/*
 * Setting the io_uring driver up, and saying why it cannot be: sizes, the ring, the features that
 * the probe found and the options allow, the pool and the ring of its buffers.
 */
#include "backend/uring/driver.h"
#include "backend/uring/probe.h"
#include "base/alloc.h"
#include "base/sys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

enum {
    DEFAULT_SQ = 256,  /* 16 KiB of entries: warm */
    DEFAULT_CQ = 4096, /* 64 KiB; an overflow is slow */
    SQ_SMALL = 64,     /* where memory is short */
};

static _Thread_local char last_refusal[160];

const char *gyre__uring_refusal(void)
{
    return last_refusal;
}

static const char *hint(int error)
{
    switch (-error) {
    case EPERM:
    case EACCES:
        return " (sysctl kernel.io_uring_disabled, or a sandbox such as a container's profile)";
    case ENOSYS:
        return " (no io_uring in this kernel, or a sandbox hides it)";
    case EINVAL:
        return " (Linux 6.1 or later is needed)";
    case ENOMEM:
        return " (memory, or RLIMIT_MEMLOCK)";
    default:
        return "";
    }
}

/* Without descriptors the other driver would not start either: that is no refusal. */
static int refuse(int error, const char *what)
{
    if (error == -EMFILE || error == -ENFILE) {
        return error;
    }
    snprintf(last_refusal, sizeof(last_refusal), "%s was refused: %s%s", what, gyre_strerror(error),
             hint(error));
    return GYRE_ENOURING;
}

static const char *reason(int error)
{
    switch (error) {
    case -EINVAL:
        return "off: this kernel does not have it";
    case -EILSEQ:
        return "off: this kernel does not tell whose bytes are where";
    default:
        return gyre_strerror(error);
    }
}

/* In words, for each feature, whether it is on and why not. */
static void explain(struct gyre__uring *uring, const struct gyre__probe *probe, uint32_t off)
{
    for (int i = 0; i < GYRE_FEATURE_COUNT; i++) {
        if (uring->features & (1u << i)) {
            uring->why[i] = "on";
        } else if (off & (1u << i)) {
            uring->why[i] = "off: switched off by the options, or needs one that is";
        } else {
            uring->why[i] = reason(probe->why[i]);
        }
    }
}

/* What is switched off takes with it what builds on it. */
static uint32_t all_off(uint32_t off)
{
    if (off & GYRE_FEATURE_BUFFER_RING) {
        off |= GYRE_FEATURE_INCREMENTAL;
    }
    return off;
}

static void use_features(struct gyre__uring *uring)
{
    if (gyre__uring_has(uring, GYRE_FEATURE_REGISTERED_RING) &&
        gyre__ring_register(&uring->ring) < 0) {
        uring->features &= ~(uint32_t)GYRE_FEATURE_REGISTERED_RING; /* 16 a thread */
        uring->why[__builtin_ctz(GYRE_FEATURE_REGISTERED_RING)] =
            "off: no slot left for this thread";
    }
    if (gyre__uring_has(uring, GYRE_FEATURE_NO_IOWAIT)) {
        uring->ring.enter_flags |= GYRE__ENTER_NO_IOWAIT;
    }
}

static int open_ring(struct gyre__uring *uring, const struct gyre_loop_options *options)
{
    const uint32_t asked = options->cq_entries;
    const uint32_t most_sq = asked != 0 && asked / 2 < DEFAULT_SQ ? asked / 2 : DEFAULT_SQ;
    const uint32_t sq = options->sq_entries != 0 ? options->sq_entries : most_sq;
    const uint32_t least_cq = 2 * sq > DEFAULT_CQ ? 2 * sq : DEFAULT_CQ;
    int rc = gyre__ring_init(&uring->ring, sq, asked != 0 ? asked : least_cq);

    if (rc == -ENOMEM && options->sq_entries == 0 && options->cq_entries == 0) {
        rc = gyre__ring_init(&uring->ring, SQ_SMALL, 4 * SQ_SMALL);
    }
    return rc < 0 ? refuse(rc, "io_uring_setup") : 0;
}

/* The pool, then the ring of its buffers. */
static int open_pool(struct gyre_loop *loop, struct gyre__uring *uring,
                     const struct gyre_loop_options *options)
{
    int rc = gyre__pool_init(&loop->pool, options);

    if (rc < 0 || !gyre__uring_has(uring, GYRE_FEATURE_BUFFER_RING)) {
        return rc;
    }
    rc = gyre__bufring_init(&uring->bufring, &uring->ring, &loop->pool,
                            gyre__uring_has(uring, GYRE_FEATURE_INCREMENTAL));
    if (rc < 0) { /* it worked in the probe; without it things work, slower */
        uring->features &= ~(uint32_t)(GYRE_FEATURE_BUFFER_RING | GYRE_FEATURE_INCREMENTAL);
        uring->why[__builtin_ctz(GYRE_FEATURE_BUFFER_RING)] = gyre_strerror(rc);
        uring->why[__builtin_ctz(GYRE_FEATURE_INCREMENTAL)] = gyre_strerror(rc);
    }
    return 0;
}

static int open_driver(struct gyre_loop *loop, struct gyre__uring *uring,
                       const struct gyre_loop_options *options, const struct gyre__probe *probe)
{
    const uint32_t off = all_off(options->features_off);
    int rc = open_ring(uring, options);

    if (rc < 0) {
        return rc;
    }
    uring->features = probe->features & ~off;
    explain(uring, probe, off);
    use_features(uring);
    rc = open_pool(loop, uring, options);
    if (rc < 0) {
        gyre__ring_fini(&uring->ring);
    }
    return rc;
}

/* The thread's timer slack; 0 for threads of real-time classes, as of Linux 6.12. */
static uint64_t timer_slack(void)
{
    const int slack = gyre__sys_prctl(PR_GET_TIMERSLACK, 0);

    return slack > 0 ? (uint64_t)slack : 0; /* refused, or more than two seconds: none */
}

int gyre__uring_init(struct gyre_loop *loop, const struct gyre_loop_options *options)
{
    struct gyre__probe probe;
    struct gyre__uring *uring;
    int rc;

    last_refusal[0] = '\0';
    gyre__uring_probe(&probe);
    if (probe.error < 0) {
        return refuse(probe.error, probe.failed);
    }
    uring = gyre__zalloc(sizeof(*uring));
    if (uring == NULL) {
        return -ENOMEM;
    }
    gyre__list_init(&uring->cancels);
    gyre__list_init(&uring->missed);
    gyre__alarm_init(&uring->again);
    uring->event_number = -1;
    uring->slack_ns = timer_slack();
    rc = open_driver(loop, uring, options, &probe);
    if (rc < 0) {
        gyre__free(uring);
        return rc;
    }
    loop->driver = uring;
    return 0;
}

void gyre__uring_fini(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);

    if (uring->event_number >= 0) {
        gyre__sys_close(uring->event_number);
    }
    gyre__ring_fini(&uring->ring); /* ends what the kernel had of ours, before its memory goes */
    gyre__bufring_fini(&uring->bufring);
    gyre__pool_fini(&loop->pool);
    gyre__free(uring);
    loop->driver = NULL;
}

/*
 * Not the ring's own descriptor: with DEFER_TASKRUN work that waits for the loop does not wake
 * those who poll it. It does signal a registered eventfd.
 */
int gyre__uring_pollable(struct gyre_loop *loop)
{
    struct gyre__uring *uring = gyre__uring_of(loop);
    int rc;

    if (uring->event_number >= 0) {
        return uring->event_number;
    }
    uring->event_number = gyre__sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (uring->event_number < 0) {
        return -errno;
    }
    rc = gyre__sys_io_uring_register_eventfd(&uring->ring.uring, uring->event_number);
    if (rc < 0) {
        gyre__sys_close(uring->event_number);
        uring->event_number = -1;
    }
    return rc < 0 ? rc : uring->event_number;
}

void gyre__uring_info(const struct gyre_loop *loop, struct gyre_loop_info *out_info)
{
    const struct gyre__uring *uring = gyre__uring_of(loop);

    out_info->features = uring->features;
    memcpy(out_info->feature_why, uring->why, sizeof(uring->why));
    out_info->sq_entries = uring->ring.uring.sq.ring_entries;
    out_info->cq_entries = uring->ring.uring.cq.ring_entries;
}
