/* Which reads can be explained; see history.h. */
#include "sim-kv/history.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void history_init(struct history *history)
{
    memset(history, 0, sizeof(*history));
    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        history->key[key].write[0] = (struct write){.fate = WRITE_DONE, .deletes = 1};
    }
}

void history_break(struct history *history, const char *format, ...)
{
    va_list arguments;

    if (history->broken[0] == '\0') {
        va_start(arguments, format);
        vsnprintf(history->broken, sizeof(history->broken), format, arguments);
        va_end(arguments);
    }
}

const char *history_check(void *context)
{
    const struct history *history = context;

    return history->broken[0] != '\0' ? history->broken : NULL;
}

/* ---- writes ---- */

unsigned history_write(struct history *history, unsigned key, size_t len)
{
    struct key_history *of = &history->key[key];

    if (of->newest + 1 == HISTORY_WRITES_MAX) {
        return 0;
    }
    of->write[++of->newest] = (struct write){.deletes = len == 0, .len = len};
    return of->newest;
}

void history_write_end(struct history *history, unsigned key, unsigned number, enum write_fate fate)
{
    struct key_history *of = &history->key[key];

    of->write[number].fate = fate;
    if (fate == WRITE_DONE && number > of->known) {
        of->known = number;
    }
}

void history_fill(unsigned key, unsigned number, unsigned char *out, size_t len)
{
    char unit[32];

    snprintf(unit, sizeof(unit), "k%u#%04u ", key % 10, number % 10000);
    for (size_t i = 0; i < len; i++) {
        out[i] = (unsigned char)unit[i % HISTORY_UNIT];
    }
}

/* ---- reads ---- */

unsigned history_read(const struct history *history, unsigned key)
{
    return history->key[key].known;
}

static int can_show(const struct key_history *of, unsigned number, unsigned known)
{
    const enum write_fate fate = of->write[number].fate;

    return number <= of->newest &&
           (fate == WRITE_LOST || (number >= known && fate != WRITE_REFUSED));
}

/* The first deletion that explains that there is no value. */
static unsigned explain_none(struct history *history, unsigned key, unsigned known)
{
    const struct key_history *of = &history->key[key];

    for (unsigned number = known; number <= of->newest; number++) {
        if (of->write[number].deletes && can_show(of, number, known)) {
            return number;
        }
    }
    for (unsigned number = 0; number < known; number++) {
        if (of->write[number].deletes && of->write[number].fate == WRITE_LOST) {
            return number;
        }
    }
    history_break(history, "k%u has no value, and should have that of write %u or later", key,
                  known);
    return known;
}

static unsigned number_in(const unsigned char *unit)
{
    unsigned number = 0;

    for (int i = 3; i < 7; i++) {
        number = 10 * number + (unsigned)(unit[i] - '0') % 10;
    }
    return number;
}

static unsigned explain_value(struct history *history, unsigned key, unsigned known,
                              const unsigned char *value, size_t len)
{
    const struct key_history *of = &history->key[key];
    const unsigned number = len >= HISTORY_UNIT ? number_in(value) : 0;
    unsigned char whole[HISTORY_VALUE_MAX];
    size_t same = 0;

    if (number == 0 || number > of->newest || of->write[number].len != len) {
        history_break(history, "k%u has %zu bytes that nobody has written", key, len);
        return known;
    }
    history_fill(key, number, whole, len);
    while (same < len && value[same] == whole[same]) {
        same++;
    }
    if (same < len) {
        history_break(history, "k%u is torn: %zu bytes of write %u, then of another, of %zu", key,
                      same, number, len);
    } else if (!can_show(of, number, known)) {
        history_break(history, "k%u shows write %u; %u was known to be done", key, number, known);
    }
    return number;
}

unsigned history_read_end(struct history *history, unsigned key, unsigned known,
                          const unsigned char *value, size_t len)
{
    struct key_history *of = &history->key[key];
    const unsigned number = value != NULL ? explain_value(history, key, known, value, len)
                                          : explain_none(history, key, known);

    if (number > of->known && of->write[number].fate != WRITE_LOST) {
        of->known = number;
    }
    return number;
}
