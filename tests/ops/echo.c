/*
 * The echo server: see echo.h.
 *
 *     connection: SERVING --end of stream, error--> DRAINING --queue empty--> CLOSING --> idle list
 */
#include "echo.h"

#include <errno.h>
#include <stdlib.h>

enum echo_state { ECHO_SERVING, ECHO_DRAINING, ECHO_CLOSING };

/* Received bytes on their way back. */
struct echo_piece {
    struct gyre_lease lease;
    struct echo_piece *next;
};

struct echo_conn {
    struct echo_server *server;
    struct gyre_fd fd;
    struct gyre_op receive;
    struct gyre_op send;
    struct gyre_op close;
    struct echo_piece *first;
    struct echo_piece **last;
    struct echo_conn *next; /* on the idle list */
    enum echo_state state;
};

static struct echo_piece *piece_get(struct echo_server *server)
{
    struct echo_piece *piece = server->idle_pieces;

    if (piece == NULL) {
        piece = calloc(1, sizeof *piece);
        assert_non_null(piece);
        return piece;
    }
    server->idle_pieces = piece->next;
    piece->next = NULL;
    return piece;
}

static void drop_first(struct echo_conn *conn)
{
    struct echo_piece *piece = conn->first;

    conn->first = piece->next;
    if (conn->first == NULL) {
        conn->last = &conn->first;
    }
    gyre_lease_release(&piece->lease);
    piece->next = conn->server->idle_pieces;
    conn->server->idle_pieces = piece;
}

static void on_closed(struct gyre_op *op, const struct gyre_result *result)
{
    struct echo_conn *conn = gyre_container_of(op, struct echo_conn, close);
    struct echo_server *server = conn->server;

    assert_int_equal(result->res, 0);
    assert_false(gyre_op_active(&conn->receive));
    assert_false(gyre_op_active(&conn->send));
    while (conn->first != NULL) {
        drop_first(conn);
    }
    conn->next = server->idle_conns;
    server->idle_conns = conn;
    server->open--;
    server->closed++;
}

static void close_conn(struct echo_conn *conn)
{
    assert_int_not_equal(conn->state, ECHO_CLOSING);
    conn->state = ECHO_CLOSING;
    assert_int_equal(gyre_op_close(&conn->close, &conn->fd, 0), 0);
}

static void send_first(struct echo_conn *conn)
{
    const struct gyre_lease *lease = &conn->first->lease;

    assert_int_equal(gyre_op_send(&conn->send, &conn->fd, lease->data, lease->len), 0);
}

static void on_sent(struct gyre_op *op, const struct gyre_result *result)
{
    struct echo_conn *conn = gyre_container_of(op, struct echo_conn, send);
    const int all = result->res >= 0 && (size_t)result->res == conn->first->lease.len;

    conn->server->messages++;
    conn->server->bytes += result->res > 0 ? (uint64_t)result->res : 0;
    drop_first(conn);
    if (conn->state == ECHO_CLOSING) {
        return;
    }
    if (all && conn->first != NULL) {
        send_first(conn);
    } else if (!all || conn->state == ECHO_DRAINING) {
        close_conn(conn);
    }
}

static void on_received(struct gyre_op *op, const struct gyre_result *result)
{
    struct echo_conn *conn = gyre_container_of(op, struct echo_conn, receive);

    if (conn->state == ECHO_CLOSING) {
        return;
    }
    if (result->res <= 0) {
        conn->state = ECHO_DRAINING;
        if (conn->first == NULL) {
            close_conn(conn);
        }
        return;
    }
    struct echo_piece *piece = piece_get(conn->server);
    const int was_empty = conn->first == NULL;

    assert_int_equal(gyre_lease_retain(result->lease, &piece->lease), 0);
    *conn->last = piece;
    conn->last = &piece->next;
    if (was_empty) {
        send_first(conn);
    }
    if ((result->flags & GYRE_MORE) == 0) {
        assert_int_equal(gyre_op_recv_lease(&conn->receive, &conn->fd, GYRE_MULTISHOT), 0);
    }
}

static struct echo_conn *conn_get(struct echo_server *server)
{
    struct echo_conn *conn = server->idle_conns;

    if (conn == NULL) {
        conn = malloc(sizeof *conn);
        assert_non_null(conn);
    } else {
        server->idle_conns = conn->next;
    }
    *conn = (struct echo_conn){.server = server, .state = ECHO_SERVING};
    conn->last = &conn->first;
    return conn;
}

void echo_adopt(struct echo_server *server, int number)
{
    struct echo_conn *conn = conn_get(server);

    gyre_op_init(&conn->receive, on_received);
    gyre_op_init(&conn->send, on_sent);
    gyre_op_init(&conn->close, on_closed);
    trial_attach(server->loop, &conn->fd, number);
    assert_int_equal(gyre_op_recv_lease(&conn->receive, &conn->fd, GYRE_MULTISHOT), 0);
    server->open++;
    server->opened++;
}

static void on_accepted(struct trial *trial, const struct gyre_result *result)
{
    if (result->res >= 0) {
        echo_adopt(trial->context, result->res);
    } else {
        assert_int_equal(result->res, -ECANCELED);
    }
}

void echo_start(struct echo_server *server, struct gyre_loop *loop, int number)
{
    *server = (struct echo_server){.loop = loop};
    trial_init(&server->accepting, on_accepted, server);
    if (number >= 0) {
        trial_attach(loop, &server->listener, number);
        assert_int_equal(gyre_op_accept(&server->accepting.op, &server->listener, GYRE_MULTISHOT),
                         0);
    }
}

static void free_idle(struct echo_server *server)
{
    for (struct echo_conn *next; server->idle_conns != NULL; server->idle_conns = next) {
        next = server->idle_conns->next;
        free(server->idle_conns);
    }
    for (struct echo_piece *next; server->idle_pieces != NULL; server->idle_pieces = next) {
        next = server->idle_pieces->next;
        free(server->idle_pieces);
    }
}

void echo_end(struct echo_server *server)
{
    if (gyre_op_active(&server->accepting.op)) {
        trial_close(server->loop, &server->listener);
        assert_int_equal(server->accepting.finals, 1);
    }
    test_turns_until_count(server->loop, &server->closed, server->opened);
    assert_int_equal(server->open, 0);
    free_idle(server);
}
