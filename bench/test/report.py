#!/usr/bin/env python3
"""The report is a page that stands alone, for every width, scheme and reader.

    report.py GYRE_BENCH [PAGE...]

Measures something short, makes the report, and looks at the page, and at others that are named: their
structure always, and their layout and console in a headless Chromium where there is one (else those
cases are skipped). TAP.
"""

import copy
import fcntl
import html.parser
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

WIDTHS = (360, 768, 1440)
VOID = {"meta", "link", "br", "hr", "img"}


class Page(html.parser.HTMLParser):
    """What the cases ask about: nesting, ids, references, tables, drawings."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.ids, self.links = [], [], [], []
        self.tables = self.captions = self.drawings = self.titles = self.scripts = 0
        self.bare_headers = 0
        self.outside = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.note(tag, found)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.note(tag, dict(attributes))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def note(self, tag, found):
        if "id" in found:
            self.ids.append(found["id"])
        for name in ("href", "xlink:href", "src"):
            target = found.get(name, "")
            if target.startswith("#"):
                self.links.append(target[1:])
            elif target and not target.startswith("data:"):
                self.outside.append(target)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.drawings += tag == "svg" and found.get("role") == "img"
        self.titles += tag == "title"
        self.scripts += tag == "script"
        self.bare_headers += tag == "th" and "scope" not in found


class Browser:
    """Chromium, spoken to through its debugging pipe: a JSON object, a zero byte."""

    def __init__(self, path):
        child_in, self.out = os.pipe()
        self.back, child_out = os.pipe()
        command = [path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                   "--remote-debugging-pipe", "--user-data-dir=" + tempfile.mkdtemp(dir=WORK)]
        keep = (child_in, child_out)

        def redirect():
            # Out of the way first: either may have the other's number.
            high = [os.dup2(fd, 10 + n, inheritable=True) for n, fd in enumerate(keep)]
            for n, fd in enumerate(high):
                os.dup2(fd, 3 + n, inheritable=True)

        self.process = subprocess.Popen(command, preexec_fn=redirect, close_fds=False,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in keep:
            os.close(fd)
        self.number, self.buffer, self.events = 0, b"", []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target,
                                 flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def read(self):
        while b"\0" not in self.buffer:
            more = os.read(self.back, 65536)
            if not more:
                raise RuntimeError("the browser is gone")
            self.buffer += more
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **parameters):
        self.number += 1
        request = {"id": self.number, "method": method, "params": parameters}
        if getattr(self, "session", None):
            request["sessionId"] = self.session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while True:
            message = self.read()
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(message["error"])
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression,
                         returnByValue=True)["result"].get("value")

    def open(self, url, width, scheme):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                  deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events = []
        self.call("Page.navigate", url=url)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.read())
        # Every table and legend open, as somebody would who reads it all.
        self.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")

    def complaints(self):
        wanted = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in wanted]

    def close(self):
        os.close(self.out)
        self.process.terminate()
        self.process.wait(20)


class Tap:
    def __init__(self):
        self.count, self.failed = 0, 0

    def case(self, name, good, why=""):
        self.count += 1
        self.failed += not good
        print("%s %d - %s%s" % ("ok" if good else "not ok", self.count, name,
                                "" if good else "\n# " + str(why)[:2000]))

    def skip(self, name, why):
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, why))


def check_structure(tap, text, has_gnuplot, name="report"):
    page = Page(text)
    tap.case(name + "_elements_are_nested", not page.wrong and not page.open,
             page.wrong or page.open)
    tap.case(name + "_ids_are_unique", len(page.ids) == len(set(page.ids)),
             sorted({i for i in page.ids if page.ids.count(i) > 1}))
    tap.case(name + "_links_lead_somewhere", set(page.links) <= set(page.ids),
             set(page.links) - set(page.ids))
    tap.case(name + "_needs_no_other_file", not page.outside and not page.scripts
             and "@import" not in text and "url(" not in re.sub(r"url\(#", "", text),
             page.outside)
    tap.case(name + "_tables_are_labelled", page.tables > 3 and page.tables == page.captions
             and page.bare_headers == 0, (page.tables, page.captions, page.bare_headers))
    if has_gnuplot:
        tap.case(name + "_drawings_have_names", page.drawings >= 2
                 and page.titles > page.drawings, (page.drawings, page.titles))
    else:
        tap.skip(name + "_drawings_have_names", "no gnuplot")
    tap.case(name + "_says_what_it_measured", "resolution" in text and "gyre-bench run" in text)


def luminance(colour):
    channels = [int(n) / 255 for n in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


COLOURS = """(() => {
    const of = (selector, name) => {
        const found = document.querySelector(selector);
        return found ? getComputedStyle(found)[name] : null;
    };
    const back = of('body', 'backgroundColor');
    return {back: back, ink: of('body', 'color'), muted: of('small', 'color'), link: of('a', 'color'),
            text: of('svg [fill=black]', 'fill')};
})()"""


def check_layout(tap, url, chromium, name="report"):
    if not chromium:
        for width in WIDTHS:
            tap.skip("%s_fits_%d_pixels" % (name, width), "no chromium")
        tap.skip(name + "_is_readable_light_and_dark", "no chromium")
        return
    browser = Browser(chromium)
    backs, worst = set(), []
    for width in WIDTHS:
        wide, said = 0, []
        for scheme in ("light", "dark"):
            browser.open(url, width, scheme)
            wide = max(wide, browser.evaluate("document.documentElement.scrollWidth"))
            said += browser.complaints()
            found = browser.evaluate(COLOURS)
            backs.add(found["back"])
            worst += [(scheme, what, contrast(found["back"], colour))
                      for what, colour in found.items()
                      if what != "back" and colour and contrast(found["back"], colour) < 4.5]
        tap.case("%s_fits_%d_pixels" % (name, width), wide <= width and not said, (wide, said))
    tap.case(name + "_is_readable_light_and_dark", len(backs) == 2 and not worst, (backs, worst))
    browser.close()


def check_sweep(tap, bench):
    """What a killed run left behind goes with the next one, what another run holds stays."""
    held, left = (tempfile.mkdtemp(prefix="gyre-bench.run-", dir="/tmp") for _ in range(2))
    for path in (held, left):
        pathlib.Path(path, "nginx.conf").touch()
        os.utime(path, (1, 1))
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    subprocess.run([bench, "run", "post", "--quick", "--pairs", "1", "--duration-ms", "1",
                    "--out", WORK + "/sweep"], capture_output=True, timeout=120)
    tap.case("killed_run_is_swept", not os.path.exists(left), left)
    tap.case("running_one_is_left_alone", os.path.exists(held + "/nginx.conf"), held)
    shutil.rmtree(held)
    os.close(lock)


def compared(bench, out, name, change):
    """What compare prints of the results and of the same ones changed: change(suites)."""
    results = json.loads(pathlib.Path(out, "results.json").read_text(encoding="utf-8"))
    other = pathlib.Path(WORK, name)
    other.mkdir()
    change(results["suites"])
    (other / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return subprocess.run([bench, "compare", out, str(other)], capture_output=True, text=True,
                          timeout=60).stdout


def timers(suites):
    return next(suite for suite in suites if suite["suite"] == "timers")


def add_and_remove(suites):
    suites[:] = [suite for suite in suites if suite["suite"] != "post"]
    cell = timers(suites)["cells"][0]
    cell["resolution"] = None
    extra = copy.deepcopy(cell["rows"][-1])
    extra["contender"] = "newcomer"
    cell["rows"].append(extra)
    added = copy.deepcopy(cell)
    added["cell"] = "restart-7"
    timers(suites)["cells"].append(added)


def with_ratio(suites):
    """Rows that are compared: of contenders that were built, but the reference."""
    return [row for row in timers(suites)["cells"][0]["rows"]
            if row.get("ratio") and row["verdict"] != "reference"]


def far_dearer(suites):
    for row in with_ratio(suites):
        row["ratio"]["median"] *= 1000


def four_of_itself(suites):
    far_dearer(suites)
    timers(suites)["cells"][0]["same"]["count"] = 4


def four_of_one(suites):
    far_dearer(suites)
    with_ratio(suites)[-1]["ratio"]["count"] = 4


def wrong_bytes(suites):
    timers(suites)["valid"] = False


def check_rounds(tap, bench, out):
    results = json.loads(pathlib.Path(out, "results.json").read_text(encoding="utf-8"))
    rows = len(with_ratio(results["suites"]))
    if rows == 0:
        tap.skip("compare_with_five_rounds_gives_a_verdict", "no libuv to compare with")
        return
    dear, none, some = (compared(bench, out, change.__name__, change)
                        for change in (far_dearer, four_of_itself, four_of_one))
    tap.case("compare_with_five_rounds_gives_a_verdict",
             dear.count("  more\n") == rows and "not resolved" not in dear, dear)
    tap.case("compare_with_four_rounds_of_the_reference_gives_none",
             none.count("not resolved") == rows and "  more\n" not in none, none)
    tap.case("compare_with_four_rounds_of_a_row_gives_it_none",
             some.count("not resolved") == 1 and some.count("  more\n") == rows - 1, some)


def check_compare(tap, bench, out):
    """What only one side has is said; without a resolution and five rounds there is no verdict."""
    printed = compared(bench, out, "other", add_and_remove)
    for text in ("post: only in A", "restart-7", "only in B", "newcomer", "not resolved"):
        tap.case("compare_says_" + re.sub("[^a-z0-9]+", "_", text.lower()), text in printed, printed)
    check_rounds(tap, bench, out)
    wrong = compared(bench, out, "wrong", wrong_bytes)
    tap.case("compare_of_wrong_bytes_gives_no_number",
             "wrong bytes" in wrong and "restart-100K" not in wrong and "post: " in wrong, wrong)


def main():
    bench = sys.argv[1]
    tap = Tap()
    out = WORK + "/out"
    run = subprocess.run([bench, "run", "timers", "post", "--quick", "--pairs", "5",
                          "--duration-ms", "10", "--filter", "timers/restart-100K", "--filter", "post/",
                          "--out", out], capture_output=True, text=True, timeout=120)
    tap.case("run_for_the_report_succeeds", run.returncode == 0, run.stderr)
    # A suite without one row that has numbers, and cells that are missing, are in it too.
    none = subprocess.run([bench, "run", "churn", "--quick", "--pairs", "1", "--servers-dir", WORK,
                           "--out", out], capture_output=True, text=True, timeout=120)
    tap.case("run_without_servers_is_a_failure", none.returncode == 1, none.stderr)
    page = pathlib.Path(out, "report.html")
    made = subprocess.run([bench, "report", out], capture_output=True, text=True, timeout=120)
    tap.case("report_is_made", made.returncode == 0, made.stderr)
    text = page.read_text(encoding="utf-8")
    tap.case("report_says_what_was_skipped", "skipped: echo-epoll was not built" in text)
    check_structure(tap, text, shutil.which("gnuplot"))
    check_layout(tap, page.as_uri(), shutil.which("chromium"))
    same = subprocess.run([bench, "compare", out, out], capture_output=True, text=True, timeout=60)
    tap.case("compare_with_itself_finds_no_change",
             same.returncode == 0 and ": 0 less, 0 more," in same.stdout, same.stdout)
    check_compare(tap, bench, out)
    check_sweep(tap, bench)
    unknown = subprocess.run([bench, "list", "nosuch"], capture_output=True, text=True, timeout=60)
    tap.case("list_of_an_unknown_suite_is_refused",
             unknown.returncode == 2 and "'nosuch'" in unknown.stderr, unknown.stderr)
    none = subprocess.run([bench, "compare", out, WORK], capture_output=True, text=True, timeout=60)
    tap.case("compare_without_results_is_refused", none.returncode == 2, none.stderr)
    for number, name in enumerate(sys.argv[2:], 1):
        given = pathlib.Path(name).resolve()
        check_structure(tap, given.read_text(encoding="utf-8"), True, "page_%d" % number)
        check_layout(tap, given.as_uri(), shutil.which("chromium"), "page_%d" % number)
    print("1..%d" % tap.count)
    return 1 if tap.failed else 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="gyre-report-", ignore_cleanup_errors=True) as WORK:
        sys.exit(main())
