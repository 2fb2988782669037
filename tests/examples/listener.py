#!/usr/bin/env python3
"""Servers whose listener ends by itself: they say so and end, and do not wait for signals for ever.

The test takes a copy of the server's listening socket (pidfd_getfd(2)) and shuts it down: then
accept(2) says EINVAL for good.
"""

import ctypes
import os
import signal
import socket
import tempfile

from program import Skip, connect, expect, expect_equal, main, receive_exactly

PIDFD_GETFD = 438  # on all architectures
LIBC = ctypes.CDLL(None, use_errno=True)


def copy_socket(pidfd, number):
    """The socket that has this number in the other process."""
    copy = LIBC.syscall(PIDFD_GETFD, pidfd, number, 0)
    if copy < 0:
        error = ctypes.get_errno()
        raise Skip("pidfd_getfd: " + os.strerror(error))
    return socket.socket(fileno=copy)


def copy_listener(program):
    """A copy of the one socket of the program that listens."""
    pid = program.process.pid
    pidfd = os.pidfd_open(pid)
    found = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                copy = copy_socket(pidfd, int(number))
                if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    found.append(copy)
                else:
                    copy.close()
    finally:
        os.close(pidfd)
    expect(len(found) == 1, f"{len(found)} sockets listen")
    return found[0]


def shut_listener(program):
    with copy_listener(program) as copy:
        copy.shutdown(socket.SHUT_RD)


def ends_with_its_listener(program, shut=shut_listener):
    """The program is ready. It says what has happened, and fails."""
    try:
        shut(program)
    except BaseException:
        program.kill()
        raise
    _, err = program.wait(1, quiet=False)
    expect("the listener has ended: " in err, f"{program.name} said: {err}")


def case_chat_server_ends_with_its_listener(env):
    ends_with_its_listener(env.server("chat-server")[0])


def case_echo_server_ends_with_its_listener(env):
    ends_with_its_listener(env.server("echo-server")[0])


def case_tcp_proxy_ends_with_its_listener(env):
    ends_with_its_listener(env.server("tcp-proxy", "--target", "127.0.0.1:9")[0])


def case_word_count_server_ends_with_its_listener(env):
    ends_with_its_listener(env.server("word-count-server")[0])


def shut_beside_client(program, path):
    """Nobody is told that a Unix socket was shut down. So a client waits when that happens, and the
    server looks for another one behind it."""
    program.process.send_signal(signal.SIGSTOP)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        shut_listener(program)
    program.process.send_signal(signal.SIGCONT)


def case_unix_fd_pass_ends_with_its_listener(env):
    if env.backend == "epoll":
        raise Skip("Linux tells no accept4(2) without blocking that a Unix socket was shut down")
    with tempfile.TemporaryDirectory() as top:
        program = env.start("unix-fd-pass", "receive", f"unix:{top}/sock")
        try:
            program.ready()
        except BaseException:
            program.kill()
            raise
        ends_with_its_listener(program, lambda program: shut_beside_client(program, f"{top}/sock"))


def case_web_server_ends_with_its_listener(env):
    if "web-server" not in env.programs:
        raise Skip("the web server was not built: it needs http_parser")
    ends_with_its_listener(env.server("web-server")[0])


def case_client_that_is_being_served_is_served_to_its_end(env):
    program, address = env.server("word-count-server")
    try:
        with connect(address) as sock:
            sock.sendall(b"to ")
            expect_equal(receive_exactly(sock, 4), b"2 t\n")
            shut_listener(program)
            sock.sendall(b"the sea ")
            expect_equal(receive_exactly(sock, 8), b"3 t\n3 s\n")
    except BaseException:
        program.kill()
        raise
    program.wait(1, quiet=False)


if __name__ == "__main__":
    main()
