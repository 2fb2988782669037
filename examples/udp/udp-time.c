/*
 * A UDP server that answers each datagram, whatever is in it, with the time of day (UTC): a line
 * such as 2024-02-29T12:34:56Z.
 *
 * One question, one answer, and nothing to remember between them: this is what UDP is good for. See
 * udp-echo.c for how it works, and for why it serves this machine only by default.
 */
#include "server.h"

#include "common/common.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    const time_t now = time(NULL);
    struct tm parts;
    char text[64];

    example_must(gmtime_r(&now, &parts) != NULL ? 0 : -errno, "time of day");
    udp_server_answer(dgram, datagram, text,
                      strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ\n", &parts));
}

int main(int argc, char **argv)
{
    udp_server_run(argc, argv, "Answers each UDP datagram with the time of day.", 1, on_datagram);
    return EXIT_SUCCESS;
}
