/* Addresses: a text that is read is written so that it is read as the same address again, and in
 * the same words the second time. */
#include "fuzz.h"

#include <gyre/addr.h>
#include <string.h>

static void check(const struct gyre_addr *addr)
{
    char text[GYRE_ADDR_TEXT_MAX];
    char again[GYRE_ADDR_TEXT_MAX];
    struct gyre_addr read;
    const int len = gyre_addr_format(addr, text, sizeof text);

    FUZZ_EXPECT(len > 0 && strlen(text) == (size_t)len);
    for (int i = 0; i < len; i++) {
        FUZZ_EXPECT(text[i] >= ' ' && text[i] <= '~');
    }
    FUZZ_EXPECT(gyre_addr_parse(text, &read) == 0);
    FUZZ_EXPECT(gyre_addr_equal(addr, &read));
    FUZZ_EXPECT(gyre_addr_format(&read, again, sizeof again) == len);
    FUZZ_EXPECT(strcmp(text, again) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gyre_addr addr;
    char *text = fuzz_text(data, size);

    if (gyre_addr_parse(text, &addr) == 0) {
        check(&addr);
    }
    if (gyre_addr_parse_ip(text, 80, &addr) == 0) {
        check(&addr);
    }
    free(text);
    return 0;
}
