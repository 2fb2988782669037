/*
 * Sending with send(2), for the engines that do.
 */
#include "load.h"

#include "pattern.h"

#include <errno.h>
#include <sys/socket.h>

int load_send(struct load *load, struct load_connection *c, int flags)
{
    while (c->unsent > 0) {
        const uint32_t len = c->unsent > PATTERN_SPAN ? PATTERN_SPAN : (uint32_t)c->unsent;
        const ssize_t n = send(c->fd, load->pattern + c->sent_at, len, flags | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            return 0;
        }
        if (n < 0 && errno != EINTR) {
            return load_lost(load, c, errno);
        }
        if (n > 0) {
            c->sent_at = pattern_advance(c->sent_at, (uint32_t)n);
            c->unsent -= (uint64_t)n;
        }
    }
    return 0;
}
