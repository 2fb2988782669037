/*
 * What the clients of a run know, and the invariant: that no read shows what cannot be. Each key has
 * one writer, so its writes have an order, and are numbered. A read may show
 *
 *  - the newest write that was answered, or that another read had shown, when the read began;
 *  - any later one that was sent by the time the read ended: it may have been carried out;
 *  - a write whose connection was lost before the answer came: whether it was carried out, and when,
 *    nobody can know.
 *
 * Everything else is a broken promise: an older value, one that was refused, and one that nobody
 * has written as it is, such as the beginning of one write and the end of another.
 */
#ifndef SIM_KV_HISTORY_H
#define SIM_KV_HISTORY_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTORY_KEYS = 6,
    HISTORY_WRITES_MAX = 128, /* of a key; number 0 is that there is no value yet */
    HISTORY_VALUE_MAX = 6000,
    HISTORY_UNIT = 8, /* a value is "k3#0017 ", repeated: whatever is cut off or mixed in shows */
};

enum write_fate { WRITE_SENT, WRITE_DONE, WRITE_REFUSED, WRITE_LOST };

struct write {
    enum write_fate fate;
    int deletes;
    size_t len;
};

struct key_history {
    struct write write[HISTORY_WRITES_MAX];
    unsigned newest; /* that was sent */
    unsigned known;  /* reads that begin now show this one or a later one */
};

struct history {
    struct key_history key[HISTORY_KEYS];
    char broken[160]; /* what promise; "": none */
};

void history_init(struct history *history);

/* The next write of a key; 0: there is no room for more. @len 0: a deletion. */
unsigned history_write(struct history *history, unsigned key, size_t len);
void history_write_end(struct history *history, unsigned key, unsigned number,
                       enum write_fate fate);

/* The bytes of a write. */
void history_fill(unsigned key, unsigned number, unsigned char *out, size_t len);

/* Begins a read: returns what is to be handed to its end. */
unsigned history_read(const struct history *history, unsigned key);

/* Ends it: @value NULL: there was none. Returns the number of the write that was shown. */
unsigned history_read_end(struct history *history, unsigned key, unsigned known,
                          const unsigned char *value, size_t len);

/* Notes that a promise is broken; the first one counts. */
void history_break(struct history *history, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The invariant, for gyre_sim_check(). */
const char *history_check(void *context);

#endif
