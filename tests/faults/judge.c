/* What both torturers have in common: which failures, which places, and how they are counted. */
#include "faults/torture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
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

uint64_t torture_first(uint64_t otherwise)
{
    const char *text = getenv("GYRE_TORTURE_FIRST");

    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
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
    /* The end of a pipe that is read from never has room. */
    {"file_wrong_descriptors_report_why", FAULTS_REQUEST_write, EAGAIN},
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
           (error == ENOBUFS && call == FAULTS_REQUEST_recv_select) ||
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

static void tell(const char *name, enum torture_end end, const struct torture_strike *strike,
                 int output)
{
    static const char *const ends[] = {
        [TORTURE_STALLED] = "stalled",      [TORTURE_CRASH] = "DEFECT crash",
        [TORTURE_HANG] = "DEFECT hang",     [TORTURE_LEAK] = "DEFECT leak",
        [TORTURE_FAILED] = "DEFECT failed",
    };
    const char *known = strerrorname_np(strike->error);
    char number[16];
    char chain[20] = "";

    snprintf(number, sizeof(number), "%d", strike->error);
    if (strike->chain != 0) {
        snprintf(chain, sizeof(chain), ":%llx", (unsigned long long)strike->chain);
    }
    fprintf(torture_report, "%s: %s, GYRE_STRIKE=%s:%s:%llu%s\n", ends[end], name,
            faults_call_name(strike->call), known != NULL ? known : number,
            (unsigned long long)strike->place, chain);
    show_output(output);
    fflush(torture_report);
}

void torture_count(struct torture_sum *sum, const char *name, enum torture_end end,
                   const struct torture_strike *strike, int output)
{
    sum->injections++;
    sum->ends[end]++;
    if (end >= TORTURE_CRASH || (end == TORTURE_STALLED && getenv("GYRE_TORTURE_STALLS") != NULL)) {
        tell(name, end, strike, output);
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
            "%llu stalled), %llu not met, %llu repetitions left out, %llu defects\n",
            module, (unsigned long long)sum->cases, (unsigned long long)sum->cases_left_out,
            (unsigned long long)sum->injections, (unsigned long long)sum->ends[TORTURE_PASSED],
            (unsigned long long)sum->ends[TORTURE_EARLY],
            (unsigned long long)sum->ends[TORTURE_STALLED], (unsigned long long)sum->missed,
            (unsigned long long)sum->places_left_out, (unsigned long long)defects);
    return defects > 0;
}
