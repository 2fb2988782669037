"""clang-format 14 has nothing to change. Other versions format differently: skipped there."""

import difflib
import re
import shutil
import subprocess

import common

VERSION = "14"


def formatter():
    """The path of clang-format in the version that decides."""
    seen = []
    for name in ("clang-format-" + VERSION, "clang-format"):
        path = shutil.which(name)
        if path is None:
            continue
        text = subprocess.run([path, "--version"], capture_output=True, text=True,
                              check=True).stdout
        version = re.search(r"version (\d+)", text)
        if version and version.group(1) == VERSION:
            return path
        seen.append(text.strip())
    raise common.Skip("clang-format %s is needed; found: %s" % (VERSION, ", ".join(seen) or "none"))


def check(opts):
    path_of_formatter = formatter()
    config = opts.root / ".clang-format"
    for path in common.files(opts.root, (".c", ".h")):
        old = common.read(path)
        result = subprocess.run(
            [path_of_formatter, "--style=file:%s" % config, "--assume-filename=%s" % path],
            input=old, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            yield config, 1, "clang-format refuses: " + " ".join(result.stderr.split())
            return
        if result.stdout == old:
            continue
        line = 1
        for text in difflib.unified_diff(old.splitlines(), result.stdout.splitlines(), n=0,
                                         lineterm=""):
            hunk = re.match(r"@@ -(\d+)", text)
            if hunk:
                line = max(1, int(hunk.group(1)))
                yield path, line, "not formatted; run: clang-format -i %s" % (
                    path.relative_to(opts.root))


if __name__ == "__main__":
    common.run(check, common.options())
