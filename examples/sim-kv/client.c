/* The clients of the simulation; see client.h. */
#include "sim-kv/client.h"

#include <stdio.h>
#include <string.h>

enum {
    RETRY_MS = 50,
    THINK_MS = 200,
    OUT_MAX = HISTORY_VALUE_MAX + 64,
};

static struct client *client_of(struct gyre_stream *stream)
{
    return gyre_container_of(stream, struct client, stream);
}

static uint64_t below(struct client *client, uint64_t limit)
{
    return gyre_sim_random(client->sim) % limit;
}

static void wait_ms(struct client *client, uint64_t limit_ms)
{
    if (gyre_timer_start(&client->timer, below(client, limit_ms * GYRE_MSEC)) < 0) {
        gyre_sim_fail(client->sim, "a client's timer does not start");
    }
}

/* ---- requests ---- */

/* Whether the write has a number: a key can be written so often only. */
static int begin_write(struct client *client, struct request *request, size_t len)
{
    const unsigned own = HISTORY_KEYS / client->count;

    request->key = client->index + client->count * (unsigned)below(client, own);
    request->number = history_write(client->history, request->key, len);
    return request->number != 0;
}

static size_t print_set(struct client *client, const struct request *request, size_t len, char *out)
{
    const int head = snprintf(out, OUT_MAX, "SET k%u %zu\n", request->key, len);

    gyre_sim_note(client->sim, "%s: SET k%u#%u, %zu bytes", client->name, request->key,
                  request->number, len);
    history_fill(request->key, request->number, (unsigned char *)out + head, len);
    out[(size_t)head + len] = '\n';
    return (size_t)head + len + 1;
}

/* Chooses a request and prints it; returns its length, 0: none. */
static size_t choose(struct client *client, struct request *request, char *out)
{
    static const size_t lens[] = {16, 800, HISTORY_VALUE_MAX};
    const size_t len = lens[below(client, sizeof(lens) / sizeof(lens[0]))];

    switch (below(client, 10)) {
    case 0:
        request->kind = REQUEST_DELETE;
        if (!begin_write(client, request, 0)) {
            return 0;
        }
        gyre_sim_note(client->sim, "%s: DELETE k%u#%u", client->name, request->key,
                      request->number);
        return (size_t)snprintf(out, OUT_MAX, "DELETE k%u\n", request->key);
    case 1:
    case 2:
    case 3:
    case 4:
        request->kind = REQUEST_SET;
        return begin_write(client, request, len) ? print_set(client, request, len, out) : 0;
    default:
        request->kind = REQUEST_GET;
        request->key = (unsigned)below(client, HISTORY_KEYS);
        request->number = history_read(client->history, request->key);
        gyre_sim_note(client->sim, "%s: GET k%u", client->name, request->key);
        return (size_t)snprintf(out, OUT_MAX, "GET k%u\n", request->key);
    }
}

static void send_request(struct client *client)
{
    struct request *request = &client->request[client->request_count];
    char out[OUT_MAX];
    const size_t len = choose(client, request, out);

    client->requests_left--;
    if (len == 0) {
        return;
    }
    client->request_count++;
    if (gyre_stream_write(&client->stream, out, len) < 0) {
        gyre_stream_reset(&client->stream); /* it counts as lost */
    }
}

static void send_requests(struct client *client)
{
    const unsigned most = 1 + (unsigned)below(client, CLIENT_REQUESTS_MAX);

    while (client->requests_left > 0 && client->request_count < most &&
           gyre_stream_writable(&client->stream)) {
        send_request(client);
    }
    if (client->requests_left == 0 && client->request_count == 0) {
        gyre_stream_close(&client->stream);
    }
}

/* ---- replies ---- */

static void end_write(struct client *client, const struct request *request, enum write_fate fate)
{
    static const char *const words[] = {"sent", "done", "refused", "lost"};

    gyre_sim_note(client->sim, "%s: k%u#%u is %s", client->name, request->key, request->number,
                  words[fate]);
    history_write_end(client->history, request->key, request->number, fate);
}

static void end_read(struct client *client, const struct request *request,
                     const unsigned char *value, size_t len)
{
    const unsigned number =
        history_read_end(client->history, request->key, request->number, value, len);

    gyre_sim_note(client->sim, "%s: k%u is %s k%u#%u", client->name, request->key,
                  value != NULL ? "that of" : "gone since", request->key, number);
}

/* The oldest request is answered. */
static void end_request(struct client *client)
{
    client->request_count--;
    memmove(client->request, client->request + 1,
            client->request_count * sizeof(client->request[0]));
    if (client->request_count == 0) {
        wait_ms(client, 1 + below(client, THINK_MS));
    }
}

/* OK, NONE and FULL answer some requests and not others. */
static void take_word(struct client *client)
{
    const struct request *request = &client->request[0];
    const int none = strcmp(client->line, "NONE") == 0;

    if (request->kind == REQUEST_GET && none) {
        end_read(client, request, NULL, 0);
    } else if (strcmp(client->line, "OK") == 0 && request->kind != REQUEST_GET) {
        end_write(client, request, WRITE_DONE);
    } else if (none && request->kind == REQUEST_DELETE) {
        end_write(client, request, WRITE_DONE);
    } else if (strcmp(client->line, "FULL") == 0 && request->kind == REQUEST_SET) {
        end_write(client, request, WRITE_REFUSED);
    } else {
        history_break(client->history, "%s: '%s' is no answer to its request", client->name,
                      client->line);
    }
    end_request(client);
}

static void take_line(struct client *client)
{
    char end;

    client->line[client->line_len] = '\0';
    client->line_len = 0;
    if (client->request_count == 0) {
        history_break(client->history, "%s: '%s' answers nothing", client->name, client->line);
    } else if (sscanf(client->line, "VALUE %zu%c", &client->value_len, &end) != 1) {
        take_word(client);
    } else if (client->request[0].kind != REQUEST_GET || client->value_len > HISTORY_VALUE_MAX) {
        history_break(client->history, "%s: '%s' is no answer to its request", client->name,
                      client->line);
    } else {
        client->value_missing = client->value_len + 1;
    }
}

static void take_value_byte(struct client *client, unsigned char byte)
{
    client->value[client->value_len + 1 - client->value_missing] = byte;
    if (--client->value_missing > 0) {
        return;
    }
    if (byte != '\n') {
        history_break(client->history, "%s: a value has no end", client->name);
    }
    end_read(client, &client->request[0], client->value, client->value_len);
    end_request(client);
}

static void take_byte(struct client *client, unsigned char byte)
{
    if (client->value_missing > 0) {
        take_value_byte(client, byte);
    } else if (byte == '\n') {
        take_line(client);
    } else if (client->line_len + 1 < sizeof(client->line)) {
        client->line[client->line_len++] = (char)byte;
    } else {
        history_break(client->history, "%s: a line of a reply is too long", client->name);
    }
}

/* ---- the connection ---- */

static void on_open(struct gyre_stream *stream)
{
    struct client *client = client_of(stream);

    client->is_open = 1;
    client->line_len = 0;
    client->value_missing = 0;
    send_requests(client);
}

static void on_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    for (size_t i = 0; i < data->len; i++) {
        take_byte(client_of(stream), data->data[i]);
    }
}

/* What was not answered is lost: it may have been carried out, or may be yet. */
static void on_close(struct gyre_stream *stream, int error)
{
    struct client *client = client_of(stream);

    gyre_sim_note(client->sim, "%s: connection ended: %s", client->name, gyre_error_name(error));
    for (unsigned i = 0; i < client->request_count; i++) {
        if (client->request[i].kind != REQUEST_GET) {
            end_write(client, &client->request[i], WRITE_LOST);
        }
    }
    client->request_count = 0;
    client->is_open = 0;
    gyre_timer_stop(&client->timer);
    if (client->requests_left > 0) {
        wait_ms(client, RETRY_MS);
    }
}

static const struct gyre_stream_handler handler = {
    .on_open = on_open,
    .on_data = on_data,
    .on_close = on_close,
    .connect_timeout_ns = 2 * GYRE_SEC,
    .idle_timeout_ns = 3 * GYRE_SEC,
    .close_timeout_ns = 2 * GYRE_SEC,
};

static void on_timer(struct gyre_timer *timer)
{
    struct client *client = gyre_container_of(timer, struct client, timer);

    if (client->is_open) {
        send_requests(client);
    } else if (gyre_stream_connect(&client->stream, client->loop, &client->server, &handler) < 0) {
        wait_ms(client, RETRY_MS);
    }
}

int client_main(void *context)
{
    struct client *client = context;

    while (gyre_loop_create(&client->loop, NULL) < 0) { /* faults strike here too */
        gyre_sim_sleep(RETRY_MS * GYRE_MSEC);
    }
    if (gyre_timer_init(&client->timer, client->loop, on_timer) < 0) {
        return 1;
    }
    wait_ms(client, RETRY_MS);
    return gyre_loop_run(client->loop, GYRE_RUN_DEFAULT) < 0 || gyre_loop_destroy(client->loop) < 0;
}
