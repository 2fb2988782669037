/* The epoll driver, for select.c. */
#ifndef GYRE_EPOLL_DRIVER_H
#define GYRE_EPOLL_DRIVER_H

#include "core/backend.h"

extern const struct gyre__backend gyre__epoll_backend;

#endif
