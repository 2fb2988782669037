/* What this kernel's io_uring can do, found out by doing it, once per process. See probe.c. */
#ifndef GYRE_URING_PROBE_H
#define GYRE_URING_PROBE_H

#include <gyre/loop.h>

struct gyre__probe {
    int error;                   /* 0: io_uring works; else the error that says why not */
    const char *failed;          /* what failed with it */
    uint32_t features;           /* GYRE_FEATURE_* */
    int why[GYRE_FEATURE_COUNT]; /* for a feature that is missing: the error it was refused with */
};

/* Any thread. */
void gyre__uring_probe(struct gyre__probe *out_probe);

#if defined(GYRE_SIM)
/* The next call asks again. */
void gyre__uring_probe_forget(void);
#endif

#endif
