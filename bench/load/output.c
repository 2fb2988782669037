/*
 * The result as one JSON object on one line; the fields are described in bench/README.md.
 */
#include "load.h"

#include <jansson.h>
#include <stdio.h>

static json_t *service_json(const struct histogram *h)
{
    const json_int_t mean = h->count == 0 ? 0 : (json_int_t)(h->sum / h->count);

    return json_pack("{sI sI sI sI sI sI}", "mean", mean, "p50",
                     (json_int_t)histogram_percentile(h, 50.0), "p90",
                     (json_int_t)histogram_percentile(h, 90.0), "p99",
                     (json_int_t)histogram_percentile(h, 99.0), "p99.9",
                     (json_int_t)histogram_percentile(h, 99.9), "max", (json_int_t)h->max);
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
                     service_json(&load->service), "generator", generator_json(load), "server",
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
    int rc = json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));

    json_decref(root);
    if (putchar('\n') == EOF || fflush(stdout) == EOF) {
        rc = -1;
    }
    return rc;
}
