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

static double share(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

static json_t *generator_json(const struct load *load)
{
    const uint64_t idle = load->idle_ns < load->own_cpu_ns ? load->idle_ns : load->own_cpu_ns;
    const uint64_t busy = load->own_cpu_ns - idle;

    return json_pack("{ss ss ss sI sI sI sf sf sI sI}", "engine", load->engine->name, "note",
                     load->engine_note, "waits", load->options->spin ? "spinning" : "sleeping",
                     "cpu_ns", (json_int_t)load->own_cpu_ns, "delay_ns",
                     (json_int_t)load->own_delay_ns, "idle_spin_ns", (json_int_t)idle, "busy",
                     share(busy, load->window_ns), "cpu_ns_per_message",
                     share(busy, load->messages), "turns", (json_int_t)load->turns, "enters",
                     (json_int_t)load->enters);
}

static json_t *server_json(const struct load *load)
{
    if (!load->has_server) {
        return json_null();
    }
    json_t *ksoftirqd =
        load->has_ksoftirqd ? json_integer((json_int_t)load->ksoftirqd_ns) : json_null();
    const uint64_t total = load->server_cpu_ns + load->ksoftirqd_ns;

    return json_pack("{sI sI so sf sf}", "cpu_ns", (json_int_t)load->server_cpu_ns, "delay_ns",
                     (json_int_t)load->server_delay_ns, "ksoftirqd_ns", ksoftirqd, "busy",
                     share(total, load->window_ns), "cpu_ns_per_message",
                     share(total, load->messages));
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
    const double seconds = (double)load->window_ns / 1e9;

    return json_pack("{sb sI sI sI ss sI sI sf so so so so}", "ok", 1, "connections",
                     (json_int_t)o->connections, "size", (json_int_t)o->size, "depth",
                     (json_int_t)o->depth, "congestion_control", load->congestion, "window_ns",
                     (json_int_t)load->window_ns, "messages", (json_int_t)load->messages,
                     "messages_per_second", (double)load->messages / seconds, "service_ns",
                     service_json(&load->service), "generator", generator_json(load), "server",
                     server_json(load), "messages_per_connection", spread_json(load));
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
