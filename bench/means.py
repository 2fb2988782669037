#!/usr/bin/env python3
"""What all cells of suite echo say together; see docs/performance.md.

usage: means.py RESULTS_JSON

Prints the geometric means of the ratios to the reference, for groups of cells; then gyre on each
driver against each other contender: the geometric mean of the ratio of both, in how many cells
gyre's median is above, and in how many the difference is outside the resolution of the cell.
"""
import argparse
import json
import math

GROUPS = (
    ("all", lambda cell: True),
    ("one connection", lambda cell: cell["connections"] == 1),
    ("8 and more, up to 4 KiB", lambda cell: cell["connections"] > 1 and cell["size"] <= 4096),
    ("8 and more, 16 and 64 KiB", lambda cell: cell["connections"] > 1 and cell["size"] > 4096),
)
OURS = ("gyre-uring", "gyre-epoll")


def ratios_of(cell):
    """The reference's own is 1."""
    return {row["contender"]: row["ratio"]["median"] if row["ratio"] else 1 for row in cell["rows"]
            if row["outcome"] == "ok"}


def mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def group_lines(cells, names):
    for name in names:
        for title, belongs in GROUPS:
            values = [ratios_of(cell)[name] for cell in cells
                      if belongs(cell["parameters"]) and name in ratios_of(cell)]
            if values:
                yield "%-14s %-26s %3d cells  %.3f" % (name, title, len(values), mean(values))


def pair_line(cells, ours, other):
    pairs = [(ratios_of(cell)[ours] / ratios_of(cell)[other], cell) for cell in cells
             if ours in ratios_of(cell) and other in ratios_of(cell)]
    behind = [(quotient, cell["cell"]) for quotient, cell in pairs
              if quotient > 1 + (cell["resolution"] or 0)]
    ahead = sum(quotient < 1 - (cell["resolution"] or 0) for quotient, cell in pairs)
    return "%s / %-12s %.3f  above in %d of %d, ahead outside the resolution in %d, behind in %d%s" % (
        ours, other, mean([quotient for quotient, _ in pairs]),
        sum(quotient > 1 for quotient, _ in pairs), len(pairs), ahead, len(behind),
        "".join("\n    %s %.2f" % (name, quotient) for quotient, name in behind))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=argparse.FileType("r"))
    suites = json.load(parser.parse_args().results)["suites"]
    echo = next(suite for suite in suites if suite["suite"] == "echo")
    cells = echo["cells"]
    names = sorted({name for cell in cells for name in ratios_of(cell)})
    print("the reference against itself: %.3f" %
          mean([cell["same"]["median"] for cell in cells if cell["same"]]))
    print("\n".join(group_lines(cells, names)))
    for ours in OURS:
        for other in names:
            if other not in OURS:
                print(pair_line(cells, ours, other))


main()
