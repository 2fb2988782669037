"""The web server, by raw sockets: what it answers, what it refuses, and what it survives.

The V numbers are those of the catalogue of cases: request smuggling, limits, traversal, framing.
"""

import os
import pathlib
import random
import re
import shutil
import socket
import tempfile

import program
from program import expect, expect_equal

BIG = 3_000_000  # more than the server keeps in memory, and than fits into its send queue


class Answer:
    def __init__(self, status, fields, body, version):
        self.status, self.fields, self.body, self.version = status, fields, body, version


class Site:
    """A directory with files, a server on it, and connections to that."""

    def __init__(self, env, *args):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="gyre-web-"))
        self.root = self.directory / "root"
        self.root.mkdir()
        self.small = bytes(random.Random(1).randbytes(1024))
        self.middle = bytes(random.Random(2).randbytes(60_000))
        self.big = random.Random(3).randbytes(BIG)
        (self.directory / "secret.txt").write_text("secret")
        (self.root / "small.html").write_bytes(self.small)
        (self.root / "middle.bin").write_bytes(self.middle)
        (self.root / "big.bin").write_bytes(self.big)
        (self.root / "empty.txt").write_bytes(b"")
        (self.root / "a b.txt").write_text("blank")
        (self.root / "%2e").write_text("percent")
        (self.root / "sub").mkdir()
        (self.root / "sub" / "index.html").write_text("index")
        (self.root / "inside").symlink_to("small.html")
        (self.root / "outside").symlink_to("../secret.txt")
        (self.root / "absolute").symlink_to(self.directory / "secret.txt")
        os.mkfifo(self.root / "pipe")
        try:
            self.program, self.address = env.server("web-server", "--root", self.root, *args)
        except BaseException:
            shutil.rmtree(self.directory)
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.program.__exit__(kind, value, trace)
        finally:
            shutil.rmtree(self.directory)

    def connect(self):
        return program.connect(self.address)

    def ask(self, request, method="GET"):
        """One request on a connection of its own."""
        with self.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(request)
            return read_answer(file, method)

    def get(self, path, *fields, method="GET"):
        return self.ask(get(path, *fields, method=method), method)


def get(path, *fields, method="GET"):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: test", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_answer(file, method="GET"):
    line = file.readline()
    found = re.fullmatch(rb"(HTTP/1\.1) (\d{3}) [^\r\n]+\r\n", line)
    expect(found, f"no status line: {line!r}")
    fields = {}
    while (line := file.readline()) != b"\r\n":
        name, colon, value = line.partition(b": ")
        expect(colon and line.endswith(b"\r\n"), f"no header field: {line!r}")
        name = name.decode().lower()
        expect(name not in fields, f"{name} twice")
        fields[name] = value[:-2].decode()
    status = int(found[2])
    body = b""
    if method != "HEAD" and status >= 200 and status != 304:
        length = int(fields["content-length"])
        body = file.read(length)
        expect_equal(len(body), length, "length of the body")
    return Answer(status, fields, body, found[1])


def expect_end(file):
    """The server has closed the connection, in order."""
    expect_equal(file.read(1), b"", "after the last answer")


def expect_refused(site, request, *statuses):
    """The one answer is one of these, and the connection is closed: nothing behind it is read as a
    request."""
    smuggled = b"GET /small.html HTTP/1.1\r\nHost: test\r\n\r\n"
    with site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(request + smuggled)
        answer = read_answer(file)
        expect(answer.status in statuses, f"{request!r:.200}: {answer.status}, not {statuses}")
        expect_equal(answer.fields.get("connection"), "close", f"Connection after {request!r:.200}")
        expect_end(file)


# ---- answers ----


def case_page_without_root_is_served(env):
    server, address = env.server("web-server")
    with server, program.connect(address) as sock, sock.makefile("rb") as file:
        sock.sendall(get("/"))
        answer = read_answer(file)
        expect_equal(answer.status, 200)
        expect(b"Hello" in answer.body, "no greeting")
        sock.sendall(get("/small.html"))
        expect_equal(read_answer(file).status, 404)


def case_files_of_all_sizes_come_whole(env):
    with Site(env) as site:
        for path, body in (("/small.html", site.small), ("/middle.bin", site.middle),
                           ("/big.bin", site.big), ("/empty.txt", b""), ("/a%20b.txt", b"blank"),
                           ("/sub/", b"index"), ("/small.html?query", site.small),
                           ("http://test/small.html", site.small), ("/inside", site.small)):
            for _ in range(2):
                answer = site.get(path)
                expect_equal(answer.status, 200, path)
                expect(answer.body == body, f"{path}: other bytes")


def case_content_type_follows_name(env):
    with Site(env) as site:
        for path, kind in (("/small.html", "text/html; charset=utf-8"),
                           ("/big.bin", "application/octet-stream"),
                           ("/empty.txt", "text/plain; charset=utf-8")):
            expect_equal(site.get(path).fields["content-type"], kind, path)


def case_absent_files_are_404(env):
    with Site(env) as site:
        for path in ("/none", "/sub", "/small.html/", "/pipe", "/sub/none", "/%00x", "/" + 255 * "x"):
            expect(site.get(path).status in (404, 400), path)
        expect_equal(site.get("/none").status, 404)


def case_head_has_the_same_fields_and_no_body(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        for path, length in (("/small.html", 1024), ("/big.bin", BIG), ("/none", 14)):
            sock.sendall(get(path, method="HEAD") + get("/empty.txt"))
            answer = read_answer(file, "HEAD")
            expect_equal(answer.fields["content-length"], str(length), path)
            expect_equal(read_answer(file).fields["content-length"], "0")


def case_keep_alive_serves_many_requests(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        for _ in range(100):
            sock.sendall(get("/small.html"))
            answer = read_answer(file)
            expect(answer.body == site.small and "connection" not in answer.fields, "an answer")


def case_pipelined_requests_are_answered_in_order(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        paths = ["/small.html", "/big.bin", "/none", "/middle.bin", "/empty.txt"]
        sock.sendall(b"".join(get(path) for path in 3 * paths))
        for path in 3 * paths:
            answer = read_answer(file)
            expected = (404, b"404 Not Found\n") if path == "/none" else (
                200, (site.root / path[1:]).read_bytes())
            expect(answer.status == expected[0] and answer.body == expected[1], path)


def case_pipelined_flood_is_bounded_and_answered(env):
    """Far more than one turn's worth, and not read until all is sent: the server has to pause."""
    count = 5000
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/empty.txt") * count)
        for _ in range(count):
            expect_equal(read_answer(file).status, 200)
        before = site.program.resident()
        sender = socket.create_connection(site.address)
        sender.settimeout(1)
        try:
            for _ in range(2000):  # 94 MB, more than all buffers on the way
                sender.sendall(get("/middle.bin") * 1000)
            raise program.Failure("the server takes requests without end")
        except TimeoutError:
            pass  # it has stopped reading
        grown = site.program.resident() - before
        expect(grown < 40 << 20, f"the server grew by {grown} bytes")
        sender.close()


def case_request_in_single_bytes_is_answered(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for byte in get("/small.html", "X-Field: " + 40 * "v"):
                sock.sendall(bytes([byte]))
            expect(read_answer(file).body == site.small, "an answer")


def case_close_is_honoured_v09(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/big.bin", "Connection: close") + get("/small.html"))
        answer = read_answer(file)
        expect(answer.body == site.big, "other bytes")
        expect_equal(answer.fields["connection"], "close")
        expect_end(file)


def case_http_1_0_closes_unless_asked_v08(env):
    with Site(env) as site:
        with site.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(b"GET /small.html HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            expect_equal(read_answer(file).fields["connection"], "keep-alive")
            sock.sendall(b"GET /small.html HTTP/1.0\r\n\r\n")
            expect_equal(read_answer(file).fields["connection"], "close")
            expect_end(file)


def case_client_half_close_still_gets_the_answer(env):
    for path in ("small.html", "big.bin"):
        with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(get("/" + path) * 2)
            sock.shutdown(socket.SHUT_WR)
            for _ in range(2):
                expect(read_answer(file).body == (site.root / path).read_bytes(), "other bytes")
            expect_end(file)


def case_client_reset_in_the_middle_leaves_nothing(env):
    with Site(env) as site:
        site.get("/small.html")
        before = site.program.descriptors()
        for _ in range(20):
            with site.connect() as sock:
                sock.sendall(get("/big.bin"))
                sock.recv(1000)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        answer = site.get("/big.bin")
        expect(answer.body == site.big, "other bytes")
        while site.program.descriptors() > before + 1:  # the large file's own; the case has a limit
            pass


# ---- conditions and ranges ----


def case_ranges_are_served(env):
    with Site(env) as site:
        for path, body in (("/small.html", site.small), ("/middle.bin", site.middle),
                           ("/big.bin", site.big)):
            size = len(body)
            for text, first, last in (("0-0", 0, 0), ("5-9", 5, 9), ("1000-", 1000, size - 1),
                                      ("-7", size - 7, size - 1), ("0-99999999999999999999", 0, size - 1),
                                      ("-99999999", 0, size - 1), (f"{size - 1}-", size - 1, size - 1)):
                answer = site.get(path, "Range: bytes=" + text)
                expect_equal(answer.status, 206, text)
                expect_equal(answer.fields["content-range"], f"bytes {first}-{last}/{size}", text)
                expect(answer.body == body[first:last + 1], f"{path} {text}: other bytes")


def case_ranges_beyond_the_end_are_416(env):
    with Site(env) as site:
        for text in ("1024-", "1024-2000", "-0", "99999999999999999999-"):
            answer = site.get("/small.html", "Range: bytes=" + text)
            expect_equal(answer.status, 416, text)
            expect_equal(answer.fields["content-range"], "bytes */1024", text)
        expect_equal(site.get("/empty.txt", "Range: bytes=0-").status, 416)


def case_ranges_not_understood_are_ignored(env):
    with Site(env) as site:
        for text in ("bytes=0-1,4-5", "bytes=5-4", "bytes=-", "bytes=x-", "lines=1-2", "bytes=1-2x",
                     "bytes=", "bytes 1-2", "bytes=+1-2"):
            answer = site.get("/small.html", "Range: " + text)
            expect(answer.status == 200 and answer.body == site.small, text)
        answer = site.get("/small.html", "Range: bytes=0-1", "Range: bytes=0-1")
        expect_equal(answer.status, 200, "two Range fields")
        expect_equal(site.get("/small.html", "Range: bytes=0-1", method="HEAD").status, 200)


def case_if_modified_since_and_if_range_compare_dates(env):
    with Site(env) as site:
        date = site.get("/small.html").fields["last-modified"]
        old = "Sun, 06 Nov 1994 08:49:37 GMT"
        answer = site.get("/small.html", "If-Modified-Since: " + date)
        expect_equal(answer.status, 304)
        expect("content-length" not in answer.fields, "a length without a body")
        expect_equal(site.get("/small.html", "If-Modified-Since: " + old).status, 200)
        expect_equal(site.get("/small.html", "Range: bytes=0-1", "If-Range: " + date).status, 206)
        expect_equal(site.get("/small.html", "Range: bytes=0-1", "If-Range: " + old).status, 200)


def case_changed_file_is_noticed(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/small.html"))
        read_answer(file)
        (site.root / "new").write_bytes(b"changed")
        (site.root / "new").rename(site.root / "small.html")
        body = site.small
        while body == site.small:  # within a second or two; the case has a limit
            sock.sendall(get("/small.html"))
            body = read_answer(file).body
        expect_equal(body, b"changed")


def case_file_that_shrinks_ends_the_connection_w14(env):
    with Site(env) as site:
        with open(site.root / "huge.bin", "wb") as huge:
            huge.truncate(64 << 20)
        with site.connect() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(get("/huge.bin"))
            got = len(program.receive_exactly(sock, 1000))
            os.truncate(site.root / "huge.bin", 1000)
            try:
                got += len(program.receive_all(sock))
            except ConnectionResetError:
                pass
            expect(got < 64 << 20, "bytes that are not there any more")
        expect_equal(site.get("/small.html").status, 200)


# ---- refusals ----


def case_lengths_told_in_two_ways_are_refused_v01(env):
    with Site(env) as site:
        for fields in ("Content-Length: 5\r\nTransfer-Encoding: chunked",
                       "Transfer-Encoding: chunked\r\nContent-Length: 5",
                       "Content-Length: 5\r\nContent-Length: 6",
                       "Content-Length: 5\r\nContent-Length: 5",
                       "Content-Length: 5, 5", "Content-Length: +5", "Content-Length: -5",
                       "Content-Length: 0x5", "Content-Length: 5 5", "Content-Length:",
                       "Content-Length: 5a", "Content-Length: 99999999999999999999",
                       "Content-Length: 18446744073709551617"):
            request = "GET / HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n" % fields
            expect_refused(site, request.encode(), 400)


def case_transfer_encodings_are_refused_v02(env):
    with Site(env) as site:
        for fields, status in (("Transfer-Encoding: chunked", 411),
                               ("Transfer-Encoding: gzip, chunked", 501),
                               ("Transfer-Encoding: chunked, gzip", 501),
                               ("Transfer-Encoding: identity", 501),
                               ("Transfer-Encoding: xchunked", 501),
                               ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
                               ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400)):
            request = "GET / HTTP/1.1\r\nHost: test\r\n%s\r\n\r\n" % fields
            expect_refused(site, request.encode(), status)
        expect_refused(site, b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400)


def case_malformed_heads_are_refused_v03(env):
    with Site(env) as site:
        for request in (b"GET / HTTP/1.1\nHost: test\n\n", b"GET / HTTP/1.1\r\nHost: test\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\n\n", b"GET / HTTP/1.1\nHost: test\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\rX: y\r\n\r\n", b"GET / HTTP/1.1\rHost: test\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\n folded\r\n\r\n",
                        b"GET / HTTP/1.1\r\nX:\r\n folded\r\nHost: test\r\n\r\n",
                        b"GET / HTTP/1.1\r\nX: y\r\n\tfolded\r\nHost: test\r\n\r\n",
                        b"GET / HTTP/1.1\r\n Host: test\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\n\rX",
                        b"GET / HTTP/1.1\r\nHost: test\r\nX:\rYContent-Length: 5\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\nX:\r:\r\n",
                        b"GET / HTTP/1.1\r\nHost : test\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\nContent-Length : 5\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\nX\x00: y\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\nX: y\x00z\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n",
                        b"GET / HTTP/1.1\r\nHost: test\r\n: no name\r\n\r\n",
                        b" GET / HTTP/1.1\r\nHost: test\r\n\r\n", b"GET  / HTTP/1.1\r\nHost: test\r\n\r\n",
                        b"GET /  HTTP/1.1\r\nHost: test\r\n\r\n", b"GET / HTTP/1.1 \r\nHost: test\r\n\r\n",
                        b"GET /\tHTTP/1.1\r\nHost: test\r\n\r\n", b"GET / http/1.1\r\nHost: test\r\n\r\n",
                        b"GET / HTTP/1.1x\r\nHost: test\r\n\r\n", b"GET / ICE/1.0\r\nHost: test\r\n\r\n",
                        b"GET /\r\nHost: test\r\n\r\n", b"GET\r\n\r\n", b"\n\nGET / HTTP/1.1\r\nHost: t\r\n\r\n",
                        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            expect_refused(site, request, 400)


def case_methods_and_versions_not_known_are_refused(env):
    with Site(env) as site:
        for request, status in ((b"BREW / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
                                (b"GETX / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
                                (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 501),
                                (b"GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
                                (b"GET / HTTP/0.9\r\nHost: test\r\n\r\n", 400)):
            expect_refused(site, request, status)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
            answer = site.get("/small.html", method=method)
            expect_equal(answer.status, 405, method)
            expect_equal(answer.fields["allow"], "GET, HEAD", method)
        with site.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n" + get("/small.html"))
            expect_equal(read_answer(file).status, 405)
            expect_equal(read_answer(file).status, 200)


def case_limits_are_kept_v05(env):
    with Site(env) as site:
        long_line = b"GET /" + 5000 * b"x" + b" HTTP/1.1\r\nHost: test\r\n\r\n"
        for request, status in ((long_line, 414), (b"GET /" + 100_000 * b"x", 414),
                                (get("/" + 2000 * "x"), 414),
                                (get("/", "X: " + 9000 * "y"), 431),
                                (get("/", *100 * ["X: y"]), 431),
                                (b"GET / HTTP/1.1\r\n" + 100_000 * b"X: y\r\n", 431)):
            with site.connect() as sock, sock.makefile("rb") as file:
                sock.sendall(request)
                expect_equal(read_answer(file).status, status, f"{request!r:.40}")
        expect_refused(site, get("/", "Content-Length: 65537"), 413)
        expect_equal(site.get("/", *99 * ["X: y"]).status, 200)
        expect_equal(site.get("/", "X: " + 7000 * "y").status, 200)


def case_bodies_are_skipped_v05(env):
    body = b"GET /none HTTP/1.1\r\nHost: test\r\n\r\n" + 60_000 * b"x"
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        for method, path, status in (("GET", "/small.html", 200), ("POST", "/small.html", 405),
                                     ("GET", "/big.bin", 200)):
            sock.sendall(get(path, "Content-Length: %d" % len(body), method=method))
            sock.sendall(body)
            expect_equal(read_answer(file).status, status)


def case_traversal_is_refused_v06(env):
    with Site(env) as site:
        for path in ("/../secret.txt", "/sub/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt",
                     "/%2e%2e%2fsecret.txt", "/..%5csecret.txt", "/%252e%252e/secret.txt", "/outside",
                     "/absolute", "//etc/passwd", "/%2fetc/passwd", "/sub/..", "/..", "/.%2e/secret.txt",
                     f"/{site.directory}/secret.txt", "/small.html%00.txt", "/sub/%00", "/%zz", "/%2",
                     "/sub%2f..%2f..%2fsecret.txt", "/\x80"):
            answer = site.get(path)
            expect(answer.status in (400, 404), f"{path}: {answer.status}")
            expect(b"secret" not in answer.body and b"root:" not in answer.body, path)
        expect_equal(site.get("/%252e").body, b"percent", "decoded once")
        expect_equal(site.get("/sub%2findex.html").body, b"index")


def case_answers_repeat_nothing_of_the_request_v07(env):
    with Site(env) as site:
        for path in ("/x%0d%0aSet-Cookie:%20a=b", "/x%0aSet-Cookie:a", "http://test%0d%0aX:y/"):
            answer = site.get(path)
            expect(answer.status in (400, 404), path)
            expect("set-cookie" not in answer.fields and b"ookie" not in answer.body, path)


def case_expect_continue_is_answered_v08(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/small.html", "Expect: 100-continue", "Content-Length: 3"))
        expect_equal(read_answer(file).status, 100)
        sock.sendall(b"abc" + get("/empty.txt", "Expect: 100-continue"))
        expect_equal(read_answer(file).status, 200)
        answer = read_answer(file)
        expect_equal((answer.status, answer.body), (200, b""), "without a body nothing to go on with")


def case_host_is_required_once_v11(env):
    with Site(env) as site:
        for fields in ("", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: a,b@c\r\n"):
            expect_refused(site, ("GET / HTTP/1.1\r\n%s\r\n" % fields).encode(), 400)
        expect_refused(site, b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400)
        for fields in ("Host:\r\n", "Host: [::1]:80\r\n", "host:   a.b-c:1  \r\n"):
            answer = site.ask(("GET / HTTP/1.1\r\n%s\r\n" % fields).encode())
            expect_equal(answer.status, 200, fields)


# ---- time ----


def case_slow_head_is_ended_with_408(env):
    with Site(env, "--head-timeout", 1) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/small.html"))
        read_answer(file)
        sock.sendall(b"GET / HTTP/1.1\r\n")
        answer = read_answer(file)  # however much has come
        expect_equal((answer.status, answer.fields["connection"]), (408, "close"))
        expect_end(file)


def case_silent_connection_is_closed(env):
    with Site(env, "--head-timeout", 1, "--keep-alive", 1) as site:
        with site.connect() as sock:
            expect_equal(sock.recv(1), b"", "from the start")
        with site.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(get("/small.html"))
            read_answer(file)
            expect_end(file)


def case_body_that_never_comes_is_not_waited_for(env):
    with Site(env, "--head-timeout", 1) as site, site.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/small.html", "Content-Length: 5"))
        expect_equal(read_answer(file).status, 200)
        expect_end(file)


def case_connections_above_the_maximum_wait(env):
    with Site(env, "--max-connections", 2) as site:
        first, second = site.connect(), site.connect()
        third = site.connect()
        third.sendall(get("/small.html", "Connection: close"))
        first.close()
        expect(program.receive_all(third).endswith(site.small), "the third was not served")
        second.close()
        third.close()


def case_stop_lets_a_file_arrive(env):
    with Site(env) as site, site.connect() as sock, sock.makefile("rb") as file:
        idle = site.connect()
        sock.sendall(get("/big.bin"))
        program.receive_exactly(sock, 4)
        site.program.process.terminate()
        expect_equal(idle.recv(1), b"", "an idle connection")
        idle.close()
        rest = file.read()
        expect(rest.endswith(site.big[-1000:]) and len(rest) > BIG, "the file was cut off")
        sock.close()
        site.program.wait()


def case_garbage_is_survived(env):
    with Site(env) as site:
        program.throw_garbage(site.address, seed=7)
        words = [b"GET ", b"/ ", b"HTTP/1.1", b"\r\n", b"Host: a", b"\r\n\r\n", b"\n", b"\x00", b": ", b"%2",
                 b"Content-Length: ", b"5", b"Range: bytes=", b"-", b"HEAD ", b"small.html", b"9" * 30, b" "]
        chance = random.Random(8)
        for _ in range(200):
            with site.connect() as sock:
                try:
                    sock.sendall(b"".join(chance.choice(words) for _ in range(chance.randint(1, 40))))
                    sock.shutdown(socket.SHUT_WR)
                    program.receive_all(sock)
                except OSError:
                    pass
        expect_equal(site.get("/small.html").body, site.small)


if __name__ == "__main__":
    program.main()
