"""Rows for the web server and the HTTP client."""

import contextlib
import hashlib
import random
import re
import sys
import time

from program import Program, connect, expect, expect_equal
from rows import directory, free_port, nginx, row, run

BIG = random.Random(9).randbytes(8 << 20)
SMALL = BIG[:1024]


@contextlib.contextmanager
def site(env, *args):
    """A web server with two files; its URL without the last slash."""
    with directory() as root:
        (root / "small.html").write_bytes(SMALL)
        (root / "big.bin").write_bytes(BIG)
        server, (host, port) = env.server("web-server", "--root", root, *args)
        with server:
            yield f"http://{host}:{port}", (host, port)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# ---- web-server: curl ----


@row("web-server: files of 1 KiB and 8 MiB come whole", needs=["curl"])
def curl_gets_files(env):
    with site(env) as (url, _):
        for name, data in (("small.html", SMALL), ("big.bin", BIG)):
            expect_equal(sha256(run("curl", "-sSf", f"{url}/{name}")), sha256(data), name)


@row("web-server: HEAD", needs=["curl"])
def curl_asks_for_the_head(env):
    with site(env) as (url, _):
        head = run("curl", "-sSfI", f"{url}/big.bin").decode()
        expect(f"Content-Length: {len(BIG)}\r\n" in head, head)


@row("web-server: ranges, and a download that is resumed", needs=["curl"])
def curl_asks_for_ranges(env):
    with site(env) as (url, _), directory() as here:
        for text, data in (("0-9", BIG[:10]), ("1000000-", BIG[1000000:]), ("-5", BIG[-5:])):
            expect_equal(sha256(run("curl", "-sSf", "-r", text, f"{url}/big.bin")), sha256(data), text)
        (here / "part").write_bytes(BIG[:3_000_000])
        run("curl", "-sSf", "-C", "-", "-o", here / "part", f"{url}/big.bin")
        expect_equal(sha256((here / "part").read_bytes()), sha256(BIG), "resumed")


@row("web-server: one connection for 20 requests", needs=["curl"])
def curl_keeps_the_connection(env):
    with site(env) as (url, _):
        made = run("curl", "-sSf", "-o", "/dev/null", "-w", "%{num_connects} ",
                   f"{url}/small.html?[1-20]").split()
        expect_equal([int(n) for n in made], [1] + 19 * [0])


@row("web-server: not modified, 404, 405, and a body", needs=["curl"])
def curl_gets_other_answers(env):
    def status(*args):
        return run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *args).decode()

    with site(env) as (url, _), directory() as here:
        run("curl", "-sSfR", "-o", here / "copy", f"{url}/small.html")
        expect_equal(status("-z", here / "copy", f"{url}/small.html"), "304")
        expect_equal(status(f"{url}/none"), "404")
        expect_equal(status("-d", "x=y", f"{url}/small.html"), "405")
        expect_equal(status("-X", "GET", "-H", "Expect: 100-continue", "-d", 40_000 * "x",
                            f"{url}/small.html"), "200")
        expect_equal(status("--http1.0", f"{url}/small.html"), "200")
        expect_equal(status("--http2", f"{url}/small.html"), "200")
        expect_equal(status("--path-as-is", f"{url}/../../etc/passwd"), "400")


# ---- web-server: load ----


@row("web-server: no errors under load, keep-alive", needs=["wrk"])
def wrk_sees_no_errors(env):
    with site(env) as (url, _):
        for name, seconds in (("small.html", 2), ("big.bin", 1)):
            out = run("wrk", "-t1", "-c64", f"-d{seconds}s", f"{url}/{name}").decode()
            expect("Non-2xx" not in out and "Socket errors" not in out, out)
            expect(int(re.search(r"(\d+) requests in", out)[1]) > 0, out)


@row("web-server: HTTP/1.0, keep-alive and close", needs=["ab"])
def ab_counts_no_failures(env):
    with site(env) as (url, _):
        for options in (["-k"], []):
            out = run("ab", "-q", "-n", 5000, "-c", 50, *options, f"{url}/small.html").decode()
            expect(re.search(r"^Failed requests:\s+0$", out, re.M), out)
            expect(re.search(r"^Complete requests:\s+5000$", out, re.M), out)
            expect("Non-2xx" not in out, out)
            kept = re.search(r"^Keep-Alive requests:\s+(\d+)$", out, re.M)
            expect_equal(int(kept[1]) if kept else 0, 5000 if options else 0, "kept")


# ---- web-server: slow clients ----


def slow(env, name, *options):
    """slowhttptest against the server, with a request of somebody else now and then. Nobody has to
    wait for those who are slow."""
    with site(env, "--head-timeout", 3, "--keep-alive", 5) as (url, address):
        attack = Program("slowhttptest", "-c", "300", "-r", "300", "-l", "20", "-p", "3", *options,
                         "-u", f"{url}/{name}")
        longest = 0
        while attack.process.poll() is None:
            start = time.monotonic()
            expect_equal(sha256(run("curl", "-sSf", "-m", 5, f"{url}/small.html")), sha256(SMALL))
            longest = max(longest, time.monotonic() - start)
            time.sleep(0.2)  # a pace, nothing is waited for
        out = re.sub(r"\x1b\[[0-9;]*m", "", attack.kill().decode(errors="replace"))
        connect(address).close()
        ended = re.search(r"Test ended on (\d+)\w* second\s+Exit status: (.+)", out)
        expect(ended, out[-1000:])
        return f"longest wait of others {1000 * longest:.0f} ms", int(ended[1]), ended[2].strip()


def all_ended(env, *options):
    """The server ends all of the 300 long before the attacker would."""
    text, second, ended = slow(env, "small.html", *options)
    expect_equal(ended, "No open connections left")
    return f"{text}, all closed in second {second}"


@row("web-server: slow heads are ended, others are served", needs=["slowhttptest", "curl"])
def slowhttptest_headers(env):
    return all_ended(env, "-H", "-i", "1")


@row("web-server: slow bodies are ended, others are served", needs=["slowhttptest", "curl"])
def slowhttptest_bodies(env):
    return all_ended(env, "-B", "-i", "1", "-s", "8192")


@row("web-server: slow readers hold up nobody", needs=["slowhttptest", "curl"])
def slowhttptest_readers(env):
    return slow(env, "big.bin", "-X", "-w", "10", "-y", "20", "-n", "1", "-z", "5", "-k", "3")[0]


# ---- http-get ----


def fetch(env, url, status=0):
    client = env.start("http-get", "--output", "/dev/stdout", url)
    out = client.process.communicate(timeout=60)[0]
    expect_equal(client.process.returncode, status, "exit status")
    return out


@row("http-get: files by length, chunks, and a 404", needs=["nginx"])
def http_get_from_nginx(env):
    port = free_port()
    with directory() as path:
        (path / "big.bin").write_bytes(BIG)
        (path / "list.html").write_text("<!--# echo var=\"x\" default=\"chunked\" -->")
        server = f"listen 127.0.0.1:{port}; location / {{ root {path}; ssi on; }}"
        with nginx(path, server):
            url = f"http://127.0.0.1:{port}"
            expect_equal(sha256(fetch(env, f"{url}/big.bin")), sha256(BIG))
            expect_equal(fetch(env, f"{url}/list.html"), b"chunked")
            expect(b"404" in fetch(env, f"{url}/none", status=3), "no page")


@row("http-get: a file until the connection closes (HTTP/1.0)")
def http_get_from_python(env):
    with directory() as path:
        (path / "big.bin").write_bytes(BIG)
        server = Program(sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1",
                         "--directory", path, "0")
        try:
            port = int(re.search(r"port (\d+)", server.line())[1])
            expect_equal(sha256(fetch(env, f"http://127.0.0.1:{port}/big.bin")), sha256(BIG))
            fetch(env, f"http://127.0.0.1:{port}/none", status=3)
        finally:
            server.kill()
