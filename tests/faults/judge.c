/* What both torturers have in common: which failures, which places, and how they are counted. */
#include "faults/torture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BUDGET_MS = 20000, /* for a case */
    LEAST = 4,         /* injections, however long one takes */
    OUTPUT_MAX = 8192, /* bytes of a child's output that are shown */
};

FILE *torture_report;

int torture_is_chosen(enum faults_call call)
{
    const char *what = getenv("GYRE_TORTURE");

    return *faults_call_errors(call) != 0 &&
           (what == NULL || strcmp(what, "all") == 0 ||
            (call == FAULTS_CALL_memory_refused) == (strcmp(what, "memory") == 0));
}

int torture_is_asked(const struct test_case *test)
{
    const char *only = getenv("GYRE_TORTURE_ONLY");

    return only == NULL || strstr(test->name, only) != NULL;
}

/* Injections, if at most so many places of each (call, error) are tried. */
static uint64_t injections_of(const uint64_t *counts, uint64_t most)
{
    uint64_t total = 0;

    for (int i = 0; i < FAULTS_CALLS; i++) {
        const int *errors = faults_call_errors((enum faults_call)i);

        for (; torture_is_chosen((enum faults_call)i) && *errors != 0; errors++) {
            total += counts[i] < most ? counts[i] : most;
        }
    }
    return total;
}

uint64_t torture_budget_ms(void)
{
    const char *text = getenv("GYRE_TORTURE_MS");

    return text != NULL ? strtoull(text, NULL, 10) : BUDGET_MS;
}

/* Calls that are made rarely leave their share to the others: what is wanted is the largest number
 * that the time suffices for. */
struct torture_plan torture_plan(const uint64_t *counts, uint64_t took_ns)
{
    const uint64_t budget_ms = torture_budget_ms();
    const uint64_t affordable = budget_ms * GYRE_MSEC / (took_ns + 1);
    const uint64_t room = affordable > LEAST ? affordable : LEAST;
    struct torture_plan plan = {.most = UINT64_MAX, .step = 1};

    if (budget_ms == 0 || injections_of(counts, UINT64_MAX) <= room) {
        return plan;
    }
    plan.most = 1;
    plan.step = (injections_of(counts, 1) + room - 1) / room;
    while (injections_of(counts, plan.most + 1) <= room) {
        plan.most++;
    }
    return plan;
}

int torture_is_due(struct torture_plan *plan)
{
    return plan->come++ % plan->step == 0;
}

uint64_t torture_next_place(uint64_t place, uint64_t count, uint64_t most)
{
    if (most >= count || place < most / 2) {
        return place + 1;
    }
    return place + (count - most / 2) / (most - most / 2) + 1;
}

/* Failures that no kernel would answer with in just that case. */
static const struct {
    const char *name;
    enum faults_call call;
    int error;
} untrue[] = {
    /* A socket that does not listen is never one of which a connection will come. */
    {"accept_on_what_does_not_listen_reports_why", FAULTS_REQUEST_accept, EAGAIN},
    {"accept_refused_and_freed_in_its_callback", FAULTS_REQUEST_accept, EAGAIN},
};

static int is_untrue(const char *name, enum faults_call call, int error)
{
    for (size_t i = 0; i < TEST_COUNT(untrue); i++) {
        if (strcmp(untrue[i].name, name) == 0 && untrue[i].call == call &&
            untrue[i].error == error) {
            return 1;
        }
    }
    return 0;
}

/* What the library gets over by itself: nobody is told, so nobody may wait for ever. */
static int is_passing(enum faults_call call, int error)
{
    return error == EINTR || error == 512 || error == EALREADY ||
           (error == EAGAIN && call >= FAULTS_REQUEST_accept) ||
           (error == ENOBUFS && call == FAULTS_REQUEST_recv) ||
           (call == FAULTS_CALL_io_uring_enter2 && (error == EAGAIN || error == EBUSY)) ||
           (call == FAULTS_CALL_epoll_pwait2 && error == ENOSYS);
}

enum torture_end torture_hang(const char *name, enum faults_call call, int error)
{
    return is_passing(call, error) && !is_untrue(name, call, error) ? TORTURE_HANG
                                                                    : TORTURE_STALLED;
}

static void show_output(int output)
{
    char text[OUTPUT_MAX];
    const ssize_t len = pread(output, text, sizeof(text), 0);

    if (len > 0) {
        fwrite(text, 1, (size_t)len, torture_report);
    }
}

static void tell(const char *name, enum torture_end end, enum faults_call call, int error,
                 uint64_t place, int output)
{
    static const char *const ends[] = {
        [TORTURE_STALLED] = "stalled",      [TORTURE_CRASH] = "DEFECT crash",
        [TORTURE_HANG] = "DEFECT hang",     [TORTURE_LEAK] = "DEFECT leak",
        [TORTURE_FAILED] = "DEFECT failed",
    };
    const char *known = strerrorname_np(error);
    char number[16];

    snprintf(number, sizeof(number), "%d", error);
    fprintf(torture_report, "%s: %s, GYRE_STRIKE=%s:%s:%llu\n", ends[end], name,
            faults_call_name(call), known != NULL ? known : number, (unsigned long long)place);
    show_output(output);
    fflush(torture_report);
}

void torture_count(struct torture_sum *sum, const char *name, enum torture_end end,
                   enum faults_call call, int error, uint64_t place, int output)
{
    sum->injections++;
    sum->ends[end]++;
    if (end >= TORTURE_CRASH || (end == TORTURE_STALLED && getenv("GYRE_TORTURE_STALLS") != NULL)) {
        tell(name, end, call, error, place, output);
    }
}

void torture_leave_out(struct torture_sum *sum, const char *name, const char *why, int output)
{
    sum->cases_left_out++;
    fprintf(torture_report, "%s: left out: %s\n", name, why);
    if (output >= 0) {
        show_output(output);
    }
    fflush(torture_report);
}

int torture_summary(const struct torture_sum *sum, const char *module)
{
    uint64_t defects = 0;

    for (int end = TORTURE_CRASH; end <= TORTURE_FAILED; end++) {
        defects += sum->ends[end];
    }
    fprintf(torture_report,
            "= %s: %llu cases, %llu left out, %llu injections (%llu passed, %llu ended early, "
            "%llu stalled), %llu places left out, %llu defects\n",
            module, (unsigned long long)sum->cases, (unsigned long long)sum->cases_left_out,
            (unsigned long long)sum->injections, (unsigned long long)sum->ends[TORTURE_PASSED],
            (unsigned long long)sum->ends[TORTURE_EARLY],
            (unsigned long long)sum->ends[TORTURE_STALLED],
            (unsigned long long)sum->places_left_out, (unsigned long long)defects);
    return defects > 0;
}
