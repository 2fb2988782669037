/*
 * The load's side of taking turns; see turns.h.
 */
#include "turns.h"

#include <stdio.h>

void turns_ready(void)
{
    puts("ready");
    fflush(stdout);
}

bool turns_next(void)
{
    int c;

    do {
        c = getchar();
    } while (c != EOF && c != '\n');
    return c != EOF;
}

void turns_done(uint64_t cpu_ns, uint64_t count, double median_ns)
{
    printf("slice %.9g %.9g\n", count == 0 ? 0.0 : (double)cpu_ns / (double)count, median_ns);
    fflush(stdout);
}
