"""The HTTP client, against a server of this file that says whatever the case wants."""

import http.server
import os
import pathlib
import socket
import tempfile
import threading

import program
from program import expect, expect_equal

USAGE, NETWORK, STATUS, MALFORMED = 1, 2, 3, 4


class Peer:
    """Takes one connection, and answers the request with given bytes; then closes, or is silent
    until the client has gone."""

    def __init__(self, answer, silent=False):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(program.SOCKET_LIMIT)
        self.answer, self.silent, self.request = answer, silent, b""
        self.thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def url(self):
        return "http://127.0.0.1:%d/path?query" % self.listener.getsockname()[1]

    def _serve(self):
        sock, _ = self.listener.accept()
        with sock:
            sock.settimeout(program.SOCKET_LIMIT)
            while not self.request.endswith(b"\r\n\r\n"):
                self.request += sock.recv(65536)
            try:
                for part in self.answer if isinstance(self.answer, list) else [self.answer]:
                    sock.sendall(part)
                if not self.silent:
                    sock.shutdown(socket.SHUT_WR)
                program.receive_all(sock)
            except OSError:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.thread.join(0 if kind else program.SOCKET_LIMIT)
        self.listener.close()
        expect(kind or not self.thread.is_alive(), "the client does not end the connection")


def fetch(env, answer, *args, silent=False, status=0):
    """What the client writes, and says on stderr."""
    with Peer(answer, silent) as peer:
        client = env.start("http-get", *args, peer.url)
        out, err = client.wait(status, quiet=status in (0, STATUS))
        expect(peer.request.startswith(b"GET /path?query HTTP/1.1\r\n"), f"{peer.request!r}")
        expect(b"\r\nConnection: close\r\n" in peer.request, f"{peer.request!r}")
    expect(status in (0, STATUS) or err, "no word about what went wrong")
    return out


def case_length_ends_the_body(env):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
    expect_equal(fetch(env, answer), "hello")
    expect_equal(fetch(env, answer + b"more than was promised"), "hello")
    expect_equal(fetch(env, answer, silent=True), "hello", "without waiting for the end")
    expect_equal(fetch(env, [answer[n:n + 1] for n in range(len(answer))]), "hello", "in bytes")
    expect_equal(fetch(env, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", silent=True), "")
    expect_equal(fetch(env, b"HTTP/1.1 204 No Content\r\n\r\n", silent=True), "")


def case_chunks_are_joined(env):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"5\r\nhello\r\n1;name=value\r\n,\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    expect_equal(fetch(env, head + body), "hello,0123456789")
    expect_equal(fetch(env, head + body, silent=True), "hello,0123456789")


def case_end_of_connection_ends_the_body(env):
    expect_equal(fetch(env, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"), "until the end")
    expect_equal(fetch(env, b"HTTP/1.0 200 OK\r\n\r\n"), "")


def case_interim_answers_are_passed_over(env):
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    expect_equal(fetch(env, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
                       + answer), "ok")


def case_bad_status_is_an_exit_status(env):
    for status in (b"400 Bad Request", b"404 Not Found", b"503 No"):
        answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n\r\nwhy"
        expect_equal(fetch(env, answer, status=STATUS), "why")
    expect_equal(fetch(env, b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "")


def case_cut_off_answers_are_malformed(env):
    for answer in (b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
                   b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                   b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
                   b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"):
        fetch(env, answer, status=MALFORMED)


def case_malformed_answers_are_refused_v04(env):
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for answer in (b"garbage", b"\x00" * 100, b"SSH-2.0-x\r\n", b"HTTP/1.1 abc OK\r\n\r\n",
                   b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
                   b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                   b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
                   chunked + b"x\r\n", chunked + b"-1\r\n",
                   chunked + b"fffffffffffffffff\r\n", chunked + b"10000000000000005\r\nhello\r\n",
                   chunked + b"5\r\nhello5\r\nhello\r\n0\r\n\r\n",
                   chunked + b"1;" + 100_000 * b"x", chunked + b"0\r\n" + 100_000 * b"T: x\r\n",
                   b"HTTP/1.1 200 OK\r\n" + 100_000 * b"X: y\r\n",
                   b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"):
        fetch(env, answer, status=MALFORMED, silent=True)


def case_body_above_the_limit_is_refused(env):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"
    expect_equal(fetch(env, head + b"sixsix", "--max-bytes", 6), "sixsix")
    fetch(env, head + b"sixsix", "--max-bytes", 5, status=MALFORMED)


def case_silent_server_is_a_timeout(env):
    fetch(env, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "--idle-timeout", 1, silent=True,
          status=NETWORK)
    fetch(env, b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n", "--timeout", 1, silent=True,
          status=NETWORK)


def case_nobody_there_is_a_network_error(env):
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, so nobody else gets it; not listening
        env.start("http-get", "http://127.0.0.1:%d/" % sock.getsockname()[1]).wait(NETWORK, quiet=False)


def case_wrong_urls_are_usage_errors(env):
    for url in ("ftp://127.0.0.1/", "127.0.0.1", "http://", "http://127.0.0.1:99999/", "http:///x",
                "http://127.0.0.1/a b", "http://127.0.0.1/a\r\nX: y", "http://u:p@127.0.0.1/",
                "http://127.0.0.1/#x", "http://127.0.0.1/" + 5000 * "x"):
        env.start("http-get", url).wait(USAGE, quiet=False)
    env.start("http-get").wait(USAGE, quiet=False)


def case_output_goes_to_the_file(env):
    with tempfile.TemporaryDirectory(prefix="gyre-web-") as name:
        path = pathlib.Path(name) / "out"
        body = os.urandom(2_000_000)
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        expect_equal(fetch(env, answer, "--output", path), "")
        expect(path.read_bytes() == body, "other bytes")
        fetch(env, answer, "--output", "/dev/full", status=USAGE)
        fetch(env, answer, "--output", path / "none", status=USAGE)


def case_python_server_and_ours_are_understood(env):
    with tempfile.TemporaryDirectory(prefix="gyre-web-") as name:
        (pathlib.Path(name) / "x").write_text("text of x")

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=name)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            out, _ = env.start("http-get", "http://localhost:%d/x" % server.server_address[1]).wait()
            server.shutdown()
            thread.join()
        expect_equal(out, "text of x")
        ours, address = env.server("web-server", "--root", name)
        with ours:
            out, _ = env.start("http-get", "http://%s:%d/x" % address).wait()
            expect_equal(out, "text of x")
            env.start("http-get", "http://%s:%d/none" % address).wait(STATUS)


if __name__ == "__main__":
    program.main()
