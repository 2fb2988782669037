/*
 * What the UDP servers have in common: one socket on the address of --host and --port, answers, and
 * an end that says what became of the datagrams. What is answered is each server's own.
 */
#ifndef UDP_SERVER_H
#define UDP_SERVER_H

#include <gyre.h>

/*
 * Runs a server until SIGINT or SIGTERM. on_datagram() is called with each datagram; longer ones
 * than receive_max bytes are cut, and flagged GYRE_DGRAM_TRUNCATED.
 */
void udp_server_run(int argc, char **argv, const char *doc, size_t receive_max,
                    void (*on_datagram)(struct gyre_dgram *, const struct gyre_datagram *));

/* Sends an answer, if there is room for it: else it is lost, as the network may lose it. */
void udp_server_answer(struct gyre_dgram *dgram, const struct gyre_datagram *question,
                       const void *data, size_t len);

#endif
