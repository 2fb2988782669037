/*
 * samples.jsonl: one line for each measurement, written as it is made, so that whatever ends a run
 * leaves what was measured until then.
 *
 * A measurement of an earlier run still holds if its key is the one it would get now: commit,
 * kernel, programs, times, CPUs; and if it says something. Others are left out when the file is
 * opened, and so are those of a suite that is measured anew. Measurements of suites that do not run
 * now stay if they are of this commit: several runs into one directory give one report.
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

static uint64_t mix_bytes(uint64_t hash, const void *data, size_t len)
{
    const unsigned char *bytes = data;

    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
    }
    return hash;
}

/* That a program is another one shows in its size or in the time it was written. */
static uint64_t mix_program(uint64_t hash, const struct bench_options *options, const char *name)
{
    char path[PATH_MAX];
    struct stat status;

    for (size_t i = 0; options->dirs[i] != NULL; i++) {
        const int len = snprintf(path, sizeof(path), "%s/%s", options->dirs[i], name);

        if (len < PATH_MAX && stat(path, &status) == 0) {
            hash = mix_bytes(hash, &status.st_size, sizeof(status.st_size));
            return mix_bytes(hash, &status.st_mtim, sizeof(status.st_mtim));
        }
    }
    return hash;
}

static void sample_key(const struct bench_options *options, const struct sample *sample,
                       char key[20])
{
    static const char *const own[] = {"gyre-bench",           "gyre-load",      "gyre-churn",
                                      "gyre-udp-load",        "gyre-idle-load", "gyre-count",
                                      "gyre-count-preload.so"};
    const struct contender *reference =
        suite_contender(sample->suite, suite_reference(options, sample->suite));
    const struct settings settings = suite_settings(options, sample->suite);
    const uint32_t numbers[] = {settings.warmup_ms, settings.duration_ms,
                                (uint32_t)options->server_cpu, (uint32_t)options->load_cpu,
                                options->spin};
    struct utsname name;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    uname(&name);
    hash = mix_bytes(hash, name.release, strlen(name.release));
    hash = mix_bytes(hash, environment_commit(), strlen(environment_commit()));
    hash = mix_bytes(hash, options->congestion, strlen(options->congestion));
    hash = mix_bytes(hash, numbers, sizeof(numbers));
    hash = mix_bytes(hash, reference->name, strlen(reference->name));
    hash = mix_program(hash, options, sample->contender->program);
    hash = mix_program(hash, options, reference->program);
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        hash = mix_program(hash, options, own[i]);
    }
    snprintf(key, 20, "%016" PRIx64, hash);
}

static json_t *sample_json(const struct bench_options *options, const struct sample *s)
{
    const struct settings settings = suite_settings(options, s->suite);
    char key[20];

    sample_key(options, s, key);
    json_t *object = json_pack(
        "{ss ss ss sI sb ss ss sI ss s{sI sI}}", "suite", s->suite->name, "cell", s->cell->name,
        "contender", s->contender->name, "round", (json_int_t)s->round, "repeat", (int)s->repeat,
        "outcome", outcome_name(s->outcome), "commit", environment_commit(), "took_ms",
        (json_int_t)s->took_ms, "key", key, "settings", "warmup_ms", (json_int_t)settings.warmup_ms,
        "duration_ms", (json_int_t)settings.duration_ms);

    if (s->outcome != OUTCOME_OK) {
        json_object_set_new(object, "text", json_string(s->text));
    }
    if (s->figures != NULL) {
        json_object_set(object, "figures", s->figures);
    }
    if (s->detail != NULL) {
        json_object_set(object, "detail", s->detail);
    }
    return object;
}

int store_append(struct store *store, const struct bench_options *options,
                 const struct sample *sample)
{
    json_t *object = sample_json(options, sample);
    int rc = json_dumpf(object, store->file, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(object);
    if (rc < 0 || fputc('\n', store->file) == EOF || fflush(store->file) == EOF) {
        fprintf(stderr, "gyre-bench: %s: %s\n", store->path, strerror(errno));
        rc = -1;
    }
    return rc;
}

static const struct cell *find_cell(const struct suite *suite, const char *name)
{
    for (size_t i = 0; i < suite->cell_count; i++) {
        if (strcmp(suite->cells[i].name, name) == 0) {
            return &suite->cells[i];
        }
    }
    return NULL;
}

static const struct contender *find_contender(const struct suite *suite, const char *name)
{
    for (size_t i = 0; i < suite->contender_count; i++) {
        if (strcmp(suite->contenders[i].name, name) == 0) {
            return &suite->contenders[i];
        }
    }
    return NULL;
}

static bool parse_sample(const json_t *object, struct sample *out)
{
    *out = (struct sample){.suite = suite_find(json_text(object, "suite"))};
    if (out->suite == NULL) {
        return false;
    }
    out->cell = find_cell(out->suite, json_text(object, "cell"));
    out->contender = find_contender(out->suite, json_text(object, "contender"));
    out->round = (uint32_t)json_integer_value(json_object_get(object, "round"));
    out->repeat = json_is_true(json_object_get(object, "repeat"));
    snprintf(out->text, sizeof(out->text), "%s", json_text(object, "text"));
    while (out->outcome < OUTCOME_INTERRUPTED &&
           strcmp(outcome_name(out->outcome), json_text(object, "outcome")) != 0) {
        out->outcome++;
    }
    return out->cell != NULL && out->contender != NULL && out->outcome != OUTCOME_INTERRUPTED &&
           out->round < BENCH_ROUNDS_MAX;
}

static bool runs_now(const struct bench_options *options, const struct suite *suite)
{
    for (size_t i = 0; i < options->suite_count; i++) {
        if (options->suites[i] == suite) {
            return true;
        }
    }
    return false;
}

static void give(struct sample *to, struct sample *parsed, const json_t *object)
{
    parsed->figures = json_incref(json_object_get(object, "figures"));
    parsed->detail = json_incref(json_object_get(object, "detail"));
    parsed->done = true;
    *to = *parsed;
}

/* In turns, and without a ratio: the reference beside it failed, or a slice told nothing. */
static bool has_lost_its_ratio(const struct bench_options *options, const struct sample *parsed,
                               const json_t *object)
{
    const json_t *detail = json_object_get(object, "detail");
    char name[SAMPLE_RATIO_MAX];

    sample_ratio_name(name, suite_reference(options, parsed->suite));
    return json_object_get(detail, "reference") != NULL ||
           (json_array_size(json_object_get(detail, "ratios")) > 0 &&
            json_object_get(json_object_get(object, "figures"), name) == NULL);
}

/* What failed may do better next time, and so may a load that was starved. */
static bool says_something(const struct bench_options *options, const struct sample *parsed,
                           const json_t *object)
{
    return parsed->outcome != OUTCOME_STARVED && parsed->outcome != OUTCOME_FAILED &&
           (parsed->outcome != OUTCOME_OK || !has_lost_its_ratio(options, parsed, object));
}

/* Of a suite that runs now: to its place in the plan. Returns: whether it was taken. */
static bool take_over(const struct bench_options *options, struct sample_list *list,
                      struct sample *parsed, const json_t *object)
{
    char key[20];

    sample_key(options, parsed, key);
    if (!options->resume || !says_something(options, parsed, object) ||
        strcmp(key, json_text(object, "key")) != 0) {
        return false;
    }
    for (size_t i = 0; i < list->count; i++) {
        struct sample *planned = &list->items[i];

        if (planned->cell == parsed->cell && planned->contender == parsed->contender &&
            planned->round == parsed->round && planned->repeat == parsed->repeat &&
            !planned->done) {
            give(planned, parsed, object);
            return true;
        }
    }
    return false;
}

static bool keep_other(struct sample_list *others, struct sample *parsed, const json_t *object)
{
    if (strcmp(json_text(object, "commit"), environment_commit()) != 0) {
        return false;
    }
    struct sample *items = realloc(others->items, (others->count + 1) * sizeof(*items));

    if (items == NULL) {
        return false;
    }
    others->items = items;
    give(&items[others->count++], parsed, object);
    return true;
}

/* Reads the old file and copies the lines that stay. */
static void copy_lines(const struct bench_options *options, const char *old_path, FILE *out,
                       struct sample_list *list, struct sample_list *others)
{
    FILE *old = fopen(old_path, "re");
    char *line = NULL;
    size_t size = 0;

    while (old != NULL && getline(&line, &size, old) > 0) {
        json_t *object = json_loads(line, 0, NULL);
        struct sample parsed;

        if (object != NULL && parse_sample(object, &parsed)) {
            const bool stays = runs_now(options, parsed.suite)
                                   ? take_over(options, list, &parsed, object)
                                   : keep_other(others, &parsed, object);
            if (stays) {
                fputs(line, out);
            }
        }
        json_decref(object);
    }
    free(line);
    if (old != NULL) {
        fclose(old);
    }
}

int store_open(struct store *store, const struct bench_options *options, struct sample_list *list,
               struct sample_list *others)
{
    char temporary[PATH_MAX];
    const int len =
        snprintf(temporary, sizeof(temporary), "%s/samples.jsonl.new", options->out_dir);

    *store = (struct store){0};
    if (len >= PATH_MAX || (mkdir(options->out_dir, 0777) < 0 && errno != EEXIST)) {
        fprintf(stderr, "gyre-bench: %s: %s\n", options->out_dir, strerror(errno));
        return -1;
    }
    memcpy(store->path, temporary, (size_t)len - 4);
    store->file = fopen(temporary, "we");
    if (store->file == NULL) {
        fprintf(stderr, "gyre-bench: %s: %s\n", temporary, strerror(errno));
        return -1;
    }
    copy_lines(options, store->path, store->file, list, others);
    if (fflush(store->file) == EOF || rename(temporary, store->path) < 0) {
        fprintf(stderr, "gyre-bench: %s: %s\n", store->path, strerror(errno));
        return -1;
    }
    return 0;
}

void store_close(struct store *store)
{
    if (store->file != NULL) {
        fclose(store->file);
    }
    store->file = NULL;
}

void samples_release(struct sample_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        json_decref(list->items[i].figures);
        json_decref(list->items[i].detail);
    }
    free(list->items);
    *list = (struct sample_list){0};
}
