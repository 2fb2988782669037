/*
 * A UDP server that sends each datagram back.
 *
 * UDP has no connections: one socket serves all clients, and each datagram says where it came from.
 * It arrives whole or not at all, perhaps twice, perhaps later than one that was sent after it. An
 * empty one is a datagram too, and no end of anything.
 *
 * A blocking server calls recvfrom() and sendto() in turns, two system calls for each datagram. Here
 * on_datagram() is called for each of a batch that one system call received, and the answers leave
 * in one batch too.
 *
 * The sender's address is easily forged. Two servers that answer everything can so be made to answer
 * each other for ever, and any such server to send what it likes to somebody else. That is why this
 * one serves this machine only, unless --host says otherwise.
 */
#include "server.h"

#include <stdlib.h>

static void on_datagram(struct gyre_dgram *dgram, const struct gyre_datagram *datagram)
{
    udp_server_answer(dgram, datagram, datagram->data, datagram->len);
}

int main(int argc, char **argv)
{
    udp_server_run(argc, argv, "Sends each UDP datagram back.", GYRE_DGRAM_MAX, on_datagram);
    return EXIT_SUCCESS;
}
