/* What ports and this machine are called: the C library asks whatever the machine is set up with,
 * /etc/services as a rule. */
#include "net/addr.h"

#include <errno.h>
#include <gyre/addr.h>
#include <netdb.h>
#include <string.h>
#include <sys/utsname.h>

enum { SERVICES_ENTRY_MAX = 4096 }; /* far above a line of the table with all its aliases */

/* Copies text out whole: its length, or @too_long. */
static int services_copy(const char *text, char *out, size_t size, int too_long)
{
    const size_t len = strlen(text);

    if (len >= size) {
        return too_long;
    }
    memcpy(out, text, len + 1);
    return (int)len;
}

/* What the two look-ups of the C library return, as this library says it. */
static int services_result(int rc, const struct servent *entry)
{
    if (rc == ERANGE || rc == ENOMEM) {
        return -ENOMEM;
    }
    return entry == NULL ? -ENOENT : 0;
}

int gyre_service_port(const char *name, const char *protocol)
{
    char buffer[SERVICES_ENTRY_MAX];
    struct servent memory;
    struct servent *entry = NULL;
    int rc;

    if (name == NULL || name[0] == '\0' || protocol == NULL) {
        return -EINVAL;
    }
    /* A name has a letter in it (RFC 6335 section 5.1), so what is all digits is a number. */
    if (strspn(name, "0123456789") == strlen(name)) {
        return gyre__addr_read_port(name);
    }
    rc = getservbyname_r(name, protocol, &memory, buffer, sizeof(buffer), &entry);
    rc = services_result(rc, entry);
    return rc < 0 ? rc : ntohs((uint16_t)entry->s_port);
}

int gyre_service_name(unsigned port, const char *protocol, char *name, size_t size)
{
    char buffer[SERVICES_ENTRY_MAX];
    struct servent memory;
    struct servent *entry = NULL;
    int rc;

    if (protocol == NULL || name == NULL) {
        return -EINVAL;
    }
    if (port > UINT16_MAX) {
        return -ERANGE;
    }
    rc = getservbyport_r(htons((uint16_t)port), protocol, &memory, buffer, sizeof(buffer), &entry);
    rc = services_result(rc, entry);
    return rc < 0 ? rc : services_copy(entry->s_name, name, size, -ENOSPC);
}

int gyre_host_name(char *name, size_t size)
{
    struct utsname names;

    if (name == NULL) {
        return -EINVAL;
    }
    if (uname(&names) < 0) {
        return -errno;
    }
    return services_copy(names.nodename, name, size, -ENAMETOOLONG);
}
