/*
 * A UDP echo server on libuv: datagrams are received in batches (UV_UDP_RECVMMSG) and sent back with
 * uv_udp_try_send(); one that the socket does not take at once is lost, as datagrams may be.
 */
#include "echo/common.h"

#include <err.h>
#include <signal.h>
#include <stdlib.h>
#include <uv.h>

/* libuv cuts it into pieces of 64 KiB, one for each datagram of a batch. */
enum { BUFFER_SIZE = 20 * 64 * 1024 };

static uv_loop_t loop;
static uv_udp_t socket_handle;
static char buffer_memory[BUFFER_SIZE];

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(buffer_memory, BUFFER_SIZE);
}

static void on_receive(uv_udp_t *handle, ssize_t len, const uv_buf_t *buffer,
                       const struct sockaddr *peer, unsigned flags)
{
    const uv_buf_t answer = uv_buf_init(buffer->base, len > 0 ? (unsigned)len : 0);

    if (len < 0 || peer == NULL || (flags & UV_UDP_MMSG_FREE) != 0) {
        return;
    }
    (void)uv_udp_try_send(handle, &answer, 1, peer);
}

static void close_handle(uv_handle_t *handle, void *context)
{
    (void)context;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    (void)signal;
    (void)number;
    uv_walk(&loop, close_handle, NULL);
}

static void must(int rc, const char *what)
{
    if (rc < 0) {
        errx(EXIT_FAILURE, "%s: %s", what, uv_strerror(rc));
    }
}

int main(int argc, char **argv)
{
    static uv_signal_t signals[2];
    struct echo_options options;
    struct sockaddr_in address;
    uv_os_fd_t fd = -1;

    echo_parse_options(argc, argv, "Echo of datagrams on libuv.", &options);
    must(uv_loop_init(&loop), "loop");
    must(uv_ip4_addr(options.host, options.port, &address), "address");
    must(uv_udp_init_ex(&loop, &socket_handle, AF_INET | UV_UDP_RECVMMSG), "socket");
    must(uv_udp_bind(&socket_handle, (const struct sockaddr *)&address, 0), "bind");
    must(uv_udp_recv_start(&socket_handle, on_alloc, on_receive), "receive");
    for (int i = 0; i < 2; i++) {
        must(uv_signal_init(&loop, &signals[i]), "signal");
        must(uv_signal_start(&signals[i], on_signal, i == 0 ? SIGTERM : SIGINT), "signal");
    }
    must(uv_fileno((uv_handle_t *)&socket_handle, &fd), "descriptor");
    echo_announce(fd, "libuv");
    uv_run(&loop, UV_RUN_DEFAULT);
    must(uv_loop_close(&loop), "close");
    return EXIT_SUCCESS;
}
