/*
 * Which fault strikes when: a probability for each, and one stream of pseudo-random numbers
 * (splitmix64), so that a seed gives the same faults as long as the kernel does the same things.
 */
#include "faults/faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[FAULTS_COUNT] = {
#define X(name, text, rate, what) [GYRE_SIM_FAULT_##name] = text,
    GYRE_SIM_FAULT_MAP(X)
#undef X
#define X(name, text) [FAULTS_##name] = text,
        FAULTS_ODD_MAP(X)
#undef X
};

/* What only a simulated world can do. */
static const int simulated[] = {GYRE_SIM_FAULT_WAKE_LATE,     GYRE_SIM_FAULT_CLOCK_LEAP,
                                GYRE_SIM_FAULT_NET_DELAY,     GYRE_SIM_FAULT_UDP_LOSS,
                                GYRE_SIM_FAULT_UDP_DUPLICATE, GYRE_SIM_FAULT_UDP_REORDER};

static uint32_t rates[FAULTS_COUNT]; /* of 2^31 */
static uint64_t struck[FAULTS_COUNT];
static uint64_t state;

static uint64_t number(void)
{
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t faults_below(uint64_t limit)
{
    return number() % limit;
}

int faults_chance(int fault)
{
    const int strikes = rates[fault] != 0 && (number() >> 33) < rates[fault];

    struck[fault] += (uint64_t)strikes;
    return strikes;
}

uint64_t faults_struck(int fault)
{
    return struck[fault];
}

static int find(const char *name, size_t len)
{
    for (int i = 0; i < FAULTS_COUNT; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return i;
        }
    }
    return -1;
}

static int is_simulated(int fault)
{
    for (size_t i = 0; i < sizeof(simulated) / sizeof(simulated[0]); i++) {
        if (simulated[i] == fault) {
            return 1;
        }
    }
    return 0;
}

/* One "name=value" of @len bytes. */
static const char *set_one(const char *item, size_t len)
{
    const char *equals = memchr(item, '=', len);
    const size_t name_len = equals != NULL ? (size_t)(equals - item) : len;
    char value[32] = "";
    char *end = value;
    double rate;
    int fault;

    if (equals == NULL || len - name_len - 1 == 0 || len - name_len > sizeof(value)) {
        return "is not NAME=NUMBER";
    }
    memcpy(value, equals + 1, len - name_len - 1);
    if (name_len == 4 && memcmp(item, "seed", 4) == 0) {
        state = strtoull(value, &end, 0);
        return *end == '\0' && value[0] != '-' ? NULL : "is no seed";
    }
    fault = find(item, name_len);
    if (fault < 0) {
        return "is no fault";
    }
    if (is_simulated(fault)) {
        return "is for simulated worlds only";
    }
    rate = strtod(value, &end);
    if (*end != '\0' || !(rate >= 0 && rate <= 1)) {
        return "is no probability between 0 and 1";
    }
    rates[fault] = (uint32_t)(rate * (UINT32_C(1) << 31));
    return NULL;
}

int faults_parse(const char *text, char *out_why, size_t room)
{
    memset(rates, 0, sizeof(rates));
    memset(struck, 0, sizeof(struck));
    state = 0;
    while (text != NULL && *text != '\0') {
        const size_t len = strcspn(text, ",");
        const char *why = set_one(text, len);

        if (why != NULL) {
            snprintf(out_why, room, "GYRE_FAULTS: \"%.*s\" %s", (int)len, text, why);
            return -1;
        }
        text += len + (text[len] == ',');
    }
    return 0;
}
