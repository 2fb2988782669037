#!/usr/bin/env python3
"""tcp-proxy: every byte, each end and each reset passes, memory is bounded, nothing leaks."""
import hashlib
import random
import socket
import struct
import threading

from program import (SOCKET_LIMIT, connect, expect, expect_equal, main, receive_all,
                     receive_exactly, throw_garbage)
from proxy_stall import CAP, SLACK, Offer, drain, stall

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close(2) resets


class Tunnel:
    """A proxy and a target of our own; client() connects through it to a pair of sockets."""

    def __init__(self, env, *args, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.target = socket.create_server((host, 0), family=family)
        self.target.settimeout(SOCKET_LIMIT)
        port = self.target.getsockname()[1]
        text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.proxy, self.address = env.server("tcp-proxy", "--host", host, "--target", text, *args)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.target.close()
        self.proxy.__exit__(*error)

    def pair(self):
        client = connect(self.address)
        server, _ = self.target.accept()
        server.settimeout(SOCKET_LIMIT)
        return client, server


def send_in_background(sock, data):
    def work():
        try:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # what the case looks at tells why
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def case_bytes_pass_both_ways_at_once(env):
    data = [random.Random(seed).randbytes(8 << 20) for seed in (1, 2)]
    with Tunnel(env) as tunnel:
        client, server = tunnel.pair()
        with client, server:
            threads = [send_in_background(client, data[0]), send_in_background(server, data[1])]
            got = {}
            reader = threading.Thread(target=lambda: got.update(server=receive_all(server)),
                                      daemon=True)
            reader.start()
            got["client"] = receive_all(client)
            for thread in [*threads, reader]:
                thread.join(SOCKET_LIMIT)
            for name, wanted in (("server", data[0]), ("client", data[1])):
                expect_equal(hashlib.sha256(got[name]).digest(), hashlib.sha256(wanted).digest())


def case_half_close_of_the_client_passes(env):
    with Tunnel(env) as tunnel:
        client, server = tunnel.pair()
        with client, server:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(server), b"question")
            server.sendall(b"answer")
            server.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(client), b"answer")


def case_half_close_of_the_server_passes(env):
    with Tunnel(env) as tunnel:
        client, server = tunnel.pair()
        with client, server:
            server.sendall(b"greeting")
            server.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(client), b"greeting")
            client.sendall(b"still here")
            client.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(server), b"still here")


def case_reset_passes_either_way(env):
    with Tunnel(env) as tunnel:
        for side in (0, 1):
            pair = tunnel.pair()
            with pair[0], pair[1]:
                pair[side].sendall(b"x")
                expect_equal(receive_exactly(pair[1 - side], 1), b"x")
                pair[side].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                pair[side].close()
                try:
                    receive_all(pair[1 - side])
                    expect(False, "an end in order, where a reset was sent")
                except ConnectionResetError:
                    pass


def case_target_that_refuses_ends_the_client(env):
    with Tunnel(env) as tunnel:
        tunnel.target.close()
        with connect(tunnel.address) as client:
            expect_equal(receive_all(client), b"")


def case_client_waits_while_the_target_does_not_answer(env):
    """A listener whose backlog is full does not answer: what the client sends is held, up to the
    cap, and arrives when there is room."""
    with Tunnel(env, "--cap", CAP) as tunnel:
        tunnel.target.listen(0)
        with connect(tunnel.target.getsockname()), connect(tunnel.address) as client:
            before = tunnel.proxy.resident()
            offer = Offer(client)
            offer.fill()
            expect(tunnel.proxy.resident() - before < 2 * CAP + SLACK, "memory is not bounded")
            tunnel.target.accept()[0].close()
            server, _ = tunnel.target.accept()
            with server:
                server.settimeout(SOCKET_LIMIT)
                expect_equal(drain(offer, server, 8 << 20), offer.hash.hexdigest(), "sha256")


def case_tunnel_in_which_nothing_moves_is_ended(env):
    with Tunnel(env, "--idle", 1) as tunnel:
        client, server = tunnel.pair()
        with client, server:
            for sock in (client, server):
                try:
                    expect_equal(receive_all(sock), b"")
                except ConnectionResetError:
                    pass


def case_line_of_options_as_documented_works(env):
    target = socket.create_server(("127.0.0.1", 0))
    port = target.getsockname()[1]
    proxy = env.start("tcp-proxy", "--listen", 0, "--target", f"127.0.0.1:{port}")
    with proxy, connect(proxy.ready()), target:
        target.settimeout(SOCKET_LIMIT)
        target.accept()[0].close()
    for args in ([], ["--target", "localhost:80"], ["--target", "127.0.0.1"],
                 ["--target", "127.0.0.1:80", "--cap", 1], ["--proxy-protocol", 3]):
        program = env.start("tcp-proxy", *args)
        program.process.wait()
        expect(program.process.returncode in (1, 64), f"{args}: {program.process.returncode}")
        program.process.communicate()


def case_proxy_protocol_1_says_who_the_client_is(env):
    for host, family in (("127.0.0.1", "TCP4"), ("::1", "TCP6")):
        with Tunnel(env, "--proxy-protocol", 1, host=host) as tunnel:
            client, server = tunnel.pair()
            with client, server:
                client.sendall(b"data")
                wanted = (f"PROXY {family} {host} {host} {client.getsockname()[1]} "
                          f"{tunnel.address[1]}\r\ndata").encode()
                expect_equal(receive_exactly(server, len(wanted)), wanted)


def case_proxy_protocol_2_says_who_the_client_is(env):
    for host, family, kind in (("127.0.0.1", socket.AF_INET, 0x11), ("::1", socket.AF_INET6, 0x21)):
        with Tunnel(env, "--proxy-protocol", 2, host=host) as tunnel:
            client, server = tunnel.pair()
            with client, server:
                client.sendall(b"data")
                ip = socket.inet_pton(family, host)
                body = ip + ip + struct.pack("!HH", client.getsockname()[1], tunnel.address[1])
                wanted = (b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, kind, len(body)) +
                          body + b"data")
                expect_equal(receive_exactly(server, len(wanted)), wanted)


def case_stalled_server_holds_memory_at_the_cap(env):
    print("# " + stall(env))


def case_stalled_client_holds_memory_at_the_cap(env):
    print("# " + stall(env, downstream=True))


def case_tunnels_that_stand_still_leave_room_for_others(env):
    """As many as the proxy allows but one, none of whose servers reads."""
    with Tunnel(env, "--cap", 1 << 20) as tunnel:
        pairs = [tunnel.pair() for _ in range(31)]
        for client, _ in pairs:
            client.settimeout(0.1)  # how long one is filled; no more depends on it
            try:
                while True:
                    client.sendall(b"x" * (1 << 20))
            except TimeoutError:
                pass
        client, server = tunnel.pair()
        with client, server:
            thread = send_in_background(client, b"y" * (4 << 20))
            expect_equal(len(receive_all(server)), 4 << 20)
            thread.join(SOCKET_LIMIT)
        for client, server in pairs:
            client.close()
            server.close()


def case_many_connections_leave_nothing_open(env):
    with Tunnel(env) as tunnel:
        client, server = tunnel.pair()
        open_before = tunnel.proxy.descriptors()
        for _ in range(100):
            one, other = tunnel.pair()
            one.close()
            expect_equal(receive_all(other), b"")
            other.close()
        for _ in range(1000):  # each turn of ours is some turns of the proxy's
            client.sendall(b"x")
            expect_equal(receive_exactly(server, 1), b"x")
            if tunnel.proxy.descriptors() == open_before:
                break
        expect_equal(tunnel.proxy.descriptors(), open_before, "descriptors")
        client.close()
        server.close()


def case_word_count_behind_it_answers_as_without(env):
    server, address = env.server("word-count-server")
    with server:
        proxy, at = env.server("tcp-proxy", "--target", f"127.0.0.1:{address[1]}")
        with proxy, connect(at) as sock:
            sock.sendall(b"to the sea")
            sock.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(sock), b"2 t\n3 t\n3 s\n")


def case_stop_with_open_tunnels_ends_them_in_order(env):
    tunnel = Tunnel(env)
    client, server = tunnel.pair()
    with tunnel, client, server:
        client.sendall(b"last words")
        expect_equal(receive_exactly(server, 10), b"last words")
        tunnel.proxy.process.terminate()
        expect_equal(receive_all(client), b"")
        expect_equal(receive_all(server), b"")
        client.close()
        server.close()
        tunnel.proxy.wait()


def case_garbage_passes_like_anything(env):
    server, address = env.server("word-count-server")
    with server:
        proxy, at = env.server("tcp-proxy", "--target", f"127.0.0.1:{address[1]}")
        with proxy:
            throw_garbage(at, seed=6)


if __name__ == "__main__":
    main()
