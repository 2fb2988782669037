#!/usr/bin/env python3
"""UDP servers and their client: every datagram has its answer, from the address that was asked; the
client makes up for what is lost."""
import random
import re
import signal
import socket
import subprocess

from datagrams import LARGEST, ask, counts, flood, udp_socket
from program import Skip, expect, expect_equal, main

SUMS = {
    "5 + 6": "11",
    "(+, 5, 6)": "11",
    "5+6": "11",
    "5 - 6": "-1",
    "5 -6": "-1",
    "5 - -6": "11",
    "5 * 6": "30",
    "65 / 7": "9",
    "-65 / 7": "-9",
    "( / ,65 , -7 )": "-9",
    "(*,-5,-6)": "30",
    "\t5\r\n+\n6\n": "11",
    "+5 + +6": "11",
    "007 * 1": "7",
    "9223372036854775806 + 1": "9223372036854775807",
    "-9223372036854775807 - 1": "-9223372036854775808",
    "-9223372036854775808 / 1": "-9223372036854775808",
    "0 / -5": "0",
    "5 / 0": "error: division by zero",
    "(/, 0, 0)": "error: division by zero",
    "9223372036854775807 + 1": "error: the result is out of range",
    "-9223372036854775808 - 1": "error: the result is out of range",
    "-9223372036854775808 * -1": "error: the result is out of range",
    "-9223372036854775808 / -1": "error: the result is out of range",
    "9223372036854775808 - 1": "error: a number is out of range",
    "1 + 99999999999999999999999999": "error: a number is out of range",
    "5 + 6x": "error: there is something behind the sum",
    "5 + 6 + 7": "error: there is something behind the sum",
    "(+, 5, 6) 7": "error: there is something behind the sum",
    "5 + 6\0": "error: this is not text",
    "\0": "error: this is not text",
    "1 + 1" + " " * 200: "error: this is too long for a sum",
}
NO_SUMS = ["", " ", "5", "5 +", "+ 5 6", "+", "5 6", "5 % 6", "5 ** 6", "(+, 5, 6", "(+ 5 6)", "(",
           "()", "(5 + 6)", "(+, , 6)", "- 5 + 6", "5 + - 6", "0x5 + 6", "5.0 + 6", "1e3 + 1",
           "five + six", "\xff\xfe", "%s%n"]


def need_v6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError as error:
        raise Skip(f"no IPv6 here: {error}") from None


# ---- servers ----


def echo_to_four_clients(env, host):
    server, address = env.server("udp-echo", "--host", host)
    chance = random.Random(1)
    with server:
        socks = [udp_socket(address) for _ in range(4)]
        try:
            for _ in range(200):
                sent = [chance.randbytes(chance.choice([1, 10, 1400, 1500, 9000])) for _ in socks]
                for sock, data in zip(socks, sent):
                    sock.send(data)
                for sock, data in zip(socks, sent):
                    expect_equal(sock.recv(65536), data)
        finally:
            for sock in socks:
                sock.close()
        expect_equal(counts(server.stop()[0]),
                     {"received": 800, "dropped": 0, "answered": 800, "unanswered": 0})


def case_echo_to_four_clients_is_each_ones_own(env):
    echo_to_four_clients(env, "127.0.0.1")


def case_echo_to_four_clients_over_ipv6_is_each_ones_own(env):
    need_v6()
    echo_to_four_clients(env, "::1")


def case_echo_of_an_empty_datagram_is_empty(env):
    server, address = env.server("udp-echo")
    with server, udp_socket(address) as sock:
        expect_equal(ask(sock, b""), b"")
        expect_equal(ask(sock, b"more"), b"more")


def case_echo_of_the_largest_datagram_is_whole(env):
    server, address = env.server("udp-echo")
    data = random.Random(2).randbytes(LARGEST)
    with server, udp_socket(address) as sock:
        expect_equal(ask(sock, data), data)


def case_answer_of_a_wildcard_server_leaves_from_the_address_asked(env):
    server, (_, port) = env.server("udp-echo", "--host", "0.0.0.0")
    with server:
        for host in ("127.0.0.1", "127.0.0.2", "127.1.2.3"):
            with udp_socket((host, port)) as sock:
                expect_equal(ask(sock, host.encode()), host.encode())


def case_answer_of_an_ipv6_wildcard_server_leaves_from_the_address_asked(env):
    need_v6()
    server, (_, port) = env.server("udp-echo", "--host", "::")
    with server:
        for host in ("::1", "127.0.0.1", "127.0.0.2"):
            with udp_socket((host, port)) as sock:
                expect_equal(ask(sock, host.encode()), host.encode())


def case_time_is_answered_as_a_line(env):
    server, address = env.server("udp-time")
    with server, udp_socket(address) as sock:
        for question in (b"", b"what time is it?", bytes(LARGEST)):
            answer = ask(sock, question).decode()
            expect(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n", answer), answer)


def case_sums_are_answered(env):
    server, address = env.server("udp-calculator")
    with server, udp_socket(address) as sock:
        for question, answer in SUMS.items():
            expect_equal(ask(sock, question.encode("latin-1")).decode(), answer + "\n",
                         repr(question))


def case_sums_that_are_none_are_answered_with_an_error(env):
    server, address = env.server("udp-calculator")
    with server, udp_socket(address) as sock:
        for question in NO_SUMS:
            expect_equal(ask(sock, question.encode("latin-1")).decode(),
                         "error: this is no sum; write 5 + 6 or (+, 5, 6)\n", repr(question))


def case_garbage_to_the_calculator_gets_one_answer_each(env):
    """Bytes that a sum is made of, in any order: much of it nearly is one."""
    server, address = env.server("udp-calculator")
    chance = random.Random(3)
    with server, udp_socket(address) as sock:
        for _ in range(3000):
            size = chance.choice([chance.randint(0, 12), chance.randint(0, 300)])
            question = bytes(chance.choices(b"0123456789  +-*/(,)\0\n\xffx", k=size))
            answer = ask(sock, question).decode()
            expect(re.fullmatch(r"-?\d+\n|error: [a-z0-9 ;+,()]+\n", answer), answer)
        expect_equal(ask(sock, b"1234 + 1"), b"1235\n")


def case_garbage_to_each_server_is_survived(env):
    for name in ("udp-echo", "udp-time", "udp-calculator"):
        server, address = env.server(name)
        chance = random.Random(4)
        with server, udp_socket(address) as sock:
            for _ in range(1000):
                sock.send(chance.randbytes(chance.choice([0, 1, 20, 1000, LARGEST])))
            sock.settimeout(2)
            with udp_socket(address) as other:
                other.settimeout(2)
                while True:  # it may be dropped after so many
                    try:
                        expect(ask(other, b"1 + 1"), "empty")
                        break
                    except socket.timeout:
                        pass


def case_flood_is_received_or_counted_as_dropped(env):
    found = flood(env, 10000)
    expect(found["received"] > 0, f"{found}")


def case_stop_by_either_signal_is_in_order(env):
    for number in (signal.SIGINT, signal.SIGTERM):
        server, address = env.server("udp-echo")
        with udp_socket(address) as sock:
            expect_equal(ask(sock, b"x"), b"x")
        text, _ = server.stop(number)
        expect_equal(counts(text)["received"], 1)


def case_port_in_use_is_told(env):
    server, (host, port) = env.server("udp-echo")
    with server:
        _, err = env.start("udp-time", "--port", port).wait(1, quiet=False)
        expect(f"{host}:{port}: Address already in use" in err, err)


# ---- the client ----


def case_client_prints_the_answers_of_each_server(env):
    for name, questions, wanted in (
            ("udp-echo", ["to be", "", "or not"], r"to be\n\nor not\n"),
            ("udp-time", ["now"], r"\d+-.*Z\n"),
            ("udp-calculator", ["5 + 6", "(/, 1, 0)"], r"11\nerror: division by zero\n")):
        server, address = env.server(name)
        with server:
            out, _ = env.start("udp-client", "--port", address[1], *questions).wait()
            expect(re.fullmatch(wanted, out), out)


def case_client_reads_questions_line_by_line(env):
    server, address = env.server("udp-calculator")
    with server:
        client = env.start("udp-client", "--port", address[1], stdin=subprocess.PIPE)
        for question, answer in (("1 + 1\n", "2"), ("2 + 2\n", "4")):
            client.process.stdin.write(question.encode())
            client.process.stdin.flush()
            expect_equal(client.line(), answer)
        client.process.stdin.write(b"3 + 3")
        client.process.stdin.close()
        client.process.stdin = None
        expect_equal(client.wait()[0], "6\n")


def case_four_clients_at_once_are_each_answered(env):
    server, address = env.server("udp-calculator")
    with server:
        clients = [env.start("udp-client", "--port", address[1],
                             *(f"{number} * {i}" for i in range(50))) for number in range(4)]
        for number, client in enumerate(clients):
            expect_equal(client.wait()[0], "".join(f"{number * i}\n" for i in range(50)))


def served_by_hand():
    """A socket in the place of a server: (socket, port)."""
    sock = udp_socket()
    sock.bind(("127.0.0.1", 0))
    return sock, sock.getsockname()[1]


def case_client_asks_again_what_was_lost(env):
    sock, port = served_by_hand()
    with sock:
        client = env.start("udp-client", "--port", port, "--timeout", 50, "--tries", 10, "who?")
        questions = [sock.recvfrom(100) for _ in range(3)]
        expect_equal(set(questions), {(b"who?", questions[0][1])})
        sock.sendto(b"me", questions[0][1])
        expect_equal(client.wait()[0], "me\n")


def case_client_does_not_take_a_late_answer_for_the_next_one(env):
    sock, port = served_by_hand()
    with sock:
        client = env.start("udp-client", "--port", port, "1", "2")
        _, first = sock.recvfrom(100)
        sock.sendto(b"one", first)
        _, second = sock.recvfrom(100)
        expect(first != second, "both from one port")
        sock.sendto(b"one", first)
        sock.sendto(b"two", second)
        expect_equal(client.wait()[0], "one\ntwo\n")


def case_client_does_not_hear_strangers(env):
    sock, port = served_by_hand()
    with sock, udp_socket() as stranger:
        client = env.start("udp-client", "--port", port, "who?")
        _, address = sock.recvfrom(100)
        stranger.sendto(b"somebody else", address)
        sock.sendto(b"me", address)
        expect_equal(client.wait()[0], "me\n")


def case_client_without_an_answer_says_so(env):
    sock, port = served_by_hand()
    with sock:
        client = env.start("udp-client", "--port", port, "--timeout", 10, "--tries", 2, "who?")
        _, err = client.wait(1, quiet=False)
        expect("'who?': Connection timed out" in err, err)
        sock.setblocking(False)
        expect_equal([sock.recv(100) for _ in range(2)], [b"who?"] * 2)


def case_client_ends_in_order_on_either_signal(env):
    for number in (signal.SIGINT, signal.SIGTERM):
        sock, port = served_by_hand()
        with sock:
            client = env.start("udp-client", "--port", port, "who?", "never asked")
            expect_equal(sock.recv(100), b"who?")
            client.process.send_signal(number)
            _, err = client.wait(1, quiet=False)
            expect("'who?': Interrupted" in err and "never" not in err, err)


def case_client_without_a_server_says_so(env):
    sock, port = served_by_hand()
    sock.close()
    _, err = env.start("udp-client", "--port", port, "who?").wait(1, quiet=False)
    expect("'who?': Connection refused" in err, err)


def case_client_with_too_long_a_question_says_so_and_goes_on(env):
    server, address = env.server("udp-echo")
    with server:
        client = env.start("udp-client", "--port", address[1], stdin=subprocess.PIPE)
        client.process.stdin.write(b"x" * (LARGEST + 1) + b"\n" + b"y" * LARGEST + b"\n")
        client.process.stdin.close()
        client.process.stdin = None
        out, err = client.wait(1, quiet=False)
        expect_equal(out, "y" * LARGEST + "\n")
        expect("Message too long" in err and len(err) < 200, err)


def case_nonsense_on_the_command_line_is_refused(env):
    for status, name, args in ((64, "udp-echo", ["--port", "65536"]),
                               (1, "udp-time", ["--host", "localhost"]),
                               (64, "udp-client", ["text"]),
                               (64, "udp-client", ["--port", 1, "--tries", 0, "text"]),
                               (64, "udp-client", ["--port", 1, "--timeout", "x", "text"]),
                               (1, "udp-echo", ["--host", "192.0.2.7"])):
        program = env.start(name, *args)
        program.wait(status, quiet=False)


if __name__ == "__main__":
    main()
