/* Of the place on the simulated kernel (place.c), for other main programs than the harness's. */
#ifndef GYRE_TESTS_SIM_PLACE_WORLD_H
#define GYRE_TESTS_SIM_PLACE_WORLD_H

#include "place.h"

/* Called when the world fails, with its reason, while it still is as it was; NULL: nobody. It need
 * not return. */
extern void (*place_failed)(const char *why);

#endif
