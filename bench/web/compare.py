#!/usr/bin/env python3
"""Requests per second of server CPU: nginx against the web server of the examples, by wrk.

    compare.py --web-server build/release/examples/web-server/web-server [--pairs 5] [--seconds 3]

Server on one CPU, load on another. Runs of the two servers alternate, each pair gives one ratio
(gyre / nginx; above 1: gyre needs less CPU), and the median and the spread of the ratios are
printed. First come pairs of nginx with itself: what these differ by is noise.

The CPU time is the kernel's own count of the server's threads (/proc/PID/task/*/schedstat), so
that what wrk costs does not matter. It does not contain what the kernel does for io_uring or for
the network in threads of its own, nor in interrupts that hit the other CPU.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

NGINX = """
daemon off;
worker_processes 1;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    types {{ text/html html; }}
    sendfile on;
    tcp_nodelay on;
    keepalive_timeout 60;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 1s;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {dir}/www;
    }}
}}
"""


def cpu_ns(pid):
    """CPU time of all threads of a process."""
    total = 0
    for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total


def children(pid):
    return [int(n) for n in
            pathlib.Path("/proc/%d/task/%d/children" % (pid, pid)).read_text().split()]


def wait_for(condition, what):
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("compare: %s did not happen" % what)
        time.sleep(0.01)


class Server:
    """A running server: its port, and the process that works."""

    def __init__(self, command, cpu):
        self.process = subprocess.Popen(["taskset", "-c", str(cpu), *command],
                                        stdout=subprocess.PIPE, text=True)
        self.worker = self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)


class Nginx(Server):
    def __init__(self, opts, directory):
        self.port = opts.nginx_port
        config = directory / "nginx.conf"
        config.write_text(NGINX.format(dir=directory, port=self.port))
        # As root, the worker would become another user that may not read the directory.
        text = config.read_text()
        config.write_text(("user root;\n" if os.geteuid() == 0 else "") + text)
        super().__init__([opts.nginx, "-p", str(directory), "-c", str(config), "-e",
                          str(directory / "error.log")], opts.server_cpu)
        wait_for(lambda: children(self.process.pid), "the start of nginx")
        self.worker = children(self.process.pid)[0]


class WebServer(Server):
    def __init__(self, opts, directory, backend):
        super().__init__([opts.web_server, "--backend", backend, "--root",
                          str(directory / "www")], opts.server_cpu)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])


def load(opts, port, seconds):
    """One run of wrk: requests answered."""
    out = subprocess.run(
        ["taskset", "-c", str(opts.load_cpu), opts.wrk, "-t1", "-c%d" % opts.connections,
         "-d%ds" % seconds, "http://127.0.0.1:%d/%s" % (port, opts.file)],
        check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit("compare: wrk saw errors:\n" + out)
    return int(re.search(r"(\d+) requests in", out).group(1))


def measure(opts, server):
    """Requests per second of the server's CPU, after a short run to warm up."""
    load(opts, server.port, 1)
    before = cpu_ns(server.worker)
    requests = load(opts, server.port, opts.seconds)
    return requests / ((cpu_ns(server.worker) - before) / 1e9)


def pairs(opts, name, first, second):
    ratios = []
    values = ([], [])
    for n in range(opts.pairs):
        order = [(0, first), (1, second)]
        result = [0, 0]
        for which, make in order if n % 2 == 0 else reversed(order):
            server = make()
            try:
                result[which] = measure(opts, server)
            finally:
                server.stop()
            values[which].append(result[which])
        ratios.append(result[1] / result[0])
    print("%-18s ratio %.3f  (%.3f..%.3f, %d pairs)   %.0f vs %.0f requests per CPU second" % (
        name, statistics.median(ratios), min(ratios), max(ratios), len(ratios),
        statistics.median(values[1]), statistics.median(values[0])), flush=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--web-server", required=True)
    parser.add_argument("--nginx", default=shutil.which("nginx") or "/usr/sbin/nginx")
    parser.add_argument("--wrk", default=shutil.which("wrk"))
    parser.add_argument("--nginx-port", type=int, default=18080)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--file", default="1k.html", help="1k.html, 16k.html or 1m.html")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--server-cpu", type=int, default=0)
    parser.add_argument("--load-cpu", type=int, default=1)
    parser.add_argument("--backends", nargs="*", default=["epoll", "uring"])
    parser.add_argument("--no-noise", action="store_true", help="without nginx against itself")
    opts = parser.parse_args()
    if not opts.wrk or not pathlib.Path(opts.nginx).exists():
        sys.exit("compare: nginx and wrk are needed")
    return opts


def main():
    opts = options()
    version = subprocess.run([opts.nginx, "-v"], capture_output=True, text=True).stderr.strip()
    print("%s, Linux %s, %s, %d connections" % (version, os.uname().release, opts.file,
                                                opts.connections))
    with tempfile.TemporaryDirectory(prefix="gyre-web-") as name:
        directory = pathlib.Path(name)
        (directory / "www").mkdir()
        for file, size in (("1k.html", 1 << 10), ("16k.html", 16 << 10), ("1m.html", 1 << 20)):
            (directory / "www" / file).write_bytes(b"x" * size)

        def nginx():
            return Nginx(opts, directory)

        if not opts.no_noise:
            pairs(opts, "nginx / nginx", nginx, nginx)
        for backend in opts.backends:
            pairs(opts, backend + " / nginx", nginx,
                  lambda backend=backend: WebServer(opts, directory, backend))


if __name__ == "__main__":
    main()
