/* Whole streams: see stream.h. */
#include "stream.h"
#include "wire.h"

static void reader_arm(struct reader *reader)
{
    int rc;

    if (reader->mode == READER_PLAIN) {
        rc = gyre_op_recv(&reader->op, reader->fd, reader->buffer, sizeof reader->buffer, 0);
    } else {
        rc = gyre_op_recv_lease(&reader->op, reader->fd,
                                reader->mode == READER_MULTISHOT ? GYRE_MULTISHOT : 0);
    }
    if (rc == GYRE_ECLOSING && reader->results > 0) {
        reader->error = rc; /* what came last won the race against a close */
        reader->done = 1;
        return;
    }
    assert_int_equal(rc, 0);
}

static void reader_take(struct reader *reader, const struct gyre_result *result)
{
    const size_t len = (size_t)result->res;
    const uint8_t *data = reader->buffer;

    if (reader->mode == READER_PLAIN) {
        assert_null(result->lease);
    } else {
        assert_non_null(result->lease);
        assert_int_equal(result->lease->len, len);
        data = result->lease->data;
    }
    wire_check(data, len, reader->position);
    reader->position += len;
    reader->received += len;
    reader->results++;
}

static void on_received(struct gyre_op *op, const struct gyre_result *result)
{
    struct reader *reader = gyre_container_of(op, struct reader, op);

    assert_int_equal(reader->done, 0);
    if (result->res > 0) {
        reader_take(reader, result);
        assert_int_equal(result->flags, reader->mode == READER_MULTISHOT ? GYRE_MORE : 0);
        if (reader->mode != READER_MULTISHOT) {
            reader_arm(reader);
        }
        return;
    }
    assert_null(result->lease);
    assert_int_equal(result->flags & GYRE_MORE, 0);
    reader->error = result->res;
    reader->done = 1;
}

void reader_start(struct reader *reader, struct gyre_fd *fd, enum reader_mode mode,
                  uint64_t position)
{
    *reader = (struct reader){.fd = fd, .mode = mode, .position = position};
    gyre_op_init(&reader->op, on_received);
    reader_arm(reader);
}

void reader_wait(struct gyre_loop *loop, struct reader *reader, uint64_t total)
{
    while (reader->received < total) {
        assert_int_equal(reader->done, 0);
        assert_int_equal(gyre_loop_run(loop, GYRE_RUN_ONCE), 1);
    }
    assert_int_equal(reader->received, total);
}

void reader_end(struct gyre_loop *loop, struct reader *reader)
{
    test_turns_until(loop, &reader->done);
    assert_int_equal(reader->error, 0);
}

void reader_announce(enum reader_mode mode)
{
    static const char *const names[READER_MODES] = {"recv", "recv_lease", "recv_lease multishot"};

    print_message("reading by %s\n", names[mode]);
}

static void writer_arm(struct writer *writer)
{
    const size_t len =
        writer->left < sizeof writer->buffer ? (size_t)writer->left : sizeof writer->buffer;

    wire_fill(writer->buffer, len, writer->position);
    assert_int_equal(gyre_op_send(&writer->op, writer->fd, writer->buffer, len), 0);
}

static void on_sent(struct gyre_op *op, const struct gyre_result *result)
{
    struct writer *writer = gyre_container_of(op, struct writer, op);

    if (result->res < 0) {
        writer->error = result->res;
        writer->done = 1;
        return;
    }
    writer->position += (uint64_t)result->res;
    writer->left -= (uint64_t)result->res;
    if (writer->left > 0) {
        writer_arm(writer);
    } else {
        writer->done = 1;
    }
}

void writer_start(struct writer *writer, struct gyre_fd *fd, uint64_t total, uint64_t position)
{
    *writer = (struct writer){.fd = fd, .left = total, .position = position};
    gyre_op_init(&writer->op, on_sent);
    writer_arm(writer);
}
