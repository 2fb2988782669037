/*
 * Requests of the example web server: the same request, or refusal, whether it comes whole or byte
 * by byte; nothing that is accepted breaks what the server relies on.
 */
#include "fuzz.h"

#include "request.h"

#include <string.h>

static void check_text(const struct request_text *text, const uint8_t *data, size_t len)
{
    if (text->at != NULL) {
        FUZZ_EXPECT((const uint8_t *)text->at >= data &&
                    (const uint8_t *)text->at + text->len <= data + len);
    }
}

static void check_path(const struct request *request)
{
    char path[REQUEST_PATH_SIZE];
    const int len = request_path(request, path);

    FUZZ_EXPECT(len >= 0 || (len <= -400 && len >= -499));
    if (len < 0) {
        return;
    }
    FUZZ_EXPECT(strlen(path) == (size_t)len && len < REQUEST_PATH_SIZE);
    for (const char *at = path; at != NULL; at = strchr(at, '/')) {
        at += *at == '/';
        FUZZ_EXPECT(strncmp(at, "..", 2) != 0 || (at[2] != '/' && at[2] != '\0'));
    }
}

static void check_range(const struct request *request)
{
    static const uint64_t sizes[] = {0, 1, 1000, UINT64_MAX};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint64_t from = 0;
        uint64_t len = 0;

        if (request_range(request, sizes[i], &from, &len) == RANGE_PART) {
            FUZZ_EXPECT(len > 0 && from < sizes[i] && len <= sizes[i] - from);
        }
    }
}

/* The head that was accepted has the shape that RFC 9112 demands, whatever the parser forgave. */
static void check_head(const struct request *request, const uint8_t *head, size_t len)
{
    FUZZ_EXPECT(len >= 4 && len <= REQUEST_HEAD_MAX && memcmp(head + len - 4, "\r\n\r\n", 4) == 0);
    for (size_t i = 0; i < len; i++) {
        FUZZ_EXPECT(head[i] >= ' ' || strchr("\t\r\n", head[i]) != NULL);
        FUZZ_EXPECT(head[i] != '\0' && head[i] != 0x7f);
        FUZZ_EXPECT(head[i] != '\n' || (i > 0 && head[i - 1] == '\r'));
        FUZZ_EXPECT(head[i] != '\r' || head[i + 1] == '\n');
        FUZZ_EXPECT(head[i] != '\n' || i + 1 == len || (head[i + 1] != ' ' && head[i + 1] != '\t'));
    }
    FUZZ_EXPECT(request->parser.http_major == 1 && request->body_len <= REQUEST_BODY_MAX);
    FUZZ_EXPECT(request->codings == 0 && request->hosts <= 1);
    FUZZ_EXPECT(request->hosts == 1 || request->parser.http_minor == 0);
    check_text(&request->target, head, len);
    check_text(&request->range, head, len);
    check_text(&request->if_range, head, len);
    check_text(&request->if_modified_since, head, len);
    check_path(request);
    check_range(request);
}

static int parse_bytewise(struct request *request, const char *data, size_t size)
{
    int rc = 0;

    request_init(request);
    for (size_t len = 1; len <= size && rc == 0; len++) {
        rc = request_parse(request, data, len);
    }
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    struct request whole;
    struct request bytewise;
    int rc;

    if (size == 0) {
        return 0;
    }
    request_init(&whole);
    rc = request_parse(&whole, text, size);
    FUZZ_EXPECT(rc > -600 && (rc >= 0 || rc <= -400) && (rc <= 0 || (size_t)rc <= size));
    FUZZ_EXPECT(parse_bytewise(&bytewise, text, size) == rc ||
                (rc < 0 && bytewise.status >= 400)); /* the reason may show earlier */
    if (rc > 0) {
        FUZZ_EXPECT(whole.keep_alive == bytewise.keep_alive && whole.fields == bytewise.fields &&
                    whole.target.at == bytewise.target.at &&
                    whole.target.len == bytewise.target.len);
        check_head(&whole, data, (size_t)rc);
    }
    return 0;
}
