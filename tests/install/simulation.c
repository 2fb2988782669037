/* The smallest user of an installed gyre-sim; compiled as C11 and as C++17. */
#include <gyre.h>
#include <gyre/sim.h>

#include <stdio.h>

/* A loop on a simulated kernel. */
static int program(void *context)
{
    struct gyre_loop *loop = NULL;

    (void)context;
    if (gyre_loop_create(&loop, NULL) < 0) {
        return 1;
    }
    gyre_sim_sleep(3600 * GYRE_SEC);
    return gyre_loop_destroy(loop) < 0;
}

int main(void)
{
    static struct gyre_sim_options options; /* all 0, in both languages */
    struct gyre_sim *sim = NULL;
    struct gyre_sim_host *host = NULL;
    int rc;

    options.faults_off = 1;
    options.end_ns = 7200 * GYRE_SEC;
    rc = gyre_sim_create(&sim, &options);
    rc = rc < 0 ? rc : gyre_sim_host_create(sim, "host", "10.0.0.1", &host);
    rc = rc < 0 ? rc : gyre_sim_spawn(host, program, NULL, 0, NULL);
    rc = rc < 0 ? rc : gyre_sim_run(sim);
    if (rc < 0 || gyre_sim_now(sim) < 3600 * GYRE_SEC) {
        fprintf(stderr, "simulation: %s\n", gyre_strerror(rc));
        return 1;
    }
    gyre_sim_destroy(sim);
    printf("%s\n", gyre_version_string());
    return 0;
}
