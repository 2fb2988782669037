"""A proxy between a sender that goes on offering and a receiver that stands still: the proxy's
memory stays within its cap, and after the receiver reads on every byte is right."""
import hashlib
import random
import select
import socket
import time

from program import SOCKET_LIMIT, connect, expect, expect_equal

CAP = 128 << 10
SLACK = 8 << 20  # the heap, the pool at rest, and what a sanitizer adds
QUIET = 0.2  # seconds without progress that count as a stall when no time is given
PIECE = random.Random(5).randbytes(1 << 20)


class Offer:
    """Sends pieces, each different, without ever blocking; remembers the hash of what was taken."""

    def __init__(self, sock):
        self.sock = sock
        self.hash = hashlib.sha256()
        self.count = 0
        self.left = b""
        sock.setblocking(False)

    def push(self):
        """Offer until nothing is taken."""
        try:
            while True:
                self.left = self.left or self.count.to_bytes(8, "big") + PIECE
                taken = self.sock.send(self.left)
                self.hash.update(self.left[:taken])
                self.left = self.left[taken:]
                self.count += taken
        except BlockingIOError:
            pass

    def wait(self, timeout):
        """Whether more is taken within this time."""
        return bool(select.select([], [self.sock], [], timeout)[1])

    def fill(self):
        """Offer until nothing is taken any more, or too much."""
        self.push()
        while self.wait(QUIET):
            self.push()
            expect(self.count < 64 << 20, "64 MiB were taken: nothing stalls")


def pair_through(proxy_address, target):
    """Two connected sockets with the proxy between them, and small buffers of their own."""
    near = connect(proxy_address)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
    far, _ = target.accept()
    far.settimeout(SOCKET_LIMIT)
    return near, far


def drain(offer, far, rest):
    """Read what was offered, while offering until @rest bytes more were taken, to the end."""
    found = hashlib.sha256()
    target = offer.count + rest
    open_ = True
    while data := far.recv(1 << 20):
        found.update(data)
        if open_ and offer.count < target:
            offer.push()
        elif open_:
            offer.sock.shutdown(socket.SHUT_WR)
            open_ = False
    return found.hexdigest()


def stall(env, seconds=None, downstream=False):
    """With @seconds the sender goes on offering so long; without, until nothing is taken any more.
    The receiver is the target, or the client with @downstream. Returns a text with the figures."""
    with socket.socket() as target:
        target.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        target.bind(("127.0.0.1", 0))
        target.listen()
        target.settimeout(SOCKET_LIMIT)
        proxy, address = env.server("tcp-proxy", "--cap", CAP, "--target",
                                    "127.0.0.1:%d" % target.getsockname()[1])
        with proxy:
            near, far = pair_through(address, target)
            if downstream:
                near, far = far, near
            with near, far:
                return _stall(proxy, Offer(near), far, seconds)


def _stall(proxy, offer, far, seconds):
    before = proxy.resident()
    end = time.monotonic() + (seconds or 0)
    offer.fill()
    most = proxy.resident()
    while time.monotonic() < end:
        offer.fill()
        most = max(most, proxy.resident())
    stalled = offer.count
    expect(stalled > CAP, f"only {stalled} bytes were taken")
    expect(most - before < 2 * CAP + SLACK,
           f"the proxy grew by {(most - before) >> 10} KiB while {stalled} bytes were offered")
    found = drain(offer, far, 64 << 20)
    expect_equal(found, offer.hash.hexdigest(), "sha256")
    most = max(most, proxy.resident())
    expect(most - before < 2 * CAP + SLACK, f"the proxy grew by {(most - before) >> 10} KiB")
    return (f"{stalled >> 10} KiB taken while stalled, proxy +{(most - before) >> 10} KiB, "
            f"sha256 of {offer.count >> 20} MiB right")
