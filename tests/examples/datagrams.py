"""What the tests of the UDP examples share: sockets, and a flood whose every datagram is accounted
for."""

import re
import socket

from program import SOCKET_LIMIT, expect, expect_equal

LARGEST = 65507  # bytes: what an IPv4 packet holds, less the headers


def udp_socket(address=None, family=None):
    """A UDP socket with a time limit; with an address, connected: it hears nobody else."""
    if family is None:
        family = socket.AF_INET6 if address and ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(SOCKET_LIMIT)
    if address:
        sock.connect(address)
    return sock


def ask(sock, question):
    sock.send(question)
    return sock.recv(65536)


def counts(text):
    """What a server printed at its end."""
    found = re.fullmatch(r"received (\d+), dropped by the kernel (\d+), answered (\d+), "
                         r"not answered for want of room (\d+)\n", text)
    expect(found, f"last line '{text}'")
    return dict(zip(("received", "dropped", "answered", "unanswered"), map(int, found.groups())))


def flood(env, count):
    """Send so many datagrams to udp-echo as fast as can be, and stop it when it has seen the last
    one. What it received and what the kernel dropped must be what was sent. Returns the counts."""
    server, address = env.server("udp-echo")
    with server, udp_socket(address) as sender, udp_socket(address) as last:
        for _ in range(count):
            sender.send(b"x" * 100)
        # Datagrams stay in order here, so when the latest of these is answered, nothing waits.
        last.settimeout(2)
        tries = 0
        answer = None
        while answer != str(tries).encode():
            tries += 1
            last.send(str(tries).encode())
            try:
                answer = last.recv(100)
            except socket.timeout:
                pass  # dropped, as many before it
        text, _ = server.stop()
    found = counts(text)
    expect_equal(found["received"] + found["dropped"], count + tries, "received and dropped")
    expect(found["answered"] + found["unanswered"] <= found["received"], f"{found}")
    return found
