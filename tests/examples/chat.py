#!/usr/bin/env python3
"""chat-server: everybody gets what the others say, and nobody suffers from another (V13)."""
import random
import socket

from program import SOCKET_LIMIT, connect, expect, expect_equal, main, receive_all, throw_garbage


class Member:
    """A member of the room who has said its name."""

    def __init__(self, address, name, receive_buffer=None):
        self.sock = socket.socket()
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(SOCKET_LIMIT)
        self.sock.connect(address)
        self.file = self.sock.makefile("rb")
        expect_equal(self.line(), b"* your name?\n")
        self.say(name)
        expect_equal(self.line(), b"* welcome\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def say(self, text):
        self.sock.sendall(text + b"\n")

    def line(self):
        return self.file.readline()


def case_line_goes_to_all_others_and_not_back(env):
    server, address = env.server("chat-server")
    with server, Member(address, b"ann") as ann, Member(address, b"bob") as bob:
        expect_equal(ann.line(), b"* bob joined\n")
        with Member(address, b"cy") as cy:
            expect_equal(ann.line(), b"* cy joined\n")
            expect_equal(bob.line(), b"* cy joined\n")
            ann.say(b"hello")
            bob.say(b"hi \xc3\xa4nn\r")
            expect_equal(cy.line(), b"ann: hello\n")
            expect_equal(cy.line(), b"bob: hi \xc3\xa4nn\n")
            expect_equal(bob.line(), b"ann: hello\n")
            expect_equal(ann.line(), b"bob: hi \xc3\xa4nn\n")
        expect_equal(bob.line(), b"* cy left\n")


def case_control_characters_are_taken_out(env):
    server, address = env.server("chat-server")
    with server, Member(address, b"a\x1b[31m") as ann, Member(address, b"bob") as bob:
        expect_equal(ann.line(), b"* bob joined\n")
        ann.say(bytes(range(32)).replace(b"\n", b"") + b"x\x7f\x1b[2J\xc2\x9b1my\xc2\xa0")
        expect_equal(bob.line(), b"a[31m: x[2J\xc21my\xc2\xa0\n")


def case_line_of_the_longest_length_passes_and_a_longer_one_ends_the_member(env):
    server, address = env.server("chat-server")
    with server, Member(address, b"ann") as ann, Member(address, b"bob") as bob:
        expect_equal(ann.line(), b"* bob joined\n")
        ann.say(b"x" * 500)
        expect_equal(bob.line(), b"ann: " + b"x" * 500 + b"\n")
        ann.say(b"x" * 501)
        expect_equal(ann.line(), b"* that line is too long\n")
        expect_equal(ann.line(), b"")
        ann.sock.close()
        ann.file.close()
        expect_equal(bob.line(), b"* ann left\n")


def case_name_that_is_none_or_too_long_is_refused(env):
    server, address = env.server("chat-server")
    with server:
        for name in (b"", b"\x07", b"n" * 25):
            with connect(address) as sock:
                sock.sendall(name + b"\n")
                expect_equal(receive_all(sock), b"* your name?\n* a name has 1 to 24 bytes\n")


def case_visitor_without_a_name_hears_nothing(env):
    server, address = env.server("chat-server")
    with connect(address) as sock:
        with server, Member(address, b"ann") as ann:
            ann.say(b"secret")
            with Member(address, b"bob"):
                expect_equal(ann.line(), b"* bob joined\n")
        expect_equal(receive_all(sock), b"* your name?\n")


def case_slow_member_is_dropped_and_the_rest_go_on(env):
    """The slow one reads nothing. Ann and Bob speak in turns until Ann hears that it was lost;
    all that is said arrives at Bob meanwhile."""
    server, address = env.server("chat-server", "--cap", 65536)
    with server, Member(address, b"slow", 4096), Member(address, b"ann") as ann, \
            Member(address, b"bob") as bob:
        expect_equal(ann.line(), b"* bob joined\n")
        lost = False
        for turn in range(1000):
            wanted = [b"%06d " % (100 * turn + i) + b"x" * 490 for i in range(100)]
            ann.sock.sendall(b"\n".join(wanted) + b"\n")
            for text in wanted:
                line = bob.line()
                if line == b"* slow was too slow\n":
                    lost = True
                    line = bob.line()
                expect_equal(line, b"ann: " + text + b"\n")
            if lost:
                break
        expect(lost, "50 MB unread, and still a member")
        expect_equal(ann.line(), b"* slow was too slow\n")
        expect(server.resident() < 64 << 20, "memory is not bounded")


def case_stop_ends_all_members_in_order(env):
    server, address = env.server("chat-server")
    with Member(address, b"ann") as ann, Member(address, b"bob") as bob:
        expect_equal(ann.line(), b"* bob joined\n")
        server.process.terminate()
        expect_equal(bob.line(), b"")
        expect_equal(ann.line(), b"")
    server.wait()


def case_garbage_is_survived(env):
    server, address = env.server("chat-server")
    with server:
        throw_garbage(address, seed=3)
        chance = random.Random(4)
        with Member(address, b"ann") as ann, Member(address, b"bob") as bob:
            expect_equal(ann.line(), b"* bob joined\n")
            for _ in range(200):
                ann.say(chance.randbytes(100).replace(b"\n", b"") + b".")
                line = bob.line()
                expect(line.startswith(b"ann: ") and line.endswith(b".\n"), repr(line))
                expect(all(byte >= 32 and byte != 127 for byte in line[:-1]), repr(line))


if __name__ == "__main__":
    main()
