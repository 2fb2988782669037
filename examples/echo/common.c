/* Options, the listening socket, the ready line and signals of the echo programs; see common.h. */
#include "common.h"

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    /* The kernel cuts it to net.core.somaxconn; more than that cannot be asked for. */
    BACKLOG = 65535,
    PORT_TEXT_SIZE = sizeof("65535"),
};

uint64_t echo_parse_number(struct argp_state *state, const char *text, uint64_t min, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    const unsigned long long value = strtoull(text, &end, 10);
    const bool is_number = text[0] >= '0' && text[0] <= '9' && *end == '\0';
    if (!is_number || errno != 0 || value < min || value > max) {
        argp_error(state, "'%s' is not a whole number from %llu to %llu", text,
                   (unsigned long long)min, (unsigned long long)max);
    }
    return value;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct echo_options *options = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        *options = (struct echo_options){.host = "127.0.0.1"};
        return 0;
    case 'h':
        options->host = arg;
        return 0;
    case 'p':
        options->port = (uint16_t)echo_parse_number(state, arg, 0, UINT16_MAX);
        return 0;
    case 'c':
        options->cc = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option option_table[] = {
    {.name = "host", .key = 'h', .arg = "HOST", .doc = "Name or address (default 127.0.0.1)"},
    {.name = "port",
     .key = 'p',
     .arg = "PORT",
     .doc = "TCP port; servers: 0 (default) is any free one"},
    {.name = "cc", .key = 'c', .arg = "NAME", .doc = "Congestion control, such as cubic"},
    {0},
};

const struct argp echo_argp = {.options = option_table, .parser = parse_option};

void echo_parse_options(int argc, char **argv, const char *doc, struct echo_options *out_options)
{
    struct argp with_doc = echo_argp;
    with_doc.doc = doc;
    const error_t error = argp_parse(&with_doc, argc, argv, 0, NULL, out_options);
    if (error != 0) {
        errx(EXIT_FAILURE, "options: %s", strerror(error));
    }
}

/* Sets what accepted sockets inherit. SO_REUSEADDR lets a server restart on the same port. */
static void set_listener_options(int fd, const char *cc)
{
    const int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
        err(EXIT_FAILURE, "socket options");
    }
    if (cc != NULL && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, cc, (socklen_t)strlen(cc)) < 0) {
        err(EXIT_FAILURE, "congestion control '%s'", cc);
    }
}

/* Returns the listening socket, or -1 with errno set if this address cannot be used. */
static int listen_on(const struct addrinfo *address, const char *cc, int type_flags)
{
    const int type = address->ai_socktype | SOCK_CLOEXEC | type_flags;
    const int fd = socket(address->ai_family, type, address->ai_protocol);
    if (fd < 0) {
        return -1;
    }
    set_listener_options(fd, cc);
    if (bind(fd, address->ai_addr, address->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
        const int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int echo_listen(const struct echo_options *options, int type_flags)
{
    char port[PORT_TEXT_SIZE];
    snprintf(port, sizeof(port), "%u", (unsigned)options->port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *addresses = NULL;
    const int error = getaddrinfo(options->host, port, &hints, &addresses);
    if (error != 0) {
        errx(EXIT_FAILURE, "host '%s': %s", options->host, gai_strerror(error));
    }
    int fd = -1;
    for (struct addrinfo *a = addresses; a != NULL && fd < 0; a = a->ai_next) {
        fd = listen_on(a, options->cc, type_flags);
    }
    if (fd < 0) {
        err(EXIT_FAILURE, "cannot listen on %s port %s", options->host, port);
    }
    freeaddrinfo(addresses);
    return fd;
}

void echo_announce(int listener, const char *extra)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (getsockname(listener, (struct sockaddr *)&address, &size) < 0) {
        err(EXIT_FAILURE, "getsockname");
    }
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    const int error = getnameinfo((struct sockaddr *)&address, size, host, sizeof(host), port,
                                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
    if (error != 0) {
        errx(EXIT_FAILURE, "getnameinfo: %s", gai_strerror(error));
    }
    const bool is_ipv6 = address.ss_family == AF_INET6;
    printf(is_ipv6 ? "listening on [%s]:%s" : "listening on %s:%s", host, port);
    printf("%s%s\n", extra != NULL ? " " : "", extra != NULL ? extra : "");
    fflush(stdout);
}

int echo_signal_fd(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0) {
        err(EXIT_FAILURE, "sigprocmask");
    }
    const int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) {
        err(EXIT_FAILURE, "signalfd");
    }
    return fd;
}

void echo_raise_fd_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        err(EXIT_FAILURE, "getrlimit");
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0) {
        err(EXIT_FAILURE, "setrlimit");
    }
}

bool echo_is_shortage(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}
