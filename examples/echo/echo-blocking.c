/*
 * echo-blocking - one connection after another.
 *
 * The idea: accept a client, echo until it leaves, accept the next. Every call blocks until it is
 * done, so the program reads from top to bottom like its description, and the kernel's own buffers
 * are the only queue: when a client does not read, send() waits, nothing is read from that client
 * any more, and no memory grows.
 *
 * What it costs: a second client waits, connected but unanswered, until the first one is gone. One
 * client that connects and says nothing stops the service for everybody. The program is therefore
 * fit for one client at a time and for nothing else.
 *
 * When it is right: tools with one peer, tests, and as the first program one writes.
 */
#include "common.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 64 * 1024 };

/*
 * How a signal ends a program that waits in a blocking call: the handler shuts down the socket
 * that is waited for. The call then returns, and if the signal came just before the call, the call
 * returns immediately; a flag alone would be seen too late in that case. shutdown() is one of the
 * functions that a signal handler may call.
 */
static volatile sig_atomic_t stopping;
static volatile sig_atomic_t listener_fd = -1;
static volatile sig_atomic_t client_fd = -1;

static void on_signal(int signal_number)
{
    (void)signal_number;
    const int saved_errno = errno;
    stopping = 1;
    shutdown(listener_fd, SHUT_RDWR);
    if (client_fd >= 0) {
        shutdown(client_fd, SHUT_RDWR);
    }
    errno = saved_errno;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaddset(&action.sa_mask, SIGINT);
    sigaddset(&action.sa_mask, SIGTERM);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* A blocking send may still be short when a signal interrupts it. */
static bool send_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        const ssize_t sent = send(fd, data, len, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0) {
            return false;
        }
        data += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* Echoes until the client ends the stream, resets the connection or a signal arrives. */
static void echo_until_end(int fd)
{
    static char buffer[BUFFER_SIZE];
    for (;;) {
        const ssize_t received = recv(fd, buffer, sizeof(buffer), 0);
        if (received < 0 && errno == EINTR) {
            continue;
        }
        if (received <= 0 || !send_all(fd, buffer, (size_t)received)) {
            return;
        }
    }
}

/* First the descriptor is shown to the handler, then the flag is read: no signal falls between. */
static void serve_client(int fd)
{
    client_fd = fd;
    if (!stopping) {
        echo_until_end(fd);
    }
    client_fd = -1;
    close(fd);
}

static void serve(int listener)
{
    while (!stopping) {
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) {
            serve_client(fd);
        } else if (echo_is_shortage(errno)) {
            poll(NULL, 0, ECHO_ACCEPT_PAUSE_MS);
        }
    }
}

int main(int argc, char **argv)
{
    struct echo_options options;
    echo_parse_options(argc, argv,
                       "Echo server that serves one connection after another: "
                       "a second client waits until the first has left.",
                       &options);
    const int listener = echo_listen(&options, 0);
    listener_fd = listener;
    catch_signals();
    echo_announce(listener, NULL);
    serve(listener);
    close(listener);
    return EXIT_SUCCESS;
}
