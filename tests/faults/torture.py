#!/usr/bin/env python3
"""Torture of everything (./dev torture), on both drivers: each program of the conformance suite in
virtual time, on the simulated kernel (tests/faults/virtual.c); then each on the operating system, and
the scenarios (tests/faults/torture.c).

usage: torture.py [--sim | --real] [--jobs N] [--variant V] [--only SUBSTRING] [--stalls] DIRECTORY

Prints a line for each program and variant, then the sums, by which failures cases wait for ever, and
why cases were left out; defects in full, with what repeats them. The exit status says whether there
were any.
"""
import argparse
import collections
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import time

VARIANTS = ("uring", "epoll")
KINDS = {"sim": ("virtual-",), "real": ("faulty-", "torture-")}
TITLES = {"sim": "virtual time", "real": "operating system"}
SUMMARY = re.compile(r"^= \S+: (\d+) cases, (\d+) left out, (\d+) injections \((\d+) passed, (\d+) ended "
                     r"early, (\d+) stalled\), (\d+) not met, (\d+) repetitions left out, "
                     r"(\d+) defects$", re.MULTILINE)
NAMES = ("cases", "left out", "injections", "passed", "ended early", "stalled", "not met",
         "repetitions left out", "defects")
LEFT_OUT = re.compile(r"^\S+: left out: (.*)$", re.MULTILINE)
STALLED = re.compile(r"^stalled: ((\S+), GYRE_STRIKE=([^:]+:[^:]+):.*)$", re.MULTILINE)
# A defect, and what the case has said: up to the next line of the torturer's own.
DEFECT = re.compile(r"^DEFECT .*\n(?:(?!stalled: |DEFECT |= |\S+: \d+ injections, |\S+: left out: ).*\n)*",
                    re.MULTILINE)
PROGRAM_S = 6 * 3600


def torture(program, variant, opts):
    """(numbers of the summary or None, all that was printed, seconds)"""
    began = time.monotonic()
    env = dict(os.environ, GYRE_TEST_VARIANT=variant, GYRE_TORTURE=opts.what,
               GYRE_TORTURE_STALLS="1")
    done = subprocess.run([program], env=env, check=False, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PROGRAM_S)
    text = done.stdout.decode(errors="replace")
    found = SUMMARY.search(text)
    numbers = [int(number) for number in found.groups()] if found else None
    if numbers and done.returncode != (numbers[-1] > 0):
        numbers = None
    return numbers, text, time.monotonic() - began


def describe(numbers):
    return ", ".join("%d %s" % pair for pair in zip(numbers, NAMES))


def torture_all(kind, opts):
    """Whether all was well."""
    programs = sorted(path for path in opts.directory.iterdir()
                      if path.name.startswith(KINDS[kind]) and path.is_file()
                      and os.access(path, os.X_OK) and opts.only in path.name)
    began = time.monotonic()
    sums, broken, reasons = [0] * len(NAMES), 0, collections.Counter()
    stalls, stalled_cases = collections.Counter(), collections.defaultdict(set)
    with concurrent.futures.ThreadPoolExecutor(opts.jobs) as pool:
        runs = {pool.submit(torture, program, variant, opts): (program.name, variant)
                for program in programs for variant in opts.variant or VARIANTS}
        for run in concurrent.futures.as_completed(runs):
            numbers, text, seconds = run.result()
            name, variant = runs[run]
            if numbers is None:
                print(text)
            for defect in DEFECT.findall(text):
                print(defect, end="")
            for strike, case, failure in STALLED.findall(text):
                stalls[failure] += 1
                stalled_cases[failure].add(case)
                if opts.stalls:
                    print("stalled: %s %s %s" % (name, variant, strike))
            print("%-26s %-5s %s, %d s" % (name, variant, describe(numbers) if numbers else "BROKEN",
                                           seconds), flush=True)
            broken += numbers is None
            reasons.update(LEFT_OUT.findall(text))
            sums = [a + b for a, b in zip(sums, numbers or [0] * len(NAMES))]
    for failure, count in stalls.most_common():
        print("%4d stalled by %s, in %d cases" % (count, failure, len(stalled_cases[failure])))
    for reason, count in reasons.most_common():
        print("%4d cases left out: %s" % (count, reason))
    print("%s: %d runs, %s, %d programs broken, %d s" % (
        TITLES[kind], len(runs), describe(sums), broken, time.monotonic() - began), flush=True)
    return not broken and not sums[-1] and (sums[2] or not programs)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--variant", choices=VARIANTS, action="append")
    parser.add_argument("--only", default="", help="programs whose names contain this")
    parser.add_argument("--what", choices=("all", "memory", "calls"), default="all")
    parser.add_argument("--stalls", action="store_true", help="name each case that waited for ever")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--sim", action="store_true", help="only in virtual time")
    kind.add_argument("--real", action="store_true", help="only on the operating system")
    opts = parser.parse_args()
    kinds = ["sim"] if opts.sim else ["real"] if opts.real else ["sim", "real"]
    return 0 if all([torture_all(kind, opts) for kind in kinds]) else 1


sys.exit(main())
