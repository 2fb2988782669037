/*
 * An echo server on the operations of gyre, the layer below streams: the same program runs on
 * io_uring and on epoll. echo-server.c is the short way to the same; this one shows every step.
 *
 * It says what it wants, not how to wait for it: accept connections until told otherwise, receive
 * on each until it ends, send back what came. Each of these is an operation with a callback.
 * Received bytes are on loan from the loop's pool (a lease); they are sent from where they lie, and
 * given back when they have left. Sends of one connection leave in the order in which they were
 * started, however many there are. A peer that sends but does not read is not read from any more
 * once it holds more than its quota of the pool, so memory stays bounded and TCP slows the peer:
 * nothing here does that.
 *
 * Right for: a server that wants the kernel's best interface without writing two servers.
 * Compare with echo-epoll.c and echo-uring.c, which do by hand what the library does here.
 */
#include "on-gyre.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

struct server {
    struct gyre_loop *loop;
    struct gyre_fd listener;
    struct gyre_fd signals;
    struct gyre_op accept;
    struct gyre_op signal;
    struct gyre_op close_listener;
    struct gyre_op close_signals;
    struct connection *connections; /* all that are open */
    struct reply *spare;            /* replies not in use */
    int stopping;
};

struct connection {
    struct server *server;
    struct connection *next;
    struct connection **link; /* what points at this connection */
    int ending;
    struct gyre_fd fd;
    struct gyre_op recv;
    struct gyre_op close;
};

/* Bytes on their way back. */
struct reply {
    struct gyre_op send;
    struct gyre_lease lease;
    struct connection *connection;
    struct reply *next;
};

/* ---- a connection ---- */

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct connection *connection = gyre_container_of(op, struct connection, close);

    (void)result;
    *connection->link = connection->next;
    if (connection->next != NULL) {
        connection->next->link = connection->link;
    }
    free(connection);
}

/* Ends the connection: what is still under way completes first, then on_closed() runs. */
static void end_connection(struct connection *connection, uint32_t flags)
{
    if (!connection->ending) {
        connection->ending = 1;
        gyre_echo_must(gyre_op_close(&connection->close, &connection->fd, flags), "close");
    }
}

static void on_sent(struct gyre_op *op, const struct gyre_result *result)
{
    struct reply *reply = gyre_container_of(op, struct reply, send);
    struct connection *connection = reply->connection;
    const int whole = result->res == (int32_t)reply->lease.len;

    gyre_lease_release(&reply->lease);
    reply->next = connection->server->spare;
    connection->server->spare = reply;
    if (!whole) { /* the peer is gone */
        end_connection(connection, 0);
    }
}

static struct reply *take_reply(struct server *server)
{
    struct reply *reply = server->spare;

    if (reply != NULL) {
        server->spare = reply->next;
        return reply;
    }
    reply = malloc(sizeof(*reply));
    if (reply != NULL) {
        gyre_op_init(&reply->send, on_sent);
    }
    return reply;
}

static void on_received(struct gyre_op *op, const struct gyre_result *result)
{
    struct connection *connection = gyre_container_of(op, struct connection, recv);
    struct reply *reply;

    if (result->res <= 0) { /* the end: what was received is still sent back */
        end_connection(connection, result->res == 0 ? GYRE_CLOSE_FLUSH : 0);
        return;
    }
    if (connection->ending) {
        return;
    }
    reply = take_reply(connection->server);
    if (reply == NULL) {
        end_connection(connection, 0);
        return;
    }
    reply->connection = connection;
    gyre_echo_must(gyre_lease_retain(result->lease, &reply->lease), "retain");
    gyre_echo_must(gyre_op_send(&reply->send, &connection->fd, reply->lease.data, reply->lease.len),
                   "send");
}

/* ---- the server ---- */

static void add_connection(struct server *server, int number)
{
    struct connection *connection = malloc(sizeof(*connection));

    if (connection == NULL) {
        close(number);
        return;
    }
    connection->server = server;
    connection->ending = 0;
    connection->next = server->connections;
    connection->link = &server->connections;
    if (connection->next != NULL) {
        connection->next->link = &connection->next;
    }
    server->connections = connection;
    gyre_op_init(&connection->recv, on_received);
    gyre_op_init(&connection->close, on_closed);
    gyre_echo_must(gyre_fd_init(&connection->fd, server->loop, number), "attach");
    if (gyre_op_recv_lease(&connection->recv, &connection->fd, GYRE_MULTISHOT) < 0) {
        end_connection(connection, 0); /* no memory */
    }
}

static void on_accepted(struct gyre_op *op, const struct gyre_result *result)
{
    struct server *server = gyre_container_of(op, struct server, accept);

    if (result->res >= 0 && server->stopping) {
        close(result->res);
    } else if (result->res >= 0) {
        add_connection(server, result->res);
    } else if (!server->stopping) {
        gyre_echo_must(result->res, "accept");
    }
}

static void on_server_closed(struct gyre_op *op, const struct gyre_result *result)
{
    (void)op;
    (void)result;
}

static void on_signal(struct gyre_op *op, const struct gyre_result *result)
{
    struct server *server = gyre_container_of(op, struct server, signal);

    gyre_echo_must(result->res, "wait for signals");
    server->stopping = 1;
    for (struct connection *each = server->connections; each != NULL; each = each->next) {
        end_connection(each, 0);
    }
    gyre_echo_must(gyre_op_close(&server->close_listener, &server->listener, 0), "close");
    gyre_echo_must(gyre_op_close(&server->close_signals, &server->signals, 0), "close");
    /* With nothing active any more, gyre_loop_run() returns. */
}

static void start(struct server *server, const struct echo_options *options)
{
    const int listener = echo_listen(options, 0);

    gyre_op_init(&server->accept, on_accepted);
    gyre_op_init(&server->signal, on_signal);
    gyre_op_init(&server->close_listener, on_server_closed);
    gyre_op_init(&server->close_signals, on_server_closed);
    gyre_echo_must(gyre_fd_init(&server->listener, server->loop, listener), "attach");
    gyre_echo_must(gyre_fd_init(&server->signals, server->loop, echo_signal_fd()), "attach");
    gyre_echo_must(gyre_op_accept(&server->accept, &server->listener, GYRE_MULTISHOT), "accept");
    gyre_echo_must(gyre_op_poll(&server->signal, &server->signals, POLLIN, 0), "poll");
    gyre_echo_announce(server->loop, listener);
}

static void stop(struct server *server)
{
    gyre_echo_print_stats(server->loop);
    while (server->spare != NULL) {
        struct reply *reply = server->spare;

        server->spare = reply->next;
        free(reply);
    }
    gyre_echo_must(gyre_loop_destroy(server->loop), "destroy");
}

int main(int argc, char **argv)
{
    struct gyre_echo_options options;
    struct server server = {0};

    gyre_echo_parse(argc, argv, "Sends back what it receives, on the operations of gyre.",
                    &options);
    echo_raise_fd_limit();
    server.loop = gyre_echo_loop(&options.loop);
    start(&server, &options.echo);
    gyre_echo_must(gyre_loop_run(server.loop, GYRE_RUN_DEFAULT), "run");
    stop(&server);
    return EXIT_SUCCESS;
}
