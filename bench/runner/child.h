/*
 * Child processes: started pinned, waited for by event, ended by their own process id, never left
 * behind.
 */
#ifndef RUNNER_CHILD_H
#define RUNNER_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child_spec {
    char *const *argv;       /* argv[0] is the path */
    const char *environment; /* one "NAME=value" to add, or NULL */
    int cpu;                 /* -1: not pinned */
    bool is_told;            /* its standard input is child_tell()'s */
};

struct child {
    pid_t pid; /* 0: none */
    int pidfd;
    int in_fd;  /* other end of its standard input, -1: none */
    int out_fd; /* read end of its standard output */
    int err_fd; /* memory file with its standard error: it can never block on it */
    int status; /* of waitpid(2), once it has ended */
    bool ended;
};

/**
 * child_signals_init() - SIGINT, SIGTERM and SIGHUP end the current wait instead of the process.
 */
void child_signals_init(void);

/** child_interrupted() - whether one of them has come. */
bool child_interrupted(void);

/**
 * child_spawn() - start a program. Returns: 0 or -errno (of fork and the like; exec errors are in
 * the child's status).
 */
int child_spawn(struct child *child, const struct child_spec *spec);

/** child_tell() - write to the standard input of a child that is told. Returns: 0, or -errno. */
int child_tell(const struct child *child, const char *text);

/** child_tell_end() - the end of its input. */
void child_tell_end(struct child *child);

/**
 * child_read_line() - the next line of the child's standard output.
 * Returns: 0 with the line, without its newline, in @line; -EPIPE when the output ended before;
 * -ETIMEDOUT; -EINTR when interrupted; -EMSGSIZE.
 */
int child_read_line(struct child *child, char *line, size_t size, int timeout_ms);

/** child_wait() - wait for the end. Returns: 0, -ETIMEDOUT, or -EINTR when interrupted. */
int child_wait(struct child *child, int timeout_ms);

/** child_has_ended() - look without waiting. */
bool child_has_ended(struct child *child);

/**
 * child_stop() - ask with SIGTERM, insist with SIGKILL after @grace_ms; the child has ended
 * afterwards.
 * Returns: true if asking was enough.
 */
bool child_stop(struct child *child, int grace_ms);

/**
 * child_error_text() - what the child wrote to standard error: at most @size - 1 bytes,
 * terminated.
 */
void child_error_text(const struct child *child, char *text, size_t size);

/** child_describe_end() - "exit status 3", "killed by SIGSEGV" and so on. */
void child_describe_end(const struct child *child, char *text, size_t size);

/** child_release() - close the descriptors. The child must have ended. */
void child_release(struct child *child);

#endif
