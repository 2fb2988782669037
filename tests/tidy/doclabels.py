"""Every public function, type and callback is documented, in the form of style.md.

A function has "/** name() - what it does" directly above it, with Returns:, Thread: and Source:.
One comment may serve several declarations that follow each other without a blank line; it then
names each of them. A callback type has "name - " or "name() - "; a struct, union or enum "struct
name - ". A struct that exists only to be embedded has a comment that says so: "Never touched by
the caller".
"""

import re

import common

FUNCTION_LABELS = ("Returns:", "Thread:", "Source:")
PRIVATE = "Never touched by the caller"
COMMENT = re.compile(r"/\*.*?\*/", re.S)


def items(text):
    """The declarations of a header: (first line, text without comments, comment, chained).

    The comment is the one that ends on the line above; chained: no comment, but the declaration
    follows the one before on the next line."""
    bare = common.blank(text)
    bare = re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", lambda m: re.sub(r"[^\n]", " ", m.group()), bare,
                  flags=re.M)
    bare = re.sub(r"\bGYRE_(?:BEGIN|END)\b|^extern\s+\"\s+\"\s*\{", lambda m: " " * len(m.group()),
                  bare, flags=re.M)
    comments = {common.line_of(text, m.end() - 1): m.group() for m in COMMENT.finditer(text)}
    at, before = 0, 0
    while True:
        start = re.compile(r"[^\s;}]").search(bare, at)
        if not start:
            return
        end = start.start()
        while end < len(bare) and bare[end] != ";":
            if bare[end] in "({[":
                is_body = bare[end] == "{"
                head = bare[start.start():end]
                end = common.closing(bare, end)
                if is_body and re.search(r"\)\s*$", head):
                    break
            end += 1
        first = common.line_of(bare, start.start())
        comment = comments.get(first - 1)
        yield (first, bare[start.start():end], comment,
               comment is None and before == first - 1)
        before = common.line_of(bare, end)
        at = end + 1


def title(comment):
    """The comment's first words, without the star."""
    return re.sub(r"^/\*\*?[\s*]*", "", comment)


def classify(text):
    """(kind, name) of a declaration; kind is "function", "callback", "type" or None."""
    head = text.split("{")[0]
    if re.match(r"(?:_Static_assert|static_assert)\b", text):
        return None, None
    if head.startswith("typedef"):
        name = re.search(r"\(\s*\*?\s*(\w+)\s*\)\s*\(", head) or re.search(r"(\w+)\s*\(", head)
        return ("callback", name.group(1)) if name else (None, None)
    name = re.match(r"((?:struct|union|enum)\s+\w+)\s*$", head)
    if name and "{" in text:
        return "type", " ".join(name.group(1).split())
    name = re.search(r"\b(gyre_\w+)\s*\(", head)
    return ("function", name.group(1)) if name else (None, None)


def missing(kind, name, comment):
    """What a comment lacks for this declaration, or None."""
    if comment is None:
        return "has no comment; put /** %s - ... */ on the lines above" % name
    if kind == "type":
        if PRIVATE in comment or re.match(r"%s\s+-\s" % re.escape(name), title(comment)):
            return None
        return 'comment must begin "%s - ", or say "%s"' % (name, PRIVATE)
    if not comment.startswith("/**"):
        return "comment must begin with /**"
    if kind == "callback":
        if not re.match(r"%s(?:\(\))?\s+-\s" % name, title(comment)):
            return 'comment must begin "%s() - "' % name
        return None
    if not re.search(r"(?<!\w)%s\(\)" % name, title(comment).split(" - ")[0]):
        return 'comment must begin "%s() - "' % name
    absent = [label for label in FUNCTION_LABELS if label not in comment]
    return "comment lacks " + " ".join(absent) if absent else None


def check(opts):
    for path in common.files(opts.root, (".h",), ("include",)):
        last = None
        for line, text, comment, chained in items(common.read(path)):
            if chained:
                comment = last
            last = comment
            kind, name = classify(text)
            if kind:
                problem = missing(kind, name, comment)
                if problem:
                    yield path, line, "%s: %s" % (name, problem)


if __name__ == "__main__":
    common.run(check, common.options())
