/* The version of the library that runs, which need not be the one compiled against. */
#ifndef GYRE_VERSION_H
#define GYRE_VERSION_H

#include <gyre/base.h>

GYRE_BEGIN

#define GYRE_VERSION_MAJOR 0
#define GYRE_VERSION_MINOR 1
#define GYRE_VERSION_PATCH 0

/**
 * gyre_version_string() - the version of the linked library, "MAJOR.MINOR.PATCH".
 * Returns: a string with process lifetime.   Thread: any.
 * Source: meson.build (project version); no ABI promise before 1.0.
 */
GYRE_API const char *gyre_version_string(void);

GYRE_END

#endif
