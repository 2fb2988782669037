#!/usr/bin/env python3
"""port-scanner: finds what listens and nothing else, at the rate asked for, and leaves nothing
open (V14)."""
import contextlib
import os
import re
import resource
import select
import signal
import socket
import time

from program import SOCKET_LIMIT, expect, expect_equal, main


@contextlib.contextmanager
def listeners(count, host="127.0.0.1"):
    """So many ports that listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_server((host, 0), family=family))
                 for _ in range(count)]
        yield sorted(sock.getsockname()[1] for sock in socks)


def scan(env, *args):
    """Run a scan: ({address: service}, {count name: count})."""
    out, _ = env.start("port-scanner", *args).wait()
    *lines, last = out.splitlines()
    counts = {name: int(count) for count, name in
              re.findall(r"(\d+) (open|closed|silent|unreachable|failed)", last)}
    found = re.fullmatch(r"(\d+) of (\d+) ports tried: .*", last)
    expect(found and found[1] == found[2], last)
    expect_equal(sum(counts.values()), int(found[2]), "what is counted")
    return dict(line.split() for line in lines), counts


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def in_table(port):
    """What the machine calls a port."""
    try:
        return socket.getservbyport(port, "tcp")
    except OSError:
        return "unknown"


def case_listening_ports_are_found_among_others(env):
    with listeners(3) as ports, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody else can listen there meanwhile
        none = closed.getsockname()[1]
        found, counts = scan(env, "--ports", ",".join(map(str, [none, *reversed(ports)])))
        expect_equal(list(found), [f"127.0.0.1:{port}" for port in ports], "open ports")
        expect_equal((counts["open"], counts["closed"]), (3, 1))


def case_all_ports_leave_no_descriptor_and_no_failure(env):
    """65,535 ports with room for 64 descriptors: it waits for the next free one and leaks none."""
    with listeners(2) as ports:
        program = env.start("port-scanner", "--ports", "1-65535", "--rate", 1000000,
                            "--concurrency", 200, prepare=few_descriptors)
        out, _ = program.wait()
        expect("65535 of 65535" in out and " 0 failed" in out, out)
        for port in ports:
            expect(f"127.0.0.1:{port} {in_table(port)}\n" in out, out)


def case_several_hosts_and_ipv6_are_scanned(env):
    with listeners(1) as four, listeners(1, "::1") as six:
        both = f"{four[0]},{six[0]}"
        found, _ = scan(env, "--ports", both, "127.0.0.1", "::1", "127.0.0.2")
        expect(f"127.0.0.1:{four[0]}" in found, found)
        expect(f"[::1]:{six[0]}" in found, found)
        expect(f"127.0.0.2:{four[0]}" not in found, found)


def case_rate_is_not_exceeded(env):
    """200 ports at 100 a second cannot take less than 1.9 s, on a slow machine as on a fast."""
    with listeners(1) as ports:
        begin = time.monotonic()
        scan(env, "--ports", "1-199,%d" % ports[0], "--rate", 100)
        expect(time.monotonic() - begin > 1.9, "faster than the rate allows")


def case_port_that_does_not_answer_is_silent(env):
    """A listener whose backlog is full lets further connections wait without an answer."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        for _ in range(3):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(address)
        _, counts = scan(env, "--ports", address[1], "--timeout", 200)
        expect_equal(counts["silent"], 1, "silent ports")


def case_progress_goes_to_a_terminal_only(env):
    """With a terminal as stderr there is a bar; otherwise wait() has seen that there is none."""
    terminal, end = os.openpty()
    with listeners(1) as ports:
        program = env.start("port-scanner", "--ports", "1-100,%d" % ports[0], "--rate", 200,
                            stderr=end)
        os.close(end)
        ready, _, _ = select.select([terminal], [], [], SOCKET_LIMIT)
        expect(ready, "no bar")
        expect(os.read(terminal, 100).startswith(b"\r["), "no bar")
        program.process.stdout.read()
        expect_equal(program.process.wait(), 0)
        program.process.stdout.close()
    os.close(terminal)


def case_interrupted_scan_says_so_and_fails(env):
    program = env.start("port-scanner", "--ports", "1-65535", "--rate", 1)
    wait_for_signals_blocked(program)
    program.process.send_signal(signal.SIGINT)
    out, _ = program.wait(1)
    expect(re.search(r"^\d+ of 65535 ports tried", out), out)


def wait_for_signals_blocked(program):
    """Until it watches for signals; that shows in its status."""
    while True:
        with open(f"/proc/{program.process.pid}/status", encoding="ascii") as status:
            mask = int(re.search(r"^SigBlk:\s+([0-9a-f]+)$", status.read(), re.M)[1], 16)
        if mask & (1 << (signal.SIGINT - 1)):
            return


def case_nonsense_on_the_command_line_is_refused(env):
    for text in ("", "0", "65536", "1-", "-1", "5-4", "1,,2", "1,", "x", "1 2", "99999999999"):
        env.start("port-scanner", "--ports=" + text).wait(64, quiet=False)
    env.start("port-scanner", "localhost").wait(64, quiet=False)


if __name__ == "__main__":
    main()
