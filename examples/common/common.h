/*
 * What the example programs have in common: the options --host, --port and --backend, the loop, the
 * ready line, and a clean end on SIGINT and SIGTERM. What a program is about is not here.
 *
 * What fails during the start ends the program with a message, so none of these functions returns
 * an error.
 */
#ifndef EXAMPLE_COMMON_H
#define EXAMPLE_COMMON_H

#include <argp.h>
#include <gyre.h>
#include <stdint.h>

/* ---- options ---- */

/* The options every program takes. */
struct example_options {
    const char *host;              /* numeric address, IPv4 or IPv6 */
    uint16_t port;                 /* 0 lets the kernel choose a free one (servers only) */
    struct gyre_loop_options loop; /* backend is an option; the rest is the program's to set */
};

/*
 * The parser of these options: name it as a child, and set its child input to a struct
 * example_options. What the struct holds before is the default; a NULL host becomes 127.0.0.1.
 */
extern const struct argp example_argp;

/* Of these options --backend alone, in the same way. */
extern const struct argp example_backend_argp;

/* Parses the command line of a program that has no other options. */
void example_parse_options(int argc, char **argv, const char *doc,
                           struct example_options *out_options);

/* For argp parsers: text as a whole number from min to max; anything else ends the program. */
uint64_t example_parse_number(struct argp_state *state, const char *text, uint64_t min,
                              uint64_t max);

/* The address that --host and --port name; what is no address ends the program. */
struct gyre_addr example_address(const struct example_options *options);

/* ---- errors ---- */

/* Ends the program with a message if rc says that something failed. */
void example_must(int rc, const char *what);

/* ---- the loop ---- */

/* A loop on the driver that was asked for. */
struct gyre_loop *example_loop_create(const struct example_options *options);

/* Runs the loop until nothing is active on it any more, and frees it. */
void example_loop_run(struct gyre_loop *loop);

/* Raises the soft limit of open files to the hard one: a server's descriptors are its clients. */
void example_raise_fd_limit(void);

/* ---- servers ---- */

/* Prints the one line that says the server is ready: "listening on 127.0.0.1:7000". */
void example_announce(const struct gyre_addr *address);

/* The same, for a listener: with the port that the kernel chose. */
void example_announce_listener(const struct gyre_listener *listener);

/*
 * For the on_close of a listener that shall last: one that has ended by itself, for want of memory
 * perhaps, ends the program with a message. Waiting for signals any longer would serve nobody.
 */
void example_listener_closed(struct gyre_listener *listener, int error);

/* Waits for SIGINT and SIGTERM. */
struct example_signals {
    struct gyre_signal watcher;
    void (*on_signal)(void *context);
    void *context;
    int open;
};

/*
 * Calls a function from the loop when one of the signals arrives: the time to close what is open.
 * The watcher then closes itself, so the loop ends when the program's own work has. Call it before
 * any thread is started.
 */
void example_signals_start(struct example_signals *signals, struct gyre_loop *loop,
                           void (*on_signal)(void *context), void *context);

/* For a program that ends by itself: no more waiting. Doing it twice is doing it once. */
void example_signals_end(struct example_signals *signals);

#endif
