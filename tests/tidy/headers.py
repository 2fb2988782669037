"""Each public header compiles alone, twice included, strictly, in C11 or C++17."""

import pathlib
import re
import shlex
import subprocess
import tempfile

import common

STANDARD = {
    "c": (".c", ["-std=c11"]),
    "cxx": (".cpp", ["-std=c++17"]),
}
FLAGS = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]


def check(opts):
    if not opts.compiler:
        raise common.Skip("no %s compiler" % {"c": "C", "cxx": "C++"}[opts.language])
    suffix, standard = STANDARD[opts.language]
    include = opts.root / "include"
    with tempfile.TemporaryDirectory() as scratch:
        for path in [include / "gyre.h"] + sorted((include / "gyre").glob("*.h")):
            name = path.relative_to(include)
            source = pathlib.Path(scratch, "alone" + suffix)
            source.write_text("#include <%s>\n#include <%s>\nint gyre_tidy_alone;\n" % (name, name))
            result = subprocess.run(
                shlex.split(opts.compiler) + standard + FLAGS + ["-I%s" % include, str(source)],
                capture_output=True, text=True, check=False)
            if result.returncode == 0:
                continue
            where = re.search(r"gyre[\w/]*\.h:(\d+):.*?(?:error|warning): (.*)", result.stderr)
            line, text = (int(where.group(1)), where.group(2)) if where else (1, result.stderr)
            yield path, line, "does not compile alone (%s): %s" % (" ".join(standard), text)


if __name__ == "__main__":
    common.run(check, common.options(compiler="the command", language="c or cxx"))
