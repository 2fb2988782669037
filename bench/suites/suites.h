/*
 * The suites, by name; runner/suites.c has their order.
 */
#ifndef SUITES_SUITES_H
#define SUITES_SUITES_H

#include "../runner/bench.h"

extern const struct suite suite_echo;
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

#define SUITES_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
