/*
 * Which driver: the option, then GYRE_BACKEND of the environment, then io_uring if it works, else
 * epoll. When the answer is epoll from the start, not one io_uring system call is made: a sandbox
 * may kill the process for trying.
 */
#include "backend/epoll/driver.h"
#include "backend/uring/driver.h"
#include "backend/uring/probe.h"
#include "base/sys.h"
#include "core/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char refusal[160];

const char *gyre_loop_refusal(void)
{
    return refusal;
}

/* Returns 0 and what to try, and who asked for it, or GYRE_EBACKEND. */
static int wish(const struct gyre_loop_options *options, enum gyre_backend *out_backend,
                const char **out_who)
{
    const char *name;

    *out_backend = options->backend;
    *out_who = "the options ask for it";
    if (options->backend != GYRE_BACKEND_AUTO) {
        return options->backend == GYRE_BACKEND_URING || options->backend == GYRE_BACKEND_EPOLL
                   ? 0
                   : -EINVAL;
    }
    name = gyre__sys_getenv("GYRE_BACKEND");
    *out_who = "GYRE_BACKEND asks for it";
    if (name == NULL || name[0] == '\0' || strcmp(name, "auto") == 0) {
        *out_who = "io_uring works here";
    } else if (strcmp(name, "uring") == 0) {
        *out_backend = GYRE_BACKEND_URING;
    } else if (strcmp(name, "epoll") == 0) {
        *out_backend = GYRE_BACKEND_EPOLL;
    } else {
        return GYRE_EBACKEND;
    }
    return 0;
}

static int use(struct gyre_loop *loop, const struct gyre__backend *backend,
               const struct gyre_loop_options *options, const char *why)
{
    int rc;

    loop->backend = backend;
    rc = backend->init(loop, options);
    snprintf(loop->why, sizeof(loop->why), "%s", why);
    return rc;
}

int gyre__backend_select(struct gyre_loop *loop, const struct gyre_loop_options *options)
{
    enum gyre_backend backend;
    const char *who;
    int rc = wish(options, &backend, &who);

    refusal[0] = '\0';
    if (rc < 0) {
        return rc;
    }
    if (backend == GYRE_BACKEND_EPOLL) {
        return use(loop, &gyre__epoll_backend, options, who);
    }
    rc = use(loop, &gyre__uring_backend, options, who);
    if (rc != GYRE_ENOURING) {
        return rc; /* fine, or what would stop the other driver as well */
    }
    snprintf(refusal, sizeof(refusal), "%s", gyre__uring_refusal());
    if (backend == GYRE_BACKEND_URING) {
        return GYRE_ENOURING;
    }
    return use(loop, &gyre__epoll_backend, options, refusal);
}

#if defined(GYRE_SIM)
void gyre__backend_forget(void)
{
    gyre__uring_probe_forget();
}
#endif
