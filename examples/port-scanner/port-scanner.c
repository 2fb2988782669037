/*
 * Finds open TCP ports by connecting to each. Scan only what is yours to scan; without addresses on
 * the command line that is this machine.
 *
 * With blocking sockets a port that does not answer costs its whole timeout, and 65,535 of them
 * cost hours. Here many connections are under way at once (--concurrency), each with its own
 * timeout, and new ones begin no faster than --rate allows. That is all there is to it: a number of
 * probes, each of which takes the next port when its last one is settled.
 *
 * A connection that succeeds is reset at once. An orderly close would leave it behind in the kernel
 * for a minute (TIME_WAIT), and its local port with it.
 *
 * The open ports go to the standard output, sorted, with the names of their services. The exit
 * status is 0 when the scan was completed, open ports or not, and 1 when it was not.
 */
#include "common/common.h"
#include "ports.h"

#include <errno.h>
#include <error.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    HOSTS_MAX = 256,
    BAR_WIDTH = 50,
};

static const uint64_t bar_interval_ns = 100 * GYRE_MSEC;
static const uint64_t burst_ns = 10 * GYRE_MSEC; /* how much of --rate may come at once */

enum verdict { OPEN, CLOSED, SILENT, UNREACHABLE, FAILED, VERDICTS };

struct probe {
    struct gyre_stream stream;
    struct scan *scan;
    struct probe *next; /* of those that are idle */
    size_t target;
    int is_active;
    int is_open;
};

/* Target number n is port n % port_count of host n / port_count. */
struct scan {
    struct gyre_loop *loop;
    struct gyre_stream_handler handler;
    struct example_signals signals;
    struct gyre_timer pace; /* until the rate allows one more */
    struct gyre_timer bar;
    struct gyre_addr hosts[HOSTS_MAX];
    size_t host_count;
    uint16_t ports[PORTS_MAX];
    size_t port_count;
    uint8_t *open; /* for each target, whether it is */
    struct probe *probes;
    struct probe *idle;
    size_t concurrency; /* how many probes there are */
    size_t active;
    size_t next;
    size_t settled;
    size_t count[VERDICTS];
    uint64_t next_ns; /* when the rate allows one more */
    uint64_t interval_ns;
    int interrupted;
};

static size_t target_count(const struct scan *scan)
{
    return scan->host_count * scan->port_count;
}

static struct gyre_addr target_address(const struct scan *scan, size_t target)
{
    struct gyre_addr address = scan->hosts[target / scan->port_count];

    example_must(gyre_addr_set_port(&address, scan->ports[target % scan->port_count]), "port");
    return address;
}

/* ---- probes ---- */

static void finish(struct scan *scan)
{
    example_signals_end(&scan->signals);
    gyre_timer_stop(&scan->pace);
    gyre_timer_stop(&scan->bar);
}

static struct probe *take_probe(struct scan *scan)
{
    struct probe *probe = scan->idle;

    scan->idle = probe->next;
    scan->active++;
    probe->is_active = 1;
    probe->is_open = 0;
    return probe;
}

static void give_probe(struct probe *probe)
{
    struct scan *scan = probe->scan;

    probe->is_active = 0;
    probe->next = scan->idle;
    scan->idle = probe;
    scan->active--;
}

static void settle(struct probe *probe, enum verdict verdict)
{
    struct scan *scan = probe->scan;

    scan->open[probe->target] = verdict == OPEN;
    scan->count[verdict]++;
    scan->settled++;
    give_probe(probe);
}

/* Whether the rate allows one more now; if not, when it does the timer calls. */
static int is_allowed(struct scan *scan)
{
    const uint64_t now_ns = gyre_loop_now(scan->loop);

    if (scan->next_ns > now_ns) {
        example_must(gyre_timer_start_at(&scan->pace, scan->next_ns), "timer");
        return 0;
    }
    if (scan->next_ns + burst_ns < now_ns) {
        scan->next_ns = now_ns - burst_ns; /* what was not used is not saved up */
    }
    scan->next_ns += scan->interval_ns;
    return 1;
}

static enum verdict verdict_of(int error)
{
    switch (error) {
    case 0: /* connected to itself */
    case -ECONNREFUSED:
        return CLOSED;
    case -ETIMEDOUT:
        return SILENT;
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -EACCES:
    case -EPERM:
        return UNREACHABLE;
    default:
        return FAILED; /* not the peer's doing: out of local ports, or of memory */
    }
}

/* Begins with the next target. Returns 0, or -1 if it has to wait until another one ends. */
static int start_probe(struct scan *scan)
{
    struct probe *probe = take_probe(scan);
    const struct gyre_addr address = target_address(scan, scan->next);
    int rc = gyre_stream_connect(&probe->stream, scan->loop, &address, &scan->handler);

    if ((rc == -EMFILE || rc == -ENFILE) && scan->active > 1) {
        give_probe(probe);
        return -1;
    }
    probe->target = scan->next++;
    if (rc < 0) {
        settle(probe, verdict_of(rc));
    }
    return 0;
}

static void start_probes(struct scan *scan)
{
    while (scan->idle != NULL && scan->next < target_count(scan) && is_allowed(scan) &&
           start_probe(scan) == 0) {
    }
    if (scan->settled == target_count(scan)) {
        finish(scan);
    }
}

/*
 * A port of this machine may be connected to itself: when the kernel happens to choose as source
 * the very port that is being tried, the connection meets itself and succeeds (RFC 9293, section
 * 3.5, simultaneous open). Nobody listens there.
 */
static int is_itself(struct gyre_stream *stream)
{
    struct gyre_addr local;
    struct gyre_addr peer;

    return gyre_addr_local(gyre_stream_number(stream), &local) == 0 &&
           gyre_addr_peer(gyre_stream_number(stream), &peer) == 0 && gyre_addr_equal(&local, &peer);
}

static void on_open(struct gyre_stream *stream)
{
    struct probe *probe = gyre_container_of(stream, struct probe, stream);

    probe->is_open = !is_itself(stream);
    gyre_stream_reset(stream);
}

static void on_close(struct gyre_stream *stream, int error)
{
    struct probe *probe = gyre_container_of(stream, struct probe, stream);

    if (!probe->scan->interrupted) {
        settle(probe, probe->is_open ? OPEN : verdict_of(error));
        start_probes(probe->scan);
    }
}

static void on_pace(struct gyre_timer *timer)
{
    start_probes(gyre_container_of(timer, struct scan, pace));
}

static void on_stop(void *context)
{
    struct scan *scan = context;

    scan->interrupted = 1;
    finish(scan);
    for (size_t i = 0; i < scan->concurrency; i++) {
        if (scan->probes[i].is_active) {
            gyre_stream_reset(&scan->probes[i].stream);
        }
    }
}

/* ---- what is seen ---- */

static void on_bar(struct gyre_timer *timer)
{
    const struct scan *scan = gyre_container_of(timer, struct scan, bar);
    const size_t total = target_count(scan);
    const int filled = (int)(BAR_WIDTH * scan->settled / total);

    fprintf(stderr, "\r[%.*s%*s] %3zu%%", filled,
            "##################################################", BAR_WIDTH - filled, "",
            100 * scan->settled / total);
    example_must(gyre_timer_start(timer, bar_interval_ns), "timer");
}

static void print_result(const struct scan *scan)
{
    char text[GYRE_ADDR_TEXT_MAX];
    char service[64];

    for (size_t target = 0; target < target_count(scan); target++) {
        if (scan->open[target]) {
            const struct gyre_addr address = target_address(scan, target);
            const unsigned port = (unsigned)gyre_addr_port(&address);

            example_must(gyre_addr_format(&address, text, sizeof(text)), "address");
            if (gyre_service_name(port, "tcp", service, sizeof(service)) < 0) {
                snprintf(service, sizeof(service), "unknown");
            }
            printf("%s %s\n", text, service);
        }
    }
    printf("%zu of %zu ports tried: %zu open, %zu closed, %zu silent, %zu unreachable, "
           "%zu failed\n",
           scan->settled, target_count(scan), scan->count[OPEN], scan->count[CLOSED],
           scan->count[SILENT], scan->count[UNREACHABLE], scan->count[FAILED]);
}

/* ---- the program ---- */

struct options {
    struct example_options common;
    struct scan *scan;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct options *options = state->input;
    struct scan *scan = options->scan;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &options->common;
        return 0;
    case 'p':
        scan->port_count = ports_parse(text, scan->ports);
        if (scan->port_count == 0) {
            argp_error(state, "'%s' is not a list of ports as 1-1024,8080", text);
        }
        return 0;
    case 'c':
        scan->concurrency = example_parse_number(state, text, 1, 10000);
        return 0;
    case 'r':
        scan->interval_ns = GYRE_SEC / example_parse_number(state, text, 1, 1000000);
        return 0;
    case 't':
        scan->handler.connect_timeout_ns = example_parse_number(state, text, 1, 60000) * GYRE_MSEC;
        return 0;
    case ARGP_KEY_ARG:
        if (scan->host_count == HOSTS_MAX ||
            gyre_addr_parse_ip(text, 0, &scan->hosts[scan->host_count]) < 0) {
            argp_error(state, "'%s' is not a numeric address, or one too many", text);
        }
        scan->host_count++;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct argp_option own[] = {
        {"ports", 'p', "LIST", 0, "Such as 1-1024,8080 (default 1-1024)", 0},
        {"concurrency", 'c', "N", 0, "Ports tried at a time (default 500)", 0},
        {"rate", 'r', "N", 0, "Ports begun in a second, at most (default 20000)", 0},
        {"timeout", 't', "MS", 0, "How long to wait for an answer (default 1000)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_backend_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = own,
                                     .parser = parse_option,
                                     .args_doc = "[ADDRESS...]",
                                     .doc = "Finds open TCP ports (of 127.0.0.1).",
                                     .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, options);
    if (options->scan->host_count == 0) {
        options->scan->host_count = 1;
        example_must(gyre_addr_parse_ip("127.0.0.1", 0, &options->scan->hosts[0]), "address");
    }
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        error(EXIT_FAILURE, errno, "memory");
    }
    return memory;
}

static void start(struct scan *scan, const struct options *options)
{
    scan->open = allocate(target_count(scan), 1);
    scan->probes = allocate(scan->concurrency, sizeof(*scan->probes));
    for (size_t i = scan->concurrency; i-- > 0;) {
        scan->probes[i].scan = scan;
        scan->probes[i].next = scan->idle;
        scan->idle = &scan->probes[i];
    }
    example_raise_fd_limit();
    scan->loop = example_loop_create(&options->common);
    example_must(gyre_timer_init(&scan->pace, scan->loop, on_pace), "timer");
    example_must(gyre_timer_init(&scan->bar, scan->loop, on_bar), "timer");
    example_signals_start(&scan->signals, scan->loop, on_stop, scan);
    if (isatty(STDERR_FILENO)) {
        example_must(gyre_timer_start(&scan->bar, 0), "timer");
    }
    start_probes(scan);
}

int main(int argc, char **argv)
{
    static struct scan scan = {
        .handler = {.on_open = on_open, .on_close = on_close, .connect_timeout_ns = GYRE_SEC},
        .interval_ns = GYRE_SEC / 20000,
        .concurrency = 500,
    };
    struct options options = {.scan = &scan};

    scan.port_count = ports_parse("1-1024", scan.ports);
    parse_options(argc, argv, &options);
    start(&scan, &options);
    example_loop_run(scan.loop);
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr, "\r%*s\r", BAR_WIDTH + 7, "");
    }
    print_result(&scan);
    free(scan.open);
    free(scan.probes);
    return scan.interrupted || scan.count[FAILED] > 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
