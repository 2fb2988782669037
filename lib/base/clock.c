#include "base/clock.h"

#include "base/assert.h"
#include "base/sys.h"

#include <time.h>

uint64_t gyre__clock_now(void)
{
    struct timespec now;
    const int rc = gyre__sys_clock_gettime(CLOCK_MONOTONIC, &now);

    gyre_assert(rc == 0);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}
