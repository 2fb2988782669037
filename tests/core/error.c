/* Names and texts of errors, versions, names of kinds. Catalogue E01, E06. */
#include "harness.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

struct named {
    int error;
    const char *name;
};

/* What the library's functions and completions are documented to return, and their neighbours. */
static const struct named named_errors[] = {
    {-EINVAL, "EINVAL"},
    {-EBUSY, "EBUSY"},
    {-ENOMEM, "ENOMEM"},
    {-EMFILE, "EMFILE"},
    {-ENFILE, "ENFILE"},
    {-EBADF, "EBADF"},
    {-ENOBUFS, "ENOBUFS"},
    {-ESHUTDOWN, "ESHUTDOWN"},
    {-ECANCELED, "ECANCELED"},
    {-ETIMEDOUT, "ETIMEDOUT"},
    {-ECONNREFUSED, "ECONNREFUSED"},
    {-ECONNRESET, "ECONNRESET"},
    {-EPIPE, "EPIPE"},
    {-EADDRINUSE, "EADDRINUSE"},
    {-ENOTSOCK, "ENOTSOCK"},
    {-EPERM, "EPERM"},
    {GYRE_ETHREAD, "GYRE_ETHREAD"},
    {GYRE_EFORK, "GYRE_EFORK"},
    {GYRE_ENESTED, "GYRE_ENESTED"},
    {GYRE_ENOURING, "GYRE_ENOURING"},
    {GYRE_EBACKEND, "GYRE_EBACKEND"},
    {GYRE_ELOST, "GYRE_ELOST"},
    {GYRE_ECLOSING, "GYRE_ECLOSING"},
    {GYRE_EUNBLOCKED, "GYRE_EUNBLOCKED"},
};

/* E01 */
static void error_name_known_is_the_symbol(void)
{
    size_t i;

    for (i = 0; i < TEST_COUNT(named_errors); i++) {
        assert_string_equal(gyre_error_name(named_errors[i].error), named_errors[i].name);
    }
}

/* E01: every errno of this kernel and every code of gyre has a text of its own. */
static void error_text_known_is_a_sentence(void)
{
    size_t i;

    for (i = 0; i < TEST_COUNT(named_errors); i++) {
        const char *text = gyre_strerror(named_errors[i].error);

        assert_non_null(text);
        assert_true(strlen(text) >= 5);
        assert_string_not_equal(text, "unknown error");
        assert_string_not_equal(text, "no error");
    }
    assert_string_equal(gyre_strerror(-ECONNREFUSED), "Connection refused");
}

/* E01 */
static void error_codes_of_gyre_are_distinct_and_below_errno(void)
{
    static const struct {
        int value;
        const char *name;
        const char *text;
    } all[] = {
#define X(name, value, text) {name, #name, text},
        GYRE_ERROR_MAP(X)
#undef X
    };
    size_t i;
    size_t j;

    for (i = 0; i < TEST_COUNT(all); i++) {
        assert_true(all[i].value < -4096);
        assert_string_equal(gyre_error_name(all[i].value), all[i].name);
        assert_string_equal(gyre_strerror(all[i].value), all[i].text);
        for (j = 0; j < i; j++) {
            assert_int_not_equal(all[i].value, all[j].value);
            assert_string_not_equal(all[i].text, all[j].text);
        }
    }
}

/* E06: what a kernel may return and no table knows, 512 (ERESTARTSYS) included. */
static void error_unknown_has_a_generic_text(void)
{
    static const int unknown[] = {-512, -4095, -4096, -5000, -100000, INT_MIN, INT_MIN + 1, -41};
    size_t i;

    for (i = 0; i < TEST_COUNT(unknown); i++) {
        assert_string_equal(gyre_strerror(unknown[i]), "unknown error");
        assert_string_equal(gyre_error_name(unknown[i]), "UNKNOWN");
    }
}

static void error_none_says_so(void)
{
    static const int none[] = {0, 1, 4097, INT_MAX};
    size_t i;

    for (i = 0; i < TEST_COUNT(none); i++) {
        assert_string_equal(gyre_strerror(none[i]), "no error");
        assert_string_equal(gyre_error_name(none[i]), "OK");
    }
}

static void version_matches_the_headers(void)
{
    char expected[64];

    snprintf(expected, sizeof(expected), "%d.%d.%d", GYRE_VERSION_MAJOR, GYRE_VERSION_MINOR,
             GYRE_VERSION_PATCH);
    assert_string_equal(gyre_version_string(), expected);
}

static void op_kind_names_are_distinct(void)
{
    int i;
    int j;

    assert_string_equal(gyre_op_kind_name(GYRE_OP_RECV), "recv");
    for (i = 0; i < GYRE_OP_KIND_COUNT; i++) {
        const char *name = gyre_op_kind_name((enum gyre_op_kind)i);

        assert_true(strlen(name) >= 3);
        assert_string_not_equal(name, "unknown");
        for (j = 0; j < i; j++) {
            assert_string_not_equal(name, gyre_op_kind_name((enum gyre_op_kind)j));
        }
    }
    assert_string_equal(gyre_op_kind_name(GYRE_OP_KIND_COUNT), "unknown");
    assert_string_equal(gyre_op_kind_name((enum gyre_op_kind) - 1), "unknown");
    assert_string_equal(gyre_op_kind_name((enum gyre_op_kind)1000), "unknown");
}

static const struct test_case cases[] = {
    {"error_name_known_is_the_symbol", error_name_known_is_the_symbol, 0},
    {"error_text_known_is_a_sentence", error_text_known_is_a_sentence, 0},
    {"error_codes_of_gyre_are_distinct_and_below_errno",
     error_codes_of_gyre_are_distinct_and_below_errno, 0},
    {"error_unknown_has_a_generic_text", error_unknown_has_a_generic_text, 0},
    {"error_none_says_so", error_none_says_so, 0},
    {"version_matches_the_headers", version_matches_the_headers, 0},
    {"op_kind_names_are_distinct", op_kind_names_are_distinct, 0},
};

int main(void)
{
    return test_main("error", cases, TEST_COUNT(cases));
}
