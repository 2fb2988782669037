/*
 * The world: virtual time and what happens in it. There are two heaps of events: what the kernel and
 * the network do by themselves, and threads that will go on. The run takes the earliest of both,
 * moves the clock to its moment and lets it happen; nothing ever happens otherwise.
 *
 *     gyre_sim_run:   earliest event -> clock -> fire() -> invariants -> ...
 *     a thread:       runs in fire() until it sleeps; each of its system calls takes a little time,
 *                     and what the network does in that time happens in between
 *
 * Events of one moment happen in random order; an object that needs order between its own has one
 * scheduled at a time.
 */
#include "sim/world.h"

#include "core/loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    LINE_MAX_LEN = 400,
    IDLE_WAITS_MAX = 20000,
    FAULTS_ON_ONE_IN = 3, /* of the faults, a seed switches on about so many */
    CALM_ONE_IN = 8,      /* of the seeds have no faults at all */
};

#define HEAL_DEFAULT_NS (10 * GYRE_SEC)
#define END_DEFAULT_NS  (300 * GYRE_SEC)

static _Thread_local struct gyre_sim *world;

/* ---- memory ---- */

void *gyre__sim_alloc(size_t len)
{
    void *memory = calloc(1, len);

    gyre_assert(memory != NULL); /* the test machine's own: there is no run to go on with */
    return memory;
}

/* ---- chance: xoshiro256**, seeded by splitmix64 (Blackman and Vigna, 2018) ---- */

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t split_mix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t gyre__sim_random(struct gyre_sim *sim)
{
    uint64_t *s = sim->random;
    const uint64_t result = rotate(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

uint64_t gyre__sim_below(struct gyre_sim *sim, uint64_t limit)
{
    gyre_assert(limit > 0);
    return gyre__sim_random(sim) % limit; /* the bias does not matter here */
}

static int is_healed(const struct gyre_sim *sim)
{
    return sim->now_ns >= sim->options.heal_at_ns;
}

int gyre__sim_fault(struct gyre_sim *sim, enum gyre_sim_fault fault)
{
    struct sim_chance *chance = &sim->chance[fault];
    int strikes;

    chance->could++;
    strikes = chance->could >= chance->from && chance->could < chance->until;
    if (!strikes && chance->rate > 0 && !is_healed(sim)) {
        strikes = gyre__sim_below(sim, 1000000) < chance->rate;
    }
    if (strikes) {
        chance->struck++;
        gyre__sim_trace(sim, "fault %s", gyre_sim_fault_name(fault));
    }
    return strikes;
}

unsigned gyre__sim_kernel_version(const struct gyre_sim *sim)
{
    return sim->options.kernel;
}

void gyre__sim_sometimes(struct gyre_sim *sim, enum gyre_sim_path path)
{
    sim->seen[path]++;
}

/* Swarm testing (Groce and others, 2012): not all faults in every run, or the frequent ones hide
 * what the rare ones would show. */
static void choose_faults(struct gyre_sim *sim)
{
    static const uint32_t rates[GYRE_SIM_FAULT_COUNT] = {
#define X(name, text, rate, what) [GYRE_SIM_FAULT_##name] = rate,
        GYRE_SIM_FAULT_MAP(X)
#undef X
    };
    const int calm = gyre__sim_below(sim, CALM_ONE_IN) == 0;

    for (int i = 0; i < GYRE_SIM_FAULT_COUNT; i++) {
        const int on = gyre__sim_below(sim, FAULTS_ON_ONE_IN) == 0;

        sim->chance[i].rate = on && !calm && !sim->options.faults_off ? rates[i] : 0;
    }
}

/* ---- trace ---- */

static void add_to_hash(struct gyre_sim *sim, const char *text)
{
    uint64_t hash = sim->hash;

    for (; *text != '\0'; text++) { /* FNV-1a */
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    }
    sim->hash = hash;
}

static void trace_line(struct gyre_sim *sim, const char *what)
{
    char line[LINE_MAX_LEN];

    snprintf(line, sizeof(line), "%5llu.%09llu %s", (unsigned long long)(sim->now_ns / GYRE_SEC),
             (unsigned long long)(sim->now_ns % GYRE_SEC), what);
    add_to_hash(sim, line);
    if (sim->options.trace != NULL) {
        sim->options.trace(sim->options.trace_context, line);
    }
}

void gyre__sim_trace(struct gyre_sim *sim, const char *format, ...)
{
    char what[LINE_MAX_LEN - 32];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    trace_line(sim, what);
}

void gyre__sim_failed(struct gyre_sim *sim, const char *format, ...)
{
    char what[LINE_MAX_LEN];
    va_list arguments;

    if (sim->failed) {
        return;
    }
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    sim->failed = 1;
    snprintf(sim->failure, sizeof(sim->failure), "seed=0x%llx step=%llu time=%.9fs: %s",
             (unsigned long long)sim->options.seed, (unsigned long long)sim->steps,
             (double)sim->now_ns / 1e9, what);
    gyre__sim_trace(sim, "FAILED %s", what);
}

/* ---- events ---- */

static int is_earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->when_ns != b->when_ns ? a->when_ns < b->when_ns : a->order < b->order;
}

static void put(struct sim_heap *heap, struct sim_event *event, size_t place)
{
    heap->event[place] = event;
    event->place = place;
}

static void rise(struct sim_heap *heap, struct sim_event *event, size_t place)
{
    while (place > 1 && is_earlier(event, heap->event[place / 2])) {
        put(heap, heap->event[place / 2], place);
        place /= 2;
    }
    put(heap, event, place);
}

static void sink(struct sim_heap *heap, struct sim_event *event, size_t place)
{
    for (;;) {
        size_t child = 2 * place;

        if (child < heap->count && is_earlier(heap->event[child + 1], heap->event[child])) {
            child++;
        }
        if (child > heap->count || !is_earlier(heap->event[child], event)) {
            break;
        }
        put(heap, heap->event[child], place);
        place = child;
    }
    put(heap, event, place);
}

void gyre__sim_heap_remove(struct sim_heap *heap, struct sim_event *event)
{
    const size_t place = event->place;
    struct sim_event *last;

    if (place == 0) {
        return;
    }
    gyre_assert(place <= heap->count && heap->event[place] == event);
    last = heap->event[heap->count--];
    event->place = 0;
    if (last != event) {
        sink(heap, last, place);
        rise(heap, last, last->place);
    }
}

void gyre__sim_heap_add(struct gyre_sim *sim, struct sim_heap *heap, struct sim_event *event,
                        uint64_t when_ns)
{
    gyre__sim_heap_remove(heap, event);
    if (heap->count + 2 > heap->room) {
        heap->room = heap->room == 0 ? 64 : 2 * heap->room;
        heap->event = realloc(heap->event, heap->room * sizeof(struct sim_event *));
        gyre_assert(heap->event != NULL);
    }
    event->when_ns = when_ns > sim->now_ns ? when_ns : sim->now_ns;
    event->order = (gyre__sim_random(sim) & 0xffff) << 48 | ++sim->order;
    rise(heap, event, ++heap->count);
}

struct sim_event *gyre__sim_first(const struct sim_heap *heap)
{
    return heap->count > 0 ? heap->event[1] : NULL;
}

uint64_t gyre__sim_now(const struct gyre_sim *sim)
{
    return sim->now_ns;
}

void gyre__sim_schedule(struct gyre_sim *sim, struct sim_event *event, uint64_t when_ns)
{
    gyre__sim_heap_add(sim, &sim->soon, event, when_ns);
}

void gyre__sim_unschedule(struct gyre_sim *sim, struct sim_event *event)
{
    gyre__sim_heap_remove(&sim->soon, event);
}

static void fire_first(struct gyre_sim *sim, struct sim_heap *heap)
{
    struct sim_event *event = heap->event[1];

    sim->now_ns = event->when_ns > sim->now_ns ? event->when_ns : sim->now_ns;
    gyre__sim_heap_remove(heap, event);
    event->fire(event);
}

void gyre__sim_spend(struct gyre_sim *sim, uint64_t span_ns)
{
    sim->now_ns += span_ns;
    while (sim->soon.count > 0 && sim->soon.event[1]->when_ns <= sim->now_ns) {
        fire_first(sim, &sim->soon);
    }
}

/* ---- begin and end ---- */

static void seed_random(struct gyre_sim *sim)
{
    uint64_t state = sim->options.seed;

    for (int i = 0; i < 4; i++) {
        sim->random[i] = split_mix(&state);
    }
    sim->hash = UINT64_C(0xcbf29ce484222325);
}

static unsigned choose_kernel(struct gyre_sim *sim)
{
    static const unsigned kernels[] = {618, 618, 618, 618, 618, 612, 612, 601};

    return kernels[gyre__sim_below(sim, sizeof(kernels) / sizeof(kernels[0]))];
}

int gyre_sim_create(struct gyre_sim **out_sim, const struct gyre_sim_options *options)
{
    static const struct gyre_sim_options defaults;
    struct gyre_sim *sim;

    if (out_sim == NULL || (options != NULL && (unsigned)options->personality > GYRE_SIM_EPOLL)) {
        return -EINVAL;
    }
    if (world != NULL) {
        return -EBUSY;
    }
    sim = calloc(1, sizeof(*sim));
    if (sim == NULL) {
        return -ENOMEM;
    }
    sim->options = options != NULL ? *options : defaults;
    sim->options.heal_at_ns =
        sim->options.heal_at_ns != 0 ? sim->options.heal_at_ns : HEAL_DEFAULT_NS;
    sim->options.end_ns = sim->options.end_ns != 0 ? sim->options.end_ns : END_DEFAULT_NS;
    sim->idle_waits_max = IDLE_WAITS_MAX;
    gyre__list_init(&sim->hosts);
    gyre__list_init(&sim->scripts);
    seed_random(sim);
    if (sim->options.personality == GYRE_SIM_SEEDED) {
        sim->options.personality = gyre__sim_below(sim, 2) == 0 ? GYRE_SIM_URING : GYRE_SIM_EPOLL;
    }
    if (sim->options.kernel == 0) {
        sim->options.kernel = choose_kernel(sim);
    }
    choose_faults(sim);
    gyre__backend_forget(); /* what this thread learnt of another world's kernel */
    world = sim;
    *out_sim = sim;
    return 0;
}

struct script {
    struct sim_event event;
    struct gyre_link link;
    void (*fn)(void *context);
    void *context;
};

void gyre_sim_destroy(struct gyre_sim *sim)
{
    if (sim == NULL) {
        return;
    }
    gyre_assert(world == sim && !sim->running);
    while (!gyre__list_empty(&sim->hosts)) {
        gyre__sim_host_free(gyre_container_of(sim->hosts.next, struct gyre_sim_host, link));
    }
    while (!gyre__list_empty(&sim->scripts)) {
        struct script *script = gyre_container_of(sim->scripts.next, struct script, link);

        gyre__list_remove(&script->link);
        free(script);
    }
    gyre__backend_forget();
    world = NULL;
    free(sim->soon.event);
    free(sim->threads.event);
    free(sim);
}

/* ---- the run ---- */

static void run_checks(struct gyre_sim *sim)
{
    for (uint32_t i = 0; i < sim->check_count && !sim->failed; i++) {
        const char *broken = sim->check[i].invariant(sim->check[i].context);

        if (broken != NULL) {
            gyre__sim_failed(sim, "%s", broken);
        }
    }
}

/* The heap with the earliest event, or NULL when nothing will happen any more. */
static struct sim_heap *earliest(struct gyre_sim *sim)
{
    const struct sim_event *soon = gyre__sim_first(&sim->soon);
    const struct sim_event *thread = gyre__sim_first(&sim->threads);

    if (soon == NULL && thread == NULL) {
        return NULL;
    }
    return thread == NULL || (soon != NULL && is_earlier(soon, thread)) ? &sim->soon
                                                                        : &sim->threads;
}

static void step(struct gyre_sim *sim)
{
    struct sim_heap *heap = earliest(sim);

    if (heap == NULL) {
        gyre__sim_failed(sim, "%u programs wait for what will never happen", sim->processes);
        return;
    }
    if (heap->event[1]->when_ns > sim->options.end_ns) {
        gyre__sim_failed(sim, "%u programs have not ended at the end of time", sim->processes);
        return;
    }
    sim->steps++;
    fire_first(sim, heap);
    run_checks(sim);
}

int gyre_sim_run(struct gyre_sim *sim)
{
    if (sim == NULL || sim != world || sim->running) {
        return -EINVAL;
    }
    sim->running = 1;
    while (sim->processes > 0 && !sim->failed) {
        step(sim);
    }
    sim->running = 0;
    return sim->failed ? GYRE_ESIM : 0;
}

const char *gyre_sim_failure(const struct gyre_sim *sim)
{
    return sim->failed ? sim->failure : NULL;
}

void gyre_sim_fail(struct gyre_sim *sim, const char *format, ...)
{
    char text[LINE_MAX_LEN];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    gyre__sim_failed(sim, "%s", text);
}

int gyre_sim_check(struct gyre_sim *sim, const char *(*invariant)(void *context), void *context)
{
    if (sim == NULL || invariant == NULL) {
        return -EINVAL;
    }
    if (sim->check_count == SIM_CHECKS_MAX) {
        return -ENOBUFS;
    }
    sim->check[sim->check_count].invariant = invariant;
    sim->check[sim->check_count++].context = context;
    return 0;
}

static void run_script(struct sim_event *event)
{
    struct script *script = gyre_container_of(event, struct script, event);

    gyre__list_remove(&script->link);
    script->fn(script->context);
    free(script);
}

int gyre_sim_at(struct gyre_sim *sim, uint64_t at_ns, void (*fn)(void *context), void *context)
{
    struct script *script;

    if (sim == NULL || fn == NULL) {
        return -EINVAL;
    }
    script = gyre__sim_alloc(sizeof(*script));
    script->event.fire = run_script;
    script->fn = fn;
    script->context = context;
    gyre__list_append(&sim->scripts, &script->link);
    gyre__sim_schedule(sim, &script->event, at_ns);
    return 0;
}

/* ---- faults by script, and what was seen ---- */

int gyre_sim_fail_nth(struct gyre_sim *sim, enum gyre_sim_fault fault, uint64_t n, uint64_t count)
{
    if (sim == NULL || (unsigned)fault >= GYRE_SIM_FAULT_COUNT || n == 0) {
        return -EINVAL;
    }
    sim->chance[fault].from = sim->chance[fault].could + n;
    if (__builtin_add_overflow(sim->chance[fault].from, count, &sim->chance[fault].until)) {
        sim->chance[fault].until = UINT64_MAX;
    }
    return 0;
}

int gyre_sim_rate(struct gyre_sim *sim, enum gyre_sim_fault fault, uint32_t in_a_million)
{
    if (sim == NULL || (unsigned)fault >= GYRE_SIM_FAULT_COUNT || in_a_million > 1000000) {
        return -EINVAL;
    }
    sim->chance[fault].rate = in_a_million;
    return 0;
}

uint64_t gyre_sim_now(const struct gyre_sim *sim)
{
    return sim->now_ns;
}

uint64_t gyre_sim_steps(const struct gyre_sim *sim)
{
    return sim->steps;
}

uint64_t gyre_sim_hash(const struct gyre_sim *sim)
{
    return sim->hash;
}

uint64_t gyre_sim_random(struct gyre_sim *sim)
{
    return gyre__sim_random(sim);
}

void gyre_sim_note(struct gyre_sim *sim, const char *format, ...)
{
    char text[LINE_MAX_LEN - 32];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    for (char *at = text; *at != '\0'; at++) {
        *at = (unsigned char)*at < ' ' || *at == 0x7f ? '.' : *at;
    }
    trace_line(sim, text);
}

uint64_t gyre_sim_seen(const struct gyre_sim *sim, enum gyre_sim_path path)
{
    return (unsigned)path < GYRE_SIM_PATH_COUNT ? sim->seen[path] : 0;
}

uint64_t gyre_sim_struck(const struct gyre_sim *sim, enum gyre_sim_fault fault)
{
    return (unsigned)fault < GYRE_SIM_FAULT_COUNT ? sim->chance[fault].struck : 0;
}

const char *gyre_sim_fault_name(enum gyre_sim_fault fault)
{
    static const char *const names[] = {
#define X(name, text, rate, what) text,
        GYRE_SIM_FAULT_MAP(X)
#undef X
    };

    return (unsigned)fault < GYRE_SIM_FAULT_COUNT ? names[fault] : "unknown";
}

const char *gyre_sim_path_name(enum gyre_sim_path path)
{
    static const char *const names[] = {
#define X(name, what) what,
        GYRE_SIM_PATH_MAP(X)
#undef X
    };

    return (unsigned)path < GYRE_SIM_PATH_COUNT ? names[path] : "unknown";
}
