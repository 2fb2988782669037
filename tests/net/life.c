/*
 * A short life of everything: a listener, a stream to it that is echoed, a datagram to oneself, and
 * an end in order. failing_calls.py runs it under strace, which lets one system call fail. Whatever
 * fails, it is reported, and the end is the same: every on_close() once, nothing left open or
 * allocated.
 *
 * Exit status: 0: nothing failed; 3: something did, and was told; anything else is a defect.
 */
#include <dirent.h>
#include <gyre.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_BROKEN = 1, EXIT_TOLD = 3, LEN = 40000, PATIENCE_S = 2, HANGS_S = 8 };

static struct gyre_loop *loop;
static struct gyre_listener listener;
static struct gyre_stream client;
static struct gyre_dgram dgram;
static struct gyre_timer patience;
static size_t received;
static int listening, connected, bound; /* what is open */
static int told, ending, streams_left;

static void check(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "broken: %s\n", what);
        _exit(EXIT_BROKEN);
    }
}

static void tell(int rc)
{
    told |= rc < 0;
}

static void end(void)
{
    if (ending) {
        return;
    }
    ending = 1;
    gyre_timer_stop(&patience);
    if (listening) {
        check(gyre_listener_reset(&listener) == 0, "listener_reset");
    }
    if (connected) {
        check(gyre_stream_reset(&client) == 0, "stream_reset");
    }
    if (bound) {
        (void)gyre_dgram_close(&dgram); /* it may be closing already */
    }
}

static void end_if_done(void)
{
    if (told || (received == LEN && !bound)) {
        end();
    }
}

static void on_patience(struct gyre_timer *timer)
{
    (void)timer;
    tell(-1);
    end();
}

/* ---- the server ---- */

static void server_open(struct gyre_stream *stream)
{
    (void)stream;
    streams_left++;
}

static void server_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    tell(gyre_stream_forward(stream, data));
}

static void server_close(struct gyre_stream *stream, int error)
{
    (void)stream;
    (void)error; /* the client is told in its own way */
    streams_left--;
}

static const struct gyre_stream_handler server_handler = {
    .on_open = server_open,
    .on_data = server_data,
    .on_close = server_close,
    .close_timeout_ns = 100 * GYRE_MSEC,
};

static void listener_close(struct gyre_listener *closed, int error)
{
    (void)closed;
    check(listening && streams_left == 0, "the listener ends once, and last");
    listening = 0;
    tell(error);
    end_if_done();
}

/* ---- the client ---- */

static void client_open(struct gyre_stream *stream)
{
    static char bytes[LEN];

    tell(gyre_stream_write(stream, bytes, LEN));
    end_if_done();
}

static void client_data(struct gyre_stream *stream, const struct gyre_lease *data)
{
    (void)stream;
    received += data->len;
    check(received <= LEN, "no byte comes twice");
    if (received == LEN) {
        gyre_stream_close(stream);
    }
}

static void client_close(struct gyre_stream *stream, int error)
{
    (void)stream;
    check(connected, "the client ends once");
    connected = 0;
    told |= error < 0 || (!ending && received < LEN);
    end_if_done();
}

static const struct gyre_stream_handler client_handler = {
    .on_open = client_open,
    .on_data = client_data,
    .on_close = client_close,
    .close_timeout_ns = 100 * GYRE_MSEC,
};

/* ---- the datagram ---- */

static void got_datagram(struct gyre_dgram *from, const struct gyre_datagram *datagram)
{
    check(datagram->len == 5, "a datagram is whole");
    check(gyre_dgram_close(from) == 0, "dgram_close");
}

static void failed_datagram(struct gyre_dgram *from, int error, const struct gyre_addr *to)
{
    (void)from;
    (void)to;
    tell(error);
    end_if_done();
}

static void dgram_closed(struct gyre_dgram *closed)
{
    (void)closed;
    check(bound, "the socket ends once");
    bound = 0;
    end_if_done();
}

static const struct gyre_dgram_handler dgram_handler = {
    .on_datagram = got_datagram,
    .on_error = failed_datagram,
    .on_close = dgram_closed,
};

/* ---- beginning and end ---- */

static int begin_tcp(void)
{
    const struct gyre_listener_options options = {.handler = &server_handler,
                                                  .on_close = listener_close};
    struct gyre_addr address;
    int rc = gyre_listen(loop, &listener, "127.0.0.1:0", &options);

    listening = rc == 0;
    rc = rc < 0 ? rc : gyre_listener_address(&listener, &address);
    rc = rc < 0 ? rc : gyre_stream_connect(&client, loop, &address, &client_handler);
    connected = rc == 0;
    return rc;
}

static int begin_udp(void)
{
    struct gyre_addr address;
    int rc = gyre_addr_parse("127.0.0.1:0", &address);
    const struct gyre_dgram_options options = {
        .handler = &dgram_handler, .local = &address, .flags = GYRE_DGRAM_PACKET_INFO};

    rc = rc < 0 ? rc : gyre_dgram_open(&dgram, loop, &options);
    bound = rc == 0;
    rc = rc < 0 ? rc : gyre_dgram_local(&dgram, &address);
    return rc < 0 ? rc : gyre_dgram_send(&dgram, &address, "hello", 5);
}

static int open_descriptors(void)
{
    DIR *all = opendir("/proc/self/fd");
    int count = 0;

    check(all != NULL, "/proc/self/fd");
    while (readdir(all) != NULL) {
        count++;
    }
    closedir(all);
    return count;
}

int main(void)
{
    const int before = open_descriptors();

    alarm(HANGS_S);
    if (gyre_loop_create(&loop, NULL) < 0) {
        return gyre_allocator_live() == 0 && open_descriptors() == before ? EXIT_TOLD : EXIT_BROKEN;
    }
    check(gyre_timer_init(&patience, loop, on_patience) == 0, "timer_init");
    tell(gyre_timer_start(&patience, PATIENCE_S * GYRE_SEC));
    tell(begin_tcp());
    tell(begin_udp());
    end_if_done();
    if (gyre_loop_run(loop, GYRE_RUN_DEFAULT) < 0) {
        return EXIT_TOLD; /* a loop that cannot wait can end nothing */
    }
    check(!listening && !connected && !bound, "everything has ended");
    check(gyre_loop_destroy(loop) == 0, "destroy");
    check(gyre_allocator_live() == 0, "memory");
    check(open_descriptors() == before, "descriptors");
    return told ? EXIT_TOLD : 0;
}
