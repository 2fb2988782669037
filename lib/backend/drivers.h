/* The drivers there are, for select.c. */
#ifndef GYRE_BACKEND_DRIVERS_H
#define GYRE_BACKEND_DRIVERS_H

#include "core/backend.h"

extern const struct gyre__backend gyre__epoll_backend;
extern const struct gyre__backend gyre__uring_backend;

/* Why gyre__uring_backend.init failed last on this thread, in words. */
const char *gyre__uring_refusal(void);

#endif
