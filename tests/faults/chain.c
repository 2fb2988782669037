/*
 * Where a call comes from: a number made of the return addresses between it and the case, and of the
 * call. Two calls with the same number have come the same way through the case, its callbacks and the
 * library:
 *
 *     case -> helper -> gyre_loop_run -> ... -> the case's callback -> gyre_stream_write -> ... -> send
 *
 * The addresses are found by frame pointers, which builds without optimisation and those with
 * sanitizers have. A walk never leaves its stack; where there are no frame pointers it ends somewhere,
 * and numbers say little. Addresses count from the program's beginning, and those of other modules
 * all alike, so that the numbers are the same in the next process. Each address counts once: a
 * recursion makes no new chains, however deep it is.
 */
#include "faults/faults.h"

#include <string.h>

enum { FRAMES_MAX = 256, DISTINCT_MAX = 64 };

extern const char __executable_start;
extern const char etext;
extern void *__libc_stack_end; /* of the main thread, glibc's */

static const char *top;                /* the frame that calls the case */
static const void *(*stack_end)(void); /* of the simulated thread that runs; NULL: the process's */

void faults_chain_from(const void *frame)
{
    top = frame;
}

void faults_chain_stack(const void *(*end)(void))
{
    stack_end = end;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

static uint64_t place_of(const char *address)
{
    return address >= &__executable_start && address < &etext
               ? (uint64_t)(address - &__executable_start)
               : 1;
}

/* Returns whether it is new. */
static int note(uint64_t *seen, size_t *count, uint64_t place)
{
    for (size_t i = 0; i < *count; i++) {
        if (seen[i] == place) {
            return 0;
        }
    }
    if (*count < DISTINCT_MAX) {
        seen[(*count)++] = place;
    }
    return 1;
}

/* Memory of the own stack is read past what AddressSanitizer knows of it. */
__attribute__((no_sanitize("address", "thread"))) uint64_t faults_chain(enum faults_call call,
                                                                        uint64_t marks)
{
    const char *end = stack_end != NULL ? stack_end() : __libc_stack_end;
    const char *frame = __builtin_frame_address(0);
    uint64_t seen[DISTINCT_MAX];
    uint64_t chain = mix(mix(0, (uint64_t)call), marks);
    size_t count = 0;

    if (top > frame && top < end) {
        end = top;
    }
    for (int i = 0; i < FRAMES_MAX && end - frame >= (ptrdiff_t)(2 * sizeof(void *)); i++) {
        const char *above;
        const char *address;
        uint64_t place;

        memcpy(&above, frame, sizeof(above));
        memcpy(&address, frame + sizeof(above), sizeof(address));
        if (above <= frame || above >= end || (uintptr_t)above % sizeof(void *) != 0) {
            break;
        }
        place = place_of(address);
        chain = note(seen, &count, place) ? mix(chain, place) : chain;
        frame = above;
    }
    return chain | 1; /* never 0 */
}

/* ---- all chains of a run ---- */

/* The one of this number; NULL if there is no more room. Processes that a case forks count too, at the
 * same time. */
static struct faults_place *place_at(struct faults_places *places, uint64_t chain)
{
    for (uint64_t i = 0; i < FAULTS_PLACES_MAX; i++) {
        struct faults_place *place = &places->at[(chain + i) % FAULTS_PLACES_MAX];
        uint64_t found = __atomic_load_n(&place->chain, __ATOMIC_RELAXED);

        if (found == 0 && __atomic_compare_exchange_n(&place->chain, &found, chain, 0,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            return place;
        }
        if (found == chain) {
            return place;
        }
    }
    return NULL;
}

void faults_note_place(struct faults_places *places, enum faults_call call, uint64_t chain,
                       uint64_t number)
{
    struct faults_place *place = place_at(places, chain);

    if (place == NULL) {
        __atomic_fetch_add(&places->lost, 1, __ATOMIC_RELAXED);
        return;
    }
    if (__atomic_fetch_add(&place->count, 1, __ATOMIC_RELAXED) == 0) {
        place->call = call;
        place->first = number;
    }
    place->last = number;
}
