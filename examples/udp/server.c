/* A UDP server but for its answers; see server.h. */
#include "server.h"

#include "common/common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <error.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

struct server {
    struct gyre_dgram dgram;
    struct gyre_dgram_stats stats;
    uint64_t unanswered; /* there was no room for the answer */
};

static struct server *server_of(struct gyre_dgram *dgram)
{
    return gyre_container_of(dgram, struct server, dgram);
}

/*
 * Answers are queued and leave together when the callbacks of this turn have returned. The queue is
 * bounded. Waiting for room would mean to keep the question, for somebody who has perhaps given up
 * meanwhile; who asks over UDP must be ready to ask again anyway.
 *
 * A socket bound to 0.0.0.0 or :: has all addresses of the machine. An answer has to leave from the
 * one that was asked, or the client takes it for a stranger's: gyre_dgram_reply() sees to that, with
 * what GYRE_DGRAM_PACKET_INFO has told. A socket bound to one address has no choice, and is spared
 * what the kernel takes to tell it.
 */
void udp_server_answer(struct gyre_dgram *dgram, const struct gyre_datagram *question,
                       const void *data, size_t len)
{
    const int rc = gyre_dgram_reply(dgram, question, data, len);

    if (rc == -ENOBUFS) {
        server_of(dgram)->unanswered++;
        return;
    }
    example_must(rc, "answer");
}

/* The counters are read before the socket is closed, while the kernel still has its share. */
static void on_stop(void *context)
{
    struct server *server = context;

    gyre_dgram_stats(&server->dgram, &server->stats);
    gyre_dgram_close(&server->dgram);
}

static int has_all_addresses(const struct gyre_addr *address)
{
    return address->any.sa_family == AF_INET6 ? IN6_IS_ADDR_UNSPECIFIED(&address->in6.sin6_addr)
                                              : address->in.sin_addr.s_addr == htonl(INADDR_ANY);
}

static void open_socket(struct server *server, struct gyre_loop *loop,
                        const struct gyre_dgram_options *dgram_options)
{
    char text[GYRE_ADDR_TEXT_MAX];
    const int rc = gyre_dgram_open(&server->dgram, loop, dgram_options);

    if (rc < 0) {
        gyre_addr_format(dgram_options->local, text, sizeof(text));
        error(EXIT_FAILURE, 0, "cannot receive at %s: %s", text, gyre_strerror(rc));
    }
}

void udp_server_run(int argc, char **argv, const char *doc, size_t receive_max,
                    void (*on_datagram)(struct gyre_dgram *, const struct gyre_datagram *))
{
    const struct gyre_dgram_handler handler = {.on_datagram = on_datagram};
    struct gyre_addr address;
    struct gyre_dgram_options dgram_options = {
        .handler = &handler,
        .local = &address,
        .receive_max = receive_max,
    };
    struct example_options options = {0};
    struct server server = {.unanswered = 0};
    struct example_signals signals;
    struct gyre_loop *loop;

    example_parse_options(argc, argv, doc, &options);
    address = example_address(&options);
    dgram_options.flags = has_all_addresses(&address) ? GYRE_DGRAM_PACKET_INFO : 0;
    loop = example_loop_create(&options);
    open_socket(&server, loop, &dgram_options);
    example_signals_start(&signals, loop, on_stop, &server);
    example_must(gyre_dgram_local(&server.dgram, &address), "address");
    example_announce(&address);
    example_loop_run(loop);
    printf("received %" PRIu64 ", dropped by the kernel %" PRIu64 ", answered %" PRIu64
           ", not answered for want of room %" PRIu64 "\n",
           server.stats.received, server.stats.kernel_drops, server.stats.sent, server.unanswered);
}
