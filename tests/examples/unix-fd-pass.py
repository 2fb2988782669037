#!/usr/bin/env python3
"""unix-fd-pass: the file that arrives is the one that was open, and nothing else is taken."""
import array
import contextlib
import os
import pathlib
import random
import socket
import tempfile

from program import SOCKET_LIMIT, expect, expect_equal, main


@contextlib.contextmanager
def receiver(env):
    """A receiver, and a directory of its own: (program, path of the socket, directory)."""
    with tempfile.TemporaryDirectory(prefix="gyre-") as top:
        path = f"{top}/sock"
        program = env.start("unix-fd-pass", "receive", "unix:" + path)
        with program:
            expect_equal(program.ready(), path)
            yield program, path, pathlib.Path(top)
        expect(not os.path.exists(path), "the socket is left behind")


def connect_unix(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(SOCKET_LIMIT)
    sock.connect(path)
    return sock


def send_with(sock, data, numbers):
    sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))])


def expect_end(sock):
    """The receiver has ended the connection."""
    with contextlib.suppress(ConnectionResetError):
        expect_equal(sock.recv(1), b"")


def case_files_arrive_open_and_in_order(env):
    with receiver(env) as (program, path, top):
        names = []
        for number in range(5):
            names.append(str(top / f"file-{number}"))
            pathlib.Path(names[-1]).write_text(f"content {number}\n", encoding="ascii")
        env.start("unix-fd-pass", "send", "unix:" + path, *names).wait()
        for number, name in enumerate(names):
            expect_equal(program.line(), f"{name}: 10 bytes")
            expect_equal(program.line(), f"content {number}")


def case_file_without_a_name_any_more_is_read(env):
    """Only who has the descriptor can still reach it."""
    with receiver(env) as (program, path, top):
        with open(top / "secret", "w+", encoding="ascii") as file, connect_unix(path) as sock:
            file.write("deleted\n")
            file.flush()
            os.unlink(top / "secret")
            send_with(sock, b"gone", [file.fileno()])
            sock.sendall(b"\n")
            expect_equal(program.line(), "gone: 8 bytes")
            expect_equal(program.line(), "deleted")


def case_pipe_is_not_read(env):
    with receiver(env) as (program, path, _):
        ends = os.pipe()
        with connect_unix(path) as sock:
            send_with(sock, b"pipe\n", [ends[0]])
            expect_equal(program.line(), "pipe: not a regular file")
        for end in ends:
            os.close(end)


def case_name_without_a_descriptor_ends_the_connection(env):
    with receiver(env) as (_, path, _), connect_unix(path) as sock:
        sock.sendall(b"nothing\n")
        expect_end(sock)


def case_more_descriptors_than_wanted_end_the_connection_and_are_closed(env):
    with receiver(env) as (program, path, _):
        open_before = program.descriptors()
        ends = os.pipe()
        with connect_unix(path) as sock:
            send_with(sock, b"x", [ends[1]] * 17)
            expect_end(sock)
        with connect_unix(path) as sock:
            send_with(sock, b"x", [ends[1]] * 16)  # kept, for lines that never come
            sock.shutdown(socket.SHUT_WR)
            expect_end(sock)
        os.close(ends[1])
        expect_equal(os.read(ends[0], 1), b"")  # waits until nobody has the other end open
        os.close(ends[0])
        expect_equal(program.descriptors(), open_before, "descriptors")


def case_second_start_takes_over_a_stale_socket(env):
    with tempfile.TemporaryDirectory(prefix="gyre-") as top:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(f"{top}/sock")
            stale.listen()
        program = env.start("unix-fd-pass", "receive", f"unix:{top}/sock")
        with program:
            program.ready()
            _, err = env.start("unix-fd-pass", "receive", f"unix:{top}/sock").wait(1, quiet=False)
            expect("in use" in err, err)


def case_garbage_is_survived(env):
    chance = random.Random(8)
    with receiver(env) as (program, path, top):
        for _ in range(20):
            with connect_unix(path) as sock, contextlib.suppress(OSError):
                send_with(sock, chance.randbytes(chance.randint(1, 500)), [0, 1])
                sock.sendall(chance.randbytes(chance.randint(1, 5000)))
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1)
        (top / "file").write_text("x\n", encoding="ascii")
        env.start("unix-fd-pass", "send", "unix:" + path, top / "file").wait()
        while program.line() != f"{top}/file: 2 bytes":
            pass


def case_nonsense_on_the_command_line_is_refused(env):
    for status, args in ((64, []), (64, ["send", "unix:@x"]), (64, ["receive", "unix:@x", "y"]),
                         (1, ["receive", "127.0.0.1:80"]), (1, ["receive", "nowhere"])):
        env.start("unix-fd-pass", *args).wait(status, quiet=False)
    _, err = env.start("unix-fd-pass", "send", "unix:/nonexistent/s", "x").wait(1, quiet=False)
    expect("No such file" in err, err)


if __name__ == "__main__":
    main()
