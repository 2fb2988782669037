"""What the style checks share: the files of a tree, C text without its comments, functions.

A check is a function that takes the options of the command line and yields problems: (path, line,
what is wrong and what to do). run() prints them as path:line: text and turns them into the exit
code: 0 nothing found, 1 problems, 77 skipped (with the reason), which is what meson expects.
"""

import argparse
import json
import pathlib
import re
import sys

SKIPPED = 77
CODE_DIRS = ("lib", "include", "examples", "bench", "tests")


class Skip(Exception):
    """The check cannot run here; the text says why."""


def options(**extra):
    """Parse the command line: --root, and one option for each keyword (name=help text)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, required=True, help="top of the source tree")
    for name, text in extra.items():
        parser.add_argument("--" + name, help=text)
    return parser.parse_args()


def run(check, opts):
    """Run a check, print what it found, and end the program with its exit code."""
    try:
        problems = sorted(set(check(opts)), key=lambda found: (str(found[0]), found[1], found[2]))
    except Skip as reason:
        print("skipped: %s" % reason)
        sys.exit(SKIPPED)
    for path, line, text in problems:
        if isinstance(path, pathlib.Path) and path.is_relative_to(opts.root):
            path = path.relative_to(opts.root)
        print("%s:%d: %s" % (path, line, text))
    sys.exit(1 if problems else 0)


def files(root, suffixes, dirs=CODE_DIRS):
    """The files below @dirs of the tree whose names end in one of @suffixes, in order."""
    found = []
    for top in dirs:
        found += [path for path in (root / top).rglob("*")
                  if path.suffix in suffixes and path.is_file()
                  and "__pycache__" not in path.parts]
    return sorted(found)


def read(path):
    """The text of a file, its line ends as they are."""
    return path.read_bytes().decode("utf-8", errors="replace")


TOKENS = re.compile(r"""
      (?P<comment> /\*.*?\*/ | //[^\n]* )
    | (?P<string> "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' )
    """, re.S | re.X)


def blank(text, strings=True):
    """@text with comments, and the insides of string literals, replaced by spaces: same lines and
    columns, so that a match in the result can be reported at its place."""
    def erase(match):
        found = match.group()
        if match.lastgroup == "comment":
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[-1] if strings else found
    return TOKENS.sub(erase, text)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def closing(text, opening):
    """The offset of the bracket that closes the one at @opening, or the end of the text."""
    pairs = {"(": ")", "{": "}", "[": "]"}
    depth = 0
    for at in range(opening, len(text)):
        if text[at] == text[opening]:
            depth += 1
        elif text[at] == pairs[text[opening]]:
            depth -= 1
            if depth == 0:
                return at
    return len(text)


def functions(text):
    """The function bodies of formatted C: (name, first line, lines between the braces).

    clang-format puts both braces of a function, and nothing else of the same shape, into column 0;
    relying on that survives preprocessor conditionals that make braces uneven."""
    lines = blank(text).split("\n")
    at = 0
    while at < len(lines):
        if lines[at].rstrip() == "{":
            end = next((n for n in range(at + 1, len(lines)) if lines[n].startswith("}")),
                       len(lines))
            head = at - 1
            while head > 0 and lines[head - 1].strip() and lines[head - 1][-1] not in ";}":
                head -= 1
            name = re.search(r"(\w+)\s*\(", " ".join(lines[head:at]))
            yield (name.group(1) if name else "?", head + 1, lines[at + 1:end])
            at = end
        at += 1


def load(path):
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)
