"""Installs the build into a temporary directory and uses it as a stranger would.

Checks the files and gyre.pc, then compiles consumer.c against the copy through pkg-config, as C
and as C++, shared and static, and runs it; and the same with gyre-sim.pc and simulation.c, if
libgyre-sim is built. Exit code 77: skipped, with the reason.
"""

import argparse
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77


def output(command, **kwargs):
    """Run a command and return what it prints; end the test with its messages if it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)
    if result.returncode != 0:
        sys.exit("failed (%d): %s\n%s%s" % (result.returncode, shlex.join(map(str, command)),
                                           result.stdout, result.stderr))
    return result.stdout.strip()


def expect(condition, text):
    if not condition:
        sys.exit("wrong: " + text)


def build_options(build):
    text = (build / "meson-info" / "intro-buildoptions.json").read_text(encoding="utf-8")
    return {option["name"]: option["value"] for option in json.loads(text)}


class Installed:
    """A copy of a library below a directory, and how to find it with pkg-config."""

    def __init__(self, stage, options, name):
        self.name = name
        prefix = stage / options["prefix"].lstrip("/")
        self.libdir = prefix / options["libdir"]
        self.includedir = prefix / options["includedir"]
        system = output(["pkg-config", "--variable", "pc_path", "pkg-config"])
        self.env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=str(stage),
                        PKG_CONFIG_LIBDIR="%s:%s" % (self.libdir / "pkgconfig", system))
        self.env.pop("PKG_CONFIG_PATH", None)

    def pkg_config(self, *arguments):
        return shlex.split(output(["pkg-config", *arguments, self.name], env=self.env))


def check_files(copy, root):
    """Every public header is there, and nothing else beside them."""
    def headers(top):
        return {str(path.relative_to(top)) for path in top.rglob("*.h")}
    public, found = headers(root / "include"), headers(copy.includedir)
    expect(found == public, "installed headers: missing %s, surplus %s" % (
        sorted(public - found), sorted(found - public)))


def check_pc(copy, stage, version):
    """The .pc file is valid, knows the version, and has no path of the build in it."""
    name = copy.name + ".pc"
    text = (copy.libdir / "pkgconfig" / name).read_text(encoding="utf-8")
    expect(str(stage) not in text, name + " names the staging directory")
    copy.pkg_config("--validate")
    found = copy.pkg_config("--modversion")
    expect(found == [version], "%s has version %s, the project %s" % (name, found, version))
    shared, static = copy.pkg_config("--libs"), copy.pkg_config("--static", "--libs")
    expect("-l" + copy.name in shared, "pkg-config --libs lacks -l%s: %s" % (copy.name, shared))
    expect("-luring" not in shared, "pkg-config --libs makes users link liburing: %s" % shared)
    expect("-luring" in static, "pkg-config --static --libs lacks -luring: %s" % static)


def check_consumer(copy, source, name, command, version, static):
    """Compile, link and run the consumer; it prints the version."""
    with tempfile.TemporaryDirectory() as scratch:
        program = pathlib.Path(scratch, "consumer")
        mode = ["--static"] if static else []
        output([*command, "-Wall", "-Wextra", "-Werror", *copy.pkg_config("--cflags"),
                str(source), "-x", "none", "-o", str(program),
                *copy.pkg_config(*mode, "--libs")])
        env = dict(os.environ)
        env.pop("LD_LIBRARY_PATH", None)
        if not static:
            env["LD_LIBRARY_PATH"] = str(copy.libdir)
        printed = output([str(program)], env=env)
        expect(printed == version, "the %s program printed %r, not %r" % (name, printed, version))
        print("%s, %s, %s: ok" % (copy.name, name, "static" if static else "shared"))


def check_consumers(stage, options, sources, languages, version):
    """Each library with its program, first with the shared ones that are installed."""
    kinds = {"both": (False, True), "shared": (False,), "static": (True,)}
    for static in kinds[options["default_library"]]:
        for library, source in sources.items():
            copy = Installed(stage, options, library)
            if static:
                # Beside a shared library the linker would prefer that one, without a word.
                for path in copy.libdir.glob("lib%s.so*" % library):
                    path.unlink()
            for name, command in languages.items():
                check_consumer(copy, source, name, command, version, static)


def main():
    parser = argparse.ArgumentParser()
    for name in ("root", "build", "meson", "version", "consumer", "simulation", "cc", "cxx"):
        parser.add_argument("--" + name, required=True)
    opts = parser.parse_args()
    options = build_options(pathlib.Path(opts.build))
    if options.get("b_sanitize", "none") != "none":
        print("skipped: a sanitized library needs programs linked with the same sanitizer")
        sys.exit(SKIPPED)
    if shutil.which("pkg-config") is None:
        print("skipped: pkg-config is not installed")
        sys.exit(SKIPPED)
    languages = {"C": [*shlex.split(opts.cc), "-std=c11", "-x", "c"]}
    if opts.cxx:
        languages["C++"] = [opts.cxx, "-std=c++17", "-x", "c++"]
    else:
        print("C++ left out: no C++ compiler")
    sources = {"gyre": opts.consumer}
    if options["sim"]:
        sources["gyre-sim"] = opts.simulation
    with tempfile.TemporaryDirectory() as scratch:
        stage = pathlib.Path(scratch)
        output([*shlex.split(opts.meson), "install", "-C", opts.build, "--no-rebuild", "--quiet",
                "--destdir", str(stage)])
        check_files(Installed(stage, options, "gyre"), pathlib.Path(opts.root))
        for library in sources:
            check_pc(Installed(stage, options, library), stage, opts.version)
        check_consumers(stage, options, sources, languages, opts.version)


if __name__ == "__main__":
    main()
