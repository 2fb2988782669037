"""What the rows of the interoperability table share. A row is a function that starts example
programs, lets a program that others wrote talk to them, and returns a short text, or raises.

    @row("what is shown", needs=["curl"])
    def curl_gets_a_page(env):
        server, address = env.server("web-server")
        with server:
            ...

The first of needs is the program that the row is about. env.start() and env.server() are those of
tests/examples/program.py; the row runs once for each driver.
"""

import contextlib
import os
import pathlib
import select
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "examples"))

from program import Failure, Program, expect  # noqa: E402  pylint: disable=wrong-import-position

RUN_LIMIT = 60  # seconds, for a foreign program that hangs

ROWS = []

# How programs say their version; the first line with a digit counts.
VERSION_ARGUMENTS = {
    "ab": ["-V"],
    "nc": ["-h"],
    "nginx": ["-v"],
    "ping": ["-V"],
    "slowhttptest": ["-h"],
    "socat": ["-V"],
    "wrk": ["-v"],
}


class Row:
    """One line of the table."""

    def __init__(self, function, case, needs):
        self.function = function
        self.case = case
        self.needs = needs

    @property
    def program(self):
        return self.needs[0] if self.needs else "python3"

    def missing(self):
        return [name for name in self.needs if not find(name)]


def row(case, needs=()):
    """Make a function a row of the table."""
    def enter(function):
        ROWS.append(Row(function, case, list(needs)))
        return function
    return enter


def find(name):
    """The path of a program; some live where only root looks."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def version(name):
    """What a program says that it is, in short."""
    if name == "python3":
        return sys.version.split()[0]
    said = subprocess.run([find(name), *VERSION_ARGUMENTS.get(name, ["--version"])],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, timeout=RUN_LIMIT).stdout
    for line in said.decode(errors="replace").split("\n"):
        words = [word.strip("(),:") for word in line.replace("/", " ").split()]
        numbers = [word for word in words if "." in word and word[:1].isdigit()]
        if numbers:
            return numbers[0]
        if "patchlevel" in line or "iputils" in line:
            return words[-1]
    return "?"


def run(*command, data=b"", status=0, limit=RUN_LIMIT):
    """Run a foreign program to its end; returns its output."""
    done = subprocess.run([find(command[0]), *map(str, command[1:])], input=data,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                          timeout=limit)
    expect(done.returncode == status,
           f"{command[0]} ended with {done.returncode}: {done.stderr.decode()[-1000:]}")
    return done.stdout


@contextlib.contextmanager
def foreign(*command, **options):
    """Run a foreign program meanwhile; it is ended when the block is left."""
    program = Program(find(command[0]), *command[1:], **options)
    try:
        yield program
    finally:
        program.kill()


@contextlib.contextmanager
def directory():
    """A directory that is gone afterwards, with a path short enough for Unix sockets."""
    with tempfile.TemporaryDirectory(prefix="gyre-") as path:
        yield pathlib.Path(path)


@contextlib.contextmanager
def nginx(path, server):
    """nginx with one http server block, everything it writes below path. It goes to the background
    by itself once it listens."""
    (path / "nginx.conf").write_text(f"""
        worker_processes 1;
        pid {path}/nginx.pid;
        error_log {path}/error.log;
        events {{ }}
        http {{
            access_log off;
            client_body_temp_path {path}/body;
            proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi;
            uwsgi_temp_path {path}/uwsgi;
            scgi_temp_path {path}/scgi;
            server {{ {server} }}
        }}
    """, encoding="ascii")
    path.chmod(0o755)
    command = ["nginx", "-p", path, "-c", path / "nginx.conf", "-e", path / "error.log"]
    run(*command)
    master = os.pidfd_open(int((path / "nginx.pid").read_text(encoding="ascii")))
    try:
        yield
    finally:
        run(*command, "-s", "stop")
        ended, _, _ = select.select([master], [], [], RUN_LIMIT)
        os.close(master)
        if not ended:
            raise Failure("nginx did not stop")


def free_port():
    """A port that was free a moment ago, for programs that cannot choose one by themselves."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
