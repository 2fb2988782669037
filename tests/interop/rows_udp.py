"""Rows for the UDP examples and ping."""

import re
import subprocess

from datagrams import counts, flood, udp_socket
from program import Skip, expect, expect_equal
from rows import foreign, row, run

TEXT = b"to be, or not to be\n"


@row("udp-echo: a datagram comes back", needs=["nc"])
def nc_gets_its_datagram_back(env):
    server, (host, port) = env.server("udp-echo")
    with server, foreign("nc", "-u", host, port, stdin=subprocess.PIPE) as client:
        client.process.stdin.write(TEXT)
        client.process.stdin.flush()
        expect_equal(client.line(), TEXT.decode().rstrip("\n"))


@row("udp-echo: 1000 datagrams, IPv6", needs=["socat"])
def socat_gets_its_datagrams_back(env):
    """One at a time: socat would put several lines that wait into one datagram."""
    server, (host, port) = env.server("udp-echo", "--host", "::1")
    with server:
        with foreign("socat", "-", f"UDP6:[{host}]:{port}", stdin=subprocess.PIPE) as client:
            for number in range(1000):
                client.process.stdin.write(b"line %d\n" % number)
                client.process.stdin.flush()
                expect_equal(client.line(), f"line {number}")
        expect_equal(counts(server.stop()[0])["answered"], 1000)


@row("udp-echo: a datagram of 60000 bytes comes back", needs=["socat"])
def socat_gets_a_large_datagram_back(env):
    server, (host, port) = env.server("udp-echo")
    data = b"x" * 59999 + b"\n"
    with server, foreign("socat", "-b", 65536, "-", f"UDP4:{host}:{port}",
                         stdin=subprocess.PIPE) as client:
        client.process.stdin.write(data)
        client.process.stdin.flush()
        expect_equal(client.line().encode(), data[:-1])


@row("udp-calculator: 5 + 6", needs=["socat"])
def socat_calculates(env):
    server, (host, port) = env.server("udp-calculator")
    with server, foreign("socat", "-", f"UDP4:{host}:{port}", stdin=subprocess.PIPE) as client:
        for question, answer in ((b"5 + 6\n", "11"), (b"(+, 5, 6)\n", "11"),
                                 (b"1 / 0\n", "error: division by zero")):
            client.process.stdin.write(question)
            client.process.stdin.flush()
            expect_equal(client.line(), answer)


@row("udp-time: a line", needs=["nc"])
def nc_gets_the_time(env):
    server, (host, port) = env.server("udp-time")
    with server, foreign("nc", "-u", host, port, stdin=subprocess.PIPE) as client:
        client.process.stdin.write(b"\n")
        client.process.stdin.flush()
        expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", client.line()), "no time")


@row("udp-client: is answered by an echo of socat's", needs=["socat"])
def client_is_answered_by_socat(env):
    with udp_socket() as sock:  # a port that was free a moment ago
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    with foreign("socat", f"UDP4-RECVFROM:{port},bind=127.0.0.1,fork", "EXEC:cat"):
        while True:  # until socat has its socket, there is nobody
            client = env.start("udp-client", "--port", port, "to be")
            out, err = client.process.communicate()
            if b"Connection refused" not in err:
                break
        expect_equal((client.process.returncode, out, err), (0, b"to be\n", b""))


@row("udp-echo: 50000 datagrams at once, each accounted for")
def flood_is_accounted_for(env):
    found = flood(env, 50000)
    return f"received {found['received']}, dropped by the kernel {found['dropped']}"


@row("udp-echo: found open by nmap", needs=["nmap"])
def nmap_finds_the_port(env):
    server, (host, port) = env.server("udp-echo")
    with server:
        said = run("nmap", "-sU", "-Pn", "-n", "-p", port, "--data-string", "hello", host).decode()
        expect(re.search(rf"^{port}/udp open\s", said, re.M), said)


@row("ping: counts as many answers, IPv4 and IPv6", needs=["ping"])
def ping_counts_the_same(env):
    for host in ("127.0.0.1", "::1"):
        said = run("ping", "-n", "-c", 20, "-i", "0.01", "-s", 1000, host).decode()
        theirs = re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()
        program = env.start("ping", "--count", 20, "--interval", 10, "--size", 1000, host)
        out, err = program.process.communicate()
        if b"not allowed: the group" in err:
            raise Skip(err.decode().strip())
        ours = re.search(r"^(\d+) sent, (\d+) answered", out.decode(), re.M).groups()
        expect_equal(ours, theirs)
    return "20 of 20 by both"
