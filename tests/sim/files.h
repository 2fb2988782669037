/* Files on the simulated kernel that it does not have itself, because the library makes none: for
 * test cases. */
#ifndef GYRE_TESTS_SIM_FILES_H
#define GYRE_TESTS_SIM_FILES_H

#include "sim/sim.h"

/* [0] reads, [1] writes; each held once, without a descriptor. */
void pipe_make(struct gyre_sim_host *host, struct sim_file *out_files[2]);

/* /dev/null, held once. */
struct sim_file *null_make(struct gyre_sim_host *host);

/* F_SETPIPE_SZ of an end: the new capacity, or -1 and errno. */
int pipe_resize(struct sim_file *file, int capacity);

#endif
