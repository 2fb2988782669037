/* HTTP requests; see request.h. The section numbers are those of RFC 9112 unless another is named. */
#include "request.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static int text_is(const struct request_text *text, const char *word)
{
    return text->len == strlen(word) && strncasecmp(text->at, word, text->len) == 0;
}

static struct request_text trimmed(struct request_text text)
{
    while (text.len > 0 && (text.at[text.len - 1] == ' ' || text.at[text.len - 1] == '\t')) {
        text.len--;
    }
    return text;
}

/* ---- header fields ---- */

/* Of an Internet name, an address, and a port (RFC 3986, 3.2.2). */
static int is_host(const struct request_text *text)
{
    for (size_t i = 0; i < text->len; i++) {
        const unsigned char c = (unsigned char)text->at[i];

        if (!isalnum(c) && (c == '\0' || strchr("-._~!$&'()*+,;=:[]%", c) == NULL)) {
            return 0;
        }
    }
    return 1;
}

/* Where a field may stand only once, the second is ignored together with the first. */
static void keep_once(struct request_text *kept, const struct request_text *value)
{
    *kept = kept->at == NULL ? *value : (struct request_text){.at = value->at};
}

/* A whole header field. Most are of no interest: their length tells. */
static void take_field(struct request *request)
{
    const struct request_text *name = &request->field;
    const struct request_text value = trimmed(request->value);

    switch (name->len) {
    case sizeof("Host") - 1:
        if (text_is(name, "Host")) {
            request->hosts++;
            request->status = is_host(&value) ? request->status : HTTP_STATUS_BAD_REQUEST;
        }
        break;
    case sizeof("Range") - 1:
        if (text_is(name, "Range")) {
            keep_once(&request->range, &value);
        }
        break;
    case sizeof("Expect") - 1:
        if (text_is(name, "Expect")) {
            request->wants_continue = text_is(&value, "100-continue");
        }
        break;
    case sizeof("If-Range") - 1:
        if (text_is(name, "If-Range")) {
            keep_once(&request->if_range, &value);
        }
        break;
    case sizeof("If-Modified-Since") - 1: /* as long as Transfer-Encoding */
        if (text_is(name, "If-Modified-Since")) {
            keep_once(&request->if_modified_since, &value);
        } else if (text_is(name, "Transfer-Encoding")) {
            request->codings++;
            if (!text_is(&value, "chunked")) {
                request->status = HTTP_STATUS_NOT_IMPLEMENTED;
            }
        }
        break;
    default:
        break;
    }
}

/* ---- what http_parser calls ---- */

static int refuse(struct request *request, int status)
{
    request->status = status;
    return -1; /* makes the parser stop */
}

static int on_url(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;

    if (request->target.at == NULL) {
        request->target.at = at;
    }
    request->target.len += len;
    return 0;
}

static int on_field(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;

    if (request->field.at != NULL && request->value.at == NULL) {
        request->field.len += len; /* the rest of a name that came in pieces */
    } else {
        if (request->field.at != NULL) {
            take_field(request);
        }
        if (request->fields++ == REQUEST_FIELDS_MAX) {
            return refuse(request, HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        request->field = (struct request_text){.at = at, .len = len};
        request->value = (struct request_text){0};
    }
    /* 5.1: no space before the colon. The parser takes "Content-Length : 5" for another field. */
    return memchr(at, ' ', len) == NULL ? 0 : refuse(request, HTTP_STATUS_BAD_REQUEST);
}

static int on_value(http_parser *parser, const char *at, size_t len)
{
    struct request *request = parser->data;

    if (request->value.at == NULL) {
        request->value.at = at;
    }
    request->value.len += len;
    /* 5.5: no control bytes. The parser looks at all of a value but its first byte. */
    return len > 0 && iscntrl((unsigned char)*at) && *at != '\t'
               ? refuse(request, HTTP_STATUS_BAD_REQUEST)
               : 0;
}

static int on_whole(http_parser *parser)
{
    struct request *request = parser->data;

    if (request->field.at != NULL) {
        take_field(request);
    }
    request->is_whole = 1;
    request->keep_alive = http_should_keep_alive(parser);
    request->body_len = parser->flags & F_CONTENTLENGTH ? parser->content_length : 0;
    http_parser_pause(parser, 1); /* the body, if any, is counted by whoever reads it */
    return 0;
}

static const http_parser_settings settings = {
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_whole,
};

/* ---- what http_parser lets pass ---- */

/*
 * 2.2: every line ends with CR LF, the empty one too, and neither is anywhere else. 5.2: no line
 * begins with a space, which once meant "continued". As Debian builds it, the parser takes any byte
 * behind a CR for the LF in some places, so a field could hide in another's line.
 */
static int are_lines_well_formed(const char *head, size_t len)
{
    const char *const end = head + len;

    for (const char *at = head; at < end;) {
        const char *const cr = memchr(at, '\r', (size_t)(end - at));

        if (cr == NULL || cr + 1 == end || cr[1] != '\n' || *at == ' ' || *at == '\t' ||
            memchr(at, '\n', (size_t)(cr - at)) != NULL) {
            return 0;
        }
        at = cr + 2;
    }
    return len >= 4 && memcmp(end - 4, "\r\n\r\n", 4) == 0;
}

/* 3.2: printable ASCII only. */
static int is_target_well_formed(const struct request_text *target)
{
    for (size_t i = 0; i < target->len; i++) {
        if (target->at[i] <= ' ' || target->at[i] >= 0x7f || target->at[i] == '#') {
            return 0;
        }
    }
    return 1;
}

/* 3: exactly "METHOD target HTTP/x.y" and the end of the line. */
static int is_request_line_well_formed(const struct request *request, const char *head, size_t len)
{
    const char *const method = http_method_str((enum http_method)request->parser.method);
    const size_t method_len = strlen(method);
    const size_t target_at = (size_t)(request->target.at - head);
    const size_t target_end = target_at + request->target.len;
    const char *const after = head + target_end;

    if (target_at < method_len + 1 || len - target_end < strlen(" HTTP/x.y\r\n")) {
        return 0;
    }
    return memcmp(head + target_at - 1 - method_len, method, method_len) == 0 &&
           head[target_at - 1] == ' ' &&
           (target_at == method_len + 1 || head[target_at - method_len - 2] == '\n') &&
           memcmp(after, " HTTP/", strlen(" HTTP/")) == 0 &&
           memcmp(after + strlen(" HTTP/x.y"), "\r\n", 2) == 0 &&
           is_target_well_formed(&request->target);
}

static int is_line_too_long(const char *data, size_t len)
{
    return len >= REQUEST_LINE_MAX && memchr(data, '\n', REQUEST_LINE_MAX) == NULL;
}

static int check_version(const struct request *request)
{
    if (request->parser.http_major != 1) {
        return request->parser.http_major == 0 ? HTTP_STATUS_BAD_REQUEST
                                               : HTTP_STATUS_HTTP_VERSION_NOT_SUPPORTED;
    }
    /* 3.2: once, and HTTP/1.0 may do without. */
    return request->hosts == 1 || (request->hosts == 0 && request->parser.http_minor == 0)
               ? 0
               : HTTP_STATUS_BAD_REQUEST;
}

/* 6.3: a body whose length is told in two ways is an attack. 411 is the answer to chunks: there is
 * nothing here that anybody could want to send a long body to. */
static int check_body(const struct request *request)
{
    const int has_length = (request->parser.flags & F_CONTENTLENGTH) != 0;

    if (request->codings > 1 ||
        (request->codings == 1 && (has_length || request->parser.http_minor == 0))) {
        return HTTP_STATUS_BAD_REQUEST;
    }
    if (request->codings == 1) {
        return request->status != 0 ? request->status : HTTP_STATUS_LENGTH_REQUIRED;
    }
    return request->body_len > REQUEST_BODY_MAX ? HTTP_STATUS_PAYLOAD_TOO_LARGE : 0;
}

/* Returns the length of the head, or the negative status that refuses it. */
static int check_head(struct request *request, const char *head, size_t len)
{
    int status = HTTP_STATUS_BAD_REQUEST;

    if (is_line_too_long(head, len)) {
        status = HTTP_STATUS_URI_TOO_LONG;
    } else if (are_lines_well_formed(head, len) &&
               is_request_line_well_formed(request, head, len)) {
        status = check_version(request);
        status = status != 0 ? status : check_body(request);
        status = status != 0 ? status : request->status;
    }
    request->status = status;
    return status == 0 ? (int)len : -status;
}

/* ---- parsing ---- */

void request_init(struct request *request)
{
    memset(request, 0, sizeof(*request));
    http_parser_init(&request->parser, HTTP_REQUEST);
    request->parser.data = request;
}

/* A method that the parser does not know is no mistake of the peer's, if it is a word. */
static int status_of_method(const char *data, size_t len)
{
    size_t start = 0;
    size_t i;

    while (start < len && (data[start] == '\r' || data[start] == '\n')) {
        start++;
    }
    for (i = start; i < len && data[i] != ' '; i++) {
        if (!isalnum((unsigned char)data[i]) && data[i] != '-' && data[i] != '_') {
            return HTTP_STATUS_BAD_REQUEST;
        }
    }
    return i > start ? HTTP_STATUS_NOT_IMPLEMENTED : HTTP_STATUS_BAD_REQUEST;
}

static int status_of_error(const struct request *request, const char *data, size_t len)
{
    if (request->status != 0) {
        return request->status;
    }
    return HTTP_PARSER_ERRNO(&request->parser) == HPE_INVALID_METHOD ? status_of_method(data, len)
                                                                     : HTTP_STATUS_BAD_REQUEST;
}

int request_parse(struct request *request, const char *data, size_t len)
{
    const size_t most = len < REQUEST_HEAD_MAX ? len : REQUEST_HEAD_MAX;

    request->parsed += http_parser_execute(&request->parser, &settings, data + request->parsed,
                                           most - request->parsed);
    if (request->is_whole) {
        return check_head(request, data, request->parsed + 1); /* it paused at the last LF */
    }
    if (HTTP_PARSER_ERRNO(&request->parser) != HPE_OK) {
        request->status = status_of_error(request, data, most);
        return -request->status;
    }
    if (is_line_too_long(data, most)) {
        request->status = HTTP_STATUS_URI_TOO_LONG;
        return -request->status;
    }
    if (most == REQUEST_HEAD_MAX) {
        request->status = HTTP_STATUS_REQUEST_HEADER_FIELDS_TOO_LARGE;
        return -request->status;
    }
    return 0;
}

/* ---- the target ---- */

/* 3.2: "/path?query", or with scheme and host before it, as proxies are asked. */
static int find_path(const struct request_text *target, struct request_text *out_path)
{
    struct http_parser_url url;
    const char *query;

    *out_path = *target;
    if (target->len > 0 && target->at[0] != '/') {
        http_parser_url_init(&url);
        if (http_parser_parse_url(target->at, target->len, 0, &url) != 0 ||
            !(url.field_set & 1u << UF_HOST)) {
            return -HTTP_STATUS_BAD_REQUEST;
        }
        *out_path = (struct request_text){.at = "/", .len = 1};
        if (url.field_set & 1u << UF_PATH) {
            out_path->at = target->at + url.field_data[UF_PATH].off;
            out_path->len = url.field_data[UF_PATH].len;
        }
    }
    query = memchr(out_path->at, '?', out_path->len);
    if (query != NULL) {
        out_path->len = (size_t)(query - out_path->at);
    }
    return 0;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at @at, which may be written as %XX. Returns how many characters that took, 0 if it is
 * not well written or a zero, which no path may have. */
static size_t decode_byte(const char *at, size_t len, char *out_byte)
{
    int high;
    int low;

    if (*at != '%') {
        *out_byte = *at;
        return 1;
    }
    high = len > 2 ? hex_digit(at[1]) : -1;
    low = len > 2 ? hex_digit(at[2]) : -1;
    if (high < 0 || low < 0 || (high == 0 && low == 0)) {
        return 0;
    }
    *out_byte = (char)(high * 16 + low);
    return 3;
}

static int has_dot_segment(const char *path)
{
    for (const char *at = strstr(path, ".."); at != NULL; at = strstr(at + 1, "..")) {
        if ((at == path || at[-1] == '/') && (at[2] == '/' || at[2] == '\0')) {
            return 1;
        }
    }
    return 0;
}

int request_path(const struct request *request, char path[REQUEST_PATH_SIZE])
{
    struct request_text encoded;
    size_t len = 0;
    int rc = find_path(&request->target, &encoded);

    for (size_t i = 1; rc == 0 && i < encoded.len;) { /* 1: without the slash */
        const size_t taken = decode_byte(encoded.at + i, encoded.len - i, &path[len]);

        if (taken == 0) {
            return -HTTP_STATUS_BAD_REQUEST;
        }
        i += taken;
        if (++len == REQUEST_PATH_SIZE) {
            return -HTTP_STATUS_URI_TOO_LONG;
        }
    }
    path[len] = '\0';
    rc = rc == 0 && has_dot_segment(path) ? -HTTP_STATUS_BAD_REQUEST : rc;
    return rc < 0 ? rc : (int)len;
}

/* ---- ranges ---- */

/* A number of the text, which moves past it. Returns 0 if there is none. A number too large is as
 * good as the largest. */
static int take_number(struct request_text *text, uint64_t *out_number)
{
    uint64_t number = 0;
    const char *const start = text->at;

    while (text->len > 0 && *text->at >= '0' && *text->at <= '9') {
        const unsigned digit = (unsigned)(*text->at - '0');

        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
        text->at++;
        text->len--;
    }
    *out_number = number;
    return text->at > start;
}

enum range request_range(const struct request *request, uint64_t size, uint64_t *out_from,
                         uint64_t *out_len)
{
    static const char unit[] = "bytes=";
    struct request_text text = request->range;
    uint64_t first = 0;
    uint64_t last = UINT64_MAX;
    int has_first;
    int has_last;

    if (text.len < strlen(unit) || strncasecmp(text.at, unit, strlen(unit)) != 0) {
        return RANGE_NONE;
    }
    text.at += strlen(unit);
    text.len -= strlen(unit);
    has_first = take_number(&text, &first);
    if (text.len == 0 || *text.at != '-') {
        return RANGE_NONE;
    }
    text.at++;
    text.len--;
    has_last = take_number(&text, &last);
    if (text.len > 0 || (!has_first && !has_last) || (has_first && has_last && last < first)) {
        return RANGE_NONE;
    }
    if (!has_first) { /* the last so many */
        first = last < size ? size - last : 0;
    }
    if (!has_first || !has_last) {
        last = UINT64_MAX;
    }
    if (first >= size || last < first) {
        return RANGE_BEYOND;
    }
    *out_from = first;
    *out_len = (last < size ? last + 1 : size) - first;
    return RANGE_PART;
}
