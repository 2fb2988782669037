"""Two hosts and a bad wire between them, without touching the machine's network: two network
namespaces, a TUN device in each, and a thread that carries packets across. It loses, repeats and
holds back some of them. Which ones is decided by a seed and the number of the packet, so it does not
depend on time. (netem does the same in the kernel, where the kernel has it and without a seed.)

The process must be in a namespace of its own, see enter_namespace().
"""

import ctypes
import fcntl
import os
import pathlib
import random
import select
import shutil
import struct
import subprocess
import sys
import threading

from program import Skip, expect

HERE = "10.99.0.1"
THERE = "10.99.0.2"

ENTERED = "GYRE_TEST_NAMESPACE"
NEEDED = ["unshare", "nsenter", "ip"]
CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 1
IFF_NO_PI = 0x1000
HOLD_LIMIT = 0.005  # seconds that a packet is held back when no other follows


def run(*command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    expect(done.returncode == 0, f"{command}: {done.stdout.decode()}")


def enter_namespace():
    """Start this test again in a private network namespace, or say why that cannot be."""
    if ENTERED in os.environ:
        run("ip", "link", "set", "lo", "up")
        return
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        print("1..0 # SKIP no " + ", ".join(missing))
        sys.exit(0)
    for options in (["-n"], ["-U", "-r", "-n"]):
        tried = subprocess.run(["unshare", *options, "true"], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if tried.returncode == 0:
            os.environ[ENTERED] = "1"
            os.execvp("unshare", ["unshare", *options, sys.executable, *sys.argv])
    print("1..0 # SKIP no private network namespace: " + tried.stdout.decode().strip())
    sys.exit(0)


def open_tun(name):
    """A network interface whose packets are read and written here."""
    try:
        tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise Skip(f"/dev/net/tun: {error.strerror}") from None
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError as error:
        os.close(tun)
        raise Skip(f"a TUN interface: {error.strerror}") from None
    return tun


class Direction:
    """One way along the wire."""

    def __init__(self, source, target, seed, rates):
        self.source = source
        self.target = target
        self.chance = random.Random(seed)
        self.loss, self.reorder, self.repeat = rates
        self.held = []  # [packets still to overtake it, packet]
        self.count = {"carried": 0, "lost": 0, "held": 0, "repeated": 0}

    def send(self, packet):
        self.count["carried"] += 1
        try:
            os.write(self.target, packet)
        except OSError:
            pass  # the interface is full, or down: lost as well

    def carry(self, packet):
        """Decide about one packet. As many random numbers are drawn for each."""
        lost, held, repeated = (self.chance.random() for _ in range(3))
        overtaken_by = self.chance.randint(1, 5)
        for entry in self.held:
            entry[0] -= 1
        if lost < self.loss:
            self.count["lost"] += 1
        elif held < self.reorder:
            self.count["held"] += 1
            self.held.append([overtaken_by, packet])
        else:
            self.send(packet)
        if repeated < self.repeat:
            self.count["repeated"] += 1
            self.send(packet)
        self.release(lambda entry: entry[0] <= 0)

    def release(self, due):
        ready = [entry for entry in self.held if due(entry)]
        self.held = [entry for entry in self.held if not due(entry)]
        for _, packet in ready:
            self.send(packet)

    def take(self):
        """Carry what is there."""
        while True:
            try:
                packet = os.read(self.source, 65536)
            except OSError:
                return
            if packet[0] >> 4 == 4:  # IPv6 talks to itself about neighbours
                self.carry(packet)


class Wire:
    """Use it in a with statement. loss, reorder and repeat are shares of the packets."""

    def __init__(self, seed=1, loss=0.0, reorder=0.0, repeat=0.0):
        self.rates = (loss, reorder, repeat)
        self.seed = seed
        self.tuns = []
        self.holder = None
        self.thread = None
        self.namespace = None
        self.directions = []

    def __enter__(self):
        try:
            self.build()
        except BaseException:
            self.__exit__()
            raise
        return self

    def build(self):
        self.holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo ready; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        expect(self.holder.stdout.readline() == b"ready\n", "no second namespace")
        pid = str(self.holder.pid)
        self.namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        there = ["nsenter", "-t", pid, "-n"]
        for name, address in (("here", HERE), ("there", THERE)):
            self.tuns.append(open_tun(name))
            enter = there if name == "there" else []
            if enter:
                run("ip", "link", "set", name, "netns", pid)
                run(*enter, "ip", "link", "set", "lo", "up")
            run(*enter, "ip", "address", "add", address + "/24", "dev", name)
            run(*enter, "ip", "link", "set", name, "up", "mtu", "1500", "txqueuelen", "1000")
        self.directions = [Direction(self.tuns[0], self.tuns[1], self.seed, self.rates),
                           Direction(self.tuns[1], self.tuns[0], self.seed + 1, self.rates)]
        self.stop_reader, self.stop_writer = os.pipe()
        self.thread = threading.Thread(target=self.carry)
        self.thread.start()

    def carry(self):
        by_source = {direction.source: direction for direction in self.directions}
        while True:
            holding = any(direction.held for direction in self.directions)
            ready, _, _ = select.select([self.stop_reader, *by_source], [], [],
                                        HOLD_LIMIT if holding else None)
            if self.stop_reader in ready:
                return
            for source in ready:
                by_source[source].take()
            if not ready:
                for direction in self.directions:
                    direction.release(lambda entry: True)

    def __exit__(self, *_):
        if self.thread:
            os.write(self.stop_writer, b"x")
            self.thread.join()
            os.close(self.stop_reader)
            os.close(self.stop_writer)
        for number in self.tuns + ([] if self.namespace is None else [self.namespace]):
            os.close(number)
        if self.holder:
            self.holder.communicate()

    def enter(self):
        """For the prepare argument of Program: have it run on the other host."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(self.namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def total(self, what):
        return sum(direction.count[what] for direction in self.directions)

    def said(self):
        """The counts, for the log."""
        return " ".join(f"{name} {self.total(name)}" for name in self.directions[0].count)


def set_sysctl(name, value):
    """In this namespace only."""
    path = pathlib.Path("/proc/sys") / name.replace(".", "/")
    try:
        path.write_text(value, encoding="ascii")
    except OSError as error:
        raise Skip(f"{name}: {error.strerror}") from None
