/*
 * A simulated network of simulated machines, to test servers with: libgyre-sim. Link it instead of
 * libgyre and your server runs unchanged, on a kernel that is a part of your test program. Its time
 * is virtual, its network loses and delays and breaks as the seed says, and the same seed gives the
 * same run, to the last system call.
 *
 *     struct gyre_sim *sim;
 *     struct gyre_sim_host *server, *client;
 *
 *     gyre_sim_create(&sim, &(struct gyre_sim_options){.seed = 7});
 *     gyre_sim_host_create(sim, "server", "10.0.0.1", &server);
 *     gyre_sim_host_create(sim, "client", "10.0.0.2", &client);
 *     gyre_sim_spawn(server, my_server, NULL, GYRE_SIM_DAEMON, NULL);
 *     gyre_sim_spawn(client, my_client, NULL, 0, NULL);
 *     if (gyre_sim_run(sim) < 0) {
 *         puts(gyre_sim_failure(sim));
 *     }
 *     gyre_sim_destroy(sim);
 *
 * my_server() and my_client() are whole programs: they create a loop, listen or connect, run the
 * loop and return. Below them is not a model of gyre but a model of Linux: gyre's own io_uring or
 * epoll driver runs on it. docs/simulation.md teaches how to use it, and says what it cannot find.
 *
 * One world belongs to one thread of yours. In simulated programs nothing may be taken from outside
 * the simulation that differs between runs: the time, random numbers, addresses of memory as values,
 * threads of their own.
 */
#ifndef GYRE_SIM_H
#define GYRE_SIM_H

#include <gyre/addr.h>
#include <gyre/base.h>
#include <gyre/error.h>

GYRE_BEGIN

struct gyre_sim;
struct gyre_sim_host;
struct gyre_sim_process;

/* enum gyre_sim_personality - which driver the loops of simulated programs use. */
enum gyre_sim_personality {
    GYRE_SIM_SEEDED = 0, /* the seed decides */
    GYRE_SIM_URING,
    GYRE_SIM_EPOLL,
};

/*
 * What can go wrong by itself: X(name, text, in a million, what). A text is what GYRE_FAULTS of a
 * test build of gyre takes, for the real kernel. The rate is that of a fault which the seed has
 * switched on.
 */
#define GYRE_SIM_FAULT_MAP(X)                                                                     \
    X(ACCEPT_EMFILE, "accept.emfile", 20000, "accept: no descriptor left in the process")         \
    X(ACCEPT_ENFILE, "accept.enfile", 10000, "accept: none in the system")                        \
    X(ACCEPT_ABORTED, "accept.econnaborted", 20000, "accept: the connection is gone already")     \
    X(ACCEPT_ENOBUFS, "accept.enobufs", 10000, "accept: no memory for a socket")                  \
    X(CONNECT_REFUSED, "connect.econnrefused", 20000, "connect: nobody listens")                  \
    X(CONNECT_TIMEOUT, "connect.etimedout", 10000, "connect: no answer")                          \
    X(CONNECT_UNREACH, "connect.ehostunreach", 10000, "connect: no route")                        \
    X(CONNECT_NOPORT, "connect.eaddrnotavail", 10000, "connect: no local port left")              \
    X(SOCKET_EMFILE, "socket.emfile", 10000, "socket: no descriptor left")                        \
    X(SOCKET_ENOBUFS, "socket.enobufs", 10000, "socket: no memory")                               \
    X(RECV_SHORT, "recv.short", 200000, "recv: fewer bytes than there are")                       \
    X(RECV_AGAIN, "recv.eagain", 20000, "recv: woken for nothing")                                \
    X(RECV_RESET, "recv.econnreset", 2000, "recv: the connection is reset")                       \
    X(RECV_ENOMEM, "recv.enomem", 3000, "recv: no memory")                                        \
    X(RECV_ENOBUFS, "recv.enobufs", 20000, "recv: no buffer, although there are some (io_uring)") \
    X(SEND_SHORT, "send.short", 200000, "send: fewer bytes than there is room for")               \
    X(SEND_AGAIN, "send.eagain", 50000, "send: no room for a moment")                             \
    X(SEND_RESET, "send.econnreset", 2000, "send: the connection is reset")                       \
    X(SEND_ENOBUFS, "send.enobufs", 5000, "send: no memory for packets (datagrams)")              \
    X(CALL_EINTR, "call.eintr", 20000, "a call is interrupted by a signal")                       \
    X(OPTION_FAILS, "setsockopt.enobufs", 5000, "setsockopt: no memory")                          \
    X(EPOLL_CTL_ENOMEM, "epoll_ctl.enomem", 5000, "epoll_ctl: no memory")                         \
    X(EPOLL_SPURIOUS, "epoll.spurious", 20000, "an event without a reason")                       \
    X(ENTER_EINTR, "enter.eintr", 20000, "waiting is interrupted by a signal")                    \
    X(ENTER_EAGAIN, "enter.eagain", 50000, "io_uring_enter: no memory for requests")              \
    X(ENTER_EBUSY, "enter.ebusy", 50000, "io_uring_enter: completions have overflowed")           \
    X(ENTER_PARTIAL, "enter.partial", 20000, "io_uring_enter takes only some of the entries")     \
    X(MULTISHOT_ENDS, "multishot.end", 30000, "a multishot request ends by itself")               \
    X(COMPLETION_LATE, "completion.late", 100000, "a completion comes later")                     \
    X(COMPLETION_ORDER, "completion.reorder", 100000, "completions of sockets change places")     \
    X(CANCEL_LOSES, "cancel.lose", 100000, "a cancel does not find its request (EALREADY)")       \
    X(REGISTER_FAILS, "register.fail", 20000, "io_uring_register is refused")                     \
    X(WAKE_LATE, "wake.late", 20000, "a thread is woken late, by up to 50 ms")                    \
    X(CLOCK_LEAP, "clock.leap", 500, "the clock leaps forward, by up to 10 s")                    \
    X(NET_DELAY, "net.delay", 50000, "a segment takes up to 300 ms longer: it was lost once")     \
    X(UDP_LOSS, "udp.loss", 50000, "a datagram is lost")                                          \
    X(UDP_DUPLICATE, "udp.duplicate", 20000, "a datagram comes twice")                            \
    X(UDP_REORDER, "udp.reorder", 50000, "a datagram is overtaken")                               \
    X(ALLOC_FAILS, "alloc.fail", 2000, "the library's allocator has no memory")                   \
    X(MAP_FAILS, "mmap.enomem", 5000, "mmap: no memory")

/* enum gyre_sim_fault - the faults of GYRE_SIM_FAULT_MAP. */
enum gyre_sim_fault {
#define X(name, text, rate, what) GYRE_SIM_FAULT_##name,
    GYRE_SIM_FAULT_MAP(X)
#undef X
        GYRE_SIM_FAULT_COUNT
};

/*
 * Rare things that a good batch of seeds must have met: X(name, what). A batch in which one was
 * never seen is blind to it. See gyre_sim_seen().
 */
#define GYRE_SIM_PATH_MAP(X)                                                     \
    X(CQ_OVERFLOW, "the completion queue overflowed")                            \
    X(SQ_FULL, "the submission queue was full when it was entered")              \
    X(BUFFERS_EMPTY, "a receive found the buffer ring empty")                    \
    X(BUFFER_CONTINUED, "a receive went on in a block that another had begun")   \
    X(MULTISHOT_REARMED, "a multishot request that had ended was started again") \
    X(CANCEL_LOST, "a cancel came too late")                                     \
    X(CANCEL_WON, "a cancel ended its request")                                  \
    X(DATA_WITH_END, "the last bytes and the end were there together")           \
    X(DATA_WITH_RESET, "bytes were still to be read when a reset came")          \
    X(SEND_BLOCKED, "a send waited for room")                                    \
    X(RESET_UNREAD, "a socket was closed with bytes unread, which resets")       \
    X(BACKLOG_FULL, "a connection met a full backlog")                           \
    X(FDS_EXHAUSTED, "a process had no descriptor left")                         \
    X(FD_REUSED, "a number was given out again in the moment it became free")    \
    X(WINDOW_CLOSED, "a peer that does not read stopped a sender")               \
    X(TIMER_LATE, "a thread slept past its deadline")                            \
    X(SIMULTANEOUS_CLOSE, "both ends closed at once")

/* enum gyre_sim_path - the rare paths of GYRE_SIM_PATH_MAP. */
enum gyre_sim_path {
#define X(name, what) GYRE_SIM_PATH_##name,
    GYRE_SIM_PATH_MAP(X)
#undef X
        GYRE_SIM_PATH_COUNT
};

/**
 * struct gyre_sim_options - how a world begins; all zero is a good choice but for the seed.
 * @seed: decides everything that is left to chance.
 * @personality: the driver of all loops whose options do not name one.
 * @faults_off: 1: nothing fails by itself; there are only the faults that a script asks for. Else
 *     the seed switches on a random subset of GYRE_SIM_FAULT_MAP ("swarm").
 * @kernel: the version of Linux that io_uring is modelled after: 601 for 6.1, 612, 618. Before 6.12
 *     there are no incremental buffers; before 6.16 completions may stand in another order than what
 *     they are about, by the model. 0: the seed decides; 6.18 mostly.
 * @heal_at_ns: from this moment of virtual time on nothing fails any more. 0: 10 s.
 * @end_ns: a run that lasts longer has failed: something does not come to an end. 0: 300 s.
 * @trace: called with each line of the trace, without a newline; NULL: none.
 * @trace_context: handed to @trace.
 */
struct gyre_sim_options {
    uint64_t seed;
    enum gyre_sim_personality personality;
    int faults_off;
    unsigned kernel;
    uint64_t heal_at_ns;
    uint64_t end_ns;
    void (*trace)(void *context, const char *line);
    void *trace_context;
};

/**
 * gyre_sim_create() - a world without hosts, at virtual time 0 (CLOCK_MONOTONIC begins at 1,000 s).
 * @out_sim: set on success.  @options: NULL for the defaults.
 * Returns: 0, -EINVAL (no such personality), -ENOMEM, or -EBUSY when the calling thread has a world already.
 * Ownership: gyre_sim_destroy() ends it.   Thread: any; the world is the caller's from then on.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_create(struct gyre_sim **out_sim,
                                             const struct gyre_sim_options *options);

/**
 * gyre_sim_destroy() - end a world and everything in it. Programs that still run are dropped where
 * they stand; memory that they own is lost to the process, so let them end where that matters.
 * @sim: may be NULL.
 * Returns: nothing.   Thread: the world's, outside of simulated programs.
 * Source: docs/simulation.md.
 */
GYRE_API void gyre_sim_destroy(struct gyre_sim *sim);

/**
 * gyre_sim_host_create() - a machine on the network.
 * @sim: the world.  @name: for traces, at most 31 bytes.  @address: "10.0.0.1", or several with
 *     commas, IPv4 and IPv6. 127.0.0.1 and ::1 it has in any case.  @out_host: set on success.
 * Returns: 0, or -EINVAL, -EADDRINUSE when another host has the address.
 * Ownership: the world's.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_host_create(struct gyre_sim *sim, const char *name,
                                                  const char *address,
                                                  struct gyre_sim_host **out_host);

/* gyre_sim_spawn(): the run does not wait for this program to end. */
#define GYRE_SIM_DAEMON (1u << 0)

/**
 * gyre_sim_spawn() - start a program on a host, with descriptors of its own.
 * @host: where.  @main: the program; what it returns is its exit status.  @context: handed to it.
 * @flags: 0 or GYRE_SIM_DAEMON.  @out_process: set if not NULL.
 * Returns: 0, -EINVAL, -ENOMEM.
 * Ownership: the process is the world's, also when it has ended.   Thread: the world's; simulated
 *     programs may call it too.
 * Limits: 256 KiB of stack; 4,095 descriptors.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_spawn(struct gyre_sim_host *host, int (*main)(void *context),
                                            void *context, unsigned flags,
                                            struct gyre_sim_process **out_process);

/**
 * gyre_sim_run() - let time pass until all programs but the daemons have ended.
 * @sim: the world.
 * Returns: 0; or GYRE_ESIM when an invariant is broken, a program ended with a status that is not
 *     0, all programs wait for something that will never happen, or the end of time is reached:
 *     gyre_sim_failure() says which.
 * Thread: the world's, outside of simulated programs.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_run(struct gyre_sim *sim);

/**
 * gyre_sim_failure() - why the run failed: "seed=0x7 step=1234 time=1.5s: ...".
 * @sim: the world.
 * Returns: a text that is valid until the world ends; NULL if nothing failed.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API const char *gyre_sim_failure(const struct gyre_sim *sim);

/**
 * gyre_sim_fail() - end the run as failed: for assertions of scripts and programs. It returns; the run
 * ends when the calling program waits next. The first failure is the one that is kept.
 * @sim: the world.  @format: why, and arguments, as printf(3) has them.
 * Returns: nothing.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API void gyre_sim_fail(struct gyre_sim *sim, const char *format, ...) GYRE_PRINTF(2, 3);

/**
 * gyre_sim_check() - have a function called after each step of the run.
 * @sim: the world.  @invariant: returns NULL, or a text that says what is broken.  @context: handed
 *     to it.
 * Returns: 0, -EINVAL, or -ENOBUFS above 16 of them.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_check(struct gyre_sim *sim,
                                            const char *(*invariant)(void *context), void *context);

/**
 * gyre_sim_at() - have a function called at a moment of virtual time: a script of the network's
 * fate, or of the operator's. It runs outside of all programs.
 * @sim: the world.  @at_ns: since the beginning.  @fn, @context: what to call.
 * Returns: 0, -EINVAL, -ENOMEM.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API GYRE_MUST_CHECK int gyre_sim_at(struct gyre_sim *sim, uint64_t at_ns,
                                         void (*fn)(void *context), void *context);

/**
 * struct gyre_sim_link - what a link does to what is sent over it.
 * @latency_ns: one way. 0: 100 us; within a host it is always 5 us.
 * @jitter_ns: up to so much more, at random. 0: none.
 * @bytes_per_second: 0: no limit.
 */
struct gyre_sim_link {
    uint64_t latency_ns;
    uint64_t jitter_ns;
    uint64_t bytes_per_second;
};

/**
 * gyre_sim_link() - set what lies between two hosts, in both directions.
 * @a, @b: the hosts.  @link: copied.
 * Returns: 0 or -EINVAL.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API int gyre_sim_link(struct gyre_sim_host *a, struct gyre_sim_host *b,
                           const struct gyre_sim_link *link);

/**
 * gyre_sim_partition() - nothing passes between two hosts any more, or again. TCP keeps what it has
 * and tries again; after a while (about 15 s) connections time out.
 * @a, @b: the hosts.  @on: 1 or 0.
 * Returns: nothing.   Thread: the world's.
 * Source: docs/simulation.md; tcp(7), tcp_retries2.
 */
GYRE_API void gyre_sim_partition(struct gyre_sim_host *a, struct gyre_sim_host *b, int on);

/**
 * gyre_sim_reset() - reset TCP connections of a host, as a broken router would: both ends see
 * ECONNRESET.
 * @host: whose.  @port: only those with this port at either end; 0: all.
 * Returns: how many, or -EINVAL.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API int gyre_sim_reset(struct gyre_sim_host *host, unsigned port);

/**
 * gyre_sim_fail_nth() - let the n-th time from now at which this fault could strike be one.
 * @sim: the world.  @fault: which.  @n: from 1.  @count: how many times in a row from there.
 * Returns: 0 or -EINVAL.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API int gyre_sim_fail_nth(struct gyre_sim *sim, enum gyre_sim_fault fault, uint64_t n,
                               uint64_t count);

/**
 * gyre_sim_rate() - how often a fault strikes from now on.
 * @sim: the world.  @fault: which.  @in_a_million: 0: never.
 * Returns: 0 or -EINVAL.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API int gyre_sim_rate(struct gyre_sim *sim, enum gyre_sim_fault fault, uint32_t in_a_million);

/**
 * gyre_sim_limit_fds() - RLIMIT_NOFILE of a process from now on; numbers in use stay.
 * @process: whose.  @limit: 1..4,095.
 * Returns: 0 or -EINVAL.
 * Thread: the world's.
 * Source: setrlimit(2).
 */
GYRE_API int gyre_sim_limit_fds(struct gyre_sim_process *process, unsigned limit);

/**
 * gyre_sim_signal() - send a signal to a process. One that is not blocked ends it, as SIGTERM would.
 * @process: to whom.  @number: 1..64.
 * Returns: 0, -EINVAL, or -ESRCH when it has ended.
 * Thread: the world's.
 * Source: signal(7).
 */
GYRE_API int gyre_sim_signal(struct gyre_sim_process *process, int number);

/**
 * gyre_sim_kill() - end a process at once, as SIGKILL does: its descriptors are closed by the
 * kernel. Its memory is lost to the test program.
 * @process: which; not the one that calls.
 * Returns: 0, -EINVAL, or -ESRCH when it has ended.
 * Thread: the world's.
 * Source: signal(7).
 */
GYRE_API int gyre_sim_kill(struct gyre_sim_process *process);

/**
 * gyre_sim_ended() - whether a process has ended.
 * @process: which.  @out_status: its exit status, if it has; may be NULL.
 * Returns: 1 or 0.
 * Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API int gyre_sim_ended(const struct gyre_sim_process *process, int *out_status);

/**
 * gyre_sim_sleep() - in a simulated program: let virtual time pass.
 * @duration_ns: how long.
 * Returns: nothing.   Thread: a simulated program's.
 * Source: nanosleep(2).
 */
GYRE_API void gyre_sim_sleep(uint64_t duration_ns);

/** gyre_sim_now() - virtual time in nanoseconds since the world began.
 * @sim: the world.
 * Returns: the time.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_now(const struct gyre_sim *sim);

/** gyre_sim_steps() - how many steps the run has made.
 * @sim: the world.
 * Returns: the number.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_steps(const struct gyre_sim *sim);

/** gyre_sim_hash() - a hash of the whole trace: two runs with the same hash were the same.
 * @sim: the world.
 * Returns: the hash.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_hash(const struct gyre_sim *sim);

/** gyre_sim_random() - a number of the world's own, for scripts and programs that need chance.
 * @sim: the world.
 * Returns: 64 random bits.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_random(struct gyre_sim *sim);

/** gyre_sim_note() - add a line of your own to the trace and its hash.
 * @sim: the world.  @format: what, and arguments, as printf(3) has them: no addresses. Control
 *     characters become dots, so that a line remains one.
 * Returns: nothing.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API void gyre_sim_note(struct gyre_sim *sim, const char *format, ...) GYRE_PRINTF(2, 3);

/** gyre_sim_seen() - how often a rare path was taken.
 * @sim: the world.  @path: which.
 * Returns: the number.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_seen(const struct gyre_sim *sim, enum gyre_sim_path path);

/** gyre_sim_struck() - how often a fault struck.
 * @sim: the world.  @fault: which.
 * Returns: the number.   Thread: the world's.
 * Source: docs/simulation.md.
 */
GYRE_API uint64_t gyre_sim_struck(const struct gyre_sim *sim, enum gyre_sim_fault fault);

/** gyre_sim_fault_name() - the text of a fault, such as "recv.short".
 * @fault: which.
 * Returns: a string with process lifetime.   Thread: any.
 * Source: GYRE_SIM_FAULT_MAP.
 */
GYRE_API const char *gyre_sim_fault_name(enum gyre_sim_fault fault);

/** gyre_sim_path_name() - what a rare path is, in words.
 * @path: which.
 * Returns: a string with process lifetime.   Thread: any.
 * Source: GYRE_SIM_PATH_MAP.
 */
GYRE_API const char *gyre_sim_path_name(enum gyre_sim_path path);

GYRE_END

#endif
