/* What the echo servers on gyre have in common beyond common.h: their options and their counters. */
#ifndef ECHO_ON_GYRE_H
#define ECHO_ON_GYRE_H

#include "common.h"

#include <gyre.h>

struct gyre_echo_options {
    struct echo_options echo;
    struct gyre_loop_options loop;
};

void gyre_echo_parse(int argc, char **argv, const char *doc, struct gyre_echo_options *out_options);

/* For what can fail only if the program is wrong: ends it with a message. */
void gyre_echo_must(int rc, const char *what);

/* The loop; ends the program with the reason if it cannot be had. */
struct gyre_loop *gyre_echo_loop(const struct gyre_loop_options *options);

/* The ready line, with the driver in it. */
void gyre_echo_announce(struct gyre_loop *loop, int listener);

/* One line of JSON on stderr, for those who measure, if GYRE_ECHO_STATS is set. */
void gyre_echo_print_stats(const struct gyre_loop *loop);

#endif
