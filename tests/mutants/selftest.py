"""The hunt for mutations is no blind man's: every mutation still applies to this tree, exactly once,
and compiles; and the verdicts are right when stand-ins play the checks and the compiler."""

import argparse
import pathlib
import shlex
import subprocess
import sys
import tempfile

import checks
import edit
import mutants
import table

SAMPLE = """\
#include "sample.h"

#define WORDS(x) (x)

/* Mentions take(1); only. */
static int other(int x)
{
    return take(x) + add(x,
                         1);
}

int
take(int x)
{
    x += add(x, 1);
    return add(x, 1);
}
"""


def expect(condition, text):
    if not condition:
        sys.exit("selftest: %s" % text)


# ---- the list ----

def check_list(root):
    names = [mutant.name for mutant in table.MUTANTS]
    expect(len(set(names)) == len(names), "two mutations have one name")
    expect(len(names) >= 16, "too few mutations")
    for mutant in table.MUTANTS:
        try:
            edit.mutated(root, mutant)
        except edit.Lost as why:
            sys.exit("selftest: the mutation %s does not apply any more: %s\n"
                     "Change its text in tests/mutants/table.py so that it does." %
                     (mutant.name, why))


def check_compiles(root, compiler, flags):
    """One call of the compiler for all of them. A header is compiled as if it were a source."""
    with tempfile.TemporaryDirectory() as scratch:
        files = []
        for mutant in table.MUTANTS:
            for _, changed in edit.mutated(root, mutant).values():
                copy = pathlib.Path(scratch) / ("%s.c" % mutant.name)
                copy.write_text(changed, encoding="utf-8")
                files.append(str(copy))
        done = subprocess.run(
            [*compiler, "-fsyntax-only", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra",
             "-Wno-missing-field-initializers", "-Wno-unused-function", "-Werror",
             "-I%s/lib" % root, "-I%s/include" % root, *flags, *files], capture_output=True, text=True, check=False)
        expect(done.returncode == 0, "mutations do not compile:\n" + done.stderr)


def check_tests_exist(build):
    known = {check.name for check in checks.of_build(pathlib.Path(build), 1, 1)}
    for mutant in table.MUTANTS:
        for name in mutant.checks:
            expect(name in known or name in table.SIM,
                   "%s wants the check %s, which there is not" % (mutant.name, name))


# ---- finding the place ----

def sample(function, old, new="0"):
    return table.Mutant("sample", "", function, old, new, ())


def lost(root, *what):
    try:
        edit.mutated(root, sample(*what))
    except edit.Lost as why:
        return str(why)
    return ""


def check_places():
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "lib").mkdir()
        path = root / "lib" / "sample.c"
        path.write_text(SAMPLE, encoding="utf-8")
        (_, changed), = edit.mutated(root, sample("other", "add(x, 1)")).values()
        expect("take(x) + 0;" in changed, "a text broken into lines is not found")
        (_, changed), = edit.mutated(root, sample("take", "x += add(x, 1);")).values()
        expect(changed.count("add(x,") == 2, "the wrong function is changed")
        expect("2 times" in lost(root, "take", "add(x, 1)"), "an ambiguous text is taken")
        expect("0 times" in lost(root, "take", "add(x, 2)"), "a text that is gone is taken")
        expect("0 functions" in lost(root, "give", "add(x, 1)"), "a function that is gone is taken")
        expect("nothing" in lost(root, "take", "x += add(x, 1);", "x += add(x, 1);"),
               "a mutation that changes nothing is taken")
        (root / "lib" / "again.c").write_text(SAMPLE, encoding="utf-8")
        expect("2 functions" in lost(root, "take", "x += add(x, 1);"), "two functions are taken")


# ---- verdicts ----

class StandIn:
    """A check that looks at the file instead of running it: fails if it finds @word."""

    sim = False

    def __init__(self, name, path, word, outcome=checks.CAUGHT):
        self.name = name
        self.targets = {name}
        self.path = path
        self.word = word
        self.outcome = outcome
        self.runs = 0

    def run(self):
        self.runs += 1
        if self.word in self.path.read_text(encoding="utf-8"):
            return checks.Verdict(self.outcome, "found %s" % self.word)
        return checks.Verdict(checks.PASSED, "")


def hunted(root, stand_ins, new, build=lambda targets: ""):
    """Returns (whether a mutation of the sample was caught, what was said of it)."""
    said = []
    mutant = table.Mutant("sample", "", "take", "x += add(x, 1);", new,
                          tuple(check.name for check in stand_ins))
    missed = mutants.hunt([mutant], stand_ins, build, root, said.append)
    return not missed, said[-1]


def check_verdicts():
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch)
        (root / "lib").mkdir()
        path = root / "lib" / "sample.c"
        path.write_text(SAMPLE, encoding="utf-8")
        blind = StandIn("blind", path, "nothing like it")
        sees = StandIn("sees", path, "BROKEN")

        caught, said = hunted(root, [blind, sees], "BROKEN")
        expect(caught and "sees: found" in said and blind.runs == 2, "a catch is not seen")
        expect(path.read_text(encoding="utf-8") == SAMPLE, "the tree is not put back")
        caught, said = hunted(root, [blind], "BROKEN")
        expect(not caught and "SURVIVES blind" in said, "a survivor is not seen")
        caught, said = hunted(root, [sees], "x--;",
                              lambda targets: "error" if "x--" in path.read_text() else "")
        expect(not caught and "COMPILE" in said, "what does not compile counts as caught")
        caught, said = hunted(root, [StandIn("away", path, "add", checks.SKIPPED)], "BROKEN")
        expect(not caught and "NO CHECK" in said, "a check that is skipped catches")
        for stand_in, build in ((StandIn("red", path, "add"), lambda targets: ""),
                                (sees, lambda targets: "error")):
            try:
                hunted(root, [stand_in], "BROKEN", build)
                expect(False, "checks that fail without a mutation go unnoticed")
            except mutants.Bad:
                pass


# ---- checks ----

def shell(script, tap=True, seconds=30):
    entry = {"name": "shell", "cmd": ["sh", "-c", script], "env": {}, "timeout": seconds,
             "protocol": "tap" if tap else "exitcode"}
    return checks.Test(entry, set()).run()


def sim(script, seeds=100):
    check = checks.Sim("uring", "sh", set(), seeds, 10)
    check.command = ["sh", "-c", script, "sh"] # $2 is the number of seeds, $4 the first of them
    return check.run()


def check_checks():
    for script, tap, outcome in (
            ("echo ok 1 - a; echo 'ok 2 - b # SKIP why'", True, checks.PASSED),
            ("echo ok 1 - a; echo not ok 2 - b", True, checks.CAUGHT),
            ("echo not ok 1 - b; sleep 60", True, checks.CAUGHT),
            ("echo ok 1 - a; kill -SEGV $$", True, checks.CAUGHT),
            ("echo 1..0", True, checks.CAUGHT),
            ("echo 'ok 1 - b # SKIP why'", True, checks.SKIPPED),
            ("exit 77", False, checks.SKIPPED),
            ("exit 1", False, checks.CAUGHT),
            ("exit 0", False, checks.PASSED)):
        verdict = shell(script, tap)
        expect(verdict.outcome == outcome, "%s: %s" % (script, verdict))
    expect("hangs" in shell("sleep 60", seconds=1).detail, "a check that hangs is not ended")
    expect(sim("exit 0").outcome == checks.PASSED, "seeds do not pass")
    verdict = sim("[ $(($4 + $2)) -lt 30 ] || { echo FAIL seed=0x1d step=3; exit 1; }")
    expect(verdict == checks.Verdict(checks.CAUGHT, "seed 29, after 20 seeds"), str(verdict))
    verdict = sim("[ $4 -lt 20 ] || kill -ABRT $$")
    expect(verdict.outcome == checks.CAUGHT and "signal 6, within 48 seeds" in verdict.detail,
           str(verdict))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=pathlib.Path, required=True)
    parser.add_argument("--build", required=True)
    parser.add_argument("--cc", required=True)
    parser.add_argument("--cflags", default="")
    opts = parser.parse_args()
    check_places()
    check_verdicts()
    check_checks()
    check_list(opts.root)
    check_tests_exist(opts.build)
    check_compiles(opts.root, shlex.split(opts.cc), shlex.split(opts.cflags))
    print("%d mutations apply" % len(table.MUTANTS))


if __name__ == "__main__":
    main()
