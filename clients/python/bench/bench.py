"""How fast: python3 bench/bench.py [SECONDS]

A cycle is acquire, operate, release; to operate is to read a number from a file, add one
and write it back. Alone, and beside a second process that comes by every 20 ms for the same
lock: how long it waits. Prints a table in Markdown, with the machine's load.
"""

from __future__ import annotations

import os
import shutil
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


def visitor(db: str, seconds: float) -> None:
    """The second process: says how long it waited each time, in milliseconds."""
    lock = dblock.Lock(db, timeout=60)
    with lock:
        count(db)
    print("ready", flush=True)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        time.sleep(0.02)
        start = time.perf_counter()
        with lock:
            waited = time.perf_counter() - start
            count(db)
        print(f"{waited * 1000:.3f}", flush=True)


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] == "visitor":
        visitor(sys.argv[2], float(sys.argv[3]))
        return
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    folder = tempfile.mkdtemp(prefix="dblock-bench-")
    db = os.path.join(folder, "app.db")
    with open(db, "w") as file:
        file.write("0\n")
    try:
        version = ".".join(map(str, sys.version_info[:3]))
        print(f"Python {version}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f}\n")
        print("| | cycles/s alone | cycles/s beside a visitor | it waits, median | at most |")
        print("|---|---:|---:|---:|---:|")
        for name, linger in (("nothing kept", 0.0), ("linger 5 ms", 0.005), ("linger 50 ms", 0.05)):
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
            waits: List[float] = [float(line) for line in other.communicate()[0].split()]
            print(
                f"| {name} | {alone:,.0f} | {beside:,.0f} | {statistics.median(waits):.2f} ms | {max(waits):.2f} ms |",
                flush=True,
            )
        binary = dblock.find_binary()
        print(f"| dblock spawned, `true` | {rate(spawned(binary, '-d', db, '--', 'true'), seconds):,.0f} | | | |")
        if shutil.which("flock"):
            print(f"| flock spawned, `true` | {rate(spawned('flock', db + '.flock', 'true'), seconds):,.0f} | | | |")
        print(f"| no lock | {rate(lambda: count(db), seconds):,.0f} | | | |")
    finally:
        dblock.close()
        shutil.rmtree(folder, True)


if __name__ == "__main__":
    main()
