#!/usr/bin/env python3
"""The tables of docs/performance.md, from the results of a full run.

usage: tables.py RESULTS_JSON [PAGE [--update]]

Prints them. With a page, each of them has to stand there, behind a line `<!-- results: NAME -->`:
prints where it differs, or with --update puts them there.
"""
import argparse
import difflib
import json
import math
import re
import statistics
import sys

GROUPS = (
    ("all", lambda cell: True),
    ("one connection", lambda cell: cell["connections"] == 1),
    ("8 and more, up to 4 KiB", lambda cell: cell["connections"] > 1 and cell["size"] <= 4096),
    ("8 and more, 16 and 64 KiB", lambda cell: cell["connections"] > 1 and cell["size"] > 4096),
)
OURS = ("gyre-uring", "gyre-epoll")
ECHO = ("echo-uring",) + OURS + ("libuv-try", "libuv-write", "libevent", "libev", "asio-epoll",
                                 "asio-uring")
LIBRARIES = ECHO[3:]
BY_HAND = ((OURS[0], "echo-uring"), (OURS[1], "echo-epoll"))
TURNS = {BY_HAND[0]: "uring"}  # the suite that has the two in turns with each other
SHOWN = ("64x1", "64x8", "64x64", "64x512", "64x4096", "4Kx64", "16Kx64", "64Kx64", "64x64x16",
         "4Kx64x16")


# ---- results ----

class Results:
    """A results.json, as bench/README.md describes it."""

    def __init__(self, document):
        self.document = document
        self.suites = {suite["suite"]: suite for suite in document["suites"]}

    def cells(self, suite):
        return self.suites[suite]["cells"]

    def cell(self, suite, name):
        return next(cell for cell in self.cells(suite) if cell["cell"] == name)

    def has_cell(self, suite, name):
        return suite in self.suites and any(cell["cell"] == name for cell in self.cells(suite))

    def row(self, suite, name, contender):
        """None if it has no result."""
        return next((row for row in self.cell(suite, name)["rows"]
                     if row["contender"] == contender and row["outcome"] == "ok"), None)

    def figure(self, suite, name, contender, figure):
        row = self.row(suite, name, contender)
        figures = row["figures"].get(figure) if row else None
        return figures["median"] if figures else None

    def spread(self, suite, name, contender):
        """Of the ratio to the reference, whose own is 1; None if there is none."""
        row = self.row(suite, name, contender)
        return None if row is None else row["ratio"]

    def ratio(self, suite, name, contender):
        spread = self.spread(suite, name, contender)
        return None if spread is None else spread["median"]


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def echo_ratios(results, contender, belongs):
    return [ratio for ratio in (results.ratio("echo", cell["cell"], contender)
                                for cell in results.cells("echo") if belongs(cell["parameters"]))
            if ratio is not None]


# ---- text ----

def table(head, rows):
    yield ("| %s |" % " | ".join(head)).replace("|  |", "| |")
    yield "|%s" % ("---|" * len(head))
    for row in rows:
        yield "| %s |" % " | ".join(row)


def ratio_text(value):
    return "-" if value is None else "%.3f" % value


def resolution_text(cell):
    return "-" if cell["resolution"] is None else "%.1f %%" % (100 * cell["resolution"])


def count_text(value):
    if value is None:
        return "-"
    return "{:,.0f}".format(value) if value >= 10 or value == round(value) else "%.3f" % value


def span_text(ns):
    return "-" if ns is None else "%.1f us" % (ns / 1000)


def cell_text(name):
    return name.replace("x", " x ")


# ---- tables ----

def environment(results):
    where = results.document["environment"]
    peers = ", ".join("%s %s" % item for item in where["peers"].items())
    yield from table(("", ""), (
        ("commit", where["commit"]),
        ("kernel, CPU", "%s, %s, %d CPUs" % (where["kernel"], where["cpu"]["model"],
                                             where["cpu"]["online"])),
        *((("a system call", "%.0f ns (`getppid(2)`)" % where["system_call_ns"]),)
          if "system_call_ns" in where else ()),
        ("compiler, flags, liburing", "%s, %s, %s" % (where["compiler"], where["flags"],
                                                      where["liburing"])),
        ("libraries", peers)))


def messages(results):
    yield from table(
        ("cell", "resolution", "echo-epoll, ns") + ECHO,
        ((cell_text(name), resolution_text(results.cell("echo", name)),
          "{:,.0f}".format(results.figure("echo", name, "echo-epoll", "server_cpu_ns_per_message")))
         + tuple(ratio_text(results.ratio("echo", name, contender)) for contender in ECHO)
         for name in SHOWN))


def means(results):
    def rows():
        for title, belongs in GROUPS:
            values = [echo_ratios(results, contender, belongs) for contender in ECHO]
            yield ("%s (%d)" % (title, max(map(len, values))),) + tuple(
                "%.3f" % mean(of_one) if of_one else "-" for of_one in values)
    yield from table(("cells",) + ECHO, rows())


def pairs(results, ours, other):
    """(quotient, suite, cell) of each cell of echo that both have: from where they were in turns with
    each other, or else both with the reference of echo."""
    for name in [cell["cell"] for cell in results.cells("echo")]:
        for suite in (TURNS.get((ours, other)), "echo"):
            mine, theirs = (results.ratio(suite, name, one) if results.has_cell(suite, name) else None
                            for one in (ours, other))
            if mine is not None and theirs is not None:
                yield mine / theirs, suite, results.cell(suite, name)
                break


def libraries(results):
    def entry(ours, other):
        found = list(pairs(results, ours, other))
        return "%.3f, %d" % (mean([quotient for quotient, _, _ in found]),
                             sum(quotient > 1 for quotient, _, _ in found))
    yield from table(("",) + LIBRARIES,
                     (("gyre on io_uring" if ours == OURS[0] else "gyre on epoll",)
                      + tuple(entry(ours, other) for other in LIBRARIES) for ours in OURS))


def by_hand(results):
    """To the hand-written server of the same kind."""
    def entry(kind, belongs):
        found = [(quotient, cell["resolution"]) for quotient, _, cell in pairs(results, *kind)
                 if belongs(cell["parameters"])]
        known = [resolution for _, resolution in found if resolution is not None]
        return ("-" if not found else "%.3f, %d, %d" % (
            mean([quotient for quotient, _ in found]),
            sum(quotient > 1.03 for quotient, _ in found),
            sum(quotient > 1.03 + (resolution or 0) for quotient, resolution in found)),
                "%.1f %%" % (100 * statistics.median(known)) if known else "-")

    def row(title, belongs):
        cells = [cell for cell in results.cells("echo") if belongs(cell["parameters"])]
        return (title, str(len(cells))) + sum((entry(kind, belongs) for kind in BY_HAND), ())

    counts_of = sorted({cell["parameters"]["connections"] for cell in results.cells("echo")})
    yield from table(
        ("connections", "cells", "gyre on io_uring", "resolution", "gyre on epoll", "resolution"),
        [row("{:,}".format(count), lambda cell, count=count: cell["connections"] == count)
         for count in counts_of] + [row("all", lambda cell: True)])


def is_apart(results, suite, cell, less, more):
    """Outside the resolution, and with intervals that do not overlap; by five rounds or more."""
    low, high = (results.spread(suite, cell["cell"], one) for one in (less, more))
    return (cell["resolution"] is not None and min(low["count"], high["count"]) >= 5
            and high["median"] / low["median"] > 1 + cell["resolution"]
            and high["low"] > low["high"])


def verdicts(results):
    """Cell by cell; which pairs are behind is named."""
    def row(ours, others):
        found = [(quotient, suite, cell, other) for other in others
                 for quotient, suite, cell in pairs(results, ours, other)]
        behind = [(quotient, cell["cell"], other) for quotient, suite, cell, other in found
                  if is_apart(results, suite, cell, other, ours)]
        ahead = sum(is_apart(results, suite, cell, ours, other) for _, suite, cell, other in found)
        return (ours, others[0] if len(others) == 1 else "libraries", str(ahead),
                str(len(found) - ahead - len(behind)), str(len(behind)),
                ", ".join("%s%s (%.2f)" % (name, "" if len(others) == 1 else " " + other, quotient)
                          for quotient, name, other in behind) or "-")
    yield from table(
        ("", "against", "ahead", "level", "behind", "which are behind"),
        [row(ours, LIBRARIES) for ours in OURS] + [row(ours, (other,)) for ours, other in BY_HAND])


def counts(results):
    kinds = (("system calls", "syscalls"), ("which found nothing", "eagains"),
             ("entries for io_uring", "sqes"), ("its completions", "cqes"),
             ("instructions", "instructions"), ("allocations", "allocations"))
    contenders = ("echo-epoll",) + ECHO
    yield from table(
        ("",) + contenders,
        ((title,) + tuple(count_text(results.figure("counts", "64x64", contender,
                                                    "%s_per_message" % kind))
                          for contender in contenders) for title, kind in kinds))


def operations(results):
    lines = (
        [("%s, %s timers" % (operation, number), "timers", "%s-%s" % (operation, number))
         for operation, number in (("start", "1M"), ("restart", "1M"), ("stop", "1M"),
                                   ("expire", "1M"), ("expire", "100K"), ("start", "1K"),
                                   ("expire", "1K"))]
        + [("post, %s" % cell["cell"], "post", cell["cell"]) for cell in results.cells("post")]
        + [("churn, %s" % cell["cell"], "churn", cell["cell"]) for cell in results.cells("churn")]
        + [("udp, %s" % cell["cell"], "udp", cell["cell"]) for cell in results.cells("udp")])
    absolute = {"timers": ("libuv", "cpu_ns_per_operation"), "post": ("libuv", None),
                "churn": ("echo-epoll", "server_cpu_ns_per_connection"),
                "udp": ("mmsg", "server_cpu_ns_per_message")}
    others = ("libuv", "libevent", "libev")
    by_hand = {"post": "eventfd", "churn": "echo-uring", "udp": "mmsg-epoll"}

    def reference(suite, name):
        contender, figure = absolute[suite]
        figure = figure or ("ns_per_post" if name == "stream" else "wake_p50_ns")
        return "{:,.0f} ns".format(results.figure(suite, name, contender, figure))

    def other(suite, name, contender):
        fastest = "libuv-try" if (suite, contender) == ("churn", "libuv") else contender
        return ratio_text(results.ratio(suite, name, fastest))

    yield from table(
        ("", "resolution", "reference", "gyre, io_uring", "gyre, epoll") + others + ("by hand",),
        ((title, resolution_text(results.cell(suite, name)), reference(suite, name))
         + tuple(ratio_text(results.ratio(suite, name, ours)) for ours in OURS)
         + tuple(other(suite, name, contender) for contender in others)
         + ("%s %s" % (by_hand[suite], ratio_text(results.ratio(suite, name, by_hand[suite])))
            if suite in by_hand else "-",)
         for title, suite, name in lines))


def lateness(results):
    """From the deadline of a timer to its callback."""
    contenders = OURS + ("libuv", "libevent", "libev")

    def entry(name, contender):
        spans = [results.figure("timers", name, contender, "lateness_%s_ns" % part)
                 for part in ("p50", "p99")]
        return "-" if None in spans else ", ".join("{:,.0f}".format(ns / 1000) for ns in spans)

    yield from table(("timers",) + contenders,
                     ((number,) + tuple(entry("expire-%s" % number, contender)
                                        for contender in contenders)
                      for number in ("1K", "100K", "1M")))


def tails(results):
    """Percentiles of an open loop."""
    contenders = ("echo-epoll",) + ECHO
    parts = ("p50", "p90", "p99", "p99.9", "max")

    def entry(name, contender):
        spans = [results.figure("latency", name, contender, "latency_%s_ns" % part)
                 for part in parts]
        return "-" if None in spans else ", ".join("%.0f" % (ns / 1000) for ns in spans)

    yield from table(("share",) + contenders,
                     ((name + " %",) + tuple(entry(name, contender) for contender in contenders)
                      for name in ("50", "90")))


def idle(results):
    contenders = [contender for contender in ("echo-epoll",) + ECHO
                  if results.row("idle", "10K", contender)]
    figures = (("user bytes", "user_bytes_per_connection", 1), ("before a message", "user_bytes_accepted", 1),
               ("kernel bytes, both ends", "kernel_bytes_per_connection", 1),
               ("CPU while idle, %", "idle_cpu_share", 0.01),
               ("a busy one among them: p50, us", "busy_p50_ns", 1000),
               ("p99, us", "busy_p99_ns", 1000))

    def entry(contender, figure, unit):
        value = results.figure("idle", "10K", contender, figure)
        return count_text(None if value is None else value / unit)

    yield from table(
        ("",) + tuple(contenders),
        ((title,) + tuple(entry(contender, figure, unit) for contender in contenders)
         for title, figure, unit in figures))


def latency(results):
    contenders = ("echo-epoll", "echo-uring", "gyre-uring", "gyre-epoll", "gyre-uring-busy",
                  "gyre-epoll-busy", "libuv-try", "libev", "asio-epoll")

    def entry(name, contender):
        span = span_text(results.figure("latency", name, contender, "latency_p50_ns"))
        ratio = results.ratio("latency", name, contender)
        is_reference = contender == results.suites["latency"]["reference"]
        return span if ratio is None or is_reference else "%s, %.3f" % (span, ratio)

    yield from table(
        ("cell", "resolution") + contenders,
        ((cell["cell"] if not cell["cell"].isdigit() else cell["cell"] + " %",
          resolution_text(cell))
         + tuple(entry(cell["cell"], contender) for contender in contenders)
         for cell in results.cells("latency")))


def bulk(results):
    def row(suite, cell):
        reference = results.suites[suite]["reference"]
        known = {row["contender"]: row["ratio"]["median"] for row in cell["rows"]
                 if row["outcome"] == "ok" and row["ratio"] and row["contender"] != reference}
        others = ", ".join("%s %.3f" % item for item in sorted(known.items())
                           if item[0] not in OURS)
        return ("%s, %s" % (suite, cell["cell"]), resolution_text(cell), reference) + tuple(
            "1" if ours == reference else ratio_text(known.get(ours)) for ours in OURS) + (others,)

    yield from table(
        ("", "resolution", "reference", "gyre, io_uring", "gyre, epoll", "others"),
        (row(suite, cell) for suite in ("stream", "proxy", "http")
         for cell in results.cells(suite)))


TABLES = (environment, messages, means, by_hand, libraries, verdicts, counts, operations, lateness, latency,
          tails, bulk, idle)


# ---- page ----

def replaced(page, results):
    """The page with all its tables as the results say."""
    for make in TABLES:
        mark = "<!-- results: %s -->\n" % make.__name__
        if page.count(mark) != 1:
            sys.exit("the page has %d lines %s" % (page.count(mark), mark.strip()))
        text = "".join(line + "\n" for line in make(results))
        page = re.sub(re.escape(mark) + r"\n?(\|.*\n)*", lambda _: mark + "\n" + text, page)
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=argparse.FileType("r"))
    parser.add_argument("page", nargs="?")
    parser.add_argument("--update", action="store_true")
    arguments = parser.parse_args()
    results = Results(json.load(arguments.results))
    if arguments.page is None:
        for make in TABLES:
            print("%s:\n" % make.__name__)
            print("\n".join(make(results)) + "\n")
        return
    with open(arguments.page, encoding="utf-8") as file:
        page = file.read()
    wanted = replaced(page, results)
    if arguments.update:
        with open(arguments.page, "w", encoding="utf-8") as file:
            file.write(wanted)
        return
    sys.stdout.writelines(difflib.unified_diff(page.splitlines(True), wanted.splitlines(True),
                                               arguments.page, arguments.results.name, n=0))
    sys.exit(page != wanted)


main()
