"""What the tests of the example programs share: start a program, read its ready line, stop it, and
run the cases of one test file.

usage of a test file: NAME.py --backend epoll|uring PROGRAM...

A test file defines functions case_SUBJECT_CONDITION_EXPECTATION(env) and calls main(). Each
runs under a time limit of its own and is one line of TAP. Nothing sleeps to wait, nothing is
measured against a clock but the limits that end what hangs.
"""

import argparse
import os
import pathlib
import random
import re
import select
import signal
import socket
import subprocess
import sys
import traceback

CASE_LIMIT = 60  # seconds, for what hangs; sanitizers are slow
SOCKET_LIMIT = 30
SKIP = 77


class Skip(Exception):
    """The case cannot run here; the text says why."""


class Failure(AssertionError):
    """What a case found wrong."""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def expect_equal(found, wanted, what=""):
    expect(found == wanted, f"{what or 'value'}: {found!r:.300}, expected {wanted!r:.300}")


class Program:
    """A running example. Use it in a with statement: leaving it stops the program with SIGTERM
    and checks that it ended in order; after an exception it is killed."""

    def __init__(self, path, *args, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=None,
                 prepare=None):
        self.name = os.path.basename(path)
        self.process = subprocess.Popen([path, *map(str, args)], stdin=stdin,
                                        stdout=subprocess.PIPE, stderr=stderr,
                                        env=dict(os.environ, **(env or {})), preexec_fn=prepare)
        self.text = b""  # read from stdout, not yet handed out
        self.errors = b""

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            self.kill()

    def kill(self):
        """End it whatever it does, and keep what it said for the report."""
        if self.process.poll() is None:
            self.process.kill()
        out, err = self.process.communicate()
        if err:
            print("# " + self.name + " said: " + err.decode(errors="replace")[-4000:]
                  .replace("\n", "\n# "))
        return out

    def line(self):
        """The next line of its output."""
        while b"\n" not in self.text:
            ready, _, _ = select.select([self.process.stdout], [], [], SOCKET_LIMIT)
            expect(ready, f"{self.name}: no line of output in {SOCKET_LIMIT} s")
            part = os.read(self.process.stdout.fileno(), 65536)
            if not part:
                self._ended_early()
            self.text += part
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()

    def _ended_early(self):
        _, err = self.process.communicate(timeout=SOCKET_LIMIT)
        if b"io_uring was demanded but is not available" in err:
            raise Skip(err.decode().strip())
        raise Failure(f"{self.name} ended with {self.process.returncode}: "
                      f"{err.decode(errors='replace')[-4000:]}")

    def ready(self):
        """Wait for the ready line; returns (host, port), or a path of a Unix socket."""
        line = self.line()
        found = re.fullmatch(r"listening on (?:\[(.+)\]|([0-9.]+)):([0-9]+)(?: .*)?", line)
        if found:
            return (found[1] or found[2], int(found[3]))
        found = re.fullmatch(r"listening on unix:(.*)", line)
        expect(found, f"{self.name}: ready line '{line}'")
        return found[1]

    def wait(self, status=0, quiet=True):
        """Wait until it has ended by itself; returns (output, errors)."""
        try:
            out, err = self.process.communicate(timeout=SOCKET_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failure(f"{self.name} did not end within {SOCKET_LIMIT} s") from None
        err = err.decode(errors="replace")
        expect(self.process.returncode == status,
               f"{self.name}: exit status {self.process.returncode}, expected {status}: "
               f"{err[-4000:]}")
        expect(not quiet or not err, f"{self.name} said: {err[-4000:]}")
        return (self.text + out).decode(errors="replace"), err

    def stop(self, number=signal.SIGTERM):
        """Stop it in order: exit status 0, nothing on stderr. Stopping twice is stopping once."""
        if self.process.returncode is not None:
            return "", ""
        if self.process.poll() is not None:
            err = self.process.communicate()[1].decode(errors="replace")
            raise Failure(f"{self.name} was gone before it was stopped, with "
                          f"{self.process.returncode}: {err[-4000:]}")
        self.process.send_signal(number)
        return self.wait()

    def descriptors(self):
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def resident(self):
        """Bytes of memory it has in use (VmRSS)."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"^VmRSS:\s+(\d+) kB$", status, re.M)[1]) * 1024


class Env:
    """What a case gets: the driver, and the programs by their names."""

    def __init__(self, backend, programs):
        self.backend = backend
        self.programs = {os.path.basename(path): path for path in programs}

    def start(self, name, *args, **options):
        """Start a program with the driver of this test."""
        return Program(self.programs[name], "--backend", self.backend, *args, **options)

    def server(self, name, *args, **options):
        """Start a server on a free port: (program, address)."""
        program = self.start(name, "--port", 0, *args, **options)
        try:
            return program, program.ready()
        except BaseException:
            program.kill()
            raise


def connect(address):
    """A connected socket with a time limit on each of its calls."""
    return socket.create_connection(address, timeout=SOCKET_LIMIT)


def receive_exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), 1 << 20))
        expect(part, f"the peer ended after {len(data)} of {count} bytes")
        data += part
    return bytes(data)


def receive_all(sock):
    """What comes until the peer ends."""
    data = bytearray()
    while part := sock.recv(1 << 20):
        data += part
    return bytes(data)


def throw_garbage(address, seed, connections=20, most=20000):
    """Send seeded random bytes on some connections, some in parts, and end each in one of three
    ways. What comes back is read where it does not matter, and may be a reset."""
    chance = random.Random(seed)
    for _ in range(connections):
        with connect(address) as sock:
            try:
                for _ in range(chance.randint(1, 5)):
                    sock.sendall(chance.randbytes(chance.randint(1, most // 5)))
                end = chance.choice(["close", "reset", "shutdown"])
                if end == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                elif end == "shutdown":
                    sock.shutdown(socket.SHUT_WR)
                    receive_all(sock)
            except OSError:
                pass  # the server is free to end the connection


def _on_alarm(_number, _frame):
    raise Failure(f"the case took longer than {CASE_LIMIT} s")


def _run_case(case, env):
    signal.alarm(CASE_LIMIT)
    try:
        case(env)
        return "ok", ""
    except Skip as reason:
        return "ok", f" # SKIP {reason}"
    except Exception:  # pylint: disable=broad-except
        print("# " + traceback.format_exc().replace("\n", "\n# "))
        return "not ok", ""
    finally:
        signal.alarm(0)


def main():
    """Run the cases of the test file that calls this, and end the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=["epoll", "uring"], required=True)
    parser.add_argument("--only", help="run this case alone")
    parser.add_argument("programs", nargs="+")
    options = parser.parse_args()
    names = vars(sys.modules["__main__"])
    cases = [(name[len("case_"):], case) for name, case in names.items()
             if name.startswith("case_") and options.only in (None, name[len("case_"):])]
    env = Env(options.backend, options.programs)
    signal.signal(signal.SIGALRM, _on_alarm)
    print(f"1..{len(cases)}")
    bad = 0
    for number, (name, case) in enumerate(cases, 1):
        verdict, note = _run_case(case, env)
        bad += verdict != "ok"
        print(f"{verdict} {number} - {name}{note}", flush=True)
    sys.exit(1 if bad else 0)
