/*
 * A UDP server that calculates. "5 + 6" and "(+, 5, 6)" are both answered with "11"; what cannot be
 * calculated is answered with "error: " and the reason. One datagram is one sum and gets one answer.
 *
 * There is no stream to be cut into lines: where a datagram ends, the sum ends. What a server must
 * not do is to believe that what arrives is a sum, or text, or short: here is where that is checked,
 * and calculate.c does the rest. See udp-echo.c for how the server works.
 */
#include "calculate.h"
#include "server.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SUM_MAX = 200,   /* bytes; more than two numbers, an operator and some space need */
    ANSWER_MAX = 100 /* bytes; the longest reason is shorter */
};

/* The bytes of a datagram are not terminated, and a zero byte among them would hide what follows. */
static const char *calculate_datagram(const struct gyre_datagram *datagram, int64_t *out_result)
{
    char text[SUM_MAX + 1];

    if ((datagram->flags & GYRE_DGRAM_TRUNCATED) != 0) {
        return "this is too long for a sum";
    }
    if (memchr(datagram->data, '\0', datagram->len) != NULL) {
        return "this is not text";
    }
    memcpy(text, datagram->data, datagram->len);
    text[datagram->len] = '\0';
    return calculate(text, out_result);
}

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    char answer[ANSWER_MAX];
    int64_t result = 0;
    const char *wrong = calculate_datagram(datagram, &result);
    int len;

    if (wrong != NULL) {
        len = snprintf(answer, sizeof(answer), "error: %s\n", wrong);
    } else {
        len = snprintf(answer, sizeof(answer), "%" PRId64 "\n", result);
    }
    udp_server_answer(dgram, datagram, answer, (size_t)len);
}

int main(int argc, char **argv)
{
    udp_server_run(argc, argv, "Answers sums in UDP datagrams: 5 + 6, or (+, 5, 6).", SUM_MAX,
                   on_datagram);
    return EXIT_SUCCESS;
}
