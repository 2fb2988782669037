/*
 * The http suite: the web server of the examples and nginx, one worker each, under wrk.
 *
 * One request is made by hand first, and its answer compared byte by byte. wrk then has the other
 * CPU; the CPU time of the server is read before and after, while nothing is under way.
 */
#include "../runner/measure.h"
#include "clock.h"
#include "cpu_time.h"
#include "suites.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct contender contenders[] = {
    {.name = "nginx", .program = "nginx"},
    {.name = "gyre-uring", .program = "web-server", .arguments = {"--backend", "uring"}},
    {.name = "gyre-epoll", .program = "web-server", .arguments = {"--backend", "epoll"}},
};

/* Bytes of the file that is served. */
static const struct cell cells[] = {
    {"hello", IN_ALL, {13, 64}},
    {"1K", IN_ALL, {1024, 64}},
    {"16K", IN_FULL, {16384, 64}},
};

#define FILE_SIZE_MAX 16384

static const struct figure figures[] = {
    {"server_cpu_ns_per_request", "CPU ns/req", 1, 0, "CPU time of the server per request."},
    {"requests_per_cpu_second", "req/CPU s", 1, 0, "the same the other way round."},
    {"requests_per_second", "requests/s", 1, 0, "requests answered in a second."},
    {"server_busy", "server", 1, 3, "share of one CPU that the server used."},
};

static const struct chart charts[] = {
    {CHART_LINES, "CPU per request, by size of the file", "server_cpu_ns_per_request", "bytes",
     "connections=64", "CPU ns per request", true, false},
};

static const char nginx_text[] =
    "daemon off;\nmaster_process off;\npid %s/pid;\nerror_log %s/error.log;\n"
    "events { worker_connections 4096; }\n"
    "http { access_log off; types { text/html html; } sendfile on; tcp_nodelay on;\n"
    "keepalive_timeout 60; keepalive_requests 1000000000;\n"
    "open_file_cache max=1000 inactive=60s; open_file_cache_valid 1s;\n"
    "client_body_temp_path %s/t1; proxy_temp_path %s/t2; fastcgi_temp_path %s/t3;\n"
    "uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;\n"
    "server { listen 127.0.0.1:%u backlog=4096; root %s; } }\n";

static int start_nginx(struct server *server, const struct bench_options *options,
                       struct sample *sample, const struct external *external)
{
    const char *d = external->directory;
    struct command command;
    char text[2048];

    if (external_command(&command, sample, "nginx") < 0) {
        return -1;
    }
    snprintf(text, sizeof(text), nginx_text, d, d, d, d, d, d, d, external->port, d);
    if (external_file(external, sample, "nginx.conf", text) < 0) {
        return -1;
    }
    command_add(&command, "-p");
    command_add(&command, d);
    command_add(&command, "-c");
    command_add(&command, "nginx.conf");
    command_add(&command, "-e");
    command_add(&command, "error.log");
    return server_start_at(server, options, sample, &command, external->port);
}

static int start_server(struct server *server, const struct bench_options *options,
                        struct sample *sample, const struct external *external)
{
    struct command command;

    if (strcmp(sample->contender->name, "nginx") == 0) {
        return start_nginx(server, options, sample, external);
    }
    if (command_init(&command, options, sample, "web-server") < 0) {
        return -1;
    }
    command_add_number(&command, "--port", 0);
    command_add(&command, "--root");
    command_add(&command, external->directory);
    command_add_all(&command, sample->contender->arguments);
    return server_start(server, options, sample, &command, NULL);
}

/* Receives until the server closes. Returns: the bytes, or -1. */
static ssize_t request(unsigned port, char *answer, size_t size)
{
    static const char text[] =
        "GET /file.html HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
    const struct timeval limit = {.tv_sec = 5};
    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t used = 0;
    ssize_t n = -1;

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) == 0 &&
        connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(text) - 1) {
        while (used < size && (n = recv(fd, answer + used, size - used, 0)) > 0) {
            used += (size_t)n;
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return n < 0 ? -1 : (ssize_t)used;
}

static void check_answer(struct sample *sample, unsigned port, const char *body)
{
    static char answer[FILE_SIZE_MAX + 4096];
    const size_t len = strlen(body);
    const ssize_t n = request(port, answer, sizeof(answer));

    if (n < 0 || strncmp(answer, "HTTP/1.1 200", 12) != 0) {
        sample_fail(sample, OUTCOME_FAILED, "the server does not answer a request with 200");
    } else if ((size_t)n < len || memcmp(answer + (size_t)n - len, body, len) != 0) {
        sample_fail(sample, OUTCOME_WRONG_BYTES, "the server answers with another file");
    }
}

static void take_figures(struct sample *sample, const char *output, uint64_t cpu_ns,
                         uint64_t wall_ns)
{
    const char *at = strstr(output, " requests in ");
    const char *begin = at;

    while (begin != NULL && begin > output && begin[-1] >= '0' && begin[-1] <= '9') {
        begin--;
    }
    const double requests = begin == NULL ? 0.0 : strtod(begin, NULL);

    if (requests <= 0.0 || strstr(output, "Non-2xx") != NULL ||
        strstr(output, "Socket errors") != NULL) {
        sample_fail(sample, OUTCOME_FAILED, "wrk saw errors, or no answer");
        return;
    }
    sample_figure(sample, "server_cpu_ns_per_request", (double)cpu_ns / requests);
    sample_figure(sample, "requests_per_cpu_second", requests * 1e9 / (double)cpu_ns);
    sample_figure(sample, "requests_per_second", requests * 1e9 / (double)wall_ns);
    sample_figure(sample, "server_busy", (double)cpu_ns / (double)wall_ns);
}

static void run(const struct bench_options *options, const struct settings *settings,
                struct sample *sample, const struct server *server)
{
    const uint32_t seconds = (settings->duration_ms + 999) / 1000;
    struct command command;
    char connections[16];
    char duration[16];
    char url[64];
    char output[4096];
    uint64_t before = 0;
    uint64_t after = 0;

    if (external_command(&command, sample, "wrk") < 0) {
        return;
    }
    snprintf(connections, sizeof(connections), "-c%u", sample_parameter(sample, "connections"));
    snprintf(duration, sizeof(duration), "-d%us", seconds);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/file.html", server->port);
    command_add(&command, "-t1");
    command_add(&command, connections);
    command_add(&command, duration);
    command_add(&command, url);
    cpu_time_settled(server->child.pid, &before);
    const uint64_t start = clock_now_ns();

    if (program_output(sample, &command, options->load_cpu, (int)seconds * 1000 + 20000, output,
                       sizeof(output)) == 0) {
        const uint64_t wall_ns = clock_now_ns() - start;

        cpu_time_settled(server->child.pid, &after);
        take_figures(sample, output, after - before, wall_ns);
    }
}

static void measure(const struct bench_options *options, const struct settings *settings,
                    struct sample *sample)
{
    static char body[FILE_SIZE_MAX + 1];
    const uint32_t bytes = sample_parameter(sample, "bytes");
    struct external external;
    struct server server;

    memset(body, 'x', bytes);
    body[bytes] = '\0';
    if (external_open(&external, sample) < 0) {
        return;
    }
    if (external_file(&external, sample, "file.html", body) == 0 &&
        start_server(&server, options, sample, &external) == 0) {
        check_answer(sample, server.port, body);
        if (sample->outcome == OUTCOME_OK) {
            run(options, settings, sample, &server);
        }
        server_stop(&server, sample);
    }
    external_close(&external);
}

/* wrk takes whole seconds, and a while to begin and to end. */
static uint32_t estimate_ms(const struct settings *settings, const struct cell *cell,
                            const struct contender *contender)
{
    (void)contender;
    (void)cell;
    return (settings->duration_ms + 999) / 1000 * 1000 + ESTIMATE_AROUND_MS;
}

const struct suite suite_http = {
    .name = "http",
    .title = "web servers",
    .operation = "request",
    .parameters = {"bytes", "connections"},
    .contenders = contenders,
    .contender_count = SUITES_COUNT(contenders),
    .cells = cells,
    .cell_count = SUITES_COUNT(cells),
    .figures = figures,
    .figure_count = SUITES_COUNT(figures),
    .charts = charts,
    .chart_count = SUITES_COUNT(charts),
    .reference = "nginx",
    .notes = "wrk, keep-alive, one worker each. nginx has open_file_cache and sendfile on and its "
             "access log off; it does more for a request than the example does. The congestion "
             "control is the system's default.",
    .settings = {{3, 1, 1000}, {5, 1, 2000}, {5, 1, 1000}},
    .saturating = true,
    .estimate_ms = estimate_ms,
    .sample = measure,
};
