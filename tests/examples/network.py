#!/usr/bin/env python3
"""Bad networks: lossy, reordering, repeating, without a way, without IPv6. All in private network
namespaces; see wire.py."""
import re

from datagrams import ask, udp_socket
from program import Program, expect, expect_equal, main
from wire import THERE, Wire, enter_namespace, run, set_sysctl


def case_tcp_over_a_bad_wire_is_whole(env):
    """8 MiB there and back over 4 connections; echo-client checks every byte."""
    with Wire(loss=0.02, reorder=0.25, repeat=0.01) as wire:
        server, (_, port) = env.server("echo-server", "--host", THERE, prepare=wire.enter)
        with server:
            client = Program(env.programs["echo-client"], "--host", THERE, "--port", port,
                             "--connections", 4, "--count", 32, "--size", 65536)
            client.wait()
        print("# " + wire.said())
        expect(min(map(wire.total, ("lost", "held", "repeated"))) > 50, wire.said())


def case_datagrams_over_a_bad_wire_are_asked_again(env):
    with Wire(loss=0.10, reorder=0.25, repeat=0.10) as wire:
        server, (_, port) = env.server("udp-calculator", "--host", THERE, prepare=wire.enter)
        with server:
            out, _ = env.start("udp-client", "--host", THERE, "--port", port, "--timeout", 20,
                               "--tries", 10, *(f"{i} * {i}" for i in range(100))).wait()
            expect_equal(out, "".join(f"{i * i}\n" for i in range(100)))
        expect(wire.total("lost") > 10, wire.said())


def case_words_over_a_bad_wire_are_answered(env):
    """Small pieces, a half-close, an end: each of the packets that says so is lost sometimes. Few
    are: a connection whose first packets are lost three times is given up after 5 s."""
    words = [f"word{number}" for number in range(100)]
    with Wire(loss=0.03, reorder=0.25, repeat=0.10) as wire:
        server, (_, port) = env.server("word-count-server", "--host", THERE, prepare=wire.enter)
        with server:
            for _ in range(10):
                out, _ = env.start("word-count-client", "--host", THERE, "--port", port,
                                   *words).wait()
                expect_equal(out, "".join(f"{len(word)} w\n" for word in words))
        expect(wire.total("lost") > 0, wire.said())


def case_pings_over_a_bad_wire_are_counted(env):
    with Wire(loss=0.10, repeat=0.10) as wire:
        out, _ = env.start("ping", "--count", 200, "--interval", 2, THERE).wait()
        found = re.search(r"^200 sent, (\d+) answered, (\d+) duplicates, 0 damaged, 0 errors$", out,
                          re.M)
        expect(found, out[-200:])
        answered, duplicates = map(int, found.groups())
        expect(100 < answered < 200, f"{answered} answered")
        expect(duplicates > 0, "no duplicates")


def case_wire_that_loses_all_is_silence(env):
    with Wire(loss=1.0) as wire:
        out, _ = env.start("ping", "--count", 2, "--interval", 2, "--timeout", 50, THERE).wait(1)
        expect("\n2 sent, 0 answered, 0 duplicates, 0 damaged, 0 errors\n" in out, out)
        _, err = env.start("udp-client", "--host", THERE, "--port", 9, "--timeout", 10, "--tries",
                           3, "lost").wait(1, quiet=False)
        expect("Connection timed out" in err, err)
        expect_equal(wire.directions[0].count["lost"], 5, wire.said())


def case_network_without_a_way_is_told_at_once(env):
    for host in ("192.0.2.1", "2001:db8::1"):
        for name, status, args in (
                ("word-count-client", 1, ["--host", host, "--port", 9, "word"]),
                ("udp-client", 1, ["--host", host, "--port", 9, "word"]),
                ("ping", 2, [host])):
            _, err = env.start(name, *args).wait(status, quiet=False)
            expect("Network is unreachable" in err or "::" in host and
                   "Cannot assign requested address" in err, f"{name} {host}: {err}")


def case_host_without_a_way_is_told_at_once(env):
    run("ip", "route", "add", "unreachable", "192.0.2.0/24")
    try:
        for name, status, args in (
                ("word-count-client", 1, ["--host", "192.0.2.1", "--port", 9, "word"]),
                ("udp-client", 1, ["--host", "192.0.2.1", "--port", 9, "word"]),
                ("ping", 2, ["192.0.2.1"])):
            _, err = env.start(name, *args).wait(status, quiet=False)
            expect("No route to host" in err, f"{name}: {err}")
    finally:
        run("ip", "route", "del", "unreachable", "192.0.2.0/24")


def case_host_without_ipv6_is_told_and_ipv4_works(env):
    set_sysctl("net.ipv6.conf.all.disable_ipv6", "1")
    try:
        for name, status, args in (
                ("word-count-server", 1, ["--host", "::1"]),
                ("udp-calculator", 1, ["--host", "::1"]),
                ("word-count-client", 1, ["--host", "::1", "--port", 9, "word"]),
                ("udp-client", 1, ["--host", "::1", "--port", 9, "word"]),
                ("ping", 2, ["::1"])):
            _, err = env.start(name, *args).wait(status, quiet=False)
            expect("Cannot assign requested address" in err or "Network is unreachable" in err or
                   "Address family not supported" in err, f"{name}: {err}")
        server, (_, port) = env.server("udp-calculator", "--host", "::")
        with server, udp_socket(("127.0.0.1", port)) as sock:
            expect_equal(ask(sock, b"5 + 6"), b"11\n")
    finally:
        set_sysctl("net.ipv6.conf.all.disable_ipv6", "0")


if __name__ == "__main__":
    enter_namespace()
    main()
