/*
 * What the tests of datagram sockets share: a socket that remembers what it was told, and plain
 * sockets at the other end.
 */
#ifndef GYRE_TESTS_NET_DGRAMKIT_H
#define GYRE_TESTS_NET_DGRAMKIT_H

#include "trial.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define MATE_LAST 70000

struct mate;
typedef void (*mate_fn)(struct mate *mate, const struct gyre_datagram *datagram);

struct mate {
    struct gyre_dgram dgram;
    struct gyre_loop *loop;
    mate_fn then; /* told of each datagram, after it was counted */
    int datagrams;
    int errors;
    int drains;
    int closes;
    int error;                 /* the last one */
    struct gyre_addr error_to; /* len 0: not told */
    struct gyre_addr from;     /* of the last datagram, and so on */
    struct gyre_addr local;
    struct gyre_datagram last;
    uint32_t next; /* the number that the next datagram carries, see mate_in_order() */
    uint8_t bytes[MATE_LAST];
    void *context;
};

static inline struct mate *mate_of(struct gyre_dgram *dgram)
{
    return gyre_container_of(dgram, struct mate, dgram);
}

static inline void mate_on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct mate *mate = mate_of(dgram);

    assert_int_equal(mate->closes, 0);
    mate->datagrams++;
    mate->last = *datagram;
    mate->from = *datagram->from;
    if (datagram->local != NULL) {
        mate->local = *datagram->local;
    }
    assert_true(datagram->len <= sizeof(mate->bytes));
    memcpy(mate->bytes, datagram->data, datagram->len);
    if (mate->then != NULL) {
        mate->then(mate, datagram);
    }
}

static inline void mate_on_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    struct mate *mate = mate_of(dgram);

    assert_true(error < 0);
    assert_int_equal(mate->closes, 0);
    mate->errors++;
    mate->error = error;
    mate->error_to = to != NULL ? *to : (struct gyre_addr){0};
}

static inline void mate_on_drain(struct gyre_dgram *dgram)
{
    mate_of(dgram)->drains++;
}

static inline void mate_on_close(struct gyre_dgram *dgram)
{
    mate_of(dgram)->closes++;
}

static const struct gyre_dgram_handler mate_handler = {
    .on_datagram = mate_on_datagram,
    .on_error = mate_on_error,
    .on_drain = mate_on_drain,
    .on_close = mate_on_close,
};

/* A trial of the order: each datagram begins with its number. */
static inline void mate_in_order(struct mate *mate, const struct gyre_datagram *datagram)
{
    uint32_t number;

    assert_true(datagram->len >= sizeof(number));
    memcpy(&number, datagram->data, sizeof(number));
    assert_int_equal(number, mate->next);
    mate->next++;
}

static inline void mate_echo(struct mate *mate, const struct gyre_datagram *datagram)
{
    assert_int_equal(gyre_dgram_reply(&mate->dgram, datagram, datagram->data, datagram->len), 0);
}

static inline int mate_try(struct mate *mate, struct gyre_loop *loop,
                           struct gyre_dgram_options options)
{
    memset(mate, 0, sizeof(*mate));
    mate->loop = loop;
    options.handler = &mate_handler;
    return gyre_dgram_open(&mate->dgram, loop, &options);
}

static inline void mate_open(struct mate *mate, struct gyre_loop *loop,
                             struct gyre_dgram_options options)
{
    assert_int_equal(mate_try(mate, loop, options), 0);
}

static inline void mate_close(struct mate *mate)
{
    assert_int_equal(gyre_dgram_close(&mate->dgram), 0);
    assert_int_equal(mate->closes, 0);
    test_turns_until(mate->loop, &mate->closes);
    assert_int_equal(mate->closes, 1);
}

/* Turns until it has @goal datagrams in all. */
static inline void mate_until(struct mate *mate, int goal)
{
    test_turns_until_count(mate->loop, &mate->datagrams, goal);
    assert_int_equal(mate->datagrams, goal);
}

static inline struct gyre_addr addr_v4(const char *text, unsigned port)
{
    struct gyre_addr addr = {.len = sizeof(addr.in)};

    addr.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET, text, &addr.in.sin_addr), 1);
    return addr;
}

static inline struct gyre_addr addr_v6(const char *text, unsigned port)
{
    struct gyre_addr addr = {.len = sizeof(addr.in6)};

    addr.in6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    assert_int_equal(inet_pton(AF_INET6, text, &addr.in6.sin6_addr), 1);
    return addr;
}

static inline unsigned addr_port(const struct gyre_addr *addr)
{
    return ntohs(addr->any.sa_family == AF_INET ? addr->in.sin_port : addr->in6.sin6_port);
}

static inline struct gyre_addr mate_addr(const struct mate *mate)
{
    struct gyre_addr addr;

    assert_int_equal(gyre_dgram_local(&mate->dgram, &addr), 0);
    return addr;
}

static inline void addr_same(const struct gyre_addr *a, const struct gyre_addr *b)
{
    assert_int_equal(a->len, b->len);
    assert_memory_equal(&a->any, &b->any, a->len);
}

/* A plain datagram socket, bound; -1 when the machine has no such address. */
static inline int plain_try(const struct gyre_addr *local, struct gyre_addr *out_addr)
{
    const int number = socket(local->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct gyre_addr addr = {.len = sizeof(addr.storage)};

    if (number < 0) {
        return -1;
    }
    if (bind(number, &local->any, local->len) < 0) {
        close(number);
        return -1;
    }
    assert_int_equal(getsockname(number, &addr.any, &addr.len), 0);
    if (out_addr != NULL) {
        *out_addr = addr;
    }
    return number;
}

static inline int plain_open(const char *text, struct gyre_addr *out_addr)
{
    const struct gyre_addr local = addr_v4(text, 0);
    const int number = plain_try(&local, out_addr);

    assert_true(number >= 0);
    return number;
}

/* A plain Unix datagram socket with a name of the kernel's choice. */
static inline int plain_unix(struct gyre_addr *out_addr)
{
    const struct gyre_addr local = {.len = sizeof(sa_family_t), .un.sun_family = AF_UNIX};
    const int number = plain_try(&local, out_addr);

    assert_true(number >= 0);
    return number;
}

static inline void plain_send(int number, const struct gyre_addr *to, const void *data, size_t len)
{
    assert_int_equal(sendto(number, data, len, 0, &to->any, to->len), len);
}

/* @count datagrams of @len bytes that carry their number. */
static inline void plain_send_numbers(int number, const struct gyre_addr *to, uint32_t first,
                                      uint32_t count, size_t len)
{
    uint8_t bytes[2048] = {0};

    assert_true(len >= sizeof(first) && len <= sizeof(bytes));
    for (uint32_t i = first; i < first + count; i++) {
        memcpy(bytes, &i, sizeof(i));
        plain_send(number, to, bytes, len);
    }
}

/* Takes a datagram that is there now; -EAGAIN if there is none. */
static inline ssize_t plain_take(int number, void *data, size_t len, struct gyre_addr *out_from)
{
    struct gyre_addr from = {.len = sizeof(from.storage)};
    const ssize_t rc = recvfrom(number, data, len, MSG_DONTWAIT, &from.any, &from.len);

    if (out_from != NULL) {
        *out_from = from;
    }
    return rc < 0 ? -errno : rc;
}

/* Takes @count datagrams that are there now and asserts that they carry the numbers from @first. */
static inline void plain_expect_numbers(int number, uint32_t first, uint32_t count)
{
    uint8_t bytes[70000];

    for (uint32_t i = first; i < first + count; i++) {
        assert_true(plain_take(number, bytes, sizeof(bytes), NULL) >= (ssize_t)sizeof(i));
        assert_memory_equal(bytes, &i, sizeof(i));
    }
}

static inline void plain_expect_none(int number)
{
    uint8_t byte;

    assert_int_equal(plain_take(number, &byte, 1, NULL), -EAGAIN);
}

/* Turns until a plain socket has something. */
static inline void plain_until(struct gyre_loop *loop, int number)
{
    struct pollfd one = {.fd = number, .events = POLLIN};

    while (poll(&one, 1, 0) == 0) {
        trial_turns(loop, 1);
    }
}

/* A UDP port of 127.0.0.1 where nobody is. Nothing keeps it reserved. */
static inline struct gyre_addr nobody(void)
{
    struct gyre_addr addr;

    close(plain_open("127.0.0.1", &addr));
    return addr;
}

#endif
