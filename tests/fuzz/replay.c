/*
 * Runs a fuzz target without a fuzzer, over the inputs that are kept:
 *
 *     PROGRAM FILE|DIRECTORY...
 *
 * Each is given whole, and cut after each of its bytes: cheap, and a parser that relies on an end
 * is found at once. Ends with 1 when there was no input.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fuzz.h"

enum {
    INPUT_MAX = 1 << 20, /* bytes of a file */
    CUT_MAX = 4096,      /* longer inputs are not cut: that would be quadratic */
};

static unsigned count;

static void run(const uint8_t *data, size_t size)
{
    for (size_t cut = 0; size <= CUT_MAX && cut < size; cut++) {
        /* Of exactly this size, for AddressSanitizer. */
        uint8_t *exact = malloc(cut > 0 ? cut : 1);

        FUZZ_EXPECT(exact != NULL);
        memcpy(exact, data, cut);
        LLVMFuzzerTestOneInput(exact, cut);
        free(exact);
    }
    LLVMFuzzerTestOneInput(data, size);
    count++;
}

static int run_file(const char *path)
{
    FILE *file = fopen(path, "re");
    uint8_t *data = malloc(INPUT_MAX);
    size_t size = 0;

    FUZZ_EXPECT(data != NULL);
    if (file != NULL) {
        size = fread(data, 1, INPUT_MAX, file);
    }
    if (file == NULL || ferror(file)) {
        perror(path);
        free(data);
        return -1;
    }
    fclose(file);
    uint8_t *exact = malloc(size > 0 ? size : 1);
    FUZZ_EXPECT(exact != NULL);
    memcpy(exact, data, size);
    free(data);
    fprintf(stderr, "%s\n", path); /* the last one printed is the one that failed */
    run(exact, size);
    free(exact);
    return 0;
}

static int run_directory(DIR *directory, const char *path)
{
    int rc = 0;

    for (const struct dirent *entry = readdir(directory); entry != NULL && rc == 0;
         entry = readdir(directory)) {
        char name[4096];

        if (entry->d_name[0] != '.') {
            snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
            rc = run_file(name);
        }
    }
    return rc;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        DIR *directory = opendir(argv[i]);
        const int rc = directory != NULL ? run_directory(directory, argv[i]) : run_file(argv[i]);

        if (directory != NULL) {
            closedir(directory);
        }
        if (rc < 0) {
            return 1;
        }
    }
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
