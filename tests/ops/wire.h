/*
 * The other end: plain sockets and pipes that a test works on directly, without the library, and
 * the bytes that go over them. Byte n of stream s is always the same, so whoever reads knows what
 * must come, and a byte that was lost, doubled, moved or of another stream is found at once.
 */
#ifndef GYRE_TESTS_OPS_WIRE_H
#define GYRE_TESTS_OPS_WIRE_H

#include "harness.h"

/* Position 0 of a stream of its own, for the functions below. */
#define WIRE_STREAM(number) ((uint64_t)(number) << 40)

/* A number below @limit from a sequence that is the same in every run. */
uint32_t wire_random(uint32_t *seed, uint32_t limit);

/* The bytes from @position on. */
void wire_fill(void *data, size_t len, uint64_t position);

/* Asserts that these are the bytes from @position on. */
void wire_check(const void *data, size_t len, uint64_t position);

/* Sends bytes of the caller, all of them; blocks while the receiver is slow. */
void wire_send(int number, const void *data, size_t len);

/* Sends the bytes of a stream, all of them; blocks while the receiver is slow. */
void wire_send_stream(int number, size_t len, uint64_t position);

/* What is there now, never blocking: bytes, 0 at the end, -EAGAIN when nothing is, or an error. */
ssize_t wire_take(int number, void *data, size_t len);

/* Reads what is there, at most @len bytes, and asserts that it is the stream; returns how much. */
size_t wire_take_stream(int number, size_t len, uint64_t position);

/* Reads and drops all that is there; returns how much. */
size_t wire_drain(int number);

/* Waits for exactly @len bytes and asserts that they are the stream. */
void wire_expect_stream(int number, size_t len, uint64_t position);

/* Waits for the result of one read: 0 at the end, or an error. Asserts that no data comes. */
int wire_expect_end(int number);

/* Writes to a socket or pipe until it takes no more; returns how many bytes. */
size_t wire_stuff(int number);

/* Bytes that could be read now. */
size_t wire_readable(int number);

/* Makes the send buffer of a socket as small as the kernel allows for @len. */
void wire_send_buffer(int number, int len);

/* No Nagle: what is sent leaves. */
void wire_nodelay(int number);

/* Switches O_NONBLOCK on. */
void wire_nonblocking(int number);

/* Closes a TCP socket so that the peer gets a reset; leaves no port behind in TIME_WAIT. */
void wire_reset(int number);

/* A listening TCP socket on 127.0.0.1 with a backlog of the test's choice. */
int wire_listener(int backlog, struct sockaddr_in *out);

/* The address of a TCP port at which nobody listens: the returned socket keeps it reserved. */
int wire_refusing(struct sockaddr_in *out);

/* A listening TCP socket that answers no more connections: its backlog is full. @out_client keeps
 * the queue full. */
int wire_blackhole(struct sockaddr_in *out, int *out_client);

/* A TCP socket, not connected. */
int wire_tcp(void);

/* A UDP socket bound to 127.0.0.1. */
int wire_udp(struct sockaddr_in *out);

/* A pipe: [0] reads, [1] writes; close-on-exec. */
void wire_pipe(int pipe_ends[2]);

/* Raises the number of descriptors that this process may open as far as it goes; skips the test
 * when that is less than @needed. */
void wire_raise_descriptors(size_t needed);

#endif
