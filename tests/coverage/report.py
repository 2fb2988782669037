"""What of lib/ the tests ran: lines and branches for each file, each directory, and the three layers
that matter most together, from what gcovr has gathered (./dev coverage).

A branch is a way out of a condition; `a && b` has four. Those of gyre_assert() do not count: a
condition that only a bug can make false has no test that makes it so. Lines without words, which
are braces, do not count either: gcovr knows of them only where they ran.
"""

import argparse
import collections
import json
import pathlib
import re

LAYERS = ("lib/core", "lib/net", "lib/backend")

Count = collections.namedtuple("Count", "lines lines_hit branches branches_hit")


def assertions(text):
    """The numbers of the lines of all gyre_assert(...)."""
    found = set()
    for match in re.finditer(r"\bgyre_assert\(", text):
        depth, end = 1, match.end()
        while depth > 0 and end < len(text):
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.update(range(text.count("\n", 0, match.start()) + 1, text.count("\n", 0, end) + 2))
    return found


def examine(entry, text):
    """The counts of one file, and its lines and branches that never ran: (number, what)."""
    asserted = assertions(text)
    lines = text.split("\n")
    count = [0, 0, 0, 0]
    missed = []
    for line in entry["lines"]:
        number = line["line_number"]
        if line.get("gcovr/noncode") or not re.search(r"\w", lines[number - 1]):
            continue
        branches = [] if number in asserted else line["branches"]
        taken = sum(branch["count"] > 0 for branch in branches)
        count[0] += 1
        count[1] += line["count"] > 0
        count[2] += len(branches)
        count[3] += taken
        if line["count"] == 0:
            missed.append((number, "never ran"))
        elif taken < len(branches):
            missed.append((number, "%d of %d branches" % (taken, len(branches))))
    return Count(*count), missed


def total(counts):
    return Count(*(sum(numbers) for numbers in zip(*counts))) if counts else Count(0, 0, 0, 0)


def percent(hit, of):
    return "%5.1f %%" % (100 * hit / of) if of else "      -"


def row(name, count):
    return "%-32s %5d of %5d %s   %5d of %5d %s" % (
        name, count.lines_hit, count.lines, percent(count.lines_hit, count.lines),
        count.branches_hit, count.branches, percent(count.branches_hit, count.branches))


def write_missed(path, missed, texts):
    with open(path, "w", encoding="utf-8") as out:
        for name in sorted(missed):
            lines = texts[name].split("\n")
            for number, what in missed[name]:
                out.write("%s:%d: %s: %s\n" % (name, number, what, lines[number - 1].strip()))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gathered", help="what gcovr --json wrote")
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--missed", required=True, help="file for what never ran")
    opts = parser.parse_args()
    with open(opts.gathered, encoding="utf-8") as stream:
        entries = json.load(stream)["files"]
    texts, counts, missed = {}, {}, {}
    for entry in entries:
        name = entry["file"]
        texts[name] = (opts.root / name).read_text(encoding="utf-8")
        counts[name], missed[name] = examine(entry, texts[name])
    folders = sorted({str(pathlib.PurePath(name).parent) for name in counts})
    print("%-32s %14s %7s   %14s %7s" % ("file", "lines", "", "branches", ""))
    for folder in folders:
        inside = [name for name in sorted(counts) if str(pathlib.PurePath(name).parent) == folder]
        for name in inside:
            print(row(name, counts[name]))
        print(row("= " + folder, total([counts[name] for name in inside])) + "\n")
    for layer in LAYERS:
        print(row(layer, total([counts[name] for name in counts if name.startswith(layer + "/")])))
    print(row("core, net and backend", total([
        counts[name] for name in counts if name.startswith(tuple(layer + "/" for layer in LAYERS))])))
    print(row("lib", total(list(counts.values()))))
    write_missed(opts.missed, missed, texts)
    print("what never ran: %s" % opts.missed)


if __name__ == "__main__":
    main()
