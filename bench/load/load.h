/*
 * The load generator, what its parts share.
 *
 *   main.c          options, exit status
 *   load.c          the closed loop: phases, accounting, verification; moves no byte itself
 *   connect.c       opening the connections
 *   engine_uring.c  moving the bytes with io_uring
 *   engine_epoll.c  moving the bytes with epoll
 *   engine_plain.c  moving those of one connection with system calls
 *   send.c          how the last two send
 *   output.c        the JSON object
 *
 * A run is greet -> warm up -> measure; in turns, (lead -> measure) as often as asked. Each phase
 * begins with nothing in flight, keeps `depth` messages in flight on every connection for its
 * duration, then lets them all come back. The measured window therefore lies between two moments
 * at which the server sleeps, and two things are exact: every message that is counted was sent and
 * answered inside the window, and so was all the CPU time that the server used for them (see
 * cpu_time.h).
 */
#ifndef LOAD_LOAD_H
#define LOAD_LOAD_H

#include "histogram.h"
#include "window.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LOAD_CONNECTIONS_MAX 60000u
#define LOAD_SIZE_MAX        (16u * 1024u * 1024u)
#define LOAD_DEPTH_MAX       1024u

/* Exit status and, by load_failure_name(), the "error" of the JSON object. */
enum load_failure {
    LOAD_OK = 0,
    LOAD_SYSTEM = 1,
    LOAD_USAGE = 2,
    LOAD_WRONG_BYTES = 3,
    LOAD_CONNECTION_LOST = 4,
    LOAD_CONNECT_FAILED = 5,
    LOAD_STALLED = 6,
};

enum load_engine_choice { LOAD_ENGINE_AUTO, LOAD_ENGINE_URING, LOAD_ENGINE_EPOLL };

struct load_options {
    const char *host;
    const char *congestion; /* NULL: what the system gives */
    uint32_t connections;
    uint32_t size;
    uint32_t reply_size; /* of a server that is no echo (stream/stream.h); 0: an echo */
    uint32_t depth;
    uint32_t warmup_ms;
    uint32_t duration_ms;
    uint32_t timeout_ms;
    int cpu;          /* -1: not pinned */
    pid_t server_pid; /* 0: not watched */
    int server_cpu;   /* whose ksoftirqd is read; -1: none */
    uint16_t port;
    bool spin;
    enum load_engine_choice engine;
    uint32_t rate_percent; /* open loop at this share of the saturation; 0: none */
    uint32_t rate;         /* open loop of so many messages a second; 0: none */
    uint32_t messages;     /* in the window, instead of a duration; 0: duration_ms */
    uint32_t saturate_ms;  /* how long the saturation is measured */
    uint32_t slice_ms;     /* measure in turns (turns.h) of this length; 0: in one window */
};

struct load_connection {
    uint64_t unsent;   /* bytes asked for and not yet handed to the kernel */
    uint64_t received; /* bytes verified since the connection was opened */
    uint32_t sent_at;  /* places in the pattern */
    uint32_t expect_at;
    uint32_t reply_left; /* bytes missing of the oldest message in flight */
    uint32_t in_flight;  /* messages */
    uint32_t stamp_head; /* ring of `depth` send times: the oldest */
    uint32_t replies;    /* in this phase */
    uint32_t sending;    /* the engine's: bytes that the kernel has and has not confirmed */
    int fd;
};

struct load;

/* How bytes are moved. Functions return 0 (turn: the number of events) or -1 after load_fail(). */
struct load_engine {
    const char *name;
    int (*open)(struct load *load);
    int (*send)(struct load *load, struct load_connection *connection);
    int (*turn)(struct load *load);
};

extern const struct load_engine load_engine_uring;
extern const struct load_engine load_engine_epoll;
extern const struct load_engine load_engine_plain;

struct load {
    /* Touched for every message. */
    const uint8_t *pattern;
    struct load_connection *connections;
    uint64_t *stamps;
    uint64_t now_ns;
    uint64_t outstanding;
    uint64_t messages;
    uint32_t size;
    uint32_t reply_size;
    uint32_t depth;
    bool reissue;
    uint64_t issue_left; /* messages that this phase may still send; UINT64_MAX: no limit */
    bool open;           /* this phase is an open loop */

    /* The schedule of an open loop: message n of connection i is due at its place in the row. */
    uint64_t open_start_ns;
    double open_interval_ns;
    uint64_t open_next; /* how many are sent */
    uint64_t open_end_ns;
    struct histogram lateness; /* from the moment a message was due to its being sent */

    const struct load_options *options;
    const struct load_engine *engine;
    void *engine_state;
    char engine_note[256]; /* features on, or why io_uring is not used */
    uint64_t turns;
    uint64_t enters;
    uint64_t idle_ns; /* found nothing to do, while spinning */

    struct window window; /* sum of those measured */
    double closed_rate;   /* messages per second of the closed loop before an open one */
    double closed_busy;
    double saturation;   /* what an open loop's rate is a share of */
    char congestion[16]; /* as the kernel reports it */

    enum load_failure failure;
    char failure_text[256];
    struct histogram service;
};

/**
 * load_run() - the whole run: open, greet, warm up, measure. Returns: 0, or -1 after load_fail().
 */
int load_run(struct load *load, const struct load_options *options);

/** load_fail() - note the first failure. Returns: -1, so that callers can return it. */
int load_fail(struct load *load, enum load_failure failure, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/**
 * load_lost() - fail because connection @c ended; @error: errno, or 0 for an end of file.
 * Returns: -1.
 */
int load_lost(struct load *load, const struct load_connection *c, int error);

/**
 * load_received() - verify and account for bytes that came in on @c; the engine sends what is then
 * unsent.
 * @len: at most PATTERN_SPAN.
 * Returns: 0, or -1 after load_fail().
 */
int load_received(struct load *load, struct load_connection *c, const uint8_t *data, uint32_t len);

/**
 * load_send() - send with send(2) what is unsent on @c, as far as there is room.
 * @flags: MSG_DONTWAIT, or 0 to wait for room.
 * Returns: 0, or -1 after load_fail().
 */
int load_send(struct load *load, struct load_connection *c, int flags);

/** load_is_open() - whether what is measured is an open loop. */
static inline bool load_is_open(const struct load_options *options)
{
    return options->rate_percent > 0 || options->rate > 0;
}

/** load_wait_ms() - how long an engine may sleep for events: 0 when spinning. */
int load_wait_ms(const struct load *load);

/** load_connect_all() - open every connection. Returns: 0, or -1 after load_fail(). */
int load_connect_all(struct load *load);

/** load_failure_name() - "wrong-bytes" and so on. */
const char *load_failure_name(enum load_failure failure);

/** load_print() - the JSON object, one line on standard output. Returns: 0 or -1. */
int load_print(const struct load *load);

#endif
