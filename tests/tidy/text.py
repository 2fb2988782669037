"""Plain text rules: no notes to oneself, no tabs or trailing blanks in C, braces always, and the
pages of docs/ that comments point to exist."""

import re

import common

# Spelt so that this file does not find itself.
NOTES = re.compile(r"\b(?:%s)\b" % "|".join(("FIX" + "ME", "XX" + "X", "HA" + "CK", "TO" + "DO")))
BRACED = re.compile(r"\b(?:if|for|while)\s*\(")
PAGE = re.compile(r"\bdocs/[\w./-]+\.md\b")


def unbraced(text):
    """Lines of if, else, for, while and do whose body has no braces. clang-format 14 cannot."""
    text = re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", lambda m: re.sub(r"[^\n]", " ", m.group()),
                  common.blank(text), flags=re.M)
    for match in BRACED.finditer(text):
        after = text[common.closing(text, match.end() - 1) + 1:].lstrip()
        ends_do = match.group().startswith("while") and text[:match.start()].rstrip().endswith("}")
        if not after.startswith("{") and not (ends_do and after.startswith(";")):
            yield common.line_of(text, match.start())
    for match in re.finditer(r"\belse\b(?!\s*(?:\{|if\b))|\bdo\b(?!\s*\{)", text):
        yield common.line_of(text, match.start())


def check(opts):
    root = opts.root
    for path in common.files(root, (".c", ".h", ".py", ".sh", ".build", ".map")):
        for number, line in enumerate(common.read(path).split("\n"), 1):
            if NOTES.search(line):
                yield path, number, "a note to oneself; do it, or open an issue"
    for path in common.files(root, (".c", ".h")):
        text = common.read(path)
        for number, line in enumerate(text.split("\n"), 1):
            if "\t" in line:
                yield path, number, "a tab; use spaces"
            if line != line.rstrip():
                yield path, number, "trailing white space; remove it"
            for page in PAGE.findall(line):
                if not (root / page).is_file():
                    yield path, number, "%s does not exist; write it, or name another source" % page
        if not text.endswith("\n") or text.endswith("\n\n"):
            yield path, text.count("\n") + 1, "must end in exactly one newline"
        for number in unbraced(text):
            yield path, number, "a body without braces; add them"


if __name__ == "__main__":
    common.run(check, common.options())
