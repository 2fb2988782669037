/*
 * The suites, by name; runner/suites.c has their order.
 */
#ifndef SUITES_SUITES_H
#define SUITES_SUITES_H

#include "../runner/bench.h"

extern const struct suite suite_echo;
extern const struct suite suite_uring;
extern const struct suite suite_timers;
extern const struct suite suite_post;
extern const struct suite suite_churn;
extern const struct suite suite_udp;
extern const struct suite suite_latency;
extern const struct suite suite_stream;
extern const struct suite suite_proxy;
extern const struct suite suite_http;
extern const struct suite suite_idle;
extern const struct suite suite_counts;

/*
 * The echo servers, as several suites compare them: entries of a table of contenders, in three parts,
 * because some suites have others in between.
 */
#define SUITES_ON_URING                                                                      \
    {.name = "echo-uring", .program = "echo-uring"},                                         \
    {                                                                                        \
        .name = "gyre-uring", .program = "echo-server", .arguments = {"--backend", "uring"}, \
        .expect = "uring"                                                                    \
    }

#define SUITES_OWN_SERVERS                                                                   \
    {.name = "echo-epoll", .program = "echo-epoll"}, SUITES_ON_URING,                        \
    {                                                                                        \
        .name = "gyre-epoll", .program = "echo-server", .arguments = {"--backend", "epoll"}, \
        .expect = "epoll"                                                                    \
    }

#define SUITES_LIBUV(how)                                                                          \
    {                                                                                              \
        .name = "libuv-" how, .program = "echo-libuv", .arguments = {"--send", how}, .expect = how \
    }

#define SUITES_OTHER_LIBRARIES                                                                    \
    {.name = "libevent", .program = "echo-libevent"}, {.name = "libev", .program = "echo-libev"}, \
        {.name = "asio-epoll", .program = "echo-asio", .expect = "epoll"},                        \
    {                                                                                             \
        .name = "asio-uring", .program = "echo-asio-uring", .expect = "uring"                     \
    }

#define SUITES_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
