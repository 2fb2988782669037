"""No function body is longer than 70 lines, unless it is one flat switch or one table.

Flat: without the lines of its longest switch, or its longest initialised table, at most
REST lines are left, and no case of that switch is longer than CASE lines. Nothing in the source
marks such a function; its shape is the reason.
"""

import re

import common

LIMIT = 70
REST = 15
CASE = 12
SWITCH = re.compile(r"^(\s+)switch \(.*\{$")
TABLE = re.compile(r"^(\s+)(?:static )?const .*= \{$")


def blocks(body, pattern, end):
    """(first, past the last) line of each block that @pattern opens and indent + @end closes."""
    for at, line in enumerate(body):
        match = pattern.match(line)
        if match:
            last = next((n for n in range(at + 1, len(body))
                         if body[n].rstrip() == match.group(1) + end), None)
            if last is not None:
                yield at, last + 1


def longest_case(lines):
    """The longest run of lines between two labels of the outermost switch of these lines."""
    indent = re.match(r"\s*", lines[0]).group()
    labels = [n for n, line in enumerate(lines) if re.match(indent + r"(?:case\b|default\b)", line)]
    ends = labels[1:] + [len(lines) - 1]
    return max((end - start for start, end in zip(labels, ends)), default=0)


def is_flat(body):
    """Whether the body is one flat switch, or one table, and little else."""
    for first, past in blocks(body, SWITCH, "}"):
        if len(body) - (past - first) <= REST and longest_case(body[first:past]) <= CASE:
            return True
    return any(len(body) - (past - first) <= REST for first, past in blocks(body, TABLE, "};"))


def check(opts):
    for path in common.files(opts.root, (".c", ".h")):
        for name, line, body in common.functions(common.read(path)):
            if len(body) > LIMIT and not is_flat(body):
                yield path, line, "%s() has %d lines, the limit is %d; split it" % (
                    name, len(body), LIMIT)


if __name__ == "__main__":
    common.run(check, common.options())
