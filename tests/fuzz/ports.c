/* Lists of ports of the example port-scanner: a second reader finds the same ports. */
#include "fuzz.h"

#include "ports.h"

#include <string.h>

/* A number 1..65535 that takes all of the text; 0: it is none. */
static unsigned read_port(const char *text, size_t len)
{
    unsigned long port = 0;

    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return 0;
        }
        port = port > PORTS_MAX ? port : 10 * port + (unsigned long)(text[i] - '0');
    }
    return port <= PORTS_MAX ? (unsigned)port : 0;
}

static int read_part(const char *text, size_t len, uint8_t *wanted)
{
    const char *dash = memchr(text, '-', len);
    const size_t first_len = dash != NULL ? (size_t)(dash - text) : len;
    const unsigned first = read_port(text, first_len);
    const unsigned last = dash != NULL ? read_port(dash + 1, len - first_len - 1) : first;

    for (unsigned port = first; port <= last && first > 0; port++) {
        wanted[port] = 1;
    }
    return first > 0 && last >= first;
}

static int read_list(const char *text, uint8_t *wanted)
{
    int valid = 1;

    for (const char *at = text; at != NULL && valid;) {
        const size_t len = strcspn(at, ",");

        valid = read_part(at, len, wanted);
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return valid;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint16_t *ports = malloc(PORTS_MAX * sizeof(*ports)); /* exactly, for AddressSanitizer */
    uint8_t *wanted = calloc(PORTS_MAX + 1, 1);
    char *text = fuzz_text(data, size);
    size_t count;
    size_t next = 0;

    FUZZ_EXPECT(ports != NULL && wanted != NULL);
    count = ports_parse(text, ports);
    FUZZ_EXPECT(count <= PORTS_MAX);
    if (!read_list(text, wanted)) {
        FUZZ_EXPECT(count == 0);
    } else {
        for (unsigned port = 1; port <= PORTS_MAX; port++) {
            if (wanted[port]) {
                FUZZ_EXPECT(next < count && ports[next] == port);
                next++;
            }
        }
        FUZZ_EXPECT(next == count && count > 0);
    }
    free(text);
    free(wanted);
    free(ports);
    return 0;
}
