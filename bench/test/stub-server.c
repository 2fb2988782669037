/*
 * An echo server for the tests that can be told to misbehave.
 *
 * BENCH_STUB is a comma-separated list of PROGRAM:FAULT, behind which there may be a number. The fault
 * applies when the program runs under that name (a symbolic link), so that one contender of a whole
 * set can be the bad one. Faults happen at a number of received pieces, never at a time: at 100 it is
 * one that every load of the tests comes to, also when each piece has all that a connection may have in
 * flight (2,000 messages of 16 are 125 pieces; 64 connections make 128 before the first window).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PEERS_MAX   1100
#define BUFFER_SIZE 65536
#define PAUSE_EVERY 1000
#define PAUSE_MS    20
#define SLOW_EVERY  32  /* pieces; looking at the clock is not free */
#define FAULT_AT    100 /* pieces received, of all connections together, unless a number is given */

enum fault {
    FAULT_NONE,
    FAULT_FLIP,    /* one bit of one byte */
    FAULT_SWAP,    /* two connections get each other's answers */
    FAULT_SURPLUS, /* one byte too many */
    FAULT_LOSE,    /* one byte too few */
    FAULT_CLOSE,   /* one connection is closed */
    FAULT_STARVE,  /* one connection is never answered */
    FAULT_CRASH,
    FAULT_REFUSE,  /* says that it listens, and does not */
    FAULT_CLASH,   /* its port is taken */
    FAULT_GARBAGE, /* does not say where it listens */
    FAULT_BAD_END, /* exit status 9 on SIGTERM */
    FAULT_SLOW,    /* uses more CPU time, by the number in per cent: "slow10" */
    FAULT_PAUSE,   /* now and then it sleeps for PAUSE_MS */
    FAULT_COUNT,
};

static const char *const fault_names[FAULT_COUNT] = {
    "none",  "flip",   "swap",  "surplus", "lose",    "close", "starve",
    "crash", "refuse", "clash", "garbage", "bad-end", "slow",  "pause",
};

struct stub {
    enum fault fault;
    unsigned number;              /* behind its name */
    uint64_t slow_from_ns;        /* CPU time when the last spin ended */
    struct pollfd fds[PEERS_MAX]; /* 0: signals, 1: listener, then the connections */
    nfds_t count;
    unsigned pieces;
    unsigned long messages;
    uint8_t buffer[BUFFER_SIZE];
    /* FAULT_SWAP: the answer that waits for another connection's. */
    uint8_t held[BUFFER_SIZE];
    ssize_t held_len;
    int held_fd;
};

static enum fault parse_fault(const char *program, unsigned *out_number)
{
    const char *text = getenv("BENCH_STUB");
    char wanted[64];

    for (int i = 0; text != NULL && i < FAULT_COUNT; i++) {
        snprintf(wanted, sizeof(wanted), "%s:%s", program, fault_names[i]);
        const char *at = strstr(text, wanted);

        if (at != NULL) {
            *out_number = (unsigned)strtoul(at + strlen(wanted), NULL, 10);
            return (enum fault)i;
        }
    }
    return FAULT_NONE;
}

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_listener(uint16_t port, uint16_t *out_port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t len = sizeof(address);
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0) {
        die("bind");
    }
    if (listen(fd, 1024) < 0 || getsockname(fd, (struct sockaddr *)&address, &len) < 0) {
        die("listen");
    }
    *out_port = ntohs(address.sin_port);
    return fd;
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC);
}

static void send_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        const ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EINTR) {
            return;
        }
        data += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
}

static void swap(struct stub *s, int fd, ssize_t n)
{
    if (s->held_fd == 0) {
        memcpy(s->held, s->buffer, (size_t)n);
        s->held_len = n;
        s->held_fd = fd;
    } else {
        send_all(fd, s->held, (size_t)s->held_len);
        send_all(s->held_fd, s->buffer, (size_t)n);
        s->fault = FAULT_NONE;
    }
}

/* The piece in which the fault happens. */
static void misbehave(struct stub *s, int fd, ssize_t n)
{
    switch (s->fault) {
    case FAULT_FLIP:
        s->buffer[n / 2] ^= 0x10;
        send_all(fd, s->buffer, (size_t)n);
        break;
    case FAULT_SURPLUS:
        send_all(fd, s->buffer, (size_t)n);
        send_all(fd, s->buffer, 1);
        break;
    case FAULT_LOSE:
        send_all(fd, s->buffer, (size_t)n - 1);
        break;
    case FAULT_CLOSE:
        shutdown(fd, SHUT_RDWR);
        break;
    case FAULT_CRASH:
        abort();
    default:
        send_all(fd, s->buffer, (size_t)n);
        break;
    }
}

static uint64_t cpu_now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/*
 * Spins for so many per cent of the CPU time that everything since the last spin has used, whatever
 * that is on this machine.
 */
static void slow_down(struct stub *s)
{
    const uint64_t now = cpu_now_ns();
    const uint64_t end = now + (now - s->slow_from_ns) * s->number / 100;

    while (cpu_now_ns() < end) {
    }
    s->slow_from_ns = cpu_now_ns();
}

static unsigned fault_at(const struct stub *s)
{
    return s->number == 0 ? FAULT_AT : s->number;
}

/* Returns: false when the connection is over. */
static bool serve(struct stub *s, nfds_t index)
{
    const int fd = s->fds[index].fd;
    const ssize_t n = recv(fd, s->buffer, sizeof(s->buffer), 0);

    if (n <= 0) {
        close(fd);
        return false;
    }
    s->pieces++;
    s->messages++;
    if (s->fault == FAULT_SWAP && s->pieces >= fault_at(s)) {
        swap(s, fd, n);
    } else if (s->fault == FAULT_STARVE && index == 4) {
        return true;
    } else if (s->fault == FAULT_SLOW && s->pieces % SLOW_EVERY == 0) {
        send_all(fd, s->buffer, (size_t)n);
        slow_down(s);
    } else if (s->fault == FAULT_PAUSE && s->pieces % PAUSE_EVERY == 0) {
        poll(NULL, 0, PAUSE_MS);
        send_all(fd, s->buffer, (size_t)n);
    } else if (s->fault != FAULT_NONE && s->pieces == fault_at(s)) {
        misbehave(s, fd, n);
    } else {
        send_all(fd, s->buffer, (size_t)n);
    }
    return true;
}

/* Tells the test, through its named pipe, that the load has begun. */
static void announce(void)
{
    const char *path = getenv("BENCH_STUB_READY");
    const int fd = path == NULL ? -1 : open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);

    if (fd >= 0) {
        if (write(fd, "!", 1) != 1) {
            perror(path);
        }
        close(fd);
    }
}

static void accept_one(struct stub *s)
{
    const int fd = accept4(s->fds[1].fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0) {
        return;
    }
    if (s->count == PEERS_MAX) {
        close(fd);
        return;
    }
    s->fds[s->count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    if (s->count == 3) {
        announce();
    }
}

static void turn(struct stub *s)
{
    if (poll(s->fds, s->count, -1) < 0) {
        return;
    }
    for (nfds_t i = s->count; i-- > 2;) {
        if (s->fds[i].revents != 0 && !serve(s, i)) {
            s->fds[i] = s->fds[--s->count];
        }
    }
    if (s->fds[1].revents != 0) {
        accept_one(s);
    }
}

static int finish(const struct stub *s)
{
    if (getenv("GYRE_ECHO_STATS") != NULL) {
        fprintf(stderr, "{\"syscalls\":%lu,\"messages\":%lu}\n", s->messages * 2, s->messages);
    }
    return s->fault == FAULT_BAD_END ? 9 : 0;
}

int main(int argc, char **argv)
{
    static struct stub s;
    const struct rlimit no_core = {0, 0};
    uint16_t port = 0;

    (void)argc;
    setrlimit(RLIMIT_CORE, &no_core);
    s.fault = parse_fault(basename(argv[0]), &s.number);
    s.fds[0] = (struct pollfd){.fd = open_signals(), .events = POLLIN};
    s.fds[1] = (struct pollfd){.fd = open_listener(0, &port), .events = POLLIN};
    s.count = 2;
    if (s.fault == FAULT_CLASH) {
        open_listener(port, &port);
    }
    if (s.fault == FAULT_REFUSE) {
        close(s.fds[1].fd);
        s.fds[1].fd = -1;
    }
    printf(s.fault == FAULT_GARBAGE ? "here I am\n" : "listening on 127.0.0.1:%u backend=%s\n",
           port, argc > 6 ? argv[6] : "none");
    fflush(stdout);
    while (s.fds[0].revents == 0) {
        turn(&s);
    }
    return finish(&s);
}
