/* Texts and names: those of gyre from GYRE_ERROR_MAP, those of errno from the C library. */
#include <gyre/error.h>
#include <limits.h>
#include <string.h>

const char *gyre_strerror(int error)
{
    const char *text;

    if (error >= 0) {
        return "no error";
    }
    switch (error) {
#define X(name, value, description) \
    case name:                      \
        return description;
        GYRE_ERROR_MAP(X)
#undef X
    default:
        break;
    }
    text = error > INT_MIN ? strerrordesc_np(-error) : NULL;
    return text != NULL ? text : "unknown error";
}

const char *gyre_error_name(int error)
{
    const char *name;

    if (error >= 0) {
        return "OK";
    }
    switch (error) {
#define X(name, value, description) \
    case name:                      \
        return #name;
        GYRE_ERROR_MAP(X)
#undef X
    default:
        break;
    }
    name = error > INT_MIN ? strerrorname_np(-error) : NULL;
    return name != NULL ? name : "UNKNOWN";
}
