"""Proves the provers: breaks the library in the ways of table.py, one by one, and looks which check
notices. See docs/testing.md, "Mutations".

Works on a copy of the tree below build/mutants/, with one build directory for all mutations. First
every check must pass on the copy as it is. Then each mutation is made, what the checks need is built
again, and the checks of the mutation run in their order until one fails or hangs. The exit code is 0
if all mutations were caught; 1 if one survived, does not apply, or does not compile, or if the checks
fail without any.
"""

import argparse
import pathlib
import subprocess
import sys
import time

import checks
import edit
import table

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutants"


# ---- the copy ----

def refresh(root, tree):
    """Make @tree a copy of what git knows in @root, changed or not. Equal files keep their times,
    so that nothing is compiled again without need."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True).stdout
    names = {name.decode() for name in listed.split(b"\0") if name}
    names = {name for name in names if (root / name).is_file()}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and str(path.relative_to(tree)) not in names:
            path.unlink()
    for name in sorted(names):
        write_if_changed(tree / name, (root / name).read_bytes())
        (tree / name).chmod((root / name).stat().st_mode & 0o777)


def write_if_changed(path, data):
    if not path.is_file() or path.read_bytes() != data:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def configure(tree, build):
    if not (build / "build.ninja").is_file():
        subprocess.run(["meson", "setup", str(build), str(tree), "--buildtype=debug",
                        "-Dexamples=false", "-Dbench=false"], check=True, stdout=subprocess.DEVNULL)
    else: # the copy may have got other files: what the build has must be known before it is asked
        subprocess.run(["ninja", "-C", str(build), "build.ninja"], check=True,
                       stdout=subprocess.DEVNULL)


class Builder:
    """Builds what checks need. Returns "" or what the compiler said."""

    def __init__(self, build):
        self.build = build

    def __call__(self, targets):
        done = subprocess.run(["ninja", "-C", str(self.build), *sorted(targets)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", check=False)
        return "" if done.returncode == 0 else done.stdout[-4000:]


# ---- the hunt ----

class Bad(Exception):
    """The hunt cannot go on; the text says why."""


def baseline(available, build, say):
    """Without any mutation all checks must pass. Returns those that ran; one that is skipped here
    can catch nothing."""
    trouble = build(set().union(*(check.targets for check in available)))
    if trouble:
        raise Bad("the tree does not build:\n" + trouble)
    ran = []
    for check in available:
        verdict = check.run()
        if verdict.outcome == checks.CAUGHT:
            raise Bad("%s fails without any mutation: %s" % (check.name, verdict.detail))
        if verdict.outcome == checks.SKIPPED:
            say("%s cannot run here: %s" % (check.name, verdict.detail))
        else:
            ran.append(check)
    return ran


def hunt_one(mutant, available, build, root):
    """Returns (whether it was caught, by what)."""
    mine = [check for name in mutant.checks for check in available if check.name == name]
    if not mine:
        return False, "NO CHECK of it can run here"
    try:
        changes = edit.mutated(root, mutant)
    except edit.Lost as why:
        return False, "DOES NOT APPLY: %s" % why
    try:
        for path, (_, changed) in changes.items():
            path.write_text(changed, encoding="utf-8")
        tried = []
        for check in mine:
            trouble = build(check.targets)
            if trouble:
                return False, "DOES NOT COMPILE:\n" + trouble
            verdict = check.run()
            if verdict.outcome == checks.CAUGHT:
                return True, "%s: %s" % (check.name, verdict.detail)
            tried.append(check.name)
        return False, "SURVIVES %s" % ", ".join(tried)
    finally:
        for path, (text, _) in changes.items():
            path.write_text(text, encoding="utf-8")


def hunt(mutants, available, build, root, say):
    """Returns the names of those that were not caught."""
    wanted = {name for mutant in mutants for name in mutant.checks}
    ran = baseline([check for check in available if check.name in wanted], build, say)
    say("%d checks pass without any mutation" % len(ran))
    width = max(len(mutant.name) for mutant in mutants)
    missed = []
    for mutant in mutants:
        begin = time.monotonic()
        caught, by = hunt_one(mutant, ran, build, root)
        if not caught:
            missed.append(mutant.name)
        say("| %-*s | %s | %s | %.0f s |" % (width, mutant.name, mutant.breaks, by,
                                             time.monotonic() - begin))
    return missed


# ---- the command ----

def arguments():
    parser = argparse.ArgumentParser(prog="./dev mutants", description=__doc__.split("\n\n")[0])
    parser.add_argument("--list", action="store_true", help="name the mutations and their checks")
    parser.add_argument("--only", action="append", metavar="NAME",
                        help="only mutations whose names contain NAME; may be repeated")
    parser.add_argument("--seeds", type=int, default=2000,
                        help="seeds of the simulator for each personality (default 2000)")
    parser.add_argument("--start", type=int, default=1, help="the first of them (default 1)")
    parser.add_argument("--checks", choices=("all", "sim", "tests"), default="all",
                        help="only the simulator, or only the other tests")
    return parser.parse_args()


def selected(mutants, only):
    found = [mutant for mutant in mutants
             if not only or any(name in mutant.name for name in only)]
    if not found:
        raise Bad("no mutation is called so")
    return found


def say(text):
    print(text, flush=True)


def main():
    opts = arguments()
    mutants = selected(table.MUTANTS, opts.only)
    if opts.list:
        for mutant in mutants:
            say("%s: %s\n    in %s(); %s" % (mutant.name, mutant.breaks, mutant.function,
                                            ", ".join(mutant.checks)))
        return 0
    refresh(ROOT, WORK / "tree")
    configure(WORK / "tree", WORK / "build")
    available = checks.of_build(WORK / "build", opts.seeds, opts.start)
    if not any(check.sim for check in available):
        say("no simulator in this build: its seeds are not tried")
    if opts.checks != "all":
        available = [check for check in available if check.sim == (opts.checks == "sim")]
    missed = hunt(mutants, available, Builder(WORK / "build"), WORK / "tree", say)
    say("%d of %d mutations were caught" % (len(mutants) - len(missed), len(mutants)))
    if missed:
        say("not caught: %s" % ", ".join(missed))
    return 1 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Bad as reason:
        sys.exit("mutants: %s" % reason)
