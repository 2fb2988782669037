/*
 * A reader and a writer of a whole stream, built on the operations under test: the reader checks
 * every byte, however it receives; the writer sends in pieces, one after another.
 */
#ifndef GYRE_TESTS_OPS_STREAM_H
#define GYRE_TESTS_OPS_STREAM_H

#include "harness.h"

/* How a reader receives; a test of receiving goes through all of them. */
enum reader_mode {
    READER_PLAIN,     /* recv into memory of its own */
    READER_LEASE,     /* recv_lease, one by one */
    READER_MULTISHOT, /* recv_lease, multishot */
    READER_MODES
};

struct reader {
    struct gyre_op op;
    struct gyre_fd *fd;
    enum reader_mode mode;
    uint64_t position; /* of the next byte in the stream */
    uint64_t received; /* bytes */
    int results;       /* with bytes */
    int done;          /* the end, or an error, came */
    int32_t error;     /* 0: it was the end; GYRE_ECLOSING: data came, and a close was on its way */
    uint8_t buffer[4096];
};

/* Starts to read; goes on until the end or an error. */
void reader_start(struct reader *reader, struct gyre_fd *fd, enum reader_mode mode,
                  uint64_t position);

/* Turns until @total bytes have come. */
void reader_wait(struct gyre_loop *loop, struct reader *reader, uint64_t total);

/* Turns until the end, and asserts that it is the end and not an error. */
void reader_end(struct gyre_loop *loop, struct reader *reader);

/* Prints the name of a mode, for when the case fails. */
void reader_announce(enum reader_mode mode);

struct writer {
    struct gyre_op op;
    struct gyre_fd *fd;
    uint64_t position; /* of the next byte in the stream */
    uint64_t left;     /* bytes still to be sent */
    int done;          /* all were sent, or an error came */
    int32_t error;
    uint8_t buffer[16384];
};

/* Starts to send @total bytes of a stream. */
void writer_start(struct writer *writer, struct gyre_fd *fd, uint64_t total, uint64_t position);

#endif
