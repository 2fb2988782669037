"""Compares what the user of the library sees on four grounds: io_uring and epoll, on the operating
system and on the simulated kernel. See differential.c."""

import argparse
import subprocess
import sys

TIMEOUT_S = 150
NO_RING = "loop: ENOURING"


def run(program, driver, start, count):
    result = subprocess.run([program, driver, str(start), str(count)], stdout=subprocess.PIPE,
                            text=True, timeout=TIMEOUT_S, check=False)
    if result.returncode != 0 and NO_RING not in result.stdout:
        sys.exit("%s %s %d %d ended with %d:\n%s" % (program, driver, start, count,
                                                     result.returncode, result.stdout[-2000:]))
    return result.stdout


def output_of(program, driver, args):
    """What it prints, by seed; None if the driver is not available here."""
    text = run(program, driver, args.start, args.count)
    for seed in args.also:
        text += run(program, driver, seed, 1)
    if NO_RING in text:
        return None
    seeds = {}
    for line in text.splitlines():
        if line.startswith("seed "):
            seed = int(line.split()[1])
            seeds[seed] = []
        else:
            seeds[seed].append(line)
    return seeds


def grounds(args):
    found = {}
    for ground, program in (("real", args.real), ("sim", args.sim)):
        for driver in ("epoll", "uring"):
            seeds = output_of(program, driver, args)
            if seeds is None:
                print("%s-%s is not available here" % (ground, driver))
            else:
                found["%s-%s" % (ground, driver)] = seeds
    return found


def show(seed, lines):
    print("seed %d:" % seed)
    for ground, line in lines.items():
        print("  %-10s %s" % (ground, line.strip()))


def compare(found):
    """The number of lines that are not the same everywhere."""
    names = list(found)
    wrong = 0
    for seed in found[names[0]]:
        for lines in zip(*(found[name].get(seed, []) for name in names)):
            if len(set(lines)) > 1:
                wrong += 1
                show(seed, dict(zip(names, lines)))
        if len({len(found[name].get(seed, [])) for name in names}) > 1:
            wrong += 1
            print("seed %d: not the same lines everywhere" % seed)
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("real")
    parser.add_argument("sim")
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--also", type=int, nargs="*", default=[], help="seeds that failed once")
    args = parser.parse_args()
    found = grounds(args)
    if "real-epoll" not in found or len(found) < 3:
        sys.exit("nothing to compare")
    wrong = compare(found)
    events = sum(len(line.split()) for seeds in found.values() for lines in seeds.values()
                 for line in lines)
    print("%d seeds on %s: %d words compared, %d lines differ" %
          (args.count + len(args.also), ", ".join(found), events, wrong))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
