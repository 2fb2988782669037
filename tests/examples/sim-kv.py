#!/usr/bin/env python3
"""sim-kv: the server on the real kernel, and what its simulation finds."""
import random
import re
import socket

from program import (Program, connect, expect, expect_equal, main, receive_all, receive_exactly,
                     throw_garbage)

VALUE_MAX = 16384


def talk(address, request):
    """Send, say that it is all, and return what comes back."""
    with connect(address) as sock:
        sock.sendall(request)
        sock.shutdown(socket.SHUT_WR)
        return receive_all(sock)


def set_request(key, value):
    return f"SET {key} {len(value)}\n".encode() + value + b"\n"


def value_reply(value):
    return f"VALUE {len(value)}\n".encode() + value + b"\n"


def case_values_are_kept_replaced_and_deleted(env):
    server, address = env.server("sim-kv-server")
    with server:
        expect_equal(talk(address, b"GET sea\n" + set_request("sea", b"blue") + b"GET sea\n"),
                     b"NONE\nOK\n" + value_reply(b"blue"))
        expect_equal(talk(address, set_request("sea", b"") + b"GET sea\n"),
                     b"OK\n" + value_reply(b""))
        expect_equal(talk(address, b"DELETE sea\nGET sea\nDELETE sea\n"), b"OK\nNONE\nNONE\n")


def case_value_of_any_bytes_comes_back(env):
    server, address = env.server("sim-kv-server")
    value = random.Random(1).randbytes(VALUE_MAX - 3) + b"\n \n"
    with server:
        expect_equal(talk(address, set_request("k" * 64, value) + b"GET " + b"k" * 64 + b"\n"),
                     b"OK\n" + value_reply(value))


def case_requests_byte_by_byte_are_answered_the_same(env):
    server, address = env.server("sim-kv-server")
    request = set_request("a", b"x\ny") + b"GET a\nDELETE a\n"
    wanted = b"OK\n" + value_reply(b"x\ny") + b"OK\n"
    with server, connect(address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            sock.sendall(bytes([byte]))
        expect_equal(receive_exactly(sock, len(wanted)), wanted)


def case_what_is_no_request_is_refused_and_ends_the_connection(env):
    server, address = env.server("sim-kv-server")
    with server:
        for request, reason in (
                (b"\n", b"not a request"), (b"GET\n", b"not a request"),
                (b"GET  a\n", b"not a request"), (b"GET a b\n", b"not a request"),
                (b"get a\n", b"not a request"), (b"GET a\r\n", b"not a request"),
                (b"SET a 1 2\n", b"not a request"), (b"DELETE a \n", b"not a request"),
                (b"GET " + b"k" * 65 + b"\n", b"64 characters"), (b"x" * 97, b"too long"),
                (b"SET a 16385\n", b"0 to 16384"), (b"SET a -1\n", b"0 to 16384"),
                (b"SET a 99999999999999999999\n", b"0 to 16384"),
                (b"SET a 2\nxyz\n", b"longer than was said")):
            reply = talk(address, b"GET b\n" + request + b"GET b\n")
            expect(re.fullmatch(rb"NONE\nERROR .*" + reason + rb".*\n", reply),
                   f"{request}: {reply}")
        expect_equal(talk(address, b"GET a\n"), b"NONE\n")


def case_half_a_value_is_not_stored(env):
    server, address = env.server("sim-kv-server")
    with server:
        expect_equal(talk(address, set_request("a", b"first") + b"SET a 5\nsec"), b"OK\n")
        expect_equal(talk(address, b"GET a\n"), value_reply(b"first"))


def case_full_store_refuses_new_keys_only(env):
    server, address = env.server("sim-kv-server", "--keys", 2)
    with server:
        request = b"".join(set_request(key, b"1") for key in ("a", "b", "c", "a"))
        expect_equal(talk(address, request + b"GET c\n"), b"OK\nOK\nFULL\nOK\nNONE\n")


def case_full_memory_refuses_values(env):
    server, address = env.server("sim-kv-server", "--memory", 1)
    value = b"v" * VALUE_MAX
    with server:
        request = b"".join(set_request(f"key{i:04}", value) for i in range(70))
        expect_equal(talk(address, request), b"OK\n" * 63 + b"FULL\n" * 7)
        expect_equal(talk(address, b"DELETE key0000\n" + set_request("z", b"z")), b"OK\nOK\n")


def case_client_that_asks_much_and_reads_late_gets_all_of_it(env):
    """Replies are so much longer than requests: they may not pile up, and none may be lost."""
    server, address = env.server("sim-kv-server")
    value = random.Random(2).randbytes(VALUE_MAX)
    count = 20000
    with server, connect(address) as sock:
        sock.sendall(set_request("a", value))
        expect_equal(receive_exactly(sock, 3), b"OK\n")
        requests = b"GET a\n" * count
        sock.sendall(requests)
        sock.shutdown(socket.SHUT_WR)
        expect(server.resident() < 128 << 20, "memory is not bounded")
        reply = value_reply(value)
        for _ in range(count):
            expect(receive_exactly(sock, len(reply)) == reply, "a reply is not the value")
        expect_equal(receive_all(sock), b"")


def case_stop_with_open_connections_ends_them_in_order(env):
    server, address = env.server("sim-kv-server")
    with connect(address) as sock:
        sock.sendall(b"GET a\n")
        expect_equal(receive_exactly(sock, 5), b"NONE\n")
        server.process.terminate()
        expect_equal(receive_all(sock), b"")
    server.wait()


def case_garbage_is_refused_and_survived(env):
    server, address = env.server("sim-kv-server")
    with server:
        throw_garbage(address, seed=3)
        expect_equal(talk(address, b"GET a\n"), b"NONE\n")


def case_nonsense_on_the_command_line_is_refused(env):
    for status, args in ((64, ["--port", "65536"]), (64, ["--keys", "0"]), (64, ["--memory", "x"]),
                         (1, ["--host", "localhost"]), (64, ["--backend", "kqueue"])):
        _, err = env.start("sim-kv-server", *args).wait(status, quiet=False)
        expect(args[1] in err, f"{args}: {err}")


# ---- the simulation ----

def simulate(env, *args, status=0):
    """What sim-kv-test prints. AddressSanitizer has a word to say about coroutines, and a run that
    fails leaves its programs where they stand, with their memory."""
    program = Program(env.programs["sim-kv-test"], "--personality", env.backend, *args,
                      env={"ASAN_OPTIONS": "detect_leaks=0"})
    return program.wait(status, quiet=False)[0]


def case_simulation_of_the_server_passes_and_repeats_itself(env):
    first = simulate(env, "--seeds", 20)
    expect(re.search(r"^20 seeds, 0 failed, hash [0-9a-f]{16}$", first, re.M), first)
    expect_equal(simulate(env, "--seeds", 20), first)


def case_simulation_finds_the_planted_bug_and_replays_it(env):
    found = simulate(env, "--seeds", 1000, "--planted-bug", status=1)
    failure = re.search(r"^FAIL seed=(0x[0-9a-f]+) step=\d+ time=[\d.]+s: .*is torn.*$", found, re.M)
    expect(failure, found)
    again = ("--seed", failure[1], "--planted-bug", "--trace")
    trace = simulate(env, *again, status=1)
    expect(failure[0] in trace.splitlines(), "the replay fails in another way, or not at all")
    for what in (r"client\d: SET k\d#\d+, \d+ bytes", r"tcp \d+[<>] \d+ bytes", r"FAILED k\d is torn"):
        expect(re.search(r"^ +\d+\.\d{9} " + what, trace, re.M), f"no '{what}' in the trace")
    expect_equal(simulate(env, *again, status=1), trace)
    simulate(env, "--seed", failure[1])


def case_simulation_refuses_nonsense_on_its_command_line(env):
    for args in (["--seeds", "x"], ["--seed", "-1"], ["--personality", "kqueue"]):
        program = Program(env.programs["sim-kv-test"], *args)
        expect(args[1] in program.wait(64, quiet=False)[1], args)


if __name__ == "__main__":
    main()
