"""How fast: python3 bench/bench.py [SECONDS [table]]

A cycle is acquire, operate, release; to operate is to read a number from a file, add one
and write it back. Alone, and beside a second process that comes by every 20 ms for the same
lock: how long it waits. Prints a table in Markdown, with the machine's load. With "table",
what run/bench of the checkout puts into one table with other languages: a line for each way,
of its name, cycles per second alone and beside the visitor, and how long that one waits, median
and 99 %, in milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable, List

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "src"))

import dblock  # noqa: E402


def count(path: str) -> None:
    descriptor = os.open(path, os.O_RDWR)
    n = int(os.read(descriptor, 32))
    os.pwrite(descriptor, b"%d\n" % (n + 1), 0)
    os.close(descriptor)


def rate(cycle: Callable[[], None], seconds: float) -> float:
    n = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        cycle()
        n += 1
    return n / (time.perf_counter() - start)


def locked(db: str, linger: float) -> Callable[[], None]:
    lock = dblock.Lock(db, linger=linger, timeout=60)

    def cycle() -> None:
        with lock:
            count(db)

    return cycle


def spawned(*command: str) -> Callable[[], None]:
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL) and None


def polling(db: str) -> Callable[[], None]:
    """What the programs did that know the lock file alone: create it, fill it, delete it."""
    path = db + ".polling"

    def cycle() -> None:
        while True:
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
                break
            except FileExistsError:
                time.sleep(0.1)
        notice = {"pid": os.getpid(), "timestamp": int(time.time() * 1000), "host": socket.gethostname(), "process": "bench"}
        os.write(descriptor, json.dumps(notice, indent=2).encode())
        os.close(descriptor)
        count(db)
        os.unlink(path)

    return cycle


def visitor(db: str, seconds: float) -> None:
    """The second process: says how long it waited each time, in milliseconds."""
    lock = dblock.Lock(db, timeout=60)
    with lock:
        count(db)
    print("ready", flush=True)
    end = time.perf_counter() + seconds
    while True:
        time.sleep(0.02)
        start = time.perf_counter()
        with lock:
            waited = time.perf_counter() - start
            count(db)
        print(f"{waited * 1000:.3f}", flush=True)
        if time.perf_counter() >= end:
            return


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "visitor":
        visitor(sys.argv[2], float(sys.argv[3]))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    table = sys.argv[2:] == ["table"]
    folder = tempfile.mkdtemp(prefix="dblock-bench-")
    db = os.path.join(folder, "app.db")
    with open(db, "w") as file:
        file.write("0\n")
    try:
        if not table:
            version = ".".join(map(str, sys.version_info[:3]))
            print(f"Python {version}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}\n")
            print("| | cycles/s alone | cycles/s beside a visitor | it waits, median | at most |")
            print("|---|---:|---:|---:|---:|")

        def report(name: str, alone: float) -> None:
            print(f"{name}\t{alone}" if table else f"| {name} | {alone:,.0f} | | | |", flush=True)

        for name, linger in (("linger 0 ms", 0.0), ("linger 5 ms", 0.005), ("linger 50 ms", 0.05)):
            cycle = locked(db, linger)
            rate(cycle, 0.2)
            alone = rate(cycle, seconds)
            other = subprocess.Popen(
                [sys.executable, os.path.abspath(__file__), "visitor", db, str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert other.stdout is not None
            other.stdout.readline()
            beside = rate(cycle, seconds)
            waits: List[float] = sorted(float(line) for line in other.communicate()[0].split())
            middle, late = statistics.median(waits), waits[int(len(waits) * 0.99)]
            if table:
                print(f"session, {name}\t{alone}\t{beside}\t{middle}\t{late}", flush=True)
            else:
                print(f"| {name} | {alone:,.0f} | {beside:,.0f} | {middle:.2f} ms | {waits[-1]:.2f} ms |", flush=True)
        report("no lock", rate(lambda: count(db), seconds))
        report("dblock spawned, `true`", rate(spawned(dblock.find_binary(), "-d", db, "--", "true"), seconds))
        if shutil.which("flock"):
            report("flock spawned, `true`", rate(spawned("flock", db + ".flock", "true"), seconds))
        report("the polling class", rate(polling(db), seconds))
    finally:
        dblock.close()
        shutil.rmtree(folder, True)


if __name__ == "__main__":
    main()
