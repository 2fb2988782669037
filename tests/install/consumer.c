/* The smallest user of an installed gyre; compiled as C11 and as C++17. */
#include <gyre.h>

#include <stdio.h>

int main(void)
{
    struct gyre_loop *loop = NULL;
    const int rc = gyre_loop_create(&loop, NULL);

    if (rc < 0) {
        fprintf(stderr, "gyre_loop_create: %s\n", gyre_strerror(rc));
        return 1;
    }
    gyre_loop_destroy(loop);
    printf("%s\n", gyre_version_string());
    return 0;
}
