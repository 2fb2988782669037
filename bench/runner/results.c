/*
 * results.json. The schema is in bench/README.md; "schema" changes with it.
 */
#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SCHEMA "gyre-bench/1"

static json_t *settings_json(const struct bench_options *o)
{
    return json_pack("{sb ss sI sI sI ss si si ss}", "quick", (int)o->quick, "reference",
                     o->reference->name, "pairs", (json_int_t)o->pairs, "warmup_ms",
                     (json_int_t)o->warmup_ms, "duration_ms", (json_int_t)o->duration_ms,
                     "congestion_control", o->congestion, "server_cpu", o->server_cpu, "load_cpu",
                     o->load_cpu, "generator_waits", o->spin ? "spinning" : "sleeping");
}

static json_t *spread_json(const struct spread *s)
{
    if (s->count == 0) {
        return json_null();
    }
    return json_pack("{sf sf sf sf sI}", "median", s->median, "min", s->min, "max", s->max, "mad",
                     s->mad, "count", (json_int_t)s->count);
}

static json_t *row_json(const struct row *row)
{
    if (row->outcome != OUTCOME_OK) {
        return json_pack("{ss ss ss}", "model", row->contender->name, "outcome",
                         outcome_name(row->outcome), "text", row->text);
    }
    return json_pack(
        "{ss ss so so so so so so so so sb sb}", "model", row->contender->name, "outcome", "ok",
        "messages_per_second", spread_json(&row->messages_per_second), "server_cpu_ns_per_message",
        spread_json(&row->cpu_ns_per_message), "ratio", spread_json(&row->ratio), "service_p50_ns",
        spread_json(&row->p50_ns), "service_p99_ns", spread_json(&row->p99_ns),
        "syscalls_per_message", spread_json(&row->syscalls_per_message), "server_busy",
        spread_json(&row->server_busy), "generator_busy", spread_json(&row->load_busy),
        "generator_bound", (int)row->generator_bound, "disturbed", (int)row->disturbed);
}

static json_t *cell_json(const struct cell_summary *summary)
{
    const struct cell *cell = summary->cell;
    json_t *rows = json_array();

    for (size_t i = 0; i < summary->row_count; i++) {
        json_array_append_new(rows, row_json(&summary->rows[i]));
    }
    return json_pack("{ss sI sI sI so so}", "cell", cell->name, "size", (json_int_t)cell->size,
                     "connections", (json_int_t)cell->connections, "depth", (json_int_t)cell->depth,
                     "resolution", spread_json(&summary->resolution), "rows", rows);
}

static json_t *table_json(const struct sample_list *samples)
{
    json_t *table = json_array();

    for (size_t i = 0; i < cell_count; i++) {
        struct cell_summary summary;

        if (summarize(samples, &cells[i], &summary)) {
            json_array_append_new(table, cell_json(&summary));
        }
    }
    return table;
}

static json_t *sample_json(const struct sample *s, size_t order)
{
    json_t *object = json_pack("{ss ss sI sI ss}", "cell", s->cell->name, "model",
                               s->contender->name, "round", (json_int_t)s->round, "order",
                               (json_int_t)order, "outcome", outcome_name(s->outcome));

    if (s->outcome != OUTCOME_OK) {
        json_object_set_new(object, "text", json_string(s->text));
    }
    json_object_set(object, "load", s->load == NULL ? json_null() : s->load);
    json_object_set(object, "server_stats", s->stats == NULL ? json_null() : s->stats);
    return object;
}

static json_t *samples_json(const struct sample_list *samples)
{
    json_t *array = json_array();

    for (size_t i = 0; i < samples->count; i++) {
        json_array_append_new(array, sample_json(&samples->items[i], i));
    }
    return array;
}

static json_t *time_json(void)
{
    const time_t now = time(NULL);
    struct tm parts;
    char text[32];

    gmtime_r(&now, &parts);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
    return json_string(text);
}

static json_t *results_json(const struct bench_options *options, const struct sample_list *samples,
                            bool complete)
{
    const bool wrong = has_outcome(samples, OUTCOME_WRONG_BYTES);

    return json_pack("{ss ss so sb sb so so so so}", "schema", SCHEMA, "suite", "echo", "finished",
                     time_json(), "complete", (int)complete, "valid", (int)!wrong, "environment",
                     environment_json(), "settings", settings_json(options), "table",
                     wrong ? json_null() : table_json(samples), "samples", samples_json(samples));
}

int results_write(const struct bench_options *options, const struct sample_list *samples,
                  bool complete, char path[PATH_MAX])
{
    char temporary[PATH_MAX];
    const int len = snprintf(path, PATH_MAX, "%s/results.json", options->out_dir);

    if (len >= PATH_MAX - 4 || (mkdir(options->out_dir, 0777) < 0 && errno != EEXIST)) {
        return -1;
    }
    snprintf(temporary, sizeof(temporary), "%.*s.new", PATH_MAX - 5, path);
    json_t *root = results_json(options, samples, complete);

    if (root == NULL) {
        return -1;
    }
    int rc = json_dump_file(root, temporary, JSON_INDENT(1) | JSON_REAL_PRECISION(9));

    json_decref(root);
    if (rc == 0) {
        rc = rename(temporary, path);
    }
    return rc < 0 ? -1 : 0;
}
