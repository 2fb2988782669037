/*
 * An echo server on libevent's buffer events.
 *
 * The received chain of buffers is moved to the output without a copy, which is the way that the
 * book of libevent shows. The base takes no locks and collects its epoll_ctl() calls. Libevent 2.1
 * reads 4 KiB at a time whatever it is asked for (EVBUFFER_MAX_READ), which is why it falls behind
 * with large messages. A connection whose peer does not read is not read either: above the watermark
 * reading stops, and goes on when the output is empty.
 */
#include "echo/common.h"

#include <err.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
    SINGLE_MAX = 128 * 1024, /* bytes taken or sent at once; the default is 16 KiB */
    OUTPUT_HIGH = 256 * 1024,
};

static struct event_base *base;

static void on_event(struct bufferevent *event, short what, void *context);

static void on_read(struct bufferevent *event, void *context);

/* The output of a slow reader is empty again. */
static void on_empty(struct bufferevent *event, void *context)
{
    (void)context;
    bufferevent_setcb(event, on_read, NULL, on_event, NULL);
    bufferevent_enable(event, EV_READ);
}

static void on_read(struct bufferevent *event, void *context)
{
    struct evbuffer *output = bufferevent_get_output(event);

    (void)context;
    if (evbuffer_add_buffer(output, bufferevent_get_input(event)) < 0) {
        bufferevent_free(event);
    } else if (evbuffer_get_length(output) > OUTPUT_HIGH) {
        bufferevent_disable(event, EV_READ);
        bufferevent_setcb(event, on_read, on_empty, on_event, NULL);
    }
}

static void on_last_write(struct bufferevent *event, void *context)
{
    (void)context;
    bufferevent_free(event);
}

static void on_event(struct bufferevent *event, short what, void *context)
{
    (void)context;
    const bool at_end = (what & BEV_EVENT_EOF) != 0;

    if (at_end && evbuffer_get_length(bufferevent_get_output(event)) > 0) {
        bufferevent_disable(event, EV_READ);
        bufferevent_setcb(event, NULL, on_last_write, on_event, NULL);
    } else {
        bufferevent_free(event);
    }
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address,
                      int len, void *context)
{
    struct bufferevent *event = bufferevent_socket_new(base, fd, BEV_OPT_CLOSE_ON_FREE);

    (void)listener;
    (void)address;
    (void)len;
    (void)context;
    if (event == NULL) {
        evutil_closesocket(fd);
        return;
    }
    bufferevent_set_max_single_read(event, SINGLE_MAX);
    bufferevent_set_max_single_write(event, SINGLE_MAX);
    bufferevent_setcb(event, on_read, NULL, on_event, NULL);
    bufferevent_enable(event, EV_READ | EV_WRITE);
}

static void on_signal(evutil_socket_t number, short what, void *context)
{
    (void)number;
    (void)what;
    (void)context;
    event_base_loopbreak(base);
}

static struct event_base *make_base(void)
{
    struct event_config *config = event_config_new();

    if (config == NULL) {
        errx(EXIT_FAILURE, "libevent: configuration");
    }
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    struct event_base *made = event_base_new_with_config(config);

    if (made == NULL) {
        errx(EXIT_FAILURE, "libevent: base");
    }
    event_config_free(config);
    return made;
}

int main(int argc, char **argv)
{
    struct echo_options options;

    echo_parse_options(argc, argv, "Echo on libevent's buffer events.", &options);
    echo_raise_fd_limit();
    const int fd = echo_listen(&options, SOCK_NONBLOCK);

    base = make_base();
    /* Backlog 0: the socket listens already. */
    struct evconnlistener *listener = evconnlistener_new(
        base, on_accept, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    struct event *signals[2] = {evsignal_new(base, SIGTERM, on_signal, NULL),
                                evsignal_new(base, SIGINT, on_signal, NULL)};

    if (listener == NULL || signals[0] == NULL || signals[1] == NULL ||
        event_add(signals[0], NULL) < 0 || event_add(signals[1], NULL) < 0) {
        errx(EXIT_FAILURE, "libevent: events");
    }
    echo_announce(fd, event_base_get_method(base));
    event_base_dispatch(base);
    evconnlistener_free(listener);
    event_free(signals[0]);
    event_free(signals[1]);
    return EXIT_SUCCESS;
}
