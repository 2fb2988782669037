/*
 * What the echo programs have in common: options, the listening socket, the ready line and the
 * signals that end a server. How the bytes move is not here: each program shows its own I/O model
 * whole in its own file.
 *
 * A failure during the start ends the program with a message, so none of these functions returns
 * an error.
 */
#ifndef ECHO_COMMON_H
#define ECHO_COMMON_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

/*
 * How long a server leaves the listening socket alone after accept failed for want of descriptors
 * or memory. The clients wait in the backlog meanwhile. Without a pause a level-triggered server
 * would be told about the same waiting client at once, for ever, and use a whole processor.
 */
enum { ECHO_ACCEPT_PAUSE_MS = 100 };

/* The options every program takes. */
struct echo_options {
    const char *host; /* name or numeric address, IPv4 or IPv6 */
    uint16_t port;    /* 0 lets the kernel choose a free one (servers only) */
    const char *cc;   /* TCP_CONGESTION, NULL for the system's default */
};

/*
 * The parser of the options above, for programs that have more of their own: name it as a child
 * and set its child input to a struct echo_options. The defaults are filled in by the parser.
 */
extern const struct argp echo_argp;

/* Parses the command line of a program that has only the common options. */
void echo_parse_options(int argc, char **argv, const char *doc, struct echo_options *out_options);

/* For argp parsers: text as a whole number from min to max; anything else ends the program. */
uint64_t echo_parse_number(struct argp_state *state, const char *text, uint64_t min, uint64_t max);

/*
 * A listening socket, close-on-exec, with TCP_NODELAY and the congestion control set: accepted
 * sockets inherit both, which saves two system calls per connection. type_flags is 0 or
 * SOCK_NONBLOCK and is for the listening socket alone; accepted sockets do not inherit it.
 */
int echo_listen(const struct echo_options *options, int type_flags);

/* Prints the one line that says the server is ready; extra, unless NULL, is put at its end. */
void echo_announce(int listener, const char *extra);

/*
 * Blocks SIGINT and SIGTERM and returns a non-blocking descriptor that becomes readable when one
 * of them arrives. A signal then is an event like any other, seen at the place where the loop
 * waits, and there is no moment in which it could be missed. Call it before any thread starts.
 */
int echo_signal_fd(void);

/* Raises the soft limit of open files to the hard one: a server's descriptors are its clients. */
void echo_raise_fd_limit(void);

/*
 * Says whether accept failed for want of descriptors or memory. The connection is then still in
 * the backlog, and trying again at once would fail again. All other errors concern one connection
 * that is gone already, so the server goes on with the next.
 */
bool echo_is_shortage(int error);

#endif
