/*
 * The head of an HTTP/1.x request: what is between the first byte and the empty line. It knows no
 * sockets: bytes in, a request or a refusal out. So it can be tested, and fuzzed, alone.
 *
 * The parsing is http_parser's (https://github.com/nodejs/http-parser). It forgives a lot, for the
 * sake of old peers. Two programs in a row that forgive differently see different requests in the
 * same bytes (request smuggling), so what RFC 9112 does not allow is refused beside it.
 */
#ifndef WEB_REQUEST_H
#define WEB_REQUEST_H

#include <http_parser.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    REQUEST_HEAD_MAX = 8192,    /* bytes up to the empty line, included: else 431 */
    REQUEST_LINE_MAX = 4096,    /* of them, in the first line: else 414 */
    REQUEST_FIELDS_MAX = 100,   /* header fields: else 431 */
    REQUEST_BODY_MAX = 1 << 16, /* bytes of a body, which nobody looks at: else 413 */
    REQUEST_PATH_SIZE = 1024,   /* a decoded path and its terminating zero: else 414 */
};

/* A part of the head, where it lies. */
struct request_text {
    const char *at;
    size_t len;
};

/* The fields below parser and parsed hold once the head is whole; the texts point into it. */
struct request {
    http_parser parser;
    size_t parsed; /* bytes that the parser has seen */
    struct request_text target;
    struct request_text field; /* of the header field being parsed: its name ... */
    struct request_text value; /* ... and its value, or NULL if that has not begun */
    struct request_text range;
    struct request_text if_range;
    struct request_text if_modified_since;
    uint64_t body_len;
    unsigned fields;
    unsigned hosts;     /* how many Host fields there were */
    unsigned codings;   /* how many Transfer-Encoding fields */
    int status;         /* an HTTP status that refuses the request, or 0 */
    int is_whole;       /* the empty line has been seen */
    int keep_alive;     /* the connection is to stay open */
    int wants_continue; /* Expect: 100-continue */
};

void request_init(struct request *request);

/*
 * Parses a head. @data, @len: all of the connection's bytes from the request's first on, also those
 * of earlier calls, at the same address. Returns the length of the head, 0 if it is not whole yet,
 * or the negative HTTP status to refuse it with; then the connection cannot go on, for nobody knows
 * where the next request begins.
 */
int request_parse(struct request *request, const char *data, size_t len);

/*
 * The path that a whole request asks for, percent-decoded once, without query and the leading
 * slash, and zero-terminated. No segment of it is "..". Returns its length, or a negative HTTP
 * status.
 */
int request_path(const struct request *request, char path[REQUEST_PATH_SIZE]);

enum range { RANGE_NONE, RANGE_PART, RANGE_BEYOND };

/*
 * The part of @size bytes that a Range field asks for: bytes=1-2, bytes=1-, or bytes=-2. RANGE_NONE:
 * all of them, also when it is not understood or asks for several parts (RFC 9110, 14.2).
 * RANGE_BEYOND: none of them exist.
 */
enum range request_range(const struct request *request, uint64_t size, uint64_t *out_from,
                         uint64_t *out_len);

static inline int request_is_head(const struct request *request)
{
    return request->parser.method == HTTP_HEAD;
}

#endif
