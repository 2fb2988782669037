#!/usr/bin/env python3
"""word-count: the answers are right however the bytes arrive, for several clients at once."""
import random
import signal
import socket

from program import (connect, expect, expect_equal, main, receive_all, receive_exactly,
                     throw_garbage)

TEXT = b"  to be, or\tnot\r\n\n to be: that is the question \xc3\xa4rger\n"
ANSWERS = b"2 t\n3 b\n2 o\n3 n\n2 t\n3 b\n4 t\n2 i\n3 t\n8 q\n6 \\xc3\n"


def expected(data):
    answers = []
    for word in data.split():
        first = chr(word[0]) if 32 <= word[0] < 127 else f"\\x{word[0]:02x}"
        answers.append(f"{len(word)} {first}\n")
    return "".join(answers).encode()


def case_words_in_one_piece_are_answered(env):
    server, address = env.server("word-count-server")
    with server, connect(address) as sock:
        sock.sendall(TEXT)
        expect_equal(receive_exactly(sock, len(ANSWERS)), ANSWERS)


def case_words_byte_by_byte_are_answered_the_same(env):
    server, address = env.server("word-count-server")
    with server, connect(address) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in TEXT:
            sock.sendall(bytes([byte]))
        expect_equal(receive_exactly(sock, len(ANSWERS)), ANSWERS)


def case_last_word_without_a_space_is_answered_at_the_end(env):
    server, address = env.server("word-count-server")
    with server, connect(address) as sock:
        sock.sendall(b"half done")
        sock.shutdown(socket.SHUT_WR)
        expect_equal(receive_all(sock), b"4 h\n4 d\n")


def case_four_clients_at_once_are_each_answered(env):
    server, address = env.server("word-count-server")
    with server:
        clients = [env.start("word-count-client", "--port", address[1], "client", str(number),
                             "x" * number) for number in range(1, 5)]
        for number, client in enumerate(clients, 1):
            out, _ = client.wait()
            expect_equal(out, f"6 c\n1 {number}\n{number} x\n")


def case_client_without_a_server_says_so(env):
    server, address = env.server("word-count-server")
    server.stop()
    _, err = env.start("word-count-client", "--port", address[1], "word").wait(1, quiet=False)
    expect("connection refused" in err.lower(), err)


def case_client_ends_in_order_on_either_signal(env):
    for number in (signal.SIGINT, signal.SIGTERM):
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = env.start("word-count-client", "--port", server.getsockname()[1], "word")
            sock, _ = server.accept()
            with sock:
                expect_equal(receive_exactly(sock, 5), b"word\n")
                client.process.send_signal(number)
                _, err = client.wait(1, quiet=False)
                expect("interrupted" in err, err)


def case_peer_that_does_not_read_is_not_read_from(env):
    """Answers are longer than the words "a": they may not pile up without a limit."""
    server, address = env.server("word-count-server")
    data = b"a " * (8 << 20)
    with server, connect(address) as sock:
        sock.setblocking(False)
        sent = 0
        try:
            while sent < len(data):
                sent += sock.send(data[sent:sent + (1 << 20)])
        except BlockingIOError:
            pass
        sock.settimeout(30)
        sock.shutdown(socket.SHUT_WR)
        expect_equal(len(receive_all(sock)), len(expected(data[:sent])))
        expect(server.resident() < 256 << 20, "memory is not bounded")


def case_stop_with_open_connections_ends_them_in_order(env):
    server, address = env.server("word-count-server")
    with connect(address) as sock:
        sock.sendall(b"one two")
        expect_equal(receive_exactly(sock, 4), b"3 o\n")
        server.process.terminate()
        expect_equal(receive_all(sock), b"")
    server.wait()


def case_garbage_is_answered_and_survived(env):
    server, address = env.server("word-count-server")
    with server:
        throw_garbage(address, seed=1)
        data = random.Random(2).randbytes(100000)
        with connect(address) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            expect_equal(receive_all(sock), expected(data))


def case_nonsense_on_the_command_line_is_refused(env):
    for status, args in ((64, ["--port", "65536"]), (64, ["--port", "x"]),
                         (1, ["--host", "localhost"]), (64, ["--backend", "kqueue"])):
        _, err = env.start("word-count-server", *args).wait(status, quiet=False)
        expect(args[1] in err, f"{args}: {err}")



if __name__ == "__main__":
    main()
