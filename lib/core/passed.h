/* Descriptors that come with bytes over Unix sockets. See passed.c. */
#ifndef GYRE_CORE_PASSED_H
#define GYRE_CORE_PASSED_H

#include "core/loop.h"

/* Receive bytes, copied, and descriptors, which are then in loop->passed. Returns bytes, 0 at the
 * end, an error, or GYRE__NOT_YET. */
int gyre__passed_receive(struct gyre_fd *fd, struct gyre_lease *out_lease);

/* Close what was not taken. */
void gyre__passed_drop(struct gyre_loop *loop);

#endif
