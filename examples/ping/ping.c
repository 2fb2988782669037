/*
 * ping: asks a machine, by ICMP echo requests, whether it is there, and measures the round trip.
 *
 * ICMP lies beside UDP, on top of IP: it has no ports. A request carries an identifier and a
 * sequence number, and whoever gets it sends it back as it is, but for its type. By the number the
 * program finds out which of its requests was answered, and when that left. It trusts no answer
 * further than that: one may come twice, or damaged, or be somebody else's.
 *
 * There are two ways to a socket for this. A ping socket may be opened by groups that the system
 * allows it to (the sysctl net.ipv4.ping_group_range); the kernel then chooses the identifier and
 * hands over nothing but the answers to it. A raw socket takes privileges, and gets every ICMP
 * message that arrives at this machine, so that the program has to find its own among them. gyre
 * tries the one, then the other, and both look the same, down to the ICMP header.
 *
 * A blocking ping would wait for each answer before it sends again, or use two threads. Here a timer
 * sends, on_datagram() receives, and neither waits for the other.
 */
#include "common/common.h"

#include <assert.h>
#include <errno.h>
#include <error.h>
#include <inttypes.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    EXIT_NO_ANSWER = 1, /* as those of ping(8) */
    EXIT_TROUBLE = 2,
    COUNT_MAX = UINT16_MAX, /* so that no sequence number is used twice */
    SIZE_MAX_V4 = 65507     /* 65535 less the headers of IP and ICMP; IPv6 allows a little more */
};

/* The header of an echo request and its answer, in ICMP and ICMPv6 alike (RFC 792, RFC 4443). */
struct echo {
    uint8_t type;
    uint8_t code;
    uint16_t checksum;
    uint16_t identifier;
    uint16_t sequence;
};

static_assert(sizeof(struct echo) == 8, "as on the wire");

struct request {
    uint64_t sent_ns;
    bool answered;
};

struct ping {
    /* What is asked for. */
    struct example_options common;
    const char *host;
    struct gyre_addr target;
    size_t count;
    size_t size; /* bytes behind the header */
    uint64_t interval_ns;
    uint64_t timeout_ns;

    struct gyre_loop *loop;
    struct gyre_dgram dgram;
    struct gyre_timer timer; /* the next request is due; after the last: enough has been waited */
    struct example_signals signals;
    uint16_t identifier;
    uint8_t message[sizeof(struct echo) + SIZE_MAX_V4];
    struct request *requests; /* by sequence number */

    /* What has come of it. */
    size_t sent;
    size_t answered;
    size_t duplicates;
    size_t damaged;
    size_t errors;
    uint64_t min_ns;
    uint64_t max_ns;
    uint64_t sum_ns;
};

static bool is_v6(const struct ping *ping)
{
    return ping->target.any.sa_family == AF_INET6;
}

/* Nothing is waited for any more: the loop ends. */
static void finish(struct ping *ping)
{
    gyre_timer_stop(&ping->timer);
    example_signals_end(&ping->signals);
    gyre_dgram_close(&ping->dgram);
}

/* ---- requests ---- */

/* The checksum of the internet protocols (RFC 1071). */
static uint16_t checksum(const uint8_t *bytes, size_t len)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i += 2) {
        sum += (uint32_t)bytes[i] << 8 | (i + 1 < len ? bytes[i + 1] : 0);
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return htobe16((uint16_t)~sum);
}

static void send_request(struct ping *ping)
{
    const size_t len = sizeof(struct echo) + ping->size;
    struct echo echo = {
        .type = is_v6(ping) ? ICMP6_ECHO_REQUEST : ICMP_ECHO,
        .identifier = ping->identifier,
        .sequence = htobe16((uint16_t)ping->sent),
    };
    int rc;

    memcpy(ping->message, &echo, sizeof(echo));
    if (!is_v6(ping)) { /* that of ICMPv6 covers the addresses too, so the kernel computes it */
        echo.checksum = checksum(ping->message, len);
        memcpy(ping->message, &echo, sizeof(echo));
    }
    ping->requests[ping->sent].sent_ns = gyre_loop_update_now(ping->loop);
    ping->sent++;
    rc = gyre_dgram_send(&ping->dgram, NULL, ping->message, len);
    if (rc < 0) {
        ping->errors++;
        printf("not sent: %s\n", gyre_strerror(rc));
    }
}

static void on_timer(struct gyre_timer *timer)
{
    struct ping *ping = gyre_container_of(timer, struct ping, timer);

    if (ping->sent == ping->count) {
        finish(ping);
        return;
    }
    send_request(ping);
    example_must(
        gyre_timer_start(timer, ping->sent < ping->count ? ping->interval_ns : ping->timeout_ns),
        "timer");
}

/* ---- answers ---- */

/* Whether it answers a request of ours; sets *out_sequence if so. */
static bool is_answer(const struct ping *ping, const struct gyre_datagram *datagram,
                      size_t *out_sequence)
{
    struct echo echo;

    if (datagram->len < sizeof(echo)) {
        return false;
    }
    memcpy(&echo, datagram->data, sizeof(echo));
    if (echo.type != (is_v6(ping) ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) || echo.code != 0) {
        return false;
    }
    /* A ping socket's identifier was the kernel's to choose, and to look at. */
    if (gyre_dgram_is_raw(&ping->dgram) == 1 && echo.identifier != ping->identifier) {
        return false;
    }
    *out_sequence = be16toh(echo.sequence);
    return *out_sequence < ping->sent;
}

static bool is_damaged(const struct ping *ping, const struct gyre_datagram *datagram)
{
    const uint8_t *bytes = datagram->data;

    return datagram->len != sizeof(struct echo) + ping->size ||
           memcmp(bytes + sizeof(struct echo), ping->message + sizeof(struct echo), ping->size) !=
               0;
}

static void count_answer(struct ping *ping, uint64_t time_ns)
{
    ping->answered++;
    ping->sum_ns += time_ns;
    ping->min_ns = ping->answered == 1 || time_ns < ping->min_ns ? time_ns : ping->min_ns;
    ping->max_ns = time_ns > ping->max_ns ? time_ns : ping->max_ns;
}

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    struct ping *ping = gyre_container_of(dgram, struct ping, dgram);
    const char *note = "";
    uint64_t time_ns;
    size_t sequence;

    if (!is_answer(ping, datagram, &sequence)) {
        return;
    }
    time_ns = gyre_loop_update_now(ping->loop) - ping->requests[sequence].sent_ns;
    if (is_damaged(ping, datagram)) {
        ping->damaged++;
        note = " (damaged)";
    } else if (ping->requests[sequence].answered) {
        ping->duplicates++;
        note = " (duplicate)";
    } else {
        ping->requests[sequence].answered = true;
        count_answer(ping, time_ns);
    }
    printf("%zu bytes from %s: seq=%zu ttl=%d time=%.3f ms%s\n", datagram->len, ping->host,
           sequence, datagram->ttl, (double)time_ns / 1e6, note);
    if (ping->answered == ping->count) {
        finish(ping);
    }
}

/* A router, or this machine, says that there is no way; perhaps there is one for the next. */
static void on_error(struct gyre_dgram *dgram, int error, const struct gyre_addr *to)
{
    (void)to; /* the target; the socket is connected */
    gyre_container_of(dgram, struct ping, dgram)->errors++;
    printf("error: %s\n", gyre_strerror(error));
}

static const struct gyre_dgram_handler ping_handler = {
    .on_datagram = on_datagram,
    .on_error = on_error,
};

/* ---- the program ---- */

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct ping *ping = state->input;

    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &ping->common;
        return 0;
    case 'c':
        ping->count = example_parse_number(state, text, 1, COUNT_MAX);
        return 0;
    case 'i': /* no shorter: whoever is asked has other things to do */
        ping->interval_ns = example_parse_number(state, text, 2, 60000) * GYRE_MSEC;
        return 0;
    case 's':
        ping->size = example_parse_number(state, text, 0, SIZE_MAX_V4);
        return 0;
    case 't':
        ping->timeout_ns = example_parse_number(state, text, 1, 60000) * GYRE_MSEC;
        return 0;
    case ARGP_KEY_ARG:
        if (ping->host != NULL || gyre_addr_parse_ip(text, 0, &ping->target) < 0) {
            argp_error(state, "'%s' is not a numeric address, or one too many", text);
        }
        ping->host = text;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void parse_options(int argc, char **argv, struct ping *ping)
{
    static const struct argp_option own[] = {
        {"count", 'c', "N", 0, "So many requests (default 4)", 0},
        {"interval", 'i', "MS", 0, "Between two requests (default 1000)", 0},
        {"size", 's', "BYTES", 0, "Behind the header (default 56)", 0},
        {"timeout", 't', "MS", 0, "Wait so long after the last request (default 1000)", 0},
        {0},
    };
    static const struct argp_child children[] = {{&example_backend_argp, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = own,
        .parser = parse_option,
        .args_doc = "ADDRESS",
        .doc = "Sends ICMP echo requests.\vExit status: 0 if there was an "
               "answer, 1 if there was none, 2 if it could not be tried.",
        .children = children};

    argp_parse(&argp, argc, argv, 0, NULL, ping);
}

static void open_socket(struct ping *ping)
{
    const struct gyre_dgram_options dgram_options = {
        .handler = &ping_handler,
        .kind = is_v6(ping) ? GYRE_DGRAM_ICMP6 : GYRE_DGRAM_ICMP4,
        .flags = GYRE_DGRAM_TTL,
        .peer = &ping->target,
    };
    const int rc = gyre_dgram_open(&ping->dgram, ping->loop, &dgram_options);

    if (rc < 0) {
        gyre_loop_destroy(ping->loop);
        error(EXIT_TROUBLE, 0, "%s: %s", ping->host,
              rc == -EPERM || rc == -EACCES
                  ? "not allowed: the group of this process is not in net.ipv4.ping_group_range, "
                    "and it lacks CAP_NET_RAW"
                  : gyre_strerror(rc));
    }
}

static void on_stop(void *context)
{
    finish(context);
}

static void start(struct ping *ping)
{
    ping->requests = calloc(ping->count, sizeof(*ping->requests));
    if (ping->requests == NULL ||
        getrandom(&ping->identifier, sizeof(ping->identifier), 0) != sizeof(ping->identifier)) {
        error(EXIT_TROUBLE, errno, "start");
    }
    for (size_t i = 0; i < ping->size; i++) {
        ping->message[sizeof(struct echo) + i] = (uint8_t)i;
    }
    ping->loop = example_loop_create(&ping->common);
    open_socket(ping);
    example_must(gyre_timer_init(&ping->timer, ping->loop, on_timer), "timer");
    example_must(gyre_timer_start(&ping->timer, 0), "timer");
    example_signals_start(&ping->signals, ping->loop, on_stop, ping);
    printf("%zu bytes to %s, over a %s socket\n", ping->size, ping->host,
           gyre_dgram_is_raw(&ping->dgram) == 1 ? "raw" : "ping");
}

static void print_result(const struct ping *ping)
{
    printf("%zu sent, %zu answered, %zu duplicates, %zu damaged, %zu errors\n", ping->sent,
           ping->answered, ping->duplicates, ping->damaged, ping->errors);
    if (ping->answered > 0) {
        printf("round trip min/avg/max = %.3f/%.3f/%.3f ms\n", (double)ping->min_ns / 1e6,
               (double)ping->sum_ns / (double)ping->answered / 1e6, (double)ping->max_ns / 1e6);
    }
}

int main(int argc, char **argv)
{
    static struct ping ping = {
        .count = 4,
        .size = 56,
        .interval_ns = GYRE_SEC,
        .timeout_ns = GYRE_SEC,
    };

    setlinebuf(stdout); /* each line when it happens, into a pipe too */
    parse_options(argc, argv, &ping);
    start(&ping);
    example_loop_run(ping.loop);
    print_result(&ping);
    free(ping.requests);
    return ping.answered > 0 ? EXIT_SUCCESS : EXIT_NO_ANSWER;
}
