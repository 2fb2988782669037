"""One seed is one run, whichever compiler made the program: the simulation of examples/sim-kv is built
by gcc without optimisation and by clang with it, and both have to print the same hashes.

usage: compilers.py --root DIR. Exit code 77: skipped, because one of the compilers is not there.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
COMPILERS = {"gcc": "-O0", "clang": "-O2"}
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-DGYRE_SIM", "-w", "-pthread")
SEEDS = 30


def output(command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit("failed (%d): %s\n%s%s" % (result.returncode, " ".join(map(str, command)),
                                           result.stdout, result.stderr))
    return result.stdout


def sources(root):
    """The program's files, with those of the library that are not the simulated kernel in one."""
    library = sorted(path for top in ("base", "core", "net", "backend")
                     for path in (root / "lib" / top).rglob("*.c"))
    example = root / "examples" / "sim-kv"
    program = [example / (name + ".c") for name in ("client", "history", "server", "sim-kv-test",
                                                     "store")]
    return library, sorted((root / "lib" / "sim").glob("*.c")) + program


def build(root, scratch, compiler):
    library, others = sources(root)
    whole = scratch / "library.c"
    whole.write_text("".join('#include "%s"\n' % path for path in library), encoding="utf-8")
    program = scratch / compiler
    output([compiler, COMPILERS[compiler], *FLAGS, "-I", root / "include", "-I", root / "lib", "-I",
            root / "examples", "-o", program, whole, *others, "-luring"])
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--root", required=True, type=pathlib.Path)
    root = parser.parse_args().root.resolve()
    missing = [compiler for compiler in COMPILERS if shutil.which(compiler) is None]
    if missing:
        print("skipped: no " + " and no ".join(missing))
        sys.exit(SKIPPED)
    with tempfile.TemporaryDirectory() as name:
        programs = [build(root, pathlib.Path(name), compiler) for compiler in COMPILERS]
        for personality in ("epoll", "uring"):
            found = [output([program, "--seeds", str(SEEDS), "--personality", personality])
                     for program in programs]
            print(personality, *found, sep="\n")
            if found[0] != found[1] or " 0 failed, hash " not in found[0]:
                sys.exit("wrong: the compilers' programs do not run alike")


if __name__ == "__main__":
    main()
