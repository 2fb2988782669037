"""Finding the place of a mutation, and making it.

A place is a function and a piece of its text. The library is compiled as one unit, so the names of
its functions, statics too, are unique: a function may move to another file and is still found. (The
simulator, lib/sim, is no part of the library.) The text must occur exactly once in it; how it is broken into lines does not matter. Everything else is
an error: a mutation that does not apply any more must be seen to, not skipped.
"""

import pathlib
import re


class Lost(Exception):
    """A mutation does not apply; the text says why."""


def bodies(text, function):
    """The places (start, end) of the bodies of functions called @function in formatted C: only
    their braces stand alone in column 0."""
    for match in re.finditer(r"^\{\n(.*?)^\}", text, re.M | re.S):
        head = re.split(r"[;}]\s|\*/|\n[ \t]*\n|^#.*$", text[:match.start()], flags=re.M)[-1]
        named = re.search(r"(\w+)\s*\(", head)
        if named and named.group(1) == function:
            yield match.start(1), match.end(1)


def pattern(piece):
    """What finds @piece, however it is broken into lines."""
    return re.compile(r"\s+".join(re.escape(word) for word in piece.split()))


def sources(root):
    top = pathlib.Path(root) / "lib"
    return sorted(path for path in top.rglob("*.[ch]") if top / "sim" not in path.parents)


def place(root, function, old):
    """The file, its text and the span of @old in @function; raises Lost."""
    found = []
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        if function in text:
            found += [(path, text, span) for span in bodies(text, function)]
    if len(found) != 1:
        raise Lost("%d functions are called %s" % (len(found), function))
    path, text, (start, end) = found[0]
    matches = list(pattern(old).finditer(text, start, end))
    if len(matches) != 1:
        raise Lost("%s() has this text %d times: %s" % (function, len(matches), old.strip()))
    return path, text, matches[0].span()


def mutated(root, mutant):
    """The files that @mutant changes: path -> (text, changed text)."""
    function, old, new = mutant.function, mutant.old, mutant.new
    path, text, (start, end) = place(root, function, old)
    changed = text[:start] + new + text[end:]
    if changed == text:
        raise Lost("it changes nothing")
    return {path: (text, changed)}
