"""Every .c file belongs to a target of the build, or is named in a meson.build beside it.

A file that no target compiles rots. The targets are read from what meson wrote at configure time.
"""

import pathlib

import common


def compiled(build):
    """The sources of all targets, as absolute paths."""
    found = set()
    for target in common.load(build / "meson-info" / "intro-targets.json"):
        for group in target["target_sources"]:
            found.update(pathlib.Path(name).resolve() for name in group.get("sources", []))
    return found


def left_out(build):
    """The directories that this build was told to leave out."""
    values = {option["name"]: option["value"]
              for option in common.load(build / "meson-info" / "intro-buildoptions.json")}
    return {name for name in ("examples", "bench", "tests") if values.get(name) is False}


def named(path):
    beside = path.parent / "meson.build"
    return beside.is_file() and "'%s'" % path.name in common.read(beside)


def check(opts):
    build = pathlib.Path(opts.build)
    root = opts.root.resolve()
    sources = compiled(build)
    dirs = [name for name in common.CODE_DIRS if name not in left_out(build)]
    for path in common.files(root, (".c",), dirs):
        if path not in sources and not named(path):
            yield opts.root / path.relative_to(root), 1, (
                "compiled by nothing; add it to a meson.build, or delete it")


if __name__ == "__main__":
    common.run(check, common.options(build="build directory"))
