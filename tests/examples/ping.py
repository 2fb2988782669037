#!/usr/bin/env python3
"""ping: requests are answered and measured; what comes twice, damaged or from elsewhere is not
taken for an answer."""
import os
import re
import select
import signal
import socket
import struct

from program import SOCKET_LIMIT, Skip, expect, expect_equal, main

REQUEST = 8
REPLY = 0


def ping(env, *args, status=0):
    """Run it: (lines, counts). Skips where neither kind of socket may be opened."""
    program = env.start("ping", *args)
    out, err = program.process.communicate(timeout=SOCKET_LIMIT)
    err = err.decode()
    return result(program.process.returncode, out.decode(), err, status)


def result(returned, out, err, status=0):
    if "not allowed: the group" in err:
        raise Skip(err.strip())
    if "io_uring was demanded" in err:
        raise Skip(err.strip())
    expect_equal((returned, err), (status, ""), "exit status")
    found = re.search(r"^(\d+) sent, (\d+) answered, (\d+) duplicates, (\d+) damaged, (\d+) errors$",
                      out, re.M)
    expect(found, out)
    names = ("sent", "answered", "duplicates", "damaged", "errors")
    return out.splitlines(), dict(zip(names, map(int, found.groups())))


def need_v6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        raise Skip(f"no IPv6 here: {error}") from None


def raw_socket():
    """A socket that sees what ping sends over loopback."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    except PermissionError as error:
        raise Skip(f"raw sockets: {error}") from None
    sock.settimeout(SOCKET_LIMIT)
    return sock


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def send_reply(sock, to, identifier, sequence, payload):
    data = struct.pack("!BBHHH", REPLY, 0, 0, identifier, sequence) + payload
    sock.sendto(data[:2] + struct.pack("!H", checksum(data)) + data[4:], (to, 0))


def next_request(sock, size):
    """The next request with so many bytes of payload: (identifier, sequence, payload)."""
    while True:
        data = sock.recv(65536)[20:]
        kind, _, _, identifier, sequence = struct.unpack("!BBHHH", data[:8])
        if kind == REQUEST and len(data) == 8 + size:
            return identifier, sequence, data[8:]


def answered(env, host, *args, count=3):
    lines, counts = ping(env, host, "--count", count, "--interval", 2, *args)
    expect_equal(counts, {"sent": count, "answered": count, "duplicates": 0, "damaged": 0,
                          "errors": 0})
    for sequence in range(count):
        found = [line for line in lines if f" from {host}: seq={sequence} ttl=" in line]
        expect_equal(len(found), 1, f"answers to {sequence}")
        expect(re.search(r" ttl=[1-9]\d* time=\d+\.\d{3} ms$", found[0]), found[0])
    least, average, most = map(float, re.search(r"= ([\d.]+)/([\d.]+)/([\d.]+) ms$",
                                                lines[-1]).groups())
    expect(0 <= least <= average <= most, lines[-1])


def case_loopback_answers(env):
    answered(env, "127.0.0.1")


def case_loopback_answers_over_ipv6(env):
    need_v6()
    answered(env, "::1")


def case_hundred_requests_are_all_answered(env):
    answered(env, "127.0.0.1", count=100)


def case_smallest_and_largest_payload_are_answered(env):
    """A socket's buffer takes few of the largest, so there is one at a time."""
    for size in (0, 1, 65507):
        answered(env, "127.0.0.1", "--size", size, count=1)


def case_largest_payload_is_answered_over_ipv6(env):
    need_v6()
    answered(env, "::1", "--size", 65507, count=1)


def with_a_forged_answer(env, forge):
    """Let forge(sock, request) answer a request that the kernel has answered already. Returns the
    line about the forged answer, and the counts. The size tells this ping from others that run."""
    size = 800 + 2 * (os.getpid() % 1000)
    with raw_socket() as sock:
        program = env.start("ping", "127.0.0.1", "--count", 2, "--interval", 60000, "--size", size)
        try:
            line = program.line()
            if "over a raw socket" not in line:
                raise Skip("ping sockets hear the kernel's answers alone: " + line)
            forge(sock, next_request(sock, size))
            program.line()
            note = program.line()
            program.process.send_signal(signal.SIGINT)
            out, err = program.process.communicate(timeout=SOCKET_LIMIT)
        except BaseException:
            program.kill()
            raise
    _, counts = result(program.process.returncode, (program.text + out).decode(), err.decode())
    return note, counts


def case_second_answer_is_a_duplicate(env):
    note, counts = with_a_forged_answer(
        env, lambda sock, request: send_reply(sock, "127.0.0.1", *request))
    expect(note.endswith(" (duplicate)"), note)
    expect_equal((counts["answered"], counts["duplicates"], counts["damaged"]), (1, 1, 0))


def case_changed_answer_is_damaged(env):
    def forge(sock, request):
        identifier, sequence, payload = request
        send_reply(sock, "127.0.0.1", identifier, sequence, payload[:-1] + bytes([payload[-1] ^ 1]))

    note, counts = with_a_forged_answer(env, forge)
    expect(note.endswith(" (damaged)"), note)
    expect_equal((counts["answered"], counts["duplicates"], counts["damaged"]), (1, 0, 1))


def case_answers_to_others_are_not_counted(env):
    """Another identifier, a number never sent, no echo, too short for anything; then a true one."""
    def forge(sock, request):
        identifier, sequence, payload = request
        send_reply(sock, "127.0.0.1", identifier ^ 1, sequence, payload)
        send_reply(sock, "127.0.0.1", identifier, 7, payload)
        sock.sendto(bytes([13]) + bytes(19), ("127.0.0.1", 0))
        sock.sendto(b"\0\0\0\0", ("127.0.0.1", 0))
        send_reply(sock, "127.0.0.1", *request)

    note, counts = with_a_forged_answer(env, forge)
    expect(note.endswith(" (duplicate)"), note)
    expect_equal((counts["answered"], counts["duplicates"], counts["damaged"]), (1, 1, 0))


def case_signal_ends_it_with_the_result(env):
    program = env.start("ping", "127.0.0.1", "--count", 65535, "--interval", 60000)
    ready, _, _ = select.select([program.process.stdout], [], [], SOCKET_LIMIT)
    expect(ready, "no output")
    if os.read(program.process.stdout.fileno(), 65536):
        program.process.send_signal(signal.SIGTERM)
    out, err = program.process.communicate(timeout=SOCKET_LIMIT)
    status = program.process.returncode
    result(status, out.decode(), err.decode(), status)
    expect(status in (0, 1), f"{status}")  # 1: it was ended before the answer came


def case_without_privileges_it_says_what_is_missing(env):
    if os.geteuid() != 0:
        raise Skip("to give privileges up takes root")
    with open("/proc/sys/net/ipv4/ping_group_range", encoding="ascii") as text:
        least, most = map(int, text.read().split())
    nobody = 65534
    if least <= nobody <= most:
        raise Skip("anybody may ping here")
    program = env.start("ping", "127.0.0.1", prepare=give_up_root)
    _, err = program.wait(2, quiet=False)
    expect("not allowed: the group of this process is not in net.ipv4.ping_group_range" in err, err)


def give_up_root():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def case_nonsense_on_the_command_line_is_refused(env):
    for args in ([], ["localhost"], ["127.0.0.1", "::1"], ["--count", 0, "127.0.0.1"],
                 ["--count", 65536, "127.0.0.1"], ["--interval", 1, "127.0.0.1"],
                 ["--size", 65508, "127.0.0.1"], ["--backend", "x", "127.0.0.1"]):
        env.start("ping", *args).wait(64, quiet=False)


if __name__ == "__main__":
    main()
