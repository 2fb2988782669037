/* Addresses: parse and format, services. Catalogue I05, I06. */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum {
    ROUNDS = 20000, /* of the two fuzz cases, each */
    LONGEST = 200,  /* bytes of a mutated text */
};

/* Asserts that this is read, and written as @canonical. */
static void expect_text(const char *text, const char *canonical)
{
    struct gyre_addr addr;
    char got[GYRE_ADDR_TEXT_MAX];

    if (gyre_addr_parse(text, &addr) != 0) {
        fail_msg("refused: %s", text);
    }
    assert_int_equal(gyre_addr_format(&addr, got, sizeof got), strlen(canonical));
    assert_string_equal(got, canonical);
}

/* Asserts that this is refused so, and that the result is not touched. */
static void expect_refused(const char *text, int error)
{
    struct gyre_addr addr;
    struct gyre_addr before;

    memset(&addr, 0x5a, sizeof addr);
    memcpy(&before, &addr, sizeof addr);
    const int rc = gyre_addr_parse(text, &addr);
    if (rc != error) {
        fail_msg("%.80s: %s and not %s", text, gyre_error_name(rc), gyre_error_name(error));
    }
    assert_memory_equal(&addr, &before, sizeof addr);
}

static void addr_ipv4_is_read_and_written(void)
{
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_parse("127.0.0.1:80", &addr), 0);
    assert_int_equal(addr.len, sizeof addr.in);
    assert_int_equal(addr.in.sin_family, AF_INET);
    assert_int_equal(addr.in.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    assert_int_equal(addr.in.sin_port, htons(80));
    expect_text("127.0.0.1:80", "127.0.0.1:80");
    expect_text("0.0.0.0:0", "0.0.0.0:0");
    expect_text("255.255.255.255:65535", "255.255.255.255:65535");
}

static void addr_ipv6_is_read_and_written_as_rfc_5952_wants(void)
{
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_parse("[::1]:80", &addr), 0);
    assert_int_equal(addr.len, sizeof addr.in6);
    assert_int_equal(addr.in6.sin6_family, AF_INET6);
    assert_memory_equal(&addr.in6.sin6_addr, &in6addr_loopback, sizeof in6addr_loopback);
    assert_int_equal(addr.in6.sin6_port, htons(80));
    assert_int_equal(addr.in6.sin6_scope_id, 0);
    assert_int_equal(addr.in6.sin6_flowinfo, 0);
    expect_text("[::]:0", "[::]:0");
    expect_text("[2001:DB8:0:0:1:0:0:1]:65535", "[2001:db8::1:0:0:1]:65535");
    expect_text("[2001:0db8::0001]:1", "[2001:db8::1]:1");
    expect_text("[::ffff:192.0.2.1]:443", "[::ffff:192.0.2.1]:443");
    expect_text("[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:1",
                "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:1");
}

static void addr_ipv4_octal_hex_and_short_forms_are_refused(void)
{
    static const char *const texts[] = {
        "0177.0.0.1:80", "127.0.0.01:80", "00.0.0.0:80",       "0x7f.0.0.1:80", "0x7f000001:80",
        "127.1:80",      "127.0.1:80",    "2130706433:80",     "1:80",          "127.0.0.1.1:80",
        "127.0.0.:80",   ".127.0.0.1:80", "127..0.1:80",       "256.0.0.1:80",  "1.2.3.999:80",
        "1.2.3.-4:80",   "1.2.3.+4:80",   "1.2.3. 4:80",       " 1.2.3.4:80",   "1.2.3.4 :80",
        "1.2.3.4\n:80",  "1,2,3,4:80",    "1.2.3.4/24:80",     "1.2.3.4%lo:80", "[1.2.3.4]:80",
        "000.0.0.0:80",  "1.2.3.4:5:6",   "1.2.3.4\t:80",      "1.2.3.4,:80",   "1.2.3.4]:80",
        "[1.2.3.4:80",   "1.2.3.4.:80",   "\xd9\xa1.2.3.4:80",
    };

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        expect_refused(texts[i], -EINVAL);
    }
}

static void addr_ipv6_malformed_is_refused(void)
{
    static const char *const texts[] = {
        "::1",
        "::1:80",
        "fe80::1:80",
        "2001:db8::1",
        "[::1]",
        "[::1]80",
        "[::1] :80",
        "[::1:80",
        "::1]:80",
        "[[::1]]:80",
        "[::1]]:80",
        "[]:80",
        "[:]:80",
        "[:::]:80",
        "[::1::]:80",
        "[1:2:3:4:5:6:7]:80",
        "[1:2:3:4:5:6:7:8:9]:80",
        "[1:2:3:4:5:6:7:8::]:80",
        "[12345::]:80",
        "[::00001]:80",
        "[::g]:80",
        "[::1 ]:80",
        "[ ::1]:80",
        "[::-1]:80",
        "[::0x1]:80",
        "[::1.2.3]:80",
        "[::01.2.3.4]:80",
        "[::1.2.3.4:5]:80",
        "[::1/64]:80",
        "[::1%]:80",
        "[%lo]:80",
        "x[::1]:80",
        "[::1]x:80",
        "[::1]:80]:80",
        "[v1.x]:80",
    };

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        expect_refused(texts[i], -EINVAL);
    }
}

static void addr_port_is_decimal_and_in_range(void)
{
    static const char *const wrong[] = {
        "",   " 80", "80 ", "+80",  "-1",   "-0",  "0x50", "8e1",    "80a",    "http", "080",
        "00", "8 0", ":80", "80\n", "\t80", "80/", "80.",  "99999x", "65536 ", "٣",    "*",
    };
    static const char *const beyond[] = {
        "65536",
        "65537",
        "99999",
        "100000",
        "4294967296",
        "4294967376",
        "18446744073709551616",
        "340282366920938463463374607431768211536",
    };
    char text[128];

    for (size_t i = 0; i < TEST_COUNT(wrong); i++) {
        snprintf(text, sizeof text, "127.0.0.1:%s", wrong[i]);
        expect_refused(text, -EINVAL);
        snprintf(text, sizeof text, "[::1]:%s", wrong[i]);
        expect_refused(text, -EINVAL);
    }
    for (size_t i = 0; i < TEST_COUNT(beyond); i++) {
        snprintf(text, sizeof text, "127.0.0.1:%s", beyond[i]);
        expect_refused(text, -ERANGE);
        snprintf(text, sizeof text, "[::1]:%s", beyond[i]);
        expect_refused(text, -ERANGE);
    }
    for (unsigned port = 0; port <= 65535; port++) {
        struct gyre_addr addr;

        snprintf(text, sizeof text, "127.0.0.1:%u", port);
        assert_int_equal(gyre_addr_parse(text, &addr), 0);
        assert_int_equal(gyre_addr_port(&addr), port);
    }
}

static void addr_of_no_form_is_refused(void)
{
    static const char *const texts[] = {
        "",
        ":",
        ":80",
        "*:80",
        "localhost:80",
        "example.com:80",
        "localhost",
        "127.0.0.1",
        "80",
        "[",
        "]",
        "[]",
        "/run/a",
        "@a",
        "UNIX:/a",
        "unix",
        "unix/a",
        "tcp://1.2.3.4:80",
        " unix:/a",
        "Unix:/a",
        "unix :/a",
        "http://a/:80",
        "a@1.2.3.4:80",
        "1.2.3.4:80:",
        "unix:",
        "unix:\\",
        "unix:a\\y",
        "unix:\\x4",
        "unix:\\xg0",
        "unix:/a\\x0",
        "unix:\\x00",
        "unix:/\\x00",
    };

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        expect_refused(texts[i], -EINVAL);
    }
    expect_refused(NULL, -EINVAL);
    assert_int_equal(gyre_addr_parse("127.0.0.1:80", NULL), -EINVAL);
}

/* CVE-2016-10196 of another library: a long host in brackets. */
static void addr_kilobyte_inside_brackets_is_refused(void)
{
    char text[1100];

    for (size_t len = 1; len < 1024; len++) {
        static const char fill[] = "0:1f%.";

        memset(text + 1, fill[len % 6], len);
        text[0] = '[';
        memcpy(text + 1 + len, "]:80", sizeof "]:80");
        expect_refused(text, -EINVAL);
    }
    memset(text, '1', 1024);
    memcpy(text + 1024, ":80", sizeof ":80");
    expect_refused(text, -EINVAL);
    memset(text, '9', 1024);
    memcpy(text, "1.2.3.4:", 8);
    text[1024] = '\0';
    expect_refused(text, -ERANGE);
    memset(text, 'e', 1024);
    memcpy(text, "[fe80::1%", 9);
    memcpy(text + 1024, "]:80", sizeof "]:80");
    expect_refused(text, -ENODEV);
}

static void addr_zone_is_an_interface_or_a_number(void)
{
    const unsigned index = if_nametoindex("lo");
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr;

    assert_true(index > 0);
    assert_int_equal(gyre_addr_parse("[fe80::1%lo]:80", &addr), 0);
    assert_int_equal(addr.in6.sin6_scope_id, index);
    expect_text("[fe80::1%lo]:80", "[fe80::1%lo]:80");
    snprintf(text, sizeof text, "[fe80::1%%%u]:80", index);
    expect_text(text, "[fe80::1%lo]:80");
    expect_text("[fe80::1%4294967295]:80", "[fe80::1%4294967295]:80");
    expect_text("[ff02::1%1999999999]:1", "[ff02::1%1999999999]:1");
    expect_refused("[fe80::1%4294967296]:80", -ENODEV);
    expect_refused("[fe80::1%0]:80", -ENODEV);
    expect_refused("[fe80::1%01]:80", -ENODEV);
    expect_refused("[fe80::1%-1]:80", -ENODEV);
    expect_refused("[fe80::1%gyre-nowhere]:80", -ENODEV);
    expect_refused("[fe80::1%lo ]:80", -ENODEV);
    expect_refused("[fe80::1%lo%lo]:80", -ENODEV);
    expect_refused("[fe80::1%25lo]:80", -ENODEV);
    expect_refused("[fe80::1%]:80", -EINVAL);
    expect_refused("[fe80::1]%lo:80", -EINVAL);
    assert_int_equal(gyre_addr_parse_ip("fe80::1%lo", 7, &addr), 0);
    assert_int_equal(addr.in6.sin6_scope_id, index);
    assert_int_equal(gyre_addr_parse_ip("fe80::1%gyre-nowhere", 7, &addr), -ENODEV);
}

/* No descriptor left: a zone cannot be looked up, and everything else still works. */
static void addr_zone_without_descriptors_reports_emfile(void)
{
    struct rlimit none;
    struct rlimit before;
    struct gyre_addr addr;
    char text[GYRE_ADDR_TEXT_MAX];

    assert_int_equal(gyre_addr_parse("[fe80::1%lo]:80", &addr), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    const int zone = gyre_addr_parse("[fe80::1%lo]:80", &addr);
    const int plain = gyre_addr_parse("[fe80::1]:80", &addr);
    addr.in6.sin6_scope_id = 1;
    const int written = gyre_addr_format(&addr, text, sizeof text);
    const int service = gyre_service_port("http", "tcp");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(zone, -EMFILE);
    assert_int_equal(plain, 0);
    assert_true(written > 0);
    assert_string_equal(text, "[fe80::1%1]:80");
    assert_int_equal(service, -ENOENT);
}

static void addr_ip_without_port_is_read(void)
{
    static const char *const texts[] = {
        "",        "[",          "[]",   "[::1", "::1]",   "[1.2.3.4]", "1.2.3.4:80", "[::1]:80",
        "1.2.3",   "localhost",  "::1 ", "::1%", " ::1",   "01.2.3.4",  "unix:/a",    "unix:@a",
        "[[::1]]", "1.2.3.4%lo", ":",    "%lo",  "[::1]]", "1.2.3.4 ",  "0x1.2.3.4",  "12345::",
    };
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_parse_ip("192.0.2.1", 53, &addr), 0);
    assert_true(gyre_addr_format(&addr, text, sizeof text) > 0);
    assert_string_equal(text, "192.0.2.1:53");
    assert_int_equal(gyre_addr_parse_ip("2001:db8::1", 53, &addr), 0);
    assert_true(gyre_addr_format(&addr, text, sizeof text) > 0);
    assert_string_equal(text, "[2001:db8::1]:53");
    assert_int_equal(gyre_addr_parse_ip("[::1]", 65535, &addr), 0);
    assert_int_equal(gyre_addr_port(&addr), 65535);
    assert_int_equal(gyre_addr_parse_ip("::1", 65536, &addr), -ERANGE);
    assert_int_equal(gyre_addr_parse_ip("1.2.3.4", UINT_MAX, &addr), -ERANGE);
    assert_int_equal(gyre_addr_port(&addr), 65535);
    assert_int_equal(gyre_addr_parse_ip(NULL, 1, &addr), -EINVAL);
    assert_int_equal(gyre_addr_parse_ip("::1", 1, NULL), -EINVAL);
    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        if (gyre_addr_parse_ip(texts[i], 1, &addr) != -EINVAL) {
            fail_msg("not refused: %s", texts[i]);
        }
    }
}

static void addr_unix_is_read_and_written(void)
{
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_parse("unix:/run/a.sock", &addr), 0);
    assert_int_equal(addr.un.sun_family, AF_UNIX);
    assert_string_equal(addr.un.sun_path, "/run/a.sock");
    assert_int_equal(addr.len, offsetof(struct sockaddr_un, sun_path) + sizeof "/run/a.sock");
    assert_int_equal(gyre_addr_parse("unix:@name", &addr), 0);
    assert_memory_equal(addr.un.sun_path, "\0name", 5);
    assert_int_equal(addr.len, offsetof(struct sockaddr_un, sun_path) + 5);
    expect_text("unix:/run/a.sock", "unix:/run/a.sock");
    expect_text("unix:relative with space:80", "unix:relative with space:80");
    expect_text("unix:@name", "unix:@name");
    expect_text("unix:@", "unix:@");
    expect_text("unix:@@", "unix:@@");
    expect_text("unix:a@", "unix:a@");
    expect_text("unix:unix:@a", "unix:unix:@a");
    expect_text("unix:\\x40a", "unix:\\x40a");
    expect_text("unix:@a\\x00\\x0A\\x5cb", "unix:@a\\x00\\x0a\\x5cb");
    expect_text("unix:\n\x1b[2J\xff", "unix:\\x0a\\x1b[2J\\xff");
    expect_text("unix:\\x2f\\x72", "unix:/r");
}

static void addr_unix_longest_names_fit_and_longer_are_not_cut(void)
{
    char name[200];
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr;
    struct gyre_addr again;

    memset(name, '\xff', sizeof name);
    assert_int_equal(gyre_addr_unix(name, 108, &addr), -ENAMETOOLONG);
    assert_int_equal(gyre_addr_unix(name, 107, &addr), 0);
    assert_int_equal(gyre_addr_format(&addr, text, sizeof text), 5 + 4 * 107);
    assert_int_equal(gyre_addr_parse(text, &again), 0);
    assert_true(gyre_addr_equal(&addr, &again));
    name[0] = '\0';
    assert_int_equal(gyre_addr_unix(name, 109, &addr), -ENAMETOOLONG);
    assert_int_equal(gyre_addr_unix(name, 108, &addr), 0);
    assert_int_equal(addr.len, sizeof addr.un);
    assert_int_equal(gyre_addr_format(&addr, text, sizeof text), 5 + 1 + 4 * 107);
    assert_int_equal(gyre_addr_parse(text, &again), 0);
    assert_true(gyre_addr_equal(&addr, &again));
    memset(name, 'a', sizeof name);
    for (int len = 1; len < 190; len++) {
        snprintf(text, sizeof text, "unix:%.*s", len, name);
        assert_int_equal(gyre_addr_parse(text, &addr), len <= 107 ? 0 : -ENAMETOOLONG);
        snprintf(text, sizeof text, "unix:@%.*s", len, name);
        assert_int_equal(gyre_addr_parse(text, &addr), len <= 107 ? 0 : -ENAMETOOLONG);
    }
}

static void addr_unix_from_bytes_keeps_them_all(void)
{
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_unix("a\0b", 3, &addr), -EINVAL);
    assert_int_equal(gyre_addr_unix(NULL, 3, &addr), -EINVAL);
    assert_int_equal(gyre_addr_unix("a", 1, NULL), -EINVAL);
    assert_int_equal(gyre_addr_unix("\0a\0b", 4, &addr), 0);
    assert_true(gyre_addr_format(&addr, text, sizeof text) > 0);
    assert_string_equal(text, "unix:@a\\x00b");
    assert_int_equal(gyre_addr_unix(NULL, 0, &addr), 0);
    assert_int_equal(addr.len, sizeof(sa_family_t));
    assert_int_equal(gyre_addr_format(&addr, text, sizeof text), 5);
    assert_string_equal(text, "unix:");
    assert_false(gyre_addr_equal(&addr, &addr));
}

static void addr_format_needs_room_for_all_and_else_writes_nothing(void)
{
    static const char *const texts[] = {"1.2.3.4:5", "[::1]:80", "unix:/a", "unix:@\\x01"};

    for (size_t i = 0; i < TEST_COUNT(texts); i++) {
        const size_t len = strlen(texts[i]);
        struct gyre_addr addr;
        char *text = malloc(len + 1);

        assert_non_null(text);
        assert_int_equal(gyre_addr_parse(texts[i], &addr), 0);
        for (size_t size = 0; size <= len; size++) {
            memset(text, 'z', len + 1);
            assert_int_equal(gyre_addr_format(&addr, text, size), -ENOSPC);
            assert_int_equal(text[0], 'z');
        }
        assert_int_equal(gyre_addr_format(&addr, text, len + 1), len);
        assert_string_equal(text, texts[i]);
        assert_int_equal(gyre_addr_format(&addr, NULL, len + 1), -EINVAL);
        free(text);
    }
}

/* What a caller may have filled in wrongly itself. */
static void addr_of_wrong_length_or_family_is_refused(void)
{
    struct gyre_addr addr;
    struct gyre_addr whole;
    char text[GYRE_ADDR_TEXT_MAX];

    memset(&addr, 0xff, sizeof addr);
    assert_int_equal(gyre_addr_format(&addr, text, sizeof text), -EINVAL);
    for (unsigned family = 0; family < 64; family++) {
        addr.any.sa_family = (sa_family_t)family;
        for (addr.len = 0; addr.len < 200; addr.len++) {
            const int rc = gyre_addr_format(&addr, text, sizeof text);

            whole = addr;
            assert_int_equal(gyre_addr_port(&addr) >= 0, rc > 0 && family != AF_UNIX);
            assert_int_equal(gyre_addr_set_port(&whole, 65535) == 0, rc > 0 && family != AF_UNIX);
            (void)gyre_addr_equal(&addr, &addr);
            gyre_addr_unmap(&whole);
            assert_int_equal(rc > 0,
                             (family == AF_INET && addr.len >= 16 && addr.len <= 128) ||
                                 (family == AF_INET6 && addr.len >= 28 && addr.len <= 128) ||
                                 (family == AF_UNIX && addr.len >= 2 && addr.len <= 111));
        }
    }
    assert_int_equal(gyre_addr_format(NULL, text, sizeof text), -EINVAL);
    assert_int_equal(gyre_addr_port(NULL), -EINVAL);
    assert_int_equal(gyre_addr_set_port(NULL, 1), -EINVAL);
    gyre_addr_unmap(NULL);
}

static void addr_port_is_changed_and_nothing_else(void)
{
    struct gyre_addr addr;

    assert_int_equal(gyre_addr_parse("1.2.3.4:5", &addr), 0);
    assert_int_equal(gyre_addr_set_port(&addr, 65536), -ERANGE);
    assert_int_equal(gyre_addr_port(&addr), 5);
    assert_int_equal(gyre_addr_set_port(&addr, 65535), 0);
    assert_int_equal(gyre_addr_port(&addr), 65535);
    assert_int_equal(addr.in.sin_addr.s_addr, htonl(0x01020304));
    assert_int_equal(gyre_addr_parse("[::1]:5", &addr), 0);
    assert_int_equal(gyre_addr_set_port(&addr, 0), 0);
    assert_int_equal(gyre_addr_port(&addr), 0);
    assert_int_equal(gyre_addr_parse("unix:/a", &addr), 0);
    assert_int_equal(gyre_addr_port(&addr), -EINVAL);
    assert_int_equal(gyre_addr_set_port(&addr, 1), -EINVAL);
}

static int equal(const char *a, const char *b)
{
    struct gyre_addr left;
    struct gyre_addr right;

    assert_int_equal(gyre_addr_parse(a, &left), 0);
    assert_int_equal(gyre_addr_parse(b, &right), 0);
    const int forth = gyre_addr_equal(&left, &right);
    assert_int_equal(gyre_addr_equal(&right, &left), forth);
    return forth;
}

static void addr_equality_is_that_of_the_socket_named(void)
{
    const struct gyre_addr none = {.len = 0};
    struct gyre_addr padded;
    struct gyre_addr plain;

    assert_true(equal("1.2.3.4:5", "1.2.3.4:5"));
    assert_false(equal("1.2.3.4:5", "1.2.3.4:6"));
    assert_false(equal("1.2.3.4:5", "1.2.3.5:5"));
    assert_true(equal("1.2.3.4:5", "[::ffff:1.2.3.4]:5"));
    assert_false(equal("1.2.3.4:5", "[::ffff:1.2.3.4]:6"));
    assert_false(equal("1.2.3.4:5", "[::1.2.3.4]:5"));
    assert_true(equal("[2001:DB8::1]:5", "[2001:db8:0::1]:5"));
    assert_false(equal("[::1]:5", "[::2]:5"));
    assert_true(equal("[fe80::1%7]:5", "[fe80::1%7]:5"));
    assert_false(equal("[fe80::1%7]:5", "[fe80::1%8]:5"));
    assert_false(equal("[fe80::1%7]:5", "[fe80::1]:5"));
    assert_true(equal("unix:/a", "unix:/a"));
    assert_false(equal("unix:/a", "unix:/ab"));
    assert_false(equal("unix:a", "unix:@a"));
    assert_false(equal("unix:\\x40a", "unix:@a"));
    assert_false(equal("unix:@a", "unix:@a\\x00"));
    assert_false(equal("unix:@a", "1.2.3.4:5"));
    /* A path counts up to its end, however long the address says it is. */
    assert_int_equal(gyre_addr_parse("unix:/a", &plain), 0);
    padded = plain;
    padded.len = sizeof padded.un;
    assert_true(gyre_addr_equal(&padded, &plain));
    /* Bytes that name nothing do not count. */
    assert_int_equal(gyre_addr_parse("1.2.3.4:5", &plain), 0);
    padded = plain;
    memset(padded.in.sin_zero, 1, sizeof padded.in.sin_zero);
    assert_true(gyre_addr_equal(&padded, &plain));
    assert_false(gyre_addr_equal(&none, &none));
    assert_false(gyre_addr_equal(&none, &plain));
    assert_false(gyre_addr_equal(NULL, &plain));
    assert_false(gyre_addr_equal(&plain, NULL));
}

static void addr_unmap_makes_mapped_addresses_ipv4(void)
{
    struct gyre_addr addr;
    struct gyre_addr before;

    assert_int_equal(gyre_addr_parse("[::ffff:192.0.2.1]:443", &addr), 0);
    gyre_addr_unmap(&addr);
    assert_int_equal(addr.len, sizeof addr.in);
    assert_int_equal(addr.in.sin_family, AF_INET);
    assert_int_equal(addr.in.sin_port, htons(443));
    assert_int_equal(addr.in.sin_addr.s_addr, htonl(0xc0000201));
    assert_int_equal(gyre_addr_parse("[::192.0.2.1]:443", &addr), 0);
    before = addr;
    gyre_addr_unmap(&addr);
    assert_memory_equal(&addr, &before, sizeof addr);
}

static void addr_of_a_socket_is_what_the_kernel_says(void)
{
    struct sockaddr_in bound;
    const int listener = test_listener(&bound);
    const int client = test_connect(&bound);
    struct gyre_addr local;
    struct gyre_addr peer;

    assert_int_equal(gyre_addr_local(listener, &local), 0);
    assert_int_equal(gyre_addr_peer(client, &peer), 0);
    assert_true(gyre_addr_equal(&local, &peer));
    assert_int_equal(gyre_addr_port(&peer), ntohs(bound.sin_port));
    memset(&peer, 0x5a, sizeof peer);
    local = peer;
    assert_int_equal(gyre_addr_peer(listener, &peer), -ENOTCONN);
    assert_int_equal(gyre_addr_local(-1, &peer), -EBADF);
    assert_int_equal(gyre_addr_local(client, NULL), -EINVAL);
    assert_int_equal(gyre_addr_peer(client, NULL), -EINVAL);
    close(client);
    close(listener);
    int ends[2];
    wire_pipe(ends);
    assert_int_equal(gyre_addr_local(ends[0], &peer), -ENOTSOCK);
    assert_int_equal(gyre_addr_peer(ends[0], &peer), -ENOTSOCK);
    assert_memory_equal(&peer, &local, sizeof peer);
    close(ends[0]);
    close(ends[1]);
}

static void addr_of_unix_sockets_is_told_and_read_back(void)
{
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr;
    struct gyre_addr again;
    int pair[2];

    test_unix_pair(pair);
    assert_int_equal(gyre_addr_peer(pair[0], &addr), 0);
    assert_int_equal(addr.any.sa_family, AF_UNIX);
    assert_int_equal(addr.len, sizeof(sa_family_t));
    close(pair[0]);
    close(pair[1]);
    /* Unnamed, it is bound to a name of the kernel's choice. */
    assert_int_equal(gyre_addr_unix(NULL, 0, &addr), 0);
    assert_int_equal(bind(number, &addr.any, addr.len), 0);
    assert_int_equal(gyre_addr_local(number, &addr), 0);
    assert_true(gyre_addr_format(&addr, text, sizeof text) > 6);
    assert_int_equal(gyre_addr_parse(text, &again), 0);
    assert_true(gyre_addr_equal(&addr, &again));
    close(number);
}

/* unix(7), BUGS: a path that fills sun_path is reported with one byte more than sockaddr_un has. */
static void addr_of_a_full_unix_path_is_told_whole(void)
{
    const int number = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const char *directory = test_directory();
    char path[109];
    char text[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr addr = {.len = sizeof addr.un, .storage = {.ss_family = AF_UNIX}};
    struct gyre_addr again;

    memset(path, '\x01', sizeof path);
    memcpy(path, directory, strlen(directory));
    path[strlen(directory)] = '/';
    path[108] = '\0';
    memcpy(addr.un.sun_path, path, 108);
    assert_int_equal(bind(number, &addr.any, addr.len), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
    assert_int_equal(gyre_addr_local(number, &again), 0);
    assert_int_equal(again.len, 111);
    assert_true(gyre_addr_equal(&addr, &again));
    assert_int_equal(gyre_addr_format(&again, text, sizeof text),
                     5 + strlen(directory) + 1 + 4 * (108 - strlen(directory) - 1));
    close(number);
}

/* A random address of a family: 0, 1, 2; its bytes often 0, as in real ones. */
static struct gyre_addr random_addr(uint32_t *seed)
{
    struct gyre_addr addr = {.len = 0, .storage = {.ss_family = AF_UNSPEC}};
    uint8_t bytes[108];

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = wire_random(seed, 3) == 0 ? 0 : (uint8_t)wire_random(seed, 256);
    }
    switch (wire_random(seed, 3)) {
    case 0:
        addr.len = sizeof addr.in;
        addr.in.sin_family = AF_INET;
        memcpy(&addr.in.sin_addr, bytes, sizeof addr.in.sin_addr);
        break;
    case 1:
        addr.len = sizeof addr.in6;
        addr.in6.sin6_family = AF_INET6;
        memcpy(&addr.in6.sin6_addr, bytes, sizeof addr.in6.sin6_addr);
        addr.in6.sin6_scope_id = wire_random(seed, 4) == 0 ? wire_random(seed, 5) : 0;
        break;
    default:
        for (size_t i = 1; i < sizeof bytes && bytes[0] != 0; i++) {
            bytes[i] |= 1;
        }
        assert_int_equal(gyre_addr_unix(bytes, 1 + wire_random(seed, 107), &addr), 0);
        return addr;
    }
    assert_int_equal(gyre_addr_set_port(&addr, wire_random(seed, 65536)), 0);
    return addr;
}

/* I06 */
static void addr_written_is_read_back_equal(void)
{
    uint32_t seed = 20;

    for (int i = 0; i < ROUNDS; i++) {
        const struct gyre_addr addr = random_addr(&seed);
        char text[GYRE_ADDR_TEXT_MAX];
        struct gyre_addr again;
        const int len = gyre_addr_format(&addr, text, sizeof text);

        assert_int_equal(len, strlen(text));
        for (const char *at = text; *at != '\0'; at++) {
            assert_in_range(*at, ' ', '~');
        }
        if (gyre_addr_parse(text, &again) != 0 || !gyre_addr_equal(&addr, &again)) {
            fail_msg("round %d: %s", i, text);
        }
        assert_int_equal(again.len, addr.len);
        assert_int_equal(again.any.sa_family, addr.any.sa_family);
    }
}

static size_t mutate(uint32_t *seed, char *text, size_t len)
{
    static const char pieces[] = "0123456789abcdefABCDEFx:.%[]/@\\ +-unixlo\n\xff";
    const size_t at = wire_random(seed, (uint32_t)len + 1);
    const char piece = pieces[wire_random(seed, sizeof pieces - 1)];

    switch (wire_random(seed, 4)) {
    case 0: /* another byte */
        if (at < len) {
            text[at] = piece;
        }
        return len;
    case 1: /* one less */
        if (at < len) {
            memmove(text + at, text + at + 1, len - at - 1);
            return len - 1;
        }
        return len;
    case 2: /* one more */
        if (len < LONGEST) {
            memmove(text + at + 1, text + at, len - at);
            text[at] = piece;
            return len + 1;
        }
        return len;
    default: /* its beginning once more behind it */
        if (len + at < LONGEST) {
            memmove(text + len, text, at);
            return len + at;
        }
        return len;
    }
}

/* I06: nothing crashes, what is refused leaves the result alone, and what is taken is written so
 * that it is taken for the same again. The text has exactly its bytes, for AddressSanitizer. */
static void addr_mutated_text_is_refused_or_means_one_thing(void)
{
    static const char *const starts[] = {
        "127.0.0.1:80", "[::1]:80", "[fe80::1%lo]:65535", "unix:/run/a.sock", "unix:@a\\x00b",
    };
    uint32_t seed = 30;
    int taken = 0;

    for (int i = 0; i < ROUNDS; i++) {
        const char *start = starts[wire_random(&seed, TEST_COUNT(starts))];
        char bytes[LONGEST + 1];
        char canonical[GYRE_ADDR_TEXT_MAX];
        struct gyre_addr addr;
        struct gyre_addr again;
        size_t len = strlen(start);

        memcpy(bytes, start, len);
        for (uint32_t changes = 1 + wire_random(&seed, 4); changes > 0; changes--) {
            len = mutate(&seed, bytes, len);
        }
        bytes[len] = '\0';
        char *text = strdup(bytes);
        assert_non_null(text);
        (void)!gyre_addr_parse_ip(text, 1, &again);
        if (gyre_addr_parse(text, &addr) == 0) {
            taken++;
            assert_true(gyre_addr_format(&addr, canonical, sizeof canonical) > 0);
            assert_int_equal(gyre_addr_parse(canonical, &again), 0);
            assert_true(gyre_addr_equal(&addr, &again));
        }
        free(text);
    }
    assert_true(taken > ROUNDS / 100);
    assert_true(taken < ROUNDS);
}

/* Makes /etc/services say this, for this process alone. */
static void replace_services(const char *content)
{
    char path[] = "/tmp/gyre-services-XXXXXX";
    const int number = mkostemp(path, O_CLOEXEC);

    assert_true(number >= 0);
    assert_int_equal(write(number, content, strlen(content)), strlen(content));
    close(number);
    const int failed = unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ||
                       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                       mount(path, "/etc/services", NULL, MS_BIND, NULL) < 0;
    unlink(path);
    if (failed) {
        test_skip("no mount namespace, or no /etc/services, to put a table of the test's own in");
    }
}

static void service_names_and_ports_are_found_in_the_table(void)
{
    char name[16];
    char table[8192];
    char wide[900];

    memset(wide, 'w', sizeof wide);
    snprintf(table, sizeof table,
             "# gyre-comment 1/tcp\n"
             "\n"
             "gyre-alpha\t1000/tcp first second# third\n"
             "gyre-alpha\t1001/udp\n"
             "gyre-broken\nbroken-too 12\n"
             "gyre-wide 1002/tcp %.*s\n"
             "gyre-beta 1003/tcp  \n"
             "gyre-later 1000/tcp\n"
             "gyre-last 1004/tcp last",
             (int)sizeof wide, wide);
    replace_services(table);
    assert_int_equal(gyre_service_port("gyre-alpha", "tcp"), 1000);
    assert_int_equal(gyre_service_port("gyre-alpha", "udp"), 1001);
    assert_int_equal(gyre_service_port("first", "tcp"), 1000);
    assert_int_equal(gyre_service_port("second", "tcp"), 1000);
    assert_int_equal(gyre_service_port("third", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_port("first", "udp"), -ENOENT);
    assert_int_equal(gyre_service_port("gyre-comment", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_port("gyre-broken", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_port("gyre-wide", "tcp"), 1002);
    assert_int_equal(gyre_service_port("gyre-beta", "tcp"), 1003);
    assert_int_equal(gyre_service_port("last", "tcp"), 1004);
    assert_int_equal(gyre_service_port("GYRE-ALPHA", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_name(1000, "tcp", name, sizeof name), strlen("gyre-alpha"));
    assert_string_equal(name, "gyre-alpha");
    assert_int_equal(gyre_service_name(1004, "tcp", name, sizeof name), strlen("gyre-last"));
    assert_int_equal(gyre_service_name(1000, "udp", name, sizeof name), -ENOENT);
    assert_string_equal(name, "gyre-last");
    assert_int_equal(gyre_service_name(1000, "tcp", name, strlen("gyre-alpha")), -ENOSPC);
    assert_string_equal(name, "gyre-last");
}

static void service_numbers_and_bad_arguments_need_no_table(void)
{
    char name[16];

    assert_int_equal(gyre_service_port("0", "tcp"), 0);
    assert_int_equal(gyre_service_port("65535", "udp"), 65535);
    assert_int_equal(gyre_service_port("65536", "udp"), -ERANGE);
    assert_int_equal(gyre_service_port("080", "tcp"), -EINVAL);
    assert_int_equal(gyre_service_port("", "tcp"), -EINVAL);
    assert_int_equal(gyre_service_port(NULL, "tcp"), -EINVAL);
    assert_int_equal(gyre_service_port("80", NULL), -EINVAL);
    assert_int_equal(gyre_service_port("-1", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_port(" 80", "tcp"), -ENOENT);
    assert_int_equal(gyre_service_name(65536, "tcp", name, sizeof name), -ERANGE);
    assert_int_equal(gyre_service_name(80, "tcp", NULL, sizeof name), -EINVAL);
    assert_int_equal(gyre_service_name(80, NULL, name, sizeof name), -EINVAL);
}

static void host_name_is_whole_or_refused(void)
{
    char expected[HOST_NAME_MAX + 1];
    char name[HOST_NAME_MAX + 1];

    assert_int_equal(gethostname(expected, sizeof expected), 0);
    const size_t len = strlen(expected);
    assert_int_equal(gyre_host_name(name, sizeof name), len);
    assert_string_equal(name, expected);
    name[0] = 'z';
    assert_int_equal(gyre_host_name(name, len), -ENAMETOOLONG);
    assert_int_equal(name[0], 'z');
    assert_int_equal(gyre_host_name(name, len + 1), len);
    assert_int_equal(gyre_host_name(NULL, 10), -EINVAL);
}

int main(void)
{
    static const struct test_case cases[] = {
        TEST_CASE(addr_ipv4_is_read_and_written),
        TEST_CASE(addr_ipv6_is_read_and_written_as_rfc_5952_wants),
        TEST_CASE(addr_ipv4_octal_hex_and_short_forms_are_refused),
        TEST_CASE(addr_ipv6_malformed_is_refused),
        TEST_CASE(addr_port_is_decimal_and_in_range),
        TEST_CASE(addr_of_no_form_is_refused),
        TEST_CASE(addr_kilobyte_inside_brackets_is_refused),
        TEST_CASE(addr_zone_is_an_interface_or_a_number),
        TEST_CASE(addr_zone_without_descriptors_reports_emfile),
        TEST_CASE(addr_ip_without_port_is_read),
        TEST_CASE(addr_unix_is_read_and_written),
        TEST_CASE(addr_unix_longest_names_fit_and_longer_are_not_cut),
        TEST_CASE(addr_unix_from_bytes_keeps_them_all),
        TEST_CASE(addr_format_needs_room_for_all_and_else_writes_nothing),
        TEST_CASE(addr_of_wrong_length_or_family_is_refused),
        TEST_CASE(addr_port_is_changed_and_nothing_else),
        TEST_CASE(addr_equality_is_that_of_the_socket_named),
        TEST_CASE(addr_unmap_makes_mapped_addresses_ipv4),
        TEST_CASE(addr_of_a_socket_is_what_the_kernel_says),
        TEST_CASE(addr_of_unix_sockets_is_told_and_read_back),
        TEST_CASE(addr_of_a_full_unix_path_is_told_whole),
        TEST_CASE(addr_written_is_read_back_equal),
        TEST_CASE(addr_mutated_text_is_refused_or_means_one_thing),
        TEST_CASE(service_names_and_ports_are_found_in_the_table),
        TEST_CASE(service_numbers_and_bad_arguments_need_no_table),
        TEST_CASE(host_name_is_whole_or_refused),
    };

    return test_main("net-addr", cases, TEST_COUNT(cases));
}
