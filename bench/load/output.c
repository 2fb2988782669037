/*
 * The result as one JSON object on one line; the fields are described in bench/README.md.
 */
#include "load.h"

#include <jansson.h>
#include <stdio.h>

static json_t *histogram_json(const struct histogram *h)
{
    static const struct {
        const char *name;
        double percent;
    } wanted[] = {{"p50", 50.0}, {"p75", 75.0},   {"p90", 90.0},     {"p95", 95.0},
                  {"p99", 99.0}, {"p99.9", 99.9}, {"p99.99", 99.99}, {"max", 100.0}};
    json_t *object = json_object();

    json_object_set_new(object, "mean",
                        json_integer(h->count == 0 ? 0 : (json_int_t)(h->sum / h->count)));
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        const uint64_t value = histogram_percentile(h, wanted[i].percent);

        json_object_set_new(object, wanted[i].name, json_integer((json_int_t)value));
    }
    return object;
}

/* Of an open loop, the answers' times are latency. */
static void add_open(json_t *result, const struct load *load)
{
    const uint32_t percent = load->options->rate_percent;

    if (percent > 0) {
        json_object_set_new(result, "closed_loop_per_second", json_real(load->closed_rate));
        json_object_set_new(result, "closed_loop_server_busy", json_real(load->closed_busy));
        json_object_set_new(result, "saturation_per_second", json_real(load->saturation));
        json_object_set_new(result, "rate_percent", json_integer(percent));
    }
    json_object_set_new(result, "latency_ns", histogram_json(&load->service));
    json_object_set_new(result, "send_lateness_ns", histogram_json(&load->lateness));
    json_object_del(result, "service_ns");
}

static json_t *generator_json(const struct load *load)
{
    json_t *object = window_load_json(&load->window, load->messages, load->idle_ns);
    json_t *more =
        json_pack("{ss ss ss sI sI}", "engine", load->engine->name, "note", load->engine_note,
                  "waits", load->options->spin ? "spinning" : "sleeping", "turns",
                  (json_int_t)load->turns, "enters", (json_int_t)load->enters);

    json_object_update(object, more);
    json_decref(more);
    return object;
}

static json_t *spread_json(const struct load *load)
{
    uint32_t min = UINT32_MAX;
    uint32_t max = 0;

    for (uint32_t i = 0; i < load->options->connections; i++) {
        const uint32_t replies = load->connections[i].replies;

        min = replies < min ? replies : min;
        max = replies > max ? replies : max;
    }
    return json_pack("{sI sI}", "min", (json_int_t)min, "max", (json_int_t)max);
}

static json_t *result_json(const struct load *load)
{
    const struct load_options *o = load->options;
    const double seconds = (double)load->window.wall_ns / 1e9;

    return json_pack("{sb sI sI sI ss sI sI sf so so so so}", "ok", 1, "connections",
                     (json_int_t)o->connections, "size", (json_int_t)o->size, "depth",
                     (json_int_t)o->depth, "congestion_control", load->congestion, "window_ns",
                     (json_int_t)load->window.wall_ns, "messages", (json_int_t)load->messages,
                     "messages_per_second", (double)load->messages / seconds, "service_ns",
                     histogram_json(&load->service), "generator", generator_json(load), "server",
                     window_server_json(&load->window, load->messages), "messages_per_connection",
                     spread_json(load));
}

int load_print(const struct load *load)
{
    json_t *root = load->failure == LOAD_OK
                       ? result_json(load)
                       : json_pack("{sb ss ss}", "ok", 0, "error", load_failure_name(load->failure),
                                   "text", load->failure_text);

    if (root == NULL) {
        return -1;
    }
    if (load->failure == LOAD_OK && load_is_open(load->options)) {
        add_open(root, load);
    }
    int rc = json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(root);
    if (putchar('\n') == EOF || fflush(stdout) == EOF) {
        rc = -1;
    }
    return rc;
}
