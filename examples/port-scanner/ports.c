/* Lists of ports; see ports.h. */
#include "ports.h"

#include <string.h>

/* Reads 1..65535 and goes past it; returns 0 for anything else. */
static unsigned take_port(const char **text)
{
    unsigned port = 0;

    while (**text >= '0' && **text <= '9' && port <= PORTS_MAX) {
        port = 10 * port + (unsigned)(*(*text)++ - '0');
    }
    return port <= PORTS_MAX ? port : 0;
}

/* Marks "N" or "N-M" and goes past it. Returns 0, or -1. */
static int take_range(const char **text, uint8_t *wanted)
{
    const unsigned first = take_port(text);
    unsigned last = first;

    if (**text == '-') {
        (*text)++;
        last = take_port(text);
    }
    if (first == 0 || last < first) {
        return -1;
    }
    memset(wanted + first, 1, last - first + 1);
    return 0;
}

size_t ports_parse(const char *text, uint16_t ports[PORTS_MAX])
{
    uint8_t wanted[PORTS_MAX + 1] = {0};
    size_t count = 0;

    do {
        if (take_range(&text, wanted) < 0) {
            return 0;
        }
    } while (*text++ == ',');
    if (text[-1] != '\0') {
        return 0;
    }
    for (unsigned port = 1; port <= PORTS_MAX; port++) {
        if (wanted[port]) {
            ports[count++] = (uint16_t)port;
        }
    }
    return count;
}
