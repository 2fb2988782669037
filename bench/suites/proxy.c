/*
 * The proxy suite: messages carried through a TCP proxy to an echo server.
 *
 * The proxy has the server's CPU to itself; the echo server shares the other with the load, which
 * therefore sleeps when it has nothing to do. Only the proxy's CPU time counts.
 */
#include "../runner/measure.h"
#include "suites.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct contender contenders[] = {
    {.name = "gyre-uring", .program = "tcp-proxy", .arguments = {"--backend", "uring"}},
    {.name = "gyre-epoll", .program = "tcp-proxy", .arguments = {"--backend", "epoll"}},
    {.name = "nginx", .program = "nginx"},
    {.name = "haproxy", .program = "haproxy"},
};

static const struct cell cells[] = {
    {"64x64", IN_ALL, {64, 64}},
    {"4Kx64", IN_FULL, {4096, 64}},
    {"64Kx16", IN_NORMAL | IN_FULL, {65536, 16}},
};

static const struct figure figures[] = {
    {"proxy_cpu_ns_per_message", "CPU ns/m", 1, 0,
     "CPU time of the proxy per message and its echo, kernel included."},
    {"messages_per_second", "messages/s", 1, 0, "messages that came back in a second."},
    {"service_p50_ns", "p50 us", 1e3, 1, "service time in a closed loop, not latency: median."},
    {"service_p99_ns", "p99 us", 1e3, 1, "the same, 99th percentile."},
    {"server_busy", "proxy", 1, 3, "share of one CPU that the proxy used."},
};

static const struct chart charts[] = {
    {CHART_BARS, "64 B, 64 connections", "proxy_cpu_ns_per_message", NULL, "64x64",
     "CPU ns per message", false, false},
    {CHART_BARS, "64 KiB, 16 connections", "proxy_cpu_ns_per_message", NULL, "64Kx16",
     "CPU ns per message", false, false},
};

static const char nginx_text[] =
    "daemon off;\nmaster_process off;\npid %s/pid;\nerror_log %s/error.log;\nload_module %s;\n"
    "events { worker_connections 4096; }\n"
    "stream { access_log off; server { listen 127.0.0.1:%u backlog=4096; tcp_nodelay on;\n"
    "proxy_pass 127.0.0.1:%u; } }\n";

static const char haproxy_text[] =
    "global\n nbthread 1\n maxconn 8192\ndefaults\n mode tcp\n timeout connect 5s\n"
    " timeout client 60s\n timeout server 60s\n"
    "listen proxy\n bind 127.0.0.1:%u backlog 4096\n server one 127.0.0.1:%u\n";

/* Debian's nginx has it as a module of its own, in a directory beside those of programs. */
static bool find_stream_module(char path[PATH_MAX])
{
    const char *places = getenv("PATH");
    char list[4096];
    char *save = NULL;

    snprintf(list, sizeof(list), "%s:/usr/sbin", places == NULL ? "" : places);
    for (const char *place = strtok_r(list, ":", &save); place != NULL;
         place = strtok_r(NULL, ":", &save)) {
        const int len =
            snprintf(path, PATH_MAX, "%s/../lib/nginx/modules/ngx_stream_module.so", place);

        if (len < PATH_MAX && access(path, R_OK) == 0) {
            return true;
        }
    }
    return false;
}

static int start_nginx(struct server *proxy, const struct bench_options *options,
                       struct sample *sample, const struct external *external, unsigned target)
{
    struct command command;
    char module[PATH_MAX];
    char text[PATH_MAX + 1024];

    if (external_command(&command, sample, "nginx") < 0) {
        return -1;
    }
    if (!find_stream_module(module)) {
        sample_fail(sample, OUTCOME_SKIPPED, "nginx has no stream module (libnginx-mod-stream)");
        return -1;
    }
    snprintf(text, sizeof(text), nginx_text, external->directory, external->directory, module,
             external->port, target);
    if (external_file(external, sample, "nginx.conf", text) < 0) {
        return -1;
    }
    command_add(&command, "-p");
    command_add(&command, external->directory);
    command_add(&command, "-c");
    command_add(&command, "nginx.conf");
    command_add(&command, "-e");
    command_add(&command, "error.log");
    return server_start_at(proxy, options, sample, &command, external->port);
}

static int start_haproxy(struct server *proxy, const struct bench_options *options,
                         struct sample *sample, const struct external *external, unsigned target)
{
    struct command command;
    char text[512];
    char path[96];

    if (external_command(&command, sample, "haproxy") < 0) {
        return -1;
    }
    snprintf(text, sizeof(text), haproxy_text, external->port, target);
    if (external_file(external, sample, "haproxy.cfg", text) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/haproxy.cfg", external->directory);
    command_add(&command, "-db");
    command_add(&command, "-f");
    command_add(&command, path);
    return server_start_at(proxy, options, sample, &command, external->port);
}

static int start_gyre(struct server *proxy, const struct bench_options *options,
                      struct sample *sample, unsigned target)
{
    struct command command;
    char text[32];

    if (command_init(&command, options, sample, "tcp-proxy") < 0) {
        return -1;
    }
    snprintf(text, sizeof(text), "127.0.0.1:%u", target);
    command_add_number(&command, "--port", 0);
    command_add(&command, "--target");
    command_add(&command, text);
    command_add_all(&command, sample->contender->arguments);
    return server_start(proxy, options, sample, &command, NULL);
}

static int start_proxy(struct server *proxy, const struct bench_options *options,
                       struct sample *sample, const struct external *external, unsigned target)
{
    if (strcmp(sample->contender->name, "nginx") == 0) {
        return start_nginx(proxy, options, sample, external, target);
    }
    if (strcmp(sample->contender->name, "haproxy") == 0) {
        return start_haproxy(proxy, options, sample, external, target);
    }
    return start_gyre(proxy, options, sample, target);
}

static void run(const struct bench_options *options, const struct settings *settings,
                struct sample *sample, const struct server *proxy)
{
    struct bench_options sleeping = *options;
    struct command command;

    sleeping.spin = false;
    if (load_command(&command, &sleeping, settings, sample, proxy, "gyre-load") < 0) {
        return;
    }
    command_add_number(&command, "--size", sample_parameter(sample, "size"));
    command_add_number(&command, "--connections", sample_parameter(sample, "connections"));
    json_t *load = load_run(options, settings, sample, &command);

    sample_copy_figure(sample, "proxy_cpu_ns_per_message", load, "server.cpu_ns_per_message", 1.0);
    sample_copy_figure(sample, "messages_per_second", load, "messages_per_second", 1.0);
    sample_copy_figure(sample, "service_p50_ns", load, "service_ns.p50", 1.0);
    sample_copy_figure(sample, "service_p99_ns", load, "service_ns.p99", 1.0);
    sample_copy_figure(sample, "server_busy", load, "server.busy", 1.0);
    sample_detail(sample, "load", load);
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    struct bench_options other_cpu = *options;
    struct external external;
    struct command command;
    struct server target;
    struct server proxy;

    other_cpu.server_cpu = options->load_cpu;
    if (command_init(&command, options, sample, "echo-epoll") < 0 ||
        external_open(&external, sample) < 0) {
        return;
    }
    command_add_number(&command, "--port", 0);
    if (server_start(&target, &other_cpu, sample, &command, NULL) == 0) {
        if (start_proxy(&proxy, options, sample, &external, target.port) == 0) {
            run(options, settings, sample, &proxy);
            server_stop(&proxy, sample);
        }
        server_stop(&target, sample);
    }
    external_close(&external);
}

/* Each connection is two; the second server's start is lost in what stands around. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    (void)contender;
    return estimate_echo_ms(settings, cell->parameters[0], 2 * cell->parameters[1], 1);
}

const struct suite suite_proxy = {
    .name = "proxy",
    .title = "messages carried through a TCP proxy",
    .operation = "message",
    .parameters = {"size", "connections"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "gyre-epoll",
    .notes =
        "One thread each. The congestion control is the system's default everywhere. nginx and "
        "HAProxy do more for a connection than the example's proxy does (rules, checks, "
        "statistics).",
    .settings = {{5, 100, 300}, {7, 100, 400}, {5, 100, 300}},
    .saturating = true,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
