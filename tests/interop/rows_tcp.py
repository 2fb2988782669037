"""Rows for the TCP examples: echo-server, word-count, chat-server, tcp-proxy, port-scanner."""

import contextlib
import hashlib
import json
import random
import re
import socket
import subprocess

from program import expect, expect_equal, receive_exactly, connect
from proxy_stall import stall
from rows import directory, foreign, free_port, nginx, row, run

DATA = random.Random(7).randbytes(4 << 20)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- echo-server ----


@row("echo-server: 4 MiB come back", needs=["nc"])
def nc_gets_its_bytes_back(env):
    server, (host, port) = env.server("echo-server")
    with server:
        expect_equal(sha256(run("nc", "-N", host, port, data=DATA)), sha256(DATA))


@row("echo-server: 4 MiB come back", needs=["socat"])
def socat_gets_its_bytes_back(env):
    server, (host, port) = env.server("echo-server")
    with server:
        got = run("socat", "-t", 30, "-", f"TCP:{host}:{port}", data=DATA)
        expect_equal(sha256(got), sha256(DATA))


# ---- word-count, chat-server ----


@row("word-count: words are answered", needs=["nc"])
def nc_gets_answers(env):
    server, (host, port) = env.server("word-count-server")
    with server:
        expect_equal(run("nc", "-N", host, port, data=b"to the sea"), b"2 t\n3 t\n3 s\n")


@row("chat-server: two members talk", needs=["nc"])
def nc_members_talk(env):
    server, (host, port) = env.server("chat-server")
    with server, foreign("nc", host, port, stdin=subprocess.PIPE) as ann, \
            foreign("nc", host, port, stdin=subprocess.PIPE) as bob:
        for member, name in ((ann, b"ann\n"), (bob, b"bob\n")):
            expect_equal(member.line(), "* your name?")
            member.process.stdin.write(name)
            member.process.stdin.flush()
            expect_equal(member.line(), "* welcome")
        expect_equal(ann.line(), "* bob joined")
        ann.process.stdin.write(b"hello\n")
        ann.process.stdin.flush()
        expect_equal(bob.line(), "ann: hello")


# ---- tcp-proxy ----


def iperf3(env, *args):
    port = free_port()
    with foreign("iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", port, "--forceflush") as server:
        while "Server listening" not in server.line():
            pass
        proxy, (host, at) = env.server("tcp-proxy", "--target", f"127.0.0.1:{port}")
        with proxy:
            report = json.loads(run("iperf3", "-c", host, "-p", at, "-t", 3, "-J", *args))
    expect("error" not in report, report.get("error"))
    received = report["end"]["sum_received"]
    expect(received["bytes"] > 0, "nothing arrived")
    return f"{received['bits_per_second'] / 1e9:.1f} Gbit/s"


@row("tcp-proxy: 4 connections, to the server", needs=["iperf3"])
def iperf3_uploads(env):
    return iperf3(env, "-P", 4)


@row("tcp-proxy: 4 connections, from the server (-R)", needs=["iperf3"])
def iperf3_downloads(env):
    return iperf3(env, "-P", 4, "-R")


@row("tcp-proxy: both ways at once (--bidir)", needs=["iperf3"])
def iperf3_both_ways(env):
    return iperf3(env, "--bidir")


@row("tcp-proxy: the end of one direction passes (sha256sum)", needs=["socat", "nc"])
def socat_sees_the_half_close(env):
    with directory() as path:
        with foreign("sh", "-c", "exec socat -d -d -t 30 UNIX-LISTEN:$1,fork EXEC:sha256sum 2>&1",
                     "sh", path / "s") as target:
            while "listening on" not in target.line():
                pass
            proxy, (host, port) = env.server("tcp-proxy", "--target", f"unix:{path}/s")
            with proxy:
                got = run("nc", "-N", host, port, data=DATA)
                expect_equal(got.split()[0].decode(), sha256(DATA))


@row("tcp-proxy: curl, proxy, nginx: a file of 4 MiB", needs=["nginx", "curl"])
def curl_through_the_proxy(env):
    with directory() as path:
        (path / "file").write_bytes(DATA)
        with nginx(path, f"listen unix:{path}/s; root {path};"):
            proxy, (host, port) = env.server("tcp-proxy", "--target", f"unix:{path}/s")
            with proxy:
                got = run("curl", "-sSf", f"http://{host}:{port}/file")
                expect_equal(sha256(got), sha256(DATA))


@row("tcp-proxy: nginx, proxy, nginx: a file of 4 MiB", needs=["nginx", "curl"])
def nginx_in_front_of_the_proxy(env):
    with directory() as path, directory() as front:
        (path / "file").write_bytes(DATA)
        with nginx(path, f"listen unix:{path}/s; root {path};"):
            proxy, (host, port) = env.server("tcp-proxy", "--target", f"unix:{path}/s")
            with proxy, nginx(front, f"listen unix:{front}/s; location / "
                                     f"{{ proxy_pass http://{host}:{port}; }}"):
                got = run("curl", "-sSf", "--unix-socket", front / "s", "http://front/file")
                expect_equal(sha256(got), sha256(DATA))


def proxy_protocol(env, number):
    with directory() as path:
        with nginx(path, f"listen unix:{path}/s proxy_protocol; "
                         "return 200 $proxy_protocol_addr:$proxy_protocol_port;"):
            proxy, (host, port) = env.server("tcp-proxy", "--target", f"unix:{path}/s",
                                             "--proxy-protocol", number)
            with proxy, connect((host, port)) as sock:
                wanted = f"127.0.0.1:{sock.getsockname()[1]}".encode()
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                head = b""
                while b"\r\n\r\n" not in head:
                    head += receive_exactly(sock, 1)
                expect_equal(receive_exactly(sock, len(wanted)), wanted)


@row("tcp-proxy: PROXY protocol 1 tells the client's address", needs=["nginx"])
def nginx_reads_version_1(env):
    proxy_protocol(env, 1)


@row("tcp-proxy: PROXY protocol 2 tells the client's address", needs=["nginx"])
def nginx_reads_version_2(env):
    proxy_protocol(env, 2)


@row("tcp-proxy: the server stands still for 10 s")
def stalled_server(env):
    return stall(env, seconds=10)


@row("tcp-proxy: the client stands still for 10 s")
def stalled_client(env):
    return stall(env, seconds=10, downstream=True)


# ---- port-scanner ----


@row("port-scanner: the same open ports of loopback", needs=["nmap"])
def nmap_finds_the_same(env):
    with contextlib.ExitStack() as stack:
        ours = [stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
                for _ in range(5)]
        ports = ",".join(["1-10000", *map(str, ours)])
        out, _ = env.start("port-scanner", "--ports", ports).wait()
        said = run("nmap", "-sT", "-n", "-Pn", "-oG", "-", "-p", ports, "127.0.0.1").decode()
    theirs = {f"127.0.0.1:{port}": name or "unknown" for port, name in
              re.findall(r"(\d+)/open/tcp//([^/]*)/", said)}
    found = dict(line.split() for line in out.splitlines()[:-1])
    expect_equal(sorted(found), sorted(theirs), "open ports")
    expect(len(found) >= 5, "not all of ours were found")
    return f"{len(found)} open ports"
