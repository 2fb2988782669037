/*
 * A rig: a place where one operation, of any kind, waits for as long as the test likes, and then is
 * made to complete, or not. What must hold for every kind of operation (one final result, cancel,
 * deadlines, close) is tested once, over all kinds.
 *
 *     open -> start -> [provoke] -> (final result) -> settle -> start ... -> close
 *
 * settle() is where loss is found: what was provoked has either been delivered by the operation or
 * is still there, and it is there once.
 */
#ifndef GYRE_TESTS_OPS_RIG_H
#define GYRE_TESTS_OPS_RIG_H

#include "trial.h"

struct rig;

struct rig_kind {
    const char *name;
    int multishot;
    void (*begin)(struct rig *rig);
    int (*start)(struct rig *rig, struct trial *trial);
    void (*provoke)(struct rig *rig); /* NULL: it can only be cancelled */
    void (*settle)(struct rig *rig, const struct trial *trial);
};

struct rig {
    const struct rig_kind *kind;
    struct gyre_loop *loop;
    struct gyre_fd fd; /* what the operation works on */
    int attached;      /* 0: the kind has no descriptor, or the test has closed it */
    int peer;          /* the other end, or -1 */
    int client;        /* one more descriptor of the test, or -1 */
    struct sockaddr_in address;
    size_t provoked; /* bytes or connections since the last settle */
    size_t stuffed;  /* bytes that fill the send buffer */
    trial_fn then;
    struct iovec iov;
    uint8_t data[64];
};

extern const struct rig_kind rig_kinds[];
extern const size_t rig_kind_count;

/* Makes the descriptors of a kind; prints its name, for when the case fails. */
void rig_open(struct rig *rig, struct gyre_loop *loop, const struct rig_kind *kind);

/* Starts the operation; @then, which may be NULL, is told of each result (trial->context is the
 * rig). Returns what the start function returned. */
int rig_start(struct rig *rig, struct trial *trial, trial_fn then);

/* Makes the operation complete, as soon as the loop turns. */
void rig_provoke(struct rig *rig);

/* Asserts that nothing was lost or doubled; afterwards the operation would wait again. */
void rig_settle(struct rig *rig, const struct trial *trial);

/* Closes what is left. */
void rig_close(struct rig *rig);

/* Runs @body on a rig of each kind, on one loop. */
void rig_each(void (*body)(struct rig *rig));

#endif
